# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Where the rows of a pass's tokens lie, where a pass may have tokens of several sequences."""

from amaranth.hdl import Module, Mux
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts
from hw.lib.stages import Stages

__all__ = ["RowPlaces"]


class RowPlaces(wiring.Component):
    """Keeps of each token of a pass the place of its rows and what is left of its run, as ``write`` brings them.

        row_at = place(token) * words;  place, left = place(first), left(first);  slot_at = slot_place * words

    all modulo 2**widths.word_address_bits.  ``row_at``, ``place`` and ``left`` follow ``token`` and ``first`` in the same cycle.
    A token is there three cycles after ``write.en``, a token a cycle.  ``slot_at`` belongs to the ``slot_place`` of two cycles
    before, if ``write.en`` was low then.

    Ranges: tokens 0 to widths.chunk - 1, places 0 to widths.slots * widths.context - 1; ``words`` (of a row, 0 to ``words``)
    stands still from two cycles before ``write.en`` on.  Maps to one multiplier, and LUT RAM for widths.chunk tokens.
    """

    def __init__(self, layouts: Layouts, *, words: int) -> None:
        self._widths = w = layouts.widths
        super().__init__({
            "write": In(layouts.row_place), "words": In(range(words + 1)),
            "slot_place": In(w.row_place_bits), "slot_at": Out(w.word_address_bits),
            "token": In(w.token_bits), "row_at": Out(w.word_address_bits),
            "first": In(w.token_bits), "place": Out(w.row_place_bits), "left": Out(w.token_count_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        write, tokens, address_bits = self.write, self._widths.chunk, self._widths.word_address_bits
        # The runs of a pass begin when its tokens are written.  So one multiplier serves both.
        place1 = stage.reg(Mux(write.en, write.place, self.slot_place), "place1")
        at2 = stage.reg((place1 * self.words)[:address_bits], "at2")
        place_layout = data.StructLayout({"place": self._widths.row_place_bits, "left": self._widths.token_count_bits})
        m.submodules.rows = rows = memory.Memory(shape=address_bits, depth=tokens, init=[])
        m.submodules.places = places = memory.Memory(shape=place_layout, depth=tokens, init=[])
        row_write, row_read = rows.write_port(), rows.read_port(domain="comb")
        place_write, place_read = places.write_port(), places.read_port(domain="comb")
        m.d.comb += [
            row_write.addr.eq(stage.delay(write.token, 2, "token")), row_write.data.eq(at2),
            row_write.en.eq(stage.delay(write.en, 2, "en")), row_read.addr.eq(self.token), self.row_at.eq(row_read.data),
            place_write.addr.eq(write.token), place_write.en.eq(write.en), place_write.data.place.eq(write.place),
            place_write.data.left.eq(write.left), place_read.addr.eq(self.first),
            self.place.eq(place_read.data.place), self.left.eq(place_read.data.left),
            self.slot_at.eq(at2),
        ]
        return m
