# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs of the link's parts: the ring of events, frames, and the UART."""

from typing import Any
from unittest import mock

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import fifo

import hw.link.events as events
import hw.link.uart as uart
from formal.harness import Harness, Inside, Proof, planted
from formal.properties import Order, moves, offers, stays, waits
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


def decoded(m: Module, moved: Value, byte: Value) -> tuple[Signal, Signal, Signal, Signal, Signal]:
    """A plain decoder of COBS: (bytes of the run that are still to come, whether a zero comes behind the run, whether a frame has
    begun, whether this byte of the wire adds one to the body, the added byte).  What the wire's zero does is the caller's."""
    run, zero, begun, appended, data = Signal(8), Signal(), Signal(), Signal(), Signal(8)
    with m.If(moved & (byte != 0)):
        with m.If(run == 0):
            m.d.comb += appended.eq(zero)
            m.d.sync += [begun.eq(1), run.eq(byte - 1), zero.eq(byte != 255)]
        with m.Else():
            m.d.comb += [appended.eq(1), data.eq(byte)]
            m.d.sync += run.eq(run - 1)
    return run, zero, begun, appended, data


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
    length, bad, ended, value = Signal(5), Signal(), Signal(), Signal(8)
    moved, byte = moves(unit.i), unit.i.payload
    fits = length < depth
    run, zero, begun, appended, data = decoded(m, moved, byte)
    with m.If(moved & (byte == 0)):
        m.d.sync += [ended.eq(begun), bad.eq(bad | (begun & (run != 0)))]
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


#: The sender's room: a run of 254 bytes, which has a code of its own, and some more.
ROOM = 258


def sender() -> Harness:
    """A sender before a plain decoder: body after body, any bytes.  One byte of the body, which the solver picks, is followed."""
    h = Harness()
    m = h.m
    unit = FrameSender(depth=ROOM)
    inside = h.unit(unit)
    for signal, name in ((unit.put, "put"), (unit.byte, "byte"), (unit.send, "send"), (unit.o.ready, "ready")):
        h.drive(signal, name)
    place, value, length = h.constant(range(ROOM)), Signal(8), Signal(range(ROOM + 1))
    # The neighbour: a body, then one pulse of send.
    h.assume(~unit.busy & ~unit.send & (length < ROOM), unit.put)
    h.assume(~unit.busy, unit.send)
    with m.If(unit.put):
        m.d.sync += length.eq(length + 1)
        with m.If(length == place):
            m.d.sync += value.eq(unit.byte)
    stays(h, unit.o, "wire")
    # A plain decoder: ``got`` bytes, of which one is still to come as a zero if ``zero``; ``run`` bytes follow as they are.
    got = Signal(range(ROOM + 2))
    moved, byte = moves(unit.o), unit.o.payload
    run, zero, begun, appended, data = decoded(m, moved, byte)
    with m.If(moved & (byte == 0)):
        m.d.sync += [got.eq(0), run.eq(0), zero.eq(0), begun.eq(0), length.eq(0)]
    with m.If(appended):
        m.d.sync += got.eq(got + 1)
    # That a byte within a run is no zero is looked at for the followed one.  As this is any byte, it holds for the first one that
    # could be one, and so for all.
    h.assume((byte != 0) | (run == 0) | (got == place), moved)
    # The body comes out byte by byte, and all of it; the only zero is the frame's end.
    h.holds(got < length, appended)
    h.holds(data == value, appended & (got == place))
    h.holds((got == length) & (run == 0) & begun, moved & (byte == 0))
    # For the induction: where the sender is.  The bytes from ``first`` on are known not to be zeros up to ``at``, or to the run's
    # end.
    state, at, first, found = inside.states("fsm_state"), inside["at"], inside["first"], inside["run"]
    ends = Signal(range(2 * ROOM))
    m.d.comb += ends.eq(first + found)
    looks = state("LOOK") | state("READ") | state("SEE")
    sends = state("FETCH") | state("BYTE")
    full = found == 254
    inner = place < length
    h.holds(inside["length"] == length)
    h.holds(length <= ROOM)
    h.holds(inside.spy("body", place) == value, inner)
    h.holds((got == 0) & (run == 0) & ~zero & ~begun, state("IDLE"))
    h.holds((ends <= length) & (found <= 254), looks | sends | state("CODE"))
    h.holds((at == ends) & (run == 0) & (got + zero == first) & (begun | (first == 0)), looks | state("CODE"))
    h.holds((at < length) & ~full, state("READ") | state("SEE"))
    h.holds(inside.read("body") == value, inner & (place == at) & (state("READ") | state("BYTE")))
    h.holds(inside["nonzero"] == (value != 0), inner & (place == at) & state("SEE"))
    h.holds(value != 0, inner & (place >= first) & (place < ends) & (looks | sends | state("CODE")))
    h.holds(value == 0, inner & (place == ends) & ~full & (sends | state("CODE")))
    h.holds(value == 0, inner & (place == got) & zero & (looks | state("CODE")))
    h.holds((got == at) & (at >= first) & (at + run == ends) & (zero == ~full) & begun, sends)
    h.holds(run != 0, state("BYTE"))
    h.holds((got == length) & (run == 0) & begun, state("END"))
    # A byte is offered within three cycles for each byte that is looked at, and some.
    left = 3 * (length - at) + Mux(looks, Mux(state("READ"), 2, Mux(state("SEE"), 1, 3)), 4)
    quiet = (~state("IDLE")) & ~unit.o.valid
    count = h.cycles(quiet, 3 * ROOM + 8, "quiet")
    h.holds(count + left <= 3 * ROOM + 8, quiet)
    h.cover(state("END") & (length == 3) & (place == 2) & (value != 0))
    h.cover(state("END") & (length == 3) & (place == 1) & (value == 0))
    h.cover(state("END") & (length == 0))
    return h


