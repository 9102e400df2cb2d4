# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Command processor: runs the layer program for each token, from START to DONE."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.core.steps import Steps
from hw.lib.control import (
    AccSource,
    CountersControl,
    EventLayout,
    ResetControl,
    RunArgs,
    RunControl,
    TotalsLayout,
    WeightsControl,
    WordSink,
)
from hw.lib.layouts import Layouts
from tellme.spec.memory import END_TOKENS, DoneReason, EventType, StartFlags

__all__ = ["CommandProcessor"]


class CommandProcessor(wiring.Component):
    """For each token, or each chunk of fed tokens: reads the program's descriptors in order and runs each step to its end.

    A chunk has up to widths.chunk tokens at consecutive positions, which share each weight; ``chunk`` says how many, while a
    program runs, and ``position`` is the first one's.  The LM head picks after the last fed token alone.

    :class:`hw.core.steps.Steps` says what a step is.  The LM head's pass is for one token.
    In a core whose LM head takes several tokens, a run with StartFlags.ALL has the LM head's pass in each chunk, for all its
    tokens.  Then the chunk's picks are announced in the order of positions, each like a pick of one token.
    After the last fed token the LM head's pick, or with StartFlags.SAMPLE the sampler's, is written to token memory and
    announced; it is fed next until the run is done (:class:`tellme.spec.memory.StartArgs`).  Without a ``sampler`` the flag
    counts for nothing.  A step whose result was infinite or NaN ends the run with DoneReason.NONFINITE and its number.

    A run's end resets all compute units through ``reset``.  ``stop`` (a pulse) ends the run so in any state, with
    DoneReason.STOPPED; a stop while nothing runs does nothing.

    ``counters.running`` is high from START until the last token is announced, or the run is ended otherwise.

    Cost of control: that of the steps, 4 cycles a chunk and 13 a token that is announced, one more a drawn token, and one a chunk
    of the prompt before all, beside the units' own latencies.
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
        position, fetch_position = Signal(widths.position_bits), Signal(widths.position_bits, name="fetch_position")
        # What is announced and fed next.
        pick, draws = Signal(self._layouts.best), Signal()
        steps = Steps(m, self, self._layouts, fetch_position=fetch_position, pick=pick)
        step, chunk, nonfinite, is_head = steps.step, steps.chunk, steps.nonfinite, steps.is_head
        feeds = Signal(16)          # tokens still to feed of those that START named
        limit = Signal.like(chunk)  # tokens of a chunk
        uncounted = Signal(16)      # fed tokens whose chunks are not counted yet
        last = Signal(widths.position_bits)     # position of the chunk's last token
        picked = Signal(16)
        stopping = Signal()
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
        m.d.sync += [self.reset.compute.eq(steps.resetting), self.reset.drain.eq(steps.resetting)]
        reason = Signal(8)
        # Why a run ends with the token that was picked, from the cycle before its event on.
        at_end, at_length, at_context = Signal(), Signal(), Signal()
        next_position = Signal(widths.position_count_bits)
        # End tokens: a last bit says that the number is above each token's.
        ends = [Signal(widths.token_id_bits + 1, name=f"end{i}") for i in range(END_TOKENS)]
        if self._sampler:
            m.d.comb += [draws.eq((args.flags & StartFlags.SAMPLE) != 0), pick.eq(Mux(draws, self.draw.pick, self.lm_head.best)),
                         self.draw.position.eq(next_position)]
        else:
            m.d.comb += pick.eq(self.lm_head.best)
        m.d.sync += [at_end.eq(Cat(pick.id == end for end in ends).any()), at_length.eq(picked == args.generate),
                     at_context.eq(next_position >= self.shape.context), next_position.eq(position + 1)]

        steps.connect(shared=Mux(single, 1, chunk), first=Mux(single, chunk - 1, 0))
        m.d.comb += last.eq(position + chunk - 1)
        steps.tell(tokens=chunk, dump=(args.flags & StartFlags.DUMP) != 0, running=running, stopped=stopped, nonfinite=nonfinite,
                   position=position)
        if self._layouts.two_steps:
            m.d.comb += [self.lm_head.args.two_steps.eq((args.flags & StartFlags.TWO_STEPS) != 0),
                         self.lm_head.args.drawn.eq((args.flags & StartFlags.SAMPLE) != 0),
                         self.lm_head.args.low_page.eq(steps.rows)]
        # A register, as codes' handshakes begin in it; a step's first ones are far behind its descriptor.
        m.d.sync += self.routes.for_lm_head.eq(single)
        steps.settings()

        with m.If(self.passes.nonfinite & running):
            m.d.sync += nonfinite.eq(1)
        with m.If(self.run.stop & running):
            m.d.sync += stopping.eq(1)

        def begun() -> None:
            m.d.sync += fetch_position.eq(position)
            m.next = "PASS"
            with m.If(steps.embeds):
                m.next = "TOKEN"

        def fault() -> None:
            m.d.sync += reason.eq(DoneReason.NONFINITE)
            m.next = "RESET"

        def ended() -> None:
            m.next = "DONE"

        fed: Value = ~at_context
        if all_heads:
            # The token behind another one than the last is the prompt's.
            fed = fed & final & (args.generate != 0)
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
                m.d.sync += chunk.eq(Mux(feeds < limit, feeds, limit))
                steps.begin()
                m.d.sync += [told.eq(0), final.eq(1)] if all_heads else []
            plain = (feeds > chunk) | (args.generate == 0)
            steps.states(plain=plain & ~every if all_heads else plain, done="TOKEN-DONE", token_address=fetch_position,
                         begun=begun, fault=fault, stopping=stopping)
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
            steps.pick_states(address=next_position, fed=fed, draws=draws if self._sampler else None, stopping=stopping)
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
            # Every run ends here.
            steps.reset_states(ended)
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
