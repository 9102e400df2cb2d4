# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board-independent core: bytes of the link on one side, an SDRAM chip on the other."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Const, DomainRenamer, Module, Mux, ResetSignal, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.attention.decode import DecodeAttention
from hw.attention.pack import WordMerge
from hw.attention.prefill import PrefillAttention
from hw.core.address_map import AddressSpace, windows
from hw.core.counters import Counters
from hw.core.fetch import RowFetch
from hw.core.merge import HeadMerge
from hw.core.processor import AccSource, CommandProcessor, WordSink
from hw.fused.pipeline import FusedPipeline
from hw.lib.streams import Queue, Skid
from hw.lib.types import TOKEN_BITS, AccLayout, MonitorLayout
from hw.link.crc32 import Crc32
from hw.link.link import HostLink
from hw.lm_head.lm_head import LmHead
from hw.memory.guard import ReadGuard, WriteGuard
from hw.memory.sdr.controller import SdramController
from hw.memory.sdr.dfi import DfiSignature
from hw.memory.weights import WeightBuffer
from hw.tlmm.engine import TlmmEngine
from tellme.spec.config import BoardConfig

__all__ = ["Core", "attention_unit", "float_pipeline", "heads_merge"]


def float_pipeline(config: BoardConfig) -> FusedPipeline:
    """One of the configuration's float pipelines, for its share of a chunk's tokens."""
    c = config
    return FusedPipeline(fmt=c.float_format, max_dim=c.max_dim, max_cols=c.max_cols, max_head_dim=c.max_head_dim,
                         tokens=-(-c.chunk // c.float_lanes), streams=c.float_lanes)


def attention_unit(config: BoardConfig) -> DecodeAttention | PrefillAttention:
    """The configuration's attention: for one token, or for a chunk of them."""
    c = config
    if c.chunk == 1:
        return DecodeAttention(max_head_dim=c.max_head_dim, max_group=c.max_group, max_context=c.max_context,
                               compact=c.compact)
    return PrefillAttention(pes=c.pes, tokens=c.chunk, max_head_dim=c.max_head_dim, max_group=c.max_group,
                            max_context=c.max_context, exp_units=c.exp_units, max_heads=c.max_heads)


def heads_merge(config: BoardConfig) -> HeadMerge | WordMerge:
    """What lies between the configuration's float pipelines and its attention: codes for one token, words for a chunk."""
    c = config
    return HeadMerge(inputs=c.float_lanes) if c.chunk == 1 else WordMerge(inputs=c.float_lanes, max_head_dim=c.max_head_dim)


class Core(wiring.Component):
    """Link, command processor, SDRAM controller and compute units, wired together.

    Ports: ``rx`` and ``tx``, the byte streams of the link (a UART or the simulated board's pipe); ``dfi``, the SDRAM
    at two beats a cycle, for a PHY; ``build_id``, the SHA-256 of this core's own Verilog, which the board file or the
    harness ties; ``running``, ``busy`` (that, or a packet in work), ``sdram_ready`` and ``failed`` for LEDs and the harness.

    Two resets: ``sync`` resets all; the command processor's compute_reset resets the units that hold no state worth
    keeping (engine, pipeline, attention, LM head, row fetch), while SDRAM, weight buffer and link go on.
    """

    def __init__(self, config: BoardConfig):
        self.config = config
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)),
            "dfi": Out(DfiSignature()),
            "build_id": In(256),
            "running": Out(1), "busy": Out(1), "sdram_ready": Out(1), "failed": Out(1),
        })

    def elaborate(self, platform):
        c = self.config
        m = Module()
        m.submodules.link = link = HostLink(windows=windows(
            sdram_bytes=c.sdram_bytes, steps=c.program_steps, context=c.max_context), name=c.name)
        m.submodules.space = space = AddressSpace(steps=c.program_steps, context=c.max_context)
        m.submodules.core = cpu = CommandProcessor(steps=c.program_steps, context=c.max_context, tokens=c.chunk)
        m.submodules.counters = counters = Counters(accounts=c.accounts)
        m.submodules.sdram = sdram = SdramController(
            mhz=c.sdram_mhz, cas_latency=c.sdram_cas_latency, column_bits=c.sdram_column_bits,
            phases=c.sdram_phases, power_up_us=c.sdram_power_up_us)
        m.submodules.weights = weights = WeightBuffer(blocks=c.weight_buffer_bytes // 4096)
        m.submodules.step_crc = step_crc = Crc32(16)

        floats = c.float_lanes
        engine = TlmmEngine(lanes=c.lanes, tile_rows=c.tile_rows, max_cols=c.max_cols, streams=floats)
        fused = [float_pipeline(c) for _ in range(floats)]
        attention = attention_unit(c)
        lm_head = LmHead(max_dim=c.max_dim, compact=c.compact)
        fetch = RowFetch()
        heads_in, sums_out, engine_start = heads_merge(c), Skid(AccLayout), Skid(engine.start.payload.shape())
        kv_words, kv_in, kv_out, lm_head_codes = Queue(32), Skid(32), Skid(32), Skid(signed(8))
        # Each unit's reset, power-on or a run's end, is a register of its own, so that it reaches the unit's from nearby.
        reset = cpu.compute_reset
        for name, unit in (("engine_start", engine_start), ("tlmm", engine),
                           *((f"fused{i}" if i else "fused", unit) for i, unit in enumerate(fused)),
                           ("heads_in", heads_in), ("attention", attention), ("sums_out", sums_out), ("lm_head", lm_head),
                           ("fetch", fetch), ("kv_words", kv_words), ("kv_in", kv_in), ("kv_out", kv_out),
                           ("lm_head_codes", lm_head_codes)):
            m.domains += ClockDomain(name, local=True)
            unit_reset = Signal(name=f"{name}_reset", init=1)
            m.d.sync += unit_reset.eq(reset)
            m.d.comb += [ClockSignal(name).eq(ClockSignal()), ResetSignal(name).eq(unit_reset)]
            m.submodules[name] = DomainRenamer(name)(unit)
            reset = unit_reset
        r = space.registers

        # Link and address space
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        connect(m, link.bus_req, space.req)
        connect(m, link.bus_wdata, space.wdata)
        connect(m, space.rdata, link.bus_rdata)
        connect(m, cpu.event, link.event)
        connect(m, space.read, sdram.host_read)
        connect(m, space.write, sdram.host_write)
        connect(m, sdram.dfi, flipped(self.dfi))
        # Of the cycle before: a packet takes many.
        running, status = Signal(), link.status
        m.d.sync += running.eq(cpu.running)
        m.d.comb += [
            link.build_id.eq(self.build_id),
            link.bus_idle.eq(space.idle), link.running.eq(running),
            cpu.start.eq(link.start), cpu.start_args.eq(link.start_args), cpu.stop.eq(link.stop),
            status.flags.running.eq(running), status.flags.sdram_ready.eq(sdram.ready),
            status.flags.nonfinite.eq(cpu.nonfinite_seen), status.flags.stopped.eq(cpu.stopped),
            status.step.eq(cpu.step), status.position.eq(cpu.position), status.bad_packets.eq(link.errors),
            status.cycles.eq(counters.values.cycles), status.training.eq(sdram.training),
            sdram.beats.eq(r.sdram_beats), sdram.nudge.eq(space.sdram_nudge),
            self.running.eq(cpu.running), self.busy.eq(cpu.running | link.busy),
            self.sdram_ready.eq(sdram.ready), self.failed.eq(cpu.nonfinite_seen | sdram.training.failed),
            space.counters.eq(counters.values),
        ]
        # Program, tokens, step CRCs
        m.d.comb += [
            space.program_addr.eq(cpu.program_addr), cpu.program_data.eq(space.program_data),
            space.token_addr.eq(cpu.token_addr), space.token_read.eq(cpu.token_read),
            cpu.token_data.eq(space.token_data),
            space.token_write.eq(cpu.token_write), space.token_wdata.eq(cpu.token_wdata),
            space.crc_step.eq(cpu.step), space.crc_write.eq(cpu.crc_write), space.crc_value.eq(step_crc.crc),
            step_crc.clear.eq(cpu.crc_clear),
            lm_head.top_addr.eq(space.top_addr), space.top_data.eq(lm_head.top_data),
            cpu.dim.eq(r.dim), cpu.vocab.eq(r.vocab), cpu.context.eq(r.context),
        ]
        # A step's CRC is that of the chunk's last token.
        monitor = Signal(MonitorLayout)
        m.d.sync += monitor.eq(lm_head.monitor)
        for unit in fused:
            with m.If(unit.monitor.valid):
                m.d.sync += monitor.eq(unit.monitor)
        m.d.comb += [step_crc.valid.eq(monitor.valid), step_crc.data.eq(monitor.word)]

        if c.compact:
            m.d.comb += [attention.lend.eq(lm_head.busy), attention.borrower.eq(lm_head.factors),
                         lm_head.products.eq(attention.products)]

        # Head sizes that several units need, from registers that stand still while a program runs.
        q_dim, k_dim = Signal(16), Signal(16)
        if c.compact:
            # One multiplier by turns.
            heads_next, size = Signal(), Signal(16)
            m.d.sync += [heads_next.eq(~heads_next),
                         size.eq(Mux(heads_next, r.heads[:8], r.kv_heads[:8]) * r.head_dim[:8])]
            with m.If(heads_next):
                m.d.sync += k_dim.eq(size)
            with m.Else():
                m.d.sync += q_dim.eq(size)
        else:
            m.d.sync += [q_dim.eq(r.heads[:8] * r.head_dim[:8]), k_dim.eq(r.kv_heads[:8] * r.head_dim[:8])]
        m.d.sync += [cpu.q_dim.eq(q_dim), cpu.qk_dim.eq(q_dim + k_dim)]

        # Memory ports.  Compute's go through guards, so that a compute reset leaves no burst half done.
        m.submodules.kv_read_guard = kv_read = ReadGuard()
        m.submodules.kv_write_guard = kv_write = WriteGuard()
        connect(m, kv_read.port, sdram.kv_read)
        connect(m, kv_write.port, sdram.kv_write)
        connect(m, weights.port, sdram.weights)
        # Words wait in a queue, so that no user's ready reaches the controller.  Who takes them is a register: a fetch's first
        # request is cycles behind its start, and attention's behind its last element.
        fetching = Signal()
        m.d.sync += fetching.eq(fetch.busy)
        connect(m, kv_read.user.data, kv_words.i)
        share_read(m, kv_read.user.req, kv_words.o, (fetch.port.req, fetch.port.data), (attention.read.req, kv_in.i),
                   first=fetching)
        connect(m, kv_in.o, attention.read.data)
        connect(m, kv_out.o, kv_write.user.data)
        share_write(m, kv_write.user, kv_out.i, lm_head.write, attention.write, first=lm_head.busy)
        m.d.comb += [
            kv_read.drain.eq(cpu.drain), kv_write.drain.eq(cpu.drain),
            cpu.drained.eq(kv_read.clean & kv_write.clean),
            weights.base.eq(r.weights_base), weights.body_words.eq(r.body_words64),
            weights.head_words.eq(r.head_words64), weights.plain_tokens.eq(cpu.weights_plain),
            weights.start.eq(cpu.weights_start), weights.stop.eq(cpu.weights_stop), cpu.weights_idle.eq(weights.idle),
        ]

        # Weight words to the one that the step in work names
        gain_load = fused[0].gain_load
        for unit in fused[1:]:
            m.d.comb += [unit.gain_load.payload.eq(gain_load.payload), unit.gain_load.valid.eq(gain_load.valid)]
        for sink, port in ((WordSink.GAIN, gain_load), (WordSink.ENGINE, engine.words),
                           (WordSink.HEAD, lm_head.words)):
            selected = cpu.word_sink == sink
            m.d.comb += [port.payload.eq(weights.out.payload), port.valid.eq(weights.out.valid & selected)]
            with m.If(selected):
                m.d.comb += weights.out.ready.eq(port.ready)
        m.d.comb += cpu.gain_taken.eq(gain_load.valid & gain_load.ready)

        # Which pipelines have tokens of the chunk, and how many; the LM head is for the chunk's last one.
        shift = floats.bit_length() - 1
        last_token = Signal(TOKEN_BITS)
        m.d.sync += last_token.eq(cpu.chunk - 1)
        has, has_last = [], []
        for i, unit in enumerate(fused):
            m.d.sync += unit.chunk.eq((cpu.chunk + (floats - 1 - i)) >> shift)
            has.append(unit.chunk != 0)
            has_last.append(last_token[:shift] == i if shift else Const(1, 1))

        # Codes: to the engine or the LM head
        wanted = [Mux(cpu.codes_to_lm_head, mine, some) for mine, some in zip(has_last, has, strict=True)]
        for i, unit in enumerate(fused):
            m.d.comb += [
                engine.codes[i].payload.eq(unit.codes.payload),
                engine.codes[i].valid.eq(unit.codes.valid & ~cpu.codes_to_lm_head),
                unit.codes.ready.eq(Mux(cpu.codes_to_lm_head, lm_head_codes.i.ready, engine.codes[i].ready)),
            ]
            with m.If(has_last[i]):
                m.d.comb += [lm_head_codes.i.payload.eq(unit.codes.payload), lm_head.start.p.d.eq(unit.d),
                             lm_head_codes.i.valid.eq(unit.codes.valid & cpu.codes_to_lm_head)]
        connect(m, lm_head_codes.o, lm_head.codes)
        # A cycle late: a pass's first codes wait until the processor has seen them.
        m.d.sync += cpu.code_valid.eq(Cat(unit.codes.valid | ~w for unit, w in zip(fused, wanted, strict=True)).all())
        m.d.comb += cpu.code_taken.eq(lm_head.codes.valid & lm_head.codes.ready)

        # Quantise passes: all tokens', or the last one's for the LM head; all that are asked begin together.
        # A cycle late, too: a pipeline that is ready stays so until it is asked.
        asked = cpu.quant.valid & cpu.quant.ready
        m.d.sync += cpu.quant.ready.eq(Cat(unit.quant.ready | ~w for unit, w in zip(fused, wanted, strict=True)).all() & ~asked)
        for unit, w in zip(fused, wanted, strict=True):
            m.d.comb += [unit.quant.payload.eq(cpu.quant.payload), unit.quant.valid.eq(asked & w),
                         unit.quant.p.first.eq(cpu.quant.p.first >> shift),
                         unit.quant.p.tokens.eq(Mux(cpu.codes_to_lm_head, 1, unit.chunk))]

        # Accumulators into the pipelines: the engine has a stream for each, the others bring a token's to its own.
        for i, unit in enumerate(fused):
            with m.If(cpu.acc_source == AccSource.ENGINE):
                m.d.comb += [unit.acc.payload.eq(engine.out[i].payload), unit.acc.valid.eq(engine.out[i].valid),
                             engine.out[i].ready.eq(unit.acc.ready)]
            for source, port in ((AccSource.FETCH, fetch.acc), (AccSource.ATTENTION, sums_out.o)):
                mine = port.p.place.token[:shift] == i if shift else Const(1, 1)
                with m.If((cpu.acc_source == source) & mine):
                    m.d.comb += [unit.acc.payload.eq(port.payload), unit.acc.valid.eq(port.valid),
                                 port.ready.eq(unit.acc.ready)]

        # RoPE rows to the token's pipeline; heads from all of them, whole ones.
        for i, unit in enumerate(fused):
            mine = fetch.number[:shift] == i if shift else Const(1, 1)
            m.d.comb += [unit.rope_load.payload.eq(fetch.rope.payload), unit.rope_load.valid.eq(fetch.rope.valid & mine),
                         unit.rope_start.eq(cpu.rope_start & mine), unit.rope_token.eq(fetch.number)]
        m.d.comb += fetch.rope.ready.eq(1)
        # A pass that brings heads ends when attention has them.
        delivered = [heads_in.empty] if c.chunk > 1 else []
        for unit, port in zip(fused, heads_in.i, strict=True):
            connect(m, unit.heads, port)
        connect(m, heads_in.o, attention.heads)
        connect(m, attention.acc, sums_out.i)

        # Settings and starts
        connect(m, cpu.engine, engine_start.i)
        connect(m, engine_start.o, engine.start)
        for unit in fused:
            m.d.comb += [
                unit.epilogue.eq(cpu.epilogue), unit.dest_a.eq(cpu.dest_a), unit.use_d.eq(cpu.use_d),
                unit.act_relu2.eq(cpu.relu2), unit.act_exp.eq(cpu.act_exp), unit.head_dim.eq(r.head_dim),
                unit.rope_rows.eq(cpu.rope_rows), unit.length.eq(cpu.length), unit.stats_gain.eq(cpu.stats_gain),
                unit.clear.eq(cpu.pass_clear), unit.gain_start.eq(cpu.gain_start), unit.monitor_token.eq(last_token),
            ]
        if c.chunk > 1:
            m.d.comb += attention.chunk.eq(cpu.chunk)
        m.d.comb += [
            fetch.start.eq(cpu.fetch_start), fetch.token.eq(cpu.fetch_token), fetch.position.eq(cpu.fetch_position),
            fetch.number.eq(cpu.fetch_number), cpu.fetch_busy.eq(fetch.busy),
            fetch.dim.eq(r.dim), fetch.head_dim.eq(r.head_dim), fetch.embed_base.eq(r.embed_base),
            fetch.block_words.eq(r.block_words), fetch.row_words.eq(r.row_words), fetch.rope_base.eq(r.rope_base),
            cpu.pass_done.eq(Cat(*(unit.done for unit in fused), *delivered).all()),
            cpu.nonfinite.eq(Cat(unit.nonfinite for unit in fused).any()),
            attention.begin_token.eq(cpu.attention_begin), attention.start.eq(cpu.attention_start),
            attention.heads_n.eq(r.heads), attention.kv_heads.eq(r.kv_heads), attention.head_dim.eq(r.head_dim),
            attention.group.eq(r.group), attention.c_att.eq(r.c_att), attention.position.eq(cpu.position),
            attention.k_base.eq(cpu.attention_k), attention.v_base.eq(cpu.attention_v),
            attention.s_base.eq(cpu.attention_s), attention.kv_stride.eq(r.kv_stride),
            attention.s_stride.eq(r.s_stride),
            lm_head.start.p.dim.eq(r.dim), lm_head.start.p.vocab.eq(r.vocab),
            lm_head.start.p.dump.eq(cpu.head_dump), lm_head.start.p.dump_base.eq(r.logits_base),
            lm_head.start.valid.eq(cpu.head_valid), cpu.head_ready.eq(lm_head.start.ready),
            cpu.head_done.eq(lm_head.done), cpu.best_id.eq(lm_head.best.id), cpu.best_logit.eq(lm_head.best.logit),
        ]

        # Counters
        m.d.comb += [
            counters.clear.eq(cpu.clear_counters), counters.running.eq(cpu.counting),
            counters.engine_busy.eq(engine.busy), counters.head_stall.eq(lm_head.stall),
            counters.moved.eq(sdram.stat_moved), counters.busy.eq(sdram.stat_busy),
            counters.refresh.eq(sdram.stat_refresh),
            counters.spent.engine.eq(engine.busy), counters.spent.drain.eq(engine.draining),
            counters.spent.norm.eq(Cat(unit.settling for unit in fused).any()),
            counters.spent.attention.eq(attention.busy), counters.spent.head.eq(lm_head.busy),
            counters.spent.host.eq(sdram.stat_busy.host_read | sdram.stat_busy.host_write),
            counters.spent.memory.eq(sdram.stat_busy.as_value().any()), counters.spent.refresh.eq(sdram.stat_refresh),
            cpu.counters.eq(counters.totals),
        ]
        return m


def share_read(m, req, words, one, other, *, first):
    """One read port's requests and words for two users, each (requests, words), who never use it at the same time; ``first``
    selects ``one``."""
    (one_req, one_data), (other_req, other_data) = one, other
    m.d.comb += [
        req.payload.eq(Mux(first, one_req.payload, other_req.payload)),
        req.valid.eq(Mux(first, one_req.valid, other_req.valid)),
        one_req.ready.eq(first & req.ready), other_req.ready.eq(~first & req.ready),
        one_data.payload.eq(words.payload), other_data.payload.eq(words.payload),
        one_data.valid.eq(first & words.valid), other_data.valid.eq(~first & words.valid),
        words.ready.eq(Mux(first, one_data.ready, other_data.ready)),
    ]


def share_write(m, port, words, one, other, *, first):
    """One write port, whose words go to ``words``, for two users who never use it at the same time; ``first`` selects ``one``."""
    m.d.comb += [
        port.req.payload.eq(Mux(first, one.req.payload, other.req.payload)),
        port.req.valid.eq(Mux(first, one.req.valid, other.req.valid)),
        one.req.ready.eq(first & port.req.ready), other.req.ready.eq(~first & port.req.ready),
        words.payload.eq(Mux(first, one.data.payload, other.data.payload)),
        words.valid.eq(Mux(first, one.data.valid, other.data.valid)),
        one.data.ready.eq(first & words.ready), other.data.ready.eq(~first & words.ready),
        one.idle.eq(port.idle), other.idle.eq(port.idle),
    ]
