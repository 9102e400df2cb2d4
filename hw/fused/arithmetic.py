# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Float multiply, add, dequantise, quantise: one rounding each (spec: formats, quantise)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import data

from hw.lib.floats import ROUND_STAGES, round_float, unpack
from hw.lib.streams import StreamUnit
from hw.lib.types import ScaleLayout
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.quantise import NORM_FRAC

__all__ = ["Dequantise", "FloatAdd", "FloatMul", "Quantise"]


def _result(fmt: FloatFormat, tag: int) -> data.StructLayout:
    return data.StructLayout({"y": fmt.width, "nonfinite": 1, "tag": tag})


class FloatMul(StreamUnit):
    """y = a * b, rounded half to even, subnormals included; ``nonfinite`` is high if y is infinite or NaN.

    Maps to one 18x18 multiplier for up to 17 fraction bits.
    """

    LATENCY = 2 + ROUND_STAGES

    def __init__(self, fmt: FloatFormat = BINARY16, *, tag: int = 1):
        self._fmt = fmt
        super().__init__(data.StructLayout({"a": fmt.width, "b": fmt.width, "tag": tag}), _result(fmt, tag))

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self._fmt
        pipe = self.pipeline(m)
        a, b = unpack(self.i.p.a, fmt), unpack(self.i.p.b, fmt)
        sig_a, sig_b = pipe.reg(a.sig, "sig_a"), pipe.reg(b.sig, "sig_b")
        exp1 = pipe.reg(a.exp + b.exp, "exp_sum")
        nan = a.nan | b.nan | (a.inf & b.zero) | (b.inf & a.zero)
        flags = pipe.delay(Cat(a.sign ^ b.sign, a.inf | b.inf, nan), 2, "flags")
        product = pipe.reg(sig_a * sig_b, "product")
        exp2 = pipe.reg(exp1, "exp2")
        exp = Signal(signed(len(exp2) + 8))
        m.d.comb += exp.eq(exp2 + (2 * fmt.min_exp - 2))
        y, nonfinite = round_float(pipe, fmt, sign=flags[0], magnitude=product, exp=exp, inf=flags[1] & ~flags[2],
                                   nan=flags[2])
        m.d.comb += [self.o.p.y.eq(y), self.o.p.nonfinite.eq(nonfinite),
                     self.o.p.tag.eq(pipe.delay(self.i.p.tag, self.LATENCY, "tag"))]
        return m


class FloatAdd(StreamUnit):
    """y = a + b, rounded half to even; a zero sum is +0 unless both are -0.  ``b`` is negated if ``sub`` is set.

    The operands are ordered by magnitude.  The smaller one is shifted down, with two more bits and a sticky bit.
    """

    LATENCY = 3 + ROUND_STAGES

    def __init__(self, fmt: FloatFormat = BINARY16, *, tag: int = 1):
        self._fmt = fmt
        super().__init__(data.StructLayout({"a": fmt.width, "b": fmt.width, "sub": 1, "tag": tag}), _result(fmt, tag))

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self._fmt
        pipe = self.pipeline(m)
        bits_a, bits_b = self.i.p.a, self.i.p.b
        flip = self.i.p.sub
        # 1: order by magnitude
        swap = bits_a[:-1] < bits_b[:-1]
        negated_b = Cat(bits_b[:-1], bits_b[-1] ^ flip)
        big1 = pipe.reg(Mux(swap, negated_b, bits_a), "big1")
        small1 = pipe.reg(Mux(swap, bits_a, negated_b), "small1")
        # 2: move the smaller one down
        big, small = unpack(big1, fmt), unpack(small1, fmt)
        kept = fmt.frac_bits + 1
        distance = Signal(fmt.exp_bits)
        m.d.comb += distance.eq(big.exp - small.exp)
        limit = kept + 3
        down = Signal(range(limit + 1))
        m.d.comb += down.eq(Mux(distance > limit, limit, distance))
        extended = Signal(kept + 3)
        m.d.comb += extended.eq(Cat(Const(0, 3), small.sig))
        moved = Signal(kept + 3)
        mask = Signal(kept + 3)
        m.d.comb += [moved.eq(extended >> down), mask.eq((Const(1, kept + 4) << down) - 1)]
        small2 = pipe.reg(Cat(moved[0] | (extended & mask).any(), moved[1:]), "small2")
        big2 = pipe.reg(Cat(Const(0, 3), big.sig), "big2")
        exp2 = pipe.reg(big.exp, "exp2")
        differ = big.sign ^ small.sign
        nan = big.nan | small.nan | (big.inf & small.inf & differ)
        flags2 = pipe.reg(Cat(big.sign, differ, big.inf | small.inf, nan, big.sign & small.sign), "flags2")
        # 3: add or subtract
        total = Signal(kept + 4)
        m.d.comb += total.eq(Mux(flags2[1], big2 - small2, big2 + small2))
        total3 = pipe.reg(total, "total3")
        exp3 = pipe.reg(exp2, "exp3")
        # An exact zero of unlike signs is +0.
        sign = Mux(total == 0, flags2[4], flags2[0])
        flags3 = pipe.reg(Cat(sign, flags2[2], flags2[3]), "flags3")
        exp = Signal(signed(fmt.exp_bits + 10))
        m.d.comb += exp.eq(exp3 + (fmt.min_exp - 4))
        y, nonfinite = round_float(pipe, fmt, sign=flags3[0], magnitude=total3, exp=exp, inf=flags3[1] & ~flags3[2],
                                   nan=flags3[2])
        m.d.comb += [self.o.p.y.eq(y), self.o.p.nonfinite.eq(nonfinite),
                     self.o.p.tag.eq(pipe.delay(self.i.p.tag, self.LATENCY, "tag"))]
        return m


