# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Loss of the golden model on a text, and how a text is cut into windows."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import compile_model, program_length
from tellme.golden.board import CHUNK, GoldenBoard
from tellme.models.config import ModelError
from tellme.models.source import Source, StoredSource
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.config import CoreConfig
from tellme.spec.packing import MAX_PLANES

__all__ = ["SEPARATOR", "Windows", "golden_board", "losses", "nats_of", "nats_per_token", "unlimited_config",
           "window_losses", "windows"]

#: What stands between the texts of a file.
SEPARATOR = "<|endoftext|>"


def unlimited_config(model: Source) -> CoreConfig:
    """A configuration that holds any model of the family: the golden model has none of a board's limits."""
    c = model.config
    return CoreConfig(name="golden", max_dim=c.dim, max_cols=max(c.ffn, c.q_dim), max_head_dim=c.head_dim,
                       max_kv_heads=c.kv_heads, max_group=c.heads // c.kv_heads, max_context=c.context,
                       program_steps=program_length(c), sdram_bytes=1 << 40, planes=MAX_PLANES, multipliers=True,
                       vector_norms=True, residual_biases=True, drafts=True, unlimited=True)


def golden_board(model: StoredSource) -> GoldenBoard:
    """A golden board with a model on it, whatever its size."""
    return GoldenBoard(compile_model(model, unlimited_config(model)))


class Windows(NamedTuple):
    """Windows of ids, each computed from an empty cache, and the bytes of text that they predict."""

    parts: list[list[int]]
    text_bytes: int

    @property
    def tokens(self) -> int:
        """Predictions: all ids but the first of each window."""
        return sum(len(part) - 1 for part in self.parts)


def windows(model: Source, tokenizer: Tokenizer, text: str, limit: int | None = None) -> Windows:
    """A text, or several with SEPARATOR between, as windows of the model's context; each id is predicted once.

    If the model puts BOS before a text: BOS stands before each window and between texts, and the BOS between two texts is
    predicted as the end of the first.  Otherwise: the end token stands between texts, a window begins with the last id of the
    window before, and the first id of all is not predicted.

    White space at the ends of each text is left out.  With ``limit`` the windows end after so many predictions, and the last
    text's bytes are counted token by token.
    """
    c = model.config
    between = c.bos if c.add_bos else c.eos
    texts = [part.strip() for part in text.split(SEPARATOR) if part.strip()]
    if between is None and len(texts) > 1:
        raise ModelError(f"the model {model.name} has neither BOS nor an end token to put between texts, and the text has "
                         f"{SEPARATOR}: give one text")
    # Ids at the start that no earlier id predicts.
    given = 0 if c.add_bos else 1
    stream: list[int] = []
    size = 0
    for part in texts:
        if limit is not None and len(stream) >= limit + given:
            break
        if stream:
            assert between is not None
            stream.append(between)
        ids = tokenizer.encode(part)
        if c.add_bos and ids[:1] == [c.bos]:
            # The text spells BOS out, and a BOS is there already.
            ids = ids[1:]
        room = len(ids) if limit is None else limit + given - len(stream)
        if len(ids) <= room:
            size += len(part.encode())
        elif room > 0:
            size += tokenizer.text_bytes(ids[:room])
        if given and not stream and ids:
            size -= tokenizer.text_bytes(ids[:1])
        stream += ids
    stream = stream if limit is None else stream[:limit + given]
    step = c.context - 1
    if c.add_bos:
        assert c.bos is not None
        parts = [[c.bos, *stream[at:at + step]] for at in range(0, len(stream), step)]
    else:
        parts = [stream[at:at + c.context] for at in range(0, len(stream) - 1, step)]
    return Windows(parts, size)


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


def nats_per_token(model: StoredSource, windows: Sequence[Sequence[int]],
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
