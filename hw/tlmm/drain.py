# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Takes finished sums from the lanes, an element per cycle, while the next tile runs."""

from contextlib import nullcontext

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.lib.layouts import Layouts
from hw.lib.scales import unpack16
from hw.lib.stages import Stages
from hw.lib.streams import Landing
from hw.lib.types import RowWordLayout, ScaleLayout, TileHeaderLayout
from tellme.spec.packing import NO_BIAS
from tellme.spec.widths import bits_for

__all__ = ["Drain", "row_word_tiles", "row_write_layout", "tile_layout"]

#: Words of an EBR of row words.
EBR_WORDS = 512


def tile_layout(layouts: Layouts) -> data.StructLayout:
    """A tile whose sums will come: its number of rows, the scales of its even and odd rows, and whether its rows have words."""
    return data.StructLayout({"rows": TileHeaderLayout["rows"].width, "scales": data.ArrayLayout(ScaleLayout, 2),
                              **({"row_words": 1} if layouts.row_words else {})})


def row_word_tiles(tile_rows: int) -> int:
    """Tiles of up to ``tile_rows`` rows whose row words a drain holds: as many as an EBR has room for, a power of two."""
    return min(EBR_WORDS >> bits_for(tile_rows - 1), 4)


def row_write_layout(tile_rows: int) -> data.StructLayout:
    """A row's word on its way into the drains: the place of its tile, and how many rows of the tile come from this row on (modulo
    a power of two)."""
    return data.StructLayout({"left": bits_for(tile_rows - 1), "tile": range(row_word_tiles(tile_rows)), "word": RowWordLayout})


