# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head in two steps: the rows that are read, their logits, the pick and the list against the specification, from the
upper planes' sums; and passes of whole rows between them."""

import os

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, with_timeout

from hw.lm_head.best_list import BestList
from hw.lm_head.two_steps import TwoStepLmHead
from sim.cocotb_streams import StreamSource, report, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.compiler.head import pack_planes
from tellme.spec.attention import logit
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.packing import plane_reach
from tellme.spec.sampling import MAX_GAP
from tellme.spec.scale import Scale, scale_mul, unpack16
from tellme.spec.two_steps import BATCH, CANDIDATES, LOW_PAGE, low_row_words, read_rows
from tests.hw.layouts import accumulator, layouts_of, pack, unpack
from tests.hw.lm_head.one_pass import one_pass
from tests.hw.memory_model import QueuedReadModel, WriteModel

LAYOUTS = layouts_of(max_dim=100, max_cols=128, max_vocab=1000, two_steps=True)
#: By bench: rows that wait, rows of a batch, whether the core is compact.
KINDS = {"steps": (12, 6, False), "steps-full": (CANDIDATES, BATCH, True)}
WAITING, ROWS, COMPACT = KINDS[os.environ.get("KIND", "steps")]
BENCHES = [Bench(name="steps", build=lambda: TwoStepLmHead(LAYOUTS, candidates=12, batch=6), env={"KIND": "steps"},
                 nightly="no board is built with it; tests/golden has the same picks and bounds"),
           Bench(name="steps-full", build=lambda: TwoStepLmHead(LAYOUTS, compact=True), env={"KIND": "steps-full"},
                 nightly="lm_head/two_steps-steps has the same tests with fewer rows that wait")]
DUMP_BASE, PAGE = 0x500, 3
#: Cycles of a pass beside its codes: in two steps, of which one row is read, beside sums and memory; of whole rows, beside the
#: list.
ALONE, LAST = 43, 15
D = Scale(1500, -20)


class Case:
    """A head's codes of so many planes, a state, and stored scales; ``gap`` None: a pass of whole rows."""

    def __init__(self, random, vocab, *, planes=3, dim=44, gap=0, d=D, exps=(40, 42), codes=None, table=None, stored=None):
        reach = min(plane_reach(planes), 128)
        draw = np.random.default_rng(random.getrandbits(32))
        self.vocab, self.gap, self.d = vocab, gap, d
        self.codes = draw.integers(-128, 128, dim) if codes is None else np.asarray(codes)
        self.table = draw.integers(-reach, min(reach, 127) + 1, (vocab, dim)) if table is None else np.asarray(table)
        self.stored = [random.randint(e[0] << 10, (e[1] << 10) - 1) for e in [exps] * vocab] if stored is None else stored
        low = (self.table + 1) % 3 - 1
        self.rows = pack_planes(self.table.astype(np.int8), max(planes, 2))[:, 0]
        self.upper = (self.table - low) // 3 @ self.codes
        self.bound = int(np.abs(self.codes).sum())
        self.sums = self.table @ self.codes

    def logits(self, sums):
        return [logit(int(acc), scale_mul(self.d, unpack16(s))) for acc, s in zip(sums, self.stored, strict=True)]

    def payloads(self):
        """Sums of the upper planes, or whole ones, and one more than the vocabulary if that is odd: it would win."""
        sums = (self.sums if self.gap is None else self.upper).tolist()
        scales = [unpack16(s) for s in self.stored]
        if self.vocab % 2:
            sums, scales = [*sums, 128 * 40 * 100], [*scales, Scale(2047, 0)]
        # A sum's place counts for nothing.
        places, tokens = 1 << LAYOUTS.widths.row_bits, 1 << LAYOUTS.widths.token_bits
        return [accumulator(LAYOUTS, acc, scale, i % tokens, i % places)
                for i, (acc, scale) in enumerate(zip(sums, scales, strict=True))]

    def read(self):
        """The rows whose logits are shown, in their order."""
        if self.gap is None:
            return list(range(self.vocab))
        low, high = (self.logits(3 * self.upper + b) for b in (-self.bound, self.bound))
        return read_rows(low, high, self.logits(self.sums), self.gap, candidates=WAITING, batch=ROWS)


