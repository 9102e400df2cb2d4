# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From power-up to a working memory: the chip's start sequence, then clock phase and read latency by trial."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.commands import Command, command
from hw.memory.sdr.dfi import CommandLayout
from tellme.spec.sdram import SdramTiming

__all__ = ["MAX_BEATS", "SdramBringUp", "TrainingLayout"]

#: Longest read latency that is looked for, beats from the READ's cycle (before the register of ``dfi``).
MAX_BEATS = 24
#: READs of the pattern in each phase.
TRIALS = 4
#: Eight beats with every data line at both levels and in both directions of change, no two alike.
PATTERN = (0x5AA5, 0xA55A, 0x33CC, 0xCC33, 0x0FF0, 0xF00F, 0x9669, 0x6996)

#: What the start-up training found, and what the host reads of it.
TrainingLayout = data.StructLayout({
    "beats": range(MAX_BEATS + 1),  # read latency found
    "phase": 6,                     # steps of the clock's phase from where the PLL starts
    "window": 6,                    # phases in a row that worked alike
    "failed": 1,                    # no phase worked in the last sweep
})


class SdramBringUp(wiring.Component):
    """Starts the chip and finds the phase of the chip's clock and the read latency.

    After the power-up pause the unit tries each of ``phases`` steps of the chip's clock: PRECHARGE ALL, eight REFRESH, MODE
    REGISTER SET, a WRITE of eight known beats, and four READs of these beats.  The time of the first beat tells the read latency.

    Phases form a circle.  The circle is walked twice, unless all phases work.  The unit takes the middle of the longest run of
    phases with one latency, starts the chip with this phase once more, tries it, and raises ``ready``.  A sweep without a good
    phase sets ``failed`` and begins again.  So the delays of the board's wires and of the pads' registers need not be known.
    With ``phases`` = 1 the unit looks for the latency only.

    ``row`` is for slot 1, ``column`` for slot 0 with ``wdata`` and ``oe``.  ``rdata`` is the raw pair of beats of a cycle.  When
    ready, each cycle of ``nudge`` asks for one more step of the phase, for a host that wants to see the window's edges.
    """

    def __init__(self, *, mhz: float, cas_latency: int, timing: SdramTiming, power_up_us: float, phases: int):
        if not 1 <= phases <= 63:
            raise ValueError(f"phases is {phases}; 1 to 63 are supported")
        self._mhz, self._cas, self._timing = mhz, cas_latency, timing
        self._power_up_us, self._phases = power_up_us, phases
        super().__init__({
            "row": Out(CommandLayout), "column": Out(CommandLayout), "wdata": Out(32), "oe": Out(1), "rdata": In(32),
            "phase_step": Out(1), "nudge": In(1), "ready": Out(1), "training": Out(TrainingLayout),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        t, phases = self._timing, self._phases

        def cycles(ns: float) -> int:
            return max(1, -(-t.clocks(ns, self._mhz) // 2))

        power_up = int(self._power_up_us * self._mhz / 2) + 1
        # Counts down to -1; the states go on from there.
        wait = Signal(range(-1, max(power_up, 64) + 1), init=power_up)
        refreshes, words, trials = Signal(4), Signal(2), Signal(range(TRIALS))
        done = Signal()

        def pause(n: int, then: str) -> None:
            """``then`` is n cycles after this one."""
            m.d.sync += wait.eq(n - 2)
            m.next = then

        # ------------------------------------------------------------------ looking for the pattern
        # Which beats of the pattern a cycle's two are; a pair of beats comes in two alignments.
        beats, one, two = Signal(32), Signal(len(PATTERN)), Signal(len(PATTERN))
        m.d.sync += [beats.eq(self.rdata), one.eq(Cat(beats[:16] == p for p in PATTERN)),
                     two.eq(Cat(beats[16:] == p for p in PATTERN))]
        time, index, latency, spoiled = Signal(range(MAX_BEATS // 2 + 10)), Signal(4), Signal(5), Signal()
        # A cycle after the states that listen.
        listens, listening = Signal(), Signal()
        m.d.sync += listening.eq(listens)
        first, second = Signal(), Signal()
        complete = index[3]
        m.d.comb += [first.eq(one.bit_select(index[:3], 1)),
                     second.eq(Mux(first, Cat(two[1:], 0), two).bit_select(index[:3], 1))]
        with m.If(listening):
            m.d.sync += time.eq(time + 1)
            with m.If(~complete):
                m.d.sync += index.eq(index + first + second)
                # Once begun, beat follows beat.
                with m.If(Mux(first, ~second & (index != len(PATTERN) - 1), index != 0)):
                    m.d.sync += spoiled.eq(1)

        # The registers in front cost two cycles.  It stays as it is from the pattern's first beat on.
        with m.If(index == 0):
            m.d.sync += latency.eq(((time - 2) << 1) | ~first)

        # ------------------------------------------------------------------ phases
        at = Signal(range(phases + 1))
        walked, run, run_latency = Signal(range(2 * phases + 1)), Signal(range(phases + 1)), Signal(5)
        best, best_at = Signal(range(phases + 1)), Signal(range(phases + 1))
        trial_latency, good = Signal(5), Signal()
        target = Signal(range(2 * phases + 1))
        final = Signal()
        training = self.training
        m.d.comb += [self.ready.eq(done), training.phase.eq(at), training.window.eq(best)]
        step_from_done = Signal()
        owed = Signal(8)
        with m.If(self.nudge & ~step_from_done):
            m.d.sync += owed.eq(owed + 1)
        with m.Elif(step_from_done & ~self.nudge):
            m.d.sync += owed.eq(owed - 1)

        # The PLL moves with the falling edge, so that it must not see any but a register's.
        step = Signal()
        m.d.sync += self.phase_step.eq(step)

        # What decides is a cycle late: states that change what it comes from are followed by one of waiting.
        bad, heard, same, better, best_of_all, twice, none, beyond, at_target, at_last, nudged = (
            Signal(name=name) for name in ("bad", "heard", "same", "better", "best_of_all", "twice", "none", "beyond",
                                           "at_target", "at_last", "nudged"))
        m.d.sync += [
            bad.eq(~complete | spoiled | (latency > MAX_BEATS) | ((trials != TRIALS - 1) & (latency != trial_latency))),
            heard.eq(time == MAX_BEATS // 2 + 7), same.eq((run != 0) & (run_latency == trial_latency)), better.eq(run > best),
            best_of_all.eq(run == phases), twice.eq(walked == 2 * phases), none.eq(best == 0), beyond.eq(target >= phases),
            at_target.eq(at == target), at_last.eq(at == phases - 1), nudged.eq(owed != 0),
        ]

        with m.If(wait >= 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else(), m.FSM():
            with m.State("CLOSE"):
                m.d.comb += command(self.row, Command.PRECHARGE, a=Command.ALL_BANKS)
                m.d.sync += [refreshes.eq(7), trials.eq(TRIALS - 1), good.eq(1)]
                pause(cycles(t.trp), "REFRESH")
            with m.State("REFRESH"):
                m.d.comb += command(self.row, Command.REFRESH)
                m.d.sync += refreshes.eq(refreshes - 1)
                pause(cycles(t.trfc), "REFRESH")
                with m.If(refreshes == 0):
                    pause(cycles(t.trfc), "MODE")
            with m.State("MODE"):
                # Burst length 2, sequential.
                m.d.comb += command(self.row, Command.MODE, a=self._cas << 4 | 1)
                pause(max(2, -(-t.tmrd // 2)), "OPEN")
            with m.State("OPEN"):
                m.d.comb += command(self.row, Command.ACTIVE)
                m.d.sync += words.eq(0)
                # From slot 1 to slot 0 is a clock less.
                pause(-(-(t.clocks(t.trcd, self._mhz) + 1) // 2), "WRITE")
            with m.State("WRITE"):
                m.d.comb += command(self.column, Command.WRITE, a=words << 1)
                m.d.comb += [self.oe.eq(1), self.wdata.eq(Array(PATTERN[2 * i] | PATTERN[2 * i + 1] << 16
                                                                for i in range(4))[words])]
                m.d.sync += words.eq(words + 1)
                with m.If(words == 3):
                    # The pads give back the written beats as well; wait until these are past.
                    pause(8, "READ")
            with m.State("READ"):
                m.d.comb += command(self.column, Command.READ, a=words << 1)
                m.d.comb += listens.eq(words != 0)
                with m.If(words == 0):
                    m.d.sync += [time.eq(2), index.eq(0), spoiled.eq(0)]
                m.d.sync += words.eq(words + 1)
                with m.If(words == 3):
                    m.next = "LISTEN"
            with m.State("LISTEN"):
                m.d.comb += listens.eq(1)
                with m.If(heard):
                    m.d.sync += [trial_latency.eq(latency), trials.eq(trials - 1)]
                    with m.If(bad):
                        m.d.sync += good.eq(0)
                    m.next = "READ"
                    with m.If(trials == 0):
                        m.next = "SHUT"
            with m.State("SHUT"):
                m.d.comb += command(self.row, Command.PRECHARGE, a=Command.ALL_BANKS)
                pause(max(2, cycles(t.trp)), "JUDGE")
            with m.State("JUDGE"):
                m.d.sync += [run_latency.eq(trial_latency), run.eq(Mux(good, Mux(same, run + 1, 1), 0)),
                             walked.eq(walked + 1)]
                pause(2, "COMPARE")
                with m.If(final):
                    # The chosen phase is tried once more; if it fails, the sweep begins again.
                    m.d.sync += [final.eq(0), walked.eq(0), run.eq(0), best.eq(0), training.failed.eq(1)]
                    m.next = "STEP"
                    with m.If(good):
                        m.d.sync += [done.eq(1), training.beats.eq(trial_latency), training.failed.eq(0), best.eq(best)]
                        m.next = "DONE"
            with m.State("COMPARE"):
                m.next = "STEP"
                with m.If(better):
                    m.d.sync += [best.eq(run), best_at.eq(at)]
                    with m.If(best_of_all):
                        pause(2, "CHOOSE")
                with m.If(twice):
                    pause(2, "CHOOSE")
            with m.State("CHOOSE"):
                m.d.sync += target.eq(best_at + phases - (best >> 1))
                pause(2, "WRAP")
                with m.If(none):
                    m.d.sync += [training.failed.eq(1), walked.eq(0)]
                    m.next = "STEP"
            with m.State("WRAP"):
                m.d.sync += final.eq(1)
                with m.If(beyond):
                    m.d.sync += target.eq(target - phases)
                pause(2, "SEEK")
            with m.State("SEEK"):
                m.next = "STEP"
                with m.If(at_target):
                    m.next = "CLOSE"
            with m.State("STEP"):
                m.d.comb += step.eq(1)
                m.d.sync += at.eq(Mux(at_last, 0, at + 1))
                pause(8, "STEPPED")
            with m.State("STEPPED"):
                pause(16, "CLOSE")
                with m.If(final):
                    m.next = "SEEK"
                with m.If(done):
                    m.next = "DONE"
            with m.State("DONE"):
                with m.If(nudged):
                    m.d.comb += step_from_done.eq(1)
                    m.next = "STEP"
        return m
