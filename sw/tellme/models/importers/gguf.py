# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Import of GGUF files: TQ1_0, TQ2_0, I2_S, the types of groups (gguf_groups.py), and F16, F32, BF16 whose values are ternary or
of few levels (levels.py); the architectures of llama, qwen3, olmo2 and bitnet."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, ModelConfig, ModelError
from tellme.models.importers.chat_template import template_of_gguf
from tellme.models.importers.conventions import conventions_of_gguf
from tellme.models.importers.gguf_tensors import GgufTensors
from tellme.models.importers.importing import Imported, Options, Say, act_exp_of, checked_tokenizer, read_tokenizer
from tellme.models.importers.levels import from_values, group_width
from tellme.models.importers.neutral_keys import check_gguf_keys
from tellme.models.importers.rope import Rope, as_decimal, plain_frequencies, rope_of_gguf
from tellme.models.importers.ternary import positive_scales
from tellme.models.source import Linear
from tellme.models.tokenizers.gguf_tokenizer import from_gguf

__all__ = ["GGUF_NAMES", "SUB_NORMS", "Gguf"]

#: Name here -> name in a GGUF file; ``{i}`` is the layer.
GGUF_NAMES = {
    "embedding": "token_embd.weight", "head": "output.weight", "final_norm": "output_norm.weight",
    "attn_norm": "blk.{i}.attn_norm.weight", "ffn_norm": "blk.{i}.ffn_norm.weight",
    "wq": "blk.{i}.attn_q", "wk": "blk.{i}.attn_k", "wv": "blk.{i}.attn_v", "wo": "blk.{i}.attn_output",
    "w1": "blk.{i}.ffn_gate", "w3": "blk.{i}.ffn_up", "w2": "blk.{i}.ffn_down",
}
#: The same of the norms that BitNet models have besides, and of those of Qwen3, and of OLMo 2, which has none of each model's.
SUB_NORMS = {"o_norm": "blk.{i}.attn_sub_norm.weight", "down_norm": "blk.{i}.ffn_sub_norm.weight"}
_HEAD_NORMS = {"q_norm": "blk.{i}.attn_q_norm.weight", "k_norm": "blk.{i}.attn_k_norm.weight"}
_VECTOR_NORMS = _HEAD_NORMS | {"attn_post_norm": "blk.{i}.post_attention_norm.weight",
                               "ffn_post_norm": "blk.{i}.post_ffw_norm.weight"}
#: Architecture -> its norms besides those of each model, and its activation.  llama.cpp turns adjacent pairs in llama, and halves
#: in the others.  The last two are bitnet.cpp's, which take the embedding as their head.
_ARCHITECTURES: dict[str, tuple[dict[str, str], str]] = {
    "llama": ({}, "silu"), "qwen3": (_HEAD_NORMS, "silu"), "olmo2": (_VECTOR_NORMS, "silu"), "bitnet": (SUB_NORMS, "silu"),
    "bitnet-b1.58": (SUB_NORMS, "relu2"), "bitnet-25": (SUB_NORMS, "relu2")}
#: The same of models that are read as floats.
_FLOAT_ARCHITECTURES: dict[str, tuple[dict[str, str], str]] = {
    "llama": ({}, "silu"), "qwen2": ({}, "silu"), "qwen3": (_HEAD_NORMS, "silu"), "olmo2": (_VECTOR_NORMS, "silu")}
#: Architectures that look as if they were known, and what they compute that the engine does not.
_REFUSED = {"hunyuan-dense": "has the RMSNorm on heads of q and k behind RoPE, where its gains cannot go ahead of RoPE"}


