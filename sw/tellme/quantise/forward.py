# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A layer's mathematics in float32 for many tokens at once, with int8 activations as the board has them or without.

With int8 activations the input of each matrix is int8 codes times a scale a token, and q, K and V are int8 codes times a scale a
head and token.  The board's other roundings, of binary16 and of its tables, are left out: they move the loss by some 0.02 %
(docs/numerics.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelConfig

__all__ = ["Maths", "int8", "rms_norm", "turn", "turns"]

Floats = NDArray[np.float32]
Gain = NDArray[np.floating] | None

#: The smallest absmax of a vector.
_LEAST = np.float32(1e-20)
#: Queries of a sequence whose scores are in memory at once.
_QUERIES = 256


def rms_norm(x: Floats, gain: Gain, eps: float) -> Floats:
    """x / rms(x) * gain along the last axis."""
    y = x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + np.float32(eps))
    return y if gain is None else y * gain.astype(np.float32)


def int8(x: Floats) -> Floats:
    """x as int8 codes times absmax / 127 along the last axis."""
    scale = np.maximum(np.abs(x).max(axis=-1, keepdims=True), _LEAST) / np.float32(127)
    y = x / scale
    np.rint(y, out=y)
    y *= scale
    return y


def turns(config: ModelConfig, positions: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """RoPE's cos and sin (tokens, 1, head_dim / 2) of tokens at these positions."""
    angles = positions[:, None] / config.theta ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    return np.cos(angles).astype(np.float32)[:, None], np.sin(angles).astype(np.float32)[:, None]


def turn(heads: Floats, by: tuple[Floats, Floats]) -> Floats:
    """RoPE on heads (tokens, heads, head_dim): adjacent pairs are turned."""
    cos, sin = by
    first, second = heads[..., 0::2], heads[..., 1::2]
    y = np.empty_like(heads)
    np.subtract(first * cos, second * sin, out=y[..., 0::2])
    np.add(first * sin, second * cos, out=y[..., 1::2])
    return y


@dataclass
class Maths:
    """What a model's layers compute between their matrices, for tokens (tokens, ...) of sequences of ``lengths``."""

    config: ModelConfig
    lengths: Sequence[int]
    _turns: tuple[Floats, Floats] = field(init=False)

    def __post_init__(self) -> None:
        self._turns = turns(self.config, np.concatenate([np.arange(n) for n in self.lengths]))

    def heads(self, y: Floats, gain: Gain, *, turned: bool, quantised: bool) -> Floats:
        """Outputs of the matrix of q, k or v as heads (tokens, heads, head_dim).  ``turned``: q and k, with norm and RoPE."""
        c = self.config
        if turned and c.vector_norms:
            y = rms_norm(y, gain, c.eps)
        y = y.reshape(len(y), -1, c.head_dim)
        if turned:
            if c.qk_norm:
                y = rms_norm(y, gain, c.eps)
            y = turn(y, self._turns)
        return int8(y) if quantised else y

    def attention(self, q: Floats, k: Floats, v: Floats) -> Floats:
        """Causal attention within each sequence: (tokens, heads * head_dim)."""
        c, at = self.config, 0
        out = np.empty((len(q), c.heads, c.head_dim), np.float32)
        for n in self.lengths:
            part = slice(at, at + n)
            for first, result in self._attend(q[part], k[part], v[part]):
                out[at + first:at + first + len(result)] = result
            at += n
        return out.reshape(len(q), -1)

    def _attend(self, q: Floats, k: Floats, v: Floats) -> Iterator[tuple[int, Floats]]:
        """Outputs of some queries of a sequence, and which the first of them is."""
        c, n = self.config, len(q)
        group = c.heads // c.kv_heads
        keys, values = k.transpose(1, 2, 0), v.transpose(1, 0, 2)
        for first in range(0, n, _QUERIES):
            end = min(first + _QUERIES, n)
            wanted = q[first:end].reshape(end - first, c.kv_heads, group, c.head_dim).transpose(1, 2, 0, 3)
            scores: Floats = wanted.reshape(c.kv_heads, -1, c.head_dim) @ keys[..., :end]
            scores *= np.float32(c.head_dim**-0.5)
            scores = scores.reshape(c.kv_heads, group, end - first, end)
            scores[..., np.arange(end) > np.arange(first, end)[:, None]] = -np.inf
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            out: Floats = scores.reshape(c.kv_heads, -1, end) @ values[:, :end]
            yield first, out.reshape(c.kv_heads, group, end - first, c.head_dim).transpose(2, 0, 1, 3).reshape(
                end - first, c.heads, c.head_dim)

    def activation(self, gate: Floats, up: Floats) -> Floats:
        """SiLU(gate) * up."""
        with np.errstate(over="ignore"):
            return gate / (1 + np.exp(-gate)) * up
