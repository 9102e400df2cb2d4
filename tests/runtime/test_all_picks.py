# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Logits of all positions: a start a chunk on a core that has them, a start a token elsewhere, and the same rows."""

from dataclasses import replace

import numpy as np
import pytest

import tellme
from tellme.errors import DeviceError
from tellme.golden.perplexity import golden_board
from tellme.runtime.device import BoardDevice
from tellme.runtime.sampling import Sampling
from tellme.spec.config import preset
from tellme.spec.memory import StartArgs, StartFlags
from tests.cli.fake_client import FakeClient

PLAIN = preset("ulx3s-85f-l8")
ALL = replace(PLAIN, head_tokens=8)
MODEL = tellme.find_model("stories-1m")
PROMPT = [1, 319, 378, 290, 262, 500, 7, 33, 41, 319, 12]
DUMPED = StartFlags.DUMP | StartFlags.ALL


def session(config, head=None):
    client = FakeClient(config)
    return client, tellme.Board(BoardDevice("port", config, client, "ab" * 32)).load(MODEL, head=head)


def generate(on, **more):
    """Ids, and the rows of logits."""
    rows = []
    run = on.generate(PROMPT, on_logits=rows.append, **more)
    return [token.id for token in run], np.array(rows)


@pytest.mark.parametrize("sampling", [None, Sampling(temperature=1.5, seed=3),
                                      Sampling(temperature=1.5, repeat_penalty=1.3, seed=3)])
def test_logits_of_a_prompt_come_by_chunks(sampling):
    ids, rows = generate(session(PLAIN)[1], max_tokens=4, sampling=sampling)
    client, on = session(ALL)
    got, got_rows = generate(on, max_tokens=4, sampling=sampling)
    assert got == ids and np.array_equal(got_rows, rows)
    assert np.array_equal(rows, golden_board(MODEL).feed([*PROMPT, *ids[:-1]], 0, heads="all"))
    assert [(args.position, args.feed, args.generate, args.flags) for args in client.log] == [
        (0, 8, 1, DUMPED | StartFlags.CLEAR), (8, 3, 1, DUMPED), *[(at, 1, 1, StartFlags.DUMP) for at in (11, 12, 13)]]


@pytest.mark.parametrize(("chunk", "feeds"), [(0, [8, 3]), (3, [3, 3, 3, 2]), (1, [1] * 11), (99, [8, 3])])
def test_no_more_tokens_at_once_than_were_asked_for(chunk, feeds):
    client, on = session(ALL)
    _, rows = generate(on, max_tokens=0, prefill_chunk=chunk)
    assert [args.feed for args in client.log] == feeds
    assert np.array_equal(rows, golden_board(MODEL).feed(PROMPT, 0, heads="all"))
    # What is left on the board is of the last chunk, whose last token is the prompt's.
    device = on.device
    assert np.array_equal(device.pass_logits(), rows[-feeds[-1]:]) and np.array_equal(device.logits(), rows[-1])
    best = [int(row.argmax()) for row in rows[-feeds[-1]:]]
    assert [device.top(number)[0][0] for number in range(feeds[-1])] == best and device.top()[0][0] == best[-1]


def test_a_pick_behind_the_prompt_is_a_pass_of_its_own():
    _, on = session(ALL)
    device = on.device
    device.place(0, PROMPT)
    for generate, tokens in ((0, 3), (1, 3), (2, 1)):
        list(device.start(StartArgs(0, len(PROMPT), generate, StartFlags.CLEAR | DUMPED)))
        assert len(device.pass_logits()) == tokens
        assert device.top()[0][1] == device.logits().max()


def test_a_device_without_picks_of_all_positions_refuses_the_flag():
    for head, message in ((None, "the core ulx3s-85f-l8 gives no picks after all tokens: feed the tokens one by one"),
                          ("host", "a head on the host gives no picks after all tokens: feed the tokens one by one")):
        config = ALL if head else PLAIN
        client, on = session(config, head)
        on.device.place(0, PROMPT)
        with pytest.raises(DeviceError, match=f"^{message}$"):
            list(on.device.start(StartArgs(0, 3, 0, StartFlags.ALL)))
        assert not client.log
        assert on.device.head_tokens == 1
