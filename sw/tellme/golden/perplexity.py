# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Loss of the golden model on a text."""

import numpy as np

from tellme.golden.board import GoldenBoard
from tellme.models.model import Model
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.config import BoardConfig

__all__ = ["golden_logits", "nats_per_token", "roomy"]


def roomy(model: Model) -> BoardConfig:
    """A configuration that holds any model of the family: the golden model has no board's limits."""
    c = model.config
    return BoardConfig(name="golden", max_dim=c.dim, max_cols=max(c.ffn, c.q_dim), max_head_dim=c.head_dim,
                       max_kv_heads=c.kv_heads, max_group=c.heads // c.kv_heads, max_context=c.context,
                       program_steps=5 * c.layers + 3, sdram_bytes=1 << 40)


def golden_logits(board: GoldenBoard, ids: list[int]) -> np.ndarray:
    """Logits (positions, vocab) as float64 after each of the ids, from position 0."""
    rows = []
    for position, token in enumerate(ids):
        logits = board.feed(token, position)
        assert logits is not None  # the head was asked for
        rows.append(logits / 2.0**LOGIT_FRAC)
    return np.array(rows)


def nats_per_token(model: Model, ids: list[int]) -> float:
    """Mean negative log likelihood of ids[1:], each given those before it."""
    logits = golden_logits(GoldenBoard(model, roomy(model)), ids[:-1])
    top = logits.max(axis=1)
    logsum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((logsum - logits[np.arange(len(ids) - 1), ids[1:]]).mean())
