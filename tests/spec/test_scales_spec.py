# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scales as numbers: the nearest one, the ends of the range, and what has none.  tests/golden compares arrays with this."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellme.spec.scale import EXP_MAX, EXP_MIN, SIG_MAX, SIG_MIN, ZERO, Scale, rsqrt, rsqrt_entry, scale_from_fraction

LEAST, MOST = Scale(SIG_MIN, EXP_MIN), Scale(SIG_MAX, EXP_MAX)
significands = st.integers(SIG_MIN, SIG_MAX)
exponents = st.integers(EXP_MIN + 1, EXP_MAX - 1)


@given(significands, exponents, st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_nearest_scale(sig, exp, a, b):
    """Between two scales the nearer one, and half way the even one."""
    low = Scale(sig, exp)
    high = Scale(sig + 1, exp) if sig < SIG_MAX else Scale(SIG_MIN, exp + 1)
    at = Fraction(min(a, b), max(a, b))
    got = scale_from_fraction(low.value() + at * (high.value() - low.value()))
    even = low if low.sig % 2 == 0 else high
    assert got == (low if at < Fraction(1, 2) else high if at > Fraction(1, 2) else even)


def test_numbers_beyond_the_scales():
    assert scale_from_fraction(0) == ZERO and scale_from_fraction(LEAST.value()) == LEAST
    assert scale_from_fraction(LEAST.value() / 2) == ZERO
    assert scale_from_fraction(2 * MOST.value()) == MOST
    with pytest.raises(ValueError, match=r"^a scale is not negative: -0\.5$"):
        scale_from_fraction(-0.5)


def test_each_entry_of_the_table_of_roots_is_the_nearest():
    for odd in (0, 1):
        for m in range(SIG_MIN, SIG_MAX + 1):
            entry = rsqrt_entry(odd, m)
            assert SIG_MIN <= entry.sig <= SIG_MAX
            # (v - u/2)**2 <= 1 / target < (v + u/2)**2, with u the unit in the last place.
            value, half = entry.value(), Fraction(2) ** entry.exp / 2
            low = half / 2 if entry.sig == SIG_MIN else half
            assert (value - low) ** 2 <= Fraction(1, m << odd) < (value + half) ** 2


@pytest.mark.parametrize("value", [0, -1])
def test_a_sum_of_squares_without_a_root(value):
    with pytest.raises(ValueError, match="^the sum of squares with n \\* eps must be positive$"):
        rsqrt(value)
