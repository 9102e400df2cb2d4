# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scores of decode attention: dots of K rows with a group's query heads, their scores, and the largest of each."""

from amaranth.hdl import Array, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.multipliers import GroupBanks
from hw.attention.scatter import LANES
from hw.attention.softmax import SCORE_STAGES, score_stages
from hw.lib.layouts import Layouts
from hw.lib.scales import SCALE_MUL_STAGES, scale_mul_stages, unpack16
from hw.lib.shifts import round_shift
from hw.lib.stages import Stages
from hw.lib.types import ScaleLayout
from tellme.spec.attention import SCORE_BITS, SCORE_FRAC
from tellme.spec.widths import Widths

__all__ = ["ScorePath", "row_words"]


def row_words(widths: Widths) -> data.StructLayout:
    """A word of a K or V row, one cycle after it came: of which, of which key, its number ``w``, the row's first or last, of the
    first
    key, for head ``g``, whose turn is the group's last."""
    return data.StructLayout({"k": 1, "v": 1, "key": widths.position_bits, "w": range(widths.head_dim // LANES), "first_word": 1,
                              "row_end": 1, "first_key": 1, "g": range(widths.group), "g_last": 1})


class ScorePath(wiring.Component):
    """score[g][key] = score(q[g] . k[key], q scale[g] * c_att * k scale[key]) (spec: attention), in Q9.9, and their maximum.

    Holds the token's query heads: ``q`` and ``q_scale`` write them (:class:`hw.attention.token_heads.TokenHeads`).  ``q_addr``
    asks for their word q_row + w of the KV head in work for head ``turn``; it is on ``q_words`` in the next cycle, with ``word``
    (:func:`row_words`), and its products are on ``products`` two cycles after ``word``.

    ``prepare`` (for the cycles prepare_at = 0 to groups - 1) works out q scale * c_att of KV head ``head``'s queries, before K.
     The heads' dots of a row are there six cycles after its last word; their scores follow one a cycle, on ``score`` (``on``,
    with head and key) 1 + SCALE_MUL_STAGES + SCORE_STAGES cycles later, so that a row should have as many words as the group
    heads.  In the cycle in which ``scale_key`` shows a key, its stored scale is asked for; it is on ``k_scale`` in the next one.

    ``clear`` sets the maxima to the lowest score.  ``top`` is that of head ``top_g``.
    """

    def __init__(self, layouts: Layouts, banks: GroupBanks) -> None:
        self._banks, self._widths = banks, layouts.widths
        w, max_words = layouts.widths, layouts.widths.head_dim // LANES
        groups, n, self._words = banks.groups, len(banks.numbers), max_words
        g, row, kv = range(groups), range(w.kv_heads * max_words), range(w.kv_heads)
        super().__init__({
            "q": In(data.StructLayout({"en": 1, "g": g, "row": row, "data": 32})),
            "q_scale": In(data.StructLayout({"en": 1, "g": g, "kv": kv, "scale": ScaleLayout})),
            "shape": In(layouts.model_shape), "head": In(kv), "prepare": In(1), "prepare_at": In(range(groups + 1)),
            "q_addr": In(row), "turn": In(g), "q_words": Out(data.ArrayLayout(32, n)),
            "word": In(row_words(w)),
            "products": In(data.ArrayLayout(data.ArrayLayout(signed(16), LANES), n)),
            "scale_key": Out(w.position_bits), "k_scale": In(16), "clear": In(1),
            "score": Out(data.StructLayout({"on": 1, "g": range(groups + 1), "key": w.position_bits,
                                          "value": signed(SCORE_BITS)})),
            "top_g": In(range(groups + 1)), "top": Out(signed(SCORE_BITS)),
        })

    def _dots(self, m: Module, stage: Stages) -> list[Signal]:
        """Query memories and dots; a dot is whole one cycle after its row's last total."""
        banks, word = self._banks, self.word
        fresh4, valid4 = stage.delay(word.first_word, 3, "fresh"), stage.delay(word.k, 3, "valid")
        g4 = banks.delay(stage, word.g, 3, "g_now")
        dots = [Signal(signed(self._widths.dot_bits), name=f"dot{g}") for g in range(banks.groups)]
        for g in banks.numbers:
            m.submodules[f"q{g}"] = q = memory.Memory(shape=32, depth=banks.heads * self._widths.kv_heads * self._words, init=[])
            write, read = q.write_port(), q.read_port()
            m.d.comb += [write.addr.eq(banks.address(self.q.g, self.q.row)), write.data.eq(self.q.data),
                         write.en.eq(self.q.en & banks.selects(g, self.q.g)),
                         read.addr.eq(banks.address(self.turn, self.q_addr)), self.q_words[g].eq(read.data)]
            products = [self.products[g][i] for i in range(LANES)]
            total = stage.reg(sum(products[1:], start=products[0]), f"k_total{g}")
            for h in banks.members(g):
                with m.If(valid4 & (g4 == h) if banks.shared else valid4):
                    m.d.sync += dots[h].eq(Mux(fresh4, 0, dots[h]) + total)
        return dots

    def _score(self, stage: Stages, dot: Value, ds: data.View) -> Value:
        """The score SCORE_STAGES later; where the heads take turns, a shifter that is small and not as fast."""
        if not self._banks.shared:
            return score_stages(stage, dot, ds)
        product, down = stage.reg(dot * ds.sig, "score_product"), stage.reg(-(ds.exp + SCORE_FRAC), "score_down")
        return stage.reg(round_shift(stage, product, down, bits=SCORE_BITS), "score5")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        banks, groups, word = self._banks, self._banks.groups, self.word
        dots = self._dots(m, stage)

        # ------------------------------------------------------------------ one head a cycle
        dot_done = stage.delay(word.k & word.row_end & word.g_last, 4, "dot_done")
        dot_key = stage.delay(word.key, 4, "dot_key")
        held = [Signal(signed(self._widths.dot_bits), name=f"held{g}") for g in range(groups)]
        held_key = Signal(self._widths.position_bits)
        turn, turning = Signal(range(groups + 1)), Signal()
        with m.If(dot_done):
            m.d.sync += [h.eq(d) for h, d in zip(held, dots, strict=True)]
            m.d.sync += [held_key.eq(dot_key), turn.eq(0), turning.eq(1)]
        with m.Elif(turning):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn + 1 == self.shape.group):
                m.d.sync += turning.eq(0)
        # The key's scales are read while it is held: address one cycle ahead.
        m.d.comb += self.scale_key.eq(Mux(dot_done, dot_key, held_key))

        # ------------------------------------------------------------------ scales
        q_scales = []
        for g in banks.numbers:
            m.submodules[f"q_scale{g}"] = scales = memory.Memory(shape=ScaleLayout, init=[],
                                                                    depth=banks.heads * self._widths.kv_heads)
            write, read = scales.write_port(), scales.read_port(domain="comb")
            m.d.comb += [write.addr.eq(banks.address(self.q_scale.g, self.q_scale.kv)), write.data.eq(self.q_scale.scale),
                         write.en.eq(self.q_scale.en & banks.selects(g, self.q_scale.g)),
                         read.addr.eq(banks.address(self.prepare_at, self.head))]
            q_scales.append(read.data.as_value())
        k_scale, head_scales = Signal(ScaleLayout), [Signal(ScaleLayout, name=f"head_scale{g}") for g in range(groups)]
        k_sig, k_exp = unpack16(self.k_scale)
        factor_a, factor_b, held_a, held_b = (Signal(ScaleLayout, name=name) for name in ("factor_a", "factor_b", "held_a",
                                                                                        "held_b"))
        m.d.comb += [
            k_scale.sig.eq(k_sig), k_scale.exp.eq(k_exp),
            # q scale times c_att comes through the same product before K.
            factor_a.eq(Mux(self.prepare, banks.of(q_scales, self.prepare_at), Array([s.as_value() for s in head_scales])[turn])),
            factor_b.eq(Mux(self.prepare, self.shape.c_att.as_value(), k_scale.as_value())),
        ]
        m.d.sync += [held_a.eq(factor_a), held_b.eq(factor_b)]
        ds = scale_mul_stages(stage, held_a, held_b)
        scaling = 1 + SCALE_MUL_STAGES
        prepared, prepared_at = (stage.delay(v, scaling, n) for v, n in ((self.prepare, "prepared"),
                                                                       (self.prepare_at, "prepared_at")))
        for g in range(groups):
            with m.If(prepared & (prepared_at == g)):
                m.d.sync += head_scales[g].eq(ds)

        # ------------------------------------------------------------------ scores, and the largest of each head
        # Stages are counted from the one in which ds is there.
        score5 = self._score(stage, stage.delay(Array(held)[turn], scaling, "score_dot"), ds)
        on5, g5, key5 = (stage.delay(v, scaling + SCORE_STAGES, n) for v, n in (
            (turning, "score_on"), (turn, "score_g"), (held_key, "score_key")))
        m.d.comb += [self.score.on.eq(on5), self.score.g.eq(g5), self.score.key.eq(key5), self.score.value.eq(score5)]
        tops = [Signal(signed(SCORE_BITS), name=f"top{g}") for g in range(groups)]
        for g in range(groups):
            with m.If(self.clear):
                m.d.sync += tops[g].eq(-(1 << SCORE_BITS - 1))
            with m.Elif(on5 & (g5 == g) & (score5 > tops[g])):
                m.d.sync += tops[g].eq(score5)
        m.d.comb += self.top.eq(Array(tops)[self.top_g])
        return m
