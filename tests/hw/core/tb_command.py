# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The command processor of a core with one sequence, alone: what it tells the units in each pass, its events, and stops.

The units are models, which answer at random late: a pick is a number made of the token before it and its position, and the token
BAD gives an infinity in the step with which attention begins.  What a run has to do is written down here once more, by the rules
of StartArgs, and what a step's pass is told, by those of Descriptor.
"""

import os
from itertools import count

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge

from hw.core.processor import CommandProcessor
from hw.core.steps import FIRST_CODE, RESET_CYCLES
from hw.lib.control import AccSource, EventLayout, RunArgs, TotalsLayout, WordSink
from sim.cocotb_streams import clocked, report, report_point, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.memory import KV_PAGE, DoneReason, EventType, StartArgs, StartFlags, cache_bases
from tellme.spec.program import Descriptor, Epilogue, Op, QkvPart
from tellme.spec.scale import Scale
from tests.hw.inputs import Inputs
from tests.hw.layouts import fields, layouts_of, pack, unpack

#: A core that picks behind each token of a chunk; one of single tokens without a sampler, which reads descriptors by words; and
#: one with norms behind linears.
SHAPES = {"chunks": {"chunk": 4, "head_tokens": 4, "max_context": 40, "wide_program": True},
          "single": {"max_context": 40, "two_steps": True, "sampler": False},
          "norms": {"chunk": 4, "max_context": 40, "vector_norms": True}}
NIGHTLY = {"single": "top-tiny has such a processor with a sampler, and the tests are the same",
           "norms": "no board has norms behind linears; top-tiny has them"}
BENCHES = [Bench(name=name, build=lambda shape=shape: CommandProcessor(layouts_of(**shape), sampler=shape.get("sampler", True)),
                 env={"SHAPE": name}, nightly=NIGHTLY.get(name, ""))
           for name, shape in SHAPES.items()]
POINTS = (*(f"end: {reason.name}" for reason in DoneReason), "limit: a pass of all lanes",
          "limit: a START of more tokens a pass than there are lanes", "limit: the context's last position")
SHAPE = SHAPES[os.environ.get("SHAPE", "chunks")]
LAYOUTS, SAMPLER = layouts_of(**SHAPE), SHAPE.get("sampler", True)
LANES, EVERY, TWO_STEPS = LAYOUTS.widths.chunk, LAYOUTS.all_heads, LAYOUTS.two_steps
#: The model's context is shorter than the core's.
CONTEXT, VOCAB, BAD, LOW_PAGE = LAYOUTS.widths.context - 3, 251, 49, 77
TOKEN, DONE = EventType
NORMS, ROWS = LAYOUTS.vector_norms, LAYOUTS.row_words
#: The registers of the model; where the caches lie, and what the norms on heads have for eps and n.
CACHES = {"kv_base": 77 * KV_PAGE, "layer_stride": 301 * KV_PAGE, "v_offset": 19 * KV_PAGE}
HEADS = {"head_n_eps": 0x8123_4567, "head_sqrt_n": Scale(1999, -9)}
MODEL = {"context": CONTEXT, "dim": 16, "heads": 1, "kv_heads": 1, "head_dim": 16, "vocab": VOCAB, **CACHES, **HEADS}
#: Elements of q, and of q and k.
Q, QK = 16, 32
LAYER = {"layer": 37}
#: Steps with gains and without, and all settings of a pass; the rows of the lowest plane of the head lie at a page.
PROGRAM = [Descriptor(Op.EMBED, gain_next=True),
           *([Descriptor(Op.LINEAR, bias=True, gain_next=True, rows=16, cols=16, part=QkvPart.Q),
              Descriptor(Op.NORM, Epilogue.QKV, src_a=True, norm=True, gain=True, rows=16, cols=16, n_eps=3,
                         sqrt_n=Scale(1024, -8), part=QkvPart.Q, **LAYER),
              Descriptor(Op.LINEAR, rows=16, cols=16, part=QkvPart.K),
              Descriptor(Op.NORM, Epilogue.QKV, src_a=True, norm=True, rows=16, cols=16, n_eps=4, sqrt_n=Scale(1025, -8),
                         part=QkvPart.K, **LAYER),
              Descriptor(Op.LINEAR, Epilogue.QKV, rows=16, cols=16, part=QkvPart.V, **LAYER),
              Descriptor(Op.ATTENTION, **LAYER),
              Descriptor(Op.LINEAR, src_a=True, gain_next=True, rows=16, cols=16),
              Descriptor(Op.NORM, Epilogue.RESIDUAL, src_a=True, norm=True, gain=True, gain_next=True, rows=16, cols=16, n_eps=5,
                         sqrt_n=Scale(1026, -8))] if NORMS else
             [Descriptor(Op.LINEAR, Epilogue.QKV, norm=True, gain=True, head_gains=ROWS, rows=48, cols=16, n_eps=0xFEDC_BA98,
                         sqrt_n=Scale(1024, -8), **LAYER),
              Descriptor(Op.ATTENTION, gain_next=True, **LAYER)]),
           Descriptor(Op.LINEAR, Epilogue.ACT, relu2=True, bias=ROWS, gain_next=True, act_exp=-3, rows=64, cols=16),
           Descriptor(Op.LINEAR, Epilogue.RESIDUAL, src_a=True, norm=True, gain=True, rows=16, cols=32, n_eps=9,
                      sqrt_n=Scale(1448, -8)),
           Descriptor(Op.HEAD, norm=True, rows=LOW_PAGE * TWO_STEPS, cols=16, n_eps=8, sqrt_n=Scale(1500, -8)),
           Descriptor(Op.END)]
#: The step with which attention begins.
QKV_STEP = 2 if NORMS else 1
#: Cycles from a pass's end until the step's CRC has the last word and is kept; and from there to the next step's first one.
CRC_CYCLES, NEXT_CYCLES = 4, 1 if LAYOUTS.wide_program else 7


def gains_of(step):
    """Gains that a step loads: of the heads of q and of k, or of the vector that it gives."""
    if step.head_gains:
        return 32
    return step.gain_next * (16 if step.op in (Op.EMBED, Op.ATTENTION) else
                             step.rows // 2 if step.epilogue == Epilogue.ACT else step.rows)


def settings_of(step):
    """What a step's pass is told, as far as the pass looks at it."""
    settings = {"epilogue": step.epilogue, "use_d": 1, "length": step.rows, "stats_gain": step.gain_next}
    if step.op in (Op.EMBED, Op.ATTENTION):
        settings |= {"use_d": 0, "dest_a": step.op == Op.ATTENTION, "length": 16}
    elif step.epilogue == Epilogue.STORE:
        settings["dest_a"] = 1
    elif step.epilogue == Epilogue.ACT:
        settings |= {"relu2": step.relu2, "act_exp": step.act_exp}
    elif step.epilogue == Epilogue.QKV:
        settings["rope_rows"] = QK
        if NORMS:
            settings["first_row"] = {QkvPart.K: Q, QkvPart.V: QK}.get(step.part, 0)
    if ROWS:
        settings |= {"bias": step.bias, "head_gains": step.head_gains}
    if step.head_gains:
        settings |= {"q_rows": Q, "n_eps": HEADS["head_n_eps"], "sqrt_n": HEADS["head_sqrt_n"]._asdict()}
    return settings


