# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The scale of a head's sums from the sum of its exponentials (spec: attention.out_scale)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.softmax import EXPONENT_BITS
from hw.lib.floats import leading_zeros
from hw.lib.scales import SCALE_MUL_STAGES, scale_mul_stages
from hw.lib.stages import Stages
from hw.lib.types import ScaleLayout
from tellme.spec.attention import SUM_FRAC
from tellme.spec.scale import C127
from tellme.spec.tables import recip127_rom

__all__ = ["InverseScale", "StepwiseSumScale", "SumScale"]


def round_significand(top: Value) -> tuple[Value, Value]:
    """(significand, carry) of the upper 12 bits of a normalised value: 11 bits, half up; the carry adds 1 to the exponent."""
    rounded = (top + 1)[:13] >> 1
    return Mux(rounded[11], 1024, rounded[:11]), rounded[11]


class InverseScale(wiring.Component):
    """scale = scale_mul(recip127(sig * 2**exp), C127) * 2**(exponent - 5 + SUM_FRAC), LATENCY cycles after its operands.

    ``sig`` (1024 to 2047, rounded) and ``exp`` are a sum of exponentials in units of 2**-SUM_FRAC, ``exponent`` is the row's
    largest one of exponential times V scale, -1100 to 100.  The exponent of ``scale`` saturates at -128 and 127.  All three
    stand still until ``scale`` is taken.  A table of 1,024 entries in EBR, and one multiplier.
    """

    #: The table, its register, the product, the result.
    LATENCY = 3 + SCALE_MUL_STAGES

    def __init__(self, *, exp_bits: int, exponent_bits: int, sum_bits: int) -> None:
        self._sum_bits = sum_bits
        super().__init__({"sig": In(11), "exp": In(signed(exp_bits)), "exponent": In(signed(exponent_bits)),
                          "scale": Out(ScaleLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        m.submodules.recip = recip = memory.Memory(shape=12, depth=1024, init=list(recip127_rom()),
                                                   attrs={"ram_style": "block"})
        recip_read = recip.read_port()
        inverse, c127 = Signal(ScaleLayout), Signal(ScaleLayout)
        m.d.comb += [recip_read.addr.eq(self.sig[:10]), c127.eq(ScaleLayout.const({"sig": C127.sig, "exp": C127.exp}))]
        m.d.sync += [inverse.sig.eq(recip_read.data[:11]), inverse.exp.eq(Mux(recip_read.data[11], -15, -14))]
        product = scale_mul_stages(stage, inverse, c127)
        shift = stage.reg(self.exponent - self.exp, "shift")
        exp = Signal(signed(self._sum_bits))
        m.d.comb += exp.eq(product.exp + shift + (SUM_FRAC - 5))
        m.d.sync += [self.scale.sig.eq(product.sig), self.scale.exp.eq(Mux(exp > 127, 127, Mux(exp < -128, -128, exp)))]
        return m


class SumScale(wiring.Component):
    """``scale`` = out_scale(total, exponent), LATENCY cycles after both stand still: the total is normalised in stages.

    ``total`` is not zero; it has total_bits bits, in units of 2**-SUM_FRAC.  The zeros before its first one are counted byte by
    byte, from the top.
    """

    #: Total and exponent, zeros of each byte, bytes shifted, bits shifted, rounded.
    LATENCY = 5 + InverseScale.LATENCY

    def __init__(self, *, total_bits: int) -> None:
        self._total_bits = total_bits
        super().__init__({"total": In(total_bits), "exponent": In(signed(EXPONENT_BITS)), "scale": Out(ScaleLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        bits = self._total_bits
        value1, exponent1 = stage.reg(self.total, "value1"), stage.reg(self.exponent, "exponent1")
        # Zeros before each byte's first one, from the top; the value is not zero and stands still.
        from_top = Cat(Const(0, -bits % 8), value1)
        zeros = Signal(range(len(from_top)))
        for at in range(0, len(from_top), 8):
            byte = from_top[at:at + 8]
            some2, in_byte2 = stage.reg(byte.any(), f"some2_{at}"), stage.reg(leading_zeros(m, byte), f"in_byte2_{at}")
            with m.If(some2):
                m.d.comb += zeros.eq(Cat(in_byte2, Const(len(from_top) // 8 - 1 - at // 8, len(zeros) - 3)))
        zeros3 = stage.reg(zeros, "zeros3")
        coarse3 = stage.reg((value1 << (zeros[3:] << 3))[:bits], "coarse3")
        top4 = stage.reg((coarse3 << zeros3[:3])[bits - 12:bits], "top4")
        sig, carry = round_significand(top4)
        sig5, exp5 = stage.reg(sig, "sig5"), stage.reg((bits - 11) - zeros3 + carry, "exp5")
        m.submodules.inverse = inverse = InverseScale(exp_bits=len(exp5), exponent_bits=EXPONENT_BITS, sum_bits=13)
        m.d.comb += [inverse.sig.eq(sig5), inverse.exp.eq(exp5), inverse.exponent.eq(exponent1), self.scale.eq(inverse.scale)]
        return m


class StepwiseSumScale(wiring.Component):
    """The same as :class:`SumScale` where time matters less than LUTs: the total is shifted by four or one place a step.

    ``load`` takes ``total`` (not zero); each ``step`` shifts until ``normal`` is high, in whose step the total is rounded.  At
    most total_bits / 4 + 3 steps.  ``exponent`` stands still from then on; ``scale`` = out_scale(total, exponent) is there
    InverseScale.LATENCY cycles after the step in which ``normal`` was high.
    """

    def __init__(self, *, total_bits: int, exponent_bits: int) -> None:
        self._total_bits, self._exponent_bits = total_bits, exponent_bits
        super().__init__({"total": In(total_bits), "exponent": In(signed(exponent_bits)), "load": In(1), "step": In(1),
                          "normal": Out(1), "scale": Out(ScaleLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value, exp, sig = Signal(self._total_bits), Signal(signed(12)), Signal(11)
        rounded, carry = round_significand(value[-12:])
        with m.If(self.load):
            m.d.sync += [value.eq(self.total), exp.eq(self._total_bits - 11)]
        with m.If(self.step):
            with m.If(value[-4:] == 0):
                m.d.sync += [value.eq(value << 4), exp.eq(exp - 4)]
            with m.Elif(value[-1:] == 0):
                m.d.sync += [value.eq(value << 1), exp.eq(exp - 1)]
            with m.Else():
                m.d.comb += self.normal.eq(1)
                m.d.sync += [sig.eq(rounded), exp.eq(exp + carry)]
        m.submodules.inverse = inverse = InverseScale(exp_bits=12, exponent_bits=self._exponent_bits, sum_bits=12)
        m.d.comb += [inverse.sig.eq(sig), inverse.exp.eq(exp), inverse.exponent.eq(self.exponent), self.scale.eq(inverse.scale)]
        return m
