# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Linears from floats that take few values in each row or column group, whatever tool wrote them.

What is found, in this order, by reading the whole matrix once:

- *one magnitude a row* (BitNet, TriLM): :func:`tellme.models.importers.ternary.from_values`;
- *two magnitudes a row, one three times the other* (SEQ of AngelSlim and ParetoQ, written out as floats): two tied planes.  The
  larger one may be off from three times the smaller by its rounding to bfloat16, 2**-8, and becomes three times the smaller;
- *one positive and one negative magnitude a row* (TTQ): w = a [w > 0] - b [w < 0], two planes with multipliers;
- *one magnitude a row and column group* of equal width (Ternary Bonsai, Sherry, TriLM whose scales are of column blocks): one
  plane with multipliers, or two (:mod:`tellme.models.importers.grouped`).

Read: TTQ's pair of trained scales a matrix, czhu95/ternarynet, examples/Ternary-Net/ternary.py (``tw_ternarize``: w_p, w_n).
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelError
from tellme.models.importers import ternary
from tellme.models.importers.grouped import Part, grouped
from tellme.models.importers.tensors import Tensors
from tellme.models.importers.ternary import FloatWeightsError, halves_to_pairs, not_ternary, row_blocks
from tellme.models.source import Linear, row_chunks
from tellme.spec.packing import SLICE

__all__ = ["coded", "float_parts", "from_groups", "from_values", "group_parts", "group_width"]

Rows = NDArray[np.float32]

#: Rows, spread over the matrix, of which one magnitude each says that the matrix has no more.
_SAMPLE = 64
#: Rounding of a number to bfloat16, and of a third of it.
_NEAR_THREE = 2**-8


def from_values(tensors: Tensors, name: str, *, head_dim: int = 0, times: float = 1.0,
                bias: NDArray[np.float16] | None = None) -> Linear:
    """A linear from floats; ``times`` multiplies them.  ``head_dim`` other than 0: RoPE's halves become adjacent pairs.

    Values that fit none of this module's forms are a FloatWeightsError.
    """
    rows, cols = tensors.shape(name)
    sample = {int(row) for row in np.linspace(0, rows - 1, min(rows, _SAMPLE))}
    if all(_one_magnitude(_row_of(tensors, name, row), cols).all() for row in sample):
        return ternary.from_values(tensors, name, head_dim=head_dim, times=times, bias=bias)

    def parts() -> Iterator[Rows]:
        return float_parts(tensors, name, head_dim)

    widths = _widths(cols)
    three = pair = True
    for part in parts():
        three = three and _is_three(part)
        pair = pair and _is_pair(part)
        widths = _narrowed(widths, part)
    if three and widths[:1] != [cols]:
        return coded(name, (rows, cols), 2, lambda: map(_three, parts()), times, bias)
    if pair and widths[:1] != [cols]:
        return grouped(name, (rows, cols), 2, cols, lambda: (_pair(part, times) for part in parts()), bias)
    if not widths:
        raise next(not_ternary(name, row) for part in parts() for row in part if not _one_magnitude(row[None], cols).all())
    return from_groups(tensors, name, widths[0], head_dim=head_dim, times=times, bias=bias)


def from_groups(tensors: Tensors, name: str, width: int, *, head_dim: int = 0, times: float = 1.0,
                bias: NDArray[np.float16] | None = None) -> Linear:
    """A linear from floats of one magnitude in each row and group of ``width`` columns."""
    rows, cols = tensors.shape(name)
    return grouped(name, (rows, cols), 1, width, lambda: group_parts(tensors, name, width, head_dim=head_dim, times=times), bias)


def group_parts(tensors: Tensors, name: str, width: int, *, head_dim: int = 0, times: float = 1.0) -> Iterator[Part]:
    """The trits of such floats, and what they are worth.  Another row is a FloatWeightsError."""
    for part in float_parts(tensors, name, head_dim):
        top, low = _extremes(part, width)
        odd = np.flatnonzero(((top != low) & (top != 0)).any(axis=1))
        if odd.size:
            raise FloatWeightsError(f"{name} has more than one magnitude in a row's group of {width} columns, where matrices "
                                    "before it have one")
        yield Part(np.sign(part).astype(np.int8)[None], (top.astype(np.float64) * times).T[None])