SETTINGS = [settings_of(step) for step in PROGRAM]
#: What a stop of the weights has just set.
STOPPED = 9
#: Random runs.
RUNS = 20


def words_of(program):
    """What the program memory shows at an address: a word, or all words of a descriptor, the first one lowest."""
    if LAYOUTS.wide_program:
        return [sum(word << 32 * i for i, word in enumerate(step.pack())) for step in program]
    return [word for step in program for word in step.pack()]


def pick_of(token, position):
    """The likeliest token behind a token; not the one that gives an infinity."""
    return (token * 7 + position * 13 + 5) % (VOCAB - 1) // 2 * 2


def logit_of(token, position):
    return (token * 1009 + position) % 9973 - 4000


def draw_of(pick, position):
    """What the sampler draws for a position."""
    return (pick + 6 * position) % (VOCAB - 1)


def flagged(args, flag):
    return bool(args.flags & flag)


class Expected:
    """What the units see of a run, in its order, and the run's events: (kind, position, id, logit)."""

    def __init__(self, args, tokens):
        self.args, self.log, self.events = args, [], []
        #: Of each pass: position, ids, whether the LM head picks behind each of them.
        self.passes = []
        self.fed = dict(enumerate(tokens, args.position))
        self.every = EVERY and flagged(args, StartFlags.ALL)
        limit = args.chunk if 1 <= args.chunk <= LANES else LANES
        sizes = [min(limit, args.feed - at) for at in range(0, args.feed, limit)]
        self.plain = 0 if self.every else len(sizes) - bool(args.generate)
        position, picked = args.position, 0
        for n in count():
            fed = n < len(sizes)
            size = sizes[n] if fed else 1
            last = n >= len(sizes) - 1
            if not self.one_pass(position, size, heads=self.every or (last and args.generate > 0)):
                self.events.append((DONE, position, QKV_STEP, DoneReason.NONFINITE))
                return
            reason = None
            for t in range(size) if self.every else range(size - 1, size):
                at = position + t
                final = last and t == size - 1
                if not self.every and not (final and args.generate):
                    continue
                pick = pick_of(self.fed[at], at)
                logit = logit_of(self.fed[at], at)
                if SAMPLER and flagged(args, StartFlags.SAMPLE):
                    self.log.append(("draw", at + 1))
                    pick = draw_of(pick, at + 1)
                counts = final and args.generate > 0
                picked += counts
                self.events.append((TOKEN, at, pick, logit))
                if counts:
                    reason = (DoneReason.END_TOKEN if pick in args.ends else DoneReason.LENGTH if picked == args.generate else
                              DoneReason.CONTEXT if at + 1 >= CONTEXT else None)
                    if at + 1 < CONTEXT:
                        self.fed[at + 1] = pick
            if last and not args.generate:
                reason = DoneReason.LENGTH
            position += size
            if reason is not None:
                self.events.append((DONE, position - 1, None, reason))
                return

    def one_pass(self, position, size, *, heads):
        """Whether the pass has no infinity."""
        args, log = self.args, self.log
        ids = [self.fed[position + t] for t in range(size)]
        self.passes.append((position, ids))
        for at, step in enumerate(PROGRAM[:-1]):
            if step.op == Op.HEAD and not heads:
                continue
            first, tokens = (0, size) if step.op != Op.HEAD or self.every else (size - 1, 1)
            if step.op in (Op.LINEAR, Op.NORM, Op.HEAD):
                log.append(("quant", step.src_a, step.gain, step.norm, step.cols, first, tokens, step.n_eps, step.sqrt_n.pack(),
                            *((step.op == Op.NORM, step.again) if NORMS else ())))
            if step.op in (Op.LINEAR, Op.HEAD):
                rows = step.rows if step.op == Op.LINEAR else VOCAB + 1
                log.append(("engine", rows, step.cols, tokens, step.op == Op.HEAD and self.every))
            if step.op == Op.HEAD:
                log.append(("head", VOCAB, flagged(args, StartFlags.DUMP), *((tokens, first) if EVERY else ()), *((
                    flagged(args, StartFlags.TWO_STEPS), flagged(args, StartFlags.SAMPLE), LOW_PAGE) if TWO_STEPS else ())))
            else:
                log.append(("pass", at, gains_of(step), SETTINGS[at]))
            bases = tuple(base % (1 << LAYOUTS.widths.word_address_bits) for base in cache_bases(CACHES, LAYER["layer"]))
            if at == QKV_STEP:
                log.append(("attention begins", position, size, bases))
            if step.op == Op.ATTENTION:
                log.append(("attention starts", position, size, bases))
            if step.op == Op.EMBED:
                log += [("fetch", t, ids[t], position + t) for t in range(size)]
            log.append(("crc", at))
            if at == QKV_STEP and BAD in ids:
                return False
        return True


