# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tiles whose rows have multipliers for column groups in the TLMM engine, against plain integer matrix products."""

import cocotb
from engine_cases import (
    LAYOUTS,
    MAX_COLS,
    PLANES,
    STREAMS,
    TILE,
    TOKENS,
    WORD_CYCLES,
    Case,
    bench,
    busy_cycles,
    cycles_of,
    rows_a_step,
    run,
    tokens_of,
)

from sim.cocotb_streams import report, report_note, report_point, reset, rng
from tellme.spec.packing import SLICE, groups_of, multiplier_words, pack_planes, slices
from tellme.spec.ranges import I32

#: 200 columns: sums of tied planes with multipliers take all bits of an int32.
BENCHES = [bench("lanes1", 1, 1, 128, 200, planes=6, multipliers=True, nightly="lanes2 has a row a step too, in a chunk"),
           bench("lanes2", 2, 1, 128, 200, planes=6, multipliers=True),
           bench("lanes4", 4, 2, 160, 200, planes=3, multipliers=True),
           bench("one-plane", 2, 1, 128, 200, multipliers=True, nightly="each preset with multipliers has several planes"),
           bench("wide", 1, 1, 128, 6912, "numbers_at_their_ends", planes=6, multipliers=True,
                 nightly="lanes2 has as many planes, and sums as wide"),
           bench("rows2-lanes4", 4, 1, 128, 200, planes=6, multipliers=True, prefill_rows=2),
           bench("rows2-lanes10", 10, 1, 240, 200, planes=5, multipliers=True, prefill_rows=2, timeout_s=900,
                 nightly="rows2-lanes4 has two tokens on four lanes")]
ALL = range(1, PLANES + 1)
#: Groups of a slice, of a number of slices that divides no width of the shapes, and of more slices than a row has.
GROUPS = (1, 2, 3, 5, 255)

POINTS = ("limit: the largest products, in as many planes as an int32 holds", "limit: the longest column group")


