# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The TLMM engine against plain integer matrix products."""

import cocotb
from cocotb.utils import get_sim_time
from engine_cases import LANES, LEAST, MAX_COLS, STREAMS, TILE, TOKENS, Case, bench, busy_cycles, rows_a_step, run, tokens_of

from hw.tlmm.kinds import PAIR_LANE
from sim.cocotb_streams import PERIOD_NS, StreamSource, report, report_note, report_point, reset, rng
from tellme.spec.packing import SLICE, SLICE_BYTES, pack_matrix, slices, tile_rows

#: "narrow" and "wide" are of the narrowest and the widest numbers: an ffn of 6912 has 13,824 rows of gate and up.
BENCHES = [bench("lanes1", 1, 1, 128, 260), bench("lanes2", 2, 1, 128, 260, planes=6),
           bench("lanes8", 8, 2, 160, 260, nightly="groups-lanes4 has two pipelines, and tests/board sixteen lanes on them"),
           bench("lanes5", 5, 3, 128, 260, nightly="no preset has these numbers of lanes and pipelines"),
           bench("narrow", 2, 2, 64, 64, "numbers_at_their_ends", "stalls_90", "places_go_around"),
           bench("wide", 1, 1, 128, 6912, "numbers_at_their_ends"),
           # The codes of a token fill an EBR, and the last slice's columns go beyond.
           bench("whole-ebr", 2, 1, 128, 2048, "numbers_at_their_ends"),
           # Of one plane: lanes2 has tiles of one plane in an engine of six, and they take no cycle more.
           bench("planes1", 2, 1, 128, 260, nightly="no preset has one plane; lanes2 has the same tests"),
           # And in an engine with multipliers.
           bench("multipliers", 2, 1, 128, 260, planes=6, multipliers=True,
                 nightly="tlmm/groups has tiles without multipliers, and the cycles of one"),
           # Two rows a step in prefill: two tokens; by night four of one pipeline, with the tiles of ecpix5-85f.
           bench("rows2-lanes4", 4, 1, 128, 260, prefill_rows=2),
           bench("rows2-lanes8", 8, 1, 240, 300, prefill_rows=2, nightly="rows2-lanes4 has two tokens on four lanes"),
           bench("rows2-wide", 8, 1, 240, 6912, prefill_rows=2, nightly="rows2-lanes8 and wide together"),
           *(bench(f"rows2-lanes{lanes}-{streams}", lanes, streams, tile, 500, prefill_rows=2,
                   nightly="no preset has these numbers of lanes and pipelines")
             for lanes, streams, tile in ((2, 1, 128), (6, 3, 128), (12, 1, 254), (16, 2, 240)))]

POINTS = ("limit: a matrix of two rows and four columns", "limit: the last row of the widest matrix",
          "limit: the largest sums of the longest input", "limit: a tile of all rows, and one row pair more",
          "limit: a chunk of one token and of all")


@cocotb.test()
async def shapes(dut):
    await reset(dut)
    random = rng("shapes")
    shapes = [(2, 4), (2, 20), (4, 21), (6, 41), (8, 19), (10, 60), (128, 44), (130, 40), (256, 20), (300, 53), (330, 41)]
    await run(dut, [Case(random, rows, cols, t) for rows, cols in shapes for t in tokens_of(TOKENS)])
    assert tokens_of(TOKENS)[0] == 1 and tokens_of(TOKENS)[-1] == TOKENS
    report_point("limit: a matrix of two rows and four columns")
    if TOKENS > 1:
        report_point("limit: a chunk of one token and of all")
    if {(TILE, 44), (TILE + 2, 40)} <= set(shapes):
        report_point("limit: a tile of all rows, and one row pair more")


@cocotb.test()
async def extreme_values(dut):
    await reset(dut)
    random = rng("extreme")
    await run(dut, [Case(random, 4, MAX_COLS, t, extreme=True) for t in tokens_of(TOKENS)])


@cocotb.test()
async def numbers_at_their_ends(dut):
    """The last row of the widest matrix, and the largest sums of the longest input: neither row nor sum wraps."""
    await reset(dut)
    random = rng("ends")
    # Gate and up.
    rows = max(2 * MAX_COLS, 20 * TILE)
    for tokens in tokens_of(TOKENS):
        longest = Case(random, 4, MAX_COLS, tokens)
        longest.w[:2] = [1] * MAX_COLS, [-1] * MAX_COLS
        longest.x = [[-128] * MAX_COLS for _ in range(tokens)]
        longest.words = pack_matrix(longest.w, *longest.scales, most=TILE, least=longest.least)
        assert {acc for acc, *_ in longest.expected(0)} >= {-128 * MAX_COLS, 128 * MAX_COLS}
        most = Case(random, rows, 20, tokens)
        assert most.expected(0)[-1][3] == rows - 1
        await run(dut, [longest, most])
    report_point("limit: the last row of the widest matrix")
    report_point("limit: the largest sums of the longest input")


