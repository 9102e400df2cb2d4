# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Matrices that stay packed: rows are kept as floats only within a budget, and other rows become floats when they are multiplied
with.

Ternary rows beyond the budget are not unpacked to weights.  A byte has the digits w_j + 1 in base 3, j = 0..4.  Its plane k,
p_k = sum(w_j * 3**(j - k) for j >= k), is byte // 3**k less (3**(5 - k) - 1) / 2, and w_k = p_k - 3 * p_{k+1}.  So the product of
five weights with codes q_j is sum(p_k * r_k) where r_k = q_k - 3 * q_{k-1} and q_{-1} = 0: one division of bytes and one
multiplication of floats a weight.  Those planes are of a byte's digits; a matrix of several planes has such bytes in each of its
own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS, slices
from tellme.spec.program import FormatError
from tellme.spec.ranges import I32

__all__ = ["KEPT_BYTES", "Budget", "Floats", "TernaryMatrix", "Tile", "joined", "unpacked_rows"]

#: Bytes of floats that a golden board, or an LM head on the host, keeps.
KEPT_BYTES = 1 << 28
#: The five weights of each byte, as one element of 20 bytes.
_TRITS = np.ascontiguousarray((np.arange(256)[:, None] // 3 ** np.arange(TRITS) % 3 - 1).astype(np.float32)
                              ).view(f"V{4 * TRITS}").reshape(256)

#: Half of the codes of a byte that is divided by 3**k: what is subtracted from plane k.
_CENTRES = tuple((3 ** (TRITS - k) - 1) // 2 for k in range(TRITS))
#: Magnitude of a byte's part of a product at most: |q_j| <= 128, |r_0| <= 128, and the other |r_k| <= 512.
_BYTE_SUM = 128 * _CENTRES[0] + 512 * sum(_CENTRES[1:])
#: Bytes of a row that are multiplied at once.  All terms are integers, and the sum of their magnitudes is at most 2**24, so each
#: partial sum is exact in float32 in whatever order BLAS adds.
_EXACT_BYTES = (1 << 24) // _BYTE_SUM

Float = NDArray[np.floating]
Item = TypeVar("Item", bound=np.generic)


class Budget:
    """Bytes of floats that may be kept.  A program uses its matrices in turn, so the first matrices that fit are kept for
    good."""

    def __init__(self, limit: int = KEPT_BYTES):
        self.remaining = limit

    def reserve(self, size: int) -> bool:
        """Take ``size`` bytes if they are left; returns whether they were."""
        if size > self.remaining:
            return False
        self.remaining -= size
        return True


class Floats:
    """A matrix of ``shape`` (rows, cols) as floats of ``dtype``.

    ``blocks`` makes some rows after the other; a matrix that the budget has room for is made once, at the first use, and is one
    block from then on.
    """

    def __init__(self, shape: tuple[int, int], dtype: type[np.floating], blocks: Callable[[], Iterable[Float]], budget: Budget):
        self.shape, self.dtype = shape, dtype
        self._blocks = blocks
        self._keep = budget.reserve(shape[0] * shape[1] * np.dtype(dtype).itemsize)
        self._kept: Float | None = None

    @property
    def kept_bytes(self) -> int:
        """Bytes of floats that are held now."""
        return 0 if self._kept is None else self._kept.nbytes

    def blocks(self) -> Iterator[tuple[slice, Float]]:
        """Which rows, and the rows."""
        if self._keep and self._kept is None:
            self._kept = np.concatenate(list(self._blocks()))
        at = 0
        for block in self._blocks() if self._kept is None else (self._kept,):
            yield slice(at, at + len(block)), block
            at += len(block)

    def product(self, codes: NDArray[np.int8]) -> NDArray[np.int64]:
        """codes (n, cols) @ matrix.T, exactly: no sum of products passes what ``dtype`` holds."""
        q = codes.astype(self.dtype)
        return joined([(q @ block.T).astype(np.int64) for _, block in self.blocks()])


def unpacked_rows(packed: NDArray[np.uint8], cols: int) -> NDArray[np.int8]:
    """Trits (rows, cols) of rows of base-3 bytes (rows, bytes)."""
    return _TRITS[packed].view(np.float32).reshape(len(packed), -1)[:, :cols].astype(np.int8)


def joined(parts: list[NDArray[Item]]) -> NDArray[Item]:
    """Columns side by side; one part is itself."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class Tile(NamedTuple):
    """Some rows of a linear.

    A plane is (slices, rows) of 32-bit words, of bytes that are all base-3 codes.  The highest plane comes first, and each is
    added to three times the sum of those before it, or with ``free`` to the sum.  ``multipliers`` (planes, groups, rows), or
    nothing: of each plane, column group of ``group_slices`` slices, and row.
    """

    planes: Sequence[NDArray[np.uint32]]
    free: bool = False
    group_slices: int = 0
    multipliers: NDArray[np.int8] | None = None

    @property
    def rows(self) -> int:
        return self.planes[0].shape[1]

    @property
    def reach(self) -> int:
        """Size of a weight at most: of each row by the largest multiplier of each plane."""
        reach = np.zeros(self.rows, int)
        for number in range(len(self.planes)):
            reach *= self.step
            reach += 1 if self.multipliers is None else np.abs(self.multipliers[number].astype(int)).max(axis=0)
        return int(reach.max())

    @property
    def step(self) -> int:
        """What a plane's weights are worth in the next one."""
        return 1 if self.free else 3


class TernaryMatrix(Floats):
    """A linear from its packed tiles, whose planes of trits make up integer weights.

    Tiles with sums that an int32 may not hold are a FormatError: the engine's sums would wrap.
    """

    def __init__(self, tiles: Sequence[Tile], cols: int, budget: Budget):
        # A sum of products of int8 codes is at most 128 * cols times the largest weight.
        sums = 128 * cols * max(tile.reach for tile in tiles)
        if sums > I32.most:
            raise FormatError(f"a sum of {cols} columns is up to {sums}, and the sums of the engine are up to {I32.most}")
        dtype: type[np.floating] = np.float32 if sums <= 1 << 24 else np.float64
        super().__init__((sum(tile.rows for tile in tiles), cols), dtype,
                         lambda: (unpacked(tile, cols).astype(dtype, copy=False) for tile in tiles), budget)
        self._tiles = tiles

    def product(self, codes: NDArray[np.int8]) -> NDArray[np.int64]:
        if self._keep:
            return super().product(codes)
        tokens, cols = codes.shape
        width = slices(cols) * SLICE_BYTES
        q = np.zeros((tokens, width * TRITS), np.float32)
        q[:, :cols] = codes
        grouped = q.reshape(tokens, width, TRITS)
        turned = grouped.copy()
        turned[..., 1:] -= 3 * grouped[..., :-1]
        factors: dict[int, list[tuple[int, slice, NDArray[np.float32]]]] = {}
        out = np.empty((tokens, self.shape[0]), np.int64)
        at = 0
        for tile in self._tiles:
            if tile.group_slices not in factors:
                # (plane, byte) of each token, for each run of bytes.
                factors[tile.group_slices] = [
                    (group, cut, np.ascontiguousarray(turned[:, cut].transpose(2, 1, 0)).reshape(-1, tokens))
                    for group, cut in _cuts(width, tile.group_slices * SLICE_BYTES or width)]
            rows = slice(at, at + tile.rows)
            total = np.zeros((tile.rows, tokens), np.int64)
            for number, plane in enumerate(tile.planes):
                packed = np.ascontiguousarray(plane.T).view(np.uint8)
                total *= tile.step
                for group, cut, factor in factors[tile.group_slices]:
                    part = (planes(packed[:, cut]) @ factor).astype(np.int64)
                    total += part if tile.multipliers is None else part * tile.multipliers[number, group][:, None]
            out[:, rows] = total.T
            at = rows.stop
        return out


def _cuts(width: int, group: int) -> Iterator[tuple[int, slice]]:
    """Runs of bytes of a row that are multiplied at once, each with the number of its group of ``group`` bytes."""
    for number, first in enumerate(range(0, width, group)):
        end = min(first + group, width)
        for at in range(first, end, _EXACT_BYTES):
            yield number, slice(at, min(at + _EXACT_BYTES, end))


def planes(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The five planes of bytes (rows, n), side by side: (rows, 5 * n)."""
    rows, n = packed.shape
    out = np.empty((rows, TRITS, n), np.float32)
    for k, centre in enumerate(_CENTRES):
        # -121..121: the difference of bytes is right as int8.
        out[:, k] = (packed - np.uint8(centre)).view(np.int8)
        packed = packed // np.uint8(3)
    return out.reshape(rows, -1)


def unpacked(tile: Tile, cols: int) -> NDArray[np.float32]:
    """The weights of a tile's rows, without the padding: integers of at most ``tile.reach``."""
    weights: NDArray[np.float32] | None = None
    for number, plane in enumerate(tile.planes):
        packed = np.ascontiguousarray(plane.T).view(np.uint8)
        assert packed.shape[1] == slices(cols) * SLICE_BYTES
        trits: NDArray[np.float32] = _TRITS.take(packed, mode="clip").view(np.float32).reshape(len(packed), slices(cols) * SLICE)
        trits = trits[:, :cols]
        if tile.multipliers is not None:
            trits = trits * np.repeat(tile.multipliers[number], tile.group_slices * SLICE, axis=0)[:cols].T
        weights = trits if weights is None else tile.step * weights + trits
    assert weights is not None
    return weights
