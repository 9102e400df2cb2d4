# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The kinds of lane arithmetic there are: a dot, the builder that fills it, and what a weight byte selects.

All dots have the ports ``build``, ``select``, ``buffer`` and ``total``, take ``tokens``, and have LATENCY; all builders
those of :class:`hw.tlmm.pairs.PairBuilder` and CYCLES.
"""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.lib import wiring

from hw.tlmm.bytes import ByteBuilder, ByteDot, byte_rom
from hw.tlmm.pairs import PairBuilder, PairDot, pair_rom
from hw.tlmm.select import ActivationLoader, NegateDot, SelectTreeDot, XorDot, select_rom
from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS

__all__ = ["BEST_TABLE", "KINDS", "Kind"]


def single(addr: int) -> tuple[int, ...]:
    return (addr,)


def four(addr: int) -> tuple[int, ...]:
    return tuple(SLICE * (addr // TRITS) + addr % TRITS + TRITS * b for b in range(SLICE_BYTES))


@dataclass(frozen=True)
class Kind:
    """``dot(tokens=)``, ``builder(cols=, tokens=)``, and 256 ROM entries, one a weight byte; the columns whose codes the
    builder wants at a code address."""

    dot: type[wiring.Component]
    builder: type[wiring.Component]
    rom: Callable[[], list[int]]
    columns: Callable[[int], tuple[int, ...]] = single


KINDS = {
    "select-negate": Kind(NegateDot, ActivationLoader, select_rom),
    "select-xor": Kind(XorDot, ActivationLoader, select_rom),
    "select-tree": Kind(SelectTreeDot, ActivationLoader, select_rom),
    "g2": Kind(PairDot, PairBuilder, pair_rom),
    "g5-ebr": Kind(ByteDot, ByteBuilder, byte_rom, four),
}
#: The best lookup kind: what the engine is built of.
BEST_TABLE = "g2"
