# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Attention of passes that have tokens of several sequences: rows of each in its slot, and a start a run."""

import os

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from hw.attention.prefill import PrefillAttention
from hw.attention.scatter import ChunkHeads
from sim.cocotb_streams import StreamSink, StreamSource, report, report_note, report_point, report_shares, reset, rng
from sim.testbench import Bench
from tellme.golden.elementwise import dequantise
from tellme.spec.attention import c_att
from tests.hw.attention.tb_prefill import BITS, CONTEXT, GROUP, HEAD_DIM, PES, TOKENS, UNITS, Case
from tests.hw.layouts import accumulators, layouts_of, pack
from tests.hw.memory_model import QueuedReadModel, ReadModel, WriteModel


def layouts(slots, tokens, context, bits, head_dim, group):
    memory = {"ddr3_chip": "MT41K256M16", "lanes": 2 * tokens} if bits == 64 else {}
    return layouts_of(chunk=tokens, head_tokens=tokens, slots=slots, max_head_dim=head_dim, max_group=group, max_context=context,
                      **memory)


def bench(name, *tests, slots, pes, tokens, exp_units=1, context=64, bits=32, head_dim=64, group=4, nightly=""):
    sizes = {"SLOTS": str(slots), "PES": str(pes), "TOKENS": str(tokens), "EXP_UNITS": str(exp_units), "CONTEXT": str(context),
             "BITS": str(bits), "HEAD_DIM": str(head_dim), "GROUP": str(group)}
    return Bench(name=name, env=sizes, tests=tests, nightly=nightly,
                 build=lambda: PrefillAttention(layouts(slots, tokens, context, bits, head_dim, group), pes=pes,
                                                exp_units=exp_units))


MIXED = ("mixed", "one_token_runs", "one_run", "layers", "stalls_10", "stalls_90", "near_context", "heads_rate",
         "memory_rate")
NO_BOARD = "no board is built with these numbers; CI has four tokens on four PEs"
WIDE = "five tokens on four PEs and words of 64 bits, as in ecpix5-85f; CI has four tokens and words of 32 bits"
POINTS = ("limit: as many runs as slots", "limit: a run that ends with its slot, and the last slot's last token")
BENCHES = [bench("pes4-tokens4", *MIXED, slots=4, pes=4, tokens=4),
           bench("pes8-tokens8", *MIXED, slots=8, pes=8, tokens=8, group=8, nightly=NO_BOARD),
           bench("pes16-tokens16", *MIXED, slots=16, pes=16, tokens=16, exp_units=2, context=96, nightly=NO_BOARD),
           bench("pes16-stories", "stories", slots=16, pes=16, tokens=16, exp_units=2, context=96,
                 nightly="a measurement; pes4-tokens4 asserts the same cycles"),
           bench("pes16-tokens16-unit1", "mixed", "one_token_runs", "stalls_90", "memory_rate", slots=4, pes=16, tokens=16,
                 group=8, nightly=NO_BOARD),
           bench("pes4-tokens5-64bit", *MIXED, slots=4, pes=4, tokens=5, context=63, bits=64, head_dim=128, group=8, exp_units=2,
                 nightly=NO_BOARD),
           bench("pes4-tokens5-ecpix5", *MIXED, slots=4, pes=4, tokens=5, context=50, bits=64, head_dim=128, nightly=WIDE),
           bench("pes16-tokens8-64bit", *MIXED, slots=8, pes=16, tokens=8, context=63, bits=64, head_dim=128, group=8,
                 exp_units=2, nightly=NO_BOARD)]
SLOTS = int(os.environ.get("SLOTS", "16"))
#: Turns of a softmax unit; cycles for which a run's arguments stand before its start.
UNIT_TURNS, UNIT_ARGS = PES // UNITS, PrefillAttention.ARGS_CYCLES
#: For the constants of its contract.
LAYOUTS = layouts(SLOTS, TOKENS, CONTEXT, BITS, HEAD_DIM, GROUP)


