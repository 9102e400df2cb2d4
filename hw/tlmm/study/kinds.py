# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""All kinds of lanes that were compared (docs/dse.md), the engine's own among them, by name."""

from hw.tlmm.kinds import PAIR_LANE, Kind
from hw.tlmm.study.bytes import ByteBuilder, ByteDot, byte_rom
from hw.tlmm.study.groups import Shape, group_builder, group_dot
from hw.tlmm.study.plain import PlainBuilder, PlainDot
from hw.tlmm.study.select import ActivationLoader, NegateDot, SelectTreeDot, XorDot, select_rom
from hw.tlmm.study.tables import byte_rom as table_rom
from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS

__all__ = ["BEST_TABLE", "KINDS"]


def four(addr: int) -> tuple[int, ...]:
    return tuple(SLICE * (addr // TRITS) + addr % TRITS + TRITS * b for b in range(SLICE_BYTES))


def of_shape(shape: Shape) -> Kind:
    return Kind(group_dot(shape), group_builder(shape), shape.rom, units=shape.units, trits=shape.trits)


#: Name -> kind, in the order of docs/dse.md.
KINDS = {
    "select-negate": Kind(NegateDot, ActivationLoader, select_rom),
    "select-xor": Kind(XorDot, ActivationLoader, select_rom),
    "select-tree": Kind(SelectTreeDot, ActivationLoader, select_rom),
    "g2": PAIR_LANE,
    "g3-full": of_shape(Shape(7, (3,), folded=False)),
    "g3": of_shape(Shape(7, (3,), folded=True)),
    "g3g2": of_shape(Shape(4, (3, 2), folded=True)),
    "g3g2-plain": Kind(PlainDot, PlainBuilder, table_rom, shared=False),
    "g5-ebr": Kind(ByteDot, ByteBuilder, byte_rom, four),
}
#: The name of the engine's own kind.
BEST_TABLE = "g2"
