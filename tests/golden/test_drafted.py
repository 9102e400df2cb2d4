# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Drafted tokens on the golden board: the same tokens as without, in fewer passes; when drafting rests."""

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tellme.compiler import CompileError, compile_model
from tellme.compiler.image import with_drafts
from tellme.drafts.table import DraftTable, accepted
from tellme.golden import GoldenBoard
from tellme.golden.board import NonfiniteError
from tellme.golden.perplexity import unlimited_config
from tellme.spec.config import ConfigError, preset
from tellme.spec.drafts import CREDIT_MOST, REST, SETTINGS_FIELDS, TOKEN_CREDIT, Drafting
from tellme.spec.memory import DRAFT_REGISTERS, DoneReason, EventType, StartArgs, StartFlags
from tellme.spec.sampling import DrawSettings, inverse_temperature, pack_settings
from tellme.spec.words import pack_word
from tests.models.random_model import even_model

LANES, CONTEXT, VOCAB = 8, 48, 31
MODEL = even_model(VOCAB, CONTEXT)
CORE = replace(unlimited_config(MODEL), lanes=LANES, chunk=LANES, head_tokens=LANES, slots=LANES, drafts=True)
IMAGE = compile_model(MODEL, CORE)
TOKEN, DONE = EventType


def plain(prompt, settings=None, generate=CONTEXT, ends=()):
    """Picks of a board that drafts nothing, and why they end."""
    board = GoldenBoard(IMAGE, LANES, head_tokens=LANES)
    return run(board, prompt, settings, generate, ends)


def run(board, prompt, settings=None, generate=CONTEXT, ends=(), flags=0, slot=0):
    board.windows[slot][:len(prompt)] = prompt
    if settings is not None:
        board.registers |= pack_settings(settings)
        flags |= StartFlags.SAMPLE
    *told, (kind, done) = board.start(StartArgs(0, len(prompt), generate, StartFlags(flags), slot=slot, ends=ends))
    assert kind == DONE and [event.position for _, event in told] == list(range(len(prompt) - 1, len(prompt) - 1 + len(told)))
    return [event.id for _, event in told], DoneReason(done.logit), done.position


def drafting(table, most=3, cost=0):
    board = GoldenBoard(with_drafts(IMAGE, table, CORE), LANES, head_tokens=LANES, slots=LANES, drafts=True)
    board.registers |= {"draft_base": with_drafts(IMAGE, table, CORE).draft_base,
                        "draft_settings": pack_word(SETTINGS_FIELDS, {"most": most, "cost": cost})}
    return board


def half_right(texts, seed):
    """A table that knows some of the texts' pairs, and some others wrong."""
    draw = random.Random(seed)
    wrong = [[token if draw.random() < 0.8 else draw.randrange(VOCAB) for token in text] for text in texts]
    return DraftTable.of_texts(wrong, VOCAB)


@pytest.mark.parametrize("seed", range(6))
def test_tokens_are_those_without_drafts_in_fewer_passes(seed):
    draw = random.Random(seed)
    prompt = [draw.randrange(VOCAB) for _ in range(draw.randint(1, 12))]
    settings = None if seed % 2 else DrawSettings(inverse_temperature(0.7), top_k=8, seed=seed)
    expected = plain(prompt, settings)
    table = half_right([prompt + expected[0]], seed)
    most = 1 + seed % 4
    board = drafting(table, most)
    assert run(board, prompt, settings) == expected
    # Passes are counted by another rule: what is right of what the table drafts, of as many as the context has positions for.
    ids, at, passes, drafted, right = prompt + expected[0], len(prompt) + 1, 0, 0, 0
    while at < len(ids):
        guess = table.draft(ids[:at], min(most, CONTEXT - at))
        number = min(accepted(guess, ids[at:]), len(ids) - at - 1)
        passes, drafted, right, at = passes + 1, drafted + len(guess), right + number, at + number + 1
    assert board.drafts_told == [passes, drafted, right]
    assert 0 < right < drafted and passes < len(expected[0]) - 1


