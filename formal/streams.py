# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs of the parts between streams: hw/lib/streams.py."""

from amaranth.hdl import Cat, Module, Mux, Signal

from formal.harness import Harness, Proof, planted
from formal.properties import Order, moves, offers, stays, waits
from hw.lib.streams import Landing, Queue, Skid, StreamUnit

__all__ = ["PROOFS"]

FILE = "hw/lib/streams.py"
NARROW = "payloads of 2 bits: no bit of a payload decides anything, and each bit is treated alike"


def skid() -> Harness:
    h = Harness()
    unit = Skid(2)
    inside = h.unit(unit)
    offers(h, unit.i, "i")
    h.drive(unit.o.ready, "ready")
    stays(h, unit.o, "o")
    order = Order(h, moves(unit.i), unit.i.payload, unit.o.valid, moves(unit.o), unit.o.payload, most=2)
    h.holds(order.count == unit.o.valid + inside["full"])
    h.holds(unit.o.valid, inside["full"])
    h.holds(inside["held"] == order.value, order.tracked & (order.ahead == 1))
    # At once: an element is offered in the cycle behind its entry, and there is room unless the neighbour lets two wait.
    waits(h, (order.count != 0) & ~unit.o.valid, 0, "inside")
    waits(h, ~unit.i.ready & unit.o.ready, 1, "room")
    return h


def queue() -> Harness:
    h = Harness()
    unit, depth = Queue(2, depth=4), 4
    inside = h.unit(unit)
    offers(h, unit.i, "i")
    h.drive(unit.o.ready, "ready")
    stays(h, unit.o, "o")
    order = Order(h, moves(unit.i), unit.i.payload, unit.o.valid, moves(unit.o), unit.o.payload, most=depth)
    h.holds(unit.level == order.count)
    h.holds(unit.o.valid == (order.count != 0))
    place = (inside["consume"] + order.ahead)[:2]
    h.holds(inside.spy("storage", place) == order.value, order.tracked)
    waits(h, (order.count != 0) & ~unit.o.valid, 0, "inside")
    waits(h, ~unit.i.ready & unit.o.ready, 1, "room")
    return h


def landing(burst: int, depth: int) -> Harness:
    h = Harness()
    m, unit = h.m, Landing(2, depth=depth, burst=burst)
    inside = h.unit(unit)
    h.drive(unit.sent, "sent")
    h.drive(unit.valid, "valid")
    h.drive(unit.value, "value")
    h.drive(unit.o.ready, "ready")
    stays(h, unit.o, "o")
    # Elements that the burst may still send without looking at ``open``.
    left = Signal(range(burst + 1))
    m.d.sync += left.eq(Mux(unit.sent & (left == 0), burst - 1, Mux(left == 0, 0, left - 1)))
    h.assume(unit.open | (left != 0), unit.sent)
    h.holds(left < burst)
    # A way as long as it likes: an element arrives after it was sent.
    way = Signal(range(depth + 2))
    m.d.sync += way.eq(way + unit.sent - unit.valid)
    h.assume(way != 0, unit.valid)
    order = Order(h, unit.valid, unit.value, unit.o.valid, moves(unit.o), unit.o.payload, most=depth)
    # There is room for what arrives.
    h.holds(inside["queue.level"] != depth, unit.valid)
    level, full = inside["queue.level"], inside["full"]
    h.holds(order.count == level + unit.o.valid + full)
    h.holds(unit.o.valid, full)
    # The skid and the queue hold them in their order.
    ahead = order.ahead
    h.holds(inside["held"] == order.value, order.tracked & (ahead == 1) & full)
    skidded = unit.o.valid + full
    place = Signal(range(depth))
    total = inside["consume"] + (ahead - skidded)[:len(place) + 1]
    m.d.comb += place.eq(Mux(total >= depth, total - depth, total))
    h.holds(inside.spy("storage", place) == order.value, order.tracked & (ahead >= skidded))
    # What is counted: what is on its way, what has arrived, less what is not counted yet.
    under_way, sent = inside["under_way"], inside["sent"]
    h.holds(under_way + sent == way + order.count)
    h.holds(under_way <= depth)
    # There is a place for the rest of a burst, and for a whole one while it may begin.
    h.holds(under_way + sent + Mux(left != 0, left, Mux(unit.open, burst, 0)) <= depth)
    h.holds(unit.empty == (way + order.count == 0))
    waits(h, (order.count != 0) & ~unit.o.valid, 1, "inside")
    waits(h, ~unit.open & unit.empty, 1, "open")
    return h


