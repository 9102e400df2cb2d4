# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Several texts written at once by the golden model.

Each text is bit for bit what the golden model writes alone: the texts share the products with the weights, and each has a KV
cache of its own.  A token costs a third of the time of a text alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Image, compile_model
from tellme.drafts.texts import whole_texts
from tellme.errors import InputError
from tellme.golden.attention import attend
from tellme.golden.board import GoldenBoard, PassRun
from tellme.golden.elementwise import F16
from tellme.golden.head import best
from tellme.golden.perplexity import unlimited_config
from tellme.golden.scales import Scales, pack16, scale_mul, scales
from tellme.models.source import StoredSource
from tellme.runtime.session import tokenizer_of
from tellme.spec.program import Descriptor, Op, QkvPart
from tellme.spec.sampling import DrawSettings, draw
from tellme.spec.scale import Scale

__all__ = ["State", "Text", "texts_of", "write"]


@dataclass(frozen=True)
class State:
    """What the LM head takes: int8 codes and their scale, which the head's product is multiplied by."""

    codes: NDArray[np.int8]
    sig: int
    exp: int


@dataclass
class Text:
    """Ids from BOS on, of which the first ``prompt`` were given; ``states`` has the final state behind each written id."""

    ids: list[int]
    prompt: int
    states: list[State] = field(default_factory=list)

    @property
    def written(self) -> list[int]:
        return self.ids[self.prompt:]


class _Batch(GoldenBoard):
    """A golden board with a KV cache for each text."""

    def __init__(self, image: Image, texts: int):
        super().__init__(image)
        r = self.registers
        rows, shape = (texts, r["kv_heads"], r["context"], r["head_dim"]), (texts, r["kv_heads"], r["context"])
        # Keys, values, and the stored scales of both, of a layer's cache.
        self._own = {id(cache): (np.zeros(rows, np.int8), np.zeros(rows, np.int8), np.zeros(shape, np.uint16),
                                 np.zeros(shape, np.uint16)) for cache in self._caches.values()}
        self._texts = self._at = np.zeros(0, np.intp)
        self.state: tuple[NDArray[np.int8], Scales] | None = None

    def step(self, tokens: Sequence[int], texts: Sequence[int], at: Sequence[int], heads: str) -> NDArray[np.int32]:
        """Feed a token to each of some texts, at a position of each; the logits of "all", or of "none"."""
        self._texts, self._at = np.array(texts), np.array(at)
        runs = [PassRun(0, position, [token]) for position, token in zip(at, tokens, strict=True)]
        return self._compute(runs, slice(None) if heads == "all" else None)

    def _quantise(self, number: int, d: Descriptor, x: F16, gains: F16 | None) -> tuple[NDArray[np.int8], Scales]:
        made = super()._quantise(number, d, x, gains)
        if d.op == Op.HEAD:
            self.state = made
        return made

    def _heads(self, number: int, y: F16, positions: NDArray[np.intp], gains: F16 | None = None,
               part: QkvPart = QkvPart.WHOLE) -> tuple[NDArray[np.int8], Scales]:
        return super()._heads(number, y, self._at, gains, part)

    def _attention(self, caches: object, runs: Sequence[PassRun], codes: NDArray[np.int8], scale: Scales) -> F16:
        """Texts at the same position are as many KV heads more of one text."""
        r, own = self.registers, self._own[id(caches)]
        heads, kv_heads, head_dim = r["heads"], r["kv_heads"], r["head_dim"]
        keys, values = codes[:, heads:heads + kv_heads], codes[:, heads + kv_heads:]
        stored = pack16(scale)
        q = scale_mul(Scales(scale.sig[:, :heads], scale.exp[:, :heads]), scales(Scale.unpack(r["c_att"])))
        out = np.empty((len(codes), heads, head_dim), np.float16)
        for at in np.unique(self._at):
            which = np.flatnonzero(self._at == at)
            texts, end = self._texts[which], int(at) + 1
            for content, new in zip(own, (keys, values, stored[:, heads:heads + kv_heads], stored[:, heads + kv_heads:]),
                                    strict=True):
                content[texts, :, at] = new[which]
            seen = [content[texts, :, :end].reshape(len(which) * kv_heads, end, *content.shape[3:]) for content in own]
            out[which] = attend(codes[which, :heads].reshape(1, -1, head_dim),
                                Scales(q.sig[which].reshape(1, -1), q.exp[which].reshape(1, -1)),
                                seen[0], seen[1], seen[2], seen[3], int(at)).reshape(-1, heads, head_dim)
        return out


def write(model: StoredSource, prompts: Sequence[Sequence[int]], limit: int, settings: Sequence[DrawSettings], *,
          states: bool = False) -> list[Text]:
    """Texts that the golden model writes behind prompts, up to ``limit`` ids each, or to the end token or the context's end.

    ``settings``: how each text's tokens are drawn.  ``states``: keep the final state behind each id that was written.
    """
    board = _Batch(compile_model(model, unlimited_config(model)), len(prompts))
    texts = [Text(list(prompt), len(prompt)) for prompt in prompts]
    at, going = [0] * len(texts), list(range(len(texts)))
    while going:
        picks = any(at[t] + 1 == len(texts[t].ids) for t in going)
        logits = board.step([texts[t].ids[at[t]] for t in going], going, [at[t] for t in going], "all" if picks else "none")
        still = []
        for i, t in enumerate(going):
            text = texts[t]
            at[t] += 1
            if at[t] == len(text.ids):
                pick = (int(logits[i].argmax()) if settings[t].inverse is None and settings[t].penalty is None else
                        draw(best(logits[i]), settings[t], at[t]))
                text.ids.append(pick)
                if states:
                    assert board.state is not None
                    codes, d = board.state
                    text.states.append(State(codes[i].copy(), int(d.sig[i]), int(d.exp[i])))
                if pick in model.config.ends or len(text.written) == limit or len(text.ids) == model.config.context:
                    continue
            still.append(t)
        going = still
    return texts


def texts_of(model: StoredSource, text: str) -> list[list[int]]:
    """The texts of a file, with SEPARATOR between, as ids from BOS to the end token, as far as the model has these two."""
    tokenizer, c = tokenizer_of(model), model.config
    if tokenizer is None:
        raise InputError(f"the model {model.name} holds no tokenizer")
    return whole_texts(c, tokenizer, text)
