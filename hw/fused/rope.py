# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""RoPE on a stream of elements: adjacent pairs rotated (spec: activation.rope; TeLLMe v2 section 3.5)."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.fused.arithmetic import FloatAdd, FloatMul
from tellme.spec.formats import BINARY16, FloatFormat

__all__ = ["Rope"]


class Rope(wiring.Component):
    """y0 = x0 cos - x1 sin, y1 = x0 sin + x1 cos; products and sums each rounded.

    Elements come one per cycle, x0 first, then x1, each with its pair's cos and sin (the unit reads them with x1).  Results leave
    in the same order, one per cycle, LATENCY cycles after x1.  A pair with cos = 1, sin = 0 passes unturned (only the sign of a
    zero may change).  Maps to two multipliers.
    """

    LATENCY = 1 + FloatMul.LATENCY + FloatAdd.LATENCY

    def __init__(self, fmt: FloatFormat = BINARY16):
        self._fmt = fmt
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"x": fmt.width, "cos": fmt.width, "sin": fmt.width}))),
            "o": Out(stream.Signature(data.StructLayout({"y": fmt.width, "nonfinite": 1}))),
        })

    def elaborate(self, platform: object) -> Module:
        m, width = Module(), self._fmt.width
        m.submodules.first = first = FloatMul(self._fmt)
        m.submodules.second = second = FloatMul(self._fmt)
        m.submodules.adder = adder = FloatAdd(self._fmt)
        held, odd = Signal(width, reset_less=True), Signal()
        x0, x1, cos, sin = (Signal(width, name=n, reset_less=True) for n in ("x0", "x1", "cos", "sin"))
        remaining = Signal(2)
        turn = Signal()
        m.d.comb += [turn.eq(remaining == 1)]
        move = Signal()
        m.d.comb += [
            first.i.valid.eq(remaining != 0), second.i.valid.eq(remaining != 0),
            first.i.p.a.eq(x0), first.i.p.b.eq(Mux(turn, sin, cos)), first.i.p.tag.eq(turn),
            second.i.p.a.eq(x1), second.i.p.b.eq(Mux(turn, cos, sin)),
            move.eq((remaining != 0) & first.i.ready),
            # The pair's registers are free after its second sum has entered the adder.
            self.i.ready.eq(~odd | (remaining == 0) | (move & turn)),
            adder.i.valid.eq(first.o.valid), adder.i.p.a.eq(first.o.p.y), adder.i.p.b.eq(second.o.p.y),
            adder.i.p.sub.eq(~first.o.p.tag), first.o.ready.eq(adder.i.ready), second.o.ready.eq(adder.i.ready),
            self.o.valid.eq(adder.o.valid), self.o.p.y.eq(adder.o.p.y), self.o.p.nonfinite.eq(adder.o.p.nonfinite),
            adder.o.ready.eq(self.o.ready),
        ]
        with m.If(move):
            m.d.sync += remaining.eq(remaining - 1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += odd.eq(~odd)
            with m.If(odd):
                m.d.sync += [x0.eq(held), x1.eq(self.i.p.x), cos.eq(self.i.p.cos), sin.eq(self.i.p.sin), remaining.eq(2)]
            with m.Else():
                m.d.sync += held.eq(self.i.p.x)
        return m
