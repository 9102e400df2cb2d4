# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Byte streams to a board: a serial port, or the simulated board's process."""

import os
import selectors
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import serial

from tellme.link.errors import LinkError
from tellme.link.process import Child, how_it_ended

__all__ = ["ProcessTransport", "SerialTransport", "Transport"]

BAUD = 3_000_000


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
    """A serial port."""

    def __init__(self, port: str, baud: int = BAUD):
        self.name = port
        try:
            self._port = serial.Serial(port, baud, timeout=0, write_timeout=10, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            why, hint = reason(error, port)
            raise LinkError(f"cannot open {port}: {why}", hint=hint) from error

    def write(self, content: bytes) -> None:
        try:
            self._port.write(content)
        except (serial.SerialException, OSError) as error:
            raise LinkError(f"{self.name} went away while the host was sending ({error}); plug the board in again") \
                from error

    def read(self, timeout: float) -> bytes:
        try:
            self._port.timeout = timeout
            first = self._port.read(1)
            return first + self._port.read(self._port.in_waiting) if first else b""
        except (serial.SerialException, OSError) as error:
            raise LinkError(f"{self.name} went away while the host was listening ({error}); plug the board in again") \
                from error

    def close(self) -> None:
        with suppress(serial.SerialException, OSError):
            self._port.close()


def reason(error: Exception, port: str) -> tuple[str, str]:
    """Why a port does not open and what to do about it; and a hint (:class:`tellme.errors.TellmeError`)."""
    number = getattr(error, "errno", None)
    if number == 2 or "No such file" in str(error):
        return "there is no such port; without a port's name a board is looked for, or the simulated one is used", "auto"
    if number == 13 or "Permission denied" in str(error):
        return f"no permission; join the group that owns it (sudo usermod -aG dialout $USER, log in again): ls -l {port}", ""
    if number in (11, 16) or "lock" in str(error) or "busy" in str(error):
        return "another program uses it; close that first", ""
    return f"{error}; is it a serial port?", ""


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
        code = self._child.end()
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            return LinkError(f"the simulated board was ended by {how_it_ended(code)}; if nobody ended it, the memory may have "
                             "run out: close other programs, and start again")
        return LinkError(f"the simulated board ended unexpectedly ({how_it_ended(code)}): its last words are above; start again, "
                         "and report it if it ends again")

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
