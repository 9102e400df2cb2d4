# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Dequantise and Quantise against exact integers, and Quantise with codes of two widths."""

import os

import cocotb
from float_vectors import FMT, FORMATS, VECTORS, check, nightly, specials

from hw.fused.arithmetic import Dequantise, Quantise
from sim.cocotb_streams import rng
from sim.testbench import Bench
from tellme.spec.quantise import NORM_FRAC, dequantise, quantise
from tellme.spec.scale import Scale
from tests.hw.layouts import layouts_of, pack, payload_of

UNITS = {"dequantise": Dequantise, "quantise": Quantise, "codes": Quantise}
#: Bits of an accumulator: of a preset, of the shortest and of the longest context.
ACC_BITS, NARROW, WIDE = (layouts_of(max_context=n, max_cols=c).widths.acc_bits for n, c in ((1024, 1280), (2, 64), (65535, 64)))


def unit(op, fmt, bits):
    return Dequantise(fmt, acc_bits=bits) if op == "dequantise" else Quantise(fmt, wide=op == "codes")


def bench(name, op, fmt, bits=ACC_BITS):
    return Bench(name=name, build=lambda: unit(op, FORMATS[fmt], bits),
                 nightly=nightly(fmt) or ("no board has codes of two widths; top-tiny has them" if op == "codes" else ""),
                 env={"FMT": fmt, "OP": op, "ACC_BITS": str(bits)})


BENCHES = [bench(f"{op}-{name}", op, name) for op in UNITS for name in FORMATS]
BENCHES += [bench(f"dequantise-acc{bits}", "dequantise", "binary16", bits) for bits in (NARROW, WIDE)]
OP, BITS = os.environ.get("OP", "quantise"), int(os.environ.get("ACC_BITS", ACC_BITS))
GIVEN, RESULT = (payload_of(unit(OP, FMT, BITS), port) for port in ("i", "o"))
ACC_MAX = 1 << BITS - 1


def frac(a, scale):
    """Fraction bits of a case's code."""
    return NORM_FRAC if OP == "codes" and (a ^ scale.sig ^ scale.exp) & 1 else 0


def packed(a, scale):
    wide = {"wide": frac(a, scale) > 0} if OP == "codes" else {}
    return pack(GIVEN, {"acc" if OP == "dequantise" else "x": a, "scale": scale, **wide})


def expected(a, scale):
    if OP != "dequantise":
        return pack(RESULT, code=quantise(a, scale, FMT, frac(a, scale)))
    y = dequantise(a, scale, FMT)
    return pack(RESULT, y=y, nonfinite=not FMT.is_finite(y))


def some_scale(random):
    return Scale(random.randint(1024, 2047), random.randint(-128, 127))


def near_scale(random, value):
    """A scale that brings the value into the result's range."""
    if OP != "dequantise":
        _, m, e = FMT.decode(value) if FMT.is_finite(value) else (0, 1, 0)
        exp = 7 - (e + max(m.bit_length(), 1) + 11) + random.randint(-9, 2)
    else:
        exp = random.randint(FMT.min_exp - 30, FMT.min_exp + (1 << FMT.exp_bits) - 20) - 11
    return Scale(random.randint(1024, 2047), max(-128, min(127, exp)))


def tie(random):
    """A product exactly between two results, or one unit of the operand beside it."""
    if OP != "dequantise":
        # x = (n + 1/2) * 2**k, scale 2**-k, or with codes of more bits also 2**-k / 16.
        n, more = random.choice([(random.randint(0, 130), 0), *([(random.randint(0, 2080), NORM_FRAC)] if OP == "codes" else [])])
        k = random.randint(FMT.min_exp + FMT.frac_bits + 2, -FMT.min_exp - FMT.frac_bits - 10)
        x = FMT.encode(random.getrandbits(1), 2 * n + 1, k - 1)
        low, exp = x & ~FMT.sign_bit, -k - 10 - more
        return (low + random.choice((-1, 0, 1))) | (x & FMT.sign_bit), Scale(1024, max(-128, min(127, exp)))
    bits = FMT.frac_bits + 2
    acc = (random.getrandbits(bits - 1) | 1 << bits - 1) | 1
    acc <<= random.randint(0, BITS - 2 - bits)
    acc += random.choice((-1, 0, 1))
    return (-acc if random.getrandbits(1) else acc), Scale(1024, random.randint(max(-128, FMT.min_exp - 20), 0))


def vectors(random, n):
    out = []
    for i in range(n):
        value = random.getrandbits(FMT.width) if OP != "dequantise" else random.randint(-ACC_MAX, ACC_MAX - 1) >> \
            random.randint(0, BITS - 2)
        if i % 3 == 0:
            out.append((value, some_scale(random)))
        elif i % 3 == 1:
            out.append((value, near_scale(random, value)))
        else:
            out.append(tie(random))
    return out


@cocotb.test()
async def special_values(dut):
    scales = [Scale(s, e) for s in (0, 1024, 1025, 2047) for e in (-128, -40, -24, -14, -10, -1, 0, 5, 30, 127)
              if s or not e]
    if OP == "codes":
        # A subnormal whose product with the scale is the code, without a shift, or with one of a place to either side; of a
        # format whose subnormals are so small that no scale makes codes of them, the scale nearest to that.
        _, _, exp = FMT.decode(1)
        products = [(x, Scale(s, min(places - exp - NORM_FRAC, 127))) for x in (1, FMT.sign_bit | 1, 2)
                    for s in (1024, 1025, 1500, 2046, 2047) for places in (-1, 0, 1)]
        assert any(frac(x, s) for x, s in products)
        await check(dut, products, packed, expected)
    values = specials(FMT) if OP != "dequantise" else [0, 1, -1, 2, 127, -128, 2047, 2048, 2049, 65519, 65520, -65520,
                                                     ACC_MAX - 1, -ACC_MAX]
    await check(dut, [(v, s) for v in values for s in scales], packed, expected)


@cocotb.test()
async def random(dut):
    cases = vectors(rng("vectors"), VECTORS)
    cycles, latency = await check(dut, cases, packed, expected)
    assert latency == UNITS[OP].LATENCY
    assert cycles == len(cases) + latency, "initiation interval is not 1"


@cocotb.test()
async def stalls_10(dut):
    await check(dut, vectors(rng("vectors"), 1000), packed, expected, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await check(dut, vectors(rng("vectors"), 200), packed, expected, idle=0.9, stall=0.9)
