# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Array arithmetic of the golden model against the scalar specification: special values, ties, random bits."""

import random
from itertools import product

import numpy as np
import pytest

from tellme.golden import elementwise as golden
from tellme.spec import activation as spec_activation
from tellme.spec import quantise as spec_quantise
from tellme.spec.formats import BINARY16
from tellme.spec.scale import Scale

#: Zeros, subnormals, powers of two and their neighbours, largest values, infinities, NaNs; of both signs.
MAGNITUDES = [0x0000, 0x0001, 0x0002, 0x03FF, 0x0400, 0x0401, 0x1400, 0x3BFF, 0x3C00, 0x3C01, 0x3E00, 0x4880, 0x4A9A,
              0x4C00, 0x57F0, 0x57F8, 0x5800, 0x7BFE, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x7FFF]
SPECIAL = MAGNITUDES + [m | 0x8000 for m in MAGNITUDES]
CASES = 20_000


def bits(x):
    return [int(b) for b in np.ascontiguousarray(x).view(np.uint16).reshape(-1)]


def floats(patterns):
    return np.array(patterns, np.uint16).view(np.float16)


def pairs(seed):
    """All pairs of special values, any bit patterns, and pairs with exponents near each other."""
    rng = random.Random(seed)
    out = list(product(SPECIAL, SPECIAL))
    out += [(rng.getrandbits(16), rng.getrandbits(16)) for _ in range(CASES)]
    for _ in range(CASES):
        exponent = rng.randrange(31)
        near = min(max(exponent + rng.randint(-12, 12), 0), 30)
        out.append((rng.getrandbits(1) << 15 | exponent << 10 | rng.getrandbits(10),
                    rng.getrandbits(1) << 15 | near << 10 | rng.getrandbits(10)))
    a, b = zip(*out, strict=True)
    return list(a), list(b)


def random_scale(rng):
    return Scale(rng.randint(1024, 2047), rng.randint(-60, 20))


@pytest.mark.parametrize("name", ["mul", "add"])
def test_mul_and_add(name):
    a, b = pairs(name)
    got = bits(getattr(golden, name)(floats(a), floats(b)))
    expected = [getattr(BINARY16, name)(x, y) for x, y in zip(a, b, strict=True)]
    assert got == expected


@pytest.mark.parametrize("relu2", [False, True])
@pytest.mark.parametrize("act_exp", [0, 3, -2])
def test_activation(relu2, act_exp):
    a, b = pairs(act_exp)
    got = bits(golden.activation(floats(a), floats(b), relu2=relu2, act_exp=act_exp))
    expected = [spec_activation.activation(x, y, relu2=relu2, act_exp=act_exp) for x, y in zip(a, b, strict=True)]
    assert got == expected


def test_rope():
    x0, x1 = pairs(1)
    c, s = (x[:len(x0)] for x in pairs(2))
    pair = np.stack([floats(x0), floats(x1)], axis=-1)
    got = bits(golden.rope(pair, floats(c)[:, None], floats(s)[:, None]))
    expected = [y for args in zip(x0, x1, c, s, strict=True) for y in spec_activation.rope(*args)]
    assert got == expected


def test_dequantise():
    rng = random.Random(3)
    accs = [0, 1, -1, 2**35 - 1, -2**35] + [rng.randint(-2**k, 2**k) for k in range(1, 35) for _ in range(300)]
    scales = [Scale(0, 0), Scale(1024, -128), Scale(2047, 127)] + [random_scale(rng) for _ in accs[3:]]
    # Exact ties: an odd number of halves of the last place.
    for _ in range(2000):
        accs.append((rng.randint(1024, 2047) << 1 | 1) * rng.choice((1, -1)))
        scales.append(Scale(1024, rng.randint(-40, 0)))
    sig, exp = (np.array(v, np.int64) for v in zip(*scales, strict=True))
    got = bits(golden.dequantise(np.array(accs, np.int64), (sig, exp)))
    assert got == [spec_quantise.dequantise(a, s) for a, s in zip(accs, scales, strict=True)]


def test_quantise():
    rng = random.Random(4)
    patterns = SPECIAL + [rng.getrandbits(16) for _ in range(CASES)]
    for scale in [Scale(1024, -10), Scale(1024, -11), Scale(2047, 10), *(random_scale(rng) for _ in range(5))]:
        got = golden.quantise(floats(patterns), scale).tolist()
        assert got == [spec_quantise.quantise(p, scale) for p in patterns]


def test_sumsq_and_absmax():
    rng = random.Random(5)
    for n in (1, 20, 384, 1280):
        patterns = [rng.choice(SPECIAL) if rng.random() < 0.1 else rng.getrandbits(16) for _ in range(n)]
        patterns = [p if BINARY16.is_finite(p) else 0x7BFF for p in patterns]
        assert golden.sumsq(floats(patterns)) == sum(spec_quantise.square(p) for p in patterns)
        assert int(golden.absmax(floats(patterns))) == max(p & 0x7FFF for p in patterns)


def test_sumsq_of_the_largest_values():
    assert golden.sumsq(floats([0x7BFF] * 8191)) == 8191 * spec_quantise.square(0x7BFF)


def test_sumsq_of_what_ends_a_run():
    """The step that gives an infinity or a NaN ends the run: its vector has no sum."""
    for pattern in (0x7C00, 0xFC00, 0x7E00):
        assert golden.sumsq(floats([0x3C00, pattern])) == 0


def test_nonfinite():
    assert not golden.nonfinite(floats([0x7BFF, 0xFBFF, 0]))
    assert golden.nonfinite(floats([0, 0x7C00]))
    assert golden.nonfinite(floats([0x7E00, 0]))
