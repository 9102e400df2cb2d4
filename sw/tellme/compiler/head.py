# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head as tiles of the engine: an int8 table in balanced ternary, and the probe of a head on the host.

A tile has the fewest planes that hold its rows' codes, so that a table's bytes follow from its codes: it is read once for them,
some rows at a time, and again when its bytes are taken.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import tee

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.pack import Matrix, Tile, pack_tiles
from tellme.compiler.part import Part
from tellme.models.source import TableRows, regroup
from tellme.spec.packing import (
    NO_BIAS,
    ROW_WORD_BYTES,
    ROW_WORD_FIELDS,
    SLICE,
    SLICE_BYTES,
    TRITS,
    TileHeader,
    plane_reach,
    planes_for,
    slices,
    tile_rows,
)
from tellme.spec.scale import ZERO, Scale

__all__ = ["HeadTiles", "head_bytes", "head_rows", "pack_planes", "pack_probe_tiles"]

#: Gives an int8 table anew each time, some rows at a time.
Table = Callable[[], Iterable[TableRows]]


def head_rows(vocab: int) -> int:
    """Rows of the LM head's matrix: those of the vocabulary, and a row of zeros if they are odd."""
    return vocab + vocab % 2


def head_bytes(vocab: int, dim: int, planes: int, most: int) -> int:
    """Bytes of a head of ``vocab`` rows whose tiles all have so many planes, and up to ``most`` rows."""
    rows = head_rows(vocab)
    return 8 * -(-rows // most) + ROW_WORD_BYTES * rows + planes * slices(dim) * SLICE_BYTES * rows


class HeadTiles:
    """An int8 table (vocab, dim) as tiles of up to ``most`` rows, with a word of each row.

    ``table`` is read once, when the tiles are first wanted, and again when their bytes are taken.
    """

    def __init__(self, table: Table, vocab: int, dim: int, most: int):
        self._table, self._dim, self._odd = table, dim, vocab % 2
        self._rows = [rows for _, rows in tile_rows(head_rows(vocab), most=most)]
        #: Bytes with one plane: no table takes fewer.
        self.least = head_bytes(vocab, dim, 1, most)

    @cached_property
    def tiles(self) -> list[Tile]:
        """The tiles; each has the fewest planes that hold its codes."""
        made = []
        for rows, part in zip(self._rows, self._parts(), strict=True):
            words = np.full(rows, NO_BIAS << ROW_WORD_FIELDS["scale"], np.uint32)
            words[:len(part.scales)] |= part.scales
            planes = planes_for(max(int(part.codes.max()), -int(part.codes.min())))
            made.append(Tile(TileHeader(ZERO, rows, ZERO, planes, row_words=True), words))
        return made

    @property
    def planes(self) -> int:
        """Planes of a tile at most."""
        return max(tile.header.planes for tile in self.tiles)

    @property
    def trits(self) -> int:
        """Trits of the table: a code has one in each plane of its tile."""
        rows = sum(tile.header.planes * tile.header.rows for tile in self.tiles)
        return self._dim * (rows - self._odd * self.tiles[-1].header.planes)

    def part(self) -> Part:
        """The tiles' bytes."""
        return pack_tiles(Matrix(lambda counts: self._packed(), self._dim, ()), self.tiles)

    def upper_part(self) -> Part:
        """The same tiles without the plane of 3**0: those of the first of two steps.  A tile of that plane alone gets one of
        zeros."""
        made = [Tile(tile.header._replace(planes=max(1, tile.header.planes - 1)), tile.words) for tile in self.tiles]
        return pack_tiles(Matrix(lambda counts: (rows[:, 1:] for rows in self._packed(least=2)), self._dim, ()), made)

    def low_rows(self) -> Part:
        """The plane of 3**0 row by row, each in whole slices (:func:`tellme.spec.two_steps.low_row_words`)."""
        return Part(SLICE_BYTES * slices(self._dim) * sum(self._rows),
                    lambda: (np.ascontiguousarray(rows[:, 0]) for rows in self._packed()))

    def _packed(self, least: int = 1) -> Iterator[NDArray[np.uint8]]:
        """The rows of each tile, with ``least`` planes at least."""
        for tile, (codes, _) in zip(self.tiles, self._parts(), strict=True):
            if len(codes) < tile.header.rows:
                codes = np.concatenate([codes, np.zeros((1, self._dim), np.int8)])
            yield pack_planes(codes, max(least, tile.header.planes))

    def _parts(self) -> Iterator[TableRows]:
        """The table's rows of each tile."""
        counts = [*self._rows[:-1], self._rows[-1] - self._odd]
        one, other = tee(self._table())
        for pair in zip(regroup((part.codes for part in one), counts), regroup((part.scales for part in other), counts),
                        strict=True):
            yield TableRows(*pair)


def pack_probe_tiles(dim: int, scale: Scale, *, most: int) -> Part:
    """The probe (:mod:`tellme.spec.probe`): the identity as tiles of one plane, with one scale."""
    made = [Tile(TileHeader(scale, rows, scale)) for _, rows in tile_rows(dim, most=most)]

    def rows(counts: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        first = 0
        for count in counts:
            yield pack_planes(np.eye(count, dim, first, dtype=np.int8), 1)
            first += count

    return pack_tiles(Matrix(rows, dim, ()), made)


def pack_planes(codes: NDArray[np.int8], planes: int) -> NDArray[np.uint8]:
    """Rows of codes as base-3 bytes in balanced ternary, padded to whole slices: (rows, planes, bytes), the plane of 3**0 first.

    The codes are up to (3**planes - 1) / 2 in magnitude.
    """
    rows, cols = codes.shape
    padded = np.zeros((rows, slices(cols) * SLICE), np.uint8)
    padded[:, :cols] = codes.view(np.uint8)
    grouped, digits = padded.reshape(rows, -1, TRITS), _digits(planes)
    # A byte of each word for each plane: 3 * byte + digit stays below 3**TRITS.
    words = digits[grouped[..., TRITS - 1]]
    for j in range(TRITS - 2, -1, -1):
        words *= np.uint64(3)
        words += digits[grouped[..., j]]
    return words.view(np.uint8).reshape(rows, -1, 8)[..., :planes].transpose(0, 2, 1)


@cache
def _digits(planes: int) -> NDArray[np.uint64]:
    """Of each byte as an int8 code: the trits + 1 of its planes, a byte for each."""
    code = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64) + plane_reach(planes)
    digits = np.zeros((256, 8), np.uint8)
    digits[:, :planes] = code[:, None] // 3 ** np.arange(planes) % 3
    return digits.view("<u8").reshape(256)
