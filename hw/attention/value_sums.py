# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Weighted sums of V rows in decode attention."""

from amaranth.hdl import Module, Mux, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.multipliers import GroupBanks
from hw.attention.scatter import LANES
from hw.attention.score_path import row_words
from hw.lib.layouts import Layouts
from hw.lib.stages import Stages

__all__ = ["ValueSums"]


class ValueSums(wiring.Component):
    """sums[g][4 * w + i] = sum over keys of products[i] of V words ``w``, in widths.attention_sum_bits; the first key's begin
    them.

    ``products`` of each bank come two cycles after ``word`` (:func:`hw.attention.score_path.row_words`) and count where word.v is
    set.  While ``draining`` is set ``sum`` is that of head out_g, word out_word and lane out_lane, in the same cycle.
    ``head_dim`` sums a head in LUT RAM.
    """

    def __init__(self, layouts: Layouts, banks: GroupBanks) -> None:
        max_words = layouts.widths.head_dim // LANES
        self._banks, self._words, self._sum_bits = banks, max_words, layouts.widths.attention_sum_bits
        g = range(banks.groups + 1)
        super().__init__({
            "word": In(row_words(layouts.widths)),
            "products": In(data.ArrayLayout(data.ArrayLayout(signed(24), LANES), len(banks.numbers))),
            "draining": In(1), "out_g": In(g), "out_word": In(range(max_words)), "out_lane": In(range(LANES)),
            "sum": Out(signed(self._sum_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        banks, word, bits = self._banks, self.word, self._sum_bits
        v3, w3 = stage.delay(word.v, 2, "v"), stage.delay(word.w, 2, "w")
        first_key3 = stage.delay(word.first_key, 2, "first_key")
        g3 = banks.delay(stage, word.g, 2, "g_now")
        shown = []
        for g in banks.numbers:
            m.submodules[f"sums{g}"] = sums = memory.Memory(shape=LANES * bits, depth=banks.heads * self._words, init=[])
            write, read = sums.write_port(), sums.read_port(domain="comb")
            m.d.comb += [
                read.addr.eq(Mux(self.draining, banks.address(self.out_g, self.out_word), banks.address(g3, w3))),
                write.addr.eq(banks.address(g3, w3)), write.en.eq(v3),
            ]
            for i in range(LANES):
                part = slice(bits * i, bits * (i + 1))
                m.d.comb += write.data[part].eq(Mux(first_key3, 0, read.data[part].as_signed()) + self.products[g][i])
            shown.append(read.data)
        m.d.comb += self.sum.eq(banks.of(shown, self.out_g).word_select(self.out_lane, bits).as_signed())
        return m
