# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Functions of numbers that several units use: stored scales, products of scales, rounded shifts, leading zeros."""

import os

import cocotb
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge, Timer

from hw.lib.floats import leading_zeros
from hw.lib.scales import SCALE_MUL_STAGES, pack16, scale_mul_stages, unpack16
from hw.lib.shifts import round_shift
from hw.lib.stages import Stages
from hw.lib.types import ScaleLayout
from sim.cocotb_streams import report, report_point, reset, rng
from sim.testbench import Bench
from tellme.spec import scale as spec
from tellme.spec.scale import EXP_MAX, EXP_MIN, SCALE16_BIAS, SIG_MAX, Scale
from tests.hw.layouts import pack, unpack

#: Bits of values to be shifted, and of what they become: as many, or less.
SHIFTS = ((16, 16), (32, 32), (45, 16), (45, 32))
#: Bits of numbers whose zeros are counted.
NUMBERS = (1, 2, 13, 16, 77)
DOWN_BITS, SHIFT_STAGES = 10, 3


class Numbers(wiring.Component):
    """The functions, one beside another."""

    def __init__(self):
        super().__init__({
            "a": In(ScaleLayout), "b": In(ScaleLayout), "stored": In(16), "packed": Out(16), "unpacked": Out(ScaleLayout),
            "product": Out(ScaleLayout), "down": In(signed(DOWN_BITS)),
            **{f"value{n}": In(signed(width)) for n, (width, _) in enumerate(SHIFTS)},
            **{f"shifted{n}": Out(signed(bits)) for n, (_, bits) in enumerate(SHIFTS)},
            **{f"number{bits}": In(bits) for bits in NUMBERS}, **{f"zeros{bits}": Out(8) for bits in NUMBERS}})

    def elaborate(self, platform):
        m = Module()
        stage = Stages(m)
        sig, exp = unpack16(self.stored)
        m.d.comb += [self.packed.eq(pack16(self.a)), self.unpacked.sig.eq(sig), self.unpacked.exp.eq(exp),
                     self.product.eq(scale_mul_stages(stage, self.a, self.b))]
        for n, (_, bits) in enumerate(SHIFTS):
            m.d.comb += getattr(self, f"shifted{n}").eq(round_shift(stage, getattr(self, f"value{n}"), self.down, bits=bits))
        for bits in NUMBERS:
            counted = Module()
            m.submodules[f"of{bits}"] = counted
            m.d.comb += getattr(self, f"zeros{bits}").eq(leading_zeros(counted, getattr(self, f"number{bits}")))
        return m


BENCHES = [Bench(name="all", build=Numbers, nightly="the units that use these functions have tests of their own")]
POINTS = ("limit: the largest and the smallest scales", "limit: the longest shifts to either side")
CASES = int(os.environ.get("TELLME_VECTORS", "2000")) // 2


@cocotb.test()
async def stored_scales(dut):
    """All exponents, with significands at the ends; and all stored forms."""
    for exp in range(EXP_MIN, EXP_MAX + 1):
        for sig in (1024, 1025, 1500, SIG_MAX):
            dut.a.value = pack(ScaleLayout, sig=sig, exp=exp)
            await Timer(1, "ns")
            assert int(dut.packed.value) == spec.pack16(Scale(sig, exp)), (sig, exp)
    dut.a.value = 0
    await Timer(1, "ns")
    assert int(dut.packed.value) == 0
    random = rng("stored")
    for stored in (0, 1, 0x3FF, 0x400, 0xFC00, 0xFFFF, *(random.getrandbits(16) for _ in range(200))):
        dut.stored.value = stored
        await Timer(1, "ns")
        assert Scale(**unpack(ScaleLayout, int(dut.unpacked.value))) == spec.unpack16(stored), stored
    assert spec.pack16(Scale(1024, 63 - SCALE16_BIAS)) != spec.pack16(Scale(1024, 64 - SCALE16_BIAS))
    report(cases=4 * (EXP_MAX - EXP_MIN + 1) + 207)


