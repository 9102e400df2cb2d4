# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board as a program uses it: opened by name, loaded with a model, asked for what it counted."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.cycles import watchdog_cycles
from tellme.compiler.image import Head
from tellme.drafts.placing import Drafts, place_drafts
from tellme.drafts.table import DraftTable
from tellme.errors import DeviceError, InputError, TellmeError
from tellme.link.client import BoardClient
from tellme.link.discover import find_board
from tellme.link.serial_port import is_terminal
from tellme.link.transport import SerialTransport
from tellme.models.source import StoredSource
from tellme.runtime.checking import Checker
from tellme.runtime.device import BoardDevice, Device, GoldenDevice, Progress
from tellme.runtime.head_on_host import HeadOnHost, place_head
from tellme.runtime.session import Session
from tellme.runtime.simulated import SIM_TIMEOUT, SimDevice, sim_command
from tellme.spec.config import PRESETS, SIMULATED, preset

__all__ = ["Board"]

Say = Callable[[str], None]
#: Seconds of :class:`BoardClient` at a pseudo terminal, behind which is a simulated board, which is slow.
TERMINAL: dict[str, Any] = {"timeout": SIM_TIMEOUT, "hello_timeout": 10.0, "retry": 4.0}


def _silent(text: str) -> None:
    """A ``say`` for programs that do not want to hear anything."""


class Board:
    """The golden model, the simulated board, or a board at a port.  Use it in a ``with`` block, which closes it at the end.

    Errors are :class:`tellme.errors.TellmeError`: DeviceError or LinkError of the board, ModelError of a model's file,
    CompileError of a model that the board cannot run, InputError of an argument.
    """

    def __init__(self, device: Device, say: Say = _silent):
        self.device = device
        self._say = say
        self._loaded = device

    @classmethod
    def open(cls, name: str = "auto", *, preset: str = SIMULATED, baud: int | None = None, say: Say = _silent) -> "Board":
        """A board by name.

        ``golden``: the golden model, NumPy in this process.  ``sim``: the simulated board, with the core ``preset``; it is built
        from a checkout of the repository, which takes minutes the first time, when a model is loaded.  ``auto``: the board that
        is plugged in by USB, or the simulated board where there is none.  Anything else is a serial port.  ``baud`` is a port's
        rate, 9600 to 12,000,000; None for the rate of the board that the port's USB id names, or 3,000,000.  ``say`` hears
        which board it is, and why, and what makes the port slow.
        """
        if name == "golden":
            say("device: the golden model, as asked for")
            return cls(GoldenDevice(), say)
        if name == "sim":
            return cls(_simulated(preset, "as asked for", say), say)
        if name == "auto":
            port = find_board()
            if port is None:
                return cls(_simulated(preset, "as no board is plugged in", say), say)
            return cls(_at_port(port, "the one that is plugged in", say, baud), say)
        return cls(_at_port(name, "as asked for", say, baud), say)

    def load(self, model: StoredSource, *, head: Head | None = None, drafts: Drafts = "auto",
             check: int | None = None, progress: Progress | None = None) -> Session:
        """Compile a model, write the model into the board's memory, and give the session that generates with the model.

        ``head`` says where the embedding and the LM head are: ``board``, ``host``, or None for the board if they fit its memory.
        ``drafts``: a table from which the board drafts tokens (:class:`tellme.drafts.table.DraftTable`, or a file of one), or
        None for none, or ``auto`` for the one beside the model's file on a core that drafts (:mod:`tellme.drafts.placing`).  The
        text does not depend on it, its speed does.
        ``check``: compare the session's runs with the golden model every so many tokens, 1 to 65,535
        (:mod:`tellme.runtime.checking`); None: do not.  One sequence runs at a time then, no tokens are drafted, and a named
        table of drafts is an InputError.
        ``progress`` hears (bytes done, bytes in all).  A model that does not fit is a CompileError, and one that is damaged a
        ModelError, before a byte is sent.  The weights of a file (:func:`tellme.open_model`) pass in a stream.
        """
        model.check()
        if check is not None and isinstance(self.device, GoldenDevice):
            raise InputError("the golden model is what boards are compared with: check a board's runs", hint="board")
        if check is not None and isinstance(drafts, DraftTable | Path):
            raise InputError("runs that are compared with the golden model draft no tokens: leave the table of drafts out, or "
                             "the check")
        if check is not None:
            drafts = None
        device, image = place_head(self.device, model, head, self._say)
        image = place_drafts(image, model, device.config(model), drafts, self._say)
        checker = None
        if check is not None:
            checker = Checker(image, check, vocab=model.config.vocab, lanes=device.config(model).chunk,
                              tables=device if isinstance(device, HeadOnHost) else None)
        session = Session(device, model, image, self._say, checker)
        device.connect()
        device.load(image, progress or (lambda done, total: None))
        device.watch(watchdog_cycles(model.config, image, device.config(model)))
        self._loaded = device
        return session

    def connect(self) -> BoardDevice:
        """The board behind packets, without a model: for its state, and for tests.  The simulated one is built and started.

        The golden model has no packets: a DeviceError.
        """
        if not isinstance(self.device, BoardDevice):
            raise DeviceError("the golden model has no link, no memory chip and no state of its own: the simulated board has, "
                              "and a real one", hint="board")
        self.device.connect()
        return self.device

    def counters(self) -> dict[str, int]:
        """Cycles, words moved and busy cycles of the last generation, by the names of :data:`tellme.spec.memory.COUNTERS`.

        Counters wrap at 2**32.  On the golden model, which counts no cycles, a DeviceError."""
        return self._loaded.counters()

    def crcs(self) -> list[int]:
        """CRC-32 of each step's output in its last run, in the order of the layer program: the same on every device, but for
        the LM head's where it went in two steps (:mod:`tellme.spec.two_steps`)."""
        return self._loaded.crcs()

    def top(self) -> list[tuple[int, int]]:
        """The 64 best (id, logit in Q15.16) of the last token that was picked, best first, ties to the lower id."""
        return self._loaded.top()

    def logits(self) -> NDArray[np.int32]:
        """All logits (vocab,) of the last token, Q15.16; on a board only of a generation that was asked for logits."""
        return self._loaded.logits()

    def close(self) -> None:
        """Close the board; the simulated board's process ends."""
        self._loaded.close()

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # An interruption leaves the board usable; a board that failed is not waited for.
        if error is not None and not isinstance(error, TellmeError):
            with suppress(TellmeError):
                self._loaded.stop()
        self.close()


def _at_port(port: str, why: str, say: Say, baud: int | None) -> Device:
    """A board at a serial port."""
    transport = SerialTransport(port, baud)
    client = BoardClient(transport, **TERMINAL if is_terminal(port) else {})
    try:
        hello = client.hello()
        if hello.preset not in PRESETS:
            raise DeviceError(f"the board at {port} was built with a preset that this tellme-host does not know: "
                              "use the tellme-host of the same checkout as its bitstream")
    except BaseException:
        client.close()
        raise
    say(f"device: the board at {port} ({hello.preset}), {why}")
    if transport.advice:
        say(transport.advice)
    return BoardDevice(port, preset(hello.preset), client, hello.core_sha256, verify=True)


def _simulated(preset_name: str, why: str, say: Say) -> Device:
    """The simulated board of a preset."""
    try:
        config = preset(preset_name)
    except ValueError as error:
        raise DeviceError(str(error)) from error
    sim_command(config)
    say(f"device: the simulated board ({config.name}), {why}")
    return SimDevice("sim", config)
