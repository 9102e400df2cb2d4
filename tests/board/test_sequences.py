# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The library's sequences and the server's pool on the simulated board with four slots: texts side by side are those alone."""

import threading

import numpy as np
import pytest

import tellme
from tellme.runtime.device import GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.runtime.simulated import SimDevice
from tellme.serve.pool import Ended, Limits, Pool
from tellme.spec.config import preset
from tests.serve.servers import until
from tests.serve.small import small_model
from tests.serve.test_pool import Heard

#: The build of the board is the one of tests/board/test_slots.py, and comes at night for the same reason.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

MODEL = small_model()
TEXTS = [([1 + i, 5, 9][:1 + i % 3] + [7] * (3 * i), 6 + 2 * i, (None, Sampling(temperature=1.5, seed=i))[i % 2])
         for i in range(4)]
PENALTY = Sampling(temperature=1.0, repeat_penalty=1.3, seed=3)


@pytest.fixture(scope="module")
def session():
    with tellme.Board(SimDevice("sim", preset("sim-slots"))) as board:
        yield board.load(MODEL)


@pytest.fixture(scope="module")
def golden():
    return tellme.Board(GoldenDevice()).load(MODEL)


@pytest.fixture(scope="module")
def alone(golden):
    return [[token.id for token in golden.generate(prompt, max_tokens=tokens, sampling=sampling)]
            for prompt, tokens, sampling in TEXTS]


def test_texts_in_turns(session, alone):
    with session.sequences(4) as sequences:
        runs = [sequence.generate(prompt, max_tokens=tokens, sampling=sampling)
                for sequence, (prompt, tokens, sampling) in zip(sequences, TEXTS, strict=True)]
        got = {run: [] for run in runs}
        for run, token in tellme.interleave(runs):
            got[run].append(token.id)
        assert list(got.values()) == alone


def test_threads(session, alone):
    """Two texts a thread, of which some are left early."""
    wrong = []

    def work(sequence, number):
        try:
            for text in (number, (number + 1) % 4):
                prompt, tokens, sampling = TEXTS[text]
                got = []
                for token in sequence.generate(prompt, max_tokens=tokens, sampling=sampling):
                    got.append(token.id)
                    if number == 2 and len(got) == 4:
                        break
                assert got == alone[text][:len(got)] and len(got) >= 4
        except BaseException as error:
            wrong.append(error)
            raise

    with session.sequences(4) as sequences:
        threads = [threading.Thread(target=work, args=each) for each in zip(sequences, range(4), strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_logits_and_what_the_host_draws(session, golden):
    """In slot 0 alone: rows of logits, and the list of a prompt's last token, as its pass numbers them."""
    rows = {session: [], golden: []}
    for each, heard in rows.items():
        list(each.generate([3, 9, 40, 60, 0, 12, 33], max_tokens=3, sampling=PENALTY, on_logits=heard.append))
    assert len(rows[session]) == 9 and np.array_equal(rows[session], rows[golden])
    got, want = ([token.id for token in each.generate([3, 9, 40] * 3, max_tokens=5, sampling=PENALTY)] for each in rows)
    assert got == want


def test_a_pool(session, golden):
    """Requests that join and leave, with one for which the host draws among them."""
    pool = Pool([("sim", lambda: (tellme.Board(session.device), session))], Limits(reopen=None))
    pool.start()
    assert pool.wait_until_ready(60)
    heard = [Heard(6 + i, (0, 1 + i, 7), PENALTY if i == 5 else Sampling(temperature=0.9, seed=i)) for i in range(9)]
    for each in heard:
        pool.submit(each.job)
    for each in heard:
        until(lambda each=each: each.end is not None, 300)
        assert isinstance(each.end, Ended), each.end
        assert each.job.ids == [token.id for token in golden.generate(each.job.prompt, max_tokens=each.job.max_tokens,
                                                                      sampling=each.job.sampling)]
    assert pool.boards()[0]["slots"] == 4 and heard[5].end.stats["drawn_by"] == "host"
    pool.close()
