# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Between floats and integers: dequantise and quantise, one rounding of the exact product each."""

from tellme.spec.formats import BINARY16, FloatFormat, round_half_even
from tellme.spec.scale import SQUARE_FRAC, Scale

__all__ = ["NORM_FRAC", "dequantise", "quantise", "square"]

#: Fraction bits of the codes of an :attr:`tellme.spec.program.Op.NORM`, which have 8 + NORM_FRAC bits: with less, what a norm
#: behind a linear gives would be rounded as coarsely as a linear's input (docs/decisions/0017-planes.md has the numbers).
NORM_FRAC = 4


def dequantise(acc: int, scale: Scale, fmt: FloatFormat = BINARY16) -> int:
    """acc * scale, rounded once, half to even; a zero product is +0."""
    return fmt.encode(int(acc < 0), abs(acc) * scale.sig, scale.exp) if acc * scale.sig else 0


def quantise(bits: int, scale: Scale, fmt: FloatFormat = BINARY16, frac: int = 0) -> int:
    """clip(x * scale * 2**frac rounded half to even, -128 * 2**frac, 128 * 2**frac - 1).

    NaN gives 0, infinities the ends (they raise nonfinite).  ``frac``: 0, or NORM_FRAC for codes that are accumulators.
    """
    end = 128 << frac
    if fmt.is_nan(bits):
        return 0
    if fmt.is_inf(bits):
        return -end if bits & fmt.sign_bit else end - 1
    sign, m, e = fmt.decode(bits)
    value = round_half_even(m * scale.sig, -(e + scale.exp + frac))
    return max(-end, -value) if sign else min(end - 1, value)


def square(bits: int, fmt: FloatFormat = BINARY16) -> int:
    """x * x cut to a multiple of 2**-32, as an integer of that unit."""
    _, m, e = fmt.decode(bits)
    shift = 2 * e + SQUARE_FRAC
    return m * m << shift if shift >= 0 else m * m >> -shift
