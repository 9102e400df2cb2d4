# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a model can run on: the golden model, and boards behind one interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Image
from tellme.golden.board import GoldenBoard
from tellme.golden.perplexity import roomy
from tellme.models.model import Model
from tellme.spec.config import BoardConfig
from tellme.spec.memory import Event, EventType, StartArgs

__all__ = ["Device", "GoldenDevice"]

#: Bytes done and bytes in all.
Progress = Callable[[int, int], None]


class Device(ABC):
    """A board to the host: load an image, place tokens, start, hear events, read results.

    ``start`` gives a TOKEN event for each pick and a DONE event last; what is read of the last head (``top``,
    ``logits``) is there once DONE has come.  Failures of a device are UserErrors or LinkErrors.
    """

    #: "golden", "sim", or the port.
    name: str
    #: Preset and hash of the core's Verilog; None on golden.
    preset: str | None = None
    core_sha256: str | None = None
    #: Rate of the fabric's clock; None where cycles mean nothing.
    fabric_mhz: float | None = None

    @abstractmethod
    def config(self, model: Model) -> BoardConfig:
        """The configuration to compile a model for."""

    @abstractmethod
    def load(self, image: Image, progress: Progress) -> None:
        """Write an image."""

    @abstractmethod
    def place(self, position: int, tokens: Sequence[int]) -> None:
        """Write tokens into token memory."""

    @abstractmethod
    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        """Run, and yield the events up to DONE."""

    @abstractmethod
    def top(self) -> list[tuple[int, int]]:
        """The 64 best (id, logit) of the last head, best first."""

    @abstractmethod
    def logits(self) -> NDArray[np.int32]:
        """All logits of the last head (Q15.16); on a board that run must have had the DUMP flag."""

    def stop(self) -> None:  # noqa: B027 - nothing to do on a device that runs in this process
        """End a run early; its remaining events are dropped."""

    def close(self) -> None:  # noqa: B027
        """Let go of the device."""


class GoldenDevice(Device):
    """The golden model: no board's limits, no cycles."""

    name = "golden"

    def __init__(self) -> None:
        self._board: GoldenBoard | None = None

    @property
    def board(self) -> GoldenBoard:
        assert self._board is not None, "no image is loaded"
        return self._board

    def config(self, model: Model) -> BoardConfig:
        return roomy(model)

    def load(self, image: Image, progress: Progress) -> None:
        size = sum(len(content) for _, content in image.sections)
        progress(0, size)
        self._board = GoldenBoard(image)
        progress(size, size)

    def place(self, position: int, tokens: Sequence[int]) -> None:
        self.board.tokens[position:position + len(tokens)] = tokens

    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        return self.board.start(args)

    def top(self) -> list[tuple[int, int]]:
        return self.board.top()

    def logits(self) -> NDArray[np.int32]:
        return self.board.logits
