# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Attention of a chunk of tokens, or of one: query PEs that share each K and V row (TeLLMe v2 section 3.6; spec: attention)."""

from amaranth.hdl import Array, Const, Module, Mux, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.own_rows import OwnRows
from hw.attention.pe_column import PeColumn
from hw.attention.row_places import RowPlaces
from hw.attention.scatter import LANES, MAX_GROUP, ChunkHeads, small_product
from hw.attention.slot_sequence import SlotSequence
from hw.attention.softmax import SoftmaxUnit
from hw.attention.sum_scale import SumScale
from hw.attention.sum_walk import SumOut, SumWalk
from hw.attention.turns import SoftmaxTurns
from hw.attention.word_reader import WordReader
from hw.lib.layouts import Layouts
from hw.lib.stages import Stages
from tellme.spec.tables import exp2_rom
from tellme.spec.widths import MAX_CHUNK, MIN_HEAD_DIM

__all__ = ["PrefillAttention"]


class PrefillAttention(wiring.Component):
    """out[t, h] = sum_j softmax(q[t, h] . K[j])_j V[j] over keys 0 to position + t, all integer except for scales.

    After ``begin`` (a pulse) ``heads`` brings the codes of the ``chunk`` tokens at positions position to position + chunk - 1,
    heads and tokens in any order; ChunkHeads says what is kept and what is written.  After ``start`` (a pulse; the unit then
    waits for ``write.idle``) the unit works on one KV head after another.

    Slots: The chunk * group pairs (token, query head) of a KV head are taken in slots of ``pes``, one pair per PE, from
    the last token to the first, a token's heads in order.  So a slot that is not full gets the first tokens, which see the
    fewest keys. Slot s sees

        keys(s) = position + chunk - (s * pes) // group

    keys; other keys are neither read nor computed.  A KV head's scales are read once.  Each slot reads each of its K rows and V
    rows once, for all its PEs.  A word has widths.attention_bits bits, so ``lanes`` values, 4 or 8; a row has row_words =
    head_dim / lanes words.  Words read for a KV head:

        scales + sum over slots of 2 * (keys(s) - own) * row_words

    where own is 1 for a chunk of one token on a memory of 32-bit words, whose K and V rows the unit keeps (OwnRows), else 0, and
    scales is position + chunk words of 32 bits, or the words of 64 bits in which these words lie.

    Walk: Each word and its flags walk from PE to PE, ``exp_units`` PEs per cycle, so that every softmax unit meets its PEs
    one after another.  Scores leave and weights reach the PEs just in time, and are stored nowhere else.  A PE does not see
    keys after its own token: such a key counts in neither maximum, sum nor output.

    Cycles when memory never waits.  turns(s) is the number of PEs in work over exp_units, rounded up, and row(s) =
    max(row_words, turns(s)).  A KV head takes

        scales + sum over slots of (2 * keys(s) * row(s) + slot_cycles)

    from its first word on; if turns(s) > row_words, the last row of a pass takes less.  So K and V move a word per cycle if
    row_words >= pes / exp_units; scores and softmax take no cycles of their own.  (A V row takes at least (lead + 1) /
    SoftmaxUnit.AHEAD cycles, because weights are asked for lead = max(SoftmaxUnit.V_LATENCY - 2, pes / exp_units + 1 - 16 /
    lanes) cycles ahead: 8 / 3 in a unit of up to eight turns, else up to 16 / 3.)  A slot's sums leave after drain_cycles, one
    per cycle if ``acc`` never waits, while the next slot's scales and K are read.  The next slot's V begins not earlier than
    refill_cycles after the last sum.

    Runs: In a core with several slots of sequences (``layouts.runs``) ``chunk`` is the number of tokens of a pass, which may be
    of several sequences.  A run is ``run_tokens`` of them, at consecutive positions of one sequence from ``position`` on;
    ``after`` tokens of the pass come after them.  Before a pass's first ``begin`` ``control.row_place`` says of each token where
    its rows lie and how many tokens of its run are left (RowPlaces).  It stands for all layers.  After ``begin`` and the heads
    ``start`` comes once for each run, in any order, while ``control.busy`` is low.

    Pairs are numbered over the whole pass, so a run has the pairs from first = after * group to last = (after + run_tokens) *
    group - 1.  It takes the slots of PEs that have one of them, s = first // pes to last // pes.  Such a slot sees

        keys(s) = position + run_tokens - max(0, s * pes - first) // group

    keys.  K, V and scales are read from the place ``slot_place`` of the sequence's position 0 on.  The formulas of words and
    cycles are those above, with the run's slots, position + run_tokens words of scales, and in turns(s) all PEs up to the last
    one of the run.  PEs of other runs work along on what they have, and their sums stay where they are.  So a run that is a whole
    pass takes a chunk's cycles; a token's own rows are kept only if it is the only one of its pass.

    ``busy`` is high from the cycle after ``start`` until the run's last sum has left.  ``chunk`` and the bases stand still from
    ``begin`` until the layer's last run has ended, the rest of ``args`` from ARGS_CYCLES before ``start`` until ``busy`` falls.
    The last row_place comes in the cycle before ``begin`` at the latest, the first one when the pass before has ended.

    Ranges, from the widths of ``layouts``: chunk 1 to widths.chunk; head_dim a multiple of 8, 16 to widths.head_dim; group 1 to
    widths.group; KV heads up to widths.kv_heads, query heads up to widths.heads; position + chunk (of a run, run_tokens) up to
    widths.context; run_tokens 1 to chunk, after 0 to chunk - run_tokens, slot_place up to (widths.slots - 1) * widths.context.
    kv_stride and s_stride are 32-bit words of a head's region.  Caches of K and V begin at whole words, and kv_stride is whole
    words; s_base and s_stride may be any.  Rows and scales are written in words of 32 bits.

    Maps to ``lanes`` multipliers (8x17) and an EBR (512 words of q) for each four of them a PE, sums in LUT RAM; four multipliers
    and score EBR for pes / exp_units * widths.context scores of 18 bits a softmax unit; an EBR of own rows (512 words).  Raises
    ValueError for parameters out of range.
    """

    #: Places for sums that are on their way from their PE to ``acc``.
    LANDING = 32
    #: Cycles for which a run's arguments must stand before its ``start``.
    ARGS_CYCLES = 2

    def __init__(self, layouts: Layouts, *, pes: int, exp_units: int = 1) -> None:
        self._layouts, widths = layouts, layouts.widths
        tokens = widths.chunk
        if not 1 <= widths.group <= MAX_GROUP:
            raise ValueError(f"the largest group is {widths.group}; 1 to {MAX_GROUP} query heads share a KV head")
        if not 1 <= tokens <= MAX_CHUNK:
            raise ValueError(f"tokens is {tokens}; a chunk has 1 to {MAX_CHUNK}")
        if pes not in (4, 8, 16):
            raise ValueError(f"pes is {pes}; there are 4, 8 or 16")
        if exp_units not in (1, 2):
            raise ValueError(f"exp_units is {exp_units}; there are 1 or 2")
        if widths.attention_bits not in (32, 64):
            raise ValueError(f"attention_bits is {widths.attention_bits}; K and V come in words of 32 or 64 bits")
        self._lanes = lanes = widths.attention_bits // 8
        self._pes = pes
        self._runs = layouts.runs
        self._tokens = tokens
        self._units = exp_units
        self._turns = pes // exp_units
        self._words = 1 << (widths.head_dim // lanes - 1).bit_length()
        self._context = widths.context
        # From the first weight asked for to the row that it serves: until it is there, and until the key's last one is asked for
        # before the shortest row ends.
        self._lead = max(SoftmaxUnit.V_LATENCY - 2, self._turns + 1 - MIN_HEAD_DIM // lanes)
        #: Cycles of a slot in which no word moves: from the last K word to the first V word, and two before the next slot.
        self.slot_cycles = 7 + SoftmaxUnit.K_LATENCY + self._lead
        #: From a slot's last V word to its first sum: the sum's scale, or the way of the last word to the last PE.
        self.drain_cycles = max(SumScale.LATENCY + 6, 2 * self._turns + 7)
        #: From a slot's last sum to the next slot's first V word at the earliest.
        self.refill_cycles = 2 + self._lead
        self._rows = widths.heads * -(-tokens // pes)
        # A token's own K and V rows are kept and not read back.  With words of 64 bits four EBR would save 0.1 % of a token.
        self._own_rows = lanes == LANES
        super().__init__({
            "heads": In(stream.Signature(layouts.head_words)), "write": Out(layouts.write_port), "read": Out(layouts.kv_port),
            "shape": In(layouts.model_shape), "control": In(layouts.attention_control), "acc": Out(stream.Signature(layouts.acc)),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        pes, units, turns, lanes = self._pes, self._units, self._turns, self._lanes
        layouts, sum_bits = self._layouts, self._layouts.widths.attention_sum_bits
        shape, args = self.shape, self.control.args
        chunk = args.chunk[:self._tokens.bit_length()]
        context, dot_bits = self._context, 16 + (self._words * lanes - 1).bit_length()

        # ------------------------------------------------------------------ what a chunk is
        # Words of a row, and a row's words of 32 bits.
        words = stage.reg(shape.head_dim >> (lanes - 1).bit_length(), "words")
        own_words = stage.reg(shape.head_dim >> 2, "own_words") if lanes != LANES else words
        pairs = pass_pairs = stage.reg(small_product(chunk, shape.group), "pairs")
        slots = stage.reg((pass_pairs + pes - 1) >> (pes - 1).bit_length(), "slots")
        run_tokens, run_end = chunk, chunk
        if self._runs:
            # A run's pairs, with those before it in its first slot; and how many tokens of the pass do not come after it.
            run_tokens = args.run_tokens[:self._tokens.bit_length()]
            before = stage.reg(small_product(args.after, shape.group)[:len(pairs)], "before")
            of_run = stage.reg(small_product(run_tokens, shape.group), "of_run")
            begin_pe, begin_row = before[:(pes - 1).bit_length()], before >> (pes - 1).bit_length()
            pairs = stage.reg((of_run + begin_pe)[:len(pass_pairs)], "run_pairs")
            run_end = stage.reg((args.chunk - args.after)[:len(args.chunk)], "run_end")
        keys_all = stage.reg((args.position + run_tokens)[:(context - 1).bit_length() + 1], "keys_all")
        group_words = stage.reg(small_product(words, shape.group), "group_words")

        # ------------------------------------------------------------------ parts
        m.submodules.chunk_heads = chunk_heads = ChunkHeads(layouts, pes=pes, words=self._words * lanes // LANES, rows=self._rows,
                                                        own_rows=self._own_rows)
        m.submodules.sequence = sequence = SlotSequence(layouts, pes=pes, exp_units=units, lanes=lanes, pair_bits=len(pairs),
                                                        words=self._words, rows=self._rows, own_rows=self._own_rows)
        m.submodules.reader = reader = WordReader(lanes=lanes, turns=turns, words=self._words, context=context, lead=self._lead,
                                                  own_rows=self._own_rows)
        m.submodules.turns = taking = SoftmaxTurns(lanes=lanes, turns=turns, context=context)
        m.submodules.column = column = PeColumn(pes=pes, exp_units=units, lanes=lanes, words=self._words, rows=self._rows,
                                                dot_bits=dot_bits, sum_bits=sum_bits)
        m.submodules.walk = walk = SumWalk(pes=pes, exp_units=units, lanes=lanes, words=self._words, runs=self._runs)
        m.submodules.out = out = SumOut(layouts, pes=pes, lanes=lanes, words=self._words, depth=self.LANDING)
        softmax = [SoftmaxUnit(turns=turns, dot_bits=dot_bits, context=context, rows=self._rows) for _ in range(units)]
        m.submodules.scale = scale = SumScale(total_bits=len(softmax[0].total))

        # ------------------------------------------------------------------ a chunk's heads come in
        wiring.connect(m, wiring.flipped(self.heads), chunk_heads.heads)
        wiring.connect(m, wiring.flipped(self.write), chunk_heads.write)
        m.d.comb += [
            chunk_heads.shape.eq(shape), chunk_heads.args.eq(args), chunk_heads.words.eq(own_words), chunk_heads.slots.eq(slots),
            chunk_heads.begin.eq(self.control.begin), column.q_write.eq(chunk_heads.q),
        ]

        # ------------------------------------------------------------------ sequence, and words from memory
        wiring.connect(m, sequence.request, wiring.flipped(self.read.req))
        if self._own_rows:
            word = self._words_with_own(m, words, chunk_heads, sequence, reader)
        else:
            wiring.connect(m, wiring.flipped(self.read.data), reader.data)
            word = self.read.data.payload
        m.d.comb += [
            sequence.shape.eq(shape), sequence.args.eq(args), sequence.words.eq(words), sequence.pairs.eq(pairs),
            sequence.keys_all.eq(keys_all), sequence.start.eq(self.control.start),
            sequence.written.eq(chunk_heads.idle & self.write.idle), sequence.done.eq(reader.done),
            sequence.drained.eq(walk.idle), self.busy.eq(sequence.busy),
            reader.phase.eq(sequence.phase), reader.words.eq(words), reader.last_key.eq(sequence.last_key),
            reader.last_scales.eq(sequence.last_scales), reader.last_turn.eq(sequence.last_turn), reader.asked.eq(taking.asked),
        ]

        # ------------------------------------------------------------------ words along the PEs, which meet the softmax units
        m.d.comb += [
            column.word.eq(word), column.flags.eq(reader.flags), column.row.eq(sequence.row),
            column.pop.eq(taking.pop), column.pop_turn.eq(taking.pop_turn),
            taking.scales.eq(reader.scales), taking.odd_scales.eq(sequence.odd_scales), taking.key.eq(reader.key),
            taking.dots.eq(column.dots_came), taking.first_key.eq(column.first_key), taking.v_row.eq(reader.v_row),
            taking.row_came.eq(column.row_came),
            taking.last_turn.eq(sequence.last_turn), taking.keys.eq(sequence.keys), taking.keys_all.eq(keys_all),
            taking.drained.eq(walk.idle),
        ]
        # PE p is turn p // units of unit p % units.
        m.submodules.exp2 = exp2 = memory.Memory(shape=17, depth=len(exp2_rom()), init=list(exp2_rom()),
                                                 attrs={"ram_style": "block"})
        unit_bits = (units - 1).bit_length()
        for u, unit in enumerate(softmax):
            m.submodules[f"softmax{u}"] = unit
            port, written, back = exp2.read_port(), chunk_heads.q_scale, sequence.back
            m.d.comb += [
                port.addr.eq(unit.exp2_addr), unit.exp2_data.eq(port.data),
                unit.scale_write.en.eq(written.en & (written.pe[:unit_bits] == u if unit_bits else 1)),
                unit.scale_write.turn.eq(written.pe >> unit_bits), unit.scale_write.row.eq(written.row),
                unit.scale_write.scale.eq(written.scale),
                unit.back_write.en.eq(back.en & (back.pe[:unit_bits] == u if unit_bits else 1)),
                unit.back_write.turn.eq(back.pe >> unit_bits), unit.back_write.back.eq(back.back),
                unit.row.eq(sequence.row), unit.k.eq(taking.k), unit.v.eq(taking.v), unit.pop.eq(taking.pop),
                column.weights[u].eq(unit.weight), *(unit.dots[t].eq(column.dots[t * units + u]) for t in range(turns)),
                unit.stat_read.eq(walk.stat_read), unit.stat_turn.eq(out.scale_pe >> unit_bits),
            ]

        # ------------------------------------------------------------------ sums leave, with their scale
        unit_now = out.scale_pe[:unit_bits] if unit_bits else Const(0, 1)
        m.d.comb += [
            walk.start.eq(sequence.slot_done), walk.words.eq(words), walk.pairs.eq(sequence.working),
            column.drain.eq(walk.drain), column.send.eq(walk.send), column.send_turn.eq(walk.send_turn),
            walk.walking.eq(column.walking), walk.landing_open.eq(out.open), walk.out_idle.eq(out.idle),
            out.chunk.eq(run_end), out.group.eq(shape.group), out.words.eq(words), out.group_words.eq(group_words),
            out.restart.eq(~sequence.busy), out.clear.eq(walk.idle), out.last_pe.eq(walk.last_pe),
            out.ends_head.eq(sequence.last_slot), out.hold_scale.eq(walk.hold_scale), out.scale.eq(scale.scale),
            out.sent.eq(walk.send), out.came.eq(column.came),
            scale.total.eq(Array(unit.total for unit in softmax)[unit_now]),
            scale.exponent.eq(Array(unit.exponent for unit in softmax)[unit_now]),
        ]
        wiring.connect(m, out.acc, wiring.flipped(self.acc))

        # ------------------------------------------------------------------ runs of a pass
        if self._runs:
            m.submodules.row_places = row_places = RowPlaces(layouts, words=self._words * lanes // LANES)
            m.d.comb += [
                row_places.write.eq(self.control.row_place), row_places.words.eq(own_words),
                row_places.slot_place.eq(args.slot_place), row_places.token.eq(chunk_heads.token),
                row_places.first.eq(chunk_heads.first), chunk_heads.row_at.eq(row_places.row_at),
                chunk_heads.place.eq(row_places.place), chunk_heads.left.eq(row_places.left),
                sequence.slot_at.eq(row_places.slot_at), sequence.begin_pe.eq(begin_pe), sequence.begin_row.eq(begin_row),
                sequence.head_rows.eq(slots), walk.first_pe.eq(sequence.first_pe), out.first_pe.eq(sequence.first_pe),
                self.control.busy.eq(sequence.busy),
            ]
        return m

    def _words_with_own(self, m: Module, words: Value, chunk_heads: ChunkHeads, sequence: SlotSequence,
                        reader: WordReader) -> Value:
        """The word that goes to the PEs: memory's, or one of the only token's own rows in place of the last key's in memory."""
        stage, read = Stages(m), self.read.data
        m.submodules.own_rows = own_rows = OwnRows(kv_heads=self._layouts.widths.kv_heads, words=self._words)
        own = stage.reg(self.control.args.chunk == 1, "own")
        from_own = own & reader.last_row
        m.d.comb += [
            sequence.own.eq(own), own_rows.write.eq(chunk_heads.own), own_rows.words.eq(words), own_rows.head.eq(sequence.head),
            own_rows.restart.eq(~sequence.busy), own_rows.fetch.eq(sequence.phase.as_value().any()),
            own_rows.row.ready.eq(reader.data.ready & from_own), read.ready.eq(reader.data.ready & ~from_own),
            reader.data.valid.eq(Mux(from_own, own_rows.row.valid, read.valid)), reader.data.payload.eq(read.payload),
        ]
        return Mux(from_own, own_rows.row.payload, read.payload)