class Board:
    """The units behind the processor's ports, and token memory.  ``hold`` names what does not answer."""

    def __init__(self, dut, random, *, busy=0.5):
        self.dut, self._clk, self.random, self._busy = dut, dut.clk, random, busy
        self.words, self.memory = words_of(PROGRAM), [0] * (1 << len(dut.tokens__addr))
        self.log, self.events, self.rows, self.lone = [], [], {}, 0
        self.hold = ""
        #: Steps whose pass has ended, and cycles of the reset under way in which nothing was under way.
        self.steps = self.resets = 0
        self.plain = None

    def answers(self, name):
        return self.hold != name and self.random.random() < self._busy

    @clocked
    async def run(self):
        dut, random, log = self.dut, self.random, self.log
        dut.shape.value = pack(LAYOUTS.model_shape, MODEL)
        dut.sizes.value = pack(LAYOUTS.sizes, q_dim=Q, qk_dim=QK)
        inputs = Inputs(dut, {
            "program__data": 0, "tokens__data": 0, "passes__quant__ready": 0, "passes__done": 0, "passes__nonfinite": 0,
            "routes__code_valid": 0, "routes__gain_taken": 0, "engine__ready": 0, "lm_head__done": 0, "lm_head__best": 0,
            "fetch__busy": 0, "reset__clean": 0, "weights__idle": 1, "event__ready": 0, "counters__totals": 0,
            **({"draw__busy": 0, "draw__pick": 0} if SAMPLER else {})})
        fetching = heading = drawing = stopping = draining = gains = 0
        passing, streaming, drawn = False, False, 0
        # Cycles since the request of a quantise pass, since words and sums go nowhere, and since a step's CRC was kept; whether
        # the cycle before had a pulse ahead of gains, whether gains were taken then, and the step whose pass it began.
        quantised = still = kept = 0
        gain_start, loaded, began = False, False, None
        while True:
            inputs.drive()
            await settled()
            resetting = bool(dut.reset__compute.value)
            # From when the units' bursts have ended on.
            drained = inputs["reset__clean"] and inputs["weights__idle"]
            self.resets = self.resets + 1 if resetting and drained else 0
            # The units do not go on without their words.
            assert stopping != STOPPED or (resetting and dut.reset__drain.value)
            if dut.weights__start.value:
                assert inputs["weights__idle"] and not streaming
                streaming, inputs["weights__idle"], self.plain = True, 0, int(dut.weights__plain_tokens.value)
            if dut.weights__stop.value:
                streaming, stopping = False, STOPPED
            elif stopping:
                stopping = random.randint(0, 4) if stopping == STOPPED else stopping - 1
                inputs["weights__idle"] = int(not stopping)
            # Bursts end some cycles after the units were told to.
            draining = draining + 1 if dut.reset__drain.value else 0
            inputs["reset__clean"] = int(draining > 7)
            if resetting:
                fetching = heading = drawing = gains = 0
                passing = False
            step, = fields(LAYOUTS.run_state, int(dut.state.value), "step")
            # Memories
            at = int(dut.program__addr.value)
            inputs["program__data"] = self.words[at] if at < len(self.words) else 0
            at = int(dut.tokens__addr.value)
            if dut.tokens__read.value:
                inputs["tokens__data"] = self.memory[at]
            if dut.tokens__write.value:
                self.memory[at] = int(dut.tokens__wdata.value)
            # A step's codes, and its matrix
            if dut.passes__quant__valid.value and inputs["passes__quant__ready"]:
                quant = unpack(LAYOUTS.quant_args, int(dut.passes__quant__payload.value))
                n_eps, sqrt_n = fields(LAYOUTS.pass_args, int(dut.passes__args.value), "n_eps", "sqrt_n")
                log.append(("quant", *(bool(quant[name]) for name in ("src_a", "gain", "norm")), quant["n"], quant["first"],
                            quant["tokens"], n_eps, Scale(**sqrt_n).pack(),
                            *(bool(quant[name]) for name in ("wide", "again") if NORMS)))
                quantised = 0
            if dut.engine__valid.value and inputs["engine__ready"]:
                args = unpack(LAYOUTS.engine_args, int(dut.engine__payload.value))
                log.append(("engine", args["rows"], args["cols"], args["tokens"], bool(args.get("by_rows"))))
            for name in ("passes__quant__ready", "engine__ready"):
                inputs[name] = int(self.answers(name))
            quantised += 1
            # Where the caches of the step's layer lie is known by the first code that may come.
            inputs["routes__code_valid"] = int(self.answers("codes") and (step != QKV_STEP or quantised >= FIRST_CODE))
            # Words and sums have a way while a pass is under way.
            sink, source = int(dut.routes__word_sink.value), int(dut.routes__acc_source.value)
            still = still + 1 if (sink, source) == (WordSink.NONE.value, AccSource.NONE.value) else 0
            if began is not None and not resetting:
                op = PROGRAM[began].op
                assert source == (AccSource.FETCH if op == Op.EMBED else AccSource.ATTENTION if op == Op.ATTENTION else
                                  AccSource.ENGINE).value
                assert (sink == WordSink.ENGINE.value) == (op == Op.LINEAR)
                assert not NORMS or bool(dut.routes__from_codes.value) == (op == Op.NORM)
            began = step if dut.passes__clear.value else None
            # Four gains a word, from the cycle behind the pulse on
            loads = sink == WordSink.GAIN.value
            assert gain_start == (loads and not loaded)
            gain_start, loaded = bool(dut.passes__gain_start.value), loads
            gains += 4 * (loads and inputs["routes__gain_taken"])
            inputs["routes__gain_taken"] = int(loads and self.answers("gains"))
            # A pass's end: some cycles behind its begin, and its tokens' rows
            if passing and inputs["passes__done"] and not fetching and len(self.rows) == int(dut.routes__chunk.value):
                passing = False
                self.steps += 1
            if dut.passes__clear.value:
                args = unpack(LAYOUTS.pass_args, int(dut.passes__args.value))
                log.append(("pass", step, gains, {name: args[name] for name in SETTINGS[step]}))
                passing, gains = True, 0
                if step == 0:
                    self.rows.clear()
            bad = BAD in {token for token, _ in self.rows.values()}
            inputs["passes__nonfinite"] = int(bool(dut.passes__clear.value) and step == QKV_STEP and bad)
            for name, told in (("begin", "begins"), ("start", "starts")):
                if getattr(dut, f"attention__{name}").value:
                    args = unpack(LAYOUTS.attention_args, int(dut.attention__args.value))
                    log.append((f"attention {told}", args["position"], args["chunk"],
                                tuple(args[f"{name}_base"] for name in "kvs")))
            if dut.fetch__start.value:
                assert not fetching
                args = unpack(LAYOUTS.fetch_args, int(dut.fetch__args.value))
                log.append(("fetch", args["number"], args["token"], args["position"]))
                self.rows[args["number"]] = (args["token"], args["position"])
                fetching = random.randint(1, 4)
            elif self.hold != "fetch":
                fetching -= fetching > 0
            inputs["fetch__busy"] = int(fetching > 0)
            inputs["passes__done"] = int(not fetching and self.answers("pass"))
            # The LM head, and its picks
            if dut.lm_head__start.value:
                args = unpack(LAYOUTS.lm_head_args, int(dut.lm_head__args.value))
                of_all = (args["tokens"], args["first"]) if EVERY else ()
                in_two = (bool(args["two_steps"]), bool(args["drawn"]), args["low_page"]) if TWO_STEPS else ()
                log.append(("head", args["vocab"], bool(args["dump"]), *of_all, *in_two))
                # The LM head numbers the tokens for which it works.
                self.lone = args["first"] if EVERY else max(self.rows)
                by_rows = EVERY and self.log[-2][4]
                assert bool(dut.routes__for_lm_head.value) != by_rows
                assert not EVERY or bool(dut.routes__for_all.value) == by_rows
                heading = random.randint(1, 6)
                inputs["lm_head__done"] = 0
            elif self.hold != "head":
                inputs["lm_head__done"] = int(heading == 1)
                heading -= heading > 0
            token, position = self.rows.get(self.lone + (int(dut.lm_head__number.value) if EVERY else 0), (0, 0))
            inputs["lm_head__best"] = pack(LAYOUTS.best, id=pick_of(token, position), logit=logit_of(token, position))
            if SAMPLER and dut.draw__start.value:
                assert not drawing
                best, logit = fields(LAYOUTS.best, inputs["lm_head__best"], "id", "logit")
                place = int(dut.draw__position.value)
                log.append(("draw", place))
                drawn = pack(LAYOUTS.best, id=draw_of(best, place), logit=logit)
                drawing = random.randint(1, 9)
            elif self.hold != "draw":
                drawing -= drawing > 0
            if SAMPLER:
                inputs["draw__busy"] = int(drawing > 0)
                inputs["draw__pick"] = random.getrandbits(len(dut.draw__pick)) if drawing else drawn
            # A step's end, and the next step
            if dut.crc__write.value:
                log.append(("crc", int(dut.crc__step.value)))
                assert still == CRC_CYCLES
            if kept and dut.crc__clear.value:
                assert kept == NEXT_CYCLES
                kept = 0
            kept = 1 if dut.crc__write.value else 0 if resetting else kept + (kept > 0)
            # Events
            if dut.event__valid.value and inputs["event__ready"]:
                self.hear(int(dut.event__payload.value), inputs["counters__totals"])
            inputs["event__ready"] = int(self.answers("event"))
            inputs["counters__totals"] = random.getrandbits(TotalsLayout.size)
            await FallingEdge(dut.clk)

    def hear(self, bits, totals):
        kind, told = fields(EventLayout, bits, "type", "payload")
        assert {name: told[name] for name in TotalsLayout.members} == unpack(TotalsLayout, totals)
        logit = told["logit"] - (told["logit"] >> 31 << 32)
        self.events.append((EventType(kind), told["position"], told["id"], logit))

    # ---------------------------------------------------------------- the host
    async def start(self, args, tokens):
        dut = self.dut
        self.log.clear()
        self.events.clear()
        for i, token in enumerate(tokens):
            self.memory[args.position + i] = token
        dut.run__args.value, dut.run__start.value = int.from_bytes(args.pack(), "little"), 1
        await settled()
        assert bool(dut.counters__clear.value) == flagged(args, StartFlags.CLEAR)
        await FallingEdge(dut.clk)
        dut.run__start.value, dut.run__args.value = 0, self.random.getrandbits(RunArgs.size)
        return Expected(args, tokens)

    async def stop(self):
        self.dut.run__stop.value = 1
        await FallingEdge(self.dut.clk)
        self.dut.run__stop.value = 0

    async def until(self, condition, limit=20_000):
        for _ in range(limit):
            if condition():
                return
            await FallingEdge(self.dut.clk)
        raise AssertionError(f"not within {limit} cycles: {self.log[-3:]}, {self.events}")

    def seen_last(self):
        """The name of what the units saw last."""
        return self.log[-1][0] if self.log else ""

    def state(self):
        return unpack(LAYOUTS.run_state, int(self.dut.state.value))

    async def ended(self):
        """The run's DONE."""
        longest = 0

        def done():
            nonlocal longest
            longest = max(longest, self.resets)
            return bool(self.events) and self.events[-1][0] == DONE

        await self.until(done)
        assert longest >= RESET_CYCLES, longest
        await FallingEdge(self.dut.clk)
        assert not self.state()["running"]

    async def whole(self, args, tokens):
        """A run to its end."""
        want = await self.start(args, tokens)
        await self.ended()
        assert self.log == want.log, next((n, a, b) for n, (a, b) in enumerate(zip([*self.log, None], [*want.log, None],
                                                                                 strict=False)) if a != b)
        assert self.plain == want.plain
        assert [event[:2] + event[3:] for event in self.events] == [event[:2] + event[3:] for event in want.events]
        assert all(got[2] == event[2] for got, event in zip(self.events, want.events, strict=True) if event[2] is not None)
        assert {at: self.memory[at] for at in want.fed} == want.fed
        reason = DoneReason(self.events[-1][3])
        assert self.state()["nonfinite"] == (reason == DoneReason.NONFINITE) and not self.state()["stopped"]
        report_point(f"end: {reason.name}")
        return want


