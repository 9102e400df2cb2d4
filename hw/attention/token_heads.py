# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A token's heads on their way into decode attention: queries to the unit, keys and values to memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.scatter import LANES
from hw.lib.layouts import Layouts
from hw.lib.scales import pack16
from hw.lib.types import KvScales, ScaleLayout

__all__ = ["TokenHeads"]


class TokenHeads(wiring.Component):
    """Takes a token's heads after ``begin`` (a pulse): q heads, k heads, v heads, each head_dim codes, four codes a word.

    Query head kv * group + g leaves as words on ``q`` (g, and kv * words + word, words = head_dim / 4) and its scale on
    ``q_scale``.  A K or V head is written as one burst of ``words`` words at k_base (v_base) + kv * kv_stride + row_offset.
    After each V head one word of both scales (:class:`hw.lib.types.KvScales`) is written at s_base + kv * s_stride + position.

    Rate: a code per cycle for queries and, while ``write`` takes the words, for K and V; a burst's request takes one more
    cycle, a word of scales two.  ``words`` and ``row_offset`` = position * words must not change from ``begin`` until the last
    code.  Ranges: group 1 to widths.group, KV heads 1 to widths.kv_heads, words 4 to widths.head_dim / 4.
    """

    def __init__(self, layouts: Layouts) -> None:
        self._widths = w = layouts.widths
        self._words = max_words = w.head_dim // LANES
        g, kv = range(w.group), range(w.kv_heads)
        super().__init__({
            "heads": In(stream.Signature(layouts.head_codes)), "write": Out(layouts.write_port), "shape": In(layouts.model_shape),
            "args": In(layouts.attention_args), "begin": In(1), "words": In(range(max_words + 1)),
            "row_offset": In(w.word_address_bits),
            "q": Out(data.StructLayout({"en": 1, "g": g, "row": range(w.kv_heads * max_words), "data": 32})),
            "q_scale": Out(data.StructLayout({"en": 1, "g": g, "kv": kv, "scale": ScaleLayout})),
        })

    def elaborate(self, platform: object) -> Module:
        m, widths = Module(), self._widths
        shape, args, words, row_offset = self.shape, self.args, self.words, self.row_offset
        m.submodules.k_scales = k_scales = memory.Memory(shape=16, depth=widths.kv_heads, init=[])
        ks_write, ks_read = k_scales.write_port(), k_scales.read_port(domain="comb")

        request, out = self.write.req, self.write.data
        code, last = self.heads.p.code, self.heads.p.last
        lane, word_at, shift = Signal(2), Signal(range(self._words)), Signal(24)
        word = Cat(shift, code)
        kv, g, q_row = Signal(range(widths.kv_heads)), Signal(range(widths.group)), Signal.like(self.q.row)
        addr, s_addr = Signal(widths.word_address_bits), Signal(widths.word_address_bits)
        v_scale, own_scales = Signal(16), Signal(KvScales)
        q_phase, k_phase = Signal(), Signal()
        taken = self.heads.valid & self.heads.ready
        m.d.comb += [
            self.q.en.eq(taken & q_phase & (lane == 3)), self.q.g.eq(g), self.q.row.eq(q_row + word_at), self.q.data.eq(word),
            self.q_scale.en.eq(taken & q_phase & last), self.q_scale.g.eq(g), self.q_scale.kv.eq(kv),
            self.q_scale.scale.eq(self.heads.p.scale),
            ks_write.addr.eq(kv), ks_write.data.eq(pack16(self.heads.p.scale)), ks_write.en.eq(taken & k_phase & last),
            ks_read.addr.eq(kv), own_scales.k.eq(ks_read.data), own_scales.v.eq(v_scale),
        ]
        with m.If(taken):
            m.d.sync += [lane.eq(lane + 1), shift.eq(Cat(shift[8:], code))]
            with m.If(lane == 3):
                m.d.sync += word_at.eq(Mux(last, 0, word_at + 1))
        with m.FSM(name="heads_in"):
            with m.State("IDLE"):
                m.d.sync += [lane.eq(0), word_at.eq(0), kv.eq(0), g.eq(0), q_row.eq(0), k_phase.eq(1)]
                with m.If(self.begin):
                    m.next = "Q"
            with m.State("Q"):
                m.d.comb += [self.heads.ready.eq(1), q_phase.eq(1)]
                with m.If(taken & last):
                    m.d.sync += g.eq(g + 1)
                    with m.If(g + 1 == shape.group):
                        m.d.sync += [g.eq(0), kv.eq(kv + 1), q_row.eq(q_row + words)]
                        with m.If(kv + 1 == shape.kv_heads):
                            m.d.sync += [kv.eq(0), addr.eq(args.k_base + row_offset)]
                            m.next = "ROW"
            with m.State("ROW"):
                m.d.comb += [request.valid.eq(1), request.p.addr.eq(addr), request.p.len.eq(words)]
                with m.If(request.ready):
                    m.next = "CODES"
            with m.State("CODES"):
                # The fourth code of a word leaves with the word.
                m.d.comb += [out.payload.eq(word), out.valid.eq(self.heads.valid & (lane == 3)),
                             self.heads.ready.eq((lane != 3) | out.ready)]
                with m.If(taken & last):
                    m.d.sync += [v_scale.eq(pack16(self.heads.p.scale)), addr.eq(addr + shape.kv_stride)]
                    with m.If(~k_phase):
                        m.next = "SCALES"
                    with m.Elif(kv + 1 == shape.kv_heads):
                        m.d.sync += [kv.eq(0), addr.eq(args.v_base + row_offset), k_phase.eq(0),
                                     s_addr.eq(args.s_base + args.position)]
                        m.next = "ROW"
                    with m.Else():
                        m.d.sync += kv.eq(kv + 1)
                        m.next = "ROW"
            with m.State("SCALES"):
                m.d.comb += [request.valid.eq(1), request.p.addr.eq(s_addr), request.p.len.eq(1)]
                with m.If(request.ready):
                    m.next = "SCALES-WORD"
            with m.State("SCALES-WORD"):
                m.d.comb += [out.payload.eq(own_scales), out.valid.eq(1)]
                with m.If(out.ready):
                    m.d.sync += [kv.eq(kv + 1), s_addr.eq(s_addr + shape.s_stride)]
                    m.next = "ROW"
                    with m.If(kv + 1 == shape.kv_heads):
                        m.next = "IDLE"
        return m
