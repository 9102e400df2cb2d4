# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs of the scales of a vector, of accumulators' scales, and of the pairs of RoPE and of the activation.

A table is a box here that may hold any numbers, and notes where it is read: the proofs say that the right place is read, and
what becomes of what it holds.  So are the float units, which have proofs or a sweep of their own (formal/numbers.py,
formal/sweep.py): a box gives its operands as its result.
"""

from types import SimpleNamespace
from typing import Any
from unittest import mock

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.hdl._ast import AnySeq
from amaranth.lib import data

from formal.harness import Harness, Proof, planted
from formal.numbers import Fields, delayed, fed, later, plain_product, scale
from formal.properties import Order, moves, offers, stays
from hw.fused import activation, rope, scales
from hw.fused.statistics import Statistics
from hw.lib.layouts import Layouts
from hw.lib.streams import StreamUnit
from hw.lib.types import ScaleLayout
from tellme.spec.config import preset
from tellme.spec.scale import C127, SQUARE_FRAC, SUMSQ_BITS

__all__ = ["PROOFS"]

#: Bits of a number that a box takes for a float: no bit of it decides anything.
NARROW: Any = SimpleNamespace(width=2)


class Table(Elaboratable):
    """A ROM of any numbers, another one each time."""

    def __init__(self, *, shape: int, depth: int, init: list[int], attrs: dict[str, str]):
        assert len(init) == depth
        self.port = SimpleNamespace(addr=Signal(range(depth), name="place"), data=Signal(shape, name="found"))
        TABLES.append(self)

    def read_port(self) -> Any:
        return self.port

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.port.data.eq(AnySeq(len(self.port.data)))
        return m


TABLES: list[Table] = []


def with_table(h: Harness, unit: Any) -> Any:
    """The unit, and its table's port."""
    TABLES.clear()
    with mock.patch.object(scales.memory, "Memory", Table):
        h.unit(unit)
    [table] = TABLES
    return table.port


def starts(h: Harness, unit: Any, *inputs: str) -> Value:
    """Inputs that change every SCALE_INTERVAL cycles at most, and a start with some of them."""
    phase = h.free(1, "first")
    count = Signal(range(scales.SCALE_INTERVAL), init=scales.SCALE_INTERVAL - 1)
    fresh = phase & (count == scales.SCALE_INTERVAL - 1)
    h.m.d.sync += count.eq(Mux(fresh, 0, Mux(count == scales.SCALE_INTERVAL - 1, count, count + 1)))
    for name in inputs:
        value = getattr(unit, name)
        h.drive(value, name)
        h.assume(value == h.before(value, name), ~fresh & h.before(1, f"any_{name}"))
    h.drive(unit.start, "start")
    h.assume(fresh, unit.start)
    return fresh


def of_scale(bits: Value) -> Any:
    return data.View(ScaleLayout, bits)


def absmax_scale() -> Harness:
    h = Harness()
    m = h.m
    unit = scales.AbsmaxScale()
    table = with_table(h, unit)
    starts(h, unit, "absmax", "floor")
    largest = Signal(15)
    m.d.comb += largest.eq(Mux(unit.absmax > unit.floor, unit.absmax, unit.floor))
    h.assume(largest != 0)
    # largest = sig * 2**(exp - 25), with a one in front: a scale.
    sig, exp = Cat(largest[:10], largest[10:] != 0), Mux(largest[10:] == 0, 1, largest[10:])
    ahead = Signal(range(11))
    for i in range(11):
        with m.If(sig[i]):
            m.d.comb += ahead.eq(10 - i)
    a = Signal(ScaleLayout)
    m.d.comb += [a.sig.eq((sig << ahead)[:11]), a.exp.eq(exp - 25 - ahead)]
    began = unit.start
    h.holds(table.addr == later(h, a.sig[:10], 2, "place"), later(h, began, 2, "began_place"))
    found, late = table.data, of_scale(later(h, a.as_value(), 3, "a"))
    s, exp_s = Signal(ScaleLayout), Signal(signed(9))
    m.d.comb += [exp_s.eq(Mux(found[11], -15, -14) - late.exp.as_signed()), s.sig.eq(found[:11]), s.exp.eq(exp_s)]
    c127 = of_scale(Value.cast(ScaleLayout.const({"sig": C127.sig, "exp": C127.exp})))
    product, _ = plain_product(h, a, c127)
    done = later(h, began, unit.LATENCY, "done")
    h.holds(unit.done == done)
    h.holds(unit.s.as_value() == later(h, s.as_value(), unit.LATENCY - 3, "s"), done)
    h.holds(unit.d.as_value() == later(h, product, unit.LATENCY, "d"), done)
    h.cover(unit.done & (unit.s.exp == 9))
    h.cover(unit.done & h.before(h.before(h.before(h.before(unit.done, "1"), "2"), "3"), "4"))
    return h


