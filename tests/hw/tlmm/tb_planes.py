# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tiles of several planes and tiles with row words in the TLMM engine, against plain integer matrix products."""

import cocotb
from engine_cases import (
    LAYOUTS,
    MAX_COLS,
    PLANES,
    STREAMS,
    TILE,
    TOKENS,
    Case,
    bench,
    busy_cycles,
    cycles_of,
    rows_a_step,
    run,
    tokens_of,
)

from hw.tlmm.kinds import PAIR_LANE
from sim.cocotb_streams import report, report_note, report_point, reset, rng
from tellme.spec.packing import SLICE, plane_reach, slices
from tellme.spec.widths import signed_bits_for

#: A board's engine has one lane, or several with multipliers, whose planes are those of tlmm/groups.
SEVERAL = "no board has several lanes without multipliers; lanes1 has the same tests, and tlmm/groups planes on several lanes"
BENCHES = [bench("lanes1", 1, 1, 128, 100, planes=6), bench("lanes2", 2, 1, 128, 100, planes=6, nightly=SEVERAL),
           bench("lanes8", 8, 2, 160, 100, planes=5, nightly=SEVERAL),
           bench("lanes5", 5, 3, 128, 100, planes=2, nightly="no preset has these numbers of lanes and pipelines"),
           bench("wide", 1, 1, 128, 6912, "numbers_at_their_ends", planes=6,
                 nightly="tlmm/engine-wide has as many columns, and lanes1 as many planes"),
           bench("rows2-lanes4", 4, 1, 128, 100, planes=6, prefill_rows=2, nightly=SEVERAL),
           bench("rows2-lanes10", 10, 1, 240, 100, planes=5, prefill_rows=2, timeout_s=900,
                 nightly="rows2-lanes4 has two tokens on four lanes")]
POINTS = ("limit: the most planes, and their largest sums", "limit: tiles of row words in all their places")
ALL = range(1, PLANES + 1)


@cocotb.test()
async def shapes(dut):
    """Each number of planes, of one slice and more, of tiles that wait between slices and of full ones."""
    await reset(dut)
    random = rng("shapes")
    await run(dut, [Case(random, rows, cols, t, planes=[p])
                    for rows, cols in ((2, 4), (4, 20), (2, 21), (6, 61), (10, 60), (TILE, 20), (TILE, 41))
                    for t in tokens_of(TOKENS) for p in ALL])


@cocotb.test()
async def tiles_of_all_kinds(dut):
    """Planes, row words and ties change from tile to tile."""
    await reset(dut)
    random = rng("kinds")
    for tokens in tokens_of(TOKENS):
        await run(dut, [Case(random, 11 * TILE // 2, cols, tokens, planes=[min(p, PLANES) for p in planes], row_words=words,
                             free=free)
                        for cols, planes, words, free in ((33, (2, 1, 6, 3), (True, True, False), (False, False, True)),
                                                          (20, (1, 5, 1), (False, True), (True, False, False)))])


@cocotb.test()
async def numbers_at_their_ends(dut):
    """The largest sums of the longest input: the sum of no plane, multiplied or not, wraps."""
    await reset(dut)
    random = rng("ends")
    most = 128 * MAX_COLS * plane_reach(PLANES)
    assert LAYOUTS.widths.engine_sum_bits == signed_bits_for(most)
    for tokens in tokens_of(TOKENS):
        longest = Case(random, 4, MAX_COLS, tokens, extreme=True, planes=[PLANES])
        longest.x = [[-128] * MAX_COLS for _ in range(tokens)]
        assert {acc for acc, *_ in longest.expected(0)} >= {-most, most}
        await run(dut, [longest, Case(random, 6, MAX_COLS, tokens, extreme=True, planes=[PLANES])])
    report_point("limit: the most planes, and their largest sums")


@cocotb.test()
async def stalls_10(dut):
    await reset(dut)
    random = rng("stalls")
    await run(dut, [Case(random, r, c, t, planes=[PLANES, 2], row_words=[True, False]) for r, c in ((34, 47), (TILE + 20, 24))
                    for t in tokens_of(TOKENS)], idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await reset(dut)
    random = rng("stalls")
    await run(dut, [Case(random, 18, 26, t, planes=[2], row_words=[True]) for t in tokens_of(TOKENS)], idle=0.9, stall=0.9)


@cocotb.test()
async def row_words_wait_for_their_place(dut):
    """Tiles of one slice with row words, and a slow sink: no row's word is overwritten before its last token's sum has left."""
    await reset(dut)
    random = rng("places")
    for tokens in tokens_of(TOKENS):
        await run(dut, [Case(random, 9 * TILE, SLICE, tokens, row_words=[True] * 7 + [False], planes=[1, 1, 2])],
                  stall=0.9 if tokens <= 2 else 0.6)
    report_point("limit: tiles of row words in all their places")


@cocotb.test()
async def row_words_of_small_tiles(dut):
    """Matrices of a tile of few rows: the words of the matrix before are forgotten."""
    await reset(dut)
    random = rng("small")
    await run(dut, [Case(random, rows, 30, t, planes=[2], row_words=[words])
                    for rows in (2, 4, 8) for words in (True, True, False, True) for t in tokens_of(TOKENS)])


@cocotb.test()
async def no_cycle_between_planes(dut):
    """The planes of a full tile follow one another as slices do: every word is taken when it comes."""
    await reset(dut)
    for tokens in tokens_of(TOKENS):
        for cols in (40, 100):
            case = Case(rng("rate"), TILE, cols, tokens, planes=[PLANES], taper=False)
            busy = await busy_cycles(dut, case)
            a_slice = TILE // rows_a_step(tokens)
            assert a_slice >= SLICE * -(-tokens // STREAMS), "codes come as fast as they are needed"
            steps = PLANES * a_slice * slices(cols)
            first = busy.index(1)
            assert sum(busy) == steps
            assert all(busy[first:first + steps]), "a cycle without a step between slices or planes"


@cocotb.test()
async def planes_cost_their_steps(dut):
    """P planes take P - 1 times the steps of one plane more, to the cycle, and row words a cycle each; and at the memory's rate
    P planes take P times the cycles of one plane at most."""
    await reset(dut)
    rows = 2 * TILE
    for tokens in sorted({1, TOKENS}):
        def case(planes, words=False, tokens=tokens):
            return Case(rng(f"cost{planes}"), rows, MAX_COLS, tokens, planes=[planes], row_words=[words], taper=False)

        steps = rows // rows_a_step(tokens) * slices(MAX_COLS)
        one = await cycles_of(dut, case(1))
        for planes, words in ((PLANES, False), (2, True)):
            more = await cycles_of(dut, case(planes, words)) - one
            # The first tile's words come while its tables are built, as far as these take so long.
            spared = (planes - 1) * steps + words * rows - more
            assert 0 <= spared <= words * min(TILE, PAIR_LANE.builder.CYCLES + SLICE * tokens), (tokens, planes, words, spared)
        one, many = [await cycles_of(dut, case(planes), paced=True) for planes in (1, PLANES)]
        assert many <= PLANES * one, (tokens, one, many)
        report_note(f"{tokens} tokens at the memory's rate: {one} cycles of one plane, {many} of {PLANES}")
    report(cases=rows * TOKENS)
