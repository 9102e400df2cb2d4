# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board's address space: what the host's reads and writes reach (layout: :mod:`tellme.spec.memory`)."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import DrawLayout, SegmentPort
from hw.lib.layouts import Layouts
from hw.link.link import BusRequest
from tellme.spec.ddr3_training import OVERRIDE_FIELDS
from tellme.spec.drafts import SETTINGS_FIELDS
from tellme.spec.memory import (
    COUNTERS,
    CRC_BASE,
    DRAFT_REGISTERS,
    HEAD_COUNTERS,
    PROGRAM_BASE,
    REGISTER_BASE,
    REGISTERS,
    SAMPLING_REGISTERS,
    SDRAM_BASE,
    SEGMENT_BASE,
    TOKEN_BASE,
    TOP_BASE,
    TOP_BYTES,
    TOP_ENTRIES,
)
from tellme.spec.program import DESCRIPTOR_WORDS, SEGMENT_ENTRIES, SEGMENT_WORDS
from tellme.spec.widths import window_bits

__all__ = ["AddressSpace", "CountersLayout", "HeadCountersLayout", "windows"]

#: All counters, 32 bits each, in the order of their addresses.
CountersLayout = data.StructLayout({name: 32 for name in COUNTERS})
#: Those behind them, of a core whose LM head may run in two steps.
HeadCountersLayout = data.StructLayout({name: 32 for name in HEAD_COUNTERS})

#: Bits of the register of the memory's settings that a core looks at: a DDR3 memory's; an SDR memory has 5.
SETTINGS_BITS = sum(OVERRIDE_FIELDS.values())


def register_window(*, two_steps: bool) -> int:
    """Bytes from REGISTER_BASE to the end of the counters."""
    return 0x100 + 4 * (len(COUNTERS) + len(HEAD_COUNTERS) * two_steps)


def registers_of(*, sampler: bool, drafts: bool = False) -> tuple[str, ...]:
    """The registers of a core with or without a sampler, and with or without drafts, in the order of their addresses."""
    left_out = (() if sampler else SAMPLING_REGISTERS) + (() if drafts else DRAFT_REGISTERS)
    return tuple(name for name in REGISTERS if name not in left_out)


def windows(*, sdram_bytes: int, steps: int, tokens: int, sampler: bool,
            head_tokens: int = 1, two_steps: bool = False, drafts: bool = False) -> tuple[tuple[int, int, bool], ...]:
    """(base, bytes, writable) of each window of a core's address space, for the link to check against; ``tokens`` are the words
    of token memory.

    A core without a sampler refuses writes of the sampling registers, and reads them as zeros.  So does a core without ``drafts``
    the draft registers.
    """
    return (
        (SDRAM_BASE, sdram_bytes, True),
        (PROGRAM_BASE, 4 * DESCRIPTOR_WORDS * steps, True),
        (REGISTER_BASE, 4 * len(registers_of(sampler=sampler, drafts=drafts)), True),
        (REGISTER_BASE, register_window(two_steps=two_steps), False),
        (CRC_BASE, 4 * steps, False),
        (TOP_BASE, TOP_BYTES * head_tokens, False),
        (TOKEN_BASE, 4 * tokens, True),
        (SEGMENT_BASE, 4 * SEGMENT_WORDS * SEGMENT_ENTRIES, True),
    )


