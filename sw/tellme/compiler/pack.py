# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From packed rows to tiles and tables.  The bytes of the matrices are moved, some rows at a time, and never unpacked.

A container and a board have the same byte for five weights and the same padding, so a tile is a permutation of the bytes of its
rows.  Sizes follow from shapes and scales alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, tee
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.part import Part
from tellme.models.config import LINEARS, ModelConfig
from tellme.models.source import Linear, StoredSource, regroup
from tellme.spec.packing import (
    HEAD_BLOCK_ROWS,
    LEAST_STEPS,
    MULTIPLIERS_A_WORD,
    NO_BIAS,
    ROW_WORD_BYTES,
    ROW_WORD_FIELDS,
    SLICE_BYTES,
    TILE_ROWS,
    ZERO_BYTE,
    TileHeader,
    groups_of,
    head_block_words,
    head_row_words,
    multiplier_words,
    slices,
    tile_rows,
)
from tellme.spec.scale import SCALE_RANGES, ZERO, Scale, pack16, unpack16

__all__ = ["Matrix", "RowMultipliers", "Rows", "Run", "Tile", "Tiling", "is_stored", "matrices", "pack_gain", "pack_head",
           "pack_linear", "pack_table", "pack_tiles", "rope_table", "runs", "table_bytes", "tiles"]

#: Bytes of a table that are packed at a time.
_TABLE_BYTES = 1 << 20

#: Gives all rows of a matrix in the engine's order as base-3 bytes, (rows, planes, bytes), the plane of 3**0 first; each number
#: says how many rows come next.
Rows = Callable[[Sequence[int]], Iterator[NDArray[np.uint8]]]


class Tiling(NamedTuple):
    """All that a model's tiles depend on of a build: rows of a tile at most, and at a matrix's end at least; whether tiles may
    have row words; rows of the smallest tile in whose steps tables are built in time."""

    most: int = TILE_ROWS
    least: int = 0
    row_words: bool = False
    built: int = LEAST_STEPS


#: The multipliers of a matrix's rows in the engine's order, linear by linear: how many rows, and int8 (planes, groups, rows), the
#: plane of 3**0 first, or nothing for rows without column groups.
RowMultipliers = Sequence[tuple[int, NDArray[np.int8] | None]]


class Run(NamedTuple):
    """Rows first to end - 1, whose even rows share a scale and whose odd rows share a scale.  Tiles hold whole units of ``unit``
    rows, and ``planes`` planes of them; those without row words never cross a run's end.  ``part``: number of the linear.
    ``group_slices``: slices of the rows' column groups, which have multipliers, or 0."""

    first: int
    end: int
    even: Scale
    odd: Scale
    unit: int = 1
    planes: int = 1
    part: int = 0
    group_slices: int = 0

    def header(self, rows: int, *, row_words: bool = False) -> TileHeader:
        """The header of a tile of the run's rows: with the run's scales, or zeros where the rows have words."""
        even, odd = (ZERO, ZERO) if row_words else (self.even, self.odd)
        return TileHeader(even, rows, odd, self.planes, row_words, self.group_slices > 0, self.group_slices)


@dataclass(frozen=True)
class Matrix:
    """Rows of one linear in the engine's order, which scales they have, a bias for each if row words have to carry one, and what
    gives the multipliers if there are column groups."""

    rows: Rows
    cols: int
    runs: tuple[Run, ...]
    bias: NDArray[np.float16] | None = None
    multipliers: Callable[[], RowMultipliers] | None = None

    @property
    def rows_in_all(self) -> int:
        """Rows of the matrix."""
        return self.runs[-1].end


class Tile(NamedTuple):
    """A tile's header, and the words of its rows (tellme.spec.packing.RowWord) if it has any."""

    header: TileHeader
    words: NDArray[np.uint32] | None = None


def runs(first: int, scales: Sequence[Scale], unit: int = 1, planes: int = 1, part: int = 0,
         group_slices: int = 0) -> Iterator[Run]:
    """Rows from ``first`` on with a scale each, as runs of pairs of rows with the same two scales."""
    at = first
    for (even, odd), pairs in groupby(zip(scales[0::2], scales[1::2], strict=True)):
        end = at + 2 * sum(1 for _ in pairs)
        yield Run(at, end, even, odd, unit, planes, part, group_slices)
        at = end


def interleaved(even: NDArray, odd: NDArray) -> NDArray:
    """Rows that alternate."""
    out = np.empty((2 * len(even), *even.shape[1:]), even.dtype)
    out[0::2], out[1::2] = even, odd
    return out


