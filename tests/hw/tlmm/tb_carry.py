# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The adder of whole CCU2C: what the simulator adds, what the cells add, and what Python adds are the same."""

import random as python_random
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge

from hw.tlmm.carry import ADD_MODULE, ADD_VERILOG, add_table
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench

ROOT = Path(__file__).resolve().parents[3]
WIDTHS = (2, 3, 8, 9, 32)
#: The tables in use, and some arbitrary tables.
TABLES = (add_table(lambda a, b: a, lambda a, b, c, d: c), add_table(lambda a, b: a ^ b, lambda a, b, c, d: c ^ d),
          add_table(lambda a, b: a, lambda a, b, c, d: c & d), add_table(lambda a, b: a, lambda a, b, c, d: (b & c) ^ d),
          *(python_random.Random(1).getrandbits(16) for _ in range(8)))
CASES = [(width, table) for width in WIDTHS for table in TABLES]

TB = """
module tb_top(input clk, input [31:0] a, b, c, d, input i, output [{top}:0] sums, output [{top}:0] cells);
{instances}
endmodule
"""


def sources():
    instances, at = [], 0
    for n, (width, table) in enumerate(CASES):
        for module, out in ((ADD_MODULE, "sums"), ("cells_add", "cells")):
            ports = ", ".join(f".{p.upper()}({p}[{width - 1}:0])" for p in "abcd")
            instances.append(f"  {module} #(.WIDTH({width}), .INIT(16'd{table})) {out}{n}({ports}, .I(i), "
                             f".S({out}[{at + width - 1}:{at}]));")
        at += width
    cells = "`define TELLME_CELLS\n" + ADD_VERILOG.replace(f"module {ADD_MODULE}", "module cells_add")
    text = ADD_VERILOG + cells + (ROOT / "sim/chips/ccu2c.v").read_text()
    return {"adders.sv": text + TB.format(top=at - 1, instances="\n".join(instances))}


BENCHES = [Bench(name="cells", sources=sources)]


def expected(width, table, words, i):
    """u(a, b) + w(a, b, c, d) + i, where u is the table's lowest quarter."""
    u = w = 0
    for bit in range(width):
        index = sum((word >> bit & 1) << n for n, word in enumerate(words))
        low = table >> (index & 3) & 1
        u |= low << bit
        w |= (table >> index & 1 ^ low) << bit
    return (u + w + i) % (1 << width)


@cocotb.test()
async def all_forms_agree(dut):
    await reset(dut)
    random = rng("carry")
    for _ in range(1500):
        words = [random.choice((random.getrandbits(32), random.choice((0, 0xFFFFFFFF, 1 << 31, 1)))) for _ in range(4)]
        i = random.getrandbits(1)
        dut.a.value, dut.b.value, dut.c.value, dut.d.value = words
        dut.i.value = i
        await FallingEdge(dut.clk)
        sums, cells, at = int(dut.sums.value), int(dut.cells.value), 0
        assert sums == cells, (words, i)
        for width, table in CASES:
            got = sums >> at & (1 << width) - 1
            assert got == expected(width, table, words, i), (width, table, words, i)
            at += width
    report(cases=1500 * len(CASES))
