# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Running sums of a tile's rows, behind the dots."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.carry import AddOf, add_table, extend, mask

__all__ = ["Accumulators"]


class Accumulators(wiring.Component):
    """acc[t][row] = total[t] + (0 if first else acc[t][row]), for ``tokens`` totals at once.

    ``step``, ``row`` and ``first`` come a cycle ahead of their ``total`` and may do so every cycle; the sum is written LATENCY
    cycles after them.  Two steps on one row must lie HAZARD cycles apart.  Where no step is under way, ``value`` is that of
    ``read_row`` a cycle before (there is no enable: yosys would make one of 32 LUTs and registers a token).

    int32, exact to 838,000 columns of 20 totals each.  One EBR (of up to 512 rows) and 34 LUTs a token.
    """

    LATENCY = 3
    HAZARD = 3

    def __init__(self, *, rows: int, tokens: int = 1):
        self._rows, self._tokens = rows, tokens
        super().__init__({
            "step": In(1), "row": In(range(rows)), "first": In(1), "total": In(data.ArrayLayout(signed(14), tokens)),
            "read_row": In(range(rows)), "value": Out(data.ArrayLayout(signed(32), tokens)),
        })

    def elaborate(self, platform):
        m = Module()
        steps, rows, goes_on = [self.step], [self.row], Signal()
        for i in range(2):
            step, row = Signal(name=f"step{i}"), Signal.like(self.row, name=f"row{i}")
            m.d.sync += [step.eq(steps[-1]), row.eq(rows[-1])]
            steps.append(step)
            rows.append(row)
        m.d.sync += goes_on.eq(~self.first)
        address = Mux(self.step, self.row, self.read_row)
        # total + (acc and goes_on)
        table = add_table(lambda a, b: a, lambda a, b, c, d: c & d)
        for t in range(self._tokens):
            bank = memory.Memory(shape=signed(32), depth=self._rows, init=[], attrs={"ram_style": "block", "no_rw_check": True})
            m.submodules[f"sums{t}"] = bank
            read, write = bank.read_port(), bank.write_port()
            m.submodules[f"add{t}"] = add = AddOf(width=32, table=table)
            summed = Signal(signed(32), name=f"summed{t}")
            m.d.comb += [
                read.addr.eq(address), self.value[t].eq(read.data),
                add.a.eq(extend(self.total[t], 32)), add.c.eq(read.data), add.d.eq(mask(goes_on, 32)), add.i.eq(Const(0)),
                write.addr.eq(rows[2]), write.data.eq(summed), write.en.eq(steps[2]),
            ]
            m.d.sync += summed.eq(add.s)
        return m