def matrices(model: StoredSource, layer: int) -> dict[str, Matrix]:
    """The four linears of a layer as the engine sees them: q, k, v rows in a row; gate and up rows interleaved.

    A model with norms on the whole q and k has six: q, k and v are linears of their own.
    """
    config = model.config
    linears = {name: model.linear(layer, name) for name in LINEARS}
    s = {name: [b.scale for b in linear.blocks() for _ in range(b.rows)] for name, linear in linears.items()}
    if not config.down_norm:
        # No norm cancels the power of two that the activation output is divided by.
        what = "exponent of w2's scale times 2**act_exp"
        s["w2"] = [scale._replace(exp=SCALE_RANGES["exp"].check(what, scale.exp + config.act_exp)) for scale in s["w2"]]

    def packed(name: str, planes: int) -> Iterator[NDArray[np.uint8]]:
        """Rows of a linear, with planes of zeros above its own up to ``planes``."""
        linear = linears[name]
        for part in linear.packed(f"layers.{layer}.{name}"):
            own = part.reshape(len(part), linear.planes, -1)
            yield own if linear.planes == planes else np.pad(own, ((0, 0), (0, planes - linear.planes), (0, 0)),
                                                             constant_values=ZERO_BYTE)

    def in_order(*names: str) -> Rows:
        planes = max(linears[name].planes for name in names)
        return lambda counts: regroup(chain.from_iterable(packed(name, planes) for name in names), counts)

    def alternating(even: str, odd: str) -> Rows:
        def rows(counts: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
            halves = [count // 2 for count in counts]
            for pair in zip(*(regroup(packed(name, gate_up_planes), halves) for name in (even, odd)), strict=True):
                yield interleaved(*pair)
        return rows

    def biases(*names: str) -> list[NDArray[np.float16]] | None:
        if all(linears[name].bias is None for name in names):
            return None
        return [_bias(linears[name]) for name in names]

    def multipliers(*names: str) -> Callable[[], RowMultipliers] | None:
        if not any(linears[name].group_slices for name in names):
            return None
        return lambda: [(linears[name].shape[0], None if (own := linears[name].multipliers) is None else own()) for name in names]

    def alternating_multipliers(even: str, odd: str) -> Callable[[], RowMultipliers] | None:
        if not gate_up_groups:
            return None
        return lambda: [(sum(linears[name].shape[0] for name in (even, odd)), interleaved(*(
            _multipliers(linears[name], gate_up_planes, gate_up_groups).transpose(2, 0, 1) for name in (even, odd))
        ).transpose(1, 2, 0))]

    q, k = config.q_dim, config.q_dim + config.kv_dim
    qkv_bias, gate_up_bias = biases("wq", "wk", "wv"), biases("w1", "w3")
    gate_up = [scale for pair in zip(s["w1"], s["w3"], strict=True) for scale in pair]
    gate_up_planes = max(linears["w1"].planes, linears["w3"].planes)
    # Gate and up are rows of the same tiles, whose groups are parts of both linears' groups.
    gate_up_groups = gcd(linears["w1"].group_slices, linears["w3"].group_slices)

    def alone(name: str, unit: int = 1) -> Matrix:
        own, bias = linears[name], biases(name)
        return Matrix(in_order(name), own.shape[1], tuple(runs(0, s[name], unit, own.planes, group_slices=own.group_slices)),
                      None if bias is None else bias[0], multipliers(name))

    if config.vector_norms:
        # A step of v sends whole heads to attention; those of q and k write vectors.
        attention = {"q": alone("wq"), "k": alone("wk"), "v": alone("wv", config.head_dim), "o": alone("wo")}
    else:
        attention = {
            "qkv": Matrix(in_order("wq", "wk", "wv"), config.dim,
                          tuple(r for part, (at, n) in enumerate(((0, "wq"), (q, "wk"), (k, "wv")))
                                for r in runs(at, s[n], config.head_dim, linears[n].planes, part, linears[n].group_slices)),
                          None if qkv_bias is None else np.concatenate(qkv_bias), multipliers("wq", "wk", "wv")),
            "o": replace(alone("wo"), bias=None)}
    return attention | {
        "gate_up": Matrix(alternating("w1", "w3"), config.dim,
                          tuple(runs(0, gate_up, planes=gate_up_planes, group_slices=gate_up_groups)),
                          None if gate_up_bias is None else interleaved(*gate_up_bias), alternating_multipliers("w1", "w3")),
        "down": alone("w2") if config.vector_norms else replace(alone("w2"), bias=None),
    }


def _multipliers(linear: Linear, planes: int, group_slices: int) -> NDArray[np.int8]:
    """The multipliers of a linear with planes of zeros above its own, in column groups that are parts of its own: (planes,
    groups, rows).  Those of a linear without groups are the powers of three that tie its planes."""
    groups = groups_of(linear.shape[1], group_slices)
    found = np.zeros((planes, groups, linear.shape[0]), np.int8)
    if linear.multipliers is None:
        found[:linear.planes] = 3 ** np.arange(linear.planes)[:, None, None]
    else:
        found[:linear.planes] = np.repeat(linear.multipliers(), linear.group_slices // group_slices, axis=1)[:, :groups]
    return found


def _of_rows(multipliers: RowMultipliers, first: int, end: int) -> NDArray[np.int8]:
    """The multipliers of rows first to end - 1, which all have column groups of as many slices."""
    found, at = [], 0
    for rows, values in multipliers:
        if max(first, at) < min(end, at + rows):
            assert values is not None
            found.append(values[..., max(first - at, 0):end - at])
        at += rows
    return np.concatenate(found, axis=2)


def _bias(linear: Linear) -> NDArray[np.float16]:
    return np.full(linear.shape[0], NO_BIAS, np.uint16).view(np.float16) if linear.bias is None else linear.bias


def is_stored(scale: Scale) -> bool:
    """Whether a row's word holds a scale exactly."""
    return unpack16(pack16(scale)) == scale


def tiles(matrix: Matrix, tiling: Tiling) -> list[Tile]:
    """The tiles of a matrix; those of the last run, or of all runs that are taken together, get smaller.

    Linears with as many planes, and column groups of as many slices, are taken together, in tiles whose rows have words of their
    own where their scales differ, if the rows have biases, or if scales change within one of the linears and that costs less
    than tiles that end with their scales.
    """
    found: list[Tile] = []
    sections = [tuple(section) for _, section in groupby(
        matrix.runs, lambda run: (run.planes, run.unit, run.group_slices))]
    for section in sections:
        least = tiling.least if section is sections[-1] else 0
        by_runs = [Tile(run.header(rows)) for run in section
                   for _, rows in tile_rows(run.end - run.first, run.unit, most=tiling.most,
                                            least=least if run is section[-1] else 0)]
        if matrix.bias is not None and tiling.row_words:
            found += _together(section, tiling, least, matrix.bias.view(np.uint16))
        elif tiling.row_words and len(section) > len({run.part for run in section}) and all(
                is_stored(scale) for run in section for scale in (run.even, run.odd)):
            found += min(by_runs, _together(section, tiling, least),
                         key=lambda made: sum(_cost(tile, matrix.cols, tiling.built) for tile in made))
        else:
            found += by_runs
    return found


def _together(section: Sequence[Run], tiling: Tiling, least: int, bias: NDArray[np.uint16] | None = None) -> list[Tile]:
    """Tiles of some runs, whose rows have words where they do not share one even and one odd scale, or where there are biases."""
    start, end = section[0].first, section[-1].end
    stored = np.empty(end - start, np.uint32)
    for run in section:
        stored[run.first - start:run.end - start:2], stored[run.first - start + 1:run.end - start:2] = map(pack16, run[2:4])
    shift = ROW_WORD_FIELDS["scale"]
    high = np.full_like(stored, NO_BIAS) if bias is None else bias[start:end].astype(np.uint32)
    words = (stored | high << shift).astype(np.uint32)
    made, inside = [], iter(section)
    run = next(inside)
    for first, rows in tile_rows(end - start, section[0].unit, most=tiling.most, least=least):
        while run.end <= start + first:
            run = next(inside)
        own = stored[first:first + rows].reshape(-1, 2)
        if bias is None and (own == own[0]).all():
            made.append(Tile(run.header(rows)))
        else:
            made.append(Tile(run.header(rows, row_words=True), words[first:first + rows]))
    return made


def _size(tile: Tile, cols: int, rows: int) -> int:
    """Bytes of a tile, with so many rows in its planes."""
    header = tile.header
    groups = groups_of(cols, header.group_slices) if header.group_slices else 0
    return (8 + header.row_words * ROW_WORD_BYTES * header.rows
            + header.planes * (8 * groups * multiplier_words(header.rows) + slices(cols) * rows * SLICE_BYTES))


def _cost(tile: Tile, cols: int, built: int) -> int:
    """Bytes that the memory could bring while a tile runs: one in which tables are not built in time runs as long as one of
    ``built`` rows."""
    return _size(tile, cols, max(tile.header.rows, built))


def pack_linear(matrix: Matrix, tiling: Tiling) -> Part:
    """The tiles of a matrix in the order of :mod:`tellme.spec.packing`."""
    return pack_tiles(matrix, tiles(matrix, tiling))


def pack_tiles(matrix: Matrix, made: Sequence[Tile]) -> Part:
    """The bytes of a matrix's tiles."""
    def pieces() -> Iterator[bytes | NDArray]:
        multipliers = [] if matrix.multipliers is None else matrix.multipliers()
        first = 0
        for tile, rows in zip(made, matrix.rows([tile.header.rows for tile in made]), strict=True):
            header = tile.header
            yield header.pack().to_bytes(8, "little")
            if tile.words is not None:
                yield tile.words.astype("<u4")
            if header.group_slices:
                padding = MULTIPLIERS_A_WORD * multiplier_words(header.rows) - header.rows
                own = np.ascontiguousarray(
                    np.pad(_of_rows(multipliers, first, first + header.rows), ((0, 0), (0, 0), (0, padding))))
            for plane in reversed(range(header.planes)):
                # (row, slice) -> (slice, row), where an element is the bytes of a slice.
                content = np.ascontiguousarray(np.ascontiguousarray(rows[:, plane]).view(f"<u{SLICE_BYTES}").T)
                if header.group_slices:
                    for group, at in enumerate(range(0, len(content), header.group_slices)):
                        yield own[plane, group]
                        yield content[at:at + header.group_slices]
                else:
                    yield content
            first += header.rows

    return Part(sum(_size(tile, matrix.cols, tile.header.rows) for tile in made), pieces)


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
