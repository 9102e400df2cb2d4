# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a kind of lane is: a dot, the builder that fills it, and what a weight byte selects; and the kind that the engine takes.

All dots have the ports ``build``, ``select``, ``buffer`` and ``total``, take ``tokens``, and have LATENCY; all builders
those of :class:`hw.tlmm.pairs.PairBuilder` and CYCLES.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hw.tlmm.pairs import PairBuilder, PairDot, pair_rom
from tellme.spec.packing import SLICE_BYTES, TRITS

__all__ = ["PAIR_LANE", "Kind"]


def single(addr: int) -> tuple[int, ...]:
    return (addr,)


@dataclass(frozen=True)
class Kind:
    """``dot(tokens=)``, ``builder(cols=, tokens=)``, and the ROM's entries, one a code of a unit of weights.

    A unit is a byte of five trits, or what ``units`` and ``trits`` say.  ``columns`` are those whose codes the builder
    wants at a code address; without ``shared`` dot and builder serve one token.
    """

    dot: type[Any]
    builder: type[Any]
    rom: Callable[[], list[int]]
    columns: Callable[[int], tuple[int, ...]] = single
    units: int = SLICE_BYTES
    trits: int = TRITS
    shared: bool = True

    @property
    def code_bits(self) -> int:
        """Of a unit."""
        return (3**self.trits - 1).bit_length()


#: The best lookup kind (docs/dse.md): what the engine is built of.
PAIR_LANE = Kind(PairDot, PairBuilder, pair_rom)
