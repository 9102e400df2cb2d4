# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tokens that the host guesses and a board verifies: the texts are those without, whatever is guessed."""

import random
from contextlib import suppress
from dataclasses import replace
from functools import cache

import pytest

import tellme
from tellme.drafts.drafter import MOST, OwnText
from tellme.drafts.table import DraftTable
from tellme.errors import InputError, TellmeError
from tellme.models.source import Block
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.runtime.generation import REST
from tellme.runtime.sampling import Sampling
from tellme.spec.config import preset
from tellme.spec.memory import END_TOKENS, StartFlags
from tellme.spec.scale import Scale
from tests.board.slots import overflowing
from tests.cli.fake_client import FakeClient, slotted_board
from tests.link.golden_slots import device
from tests.models.random_model import even_model, random_model

VOCAB, CONTEXT = 67, 120
MODEL = even_model(VOCAB, CONTEXT)
DRAWN = Sampling(temperature=0.7, top_k=8, seed=5)
#: Cores with picks of all positions: one sequence, and four at a time.
ONE, FOUR = preset("sim-all"), preset("sim-slots")


def fake_device(client):
    return BoardDevice("port", client.config, client, "ab" * 32)


KINDS = {"one": lambda: fake_device(FakeClient(ONE)), "four": lambda: slotted_board(FOUR)[1], "packets": lambda: device(FOUR)[0]}


class Knows:
    """Knows the text, and guesses each token wrong with a chance; sometimes nothing, and sometimes more than it is asked for."""

    def __init__(self, text, wrong=0.0, seed=0):
        self.text, self.wrong, self.draw, self.asked = list(text), wrong, random.Random(seed), []

    def draft(self, ids, count):
        assert 1 <= count <= MOST and list(ids) == self.text[:len(ids)]
        self.asked.append(count)
        guess = [token if self.draw.random() >= self.wrong else self.draw.randrange(VOCAB) for token in self.text[len(ids):]]
        return guess[:self.draw.choice((0, 1, count, count + 5))] if self.wrong else guess


def ids(run):
    return [token.id for token in run]


def of_golden(model, prompt, tokens, sampling=None, **options):
    run = tellme.Board(GoldenDevice()).load(model).generate(prompt, max_tokens=tokens, sampling=sampling, **options)
    return ids(run), run.stop_reason


@cache
def texts_of_model(prompt, tokens, sampling):
    return of_golden(MODEL, prompt, tokens, sampling, ignore_end=True)


def plain(prompt, tokens, sampling=None):
    """The golden model's text of MODEL, and why it ended; made once for all tests."""
    text, reason = texts_of_model(tuple(prompt), tokens, sampling)
    return list(text), reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", [None, DRAWN])
@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
def test_texts_are_those_without(kind, sampling, wrong):
    prompt = [3, 1, 4, 1, 5, 9]
    text, reason = plain(prompt, CONTEXT, sampling)
    assert reason == "context" and len(text) == CONTEXT - len(prompt) + 1
    session = tellme.Board(KINDS[kind]()).load(MODEL)
    drafter = Knows(prompt + text, wrong)
    run = session.generate(prompt, max_tokens=CONTEXT, sampling=sampling, ignore_end=True, drafter=drafter)
    assert (ids(run), run.stop_reason) == (text, reason) and drafter.asked
    stats = run.stats
    assert stats["passes"] + stats["accepted_tokens"] == len(text) - 1
    if wrong == 0.0:
        # Four tokens a pass, until the context is full.
        assert stats["passes"] == -(-(len(text) - 1) // 4) and stats["tokens_per_pass"] > 3.8
    else:
        assert stats["accepted_tokens"] > (20 if wrong < 1.0 else -1)
    # What the cache has goes on, behind refused guesses too.
    half = len(text) // 2
    more = session.generate(prompt + text[:half], max_tokens=5, sampling=sampling, ignore_end=True, drafter=drafter)
    assert ids(more) == text[half:half + 5] and more.stats["cached_tokens"] >= len(prompt) + half - 1


@pytest.mark.parametrize("tokens", range(1, 14))
def test_lengths(tokens):
    """No token more than was asked for, and none is fed that cannot count."""
    text, _ = plain([5], 20)
    client = FakeClient(ONE)
    session = tellme.Board(fake_device(client)).load(MODEL)
    run = session.generate([5], max_tokens=tokens, ignore_end=True, drafter=Knows([5, *text]))
    assert (ids(run), run.stop_reason) == (text[:tokens], "length")
    assert sum(args.feed for args in client.log) == tokens
    assert [bool(args.flags & StartFlags.ALL) for args in client.log] == [args.feed > 1 for args in client.log]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0, 1, END_TOKENS + 1])
