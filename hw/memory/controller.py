# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SDRAM controller: five ports onto one 16-bit SDR chip at two beats a fabric cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dfi import DfiSignature
from hw.memory.ports import ReadPort, WritePort
from tellme.spec.sdram import SLOWEST, SdramTiming

__all__ = ["PORTS", "SdramController"]

#: Ports by the bits of the statistics strobes.
PORTS = ("weights", "kv_read", "kv_write", "host_read", "host_write")
#: Who goes first.
PRIORITY = ("kv_write", "kv_read", "host_write", "host_read", "weights")
CHUNK = 32


class SdramController(wiring.Component):
    """Open-row controller with burst length 2: a READ or WRITE each fabric cycle moves a 32-bit word.

    All commands go out in slot 0, data in both slots.  Requests are cut into chunks that end at multiples of 32 words;
    after each chunk the ports are looked at anew (refresh, then PRIORITY), without a lost cycle if the next chunk's row
    is open.  A row change costs tRP + tRCD + 2 cycles, once in 256 words of a sequential read.  Address: row | bank |
    column, so that a sequential stream goes on in the next bank.

    A chunk is read only when the port's FIFO has room for all of it, and written only when all of it is in the FIFO.
    WRITE follows a READ after the bus has turned around.  Timings come from ``timing`` at ``mhz`` (SDRAM clock),
    rounded up to whole fabric cycles and counted over all banks together.

    ``read_beats``: beats (SDRAM clocks) from a READ on ``dfi`` to its first data beat on ``dfi.rdata``: CAS latency plus
    PHY and pins.  Odd values go through a one-beat aligner.

    Statistics: ``stat_moved`` and ``stat_busy``, a bit a port, and ``stat_refresh``.  ``ready`` rises after power-up:
    pause, PRECHARGE ALL, eight REFRESH, MODE REGISTER SET.

    Raises ValueError for a CAS latency that the clock does not allow, and for read_beats below it.
    """

    #: Depth of each port's data FIFO, words.
    FIFO = 64

    def __init__(self, *, mhz: float = 100.0, cas_latency: int = 3, read_beats: int = 12, column_bits: int = 9,
                 timing: SdramTiming = SLOWEST, power_up_us: float | None = None):
        if cas_latency not in (2, 3) or (cas_latency == 2 and mhz > timing.cl2_mhz):
            raise ValueError(f"CAS latency {cas_latency} at {mhz} MHz: {timing.name} takes 2 up to {timing.cl2_mhz} MHz, "
                             "and 3")
        if read_beats < cas_latency:
            raise ValueError(f"read_beats {read_beats} is below the CAS latency {cas_latency}")
        self._mhz = mhz
        self._cas = cas_latency
        self._beats = read_beats
        self._columns = column_bits
        self._timing = timing
        self._power_up_us = timing.power_up_us if power_up_us is None else power_up_us
        super().__init__({
            "weights": In(ReadPort), "kv_read": In(ReadPort), "kv_write": In(WritePort),
            "host_read": In(ReadPort), "host_write": In(WritePort),
            "dfi": Out(DfiSignature()), "ready": Out(1),
            "stat_moved": Out(len(PORTS)), "stat_busy": Out(len(PORTS)), "stat_refresh": Out(1),
        })

    def cycles(self, ns: float) -> int:
        """Fabric cycles between two slot-0 commands that are at least ``ns`` apart."""
        return max(1, -(-self._timing.clocks(ns, self._mhz) // 2))

    def elaborate(self, platform):
        m = Module()
        t = self._timing
        # A word is two columns; addresses below count words.
        col_bits = self._columns - 1
        trp, trcd, tras = self.cycles(t.trp), self.cycles(t.trcd), self.cycles(t.tras)
        trc, trfc = self.cycles(t.trc), self.cycles(t.trfc)
        tmrd = -(-t.tmrd // 2)
        # From the WRITE of a word: its second beat is one clock later, then tWR.
        twr = -(-(t.clocks(t.twr, self._mhz) + 1) // 2)
        # A WRITE's first beat must not meet a READ's last one (CAS latency + 1 after it), nor touch it.
        turn = -(-(self._cas + 3) // 2)
        read_wait = self._beats // 2 + self._beats % 2
        power_up = int(self._power_up_us * self._mhz / 2) + 1
        refresh_every = int(t.refresh_us * self._mhz / 2) - CHUNK - 16

        # ------------------------------------------------------------------ ports
        addrs, lefts, sizes, able, fifos = [], [], [], [], []
        pick, any_able, pick_addr = Signal(range(len(PORTS))), Signal(), Signal(24)
        pick_size, pick_writes = Signal(range(CHUNK + 1)), Signal()
        port_writes = Array(Const(int(n.endswith("write")), 1) for n in PORTS)
        grant = Signal(len(PORTS))
        for i, name in enumerate(PORTS):
            port = getattr(self, name)
            writes = name.endswith("write")
            addr = Signal(24, name=f"{name}_addr")
            left = Signal(20, name=f"{name}_left")
            size = Signal(range(CHUNK + 1), name=f"{name}_size")
            room = Signal(range(self.FIFO + 1), name=f"{name}_room", init=0 if writes else self.FIFO)
            m.submodules[f"{name}_fifo"] = queue = fifo.SyncFIFOBuffered(width=32, depth=self.FIFO)
            to_end = Const(CHUNK, 6) - addr[:5]
            m.d.comb += [size.eq(Mux(left < to_end, left, to_end)), port.req.ready.eq(left == 0)]
            granted = Signal(range(CHUNK + 1), name=f"{name}_granted")
            m.d.comb += granted.eq(Mux(grant[i], pick_size, 0))
            with m.If(port.req.valid & port.req.ready):
                m.d.sync += [addr.eq(port.req.p.addr), left.eq(port.req.p.len)]
            with m.Elif(grant[i]):
                m.d.sync += [addr.eq(addr + pick_size), left.eq(left - pick_size)]
            taken = granted
            if writes:
                # room: words in the FIFO that no granted chunk has claimed
                m.d.comb += [queue.w_data.eq(port.data.payload), queue.w_en.eq(port.data.valid),
                             port.data.ready.eq(queue.w_rdy)]
                m.d.sync += room.eq(room + (queue.w_en & queue.w_rdy) - taken)
            else:
                # room: free places that no granted chunk will fill
                m.d.comb += [port.data.payload.eq(queue.r_data), port.data.valid.eq(queue.r_rdy),
                             queue.r_en.eq(port.data.ready)]
                m.d.sync += room.eq(room + (queue.r_en & queue.r_rdy) - taken)
            # Registered, so that the choice below starts from flip-flops; not valid in the cycle after a grant.
            size_r = Signal.like(size, name=f"{name}_size_r")
            able_r = Signal(name=f"{name}_able")
            m.d.sync += [size_r.eq(size), able_r.eq((left != 0) & (room >= size) & ~grant[i])]
            able.append(able_r)
            addrs.append(addr)
            lefts.append(left)
            sizes.append(size_r)
            fifos.append(queue)

        # The next chunk, chosen a cycle ahead; a choice is used once.
        choice = Signal(range(len(PORTS)))
        for name in reversed(PRIORITY):
            with m.If(able[PORTS.index(name)]):
                m.d.comb += choice.eq(PORTS.index(name))
        took = grant.any()
        m.d.sync += [pick.eq(choice), any_able.eq(Cat(able).any() & ~took), pick_addr.eq(Array(addrs)[choice]),
                     pick_size.eq(Array(sizes)[choice]), pick_writes.eq(port_writes[choice])]

        # ------------------------------------------------------------------ the chunk in work
        current = Signal(range(len(PORTS)))
        addr = Signal(24)
        left = Signal(range(CHUNK + 1))
        writing = Signal()
        column, bank, row = addr[:col_bits], addr[col_bits:col_bits + 2], addr[col_bits + 2:col_bits + 15]
        opened = Array(Signal(name=f"open{b}") for b in range(4))
        rows = Array(Signal(13, name=f"row{b}") for b in range(4))
        pick_bank = pick_addr[col_bits:col_bits + 2]
        pick_hit = opened[pick_bank] & (rows[pick_bank] == pick_addr[col_bits + 2:col_bits + 15])

        since_act = Signal(range(max(trc, tras) + 2))
        since_write = Signal(range(twr + 2))
        since_read = Signal(range(turn + 2))
        for counter, most in ((since_act, max(trc, tras) + 1), (since_write, twr + 1), (since_read, turn + 1)):
            with m.If(counter != most):
                m.d.sync += counter.eq(counter + 1)
        due = Signal(range(refresh_every + 1))
        refresh = Signal()
        with m.If(due == refresh_every):
            m.d.sync += [due.eq(0), refresh.eq(1)]
        with m.Else():
            m.d.sync += due.eq(due + 1)

        # ------------------------------------------------------------------ commands, registered
        cs, ras, cas, we = Signal(), Signal(), Signal(), Signal()
        ba, a = Signal(2), Signal(13)
        oe, wdata = Signal(), Signal(32)
        dfi = self.dfi
        issue_read, issue_write = Signal(), Signal()
        m.d.sync += [dfi.cs0.eq(cs), dfi.ras0.eq(ras), dfi.cas0.eq(cas), dfi.we0.eq(we), dfi.ba0.eq(ba), dfi.a0.eq(a),
                     dfi.wdata.eq(wdata), dfi.wdata_oe.eq(oe), dfi.cke.eq(1),
                     dfi.dqm0.eq(Mux(self.ready, 0, 3)), dfi.dqm1.eq(Mux(self.ready, 0, 3))]

        def command(name, **pins):
            """Drive one command; pins left out are zero."""
            bits = {"ACTIVE": (1, 0, 0), "READ": (0, 1, 0), "WRITE": (0, 1, 1), "PRECHARGE": (1, 0, 1),
                    "REFRESH": (1, 1, 0), "MODE": (1, 1, 1)}[name]
            m.d.comb += [cs.eq(1), ras.eq(bits[0]), cas.eq(bits[1]), we.eq(bits[2])]
            m.d.comb += [{"ba": ba, "a": a}[pin].eq(value) for pin, value in pins.items()]

        wait = Signal(range(max(power_up, 64) + 1), init=power_up)
        refreshes = Signal(4)

        def take():
            """Start the picked chunk; its row is open or not."""
            m.d.comb += grant.eq(1 << pick)
            m.d.sync += [current.eq(pick), addr.eq(pick_addr), left.eq(pick_size), writing.eq(pick_writes)]
            with m.If(pick_hit):
                m.next = "BURST"
            with m.Else():
                m.next = "CLOSE"

        with m.FSM() as fsm:
            with m.State("POWER-UP"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += refreshes.eq(8)
                    m.next = "CLOSE-ALL"
            with m.State("CLOSE-ALL"):
                with m.If((since_act > tras) & (since_write > twr)):
                    command("PRECHARGE", a=1 << 10)
                    m.d.sync += [opened[b].eq(0) for b in range(4)]
                    m.d.sync += wait.eq(trp - 1)
                    m.next = "BEFORE-REFRESH"
            with m.State("BEFORE-REFRESH"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "REFRESH"
            with m.State("REFRESH"):
                command("REFRESH")
                m.d.sync += [wait.eq(trfc - 1), refresh.eq(0)]
                m.next = "AFTER-REFRESH"
            with m.State("AFTER-REFRESH"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "IDLE"
                    with m.If(~self.ready):
                        m.d.sync += refreshes.eq(refreshes - 1)
                        m.next = "REFRESH"
                        with m.If(refreshes == 1):
                            m.next = "MODE"
            with m.State("MODE"):
                # Burst length 2, sequential.
                command("MODE", a=self._cas << 4 | 1)
                m.d.sync += wait.eq(tmrd)
                m.next = "AFTER-MODE"
            with m.State("AFTER-MODE"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += self.ready.eq(1)
                    m.next = "IDLE"
            with m.State("IDLE"):
                with m.If(refresh):
                    m.next = "CLOSE-ALL"
                with m.Elif(any_able):
                    take()
            with m.State("CLOSE"):
                with m.If(~opened[bank]):
                    m.next = "OPEN"
                with m.Elif((since_act >= tras) & (since_write >= twr)):
                    command("PRECHARGE", ba=bank)
                    m.d.sync += [opened[bank].eq(0), wait.eq(trp - 1)]
                    m.next = "CLOSED"
                    if trp == 1:
                        m.next = "OPEN"
            with m.State("CLOSED"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 1):
                    m.next = "OPEN"
            with m.State("OPEN"):
                with m.If(since_act >= trc):
                    command("ACTIVE", ba=bank, a=row)
                    m.d.sync += [opened[bank].eq(1), rows[bank].eq(row), since_act.eq(1), wait.eq(trcd - 1)]
                    m.next = "OPENED"
                    if trcd == 1:
                        m.next = "BURST"
            with m.State("OPENED"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 1):
                    m.next = "BURST"
            with m.State("BURST"):
                go, filled = Signal(), Signal()
                with m.Switch(current):
                    for i, name in enumerate(PORTS):
                        if name.endswith("write"):
                            with m.Case(i):
                                m.d.comb += filled.eq(fifos[i].r_rdy)
                m.d.comb += go.eq(~writing | ((since_read >= turn) & filled))
                with m.If(go):
                    with m.If(writing):
                        command("WRITE", ba=bank, a=Cat(Const(0, 1), column))
                        m.d.comb += [issue_write.eq(1), oe.eq(1)]
                        m.d.sync += since_write.eq(1)
                    with m.Else():
                        command("READ", ba=bank, a=Cat(Const(0, 1), column))
                        m.d.comb += issue_read.eq(1)
                        m.d.sync += since_read.eq(1)
                    m.d.sync += [addr.eq(addr + 1), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.next = "IDLE"
                        with m.If(~refresh & any_able):
                            take()

        # ------------------------------------------------------------------ data
        # The READ is on dfi one cycle after issue_read, its word arrives read_wait cycles after that.
        flight = Array(Signal(range(len(PORTS) + 1), name=f"flight{i}") for i in range(read_wait + 1))
        m.d.sync += flight[0].eq(Mux(issue_read, current + 1, 0))
        for i in range(read_wait):
            m.d.sync += flight[i + 1].eq(flight[i])
        rdata = Signal(32)
        if self._beats % 2:
            late = Signal(16)
            m.d.sync += late.eq(dfi.rdata[16:])
            m.d.comb += rdata.eq(Cat(late, dfi.rdata[:16]))
        else:
            m.d.comb += rdata.eq(dfi.rdata)
        for i, name in enumerate(PORTS):
            if name.endswith("write"):
                m.d.comb += fifos[i].r_en.eq(issue_write & (current == i))
                with m.If(current == i):
                    m.d.comb += wdata.eq(fifos[i].r_data)
                port = getattr(self, name)
                m.d.comb += port.idle.eq((lefts[i] == 0) & (fifos[i].level == 0) & ~(fsm.ongoing("BURST") & (current == i)))
            else:
                m.d.comb += [fifos[i].w_data.eq(rdata), fifos[i].w_en.eq(flight[read_wait] == i + 1)]
        busy = fsm.ongoing("BURST") | fsm.ongoing("CLOSE") | fsm.ongoing("CLOSED") | fsm.ongoing("OPEN") | \
            fsm.ongoing("OPENED")
        m.d.comb += [self.stat_moved.eq(Mux(issue_read | issue_write, 1 << current, 0)),
                     self.stat_busy.eq(Mux(busy, 1 << current, 0)),
                     self.stat_refresh.eq(self.ready & (fsm.ongoing("CLOSE-ALL") | fsm.ongoing("BEFORE-REFRESH")
                                                        | fsm.ongoing("REFRESH") | fsm.ongoing("AFTER-REFRESH")))]
        return m