@cocotb.test()
async def products_of_scales(dut):
    await reset(dut)
    random = rng("products")
    ends = [Scale(sig, exp) for sig in (1024, 1025, 1448, 1449, SIG_MAX) for exp in (EXP_MIN, -70, -10, 0, 53, EXP_MAX)]
    pairs = [(a, b) for a in [*ends, Scale(0, 0)] for b in [*ends, Scale(0, 0)]]
    pairs += [tuple(Scale(random.randint(1024, SIG_MAX), random.randint(-80, 80)) for _ in "ab") for _ in range(CASES)]
    for n in range(len(pairs) + SCALE_MUL_STAGES):
        if n < len(pairs):
            dut.a.value, dut.b.value = (pack(ScaleLayout, scale) for scale in pairs[n])
        await FallingEdge(dut.clk)
        if n + 1 >= SCALE_MUL_STAGES and n + 1 - SCALE_MUL_STAGES < len(pairs):
            a, b = pairs[n + 1 - SCALE_MUL_STAGES]
            assert Scale(**unpack(ScaleLayout, int(dut.product.value))) == spec.scale_mul(a, b), (a, b)
    report_point("limit: the largest and the smallest scales")
    report(cases=len(pairs))


def rounded(value, down, bits):
    """value * 2**-down rounded half up and saturated."""
    moved = value << -down if down <= 0 else (value + (1 << down - 1)) >> down
    return max(-1 << bits - 1, min((1 << bits - 1) - 1, moved))


@cocotb.test()
async def rounded_shifts(dut):
    await reset(dut)
    random = rng("shifts")
    cases = []
    for _ in range(CASES):
        down = random.choice((0, 1, -1, random.randint(-50, 50), random.randint(-(1 << DOWN_BITS - 1), (1 << DOWN_BITS - 1) - 1)))
        values = []
        for width, bits in SHIFTS:
            least, most = -1 << width - 1, (1 << width - 1) - 1
            # At the ends of what fits, halfway between two results, and any.
            end = random.choice((-1 << bits - 1, (1 << bits - 1) - 1, (1 << bits - 1) - 1))
            beside = (end << down if down > 0 else end >> -down) + random.randint(-2, 2) if abs(down) < 64 else 0
            half = (2 * random.randint(-20, 20) + 1 << down - 1) + random.randint(-1, 1) if 0 < down < width else 0
            value = random.choice((least, most, 0, 1, -1, beside, half, random.randint(least, most) >> random.randrange(width)))
            values.append(max(least, min(most, value)))
        cases.append((down, values))
    for down in (-(1 << DOWN_BITS - 1), -33, -32, -31, -17, -16, -15, 12, 13, 31, 32, 33, 44, 45, 46, (1 << DOWN_BITS - 1) - 1):
        for sign in (-1, 1):
            cases.append((down, [sign * random.randint(1, 3) for _ in SHIFTS]))
            cases.append((down, [-1 << width - 1 if sign < 0 else (1 << width - 1) - 1 for width, _ in SHIFTS]))
    for n in range(len(cases) + SHIFT_STAGES):
        if n < len(cases):
            dut.down.value = cases[n][0]
            for i, value in enumerate(cases[n][1]):
                getattr(dut, f"value{i}").value = value
        await FallingEdge(dut.clk)
        if n + 1 >= SHIFT_STAGES and n + 1 - SHIFT_STAGES < len(cases):
            down, values = cases[n + 1 - SHIFT_STAGES]
            for i, (value, (_, bits)) in enumerate(zip(values, SHIFTS, strict=True)):
                assert getattr(dut, f"shifted{i}").value.to_signed() == rounded(value, down, bits), (value, down, bits)
    report_point("limit: the longest shifts to either side")
    report(cases=len(cases) * len(SHIFTS))


@cocotb.test()
async def zeros_above_the_first_one(dut):
    random, cases = rng("zeros"), 0
    for bits in NUMBERS:
        for top in range(bits):
            for _ in range(4):
                number = random.getrandbits(top) | 1 << top if top else 1
                getattr(dut, f"number{bits}").value = number
                await Timer(1, "ns")
                assert int(getattr(dut, f"zeros{bits}").value) == bits - 1 - top, (bits, number)
                cases += 1
    report(cases=cases)