def inverse_rms() -> Harness:
    h = Harness()
    m = h.m
    unit = scales.InverseRms()
    table = with_table(h, unit)
    starts(h, unit, "sumsq")
    m.d.comb += [unit.n_eps.eq(h.constant(32)), unit.sqrt_n.as_value().eq(h.constant(ScaleLayout.size))]
    h.assume((unit.sqrt_n.sig >= 1024) | (unit.sqrt_n.as_value() == 0))
    total = Signal(SUMSQ_BITS + 1)
    m.d.comb += total.eq(unit.sumsq + unit.n_eps)
    h.assume((total != 0) & ~total[-1])
    top = Signal(range(SUMSQ_BITS))
    for i in range(SUMSQ_BITS):
        with m.If(total[i]):
            m.d.comb += top.eq(i)
    # Eleven bits from the highest one on, rounded half up.
    twelve, rounded, exp = Signal(12), Signal(12), Signal(signed(9))
    m.d.comb += [twelve.eq(Cat(Const(0, 11), total) >> top), rounded.eq((twelve + 1) >> 1),
                 exp.eq(top - 10 - SQUARE_FRAC + rounded[11])]
    sig = Mux(rounded[11], 1024, rounded)
    began = unit.start
    h.holds(table.addr == later(h, Cat(sig[:10], exp[0]), 5, "place"), later(h, began, 5, "began_place"))
    found, half = table.data, later(h, (exp >> 1).as_signed(), 6, "half")
    root, root_exp = Signal(ScaleLayout), Signal(signed(9))
    m.d.comb += [root_exp.eq(Mux(found[11], -15, -16) - half.as_signed()), root.sig.eq(found[:11]), root.exp.eq(root_exp)]
    product, _ = plain_product(h, root, unit.sqrt_n)
    done = later(h, began, unit.LATENCY, "done")
    h.holds(unit.done == done)
    h.holds(unit.y.as_value() == later(h, product, unit.LATENCY - 6, "y"), done)
    h.holds(unit.y.as_value() == h.before(unit.y.as_value(), "y"), ~unit.done & h.before(1, "any"))
    h.cover(unit.done & (unit.y.sig == 1024) & (unit.y.exp == -20))
    h.cover(unit.done & h.before(h.before(h.before(h.before(unit.done, "1"), "2"), "3"), "4"))
    return h


