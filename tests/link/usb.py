# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The plain board behind a UART and a USB chip that holds answers back, in simulated time."""

from collections import deque

from tellme.link.transport import Transport

__all__ = ["UsbTransport"]

#: Bits of a byte on the UART.
BITS = 10
#: Bytes of an answer that fill a USB packet, as FTDI's chips have it: 64 less two of status.
FULL = 62


class UsbTransport(Transport):
    """``baud``: of the UART.  ``latency``: seconds after which the chip sends a packet that is not full.

    The board takes no time: it answers a frame when the frame's last byte has come.  The chip's timer begins with the first byte
    that waits.
    """

    name = "the board behind a USB chip"

    def __init__(self, board, clock, *, baud: float = 3e6, latency: float = 0.016):
        self._board, self._clock = board, clock
        self._byte, self._latency = BITS / baud, latency
        #: When the wire is free, each way; frames on their way to the board; answer bytes with the times when the chip has them.
        self._down = self._up = 0.0
        self._frames: deque[tuple[float, bytes]] = deque()
        self._chip: deque[tuple[float, int]] = deque()
        self._waits_since: float | None = None
        self.sent = 0

    def write(self, content: bytes) -> None:
        self.sent += len(content)
        at = 0
        while at < len(content):
            end = content.find(b"\0", at) + 1 or len(content)
            self._down = max(self._down, self._clock.now) + (end - at) * self._byte
            self._frames.append((self._down, content[at:end]))
            at = end

    def _board_until(self, time: float) -> None:
        """What the board has answered by a time."""
        while self._frames and self._frames[0][0] <= time:
            when, frame = self._frames.popleft()
            self._up = max(self._up, when)
            for byte in self._board.link.receive(frame):
                self._up += self._byte
                self._chip.append((self._up, byte))

    def _packet(self) -> float | None:
        """When the chip's next packet comes, of what is known now."""
        if not self._chip:
            return None
        late = self._chip[0][0] + self._latency
        return min(self._chip[FULL - 1][0], late) if len(self._chip) >= FULL else late

    def read(self, timeout: float) -> bytes:
        end = self._clock.now + timeout
        while True:
            due = self._packet()
            coming = self._frames[0][0] if self._frames else None
            if coming is not None and coming <= end and (due is None or coming < due):
                self._board_until(coming)
                continue
            if due is None or due > end:
                self._clock.now = end
                return b""
            self._clock.now = max(self._clock.now, due)
            out = bytearray()
            while self._chip and self._chip[0][0] <= due and len(out) < FULL:
                out.append(self._chip.popleft()[1])
            return bytes(out)

    def close(self) -> None:
        """The port is closed."""
