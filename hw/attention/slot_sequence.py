# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Order of prefill attention: of KV head after KV head its scales, then K and V of slot after slot."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.softmax import BACK_BITS
from hw.attention.word_reader import PhaseLayout
from hw.lib.layouts import Layouts
from hw.lib.stages import Stages

__all__ = ["SlotSequence"]


class SlotSequence(wiring.Component):
    """Goes through a chunk's KV heads and their slots: which phase, of how many keys, and the requests for its words.

    After ``start`` (a pulse) and ``written`` it asks for the scales of keys_all keys, then for each slot for keys * words words
    of K and as many of V: ``phase`` says which of them are taken, until ``done`` is high with the last one.  A phase's words are
    asked for while those of the one before are taken.  ``slot_done`` is high one cycle after a slot's last V word; the next
    phase begins three cycles after that word.  ``busy`` falls when the last slot's sums have left (``drained``).

    A slot takes ``working`` = min(pairs left, pes) pairs, last_turn = (working - 1) // exp_units; ``row`` counts slots over all
    KV heads, ``last_slot`` is set in a KV head's last one.  The first slot sees ``keys`` = keys_all keys, each later one as many
    as its first pair's token; last_key = keys - 1.

    A word has ``lanes`` values, 4 or 8.  Of eight it has the scales of two keys; ``odd_scales`` says that a KV head's scales
    begin with the upper half of their first word, and last_scales is the number of their words less one.  So a request for scales
    may bring 32 bits before them and 32 bits behind them.

    With ``own_rows`` and a chunk of one token (``own``) the last key's rows are not asked for, and a request of no words is left
    out.

    While the first pes cycles of a slot pass, ``back`` says of PE after PE how many positions before the chunk's last one its
    token lies.  Pairs are numbered from the last token on, ``group`` of them a token.

    In a core with several slots of sequences (``layouts.runs``) it goes through the slots of PEs that have pairs of one run.  The
    run's first pair is at PE ``begin_pe`` of the first of these slots, whose row in KV head 0 is ``begin_row``; a KV head has
    ``head_rows`` rows.  ``pairs`` counts from PE 0 of that slot on: the run's and the begin_pe before them.  ``keys_all`` and
    ``back`` count from the run's last token, and ``back`` comes of the PEs from ``first_pe``, the slot's first one with a pair of
    the run, on.  Rows are read at k_base (v_base) + ``slot_at``, scales at s_base + slot_place.

    Ranges: pairs 1 to group * 16, keys_all 1 to context, words 16 / lanes to max_words; ``words``, ``pairs``, ``keys_all``,
    ``own`` and what is of a run stand still from ``start`` until ``busy`` falls.
    """

    def __init__(self, layouts: Layouts, *, pes: int, exp_units: int, lanes: int, pair_bits: int, words: int, rows: int,
                 own_rows: bool = False) -> None:
        self._own_rows = own_rows
        self._runs = layouts.runs
        self._pes, self._units, self._lanes, self._widths = pes, exp_units, lanes, layouts.widths
        context = layouts.widths.context
        keys = range(2 << (context - 1).bit_length())
        super().__init__({
            "shape": In(layouts.model_shape), "args": In(layouts.attention_args), "words": In(range(words + 1)),
            "pairs": In(pair_bits), "keys_all": In(keys),
            "start": In(1), "written": In(1), "done": In(1), "drained": In(1), "busy": Out(1), "slot_done": Out(1),
            "request": Out(stream.Signature(layouts.memory_request)), "phase": Out(PhaseLayout),
            "row": Out(range(rows)), "keys": Out(keys), "last_key": Out(range(context)),
            "working": Out(range(pes + 1)), "last_turn": Out(range(pes // exp_units)), "last_slot": Out(1),
            "odd_scales": Out(1), "last_scales": Out(range(context)),
            "back": Out(data.StructLayout({"en": 1, "pe": range(pes), "back": BACK_BITS + 1})),
            **({"own": In(1), "head": Out(range(layouts.widths.kv_heads + 1))} if own_rows else {}),
            **({"begin_pe": In(range(pes)), "begin_row": In(range(rows)), "head_rows": In(range(rows + 1)),
                "slot_at": In(layouts.widths.word_address_bits), "first_pe": Out(range(pes))} if layouts.runs else {}),
        })

    def scale_words(self, odd: Value) -> Value:
        """Words of eight values that have the scales of keys_all keys, from the first word's upper half on if ``odd``."""
        return (self.keys_all + odd + 1) >> 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        wide = self._lanes == 8
        pes, shape, args, phase, request = self._pes, self.shape, self.args, self.phase, self.request
        walking, pe, back, g = self.back.en, self.back.pe, self.back.back, Signal(range(max(self._widths.group, 2)))
        with m.If(walking):
            m.d.sync += [pe.eq(pe + 1), g.eq(g + 1)]
            with m.If(g + 1 == shape.group):
                m.d.sync += [g.eq(0), back.eq(back + 1)]
            with m.If(pe == pes - 1):
                m.d.sync += walking.eq(0)

        head, pairs_left = Signal(range(self._widths.kv_heads + 1)), Signal.like(self.pairs, reset_less=True)
        k_addr, v_addr, s_addr = (Signal(self._widths.word_address_bits, name=f"{name}_addr") for name in "kvs")
        if self._runs:
            # The row of the KV head's first slot.
            head_row = Signal.like(self.row)
        # Both are wanted in V only.
        if wide:
            m.d.comb += self.odd_scales.eq(s_addr[0])
        last_head = stage.reg(head + 1 == shape.kv_heads, "last_head")
        last_slot = stage.reg(pairs_left <= pes, "last_slot")
        m.d.comb += [self.last_slot.eq(last_slot), self.working.eq(Mux(pairs_left <= pes, pairs_left, pes))]
        m.d.sync += self.last_turn.eq((self.working - 1) >> (self._units - 1).bit_length())
        # Each phase asks for the words of the next one.  A slot's keys are known when the walk of the one before ended.
        to_ask, settled = Signal(), Signal(range(4))
        next_keys = stage.reg((self.keys_all - Mux(last_slot, 0, back))[:len(self.keys)], "next_keys")
        words = Cat(Const(0, 1), self.words) if wide else self.words
        asked_keys: Value = Mux(phase.v, next_keys, self.keys)
        nothing_left: Value = phase.v & last_slot & last_head
        if self._own_rows:
            m.d.comb += self.head.eq(head)
            # All pairs are of the only token, so each slot sees the same keys.
            asked_keys = Mux(self.own, stage.reg((self.keys_all - 1)[:len(self.keys)], "keys_before"), asked_keys)
            no_rows = stage.reg(self.own & (self.keys_all == 1), "no_rows")
            nothing_left = nothing_left | (no_rows & ~(phase.v & last_slot))
        row_words = stage.reg(asked_keys * words, "row_words")
        # Words of scales less one, of the KV head after this one.
        next_scales = stage.reg(self.scale_words(s_addr[0] ^ shape.s_stride[0]) - 1, "next_scales") if wide else Const(0)

        def scales(addr: Value, keys: Value, last: Value) -> list:
            """What asks for a KV head's scales: whole words."""
            if wide:
                return [request.p.addr.eq(Cat(Const(0, 1), addr[1:])), request.p.len.eq((last + 1) << 1)]
            return [request.p.addr.eq(addr), request.p.len.eq(keys)]

        m.d.sync += settled.eq(Mux(walking | ~phase.v, 0, Mux(settled == 3, 3, settled + 1)))
        with m.If(request.valid & request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(to_ask & ~request.valid & (~phase.v | (settled == 3))):
            m.d.sync += [to_ask.eq(0), request.valid.eq(~nothing_left), request.p.len.eq(row_words),
                         request.p.addr.eq(Mux(phase.k, v_addr, k_addr))]
            with m.If(phase.v & last_slot):
                m.d.sync += scales(s_addr + shape.s_stride, self.keys_all, next_scales)

        def enter(state: str) -> None:
            m.next = state
            m.d.sync += [phase.s.eq(state == "S"), phase.k.eq(state == "K"), phase.v.eq(state == "V")]

        with m.FSM(name="attend") as attend:
            with m.State("IDLE"):
                m.d.sync += [head.eq(0), self.row.eq(0), k_addr.eq(args.k_base), v_addr.eq(args.v_base), s_addr.eq(args.s_base),
                             self.keys.eq(self.keys_all), self.last_key.eq(self.keys_all - 1), pairs_left.eq(self.pairs),
                             back.eq(0), g.eq(0)]
                if wide:
                    m.d.sync += self.last_scales.eq(self.scale_words(args.s_base[0]) - 1)
                if self._runs:
                    m.d.sync += [k_addr.eq(args.k_base + self.slot_at), v_addr.eq(args.v_base + self.slot_at),
                                 s_addr.eq(args.s_base + args.slot_place), self.row.eq(self.begin_row),
                                 head_row.eq(self.begin_row), pe.eq(self.begin_pe), self.first_pe.eq(self.begin_pe)]
                    if wide:
                        m.d.sync += self.last_scales.eq(self.scale_words(args.s_base[0] ^ args.slot_place[0]) - 1)
                with m.If(self.start):
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(self.written):
                    m.d.sync += [request.valid.eq(1), *scales(s_addr, self.keys, self.last_scales), to_ask.eq(1), walking.eq(1)]
                    enter("S")
            with m.State("S"):
                with m.If(self.done):
                    m.d.sync += to_ask.eq(1)
                    enter("K")
            with m.State("K"):
                with m.If(self.done):
                    m.d.sync += to_ask.eq(1)
                    enter("V")
            with m.State("V"):
                with m.If(self.done):
                    enter("SLOT-DONE")
            with m.State("SLOT-DONE"):
                m.d.comb += self.slot_done.eq(1)
                m.d.sync += [self.row.eq(self.row + 1), self.keys.eq(next_keys), self.last_key.eq(next_keys - 1),
                             pairs_left.eq(pairs_left - pes)]
                if self._runs:
                    m.d.sync += self.first_pe.eq(0)
                    with m.If(last_slot):
                        next_row = head_row + self.head_rows
                        m.d.sync += [self.row.eq(next_row), head_row.eq(next_row), pe.eq(self.begin_pe),
                                     self.first_pe.eq(self.begin_pe)]
                with m.If(last_slot):
                    m.d.sync += [head.eq(head + 1), k_addr.eq(k_addr + shape.kv_stride), v_addr.eq(v_addr + shape.kv_stride),
                                 s_addr.eq(s_addr + shape.s_stride), pairs_left.eq(self.pairs), back.eq(0), g.eq(0)]
                    if wide:
                        m.d.sync += self.last_scales.eq(next_scales)
                with m.If(last_slot & last_head):
                    m.next = "LAST"
                with m.Else():
                    m.d.sync += walking.eq(1)
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += to_ask.eq(1)
                # Still of the slot before.
                with m.If(last_slot):
                    enter("S")
                with m.Else():
                    enter("K")
            with m.State("LAST"):
                with m.If(self.drained):
                    m.next = "IDLE"
            m.d.comb += self.busy.eq(~attend.ongoing("IDLE"))
        return m
