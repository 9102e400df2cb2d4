# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""ROM contents: reciprocal, inverse square root, exp2 and sigmoid, each a list of integers with its layout."""

from functools import cache
from math import exp

from tellme.spec.scale import SIG_MIN, Scale, recip127, rsqrt_entry

__all__ = ["EXP2_FRAC_BITS", "SIGMOID_FRAC_BITS", "SIGMOID_LOG_STEP", "exp2_rom", "recip127_rom", "rsqrt_rom",
           "sigmoid_rom"]

#: Scores have 9 fraction bits; exp2 has one entry for each fraction.
EXP2_FRAC_BITS = 9
#: Sigmoid values have 18 fraction bits, one entry for each 1/32 of |x| below 16.
SIGMOID_FRAC_BITS = 18
#: Entries of the sigmoid's table for each 1 of |x|, as a power of two.
SIGMOID_LOG_STEP = 5
SIGMOID_RANGE = 16


@cache
def recip127_rom() -> tuple[int, ...]:
    """Index sig - 1024 -> 127 / sig: bits [10:0] the significand, bit 11 set where its exponent is -15 (else -14)."""
    entries = [recip127(Scale(SIG_MIN + i, 0)) for i in range(SIG_MIN)]
    return tuple(e.sig | (1 << 11 if e.exp == -15 else 0) for e in entries)


@cache
def rsqrt_rom() -> tuple[int, ...]:
    """Index odd * 1024 + m - 1024 -> 1 / sqrt(m << odd): bits [10:0] the significand; exponents -16, bit 11 set: -15."""
    entries = [rsqrt_entry(odd, SIG_MIN + i) for odd in (0, 1) for i in range(SIG_MIN)]
    return tuple(e.sig | (1 << 11 if e.exp == -15 else 0) for e in entries)


@cache
def exp2_rom() -> tuple[int, ...]:
    """Index f -> round(2**16 * 2**(-f / 512)): 17 bits, 65536 at f = 0."""
    return tuple(round(2.0 ** (16 - f / 512)) for f in range(1 << EXP2_FRAC_BITS))


@cache
def sigmoid_rom() -> tuple[int, ...]:
    """Index i -> sigmoid(i / 32) with 18 fraction bits in [17:0], and the step to the next entry in [35:18].

    Values stop at 2**18 - 1: from about 13 on they would round to 2**18, which has a bit too many.
    """
    def value(i: int) -> int:
        return min(round(2**SIGMOID_FRAC_BITS / (1 + exp(-i / (1 << SIGMOID_LOG_STEP)))), 2**SIGMOID_FRAC_BITS - 1)
    n = SIGMOID_RANGE << SIGMOID_LOG_STEP
    return tuple(value(i) | (value(i + 1) - value(i)) << SIGMOID_FRAC_BITS for i in range(n))
