# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Statistics: the sum of squares against exact integers, absmax against max."""

import os

import cocotb
from cocotb.triggers import FallingEdge
from float_vectors import VECTORS, near, specials

from hw.fused.statistics import Statistics
from sim.cocotb_streams import report, report_point, report_shares, reset, rng
from sim.testbench import Bench
from tellme.spec.formats import BINARY16 as F
from tellme.spec.quantise import square

BENCHES = [Bench(name="binary16", build=Statistics),
           Bench(name="tokens4", build=lambda: Statistics(tokens=4), env={"TOKENS": "4"},
                 tests=("tokens_in_any_order", "sums_begin_anew"))]
#: At least two tokens, because a token's number has at least one bit.
TOKENS = int(os.environ.get("TOKENS", "2"))
LONGEST = 8191
POINTS = ("limit: the longest vector of the largest elements",)


async def bring_up(dut):
    for name in ("x_valid", "x_first", "y_valid", "clear", "x", "y", "x_token", "y_token", "token"):
        getattr(dut, name).value = 0
    await reset(dut)


async def run(dut, xs, ys, *, idle=0.0, random=None):
    """One vector, whose x and y come apart by two cycles; checks both results.  (cycles, cycles without an element)."""
    dut.clear.value = 1
    await FallingEdge(dut.clk)
    dut.clear.value = 0
    cycles = low = 0
    late = [None, None]
    waiting = list(zip(xs, ys, strict=True))[::-1]
    while waiting or late != [None, None]:
        pair = None
        if waiting and not (idle and (random.random() < idle or low < idle * cycles)):
            pair = waiting.pop()
        low += pair is None
        cycles += 1
        dut.x_valid.value = int(pair is not None)
        dut.x.value = pair[0] if pair else random.getrandbits(16) if random else 0
        dut.y_valid.value = int(late[0] is not None)
        dut.y.value = late[0] if late[0] is not None else 0x7BFF
        late = [late[1], pair[1] if pair else None]
        await FallingEdge(dut.clk)
    dut.x_valid.value = dut.y_valid.value = 0
    for _ in range(Statistics.LATENCY):
        await FallingEdge(dut.clk)
    assert int(dut.sumsq.value) == sum(square(x) for x in xs)
    assert int(dut.absmax.value) == max(y & 0x7FFF for y in ys)
    return cycles, low


def finite(random):
    while not F.is_finite(value := random.getrandbits(16)):
        pass
    return value


def vector(random, n):
    """A third any bits, a third near one another, a third whose squares are cut just at, above or below a unit."""
    centre, out = finite(random), []
    for i in range(n):
        if i % 3 == 0:
            out.append(finite(random))
        elif i % 3 == 1:
            out.append(near(random, F, centre))
        else:
            # x = m * 2**e: the square has bits below 2**-32 for small x only.
            out.append(F.encode(random.getrandbits(1), 1024 + random.choice((0, 1, 512, 1023)), random.randint(-28, -20)))
    return out


@cocotb.test()
async def special_values(dut):
    await bring_up(dut)
    values = [v for v in specials(F) if F.is_finite(v)]
    for v in values:
        await run(dut, [v], [v ^ 0x8000])
    await run(dut, values, values[::-1])
    report(cases=2 * len(values))


@cocotb.test()
async def one_a_cycle(dut):
    """Vectors as long as the sum allows, without a gap, the largest sum among them."""
    await bring_up(dut)
    random, cases = rng("values"), 0
    while cases < VECTORS:
        n = random.choice((1, 2, 3, 100, LONGEST))
        cycles, _ = await run(dut, vector(random, n), vector(random, n))
        assert cycles == n + 2
        cases += n
    await run(dut, [F.inf - 1] * LONGEST, [F.inf - 1] * LONGEST)
    report_point("limit: the longest vector of the largest elements")
    report(cases=cases + LONGEST)


async def stalls(dut, idle):
    await bring_up(dut)
    random, cycles, low = rng("values"), 0, 0
    for n in (1, 7, 64, 200):
        more, empty = await run(dut, vector(random, n), vector(random, n), idle=idle, random=random)
        cycles, low = cycles + more, low + empty
    report_shares(x_valid=low / cycles)
    report(cases=272)


@cocotb.test()
async def stalls_10(dut):
    await stalls(dut, 0.1)


@cocotb.test()
async def stalls_90(dut):
    await stalls(dut, 0.9)


@cocotb.test()
async def tokens_in_any_order(dut):
    """Elements of several tokens in turn or mixed at random, each with its own sums; a token without any has zeros."""
    await bring_up(dut)
    random, cases = rng("tokens"), 0
    for run_length in (1, 1, 3, 20):
        vectors = [vector(random, n) for n in (60, 1, 61, 0)][:TOKENS]
        left = [v[::-1] for v in vectors]
        order = []
        while any(left):
            token = random.choice([t for t, v in enumerate(left) if v])
            order += [(token, left[token].pop()) for _ in range(min(run_length, len(left[token])))]
        dut.clear.value = 1
        await FallingEdge(dut.clk)
        dut.clear.value = 0
        for token, value in order:
            dut.x_valid.value = dut.y_valid.value = 1
            dut.x.value = dut.y.value = value
            dut.x_token.value = dut.y_token.value = token
            await FallingEdge(dut.clk)
        dut.x_valid.value = dut.y_valid.value = 0
        for _ in range(Statistics.LATENCY):
            await FallingEdge(dut.clk)
        for token, values in enumerate(vectors):
            dut.token.value = token
            await FallingEdge(dut.clk)
            assert int(dut.sumsq.value) == sum(map(square, values))
            assert int(dut.absmax.value) == max((v & 0x7FFF for v in values), default=0)
        cases += len(order)
    report(cases=cases)


@cocotb.test()
async def sums_begin_anew(dut):
    """Vectors in two tokens' places in turn, each begun by ``x_first``, without a gap; a sum is read while the next is made."""
    await bring_up(dut)
    random = rng("anew")
    vectors = [vector(random, n) for n in (16, 17, 16, 40, 16, 100, 16)]
    # Sums whose carry crosses the halves, and vectors of zeros.
    vectors += [[F.inf - 1] * 16, [0] * 16, [F.inf - 1] * 16, vector(random, 16), [0x8000] * 16]
    checks = []

    async def check(token, values):
        """LATENCY cycles after the last element the sum is final, and is read a cycle later."""
        for _ in range(Statistics.LATENCY):
            await FallingEdge(dut.clk)
        dut.token.value = token
        await FallingEdge(dut.clk)
        assert int(dut.sumsq.value) == sum(map(square, values)), len(values)

    for number, values in enumerate(vectors):
        for i, value in enumerate(values):
            dut.x_valid.value, dut.x_first.value = 1, int(i == 0)
            dut.x.value, dut.x_token.value = value, number % 2
            await FallingEdge(dut.clk)
            # What is no element begins nothing.
            if random.random() < 0.1:
                dut.x_valid.value, dut.x_first.value = 0, random.getrandbits(1)
                dut.x_token.value = random.getrandbits(1)
                await FallingEdge(dut.clk)
        checks.append(cocotb.start_soon(check(number % 2, values)))
    dut.x_valid.value = 0
    for task in checks:
        await task
    report(cases=sum(map(len, vectors)))
