# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head in two steps: the rows that are read, their form in memory, and picks and draws that are those of whole tiles."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellme.compiler.head import HeadTiles
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.golden.weights import unpacked_rows
from tellme.models.source import TableRows
from tellme.spec.config import ConfigError, CoreConfig, preset
from tellme.spec.memory import StartArgs, StartFlags
from tellme.spec.packing import RowWord, pack_matrix, plane_reach, trits_of
from tellme.spec.program import FormatError, Op, Segment, check_segments, pack_segments, unpack_segments
from tellme.spec.sampling import TOP_P_ONE, DrawSettings, inverse_temperature, max_gap, pack_settings
from tellme.spec.scale import ZERO
from tellme.spec.two_steps import CANDIDATES, LOW_PAGE, MOST_GAP, low_row_words, read_rows, serves
from tests.models.random_model import FAMILY, even_model, random_model, with_head_codes

BOARD = preset("sim-two-steps")
PLAIN, STEPS = StartFlags.CLEAR, StartFlags.CLEAR | StartFlags.TWO_STEPS
DRAWN = StartFlags.SAMPLE
#: Settings of draws that two steps serve.
SERVED = {"min-p": DrawSettings(inverse_temperature(1.0), max_gap=max_gap(0.05), seed=3),
          "top-k and min-p": DrawSettings(inverse_temperature(2.0), top_k=3, max_gap=MOST_GAP, seed=4)}


def test_the_order_of_the_rows():
    """Written by hand: six rows, two of which wait at most, batches of one."""
    low = [0, 10, 4, 12, 3, 12]
    logits = [3, 13, 5, 12, 3, 15]
    high = [20, 30, 24, 32, 13, 32]
    # Row 1 leads, and 0 waits; 2 waits behind it: full.  Before row 3: 1 is read (13), then 0 and 2, whose highs are above.  Row
    # 3 is no leader, 12 is below 13; it waits.  Row 4's high is 13: it may be as large as the pick.  Full: both are read.  Row 5.
    assert read_rows(low, high, logits, 0, candidates=2, batch=1) == [1, 0, 2, 3, 4, 5]
    # All may wait: 3 leads behind 1 (12 is above 10), which waits behind 2; 5 does not lead, being equal.  3 is read (12), then
    # 0, 2 and 1 (13), against which row 4's high of 13 counts.
    assert read_rows(low, high, logits, 0, batch=1) == [3, 0, 2, 1, 4, 5]
    # With 15 known of row 1, row 4 counts no more; in a batch with row 1 it is read, and with a gap of 1 too.
    high, logits = [20, 30, 24, 32, 14, 32], [3, 15, 5, 12, 3, 15]
    assert read_rows(low, high, logits, 0, batch=1) == [3, 0, 2, 1, 5]
    assert read_rows(low, high, logits, 0, batch=4) == [3, 0, 2, 1, 4, 5]
    assert read_rows(low, high, logits, 1, batch=1) == [3, 0, 2, 1, 4, 5]


#: (low, logit, high) of rows, from few values, so that many are equal.
ROWS = st.lists(st.tuples(*[st.integers(-6, 6)] * 3).map(sorted), min_size=1, max_size=60)


@given(ROWS, st.integers(0, 8), st.integers(1, 9), st.integers(1, 9))
def test_every_row_that_counts_is_read(rows, gap, candidates, batch):
    low, logits, high = zip(*rows, strict=True)
    read = read_rows(low, high, logits, gap, candidates=candidates, batch=batch)
    assert len(set(read)) == len(read)
    counts = {row for row, value in enumerate(logits) if value >= max(logits) - gap}
    assert counts <= set(read)
    # Behind the last row, where all could wait, none is read that the largest low leaves out.
    if candidates >= len(rows):
        assert all(high[row] >= max(low) - gap for row in read)


def test_few_rows_of_falling_logits_are_read_and_all_of_equal_ones():
    rows = np.arange(2 * CANDIDATES)
    for values, bound, wanted in ((-10 * rows, 15, {0, 1, 2, 3}), (0 * rows, 1, {*rows}), (10 * rows, 10**6, {*rows})):
        read = read_rows((values - bound).tolist(), (values + bound).tolist(), values.tolist(), 0)
        assert set(read) <= wanted and len(read) >= (len(rows) if len(wanted) > 4 else 1)


def table(most, vocab, dim, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-most, min(most, 127) + 1, (vocab, dim)).astype(np.int8)
    codes[0] = -most
    return codes, rng.integers(20 << 10, 60 << 10, vocab).astype(np.uint16)


@pytest.mark.parametrize("planes", range(1, 7))
def test_upper_tiles_and_low_rows_are_the_codes(planes):
    """Tiles of all planes but that of 3**0, by the specification's packing, and that plane row by row."""
    codes, stored = table(min(plane_reach(planes), 128), 131, 43)
    tiles = HeadTiles(lambda: iter([TableRows(codes[:50], stored[:50]), TableRows(codes[50:], stored[50:])]), 131, 43, 132)
    rows = np.concatenate([codes, np.zeros((1, 43), np.int8)]).tolist()
    split = [[trits_of(code, max(planes, 2)) for code in row] for row in rows]
    upper = [[sum(trit * 3**p for p, trit in enumerate(trits[1:])) for trits in row] for row in split]
    words = pack_matrix(upper, ZERO, most=132, planes=max(1, planes - 1), row_words=[
        RowWord(int(scale)) for scale in [*stored, 0]])
    assert np.frombuffer(bytes(tiles.upper_part()), "<u8").tolist() == words
    low = np.frombuffer(bytes(tiles.low_rows()), np.uint8).reshape(132, 4 * low_row_words(43))
    assert unpacked_rows(low, 60)[:, :43].tolist() == [[trits[0] for trits in row] for row in split]
    assert not unpacked_rows(low, 60)[:, 43:].any()


