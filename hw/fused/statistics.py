# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sum of squares and absmax of a vector, found in the pass that writes it (TeLLMe v2: RMS-MAX)."""

from collections.abc import Callable

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.floats import unpack
from hw.lib.stages import Stages
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.scale import SQUARE_FRAC, SUMSQ_BITS

__all__ = ["Statistics"]


class Statistics(wiring.Component):
    """sumsq = sum of x * x, each cut to a multiple of 2**-32 (integers of that unit); absmax = largest |y|.

    x and y come separately: ``x_valid`` with ``x``, ``y_valid`` with ``y`` (x, or x times its gain), each with its token.
    ``clear`` zeroes all results, and ``x_first`` beside an ``x`` begins its token's sum anew with this x.  The outputs are the
    results of ``token``, a cycle later.

    One element per cycle, without back-pressure, tokens in any order.  Sums are final LATENCY cycles after the last element.
    Exact for up to MAX_COLS binary16 elements (77 bits; :mod:`tellme.spec.widths`).  Infinities and NaN are taken as numbers,
    because the step fails anyway.

    Maps to one multiplier; the sums lie in LUT RAM and are added in two halves.  Raises ValueError for formats wider than
    binary16.
    """

    LATENCY = 6

    def __init__(self, fmt: FloatFormat = BINARY16, *, tokens: int = 1):
        if fmt.exp_bits > 5 or fmt.frac_bits > 10:
            raise ValueError("the sum of squares is exact in 77 bits for binary16 and narrower formats only")
        self._fmt, self._tokens = fmt, max(tokens, 2)
        super().__init__({"x_valid": In(1), "x": In(fmt.width), "x_token": In(range(self._tokens)), "x_first": In(1),
                          "y_valid": In(1), "y": In(fmt.width), "y_token": In(range(self._tokens)), "clear": In(1),
                          "token": In(range(self._tokens)), "sumsq": Out(SUMSQ_BITS), "absmax": Out(fmt.width - 1)})

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self._fmt

        stage = Stages(m)

        x = unpack(self.x, fmt)
        valid1, sig1, exp1 = (stage.reg(v, n) for v, n in ((self.x_valid, "valid1"), (x.sig, "sig1"), (x.exp, "exp1")))
        valid2, product2, exp2 = (stage.reg(v, n) for v, n in ((valid1, "valid2"), (sig1 * sig1, "product2"),
                                                              (exp1, "exp2")))
        # product * 2**(2 (exp - 1 + min_exp) + 32): up by 2 (exp - 1) in two steps, then down by the rest, at most
        # 2 * 24 - 32.
        cut = -(2 * fmt.min_exp + SQUARE_FRAC)
        up = (exp2 - 1)[:fmt.exp_bits]
        fine, coarse = stage.reg(product2 << (up[:2] << 1), "fine"), stage.reg(up[2:], "coarse")
        valid_fine = stage.reg(valid2, "valid_fine")
        lifted = (fine << (coarse << 3))[cut:]
        valid3, square3 = stage.reg(valid_fine, "valid3"), stage.reg(Mux(valid_fine, lifted[:64], 0), "square3")
        token3 = stage.reg(stage.reg(stage.reg(stage.reg(self.x_token, "token1"), "token2"), "token_fine"), "token3")
        first3 = stage.delay(self.x_first, 4, "first")
        half = 40
        valid4, token4, first4 = stage.reg(valid3, "valid4"), stage.reg(token3, "token4"), stage.reg(first3, "first4")
        upper4, carry4 = stage.reg(square3[half:], "upper4"), Signal()
        y_valid, y, y_token = (stage.reg(v, n) for v, n in ((self.y_valid, "y_valid1"), (self.y[:-1], "y1"),
                                                          (self.y_token, "y_token1")))

        def kept(name: str, bits: int, *, token: Value, valid: Value, update: Callable[[Value], Value],
                 first: Value | None = None) -> tuple[Signal, Value]:
            """One value per token: 0 after clear, and ``update(value)``, with ``first`` ``update(0)``, after each valid cycle.
            Returns the value of ``token``, and the updated value."""
            m.submodules[name] = values = memory.Memory(shape=bits, depth=self._tokens, init=[])
            write, read, result = values.write_port(), values.read_port(domain="comb"), values.read_port(domain="comb")
            some = Signal(self._tokens, name=f"some_{name}", reset_less=True)
            goes_on = some.bit_select(token, 1)
            now = update(Mux(goes_on if first is None else goes_on & ~first, read.data, 0))
            m.d.comb += [read.addr.eq(token), write.addr.eq(token), write.en.eq(valid), write.data.eq(now),
                         result.addr.eq(self.token)]
            with m.If(self.clear):
                m.d.sync += some.eq(0)
            with m.Elif(valid):
                m.d.sync += some.bit_select(token, 1).eq(1)
            kept_one = Signal(bits, name=f"{name}_of_token")
            m.d.sync += kept_one.eq(Mux(some.bit_select(self.token, 1), result.data, 0))
            return kept_one, now

        low, sum_low = kept("low", half, token=token3, valid=valid3, first=first3, update=lambda v: v + square3[:half])
        m.d.sync += carry4.eq(sum_low[half])
        high, _ = kept("high", SUMSQ_BITS - half, token=token4, valid=valid4, first=first4,
                       update=lambda v: v + upper4 + carry4)
        absmax, _ = kept("largest", fmt.width - 1, token=y_token, valid=y_valid, update=lambda v: Mux(y > v, y, v))
        m.d.comb += [self.sumsq.eq(Cat(low, high)), self.absmax.eq(absmax)]
        return m
