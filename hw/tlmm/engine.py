# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The TLMM engine: ternary matrix times int8 vectors, exact in int32 (TeLLMe v2 section 3.3), in planes if there are several."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.lib.layouts import Layouts
from hw.lib.stages import Stages
from hw.lib.types import TileHeaderLayout
from hw.tlmm.accumulator import PRODUCT_BITS, TOTAL_BITS, Accumulator
from hw.tlmm.drain import Drain, row_word_tiles, row_write_layout
from hw.tlmm.kinds import PAIR_LANE, Kind
from hw.tlmm.multipliers import RowMultipliers
from tellme.spec.packing import SLICE, SLICE_BYTES, multiplier_words

__all__ = ["TlmmEngine"]


class TlmmEngine(wiring.Component):
    """y[token, row] = sum over columns of w[row, column] * x[token, column].

    Input:

    - ``start`` {rows, cols, tokens};
    - ``codes``, slice by slice: 20 columns (in the last slice the remaining columns) of the first token, then of the next token;
    - ``words``: the matrix's tiles (:mod:`tellme.spec.packing`).

    Output on ``out``, tile by tile: the rows of the first token in order, then the rows of the next token; or with ``by_rows`` in
    ``start``, which a core has whose LM head takes several tokens, row by row, the tokens of each in order.  Each result has its
    place and its scale: the tile's scale of even or odd rows.  Of S ``streams``, number s brings the codes and takes the results
    of the tokens s, s + S, ...; the streams do not wait for one another.

    Planes, if widths.planes is more than 1: a weight is the sum over planes p of 3**p times a trit.  A tile's planes follow one
    another, the highest first, each like a tile of one plane.  acc = 3 acc + T_p . x, or acc + T_p . x in a tile that is ``free``
    (docs/decisions/0017-planes.md).  The sum of a row is multiplied when a plane's last slice writes it.  A tile's header may say
    that row words follow: then a result has the row's scale and bias.  A row word takes a cycle, and waits until an earlier
    tile's words are no longer wanted (:func:`hw.tlmm.drain.row_word_tiles`).  A result of another row has the bias NO_BIAS.

    Multipliers, if widths.multipliers: a tile with ``group_slices`` has a signed byte for each plane, column group and row.  A
    row's sum of a slice is multiplied by it ahead of the accumulator: acc = 3 acc + sum over groups g of m_pg * (T_pg . x_g), or
    without the 3 in a tile that is ``free``.  Eight multipliers, a 64-bit word, take a cycle of ``words``, ahead of the group's
    first slice in each plane; no other cycle is lost.  So P planes with multipliers take at most 1.03 P times the cycles of one
    plane without, and the time of the multipliers' words.  In a tile without ``group_slices`` each multiplier is 1, and the tile
    takes no cycle more; all sums of a matrix are a cycle later than in a build without multipliers.

    One token (decode): r = min(2, lanes) lanes hold the same tables, and each takes a row of a 64-bit word.  With two lanes the
    engine takes a word, four SDRAM beats, per cycle.  Several tokens with ``prefill_rows`` 1: lane t holds token t, and a row's
    four bytes are broadcast to all lanes, a row per cycle.  Several tokens with ``prefill_rows`` 2: lanes 2 t and 2 t + 1 hold
    token t, and lane i takes the row i % 2 of a 64-bit word, a word per cycle; decode is a chunk of one token.  Initiation
    interval 1 per step.

    Overlap: the tables of a slice are built as soon as the slice's codes are there, for all lanes at once, during the steps of
    the slice before.  In a tile's last slice each sum leaves as soon as it is complete, an element per cycle, while the next tile
    runs.  Up to TILES finished tiles of 128 rows may wait, or fewer larger ones.  A slice with fewer steps than
    Accumulator.HAZARD waits until its own sums are written.

    Ranges, from ``layouts``: rows even, 2 to widths.rows; cols 1 to widths.cols; tokens 1 to widths.chunk and to
    lanes / prefill_rows; planes 1 to widths.planes; a tile's sums within widths.engine_sum_bits.  ``busy`` marks cycles in which
    weights are taken, ``draining`` cycles in which a sum leaves or waits to leave.

    Maps to an EBR of codes per token for each 2,048 columns, two EBR of sums per lane, four EBR of byte ROM, an EBR of row words
    per stream if there are several planes, with multipliers an 18x18 multiplier per lane and two EBR, and the resources of the
    ``kind`` of lane (:mod:`hw.tlmm.kinds`).  Raises ValueError for lanes outside 1 to 16, prefill_rows other than 1 and 2, lanes
    that are no multiple of prefill_rows, more streams than tokens, and a kind that does not take several tokens.
    """

    #: Finished tiles that the lanes can hold.
    TILES = Drain.TILES
    #: Codes in an EBR.
    EBR_CODES = 2048

    def __init__(self, layouts: Layouts, *, lanes: int, tile_rows: int = 128, streams: int = 1, prefill_rows: int = 1,
                 kind: Kind = PAIR_LANE):
        if not 1 <= lanes <= 16:
            raise ValueError(f"lanes is {lanes}; the engine has 1 to 16")
        if prefill_rows not in (1, 2) or lanes % prefill_rows:
            raise ValueError(f"prefill_rows is {prefill_rows}; 1 can be, or 2 with an even number of lanes, not {lanes}")
        if not 1 <= streams <= lanes // prefill_rows:
            raise ValueError(f"streams is {streams}; {lanes // prefill_rows} tokens have 1 to {lanes // prefill_rows}")
        if not kind.shared or kind.units != SLICE_BYTES:
            raise ValueError("this kind of lane does not take bytes of five trits for several tokens")
        self._lanes, self._streams, self._kind = lanes, streams, kind
        self._tile_rows = tile_rows
        self._prefill_rows = prefill_rows
        self._layouts = layouts
        self._cols = -(-layouts.widths.cols // SLICE) * SLICE
        super().__init__({
            "start": In(stream.Signature(layouts.engine_args)),
            "codes": In(stream.Signature(signed(8))).array(streams),
            "words": In(stream.Signature(64)),
            "out": Out(stream.Signature(layouts.acc)).array(streams),
            "busy": Out(1), "draining": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, streams, kind = self._lanes, self._streams, self._kind
        pair_rows = min(2, lanes)
        # Lanes of a token in a chunk, and tokens of a chunk at most.
        token_lanes = self._prefill_rows
        held_tokens = lanes // token_lanes
        # Rows of a tile that a lane has in a chunk: its places for sums.
        tile_places = -(-self._tile_rows // token_lanes)
        widths, args, row_words = self._layouts.widths, self._layouts.engine_args, self._layouts.row_words
        planes, multipliers = widths.planes > 1, widths.multipliers
        rows_left, cols, tokens = (Signal(args[name].shape, name=name) for name in ("rows", "cols", "tokens"))
        #: The first column of a slice, or of the one behind the last.
        Column = range(self._cols + 1)
        begin = Signal()
        by_rows = Signal()
        # With two rows a step in prefill too, decode is a chunk of one token, and each step takes a word.
        decode, two_rows = Signal(), Signal() if token_lanes == 1 else Const(1)

        # ------------------------------------------------------------------ codes: a memory a token, slice by slice
        # The builder takes the columns behind a vector's end as zero, so they need no place: 2,048 columns fit an EBR.
        depth_of_codes = min(self._cols, -(-widths.cols // self.EBR_CODES) * self.EBR_CODES)
        banks = []
        for i in range(held_tokens):
            m.submodules[f"codes{i}"] = bank = memory.Memory(shape=signed(8), depth=depth_of_codes, init=[])
            banks.append((bank.write_port(), bank.read_port()))
        # For each stream: the first column of the slice that is coming in; whether all slices have come.
        fill_slices, filled = [Signal(Column, name=f"fill_slice{s}") for s in range(streams)], Signal(streams, init=-1)
        for s, (source, fill_slice) in enumerate(zip(self.codes, fill_slices, strict=True)):
            token, within, remaining = (Signal(shape, name=f"fill_{name}{s}") for name, shape in (
                ("token", len(tokens)), ("within", range(SLICE)), ("remaining", len(cols))))
            fill = source.valid & source.ready
            m.d.comb += source.ready.eq(~filled[s])
            with m.If(begin):
                m.d.sync += [filled[s].eq(self.start.p.tokens <= s), token.eq(s), fill_slice.eq(0), within.eq(0),
                             remaining.eq(self.start.p.cols)]
            with m.Elif(fill):
                m.d.sync += within.eq(within + 1)
                with m.If((within == SLICE - 1) | (within + 1 == remaining)):
                    m.d.sync += [within.eq(0), token.eq(token + streams)]
                    with m.If(token + streams >= tokens):
                        m.d.sync += [token.eq(s), fill_slice.eq(fill_slice + SLICE), remaining.eq(remaining - SLICE)]
                        with m.If(remaining <= SLICE):
                            m.d.sync += filled[s].eq(1)
            for i, (write, _) in enumerate(banks):
                takes: Value = Const(int(i % streams == s), 1) & (token == i)
                if token_lanes == 1:
                    # In decode a token's codes are in the lanes of both rows.
                    takes = Mux(decode, Const(int(i < pair_rows and s == 0), 1), takes)
                with m.If(fill & takes):
                    m.d.comb += [write.addr.eq(fill_slice + within), write.data.eq(source.payload), write.en.eq(1)]

        # ------------------------------------------------------------------ bytes to selections
        # The even lanes have one dot and the odd lanes another.  In decode each dot has its own row, and in a chunk with two rows
        # a step too.  Otherwise both have the same.
        dots = [kind.dot(tokens=len(range(g, lanes, pair_rows))) for g in range(pair_rows)]
        Select = dots[0].select.shape()
        rom, bits = kind.rom(), Select.size // SLICE_BYTES
        selects = []
        half_index = Signal()
        for half in range(2):
            select = Signal(Select, name=f"select{half}")
            for b in range(0, SLICE_BYTES, 2):
                m.submodules[f"bytes{half}_{b}"] = table = memory.Memory(
                    shape=bits, depth=256, init=rom, attrs={"ram_style": "block"})
                for port_byte in range(2):
                    read = table.read_port()
                    m.d.comb += [read.addr.eq(self.words.payload.word_select(SLICE_BYTES * half + b + port_byte, 8)),
                                 select.as_value().word_select(b + port_byte, bits).eq(read.data)]
            selects.append(select)
        row_selects: list[Value] = [select.as_value() for select in selects]
        if token_lanes == 1:
            # One cycle after the word: the half of the word that a single-row step takes.
            half_taken = Signal()
            m.d.sync += half_taken.eq(half_index)
            single = Signal(Select)
            m.d.comb += single.eq(Mux(half_taken, selects[1].as_value(), selects[0].as_value()))
            row_selects = [Mux(two_rows, select, single.as_value()) for select in row_selects]

        # ------------------------------------------------------------------ lanes, which all move alike
        # The number of places for finished sums is a power of two, because the counters wrap.
        depth = 1 << (self.TILES * tile_places).bit_length() - 1
        go, use_buffer, first_slice, last_slice = Signal(), Signal(), Signal(), Signal()
        row = Signal(range(tile_places + 1))
        # With several planes, of a slice: whether it is its plane's last one.  And of a sum: whether it is multiplied.
        ends_plane, triple = (Signal(), Signal()) if planes else (last_slice, Const(0, 0))

        stage = Stages(m)

        # Stage 1: the selections are there; 1 + LATENCY: a lane's total; with multipliers one more: the total times the row's
        # multiplier; one more: its sum.
        total_at = 1 + kind.dot.LATENCY + multipliers
        step_buffer = stage.delay(use_buffer, 1, "step_buffer")
        step: Value = Cat(go & ~last_slice, go & last_slice, first_slice, row, triple)
        # Whether the tile has multipliers, and in which half of their memory those of the group in work are.
        grouped, group_half = Signal(), Signal()
        if multipliers:
            m.submodules.multipliers = factors = RowMultipliers(tile_rows=self._tile_rows, rows=pair_rows)
            early = stage.delay(Cat(step, group_half, grouped), total_at - 1 - factors.LATENCY, "early")
            m.d.comb += [factors.row.eq(early[3:3 + len(row)]), factors.half.eq(early[-2]), factors.grouped.eq(early[-1]),
                         factors.two_rows.eq(two_rows)]
            control = stage.delay(early[:len(step)], factors.LATENCY, "control")
        else:
            control = stage.delay(step, total_at - 1, "control")
        read_row = control[3:3 + len(row)]
        at_total = stage.delay(control, 1, "at_total")
        at_sum = stage.delay(at_total, 1, "at_sum")
        written = Signal(range(2 * depth))
        with m.If(begin):
            m.d.sync += written.eq(0)
        with m.Elif(at_sum[1]):
            m.d.sync += written.eq(written + 1)
        drains = []
        for s in range(streams):
            m.submodules[f"drain{s}"] = drain = Drain(self._layouts, first=s, streams=streams, lanes=lanes, depth=depth,
                                                       tile_rows=self._tile_rows, token_lanes=token_lanes)
            connect(m, drain.out, flipped(self.out[s]))
            m.d.comb += [drain.tokens.eq(tokens), drain.paired.eq(two_rows if s == 0 else 0), drain.written.eq(written),
                         drain.clear.eq(begin)]
            if self._layouts.all_heads:
                m.d.comb += drain.by_rows.eq(by_rows)
            drains.append(drain)
        for g, dot in enumerate(dots):
            m.submodules[f"dot{g}"] = dot
            m.d.comb += [dot.select.eq(row_selects[g]), dot.buffer.eq(step_buffer)]
        for i in range(lanes):
            m.submodules[f"accumulator{i}"] = accumulator = Accumulator(
                bits=widths.engine_sum_bits, rows=tile_places, finished=depth, planes=planes,
                total_bits=PRODUCT_BITS if multipliers else TOTAL_BITS)
            mine, first = drains[i // token_lanes % streams], drains[0]
            total: Value = dots[i % pair_rows].total[i // pair_rows]
            if multipliers:
                product = Signal(signed(PRODUCT_BITS), name=f"product{i}", reset_less=True)
                m.d.sync += product.eq(total * factors.multipliers[i % pair_rows])
                total = product
            m.d.comb += [
                accumulator.read_row.eq(read_row), accumulator.total.eq(total),
                accumulator.first.eq(at_total[2]),
                accumulator.write.eq(at_sum[0]), accumulator.write_row.eq(at_sum[3:3 + len(row)]),
                accumulator.finish.eq(at_sum[1]), accumulator.finish_at.eq(written),
                accumulator.out_en.eq(mine.read_en), accumulator.out_at.eq(mine.at),
            ]
            if i == 1 and token_lanes == 1:
                with m.If(two_rows):
                    m.d.comb += [accumulator.out_en.eq(first.read_en), accumulator.out_at.eq(first.at)]
            if planes:
                m.d.comb += accumulator.triple.eq(at_sum[-1])
            m.d.comb += [drain.values[i].eq(accumulator.value) for drain in drains]

        # ------------------------------------------------------------------ tables, as soon as their codes are there
        ready = [Signal(name=f"ready{i}") for i in range(2)]
        build_buffer, build_slice_col = Signal(), Signal(Column)
        active, used = Signal(), Signal()
        coded = Cat(f | (c != build_slice_col) for f, c in zip(filled, fill_slices, strict=True)).all()
        # One order of work fills the tables of all lanes, each with its own codes.
        m.submodules.builder = builder = kind.builder(cols=self._cols + SLICE, tokens=held_tokens)
        build, pending = Signal(), Signal()
        m.d.comb += [builder.first_col.eq(build_slice_col), builder.buffer.eq(build_buffer), builder.cols.eq(cols),
                     builder.start.eq(build)]
        m.d.comb += [builder.code[i].eq(read.data) for i, (_, read) in enumerate(banks)]
        m.d.comb += [read.addr.eq(builder.code_addr) for _, read in banks]
        for g, dot in enumerate(dots):
            m.d.comb += dot.build.eq(builder.build)
            m.d.comb += [dot.build.values[n].eq(builder.build.values[i // token_lanes])
                         for n, i in enumerate(range(g, lanes, pair_rows))]
        m.d.comb += build.eq(active & ~pending & ~Array(ready)[build_buffer] & coded)
        with m.If(build):
            m.d.sync += pending.eq(1)
        with m.Elif(builder.done):
            m.d.sync += [pending.eq(0), build_buffer.eq(~build_buffer),
                         build_slice_col.eq(Mux(build_slice_col + SLICE >= cols, 0, build_slice_col + SLICE))]
            for i in range(2):
                with m.If(build_buffer == i):
                    m.d.sync += ready[i].eq(1)

        # ------------------------------------------------------------------ tiles
        tile, steps_left, slice_col = Signal(range(self._tile_rows + 1)), Signal(range(tile_places + 1)), Signal(Column)
        pause = Signal(range(Accumulator.HAZARD + 1))
        # For the tile's slices: the number of steps, and whether a slice may follow the slice before without a pause.  And
        # whether this step is the slice's last one, and this slice the tile's last one.
        row_steps, flows = Signal(range(tile_places + 1)), Signal()
        last_step, next_last = Signal(), Signal()
        # The slice behind this one, and the one behind the next: its column, and whether it is its plane's and its tile's last.
        next_col: Value = slice_col + SLICE
        ends: Value = slice_col + SLICE >= cols
        next_ends: Value = slice_col + 2 * SLICE >= cols
        # Planes behind this one; a plane begins at the first column again, and its tables are built as a new tile's are.
        planes_left, tied, next_ends_plane = Signal(range(max(2, widths.planes))), Signal(), Signal()
        tile_ends, next_tile_ends = ends, next_ends
        if planes:
            next_col = Mux(ends_plane, 0, next_col)
            next_ends = Mux(ends_plane, cols <= SLICE, next_ends)
            tile_ends = ends & (planes_left == 0)
            next_tile_ends = next_ends & (planes_left == ends_plane)
            m.d.comb += triple.eq(ends_plane & tied)
            m.d.sync += next_ends_plane.eq(next_ends)
        # Slices of the tile's column groups, those that are left of the group in work, and whether the slice behind this one
        # begins a group.  And the number of the group's word that comes next, and of its last one.
        group, group_left = (Signal(TileHeaderLayout["group_slices"].shape, name=name) for name in ("group", "group_left"))
        next_begins = Signal()
        word_at, last_word = (Signal(range(multiplier_words(self._tile_rows)), name=name) for name in ("word_at", "last_word"))
        if multipliers:
            m.d.comb += [factors.write_at.eq(word_at), factors.write_half.eq(~group_half), factors.word.eq(self.words.payload)]
            m.d.sync += [next_begins.eq(grouped & ((group_left == 1) | ends_plane)), last_word.eq((tile - 1) >> 3)]
        # The next slice's tables were there in the cycle before.
        next_ready = Signal()
        m.d.sync += next_ready.eq(Array(ready)[~use_buffer])
        m.d.sync += [row_steps.eq(Mux(two_rows, tile >> 1, tile)), flows.eq(row_steps > Accumulator.HAZARD),
                     next_last.eq(next_tile_ends)]
        # A last slice needs room for its finished sums.  A place counts as taken from the step that will write it.
        taken, has_room = Signal(range(2 * depth)), Signal()
        with m.If(begin):
            m.d.sync += taken.eq(0)
        with m.Elif(go & last_slice):
            m.d.sync += taken.eq(taken + 1)
        # Two cycles late.  There are at least three cycles from a tile's last step to the next tile's first step.
        room, idles = [], []
        for s, drain in enumerate(drains):
            waiting, idle = Signal(range(2 * depth), name=f"waiting{s}"), Signal(name=f"idle{s}")
            m.d.sync += [waiting.eq(taken - drain.freed), idle.eq(tokens <= s)]
            room.append((waiting <= depth - tile_places) | idle)
            idles.append(idle)
        m.d.sync += has_room.eq(Cat(room).all())
        header = data.View(TileHeaderLayout, self.words.payload)
        announce = self.words.valid & self.words.ready
        announcing = Signal()
        for s, drain in enumerate(drains):
            # A cycle late: long before the next header, and the first sum.
            m.d.sync += [drain.tiles.p.rows.eq(header.rows), drain.tiles.p.scales[0].eq(header.scale),
                         drain.tiles.p.scales[1].eq(header.odd_scale),
                         drain.tiles.valid.eq(announcing & announce & (tokens > s))]
            if row_words:
                m.d.sync += drain.tiles.p.row_words.eq(header.row_words)
        if row_words:
            # Tiles whose row words have come: a drain has a place for the next tile's if it has given back one of so many before.
            kept = row_word_tiles(self._tile_rows)
            word_tile, word_room, row_en = Signal(range(2 * kept)), Signal(), Signal()
            row_write = Signal(row_write_layout(self._tile_rows), reset_less=True)
            rows_to_come = Signal(header.rows.shape())
            m.d.sync += [word_room.eq(Cat(((word_tile - drain.rows_freed)[:len(word_tile)] != kept) | idle
                                          for drain, idle in zip(drains, idles, strict=True)).all()),
                         row_en.eq(0), row_write.left.eq(rows_to_come), row_write.tile.eq(word_tile),
                         row_write.word.eq(Mux(rows_to_come[0], self.words.payload[32:], self.words.payload[:32]))]
            for drain in drains:
                m.d.comb += [drain.row_en.eq(row_en), drain.row_write.eq(row_write)]
        # A cycle late: the last tile is announced long before its last step.
        drained = Signal()
        m.d.sync += drained.eq(Cat(drain.empty for drain in drains).all())
        with m.FSM(name="tiles"):
            with m.State("IDLE"):
                m.d.comb += [self.start.ready.eq(1), begin.eq(self.start.valid)]
                m.d.sync += [rows_left.eq(self.start.p.rows), cols.eq(self.start.p.cols), tokens.eq(self.start.p.tokens)]
                if token_lanes == 1:
                    m.d.sync += [decode.eq(self.start.p.tokens == 1),
                                 two_rows.eq((self.start.p.tokens == 1) & (pair_rows == 2))]
                if self._layouts.all_heads:
                    # The rows of a single token come in order in any case.
                    m.d.sync += by_rows.eq(self.start.p.by_rows & (self.start.p.tokens != 1))
                m.d.sync += [use_buffer.eq(0), build_buffer.eq(0), build_slice_col.eq(0)]
                if row_words:
                    m.d.sync += word_tile.eq(0)
                m.d.sync += [r.eq(0) for r in ready]
                with m.If(begin):
                    m.d.sync += active.eq(1)
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [self.words.ready.eq(Cat(drain.tiles.ready for drain in drains).all()), announcing.eq(1)]
                m.d.sync += [tile.eq(header.rows), slice_col.eq(0), first_slice.eq(1)]
                with m.If(self.words.valid & self.words.ready):
                    m.d.sync += rows_left.eq(rows_left - header.rows)
                    m.next = "TILE"
                    if planes:
                        m.d.sync += [planes_left.eq(header.planes_less_1), tied.eq(~header.free)]
                    if multipliers:
                        m.d.sync += [grouped.eq(header.group_slices.any()), group.eq(header.group_slices),
                                     group_left.eq(header.group_slices)]
                    if row_words:
                        m.d.sync += rows_to_come.eq(header.rows)
                        with m.If(header.row_words):
                            m.next = "ROWS"
            if row_words:
                with m.State("ROWS"):
                    # A row's word a cycle, the even row's from the low half.
                    m.d.comb += self.words.ready.eq(word_room & rows_to_come[0])
                    with m.If(self.words.valid & word_room):
                        m.d.sync += [row_en.eq(1), rows_to_come.eq(rows_to_come - 1)]
                        with m.If(rows_to_come == 1):
                            m.d.sync += word_tile.eq(word_tile + 1)
                            m.next = "TILE"
            with m.State("TILE"):
                m.d.sync += last_slice.eq(tile_ends)
                if planes:
                    m.d.sync += ends_plane.eq(ends)
                m.next = "SLICE"
                if multipliers:
                    with m.If(grouped):
                        m.next = "MULTIPLIERS"
            if multipliers:
                with m.State("MULTIPLIERS"):
                    # A word a cycle.  The steps follow the last word at once, as they follow SLICE.
                    m.d.comb += [self.words.ready.eq(1), factors.write.eq(self.words.valid)]
                    m.d.sync += [steps_left.eq(row_steps), last_step.eq(row_steps == 1), row.eq(0), half_index.eq(0), pause.eq(0)]
                    with m.If(self.words.valid):
                        m.d.sync += word_at.eq(word_at + 1)
                        with m.If(word_at == last_word):
                            m.d.sync += [word_at.eq(0), group_half.eq(~group_half)]
                            m.next = "SLICE"
                            with m.If(~flows & ~first_slice):
                                m.next = "GAP"
                            with m.Elif(Array(ready)[use_buffer] & (has_room | ~last_slice)):
                                m.next = "STEPS"
            with m.State("SLICE"):
                m.d.sync += [steps_left.eq(row_steps), last_step.eq(row_steps == 1), row.eq(0), half_index.eq(0), pause.eq(0)]
                with m.If(Array(ready)[use_buffer] & (has_room | ~last_slice)):
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
                        m.d.sync += [first_slice.eq(0), use_buffer.eq(~use_buffer), slice_col.eq(next_col)]
                        if planes:
                            m.d.sync += planes_left.eq(planes_left - ends_plane)
                        if multipliers:
                            m.d.sync += group_left.eq(Mux(next_begins, group, group_left - 1))
                        # The next slice follows at once if its tables are there and no accumulator of its rows is in flight.
                        m.next = "GAP"
                        with m.If(last_slice):
                            m.next = "HEADER"
                            with m.If(rows_left == 0):
                                m.d.sync += active.eq(0)
                                m.next = "SETTLE"
                        if multipliers:
                            with m.Elif(next_begins):
                                m.d.sync += last_slice.eq(next_last)
                                if planes:
                                    m.d.sync += ends_plane.eq(next_ends_plane)
                                m.next = "MULTIPLIERS"
                        with m.Elif(flows & next_ready & has_room):
                            m.d.sync += [steps_left.eq(row_steps), row.eq(0), last_slice.eq(next_last)]
                            if planes:
                                m.d.sync += ends_plane.eq(next_ends_plane)
                            m.next = "STEPS"
            with m.State("GAP"):
                m.d.sync += [pause.eq(pause + 1), last_slice.eq(tile_ends)]
                if planes:
                    m.d.sync += ends_plane.eq(ends)
                with m.If(pause == Accumulator.HAZARD):
                    m.next = "SLICE"
            with m.State("SETTLE"):
                # Wait until all sums have left, and until a build that was begun and is not wanted has ended.
                with m.If(~pending & drained):
                    m.next = "IDLE"
        for i in range(2):
            with m.If(used & (use_buffer == i)):
                m.d.sync += ready[i].eq(0)
        m.d.comb += [self.busy.eq(go), self.draining.eq(Cat(out.valid for out in self.out).any())]
        return m
