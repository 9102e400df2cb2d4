# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""FloatMul and FloatAdd against NumPy (binary16) and exact integers (the wider format)."""

import os

import cocotb
from cocotb.triggers import FallingEdge
from float_vectors import FMT, FORMATS, VECTORS, check, judge, near, nightly, special_pairs, tie_add, tie_mul

from hw.fused.arithmetic import FloatAdd, FloatMul
from sim.cocotb_streams import reset, rng
from sim.testbench import Bench
from tests.hw.layouts import pack, payload_of

UNITS = {"mul": FloatMul, "add": FloatAdd}
BENCHES = [Bench(name=f"{op}-{name}", build=lambda unit=unit, fmt=fmt: unit(fmt), env={"FMT": name, "OP": op},
                 nightly=nightly(name))
           for op, unit in UNITS.items() for name, fmt in FORMATS.items()]
OP = os.environ.get("OP", "mul")
TIES = {"mul": tie_mul, "add": tie_add}
OPERANDS, RESULT = (payload_of(UNITS[OP](FMT), port) for port in ("i", "o"))


def packed(a, b, tag=0):
    return pack(OPERANDS, a=a, b=b, tag=tag)


def expected(a, b, tag=0):
    y = judge(FMT, OP, a, b)
    return pack(RESULT, y=y, nonfinite=not FMT.is_finite(y), tag=tag)


def random_vectors(random, n):
    out = []
    for i in range(n):
        a = random.getrandbits(FMT.width)
        if i % 3 == 0:
            b = random.getrandbits(FMT.width)
        elif i % 3 == 1:
            b = near(random, FMT, a)
        else:
            a, b = TIES[OP](random, FMT)
        out.append((a, b, i & 1))
    return out


@cocotb.test()
async def specials(dut):
    await check(dut, special_pairs(FMT), packed, expected)


@cocotb.test()
async def random(dut):
    """Random values, ties among them; one a cycle, LATENCY cycles late."""
    vectors = random_vectors(rng("vectors"), VECTORS)
    cycles, latency = await check(dut, vectors, packed, expected)
    assert latency == UNITS[OP].LATENCY
    assert cycles == len(vectors) + latency, "initiation interval is not 1"


@cocotb.test()
async def stalls_10(dut):
    await check(dut, random_vectors(rng("vectors"), 1000), packed, expected, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await check(dut, random_vectors(rng("vectors"), 200), packed, expected, idle=0.9, stall=0.9)


@cocotb.test()
async def a_reset_drops_what_is_inside(dut):
    """A reset of one cycle: none of the elements in the stages comes out behind it."""
    await reset(dut)
    latency = UNITS[OP].LATENCY
    dut.i__payload.value = packed(FMT.exp_max, FMT.exp_max)
    dut.i__valid.value = dut.o__ready.value = 1
    for _ in range(latency):
        await FallingEdge(dut.clk)
    assert dut.o__valid.value
    dut.i__valid.value, dut.rst.value = 0, 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(latency):
        assert not dut.o__valid.value
        await FallingEdge(dut.clk)
