# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Loss of the golden model on a text."""

from collections.abc import Callable, Sequence

import numpy as np

from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.models.model import Model
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.config import BoardConfig

__all__ = ["golden_board", "nats_per_token", "roomy", "total_nats"]


def roomy(model: Model) -> BoardConfig:
    """A configuration that holds any model of the family: the golden model has no board's limits."""
    c = model.config
    return BoardConfig(name="golden", max_dim=c.dim, max_cols=max(c.ffn, c.q_dim), max_head_dim=c.head_dim,
                       max_kv_heads=c.kv_heads, max_group=c.heads // c.kv_heads, max_context=c.context,
                       program_steps=5 * c.layers + 3, sdram_bytes=1 << 40, biases=True)


def golden_board(model: Model) -> GoldenBoard:
    """A golden board with a model on it, whatever its size."""
    return GoldenBoard(compile_model(model, roomy(model)))


def total_nats(board: GoldenBoard, ids: Sequence[int]) -> float:
    """Sum of the negative log likelihoods of ids[1:], each given those before it, from position 0."""
    logits = board.feed(ids[:-1], 0, heads="all") / 2.0**LOGIT_FRAC
    top = logits.max(axis=1)
    logsum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((logsum - logits[np.arange(len(ids) - 1), np.asarray(ids[1:])]).sum())


def nats_per_token(model: Model, windows: Sequence[Sequence[int]],
                   progress: Callable[[int], object] | None = None) -> float:
    """Mean negative log likelihood over windows of ids, each computed on its own."""
    board = golden_board(model)
    total, count = 0.0, 0
    for ids in windows:
        total += total_nats(board, ids)
        count += len(ids) - 1
        if progress is not None:
            progress(len(ids) - 1)
    return total / count
