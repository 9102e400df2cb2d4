# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model as a stream of its parts, whatever the model is read from, so that no model has to be in memory whole.

Importers, containers and models in memory are sources; writing a container, exporting and inspecting take one.  Containers and
models in memory are stored sources, which the compiler takes: their scales are known before their weights, and each part may be
read again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import LINEARS, NORMS, ModelConfig, ModelError
from tellme.models.trits import check_planes, pack_rows
from tellme.spec.packing import TILE_HEADER_GROUP_SLICES, groups_of, plane_reach
from tellme.spec.scale import Scale

__all__ = ["CHUNK", "Block", "Linear", "Source", "StoredSource", "TableRows", "check_bias", "check_blocks", "check_codes",
           "check_gain", "check_gain_wanted", "check_groups", "check_linear_groups", "check_parts", "check_rows",
           "multiplier_bytes", "regroup", "row_chunks", "trits", "whole"]

#: Elements that are worked on at a time.
CHUNK = 1 << 20


class Block(NamedTuple):
    """Consecutive rows with one scale."""

    rows: int
    scale: Scale


class TableRows(NamedTuple):
    """Some rows of an int8 table, and a stored 16-bit scale of each."""

    codes: NDArray[np.int8]
    scales: NDArray[np.uint16]


def whole(parts: Iterable[TableRows]) -> TableRows:
    """All rows of a table."""
    found = list(parts)
    return TableRows(np.concatenate([part.codes for part in found]), np.concatenate([part.scales for part in found]))


@dataclass(frozen=True)
class Linear:
    """A matrix of codes that is read once, in chunks of whole rows from the first on.

    The codes are ternary, or with several ``planes`` integers of up to (3**planes - 1) / 2 in magnitude.  ``blocks`` gives the
    scales, and may be called only after all chunks have been taken, because importers find scales on the way.  ``stored`` gives
    the rows as base-3 bytes (:mod:`tellme.models.trits`), where a source has such bytes: checked as
    :func:`~tellme.models.trits.check_packed` does.

    With ``group_slices`` the matrix has column groups of so many slices.  Then a code only says its trits, which are worth what
    ``multipliers`` gives for their plane, group and row: int8 (planes, groups, rows), the plane of 3**0 first.  ``multipliers``
    may be called when ``blocks`` may.
    """

    shape: tuple[int, int]
    chunks: Callable[[], Iterator[NDArray[np.int8]]]
    blocks: Callable[[], tuple[Block, ...]]
    bias: NDArray[np.float16] | None = None
    stored: Callable[[], Iterator[NDArray[np.uint8]]] | None = None
    planes: int = 1
    group_slices: int = 0
    multipliers: Callable[[], NDArray[np.int8]] | None = None

    @property
    def multiplier_count(self) -> int:
        """Multipliers of the matrix, a byte each."""
        return self.planes * groups_of(self.shape[1], self.group_slices) * self.shape[0] if self.group_slices else 0

    def packed(self, name: str) -> Iterator[NDArray[np.uint8]]:
        """The rows as base-3 bytes, in chunks of whole rows; a code that the planes do not hold is a ModelError with the name."""
        if self.stored is not None:
            yield from self.stored()
            return
        for part in self.chunks():
            check_codes(name, part, self.planes)
            yield pack_rows(part, self.planes)

    def read(self) -> tuple[NDArray[np.int8], tuple[Block, ...]]:
        """All codes at once, and the scales."""
        codes: NDArray[np.int8] | None = None
        at = 0
        for part in self.chunks():
            if codes is None:
                # The first chunk shows that the matrix is there: a shape alone is what a file says of itself.
                codes = np.empty(self.shape, np.int8)
            codes[at:at + len(part)] = part
            at += len(part)
        return np.empty(self.shape, np.int8) if codes is None else codes, self.blocks()


