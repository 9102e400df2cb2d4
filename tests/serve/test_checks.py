# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A pool whose boards are compared with the golden model, and whose memory is: a board with a flipped bit leaves the pool."""

import tellme
from tellme.runtime.device import BoardDevice
from tellme.runtime.sampling import Sampling
from tellme.serve.pool import Ended, Job, Limits, Pool
from tellme.spec.memory import COUNTER_BASE, CRC_BASE
from tests.runtime.test_checking import CONFIG, MODEL, Client
from tests.serve.servers import until

PROMPT = [1, 5, 9]


class Counting(Client):
    """A board that counts nothing."""

    def read(self, address, size):
        return bytes(size) if COUNTER_BASE <= address < CRC_BASE else super().read(address, size)


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


def test_a_request_goes_on_elsewhere_with_tokens_that_are_right():
    """A bit of the board that has the request flips ahead of token 6: tokens 0 to 3 are its own, the others the other one's."""
    wanted = [token.id for token in opener(Counting(), None)()[1].generate(PROMPT, max_tokens=12)]
    said, flips = [], []

    def before(board, number):
        if number == 6 and not flips:
            flips.append(number)
            board._caches[1][0].keys[:, 0] ^= 0x7f

    clients = [Counting(before=before), Counting(before=before)]
    pool = Pool([(f"board{i}", opener(client, 4)) for i, client in enumerate(clients)], Limits(reopen=None), say=said.append)
    try:
        pool.start()
        until(lambda: [board["state"] for board in pool.boards()] == ["idle"] * 2)
        ids, end = ask(pool)
        assert ids == wanted and flips == [6]
        assert len(said) == 1 and " left the pool: port computes otherwise than the golden model: " in said[0]
        # Its last token is picked once more.
        assert end.stats["generated_tokens"] == 12 - 3 and end.board != said[0].split()[0]
    finally:
        pool.close()


def test_memory_is_looked_at_after_a_request():
    """The request is answered, the board leaves, and is back with the regions that the load found to differ."""
    client, said = Counting(), []
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
