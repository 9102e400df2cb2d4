# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Boards with several slots in a pool: requests side by side, what needs a board for itself, and boards that fail."""

import asyncio
import threading
import time
from itertools import pairwise

import httpx
import openai
import pytest

import tellme
from tellme.drafts.table import DraftTable
from tellme.link.errors import LinkError
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.serve.answers import timings
from tellme.serve.pool import Ended, Limits, Pool
from tellme.spec.memory import COUNTER_BASE, COUNTERS
from tests.cli.fake_client import SlottedClient
from tests.link.golden_slots import CONFIG
from tests.serve.servers import golden, killable, server, until
from tests.serve.small import small_model
from tests.serve.test_pool import Heard

MODEL = small_model()
SLOTS = CONFIG.slots
DRAWN = Sampling(temperature=0.9, seed=11)
PENALTY = Sampling(temperature=0.9, repeat_penalty=1.4, seed=12)


class Slotted(SlottedClient):
    """A board with four slots that can be killed.  Its counters count the passes' cycles.  After ``halts`` passes it stands still
    (``halted``) until it is to go on (``go``)."""

    def __init__(self, halts=None, config=CONFIG):
        super().__init__(config)
        self.halts, self.halted, self.killed = halts, False, False
        self._gate = threading.Event()
        self.go = self._gate.set
        #: Slots that ran at each START, its own left out.
        self.beside = []
        self.on_start = lambda args: None

    def _check(self):
        if self.killed:
            raise LinkError("the board was unplugged")

    def start(self, args):
        self.beside.append(len(self.running))
        super().start(args)
        self.on_start(args)

    def make_pass(self):
        if self.halts is not None and sum(self.passes.values()) >= self.halts and not self._gate.is_set():
            self.halted = True
            assert self._gate.wait(60)
        super().make_pass()

    def read(self, address, size):
        if COUNTER_BASE <= address < COUNTER_BASE + 4 * len(COUNTERS):
            value = {name: self.cycles for name in COUNTERS if name == "cycles" or name == list(COUNTERS)[-1]}
            return b"".join(value.get(name, self.cycles if name.endswith("_cycles") else 0).to_bytes(4, "little")
                            for name in COUNTERS)[address - COUNTER_BASE:][:size]
        return super().read(address, size)


_WANTED = {}


def wanted(heard):
    """The ids of a request on a golden board by itself."""
    job = heard.job
    key = tuple(job.prompt), job.max_tokens, job.sampling
    if key not in _WANTED:
        on = tellme.Board(GoldenDevice()).load(MODEL)
        _WANTED[key] = [token.id for token in on.generate(job.prompt, max_tokens=job.max_tokens, sampling=job.sampling)]
    return _WANTED[key]