class Source(ABC):
    """Parts of a model.  Errors are ModelErrors that name the part."""

    config: ModelConfig
    name: str = ""
    license: str = ""
    #: A SentencePiece model, a tokenizer.json, or nothing.
    tokenizer: bytes = b""
    #: How turns of a chat become a text, as a Jinja template; empty: the model has none.
    chat_template: str = ""

    @abstractmethod
    def linear(self, layer: int, name: str) -> Linear:
        """A matrix of a layer."""

    @abstractmethod
    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        """The gain of a layer's norm, if it has one."""

    @abstractmethod
    def final_norm(self) -> NDArray[np.float16] | None:
        """The gain of the norm before the head, if it has one."""

    @abstractmethod
    def table(self, name: str) -> Iterator[TableRows]:
        """Rows of ``embedding``, or of the ``head`` of a model that is not tied."""


class StoredSource(Source):
    """A source whose scales are known before its weights are read, and whose parts may be read in any order, and again."""

    #: The .tellme file that it was read from, if it was.
    path: Path | None = None

    @abstractmethod
    def check(self) -> None:
        """Read all parts once: the first that is wrong is a ModelError that names it."""

    @abstractmethod
    def rows(self, name: str, ids: NDArray[np.intp]) -> TableRows:
        """Some rows of ``embedding`` or ``head``."""


def check_parts(source: Source) -> None:
    """Check every shape, code and scale of a source, a chunk at a time; a ModelError names the first that is wrong."""
    c = source.config
    c.check()
    for i in range(c.layers):
        for name in LINEARS:
            what, linear = f"layers.{i}.{name}", source.linear(i, name)
            if linear.shape != c.shape(name):
                raise ModelError(f"{what} has shape {linear.shape}, the configuration says {c.shape(name)}")
            check_planes(what, linear.planes)
            for _ in linear.packed(what):
                pass
            check_blocks(what, linear.shape[0], linear.blocks())
            check_linear_groups(what, linear)
            if linear.bias is not None:
                check_bias(what, linear.bias, linear.shape[0])
        for name in NORMS:
            gain = source.gain(i, name)
            if gain is not None:
                check_gain_wanted(name, c, i)
                check_gain(f"layers.{i}.{name}", gain, c.norm_width(name))
    for name in ("embedding",) if c.tied else ("embedding", "head"):
        rows = 0
        for part in source.table(name):
            check_rows(name, part.codes, part.scales, (len(part.codes), c.dim))
            rows += len(part.codes)
        if rows != c.vocab:
            raise ModelError(f"{name} has {rows} rows, the configuration says {c.vocab}")
    final = source.final_norm()
    if final is not None:
        check_gain("final_norm", final, c.dim)


def trits(source: StoredSource) -> int:
    """Trits of all matrices: a weight has one in each plane."""
    c = source.config
    return sum(rows * cols * source.linear(i, name).planes for i in range(c.layers) for name in LINEARS
               for rows, cols in (c.shape(name),))


def multiplier_bytes(source: StoredSource) -> int:
    """Bytes of the multipliers of all matrices, the padding of tiles not counted."""
    return sum(source.linear(i, name).multiplier_count for i in range(source.config.layers) for name in LINEARS)


Item = TypeVar("Item", bound=np.generic)


def regroup(chunks: Iterator[NDArray[Item]], counts: Iterable[int]) -> Iterator[NDArray[Item]]:
    """Rows that come in chunks, as many at a time as ``counts`` says; that there are more or fewer is a ValueError."""
    rest: NDArray[Item] | None = None
    for count in counts:
        parts, wanted = [], count
        while wanted:
            if rest is None or not len(rest):
                rest = next(chunks, None)
                if rest is None:
                    raise ValueError(f"{count - wanted} rows are left where {count} are wanted")
            parts.append(rest[:wanted])
            rest = rest[wanted:]
            wanted -= len(parts[-1])
        yield parts[0] if len(parts) == 1 else np.concatenate(parts)
    if rest is not None and len(rest) or next(chunks, None) is not None:
        raise ValueError("more rows are left than are wanted")


