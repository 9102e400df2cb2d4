# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""An independent float32 forward pass: whole sequences at once, plain BitNet b1.58 mathematics.

It shares no code with the golden model: no integers but the int8 activations, no tables, no KV cache, no fixed point.
It takes a model's ternary codes and scales as plain arrays and the float embedding as it was before int8 rows.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["ReferenceModel", "nats"]


@dataclass
class ReferenceModel:
    """Weights as a checkpoint has them: per layer a dict name -> (codes, scale); gains by name, None for none."""

    layers: list[dict[str, tuple[np.ndarray, float]]]
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


def rms(x, gain, eps):
    y = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + eps).astype(np.float32)
    return y if gain is None else y * gain.astype(np.float32)


def bitlinear(x, codes, scale):
    s = 127 / np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-5))
    quantised = np.clip(np.rint(x * s), -128, 127)
    return (quantised @ codes.astype(np.float32).T) * np.float32(scale) / s


def rotate(x, theta):
    """x is (positions, heads, head_dim); adjacent pairs as complex numbers."""
    n, _, width = x.shape
    angles = np.arange(n)[:, None] / theta ** (np.arange(0, width, 2) / width)
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = z.real, z.imag
    return out


def forward(m: ReferenceModel, ids) -> np.ndarray:
    """Logits (positions, vocab) of a sequence."""
    x = m.embedding[np.asarray(ids)].astype(np.float32)
    n, dim = x.shape
    mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
    for i, w in enumerate(m.layers):
        gain = (m.gains[i] if m.gains else {}).get
        h = rms(x, gain("attn_norm"), m.eps)
        width = w["wq"][0].shape[0] // m.heads
        q = rotate(bitlinear(h, *w["wq"]).reshape(n, m.heads, width), m.theta)
        k = rotate(bitlinear(h, *w["wk"]).reshape(n, m.kv_heads, width), m.theta)
        v = bitlinear(h, *w["wv"]).reshape(n, m.kv_heads, width)
        k, v = (np.repeat(t, m.heads // m.kv_heads, axis=1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(np.float32(width)) + mask
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        o = np.einsum("hij,jhd->ihd", p, v).reshape(n, -1)
        if m.o_norm:
            o = rms(o, gain("o_norm"), m.eps)
        x = x + bitlinear(o, *w["wo"])
        h = rms(x, gain("ffn_norm"), m.eps)
        g, u = bitlinear(h, *w["w1"]), bitlinear(h, *w["w3"])
        a = (np.maximum(g, 0) ** 2 if m.relu2 else g / (1 + np.exp(-g))) * u
        if m.down_norm:
            a = rms(a, gain("down_norm"), m.eps)
        x = x + bitlinear(a, *w["w2"])
    x = rms(x, m.final_gain, m.eps)
    return x @ (m.embedding if m.head is None else m.head).astype(np.float32).T


def nats(m: ReferenceModel, ids) -> tuple[float, int]:
    """(sum of negative log likelihoods of ids[1:], their number)."""
    logits = forward(m, ids[:-1]).astype(np.float64)
    top = logits.max(-1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(-1)) - logits[np.arange(len(ids) - 1), ids[1:]]
    return float(total.sum()), len(ids) - 1
