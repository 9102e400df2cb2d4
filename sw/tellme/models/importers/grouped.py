# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Ternary planes whose trits are worth a number of their own in each row and column group, as linears with multipliers.

    w[r, c] = sum over planes p of worth[p, group of c, r] * trit[p, r, c]

A linear of the engine has column groups of whole slices of 20 columns (docs/decisions/0017-planes.md).  A checkpoint's groups
are mostly of 64 or 128 columns.  Three ways, of which :class:`Geometry` takes the first that fits:

- *whole*: the checkpoint's groups are whole slices, or there is one group.  Each plane is a plane.
- *split*: each plane becomes two, one with the columns of even groups and one with those of odd groups.  Column groups of the
  linear are as many slices as never touch more than two groups: 3 for groups of 64 columns, 6 for 128, 12 for 256.  The trits
  stay as they are, so that only the multipliers are rounded.  The linear has twice the planes.
- *recode*: where the linear would have more than MAX_LINEAR_PLANES planes.  A slice in which a group ends is coded anew as
  integers in balanced ternary; a code is off by at most half a step, which is the slice's largest weight over
  (3**planes - 1) / 2.  Other slices keep their trits.

A multiplier is an integer of 8 bits.  A row's scale is one of 64 (the row's largest number over 64 to 127, rounded to a stored
scale), that with the least sum of squared errors, so that a number is off by at most half a step: 1/128 of the row's largest.
A row whose numbers are all the same, or powers of two of it, is exact if the number is one that a scale holds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelError
from tellme.models.importers.ternary import row_blocks
from tellme.models.source import Linear
from tellme.spec.packing import MAX_LINEAR_PLANES, SLICE, TILE_HEADER_GROUP_SLICES, groups_of, plane_reach, slices
from tellme.spec.ranges import I8
from tellme.spec.scale import SCALE_SIG_BITS

__all__ = ["Geometry", "Part", "grouped", "rounded_scales"]

#: The numbers by which a row's largest is divided, of which one makes the row's scale.
_STEPS = range(64, I8.most + 1)


class Part(NamedTuple):
    """Some rows: trits, int8 (planes, rows, columns), and what they are worth, (planes, groups, rows)."""

    trits: NDArray[np.int8]
    worth: NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """How planes with groups of ``width`` columns become planes of a linear; the last group may be narrower."""

    cols: int
    planes: int
    width: int

    @property
    def groups(self) -> int:
        """Groups of the checkpoint."""
        return -(-self.cols // self.width)

    @property
    def way(self) -> str:
        """"whole", "split" or "recode"."""
        if self.groups == 1 or not self.width % SLICE:
            return "whole"
        return "split" if 2 * self.planes <= MAX_LINEAR_PLANES and self.width >= SLICE else "recode"

    @property
    def linear_planes(self) -> int:
        """Planes of the linear."""
        return 2 * self.planes if self.way == "split" else self.planes

    @cached_property
    def group_slices(self) -> int:
        """Slices of a column group of the linear."""
        if self.way == "recode":
            return 1
        most = min(self.width // SLICE if self.groups > 1 else slices(self.cols), TILE_HEADER_GROUP_SLICES.most)
        allowed = 2 if self.way == "split" else 1
        return next(n for n in range(most, 0, -1) if all(last - first < allowed for first, last in self._touched(n)))

    def _touched(self, group_slices: int) -> Iterator[tuple[int, int]]:
        """The first and the last of the checkpoint's groups in each column group of so many slices."""
        for first in range(0, self.cols, group_slices * SLICE):
            yield first // self.width, (min(first + group_slices * SLICE, self.cols) - 1) // self.width

    def part(self, part: Part) -> Part:
        """Rows in the planes and groups of the linear."""
        touched = list(self._touched(self.group_slices))
        if self.way == "split":
            odd = np.arange(self.cols) // self.width % 2 == 1
            trits = np.concatenate([part.trits * ~odd, part.trits * odd])
            # Of the one or two groups in a column group, the even one and the odd one.
            even, odds = ([next((g for g in pair if g % 2 == parity), pair[0]) for pair in touched] for parity in (0, 1))
            return Part(trits, np.concatenate([part.worth[:, even], part.worth[:, odds]]))
        worth = part.worth[:, [first for first, _ in touched]]
        if self.way == "recode":
            trits, worth = part.trits.copy(), worth.copy()
            for number, (first, last) in enumerate(touched):
                if first != last:
                    self._recode(part, trits, worth, number)
            return Part(trits, worth)
        return Part(part.trits, worth)

    def _recode(self, part: Part, trits: NDArray[np.int8], worth: NDArray[np.float64], number: int) -> None:
        """A slice in which a group ends, as integers of all planes."""
        at = np.arange(number * SLICE, min((number + 1) * SLICE, self.cols))
        values = (part.trits[:, :, at] * part.worth[:, at // self.width].transpose(0, 2, 1)).sum(axis=0)
        reach = plane_reach(self.planes)
        step = np.abs(values).max(axis=1) / reach
        codes = np.rint(values / np.where(step == 0, 1, step)[:, None]).astype(np.int64) + reach
        for plane in range(self.planes):
            trits[plane][:, at] = codes // 3**plane % 3 - 1
            worth[plane, number] = step * 3**plane


def rounded_scales(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positive numbers as scales hold them."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, SCALE_SIG_BITS)), exponent - SCALE_SIG_BITS))


def _fitted(worth: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """A scale for each row (0 where the row is zeros), and int8 multipliers (planes, groups, rows)."""
    top = np.abs(worth).max(axis=(0, 1))
    known = np.where(top == 0, 1, top)
    best, least = np.zeros_like(top), np.full_like(top, np.inf)
    for step in _STEPS:
        scale = rounded_scales(known / step)
        error = np.square(np.clip(np.rint(worth / scale), I8.least, I8.most) * scale - worth).sum(axis=(0, 1))
        better = error < least
        best[better], least[better] = scale[better], error[better]
    multipliers = np.clip(np.rint(worth / best), I8.least, I8.most).astype(np.int8)
    return np.where(top == 0, 0, best), multipliers



def grouped(name: str, shape: tuple[int, int], planes: int, width: int, parts: Callable[[], Iterator[Part]],
            bias: NDArray[np.float16] | None = None) -> Linear:
    """A linear from planes whose trits are worth a number in each row and group of ``width`` columns.

    ``parts`` gives all rows, from the first on.  More planes than a linear can have are a ModelError.
    """
    geometry = Geometry(shape[1], planes, width)
    if geometry.linear_planes > MAX_LINEAR_PLANES:
        raise ModelError(f"{name} has {planes} planes; {MAX_LINEAR_PLANES} are the most")
    scales: list[NDArray[np.float64]] = []
    multipliers: list[NDArray[np.int8]] = []

    def chunks() -> Iterator[NDArray[np.int8]]:
        scales.clear()
        multipliers.clear()
        for given in parts():
            part = geometry.part(given)
            row_scales, numbers = _fitted(part.worth)
            scales.append(row_scales)
            multipliers.append(numbers)
            codes = np.zeros(part.trits.shape[1:], np.int8)
            for trits in part.trits[::-1]:
                codes *= 3
                codes += trits
            yield codes

    def worth() -> NDArray[np.int8]:
        values = np.concatenate(multipliers, axis=2)
        assert values.shape[1] == groups_of(shape[1], geometry.group_slices)
        return values

    return Linear(shape, chunks, lambda: row_blocks(name, np.concatenate(scales)), bias, planes=geometry.linear_planes,
                  group_slices=geometry.group_slices, multipliers=worth)
