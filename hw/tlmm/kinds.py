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
from hw.tlmm.groups import Shape, group_builder, group_dot
from hw.tlmm.pairs import PairBuilder, PairDot, pair_rom
from hw.tlmm.plain import PlainBuilder, PlainDot
from hw.tlmm.select import ActivationLoader, NegateDot, SelectTreeDot, XorDot, select_rom
from hw.tlmm.tables import byte_rom as table_rom
from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS

__all__ = ["BEST_TABLE", "KINDS", "Kind"]


def single(addr: int) -> tuple[int, ...]:
    return (addr,)


def four(addr: int) -> tuple[int, ...]:
    return tuple(SLICE * (addr // TRITS) + addr % TRITS + TRITS * b for b in range(SLICE_BYTES))


@dataclass(frozen=True)
class Kind:
    """``dot(tokens=)``, ``builder(cols=, tokens=)``, and the ROM's entries, one a code of a unit of weights.

    A unit is a byte of five trits, or what ``units`` and ``trits`` say.  ``columns`` are those whose codes the builder
    wants at a code address; without ``shared`` dot and builder serve one token.
    """

    dot: type[wiring.Component]
    builder: type[wiring.Component]
    rom: Callable[[], list[int]]
    columns: Callable[[int], tuple[int, ...]] = single
    units: int = SLICE_BYTES
    trits: int = TRITS
    shared: bool = True

    @property
    def code_bits(self) -> int:
        """Of a unit."""
        return (3**self.trits - 1).bit_length()


def of_shape(shape: Shape) -> Kind:
    return Kind(group_dot(shape), group_builder(shape), shape.rom, units=shape.units, trits=shape.trits)


KINDS = {
    "select-negate": Kind(NegateDot, ActivationLoader, select_rom),
    "select-xor": Kind(XorDot, ActivationLoader, select_rom),
    "select-tree": Kind(SelectTreeDot, ActivationLoader, select_rom),
    "g2": Kind(PairDot, PairBuilder, pair_rom),
    "g3-full": of_shape(Shape(7, (3,), folded=False)),
    "g3": of_shape(Shape(7, (3,), folded=True)),
    "g3g2": of_shape(Shape(4, (3, 2), folded=True)),
    "g3g2-plain": Kind(PlainDot, PlainBuilder, table_rom, shared=False),
    "g5-ebr": Kind(ByteDot, ByteBuilder, byte_rom, four),
}
#: The best lookup kind: what the engine is built of.
BEST_TABLE = "g2"
