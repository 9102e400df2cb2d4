# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the engine's testbenches share: a bench's numbers, matrices with their expected output, and a run."""

import os
from dataclasses import replace

import cocotb
from cocotb.triggers import FallingEdge
from cocotb.utils import get_sim_time

from hw.lib.layouts import Layouts
from hw.tlmm.engine import TlmmEngine
from sim.cocotb_streams import PERIOD_NS, StreamSink, StreamSource, report, report_shares, rng
from sim.testbench import Bench
from tellme.spec.packing import (
    LEAST_STEPS,
    NO_BIAS,
    SLICE,
    RowWord,
    groups_of,
    pack_planes,
    plane_reach,
    tile_rows,
    trits_of,
)
from tellme.spec.ranges import I8
from tellme.spec.scale import Scale, unpack16
from tests.hw.layouts import layouts_of, pack, unpack

__all__ = ["LANES", "LAYOUTS", "LEAST", "MAX_COLS", "PLANES", "PREFILL_ROWS", "STREAMS", "TILE", "TOKENS", "WORD_CYCLES", "Case",
           "Paced", "bench", "cycles_of", "rows_a_step", "run", "tokens_of"]


def layouts(chunk, tile, cols, planes=1, multipliers=False, by_rows=False):
    """Of a core of such columns and planes, whose widest matrix has 20 tiles at least."""
    made = layouts_of(chunk=chunk, tile_rows=tile, max_cols=cols).widths
    return Layouts(replace(made, rows=max(made.rows, 20 * tile), planes=planes, multipliers=multipliers,
                           head_tokens=chunk if by_rows else 1))


