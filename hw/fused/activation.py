# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SiLU times up, or ReLU squared times up, on interleaved gate and up elements (spec: activation)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.fused.arithmetic import FloatMul
from hw.lib.floats import ROUND_STAGES, round_float, unpack
from hw.lib.streams import StreamUnit
from tellme.spec.activation import X_FRAC_BITS
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.tables import SIGMOID_FRAC_BITS, SIGMOID_LOG_STEP, sigmoid_rom

__all__ = ["Activation"]

#: |x| below 16 as fixed point.
FIXED_BITS = X_FRAC_BITS + 4


class Gate(StreamUnit):
    """p = f(gate) * 2**-act_exp, rounded once; ``up`` and a tag pass through with the same latency.

    With ``table_register`` a register more lies between the sigmoid's table and the multiplier of its slope.
    """

    def __init__(self, fmt: FloatFormat, *, tag: int, table_register: bool = False):
        self._fmt, self._more = fmt, int(table_register)
        self.LATENCY = 6 + self._more + ROUND_STAGES
        super().__init__(data.StructLayout({"gate": fmt.width, "up": fmt.width, "relu2": 1, "act_exp": signed(8), "tag": tag}),
                         data.StructLayout({"p": fmt.width, "up": fmt.width, "tag": tag}))

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self._fmt
        pipe = self.pipeline(m)
        x = unpack(self.i.p.gate, fmt)
        relu2 = self.i.p.relu2
        # 1: the shift of |x|; 2: |x| cut to a multiple of 2**-12
        lift = FIXED_BITS - (fmt.frac_bits + 1)
        down = Signal(signed(fmt.exp_bits + 10))
        m.d.comb += down.eq(lift - (x.exp + (fmt.min_exp - 1 + X_FRAC_BITS)))
        amount = Signal(range(FIXED_BITS + 2))
        m.d.comb += amount.eq(Mux(down > FIXED_BITS, FIXED_BITS + 1, down[:len(amount)]))
        amount1, shifted_sig1 = pipe.reg(amount, "amount1"), pipe.reg(x.sig, "shifted_sig1")
        fixed1 = pipe.reg((shifted_sig1 << lift) >> amount1, "fixed1")[:FIXED_BITS]
        big1 = pipe.delay(down < 0, 2, "big1")
        # 3: table
        low_bits = X_FRAC_BITS - SIGMOID_LOG_STEP
        m.submodules.rom = rom = memory.Memory(shape=36, depth=len(sigmoid_rom()), init=list(sigmoid_rom()),
                                               attrs={"ram_style": "block"})
        read = rom.read_port()
        m.d.comb += [read.addr.eq(fixed1[low_bits:]), read.en.eq(pipe.ce)]
        # The table's register is the first of those that the others pass.
        more = self._more
        low2, big2 = pipe.delay(fixed1[:low_bits], 1 + more, "low2"), pipe.delay(big1, 1 + more, "big2")
        # 4: interpolate
        entry = pipe.delay(read.data, more, "entry")
        base, slope = entry[:SIGMOID_FRAC_BITS], entry[SIGMOID_FRAC_BITS:SIGMOID_FRAC_BITS + 12]
        base3 = pipe.reg(base, "base3")
        more3 = pipe.reg((slope * low2)[low_bits:], "more3")
        big3 = pipe.reg(big2, "big3")
        flags3 = pipe.delay(Cat(x.sign, x.inf, x.nan, relu2), 4 + more, "flags3")
        sig3 = pipe.delay(x.sig, 4 + more, "sig3")
        # 5: sigmoid(-x) = 1 - sigmoid(x)
        one = 1 << SIGMOID_FRAC_BITS
        positive = Signal(SIGMOID_FRAC_BITS + 1)
        m.d.comb += positive.eq(Mux(big3, one, base3 + more3))
        factor = Mux(flags3[3], sig3, Mux(flags3[0], (one - positive)[:SIGMOID_FRAC_BITS + 1], positive))
        factor4 = pipe.reg(factor, "factor4")
        sig4, flags4 = pipe.reg(sig3, "sig4"), pipe.reg(flags3, "flags4")
        # 6: product
        off = flags4[3] & flags4[0]
        product5 = pipe.reg(Mux(off, 0, sig4 * factor4), "product5")
        flags5 = pipe.reg(flags4, "flags5")
        exponent = Signal(signed(fmt.exp_bits + 10))
        unit = fmt.min_exp - 1
        m.d.comb += exponent.eq(Mux(relu2, (x.exp << 1) + 2 * unit, x.exp + (unit - SIGMOID_FRAC_BITS))
                                - self.i.p.act_exp)
        exp5 = pipe.delay(exponent, 6 + more, "exp5")
        sign, inf, nan, squared = flags5[0], flags5[1], flags5[2], flags5[3]
        p, _ = round_float(pipe, fmt, sign=sign & ~squared, magnitude=product5, exp=exp5,
                           inf=inf & ~sign, nan=nan | (inf & sign & ~squared))
        m.d.comb += [self.o.p.p.eq(p), self.o.p.up.eq(pipe.delay(self.i.p.up, self.LATENCY, "up")),
                     self.o.p.tag.eq(pipe.delay(self.i.p.tag, self.LATENCY, "tag"))]
        return m


