# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Routers between the units of a core with one or more float pipelines: they decide who gets which words, codes, sums and rows.

Of S pipelines, number i has the tokens t of a chunk with t mod S = i.  Routers store no data; their registers hold decisions.
"""

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.core.counters import SpentLayout
from hw.lib.control import AccSource, StatusLayout, WordSink
from hw.lib.layouts import Layouts
from hw.lib.ports import ClientStrobes
from hw.lib.types import MonitorLayout, ScaleLayout
from hw.link.crc32 import Crc32

__all__ = ["AccRouter", "CodeRouter", "CycleAccount", "HeadSizes", "PassRouter", "RopeRouter", "StatusWords", "StepCrc",
           "TokenShares", "WordRouter"]


def shift_of(streams: int) -> int:
    """Bits of a token's number that say which pipeline has it; ValueError for a number that is no power of two."""
    if streams < 1 or streams & streams - 1:
        raise ValueError(f"streams is {streams}; a power of two is wanted")
    return streams.bit_length() - 1


def own_tokens(streams: int, tokens: int) -> range:
    """How many of a chunk's tokens a pipeline may have."""
    return range(-(-tokens // streams) + 1)


def belongs(number: Value, i: int, streams: int) -> Value:
    """Whether pipeline ``i`` of ``streams`` has the token with this number."""
    shift = shift_of(streams)
    return number[:shift] == i if shift else Const(1, 1)


class HeadSizes(wiring.Component):
    """q_dim = heads * head_dim, qk_dim = (heads + kv_heads) * head_dim, some cycles after ``shape``.

    Maps to two multipliers, or with ``compact`` to one multiplier that computes both in turn.
    """

    def __init__(self, layouts: Layouts, *, compact: bool = False):
        self._compact = compact
        super().__init__({"shape": In(layouts.model_shape), "sizes": Out(layouts.sizes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = self.shape
        q_dim, k_dim = Signal.like(self.sizes.q_dim), Signal.like(self.sizes.q_dim)
        if self._compact:
            heads_next, size = Signal(), Signal.like(self.sizes.q_dim)
            m.d.sync += [heads_next.eq(~heads_next), size.eq(Mux(heads_next, shape.heads, shape.kv_heads) * shape.head_dim)]
            with m.If(heads_next):
                m.d.sync += k_dim.eq(size)
            with m.Else():
                m.d.sync += q_dim.eq(size)
        else:
            m.d.sync += [q_dim.eq(shape.heads * shape.head_dim), k_dim.eq(shape.kv_heads * shape.head_dim)]
        m.d.sync += [self.sizes.q_dim.eq(q_dim), self.sizes.qk_dim.eq(q_dim + k_dim)]
        return m


class TokenShares(wiring.Component):
    """For a chunk of ``chunk`` tokens: how many tokens each pipeline has (``own``), whether a pipeline has any (``has``),
    whether it has the last token (``has_last``), and the last token's number.  A cycle after ``chunk``."""

    def __init__(self, layouts: Layouts, *, streams: int):
        widths = layouts.widths
        self._streams, tokens = streams, widths.chunk
        super().__init__({"chunk": In(widths.token_count_bits), "own": Out(own_tokens(streams, tokens)).array(streams),
                          "has": Out(streams), "has_last": Out(streams), "last_token": Out(widths.token_bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        streams, shift = self._streams, shift_of(self._streams)
        chunk = self.chunk
        m.d.sync += self.last_token.eq(chunk - 1)
        for i, own in enumerate(self.own):
            m.d.sync += own.eq((chunk + (streams - 1 - i)) >> shift)
            m.d.comb += [self.has[i].eq(own != 0), self.has_last[i].eq(belongs(self.last_token, i, streams))]
        return m


class PassRouter(wiring.Component):
    """One pass for all pipelines.

    Settings and pulses go to each pipeline.  A quantise pass is of all tokens, or, for the LM head (``for_lm_head``), of the
    chunk's last token.  The pass begins in all pipelines that are asked in the same cycle, and each gets its own share of the
    tokens.

    ``passes.done``: all pipelines are done; and, if the unit that brings heads to attention can hold some (parameter ``holds``),
    ``delivered`` is high.  ``passes.nonfinite``: a pipeline reports one.  ``wanted``: the pipelines from which the pass's codes
    come.
    """

    def __init__(self, layouts: Layouts, *, streams: int, holds: bool = False):
        self._streams, self._holds = streams, holds
        passes, tokens = layouts.pass_control, layouts.widths.chunk
        super().__init__({
            "passes": In(passes), "units": Out(passes).array(streams), "for_lm_head": In(1),
            "own": In(own_tokens(streams, tokens)).array(streams), "has": In(streams), "has_last": In(streams),
            "wanted": Out(streams), **({"delivered": In(1)} if holds else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        passes, shift = self.passes, shift_of(self._streams)
        for i, unit in enumerate(self.units):
            m.d.comb += [
                unit.args.eq(passes.args), unit.clear.eq(passes.clear), unit.gain_start.eq(passes.gain_start),
                self.wanted[i].eq(Mux(self.for_lm_head, self.has_last[i], self.has[i])),
            ]
        delivered = [self.delivered] if self._holds else []
        m.d.comb += [passes.done.eq(Cat(*(unit.done for unit in self.units), *delivered).all()),
                     passes.nonfinite.eq(Cat(unit.nonfinite for unit in self.units).any())]
        # A cycle late: a pipeline that is ready stays so until it is asked.
        asked = passes.quant.valid & passes.quant.ready
        m.d.sync += passes.quant.ready.eq(
            Cat(unit.quant.ready | ~self.wanted[i] for i, unit in enumerate(self.units)).all() & ~asked)
        for i, unit in enumerate(self.units):
            m.d.comb += [unit.quant.payload.eq(passes.quant.payload), unit.quant.valid.eq(asked & self.wanted[i]),
                         unit.quant.p.first.eq(passes.quant.p.first >> shift),
                         unit.quant.p.tokens.eq(Mux(self.for_lm_head, 1, self.own[i]))]
        return m


class CodeRouter(wiring.Component):
    """Routes the codes of the pipelines (``codes``) to the engine, a stream each; or, for the LM head (``for_lm_head``), those
    of the pipeline with the last token to the engine's first stream.

    ``control`` is the processor's port to the LM head; it is passed on with ``d``, the scale of that pipeline's codes, or without
    where the LM head takes several tokens and knows the scales.  In a core with vector_norms the codes go to ``back`` while
    ``from_codes`` is set, a stream for each pipeline, and the engine sees none.
    ``valid``, a cycle late: each pipeline of ``wanted`` has a code.
    """

    def __init__(self, layouts: Layouts, *, streams: int):
        codes, self._all_heads, self._norms = stream.Signature(signed(8)), layouts.all_heads, layouts.vector_norms
        wide = stream.Signature(layouts.code)
        super().__init__({
            **({"from_codes": In(1), "back": Out(wide).array(streams)} if layouts.vector_norms else {}),
            "codes": In(wide).array(streams), **({} if self._all_heads else {"d": In(ScaleLayout).array(streams)}),
            "for_lm_head": In(1),
            "has_last": In(streams), "wanted": In(streams), "valid": Out(1), "engine": Out(codes).array(streams),
            "control": In(layouts.lm_head_control), "unit": Out(layouts.lm_head_control),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, (first, *_) = self.unit, self.engine
        m.d.comb += [
            unit.start.eq(self.control.start), unit.args.eq(self.control.args), self.control.done.eq(unit.done),
            self.control.best.eq(unit.best),
        ]
        if self._all_heads:
            m.d.comb += unit.number.eq(self.control.number)
        for i, (codes, engine) in enumerate(zip(self.codes, self.engine, strict=True)):
            m.d.comb += [engine.payload.eq(codes.payload), engine.valid.eq(codes.valid & (~self.for_lm_head | (i == 0))),
                         codes.ready.eq(Mux(self.for_lm_head, first.ready, engine.ready))]
        for i, codes in enumerate(self.codes):
            with m.If(self.has_last[i]):
                m.d.comb += [] if self._all_heads else unit.args.d.eq(self.d[i])
                with m.If(self.for_lm_head):
                    m.d.comb += [first.payload.eq(codes.payload), first.valid.eq(codes.valid)]
        if self._norms:
            for codes, engine, back in zip(self.codes, self.engine, self.back, strict=True):
                m.d.comb += [back.payload.eq(codes.payload), back.valid.eq(codes.valid & self.from_codes)]
                with m.If(self.from_codes):
                    m.d.comb += [engine.valid.eq(0), codes.ready.eq(back.ready)]
        m.d.sync += self.valid.eq(Cat(codes.valid | ~self.wanted[i] for i, codes in enumerate(self.codes)).all())
        return m


class WordRouter(wiring.Component):
    """Routes the words of the weight stream (``words``) to the unit that ``sink`` names.  Gains go to all pipelines, which take a
    word in each cycle.  ``gain_taken`` is a strobe."""

    def __init__(self, *, streams: int):
        words = stream.Signature(64)
        super().__init__({"words": In(words), "sink": In(WordSink), "gains": Out(words).array(streams), "engine": Out(words),
                          "gain_taken": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        first, *others = self.gains
        for sink, port in ((WordSink.GAIN, first), (WordSink.ENGINE, self.engine)):
            selected = self.sink == sink
            m.d.comb += [port.payload.eq(self.words.payload), port.valid.eq(self.words.valid & selected)]
            with m.If(selected):
                m.d.comb += self.words.ready.eq(port.ready)
        for port in others:
            m.d.comb += [port.payload.eq(first.payload), port.valid.eq(first.valid)]
        m.d.comb += self.gain_taken.eq(first.valid & first.ready)
        return m


class AccRouter(wiring.Component):
    """Routes accumulators into the pipelines (``out``) from the unit that ``source`` names.  The engine has a stream for each
    pipeline.  Accumulators of the row fetch and of attention go to the pipeline that has their token.  While ``for_lm_head`` is
    set and no source is named, those of the engine's first stream go to the LM head.  While ``for_all`` is set and no source is
    named, those of all streams go there, in each row the tokens in order, of which the last one is ``last_token``; a core has
    these two ports whose LM head takes several tokens.  In a core with vector_norms those of ``codes``, a stream for each
    pipeline, take the engine's place while ``from_codes`` is set."""

    def __init__(self, layouts: Layouts, *, streams: int):
        self._streams, self._all_heads, self._norms = streams, layouts.all_heads, layouts.vector_norms
        accs, token = stream.Signature(layouts.acc), layouts.widths.token_bits
        super().__init__({"source": In(AccSource), "for_lm_head": In(1),
                          **({"for_all": In(1), "last_token": In(token)} if self._all_heads else {}),
                          **({"from_codes": In(1), "codes": In(accs).array(streams)} if self._norms else {}),
                          "engine": In(accs).array(streams), "fetch": In(accs),
                          "attention": In(accs), "out": Out(accs).array(streams), "lm_head": Out(accs)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        first, *_ = self.engine
        to_lm_head = self.for_lm_head & (self.source == AccSource.NONE)
        m.d.comb += [self.lm_head.payload.eq(first.payload), self.lm_head.valid.eq(first.valid & to_lm_head)]
        with m.If(to_lm_head):
            m.d.comb += first.ready.eq(self.lm_head.ready)
        if self._all_heads:
            to_all, turn = self.for_all & (self.source == AccSource.NONE), Signal.like(self.last_token)
            with m.If(~to_all):
                m.d.sync += turn.eq(0)
            with m.Elif(self.lm_head.valid & self.lm_head.ready):
                m.d.sync += turn.eq(Mux(turn == self.last_token, 0, turn + 1))
            for i, engine in enumerate(self.engine):
                with m.If(to_all & belongs(turn, i, self._streams)):
                    m.d.comb += [self.lm_head.payload.eq(engine.payload), self.lm_head.valid.eq(engine.valid),
                                 engine.ready.eq(self.lm_head.ready)]
        for i, out in enumerate(self.out):
            from_engine: Value = self.source == AccSource.ENGINE
            if self._norms:
                from_engine = from_engine & ~self.from_codes
                with m.If((self.source == AccSource.ENGINE) & self.from_codes):
                    m.d.comb += [out.payload.eq(self.codes[i].payload), out.valid.eq(self.codes[i].valid),
                                 self.codes[i].ready.eq(out.ready)]
            with m.If(from_engine):
                m.d.comb += [out.payload.eq(self.engine[i].payload), out.valid.eq(self.engine[i].valid),
                             self.engine[i].ready.eq(out.ready)]
            for source, port in ((AccSource.FETCH, self.fetch), (AccSource.ATTENTION, self.attention)):
                with m.If((self.source == source) & belongs(port.p.place.token, i, self._streams)):
                    m.d.comb += [out.payload.eq(port.payload), out.valid.eq(port.valid), port.ready.eq(out.ready)]
        return m


class RopeRouter(wiring.Component):
    """Routes the RoPE words of token ``number`` to the token's pipeline (``out``, payloads of ``shape``), and the pulse before
    them. A word is taken in each cycle."""

    def __init__(self, layouts: Layouts, *, streams: int, shape: ShapeLike = 32):
        self._streams = streams
        super().__init__({"words": In(stream.Signature(32)), "number": In(layouts.widths.token_bits), "start": In(1),
                          "out": Out(stream.Signature(shape)).array(streams), "starts": Out(streams)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.words.ready.eq(1)
        for i, out in enumerate(self.out):
            mine = belongs(self.number, i, self._streams)
            m.d.comb += [out.payload.eq(self.words.payload), out.valid.eq(self.words.valid & mine),
                         self.starts[i].eq(self.start & mine)]
        return m


class StepCrc(wiring.Component):
    """CRC-32 of a step's monitored words, from the pipelines (the last one has priority) or from the LM head; only one of them
    shows a word at a time.  A word enters the CRC a cycle late.  ``store`` hands the CRC on with ``control.write``."""

    def __init__(self, layouts: Layouts, *, streams: int):
        super().__init__({"pipelines": In(MonitorLayout).array(streams), "lm_head": In(MonitorLayout),
                          "control": In(layouts.crc_control), "store": Out(layouts.crc_store)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = Crc32(16)
        monitor = Signal(MonitorLayout)
        m.d.sync += monitor.eq(self.lm_head)
        for shown in self.pipelines:
            with m.If(shown.valid):
                m.d.sync += monitor.eq(shown)
        m.d.comb += [
            crc.valid.eq(monitor.valid), crc.data.eq(monitor.word), crc.clear.eq(self.control.clear),
            self.store.step.eq(self.control.step), self.store.write.eq(self.control.write), self.store.value.eq(crc.crc),
        ]
        return m


class StatusWords(wiring.Component):
    """The answer to STATUS.  ``running`` and its bit are a cycle late, which does not matter: a packet takes many cycles.

    In a core with several slots the word behind those of StatusWord says which of them run.
    """

    def __init__(self, layouts: Layouts):
        self._slots = layouts.widths.slots
        super().__init__({"state": In(layouts.run_state), "sdram_ready": In(1), "training": In(32), "bad_packets": In(32),
                          "cycles": In(32), "running": Out(1), "status": Out(StatusLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state, status = self.state, self.status
        m.d.sync += self.running.eq(state.running)
        m.d.comb += [
            status.flags.running.eq(self.running), status.flags.sdram_ready.eq(self.sdram_ready),
            status.flags.nonfinite.eq(state.nonfinite), status.flags.stopped.eq(state.stopped),
            status.step.eq(state.step), status.position.eq(state.position), status.bad_packets.eq(self.bad_packets),
            status.cycles.eq(self.cycles), status.training.eq(self.training),
        ]
        if self._slots > 1:
            m.d.comb += status.zeros.eq(state.slots)
        return m


class CycleAccount(wiring.Component):
    """What a cycle is spent on, for the counters: the busy signals of the units, each under the activity's name.  What the engine
    does for the LM head, from the LM head's start to its end, counts for the LM head."""

    def __init__(self, *, streams: int):
        super().__init__({"engine": In(1), "draining": In(1), "settling": In(streams), "attention": In(1), "lm_head": In(1),
                          "clients": In(ClientStrobes), "refresh": In(1), "spent": Out(SpentLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spent = self.spent
        m.d.comb += [
            spent.engine.eq(self.engine & ~self.lm_head), spent.drain.eq(self.draining & ~self.lm_head),
            spent.norm.eq(self.settling.any()), spent.attention.eq(self.attention), spent.lm_head.eq(self.lm_head),
            spent.host.eq(self.clients.host_read | self.clients.host_write), spent.memory.eq(self.clients.as_value().any()),
            spent.refresh.eq(self.refresh),
        ]
        return m
