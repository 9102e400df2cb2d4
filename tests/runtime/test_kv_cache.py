# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Prefixes that lie in the KV cache are not fed again, and the bits stay the same; runs that go on where another ended."""

import numpy as np
import pytest

import tellme
from tellme.link.errors import LinkError
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.runtime.kv_cache import KvCache
from tellme.runtime.sampling import Sampling
from tellme.spec.config import SIMULATED, preset
from tellme.spec.memory import DoneReason, Event, EventType
from tests.cli.fake_client import FakeClient

CONFIG = preset(SIMULATED)
MODEL = tellme.find_model("stories-1m")
PROMPT = [1, 319, 378, 400, 500]
SAMPLED = Sampling(temperature=0.9, seed=5, repeat_penalty=1.2)


@pytest.fixture
def client():
    return FakeClient(CONFIG)


def on_board(client):
    return tellme.Board(BoardDevice("port", CONFIG, client, "ab" * 32)).load(MODEL)


def fresh(prompt, n, sampling=None):
    """Tokens and last logits of a golden model that saw nothing before."""
    session = tellme.Board(GoldenDevice()).load(MODEL)
    ids = [token.id for token in session.generate(prompt, max_tokens=n, sampling=sampling)]
    return ids, session.device.logits().copy(), session.device.crcs()


def test_only_what_is_new_is_fed(client):
    session = on_board(client)
    first = [token.id for token in session.generate(PROMPT, max_tokens=4)]
    # The last pick was not fed.
    assert session.cache.ids == (*PROMPT, *first[:-1])
    longer = [*PROMPT, *first, 77, 88]
    run = session.generate(longer, max_tokens=3)
    ids = [token.id for token in run]
    start = client.log[-1]
    assert (start.position, start.feed) == (len(PROMPT) + 3, 3) and run.stats["cached_tokens"] == len(PROMPT) + 3
    assert run.stats["prompt_tokens"] == len(longer)
    assert ids == fresh(longer, 3)[0]


def test_with_the_head_on_the_host(client):
    session = tellme.Board(BoardDevice("port", CONFIG, client, "ab" * 32)).load(MODEL, head="host")
    first = [token.id for token in session.generate(PROMPT, max_tokens=3)]
    longer = [*PROMPT, *first, 42]
    run = session.generate(longer, max_tokens=3, sampling=SAMPLED)
    assert [token.id for token in run] == fresh(longer, 3, SAMPLED)[0] and run.stats["cached_tokens"] == len(longer) - 2


@pytest.mark.parametrize("sampling", [None, SAMPLED])
def test_the_same_bits_as_a_fresh_run(sampling):
    session = tellme.Board(GoldenDevice()).load(MODEL)
    list(session.generate(PROMPT, max_tokens=9, sampling=sampling))
    for prompt in ([*PROMPT[:3], 9, 10, 11], PROMPT, PROMPT[:2], [7, 8], [*PROMPT, 600, 601]):
        run = session.generate(prompt, max_tokens=5, sampling=sampling)
        ids = [token.id for token in run]
        want, logits, crcs = fresh(prompt, 5, sampling)
        assert ids == want and np.array_equal(session.device.logits(), logits) and session.device.crcs() == crcs
    assert run.stats["cached_tokens"] == 0
    # The same prompt again: the last token alone is fed, since its logits are wanted.
    again = session.generate([*PROMPT, 600, 601], max_tokens=5, sampling=sampling)
    assert [token.id for token in again] == ids and again.stats["cached_tokens"] == len(PROMPT) + 1


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_after_an_interrupted_run(client, taken):
    session = on_board(client)
    run = session.generate(PROMPT, max_tokens=20)
    ids = []
    for token in run:
        ids.append(token.id)
        if len(ids) > taken:
            break
    assert session.cache.ids == (*PROMPT, *ids[:-1])
    longer = [*PROMPT, *ids, 42]
    assert [token.id for token in session.generate(longer, max_tokens=4)] == fresh(longer, 4)[0]
    assert client.log[-1].position == len(PROMPT) + taken


def test_a_run_that_was_stopped_in_its_prompt(client, monkeypatch):
    session = on_board(client)
    list(session.generate(PROMPT, max_tokens=1))
    monkeypatch.setattr(client, "events", lambda: iter([(EventType.DONE, stopped())]))
    with pytest.raises(tellme.DeviceError, match="was stopped"):
        list(session.generate([*PROMPT, 5, 6], max_tokens=1))
    assert session.cache.ids == ()


def stopped():
    return Event(0, 0, DoneReason.STOPPED, *[0] * 5)


def test_a_link_that_failed_leaves_nothing_known(client):
    session = on_board(client)
    list(session.generate(PROMPT, max_tokens=2))
    client.cut_after, client.error = 1, LinkError("gone")
    with pytest.raises(LinkError):
        list(session.generate([*PROMPT, 3], max_tokens=4))
    client.cut_after = None
    assert session.cache.ids == ()
    assert [token.id for token in session.generate(PROMPT, max_tokens=3)] == fresh(PROMPT, 3)[0]
    assert client.log[-1].position == 0


def test_logits_and_losses_feed_all(client):
    session = on_board(client)
    list(session.generate(PROMPT, max_tokens=1))
    rows = []
    list(session.generate(PROMPT, max_tokens=2, on_logits=rows.append))
    assert len(rows) == len(PROMPT) + 1
    golden = tellme.Board(GoldenDevice()).load(MODEL)
    list(golden.generate("Once upon a time", max_tokens=3))
    golden.loss("The cat was happy. The cat was sad.")
    assert golden.cache.ids == ()
    assert [t.id for t in golden.generate(PROMPT, max_tokens=3)] == fresh(PROMPT, 3)[0]


@pytest.mark.parametrize("sampled", [None, Sampling(temperature=1.0), Sampling(temperature=1.0, repeat_penalty=1.5)])
def test_two_runs_at_a_time_are_refused(client, sampled):
    session = on_board(client)
    one = iter(session.generate(PROMPT, max_tokens=5, sampling=sampled))
    next(one)
    two = [token.id for token in session.generate([1, 5], max_tokens=3)]
    with pytest.raises(tellme.InputError, match="another run began"):
        next(one)
    assert session.cache.ids == (1, 5, *two[:-1])


@pytest.mark.parametrize("sampling", [None, SAMPLED])
def test_a_run_goes_on_where_another_ended(sampling):
    whole = tellme.Board(GoldenDevice()).load(MODEL).generate("Lily had a", max_tokens=12, sampling=sampling)
    tokens = list(whole)
    rest = whole.finish()
    for taken in (1, 5, 11):
        other = tellme.Board(GoldenDevice()).load(MODEL)
        ids = [token.id for token in tokens[:taken]]
        run = other.generate("Lily had a", max_tokens=12, sampling=sampling, resume=ids)
        assert list(run) == tokens[taken:] and run.finish() == rest and run.stop_reason == whole.stop_reason
    with pytest.raises(tellme.InputError, match="leave no room"):
        other.generate("Lily had a", max_tokens=12, resume=[token.id for token in tokens])


def test_what_is_common():
    cache = KvCache()
    cache.add([1, 2, 3, 4])
    assert [cache.common(ids) for ids in ([1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 9, 4], [1], [], [5, 6])] == [3, 4, 2, 0, 0, 0]
    assert cache.begin(self := object(), [1, 2, 9, 9]) == 2 and cache.owner is self and cache.ids == (1, 2)
