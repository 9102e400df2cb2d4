# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""DDR3 controller: the hub's bursts onto one 16-bit DDR3 chip at four beats a fabric cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.ports import MemoryBus, MemorySpec
from hw.memory.ddr3.dfi import COLUMN_SLOT, ROW_SLOT, Ddr3CommandLayout, Ddr3DfiSignature, TrainingSignature
from hw.memory.ddr3.start import Ddr3Start
from hw.memory.rows import RowRules, schedule
from tellme.spec.ddr3 import POSTPONED, Ddr3Timing

__all__ = ["Ddr3Controller", "row_rules"]

#: Words of reads that may be under way, from READ to ``rvalid``.
FLIGHT = 32
#: Clocks that a burst of eight takes on the bus, and that the bus is left alone between the two drivers.
BURST_CLOCKS, TURN_CLOCKS = 4, 2


def row_rules(timing: Ddr3Timing, *, mhz: float, group: int = POSTPONED, zq_ms: float | None = None) -> RowRules:
    """The scheduler's rules for a chip at a CK of ``mhz``, in fabric cycles of two clocks.

    READ and WRITE are a clock behind the other commands of their cycle.  ``zq_ms`` takes the place of the chip's time.

    Raises ValueError for a ``group`` that postpones more refreshes than the chip allows, for a CAS write latency that is not
    odd, for a chip whose tRRD or tFAW is longer than ACTIVE commands that are tRC apart keep, and for calibrations that are due
    more often than refreshes come.
    """
    t = timing
    if not 1 <= group <= POSTPONED:
        raise ValueError(f"refreshes in groups of {group}; 1 to {POSTPONED} may be postponed")
    if t.cwl % 2 == 0:
        raise ValueError(f"CAS write latency {t.cwl}: a WRITE's data does not begin a fabric cycle; 5 or 7 do")

    def cycles(clocks: int, late: int = 0) -> int:
        """Cycles between two commands, the first one ``late`` clocks behind the second one in their cycles."""
        return max(1, -(-(clocks + late) // 2))

    def of(name: str) -> int:
        return t.clocks(name, mhz)

    late = COLUMN_SLOT - ROW_SLOT
    trc = cycles(of("trc"))
    # ACTIVE to ACTIVE is counted over all banks together, so these two need no counter of their own.
    for name, acts in (("trrd", 1), ("tfaw", 4)):
        if of(name) > 2 * trc * acts:
            raise ValueError(f"{name} of {t.name} is {of(name)} clocks at {mhz:g} MHz, longer than {acts} times tRC")
    written = t.cwl + BURST_CLOCKS
    interval = int(t.refresh_us * mhz / 2)
    calibrate_ms = t.zq_ms if zq_ms is None else zq_ms
    # A calibration waits for a group of refreshes, which comes late by up to its length.
    calibrate_every = int(calibrate_ms * 1000 * mhz / 2 / interval) - group - 2
    if calibrate_every < 1:
        raise ValueError(f"a calibration each {calibrate_ms:g} ms: that is not longer than {group} refreshes")
    return RowRules(
        bank_bits=3, row_bits=t.row_bits, place_bits=t.column_bits - 3, column_zeros=3, words=2,
        trp=cycles(of("trp")), trfc=cycles(of("trfc")), tras=cycles(of("tras")), trc=trc,
        # Not less than the scheduler's registers take.
        trcd=max(2, cycles(of("trcd"), -late)),
        turn=cycles(t.cl + BURST_CLOCKS + TURN_CLOCKS - t.cwl), wtr=cycles(written + of("twtr")),
        twr=cycles(written + of("twr"), late), rtp=cycles(of("trtp"), late),
        refresh_every=interval, group=group,
        calibrate_every=calibrate_every, tzqcs=cycles(of("tzqcs")),
    )


class Ddr3Controller(wiring.Component):
    """Open-row controller with bursts of eight: a READ or WRITE every second fabric cycle moves two words of 64 bits.

    READ and WRITE go out in slot 1, commands about rows in slot 0 (:func:`hw.memory.rows.schedule`).  ``bus`` brings bursts that
    cross no row.  Address: row | bank | column.  A burst that begins with the second word of a pair, or ends with the first one,
    takes the pair's two cycles all the same: of a read the other word is dropped, and of a write it is masked.

    Refreshes are done in groups of ``group``, or earlier when no port has a burst; ``refreshing`` is high meanwhile.  A short ZQ
    calibration follows a group each ``zq_ms``.

    :class:`~hw.memory.ddr3.start.Ddr3Start` starts the chip.  Then ``training`` is served with probes until it is ``done``; from
    then on ``ready`` is high and ``bus`` is served.  ``dfi`` and ``training`` are described in :mod:`hw.memory.ddr3.dfi`.

    Latency of a read whose row is open, from the cycle in which ``bus.command`` is taken: a cycle to its READ, one more to
    ``dfi``, the PHY's to ``rvalid``, and one to ``bus.rdata``.

    Raises ValueError for a ``spec`` whose words are not of 64 bits or whose bursts would cross rows, and for what
    :func:`row_rules` does not take.  Address bits beyond the chip's rows are not looked at.
    """

    def __init__(self, *, ports: int, spec: MemorySpec, timing: Ddr3Timing, mhz: float, group: int = POSTPONED,
                 reset_us: float | None = None, cke_us: float | None = None, zq_ms: float | None = None):
        row_words = 1 << timing.column_bits - 2
        if spec.data_bits != 64 or spec.burst > row_words:
            raise ValueError(f"a DDR3 chip of 16 bits has words of 64 bits, bursts of at most {row_words} of them; not {spec}")
        self._ports, self._spec = ports, spec
        self.rules = row_rules(timing, mhz=mhz, group=group, zq_ms=zq_ms)
        self._start = Ddr3Start(timing=timing, mhz=mhz, reset_us=reset_us, cke_us=cke_us)
        super().__init__({
            "bus": In(MemoryBus(spec, ports)), "dfi": Out(Ddr3DfiSignature()), "training": In(TrainingSignature()),
            "ready": Out(1), "refreshing": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.start = start = self._start
        bus, dfi, training = self.bus, self.dfi, self.training

        # ------------------------------------------------------------------ the hub's bursts, or the training's probes
        inner = MemoryBus(self._spec, self._ports).create(path=("inner",))
        offer = inner.command
        trained = training.done
        m.d.comb += [offer.p.eq(bus.command.p), offer.valid.eq(bus.command.valid), bus.command.ready.eq(offer.ready & trained),
                     inner.wanted.eq(bus.wanted)]
        with m.If(~trained):
            m.d.comb += [offer.p.write.eq(training.write), offer.p.addr.eq(0), offer.p.words.eq(2),
                         offer.valid.eq(training.valid), training.ready.eq(offer.ready), inner.wanted.eq(training.valid)]
        m.d.comb += [training.started.eq(start.done), self.ready.eq(start.done & trained)]
        plan = schedule(m, self.rules, bus=inner, spec=self._spec, ports=self._ports, ready=start.done, layout=Ddr3CommandLayout)

        # ------------------------------------------------------------------ onto the PHY's registers
        for n, own in ((ROW_SLOT, plan.row_slot.as_value() | start.slot.as_value()), (COLUMN_SLOT, plan.column_slot.as_value())):
            m.d.sync += dfi.slots[n].as_value().eq(own)
        m.d.sync += [dfi.reset.eq(start.reset), dfi.cke.eq(start.cke), dfi.odt.eq(start.odt)]
        second_read, second_write = plan.second & ~plan.writing, plan.second & plan.writing
        reads, writes = plan.issue_read | second_read, plan.issue_write | second_write
        word, mask = Signal(64), Signal(8, init=0)
        m.d.comb += [word.eq(Mux(trained, bus.wdata.word, training.wdata)),
                     mask.eq(Cat((~lane | ~plan.moves).replicate(4) for lane in Mux(trained, bus.wdata.lanes, 3)))]
        m.d.sync += [dfi.wdata.eq(Mux(writes, word, 0)), dfi.wmask.eq(Mux(writes, mask, 0)), dfi.wen.eq(writes),
                     dfi.ren.eq(reads)]
        m.d.comb += training.moves.eq(plan.moves & plan.writing & ~trained)

        # ------------------------------------------------------------------ data
        # Of which port each word under way is; all ones: of none.
        none = (1 << len(bus.rdata.port)) - 1
        m.submodules.flight = flight = memory.Memory(shape=len(bus.rdata.port), depth=FLIGHT, init=[])
        write, read = flight.write_port(), flight.read_port(domain="comb")
        m.d.comb += [write.en.eq(reads), write.data.eq(Mux(plan.moves & trained, plan.current, none))]
        with m.If(reads):
            m.d.sync += write.addr.eq(write.addr + 1)
        arrived = Signal(len(bus.rdata.port), init=none)
        rdata, probed = Signal(64), Signal()
        m.d.sync += [rdata.eq(dfi.rdata), arrived.eq(none), probed.eq(dfi.rvalid & ~trained)]
        with m.If(dfi.rvalid):
            m.d.sync += [read.addr.eq(read.addr + 1), arrived.eq(read.data)]
        m.d.comb += [bus.rdata.word.eq(rdata), bus.rdata.port.eq(arrived), training.rdata.eq(rdata), training.rvalid.eq(probed),
                     bus.work.active.eq(plan.active & trained), bus.work.port.eq(plan.current),
                     bus.work.moves.eq(plan.moves & trained), bus.work.held.eq(plan.hold),
                     self.refreshing.eq(self.ready & plan.hold)]
        return m
