# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Clients that are wider or narrower than the memory: requests and words as they should be, a word of the narrow side a cycle."""

import os

import cocotb
from cocotb.triggers import FallingEdge
from cocotb.utils import get_sim_time

from hw.lib.ports import MemorySpec, MemoryWord, RequestLayout, WordRequest
from hw.memory.width import reader, writer
from sim.cocotb_streams import PERIOD_NS, StreamSink, StreamSource, report, report_shares, reset, rng
from sim.testbench import Bench
from tests.hw.layouts import pack, unpack

#: Client's bits, memory's bits.  Of one width there is nothing between them; the hub's bench has such clients.
WIDTHS = {"wide": (64, 32), "narrow": (32, 64), "quarter": (32, 128)}


def spec_of(bits):
    return MemorySpec(data_bits=bits, addr_bits=14, len_bits=10, burst=8)


RATES = ("full_rate", "stalls_10", "stalls_90")
BENCHES = [Bench(name=f"{mode}-{name}", build=lambda c=client, b=bits, u=unit: u(c, spec_of(b)),
                 tests=tuple(f"{mode}s_{rate}" for rate in RATES), env={"WIDTH": name})
           for name, (client, bits) in WIDTHS.items() for mode, unit in (("read", reader), ("write", writer))]
CLIENT, BITS = WIDTHS[os.environ.get("WIDTH", "wide")]
SPEC = spec_of(BITS)
OWN, LANES = CLIENT // 32, BITS // 32


def draw(random):
    """(addr, len) of a request in 32-bit words."""
    return min(OWN, LANES) * random.randint(0, 200), OWN * random.randint(1, 40)


def span(addr, count):
    """The memory's words that a request touches."""
    return range(addr // LANES, -(-(addr + count) // LANES))


async def requests(dut, asked, share):
    """Send the client's requests, and check what the memory is asked for."""
    source, sink = StreamSource(dut, "client__req"), StreamSink(dut, "port__req", stall=share, rng=rng("req"))
    task = cocotb.start_soon(source.send_all([pack(RequestLayout(SPEC), addr=a, len=n) for a, n in asked]))
    for addr, count in asked:
        words = span(addr, count)
        assert unpack(WordRequest(SPEC), await sink.recv()) == {"addr": words.start, "len": len(words)}
    await task


async def run(dut, share, body):
    await reset(dut)
    random = rng("requests")
    asked = [draw(random) for _ in range(25 if share < 0.5 else 5)]
    task = cocotb.start_soon(requests(dut, asked, share))
    start = get_sim_time("ns")
    low = await body(asked, random)
    await task
    if not share:
        # The narrower side moves a word a cycle; a request's first word may come a cycle or two behind the request.
        narrow = min(OWN, LANES)
        most = sum(-(-count // narrow) for _, count in asked) if OWN >= LANES else sum(count for _, count in asked)
        assert (get_sim_time("ns") - start) / PERIOD_NS <= most + 10
    report_shares(**low)
    report(cases=len(asked))


async def read(dut, share):
    async def body(asked, random):
        memory = [random.getrandbits(32) for _ in range(1 << 12)]
        source = StreamSource(dut, "port__data", idle=share, rng=rng("port"))
        sink = StreamSink(dut, "client__data", stall=share, rng=rng("client"))
        words = [w for addr, count in asked for w in span(addr, count)]
        cocotb.start_soon(source.send_all([sum(memory[w * LANES + i] << 32 * i for i in range(LANES)) for w in words]))
        for addr, count in asked:
            want = [sum(memory[a + i] << 32 * i for i in range(OWN)) for a in range(addr, addr + count, OWN)]
            assert await sink.recv_n(len(want)) == want
        return {"client_ready": sink.low_share, "port_valid": source.low_share}

    await run(dut, share, body)


async def write(dut, share):
    dut.port__idle.value = 0

    async def body(asked, random):
        source = StreamSource(dut, "client__data", idle=share, rng=rng("client"))
        sink = StreamSink(dut, "port__data", stall=share, rng=rng("port"))
        given = [{addr + i: random.getrandbits(32) for i in range(count)} for addr, count in asked]
        cocotb.start_soon(source.send_all([sum(words[a + i] << 32 * i for i in range(OWN))
                                           for words in given for a in list(words)[::OWN]]))
        for (addr, count), words in zip(asked, given, strict=True):
            for w, bits in zip(span(addr, count), await sink.recv_n(len(span(addr, count))), strict=True):
                got = unpack(MemoryWord(SPEC), bits)
                lanes = [w * LANES + i in words for i in range(LANES)]
                assert got.get("lanes", 1) == sum(lane << i for i, lane in enumerate(lanes))
                assert all(got["word"] >> 32 * i & 0xFFFFFFFF == words[w * LANES + i] for i in range(LANES) if lanes[i])
        for idle in (1, 0):
            dut.port__idle.value = idle
            await FallingEdge(dut.clk)
            assert dut.client__idle.value == idle
        return {"client_valid": source.low_share, "port_ready": sink.low_share}

    await run(dut, share, body)


@cocotb.test()
async def reads_full_rate(dut):
    await read(dut, 0.0)


@cocotb.test()
async def reads_stalls_10(dut):
    await read(dut, 0.1)


@cocotb.test()
async def reads_stalls_90(dut):
    await read(dut, 0.9)


@cocotb.test()
async def writes_full_rate(dut):
    await write(dut, 0.0)


@cocotb.test()
async def writes_stalls_10(dut):
    await write(dut, 0.1)


@cocotb.test()
async def writes_stalls_90(dut):
    await write(dut, 0.9)
