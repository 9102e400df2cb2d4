# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Memory behind a unit's ports, for testbenches: a dict of words, with pauses."""

import random
from collections import deque

import cocotb
from cocotb.triggers import FallingEdge, Timer

from hw.lib.ports import MemoryRequest
from sim.cocotb_streams import PERIOD_NS
from tests.hw.layouts import fields

__all__ = ["QueuedReadModel", "ReadModel", "WriteModel"]


class ReadModel:
    """Answers a ReadPort from ``words``; waits ``latency`` cycles a request and pauses at random.

    ``pause`` gives the length of a pause before each word (0: none).  A read of a word that is not there fails.
    """

    def __init__(self, dut, name, words, *, latency=8, pause=None, rng=None):
        self._dut, self._name = dut, name
        self.words = words
        self._latency = latency
        self._pause = pause or (lambda: 0)
        self._rng = rng or random.Random(0)
        self.count = 0

    def _signal(self, name):
        return getattr(self._dut, f"{self._name}__{name}")

    async def run(self):
        clk = self._dut.clk
        self._signal("data__valid").value = 0
        self._signal("req__ready").value = 1
        while True:
            await Timer(PERIOD_NS // 2 - 1, "ns")
            asked = bool(self._signal("req__valid").value)
            request = int(self._signal("req__payload").value) if asked else 0
            await FallingEdge(clk)
            if not asked:
                continue
            self._signal("req__ready").value = 0
            addr, length = fields(MemoryRequest, request, "addr", "len")
            for _ in range(self._latency):
                await FallingEdge(clk)
            for i in range(length):
                for _ in range(self._pause()):
                    self._signal("data__valid").value = 0
                    await FallingEdge(clk)
                self._signal("data__payload").value = self.words[addr + i]
                self._signal("data__valid").value = 1
                while True:
                    await Timer(PERIOD_NS // 2 - 1, "ns")
                    taken = bool(self._signal("data__ready").value)
                    await FallingEdge(clk)
                    if taken:
                        break
                self.count += 1
            self._signal("data__valid").value = 0
            self._signal("req__ready").value = 1


class QueuedReadModel(ReadModel):
    """A ReadModel that takes a request at any time: the data of one follows that of the one before without a pause."""

    async def _requests(self, queue):
        cycle = 0
        self._signal("req__ready").value = 1
        while True:
            await Timer(PERIOD_NS // 2 - 1, "ns")
            if self._signal("req__valid").value:
                request = int(self._signal("req__payload").value)
                addr, length = fields(MemoryRequest, request, "addr", "len")
                queue.extend((cycle + self._latency, addr + i) for i in range(length))
            await FallingEdge(self._dut.clk)
            cycle += 1
            self.cycle = cycle

    async def run(self):
        queue: deque[tuple[int, int]] = deque()
        self.cycle = 0
        cocotb.start_soon(self._requests(queue))
        valid = self._signal("data__valid")
        valid.value = 0
        while True:
            if not queue or queue[0][0] > self.cycle:
                await FallingEdge(self._dut.clk)
                continue
            _, addr = queue.popleft()
            for _ in range(self._pause()):
                await FallingEdge(self._dut.clk)
            self._signal("data__payload").value = self.words[addr]
            valid.value = 1
            while True:
                await Timer(PERIOD_NS // 2 - 1, "ns")
                taken = bool(self._signal("data__ready").value)
                await FallingEdge(self._dut.clk)
                if taken:
                    break
            valid.value = 0
            self.count += 1


class WriteModel:
    """Takes a WritePort's words into ``words``; ready is low in a share ``stall`` of the cycles, and for requests in ``rest``
    cycles behind each burst."""

    def __init__(self, dut, name, words, *, stall=0.0, rest=3, rng=None):
        self._dut, self._name = dut, name
        self.words = words
        self._stall, self._rest = stall, rest
        self._rng = rng or random.Random(0)
        self.count = 0

    def _signal(self, name):
        return getattr(self._dut, f"{self._name}__{name}")

    async def run(self):
        clk = self._dut.clk
        self._signal("idle").value = 1
        while True:
            self._signal("data__ready").value = 0
            self._signal("req__ready").value = 1
            await Timer(PERIOD_NS // 2 - 1, "ns")
            asked = bool(self._signal("req__valid").value)
            request = int(self._signal("req__payload").value) if asked else 0
            await FallingEdge(clk)
            if not asked:
                continue
            self._signal("req__ready").value = 0
            self._signal("idle").value = 0
            addr, length = fields(MemoryRequest, request, "addr", "len")
            taken = 0
            while taken < length:
                ready = self._rng.random() >= self._stall
                self._signal("data__ready").value = int(ready)
                await Timer(PERIOD_NS // 2 - 1, "ns")
                if ready and self._signal("data__valid").value:
                    self.words[addr + taken] = int(self._signal("data__payload").value)
                    taken += 1
                    self.count += 1
                await FallingEdge(clk)
            self._signal("data__ready").value = 0
            for _ in range(self._rest):
                await FallingEdge(clk)
            self._signal("idle").value = 1
