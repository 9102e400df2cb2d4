# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SDRAM controller: the hub's bursts onto one 16-bit SDR chip at two beats a fabric cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.lib.ports import MEMORY, MemoryBus, MemorySpec
from hw.memory.rows import RowRules, schedule
from hw.memory.sdr.bringup import MAX_BEATS, SdramBringUp, TrainingLayout
from hw.memory.sdr.dfi import CommandLayout, DfiSignature
from tellme.spec.sdram import SLOWEST, SdramTiming

__all__ = ["SdramController"]

#: Refreshes that are done together, so that rows are closed and opened again once for all of them.
REFRESH_GROUP = 16


class SdramController(wiring.Component):
    """Open-row controller; the chip's burst length is 2: a READ or WRITE each fabric cycle moves a 32-bit word.

    READ and WRITE go out in slot 0, commands about rows in slot 1, so that a row is closed and opened while another bank moves
    data. ``bus`` (:func:`hw.lib.ports.MemoryBus`) brings bursts that cross no row.  A burst follows the burst before without a
    lost cycle if its row is open.  The next burst is known while a burst is in work, and the next burst's row is opened early
    if it lies in another bank.  Address: row | bank | column, so that a sequential stream continues in the next bank and never
    waits for a row.

    Refreshes are done in groups of REFRESH_GROUP, or earlier when no port has a burst; ``refreshing`` is high meanwhile.

    WRITE follows a READ after the bus has turned around.  Timings come from ``timing`` at ``mhz`` (SDRAM clock), rounded
    up to whole fabric cycles; ACTIVE to ACTIVE and to PRECHARGE are counted over all banks together.

    :class:`~hw.memory.sdr.bringup.SdramBringUp` starts the chip and finds the read latency, in beats: odd ones go through a
    one-beat aligner.  ``training`` tells what it found; ``beats``, if not zero, overrides the latency, and each cycle of
    ``nudge`` moves the chip's clock a step.

    Latency of a read whose row is open: from the cycle in which ``bus.command`` is taken, a cycle to its READ, and
    ``(beats + 1) // 2 + 1`` more to ``bus.rdata``.

    Raises ValueError for a CAS latency that the clock does not allow, for a tRCD above three fabric cycles, and for a ``spec``
    whose words are not of 32 bits, or whose bursts would cross rows.  Address bits beyond the chip's rows are not looked at.
    """

    def __init__(self, *, ports: int, spec: MemorySpec = MEMORY, mhz: float = 100.0, cas_latency: int = 3, column_bits: int = 9,
                 phases: int = 1, timing: SdramTiming = SLOWEST, power_up_us: float | None = None):
        if cas_latency not in (2, 3) or (cas_latency == 2 and mhz > timing.cl2_mhz):
            raise ValueError(f"CAS latency {cas_latency} at {mhz} MHz: {timing.name} takes 2 up to {timing.cl2_mhz} MHz, "
                             "and 3")
        if spec.data_bits != 32 or spec.burst > 1 << column_bits - 1:
            raise ValueError(f"an SDR SDRAM of 16 bits with {column_bits} column bits has words of 32 bits, bursts of at most "
                             f"{1 << column_bits - 1} of them; not {spec}")
        self._ports, self._spec = ports, spec
        self._mhz = mhz
        self._cas = cas_latency
        self._columns = column_bits
        self._phases = phases
        self._timing = timing
        self._power_up_us = timing.power_up_us if power_up_us is None else power_up_us
        super().__init__({
            "bus": In(MemoryBus(spec, ports)), "dfi": Out(DfiSignature()), "ready": Out(1), "refreshing": Out(1),
            "training": Out(TrainingLayout), "beats": In(5), "nudge": In(1),
        })

    def cycles(self, ns: float, late: int = 0) -> int:
        """Fabric cycles between two commands at least ``ns`` apart, the first one ``late`` slots behind the second's."""
        return max(1, -(-(self._timing.clocks(ns, self._mhz) + late) // 2))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        t = self._timing
        # A word is two columns; addresses below count words.
        col_bits = self._columns - 1
        trp, tras, trc, trfc = self.cycles(t.trp), self.cycles(t.tras), self.cycles(t.trc), self.cycles(t.trfc)
        trcd = self.cycles(t.trcd, late=1)
        # A word's second beat comes a clock after its WRITE, as slot 1 does after slot 0.
        twr = self.cycles(t.twr)
        if trcd > 3:
            raise ValueError(f"tRCD of {t.trcd} ns at {self._mhz} MHz is {trcd} fabric cycles; 3 are supported")
        # A WRITE's first beat must not meet a READ's last one (CAS latency + 1 after it), nor touch it.
        turn = -(-(self._cas + 3) // 2)
        # A bit more often than the chip asks for: 192 us of 64 ms, as a row may wait for a group's other refreshes, up to 117 us.
        refresh_every = int(t.refresh_us * self._mhz / 2 * 0.997)

        m.submodules.bringup = bringup = SdramBringUp(
            mhz=self._mhz, cas_latency=self._cas, timing=t, power_up_us=self._power_up_us, phases=self._phases)
        m.d.comb += [self.ready.eq(bringup.ready), self.training.eq(bringup.training), bringup.nudge.eq(self.nudge)]

        plan = schedule(m, RowRules(
            bank_bits=2, row_bits=13, place_bits=col_bits, column_zeros=1, trp=trp, trfc=trfc, tras=tras, trc=trc, trcd=trcd,
            turn=turn, twr=twr, refresh_every=refresh_every, group=REFRESH_GROUP,
        ), bus=self.bus, spec=self._spec, ports=self._ports, ready=self.ready, layout=CommandLayout)
        bus, row_slot, column_slot, current, issue_read = self.bus, plan.row_slot, plan.column_slot, plan.current, plan.issue_read

        # ------------------------------------------------------------------ onto the pins' registers
        dfi = self.dfi
        oe = Signal()
        for n, own, start in ((0, column_slot, bringup.column), (1, row_slot, bringup.row)):
            # The part that does not have its turn gives zeros.
            both = Signal(CommandLayout, name=f"slot_{n}")
            m.d.comb += both.as_value().eq(own.as_value() | start.as_value())
            m.d.sync += [getattr(dfi, f"{pin}{n}").eq(getattr(both, pin)) for pin in ("cs", "ras", "cas", "we", "ba", "a")]
            m.d.sync += getattr(dfi, f"dqm{n}").eq(0)
        m.d.sync += [dfi.wdata.eq(Mux(self.ready, bus.wdata.word, bringup.wdata)), dfi.wdata_oe.eq(oe | bringup.oe),
                     dfi.cke.eq(1)]
        m.d.comb += [oe.eq(plan.issue_write), dfi.phase_step.eq(bringup.phase_step), bringup.rdata.eq(dfi.rdata)]

        # ------------------------------------------------------------------ data
        # A word is whole (beats + 1) // 2 cycles after its READ was issued; a register in front of the hub costs one.
        longest, none = (MAX_BEATS + 1) // 2, (1 << len(bus.rdata.port)) - 1
        flight = Array(Signal(len(bus.rdata.port), name=f"flight{i}", init=none) for i in range(longest + 1))
        m.d.sync += flight[0].eq(Mux(issue_read, current, none))
        for i in range(longest):
            m.d.sync += flight[i + 1].eq(flight[i])
        latency = Signal(5)
        # No latency is found yet, or the host gave one that no chip has: nothing arrives.
        at = Array([Const(none), *flight, *([Const(none)] * (16 - longest - 1))])
        m.d.sync += latency.eq(Mux(self.beats != 0, self.beats, bringup.training.beats))
        late, rdata, arrived = Signal(16), Signal(32), Signal(len(bus.rdata.port), init=none)
        m.d.sync += [late.eq(dfi.rdata[16:]), rdata.eq(Mux(latency[0], Cat(late, dfi.rdata[:16]), dfi.rdata)),
                     arrived.eq(at[(latency + 1) >> 1])]
        m.d.comb += [bus.rdata.word.eq(rdata), bus.rdata.port.eq(arrived), bus.work.active.eq(plan.active),
                     bus.work.port.eq(current), bus.work.moves.eq(plan.moves), bus.work.held.eq(plan.hold),
                     self.refreshing.eq(self.ready & plan.hold)]
        return m
