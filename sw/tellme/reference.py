# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""An independent float32 forward pass: whole sequences at once, plain BitNet b1.58 mathematics.

This module shares no code with the golden model.  It has no tables, no KV cache, no fixed point, and no integers except the int8
activations.  It takes a model's integer codes and scales as plain arrays, and reads .tellme files with code of its own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

__all__ = ["NAMES", "ReferenceModel", "forward", "nats", "read_container"]

#: Matrices of a layer.
NAMES = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")
Array = NDArray[Any]


@dataclass
class ReferenceModel:
    """Weights as a checkpoint has them: per layer a dict name -> (integers, scale), one scale or one a row; gains by name."""

    layers: list[dict[str, tuple[Array, float | Array]]]
    embedding: Array
    final_gain: Array | None
    heads: int
    kv_heads: int
    head: Array | None = None
    gains: list[dict[str, Array]] | None = None
    o_norm: bool = True
    down_norm: bool = True
    relu2: bool = False
    eps: float = 1e-5
    theta: float = 10000.0
    #: Of the norm before the head, if it is another.
    final_eps: float | None = None
    #: Norms before linears divide by the width as well (bitllama2.c).
    norm_over_width: bool = False
    #: RoPE turns (t, t + head_dim / 2), as in transformers, instead of adjacent pairs.
    halves: bool = False
    #: RMSNorm on each head of q and of k, ahead of RoPE.
    qk_norm: bool = False
    #: OLMo 2: RMSNorm on the whole of q and of k, ahead of RoPE, and on the outputs of attention and feed-forward; no norm ahead
    #: of a layer's matrices.
    vector_norms: bool = False
    #: Per layer name -> bias.
    biases: list[dict[str, Array]] | None = None


def rms(x: Array, gain: Array | None, eps: float) -> Array:
    y = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + eps).astype(np.float32)
    return y if gain is None else y * gain.astype(np.float32)


def bitlinear(x: Array, codes: Array, scale: float | Array) -> Array:
    s = 127 / np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-5))
    quantised = np.clip(np.rint(x * s), -128, 127)
    return (quantised @ codes.astype(np.float32).T) * np.asarray(scale, np.float32) / s


def rotate(x: Array, theta: float, halves: bool = False) -> Array:
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


