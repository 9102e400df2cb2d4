# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The quantised model as a source, which a container is written from."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tellme.models.int8 import int8_rows, table_code
from tellme.models.source import Block, Linear, Source, TableRows
from tellme.quantise.layers import FloatModel, Matrix
from tellme.quantise.work import Work
from tellme.spec.packing import SLICE, plane_reach
from tellme.spec.ranges import I8
from tellme.spec.scale import unpack16

__all__ = ["Quantised", "code_of"]


def code_of(model: FloatModel, name: str, head_planes: int | None) -> int:
    """The largest code of a table; ``head_planes``: planes of the LM head at most, or None for what an import takes."""
    most = table_code(model.config, name)
    if head_planes is None or (name == "embedding" and not model.config.tied):
        return most
    return min(plane_reach(head_planes), int(I8.most))


class Quantised(Source):
    """The matrices that are solved, and all else of a float model."""

    def __init__(self, model: FloatModel, work: Work, head_planes: int | None = None):
        self.config, self.name, self.license = model.config, model.name, model.license
        self.tokenizer, self.chat_template = model.tokenizer, model.chat_template
        self._model, self._work, self._head_planes = model, work, head_planes
        self._layer: tuple[int, dict[str, Matrix]] | None = None

    def linear(self, layer: int, name: str) -> Linear:
        if self._layer is None or self._layer[0] != layer:
            self._layer = layer, self._work.layer(layer)
        solved, planes, bias = self._layer[1][name]
        rows, cols = solved.codes.shape

        def multipliers() -> NDArray[np.int8]:
            assert solved.multipliers is not None
            return np.stack([solved.multipliers * 3**plane for plane in range(planes)]).astype(np.int8)

        blocks = tuple(Block(1, unpack16(int(scale))) for scale in solved.scales)
        return Linear((rows, cols), lambda: iter((solved.codes,)), lambda: blocks, bias, planes=planes,
                      group_slices=solved.group // SLICE, multipliers=multipliers if solved.group else None)

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        return self._model.gain(layer, name)

    def final_norm(self) -> NDArray[np.float16] | None:
        return self._model.final_norm()

    def table(self, name: str) -> Iterator[TableRows]:
        most = code_of(self._model, name, self._head_planes)
        for part in self._model.floats(name):
            yield TableRows(*int8_rows(part, most))


