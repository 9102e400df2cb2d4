# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Float models to be made ternary: Hugging Face folders and GGUF files of LLaMA, Mistral, Qwen2, Qwen3 and SmolLM2.

All of them are one network: RMSNorm, grouped attention with RoPE, a feed-forward part with SiLU. They differ in biases of q, k
and v (Qwen2), norms on the heads of q and k (Qwen3), and whether the LM head is the embedding.  A sliding window is refused,
and so is each key of a configuration that asks for something that a board does not compute.  Rows of wq and wk come in the
order of adjacent RoPE pairs, whatever the checkpoint's.  GGUF tensors may have any type that the gguf package decodes.  Needs
the tellme package and NumPy, no torch.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, NORMS, ModelConfig, ModelError
from tellme.models.files import is_there
from tellme.models.importers.chat_template import template_of_folder, template_of_gguf
from tellme.models.importers.conventions import conventions_of_folder, conventions_of_gguf
from tellme.models.importers.gguf import GGUF_NAMES
from tellme.models.importers.gguf_tensors import GgufTensors
from tellme.models.importers.huggingface import HF_NAMES
from tellme.models.importers.importing import checked_tokenizer, read_tokenizer
from tellme.models.importers.neutral_keys import check_config_keys, check_gguf_keys
from tellme.models.importers.rope import Rope, as_decimal, plain_frequencies, rope_of_config, rope_of_gguf
from tellme.models.importers.tensors import SafetensorsFolder, Tensors
from tellme.models.importers.ternary import halves_to_pairs
from tellme.models.json_files import read_json
from tellme.models.tokenizers.gguf_tokenizer import from_gguf

__all__ = ["FAMILIES", "FloatModel", "read_float"]

#: Architecture of a config.json -> that of GGUF, and rms_norm_eps, rope_theta and head_dim where config.json does not say
#: (0: hidden_size / heads).
FAMILIES = {"LlamaForCausalLM": ("llama", 1e-6, 1e4, 0), "MistralForCausalLM": ("llama", 1e-6, 1e4, 0),
            "Qwen2ForCausalLM": ("qwen2", 1e-6, 1e4, 0), "Qwen3ForCausalLM": ("qwen3", 1e-6, 1e4, 128)}
#: Whose conventions of BOS and end tokens an architecture has.
_CONVENTIONS = {"MistralForCausalLM": "LlamaForCausalLM", "Qwen2ForCausalLM": "Qwen3ForCausalLM"}
_GGUF_FAMILIES = ("llama", "qwen2", "qwen3")
_HF_HEAD_NORMS = {f"{part}_norm": f"model.layers.{{i}}.self_attn.{part}_norm.weight" for part in "qk"}
_GGUF_HEAD_NORMS = {f"{part}_norm": f"blk.{{i}}.attn_{part}_norm.weight" for part in "qk"}

Floats = NDArray[np.float32]
Say = Callable[[str], None]


