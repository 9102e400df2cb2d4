# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A ternary model in memory, and its file: a safetensors container with everything that a board needs."""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tellme.spec.packing import SLICE_BYTES, TRITS, ZERO_BYTE, slices
from tellme.spec.scale import Scale, scale_from_fraction

__all__ = ["FORMAT", "FORMAT_VERSION", "LINEARS", "Layer", "Model", "ModelConfig", "ModelError", "int8_rows"]

FORMAT = "tellme"
FORMAT_VERSION = 1
#: Matrices of a layer, with the names that LLaMA checkpoints of this family use.
LINEARS = ("wq", "wk", "wv", "wo", "w1", "w3", "w2")
NORMS = ("attn_norm", "o_norm", "ffn_norm", "down_norm")


class ModelError(Exception):
    """A model file or checkpoint that cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape and conventions of a LLaMA-like ternary model."""

    dim: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    tied: bool = True
    #: "silu" or "relu2".
    act: str = "silu"
    #: Power of two that the activation output is divided by (ReLU squared passes 65504 in some models).
    act_exp: int = 0
    eps: float = 1e-5
    theta: float = 10000.0
    #: RMSNorm ahead of the output and down projections (sub-norms).
    o_norm: bool = False
    down_norm: bool = False
    bos: int = 1
    eos: int = 2

    def check(self) -> None:
        """Refuse shapes that are no model at all."""
        for f in fields(self):
            value = getattr(self, f.name)
            if type(value) is not f.type:
                raise ModelError(f"{f.name} is {value!r}, which is no {getattr(f.type, '__name__', f.type)}")
            if f.type is int and f.name not in ("act_exp", "bos", "eos") and not 0 < value < 1 << 24:
                raise ModelError(f"{f.name} is {value}: not a model")
        if not -30 <= self.act_exp <= 30:
            raise ModelError(f"act_exp is {self.act_exp}; -30 to 30 make sense")
        for what in ("bos", "eos"):
            if not 0 <= getattr(self, what) < self.vocab:
                raise ModelError(f"{what} is {getattr(self, what)}, outside the vocabulary of {self.vocab}")
        if not (0 < self.eps < 1 and 1 < self.theta < 1e12):
            raise ModelError(f"eps {self.eps} and theta {self.theta} are no model's")
        if self.act not in ("silu", "relu2"):
            raise ModelError(f"activation {self.act!r} is neither silu nor relu2")
        if self.heads % self.kv_heads:
            raise ModelError(f"{self.heads} heads are no multiple of {self.kv_heads} KV heads")
        if self.head_dim % 2:
            raise ModelError(f"head_dim {self.head_dim} is odd: RoPE turns pairs")

    @property
    def q_dim(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        return self.kv_heads * self.head_dim

    def shape(self, name: str) -> tuple[int, int]:
        """(rows, columns) of a linear."""
        return {"wq": (self.q_dim, self.dim), "wk": (self.kv_dim, self.dim), "wv": (self.kv_dim, self.dim),
                "wo": (self.dim, self.q_dim), "w1": (self.ffn, self.dim), "w3": (self.ffn, self.dim),
                "w2": (self.dim, self.ffn)}[name]

    def norm_width(self, name: str) -> int:
        """Elements of a norm's gain."""
        return {"attn_norm": self.dim, "o_norm": self.q_dim, "ffn_norm": self.dim, "down_norm": self.ffn}[name]


@dataclass
class Layer:
    """Ternary codes (int8, -1, 0, 1) and a scale for each linear; gains (float16) of the norms that have one."""

    weights: dict[str, NDArray[np.int8]]
    scales: dict[str, Scale]
    gains: dict[str, NDArray[np.float16]] = field(default_factory=dict)


def int8_rows(table: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.uint16]]:
    """Rows as int8 with a stored scale each: absmax / 127, rounded to a stored scale; codes round(x / scale)."""
    from tellme.spec.scale import pack16, unpack16

    x = table.astype(np.float64)
    peak = np.abs(x).max(axis=1)
    stored = np.array([pack16(scale_from_fraction(float(p) / 127)) for p in peak], np.uint16)
    value = np.array([float(unpack16(int(s)).value()) for s in stored])
    codes = np.rint(x / np.where(value == 0, 1, value)[:, None])
    return np.clip(codes, -127, 127).astype(np.int8), stored


