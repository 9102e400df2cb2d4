# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head: all logits, the pick and the best 64 against the specification."""

import os

import cocotb
from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from cocotb.triggers import FallingEdge

from hw.lib.layouts import Layouts
from hw.lib.types import MonitorLayout
from hw.lm_head.lm_head import LmHead
from sim.cocotb_streams import StreamSource, report, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.attention import logit
from tellme.spec.config import preset
from tellme.spec.packing import head_row_words, pack_head_block
from tellme.spec.scale import Scale, pack16, scale_mul, unpack16
from tests.hw.layouts import fields, layouts_of, pack, unpack
from tests.hw.memory_model import WriteModel

#: Cycles that a word takes.
WORD_CYCLES = int(os.environ.get("WORD_CYCLES", "1"))
#: Of a core whose residual vector is as long as the bench's; of one with a longer one, and ids and a memory of other widths; and
#: of the preset with the longest.
TIGHT, WIDE = layouts_of(max_dim=64), layouts_of(max_dim=260, max_vocab=2000, sdram_bytes=1 << 26, sdram_column_bits=10)
LONG = Layouts(preset("ecpix5-85f").widths)
LAYOUTS = LONG if "LONG" in os.environ else TIGHT if WORD_CYCLES == 1 else WIDE
SHORT_ROWS = ("shapes", "ties_go_to_the_lower_id", "saturated", "rising_logits_and_dump", "stalls_10", "stalls_90", "memory_rate")
BENCHES = [Bench(name="dim64", build=lambda: LmHead(TIGHT), tests=SHORT_ROWS),
           Bench(name="compact", build=lambda: CompactHead(), env={"WORD_CYCLES": "2"}, tests=SHORT_ROWS),
           Bench(name="ecpix5", build=lambda: LmHead(LONG), env={"LONG": "1"}, tests=("longest_rows", "stalls_10"))]
DUMP_BASE = 0x500
D = Scale(1500, -20)


class CompactHead(wiring.Component):
    """A compact head with the products that attention lends it in a core."""

    def __init__(self):
        self.head = LmHead(WIDE, compact=True)
        super().__init__({name: member for name, member in self.head.signature.members.items()
                          if name not in ("factors", "products")})

    def elaborate(self, platform):
        m = Module()
        m.submodules.head = head = self.head
        for path, member, port in self.signature.flatten(self):
            inner = head
            for part in path:
                inner = getattr(inner, str(part))
            inner, port = Value.cast(inner), Value.cast(port)
            m.d.comb += inner.eq(port) if member.flow == In else port.eq(inner)
        for i in range(4):
            m.d.sync += head.products[i].eq(head.factors.a[i] * head.factors.b[i])
        return m


class Case:
    def __init__(self, random, *, dim, vocab, d=D, low=-128, high=127, exps=(-20, -16)):
        self.dim, self.vocab, self.d = dim, vocab, d
        self.codes = [random.randint(-128, 127) for _ in range(dim)]
        self.rows = [[random.randint(low, high) for _ in range(dim)] for _ in range(vocab)]
        self.scales = [pack16(Scale(random.randint(1024, 2047), random.randint(*exps))) for _ in range(vocab)]

    def words(self):
        out = []
        for at in range(0, self.vocab, 4):
            rows, scales = self.rows[at:at + 4], self.scales[at:at + 4]
            while len(rows) < 4:
                rows, scales = [*rows, [99] * self.dim], [*scales, 0xFFFF]   # would win if they were counted
            out += pack_head_block(rows, scales)
        return out

    def logits(self):
        return [logit(sum(a * b for a, b in zip(row, self.codes, strict=True)), scale_mul(self.d, unpack16(s)))
                for row, s in zip(self.rows, self.scales, strict=True)]


