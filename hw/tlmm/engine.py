# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The TLMM engine: ternary matrix times int8 vectors, exact in int32 (TeLLMe v2 section 3.3)."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.builder import TableBuilder
from hw.tlmm.lane import SelectLayout, TableLane
from hw.tlmm.tables import byte_rom
from hw.types import AccLayout, ScaleLayout
from tellme.spec.packing import SLICE, SLICE_BYTES

__all__ = ["TlmmEngine"]


class TlmmEngine(wiring.Component):
    """y[token, row] = sum over columns of w[row, column] * x[token, column].

    ``start`` {rows, cols, tokens}; then cols codes a token on ``codes``, token 0 first; then the matrix's tiles on
    ``words`` (:mod:`tellme.spec.packing`).  Results leave on ``out`` tile by tile: rows of token 0 in order, then those of
    token 1; each with the tile's scale for its row's parity; ``last`` with the very last.

    One token (decode): r = min(2, lanes) lanes hold the same tables and take a row each of a 64-bit word: with two
    lanes a word, four SDRAM beats, a cycle.  More tokens: lane t holds token t, and a row's four bytes are broadcast to
    all lanes, a row a cycle.  Initiation interval 1 a step.

    Tables are double-buffered: those of the next slice are built under the current one, TableBuilder.CYCLES each, by
    one builder for all lanes.  A slice of fewer than TableLane.HAZARD steps waits for it.  A tile is drained, one
    element a cycle, before the next one starts.

    Ranges: rows even, 2 to 131,070; cols 1 to ``max_cols``; tokens 1 to lanes.  ``busy`` marks cycles in which weights
    were eaten, ``draining`` those in which accumulators leave.  Maps to (one EBR of codes, one of accumulators, sixteen
    16-deep LUT RAMs) a lane, four EBR of byte ROM. Raises ValueError for lanes outside 1 to 16.
    """

    def __init__(self, *, lanes: int, max_cols: int, tile_rows: int = 128):
        if not 1 <= lanes <= 16:
            raise ValueError(f"lanes is {lanes}; the engine has 1 to 16")
        self._lanes = lanes
        self._tile_rows = tile_rows
        self._cols = -(-max_cols // SLICE) * SLICE
        super().__init__({
            "start": In(stream.Signature(data.StructLayout({"rows": 17, "cols": 13, "tokens": 5}))),
            "codes": In(stream.Signature(signed(8))),
            "words": In(stream.Signature(64)),
            "out": Out(stream.Signature(AccLayout)),
            "busy": Out(1), "draining": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, pair_rows = self._lanes, min(2, self._lanes)
        rows_left, cols, tokens = Signal(17), Signal(13), Signal(5)
        decode = Signal()
        m.d.comb += decode.eq(tokens == 1)

        # ------------------------------------------------------------------ codes: a memory a lane
        m.submodules.builder = builder = TableBuilder(cols=self._cols + SLICE)
        fill_token, fill_col = Signal(5), Signal(13)
        fill = Signal()
        build_token = Signal(5)
        codes = []
        for i in range(lanes):
            bank = memory.Memory(shape=signed(8), depth=self._cols, init=[])
            m.submodules[f"codes{i}"] = bank
            write, read = bank.write_port(), bank.read_port()
            m.d.comb += [write.addr.eq(fill_col), write.data.eq(self.codes.payload),
                         write.en.eq(fill & (fill_token == i)), read.addr.eq(builder.code_addr)]
            codes.append(read.data)
        m.d.comb += [builder.code.eq(Array(codes)[build_token]), builder.cols.eq(cols)]

        # ------------------------------------------------------------------ lanes
        rom = byte_rom()
        selects = []
        half_index = Signal()
        for half in range(2):
            select = Signal(SelectLayout, name=f"select{half}")
            for b in range(0, SLICE_BYTES, 2):
                m.submodules[f"bytes{half}_{b}"] = table = memory.Memory(
                    shape=9, depth=256, init=rom, attrs={"ram_style": "block"})
                for port_byte in range(2):
                    read = table.read_port()
                    m.d.comb += [read.addr.eq(self.words.payload.word_select(SLICE_BYTES * half + b + port_byte, 8)),
                                 select[b + port_byte].eq(read.data)]
            selects.append(select)
        # One cycle behind the word: which half a single-row step takes.
        half_taken = Signal()
        m.d.sync += half_taken.eq(half_index)
        single = Signal(SelectLayout)
        m.d.comb += single.eq(Mux(half_taken, selects[1].as_value(), selects[0].as_value()))
        two_rows = Signal()
        m.d.comb += two_rows.eq(decode & (pair_rows == 2))

        step, step_row, step_first, step_buffer = Signal(), Signal(range(self._tile_rows)), Signal(), Signal()
        go = Signal()
        use_buffer, first_slice, row = Signal(), Signal(), Signal(range(self._tile_rows + 1))
        m.d.sync += [step.eq(go), step_row.eq(row), step_first.eq(first_slice), step_buffer.eq(use_buffer)]
        drain_row, drain_en, drain_lane = Signal(range(self._tile_rows)), Signal(), Signal(range(max(lanes, 2)))
        values = []
        for i in range(lanes):
            m.submodules[f"lane{i}"] = lane = TableLane(rows=self._tile_rows)
            builds = Mux(decode, Const(int(i < pair_rows), 1), build_token == i)
            m.d.comb += [
                lane.build.eq(builder.build),
                lane.build.write.eq(builder.build.write & builds),
                # A lane without a token does not move.
                lane.step.eq(step & Mux(decode, Const(int(i < pair_rows), 1), tokens > i)),
                lane.select.eq(Mux(two_rows, selects[i % 2].as_value(), single.as_value())),
                lane.buffer.eq(step_buffer), lane.row.eq(step_row), lane.first.eq(step_first),
                lane.read_row.eq(drain_row), lane.read_en.eq(drain_en),
            ]
            values.append(lane.value)

        # ------------------------------------------------------------------ tables, ahead of use
        ready = [Signal(name=f"ready{i}") for i in range(2)]
        build_buffer, build_slice_col = Signal(), Signal(13)
        active, used = Signal(), Signal()
        m.d.comb += [builder.first_col.eq(build_slice_col), builder.buffer.eq(build_buffer)]
        with m.FSM(name="tables") as tables:
            with m.State("WAIT"):
                with m.If(active & ~Array(ready)[build_buffer]):
                    m.d.comb += builder.start.eq(1)
                    m.next = "BUILD"
            with m.State("BUILD"):
                with m.If(builder.done):
                    m.next = "WAIT"
                    with m.If(build_token + 1 == tokens):
                        m.d.sync += [build_token.eq(0), build_buffer.eq(~build_buffer)]
                        for i in range(2):
                            with m.If(build_buffer == i):
                                m.d.sync += ready[i].eq(1)
                        m.d.sync += build_slice_col.eq(Mux(build_slice_col + SLICE >= cols, 0, build_slice_col + SLICE))
                    with m.Else():
                        m.d.sync += build_token.eq(build_token + 1)

        # ------------------------------------------------------------------ tiles
        tile, steps_left, slice_col = Signal(range(self._tile_rows + 1)), Signal(range(self._tile_rows + 1)), Signal(13)
        scales = Array(Signal(ScaleLayout, name=f"scale{i}") for i in range(2))
        pause = Signal(range(TableLane.LATENCY + 2))
        drain_left = Signal(range(self._tile_rows + 1))
        drain_token = Signal(5)
        drained_row, drained_last, drained_valid, drained_lane = Signal(), Signal(), Signal(), Signal.like(drain_lane)
        # Of the tile's slices: steps, whether a slice may follow the one before without a pause; and whether this step
        # is the slice's last, this slice the tile's.
        row_steps, flows = Signal(range(self._tile_rows + 1)), Signal()
        last_step, last_slice = Signal(), Signal()
        m.d.sync += [row_steps.eq(Mux(two_rows, tile >> 1, tile)), flows.eq(row_steps > TableLane.HAZARD),
                     last_slice.eq(slice_col + SLICE >= cols)]
        with m.FSM(name="tiles") as tiles:
            with m.State("IDLE"):
                m.d.comb += self.start.ready.eq(1)
                m.d.sync += [rows_left.eq(self.start.p.rows), cols.eq(self.start.p.cols),
                             tokens.eq(self.start.p.tokens), fill_token.eq(0), fill_col.eq(0), use_buffer.eq(0),
                             build_buffer.eq(0), build_slice_col.eq(0), build_token.eq(0)]
                m.d.sync += [r.eq(0) for r in ready]
                with m.If(self.start.valid):
                    m.next = "CODES"
            with m.State("CODES"):
                m.d.comb += [self.codes.ready.eq(1), fill.eq(self.codes.valid)]
                with m.If(fill):
                    m.d.sync += fill_col.eq(fill_col + 1)
                    with m.If(fill_col + 1 == cols):
                        m.d.sync += [fill_col.eq(0), fill_token.eq(fill_token + 1)]
                        with m.If(fill_token + 1 == tokens):
                            m.d.sync += active.eq(1)
                            m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += self.words.ready.eq(1)
                header = self.words.payload
                m.d.sync += [tile.eq(header[19:27]), scales[0].eq(header[:19]), scales[1].eq(header[27:46]),
                             slice_col.eq(0), first_slice.eq(1)]
                with m.If(self.words.valid):
                    m.next = "TILE"
            with m.State("TILE"):
                m.next = "SLICE"
            with m.State("SLICE"):
                m.d.sync += [steps_left.eq(row_steps), last_step.eq(row_steps == 1), row.eq(0), half_index.eq(0), pause.eq(0)]
                with m.If(Array(ready)[use_buffer]):
                    m.next = "STEPS"
            with m.State("STEPS"):
                m.d.comb += go.eq(self.words.valid)
                m.d.comb += self.words.ready.eq(two_rows | half_index)
                with m.If(go):
                    m.d.sync += [row.eq(row + 1), steps_left.eq(steps_left - 1), last_step.eq(steps_left == 2)]
                    with m.If(~two_rows):
                        m.d.sync += half_index.eq(~half_index)
                    with m.If(last_step):
                        m.d.comb += used.eq(1)
                        m.d.sync += [first_slice.eq(0), use_buffer.eq(~use_buffer), slice_col.eq(slice_col + SLICE)]
                        # Straight on where the next tables are there and no accumulator is in flight.
                        m.next = "GAP"
                        with m.If(last_slice):
                            m.next = "FLUSH"
                        with m.Elif(flows & Array(ready)[~use_buffer]):
                            m.d.sync += [steps_left.eq(row_steps), row.eq(0)]
                            m.next = "STEPS"
            with m.State("GAP"):
                m.d.sync += pause.eq(pause + 1)
                with m.If(pause == TableLane.HAZARD):
                    m.next = "SLICE"
            with m.State("FLUSH"):
                m.d.sync += [pause.eq(pause + 1), drain_row.eq(0), drain_lane.eq(0), drain_token.eq(0),
                             drain_left.eq(tile)]
                with m.If(pause == TableLane.LATENCY):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(~drained_valid | self.out.ready):
                    m.d.comb += drain_en.eq(1)
                    m.d.sync += [drained_valid.eq(1), drained_row.eq((tile - drain_left)[0]),
                                 drained_lane.eq(drain_lane), drain_left.eq(drain_left - 1),
                                 drained_last.eq((drain_left == 1) & (drain_token + 1 == tokens)
                                                 & (rows_left == tile))]
                    with m.If(two_rows):
                        m.d.sync += drain_lane.eq(~drain_lane[0])
                        with m.If(drain_lane[0]):
                            m.d.sync += drain_row.eq(drain_row + 1)
                    with m.Else():
                        m.d.sync += drain_row.eq(drain_row + 1)
                    with m.If(drain_left == 1):
                        m.d.sync += [drain_token.eq(drain_token + 1), drain_left.eq(tile), drain_row.eq(0)]
                        with m.If(~two_rows):
                            m.d.sync += drain_lane.eq(drain_lane + 1)
                        with m.If(drain_token + 1 == tokens):
                            m.next = "LAST"
            with m.State("LAST"):
                with m.If(self.out.ready):
                    m.d.sync += [drained_valid.eq(0), rows_left.eq(rows_left - tile), pause.eq(0)]
                    m.next = "HEADER"
                    with m.If(rows_left == tile):
                        m.d.sync += active.eq(0)
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                # A table that was begun and is not wanted is finished first.
                m.d.sync += pause.eq(0)
                with m.If(~tables.ongoing("BUILD")):
                    m.next = "IDLE"
        for i in range(2):
            with m.If(used & (use_buffer == i)):
                m.d.sync += ready[i].eq(0)
        m.d.comb += [
            self.busy.eq(go), self.draining.eq(tiles.ongoing("FLUSH") | tiles.ongoing("DRAIN") | tiles.ongoing("LAST")),
            self.out.valid.eq(drained_valid), self.out.p.acc.eq(Array(values)[drained_lane]),
            self.out.p.scale.eq(scales[drained_row]), self.out.p.last.eq(drained_last),
        ]
        return m
