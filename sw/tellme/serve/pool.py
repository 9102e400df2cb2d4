# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Boards that work on a queue of requests, a thread a board.

A board that fails leaves the pool: its request goes back to the head of the queue with the tokens that it has, and another board
goes on behind the last one.  Random numbers come from seed and position alone, so the tokens are those that the first board would
have given.  A board that left is opened again, at first soon and then ever more rarely; it is back once the model is loaded.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tellme.errors import DeviceError, InputError, NonfiniteRunError, TellmeError
from tellme.runtime.board import Board
from tellme.runtime.sampling import Sampling
from tellme.runtime.session import Session, Token
from tellme.serve.errors import ServeError
from tellme.serve.metrics import Gauge, Metrics

__all__ = ["ACCOUNT_SUFFIX", "Ended", "Job", "Limits", "OpenBoard", "Pool", "State"]

#: Opens a board and loads the model.
OpenBoard = Callable[[], tuple[Board, Session]]
#: How many boards may fail on one request before the request is given up.
MAX_FAILURES = 3
#: Seconds until a board that left is opened again for the first time; each time that this fails they double.
FIRST_REOPEN = 1.0
#: Counters of cycles by what they went to end with this.
ACCOUNT_SUFFIX = "_cycles"


class State(Enum):
    """What a board of the pool does."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DOWN = "down"


@dataclass(frozen=True)
class Limits:
    """``queue``: requests that wait at most.  ``seconds``: for a request from its arrival to its end.  ``reopen``: the most
    seconds until a board that left the pool is opened again; None: never."""

    queue: int = 64
    seconds: float = 600.0
    reopen: float | None = 30.0


@dataclass(frozen=True)
class Ended:
    """The end of a request: text that had waited, why, the stats of the last run, and where the board's cycles went."""

    text: str
    stop_reason: str
    stats: dict[str, Any]
    cycles: dict[str, int] | None
    cached_tokens: int
    board: str


@dataclass(eq=False)
class Job:
    """A request for one text.  ``emit`` hears a Token, an Ended or a ServeError, from the thread of a board: the last two once,
    as the last thing."""

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    stop: Sequence[str]
    emit: Callable[[Token | Ended | ServeError], None]
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None
    first_token: float | None = None
    ended: float | None = None
    #: What was picked so far, on whatever boards.
    ids: list[int] = field(default_factory=list)
    cached: int = 0
    failures: int = 0
    _cancelled: bool = False

    def cancel(self) -> None:
        """Nobody waits for the rest: the run is stopped within a token."""
        self._cancelled = True

    @property
    def cancelled(self) -> bool:
        return self._cancelled


