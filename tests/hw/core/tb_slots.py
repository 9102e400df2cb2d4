# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The command processor of a core with several slots, alone: which passes it makes, what it tells the units, and its events.

The units are models: a pick is a number made of the token before it and its position, and a token of the kind BAD gives an
infinity in the first LINEAR.  What a pass has to have is written down here once more, by the rule of decision 18.  A core that
drafts tokens has the model of a table beside it, which answers at random late what a sequence will pick, another token, or none.
"""

import os
from collections import Counter
from dataclasses import dataclass, field

import cocotb
from cocotb.triggers import FallingEdge

from hw.attention.prefill import PrefillAttention
from hw.core.slots import SlotProcessor
from hw.lib.control import Draft, DrawLayout, EventLayout, Pair, RunArgs, TotalsLayout, WordSink
from sim.cocotb_streams import clocked, report, report_point, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.drafts import Drafting
from tellme.spec.memory import DoneReason, EventType, StartArgs, StartFlags
from tellme.spec.program import Descriptor, Epilogue, Op
from tests.hw.inputs import Inputs
from tests.hw.layouts import fields, layouts_of, pack, unpack

FOUR = {"chunk": 4, "head_tokens": 4, "slots": 4, "max_context": 40}
#: "words" reads descriptors word by word.
SHAPES = {"four": {**FOUR, "wide_program": True}, "words": FOUR,
          "eight": {"chunk": 8, "head_tokens": 8, "slots": 8, "max_context": 130, "wide_program": True},
          "two": {"chunk": 4, "head_tokens": 4, "slots": 2, "max_context": 33},
          "five": {"chunk": 5, "lanes": 10, "head_tokens": 5, "slots": 4, "max_context": 50, "ddr3_chip": "MT41K256M16",
                   "wide_program": True}}
#: The same with drafts; and more lanes than a slot may draft tokens.
SHAPES |= {f"drafts-{name}": shape | {"drafts": True, "sampler": True} for name, shape in (
    *SHAPES.items(), ("sixteen", {"chunk": 16, "head_tokens": 16, "slots": 2, "max_context": 70, "wide_program": True}))}
BENCHES = [Bench(name=name, build=lambda shape=shape: SlotProcessor(layouts_of(**shape), sampler=True), env={"SHAPE": name},
                 tests=() if shape.get("drafts") else ("sequences_join_and_leave", "a_start_of_no_tokens_feeds_one"),
                 nightly="" if name == "drafts-four" else "other numbers of slots and lanes, or descriptors word by word; CI has "
                                                          "four of both, with drafts, and descriptors at once")
           for name, shape in SHAPES.items()]
POINTS = (*(f"end: {reason.name}" for reason in DoneReason), "limit: a pass of all slots", "limit: a pass of all lanes",
          "limit: a START of more tokens a pass than there are lanes", "limit: a START of no tokens",
          "limit: as many drafts as register and lanes allow")
#: Cycles for which a run's arguments stand before attention starts with it.
ARGS_CYCLES = PrefillAttention.ARGS_CYCLES
LAYOUTS = layouts_of(**SHAPES[os.environ.get("SHAPE", "four")])
W = LAYOUTS.widths
SLOTS, LANES, WINDOW, DRAFTS = W.slots, W.chunk, W.token_window, W.drafts
#: The model's context is shorter than the core's.
CONTEXT = W.context - 3
VOCAB = 251
TOKEN, DONE = EventType
#: Joins of a random schedule.
JOINS = int(os.environ.get("TELLME_VECTORS", "60"))
#: Steps with gains and without, of heads too where the core has them, and all settings of a pass.
PROGRAM = [Descriptor(Op.EMBED, gain_next=True),
           Descriptor(Op.LINEAR, Epilogue.QKV, norm=True, gain=True, head_gains=LAYOUTS.row_words, rows=48, cols=16),
           Descriptor(Op.ATTENTION),
           Descriptor(Op.LINEAR, Epilogue.ACT, relu2=True, bias=LAYOUTS.row_words, gain_next=True, rows=64, cols=16),
           Descriptor(Op.LINEAR, Epilogue.RESIDUAL, src_a=True, norm=True, gain=True, rows=16, cols=32),
           Descriptor(Op.HEAD, norm=True, cols=16), Descriptor(Op.END)]
#: Few steps, in which more passes have time.
SHORT = [Descriptor(Op.EMBED), Descriptor(Op.LINEAR, Epilogue.QKV, rows=48, cols=16), Descriptor(Op.ATTENTION),
         Descriptor(Op.LINEAR, rows=16, cols=16), Descriptor(Op.HEAD, cols=16), Descriptor(Op.END)]


def words_of(program):
    """What the program memory shows at an address: a word, or all words of a descriptor, the first one lowest."""
    if LAYOUTS.wide_program:
        return [sum(word << 32 * i for i, word in enumerate(step.pack())) for step in program]
    return [word for step in program for word in step.pack()]


def gains_of(step):
    """Gains that a step loads: of the heads of q and of k, or of the vector that it gives."""
    if step.head_gains:
        return 32
    return step.gain_next * (16 if step.op == Op.EMBED else step.rows // 2 if step.epilogue == Epilogue.ACT else step.rows)


QKV_STEP = 1


def bad(token):
    """Whether a token gives an infinity."""
    return token % 50 == 49


def pick_of(token, position):
    """The likeliest token behind a token."""
    return (token * 7 + position * 13 + 5) % VOCAB


def logit_of(token, position):
    return (token * 1009 + position) % 9973 - 4000


def draw_of(pick, position, seed):
    """What the sampler draws for a position."""
    return (pick + 3 * position + seed) % VOCAB


@dataclass
class Slot:
    """What a slot's run is, and how far it is."""

    args: StartArgs
    seed: int
    position: int
    feed: int
    #: Its tokens by their positions: those of START, and picks that are to be fed.
    ids: dict = field(default_factory=dict)
    picked: int = 0
    stopped: bool = False
    #: Passes with the slot since it was to stop.
    passes: int = 0
    drafting: Drafting = field(default_factory=Drafting)