class Dequantise(StreamUnit):
    """y = acc * scale, the exact product rounded once; a zero product is +0.

    acc is signed, of ``acc_bits``.  Maps to two 18x18 multipliers up to 36 bits.
    """

    LATENCY = 4 + ROUND_STAGES

    #: Bits of a magnitude that one multiplier takes.
    HALF = 18

    def __init__(self, fmt: FloatFormat = BINARY16, *, acc_bits: int, tag: int = 1):
        self._fmt, self._acc_bits = fmt, acc_bits
        super().__init__(data.StructLayout({"acc": signed(acc_bits), "scale": ScaleLayout, "tag": tag}),
                         _result(fmt, tag))

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self._fmt
        pipe = self.pipeline(m)
        acc, scale = self.i.p.acc, self.i.p.scale
        # 1: magnitude
        sign1 = pipe.reg(acc < 0, "sign1")
        size1 = pipe.reg(Mux(acc < 0, -acc, acc)[:self._acc_bits], "size1")
        sig1, exp1 = pipe.reg(scale.sig, "sig1"), pipe.reg(scale.exp, "exp1")
        # 2: two partial products, 3: their sum
        half = self.HALF
        low2 = pipe.reg(size1[:half] * sig1, "low2")
        high2 = pipe.reg(size1[half:] * sig1, "high2") if self._acc_bits > half else Const(0, 1)
        sign2, exp2 = pipe.reg(sign1, "sign2"), pipe.reg(exp1, "exp2")
        product3 = pipe.reg((low2 + (high2 << half))[:self._acc_bits + 11], "product3")
        sign3, exp3 = pipe.reg(sign2, "sign3"), pipe.reg(exp2, "exp3")
        # 4: sign of zero
        product4 = pipe.reg(product3, "product4")
        sign4 = pipe.reg(sign3 & (product3 != 0), "sign4")
        exp4 = pipe.reg(exp3, "exp4")
        y, nonfinite = round_float(pipe, fmt, sign=sign4, magnitude=product4, exp=exp4, inf=Const(0, 1),
                                   nan=Const(0, 1))
        m.d.comb += [self.o.p.y.eq(y), self.o.p.nonfinite.eq(nonfinite),
                     self.o.p.tag.eq(pipe.delay(self.i.p.tag, self.LATENCY, "tag"))]
        return m


