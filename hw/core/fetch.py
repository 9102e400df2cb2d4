# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The rows that a token needs: the RoPE row of its position, and its embedding row."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts
from tellme.spec.scale import SCALE16_BIAS
from tellme.spec.widths import bits_for

__all__ = ["RowFetch"]


class RowFetch(wiring.Component):
    """Reads cos/sin words and one int8 row with its scale, and streams them to the fused pipeline.

    After a start:

    1. ``rope_start`` comes with ``number``, the token's number in the chunk;
    2. ``head_dim / 2`` words from rope_base + position * head_dim / 2 leave on ``rope``;
    3. dim elements leave on ``acc`` with their places: acc is the int8 code, scale is the row's scale.

    The embedding row lies at embed_base + (token >> 2) * block_words + 2 + (token & 3) * row_words; its stored scale lies in the
    block's first two words.

    Flow control: full back-pressure on both sides.  Latency: 4 cycles of address arithmetic and three memory reads.  One element
    per cycle.  Maps to two 18x18 multipliers.
    """

    def __init__(self, layouts: Layouts):
        self._widths = layouts.widths
        super().__init__({
            "control": In(layouts.fetch_control), "shape": In(layouts.model_shape), "rope_rows": Out(layouts.read_port),
            "embedding_rows": Out(layouts.read_port), "rope": Out(stream.Signature(32)),
            "acc": Out(stream.Signature(layouts.acc)), "rope_start": Out(1), "number": Out(layouts.widths.token_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m, w = Module(), self._widths
        shape, args = self.shape, self.control.args
        token = Signal(w.token_id_bits)
        block = Signal(max(1, w.token_id_bits - 2))
        block_words = Signal(w.block_words_bits)
        pairs = Signal(range(w.head_dim // 2 + 1))
        position = Signal(w.position_bits)
        # Addresses lie in the memory, so that nothing above its addresses' bits is wanted.
        product = Signal(w.word_address_bits)
        rope_product = Signal(range((w.context - 1) * (w.head_dim // 2) + 1))
        row_offset = Signal(bits_for(3 * w.row_words))
        block_addr = Signal(w.word_address_bits)
        remaining, index, number = Signal(range(max(w.dim, w.head_dim // 2) + 1)), Signal(w.dim_bits), Signal(w.token_bits)
        word = Signal(32)
        bytes_left = Signal(3)
        sig = Signal(11)
        exp_field = Signal(6)
        # Operands, products and sums each have a register, because the multiplier blocks are used without their own.
        m.d.sync += [
            product.eq(block * block_words),
            rope_product.eq(position * pairs),
            row_offset.eq(Mux(token[0], shape.row_words, 0) + Mux(token[1], shape.row_words << 1, 0)),
        ]
        # Both ports show one request; which of them asks is what differs.
        words, request = self.embedding_rows.data, self.embedding_rows.req
        rope_words, rope_request = self.rope_rows.data, self.rope_rows.req
        m.d.comb += rope_request.payload.eq(request.payload)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(self.control.start):
                    m.d.sync += [token.eq(args.token), block.eq(args.token >> 2), block_words.eq(shape.block_words),
                                 position.eq(args.position), pairs.eq(shape.head_dim >> 1), number.eq(args.number),
                                 index.eq(0)]
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += [block_addr.eq(shape.embed_base + product),
                             request.p.addr.eq(shape.rope_base + rope_product),
                             request.p.len.eq(pairs), remaining.eq(pairs), rope_request.valid.eq(1)]
                m.next = "ROPE"
            with m.State("ROPE"):
                with m.If(rope_request.ready):
                    m.d.sync += rope_request.valid.eq(0)
                m.d.comb += [self.rope.payload.eq(rope_words.payload), self.rope.valid.eq(rope_words.valid),
                             rope_words.ready.eq(self.rope.ready)]
                with m.If(self.rope.valid & self.rope.ready):
                    m.d.sync += remaining.eq(remaining - 1)
                    with m.If(remaining == 1):
                        m.d.sync += [request.p.addr.eq(block_addr + token[1]), request.p.len.eq(1),
                                     request.valid.eq(1)]
                        m.next = "SCALE"
            with m.State("SCALE"):
                with m.If(request.ready):
                    m.d.sync += request.valid.eq(0)
                m.d.comb += words.ready.eq(1)
                stored = words.payload.word_select(token[0], 16)
                with m.If(words.valid):
                    m.d.sync += [sig.eq(Mux(stored == 0, 0, Cat(stored[:10], Const(1, 1)))), exp_field.eq(stored[10:])]
                    m.d.sync += [request.p.addr.eq(block_addr + 2 + row_offset), request.p.len.eq(shape.dim >> 2),
                                 request.valid.eq(1), remaining.eq(shape.dim), bytes_left.eq(0)]
                    m.next = "ROW"
            with m.State("ROW"):
                with m.If(request.ready):
                    m.d.sync += request.valid.eq(0)
                take = Signal()
                m.d.comb += [
                    self.acc.valid.eq(bytes_left != 0),
                    take.eq(self.acc.valid & self.acc.ready),
                    words.ready.eq((bytes_left == 0) | (take & (bytes_left == 1))),
                ]
                with m.If(take):
                    m.d.sync += [word.eq(word >> 8), bytes_left.eq(bytes_left - 1), remaining.eq(remaining - 1),
                                 index.eq(index + 1)]
                with m.If(words.valid & words.ready):
                    m.d.sync += [word.eq(words.payload), bytes_left.eq(4)]
                with m.If(take & (remaining == 1)):
                    m.next = "IDLE"
            m.d.comb += [self.control.busy.eq(~fsm.ongoing("IDLE")), self.number.eq(args.number),
                         self.rope_start.eq(self.control.start)]
        m.d.comb += [
            self.acc.p.acc.eq(word[:8].as_signed()),
            self.acc.p.scale.sig.eq(sig),
            self.acc.p.scale.exp.eq(Mux(sig == 0, 0, exp_field - SCALE16_BIAS)),
            self.acc.p.place.token.eq(number), self.acc.p.place.index.eq(index),
        ]
        return m
