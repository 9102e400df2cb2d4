# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The lane of three and two weights with plain adders and its parallel builder, behind the ports of the other kinds."""

from amaranth.hdl import Module, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.study.builder import TableBuilder
from hw.tlmm.study.lane import BuildLayout, SelectLayout, TableDot

__all__ = ["PlainBuilder", "PlainDot"]


class PlainDot(wiring.Component):
    """:class:`hw.tlmm.study.lane.TableDot`; raises ValueError for more than one token."""

    LATENCY = TableDot.LATENCY

    def __init__(self, *, tokens: int = 1):
        if tokens != 1:
            raise ValueError(f"tokens is {tokens}; a PlainDot serves one")
        super().__init__({"build": In(BuildLayout), "select": In(SelectLayout), "buffer": In(1),
                          "total": Out(data.ArrayLayout(signed(14), 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dot = dot = TableDot()
        m.d.comb += [dot.build.eq(self.build), dot.select.eq(self.select), dot.buffer.eq(self.buffer),
                     self.total[0].eq(dot.total)]
        return m


class PlainBuilder(wiring.Component):
    """:class:`hw.tlmm.study.builder.TableBuilder`; raises ValueError for more than one token."""

    #: TableBuilder counts from one start to the next.
    CYCLES = TableBuilder.CYCLES - 1

    def __init__(self, *, cols: int, tokens: int = 1):
        if tokens != 1:
            raise ValueError(f"tokens is {tokens}; a PlainBuilder serves one at a time")
        self._cols = cols
        super().__init__({
            "start": In(1), "first_col": In(range(cols)), "cols": In(range(cols + 1)), "buffer": In(1),
            "code_addr": Out(range(cols)), "code": In(data.ArrayLayout(signed(8), 1)),
            "build": Out(BuildLayout), "done": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.builder = builder = TableBuilder(cols=self._cols)
        m.d.comb += [
            builder.start.eq(self.start), builder.first_col.eq(self.first_col), builder.cols.eq(self.cols),
            builder.buffer.eq(self.buffer), builder.code.eq(self.code[0]), self.code_addr.eq(builder.code_addr),
            self.build.eq(builder.build), self.done.eq(builder.done),
        ]
        return m
