# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Byte streams to a board: a serial port, or the simulated board's process."""

import os
import select
import selectors
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import serial

from tellme.link.errors import LinkError
from tellme.link.process import Child, how_it_ended
from tellme.link.serial_port import cannot_open, latency_advice
from tellme.link.serial_usb import board_baud
from tellme.spec.ranges import Range

__all__ = ["ProcessTransport", "SerialTransport", "Transport", "board_ended"]

#: Rates of a UART, in baud; the fastest is that of an FT2232H.
BAUD_RANGE = Range(9_600, 12_000_000)
#: Seconds that a port may take no bytes.
WRITE_TIMEOUT = 10
#: Whether the system waits for a port as for any other file.
SELECTS = os.name == "posix"
#: Bytes that are read at a time at most.
READ_BYTES = 65536


class Transport(ABC):
    """Bytes to and from a board."""

    #: For messages.
    name: str

    @abstractmethod
    def write(self, content: bytes) -> None:
        """Send all bytes; a LinkError if the board is gone."""

    @abstractmethod
    def read(self, timeout: float) -> bytes:
        """The bytes that have come, at least one; empty after ``timeout`` seconds.  A LinkError if the board is gone."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the board."""


class SerialTransport(Transport):
    """A serial port.

    ``baud``: the rate; None for the rate of the board that the port's USB id names (:func:`board_baud`).  A rate outside
    BAUD_RANGE is a RangeError; a port that does not open is a LinkError that says why and what to do.
    """

    def __init__(self, port: str, baud: int | None = None):
        self.name = port
        self.baud = board_baud(port) if baud is None else baud
        BAUD_RANGE.check("baud", self.baud)
        try:
            self._port = serial.Serial(port, self.baud, timeout=0, write_timeout=WRITE_TIMEOUT, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            why, hint = cannot_open(port, self.baud, error)
            raise LinkError(f"cannot open {port}: {why}", hint=hint) from error
        # Linux passes this on to the serial chip's latency timer.  Not every system and not every port can do it.
        with suppress(ValueError, NotImplementedError, OSError):
            self._port.set_low_latency_mode(True)
        #: What a slow latency timer costs and how to mend it, for the caller to say; empty if all is well.
        self.advice = latency_advice(port)

    def write(self, content: bytes) -> None:
        try:
            self._port.write(content)
        except serial.SerialTimeoutException as error:
            raise LinkError(f"{self.name} took no bytes for {WRITE_TIMEOUT} s; plug the board in again") from error
        except (serial.SerialException, OSError) as error:
            raise LinkError(f"{self.name} went away while the host was sending ({error}); plug the board in again") \
                from error

    def read(self, timeout: float) -> bytes:
        try:
            if not SELECTS:
                self._port.timeout = timeout
                first: bytes = self._port.read(1)
                return first + self._port.read(self._port.in_waiting) if first else b""
            # A change of pyserial's timeout sets the port up anew, which takes USB transfers at some rates.
            if not select.select([self._port.fileno()], [], [], timeout)[0]:
                return b""
            content: bytes = self._port.read(READ_BYTES)
            return content
        except (serial.SerialException, OSError) as error:
            raise LinkError(f"{self.name} went away while the host was listening ({error}); plug the board in again") \
                from error

    def close(self) -> None:
        with suppress(serial.SerialException, OSError):
            self._port.close()


def board_ended(code: int | None) -> LinkError:
    """The error of a simulated board's process that has ended with an exit code as in :meth:`Child.end`."""
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        return LinkError(f"the simulated board was ended by {how_it_ended(code)}; if nobody ended it, the memory may have "
                         "run out: close other programs, and start again")
    return LinkError(f"the simulated board ended unexpectedly ({how_it_ended(code)}): its last words are above; start again, "
                     "and report it if it ends again")


class ProcessTransport(Transport):
    """The simulated board: a process whose standard input and output are the link's bytes."""

    def __init__(self, command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None):
        self.name = "the simulated board"
        try:
            self._child = Child(command, cwd=cwd, env=env)
        except OSError as error:
            raise LinkError(f"the simulated board did not start: {error}") from error
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._child.output, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """Id of the board's process."""
        return self._child.pid

    def _gone(self) -> LinkError:
        return board_ended(self._child.end())

    def write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            try:
                view = view[self._child.input.write(view) or 0:]
            except OSError as error:
                raise self._gone() from error

    def read(self, timeout: float) -> bytes:
        if not self._selector.select(timeout):
            return b""
        content = os.read(self._child.output.fileno(), 65536)
        if not content:
            raise self._gone()
        return content

    def close(self) -> None:
        """End the board's process: it has nothing to save."""
        self._selector.close()
        self._child.end()
