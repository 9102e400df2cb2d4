# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SiLU, ReLU squared and RoPE on bit patterns: each rounding where the hardware rounds."""

from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.tables import SIGMOID_FRAC_BITS, SIGMOID_LOG_STEP, sigmoid_rom

__all__ = ["activation", "rope", "sigmoid18"]

#: |x| enters the sigmoid as fixed point with this many fraction bits, the rest cut off.
X_FRAC_BITS = 12


def sigmoid18(bits: int, fmt: FloatFormat = BINARY16) -> int:
    """sigmoid(x) of a finite float as an integer of 2**-18, 0 to 2**18.

    |x| is cut to a multiple of 2**-12 (fixed); from 16 on the result is 2**18 for positive x and 0 for negative.
    Below: the table entry of |x|'s upper bits, plus its step times the lower 7 bits, cut: base + (step * low >> 7).
    Negative x: 2**18 minus that.
    """
    sign, magnitude, exp = fmt.decode(bits)
    shift = exp + X_FRAC_BITS
    fixed = magnitude << shift if shift >= 0 else magnitude >> -shift
    one = 1 << SIGMOID_FRAC_BITS
    if fixed >> X_FRAC_BITS >= 16:
        return 0 if sign else one
    low_bits = X_FRAC_BITS - SIGMOID_LOG_STEP
    entry = sigmoid_rom()[fixed >> low_bits]
    base, step = entry & (one - 1), entry >> SIGMOID_FRAC_BITS
    value = base + (step * (fixed & ((1 << low_bits) - 1)) >> low_bits)
    return one - value if sign else value


def activation(gate: int, up: int, *, relu2: bool, act_exp: int = 0, fmt: FloatFormat = BINARY16) -> int:
    """f(gate) * up: p = f(gate) * 2**-act_exp rounded once, then p * up rounded once.

    SiLU: f(x) = x * sigmoid18(x) * 2**-18.  ReLU squared: f(x) = x * x for x > 0, else +0.  A NaN gate gives NaN;
    SiLU of -infinity is NaN (infinity times zero), ReLU squared of it +0.
    """
    if fmt.is_nan(gate):
        return fmt.nan
    negative = bool(gate & fmt.sign_bit)
    if relu2:
        if negative:
            p = 0
        elif fmt.is_inf(gate):
            p = fmt.inf
        else:
            _, m, e = fmt.decode(gate)
            p = fmt.encode(0, m * m, 2 * e - act_exp)
    elif fmt.is_inf(gate):
        p = fmt.nan if negative else fmt.inf
    else:
        sign, m, e = fmt.decode(gate)
        p = fmt.encode(sign, m * sigmoid18(gate, fmt), e - SIGMOID_FRAC_BITS - act_exp)
    return fmt.mul(p, up)


def rope(x0: int, x1: int, cos: int, sin: int, fmt: FloatFormat = BINARY16) -> tuple[int, int]:
    """Rotate an adjacent pair: (x0 cos - x1 sin, x0 sin + x1 cos), products and sums each rounded."""
    y0 = fmt.add(fmt.mul(x0, cos), fmt.neg(fmt.mul(x1, sin)))
    y1 = fmt.add(fmt.mul(x0, sin), fmt.mul(x1, cos))
    return y0, y1
