# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The events that a host may ask for again: a ring in one EBR."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.lib.control import EventLayout, EventPayload
from tellme.spec.memory import EventType
from tellme.spec.packets import EVENT_SLOTS

__all__ = ["EVENT_WORDS", "EventRing", "word_left"]

#: Words of an event's payload.
EVENT_WORDS = EventPayload.size // 32
#: Words of a slot: the event's type, and the payload with its last word at address 1.
SLOT_WORDS = 16


def word_left(source: Value, left: Value) -> Value:
    """The word of 32 bits of ``source`` that comes when ``left`` words are left, this one among them; ``left`` = 0 gives any.

    A binary tree, which takes fewer LUTs than a Switch with a case for each word.
    """
    words = [source[at:at + 32] for at in range(0, len(source), 32)]
    count = 1 << ceil_log2(len(words))
    # ``left`` modulo ``count`` is here the number of the value; what is never asked for may be anything.
    numbers = [len(words) - (rest or count) for rest in range(count)]
    level: list[Value] = [words[i] if 0 <= i < len(words) else words[0] for i in numbers]
    for bit in left[:ceil_log2(count)]:
        level = [Mux(bit, odd, even) for even, odd in zip(level[::2], level[1::2], strict=True)]
    return level[0]


class EventRing(wiring.Component):
    """Keeps the events ``first`` to ``next`` - 1 (numbers modulo 256), of which those before ``number`` were sent.

    ``i`` takes an event in EVENT_WORDS + 1 cycles, and is not ready while EVENT_SLOTS events are kept.  Until ``i.ready`` the
    payload has to be valid, though its numbers may change.

    - ``unsent``: there are events from ``number`` on; ``sent`` moves ``number`` one on.
    - ``data`` is the word ``word`` of the slot of ``number``, a cycle later: EVENT_WORDS is the payload's first word, 1 its last.
      Bit 0 of word 0 tells a DONE from a TOKEN.
    - ``known``: ``upto`` is one of the numbers ``first`` to ``next``; valid two cycles after a change of ``upto``.
    - ``forget`` removes the events before ``upto``, which must be known.  ``number`` becomes ``upto`` if it was before ``upto``,
      and with ``again``.
    - ``clear`` removes all events, one that is being taken too, and the next one gets the number 0.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(EventLayout)),
                          "first": Out(8), "next": Out(8), "number": Out(8), "unsent": Out(1), "sent": In(1),
                          "word": In(range(SLOT_WORDS)), "data": Out(32),
                          "upto": In(8), "again": In(1), "known": Out(1), "forget": In(1), "clear": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.slots = slots = memory.Memory(shape=32, depth=EVENT_SLOTS * SLOT_WORDS, init=[])
        write, read = slots.write_port(), slots.read_port()
        # Words of the event that are still to be written, the type's among them, less one.
        left = Signal(range(SLOT_WORDS), init=EVENT_WORDS)
        held, full = Signal(8), Signal()
        slot_bits = ceil_log2(EVENT_SLOTS)
        m.d.comb += [
            held.eq(self.next - self.first), full.eq(held == EVENT_SLOTS), self.unsent.eq(self.number != self.next),
            write.addr.eq(Cat(left, self.next[:slot_bits])), read.addr.eq(Cat(self.word, self.number[:slot_bits])),
            self.data.eq(read.data), self.i.ready.eq(left == 0),
            write.en.eq(self.i.valid & ~full),
        ]
        m.d.comb += write.data.eq(word_left(self.i.p.payload.as_value(), left))
        with m.If(left == 0):
            m.d.comb += write.data[0].eq(self.i.p.type != EventType.TOKEN)
        with m.If(write.en):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 0):
                m.d.sync += [left.eq(EVENT_WORDS), self.next.eq(self.next + 1)]
        with m.If(self.sent):
            m.d.sync += self.number.eq(self.number + 1)

        # Both of the same cycle, as an event may come at any time.
        remaining, held_then, skipped = Signal(8), Signal(8), Signal(8)
        m.d.sync += [remaining.eq(self.next - self.upto), held_then.eq(held), self.known.eq(remaining <= held_then)]
        # Numbers in the ring are less than 128 apart: a number before another one gives a negative difference.
        m.d.comb += skipped.eq(self.number - self.upto)
        with m.If(self.forget):
            m.d.sync += self.first.eq(self.upto)
            with m.If(self.again | skipped[-1]):
                m.d.sync += self.number.eq(self.upto)
        with m.If(self.clear):
            m.d.sync += [left.eq(EVENT_WORDS), self.first.eq(0), self.next.eq(0), self.number.eq(0)]
        return m