def row_chunks(rows: int, cols: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """(first, end) of chunks of rows, each but the last a multiple of ``multiple`` rows."""
    step = max(1, CHUNK // (cols * multiple)) * multiple
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def check_codes(name: str, codes: NDArray[np.int8], planes: int = 1) -> None:
    """int8, and only -1, 0 and 1, or what several planes hold."""
    if codes.dtype != np.int8:
        raise ModelError(f"{name} is {codes.dtype}, int8 is wanted")
    reach = plane_reach(planes)
    if codes.size and (codes.min() < -reach or codes.max() > reach):
        raise ModelError(f"{name} has a code outside " + ("-1, 0, 1" if planes == 1 else f"-{reach} to {reach}, which is what "
                                                          f"{planes} planes hold"))


def check_linear_groups(name: str, linear: Linear) -> None:
    """The multipliers of a matrix that has column groups, and that another one has none."""
    if linear.group_slices or linear.multipliers is not None:
        values = None if linear.multipliers is None else linear.multipliers()
        check_groups(name, values, linear.shape, linear.planes, linear.group_slices)


def check_groups(name: str, values: NDArray[np.int8] | None, shape: tuple[int, int], planes: int, group_slices: int) -> None:
    """Column groups of as many slices as a tile's header can say, and int8 multipliers for each plane, group and row."""
    least, most = TILE_HEADER_GROUP_SLICES
    if not least <= group_slices <= most:
        raise ModelError(f"{name} has column groups of {group_slices} slices; {least} to {most} can be")
    wanted = planes, groups_of(shape[1], group_slices), shape[0]
    if values is None or values.shape != wanted or values.dtype != np.int8:
        found = "none" if values is None else f"{values.dtype} of shape {values.shape}"
        raise ModelError(f"{name}: its multipliers are {found}; {planes} planes, {wanted[1]} column groups and {shape[0]} rows "
                         f"want int8 of {wanted}")


def check_blocks(name: str, rows: int, blocks: tuple[Block, ...]) -> None:
    """Scales for all rows, none of them zero."""
    if not blocks or sum(b.rows for b in blocks) != rows or min(b.rows for b in blocks) < 1:
        raise ModelError(f"{name} has {rows} rows, and scales for blocks of {', '.join(str(b.rows) for b in blocks)}")
    if any(b.scale.sig == 0 for b in blocks):
        raise ModelError(f"{name}: its scale is zero or too small")


def check_bias(name: str, bias: NDArray[np.float16], rows: int) -> None:
    """binary16, one for each row, finite."""
    _check_vector(f"{name}.bias", bias, rows)


def check_gain_wanted(name: str, config: ModelConfig, layer: int) -> None:
    """Whether the configuration has the norm that a gain is for."""
    if not config.has_norm(name):
        raise ModelError(f"layers.{layer}.{name} is a gain of a norm that the configuration does not have")


def check_gain(name: str, gain: NDArray[np.float16], width: int) -> None:
    """binary16, as many as the norm is wide, finite."""
    _check_vector(name, gain, width)


def _check_vector(name: str, vector: NDArray[np.float16], width: int) -> None:
    if vector.shape != (width,) or vector.dtype != np.float16:
        raise ModelError(f"{name} is {vector.dtype} of shape {vector.shape}, expected float16 of {width}")
    if not np.isfinite(vector).all():
        raise ModelError(f"{name} holds an infinity or NaN")


def check_rows(what: str, codes: NDArray[np.int8], scales: NDArray[np.uint16], shape: tuple[int, int]) -> None:
    """An int8 table, or a part of one with as many rows as ``shape`` says."""
    if codes.shape != shape or scales.shape != shape[:1]:
        raise ModelError(f"{what} has shape {codes.shape}, the configuration says {shape}")
    if codes.dtype != np.int8 or scales.dtype != np.uint16:
        raise ModelError(f"{what} is {codes.dtype} with scales of {scales.dtype}; int8 and uint16 are wanted")