class Activation(wiring.Component):
    """y = round(round(f(gate) * 2**-act_exp) * up), f = SiLU or ReLU squared.

    Elements come one per cycle, gate first, then up.  One result leaves per pair, LATENCY cycles after up, with up's tag.
    Sigmoid: a table of 512 entries of 36 bits (one EBR), linear between entries.  Maps to three multipliers.

    With ``table_register`` a register lies between the sigmoid's table and its multiplier, whose ways are the longest of a core
    with sixteen lanes.  LATENCY is a cycle more then.
    """

    def __init__(self, fmt: FloatFormat = BINARY16, *, tag: int = 1, table_register: bool = False):
        self._fmt, self._tag = fmt, tag
        self._gate = Gate(fmt, tag=tag, table_register=table_register)
        self.LATENCY = 1 + self._gate.LATENCY + FloatMul.LATENCY
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"x": fmt.width, "relu2": 1, "act_exp": signed(8), "tag": tag}))),
            "o": Out(stream.Signature(data.StructLayout({"y": fmt.width, "nonfinite": 1, "tag": tag}))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.gate = gate = self._gate
        m.submodules.product = product = FloatMul(self._fmt, tag=self._tag)
        held, odd, full = Signal(self._fmt.width, reset_less=True), Signal(), Signal()
        pair = Signal(gate.i.payload.shape(), reset_less=True)
        m.d.comb += [
            gate.i.payload.eq(pair), gate.i.valid.eq(full),
            self.i.ready.eq(~odd | ~full | gate.i.ready),
            product.i.valid.eq(gate.o.valid), product.i.p.a.eq(gate.o.p.p), product.i.p.b.eq(gate.o.p.up),
            product.i.p.tag.eq(gate.o.p.tag), gate.o.ready.eq(product.i.ready), self.o.p.tag.eq(product.o.p.tag),
            self.o.valid.eq(product.o.valid), self.o.p.y.eq(product.o.p.y),
            self.o.p.nonfinite.eq(product.o.p.nonfinite), product.o.ready.eq(self.o.ready),
        ]
        with m.If(gate.i.ready):
            m.d.sync += full.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += odd.eq(~odd)
            with m.If(odd):
                m.d.sync += [pair.gate.eq(held), pair.up.eq(self.i.p.x), pair.relu2.eq(self.i.p.relu2),
                             pair.act_exp.eq(self.i.p.act_exp), pair.tag.eq(self.i.p.tag), full.eq(1)]
            with m.Else():
                m.d.sync += held.eq(self.i.p.x)
        return m
