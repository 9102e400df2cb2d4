# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The training of a DDR3 memory against its model (:class:`tellme.golden.ddr3.LanesTrainer`): the word of STATUS, bit for bit.

A controller and a PHY stand in that know for each lane with which settings its bytes come back.  With other settings a byte is
wrong, or DQSBUFM sees no burst.
"""

import cocotb
from cocotb.triggers import FallingEdge

from hw.memory.ddr3.training import Ddr3Training
from sim.cocotb_streams import report, report_point, reset, rng, settled
from sim.testbench import Bench
from tellme.golden.ddr3 import LanesTrainer
from tellme.spec.ddr3_training import LANES, READCLKSELS, SLIPS, LaneSettings, pack_overrides

BENCHES = [Bench(name="lanes2", build=Ddr3Training)]
POINTS = ("refused: a memory of which a lane never reads right",)
#: Settings that are tried; times that each of them is.
EVERY = [LaneSettings(step, slip) for step in range(READCLKSELS) for slip in range(SLIPS)]
TRIES = 3
#: Sweeps with drawn settings that work, and cycles that one may take.
DRAWS, LIMIT = 12, 12_000


class Memory:
    """Takes probes.  ``works``: settings of each lane that read right."""

    def __init__(self, dut, random):
        self.dut, self.random, self.works = dut, random, (set(), set())
        self.tries = 0
        cocotb.start_soon(self.run())

    def in_use(self, lane):
        settings = int(getattr(self.dut, f"phy__lanes__{lane}").value)
        return LaneSettings(settings % READCLKSELS, settings // READCLKSELS)

    async def run(self):
        dut, random, held, burst = self.dut, self.random, [0, 0], 0
        dut.probes__started.value = 1
        while True:
            dut.probes__ready.value = random.random() < 0.5
            await settled()
            taken = dut.probes__valid.value and dut.probes__ready.value
            write = bool(dut.probes__write.value)
            if dut.phy__clear.value:
                burst = 0
            await FallingEdge(dut.clk)
            dut.probes__ready.value = 0
            dut.phy__burst.value = burst
            if not taken:
                continue
            for _ in range(random.randrange(1, 5)):
                await FallingEdge(dut.clk)
            right = [self.in_use(lane) in self.works[lane] for lane in range(LANES)]
            # A setting that does not work: a byte of the lane is wrong, or no burst is seen, or both.
            how = [random.randrange(3) for _ in range(LANES)]
            flips = [1 << (16 * random.randrange(4) + 8 * lane + random.randrange(8)) if not right[lane] and how[lane] != 1 else 0
                     for lane in range(LANES)]
            for half in range(2):
                if write:
                    dut.probes__moves.value = 1
                    await settled()
                    held[half] = int(dut.probes__wdata.value)
                else:
                    dut.probes__rvalid.value = 1
                    dut.probes__rdata.value = held[half] ^ (flips[0] ^ flips[1] if half == 0 else 0)
                await FallingEdge(dut.clk)
                dut.probes__moves.value = dut.probes__rvalid.value = 0
            if not write:
                burst |= sum((right[lane] or how[lane] == 0) << lane for lane in range(LANES))
                dut.phy__burst.value = burst
                self.tries += 1


async def sweep(dut, *, again=True):
    """Train until a sweep has ended."""
    if again:
        dut.again.value = 1
        await FallingEdge(dut.clk)
        dut.again.value = 0
    for _ in range(LIMIT):
        await FallingEdge(dut.clk)
        if dut.probes__done.value:
            return
    raise AssertionError(f"no sweep has ended within {LIMIT} cycles")


async def bring_up(dut, *, started=0):
    for name in ("probes__started", "probes__ready", "probes__moves", "probes__rvalid", "phy__burst", "again", "override"):
        getattr(dut, name).value = 0
    dut.probes__started.value = started
    await reset(dut)
    memory = Memory(dut, rng("probes"))
    return memory, LanesTrainer(memory.works)


@cocotb.test()
async def the_models_word(dut):
    random, every = rng("works"), EVERY
    memory, model = await bring_up(dut)
    for draw in range(DRAWS):
        # Some settings at random, or windows; never none at all for a lane that is not overridden.
        works = tuple(set(random.sample(every, random.choice((1, 4, 10, 20, 30)))) for _ in range(LANES))
        overrides = tuple(random.choice((None, None, random.choice(every))) if draw else None for _ in range(LANES))
        if draw % 4 == 3:
            overrides = tuple(random.choice(every) for _ in range(LANES))
            works = (works[0], set())
        memory.works = model.works = works
        dut.override.value = pack_overrides(overrides)
        before = memory.tries
        await sweep(dut, again=draw > 0)
        model.sweep(overrides)
        assert model.done and memory.tries - before == TRIES * (len(every) + 1)
        for _ in range(3):
            assert int(dut.found.value) == model.found.pack() and dut.probes__done.value, (draw, works, overrides)
            await FallingEdge(dut.clk)
    report(cases=DRAWS)


@cocotb.test()
async def pauses_around_a_change(dut):
    """READCLKSEL and slip change in the middle of 32 cycles of PAUSE, and the bus is quiet in the 16 cycles ahead of PAUSE and
    while it is high.  The first PAUSE comes as soon as the bus was quiet for so long behind the start."""
    await bring_up(dut, started=1)
    dut.override.value = pack_overrides((None, None))
    seen = []
    for _ in range(2500):
        await settled()
        seen.append((bool(dut.phy__pause.value), int(dut.phy__lanes__0.value) | int(dut.phy__lanes__1.value) << 8,
                     bool(dut.probes__valid.value or dut.probes__moves.value or dut.probes__rvalid.value)))
        await FallingEdge(dut.clk)
    pauses, lanes, bus = (list(column) for column in zip(*seen, strict=True))
    rises = [at for at in range(1, len(seen)) if pauses[at] and not pauses[at - 1]]
    changes = [at for at in range(1, len(seen)) if lanes[at] != lanes[at - 1]]
    # The first setting that is tried is the one after reset.
    assert changes == [at + 16 for at in rises[1:] if at + 16 < len(seen)] and len(changes) > 3
    for at in rises[:-1]:
        assert all(pauses[at:at + 32]) and not pauses[at + 32] and not any(bus[max(0, at - 16):at + 32]), at
    assert rises[0] == 16
    report(cases=len(changes))


@cocotb.test()
async def a_lane_that_never_works(dut):
    """The word says so and the memory is not ready; another sweep begins, and ends well once the lane works."""
    memory, model = await bring_up(dut)
    dut.override.value = pack_overrides((None, None))
    memory.works = model.works = (set(), {EVERY[3], EVERY[20]})
    model.sweep()
    assert not model.done and model.found.failed
    for _ in range(LIMIT):
        await FallingEdge(dut.clk)
        assert not dut.probes__done.value
        if memory.tries == TRIES * (len(EVERY) + 1) and int(dut.found.value) == model.found.pack():
            break
    else:
        raise AssertionError("the word of a sweep that failed did not come")
    memory.works = model.works = ({EVERY[-1]}, {EVERY[20]})
    await sweep(dut, again=False)
    model.sweep()
    assert model.done and int(dut.found.value) == model.found.pack()
    report_point("refused: a memory of which a lane never reads right")
    report(cases=2)
