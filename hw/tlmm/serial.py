# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Builders with one adder: entry after entry, table after table, in an order that an EBR holds."""

from collections.abc import Sequence
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.carry import AddOf, add_table, extend, mask
from tellme.spec.packing import SLICE

__all__ = ["Step", "build_layout", "serial_builder"]


class Step(NamedTuple):
    """A cycle of a builder.  With ``table`` None the sum begins at zero again.  Otherwise the activation of ``column`` is added
    (with ``minus``: subtracted) and the sum is written to entry ``at`` of ``table``.  ``low`` is explained at
    :func:`build_layout`. Columns from 20 on count as zero."""

    column: int
    minus: bool = False
    at: int = 0
    table: int | None = None
    low: bool = False


def build_layout(*, tables: int, at_bits: int, value_bits: int, tokens: int) -> data.StructLayout:
    """Writes into the tables of all tokens: ``write`` has a bit per table, ``low`` is high with entries that are a single
    activation, ``last`` with the last write of a buffer."""
    return data.StructLayout({"write": tables, "buffer": 1, "at": at_bits, "low": 1, "last": 1,
                              "values": data.ArrayLayout(signed(value_bits), tokens)})


def serial_builder(program: Sequence[Step], *, tables: int, at_bits: int, value_bits: int) -> type[wiring.Component]:
    """The builder that executes ``program``."""
    layout = data.StructLayout({"clear": 1, "minus": 1, "column": 5, "past": 1, "at": at_bits, "low": 1, "write": tables})
    words = [{"clear": step.table is None, "minus": step.minus, "column": step.column % SLICE, "past": step.column >= SLICE,
              "at": step.at, "low": step.low, "write": 0 if step.table is None else 1 << step.table} for step in program]

    class SerialBuilder(wiring.Component):
        """Fills a buffer of all tables, one entry per cycle; the same for ``tokens`` vectors side by side.

        After ``start`` (a pulse) the builder reads the codes of the 20 columns from ``first_col`` on, in the order in which the
        entries follow from one another, and writes into ``buffer`` on ``build``.  ``code`` comes a cycle after ``code_addr``; the
        address is the same for all tokens; columns from ``cols`` on count as zero.  ``done`` is a pulse with the last write,
        CYCLES after start.  Maps to one adder per token and one EBR for all.
        """

        CYCLES = len(words) + 5

        def __init__(self, *, cols: int, tokens: int = 1):
            self._tokens = tokens
            super().__init__({
                "start": In(1), "first_col": In(range(cols)), "cols": In(range(cols + 1)), "buffer": In(1),
                "code_addr": Out(range(cols)), "code": In(data.ArrayLayout(signed(8), tokens)),
                "build": Out(build_layout(tables=tables, at_bits=at_bits, value_bits=value_bits, tokens=tokens)),
                "done": Out(1),
            })

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.submodules.program = rom = memory.Memory(shape=layout, depth=len(words), init=words,
                                                       attrs={"ram_style": "block"})
            read = rom.read_port()
            first, cols, buffer = Signal.like(self.first_col), Signal.like(self.cols), Signal()
            at, running, ending = Signal(range(len(words))), Signal(), Signal()
            m.d.comb += [read.addr.eq(at), ending.eq(running & (at == len(words) - 1))]
            with m.If(self.start):
                m.d.sync += [first.eq(self.first_col), cols.eq(self.cols), buffer.eq(self.buffer), running.eq(1), at.eq(0)]
            with m.Elif(running):
                m.d.sync += at.eq(at + 1)
                with m.If(ending):
                    m.d.sync += running.eq(0)
            # Stage 1: the ROM's word; 2: the column; 3: its code is here; 4: it is x; 5: the sum, and its write.
            column, past, inside = Signal.like(self.code_addr), Signal(), Signal()
            m.d.sync += [column.eq(first + read.data.column), past.eq(read.data.past), inside.eq(~past & (column < cols))]
            m.d.comb += self.code_addr.eq(column)
            going, ends = Signal(5), Signal(5)
            m.d.sync += [going.eq(Cat(running, going)), ends.eq(Cat(ending, ends))]
            staged: list[Value] = [Cat(read.data.clear, read.data.minus, read.data.low, read.data.at, read.data.write)]
            for i in range(2, 6):
                later = Signal(len(staged[0]), name=f"stage{i}")
                m.d.sync += later.eq(staged[-1])
                staged.append(later)
            clear, subtract = staged[3][0], staged[3][1]
            table = add_table(lambda a, b: a, lambda a, b, c, d: (b & c) ^ d)
            for t in range(self._tokens):
                x, entry = Signal(signed(8), name=f"x{t}"), Signal(signed(value_bits), name=f"entry{t}")
                m.submodules[f"add{t}"] = add = AddOf(width=value_bits, table=table)
                m.d.sync += x.eq(Mux(inside, self.code[t], 0))
                m.d.comb += [add.a.eq(entry), add.b.eq(extend(x, value_bits)), add.c.eq(Const(-1, signed(value_bits))),
                             add.d.eq(mask(subtract, value_bits)), add.i.eq(subtract)]
                m.d.sync += entry.eq(Mux(clear, 0, add.s))
                m.d.comb += self.build.values[t].eq(entry)
            writes = staged[4]
            m.d.comb += [
                self.build.buffer.eq(buffer), self.build.low.eq(writes[2] & going[4]), self.build.last.eq(ends[4]),
                self.build.at.eq(writes[3:3 + at_bits]), self.build.write.eq(writes[3 + at_bits:] & mask(going[4], tables)),
                self.done.eq(ends[4]),
            ]
            return m

    return SerialBuilder
