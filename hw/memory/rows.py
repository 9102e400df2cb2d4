# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the controllers of SDRAM chips share: bursts in work, open rows, refreshes in groups."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from hw.lib.ports import MemorySpec
from hw.memory.commands import Command, command

__all__ = ["RowRules", "Scheduled", "schedule"]


@dataclass(frozen=True)
class RowRules:
    """A chip, and its times in fabric cycles between two commands in their slots.

    A *place* is what one READ or WRITE moves: ``words`` words of the memory, in as many cycles.
    """

    #: Bits of the numbers of a bank and of a row; bits of a place within a row; log2 of the columns of a place.
    bank_bits: int
    row_bits: int
    place_bits: int
    column_zeros: int
    #: PRECHARGE to the next command, and REFRESH to the next command.
    trp: int
    trfc: int
    #: ACTIVE to PRECHARGE and to ACTIVE, both counted over all banks together, and to READ or WRITE.
    tras: int
    trc: int
    trcd: int
    #: READ to WRITE, and WRITE to PRECHARGE.
    turn: int
    twr: int
    #: Cycles between refreshes, and refreshes that are done together, so that rows are closed and opened once for all of them.
    refresh_every: int
    group: int
    words: int = 1
    #: WRITE to READ, and READ to PRECHARGE; 0: there is nothing to wait for.
    wtr: int = 0
    rtp: int = 0
    #: Refreshes that fall due between two short calibrations, and a calibration's cycles; 0: the chip knows none.
    calibrate_every: int = 0
    tzqcs: int = 0


@dataclass
class Scheduled:
    """Signals of a scheduler.

    ``row_slot`` and ``column_slot`` are commands, zeros where there is none.  A burst of port ``current`` is in work while
    ``active``; ``moves`` is high with each of its words.  ``issue_read`` and ``issue_write`` are high with a READ or WRITE.
    ``hold`` is high while the chip refreshes.  ``second`` is high in a place's second cycle, where it has one.
    """

    row_slot: Any
    column_slot: Any
    active: Signal
    current: Signal
    writing: Signal
    moves: Signal
    issue_read: Signal
    issue_write: Signal
    hold: Signal
    second: Value


