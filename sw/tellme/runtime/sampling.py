# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How a token is picked from the best logits: one function for every device, so that the same logits and seed give the same
token."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tellme.errors import InputError
from tellme.spec.attention import LOGIT_FRAC

__all__ = ["Sampler", "Sampling", "sample"]

#: A temperature at and above which the softmax over the best 64 is flat to the last digit.
MAX_TEMPERATURE = 1e6


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampling.

    ``temperature``: 0 takes the likeliest token; below 1e6.  ``min_p``: tokens less than ``min_p`` times as probable as the
    likeliest are left out; 0 to 1.  ``seed``: any whole number."""

    temperature: float = 0.0
    min_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < MAX_TEMPERATURE:
            raise InputError(f"the temperature is {self.temperature}; 0 to below {MAX_TEMPERATURE:g} is wanted")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p is {self.min_p}; 0 to 1 is wanted")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, which a board does by itself."""
        return self.temperature == 0


def sample(top: Sequence[tuple[int, int]], temperature: float, min_p: float, rng: random.Random) -> int:
    """A token from the best (id, logit in Q15.16), best first: softmax at the temperature; 0 takes the best.

    Before the softmax, tokens less probable than ``min_p`` times the best one (at temperature 1) are left out; 0 leaves none out.
    """
    if temperature <= 0:
        return top[0][0]
    best = top[0][1]
    if min_p > 0:
        least = best + math.log(min_p) * 2**LOGIT_FRAC
        top = [(token, logit) for token, logit in top if logit >= least]
    weights = [math.exp((logit - best) / 2**LOGIT_FRAC / temperature) for _, logit in top]
    threshold = rng.random() * sum(weights)
    for (token, _), weight in zip(top, weights, strict=True):
        threshold -= weight
        if threshold < 0:
            return token
    return top[-1][0]


class Sampler:
    """Picks the tokens of one generation, with random numbers of its own from the seed on."""

    def __init__(self, sampling: Sampling):
        self._sampling = sampling
        self._random = random.Random(sampling.seed)

    def pick(self, top: Sequence[tuple[int, int]]) -> int:
        """The next token, from the best (id, logit in Q15.16), best first."""
        return sample(top, self._sampling.temperature, self._sampling.min_p, self._random)
