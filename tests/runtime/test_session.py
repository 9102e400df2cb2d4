# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sessions on a board behind packets: runs that are left, runs that follow one another, what a board must not do."""

from dataclasses import replace
from itertools import chain

import pytest

import tellme
from tellme.drafts.table import DraftTable
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.runtime.session import NothingToPredictError, Run, prompt_ids, text_windows, tokenizer_of
from tellme.spec.config import SIMULATED, preset
from tellme.spec.ending import ending
from tellme.spec.memory import DoneReason, StartArgs, StartFlags
from tests.cli.fake_client import FakeClient

CONFIG = preset(SIMULATED)
MODEL = tellme.find_model("stories-1m")
#: What no board draws by itself.
PENALTY = Sampling(temperature=1.0, repeat_penalty=1.2)


@pytest.fixture
def client():
    return FakeClient(CONFIG)


@pytest.fixture
def session(client):
    with tellme.Board(BoardDevice("port", CONFIG, client, "ab" * 32)) as board:
        yield board.load(MODEL)


def test_a_loop_that_is_left_stops_the_board(session, client):
    for token in session.generate([1, 319], max_tokens=9):
        first = token.id
        break
    assert client.stopped
    run = session.generate([1, 319], max_tokens=9)
    ids = [token.id for token in run]
    assert ids[0] == first and len(ids) == 9 and run.stop_reason == "length" and not client.stopped
    with pytest.raises(tellme.InputError) as caught:
        list(run)
    assert str(caught.value) == "the tokens of a run are taken once: generate again for another run"


def test_a_run_that_is_interrupted(session, client):
    run = session.generate([1, 319], max_tokens=9)
    taken = []
    for token in run:
        taken.append(token.id)
        if len(taken) == 3:
            run.interrupt()
            break
    assert run.stop_reason == "interrupted" and client.stopped and taken == run.stats["token_ids"]


def test_text_is_the_same_at_once_and_token_by_token(session):
    tokens = list(session.generate("Once upon a time", max_tokens=9))
    assert session.generate("Once upon a time", max_tokens=9).text == "".join(token.text for token in tokens)


def test_a_board_that_ends_early_is_named(session, client, monkeypatch):
    def short(args):
        client.log.append(args)
        events = list(FakeClient._events(client, replace(args, generate=2)))
        client._run = iter(events)

    list(session.generate([1], max_tokens=1))
    monkeypatch.setattr(client, "start", short)
    with pytest.raises(tellme.DeviceError) as caught:
        list(session.generate([1, 319], max_tokens=5))
    assert str(caught.value) == "port ended a run of 5 tokens after 2"


def test_a_board_that_goes_on_is_named(session, client, monkeypatch):
    def long(args):
        client._run = FakeClient._events(client, replace(args, generate=9))

    list(session.generate([1], max_tokens=1))
    monkeypatch.setattr(client, "start", long)
    with pytest.raises(tellme.DeviceError) as caught:
        list(session.generate([1, 319], max_tokens=3))
    assert str(caught.value) == "port went on after the end of its text"


# What a prompt and a text have to be

BARE = replace(MODEL, tokenizer=b"")
CONTEXT = MODEL.config.context


@pytest.mark.parametrize(("model", "prompt", "message"), [
    (BARE, "x", "the model stories-1m holds no tokenizer: token ids are wanted, or a model that was converted with a tokenizer"),
    (replace(MODEL, config=replace(MODEL.config, bos=None, add_bos=False)), "",
     "the model stories-1m has no BOS token to begin a text with: a prompt is wanted"),
    (MODEL, [], "the prompt has no token: one token or more is wanted"),
    (MODEL, [1] * (CONTEXT + 1), f"the prompt has {CONTEXT + 1} tokens, the model's context holds {CONTEXT}"),
    (MODEL, [1, MODEL.config.vocab], f"prompt token {MODEL.config.vocab} is outside the vocabulary of {MODEL.config.vocab}"),
    (MODEL, [-1], f"prompt token -1 is outside the vocabulary of {MODEL.config.vocab}"),
])
def test_prompts_that_no_run_can_begin_with(model, prompt, message):
    with pytest.raises(tellme.InputError) as caught:
        prompt_ids(model, tokenizer_of(model), prompt)
    assert str(caught.value) == message


def test_prompts_that_a_run_begins_with():
    assert prompt_ids(MODEL, tokenizer_of(MODEL), "") == [MODEL.config.bos]
    assert prompt_ids(BARE, None, "") == [MODEL.config.bos] and prompt_ids(BARE, None, range(3)) == [0, 1, 2]


