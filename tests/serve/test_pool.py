# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Pools of boards: a killed board's requests go on elsewhere with the same tokens, boards come back, many clients at once."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import httpx
import openai
import pytest

import tellme
from tellme.link.errors import LinkError
from tellme.runtime.sampling import Sampling
from tellme.serve.errors import ServeError
from tellme.serve.pool import Ended, Job, Limits, Pool
from tellme.spec.config import preset
from tests.serve.long import Answers, Plan, clients
from tests.serve.servers import MODEL, Killable, golden, killable, reference, server, until
from tests.serve.small import small_model

PROMPT = "Once upon a time"
SAMPLED = Sampling(temperature=0.9, seed=11)


class Heard(list):
    """What a job says."""

    def __init__(self, max_tokens=12, prompt=(1, 319, 378), sampling=SAMPLED, stop=()):
        super().__init__()
        self.job = Job(list(prompt), max_tokens, sampling, stop, self.append)

    @property
    def end(self):
        return self[-1] if self and isinstance(self[-1], (Ended, ServeError)) else None

    def wait(self):
        until(lambda: self.end is not None)
        return self.end

    @property
    def text(self):
        return "".join(part.text for part in self)


@pytest.fixture
def pool_of():
    pools = []

    def make(*boards, **limits):
        pool = Pool([(f"board{i}", opened) for i, opened in enumerate(boards)], Limits(**{"reopen": None} | limits))
        pools.append(pool)
        pool.start()
        return pool

    yield make
    for pool in pools:
        pool.close()


@pytest.mark.parametrize(("after", "sampling"), [(0, SAMPLED), (1, SAMPLED), (5, Sampling()), (11, SAMPLED), (12, Sampling())])
def test_a_killed_boards_request_goes_on_elsewhere(pool_of, after, sampling):
    """Killed before the first token, between tokens, and after the last token with the end still to come."""
    clients = [Killable(), Killable()]
    pool = pool_of(*map(killable, clients))
    until(lambda: [board["state"] for board in pool.boards()] == ["idle"] * 2)
    heard = Heard(sampling=sampling)

    def kill():
        next(client for client in clients if client.log).killed = True

    def emit(part):
        heard.append(part)
        if len(heard.job.ids) == after and not any(client.killed for client in clients):
            kill()

    if after == 0:
        for client in clients:
            client.on_start = lambda: None if any(client.killed for client in clients) else kill()
    heard.job.emit = emit
    pool.submit(heard.job)
    end = heard.wait()
    assert isinstance(end, Ended), end
    want, ids = reference([1, 319, 378], 12, sampling)
    assert heard.text == want and heard.job.ids == ids == [token.id for token in heard[:-1]]
    assert heard.job.failures == 1 == pool.metrics.resumed.value() == sum(client.killed for client in clients)
    assert sorted(board["state"] for board in pool.boards()) in (["down", "busy"], ["down", "idle"], ["busy", "down"])
    # The last token of the first board is picked once more.
    assert end.stats["generated_tokens"] == 12 - max(after - 1, 0)


def test_the_last_event_comes_from_an_idle_board(pool_of):
    """Who hears the end and asks again finds the board with the KV cache among the idle ones."""
    pool = pool_of(killable(Killable()))
    assert pool.wait_until_ready(60)
    for ask, kind in (({}, Ended), ({"prompt": (10**6,)}, ServeError)):
        heard, states = Heard(**ask), []

        def emit(part, heard=heard, states=states):
            states.append(pool.boards()[0]["state"])
            heard.append(part)

        heard.job.emit = emit
        pool.submit(heard.job)
        assert isinstance(heard.wait(), kind)
        assert states == ["busy"] * (len(heard) - 1) + ["idle"]