class ThreeStages(StreamUnit):
    """A unit of three stages whose result is its input plus one: the smallest that has a StreamUnit's handshake."""

    LATENCY = 3

    def __init__(self) -> None:
        super().__init__(2, 2)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipe = self.pipeline(m)
        m.d.comb += self.o.payload.eq(pipe.delay(self.i.payload, self.LATENCY, "value"))
        return m


def stream_unit() -> Harness:
    h = Harness()
    unit = ThreeStages()
    inside = h.unit(unit)
    offers(h, unit.i, "i")
    h.drive(unit.o.ready, "ready")
    stays(h, unit.o, "o")
    order = Order(h, moves(unit.i), unit.i.payload, unit.o.valid, moves(unit.o), unit.o.payload, most=3)
    valid = [inside[f"valid{i}"] for i in (2, 1, 0)]
    values = [inside[f"value{i}"] for i in (2, 1, 0)]
    h.holds(order.count == sum(valid))
    # The stages from the last one on: the tracked element lies behind as many valid ones as are ahead of it.
    for i in range(3):
        here = valid[i] & (sum(valid[:i], start=valid[0] & 0) == order.ahead)
        h.holds(values[i] == order.value, order.tracked & here)
    # With a neighbour that takes, an element comes out after three cycles.
    waits(h, (order.count != 0) & ~unit.o.valid, 2, "inside")
    for i in range(3):
        # The stage's bound, so that the wait's count is inductive.
        h.holds(valid[i] | (order.count == 0) | Cat(valid[i + 1:]).any() | Cat(valid[:i]).any())
    waits(h, ~unit.i.ready & unit.o.ready, 0, "room")
    return h


PROOFS = (
    Proof("skid", "hw/lib/streams.py Skid", "valid stays, payload stable, in order and once, offered a cycle later, room at once",
          NARROW, skid, "induction", 3, 8, (
              planted("skid", FILE, "second-element-forgotten", "m.d.sync += [held.eq(self.i.payload), full.eq(1)]",
                      "m.d.sync += [held.eq(self.i.payload), full.eq(0)]"),
              planted("skid", FILE, "valid-falls-at-a-stall", "m.d.sync += [self.o.valid.eq(self.i.valid | full), full.eq(0),",
                      "m.d.sync += [self.o.valid.eq(self.i.valid), full.eq(0),"),
              planted("skid", FILE, "held-element-passed-over", "payload.eq(Mux(full, held, Value.cast(self.i.payload)))]",
                      "payload.eq(Value.cast(self.i.payload))]"))),
    Proof("queue", "hw/lib/streams.py Queue", "valid stays, payload stable, in order and once, level, offered a cycle later, "
          "room",
          NARROW + "; the depth that units use, 4", queue, "induction", 3, 10, (
              planted("queue", FILE, "valid-a-cycle-late", "(queue.w_en & queue.w_rdy) | (queue.level > 1)", "(queue.level > 1)"),
              planted("queue", FILE, "valid-with-nothing-in-it", "((queue.level == 1) & ~queue.r_en)", "(queue.level == 1)"))),
    Proof("landing", "hw/lib/streams.py Landing", "room for all that was sent, valid stays, in order and once, empty, open again",
          NARROW + "; depth 8, bursts of one; the way is as long as the solver likes", lambda: landing(1, 8), "induction", 4, 16,
          (
              planted("landing", FILE, "opens-with-too-little-room", "self._depth - 2 - self._burst",
                      "self._depth - self._burst"),
              planted("landing", FILE, "last-sent-not-counted", "self.empty.eq((under_way == 0) & ~sent)",
                      "self.empty.eq(under_way == 0)"))),
    Proof("landing-bursts", "hw/lib/streams.py Landing", "the same, where a burst's other elements follow without a look at open",
          NARROW + "; depth 9, bursts of three", lambda: landing(3, 9), "induction", 4, 16, (
              planted("landing-bursts", FILE, "burst-not-counted", "self._depth - 2 - self._burst", "self._depth - 3"),)),
    Proof("stream-unit", "hw/lib/streams.py StreamUnit", "valid stays, payload stable, in order and once, no wait of its own",
          NARROW + "; three stages: float units have 4 to 8 of the same registers", stream_unit, "induction", 4, 12, (
              planted("stream-unit", FILE, "moves-over-a-waiting-element", "ce.eq(~self.o.valid | self.o.ready)",
                      "ce.eq(~self.o.valid | self.o.ready | self.i.valid)"),
              planted("stream-unit", FILE, "takes-while-it-stands", "self.i.ready.eq(ce)", "self.i.ready.eq(1)"))),
)
