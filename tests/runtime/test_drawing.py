# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Who draws the tokens: a board by itself, or the host where the board cannot, with the same tokens."""

from dataclasses import replace

import pytest

import tellme
from tellme.errors import DeviceError
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.spec.config import SIMULATED, preset
from tellme.spec.memory import StartArgs, StartFlags
from tellme.spec.sampling import pack_settings
from tests.cli.fake_client import FakeClient

CONFIG = preset(SIMULATED)
BARE = replace(CONFIG, sampler=False)
MODEL = tellme.find_model("stories-1m")
PROMPT, TOKENS = [1, 319, 378], 8
SETTINGS = {
    "temperature": Sampling(temperature=1.3, seed=5),
    "top-k": Sampling(temperature=3.0, top_k=4, seed=6),
    "top-p": Sampling(temperature=2.0, top_p=0.6, seed=-1),
    "min-p": Sampling(temperature=2.0, min_p=0.05, seed=7),
    "all": Sampling(temperature=1.5, top_k=30, top_p=0.9, min_p=0.01, seed=8),
}


class On:
    """A session of a device, and what it said."""

    def __init__(self, device, head=None):
        self.said = []
        self.session = tellme.Board(device, self.said.append).load(MODEL, head=head)

    def run(self, sampling, **more):
        run = self.session.generate(PROMPT, max_tokens=TOKENS, sampling=sampling, **more)
        return [token.id for token in run], run.stats


def fake(config):
    client = FakeClient(config)
    return client, BoardDevice("port", config, client, "ab" * 32)


@pytest.fixture(scope="module")
def golden():
    return On(GoldenDevice())


@pytest.mark.parametrize("name", SETTINGS)
def test_a_board_draws_alone_what_the_host_would(golden, name):
    sampling = SETTINGS[name]
    want, stats = golden.run(sampling)
    assert stats["drawn_by"] == "board" and not golden.said
    client, device = fake(CONFIG)
    ids, stats = On(device).run(sampling)
    assert ids == want and stats["drawn_by"] == "board"
    (args,) = client.log
    assert (args.generate, args.flags) == (TOKENS, StartFlags.CLEAR | StartFlags.SAMPLE)
    assert client.board.registers.items() >= pack_settings(sampling.settings()).items()
    # A core without a sampler: a start a token, drawn by the host.
    client, device = fake(BARE)
    on = On(device)
    ids, stats = on.run(sampling)
    assert ids == want and stats["drawn_by"] == "host"
    assert [args.flags for args in client.log] == [StartFlags.CLEAR, *[StartFlags(0)] * (TOKENS - 1)]
    assert on.said == ["the host draws the tokens: this core has no sampler"]
    greedy, stats = on.run(Sampling())
    assert stats["drawn_by"] == "board" and greedy != want


@pytest.mark.parametrize(("sampling", "why"), [
    (Sampling(temperature=1.0, repeat_penalty=1.5), "the board knows no repetition penalty"),
    (Sampling(repeat_penalty=1.5), "the board knows no repetition penalty"),
    (Sampling(temperature=0.011), "the board's sampler takes no temperature as low as this"),
])
def test_what_the_board_cannot_do_the_host_does_and_says_so_once(golden, sampling, why):
    want, _ = golden.run(sampling)
    client, device = fake(CONFIG)
    on = On(device)
    for _ in range(2):
        ids, stats = on.run(sampling)
        assert ids == want and stats["drawn_by"] == "host" and len(client.log) == TOKENS
        assert not any(args.flags & StartFlags.SAMPLE for args in client.log)
        client.log.clear()
    assert on.said == [f"the host draws the tokens: {why}"]


def test_logits_are_asked_for_one_by_one(golden):
    sampling, rows = SETTINGS["temperature"], []
    _, device = fake(CONFIG)
    on = On(device)
    ids, stats = on.run(sampling, on_logits=rows.append)
    assert ids == golden.run(sampling)[0] and stats["drawn_by"] == "host" and len(rows) == len(PROMPT) + TOKENS - 1
    assert on.said == ["the host draws the tokens: the logits of each token are asked for"]


def test_a_head_on_the_host_draws_there(golden):
    client, device = fake(BARE)
    on = On(device, head="host")
    for sampling in (*SETTINGS.values(), Sampling(temperature=1.0, repeat_penalty=1.5)):
        ids, stats = on.run(sampling)
        assert ids == golden.run(sampling)[0] and stats["drawn_by"] == "host"
    assert not any(args.flags & StartFlags.SAMPLE for args in client.log)
    assert on.said == ["head: on the host, as it was asked for"]


def test_settings_change_between_runs_without_another_load():
    _, device = fake(CONFIG)
    on = On(device)
    alone = {}
    for name, sampling in SETTINGS.items():
        alone[name], _ = On(fake(CONFIG)[1]).run(sampling)
    for name in (*SETTINGS, *reversed(SETTINGS)):
        ids, stats = on.run(SETTINGS[name])
        assert ids == alone[name]
    assert stats["cached_tokens"] == len(PROMPT) - 1


def test_up_to_four_end_tokens_go_to_the_board(monkeypatch):
    free, _ = On(fake(CONFIG)[1]).run(Sampling(temperature=1.3, seed=5))
    at = 5
    assert free[at] not in free[:at]
    others = [token for token in range(3, 40) if token not in free]
    for place in range(5):
        ends = others[:place] + [free[at]]
        monkeypatch.setattr(type(MODEL.config), "ends", property(lambda self, ends=ends: tuple(ends)))
        for sampling in (Sampling(temperature=1.3, seed=5),):
            client, device = fake(CONFIG)
            ids, stats = On(device).run(sampling)
            assert ids == free[:at + 1] and stats["stop_reason"] == "end_token"
            assert client.log[0].ends == tuple(ends[:4])
            # The board ends by itself, but for the fifth, at which the host stops the board.
            assert client.stopped == (place == 4)


def test_a_start_that_a_core_cannot_do_is_an_error():
    _, device = fake(BARE)
    on = On(device)
    for call in (lambda: list(on.session.device.start(StartArgs(0, 1, 1, StartFlags.SAMPLE))),
                 lambda: device.draw_as(SETTINGS["all"].settings())):
        with pytest.raises(DeviceError) as caught:
            call()
        assert str(caught.value) == f"the core {CONFIG.name} has no sampler: the host has to draw the tokens"
