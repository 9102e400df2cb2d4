# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The training of an SDR SDRAM, alone: the word of STATUS against what a walk around the circle of phases has to find.

A chip stands in that answers the pattern's READs, for each phase of its clock, with its own latency, or wrongly.  The chip's
rules are not looked at: the controller's bench has a chip that checks them.
"""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.memory.commands import Command
from hw.memory.sdr.bringup import MAX_BEATS, PATTERN, TRIALS, SdramBringUp, TrainingLayout
from hw.memory.sdr.dfi import CommandLayout
from sim.cocotb_streams import report, report_point, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.sdram import SLOWEST
from tests.hw.layouts import pack, unpack

POINTS = ("limit: all phases work", "limit: one phase works", "limit: the longest latency, and one beat more",
          "refused: a chip that answers in no phase", "refused: a phase that stops to work")
BENCHES = [Bench(name=f"phases{phases}", env={"PHASES": str(phases)}, build=lambda phases=phases: SdramBringUp(
    mhz=100, cas_latency=3, timing=SLOWEST, power_up_us=0.1, phases=phases)) for phases in (5,)]
PHASES = int(os.environ.get("PHASES", "5"))
#: Sweeps of drawn phases, and cycles that one may take.
DRAWS, LIMIT = 6, 4_000
READ = pack(CommandLayout, cs=1, ras=Command.READ & 1, cas=Command.READ >> 1 & 1, we=Command.READ >> 2)
#: How a phase answers wrongly: with none of the words, with another one in their midst, with a word too few, each time at another
#: time, or too late.
WRONG = ("nothing", "broken", "short", "jitter", "late")


class Chip:
    """Counts the steps of its clock.  ``answers``: of each phase the latency in beats, or how the answer is wrong.  ``waits``: of
    each phase that is left behind its READs the cycles from the last of them to the step."""

    def __init__(self, dut, random):
        self.dut, self.random, self.answers = dut, random, [8] * PHASES
        self.phase = self.steps = self.reads = 0
        self.waits = []
        self.task = cocotb.start_soon(self.run())

    def answer(self, trial):
        """The beats of an answer, the first one in the low half of the READ's cycle."""
        how = self.answers[self.phase]
        latency = {"jitter": 7 + trial % 2, "late": MAX_BEATS + 1}.get(how, 8) if isinstance(how, str) else how
        broken = [*PATTERN[:3], PATTERN[3] ^ 0x10, *PATTERN[4:]]
        return [0xFFFF] * latency + list({"nothing": (), "broken": broken, "short": PATTERN[:-1]}.get(how, PATTERN))

    async def run(self):
        dut, beats, before, stepped, since = self.dut, [], 0, 0, None
        while True:
            dut.rdata.value = sum(beat << 16 * half for half, beat in enumerate((beats + [0xFFFF, 0xFFFF])[:2]))
            await settled()
            reads = int(dut.column.value) & READ == READ and not int(dut.column.value) & pack(CommandLayout, ras=1, we=1)
            # The first of four READs, one a cycle.
            if reads and not before:
                beats = self.answer(self.reads)
                dut.rdata.value = beats[0] | (beats + [0xFFFF])[1] << 16
                self.reads += 1
            before = (before + 1) % 4 if reads else 0
            beats = beats[2:]
            since = 0 if reads else None if since is None else since + 1
            if dut.phase_step.value and since is not None:
                self.waits.append(since)
                since = None
            self.steps += stepped and not dut.phase_step.value
            self.phase = self.steps % PHASES
            stepped = int(dut.phase_step.value)
            await FallingEdge(dut.clk)


