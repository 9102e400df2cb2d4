# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scale arithmetic on arrays, and attention, against the scalar specification."""

import random

import numpy as np
import pytest

from tellme.golden import attention, scales
from tellme.spec import attention as spec_attention
from tellme.spec import scale as spec
from tellme.spec.quantise import dequantise
from tellme.spec.scale import Scale


def unzip(array):
    return [Scale(int(s), int(e)) for s, e in zip(np.ravel(array.sig), np.ravel(array.exp), strict=True)]


def some_scales(seed, n=5000):
    rng = random.Random(seed)
    edge = [Scale(0, 0), Scale(1024, -128), Scale(2047, 127), Scale(1448, 60), Scale(1449, -70), Scale(1024, 0)]
    return edge + [Scale(rng.randint(1024, 2047), rng.randint(-128, 127)) for _ in range(n)]


def test_scale_mul():
    a, b = some_scales(1), some_scales(2)
    a, b = a + a[:6] * 6, b + [s for s in b[:6] for _ in range(6)]
    got = scales.scale_mul(scales.scales(*a), scales.scales(*b))
    assert unzip(got) == [spec.scale_mul(x, y) for x, y in zip(a, b, strict=True)]


def test_recip127():
    a = [s for s in some_scales(3) if abs(s.exp) < 100]
    assert unzip(scales.recip127(scales.scales(*a))) == [spec.recip127(s) for s in a]


def test_from_bits_takes_every_finite_pattern():
    bits = np.arange(0x7C00, dtype=np.uint16)
    assert unzip(scales.from_bits(bits)) == [spec.from_float(int(b)) for b in bits]


def test_from_int_half_up():
    rng = random.Random(4)
    values = [1, 2, 1023, 1024, 2047, 2048, 2049, 4094, 4095, 4096, 2**34 - 1, 2**34]
    values += [rng.getrandbits(rng.randint(2, 40)) | 1 for _ in range(5000)]
    assert unzip(scales.from_int_half_up(np.array(values))) == [spec.from_int_half_up(v) for v in values]


def test_pack16_there_and_back():
    a = some_scales(5)
    stored = scales.pack16(scales.scales(*a))
    assert [int(s) for s in stored] == [spec.pack16(s) for s in a]
    every = np.arange(1 << 16, dtype=np.uint16)
    assert unzip(scales.unpack16(every)) == [spec.unpack16(int(s)) for s in every]


@pytest.mark.parametrize(("frac", "bits", "one"), [(9, 18, spec_attention.score), (16, 32, spec_attention.logit)])
def test_fixed(frac, bits, one):
    rng = random.Random(bits)
    values = [rng.randint(-2**21, 2**21) for _ in range(5000)] + [0, 1, -1, 2**21, -2**21] * 4
    factors = [Scale(rng.randint(1024, 2047), rng.randint(-60, 30)) for _ in values[:-20]]
    factors += [Scale(1024, e) for e in (-128, 127, -20, 0) for _ in range(5)]
    got = scales.fixed(np.array(values), scales.scales(*factors), frac, bits)
    assert got.tolist() == [one(v, s) for v, s in zip(values, factors, strict=True)]


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "position", "tokens"),
                         [(4, 4, 16, 0, 1), (8, 2, 64, 5, 3), (4, 2, 32, 30, 8), (4, 1, 16, 100, 1)])
def test_attend(heads, kv_heads, head_dim, position, tokens):
    rng = np.random.default_rng(position)
    end = position + tokens
    q = rng.integers(-128, 128, (tokens, heads, head_dim)).astype(np.int8)
    keys, values = (rng.integers(-128, 128, (kv_heads, end, head_dim)).astype(np.int8) for _ in range(2))
    # Scales from spread to nearly equal, with zeros, so that shifts of all sizes occur.
    stored = [[[spec.pack16(Scale(int(rng.integers(1024, 2048)), int(rng.integers(-24, -14)) - (n % 3 == 1) * 12))
                if rng.random() > 0.1 else 0 for n in range(end)] for _ in range(kv_heads)] for _ in range(2)]
    q_scales = [[Scale(int(rng.integers(1024, 2048)), -16 - h % 5) for h in range(heads)] for _ in range(tokens)]
    got = attention.attend(q, scales.Scales(*(np.array([[s[i] for s in row] for row in q_scales]) for i in (0, 1))),
                           keys, values, *(np.array(s, np.uint16) for s in stored), position)
    for t in range(tokens):
        seen = position + t + 1
        for h in range(heads):
            kv = h // (heads // kv_heads)
            scores = [spec_attention.score(int(q[t, h].astype(int) @ keys[kv, p].astype(int)),
                                           spec.scale_mul(q_scales[t][h], spec.unpack16(stored[0][kv][p])))
                      for p in range(seen)]
            row = spec_attention.softmax(scores, [spec.unpack16(s) for s in stored[1][kv][:seen]])
            sums = np.array(row.weights) @ values[kv, :seen].astype(int)
            scale = spec_attention.out_scale(row.total, row.exponent)
            expected = [dequantise(int(s), scale) for s in sums]
            assert got[t, h].view(np.uint16).tolist() == expected


def test_attention_where_every_value_is_zero():
    keys = np.ones((1, 2, 16), np.int8)
    q_scale = scales.Scales(np.array([[1024]]), np.array([[-10]]))
    got = attention.attend(np.ones((1, 1, 16), np.int8), q_scale, keys, keys, np.full((1, 2), 0xA000, np.uint16),
                           np.zeros((1, 2), np.uint16), 1)
    assert not got.any()
