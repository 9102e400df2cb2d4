# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Parts between streams: units with one clock enable, skids, queues, and the end of a pipeline that nothing stalls."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.stages import Stages

__all__ = ["Landing", "Queue", "Skid", "StreamUnit"]


class StreamUnit(wiring.Component):
    """A unit of LATENCY stages between streams ``i`` and ``o``, initiation interval 1.

    The whole unit moves when its last stage is empty or taken, and stalls otherwise.  valid never waits for ready, and a payload
    stays until it is taken.
    """

    LATENCY: int

    def __init__(self, i_shape: Any, o_shape: Any):
        super().__init__({"i": In(stream.Signature(i_shape)), "o": Out(stream.Signature(o_shape))})

    def pipeline(self, m: Module) -> Stages:
        """The stages of the unit, with handshake and clock enable."""
        ce = Signal()
        pipe = Stages(m, ce)
        m.d.comb += [ce.eq(~self.o.valid | self.o.ready), self.i.ready.eq(ce),
                     self.o.valid.eq(pipe.delay(self.i.valid, self.LATENCY, "valid", resets=True))]
        return pipe


class Skid(wiring.Component):
    """Two places between streams, so that no combinational path leads through ready.  Latency 1; nothing is lost at a stall."""

    def __init__(self, shape: Any):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size = len(Value.cast(self.i.payload))
        held, payload, full = Signal(size, reset_less=True), Signal(size, reset_less=True), Signal()
        m.d.comb += [self.i.ready.eq(~full), self.o.payload.eq(payload)]
        free = ~self.o.valid | self.o.ready
        with m.If(free):
            m.d.sync += [self.o.valid.eq(self.i.valid | full), full.eq(0),
                         payload.eq(Mux(full, held, Value.cast(self.i.payload)))]
        with m.Elif(self.i.valid & ~full):
            m.d.sync += [held.eq(self.i.payload), full.eq(1)]
        return m


class Queue(wiring.Component):
    """A small queue between streams in LUT RAM, whose valid and ready come from registers.

    A Skid's ready enables all its bits; this queue's ready enables a pointer only.  Latency 1, one element per cycle.  ``level``
    is the number of elements in the queue.
    """

    def __init__(self, shape: Any, *, depth: int = 4):
        self._depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=len(Value.cast(self.i.payload)), depth=self._depth)
        m.d.comb += [queue.w_data.eq(self.i.payload), queue.w_en.eq(self.i.valid), self.i.ready.eq(queue.w_rdy),
                     self.o.payload.eq(queue.r_data), queue.r_en.eq(self.o.ready), self.level.eq(queue.level)]
        # The same value as r_rdy, from a register.
        m.d.sync += self.o.valid.eq((queue.w_en & queue.w_rdy) | (queue.level > 1) | ((queue.level == 1) & ~queue.r_en))
        return m


class Landing(wiring.Component):
    """The end of a pipeline that cannot be stalled: a queue, and a count of the elements that are on their way to the queue.

    Assert ``sent`` once for each element entering the pipeline, only while ``open`` is high.  For bursts (``burst`` elements),
    only the first element needs ``open``; the other elements must follow in the next burst - 1 cycles.  Assert ``valid`` with
    ``value`` when an element arrives, in the order of sending; there is always room for the element.  ``empty``: no element is in
    the queue or on its way.

    The rate is an element per cycle if ``depth`` is at least the cycles of the way plus the burst's length plus five.  ``o`` and
    ``open`` come from registers.
    """

    def __init__(self, shape: Any, *, depth: int, burst: int = 1):
        self._shape, self._depth, self._burst = shape, depth, burst
        super().__init__({"sent": In(1), "open": Out(1, init=1), "valid": In(1), "value": In(shape),
                          "o": Out(stream.Signature(shape)), "empty": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=len(Value.cast(self.value)), depth=self._depth)
        m.submodules.skid = skid = Skid(self._shape)
        under_way, sent = Signal(range(self._depth + 1)), Signal()
        m.d.comb += [queue.w_data.eq(self.value), queue.w_en.eq(self.valid), skid.i.payload.eq(queue.r_data),
                     skid.i.valid.eq(queue.r_rdy), queue.r_en.eq(skid.i.ready), self.empty.eq((under_way == 0) & ~sent)]
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        # Three cycles may send elements that are not counted yet; the last of the three may begin a burst.
        m.d.sync += [sent.eq(self.sent), under_way.eq(under_way + sent - (self.o.valid & self.o.ready)),
                     self.open.eq(under_way <= self._depth - 2 - self._burst)]
        return m