@pytest.mark.parametrize(("model", "text", "kind", "message"), [
    (BARE, "x", tellme.InputError, "the model stories-1m holds no tokenizer: a model that was converted with one is wanted"),
    (replace(MODEL, config=replace(MODEL.config, context=1)), "x", tellme.InputError,
     "the model stories-1m has one position: there is nothing to predict"),
    (MODEL, " \n<|endoftext|>\n", NothingToPredictError, "there is nothing to predict in the text"),
    (replace(MODEL, config=replace(MODEL.config, bos=None, add_bos=False, eos=None)), "a<|endoftext|>b", tellme.ModelError,
     "the model stories-1m has neither BOS nor an end token to put between texts, and the text has <|endoftext|>: give one text"),
])
def test_texts_without_a_loss(model, text, kind, message):
    with pytest.raises(kind) as caught:
        text_windows(model, tokenizer_of(model), text)
    assert str(caught.value) == message


def test_a_stop_string_wants_a_tokenizer_and_a_resumed_run_wants_room(client):
    with tellme.Board(BoardDevice("port", CONFIG, client, "ab" * 32)) as board:
        session = board.load(BARE)
        with pytest.raises(tellme.InputError, match="holds no tokenizer: without one there is no text to stop at$"):
            session.generate([1], stop=["x"])
        with pytest.raises(tellme.InputError, match="^2 tokens of an earlier run leave no room for another one$"):
            session.generate([1], max_tokens=2, resume=[5, 6])
        assert client.log == []


# Runs in which nothing is picked


def test_no_token_is_asked_for(session, client):
    run = session.generate([1, 319], max_tokens=0)
    assert list(run) == [] and run.stop_reason == "length"
    # The prompt was fed, for the next run's cache.
    assert [(args.feed, args.generate) for args in client.log] == [(2, 0)]
    rows = []
    run = session.generate([1, 319], max_tokens=0, on_logits=rows.append)
    assert list(run) == [] and run.stop_reason == "length" and len(rows) == 2


def test_a_pick_that_nobody_asked_for_is_named(session, client, monkeypatch):
    def eager(args):
        client._run = FakeClient._events(client, replace(args, generate=1))

    monkeypatch.setattr(client, "start", eager)
    client._boot()
    with pytest.raises(tellme.DeviceError) as caught:
        list(session.generate([1, 319], max_tokens=0))
    assert str(caught.value) == "port picked a token that was not asked for"


def test_a_board_that_ends_without_the_pick_of_a_drawn_token_is_named(session, client, monkeypatch):
    """The host draws, and starts the board for each token."""
    def idle(args):
        client._run = FakeClient._events(client, replace(args, generate=0))

    monkeypatch.setattr(client, "start", idle)
    client._boot()
    with pytest.raises(tellme.DeviceError, match="^port ended a run of one token with 0$"):
        list(session.generate([1, 319], max_tokens=3, sampling=PENALTY))


def test_no_token_is_asked_for_where_the_host_draws(session, client):
    run = session.generate([1, 319], max_tokens=0, sampling=PENALTY)
    assert list(run) == [] and run.stop_reason == "length" and client.log == []


def test_tokens_that_are_on_their_way_when_a_run_is_stopped(session, client, monkeypatch):
    """They are no tokens of the next run."""
    wanted = [token.id for token in session.generate([1, 319], max_tokens=9)]

    def late():
        events = [next(client._run) for _ in range(2)]
        FakeClient.stop(client)
        client._run = chain(events, client._run)

    monkeypatch.setattr(client, "stop", late)
    for token in session.generate([1, 378], max_tokens=9):
        assert token.id != wanted[0]
        break
    assert client.stopped and [token.id for token in session.generate([1, 319], max_tokens=9)] == wanted


def test_a_board_that_is_left_before_a_model_is_loaded():
    """Nothing is connected and nothing runs: an interruption is an interruption."""
    for device in (GoldenDevice(), BoardDevice("port", CONFIG)):
        with pytest.raises(KeyboardInterrupt), tellme.Board(device):
            raise KeyboardInterrupt


def test_a_golden_run_that_another_hand_stops():
    session = tellme.Board(GoldenDevice()).load(MODEL)
    with pytest.raises(tellme.DeviceError, match="^the golden model was stopped$"):
        for _ in session.generate([1, 319], max_tokens=9):
            session.device.stop()
    assert len(list(session.generate([1, 319], max_tokens=2))) == 2


