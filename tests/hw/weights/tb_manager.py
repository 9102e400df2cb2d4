# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The weight buffer: the right words in order, whatever the segments, the memory and the engine do."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.memory.weights import WeightBuffer
from sim.cocotb_streams import StreamSink, clocked, report, report_point, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.program import MAX_SEGMENTS, SEGMENT_ENTRIES, SEGMENT_WORDS, Segment, pack_segments
from tests.hw.layouts import fields, layouts_of
from tests.hw.memory_model import QueuedReadModel, ReadModel

#: Bytes of a core's memory: a preset's, and just what the segments lie in.
MEMORIES = {"blocks1": 1 << 25, "narrow": 4 << 20}
BENCHES = [Bench(name=name, build=lambda memory=memory: WeightBuffer(layouts_of(sdram_bytes=memory), blocks=1),
                 env={"MEMORY": str(memory)}) for name, memory in MEMORIES.items()]
POINTS = ("limit: a list of all entries", "limit: a segment of one word",
          "limit: an empty list", "limit: as many words as the buffer holds", "limit: a request of the longest burst")
LAYOUTS = layouts_of(sdram_bytes=int(os.environ.get("MEMORY", "4194304")))
BASE, BODY, HEAD = 0x100, 150, 70
#: A body in one piece and the LM head after it.
PLAIN = (Segment(BASE, BODY), Segment(BASE + 2 * BODY, HEAD, lm_head=True))
#: Out of order in memory, with gaps, from odd words on, of a word and of several requests, and the LM head in pieces.
SCATTERED = (Segment(0x901, 3), Segment(0x100, 65), Segment(0x40, 1), Segment(0x44, 1), Segment(0x2000, 128), Segment(0x500, 200),
             Segment(0x800, 2), Segment(0x3001, 64, lm_head=True), Segment(0x50, 1, lm_head=True))
BURST = WeightBuffer.BURST // 2


def memory(segments):
    random = rng("memory")
    return {s.address + i: random.getrandbits(32) for s in segments for i in range(2 * s.words64)}


def sequence(words, segments, chunks, plain):
    """The 64-bit words of so many chunks, the LM head left out of the first ones."""
    return [words[a] | words[a + 1] << 32 for c in range(chunks) for s in segments if c >= plain or not s.lm_head
            for a in range(s.address, s.end, 2)]


class SegmentMemory:
    """The list of segments behind the unit's port; ``words`` beyond what was written are those of an older list."""

    def __init__(self, dut):
        self._clk, self._dut = dut.clk, dut
        self.words = pack_segments([Segment(0x7000, 9)] * MAX_SEGMENTS)

    async def write(self, words):
        """A new list; the unit has looked at its first entry when this returns."""
        self.words[:len(words)] = words
        for _ in range(2):
            await FallingEdge(self._clk)

    @clocked
    async def run(self):
        while True:
            await settled()
            at = int(self._dut.segments__addr.value)
            await FallingEdge(self._clk)
            self._dut.segments__data.value = self.words[at]


class Requests:
    """Each request's address and length, with the cycle in which it was taken."""

    def __init__(self, dut):
        self._clk, self._dut = dut.clk, dut
        self.taken: list[tuple[int, int, int]] = []

    @clocked
    async def run(self):
        cycle = 0
        while True:
            await settled()
            if self._dut.port__req__valid.value and self._dut.port__req__ready.value:
                addr, length = fields(LAYOUTS.memory_request, int(self._dut.port__req__payload.value), "addr", "len")
                self.taken.append((addr, length, cycle))
            await FallingEdge(self._clk)
            cycle += 1


async def at_rest(dut):
    for _ in range(2000):
        if dut.control__idle.value:
            break
        await FallingEdge(dut.clk)
    assert dut.control__idle.value, "not idle 2,000 cycles after a stop"


async def begin(dut, plain):
    dut.control__plain_tokens.value = plain
    await at_rest(dut)
    dut.control__start.value = 1
    await FallingEdge(dut.clk)
    dut.control__start.value = 0


async def stop(dut):
    dut.control__stop.value = 1
    await FallingEdge(dut.clk)
    dut.control__stop.value = 0


async def start(dut, segments=PLAIN):
    dut.control__start.value = dut.control__stop.value = dut.port__data__valid.value = 0
    list_ = SegmentMemory(dut)
    cocotb.start_soon(list_.run())
    await reset(dut)
    await list_.write(pack_segments(segments))
    return list_


