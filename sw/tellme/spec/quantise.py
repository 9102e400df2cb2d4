# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Between floats and integers: dequantise and quantise, one rounding of the exact product each."""

from tellme.spec.formats import BINARY16, FloatFormat, round_half_even
from tellme.spec.scale import SQUARE_FRAC, Scale

__all__ = ["dequantise", "quantise", "square"]


def dequantise(acc: int, scale: Scale, fmt: FloatFormat = BINARY16) -> int:
    """acc * scale, rounded once, half to even; a zero product is +0."""
    return fmt.encode(int(acc < 0), abs(acc) * scale.sig, scale.exp) if acc * scale.sig else 0


def quantise(bits: int, scale: Scale, fmt: FloatFormat = BINARY16) -> int:
    """clip(x * scale rounded half to even, -128, 127).  NaN gives 0, infinities -128 and 127 (they raise nonfinite)."""
    if fmt.is_nan(bits):
        return 0
    if fmt.is_inf(bits):
        return -128 if bits & fmt.sign_bit else 127
    sign, m, e = fmt.decode(bits)
    value = round_half_even(m * scale.sig, -(e + scale.exp))
    return max(-128, -value) if sign else min(127, value)


def square(bits: int, fmt: FloatFormat = BINARY16) -> int:
    """x * x cut to a multiple of 2**-32, as an integer of that unit."""
    _, m, e = fmt.decode(bits)
    shift = 2 * e + SQUARE_FRAC
    return m * m << shift if shift >= 0 else m * m >> -shift
