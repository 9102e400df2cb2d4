# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Memory behind a unit's ports, for testbenches: a dict of words, with pauses."""

import random
from collections import deque
from functools import cache

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.ports import MemoryRequest
from sim.cocotb_streams import clocked, settled
from tests.hw.layouts import fields

__all__ = ["Dfi", "QueuedReadModel", "ReadModel", "WriteModel"]


def signals(dut, port):
    """A function from a name to the signal of a port with this name; found once, because finding takes longer than reading."""
    return cache(lambda name: getattr(dut, f"{port}__{name}"))


class Dfi:
    """A core's DFI pins with a chip behind them: two clocks of the chip a fabric cycle, and the wire's delay in beats.  While
    ``cut`` nothing comes back."""

    def __init__(self, dut, chip, *, wire_beats):
        self._clk, self._pins, self._wdata, self._rdata = dut.clk, dut.pins, dut.dfi__wdata, dut.dfi__rdata
        self._chip = chip
        self._bits = sum(chip.PINS.values())
        self._wire = deque([0] * wire_beats)
        self._driven = None
        self.cut = False

    def clock(self) -> tuple[int, int]:
        """The pins of both clocks; a broken rule of the chip fails the test.  The data wires are not read while nothing drives
        them: the chip ignores them."""
        chip, wire, pins = self._chip, self._wire, int(self._pins.value)
        first, second = pins & (1 << self._bits) - 1, pins >> self._bits
        wdata = int(self._wdata.value) if pins >> self._bits - 1 & 1 else 0
        wire.append(chip.clock_pins(first, wdata & 0xFFFF))
        wire.append(chip.clock_pins(second, wdata >> 16))
        violation = chip.violation()
        assert not violation, violation
        rdata = wire.popleft() | wire.popleft() << 16
        if self.cut:
            rdata = 0
        if rdata != self._driven:
            self._rdata.value = self._driven = rdata
        return first, second

    @clocked
    async def run(self):
        """Clock the chip in each cycle."""
        while True:
            await settled()
            self.clock()
            await FallingEdge(self._clk)


class ReadModel:
    """Answers a read port from ``words``; waits ``latency`` cycles a request and pauses at random.  ``request`` is the layout of
    its requests.

    ``words`` and ``count``, of those that were taken, are of 32-bit words, whatever the port's width is.  ``pause`` gives the
    length of a pause before each word (0: none).  A request waits for ``hold`` cycles.  A read of a word that is not there fails,
    and so does a request of no words.
    """

    def __init__(self, dut, name, words, *, request=MemoryRequest, latency=8, pause=None, hold=0, rng=None):
        self._clk, self._request = dut.clk, request
        self._signal = signals(dut, name)
        self.words = words
        # 32-bit words of a word of the port.
        self._lanes = len(self._signal("data__payload")) // 32
        self._latency, self._hold = latency, hold
        self._pause = pause or (lambda: 0)
        self._rng = rng or random.Random(0)
        self.count = 0

    @clocked
    async def run(self):
        self._signal("data__valid").value = 0
        waits = self._hold
        self._signal("req__ready").value = int(not waits)
        while True:
            await settled()
            asked = bool(self._signal("req__valid").value)
            request = int(self._signal("req__payload").value) if asked else 0
            await FallingEdge(self._clk)
            if not asked:
                continue
            if waits:
                waits -= 1
                self._signal("req__ready").value = int(not waits)
                continue
            waits = self._hold
            self._signal("req__ready").value = 0
            addr, length = fields(self._request, request, "addr", "len")
            assert length, f"a request of no words at {addr:#x}"
            for _ in range(self._latency):
                await FallingEdge(self._clk)
            for i in range(0, length, self._lanes):
                for _ in range(self._pause()):
                    self._signal("data__valid").value = 0
                    await FallingEdge(self._clk)
                self._signal("data__payload").value = self._word(addr + i)
                self._signal("data__valid").value = 1
                while True:
                    await settled()
                    taken = bool(self._signal("data__ready").value)
                    await FallingEdge(self._clk)
                    if taken:
                        break
                self.count += self._lanes
            self._signal("data__valid").value = 0
            self._signal("req__ready").value = int(not waits)

    def _word(self, addr):
        """The port's word that begins with the 32-bit word ``addr``."""
        return sum(self.words[addr + lane] << 32 * lane for lane in range(self._lanes))


class QueuedReadModel(ReadModel):
    """A ReadModel that takes a request at any time: the data of a request follows the data of the request before without a
    pause."""

    @clocked
    async def _requests(self, queue):
        cycle = 0
        self._signal("req__ready").value = 1
        while True:
            await settled()
            if self._signal("req__valid").value:
                request = int(self._signal("req__payload").value)
                addr, length = fields(self._request, request, "addr", "len")
                assert length, f"a request of no words at {addr:#x}"
                queue.extend((cycle + self._latency, addr + i) for i in range(0, length, self._lanes))
            await FallingEdge(self._clk)
            cycle += 1
            self.cycle = cycle

    @clocked
    async def run(self):
        queue: deque[tuple[int, int]] = deque()
        self.cycle = 0
        cocotb.start_soon(self._requests(queue))
        valid = self._signal("data__valid")
        valid.value = 0
        while True:
            if not queue or queue[0][0] > self.cycle:
                await FallingEdge(self._clk)
                continue
            _, addr = queue.popleft()
            for _ in range(self._pause()):
                await FallingEdge(self._clk)
            self._signal("data__payload").value = self._word(addr)
            valid.value = 1
            while True:
                await settled()
                taken = bool(self._signal("data__ready").value)
                await FallingEdge(self._clk)
                if taken:
                    break
            valid.value = 0
            self.count += self._lanes


class WriteModel:
    """Takes a write port's words into ``words``; ready is low in a share ``stall`` of the cycles, and for requests in ``rest``
    cycles after each burst.  A request waits for ``hold`` cycles.  ``request`` is the layout of its requests."""

    def __init__(self, dut, name, words, *, request=MemoryRequest, stall=0.0, rest=3, hold=0, rng=None):
        self._clk, self._request, self._hold = dut.clk, request, hold
        self._signal = signals(dut, name)
        self.words = words
        self._stall, self._rest = stall, rest
        self._rng = rng or random.Random(0)
        self.count = 0

    @clocked
    async def run(self):
        self._signal("idle").value = 1
        waits = self._hold
        while True:
            self._signal("data__ready").value = 0
            self._signal("req__ready").value = int(not waits)
            await settled()
            asked = bool(self._signal("req__valid").value)
            request = int(self._signal("req__payload").value) if asked else 0
            await FallingEdge(self._clk)
            if not asked:
                continue
            if waits:
                waits -= 1
                continue
            waits = self._hold
            self._signal("req__ready").value = 0
            self._signal("idle").value = 0
            addr, length = fields(self._request, request, "addr", "len")
            assert length, f"a request of no words at {addr:#x}"
            taken = 0
            while taken < length:
                ready = self._rng.random() >= self._stall
                self._signal("data__ready").value = int(ready)
                await settled()
                if ready and self._signal("data__valid").value:
                    self.words[addr + taken] = int(self._signal("data__payload").value)
                    taken += 1
                    self.count += 1
                await FallingEdge(self._clk)
            self._signal("data__ready").value = 0
            for _ in range(self._rest):
                await FallingEdge(self._clk)
            self._signal("idle").value = 1