class Pass:
    """Tokens of a pass: ``runs`` of (slot, position, tokens).  Each of its ``layers`` has heads and caches of its own."""

    def __init__(self, random, runs, *, heads, kv_heads, head_dim, layers=1, shuffled=True, odd=0):
        self.random, self.shuffled = random, shuffled
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.tokens = sum(tokens for _, _, tokens in runs)
        self.name = f"heads {heads}/{kv_heads} of {head_dim}, runs {runs}"
        self.kv_stride, self.s_stride = SLOTS * CONTEXT * head_dim // 4, SLOTS * CONTEXT
        self.places = [(slot * CONTEXT + position + t, tokens - t) for slot, position, tokens in runs for t in range(tokens)]
        self.slots = [slot for slot, _, _ in runs]
        self.layers = []
        part = kv_heads * self.kv_stride
        for _ in range(layers):
            k_base = 2 * random.randint(1, 1000)
            v_base = k_base + part + 2 * random.randint(0, 1000)
            s_base = v_base + part + 2 * random.randint(0, 1000) + odd
            cases, first = [], 0
            for slot, position, tokens in runs:
                at = slot * CONTEXT
                cases.append(Case(random, heads=heads, kv_heads=kv_heads, head_dim=head_dim, position=position, chunk=tokens,
                                  k_base=k_base + at * head_dim // 4, v_base=v_base + at * head_dim // 4, s_base=s_base + at,
                                  kv_stride=self.kv_stride, s_stride=self.s_stride, first=first,
                                  after=self.tokens - first - tokens))
                first += tokens
            self.layers.append(({"k_base": k_base, "v_base": v_base, "s_base": s_base}, cases))

    def heads_in(self, cases):
        """A layer's heads, in any order of heads and tokens or token after token; and whether scales follow the last one."""
        order = [(case, h, t) for case in cases for t in range(case.chunk) for h in range(self.heads + 2 * self.kv_heads)]
        if self.shuffled:
            self.random.shuffle(order)
        return [word for case, h, t in order for word in case.head_in(h, t)], order[-1][1] >= self.heads

    def cycles_in(self, scales_last):
        """Cycles until the last word (scales may follow) by the docstring's formula, for a memory that never waits."""
        words, unit = self.head_dim // 4, ChunkHeads
        heads = self.heads * (unit.QUERY_CYCLES + words) + 2 * self.kv_heads * (unit.KV_CYCLES + words)
        scales = self.tokens + unit.SCALES_CYCLES + (len(self.slots) - 1) * unit.RUN_CYCLES
        return self.tokens * heads + (self.kv_heads - scales_last) * scales


async def check_run(dut, sink, reads, case):
    """The sums of the run that was started; cycles from its first word to its last sum, and cycles of ``busy``."""
    expected, before = case.expected(), reads.count
    task = cocotb.start_soon(sink.recv_n(len(expected)))
    busy = cycles = 0
    while reads.count == before and not (dut.read__data__valid.value and dut.read__data__ready.value):
        assert dut.control__busy.value, case.name
        await FallingEdge(dut.clk)
        busy += 1
    while not task.done():
        assert dut.control__busy.value, case.name
        await FallingEdge(dut.clk)
        cycles += 1
    came, found, values = {}, {}, np.zeros((case.chunk, case.heads * case.head_dim), np.float16)
    for acc, scale, token, index in accumulators(LAYOUTS, task.result()):
        assert index > came.get(token, -1), (case.name, "a token's elements come in order")
        came[token] = index
        found[token - case.first, index] = (acc, scale)
        values[token - case.first, index] = dequantise(np.array([acc]), tuple(np.array([x]) for x in scale))[0]
    assert found.keys() == expected.keys(), case.name
    wrong = [k for k in expected if found[k] != expected[k]]
    assert not wrong, (case.name, len(wrong), wrong[0], found[wrong[0]], expected[wrong[0]])
    assert (values == case.golden()).all(), case.name
    assert reads.count - before == sum(case.words_read()), (case.name, reads.count - before)
    ending = 0
    while dut.control__busy.value:
        assert ending < 6, case.name
        assert not dut.acc__valid.value, case.name
        await FallingEdge(dut.clk)
        ending += 1
    return cycles, busy + cycles + ending


