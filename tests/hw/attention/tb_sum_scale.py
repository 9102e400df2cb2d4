# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The scale of a head's sums against the specification: in stages, a new one each cycle, and step by step."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.attention.scan import EXPONENT_BITS as SCAN_EXPONENT_BITS
from hw.attention.scan import TOTAL_BITS
from hw.attention.softmax import EXPONENT_BITS
from hw.attention.sum_scale import InverseScale, StepwiseSumScale, SumScale
from hw.lib.types import ScaleLayout
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tellme.spec.attention import SUM_FRAC, out_scale
from tellme.spec.scale import Scale
from tests.hw.layouts import unpack

#: A context of 1,024 keys.
STAGED_BITS = SUM_FRAC + 1 + 10
BITS = int(os.environ.get("BITS", str(STAGED_BITS)))
BENCHES = [Bench(name="staged", env={"BITS": str(STAGED_BITS)}, tests=("staged",),
                 build=lambda: SumScale(total_bits=STAGED_BITS)),
           Bench(name="stepwise", env={"BITS": str(TOTAL_BITS)}, tests=("stepwise",),
                 build=lambda: StepwiseSumScale(total_bits=TOTAL_BITS, exponent_bits=SCAN_EXPONENT_BITS))]


def totals(random):
    """Sums of exponentials: each power of two and its neighbours, significands that round up to the next one, and any."""
    edges = [value for i in range(BITS) for value in ((1 << i) - 1, 1 << i, (1 << i) + 1) if 0 < value < 1 << BITS]
    carries = [0xFFF << i for i in range(BITS - 12)] + [0xFFE << i for i in range(BITS - 12)]
    return edges + carries + [random.getrandbits(random.randint(1, BITS)) or 1 for _ in range(400)]


def expected(total, exponent):
    """out_scale, whose exponent the gateware keeps in eight bits."""
    scale = out_scale(total, exponent)
    return Scale(scale.sig, max(-128, min(127, scale.exp)))


def cases():
    random = rng("sums")
    low, high = -(1 << EXPONENT_BITS - 1), (1 << EXPONENT_BITS - 1) - 1
    return [(total, random.choice((random.randint(-40, 40), random.randint(-150, 150), low, high))) for total in totals(random)]


@cocotb.test()
async def staged(dut):
    """LATENCY cycles after total and exponent began to stand still, whatever was there before."""
    await reset(dut)
    wanted = cases()
    for total, exponent in wanted:
        dut.total.value, dut.exponent.value = total, exponent
        for _ in range(SumScale.LATENCY):
            await FallingEdge(dut.clk)
        assert Scale(**unpack(ScaleLayout, int(dut.scale.value))) == expected(total, exponent), (total, exponent)
    report(cases=len(wanted))


@cocotb.test()
async def stepwise(dut):
    """As many steps as the contract says, and InverseScale.LATENCY cycles from the last of them on."""
    dut.load.value = dut.step.value = 0
    await reset(dut)
    wanted = cases()
    for total, exponent in wanted:
        dut.total.value, dut.exponent.value, dut.load.value = total, exponent, 1
        await FallingEdge(dut.clk)
        dut.load.value, dut.total.value, dut.step.value = 0, 0, 1
        steps, zeros = 0, BITS - total.bit_length()
        while True:
            steps += 1
            await cocotb.triggers.Timer(1, "ns")
            normal = int(dut.normal.value)
            await FallingEdge(dut.clk)
            if normal:
                break
        assert steps == zeros // 4 + zeros % 4 + 1, (total, steps)
        dut.step.value = 0
        for _ in range(InverseScale.LATENCY):
            await FallingEdge(dut.clk)
        assert Scale(**unpack(ScaleLayout, int(dut.scale.value))) == expected(total, exponent), (total, exponent)
    report(cases=len(wanted))