class Drain(wiring.Component):
    """out = the sums of each tile: the rows of the first token in order, then the rows of the next token; or, in a core whose
    LM head takes several tokens and while ``by_rows``, the tokens of the first row in order, then those of the next row.

    Of ``streams`` drains, number ``first`` takes the tokens first, first + streams, ...

    - With ``token_lanes`` 1 lane t holds token t.  With ``paired`` (decode, drain 0) a place holds two rows of token 0, the even
      row in lane 0 and the odd row in lane 1.
    - With ``token_lanes`` 2 a place holds two rows of each token t, the even row in lane 2 t and the odd row in lane 2 t + 1.
      ``paired`` counts for nothing.

    ``tiles`` announces a tile before its sums.  A sum has the same place in each lane.  Tiles follow one another around ``depth``
    places.  ``written`` counts the written places, modulo twice the depth.  ``freed`` counts the places that were taken and may
    be written again.  ``clear`` begins a matrix.

    A sum leaves as soon as possible, seven cycles after it was written if nothing waits.  A sum is read only if a place at the
    end is free, so nothing on its way is ever stalled.  Latency 1 from ``at`` to ``values``; initiation interval 1.  ``empty``:
    no tile is announced and no sum is on its way.  Holds up to TILES announced tiles, of two rows or more.

    With ``layouts.row_words`` a sum has a bias too.  The scale and the bias of a row are its row word's if the tile has such
    words, otherwise they are the tile's and NO_BIAS.  ``row_write`` comes with ``row_en``; all words of a tile are written before
    the tile's first sum.  The words of :func:`row_word_tiles` tiles have room; the tiles that have words take their places in
    turn.  ``rows_freed`` counts the tiles with row words that have left, modulo twice this number.  The words take an EBR.
    """

    TILES = 4
    #: Places for sums that are on their way out of the lanes' memories, or wait for ``out``: the words of a LUT RAM.
    HELD = 16

    def __init__(self, layouts: Layouts, *, first: int, streams: int, lanes: int, depth: int, tile_rows: int,
                 token_lanes: int = 1):
        self._layouts, self._token_lanes, self._tile_rows = layouts, token_lanes, tile_rows
        self._first, self._streams, self._lanes, self._depth = first, streams, lanes, depth
        super().__init__({
            "tokens": In(layouts.widths.token_count_bits), "paired": In(1),
            "tiles": In(stream.Signature(tile_layout(layouts))),
            "written": In(range(2 * depth)), "freed": Out(range(2 * depth)), "clear": In(1),
            "read_en": Out(1), "at": Out(range(depth)), **({"by_rows": In(1)} if layouts.all_heads else {}),
            "values": In(data.ArrayLayout(signed(layouts.widths.engine_sum_bits), lanes)),
            "out": Out(stream.Signature(layouts.acc)), "empty": Out(1),
            **({"row_en": In(1), "row_write": In(row_write_layout(tile_rows)),
                "rows_freed": Out(range(2 * row_word_tiles(tile_rows)))} if layouts.row_words else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m, acc, place_layout, row_words = Module(), self._layouts.acc, self._layouts.place, self._layouts.row_words
        TileLayout = tile_layout(self._layouts)
        m.submodules.queue = queue = fifo.SyncFIFO(width=TileLayout.size, depth=self.TILES)
        m.d.comb += [queue.w_data.eq(self.tiles.payload), queue.w_en.eq(self.tiles.valid),
                     self.tiles.ready.eq(queue.w_rdy)]
        tile, working = Signal(TileLayout), Signal()
        base, place, next_place = (Signal(range(2 * self._depth), name=n) for n in ("base", "place", "next_place"))
        # Beyond the last token, behind it.
        remaining, token, odd = Signal(8), Signal(range(self._layouts.widths.chunk + self._streams)), Signal()
        # Indices in a token's vector: of the tile's first row, and of the row that is read.
        first_row, row = Signal(place_layout["index"].shape), Signal(place_layout["index"].shape)
        available, take, moves = Signal(), Signal(), Signal()
        m.submodules.landing = landing = Landing(acc, depth=self.HELD)
        connect(m, landing.o, flipped(self.out))
        stage = Stages(m)
        # The lane to read: the lanes of this drain's tokens in order; where a token has one lane, lane 1 too, for the odd rows of
        # decode.
        two_lanes = self._token_lanes == 2
        if two_lanes:
            own = [lane for t in range(self._first, self._lanes // 2, self._streams) for lane in (2 * t, 2 * t + 1)]
        else:
            own = [*range(self._first, self._lanes, self._streams), *([1] if self._first == 0 and self._lanes > 1 else [])]
        position = Signal(range(len(own) + 1))
        row_end, last_token, tile_end = Signal(), Signal(), Signal()
        first, streams, several = self._first, self._streams, self._layouts.all_heads
        # By rows, a place is left after its last token, or after the last token's odd row; else after each sum.
        leaves: Value = odd if two_lanes else ~self.paired | odd
        next_token: Value = token
        if several:
            leaves = Mux(self.by_rows, last_token & odd if two_lanes else last_token, leaves)
            next_token = Signal.like(token)
            m.d.comb += next_token.eq(token)
            m.d.sync += token.eq(next_token)

        becomes, at_token = (m.d.comb, next_token) if several else (m.d.sync, token)
        m.d.comb += [
            next_place.eq(place + 1), take.eq(working & available & landing.open), landing.sent.eq(take),
            moves.eq(take & leaves), self.read_en.eq(take), self.at.eq(place),
            self.freed.eq(base),
            tile_end.eq(row_end & last_token), self.empty.eq(~working & ~queue.r_rdy & landing.empty),
        ]
        # A cycle later the memories show the sum.  Then the sum is in a register beside its lane.  Then it is chosen from the
        # lanes, which lie far apart on the chip.
        read, near = Signal(), Signal()
        label = data.StructLayout({"position": len(position), "scale": ScaleLayout, "place": place_layout,
                                   **({"row_words": 1} if row_words else {})})
        named, label1 = Signal(label), Signal(label, reset_less=True)
        m.d.comb += [named.position.eq(position), named.scale.eq(tile.scales[odd]), named.place.token.eq(token),
                     named.place.index.eq(row)]
        m.d.sync += [read.eq(take), near.eq(read), landing.valid.eq(near), label1.eq(named)]
        label2 = data.View(label, stage.reg(label1.as_value(), "label2"))
        values2 = Array(stage.reg(self.values[i], f"value2_{i}") for i in own)
        m.d.sync += [landing.value.acc.eq(values2[label2.position]), landing.value.scale.eq(label2.scale),
                     landing.value.place.eq(label2.place)]
        if row_words:
            # A tile's first row lies where its number of rows says, and its last row at 1: ``remaining`` is a row's place.
            kept = row_word_tiles(self._tile_rows)
            m.submodules.row_words = words = memory.Memory(
                shape=RowWordLayout, depth=kept << bits_for(self._tile_rows - 1), init=[],
                attrs={"no_rw_check": True, "ram_style": "block"})
            write, word = words.write_port(), words.read_port()
            m.d.comb += [
                write.en.eq(self.row_en), write.addr.eq(Cat(self.row_write.left, self.row_write.tile)),
                write.data.eq(self.row_write.word),
                word.addr.eq(Cat(remaining[:bits_for(self._tile_rows - 1)], self.rows_freed[:(kept - 1).bit_length()])),
                named.row_words.eq(tile.row_words),
            ]
            word2 = data.View(RowWordLayout, stage.reg(word.data, "word2"))
            sig, exp = unpack16(word2.scale)
            m.d.sync += landing.value.bias.eq(Mux(label2.row_words, word2.bias, NO_BIAS))
            with m.If(label2.row_words):
                m.d.sync += [landing.value.scale.sig.eq(sig), landing.value.scale.exp.eq(exp)]
            with m.If(take & tile_end & tile.row_words):
                m.d.sync += self.rows_freed.eq(self.rows_freed + 1)
            with m.If(self.clear):
                m.d.sync += self.rows_freed.eq(0)
        # The decision is prepared a cycle before.  Sums of a tile's other tokens are there when the first token's sums are.  A
        # token has at least two rows, so the token's number does not change in the cycle before its end; by rows it may, and the
        # number that comes next decides.
        m.d.sync += [available.eq(Mux(moves, next_place, place) != self.written),
                     last_token.eq(next_token + streams >= self.tokens)]

        with m.If(take):
            if several:
                with m.If(self.by_rows):
                    # The next sum is the row's next one, or the first one of the next row.
                    becomes += at_token.eq(Mux(last_token, first, token + streams))
                    m.d.sync += position.eq(position + self._token_lanes)
                    with m.If(last_token):
                        m.d.sync += [odd.eq(~odd), remaining.eq(remaining - 1), row_end.eq(remaining == 2), row.eq(row + 1),
                                     position.eq(~odd if two_lanes else 0)]
                    with m.If(moves):
                        m.d.sync += [place.eq(next_place), base.eq(next_place)]
            # The next sum is the token's next one, or the first one of the next token.
            with m.If(~self.by_rows) if several else nullcontext():
                m.d.sync += [odd.eq(~odd), remaining.eq(remaining - 1), row_end.eq(remaining == 2), row.eq(row + 1)]
                if two_lanes:
                    m.d.sync += position.eq(position ^ 1)
                else:
                    with m.If(self.paired):
                        m.d.sync += position.eq(Mux(odd, 0, len(own) - 1))
                with m.If(moves):
                    m.d.sync += place.eq(next_place)
                    if not two_lanes:
                        with m.If(self.paired):
                            m.d.sync += base.eq(next_place)
                with m.If(row_end):
                    becomes += at_token.eq(token + streams)
                    m.d.sync += [remaining.eq(tile.rows), place.eq(base), row.eq(first_row), position.eq(position + 1)]
            with m.If(tile_end):
                m.d.sync += [working.eq(0), base.eq(next_place), place.eq(next_place), first_row.eq(row + 1)]
            with m.If(row_end & ~last_token):
                m.d.sync += available.eq(1)
        with m.If(~working | (take & tile_end)):
            m.d.comb += queue.r_en.eq(1)
            with m.If(queue.r_rdy):
                becomes += at_token.eq(first)
                m.d.sync += [tile.eq(queue.r_data), remaining.eq(queue.r_data[:8]), odd.eq(0),
                             position.eq(0), working.eq(1), row.eq(Mux(working, row + 1, first_row))]
        with m.If(self.clear):
            m.d.sync += [base.eq(0), place.eq(0), first_row.eq(0), available.eq(0)]
        return m
