# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Texts that a float model writes itself: what it is calibrated on where no text is like its own."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tellme.errors import InputError
from tellme.models.config import LINEARS
from tellme.quantise.forward import rms_norm, turn, turns
from tellme.quantise.layers import FloatModel

__all__ = ["LENGTH", "sample"]

Floats = NDArray[np.float32]

#: Positions of a sampled sequence, and sequences that are sampled side by side.
LENGTH, BESIDE = 256, 32
#: Tokens that are less probable than the likeliest by this factor are not drawn.
MIN_P = 0.02
TEMPERATURE = 0.9
#: Bytes of floats that sampling may take: all weights have to be in memory.
MOST_BYTES = 3 << 30


def sample(model: FloatModel, tokens: int, progress: Callable[[int], object] = lambda count: None) -> list[list[int]]:
    """Sequences of ``tokens`` tokens together, at temperature 0.9 among tokens of 0.02 of the likeliest's probability at least.

    Each begins with BOS, or with the end token of a model without BOS, and ends with an end token or after LENGTH positions;
    the same sequences come each time.  A model whose weights do not fit MOST_BYTES, or without both tokens, is an InputError.
    """
    c = model.config
    start = c.bos if c.bos is not None else c.eos
    if start is None:
        raise InputError("the model has neither BOS nor an end token to begin its own texts with: give a text")
    size = 4 * (c.ternary_weights + (1 if c.tied else 2) * c.vocab * c.dim)
    if size > MOST_BYTES:
        raise InputError(f"the model's own texts want {size / 1e9:.1f} GB of memory for its weights: give a text")
    writer, rng = _Writer(model), np.random.default_rng(1)
    found: list[list[int]] = []
    while (left := tokens - sum(map(len, found))) > 1:
        found += _batch(writer, start, min(BESIDE, -(-left // LENGTH)), rng, progress)
    return found


def _batch(writer: "_Writer", start: int, count: int, rng: np.random.Generator,
           progress: Callable[[int], object]) -> list[list[int]]:
    """Sequences side by side."""
    c = writer.model.config
    length = min(LENGTH, c.context)
    texts = [[start] for _ in range(count)]
    caches = [np.zeros((2, count, c.kv_heads, length, c.head_dim), np.float32) for _ in range(c.layers)]
    for position in range(length - 1):
        logits = writer.logits(np.array([text[-1] for text in texts]), position, caches)
        noise = rng.gumbel(size=logits.shape)
        scaled = np.where(logits < logits.max(axis=1, keepdims=True) + np.log(MIN_P), -np.inf, logits / TEMPERATURE)
        for text, token in zip(texts, (scaled + noise).argmax(axis=1).tolist(), strict=True):
            if len(text) == 1 or text[-1] not in c.ends:
                text.append(token)
            else:
                # The text is over; what goes on beside it is fed for nothing.
                text.append(text[-1])
        progress(count)
        if all(text[-1] in c.ends for text in texts):
            break
    return [_ended(text, c.ends) for text in texts]


def _ended(text: list[int], ends: tuple[int, ...]) -> list[int]:
    """A text up to its first end token."""
    at = next((i for i, token in enumerate(text) if i and token in ends), len(text))
    return text[:at + 1]


class _Writer:
    """A float model with all of its weights in memory, a token of each sequence at a time."""

    def __init__(self, model: FloatModel):
        self.model = model
        c = model.config
        self._weights = [{name: model.matrix(i, name) for name in LINEARS} for i in range(c.layers)]
        self._embedding = np.concatenate(list(model.floats("embedding")))
        self._head = self._embedding if c.tied else np.concatenate(list(model.floats("head")))
        self._final = model.final_norm()

    def logits(self, tokens: NDArray[np.intp], position: int, caches: list[Floats]) -> Floats:
        """Logits (sequences, vocab) behind a token of each sequence; ``caches`` (K and V, sequences, KV heads, positions,
        head_dim) of each layer take what it gives."""
        c, count = self.model.config, len(tokens)
        x, by = self._embedding[tokens], turns(c, np.full(count, position))
        for i, (weights, cache) in enumerate(zip(self._weights, caches, strict=True)):
            def product(name: str, x: Floats, i: int = i, weights: dict[str, Floats] = weights) -> Floats:
                bias = self.model.bias(i, name)
                y: Floats = x @ weights[name].T
                return y if bias is None else y + bias.astype(np.float32)

            def norm(name: str, x: Floats, i: int = i) -> Floats:
                return rms_norm(x, self.model.gain(i, name), c.eps)

            h = x if c.vector_norms else norm("attn_norm", x)
            q, k = product("wq", h), product("wk", h)
            if c.vector_norms:
                q, k = norm("q_norm", q), norm("k_norm", k)
            q, k = (y.reshape(count, -1, c.head_dim) for y in (q, k))
            if c.qk_norm:
                q, k = norm("q_norm", q), norm("k_norm", k)
            cache[0, :, :, position] = turn(k, by)
            cache[1, :, :, position] = product("wv", h).reshape(count, -1, c.head_dim)
            keys, values = cache[:, :, :, :position + 1]
            scores = turn(q, by).reshape(count, c.kv_heads, -1, c.head_dim) @ keys.swapaxes(2, 3) * c.head_dim**-0.5
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out = (scores / scores.sum(axis=-1, keepdims=True)) @ values
            o = product("wo", out.reshape(count, -1).astype(np.float32))
            x = x + (norm("attn_post_norm", o) if c.vector_norms else o)
            h = x if c.vector_norms else norm("ffn_norm", x)
            gate = product("w1", h)
            down = product("w2", gate / (1 + np.exp(-gate)) * product("w3", h))
            x = x + (norm("ffn_post_norm", down) if c.vector_norms else down)
        result: Floats = rms_norm(x, self._final, c.eps) @ self._head.T
        return result
