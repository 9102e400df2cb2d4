# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Words of S, K and V rows as they come from memory: which key and word each is, and when a row may begin."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.softmax import SoftmaxUnit
from hw.lib.stages import Stages
from hw.lib.types import KvScales

__all__ = ["PhaseLayout", "WordReader", "word_flags"]

#: Which words are taken: scales, K rows or V rows; at most one is set.
PhaseLayout = data.StructLayout({"s": 1, "k": 1, "v": 1})


def word_flags(words: int) -> data.StructLayout:
    """What walks along the PEs beside a word: of a K row, of a V row, its row's first and last word, of the first key, and its
    number ``w`` in the row, of ``words`` at most."""
    return data.StructLayout({"k": 1, "v": 1, "first_word": 1, "row_end": 1, "first_key": 1, "w": range(words)})


class WordReader(wiring.Component):
    """Takes the words of a phase: words of scales, or ``last_key`` + 1 K or V rows of ``words`` words, key after key.

    A word has ``lanes`` values, 4 or 8.  It is taken where ``data.valid & data.ready``.  In phase s a word of four values has
    the scales of a key, and the phase has last_key + 1 words; a word of eight values has the scales of two keys, and the phase
    has ``last_scales`` + 1 words.  ``scales`` writes a word under its number, with ``last`` at the phase's last one.

    With ``own_rows`` ``last_row`` is high while the next word is one of the last key's row.

    In phase k or v a word leaves the same cycle with its ``flags``, which are zero for ``k`` and ``v`` in all other cycles;
    ``key`` is its key.  ``done`` is high with the phase's last word; the counters begin again then.  ``v_row`` is high with the
    first word of a V row.

    Spacing: a row's first word is taken at the earliest last_turn + 1 cycles after the first word of the row before, and at the
    earliest last_turn + 2 - words cycles after its last word, so that the softmax units have met last_turn + 1 turns with a row
    before the next one ends.  A V row begins only when a weight was asked for it, LEAD cycles before: ``asked`` is high in the
    cycle in which a key's first weight is.

    Ranges: words 16 / lanes to max_words, last_turn 0 to turns - 1, last_key 0 to context - 1, last_scales 0 to context / 2;
    last_key, last_scales, words and last_turn stand still from two cycles before a phase until its end.  A word a cycle
    where words > last_turn; but a V row takes at least (lead + 1) / AHEAD cycles.
    """

    def __init__(self, *, lanes: int, turns: int, words: int, context: int, lead: int, own_rows: bool = False) -> None:
        self._own_rows = own_rows
        self._lanes, self._turns, self._words, self._context, self._lead = lanes, turns, words, context, lead
        key = range(context)
        super().__init__({
            "data": In(stream.Signature(8 * lanes)), "phase": In(PhaseLayout), "words": In(range(words + 1)),
            "last_key": In(key), "last_scales": In(key), "last_turn": In(range(turns)), "asked": In(1),
            "scales": Out(data.StructLayout({"en": 1, "last": 1, "word": key, "data": data.ArrayLayout(KvScales, lanes // 4)})),
            "flags": Out(word_flags(words)), "key": Out(key), "v_row": Out(1), "done": Out(1),
            **({"last_row": Out(1)} if own_rows else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        phase, words, last_turn = self.phase, self.words, self.last_turn
        key, key_next, w_index = Signal(range(self._context)), Signal(range(self._context), init=1), Signal(range(self._words))
        # What the next word is: its row's first, its row's last, of the last key.
        first_word, row_end, of_last_key = Signal(init=1), Signal(), Signal()
        # ``key`` counts words in phase s, of which each has the scales of two keys if it has eight values.
        lasts = [(of_last_key, self.last_key)]
        ends: Value = of_last_key
        if self._lanes == 8:
            of_last_scales = Signal()
            lasts.append((of_last_scales, self.last_scales))
            ends = Mux(phase.s, of_last_scales, of_last_key)
        spacing, free = Signal(range(self._turns)), Signal(init=1)
        available = Signal(range(SoftmaxUnit.AHEAD + 1))
        accepted = self.data.valid & self.data.ready
        row_begins = accepted & ~phase.s & first_word
        # A row begins so that the softmax units have met all PEs with the row before when it ends, however late that one
        # did, and a V row with its first weight.
        m.d.comb += [
            self.data.ready.eq(phase.s | ((phase.k | phase.v) & (~first_word | (free & (phase.k | available.any()))))),
            self.scales.word.eq(key), self.scales.data.eq(self.data.payload), self.scales.en.eq(accepted & phase.s),
            self.scales.last.eq(ends),
        ]
        m.d.sync += [spacing.eq(Mux(spacing != 0, spacing - 1, 0)), free.eq(spacing <= 1)]
        with m.If(row_begins):
            m.d.sync += [spacing.eq(last_turn), free.eq(last_turn == 0)]
        # What is left of that when a row's words have come one after another.
        after_row = stage.reg(Mux(last_turn < words, 0, last_turn - words + 1)[:len(last_turn)], "after_row")
        with m.If(accepted & row_end):
            m.d.sync += [spacing.eq(after_row), free.eq(after_row == 0)]

        m.d.sync += [row_end.eq(w_index + 1 == words), *(flag.eq(key == last) for flag, last in lasts)]
        with m.If(accepted):
            m.d.sync += [w_index.eq(w_index + 1), first_word.eq(0), row_end.eq(w_index + 2 == words)]
            with m.If(phase.s | row_end):
                m.d.sync += [w_index.eq(0), first_word.eq(1), row_end.eq(0)]
                m.d.sync += [key.eq(key_next), key_next.eq(key_next + 1), *(flag.eq(key_next == last) for flag, last in lasts)]
                with m.If(ends):
                    m.d.sync += [key.eq(0), key_next.eq(1), *(flag.eq(last == 0) for flag, last in lasts)]

        # Keys whose row may begin: its first weight can be taken two cycles later and the others follow it, and the last one is
        # asked for before the shortest row ends.
        m.d.comb += self.v_row.eq(row_begins & phase.v)
        m.d.sync += available.eq(available + stage.delay(self.asked, self._lead - 1, "asked") - self.v_row)
        flags = self.flags
        m.d.comb += [
            flags.k.eq(accepted & phase.k), flags.v.eq(accepted & phase.v), flags.first_word.eq(first_word),
            flags.row_end.eq(row_end), flags.first_key.eq(key == 0), flags.w.eq(w_index),
            self.key.eq(key), self.done.eq(accepted & ends & (phase.s | row_end)),
        ]
        if self._own_rows:
            m.d.comb += self.last_row.eq(of_last_key & ~phase.s)
        return m
