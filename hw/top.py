# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board-independent core: bytes of the link on one side, an SDRAM chip on the other."""

from typing import Any

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.attention.decode import DecodeAttention
from hw.attention.merge import HeadMerge
from hw.attention.pack import WordMerge
from hw.attention.prefill import PrefillAttention
from hw.core.address_map import AddressSpace, windows
from hw.core.counters import Counters
from hw.core.drafts import DraftReader
from hw.core.fetch import RowFetch
from hw.core.processor import CommandProcessor
from hw.core.routers import (
    AccRouter,
    CodeRouter,
    CycleAccount,
    HeadSizes,
    PassRouter,
    RopeRouter,
    StatusWords,
    StepCrc,
    TokenShares,
    WordRouter,
)
from hw.core.slots import SlotProcessor
from hw.fused.code_sums import CodeSums
from hw.fused.pipeline import FusedPipeline
from hw.lib.layouts import Layouts
from hw.lib.streams import Skid
from hw.link.link import HostLink
from hw.lm_head.chunk import ChunkLmHead
from hw.lm_head.lm_head import LmHead
from hw.lm_head.two_steps import TwoStepLmHead
from hw.memory.ddr3.dfi import Ddr3DfiSignature
from hw.memory.ddr3.memory import Ddr3Memory
from hw.memory.ddr3.phy import PhyControlSignature
from hw.memory.hub import Client, MemoryHub
from hw.memory.sdr.controller import SdramController
from hw.memory.sdr.dfi import DfiSignature
from hw.memory.weights import WeightBuffer
from hw.sampling.sampler import Sampler
from hw.tlmm.engine import TlmmEngine
from tellme.spec.config import CoreConfig
from tellme.spec.memory import MEMORY_CLIENTS, TOP_ENTRIES

__all__ = ["Core", "attention_unit", "command_processor", "float_pipeline", "heads_merge", "lm_head_unit", "memory_controller",
           "memory_hub", "memory_ports", "tlmm_engine"]


def tlmm_engine(config: CoreConfig, layouts: Layouts) -> TlmmEngine:
    """The configuration's matrix engine."""
    return TlmmEngine(layouts, lanes=config.lanes, tile_rows=config.tile_rows, streams=config.float_lanes,
                      prefill_rows=config.prefill_rows)


def float_pipeline(config: CoreConfig, layouts: Layouts) -> FusedPipeline:
    """One of the configuration's float pipelines, for its share of a chunk's tokens."""
    return FusedPipeline(layouts, fmt=config.float_format, streams=config.float_lanes)


def attention_unit(config: CoreConfig, layouts: Layouts) -> DecodeAttention | PrefillAttention:
    """The configuration's attention: for one token, or for a chunk of them."""
    if config.chunk == 1:
        return DecodeAttention(layouts, compact=config.compact)
    return PrefillAttention(layouts, pes=config.pes, exp_units=config.exp_units)


def heads_merge(config: CoreConfig, layouts: Layouts) -> HeadMerge | WordMerge:
    """What lies between the configuration's float pipelines and its attention: codes for one token, words for a chunk."""
    return (HeadMerge if config.chunk == 1 else WordMerge)(layouts, inputs=config.float_lanes)


def lm_head_unit(config: CoreConfig, layouts: Layouts) -> LmHead | ChunkLmHead | TwoStepLmHead:
    """The configuration's LM head: for one token, in one step or in two, or for each of a chunk."""
    if config.two_steps:
        return TwoStepLmHead(layouts, compact=config.compact)
    if config.head_tokens == 1:
        return LmHead(layouts, compact=config.compact)
    return ChunkLmHead(layouts, streams=config.float_lanes, compact=config.compact)


def command_processor(config: CoreConfig, layouts: Layouts) -> CommandProcessor | SlotProcessor:
    """The configuration's command processor: of one sequence, or of several side by side."""
    return (CommandProcessor if config.slots == 1 else SlotProcessor)(layouts, sampler=config.sampler)


