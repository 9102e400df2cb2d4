# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The kinds of lane arithmetic there are: a dot, the builder that fills it, and what a weight byte selects.

All dots have the ports ``build``, ``select``, ``buffer`` and ``total``, take ``tokens``, and have LATENCY; all builders
those of :class:`hw.tlmm.pairs.PairBuilder` and CYCLES.
"""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.lib import wiring

from hw.tlmm.pairs import PairBuilder, PairDot, pair_rom

__all__ = ["BEST_TABLE", "KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """``dot(tokens=)``, ``builder(cols=, tokens=)``, and 256 ROM entries, one a weight byte."""

    dot: type[wiring.Component]
    builder: type[wiring.Component]
    rom: Callable[[], list[int]]


KINDS = {
    "g2": Kind(PairDot, PairBuilder, pair_rom),
}
#: The best lookup kind: what the engine is built of.
BEST_TABLE = "g2"
