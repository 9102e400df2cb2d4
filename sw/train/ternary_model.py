# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The student of ternarise.py as a .tellme file, or as a folder that ``tellme-host convert`` reads.

The tables, tokenizer, chat template and conventions are the float model's.  A .tellme file holds every student; a Hugging Face
folder (BitnetForCausalLM with sub-norms, int8 codes and a scale a row) holds those of one plane without pairs and without
norms on q and k.  The context is that of the rows that the student was trained on.  Needs the tellme package, no
torch.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from tellme.models.config import LINEARS, NORMS, ModelError
from tellme.models.files import printable
from tellme.models.importers.checkpoints import open_floats
from tellme.models.importers.huggingface import HF_NAMES, HF_SUB_NORMS
from tellme.models.importers.importing import Imported
from tellme.models.importers.ternary import pairs_to_halves
from tellme.models.int8 import float_rows
from tellme.models.model import Layer, Model, Multipliers
from tellme.models.source import Block, whole
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.packing import TILE_HEADER_GROUP_SLICES, groups_of, slices
from tellme.spec.scale import scale_from_fraction

__all__ = ["Learned", "codes_of_state", "read_learned", "ternary_model", "write_folder"]

#: The codes 1 and -1 of a TTQ row are worth the scale times 1 + pair / WORTH and -1 + pair / WORTH.
WORTH = 127
_ARCHITECTURE = "BitnetForCausalLM"


@dataclass(frozen=True)
class Learned:
    """What ternarise.py wrote: tensors by name, and the object of ``about``."""

    tensors: dict[str, NDArray[Any]]
    about: dict[str, Any]


