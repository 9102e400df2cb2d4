# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs of the link's parts: the ring of events, frames, and the UART."""

from unittest import mock

from amaranth.hdl import Mux, Signal, Value
from amaranth.lib import fifo

import hw.link.events as events
import hw.link.uart as uart
from formal.harness import Harness, Proof, planted
from formal.properties import Order, moves, offers, stays
from hw.link.framing import FrameReceiver, FrameSender
from tellme.spec.memory import EventType

__all__ = ["PROOFS"]

#: Events that the ring of the proof keeps, and the last words of a payload that it keeps; the gateware's has 32 and 8.
SLOTS, WORDS = 2, 3


def ring() -> Harness:
    h = Harness()
    m = h.m
    with mock.patch.object(events, "EVENT_SLOTS", SLOTS), mock.patch.object(events, "EVENT_WORDS", WORDS):
        unit = events.EventRing()
        inside = h.unit(unit)
    words = WORDS
    left = inside["left"]
    payload = unit.i.p.payload.as_value()
    h.drive(payload, "payload")
    h.drive(unit.i.p.type, "type")
    h.drive(unit.i.valid, "valid")
    waiting = h.before(unit.i.valid & ~unit.i.ready & ~unit.clear, "waiting")
    before = h.before(unit.i.payload.as_value(), "event")
    h.assume(unit.i.valid & (unit.i.payload.as_value() == before), waiting)
    for name in ("sent", "word", "upto", "again", "forget", "clear"):
        h.drive(getattr(unit, name), name)
    held = Signal(8)
    m.d.comb += held.eq(unit.next - unit.first)
    upto, number = Signal(8), Signal(8)
    m.d.comb += [upto.eq(unit.upto - unit.first), number.eq(unit.number - unit.first)]
    # The link: it sends what is there, forgets what is known, and does one thing at a time.
    h.assume(unit.unsent, unit.sent)
    h.assume(upto <= held, unit.forget)
    h.assume(unit.sent + unit.forget + unit.clear <= 1)
    # Never more than there are slots for; what was sent lies among what is kept.
    h.holds(held <= SLOTS)
    h.holds(number <= held)
    h.holds(unit.unsent == (number != held))
    # An event that is taken was written: each event gets the next number, and none is lost when the ring is full.
    h.holds(left == words, held == SLOTS)
    h.holds(left <= words)
    taken = moves(unit.i) & ~unit.clear
    was, counted = h.before(taken, "taken"), h.before(unit.next, "next")
    cleared = h.before(unit.clear, "clear")
    h.holds(unit.next == Mux(cleared, 0, (counted + was)[:8]))
    # The events that are kept stay as they were: any word of any event.
    which, place = h.constant(8), h.constant(4)
    h.assume((place >= 1) & (place <= words))
    value = Signal(32, name="kept_value")
    plain = payload.word_select((len(payload) // 32 - place)[:3], 32)
    writes = unit.i.valid & (held != SLOTS) & (unit.next == which)
    with m.If(writes & (left == place)):
        m.d.sync += value.eq(plain)
    own = Signal(8)
    m.d.comb += own.eq(which - unit.first)
    kept = own < held
    stored = inside.spy("slots", (which[:1] << 4 | place)[:5])
    h.holds(stored == value, kept | ((unit.next == which) & (left < place)))
    # ... and are what is read, a cycle later; bit 0 of word 0 tells a DONE from a TOKEN.
    asked = h.before(kept & (unit.number == which) & (unit.word == place), "asked")
    known_value = h.before(value, "value")
    h.holds(unit.data == known_value, asked)
    kind = Signal(name="kept_kind")
    with m.If(writes & (left == 0)):
        m.d.sync += kind.eq(unit.i.p.type != EventType.TOKEN)
    kind_stored = inside.spy("slots", (which[:1] << 4)[:5])
    h.holds(kind_stored[0] == kind, kept)
    # known: upto is one of the kept numbers, or the next one.
    same = unit.upto == h.before(unit.upto, "upto")
    still = h.cycles(same & ~unit.forget & ~unit.clear, 3, "still")
    inside_range = h.cycles(upto <= held, 3, "in_range")
    h.holds(inside["held_then"] == h.before(held, "held"), h.before(1, "began"))
    h.holds(inside["remaining"] == h.before((unit.next - unit.upto)[:8], "remaining"), h.before(1, "began_too"))
    h.holds(upto <= held, unit.known & same & (still >= 2))
    h.holds(unit.known, same & (still >= 2) & (inside_range >= 2))
    h.cover(kept & (held == SLOTS) & (number == held))
    h.cover(asked & (known_value != 0))
    h.cover(h.before(unit.forget & (upto == 2), "forgot"))
    return h


def receiver() -> Harness:
    """A receiver with room for eight bytes, and any bytes on the wire."""
    h = Harness()
    m, depth = h.m, 8
    unit = FrameReceiver(depth=depth)
    inside = h.unit(unit)
    h.drive(unit.i.payload, "byte")
    h.drive(unit.i.valid, "valid")
    h.drive(unit.addr, "addr")
    h.drive(unit.release, "release")
    # A plain decoder, byte by byte, whose body is one byte that the solver picks.
    place = h.constant(3)
    length, run, zero, begun, bad = Signal(5), Signal(8), Signal(), Signal(), Signal()
    ended, value = Signal(), Signal(8)
    byte = unit.i.payload
    fits = length < depth
    appended, data = Signal(), Signal(8)
    with m.If(moves(unit.i)):
        with m.If(byte == 0):
            m.d.sync += [ended.eq(begun), bad.eq(bad | (begun & (run != 0)))]
        with m.Elif(run == 0):
            m.d.comb += appended.eq(zero)
            m.d.sync += [begun.eq(1), run.eq(byte - 1), zero.eq(byte != 255)]
        with m.Else():
            m.d.comb += [appended.eq(1), data.eq(byte)]
            m.d.sync += run.eq(run - 1)
    with m.If(appended):
        m.d.sync += [length.eq(length + fits), bad.eq(bad | ~fits)]
        with m.If(length == place):
            m.d.sync += value.eq(data)
    with m.If(unit.release):
        m.d.sync += [length.eq(0), run.eq(0), zero.eq(0), begun.eq(0), bad.eq(0), ended.eq(0)]
    # The neighbour releases frames only, which it has seen.
    h.assume(unit.frame, unit.release)
    h.holds(unit.frame == ended)
    h.holds(unit.length == length)
    h.holds(unit.bad == bad)
    h.holds(length <= depth)
    h.holds(inside["remaining"] == run)
    h.holds(inside["started"] == begun)
    h.holds(inside["zero_next"] == zero)
    h.holds(begun, (run != 0) | zero)
    h.holds(unit.i.ready == ~unit.frame)
    # The body is in the memory, and stays until it is released.
    h.holds(inside.spy("body", place) == value, place < length)
    seen = h.before((unit.addr == place) & (place < length) & ~unit.release, "seen")
    h.holds(unit.data == value, seen)
    h.cover(unit.frame & ~unit.bad & (length == 4) & (value != 0) & (place == 3))
    h.cover(unit.frame & unit.bad)
    h.cover(unit.frame & (length == depth))
    return h


def frames(longest: int) -> Harness:
    """A sender before a receiver: a body of up to so many bytes, any bytes."""
    h = Harness()
    m = h.m
    sender, unit = FrameSender(depth=4), FrameReceiver(depth=4)
    h.unit(sender, "sender")
    h.unit(unit, "receiver")
    h.drive(sender.put, "put")
    h.drive(sender.byte, "byte")
    h.drive(sender.send, "send")
    hold = h.free(1, "hold")
    m.d.comb += [unit.i.payload.eq(sender.o.payload), unit.i.valid.eq(sender.o.valid & ~hold),
                 sender.o.ready.eq(unit.i.ready & ~hold)]
    length, sent, place, value = Signal(3), Signal(), h.constant(2), Signal(8)
    # One body, then one pulse of send.
    h.assume(~sent & (length < longest), sender.put)
    h.assume(~sent & ~sender.put, sender.send)
    with m.If(sender.put):
        m.d.sync += length.eq(length + 1)
        with m.If(length == place):
            m.d.sync += value.eq(sender.byte)
    with m.If(sender.send):
        m.d.sync += sent.eq(1)
    stays(h, sender.o, "wire")
    # The body that went in comes out; a frame has one zero, at its end.
    m.d.comb += unit.addr.eq(place)
    h.holds((unit.length == length) & ~unit.bad & sent, unit.frame)
    h.holds(unit.data == value, unit.frame & h.before(unit.frame, "frame") & (place < length))
    slow = h.cycles(Value.cast(hold), 2, "hold")
    h.assume(slow == 0)
    # It is here within eight cycles a byte, and some for the frame, if the wire takes a byte at least every second cycle.
    on_the_way = h.cycles(sent & ~unit.frame, 60, "on_the_way")
    h.holds(on_the_way <= 8 * longest + 14)
    h.cover(unit.frame & (length == longest) & (value != 0) & (place == longest - 1))
    h.cover(unit.frame & (length == longest) & (value == 0) & (place == longest - 1))
    return h


class ShortFifo(fifo.SyncFIFOBuffered):
    """The UART's FIFO with four places."""

    def __init__(self, *, width: int, depth: int):
        super().__init__(width=width, depth=4)


def serial() -> Harness:
    """A UART whose wire goes back to itself, at eight cycles a bit."""
    h = Harness()
    with mock.patch.object(uart.fifo, "SyncFIFOBuffered", ShortFifo):
        unit = uart.Uart(clock_hz=8, baud=1)
        h.unit(unit)
    offers(h, unit.tx, "tx")
    h.drive(unit.rx.ready, "ready")
    h.m.d.comb += unit.rx_pin.eq(unit.tx_pin)
    stays(h, unit.rx, "rx")
    order = Order(h, moves(unit.tx), unit.tx.payload, unit.rx.valid, moves(unit.rx), unit.rx.payload, most=5)
    # A byte is here within ten bits and what the registers take.
    waiting = h.cycles((order.count != 0) & ~unit.rx.valid, 127, "waiting")
    h.holds(waiting <= 88)
    h.holds(h.cycles(~unit.tx.ready, 127, "busy") <= 80)
    return h


EVENTS, FRAMING, UART = "hw/link/events.py", "hw/link/framing.py", "hw/link/uart.py"
PROOFS = (
    Proof("event-ring", EVENTS + " EventRing", "each event gets the next number; none is lost when the ring is full; each word "
          "of each "
          "event that is kept stays as it was and is what is read; known; forgetting removes what is before",
          "two slots in place of 32, as a slot is named by the number's low bits; the last three words of a payload", ring,
          "induction", 5, 20, (
              planted("event-ring", EVENTS, "written-into-a-full-ring", "write.en.eq(self.i.valid & ~full)",
                      "write.en.eq(self.i.valid)"),
              planted("event-ring", EVENTS, "first-word-of-the-next-event", "m.d.sync += [left.eq(EVENT_WORDS), "
                      "self.next.eq(self.next + 1)]",
                      "m.d.sync += self.next.eq(self.next + 1)"),
              planted("event-ring", EVENTS, "sent-ones-not-skipped", "with m.If(self.again | skipped[-1]):",
                      "with m.If(self.again):"))),
    Proof("frame-receiver", FRAMING + " FrameReceiver", "any bytes on the wire decode as COBS says; nothing is written outside "
          "the body, "
          "nor while a frame waits", "eight bytes of room in place of 2,048", receiver, "induction", 3, 14, (
              planted("frame-receiver", FRAMING, "too-long-body-written", "write.en.eq(put & ~too_long)", "write.en.eq(put)"),
              planted("frame-receiver", FRAMING, "cut-code-not-seen", "with m.If(remaining != 0):", "with m.If(remaining > 1):"),
              planted("frame-receiver", FRAMING, "zero-behind-a-full-run", "zero_next.eq(b != 255)", "zero_next.eq(1)"))),
    Proof("frames", FRAMING + " FrameSender", "what the sender sends, the receiver receives; bounded",
          "bodies of up to three bytes; runs of 254 bytes are beyond the depth", lambda: frames(3), "bounded", 48, 48, (
              planted("frames", FRAMING, "last-zero-forgotten", "with m.If(at + skip > length):",
                      "with m.If(at + skip >= length):"),
              planted("frames", FRAMING, "wrong-code", "self.o.payload.eq(run + 1)", "self.o.payload.eq(run)"))),
    Proof("uart", UART, "a byte that is sent is received, once, in order, within eleven bits",
          "eight cycles a bit, the least; a FIFO of "
          "four; the wire goes back to the unit itself", serial, "bounded", 180, 180, (
              planted("uart", UART, "sampled-a-bit-late", "m.d.sync += [phase.eq(bit // 2), count.eq(0)]",
                      "m.d.sync += [phase.eq(bit + bit // 2), count.eq(0)]"),)),
)