class FloatModel:
    """A float model: its shape, and its parts as float32.

    ``config`` has neither norm ahead of the output and down projections, as no float model has one.
    """

    def __init__(self, config: ModelConfig, tensors: Tensors, names: dict[str, str], *, halves: bool, name: str, license: str,
                 tokenizer: bytes, chat_template: str):
        self.config, self.name, self.license = config, name, license
        self.tokenizer, self.chat_template = tokenizer, chat_template
        self._tensors, self._names, self._halves = tensors, names, halves
        self._check()

    def _name(self, part: str, layer: int = 0) -> str:
        name = self._names[part].format(i=layer)
        return f"{name}.weight" if part in LINEARS else name

    def _bias_name(self, layer: int, name: str) -> str:
        return self._names[name].format(i=layer) + ".bias"

    def _check(self) -> None:
        """Every needed tensor is there with its shape, and no other."""
        c, have = self.config, self._tensors.names()
        needed: dict[str, tuple[int, ...]] = {self._name("embedding"): (c.vocab, c.dim), self._name("final_norm"): (c.dim,)}
        if not c.tied:
            needed[self._name("head")] = (c.vocab, c.dim)
        allowed = plain_frequencies(self._tensors, Rope(c.theta), c.head_dim) | {self._name("head")}
        for i in range(c.layers):
            for name in LINEARS:
                needed[self._name(name, i)] = c.shape(name)
                allowed.add(self._bias_name(i, name))
            needed |= {self._name(norm, i): (c.norm_width(norm),) for norm in NORMS if c.has_norm(norm)}
        for name, shape in needed.items():
            if name not in have:
                raise ModelError(f"{self._tensors.label} lacks the tensor {name}")
            if self._tensors.shape(name) != shape:
                raise ModelError(f"{name} has shape {self._tensors.shape(name)}, the configuration says {shape}")
        unknown = sorted(have - needed.keys() - allowed)
        if unknown:
            raise ModelError(f"{self._tensors.label} has the unknown tensor {unknown[0]}: this model computes something that a "
                             "board does not")

    def _floats(self, name: str) -> Floats:
        values = np.asarray(self._tensors.whole(name), np.float32)
        if not np.isfinite(values).all():
            raise ModelError(f"{name} holds an infinity or NaN")
        return values

    def _in_pairs(self, part: str, values: Floats) -> Floats:
        turned = self._halves and part in ("wq", "wk", "q_norm", "k_norm")
        return np.ascontiguousarray(halves_to_pairs(values, self.config.head_dim)) if turned else values

    def matrix(self, layer: int, name: str) -> Floats:
        """A linear's weights [rows, columns]."""
        return self._in_pairs(name, self._floats(self._name(name, layer)))

    def bias(self, layer: int, name: str) -> Floats | None:
        """A linear's bias [rows], if it has one."""
        what = self._bias_name(layer, name)
        return self._in_pairs(name, self._floats(what).reshape(-1)) if what in self._tensors.names() else None

    def gain(self, layer: int, norm: str) -> Floats:
        """The gain of one of the norms that the model has."""
        return self._in_pairs(norm, self._floats(self._name(norm, layer)).reshape(-1))

    def final_gain(self) -> Floats:
        """The gain of the norm ahead of the LM head."""
        return self._floats(self._name("final_norm")).reshape(-1)

    def table(self, name: str) -> Floats:
        """The ``embedding`` or the ``head`` [vocab, dim]."""
        return self._floats(self._name(name))


