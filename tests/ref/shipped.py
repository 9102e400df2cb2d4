# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the shipped models are compared on: a text's loss, and a greedy continuation."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellme.golden.perplexity import golden_board, nats_of, windows
from tellme.models import Model
from tellme.models.shipped import find_model, shipped
from tellme.models.tokenizer import Tokenizer
from tellme.spec.attention import LOGIT_FRAC

__all__ = ["MODELS", "golden_nats", "golden_text", "nats"]

MODELS = {name: find_model(name) for name in shipped()}
TEXT = Path(__file__).parent.parent / "data" / "stories.txt"
#: Predictions of the text, and tokens of the continuation.
TOKENS, GREEDY = 1000, 48

Logits = Callable[[Sequence[int]], NDArray[np.float32]]


def text_windows(model: Model) -> list[list[int]]:
    """Windows of ids as ``tellme-host perplexity`` cuts them."""
    parts = windows(model, Tokenizer(model.tokenizer), TEXT.read_text("utf-8"), TOKENS).parts
    assert sum(len(p) - 1 for p in parts) == TOKENS
    return parts


@cache
def golden_nats(name: str) -> float:
    """Nats per token of the golden on the text."""
    board = golden_board(MODELS[name])
    return sum(nats_of(board.feed(ids[:-1], 0, heads="all"), ids[1:]) for ids in text_windows(MODELS[name])) / TOKENS


def nats(name: str, logits: Logits) -> float:
    """Nats per token of another implementation."""
    return sum(nats_of(logits(ids[:-1]).astype(np.float64) * 2.0**LOGIT_FRAC, ids[1:])
               for ids in text_windows(MODELS[name])) / TOKENS


@cache
def golden_text(name: str) -> tuple[list[int], NDArray[np.floating]]:
    """Ids of a greedy continuation of BOS, and the golden's logits at each."""
    model = MODELS[name]
    board, ids, rows = golden_board(model), [model.config.bos], []
    for position in range(GREEDY):
        rows.append(board.feed(ids[-1:], position)[0])
        ids.append(int(rows[-1].argmax()))
    return ids[:-1], np.array(rows) / 2.0**LOGIT_FRAC
