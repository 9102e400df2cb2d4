# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Made-up checkpoints of the real families and sizes of ternary models: config.json, tensors and types as theirs, weights drawn.

``python -m tests.models.families NAME...`` writes a checkpoint of the real size, converts and inspects it in processes of their
own, and prints what that took.  ``--list`` shows the names.  A checkpoint takes up to 5 GB in ``--folder``, and is removed.
``--docs`` writes the table of families and boards in docs/models.md anew.
"""

import argparse
import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tellme.compiler.inspect import Fit, model_fits
from tellme.models.config import ModelConfig
from tests.memory import run_measured
from tests.models.big_model import DrawnModel

__all__ = ["DOCS", "FAMILIES", "Family", "drawn_model", "measured", "table", "with_table", "model_config"]

_PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
                "mlp.down_proj")
#: Norms of all architectures, and sub-norms by architecture: (tensor, its width).
_NORMS = (("input_layernorm", "dim"), ("post_attention_layernorm", "dim"))
_SUB_NORMS = {"BitNetForCausalLM": (("self_attn.attn_sub_norm", "q"), ("mlp.ffn_sub_norm", "ffn")),
              "BitnetForCausalLM": (("self_attn.inner_attn_ln", "q"), ("mlp.ffn_layernorm", "ffn")), "LlamaForCausalLM": ()}
#: Bytes of packed codes: each of the four is 0, 1 or 2.
_PACKED = np.array([byte for byte in range(256) if all(byte >> shift & 3 < 3 for shift in (0, 2, 4, 6))], np.uint8)
#: Elements that are drawn once, and repeated.
_DRAWN = 1 << 20


@dataclass(frozen=True)
class Family:
    """A published model's shape.

    ``weights``: "packed" (four codes a byte, ``weight_scale``), "ternary" (floats of three values), or "latent" (floats that the
    model makes ternary).  ``kind``: the type of all floats, as safetensors names it.  ``source``: where the numbers were read.
    """

    config: dict[str, Any]
    weights: str
    kind: str
    source: str

    @property
    def architecture(self) -> str:
        return str(self.config["architectures"][0])

    def small(self) -> "Family":
        """The same layout with all keys of config.json, at a size for a test: two layers, heads of 16."""
        c = self.config
        group = c["num_attention_heads"] // c.get("num_key_value_heads", c["num_attention_heads"])
        heads, ffn = 2 * group, c["intermediate_size"] / c["hidden_size"]
        changed = {"hidden_size": 16 * heads, "intermediate_size": round(4 * heads * ffn) * 4, "num_hidden_layers": 2,
                   "num_attention_heads": heads, "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 64}
        changed |= {key: 16 for key in ("head_dim", "dims_per_head") if key in c}
        changed |= {key: 3 for key in ("bos_token_id", "eos_token_id", "pad_token_id") if c.get(key) is not None}
        return Family({**c, **changed}, self.weights, self.kind, self.source)

    def tensors(self) -> list[tuple[str, str, tuple[int, ...], str]]:
        """(name, type, shape, what it holds) in the order of a file."""
        c, found = self.config, []
        dim, ffn, heads = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"]
        head_dim = c.get("head_dim", dim // heads)
        q, kv = heads * head_dim, c.get("num_key_value_heads", heads) * head_dim
        shapes = zip(_PROJECTIONS, ((q, dim), (kv, dim), (kv, dim), (dim, q), (ffn, dim), (ffn, dim), (dim, ffn)), strict=True)
        matrices = dict(shapes)
        widths = {"dim": dim, "q": q, "ffn": ffn}
        found.append(("model.embed_tokens.weight", self.kind, (c["vocab_size"], dim), "normal"))
        for i in range(c["num_hidden_layers"]):
            at = f"model.layers.{i}."
            found += [(f"{at}{name}.weight", self.kind, (widths[width],), "gain")
                      for name, width in (*_NORMS, *_SUB_NORMS[self.architecture])]
            for name, (rows, cols) in matrices.items():
                weight = f"{at}{name}.weight"
                if self.weights == "packed":
                    found += [(weight, "U8", (rows // 4, cols), "packed"), (f"{weight}_scale", self.kind, (1,), "scale")]
                else:
                    found.append((weight, self.kind, (rows, cols), "normal" if self.weights == "latent" else "ternary"))
        found.append(("model.norm.weight", self.kind, (dim,), "gain"))
        if not c.get("tie_word_embeddings", False):
            found.append(("lm_head.weight", self.kind, (c["vocab_size"], dim), "normal"))
        return found

    def write(self, folder: Path) -> int:
        """Write the checkpoint, a part at a time; the size of its weights in bytes."""
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(self.config, indent=2))
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        at = 0
        tensors = self.tensors()
        for name, kind, shape, _ in tensors:
            size = int(np.prod(shape)) * _ITEM_BYTES[kind]
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        multiplies = self.config.get("quantization_config", {}).get("linear_class") == "autobitlinear"
        drawn = {what: _drawn(what, self.kind, multiplies) for what in {what for *_, what in tensors}}
        with (folder / "model.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for *_, shape, what in tensors:
                left, part = int(np.prod(shape)), drawn[what]
                while left:
                    file.write(part[:left].data)
                    left -= len(part[:left])
        return at


_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}


def _drawn(what: str, kind: str, multiplies: bool) -> np.ndarray:
    """A part of a tensor, as it lies in a file."""
    rng = np.random.default_rng(len(what))
    if what == "packed":
        return _PACKED[rng.integers(0, len(_PACKED), _DRAWN)]
    values = {"normal": lambda: rng.normal(size=_DRAWN) / 50, "ternary": lambda: rng.integers(-1, 2, _DRAWN) / 64,
              "gain": lambda: rng.uniform(0.5, 1.5, _DRAWN), "scale": lambda: np.array([1 / 32 if multiplies else 32.0])}[what]()
    if kind == "BF16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2")
    return values.astype({"F32": "<f4", "F16": "<f2"}[kind])


def model_config(family: Family) -> ModelConfig:
    """The shape as ``convert`` has to read it."""
    c = family.config
    heads, relu2 = c["num_attention_heads"], c["hidden_act"] == "relu2"
    sub_norms = bool(_SUB_NORMS[family.architecture])
    return ModelConfig(
        dim=c["hidden_size"], ffn=c["intermediate_size"], layers=c["num_hidden_layers"], heads=heads,
        kv_heads=c.get("num_key_value_heads", heads), head_dim=c.get("head_dim", c["hidden_size"] // heads),
        vocab=c["vocab_size"], context=c["max_position_embeddings"], tied=c.get("tie_word_embeddings", False),
        act=c["hidden_act"], act_exp=8 if relu2 else 0, eps=c["rms_norm_eps"], theta=c["rope_theta"], o_norm=sub_norms,
        down_norm=sub_norms)


def drawn_model(family: Family) -> DrawnModel:
    """A model of the shape that is compiled without a file."""
    return DrawnModel(model_config(family))


def _bitnet_2b4t(mode: str, kind: str, weights: str) -> Family:
    return Family({
        "architectures": ["BitNetForCausalLM"], "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "relu2",
        "hidden_size": 2560, "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 4096,
        "model_type": "bitnet", "rms_norm_eps": 1e-05, "num_attention_heads": 20, "num_hidden_layers": 30,
        "num_key_value_heads": 5, "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "use_cache": True, "vocab_size": 128256,
        "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": mode}},
        weights, kind, "config.json of microsoft/bitnet-b1.58-2B-4T")


def _1bitllm(dim: int, ffn: int, layers: int, heads: int, kind: str, name: str) -> Family:
    return Family({
        "architectures": ["BitnetForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": dim, "initializer_range": 0.02, "input_bits": 8,
        "intermediate_size": ffn, "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": heads,
        "num_hidden_layers": layers, "num_key_value_heads": heads, "pad_token_id": 32000, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "torch_dtype": "float16", "use_cache": True, "vocab_size": 32002, "weight_bits": 1},
        "latent", kind, f"config.json of 1bitLLM/{name}")


def _llama(dim: int, ffn: int, layers: int, heads: int, kv_heads: int, vocab: int, source: str, **more: Any) -> Family:
    """A LLaMA with packed weights."""
    return Family({
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu",
        "hidden_size": dim, "initializer_range": 0.02, "intermediate_size": ffn, "is_bitnet_config": True,
        "max_position_embeddings": 8192, "mlp_bias": False, "model_type": "llama", "num_attention_heads": heads,
        "num_hidden_layers": layers, "num_key_value_heads": kv_heads, "pretraining_tp": 1, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 1000042.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "use_cache": True, "vocab_size": vocab,
        "quantization_config": {"modules_to_not_convert": ["lm_head"], "quant_method": "bitnet"}, **more},
        "packed", "BF16", source)


def _trilm(dim: int, ffn: int, layers: int, heads: int, head_dim: int = 64) -> Family:
    return Family({
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 0, "dims_per_head": head_dim,
        "eos_token_id": 0, "hidden_act": "silu", "hidden_size": dim, "initializer_range": 0.02, "intermediate_size": ffn,
        "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": heads,
        "num_hidden_layers": layers, "num_key_value_heads": heads, "pretraining_model_parallel": 1, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "rotary_emb_base": 10000, "rotary_pct": 1.0,
        "tie_word_embeddings": False, "torch_dtype": "float16", "use_cache": True, "use_parallel_residual": False,
        "vocab_size": 50304}, "ternary", "F16", "config.json of SpectraSuite/TriLM_99M_Unpacked; sizes of the larger ones from a "
        "list of their shapes, which agree with the sizes of their files")


_FALCON3 = "config.json of tiiuae/Falcon3-{}-1.58bit"
FAMILIES: dict[str, Family] = {
    "bitnet_b1_58-large": _1bitllm(1536, 4096, 24, 16, "F32", "bitnet_b1_58-large"),
    "bitnet_b1_58-xl": _1bitllm(2048, 5460, 24, 32, "F16", "bitnet_b1_58-xl"),
    "bitnet_b1_58-3B": _1bitllm(3200, 8640, 26, 32, "F16", "bitnet_b1_58-3B"),
    "bitnet-b1.58-2B-4T": _bitnet_2b4t("offline", "BF16", "packed"),
    "bitnet-b1.58-2B-4T-bf16": _bitnet_2b4t("online", "BF16", "latent"),
    "Falcon3-1B-Instruct-1.58bit": _llama(2048, 8192, 18, 8, 4, 131072, _FALCON3.format("1B-Instruct"), head_dim=256,
                                          eos_token_id=11),
    "Falcon3-3B-Base-1.58bit": _llama(3072, 9216, 22, 12, 4, 131072, _FALCON3.format("3B-Base"), head_dim=256, eos_token_id=11,
                                      max_position_embeddings=4096),
    # The shape that gives the published 864 M stored elements and 999 MB; how its heads are cut does not follow from these.
    "Falcon-E-3B": _llama(2048, 13312, 32, 16, 2, 32768, "sizes of tiiuae/Falcon-E-3B", head_dim=128, eos_token_id=11,
                          max_position_embeddings=32768),
    "TriLM-99M": _trilm(512, 1280, 16, 8), "TriLM-190M": _trilm(768, 2048, 16, 12), "TriLM-390M": _trilm(1024, 2560, 24, 16),
    "TriLM-560M": _trilm(1280, 3072, 24, 20), "TriLM-830M": _trilm(1536, 4096, 24, 24),
    "TriLM-1.1B": _trilm(1792, 5120, 24, 28), "TriLM-1.5B": _trilm(2048, 6144, 24, 32), "TriLM-2.4B": _trilm(2304, 7680, 30, 36),
    "TriLM-3.9B": _trilm(3072, 9216, 30, 24, 128),
    "Llama3-8B-1.58": _llama(4096, 14336, 32, 32, 8, 128256, "config.json of HF1BitLLM/Llama3-8B-1.58-100B-tokens",
                             bos_token_id=128000, eos_token_id=128009, rms_norm_eps=1e-5, rope_theta=500000.0),
}

#: The page with the table of families, and the builds in the table.
DOCS = Path(__file__).resolve().parents[2] / "docs" / "models.md"
_BUILDS = ("ulx3s-85f", "ecpix5-85f")
_HEAD = f"| model | ternary weights | dim, ffn, layers | query and KV heads | {' | '.join(f'`{build}`' for build in _BUILDS)} |"


def table() -> str:
    """Markdown: families, sizes, and what the builds say."""
    lines = [_HEAD, re.sub(r"[^|]+", " --- ", _HEAD)]
    for name, family in FAMILIES.items():
        c, fits = model_config(family), {fit.preset: fit for fit in model_fits(drawn_model(family))}
        cells = [name, f"{c.ternary_weights / 1e6:.0f} M", f"{c.dim}, {c.ffn}, {c.layers}",
                 f"{c.heads} and {c.kv_heads} of {c.head_dim}"]
        lines.append(f"| {' | '.join(cells + [_cell(fits[build]) for build in _BUILDS])} |")
    return "\n".join(lines)


def _cell(fit: Fit) -> str:
    """What a build says, in a few words, and tokens per second at the first position and at 512."""
    place = fit.placements[fit.head] if fit.head is not None else max(fit.placements.values(), key=lambda place: place.context)
    if not place.context:
        return re.sub(r"^(.+) is (\d+), and the build \S+ can do (\d+)$", r"no: \1 is \2, of \3", place.reason)
    notes = ["head on the host"] * (place.head == "host") + [f"context of {place.context}"] * bool(place.reason)
    rates = ", ".join(f"{rate.peak:.3g}" for rate in place.rates[:2])
    expected = [f"{rate.expected:.3g}" for rate in place.rates[:2] if rate.expected is not None]
    return f"yes{''.join(f', {note}' for note in notes)}: {rates}" + (f" (expected {', '.join(expected)})" if expected else "")


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    first = page.index("| model | ternary weights |")
    return page[:first] + table() + page[page.index("\n\n", first):]


#: Runs a command of tellme-host in the process that is measured.
PROGRAM = """
import json, sys, time
from tellme.cli import main
from tests.memory import Peak, memory_bytes

