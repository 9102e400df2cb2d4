# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The command processor's CacheFinder: where each layer's KV cache lies."""

import cocotb
from cocotb.triggers import FallingEdge

from hw.core.processor import CacheFinder
from hw.lib.control import ModelShape
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tellme.spec.memory import KV_PAGE, KV_PAGE_REGISTERS, cache_bases
from tellme.spec.program import DESCRIPTOR_RANGES
from tellme.spec.widths import MAX_WORDS
from tests.hw.layouts import pack

BENCHES = [Bench(name="caches", build=CacheFinder)]
MOST = DESCRIPTOR_RANGES["layer"].most


@cocotb.test()
async def every_layer_of_random_layouts(dut):
    """All bases CYCLES cycles behind the start, modulo the address space, and until the next start."""
    dut.start.value = 0
    await reset(dut)
    random = rng("layouts")
    pages = MAX_WORDS // KV_PAGE
    total = 0
    for case in range(12):
        registers = {name: KV_PAGE * random.randrange(pages) for name in KV_PAGE_REGISTERS}
        if case < 2:
            registers = dict.fromkeys(KV_PAGE_REGISTERS, (0, MAX_WORDS - KV_PAGE)[case])
        # Bits below a page's count for nothing.
        dut.shape.value = pack(ModelShape, **{name: value | random.randrange(KV_PAGE) for name, value in registers.items()})
        for layer in range(MOST + 1) if case < 3 else random.sample(range(MOST + 1), 40):
            dut.layer.value = layer
            dut.start.value = 1
            await FallingEdge(dut.clk)
            dut.start.value = 0
            for _ in range(CacheFinder.CYCLES - 1):
                await FallingEdge(dut.clk)
            expected = tuple(base % MAX_WORDS for base in cache_bases(registers, layer))
            for wait in (0, random.choice((0, 1, 30))):
                for _ in range(wait):
                    await FallingEdge(dut.clk)
                assert tuple(int(getattr(dut, f"{name}_base").value) for name in "kvs") == expected, (layer, registers)
            total += 1
    report(cases=total)


@cocotb.test()
async def a_start_that_cuts_another_short(dut):
    dut.start.value = 0
    await reset(dut)
    random = rng("starts")
    registers = {name: KV_PAGE * random.randrange(4000) for name in KV_PAGE_REGISTERS}
    dut.shape.value = pack(ModelShape, **registers)
    for first in range(1, CacheFinder.CYCLES + 1):
        for layer, cycles in ((random.randint(0, MOST), first), (random.randint(0, MOST), CacheFinder.CYCLES)):
            dut.layer.value = layer
            dut.start.value = 1
            await FallingEdge(dut.clk)
            dut.start.value = 0
            for _ in range(cycles - 1):
                await FallingEdge(dut.clk)
        expected = tuple(base % MAX_WORDS for base in cache_bases(registers, layer))
        assert tuple(int(getattr(dut, f"{name}_base").value) for name in "kvs") == expected
    report(cases=CacheFinder.CYCLES)