async def check(dut, segments=PLAIN, *, pause=None, stall=0.0, latency=8, plain=1, chunks=3):
    await start(dut, segments)
    words = memory(segments)
    cocotb.start_soon(ReadModel(dut, "port", words, request=LAYOUTS.memory_request, latency=latency, pause=pause).run())
    sink = StreamSink(dut, "out", stall=stall, rng=rng("out"))
    await begin(dut, plain)
    expected = sequence(words, segments, chunks, plain)
    assert await sink.recv_n(len(expected)) == expected
    report_shares(out_ready=sink.low_share)
    report(cases=len(expected))


@cocotb.test()
async def plain_and_head_tokens(dut):
    await check(dut, plain=2, chunks=5)


@cocotb.test()
async def memory_pauses_0_to_200(dut):
    random = rng("pause")
    await check(dut, pause=lambda: random.choice((0, 0, 0, 0, 1, 5, 40, 200)), chunks=2)


@cocotb.test()
async def stalls_10(dut):
    random = rng("pause")
    await check(dut, pause=lambda: int(random.random() < 0.1), stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    random = rng("pause")
    await check(dut, pause=lambda: 9 if random.random() < 0.9 else 0, stall=0.9, chunks=2)


@cocotb.test()
async def scattered_segments(dut):
    """Out of order, with gaps, of a single word, of the LM head, with and without it."""
    await check(dut, SCATTERED, plain=2, chunks=5)


@cocotb.test()
async def scattered_segments_stalls_90(dut):
    random = rng("pause")
    await check(dut, SCATTERED, pause=lambda: random.randint(0, 9), stall=0.9, plain=1, chunks=3)


@cocotb.test()
async def one_segment(dut):
    """No LM head, and a single word that is all there is."""
    await check(dut, (Segment(0x10, 1),), plain=1, chunks=40)
    report_point("limit: a segment of one word")


@cocotb.test()
async def a_full_list(dut):
    random = rng("list")
    segments = [Segment(0x1000 * i + random.randrange(0x800), random.choice((1, 2, 3, 64, 65)), lm_head=i > 250)
                for i in range(MAX_SEGMENTS)]
    assert len(pack_segments(segments)) == SEGMENT_WORDS * SEGMENT_ENTRIES
    await check(dut, segments, plain=1, chunks=2)
    report_point("limit: a list of all entries")


@cocotb.test()
async def random_lists(dut):
    """Lists that grow and shrink from run to run: what an older one left behind is not read."""
    list_ = await start(dut)
    random = rng("list")
    words: dict[int, int] = {}
    model = ReadModel(dut, "port", words, request=LAYOUTS.memory_request)
    cocotb.start_soon(model.run())
    total = 0
    for _ in range(25):
        count, first = random.randint(1, 6), random.randint(1, 6)
        segments = [Segment(0x400 * i + random.randrange(0x80), random.choice((1, 1, 2, 63, 64, 65, 130)), lm_head=i >= first)
                    for i in random.sample(range(6), count)]
        segments.sort(key=lambda s: s.lm_head)
        if segments[0].lm_head:
            continue
        await at_rest(dut)
        await list_.write(pack_segments(segments))
        words.clear()
        words.update(memory(segments))
        plain = random.randint(0, 2)
        await begin(dut, plain)
        sink = StreamSink(dut, "out", stall=random.choice((0, 0.5)), rng=rng("out"))
        expected = sequence(words, segments, 4, plain)
        assert await sink.recv_n(len(expected)) == expected
        total += len(expected)
        await stop(dut)
    report(cases=total)


@cocotb.test()
async def a_change_of_segments_costs_no_cycle(dut):
    """One request each three cycles, whether it begins a segment or not, and though a segment has a single word."""
    segments = (Segment(0x1000, 3 * BURST), Segment(0x400, 3 * BURST + 1), Segment(0x2000, 1), Segment(0x2100, 1),
                Segment(0x3000, 4 * BURST), Segment(0x80, 2 * BURST, lm_head=True))
    await start(dut, segments)
    requests = Requests(dut)
    cocotb.start_soon(QueuedReadModel(dut, "port", memory(segments), request=LAYOUTS.memory_request, latency=40).run())
    await begin(dut, 1)
    dut.out__ready.value = 1
    cocotb.start_soon(requests.run())
    for _ in range(2500):
        await FallingEdge(dut.clk)
    parts = [(s.address + at, min(2 * s.words64 - at, 2 * BURST), s.lm_head) for s in segments
             for at in range(0, 2 * s.words64, 2 * BURST)]
    expected = [part[:2] for part in parts if not part[2]] + [part[:2] for part in parts] * 9
    count = len(requests.taken)
    assert len(parts) + 5 < count <= len(expected) and [r[:2] for r in requests.taken] == expected[:count]
    # As long as there is room: then a request waits for words to leave.
    cycles = [r[2] for r in requests.taken[:10]]
    assert [b - a for a, b in zip(cycles, cycles[1:], strict=False)] == [3] * 9, cycles
    assert max(length for _, length, _ in requests.taken) == WeightBuffer.BURST
    report_point("limit: a request of the longest burst")
    report(cases=count)


@cocotb.test()
async def an_empty_list_hangs_nothing(dut):
    """No word comes, nothing is asked for, and a stop ends it; then a list with words runs."""
    list_ = await start(dut)
    words = memory(PLAIN)
    model = ReadModel(dut, "port", words, request=LAYOUTS.memory_request)
    cocotb.start_soon(model.run())
    dut.out__ready.value = 1
    for plain in (0, 3):
        await list_.write([0] * SEGMENT_WORDS)
        await begin(dut, plain)
        for _ in range(400):
            await FallingEdge(dut.clk)
            assert not dut.out__valid.value
        assert model.count == 0
        await stop(dut)
    await list_.write(pack_segments(PLAIN))
    await begin(dut, 0)
    sink = StreamSink(dut, "out")
    expected = sequence(words, PLAIN, 2, 0)
    assert await sink.recv_n(len(expected)) == expected
    report_point("limit: an empty list")


async def held_back(dut, segments):
    """Begin a pass while the engine takes nothing; the memory's words, and the memory."""
    words = memory(segments)
    model = ReadModel(dut, "port", words, request=LAYOUTS.memory_request)
    cocotb.start_soon(model.run())
    dut.out__ready.value = 0
    await begin(dut, 0)
    return words, model


async def let_go(dut, expected):
    """The engine takes all words, the first of which filled the buffer."""
    assert await StreamSink(dut, "out").recv_n(len(expected)) == expected
    report_point("limit: as many words as the buffer holds")


@cocotb.test()
async def fills_ahead_and_no_further(dut):
    """The engine takes nothing: the buffer fills up, asks for no more words than it can hold, and loses nothing."""
    await start(dut)
    words, model = await held_back(dut, PLAIN)
    for _ in range(3000):
        await FallingEdge(dut.clk)
    depth = WeightBuffer.WORDS_PER_BLOCK
    assert depth - WeightBuffer.BURST // 2 <= model.count // 2 <= depth + 4
    await let_go(dut, sequence(words, PLAIN, 4, 0))


@cocotb.test()
async def a_full_buffer(dut):
    """Requests of single words fill the buffer to its last place: it says that it holds 512 words, and asks for none until words
    have left."""
    segments = (Segment(0x1000, 8 * BURST), *(Segment(0x40 + 4 * i, 1) for i in range(60)))
    await start(dut, segments)
    words, model = await held_back(dut, segments)
    for _ in range(2500):
        await FallingEdge(dut.clk)
        assert int(dut.level.value) <= 512
    # Some words lie ahead of the reader.
    assert int(dut.level.value) == 512 and 512 < model.count // 2 <= 516
    await let_go(dut, sequence(words, segments, 2, 0))


@cocotb.test()
async def one_word_a_cycle(dut):
    """Words in the buffer leave without a lost cycle."""
    await start(dut)
    cocotb.start_soon(ReadModel(dut, "port", memory(PLAIN), request=LAYOUTS.memory_request).run())
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
    segments = SCATTERED
    await start(dut, segments)
    words = memory(segments)
    random = rng("stop")
    cocotb.start_soon(ReadModel(dut, "port", words, request=LAYOUTS.memory_request).run())
    for round_ in range(24):
        await begin(dut, round_ % 2)
        sink = StreamSink(dut, "out", stall=0.3, rng=rng("out"))
        expected = sequence(words, segments, 2, round_ % 2)[:random.randint(1, 600)]
        assert await sink.recv_n(len(expected)) == expected
        for _ in range(random.randint(0, 60)):
            await FallingEdge(dut.clk)
        await stop(dut)
    report(cases=24)
