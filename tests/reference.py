# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""An independent float32 forward pass: whole sequences at once, plain BitNet b1.58 mathematics.

It shares no code with the golden model: no integers but the int8 activations, no tables, no KV cache, no fixed point.
It takes a model's ternary codes and scales as plain arrays and the float embedding as it was before int8 rows, and
reads checkpoints, and .tellme files, with code of its own.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

__all__ = ["ReferenceModel", "nats", "read"]


@dataclass
class ReferenceModel:
    """Weights as a checkpoint has them: per layer a dict name -> (codes, scale), one scale or one a row; gains by name."""

    layers: list[dict[str, tuple[np.ndarray, float | np.ndarray]]]
    embedding: np.ndarray
    final_gain: np.ndarray | None
    heads: int
    kv_heads: int
    head: np.ndarray | None = None
    gains: list[dict[str, np.ndarray]] | None = None
    o_norm: bool = True
    down_norm: bool = True
    relu2: bool = False
    eps: float = 1e-5
    theta: float = 10000.0
    #: Of the norm ahead of the head, if it is another.
    final_eps: float | None = None
    #: Norms ahead of linears divide by the width as well (bitllama2.c).
    norm_over_width: bool = False
    #: RoPE turns (t, t + head_dim / 2), as in transformers, instead of adjacent pairs.
    halves: bool = False
    #: Per layer name -> bias.
    biases: list[dict[str, np.ndarray]] | None = None


def rms(x, gain, eps):
    y = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + eps).astype(np.float32)
    return y if gain is None else y * gain.astype(np.float32)


def bitlinear(x, codes, scale):
    s = 127 / np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-5))
    quantised = np.clip(np.rint(x * s), -128, 127)
    return (quantised @ codes.astype(np.float32).T) * np.asarray(scale, np.float32) / s