@cocotb.test()
async def stalls_10(dut):
    await reset(dut)
    random = rng("stalls")
    await run(dut, [Case(random, r, c, t) for r, c in ((34, 47), (130, 24)) for t in tokens_of(TOKENS)], idle=0.1,
              stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await reset(dut)
    random = rng("stalls")
    await run(dut, [Case(random, 18, 26, t) for t in tokens_of(TOKENS)], idle=0.9, stall=0.9)


@cocotb.test()
async def sums_leave_before_the_next_matrix(dut):
    """Words come slowly and sums leave at once, so that behind a matrix's last step there is a moment in which no sum waits: the
    next matrix does not begin before the last sum has left."""
    await reset(dut)
    random = rng("slow")
    await run(dut, [Case(random, 18, 26, t) for t in (*tokens_of(TOKENS), 1)], words=StreamSource(dut, "words", idle=0.9,
                                                                                                   rng=rng("words")))


@cocotb.test()
async def what_is_no_weight_counts_as_nothing(dut):
    """Weights after the last column are multiplied by zeros, even if codes were stored there before.  Bytes from 243 on are five
    zero weights."""
    await reset(dut)
    random = rng("nothing")
    cases = []
    for cols in (100, 44, 41, 59, 21, 61):
        for tokens in tokens_of(TOKENS):
            case = Case(random, 24, cols, tokens)
            whole = -(-cols // SLICE) * SLICE
            # Zeros of five columns are marked as no weights at all; the rest of the last slice is filled.
            for row in case.w:
                row[5:10] = [0] * 5
            wide = [[*row, *(random.choice((-1, 1)) for _ in range(whole - cols))] for row in case.w]
            header, *words = pack_matrix(wide, *case.scales)
            data = bytearray(b"".join(w.to_bytes(8, "little") for w in words))
            for at in range(1, 24 * SLICE_BYTES, SLICE_BYTES):
                assert data[at] == 121
                data[at] = random.randint(243, 255)
            case.words = [header, *(int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data), 8))]
            cases.append(case)
    await run(dut, cases)


@cocotb.test()
async def initiation_interval(dut):
    """Slices of a full tile follow one another without a lost cycle: every word is taken when it comes."""
    await reset(dut)
    for tokens in tokens_of(TOKENS):
        # One tile.
        case = Case(rng("rate"), TILE, 100, tokens, taper=False)
        busy = await busy_cycles(dut, case)
        a_slice = TILE // rows_a_step(tokens)
        assert a_slice >= SLICE * -(-tokens // STREAMS), "codes come as fast as they are needed"
        steps = a_slice * slices(100)
        first = busy.index(1)
        assert sum(busy) == steps
        assert all(busy[first:first + steps]), "a cycle without a step between slices"


@cocotb.test()
async def tables_wait_for_words(dut):
    """Two tables are built before the first word.  Slices of two or three steps are spaced so that their sums are right."""
    await reset(dut)
    random = rng("late")
    await run(dut, [Case(random, rows, 40, t) for rows in (2, 4, 6, 8, 10) for t in tokens_of(TOKENS)], late=250)


@cocotb.test()
async def short_slices_follow_at_once(dut):
    """Slices of four steps whose tables are there follow one another without a lost cycle."""
    await reset(dut)
    for tokens in tokens_of(TOKENS):
        busy = await busy_cycles(dut, Case(rng("short"), 4 * rows_a_step(tokens), 2 * SLICE, tokens), late=250)
        first = busy.index(1)
        assert sum(busy) == sum(busy[first:first + 8]) == 8, (tokens, busy[first:first + 20])


@cocotb.test()
async def finished_tiles_wait(dut):
    """Tiles of a single slice finish one after another.  With a slow sink the lanes hold finished tiles, and no sum is lost."""
    await reset(dut)
    random = rng("finished")
    for tokens in tokens_of(TOKENS):
        await run(dut, [Case(random, 130 * TOKENS if tokens == 1 else 5 * TILE, 20, tokens)], stall=0.95 if tokens <= 2 else 0.6)


@cocotb.test()
async def places_go_around(dut):
    """More rows than a lane has places for sums, taken as fast as they come: no sum is read before it is written."""
    await reset(dut)
    random = rng("around")
    for tokens in tokens_of(TOKENS):
        await run(dut, [Case(random, 20 * TILE if tokens == 1 else 9 * TILE, 45, tokens)])


@cocotb.test()
async def nothing_waits_for_the_end(dut):
    """Codes come a slice before their tables, and sums leave during the next tile: the cycles of a matrix beside its steps."""
    await reset(dut)
    rows = 4 * TILE
    case = Case(rng("overlap"), rows, 200, 1)
    start = get_sim_time("ns")
    await run(dut, [case])
    cycles = (get_sim_time("ns") - start) / PERIOD_NS
    pair = min(2, LANES)
    steps = rows // pair * slices(200)
    # Single rows take two steps a word, and of the sums the last tile's alone are not hidden (with two rows: half of them).
    ahead = SLICE + PAIR_LANE.builder.CYCLES + 12
    behind = (TILE if pair == 2 else 0) // 2 + 16
    assert steps <= cycles <= steps + ahead + behind + 4 * 4, (cycles, steps)
    report(cases=rows)


@cocotb.test()
async def waits_of_a_chunk(dut):
    """The cycles of a chunk's matrix beside its steps: the first slice's codes and tables, four cycles a tile, and the last
    tile's sums.  These leave from the last slice on, and the sums of the tile before have left by then."""
    await reset(dut)
    rows, cols, tokens = 2 * TILE + LEAST, MAX_COLS, TOKENS
    case = Case(rng("waits"), rows, cols, tokens)
    sizes = [size for _, size in tile_rows(rows, most=TILE, least=LEAST)]
    start = get_sim_time("ns")
    await run(dut, [case])
    cycles = (get_sim_time("ns") - start) / PERIOD_NS
    rate = rows_a_step(tokens)
    shared = -(-tokens // STREAMS)
    steps = rows // rate * slices(cols)
    assert shared * sizes[-2] <= sizes[-1] // rate * (slices(cols) - 1)
    waits = SLICE * shared + PAIR_LANE.builder.CYCLES + 4 * len(sizes) + max(0, shared * sizes[-1] - sizes[-1] // rate)
    assert steps + waits - 8 <= cycles <= steps + waits + 24, (cycles - steps, waits)
    report_note(f"waits {cycles - steps:.0f} cycles beside {steps} steps")
    report(cases=rows * tokens)
