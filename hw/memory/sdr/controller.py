# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SDRAM controller: five ports onto one 16-bit SDR chip at two beats a fabric cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.ports import PORTS, WORD_ADDRESS_BITS, PortStrobes, ReadPort, WritePort
from hw.memory.sdr.bringup import MAX_BEATS, SdramBringUp, TrainingLayout
from hw.memory.sdr.dfi import Command, CommandLayout, DfiSignature, command
from tellme.spec.sdram import SLOWEST, SdramTiming

__all__ = ["PORTS", "SdramController"]

#: Who goes first.
PRIORITY = ("kv_write", "kv_read", "host_write", "host_read", "weights")
#: Words of a burst at most.
BURST = 32
#: Refreshes that are done together, so that rows are closed and opened again once for all of them.
REFRESH_GROUP = 4


class SdramController(wiring.Component):
    """Open-row controller; the chip's burst length is 2: a READ or WRITE each fabric cycle moves a 32-bit word.

    READ and WRITE go out in slot 0, everything about rows in slot 1, so that a row is closed and opened while another
    bank moves data.  Requests are cut into bursts that end at multiples of BURST words; after each of them the ports are
    looked at anew, by PRIORITY, without a lost cycle if the next burst's row is open.  The next burst is known while one
    is in work, and its row is opened ahead if it lies in another bank.  Address: row | bank | column, so that a
    sequential stream goes on in the next bank and never waits for a row.

    Refreshes are done REFRESH_GROUP together, or sooner when no port wants anything.

    A burst is read only when the port's FIFO has room for all of it, and written only when all of it is in the FIFO.
    WRITE follows a READ after the bus has turned around.  Timings come from ``timing`` at ``mhz`` (SDRAM clock), rounded
    up to whole fabric cycles; ACTIVE to ACTIVE and to PRECHARGE are counted over all banks together.

    :class:`~hw.memory.sdr.bringup.SdramBringUp` starts the chip and finds the read latency, in beats: odd ones go through a
    one-beat aligner.  ``training`` tells what it found; ``beats``, if not zero, overrides the latency, and each cycle of
    ``nudge`` moves the chip's clock a step.

    Statistics: ``stat_moved`` and ``stat_busy``, a bit a port, and ``stat_refresh``.

    Raises ValueError for a CAS latency that the clock does not allow, and for a tRCD above three fabric cycles.
    """

    #: Depth of each port's data FIFO, words.
    FIFO = 64

    def __init__(self, *, mhz: float = 100.0, cas_latency: int = 3, column_bits: int = 9, phases: int = 1,
                 timing: SdramTiming = SLOWEST, power_up_us: float | None = None):
        if cas_latency not in (2, 3) or (cas_latency == 2 and mhz > timing.cl2_mhz):
            raise ValueError(f"CAS latency {cas_latency} at {mhz} MHz: {timing.name} takes 2 up to {timing.cl2_mhz} MHz, "
                             "and 3")
        self._mhz = mhz
        self._cas = cas_latency
        self._columns = column_bits
        self._phases = phases
        self._timing = timing
        self._power_up_us = timing.power_up_us if power_up_us is None else power_up_us
        super().__init__({
            "weights": In(ReadPort), "kv_read": In(ReadPort), "kv_write": In(WritePort),
            "host_read": In(ReadPort), "host_write": In(WritePort),
            "dfi": Out(DfiSignature()), "ready": Out(1),
            "training": Out(TrainingLayout), "beats": In(5), "nudge": In(1),
            "stat_moved": Out(PortStrobes), "stat_busy": Out(PortStrobes), "stat_refresh": Out(1),
        })

    def cycles(self, ns: float, late: int = 0) -> int:
        """Fabric cycles between two commands at least ``ns`` apart, the first one ``late`` slots behind the second's."""
        return max(1, -(-(self._timing.clocks(ns, self._mhz) + late) // 2))

    def elaborate(self, platform):
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
        # A little sooner than the chip asks for, as a group comes late by up to its length.
        refresh_every = int(t.refresh_us * self._mhz / 2 * 0.997)

        m.submodules.bringup = bringup = SdramBringUp(
            mhz=self._mhz, cas_latency=self._cas, timing=t, power_up_us=self._power_up_us, phases=self._phases)
        m.d.comb += [self.ready.eq(bringup.ready), self.training.eq(bringup.training), bringup.nudge.eq(self.nudge)]

        # ------------------------------------------------------------------ ports
        addrs, spents, sizes, able, fifos = [], [], [], [], []
        pick, any_able, pick_addr = Signal(range(len(PORTS))), Signal(), Signal(WORD_ADDRESS_BITS)
        pick_size, pick_writes = Signal(range(BURST + 1)), Signal()
        port_writes = Array(Const(int(n.endswith("write")), 1) for n in PORTS)
        # A burst that was begun is taken off its port's request a cycle later.
        grant, granted = Signal(len(PORTS)), Signal(len(PORTS))
        granted_size = Signal.like(pick_size)
        m.d.sync += [granted.eq(grant), granted_size.eq(pick_size)]
        for i, name in enumerate(PORTS):
            port = getattr(self, name)
            writes = name.endswith("write")
            addr = Signal(WORD_ADDRESS_BITS, name=f"{name}_addr")
            remaining = Signal(20, name=f"{name}_remaining")
            size = Signal(range(BURST + 1), name=f"{name}_size")
            room = Signal(range(self.FIFO + 1), name=f"{name}_room", init=0 if writes else self.FIFO)
            m.submodules[f"{name}_fifo"] = queue = fifo.SyncFIFOBuffered(width=32, depth=self.FIFO)
            to_end = Const(BURST, 6) - addr[:5]
            # Registers that say what would take a look at all of ``remaining``: nothing is left; the next burst is the last one.
            spent, final = Signal(init=1, name=f"{name}_spent"), Signal(name=f"{name}_final")
            m.d.comb += [size.eq(Mux(remaining <= to_end, remaining, to_end)), port.req.ready.eq(spent)]
            m.d.sync += final.eq(remaining <= to_end)
            claimed = Mux(granted[i], granted_size, 0)
            with m.If(port.req.valid & port.req.ready):
                m.d.sync += [addr.eq(port.req.p.addr), remaining.eq(port.req.p.len), spent.eq(0)]
            with m.Elif(granted[i]):
                m.d.sync += [addr.eq(addr + granted_size), remaining.eq(remaining - granted_size), spent.eq(final)]
            if writes:
                # room: words in the FIFO that no granted burst has claimed
                m.d.comb += [queue.w_data.eq(port.data.payload), queue.w_en.eq(port.data.valid),
                             port.data.ready.eq(queue.w_rdy)]
                m.d.sync += room.eq(room + (queue.w_en & queue.w_rdy) - claimed)
            else:
                # room: free places that no granted burst will fill
                m.d.comb += [port.data.payload.eq(queue.r_data), port.data.valid.eq(queue.r_rdy),
                             queue.r_en.eq(port.data.ready)]
                m.d.sync += room.eq(room + (queue.r_en & queue.r_rdy) - claimed)
            # Registered, so that the choice below starts from flip-flops; not valid in the two cycles after a grant.
            size_r = Signal.like(size, name=f"{name}_size_r")
            able_r = Signal(name=f"{name}_able")
            m.d.sync += [size_r.eq(size), able_r.eq(~spent & (room >= size) & ~granted[i])]
            able.append(able_r & ~granted[i])
            addrs.append(addr)
            spents.append(spent)
            sizes.append(size_r)
            fifos.append(queue)

        # The next burst, chosen a cycle ahead; a choice is used once.
        choice = Signal(range(len(PORTS)))
        for name in reversed(PRIORITY):
            with m.If(able[PORTS.index(name)]):
                m.d.comb += choice.eq(PORTS.index(name))
        some_able = Signal()
        m.d.comb += any_able.eq(some_able & (granted == 0))
        m.d.sync += [pick.eq(choice), some_able.eq(Cat(able).any()), pick_addr.eq(Array(addrs)[choice]),
                     pick_size.eq(Array(sizes)[choice]), pick_writes.eq(port_writes[choice])]

        # ------------------------------------------------------------------ banks
        opened = Array(Signal(name=f"open{b}") for b in range(4))
        rows = Array(Signal(13, name=f"row{b}") for b in range(4))
        # Cycles since a bank's last WRITE, as a shift register of those that are too recent for a PRECHARGE.
        wrote = Array(Signal(max(1, twr - 1), name=f"wrote{b}") for b in range(4))

        def where(addr):
            """(bank, row) of a word address."""
            return addr[col_bits:col_bits + 2], addr[col_bits + 2:col_bits + 15]

        pick_bank, pick_row = where(pick_addr)
        pick_hit = opened[pick_bank] & (rows[pick_bank] == pick_row)
        since_act = Signal(range(max(trc, tras) + 1))
        since_read = Signal(range(turn + 1))
        for counter, limit in ((since_act, max(trc, tras)), (since_read, turn)):
            with m.If(counter != limit):
                m.d.sync += counter.eq(counter + 1)

        # ------------------------------------------------------------------ slot 0: the burst in work
        row_slot, column_slot = Signal(CommandLayout), Signal(CommandLayout)
        active, hit, hold = Signal(), Signal(), Signal()
        current = Signal(range(len(PORTS)))
        addr = Signal(WORD_ADDRESS_BITS)
        remaining = Signal(range(BURST + 1))
        writing = Signal()
        bank, row = where(addr)
        go, last = Signal(), Signal()
        issue_read, issue_write = Signal(), Signal()
        # Slot 1 closes row_bank in this cycle.
        closes, row_bank = Signal(), Signal(2)
        # The bus has turned around for a WRITE; its words were in the FIFO four cycles ago, so they are at its output.
        turned = Signal()
        m.d.comb += [go.eq(active & hit & ~hold & (~writing | turned)),
                     issue_write.eq(go & writing), issue_read.eq(go & ~writing)]
        m.d.sync += [turned.eq((since_read >= turn - 1) & ~issue_read), last.eq(remaining == 1)]
        open_long = Signal()
        # Only the bank that was opened last can be too fresh for a READ.
        opens = row_slot.cs & row_slot.ras & ~row_slot.cas & ~row_slot.we
        m.d.sync += open_long.eq(Mux(opens, int(trcd <= 2), since_act >= trcd - 2))
        with m.If(go):
            m.d.comb += command(column_slot, Mux(writing, Command.WRITE, Command.READ), ba=bank,
                                a=Cat(Const(0, 1), addr[:col_bits]))
            m.d.sync += [addr.eq(addr + 1), remaining.eq(remaining - 1), last.eq(remaining == 2)]
            with m.If(~writing):
                m.d.sync += since_read.eq(1)
        own_hit = opened[bank] & (rows[bank] == row)
        m.d.sync += hit.eq(own_hit & (open_long | (bank != row_bank)) & ~(closes & (bank == row_bank)))
        for b in range(4):
            m.d.sync += wrote[b].eq(Cat(issue_write & (bank == b), wrote[b])[:len(wrote[b])])
        with m.If((go & last) | ~active):
            m.d.sync += active.eq(0)
            with m.If(any_able & self.ready):
                m.d.comb += grant.eq(1 << pick)
                m.d.sync += [active.eq(1), current.eq(pick), addr.eq(pick_addr), remaining.eq(pick_size), last.eq(pick_size == 1),
                             writing.eq(pick_writes),
                             hit.eq(pick_hit & Mux(pick_bank == row_bank, open_long & ~closes, 1))]

        # ------------------------------------------------------------------ slot 1: rows and refresh
        due = Signal(range(refresh_every + 1))
        pending = Signal(range(4 * REFRESH_GROUP))
        refreshed = Signal()
        tick = due == refresh_every - 1
        m.d.sync += due.eq(Mux(tick | ~self.ready, 0, due + 1))
        m.d.sync += pending.eq(pending + tick - refreshed)
        wait = Signal(range(max(trp, trfc) + 1))
        new_row, quiet = Signal(13), Signal()
        # A cycle late: a burst that begins meanwhile waits as under a group of refreshes.
        m.d.sync += quiet.eq(~active & ~any_able & ~Cat(able).any())
        with m.FSM():
            with m.State("IDLE"):
                with m.If((pending >= REFRESH_GROUP) | ((pending != 0) & quiet)):
                    m.d.sync += hold.eq(1)
                    m.next = "CLOSE-ALL"
                with m.Elif(active & ~own_hit):
                    m.d.sync += [row_bank.eq(bank), new_row.eq(row)]
                    m.next = "CLOSE"
                with m.Elif(active & any_able & ~pick_hit & (pick_bank != bank)):
                    m.d.sync += [row_bank.eq(pick_bank), new_row.eq(pick_row)]
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
                    m.d.sync += [opened[b].eq(0) for b in range(4)]
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
                    with m.Else():
                        m.d.sync += [hold.eq(0), row_bank.eq(bank), new_row.eq(row)]
                        m.next = "IDLE"
                        with m.If(active):
                            m.next = "OPEN"

        # ------------------------------------------------------------------ onto the pins' registers
        dfi = self.dfi
        oe, wdata = Signal(), Signal(32)
        for n, own, start in ((0, column_slot, bringup.column), (1, row_slot, bringup.row)):
            # Whoever does not have its turn gives zeros.
            both = Signal(CommandLayout, name=f"slot_{n}")
            m.d.comb += both.as_value().eq(own.as_value() | start.as_value())
            m.d.sync += [getattr(dfi, f"{pin}{n}").eq(getattr(both, pin)) for pin in ("cs", "ras", "cas", "we", "ba", "a")]
            m.d.sync += getattr(dfi, f"dqm{n}").eq(0)
        m.d.sync += [dfi.wdata.eq(Mux(self.ready, wdata, bringup.wdata)), dfi.wdata_oe.eq(oe | bringup.oe), dfi.cke.eq(1)]
        m.d.comb += [oe.eq(issue_write), dfi.phase_step.eq(bringup.phase_step), bringup.rdata.eq(dfi.rdata)]

        # ------------------------------------------------------------------ data
        # A word is whole (beats + 1) // 2 cycles after its READ was issued; a register in front of the FIFOs costs one.
        longest = (MAX_BEATS + 1) // 2
        flight = Array(Signal(range(len(PORTS) + 1), name=f"flight{i}") for i in range(longest + 1))
        m.d.sync += flight[0].eq(Mux(issue_read, current + 1, 0))
        for i in range(longest):
            m.d.sync += flight[i + 1].eq(flight[i])
        latency = Signal(5)
        m.d.sync += latency.eq(Mux(self.beats != 0, self.beats, bringup.training.beats))
        late, rdata, arrived = Signal(16), Signal(32), Signal(range(len(PORTS) + 1))
        m.d.sync += [late.eq(dfi.rdata[16:]), rdata.eq(Mux(latency[0], Cat(late, dfi.rdata[:16]), dfi.rdata)),
                     arrived.eq(flight[((latency + 1) >> 1) - 1])]
        for i, name in enumerate(PORTS):
            if name.endswith("write"):
                m.d.comb += fifos[i].r_en.eq(issue_write & (current == i))
                with m.If(current == i):
                    m.d.comb += wdata.eq(fifos[i].r_data)
                port = getattr(self, name)
                m.d.sync += port.idle.eq(spents[i] & ~port.req.valid & (fifos[i].level == 0) & ~(active & (current == i)))
            else:
                m.d.comb += [fifos[i].w_data.eq(rdata), fifos[i].w_en.eq(arrived == i + 1)]
        m.d.comb += [self.stat_moved.eq(Mux(go, 1 << current, 0)),
                     self.stat_busy.eq(Mux(active & ~hold, 1 << current, 0)),
                     self.stat_refresh.eq(self.ready & hold)]
        return m
