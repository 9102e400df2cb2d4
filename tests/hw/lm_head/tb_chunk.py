# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head of several tokens: logits, picks and the best 64 of each token against the specification, from sums."""

import os
from dataclasses import replace

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.layouts import Layouts
from hw.lm_head.best_list import BestList
from hw.lm_head.chunk import ChunkLmHead
from sim.cocotb_streams import StreamSource, report, report_point, report_shares, reset, rng
from sim.testbench import Bench
from tellme.spec.attention import logit
from tellme.spec.config import preset
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.scale import Scale, scale_mul
from tests.hw.layouts import accumulator, layouts_of, pack, unpack
from tests.hw.lm_head.one_pass import one_pass
from tests.hw.memory_model import WriteModel


def layouts(tokens, streams):
    return layouts_of(chunk=tokens, head_tokens=tokens, float_lanes=streams, max_dim=64, max_cols=128, max_vocab=1000)


#: By bench: tokens of a chunk, float pipelines, whether the core is compact.
KINDS = {"chunk4": (4, 2, False), "chunk16": (16, 2, False), "chunk5": (5, 1, True), "ecpix5": (5, 1, False)}
KIND = os.environ.get("KIND", "chunk4")
TOKENS, STREAMS, COMPACT = KINDS[KIND]


def layouts_of_kind(name):
    """Of a bench: ecpix5 has the sums, ids and addresses of the preset with the longest vectors, and words of 64 bits."""
    if name != "ecpix5":
        return layouts(*KINDS[name][:2])
    return Layouts(replace(preset("ecpix5-85f"), head_tokens=KINDS[name][0]).widths)


LAYOUTS = layouts_of_kind(KIND)
BENCHES = [Bench(name=name, build=lambda name=name, kind=kind: ChunkLmHead(layouts_of_kind(name), streams=kind[1],
                                                                           compact=kind[2]),
                 env={"KIND": name}, nightly="" if name == "chunk4" else "chunk-chunk4 has the same tests with fewer tokens")
           for name, kind in KINDS.items()]
POINTS = ("limit: a vocabulary of one row", "limit: 63, 64 and 65 rows for lists of 64", "limit: passes of one token and of all",
          "limit: the longest vocabulary", "limit: the largest sums of the longest rows")
#: Cycles of a candidate that moves no entry.
LIST_CYCLES = BestList.ENTRY_CYCLES
#: Cycles of a pass beside its sums and candidates, at most.
BESIDE = ChunkLmHead.LATENCY + 16 + TOKENS
DUMP_BASE = 0x500


class Case:
    """Sums of rows and tokens; a row more than the vocabulary if that is odd.  ``first``: the number of the first token."""

    def __init__(self, random, vocab, tokens, *, first=0, most=None, exps=(-20, -16), sums=None, scales=None, ds=None):
        most = 128 * 128 * 64 if most is None else most
        self.vocab, self.tokens, self.first = vocab, tokens, first
        self.ds = ds or [Scale(random.randint(1024, 2047), random.randint(-22, -18)) for _ in range(tokens)]
        self.sums = sums or [[random.randint(-most, most) for _ in range(tokens)] for _ in range(vocab)]
        self.scales = scales or [Scale(random.randint(1024, 2047), random.randint(*exps)) for _ in range(vocab)]

    def payloads(self):
        sums, scales = self.sums, self.scales
        if self.vocab % 2:
            # It would win if it were counted.
            sums, scales = [*sums, [128 * 128 * 64] * self.tokens], [*scales, Scale(2047, 0)]
        # The LM head counts rows and tokens itself.
        places = 1 << LAYOUTS.widths.row_bits
        return [accumulator(LAYOUTS, acc, scale, self.first + t, i % places)
                for i, (row, scale) in enumerate(zip(sums, scales, strict=True)) for t, acc in enumerate(row)]

    def logits(self):
        """A list of rows for each token."""
        return [[logit(row[t], scale_mul(self.ds[t], scale)) for row, scale in zip(self.sums, self.scales, strict=True)]
                for t in range(self.tokens)]


