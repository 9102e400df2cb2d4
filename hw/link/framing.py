# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""COBS frames: a body without zero bytes on the wire, ended by one."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["FrameReceiver", "FrameSender"]


class FrameReceiver(wiring.Component):
    """Decodes a frame into memory, and then waits for ``release``.

    ``frame`` rises with the frame's end.  ``length`` is the body's length.  ``bad`` says that a COBS code was cut short, or
    that the body was longer than ``depth``.  The body is readable at ``addr`` (one cycle) until ``release``.  Empty frames are
    skipped. Takes a byte per cycle.
    """

    def __init__(self, *, depth: int = 2048):
        self._depth = depth
        super().__init__({"i": In(stream.Signature(8)), "frame": Out(1), "bad": Out(1), "length": Out(range(depth + 1)),
                          "addr": In(range(depth)), "data": Out(8), "release": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.body = body = memory.Memory(shape=8, depth=self._depth, init=[])
        write, read = body.write_port(), body.read_port()
        remaining, zero_next, started = Signal(8), Signal(), Signal()
        too_long = Signal()
        put, byte = Signal(), Signal(8)
        m.d.comb += [read.addr.eq(self.addr), self.data.eq(read.data), self.i.ready.eq(~self.frame),
                     write.addr.eq(self.length), write.data.eq(byte), write.en.eq(put & ~too_long),
                     too_long.eq(self.length == self._depth)]
        b = self.i.payload
        with m.If(self.release):
            m.d.sync += [self.frame.eq(0), self.bad.eq(0), self.length.eq(0), remaining.eq(0), started.eq(0),
                         zero_next.eq(0)]
        with m.Elif(self.i.valid & self.i.ready):
            with m.If(b == 0):
                with m.If(started):
                    m.d.sync += self.frame.eq(1)
                    with m.If(remaining != 0):
                        m.d.sync += self.bad.eq(1)
            with m.Elif(remaining == 0):
                m.d.comb += put.eq(zero_next)
                m.d.sync += [remaining.eq(b - 1), zero_next.eq(b != 255), started.eq(1)]
            with m.Else():
                m.d.comb += [put.eq(1), byte.eq(b)]
                m.d.sync += remaining.eq(remaining - 1)
            with m.If(put):
                m.d.sync += self.length.eq(Mux(too_long, self.length, self.length + 1))
                with m.If(too_long):
                    m.d.sync += self.bad.eq(1)
        return m


class FrameSender(wiring.Component):
    """Collects a body, then sends it as a frame.

    ``put`` with ``byte`` appends; ``send`` starts; ``busy`` until the closing zero has gone.  Five cycles a byte: three to
    look for the next zero, two to send.
    """

    def __init__(self, *, depth: int = 2048):
        self._depth = depth
        super().__init__({"o": Out(stream.Signature(8)), "put": In(1), "byte": In(8), "send": In(1), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.body = body = memory.Memory(shape=8, depth=self._depth, init=[])
        write, read = body.write_port(), body.read_port()
        length = Signal(range(self._depth + 1))
        first, at = Signal.like(length), Signal.like(length)
        run, nonzero = Signal(8), Signal()
        # A register after the slow EBR.
        m.d.sync += nonzero.eq(read.data != 0)
        m.d.comb += [write.addr.eq(length), write.data.eq(self.byte), write.en.eq(self.put), read.addr.eq(at)]
        with m.If(self.put):
            m.d.sync += length.eq(length + 1)
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [first.eq(0), at.eq(0), run.eq(0)]
                with m.If(self.send):
                    m.next = "LOOK"
            with m.State("LOOK"):
                # Address out; the byte is here in the next state, and known a state later.
                m.next = "CODE"
                with m.If((at != length) & (run != 254)):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "SEE"
            with m.State("SEE"):
                m.next = "CODE"
                with m.If(nonzero):
                    m.d.sync += [at.eq(at + 1), run.eq(run + 1)]
                    m.next = "LOOK"
            with m.State("CODE"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(run + 1)]
                m.d.sync += at.eq(Mux(self.o.ready, first, at))
                with m.If(self.o.ready):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "BYTE"
                with m.If(at == first + run):
                    # The code stands for the zero after the run, unless the run has full length.
                    skip = run != 254
                    with m.If(at + skip > length):
                        m.next = "END"
                    with m.Else():
                        m.d.sync += [at.eq(at + skip), first.eq(at + skip), run.eq(0)]
                        m.next = "LOOK"
                        with m.If((at == length) & (run == 254)):
                            m.next = "END"
            with m.State("BYTE"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(read.data)]
                with m.If(self.o.ready):
                    m.d.sync += at.eq(at + 1)
                    m.next = "FETCH"
            with m.State("END"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += length.eq(0)
                    m.next = "IDLE"
        return m
