# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How far a model is from the float model: KL, the loss on a text, and the share of tokens with the same first choice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Loss", "Measure"]


@dataclass(frozen=True)
class Loss:
    """A model's loss on a text, and its distance from the float model.

    ``kl``: KL(float model, this model), in nats a token.  ``same``: share of tokens whose likeliest next token is the float
    model's.
    """

    nats_per_token: float
    bits_per_byte: float
    kl: float
    same: float
    tokens: int

    def as_json(self) -> dict[str, float | int]:
        """For ``--json``."""
        return {"nats_per_token": self.nats_per_token, "bits_per_byte": self.bits_per_byte, "kl": self.kl,
                "same_first_choice": self.same, "tokens": self.tokens}


class Measure:
    """Adds up the distance of a model's logits from those of the float model, sequence by sequence."""

    def __init__(self, text_bytes: int):
        self._bytes = text_bytes
        self._nats = self._kl = 0.0
        self._same = self._tokens = 0

    def add(self, exact: NDArray[np.floating], logits: NDArray[np.floating], targets: Sequence[int]) -> None:
        """Logits (tokens, vocab) of the float model and of this one, and the tokens that come next."""
        wanted, found = _log_probabilities(exact), _log_probabilities(logits)
        self._kl += math.fsum((np.exp(wanted) * (wanted - found)).sum(axis=1).tolist())
        self._nats -= math.fsum(found[np.arange(len(found)), list(targets)].tolist())
        self._same += int((wanted.argmax(axis=1) == found.argmax(axis=1)).sum())
        self._tokens += len(found)

    def loss(self) -> Loss:
        """Of all that was added."""
        return Loss(self._nats / self._tokens, self._nats / math.log(2) / self._bytes, self._kl / self._tokens,
                    self._same / self._tokens, self._tokens)


def _log_probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