class Gguf(Imported):
    """A GGUF file.  Names and shapes are checked before any weight is read."""

    def __init__(self, path: Path, options: Options, say: Say):
        if options.weight_scale is not None:
            raise ModelError("what weight_scale does can be said for Hugging Face folders: a GGUF file has its scales in the "
                             "values", hint="weight-scale")
        if options.method is not None:
            raise ModelError(f"{options.method} is of Hugging Face folders with floats, which {path} is not", hint="method")
        self.tensors: GgufTensors = GgufTensors(path)
        field = self.tensors.field
        arch = field("general.architecture")
        if isinstance(arch, str) and arch in _REFUSED:
            raise ModelError(f"{path}: the architecture {arch} {_REFUSED[arch]}, which the engine does not do")
        known = _FLOAT_ARCHITECTURES if options.floats else _ARCHITECTURES
        if not isinstance(arch, str) or arch not in known:
            raise ModelError(f"{path}: the architecture is {arch!r}; {', '.join(known)} are known")
        self._norms, self._act = known[arch]
        self.halves = arch != "llama"
        self.tensor_names = GGUF_NAMES | self._norms
        try:
            read = self._read_config(arch)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{path}: its metadata has a value of the wrong type ({error})") from error
        self.config = replace(read, context=self.cut_context(read, options), act_exp=act_exp_of(options, read.act))
        self.name = str(field("general.name", path.stem))
        self.license = str(field("general.license", ""))
        self.check_names(lambda i, part: {f"{self.base(i, part)}.scale"},
                         plain_frequencies(self.tensors, Rope(read.theta), read.head_dim))
        for i in range(self.config.layers):
            for part in LINEARS:
                self.tensors.check_kind(f"{self.base(i, part)}.weight", floats=options.floats)
        self.tokenizer = self._read_tokenizer(path, options, say)
        self.chat_template = template_of_gguf(field, str(path)) if self.tokenizer else ""
        try:
            found = conventions_of_gguf(field, self.tokenizer, read.vocab, str(path), say)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{path}: its metadata has a value of the wrong type ({error})") from error
        self.config = replace(self.config, **asdict(found))
        self.config.check()
        say(f"{path.name}: GGUF, {arch}, {self.tensors.kind(self.base(0, 'wq') + '.weight')}, {self.config.layers} layers, "
            f"{self.config.ternary_weights / 1e6:.1f} M {'' if options.floats else 'ternary '}weights")

    def _get(self, arch: str, key: str, default: int | None = None, *, kind: type = int) -> Any:
        value = self.tensors.field(f"{arch}.{key}", default)
        if value is None:
            raise ModelError(f"{self.tensors.label} has no {arch}.{key}")
        if type(value) is not kind:
            raise TypeError(f"{arch}.{key} is {value!r}, which is no {kind.__name__}")
        return as_decimal(value)

    def _read_config(self, arch: str) -> ModelConfig:
        have = self.tensors.names()
        if GGUF_NAMES["embedding"] not in have:
            raise ModelError(f"{self.tensors.label} lacks the tensor {GGUF_NAMES['embedding']}")
        if self._get(arch, "expert_count", 0):
            raise ModelError(f"{self.tensors.label} is a mixture of experts, which the engine does not do")
        dim, heads = self._get(arch, "embedding_length"), self._get(arch, "attention.head_count")
        head_dim = self._get(arch, "attention.key_length", dim // max(heads, 1))
        field, keys, label = self.tensors.field, list(self.tensors.fields), self.tensors.label
        rope = rope_of_gguf(arch, keys, field, label, head_dim=head_dim)
        behind = "attn_post_norm" in self._norms
        config = ModelConfig(
            dim=dim, ffn=self._get(arch, "feed_forward_length"), layers=self._get(arch, "block_count"), heads=heads,
            kv_heads=self._get(arch, "attention.head_count_kv", heads), head_dim=head_dim,
            vocab=self.tensors.shape(GGUF_NAMES["embedding"])[0], context=self._get(arch, "context_length"),
            tied=self._act == "relu2" or GGUF_NAMES["head"] not in have, act=self._act,
            eps=self._get(arch, "attention.layer_norm_rms_epsilon", kind=float), theta=rope.theta,
            o_norm="o_norm" in self._norms, down_norm="down_norm" in self._norms,
            qk_norm="q_norm" in self._norms and not behind, vector_norms=behind, bos=None, add_bos=False, eos=None)
        config.check()
        check_gguf_keys(arch, keys, field, config, label)
        return config

    def _read_tokenizer(self, path: Path, options: Options, say: Say) -> bytes:
        if options.no_tokenizer:
            return b""
        if options.tokenizer is not None:
            return checked_tokenizer(read_tokenizer(options.tokenizer), str(options.tokenizer), self.config.vocab, say)
        if self.tensors.field("tokenizer.ggml.model") in (None, "no_vocab", "none"):
            raise ModelError(f"{path} has no tokenizer: give a tokenizer's file, or convert without one, for token ids only",
                             hint="tokenizer-file")
        name = f"the tokenizer in {path}"
        values = {key: self.tensors.field(key) for key in self.tensors.fields if key.startswith("tokenizer.")}
        content = from_gguf(values, name)
        return checked_tokenizer(content, name, self.config.vocab, say)

    def group_width(self, layer: int, name: str) -> int | None:
        scale = f"{self.base(layer, name)}.scale" in self.tensors.names()
        return None if scale or self.tensors.i2s_layouts() else group_width(self.tensors, f"{self.base(layer, name)}.weight")

    def weights(self, layer: int, name: str, bias: NDArray[np.float16] | None) -> Linear:
        return from_values(self.tensors, f"{self.base(layer, name)}.weight", head_dim=self.head_dim_of(name),
                           times=self._times(layer, name), bias=bias)

    def matrix(self, layer: int, name: str) -> NDArray[np.float32]:
        return super().matrix(layer, name) * np.float32(self._times(layer, name))

    def _times(self, layer: int, name: str) -> float:
        """What the values of a matrix are multiplied by: the one number of the tensor beside it, or 1."""
        scale = f"{self.base(layer, name)}.scale"
        return float(positive_scales(scale, self.tensors.whole(scale), 1)[0]) if scale in self.tensors.names() else 1.0