async def run(dut, passes, *, stall=0.0, pause=None, queued=True, rest=3, in_order=False):
    """All passes on one unit; ``cycles`` of each has its runs' Cases, each with what check_run says of it."""
    for name in ("control__begin", "control__start", "control__args", "control__row_place", "heads__valid", "read__data__valid"):
        getattr(dut, name).value = 0
    await reset(dut)
    random = rng("run")
    heads = StreamSource(dut, "heads", idle=stall, rng=rng("heads"))
    sink = StreamSink(dut, "acc", stall=stall, rng=rng("acc"))
    memory: dict[int, int] = {}
    model = QueuedReadModel if queued else ReadModel
    hold = 2 if stall else 0
    reads = model(dut, "read", memory, request=LAYOUTS.memory_request, pause=pause, hold=hold)
    writes = WriteModel(dut, "write", memory, request=LAYOUTS.memory_request, stall=stall, rest=rest, hold=hold, rng=rng("write"))
    cocotb.start_soon(reads.run())
    cocotb.start_soon(writes.run())
    fields = dict(LAYOUTS.attention_args)

    async def pulse(signal):
        signal.value = 1
        await FallingEdge(dut.clk)
        signal.value = 0

    def set_args(layer, **of_run):
        """What is of the run is anything while no run is under way."""
        other = {name: random.getrandbits(fields[name].width) for name in ("position", "run_tokens", "after", "slot_place")}
        dut.control__args.value = pack(LAYOUTS.attention_args, layer | (of_run or other))

    for one in passes:
        dut.shape.value = pack(LAYOUTS.model_shape, heads=one.heads, kv_heads=one.kv_heads, head_dim=one.head_dim,
                               group=one.heads // one.kv_heads, c_att=c_att(one.head_dim), kv_stride=one.kv_stride,
                               s_stride=one.s_stride)
        for _ in range(3):
            await FallingEdge(dut.clk)
        for token in random.sample(range(one.tokens), one.tokens):
            for _ in range(random.choice((0, 0, 1, 3))):
                await FallingEdge(dut.clk)
            place, left = one.places[token]
            dut.control__row_place.value = pack(LAYOUTS.row_place, en=1, token=token, place=place, left=left)
            await FallingEdge(dut.clk)
            dut.control__row_place.value = pack(LAYOUTS.row_place, en=0, token=random.randrange(TOKENS))
        for bases, cases in one.layers:
            layer = bases | {"chunk": one.tokens}
            set_args(layer)
            memory.clear()
            known = {at for case in cases for at in case.words(0, case.keys)}
            neighbours = {at: random.getrandbits(32) for case in cases for h in range(one.kv_heads) for at in case.scale_range(h)
                          if at not in known}
            memory.update(neighbours)
            for case in cases:
                memory.update(case.words(0, case.position))
            await pulse(dut.control__begin)
            before, began = writes.count, heads.cycles
            words, one.scales_last = one.heads_in(cases)
            await heads.send_all(words)
            one.heads_took = heads.cycles - began
            one.cycles = []
            for n, case in enumerate(cases if in_order else random.sample(cases, len(cases))):
                for _ in range(random.randint(0, 3)):
                    set_args(layer)
                    await FallingEdge(dut.clk)
                set_args(layer, position=case.position, run_tokens=case.chunk, after=case.after,
                         slot_place=one.slots[cases.index(case)] * CONTEXT)
                for _ in range(UNIT_ARGS):
                    await FallingEdge(dut.clk)
                await pulse(dut.control__start)
                one.cycles.append((case, *await check_run(dut, sink, reads, case)))
                if not n:
                    want = neighbours.copy()
                    for other in cases:
                        want.update(other.words(0, other.keys))
                    wrong = [hex(a) for a in {*want, *memory} if memory.get(a) != want.get(a)]
                    assert not wrong, (one.name, len(wrong), wrong[:4])
            assert writes.count - before == sum(len(c.words(c.position, c.keys)) for c in cases), one.name
            assert all(memory.get(a) == w for a, w in want.items()) and len(memory) == len(want), one.name
    report_shares(acc_ready=sink.low_share, heads_valid=heads.low_share)
    report(cases=sum(p.tokens * p.heads * p.head_dim * len(p.layers) for p in passes))




def mixture(random, tokens=None, least=0, most=12):
    """Runs of a pass of some tokens: of different slots, at any positions from ``least`` to ``most``, some of one token."""
    tokens = random.randint(1, TOKENS) if tokens is None else tokens
    runs = random.randint(1, min(SLOTS, tokens))
    ends = sorted(random.sample(range(1, tokens), runs - 1))
    slots = random.sample(range(SLOTS), runs)
    return [(slot, random.choice((least, random.randint(least, most))), end - begin)
            for slot, begin, end in zip(slots, [0, *ends], [*ends, tokens], strict=True)]


