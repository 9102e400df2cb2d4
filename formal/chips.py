# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs about the controllers of both memories: no command a clock early, and each word at its address.

The rules are written from the data sheet's numbers in :mod:`tellme.spec`, in clocks of the chip, and know nothing of how the
controllers count.  The unit that starts a chip is replaced by one that is ready and sends nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

import hw.memory.ddr3.controller as ddr3
import hw.memory.sdr.controller as sdr
from formal.harness import Harness, Proof, planted
from hw.lib.ports import MemorySpec
from hw.memory.ddr3.dfi import Ddr3CommandLayout
from hw.memory.sdr.bringup import TrainingLayout
from hw.memory.sdr.dfi import CommandLayout
from tellme.spec.ddr3 import CHIPS as DDR3_CHIPS
from tellme.spec.sdram import SLOWEST

__all__ = ["PROOFS"]

#: Ages of commands are counted so far, in clocks.
OLD = 63


class Chip:
    """What a chip asks for, about one bank that the solver chooses, and about all.

    ``slots`` are the commands of a fabric cycle, in the order of the chip's clocks.  Times are clocks between two commands.
    """

    def __init__(self, h: Harness, slots: Sequence[Any], *, bank_bits: int, trp: int, trcd: int, tras: int, trc: int, trrd: int,
                 tfaw: int, trfc: int, write_to_precharge: int, read_to_precharge: int, write_to_read: int, read_to_write: int,
                 tccd: int):
        m = h.m
        self.bank = h.constant(bank_bits)
        one = ("act", "pre", "read", "write")
        every = ("act_any", "act_2", "act_3", "act_4", "pre_any", "ref", "read_any", "write_any")
        ages = {name: Signal(6, name=f"age_{name}", init=OLD) for name in (*one, *every)}
        opened, row = Signal(name="chip_open"), Signal(16, name="chip_row")
        opens = Signal(1 << bank_bits, name="chip_opens")
        now: dict[str, Value] = dict(ages)
        is_open: Value = opened
        any_open: Value = opens
        the_row: Value = row
        self.reads: list[Value] = []
        self.writes: list[Value] = []
        #: Of each slot: the row that lies open in the chosen bank.
        self.rows: list[Value] = []
        for n, slot in enumerate(slots):
            ages_here = {}
            for name, age in now.items():
                later = Signal(6, name=f"age{n}_{name}")
                m.d.comb += later.eq(Mux(age == OLD, OLD, age + 1))
                ages_here[name] = later
            kind = Cat(slot.ras, slot.cas, slot.we)
            act, read, write, pre, ref = (slot.cs & (kind == code) for code in (0b001, 0b010, 0b110, 0b101, 0b011))
            mine = slot.ba == self.bank
            pre_all = slot.a[10]
            closes = pre & (pre_all | mine)
            h.holds(slot.cs == 0, ~(act | read | write | pre | ref))
            a = ages_here
            # ACTIVE: of a bank that is closed, and not too early.
            h.holds(~is_open & (a["pre"] >= trp) & (a["act"] >= trc), act & mine)
            h.holds((a["act_any"] >= trrd) & (a["ref"] >= trfc) & (a["act_4"] >= tfaw), act)
            # READ and WRITE: of an open bank, the bus being free.
            h.holds(is_open & (a["act"] >= trcd), (read | write) & mine)
            h.holds((a["read_any"] >= tccd) & (a["write_any"] >= tccd), read | write)
            h.holds(a["write_any"] >= write_to_read, read)
            h.holds(a["read_any"] >= read_to_write, write)
            # PRECHARGE: when the row has been open, and its data is in the chip or out of it.
            h.holds((a["act"] >= tras) & (a["write"] >= write_to_precharge) & (a["read"] >= read_to_precharge), closes & is_open)
            h.holds(a["ref"] >= trfc, pre)
            # REFRESH: all banks are closed.
            h.holds((any_open == 0) & (a["pre_any"] >= trp) & (a["ref"] >= trfc), ref)
            self.reads.append(read)
            self.writes.append(write)
            self.rows.append(the_row)
            events = {"act": act & mine, "pre": closes, "read": read & mine, "write": write & mine, "act_any": act,
                      "pre_any": pre, "ref": ref, "read_any": read, "write_any": write}
            now = {name: Mux(events[name], 0, age) if name in events else age for name, age in ages_here.items()}
            for name, before in (("act_2", "act_any"), ("act_3", "act_2"), ("act_4", "act_3")):
                now[name] = Mux(act, ages_here[before], ages_here[name])
            is_open = Mux(act & mine, 1, Mux(closes, 0, is_open))[0]
            the_row = Mux(act & mine, slot.a, the_row)
            bit = (1 << slot.ba)[:1 << bank_bits]
            any_open = Mux(act, any_open | bit, Mux(pre, Mux(pre_all, 0, any_open & ~bit), any_open))
        m.d.sync += [ages[name].eq(value) for name, value in now.items()]
        m.d.sync += [opened.eq(is_open), row.eq(the_row), opens.eq(any_open)]
        self.events = now
        self.refreshes = Cat(*(s.cs & (Cat(s.ras, s.cas, s.we) == 0b011) for s in slots)).any()


