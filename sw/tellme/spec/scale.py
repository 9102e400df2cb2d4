# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scales: an 11-bit significand and an 8-bit exponent, the type of every factor between integers and floats.

A scale is (sig, exp) with value sig * 2**exp, sig in 1024..2047, or (0, 0) for zero.  binary16 would not do: 127 / absmax is too
large for binary16 if absmax is below 1.94e-3.
"""

from fractions import Fraction
from math import isqrt
from typing import NamedTuple

from tellme.spec.formats import BINARY16, FloatFormat, round_half_even, round_half_up
from tellme.spec.ranges import I8, Range, check_fields

__all__ = ["C127", "SCALE16_BIAS", "SCALE_EXP_BITS", "SCALE_RANGES", "SCALE_SIG_BITS", "ZERO", "Scale", "absmax_floor",
           "from_float", "from_int_half_up", "inv_rms", "pack16", "quantise_scales", "recip127", "rsqrt", "scale_from_fraction",
           "scale_mul", "unpack16"]

#: Bits of a significand.
SCALE_SIG_BITS = 11
#: Bits of an exponent, signed.
SCALE_EXP_BITS = 8
SIG_MIN = 1 << (SCALE_SIG_BITS - 1)
SIG_MAX = (1 << SCALE_SIG_BITS) - 1
EXP_MIN = -(1 << (SCALE_EXP_BITS - 1))
EXP_MAX = (1 << (SCALE_EXP_BITS - 1)) - 1
#: Range of each number of a scale.
SCALE_RANGES = {"sig": Range(0, SIG_MAX), "exp": I8}
#: A stored 16-bit scale with exponent field E has exp = E - SCALE16_BIAS.
SCALE16_BIAS = 54
#: Squares are truncated to multiples of 2**-SQUARE_FRAC.
SQUARE_FRAC = 32
#: Width of the sum of squares, with n * eps added: 64 bits of a binary16 square, 13 of the length.
SUMSQ_BITS = 77


class Scale(NamedTuple):
    """sig * 2**exp."""

    sig: int
    exp: int

    def value(self) -> Fraction:
        return self.sig * Fraction(2) ** self.exp

    def pack(self) -> int:
        """The 19 bits of the gateware's layout: sig in [10:0], exp in [18:11].

        A number outside SCALE_RANGES is a RangeError.
        """
        check_fields(self, SCALE_RANGES)
        return self.sig | (self.exp & 0xFF) << SCALE_SIG_BITS

    @classmethod
    def unpack(cls, bits: int) -> "Scale":
        exp = bits >> SCALE_SIG_BITS & 0xFF
        return cls(bits & SIG_MAX, exp - 256 if exp & 0x80 else exp)


#: The scale 0.
ZERO = Scale(0, 0)


def _normal(sig: int, exp: int) -> Scale:
    """The scale of a rounded significand of 1024 to 2048: 2048 becomes 1024 with the next exponent; a large exponent saturates,
    a small one gives zero."""
    if sig == SIG_MAX + 1:
        sig, exp = SIG_MIN, exp + 1
    if exp > EXP_MAX:
        return Scale(SIG_MAX, EXP_MAX)
    if exp < EXP_MIN:
        return ZERO
    return Scale(sig, exp)


def scale_from_fraction(value: Fraction | float) -> Scale:
    """The nearest scale to a non-negative number, half to even (for tables, constants and conversion)."""
    value = Fraction(value)
    if value < 0:
        raise ValueError(f"a scale is not negative: {float(value)}")
    if value == 0:
        return ZERO
    exp = value.numerator.bit_length() - value.denominator.bit_length() - SCALE_SIG_BITS
    while value / Fraction(2) ** exp >= SIG_MAX + 1:
        exp += 1
    return _normal(round(value / Fraction(2) ** exp), exp)


def scale_mul(a: Scale, b: Scale) -> Scale:
    """a * b: the exact product of the significands, rounded half to even to 11 bits."""
    product = a.sig * b.sig
    if product == 0:
        return ZERO
    shift = SCALE_SIG_BITS if product >> (2 * SCALE_SIG_BITS - 1) else SCALE_SIG_BITS - 1
    return _normal(round_half_even(product, shift), a.exp + b.exp + shift)


def from_float(bits: int, fmt: FloatFormat = BINARY16) -> Scale:
    """|x| of a finite float, exact for up to 10 fraction bits, else rounded half to even."""
    _, magnitude, exp = fmt.decode(bits)
    if magnitude == 0:
        return ZERO
    shift = magnitude.bit_length() - SCALE_SIG_BITS
    return _normal(round_half_even(magnitude, shift), exp + shift)


def from_int_half_up(value: int) -> Scale:
    """A positive integer rounded half up to 11 bits."""
    shift = value.bit_length() - SCALE_SIG_BITS
    return _normal(round_half_up(value, shift), shift)


#: 1 / 127, rounded.
C127 = scale_from_fraction(Fraction(1, 127))


def recip127(a: Scale) -> Scale:
    """127 / a, rounded half to even: a table of the significand.  Zero gives zero (floors keep it from occurring)."""
    if a.sig == 0:
        return ZERO
    entry = scale_from_fraction(Fraction(127, a.sig))
    return _normal(entry.sig, entry.exp - a.exp)


def rsqrt(value: int) -> Scale:
    """1 / sqrt(value * 2**-32) for the integer sum of squares (with n * eps), value >= 1.

    The value is rounded half up to m * 2**e with 11 bits; for odd e, m is doubled; then 1 / sqrt(m) by a table of
    (parity of e, m), rounded half to even.
    """
    if value <= 0:
        raise ValueError("the sum of squares with n * eps must be positive")
    m, e = from_int_half_up(value)
    e -= SQUARE_FRAC
    entry = rsqrt_entry(e & 1, m)
    return _normal(entry.sig, entry.exp - (e - (e & 1)) // 2)


def rsqrt_entry(odd: int, m: int) -> Scale:
    """Table entry: 1 / sqrt(m * 2**odd), m in 1024..2047, nearest scale (never a tie but for m = 1024, exact)."""
    target = m << odd
    # 1/sqrt(target) is in (2**-6, 2**-5]: with 2**-16 as unit the significand has 11 bits (2048 at m = 1024, even).
    unit = 16
    sig = _isqrt_round((1 << (2 * unit)), target)
    return _normal(sig, -unit)


def _isqrt_round(num: int, den: int) -> int:
    """Nearest integer to sqrt(num / den), half up."""
    return (isqrt(4 * num // den) + 1) // 2


def absmax_floor(norm: bool, fmt: FloatFormat = BINARY16) -> int:
    """The least bit pattern of absmax; smaller ones are raised to it: 1e-5 without norm (rounded up), with norm the smallest
    subnormal."""
    if norm:
        return 1
    floor = fmt.encode(0, *_fraction_parts(Fraction(1, 100000)))
    return floor if _value(floor, fmt) >= Fraction(1, 100000) else floor + 1


def _fraction_parts(value: Fraction) -> tuple[int, int]:
    return (value.numerator << 128) // value.denominator, -128


def _value(bits: int, fmt: FloatFormat) -> Fraction:
    _, magnitude, exp = fmt.decode(bits)
    return magnitude * Fraction(2) ** exp


def inv_rms(sumsq: int, n_eps: int, sqrt_n: Scale) -> Scale:
    """1 / sqrt(sumsq / n + eps) from integers in units of 2**-32: rsqrt(sumsq + n_eps) * sqrt(n)."""
    return scale_mul(rsqrt(sumsq + n_eps), sqrt_n)


def quantise_scales(absmax: int, *, norm: bool, sumsq: int = 0, n_eps: int = 0, sqrt_n: Scale = ZERO,
                    fmt: FloatFormat = BINARY16) -> tuple[Scale, Scale]:
    """(s, d) of a vector: codes are round(y * s), values are code * d (times 1 / rms where ``norm``).

    ``absmax`` is the bit pattern of max |y|.
    """
    a = from_float(max(absmax, absmax_floor(norm, fmt)), fmt)
    s = recip127(a)
    d = scale_mul(a, C127)
    if norm:
        d = scale_mul(d, inv_rms(sumsq, n_eps, sqrt_n))
    return s, d


def pack16(a: Scale) -> int:
    """Stored form: fraction in [9:0], exponent field E = exp + 54 in [15:10].

    A scale below the range becomes the pattern 0, which means zero; a scale above the range becomes the largest value.  Because
    the pattern 0 is zero, sig = 1024 at E = 0 cannot be stored.
    """
    if a.sig == 0 or a.exp < -SCALE16_BIAS:
        return 0
    if a.exp + SCALE16_BIAS > 63:
        return 0xFFFF
    return (a.exp + SCALE16_BIAS) << 10 | (a.sig - SIG_MIN)


def unpack16(bits: int) -> Scale:
    """A stored 16-bit scale."""
    if bits == 0:
        return ZERO
    return Scale(SIG_MIN | (bits & 0x3FF), (bits >> 10) - SCALE16_BIAS)
