# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scale arithmetic on arrays, bit for bit :mod:`tellme.spec.scale`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.spec.scale import C127, EXP_MAX, EXP_MIN, SCALE16_BIAS, SIG_MAX, SIG_MIN, Scale
from tellme.spec.tables import recip127_rom

__all__ = ["I64", "Scales", "fixed", "from_bits", "from_int_half_up", "pack16", "recip127", "scale_mul", "scales",
           "times_c127", "unpack16"]

#: Significands and exponents, wide enough for each product.
I64 = NDArray[np.int64]
_RECIP = np.array(recip127_rom(), np.int64)


class Scales(NamedTuple):
    """Significands and exponents; a zero scale is (0, 0)."""

    sig: I64
    exp: I64


def scales(*values: Scale) -> Scales:
    """An array of scales."""
    return Scales(np.array([v.sig for v in values], np.int64), np.array([v.exp for v in values], np.int64))


def _normal(sig: I64, exp: I64) -> Scales:
    """Scales of rounded significands up to 2048: 2048 becomes 1024 with the next exponent; a large exponent saturates, a small
    one gives zero."""
    carry = sig > SIG_MAX
    if carry.any():
        sig, exp = np.where(carry, SIG_MIN, sig), exp + carry
    if (exp > EXP_MAX).any():
        sig, exp = np.where((exp > EXP_MAX) & (sig != 0), SIG_MAX, sig), np.minimum(exp, EXP_MAX)
    zero = (sig == 0) | (exp < EXP_MIN)
    if zero.any():
        sig, exp = np.where(zero, 0, sig), np.where(zero, 0, exp)
    return Scales(sig, exp)


def scale_mul(a: Scales, b: Scales) -> Scales:
    """a * b, rounded half to even to 11 bits."""
    product = a.sig * b.sig
    shift = 10 + (product >> 21)
    kept = product >> shift
    rest = product - (kept << shift)
    half = 1 << (shift - 1)
    kept = kept + ((rest > half) | ((rest == half) & (kept & 1 == 1)))
    # _normal gives a zero product the exponent zero.
    return _normal(np.where(product == 0, 0, kept), a.exp + b.exp + shift)


def times_c127(a: Scales) -> Scales:
    """a / 127."""
    return scale_mul(a, Scales(np.int64(C127.sig), np.int64(C127.exp)))  # type: ignore[arg-type]


def recip127(a: Scales) -> Scales:
    """127 / a by the table; a zero gives zero."""
    entry = _RECIP[np.maximum(a.sig - SIG_MIN, 0)]
    sig = np.where(a.sig == 0, 0, entry & SIG_MAX)
    return _normal(sig, np.where(entry >> 11 == 1, -15, -14) - a.exp)


def from_bits(bits: NDArray[np.uint16]) -> Scales:
    """|x| of finite binary16 patterns, exact."""
    magnitude, exponent = np.frexp((bits & 0x7FFF).view(np.float16).astype(np.float64))
    sig = (magnitude * (SIG_MAX + 1)).astype(np.int64)
    return Scales(sig, np.where(sig == 0, 0, exponent.astype(np.int64) - 11))


def from_int_half_up(value: I64) -> Scales:
    """Positive integers below 2**53 rounded half up to 11 bits."""
    _, length = np.frexp(value.astype(np.float64))
    shift = length.astype(np.int64) - 11
    right = np.maximum(shift, 0)
    kept = np.where(shift > 0, (value + (np.int64(1) << np.maximum(right - 1, 0))) >> right,
                    value << np.maximum(-shift, 0))
    return _normal(kept, shift)


def pack16(a: Scales) -> NDArray[np.uint16]:
    """The stored 16-bit form: zero below its range, the largest value above."""
    field = a.exp + SCALE16_BIAS
    bits = np.where((a.sig == 0) | (field < 0), 0, np.where(field > 63, 0xFFFF, (field << 10) | (a.sig - SIG_MIN)))
    return bits.astype(np.uint16)


def unpack16(bits: NDArray[np.uint16]) -> Scales:
    """Stored 16-bit scales."""
    b = bits.astype(np.int64)
    return Scales(np.where(b == 0, 0, SIG_MIN | (b & 0x3FF)), np.where(b == 0, 0, (b >> 10) - SCALE16_BIAS))


def fixed(value: I64, scale: Scales, frac: int, bits: int) -> I64:
    """value * scale in fixed point with ``frac`` fraction bits, rounded half up, saturated to ``bits`` signed bits."""
    product = value * scale.sig
    shift = -(scale.exp + frac)
    right = np.clip(shift, 0, 62)
    # Half of 2**0 is 0: 1 << 0 >> 1.
    rounded = (product + ((np.int64(1) << right) >> 1)) >> right
    top = (1 << (bits - 1)) - 1
    if (shift < 0).any():
        # A left shift beyond the bits of the result saturates whatever is not zero.
        rounded = np.where(shift < 0, np.clip(product, -top - 1, top) << np.clip(-shift, 0, bits), rounded)
    return np.clip(rounded, -top - 1, top)