def rotate(x, theta, halves=False):
    """x is (positions, heads, head_dim); pairs, adjacent or half a head apart, as complex numbers."""
    n, _, width = x.shape
    angles = np.arange(n)[:, None] / theta ** (np.arange(0, width, 2) / width)
    if halves:
        z = (x[..., :width // 2] + 1j * x[..., width // 2:]) * np.exp(1j * angles)[:, None, :]
        return np.concatenate([z.real, z.imag], axis=-1).astype(x.dtype)
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = z.real, z.imag
    return out


def forward(m: ReferenceModel, ids) -> np.ndarray:
    """Logits (positions, vocab) of a sequence."""
    x = m.embedding[np.asarray(ids)].astype(np.float32)
    n, dim = x.shape
    def norm(x, gain):
        y = rms(x, gain, m.eps)
        return y / np.float32(x.shape[-1]) if m.norm_over_width else y

    mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
    for i, w in enumerate(m.layers):
        gain = (m.gains[i] if m.gains else {}).get
        h = norm(x, gain("attn_norm"))
        width = w["wq"][0].shape[0] // m.heads
        add = (m.biases[i] if m.biases else {}).get

        def linear(x, name, w=w, add=add):
            bias = add(name)
            y = bitlinear(x, *w[name])
            return y if bias is None else y + bias.astype(np.float32)

        q = rotate(linear(h, "wq").reshape(n, m.heads, width), m.theta, m.halves)
        k = rotate(linear(h, "wk").reshape(n, m.kv_heads, width), m.theta, m.halves)
        v = linear(h, "wv").reshape(n, m.kv_heads, width)
        k, v = (np.repeat(t, m.heads // m.kv_heads, axis=1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(np.float32(width)) + mask
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        o = np.einsum("hij,jhd->ihd", p, v).reshape(n, -1)
        if m.o_norm:
            o = norm(o, gain("o_norm"))
        x = x + linear(o, "wo")
        h = norm(x, gain("ffn_norm"))
        g, u = linear(h, "w1"), linear(h, "w3")
        a = (np.maximum(g, 0) ** 2 if m.relu2 else g / (1 + np.exp(-g))) * u
        if m.down_norm:
            a = norm(a, gain("down_norm"))
        x = x + linear(a, "w2")
    x = rms(x, m.final_gain, m.eps if m.final_eps is None else m.final_eps)
    return x @ (m.embedding if m.head is None else m.head).astype(np.float32).T


def nats(m: ReferenceModel, ids) -> tuple[float, int]:
    """(sum of negative log likelihoods of ids[1:], their number)."""
    logits = forward(m, ids[:-1]).astype(np.float64)
    top = logits.max(-1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(-1)) - logits[np.arange(len(ids) - 1), ids[1:]]
    return float(total.sum()), len(ids) - 1


NAMES = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")


def read(path: Path, *, least_first: bool = True, plain: bool = False) -> ReferenceModel:
    """A .bin, .safetensors or .tellme file.  ``least_first`` is the bit order of a .bin.

    ``plain``: of several scales take the first, and no bias.
    """
    if path.suffix == ".bin":
        return read_bin(path.read_bytes(), least_first=least_first)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    if "config" in metadata:
        if plain:
            tensors = {n: t.reshape(-1, 2)[0] if n.endswith(".scale") and n.startswith("layers.") else t
                       for n, t in tensors.items() if not n.endswith((".scale_rows", ".bias"))}
        return read_container(json.loads(metadata["config"]), tensors)
    layers = [{n: (tensors[f"layers.{i}.{n}.weight"], float(tensors[f"layers.{i}.{n}.scale"][0])) for n in NAMES}
              for i in range(int(metadata["layers"]))]
    return ReferenceModel(layers, tensors["emb"].astype(np.float32), tensors["norm"].astype(np.float32),
                          int(metadata["heads"]), int(metadata["kv_heads"]))


def read_bin(raw: bytes, *, least_first: bool) -> ReferenceModel:
    dim, hidden, count, heads, kv_heads, vocab, _ = struct.unpack_from("<7i", raw, 8)
    width = dim // heads
    shapes = {"wq": (heads * width, dim), "wk": (kv_heads * width, dim), "wv": (kv_heads * width, dim),
              "wo": (dim, heads * width), "w1": (hidden, dim), "w2": (dim, hidden), "w3": (hidden, dim)}
    gain = np.frombuffer(raw, "<f4", dim, 256)
    embedding = np.frombuffer(raw, "<f4", vocab * dim, 256 + 4 * dim).reshape(vocab, dim)
    at = 256 + 4 * dim + 4 * vocab * dim
    layers: list[dict] = [{} for _ in range(count)]
    for name in NAMES:
        rows, cols = shapes[name]
        for layer in layers:
            scale, = struct.unpack_from("<f", raw, at)
            bits = np.unpackbits(np.frombuffer(raw, np.uint8, rows * cols // 4, at + 4),
                                 bitorder="little" if least_first else "big").reshape(rows, cols, 2)
            low, high = (bits[..., 0], bits[..., 1]) if least_first else (bits[..., 1], bits[..., 0])
            layer[name] = low.astype(np.int8) - 2 * high.astype(np.int8) * low.astype(np.int8), scale
            at += 4 + rows * cols // 4
    return ReferenceModel(layers, embedding, gain, heads, kv_heads, eps=1e-12, final_eps=1e-5, norm_over_width=True)


def read_container(config: dict, tensors: dict[str, np.ndarray]) -> ReferenceModel:
    width, layers, gains, biases = config["head_dim"], [], [], []
    columns = {"wo": config["heads"] * width, "w2": config["ffn"]}
    digits = np.array([[byte // 3**j % 3 - 1 for j in range(5)] for byte in range(243)], np.int8)
    for i in range(config["layers"]):
        layer = {}
        for name in NAMES:
            packed, scales = tensors[f"layers.{i}.{name}"], tensors[f"layers.{i}.{name}.scale"].reshape(-1, 2)
            counts = tensors.get(f"layers.{i}.{name}.scale_rows", np.array([len(packed)]))
            codes = digits[packed].reshape(len(packed), -1)[:, :columns.get(name, config["dim"])]
            layer[name] = codes, np.repeat(scales[:, 0] * 2.0 ** scales[:, 1], counts)
        layers.append(layer)
        gains.append({n: tensors[f"layers.{i}.{n}"] for n in ("attn_norm", "o_norm", "ffn_norm", "down_norm")
                      if f"layers.{i}.{n}" in tensors})
        biases.append({n: tensors[f"layers.{i}.{n}.bias"] for n in NAMES if f"layers.{i}.{n}.bias" in tensors})

    def table(name):
        stored = tensors[f"{name}.scale"].astype(np.int64)
        scale = np.where(stored == 0, 0, (1024 + stored % 1024) * 2.0 ** (stored // 1024 - 54))
        return (tensors[name] * scale[:, None]).astype(np.float32)

    return ReferenceModel(layers, table("embedding"), tensors.get("final_norm"), config["heads"], config["kv_heads"],
                          head=table("head") if "head" in tensors else None, gains=gains, biases=biases,
                          o_norm=config["o_norm"], down_norm=config["down_norm"], relu2=config["act"] == "relu2",
                          eps=config["eps"], theta=config["theta"])