async def one(dut, case, sums, *, dump, reads, written):
    """A pass: the rows that it reads, what it shows, stores and picks.  The cycles, and the rows that were read."""
    logits, read = case.logits(case.sums), case.read()
    words = low_row_words(len(case.codes))
    reads.words = {LOW_PAGE * PAGE + i: int(word) for i, word in enumerate(np.ascontiguousarray(case.rows).view("<u4").flat)}
    before, strobes = reads.count, {"row": 0, "row_read": 0}
    dut.gap.value = 0 if case.gap is None else case.gap
    ended = []

    async def feed():
        await FallingEdge(dut.clk)
        for code in case.codes.tolist():
            dut.codes.value = pack(LAYOUTS.state_code, valid=1, code=code)
            await FallingEdge(dut.clk)
        dut.codes.value = pack(LAYOUTS.state_code, code=77)
        await sums.send_all(case.payloads())

    async def count():
        while not ended:
            await settled()
            for name in strobes:
                strobes[name] += int(getattr(dut, name).value)
            await FallingEdge(dut.clk)

    args = pack(LAYOUTS.lm_head_args, vocab=case.vocab, d=case.d, dump=dump, dump_base=DUMP_BASE, two_steps=case.gap is not None,
                low_page=PAGE)
    counting = cocotb.start_soon(count())
    cycles, shown = await with_timeout(cocotb.start_soon(one_pass(dut, args, [feed()])), 1, "ms")
    ended.append(True)
    await counting
    unsigned = [v & 0xFFFFFFFF for v in logits]
    assert shown == [unsigned[row] for row in read]
    steps = case.gap is not None
    assert reads.count - before == steps * words * len(read)
    assert strobes == {"row": steps * case.vocab, "row_read": steps * len(read)}
    if dump:
        assert [written.pop(DUMP_BASE + i) for i in range(case.vocab)] == unsigned
    assert not written
    ranked = sorted(read, key=lambda i: (-logits[i], i))[:TOP_ENTRIES]
    assert ranked[0] == min(range(case.vocab), key=lambda i: (-logits[i], i)), "the pick is that of all rows"
    if steps:
        assert {i for i, v in enumerate(logits) if v >= max(logits) - case.gap} <= set(read)
    assert unpack(LAYOUTS.best, int(dut.control__best.value)) == {"id": ranked[0], "logit": logits[ranked[0]]}
    assert int(dut.entries.value) == len(ranked)
    for n, ident in enumerate(ranked):
        dut.top_addr.value = n
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        assert unpack(LAYOUTS.top_entry, int(dut.top_data.value)) == {"logit": unsigned[ident], "id": ident}, n
    return cycles, read


async def run(dut, cases, *, dump=(), idle=0.0, stall=0.0, latency=17):
    """Cycles, and rows that were read, of each case."""
    dut.control__start.value = dut.codes.value = 0
    await reset(dut)
    sums, pauses = StreamSource(dut, "sums", idle=idle, rng=rng("sums")), rng("pauses")
    written: dict[int, int] = {}
    cocotb.start_soon(WriteModel(dut, "write", written, request=LAYOUTS.memory_request, stall=stall, hold=2 if idle else 0,
                                 rng=rng("write")).run())
    reads = QueuedReadModel(dut, "read", {}, request=LAYOUTS.memory_request, latency=latency,
                            pause=lambda: int(pauses.random() < stall) * pauses.randrange(1, 9))
    cocotb.start_soon(reads.run())
    found = [await one(dut, case, sums, dump=number in dump, reads=reads, written=written) for number, case in enumerate(cases)]
    report_shares(sums_valid=sums.low_share)
    report(cases=sum(len(read) for _, read in found))
    return found