def choice(answers, first):
    """(phase, window) that a sweep from phase ``first`` has to choose: of the longest run on the circle, which is walked twice
    unless all phases work, the middle, the earlier one of two; None where no phase works."""
    walk = [(first + i) % PHASES for i in range(2 * PHASES)]
    runs = []
    for begin in range(len(walk)):
        latency = answers[walk[begin]]
        n = 0
        while not isinstance(latency, str) and n < PHASES and begin + n < len(walk) and answers[walk[begin + n]] == latency:
            n += 1
        runs.append((n, begin))
    longest, begin = max(runs, key=lambda run: (run[0], -run[1]))
    return (walk[begin + longest - 1 - longest // 2], longest) if longest else None


async def bring_up(dut, answers):
    dut.nudge.value = 0
    dut.rdata.value = 0xFFFFFFFF
    await reset(dut)
    chip = Chip(dut, rng("chip"))
    chip.answers = answers
    return chip


async def ready(dut):
    for _ in range(LIMIT):
        assert bool(found(dut)["beats"]) == bool(dut.ready.value), "there is a latency from the first ready cycle on"
        if dut.ready.value:
            return
        await FallingEdge(dut.clk)
    raise AssertionError(f"not ready within {LIMIT} cycles")


def found(dut):
    return unpack(TrainingLayout, int(dut.training.value))


def word(answers, first):
    phase, window = choice(answers, first)
    return {"beats": answers[phase], "phase": phase, "window": window, "failed": 0}


@cocotb.test()
async def the_middle_of_the_longest_run(dut):
    """Drawn answers; all phases alike, one phase alone, and the longest latency there may be beside one that is too long."""
    random = rng("answers")
    cases = [[random.choice((8, 8, 8, 9, random.choice(WRONG))) for _ in range(PHASES)] for _ in range(DRAWS)]
    cases = [case if any(not isinstance(a, str) for a in case) else [11, *case[1:]] for case in cases]
    cases += [[13] * PHASES, ["nothing"] * (PHASES - 1) + [6], [MAX_BEATS, MAX_BEATS, MAX_BEATS + 1, "late", MAX_BEATS][:PHASES]]
    for answers in cases:
        chip = await bring_up(dut, ["late" if a == MAX_BEATS + 1 else a for a in answers])
        await ready(dut)
        assert found(dut) == word(chip.answers, 0), (answers, found(dut), word(chip.answers, 0))
        assert chip.phase == found(dut)["phase"]
        swept = PHASES if found(dut)["window"] == PHASES else 2 * PHASES
        assert chip.reads == TRIALS * (swept + 1), (answers, chip.reads)
        # Each phase takes the same time.  The choice behind the last one takes three decisions more, of two cycles each; if the
        # phase is not the chosen one.
        assert len(chip.waits) in (swept - 1, swept) and len(set(chip.waits[:swept - 1])) == 1
        assert chip.waits[swept - 1:] in ([], [chip.waits[0] + 6]), chip.waits
        chip.task.cancel()
    for point in POINTS[:3]:
        report_point(point)
    report(cases=len(cases))


@cocotb.test()
async def the_pattern_tries_each_line(dut):
    """Both levels and both directions of change on each data line, no two beats alike; and all lines change at the same time,
    from one beat of a word to the other."""
    assert len(PATTERN) == len(set(PATTERN)) == 8
    for line in range(16):
        levels = [beat >> line & 1 for beat in PATTERN]
        assert {(0, 1), (1, 0)} <= set(zip(levels, levels[1:], strict=False)), line
    assert all(first ^ second == 0xFFFF for first, second in zip(PATTERN[::2], PATTERN[1::2], strict=True))


@cocotb.test()
async def a_sweep_that_finds_nothing(dut):
    """It is told, and another sweep begins: from the next phase on, until one works."""
    chip = await bring_up(dut, list(WRONG[:PHASES]))
    while not found(dut)["failed"]:
        assert not dut.ready.value
        await FallingEdge(dut.clk)
    assert chip.reads == TRIALS * 2 * PHASES
    chip.answers[2] = 10
    await ready(dut)
    assert found(dut) == {"beats": 10, "phase": 2, "window": 1, "failed": 0} and chip.phase == 2
    assert chip.reads == TRIALS * (2 * 2 * PHASES + 1), "each sweep walks the circle twice"
    report_point("refused: a chip that answers in no phase")


@cocotb.test()
async def a_choice_that_fails_its_trial(dut):
    """The phase that was chosen stops to work: the sweep begins again, and finds another one."""
    chip = await bring_up(dut, [8, 8, 8, "nothing", 9])
    phase, _ = choice(chip.answers, 0)
    while chip.reads < TRIALS * 2 * PHASES:
        await FallingEdge(dut.clk)
    chip.answers = ["nothing"] * PHASES
    while not found(dut)["failed"]:
        assert not dut.ready.value
        await FallingEdge(dut.clk)
    assert (chip.reads, chip.phase) == (TRIALS * (2 * PHASES + 1), phase)
    chip.answers[4] = 12
    await ready(dut)
    assert found(dut) == {"beats": 12, "phase": 4, "window": 1, "failed": 0}
    report_point("refused: a phase that stops to work")


@cocotb.test()
async def nudges(dut):
    """Each cycle of ``nudge`` is a step, whether one is under way or not; the memory stays ready."""
    chip = await bring_up(dut, [8] * PHASES)
    await ready(dut)
    at, steps, asked = found(dut)["phase"], chip.steps, 0
    for cycles, rest in ((1, 200), (3, 5), (2, 400)):
        dut.nudge.value = 1
        for _ in range(cycles):
            await FallingEdge(dut.clk)
        dut.nudge.value = 0
        asked += cycles
        for _ in range(rest):
            assert dut.ready.value
            await FallingEdge(dut.clk)
    assert chip.steps - steps == asked and chip.phase == found(dut)["phase"] == (at + asked) % PHASES
    assert found(dut)["beats"] == 8 and found(dut)["window"] == PHASES
    report(cases=asked)