before, began, cpu = memory_bytes(), time.monotonic(), time.process_time()
with Peak() as peak:
    code = main(sys.argv[1:])
print()
print(json.dumps({"code": code, "anon_bytes": peak.bytes, "anon_before": before, "hwm_bytes": memory_bytes("VmHWM"),
                  "seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu}))
"""


def measured(*arguments: object) -> dict[str, Any]:
    """What a command took, and its output."""
    found, run = run_measured(PROGRAM, *arguments)
    assert found["code"] == 0, run.stderr
    return found | {"output": "\n".join(run.stdout.splitlines()[:-1]).strip(), "said": run.stderr}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the files lie for a while; default: the system's temporary folder")
    args = parser.parse_args()
    if args.list:
        print("\n".join(FAMILIES))
    if args.docs:
        DOCS.write_text(with_table(DOCS.read_text("utf-8")), "utf-8")
    for name in args.names:
        if name not in FAMILIES:
            parser.error(f"no family is called {name}")
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            source, out = Path(folder) / name, Path(folder) / f"{name}.tellme"
            began = time.monotonic()
            size = FAMILIES[name].write(source)
            print(f"{name}: {size / 1e9:.3f} GB of weights, written in {time.monotonic() - began:.0f} s", flush=True)
            took = measured("convert", source, "-o", out, "--no-tokenizer")
            each = took["cpu_seconds"] / model_config(FAMILIES[name]).ternary_weights * 1e9
            print(f"  convert: {took['seconds']:.1f} s, {took['cpu_seconds']:.1f} CPU seconds ({each:.1f} a billion weights), "
                  f"RssAnon at most {took['anon_bytes'] / 1e6:.0f} MB, all memory at most {took['hwm_bytes'] / 1e6:.0f} MB; "
                  f"{out.stat().st_size / 1e6:.1f} MB written", flush=True)
            took = measured("inspect", out)
            print(f"  inspect: {took['seconds']:.1f} s, RssAnon at most {took['anon_bytes'] / 1e6:.0f} MB")
            print("\n".join(f"    {line}" for line in took["output"].splitlines()), flush=True)


if __name__ == "__main__":
    main()
