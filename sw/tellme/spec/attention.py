# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Integer attention of one query head, step by step (the paper's decode attention, TeLLMe v2 section 3.7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import e as EULER
from math import log2, sqrt

from tellme.spec.formats import round_half_up
from tellme.spec.scale import C127, Scale, from_int_half_up, recip127, scale_from_fraction, scale_mul
from tellme.spec.tables import exp2_rom

__all__ = ["SCORE_BITS", "Softmax", "c_att", "chunk_read_words", "fixed", "logit", "out_scale", "score", "softmax"]

#: Scores are Q9.9 in base 2.
SCORE_BITS = 18
SCORE_FRAC = 9
LOGIT_FRAC = 16
#: The sum of exponentials has this many fraction bits.
SUM_FRAC = 24


def c_att(head_dim: int) -> Scale:
    """log2(e) / sqrt(head_dim): scores in base 2."""
    return scale_from_fraction(Fraction(log2(EULER) / sqrt(head_dim)))


def fixed(value: int, scale: Scale, frac: int, bits: int) -> int:
    """value * scale with ``frac`` fraction bits, rounded half up, saturated to ``bits`` signed bits."""
    rounded = round_half_up(value * scale.sig, -(scale.exp + frac))
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, rounded))


def score(dot: int, scale: Scale) -> int:
    """Q9.9 score of a key: dot * scale, scale = scale_mul(scale_mul(dq, c_att), sk)."""
    return fixed(dot, scale, SCORE_FRAC, SCORE_BITS)


def logit(dot: int, scale: Scale) -> int:
    """Q15.16 logit: dot * scale, scale = scale_mul(d, row scale)."""
    return fixed(dot, scale, LOGIT_FRAC, 32)


@dataclass(frozen=True)
class Softmax:
    """Weights of a row (16 bits unsigned), the sum of exponentials (24 fraction bits), the largest exponent."""

    weights: list[int]
    total: int
    exponent: int


def softmax(scores: Sequence[int], v_scales: Sequence[Scale]) -> Softmax:
    """Weights exp2(score - max) * v_scale, relative to the largest exponent of the row.  For each key:

        diff = max - score, T = exp2_rom[diff & 511], i = diff >> 9      (exp2 = T * 2**-(16 + i))
        tm = T * sig, te = v exp - i
        weight = ((tm >> (10 + exponent - te)) + 1) >> 1                 (at most 65504)

    with exponent = max te over keys whose v scale is not zero (0 if there is none), and total = sum((T << 8) >> i).
    """
    top = max(scores)
    rom = exp2_rom()
    total = 0
    terms = []
    for s, v in zip(scores, v_scales, strict=True):
        t, i = rom[(top - s) & 511], (top - s) >> SCORE_FRAC
        total += (t << (SUM_FRAC - 16)) >> i
        terms.append((t * v.sig, v.exp - i))
    exponent = max((te for tm, te in terms if tm), default=0)
    weights = [((tm >> (10 + exponent - te)) + 1) >> 1 if tm else 0 for tm, te in terms]
    return Softmax(weights, total, exponent)


def out_scale(total: int, exponent: int) -> Scale:
    """Scale of sum(weight * v).  A weight of 1 stands for an exponential times V scale of 2**(exponent - 5); the sum is divided
    by total / 2**24."""
    inv = scale_mul(recip127(from_int_half_up(total)), C127)
    return Scale(inv.sig, inv.exp + exponent - 5 + SUM_FRAC)


def chunk_read_words(position: int, chunk: int, *, group: int, pes: int, head_dim: int) -> int:
    """32-bit words of K, V and their scales that a chunk reads for one KV head.

    The ``chunk`` tokens at positions position to position + chunk - 1 have chunk * group query heads.  Slots of ``pes`` query
    heads are taken from the last token to the first.  Slot s sees keys(s) = position + chunk - (s * pes) // group keys, and reads
    each of these keys' K rows and V rows once.  The word with both scales of a key is read once for all slots:

        position + chunk + sum over s of 2 * keys(s) * head_dim / 4
    """
    end = position + chunk
    keys = sum(end - first // group for first in range(0, chunk * group, pes))
    return end + 2 * keys * head_dim // 4
