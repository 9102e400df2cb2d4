# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The scales of a pass: of accumulators, 127 / absmax, 1 / rms (spec: scale)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.floats import leading_zeros
from hw.lib.layouts import Layouts
from hw.lib.scales import SCALE_MUL_STAGES, scale_mul_stages
from hw.lib.stages import Stages
from hw.lib.streams import StreamUnit
from hw.lib.types import ScaleLayout
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.scale import (
    C127,
    SQUARE_FRAC,
    SUMSQ_BITS,
)
from tellme.spec.tables import recip127_rom, rsqrt_rom

__all__ = ["SCALE_INTERVAL", "AbsmaxScale", "InverseRms", "ScaleAcc"]

#: Cycles from one start of AbsmaxScale or InverseRms to the next.  Inputs do not change for so long, so that later stages read
#: earlier stages' registers directly.
SCALE_INTERVAL = 4


class ScaleAcc(StreamUnit):
    """An accumulator's scale, multiplied by ``d`` if ``use_d`` is set; the rest as it is.  One per cycle; one multiplier."""

    LATENCY = SCALE_MUL_STAGES

    def __init__(self, layouts: Layouts):
        self._row_words = layouts.row_words
        super().__init__(data.StructLayout({"acc": layouts.acc, "d": ScaleLayout, "use_d": 1}), layouts.acc)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipe = self.pipeline(m)
        acc = self.i.p.acc
        product = scale_mul_stages(pipe, acc.scale, self.i.p.d)
        plain = pipe.delay(acc.scale.as_value(), self.LATENCY, "plain")
        use = pipe.delay(self.i.p.use_d, self.LATENCY, "use")
        m.d.comb += [
            self.o.p.acc.eq(pipe.delay(acc.acc, self.LATENCY, "acc")),
            self.o.p.place.eq(pipe.delay(acc.place, self.LATENCY, "place")),
            self.o.p.scale.eq(Mux(use, product.as_value(), plain)),
        ]
        if self._row_words:
            m.d.comb += self.o.p.bias.eq(pipe.delay(acc.bias, self.LATENCY, "bias"))
        return m


class AbsmaxScale(wiring.Component):
    """s = 127 / absmax and d = absmax / 127 of a float's magnitude (at least ``floor``).

    ``start`` comes with ``absmax`` and ``floor``, at most every SCALE_INTERVAL cycles.  ``done`` is a pulse LATENCY cycles later;
    s and d are valid with ``done``.  After a single start s and d hold until the next start.  If starts follow every
    SCALE_INTERVAL cycles, d holds for SCALE_INTERVAL cycles, and s for the cycle of ``done`` only.

    Maps to one EBR and one multiplier.  Only for binary16 and narrower significands (up to 10 fraction bits).
    """

    LATENCY = 4 + SCALE_MUL_STAGES

    def __init__(self, fmt: FloatFormat = BINARY16):
        if fmt.frac_bits > 10:
            raise ValueError(f"a scale holds 10 fraction bits exactly, the format has {fmt.frac_bits}")
        self._fmt = fmt
        super().__init__({"start": In(1), "absmax": In(fmt.width - 1), "floor": In(fmt.width - 1), "done": Out(1),
                          "s": Out(ScaleLayout), "d": Out(ScaleLayout)})

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self._fmt

        stage = Stages(m)

        run: list[Value] = [self.start]
        for i in range(self.LATENCY):
            run.append(stage.reg(run[-1], f"run{i + 1}"))
        # 1: floor
        magnitude = Signal(fmt.width - 1, reset_less=True)
        with m.If(self.start):
            m.d.sync += magnitude.eq(Mux(self.absmax < self.floor, self.floor, self.absmax))
        # 2: to a scale; subnormals are brought to a leading one
        field, frac = magnitude[fmt.frac_bits:], magnitude[:fmt.frac_bits]
        wide = Cat(Const(0, 10 - fmt.frac_bits), frac, field != 0)
        zeros = Signal(range(11))
        for i in range(11):
            with m.If(wide[i]):
                m.d.comb += zeros.eq(10 - i)
        a = Signal(ScaleLayout, reset_less=True)
        exp = Signal(signed(8))
        m.d.comb += exp.eq(Mux(field == 0, 1, field) - 1 + fmt.min_exp - (10 - fmt.frac_bits) - zeros)
        with m.If(run[1]):
            m.d.sync += [a.sig.eq((wide << zeros)[:11]), a.exp.eq(exp)]
        # 3: table; 4: its register, as the memory takes a third of the cycle; 5: s
        m.submodules.rom = rom = memory.Memory(shape=12, depth=1024, init=list(recip127_rom()),
                                               attrs={"ram_style": "block"})
        read = rom.read_port()
        m.d.comb += read.addr.eq(a.sig[:10])
        found = stage.reg(read.data, "found")
        s, d = Signal(ScaleLayout, reset_less=True), Signal(ScaleLayout, reset_less=True)
        with m.If(run[4]):
            m.d.sync += [s.sig.eq(found[:11]), s.exp.eq(Mux(found[11], -15, -14) - a.exp)]
        constant = Signal(ScaleLayout)
        m.d.comb += constant.eq(ScaleLayout.const({"sig": C127.sig, "exp": C127.exp}))
        product = scale_mul_stages(stage, a, constant)
        with m.If(run[self.LATENCY - 1]):
            m.d.sync += d.eq(product)
        m.d.comb += [self.s.eq(s), self.d.eq(d), self.done.eq(run[self.LATENCY])]
        return m


