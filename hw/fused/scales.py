# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scale arithmetic in gateware: products, 127 / absmax, 1 / rms (spec: scale)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.fused.stage import StreamUnit
from hw.types import AccLayout, ScaleLayout
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.scale import (
    C127,
    EXP_MAX,
    EXP_MIN,
    SIG_MAX,
    SQUARE_FRAC,
    SUMSQ_BITS,
)
from tellme.spec.tables import recip127_rom, rsqrt_rom

__all__ = ["AbsmaxScale", "InverseRms", "ScaleAcc", "scale_mul_stages"]


def scale_mul_stages(m: Module, register, a, b) -> Signal:
    """scale_mul(a, b) as a ScaleLayout, two registers later; ``register(value, name)`` makes one."""
    product = register(a.sig * b.sig, "product")
    exp = register(a.exp + b.exp, "exp_sum")
    top = product[21]
    kept = Mux(top, product[11:], product[10:21])
    guard = Mux(top, product[10], product[9])
    sticky = Mux(top, product[:10].any(), product[:9].any())
    rounded = Signal(12)
    m.d.comb += rounded.eq(kept + (guard & (sticky | kept[0])))
    total = Signal(signed(11))
    m.d.comb += total.eq(exp + 10 + top + rounded[11])
    result = Signal(ScaleLayout)
    with m.If((product == 0) | (total < EXP_MIN)):
        m.d.comb += [result.sig.eq(0), result.exp.eq(0)]
    with m.Elif(total > EXP_MAX):
        m.d.comb += [result.sig.eq(SIG_MAX), result.exp.eq(EXP_MAX)]
    with m.Else():
        m.d.comb += [result.sig.eq(Mux(rounded[11], 1024, rounded[:11])), result.exp.eq(total)]
    return data.View(ScaleLayout, register(result.as_value(), "scale_product"))


class ScaleAcc(StreamUnit):
    """An accumulator's scale times ``d``, where ``use_d`` is set.  One a cycle, one multiplier."""

    LATENCY = 2

    def __init__(self):
        super().__init__(data.StructLayout({"acc": AccLayout, "d": ScaleLayout, "use_d": 1}), AccLayout)

    def elaborate(self, platform):
        m = Module()
        pipe = self.pipeline(m)
        acc = self.i.p.acc
        product = scale_mul_stages(m, lambda value, name: pipe.reg(value, name=name), acc.scale, self.i.p.d)
        plain = pipe.reg(acc.scale.as_value(), stages=2, name="plain")
        use = pipe.reg(self.i.p.use_d, stages=2, name="use")
        m.d.comb += [
            self.o.p.acc.eq(pipe.reg(acc.acc, stages=2, name="acc")),
            self.o.p.last.eq(pipe.reg(acc.last, stages=2, name="last")),
            self.o.p.scale.eq(Mux(use, product.as_value(), plain)),
        ]
        return m


class AbsmaxScale(wiring.Component):
    """s = 127 / absmax and d = absmax / 127 of a float's magnitude (at least ``floor``).

    ``start`` with ``absmax`` and ``floor``; ``done`` is a pulse LATENCY cycles later, s and d hold until the next.
    One EBR, one multiplier.  binary16 and narrower significands (up to 10 fraction bits) only.
    """

    LATENCY = 6

    def __init__(self, fmt: FloatFormat = BINARY16):
        if fmt.frac_bits > 10:
            raise ValueError(f"a scale holds 10 fraction bits exactly, the format has {fmt.frac_bits}")
        self._fmt = fmt
        super().__init__({"start": In(1), "absmax": In(fmt.width - 1), "floor": In(fmt.width - 1), "done": Out(1),
                          "s": Out(ScaleLayout), "d": Out(ScaleLayout)})

    def elaborate(self, platform):
        m, fmt = Module(), self._fmt

        def register(value, name):
            value = Value.cast(value)
            signal = Signal(value.shape(), name=name)
            m.d.sync += signal.eq(value)
            return signal

        run = [self.start]
        for i in range(self.LATENCY):
            run.append(register(run[-1], f"run{i + 1}"))
        # 1: floor
        magnitude = Signal(fmt.width - 1)
        with m.If(self.start):
            m.d.sync += magnitude.eq(Mux(self.absmax < self.floor, self.floor, self.absmax))
        # 2: to a scale; subnormals are brought to a leading one
        field, frac = magnitude[fmt.frac_bits:], magnitude[:fmt.frac_bits]
        wide = Cat(Const(0, 10 - fmt.frac_bits), frac, field != 0)
        zeros = Signal(range(11))
        for i in range(11):
            with m.If(wide[i]):
                m.d.comb += zeros.eq(10 - i)
        a = Signal(ScaleLayout)
        exp = Signal(signed(8))
        m.d.comb += exp.eq(Mux(field == 0, 1, field) - 1 + fmt.min_exp - (10 - fmt.frac_bits) - zeros)
        with m.If(run[1]):
            m.d.sync += [a.sig.eq((wide << zeros)[:11]), a.exp.eq(exp)]
        # 3: table; 4: result
        m.submodules.rom = rom = memory.Memory(shape=12, depth=1024, init=list(recip127_rom()),
                                               attrs={"ram_style": "block"})
        read = rom.read_port()
        m.d.comb += read.addr.eq(a.sig[:10])
        with m.If(run[3]):
            m.d.sync += [self.s.sig.eq(read.data[:11]), self.s.exp.eq(Mux(read.data[11], -15, -14) - a.exp)]
        constant = Signal(ScaleLayout)
        m.d.comb += constant.eq(ScaleLayout.const({"sig": C127.sig, "exp": C127.exp}))
        product = scale_mul_stages(m, register, a, constant)
        with m.If(run[5]):
            m.d.sync += self.d.eq(product)
        m.d.comb += self.done.eq(run[6])
        return m


