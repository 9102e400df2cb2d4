# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The TLMM engine's results row by row, as the LM head of several tokens takes them."""

import cocotb
from engine_cases import LANES, MAX_COLS, PLANES, STREAMS, TILE, TOKENS, Case, bench, cycles_of, run

from sim.cocotb_streams import report, report_point, reset, rng

BENCHES = [bench("lanes4", 4, 2, 64, 100, planes=6, by_rows=True),
           bench("lanes5", 5, 1, 64, 100, planes=3, by_rows=True,
                 nightly="by_rows-lanes4 has two streams, and tests of the core have one"),
           bench("rows2-lanes6", 6, 1, 64, 100, prefill_rows=2, planes=6, by_rows=True,
                 nightly="by_rows-lanes4 has the same order, with one row a step"),
           bench("rows2-lanes10", 10, 1, 240, 200, prefill_rows=2, planes=6, multipliers=True, by_rows=True,
                 nightly="by_rows-lanes4 has the same order, with one row a step; these are the numbers of ecpix5-85f"),
           bench("lanes16", 16, 2, 160, 120, planes=6, multipliers=True, by_rows=True,
                 nightly="by_rows-lanes4 has fewer lanes and tokens")]
POINTS = ("limit: rows of one token and of all",)
KINDS = {"planes": (1, PLANES, 2), "row_words": (True, False)}


@cocotb.test()
async def both_orders(dut):
    """Matrices of several tiles, each number of tokens, and both orders after one another."""
    await reset(dut)
    random = rng("orders")
    cases = []
    for rows, cols in ((2, 20), (6, 41), (TILE, 33), (TILE + 2, 60), (3 * TILE + 10, 21)):
        for tokens in range(1, TOKENS + 1) if TOKENS <= 5 else (1, 2, 7, TOKENS):
            cases += [Case(random, rows, cols, tokens, by_rows=by_rows, **KINDS) for by_rows in (True, False, True)]
    await run(dut, cases)
    report_point("limit: rows of one token and of all")


@cocotb.test()
async def stalls_10(dut):
    await reset(dut)
    random = rng("stalls")
    await run(dut, [Case(random, rows, 47, tokens, by_rows=True, **KINDS) for rows in (34, 2 * TILE + 2)
                    for tokens in sorted({1, 2, 3, TOKENS})], idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await reset(dut)
    random = rng("stalls")
    await run(dut, [Case(random, rows, 26, tokens, by_rows=True, **KINDS) for rows in (18, TILE + 4)
                    for tokens in sorted({2, TOKENS})], idle=0.9, stall=0.9)


@cocotb.test()
async def finished_tiles_wait(dut):
    """Tiles of a single slice, and a slow sink: the lanes hold finished tiles, and no sum is lost."""
    await reset(dut)
    random = rng("finished")
    await run(dut, [Case(random, 6 * TILE, 20, TOKENS, by_rows=True)], stall=0.6)


@cocotb.test()
async def the_order_takes_no_cycle(dut):
    """A matrix takes as many cycles in one order as in the other, or fewer: places are free again row by row."""
    await reset(dut)
    for tokens in sorted({2, TOKENS}):
        by_tokens, by_rows = [await cycles_of(dut, Case(rng("rate"), 4 * TILE, MAX_COLS, tokens, by_rows=by_rows, **KINDS))
                              for by_rows in (False, True)]
        assert by_rows <= by_tokens, (tokens, by_rows, by_tokens)
        dut._log.info(f"{LANES} lanes, {STREAMS} streams, {tokens} tokens: {by_rows} cycles by rows, {by_tokens} by tokens")
    report(cases=2)
