# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Import of GGUF files: TQ1_0, TQ2_0, and F16, F32, BF16 whose values are ternary; architectures llama and bitnet."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, ModelConfig, ModelError
from tellme.models.gguf_tokenizer import from_gguf
from tellme.models.importing import Imported, Options, Say, act_exp_of, checked_tokenizer, read_tokenizer
from tellme.models.source import Linear
from tellme.models.tensors import Tensors, as_numbers
from tellme.models.ternary import from_values, positive_scales

__all__ = ["GGUF_NAMES", "SUB_NORMS", "Gguf"]

GGUF_NAMES = {
    "embedding": "token_embd.weight", "head": "output.weight", "final_norm": "output_norm.weight",
    "attn_norm": "blk.{i}.attn_norm.weight", "ffn_norm": "blk.{i}.ffn_norm.weight",
    "wq": "blk.{i}.attn_q", "wk": "blk.{i}.attn_k", "wv": "blk.{i}.attn_v", "wo": "blk.{i}.attn_output",
    "w1": "blk.{i}.ffn_gate", "w3": "blk.{i}.ffn_up", "w2": "blk.{i}.ffn_down",
}
SUB_NORMS = {"o_norm": "blk.{i}.attn_sub_norm.weight", "down_norm": "blk.{i}.ffn_sub_norm.weight"}
_TERNARY = ("TQ1_0", "TQ2_0", "F16", "F32", "BF16")


class GgufTensors(Tensors):
    """The tensors of a GGUF file; its index is read with the ``gguf`` package, rows where they lie."""

    def __init__(self, path: Path):
        # Late: nothing else needs the package.
        import gguf

        self.label = str(path)
        self._gguf = gguf
        try:
            reader = gguf.GGUFReader(path)
            self.fields = reader.fields
            self._entries = {t.name: (t.tensor_type, tuple(int(n) for n in reversed(t.shape.tolist())), int(t.data_offset))
                             for t in reader.tensors}
            self._file = path.open("rb")
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError) as error:
            raise ModelError(f"{path} is no GGUF file that the gguf package reads, or is cut short or damaged "
                             f"({error})") from error

    def field(self, key: str, default: Any = None) -> Any:
        """A metadata value."""
        return self.fields[key].contents() if key in self.fields else default

    def names(self) -> set[str]:
        return set(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name][1]

    def kind(self, name: str) -> str:
        return str(self._entries[name][0].name)

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        kind, shape, at = self._entries[name]
        block, size = self._gguf.GGML_QUANT_SIZES[kind]
        row = int(np.prod(shape[1:])) * size // block
        self._file.seek(at + first * row)
        raw = np.frombuffer(self._file.read((end - first) * row), np.uint8)
        plain = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}.get(kind.name)
        if plain is not None:
            return as_numbers(raw.view(plain).reshape(end - first, *shape[1:]), kind.name)
        try:
            return np.asarray(self._gguf.quants.dequantize(raw.reshape(end - first, row), kind))
        except NotImplementedError as error:
            raise ModelError(f"{self.label}: {name} is {kind.name}, which the gguf package does not decode") from error