@dataclass
class Model:
    """A whole model: what a .tellme file holds."""

    config: ModelConfig
    layers: list[Layer]
    #: int8 rows (vocab, dim) and a stored 16-bit scale a row.
    embedding: NDArray[np.int8]
    embedding_scales: NDArray[np.uint16]
    final_gain: NDArray[np.float16] | None = None
    head: NDArray[np.int8] | None = None
    head_scales: NDArray[np.uint16] | None = None
    #: A SentencePiece model, or nothing.
    tokenizer: bytes = b""
    name: str = ""
    license: str = ""

    @property
    def ternary_weights(self) -> int:
        c = self.config
        return c.layers * sum(int(np.prod(c.shape(n))) for n in LINEARS)

    def check(self) -> None:
        """Every shape, code and scale; a ModelError names the first that is wrong."""
        c = self.config
        c.check()
        if len(self.layers) != c.layers:
            raise ModelError(f"{len(self.layers)} layers of weights for {c.layers} in the configuration")
        for i, layer in enumerate(self.layers):
            for name in LINEARS:
                w = layer.weights[name]
                if w.shape != c.shape(name):
                    raise ModelError(f"layers.{i}.{name} has shape {w.shape}, the configuration says {c.shape(name)}")
                if w.min() < -1 or w.max() > 1:
                    raise ModelError(f"layers.{i}.{name} has a code outside -1, 0, 1")
                if layer.scales[name].sig == 0:
                    raise ModelError(f"layers.{i}.{name}: its scale is zero or too small")
                if w.dtype != np.int8:
                    raise ModelError(f"layers.{i}.{name} is {w.dtype}, int8 is wanted")
            for name, gain in layer.gains.items():
                if (name == "o_norm" and not c.o_norm) or (name == "down_norm" and not c.down_norm):
                    raise ModelError(f"layers.{i}.{name} is a gain of a norm that the configuration does not have")
                _check_gain(f"layers.{i}.{name}", gain, c.norm_width(name))
        for what, rows, scales in (("embedding", self.embedding, self.embedding_scales),
                                   ("head", self.head, self.head_scales)):
            if rows is None or scales is None:
                if what == "head" and not c.tied:
                    raise ModelError("the model is untied but has no head")
                continue
            if rows.shape != (c.vocab, c.dim) or scales.shape != (c.vocab,):
                raise ModelError(f"{what} has shape {rows.shape}, the configuration says {(c.vocab, c.dim)}")
            if rows.dtype != np.int8 or scales.dtype != np.uint16:
                raise ModelError(f"{what} is {rows.dtype} with scales of {scales.dtype}; int8 and uint16 are wanted")
        if self.final_gain is not None:
            _check_gain("final_norm", self.final_gain, c.dim)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        self.check()
        c = self.config
        tensors: dict[str, np.ndarray] = {"embedding": self.embedding, "embedding.scale": self.embedding_scales}
        if self.head is not None and self.head_scales is not None:
            tensors |= {"head": self.head, "head.scale": self.head_scales}
        if self.final_gain is not None:
            tensors["final_norm"] = self.final_gain
        if self.tokenizer:
            tensors["tokenizer"] = np.frombuffer(self.tokenizer, np.uint8)
        for i, layer in enumerate(self.layers):
            for name in LINEARS:
                tensors[f"layers.{i}.{name}"] = pack_rows(layer.weights[name])
                scale = layer.scales[name]
                tensors[f"layers.{i}.{name}.scale"] = np.array([scale.sig, scale.exp], np.int16)
            for name, gain in layer.gains.items():
                tensors[f"layers.{i}.{name}"] = gain
        metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "config": json.dumps(asdict(c)),
                    "name": self.name, "license": self.license}
        tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
        scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            scratch.write_bytes(save(tensors, metadata=metadata))
            scratch.replace(path)
        except OSError as error:
            raise ModelError(f"cannot write {path}: {error.strerror}") from error
        finally:
            scratch.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Model":
        """Read and check a file."""
        if not path.exists():
            raise ModelError(f"there is no model file {path}")
        if path.is_dir():
            raise ModelError(f"{path} is a folder; a .tellme file is wanted (tellme-host convert makes one)")
        if path.stat().st_size == 0:
            raise ModelError(f"{path} is empty")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                check_metadata(path, metadata)
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{path} is no .tellme file, or is cut short or damaged ({error}); "
                             "convert or copy it again") from error
        try:
            model = cls._from_tensors(metadata, tensors)
            model.check()
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} misses {error}; convert it again") from error
        model.name = model.name or path.stem
        return model

    @classmethod
    def _from_tensors(cls, metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> "Model":
        config = ModelConfig(**json.loads(metadata["config"]))
        config.check()
        layers = []
        for i in range(config.layers):
            weights, scales = {}, {}
            for name in LINEARS:
                weights[name] = unpack_rows(f"layers.{i}.{name}", tensors[f"layers.{i}.{name}"], config.shape(name))
                sig, exp = (int(v) for v in tensors[f"layers.{i}.{name}.scale"])
                if not (1024 <= sig <= 2047 and -128 <= exp <= 127):
                    raise ModelError(f"layers.{i}.{name}.scale is no scale: {sig}, {exp}")
                scales[name] = Scale(sig, exp)
            gains = {n: tensors[f"layers.{i}.{n}"] for n in NORMS if f"layers.{i}.{n}" in tensors}
            layers.append(Layer(weights, scales, gains))
        tokenizer = tensors["tokenizer"].tobytes() if "tokenizer" in tensors else b""
        return cls(config, layers, tensors["embedding"], tensors["embedding.scale"], tensors.get("final_norm"),
                   tensors.get("head"), tensors.get("head.scale"), tokenizer, metadata.get("name", ""),
                   metadata.get("license", ""))


def check_metadata(path: Path, metadata: dict[str, str]) -> None:
    """Format and version."""
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} is a safetensors file, but not a tellme model: convert it with "
                         f"tellme-host convert {path} -o OUT.tellme")
    version = metadata.get("format_version", "?")
    if version != str(FORMAT_VERSION):
        raise ModelError(f"{path} has format_version {version}; this tellme-host reads {FORMAT_VERSION}: "
                         "install a newer one, or convert the model again")