class Pool:
    """Boards by name, each with the function that opens it."""

    def __init__(self, boards: Sequence[tuple[str, OpenBoard]], limits: Limits | None = None, metrics: Metrics | None = None,
                 say: Callable[[str], None] = lambda text: None):
        self.limits = limits or Limits()
        self.metrics = metrics or Metrics()
        self._say = say
        self._change = threading.Condition()
        self._queue: deque[Job] = deque()
        self._closed = False
        self._workers = [_Worker(self, name, opened) for name, opened in boards]
        self._running: set[Job] = set()
        for name, _ in boards:
            # A counter that is there from the start shows its first step.
            self.metrics.failures.add(0, name)
            self.metrics.generated_tokens.add(0, name)
        self.metrics.gauges += [
            Gauge("tellme_queue_length", "Requests that wait for a board.", (), lambda: {(): self.waiting}),
            Gauge("tellme_boards", "Boards of the pool by what they do.", ("state",), self._count_states)]

    # ------------------------------------------------------------------ for the server
    def start(self) -> None:
        """Open the boards."""
        for worker in self._workers:
            worker.thread.start()

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait until a board is ready or each has failed once; whether one is ready."""
        with self._change:
            self._change.wait_for(lambda: self._closed or self.ready or all(worker.error is not None for worker in self._workers),
                                  timeout)
            return self.ready

    @property
    def ready(self) -> bool:
        """Whether a board takes requests."""
        return any(worker.state in (State.IDLE, State.BUSY) for worker in self._workers)

    def _coming(self) -> bool:
        return any(worker.state is not State.DOWN for worker in self._workers)

    def boards(self) -> list[dict[str, Any]]:
        """Each board's name, state, and the last error."""
        return [{"board": worker.name, "state": worker.state.value, "error": worker.error} for worker in self._workers]

    @property
    def waiting(self) -> int:
        """Requests that wait for a board."""
        return sum(not job.cancelled for job in list(self._queue))

    def submit(self, job: Job) -> None:
        """Queue a request; a ServeError if the queue is full or no board is there."""
        with self._change:
            if self._closed or not self._coming():
                raise self._no_board()
            self._queue = deque(waiting for waiting in self._queue if not waiting.cancelled)
            idle = sum(worker.state is State.IDLE for worker in self._workers)
            if len(self._queue) >= self.limits.queue + idle:
                raise ServeError(429, f"{len(self._queue)} requests wait already: try again later", code="queue_full",
                                 headers={"Retry-After": "1"})
            self._queue.append(job)
            self._change.notify_all()

    def close(self, timeout: float = 5.0) -> None:
        """Stop all runs, and close the boards."""
        with self._change:
            self._closed = True
            for job in self._running:
                job.cancel()
            waiting, self._queue = list(self._queue), deque()
            self._change.notify_all()
        for job in waiting:
            job.emit(ServeError(503, "the server is stopping", code="stopping"))
        deadline = time.monotonic() + timeout
        for worker in self._workers:
            if worker.thread.ident is not None:
                worker.thread.join(max(0.0, deadline - time.monotonic()))

    # ------------------------------------------------------------------ for the workers
    @staticmethod
    def _no_board() -> ServeError:
        return ServeError(503, "no board is there: each one failed", code="no_board", headers={"Retry-After": "10"})

    def _count_states(self) -> dict[tuple[str, ...], float]:
        states = [worker.state for worker in self._workers]
        return {(state.value,): states.count(state) for state in State}

    def _choose(self, asking: "_Worker") -> Job | None:
        """The next request for a board: the oldest, unless another idle board has more of its prompt in the KV cache."""
        while self._queue and self._queue[0].cancelled:
            self._queue.popleft()
        if not self._queue:
            return None
        prompt = self._queue[0].prompt
        others = [worker.cached(prompt) for worker in self._workers if worker is not asking and worker.state is State.IDLE]
        return self._queue.popleft() if asking.cached(prompt) >= max(others, default=0) else None

    def take(self, worker: "_Worker") -> Job | None:
        """Wait for a request; None when the pool is closed."""
        with self._change:
            worker.state = State.IDLE
            self._change.notify_all()
            while not self._closed:
                job = self._choose(worker)
                if job is not None:
                    worker.state = State.BUSY
                    self._running.add(job)
                    # Who waits may be the better board for the next request.
                    self._change.notify_all()
                    return job
                self._change.wait()
            return None

    def done(self, worker: "_Worker", job: Job, last: "Ended | ServeError") -> None:
        """A request has left its board, which is idle before the request's last event is told: who hears that event and asks
        again finds the board, with its KV cache, among those to choose from."""
        with self._change:
            self._running.discard(job)
            worker.state = State.IDLE
            job.emit(last)

    def failed(self, worker: "_Worker", error: BaseException, job: Job | None) -> None:
        """A board leaves the pool; its request goes back to the head of the queue."""
        text = str(error) or type(error).__name__
        if worker.state is not State.STARTING or worker.error is None:
            self.metrics.failures.add(1, worker.name)
            self._say(f"{worker.name} left the pool: {text}")
        with self._change:
            worker.state, worker.error = State.DOWN, text
            orphans: list[Job] = []
            if job is not None:
                self._running.discard(job)
                job.failures += 1
                if job.failures < MAX_FAILURES and not self._closed:
                    self._queue.appendleft(job)
                else:
                    orphans.append(job)
            if not self._coming():
                orphans += self._queue
                self._queue = deque()
            self._change.notify_all()
        for orphan in orphans:
            orphan.emit(self._no_board() if not self._coming() else
                        ServeError(503, f"{MAX_FAILURES} boards failed on this request", code="board_failed"))

    def back(self, worker: "_Worker") -> None:
        """A board that had left is open again."""
        self._say(f"{worker.name} is back in the pool")

    def pause(self, tries: int) -> bool:
        """Wait before a board is opened again, for which it was opened ``tries`` times in vain; whether to open it."""
        most = self.limits.reopen
        with self._change:
            self._change.wait_for(lambda: self._closed, most if most is None else min(most, FIRST_REOPEN * 2.0**min(tries, 30)))
            return not self._closed


