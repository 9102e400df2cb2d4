# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Command processor: runs the layer program for each token, from START to DONE."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import (
    AccSource,
    CountersControl,
    EventLayout,
    ResetControl,
    RunArgs,
    RunControl,
    TotalsLayout,
    WeightsControl,
    Word0Layout,
    WordSink,
)
from hw.lib.layouts import Layouts
from tellme.spec.memory import END_TOKENS, KV_PAGE, DoneReason, EventType, StartFlags
from tellme.spec.program import DESCRIPTOR_WORDS, WORD0_FIELDS, Epilogue, Op

__all__ = ["RESET_CYCLES", "CacheFinder", "CommandProcessor"]

LAYER_BITS = WORD0_FIELDS["layer"]
#: Cycles of a reset of the compute units: more than the longest way through registers without a reset.
RESET_CYCLES = 64


class CacheFinder(wiring.Component):
    """The addresses of a layer's KV cache, modulo the address space:

        k_base = kv_base + layer * layer_stride,  v_base = k_base + v_offset,  s_base = v_base + v_offset

    ``start`` is a pulse beside ``layer``.  ``layer`` and the shape must not change for ``cycles`` cycles from then on.  After
    these cycles the outputs are valid, until the next start.  The registers are multiples of KV_PAGE words; their lower bits
    are ignored.

    The arithmetic is bit-serial, the lowest bit first: the product with ``layer`` has one full adder for each bit of ``layer``,
    and three sums follow.  This takes no multiplier, no carry chain and some 60 LUTs.
    """

    LOW = KV_PAGE.bit_length() - 1

    def __init__(self, layouts: Layouts):
        address = layouts.widths.word_address_bits
        self._page_bits = address - self.LOW
        #: The start's own, and one for each bit of a page's number.
        self.cycles = 1 + self._page_bits
        super().__init__({"start": In(1), "layer": In(LAYER_BITS), "shape": In(layouts.model_shape), "k_base": Out(address),
                          "v_base": Out(address), "s_base": Out(address)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._page_bits
        at, busy = Signal(range(bits)), Signal()
        with m.If(self.start):
            m.d.sync += [at.eq(0), busy.eq(1)]
        with m.Elif(busy):
            m.d.sync += [at.eq(at + 1), busy.eq(at != bits - 1)]
        base, stride, offset = (Array(self.shape[name][self.LOW:])[at] for name in ("kv_base", "layer_stride", "v_offset"))

        def add(name: str, *terms: Value) -> Value:
            """The sum's bit; its carry waits for the next one."""
            carry, both = Signal(name=f"{name}_carry"), Signal(2, name=name)
            m.d.comb += both.eq(sum(terms) + carry)
            m.d.sync += carry.eq(both[1] & ~self.start)
            return both[0]

        # The partial sum of the bits of ``layer`` from a bit on moves down a place a cycle.
        product: Value = Const(0, 1)
        for i in reversed(range(LAYER_BITS)):
            above = Signal(name=f"above{i}")
            m.d.sync += above.eq(product & ~self.start)
            product = add(f"product{i}", stride & self.layer[i], above)
        k = add("k", product, base)
        v = add("v", k, offset)
        s = add("s", v, offset)
        for name, bit in (("k", k), ("v", v), ("s", s)):
            page = Signal(bits, name=f"{name}_page")
            with m.If(busy):
                m.d.sync += page.eq(Cat(page[1:], bit))
            m.d.comb += getattr(self, f"{name}_base").eq(Cat(Const(0, self.LOW), page))
        return m


class CommandProcessor(wiring.Component):
    """For each token, or each chunk of fed tokens: reads the program's descriptors in order and runs each step to its end.

    A chunk has up to widths.chunk tokens at consecutive positions, which share each weight; ``chunk`` says how many, while a
    program runs, and ``position`` is the first one's.  The LM head picks after the last fed token alone.

    A step: quantise (LINEAR, HEAD), load the gains of the next norm or of the heads of q and k, then the pass itself.  Of the
    codes only the first one is waited for: gains and tiles come in while the others are quantised.  The LM head's pass is the
    engine's, for one token and as many rows as the vocabulary has, or one more if that is odd; the sums go to the LM head's unit.
    In a core whose LM head takes several tokens, a run with StartFlags.ALL has the LM head's pass in each chunk, for all its
    tokens.  Then the chunk's picks are announced in the order of positions, each like a pick of one token.
    After the last fed token the LM head's pick, or with StartFlags.SAMPLE the sampler's, is written to token memory and
    announced; it is fed next until the run is done (:class:`tellme.spec.memory.StartArgs`).  Without a ``sampler`` the flag
    counts for nothing.  A step whose result was infinite or NaN ends the run with DoneReason.NONFINITE and its number.

    A run's end resets all compute units through ``compute_reset``, for RESET_CYCLES cycles and until their memory ports are
    drained: registers that only pass on what came to them have no reset, and empty meanwhile.  ``stop`` (a pulse) ends the
    run so in any state, with DoneReason.STOPPED; a stop while nothing runs does nothing.

    ``counting`` is high from START until the last token is announced, or the run is ended otherwise.

    A QKV linear finds its layer's caches by the layer's number (:class:`CacheFinder`) while it quantises; the ATTENTION that
    follows works on the same ones.

    Cost of control: 7 cycles a descriptor, 4 a chunk and 13 a token that is announced, one more a drawn token, and one a chunk of
    the prompt before all, beside the units' own latencies.
    """

    def __init__(self, layouts: Layouts, *, sampler: bool):
        self._layouts = layouts
        self._sampler = sampler
        super().__init__({
            "run": In(RunControl), "state": Out(layouts.run_state), "shape": In(layouts.model_shape), "sizes": In(layouts.sizes),
            # One cycle of read latency.
            "program": Out(layouts.program_port), "tokens": Out(layouts.token_port),
            "crc": Out(layouts.crc_control), "counters": Out(CountersControl),
            "weights": Out(WeightsControl), "fetch": Out(layouts.fetch_control),
            "engine": Out(stream.Signature(layouts.engine_args)), "attention": Out(layouts.attention_control),
            "passes": Out(layouts.pass_control),
            "lm_head": Out(layouts.lm_head_control), "routes": Out(layouts.route_control), "reset": Out(ResetControl),
            "event": Out(stream.Signature(EventLayout)),
            **({"draw": Out(layouts.draw_control)} if sampler else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m, widths = Module(), self._layouts.widths
        args, given = Signal(RunArgs), self.run.args
        running, stopped = Signal(), Signal()
        position, fetch_position = Signal(widths.position_bits), Signal(widths.position_bits)
        step, chunk = Signal(widths.step_bits), Signal(widths.token_count_bits)
        words = Array(Signal(32, name=f"descriptor{i}") for i in range(DESCRIPTOR_WORDS))
        w0 = data.View(Word0Layout, words[0])
        op, epilogue, gain_next = w0.op, w0.epilogue, w0.gain_next
        is_head = op == Op.HEAD
        rows, cols = words[1][:16], words[1][16:]
        feeds = Signal(16)          # tokens still to feed of those that START named
        limit = Signal.like(chunk)  # tokens of a chunk
        uncounted = Signal(16)      # fed tokens whose chunks are not counted yet
        last = Signal(widths.position_bits)     # position of the chunk's last token
        number = Signal(widths.token_bits)
        picked = Signal(16)
        token = Signal(widths.token_id_bits)
        fetched = Signal(range(DESCRIPTOR_WORDS + 1))
        m.submodules.caches = caches = CacheFinder(self._layouts)
        gains_left = Signal(widths.row_count_bits)
        out_len = Signal(widths.row_count_bits)     # elements of the step's output vector: as many gains may follow
        norms_heads = Signal()
        nonfinite = Signal()
        stopping = Signal()
        drain_wait, resetting = Signal(range(RESET_CYCLES + 1)), Signal()
        # With ALL: whether a pick follows each token, the number of the token whose pick is announced, and whether it is the last
        # fed one.
        all_heads = self._layouts.all_heads
        every, told, final = Signal(), Signal(widths.head_token_bits), Signal()
        # Of the chunk's last token alone.
        single: Value = is_head
        if all_heads:
            single = is_head & ~every
            m.d.comb += [
                every.eq((args.flags & StartFlags.ALL) != 0), self.engine.p.by_rows.eq(is_head & every),
                self.lm_head.args.tokens.eq(Mux(every, chunk, 1)), self.lm_head.args.first.eq(Mux(every, 0, chunk - 1)),
                self.lm_head.number.eq(told),
            ]
            m.d.sync += self.routes.for_all.eq(is_head & every)
        # These signals are registers of their own, because they go to most of the core.
        m.d.sync += [self.reset.compute.eq(resetting), self.reset.drain.eq(resetting)]
        reason = Signal(8)
        # Why a run ends with the token that was picked, from the cycle before its event on.
        at_end, at_length, at_context = Signal(), Signal(), Signal()
        next_position = Signal(widths.position_count_bits)
        # End tokens: a last bit says that the number is above each token's.
        ends = [Signal(widths.token_id_bits + 1, name=f"end{i}") for i in range(END_TOKENS)]
        # What is announced and fed next.
        pick, draws = Signal(self._layouts.best), Signal()
        if self._sampler:
            m.d.comb += [draws.eq((args.flags & StartFlags.SAMPLE) != 0), pick.eq(Mux(draws, self.draw.pick, self.lm_head.best)),
                         self.draw.position.eq(next_position)]
        else:
            m.d.comb += pick.eq(self.lm_head.best)
        m.d.sync += [at_end.eq(Cat(pick.id == end for end in ends).any()), at_length.eq(picked == args.generate),
                     at_context.eq(next_position >= self.shape.context), next_position.eq(position + 1)]

        m.d.comb += [
            # A matrix has an even number of rows.
            self.engine.p.rows.eq(Mux(is_head, Cat(Const(0, 1), (self.shape.vocab + 1)[1:]), rows)),
            self.engine.p.cols.eq(cols), self.engine.p.tokens.eq(Mux(single, 1, chunk)),
            caches.layer.eq(w0.layer), caches.shape.eq(self.shape),
            self.attention.args.k_base.eq(caches.k_base), self.attention.args.v_base.eq(caches.v_base),
            self.attention.args.s_base.eq(caches.s_base),
            self.passes.quant.p.src_a.eq(w0.src_a), self.passes.quant.p.gain.eq(w0.gain), self.passes.quant.p.norm.eq(w0.norm),
            self.passes.quant.p.n.eq(cols),
            self.passes.quant.p.tokens.eq(Mux(single, 1, chunk)),
            self.passes.quant.p.first.eq(Mux(single, chunk - 1, 0)),
            self.passes.args.relu2.eq(w0.relu2), self.passes.args.act_exp.eq(w0.act_exp),
            self.passes.args.stats_gain.eq(gain_next),
            self.passes.args.rope_rows.eq(self.sizes.qk_dim),
            self.fetch.args.token.eq(token), self.fetch.args.number.eq(number),
            last.eq(position + chunk - 1),
            self.tokens.wdata.eq(pick.id),
            self.lm_head.args.dump.eq((args.flags & StartFlags.DUMP) != 0),
            self.state.running.eq(running), self.state.stopped.eq(stopped), self.state.nonfinite.eq(nonfinite),
            self.state.step.eq(step), self.state.position.eq(position), self.crc.step.eq(step),
            self.fetch.args.position.eq(fetch_position), self.routes.chunk.eq(chunk),
            self.attention.args.position.eq(position), self.attention.args.chunk.eq(chunk),
            self.lm_head.args.vocab.eq(self.shape.vocab), self.lm_head.args.dump_base.eq(self.shape.logits_base),
        ]
        if self._layouts.two_steps:
            m.d.comb += [self.lm_head.args.two_steps.eq((args.flags & StartFlags.TWO_STEPS) != 0),
                         self.lm_head.args.drawn.eq((args.flags & StartFlags.SAMPLE) != 0), self.lm_head.args.low_page.eq(rows)]
        # A register, as codes' handshakes begin in it; a step's first ones are far behind its descriptor.
        m.d.sync += self.routes.for_lm_head.eq(single)
        qkv = (op == Op.LINEAR) & (epilogue == Epilogue.QKV)
        # The pipeline's settings of a pass.
        with m.Switch(op):
            with m.Case(Op.LINEAR):
                m.d.comb += [self.passes.args.epilogue.eq(epilogue), self.passes.args.use_d.eq(1)]
                if self._layouts.row_words:
                    m.d.comb += [self.passes.args.bias.eq(w0.bias), self.passes.args.head_gains.eq(w0.head_gains)]
            with m.Default():
                m.d.comb += [self.passes.args.epilogue.eq(Epilogue.STORE), self.passes.args.dest_a.eq(op == Op.ATTENTION)]
        with m.Switch(op):
            with m.Case(Op.ATTENTION):
                m.d.comb += out_len.eq(self.sizes.q_dim)
            with m.Case(Op.EMBED):
                m.d.comb += out_len.eq(self.shape.dim)
            with m.Default():
                m.d.comb += out_len.eq(Mux(epilogue == Epilogue.ACT, rows >> 1, rows))
                if self._layouts.row_words:
                    # The gains of q's heads, then those of k's.
                    with m.If(epilogue == Epilogue.QKV):
                        m.d.comb += out_len.eq(self.shape.head_dim << 1)
        # The numbers of the norm: the step's own while it quantises, then those of the norm of heads.
        n_eps: Value = words[2]
        sqrt_n: Value = words[3][:19]
        loads_gains: Value = gain_next
        if self._layouts.row_words:
            loads_gains = gain_next | w0.head_gains
            m.d.comb += self.passes.args.q_rows.eq(self.sizes.q_dim)
            n_eps = Mux(norms_heads, self.shape.head_n_eps, n_eps)
            sqrt_n = Mux(norms_heads, self.shape.head_sqrt_n.as_value(), sqrt_n)
        m.d.comb += [self.passes.args.n_eps.eq(n_eps), self.passes.args.sqrt_n.eq(sqrt_n)]
        m.d.comb += self.passes.args.length.eq(Mux(op == Op.LINEAR, rows, out_len))

        with m.If(self.passes.nonfinite & running):
            m.d.sync += nonfinite.eq(1)
        with m.If(self.run.stop & running):
            m.d.sync += stopping.eq(1)

        # word_sink and acc_source are registers that change with the state, as the streams' handshakes begin in them.
        with m.FSM() as fsm:
            m.d.comb += running.eq(~fsm.ongoing("IDLE"))
            # The end of a run is no token's cost: how long bursts under way take says nothing of it.
            m.d.comb += self.counters.running.eq(running & ~Cat(fsm.ongoing(s) for s in ("STOP", "RESET", "DRAIN", "DONE")).any())
            with m.State("IDLE"):
                with m.If(self.run.start):
                    m.d.sync += [args.eq(given), position.eq(given.position), feeds.eq(given.feed),
                                 picked.eq(0), nonfinite.eq(0), stopping.eq(0), stopped.eq(0),
                                 uncounted.eq(given.feed), self.weights.plain_tokens.eq(0),
                                 limit.eq(Mux((given.chunk == 0) | (given.chunk > widths.chunk), widths.chunk, given.chunk))]
                    m.d.sync += [end.eq(Cat(given.ends[i][:len(end) - 1], given.ends[i][len(end) - 1:].any()))
                                 for i, end in enumerate(ends)]
                    m.d.comb += self.counters.clear.eq((given.flags & StartFlags.CLEAR) != 0)
                    m.next = "COUNT"
            with m.State("COUNT"):
                # Passes without the LM head: all chunks of the prompt but the last, and that too if nothing is picked.
                m.d.sync += uncounted.eq(uncounted - limit)
                plain: Value = (uncounted > limit) | (args.generate == 0)
                with m.If(plain & ~every if all_heads else plain):
                    m.d.sync += self.weights.plain_tokens.eq(self.weights.plain_tokens + 1)
                with m.If(uncounted <= limit):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.weights.start.eq(1)
                m.next = "CHUNK"
            with m.State("CHUNK"):
                m.d.sync += [chunk.eq(Mux(feeds < limit, feeds, limit)), step.eq(0), fetched.eq(0)]
                m.d.sync += [told.eq(0), final.eq(1)] if all_heads else []
                m.next = "DESCRIPTOR"
            with m.State("DESCRIPTOR"):
                m.d.sync += fetched.eq(fetched + 1)
                m.d.comb += self.program.addr.eq(Cat(fetched[:2], step))
                with m.If(fetched != 0):
                    m.d.sync += words[(fetched - 1)[:2]].eq(self.program.data)
                # A QKV linear writes K and V, and has to know where; for all others nothing changes.
                m.d.comb += caches.start.eq((fetched == 2) & qkv)
                with m.If(fetched == DESCRIPTOR_WORDS):
                    m.next = "DISPATCH"
            with m.State("DISPATCH"):
                m.d.comb += self.crc.clear.eq(1)
                with m.If(stopping):
                    m.next = "STOP"
                with m.Else():
                    with m.Switch(op):
                        with m.Case(Op.EMBED, Op.ATTENTION):
                            m.next = "GAIN"
                        with m.Case(Op.LINEAR):
                            m.next = "QUANT"
                        with m.Case(Op.HEAD):
                            plain = (feeds > chunk) | (args.generate == 0)
                            with m.If(plain & ~every if all_heads else plain):
                                m.next = "NEXT-STEP"
                            with m.Else():
                                m.next = "QUANT"
                        with m.Default():
                            m.next = "TOKEN-DONE"
            with m.State("QUANT"):
                m.d.comb += self.passes.quant.valid.eq(1)
                with m.If(self.passes.quant.ready):
                    m.next = "CODES-TO"
            with m.State("CODES-TO"):
                # With the first code the scales are final: the LM head may start with its d, and the statistics that they came
                # from may be cleared.  The engine takes codes while the pass goes on to its gains and tiles.
                m.d.comb += self.engine.valid.eq(self.routes.code_valid)
                with m.If(self.engine.valid & self.engine.ready):
                    m.next = "GAIN"
                    with m.If(is_head):
                        m.d.comb += self.lm_head.start.eq(1)
                        m.d.sync += self.routes.word_sink.eq(WordSink.ENGINE)
                        m.next = "PASS"
                with m.If(stopping):
                    m.next = "STOP"
            with m.State("GAIN"):
                m.d.sync += [gains_left.eq(out_len), norms_heads.eq(w0.head_gains)]
                m.d.comb += self.passes.gain_start.eq(loads_gains)
                m.next = "PASS-START"
                with m.If(loads_gains):
                    m.d.sync += self.routes.word_sink.eq(WordSink.GAIN)
                    m.next = "GAINS"
            with m.State("GAINS"):
                with m.If(self.routes.gain_taken):
                    m.d.sync += gains_left.eq(gains_left - 4)
                    with m.If(gains_left <= 4):
                        m.d.sync += self.routes.word_sink.eq(WordSink.NONE)
                        m.next = "PASS-START"
                with m.If(stopping):
                    m.next = "STOP"
            with m.State("PASS-START"):
                m.d.comb += [self.passes.clear.eq(1),
                             self.attention.start.eq(op == Op.ATTENTION),
                             self.attention.begin.eq(qkv)]
                with m.Switch(op):
                    with m.Case(Op.EMBED):
                        m.d.sync += self.routes.acc_source.eq(AccSource.FETCH)
                    with m.Case(Op.LINEAR):
                        m.d.sync += [self.routes.acc_source.eq(AccSource.ENGINE), self.routes.word_sink.eq(WordSink.ENGINE)]
                    with m.Default():
                        m.d.sync += self.routes.acc_source.eq(AccSource.ATTENTION)
                m.d.sync += [number.eq(0), fetch_position.eq(position)]
                m.next = "PASS"
                with m.If(op == Op.EMBED):
                    m.next = "TOKEN"
            with m.State("TOKEN"):
                m.d.comb += [self.tokens.addr.eq(fetch_position), self.tokens.read.eq(1)]
                m.next = "TOKEN-DATA"
            with m.State("TOKEN-DATA"):
                m.d.sync += token.eq(self.tokens.data)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += self.fetch.start.eq(1)
                m.next = "FETCHING"
            with m.State("FETCHING"):
                with m.If(~self.fetch.busy):
                    m.d.sync += [number.eq(number + 1), fetch_position.eq(fetch_position + 1)]
                    m.next = "TOKEN"
                    with m.If(number + 1 == chunk):
                        m.next = "PASS"
                with m.If(stopping):
                    m.next = "STOP"
            with m.State("PASS"):
                m.d.sync += drain_wait.eq(0)
                with m.If(Mux(is_head, self.lm_head.done, self.passes.done)):
                    m.d.sync += [self.routes.word_sink.eq(WordSink.NONE), self.routes.acc_source.eq(AccSource.NONE)]
                    m.next = "STEP-DONE"
                with m.If(stopping):
                    m.next = "STOP"
            with m.State("STEP-DONE"):
                # Wait: the last words of the output stream are still on their way into the CRC.
                m.d.sync += drain_wait.eq(drain_wait + 1)
                with m.If(drain_wait == 3):
                    m.d.comb += self.crc.write.eq(1)
                    m.next = "NEXT-STEP"
                    with m.If(nonfinite):
                        m.d.sync += reason.eq(DoneReason.NONFINITE)
                        m.next = "RESET"
            with m.State("NEXT-STEP"):
                m.d.sync += [step.eq(step + 1), fetched.eq(0), norms_heads.eq(0)]
                m.next = "DESCRIPTOR"
            with m.State("TOKEN-DONE"):
                m.d.sync += [feeds.eq(feeds - chunk), position.eq(last)]
                with m.If(feeds > chunk):
                    m.d.sync += position.eq(last + 1)
                    m.next = "CHUNK"
                with m.Elif(args.generate == 0):
                    m.d.sync += reason.eq(DoneReason.LENGTH)
                    m.next = "RESET"
                with m.Else():
                    m.d.sync += [picked.eq(picked + 1), feeds.eq(1)]
                    m.next = "POSITION"
                if all_heads:
                    # The chunk's tokens count one by one, as their picks are announced.
                    with m.If(every):
                        m.d.sync += [feeds.eq(feeds), position.eq(position), picked.eq(picked), final.eq(feeds == 1)]
                        m.next = "POSITION"
            with m.State("POSITION"):
                # Two cycles until it is known where the next token lies, and whether that is in the context.
                m.next = "CONTEXT"
                if all_heads:
                    with m.If(every & final & (args.generate != 0)):
                        m.d.sync += picked.eq(picked + 1)
                    with m.If(stopping):
                        m.next = "STOP"
            with m.State("CONTEXT"):
                m.next = "PICK"
                if self._sampler:
                    m.d.comb += self.draw.start.eq(draws)
                    with m.If(draws):
                        m.next = "DRAW"
            if self._sampler:
                with m.State("DRAW"):
                    with m.If(~self.draw.busy):
                        m.next = "PICK"
                    with m.If(stopping):
                        m.next = "STOP"
            with m.State("PICK"):
                fed = ~at_context
                if all_heads:
                    # The token behind another one than the last is the prompt's.
                    fed = fed & final & (args.generate != 0)
                m.d.comb += [self.tokens.addr.eq(next_position), self.tokens.write.eq(fed)]
                m.next = "EVENT"
            with m.State("EVENT"):
                m.d.comb += [self.event.valid.eq(1), self.event.p.type.eq(EventType.TOKEN)]
                with m.If(self.event.ready):
                    m.next = "RESET"
                    with m.If(at_end):
                        m.d.sync += reason.eq(DoneReason.END_TOKEN)
                    with m.Elif(at_length):
                        m.d.sync += reason.eq(DoneReason.LENGTH)
                    with m.Elif(at_context):
                        m.d.sync += reason.eq(DoneReason.CONTEXT)
                    with m.Else():
                        m.d.sync += position.eq(next_position)
                        m.next = "CHUNK"
                    if all_heads:
                        with m.If(~final):
                            # The next token of the chunk, or of the next chunk.
                            m.d.sync += [position.eq(next_position), told.eq(told + 1), feeds.eq(feeds - 1), final.eq(feeds == 2)]
                            m.next = "POSITION"
                            with m.If(told + 1 == chunk):
                                m.next = "CHUNK"
                        with m.Elif(args.generate == 0):
                            m.d.sync += reason.eq(DoneReason.LENGTH)
                            m.next = "RESET"
            with m.State("STOP"):
                m.d.sync += [reason.eq(DoneReason.STOPPED), stopped.eq(1),
                             self.routes.word_sink.eq(WordSink.NONE), self.routes.acc_source.eq(AccSource.NONE)]
                m.next = "RESET"
            with m.State("RESET"):
                # Every run ends here: the weight buffer stops, the compute units are reset, their bursts end.
                m.d.comb += [self.weights.stop.eq(1), resetting.eq(1)]
                m.d.sync += drain_wait.eq(0)
                m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += resetting.eq(1)
                m.d.sync += drain_wait.eq(Mux(self.reset.clean & self.weights.idle, drain_wait + 1, 0))
                with m.If(drain_wait == RESET_CYCLES):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [self.event.valid.eq(1), self.event.p.type.eq(EventType.DONE)]
                with m.If(self.event.ready):
                    m.next = "IDLE"

        done, told = fsm.ongoing("DONE"), self.event.p.payload
        m.d.comb += [
            told.position.eq(position),
            told.id.eq(Mux(done & (reason == DoneReason.NONFINITE), step, pick.id)),
            told.logit.eq(Mux(done, reason, pick.logit)),
            *(told[name].eq(self.counters.totals[name]) for name in TotalsLayout.members),
        ]
        return m
