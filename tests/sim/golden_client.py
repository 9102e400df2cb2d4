# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A golden board in the place of a simulated one, behind the calls of a client, with made-up cycles."""

from collections import deque
from dataclasses import replace

from tellme.golden.board import GoldenBoard
from tellme.spec.memory import REGISTERS, TOKEN_BASE, EventType, register_address

__all__ = ["PASS", "TOLD", "GoldenClient"]

#: Cycles of a pass, and a told token of it.
PASS, TOLD = 100_000, 20
NAMES = {register_address(name): name for name in REGISTERS}


class GoldenClient:
    """``late``: the second slot's START comes a pass later than it should.  ``wrong``: the number of an event whose token is
    another one."""

    def __init__(self, image, core, *, slots, drafts=False, late=False, wrong=None):
        self.golden = GoldenBoard(image, core.chunk, head_tokens=core.head_tokens, slots=slots, drafts=drafts,
                                  token_window=core.widths.token_window)
        self._core, self._late, self._wrong = core, late, wrong
        self._events = {slot: deque() for slot in range(slots)}
        self.cycles = self._told = 0
        self.passes = []

    def write(self, address, content):
        (value,) = [int.from_bytes(content, "little")]
        if address in NAMES:
            self.golden.registers[NAMES[address]] = value
            return
        slot, at = divmod((address - TOKEN_BASE) // 4, self._core.widths.token_window)
        self.golden.windows[slot][at] = value

    def start(self, args):
        if not self.golden.running:
            self.cycles = 0
        elif len(self.golden.running) == 1:
            # The first slot's pass is under way.
            for _ in range(2 if self._late else 1):
                self._pass()
        self.golden.begin(args)

    def _pass(self):
        before = self.cycles
        events = self.golden.make_pass()
        self.cycles += PASS
        for kind, event in events:
            if kind == EventType.TOKEN:
                self.cycles += TOLD
                if self._told == self._wrong:
                    event = replace(event, id=event.id ^ 1)
                self._told += 1
            self._events[event.slot].append((kind, replace(event, cycles=self.cycles)))
        self.passes.append(self.cycles - before)

    def events(self, slot=0):
        while True:
            while not self._events[slot]:
                self._pass()
            kind, event = self._events[slot].popleft()
            yield kind, event
            if kind == EventType.DONE:
                return
