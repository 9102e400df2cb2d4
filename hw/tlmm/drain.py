# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Takes finished sums from the lanes, an element a cycle, while the next tile runs."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.fused.stage import Skid
from hw.types import AccLayout, PlaceLayout, ScaleLayout

__all__ = ["Drain", "TileLayout"]

#: A tile whose sums will come: rows, scales of its even and odd rows.
TileLayout = data.StructLayout({"rows": 8, "scales": data.ArrayLayout(ScaleLayout, 2)})


class Drain(wiring.Component):
    """out = the sums of each tile: rows of its first token in order, then those of the next.

    Of ``streams`` drains, number ``first`` takes the tokens first, first + streams, ...; lane t holds token t.  With
    ``paired`` (decode, drain 0) a place holds two rows of token 0, the even one in lane 0 and the odd one in lane 1.

    ``tiles`` announces a tile ahead of its sums.  Sums lie in the lanes at the same place each, tile behind tile around
    ``depth`` places; ``written`` counts the places that are written, modulo twice the depth.  ``freed`` counts those that
    are taken and may be written again.  ``clear`` begins a matrix.

    A sum leaves as soon as it is there, four cycles after it was written where nothing waits.  Latency 1 from ``at`` to
    ``values``; initiation interval 1.  ``empty`` while nothing is announced or on its way.  Holds up to TILES announced
    tiles, of two rows or more.
    """

    TILES = 4

    def __init__(self, *, first: int, streams: int, lanes: int, depth: int):
        self._first, self._streams, self._lanes, self._depth = first, streams, lanes, depth
        super().__init__({
            "tokens": In(5), "paired": In(1),
            "tiles": In(stream.Signature(TileLayout)),
            "written": In(range(2 * depth)), "freed": Out(range(2 * depth)), "clear": In(1),
            "read_en": Out(1), "at": Out(range(depth)), "values": In(data.ArrayLayout(32, lanes)),
            "out": Out(stream.Signature(AccLayout)), "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=TileLayout.size, depth=self.TILES)
        m.d.comb += [queue.w_data.eq(self.tiles.payload), queue.w_en.eq(self.tiles.valid),
                     self.tiles.ready.eq(queue.w_rdy)]
        tile, working = Signal(TileLayout), Signal()
        base, place, next_place = (Signal(range(2 * self._depth), name=n) for n in ("base", "place", "next_place"))
        left, token, odd = Signal(8), Signal(5), Signal()
        # Of the tile's rows in a token's vector: the first, and the one that is read.
        first_row, row = Signal(PlaceLayout["index"].shape), Signal(PlaceLayout["index"].shape)
        there, take, moves = Signal(), Signal(), Signal()
        # Read: the lanes' memories show a sum.
        m.submodules.skid = skid = Skid(AccLayout)
        connect(m, skid.o, flipped(self.out))
        out, read, read_free = skid.i, Signal(), Signal()
        # Chosen from the lanes, which lie far apart.
        chosen, free = Signal(AccLayout, reset_less=True), Signal()
        # Which of this drain's lanes: its tokens' in order, and lane 1 for the odd rows.
        own = [*range(self._first, self._lanes, self._streams), *([1] if self._first == 0 and self._lanes > 1 else [])]
        position = Signal(range(len(own) + 1))
        held = Signal(data.StructLayout({"position": len(position), "scale": ScaleLayout, "place": PlaceLayout}),
                      reset_less=True)
        row_end, last_token, tile_end = Signal(), Signal(), Signal()
        m.d.comb += [
            next_place.eq(place + 1), free.eq(~out.valid | out.ready), read_free.eq(~read | free),
            take.eq(working & there & read_free),
            moves.eq(take & (~self.paired | odd)), self.read_en.eq(take), self.at.eq(place), self.freed.eq(base),
            tile_end.eq(row_end & last_token),
            out.payload.eq(chosen), self.empty.eq(~working & ~queue.r_rdy & ~read & ~out.valid & ~self.out.valid),
        ]
        with m.If(free):
            m.d.sync += [out.valid.eq(read), chosen.acc.eq(Array(self.values[i].as_signed() for i in own)[held.position]),
                         chosen.scale.eq(held.scale), chosen.place.eq(held.place)]
        with m.If(read_free):
            m.d.sync += read.eq(take)
        # What decides is known a cycle ahead.  Sums of a tile's other tokens are there when the first one's are; a token
        # has two rows at least, so its number stands still before it ends.
        m.d.sync += [there.eq(Mux(moves, next_place, place) != self.written),
                     last_token.eq(token + self._streams >= self.tokens)]
        with m.If(take):
            m.d.sync += [held.position.eq(position), held.scale.eq(tile.scales[odd]), held.place.token.eq(token),
                         held.place.index.eq(row), odd.eq(~odd), left.eq(left - 1), row_end.eq(left == 2), row.eq(row + 1)]
            with m.If(self.paired):
                m.d.sync += position.eq(Mux(odd, 0, len(own) - 1))
            with m.If(moves):
                m.d.sync += place.eq(next_place)
                with m.If(self.paired):
                    m.d.sync += base.eq(next_place)
            with m.If(row_end):
                m.d.sync += [token.eq(token + self._streams), left.eq(tile.rows), place.eq(base), row.eq(first_row),
                             position.eq(position + 1)]
            with m.If(tile_end):
                m.d.sync += [working.eq(0), base.eq(next_place), place.eq(next_place), first_row.eq(row + 1)]
            with m.If(row_end & ~last_token):
                m.d.sync += there.eq(1)
        with m.If(~working | (take & tile_end)):
            m.d.comb += queue.r_en.eq(1)
            with m.If(queue.r_rdy):
                m.d.sync += [tile.eq(queue.r_data), left.eq(queue.r_data[:8]), token.eq(self._first), odd.eq(0),
                             position.eq(0), working.eq(1), row.eq(Mux(working, row + 1, first_row))]
        with m.If(self.clear):
            m.d.sync += [base.eq(0), place.eq(0), first_row.eq(0), there.eq(0)]
        return m