def asked(number, tokens=12, sampling=None):
    return Heard(tokens, (0, 1 + number % 60, 7, 1 + number // 2 % 50), sampling or Sampling(temperature=0.9, seed=number))


@pytest.fixture
def pool_of():
    pools = []

    def make(*boards, **limits):
        pool = Pool([(f"board{i}", killable(board, MODEL) if isinstance(board, Slotted) else board)
                     for i, board in enumerate(boards)], Limits(**{"reopen": None} | limits))
        pools.append(pool)
        pool.start()
        until(lambda: all(board["state"] == "idle" for board in pool.boards()))
        # Each slot waits for a request.
        until(lambda: all(lane.idle for worker in pool._workers for lane in worker.lanes))
        return pool

    yield make
    for pool in pools:
        pool.close()


def busy(pool, *counts):
    """Wait until so many slots of each board work."""
    until(lambda: [board["busy"] for board in pool.boards()] == list(counts))


def ends(heard):
    for each in heard:
        assert isinstance(each.wait(), Ended), each.end
        assert each.job.ids == wanted(each) == [token.id for token in each[:-1]]


def test_as_many_requests_at_a_time_as_there_are_slots(pool_of):
    board = Slotted(3)
    pool = pool_of(board, queue=8)
    assert pool.boards()[0] | {"tokens_per_second": 0} == {"board": "board0", "state": "idle", "error": None, "slots": SLOTS,
                                                          "busy": 0, "tokens_per_second": 0}
    heard = [asked(i, 20) for i in range(SLOTS + 8)]
    for each in heard:
        pool.submit(each.job)
    busy(pool, SLOTS)
    assert pool.boards()[0]["state"] == "busy" and "tellme_slots_busy{board=\"board0\"} 4\n" in pool.metrics.text()
    board.go()
    ends(heard)
    # Passes have a token of each slot, and no START waits for another request's end.  How many passes do depends on how soon this
    # computer's threads begin the next request, which is no test's business.
    assert board.passes[SLOTS] > 0 and max(board.beside) == SLOTS - 1
    assert sum(board.passes.values()) < 20 * len(heard)
    assert pool.boards()[0]["busy"] == 0 and pool.boards()[0]["state"] == "idle"
    text = pool.metrics.text()
    assert 'tellme_slots{board="board0"} 4\n' in text and 'tellme_slots_busy{board="board0"} 0\n' in text
    assert f"tellme_request_tokens_per_second_count {len(heard)}\n" in text
    assert 0 < pool._workers[0].rate() <= 20 * len(heard) / 10


def test_a_full_queue_counts_idle_slots(pool_of):
    board = Slotted(2)
    pool = pool_of(board, queue=1)
    heard = [asked(i, 30) for i in range(SLOTS)]
    for each in heard:
        pool.submit(each.job)
    busy(pool, SLOTS)
    last = asked(9)
    pool.submit(last.job)
    with pytest.raises(tellme.serve.errors.ServeError, match="1 requests wait already"):
        pool.submit(asked(10).job)
    board.go()
    ends([*heard, last])


def test_a_request_joins_and_leaves_while_another_goes_on(pool_of):
    board = Slotted(3)
    pool = pool_of(board)
    long, short = asked(1, 100), [asked(20 + number, 4) for number in range(3)]
    pool.submit(long.job)
    until(lambda: board.halted)
    for each in short:
        pool.submit(each.job)
    busy(pool, 4)
    board.go()
    ends([*short, long])
    assert board.beside[0] == 0 and all(board.beside[1:]) and max(each.job.ended for each in short) < long.job.ended
    assert board.passes[1] > 80


def test_a_request_that_the_host_draws_for_has_the_board_for_itself(pool_of):
    board = Slotted(2)
    pool = pool_of(board)
    before = [asked(i, 15) for i in range(3)]
    alone = [asked(40 + i, 8, PENALTY) for i in range(2)]
    after = [asked(60 + i, 15) for i in range(3)]
    for each in (*before, *alone, *after):
        pool.submit(each.job)
    # The fourth slot is free, and nobody gets it.
    until(lambda: board.halted)
    busy(pool, 3)
    assert pool.waiting == 5
    board.go()
    ends([*before, *alone, *after])
    assert all(each.end.stats["drawn_by"] == "host" for each in alone)
    # The host starts each token, and no other slot runs meanwhile; the others share passes before and behind.
    assert len(board.log) == 3 + 16 + 3 and board.beside[:3] != [0] * 3 and board.beside[-3:] != [0] * 3
    assert board.beside[3:19] == [0] * 16


def test_a_cancelled_request_leaves_the_others(pool_of):
    board = Slotted(5)
    pool = pool_of(board)
    heard = [asked(i, 60) for i in range(3)]
    for each in heard:
        pool.submit(each.job)
    until(lambda: board.halted)
    busy(pool, 3)
    heard[1].job.cancel()
    board.go()
    assert heard[1].wait().code == "stopped" and len(board.stops) == 1
    ends([heard[0], heard[2]])


def test_a_failed_board_gives_all_its_requests_back(pool_of):
    """Four run on the board that dies, and go on elsewhere behind the tokens that they have."""
    boards = [Slotted(8), Slotted(8)]
    pool = pool_of(*boards)
    heard = [asked(i, 40, Sampling() if i % 2 else None) for i in range(2 * SLOTS + 2)]
    for each in heard:
        pool.submit(each.job)
    until(lambda: all(board.halted for board in boards))
    busy(pool, SLOTS, SLOTS)
    boards[0].killed = True
    for board in boards:
        board.go()
    ends(heard)
    assert pool.metrics.failures.value("board0") == 1 and pool.metrics.resumed.value() == SLOTS
    assert sorted(each.job.failures for each in heard) == [0] * (SLOTS + 2) + [1] * SLOTS
    found = {board["board"]: (board["state"], board["slots"], board["busy"]) for board in pool.boards()}
    assert found == {"board0": ("down", 0, 0), "board1": ("idle", SLOTS, 0)}


def test_a_board_that_is_wrong_in_one_slot_leaves_with_all(pool_of):
    """What one slot finds out ends the requests of the others, which the link would have served on."""
    board = Slotted(4)
    pool = pool_of(board)
    heard = [asked(i, 60) for i in range(2)]
    for each in heard:
        pool.submit(each.job)
    until(lambda: board.halted)
    bad = asked(9)
    bad.job.ids, bad.job.started = [wanted(bad)[0], 63 - wanted(bad)[1]], time.monotonic()
    pool.submit(bad.job)
    busy(pool, 3)
    board.go()
    assert bad.wait().code == "no_board" and {each.wait().code for each in heard} == {"no_board"}
    assert "where another board had picked" in pool.boards()[0]["error"] and not board.killed
    assert pool.metrics.failures.value("board0") == 1
    until(lambda: board.closed)


def test_a_board_with_slots_comes_back(pool_of):
    board = Slotted(5)
    pool = pool_of(board, reopen=0.05)
    heard = [asked(i, 60) for i in range(3)]
    for each in heard:
        pool.submit(each.job)
    until(lambda: board.halted)
    busy(pool, 3)
    board.killed = True
    board.go()
    until(lambda: pool.boards()[0]["state"] == "down")
    assert {each.wait().code for each in heard} == {"no_board"}
    board.killed, board.board, board._waiting = False, None, type(board._waiting)()
    until(lambda: pool.boards()[0]["state"] == "idle")
    again = [asked(i) for i in range(6)]
    for each in again:
        pool.submit(each.job)
    ends(again)


def test_a_request_that_kills_boards_takes_others_along_twice_at_most(pool_of):
    boards = [Slotted(5) for _ in range(4)]

    def poisoned(board):
        def look(args):
            if int(board.board.windows[args.slot][1]) == 60 and args.position < 2:
                board.killed = True
        return look

    for board in boards:
        board.on_start = poisoned(board)
    pool = pool_of(*boards)
    well = [asked(i, 60) for i in range(8)]
    for each in well:
        pool.submit(each.job)
    until(lambda: all(board.halted for board in boards))
    busy(pool, 2, 2, 2, 2)
    killer = Heard(5, (0, 60, 1), DRAWN)
    pool.submit(killer.job)
    for board in boards:
        board.go()
    assert killer.wait().code == "board_failed" and killer.job.failures == 3
    ends(well)
    assert max(each.job.failures for each in well) <= 2 and sum(board.killed for board in boards) == 3


def test_each_slot_keeps_its_prompts(pool_of):
    """A chat's next turn goes to the slot that has the turns before."""
    boards = [Slotted(0), Slotted(0)]
    pool = pool_of(*boards)
    first = [asked(i, 6) for i in range(2 * SLOTS)]
    for each in first:
        pool.submit(each.job)
    busy(pool, SLOTS, SLOTS)
    for board in boards:
        board.go()
    ends(first)
    # All slots of both boards worked, as many on each.
    assert [each.end.board for each in first].count("board0") == SLOTS
    for each in reversed(first):
        again = Heard(3, (*each.job.prompt, *each.job.ids, 5), Sampling())
        pool.submit(again.job)
        ends([again])
        assert again.end.board == each.end.board and again.end.cached_tokens == len(each.job.prompt) + 5


def test_requests_go_to_the_board_with_fewer(pool_of):
    boards = [Slotted(0) for _ in range(3)]
    pool = pool_of(*boards)
    heard = [asked(i, 40) for i in range(6)]
    for number, each in enumerate(heard):
        pool.submit(each.job)
        until(lambda number=number: sum(board["busy"] for board in pool.boards()) == number + 1)
    assert [board["busy"] for board in pool.boards()] == [2, 2, 2]
    for board in boards:
        board.go()
    ends(heard)


def test_cycles_are_counted_once(pool_of):
    """Of a board: all requests' together.  Of a request beside others none are its own."""
    board = Slotted()
    pool = pool_of(board)
    for round_ in range(3):
        heard = [asked(10 * round_ + i, 10 + i) for i in range(4)]
        for each in heard:
            pool.submit(each.job)
        ends(heard)
        assert all(each.end.cycles is None and each.end.stats["decode_cycles"] for each in heard)
    part = next(name for name in COUNTERS if name.endswith("_cycles"))
    counted = pool.metrics.cycles.value("board0", part.removesuffix("_cycles"))
    # A pass takes a thousand and its positions.
    assert 1000 * sum(board.passes.values()) * 0.9 < counted < 1100 * sum(board.passes.values())


def test_a_golden_board_serves_side_by_side(pool_of):
    pool = pool_of(golden(MODEL))
    assert pool.boards()[0]["slots"] == 16
    heard = [asked(i, 20, PENALTY if i == 7 else None) for i in range(20)]
    for each in heard:
        pool.submit(each.job)
    ends(heard)


def test_closing_stops_all(pool_of):
    board = Slotted(5)
    pool = pool_of(board)
    heard = [asked(i, 100) for i in range(SLOTS + 2)]
    for each in heard:
        pool.submit(each.job)
    until(lambda: board.halted)
    busy(pool, SLOTS)
    closing = threading.Thread(target=pool.close, args=(60,))
    closing.start()
    until(lambda: pool._closed and all(each.job.cancelled for each in heard[:SLOTS]))
    board.go()
    closing.join(60)
    assert not closing.is_alive()
    assert {each.end.status for each in heard} == {503} and board.closed
    assert not any(thread.name.startswith("board board0") for thread in threading.enumerate())


def test_over_http():
    boards = [Slotted(5), Slotted(5)]
    with server(*(killable(board, MODEL) for board in boards), model=MODEL) as found:
        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=f"{found.url}/v1", api_key="none", max_retries=0) as api:
                async def one(seed):
                    stream = await api.completions.create(model="small", prompt=[0, seed + 1], max_tokens=25, temperature=0.9,
                                                          seed=seed, stream=True)
                    return "".join([chunk.choices[0].text async for chunk in stream])
                tasks = [asyncio.ensure_future(one(seed)) for seed in range(12)]
                async with httpx.AsyncClient() as ask:
                    while sum(board["busy"] for board in found.pool.boards()) < 2 * SLOTS or found.pool.waiting < 4:
                        await asyncio.sleep(0.005)
                    health = (await ask.get(f"{found.url}/health")).json()
                    assert [(b["slots"], b["busy"], b["state"]) for b in health["boards"]] == [(SLOTS, SLOTS, "busy")] * 2
                    assert health["waiting"] == 4
                boards[1].killed = True
                for board in boards:
                    board.go()
                return await asyncio.gather(*tasks)
        texts = asyncio.run(all_of_them())
        on = tellme.Board(GoldenDevice()).load(MODEL)
        for seed, text in enumerate(texts):
            assert text == on.generate([0, seed + 1], max_tokens=25, sampling=Sampling(temperature=0.9, seed=seed)).text
        metrics = httpx.get(f"{found.url}/metrics").text
        assert 'tellme_slots{board="board0"} 4' in metrics and 'tellme_slots{board="board1"} 0' in metrics
        assert 'tellme_tokens_per_second{board="board0"}' in metrics
        answer = httpx.post(f"{found.url}/v1/completions", json={"model": "small", "prompt": [0, 3], "max_tokens": 5}).json()
        assert answer["timings"]["cycles"] is None and answer["timings"]["predicted_n"] == 5


def test_runs_of_failed_boards_are_told_apart():
    """The order of the requests that come back is that of their arrival."""
    board = Slotted(5)
    pool = Pool([("board0", killable(board, MODEL)), ("board1", lambda: time.sleep(600))], Limits(reopen=None))
    pool.start()
    until(lambda: pool.boards()[0]["state"] == "idle")
    heard = [asked(i, 60) for i in range(SLOTS + 2)]
    for each in heard:
        pool.submit(each.job)
    until(lambda: board.halted)
    busy(pool, SLOTS, 0)
    board.killed = True
    board.go()
    until(lambda: pool.boards()[0]["busy"] == 0 and pool.waiting == SLOTS + 2)
    assert [job.failures for job in pool._queue] == [1] * SLOTS + [0] * 2
    assert all(a.arrived <= b.arrived for a, b in pairwise(pool._queue))
    pool.close(0.1)


def test_tokens_a_pass_are_told(pool_of):
    """On a board that drafts, of each request and in the metrics; the texts are those alone.  Other boards tell nothing."""
    heard = [asked(i, 30) for i in range(8)]
    table = DraftTable.of_texts([[*each.job.prompt, *wanted(each)] for each in heard], MODEL.config.vocab)
    board = Slotted()

    def opened():
        on = tellme.Board(BoardDevice("port", CONFIG, board, "ab" * 32))
        return on, on.load(MODEL, drafts=table)

    pool = pool_of(opened)
    for each in heard:
        pool.submit(each.job)
    ends(heard)
    said = [timings(each.job, each.end) for each in heard]
    passes, accepted = (sum(each[name] for each in said) for name in ("passes", "accepted_n"))
    assert passes + accepted == sum(len(each.job.ids) - 1 for each in heard) and accepted > 0
    assert [each["tokens_per_pass"] for each in said] == [
        round((len(h.job.ids) - 1) / each["passes"], 3) for h, each in zip(heard, said, strict=True)]
    assert board.board.drafts_told[0] == passes and board.board.drafts_told[2] == accepted
    text = pool.metrics.text()
    assert (f'tellme_decode_passes_total{{board="board0"}} {passes}\n' in text
            and f'tellme_accepted_tokens_total{{board="board0"}} {accepted}\n' in text)
    other = pool_of(golden(MODEL))
    last = asked(3)
    other.submit(last.job)
    ends([last])
    assert timings(last.job, last.end)["tokens_per_pass"] is None and "tellme_decode_passes_total{" not in other.metrics.text()