class _Worker:
    """A board and its thread: nothing else touches the board."""

    def __init__(self, pool: Pool, name: str, opened: OpenBoard):
        self._pool, self.name, self._open = pool, name, opened
        self.state = State.STARTING
        self.error: str | None = None
        #: How often it was opened since it last ended a request.
        self._tries = 0
        self._session: Session | None = None
        self.thread = threading.Thread(target=self._live, name=f"board {name}", daemon=True)

    def cached(self, prompt: Sequence[int]) -> int:
        """Tokens of a prompt that the board's KV cache has.  Asked only while the board is idle."""
        return 0 if self._session is None else self._session.cache.common(prompt)

    def _live(self) -> None:
        while True:
            self._serve_once()
            if not self._pool.pause(self._tries):
                return
            self._tries += 1

    def _serve_once(self) -> None:
        """From the opening of the board to its failure, or to the end of the pool."""
        board: Board | None = None
        job: Job | None = None
        self.state = State.STARTING
        try:
            board, session = self._open()
            if self.error is not None:
                self._pool.back(self)
            self._session, self.error = session, None
            while (job := self._pool.take(self)) is not None:
                self._pool.done(self, job, self._run(board, session, job))
                job, self._tries = None, 0
        except BaseException as error:  # whatever a board does, its request is not lost
            self._session = None
            self._pool.failed(self, error, job)
        finally:
            if board is not None:
                with suppress(Exception):
                    board.close()

    def _run(self, board: Board, session: Session, job: Job) -> Ended | ServeError:
        """A request on the board, and its last event; what is raised is the board's failure."""
        metrics = self._pool.metrics
        if job.started is None:
            job.started = time.monotonic()
            metrics.queue_seconds.observe(job.started - job.arrived)
        else:
            metrics.resumed.add()
        # The last token that another board picked is picked once more: where it was the last one of all, its end is found anew.
        known = job.ids[-1:]
        try:
            run = session.generate(job.prompt, max_tokens=job.max_tokens, sampling=job.sampling, stop=job.stop,
                                   resume=job.ids[:-1])
            for token in run:
                if known:
                    if token.id != known.pop():
                        raise DeviceError(f"{self.name} picked token {token.id} where another board had picked {job.ids[-1]}")
                    continue
                job.ids.append(token.id)
                metrics.generated_tokens.add(1, self.name)
                if job.first_token is None:
                    job.first_token = time.monotonic()
                    job.cached = run.generation.cached
                    metrics.first_token_seconds.observe(job.first_token - job.arrived)
                job.emit(token)
                if job.cancelled:
                    break
            text = run.finish()
        except (InputError, NonfiniteRunError) as error:
            # The board is well.
            return ServeError(400 if isinstance(error, InputError) else 500, str(error))
        job.ended = time.monotonic()
        if job.cancelled:
            metrics.stopped.add()
            return ServeError(503, "the run was stopped", code="stopped")
        cycles = self._cycles(board)
        for part, count in (cycles or {}).items():
            metrics.cycles.add(count, self.name, part)
        metrics.prompt_tokens.add(len(job.prompt))
        metrics.cached_tokens.add(job.cached)
        metrics.request_seconds.observe(job.ended - job.arrived)
        return Ended(text, run.stop_reason, run.stats, cycles, job.cached, self.name)

    @staticmethod
    def _cycles(board: Board) -> dict[str, int] | None:
        """Where the cycles of the last run went; None where nothing counts them, or the board did not say."""
        if board.device.fabric_mhz is None:
            return None
        try:
            counters = board.counters()
        except TellmeError:
            # The text is whole.  A board that is gone is found out by the next request.
            return None
        return {name.removesuffix(ACCOUNT_SUFFIX): count for name, count in counters.items() if name.endswith(ACCOUNT_SUFFIX)}