def shapes():
    """Query heads, KV heads and elements of models that the unit takes."""
    return [s for s in ((4, 1, 16), (2, 2, 32), (8, 4, 24), (3, 3, 16), (6, 2, 16), (4, 2, 64), (8, 1, 16), (7, 1, 24),
                        (5, 1, 40), (2, 2, 96), (14, 2, 16), (8, 1, 128))
            if s[0] // s[1] <= GROUP and s[2] <= HEAD_DIM]


@cocotb.test()
async def mixed(dut):
    random = rng("mixed")
    await run(dut, [Pass(random, mixture(random), heads=h, kv_heads=kv, head_dim=d, odd=random.getrandbits(1))
                    for h, kv, d in shapes() for _ in range(3)])


@cocotb.test()
async def one_token_runs(dut):
    """Sequences that decode side by side, in any order of slots; as many as there can be."""
    random = rng("ones")
    await run(dut, [Pass(random, [(slot, random.choice((0, 1, random.randint(0, 20))), 1)
                                  for slot in random.sample(range(SLOTS), min(SLOTS, TOKENS))], heads=h, kv_heads=kv, head_dim=d)
                    for h, kv, d in random.sample(shapes(), 3)])
    if SLOTS <= TOKENS:
        report_point("limit: as many runs as slots")


@cocotb.test()
async def one_run(dut):
    """A prompt's chunk in one of the slots, and a token alone, whose rows are not read back where words have 32 bits."""
    random = rng("one")
    await run(dut, [Pass(random, [(random.randrange(SLOTS), position, tokens)], heads=h, kv_heads=kv, head_dim=d)
                    for h, kv, d in random.sample(shapes(), 3)
                    for position, tokens in ((0, TOKENS), (0, 1), (random.randint(1, 20), 1), (7, random.randint(1, TOKENS)))])


@cocotb.test()
async def layers(dut):
    """A pass's places stand for all of its layers."""
    random = rng("layers")
    await run(dut, [Pass(random, mixture(random, TOKENS), heads=4, kv_heads=2, head_dim=16, layers=3) for _ in range(2)])


@cocotb.test()
async def stalls_10(dut):
    random = rng("stalls")
    await run(dut, [Pass(random, mixture(random), heads=4, kv_heads=2, head_dim=32) for _ in range(4)],
              stall=0.1, pause=lambda: int(random.random() < 0.1))


@cocotb.test()
async def stalls_90(dut):
    random = rng("stalls")
    await run(dut, [Pass(random, mixture(random, most=5), heads=4, kv_heads=2, head_dim=16)], stall=0.9,
              pause=lambda: random.randint(0, 20), queued=False)


@cocotb.test()
async def near_context(dut):
    """Runs that end with their slot, beside a run of the slot behind it."""
    random = rng("context")
    tokens = random.randint(1, TOKENS - 1)
    slot = random.randrange(SLOTS - 1)
    await run(dut, [Pass(random, runs, heads=4, kv_heads=2, head_dim=16, odd=1)
                    for runs in ([(slot + 1, 0, TOKENS - tokens), (slot, CONTEXT - tokens, tokens)],
                                 [(SLOTS - 1, CONTEXT - 1, 1)])])
    report_point("limit: a run that ends with its slot, and the last slot's last token")


@cocotb.test()
async def heads_rate(dut):
    """A word per cycle, apart from the cycles that each head and each run's scales cost; memory takes words at once."""
    random = rng("heads")
    passes = [Pass(random, mixture(random, TOKENS), heads=h, kv_heads=kv, head_dim=d) for h, kv, d in ((8, 4, 32), (4, 1, 16))]
    await run(dut, passes, rest=0)
    for one in passes:
        assert one.heads_took == one.cycles_in(one.scales_last), (one.name, one.heads_took, one.cycles_in(one.scales_last))


@cocotb.test()
async def memory_rate(dut):
    """The cycles of each run are those of the docstring: of one that is a whole pass, those of a chunk.

    This memory answers a request after eight cycles, and K is asked for when a KV head's scales begin to come.  So the scales of
    ten keys, or of twenty in words of two, take long enough that no word is waited for.
    """
    random = rng("rate")
    least = 10 * BITS // 32
    singles = [(slot, 20 + slot, 1) for slot in range(min(SLOTS, TOKENS))]
    # Heads of 16 elements ask for weights so far ahead that a V row of few turns takes more than its words.
    shortest = 24 if UNIT_TURNS == 16 else BITS // 2
    passes = [Pass(random, runs, heads=h, kv_heads=kv, head_dim=d)
              for h, kv, d in ((8, 4, 32), (4, 1, 64), (4, 1, shortest))
              for runs in ([(1, 20, TOKENS)], mixture(random, TOKENS, least=least, most=least + 10), singles)]
    await run(dut, passes)
    for one in passes:
        report_note(f"heads {one.heads}/{one.kv_heads} of {one.head_dim}, {one.tokens} tokens: "
                    f"{sum(cycles for _, cycles, _ in one.cycles)} cycles in {len(one.cycles)} runs")
        for case, cycles, _ in one.cycles:
            assert cycles == case.cycles(), (one.name, case.name, case.after, cycles, case.cycles())


@cocotb.test()
async def stories(dut):
    """What sequences that decode side by side take, in the shape of stories-8m: each at the same position."""
    random = rng("stories")
    passes = [Pass(random, [(slot, position, 1) for slot in range(tokens)], heads=8, kv_heads=2, head_dim=64)
              for position in (0, 32, 64) for tokens in (1, 8, 16)]
    await run(dut, passes)
    for one in passes:
        position = one.layers[0][1][0].position
        report_note(f"{one.tokens} at position {position}: busy for {sum(busy for *_, busy in one.cycles)} cycles")
        for case, cycles, _ in one.cycles if position else ():
            assert cycles == case.cycles(), (one.name, case.name, case.after, cycles, case.cycles())
