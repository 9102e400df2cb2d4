# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Loss of the golden model on a text, and how a text is cut into windows."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import compile_model
from tellme.golden.board import CHUNK, GoldenBoard
from tellme.models.model import Model
from tellme.models.tokenizer import Tokenizer
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.config import BoardConfig

__all__ = ["SEPARATOR", "Windows", "golden_board", "losses", "nats_of", "nats_per_token", "roomy", "window_losses", "windows"]

#: What stands between the texts of a file.
SEPARATOR = "<|endoftext|>"


def roomy(model: Model) -> BoardConfig:
    """A configuration that holds any model of the family: the golden model has no board's limits."""
    c = model.config
    return BoardConfig(name="golden", max_dim=c.dim, max_cols=max(c.ffn, c.q_dim), max_head_dim=c.head_dim,
                       max_kv_heads=c.kv_heads, max_group=c.heads // c.kv_heads, max_context=c.context,
                       program_steps=5 * c.layers + 3, sdram_bytes=1 << 40, biases=True)


def golden_board(model: Model) -> GoldenBoard:
    """A golden board with a model on it, whatever its size."""
    return GoldenBoard(compile_model(model, roomy(model)))


class Windows(NamedTuple):
    """Windows of ids, each computed from an empty cache, and the bytes of text that they predict."""

    parts: list[list[int]]
    text_bytes: int

    @property
    def tokens(self) -> int:
        """Predictions: all ids but the first of each window."""
        return sum(len(part) - 1 for part in self.parts)


def windows(model: Model, tokenizer: Tokenizer, text: str, limit: int | None = None) -> Windows:
    """A text, or several with SEPARATOR between, as windows of the model's context that do not overlap.

    BOS stands ahead of each window and between texts, where it is predicted as the end of the one before.  With
    ``limit`` the windows end after so many predictions, and the last text's bytes are counted token by token.
    """
    stream: list[int] = []
    size = 0
    for part in text.split(SEPARATOR):
        if limit is not None and len(stream) >= limit:
            break
        if not part.strip():
            continue
        if stream:
            stream.append(model.config.bos)
        ids = tokenizer.encode(part.strip())
        room = len(ids) if limit is None else limit - len(stream)
        if len(ids) <= room:
            size += len(part.strip().encode())
        elif room > 0:
            size += tokenizer.text_bytes(ids[:room])
        stream += ids
    stream = stream[:limit]
    step = model.config.context - 1
    return Windows([[model.config.bos, *stream[at:at + step]] for at in range(0, len(stream), step)], size)


def losses(logits: NDArray[np.int32], targets: Sequence[int]) -> list[float]:
    """Negative log likelihood of each target under its row of logits (Q15.16)."""
    values = logits / 2.0**LOGIT_FRAC
    top = values.max(axis=1)
    logsum = top + np.log(np.exp(values - top[:, None]).sum(axis=1))
    return [float(x) for x in logsum - values[np.arange(len(targets)), np.asarray(targets)]]


def nats_of(logits: NDArray[np.int32], targets: Sequence[int]) -> float:
    """Their sum, whatever their order."""
    return math.fsum(losses(logits, targets))


def window_losses(board: GoldenBoard, ids: Sequence[int]) -> Iterator[list[float]]:
    """Losses of ids[1:], each given those before it, from position 0; as many at a time as the golden computes at once."""
    for at in range(0, len(ids) - 1, CHUNK):
        part = ids[at:min(at + CHUNK, len(ids) - 1)]
        yield losses(board.feed(part, at, heads="all"), ids[at + 1:at + 1 + len(part)])


def nats_per_token(model: Model, windows: Sequence[Sequence[int]],
                   progress: Callable[[int], object] | None = None) -> float:
    """Mean negative log likelihood over windows of ids, each computed on its own."""
    board = golden_board(model)
    found: list[float] = []
    for ids in windows:
        for part in window_losses(board, ids):
            found += part
            if progress is not None:
                progress(len(part))
    return math.fsum(found) / len(found)
