# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board's packets, answered by the golden model; as a process, what the simulated board is to the host.

``python -m tests.cli.fake_board HOW``: standard input and output are the link.  HOW is ``slow`` (some seconds to load the shipped
model), ``stubborn`` (the same, and neither the end of input nor SIGTERM ends it), ``exit N`` (ends with the code N after 50
packets, with a line on standard error) or ``format N`` (a core that runs programs of format N).
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from zlib import crc32

from tellme.link.framing import FrameError, body, decode, encode, open_body
from tellme.spec.config import preset
from tellme.spec.memory import DoneReason, Event, EventType, StartArgs
from tellme.spec.packets import HELLO, MAGIC, PROTOCOL_VERSION, PacketType
from tellme.spec.program import FORMAT_VERSION
from tests.cli.fake_client import FakeClient

__all__ = ["CORE", "READY", "FakeBoard"]

CORE = "5a" * 32
#: What the process says on standard error when it listens.
READY = "fake board: ready"


class FakeBoard:
    """Takes the host's bytes and says a board's.  ``name``, ``version`` and ``program_format``: what HELLO says."""

    def __init__(self, say: Callable[[bytes], object], *, name: str = "ulx3s-85f", version: int = PROTOCOL_VERSION,
                 program_format: int = FORMAT_VERSION):
        self.client = FakeClient(preset("ulx3s-85f"))
        self._say, self._name, self._version, self._format = say, name, version, program_format
        self._buffer = b""
        self.events = self.packets = 0
        self.running = False

    def hear(self, content: bytes) -> None:
        """Bytes from the host."""
        self._buffer += content
        *frames, self._buffer = self._buffer.split(b"\0")
        for frame in filter(None, frames):
            self.packets += 1
            try:
                self._answer(*open_body(decode(frame)))
            except FrameError:
                self._say(encode(body(0xFF, PacketType.NAK, b"\2")))

    def _answer(self, seq: int, kind: int, payload: bytes) -> None:
        address = int.from_bytes(payload[:4], "little")
        reply, content = PacketType.ACK, b""
        if kind == PacketType.HELLO:
            reply = PacketType.HELLO_ANSWER
            content = HELLO.pack(MAGIC, self._version, self._format, self._name.encode(), bytes.fromhex(CORE))
        elif kind == PacketType.WRITE:
            self.client.write(address, payload[4:])
        elif kind == PacketType.READ:
            reply, content = PacketType.DATA, self.client.read(address, int.from_bytes(payload[4:6], "little"))
        elif kind == PacketType.CHECKSUM:
            size = int.from_bytes(payload[4:8], "little")
            reply = PacketType.SUM
            content = crc32(self.client.read(address, size)).to_bytes(4, "little")
        elif kind == PacketType.STATUS:
            reply, content = PacketType.STATUS_ANSWER, (1).to_bytes(32, "little")
        self._say(encode(body(seq, reply, content)))
        if kind == PacketType.START:
            position, feed, generate, flags, eos, _ = StartArgs.LAYOUT.unpack(payload)
            self.client.start(StartArgs(position, feed, generate, flags, eos))
            self.running = True
        elif kind == PacketType.STOP and self.running:
            self.running = False
            self._event(EventType.DONE, Event(0, 0, DoneReason.STOPPED, *[0] * 5))

    def step(self) -> None:
        """The next event of a run that was started; nothing if none goes on."""
        if self.running:
            kind, event = next(self.client.events())
            self.running = kind != EventType.DONE
            self._event(kind, event)

    def _event(self, kind: EventType, event: Event) -> None:
        self.events += 1
        packet = PacketType.TOKEN if kind == EventType.TOKEN else PacketType.DONE
        self._say(encode(body(self.events % 255, packet, event.pack())))


def main(how: str, code: str = "0") -> None:
    """The process."""
    program_format = int(code) if how == "format" else FORMAT_VERSION
    board = FakeBoard(lambda content: os.write(1, content), name="ulx3s-85f-l2", program_format=program_format)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(READY, file=sys.stderr, flush=True)
    while True:
        board.step()
        if board.running and not select.select([0], [], [], 0)[0]:
            continue
        content = os.read(0, 65536)
        if not content and how != "stubborn":
            return
        time.sleep(0.002)
        board.hear(content)
        if how == "exit" and board.packets >= 50:
            print("fake board: last words", file=sys.stderr, flush=True)
            os._exit(int(code))


if __name__ == "__main__":
    main(*sys.argv[1:])
