# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs of the arithmetic on scales: the product and the stored form against plain descriptions, for all operands."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from formal.harness import Harness, Proof, planted
from hw.fused.arithmetic import Dequantise, FloatAdd, FloatMul, Quantise
from hw.lib.scales import SCALE_MUL_STAGES, pack16, scale_mul_stages, unpack16
from hw.lib.stages import Stages
from hw.lib.types import ScaleLayout
from tellme.spec.config import preset
from tellme.spec.formats import BINARY16
from tellme.spec.quantise import NORM_FRAC
from tellme.spec.scale import EXP_MAX, EXP_MIN, SCALE16_BIAS, SIG_MAX

__all__ = ["PROOFS", "Fields", "delayed", "fed", "later", "plain_product", "scale"]


class Product(wiring.Component):
    """scale_mul_stages behind registers."""

    def __init__(self) -> None:
        super().__init__({"a": In(ScaleLayout), "b": In(ScaleLayout), "y": Out(ScaleLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.y.eq(scale_mul_stages(Stages(m), self.a, self.b))
        return m


class Stored(wiring.Component):
    """pack16 and unpack16, one behind the other, in both orders."""

    def __init__(self) -> None:
        super().__init__({"scale": In(ScaleLayout), "packed": Out(16), "stored": In(16), "sig": Out(11), "exp": Out(signed(9)),
                          "again": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.packed.eq(pack16(self.scale))
        sig, exp = unpack16(self.stored)
        unpacked = data.View(ScaleLayout, Signal(ScaleLayout.size))
        m.d.comb += [self.sig.eq(sig), self.exp.eq(exp), unpacked.sig.eq(sig), unpacked.exp.eq(exp),
                     self.again.eq(pack16(unpacked))]
        return m


def scale(h: Harness, view: Any, name: str) -> Any:
    """A scale: zero, or a significand of eleven bits with an exponent in its range."""
    h.drive(view.as_value(), name)
    exp = view.exp.as_signed() if not view.exp.shape().signed else view.exp
    h.assume(((view.sig >= 1024) & (exp >= EXP_MIN) & (exp <= EXP_MAX)) | (view.as_value() == 0))
    return view


def later(h: Harness, value: Any, cycles: int, name: str) -> Value:
    """``value`` so many cycles later."""
    value = Value.cast(value)
    for n in range(cycles):
        value = h.before(value, f"{name}{n}")
    return value


def delayed(h: Harness, result: Value, latency: int, began: Value) -> tuple[Value, Value]:
    """``result`` and ``began`` as many cycles later."""
    return later(h, result, latency, "result"), later(h, began, latency, "began")


def fed(h: Harness, unit: Any, *names: str) -> Any:
    """The payload of a stream unit that takes an element in each cycle, whose fields ``names`` are the solver's."""
    h.unit(unit)
    for name in names:
        h.drive(getattr(unit.i.p, name), name)
    h.m.d.comb += [unit.i.valid.eq(1), unit.o.ready.eq(1)]
    return unit.i.p


def plain_product(h: Harness, a: Any, b: Any) -> tuple[Value, Value]:
    """(a * b, rounded half to even to eleven bits; whether the rounding carried, and the result is in range)."""
    exact = Signal(22)
    h.m.d.comb += exact.eq(a.sig * b.sig)
    large = exact >= 1 << 21
    kept = Mux(large, exact >> 11, exact >> 10)
    rest = Mux(large, exact & 2047, (exact & 1023) << 1)
    up = (rest > 1024) | ((rest == 1024) & kept[0])
    carried = kept + up == 2048
    sig, exp = Mux(carried, 1024, kept + up), Signal(signed(12))
    h.m.d.comb += exp.eq(a.exp.as_signed() + b.exp.as_signed() + 10 + large + carried)
    zero = (exact == 0) | (exp < EXP_MIN)
    top = exp > EXP_MAX
    wanted_sig: Value = Mux(zero, 0, Mux(top, SIG_MAX, sig))
    wanted_exp: Value = Mux(zero, 0, Mux(top, EXP_MAX, exp))
    wanted = Signal(ScaleLayout)
    h.m.d.comb += [wanted.sig.eq(wanted_sig), wanted.exp.eq(wanted_exp)]
    return wanted.as_value(), carried & ~zero & ~top


def product() -> Harness:
    h = Harness()
    unit = Product()
    h.unit(unit)
    wanted, carried = plain_product(h, scale(h, unit.a, "a"), scale(h, unit.b, "b"))
    late, began = delayed(h, wanted, SCALE_MUL_STAGES, Const(1))
    h.holds(unit.y.as_value() == late, began)
    h.cover(began & (unit.y.sig == 1024) & h.before(h.before(h.before(carried, "c0"), "c1"), "c2"))
    h.cover(began & (unit.y.sig == SIG_MAX) & (unit.y.exp == EXP_MAX))
    return h


def stored() -> Harness:
    h = Harness()
    unit = Stored()
    h.unit(unit)
    a = scale(h, unit.scale, "scale")
    h.drive(unit.stored, "stored")
    field = Signal(signed(11))
    h.m.d.comb += field.eq(a.exp + SCALE16_BIAS)
    # A scale that is too small is stored as 0, one that is too large as all ones, any other as exponent and lower ten bits.
    h.holds(unit.packed == Mux((a.sig == 0) | (field < 0), 0, Mux(field > 63, 0xFFFF, (field[:6] << 10) | a.sig[:10])))
    # What is stored is a scale, which is stored as it was.
    h.holds(unit.again == unit.stored)
    h.holds((unit.sig >= 1024) & (unit.exp == unit.stored[10:] - SCALE16_BIAS), unit.stored != 0)
    h.holds((unit.sig == 0) & (unit.exp == 0), unit.stored == 0)
    h.cover(unit.packed == 0xFFFF)
    h.cover((unit.stored == 0x1234) & (unit.again == 0x1234))
    return h


class Fields:
    """A binary16 number as the standard says: (-1)**sign * sig * 2**(exp - 25)."""

    def __init__(self, bits: Value):
        frac, field = bits[:10], bits[10:15]
        self.bits, self.sign = bits, bits[15]
        self.sig, self.exp = Cat(frac, field != 0), Mux(field != 0, field, 1)
        self.inf, self.nan, self.zero = (field == 31) & (frac == 0), (field == 31) & (frac != 0), bits[:15] == 0


def rounded(h: Harness, size: Value, exp: Value, sign: Value, name: str) -> Value:
    """size * 2**exp, an exact number, as the nearest binary16 number, half to even; too large ones are infinite."""
    m = h.m
    n = Signal(range(len(size) + 1), name=f"{name}_highest")
    for i in range(len(size)):
        with m.If(size[i]):
            m.d.comb += n.eq(i)
    # The weight of the last place: eleven bits are kept, and none below 2**-24.
    last = Signal(signed(10), name=f"{name}_last")
    m.d.comb += last.eq(Mux(n + exp - 10 < -24, -24, n + exp - 10))
    spare = 12
    wide, down = Signal(len(size) + spare, name=f"{name}_wide"), Signal(7, name=f"{name}_down")
    shift = Signal(signed(11), name=f"{name}_shift")
    m.d.comb += [wide.eq(size << spare), shift.eq(last - exp + spare), down.eq(Mux(shift > len(wide), len(wide) + 1, shift))]
    kept, rest, half = (Signal(len(wide) + 2, name=f"{name}_{part}") for part in ("kept", "rest", "half"))
    m.d.comb += [kept.eq(wide >> down), rest.eq(wide - (kept << down)), half.eq((1 << down) >> 1)]
    up = (down != 0) & ((rest > half) | ((rest == half) & kept[0]))
    whole, field = Signal(12, name=f"{name}_whole"), Signal(signed(11), name=f"{name}_field")
    m.d.comb += [whole.eq(kept + up), field.eq(last + 25)]
    packed = Signal(24, name=f"{name}_packed")
    # A carry out of the significand makes the next exponent's first number.
    m.d.comb += packed.eq(Mux(whole[10:] == 0, whole, ((field - 1) << 10) + whole))
    return Cat(Mux((size != 0) & (packed >= 31 << 10), 31 << 10, packed)[:15], sign)


def binary16(operation: str) -> Harness:
    """All pairs: what leaves the unit is the plain description's result for what entered it."""
    h = Harness()
    m = h.m
    unit = FloatMul(tag=1) if operation == "mul" else FloatAdd(tag=1)
    i = fed(h, unit, "a", "b", "tag", *(["sub"] if operation == "add" else []))
    # A register before the plain description, as before the unit's multiplier.
    a = Fields(h.before(i.a, "a"))
    given_b = h.before(Cat(i.b[:15], i.b[15] ^ i.sub) if operation == "add" else i.b, "b")
    b = Fields(given_b)
    result = Signal(16)
    if operation == "mul":
        exact, exp = Signal(22), Signal(signed(8))
        m.d.comb += [exact.eq(a.sig * b.sig), exp.eq(a.exp + b.exp - 50)]
        sign = a.sign ^ b.sign
        plain = rounded(h, exact, exp, sign, "product")
        nan = a.nan | b.nan | (a.inf & b.zero) | (b.inf & a.zero)
        infinite: Value = Cat(Const(31 << 10, 15), sign)
    else:
        # Both as multiples of 2**-24.
        fixed = []
        for name, x in (("a", a), ("b", b)):
            size, number = Signal(41, name=f"{name}_size"), Signal(signed(42), name=f"{name}_number")
            m.d.comb += [size.eq(x.sig << (x.exp - 1)[:5]), number.eq(Mux(x.sign, -size, size))]
            fixed.append(number)
        total, size = Signal(signed(43)), Signal(42)
        m.d.comb += [total.eq(fixed[0] + fixed[1]), size.eq(Mux(total < 0, -total, total))]
        sign = Mux(total == 0, a.sign & b.sign, total < 0)
        plain = rounded(h, size, Const(-24, signed(8)), sign, "sum")
        nan = a.nan | b.nan | (a.inf & b.inf & (a.sign ^ b.sign))
        infinite = Mux(a.inf, a.bits, b.bits)
    m.d.comb += result.eq(Mux(nan, BINARY16.nan, Mux(a.inf | b.inf, infinite, plain)))
    late, began = delayed(h, Cat(result, result[10:15] == 31, h.before(i.tag, "tag")), unit.LATENCY - 1, h.before(1, "began"))
    h.holds(Cat(unit.o.p.y, unit.o.p.nonfinite, unit.o.p.tag) == late, began)
    h.holds(unit.i.ready)
    h.cover(began & (unit.o.p.y == 0x0123))
    h.cover(began & (unit.o.p.y == 0xBC01))
    h.cover(began & (unit.o.p.y == BINARY16.nan))
    return h


#: Bits of an accumulator in the proof of Dequantise: those of the boards with an ECP5-85F.
ACC_BITS = preset("ulx3s-85f").widths.acc_bits


def quantise() -> Harness:
    """Codes of eight bits, and those with NORM_FRAC more."""
    h = Harness()
    m = h.m
    unit = Quantise(wide=True)
    i = fed(h, unit, "x", "tag", "wide")
    s = scale(h, i.scale, "scale")
    # A register before the plain description, as before the unit's multiplier.
    x, wide = Fields(h.before(i.x, "x")), h.before(i.wide, "wide")
    sig, scale_exp = h.before(s.sig, "sig"), h.before(s.exp, "exp")
    product, exp = Signal(22), Signal(signed(11))
    m.d.comb += [product.eq(x.sig * sig), exp.eq(x.exp - 25 + scale_exp.as_signed() + Mux(wide, NORM_FRAC, 0))]
    # product * 2**exp to an integer, half to even.  A product is zero, or 1,024 at least: what is moved up lies beyond the ends.
    down = Signal(range(25))
    kept, rest, half, size = (Signal(24, name=name) for name in ("kept", "rest", "half", "size"))
    m.d.comb += [down.eq(Mux(exp >= 0, 0, Mux(exp < -24, 24, -exp))), kept.eq(product >> down),
                 rest.eq(product & ((1 << down) - 1)), half.eq((1 << down) >> 1)]
    up = (down != 0) & ((rest > half) | ((rest == half) & kept[0]))
    m.d.comb += size.eq(Mux((exp > 0) & (product != 0) | x.inf, 1 << 20, kept + up))
    end = Mux(wide, 128 << NORM_FRAC, 128)
    wanted = Signal(signed(8 + NORM_FRAC))
    m.d.comb += wanted.eq(Mux(x.nan, 0, Mux(x.sign, -Mux(size > end, end, size), Mux(size > end - 1, end - 1, size))))
    late, began = delayed(h, Cat(wanted, h.before(i.tag, "tag")), unit.LATENCY - 1, h.before(1, "began"))
    h.holds(Cat(unit.o.p.code, unit.o.p.tag) == late, began)
    h.holds(unit.i.ready)
    for code in (-128, 127, -128 << NORM_FRAC, (128 << NORM_FRAC) - 1, 5):
        h.cover(began & (unit.o.p.code == code))
    return h


def dequantise() -> Harness:
    """All accumulators and scales of the boards."""
    h = Harness()
    m = h.m
    unit = Dequantise(acc_bits=ACC_BITS)
    i = fed(h, unit, "acc", "tag")
    s = scale(h, i.scale, "scale")
    size, sign = h.before(Mux(i.acc < 0, -i.acc, i.acc)[:ACC_BITS], "size"), h.before(i.acc < 0, "sign")
    sig, exp = h.before(s.sig, "sig"), h.before(s.exp, "exp")
    exact, signed_exp = Signal(ACC_BITS + 11), Signal(signed(9))
    # By parts, as the unit's multipliers take it: no solver finds in time that a multiplier of all bits gives the same.
    low = Dequantise.HALF
    m.d.comb += [exact.eq(size[:low] * sig + ((size[low:] * sig) << low)), signed_exp.eq(exp.as_signed())]
    wanted = rounded(h, exact, signed_exp, sign & (exact != 0), "product")
    late, began = delayed(h, Cat(wanted, wanted[10:15] == 31, h.before(i.tag, "tag")), unit.LATENCY - 1, h.before(1, "began"))
    h.holds(Cat(unit.o.p.y, unit.o.p.nonfinite, unit.o.p.tag) == late, began)
    h.holds(unit.i.ready)
    for bits in (0x0001, 0xBC01, 0xFC00):
        h.cover(began & (unit.o.p.y == bits))
    return h


SCALES, FLOATS, ARITHMETIC = "hw/lib/scales.py", "hw/lib/floats.py", "hw/fused/arithmetic.py"
PROOFS = (
    Proof("scale-product", SCALES + " scale_mul_stages", "the exact product, rounded half to even to eleven bits, zero below "
          "the range, "
          "the largest above", "all operands", product, "induction", 5, 6, (
              planted("scale-product", SCALES, "half-rounded-up", "rounded = stage.reg((kept + (guard & (sticky | "
                      "kept[0])))[:12]",
                      "rounded = stage.reg((kept + guard)[:12]"),
              planted("scale-product", SCALES, "carry-keeps-the-significand", "Mux(rounded[11], 1024, rounded[:11])",
                      "rounded[:11]"),
              planted("scale-product", SCALES, "sticky-bit-short", "Mux(top, product[:10].any(), product[:9].any())",
                      "product[:9].any()"))),
    Proof("scale-stored", SCALES + " pack16, unpack16", "the stored form of each scale; each stored form is read as it was "
          "written",
          "all scales, all 2^16 stored forms", stored, "induction", 1, 2, (
              planted("scale-stored", SCALES, "too-large-wraps", "Mux(field > 63, 0xFFFF,", "Mux(field > 127, 0xFFFF,"),)),
    Proof("binary16-mul", ARITHMETIC + " FloatMul, hw/lib/floats.py", "the exact product, rounded once, half to even; "
          "subnormals, zeros, "
          "infinities, NaN; nonfinite", "all 2^32 pairs", lambda: binary16("mul"), "induction", 8, 9, (
              planted("binary16-mul", FLOATS, "half-rounded-up", "up = guard & (sticky | value[0])", "up = guard"),
              planted("binary16-mul", ARITHMETIC, "infinity-times-zero",
                      "nan = a.nan | b.nan | (a.inf & b.zero) | (b.inf & a.zero)", "nan = a.nan | b.nan | (a.inf & b.zero)"))),
    Proof("binary16-add", ARITHMETIC + " FloatAdd, hw/lib/floats.py", "the exact sum or difference, rounded once, half to even; "
          "subnormals, signs of zeros, infinities, NaN; nonfinite", "all 2^32 pairs, sums and differences",
          lambda: binary16("add"),
          "induction", 9, 10, (
              planted("binary16-add", ARITHMETIC, "sticky-bit-lost",
                      'pipe.reg(Cat(moved[0] | (extended & mask).any(), moved[1:]), "small2")', 'pipe.reg(moved, "small2")'),
              planted("binary16-add", ARITHMETIC, "zero-of-unlike-signs", "sign = Mux(total == 0, flags2[4], flags2[0])",
                      "sign = flags2[0]"))),
    Proof("quantise", ARITHMETIC + " Quantise", "the exact product, rounded half to even to an integer, cut to the ends; NaN "
          "gives 0, infinities give the ends", "all floats and scales, codes of eight bits and with four more; results "
          "of the first three inputs, as the unit keeps nothing else than its pipeline", quantise, "bounded", 7, 7, (
              planted("quantise", ARITHMETIC, "half-rounded-up", 'up3 = pipe.reg(half & (sticky | value[0]), "up3")',
                      'up3 = pipe.reg(half, "up3")'),
              planted("quantise", ARITHMETIC, "end-not-cut", "(value3 > limit) | ((value3 == limit) & up3)",
                      "(value3 > limit)"))),
    Proof("dequantise", ARITHMETIC + " Dequantise, hw/lib/floats.py", "the exact product, rounded once, half to even; "
          "subnormals, infinities, a zero without a sign; nonfinite", f"all accumulators of {ACC_BITS} bits and all scales; "
          "results of the first two inputs, as the unit keeps nothing else than its pipeline", dequantise, "bounded", 10, 10, (
              planted("dequantise", ARITHMETIC, "sign-of-zero", 'sign4 = pipe.reg(sign3 & (product3 != 0), "sign4")',
                      'sign4 = pipe.reg(sign3, "sign4")'),
              planted("dequantise", FLOATS, "half-rounded-up", "up = guard & (sticky | value[0])", "up = guard"))),
)