@cocotb.test()
async def shapes(dut):
    """Each number of planes and each size of a group: groups that end with the row and before it, tiles that wait between slices
    and full ones, and of all numbers of rows by which a word of multipliers is filled in part."""
    await reset(dut)
    random = rng("shapes")
    kinds = [(p, free, group) for group in GROUPS for p in ALL for free in (True, False)]
    random.shuffle(kinds)
    shapes = [(rows, cols, t) for rows, cols in (
        (2, 4), (4, 20), (2, 41), (6, 61), (8, 100), (10, 60), (12, 45), (14, 61), (16, 70), (18, 81), (24, 101), (TILE, 41),
        (TILE, 120), (TILE - 2, 61)) for t in tokens_of(TOKENS)]
    cases = []
    for rows, cols, t in shapes * max(2, -(-len(kinds) // len(shapes))):
        p, free, group = kinds[len(cases) % len(kinds)]
        cases.append(Case(random, rows, cols, t, planes=[p], free=[free], groups=[group]))
    assert len(cases) >= len(kinds)
    await run(dut, cases)


@cocotb.test()
async def tiles_of_all_kinds(dut):
    """Planes, row words, ties and column groups change from tile to tile: a tile without groups has no multiplier of another."""
    await reset(dut)
    random = rng("kinds")
    words = (True, True, False) if LAYOUTS.row_words else (False,)
    for tokens in tokens_of(TOKENS):
        await run(dut, [Case(random, 11 * TILE // 2, cols, tokens, planes=[min(p, PLANES) for p in planes], row_words=words,
                             free=free, groups=groups)
                        for cols, planes, free, groups in ((73, (2, 1, 6, 3), (False, False, True), (2, 0, 1, 3, 0)),
                                                           (20, (1, 5, 1), (True, False), (0, 1)))])


@cocotb.test()
async def numbers_at_their_ends(dut):
    """The largest products of the longest input, and as many planes as an int32 has room for: no sum wraps."""
    await reset(dut)
    random = rng("ends")
    for tokens in tokens_of(TOKENS):
        for free in (True, False):
            size = 128 * 128 * MAX_COLS
            reach = [sum(1 if free else 3**p for p in range(planes)) for planes in ALL]
            planes = max(p for p in ALL if size * reach[p - 1] <= I32.most)
            for trit in (-1, 1):
                case = Case(random, 4, MAX_COLS, tokens)
                case.x = [[-128] * MAX_COLS for _ in range(tokens)]
                case.w = [[-128 * reach[planes - 1] * trit] * MAX_COLS] * 4
                case.words = pack_planes([[[trit] * MAX_COLS] * 4] * planes, *case.scales, free=free, group_slices=255,
                                         multipliers=[[[-128] * 4] * groups_of(MAX_COLS, 255)] * planes)
                assert {acc for acc, *_ in case.expected(0)} == {trit * size * reach[planes - 1]}
                await run(dut, [case])
            await run(dut, [Case(random, 6, MAX_COLS, tokens, extreme=True, planes=[planes], free=[free], groups=[1])])
    for point in POINTS:
        report_point(point)


@cocotb.test()
async def stalls_10(dut):
    await reset(dut)
    random = rng("stalls")
    await run(dut, [Case(random, r, c, t, planes=[PLANES, 1], free=[True, False], groups=[2, 0])
                    for r, c in ((34, 107), (TILE + 20, 64)) for t in tokens_of(TOKENS)], idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await reset(dut)
    random = rng("stalls")
    await run(dut, [Case(random, rows, 66, t, planes=[min(2, PLANES)], free=[True], groups=[group])
                    for t in tokens_of(TOKENS) for rows, group in ((18, 1), (6, 2))], idle=0.9, stall=0.9)


@cocotb.test()
async def tables_are_there_before_the_multipliers(dut):
    """Words come late, and slices of few steps follow one another as fast as they may: the multipliers of a group do not take
    those of the steps that are under way."""
    await reset(dut)
    random = rng("late")
    await run(dut, [Case(random, rows, 85, t, planes=[min(2, PLANES)], free=[True], groups=[group])
                    for rows in (2, 4, 6, 8, 10, 16) for group in (1, 2) for t in tokens_of(TOKENS)], late=250)


@cocotb.test()
async def a_word_is_a_cycle(dut):
    """In a full tile the multipliers of a group take a cycle a word, and no other cycle lies between slices, groups or planes.
    A tile without groups has none of these cycles."""
    await reset(dut)
    for tokens in tokens_of(TOKENS):
        for cols, group in ((100, 2), (60, 1), (60, 0)):
            case = Case(rng("rate"), TILE, cols, tokens, planes=[PLANES], free=[True], groups=[group], taper=False)
            busy = await busy_cycles(dut, case)
            a_slice = TILE // rows_a_step(tokens)
            assert a_slice >= SLICE * -(-tokens // STREAMS), "codes come as fast as they are needed"
            steps = PLANES * a_slice * slices(cols)
            first, last = busy.index(1), len(busy) - busy[::-1].index(1)
            assert sum(busy) == steps
            behind = PLANES * groups_of(cols, group) - 1 if group else 0
            assert last - first == steps + behind * multiplier_words(TILE), "a cycle that no word of multipliers takes"


@cocotb.test()
async def groups_cost_their_words(dut):
    """Beside the cycles of a tile without groups, multipliers take a cycle a word.  At the memory's rate P planes with
    multipliers take P times the cycles of one plane at most, and the time of the multipliers' bytes."""
    await reset(dut)
    rows, group = 2 * TILE, 3
    for tokens in sorted({1, TOKENS}):
        def case(planes, groups, tokens=tokens):
            return Case(rng(f"cost{planes}{groups}"), rows, MAX_COLS, tokens, planes=[planes], free=[groups > 0], groups=[groups],
                        taper=False)

        words = rows // TILE * multiplier_words(TILE) * groups_of(MAX_COLS, group)
        one = await cycles_of(dut, case(1, 0))
        more = await cycles_of(dut, case(1, group)) - one
        # The first words come while the first tables are built, and the last word before a tile's first step takes the place of
        # a cycle that there is without multipliers.
        assert 0 <= words - more <= multiplier_words(TILE) + rows // TILE, (tokens, words, more)
        plain, many = await cycles_of(dut, case(1, 0), paced=True), await cycles_of(dut, case(PLANES, group), paced=True)
        steps = PLANES * rows // rows_a_step(tokens) * slices(MAX_COLS)
        report_note(f"{tokens} tokens at the memory's rate: {plain} cycles of one plane, {many} of {PLANES} with multipliers, "
                    f"whose words are {PLANES * words}; {steps} steps")
        assert many <= 1.03 * PLANES * plain + PLANES * words * WORD_CYCLES, (tokens, plain, many, words)
    report(cases=rows * TOKENS)
