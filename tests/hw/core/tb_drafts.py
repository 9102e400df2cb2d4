# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""DraftReader: the drafts of random tables are those that a host reads in them."""

import os

import cocotb

from hw.core.drafts import DraftReader
from hw.lib.control import Draft, Pair
from sim.cocotb_streams import StreamSink, StreamSource, report, report_point, report_shares, reset, rng
from sim.testbench import Bench
from tellme.drafts.table import DraftTable
from tellme.spec.drafts import LIST_ENTRIES, NONE
from tests.hw.layouts import fields, layouts_of, pack
from tests.hw.memory_model import ReadModel

#: The memory of a small core, in which a table ends with the last word; and that of the largest.
WIDTHS = {"small": {"sdram_bytes": 1 << 15}, "large": {"sdram_bytes": 1 << 25}}
BENCHES = [Bench(name=name, build=lambda widths=widths: DraftReader(layouts_of(**widths)), env={"WIDTHS": name},
                 tests=("drafts",) if name == "large" else (), nightly="small has the same test" if name == "large" else "")
           for name, widths in WIDTHS.items()]
POINTS = ("limit: the longest list, which ends the memory",)
LAYOUTS = layouts_of(**WIDTHS[os.environ.get("WIDTHS", "small")])


def table_of(random, vocab):
    """A table of a few texts, in which some tokens are frequent, and some have no next token."""
    texts = [[min(int(random.expovariate(4 / vocab)), vocab - 1) for _ in range(random.randrange(60))] for _ in range(40)]
    return DraftTable.of_texts(texts, vocab)


async def check(dut, *, stall=0.0, pause=None):
    dut.pair__valid.value = 0
    await reset(dut)
    random = rng("drafts")
    words: dict[int, int] = {}
    model = ReadModel(dut, "read", words, request=LAYOUTS.memory_request, pause=pause)
    cocotb.start_soon(model.run())
    pairs, drafts = StreamSource(dut, "pair"), StreamSink(dut, "draft", stall=stall, rng=rng("stall"))
    kinds, total = set(), 0
    for vocab in (2, 30, 200):
        table = table_of(random, vocab)
        base = LAYOUTS.widths.memory_words - len(table.words)
        words.clear()
        words.update((base + at, int(word)) for at, word in enumerate(table.words))
        dut.base.value = base
        for _ in range(120):
            last = random.randrange(vocab)
            before = None if random.random() < 0.1 else random.randrange(vocab)
            if before is not None and random.random() < 0.5:
                at, count = int(table.words[2 * last + 1]), int(table.words[2 * last]) >> 16
                before = int(table.words[random.randrange(at, at + count)]) & 0xFFFF if count else before
            counted = model.count
            await pairs.send(pack(Pair, before=before or 0, known=before is not None, last=last))
            found, token = fields(Draft, await drafts.recv(), "found", "next")
            expected = table.next(before, last)
            assert bool(found) == (expected is not None)
            assert not found or token == expected
            listed = int(table.words[2 * last]) >> 16 if before is not None else 0
            assert model.count - counted == 2 + listed
            alone = table.next(None, last)
            kinds.add((expected is None, expected != alone, before is None, listed > 0))
            total += 1
    assert {(False, True, False, True), (False, False, False, True), (False, False, True, False), (False, False, False, False),
            (True, False, False, False)} <= kinds, kinds
    assert NONE not in range(200)
    report_shares(draft_ready=drafts.low_share)
    report(cases=total)


@cocotb.test()
async def drafts(dut):
    await check(dut)


@cocotb.test()
async def stalls_10(dut):
    random = rng("pause")
    await check(dut, stall=0.1, pause=lambda: int(random.random() < 0.1))


@cocotb.test()
async def stalls_90(dut):
    random = rng("pause")
    await check(dut, stall=0.9, pause=lambda: random.randint(0, 20))


@cocotb.test()
async def the_longest_list(dut):
    """It ends with the memory's last word: its first entry, its last one, and a token that has none."""
    dut.pair__valid.value = 0
    await reset(dut)
    vocab, likeliest = LIST_ENTRIES + 2, 77
    last = vocab - 1
    index = [NONE, 0] * last + [LIST_ENTRIES << 16 | likeliest, 2 * vocab]
    words = [*index, *((5 * before + 1) << 16 | before for before in range(LIST_ENTRIES))]
    base = LAYOUTS.widths.memory_words - len(words)
    memory = {base + at: word for at, word in enumerate(words)}
    model = ReadModel(dut, "read", memory, request=LAYOUTS.memory_request, latency=2, hold=2)
    cocotb.start_soon(model.run())
    dut.base.value = base
    pairs, drafts = StreamSource(dut, "pair"), StreamSink(dut, "draft")
    befores = (LIST_ENTRIES - 1, 0, LIST_ENTRIES)
    # The next pair waits while one is in work.
    cocotb.start_soon(pairs.send_all([pack(Pair, before=before, known=1, last=last) for before in befores]))
    for before in befores:
        counted = model.count
        expected = 5 * before + 1 if before < LIST_ENTRIES else likeliest
        assert fields(Draft, await drafts.recv(), "found", "next") == (1, expected)
        assert model.count - counted == 2 + LIST_ENTRIES
    report_point("limit: the longest list, which ends the memory")
    report(cases=3)
