# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One memory port for two users who never use it at the same time."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.ports import MemoryRequest, ReadPort, WritePort

__all__ = ["ReadShare", "WriteShare"]


class ReadShare(wiring.Component):
    """``one`` has the port while ``first`` is high, from the next cycle on, ``other`` else.

    Requests go to ``req``; words come from ``words``, so that something may lie between the port and its users.  The choice is
    a register: users' first requests are cycles behind their starts.
    """

    req: Out(stream.Signature(MemoryRequest))
    words: In(stream.Signature(32))
    one: In(ReadPort)
    other: In(ReadPort)
    first: In(1)

    def elaborate(self, platform):
        m = Module()
        first = Signal()
        m.d.sync += first.eq(self.first)
        one, other = self.one, self.other
        m.d.comb += [
            self.req.payload.eq(Mux(first, one.req.payload, other.req.payload)),
            self.req.valid.eq(Mux(first, one.req.valid, other.req.valid)),
            one.req.ready.eq(first & self.req.ready), other.req.ready.eq(~first & self.req.ready),
            one.data.payload.eq(self.words.payload), other.data.payload.eq(self.words.payload),
            one.data.valid.eq(first & self.words.valid), other.data.valid.eq(~first & self.words.valid),
            self.words.ready.eq(Mux(first, one.data.ready, other.data.ready)),
        ]
        return m


class WriteShare(wiring.Component):
    """``one`` has the port while ``first`` is high, ``other`` else; words leave on ``words``, see ReadShare."""

    req: Out(stream.Signature(MemoryRequest))
    words: Out(stream.Signature(32))
    idle: In(1)
    one: In(WritePort)
    other: In(WritePort)
    first: In(1)

    def elaborate(self, platform):
        m = Module()
        first, one, other = self.first, self.one, self.other
        m.d.comb += [
            self.req.payload.eq(Mux(first, one.req.payload, other.req.payload)),
            self.req.valid.eq(Mux(first, one.req.valid, other.req.valid)),
            one.req.ready.eq(first & self.req.ready), other.req.ready.eq(~first & self.req.ready),
            self.words.payload.eq(Mux(first, one.data.payload, other.data.payload)),
            self.words.valid.eq(Mux(first, one.data.valid, other.data.valid)),
            one.data.ready.eq(first & self.words.ready), other.data.ready.eq(~first & self.words.ready),
            one.idle.eq(self.idle), other.idle.eq(self.idle),
        ]
        return m
