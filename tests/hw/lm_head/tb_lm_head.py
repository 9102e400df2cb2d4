# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head: all logits, the pick and the best 64 against the specification, from sums, and
from an int8 table's tiles on the engine."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.layouts import Layouts
from hw.lib.types import MonitorLayout
from hw.lm_head.lm_head import LmHead
from sim.cocotb_streams import StreamSource, report, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.attention import logit
from tellme.spec.config import preset
from tellme.spec.scale import Scale, scale_mul
from tests.hw.layouts import accumulator, fields, layouts_of, pack, unpack
from tests.hw.memory_model import WriteModel

#: Of a core whose residual vector is as long as the bench's; of one with a longer one, and ids and a memory of other widths; and
#: of the preset with the longest.
KINDS = {"tight": layouts_of(max_dim=64), "long": Layouts(preset("ecpix5-85f").widths),
         "compact": layouts_of(max_dim=260, max_vocab=2000, sdram_bytes=1 << 26, sdram_column_bits=10)}
LAYOUTS = KINDS[os.environ.get("KIND", "tight")]
#: Cycles that a logit has in the list of the best 64 at least.
LOGIT_CYCLES = 3
DUMP_BASE = 0x500
D = Scale(1500, -20)

SUMS = ("shapes", "ties_go_to_the_lower_id", "saturated", "rising_logits_and_dump", "stalls_10", "stalls_90", "sums_wait",
        "largest_sums")
BENCHES = [Bench(name="dim64", build=lambda: LmHead(KINDS["tight"]), tests=SUMS),
           Bench(name="compact", build=lambda: LmHead(KINDS["compact"], compact=True), env={"KIND": "compact"}, tests=SUMS),
           Bench(name="ecpix5", build=lambda: LmHead(KINDS["long"]), env={"KIND": "long"}, tests=("largest_sums", "stalls_10"))]


class Case:
    """Sums of rows with their scales; one row more than the vocabulary if that is odd."""

    def __init__(self, random, vocab, *, d=D, most=None, exps=(-20, -16), sums=None):
        most = 128 * 128 * 64 if most is None else most
        self.vocab, self.d = vocab, d
        self.sums = [random.randint(-most, most) for _ in range(vocab)] if sums is None else sums
        self.scales = [Scale(random.randint(1024, 2047), random.randint(*exps)) for _ in range(vocab)]

    def payloads(self):
        sums, scales = self.sums, self.scales
        if self.vocab % 2:
            # It would win if it were counted.
            sums, scales = [*sums, max(1, *map(abs, sums))], [*scales, Scale(2047, 0)]
        # The LM head counts the rows itself: places wrap where a vocabulary is longer than a vector.
        places = 1 << LAYOUTS.widths.row_bits
        return [accumulator(LAYOUTS, acc, scale, 0, i % places) for i, (acc, scale) in enumerate(zip(sums, scales, strict=True))]

    def logits(self):
        return [logit(acc, scale_mul(self.d, scale)) for acc, scale in zip(self.sums, self.scales, strict=True)]


async def one(dut, vocab, d, expected, feeds, *, dump, memory, layouts):
    """A pass: what it shows, stores and picks.  Gives the cycles from the start to its end."""
    seen, finished = [], []

    async def watch():
        while not finished:
            # Just before the rising edge, when the models' outputs have settled: ``done`` must not last longer.
            await settled()
            valid, word = fields(MonitorLayout, int(dut.monitor.value), "valid", "word")
            if valid:
                seen.append(word)
            if dut.control__done.value:
                finished.append(True)
            await FallingEdge(dut.clk)

    dut.control__args.value = pack(layouts.lm_head_args, vocab=vocab, d=d, dump=dump, dump_base=DUMP_BASE)
    assert not dut.busy.value
    dut.control__start.value = 1
    tasks = [cocotb.start_soon(feed) for feed in feeds]
    await FallingEdge(dut.clk)
    dut.control__start.value = 0
    task = cocotb.start_soon(watch())
    cycles = 1
    while not finished:
        await FallingEdge(dut.clk)
        cycles += 1
    await task
    await FallingEdge(dut.clk)
    assert all(feed.done() for feed in tasks), "a row, or a word, was left over"
    unsigned = [v & 0xFFFFFFFF for v in expected]
    assert [low | high << 16 for low, high in zip(seen[::2], seen[1::2], strict=True)] == unsigned
    if dump:
        assert [memory[DUMP_BASE + i] for i in range(vocab)] == unsigned
    ranked = sorted(range(vocab), key=lambda i: (-expected[i], i))[:64]
    assert unpack(layouts.best, int(dut.control__best.value)) == {"id": ranked[0], "logit": expected[ranked[0]]}
    for n, ident in enumerate(ranked):
        dut.top_addr.value = n
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        assert unpack(layouts.top_entry, int(dut.top_data.value)) == {"logit": unsigned[ident], "id": ident}, n
    return cycles