class Quantise(StreamUnit):
    """code = clip(x * scale rounded half to even, -128, 127); NaN gives 0, infinities give -128 and 127.

    With the parameter ``wide`` the input has a bit ``wide``.  If it is set, the code has NORM_FRAC more bits:
    clip(x * scale * 2**NORM_FRAC rounded half to even, -128 * 2**NORM_FRAC, 128 * 2**NORM_FRAC - 1).

    Maps to one 18x18 multiplier.
    """

    LATENCY = 4

    def __init__(self, fmt: FloatFormat = BINARY16, *, tag: int = 1, wide: bool = False):
        self._fmt, self._more = fmt, NORM_FRAC if wide else 0
        super().__init__(data.StructLayout({"x": fmt.width, "scale": ScaleLayout, "tag": tag, **({"wide": 1} if wide else {})}),
                         data.StructLayout({"code": signed(8 + self._more), "tag": tag}))

    def elaborate(self, platform: object) -> Module:
        m, fmt, more = Module(), self._fmt, self._more
        pipe = self.pipeline(m)
        x = unpack(self.i.p.x, fmt)
        wide: Value = self.i.p.wide if more else Const(0, 1)
        sig1, scale1 = pipe.reg(x.sig, "sig1"), pipe.reg(self.i.p.scale.sig, "scale1")
        # The shift that makes the product an integer.
        down = Signal(signed(fmt.exp_bits + 10))
        exp = x.exp + self.i.p.scale.exp + (fmt.min_exp - 1)
        m.d.comb += down.eq(-(exp + Mux(wide, more, 0) if more else exp))
        down1 = pipe.reg(down, "down1")
        flags1 = pipe.reg(Cat(x.sign, x.inf, x.nan), "flags1")
        product2 = pipe.reg(sig1 * scale1, "product2")
        width = len(product2)
        flags2 = pipe.reg(flags1, "flags2")
        # 3: keep ten bits and a half; everything above saturates
        moves = Signal(range(width + 3))
        m.d.comb += moves.eq(Mux(down1 > width + 1, width + 2, down1[:len(moves)]))
        # With more bits a product that is not shifted may be a code.
        amount, not_down2 = pipe.reg(moves, "amount"), pipe.reg(down1 < 0 if more else down1 <= 0, "not_down2")
        value, half, sticky, big = Signal(9 + more), Signal(), Signal(), Signal()
        doubled = Cat(Const(0, 1), product2)
        moved = Signal(width + 1)
        mask = Signal(width + 3)
        m.d.comb += [moved.eq(doubled >> amount), mask.eq(((Const(1, width + 3) << amount) - 1)[:width + 3])]
        # A product that would be shifted up, or not at all, has at least as many bits as a significand: it is beyond 127, or
        # zero.
        with m.If(not_down2):
            m.d.comb += big.eq(product2 != 0)
        with m.Else():
            m.d.comb += [value.eq(moved[1:10 + more]), half.eq(moved[0]), sticky.eq((doubled & mask).any()),
                         big.eq(moved[9 + more:].any())]
        value3, big3 = pipe.reg(value, "value3"), pipe.reg(big, "big3")
        up3 = pipe.reg(half & (sticky | value[0]), "up3")
        flags3 = pipe.reg(flags2, "flags3")
        # 4: round, clip, sign: one sum, as -(value + up) = ~value + 1 - up, beside the comparison with the end
        negative = flags3[0]
        ends: tuple[ValueLike, ValueLike] = -128, 127
        if more:
            wide3 = pipe.delay(wide, 3, "wide3")
            ends = Mux(wide3, -128 << more, -128), Mux(wide3, (128 << more) - 1, 127)
        least, most = ends
        limit, beyond, rounded = most + negative, Signal(), Signal(8 + more)
        m.d.comb += [rounded.eq((value3 ^ negative.replicate(9 + more)) + (up3 ^ negative)),
                     beyond.eq(big3 | flags3[1] | (value3 > limit) | ((value3 == limit) & up3))]
        code = Signal(signed(8 + more))
        m.d.comb += code.eq(Mux(flags3[2], 0, Mux(beyond, Mux(negative, least, most), rounded)))
        m.d.comb += [self.o.p.code.eq(pipe.reg(code, "code4")),
                     self.o.p.tag.eq(pipe.delay(self.i.p.tag, self.LATENCY, "tag"))]
        return m
