# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Decode attention: one token's query heads over the KV cache, integer (TeLLMe v2 section 3.7; spec: attention)."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.decode_sequence import DecodeSequence
from hw.attention.multipliers import GroupBanks, OwnMultipliers, SharedMultipliers
from hw.attention.scan import EXPONENT_BITS, TOTAL_BITS, Scan
from hw.attention.scatter import LANES
from hw.attention.score_path import ScorePath
from hw.attention.sum_scale import StepwiseSumScale
from hw.attention.token_heads import TokenHeads
from hw.attention.value_sums import ValueSums
from hw.lib.layouts import Layouts
from hw.lib.types import KvScales
from tellme.spec.attention import SCORE_BITS

__all__ = ["DecodeAttention"]


class DecodeAttention(wiring.Component):
    """out[h] = sum_j softmax(q[h] . K[j])_j V[j] over keys 0 to ``position``, all integer except for scales.

    After ``begin`` (a pulse) ``heads`` brings the token's codes: q heads (kept here with their scales), k heads, v heads.  K
    and V heads are written to memory as they come, with one word of both scales after each v head.  After ``start`` (a pulse;
    the unit then waits for ``write.idle``) the unit works on one KV head after another, for all ``group`` query heads that
    share it:

    1. read the scales of keys 0 to position (a word each);
    2. read K: four int8 products a cycle and head; scores Q9.9 into score memory, with their maximum;
    3. scan: sum of exponentials and the largest exponent of exponential times V scale;
    4. scan: weights, 16 bits unsigned, in place of the scores;
    5. read V: four products a cycle and head, sums of widths.attention_sum_bits;
    6. the heads' sums leave on ``acc`` with their scale.

    K and V move at the memory's rate, a 32-bit word per cycle; each word is read once.  A scan takes group * (position + 1)
    cycles.  Scores never leave the chip.

    Ranges, from the widths of ``layouts``: head_dim a multiple of 8, 16 to widths.head_dim; group 1 to widths.group, at most
    head_dim / 4; KV heads up to widths.kv_heads; position up to widths.context - 1.  kv_stride and s_stride are words of a
    head's region.  Maps to 8 multipliers a query head of the group and seven others; a score EBR (1,024 keys) and a q EBR a
    query head.

    ``compact`` (for small parts): the query heads of a group take turns at four multipliers, which K and V share, and at one
    memory for each purpose.  K and V then move at 1 / group of the memory's rate.  The results are the same bits.

    Raises ValueError for a group that no head of 16 elements could serve.
    """

    def __init__(self, layouts: Layouts, *, compact: bool = False) -> None:
        self._layouts, widths = layouts, layouts.widths
        if not 1 <= widths.group <= 4:
            raise ValueError(f"the largest group is {widths.group}; 1 to 4 query heads share a pass")
        self._words = widths.head_dim // LANES
        self._banks = GroupBanks(widths.group, shared=compact)
        self._context = widths.context
        super().__init__({
            "heads": In(stream.Signature(layouts.head_codes)), "write": Out(layouts.write_port), "read": Out(layouts.read_port),
            "shape": In(layouts.model_shape), "control": In(layouts.attention_control), "acc": Out(stream.Signature(layouts.acc)),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks, shape, args = self._banks, self.shape, self.control.args
        layouts, widths = self._layouts, self._layouts.widths
        words, keys = Signal(range(self._words + 1)), Signal(widths.position_count_bits)
        row_offset = Signal(widths.word_address_bits)          # of the position's row in a head's region
        m.d.sync += [words.eq(shape.head_dim >> 2), keys.eq(args.position + 1),
                     row_offset.eq(args.position * (shape.head_dim >> 2))]

        # ------------------------------------------------------------------ parts
        m.submodules.token_heads = token_heads = TokenHeads(layouts)
        m.submodules.sequence = sequence = DecodeSequence(layouts, banks)
        m.submodules.multipliers = multipliers = SharedMultipliers(banks) if banks.shared else OwnMultipliers(banks)
        m.submodules.score_path = score_path = ScorePath(layouts, banks)
        m.submodules.scan = scan = Scan(groups=banks.groups, context=self._context)
        m.submodules.sums = sums = ValueSums(layouts, banks)
        m.submodules.scale = scale = StepwiseSumScale(
            total_bits=max(widths.exp_sum_bits, TOTAL_BITS), exponent_bits=EXPONENT_BITS)

        # ------------------------------------------------------------------ the token's heads, and words from memory
        wiring.connect(m, wiring.flipped(self.heads), token_heads.heads)
        wiring.connect(m, token_heads.write, wiring.flipped(self.write))
        wiring.connect(m, sequence.read, wiring.flipped(self.read))
        m.d.comb += [
            token_heads.shape.eq(shape), token_heads.args.eq(args), token_heads.begin.eq(self.control.begin),
            token_heads.words.eq(words), token_heads.row_offset.eq(row_offset),
            sequence.shape.eq(shape), sequence.args.eq(args), sequence.words.eq(words), sequence.keys.eq(keys),
            sequence.row_offset.eq(row_offset), sequence.start.eq(self.control.start), sequence.written.eq(self.write.idle),
            self.busy.eq(sequence.busy), multipliers.word.eq(self.read.data.payload), multipliers.of_v.eq(sequence.word.v),
        ]

        # ------------------------------------------------------------------ scales of keys: K's for scores, V's for scans
        m.submodules.kv_scales = kv_scales = memory.Memory(shape=KvScales, depth=self._context, init=[])
        s_write, s_read = kv_scales.write_port(), kv_scales.read_port()
        m.d.comb += [s_write.addr.eq(sequence.scales.key), s_write.data.eq(sequence.scales.data),
                     s_write.en.eq(sequence.scales.en),
                     s_read.addr.eq(Mux(sequence.scan_on, sequence.scan.key, score_path.scale_key))]

        # ------------------------------------------------------------------ scores, and in their place weights
        score, weight, shown = score_path.score, scan.weight, []
        for g in banks.numbers:
            m.submodules[f"scores{g}"] = scores = memory.Memory(shape=SCORE_BITS, depth=banks.heads * self._context, init=[])
            write, read = scores.write_port(), scores.read_port()
            m.d.comb += [
                write.addr.eq(Mux(weight.on, banks.address(weight.g, weight.key), banks.address(score.g, score.key))),
                write.data.eq(Mux(weight.on, weight.value, score.value)),
                write.en.eq((weight.on & banks.selects(g, weight.g)) | (score.on & banks.selects(g, score.g))),
                read.addr.eq(Mux(sequence.scan_on, banks.address(sequence.scan.g, sequence.scan.key),
                                 banks.address(sequence.turn, sequence.key))),
                multipliers.weights[g].eq(read.data[:16]),
            ]
            shown.append(read.data)
        m.d.comb += [
            score_path.q.eq(token_heads.q), score_path.q_scale.eq(token_heads.q_scale), score_path.shape.eq(shape),
            score_path.head.eq(sequence.head), score_path.prepare.eq(sequence.prepare),
            score_path.prepare_at.eq(sequence.prepare_at), score_path.q_addr.eq(sequence.q_addr),
            score_path.turn.eq(sequence.turn), score_path.word.eq(sequence.word), score_path.clear.eq(sequence.clear),
            score_path.k_scale.eq(s_read.data.k), score_path.top_g.eq(scan.top_g), score_path.products.eq(multipliers.k),
            multipliers.q.eq(score_path.q_words),
            scan.on.eq(sequence.scan_on), scan.at.eq(sequence.scan), scan.clear.eq(sequence.clear),
            scan.score.eq(banks.of(shown, scan.top_g)), scan.v_scale.eq(s_read.data.v), scan.top.eq(score_path.top),
        ]

        # ------------------------------------------------------------------ sums, and their scale
        m.d.comb += [
            sums.word.eq(sequence.word), sums.products.eq(multipliers.v), sums.draining.eq(sequence.draining),
            sums.out_g.eq(sequence.out_g), sums.out_word.eq(sequence.out_word), sums.out_lane.eq(sequence.out_lane),
            scan.stat_g.eq(sequence.out_g), scale.total.eq(scan.total), scale.exponent.eq(scan.exponent),
            scale.load.eq(sequence.load), scale.step.eq(sequence.step), sequence.normal.eq(scale.normal),
            self.acc.valid.eq(sequence.draining), self.acc.p.acc.eq(sums.sum), self.acc.p.scale.eq(scale.scale),
            self.acc.p.place.index.eq(sequence.out_index), sequence.taken.eq(self.acc.ready),
        ]
        return m
