# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The plain board as a transport, in a time of its own that costs nothing."""

from tellme.link.transport import Transport

__all__ = ["Clock", "ModelTransport"]

#: Seconds from an event of a run to the next.
STEP = 0.003
#: Reads without a byte and without time passing, one after another, that are a hang.
SPINS = 1000


class Clock:
    """Simulated seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ModelTransport(Transport):
    """Bytes to and from a :class:`tests.link.plain_board.PlainBoard`.  Answers come at once; reading none takes time."""

    name = "the model board"

    def __init__(self, board, clock: Clock):
        self.board, self._clock = board, clock
        self._out = b""
        self._spins = 0
        #: Bytes from the host.
        self.sent = 0
        self.closed = False

    def write(self, content: bytes) -> None:
        self.sent += len(content)
        self._out += self.board.link.receive(content)

    def read(self, timeout: float) -> bytes:
        end = self._clock.now + timeout
        while not self._out:
            self._out = self.board.link.poll()
            if self._out:
                break
            if not (self.board.running and self.board.link.room) or self._clock.now + STEP > end:
                self._spins = self._spins + 1 if timeout == 0 else 0
                assert self._spins < SPINS, "the host reads and reads, and no time passes"
                self._clock.now = end
                return b""
            self._clock.now += STEP
            self.board.run_step()
        out, self._out = self._out, b""
        self._spins = 0
        return out

    def close(self) -> None:
        self.closed = True
