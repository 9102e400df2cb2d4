# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model as a stream of its parts, whatever it is read from: so that none has to be in memory whole.

Importers, containers and models in memory are sources; writing a container, exporting and inspecting take one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelConfig, ModelError
from tellme.spec.scale import Scale

__all__ = ["CHUNK", "Block", "Linear", "Source", "TableRows", "check_bias", "check_blocks", "check_codes", "check_gain",
           "check_gain_wanted", "check_rows", "row_chunks"]

#: Elements that are worked on at a time.
CHUNK = 1 << 20


class Block(NamedTuple):
    """Rows in a row that have one scale."""

    rows: int
    scale: Scale


class TableRows(NamedTuple):
    """Some rows of an int8 table, and a stored 16-bit scale of each."""

    codes: NDArray[np.int8]
    scales: NDArray[np.uint16]


@dataclass(frozen=True)
class Linear:
    """A matrix of ternary codes that is read once, in chunks of whole rows from the first on.

    ``blocks`` tells the scales, and may be asked for only when all chunks have been taken: importers find them on the way.
    """

    shape: tuple[int, int]
    chunks: Callable[[], Iterator[NDArray[np.int8]]]
    blocks: Callable[[], tuple[Block, ...]]
    bias: NDArray[np.float16] | None = None

    def read(self) -> tuple[NDArray[np.int8], tuple[Block, ...]]:
        """All codes at once, and the scales."""
        codes = np.empty(self.shape, np.int8)
        at = 0
        for part in self.chunks():
            codes[at:at + len(part)] = part
            at += len(part)
        return codes, self.blocks()


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
        """The gain of the norm ahead of the head, if it has one."""

    @abstractmethod
    def table(self, name: str) -> Iterator[TableRows]:
        """Rows of ``embedding``, or of the ``head`` of a model that is not tied."""


def row_chunks(rows: int, cols: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """(first, end) of chunks of rows, each but the last a multiple of ``multiple`` rows."""
    step = max(1, CHUNK // (cols * multiple)) * multiple
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def check_codes(name: str, codes: NDArray[np.int8]) -> None:
    """int8, and only -1, 0 and 1."""
    if codes.dtype != np.int8:
        raise ModelError(f"{name} is {codes.dtype}, int8 is wanted")
    if codes.size and (codes.min() < -1 or codes.max() > 1):
        raise ModelError(f"{name} has a code outside -1, 0, 1")


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
    if (name == "o_norm" and not config.o_norm) or (name == "down_norm" and not config.down_norm):
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