def test_what_the_golden_model_has_only_with_a_table():
    device = GoldenDevice()
    tellme.Board(device).load(MODEL)
    with pytest.raises(tellme.DeviceError, match="^golden has no table of drafted tokens$"):
        device.draft_as(1)
    with pytest.raises(tellme.DeviceError, match="^the golden model gives no picks after all tokens: feed "):
        list(device.start(StartArgs(0, 1, 1, StartFlags.ALL)))
    session = tellme.Board(device).load(MODEL, drafts=DraftTable.of_texts([[1, 319, 378]], MODEL.config.vocab))
    assert device.draft_most == 3
    device.draft_as(0)
    assert device.draft_most == 0 and session.generate([1, 319], max_tokens=2).text


def test_a_board_with_the_head_on_the_host_that_ends_without_done(client, monkeypatch):
    with tellme.Board(BoardDevice("port", CONFIG, client, "ab" * 32)) as board:
        session = board.load(MODEL, head="host")
        monkeypatch.setattr(client, "start", lambda args: setattr(client, "_run", iter(())))
        with pytest.raises(tellme.DeviceError) as caught:
            list(session.generate([1, 319], max_tokens=2))
    assert str(caught.value) == "port ended a run without saying so"


class Picked:
    """A generation of given tokens."""

    def __init__(self, *ids):
        self.prompt, self.generated, self.stop_reason = [1], [], ""
        self._ids = ids

    def tokens(self):
        for token in self._ids:
            self.generated.append(token)
            yield token
        self.stop_reason = "length"

    def interrupt(self, reason="interrupted"):
        self.stop_reason = reason


def test_a_stop_string_that_the_end_completes():
    """A character without its last byte is shown as U+FFFD when the run ends, and can be what a run stops at."""
    tokenizer = tokenizer_of(MODEL)
    first = next(i for i in range(MODEL.config.vocab) if tokenizer.piece_bytes(i) == b"\xc3")
    run = Run(Picked(first), tokenizer, ["\ufffd"])
    (token,) = run
    assert token.text == "" and token.pending and run.stop_reason == "length"
    assert run.finish() == "" and run.stop_reason == "stop_string"
    shown = Run(Picked(first), tokenizer)
    assert shown.text == "\ufffd" and shown.stop_reason == "length"


def test_a_sequence_that_is_closed_twice():
    sequence = tellme.Board(GoldenDevice()).load(MODEL).open()
    sequence.close()
    sequence.close()
    with pytest.raises(tellme.InputError, match="^the sequence is closed: open another one$"):
        sequence.generate([1])


@pytest.mark.parametrize(("settings", "message"), [
    ({"temperature": -0.1}, "the temperature is -0.1; 0, or 1e-06 to below 1e+06, is wanted"),
    ({"temperature": 1e-7}, "the temperature is 1e-07; 0, or 1e-06 to below 1e+06, is wanted"),
    ({"temperature": float("nan")}, "the temperature is nan; 0, or 1e-06 to below 1e+06, is wanted"),
    ({"min_p": 1.5}, "min_p is 1.5; 0 to 1 is wanted"),
    ({"top_k": 65}, "top_k is 65; 0 to 64 is wanted"),
    ({"top_p": -0.5}, "top_p is -0.5; 0 to 1 is wanted"),
    ({"repeat_penalty": 0}, "repeat_penalty is 0; 0.1 to 10 is wanted"),
])
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(tellme.InputError) as caught:
        Sampling(**settings)
    assert str(caught.value) == message


def test_counters_and_crcs_are_read_by_name(session, client, monkeypatch):
    list(session.generate([1, 319], max_tokens=2))
    asked = []
    monkeypatch.setattr(client, "read", lambda address, size: asked.append((address, size)) or bytes(range(size % 256)))
    board = tellme.Board(session.device)
    assert len(board.crcs()) == len(session.image.program) - 1
    assert board.counters()["cycles"] == 0x03020100


@pytest.mark.parametrize(("token", "picked", "position", "reason"), [
    (5, 1, 3, DoneReason.END_TOKEN), (5, 4, 9, DoneReason.END_TOKEN), (6, 4, 9, DoneReason.LENGTH), (6, 3, 9, DoneReason.CONTEXT),
    (6, 3, 8, None)])
def test_one_rule_of_endings(token, picked, position, reason):
    assert ending(token, picked, ends=(5, 7), limit=4, next_position=position, context=9) == reason
