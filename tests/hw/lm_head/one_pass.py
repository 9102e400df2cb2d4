# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A pass of an LM head, of one token or of several, for its benches."""

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.types import MonitorLayout
from sim.cocotb_streams import settled
from tests.hw.layouts import fields

__all__ = ["one_pass"]


async def one_pass(dut, args, feeds):
    """Starts a pass with packed ``args`` and runs the coroutines ``feeds`` beside it, which must end before it does.

    Gives the cycles from the start to the end, and the logits that ``monitor`` showed, as numbers without a sign.
    """
    seen, finished = [], []

    async def watch():
        while not finished:
            # Just before the rising edge, when the models' outputs have settled: ``done`` must not last longer.
            await settled()
            valid, word = fields(MonitorLayout, int(dut.monitor.value), "valid", "word")
            if valid:
                seen.append(word)
            if dut.control__done.value:
                finished.append(True)
            await FallingEdge(dut.clk)

    dut.control__args.value = args
    assert not dut.busy.value
    dut.control__start.value = 1
    tasks = [cocotb.start_soon(feed) for feed in feeds]
    await FallingEdge(dut.clk)
    dut.control__start.value = 0
    task = cocotb.start_soon(watch())
    cycles = 1
    while not finished:
        await FallingEdge(dut.clk)
        cycles += 1
    await task
    await FallingEdge(dut.clk)
    assert all(feed.done() for feed in tasks), "a sum, a row or a word was left over"
    return cycles, [low | high << 16 for low, high in zip(seen[::2], seen[1::2], strict=True)]
