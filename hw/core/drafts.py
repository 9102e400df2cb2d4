# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Drafted tokens from a table in memory (format: :mod:`tellme.spec.drafts`)."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import Draft, Pair
from hw.lib.layouts import Layouts
from tellme.spec.drafts import ENTRY_FIELDS, INDEX_FIELDS, INDEX_WORDS, NONE

__all__ = ["DraftReader"]

IndexLayout = data.StructLayout(INDEX_FIELDS)
EntryLayout = data.StructLayout(ENTRY_FIELDS)


class DraftReader(wiring.Component):
    """The token that follows ``pair`` by the table at ``base``, a 32-bit word address: the ``next`` of the list's entry of
    ``before``, else that of the index.

    Each pair gives one ``draft``, in order.  ``base`` must not change while a pair is in work.  The table is not checked: a host
    does this, and whatever a table says, the unit asks for words behind ``base`` alone, modulo the address space, and gives an
    answer.

    Reads a pair: INDEX_WORDS words, then the words of the token's list if it has entries and ``before`` is known.  All words of a
    list are read, and each takes a cycle.  So a pair takes two reads of memory and as many cycles as its list has entries, at
    most LIST_ENTRIES in a right table (of 16 bits' range in a wrong one), and 5 cycles more.
    """

    def __init__(self, layouts: Layouts):
        self._widths = layouts.widths
        super().__init__({"pair": In(stream.Signature(Pair)), "draft": Out(stream.Signature(Draft)),
                          "base": In(layouts.widths.word_address_bits), "read": Out(layouts.read_port)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        request, words, bits = self.read.req, self.read.data, self._widths.word_address_bits
        before, known, left = Signal(16), Signal(), Signal(INDEX_FIELDS["entries"])
        index, entry = data.View(IndexLayout, words.payload), data.View(EntryLayout, words.payload)
        found = Signal(Draft)
        m.d.comb += self.draft.payload.eq(found)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.pair.ready.eq(1)
                # The index is INDEX_WORDS words a token.
                m.d.sync += [before.eq(self.pair.p.before), known.eq(self.pair.p.known),
                             request.p.addr.eq(self.base + Cat(Const(0, INDEX_WORDS.bit_length() - 1), self.pair.p.last)),
                             request.p.len.eq(INDEX_WORDS)]
                with m.If(self.pair.valid):
                    m.d.sync += request.valid.eq(1)
                    m.next = "FIRST"
            with m.State("FIRST"):
                with m.If(request.ready):
                    m.d.sync += request.valid.eq(0)
                m.d.comb += words.ready.eq(1)
                m.d.sync += [found.next.eq(index.next), left.eq(index.entries)]
                with m.If(words.valid):
                    m.next = "SECOND"
            with m.State("SECOND"):
                m.d.comb += words.ready.eq(1)
                m.d.sync += [found.found.eq(found.next != NONE), request.p.addr.eq(self.base + words.payload[:bits]),
                             request.p.len.eq(left)]
                with m.If(words.valid):
                    m.next = "GIVE"
                    with m.If(known & (left != 0)):
                        m.d.sync += request.valid.eq(1)
                        m.next = "LIST"
            with m.State("LIST"):
                with m.If(request.ready):
                    m.d.sync += request.valid.eq(0)
                m.d.comb += words.ready.eq(1)
                with m.If(words.valid):
                    m.d.sync += left.eq(left - 1)
                    with m.If(entry.before == before):
                        m.d.sync += [found.next.eq(entry.next), found.found.eq(1)]
                    with m.If(left == 1):
                        m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += self.draft.valid.eq(1)
                with m.If(self.draft.ready):
                    m.next = "IDLE"
        return m
