# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The command processor's CacheFinder: where each layer's KV cache lies."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.core.steps import CacheFinder
from sim.cocotb_streams import report, report_point, reset, rng
from sim.testbench import Bench
from tellme.spec.memory import KV_PAGE, KV_PAGE_REGISTERS, cache_bases
from tellme.spec.program import DESCRIPTOR_RANGES
from tests.hw.layouts import layouts_of, pack

#: Memories of so many bytes: as much as a program's segments name, and little.
MEMORIES = {"caches": 1 << 26, "caches-small": 1 << 16}


def layouts(memory):
    return layouts_of(sdram_bytes=memory, sdram_column_bits=10)


BENCHES = [Bench(name=name, build=lambda memory=memory: CacheFinder(layouts(memory)), env={"MEMORY": str(memory)})
           for name, memory in MEMORIES.items()]
POINTS = ("limit: the last layer that a program can name", "limit: caches in the memory's first and last page")
LAYOUTS = layouts(int(os.environ.get("MEMORY", "65536")))
WORDS, CYCLES = 1 << LAYOUTS.widths.word_address_bits, CacheFinder(LAYOUTS).cycles
MOST = DESCRIPTOR_RANGES["layer"].most


@cocotb.test()
async def every_layer_of_random_layouts(dut):
    """All bases CYCLES cycles after the start, modulo the address space, and until the next start."""
    dut.start.value = 0
    await reset(dut)
    random = rng("layouts")
    pages = WORDS // KV_PAGE
    total = 0
    for case in range(12):
        registers = {name: KV_PAGE * random.randrange(pages) for name in KV_PAGE_REGISTERS}
        if case < 2:
            registers = dict.fromkeys(KV_PAGE_REGISTERS, (0, WORDS - KV_PAGE)[case])
        # Bits below a page's count for nothing.
        lower = {name: value | random.randrange(KV_PAGE) for name, value in registers.items()}
        dut.shape.value = pack(LAYOUTS.model_shape, lower)
        for layer in range(MOST + 1) if case < 3 else random.sample(range(MOST + 1), 40):
            dut.layer.value = layer
            dut.start.value = 1
            await FallingEdge(dut.clk)
            dut.start.value = 0
            for _ in range(CYCLES - 1):
                await FallingEdge(dut.clk)
            expected = tuple(base % WORDS for base in cache_bases(registers, layer))
            for wait in (0, random.choice((0, 1, 30))):
                for _ in range(wait):
                    await FallingEdge(dut.clk)
                assert tuple(int(getattr(dut, f"{name}_base").value) for name in "kvs") == expected, (layer, registers)
            total += 1
    for point in POINTS:
        report_point(point)
    report(cases=total)


@cocotb.test()
async def a_start_that_cuts_another_short(dut):
    dut.start.value = 0
    await reset(dut)
    random = rng("starts")
    registers = {name: KV_PAGE * random.randrange(WORDS // KV_PAGE) for name in KV_PAGE_REGISTERS}
    dut.shape.value = pack(LAYOUTS.model_shape, **registers)
    for first in range(1, CYCLES + 1):
        for layer, cycles in ((random.randint(0, MOST), first), (random.randint(0, MOST), CYCLES)):
            dut.layer.value = layer
            dut.start.value = 1
            await FallingEdge(dut.clk)
            dut.start.value = 0
            for _ in range(cycles - 1):
                await FallingEdge(dut.clk)
        expected = tuple(base % WORDS for base in cache_bases(registers, layer))
        assert tuple(int(getattr(dut, f"{name}_base").value) for name in "kvs") == expected
    report(cases=CYCLES)
