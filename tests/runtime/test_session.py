# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sessions on a board behind packets: runs that are left, runs that follow one another, what a board must not do."""

from dataclasses import replace

import pytest

import tellme
from tellme.runtime.device import BoardDevice
from tellme.runtime.sampling import Sampling
from tellme.spec.config import SIMULATED, preset
from tellme.spec.ending import ending
from tellme.spec.memory import DoneReason
from tests.cli.fake_client import FakeClient

CONFIG = preset(SIMULATED)
MODEL = tellme.find_model("stories-1m")


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
