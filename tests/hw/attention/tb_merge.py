# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Merging the heads of two pipelines: no head lost or mixed, each input's heads in order, inputs in turn, and a code per cycle if
both inputs have codes."""

import cocotb
from cocotb.utils import get_sim_time

from hw.attention.merge import HeadMerge
from hw.lib.types import ScaleLayout
from sim.cocotb_streams import PERIOD_NS, StreamSink, StreamSource, report, reset, rng
from sim.testbench import Bench
from tests.hw.layouts import layouts_of, pack, unpack

INPUTS = 2
LAYOUTS = layouts_of(chunk=4)
BENCHES = [Bench(name="two", build=lambda: HeadMerge(LAYOUTS, inputs=INPUTS))]


def some_heads(random, number, n, dim):
    """``n`` heads of an input, whose tokens are its own."""
    return [[pack(LAYOUTS.head_codes, code=random.randint(-128, 127), last=int(i == dim - 1), head=head,
                  token=number + INPUTS * (head % 2), scale=unpack(ScaleLayout, random.getrandbits(ScaleLayout.size)))
             for i in range(dim)] for head in range(n)]


def token(head):
    """Whose head it is."""
    return unpack(LAYOUTS.head_codes, head[0])["token"] % INPUTS


async def merge(dut, heads, *, idle=0.0, stall=0.0):
    """The heads in the order in which they came out, and the cycles that it took."""
    await reset(dut)
    sink = StreamSink(dut, "o", stall=stall, rng=rng("o"))
    for s, mine in enumerate(heads):
        source = StreamSource(dut, f"i__{s}", idle=idle, rng=rng(f"i{s}"))
        cocotb.start_soon(source.send_all([word for head in mine for word in head]))
    began = get_sim_time("ns")
    words = await sink.recv_n(sum(len(head) for mine in heads for head in mine))
    cycles = (get_sim_time("ns") - began) / PERIOD_NS
    got = [[]]
    for word in words:
        got[-1].append(word)
        if unpack(LAYOUTS.head_codes, word)["last"]:
            got.append([])
    assert got.pop() == []
    for s, mine in enumerate(heads):
        assert [head for head in got if token(head) == s] == mine
    return got, cycles


@cocotb.test()
async def a_code_a_cycle(dut):
    """Two inputs that always have a code take turns, and no cycle is lost between them."""
    for dim in (16, 64):
        heads = [some_heads(rng("heads"), s, 8, dim) for s in range(INPUTS)]
        got, cycles = await merge(dut, heads)
        assert [token(head) for head in got] == [0, 1] * 8
        assert cycles <= 2 * 8 * dim + 2, (dim, cycles)
    report(cases=2 * 8 * (16 + 64))


@cocotb.test()
async def one_input_alone(dut):
    _, cycles = await merge(dut, [[], some_heads(rng("heads"), 1, 8, 16)])
    assert cycles <= 8 * 16 + 3, cycles
    report(cases=8 * 16)


@cocotb.test()
async def stalls(dut):
    # A source makes up for cycles in which it had to wait, and the inputs wait for each other, so that idle stays below a half.
    for idle, stall in ((0.1, 0.1), (0.4, 0.1), (0.1, 0.9)):
        await merge(dut, [some_heads(rng("heads"), s, n, 16) for s, n in enumerate((9, 5))], idle=idle, stall=stall)
    report(cases=3 * 14 * 16)
