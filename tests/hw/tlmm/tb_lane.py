# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Whole lanes of ``make dse`` against plain sums: codes filled, tables built each way, rows stepped, accumulators read."""

import os

import cocotb
from amaranth.hdl import signed
from amaranth.lib import data
from cocotb.triggers import FallingEdge

from boards.study.dse import METHODS, PLANES, LanePoint, Point
from hw.tlmm.study.kinds import KINDS
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tellme.spec.packing import SLICE, TILE_ROWS, pack_multipliers
from tests.hw.layouts import pack, unpack

#: Three lanes: this number shares an EBR's word.
LANES = 3
LANE_POINTS = [Point("select-xor", LANES), Point("select-tree", LANES, 2, "lockstep"), Point("g2", LANES),
          Point("g2", LANES, 2, "lockstep"), Point("g2", LANES, 1, "turn"), Point("g3g2-plain", LANES, 1, "turn"),
          Point("g5-ebr", LANES, 1, "lockstep"), Point("g5-ebr", LANES, 1, "turn"),
          *(Point("g2", LANES, rows, "lockstep", method) for rows in (1, 2) for method in METHODS[1:])]
#: The whole lane that CI runs, of the engine's kind with as many rows a step as the engine takes.
CI = Point("g2", LANES, 2, "lockstep")
assert CI in LANE_POINTS
BENCHES = [Bench(name=point.name, build=lambda point=point: LanePoint(point), env={"POINT": str(n)},
                 nightly="" if point == CI else "a lane that was only compared (hw/tlmm/study): no core has it")
           for n, point in enumerate(LANE_POINTS)]
POINT = LANE_POINTS[int(os.environ.get("POINT", "0"))]
KIND = KINDS[POINT.kind]
#: Multipliers are those of a tile's rows, of which a step takes some; else each dot has a tile of its own.
ROWS = TILE_ROWS // POINT.rows if POINT.method == "multipliers" else TILE_ROWS
SLICES = 3
#: A word's weights, each row's units in order; and the sums of a row of each dot, a lane's each.
WORD = data.ArrayLayout(data.ArrayLayout(KIND.code_bits, KIND.units), POINT.rows)
SUMS = data.ArrayLayout(data.ArrayLayout(signed(32), LANES), POINT.rows)


async def fill(dut, lane, codes):
    """Write a lane's codes; those that a builder reads at a time lie side by side."""
    parts = len(KIND.columns(0))
    dut.fill.value = lane
    for addr in range(len(codes) // parts):
        for part, column in enumerate(KIND.columns(addr)):
            dut.fill_addr.value, dut.fill_code.value, dut.fill_en.value = addr, codes[column], 1 << part
            await FallingEdge(dut.clk)
    dut.fill_en.value = 0


async def build(dut, first_col, cols, buffer):
    """Tables of all lanes: at a time, or one lane after the other."""
    dut.first_col.value, dut.cols.value, dut.build_buffer.value = first_col, cols, buffer
    for lane in range(LANES if POINT.builders == "turn" else 1):
        dut.fill.value = lane
        dut.start.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        # Registers of the point: one before the builder, one after.
        for _ in range(KIND.builder.CYCLES + 1):
            await FallingEdge(dut.clk)
        assert dut.done.value, "the build takes longer or less than it says"
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)


async def multiply(dut, random, count):
    """Write multipliers of a tile's rows for the slice ``count``, of all that were; and give them, a row a step."""
    drawn = [random.choice((-128, 127, random.randint(-128, 127))) for _ in range(TILE_ROWS)]
    dut.half.value, dut.multipliers_en.value = 1 - count % 2, 1
    for at, word in enumerate(pack_multipliers(drawn)):
        dut.multipliers_at.value, dut.multipliers.value = at, word
        await FallingEdge(dut.clk)
    dut.multipliers_en.value = 0
    # A register of the point stands ahead of the memory.
    await FallingEdge(dut.clk)
    dut.half.value = count % 2
    return [drawn[row * POINT.rows:(row + 1) * POINT.rows] for row in range(ROWS)]


@cocotb.test()
async def sums_of_slices(dut):
    """Rows of three slices, the last one not whole, accumulated; both buffers in use; in planes, where the lane has them."""
    await reset(dut)
    names = ["step", "row", "first", "buffer", "fill_en", "start", "read_row", "word"]
    planes = 1 if POINT.method == METHODS[0] else PLANES
    names += ["triple"] * (planes > 1)
    if POINT.method == "multipliers":
        names += ["multipliers", "multipliers_en", "multipliers_at", "half"]
        dut.grouped.value = 1
    for name in names:
        getattr(dut, name).value = 0
    random = rng("lane")
    codes = [[random.choice((-128, 127, random.randint(-128, 127))) for _ in range(SLICES * SLICE)] for _ in range(LANES)]
    for lane in range(LANES):
        await fill(dut, lane, codes[lane])
    cols = SLICES * SLICE - 7
    sums = [[[0] * LANES for _ in range(ROWS)] for _ in range(POINT.rows)]
    for count in range(planes * SLICES):
        plane, n = divmod(count, SLICES)
        worth = 3**(planes - 1 - plane)
        dut.buffer.value = 1 - count % 2
        await build(dut, n * SLICE, cols, count % 2)
        factors = [[1] * POINT.rows] * ROWS
        if POINT.method == "multipliers":
            factors = await multiply(dut, random, count)
        if planes > 1:
            dut.triple.value = int(n == SLICES - 1 and plane < planes - 1)
        dut.buffer.value = count % 2
        await FallingEdge(dut.clk)
        for row in range(ROWS):
            units = [[random.randrange(3**KIND.trits) for _ in range(KIND.units)] for _ in range(POINT.rows)]
            for r in range(POINT.rows):
                weights = [code // 3**i % 3 - 1 for code in units[r] for i in range(KIND.trits)]
                for lane in range(LANES):
                    sums[r][row][lane] += worth * factors[row][r] * sum(
                        w * codes[lane][n * SLICE + c] for c, w in enumerate(weights[:SLICE]) if n * SLICE + c < cols)
            dut.word.value, dut.row.value, dut.first.value, dut.step.value = pack(WORD, units), row, int(count == 0), 1
            await FallingEdge(dut.clk)
        dut.step.value = 0
        for _ in range(KIND.dot.LATENCY + 8):
            await FallingEdge(dut.clk)
    for row in range(ROWS):
        dut.read_row.value = row
        for _ in range(4):
            await FallingEdge(dut.clk)
        assert unpack(SUMS, int(dut.value.value)) == [sums[r][row] for r in range(POINT.rows)], row
    report(cases=ROWS * POINT.rows * LANES)
