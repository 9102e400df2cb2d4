# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board that draws by itself: the same prompt and seed give the same tokens on the golden model, on the simulated board alone,
and drawn by the host."""

import pytest

from tellme.compiler.image import compile_model
from tellme.golden.perplexity import unlimited_config
from tellme.runtime.device import GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.runtime.session import Session
from tellme.spec.memory import END_TOKENS, DoneReason, EventType, StartArgs, StartFlags
from tests.models.random_model import even_model

pytestmark = pytest.mark.rtl

PRESET = "ulx3s-85f-l2"
MODEL = even_model()
PROMPT, TOKENS = [17, 99, 4], 10
SETTINGS = {
    "temperature": Sampling(temperature=1.0, seed=5),
    "cold": Sampling(temperature=0.0113, seed=6),
    "top-k": Sampling(temperature=4.0, top_k=7, seed=7),
    "top-p": Sampling(temperature=4.0, top_p=0.3, seed=-8),
    "min-p": Sampling(temperature=4.0, min_p=0.5, seed=1 << 40),
    "all": Sampling(temperature=2.0, top_k=30, top_p=0.8, min_p=0.2, seed=9),
}


def session_on(device):
    config = unlimited_config(MODEL) if isinstance(device, GoldenDevice) else device.config(MODEL)
    image = compile_model(MODEL, config)
    device.load(image, lambda done, total: None)
    return Session(device, MODEL, image)


@pytest.fixture(scope="module")
def golden():
    return session_on(GoldenDevice())


@pytest.fixture(scope="module")
def board(device):
    return session_on(device)


def drawn(session, sampling):
    """Ids, and who drew them."""
    run = session.generate(PROMPT, max_tokens=TOKENS, sampling=sampling, ignore_end=True)
    return [token.id for token in run], run.stats


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_tokens_whoever_draws(golden, board, device, name, monkeypatch):
    sampling = SETTINGS[name]
    want, _ = drawn(golden, sampling)
    alone, stats = drawn(board, sampling)
    assert (alone, stats["drawn_by"]) == (want, "board")
    monkeypatch.setattr(device, "sampler", False)
    by_host, slow = drawn(board, sampling)
    assert (by_host, slow["drawn_by"]) == (want, "host")
    greedy, _ = drawn(board, None)
    assert (greedy == want) == (name == "cold")


def test_a_draw_costs_cycles_and_a_greedy_token_none(board):
    _, greedy = drawn(board, None)
    costs = {}
    for name in ("temperature", "top-k", "all"):
        costs[name] = drawn(board, SETTINGS[name])[1]["cycles_per_token"] - greedy["cycles_per_token"]
    # Seven candidates are weighed faster than 64, and top-p weighs them twice.
    assert 300 < costs["top-k"] < costs["temperature"] < 4000 and costs["all"] < 6000, costs


@pytest.mark.parametrize("flags", [StartFlags.CLEAR, StartFlags.CLEAR | StartFlags.SAMPLE])
def test_each_end_token_ends_a_run_on_the_board(golden, board, device, flags):
    settings = SETTINGS["temperature"].settings()

    def run(session, *ends):
        session.device.draw_as(settings)
        session.device.place(0, PROMPT)
        events = list(session.device.start(StartArgs(0, len(PROMPT), TOKENS, flags, ends=ends)))
        return [event.id for kind, event in events if kind == EventType.TOKEN], events[-1][1].logit

    free, reason = run(golden)
    assert reason == DoneReason.LENGTH and run(board) == (free, reason)
    at = next(i for i in range(2, TOKENS) if free[i] not in free[:i])
    for place in range(END_TOKENS):
        ends = [MODEL.config.vocab + i for i in range(END_TOKENS)]
        ends[place] = free[at]
        want = run(golden, *ends)
        assert want == (free[:at + 1], DoneReason.END_TOKEN) and run(board, *ends) == want