class InverseRms(wiring.Component):
    """1 / sqrt(sumsq / n + eps) from integers of 2**-32: rsqrt(sumsq + n_eps) * sqrt_n.

    ``start`` comes with ``sumsq``, ``n_eps`` and ``sqrt_n``, at most every SCALE_INTERVAL cycles.  ``sumsq`` must not change for
    SCALE_INTERVAL cycles, the others not until ``done``, a pulse LATENCY cycles later.  ``y`` holds until the next result.

    Maps to two EBR of table, one multiplier, and a 77-bit adder and shifter.
    """

    #: Sum, leading zeros, two shifts, rounding, table, its register, the product and the result.
    LATENCY = 8 + SCALE_MUL_STAGES

    def __init__(self) -> None:
        super().__init__({"start": In(1), "sumsq": In(SUMSQ_BITS), "n_eps": In(32), "sqrt_n": In(ScaleLayout),
                          "done": Out(1), "y": Out(ScaleLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()

        stage = Stages(m)

        # All stages run at all times.  Some stages read a register of two stages before, which still holds this start's value.
        value = stage.reg((self.sumsq + self.n_eps)[:SUMSQ_BITS], "value")
        zeros = stage.reg(leading_zeros(m, value), "zeros")
        coarse = stage.reg((value << (zeros[3:] << 3))[:SUMSQ_BITS], "coarse")
        top = stage.reg((coarse << zeros[:3])[SUMSQ_BITS - 12:SUMSQ_BITS], "top")
        rounded = Signal(12)
        m.d.comb += rounded.eq((top + 1) >> 1)
        # Exponent of the 11-bit significand at the top.
        exp = stage.reg((SUMSQ_BITS - 11 - SQUARE_FRAC) - zeros + rounded[11], "exp")
        sig = stage.reg(Mux(rounded[11], 1024, rounded[:11]), "sig")
        m.submodules.rom = rom = memory.Memory(shape=12, depth=2048, init=list(rsqrt_rom()),
                                               attrs={"ram_style": "block"})
        read = rom.read_port()
        m.d.comb += read.addr.eq(Cat(sig[:10], exp[0]))
        half = stage.reg(exp >> 1, "half")
        root, y = Signal(ScaleLayout, reset_less=True), Signal(ScaleLayout, reset_less=True)
        m.d.sync += [root.sig.eq(read.data[:11]), root.exp.eq(Mux(read.data[11], -15, -16) - half)]
        product = scale_mul_stages(stage, root, self.sqrt_n)
        run: Value = self.start
        for i in range(1, self.LATENCY):
            run = stage.reg(run, f"run{i}")
        with m.If(run):
            m.d.sync += y.eq(product)
        m.d.comb += self.y.eq(y)
        m.d.sync += self.done.eq(run)
        return m
