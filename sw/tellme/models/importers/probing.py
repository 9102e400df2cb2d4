# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The loss of a model on a text.  The loss tells which of several readings of a checkpoint is the one that was trained.

A reading is a way to decode the file, such as an order of bits.  The loss comes from a float32 forward pass over a source, with
one matrix in memory at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelConfig
from tellme.models.int8 import float_rows
from tellme.models.source import Linear, Source

__all__ = ["CLEAR_NATS", "PROBE", "Reading", "best_reading", "nats_per_token", "read_in_turn"]

#: A trained model's loss in each wrong reading is at least this much higher; in the right one it beats plain guessing.
CLEAR_NATS = 0.5
#: Text that tells readings apart.  Any plain English story would do: the gap is several nats.
PROBE = ("Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her dog. "
         "One day, she saw a big red ball under a tree. She ran to it and smiled. \"Look, a ball!\" she said.")

Rows = NDArray[np.float32]


class Reading(NamedTuple):
    """One way to read a checkpoint, and the loss on the probe text in this reading, in nats per token."""

    name: str
    nats: float

    def __str__(self) -> str:
        return f"{self.nats:.2f} nats per token {self.name}"


def best_reading(readings: Iterable[Reading], vocab: int) -> Reading | None:
    """The right reading: its loss is better than guessing, and by CLEAR_NATS better than each other reading's."""
    ordered = sorted(readings, key=lambda r: r.nats)
    clear = len(ordered) > 1 and ordered[1].nats - ordered[0].nats >= CLEAR_NATS and ordered[0].nats < np.log(vocab)
    return ordered[0] if clear else None


def nats_per_token(source: Source, ids: Sequence[int]) -> float:
    """Mean negative log likelihood (nats) of ids[1:], each given those before it; infinity where numbers run over.

    The pass computes BitNet b1.58 in float32: the input of each linear is quantised to int8 by absmax of each token.  ``act_exp``
    is left out, because the next norm or scale cancels this power of two.
    """
    return read_in_turn(source, ids, [""], lambda name: None)[0].nats


def read_in_turn(source: Source, ids: Sequence[int], names: Sequence[str], choose: Callable[[str], None]) -> list[Reading]:
    """The loss of the text in each of some readings of a source's matrices; ``choose`` sets the reading with a name.

    The tables are the same in all readings, and are read twice for all readings together.
    """
    x = _embedded(source, ids[:-1])
    final = _norm(source.final_norm(), source.config)
    hidden = []
    with np.errstate(all="ignore"):
        for name in names:
            choose(name)
            hidden.append(final(_layers(source, x)))
        found = _losses(source, np.concatenate(hidden), list(ids[1:]) * len(names)).reshape(len(names), -1).mean(axis=1)
    return [Reading(name, float(nats) if np.isfinite(nats) else float("inf")) for name, nats in zip(names, found, strict=True)]


def _layers(source: Source, x: Rows) -> Rows:
    """The residual stream (a row a token) after the last layer, from what it is before the first."""
    c = source.config
    turn = _rope(len(x), c)
    for i in range(c.layers):
        def linear(name: str, x: Rows, i: int = i) -> Rows:
            return _bitlinear(x, source.linear(i, name))

        def norm(name: str, x: Rows, i: int = i) -> Rows:
            return _norm(source.gain(i, name), c)(x)

        h = x if c.vector_norms else norm("attn_norm", x)
        q, k = linear("wq", h), linear("wk", h)
        if c.vector_norms:
            q, k = norm("q_norm", q), norm("k_norm", k)
        if c.qk_norm:
            q, k = (norm(name, rows.reshape(len(rows), -1, c.head_dim)).reshape(rows.shape)
                    for name, rows in (("q_norm", q), ("k_norm", k)))
        o = _attention(turn(q, c.heads), turn(k, c.kv_heads), linear("wv", h), c)
        o = linear("wo", norm("o_norm", o) if c.o_norm else o)
        x = x + (norm("attn_post_norm", o) if c.vector_norms else o)
        h = x if c.vector_norms else norm("ffn_norm", x)
        gate = linear("w1", h)
        a = (np.maximum(gate, 0) ** 2 if c.act == "relu2" else gate / (1 + np.exp(-gate))) * linear("w3", h)
        down = linear("w2", norm("down_norm", a) if c.down_norm else a)
        x = x + (norm("ffn_post_norm", down) if c.vector_norms else down)
    return x


def _norm(gain: NDArray[np.float16] | None, config: ModelConfig) -> Callable[[Rows], Rows]:
    def norm(x: Rows) -> Rows:
        y = (x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(config.eps))).astype(np.float32)
        return y if gain is None else y * gain.astype(np.float32)
    return norm


def _bitlinear(x: Rows, linear: Linear) -> Rows:
    """The product with a matrix, whose codes come part by part."""
    step = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-5)) / 127
    codes = np.clip(np.rint(x / step), -128, 127)
    y = np.concatenate([codes @ part.T.astype(np.float32) for part in linear.chunks()], axis=1)
    scales = np.concatenate([np.full(block.rows, float(block.scale.value()), np.float32) for block in linear.blocks()])
    y = y * step * scales
    return y if linear.bias is None else y + linear.bias.astype(np.float32)


def _rope(positions: int, config: ModelConfig) -> Callable[[Rows, int], Rows]:
    """Rotary embedding of adjacent pairs: (tokens, heads * head_dim) to (tokens, heads, head_dim)."""
    frequency = config.theta ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
    angle = np.arange(positions)[:, None, None] * frequency
    cos: Rows = np.cos(angle).astype(np.float32)
    sin: Rows = np.sin(angle).astype(np.float32)

    def turn(x: Rows, heads: int) -> Rows:
        pairs = x.reshape(positions, heads, -1, 2)
        even, odd = pairs[..., 0], pairs[..., 1]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(positions, heads, -1)
    return turn


def _attention(q: Rows, k: Rows, v: Rows, config: ModelConfig) -> Rows:
    """Causal attention; each KV head serves heads / kv_heads query heads."""
    n, group = len(q), config.heads // config.kv_heads
    q = q.reshape(n, config.kv_heads, group, config.head_dim)
    scores = np.einsum("ihgd,jhd->hgij", q, k) / np.sqrt(np.float32(config.head_dim))
    scores[..., np.triu(np.ones((n, n), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hgij,jhd->ihgd", weights, v.reshape(n, config.kv_heads, config.head_dim)).reshape(n, -1)


def _embedded(source: Source, ids: Sequence[int]) -> Rows:
    wanted = np.asarray(ids)
    x = np.zeros((len(wanted), source.config.dim), np.float32)
    first = 0
    for part in source.table("embedding"):
        here = np.flatnonzero((wanted >= first) & (wanted < first + len(part.codes)))
        at = wanted[here] - first
        x[here] = float_rows(part.codes[at], part.scales[at])
        first += len(part.codes)
    return x


def _losses(source: Source, x: Rows, targets: Sequence[int]) -> NDArray[np.float64]:
    """The loss of each row, from the logits of a part of the vocabulary at a time."""
    wanted = np.asarray(targets)
    total, picked = np.full(len(x), -np.inf), np.zeros(len(x))
    first = 0
    for part in source.table("embedding" if source.config.tied else "head"):
        logits = (x @ float_rows(part.codes, part.scales).T).astype(np.float64)
        top = logits.max(axis=1)
        total = np.logaddexp(total, top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
        here = np.flatnonzero((wanted >= first) & (wanted < first + len(part.codes)))
        picked[here] = logits[here, wanted[here] - first]
        first += len(part.codes)
    return total - picked
