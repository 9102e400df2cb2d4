# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Builds lookup tables from int8 activations; one builder serves all lanes in turn."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.study.lane import PAIR_BITS, TRIPLE_BITS, BuildLayout
from hw.tlmm.study.tables import BUILD_CYCLES, PAIR_STEPS, TRIPLE_STEPS
from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS

__all__ = ["TableBuilder"]


class TableBuilder(wiring.Component):
    """Loads the 20 activations of a slice, one a cycle, and adds one activation to the entry before in each cycle.

    ``start`` (a pulse): read 20 codes from ``code_addr`` up (``code`` one cycle later; columns from ``cols`` on count
    as zero), then write the 14 (pair tables: 9) entries into ``buffer`` on ``build``.  ``done`` is a pulse with the last
    write.  CYCLES from start to done.  Eight adders, paid once for all lanes.
    """

    CYCLES = SLICE + BUILD_CYCLES + 3

    def __init__(self, *, cols: int):
        super().__init__({
            "start": In(1), "first_col": In(range(cols)), "cols": In(range(cols + 1)), "buffer": In(1),
            "code_addr": Out(range(cols)), "code": In(signed(8)),
            "build": Out(BuildLayout), "done": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        x = [Signal(signed(8), name=f"x{i}") for i in range(SLICE)]
        count = Signal(range(SLICE + 2))
        column = Signal.like(self.cols)
        inside, loading = Signal(), Signal()
        m.d.comb += self.code_addr.eq(column)
        with m.If(loading):
            m.d.sync += [x[i].eq(x[i + 1]) for i in range(SLICE - 1)]
            m.d.sync += x[-1].eq(Mux(inside, self.code, 0))
        triples = [Signal(signed(TRIPLE_BITS), name=f"triple{b}") for b in range(SLICE_BYTES)]
        pairs = [Signal(signed(PAIR_BITS), name=f"pair{b}") for b in range(SLICE_BYTES)]
        step = Signal(range(BUILD_CYCLES + 1))
        # Per step: which activation, and whether it is subtracted.
        choose3 = Array([s[1] or 0 for s in TRIPLE_STEPS])
        minus3 = Array([int(s[2] < 0) for s in TRIPLE_STEPS])
        pair_steps = [*PAIR_STEPS, *[(0, None, 0)] * (BUILD_CYCLES - len(PAIR_STEPS))]
        choose2 = Array([s[1] or 0 for s in pair_steps])
        minus2 = Array([int(s[2] < 0) for s in pair_steps])
        building = Signal()
        which3, sub3, which2, sub2 = Signal(2), Signal(), Signal(1), Signal()
        # Looked up one step before the adders need it.
        step_next = Signal.like(step)
        m.d.comb += step_next.eq(Mux(building, step + 1, 0))
        m.d.sync += [which3.eq(choose3[step_next]), sub3.eq(minus3[step_next]), which2.eq(choose2[step_next]),
                     sub2.eq(minus2[step_next])]
        for b in range(SLICE_BYTES):
            mine = x[TRITS * b:TRITS * b + TRITS]
            add3, add2 = Signal(signed(8), name=f"add3_{b}"), Signal(signed(8), name=f"add2_{b}")
            m.d.comb += [add3.eq(Mux(which3[1], mine[2], Mux(which3[0], mine[1], mine[0]))),
                         add2.eq(Mux(which2, mine[4], mine[3]))]
            with m.If(building):
                with m.If(step == 0):
                    m.d.sync += [triples[b].eq(0), pairs[b].eq(0)]
                with m.Else():
                    m.d.sync += [triples[b].eq(triples[b] + Mux(sub3, -add3, add3)),
                                 pairs[b].eq(pairs[b] + Mux(sub2, -add2, add2))]
            m.d.comb += [self.build.triples[b].eq(triples[b]), self.build.pairs[b].eq(pairs[b])]
        write, buffer, triple_at, pair_at, pair = Signal(), Signal(), Signal(4), Signal(4), Signal()
        m.d.sync += [write.eq(building), triple_at.eq(Array([s[0] for s in TRIPLE_STEPS])[step]),
                     pair_at.eq(Array([s[0] for s in pair_steps])[step]), pair.eq(step < len(PAIR_STEPS)),
                     self.done.eq(building & (step == BUILD_CYCLES - 1))]
        m.d.comb += [self.build.write.eq(write), self.build.buffer.eq(buffer), self.build.triple_at.eq(triple_at),
                     self.build.pair_at.eq(pair_at), self.build.pair.eq(pair)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [count.eq(0), step.eq(0)]
                with m.If(self.start):
                    m.d.sync += [column.eq(self.first_col), buffer.eq(self.buffer)]
                    m.next = "LOAD"
            with m.State("LOAD"):
                # The code of the address before is here, but for the first cycle.
                m.d.comb += loading.eq(count != 0)
                m.d.sync += [inside.eq(column < self.cols), column.eq(column + 1), count.eq(count + 1)]
                with m.If(count == SLICE):
                    m.next = "BUILD"
            with m.State("BUILD"):
                m.d.comb += building.eq(1)
                m.d.sync += step.eq(step + 1)
                with m.If(step == BUILD_CYCLES - 1):
                    m.next = "IDLE"
        return m