def schedule(m: Module, rules: RowRules, *, bus: Any, spec: MemorySpec, ports: int, ready: Value,
             layout: data.StructLayout) -> Scheduled:
    """Add the scheduler to a controller's module.  ``bus`` has ``command`` and ``wanted`` of :func:`hw.lib.ports.MemoryBus`.

    READ and WRITE have one slot of the fabric cycle and commands about rows have the other slot, so that a row is closed and
    opened while another bank moves data.  A burst follows the burst before without a lost cycle if its row is open.  The next
    burst is known while a burst is in work, and the next burst's row is opened early if it lies in another bank.  Address:
    row | bank | column.  Refreshes are done in groups of ``rules.group``, or earlier when nothing is ``wanted``.  A calibration
    follows the first group after ``rules.calibrate_every`` refreshes.

    No burst is taken and no command is sent before ``ready``.  Commands have ``layout``.  The chip's power-up is another unit's.
    """
    trp, tras, trc, trfc, trcd, twr, turn = rules.trp, rules.tras, rules.trc, rules.trfc, rules.trcd, rules.twr, rules.turn
    if trcd > 3:
        raise ValueError(f"tRCD is {trcd} fabric cycles; 3 are supported")
    banks, bank_bits, place_bits = 1 << rules.bank_bits, rules.bank_bits, rules.place_bits
    # Bits of a word's address within its place.
    word_bits = rules.words.bit_length() - 1

    # ------------------------------------------------------------------ banks
    opened = Array(Signal(name=f"open{b}") for b in range(banks))
    rows = Array(Signal(rules.row_bits, name=f"row{b}") for b in range(banks))
    # Cycles since a bank's last WRITE (or READ), as a shift register of those that are too recent for a PRECHARGE.
    wrote = Array(Signal(max(1, twr - 1), name=f"wrote{b}") for b in range(banks))

    def where(addr: Value) -> tuple[Value, Value]:
        """(bank, row) of a place's address."""
        return addr[place_bits:place_bits + bank_bits], addr[place_bits + bank_bits:place_bits + bank_bits + rules.row_bits]

    # The next burst.
    command_in = bus.command
    offer = command_in.p
    next_place = offer.addr[word_bits:] if word_bits else offer.addr
    next_bank, next_row = where(next_place)
    next_hit = opened[next_bank] & (rows[next_bank] == next_row)
    since_act = Signal(range(max(trc, tras) + 1))
    since_read = Signal(range(turn + 1))
    for counter, limit in ((since_act, max(trc, tras)), (since_read, turn)):
        with m.If(counter != limit):
            m.d.sync += counter.eq(counter + 1)

    # ------------------------------------------------------------------ the column slot: the burst in work
    row_slot, column_slot = Signal(layout), Signal(layout)
    active, hit, hold = Signal(), Signal(), Signal()
    current = Signal(range(ports))
    addr = Signal(spec.word_bits - word_bits)
    # Places.
    remaining = Signal(range((spec.burst >> word_bits) + 1 + word_bits))
    writing = Signal()
    bank, row = where(addr)
    go, last = Signal(), Signal()
    issue_read, issue_write = Signal(), Signal()
    # The row slot closes row_bank in this cycle.
    closes, row_bank = Signal(), Signal(bank_bits)
    # The bus has turned around for a WRITE; its words were in the FIFO four cycles ago, so they are at its output.
    turned = Signal()
    # The same for a READ, where the chip wants a pause behind a WRITE.
    readable = Signal() if rules.wtr else Const(1, 1)
    # A place of two words: the cycle behind its command; that cycle, of the burst's last place; whether the burst leaves out the
    # first word of its first place, and the second word of its last place.
    second, ending = (Signal(), Signal()) if word_bits else (Const(0, 1), Const(0, 1))
    skip_first, skip_last = Signal(), Signal()
    moves = Signal() if word_bits else go
    # The cycle in which a burst ends.
    done: Value
    if word_bits:
        m.d.comb += [go.eq(active & hit & ~hold & ~second & Mux(writing, turned, readable)),
                     moves.eq((go & ~skip_first) | (second & ~(ending & skip_last)))]
        m.d.sync += [second.eq(go), ending.eq(go & last)]
        next_end = offer.addr[:word_bits] + offer.words
        next_places, done = (next_end + rules.words - 1) >> word_bits, ending
    else:
        m.d.comb += go.eq(active & hit & ~hold & (~writing | turned))
        next_places, done = offer.words, go & last
    m.d.comb += [issue_write.eq(go & writing), issue_read.eq(go & ~writing)]
    m.d.sync += [turned.eq((since_read >= turn - 1) & ~issue_read), last.eq(remaining == 1)]
    if rules.wtr:
        since_write = Signal(range(rules.wtr + 1), init=rules.wtr)
        with m.If(issue_write):
            m.d.sync += since_write.eq(1)
        with m.Elif(since_write != rules.wtr):
            m.d.sync += since_write.eq(since_write + 1)
        m.d.sync += readable.eq((since_write >= rules.wtr - 1) & ~issue_write)
    open_long = Signal()
    # Only the bank that was opened last can be too fresh for a READ.
    opens = row_slot.cs & row_slot.ras & ~row_slot.cas & ~row_slot.we
    m.d.sync += open_long.eq(Mux(opens, int(trcd <= 2), since_act >= trcd - 2))
    with m.If(go):
        m.d.comb += command(column_slot, Mux(writing, Command.WRITE, Command.READ), ba=bank,
                            a=Cat(Const(0, rules.column_zeros), addr[:place_bits]))
        m.d.sync += [addr.eq(addr + 1), remaining.eq(remaining - 1), last.eq(remaining == 2)]
        if word_bits:
            m.d.sync += skip_first.eq(0)
        with m.If(~writing):
            m.d.sync += since_read.eq(1)
    own_hit = opened[bank] & (rows[bank] == row)
    m.d.sync += hit.eq(own_hit & (open_long | (bank != row_bank)) & ~(closes & (bank == row_bank)))
    for b in range(banks):
        recent: Value = Cat(issue_write & (bank == b), wrote[b])[:len(wrote[b])]
        if rules.rtp:
            # A READ's wait is over when the bit of a WRITE of some cycles before would be.
            recent |= Mux(issue_read & (bank == b), 1 << len(wrote[b]) + 1 - rules.rtp, 0)
        m.d.sync += wrote[b].eq(recent)
    with m.If(done | ~active):
        m.d.comb += command_in.ready.eq(ready)
        m.d.sync += active.eq(0)
        with m.If(command_in.valid & ready):
            m.d.sync += [active.eq(1), current.eq(offer.port), addr.eq(next_place), remaining.eq(next_places),
                         last.eq(next_places == 1), writing.eq(offer.write),
                         hit.eq(next_hit & Mux(next_bank == row_bank, open_long & ~closes, 1))]
            if word_bits:
                m.d.sync += [skip_first.eq(offer.addr[:word_bits]), skip_last.eq(next_end[:word_bits])]

    # ------------------------------------------------------------------ the row slot: rows and refresh
    due = Signal(range(rules.refresh_every + 1))
    pending = Signal(range(4 * rules.group))
    refreshed = Signal()
    tick = due == rules.refresh_every - 1
    m.d.sync += due.eq(Mux(tick | ~ready, 0, due + 1))
    m.d.sync += pending.eq(pending + tick - refreshed)
    calibrates = Signal()
    if rules.calibrate_every:
        until = Signal(range(rules.calibrate_every), init=rules.calibrate_every - 1)
        calibration_due = Signal()
        with m.If(calibrates):
            m.d.sync += [until.eq(rules.calibrate_every - 1), calibration_due.eq(0)]
        with m.Elif(tick):
            m.d.sync += [until.eq(Mux(until == 0, 0, until - 1)), calibration_due.eq(until == 0)]
    wait = Signal(range(max(trp, trfc, rules.tzqcs) + 1))
    new_row, quiet = Signal(rules.row_bits), Signal()
    # A cycle late: a burst that begins meanwhile waits as under a group of refreshes.
    m.d.sync += quiet.eq(~active & ~bus.wanted)

    with m.FSM():
        with m.State("IDLE"):
            with m.If((pending >= rules.group) | ((pending != 0) & quiet)):
                m.d.sync += hold.eq(1)
                m.next = "CLOSE-ALL"
            with m.Elif(active & ~own_hit):
                m.d.sync += [row_bank.eq(bank), new_row.eq(row)]
                m.next = "CLOSE"
            with m.Elif(active & command_in.valid & ~next_hit & (next_bank != bank)):
                m.d.sync += [row_bank.eq(next_bank), new_row.eq(next_row)]
                m.next = "CLOSE"
        with m.State("CLOSE"):
            with m.If(~opened[row_bank]):
                m.next = "OPEN"
            with m.Elif(active & own_hit & (bank == row_bank)):
                # A burst was taken in between that wants the row as it is.
                m.next = "IDLE"
            with m.Elif((since_act >= tras) & ~wrote[row_bank].any()):
                m.d.comb += [command(row_slot, Command.PRECHARGE, ba=row_bank), closes.eq(1)]
                m.d.sync += [opened[row_bank].eq(0), wait.eq(trp - 1)]
                m.next = "CLOSED"
                if trp == 1:
                    m.next = "OPEN"
        with m.State("CLOSED"):
            m.d.sync += wait.eq(wait - 1)
            with m.If(wait == 1):
                m.next = "OPEN"
        with m.State("OPEN"):
            with m.If(since_act >= trc):
                m.d.comb += command(row_slot, Command.ACTIVE, ba=row_bank, a=new_row)
                m.d.sync += [opened[row_bank].eq(1), rows[row_bank].eq(new_row), since_act.eq(1)]
                m.next = "IDLE"
        with m.State("CLOSE-ALL"):
            with m.If((since_act >= tras) & ~Cat(*wrote).any()):
                m.d.comb += command(row_slot, Command.PRECHARGE, a=Command.ALL_BANKS)
                m.d.sync += [opened[b].eq(0) for b in range(banks)]
                m.d.sync += wait.eq(trp - 1)
                m.next = "ALL-CLOSED"
        with m.State("ALL-CLOSED"):
            m.d.sync += wait.eq(wait - 1)
            with m.If(wait <= 1):
                m.next = "REFRESH"
        with m.State("REFRESH"):
            m.d.comb += [command(row_slot, Command.REFRESH), refreshed.eq(1)]
            m.d.sync += wait.eq(trfc - 1)
            m.next = "REFRESHED"
        with m.State("REFRESHED"):
            m.d.sync += wait.eq(wait - 1)
            with m.If(wait <= 1):
                with m.If(pending != 0):
                    m.next = "REFRESH"
                if rules.calibrate_every:
                    with m.Elif(calibration_due):
                        m.next = "CALIBRATE"
                with m.Else():
                    m.d.sync += [hold.eq(0), row_bank.eq(bank), new_row.eq(row)]
                    m.next = "IDLE"
                    with m.If(active):
                        m.next = "OPEN"
        if rules.calibrate_every:
            with m.State("CALIBRATE"):
                m.d.comb += [command(row_slot, Command.ZQ), calibrates.eq(1)]
                m.d.sync += wait.eq(rules.tzqcs - 1)
                m.next = "CALIBRATED"
            with m.State("CALIBRATED"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait <= 1):
                    m.d.sync += [hold.eq(0), row_bank.eq(bank), new_row.eq(row)]
                    m.next = "IDLE"
                    with m.If(active):
                        m.next = "OPEN"
    return Scheduled(row_slot, column_slot, active, current, writing, moves, issue_read, issue_write, hold, second)