def memory_hub(layouts: Layouts) -> MemoryHub:
    """The hub of all clients of a core, in the order of :data:`tellme.spec.memory.MEMORY_CLIENTS`.

    Clients that a run's end resets are guarded.  To save FIFOs, clients that never need much at the same time share a port.
    Attention has a port of its own where it reads words of 64 bits, as the clients of a port have one width.
    """
    kv_bits = layouts.widths.attention_bits
    # Priority and further properties of each client; the name and the direction are in MEMORY_CLIENTS.
    by_priority: dict[str, dict] = {
        "logits": {"port": "compute_write", "guarded": True}, "attention_write": {"port": "compute_write", "guarded": True},
        "rope_rows": {"port": "compute_read", "guarded": True}, "embedding_rows": {"port": "compute_read", "guarded": True},
        "attention_read": {"data_bits": kv_bits, "port": "compute_read" if kv_bits == 32 else "", "guarded": True},
        "host_write": {}, "host_read": {}, "weights": {"data_bits": 64},
    }
    priority = list(by_priority)
    return MemoryHub([Client(name, mode, priority.index(name), **by_priority[name]) for name, mode in MEMORY_CLIENTS.items()],
                     layouts.memory)


def memory_controller(config: CoreConfig, layouts: Layouts, *, ports: int) -> SdramController | Ddr3Memory:
    """The controller of the configuration's memory, for so many ports of the hub."""
    c = config
    if c.ddr3:
        return Ddr3Memory(ports=ports, spec=layouts.memory, timing=c.ddr3, mhz=c.sdram_mhz, reset_us=c.sdram_power_up_us,
                          cke_us=2.5 * c.sdram_power_up_us)
    return SdramController(ports=ports, spec=layouts.memory, mhz=c.sdram_mhz, cas_latency=c.sdram_cas_latency,
                           column_bits=c.sdram_column_bits, phases=c.sdram_phases, power_up_us=c.sdram_power_up_us)


def memory_ports(config: CoreConfig) -> dict[str, Any]:
    """The core's ports to the PHY of the configuration's memory."""
    if config.ddr3:
        return {"dfi": Out(Ddr3DfiSignature()), "phy": Out(PhyControlSignature())}
    return {"dfi": Out(DfiSignature())}