def test_ends_among_drafted_tokens():
    prompt = [3, 1, 4]
    ids, _, _ = plain(prompt)
    table = DraftTable.of_texts([prompt + ids], VOCAB)
    for generate in range(1, 9):
        assert run(drafting(table), prompt, generate=generate) == plain(prompt, generate=generate)
    ends = sorted(set(ids) - set(ids[:2]), key=ids.index)[:4]
    assert len(ends) == 4
    for end in ends:
        found = run(drafting(table), prompt, ends=(end,))
        assert found == plain(prompt, ends=(end,)) and found[1] == DoneReason.END_TOKEN
    for most in (1, 4, 7):
        assert run(drafting(table, most), prompt)[1] == DoneReason.CONTEXT


def test_a_board_drafts_nothing_unless_it_is_told_to():
    prompt = [3, 1, 4]
    ids, _, _ = plain(prompt)
    table = DraftTable.of_texts([prompt + ids], VOCAB)
    board = drafting(table, most=0)
    assert run(board, prompt) == plain(prompt) and board.drafts_told[1] == 0
    board = drafting(table)
    run(board, prompt, flags=StartFlags.DUMP)
    assert board.drafts_told[1] == 0
    assert not set(DRAFT_REGISTERS) & set(GoldenBoard(IMAGE, LANES, head_tokens=LANES).registers)


def test_slots_beside_one_another_share_the_lanes_and_a_prompt_has_them_first():
    draw = random.Random(7)
    prompts = {slot: [draw.randrange(VOCAB) for _ in range(3)] for slot in (0, 2, 5)}
    expected = {slot: plain(prompt)[0] for slot, prompt in prompts.items()}
    table = DraftTable.of_texts([prompt + expected[slot] for slot, prompt in prompts.items()], VOCAB)
    board = drafting(table, most=5)
    seen, widths = {slot: [] for slot in prompts}, []
    compute = board._compute
    board._compute = lambda runs, wanted: (widths.append([len(run.tokens) for run in runs]), compute(runs, wanted))[1]
    for slot, prompt in prompts.items():
        board.windows[slot][:len(prompt)] = prompt
    for slot in (0, 2):
        board.begin(StartArgs(0, 3, CONTEXT, StartFlags(0), slot=slot))
    for number in range(200):
        if number == 3:
            board.begin(StartArgs(0, 3, CONTEXT, StartFlags(0), slot=5))
        for kind, event in board.make_pass():
            if kind == TOKEN:
                seen[event.slot].append(event.id)
        if not board.running:
            break
    assert seen == expected
    assert widths[0] == [3, 3] and widths[3] == [1, 1, 3], "no drafts beside a prompt"
    assert max(max(width) for width in widths) == 6 and max(map(sum, widths)) == LANES