def codes_of_state(state: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Codes [rows, columns] of bytes [rows, columns / 2]: a half byte is 5 * (code + 1) + bucket, the even column low."""
    halves = np.stack((state & 15, state >> 4), -1).reshape(len(state), -1)
    if halves.max(initial=0) > 14:
        raise ModelError("a weight's state is 15, which none is")
    return (halves // 5).astype(np.int8) - np.int8(1)


def read_learned(paths: Sequence[Path]) -> Learned:
    """All files of a student."""
    tensors: dict[str, NDArray[Any]] = {}
    about: dict[str, Any] = {}
    for path in paths:
        with safe_open(path, framework="numpy") as file:
            found = json.loads((file.metadata() or {}).get("about", "{}"))
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
        if "method" not in found or about and found != about:
            raise ModelError(f"{path} is no file of ternarise.py" + (", or another run's" if about else ""))
        about = found
    return Learned(tensors, about)


def _blocks(scales: NDArray[np.floating]) -> tuple[Block, ...]:
    found = [scale_from_fraction(float(s)) for s in scales]
    return tuple(Block(sum(1 for _ in same), scale) for scale, same in groupby(found))




def _half(name: str, values: NDArray[np.floating]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        out = values.astype(np.float16)
    if not np.isfinite(out).all():
        raise ModelError(f"{name} holds a number beyond binary16")
    return out


def ternary_model(model: Imported, learned: Learned) -> Model:
    """The model in memory."""
    # OLMo 2's norms are behind these linears, where more ahead of them would change nothing.
    extra = not model.config.vector_norms
    c = replace(model.config, o_norm=extra, down_norm=extra, context=min(model.config.context, int(learned.about["context"])))
    planes, pairs, t = int(learned.about["planes"]), learned.about["method"] == "ttq", learned.tensors
    layers = []
    for i in range(c.layers):
        layer = Layer({}, {})
        for name in LINEARS:
            what = f"layers.{i}.{name}"
            codes = codes_of_state(t[what + ".state"]) if planes == 1 else t[what + ".codes"]
            scales = t[what + ".scale"].astype(np.float64)
            if codes.shape != c.shape(name) or scales.shape != (len(codes),):
                raise ModelError(f"{what} has shape {codes.shape}, the float model says {c.shape(name)}")
            if pairs:
                codes, layer.multipliers[name] = _pairs(codes, t[what + ".pair"])
                scales /= WORTH
                layer.planes[name] = 2
            elif planes > 1:
                layer.planes[name] = planes
            blocks = _blocks(scales)
            layer.weights[name] = codes
            layer.scales[name] = blocks[0].scale if len(blocks) == 1 else blocks
            if what + ".bias" in t:
                layer.biases[name] = _half(what + ".bias", t[what + ".bias"])
        for norm in NORMS:
            if c.has_norm(norm):
                layer.gains[norm] = _half(f"layers.{i}.{norm}", t[f"layers.{i}.{norm}"])
        layers.append(layer)
    out = Model(c, layers, *whole(model.table("embedding")), _half("norm", t["norm"]),
                tokenizer=model.tokenizer, name=model.name, license=model.license, chat_template=model.chat_template)
    if not c.tied:
        out.head, out.head_scales = whole(model.table("head"))
    out.check()
    return out


def _pairs(codes: NDArray[np.int8], pair: NDArray[np.int8]) -> tuple[NDArray[np.int8], Multipliers]:
    """Two planes, t and |t|, worth WORTH and the row's pair."""
    size = slices(codes.shape[1])
    group = min(size, TILE_HEADER_GROUP_SLICES.most)
    values = np.stack((np.full_like(pair, WORTH), pair))[:, None].repeat(groups_of(codes.shape[1], group), 1)
    return (codes + 3 * np.abs(codes)).astype(np.int8), Multipliers(group, np.ascontiguousarray(values))


def write_folder(model: Model, folder: Path) -> None:
    """A Hugging Face folder for ``tellme-host convert``.  A new folder; a ModelError says what such a folder cannot hold."""
    c = model.config
    if c.qk_norm or c.vector_norms or any(layer.planes or layer.multipliers for layer in model.layers):
        raise ModelError("a Hugging Face folder holds no norms on q and k, planes or pairs beside sub-norms: take the .tellme "
                         "file")
    names = HF_NAMES | HF_SUB_NORMS[_ARCHITECTURE]
    tensors: dict[str, NDArray[Any]] = {names["embedding"]: float_rows(model.embedding, model.embedding_scales)}
    if model.head is not None and model.head_scales is not None:
        tensors[names["head"]] = float_rows(model.head, model.head_scales)
    assert model.final_gain is not None  # ternary_model() gives one
    tensors[names["final_norm"]] = model.final_gain
    for i, layer in enumerate(model.layers):
        for norm, gain in layer.gains.items():
            tensors[names[norm].format(i=i)] = gain
        for name in LINEARS:
            base = names[name].format(i=i)
            # linear_class bitlinear: weight_scale divides.  Its inverse is nearer to the board's scale than to any other.
            blocks = layer.blocks(name)
            scales = 1 / np.repeat([float(block.scale.value()) for block in blocks], [block.rows for block in blocks])
            parts: dict[str, NDArray[Any]] = {"weight": layer.weights[name], "weight_scale": scales.astype(np.float32)}
            if name in layer.biases:
                parts["bias"] = layer.biases[name]
            for part, values in parts.items():
                turned = pairs_to_halves(values, c.head_dim) if name in ("wq", "wk") else values
                tensors[f"{base}.{part}"] = np.ascontiguousarray(turned)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    known = Tokenizer(model.tokenizer)
    as_json = known.kind == "tokenizer.json"
    ends: Any = list(c.ends) if len(c.ends) > 1 else c.eos
    _json(folder / "config.json", {
        "architectures": [_ARCHITECTURE], "model_type": "bitnet", "hidden_size": c.dim, "intermediate_size": c.ffn,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim,
        "vocab_size": c.vocab, "max_position_embeddings": c.context, "hidden_act": c.act, "rms_norm_eps": c.eps,
        "rope_theta": c.theta, "tie_word_embeddings": c.tied, "bos_token_id": c.bos, "eos_token_id": ends,
        "torch_dtype": "float32", "license": model.license,
        "quantization_config": {"quant_method": "bitnet", "linear_class": "bitlinear"}})
    _json(folder / "generation_config.json", {"bos_token_id": c.bos, "eos_token_id": ends})
    (folder / ("tokenizer.json" if as_json else "tokenizer.model")).write_bytes(model.tokenizer)
    _json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast" if as_json else "LlamaTokenizer", "add_bos_token": c.add_bos,
        "add_eos_token": False, "bos_token": None if c.bos is None else known.text(c.bos) or None,
        "eos_token": None if c.eos is None else known.text(c.eos) or None})
    if model.chat_template:
        (folder / "chat_template.jinja").write_text(model.chat_template, "utf-8")


def _json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the float model that ternarise.py was given")
    parser.add_argument("weights", type=Path, nargs="+", help="weights-K-of-N.safetensors, all N")
    parser.add_argument("--tellme", type=Path, help="write this .tellme file")
    parser.add_argument("--folder", type=Path, help="write this Hugging Face folder, which must not be there")
    parser.add_argument("--name", help="the model's name (default: the float model's)")
    args = parser.parse_args()
    if not args.tellme and not args.folder:
        parser.error("give --tellme or --folder")
    try:
        model = ternary_model(open_floats(args.source, print), read_learned(args.weights))
        model.name = printable(args.name or model.name)
        if args.tellme:
            model.save(args.tellme)
        if args.folder:
            write_folder(model, args.folder)
    except (ModelError, FileExistsError) as error:
        raise SystemExit(f"ternary_model.py: {error}") from error
    zeros = np.mean([(layer.weights[name] == 0).mean() for layer in model.layers for name in LINEARS])
    print(f"{args.tellme or args.folder}: {model.ternary_weights} ternary weights, {100 * zeros:.0f} % zero")


if __name__ == "__main__":
    main()
