# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board's address space: what the host's reads and writes reach (layout: :mod:`tellme.spec.memory`)."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import ModelShape, ProgramPort, TokenPort, TopLayout
from hw.lib.ports import ReadPort, WritePort
from hw.link.link import BusRequest
from tellme.spec.memory import (
    COUNTERS,
    CRC_BASE,
    PROGRAM_BASE,
    REGISTER_BASE,
    REGISTERS,
    SDRAM_BASE,
    TOKEN_BASE,
    TOP_BASE,
    TOP_ENTRIES,
)
from tellme.spec.program import DESCRIPTOR_WORDS
from tellme.spec.widths import TOKEN_ID_BITS

__all__ = ["AddressSpace", "CountersLayout", "CrcStore", "windows"]

RegistersLayout = data.StructLayout({name: 32 for name in REGISTERS})
CountersLayout = data.StructLayout({name: 32 for name in COUNTERS})

#: A step's CRC-32 to keep, with a pulse of ``write``.
CrcStore = wiring.Signature({"step": Out(16), "write": Out(1), "value": Out(32)})

#: Bytes from REGISTER_BASE to the end of the counters.
REGISTER_WINDOW = 0x100 + 4 * len(COUNTERS)


def windows(*, sdram_bytes, steps, context):
    """(base, bytes, writable) of each window of a core's address space, for the link to check against."""
    return (
        (SDRAM_BASE, sdram_bytes, True),
        (PROGRAM_BASE, 4 * DESCRIPTOR_WORDS * steps, True),
        (REGISTER_BASE, 4 * len(REGISTERS), True),
        (REGISTER_BASE, REGISTER_WINDOW, False),
        (CRC_BASE, 4 * steps, False),
        (TOP_BASE, 8 * TOP_ENTRIES, False),
        (TOKEN_BASE, 4 * context, True),
    )


