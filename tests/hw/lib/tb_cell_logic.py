# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The models of look-up tables, multiplexers, flip-flops and distributed memory against what the data sheet says of them.
The carry cell has a bench of its own: tlmm/carry."""

from itertools import product
from random import Random

import cocotb
from cocotb.triggers import FallingEdge, Timer

from sim.cocotb_streams import report, reset, rng
from sim.netlist import cell_sources
from sim.testbench import Bench

TABLES = (0x8000, 0x0001, 0xAAAA, 0xCCCC, 0xF0F0, 0xFF00, *(Random(1).getrandbits(16) for _ in range(10)))
#: Flip-flops: clock, enable, reset, state after it, and what wins.
FLIP_FLOPS = list(product(("CLK", "INV"), ("1", "CE", "INV"), ("LSR", "INV"), ("RESET", "SET"),
                          ("LSR_OVER_CE", "CE_OVER_LSR", "ASYNC")))
#: Memories: clock, write enable.
MEMORIES = list(product(("WCK", "INV"), ("WRE", "INV")))
#: An inverted clock comes inverted, so that all take their inputs at the same edge.
EDGES = {"CLK": "clk", "WCK": "clk", "INV": "!clk"}
CONTENTS = 0xFEDCBA9876543210


def sources():
    lines = [f"  LUT4 #(.INIT(16'd{table})) lut{n}(.A(a), .B(b), .C(c), .D(d), .Z(z[{n}]));" for n, table in enumerate(TABLES)]
    lines += ["  PFUMX pfumx(.ALUT(a), .BLUT(b), .C0(c), .Z(muxes[0]));",
              "  L6MUX21 l6mux(.D0(a), .D1(b), .SD(c), .Z(muxes[1]));",
              "  INV inv(.A(a), .Z(muxes[2]));"]
    for n, (clock, enable, clear, state, mode) in enumerate(FLIP_FLOPS):
        lines.append(f'  TRELLIS_FF #(.GSR("DISABLED"), .CLKMUX("{clock}"), .CEMUX("{enable}"), .LSRMUX("{clear}"), '
                     f'.REGSET("{state}"), .SRMODE("{mode}")) ff{n}(.CLK({EDGES[clock]}), .CE(a), .LSR(b), .DI(c), .Q(q[{n}]));')
    for n, (clock, enable) in enumerate(MEMORIES):
        lines.append(f'  TRELLIS_DPR16X4 #(.WCKMUX("{clock}"), .WREMUX("{enable}"), .INITVAL(64\'d{CONTENTS})) memory{n}('
                     f".DI(di), .WAD(wad), .RAD(rad), .WRE(a), .WCK({EDGES[clock]}), .DO(read[{4 * n + 3}:{4 * n}]));")
    ports = (f"input clk, a, b, c, d, input [3:0] di, wad, rad, output [{len(TABLES) - 1}:0] z, output [2:0] muxes, "
             f"output [{len(FLIP_FLOPS) - 1}:0] q, output [{4 * len(MEMORIES) - 1}:0] read")
    return {"logic.sv": cell_sources()["logic.sv"], "tb.sv": f"module tb_top({ports});\n" + "\n".join(lines) + "\nendmodule\n"}


BENCHES = [Bench(name="cells", sources=sources, nightly="the netlists that have them are simulated by night")]


async def start(dut):
    dut.a.value = dut.b.value = dut.c.value = dut.d.value = 0
    dut.di.value = dut.wad.value = dut.rad.value = 0
    await reset(dut)


@cocotb.test()
async def power_up(dut):
    """A flip-flop starts as its reset leaves it.  This is the first test, and no enable comes before its end."""
    await start(dut)
    q = int(dut.q.value)
    idle = [n for n, kind in enumerate(FLIP_FLOPS) if kind[1] == "CE"]
    for n in idle:
        assert q >> n & 1 == int(FLIP_FLOPS[n][3] == "SET"), FLIP_FLOPS[n]
    report(cases=len(idle))


@cocotb.test()
async def tables_and_multiplexers(dut):
    await start(dut)
    for index in range(16):
        a, b, c, d = (index >> n & 1 for n in range(4))
        dut.a.value, dut.b.value, dut.c.value, dut.d.value = a, b, c, d
        await FallingEdge(dut.clk)
        z, muxes = int(dut.z.value), int(dut.muxes.value)
        for n, table in enumerate(TABLES):
            assert z >> n & 1 == table >> index & 1, (table, index)
        assert muxes == (a if c else b) | (b if c else a) << 1 | (1 - a) << 2, index
    report(cases=16 * (len(TABLES) + 3))


@cocotb.test()
async def flip_flops(dut):
    """Each kind of clock, enable, reset and priority; asynchronous resets act before the clock does."""
    await start(dut)
    random = rng("flip-flops")
    q = int(dut.q.value)
    states = [q >> n & 1 for n in range(len(FLIP_FLOPS))]
    for turn in range(400):
        a, b, c = random.getrandbits(1), int(random.random() < 0.3), random.getrandbits(1)
        dut.a.value, dut.b.value, dut.c.value = a, b, c
        for edge in (False, True):
            await (FallingEdge(dut.clk) if edge else Timer(2, "ns"))
            q = int(dut.q.value)
            for n, (_, enable, clear, state, mode) in enumerate(FLIP_FLOPS):
                on = {"1": 1, "CE": a, "INV": 1 - a}[enable]
                cleared = b if clear == "LSR" else 1 - b
                if cleared and (edge or mode == "ASYNC") and (on or mode != "CE_OVER_LSR"):
                    states[n] = int(state == "SET")
                elif on and edge:
                    states[n] = c
                assert q >> n & 1 == states[n], (FLIP_FLOPS[n], turn, edge, a, b, c)
    report(cases=400 * len(FLIP_FLOPS))


@cocotb.test()
async def memories(dut):
    """First contents, writes at the clock's edge alone, reads at any time."""
    await start(dut)
    random = rng("memories")
    words = [[CONTENTS >> 4 * n & 15 for n in range(16)] for _ in MEMORIES]
    # The word at address 0 is zero, and so is what tests before this one wrote there.
    assert CONTENTS & 15 == 0
    for _ in range(600):
        a, di, wad, rad = random.getrandbits(1), *(random.getrandbits(4) for _ in range(3))
        dut.a.value, dut.di.value, dut.wad.value, dut.rad.value = a, di, wad, rad
        await FallingEdge(dut.clk)
        read = int(dut.read.value)
        for n, (_, enable) in enumerate(MEMORIES):
            if a == (enable == "WRE"):
                words[n][wad] = di
            assert read >> 4 * n & 15 == words[n][rad], (MEMORIES[n], wad, rad)
    report(cases=600 * len(MEMORIES))
