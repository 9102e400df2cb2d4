# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a kind of lane is: a dot, the builder that fills the dot's tables, and a ROM of selections; and the engine's kind.

All dots have the ports ``build``, ``select``, ``buffer`` and ``total``, a parameter ``tokens``, and LATENCY.  All builders have
the ports of :class:`hw.tlmm.pairs.PairBuilder`, and CYCLES.
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
    """``dot(tokens=)``, ``builder(cols=, tokens=)``, and the ROM's entries, one for each code of a unit of weights.

    A unit is a byte of five trits, or what ``units`` and ``trits`` say.  ``columns`` are the columns whose codes the builder
    wants at a code address.  Without ``shared``, dot and builder serve one token only.
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


#: The best lookup kind (docs/dse.md); the engine is built with this kind.
PAIR_LANE = Kind(PairDot, PairBuilder, pair_rom)