async def run(dut, cases, *, dump=False, idle=0.0, stall=0.0):
    """Cycles of the last case, and the share of its cycles in which no sum came."""
    dut.control__start.value = 0
    await reset(dut)
    sums = StreamSource(dut, "sums", idle=idle, rng=rng("sums"))
    memory: dict[int, int] = {}
    cocotb.start_soon(WriteModel(dut, "write", memory, request=LAYOUTS.memory_request, stall=stall, rng=rng("write")).run())
    for case in cases:
        cycles = await one(dut, case.vocab, case.d, case.logits(), [sums.send_all(case.payloads())], dump=dump, memory=memory,
                           layouts=LAYOUTS)
    report_shares(sums_valid=sums.low_share)
    report(cases=sum(c.vocab for c in cases))
    return cycles


@cocotb.test()
async def shapes(dut):
    random = rng("shapes")
    await run(dut, [Case(random, vocab) for vocab in (5, 64, 130, 203, 1, 2, 67, 63, 65)])


@cocotb.test()
async def ties_go_to_the_lower_id(dut):
    """Sums of three values only: many equal logits."""
    random = rng("ties")
    case = Case(random, 150, most=1)
    case.scales = [case.scales[0]] * 150
    await run(dut, [case])


@cocotb.test()
async def saturated(dut):
    random = rng("saturated")
    await run(dut, [Case(random, 71, d=Scale(2047, e), exps=(-10, 5)) for e in (-20, 0, 20, 100, -120)])


@cocotb.test()
async def rising_logits_and_dump(dut):
    """Every row enters the best 64 at the top: sums wait, and nothing is lost."""
    case = Case(rng("rising"), 160, sums=[i - 100 for i in range(160)])
    case.scales = [case.scales[0]] * 160
    await run(dut, [case], dump=True, stall=0.5)
    await run(dut, [case])


@cocotb.test()
async def stalls_10(dut):
    random = rng("s")
    await run(dut, [Case(random, 90), Case(random, 33)], dump=True, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    random = rng("s")
    await run(dut, [Case(random, 31), Case(random, 64)], dump=True, idle=0.9, stall=0.9)


@cocotb.test()
async def sums_wait(dut):
    """Falling logits, of which only the first 64 enter the list: LOGIT_CYCLES a logit, whatever waits."""
    case = Case(rng("rate"), 400, sums=[127 - i * 255 // 400 for i in range(400)])
    case.scales = [Scale(1024, -10)] * 400
    assert case.logits() == sorted(case.logits(), reverse=True)
    cycles = await run(dut, [case])
    # One cycle more for each logit that enters: all that come before the list is full.
    assert cycles <= LOGIT_CYCLES * 400 + 64 + LmHead.LATENCY + 10, cycles


@cocotb.test()
async def largest_sums(dut):
    """The largest sums of the longest rows, at shifts in both directions, and logits at both ends of their range."""
    random, most = rng("largest"), 128 * 128 * LAYOUTS.widths.dim
    sums = [sign * (most - n) for n in range(30) for sign in (1, -1)] + [0]
    await run(dut, [Case(random, len(sums), d=Scale(2047, e), exps=(-20, -10), sums=sums) for e in (-40, -22, -16, -4, 8)])
