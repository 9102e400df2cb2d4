# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From packed rows to tiles and tables.  The bytes of the matrices are moved, some rows at a time, and never unpacked.

A container and a board have the same byte for five weights and the same padding, so a tile is a permutation of the bytes of its
rows.  Sizes follow from shapes and scales alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, tee
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.part import Part
from tellme.models.config import LINEARS, ModelConfig
from tellme.models.source import Linear, StoredSource, regroup
from tellme.spec.packing import (
    HEAD_BLOCK_ROWS,
    SLICE_BYTES,
    TILE_ROWS,
    TileHeader,
    head_block_words,
    head_row_words,
    slices,
    tile_rows,
)
from tellme.spec.scale import SCALE_RANGES, Scale

__all__ = ["Matrix", "Rows", "Run", "matrices", "pack_gain", "pack_head", "pack_linear", "pack_table", "rope_table", "runs",
           "table_bytes"]

#: Bytes of a table that are packed at a time.
_TABLE_BYTES = 1 << 20

#: Gives all rows of a matrix in the engine's order as base-3 bytes; each number says how many rows come next.
Rows = Callable[[Sequence[int]], Iterator[NDArray[np.uint8]]]


class Run(NamedTuple):
    """Rows first to end - 1, whose even rows share a scale and whose odd rows share a scale.  Tiles never cross a run's end, and
    hold whole units of ``unit`` rows."""

    first: int
    end: int
    even: Scale
    odd: Scale
    unit: int = 1


@dataclass(frozen=True)
class Matrix:
    """Rows of one linear in the engine's order, which scales they have, and a bias for each if the linear has one."""

    rows: Rows
    cols: int
    runs: tuple[Run, ...]
    bias: NDArray[np.float16] | None = None


def runs(first: int, scales: Sequence[Scale], unit: int = 1) -> Iterator[Run]:
    """Rows from ``first`` on with a scale each, as runs of pairs of rows with the same two scales."""
    at = first
    for (even, odd), pairs in groupby(zip(scales[0::2], scales[1::2], strict=True)):
        end = at + 2 * sum(1 for _ in pairs)
        yield Run(at, end, even, odd, unit)
        at = end


def interleaved(even: NDArray, odd: NDArray) -> NDArray:
    """Rows that alternate."""
    out = np.empty((2 * len(even), *even.shape[1:]), even.dtype)
    out[0::2], out[1::2] = even, odd
    return out


