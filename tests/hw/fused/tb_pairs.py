# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""RoPE and activation, which take elements in pairs, against NumPy (binary16) and the scalar specification."""

import os
from functools import partial

import cocotb
import numpy as np
from float_vectors import FMT, FORMATS, VECTORS, drive, judge, near, nightly, specials, tie_add, tie_mul

from hw.fused.activation import Activation
from hw.fused.rope import Rope
from sim.cocotb_streams import report, rng
from sim.testbench import Bench
from tellme.spec.activation import activation, rope, sigmoid18
from tellme.spec.formats import BINARY16
from tellme.spec.tables import SIGMOID_FRAC_BITS
from tests.hw.layouts import pack, payload_of

UNITS = {"rope": Rope, "activation": Activation, "activation_register": partial(Activation, table_register=True)}
BENCHES = [Bench(name=f"{op}-{name}", build=lambda unit=unit, fmt=fmt: unit(fmt), env={"FMT": name, "OP": op},
                 nightly=nightly(name) or ("activation_register has the same tests; the boards without that register, which CI "
                                           "simulates, run models" if op == "activation" else ""))
           for op, unit in UNITS.items() for name, fmt in FORMATS.items()]
OP = os.environ.get("OP", "rope")
W = FMT.width
UNIT = UNITS[OP](FMT)
ELEMENT, RESULT = (payload_of(UNIT, port) for port in ("i", "o"))


def result(y, **tag):
    return pack(RESULT, y=y, nonfinite=not FMT.is_finite(y), **tag)


def rope_judge(x0, x1, c, s):
    """The rotated pair: by NumPy's binary16 where that is the format, by the specification elsewhere."""
    if FMT is not BINARY16:
        return rope(x0, x1, c, s, FMT)
    return (judge(FMT, "add", judge(FMT, "mul", x0, c), FMT.neg(judge(FMT, "mul", x1, s))),
            judge(FMT, "add", judge(FMT, "mul", x0, s), judge(FMT, "mul", x1, c)))


def activation_judge(gate, up, relu2, act_exp):
    """f(gate) * up: float64 holds f(gate) exactly, NumPy rounds it to binary16; the specification elsewhere."""
    if FMT is not BINARY16:
        return activation(gate, up, relu2=bool(relu2), act_exp=act_exp, fmt=FMT)
    with np.errstate(all="ignore"):
        x = float(np.array(gate, np.uint16).view(np.float16))
        if relu2:
            f = x * x if x > 0 or x != x else 0.0
        else:
            factor = sigmoid18(gate, FMT) if np.isfinite(x) else float(x > 0)
            f = x * factor * (2.0 ** -SIGMOID_FRAC_BITS if np.isfinite(x) else 1.0)
        p = np.float64(f * 2.0 ** -act_exp).astype(np.float16)
    return FMT.nan if np.isnan(p) else judge(FMT, "mul", int(p.view(np.uint16)), up)


def rope_case(x0, x1, c, s):
    """Two payloads and two results of a pair."""
    return [pack(ELEMENT, x=x, cos=c, sin=s) for x in (x0, x1)], [result(y) for y in rope_judge(x0, x1, c, s)]


def activation_case(gate, up, relu2, act_exp):
    tag = up & 1
    return ([pack(ELEMENT, x=x, relu2=relu2, act_exp=act_exp, tag=t) for x, t in ((gate, 1 - tag), (up, tag))],
            [result(activation_judge(gate, up, relu2, act_exp), tag=tag)])


def moderate(random):
    """A value of a size that activations have: between 2**-10 and 2**6."""
    field = FMT.bias + random.randint(-10, 5)
    return random.getrandbits(1) << W - 1 | field << FMT.frac_bits | random.getrandbits(FMT.frac_bits)


ONE = FMT.bias << FMT.frac_bits


def rope_tie(random):
    """A pair with a product, or a sum, halfway between two floats or one unit of an operand beside that."""
    if random.getrandbits(1):
        x0, c = tie_mul(random, FMT)
        x1, s = tie_mul(random, FMT)
    else:
        x0, x1 = tie_add(random, FMT)
        c = s = ONE
    return rope_case(x0, x1, c, s)


def activation_tie(random):
    """The square, the scaled SiLU or the product with up halfway between two floats, or one unit beside."""
    f = FMT.frac_bits
    beside = random.choice((-1, 0, 1))
    kind = random.randrange(3)
    if kind == 0:
        # m = odd * 2**j: its square ends in 2j zeros, and the bit above them is half of the last that is kept.
        j = f // 2
        lost = 2 * j + 1
        while True:
            m = (random.getrandbits(f + 1 - j) | 1) << j
            if m >= 1 << f and (m * m).bit_length() - lost == f + 1:
                break
        gate = (FMT.bias + random.randint(-6, 3)) << f | m - (1 << f)
        return activation_case(gate + beside, ONE, 1, 0)
    if kind == 1 and FMT is BINARY16:
        # From 16 on SiLU is x; scaled into the subnormals an odd significand loses one bit.
        power = random.randint(4, 14)
        gate = (FMT.bias + power) << f | random.getrandbits(f) | 1
        return activation_case(gate + beside, ONE, 0, power - f - FMT.min_exp + 1)
    # From 16 on SiLU is x, and the product rounds.
    gate, up = tie_mul(random, FMT)
    gate = (gate & (1 << f) - 1) | (FMT.bias + random.randint(4, 6)) << f
    up = (up & (1 << f) - 1) | (FMT.bias + random.randint(-6, 6)) << f | random.getrandbits(1) << W - 1
    return activation_case(gate, up, 0, 0)


def cases_of(random, n):
    """A third any bit patterns, a third with exponents near each other and of usual sizes, a third ties."""
    out = []
    for i in range(n):
        if i % 3 == 2:
            out.append(rope_tie(random) if OP == "rope" else activation_tie(random))
            continue
        a = random.getrandbits(W)
        b = random.getrandbits(W) if i % 3 == 0 else near(random, FMT, a)
        if i % 6 == 4:
            a, b = moderate(random), moderate(random)
        if OP == "rope":
            # cos and sin are at most 1.
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
    one = ONE
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
    cycles, first, sent = await check(dut, cases_of(rng("cases"), VECTORS))
    assert first == UNIT.LATENCY + 1
    last = UNIT.LATENCY + (1 if OP == "rope" else 0)
    assert cycles == sent + last, "less than an element a cycle"


@cocotb.test()
async def stalls_10(dut):
    await check(dut, cases_of(rng("cases"), 500), idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await check(dut, cases_of(rng("cases"), 100), idle=0.9, stall=0.9)
