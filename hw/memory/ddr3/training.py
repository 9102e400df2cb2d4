# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Read levelling of a DDR3 memory: READCLKSEL and bit slip of each byte lane, by trial."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.ddr3.dfi import TrainingSignature
from hw.memory.ddr3.phy import LaneSettings, PhyControlSignature
from tellme.spec.ddr3_training import LANES, OVERRIDE_FIELDS, PATTERNS, READCLKSELS, SLIPS, TRAINING_FIELDS

__all__ = ["Ddr3Training", "OverrideLayout", "TrainingLayout"]

#: What the training found, as STATUS has it.
TrainingLayout = data.StructLayout(dict(TRAINING_FIELDS))
#: The host's settings.
OverrideLayout = data.StructLayout(dict(OVERRIDE_FIELDS))
#: Cycles that the bus is quiet ahead of a change of READCLKSEL, and that PAUSE is high before and behind the change.
QUIET = 16


class Ddr3Training(wiring.Component):
    """Finds the settings of both byte lanes, and raises ``probes.done``.

    For each of 4 slips and 8 READCLKSEL the unit writes and reads back a burst with each of the PATTERNS.  The setting works for
    a lane if all of the lane's bytes came back, and DQSBUFM saw each burst (``phy.burst``).  Both lanes are tried at the same
    time, and judged alone.  A lane's window is the longest run of READCLKSEL that work with one slip; of equal runs the first one
    counts.  The lane takes the window's slip and READCLKSEL ``start + window // 2``, its middle.

    Then the chosen settings are tried once more.  If a lane has no window, or the trial fails, the unit sets ``found.failed`` and
    begins anew; ``found`` has the settings and windows of the last sweep.  READCLKSEL changes only while PAUSE is high, and PAUSE
    falls after each change.

    ``override`` are the host's settings.  A lane with ``use`` takes them in place of what was found, and is not asked to pass the
    trial, so that ``done`` comes in any case when both lanes are overridden.  They are looked at when a sweep ends.  A cycle of
    ``again`` lowers ``done`` and begins a sweep; it may come only while nobody uses the memory.

    A sweep has 192 probes, half of them READs, and the trial 6 more.
    """

    def __init__(self) -> None:
        super().__init__({
            "probes": Out(TrainingSignature()), "phy": Out(PhyControlSignature()),
            "found": Out(TrainingLayout), "override": In(OverrideLayout), "again": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        probes, phy, found = self.probes, self.phy, self.found
        last_pattern = len(PATTERNS) - 1

        # ------------------------------------------------------------------ what is tried
        slip, readclksel, pattern = Signal(range(SLIPS)), Signal(range(READCLKSELS)), Signal(range(len(PATTERNS)))
        second, final = Signal(), Signal()
        # Two words a pattern; the second one when the first has moved.
        words = Array(Const(sum(p[4 * half + n] << 16 * n for n in range(4)), 64) for p in PATTERNS for half in range(2))
        word = Signal(64)
        m.d.comb += [word.eq(words[Cat(second, pattern)]), probes.wdata.eq(word)]
        with m.If(probes.moves | probes.rvalid):
            m.d.sync += second.eq(~second)

        # ------------------------------------------------------------------ what works: a bit a lane
        good = Signal(LANES)
        arrived, wanted, listening = Signal(64), Signal(64), Signal()
        m.d.sync += [arrived.eq(probes.rdata), wanted.eq(word), listening.eq(probes.rvalid)]
        wrong = Signal(LANES)
        m.d.comb += [wrong[lane].eq(Cat((arrived ^ wanted)[16 * n + 8 * lane:16 * n + 8 * lane + 8] for n in range(4)).any())
                     for lane in range(LANES)]
        with m.If(listening):
            m.d.sync += good.eq(good & ~wrong)

        # ------------------------------------------------------------------ windows
        window_bits = range(READCLKSELS + 1)
        runs = [Signal(window_bits, name=f"run{lane}") for lane in range(LANES)]
        bests = [Signal(window_bits, name=f"best{lane}") for lane in range(LANES)]
        starts = [Signal(range(READCLKSELS), name=f"start{lane}") for lane in range(LANES)]
        slips = [Signal(range(SLIPS), name=f"slip{lane}") for lane in range(LANES)]
        none, use = Signal(LANES), Signal(LANES)
        for lane in range(LANES):
            m.d.comb += [none[lane].eq(bests[lane] == 0), use[lane].eq(getattr(self.override, f"use{lane}")),
                         getattr(found, f"readclksel{lane}").eq(phy.lanes[lane].readclksel),
                         getattr(found, f"slip{lane}").eq(phy.lanes[lane].slip),
                         getattr(found, f"start{lane}").eq(starts[lane]), getattr(found, f"window{lane}").eq(bests[lane])]

        def settings(lane: int) -> list:
            """A lane's settings of the final trial."""
            middle = (starts[lane] + (bests[lane] >> 1))[:len(readclksel)]
            return [Mux(use[lane], getattr(self.override, f"readclksel{lane}"), middle),
                    Mux(use[lane], getattr(self.override, f"slip{lane}"), slips[lane])]

        lanes = [Signal(LaneSettings, name=f"lane{lane}") for lane in range(LANES)]
        m.d.comb += [phy.lanes[lane].eq(lanes[lane]) for lane in range(LANES)]

        # ------------------------------------------------------------------ the sweep
        wait = Signal(range(QUIET))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else(), m.FSM():
            with m.State("START"):
                m.d.sync += [final.eq(0), slip.eq(0), readclksel.eq(0), *(best.eq(0) for best in bests),
                             *(run.eq(0) for run in runs), wait.eq(QUIET - 1)]
                with m.If(probes.started):
                    m.next = "PAUSE"
            with m.State("PAUSE"):
                m.d.sync += [phy.pause.eq(1), wait.eq(QUIET - 1)]
                m.next = "SET"
            with m.State("SET"):
                for lane in range(LANES):
                    m.d.sync += [lanes[lane].readclksel.eq(readclksel), lanes[lane].slip.eq(slip)]
                    with m.If(final):
                        m.d.sync += Cat(lanes[lane].readclksel, lanes[lane].slip).eq(Cat(*settings(lane)))
                m.d.sync += wait.eq(QUIET - 1)
                m.next = "RESUME"
            with m.State("RESUME"):
                m.d.sync += [phy.pause.eq(0), pattern.eq(0), second.eq(0), good.eq(-1), wait.eq(QUIET - 1)]
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [probes.valid.eq(1), probes.write.eq(1)]
                with m.If(probes.ready):
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                # The two words have moved when ``second`` is low again.
                with m.If(probes.moves & second):
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += phy.clear.eq(1)
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += probes.valid.eq(1)
                with m.If(probes.ready):
                    m.next = "READING"
            with m.State("READING"):
                with m.If(probes.rvalid & second):
                    # The comparison is a cycle behind, and a late burst detection some cycles.
                    m.d.sync += wait.eq(QUIET - 1)
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.sync += [good.eq(good & phy.burst), pattern.eq(pattern + 1)]
                m.next = "WRITE"
                with m.If(pattern == last_pattern):
                    m.next = "COUNT"
                    with m.If(final):
                        m.next = "DECIDE"
            with m.State("COUNT"):
                for lane in range(LANES):
                    m.d.sync += runs[lane].eq(Mux(good[lane], runs[lane] + 1, 0))
                m.next = "COMPARE"
            with m.State("COMPARE"):
                for lane in range(LANES):
                    with m.If(runs[lane] > bests[lane]):
                        m.d.sync += [bests[lane].eq(runs[lane]), starts[lane].eq(readclksel - runs[lane] + 1),
                                     slips[lane].eq(slip)]
                m.d.sync += readclksel.eq(readclksel + 1)
                m.next = "PAUSE"
                with m.If(readclksel == READCLKSELS - 1):
                    m.d.sync += [slip.eq(slip + 1), *(run.eq(0) for run in runs)]
                    with m.If(slip == SLIPS - 1):
                        m.d.sync += final.eq(1)
            with m.State("DECIDE"):
                m.d.sync += found.overridden.eq(use.any())
                with m.If(((good & ~none) | use).all()):
                    m.d.sync += [found.failed.eq((~good | none).any()), probes.done.eq(1)]
                    m.next = "DONE"
                with m.Else():
                    m.d.sync += found.failed.eq(1)
                    m.next = "START"
            with m.State("DONE"):
                with m.If(self.again):
                    m.d.sync += [probes.done.eq(0), wait.eq(QUIET - 1)]
                    m.next = "START"
        return m
