# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The weight buffer of a core whose LM head may run in two steps: a run has one form of the LM head, and not the other."""

import cocotb

from hw.memory.weights import WeightBuffer
from sim.cocotb_streams import StreamSink, report, rng
from sim.testbench import Bench
from tellme.spec.program import Segment, pack_segments
from tests.hw.layouts import layouts_of
from tests.hw.memory_model import ReadModel
from tests.hw.weights.tb_manager import at_rest, begin, memory, start, stop

LAYOUTS = layouts_of(sdram_bytes=4 << 20, two_steps=True)
BENCHES = [Bench(name="two-steps", build=lambda: WeightBuffer(LAYOUTS, blocks=1),
                 nightly="no board has an LM head in two steps; weights/manager has lists with and without a head")]
#: Forms of the LM head in pieces, behind each other and mixed; and lists with one form, or none.
LISTS = [[(False, False), (True, False), (True, True)],
         [(False, False), (False, False), (True, True), (True, False), (True, False), (True, True), (True, True)],
         [(False, False), (True, False)], [(False, False), (True, True)], [(False, False)]]


@cocotb.test()
async def one_form_of_the_head(dut):
    """Runs of either form, whose first chunks have no LM head; all lists."""
    dut.two_steps.value = 0
    list_ = await start(dut)
    random, words = rng("lengths"), {}
    cocotb.start_soon(ReadModel(dut, "port", words, request=LAYOUTS.memory_request).run())
    total = 0
    for kinds in LISTS:
        segments = [Segment(0x400 * i + 2, random.choice((1, 2, 63, 64, 65, 130)), *kind) for i, kind in enumerate(kinds)]
        for two_steps, plain in ((0, 1), (1, 0), (1, 2), (0, 0)):
            await at_rest(dut)
            await list_.write(pack_segments(segments))
            words.clear()
            words.update(memory(segments))
            dut.two_steps.value = two_steps
            await begin(dut, plain)
            sink = StreamSink(dut, "out", rng=rng("out"))
            expected = [words[a] | words[a + 1] << 32 for chunk in range(4) for s in segments
                        if not s.lm_head or (chunk >= plain and s.two_steps == bool(two_steps))
                        for a in range(s.address, s.end, 2)]
            assert await sink.recv_n(len(expected)) == expected, (kinds, two_steps, plain)
            total += len(expected)
            await stop(dut)
    report(cases=total)