def test_ends_among_guesses(kind, number):
    """End tokens that a board knows, and those that the host knows alone; behind an end nothing comes."""
    text, _ = plain([3, 1, 4], 40)
    late = [token for token in dict.fromkeys(text) if text.index(token) > 5]
    spare = [token for token in range(VOCAB) if token not in text][:END_TOKENS + 1]
    ends = (*spare[:number], late[0])
    model = even_model(VOCAB, CONTEXT)
    model.config = replace(MODEL.config, eos=ends[0], more_ends=ends[1:])
    want = of_golden(model, [3, 1, 4], 40)
    assert want == (text[:text.index(late[0]) + 1], "end_token")
    for wrong in (0.0, 0.4):
        session = tellme.Board(KINDS[kind]()).load(model)
        run = session.generate([3, 1, 4], max_tokens=40, drafter=Knows([3, 1, 4, *text], wrong))
        assert (ids(run), run.stop_reason) == want
        # The board is free.
        assert ids(session.generate([3, 1, 4], max_tokens=2)) == text[:2]


@pytest.mark.parametrize("kind", ["four", "packets"])
def test_side_by_side(kind):
    """A sequence whose tokens are guessed beside others whose are not."""
    prompts = [[7], [1, 2, 3], [9, 9], [30, 4]]
    texts = [plain(prompt, 20, sampling)[0] for prompt, sampling in zip(prompts, (None, DRAWN) * 2, strict=True)]
    session = tellme.Board(KINDS[kind]()).load(MODEL)
    with session.sequences(4) as sequences:
        runs = [sequence.generate(prompt, max_tokens=20, sampling=sampling, ignore_end=True,
                                  drafter=Knows(prompt + text, 0.2) if i < 2 else None)
                for i, (sequence, prompt, sampling, text)
                in enumerate(zip(sequences, prompts, (None, DRAWN) * 2, texts, strict=True))]
        got = {id(run): [] for run in runs}
        for run, token in tellme.interleave(runs):
            got[id(run)].append(token.id)
    assert [got[id(run)] for run in runs] == texts


def test_rests_behind_a_pass_in_which_nothing_was_right():
    text, _ = plain([5], 20)
    client = FakeClient(ONE)

    class Wrong:
        def draft(self, ids, count):
            return [(text[len(ids) - 1] + 1) % VOCAB]

    run = tellme.Board(fake_device(client)).load(MODEL).generate([5], max_tokens=17, ignore_end=True, drafter=Wrong())
    assert ids(run) == text[:17] and run.stats["accepted_tokens"] == 0
    # The prompt; a pass of a guess; REST tokens of the board; and so on.  The last pick has no room for a guess.
    assert [(args.feed, args.generate) for args in client.log] == [(1, 1), *[(2, 1), (1, REST)] * 3, (1, 1)]


