# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The weight buffer of a core with several slots: it is told of pass after pass whether the LM head's segments come."""

import cocotb
from cocotb.triggers import FallingEdge

from hw.memory.weights import WeightBuffer
from sim.cocotb_streams import StreamSink, report, reset, rng
from sim.testbench import Bench
from tellme.spec.program import MAX_SEGMENTS, Segment, pack_segments
from tests.hw.layouts import layouts_of
from tests.hw.memory_model import QueuedReadModel, ReadModel
from tests.hw.weights.tb_manager import BURST, PLAIN, SCATTERED, Requests, SegmentMemory, at_rest, memory, stop

PARAMETERS = {"chunk": 4, "head_tokens": 4, "slots": 4, "sdram_bytes": 4 << 20}
BENCHES = [Bench(name="slots4", build=lambda: WeightBuffer(layouts_of(**PARAMETERS), blocks=1))]
LAYOUTS = layouts_of(**PARAMETERS)
#: A list without an LM head, and one whose LM head takes long to leave out.
BODY_ONLY = (Segment(0x10, 70), Segment(0x200, 3))
LONG_HEAD = (Segment(0x10, 40), *(Segment(0x1000 + 0x10 * i, 1, lm_head=True) for i in range(MAX_SEGMENTS - 1)))


def words_of_pass(words, segments, lm_head):
    return [words[a] | words[a + 1] << 32 for s in segments if lm_head or not s.lm_head for a in range(s.address, s.end, 2)]


async def start(dut, segments):
    """Reset, and the list; a start."""
    dut.control__start.value = dut.control__stop.value = dut.control__begin.value = dut.port__data__valid.value = 0
    dut.out__ready.value = 0
    list_ = SegmentMemory(dut)
    cocotb.start_soon(list_.run())
    await reset(dut)
    await list_.write(pack_segments(segments))
    return list_


async def begin(dut):
    await at_rest(dut)
    dut.control__start.value = 1
    await FallingEdge(dut.clk)
    dut.control__start.value = 0


async def tell(dut, lm_head):
    dut.control__begin.value, dut.control__lm_head.value = 1, int(lm_head)
    await FallingEdge(dut.clk)
    dut.control__begin.value = 0
    # Nobody looks at it but with the pulse.
    dut.control__lm_head.value = int(not lm_head)


async def wait(dut, cycles):
    for _ in range(cycles):
        await FallingEdge(dut.clk)


async def run_passes(dut, sink, words, segments, decisions, delay):
    """Tell of each pass some cycles behind the last word of the pass before, and compare the words."""
    for lm_head in decisions:
        await wait(dut, delay())
        await tell(dut, lm_head)
        expected = words_of_pass(words, segments, lm_head)
        assert await sink.recv_n(len(expected)) == expected
    return sum(len(words_of_pass(words, segments, lm_head)) for lm_head in decisions)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def passes_with_and_without_the_lm_head(dut):
    """Each list with drawn passes, told at once and late, with pauses of memory and reader; and again after a stop."""
    random = rng("passes")
    total = 0
    list_ = await start(dut, PLAIN)
    words = {}
    pause = lambda: random.choice((0, 0, 0, 0, 1, 5, 40))  # noqa: E731
    cocotb.start_soon(ReadModel(dut, "port", words, request=LAYOUTS.memory_request, latency=8, pause=pause).run())
    for segments in (PLAIN, SCATTERED, BODY_ONLY, LONG_HEAD, PLAIN):
        for stall in (0.0, 0.6):
            await at_rest(dut)
            await list_.write(pack_segments(segments))
            words.clear()
            words.update(memory(segments))
            await begin(dut)
            sink = StreamSink(dut, "out", stall=stall, rng=rng(f"out {stall}"))
            decisions = [True, False, False, True] + [random.random() < 0.5 for _ in range(4)]
            total += await run_passes(dut, sink, words, segments, decisions,
                                      lambda: random.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 30, 200, 1500)))
            await stop(dut)
    report(cases=total)


async def check_waits(dut, segments):
    words = memory(segments)
    await start(dut, segments)
    requests = Requests(dut)
    cocotb.start_soon(requests.run())
    cocotb.start_soon(QueuedReadModel(dut, "port", words, request=LAYOUTS.memory_request, latency=5).run())
    await begin(dut)
    body = sum(2 * s.words64 for s in segments if not s.lm_head)
    head = sum(2 * s.words64 for s in segments if s.lm_head)
    sink = StreamSink(dut, "out", rng=rng("out"))
    asked = body
    for lm_head in (False, True, True, False):
        # All that can be read is read before it is told.
        await wait(dut, 1500)
        assert sum(length for _, length, _ in requests.taken) == asked
        await tell(dut, lm_head)
        expected = words_of_pass(words, segments, lm_head)
        assert await sink.recv_n(len(expected)) == expected
        asked += (head if lm_head else 0) + body


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def what_is_not_told_is_not_asked_for(dut):
    """Without a word of a pass its body is read ahead and no more."""
    await check_waits(dut, PLAIN)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_list_without_an_lm_head(dut):
    """It is read ahead once."""
    await check_waits(dut, BODY_ONLY)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_pass_that_was_told_early_costs_no_cycle(dut):
    """One request each three cycles across the LM head and the list's end."""
    segments = (Segment(0x1000, 3 * BURST), Segment(0x80, 2 * BURST, lm_head=True))
    await start(dut, segments)
    requests = Requests(dut)
    words = memory(segments)
    cocotb.start_soon(QueuedReadModel(dut, "port", words, request=LAYOUTS.memory_request, latency=40).run())
    await begin(dut)
    cocotb.start_soon(requests.run())
    await tell(dut, True)
    dut.out__ready.value = 1
    await wait(dut, 2500)
    # The LM head of the first pass, and the body of the next one, whose LM head waits.
    parts = [(s.address + at, 2 * BURST) for s in segments for at in range(0, 2 * s.words64, 2 * BURST)]
    assert [r[:2] for r in requests.taken] == [*parts, *parts[:3]]
    cycles = [r[2] for r in requests.taken]
    assert [b - a for a, b in zip(cycles, cycles[1:], strict=False)] == [3] * 7, cycles
