# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The weight buffer: the right words in order, whatever the memory and the engine do."""

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.control import ModelShape
from hw.memory.weights import WeightBuffer
from sim.cocotb_streams import StreamSink, report, report_shares, reset, rng
from sim.testbench import Bench
from tests.hw.layouts import pack
from tests.hw.memory_model import ReadModel

BENCHES = [Bench(name="blocks1", build=lambda: WeightBuffer(blocks=1))]
BASE, BODY, HEAD = 0x100, 150, 70


def memory():
    random = rng("memory")
    return {BASE + i: random.getrandbits(32) for i in range(2 * (BODY + HEAD))}


def sequence(words, tokens, plain):
    """The 64-bit words of so many tokens, the head left out of the first ones."""
    all_ = [words[BASE + 2 * i] | words[BASE + 2 * i + 1] << 32 for i in range(BODY + HEAD)]
    return [w for t in range(tokens) for w in (all_[:BODY] if t < plain else all_)]


async def begin(dut, plain):
    dut.shape.value = pack(ModelShape, weights_base=BASE, body_words64=BODY, head_words64=HEAD)
    dut.control__plain_tokens.value = plain
    for _ in range(2000):
        if dut.control__idle.value:
            break
        await FallingEdge(dut.clk)
    assert dut.control__idle.value, "not idle 2,000 cycles after a stop"
    dut.control__start.value = 1
    await FallingEdge(dut.clk)
    dut.control__start.value = 0


async def start(dut):
    dut.control__start.value = dut.control__stop.value = dut.port__data__valid.value = 0
    await reset(dut)


async def check(dut, *, pause=None, stall=0.0, latency=8, plain=1, tokens=3):
    await start(dut)
    words = memory()
    cocotb.start_soon(ReadModel(dut, "port", words, latency=latency, pause=pause).run())
    sink = StreamSink(dut, "out", stall=stall, rng=rng("out"))
    await begin(dut, plain)
    expected = sequence(words, tokens, plain)
    assert await sink.recv_n(len(expected)) == expected
    report_shares(out_ready=sink.low_share)
    report(cases=len(expected))


@cocotb.test()
async def plain_and_head_tokens(dut):
    await check(dut, plain=2, tokens=5)


@cocotb.test()
async def memory_pauses_0_to_200(dut):
    random = rng("pause")
    await check(dut, pause=lambda: random.choice((0, 0, 0, 0, 1, 5, 40, 200)), tokens=2)


@cocotb.test()
async def stalls_10(dut):
    random = rng("pause")
    await check(dut, pause=lambda: int(random.random() < 0.1), stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    random = rng("pause")
    await check(dut, pause=lambda: 9 if random.random() < 0.9 else 0, stall=0.9, tokens=2)


@cocotb.test()
async def fills_ahead_and_no_further(dut):
    """Nobody takes: the buffer fills up, asks for no more than it holds, and loses nothing."""
    await start(dut)
    words = memory()
    model = ReadModel(dut, "port", words)
    cocotb.start_soon(model.run())
    dut.out__ready.value = 0
    await begin(dut, 0)
    for _ in range(3000):
        await FallingEdge(dut.clk)
    depth = WeightBuffer.WORDS_PER_BLOCK
    assert depth - WeightBuffer.BURST // 2 <= model.count // 2 <= depth + 4
    sink = StreamSink(dut, "out")
    expected = sequence(words, 4, 0)
    assert await sink.recv_n(len(expected)) == expected


@cocotb.test()
async def one_word_a_cycle(dut):
    """What is in the buffer leaves without a lost cycle."""
    await start(dut)
    words = memory()
    cocotb.start_soon(ReadModel(dut, "port", words).run())
    dut.out__ready.value = 0
    await begin(dut, 0)
    for _ in range(3000):
        await FallingEdge(dut.clk)
    dut.out__ready.value = 1
    for i in range(400):
        assert dut.out__valid.value, f"no word in cycle {i}"
        await FallingEdge(dut.clk)


@cocotb.test()
async def stop_and_start_again(dut):
    """A stop in the middle of a burst ends cleanly, and the next start begins with the first word."""
    await start(dut)
    words = memory()
    random = rng("stop")
    cocotb.start_soon(ReadModel(dut, "port", words).run())
    for round_ in range(12):
        await begin(dut, round_ % 2)
        sink = StreamSink(dut, "out", stall=0.3, rng=rng("out"))
        expected = sequence(words, 2, round_ % 2)[:random.randint(1, 120)]
        assert await sink.recv_n(len(expected)) == expected
        for _ in range(random.randint(0, 60)):
            await FallingEdge(dut.clk)
        dut.control__stop.value = 1
        await FallingEdge(dut.clk)
        dut.control__stop.value = 0
    report(cases=12)
