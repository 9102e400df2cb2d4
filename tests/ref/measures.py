# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How far logits of two implementations may be apart, and why."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLIPS", "LOSS", "Apart", "limit", "measure"]

#: RMS of what two independent int8 roundings of a vector with max |x| = 2.7 RMS differ by, over its RMS:
#: sqrt(2 / 12) * 2.7 / 127.
ROUNDING = 0.0087
#: int8 roundings that feed a layer's output: of attention's input, of q, K and V, and of what o, gate and up, and down read.
ROUNDINGS = 5
#: Two float32 computations of the same mathematics differ by single codes that fall to the other side of a half.
FLIPS = 0.01
#: Relative difference of nats per token on a text.
LOSS = 0.003


def limit(layers: int) -> float:
    """Bound on the mean difference over the logits' standard deviation, between golden and another implementation.

    The golden model has binary16 streams and int8 q, K and V.  The others have float32, and llama.cpp has other activation codes.
    Each of these differences moves activations by more than the distance of many of them from a rounding boundary, so that the
    int8 codes of the two implementations round independently.  Over ``layers`` layers such errors add up in quadrature.
    """
    return ROUNDING * (ROUNDINGS * layers) ** 0.5


@dataclass(frozen=True)
class Apart:
    """Mean difference over the standard deviation; the position of the first pick that differs, and how near a tie the other
    implementation was there (difference of its two logits over the standard deviation)."""

    mean: float
    first: int | None
    tie: float

    def check(self, layers: int) -> None:
        """Within the limit; picks equal up to the first near-tie: four times the limit of a difference of two logits."""
        assert self.mean <= limit(layers), f"{100 * self.mean:.2f} % apart, limit {100 * limit(layers):.2f} %"
        near = 4 * 2**0.5 * limit(layers)
        assert self.tie <= near, f"position {self.first}: picks differ {self.tie:.3f} from a tie, {near:.3f} is near"


def measure(golden: NDArray[np.floating], other: NDArray[np.floating]) -> Apart:
    """Two arrays of logits (positions, vocab)."""
    assert golden.shape == other.shape, f"{golden.shape} and {other.shape}"
    spread = float(other.std())
    mean = float(np.abs(golden - other).mean()) / spread
    a, b = golden.argmax(axis=1), other.argmax(axis=1)
    differ = np.flatnonzero(a != b)
    if not len(differ):
        return Apart(mean, None, 0.0)
    first = int(differ[0])
    return Apart(mean, first, float(other[first, b[first]] - other[first, a[first]]) / spread)
