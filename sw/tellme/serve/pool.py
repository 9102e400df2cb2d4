# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Boards that work on a queue of requests, a thread a slot.

A board with several slots works on as many requests at a time; a request joins while others go on.  A request for which the host
has to draw needs a board's passes for itself: it waits at the head of the queue until a board has no other request, and no other
one joins it.

A board that fails leaves the pool: its requests go back to the head of the queue with the tokens that they have, and another
board goes on behind the last one.  Random numbers come from seed and position alone, so the tokens are those that the first
board would have given.  A board that left is opened again, at first soon and then ever more rarely; it is back once the model
is loaded.
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
from tellme.runtime.generation import host_draws
from tellme.runtime.sampling import Sampling
from tellme.runtime.session import Sequence as Slot
from tellme.runtime.session import Session, Token
from tellme.serve.errors import ServeError
from tellme.serve.metrics import Gauge, Metrics

__all__ = ["ACCOUNT_SUFFIX", "Ended", "Job", "Limits", "OpenBoard", "Pool", "State"]

#: Opens a board and loads the model.
OpenBoard = Callable[[], tuple[Board, Session]]
#: How many boards may fail on one request before the request is given up.
MAX_FAILURES = 3
#: A request that so many boards failed on gets a board for itself: if it is the reason, it takes no other request along.
ALONE_FAILURES = 2
#: Seconds over which a board's tokens a second are counted.
RATE_SECONDS = 10.0
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
    seconds until a board that left the pool is opened again; None: never.  ``check_weights``: bytes of a board's memory that are
    compared with the model's file after each request, in turn; 0: none."""

    queue: int = 64
    seconds: float = 600.0
    reopen: float | None = 30.0
    check_weights: int = 0


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
            Gauge("tellme_boards", "Boards of the pool by what they do.", ("state",), self._count_states),
            Gauge("tellme_slots", "Requests that a board works on at the same time at most.", ("board",),
                  lambda: {(worker.name,): worker.slots for worker in self._workers}),
            Gauge("tellme_slots_busy", "Requests that a board works on.", ("board",),
                  lambda: {(worker.name,): worker.busy for worker in self._workers}),
            Gauge("tellme_tokens_per_second", f"Tokens of a board, all requests together, over the last {RATE_SECONDS:.0f} s.",
                  ("board",), lambda: {(worker.name,): worker.rate() for worker in self._workers})]

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
        """Each board's name, state, last error, slots and slots that work, and tokens a second."""
        return [{"board": worker.name, "state": worker.state.value, "error": worker.error, "slots": worker.slots,
                 "busy": worker.busy, "tokens_per_second": worker.rate()} for worker in self._workers]

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
            idle = sum(lane.idle for worker in self._workers for lane in worker.lanes)
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

    def _choose(self, asking: "_Lane") -> Job | None:
        """The next request for a slot: the oldest, unless another idle slot has more of its prompt in the KV cache, or as much on
        a board with fewer requests."""
        while self._queue and self._queue[0].cancelled:
            self._queue.popleft()
        if not self._queue or asking.worker.exclusive:
            return None
        job = self._queue[0]
        takers = [lane for worker in self._workers for lane in worker.lanes if lane.idle and worker.takes(job)]
        if asking not in takers or asking.merit(job.prompt) < max(lane.merit(job.prompt) for lane in takers):
            return None
        return self._queue.popleft()

    def take(self, lane: "_Lane") -> Job | None:
        """Wait for a request; None when the pool is closed, or the board has failed."""
        worker = lane.worker
        with self._change:
            lane.idle = True
            self._change.notify_all()
            try:
                while not self._closed and worker.failure is None:
                    job = self._choose(lane)
                    if job is not None:
                        lane.job = job
                        worker.exclusive = worker.slots > 1 and worker.alone(job)
                        self._running.add(job)
                        # Who waits may be the better slot for the next request.
                        self._change.notify_all()
                        return job
                    self._change.wait()
                return None
            finally:
                lane.idle = False

    def done(self, lane: "_Lane", job: Job, last: "Ended | ServeError") -> None:
        """A request has left its slot, which is idle before the request's last event is told: who hears that event and asks
        again finds the slot, with its KV cache, among those to choose from."""
        with self._change:
            self._running.discard(job)
            lane.job, lane.idle, lane.worker.exclusive = None, True, False
            job.emit(last)

    def failed(self, worker: "_Worker", error: BaseException, lane: "_Lane | None" = None) -> None:
        """A board leaves the pool, when the first of its slots says so; each slot's request goes back to the queue's head."""
        text = str(error) or type(error).__name__
        with self._change:
            first, worker.failure = worker.failure is None, worker.failure or error
            if first and (worker.opened or worker.error is None):
                self.metrics.failures.add(1, worker.name)
                self._say(f"{worker.name} left the pool: {text}")
            if first:
                worker.error = text
            worker.down = True
            if lane is not None:
                lane.idle = False
            job = None if lane is None else lane.job
            orphans: list[Job] = []
            if lane is not None and job is not None:
                lane.job, worker.exclusive = None, False
                self._running.discard(job)
                job.failures += 1
                if job.failures < MAX_FAILURES and not self._closed:
                    # In the order in which they came, as the slots of a board fail one after another.
                    ahead = sum(waiting.failures > 0 and waiting.arrived < job.arrived for waiting in self._queue)
                    self._queue.insert(ahead, job)
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


