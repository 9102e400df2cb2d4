# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Models of a shape alone, for measurements and tests of boards."""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, ModelConfig
from tellme.models.int8 import table_code
from tellme.models.source import Block, Linear, StoredSource, TableRows, check_parts, row_chunks
from tellme.models.trits import check_planes, packed_cols, packed_shape, unpack_rows
from tellme.spec.packing import TRITS, ZERO_BYTE
from tellme.spec.scale import pack16, scale_from_fraction

__all__ = ["RandomModel", "random_model"]


class RandomModel(StoredSource):
    """A model of a shape.  Each part is drawn anew whenever it is read, and is the same each time.

    Weights are drawn as base-3 bytes of each plane, and each weight that the planes hold is as likely.  Gains are ones; without
    ``layer_gains`` the layers' norms have none.
    """

    def __init__(self, name: str, config: ModelConfig, planes: Mapping[str, int], row_scales: bool, biases: Collection[str],
                 layer_gains: bool):
        self.name, self.config = name, config
        self._planes, self._row_scales, self._biases, self._layer_gains = planes, row_scales, biases, layer_gains
        # Values of the tables are of the order of 1.
        self._table_scale = pack16(scale_from_fraction(1 / 40))
        self._drawn_table = cache(self._draw_table)

    def _rng(self, *what: object) -> np.random.Generator:
        return np.random.default_rng([crc32(self.name.encode()), crc32(repr(what).encode())])

    def linear(self, layer: int, name: str) -> Linear:
        shape = rows, cols = self.config.shape(name)
        planes = self._planes.get(name, 1)
        whole, inside = divmod(cols, TRITS)

        def stored() -> Iterator[NDArray[np.uint8]]:
            rng = self._rng(layer, name)
            for first, end in row_chunks(rows, planes * packed_cols(cols)):
                part = rng.integers(0, 3**TRITS, packed_shape(end - first, cols, planes), np.uint8)
                # Behind the last column are zeros.
                padding = (3**TRITS - 3**inside) // 2
                part[..., whole:whole + 1] = part[..., whole:whole + 1] % 3**inside + padding
                part[..., whole + 1:] = ZERO_BYTE
                yield part

        def chunks() -> Iterator[NDArray[np.int8]]:
            for part in stored():
                yield unpack_rows(f"layers.{layer}.{name}", part, (len(part), cols), planes)

        def blocks() -> tuple[Block, ...]:
            # Weights of several planes spread sqrt((9**planes - 1) / 8) times as far as those of one.
            size = 1 / ((9**planes - 1) / 8 * cols) ** 0.5
            if not self._row_scales:
                return (Block(rows, scale_from_fraction(size)),)
            drawn = self._rng(layer, name, "scales").uniform(0.5, 2, rows) * size
            return tuple(Block(1, scale_from_fraction(float(scale))) for scale in drawn)

        bias = self._rng(layer, name, "bias").normal(size=rows).astype(np.float16) if name in self._biases else None
        return Linear(shape, chunks, blocks, bias, stored, planes)

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        there = self._layer_gains and self.config.has_norm(name)
        return np.ones(self.config.norm_width(name), np.float16) if there else None

    def final_norm(self) -> NDArray[np.float16] | None:
        return np.ones(self.config.dim, np.float16)

    def table(self, name: str) -> Iterator[TableRows]:
        table = self._drawn_table(name)
        for first, end in row_chunks(self.config.vocab, self.config.dim):
            yield TableRows(table.codes[first:end], table.scales[first:end])

    def rows(self, name: str, ids: NDArray[np.intp]) -> TableRows:
        table = self._drawn_table(name)
        return TableRows(table.codes[ids], table.scales[ids])

    def _draw_table(self, name: str) -> TableRows:
        if name == "head":
            assert not self.config.tied, "the embedding is the head"
        vocab = self.config.vocab
        most = table_code(self.config, name)
        codes = self._rng(name).integers(-most, most + 1, (vocab, self.config.dim), np.int8)
        return TableRows(codes, np.full(vocab, self._table_scale, np.uint16))

    def check(self) -> None:
        check_parts(self)


def random_model(name: str, config: ModelConfig, *, planes: int | Mapping[str, int] = 1, row_scales: bool = False,
                 biases: Collection[str] = (), layer_gains: bool = True) -> RandomModel:
    """A model of a shape; its weights follow from name, shape and planes.

    ``planes``: of all matrices, or of those that it names; the others have one.  ``row_scales``: a scale a row and not a matrix.
    ``biases``: names of the matrices that have a bias.  Without ``layer_gains`` the layers' norms have no gains.
    """
    config.check()
    named = dict.fromkeys(LINEARS, planes) if isinstance(planes, int) else planes
    for what, count in named.items():
        check_planes(what, count)
    return RandomModel(name, config, named, row_scales, biases, layer_gains)