class Core(wiring.Component):
    """Link, command processor, memory and compute units, wired together.

    Ports: ``rx`` and ``tx``, the byte streams of the link (a UART or the simulated board's pipe); ``dfi``, the memory at
    two or four beats a cycle, for a PHY, and for a DDR3 memory's PHY ``phy``, its settings; ``build_id``, the SHA-256 of this
    core's own Verilog, which the board file or the harness ties; ``running``, ``busy`` (that, or a packet in work),
    ``sdram_ready`` and ``failed`` for LEDs and the harness.

    Two resets: ``sync`` resets all; the command processor's compute_reset resets the units that hold no state worth
    keeping (engine, pipeline, attention, LM head, sampler, row fetch), while SDRAM, weight buffer and link go on.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)),
            **memory_ports(config),
            "build_id": In(256),
            "running": Out(1), "busy": Out(1), "sdram_ready": Out(1), "failed": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        c = self.config
        m = Module()
        layouts, floats = Layouts(c.widths), c.float_lanes
        m.submodules.link = link = HostLink(windows=windows(
            sdram_bytes=c.sdram_bytes, steps=c.program_steps, sampler=c.sampler, tokens=c.slots * c.widths.token_window,
            head_tokens=c.head_tokens, two_steps=c.two_steps, drafts=c.drafts), name=c.name,
            checksum_bits=32 if c.ddr3 else 8, slots=c.slots)
        m.submodules.space = space = AddressSpace(layouts, sampler=c.sampler)
        m.submodules.core = cpu = command_processor(c, layouts)
        several = isinstance(cpu, SlotProcessor)
        m.submodules.counters = counters = Counters(accounts=c.accounts, two_steps=c.two_steps)
        m.submodules.hub = hub = memory_hub(layouts)
        m.submodules.sdram = sdram = memory_controller(c, layouts, ports=hub.ports)
        m.submodules.weights = weights = WeightBuffer(layouts, blocks=c.weight_buffer_bytes // 4096)

        engine = tlmm_engine(c, layouts)
        fused = [float_pipeline(c, layouts) for _ in range(floats)]
        attention = attention_unit(c, layouts)
        lm_head = lm_head_unit(c, layouts)
        sampler = Sampler(layouts) if c.sampler else None
        fetch = RowFetch(layouts)
        heads_in, sums_out, engine_start = heads_merge(c, layouts), Skid(layouts.acc), Skid(engine.start.payload.shape())
        kv_in = Skid(c.widths.attention_bits)
        # The units that a run's end resets.  Each unit's reset is a register of its own, near the unit's registers.  The register
        # takes its value from the register of the unit before it in this list, so that the reset walks down the list, a unit per
        # cycle, in far fewer cycles than RESET_CYCLES.
        resets = (
            ("engine_start", engine_start), ("tlmm", engine),
            *((f"fused{i}" if i else "fused", unit) for i, unit in enumerate(fused)),
            ("heads_in", heads_in), ("attention", attention), ("sums_out", sums_out), ("lm_head", lm_head),
            *((("sampler", sampler),) if sampler else ()), ("fetch", fetch), ("kv_in", kv_in),
        )
        reset = cpu.reset.compute
        for name, unit in resets:
            m.domains += ClockDomain(name, local=True)
            unit_reset = Signal(name=f"{name}_reset", init=1)
            m.d.sync += unit_reset.eq(reset)
            m.d.comb += [ClockSignal(name).eq(ClockSignal()), ResetSignal(name).eq(unit_reset)]
            m.submodules[name] = DomainRenamer(name)(unit)
            reset = unit_reset

        # Link and address space
        m.submodules.status = status = StatusWords(layouts)
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        connect(m, link.bus_req, space.req)
        connect(m, link.bus_wdata, space.wdata)
        connect(m, space.rdata, link.bus_rdata)
        connect(m, link.run, cpu.run)
        connect(m, cpu.event, link.event)
        m.d.comb += [
            link.build_id.eq(self.build_id), link.bus_idle.eq(space.idle & cpu.open if several else space.idle),
            link.running.eq(cpu.state.slots if several else status.running), link.status.eq(status.status),
            status.state.eq(cpu.state), status.sdram_ready.eq(sdram.ready), status.training.eq(sdram.training),
            status.bad_packets.eq(link.errors), status.cycles.eq(counters.values.cycles),
            space.counters.eq(counters.values), space.top_data.eq(lm_head.top_data),
            self.running.eq(cpu.state.running), self.busy.eq(cpu.state.running | link.busy),
            self.sdram_ready.eq(sdram.ready), self.failed.eq(cpu.state.nonfinite | sdram.training.failed),
        ]
        # The best 64: the sampler's while it works, else the host's.
        top_addr: Value = space.top_addr
        if sampler is not None:
            connect(m, cpu.draw, sampler.control)
            # The sampler's token is the one whose pick the processor tells.
            drawn = Cat(sampler.top_addr, cpu.lm_head.number) if layouts.all_heads else sampler.top_addr
            top_addr = Mux(sampler.control.busy, drawn, space.top_addr)
            m.d.comb += [
                sampler.settings.eq(cpu.draw_settings if several else space.settings), sampler.top_data.eq(lm_head.top_data),
                sampler.entries.eq(lm_head.entries if isinstance(lm_head, TwoStepLmHead) else
                                   Mux(space.shape.vocab < TOP_ENTRIES, space.shape.vocab, TOP_ENTRIES)),
                space.top_taken.eq(sampler.control.busy),
            ]
            if several:
                m.d.comb += cpu.settings.eq(space.settings)
        m.d.comb += lm_head.top_addr.eq(top_addr)
        # The model's shape, to the units that read it
        m.submodules.sizes = sizes = HeadSizes(layouts, compact=c.compact)
        m.d.comb += [unit.shape.eq(space.shape) for unit in (cpu, sizes, fetch, attention, *fused)]
        m.d.comb += cpu.sizes.eq(sizes.sizes)

        # The command processor's ports
        m.submodules.shares = shares = TokenShares(layouts, streams=floats)
        m.submodules.passes = passes = PassRouter(layouts, streams=floats, holds=c.chunk > 1)
        m.submodules.codes = codes = CodeRouter(layouts, streams=floats)
        m.submodules.words = words = WordRouter(streams=floats)
        m.submodules.accs = accs = AccRouter(layouts, streams=floats)
        m.submodules.rope = rope = RopeRouter(layouts, streams=floats, shape=fused[0].rope_load.payload.shape())
        m.submodules.step_crc = step_crc = StepCrc(layouts, streams=floats)
        connect(m, cpu.program, space.program)
        connect(m, cpu.tokens, space.tokens)
        connect(m, cpu.crc, step_crc.control)
        connect(m, step_crc.store, space.crc)
        connect(m, cpu.counters, counters.control)
        connect(m, cpu.weights, weights.control)
        connect(m, weights.segments, space.segments)
        connect(m, cpu.fetch, fetch.control)
        connect(m, cpu.engine, engine_start.i)
        connect(m, engine_start.o, engine.start)
        connect(m, cpu.attention, attention.control)
        connect(m, cpu.passes, passes.passes)
        connect(m, cpu.lm_head, codes.control)
        connect(m, codes.unit, lm_head.control)
        routes = cpu.routes
        m.d.comb += [
            shares.chunk.eq(routes.chunk), words.sink.eq(routes.word_sink), accs.source.eq(routes.acc_source),
            *(router.for_lm_head.eq(routes.for_lm_head) for router in (passes, codes, accs)),
            passes.has.eq(shares.has), passes.has_last.eq(shares.has_last), codes.has_last.eq(shares.has_last),
            codes.wanted.eq(passes.wanted), routes.code_valid.eq(codes.valid),
            routes.gain_taken.eq(words.gain_taken),
        ]

        if isinstance(lm_head, ChunkLmHead):
            m.d.comb += [accs.for_all.eq(routes.for_all), accs.last_token.eq(shares.last_token)]
            for i, unit in enumerate(fused):
                m.d.comb += lm_head.scales[i].eq(unit.scale)

        if isinstance(lm_head, TwoStepLmHead):
            # The codes, as the engine takes them.
            taken = engine.codes[0]
            m.d.comb += [
                lm_head.codes.valid.eq(taken.valid & taken.ready & routes.for_lm_head), lm_head.codes.code.eq(taken.payload),
                lm_head.gap.eq(Mux(cpu.lm_head.args.drawn, space.settings.max_gap, 0) if sampler is not None else 0),
                weights.two_steps.eq(cpu.lm_head.args.two_steps), space.head_counters.eq(counters.head_values),
                counters.head.head_rows.eq(lm_head.row), counters.head.head_rows_read.eq(lm_head.row_read),
            ]

        # Through the routers to the units and back
        connect(m, weights.out, words.words)
        connect(m, words.engine, engine.words)
        connect(m, accs.lm_head, lm_head.sums)
        connect(m, fetch.acc, accs.fetch)
        connect(m, fetch.rope, rope.words)
        connect(m, heads_in.o, attention.heads)
        connect(m, attention.acc, sums_out.i)
        connect(m, sums_out.o, accs.attention)
        m.d.comb += [
            rope.number.eq(fetch.number), rope.start.eq(fetch.rope_start), step_crc.lm_head.eq(lm_head.monitor),
        ]
        if c.chunk > 1:
            # A pass that brings heads ends when attention has them.
            assert isinstance(heads_in, WordMerge)
            m.d.comb += passes.delivered.eq(heads_in.empty)
        for i, unit in enumerate(fused):
            connect(m, passes.units[i], unit.control)
            connect(m, unit.codes, codes.codes[i])
            connect(m, codes.engine[i], engine.codes[i])
            connect(m, engine.out[i], accs.engine[i])
            connect(m, accs.out[i], unit.acc)
            connect(m, words.gains[i], unit.gain_load)
            connect(m, rope.out[i], unit.rope_load)
            connect(m, unit.heads, heads_in.i[i])
            m.d.comb += [
                unit.chunk.eq(shares.own[i]), passes.own[i].eq(shares.own[i]),
                *(() if layouts.all_heads else (codes.d[i].eq(unit.d),)),
                unit.rope_start.eq(rope.starts[i]), unit.rope_token.eq(fetch.number),
                unit.monitor_token.eq(shares.last_token), step_crc.pipelines[i].eq(unit.monitor),
            ]

        if layouts.vector_norms:
            # Codes of norms behind linears go back as accumulators.
            m.d.comb += [router.from_codes.eq(routes.from_codes) for router in (codes, accs)]
            for i in range(floats):
                m.submodules[f"code_sums{i}"] = sums = CodeSums(layouts, number=i, streams=floats)
                connect(m, codes.back[i], sums.codes)
                connect(m, sums.acc, accs.codes[i])
                m.d.comb += [sums.clear.eq(passes.units[i].clear), sums.length.eq(passes.units[i].args.length)]

        # Memory
        connect(m, hub.bus, sdram.bus)
        connect(m, sdram.dfi, flipped(self.dfi))
        if isinstance(sdram, Ddr3Memory):
            connect(m, sdram.phy, flipped(self.phy))
            m.d.comb += [sdram.settings.eq(space.sdram_settings), sdram.retrain.eq(space.sdram_retrain)]
        else:
            m.d.comb += [sdram.beats.eq(space.sdram_settings), sdram.nudge.eq(space.sdram_retrain)]
        connect(m, weights.port, hub.weights)
        connect(m, attention.read.req, hub.attention_read.req)
        connect(m, hub.attention_read.data, kv_in.i)
        connect(m, kv_in.o, attention.read.data)
        # Who reads words of other kinds through the row fetch's port, and when: in a HEAD step, or while a pass is made.
        guest: tuple[Any, Value] | None = None
        if isinstance(lm_head, TwoStepLmHead):
            guest = lm_head.read, lm_head.busy
        if several and c.drafts:
            m.submodules.drafts = drafts = DraftReader(layouts)
            connect(m, cpu.draft.pair, drafts.pair)
            connect(m, drafts.draft, cpu.draft.drafted)
            m.d.comb += [cpu.drafting.eq(space.drafting), drafts.base.eq(space.drafting.base)]
            guest = drafts.read, cpu.draft.reading
        if guest is not None:
            # The row fetch rests then.
            rows, own = hub.embedding_rows, fetch.embedding_rows
            read, reads = guest
            for port, turn in ((read, reads), (own, ~reads)):
                m.d.comb += [port.data.payload.eq(rows.data.payload), port.data.valid.eq(rows.data.valid & turn),
                             port.req.ready.eq(rows.req.ready & turn)]
                with m.If(turn):
                    m.d.comb += [rows.req.payload.eq(port.req.payload), rows.req.valid.eq(port.req.valid),
                                 rows.data.ready.eq(port.data.ready)]
        else:
            connect(m, fetch.embedding_rows, hub.embedding_rows)
        connect(m, fetch.rope_rows, hub.rope_rows)
        connect(m, attention.write, hub.attention_write)
        connect(m, lm_head.write, hub.logits)
        connect(m, space.read, hub.host_read)
        connect(m, space.write, hub.host_write)
        m.d.comb += [hub.drain.eq(cpu.reset.drain), cpu.reset.clean.eq(hub.clean)]

        # Counters
        m.submodules.account = account = CycleAccount(streams=floats)
        m.d.comb += [
            account.engine.eq(engine.busy), account.draining.eq(engine.draining),
            account.settling.eq(Cat(unit.settling for unit in fused)), account.attention.eq(attention.busy),
            account.lm_head.eq(lm_head.busy), account.clients.eq(hub.busy), account.refresh.eq(sdram.refreshing),
            counters.spent.eq(account.spent), counters.engine_busy.eq(engine.busy),
            # Weights are there, and the engine's sums wait for the LM head.
            counters.lm_head_stall.eq(accs.lm_head.valid & words.engine.valid & ~engine.busy),
            counters.moved.eq(hub.moved), counters.busy.eq(hub.busy), counters.refresh.eq(sdram.refreshing),
        ]
        return m