def test_a_text_that_repeats_itself():
    """A prompt whose end was there before; OwnText guesses what followed."""
    drafter = OwnText()
    assert drafter.draft([1, 2, 3, 4, 9, 1, 2, 3, 4], 3) == [9, 1, 2] and drafter.draft([1, 2, 3], 2) == []
    assert OwnText(1, 1).draft([1, 2, 1], 5) == [2, 1]
    text, _ = plain([5, 6], 60)
    prompt = [5, 6, *text, 5, 6]
    want, _ = plain(prompt, 30)
    run = tellme.Board(fake_device(FakeClient(ONE))).load(MODEL).generate(prompt, max_tokens=30, ignore_end=True, drafter=drafter)
    assert ids(run) == want
    for longest, shortest in ((1, 2), (2, 0)):
        with pytest.raises(ValueError, match=f"shortest is {shortest} and longest {longest}"):
            OwnText(longest, shortest)


@cache
def overflows():
    """A model, tokens that give an infinity on whichever core, and a prompt with a text that meets none."""
    model, bad, good = overflowing(FOUR)
    for token in good[:8]:
        with suppress(TellmeError):
            return model, bad, [token], of_golden(model, [token], 8, ignore_end=True)[0]
    raise AssertionError("no text without an infinity")


@pytest.mark.parametrize("kind", KINDS)
def test_a_guess_that_gives_an_infinity(kind):
    """The pass is made again without the guess."""
    model, bad, prompt, text = overflows()
    guessed = 0

    class Infinite:
        def draft(self, ids, count):
            nonlocal guessed
            guessed += 1
            return bad[:count]

    session = tellme.Board(KINDS[kind]()).load(model)
    assert ids(session.generate(prompt, max_tokens=8, ignore_end=True, drafter=Infinite())) == text and guessed


def test_a_table_on_the_board_beside_a_drafter():
    """The board's table drafts while the host's drafter rests."""
    prompt = [3, 1, 4]
    text, _ = plain(prompt, 60)
    table = DraftTable.of_texts([prompt + text], VOCAB)
    session = tellme.Board(KINDS["four"]()).load(MODEL, drafts=table)
    for wrong in (0.3, 1.0):
        run = session.generate(prompt, max_tokens=60, ignore_end=True, drafter=Knows(prompt + text, wrong))
        assert ids(run) == text and run.stats["accepted_tokens"] > 10


def test_refusals():
    def refused(board, what, *, check=None, head="board", **options):
        session = tellme.Board(board).load(MODEL, check=check, head=head)
        with pytest.raises(InputError, match=what):
            ids(session.generate([5], max_tokens=4, drafter=OwnText(), **options))

    refused(fake_device(FakeClient(preset("sim-tiny"))), "picks one token a pass: drafted tokens from the host want a core with")
    refused(GoldenDevice(), "golden picks one token a pass")
    refused(fake_device(FakeClient(ONE)), "drafted tokens from the host want the LM head on the board", head="host")
    refused(fake_device(FakeClient(ONE)), "compared with the golden model drafts no tokens", check=4)
    refused(fake_device(FakeClient(ONE)), "the logits of each token are asked for", on_logits=lambda row: None)
    refused(fake_device(FakeClient(ONE)), "the board knows no repetition penalty",
            sampling=Sampling(temperature=0.5, repeat_penalty=1.2))

    # Scales that change within a head, one of which no row word holds.
    model = random_model("plain")
    model.layers[0].scales["wk"] = (*(Block(1, Scale(1025 + row, -9)) for row in range(63)), Block(1, Scale(1030, -55)))
    session = tellme.Board(fake_device(FakeClient(ONE))).load(model)
    with pytest.raises(InputError, match="^port works on one token of this model at a time, so that no guesses can be verified$"):
        ids(session.generate([5], max_tokens=4, drafter=OwnText()))

    class Beyond:
        def draft(self, ids, count):
            return [VOCAB]

    session = tellme.Board(fake_device(FakeClient(ONE))).load(MODEL)
    with pytest.raises(InputError, match=f"the drafter guessed token {VOCAB}, outside the vocabulary of {VOCAB}"):
        ids(session.generate([5], max_tokens=4, ignore_end=True, drafter=Beyond()))