@pytest.mark.parametrize("order", [("ulx3s-85f-l2", "ecp5-25f"), ("ecp5-25f", "ulx3s-85f-l2")])
def test_a_board_that_draws_and_one_that_cannot(pool_of, order):
    """A text that is begun on the one goes on on the other: the same function draws."""
    clients = [Killable(config=preset(name)) for name in order]
    assert [client.config.sampler for client in clients] == [name != "ecp5-25f" for name in order]
    pool = pool_of(killable(clients[0]))
    assert pool.wait_until_ready(60)
    heard = Heard()
    pool.submit(heard.job)
    first = heard.wait()
    who = ["board" if client.config.sampler else "host" for client in clients]
    assert first.stats["drawn_by"] == who[0]
    # A board that draws is started once, the host starts each token.
    assert len(clients[0].log) == (1 if who[0] == "board" else 12)
    pool = pool_of(killable(clients[1]))
    assert pool.wait_until_ready(60)
    rest = Heard()
    rest.job.ids, rest.job.started = list(heard.job.ids[:5]), time.monotonic()
    pool.submit(rest.job)
    last = rest.wait()
    assert isinstance(last, Ended) and last.stats["drawn_by"] == who[1]
    assert rest.job.ids == heard.job.ids == reference([1, 319, 378], 12, SAMPLED)[1]


def test_three_boards_with_one_killed_while_all_work():
    clients = [Killable(pause=0.01) for _ in range(3)]
    with server(*map(killable, clients)) as found:
        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=f"{found.url}/v1", api_key="none", max_retries=0) as api:
                async def one(seed):
                    stream = await api.completions.create(model="stories-1m", prompt=PROMPT, max_tokens=18, temperature=0.9,
                                                          seed=seed, stream=True)
                    return "".join([chunk.choices[0].text async for chunk in stream])
                tasks = [asyncio.ensure_future(one(seed)) for seed in range(4)]
                while not all(client.tokens_made > 3 for client in clients):
                    await asyncio.sleep(0.01)
                clients[1].killed = True
                return await asyncio.gather(*tasks)
        texts = asyncio.run(all_of_them())
        for seed, text in enumerate(texts):
            assert text == reference(PROMPT, 18, Sampling(temperature=0.9, seed=seed))[0]
        assert sorted(board["state"] for board in found.pool.boards()) == ["down", "idle", "idle"]
        assert found.pool.metrics.failures.value("board1") == 1 == found.pool.metrics.resumed.value()
        health = httpx.get(f"{found.url}/health")
        assert health.status_code == 200


def test_a_stop_string_across_two_boards(pool_of):
    clients = [Killable(), Killable()]
    pool = pool_of(*map(killable, clients))
    until(lambda: [board["state"] for board in pool.boards()] == ["idle"] * 2)
    heard = Heard(40, tellme.runtime.session.prompt_ids(MODEL, tellme.runtime.session.tokenizer_of(MODEL), PROMPT), Sampling(),
                  ["girl named"])

    def emit(part):
        heard.append(part)
        # " girl" is held back by the board that dies.
        if "".join(p.text for p in heard).endswith("little ") and not any(c.killed for c in clients) and heard.end is None:
            next(client for client in clients if client.tokens_made).killed = True
    heard.job.emit = emit
    pool.submit(heard.job)
    assert heard.wait().stop_reason == "stop_string" and heard.text == ", there was a little "
    assert heard.job.failures == 1


def test_the_last_board_that_dies_takes_all_requests_along(pool_of):
    client = Killable(pause=0.01)
    pool = pool_of(killable(client))
    heard = [Heard() for _ in range(3)]
    for each in heard:
        pool.submit(each.job)
    until(lambda: client.tokens_made > 2)
    client.killed = True
    assert {each.wait().status for each in heard} == {503} and {each.end.code for each in heard} == {"no_board"}
    with pytest.raises(ServeError) as refused:
        pool.submit(Heard().job)
    assert refused.value.status == 503


def test_a_board_comes_back(pool_of):
    client = Killable()
    pool = pool_of(killable(client), reopen=0.05)
    assert pool.wait_until_ready(60)
    client.killed = True
    heard = Heard()
    pool.submit(heard.job)
    assert heard.wait().status == 503
    time.sleep(0.2)
    assert pool.metrics.failures.value("board0") == 1
    client.killed = False
    until(lambda: pool.ready)
    heard = Heard()
    pool.submit(heard.job)
    assert isinstance(heard.wait(), Ended) and heard.text == reference([1, 319, 378], 12, SAMPLED)[0]