def asks(h: Harness, bus: Any, spec: MemorySpec) -> None:
    """The hub: bursts that cross no multiple of their length, offered or not in each cycle as the solver likes."""
    p = bus.command.p
    h.drive(p.as_value(), "offer")
    h.drive(bus.command.valid, "offered")
    h.drive(bus.wanted, "wanted")
    h.drive(bus.wdata.as_value(), "wdata")
    h.assume((p.words != 0) & (p.addr[:spec.burst.bit_length() - 1] + p.words <= spec.burst))
    h.assume(bus.wanted, bus.command.valid)


def places(h: Harness, bus: Any, chip: Chip, slot: Any, n: int, *, place_bits: int, bank_bits: int, row_bits: int,
           column_zeros: int, word_bits: int) -> None:
    """Each READ and WRITE, in slot ``n``, is the next place of the burst that was taken, in order, each once.

    A command shows at the pins a cycle after it was decided on, so the burst that was taken is looked at a cycle late too.
    """
    m = h.m
    taken = h.before(bus.command.valid & bus.command.ready, "taken")
    offer = h.before(bus.command.p.as_value(), "offer")
    p = type(bus.command.p)(bus.command.p.shape(), offer)
    bits = place_bits + bank_bits + row_bits
    place, left, write = Signal(bits, name="next_place"), Signal(8, name="places_left"), Signal(name="burst_writes")
    places_of = (p.addr[:word_bits] + p.words + (1 << word_bits) - 1) >> word_bits
    moved = chip.reads[n] | chip.writes[n]
    m.d.sync += [place.eq(place + moved), left.eq(left - moved)]
    with m.If(taken):
        m.d.sync += [place.eq(p.addr[word_bits:]), left.eq(places_of), write.eq(p.write)]
    h.holds(left == moved, taken)
    h.holds((left != 0) & (chip.writes[n] == write), moved)
    h.holds((slot.ba == place[place_bits:place_bits + bank_bits])
            & (slot.a == Cat(Value.cast(0)[:1].replicate(column_zeros), place[:place_bits])), moved)
    # The row that was opened is the one that is meant.
    h.holds((chip.rows[n] == place[place_bits + bank_bits:]), moved & (slot.ba == chip.bank))
    h.cover(moved & write & (left == 1) & (place[place_bits + bank_bits:] != 0))
    h.cover(moved & ~write & (left == 1) & (place[place_bits + bank_bits:] != 0))


