# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Weight buffer manager: URAM-like blocks of EBR, filled before use (TeLLMe v2 section 3.4)."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import SegmentLayouts, SegmentPort, weights_control
from hw.lib.layouts import Layouts
from hw.lib.streams import Queue
from tellme.spec.program import SEGMENT_ENTRIES

__all__ = ["WeightBuffer"]


class WeightBuffer(wiring.Component):
    """Streams the weights' segments word by word, and reads ahead as far as the buffer has room.

    After ``start`` (a pulse) the 64-bit words of all segments (:class:`tellme.spec.program.Segment`) leave on ``out`` in the
    order of the list, chunk after chunk without end.  The first ``plain_tokens`` chunks leave out the LM head's segments.  Where
    the LM head may run in two steps, of its segments those alone leave whose ``two_steps`` is the input's, which stands still
    from a start to ``idle``.
    ``stop`` (a pulse) ends the stream: nothing more is asked for, words on their way are dropped, then ``idle`` rises.  A start
    counts only while idle.

    In a core with several slots ``begin`` (a pulse) says of pass after pass, with ``lm_head``, whether the LM head's segments
    come in it.  What is read ahead waits at the first of these segments, and at the list's end, until it is said of that pass.
    The pulse of a pass comes after the start, and after the last word of the pass before.

    The list is read through ``segments`` while the words of the segment before are asked for, a request in three cycles, so
    that a change of segments costs no cycle.  An entry that is left out, and the list's end, take three cycles each; these
    cycles are hidden too if the segment before has one more request for each of them.  The first segment of a run is read even
    if it is flagged for the LM head.  An empty list, which a host refuses, gives no word: the unit waits for ``stop``.  The
    list must not change from two cycles before a start on.

    Storage: ``blocks`` blocks of 512 words, 72 bits wide, made of two EBR of 512 x 36; 64 bits of each word are used.  A word can
    leave two cycles after it has come, never earlier.  Words are asked for only if there is room for them.  Throughput: a 64-bit
    word per cycle in and out.  ``level`` is the number of words held.  Raises ValueError for less than one block.
    """

    WORDS_PER_BLOCK = 512
    #: 32-bit words of a request at most: half a row, so that rows are opened once.
    BURST = 128

    def __init__(self, layouts: Layouts, *, blocks: int):
        if blocks < 1:
            raise ValueError(f"the weight buffer has {blocks} blocks; at least one is needed")
        self._depth, self._widths = blocks * self.WORDS_PER_BLOCK, layouts.widths
        self._told = layouts.widths.slots > 1
        super().__init__({
            "port": Out(layouts.weights_port),
            "control": In(weights_control(layouts.widths.slots)), "segments": Out(SegmentPort),
            "out": Out(stream.Signature(64)), "level": Out(range(self._depth + 1)),
            **({"two_steps": In(1)} if layouts.two_steps else {}),
        })
        self._two_steps = layouts.two_steps

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth, control = self._depth, self.control
        m.submodules.blocks = blocks = memory.Memory(shape=72, depth=depth, init=[])
        write, read = blocks.write_port(), blocks.read_port()
        request = self.port.req

        # ------------------------------------------------------------------ the list, an entry before what is asked for
        running, plain = Signal(), Signal(16)
        entry = Signal(range(SEGMENT_ENTRIES))
        # The next entry may be taken, and is: its count then, its address in the cycle after it.
        offered, take, taken = Signal(), Signal(), Signal()
        counts, place = (data.View(layout, self.segments.data) for layout in SegmentLayouts)
        ends, skips = Signal(), Signal()
        left_out: Value = plain != 0
        if self._told:
            # What is said of this pass, and of the next one, which may begin while the rest of this one's list is left out.
            said, lm_heads, next_pass, waits = Signal(range(3)), Signal(2), Signal(), Signal()
            left_out = ~lm_heads[0]
            at = said - next_pass
            with m.If(next_pass):
                m.d.sync += lm_heads[0].eq(lm_heads[1])
            with m.If(control.begin):
                m.d.sync += lm_heads.bit_select(at[:1], 1).eq(control.lm_head)
            m.d.sync += [said.eq(at + control.begin), waits.eq((said == 0) & (counts.lm_head | (counts.words64 == 0)))]
            with m.If(control.stop):
                m.d.sync += said.eq(0)
        if self._two_steps:
            left_out = left_out | (counts.two_steps ^ self.two_steps)
        m.d.sync += [ends.eq(counts.words64 == 0), skips.eq(counts.lm_head & left_out), taken.eq(take)]
        m.d.comb += self.segments.addr.eq(Cat(take, entry))
        with m.If(take):
            m.d.sync += entry.eq(entry + 1)
        with m.FSM(name="list") as list_:
            with m.State("IDLE"):
                # The first entry is shown, as whoever starts has seen ``idle``.
                with m.If(take):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "SHOWN"
            with m.State("SHOWN"):
                m.next = "JUDGE"
            with m.State("JUDGE"):
                with m.If(~running):
                    m.d.sync += entry.eq(0)
                    m.next = "IDLE"
                if self._told:
                    with m.Elif(waits):
                        m.next = "JUDGE"
                with m.Elif(ends):
                    m.d.sync += entry.eq(0)
                    if self._told:
                        m.d.comb += next_pass.eq(1)
                    else:
                        m.d.sync += plain.eq(Mux(plain == 0, 0, plain - 1))
                    m.next = "LOOK"
                with m.Elif(skips):
                    m.d.sync += entry.eq(entry + 1)
                    m.next = "LOOK"
                with m.Else():
                    m.d.comb += offered.eq(1)
                    with m.If(take):
                        m.next = "LOOK"

        # ------------------------------------------------------------------ what to ask for
        addr, remaining = Signal(self._widths.word_address_bits), Signal(self._widths.word_address_bits)
        # Room for words, less all that was asked for: in 64-bit words.
        room = Signal(range(depth + 1), init=depth)
        burst = self.BURST // 2
        # A cycle after what is left.
        size, none_left, last = Signal(range(burst + 1)), Signal(), Signal()
        m.d.sync += [size.eq(Mux(remaining <= burst, remaining, burst)), none_left.eq(remaining == 0),
                     last.eq(remaining <= burst)]
        asked = Signal()
        with m.If(taken):
            m.d.sync += addr.eq(place.address)
        with m.FSM(name="ask") as ask:
            with m.State("IDLE"):
                with m.If(control.start & control.idle):
                    m.d.comb += take.eq(~ends)
                    if not self._told:
                        m.d.sync += plain.eq(control.plain_tokens)
                    m.d.sync += running.eq(1)
                    m.next = "LEFT"
            with m.State("LEFT"):
                m.next = "NEXT"
            with m.State("NEXT"):
                with m.If(~running):
                    m.next = "IDLE"
                with m.Elif(none_left):
                    # The next segment was not known yet when the last words of the one before were asked for.
                    with m.If(offered):
                        m.d.comb += take.eq(1)
                        m.next = "LEFT"
                with m.Elif(room >= size):
                    m.d.sync += [request.p.addr.eq(addr), request.p.len.eq(size << 1), request.valid.eq(1)]
                    m.next = "ASK"
            with m.State("ASK"):
                with m.If(request.ready):
                    m.d.comb += [asked.eq(1), take.eq(last & offered)]
                    m.d.sync += [request.valid.eq(0), addr.eq(addr + request.p.len),
                                 remaining.eq(remaining - (request.p.len >> 1))]
                    m.next = "LEFT"
        with m.If(take):
            m.d.sync += remaining.eq(counts.words64)
        with m.If(control.stop):
            m.d.sync += running.eq(0)

        # ------------------------------------------------------------------ in
        owed, put = Signal(range(depth + 1)), Signal()
        m.d.comb += [self.port.data.ready.eq(1), put.eq(self.port.data.valid), write.en.eq(put),
                     write.data.eq(self.port.data.payload)]
        m.d.sync += owed.eq(owed + Mux(asked, request.p.len >> 1, 0) - put)
        with m.If(put):
            m.d.sync += write.addr.eq(Mux(write.addr == depth - 1, 0, write.addr + 1))

        # ------------------------------------------------------------------ out: read ahead by one into a small queue
        # whose valid, which moves the whole engine, comes from a register.
        m.submodules.queue = queue = Queue(64)
        stored = Signal(range(depth + 1))
        fetch = Signal()
        arriving = Signal()
        m.d.comb += [
            fetch.eq((stored != 0) & (queue.level + arriving < 3) & running),
            read.en.eq(fetch),
            queue.i.payload.eq(read.data[:64]), queue.i.valid.eq(arriving),
            self.out.payload.eq(queue.o.payload), self.out.valid.eq(queue.o.valid & running),
            queue.o.ready.eq(self.out.ready | ~running),
            self.level.eq(stored),
        ]
        m.d.sync += [arriving.eq(fetch), stored.eq(stored + put - fetch)]
        with m.If(fetch):
            m.d.sync += read.addr.eq(Mux(read.addr == depth - 1, 0, read.addr + 1))
        m.d.sync += room.eq(room + fetch - Mux(asked, request.p.len >> 1, 0))
        # A cycle late, which a start has time for.
        m.d.sync += control.idle.eq(~running & ask.ongoing("IDLE") & list_.ongoing("IDLE") & (owed == 0) & ~queue.o.valid
                                    & ~arriving)
        with m.If(control.idle):
            # A clean slate for the next start.
            m.d.sync += [room.eq(depth), stored.eq(0), write.addr.eq(0), read.addr.eq(0)]
        return m
