# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Matrices that stay packed: rows become floats when they are multiplied with, and are kept as floats only within a budget."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS, slices

__all__ = ["KEPT_BYTES", "Budget", "Floats", "TernaryMatrix", "joined"]

#: Bytes of floats that a golden board, or an LM head on the host, keeps.
KEPT_BYTES = 1 << 28
#: The five weights of each byte, as one element of 20 bytes.
_TRITS = np.ascontiguousarray((np.arange(256)[:, None] // 3 ** np.arange(TRITS) % 3 - 1).astype(np.float32)
                              ).view(f"V{4 * TRITS}").reshape(256)

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


def joined(parts: list[NDArray[Item]]) -> NDArray[Item]:
    """Columns side by side; one part is itself."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class TernaryMatrix(Floats):
    """A linear from its packed tiles: (slices, rows) of 32-bit words each, of bytes that are all base-3 codes."""

    def __init__(self, tiles: Sequence[NDArray[np.uint32]], cols: int, budget: Budget):
        # A sum of products of int8 codes is below 128 * cols.
        dtype: type[np.floating] = np.float32 if cols * 128 <= 1 << 24 else np.float64
        super().__init__((sum(tile.shape[1] for tile in tiles), cols), dtype,
                         lambda: (unpacked(tile, cols).astype(dtype, copy=False) for tile in tiles), budget)


def unpacked(tile: NDArray[np.uint32], cols: int) -> NDArray[np.float32]:
    """The rows of a tile, without the padding."""
    packed = np.ascontiguousarray(tile.T).view(np.uint8)
    assert packed.shape[1] == slices(cols) * SLICE_BYTES
    rows: NDArray[np.float32] = _TRITS.take(packed, mode="clip").view(np.float32).reshape(len(packed), slices(cols) * SLICE)
    return rows[:, :cols]
