# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Takes finished sums from the lanes, an element a cycle, while the next tile runs."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.types import AccLayout, ScaleLayout

__all__ = ["Drain", "TileLayout"]

#: A tile whose sums will come: rows, scales of its even and odd rows, whether it is the matrix's last.
TileLayout = data.StructLayout({"rows": 8, "scales": data.ArrayLayout(ScaleLayout, 2), "last": 1})


class Drain(wiring.Component):
    """out = the sums of each tile: rows of token 0 in order, then those of token 1, and so on.

    ``tiles`` announces a tile ahead of its sums.  Sums lie in the lanes at the same place each, tile behind tile around
    ``depth`` places; ``written`` counts the places that are written, modulo twice the depth.  ``freed`` counts those that
    are taken and may be written again.  With ``paired`` (decode) a place holds two rows, the even one in lane 0 and the odd
    one in lane 1; otherwise lane t holds token t.

    A sum leaves as soon as it is there.  Latency 1 from ``at`` and ``lane`` to ``values``; initiation interval 1.
    ``empty`` while nothing is announced or on its way.  Holds up to TILES announced tiles.
    """

    TILES = 4

    def __init__(self, *, lanes: int, depth: int):
        self._lanes, self._depth = lanes, depth
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
        base, place = Signal(range(2 * self._depth)), Signal(range(2 * self._depth))
        left, token, odd = Signal(8), Signal(5), Signal()
        lane = Signal(range(max(self._lanes, 2)))
        there, free, take = Signal(), Signal(), Signal()
        out = self.out
        held_lane, held_last = Signal.like(lane), Signal()
        row_end, tile_end = Signal(), Signal()
        m.d.comb += [
            there.eq(place != self.written), free.eq(~out.valid | out.ready), take.eq(working & there & free),
            self.read_en.eq(take), self.at.eq(place), self.freed.eq(base),
            row_end.eq(left == 1), tile_end.eq(row_end & (self.paired | (token + 1 == self.tokens))),
            lane.eq(token),
            out.p.acc.eq(Array(v.as_signed() for v in self.values)[held_lane]),
            out.p.last.eq(held_last),
            self.empty.eq(~working & ~queue.r_rdy & ~out.valid),
        ]
        with m.If(self.paired):
            m.d.comb += lane.eq(odd)
        held_scale = Signal(ScaleLayout)
        m.d.comb += out.p.scale.eq(held_scale)
        with m.If(free):
            m.d.sync += out.valid.eq(take)
        with m.If(take):
            m.d.sync += [held_lane.eq(lane), held_scale.eq(tile.scales[odd]), held_last.eq(tile.last & tile_end),
                         odd.eq(~odd), left.eq(left - 1)]
            with m.If(~self.paired | odd):
                m.d.sync += place.eq(place + 1)
                with m.If(self.paired):
                    m.d.sync += base.eq(place + 1)
            with m.If(row_end & ~tile_end):
                m.d.sync += [token.eq(token + 1), left.eq(tile.rows), place.eq(base)]
            with m.If(tile_end):
                m.d.sync += [working.eq(0), base.eq(place + 1)]
        with m.If(~working | (take & tile_end)):
            m.d.comb += queue.r_en.eq(1)
            with m.If(queue.r_rdy):
                m.d.sync += [tile.eq(queue.r_data), left.eq(queue.r_data[:8]), token.eq(0), odd.eq(0), working.eq(1)]
        with m.If(self.clear):
            m.d.sync += [base.eq(0), place.eq(0)]
        return m