@pytest.mark.parametrize("reopen", [None, 0.01])
def test_no_board_at_all(pool_of, reopen):
    """Boards that are opened again and again do not keep the server waiting."""
    def never():
        raise LinkError("no such port")
    pool = pool_of(never, never, reopen=reopen)
    assert not pool.wait_until_ready(60)
    assert [board["error"] for board in pool.boards()] == ["no such port"] * 2


def test_a_board_that_stays_away_is_opened_ever_more_rarely(monkeypatch):
    monkeypatch.setattr(tellme.serve.pool, "FIRST_REOPEN", 0.05)
    client, opened, said = Killable(), [], []
    opens = killable(client)

    def open_board():
        opened.append(time.monotonic())
        return opens()

    pool = Pool([("board0", open_board)], Limits(reopen=0.2), say=said.append)
    pool.start()
    assert pool.wait_until_ready(60)
    client.killed = True
    heard = Heard()
    pool.submit(heard.job)
    until(lambda: len(opened) == 6)
    waits = [after - before for before, after in pairwise(opened[1:])]
    assert waits[0] >= 0.1 and min(waits[1:]) >= 0.2
    client.killed = False
    until(lambda: pool.ready)
    pool.close()
    assert said == ["board0 left the pool: the board was unplugged", "board0 is back in the pool"]


def test_a_board_that_opens_and_fails_is_not_opened_at_once_each_time(monkeypatch):
    """Opening well is not enough to count as well again: a request that ends is."""
    monkeypatch.setattr(tellme.serve.pool, "FIRST_REOPEN", 0.05)

    class Weak(Killable):
        def start(self, args):
            opened.append(time.monotonic())
            raise LinkError("brown-out")

    opened = []
    pool = Pool([("board0", killable(Weak()))], Limits(reopen=0.4))
    pool.start()
    while len(opened) < 4:
        until(lambda: pool.ready)
        heard = Heard()
        with suppress(ServeError):
            pool.submit(heard.job)
            heard.wait()
    pool.close()
    waits = [after - before for before, after in pairwise(opened)]
    assert all(wait >= least for wait, least in zip(waits, (0.05, 0.1, 0.2), strict=True))


def test_requests_of_clients_that_left_do_not_count_as_waiting(pool_of):
    client = Killable(pause=0.02)
    pool = pool_of(killable(client), queue=1)
    heard = [Heard(100), Heard()]
    for each in heard:
        pool.submit(each.job)
        until(lambda: client.tokens_made)
    assert pool.waiting == 1
    with pytest.raises(ServeError):
        pool.submit(Heard().job)
    heard[1].job.cancel()
    assert pool.waiting == 0
    last = Heard(1)
    pool.submit(last.job)
    heard[0].job.cancel()
    assert isinstance(last.wait(), Ended)


def test_a_request_that_kills_boards_is_given_up(pool_of):
    class Allergic(Killable):
        def start(self, args):
            if int(self.tokens[0]) == 7:
                self.killed = True
            super().start(args)

    clients = [Allergic() for _ in range(4)]
    pool = pool_of(*map(killable, clients))
    until(lambda: [board["state"] for board in pool.boards()] == ["idle"] * 4)
    heard = Heard(prompt=(7, 8))
    pool.submit(heard.job)
    assert heard.wait().code == "board_failed" and sum(client.killed for client in clients) == 3
    well = Heard()
    pool.submit(well.job)
    assert isinstance(well.wait(), Ended)


def test_a_model_that_overflows_harms_no_board(pool_of):
    scales = [layer.scales | {"w2": layer.scales["w2"]._replace(exp=30)} for layer in MODEL.layers]
    layers = [replace(layer, scales=each) for layer, each in zip(MODEL.layers, scales, strict=True)]
    pool = pool_of(golden(replace(MODEL, layers=layers)))
    heard = Heard()
    pool.submit(heard.job)
    end = heard.wait()
    assert end.status == 500 and "infinity or NaN" in str(end)
    until(lambda: pool.boards()[0]["state"] == "idle")


