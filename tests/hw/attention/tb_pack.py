# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Packing the heads of two pipelines into words: no head lost or mixed, each input's heads in order, inputs in turn; each input
takes a code per cycle."""

import cocotb
from cocotb.triggers import FallingEdge, Timer
from cocotb.utils import get_sim_time

from hw.attention.pack import WordMerge
from hw.lib.types import ScaleLayout
from sim.cocotb_streams import PERIOD_NS, StreamSink, StreamSource, report, report_shares, reset, rng
from sim.testbench import Bench
from tests.hw.layouts import layouts_of, pack, unpack, words_of

INPUTS = 2
LAYOUTS = layouts_of(chunk=4, max_head_dim=64)
BENCHES = [Bench(name="two", build=lambda: WordMerge(LAYOUTS, inputs=INPUTS))]


class Head:
    """A head of an input, whose tokens are its own."""

    def __init__(self, random, number, head, dim):
        self.label = {"token": number, "head": head, "scale": unpack(ScaleLayout, random.getrandbits(ScaleLayout.size))}
        self.codes = [random.randint(-128, 127) for _ in range(dim)]

    def sent(self):
        return [pack(LAYOUTS.head_codes, code=code, last=int(i == len(self.codes) - 1), **self.label)
                for i, code in enumerate(self.codes)]

    def wanted(self):
        """The expected words: the first code lowest."""
        words = words_of(self.codes)
        return [pack(LAYOUTS.head_words, codes=word, last=int(i == len(words) - 1), **self.label) for i, word in enumerate(words)]


def some_heads(random, number, dims):
    return [Head(random, number + INPUTS * (n % 2), n, dim) for n, dim in enumerate(dims)]


class PausingSink(StreamSink):
    """Takes nothing for ``pause`` cycles before each head, like attention while it sorts the head."""

    async def recv_heads(self, n, pause):
        heads = []
        for _ in range(n):
            for _ in range(pause):
                await FallingEdge(self._clk)
            words = [await self.recv()]
            while not unpack(LAYOUTS.head_words, words[-1])["last"]:
                words.append(await self.recv())
            heads.append(words)
        return heads


async def merge(dut, heads, *, idle=0.0, stall=0.0, pause=0):
    """The inputs' numbers in the order in which their heads came out; the cycles until all heads were out, and until all were
    in."""
    await reset(dut)
    sink = PausingSink(dut, "o", stall=stall, rng=rng("o"))
    sources = [StreamSource(dut, f"i__{s}", idle=idle, rng=rng(f"i{s}")) for s in range(INPUTS)]
    sending = [cocotb.start_soon(source.send_all([code for head in mine for code in head.sent()]))
               for source, mine in zip(sources, heads, strict=True)]
    began = get_sim_time("ns")
    got = await sink.recv_heads(sum(len(mine) for mine in heads), pause)
    cycles = (get_sim_time("ns") - began) / PERIOD_NS
    for s, mine in enumerate(heads):
        came = [words for words in got if unpack(LAYOUTS.head_words, words[0])["token"] % INPUTS == s]
        assert came == [head.wanted() for head in mine], s
    for task in sending:
        await task
    await FallingEdge(dut.clk)
    assert dut.empty.value
    report_shares(o_ready=sink.low_share, **{f"i{s}_valid": source.low_share for s, source in enumerate(sources)})
    order = [unpack(LAYOUTS.head_words, words[0])["token"] % INPUTS for words in got]
    return order, cycles, max(source.cycles for source in sources)


@cocotb.test()
async def two_codes_a_cycle(dut):
    """No input ever waits, though the sink pauses before each head: 3 cycles before a head of 16 codes, 5 before a longer one."""
    n = 12
    for dim, pause in ((16, 0), (16, 3), (24, 5), (32, 5), (64, 5)):
        heads = [some_heads(rng("heads"), s, [dim] * n) for s in range(INPUTS)]
        order, cycles, sent = await merge(dut, heads, pause=pause)
        # If no input waited, the input that had the last turn goes on.
        assert all(len(set(order[i:i + 3])) == INPUTS for i in range(len(order) - 2)), order
        assert sent == n * dim, (dim, pause, sent)
        # The last code's cycle, three until its word is out, then both last heads.
        assert cycles <= n * dim + 3 + INPUTS * (dim // 4 + pause), (dim, pause, cycles)
    report(cases=2 * n * (16 + 16 + 24 + 32 + 64))


@cocotb.test()
async def a_pause_is_made_up_for(dut):
    """Room for two heads: a sink that takes 40 cycles before its first heads holds no input up."""
    heads = [some_heads(rng("heads"), s, [64] * 4) for s in range(INPUTS)]
    _, _, sent = await merge(dut, heads, pause=14)
    assert sent == 4 * 64, sent
    report(cases=2 * 4 * 64)


@cocotb.test()
async def one_input_alone(dut):
    _, cycles, sent = await merge(dut, [[], some_heads(rng("heads"), 1, [16] * 8)])
    assert sent == 8 * 16
    assert cycles <= 8 * 16 + 4 + 4, cycles
    report(cases=8 * 16)


@cocotb.test()
async def a_word_a_cycle(dut):
    """Codes of both inputs that waited leave without a gap between words or heads."""
    await reset(dut)
    heads = [some_heads(rng("heads"), s, [32] * 4) for s in range(INPUTS)]
    for s, mine in enumerate(heads):
        await StreamSource(dut, f"i__{s}").send_all([code for head in mine for code in head.sent()])
    assert not dut.empty.value
    sink, began = PausingSink(dut, "o"), get_sim_time("ns")
    got = await sink.recv_heads(8, 0)
    assert (get_sim_time("ns") - began) / PERIOD_NS == 8 * 8
    assert sorted(got) == sorted(head.wanted() for mine in heads for head in mine)
    report(cases=2 * 4 * 32)


@cocotb.test()
async def empty_says_when_all_have_left(dut):
    """``empty`` is low while there is an incomplete word, an incomplete head, or a head that waits."""
    await reset(dut)
    source = StreamSource(dut, "i__1")
    (head,) = some_heads(rng("heads"), 1, [16])
    await FallingEdge(dut.clk)
    assert dut.empty.value
    for code in head.sent():
        await source.send(code)
        for _ in range(4):
            await FallingEdge(dut.clk)
            assert not dut.empty.value
    got = await PausingSink(dut, "o").recv_heads(1, 0)
    assert got == [head.wanted()]
    await Timer(1, "ns")
    assert not dut.empty.value
    await FallingEdge(dut.clk)
    assert dut.empty.value
    report(cases=16)


@cocotb.test()
async def stalls(dut):
    # A source makes up for cycles in which it had to wait, and the inputs wait for each other, so that idle stays below a half.
    for idle, stall in ((0.1, 0.1), (0.4, 0.1), (0.1, 0.9)):
        random = rng("heads")
        await merge(dut, [some_heads(random, s, [random.choice((16, 24, 64)) for _ in range(n)]) for s, n in enumerate((9, 5))],
                    idle=idle, stall=stall)
    report(cases=3 * 14)