class _Lane:
    """A slot of a board: the session itself where the board has one, else a sequence."""

    def __init__(self, worker: "_Worker", on: Session | Slot):
        self.worker, self.on = worker, on
        #: Whether it waits for a request, and the request that it works on.
        self.idle = False
        self.job: Job | None = None

    def merit(self, prompt: Sequence[int]) -> tuple[int, int]:
        """How good the slot is for a prompt: tokens of it in the KV cache, and how few requests its board has.  Asked only while
        the slot is idle."""
        return self.on.cache.common(prompt), -self.worker.busy


class _Worker:
    """A board, its thread, and a thread for each slot behind the first: nothing else touches the board."""

    def __init__(self, pool: Pool, name: str, opened: OpenBoard):
        self._pool, self.name, self._open = pool, name, opened
        self.error: str | None = None
        #: Whether the board is open; whether it left the pool; why; whether its request has the board for itself.
        self.opened = self.down = self.exclusive = False
        self.failure: BaseException | None = None
        self.lanes: list[_Lane] = []
        #: How often it was opened since it last ended a request.
        self._tries = 0
        self._session: Session | None = None
        self._told: deque[float] = deque()
        #: The board's count of cycles, and how often it was zeroed, when they were last read.
        self._counted: tuple[int, dict[str, int]] = (0, {})
        self._counting = threading.Lock()
        self.thread = threading.Thread(target=self._live, name=f"board {name}", daemon=True)

    @property
    def state(self) -> State:
        """What the board does."""
        if self.down:
            return State.DOWN
        if self.busy:
            return State.BUSY
        return State.IDLE if any(lane.idle for lane in self.lanes) else State.STARTING

    @property
    def slots(self) -> int:
        """Requests that it works on at the same time at most; 0 while it is not open."""
        return len(self.lanes)

    @property
    def busy(self) -> int:
        """Requests that it works on."""
        return sum(lane.job is not None for lane in self.lanes)

    def rate(self) -> float:
        """Tokens a second of the last RATE_SECONDS."""
        since = time.monotonic() - RATE_SECONDS
        return round(sum(told > since for told in list(self._told)) / RATE_SECONDS, 2)

    def alone(self, job: Job) -> bool:
        """Whether a request needs the board for itself: the host draws for it, or it was on boards that failed."""
        assert self._session is not None, "only an open board has slots"
        return job.failures >= ALONE_FAILURES or host_draws(self._session.device, job.sampling) is not None

    def takes(self, job: Job) -> bool:
        """Whether an idle slot of the board may take a request now."""
        return not self.exclusive and (self.slots == 1 or not self.busy or not self.alone(job))

    def _live(self) -> None:
        while True:
            self._serve_once()
            if not self._pool.pause(self._tries):
                return
            self._tries += 1

    def _serve_once(self) -> None:
        """From the opening of the board to its failure, or to the end of the pool."""
        board: Board | None = None
        threads: list[threading.Thread] = []
        self.down, self.opened, self.failure, self._counted = False, False, None, (0, {})
        try:
            board, session = self._open()
            if self.error is not None:
                self._pool.back(self)
            self._session, self.error = session, None
            slots: Sequence[Session | Slot] = [session] if session.slots == 1 else session.sequences()
            self.lanes = [_Lane(self, slot) for slot in slots]
            self.opened = True
            threads = [threading.Thread(target=self._work, args=(board, lane), name=f"board {self.name} slot {number}",
                                        daemon=True) for number, lane in enumerate(self.lanes[1:], 1)]
            for thread in threads:
                thread.start()
            self._work(board, self.lanes[0])
        except BaseException as error:  # whatever a board does, its requests are not lost
            self._pool.failed(self, error)
        finally:
            for thread in threads:
                thread.join()
            self.lanes, self._session = [], None
            if board is not None:
                with suppress(Exception):
                    board.close()

    def _work(self, board: Board, lane: _Lane) -> None:
        """Requests of a slot, one after another, up to the board's failure or to the end of the pool."""
        try:
            while (job := self._pool.take(lane)) is not None:
                last = self._run(board, lane, job)
                wrong = self._wrong_memory()
                self._pool.done(lane, job, last)
                if wrong is not None:
                    raise wrong
                self._tries = 0
        except BaseException as error:  # whatever a board does, its request is not lost
            self._pool.failed(self, error, lane)

    def _wrong_memory(self) -> TellmeError | None:
        """Compare a part of the board's memory with what was loaded, if that is asked for.  What is wrong is the board's
        failure, and not the request's, whose text was given."""
        most = self._pool.limits.check_weights
        try:
            if most and self._session is not None:
                self._session.check_weights(most)
        except TellmeError as error:
            return error
        return None

    def _run(self, board: Board, lane: _Lane, job: Job) -> Ended | ServeError:
        """A request on a slot of the board, and its last event; what is raised is the board's failure."""
        metrics = self._pool.metrics
        if job.started is None:
            job.started = time.monotonic()
            metrics.queue_seconds.observe(job.started - job.arrived)
        else:
            metrics.resumed.add()
        # The last token that another board picked is picked once more: where it was the last one of all, its end is found anew.
        known = job.ids[-1:]
        try:
            run = lane.on.generate(job.prompt, max_tokens=job.max_tokens, sampling=job.sampling, stop=job.stop,
                                   resume=job.ids[:-1])
            for token in run:
                if self.failure is not None:
                    raise DeviceError(f"{self.name} failed: {self.failure}")
                if known:
                    if token.id != known.pop():
                        raise DeviceError(f"{self.name} picked token {token.id} where another board had picked {job.ids[-1]}")
                    continue
                job.ids.append(token.id)
                self._count_token()
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
        stats = run.stats
        if stats["passes"] is not None:
            metrics.passes.add(stats["passes"], self.name)
            metrics.accepted_tokens.add(stats["accepted_tokens"], self.name)
        metrics.prompt_tokens.add(len(job.prompt))
        metrics.cached_tokens.add(job.cached)
        metrics.request_seconds.observe(job.ended - job.arrived)
        if job.first_token is not None and len(job.ids) > 1 and job.ended > job.first_token:
            metrics.request_rate.observe((len(job.ids) - 1) / (job.ended - job.first_token))
        # The cycles beside other requests are not a request's own.
        return Ended(text, run.stop_reason, stats, cycles if self.slots == 1 else None, job.cached, self.name)

    def _count_token(self) -> None:
        self._pool.metrics.generated_tokens.add(1, self.name)
        now = time.monotonic()
        self._told.append(now)
        while self._told[0] < now - RATE_SECONDS:
            self._told.popleft()

    def _cycles(self, board: Board) -> dict[str, int] | None:
        """Where the board's cycles went since this was last asked, on a board with one slot those of the last run; None where
        nothing counts them, or the board did not say."""
        if board.device.fabric_mhz is None:
            return None
        with self._counting:
            try:
                counters = board.counters()
            except TellmeError:
                # The text is whole.  A board that is gone is found out by the next request.
                return None
            found = {name.removesuffix(ACCOUNT_SUFFIX): count for name, count in counters.items()
                     if name.endswith(ACCOUNT_SUFFIX)}
            if self.slots == 1:
                return found
            (zeroed, before), self._counted = self._counted, (board.device.zeroed, found)
            if zeroed != board.device.zeroed:
                before = {}
            return {name: (count - before.get(name, 0)) % 2**32 for name, count in found.items()}
