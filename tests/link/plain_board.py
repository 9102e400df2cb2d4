# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board behind the link that only keeps what is written, and whose runs give events that a test can work out."""

from dataclasses import replace
from zlib import crc32

import numpy as np

from tellme.golden.link import BoardLink, Window
from tellme.spec.memory import (
    COUNTER_BASE,
    COUNTERS,
    PROGRAM_BASE,
    REGISTER_BASE,
    REGISTERS,
    SDRAM_BASE,
    SEGMENT_BASE,
    TOKEN_BASE,
    DoneReason,
    Event,
    EventType,
    StartArgs,
)
from tellme.spec.program import SEGMENT_ENTRIES, SEGMENT_WORDS

#: Bytes of memory.
MEMORY = 1 << 17


def windows(memory: int = MEMORY) -> tuple[Window, ...]:
    """The windows of a board with so many bytes of memory."""
    return ((SDRAM_BASE, memory, True), (PROGRAM_BASE, 16 * 128, True), (TOKEN_BASE, 4096, True),
            (SEGMENT_BASE, 4 * SEGMENT_WORDS * SEGMENT_ENTRIES, True), (REGISTER_BASE, 4 * len(REGISTERS), True),
            (REGISTER_BASE, COUNTER_BASE - REGISTER_BASE + 4 * len(COUNTERS), False))


#: What HELLO says of the core.
BUILD_ID = bytes(range(32))


def event_of(args: StartArgs, number: int) -> Event:
    """The event of a run's pick ``number``, from 0 on."""
    return Event(args.position + args.feed - 1 + number, crc32(args.pack() + bytes([number % 256])) % 1000, number, *[0] * 5,
                 args.slot)


def done_of(args: StartArgs, number: int, reason: DoneReason) -> Event:
    """The DONE after ``number`` picks."""
    return replace(event_of(args, number), logit=reason)


class PlainBoard:
    """A tellme.golden.link.Core and the link before it.  ``run_step`` gives a run's next event to the link."""

    def __init__(self, *, memory: int = MEMORY, **options):
        # Takes memory of this process only where something was written.
        self.memory = {base: memoryview(np.zeros(size, np.uint8)) for base, size, _ in windows(memory)}
        self.starts: list[StartArgs] = []
        #: Writes (address, bytes) in their order.
        self.writes: list[tuple[int, bytes]] = []
        self.running = self.stopped = False
        self.left = self.number = 0
        self.link = BoardLink(self, windows(memory), **{"name": "plain", "build_id": BUILD_ID, **options})

    def _at(self, address):
        base = max(base for base in self.memory if base <= address)
        return self.memory[base], address - base

    def read(self, address, size):
        memory, at = self._at(address)
        return bytes(memory[at:at + size])

    def write(self, address, content):
        memory, at = self._at(address)
        memory[at:at + len(content)] = content
        self.writes.append((address, content))

    def start(self, args):
        assert not self.running
        self.starts.append(StartArgs.unpack(args))
        self.running, self.stopped, self.number = True, False, 0

    def stop(self):
        self.stopped = True

    def status(self):
        return int(self.running).to_bytes(4, "little") + bytes(28)

    def run_step(self):
        """The next event of the run, if one goes on and the ring has room."""
        if not self.running or not self.link.room:
            return
        args = self.starts[-1]
        if self.stopped or self.number == args.generate:
            reason = DoneReason.STOPPED if self.stopped else DoneReason.LENGTH
            self.running = False
            self.link.event(EventType.DONE, done_of(args, self.number, reason).pack())
        else:
            self.link.event(EventType.TOKEN, event_of(args, self.number).pack())
            self.number += 1

    def reset(self):
        """What a reset, or a power cycle, leaves."""
        self.memory = {base: memoryview(np.zeros(len(content), np.uint8)) for base, content in self.memory.items()}
        self.running = False
        self.link.reset()


class SlottedBoard(PlainBoard):
    """A plain board whose slots run side by side: each step gives the next event of each slot that runs, while the ring has
    room."""

    slots = 4

    def __init__(self, **options):
        #: Of each slot that runs: its arguments, the number of its picks, whether it is to stop.
        self.runs: dict[int, list] = {}
        super().__init__(**{"slots": self.slots, **options})

    @property
    def running(self):
        return sum(1 << slot for slot in self.runs)

    @running.setter
    def running(self, value):
        assert not value
        self.runs = {}

    def start(self, args):
        args = StartArgs.unpack(args)
        assert args.slot not in self.runs
        self.starts.append(args)
        self.runs[args.slot] = [args, 0, False]

    def stop(self, slots):
        for slot, run in self.runs.items():
            run[2] |= bool(slots >> slot & 1)

    def status(self):
        return int(bool(self.runs)).to_bytes(4, "little") + bytes(28)

    def run_step(self):
        for slot, run in sorted(self.runs.items()):
            if not self.link.room:
                return
            args, number, stopped = run
            if stopped or number == args.generate:
                del self.runs[slot]
                reason = DoneReason.STOPPED if stopped else DoneReason.LENGTH
                self.link.event(EventType.DONE, done_of(args, number, reason).pack())
            else:
                self.link.event(EventType.TOKEN, event_of(args, number).pack())
                run[1] += 1
