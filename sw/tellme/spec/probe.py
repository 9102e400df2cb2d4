# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The probe: a small LM head whose logits are the board's final state, for models whose own LM head is on the host.

The state before an LM head is a vector of int8 codes and their scale d.  The probe takes the place of the LM head's table.  The
probe has ``dim`` rows; each row is a one in a column of its own, and all rows have the scale 2**k.  The board writes the probe's
logits like any others:

    logit[i] = round_half_up(code[i] * d * 2**(k + 16))

The largest |code| is 127, because codes are round(y * 127 / max |y|), and after a norm no floor lifts the maximum.  So the
largest |logit| gives d, and d gives the codes.  Both are exact as long as 127 * d * 2**(k + 16) lies from PROBE_LEAST to 2**31.

k is the largest number that the upper end allows for any state of the model.  A state below the lower end, 19 octaves down, is
refused.  Logits that are all zero mean a state of zeros; another state would have to lie 32 octaves down to give them.
"""

from fractions import Fraction

from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.scale import SCALE16_BIAS, SCALE_SIG_BITS, Scale, scale_from_fraction

__all__ = ["PROBE_LEAST", "probe_power", "probed_scale"]

#: The largest |code|.
TOP_CODE = 127
#: Powers of two that a stored 16-bit scale can be.
LEAST_POWER, MOST_POWER = SCALE_SIG_BITS - 1 - SCALE16_BIAS + 1, SCALE_SIG_BITS - 1 - SCALE16_BIAS + 63
#: The smallest value of the largest |logit| that determines d: from here on 127 * sig * 2**e with sig of 11 bits has e >= -5, so
#: that neighbouring scales are further apart than the rounding.
PROBE_LEAST = TOP_CODE * 1024 >> 5


def probe_power(dim: int, gain: Fraction | float = 1) -> int:
    """k of a model whose final norm has gains of up to ``gain`` in magnitude.

    127 d is about max |x * gain| / rms, at most sqrt(dim) * gain; roundings add less than 1 %.
    """
    bound = Fraction(101, 100) * Fraction(dim**0.5) * Fraction(gain)
    return next(k for k in range(MOST_POWER, LEAST_POWER - 1, -1) if bound * Fraction(2) ** (LOGIT_FRAC + k) < 2**31 - 1)


def probed_scale(top: int, k: int) -> Scale:
    """d of a state whose largest |logit| is ``top``; ValueError if ``top`` does not determine d."""
    if not PROBE_LEAST <= top < 2**31 - 1:
        raise ValueError(f"a largest logit of {top} is outside the probe's range ({PROBE_LEAST} to {2**31 - 2})")
    unit = scale_from_fraction(Fraction(top, TOP_CODE))
    return unit._replace(exp=unit.exp - LOGIT_FRAC - k)