def _check_gain(name: str, gain: NDArray[np.float16], width: int) -> None:
    if gain.shape != (width,) or gain.dtype != np.float16:
        raise ModelError(f"{name} is {gain.dtype} of shape {gain.shape}, expected float16 of {width}")
    if not np.isfinite(gain).all():
        raise ModelError(f"{name} holds an infinity or NaN")


_POWERS = 3 ** np.arange(TRITS)


def pack_rows(weights: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Rows of base-3 bytes, padded to whole slices."""
    rows, cols = weights.shape
    padded = np.zeros((rows, slices(cols) * SLICE_BYTES * TRITS), np.int64)
    padded[:, :cols] = weights
    return ((padded.reshape(rows, -1, TRITS) + 1) @ _POWERS).astype(np.uint8)


def unpack_rows(name: str, packed: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.int8]:
    """The codes of packed rows; bytes that are no base-3 code, and padding that is not zero, are refused."""
    rows, cols = shape
    if packed.shape != (rows, slices(cols) * SLICE_BYTES) or packed.dtype != np.uint8:
        raise ModelError(f"{name} is {packed.dtype} of shape {packed.shape}; {rows} x {cols} weights want uint8 of "
                         f"{(rows, slices(cols) * SLICE_BYTES)}")
    if packed.max() >= 3**TRITS:
        raise ModelError(f"{name} holds byte {packed.max()}, which is no base-3 code")
    trits = packed[:, :, None] // _POWERS % 3 - 1
    codes = trits.reshape(rows, -1).astype(np.int8)
    if codes[:, cols:].any():
        raise ModelError(f"{name}: the padding behind column {cols} is not zero (byte {ZERO_BYTE})")
    return np.ascontiguousarray(codes[:, :cols])
