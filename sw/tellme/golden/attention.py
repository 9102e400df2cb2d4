# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Integer attention of one layer for some tokens at once, bit for bit :mod:`tellme.spec.attention`."""

import numpy as np
from numpy.typing import NDArray

from tellme.golden.elementwise import F16, dequantise
from tellme.golden.scales import Scales, fixed, from_int_half_up, recip127, scale_mul, times_c127, unpack16
from tellme.spec.attention import SCORE_BITS, SCORE_FRAC, SUM_FRAC
from tellme.spec.tables import exp2_rom

__all__ = ["attend"]

_EXP2 = np.array(exp2_rom(), np.int64)
_FRACTION = (1 << SCORE_FRAC) - 1
#: The exponent of keys that a token does not see.
_NEVER = np.int64(-(1 << 20))


def attend(q: NDArray[np.int8], q_scales: Scales, keys: NDArray[np.int8], values: NDArray[np.int8],
           k_scales: NDArray[np.uint16], v_scales: NDArray[np.uint16], position: int) -> F16:
    """Attention outputs (tokens, heads, head_dim) of tokens at positions ``position``, ``position + 1``...

    Shapes: q (tokens, heads, head_dim); the scales of q (tokens, heads), already multiplied by c_att; keys and values
    (kv_heads, positions, head_dim), up to the last token's position; stored scales (kv_heads, positions).  A token sees the
    positions up to its own.
    """
    tokens, heads, head_dim = q.shape
    kv_heads, positions, _ = keys.shape
    group = heads // kv_heads
    # Axes from here on: KV head, query head of the group, token, position.
    grouped = q.transpose(1, 0, 2).reshape(kv_heads, group * tokens, head_dim).astype(np.float32)
    dots = np.matmul(grouped, keys.astype(np.float32).transpose(0, 2, 1)).astype(np.int64)
    dots = dots.reshape(kv_heads, group, tokens, positions)
    query = Scales(*(part.T.reshape(kv_heads, group, tokens, 1) for part in q_scales))
    k, v = (Scales(*(part[:, None, None, :] for part in unpack16(stored))) for stored in (k_scales, v_scales))
    scores = fixed(dots, scale_mul(query, k), SCORE_FRAC, SCORE_BITS)
    seen = np.arange(positions) <= position + np.arange(tokens)[:, None]
    scores = np.where(seen, scores, -(1 << SCORE_BITS))
    diff = scores.max(axis=-1, keepdims=True) - scores
    exp2, i = _EXP2[diff & _FRACTION], diff >> SCORE_FRAC
    total = np.where(seen, (exp2 << (SUM_FRAC - 16)) >> np.minimum(i, 62), 0).sum(axis=-1)
    counts = seen & (v.sig != 0)
    term_exp = np.where(counts, v.exp - i, _NEVER)
    exponent = term_exp.max(axis=-1, keepdims=True)
    exponent = np.where(exponent == _NEVER, 0, exponent)
    down = np.clip(10 + exponent - term_exp, 0, 62)
    weights = np.where(counts, ((exp2 * v.sig >> down) + 1) >> 1, 0)
    sums = np.matmul(weights.reshape(kv_heads, group * tokens, positions).astype(np.float64), values.astype(np.float64))
    inverse = times_c127(recip127(from_int_half_up(total)))
    scale = (inverse.sig[..., None], inverse.exp[..., None] + exponent - 5 + SUM_FRAC)
    out = dequantise(sums.reshape(kv_heads, group, tokens, head_dim).astype(np.int64), scale)
    return out.reshape(heads, tokens, head_dim).transpose(1, 0, 2)