async def bring_up(dut, **options):
    for name in ("run__start", "run__stop", "run__args"):
        getattr(dut, name).value = 0
    await reset(dut)
    board = Board(dut, rng("board"), **options)
    cocotb.start_soon(board.run())
    return board


def prompt(random, length):
    return [random.randrange(0, VOCAB, 2) for _ in range(length)]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def runs_to_their_ends(dut):
    """Prompts of some lengths, in chunks of several sizes, with all flags: the end of the text, of the run and of the context."""
    board, random, seen = await bring_up(dut), rng("runs"), []
    for n in range(RUNS):
        length, chunk = (1, LANES, LANES + 1, 2 * LANES + 3, 1)[n % 5], (0, LANES, 2, 999)[n % 4]
        position = random.choice((0, 0, 3, CONTEXT - length))
        flags = sum(flag for flag in StartFlags if (n % 2 if flag == StartFlags.ALL else random.random() < 0.4))
        tokens, generate = prompt(random, length), (0, 1, 2, 5)[n // 5 % 4]
        if n % 10 == 9:
            tokens[random.randrange(length)] = BAD
        # The first pick that counts, in the last place; or numbers of which a token has the lower bits.
        pick = pick_of(tokens[-1], position + length - 1)
        if SAMPLER and flags & StartFlags.SAMPLE:
            pick = draw_of(pick, position + length)
        ends = (pick + (1 << 31), pick + (1 << LAYOUTS.widths.token_id_bits))
        if n % 3 == 0 and generate:
            ends = (VOCAB + 1, VOCAB + 2, VOCAB + 3, pick)
        args = StartArgs(position, length, generate, StartFlags(flags), chunk, ends=ends)
        seen.append((args, await board.whole(args, tokens)))
    assert any(len(ids) == LANES for _, want in seen for _, ids in want.passes)
    report_point("limit: a pass of all lanes")
    assert any(args.feed > LANES < args.chunk for args, _ in seen)
    report_point("limit: a START of more tokens a pass than there are lanes")
    await board.whole(StartArgs(CONTEXT - 2, 1, 9), prompt(random, 1))
    assert board.events[-1][1:] == (CONTEXT - 1, board.events[-2][2], DoneReason.CONTEXT)
    report_point("limit: the context's last position")
    # An infinity of the second chunk's.
    await board.whole(StartArgs(0, LANES + 1, 2), [*prompt(random, LANES), BAD])
    assert board.events == [(DONE, LANES, QKV_STEP, DoneReason.NONFINITE)]
    report(cases=RUNS + 2)


@cocotb.test()
async def a_prompt_of_many_tokens(dut):
    """All bits of ``feed`` count: the first pass is of all lanes, and all passes but the last are without the LM head."""
    for name in ("run__start", "run__stop", "program__data", "passes__nonfinite", "reset__clean", "weights__idle"):
        getattr(dut, name).value = 0
    await reset(dut)
    args = StartArgs(0, (1 << 15) + 1, 1)
    dut.run__args.value, dut.run__start.value = int.from_bytes(args.pack(), "little"), 1
    await FallingEdge(dut.clk)
    dut.run__start.value = 0
    passes = -(-args.feed // LANES)
    await ClockCycles(dut.clk, passes)
    await FallingEdge(dut.clk)
    assert dut.weights__start.value and int(dut.weights__plain_tokens.value) == passes - 1
    await ClockCycles(dut.clk, 3)
    assert int(dut.routes__chunk.value) == LANES
    report(cases=1)


#: What does not answer when the stop comes: the last that the units saw before it, and the run's flags.
HOLDS = {"codes": ("quant", 0), "gains": ("", 0), "fetch": ("fetch", 0), "pass": ("fetch", 0),
         "head": ("head", 0), **({"draw": ("draw", StartFlags.SAMPLE)} if SAMPLER else {})}


async def stopped(board, want):
    """The end of a run that was stopped: what the units saw, and the events, are the first of those of the whole run."""
    await board.ended()
    board.hold = ""
    assert board.log == want.log[:len(board.log)]
    *told, (kind, position, _, reason) = board.events
    assert told == want.events[:len(told)]
    assert (kind, reason) == (DONE, DoneReason.STOPPED), board.events
    assert want.args.position <= position <= want.passes[-1][0] + LANES
    assert board.state()["stopped"]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def stops_in_each_state(dut):
    """A stop while each unit is waited for, between two steps, among the picks of a chunk, and at random; and while nothing runs.
    The run behind each of them is whole."""
    board, random = await bring_up(dut), rng("stops")
    args = StartArgs(1, LANES + 1, 2)
    for hold, (last, flags) in HOLDS.items():
        board.hold = hold
        want = await board.start(StartArgs(1, LANES + 1, 2, StartFlags(flags)), prompt(random, LANES + 1))
        await board.until(lambda last=last: board.seen_last() == last)
        for _ in range(60):
            await FallingEdge(dut.clk)
        assert board.seen_last() == last, hold
        await board.stop()
        await stopped(board, want)
        await board.whole(args, prompt(random, LANES + 1))
    # Behind a step's end, four cycles before the next one.
    want, steps = await board.start(args, prompt(random, LANES + 1)), board.steps
    await board.until(lambda: board.steps > steps + 2)
    await board.stop()
    await stopped(board, want)
    assert board.seen_last() == "crc"
    if EVERY:
        board.hold = "event"
        want = await board.start(StartArgs(0, LANES, 1, StartFlags.ALL), prompt(random, LANES))
        await board.until(lambda: board.dut.event__valid.value)
        await board.stop()
        board.hold = ""
        await stopped(board, want)
        # The pick that was on its way is told.
        assert [event[0] for event in board.events] == [TOKEN, DONE]
    for _ in range(8):
        want = await board.start(args, prompt(random, LANES + 1))
        for _ in range(random.randrange(150)):
            await FallingEdge(dut.clk)
        await board.stop()
        await stopped(board, want)
    await board.stop()
    for _ in range(100):
        await FallingEdge(dut.clk)
        assert not board.state()["running"]
    await board.whole(args, prompt(random, LANES + 1))
    report_point("end: STOPPED")
    report(cases=2 * len(HOLDS) + 10)
