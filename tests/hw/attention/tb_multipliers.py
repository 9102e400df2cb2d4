# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Decode attention's multipliers: both providers make the same products."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.attention.multipliers import GroupBanks, OwnMultipliers, SharedMultipliers
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tests.hw.layouts import pack, payload_of, unpack, words_of

SHARED = bool(os.environ.get("SHARED"))
BENCHES = [Bench(name="own", build=lambda: OwnMultipliers(GroupBanks(3, shared=False)), tests=("products",)),
           Bench(name="shared", build=lambda: SharedMultipliers(GroupBanks(3, shared=True)), env={"SHARED": "1"},
                 tests=("products",))]
BANKS = GroupBanks(3, shared=SHARED)
UNIT = (SharedMultipliers if SHARED else OwnMultipliers)(BANKS)


def code(random):
    return random.choice((random.randint(-128, 127), -128, 127))


@cocotb.test()
async def products(dut):
    """A word a cycle, K's and V's in any order: the products three cycles later."""
    random, n, count = rng("products"), len(BANKS.numbers), 600
    await reset(dut)
    words = [[code(random) for _ in range(4)] for _ in range(count)]
    q = [[[code(random) for _ in range(4)] for _ in range(n)] for _ in range(count)]
    weights = [[random.choice((random.getrandbits(16), 0, 65504)) for _ in range(n)] for _ in range(count)]
    of_v = [random.getrandbits(1) for _ in range(count)]
    for cycle in range(count + 3):
        if cycle < count:
            (dut.word.value,) = words_of(words[cycle])
        if 1 <= cycle <= count:
            dut.q.value = pack(payload_of(UNIT, "q"), q[cycle - 1])
            dut.weights.value = pack(payload_of(UNIT, "weights"), weights[cycle - 1])
            dut.of_v.value = of_v[cycle - 1]
        if cycle >= 3:
            at = cycle - 3
            for name, is_v in (("k", False), ("v", True)):
                # The products that the contract does not promise are not looked at.
                if SHARED and of_v[at] != is_v:
                    continue
                got = unpack(payload_of(UNIT, name), int(getattr(dut, name).value))
                assert got == [[w * (weights[at][b] if is_v else q[at][b][i]) for i, w in enumerate(words[at])]
                               for b in range(n)], (name, at)
        await FallingEdge(dut.clk)
    report(cases=count)
