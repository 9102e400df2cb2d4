# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Stop strings: what is shown, what is held back, and that the run ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tellme
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.runtime.stops import StopFilter
from tellme.spec.config import SIMULATED, preset
from tests.cli.fake_client import FakeClient

MODEL = tellme.find_model("stories-1m")
TEXT = ", there was a little girl named Lily. She loved to"


@pytest.fixture(scope="module")
def session():
    return tellme.Board(GoldenDevice()).load(MODEL)


def by_definition(text, stops):
    """The text up to the stop string that is complete first; the longest of those complete at the same character."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[:end - max(map(len, found))], True
    return text, False


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab", max_size=3), max_size=8), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_any_pieces_of_any_text(pieces, stops):
    stop_filter = StopFilter(stops)
    shown = ""
    for piece in pieces:
        shown += stop_filter.push(piece)
        # Nothing is shown that has to be taken back, and nothing is held that cannot become a stop string.
        assert by_definition("".join(pieces), stops)[0].startswith(shown)
    want, found = by_definition("".join(pieces), stops)
    assert (shown + stop_filter.finish(), stop_filter.found is not None) == (want, found)


def test_what_cannot_become_a_stop_string_is_shown_at_once():
    stop_filter = StopFilter(["###"])
    assert [stop_filter.push(piece) for piece in ("a#", "#b", "#", "c##")] == ["a", "##b", "", "#c"]
    assert stop_filter.holding and stop_filter.finish() == "##"


def test_a_run_ends_at_a_stop_string(session):
    run = session.generate("Once upon a time", max_tokens=40, stop=["girl named"])
    tokens = list(run)
    assert "".join(token.text for token in tokens) + run.finish() == ", there was a little "
    assert run.stop_reason == "stop_string" and len(tokens) < 12 and run.stats["generated_tokens"] == len(tokens)
    assert session.generate("Once upon a time", max_tokens=12, stop=["girl named"]).text == ", there was a little "


def test_a_beginning_that_becomes_none_is_shown_late(session):
    run = session.generate("Once upon a time", max_tokens=12, stop=["girl Lily", "nothing like it"])
    tokens = list(run)
    assert "".join(token.text for token in tokens) + run.finish() == TEXT and run.stop_reason == "length"
    held = [token for token in tokens if token.pending]
    assert held and all("girl" not in token.text for token in held)


def test_a_beginning_at_the_end_is_shown(session):
    run = session.generate("Once upon a time", max_tokens=12, stop=["loved to eat"])
    assert run.text == TEXT


def test_the_board_is_stopped_and_usable():
    client = FakeClient(preset(SIMULATED))
    session = tellme.Board(BoardDevice("port", preset(SIMULATED), client, "ab" * 32)).load(MODEL)
    run = session.generate("Once upon a time", max_tokens=40, stop=["girl"])
    assert run.text == ", there was a little " and client.stopped and run.stop_reason == "stop_string"
    assert session.generate("Once upon a time", max_tokens=12).text == TEXT


def test_a_stop_string_that_two_runs_make(session):
    whole = list(session.generate("Once upon a time", max_tokens=12))
    at = next(i for i, token in enumerate(whole) if "girl" in token.text) + 1
    run = session.generate("Once upon a time", max_tokens=12, stop=["girl named"], resume=[token.id for token in whole[:at]])
    assert run.text == "" and run.stop_reason == "stop_string"


def test_what_makes_no_sense(session):
    with pytest.raises(tellme.InputError, match="a stop string is empty"):
        session.generate("Once", stop=["x", ""])