class ShortFifo(fifo.SyncFIFOBuffered):
    """The UART's FIFO with four places."""

    def __init__(self, *, width: int, depth: int):
        super().__init__(width=width, depth=4)


#: A bit of the proofs' UART in units of 2**-8 cycles: 9.375 cycles, the least for which a tolerance is promised.
BIT = 2400
#: The cycle of a frame in which its stop bit is looked at.
LAST = 92
#: Bits of a sender that is 1.5 % too fast, right, or 1.5 % too slow.
BITS = (2364, 2400, 2436)


def serial() -> tuple[Harness, Any, Inside]:
    h = Harness()
    with mock.patch.object(uart.fifo, "SyncFIFOBuffered", ShortFifo):
        unit = uart.Uart(clock_hz=BIT, baud=256)
        inside = h.unit(unit)
    return h, unit, inside


def uart_send() -> Harness:
    """Each byte that is taken is on the wire as a start bit, its bits and a stop bit.  A bit ends with the last clock that is not
    later than its time."""
    h, unit, inside = serial()
    m = h.m
    offers(h, unit.tx, "tx")
    m.d.comb += unit.rx_pin.eq(1)
    # Cycles since the byte was taken, the byte, and the bit that is on the wire.
    cycle, byte, busy, bit = Signal(7), Signal(8), Signal(), Signal(4)
    frame = Cat(Const(0, 1), byte, Const(1, 1))
    with m.If(moves(unit.tx)):
        m.d.sync += [cycle.eq(0), byte.eq(unit.tx.payload), busy.eq(1)]
    with m.Elif(busy):
        m.d.sync += [cycle.eq(cycle + 1), busy.eq(cycle + 1 < 10 * BIT >> 8)]
    m.d.comb += bit.eq(sum(cycle >= BIT * i >> 8 for i in range(1, 10)))
    h.holds(unit.tx_pin == Mux(busy, frame.bit_select(bit, 1), 1))
    # A byte is taken when the one before has gone, and at once.
    h.holds(unit.tx.ready == ~busy)
    left, phase = inside["out_count"], inside["out_phase"]
    h.holds(cycle < 10 * BIT >> 8, busy)
    h.holds(left == Mux(busy, 10 - bit, 0))
    h.holds(phase + ((cycle + 1) << 8) == BIT * (bit + 1), busy)
    h.holds(inside["out_shift"] == ((frame | (0x3FF << 10)) >> bit)[:10], busy)
    h.cover(busy & (bit == 2) & (byte == 0xA5))
    h.cover(h.before(busy, "busy") & ~busy)
    return h


