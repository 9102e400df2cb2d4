# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Prefixes that lie in the gateware's KV cache: what goes on behind them has the bits of a fresh golden model."""

import numpy as np
import pytest

from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.golden.perplexity import unlimited_config
from tellme.runtime.head_on_host import place_head
from tellme.runtime.sampling import Sampling
from tellme.runtime.session import Session
from tests.models.random_model import random_model

pytestmark = pytest.mark.rtl


def session_on(device, model, head):
    used, image = place_head(device, model, head, lambda text: None)
    used.load(image, lambda done, total: None)
    return Session(used, model, image)


def check(session, model, ids, n, sampling=None):
    """Tokens, the best 64 and the step CRCs of a run, against a golden model that has seen nothing before."""
    run = session.generate(ids, max_tokens=n, sampling=sampling, ignore_end=True)
    picked = [token.id for token in run]
    golden = GoldenBoard(compile_model(model, unlimited_config(model)))
    golden.feed([*ids, *picked[:-1]], 0)
    assert session.device.top() == golden.top()
    if session.image.probe is None:
        assert session.device.crcs() == golden.crcs[:-1]
    if sampling is None:
        assert picked[-1] == golden.top()[0][0]
    return picked, run.stats["cached_tokens"]


@pytest.mark.parametrize(("name", "head"), [("grouped", "board"), ("plain", "host")])
def test_a_prefix_is_not_fed_again(device, name, head):
    model = random_model(name)
    session = session_on(device, model, head)
    ids = [int(t) for t in np.random.default_rng(7).integers(3, model.config.vocab, 5)]
    picked, cached = check(session, model, ids, 3)
    assert cached == 0
    # On behind what was picked, with a prompt that feeds two tokens and one that feeds one.
    longer = [*ids, *picked, 9]
    assert check(session, model, longer, 2)[1] == len(ids) + 2
    assert check(session, model, longer, 1)[1] == len(longer) - 1
    # Another end behind the same beginning, drawn at a temperature.
    assert check(session, model, [*ids[:3], 11, 12], 3, Sampling(temperature=1.0, seed=3))[1] == 3


def test_behind_a_run_that_was_left(device):
    """The board was ahead of the host when it was stopped: what it wrote beyond the last event is written anew."""
    model = random_model("grouped")
    session = session_on(device, model, "board")
    ids = [int(t) for t in np.random.default_rng(8).integers(3, model.config.vocab, 4)]
    taken = []
    for token in session.generate(ids, max_tokens=10, ignore_end=True):
        taken.append(token.id)
        if len(taken) == 2:
            break
    assert session.cache.ids == (*ids, taken[0])
    other = [*ids, taken[0], (taken[1] + 1) % model.config.vocab, 5, 6]
    assert check(session, model, other, 3)[1] == len(ids) + 1
