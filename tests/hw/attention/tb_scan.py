# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scans over scores against the specification's softmax: sums, exponents and each weight, heads one after another."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.attention.scan import Scan
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tellme.spec.attention import SCORE_BITS, softmax
from tellme.spec.scale import Scale, pack16, unpack16
from tests.hw.layouts import pack, payload_of, unpack

GROUPS = 3
#: The longest context of a core, and one that has just the bench's keys.
CONTEXTS = {"groups3": 65535, "context64": 64}
BENCHES = [Bench(name=name, build=lambda n=n: Scan(groups=GROUPS, context=n), env={"CONTEXT": str(n)})
           for name, n in CONTEXTS.items()]
UNIT = Scan(groups=GROUPS, context=int(os.environ.get("CONTEXT", "64")))


class Rows:
    """Scores of a group's heads, V's scales of the keys, and what the specification makes of them."""

    def __init__(self, random, keys, kind):
        limit = 1 << SCORE_BITS - 1
        draw = {"any": lambda: random.randint(-limit, limit - 1), "near": lambda: random.randint(-3000, 3000),
                "flat": lambda: 77, "extreme": lambda: random.choice((-limit, limit - 1))}[kind]
        self.scores = [[draw() for _ in range(keys)] for _ in range(GROUPS)]
        scales = [Scale(random.randint(1024, 2047), random.randint(-30, 10)) for _ in range(keys)]
        self.v_scales = [pack16(Scale(1024, -100) if random.random() < 0.2 else scale) for scale in scales]
        self.softmax = [softmax(row, [unpack16(v) for v in self.v_scales]) for row in self.scores]


async def scan(dut, rows, weights):
    """One scan of all heads, and what left on ``weight`` with the cycle in which it did, counted from the first score on."""
    names = [(g, key) for g in range(GROUPS) for key in range(len(rows.v_scales))]
    left = []
    for cycle in range(len(names) + Scan.WEIGHT_CYCLES + 2):
        dut.on.value = cycle < len(names)
        if cycle < len(names):
            g, key = names[cycle]
            dut.at.value = pack(payload_of(UNIT, "at"), weights=weights, g=g, key=key)
        if 0 < cycle <= len(names):
            # As memories answer, a cycle later.
            g, key = names[cycle - 1]
            dut.score.value = rows.scores[g][key] & (1 << SCORE_BITS) - 1
            dut.v_scale.value = rows.v_scales[key]
            dut.top.value = max(rows.scores[g])
        weight = unpack(payload_of(UNIT, "weight"), int(dut.weight.value))
        if weight["on"]:
            left.append((cycle, weight["g"], weight["key"], weight["value"]))
        await FallingEdge(dut.clk)
    return left


@cocotb.test()
async def scans(dut):
    random = rng("scores")
    for name in ("on", "clear", "stat_g"):
        getattr(dut, name).value = 0
    await reset(dut)
    cases = 0
    for keys, kind in ((1, "any"), (2, "near"), (40, "any"), (60, "near"), (17, "flat"), (64, "flat"), (20, "extreme"),
                       (33, "near")):
        rows = Rows(random, keys, kind)
        dut.clear.value = 1
        await FallingEdge(dut.clk)
        dut.clear.value = 0
        assert await scan(dut, rows, 0) == []
        for g in range(GROUPS):
            dut.stat_g.value = g
            await FallingEdge(dut.clk)
            wanted = rows.softmax[g]
            assert (int(dut.total.value), dut.exponent.value.to_signed()) == (wanted.total, wanted.exponent), (keys, kind, g)
        assert await scan(dut, rows, 1) == [
            (g * keys + key + Scan.WEIGHT_CYCLES, g, key, weight)
            for g in range(GROUPS) for key, weight in enumerate(rows.softmax[g].weights)], (keys, kind)
        cases += keys * GROUPS
    report(cases=cases)
