# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Lookups of two and three weights in LUT RAM, full or sign-folded, for comparison with :mod:`hw.tlmm.pairs`.

A shape says how the 20 columns fall into units (what the ROM translates) and groups (what a table looks up).  Units of a
byte are four of five trits; shapes of three trits alone want weights packed otherwise, as seven units of three (35 bits
for 20 weights; the 21st is nothing).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.carry import AddOf, add_table, extend, mask
from hw.tlmm.tree import Term, signed_sum, stages
from hw.tlmm.walk import folded_entry, folded_steps
from tellme.spec.packing import SLICE

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
    def at_bits(self) -> int:
        return max(self.index_bits(size) for size in self.groups)

    @property
    def value_bits(self) -> int:
        return max(self.entry_bits(size) for size in self.groups)

    def build(self, tokens: int) -> data.StructLayout:
        """Writes: ``write`` has a bit a table."""
        return data.StructLayout({"write": len(self.tables), "buffer": 1, "at": self.at_bits,
                                  "values": data.ArrayLayout(signed(self.value_bits), tokens)})

    def program(self) -> list[tuple[int, int, int, int, int]]:
        """The builder's cycles: (clear, minus, column, address, table or -1 for no write)."""
        cycles = []
        for table, (column, size) in enumerate(self.tables):
            for direction in (1,) if self.folded else (1, -1):
                cycles.append((1, 0, column, 0, -1))
                for n, (which, sign) in enumerate(folded_steps(size), 1):
                    cycles.append((0, int(sign * direction < 0), column + which,
                                   direction * n % (1 << self.index_bits(size)), table))
        return cycles


def group_dot(shape: Shape) -> type[wiring.Component]:
    """The dot of a shape: interface and rules of :class:`hw.tlmm.pairs.PairDot`.  Entry 0 is zero and never written."""

    class GroupDot(wiring.Component):
        LATENCY = 2 + stages(len(shape.tables))

        def __init__(self, *, tokens: int = 1):
            self._tokens = tokens
            super().__init__({"build": In(shape.build(tokens)), "select": In(shape.select), "buffer": In(1),
                              "total": Out(data.ArrayLayout(signed(14), tokens))})

        def elaborate(self, platform):
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
    """The serial builder of a shape, one adder a token, its order in an EBR; ports as
    :class:`hw.tlmm.pairs.PairBuilder`."""
    program = shape.program()
    layout = data.StructLayout({"clear": 1, "minus": 1, "column": 5, "past": 1, "at": shape.at_bits,
                                "write": len(shape.tables)})

    class GroupBuilder(wiring.Component):
        CYCLES = len(program) + 5

        def __init__(self, *, cols: int, tokens: int = 1):
            self._tokens = tokens
            super().__init__({
                "start": In(1), "first_col": In(range(cols)), "cols": In(range(cols + 1)), "buffer": In(1),
                "code_addr": Out(range(cols)), "code": In(data.ArrayLayout(signed(8), tokens)),
                "build": Out(shape.build(tokens)), "done": Out(1),
            })

        def elaborate(self, platform):
            m = Module()
            words = [{"clear": clear, "minus": minus, "column": column % SLICE, "past": column >= SLICE, "at": at,
                      "write": 0 if table < 0 else 1 << table} for clear, minus, column, at, table in program]
            m.submodules.program = rom = memory.Memory(shape=layout, depth=len(words), init=words,
                                                       attrs={"ram_style": "block"})
            read = rom.read_port()
            first, cols, buffer = Signal.like(self.first_col), Signal.like(self.cols), Signal()
            at, running = Signal(range(len(words) + 1)), Signal()
            with m.If(self.start):
                m.d.sync += [first.eq(self.first_col), cols.eq(self.cols), buffer.eq(self.buffer), running.eq(1), at.eq(0)]
            with m.Elif(running):
                m.d.sync += at.eq(at + 1)
                with m.If(at == len(words) - 1):
                    m.d.sync += running.eq(0)
            m.d.comb += read.addr.eq(at)
            # Stage 1: the ROM's word; 2: the column; 3: its code is here; 4: x; 5: the sum, and its write.
            column, past, inside = Signal.like(self.code_addr), Signal(), Signal()
            m.d.sync += [column.eq(first + read.data.column), past.eq(read.data.past), inside.eq(~past & (column < cols))]
            m.d.comb += self.code_addr.eq(column)
            stage = Cat(read.data.clear, read.data.minus, read.data.at, read.data.write)
            staged = [stage]
            going, ending = Signal(5), Signal(5)
            m.d.sync += [going.eq(Cat(running, going)), ending.eq(Cat(running & (at == len(words) - 1), ending))]
            for i in range(4):
                later = Signal(len(stage), name=f"stage{i}")
                m.d.sync += later.eq(staged[-1])
                staged.append(later)
            clear, subtract, bits = staged[3][0], staged[3][1], shape.value_bits
            table = add_table(lambda a, b: a, lambda a, b, c, d: (b & c) ^ d)
            for t in range(self._tokens):
                x, entry = Signal(signed(8), name=f"x{t}"), Signal(signed(bits), name=f"entry{t}")
                m.submodules[f"add{t}"] = add = AddOf(width=bits, table=table)
                m.d.sync += x.eq(Mux(inside, self.code[t], 0))
                m.d.comb += [add.a.eq(entry), add.b.eq(extend(x, bits)), add.c.eq(Const(-1, signed(bits))),
                             add.d.eq(mask(subtract, bits)), add.i.eq(subtract)]
                m.d.sync += entry.eq(Mux(clear, Const(0, bits), add.s))
                m.d.comb += self.build.values[t].eq(entry)
            m.d.comb += [self.build.at.eq(staged[4][2:2 + shape.at_bits]), self.build.buffer.eq(buffer),
                         self.build.write.eq(staged[4][2 + shape.at_bits:] & mask(going[4], len(shape.tables))),
                         self.done.eq(ending[4])]
            return m

    return GroupBuilder
