# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""RoPE and activation, which take elements in pairs, against the scalar specification."""

import os

import cocotb
from float_vectors import FMT, FORMATS, VECTORS, drive, near, specials

from hw.fused.activation import Activation
from hw.fused.rope import Rope
from sim.cocotb_streams import report, rng
from sim.testbench import Bench
from tellme.spec.activation import activation, rope

UNITS = {"rope": Rope, "activation": Activation}
BENCHES = [Bench(name=f"{op}-{name}", build=lambda unit=unit, fmt=fmt: unit(fmt), env={"FMT": name, "OP": op})
           for op, unit in UNITS.items() for name, fmt in FORMATS.items()]
OP = os.environ.get("OP", "rope")
W = FMT.width


def flagged(y):
    return y | (not FMT.is_finite(y)) << W


def rope_case(x0, x1, c, s):
    """Two payloads and two results of a pair."""
    table = c << W | s << 2 * W
    return [x0 | table, x1 | table], [flagged(y) for y in rope(x0, x1, c, s, FMT)]


def activation_case(gate, up, relu2, act_exp):
    tail = relu2 << W | (act_exp & 0xFF) << W + 1
    return [gate | tail, up | tail], [flagged(activation(gate, up, relu2=bool(relu2), act_exp=act_exp, fmt=FMT))]


def moderate(random):
    """A value of a size that activations have: between 2**-10 and 2**6."""
    field = FMT.bias + random.randint(-10, 5)
    return random.getrandbits(1) << W - 1 | field << FMT.frac_bits | random.getrandbits(FMT.frac_bits)


def cases_of(random, n):
    out = []
    for i in range(n):
        a = random.getrandbits(W)
        b = random.getrandbits(W) if i % 3 == 0 else near(random, FMT, a)
        if i % 3 == 2:
            a, b = moderate(random), moderate(random)
        if OP == "rope":
            # cos and sin are at most 1; ties come from powers of two.
            c, s = ((random.randint(0, FMT.bias) << FMT.frac_bits) | random.getrandbits(1) << W - 1 for _ in range(2)) \
                if i % 2 else (moderate(random), moderate(random))
            out.append(rope_case(a, b, c, s))
        else:
            out.append(activation_case(a, b, random.getrandbits(1), random.choice((0, 0, 0, 3, -2, 12))))
    return out


async def check(dut, cases, **options):
    sent = [p for inputs, _ in cases for p in inputs]
    want = [r for _, results in cases for r in results]
    # Activation gives one result for two elements.
    got, cycles, first = await drive(dut, sent, results=len(want), **options)
    for n, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g == w, (n, [hex(v) for v in cases[n // (len(want) // len(cases))][0]], hex(g), hex(w))
    report(cases=len(want))
    return cycles, first, len(sent)


@cocotb.test()
async def special_values(dut):
    one = FMT.bias << FMT.frac_bits
    values = specials(FMT)
    if OP == "rope":
        cases = [rope_case(a, b, c, s) for a in values for b in values for c, s in ((one, 0), (0, one), (one - 3, one >> 1))]
    else:
        sixteen = (FMT.bias + 4) << FMT.frac_bits
        values = [*values, sixteen, sixteen - 1, sixteen | FMT.sign_bit, sixteen - 1 | FMT.sign_bit]
        cases = [activation_case(a, b, r, 0) for a in values for b in values for r in (0, 1)]
    await check(dut, cases)


@cocotb.test()
async def random(dut):
    """One element a cycle; the first result LATENCY cycles after the pair's second element."""
    cycles, first, sent = await check(dut, cases_of(rng("cases"), VECTORS // 2))
    assert first == UNITS[OP].LATENCY + 1
    last = UNITS[OP].LATENCY + (1 if OP == "rope" else 0)
    assert cycles == sent + last, "less than an element a cycle"


@cocotb.test()
async def stalls_10(dut):
    await check(dut, cases_of(rng("cases"), 500), idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await check(dut, cases_of(rng("cases"), 100), idle=0.9, stall=0.9)