def bench(name, lanes, streams, tile, cols, *tests, prefill_rows=1, planes=1, multipliers=False, by_rows=False, **options):
    numbers = {"LANES": lanes, "STREAMS": streams, "TILE": tile, "COLS": cols, "PREFILL_ROWS": prefill_rows, "PLANES": planes,
               "MULTIPLIERS": int(multipliers), "BY_ROWS": int(by_rows)}
    return Bench(name=name, tests=tests, env={key: str(value) for key, value in numbers.items()}, **options,
                 build=lambda: TlmmEngine(layouts(lanes // prefill_rows, tile, cols, planes, multipliers, by_rows), lanes=lanes,
                                          streams=streams, tile_rows=tile, prefill_rows=prefill_rows))


LANES, STREAMS, TILE, MAX_COLS, PREFILL_ROWS, PLANES, MULTIPLIERS, BY_ROWS = (
    int(os.environ.get(name, default)) for name, default in (
    ("LANES", "1"), ("STREAMS", "1"), ("TILE", "128"), ("COLS", "260"), ("PREFILL_ROWS", "1"), ("PLANES", "1"),
    ("MULTIPLIERS", "0"), ("BY_ROWS", "0")))
#: Tokens of a chunk at most, and rows of a step for each of several tokens.
TOKENS = LANES // PREFILL_ROWS
LEAST = LEAST_STEPS * PREFILL_ROWS
LAYOUTS = layouts(TOKENS, TILE, MAX_COLS, PLANES, bool(MULTIPLIERS), bool(BY_ROWS))
#: Cycles in which the memory brings a 64-bit word: 32 bits a cycle, or 64 where prefill takes two rows a step.
WORD_CYCLES = 2 // PREFILL_ROWS


def rows_a_step(tokens):
    return min(2, LANES) if tokens == 1 else PREFILL_ROWS


def tokens_of(most):
    """Numbers of tokens of a chunk: decode, a partial chunk, a whole one."""
    return sorted({1, min(2, most), most})


def one_multiplier(random, extreme):
    """Any, or the least or the largest: with ``extreme`` always one of these two."""
    ends = I8.least, I8.most
    return random.choice(ends) if extreme or random.random() < 0.2 else random.randint(*ends)


class Case:
    """A matrix, its tokens and the expected output.  Tiles taper if there are several tokens, unless ``taper`` is cleared.

    ``planes``, ``row_words``, ``free`` and ``groups`` (slices of a column group, or 0) are of the tiles in turn, over and over.
    ``w`` are the weights: the sum of 3**p times a trit, or in a tile that is free the sum of the trits; with column groups each
    trit counts as often as the multiplier of its row, group and plane says.  ``by_rows``: the results come row by row.
    """

    def __init__(self, random, rows, cols, tokens, *, extreme=False, planes=(1,), row_words=(False,), free=(False,), groups=(0,),
                 taper=True, by_rows=False):
        self.rows, self.cols, self.tokens, self.by_rows = rows, cols, tokens, by_rows
        self.least = LEAST if tokens > 1 and taper else 0
        pick = (lambda: random.choice((-128, 127))) if extreme else (lambda: random.randint(-128, 127))
        self.x = [[pick() for _ in range(cols)] for _ in range(tokens)]
        self.scales = [Scale(random.randint(1024, 2047), random.randint(-100, 100)) for _ in range(2)]
        self.w, self.words, self.row_words = [], [], []
        for n, (first, size) in enumerate(self.tiles()):
            p, with_words, is_free, group = (kinds[n % len(kinds)] for kinds in (planes, row_words, free, groups))
            reach = plane_reach(p)
            whole = [[random.choice((-reach, reach)) if extreme and reach > 1 else random.randint(-reach, reach)
                      for _ in range(cols)] for _ in range(size)]
            if extreme and not first:
                whole[:2] = [reach] * cols, [-reach] * cols
            trits = [[trits_of(w, p) for w in row] for row in whole]
            split = [[[weight[plane] for weight in row] for row in trits] for plane in range(p)]
            count = groups_of(cols, group) if group else 1
            # Any multiplier, and the least and the largest often.
            m = [[[one_multiplier(random, extreme) if group else 1 for _ in range(size)] for _ in range(count)] for _ in range(p)]
            factors = [1 if is_free else 3**plane for plane in range(p)]
            self.w += [[sum(factors[plane] * m[plane][c // (SLICE * group) if group else 0][r] * trit
                            for plane, trit in enumerate(weight)) for c, weight in enumerate(row)] for r, row in enumerate(trits)]
            # A stored scale of 0 is the scale 0.
            own = [RowWord(random.choice((0, *[random.getrandbits(16)] * 9)), random.getrandbits(16))
                   for _ in range(size)] if with_words else None
            self.row_words += own or [None] * size
            self.words += pack_planes(split, *self.scales, most=size, row_words=own, free=is_free, group_slices=group,
                                      multipliers=m)

    def tiles(self):
        """(first row, rows) of each tile."""
        return tile_rows(self.rows, most=TILE, least=self.least)

    def codes(self, stream):
        """What a stream brings: slice by slice, its tokens' columns."""
        return [v & 0xFF for at in range(0, self.cols, SLICE) for x in self.x[stream::STREAMS] for v in x[at:at + SLICE]]

    def expected(self, stream):
        """(acc, scale, token, index), with a bias if the layouts have one, in the order of a stream's output."""
        out = []
        for first, size in self.tiles():
            rows, tokens = range(first, first + size), range(stream, self.tokens, STREAMS)
            order = [(t, r) for r in rows for t in tokens] if self.by_rows else [(t, r) for t in tokens for r in rows]
            for t, r in order:
                acc = sum(a * b for a, b in zip(self.w[r], self.x[t], strict=True))
                word = self.row_words[r]
                scale = self.scales[(r - first) % 2] if word is None else unpack16(word.scale)
                bias = (NO_BIAS if word is None else word.bias,) if LAYOUTS.row_words else ()
                out.append((acc, scale, t, r, *bias))
        return out


def results(payloads):
    """What :meth:`Case.expected` gives, from the engine's payloads."""
    parts = [unpack(LAYOUTS.acc, bits) for bits in payloads]
    return [(p["acc"], Scale(**p["scale"]), p["place"]["token"], p["place"]["index"], *([p["bias"]] if LAYOUTS.row_words else []))
            for p in parts]


class Paced:
    """Words that come one every ``cycles`` cycles, and wait until they are taken, as those of the weight buffer do."""

    def __init__(self, dut, name, cycles):
        self._source, self._clk, self._cycles = StreamSource(dut, name), dut.clk, cycles
        self.low_share = 0.0

    async def send_all(self, values):
        came = 0

        async def count():
            nonlocal came
            while True:
                for _ in range(self._cycles):
                    await FallingEdge(self._clk)
                came += 1

        counting = cocotb.start_soon(count())
        for n, value in enumerate(values):
            while came <= n:
                await FallingEdge(self._clk)
            await self._source.send(value)
        counting.cancel()


async def cycles_of(dut, case, paced=False):
    """Cycles from an idle engine to the matrix's last sum; ``paced``: the words come at the memory's rate."""
    for _ in range(10):
        await FallingEdge(dut.clk)
    start = get_sim_time("ns")
    await run(dut, [case], words=Paced(dut, "words", WORD_CYCLES) if paced else None)
    return round((get_sim_time("ns") - start) / PERIOD_NS)


async def run(dut, cases, *, idle=0.0, stall=0.0, late=0, words=None):
    """``late``: cycles from a case's first codes to its first word; ``words``: another source of the words."""
    start = StreamSource(dut, "start")
    codes = [StreamSource(dut, f"codes__{s}", idle=idle, rng=rng(f"codes{s}")) for s in range(STREAMS)]
    words = words or StreamSource(dut, "words", idle=idle, rng=rng("words"))
    sinks = [StreamSink(dut, f"out__{s}", stall=stall, rng=rng(f"out{s}")) for s in range(STREAMS)]

    async def bring_words(case):
        for _ in range(late):
            await FallingEdge(dut.clk)
        await words.send_all(case.words)

    async def feed():
        for case in cases:
            by_rows = {"by_rows": int(case.by_rows)} if LAYOUTS.all_heads else {}
            await start.send(pack(LAYOUTS.engine_args, rows=case.rows, cols=case.cols, tokens=case.tokens, **by_rows))
            tasks = [cocotb.start_soon(bring_words(case))]
            tasks += [cocotb.start_soon(c.send_all(case.codes(s))) for s, c in enumerate(codes) if s < case.tokens]
            for task in tasks:
                await task

    async def take(stream):
        for case in cases:
            expected = case.expected(stream)
            got = results(await sinks[stream].recv_n(len(expected)))
            assert got == expected, (case.rows, case.cols, case.tokens, stream)

    cocotb.start_soon(feed())
    for task in [cocotb.start_soon(take(stream)) for stream in range(STREAMS)]:
        await task
    report_shares(codes_valid=codes[0].low_share, words_valid=words.low_share, out_ready=sinks[0].low_share)
    report(cases=sum(case.rows * case.tokens for case in cases))


async def busy_cycles(dut, case, **options):
    """Run a case with these options; ``busy`` of each cycle."""
    task = cocotb.start_soon(run(dut, [case], **options))
    busy = []
    while not task.done():
        await FallingEdge(dut.clk)
        busy.append(int(dut.busy.value))
    return busy