def group_width(tensors: Tensors, name: str) -> int | None:
    """The widest column groups in which the rows of a matrix have one magnitude each; None: it has no such groups."""
    widths = _widths(tensors.shape(name)[1])
    for part in float_parts(tensors, name, 0):
        widths = _narrowed(widths, part)
        if not widths:
            return None
    return widths[0]


def _widths(cols: int) -> list[int]:
    """Widths of equal groups of at least a slice, the widest first."""
    return [width for width in range(cols, SLICE - 1, -1) if not cols % width]


def _narrowed(widths: list[int], part: Rows) -> list[int]:
    """Those of some widths in whose groups these rows have one magnitude; a width that divides such a width is one."""
    found: list[int] = []
    for width in widths:
        if any(not wider % width for wider in found) or _one_magnitude(part, width).all():
            found.append(width)
    return found


def float_parts(tensors: Tensors, name: str, head_dim: int, kind: type[np.floating] = np.float32) -> Iterator[NDArray]:
    """Rows as floats of a ``kind``, in the order of the linear."""
    rows, cols = tensors.shape(name)
    for first, end in row_chunks(rows, cols, head_dim or 1):
        part = tensors.rows(name, first, end).astype(kind)
        if not np.isfinite(part).all():
            raise ModelError(f"{name} holds an infinity or NaN")
        yield halves_to_pairs(part, head_dim) if head_dim else part


def coded(name: str, shape: tuple[int, int], planes: int, parts: Callable[[], Iterator[tuple[NDArray[np.int8], NDArray]]],
          times: float = 1.0, bias: NDArray[np.float16] | None = None) -> Linear:
    """A linear of tied planes from codes, and what a code of 1 is worth in each row (0 for a row of zeros)."""
    found: list[NDArray[np.float64]] = []

    def chunks() -> Iterator[NDArray[np.int8]]:
        found.clear()
        for codes, steps in parts():
            found.append(steps.astype(np.float64) * times)
            yield codes

    return Linear(shape, chunks, lambda: row_blocks(name, np.concatenate(found)), bias, planes=planes)



def _row_of(tensors: Tensors, name: str, row: int) -> Rows:
    return tensors.rows(name, row, row + 1).astype(np.float32)


def _extremes(part: Rows, width: int) -> tuple[Rows, Rows]:
    """The largest magnitude of each row and group, and the least that is not zero (infinity for zeros): (rows, groups)."""
    size = np.abs(part).reshape(len(part), -1, width)
    return size.max(axis=2), np.where(size == 0, np.inf, size).min(axis=2)


def _one_magnitude(part: Rows, width: int) -> NDArray[np.bool_]:
    """Whether each row and group has one magnitude, or zeros only."""
    top, low = _extremes(part, width)
    return (top == low) | (top == 0)


def _is_three(part: Rows) -> bool:
    top, low = _extremes(part, part.shape[1])
    size = np.abs(part)
    two = (size == 0) | (size == top) | (size == low)
    near = (top == 0) | (top == low) | (np.abs(top - 3 * low) <= _NEAR_THREE * top)
    return bool(two.all() and near.all())


def _three(part: Rows) -> tuple[NDArray[np.int8], NDArray]:
    """Codes of -3 to 3, and what 1 is worth."""
    top, low = _extremes(part, part.shape[1])
    codes = np.where((np.abs(part) == top) & (top != low), 3, 1) * np.sign(part)
    return codes.astype(np.int8), np.where(top == 0, 0, low)[:, 0]


def _sides(part: Rows) -> tuple[Rows, Rows]:
    """The positive and the negative weights' magnitudes, zeros elsewhere."""
    return np.maximum(part, 0), np.maximum(-part, 0)


def _is_pair(part: Rows) -> bool:
    return all(bool(_one_magnitude(side, part.shape[1]).all()) for side in _sides(part))


def _pair(part: Rows, times: float) -> Part:
    trits = np.stack([(part > 0).astype(np.int8), -(part < 0).astype(np.int8)])
    worth = np.stack([side.max(axis=1).astype(np.float64) * times for side in _sides(part)])
    return Part(trits, worth[:, None, :])
