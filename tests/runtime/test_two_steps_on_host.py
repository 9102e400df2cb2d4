# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""An LM head in two steps as the host asks for it: where the core can, and the picks and draws are the same."""

import struct
from dataclasses import replace

import pytest

import tellme
from tellme.compiler.image import needed_bytes
from tellme.errors import DeviceError
from tellme.runtime.bench import measure_decode
from tellme.runtime.device import BoardDevice
from tellme.runtime.sampling import Sampling
from tellme.spec.config import preset
from tellme.spec.memory import COUNTER_BASE, COUNTERS, HEAD_COUNTERS, StartArgs, StartFlags
from tests.cli.fake_client import FakeClient

PLAIN = preset("ulx3s-85f-l2")
STEPS = replace(PLAIN, two_steps=True)
MODEL = tellme.find_model("stories-1m")
PROMPT = [1, 319, 378, 290]


class Client(FakeClient):
    """Counts cycles under one activity, and rows as the golden model does."""

    def read(self, address, size):
        if COUNTER_BASE <= address < COUNTER_BASE + 4 * (len(COUNTERS) + len(HEAD_COUNTERS)):
            values = dict.fromkeys(COUNTERS, 0) | {"cycles": self.cycles, "idle_cycles": self.cycles} | self.board.head_counters
            return struct.pack(f"<{len(values)}I", *values.values())[address - COUNTER_BASE:][:size]
        return super().read(address, size)


def session(config, head=None):
    client = Client(config)
    return client, tellme.Board(BoardDevice("port", config, client, "ab" * 32)).load(MODEL, head=head)


SERVED = [None, Sampling(temperature=0.8, min_p=0.05, top_k=40, seed=3), Sampling(temperature=0.8, min_p=0.01, seed=4)]


@pytest.mark.parametrize("sampling", SERVED)
def test_texts_are_those_of_whole_tiles(sampling):
    found = {}
    for config in (PLAIN, STEPS):
        client, on = session(config)
        run = on.generate(PROMPT, max_tokens=4, sampling=sampling)
        found[config.two_steps] = [token.id for token in run]
        assert [bool(args.flags & StartFlags.TWO_STEPS) for args in client.log] == [config.two_steps]
    assert found[True] == found[False] and len(found[True]) == 4


@pytest.mark.parametrize("sampling", [
    Sampling(temperature=0.8, seed=3), Sampling(temperature=0.8, min_p=0.009, seed=3),
    Sampling(temperature=0.8, min_p=0.05, top_p=0.9, seed=3), Sampling(temperature=0.8, min_p=0.05, repeat_penalty=1.3, seed=3)])
def test_whole_tiles_for_other_draws(sampling):
    client, on = session(STEPS)
    got = [token.id for token in on.generate(PROMPT, max_tokens=4, sampling=sampling)]
    assert got == [token.id for token in session(PLAIN)[1].generate(PROMPT, max_tokens=4, sampling=sampling)]
    assert client.log and not any(args.flags & StartFlags.TWO_STEPS for args in client.log)


def test_whole_tiles_for_logits_and_for_a_head_on_the_host():
    client, on = session(STEPS)
    rows = []
    list(on.generate(PROMPT, max_tokens=2, on_logits=rows.append))
    assert len(rows) == len(PROMPT) + 1 and not any(args.flags & StartFlags.TWO_STEPS for args in client.log)
    assert on.device.top()[0][0] == int(rows[-1].argmax())
    assert session(STEPS, "host")[1].device.two_steps is False


def test_the_best_64_are_refused_behind_a_run_in_two_steps():
    _, on = session(STEPS)
    list(on.generate(PROMPT, max_tokens=1))
    with pytest.raises(DeviceError, match="^the last run's LM head went in two steps: only the pick is known, not the best 64$"):
        on.device.top()
    on.device.place(0, PROMPT)
    list(on.device.start(StartArgs(0, 4, 1)))
    assert len(on.device.top()) == 64


@pytest.mark.parametrize("flags", [StartFlags.DUMP, StartFlags.ALL])
def test_a_device_refuses_the_flag(flags):
    message = "^the core ulx3s-85f-l2 and the loaded model do not let this run's LM head go in two steps$"
    client, on = session(PLAIN)
    with pytest.raises(DeviceError, match=message):
        list(on.device.start(StartArgs(0, 1, 1, StartFlags.TWO_STEPS)))
    others, steps = session(STEPS)
    steps.device.head_tokens = 2
    with pytest.raises(DeviceError, match=message):
        list(steps.device.start(StartArgs(0, 1, 1, StartFlags.TWO_STEPS | flags)))
    assert not client.log and not others.log


def test_bench_says_the_share_of_the_rows():
    for config in (PLAIN, STEPS):
        client, on = session(config)
        results = measure_decode(on.device, MODEL.config, on.image, [0, 2], config)
        for result in results:
            fields = result.as_json(config)
            assert ("rows_read" in fields) == config.two_steps
            assert not config.two_steps or 0 < fields["rows_read"] < 0.3
            # Three planes of each code, but of a row that was not read whole two.
            planes = 3 - (1 - result.rows_read if config.two_steps else 0)
            assert result.needed == pytest.approx(needed_bytes(
                MODEL.config, result.position, head_trits=planes * MODEL.config.vocab * MODEL.config.dim))
        assert set(on.device.counters()) == {*COUNTERS, *(HEAD_COUNTERS if config.two_steps else ())}
        assert all(bool(args.flags & StartFlags.TWO_STEPS) == config.two_steps for args in client.log)
