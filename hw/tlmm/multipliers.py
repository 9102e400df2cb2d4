# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The multipliers of a tile's rows for the column group in work."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from tellme.spec.packing import MULTIPLIERS_A_WORD, multiplier_words
from tellme.spec.ranges import I8
from tellme.spec.widths import bits_for

__all__ = ["RowMultipliers"]

#: A multiplier: a signed byte.
MULTIPLIER_BITS = 8


class RowMultipliers(wiring.Component):
    """multipliers[i] = the multiplier of row i of a step, or 1 without ``grouped``.

    A step has ``rows`` rows, 1 or 2.  With two of them ``two_rows`` says whether the step has rows 2 n and 2 n + 1, where n is
    ``row``, or the row n alone, whose multiplier then is both.  ``two_rows`` stands still while a matrix runs.

    A word of eight multipliers is written a cycle: ``word`` to the place ``write_at`` of the half ``write_half``, with ``write``.
    Two halves let the words of a group come while the last steps of the group before are under way.

    Latency 2 from ``row``, ``half`` and ``grouped`` to ``multipliers``; initiation interval 1.  Nothing is read in the cycle in
    which it is written.  Maps to two EBR for tiles of up to ``tile_rows`` rows; behind the two halves lie words of ones, which no
    one writes and which a step without ``grouped`` reads, so that the ones cost no LUT.
    """

    LATENCY = 2

    def __init__(self, *, tile_rows: int, rows: int):
        self._words, self._rows = multiplier_words(tile_rows), rows
        super().__init__({
            "write": In(1), "write_at": In(range(self._words)), "write_half": In(1), "word": In(8 * MULTIPLIERS_A_WORD),
            "row": In(bits_for(tile_rows - 1)), "half": In(1), "grouped": In(1), "two_rows": In(1),
            "multipliers": Out(data.ArrayLayout(signed(MULTIPLIER_BITS), rows)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        assert MULTIPLIER_BITS == (I8.most - I8.least).bit_length()
        at_bits = bits_for(self._words - 1)
        pairs = MULTIPLIERS_A_WORD // 2
        ones = sum(1 << MULTIPLIER_BITS * i for i in range(MULTIPLIERS_A_WORD))
        m.submodules.words = words = memory.Memory(
            shape=unsigned(8 * MULTIPLIERS_A_WORD), depth=3 << at_bits, init=[0] * (2 << at_bits) + [ones] * (1 << at_bits),
            attrs={"no_rw_check": True, "ram_style": "block"})
        write, read = words.write_port(), words.read_port()
        # A row's place: its word, its pair in the word, and whether it is the second of the pair.
        row: Value = Mux(self.two_rows, Cat(Const(0, 1), self.row), self.row) if self._rows == 2 else self.row
        pair, odd = Signal(range(pairs)), Signal()
        chosen = Signal(2 * MULTIPLIER_BITS)
        m.d.comb += [
            write.en.eq(self.write), write.data.eq(self.word), write.addr.eq(Cat(self.write_at, self.write_half)),
            read.addr.eq(Cat(row[3:3 + at_bits], self.half & self.grouped, ~self.grouped)),
            chosen.eq(read.data.word_select(pair, len(chosen))),
        ]
        m.d.sync += [pair.eq(row[1:3]), odd.eq(row[0])]
        low, high = chosen[:MULTIPLIER_BITS], chosen[MULTIPLIER_BITS:]
        if self._rows == 1:
            m.d.sync += self.multipliers[0].eq(Mux(odd, high, low))
        else:
            m.d.sync += [self.multipliers[0].eq(Mux(~self.two_rows & odd, high, low)),
                         self.multipliers[1].eq(Mux(self.two_rows | odd, high, low))]
        return m