def _key(label: str, fields: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    value = fields.get(key)
    value = default if value is None else value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ModelError(f"{label} has no {key}" if value is None
                         else f"{label}: {key} is {value!r}, which is no {kind.__name__}")
    return value


def _no_window(label: str, arch: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The keys without those of a sliding window that is off; one that is on is a ModelError."""
    rest = dict(fields)
    if arch in ("Qwen2ForCausalLM", "Qwen3ForCausalLM"):
        # Off unless use_sliding_window says otherwise, whatever width is given.
        if rest.pop("use_sliding_window", False):
            raise ModelError(f"{label}: use_sliding_window is true, which a board does not do")
        rest.pop("sliding_window", None)
        rest.pop("max_window_layers", None)
    elif arch == "MistralForCausalLM" and rest.get("sliding_window", 4096) is not None:
        # Where the key is missing, transformers takes 4096.
        raise ModelError(f"{label}: sliding_window is {rest.get('sliding_window', 'missing, which means 4096')}, which a board "
                         "does not do: Mistral models whose sliding_window is null are taken")
    return rest


def _of_folder(folder: Path, say: Say) -> FloatModel:
    path = folder / "config.json"
    if not is_there(path):
        raise ModelError(f"{folder} has no config.json: not a Hugging Face model folder")
    label, fields = str(path), read_json(path)
    names = fields.get("architectures")
    arch = names[0] if isinstance(names, list) and names else None
    if not isinstance(arch, str) or arch not in FAMILIES:
        raise ModelError(f"{label}: the architecture is {arch}; {', '.join(FAMILIES)} are made ternary")
    if fields.get("quantization_config") is not None:
        raise ModelError(f"{label}: the weights are quantised already; give the float checkpoint")
    fields = _no_window(label, arch, fields)
    _, eps, theta, head_dim = FAMILIES[arch]
    if _key(label, fields, "hidden_act", str, "silu") != "silu":
        raise ModelError(f"{label}: hidden_act is {fields['hidden_act']!r}; silu is known")
    dim, heads = _key(label, fields, "hidden_size", int), _key(label, fields, "num_attention_heads", int)
    head_dim = _key(label, fields, "head_dim", int, head_dim or dim // max(heads, 1))
    rope = rope_of_config(fields, label, head_dim=head_dim, default_theta=theta)
    qk_norm = arch == "Qwen3ForCausalLM"
    config = ModelConfig(
        dim=dim, ffn=_key(label, fields, "intermediate_size", int), layers=_key(label, fields, "num_hidden_layers", int),
        heads=heads, kv_heads=_key(label, fields, "num_key_value_heads", int, 8 if arch == "MistralForCausalLM" else heads),
        head_dim=head_dim, vocab=_key(label, fields, "vocab_size", int),
        context=_key(label, fields, "max_position_embeddings", int), tied=_key(label, fields, "tie_word_embeddings", bool, False),
        eps=_key(label, fields, "rms_norm_eps", float, eps), theta=rope.theta, qk_norm=qk_norm, bos=None, add_bos=False, eos=None)
    config.check()
    check_config_keys(fields, config, label)
    pieces = [folder / name for name in ("tokenizer.json", "tokenizer.model") if is_there(folder / name)]
    if not pieces:
        raise ModelError(f"{folder} has neither tokenizer.json nor tokenizer.model")
    tokenizer = checked_tokenizer(read_tokenizer(pieces[0]), str(pieces[0]), config.vocab, say)
    found = conventions_of_folder(folder, fields, _CONVENTIONS.get(arch, arch), tokenizer, config.vocab, say)
    config = replace(config, **asdict(found))
    config.check()
    return FloatModel(config, SafetensorsFolder(folder, say), HF_NAMES | (_HF_HEAD_NORMS if qk_norm else {}), halves=True,
                      name=folder.resolve().name, license=str(fields.get("license", "")), tokenizer=tokenizer,
                      chat_template=template_of_folder(folder))


def _of_gguf(path: Path, say: Say) -> FloatModel:
    tensors = GgufTensors(path)
    field, label = tensors.field, str(path)
    arch = field("general.architecture")
    if arch not in _GGUF_FAMILIES:
        raise ModelError(f"{label}: the architecture is {arch!r}; {', '.join(_GGUF_FAMILIES)} are made ternary")
    have = tensors.names()
    if GGUF_NAMES["embedding"] not in have:
        raise ModelError(f"{label} lacks the tensor {GGUF_NAMES['embedding']}")
    # Decimal numbers where the file has float32: 1e-05, not 9.999999747378752e-06.
    fields = {key: as_decimal(field(key)) for key in tensors.fields if key.startswith(f"{arch}.")}

    def get(key: str, kind: type, default: Any = None) -> Any:
        return _key(label, fields, f"{arch}.{key}", kind, default)

    dim, heads = get("embedding_length", int), get("attention.head_count", int)
    head_dim = get("attention.key_length", int, dim // max(heads, 1))
    rope = rope_of_gguf(arch, fields, field, label, head_dim=head_dim)
    config = ModelConfig(
        dim=dim, ffn=get("feed_forward_length", int), layers=get("block_count", int), heads=heads,
        kv_heads=get("attention.head_count_kv", int, heads), head_dim=head_dim, vocab=tensors.shape(GGUF_NAMES["embedding"])[0],
        context=get("context_length", int), tied=GGUF_NAMES["head"] not in have,
        eps=get("attention.layer_norm_rms_epsilon", float), theta=rope.theta, qk_norm=arch == "qwen3", bos=None, add_bos=False,
        eos=None)
    config.check()
    check_gguf_keys(arch, fields, field, config, label)
    values = {key: field(key) for key in tensors.fields if key.startswith("tokenizer.")}
    tokenizer = checked_tokenizer(from_gguf(values, f"the tokenizer in {label}"), label, config.vocab, say)
    config = replace(config, **asdict(conventions_of_gguf(field, tokenizer, config.vocab, label, say)))
    config.check()
    return FloatModel(config, tensors, GGUF_NAMES | (_GGUF_HEAD_NORMS if arch == "qwen3" else {}), halves=arch != "llama",
                      name=str(field("general.name", path.stem)), license=str(field("general.license", "")), tokenizer=tokenizer,
                      chat_template=template_of_gguf(field, label))


def read_float(path: Path, say: Say = print) -> FloatModel:
    """The float model of a Hugging Face folder or of a GGUF file; a ModelError says what of it is not taken.

    ``say`` hears what was found.
    """
    try:
        if path.is_dir():
            return _of_folder(path, say)
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"{path} is neither a Hugging Face folder nor a GGUF file")
        return _of_gguf(path, say)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