def test_drafting_rests_where_it_loses():
    prompt = [3, 1, 4]
    ids, _, _ = plain(prompt)
    # Each pair is followed by the wrong token.
    text = prompt + ids
    wrong = DraftTable.of_texts([[a, b, (c + 1) % VOCAB] for a, b, c in zip(text, text[1:], text[2:], strict=False)], VOCAB)
    tried = drafting(wrong, most=2, cost=100)
    assert run(tried, prompt) == plain(prompt)
    passes, drafted, right = tried.drafts_told
    assert right == 0 and passes == len(ids) - 1
    # Two passes of two drafts, REST passes without, and so on.
    assert 0 < drafted <= 4 * -(-passes // (REST + 2))
    free = drafting(wrong, most=2, cost=0)
    run(free, prompt)
    assert free.drafts_told[1] > drafted


def test_credit():
    slot = Drafting()
    slot.done(3, 1, 10)
    assert (slot.credit, slot.rest) == (2 * TOKEN_CREDIT - 30, 0)
    for _ in range(9):
        slot.done(3, 3, 0)
    assert slot.credit == CREDIT_MOST
    for _ in range(CREDIT_MOST // 30):
        slot.done(3, 0, 10)
    assert (slot.credit, slot.rest) == (CREDIT_MOST % 30, 0)
    slot.done(3, 0, 10)
    assert (slot.credit, slot.rest) == (TOKEN_CREDIT, REST)
    for left in reversed(range(REST)):
        slot.done(0, 0, 10)
        assert (slot.credit, slot.rest) == (TOKEN_CREDIT, left)


def test_tables_that_a_board_does_not_take():
    table = DraftTable.of_texts([[1, 2, 3]], VOCAB)
    with pytest.raises(CompileError, match="the core ulx3s-85f-l2 drafts no tokens"):
        with_drafts(IMAGE, table, preset("ulx3s-85f-l2"))
    with pytest.raises(CompileError, match=f"knows {VOCAB + 1} tokens, and the LM head on the board gives {VOCAB}"):
        with_drafts(IMAGE, DraftTable.of_texts([[1, 2]], VOCAB + 1), CORE)
    board = SimpleNamespace(name="small", drafts=True, unlimited=False, sdram_bytes=1 << 25)
    full = replace(IMAGE, end=board.sdram_bytes - 100)
    with pytest.raises(CompileError, match="make one with shorter lists"):
        with_drafts(full, table, board)
    small = with_drafts(IMAGE, table, board)
    assert small.draft_base is not None and small.end == 4 * (small.draft_base + len(table.words))
    assert np.array_equal(np.frombuffer(b"".join(small.sections[-1][1].chunks()), "<u4"), table.words)


def test_cores_that_can_draft():
    core = preset("sim-slots")
    assert core.drafts and core.widths.drafts and not preset("ulx3s-85f-l2").drafts
    for changes, message in (({"slots": 1}, "drafts with slots 1 and sampler True; slots from 2 on with a sampler can be"),
                             ({"sampler": False}, "drafts with slots 4 and sampler False"),
                             ({"max_context": 31}, "drafts with max_context 31; 32 and more can be")):
        with pytest.raises(ConfigError, match=message):
            replace(core, **changes)
    assert replace(core, max_context=32).widths.token_window > core.chunk


def test_a_drafted_infinity_ends_no_slot(monkeypatch):
    """A pass with a drafted token that gives an infinity is made anew without drafts; another infinity ends its slot."""
    draw = random.Random(3)
    prompts = {slot: [draw.randrange(VOCAB) for _ in range(3)] for slot in (1, 4)}
    expected = {slot: plain(prompt)[0] for slot, prompt in prompts.items()}
    told = {token for slot, prompt in prompts.items() for token in prompt + expected[slot]}
    bad = next(token for token in range(VOCAB) if token not in told)
    text = prompts[1] + expected[1]
    table = DraftTable.of_texts([[a, b, bad] for a, b in zip(text, text[1:], strict=False)], VOCAB)
    for slots in ((1,), (1, 4)):
        board = drafting(table, most=2)
        compute, passes = board._compute, []

        def failing(runs, wanted, compute=compute, passes=passes):
            passes.append([run.tokens for run in runs])
            if any(bad in run.tokens for run in runs):
                raise NonfiniteError(1)
            return compute(runs, wanted)

        monkeypatch.setattr(board, "_compute", failing)
        seen = {slot: [] for slot in slots}
        for slot in slots:
            board.windows[slot][:3] = prompts[slot]
            board.begin(StartArgs(0, 3, CONTEXT, StartFlags(0), slot=slot))
        while board.running:
            for kind, event in board.make_pass():
                assert kind == TOKEN or event.logit == DoneReason.CONTEXT
                if kind == TOKEN:
                    seen[event.slot].append(event.id)
        assert seen == {slot: expected[slot] for slot in slots}
        assert any(bad in run for runs in passes for run in runs)
    board.windows[2][:2] = [3, bad]
    board.begin(StartArgs(0, 2, 5, StartFlags(0), slot=2))
    (kind, done), = board.make_pass()
    assert (kind, done.logit, done.slot) == (DONE, DoneReason.NONFINITE, 2)