class AddressSpace(wiring.Component):
    """Serves the link's bus: SDRAM through the host ports, and the memories and registers inside.

    ``shape`` and ``sdram_beats`` are the registers at their true widths.

    Program memory, token memory, step CRCs and registers live here; the command processor has a port of its own to
    each.  A request names a window that the link has checked; the program window reads as zeros.  SDRAM moves at the
    memory's rate, the rest a word in four cycles.  Program, token and CRC memories map to EBR, registers to flip-flops.
    """

    def __init__(self, *, steps: int, context: int):
        self._steps = steps
        self._context = context
        super().__init__({
            "req": In(stream.Signature(BusRequest)), "wdata": In(stream.Signature(32)),
            "rdata": Out(stream.Signature(32)), "idle": Out(1),
            "read": Out(ReadPort), "write": Out(WritePort),
            "shape": Out(ModelShape), "sdram_beats": Out(5), "sdram_nudge": Out(1), "counters": In(CountersLayout),
            "program": In(ProgramPort(steps)), "tokens": In(TokenPort(context)), "crc": In(CrcStore),
            "top_addr": Out(range(TOP_ENTRIES)), "top_data": In(TopLayout),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.program = program = memory.Memory(shape=32, depth=DESCRIPTOR_WORDS * self._steps, init=[])
        m.submodules.tokens = tokens = memory.Memory(shape=TOKEN_ID_BITS, depth=self._context, init=[])
        m.submodules.crcs = crcs = memory.Memory(shape=32, depth=self._steps, init=[])
        program_w, program_r = program.write_port(), program.read_port()
        tokens_w, tokens_r = tokens.write_port(), tokens.read_port()
        crcs_w, crcs_r = crcs.write_port(), crcs.read_port()

        addr = Signal(32)
        remaining = Signal(20)
        word_index = addr[2:28]
        stored = Signal(RegistersLayout)
        registers = Array(stored[name] for name in REGISTERS)
        counters = Array(self.counters[name] for name in COUNTERS)
        internal_write = Signal()
        held = Signal(32)
        sdram = self.req.p.addr[28:] == SDRAM_BASE >> 28
        region = addr[28:]

        m.d.comb += [self.shape[name].eq(stored[name]) for name in ModelShape.members]
        m.d.comb += self.sdram_beats.eq(stored.sdram_beats)
        m.d.comb += [
            program_r.addr.eq(self.program.addr), self.program.data.eq(program_r.data),
            program_w.addr.eq(word_index), program_w.data.eq(self.wdata.payload),
            program_w.en.eq(internal_write & (region == PROGRAM_BASE >> 28)),
            # The processor comes first at both token ports; the host's access is repeated (read) or waits (write).
            tokens_r.addr.eq(Mux(self.tokens.read, self.tokens.addr, word_index)),
            self.tokens.data.eq(tokens_r.data),
            tokens_w.addr.eq(Mux(self.tokens.write, self.tokens.addr, word_index)),
            tokens_w.data.eq(Mux(self.tokens.write, self.tokens.wdata, self.wdata.payload)),
            tokens_w.en.eq(self.tokens.write | (internal_write & (region == TOKEN_BASE >> 28))),
            crcs_w.addr.eq(self.crc.step), crcs_w.data.eq(self.crc.value), crcs_w.en.eq(self.crc.write),
            crcs_r.addr.eq(word_index),
            self.top_addr.eq(addr[3:]),
            self.read.req.p.addr.eq(self.req.p.addr >> 2), self.read.req.p.len.eq(self.req.p.words),
            self.write.req.p.addr.eq(self.req.p.addr >> 2), self.write.req.p.len.eq(self.req.p.words),
        ]
        # Registers are written a cycle late, so that the bus's handshake and their enables do not add up.
        late_index, late_data, late = Signal(5), Signal(32), Signal()
        m.d.sync += [late.eq(internal_write & (region == REGISTER_BASE >> 28)), late_index.eq(word_index),
                     late_data.eq(self.wdata.payload)]
        with m.If(late):
            m.d.sync += registers[late_index].eq(late_data)
        m.d.comb += self.sdram_nudge.eq(late & (late_index == REGISTERS["sdram_nudge"]))
        with m.FSM() as fsm:
            m.d.comb += self.idle.eq(fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [addr.eq(self.req.p.addr), remaining.eq(self.req.p.words)]
                m.d.comb += [self.read.req.valid.eq(self.req.valid & sdram & ~self.req.p.write),
                             self.write.req.valid.eq(self.req.valid & sdram & self.req.p.write)]
                with m.If(sdram):
                    m.d.comb += self.req.ready.eq(Mux(self.req.p.write, self.write.req.ready, self.read.req.ready))
                with m.Else():
                    m.d.comb += self.req.ready.eq(1)
                with m.If(self.req.valid & self.req.ready):
                    with m.If(sdram):
                        m.next = "SDRAM-READ"
                        with m.If(self.req.p.write):
                            m.next = "SDRAM-WRITE"
                    with m.Else():
                        m.next = "READ"
                        with m.If(self.req.p.write):
                            m.next = "WRITE"
            with m.State("SDRAM-READ"):
                m.d.comb += [self.rdata.payload.eq(self.read.data.payload), self.rdata.valid.eq(self.read.data.valid),
                             self.read.data.ready.eq(self.rdata.ready)]
                with m.If(self.rdata.valid & self.rdata.ready):
                    m.d.sync += remaining.eq(remaining - 1)
                    with m.If(remaining == 1):
                        m.next = "IDLE"
            with m.State("SDRAM-WRITE"):
                m.d.comb += [self.write.data.payload.eq(self.wdata.payload),
                             self.write.data.valid.eq(self.wdata.valid),
                             self.wdata.ready.eq(self.write.data.ready)]
                with m.If(self.wdata.valid & self.wdata.ready):
                    m.d.sync += remaining.eq(remaining - 1)
                    with m.If(remaining == 1):
                        m.next = "SDRAM-DRAIN"
            with m.State("SDRAM-DRAIN"):
                # An acknowledged write is in the chip: a checksum or a start may follow.
                with m.If(self.write.idle):
                    m.next = "IDLE"
            with m.State("WRITE"):
                m.d.comb += self.wdata.ready.eq(~self.tokens.write)
                with m.If(self.wdata.valid & self.wdata.ready):
                    m.d.comb += internal_write.eq(1)
                    m.d.sync += [addr.eq(addr + 4), remaining.eq(remaining - 1)]
                    with m.If(remaining == 1):
                        m.next = "IDLE"
            with m.State("READ"):
                # The memories' read latency; a cycle that the processor took is repeated.
                with m.If(~self.tokens.read):
                    m.next = "SELECT"
            with m.State("SELECT"):
                with m.Switch(region):
                    with m.Case(REGISTER_BASE >> 28):
                        m.d.sync += held.eq(
                            Mux(addr[8], counters[word_index[:5]], registers[word_index[:5]]))
                    with m.Case(CRC_BASE >> 28):
                        m.d.sync += held.eq(crcs_r.data)
                    with m.Case(TOP_BASE >> 28):
                        m.d.sync += held.eq(
                            Mux(addr[2], Cat(self.top_data.id, Const(0, 14)), self.top_data.logit))
                    with m.Case(TOKEN_BASE >> 28):
                        m.d.sync += held.eq(tokens_r.data)
                    with m.Default():
                        m.d.sync += held.eq(0)
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += [self.rdata.payload.eq(held), self.rdata.valid.eq(1)]
                with m.If(self.rdata.ready):
                    m.d.sync += [addr.eq(addr + 4), remaining.eq(remaining - 1)]
                    m.next = "READ"
                    with m.If(remaining == 1):
                        m.next = "IDLE"
        return m
