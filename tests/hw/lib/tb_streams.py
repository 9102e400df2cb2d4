# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Skid, Queue and Landing: nothing is lost, doubled or out of order; their rates and their room."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.streams import Landing, Queue, Skid
from sim.cocotb_streams import StreamSink, StreamSource, report, report_point, reset, rng
from sim.testbench import Bench

WIDTH, DEPTH = 16, 8
#: Cycles from entering the pipeline to the landing; this bench simulates the pipeline.
WAY = 2
BENCHES = [Bench(name="skid", build=lambda: Skid(WIDTH), env={"KIND": "skid"}, tests=("in_order", "full_rate")),
           Bench(name="queue", build=lambda: Queue(WIDTH, depth=DEPTH), env={"KIND": "queue"},
                 tests=("in_order", "full_rate", "holds_its_depth")),
           Bench(name="landing", build=lambda: Landing(WIDTH, depth=DEPTH), env={"KIND": "landing"},
                 tests=("always_room", "landing_rate")),
           Bench(name="burst", build=lambda: Landing(WIDTH, depth=10, burst=4),
                 env={"KIND": "landing", "BURST": "4", "PLACES": "10"}, tests=("always_room",))]
POINTS = ("limit: a queue that is full", "limit: a landing that is closed")
KIND, BURST = os.environ.get("KIND", "skid"), int(os.environ.get("BURST", "1"))
PLACES = int(os.environ.get("PLACES", DEPTH))


async def bring_up(dut):
    if KIND == "landing":
        dut.sent.value = dut.valid.value = 0
    await reset(dut)


@cocotb.test()
async def in_order(dut):
    """Every mix of a late source and a late sink."""
    n = 0
    await bring_up(dut)
    for idle, stall in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5), (0.1, 0.9), (0.9, 0.1)):
        values = [rng(f"{idle}-{stall}").getrandbits(WIDTH) for _ in range(500)]
        source = StreamSource(dut, "i", idle=idle, rng=rng("idle"))
        sink = StreamSink(dut, "o", stall=stall, rng=rng("stall"))
        cocotb.start_soon(source.send_all(values))
        assert await sink.recv_n(len(values)) == values
        n += len(values)
    report(cases=n)


@cocotb.test()
async def full_rate(dut):
    """An element per cycle if neither side waits; the first element comes out a cycle after it went in."""
    await bring_up(dut)
    dut.o__ready.value = dut.i__valid.value = 1
    for sent in range(200):
        dut.i__payload.value = sent
        await FallingEdge(dut.clk)
        assert dut.i__ready.value == 1
        assert dut.o__valid.value == 1 and int(dut.o__payload.value) == sent
    report(cases=200)


@cocotb.test()
async def holds_its_depth(dut):
    """``level`` counts up to the depth, and ready is high until then."""
    await bring_up(dut)
    dut.i__valid.value = 1
    for level in range(DEPTH):
        assert (int(dut.level.value), int(dut.i__ready.value)) == (level, 1)
        dut.i__payload.value = level
        await FallingEdge(dut.clk)
    # One more is refused as long as it is offered.
    dut.i__payload.value = DEPTH
    for _ in range(2):
        assert (int(dut.level.value), int(dut.i__ready.value)) == (DEPTH, 0)
        await FallingEdge(dut.clk)
    report_point("limit: a queue that is full")
    dut.i__valid.value, dut.o__ready.value = 0, 1
    for level in range(DEPTH):
        assert dut.o__valid.value == 1 and int(dut.o__payload.value) == level
        await FallingEdge(dut.clk)
    assert dut.o__valid.value == 0
    report(cases=2 * DEPTH)


class Player:
    """The pipeline before a landing and the sink after it; returns the numbers that were sent and the numbers that left."""

    def __init__(self, dut):
        self.dut, self.sent, self.left, self.way, self.rest = dut, [], [], [None] * WAY, 0

    async def play(self, cycles, *, sends, takes):
        """``sends`` and ``takes`` are the probabilities that they do what they could."""
        dut, r = self.dut, rng(f"{sends}-{takes}")
        for _ in range(cycles):
            leaves = bool(dut.o__valid.value) and r.random() < takes
            dut.o__ready.value = int(leaves)
            if leaves:
                self.left.append(int(dut.o__payload.value))
            begins = not self.rest and bool(dut.open.value) and r.random() < sends
            goes = begins or self.rest > 0
            self.rest = BURST - 1 if begins else max(self.rest - 1, 0)
            dut.sent.value = int(goes)
            arrives, self.way = self.way[0], [*self.way[1:], len(self.sent) if goes else None]
            if goes:
                self.sent.append(len(self.sent))
            dut.valid.value = int(arrives is not None)
            dut.value.value = arrives or 0
            await FallingEdge(dut.clk)
            assert not dut.empty.value or self.sent == self.left


@cocotb.test()
async def always_room(dut):
    """Whatever the sink does, all that set out lands, and ``empty`` is low until the last has left."""
    await bring_up(dut)
    player = Player(dut)
    for sends, takes in ((1.0, 0.1), (0.5, 0.5), (1.0, 0.0), (0.2, 1.0), (1.0, 0.6)):
        before = len(player.sent)
        await player.play(400, sends=sends, takes=takes)
        if not takes:
            # The landing closes early: there is room for the elements that may be sent in three cycles that it does not know of
            # yet.
            assert PLACES - 2 - BURST <= len(player.sent) - before <= PLACES
            assert not dut.open.value
            report_point("limit: a landing that is closed")
        await player.play(40, sends=0.0, takes=1.0)
        assert player.left == player.sent and dut.empty.value == 1
    report(cases=len(player.sent))


@cocotb.test()
async def landing_rate(dut):
    """An element a cycle where the depth is the way and six more."""
    await bring_up(dut)
    player = Player(dut)
    await player.play(200, sends=1.0, takes=1.0)
    assert len(player.sent) == 200 and player.left == player.sent[:len(player.left)]
    assert len(player.left) >= 200 - WAY - 4
    report(cases=200)
