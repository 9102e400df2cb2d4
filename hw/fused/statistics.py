# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sum of squares and absmax of a vector, found in the pass that writes it (TeLLMe v2: RMS-MAX)."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.fused.stage import unpack
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.scale import SQUARE_FRAC, SUMSQ_BITS

__all__ = ["Statistics"]


class Statistics(wiring.Component):
    """sumsq = sum of x * x, each cut to a multiple of 2**-32 (integers of that unit); absmax = largest |y|.

    x and y come apart: ``x_valid`` with ``x``, ``y_valid`` with ``y`` (x, or x times its gain).  ``clear`` zeroes both.
    One element a cycle without back-pressure; sums are final LATENCY cycles after the last element.  Exact for up to
    8,191 binary16 elements (77 bits).  Infinities and NaN count as whatever their fields say: the step fails anyway.
    One multiplier; the sum is added in two halves.  Raises ValueError for formats wider than binary16.
    """

    LATENCY = 6

    def __init__(self, fmt: FloatFormat = BINARY16):
        if fmt.exp_bits > 5 or fmt.frac_bits > 10:
            raise ValueError("the sum of squares is exact in 77 bits for binary16 and narrower formats only")
        self._fmt = fmt
        super().__init__({"x_valid": In(1), "x": In(fmt.width), "y_valid": In(1), "y": In(fmt.width), "clear": In(1),
                          "sumsq": Out(SUMSQ_BITS), "absmax": Out(fmt.width - 1)})

    def elaborate(self, platform):
        m, fmt = Module(), self._fmt

        def register(value, name):
            value = Value.cast(value)
            signal = Signal(value.shape(), name=name)
            m.d.sync += signal.eq(value)
            return signal

        x = unpack(self.x, fmt)
        valid1, sig1, exp1 = (register(v, n) for v, n in ((self.x_valid, "valid1"), (x.sig, "sig1"), (x.exp, "exp1")))
        valid2, product2, exp2 = (register(v, n) for v, n in ((valid1, "valid2"), (sig1 * sig1, "product2"),
                                                              (exp1, "exp2")))
        # product * 2**(2 (exp - 1 + min_exp) + 32): up by 2 (exp - 1) in two steps, then down by the rest, at most
        # 2 * 24 - 32.
        cut = -(2 * fmt.min_exp + SQUARE_FRAC)
        up = (exp2 - 1)[:fmt.exp_bits]
        fine, coarse = register(product2 << (up[:2] << 1), "fine"), register(up[2:], "coarse")
        valid_fine = register(valid2, "valid_fine")
        lifted = (fine << (coarse << 3))[cut:]
        valid3, square3 = register(valid_fine, "valid3"), register(Mux(valid_fine, lifted[:64], 0), "square3")
        half = 40
        low = Signal(half + 1)
        high = Signal(SUMSQ_BITS - half)
        m.d.sync += [low.eq(low[:half] + square3[:half]), high.eq(high + register(square3[half:], "upper4") + low[half])]
        m.d.comb += self.sumsq.eq((high << half) + low)
        y_valid, y = register(self.y_valid, "y_valid1"), register(self.y[:-1], "y1")
        with m.If(y_valid & (y > self.absmax)):
            m.d.sync += self.absmax.eq(y)
        with m.If(self.clear):
            m.d.sync += [low.eq(0), high.eq(0), self.absmax.eq(0), valid3.eq(0), square3.eq(0), y_valid.eq(0)]
        return m
