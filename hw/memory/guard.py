# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Guards: they let a memory port outlive a reset of its user, and finish the bursts that were asked for."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.lib.ports import MEMORY, MemorySpec, WordReadPort, WordWritePort

__all__ = ["ReadGuard", "WriteGuard"]


def count(m: Module, port: Any) -> tuple[Signal, Signal]:
    """Whether all words of a port's accepted requests had passed in the cycle before, and whether this has changed since.

    A port's handshakes arrive late in their cycle, and so go through registers first.
    """
    # One request's length and what was left of the one before.
    owed, asked, passed = Signal(len(port.req.p.len) + 2), Signal(len(port.req.p.len)), Signal()
    none, late = Signal(init=1), Signal()
    taken, moved = port.req.valid & port.req.ready, port.data.valid & port.data.ready
    owes = Signal.like(owed)
    m.d.comb += owes.eq(owed + asked - passed)
    m.d.sync += [asked.eq(Mux(taken, port.req.p.len, 0)), passed.eq(moved), late.eq(taken | moved), owed.eq(owes),
                 none.eq(owes == 0)]
    return none, late


class ReadGuard(wiring.Component):
    """Sits between a read port's user and the hub's FIFO, and counts the words that were asked for and have not come.

    While ``drain`` is high, no request passes, and data is taken and dropped.  ``clean`` is high when no word is outstanding.
    Adds no latency; words are counted a cycle late.
    """

    def __init__(self, spec: MemorySpec = MEMORY):
        super().__init__({"user": In(WordReadPort(spec)), "port": Out(WordReadPort(spec)), "drain": In(1), "clean": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        user, port = self.user, self.port
        none, late = count(m, port)
        m.d.comb += [
            port.req.payload.eq(user.req.payload),
            port.req.valid.eq(user.req.valid & ~self.drain),
            user.req.ready.eq(port.req.ready & ~self.drain),
            user.data.payload.eq(port.data.payload),
            user.data.valid.eq(port.data.valid & ~self.drain),
            port.data.ready.eq(user.data.ready | self.drain),
            self.clean.eq(none & ~late),
        ]
        return m


class WriteGuard(wiring.Component):
    """The same for a write port: while ``drain`` is high, the missing words of accepted requests are written as zeros.

    The zeros lie where the stopped step would have written: in rows of the position that was in work, or in a dump of logits.
    Neither is valid before it is written anew.  If words have lanes, no lane of such a word is written.  ``clean`` is high when
    the memory holds all words.
    """

    def __init__(self, spec: MemorySpec = MEMORY):
        super().__init__({"user": In(WordWritePort(spec)), "port": Out(WordWritePort(spec)), "drain": In(1), "clean": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        user, port = self.user, self.port
        none, late = count(m, port)
        due = Signal()
        m.d.sync += due.eq(~none & ~late)
        m.d.comb += [
            port.req.payload.eq(user.req.payload),
            port.req.valid.eq(user.req.valid & ~self.drain),
            user.req.ready.eq(port.req.ready & ~self.drain),
            port.data.payload.as_value().eq(Mux(self.drain, 0, user.data.payload.as_value())),
            # A zero is sent only after the count is up to date and was compared: every third cycle.
            port.data.valid.eq(Mux(self.drain, due & ~late, user.data.valid)),
            user.data.ready.eq(port.data.ready & ~self.drain),
            user.idle.eq(port.idle),
            self.clean.eq(none & ~late & port.idle),
        ]
        return m
