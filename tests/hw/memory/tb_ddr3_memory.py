# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A core's DDR3 memory, controller and training together, with a chip behind a PHY that sees bursts with some settings alone."""

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.ports import BurstLayout, MemoryBus, MemoryWord
from hw.memory.ddr3.memory import QUIET, Ddr3Memory
from hw.memory.ddr3.phy import LaneSettings
from hw.memory.ddr3.training import TrainingLayout
from sim.chips.ddr3 import Ddr3Chip
from sim.cocotb_streams import report, reset, settled
from sim.testbench import Bench
from tellme.spec import ddr3_training
from tellme.spec.ddr3 import CHIPS
from tests.hw.layouts import fields, pack, unpack
from tests.hw.memory.ddr3_parts import SPEC, Phy, Pins

TIMING, MHZ, START = CHIPS["MT41K256M16"], 400 / 3, {"reset_us": 2.0, "cke_us": 3.0}
BENCHES = [Bench(name="4Gb", build=lambda: Pins(Ddr3Memory(ports=1, spec=SPEC, timing=TIMING, mhz=MHZ, **START)), timeout_s=600,
                 nightly="memory/ddr3_controller and memory/ddr3_trainer have its parts, and memory/ddr3_phy-pins both together")]
#: Of each lane: the settings with which its PHY sees a burst, and of these the middle.
WINDOWS = ({(5, 2), (6, 2), (7, 2), (0, 3)}, {(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)})
FOUND = {"readclksel0": 6, "slip0": 2, "start0": 5, "window0": 3, "readclksel1": 3, "slip1": 1, "start1": 1, "window1": 5,
         "failed": 0, "overridden": 0}
WORK, RDATA = (MemoryBus(SPEC, 1).members[name].shape for name in ("work", "rdata"))
#: Cycles that a sweep may take.
LIMIT = 40_000


async def bursts(dut):
    while True:
        lanes = [unpack(LaneSettings, int(getattr(dut, f"phy__lanes__{lane}").value)) for lane in range(2)]
        dut.phy__burst.value = sum(((s["readclksel"], s["slip"]) in window) << lane
                                   for lane, (s, window) in enumerate(zip(lanes, WINDOWS, strict=True)))
        await FallingEdge(dut.clk)


async def until(dut, condition):
    for _ in range(LIMIT):
        if condition():
            return
        await FallingEdge(dut.clk)
    raise AssertionError(f"not within {LIMIT} cycles")


async def burst(dut, *, write, word=0):
    """A burst of two words at address 0; the words of a read."""
    dut.bus__command__p.value = pack(BurstLayout(SPEC, 1), port=0, addr=0, words=2, write=write)
    dut.bus__command__valid.value = dut.bus__wanted.value = 1
    dut.bus__wdata.value = pack(MemoryWord(SPEC), word=word, lanes=3)
    got, moved, asked = [], 0, True
    while moved < 2 or (not write and len(got) < 2):
        await settled()
        taken = asked and bool(dut.bus__command__ready.value)
        moved += fields(WORK, int(dut.bus__work.value), "moves")[0]
        value, port = fields(RDATA, int(dut.bus__rdata.value), "word", "port")
        got += [value] if port == 0 else []
        await FallingEdge(dut.clk)
        if taken:
            dut.bus__command__valid.value, asked = 0, False
    dut.bus__wanted.value = 0
    return got


def found(dut):
    return unpack(TrainingLayout, int(dut.training.value))


async def retrain(dut):
    dut.retrain.value = 1
    await FallingEdge(dut.clk)
    dut.retrain.value = 0


@cocotb.test()
async def trains_and_trains_again(dut):
    """The middles of the windows; words; a training anew as soon as the bus is quiet, with a host's settings of a lane."""
    for name in ("bus__command__valid", "bus__command__p", "bus__wanted", "bus__wdata", "settings", "retrain"):
        getattr(dut, name).value = 0
    await reset(dut)
    cocotb.start_soon(Phy(dut, Ddr3Chip(timing=TIMING, mhz=MHZ, **START), latency=11).run())
    cocotb.start_soon(bursts(dut))
    await until(dut, lambda: dut.ready.value)
    assert found(dut) == FOUND
    word = 0x0123_4567_89AB_CDEF
    await burst(dut, write=True, word=word)
    assert await burst(dut, write=False) == [word, word]
    # The host's settings of a lane count when the memory is trained again, which waits while the bus is wanted.
    mine = ddr3_training.LaneSettings(4, 3)
    dut.settings.value = ddr3_training.pack_overrides((mine, None))
    dut.bus__wanted.value = 1
    await retrain(dut)
    for _ in range(3 * QUIET):
        assert dut.ready.value
        await FallingEdge(dut.clk)
    dut.bus__wanted.value = 0
    await until(dut, lambda: not dut.ready.value)
    await until(dut, lambda: dut.ready.value)
    # A lane of the host's has what was found beside what is in use, which is not where the PHY sees bursts.
    own = {"overridden": 1, "failed": 1}
    assert found(dut) == FOUND | own | {"readclksel0": mine.readclksel, "slip0": mine.slip}
    await burst(dut, write=True, word=~word & (1 << 64) - 1)
    assert await burst(dut, write=False) == [~word & (1 << 64) - 1] * 2
    # The other lane's, and then none.
    for settings, want in (((None, mine), own | {"readclksel1": mine.readclksel, "slip1": mine.slip}), ((None, None), {})):
        dut.settings.value = ddr3_training.pack_overrides(settings)
        await retrain(dut)
        await until(dut, lambda: not dut.ready.value)
        await until(dut, lambda: dut.ready.value)
        assert found(dut) == FOUND | want
    report(cases=4)