def statistics() -> Harness:
    h = Harness()
    m = h.m
    unit = Statistics(tokens=2)
    inside = h.unit(unit)
    for name in ("x_valid", "x", "x_token", "x_first", "y_valid", "y", "y_token", "clear", "token"):
        h.drive(getattr(unit, name), name)
    x = Fields(unit.x)
    h.assume(unit.x[10:15] != 31)
    # x * x in units of 2**-32, cut.
    square = Signal(64)
    m.d.comb += square.eq((x.sig * x.sig) << ((x.exp - 1)[:5] << 1) >> 16)
    came = Cat(square, unit.x_token, unit.x_first, unit.x_valid)
    late = later(h, came, 4, "came")
    square4, token4, first4, valid4 = late[:64], late[64], late[65], late[66]
    later_still = h.before(late, "came_before")
    token5, first5, valid5 = later_still[64], later_still[65], later_still[66]
    # Results are cleared where no element is under way.
    h.assume(~valid4 & ~valid5, unit.clear)
    upper, carry, half = inside["upper4"], inside["carry4"], 40
    sums, largest = [], []
    for t in range(2):
        total, high, most, fresh = (Signal(bits, name=f"{name}{t}") for name, bits in (
            ("sum", SUMSQ_BITS), ("high", SUMSQ_BITS - half), ("most", 15), ("fresh", SUMSQ_BITS + 1)))
        m.d.comb += fresh.eq(Mux(first4, 0, total) + square4)
        now = valid4 & (token4 == t)
        h.assume(~fresh[-1], now)
        # The upper half comes a cycle behind the lower one.
        last = valid5 & (token5 == t)
        y_valid, y, y_token = (h.before(v, f"{n}{t}") for v, n in ((unit.y_valid, "y_valid"), (unit.y[:15], "y"),
                                                                  (unit.y_token, "y_token")))
        with m.If(unit.clear):
            m.d.sync += [total.eq(0), high.eq(0), most.eq(0)]
        with m.Else():
            with m.If(now):
                m.d.sync += total.eq(fresh)
            with m.If(last):
                m.d.sync += high.eq(total[half:])
            with m.If(y_valid & (y_token == t) & (y > most)):
                m.d.sync += most.eq(y)
        # For the induction: what the memories hold.
        h.holds(total[half:] == Mux(last, Mux(first5, 0, high) + upper + carry, high))
        for name, kept in (("low", total[:half]), ("high", high), ("largest", most)):
            some = inside[f"some_{name}"][t]
            h.holds(kept == 0, ~some)
            h.holds(kept == inside.spy(name, Const(t, 1)), some)
        sums.append(total)
        largest.append(most)
    token = h.before(unit.token, "token")
    of_token = Mux(token, h.before(sums[1], "sum1"), h.before(sums[0], "sum0"))
    # The last element's sum is there two cycles behind its square: LATENCY cycles behind the element.
    h.holds(unit.sumsq == of_token, ~h.before(valid5, "valid5") & h.before(1, "any"))
    h.holds(unit.absmax == Mux(token, h.before(largest[1], "most1"), h.before(largest[0], "most0")), h.before(1, "any_max"))
    h.cover(h.before(1, "some") & ~h.before(valid5, "some5") & (unit.sumsq == 3 << 50))
    h.cover(unit.absmax == 0x7BFF)
    return h


def scale_acc() -> Harness:
    h = Harness()
    unit = scales.ScaleAcc(Layouts(preset("ulx3s-85f").widths))
    i = fed(h, unit, "use_d")
    h.drive(i.acc.acc, "acc")
    h.drive(i.acc.place, "place")
    a, d = scale(h, i.acc.scale, "scale"), scale(h, i.d, "d")
    product, _ = plain_product(h, a, d)
    wanted = Cat(Mux(i.use_d, product, a.as_value()), Value.cast(i.acc.acc), Value.cast(i.acc.place))
    late, began = delayed(h, wanted, unit.LATENCY, Const(1))
    o = unit.o.p
    h.holds(Cat(o.scale.as_value(), Value.cast(o.acc), Value.cast(o.place)) == late, began)
    h.holds(unit.i.ready)
    h.cover(began & (o.scale.sig == 1025) & (Value.cast(o.acc) == 5))
    return h


# ---------------------------------------------------------------------- pairs

