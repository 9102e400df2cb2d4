# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A pool whose boards are compared with the golden model, and whose memory is: a board with a flipped bit leaves the pool."""

import tellme
from tellme.runtime.device import BoardDevice
from tellme.runtime.sampling import Sampling
from tellme.serve.pool import Ended, Job, Limits, Pool
from tests.runtime.test_checking import CONFIG, MODEL, Client
from tests.serve.servers import until

PROMPT = [1, 5, 9]


def opener(client, check):
    def open_board():
        return (board := tellme.Board(BoardDevice("port", CONFIG, client, "ab" * 32))), board.load(MODEL, check=check)
    return open_board


def ask(pool):
    """A request's ids, and its last event."""
    heard = []
    job = Job(PROMPT, 12, Sampling(), (), heard.append)
    pool.submit(job)
    until(lambda: heard and isinstance(heard[-1], Ended))
    return [token.id for token in heard[:-1]], heard[-1]


def flipped(board, number):
    if number == 6:
        board._caches[1][0].keys[:, 0] ^= 0x7f


def test_a_request_goes_on_elsewhere_with_tokens_that_are_right():
    """Tokens 0 to 3 are the first board's, and the others the second one's."""
    wanted = [token.id for token in opener(Client(), None)()[1].generate(PROMPT, max_tokens=12)]
    bad, good = Client(before=flipped), Client()
    said = []
    pool = Pool([("bad", opener(bad, 4))], Limits(reopen=None), say=said.append)
    more = Pool([("bad", opener(bad, 4)), ("good", opener(good, 4))], Limits(reopen=None), say=said.append)
    pool.close()
    try:
        more.start()
        until(lambda: [board["state"] for board in more.boards()] == ["idle"] * 2)
        # The board that asks first gets the request; one that was right before may have it.
        for _ in range(2):
            ids, _ = ask(more)
            assert ids == wanted
            if said:
                break
        assert not said or said == [f"bad left the pool: {more.boards()[0]['error']}"]
        if bad.picked >= 6:
            assert "computes otherwise than the golden model" in more.boards()[0]["error"]
    finally:
        more.close()


def test_memory_is_looked_at_after_a_request():
    """The request is answered, the board leaves, and is back with the regions that the load found to differ."""
    client, said = Client(), []
    pool = Pool([("port", opener(client, None))], Limits(reopen=0.1, check_weights=1 << 16), say=said.append)
    try:
        pool.start()
        assert pool.wait_until_ready(60)
        ids, _ = ask(pool)
        assert said == []
        client.memory[100] ^= 4
        assert ask(pool)[0] == ids
        until(lambda: len(said) == 2)
        assert said[0].startswith("port left the pool: the board's memory does not hold what was loaded: ")
        assert said[1] == "port is back in the pool"
        assert ask(pool)[0] == ids and len(said) == 2
        assert pool.metrics.failures.value("port") == 1
    finally:
        pool.close()