def forward(m: ReferenceModel, ids: Sequence[int]) -> Array:
    """Logits (positions, vocab) of a sequence."""
    x = m.embedding[np.asarray(ids)].astype(np.float32)
    n = len(x)

    def norm(x: Array, gain: Array | None) -> Array:
        y = rms(x, gain, m.eps)
        return y / np.float32(x.shape[-1]) if m.norm_over_width else y

    def ahead(x: Array, gain: Array | None) -> Array:
        return x if m.vector_norms else norm(x, gain)

    def behind(x: Array, gain: Array | None) -> Array:
        return norm(x, gain) if m.vector_norms else x

    mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
    for i, w in enumerate(m.layers):
        gains: dict[str, Array] = m.gains[i] if m.gains else {}
        gain = gains.get
        h = ahead(x, gain("attn_norm"))
        width = w["wq"][0].shape[0] // m.heads
        def linear(x: Array, name: str, i: int = i, w: dict[str, tuple[Array, float | Array]] = w) -> Array:
            bias = m.biases[i].get(name) if m.biases else None
            y = bitlinear(x, *w[name])
            return y if bias is None else y + bias.astype(np.float32)

        q, k = linear(h, "wq"), linear(h, "wk")
        if m.vector_norms:
            q, k = norm(q, gain("q_norm")), norm(k, gain("k_norm"))
        q, k = q.reshape(n, m.heads, width), k.reshape(n, m.kv_heads, width)
        if m.qk_norm:
            q, k = rms(q, gain("q_norm"), m.eps), rms(k, gain("k_norm"), m.eps)
        q, k = rotate(q, m.theta, m.halves), rotate(k, m.theta, m.halves)
        v = linear(h, "wv").reshape(n, m.kv_heads, width)
        k, v = (np.repeat(t, m.heads // m.kv_heads, axis=1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(np.float32(width)) + mask
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        o = np.einsum("hij,jhd->ihd", p, v).reshape(n, -1)
        if m.o_norm:
            o = norm(o, gain("o_norm"))
        x = x + behind(linear(o, "wo"), gain("attn_post_norm"))
        h = ahead(x, gain("ffn_norm"))
        g, u = linear(h, "w1"), linear(h, "w3")
        a = (np.maximum(g, 0) ** 2 if m.relu2 else g / (1 + np.exp(-g))) * u
        if m.down_norm:
            a = norm(a, gain("down_norm"))
        x = x + behind(linear(a, "w2"), gain("ffn_post_norm"))
    x = rms(x, m.final_gain, m.eps if m.final_eps is None else m.final_eps)
    return x @ (m.embedding if m.head is None else m.head).astype(np.float32).T


def nats(m: ReferenceModel, ids: Sequence[int]) -> tuple[float, int]:
    """(sum of negative log likelihoods of ids[1:], their number)."""
    logits = forward(m, ids[:-1]).astype(np.float64)
    top = logits.max(-1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(-1)) - logits[np.arange(len(ids) - 1), ids[1:]]
    return float(total.sum()), len(ids) - 1


def read_container(path: Path, *, plain: bool = False) -> ReferenceModel:
    """A .tellme file.  ``plain``: of several scales take the first, and no bias."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    if plain:
        tensors = {n: t.reshape(-1, 2)[0] if n.endswith(".scale") and n.startswith("layers.") else t
                   for n, t in tensors.items() if not n.endswith((".scale_rows", ".bias"))}
    config: dict[str, Any] = json.loads(metadata["config"])
    width = config["head_dim"]
    layers: list[dict[str, tuple[Array, float | Array]]] = []
    gains: list[dict[str, Array]] = []
    biases: list[dict[str, Array]] = []
    columns = {"wo": config["heads"] * width, "w2": config["ffn"]}
    digits = np.array([[byte // 3**j % 3 - 1 for j in range(5)] for byte in range(243)], np.int8)
    for i in range(config["layers"]):
        layer: dict[str, tuple[Array, float | Array]] = {}
        for name in NAMES:
            packed, scales = tensors[f"layers.{i}.{name}"], tensors[f"layers.{i}.{name}.scale"].reshape(-1, 2)
            counts = tensors.get(f"layers.{i}.{name}.scale_rows", np.array([len(packed)]))
            # A tensor of three dimensions has several planes, that of 3**0 first.
            planes = packed.reshape(len(packed), -1, packed.shape[-1])
            trits = digits[planes].astype(int).reshape(*planes.shape[:2], -1)
            if f"layers.{i}.{name}.multipliers" in tensors:
                # Of each plane, column group and row; a group is so many slices of 20 columns.
                group = 20 * int(tensors[f"layers.{i}.{name}.group_slices"][0])
                worth = np.repeat(tensors[f"layers.{i}.{name}.multipliers"].astype(int), group, axis=1).transpose(2, 0, 1)
                weights = (trits * worth[..., :trits.shape[2]]).sum(axis=1)
            else:
                weights = sum(3**p * trits[:, p] for p in range(trits.shape[1]))
            codes = weights[:, :columns.get(name, config["dim"])]
            layer[name] = codes, np.repeat(scales[:, 0] * 2.0 ** scales[:, 1], counts)
        layers.append(layer)
        gains.append({n: tensors[f"layers.{i}.{n}"] for n in ("attn_norm", "q_norm", "k_norm", "o_norm", "attn_post_norm",
                                                              "ffn_norm", "down_norm", "ffn_post_norm")
                      if f"layers.{i}.{n}" in tensors})
        biases.append({n: tensors[f"layers.{i}.{n}.bias"] for n in NAMES if f"layers.{i}.{n}.bias" in tensors})

    def table(name: str) -> Array:
        stored = tensors[f"{name}.scale"].astype(np.int64)
        scale = np.where(stored == 0, 0, (1024 + stored % 1024) * 2.0 ** (stored // 1024 - 54))
        return (tensors[name] * scale[:, None]).astype(np.float32)

    return ReferenceModel(layers, table("embedding"), tensors.get("final_norm"), config["heads"], config["kv_heads"],
                          head=table("head") if "head" in tensors else None, gains=gains, biases=biases,
                          o_norm=config["o_norm"], down_norm=config["down_norm"], relu2=config["act"] == "relu2",
                          eps=config["eps"], theta=config["theta"], qk_norm=config.get("qk_norm", False),
                          vector_norms=config.get("vector_norms", False))
