# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The best 64 of each of some lists: an entry at a time is inserted into its list."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts
from tellme.spec.memory import TOP_ENTRIES

__all__ = ["BestList"]


class BestList(wiring.Component):
    """``lists`` lists of up to TOP_ENTRIES entries (a logit and an id), each sorted by logit, the largest first, and then by id.

    Input: on ``i`` a new entry, and with several lists the ``number`` of its list.  Beside it ``held``, the entries that the list
    has, and of a full list ``last``, its last entry.  Both stay as the payload does, until the entry is taken.  ``i`` is ready
    when the entry has entered, or at once if it is no better than the last one of a full list.

    ``first`` and ``placed`` are strobes: the entry that is taken is its list's first one; ``ends``, an entry of the list of
    ``i``, has become its last one, number TOP_ENTRIES - 1.  ``entered`` says that the entry that is taken is in its list.

    ``by_id``: entries of equal logits come in any order of ids.  Without, they come with rising ids, so that an equal entry of
    the list is the better one; an id is not compared then.

    Rate: an entry takes three cycles, and one for each entry that moves; one that does not enter takes one.  ``busy`` is low
    while no entry is in work.

    While ``shown`` the entry at ``top_addr`` = TOP_ENTRIES * number + place is read, a cycle later on ``top_data``; no entry may
    come then.  The lists lie in EBR, half of one each for entries of up to 72 bits and eight lists.
    """

    def __init__(self, layouts: Layouts, *, lists: int = 1, by_id: bool = False):
        self._entry, self._lists, self._by_id = layouts.top_entry, lists, by_id
        several = {"number": range(lists)} if lists > 1 else {}
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"entry": self._entry, **several}))),
            "held": In(range(TOP_ENTRIES + 1)), "last": In(self._entry),
            "first": Out(1), "entered": Out(1), "placed": Out(1), "ends": Out(self._entry), "busy": Out(1),
            "shown": In(1), "top_addr": In(range(TOP_ENTRIES * lists)), "top_data": Out(self._entry),
        })

    def _beats(self, one: data.View, other: data.View) -> Value:
        """Whether the first one, which comes later, is the better entry."""
        larger = one.logit.as_signed() > other.logit.as_signed()
        return larger | ((one.logit == other.logit) & (one.id < other.id)) if self._by_id else larger

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.top = top = memory.Memory(shape=self._entry, depth=TOP_ENTRIES * self._lists, init=[],
                                               attrs={"ram_style": "block"})
        write, read = top.write_port(), top.read_port()
        new = self.i.p.entry
        number = self.i.p.number if self._lists > 1 else Cat()
        # ``at`` is the place that is written next, ``entry``, the port's register, the entry above it; the entry above ``entry``
        # is being read.
        at, below, read_next = Signal(range(TOP_ENTRIES)), Signal(range(TOP_ENTRIES)), Signal()
        entry, full, outgrown, smaller = read.data, Signal(), Signal(), Signal()
        m.d.comb += [
            full.eq(self.held == TOP_ENTRIES), outgrown.eq(full & ~self._beats(new, self.last)),
            smaller.eq(self._beats(new, entry)),
            read.en.eq(read_next | self.shown), read.addr.eq(Mux(self.shown, self.top_addr, Cat(below, number))),
            self.top_data.eq(entry), write.addr.eq(Cat(at, number)), write.data.eq(new), self.ends.eq(write.data),
        ]
        with m.FSM(name="list") as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("TAKE"))
            with m.State("TAKE"):
                m.d.sync += [at.eq(Mux(full, TOP_ENTRIES - 1, self.held)), below.eq(Mux(full, TOP_ENTRIES - 2, self.held - 1))]
                with m.If(self.i.valid):
                    m.d.comb += self.i.ready.eq(outgrown)
                    with m.If(~outgrown):
                        m.next = "READ"
            with m.State("READ"):
                m.d.comb += read_next.eq(1)
                m.d.sync += below.eq(below - 1)
                m.next = "INSERT"
            with m.State("INSERT"):
                # Entries that are smaller move down one.
                m.d.comb += [write.en.eq(1), self.placed.eq(at == TOP_ENTRIES - 1)]
                with m.If((at != 0) & smaller):
                    m.d.comb += [write.data.eq(entry), read_next.eq(1)]
                    m.d.sync += [at.eq(at - 1), below.eq(below - 1)]
                with m.Else():
                    m.d.comb += [self.i.ready.eq(1), self.entered.eq(1), self.first.eq(at == 0)]
                    m.next = "TAKE"
        return m
