# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The K and V rows of a chunk's only token, which attention need not read back from memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["OwnRows", "own_row_word"]


def own_row_word(kv_heads: int, words: int) -> data.StructLayout:
    """A word of 32 bits of a KV head's K or V row, and the word's number in its row of ``words`` at most."""
    return data.StructLayout({"en": 1, "v": 1, "head": range(kv_heads), "word": range(words), "data": 32})


class OwnRows(wiring.Component):
    """Keeps the rows of all KV heads as ``write`` brings them, and gives them back on ``row``, a word a cycle.

    After ``restart`` the K row of KV head ``head`` comes, then that head's V row, then a K row again, and so on.  A word is
    fetched while ``fetch`` is high and ``restart`` is low; ``head`` must be that of the next row then.  A row's first word is
    there two cycles after the last word of the row before, and stays until the word is taken.

    Ranges: ``words`` 1 to max_words, still from ``restart`` on.  Maps to EBR: 2 * kv_heads * max_words words of 32 bits.
    """

    def __init__(self, *, kv_heads: int, words: int) -> None:
        self._kv_heads, self._words = kv_heads, words
        super().__init__({"write": In(own_row_word(kv_heads, words)), "words": In(range(words + 1)), "head": In(range(kv_heads)),
                          "restart": In(1), "fetch": In(1), "row": Out(stream.Signature(32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row, write = self.row, self.write
        m.submodules.rows = rows = memory.Memory(shape=32, depth=2 * self._kv_heads * self._words, init=[],
                                                 attrs={"ram_style": "block"})
        writes, reads = rows.write_port(), rows.read_port()
        of_v, at, last = Signal(), Signal(range(self._words)), Signal()
        m.d.comb += [writes.addr.eq(Cat(write.word, write.v, write.head)), writes.data.eq(write.data), writes.en.eq(write.en),
                     reads.addr.eq(Cat(at, of_v, self.head)), row.payload.eq(reads.data)]
        # The word that was fetched stays at the memory's output.
        taken = row.valid & row.ready
        m.d.comb += reads.en.eq(self.fetch & Mux(row.valid, row.ready & ~last, 1))
        with m.If(taken):
            m.d.sync += row.valid.eq(0)
        with m.If(reads.en):
            m.d.sync += [row.valid.eq(1), at.eq(at + 1), last.eq(at + 1 == self.words)]
        with m.If(taken & last):
            m.d.sync += [at.eq(0), of_v.eq(~of_v)]
        with m.If(self.restart):
            m.d.sync += [row.valid.eq(0), at.eq(0), of_v.eq(0)]
        return m
