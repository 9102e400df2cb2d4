# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Command processor of a core with several slots: makes passes of the tokens of all sequences that run."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.core.steps import Steps
from hw.lib.control import (
    CountersControl,
    DrawLayout,
    EventLayout,
    ResetControl,
    TotalsLayout,
    run_control,
    weights_control,
)
from hw.lib.layouts import Layouts
from tellme.spec.memory import END_TOKENS, DoneReason, EventType, StartFlags

__all__ = ["SlotProcessor"]

#: Cycles from the number of a run until all that follows from the number counts: its slot's records and place, and what attention
#: makes of them.
SETTLED = 4


class SlotProcessor(wiring.Component):
    """Runs up to widths.slots sequences side by side, each in its slot, pass by pass (docs/decisions/0018-tokens-a-byte.md).

    A pass has a run of each of some slots, tokens at consecutive positions: first a token of each slot that decodes, in the order
    of the slots; then tokens of prompts, those of the slot whose START came first ahead of the others, as many as the slot's
    ``chunk`` and the lanes that are left allow.  :class:`hw.core.steps.Steps` says what the steps are.  EMBED goes by token.  An
    ATTENTION starts the unit once a run.  The LM head works for all tokens of the pass if the last token of a prompt is wanted,
    or a slot has StartFlags.ALL; else for the first ones, which decode; without any there is none.  It writes logits if a slot of
    the pass has StartFlags.DUMP.

    Behind the pass the runs' wanted tokens are told in order, drawn or not, as the slot says, and each run's progress is kept.
    A slot ends for the reasons of :class:`tellme.spec.memory.StartArgs`.  With DONE it is free.  ``run.stop`` (a pulse) with a
    bit a slot counts behind a pass; a slot that does not run is not stopped.

    ``run.start`` (a pulse) may come while ``open``, for a slot that does not run: ``state.slots`` has a bit for each that does.
    The slot counts from the next pass on.  ``open`` is low for at most 4 * widths.slots + 2 cycles.  ``settings``, the registers
    of sampling, are taken over with the start; ``draw_settings`` are those of the slot whose token is drawn.

    With the end of the last slot, ahead of its DONE, the weight buffer stops and the compute units are reset.  So they are behind
    a step whose result was infinite or NaN.  A pass of one slot ends the slot then, with DoneReason.NONFINITE and the step's
    number.  A pass of several slots is made anew, a slot a pass.

    ``weights.begin`` (a pulse) says at the beginning of each pass whether the LM head's segments come in it.

    ``counters.running`` is high from a START on until the last slot has told its last token, but in resets.

    Cost of control, beside that of the steps: a cycle a slot and 3 a prompt for making a pass, 5 a run each for its tokens and
    for the LM head's, 8 a run of an ATTENTION, 9 a run and 13 a token for telling, one more a drawn token.
    """

    def __init__(self, layouts: Layouts, *, sampler: bool):
        self._layouts = layouts
        self._sampler = sampler
        slots = layouts.widths.slots
        super().__init__({
            "run": In(run_control(slots)), "open": Out(1), "state": Out(layouts.run_state), "shape": In(layouts.model_shape),
            "sizes": In(layouts.sizes),
            # One cycle of read latency.
            "program": Out(layouts.program_port), "tokens": Out(layouts.token_port),
            "crc": Out(layouts.crc_control), "counters": Out(CountersControl),
            "weights": Out(weights_control(slots)), "fetch": Out(layouts.fetch_control),
            "engine": Out(stream.Signature(layouts.engine_args)), "attention": Out(layouts.attention_control),
            "passes": Out(layouts.pass_control),
            "lm_head": Out(layouts.lm_head_control), "routes": Out(layouts.route_control), "reset": Out(ResetControl),
            "event": Out(stream.Signature(EventLayout)),
            **({"draw": Out(layouts.draw_control), "settings": In(DrawLayout), "draw_settings": Out(DrawLayout)}
               if sampler else {}),
            **({"draft": Out(layouts.draft_control), "drafting": In(layouts.drafting)} if layouts.drafts else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m, w = Module(), self._layouts.widths
        slots, Slot = w.slots, range(w.slots)
        fetch_position = Signal(w.position_bits)
        pick = Signal(self._layouts.best)
        steps = Steps(m, self, self._layouts, fetch_position=fetch_position, pick=pick)
        chunk, is_head = steps.chunk, steps.is_head

        # ------------------------------------------------------------------ a slot's records: of START alone, and progress
        token_end = w.token_id_bits + 1
        ArgsLayout = data.StructLayout({
            "position": w.position_bits, "feed": 16, "generate": 16, "flags": sum(StartFlags).bit_length(),
            "limit": w.token_count_bits, "ends": data.ArrayLayout(token_end, END_TOKENS),
            **({"draw": DrawLayout} if self._sampler else {})})
        #: Position of the next token, tokens still to feed of those that START named, and tokens picked.
        ProgressLayout = data.StructLayout({"position": w.position_count_bits, "feeds": 16, "picked": 16})
        RunLayout = data.StructLayout({"slot": w.slot_bits, "tokens": w.token_count_bits})
        m.submodules.args = args_of = memory.Memory(shape=ArgsLayout, depth=slots, init=[])
        m.submodules.progress = progress_of = memory.Memory(shape=ProgressLayout, depth=slots, init=[])
        # The runs of a pass, and the slots with a prompt in the order of their STARTs.
        m.submodules.runs = runs = memory.Memory(shape=RunLayout, depth=slots, init=[])
        m.submodules.prompts = prompts = memory.Memory(shape=w.slot_bits, depth=slots, init=[])
        args_w, args_r = args_of.write_port(), args_of.read_port(domain="comb")
        progress_w, progress_r = progress_of.write_port(), progress_of.read_port(domain="comb")
        runs_w, runs_r = runs.write_port(), runs.read_port(domain="comb")
        prompts_w, prompts_r = prompts.write_port(), prompts.read_port(domain="comb")
        args, progress, run = args_r.data, progress_r.data, runs_r.data
        # Of each slot: it runs; its progress is not begun; it is to stop.
        active, fresh, stops = Signal(slots), Signal(slots), Signal(slots)
        stopped, failed = Signal(), Signal()

        def bit(flags: Value, number: Value) -> Value:
            return flags.bit_select(number, 1)

        given, given_slot = self.run.args, Signal(w.slot_bits)
        given_chunk = given.chunk[:16]
        # Prompts on the list; of a walk through it, the entry and where what stays of the list is written.
        listed, entry, kept = Signal(range(slots + 1)), Signal(range(slots + 1)), Signal(range(slots + 1))
        m.d.comb += [
            given_slot.eq(given.chunk[16:]),
            args_w.en.eq(self.run.start), args_w.addr.eq(given_slot), args_w.data.position.eq(given.position),
            args_w.data.feed.eq(Mux(given.feed == 0, 1, given.feed)), args_w.data.generate.eq(given.generate),
            args_w.data.flags.eq(given.flags),
            args_w.data.limit.eq(Mux((given_chunk == 0) | (given_chunk > w.chunk), w.chunk, given_chunk)),
            # A last bit says that an end token is above each token's number.
            *(args_w.data.ends[i].eq(Cat(given.ends[i][:token_end - 1], given.ends[i][token_end - 1:].any()))
              for i in range(END_TOKENS)),
            self.counters.clear.eq(self.run.start & ((given.flags & StartFlags.CLEAR) != 0)),
            prompts_w.en.eq(self.run.start), prompts_w.addr.eq(listed), prompts_w.data.eq(given_slot), prompts_r.addr.eq(entry),
        ]
        with m.If(self.run.start):
            m.d.sync += [bit(active, given_slot).eq(1), bit(fresh, given_slot).eq(1), bit(stops, given_slot).eq(0),
                         stopped.eq(0), failed.eq(0), listed.eq(listed + 1)]
        with m.If(self.run.stop):
            m.d.sync += stops.eq(stops | self.run.slots)

        # ------------------------------------------------------------------ the slot and the run in work
        slot, at_run, settled = Signal(w.slot_bits), Signal(Slot), Signal(range(SETTLED + 1))
        # Whether the slot is the run's; else what the states say.
        follows = Signal()
        # The runs of the pass, those of them that are in work, and whether these are one after another a pass of their own.
        made, first_run, end_run, alone = Signal(range(slots + 1)), Signal(Slot), Signal(range(slots + 1)), Signal()
        ready, is_last_run, slot_place = Signal(), Signal(), Signal(w.row_place_bits)
        every, generates, decodes = Signal(), Signal(), Signal()
        m.d.comb += [
            args_r.addr.eq(slot), progress_r.addr.eq(slot), progress_w.addr.eq(slot), runs_r.addr.eq(at_run),
            ready.eq(settled == SETTLED), is_last_run.eq(at_run + 1 == end_run),
            every.eq((args.flags & StartFlags.ALL) != 0), generates.eq(args.generate != 0), decodes.eq(progress.feeds == 0),
        ]
        # slot * context: an addend for each bit of the slot.
        context = self.shape.context
        addends = [Mux(slot[i], context << i if i else context, 0) for i in range(w.slot_bits)]
        m.d.sync += slot_place.eq(sum(addends[1:], start=addends[0]))
        with m.If(follows):
            m.d.sync += slot.eq(run.slot)
        with m.If(~ready):
            m.d.sync += settled.eq(settled + 1)

        def go_to(number: Value | int) -> None:
            m.d.sync += [at_run.eq(number), settled.eq(0)]

        # ------------------------------------------------------------------ the pass, and what is told behind it
        lanes_left, most = Signal(w.token_count_bits, init=w.chunk), Signal(w.token_count_bits)
        taken = Signal(w.token_count_bits)
        m.d.comb += taken.eq(Mux(progress.feeds < most, progress.feeds, most))
        # Tokens of the runs before the one in work; tokens of the run that are left.
        before, in_run = Signal(w.token_count_bits), Signal(w.token_count_bits)
        # Tokens that decode, and whether the LM head works for all; for how many it works; whether logits are written.
        decoding, whole, headed, dumps = Signal(w.token_count_bits), Signal(), Signal(w.token_count_bits), Signal()
        # The token that is told: its position, the tokens to feed with it, its number in the pass.
        position, feeds, told = Signal(w.position_bits), Signal(16), Signal(w.head_token_bits)
        picked, final = Signal(16), Signal()
        at_end, at_length, at_context = Signal(), Signal(), Signal()
        next_position = Signal(w.position_count_bits)
        draws = Signal()
        # The weight buffer stands; the pass is to be made anew; stops are looked for.
        halted, again, scanning = Signal(init=1), Signal(), Signal()
        reason = Signal(8)
        m.d.comb += [final.eq(feeds == 1), pick.eq(self.lm_head.best)]
        if self._sampler:
            m.d.comb += [
                args_w.data.draw.eq(self.settings), self.draw_settings.eq(args.draw), self.draw.position.eq(next_position),
                draws.eq((args.flags & StartFlags.SAMPLE) != 0), pick.eq(Mux(draws, self.draw.pick, self.lm_head.best)),
            ]
        m.d.sync += [at_end.eq(Cat(pick.id == end for end in args.ends).any()), at_length.eq(picked == args.generate),
                     at_context.eq(next_position >= self.shape.context), next_position.eq(position + 1)]

        # ------------------------------------------------------------------ to the units
        shared = Mux(is_head, headed, chunk)
        steps.connect(shared=shared, first=0)
        steps.tell(tokens=shared, dump=dumps, running=active.any(), stopped=stopped, nonfinite=failed,
                   position=progress.position)
        steps.settings()
        window_bits = (w.token_window - 1).bit_length()
        m.d.comb += [
            self.state.slots.eq(active), self.engine.p.by_rows.eq(is_head),
            self.lm_head.args.tokens.eq(headed), self.lm_head.number.eq(told), self.weights.lm_head.eq(headed != 0),
            self.attention.args.run_tokens.eq(run.tokens), self.attention.args.after.eq(chunk - before - run.tokens),
            self.attention.args.slot_place.eq(slot_place),
            self.attention.row_place.en.eq(self.fetch.start), self.attention.row_place.token.eq(steps.number),
            self.attention.row_place.place.eq(slot_place + fetch_position), self.attention.row_place.left.eq(in_run),
        ]
        # Registers of their own, because they go to most of the core, or handshakes begin in them.
        m.d.sync += [self.reset.compute.eq(steps.resetting), self.reset.drain.eq(steps.resetting),
                     self.routes.for_all.eq(is_head)]

        def begun() -> None:
            m.next = "PASS"
            with m.If(steps.embeds):
                m.next = "RUN-TOKENS"
            with m.Elif(steps.attends):
                go_to(first_run)
                m.d.sync += before.eq(0)
                m.next = "RUN-ATTENDS"

        def next_token() -> None:
            m.d.sync += in_run.eq(in_run - 1)
            with m.If(in_run == 1):
                go_to(at_run + 1)
                m.next = "RUN-TOKENS"

        def fault() -> None:
            go_to(first_run)
            m.next = "FAULT"

        def drained() -> None:
            m.next = "DONE"
            with m.If(again):
                m.d.sync += again.eq(0)
                m.next = "BEGIN"

        running = Signal()
        with m.If(self.passes.nonfinite & running):
            m.d.sync += steps.nonfinite.eq(1)
        with m.If(steps.resetting):
            m.d.sync += halted.eq(1)
        with m.FSM() as fsm:
            m.d.comb += [
                running.eq(~fsm.ongoing("IDLE")),
                self.open.eq(~Cat(fsm.ongoing(s) for s in ("MAKE", "DECODING", "LIST", "LOOK", "TAKE", "ENDING",
                                                           "REMOVE")).any()),
                # The end of a run is no token's cost: how long bursts under way take says nothing of it.
                self.counters.running.eq(running & ~(fsm.ongoing("RESET") | fsm.ongoing("DRAIN")
                                                     | (fsm.ongoing("DONE") & halted))),
            ]
            with m.State("IDLE"):
                m.d.sync += alone.eq(0)
                with m.If(active.any()):
                    m.next = "MAKE"

            # -------------------------------------------------------------- making a pass
            with m.State("MAKE"):
                m.d.sync += [slot.eq(0), follows.eq(0), made.eq(0), lanes_left.eq(w.chunk), entry.eq(0), kept.eq(0)]
                m.next = "DECODING"
            with m.State("DECODING"):
                with m.If(bit(active & ~fresh, slot) & decodes):
                    m.d.comb += [runs_w.en.eq(1), runs_w.data.tokens.eq(1)]
                    m.d.sync += [made.eq(made + 1), lanes_left.eq(lanes_left - 1)]
                m.d.sync += slot.eq(slot + 1)
                with m.If(slot == slots - 1):
                    m.next = "LIST"
            with m.State("LIST"):
                m.d.sync += slot.eq(prompts_r.data)
                m.next = "LOOK"
                with m.If(entry == listed):
                    m.d.sync += [listed.eq(kept), first_run.eq(0), end_run.eq(made)]
                    m.next = "BEGIN"
            with m.State("LOOK"):
                m.d.sync += most.eq(Mux(args.limit < lanes_left, args.limit, lanes_left))
                with m.If(bit(fresh, slot)):
                    m.d.comb += [progress_w.en.eq(1), progress_w.data.position.eq(args.position),
                                 progress_w.data.feeds.eq(args.feed)]
                    m.d.sync += bit(fresh, slot).eq(0)
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += runs_w.data.tokens.eq(taken)
                with m.If(most != 0):
                    m.d.comb += runs_w.en.eq(1)
                    m.d.sync += [made.eq(made + 1), lanes_left.eq(lanes_left - taken)]
                with m.If(progress.feeds != taken):
                    m.d.comb += [prompts_w.en.eq(1), prompts_w.addr.eq(kept), prompts_w.data.eq(slot)]
                    m.d.sync += kept.eq(kept + 1)
                m.d.sync += entry.eq(entry + 1)
                m.next = "LIST"
            m.d.comb += [runs_w.addr.eq(made), runs_w.data.slot.eq(slot)]

            # -------------------------------------------------------------- a pass of the runs first_run to end_run - 1
            with m.State("BEGIN"):
                m.d.comb += self.weights.start.eq(halted)
                m.d.sync += [halted.eq(0), steps.nonfinite.eq(0), follows.eq(1), chunk.eq(0), decoding.eq(0), whole.eq(0),
                             dumps.eq(0)]
                go_to(first_run)
                m.next = "COUNT"
            with m.State("COUNT"):
                with m.If(ready):
                    ends = ~decodes & (progress.feeds == run.tokens) & generates
                    m.d.sync += [chunk.eq(chunk + run.tokens), decoding.eq(decoding + decodes),
                                 whole.eq(whole | (~decodes & every) | ends),
                                 dumps.eq(dumps | ((args.flags & StartFlags.DUMP) != 0))]
                    go_to(at_run + 1)
                    with m.If(is_last_run):
                        m.next = "HEADED"
            with m.State("HEADED"):
                m.d.sync += headed.eq(Mux(whole, chunk, decoding))
                m.next = "CHUNK"
            with m.State("CHUNK"):
                m.d.comb += self.weights.begin.eq(1)
                m.d.sync += [steps.step.eq(0), steps.fetched.eq(0)]
                go_to(first_run)
                m.next = "DESCRIPTOR"
            steps.states(plain=headed == 0, done="TELL-RUNS", token_address=Cat(fetch_position[:window_bits], slot), begun=begun,
                         fault=fault, next_token=next_token, starts_attention=False)
            with m.State("RUN-TOKENS"):
                m.d.sync += [fetch_position.eq(progress.position), in_run.eq(run.tokens)]
                with m.If(ready):
                    m.next = "TOKEN"
            with m.State("RUN-ATTENDS"):
                with m.If(ready):
                    m.next = "RUN-STARTS"
            with m.State("RUN-STARTS"):
                m.d.comb += self.attention.start.eq(1)
                m.next = "RUN-BEGUN"
            with m.State("RUN-BEGUN"):
                m.next = "RUN-BUSY"
                with m.If(is_last_run):
                    m.next = "PASS"
            with m.State("RUN-BUSY"):
                with m.If(~self.attention.busy):
                    m.d.sync += before.eq(before + run.tokens)
                    go_to(at_run + 1)
                    m.next = "RUN-ATTENDS"

            # -------------------------------------------------------------- the runs' wanted tokens
            with m.State("TELL-RUNS"):
                m.d.sync += told.eq(0)
                go_to(first_run)
                m.next = "TELL-RUN"
            with m.State("TELL-RUN"):
                m.d.sync += [position.eq(progress.position), feeds.eq(Mux(decodes, 1, progress.feeds)), in_run.eq(run.tokens),
                             picked.eq(progress.picked)]
                with m.If(ready):
                    m.next = "SKIP"
            with m.State("SKIP"):
                with m.If(~every):
                    # To the run's last token.
                    m.d.sync += [position.eq(position + in_run - 1), feeds.eq(feeds - in_run + 1), told.eq(told + in_run - 1),
                                 in_run.eq(1)]
                m.next = "WANTED"
            with m.State("WANTED"):
                m.next = "KEEP"
                with m.If(every | (final & generates)):
                    m.next = "POSITION"
            with m.State("POSITION"):
                # Two cycles until it is known where the next token lies, and whether that is in the context.
                with m.If(final & generates):
                    m.d.sync += picked.eq(picked + 1)
                m.next = "CONTEXT"
            steps.pick_states(address=Cat(next_position[:window_bits], slot), fed=~at_context & final & generates,
                              draws=draws if self._sampler else None)
            with m.State("EVENT"):
                m.d.comb += [self.event.valid.eq(1), self.event.p.type.eq(EventType.TOKEN)]
                with m.If(self.event.ready):
                    m.next = "KEEP"
                    with m.If(in_run != 1):
                        m.d.sync += [position.eq(next_position), feeds.eq(feeds - 1), told.eq(told + 1), in_run.eq(in_run - 1)]
                        m.next = "POSITION"
                    with m.Elif(final & generates):
                        with m.If(at_end):
                            m.d.sync += reason.eq(DoneReason.END_TOKEN)
                            m.next = "ENDING"
                        with m.Elif(at_length):
                            m.d.sync += reason.eq(DoneReason.LENGTH)
                            m.next = "ENDING"
                        with m.Elif(at_context):
                            m.d.sync += reason.eq(DoneReason.CONTEXT)
                            m.next = "ENDING"
            with m.State("KEEP"):
                m.d.comb += [progress_w.en.eq(1), progress_w.data.position.eq(next_position),
                             progress_w.data.feeds.eq(feeds - 1), progress_w.data.picked.eq(picked)]
                m.next = "NEXT-RUN"
                with m.If(final & ~generates):
                    m.d.sync += reason.eq(DoneReason.LENGTH)
                    m.next = "ENDING"
            with m.State("NEXT-RUN"):
                m.d.sync += told.eq(told + 1)
                go_to(at_run + 1)
                m.next = "TELL-RUN"
                with m.If(is_last_run):
                    m.next = "STOPS"
                    with m.If(alone & (end_run != made)):
                        # The next run, alone too.
                        m.d.sync += [first_run.eq(end_run), end_run.eq(end_run + 1)]
                        m.next = "BEGIN"

            # -------------------------------------------------------------- ends
            with m.State("STOPS"):
                m.d.sync += [slot.eq(0), follows.eq(0), scanning.eq(1), alone.eq(0)]
                m.next = "STOP"
            with m.State("STOP"):
                # The last token that was fed, or where START began.
                none_fed = bit(fresh, slot) | (progress.position == args.position)
                m.d.sync += [position.eq(Mux(none_fed, args.position, progress.position - 1)),
                             reason.eq(DoneReason.STOPPED)]
                m.next = "NEXT-STOP"
                with m.If(bit(active & stops, slot)):
                    m.d.sync += stopped.eq(1)
                    m.next = "ENDING"
            with m.State("NEXT-STOP"):
                m.d.sync += slot.eq(slot + 1)
                m.next = "STOP"
                with m.If(slot == slots - 1):
                    m.d.sync += scanning.eq(0)
                    m.next = "MAKE"
            with m.State("FAULT"):
                with m.If(ready):
                    m.d.sync += [position.eq(progress.position), reason.eq(DoneReason.NONFINITE), failed.eq(1)]
                    m.next = "ENDING"
                    with m.If(~is_last_run):
                        # Which of the slots is at fault?
                        m.d.sync += [alone.eq(1), end_run.eq(1), again.eq(1), failed.eq(0)]
                        m.next = "RESET"
            with m.State("ENDING"):
                m.d.sync += [entry.eq(0), kept.eq(0)]
                m.next = "REMOVE"
            with m.State("REMOVE"):
                # A prompt that is not fed to its end leaves the list.
                with m.If((entry != listed) & (prompts_r.data != slot)):
                    m.d.comb += [prompts_w.en.eq(1), prompts_w.addr.eq(kept), prompts_w.data.eq(prompts_r.data)]
                    m.d.sync += kept.eq(kept + 1)
                m.d.sync += entry.eq(entry + 1)
                with m.If(entry == listed):
                    m.d.sync += listed.eq(kept)
                    m.next = "DONE"
                    with m.If((reason == DoneReason.NONFINITE) | (active == Const(1, slots) << slot)):
                        m.next = "RESET"
            steps.reset_states(drained)
            with m.State("DONE"):
                m.d.comb += [self.event.valid.eq(1), self.event.p.type.eq(EventType.DONE)]
                with m.If(self.event.ready):
                    m.d.sync += bit(active, slot).eq(0)
                    m.next = "NEXT-RUN"
                    with m.If(scanning):
                        m.next = "NEXT-STOP"
                    with m.If((active & ~(Const(1, slots) << slot)[:slots]) == 0):
                        m.d.sync += scanning.eq(0)
                        m.next = "IDLE"

        done, event = fsm.ongoing("DONE"), self.event.p.payload
        m.d.comb += [
            event.position.eq(Cat(position, Const(0, 16 - len(position)), slot)),
            event.id.eq(Mux(done & (reason == DoneReason.NONFINITE), steps.step, pick.id)),
            event.logit.eq(Mux(done, reason, pick.logit)),
            *(event[name].eq(self.counters.totals[name]) for name in TotalsLayout.members),
        ]
        return m