def uart_receive() -> Harness:
    """Each byte on the wire, of a sender that is as fast or a little faster or slower, is received once, as it was."""
    h, unit, inside = serial()
    m = h.m
    h.drive(unit.rx.ready, "ready")
    stays(h, unit.rx, "rx")
    # The sender: any bytes, with any time between them.
    which, begin, next_byte = h.constant(2), h.free(1, "begin"), h.free(8, "byte")
    long = Signal(12)
    m.d.comb += long.eq(Mux(which == 0, BITS[0], Mux(which == 1, BITS[1], BITS[2])))
    cycle, byte, busy, bit = Signal(7), Signal(8), Signal(), Signal(4)
    starts, ends = begin & ~busy, Signal(16)
    m.d.comb += ends.eq(10 * long)
    with m.If(starts):
        m.d.sync += [cycle.eq(0), byte.eq(next_byte), busy.eq(1)]
    with m.Elif(busy):
        m.d.sync += [cycle.eq(cycle + 1), busy.eq(((cycle + 1) << 8) < ends)]
    m.d.comb += bit.eq(sum((cycle << 8) >= long * i for i in range(1, 10)))
    frame = Cat(Const(0, 1), byte, Const(1, 1))
    m.d.comb += unit.rx_pin.eq(Mux(busy, frame.bit_select(bit, 1), 1))
    h.holds((cycle << 8) < ends, busy)
    # The byte goes into the FIFO once, as it was.
    put, room = inside["w_en"], inside["queue.w_rdy"]
    ended = busy & (cycle == LAST)
    h.holds(put == ended)
    h.holds(inside["w_data"] == byte, put)
    # ... which has room, as there is no flow control on the wire; what enters leaves in order, once.
    h.assume(room, put)
    level, there, full = inside["queue.level"], inside["queue.r_rdy"], inside["full"]
    order = Order(h, put, byte, unit.rx.valid, moves(unit.rx), unit.rx.payload, most=6, fills=False)
    h.holds(order.count == level + unit.rx.valid + full)
    h.holds(unit.rx.valid, full)
    h.holds(inside["queue.inner_level"] <= 1, ~there)
    behind = unit.rx.valid + full
    h.holds(inside["held"] == order.value, order.tracked & (order.ahead == 1) & full)
    h.holds(inside["queue.r_data"] == order.value, order.tracked & there & (order.ahead == behind))
    total, place = Signal(5), Signal(2)
    m.d.comb += [total.eq(inside["queue.consume"] + order.ahead - behind - there), place.eq(Mux(total >= 3, total - 3, total))]
    h.holds(inside.spy("queue.storage", place) == order.value, order.tracked & (order.ahead >= behind + there))
    waits(h, (order.count != 0) & ~unit.rx.valid, 2, "inside")
    # For the induction: what the line was, and where the receiver is.
    pin, state = unit.rx_pin, inside.states("receive_state")
    one = h.before(pin, "line", init=1)
    two = h.before(one, "line_before", init=1)
    h.holds((inside["stage0"] == one) & (inside["pin"] == two))
    bit_one, bit_two = (sum(((cycle - n) << 8) >= long * i for i in range(1, 10)) for n in (1, 2))
    h.holds(one == Mux(cycle == 0, 1, frame.bit_select(bit_one, 1)), busy)
    h.holds(two == Mux(cycle < 2, 1, frame.bit_select(bit_two, 1)), busy)
    h.holds(one & two, ~busy)
    count, phase = inside["count"], inside["phase"]
    h.holds(state("BIT") == (busy & (cycle >= 3) & (cycle <= LAST)))
    h.holds(state("QUIET") == h.before(ended, "ended"))
    h.holds(state("IDLE") | state("BIT") | state("QUIET"))
    h.holds((count <= 9) & (phase + ((cycle - 3) << 8) == BIT // 2 + BIT * count), state("BIT"))
    h.holds(inside["shift"] >> (9 - count)[:4] == frame & ((1 << count) - 1), state("BIT"))
    h.cover(order.tracked & unit.rx.valid & (order.ahead == 0) & (order.value == 0xA5))
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
    Proof("frame-sender", FRAMING + " FrameSender", "each body, of any bytes, is what a plain COBS decoder gets from the wire, "
          "all of it and once; the only zero is the frame's end; valid stays, payload stable; a byte is offered within three "
          "cycles for each byte that is looked at, and eight",
          f"{ROOM} bytes of room in place of 2,048, so that runs of 254 bytes are among them; these are deeper than the covers",
          sender, "induction", 3, 24, (
              planted("frame-sender", FRAMING, "last-zero-forgotten", "with m.If(at + skip > length):",
                      "with m.If(at + skip >= length):"),
              planted("frame-sender", FRAMING, "wrong-code", "self.o.payload.eq(run + 1)", "self.o.payload.eq(run)"))),
    Proof("uart-send", UART, "each byte that is taken is on the wire, once, as a start bit, eight bits and a stop bit, each "
          "of which ends with the last clock that is not later than its time; the next one is taken at once",
          "a bit of 9.375 cycles", uart_send,
          "induction", 2, 98, (
              planted("uart-send", UART, "start-bit-a-cycle-long", "out_phase.eq(bit - 256)]\n        with m.Elif",
                      "out_phase.eq(bit)]\n        with m.Elif"),)),
    Proof("uart-receive", UART, "each byte on the wire is received as it was, once, in order; it is offered within 2 cycles; "
          "valid stays, payload stable",
          "a bit of 9.375 cycles; a sender that is right, or 1.5 % too fast or too slow, with any time between bytes; a FIFO of "
          "four places, which has room", uart_receive, "induction", 3, 100, (
              planted("uart-receive", UART, "sampled-a-bit-late", "m.d.sync += [phase.eq(bit // 2), count.eq(0)]",
                      "m.d.sync += [phase.eq(bit + bit // 2), count.eq(0)]"),
              planted("uart-receive", UART, "start-bit-put-in", "queue.w_data.eq(shift[1:])",
                      "queue.w_data.eq(shift)")), find=100),
)