def events(board, args):
    return [(kind, e.position, e.id, e.logit) for kind, e in board.start(args)]


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("drawn", [None, *SERVED])
def test_picks_and_draws_are_those_of_whole_tiles(name, drawn):
    model = with_head_codes(random_model(name), 13)
    image = compile_model(model, replace(BOARD, vector_norms=model.config.vector_norms))
    assert image.two_steps
    whole, steps = GoldenBoard(image), GoldenBoard(image)
    flags = StartFlags(0)
    if drawn is not None:
        flags = DRAWN
        for board in (whole, steps):
            board.registers |= pack_settings(SERVED[drawn])
    for board in (whole, steps):
        board.tokens[:3] = 5, 7, 11
    count = model.config.context - 3
    assert events(steps, StartArgs(0, 3, count, STEPS | flags)) == events(whole, StartArgs(0, 3, count, PLAIN | flags))
    # The last pass: the rows' logits, and the step's CRC over them in their order.
    read = steps.read_rows
    assert read is not None and whole.read_rows is None
    assert np.array_equal(steps.logits[read], whole.logits[read])
    *_, head, _ = steps.crcs
    assert head == zlib.crc32(whole.logits[read].astype("<i4").tobytes())
    assert steps.crcs[:-2] == whole.crcs[:-2]
    assert steps.top() == [entry for entry in sorted(enumerate(whole.logits.tolist()), key=lambda e: (-e[1], e[0]))
                           if entry[0] in read][:64]
    assert steps.head_counters["head_rows"] == count * model.config.vocab
    assert 0 < steps.head_counters["head_rows_read"] <= steps.head_counters["head_rows"]
    # The next run counts anew, and one of whole tiles has all logits.
    events(steps, StartArgs(0, 3, 1, PLAIN))
    assert steps.read_rows is None and steps.head_counters == {"head_rows": 0, "head_rows_read": 0}


def test_settings_that_are_served():
    inverse = inverse_temperature(1.0)
    assert serves(DrawSettings(inverse, max_gap=MOST_GAP)) and serves(DrawSettings(inverse, max_gap=0, top_k=1))
    assert not serves(DrawSettings(inverse, max_gap=MOST_GAP + 1)) and not serves(DrawSettings(inverse))
    assert not serves(DrawSettings(inverse, max_gap=0, top_p=TOP_P_ONE - 1))


def test_what_does_not_run_in_two_steps():
    model = even_model()
    image = compile_model(model, BOARD)
    plain = compile_model(model, replace(BOARD, two_steps=False))
    assert not plain.two_steps and image.segments[:2] == plain.segments
    board = GoldenBoard(image)
    board.registers |= pack_settings(DrawSettings(inverse_temperature(1.0), seed=3))
    for given_board, flags in ((GoldenBoard(plain), STEPS), (board, STEPS | StartFlags.DUMP), (board, STEPS | DRAWN)):
        with pytest.raises(ValueError, match="^START has the flag TWO_STEPS, and image, flags or settings do not let the LM "):
            events(given_board, StartArgs(0, 1, 1, flags))


def test_the_heads_second_form_is_left_out_where_memory_is_short():
    """A memory that holds both forms to the byte, and one with less."""
    model = random_model("untied")
    image = compile_model(model, BOARD)
    (head,) = (step for step in image.program if step.op == Op.HEAD)
    assert head.rows and image.segments[2].end <= LOW_PAGE * head.rows
    enough = replace(BOARD, sdram_bytes=image.end)
    assert compile_model(model, enough).segments == image.segments
    less = compile_model(model, replace(BOARD, sdram_bytes=image.end - 4096))
    assert not less.two_steps and [step.rows for step in less.program if step.op == Op.HEAD] == [0]
    assert compile_model(model, BOARD, head="host").two_steps is False


def test_segments_of_two_steps():
    body, head, upper = Segment(0, 1), Segment(2, 1, lm_head=True), Segment(4, 1, lm_head=True, two_steps=True)
    words = pack_segments([body, head, upper])
    assert words[4] == 1 | 3 << 30 and unpack_segments(words) == (body, head, upper)
    with pytest.raises(FormatError, match="^segment 1 of the weight stream is for an LM head in two steps, and not for the LM"):
        check_segments([body, Segment(2, 1, two_steps=True)])


@pytest.mark.parametrize("given", [{"head_tokens": 4, "chunk": 4, "lanes": 4}, {"planes": 1}])
def test_cores_that_do_not_take_two_steps(given):
    with pytest.raises(ConfigError, match="^preset bench: two_steps with head_tokens"):
        CoreConfig(name="bench", two_steps=True, **given)
