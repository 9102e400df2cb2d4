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

from tellme.golden.link import BoardLink
from tellme.spec.config import preset
from tellme.spec.memory import (
    COUNTERS,
    PROGRAM_BASE,
    REGISTER_BASE,
    SDRAM_BASE,
    SEGMENT_BASE,
    TOKEN_BASE,
    TOP_BASE,
    TOP_ENTRIES,
    DoneReason,
    Event,
    EventType,
    StartArgs,
    counter_address,
)
from tellme.spec.packets import PROTOCOL_VERSION
from tellme.spec.program import FORMAT_VERSION
from tellme.spec.status import StatusFlag
from tests.cli.fake_client import FakeClient

__all__ = ["CORE", "READY", "FakeBoard"]

CORE = "5a" * 32
#: What the process says on standard error when it listens.
READY = "fake board: ready"


class FakeBoard:
    """Takes the host's bytes and says a board's.  ``name``, ``version`` and ``program_format``: what HELLO says.

    ``packets`` and ``events`` count what came and what was said.
    """

    def __init__(self, say: Callable[[bytes], object], *, name: str = "ulx3s-85f-l8", version: int = PROTOCOL_VERSION,
                 program_format: int = FORMAT_VERSION):
        self.client = client = FakeClient(preset("ulx3s-85f-l8"))
        windows = [(SDRAM_BASE, len(client.memory), True), (PROGRAM_BASE, len(client.program), True),
                   (SEGMENT_BASE, len(client.segments), True), (REGISTER_BASE, len(client.registers), True),
                   (TOKEN_BASE, 4 * len(client.tokens), True), (TOP_BASE, 8 * TOP_ENTRIES, False),
                   (REGISTER_BASE, counter_address(list(COUNTERS)[-1]) + 4 - REGISTER_BASE, False)]
        self.link = BoardLink(self, windows, name=name, build_id=bytes.fromhex(CORE), version=version,
                              program_format=program_format)
        self._say = say
        self._part = b""
        self.events = self.packets = 0
        self.running = self._stopped = False

    # What the link asks for: tellme.golden.link.Core.
    def read(self, address: int, size: int) -> bytes:
        return self.client.read(address, size)

    def write(self, address: int, content: bytes) -> None:
        self.client.write(address, content)

    def start(self, args: bytes) -> None:
        self.client.start(StartArgs.unpack(args))
        self.running, self._stopped = True, False

    def stop(self) -> None:
        self._stopped = True

    def status(self) -> bytes:
        return (StatusFlag.SDRAM_READY | (StatusFlag.RUNNING if self.running else 0)).to_bytes(32, "little")

    # What goes on outside.
    def hear(self, content: bytes) -> None:
        """Bytes from the host."""
        *frames, self._part = (self._part + content).split(b"\0")
        self.packets += len([frame for frame in frames if frame])
        self._say(self.link.receive(content))

    @property
    def busy(self) -> bool:
        """Whether a step of the run can be done: a run goes on, and the host has taken its events."""
        return self.running and self.link.room

    def step(self) -> None:
        """The next event of a run that was started; nothing if none can be done."""
        if self.busy:
            kind, event = (EventType.DONE, Event(0, 0, DoneReason.STOPPED, *[0] * 5)) if self._stopped else next(
                self.client.events())
            self.running = kind != EventType.DONE
            self.link.event(kind, event.pack())
        # Sent again, too.
        while frame := self.link.poll():
            self.events += 1
            self._say(frame)


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
        if board.busy and not select.select([0], [], [], 0)[0]:
            continue
        content = os.read(0, 65536)
        if not content and how != "stubborn":
            return
        before = board.packets
        board.hear(content)
        time.sleep(0.002 * (board.packets - before))
        if how == "exit" and board.packets >= 50:
            print("fake board: last words", file=sys.stderr, flush=True)
            os._exit(int(code))


if __name__ == "__main__":
    main(*sys.argv[1:])