class Gguf(Imported):
    """A GGUF file.  Names and shapes are checked before any weight is read."""

    def __init__(self, path: Path, options: Options, say: Say):
        if options.weight_scale is not None:
            raise ModelError("--weight-scale is for Hugging Face folders: a GGUF file has its scales in the values")
        self.tensors: GgufTensors = GgufTensors(path)
        field = self.tensors.field
        arch = field("general.architecture")
        if arch not in ("llama", "bitnet"):
            raise ModelError(f"{path}: the architecture is {arch!r}; llama and bitnet are known")
        # llama.cpp turns adjacent pairs in llama, and halves in bitnet.
        self.halves = arch == "bitnet"
        self.tensor_names = GGUF_NAMES | (SUB_NORMS if arch == "bitnet" else {})
        try:
            read = self._read_config(arch)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{path}: its metadata has a value of the wrong type ({error})") from error
        self.config = replace(read, context=self.cut_context(read, options), act_exp=act_exp_of(options, read.act))
        self.name = str(field("general.name", path.stem))
        self.license = str(field("general.license", ""))
        self.check_names(lambda i, part: {f"{self.base(i, part)}.scale"}, set())
        for i in range(self.config.layers):
            for part in LINEARS:
                weight = f"{self.base(i, part)}.weight"
                if self.tensors.kind(weight) not in _TERNARY:
                    raise ModelError(f"{weight} is {self.tensors.kind(weight)}; ternary weights are {', '.join(_TERNARY)}")
        self.tokenizer = self._read_tokenizer(path, options, say)
        say(f"{path.name}: GGUF, {arch}, {self.tensors.kind(self.base(0, 'wq') + '.weight')}, {self.config.layers} layers, "
            f"{self.config.ternary_weights / 1e6:.1f} M ternary weights")

    def _get(self, arch: str, key: str, default: Any = None) -> Any:
        value = self.tensors.field(f"{arch}.{key}", default)
        if value is None:
            raise ModelError(f"{self.tensors.label} has no {arch}.{key}")
        return value

    def _read_config(self, arch: str) -> ModelConfig:
        have = self.tensors.names()
        if GGUF_NAMES["embedding"] not in have:
            raise ModelError(f"{self.tensors.label} lacks the tensor {GGUF_NAMES['embedding']}")
        if self._get(arch, "expert_count", 0):
            raise ModelError(f"{self.tensors.label} is a mixture of experts, which the engine does not do")
        if self._get(arch, "rope.scaling.type", "none") != "none":
            raise ModelError(f"{self.tensors.label}: rope.scaling.type is {self._get(arch, 'rope.scaling.type')!r}, which the "
                             "engine does not do")
        dim, heads = int(self._get(arch, "embedding_length")), int(self._get(arch, "attention.head_count"))
        head_dim = int(self._get(arch, "attention.key_length", dim // max(heads, 1)))
        turned = int(self._get(arch, "rope.dimension_count", head_dim))
        if turned != head_dim:
            raise ModelError(f"{self.tensors.label}: RoPE turns {turned} of {head_dim} dimensions, the engine turns all")
        token = self.tensors.field
        eos = int(token("tokenizer.ggml.eos_token_id", 2))
        config = ModelConfig(
            dim=dim, ffn=int(self._get(arch, "feed_forward_length")), layers=int(self._get(arch, "block_count")), heads=heads,
            kv_heads=int(self._get(arch, "attention.head_count_kv", heads)), head_dim=head_dim,
            vocab=self.tensors.shape(GGUF_NAMES["embedding"])[0], context=int(self._get(arch, "context_length")),
            tied=GGUF_NAMES["head"] not in have, act="silu",
            eps=_decimal(self._get(arch, "attention.layer_norm_rms_epsilon")),
            theta=_decimal(self._get(arch, "rope.freq_base", 10000.0)), o_norm=arch == "bitnet", down_norm=arch == "bitnet",
            bos=int(token("tokenizer.ggml.bos_token_id", eos)), eos=eos)
        config.check()
        return config

    def _read_tokenizer(self, path: Path, options: Options, say: Say) -> bytes:
        if options.no_tokenizer:
            return b""
        if options.tokenizer is not None:
            return checked_tokenizer(read_tokenizer(options.tokenizer), str(options.tokenizer), self.config.vocab, say)
        if self.tensors.field("tokenizer.ggml.model") in (None, "no_vocab", "none"):
            raise ModelError(f"{path} has no tokenizer: give --tokenizer FILE, or --no-tokenizer for token ids only")
        name = f"the tokenizer in {path}"
        try:
            values = {key: self.tensors.field(key) for key in self.tensors.fields if key.startswith("tokenizer.")}
        except ValueError as error:
            raise ModelError(f"{name} has a text that is no UTF-8 ({error}): give a tokenizer.json") from error
        content = from_gguf(values, name)
        return checked_tokenizer(content, name, self.config.vocab, say)

    def weights(self, layer: int, name: str, bias: NDArray[np.float16] | None) -> Linear:
        scale, times = f"{self.base(layer, name)}.scale", 1.0
        if scale in self.tensors.names():
            # One for the matrix, which multiplies the values' own.
            times = float(positive_scales(scale, self.tensors.whole(scale), 1)[0])
        return from_values(self.tensors, f"{self.base(layer, name)}.weight", head_dim=self.head_dim_of(name), times=times,
                           bias=bias)


def _decimal(value: float) -> float:
    """A float32 of the file as the decimal number that it stands for: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
