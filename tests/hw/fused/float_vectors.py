# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Test vectors of the float units, a fast driver, and NumPy as an independent judge for binary16."""

import os
from itertools import product

import numpy as np
from cocotb.triggers import FallingEdge

from sim.cocotb_streams import report, report_shares, reset, rng, settled
from tellme.spec.formats import BINARY16, WIDE24, FloatFormat

FORMATS = {"binary16": BINARY16, "wide24": WIDE24}


def nightly(name: str) -> str:
    """Why CI leaves the bench of a format to the night, if it does."""
    return "" if name == "binary16" else "no preset computes in this format"


FMT = FORMATS[os.environ.get("FMT", "binary16")]
#: Random vectors of a unit's test in CI; make nightly takes more (tools/ci.py).
VECTORS = int(os.environ.get("TELLME_VECTORS", "20000"))


def specials(fmt: FloatFormat) -> list[int]:
    """Zeros, subnormals, powers of two, ends of the range, infinities, NaN; both signs."""
    one = fmt.bias << fmt.frac_bits
    positive = [0, 1, 2, 3, (1 << fmt.frac_bits) - 1, 1 << fmt.frac_bits, (1 << fmt.frac_bits) + 1, one - 1, one, one + 1,
                one + (1 << fmt.frac_bits - 1), fmt.inf - 1, fmt.inf - 2, fmt.inf >> 1, fmt.inf, fmt.nan, fmt.inf | 1]
    return positive + [p | fmt.sign_bit for p in positive]


def special_pairs(fmt: FloatFormat):
    return list(product(specials(fmt), repeat=2))


def near(random, fmt: FloatFormat, a: int) -> int:
    """Any value whose exponent lies within 12 of that of a."""
    field = (a >> fmt.frac_bits & fmt.exp_max) + random.randint(-12, 12)
    field = min(max(field, 0), fmt.exp_max - 1)
    return random.getrandbits(1) << fmt.width - 1 | field << fmt.frac_bits | random.getrandbits(fmt.frac_bits)


def tie_add(random, fmt: FloatFormat) -> tuple[int, int]:
    """Operands whose exact sum lies halfway between two floats, or one unit of the last place beside that."""
    f = fmt.frac_bits
    # a has its last bit at 2**e; b is an odd number of halves of it.
    e = random.randint(f + 3, fmt.exp_max - 2)
    a = random.getrandbits(1) << fmt.width - 1 | e << f | random.getrandbits(f)
    half = e - f - 1
    b = (half << f) + random.choice((-1, 0, 1)) if half > 0 else 1
    return a, b | random.getrandbits(1) << fmt.width - 1


def tie_mul(random, fmt: FloatFormat) -> tuple[int, int]:
    """The same for a product: (2**f + x) * 3 * 2**k, whose last bit is half of the last bit that fits."""
    f, field = fmt.frac_bits, fmt.exp_max
    a = random.getrandbits(1) << fmt.width - 1 | random.randint(field // 4, field // 2) << f | random.getrandbits(f) | 1
    b = (random.randint(field // 4, field // 2) << f) | 1 << f - 1
    return a + random.choice((-1, 0, 1)), b


def judge(fmt: FloatFormat, op: str, a: int, b: int) -> int:
    """a op b: by NumPy's binary16 if that is the format, by the specification's exact integers otherwise."""
    if fmt is not BINARY16:
        return fmt.mul(a, b) if op == "mul" else fmt.add(a, b)
    with np.errstate(all="ignore"):
        x, y = (np.array(v, np.uint16).view(np.float16) for v in (a, b))
        result = x * y if op == "mul" else x + y
    return fmt.nan if np.isnan(result) else int(result.view(np.uint16))


async def drive(dut, payloads: list[int], *, idle: float = 0.0, stall: float = 0.0,
                results: int | None = None) -> tuple[list[int], int, int]:
    """Send all payloads into ``i`` and collect as many (or ``results``) from ``o``; (results, cycles, cycles to the
    first result)."""
    await reset(dut)
    random = rng("drive")
    out: list[int] = []
    sent = cycles = 0
    first = 0
    pending = None
    valid = False
    low = [0, 0]
    results = len(payloads) if results is None else results
    while len(out) < results:
        # Waiting for ready counts as valid high, so that idle cycles must make up for it.
        if not valid and sent < len(payloads) and not (idle and (random.random() < idle or low[0] < idle * cycles)):
            dut.i__payload.value = payloads[sent]
            valid = True
        dut.i__valid.value = int(valid)
        ready = not (stall and random.random() < stall)
        dut.o__ready.value = int(ready)
        low[0] += not valid
        low[1] += not ready
        await settled()
        taken = valid and bool(dut.i__ready.value)
        if dut.o__valid.value:
            value = int(dut.o__payload.value)
            assert pending is None or value == pending, "the payload changed before it was taken"
            pending = value
            if ready:
                if not out:
                    first = cycles
                out.append(value)
                pending = None
        else:
            assert pending is None, "valid fell before the payload was taken"
        await FallingEdge(dut.clk)
        cycles += 1
        if taken:
            sent += 1
            valid = False
    if idle or stall:
        report_shares(i_valid=low[0] / cycles, o_ready=low[1] / cycles)
    return out, cycles, first


async def check(dut, vectors, pack, expected, *, idle=0.0, stall=0.0) -> tuple[int, int]:
    """Drive vectors and compare each; (cycles, latency)."""
    got, cycles, first = await drive(dut, [pack(*v) for v in vectors], idle=idle, stall=stall)
    for vector, g in zip(vectors, got, strict=True):
        want = expected(*vector)
        assert g == want, (vector, hex(g), hex(want))
    report(cases=len(vectors))
    return cycles, first
