# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Binary floating point with a chosen width: bit patterns as integers, exact arithmetic, round half to even.

Every function takes and returns bit patterns (sign, exponent, fraction from the most significant bit).  These functions are the
reference for single operations; the golden model computes the same on NumPy arrays.
"""

from dataclasses import dataclass

__all__ = ["BINARY16", "WIDE24", "FloatFormat"]


@dataclass(frozen=True)
class FloatFormat:
    """IEEE 754 style format with ``exp_bits`` and ``frac_bits``: subnormals, signed zeros, infinities, one NaN."""

    exp_bits: int = 5
    frac_bits: int = 10

    @property
    def width(self) -> int:
        return 1 + self.exp_bits + self.frac_bits

    @property
    def bias(self) -> int:
        return (1 << (self.exp_bits - 1)) - 1

    @property
    def exp_max(self) -> int:
        """The exponent field of infinities and NaN."""
        return (1 << self.exp_bits) - 1

    @property
    def min_exp(self) -> int:
        """Weight of the least significant fraction bit of a subnormal: the smallest value is 2**min_exp."""
        return 1 - self.bias - self.frac_bits

    @property
    def inf(self) -> int:
        return self.exp_max << self.frac_bits

    @property
    def nan(self) -> int:
        """The canonical quiet NaN, the only one that an operation returns."""
        return self.inf | 1 << (self.frac_bits - 1)

    @property
    def sign_bit(self) -> int:
        return 1 << (self.width - 1)

    def is_nan(self, bits: int) -> bool:
        return (bits & ~self.sign_bit) > self.inf

    def is_inf(self, bits: int) -> bool:
        return (bits & ~self.sign_bit) == self.inf

    def is_finite(self, bits: int) -> bool:
        return (bits & ~self.sign_bit) < self.inf

    def decode(self, bits: int) -> tuple[int, int, int]:
        """A finite value as (sign, magnitude, exponent): (-1)**sign * magnitude * 2**exponent, not normalised."""
        if not self.is_finite(bits):
            raise ValueError(f"{bits:#x} is infinite or NaN")
        field = bits >> self.frac_bits & self.exp_max
        frac = bits & ((1 << self.frac_bits) - 1)
        sign = bits >> (self.width - 1)
        if field == 0:
            return sign, frac, self.min_exp
        return sign, frac | 1 << self.frac_bits, self.min_exp + field - 1

    def encode(self, sign: int, magnitude: int, exponent: int) -> int:
        """Round (-1)**sign * magnitude * 2**exponent, an exact value, half to even; overflow gives infinity."""
        sign_bits = self.sign_bit if sign else 0
        if magnitude == 0:
            return sign_bits
        # Weight of the last kept bit: a full significand's, but never below the subnormals'.
        lsb = max(exponent + magnitude.bit_length() - (self.frac_bits + 1), self.min_exp)
        kept = round_half_even(magnitude, lsb - exponent)
        # A carry out of the significand increments the exponent field by itself.
        field = 0 if kept < 1 << self.frac_bits else lsb - self.min_exp
        bits = (field << self.frac_bits) + kept
        return sign_bits | min(bits, self.inf)

    def mul(self, a: int, b: int) -> int:
        """a * b, rounded once."""
        sign = (a ^ b) & self.sign_bit
        if self.is_nan(a) or self.is_nan(b):
            return self.nan
        if self.is_inf(a) or self.is_inf(b):
            other = b if self.is_inf(a) else a
            return self.nan if not other & ~self.sign_bit else sign | self.inf
        _, ma, ea = self.decode(a)
        _, mb, eb = self.decode(b)
        return self.encode(1 if sign else 0, ma * mb, ea + eb)

    def add(self, a: int, b: int) -> int:
        """a + b, rounded once; a zero sum is +0 unless both are -0."""
        if self.is_nan(a) or self.is_nan(b):
            return self.nan
        if self.is_inf(a) or self.is_inf(b):
            if self.is_inf(a) and self.is_inf(b) and a != b:
                return self.nan
            return a if self.is_inf(a) else b
        sa, ma, ea = self.decode(a)
        sb, mb, eb = self.decode(b)
        low = min(ea, eb)
        total = (-ma if sa else ma) * (1 << (ea - low)) + (-mb if sb else mb) * (1 << (eb - low))
        if total == 0:
            return self.sign_bit if sa and sb else 0
        return self.encode(int(total < 0), abs(total), low)

    def neg(self, a: int) -> int:
        """-a; the canonical NaN stays as it is."""
        return a if self.is_nan(a) else a ^ self.sign_bit


def round_half_even(value: int, shift: int) -> int:
    """value / 2**shift of a non-negative value, rounded half to even; a negative shift multiplies."""
    if shift <= 0:
        return value << -shift
    kept = value >> shift
    rest = value - (kept << shift)
    half = 1 << (shift - 1)
    return kept + (rest > half or (rest == half and kept & 1))


def round_half_up(value: int, shift: int) -> int:
    """floor(value / 2**shift + 1/2), for negative values too; a negative shift multiplies."""
    if shift <= 0:
        return value << -shift
    return (value + (1 << (shift - 1))) >> shift


#: IEEE 754 binary16, the format of all presets.
BINARY16 = FloatFormat(5, 10)
#: The wider format that each float unit's test runs with as well.
WIDE24 = FloatFormat(8, 15)
