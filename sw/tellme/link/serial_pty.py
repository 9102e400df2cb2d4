# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A pseudo terminal that hosts open as if it were a board's serial port."""

import os
import select
import termios
import tty

from tellme.link.errors import LinkError

__all__ = ["PtyPort"]

#: Seconds between looks whether a host has opened the terminal.
LOOK = 0.02
#: Bytes that wait in one direction at most; then the sender has to wait.
WAITING = 1 << 16
#: Bytes that are read at a time.
READ_BYTES = 1 << 14


class PtyPort:
    """A pseudo terminal, raw: every byte passes as it is, in both directions.

    Hosts open ``path``, one after another.  As at a serial port, bytes for a host are lost while no host has the port open,
    and a host finds none that were meant for the host before it.  No end of the terminal but the master's stays open here: so
    the system tells when the last host has gone.  A system without pseudo terminals is a LinkError.
    """

    def __init__(self) -> None:
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise LinkError(f"this system gives no pseudo terminal: {error}") from error
        #: Name of the terminal.
        self.path = os.ttyname(slave)
        tty.setraw(slave, termios.TCSANOW)
        os.close(slave)
        os.set_blocking(self._master, False)

    def serve(self, source: int, sink: int) -> None:
        """Pass bytes on between hosts and a board's descriptors: ``source`` has the board's bytes, ``sink`` takes the hosts'.

        Returns when the board closes one of them.  Both are non-blocking from now on.
        """
        for descriptor in (source, sink):
            os.set_blocking(descriptor, False)
        to_board, to_host = bytearray(), bytearray()
        here = False
        while True:
            poll = select.poll()
            poll.register(source, select.POLLIN if len(to_host) < WAITING else 0)
            poll.register(sink, select.POLLOUT if to_board else 0)
            if here:
                poll.register(self._master, (select.POLLIN if len(to_board) < WAITING else 0)
                              | (select.POLLOUT if to_host else 0))
            ready = dict(poll.poll(None if here else 1000 * LOOK))
            if here != self._host():
                here = not here
                if not here:
                    to_host.clear()
                    self._clean()
            if ready.get(source):
                content = self._read(source)
                if content == b"":
                    return
                if here and content:
                    to_host += content
            if ready.get(sink):
                if ready[sink] & (select.POLLERR | select.POLLHUP):
                    return
                self._write(sink, to_board)
            # What the last host said before it went is read too.
            if ready.get(self._master, 0) & select.POLLIN:
                to_board += self._read(self._master) or b""
            if ready.get(self._master, 0) & select.POLLOUT:
                self._write(self._master, to_host)

    def _host(self) -> bool:
        """Whether a host has the terminal open, or has left bytes."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        ready = dict(poll.poll(0)).get(self._master, 0)
        return not ready & select.POLLHUP or bool(ready & select.POLLIN)

    def _clean(self) -> None:
        """Drop the bytes that a host has not read, and make the terminal raw again."""
        slave = os.open(self.path, os.O_RDWR | os.O_NOCTTY)
        try:
            termios.tcflush(slave, termios.TCIFLUSH)
            tty.setraw(slave, termios.TCSANOW)
        finally:
            os.close(slave)

    @staticmethod
    def _read(descriptor: int) -> bytes | None:
        """Bytes; empty at the end; None if there are none now."""
        try:
            return os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            # What a terminal without a host says.
            return b""

    @staticmethod
    def _write(descriptor: int, content: bytearray) -> None:
        """Write what fits, and remove that.  The next look at the other end tells of an end that is closed."""
        try:
            del content[:os.write(descriptor, content)]
        except OSError:
            return

    def close(self) -> None:
        """Close the terminal: a host that has it open finds that the port went away."""
        os.close(self._master)

    def __enter__(self) -> "PtyPort":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