class AddressSpace(wiring.Component):
    """Serves the link's bus: SDRAM through the host ports, and the memories and registers inside.

    ``shape`` and ``sdram_settings`` are the registers at their true widths, and ``settings`` the sampling registers, which only a
    core with a ``sampler`` has.  While ``top_taken``, the sampler reads the best 64, and a host's read of them waits.
    ``drafting`` are the draft registers, of a core that drafts tokens.

    Program memory, the list of segments, token memory, step CRCs and registers live here; the command processor has a port
    of its own to each, the weight buffer one to the segments.  A request names a window that the link has checked; the windows
    of program and segments read as zeros.  SDRAM moves at the memory's rate, the rest a word in four cycles.  Program,
    segments, tokens and CRCs map to EBR, registers to flip-flops.
    """

    def __init__(self, layouts: Layouts, *, sampler: bool):
        self._layouts = layouts
        self._sampler = sampler
        super().__init__({
            "req": In(stream.Signature(BusRequest)), "wdata": In(stream.Signature(32)),
            "rdata": Out(stream.Signature(32)), "idle": Out(1),
            "read": Out(layouts.read_port), "write": Out(layouts.write_port),
            "shape": Out(layouts.model_shape), "sdram_settings": Out(SETTINGS_BITS), "sdram_retrain": Out(1),
            "counters": In(CountersLayout),
            "program": In(layouts.program_port), "segments": In(SegmentPort), "tokens": In(layouts.token_port),
            "crc": In(layouts.crc_store), "top_addr": Out(range(TOP_ENTRIES * layouts.widths.head_tokens)),
            "top_data": In(layouts.top_entry),
            **({"settings": Out(DrawLayout), "top_taken": In(1)} if sampler else {}),
            **({"head_counters": In(HeadCountersLayout)} if layouts.two_steps else {}),
            **({"drafting": Out(layouts.drafting)} if layouts.drafts else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m, widths = Module(), self._layouts.widths
        m.submodules.program = program = memory.Memory(shape=32, depth=DESCRIPTOR_WORDS * widths.steps, init=[])
        token_words = widths.slots * widths.token_window
        m.submodules.tokens = tokens = memory.Memory(shape=widths.token_id_bits, depth=token_words, init=[])
        m.submodules.crcs = crcs = memory.Memory(shape=32, depth=widths.steps, init=[])
        m.submodules.segments = segments = memory.Memory(shape=32, depth=SEGMENT_WORDS * SEGMENT_ENTRIES, init=[])
        program_w, program_r = program.write_port(), program.read_port()
        segments_w, segments_r = segments.write_port(), segments.read_port()
        tokens_w, tokens_r = tokens.write_port(), tokens.read_port()
        crcs_w, crcs_r = crcs.write_port(), crcs.read_port()

        addr = Signal(32)
        remaining = Signal.like(self.req.p.words)
        word_index = addr[2:28]
        names = registers_of(sampler=self._sampler, drafts=self._layouts.drafts)
        stored = Signal(data.StructLayout({name: 32 for name in names}))
        registers = Array(stored[name] for name in names)
        counters = Array([*(self.counters[name] for name in COUNTERS),
                          *([self.head_counters[name] for name in HEAD_COUNTERS] if self._layouts.two_steps else [])])
        internal_write = Signal()
        held = Signal(32)
        sdram_bits = window_bits(4 * widths.memory_words)
        sdram = self.req.p.addr[sdram_bits:] == SDRAM_BASE >> sdram_bits
        region = addr[28:]

        m.d.comb += [self.shape[name].eq(stored[name]) for name in self._layouts.model_shape.members]
        m.d.comb += self.sdram_settings.eq(stored.sdram_settings)
        top_waits = Signal()
        if self._sampler:
            m.d.comb += [self.settings[name].eq(stored[f"sample_{name}"]) for name in DrawLayout.members if name != "seed"]
            m.d.comb += [self.settings.seed.eq(Cat(stored.sample_seed_low, stored.sample_seed_high)),
                         top_waits.eq(self.top_taken & (region == TOP_BASE >> 28))]
        if self._layouts.drafts:
            m.d.comb += [self.drafting.base.eq(stored.draft_base),
                         Cat(self.drafting[name] for name in SETTINGS_FIELDS).eq(stored.draft_settings)]
        m.d.comb += [
            program_r.addr.eq(self.program.addr), self.program.data.eq(program_r.data),
            program_w.addr.eq(word_index), program_w.data.eq(self.wdata.payload),
            program_w.en.eq(internal_write & (region == PROGRAM_BASE >> 28)),
            segments_r.addr.eq(self.segments.addr), self.segments.data.eq(segments_r.data),
            segments_w.addr.eq(word_index), segments_w.data.eq(self.wdata.payload),
            segments_w.en.eq(internal_write & (region == SEGMENT_BASE >> 28)),
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
        m.d.comb += self.sdram_retrain.eq(late & (late_index == REGISTERS["sdram_retrain"]))
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
                # The memories' read latency; a cycle that the processor or the sampler took is repeated.
                with m.If(~self.tokens.read & ~top_waits):
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
                            Mux(addr[2], self.top_data.id, self.top_data.logit))
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