async def run(dut, cases, *, dump=False, idle=0.0, stall=0.0):
    """Cycles from the last case's codes to its end, and cycles in which its words waited for the best 64."""
    dut.control__start__valid.value = 0
    await reset(dut)
    start = StreamSource(dut, "control__start")
    codes = StreamSource(dut, "codes", idle=idle, rng=rng("codes"))
    words = StreamSource(dut, "words", idle=idle, rng=rng("words"))
    memory: dict[int, int] = {}
    cocotb.start_soon(WriteModel(dut, "write", memory, request=LAYOUTS.memory_request, stall=stall, rng=rng("write")).run())
    cycles = 0
    for case in cases:
        seen, finished, stalled = [], [], 0

        async def watch(seen=seen, finished=finished):
            while not finished:
                # Just before the rising edge, when the models' outputs have settled: ``done`` must not last longer.
                await settled()
                valid, word = fields(MonitorLayout, int(dut.monitor.value), "valid", "word")
                if valid:
                    seen.append(word)
                if dut.control__done.value:
                    finished.append(True)
                await FallingEdge(dut.clk)

        task = cocotb.start_soon(watch())
        await start.send(pack(LAYOUTS.lm_head_args, dim=case.dim, vocab=case.vocab, d=case.d, dump=dump, dump_base=DUMP_BASE))
        await codes.send_all([c & 0xFF for c in case.codes])
        feed = cocotb.start_soon(words.send_all(case.words()))
        cycles = 0
        while not finished:
            await FallingEdge(dut.clk)
            cycles += 1
            stalled += int(dut.stall.value)
        await task
        await FallingEdge(dut.clk)
        assert feed.done(), "words were left over"
        expected = case.logits()
        unsigned = [v & 0xFFFFFFFF for v in expected]
        assert [seen[2 * i] | seen[2 * i + 1] << 16 for i in range(len(seen) // 2)] == unsigned
        if dump:
            assert [memory[DUMP_BASE + i] for i in range(case.vocab)] == unsigned
        ranked = sorted(range(case.vocab), key=lambda i: (-expected[i], i))[:64]
        assert unpack(LAYOUTS.best, int(dut.control__best.value)) == {"id": ranked[0], "logit": expected[ranked[0]]}
        for n, ident in enumerate(ranked):
            dut.top_addr.value = n
            await FallingEdge(dut.clk)
            await FallingEdge(dut.clk)
            assert unpack(LAYOUTS.top_entry, int(dut.top_data.value)) == {"logit": unsigned[ident], "id": ident}, n
    report_shares(words_valid=words.low_share)
    report(cases=sum(c.vocab for c in cases))
    return cycles, stalled


@cocotb.test()
async def shapes(dut):
    random = rng("shapes")
    await run(dut, [Case(random, dim=d, vocab=v) for d, v in ((16, 5), (20, 64), (44, 130), (64, 203), (64, 1), (8, 67))])


@cocotb.test()
async def ties_go_to_the_lower_id(dut):
    """Rows of three values only: many equal logits."""
    random = rng("ties")
    case = Case(random, dim=8, vocab=150, low=0, high=0, exps=(-16, -16))
    case.scales = [case.scales[0]] * 150
    for row in case.rows:
        row[0] = random.randint(-1, 1)
    await run(dut, [case])


@cocotb.test()
async def saturated(dut):
    random = rng("saturated")
    await run(dut, [Case(random, dim=64, vocab=70, d=Scale(2047, e), exps=(-10, 5)) for e in (-20, 0, 20, 100, -120)])


@cocotb.test()
async def rising_logits_and_dump(dut):
    """Every row enters the best 64 at the top: the stream waits, and nothing is lost."""
    case = Case(rng("rising"), dim=16, vocab=160, exps=(-16, -16))
    case.scales = [case.scales[0]] * 160
    case.codes = [1] + [0] * 15
    for i, row in enumerate(case.rows):
        row[0] = i - 100
    await run(dut, [case], dump=True, stall=0.5)


@cocotb.test()
async def stalls_10(dut):
    await run(dut, [Case(rng("s"), dim=36, vocab=90)], dump=True, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await run(dut, [Case(rng("s"), dim=20, vocab=30)], dump=True, idle=0.9, stall=0.9)


@cocotb.test()
async def memory_rate(dut):
    """Only the first 64 of falling logits enter the best 64: a word per cycle (compact: per two cycles)."""
    case = Case(rng("rate"), dim=64, vocab=400, exps=(-16, -16))
    case.scales = [case.scales[0]] * 400
    case.codes = [1] + [0] * 63
    for i, row in enumerate(case.rows):
        row[0] = 127 - i * 255 // 400
    cycles, _ = await run(dut, [case])
    assert cycles <= WORD_CYCLES * len(case.words()) + 30
    assert len(case.words()) == 100 * (1 + 4 * head_row_words(64))


@cocotb.test()
async def longest_rows(dut):
    """Rows as long as they can be, among them those with the largest sums, and as many as enter the best 64 with the most moves:
    a word per cycle, and no word waits for a logit."""
    random = rng("longest")
    case = Case(random, dim=LAYOUTS.widths.dim, vocab=70, exps=(-20, -20))
    case.codes = [-128] * case.dim
    case.scales = [case.scales[0]] * case.vocab
    for i, row in enumerate(case.rows):
        row[:] = [-128 if j < i * case.dim // 69 else 127 for j in range(case.dim)]
    assert sum(a * b for a, b in zip(case.rows[-1], case.codes, strict=True)) == 128 * 128 * case.dim
    assert case.logits() == sorted(case.logits())
    cycles, stalled = await run(dut, [case], dump=True)
    words = len(case.words())
    # The last row but the two that fill its block, and 64 moves.
    assert words <= cycles <= words + 30 and not stalled, (cycles, words, stalled)
