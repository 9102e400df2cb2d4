# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The TLMM engine: ternary matrix times int8 vectors, exact in int32 (TeLLMe v2 section 3.3)."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.tlmm.accumulator import Accumulator
from hw.tlmm.builder import TableBuilder
from hw.tlmm.drain import Drain
from hw.tlmm.lane import SelectLayout, TableDot
from hw.tlmm.tables import byte_rom
from hw.types import AccLayout
from tellme.spec.packing import SLICE, SLICE_BYTES

__all__ = ["TlmmEngine"]


class TlmmEngine(wiring.Component):
    """y[token, row] = sum over columns of w[row, column] * x[token, column].

    ``start`` {rows, cols, tokens}; then the codes on ``codes``, slice by slice: 20 columns (the last slice: what is left) of
    token 0, then of token 1 and so on; and the matrix's tiles on ``words`` (:mod:`tellme.spec.packing`).  Results leave on
    ``out`` tile by tile: rows of token 0 in order, then those of token 1; each with the tile's scale for its row's parity;
    ``last`` with the very last.

    One token (decode): r = min(2, lanes) lanes hold the same tables and take a row each of a 64-bit word: with two
    lanes a word, four SDRAM beats, a cycle.  More tokens: lane t holds token t, and a row's four bytes are broadcast to
    all lanes, a row a cycle.  Initiation interval 1 a step.

    Nothing is waited for that is not needed: the tables of a slice are built as soon as its codes are there, under the
    steps of the slice before, by one builder for all lanes (TableBuilder.CYCLES a lane).  In a tile's last slice each sum
    goes on its way out as soon as it is complete, an element a cycle, while the next tile runs; up to TILES finished tiles
    may wait.  A slice of fewer steps than Accumulator.HAZARD waits for itself.

    Ranges: rows even, 2 to 131,070; cols 1 to ``max_cols``; tokens 1 to lanes.  ``busy`` marks cycles in which weights
    were eaten, ``draining`` those in which a sum leaves or waits to.  Maps to (one EBR of codes, two of accumulators, sixteen
    16-deep LUT RAMs) a lane, four EBR of byte ROM. Raises ValueError for lanes outside 1 to 16.
    """

    #: Finished tiles that the lanes can hold.
    TILES = Drain.TILES

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
        begin = Signal()
        decode, two_rows = Signal(), Signal()
        m.d.comb += [decode.eq(tokens == 1), two_rows.eq(decode & (pair_rows == 2))]

        # ------------------------------------------------------------------ codes: a memory a lane, slice by slice
        m.submodules.builder = builder = TableBuilder(cols=self._cols + SLICE)
        fill_token, fill_slice, fill_in, fill_left = Signal(5), Signal(13), Signal(range(SLICE)), Signal(13)
        filling, filled = Signal(), Signal()
        fill = Signal()
        m.d.comb += [self.codes.ready.eq(filling), fill.eq(self.codes.valid & filling)]
        with m.If(begin):
            m.d.sync += [filling.eq(1), filled.eq(0), fill_token.eq(0), fill_slice.eq(0), fill_in.eq(0),
                         fill_left.eq(self.start.p.cols)]
        with m.Elif(fill):
            m.d.sync += fill_in.eq(fill_in + 1)
            with m.If((fill_in == SLICE - 1) | (fill_in + 1 == fill_left)):
                m.d.sync += [fill_in.eq(0), fill_token.eq(fill_token + 1)]
                with m.If(fill_token + 1 == tokens):
                    m.d.sync += [fill_token.eq(0), fill_slice.eq(fill_slice + SLICE), fill_left.eq(fill_left - SLICE)]
                    with m.If(fill_left <= SLICE):
                        m.d.sync += [filling.eq(0), filled.eq(1)]
        build_token = Signal(5)
        codes = []
        for i in range(lanes):
            bank = memory.Memory(shape=signed(8), depth=self._cols, init=[])
            m.submodules[f"codes{i}"] = bank
            write, read = bank.write_port(), bank.read_port()
            m.d.comb += [write.addr.eq(fill_slice + fill_in), write.data.eq(self.codes.payload),
                         write.en.eq(fill & (fill_token == i)), read.addr.eq(builder.code_addr)]
            codes.append(read.data)
        m.d.comb += [builder.code.eq(Array(codes)[build_token]), builder.cols.eq(cols)]

        # ------------------------------------------------------------------ bytes to selections
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

        # ------------------------------------------------------------------ lanes, which all move alike
        depth = self.TILES * self._tile_rows
        go, use_buffer, first_slice, last_slice = Signal(), Signal(), Signal(), Signal()
        row = Signal(range(self._tile_rows + 1))

        def later(value, cycles, name):
            value = Value.cast(value)
            for i in range(cycles):
                register = Signal(value.shape(), name=f"{name}{i + 1}")
                m.d.sync += register.eq(value)
                value = register
            return value

        # Stage 1: the selections are there; 1 + LATENCY: a lane's total; one more: its sum.
        total_at = 1 + TableDot.LATENCY
        step_buffer = later(use_buffer, 1, "step_buffer")
        control = later(Cat(go & ~last_slice, go & last_slice, first_slice, row), total_at - 1, "control")
        read_row = control[3:]
        at_total = later(control, 1, "at_total")
        at_sum = later(at_total, 1, "at_sum")
        written = Signal(range(2 * depth))
        with m.If(begin):
            m.d.sync += written.eq(0)
        with m.Elif(at_sum[1]):
            m.d.sync += written.eq(written + 1)
        m.submodules.drain = drain = Drain(lanes=lanes, depth=depth)
        for i in range(lanes):
            m.submodules[f"dot{i}"] = dot = TableDot()
            m.submodules[f"accumulator{i}"] = accumulator = Accumulator(rows=self._tile_rows, finished=depth)
            builds = Mux(decode, Const(int(i < pair_rows), 1), build_token == i)
            m.d.comb += [
                dot.build.eq(builder.build),
                dot.build.write.eq(builder.build.write & builds),
                dot.select.eq(Mux(two_rows, selects[i % 2].as_value(), single.as_value())),
                dot.buffer.eq(step_buffer),
                accumulator.read_row.eq(read_row), accumulator.total.eq(dot.total), accumulator.first.eq(at_total[2]),
                accumulator.write.eq(at_sum[0]), accumulator.write_row.eq(at_sum[3:]),
                accumulator.finish.eq(at_sum[1]), accumulator.finish_at.eq(written),
                accumulator.out_en.eq(drain.read_en), accumulator.out_at.eq(drain.at),
                drain.values[i].eq(accumulator.value),
            ]
        connect(m, drain.out, flipped(self.out))
        m.d.comb += [drain.tokens.eq(tokens), drain.paired.eq(two_rows), drain.written.eq(written), drain.clear.eq(begin)]

        # ------------------------------------------------------------------ tables, as soon as their codes are there
        ready = [Signal(name=f"ready{i}") for i in range(2)]
        build_buffer, build_slice_col = Signal(), Signal(13)
        active, used = Signal(), Signal()
        m.d.comb += [builder.first_col.eq(build_slice_col), builder.buffer.eq(build_buffer)]
        with m.FSM(name="tables") as tables:
            with m.State("WAIT"):
                with m.If(active & ~Array(ready)[build_buffer] & (filled | (build_slice_col != fill_slice))):
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
        pause = Signal(range(Accumulator.HAZARD + 1))
        # Of the tile's slices: steps, whether a slice may follow the one before without a pause; and whether this step
        # is the slice's last, this slice the tile's.
        row_steps, flows = Signal(range(self._tile_rows + 1)), Signal()
        last_step, next_last = Signal(), Signal()
        m.d.sync += [row_steps.eq(Mux(two_rows, tile >> 1, tile)), flows.eq(row_steps > Accumulator.HAZARD),
                     next_last.eq(slice_col + 2 * SLICE >= cols)]
        # A last slice wants room for its finished sums: places are taken from the step on that will write them.
        taken, waiting, roomy = Signal(range(2 * depth)), Signal(range(2 * depth)), Signal()
        with m.If(begin):
            m.d.sync += taken.eq(0)
        with m.Elif(go & last_slice):
            m.d.sync += taken.eq(taken + 1)
        m.d.comb += waiting.eq(taken - drain.freed)
        m.d.sync += roomy.eq(waiting <= depth - self._tile_rows)
        header = self.words.payload
        m.d.comb += [drain.tiles.p.rows.eq(header[19:27]), drain.tiles.p.scales[0].eq(header[:19]),
                     drain.tiles.p.scales[1].eq(header[27:46]), drain.tiles.p.last.eq(rows_left == header[19:27])]
        with m.FSM(name="tiles"):
            with m.State("IDLE"):
                m.d.comb += [self.start.ready.eq(1), begin.eq(self.start.valid)]
                m.d.sync += [rows_left.eq(self.start.p.rows), cols.eq(self.start.p.cols),
                             tokens.eq(self.start.p.tokens), use_buffer.eq(0),
                             build_buffer.eq(0), build_slice_col.eq(0), build_token.eq(0)]
                m.d.sync += [r.eq(0) for r in ready]
                with m.If(begin):
                    m.d.sync += active.eq(1)
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [self.words.ready.eq(drain.tiles.ready), drain.tiles.valid.eq(self.words.valid)]
                m.d.sync += [tile.eq(header[19:27]), slice_col.eq(0), first_slice.eq(1)]
                with m.If(self.words.valid & self.words.ready):
                    m.d.sync += rows_left.eq(rows_left - header[19:27])
                    m.next = "TILE"
            with m.State("TILE"):
                m.d.sync += last_slice.eq(slice_col + SLICE >= cols)
                m.next = "SLICE"
            with m.State("SLICE"):
                m.d.sync += [steps_left.eq(row_steps), last_step.eq(row_steps == 1), row.eq(0), half_index.eq(0), pause.eq(0)]
                with m.If(Array(ready)[use_buffer] & (roomy | ~last_slice)):
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
                            m.next = "HEADER"
                            with m.If(rows_left == 0):
                                m.d.sync += active.eq(0)
                                m.next = "SETTLE"
                        with m.Elif(flows & Array(ready)[~use_buffer] & roomy):
                            m.d.sync += [steps_left.eq(row_steps), row.eq(0), last_slice.eq(next_last)]
                            m.next = "STEPS"
            with m.State("GAP"):
                m.d.sync += [pause.eq(pause + 1), last_slice.eq(slice_col + SLICE >= cols)]
                with m.If(pause == Accumulator.HAZARD):
                    m.next = "SLICE"
            with m.State("SETTLE"):
                # All sums leave; a table that was begun and is not wanted is finished.
                with m.If(~tables.ongoing("BUILD") & drain.empty):
                    m.next = "IDLE"
        for i in range(2):
            with m.If(used & (use_buffer == i)):
                m.d.sync += ready[i].eq(0)
        m.d.comb += [self.busy.eq(go), self.draining.eq(drain.out.valid)]
        return m