async def tell(dut, case):
    """The scales of the codes, each pipeline's in order."""
    for own in range(-(-TOKENS // STREAMS)):
        for s in range(STREAMS):
            number = own * STREAMS + s - case.first
            d = case.ds[number] if 0 <= number < case.tokens else Scale(1111, 3)
            getattr(dut, f"scales__{s}").value = pack(LAYOUTS.token_scale, valid=1, token=own, d=d)
        await FallingEdge(dut.clk)
    for s in range(STREAMS):
        getattr(dut, f"scales__{s}").value = pack(LAYOUTS.token_scale, token=rng("idle").randrange(TOKENS), d=Scale(2047, 9))


async def one(dut, case, sums, *, dump, memory):
    """A pass: what it shows, stores and picks.  Gives the cycles from the start to its end."""
    expected, vocab, tokens = case.logits(), case.vocab, case.tokens
    await tell(dut, case)
    args = pack(LAYOUTS.lm_head_args, vocab=vocab, tokens=tokens, first=case.first, dump=dump, dump_base=DUMP_BASE)
    cycles, shown = await one_pass(dut, args, [sums.send_all(case.payloads())])
    unsigned = [[v & 0xFFFFFFFF for v in column] for column in expected]
    assert shown == unsigned[-1]
    if dump:
        assert [memory.pop(DUMP_BASE + i) for i in range(vocab * tokens)] == [
            unsigned[t][row] for row in range(vocab) for t in range(tokens)]
    assert not memory
    for t in range(tokens):
        ranked = sorted(range(vocab), key=lambda i, column=expected[t]: (-column[i], i))[:TOP_ENTRIES]
        dut.control__number.value = t
        await FallingEdge(dut.clk)
        assert unpack(LAYOUTS.best, int(dut.control__best.value)) == {"id": ranked[0], "logit": expected[t][ranked[0]]}, t
        for n, ident in enumerate(ranked):
            dut.top_addr.value = TOP_ENTRIES * t + n
            await FallingEdge(dut.clk)
            assert unpack(LAYOUTS.top_entry, int(dut.top_data.value)) == {"logit": unsigned[t][ident], "id": ident}, (t, n)
    return cycles


async def run(dut, cases, *, dump=False, idle=0.0, stall=0.0):
    """Cycles of the last case."""
    dut.control__start.value = 0
    for s in range(STREAMS):
        getattr(dut, f"scales__{s}").value = 0
    await reset(dut)
    sums = StreamSource(dut, "sums", idle=idle, rng=rng("sums"))
    memory: dict[int, int] = {}
    cocotb.start_soon(WriteModel(dut, "write", memory, request=LAYOUTS.memory_request, stall=stall, hold=2 if idle else 0,
                                 rng=rng("write")).run())
    for case in cases:
        cycles = await one(dut, case, sums, dump=dump, memory=memory)
    report_shares(sums_valid=sums.low_share)
    report(cases=sum(c.vocab * c.tokens for c in cases))
    return cycles


@cocotb.test()
async def shapes(dut):
    """All tokens, some, and one of any number; odd vocabularies, and such with fewer rows than the list has entries."""
    random = rng("shapes")
    cases = [Case(random, vocab, tokens) for vocab, tokens in (
        (5, TOKENS), (64, TOKENS - 1), (131, TOKENS), (90, 1), (1, TOKENS), (2, 2), (67, TOKENS), (63, 3), (65, TOKENS))]
    cases += [Case(random, 70, 1, first=first) for first in range(TOKENS)]
    await run(dut, cases)
    for point in POINTS[:3]:
        report_point(point)


@cocotb.test()
async def ties_go_to_the_lower_id(dut):
    """Sums of three values only, and the same scale: many equal logits."""
    random = rng("ties")
    scales = [Scale(1500, -18)] * 150
    await run(dut, [Case(random, 150, tokens, most=1, scales=scales) for tokens in (TOKENS, 2)])


@cocotb.test()
async def saturated(dut):
    """Logits at both ends of their range in some tokens, with scales of their own."""
    random = rng("saturated")
    exponents = (-20, 0, 20, 100, -120)
    for turn in range(3):
        ds = [Scale(2047, exponents[(turn + t) % len(exponents)]) for t in range(TOKENS)]
        await run(dut, [Case(random, 71, TOKENS, ds=ds, exps=(-10, 5))])


@cocotb.test()
async def largest_sums(dut):
    """The largest sums of the longest rows in each token, at shifts in both directions."""
    random, most = rng("largest"), 128 * 128 * LAYOUTS.widths.dim
    sums = [[sign * (most - n - t) for t in range(TOKENS)] for n in range(20) for sign in (1, -1)]
    for exponents in ((-20, -10), (-16, 8)):
        await run(dut, [Case(random, len(sums), TOKENS, sums=sums, exps=exponents)])
    report_point("limit: the largest sums of the longest rows")


@cocotb.test()
async def rising_logits_and_dump(dut):
    """Every row of each token enters at the top of its list: sums wait, and nothing is lost."""
    vocab = 110
    sums = [[i - 50 + t for t in range(TOKENS)] for i in range(vocab)]
    case = Case(rng("rising"), vocab, TOKENS, sums=sums, scales=[Scale(1500, -10)] * vocab)
    cycles = await run(dut, [case], dump=True, stall=0.5)
    moved = sum(min(i, TOP_ENTRIES - 1) for i in range(vocab))
    assert TOKENS * (vocab * LIST_CYCLES + moved) <= cycles <= TOKENS * (vocab * LIST_CYCLES + moved) + BESIDE, cycles


@cocotb.test()
async def stalls_10(dut):
    random = rng("s")
    await run(dut, [Case(random, 90, TOKENS), Case(random, 33, 2), Case(random, 41, 1)], dump=True, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    random = rng("s")
    await run(dut, [Case(random, 31, TOKENS), Case(random, 70, 1)], dump=True, idle=0.9, stall=0.9)
    # Falling logits, so that the dump alone keeps sums waiting.
    falling = [[100 - i] * TOKENS for i in range(80)]
    await run(dut, [Case(random, 80, TOKENS, sums=falling, scales=[Scale(1500, -10)] * 80)], dump=True, stall=0.9)


@cocotb.test()
async def a_sum_a_cycle(dut):
    """Falling logits, of which only the first 64 enter the lists: a cycle a sum, of a single token two, and the lists' time."""
    for tokens, each in ((TOKENS, 1), (1, 2)):
        vocab = min(1000, LAYOUTS.widths.vocab)
        falling = [[127 - i * 255 // vocab] * tokens for i in range(vocab)]
        case = Case(rng("rate"), vocab, tokens, sums=falling, scales=[Scale(1024, -10)] * vocab)
        column = case.logits()[0]
        assert column == sorted(column, reverse=True)
        # In the middle one logit of each token is above all, the last token's first: the others of these rows do not enter, and
        # none behind them.
        for t in range(tokens):
            falling[vocab // 2 + tokens - 1 - t][t] = 200
        cycles = await run(dut, [case])
        # Of the first 64 one in LIST_CYCLES leaves the queue as they come.  Those after a full queue wait.
        others = LIST_CYCLES - 1
        waited = max(0, others * (tokens * TOP_ENTRIES - (ChunkLmHead.CANDIDATES - 32) // others))
        assert each * vocab * tokens <= cycles <= each * vocab * tokens + waited + BESIDE, (tokens, cycles)
        dut._log.info(f"{tokens} tokens: {cycles} cycles of {vocab * tokens} sums")
    if vocab == LAYOUTS.widths.vocab:
        report_point("limit: the longest vocabulary")


@cocotb.test()
async def random_logits_and_their_lists(dut):
    """Random logits of a longer vocabulary: the time is the larger one of the sums' and the candidates', and the queue's."""
    random = rng("random")
    case = Case(random, 500, TOKENS)
    listed = 0
    for column in case.logits():
        best: list[tuple[int, int]] = []
        for ident, value in enumerate(column):
            entry = (-value, ident)
            if len(best) < TOP_ENTRIES or entry < best[-1]:
                moved = sum(other > entry for other in best[:TOP_ENTRIES - 1])
                listed += LIST_CYCLES + moved
                best = sorted([*best, entry])[:TOP_ENTRIES]
    cycles = await run(dut, [case])
    sums = 500 * TOKENS
    assert max(sums, listed) <= cycles <= listed + sums + BESIDE, (cycles, sums, listed)
    dut._log.info(f"{TOKENS} tokens: {cycles} cycles of {sums} sums, lists {listed}")


@cocotb.test()
async def cycles_of_a_pass(dut):
    """Falling logits, of which the first 64 enter: LIST_CYCLES each, and LATENCY and the queues' time; with a dump its length, a
    token a cycle, and its request.  Of a single token a sum in two cycles, where these take longer."""
    for vocab, tokens, dump in ((1, 1, False), (2, TOKENS, False), (7, 2, True), (20, TOKENS, True), (5, 1, True),
                                (200, 1, False)):
        falling = [[100 - i] * tokens for i in range(vocab)]
        case = Case(rng("pass"), vocab, tokens, sums=falling, scales=[Scale(1024, -10)] * vocab)
        cycles = await run(dut, [case], dump=dump)
        listed = LIST_CYCLES * min(vocab, TOP_ENTRIES) * tokens + 8
        wanted = ChunkLmHead.LATENCY + max(listed, 2 * vocab + 6) + (tokens + 1 if dump else 0)
        assert cycles == wanted, (vocab, tokens, dump, cycles, wanted)
