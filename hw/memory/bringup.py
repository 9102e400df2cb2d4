# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From power-up to a memory that can be trusted: the chip's start sequence, then clock phase and read latency by trial."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dfi import Command, CommandLayout, command
from tellme.spec.sdram import SdramTiming

__all__ = ["MAX_BEATS", "SdramBringUp", "TrainingLayout"]

#: Longest read latency that is looked for, beats from the READ's cycle (before the register of ``dfi``).
MAX_BEATS = 24
#: READs of the pattern in each phase.
TRIALS = 4
#: Eight beats with every data line at both levels and in both directions of change, no two alike.
PATTERN = (0x5AA5, 0xA55A, 0x33CC, 0xCC33, 0x0FF0, 0xF00F, 0x9669, 0x6996)

TrainingLayout = data.StructLayout({
    "beats": range(MAX_BEATS + 1),  # read latency found
    "phase": 6,                     # steps of the clock's phase from where the PLL starts
    "window": 6,                    # phases in a row that worked alike
    "failed": 1,                    # no phase worked in the last sweep
})


class SdramBringUp(wiring.Component):
    """Waits for power, then in each of ``phases`` steps of the chip's clock: PRECHARGE ALL, eight REFRESH, MODE REGISTER
    SET, a WRITE of eight known beats and four READs of them, whose first beat tells the read latency.

    The middle of the longest run of phases with one latency is taken (the phases form a circle, which is walked twice
    unless all work), the chip is started and tried once more there, and ``ready`` rises; a sweep without a good phase
    sets ``failed`` and begins anew.  So neither the board's wires nor the pads' registers have to be known.  ``phases``
    of 1 looks for the latency alone.

    ``row`` is for slot 1, ``column`` for slot 0 with ``wdata`` and ``oe``; ``rdata`` is the raw pair of beats of a cycle.
    When ready, each cycle of ``nudge`` asks for one step more, for a host that wants to see the window's edges.
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

    def elaborate(self, platform):
        m = Module()
        t, phases = self._timing, self._phases

        def cycles(ns: float) -> int:
            return max(1, -(-t.clocks(ns, self._mhz) // 2))

        power_up = int(self._power_up_us * self._mhz / 2) + 1
        wait = Signal(range(max(power_up, 64) + 1), init=power_up)
        refreshes, words, trials = Signal(4), Signal(2), Signal(range(TRIALS))
        done = Signal()

        def pause(n: int, then: str):
            """Stay n - 1 cycles in WAIT, so that ``then`` is n cycles after this one."""
            m.d.sync += wait.eq(n - 2)
            m.next = "WAIT-" + then
            if n == 1:
                m.next = then

        # ------------------------------------------------------------------ looking for the pattern
        pattern = Array(Const(p, 16) for p in (*PATTERN, 0))
        beats = Signal(32)
        m.d.sync += beats.eq(self.rdata)
        time, index, latency, spoiled = Signal(range(MAX_BEATS // 2 + 8)), Signal(4), Signal(5), Signal()
        listening = Signal()
        between, after = Signal(4), Signal(4)
        first, second = Signal(), Signal()
        m.d.comb += [
            first.eq(beats[:16] == pattern[index]), between.eq(Mux(first, index + 1, index)),
            second.eq((beats[16:] == pattern[between]) & (between != len(PATTERN))), after.eq(Mux(second, between + 1, between)),
        ]
        complete = index == len(PATTERN)
        with m.If(listening):
            m.d.sync += time.eq(time + 1)
            with m.If(~complete):
                m.d.sync += index.eq(after)
                # Once begun, beat follows beat.
                with m.If(((index != 0) & ~first) | ((between != 0) & (between != len(PATTERN)) & ~second)):
                    m.d.sync += spoiled.eq(1)
                # The register in front costs a cycle.
                with m.If((index == 0) & (first | second)):
                    m.d.sync += latency.eq(((time - 1) << 1) | ~first)

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

        with m.FSM():
            with m.State("POWER-UP"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "CLOSE"
            for name in ("REFRESH", "MODE", "OPEN", "WRITE", "READ", "CLOSE", "JUDGE", "STEPPED"):
                with m.State("WAIT-" + name):
                    m.d.sync += wait.eq(wait - 1)
                    with m.If(wait == 0):
                        m.next = name
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
                    pause(4, "READ")
            with m.State("READ"):
                m.d.comb += command(self.column, Command.READ, a=words << 1)
                m.d.comb += listening.eq(words != 0)
                with m.If(words == 0):
                    m.d.sync += [time.eq(1), index.eq(0), spoiled.eq(0)]
                m.d.sync += words.eq(words + 1)
                with m.If(words == 3):
                    m.next = "LISTEN"
            with m.State("LISTEN"):
                m.d.comb += listening.eq(1)
                with m.If(time == MAX_BEATS // 2 + 6):
                    m.d.sync += [trial_latency.eq(latency), trials.eq(trials - 1)]
                    with m.If(~complete | spoiled | (latency > MAX_BEATS)
                              | ((trials != TRIALS - 1) & (latency != trial_latency))):
                        m.d.sync += good.eq(0)
                    m.next = "READ"
                    with m.If(trials == 0):
                        m.next = "SHUT"
            with m.State("SHUT"):
                m.d.comb += command(self.row, Command.PRECHARGE, a=Command.ALL_BANKS)
                pause(max(2, cycles(t.trp)), "JUDGE")
            with m.State("JUDGE"):
                follows = (run != 0) & (run_latency == trial_latency)
                m.d.sync += [run_latency.eq(trial_latency), run.eq(Mux(good, Mux(follows, run + 1, 1), 0)),
                             walked.eq(walked + 1)]
                m.next = "COMPARE"
                with m.If(final):
                    # The chosen phase, tried once more; if it fails, all begins anew.
                    m.d.sync += [final.eq(0), walked.eq(0), run.eq(0), best.eq(0), training.failed.eq(1)]
                    m.next = "STEP"
                    with m.If(good):
                        m.d.sync += [done.eq(1), training.beats.eq(trial_latency), training.failed.eq(0), best.eq(best)]
                        m.next = "DONE"
            with m.State("COMPARE"):
                m.next = "STEP"
                with m.If(run > best):
                    m.d.sync += [best.eq(run), best_at.eq(at)]
                    with m.If(run == phases):
                        m.next = "CHOOSE"
                with m.If(walked == 2 * phases):
                    m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.sync += target.eq(best_at + phases - (best >> 1))
                m.next = "WRAP"
                with m.If(best == 0):
                    m.d.sync += [training.failed.eq(1), walked.eq(0)]
                    m.next = "STEP"
            with m.State("WRAP"):
                m.d.sync += final.eq(1)
                with m.If(target >= phases):
                    m.d.sync += target.eq(target - phases)
                m.next = "SEEK"
            with m.State("SEEK"):
                m.next = "STEP"
                with m.If(at == target):
                    m.next = "CLOSE"
            with m.State("STEP"):
                m.d.comb += step.eq(1)
                m.d.sync += at.eq(Mux(at == phases - 1, 0, at + 1))
                pause(8, "STEPPED")
            with m.State("STEPPED"):
                pause(16, "CLOSE")
                with m.If(final):
                    m.next = "SEEK"
                with m.If(done):
                    m.next = "DONE"
            with m.State("DONE"):
                with m.If(owed != 0):
                    m.d.comb += step_from_done.eq(1)
                    m.next = "STEP"
        return m
