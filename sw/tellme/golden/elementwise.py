# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Elementwise arithmetic on binary16 arrays, bit for bit what the gateware does.

Arrays are numpy.float16.  Products and sums of two binary16 values, and products of an accumulator (36 bits) or an
element with a scale (11 bits), are exact in float64, so that the one rounding is the conversion back.  Every NaN that
an operation returns is the canonical one.
"""

import numpy as np
from numpy.typing import NDArray

from tellme.spec.activation import X_FRAC_BITS
from tellme.spec.quantise import NORM_FRAC
from tellme.spec.scale import SQUARE_FRAC, Scale
from tellme.spec.tables import SIGMOID_FRAC_BITS, SIGMOID_LOG_STEP, sigmoid_rom

__all__ = ["F16", "absmax", "activation", "add", "dequantise", "mul", "nonfinite", "norm_codes", "quantise", "rope", "sumsq"]

#: Floats of the format of the gateware, binary16.
F16 = NDArray[np.float16]
_NAN = np.uint16(0x7E00).view(np.float16)
_SIGMOID = np.array([e & (2**SIGMOID_FRAC_BITS - 1) for e in sigmoid_rom()], np.int64)
_SIGMOID_STEP = np.array([e >> SIGMOID_FRAC_BITS for e in sigmoid_rom()], np.int64)


def _round(x: NDArray[np.float64]) -> F16:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        y = x.astype(np.float16)
    if np.isnan(y).any():
        y = np.where(np.isnan(y), _NAN, y)
    return y


def mul(a: F16, b: F16) -> F16:
    """a * b, rounded half to even."""
    with np.errstate(invalid="ignore"):
        return _round(a.astype(np.float64) * b)


def add(a: F16, b: F16) -> F16:
    """a + b, rounded half to even."""
    with np.errstate(invalid="ignore"):
        return _round(a.astype(np.float64) + b)


def dequantise(acc: NDArray[np.int64], scale: Scale | tuple[NDArray[np.int64], NDArray[np.int64]]) -> F16:
    """acc * scale, rounded once; a zero product is +0.  A scale, or arrays of significands and exponents."""
    sig, exp = scale
    return _round(np.ldexp((acc * sig).astype(np.float64), exp))


def quantise(x: F16, s: Scale | tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int8]:
    """clip(x * s rounded half to even, -128, 127); NaN gives 0.  A scale, or arrays that broadcast with x."""
    return _codes(x, s, 0).astype(np.int8)


def norm_codes(x: F16, s: Scale | tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int64]:
    """The same with NORM_FRAC more bits, for :attr:`tellme.spec.program.Op.NORM`: clip(x * s * 16 rounded, -2048, 2047)."""
    return _codes(x, s, NORM_FRAC).astype(np.int64)


def _codes(x: F16, s: Scale | tuple[NDArray[np.int64], NDArray[np.int64]], frac: int) -> NDArray[np.float64]:
    sig, exp = s
    with np.errstate(invalid="ignore"):
        y = np.rint(np.ldexp(x.astype(np.float64) * sig, exp + frac))
    return np.nan_to_num(np.clip(y, -128 << frac, (128 << frac) - 1), nan=0.0)


def rope(x: F16, cos: F16, sin: F16) -> F16:
    """Adjacent pairs along the last axis rotated: cos and sin have one value a pair."""
    x0, x1 = x[..., 0::2], x[..., 1::2]
    y = np.empty_like(x)
    y[..., 0::2] = add(mul(x0, cos), -mul(x1, sin))
    y[..., 1::2] = add(mul(x0, sin), mul(x1, cos))
    return np.where(np.isnan(y), _NAN, y)


def _sigmoid18(x: F16) -> NDArray[np.int64]:
    fixed = np.floor(np.abs(x).astype(np.float64) * (1 << X_FRAC_BITS)).astype(np.int64)
    big = fixed >> X_FRAC_BITS >= 16
    low_bits = X_FRAC_BITS - SIGMOID_LOG_STEP
    index = np.where(big, 0, fixed >> low_bits)
    one = 1 << SIGMOID_FRAC_BITS
    value = _SIGMOID[index] + (_SIGMOID_STEP[index] * (fixed & ((1 << low_bits) - 1)) >> low_bits)
    value = np.where(big, one, value)
    return np.where(np.signbit(x), one - value, value)


def activation(gate: F16, up: F16, *, relu2: bool, act_exp: int = 0) -> F16:
    """f(gate) * 2**-act_exp * up with f = SiLU or ReLU squared; f(gate) * 2**-act_exp is rounded, then the product with up."""
    g = gate.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        if relu2:
            p = np.where(np.isnan(g), g, np.where(np.signbit(gate), 0.0, g * g))
        else:
            finite = np.isfinite(gate)
            p = g * np.where(finite, _sigmoid18(np.where(finite, gate, np.float16(0))), ~np.signbit(gate))
            p = np.where(finite, p * 2.0**-SIGMOID_FRAC_BITS, p)
        return mul(_round(np.ldexp(p, -act_exp)), up)


def sumsq(x: F16) -> int:
    """Sum of the squares, each cut to a multiple of 2**-32, in units of 2**-32: exact."""
    if nonfinite(x):
        return 0
    squares = np.floor(np.square(x.astype(np.float64)) * 2.0**SQUARE_FRAC)
    # A square is exact in float64, and a sum of squares of up to 64 bits is not: add the upper and the lower halves apart.
    high = np.floor(squares * 2.0**-32)
    low = squares - high * 2.0**32
    return (int(high.sum()) << 32) + int(low.astype(np.int64).sum())


def absmax(x: F16) -> NDArray[np.uint16]:
    """Bit patterns of the largest magnitudes along the last axis."""
    return (np.ascontiguousarray(x).view(np.uint16) & 0x7FFF).max(axis=-1)


def nonfinite(x: F16) -> bool:
    """Whether any element is infinite or NaN."""
    return not bool(np.isfinite(x).all())
