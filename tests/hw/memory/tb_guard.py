# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The guards that finish bursts when their user is reset."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.ports import MemoryRequest
from hw.memory.guard import ReadGuard, WriteGuard
from sim.cocotb_streams import StreamSink, StreamSource, report_point, reset, rng, settled
from sim.testbench import Bench
from tests.hw.layouts import pack
from tests.hw.memory_model import ReadModel, WriteModel

BENCHES = [Bench(name="read", build=ReadGuard, env={"KIND": "read"},
                 tests=("passes_reads", "drains_reads", "a_request_waits_for_the_end_of_a_drain")),
           Bench(name="write", build=WriteGuard, env={"KIND": "write"},
                 tests=("passes_writes", "drains_writes", "a_request_waits_for_the_end_of_a_drain"))]
POINTS = ("refused: a request while a guard drains", "limit: a read of which no word, and of which all but one were taken",
          "limit: a write of which no word, and of which all but one were given")
KIND = os.environ.get("KIND", "read")


async def bring_up(dut, stall=0.0):
    dut.drain.value = 0
    dut.user__req__valid.value = 0
    if KIND == "read":
        dut.port__data__valid.value = dut.user__data__ready.value = 0
    else:
        dut.user__data__valid.value = 0
    await reset(dut)
    if KIND == "read":
        model = ReadModel(dut, "port", {i: 3 * i for i in range(1000)})
    else:
        model = WriteModel(dut, "port", {}, stall=stall, rng=rng("port"))
    cocotb.start_soon(model.run())
    return model


async def drain(dut):
    """Drain until clean; the cycles that it took."""
    dut.user__req__valid.value = 0
    if KIND == "read":
        dut.user__data__ready.value = 0
    else:
        dut.user__data__valid.value = 0
    dut.drain.value = 1
    for cycle in range(500):
        await FallingEdge(dut.clk)
        if dut.clean.value:
            dut.drain.value = 0
            return cycle
    raise AssertionError("not clean after 500 cycles")


@cocotb.test()
async def passes_reads(dut):
    await bring_up(dut)
    req, data = StreamSource(dut, "user__req"), StreamSink(dut, "user__data", stall=0.3, rng=rng("data"))
    requests = ((5, 1), (100, 40), (7, 3))
    # The next request waits while one is served.
    cocotb.start_soon(req.send_all([pack(MemoryRequest, addr=addr, len=n) for addr, n in requests]))
    for addr, n in requests:
        assert await data.recv_n(n) == [3 * (addr + i) for i in range(n)]


@cocotb.test()
async def drains_reads(dut):
    """A user is reset in the middle of a burst; afterwards it gets the data of its next request, and no other."""
    await bring_up(dut)
    req, data = StreamSource(dut, "user__req"), StreamSink(dut, "user__data")
    for taken in (0, 1, 17, 63):
        cocotb.start_soon(req.send(pack(MemoryRequest, addr=200, len=64)))
        for _ in range(4):
            await FallingEdge(dut.clk)
        assert await data.recv_n(taken) == [3 * (200 + i) for i in range(taken)]
        await drain(dut)
        cocotb.start_soon(req.send(pack(MemoryRequest, addr=10, len=2)))
        assert await data.recv_n(2) == [30, 33]
    report_point("limit: a read of which no word, and of which all but one were taken")


@cocotb.test()
async def passes_writes(dut):
    model = await bring_up(dut, stall=0.3)
    req, data = StreamSource(dut, "user__req"), StreamSource(dut, "user__data", idle=0.3, rng=rng("data"))
    requests = ((5, 1), (100, 40))
    cocotb.start_soon(req.send_all([pack(MemoryRequest, addr=addr, len=n) for addr, n in requests]))
    for _, n in requests:
        await data.send_all(range(1, n + 1))
    while not dut.user__idle.value:
        await FallingEdge(dut.clk)
    assert model.words == {addr + i: i + 1 for addr, n in requests for i in range(n)}


@cocotb.test()
async def drains_writes(dut):
    """Words that the user still owed are written as zeros; the next write is complete."""
    model = await bring_up(dut, stall=0.3)
    req, data = StreamSource(dut, "user__req"), StreamSource(dut, "user__data")
    for given in (0, 1, 17, 31):
        await req.send(pack(MemoryRequest, addr=300, len=32))
        await data.send_all([7] * given)
        await drain(dut)
        assert [model.words[300 + i] for i in range(32)] == [7] * given + [0] * (32 - given)
        await req.send(pack(MemoryRequest, addr=20, len=2))
        await data.send_all([8, 9])
        while not dut.user__idle.value:
            await FallingEdge(dut.clk)
        assert (model.words[20], model.words[21]) == (8, 9)
    report_point("limit: a write of which no word, and of which all but one were given")


@cocotb.test()
async def a_request_waits_for_the_end_of_a_drain(dut):
    """It is shown to the port in no cycle of the drain, and is done afterwards."""
    model = await bring_up(dut)
    req = StreamSource(dut, "user__req")
    await req.send(pack(MemoryRequest, addr=300, len=8))
    dut.drain.value = 1
    waiting = cocotb.start_soon(req.send(pack(MemoryRequest, addr=10, len=2)))
    await FallingEdge(dut.clk)
    cycles = 0
    while not dut.clean.value:
        await settled()
        assert dut.user__req__valid.value and not dut.user__req__ready.value and not dut.port__req__valid.value
        await FallingEdge(dut.clk)
        cycles += 1
    assert 8 <= cycles < 500 and not waiting.done()
    dut.drain.value = 0
    if KIND == "read":
        assert await StreamSink(dut, "user__data").recv_n(2) == [30, 33]
    else:
        await StreamSource(dut, "user__data").send_all([8, 9])
        while not dut.user__idle.value:
            await FallingEdge(dut.clk)
        assert model.words == {300 + i: 0 for i in range(8)} | {10: 8, 11: 9}
    await waiting
    report_point("refused: a request while a guard drains")