def rising(random, vocab, slope, *, gap=0, dim=20):
    """Logits that rise by ``slope`` a row: with a small one all rows count."""
    table = np.zeros((vocab, dim), int)
    table[:, 0] = np.arange(vocab) * slope // 8 - 60 * (slope > 0) + 60 * (slope < 0)
    table[:, 1] = (np.arange(vocab) * slope % 8) - 4
    codes = [8, 1] + [random.choice((-1, 1)) for _ in range(dim - 2)]
    return Case(random, vocab, planes=5, dim=dim, gap=gap, table=table, codes=codes, stored=[41 << 10] * vocab)


@cocotb.test()
async def shapes(dut):
    """Heads of 1 to 6 planes, odd vocabularies and such with fewer rows than wait, states of one slice and of several."""
    random = rng("shapes")
    cases = [Case(random, vocab, planes=planes, dim=dim, gap=random.choice((0, 0, 1 << 14)))
             for vocab, planes, dim in ((5, 3, 44), (64, 2, 20), (131, 3, 100), (1, 3, 7), (2, 6, 60), (203, 3, 80), (67, 4, 21),
                                        (13, 1, 40), (14, 5, 100))]
    await run(dut, cases)


@cocotb.test()
async def whole_rows_between(dut):
    """Passes of whole rows before and behind such in two steps, with a dump and without."""
    random = rng("whole")
    cases = [Case(random, vocab, gap=gap)
             for vocab, gap in ((90, None), (80, 0), (71, None), (131, None), (33, 1 << 15), (3, None))]
    await run(dut, cases, dump=(0, 3), stall=0.3)


