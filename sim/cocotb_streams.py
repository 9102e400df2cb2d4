# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""For use inside a simulator: reset, stream drivers with random idle cycles and back-pressure, seeds, reports."""

import json
import os
import random
from collections.abc import Callable, Coroutine, Generator, Iterable
from functools import wraps
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.task import current_task
from cocotb.triggers import Event, FallingEdge, Timer
from cocotb.utils import get_sim_time

__all__ = ["StreamSink", "StreamSource", "clocked", "report", "report_note", "report_point", "report_shares",
           "reset", "rng", "settled"]

PERIOD_NS = 10


class _Settled:
    """A coroutine of :class:`_Clocked` awaits this object for the time just before the rising edge."""

    def __await__(self) -> Generator["_Settled", None, None]:
        yield self


_SETTLED = _Settled()


class _Run:
    """A coroutine under way, and how it ended."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]):
        self.coroutine = coroutine
        self.ended = Event()
        self.result: object = None
        self.error: Exception | None = None


class _Clocked:
    """Runs all coroutines that only await :func:`settled` and the clock's falling edge in one cocotb task.  A task for each
    coroutine would take most of a simulation's time."""

    def __init__(self, clk: Any):
        self._clk = clk
        self._edge = FallingEdge(clk)
        self._settle = Timer(PERIOD_NS // 2 - 1, "ns")
        self._settling: list[_Run] = []
        self._falling: list[_Run] = []
        self._wanted = Event()
        self._sampled = -1
        #: Whether one of the coroutines is running right now.
        self.inside = False
        self.task = cocotb.start_soon(self._loop())

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end and give its result or its error.  The caller must be just after a falling edge."""
        run = _Run(coroutine)
        self._advance(run)
        if self._settling and self._settling[-1] is run and (self._clk.value or self._sampled == get_sim_time()):
            coroutine.close()
            self._settling.remove(run)
            raise RuntimeError("a stream is used at another time than just behind a falling edge of the clock")
        if not run.ended.is_set():
            self._wanted.set()
            try:
                await run.ended.wait()
            finally:
                if not run.ended.is_set():
                    # The task that waits was cancelled.
                    coroutine.close()
                    self._settling = [r for r in self._settling if r is not run]
                    self._falling = [r for r in self._falling if r is not run]
        if run.error is not None:
            raise run.error
        return run.result

    def _advance(self, run: _Run) -> None:
        self.inside = True
        try:
            awaited = run.coroutine.send(None)
        except StopIteration as stop:
            run.result = stop.value
            run.ended.set()
        except Exception as error:
            run.error = error
            run.ended.set()
        else:
            if awaited is _SETTLED:
                self._settling.append(run)
            elif awaited is self._edge:
                self._falling.append(run)
            else:
                name = getattr(run.coroutine, "__qualname__", run.coroutine)
                run.error = RuntimeError(f"{name} awaits {awaited}: neither settled() nor the falling edge")
                run.ended.set()
        finally:
            self.inside = False

    async def _loop(self) -> None:
        while True:
            if not self._settling and not self._falling:
                self._wanted.clear()
                await self._wanted.wait()
            # Even if no task waits for it yet: a task that this falling edge wakes later may wait for it.
            if not self._clk.value:
                await self._settle
                self._sampled = get_sim_time()
                runs, self._settling = self._settling, []
                for run in runs:
                    self._advance(run)
            await self._edge
            runs, self._falling = self._falling, []
            for run in runs:
                self._advance(run)


_clocked: _Clocked | None = None


def clocked(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Decorates a method of an object with a ``_clk``.  The method awaits only :func:`settled`, the falling edge of this clock,
    and other such methods; cocotb runs all of them in one task."""

    @wraps(method)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        global _clocked
        if _clocked is not None and _clocked.inside:
            return await method(self, *args, **kwargs)
        # The tasks of a test end with the test.
        if _clocked is None or _clocked.task.done():
            _clocked = _Clocked(self._clk)
        return await _clocked.run(method(self, *args, **kwargs))

    return wrapper


_timer: tuple[int, Timer | None] = (-1, None)


def settled() -> Timer | _Settled:
    """Wait until just before the clock's rising edge, when signals are what the flip-flops will see.  The caller must be just
    after a falling edge."""
    global _timer
    if _clocked is not None and _clocked.inside:
        return _SETTLED
    now = get_sim_time()
    since, timer = _timer
    if timer is None or since != now:
        timer = Timer(PERIOD_NS // 2 - 1, "ns")
        _timer = (now, timer)
    return timer


def rng(salt: str = "") -> random.Random:
    """A repeatable generator: cocotb seeds Python's own for each test from the run's seed and the test's name."""
    return random.Random(f"{random.getrandbits(64)}/{salt}")


def _report(entry: dict) -> None:
    path = os.environ.get("TELLME_REPORT")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps({"test": current_task().get_name().removeprefix("Test "), **entry}) + "\n")


def report(*, cases: int) -> None:
    """How many cases the running test has checked, for the runner's line; call it from the test itself."""
    _report({"cases": cases})


def report_note(text: str) -> None:
    """A measured number, as a line of its own in the runner's output."""
    _report({"note": text})


def report_shares(**low: float) -> None:
    """Shares of cycles in which each named valid or ready was low, for the runner's output."""
    _report({"shares": {name: round(share, 3) for name, share in low.items()}})


def report_point(name: str) -> None:
    """The running test has reached a point that its file declares in ``POINTS``: a refusal, or a size at its limit.  Call it
    behind the assertion that shows so."""
    _report({"point": name})


async def reset(dut: Any, cycles: int = 2) -> None:
    """Start the clock and pulse the reset; returns just after a falling edge, with the reset released."""
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    # A failed test leaves its valid and ready signals high.
    for handle in dut:
        if handle._name.endswith(("__valid", "__ready")):
            handle.value = 0
    if hasattr(dut, "rst"):
        dut.rst.value = 1
        for _ in range(cycles):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
    await FallingEdge(dut.clk)


class StreamSource:
    """Drives a stream input ``name``: valid is held low in a share ``idle`` of the cycles, at random."""

    def __init__(self, dut: Any, name: str, *, idle: float = 0.0, rng: random.Random | None = None):
        self._clk = dut.clk
        self._payload = getattr(dut, f"{name}__payload")
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        self._idle = idle
        self._rng = rng or random.Random(0)
        self.cycles = 0
        self.low = 0
        self._valid.value = 0

    @property
    def low_share(self) -> float:
        """Measured share of cycles with valid low, of those in which there was something to send."""
        return self.low / max(self.cycles, 1)

    @clocked
    async def send(self, value: int) -> None:
        """Offer one payload until it is taken."""
        await self.send_all([value])

    @clocked
    async def send_all(self, values: Iterable[int]) -> None:
        """Offer payloads one after another."""
        for value in values:
            # While the stream waits for ready, valid is high; idle cycles must make up for this time.
            while self._idle and (self._rng.random() < self._idle or self.low < self._idle * self.cycles):
                self._valid.value = 0
                self.cycles += 1
                self.low += 1
                await FallingEdge(self._clk)
            self._payload.value = value
            self._valid.value = 1
            while True:
                await settled()
                taken = bool(self._ready.value)
                await FallingEdge(self._clk)
                self.cycles += 1
                if taken:
                    break
        self._valid.value = 0


class StreamSink:
    """Takes from a stream output ``name``: ready is held low in a share ``stall`` of the cycles, at random.

    It also checks the stream's rules: once valid, a payload stays until it is taken.
    """

    def __init__(self, dut: Any, name: str, *, stall: float = 0.0, rng: random.Random | None = None):
        self._name = name
        self._clk = dut.clk
        self._payload = getattr(dut, f"{name}__payload")
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        self._stall = stall
        self._rng = rng or random.Random(0)
        self._held: int | None = None
        self.cycles = 0
        self.low = 0
        self._ready.value = 0

    @property
    def low_share(self) -> float:
        """Measured share of cycles with ready low."""
        return self.low / max(self.cycles, 1)

    @clocked
    async def recv(self) -> int:
        """The next payload."""
        driven: bool | None = None
        while True:
            ready = not (self._stall and self._rng.random() < self._stall)
            if ready is not driven:
                self._ready.value = int(ready)
                driven = ready
            self.cycles += 1
            self.low += not ready
            await settled()
            valid = bool(self._valid.value)
            value = int(self._payload.value) if valid else -1
            if self._held is not None:
                assert valid, f"{self._name}: valid fell before the payload was taken"
                assert value == self._held, f"{self._name}: the payload changed before it was taken"
            self._held = value if valid and not ready else None
            await FallingEdge(self._clk)
            if valid and ready:
                self._ready.value = 0
                return value

    @clocked
    async def recv_n(self, n: int) -> list[int]:
        """The next n payloads."""
        return [await self.recv() for _ in range(n)]
