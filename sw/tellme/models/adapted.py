# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model with an adapter: some matrices are W + B A, coded anew.

A merged row becomes integers in balanced ternary with a scale of its own: its largest weight over (3**planes - 1) / 2, rounded to
a scale.  So a weight is off by at most half of that.  A matrix gets the fewest planes at which that costs at most a quarter of
what the adapter changes, both as root mean squares, and five where none do.

The compiler puts the merged stream behind the model's own (:func:`tellme.compiler.image.place_model`), so that a board keeps the
model's weights: loading sends the merged stream alone, and going back to the model sends no weights.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.models.importers.grouped import rounded_scales
from tellme.models.importers.levels import coded
from tellme.models.source import Linear, StoredSource, TableRows
from tellme.spec.packing import MAX_LINEAR_PLANES, SLICE, plane_reach

__all__ = ["Adapted", "Change", "weights_of"]

#: The coding's error, of the adapter's change, both as root mean squares.
_SHARE = 0.25


class Change(NamedTuple):
    """What is added to a matrix: ``b @ a``, (rows, r) and (r, columns), rows in the matrix's order."""

    b: NDArray[np.float64]
    a: NDArray[np.float64]


def weights_of(linear: Linear) -> Iterator[NDArray[np.float64]]:
    """The weights of a stored linear, in chunks of rows."""
    scales = np.concatenate([np.full(block.rows, float(block.scale.value())) for block in linear.blocks()])
    worth, reach, first = None, plane_reach(linear.planes), 0
    if linear.multipliers is not None:
        worth = np.repeat(linear.multipliers().astype(np.float64), SLICE * linear.group_slices, axis=1)[:, :linear.shape[1]]
    for codes in linear.chunks():
        rows = slice(first, first + len(codes))
        values = codes.astype(np.float64)
        if worth is not None:
            digits = codes.astype(np.int64) + reach
            values = np.zeros(codes.shape)
            for plane in range(linear.planes):
                values += (digits // 3**plane % 3 - 1) * worth[plane, :, rows].T
        yield values * scales[rows, None]
        first += len(codes)


class Adapted(StoredSource):
    """``base`` with changes of some matrices, by (layer, name)."""

    def __init__(self, base: StoredSource, changes: Mapping[tuple[int, str], Change]):
        self.base, self.config = base, base.config
        self.name, self.license, self.path = base.name, base.license, base.path
        self.tokenizer, self.chat_template = base.tokenizer, base.chat_template
        self._changes = {at: change for at, change in changes.items() if (change.b != 0).any() and (change.a != 0).any()}
        self.planes = {at: self._fewest(*at) for at in self._changes}

    def _merged(self, layer: int, name: str) -> Iterator[NDArray[np.float64]]:
        change, first = self._changes[layer, name], 0
        for values in weights_of(self.base.linear(layer, name)):
            yield values + change.b[first:first + len(values)] @ change.a
            first += len(values)

    def _fewest(self, layer: int, name: str) -> int:
        """Planes of a merged matrix."""
        change = self._changes[layer, name]
        errors = np.zeros(MAX_LINEAR_PLANES)
        for values in self._merged(layer, name):
            for planes in range(1, MAX_LINEAR_PLANES + 1):
                codes, steps = _coded(values, planes)
                errors[planes - 1] += np.square(codes * steps[:, None] - values).sum()
        # The square of the change's norm, without the change itself.
        size = float(((change.b.T @ change.b) * (change.a @ change.a.T)).sum())
        good = np.flatnonzero(errors <= _SHARE**2 * size)
        return int(good[0]) + 1 if good.size else MAX_LINEAR_PLANES

    def linear(self, layer: int, name: str) -> Linear:
        base = self.base.linear(layer, name)
        if (layer, name) not in self._changes:
            return base
        planes = self.planes[layer, name]
        merged = coded(f"layers.{layer}.{name}", base.shape, planes,
                       lambda: (_coded(values, planes) for values in self._merged(layer, name)), bias=base.bias)

        def blocks() -> tuple:
            for _ in merged.chunks():
                pass
            return merged.blocks()

        return Linear(merged.shape, merged.chunks, blocks, merged.bias, planes=planes)

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        return self.base.gain(layer, name)

    def final_norm(self) -> NDArray[np.float16] | None:
        return self.base.final_norm()

    def table(self, name: str) -> Iterator[TableRows]:
        return self.base.table(name)

    def rows(self, name: str, ids: NDArray[np.intp]) -> TableRows:
        return self.base.rows(name, ids)

    def check(self) -> None:
        self.base.check()


def _coded(values: NDArray[np.float64], planes: int) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Integers that so many planes hold, and what 1 is worth in each row."""
    reach = plane_reach(planes)
    top = np.abs(values).max(axis=1)
    steps = rounded_scales(np.where(top == 0, 1, top) / reach)
    codes = np.clip(np.rint(values / steps[:, None]), -reach, reach).astype(np.int8)
    return codes, np.where(top == 0, 0, steps)
