# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Whole lanes of ``make dse`` against plain sums: codes filled, tables built each way, rows stepped, accumulators read."""

import os

import cocotb
from amaranth.hdl import signed
from amaranth.lib import data
from cocotb.triggers import FallingEdge

from boards.study.dse import LanePoint, Point
from hw.tlmm.study.kinds import KINDS
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tellme.spec.packing import SLICE, TILE_ROWS
from tests.hw.layouts import pack, unpack

#: Three lanes: this number shares an EBR's word.
LANES = 3
POINTS = [Point("select-xor", LANES), Point("select-tree", LANES, 2, "lockstep"), Point("g2", LANES),
          Point("g2", LANES, 2, "lockstep"), Point("g2", LANES, 1, "turn"), Point("g3g2-plain", LANES, 1, "turn"),
          Point("g5-ebr", LANES, 1, "lockstep"), Point("g5-ebr", LANES, 1, "turn")]
#: The whole lane that CI runs, of the engine's kind with as many rows a step as the engine takes.
CI = Point("g2", LANES, 2, "lockstep")
assert CI in POINTS
BENCHES = [Bench(name=point.name, build=lambda point=point: LanePoint(point), env={"POINT": str(n)},
                 nightly="" if point == CI else "a lane that was only compared (hw/tlmm/study): no core has it")
           for n, point in enumerate(POINTS)]
POINT = POINTS[int(os.environ.get("POINT", "0"))]
KIND = KINDS[POINT.kind]
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


@cocotb.test()
async def sums_of_slices(dut):
    """Rows of three slices, the last one not whole, accumulated; both buffers in use."""
    await reset(dut)
    for name in ("step", "row", "first", "buffer", "fill_en", "start", "read_row", "word"):
        getattr(dut, name).value = 0
    random = rng("lane")
    codes = [[random.choice((-128, 127, random.randint(-128, 127))) for _ in range(3 * SLICE)] for _ in range(LANES)]
    for lane in range(LANES):
        await fill(dut, lane, codes[lane])
    cols = 3 * SLICE - 7
    sums = [[[0] * LANES for _ in range(TILE_ROWS)] for _ in range(POINT.rows)]
    for n in range(3):
        dut.buffer.value = 1 - n % 2
        await build(dut, n * SLICE, cols, n % 2)
        dut.buffer.value = n % 2
        await FallingEdge(dut.clk)
        for row in range(TILE_ROWS):
            units = [[random.randrange(3**KIND.trits) for _ in range(KIND.units)] for _ in range(POINT.rows)]
            for r in range(POINT.rows):
                weights = [code // 3**i % 3 - 1 for code in units[r] for i in range(KIND.trits)]
                for lane in range(LANES):
                    sums[r][row][lane] += sum(w * codes[lane][n * SLICE + c] for c, w in enumerate(weights[:SLICE])
                                              if n * SLICE + c < cols)
            dut.word.value, dut.row.value, dut.first.value, dut.step.value = pack(WORD, units), row, int(n == 0), 1
            await FallingEdge(dut.clk)
        dut.step.value = 0
        for _ in range(KIND.dot.LATENCY + 6):
            await FallingEdge(dut.clk)
    for row in range(TILE_ROWS):
        dut.read_row.value = row
        for _ in range(4):
            await FallingEdge(dut.clk)
        assert unpack(SUMS, int(dut.value.value)) == [sums[r][row] for r in range(POINT.rows)], row
    report(cases=TILE_ROWS * POINT.rows * LANES)