@cocotb.test()
async def gaps(dut):
    """From the pick alone to all rows, more than the list holds among them."""
    random = rng("gaps")
    whole = Case(random, 150)
    spread = max(whole.logits(whole.sums)) - min(whole.logits(whole.sums))
    found = await run(dut, [Case(random, 150, gap=gap) for gap in (0, 1, spread // 3, MAX_GAP)])
    assert len(found[0][1]) < len(found[-1][1]) == 150


@cocotb.test()
async def ties_go_to_the_lower_id(dut):
    """A few different rows many times, in every order, so that the pick is the first of many equal ones; all rows equal; equal
    logits of different sums, as their scales are zero; and the first of many equal rows behind the others, because a later row
    with a larger upper sum and the same logit leads in its place."""
    random, cases = rng("ties"), []
    for planes, count in ((2, 2), (3, 3), (3, 1)):
        reach = plane_reach(planes)
        kinds = np.array([[random.randint(-reach, reach) for _ in range(40)] for _ in range(count)])
        table = kinds[[random.randrange(count) for _ in range(150)]]
        cases += [Case(random, 150, planes=planes, dim=40, table=table, stored=[41 << 10] * 150, gap=gap)
                  for gap in (0, {1: None}.get(count, 5000))]
    late = np.zeros((150, 20), int)
    late[:100, :3], late[100:, 0] = 1, 3
    cases.append(Case(random, 150, planes=2, dim=20, table=late, codes=[1] * 4 + [0] * 16, stored=[41 << 10] * 150))
    assert cases[-1].read()[0] == (100 if WAITING > 100 else 0)
    await run(dut, [*cases, Case(random, 90, stored=[0] * 90), Case(random, 90, stored=[0, 41 << 10] * 45)])


@cocotb.test()
async def saturated(dut):
    """Logits at both ends of their range, and bounds there."""
    random = rng("saturated")
    await run(dut, [Case(random, 41, d=Scale(2047, e), gap=gap)
                    for e, gap in ((-20, 0), (-8, 70_000), (-8, 0), (0, 0), (20, 70_000), (100, 0), (-120, 70_000))])


@cocotb.test()
async def largest_sums(dut):
    """Six planes and the largest codes, with both signs."""
    random = rng("largest")
    table = [[random.choice((-128, 127))] * 100 for _ in range(40)]
    await run(dut, [Case(random, 40, planes=6, dim=100, table=table, codes=[code] * 100, gap=gap) for code in (-128, 127)
                    for gap in (0, None)])
    # Whole rows of six planes at their ends, which no table of int8 has.
    reach = plane_reach(6)
    table = [[sign * (reach - n)] * 100 for n in range(20) for sign in (1, -1)]
    await run(dut, [Case(random, 40, planes=6, dim=100, table=table, codes=[-128] * 100, gap=None)])


@cocotb.test()
async def cycles_of_a_pass(dut):
    """Falling logits: of a pass in two steps the first row alone is read; of whole rows each enters the list, which has one after
    another."""
    random, dim, latency = rng("pass"), 20, 17
    cases = [rising(random, vocab, -40, gap=gap, dim=dim) for vocab in (2, 3, 20, 61) for gap in (0, None)]
    for case, (cycles, read) in zip(cases, await run(dut, cases, latency=latency), strict=True):
        steps = case.gap is not None
        assert len(read) == (1 if steps else case.vocab)
        # A sum in two cycles; with the last one's bounds the first row is asked for.
        rows = 2 * case.vocab + latency + ALONE if steps else BestList.ENTRY_CYCLES * case.vocab + LAST
        assert cycles == dim + rows, (case.vocab, case.gap, cycles, dim + rows)


@cocotb.test()
async def rising_logits(dut):
    """Adversarial: each row is above all before it, by less than the bound and by more; all wait, and are read in parts."""
    random = rng("rising")
    await run(dut, [rising(random, vocab, slope, gap=gap)
                    for slope, vocab, gap in ((-1, 100, 300), (1, 100, 0), (3, 101, 300), (6, 100, 0))])


@cocotb.test()
async def a_batch_goes_by_one_threshold(dut):
    """A memory that answers at once: logits are known before the rest of their batch is looked at, which goes by M of before."""
    random = rng("batches")
    table = np.zeros((ROWS + 4, 20), int)
    # The leader, with a sum of 10 to 50, and of 12; one that may have 7 to 47, and has 47; others of 4 to 44.
    table[0, :10], table[0, 10:18] = 2, -1
    table[1], table[1, :9] = 1, 4
    table[2:, :8] = 3
    case = Case(random, len(table), planes=2, dim=20, table=table, codes=[1] * 20, stored=[41 << 10] * len(table))
    assert case.read() == list(range(ROWS + 1))
    await run(dut, [case, *(Case(random, 120, dim=20, gap=gap) for gap in (0, 1 << 14))], latency=1)


@cocotb.test()
async def stalls_10(dut):
    random = rng("s")
    # Behind a pause the words of rows of a slice come one after another.
    await run(dut, [Case(random, 90), Case(random, 33, gap=None), Case(random, 130, gap=1 << 15),
                    Case(random, 130, dim=20, gap=MAX_GAP)], idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    random = rng("s")
    await run(dut, [Case(random, 60), Case(random, 41, gap=1 << 15), Case(random, 20, gap=None)], dump=(2,), idle=0.9, stall=0.9,
              latency=60)


@cocotb.test()
async def a_row_a_word_each_cycle(dut):
    """The memory gives a word a cycle: a batch's rows take their words' cycles, and some 20 more."""
    random = rng("rate")
    case = Case(random, 200, dim=100, gap=MAX_GAP)
    case.stored = [(41 << 10) + 1000 - 5 * i for i in range(200)]
    (cycles, read), = await run(dut, [case], latency=17)
    assert len(read) == 200
    words = low_row_words(100)
    batches = -(-200 // ROWS) + -(-200 // WAITING)
    # A row of five words waits for its request: a look, and the multiplier; two sums of each row ahead.
    assert cycles <= 2 * 200 + 200 * max(words, 8) + batches * 55 + 64 * 40 + 200, cycles
    dut._log.info(f"{len(read)} rows of {words} words, {cycles} cycles")
