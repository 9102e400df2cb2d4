# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model in memory, ternary or of several planes."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, NORMS, ModelConfig, ModelError
from tellme.models.container import FORMAT, FORMAT_VERSION, Container, write
from tellme.models.int8 import int8_rows
from tellme.models.source import (
    Block,
    Linear,
    Source,
    StoredSource,
    TableRows,
    check_bias,
    check_blocks,
    check_codes,
    check_gain,
    check_gain_wanted,
    check_linear_groups,
    check_rows,
    whole,
)
from tellme.models.trits import check_planes, pack_rows, unpack_rows
from tellme.spec.scale import Scale

__all__ = ["FORMAT", "FORMAT_VERSION", "LINEARS", "NORMS", "Layer", "Model", "ModelConfig", "ModelError", "Multipliers",
           "int8_rows", "pack_rows", "unpack_rows"]


class Multipliers(NamedTuple):
    """Slices of a matrix's column groups, and what the trits of each plane, group and row are worth: int8 (planes, groups, rows),
    the plane of 3**0 first."""

    group_slices: int
    values: NDArray[np.int8]


@dataclass
class Layer:
    """Codes (int8) and scales of each linear; gains (float16) of the norms that have one.

    Codes are -1, 0 and 1, or where ``planes`` has a larger number P for the matrix, up to (3**P - 1) / 2 in magnitude.  A matrix
    has one scale, or blocks of rows with a scale each; biases are float16, a row each.  A matrix with column groups has
    ``multipliers``.
    """

    weights: dict[str, NDArray[np.int8]]
    scales: dict[str, Scale | tuple[Block, ...]]
    gains: dict[str, NDArray[np.float16]] = field(default_factory=dict)
    biases: dict[str, NDArray[np.float16]] = field(default_factory=dict)
    planes: dict[str, int] = field(default_factory=dict)
    multipliers: dict[str, Multipliers] = field(default_factory=dict)

    def blocks(self, name: str) -> tuple[Block, ...]:
        """The scales of a matrix as blocks of rows, one where it has one scale."""
        scale = self.scales[name]
        return (Block(len(self.weights[name]), scale),) if isinstance(scale, Scale) else scale


@dataclass
class Model(StoredSource):
    """A whole model: what a .tellme file holds."""

    config: ModelConfig
    layers: list[Layer]
    #: int8 rows (vocab, dim) and a stored 16-bit scale a row.
    embedding: NDArray[np.int8]
    embedding_scales: NDArray[np.uint16]
    final_gain: NDArray[np.float16] | None = None
    head: NDArray[np.int8] | None = None
    head_scales: NDArray[np.uint16] | None = None
    tokenizer: bytes = b""
    name: str = ""
    license: str = ""
    chat_template: str = ""

    @property
    def ternary_weights(self) -> int:
        return self.config.ternary_weights

    # As a source

    def linear(self, layer: int, name: str) -> Linear:
        part = self.layers[layer]
        codes = part.weights[name]
        linear = Linear((codes.shape[0], codes.shape[1]), lambda: iter((codes,)), lambda: part.blocks(name),
                        part.biases.get(name), planes=part.planes.get(name, 1))
        if name not in part.multipliers:
            return linear
        group_slices, values = part.multipliers[name]
        return replace(linear, group_slices=group_slices, multipliers=lambda: values)

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        return self.layers[layer].gains.get(name)

    def final_norm(self) -> NDArray[np.float16] | None:
        return self.final_gain

    def table(self, name: str) -> Iterator[TableRows]:
        yield self._table(name)

    def rows(self, name: str, ids: NDArray[np.intp]) -> TableRows:
        table = self._table(name)
        return TableRows(table.codes[ids], table.scales[ids])

    def _table(self, name: str) -> TableRows:
        codes, scales = ((self.head, self.head_scales) if name == "head" else (self.embedding, self.embedding_scales))
        if codes is None or scales is None:
            raise ModelError("the model is untied but has no head")
        return TableRows(codes, scales)

    @classmethod
    def read(cls, source: Source) -> "Model":
        """The whole of a source."""
        c = source.config
        layers = []
        for i in range(c.layers):
            layer = Layer({}, {})
            for name in LINEARS:
                linear = source.linear(i, name)
                layer.weights[name], blocks = linear.read()
                layer.scales[name] = blocks[0].scale if len(blocks) == 1 else blocks
                if linear.bias is not None:
                    layer.biases[name] = linear.bias
                if linear.planes > 1:
                    layer.planes[name] = linear.planes
                if linear.multipliers is not None:
                    layer.multipliers[name] = Multipliers(linear.group_slices, linear.multipliers())
            layer.gains = {n: g for n in NORMS if (g := source.gain(i, n)) is not None}
            layers.append(layer)

        model = cls(c, layers, *whole(source.table("embedding")), source.final_norm(), tokenizer=source.tokenizer,
                    name=source.name, license=source.license, chat_template=source.chat_template)
        if not c.tied:
            model.head, model.head_scales = whole(source.table("head"))
        model.check()
        return model

    # Checks, and the file

    def check(self) -> None:
        """Every shape, code and scale; a ModelError names the first that is wrong."""
        c = self.config
        c.check()
        if len(self.layers) != c.layers:
            raise ModelError(f"{len(self.layers)} layers of weights for {c.layers} in the configuration")
        for i, layer in enumerate(self.layers):
            for name in LINEARS:
                w = layer.weights[name]
                if w.shape != c.shape(name):
                    raise ModelError(f"layers.{i}.{name} has shape {w.shape}, the configuration says {c.shape(name)}")
                planes = layer.planes.get(name, 1)
                check_planes(f"layers.{i}.{name}", planes)
                check_codes(f"layers.{i}.{name}", w, planes)
                check_blocks(f"layers.{i}.{name}", w.shape[0], layer.blocks(name))
                check_linear_groups(f"layers.{i}.{name}", self.linear(i, name))
                if name in layer.biases:
                    check_bias(f"layers.{i}.{name}", layer.biases[name], w.shape[0])
            for name, gain in layer.gains.items():
                check_gain_wanted(name, c, i)
                check_gain(f"layers.{i}.{name}", gain, c.norm_width(name))
        for what, rows, scales in (("embedding", self.embedding, self.embedding_scales),
                                   ("head", self.head, self.head_scales)):
            if rows is not None and scales is not None:
                check_rows(what, rows, scales, (c.vocab, c.dim))
            elif what == "head" and not c.tied:
                raise ModelError("the model is untied but has no head")
        if self.final_gain is not None:
            check_gain("final_norm", self.final_gain, c.dim)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        self.check()
        write(self, path)

    @classmethod
    def load(cls, path: Path) -> "Model":
        """Read and check a file."""
        container = Container(path)
        try:
            model = cls.read(container)
            model.path = path
            return model
        except ModelError as error:
            text = str(error)
            raise error if str(path) in text else ModelError(f"{path}: {text}") from error
