# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The words of a chunk's heads on their way in: queries to the PEs' memories, K and V rows to the cache."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.own_rows import own_row_word
from hw.lib.layouts import Layouts
from hw.lib.scales import SCALE_MUL_STAGES, pack16, scale_mul_stages
from hw.lib.stages import Stages
from hw.lib.types import KvScales, ScaleLayout

__all__ = ["LANES", "MAX_GROUP", "ChunkHeads", "small_product"]

#: int8 values of a word of 32 bits.
LANES = 4
#: Query heads that share a KV head.
MAX_GROUP = 8


def small_product(a: Value, b: Value) -> Value:
    """a * b of unsigned values in LUTs: one addend for each bit of ``b``."""
    b = Value.cast(b)
    terms = [Mux(b[i], a << i if i else a, 0) for i in range(len(b))]
    return sum(terms[1:], start=terms[0])


class ChunkHeads(wiring.Component):
    """Sorts the heads of a chunk's ``chunk`` tokens, in any order of heads and tokens; a head's words stay together.

    Pairs (token, query head) of a KV head are numbered from the last token to the first, heads of a token in order; pair
    r belongs to PE r % pes, in slot r // pes, whose row is kv head * slots + slot.  A query head's words go to ``q`` (with
    word's number and row), its scale times c_att to ``q_scale``.  Words are those of 32 bits.

    A K or V head of token t is written as one burst of head_dim / 4 words at k_base (v_base) + kv head * kv_stride +
    (position + t) * head_dim / 4.  When all 2 * chunk heads of a KV head are there, its scales are written as one burst of
    ``chunk`` words (K's low, V's high) at s_base + kv head * s_stride + position.  Nothing else is written.

    In a core with several slots (``layouts.runs``) the tokens are those of a pass, and (position + t) is the place of token t's
    rows: ``row_at`` is the place of ``token`` times head_dim / 4.  Scales are written as one burst for each run, of the
    ``left`` tokens from ``first`` on, at s_base + kv head * s_stride + ``place``: both of token ``first``
    (:class:`hw.attention.row_places.RowPlaces`).

    With ``own_rows`` each word of a K or V head leaves on ``own`` too, the cycle after the word is written.

    ``begin`` (a pulse) discards everything that came before.  ``idle`` is high when nothing is under way and no word waits.
    Rate: a word per cycle; a query head takes QUERY_CYCLES + head_dim / 4 cycles, a K or V head KV_CYCLES + head_dim / 4, a KV
    head's scales chunk + SCALES_CYCLES, and RUN_CYCLES more for each run but the first.  The arguments that this unit reads
    must not change from ``begin`` until ``idle``.
    """

    #: Until a head's number tells where it belongs; until its burst is asked for; beside a KV head's scales.
    QUERY_CYCLES = 3
    KV_CYCLES = 5
    SCALES_CYCLES = 4
    #: Beside the scales of another run.
    RUN_CYCLES = 2

    def __init__(self, layouts: Layouts, *, pes: int, words: int, rows: int, own_rows: bool = False) -> None:
        self._own_rows = own_rows
        self._runs = layouts.runs
        self._widths = widths = layouts.widths
        tokens = widths.chunk
        self._pes = pes
        self._tokens = tokens
        self._words = words
        self._rows = rows
        super().__init__({
            "heads": In(stream.Signature(layouts.head_words)), "write": Out(layouts.write_port), "begin": In(1), "idle": Out(1),
            "shape": In(layouts.model_shape), "args": In(layouts.attention_args), "words": In(range(words + 1)),
            "slots": In(range(tokens * widths.group // pes + 2)),
            "q": Out(data.StructLayout({"en": 1, "pe": range(pes), "row": range(rows), "word": range(words), "data": 32})),
            "q_scale": Out(data.StructLayout({"en": 1, "pe": range(pes), "row": range(rows), "scale": ScaleLayout})),
            **({"own": Out(own_row_word(widths.kv_heads, words))} if own_rows else {}),
            **({"token": Out(widths.token_bits), "row_at": In(widths.word_address_bits), "first": Out(widths.token_bits),
                "place": In(widths.row_place_bits), "left": In(widths.token_count_bits)} if layouts.runs else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        token_bits = (self._tokens - 1).bit_length()
        kv_heads, address_bits = self._widths.kv_heads, self._widths.word_address_bits
        shape, args = self.shape, self.args
        chunk = args.chunk[:self._tokens.bit_length()]

        stage = Stages(m)

        # ------------------------------------------------------------------ whose head: there when its first word has waited
        head, token = Signal(self._widths.attention_head_bits), Signal(self._widths.token_bits)
        sorting = Signal()
        with m.If(self.heads.valid & sorting):
            m.d.sync += [head.eq(self.heads.p.head), token.eq(self.heads.p.token)]
        v_first = stage.reg(shape.heads + shape.kv_heads, "v_first")
        of_k, of_v = (head - shape.heads)[:len(head)], (head - v_first)[:len(head)]
        is_query, is_v = head < shape.heads, head >= v_first
        q_kv = Signal(range(max(kv_heads, 2)))
        with m.Switch(shape.group):
            for group in range(2, self._widths.group + 1):
                with m.Case(group):
                    m.d.comb += q_kv.eq(Array(h // group for h in range(self._widths.heads))[head] if group & group - 1
                                        else head >> group.bit_length() - 1)
            with m.Default():
                m.d.comb += q_kv.eq(head)
        kv2 = stage.reg(Mux(is_query, q_kv, Mux(is_v, of_v, of_k))[:len(q_kv)], "kv2")
        query, of_v_head = stage.reg(is_query, "query"), stage.reg(is_v, "of_v_head")
        head2 = stage.reg(head, "head2")
        back = (stage.reg(chunk - 1, "last_token") - token)[:len(token)]
        before2 = stage.reg(small_product(back, shape.group), "before2")
        pair3 = stage.reg((before2 + head2 - small_product(kv2, shape.group))[:7], "pair3")
        first_row3 = stage.reg(small_product(self.slots, kv2), "first_row3")
        pe_bits = (self._pes - 1).bit_length()
        row = Signal(range(self._rows))
        m.d.comb += row.eq(first_row3 + (pair3 >> pe_bits))
        pe4, row4 = stage.reg(pair3[:pe_bits], "pe4"), stage.reg(row, "row4")
        # Addresses: of the chunk in KV head 0, then the token's row and the KV head's region.
        if self._runs:
            m.d.comb += self.token.eq(token)
            k_chunk, v_chunk = args.k_base, args.v_base
            s_chunk = stage.reg((args.s_base + self.place)[:address_bits], "s_run")
            row_at2 = stage.reg(self.row_at, "row_at2")
        else:
            chunk_at = stage.reg(args.position * self.words, "chunk_at")
            k_chunk, v_chunk, s_chunk = (stage.reg((base + at)[:address_bits], name) for base, at, name in (
                (args.k_base, chunk_at, "k_chunk"), (args.v_base, chunk_at, "v_chunk"), (args.s_base, args.position, "s_chunk")))
            row_at2 = stage.reg(small_product(self.words, token), "row_at2")
        row_at3 = stage.reg((Mux(of_v_head, v_chunk, k_chunk) + row_at2)[:address_bits], "row_at3")
        kv_offset3, s_offset3 = stage.reg(shape.kv_stride * kv2, "kv_offset3"), stage.reg(shape.s_stride * kv2, "s_offset3")
        addr4 = stage.reg((row_at3 + kv_offset3)[:address_bits], "addr4")
        s_addr4 = stage.reg((s_chunk + s_offset3)[:address_bits], "s_addr4")

        # ------------------------------------------------------------------ words
        word, last = self.heads.p.codes, self.heads.p.last
        waited, word_at = Signal(range(self.QUERY_CYCLES + 1)), Signal(range(self._words))
        # What was worked out of the head's number is right; its row is from the next cycle on.
        known, asked = Signal(), Signal()
        m.d.comb += known.eq(waited == self.QUERY_CYCLES)
        # A head is known, and K's and V's rows are asked for, in the state WORDS alone.
        due = self.heads.valid & known
        m.d.comb += self.heads.ready.eq(known & (query | (asked & self.write.data.ready)))
        taken = self.heads.valid & self.heads.ready
        with m.If(self.heads.valid & sorting & ~known):
            m.d.sync += waited.eq(waited + 1)
        with m.If(taken):
            m.d.sync += word_at.eq(word_at + 1)
            with m.If(last):
                m.d.sync += [word_at.eq(0), waited.eq(0)]
        m.d.comb += [self.q.en.eq(stage.reg(due & query, "q_en")), self.q.pe.eq(pe4), self.q.row.eq(row4),
                     self.q.word.eq(stage.reg(word_at, "q_word")), self.q.data.eq(stage.reg(word, "q_data"))]

        # ------------------------------------------------------------------ scales
        scaling = 1 + SCALE_MUL_STAGES
        factor = Signal(ScaleLayout)
        m.d.sync += factor.eq(self.heads.p.scale)
        m.d.comb += [
            self.q_scale.scale.eq(scale_mul_stages(stage, factor, shape.c_att)),
            self.q_scale.en.eq(stage.delay(due & last & query, scaling, "scale_en")),
            self.q_scale.pe.eq(stage.delay(pe4, scaling, "scale_pe")),
            self.q_scale.row.eq(stage.delay(row4, scaling, "scale_row")),
        ]
        m.submodules.k_scales = k_scales = memory.Memory(shape=16, depth=kv_heads << token_bits, init=[])
        m.submodules.v_scales = v_scales = memory.Memory(shape=16, depth=kv_heads << token_bits, init=[])
        # A cycle later than the head is counted; kv2 and of_v_head are still its own then.
        stored, stored_token = stage.reg(pack16(factor), "stored"), stage.reg(token[:token_bits], "stored_token")
        kv_taken = due & ~query & asked & self.write.data.ready
        kv_last = kv_taken & last
        if self._own_rows:
            m.d.comb += [self.own.en.eq(stage.reg(kv_taken, "own_en")), self.own.v.eq(of_v_head), self.own.head.eq(kv2),
                         self.own.word.eq(self.q.word), self.own.data.eq(self.q.data)]
        stored_kv = stage.reg(kv_last, "stored_kv")
        storing = stage.reg(stored_kv, "storing")
        scale_token = Signal(range(max(self._tokens, 2)))
        read_data = []
        for stored_scales, mine in ((k_scales, ~of_v_head), (v_scales, of_v_head)):
            write, read = stored_scales.write_port(), stored_scales.read_port()
            m.d.comb += [write.addr.eq(Cat(stored_token, kv2)), write.data.eq(stored), write.en.eq(storing & mine),
                         read.addr.eq(Cat(scale_token[:token_bits], kv2))]
            read_data.append(read.data)

        # ------------------------------------------------------------------ how many heads of each KV head are there
        m.submodules.counts = counts = memory.Memory(shape=6, depth=kv_heads, init=[])
        count_write, count_read = counts.write_port(), counts.read_port(domain="comb")
        begun = Signal(kv_heads)
        here = stage.reg((Mux(begun.bit_select(kv2, 1), count_read.data, 0) + 1)[:6], "here")
        m.d.comb += [count_read.addr.eq(kv2), count_write.addr.eq(kv2), count_write.data.eq(here),
                     count_write.en.eq(stored_kv)]
        all_here = stage.reg(here == chunk << 1, "all_here")
        with m.If(stored_kv):
            m.d.sync += begun.bit_select(kv2, 1).eq(1)

        # ------------------------------------------------------------------ sequence
        request, out = self.write.req, self.write.data
        sent = Signal(range(self._tokens + 1))
        scales, scales_valid, load = Signal(KvScales), Signal(), Signal()
        # Of a burst of scales: how many there are, and the number of scales sent when it ends.
        burst, burst_ends = chunk, chunk
        if self._runs:
            # The next run's first token, known when a run is asked for: the first two cycles of a run's words are enough to find
            # the place of the next one's.
            run_ends = Signal(range(self._tokens + 1))
            m.d.comb += self.first.eq(run_ends)
            burst, burst_ends = stage.reg(self.left, "burst"), run_ends
        with m.FSM(name="heads_in"):
            with m.State("WORDS"):
                with m.If(due & ~query & ~asked):
                    m.next = "ROW"
                m.d.comb += [out.payload.eq(word), out.valid.eq(due & ~query & asked)]
                with m.If(kv_last):
                    m.d.sync += [asked.eq(0), sent.eq(0)]
                    with m.If(all_here):
                        m.next = "SCALES"
                m.d.comb += [sorting.eq(1), self.idle.eq((waited == 0) & ~self.heads.valid)]
            with m.State("ROW"):
                m.d.comb += [request.valid.eq(1), request.p.addr.eq(addr4), request.p.len.eq(self.words)]
                with m.If(request.ready):
                    m.d.sync += asked.eq(1)
                    m.next = "WORDS"
            with m.State("SCALES"):
                # Not before the last scale is stored.
                m.d.comb += [request.valid.eq(~(stored_kv | storing)), request.p.addr.eq(s_addr4), request.p.len.eq(burst)]
                with m.If(request.valid & request.ready):
                    m.next = "SCALES-WORDS"
                    if self._runs:
                        m.d.sync += run_ends.eq(run_ends + burst)
            with m.State("SCALES-WORDS"):
                m.d.comb += [out.payload.eq(scales), out.valid.eq(scales_valid), load.eq(~scales_valid | out.ready)]
                with m.If(load):
                    m.d.sync += [scales.k.eq(read_data[0]), scales.v.eq(read_data[1]), scales_valid.eq(1), sent.eq(sent + 1)]
                    with m.If(sent == burst_ends):
                        m.d.sync += scales_valid.eq(0)
                        m.next = "WORDS"
                        if self._runs:
                            m.d.sync += sent.eq(sent)
                            with m.If(sent == chunk):
                                m.d.sync += run_ends.eq(0)
                            with m.Else():
                                m.next = "SCALES"
        # The next word is read while one goes to the register that it leaves from.
        m.d.comb += scale_token.eq(sent + load)
        with m.If(self.begin):
            m.d.sync += [waited.eq(0), word_at.eq(0), asked.eq(0), begun.eq(0)]
            if self._runs:
                m.d.sync += run_ends.eq(0)
        return m
