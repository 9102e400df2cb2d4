# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head: all logits, the pick and the best 64 against the specification, from sums, and from an int8 table's tiles on the
engine."""

import os

import cocotb
import numpy as np
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import FallingEdge

from hw.lib.layouts import Layouts
from hw.lib.types import MonitorLayout
from hw.lm_head.lm_head import LmHead
from hw.tlmm.engine import TlmmEngine
from sim.cocotb_streams import StreamSource, report, report_point, report_shares, reset, rng
from sim.testbench import Bench
from tellme.compiler.head import HeadTiles, head_rows
from tellme.models.source import TableRows
from tellme.spec.attention import LOGIT_FRAC, logit
from tellme.spec.config import preset
from tellme.spec.ranges import I32
from tellme.spec.scale import Scale, scale_mul, unpack16
from tests.hw.layouts import accumulator, layouts_of, pack, unpack
from tests.hw.lm_head.one_pass import one_pass
from tests.hw.memory_model import WriteModel

#: Of a core whose residual vector is as long as the bench's; of one with a longer one, and ids and a memory of other widths; and
#: of the preset with the longest; and of a core with an engine, whose vocabulary is longer than its vectors.
KINDS = {"tight": layouts_of(max_dim=64), "long": Layouts(preset("orangecrab-85f").widths),
         "compact": layouts_of(max_dim=260, max_vocab=2000, sdram_bytes=1 << 26, sdram_column_bits=10),
         "engine": layouts_of(max_dim=100, max_cols=100, max_kv_heads=1, max_vocab=1000)}
LAYOUTS = KINDS[os.environ.get("KIND", "tight")]
#: Cycles that a logit has in the list of the best 64 at least.
LOGIT_CYCLES = 3
DUMP_BASE = 0x500
D = Scale(1500, -20)
#: Rows of a tile on the engine.
TILE = 64


class HeadOnEngine(wiring.Component):
    """The LM head behind an engine, as a core has it."""

    def __init__(self, lanes):
        self.lanes, layouts = lanes, KINDS["engine"]
        super().__init__({
            "control": In(layouts.lm_head_control), "engine_start": In(stream.Signature(layouts.engine_args)),
            "codes": In(stream.Signature(8)), "words": In(stream.Signature(64)), "write": Out(layouts.write_port),
            "monitor": Out(MonitorLayout), "busy": Out(1), "top_addr": In(range(64)), "top_data": Out(layouts.top_entry),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = engine = TlmmEngine(KINDS["engine"], lanes=self.lanes, tile_rows=TILE)
        m.submodules.head = head = LmHead(KINDS["engine"])
        connect(m, flipped(self.control), head.control)
        connect(m, flipped(self.engine_start), engine.start)
        connect(m, flipped(self.words), engine.words)
        connect(m, engine.out[0], head.sums)
        connect(m, head.write, flipped(self.write))
        m.d.comb += [engine.codes[0].payload.eq(self.codes.payload), engine.codes[0].valid.eq(self.codes.valid),
                     self.codes.ready.eq(engine.codes[0].ready), self.monitor.eq(head.monitor), self.busy.eq(head.busy),
                     head.top_addr.eq(self.top_addr), self.top_data.eq(head.top_data)]
        return m


POINTS = ("limit: a vocabulary of one row", "limit: 63, 64 and 65 rows for a list of 64", "limit: the longest vocabulary",
          "limit: the largest sums of the longest rows", "limit: logits at both ends of their range")
SUMS = ("shapes", "ties_go_to_the_lower_id", "saturated", "rising_logits_and_dump", "stalls_10", "stalls_90", "sums_wait",
        "largest_sums", "beside_the_ends", "cycles_of_a_pass")
BENCHES = [Bench(name="dim64", build=lambda: LmHead(KINDS["tight"]), tests=SUMS),
           Bench(name="compact", build=lambda: LmHead(KINDS["compact"], compact=True), env={"KIND": "compact"}, tests=SUMS),
           Bench(name="longest", build=lambda: LmHead(KINDS["long"]), env={"KIND": "long"},
                 tests=("largest_sums", "beside_the_ends", "stalls_10")),
           *(Bench(name=f"engine-lanes{lanes}", build=lambda lanes=lanes: HeadOnEngine(lanes), env={"KIND": "engine"},
                   tests=("tables_on_the_engine", "a_table_waits_for_the_list")) for lanes in (1, 2))]


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
        # The LM head counts the rows itself: places wrap where a vocabulary is longer than a vector, and a token may be any.
        places, tokens = 1 << LAYOUTS.widths.row_bits, 1 << LAYOUTS.widths.token_bits
        return [accumulator(LAYOUTS, acc, scale, i % tokens, i % places)
                for i, (acc, scale) in enumerate(zip(sums, scales, strict=True))]

    def logits(self):
        return [logit(acc, scale_mul(self.d, scale)) for acc, scale in zip(self.sums, self.scales, strict=True)]


async def one(dut, vocab, d, expected, feeds, *, dump, memory, layouts):
    """A pass: what it shows, stores and picks.  Gives the cycles from the start to its end."""
    args = pack(layouts.lm_head_args, vocab=vocab, d=d, dump=dump, dump_base=DUMP_BASE)
    cycles, shown = await one_pass(dut, args, feeds)
    unsigned = [v & 0xFFFFFFFF for v in expected]
    assert shown == unsigned
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
    cocotb.start_soon(WriteModel(dut, "write", memory, request=LAYOUTS.memory_request, stall=stall, hold=2 if idle else 0,
                                 rng=rng("write")).run())
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
    report_point("limit: a vocabulary of one row")
    report_point("limit: 63, 64 and 65 rows for a list of 64")


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
    cases = [Case(random, 71, d=Scale(2047, e), exps=(-10, 5)) for e in (-20, 0, 20, 100, 124, -120)]
    assert {v for case in cases for v in case.logits()} >= {I32.least, I32.most}
    await run(dut, cases)
    report_point("limit: logits at both ends of their range")


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
    vocab = LAYOUTS.widths.vocab if LAYOUTS.widths.vocab <= 2000 else 400
    case = Case(rng("rate"), vocab, sums=[127 - i * 255 // vocab for i in range(vocab)])
    case.scales = [Scale(1024, -10)] * vocab
    assert case.logits() == sorted(case.logits(), reverse=True)
    cycles = await run(dut, [case])
    # One cycle more for each logit that enters: all that come before the list is full.
    assert cycles <= LOGIT_CYCLES * vocab + 64 + LmHead.LATENCY + 10, cycles
    if vocab == LAYOUTS.widths.vocab:
        report_point("limit: the longest vocabulary")


@cocotb.test()
async def cycles_of_a_pass(dut):
    """Falling logits: of each LOGIT_CYCLES, of the first 64, which enter, one more, and with a dump one more; and a row that does
    not count one."""
    for vocab, dump in ((1, False), (2, True), (7, False), (9, True), (66, False)):
        case = Case(rng("pass"), vocab, sums=[100 - i for i in range(vocab)])
        case.scales = [Scale(1024, -10)] * vocab
        cycles = await run(dut, [case], dump=dump)
        # The dump's request, and the cycle in which its end is seen.
        wanted = LmHead.LATENCY + 4 + (LOGIT_CYCLES + dump) * vocab + min(vocab, 64) + (2 if dump else vocab % 2)
        assert cycles == wanted, (vocab, dump, cycles, wanted)


@cocotb.test()
async def largest_sums(dut):
    """The largest sums of the longest rows, at shifts in both directions, and logits at both ends of their range."""
    random, most = rng("largest"), 128 * 128 * LAYOUTS.widths.dim
    sums = [sign * (most - n) for n in range(30) for sign in (1, -1)] + [0]
    await run(dut, [Case(random, len(sums), d=Scale(2047, e), exps=(-20, -10), sums=sums) for e in (-40, -22, -16, -4, 8)])
    report_point("limit: the largest sums of the longest rows")


def sum_of(wanted, most):
    """A sum up to ``most`` in size and a scale whose logit is the one that is wanted, if there is such a sum."""
    for down in range(-1, 8):
        for sig in range(1024, 2048):
            acc = (wanted << down + 1) // (2 * sig)
            if abs(acc) <= most and logit(acc, Scale(sig, -LOGIT_FRAC - down)) == wanted:
                return acc, Scale(sig, -LOGIT_FRAC - down)
    return None


@cocotb.test()
async def beside_the_ends(dut):
    """Logits at the ends of their range and beside them; the longest rows have a sum for each."""
    most = 128 * 128 * LAYOUTS.widths.dim
    found = {wanted: sum_of(wanted, most) for wanted in (I32.least, I32.least + 1, I32.least + 2, I32.most - 1, I32.most)}
    assert None not in found.values() or LAYOUTS is not KINDS["long"]
    sums, scales = zip(*filter(None, found.values()), strict=True)
    case = Case(rng("beside"), len(sums), d=Scale(1024, -20), sums=list(sums))
    # A product with 1024 keeps the significand.
    case.scales = [Scale(scale.sig, scale.exp + 20 - 10) for scale in scales]
    assert case.logits() == [wanted for wanted, one in found.items() if one]
    await run(dut, [case])


async def on_engine(dut, tables, *, state=None, dump=False, idle=0.0, stall=0.0):
    """Each table of (codes of a row, stored scales) with codes of the final state: all ``state``, or random, many at their ends.
    Gives the cycles of the last one."""
    dut.control__start.value = 0
    await reset(dut)
    random = rng("codes")
    start, codes, words = (StreamSource(dut, name, idle=idle, rng=rng(name)) for name in ("engine_start", "codes", "words"))
    memory: dict[int, int] = {}
    cocotb.start_soon(WriteModel(dut, "write", memory, request=LAYOUTS.memory_request, stall=stall, hold=2 if idle else 0,
                                 rng=rng("write")).run())
    for table, stored in tables:
        vocab, dim = table.shape
        x = [random.choice((-128, 127, random.randint(-128, 127))) if state is None else state for _ in range(dim)]
        sums = (table.astype(int) @ np.array(x)).tolist()
        expected = [logit(acc, scale_mul(D, unpack16(s))) for acc, s in zip(sums, stored.tolist(), strict=True)]
        tiles = HeadTiles(lambda table=table, stored=stored: [TableRows(table, stored)], vocab, dim, TILE)
        feeds = [start.send(pack(LAYOUTS.engine_args, rows=head_rows(vocab), cols=dim, tokens=1)),
                 codes.send_all([code & 0xFF for code in x]), words.send_all(np.frombuffer(bytes(tiles.part()), "<u8").tolist())]
        cycles = await one(dut, vocab, D, expected, feeds, dump=dump, memory=memory, layouts=LAYOUTS)
    report_shares(words_valid=words.low_share)
    report(cases=sum(len(table) for table, _ in tables))
    return cycles


def drawn(random, vocab, dim, most):
    """A table of codes up to ``most`` in magnitude, -128 among those of int8, with a stored scale a row."""
    table = [[random.randint(-most, min(most, 127)) for _ in range(dim)] for _ in range(vocab)]
    table[0], table[-1] = [-most] * dim, [min(most, 127)] * dim
    return np.array(table, np.int8), np.array([random.randint(30 << 10, 45 << 10) for _ in range(vocab)], np.uint16)


@cocotb.test()
async def tables_on_the_engine(dut):
    """Tables of 3 to 6 planes, odd and even, longer than a vector has places: the logits of the int8 rows."""
    random = rng("tables")
    tables = [drawn(random, vocab, dim, most) for vocab, dim, most in ((67, 44, 13), (64, 100, 40), (131, 20, 121), (90, 60, 128),
                                                                      (1, 7, 128), (403, 24, 13))]
    # Tiles of 1, 2 and 6 planes in a table.
    tables[3][0][:64] = np.sign(tables[3][0][:64])
    assert len(tables[-1][0]) > 1 << LAYOUTS.widths.row_bits
    await on_engine(dut, tables)


@cocotb.test()
async def a_table_waits_for_the_list(dut):
    """Rising logits, all of which enter the list, with a dump that stalls and words that idle."""
    table, stored = drawn(rng("rising"), 153, 20, 40)
    table[:] = np.arange(153)[:, None] - 120
    stored[:] = 40 << 10
    cycles = await on_engine(dut, [(table, stored)], state=1, dump=True, idle=0.1, stall=0.5)
    # Each logit moves all that came before it, 63 at most.
    assert cycles > 153 * LOGIT_CYCLES + sum(min(i, 63) for i in range(153)), cycles