@dataclass
class Pass:
    """What the units saw of a pass."""

    lm_head: bool
    #: Token number: (place, left, id, position).
    rows: dict = field(default_factory=dict)
    attends: list = field(default_factory=list)
    #: Tokens of the QKV linear, and of the LM head with the dump flag.
    tokens: int = 0
    #: (First one, their number, whether it is the only wanted token of the pass, flag.)
    headed: tuple = ()
    lone: int | None = None
    #: The runs, (slot, position, ids).
    runs: list = field(default_factory=list)


class Board:
    """The units behind the processor's ports, token memory, and the host that checks what happens."""

    def __init__(self, dut, random, *, busy=0.5, program=PROGRAM):
        self.dut, self._clk, self.random, self._busy = dut, dut.clk, random, busy
        self.program, self.words = program, words_of(program)
        self.memory = [0] * (SLOTS * WINDOW)
        self.slots: dict[int, Slot] = {}
        #: Slots whose prompt is not fed to its end, in the order of their STARTs, and those that came since the last pass was
        #: made.
        self.prompts, self.recent = [], []
        self.now = None
        #: Runs (slot, position, tokens) that are still to be made alone.
        self.alone = []
        #: The table: what follows two tokens; the share of right answers and of none.  Drafted tokens at most, and their cost.
        self.table, self.right, self.none = {}, 0.0, 0.0
        self.most, self.cost = 0, 0
        #: What the table was asked for the next pass, and answered: (before, last, next).
        self.asked = []
        self.cycles = self.pass_began = 0
        self.pass_cycles = None
        #: What was seen of drafts, by name.
        self.seen = Counter()
        self.runs, self.events = [], []
        self.passes, self.told, self.kinds = 0, 0, set()
        self.hold_events = False
        self.log = []

    # ---------------------------------------------------------------- the host
    def can_start(self, slot):
        return slot not in self.slots

    async def start(self, args, tokens, seed=0, *, feed=None):
        """Place a START's tokens, and start when the processor takes it; with another ``feed`` than the right one."""
        dut = self.dut
        for i, token in enumerate(tokens):
            self.memory[args.slot * WINDOW + (args.position + i) % WINDOW] = token
        dut.settings.value = pack(DrawLayout, seed=seed, top_k=5)
        for _ in range(5 * SLOTS + 3):
            if dut.open.value:
                break
            await FallingEdge(dut.clk)
        assert dut.open.value, "open is low for too long"
        payload = bytearray(args.pack())
        payload[2:4] = (args.feed if feed is None else feed).to_bytes(2, "little")
        dut.run__args.value = int.from_bytes(payload, "little")
        dut.run__start.value = 1
        await settled()
        assert bool(dut.counters__clear.value) == bool(args.flags & StartFlags.CLEAR)
        self.slots[args.slot] = slot = Slot(args, seed, args.position, args.feed,
                                            {args.position + i: token for i, token in enumerate(tokens)})
        self.recent.append(args.slot)
        self.seen["more than lanes"] += args.feed > LANES < args.chunk
        if DRAFTS:
            self.seen["start while drafting"] += bool(dut.draft__reading.value)
            self.learn(slot)
        await FallingEdge(dut.clk)
        dut.run__start.value = 0
        dut.run__args.value = self.random.getrandbits(RunArgs.size)
        dut.settings.value = self.random.getrandbits(DrawLayout.size)
        assert fields(LAYOUTS.run_state, int(dut.state.value), "running", "slots") == (1, sum(1 << s for s in self.slots))

    def learn(self, slot):
        """Put what a sequence will pick into the table, or something else, where the table has nothing yet."""
        random, at = self.random, slot.position + slot.feed - 1
        last, before = slot.ids[at], slot.ids.get(at - 1, 0)
        while at + 1 < CONTEXT:
            pick = pick_of(last, at)
            if slot.args.flags & StartFlags.SAMPLE:
                pick = draw_of(pick, at + 1, slot.seed)
            chance = random.random()
            other = 49 if random.random() < 0.05 else random.randrange(VOCAB)
            expected = pick if chance < self.right else None if chance < self.right + self.none else other
            self.table.setdefault((before, last), expected)
            at, before, last = at + 1, last, pick

    def drafts(self, most, cost, *, right, none=0.0):
        """Set the registers of drafts, and how often what the table learns from now on is right, or nothing."""
        self.most, self.cost, self.right, self.none, self.table = most, cost, right, none, {}
        self.dut.drafting.value = pack(LAYOUTS.drafting, base=self.random.randrange(1 << 10), most=most, cost=cost)

    async def stop(self, slots):
        dut = self.dut
        dut.run__stop.value, dut.run__slots.value = 1, sum(1 << slot for slot in slots)
        for slot in slots:
            if slot in self.slots:
                self.slots[slot].stopped = True
        await FallingEdge(dut.clk)
        dut.run__stop.value, dut.run__slots.value = 0, self.random.getrandbits(SLOTS)

    # ---------------------------------------------------------------- what a pass has to be
    def composed(self, prompts):
        """The runs of the next pass, (slot, position, ids), with these slots' prompts."""
        decoding = [s for s in range(SLOTS) if s in self.slots and not self.slots[s].feed]
        runs, free, asked = [], LANES - len(decoding), list(self.asked)
        for s in decoding:
            slot = self.slots[s]
            ids = [slot.ids[slot.position]]
            most = min(self.most, free, CONTEXT - 1 - slot.position)
            before = slot.ids[slot.position - 1]
            if prompts or slot.drafting.rest or slot.args.flags & StartFlags.DUMP:
                most = 0
            while len(ids) <= most and asked and asked[0][:2] == (before, ids[-1]):
                token = asked.pop(0)[2]
                if token is None:
                    break
                before = ids[-1]
                ids.append(token)
            else:
                if len(ids) <= most:
                    return None
            free -= len(ids) - 1
            runs.append((s, slot.position, ids))
        for s in prompts:
            slot = self.slots[s]
            n = min(slot.feed, slot.args.chunk or LANES, free)
            if n:
                runs.append((s, slot.position, [slot.ids[slot.position + i] for i in range(n)]))
                free -= n
        return None if asked else runs

    def seen_runs(self):
        """The runs of the pass, by the rows of its tokens."""
        runs, number = [], 0
        while number < len(self.now.rows):
            place, left, _, position = self.now.rows[number]
            runs.append((place // CONTEXT, position, [self.now.rows[number + i][2] for i in range(left)]))
            number += left
        return runs

    def end_of_pass(self):
        """All that the units saw, and the events that have to come."""
        now, runs = self.now, self.seen_runs()
        if self.alone:
            assert runs == [self.alone.pop(0)] and not self.asked
        else:
            # A START in the last moments may count or not.
            for count in range(len(self.recent), -1, -1):
                if runs == self.composed(self.prompts + self.recent[:count]):
                    self.prompts += self.recent[:count]
                    del self.recent[:count]
                    break
            else:
                raise AssertionError(f"a pass of {runs}, and not {self.composed(self.prompts + self.recent)}, {self.asked}")
        self.asked = []
        tokens = sum(len(ids) for _, _, ids in runs)
        self.log.append(runs)
        number = 0
        for slot, position, ids in runs:
            for i in range(len(ids)):
                place, left, _, at = now.rows[number]
                assert (place, left, at) == (slot * CONTEXT + position + i, len(ids) - i, position + i)
                number += 1
        assert number == tokens == len(now.rows) == now.tokens
        return runs

    def check_attention(self, runs, attends):
        first, want = 0, []
        for slot, position, ids in runs:
            n = len(ids)
            first += n
            want.append((position, len(self.now.rows), n, len(self.now.rows) - first, slot * CONTEXT))
        assert attends == want, (attends, want)

    def wanted(self, slot, n):
        """The tokens of a run after which a pick is told."""
        s = self.slots[slot]
        every, last = not s.feed or s.args.flags & StartFlags.ALL, n == s.feed
        if every:
            return range(n)
        return range(n - 1, n) if last and s.args.generate else range(0)

    def finish(self, runs):
        """A pass without an infinity: its LM head, and its events."""
        now = self.now
        wanted = {slot: self.wanted(slot, len(ids)) for slot, _, ids in runs}
        whole = any(wanted[slot] and self.slots[slot].feed for slot, _, _ in runs)
        headed = sum(len(ids) for slot, _, ids in runs if whole or not self.slots[slot].feed)
        first, tokens, number = 0, headed, 0
        for slot, _, ids in runs:
            if sum(map(len, wanted.values())) == 1 and wanted[slot]:
                first, tokens = number + wanted[slot][0], 1
                self.seen["a lone token behind others"] += first > 0
            number += len(ids)
        dump = any(self.slots[slot].args.flags & StartFlags.DUMP for slot, _, _ in runs)
        assert now.lm_head == bool(headed)
        assert now.headed == ((first, tokens, sum(map(len, wanted.values())) == 1, bool(dump)) if headed else ())
        self.check_attention(runs, now.attends)
        self.pass_began, self.pass_cycles = self.cycles, None
        for slot, position, ids in runs:
            s, reason, n = self.slots[slot], None, len(ids)
            decodes = not s.feed
            s.feed, s.position = max(s.feed - n, 0), position + n
            s.passes += s.stopped
            if not s.feed and slot in self.prompts:
                self.prompts.remove(slot)
            for i in wanted[slot]:
                at = position + i
                pick, logit = pick_of(ids[i], at), logit_of(ids[i], at)
                if s.args.flags & StartFlags.SAMPLE:
                    pick = draw_of(pick, at + 1, s.seed)
                counts = decodes or not s.feed and i == n - 1 and s.args.generate
                s.picked += bool(counts)
                self.events.append((TOKEN, slot, at, pick, logit, (slot, at + 1) if counts and at + 1 < CONTEXT else None))
                if counts:
                    s.position, s.ids[at + 1] = at + 1, pick
                    reason = (DoneReason.END_TOKEN if pick in s.args.ends else
                              DoneReason.LENGTH if s.picked == s.args.generate else
                              DoneReason.CONTEXT if at + 1 == CONTEXT else None)
                if decodes and (reason is not None or i + 1 < n and ids[i + 1] != pick):
                    break
            if decodes:
                accepted, rested = s.position - position - 1, s.drafting.rest
                s.drafting.done(n - 1, accepted, self.cost)
                self.seen["drafted"] += n - 1
                self.seen["most drafts"] += n - 1 == min(self.most, LANES - 1) > 0
                self.seen["accepted"] += accepted
                self.seen["all of several"] += accepted == n - 1 > 1
                self.seen["some"] += 0 < accepted < n - 1
                self.seen["rest"] += s.drafting.rest > rested
                self.seen["beside others"] += n > 1 and len(runs) > 1
                if reason is not None and accepted < n - 1:
                    self.seen[reason.name] += 1
            if not s.feed and not s.args.generate:
                reason = DoneReason.LENGTH
            if reason is not None:
                self.events.append((DONE, slot, s.position - 1, None, reason, None))

    def fault(self, runs):
        """A pass with an infinity: its slot ends, or each slot's tokens are made alone."""
        drafted = any(len(ids) > 1 for slot, _, ids in runs if not self.slots[slot].feed)
        if len(runs) > 1 or drafted:
            assert not self.alone
            self.alone = [(slot, position, ids if self.slots[slot].feed else ids[:1]) for slot, position, ids in runs]
            self.seen["drafted infinity"] += drafted and not any(bad(token) for _, _, ids in self.alone for token in ids)
        else:
            (slot, position, _), = runs
            self.events.append((DONE, slot, position, QKV_STEP, DoneReason.NONFINITE, None))

    def hear(self, bits):
        kind, payload = fields(EventLayout, bits, "type", "payload")
        place, id_, logit = payload["position"], payload["id"], payload["logit"]
        slot, position = place >> 16, place & 0xFFFF
        logit -= (logit >> 31) << 32
        if not DRAFTS or kind == DONE:
            assert payload["cycles"] == self.cycles
        else:
            # The same number for all tokens of a pass: that of a moment between the pass's end and the first event.
            if self.pass_cycles is None:
                assert self.pass_began <= payload["cycles"] <= self.cycles
                self.pass_cycles = payload["cycles"]
            assert payload["cycles"] == self.pass_cycles
        assert slot in self.slots, "an event of a slot that does not run"
        s = self.slots[slot]
        if kind == DONE and logit == DoneReason.STOPPED:
            # Behind all that the pass tells, and with the pass under way, or the next one, which began in the same moment.
            assert s.stopped and not self.events and s.passes <= 1 + 1
            assert position == max(s.position - 1, s.args.position)
            if slot in self.recent:
                self.recent.remove(slot)
        else:
            assert self.events, f"an event that nothing asked for: {EventType(kind).name} of slot {slot} at {position}"
            want = self.events.pop(0)
            assert (kind, slot, position, logit) == (want[0], want[1], want[2], want[4]), (want, kind, slot, position, id_, logit)
            assert want[3] is None or id_ == want[3]
            if want[5] is not None:
                where, at = want[5]
                assert self.memory[where * WINDOW + at % WINDOW] == id_, "the pick is to be fed next"
        if kind == DONE:
            self.kinds.add(DoneReason(logit))
            if slot in self.prompts:
                self.prompts.remove(slot)
            del self.slots[slot]
        self.told += 1

    # ---------------------------------------------------------------- the units
    @clocked
    async def run(self):
        dut, random = self.dut, self.random
        shape = pack(LAYOUTS.model_shape, context=CONTEXT, dim=16, heads=1, kv_heads=1, head_dim=16, vocab=VOCAB)
        dut.shape.value, dut.sizes.value = shape, pack(LAYOUTS.sizes, q_dim=16, qk_dim=32)
        inputs = Inputs(dut, {
            "program__data": 0, "tokens__data": 0, "passes__quant__ready": 0, "passes__done": 0, "passes__nonfinite": 0,
            "routes__code_valid": 0, "routes__gain_taken": 0, "engine__ready": 0, "lm_head__done": 0, "lm_head__best": 0,
            "attention__busy": 0, "fetch__busy": 0, "reset__clean": 0, "weights__idle": 1, "draw__busy": 0,
            "draw__pick": 0, "event__ready": 0, "counters__totals": 0,
            **({"draft__pair__ready": 0, "draft__drafted__valid": 0, "draft__drafted__payload": 0} if DRAFTS else {})})
        # The pair that the table was asked for, and cycles until it answers.
        pair, waiting = None, 0
        fetching = attending = heading = drawing = stopping = draining = gains = 0
        # Whether the words of the run are there, whether the pass under way has been told, and its LM head's picks.
        streaming, faulty, runs = False, False, []
        drawn, args_before = None, [0] * ARGS_CYCLES
        while True:
            inputs.drive()
            await settled()
            if dut.weights__start.value:
                assert inputs["weights__idle"] and not streaming
                streaming, inputs["weights__idle"] = True, 0
            if dut.weights__stop.value:
                # It may stand already, behind an infinity.
                streaming, stopping = False, random.randint(1, 5)
            elif stopping:
                stopping -= 1
                inputs["weights__idle"] = int(not stopping)
            if dut.weights__begin.value:
                assert streaming and self.now is None and not self.events
                self.now, faulty = Pass(bool(dut.weights__lm_head.value)), False
                self.passes += 1
            # Bursts end some cycles after the units were told to.
            draining = draining + 1 if dut.reset__drain.value else 0
            inputs["reset__clean"] = int(draining > 7)
            if DRAFTS:
                reading = bool(dut.draft__reading.value)
                assert not (reading and (fetching or dut.fetch__start.value)), "the row fetch rests meanwhile"
                if inputs["draft__pair__ready"] and dut.draft__pair__valid.value:
                    found = unpack(Pair, int(dut.draft__pair__payload.value))
                    assert reading and found["known"] and self.now is None and not self.events
                    before, last = found["before"], found["last"]
                    pair, waiting = (before, last, self.table.get((before, last))), random.choice((1, 1, random.randint(1, 40)))
                    self.asked.append(pair)
                if inputs["draft__drafted__valid"] and dut.draft__drafted__ready.value:
                    pair = None
                waiting -= waiting > 0
                ready = pair is not None and not waiting
                answer = pair[2] if ready else None
                inputs["draft__drafted__valid"] = int(ready)
                # Without a token in the table the number means nothing.
                inputs["draft__drafted__payload"] = pack(
                    Draft, next=random.getrandbits(16) if answer is None else answer,
                    found=random.getrandbits(1) if not ready else answer is not None)
                inputs["draft__pair__ready"] = int(pair is None and random.random() < self._busy)
            # Four gains a word, from the step's start to that of its pass.
            loads = int(dut.routes__word_sink.value) == WordSink.GAIN.value
            gains += 4 * (loads and inputs["routes__gain_taken"])
            inputs["routes__gain_taken"] = int(loads and random.random() < self._busy)
            if dut.passes__clear.value:
                step, = fields(LAYOUTS.run_state, int(dut.state.value), "step")
                assert gains == gains_of(self.program[step]), (step, gains)
                gains = 0
            if dut.reset__drain.value:
                gains = 0
            at = int(dut.program__addr.value)
            inputs["program__data"] = self.words[at] if at < len(self.words) else 0
            at = int(dut.tokens__addr.value)
            if dut.tokens__read.value:
                inputs["tokens__data"] = self.memory[at]
            if dut.tokens__write.value:
                self.memory[at] = int(dut.tokens__wdata.value)
            # EMBED
            if dut.fetch__start.value:
                assert not fetching
                args = unpack(LAYOUTS.fetch_args, int(dut.fetch__args.value))
                row = unpack(LAYOUTS.row_place, int(dut.attention__row_place.value))
                assert row["en"] and row["token"] == args["number"] == len(self.now.rows)
                self.now.rows[args["number"]] = (row["place"], row["left"], args["token"], args["position"])
                fetching = random.randint(1, 4)
            else:
                assert not int(dut.attention__row_place.value) & 1
                fetching -= fetching > 0
            inputs["fetch__busy"] = int(fetching > 0)
            # The engine, for a linear or the LM head
            if dut.engine__valid.value and inputs["engine__ready"]:
                args = unpack(LAYOUTS.engine_args, int(dut.engine__payload.value))
                head = args["rows"] == VOCAB + 1
                quant = unpack(LAYOUTS.quant_args, int(dut.passes__quant__payload.value))
                # A lone token that the LM head works for is the last one of those that are told to the routers.
                first, single = quant["first"], bool(dut.routes__for_lm_head.value)
                assert args["by_rows"] == (head and not single) and quant["tokens"] == args["tokens"]
                assert int(dut.routes__chunk.value) == first + args["tokens"] and (not first or head and single)
                if not head:
                    self.now.tokens = args["tokens"]
                    if not faulty and args["rows"] == 48:
                        runs = self.end_of_pass()
                        faulty = any(bad(row[2]) for row in self.now.rows.values())
            inputs["passes__nonfinite"] = int(faulty and self.now is not None and bool(dut.passes__clear.value))
            if dut.lm_head__start.value:
                args = unpack(LAYOUTS.lm_head_args, int(dut.lm_head__args.value))
                single = bool(dut.routes__for_lm_head.value)
                assert args["vocab"] == VOCAB and bool(dut.routes__for_all.value) != single
                self.now.headed = (args["first"], args["tokens"], single, bool(args["dump"]))
                self.now.lone, heading = args["first"] if single else None, random.randint(1, 6)
                inputs["lm_head__done"] = 0
            else:
                inputs["lm_head__done"] = int(heading == 1)
                heading -= heading > 0
            # Attention
            args_now = int(dut.attention__args.value)
            if dut.attention__start.value:
                assert args_before == [args_now] * ARGS_CYCLES, "a run's arguments stand before its start"
                args = unpack(LAYOUTS.attention_args, args_now)
                assert not attending
                self.now.attends.append((args["position"], args["chunk"], args["run_tokens"], args["after"], args["slot_place"]))
                attending = random.randint(1, 12)
            else:
                assert not attending or args_before[-1] == args_now
                attending -= attending > 0
            inputs["attention__busy"] = int(attending > 0)
            args_before = [*args_before[1:], args_now]
            # Picks
            number = int(dut.lm_head__number.value)
            if self.now is not None and self.now.lone is not None:
                # The LM head numbers the tokens for which it works.
                number += self.now.lone
            rows = self.now.rows if self.now is not None else {}
            if number in rows:
                _, _, token, position = rows[number]
                inputs["lm_head__best"] = pack(LAYOUTS.best, id=pick_of(token, position), logit=logit_of(token, position))
            if dut.draw__start.value:
                assert not drawing
                best, logit = fields(LAYOUTS.best, inputs["lm_head__best"], "id", "logit")
                seed, top_k = fields(DrawLayout, int(dut.draw_settings.value), "seed", "top_k")
                assert top_k == 5
                drawn = pack(LAYOUTS.best, id=draw_of(best, int(dut.draw__position.value), seed), logit=logit)
                drawing, inputs["draw__busy"] = random.randint(1, 9), 1
            elif drawing:
                drawing -= 1
                inputs["draw__busy"] = int(drawing > 0)
                if not drawing:
                    inputs["draw__pick"] = drawn
            # The pass's end: what is told of it comes behind it.
            if self.now is not None and runs and dut.crc__write.value:
                step = int(dut.crc__step.value)
                if faulty and step == QKV_STEP:
                    self.fault(runs)
                    self.now, runs = None, []
            if self.now is not None and runs and fields(
                    LAYOUTS.run_state, int(dut.state.value), "step") == (len(self.program) - 1,):
                self.finish(runs)
                self.kept, runs = self.now, []
            if self.now is None:
                inputs["lm_head__best"] = random.getrandbits(20)
            # Events
            took = bool(dut.event__valid.value) and bool(inputs["event__ready"])
            if took:
                self.hear(int(dut.event__payload.value))
            if self.now is not None and not runs and self.now.tokens and not self.events and not dut.event__valid.value:
                self.now = None
            inputs["event__ready"] = int(not self.hold_events and not took and random.random() < self._busy)
            for name in ("passes__quant__ready", "routes__code_valid", "engine__ready"):
                inputs[name] = int(random.random() < self._busy)
            inputs["passes__done"] = int(not attending and not fetching and random.random() < self._busy)
            self.cycles += 1
            inputs["counters__totals"] = pack(TotalsLayout, cycles=self.cycles)
            await FallingEdge(dut.clk)


async def bring_up(dut, **options):
    for name in ("run__start", "run__stop", "run__args", "run__slots", "settings", *(["drafting"] if DRAFTS else [])):
        getattr(dut, name).value = 0
    await reset(dut)
    board = Board(dut, rng("board"), **options)
    cocotb.start_soon(board.run())
    return board


async def at_rest(dut, board, limit=60_000):
    for _ in range(limit):
        if not board.slots:
            break
        await FallingEdge(dut.clk)
    assert not board.slots and not board.events, (board.slots, board.events)
    for _ in range(300):
        await FallingEdge(dut.clk)
    assert fields(LAYOUTS.run_state, int(dut.state.value), "running", "slots") == (0, 0) and dut.weights__idle.value


def drawn_start(random, slot):
    """A random START and its tokens."""
    position = random.choice((0, random.randrange(CONTEXT - 1)))
    feed = random.randint(1, min(WINDOW, CONTEXT - position, random.choice((1, 3, WINDOW))))
    flags = sum(flag for flag in StartFlags if random.random() < 0.25)
    tokens = [random.randrange(VOCAB) for _ in range(feed)]
    tokens = [token - 1 if bad(token) else token for token in tokens]
    if random.random() < 0.12:
        tokens[random.randrange(feed)] = 49
    seed = random.getrandbits(64)
    # The first, second or third pick.
    end = tokens[-1]
    for at in range(position + feed - 1, position + feed + random.randint(0, 2)):
        end = pick_of(end, at)
        if flags & StartFlags.SAMPLE:
            end = draw_of(end, at + 1, seed)
    ends = random.choice(((), (), (end,), (*random.sample(range(VOCAB), 3), end), tuple(random.sample(range(VOCAB), 4))))
    chunk = random.choice((0, 0, 1, 2, 3, 999))
    args = StartArgs(position, feed, random.choice((0, 1, 2, 5, 40)), StartFlags(flags), chunk, slot, ends)
    return args, tokens, seed


async def schedule(board, joins, done=lambda: True, pauses=(0, 0, 10, 100, 300)):
    """Sequences join at random, so many and until it is ``done``, and are stopped; then all end.  Between two of these things
    there is one of the ``pauses``."""
    dut, random, joined = board.dut, rng("schedule"), 0
    while joined < joins or not done():
        free = [slot for slot in range(SLOTS) if board.can_start(slot)]
        if free and random.random() < 0.7:
            await board.start(*drawn_start(random, random.choice(free)))
            joined += 1
        elif random.random() < 0.05:
            await board.stop(random.sample(range(SLOTS), random.randint(0, SLOTS)))
        for _ in range(random.choice(pauses)):
            await FallingEdge(dut.clk)
    await at_rest(dut, board)


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def sequences_join_and_leave(dut):
    """At random, with stops and infinities: the runs of each pass, all that the units are told, and all events.  It goes on until
    slots have ended for each reason, and passes were of up to four slots."""
    board = await bring_up(dut)
    if DRAFTS:
        board.drafts(3, 20, right=0.5, none=0.1)
    await schedule(board, JOINS, lambda: board.kinds == set(DoneReason) and max(map(len, board.log)) >= min(SLOTS, 4)
                   and board.seen["a lone token behind others"] and board.seen["more than lanes"]
                   and any(sum(len(ids) for _, _, ids in runs) == LANES for runs in board.log))
    for reason in board.kinds:
        report_point(f"end: {reason.name}")
    report_point("limit: a pass of all lanes")
    report_point("limit: a START of more tokens a pass than there are lanes")
    if max(map(len, board.log)) == SLOTS:
        report_point("limit: a pass of all slots")
    report(cases=board.told)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_start_of_no_tokens_feeds_one(dut):
    """So that a START that no host sends hangs nothing."""
    board = await bring_up(dut)
    await board.start(StartArgs(2, 1, 3, slot=SLOTS - 1), [7], feed=0)
    await board.start(StartArgs(0, 1, 0, slot=0), [8], feed=0)
    await at_rest(dut, board)
    assert board.told == 5
    report_point("limit: a START of no tokens")
    report(cases=board.told)


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def drafts_of_all_kinds(dut):
    """Tables that are right, wrong and neither, with several most and costs: drafts are taken whole and in part, runs end among
    them, slots rest, infinities of drafted tokens end nothing, and STARTs come while drafts are read."""
    board, random = await bring_up(dut, program=SHORT), rng("settings")
    settings = [(15, 0, 1.0, 0.0), (3, 255, 0.0, 0.0), (1, 40, 0.7, 0.1), (0, 0, 1.0, 0.0), (7, 90, 0.6, 0.02),
                *((random.randint(0, 15), random.randint(0, 255), random.random(), 0.0) for _ in range(2))]
    for most, cost, right, none in settings:
        board.drafts(most, cost, right=right, none=none)
        least = board.seen["drafted"] + 8 * (most > 0)
        await schedule(board, 4, lambda least=least: board.seen["drafted"] >= least, (10, 100, 1000))
        assert most or board.seen["drafted"] == least
    wanted = {"all of several", "some", "rest", "beside others", "drafted infinity", "start while drafting", "END_TOKEN",
              "LENGTH", "most drafts"}
    board.drafts(5, 30, right=0.8)
    await schedule(board, 0, lambda: wanted <= {name for name, count in board.seen.items() if count}, (0, 10, 100, 1000))
    report_point("limit: as many drafts as register and lanes allow")
    report(cases=board.told)