class InverseRms(wiring.Component):
    """1 / sqrt(sumsq / n + eps) from integers of 2**-32: rsqrt(sumsq + n_eps) * sqrt_n.

    ``start`` with ``sumsq``, ``n_eps``, ``sqrt_n`` (which stand still until ``done``); ``done`` is a pulse at most
    LATENCY cycles later and ``y`` holds.  Two EBR of table, one multiplier, a 77-bit adder and shifter.
    """

    #: One for the sum, up to 4 + 3 + 3 shifts of 16, 4 and 1, one to see the end, and five for table and product.
    LATENCY = 22

    def __init__(self):
        super().__init__({"start": In(1), "sumsq": In(SUMSQ_BITS), "n_eps": In(32), "sqrt_n": In(ScaleLayout),
                          "done": Out(1), "y": Out(ScaleLayout)})

    def elaborate(self, platform):
        m = Module()
        value = Signal(SUMSQ_BITS)
        # Exponent of the 11-bit significand at the top of ``value``.
        exp = Signal(signed(9))
        sig = Signal(11)
        rounded = Signal(12)
        m.d.comb += rounded.eq((value[-12:] + 1) >> 1)
        m.submodules.rom = rom = memory.Memory(shape=12, depth=2048, init=list(rsqrt_rom()),
                                               attrs={"ram_style": "block"})
        read = rom.read_port()
        m.d.comb += read.addr.eq(Cat(sig[:10], exp[0]))
        root = Signal(ScaleLayout)

        def register(value, name):
            value = Value.cast(value)
            signal = Signal(value.shape(), name=name)
            m.d.sync += signal.eq(value)
            return signal

        product = scale_mul_stages(m, register, root, self.sqrt_n)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += exp.eq(SUMSQ_BITS - 11 - SQUARE_FRAC)
                with m.If(self.start):
                    m.d.sync += value.eq(self.sumsq + self.n_eps)
                    m.next = "SHIFT"
            with m.State("SHIFT"):
                for amount in (16, 4, 1):
                    with (m.If if amount == 16 else m.Elif)(value[-amount:] == 0):
                        m.d.sync += [value.eq(value << amount), exp.eq(exp - amount)]
                with m.Else():
                    m.d.sync += [sig.eq(Mux(rounded[11], 1024, rounded)), exp.eq(exp + rounded[11])]
                    m.next = "READ"
            with m.State("READ"):
                m.next = "ROOT"
            with m.State("ROOT"):
                m.d.sync += [root.sig.eq(read.data[:11]),
                             root.exp.eq(Mux(read.data[11], -15, -16) - (exp >> 1))]
                m.next = "PRODUCT"
            with m.State("PRODUCT"):
                m.next = "ROUND"
            with m.State("ROUND"):
                m.next = "RESULT"
            with m.State("RESULT"):
                m.d.sync += [self.y.eq(product), self.done.eq(1)]
                m.next = "DONE"
            with m.State("DONE"):
                m.d.sync += self.done.eq(0)
                m.next = "IDLE"
        return m