def matrices(model: StoredSource, layer: int) -> dict[str, Matrix]:
    """The four linears of a layer as the engine sees them: q, k, v rows in a row; gate and up rows interleaved."""
    config = model.config
    linears = {name: model.linear(layer, name) for name in LINEARS}
    s = {name: [b.scale for b in linear.blocks() for _ in range(b.rows)] for name, linear in linears.items()}
    if not config.down_norm:
        # No norm cancels the power of two that the activation output is divided by.
        what = "exponent of w2's scale times 2**act_exp"
        s["w2"] = [scale._replace(exp=SCALE_RANGES["exp"].check(what, scale.exp + config.act_exp)) for scale in s["w2"]]

    def packed(name: str) -> Iterator[NDArray[np.uint8]]:
        return linears[name].packed(f"layers.{layer}.{name}")

    def in_order(*names: str) -> Rows:
        return lambda counts: regroup(chain.from_iterable(map(packed, names)), counts)

    def alternating(even: str, odd: str) -> Rows:
        def rows(counts: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
            halves = [count // 2 for count in counts]
            for pair in zip(regroup(packed(even), halves), regroup(packed(odd), halves), strict=True):
                yield interleaved(*pair)
        return rows

    def biases(*names: str) -> list[NDArray[np.float16]] | None:
        if all(linears[name].bias is None for name in names):
            return None
        return [_bias(linears[name]) for name in names]

    q, k = config.q_dim, config.q_dim + config.kv_dim
    qkv_bias, gate_up_bias = biases("wq", "wk", "wv"), biases("w1", "w3")
    gate_up = [scale for pair in zip(s["w1"], s["w3"], strict=True) for scale in pair]
    return {
        "qkv": Matrix(in_order("wq", "wk", "wv"), config.dim,
                      tuple(r for at, n in ((0, "wq"), (q, "wk"), (k, "wv")) for r in runs(at, s[n], config.head_dim)),
                      None if qkv_bias is None else np.concatenate(qkv_bias)),
        "o": Matrix(in_order("wo"), config.q_dim, tuple(runs(0, s["wo"])), linears["wo"].bias),
        "gate_up": Matrix(alternating("w1", "w3"), config.dim, tuple(runs(0, gate_up)),
                          None if gate_up_bias is None else interleaved(*gate_up_bias)),
        "down": Matrix(in_order("w2"), config.ffn, tuple(runs(0, s["w2"])), linears["w2"].bias),
    }


def _bias(linear: Linear) -> NDArray[np.float16]:
    return np.zeros(linear.shape[0], np.float16) if linear.bias is None else linear.bias


def pack_linear(matrix: Matrix, *, most: int = TILE_ROWS, least: int = 0) -> Part:
    """The tiles of a matrix in the order of :mod:`tellme.spec.packing`; the last run's get smaller, down to ``least`` rows."""
    tiles = [TileHeader(run.even, rows, run.odd) for run in matrix.runs
             for _, rows in tile_rows(run.end - run.first, run.unit, most=most,
                                      least=least if run is matrix.runs[-1] else 0)]

    def pieces() -> Iterator[bytes | NDArray]:
        for tile, rows in zip(tiles, matrix.rows([tile.rows for tile in tiles]), strict=True):
            yield tile.pack().to_bytes(8, "little")
            # (row, slice) -> (slice, row), where an element is the bytes of a slice.
            yield np.ascontiguousarray(np.ascontiguousarray(rows).view(f"<u{SLICE_BYTES}").T)

    return Part(sum(8 + tile.rows * slices(matrix.cols) * SLICE_BYTES for tile in tiles), pieces)


def pack_head(codes: NDArray[np.int8], scales: NDArray[np.uint16]) -> bytes:
    """Rows of an int8 table in blocks of four rows."""
    vocab, dim = codes.shape
    blocks = -(-vocab // HEAD_BLOCK_ROWS)
    rows = np.zeros((blocks * HEAD_BLOCK_ROWS, 8 * head_row_words(dim)), np.int8)
    rows[:vocab, :dim] = codes
    stored = np.zeros(blocks * HEAD_BLOCK_ROWS, "<u2")
    stored[:vocab] = scales
    return np.concatenate([stored.view(np.uint8).reshape(blocks, 8),
                           rows.view(np.uint8).reshape(blocks, -1)], axis=1).tobytes()


def pack_table(model: StoredSource, name: str) -> Part:
    """A model's ``embedding`` or ``head`` in blocks of four rows."""
    vocab, dim = model.config.vocab, model.config.dim
    step = max(1, _TABLE_BYTES // (HEAD_BLOCK_ROWS * dim)) * HEAD_BLOCK_ROWS
    counts = [min(step, vocab - first) for first in range(0, vocab, step)]

    def pieces() -> Iterator[bytes]:
        one, other = tee(model.table(name))
        for codes, scales in zip(regroup((part.codes for part in one), counts), regroup((part.scales for part in other), counts),
                                 strict=True):
            yield pack_head(codes, scales)

    return Part(table_bytes(vocab, dim), pieces)


def table_bytes(rows: int, dim: int) -> int:
    """Bytes of an int8 table."""
    return 8 * -(-rows // HEAD_BLOCK_ROWS) * head_block_words(dim)


def pack_gain(gain: NDArray[np.float16]) -> bytes:
    """Gains, padded to whole 64-bit words."""
    return np.pad(gain, (0, -len(gain) % 4)).astype("<f2").tobytes()


def rope_table(config: ModelConfig) -> Part:
    """cos and sin of each position and pair as binary16."""
    def pieces() -> Iterable[NDArray]:
        pair = np.arange(config.head_dim // 2)
        angle = np.arange(config.context)[:, None] * config.theta ** (-2.0 * pair / config.head_dim)
        return (np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype("<f2"),)

    return Part(2 * config.context * config.head_dim, pieces)