class Operation(StreamUnit):
    """A float unit whose result is its operands, a cycle later."""

    LATENCY = 1

    def __init__(self, operands: dict[str, Any], result: str, kept: dict[str, Any]):
        self._operands, self._result, self._kept = operands, result, kept
        OPERATIONS.append(self)
        bits = sum(len(Signal(shape)) for shape in operands.values())
        super().__init__(data.StructLayout({**operands, **kept}), data.StructLayout({result: bits, "nonfinite": 1, **kept}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipe = self.pipeline(m)
        operands = pipe.reg(Cat(*(self.i.p[name] for name in self._operands)), "operands")
        m.d.comb += [self.o.p[self._result].eq(operands), self.o.p.nonfinite.eq(operands[0])]
        for name in self._kept:
            m.d.comb += self.o.p[name].eq(pipe.reg(self.i.p[name], name))
        return m


OPERATIONS: list[Any] = []


def multiply(fmt: Any, *, tag: int = 1) -> Operation:
    """A product's first operand is a float, or the gate's result, which names all that it is made of."""
    return Operation({"a": getattr(fmt, "result", fmt.width), "b": fmt.width}, "y", {"tag": tag})


def add(fmt: Any) -> Operation:
    return Operation({"a": 2 * fmt.width, "b": 2 * fmt.width}, "y", {"sub": 1})


def gate(fmt: Any, *, tag: int, table_register: bool) -> Operation:
    return Operation({"gate": fmt.width, "relu2": 1, "act_exp": signed(8)}, "p", {"up": fmt.width, "tag": tag})


def rope_pairs() -> Harness:
    h = Harness()
    m = h.m
    OPERATIONS.clear()
    with mock.patch.object(rope, "FloatMul", multiply), mock.patch.object(rope, "FloatAdd", add):
        unit = rope.Rope(NARROW)
        inside = h.unit(unit)
    offers(h, unit.i, "i")
    h.drive(unit.o.ready, "ready")
    stays(h, unit.o, "o")
    first, second, adder = OPERATIONS
    x, cos, sin = (unit.i.p[name] for name in ("x", "cos", "sin"))
    # Every other element ends a pair, and every other sum.
    odd, held, half = Signal(), Signal(2), Signal()
    with m.If(moves(unit.i)):
        m.d.sync += [odd.eq(~odd), held.eq(x)]
    with m.If(moves(adder.i)):
        m.d.sync += half.eq(~half)
    a, b = adder.i.p.a, adder.i.p.b
    pair = Cat(held, x, cos, sin)
    left = Cat(a[:2], b[:2], Mux(half, b[2:], a[2:]), Mux(half, a[2:], b[2:]))
    order = Order(h, moves(unit.i) & odd, pair, adder.i.valid, moves(adder.i) & half, left, most=2)
    h.holds(adder.i.p.sub == ~half, adder.i.valid)
    h.holds(Cat(unit.o.valid, unit.o.p.y, unit.o.p.nonfinite) == Cat(adder.o.valid, adder.o.p.y[:2], adder.o.p.nonfinite))
    # For the induction: where a pair is.
    remaining, in_box, last = inside["remaining"], first.o.valid, first.o.p.tag
    h.holds((inside["odd"] == odd) & (remaining <= 2) & (second.o.valid == first.o.valid))
    h.holds(inside["held"] == held, odd)
    h.holds(last == (remaining != 1), in_box)
    ends = in_box & last
    h.holds(order.count == (remaining != 0) + ends)
    h.holds(half == (ends | ((remaining == 1) & ~in_box)))
    x0, x1, cos0, sin0 = (inside[name] for name in ("x0", "x1", "cos", "sin"))
    in_registers = Cat(x0, x1, cos0, sin0) == order.value
    h.holds(in_registers, order.tracked & (order.ahead == ends))
    h.holds(Cat(first.o.p.y, second.o.p.y) == Cat(x0, cos0, x1, sin0), in_box & ~last)
    return h


def activation_pairs() -> Harness:
    h = Harness()
    m = h.m
    narrow: Any = SimpleNamespace(width=2, result=11)
    OPERATIONS.clear()
    with mock.patch.object(activation, "FloatMul", mock.Mock(side_effect=multiply, LATENCY=1)), \
            mock.patch.object(activation, "Gate", gate):
        unit = activation.Activation(narrow)
        inside = h.unit(unit)
    offers(h, unit.i, "i")
    h.drive(unit.o.ready, "ready")
    stays(h, unit.o, "o")
    box, product = OPERATIONS
    i = unit.i.p
    odd, held = Signal(), Signal(2)
    with m.If(moves(unit.i)):
        m.d.sync += [odd.eq(~odd), held.eq(i.x)]
    pair = Cat(held, i.relu2, i.act_exp, i.x, i.tag)
    order = Order(h, moves(unit.i) & odd, pair, product.i.valid, moves(product.i),
                  Cat(product.i.p.a, product.i.p.b, product.i.p.tag), most=2)
    o = unit.o.p
    h.holds(Cat(unit.o.valid, o.y, o.nonfinite, o.tag) ==
            Cat(product.o.valid, product.o.p.y[:2], product.o.p.nonfinite, product.o.p.tag))
    full, kept = inside["full"], box.i.p
    h.holds((inside["odd"] == odd) & (order.count == full + box.o.valid))
    h.holds(inside["held"] == held, odd)
    h.holds(Cat(kept.gate, kept.relu2, kept.act_exp, kept.up, kept.tag) == order.value,
            full & order.tracked & (order.ahead == box.o.valid))
    return h


SCALES, STATISTICS, ROPE, ACTIVATION = (f"hw/fused/{name}.py" for name in ("scales", "statistics", "rope", "activation"))
INTERVAL = f"inputs that change every {scales.SCALE_INTERVAL} cycles at most; a table of any numbers"
BOXES = ("numbers of two bits, and float units whose results are their operands: each bit is treated alike, and the float units "
         "are proven or swept by themselves")
PROOFS = (
    Proof("absmax-scale", SCALES + " AbsmaxScale", "the larger of absmax and floor with a one in front; the table is read at its "
          "significand, and s is what it holds; d is the exact product with 127's inverse, rounded half to even; done in time",
          INTERVAL, absmax_scale, "induction", 12, 16, (
              planted("absmax-scale", SCALES, "floor-not-kept", "Mux(self.absmax < self.floor, self.floor, self.absmax)",
                      "self.absmax"),
              planted("absmax-scale", SCALES, "subnormal-as-a-normal-number", "Mux(field == 0, 1, field) - 1 + fmt.min_exp",
                      "field - 1 + fmt.min_exp"))),
    Proof("inverse-rms", SCALES + " InverseRms", "the sum's first eleven bits, rounded half up; the table is read at them and "
          "the exponent's parity; the exact product with sqrt(n), rounded half to even; done in time, and kept",
          f"all sums of {SUMSQ_BITS} bits; {INTERVAL}", inverse_rms, "induction", 16, 20, (
              planted("inverse-rms", SCALES, "rounded-down", "rounded.eq((top + 1) >> 1)", "rounded.eq(top >> 1)"),
              planted("inverse-rms", SCALES, "carry-lost", "- zeros + rounded[11], \"exp\")", "- zeros, \"exp\")"))),
    Proof("statistics", STATISTICS + " Statistics", "the sum of the squares, each cut to a multiple of 2^-32, and the largest "
          "magnitude, of each token since it began or since all was cleared; both are there in time",
          "two tokens in any order; sums that fit; finite x; nothing is under way where all is cleared", statistics, "induction",
          8, 12, (
              planted("statistics", STATISTICS, "carry-lost", "update=lambda v: v + upper4 + carry4",
                      "update=lambda v: v + upper4"),
              planted("statistics", STATISTICS, "another-token", "token=token3, valid=valid3", "token=first3, valid=valid3"))),
    Proof("scale-acc", SCALES + " ScaleAcc", "the exact product with d where it is wanted, rounded half to even, or the scale "
          "as it is; accumulator and place stay with it", "all scales; accumulators of ulx3s-85f", scale_acc, "induction", 5, 6,
          (planted("scale-acc", SCALES, "place-of-the-next", 'pipe.delay(acc.place, self.LATENCY, "place")',
                   'pipe.delay(acc.place, self.LATENCY - 1, "place")'),)),
    Proof("rope-pairs", ROPE + " Rope", "of each pair, once and in order, x0 cos and x1 sin, the difference of which is the "
          "first result, then x0 sin and x1 cos, the sum of which is the second", BOXES, rope_pairs, "induction", 3, 12, (
              planted("rope-pairs", ROPE, "sum-and-difference-changed", "adder.i.p.sub.eq(~first.o.p.tag)",
                      "adder.i.p.sub.eq(first.o.p.tag)"),
              planted("rope-pairs", ROPE, "pair-overwritten", "(remaining == 0) | (move & turn)", "(remaining == 0) | move"))),
    Proof("activation-pairs", ACTIVATION + " Activation", "each gate is multiplied with the up behind it, once and in order, and "
          "the tag stays with it", BOXES, activation_pairs, "induction", 3, 12, (
              planted("activation-pairs", ACTIVATION, "pair-overwritten", "self.i.ready.eq(~odd | ~full | gate.i.ready)",
                      "self.i.ready.eq(1)"),)),
)
