# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.dse``: what a whole lane costs in each of its kinds, synthesised and placed.

A point is everything that turns weight bytes and codes into accumulators: byte ROMs, code memories, builders, tables or
activations, adders, accumulators (int32, 128 rows), with registers at its borders.  The tiles' control, the quantiser
and the drain are the same for all kinds and not in it.
"""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.accumulator import Accumulators
from hw.tlmm.kinds import KINDS
from tellme.spec.packing import SLICE, SLICE_BYTES, TILE_ROWS

__all__ = ["LanePoint", "Point", "main"]

COLS = 1280
MHZ = 66.67


@dataclass(frozen=True)
class Point:
    """``lanes`` tokens, ``rows`` dots for each; ``builders``: "one" (a sequencer for all lanes) or "each" (one a lane)."""

    kind: str
    lanes: int
    rows: int = 1
    builders: str = "one"

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.builders}-{self.rows}-{self.lanes}"


class LanePoint(wiring.Component):
    """The gateware of a point: words (a byte string a row) and control in, accumulators out."""

    def __init__(self, point: Point):
        self.point = point
        # Codes that a builder reads at a time: those are written one by one.
        self.parts = parts = len(KINDS[point.kind].columns(0))
        super().__init__({
            "word": In(8 * SLICE_BYTES * point.rows), "step": In(1), "row": In(range(TILE_ROWS)), "first": In(1),
            "buffer": In(1), "fill": In(range(max(point.lanes, 2))), "fill_en": In(parts), "fill_addr": In(range(COLS // parts)),
            "fill_code": In(signed(8)), "start": In(1), "first_col": In(range(COLS)), "cols": In(range(COLS + 1)),
            "build_buffer": In(1), "done": Out(1), "read_row": In(range(TILE_ROWS)),
            "value": Out(data.ArrayLayout(data.ArrayLayout(signed(32), point.lanes), point.rows)),
        })

    def elaborate(self, platform):
        m = Module()
        point, kind, parts = self.point, KINDS[self.point.kind], self.parts
        rom = kind.rom()
        width = max(max(rom).bit_length(), 1)
        taken = {}
        for name in ("word", "step", "row", "first", "buffer", "fill", "fill_en", "fill_addr", "fill_code", "start",
                     "first_col", "cols", "build_buffer", "read_row"):
            port = getattr(self, name)
            taken[name] = Signal.like(port, name=f"{name}_taken")
            m.d.sync += taken[name].eq(port)
        # Control beside the data: a cycle for the ROM, the dot's LATENCY, and the accumulators want theirs a cycle ahead.
        control = Cat(taken["step"], taken["row"], taken["first"])
        for i in range(kind.dot.LATENCY):
            later = Signal(len(control), name=f"control{i}")
            m.d.sync += later.eq(control)
            control = later
        buffer = Signal()
        m.d.sync += buffer.eq(taken["buffer"])
        builders = []
        groups = [1] * point.lanes if point.builders == "each" else [point.lanes]
        lane = 0
        for n, tokens in enumerate(groups):
            m.submodules[f"builder{n}"] = builder = kind.builder(cols=COLS + SLICE, tokens=tokens)
            m.d.comb += [builder.start.eq(taken["start"]), builder.first_col.eq(taken["first_col"]),
                         builder.cols.eq(taken["cols"]), builder.buffer.eq(taken["build_buffer"])]
            for t in range(tokens):
                m.submodules[f"codes{lane}"] = bank = memory.Memory(shape=8 * parts, depth=COLS // parts, init=[],
                                                                    attrs={"no_rw_check": True})
                write, read = bank.write_port(granularity=8), bank.read_port()
                m.d.comb += [write.addr.eq(taken["fill_addr"]), write.data.eq(taken["fill_code"].replicate(parts)),
                             write.en.eq(Mux(taken["fill"] == lane, taken["fill_en"], 0)),
                             read.addr.eq(builder.code_addr), Value.cast(builder.code[t]).eq(read.data)]
                lane += 1
            builders.append((builder, tokens))
        m.d.sync += self.done.eq(builders[0][0].done)
        for r in range(point.rows):
            selects = []
            for b in range(0, SLICE_BYTES, 2):
                m.submodules[f"bytes{r}_{b}"] = table = memory.Memory(shape=width, depth=256, init=rom,
                                                                      attrs={"ram_style": "block"})
                for at in range(2):
                    read = table.read_port()
                    m.d.comb += read.addr.eq(taken["word"].word_select(SLICE_BYTES * r + b + at, 8))
                    selects.append(read.data)
            m.submodules[f"accumulators{r}"] = sums = Accumulators(rows=TILE_ROWS, tokens=point.lanes)
            lane = 0
            for n, (builder, tokens) in enumerate(builders):
                m.submodules[f"dot{r}_{n}"] = dot = kind.dot(tokens=tokens)
                m.d.comb += [dot.build.eq(builder.build), dot.buffer.eq(buffer)]
                m.d.comb += [dot.select[b].eq(selects[b]) for b in range(SLICE_BYTES)]
                m.d.comb += [sums.total[lane + t].eq(dot.total[t]) for t in range(tokens)]
                lane += tokens
            m.d.comb += [sums.step.eq(control[0]), sums.row.eq(control[1:-1]), sums.first.eq(control[-1]),
                         sums.read_row.eq(taken["read_row"])]
            m.d.sync += self.value[r].eq(sums.value)
        return m
