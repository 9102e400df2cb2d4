# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Lookups of two and three weights in LUT RAM, full or sign-folded, for comparison with :mod:`hw.tlmm.pairs`.

A shape says how the 20 columns fall into units (what the ROM translates) and groups (what a table looks up).  Units of a
byte are four of five trits; shapes of three trits alone want weights packed otherwise, as seven units of three (35 bits
for 20 weights; the 21st is nothing).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.serial import Step, build_layout, serial_builder
from hw.tlmm.study.gray_order import folded_entry, folded_steps
from hw.tlmm.tree import Term, signed_sum, stages

__all__ = ["Shape", "group_builder", "group_dot"]


@dataclass(frozen=True)
class Shape:
    """``units`` units, each cut into groups of the sizes ``groups``; tables ``folded`` by sign or full."""

    units: int
    groups: tuple[int, ...]
    folded: bool

    @property
    def trits(self) -> int:
        return sum(self.groups)

    @property
    def tables(self) -> list[tuple[int, int]]:
        """(first column, weights) of each table."""
        return [(self.trits * unit + sum(self.groups[:g]), size) for unit in range(self.units)
                for g, size in enumerate(self.groups)]

    def index_bits(self, size: int) -> int:
        entries = (3**size + 1) // 2 if self.folded else 3**size
        return (entries - 1).bit_length()

    def entry_bits(self, size: int) -> int:
        """-128 per weight; +128 per weight occurs in full tables alone."""
        return (128 * size - self.folded).bit_length() + 1

    def entry(self, weights: Sequence[int]) -> tuple[int, int]:
        """(address, sign) of a group's weights; in a full table the negatives lie at the negative addresses."""
        at, negative = folded_entry(weights)
        if self.folded:
            return at, int(negative)
        return (-at if negative else at) % (1 << self.index_bits(len(weights))), 0

    @property
    def select(self) -> data.ArrayLayout:
        fields: dict[str, int] = {}
        for g, size in enumerate(self.groups):
            fields |= {f"index{g}": self.index_bits(size), f"sign{g}": 1}
        return data.ArrayLayout(data.StructLayout(fields), self.units)

    def rom(self) -> list[int]:
        """What each unit selects; codes that are no weights select zeros."""
        rom = []
        for code in range(1 << (3**self.trits - 1).bit_length()):
            entry = at = place = 0
            for size in self.groups:
                w = [code // 3**(at + i) % 3 - 1 for i in range(size)] if code < 3**self.trits else [0] * size
                index, sign = self.entry(w)
                entry |= (index | sign << self.index_bits(size)) << place
                at, place = at + size, place + self.index_bits(size) + 1
            rom.append(entry)
        return rom

    @property
    def build(self) -> dict[str, int]:
        """Arguments of :func:`hw.tlmm.serial.build_layout`."""
        return {"tables": len(self.tables), "at_bits": max(self.index_bits(size) for size in self.groups),
                "value_bits": max(self.entry_bits(size) for size in self.groups)}

    def program(self) -> list[Step]:
        """The builder's cycles; of a full table first the entries behind zero, then their negatives."""
        steps = []
        for table, (column, size) in enumerate(self.tables):
            for direction in (1,) if self.folded else (1, -1):
                steps.append(Step(column))
                steps += [Step(column + which, minus=sign * direction < 0, table=table,
                               at=direction * n % (1 << self.index_bits(size)))
                          for n, (which, sign) in enumerate(folded_steps(size), 1)]
        return steps


def group_dot(shape: Shape) -> type[wiring.Component]:
    """The dot of a shape: interface and rules of :class:`hw.tlmm.pairs.PairDot`.  Entry 0 is zero and never written."""

    class GroupDot(wiring.Component):
        LATENCY = 2 + stages(len(shape.tables))

        def __init__(self, *, tokens: int = 1):
            self._tokens = tokens
            super().__init__({"build": In(build_layout(**shape.build, tokens=tokens)), "select": In(shape.select),
                              "buffer": In(1), "total": Out(data.ArrayLayout(signed(14), tokens))})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            buffer, indices, signs = Signal(), [], []
            m.d.sync += buffer.eq(self.buffer)
            for unit in range(shape.units):
                for g, size in enumerate(shape.groups):
                    index, sign, later = Signal(shape.index_bits(size)), Signal(), Signal()
                    m.d.sync += [index.eq(self.select[unit][f"index{g}"]), sign.eq(self.select[unit][f"sign{g}"]),
                                 later.eq(sign)]
                    indices.append(index)
                    # A constant, so that full tables pay for none.
                    signs.append(later if shape.folded else Const(0))
            for t in range(self._tokens):
                terms = []
                for k, (_, size) in enumerate(shape.tables):
                    bits = shape.entry_bits(size)
                    m.submodules[f"table{k}_{t}"] = table = memory.Memory(
                        shape=unsigned(bits), depth=2 << shape.index_bits(size), init=[],
                        attrs={"ram_style": "distributed"})
                    write, read = table.write_port(), table.read_port(domain="comb")
                    value = Signal(signed(bits), name=f"value{k}_{t}")
                    m.d.comb += [write.addr.eq(Cat(self.build.at[:shape.index_bits(size)], self.build.buffer)),
                                 write.data.eq(self.build.values[t]), write.en.eq(self.build.write[k]),
                                 read.addr.eq(Cat(indices[k], buffer))]
                    m.d.sync += value.eq(read.data)
                    terms.append(Term(value, signs[k], -128 * size, 128 * size - shape.folded))
                m.d.comb += self.total[t].eq(signed_sum(m, terms, f"sum{t}"))
            return m

    return GroupDot


def group_builder(shape: Shape) -> type[wiring.Component]:
    """The serial builder of a shape."""
    return serial_builder(shape.program(), **shape.build)