class Started(wiring.Component):
    """In place of the unit that starts an SDR chip: it is ready."""

    def __init__(self, **_: Any):
        super().__init__({"row": Out(CommandLayout), "column": Out(CommandLayout), "wdata": Out(32), "oe": Out(1),
                          "rdata": wiring.In(32), "phase_step": Out(1), "nudge": wiring.In(1), "ready": Out(1),
                          "training": Out(TrainingLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.ready.eq(1)
        return m


class Started3(wiring.Component):
    """In place of the unit that starts a DDR3 chip: it is done."""

    def __init__(self, **_: Any):
        super().__init__({"slot": Out(Ddr3CommandLayout), "reset": Out(1, init=1), "cke": Out(1), "odt": Out(1), "done": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.done.eq(1)
        return m


class Pins:
    """The pins of an SDR chip's slot."""

    def __init__(self, dfi: Any, n: int):
        self.cs, self.ras, self.cas, self.we, self.ba, self.a = (getattr(dfi, f"{pin}{n}")
                                                                 for pin in ("cs", "ras", "cas", "we", "ba", "a"))


def sdr_controller(mhz: float, cas: int, group: int) -> Harness:
    h = Harness()
    # Two rows of four places a bank; a refresh is due each 12 cycles.
    timing = replace(SLOWEST, refresh_us=24 / mhz, column_bits=3)
    spec = MemorySpec(data_bits=32, addr_bits=2 + 2 + 1, len_bits=4, burst=4)
    with mock.patch.object(sdr, "SdramBringUp", Started), mock.patch.object(sdr, "REFRESH_GROUP", group):
        unit = sdr.SdramController(ports=2, spec=spec, mhz=mhz, cas_latency=cas, column_bits=3, timing=timing)
        h.unit(unit)
    asks(h, unit.bus, spec)
    slots = [Pins(unit.dfi, n) for n in range(2)]

    def clocks(name: str) -> int:
        return timing.clocks(getattr(timing, name), mhz)

    # A burst's second beat is a clock behind its WRITE; a PRECHARGE ends a READ's burst CAS latency - 1 clocks ahead of its data.
    chip = Chip(h, slots, bank_bits=2, trp=clocks("trp"), trcd=clocks("trcd"), tras=clocks("tras"), trc=clocks("trc"),
                trrd=clocks("trrd"), tfaw=0, trfc=clocks("trfc"), write_to_precharge=1 + clocks("twr"), read_to_precharge=2,
                write_to_read=2, read_to_write=cas + 2 + 1, tccd=2)
    places(h, unit.bus, chip, slots[0], 0, place_bits=2, bank_bits=2, row_bits=1, column_zeros=1, word_bits=0)
    h.holds(~(chip.reads[1] | chip.writes[1]))
    h.cover(chip.refreshes)
    # The bus belongs to a WRITE, and to none else.
    h.holds(unit.dfi.wdata_oe == chip.writes[0])
    return h


def ddr3_controller(mhz: float, group: int) -> Harness:
    h = Harness()
    timing = replace(DDR3_CHIPS["MT41K64M16"], row_bits=1, column_bits=5, refresh_us=40 / mhz)
    # 64-bit words, two a place, four places a row, eight banks, two rows.
    spec = MemorySpec(data_bits=64, addr_bits=1 + 1 + 2 + 3 + 1, len_bits=5, burst=4)
    with mock.patch.object(ddr3, "Ddr3Start", Started3):
        unit = ddr3.Ddr3Controller(ports=2, spec=spec, timing=timing, mhz=mhz, group=group)
        h.unit(unit)
    asks(h, unit.bus, spec)
    h.m.d.comb += unit.training.done.eq(1)
    h.drive(unit.dfi.rvalid, "rvalid")
    slots = list(unit.dfi.slots)

    def clocks(name: str) -> int:
        return timing.clocks(name, mhz)

    # JESD79-3F: a burst of eight takes four clocks; tWR and tWTR count from its last beat; the bus turns in two clocks.
    chip = Chip(h, slots, bank_bits=3, trp=clocks("trp"), trcd=clocks("trcd"), tras=clocks("tras"), trc=clocks("trc"),
                trrd=clocks("trrd"), tfaw=clocks("tfaw"), trfc=clocks("trfc"),
                write_to_precharge=timing.cwl + 4 + clocks("twr"), read_to_precharge=clocks("trtp"),
                write_to_read=timing.cwl + 4 + clocks("twtr"), read_to_write=timing.cl + 4 + 2 - timing.cwl, tccd=clocks("tccd"))
    places(h, unit.bus, chip, slots[1], 1, place_bits=2, bank_bits=3, row_bits=1, column_zeros=3, word_bits=1)
    h.holds(~(chip.reads[0] | chip.writes[0]))
    h.cover(chip.refreshes)
    return h


ROWS = "hw/memory/rows.py"
RULES = ("tRP, tRCD, tRAS, tRC, tRRD, tFAW, tRFC, tWR, tRTP, tWTR, tCCD and the bus's turns; each word once, in order, at its "
         "address")

PROOFS = (
    Proof("sdr", "hw/memory/sdr/controller.py, hw/memory/rows.py", RULES,
          "the slowest chip at 100 MHz, CAS latency 3; four banks of two rows of four places, as a row's number is only "
          "compared; "
          "refreshes each 12 cycles in groups of two, so that they fall into the depth", lambda: sdr_controller(100, 3, 2),
          "bounded", 30, 24, (
              planted("sdr", ROWS, "row-closed-a-cycle-early", "with m.Elif((since_act >= tras) & ~wrote[row_bank].any()):",
                      "with m.Elif((since_act >= tras - 1) & ~wrote[row_bank].any()):"),
              planted("sdr", ROWS, "precharge-a-cycle-early", "m.d.comb += [command(row_slot, Command.PRECHARGE, ba=row_bank), "
                      "closes.eq(1)]", "m.d.comb += command(row_slot, Command.PRECHARGE, ba=row_bank)"),
              planted("sdr", ROWS, "write-into-a-read", "m.d.sync += [turned.eq((since_read >= turn - 1) & ~issue_read)",
                      "m.d.sync += [turned.eq((since_read >= turn - 2) & ~issue_read)"),
              planted("sdr", ROWS, "wrong-row-hit", "own_hit = opened[bank] & (rows[bank] == row)", "own_hit = opened[bank]"))),
    Proof("ddr3", "hw/memory/ddr3/controller.py, hw/memory/rows.py", RULES,
          "the chip MT41K64M16 at 150 MHz; eight banks of two rows of four places; refreshes each 20 cycles, one by one",
          lambda: ddr3_controller(150, 1), "bounded", 30, 30, (
              planted("ddr3", ROWS, "read-behind-a-write-a-cycle-early", "readable.eq((since_write >= rules.wtr - 1)",
                      "readable.eq((since_write >= rules.wtr - 2)"),
              planted("ddr3", ROWS, "places-follow-too-soon", "~hold & ~second & Mux", "~hold & Mux"),
              planted("ddr3", "hw/memory/ddr3/controller.py", "trp-a-cycle-short", 'trp=cycles(of("trp")), trfc',
                      "trp=1, trfc"))),
)