def test_boards_that_disagree(pool_of):
    """A board that goes on with other tokens than the one before is found out."""
    clients = [Killable(), Killable()]
    pool = pool_of(*map(killable, clients))
    until(lambda: [board["state"] for board in pool.boards()] == ["idle"] * 2)
    heard = Heard()
    heard.job.ids = [reference([1, 319, 378], 12, SAMPLED)[1][0], 5]
    heard.job.started = time.monotonic()
    pool.submit(heard.job)
    assert heard.wait().status == 503
    assert "where another board had picked 5" in pool.boards()[0]["error"] + pool.boards()[1]["error"]


def test_the_board_that_has_the_prompt_gets_it(pool_of):
    pool = pool_of(golden(), golden(), golden())
    until(lambda: [board["state"] for board in pool.boards()] == ["idle"] * 3)
    prompts = [(1, 10 + i, 20 + i, 30 + i, 40 + i) for i in range(3)]
    first = [Heard(4, prompt) for prompt in prompts]
    for each in first:
        pool.submit(each.job)
    boards = [each.wait().board for each in first]
    until(lambda: [board["state"] for board in pool.boards()] == ["idle"] * 3)
    for each, prompt, board in reversed(list(zip(first, prompts, boards, strict=True))):
        if boards.count(board) > 1:
            continue
        again = Heard(4, (*prompt, *each.job.ids, 9))
        pool.submit(again.job)
        assert again.wait().board == board and again.end.cached_tokens == len(prompt) + 3
        until(lambda: [b["state"] for b in pool.boards()] == ["idle"] * 3)


def test_closing_what_was_never_started():
    """A server that cannot listen closes its pool: no worker's thread is waited for, and no board was opened."""
    opened = []
    pool = Pool([("board0", lambda: opened.append(0))], Limits())
    pool.close()
    heard = Heard()
    with pytest.raises(ServeError) as caught:
        pool.submit(heard.job)
    assert caught.value.status == 503 and opened == [] and heard == []


def test_closing_ends_all(pool_of):
    client = Killable(pause=0.02)
    pool = pool_of(killable(client))
    heard = [Heard(200), Heard(200)]
    for each in heard:
        pool.submit(each.job)
    until(lambda: client.tokens_made > 1)
    pool.close()
    assert [each.end.status for each in heard] == [503, 503] and client.closed
    with pytest.raises(ServeError):
        pool.submit(Heard().job)


def test_fifty_clients_at_once_and_a_killed_board():
    """50 clients over three boards, one of which dies and comes back: each gets its own text, whole."""
    plan, model = Plan(device="fake", tokens=6), small_model()
    wanted, answers, boards = plan.wanted(model), Answers(), [Killable() for _ in range(plan.boards)]
    with server(*(killable(board, model) for board in boards), model=model, limits=Limits(plan.clients, reopen=0.2)) as found:
        until(lambda: all(board["state"] == "idle" for board in found.pool.boards()))

        async def killed_and_back():
            """The clients ask until the board that was killed works again."""
            async def come(step):
                while not step():
                    await asyncio.sleep(0.01)

            await come(lambda: answers.right > 20)
            boards[1].killed = True
            await come(lambda: found.pool.metrics.failures.value("board1"))
            made, boards[1].killed = boards[1].tokens_made, False
            await come(lambda: boards[1].tokens_made > made)

        async def all_of_them():
            kill = asyncio.ensure_future(killed_and_back())
            await asyncio.wait_for(clients(found.url, plan, model.name, wanted, answers, kill.done), 200)
            await kill

        asyncio.run(all_of_them())
        metrics = found.pool.metrics
        assert answers.failed == [] and answers.wrong == 0 and answers.right == answers.sent > plan.clients
        assert len(answers.per_client) == plan.clients and found.pool.waiting == 0
        assert metrics.failures.value("board1") == 1 == metrics.resumed.value()
        # Each token was made once: the last one before the kill is picked again, and does not count.
        assert sum(metrics.generated_tokens.value(f"board{i}") for i in range(plan.boards)) == plan.tokens * answers.right
        until(lambda: [board["state"] for board in found.pool.boards()] == ["idle"] * plan.boards)
