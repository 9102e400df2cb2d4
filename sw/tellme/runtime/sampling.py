# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a user says about sampling.

The arithmetic is :mod:`tellme.spec.sampling`, one function for every device: the same logits, seed and position give the same
token.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tellme.errors import InputError
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.sampling import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    SEED_BITS,
    TOP_P_ONE,
    DrawSettings,
    draw,
    inverse_temperature,
    max_gap,
)
from tellme.spec.scale import scale_from_fraction

__all__ = ["MAX_PENALTY", "Sampler", "Sampling"]

#: The strongest repetition penalty; its reciprocal is the weakest, which asks for repetition.
MAX_PENALTY = 10.0


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampling, in the order in which they are applied: repetition penalty, top-k, top-p, min-p, temperature.

    ``temperature``: 0 takes the likeliest token; else 1e-6 to below 1e6.  ``min_p``: tokens less than ``min_p`` times as probable
    as the likeliest are left out; 0 to 1.  ``seed``: any whole number; seeds that differ by 2**64 are the same.  ``top_k``: the
    likeliest so many tokens stay, up to the 64 that a board names; 0 for all of these.  ``top_p``: the likeliest tokens stay that
    have a share of ``top_p`` together; 0 to 1, in steps of 2**-16.  ``repeat_penalty``: of tokens that the text has already,
    prompt included, logits above 0 are divided by the penalty and logits below 0 are multiplied; 1 leaves the logits alone, 0.1
    to 10 can be.  Probabilities are over the best 64 tokens.
    """

    temperature: float = 0.0
    min_p: float = 0.0
    seed: int = 0
    top_k: int = 0
    top_p: float = 1.0
    repeat_penalty: float = 1.0

    def __post_init__(self) -> None:
        """A setting outside its range is an InputError."""
        if self.temperature != 0 and not MIN_TEMPERATURE <= self.temperature < MAX_TEMPERATURE:
            raise InputError(f"the temperature is {self.temperature}; 0, or {MIN_TEMPERATURE:g} to below {MAX_TEMPERATURE:g}, is "
                             "wanted")
        for what, value, least, most in (
            ("min_p", self.min_p, 0, 1), ("top_k", self.top_k, 0, TOP_ENTRIES), ("top_p", self.top_p, 0, 1),
            ("repeat_penalty", self.repeat_penalty, 1 / MAX_PENALTY, MAX_PENALTY),
        ):
            if not least <= value <= most:
                raise InputError(f"{what} is {value}; {least:g} to {most:g} is wanted")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken as the logits are, which a board does by itself."""
        return self.temperature == 0 and self.repeat_penalty == 1

    def settings(self) -> DrawSettings:
        """The same as integers."""
        return DrawSettings(
            inverse=inverse_temperature(self.temperature) if self.temperature else None, top_k=self.top_k or TOP_ENTRIES,
            top_p=math.ceil(Fraction(self.top_p) * TOP_P_ONE), max_gap=max_gap(self.min_p),
            penalty=scale_from_fraction(Fraction(self.repeat_penalty)) if self.repeat_penalty != 1 else None,
            seed=self.seed % (1 << SEED_BITS))


class Sampler:
    """Picks the tokens of one text; ``prompt`` are the tokens that the text begins with."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int] = ()):
        self._settings = sampling.settings()
        self._seen = set(prompt)

    def pick(self, top: Sequence[tuple[int, int]], position: int) -> int:
        """The token that goes to ``position``, from the best (id, logit in Q15.16), best first."""
        token = draw(top, self._settings, position, self._seen)
        self._seen.add(token)
        return token
