# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Attention of a chunk of tokens, or of one: query PEs that share each K and V row (TeLLMe v2 section 3.6; spec: attention)."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.scatter import MAX_GROUP, ChunkHeads, small_product
from hw.attention.softmax import BACK_BITS, WEIGHT_BITS, SoftmaxUnit
from hw.lib.floats import leading_zeros
from hw.lib.layouts import Layouts
from hw.lib.ports import ReadPort, WritePort
from hw.lib.scales import SCALE_MUL_STAGES, scale_mul_stages, unpack16
from hw.lib.stages import Stages
from hw.lib.streams import Landing
from hw.lib.types import KvScales, ScaleLayout
from tellme.spec.attention import SUM_FRAC
from tellme.spec.scale import C127
from tellme.spec.tables import exp2_rom, recip127_rom
from tellme.spec.widths import MAX_CHUNK

__all__ = ["PrefillAttention"]

#: int8 values of a memory word.
LANES = 4


class PrefillAttention(wiring.Component):
    """out[t, h] = sum_j softmax(q[t, h] . K[j])_j V[j] over keys 0 to position + t, all integer but for scales.

    After ``begin`` (a pulse) ``heads`` brings the codes of the ``chunk`` tokens at positions position to position +
    chunk - 1, heads and tokens in any order; see ChunkHeads for what is kept and what is written.  After ``start`` (a
    pulse; it waits for ``write.idle``) the KV heads are worked on in turn.  The chunk * group pairs (token, query head) of
    a KV head are taken in slots of ``pes``, one pair a PE, from the last token to the first, so that a
    slot that is not full falls to the first tokens, which see the fewest keys; a token's heads in order.  Of slot s

        keys(s) = position + chunk - (s * pes) // group

    keys count: what no PE of the slot sees is neither read nor computed.  A KV head's scales are read once; each slot
    reads each of its K rows and V rows once, for all its PEs.  So words read a KV head:

        position + chunk + sum over slots of 2 * keys(s) * head_dim / 4

    Each word and its flags walk from PE to PE, ``exp_units`` of them a cycle, so that every softmax unit meets its PEs one
    after another: scores and weights leave and reach PEs just in time, and neither is held anywhere else.  A PE does not
    see keys after its own token: such a key counts in neither maximum, sum nor output.

    Cycles when memory never waits, with turns(s) the PEs in work over exp_units, rounded up, and row(s) = max(head_dim / 4,
    turns(s)): a KV head takes

        position + chunk + sum over slots of (2 * keys(s) * row(s) + slot_cycles)

    from its first word on, less what the last row of a pass need not wait where turns(s) > head_dim / 4.  So K and V move
    a word a cycle where head_dim / 4 >= pes / exp_units; scores and softmax take no pass of their own.  A slot's sums
    leave after drain_cycles, one a cycle where ``acc`` never waits, while the next slot's scales and K are read; its V begins
    REFILL_CYCLES after the last of them if that is later.

    Ranges, from the widths of ``layouts``: chunk 1 to widths.chunk; head_dim a multiple of 8, 16 to widths.head_dim; group 1 to
    widths.group; KV heads up to widths.kv_heads, query heads up to widths.heads; position + chunk up to widths.context.
    kv_stride and s_stride are words of a head's region.  Maps to 4 multipliers (8x17) and one EBR (512 words of q) a PE, sums
    in LUT RAM; four multipliers and score EBR for pes / exp_units * widths.context scores of 18 bits a softmax unit.  Raises
    ValueError for parameters out of range.
    """

    #: From a slot's last sum to the next slot's first V word at the earliest.
    REFILL_CYCLES = 9
    #: Sums that may be on their way from their PE to ``acc``.
    LANDING = 32

    def __init__(self, layouts: Layouts, *, pes: int, exp_units: int = 1):
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
        self._pes = pes
        self._tokens = tokens
        self._units = exp_units
        self._turns = pes // exp_units
        self._words = 1 << (widths.head_dim // LANES - 1).bit_length()
        self._context = widths.context
        # From the first weight asked for to the row that it serves: until it is there, and until the key's last one is asked for.
        self._lead = max(SoftmaxUnit.V_LATENCY - 2, self._turns - 3)
        #: Cycles of a slot in which no word moves: from the last K word to the first V word, and two before the next slot.
        self.slot_cycles = 7 + SoftmaxUnit.K_LATENCY + self._lead
        #: From a slot's last V word to its first sum: the sum's scale, or the way of the last word to the last PE.
        self.drain_cycles = max(9 + SCALE_MUL_STAGES + 5, 2 * self._turns + 7)
        self._rows = widths.heads * -(-tokens // pes)
        super().__init__({
            "heads": In(stream.Signature(layouts.head_words)), "write": Out(WritePort), "read": Out(ReadPort),
            "shape": In(layouts.model_shape), "control": In(layouts.attention_control), "acc": Out(stream.Signature(layouts.acc)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        widths = self._layouts.widths
        pes, units, turns, sum_bits = self._pes, self._units, self._turns, widths.attention_sum_bits
        key_bits = (self._context - 1).bit_length()
        unit_bits = (units - 1).bit_length()

        stage = Stages(m)
        shape, args = self.shape, self.control.args
        chunk = args.chunk[:self._tokens.bit_length()]

        # ------------------------------------------------------------------ what a chunk is
        words = stage.reg(shape.head_dim >> 2, "words")
        pairs = stage.reg(small_product(chunk, shape.group), "pairs")
        slots = stage.reg((pairs + pes - 1) >> (pes - 1).bit_length(), "slots")
        keys_all = stage.reg((args.position + chunk)[:key_bits + 1], "keys_all")
        group_words = stage.reg(small_product(words, shape.group), "group_words")

        m.submodules.chunk_heads = chunk_heads = ChunkHeads(self._layouts, pes=pes, words=self._words, rows=self._rows)
        wiring.connect(m, wiring.flipped(self.heads), chunk_heads.heads)
        wiring.connect(m, wiring.flipped(self.write), chunk_heads.write)
        m.d.comb += [chunk_heads.shape.eq(shape), chunk_heads.args.eq(args), chunk_heads.words.eq(words),
                     chunk_heads.slots.eq(slots), chunk_heads.begin.eq(self.control.begin)]

        # ------------------------------------------------------------------ softmax: PE p is turn p // units of unit p % units
        softmax = []
        m.submodules.exp2 = exp2 = memory.Memory(shape=17, depth=len(exp2_rom()), init=list(exp2_rom()),
                                                 attrs={"ram_style": "block"})
        for u in range(units):
            m.submodules[f"softmax{u}"] = unit = SoftmaxUnit(turns=turns, dot_bits=16 + (self._words * LANES - 1).bit_length(),
                                                             context=self._context, rows=self._rows)
            port = exp2.read_port()
            written = chunk_heads.q_scale
            m.d.comb += [
                port.addr.eq(unit.exp2_addr), unit.exp2_data.eq(port.data),
                unit.scale_write.en.eq(written.en & (written.pe[:unit_bits] == u if unit_bits else 1)),
                unit.scale_write.turn.eq(written.pe >> unit_bits), unit.scale_write.row.eq(written.row),
                unit.scale_write.scale.eq(written.scale),
            ]
            softmax.append(unit)
        m.submodules.kv_scales = kv_scales = memory.Memory(shape=KvScales, depth=self._context, init=[])
        s_write, s_read = kv_scales.write_port(), kv_scales.read_port()

        # ------------------------------------------------------------------ words come in
        read = self.read
        keys, keys_1 = Signal(key_bits + 1), Signal(key_bits)
        key, key_next, w_index = Signal(key_bits), Signal(key_bits, init=1), Signal(range(self._words))
        row = Signal(range(self._rows))
        in_s, in_k, in_v = Signal(), Signal(), Signal()
        last_turn = Signal(range(turns))
        spacing, free = Signal(range(turns)), Signal(init=1)
        available = Signal(range(SoftmaxUnit.AHEAD + 1))
        # What the next word is: its row's first, its row's last, of the last key.
        first_word, row_end, last_key = Signal(init=1), Signal(), Signal()
        accepted = read.data.valid & read.data.ready
        # A row begins so that the softmax units have met all PEs with the row before when it ends, however late that one
        # did, and a V row with its first weight.
        m.d.comb += [
            read.data.ready.eq(in_s | ((in_k | in_v) & (~first_word | (free & (in_k | available.any()))))),
            s_write.addr.eq(key), s_write.data.eq(read.data.payload), s_write.en.eq(accepted & in_s),
        ]
        row_begins = accepted & ~in_s & first_word
        m.d.sync += [spacing.eq(Mux(spacing != 0, spacing - 1, 0)), free.eq(spacing <= 1)]
        with m.If(row_begins):
            m.d.sync += [spacing.eq(last_turn), free.eq(last_turn == 0)]
        # What is left of that when a row's words have come one after another.
        after_row = stage.reg(Mux(last_turn < words, 0, last_turn - words + 1)[:len(last_turn)], "after_row")
        with m.If(accepted & row_end):
            m.d.sync += [spacing.eq(after_row), free.eq(after_row == 0)]
        done = accepted & last_key & (in_s | row_end)
        m.d.sync += [row_end.eq(w_index + 1 == words), last_key.eq(key == keys_1)]
        with m.If(accepted):
            m.d.sync += [w_index.eq(w_index + 1), first_word.eq(0), row_end.eq(w_index + 2 == words)]
            with m.If(in_s | row_end):
                m.d.sync += [w_index.eq(0), first_word.eq(1), row_end.eq(0)]
                m.d.sync += [key.eq(key_next), key_next.eq(key_next + 1), last_key.eq(key_next == keys_1)]
                with m.If(last_key):
                    m.d.sync += [key.eq(0), key_next.eq(1), last_key.eq(keys_1 == 0)]

        # ------------------------------------------------------------------ and walk from PE to PE
        # Stage s is there s + 1 cycles after the word came.
        stage_layout = data.StructLayout({"k": 1, "v": 1, "first_word": 1, "row_end": 1, "first_key": 1,
                                          "w": range(self._words)})
        entry = Signal(stage_layout)
        m.d.comb += [entry.k.eq(accepted & in_k), entry.v.eq(accepted & in_v), entry.first_word.eq(first_word),
                     entry.row_end.eq(row_end), entry.first_key.eq(key == 0), entry.w.eq(w_index)]
        word, flags = [stage.reg(read.data.payload, "word0")], [data.View(stage_layout, stage.reg(entry.as_value(), "flags0"))]
        for s in range(1, turns + 4):
            word.append(stage.reg(word[-1], f"word{s}"))
            flags.append(data.View(stage_layout, stage.reg(flags[-1].as_value(), f"flags{s}")))

        # ------------------------------------------------------------------ K: dots met in turn
        key3 = stage.delay(key, 3, "key")
        dots_begin = flags[4].k & flags[4].row_end
        k_key, k_first, k_left = Signal(key_bits), Signal(), Signal(BACK_BITS)
        k_scale, v_exp, v_some = Signal(ScaleLayout), Signal(signed(7)), Signal()
        k_on, k_turn, k_last = Signal(), Signal(range(turns)), Signal(range(turns))
        key5 = stage.delay(key3, 2, "key_dot")
        # There two cycles after its address.
        scale_word = data.View(KvScales, stage.reg(s_read.data.as_value(), "scale_word"))
        k_sig, k_exp = unpack16(scale_word.k)
        v_sig_read, v_exp_read = unpack16(scale_word.v)

        def left_after(at) -> Value:
            far = keys_all - 1 - at
            return Mux(far >> BACK_BITS != 0, (1 << BACK_BITS) - 1, far[:BACK_BITS])

        with m.If(k_on):
            m.d.sync += k_turn.eq(k_turn + 1)
            with m.If(k_turn == k_last):
                m.d.sync += k_on.eq(0)
        with m.If(dots_begin):
            m.d.sync += [k_on.eq(1), k_turn.eq(0), k_last.eq(last_turn), k_key.eq(key5), k_first.eq(flags[4].first_key),
                         k_left.eq(left_after(key5)), k_scale.sig.eq(k_sig), k_scale.exp.eq(k_exp), v_exp.eq(v_exp_read),
                         v_some.eq(v_sig_read != 0)]
        k_done = dots_begin & (key5 + 1 == keys)

        # ------------------------------------------------------------------ V: weights asked for ahead of the rows
        drained = Signal()
        asking, wanted = Signal(), Signal()
        a_turn, a_key, ahead = Signal(range(turns)), Signal(key_bits), Signal(range(SoftmaxUnit.AHEAD + 1))
        # Two cycles between dots_begin and the first ``v`` belong to the turn and to this flag.
        with m.If(stage.delay(k_done, SoftmaxUnit.K_LATENCY - 1, "k_done")):
            m.d.sync += wanted.eq(1)
        with m.If(wanted & drained):
            m.d.sync += [wanted.eq(0), asking.eq(1), a_turn.eq(0), a_key.eq(0)]
        asks = asking & ((a_turn != 0) | (ahead != SoftmaxUnit.AHEAD))
        with m.If(asks):
            m.d.sync += a_turn.eq(a_turn + 1)
            with m.If(a_turn == last_turn):
                m.d.sync += [a_turn.eq(0), a_key.eq(a_key + 1)]
                with m.If(a_key + 1 == keys):
                    m.d.sync += asking.eq(0)
        m.d.sync += ahead.eq(ahead + (asks & (a_turn == 0)) - (row_begins & in_v))
        # Of those, keys whose row may begin: its first weight can be taken two cycles later and the others follow it, and
        # the last one is asked for before a row of four words ends.
        m.d.sync += available.eq(available + stage.delay(asks & (a_turn == 0), self._lead - 1, "asked") - (row_begins & in_v))
        m.d.comb += s_read.addr.eq(Mux(asking, a_key, key3))
        # Weights reach the PEs from the second cycle after a V row began on.
        pops, pop_turn, pop_last = Signal(), Signal(range(turns)), Signal(range(turns))
        with m.If(pops):
            m.d.sync += pop_turn.eq(pop_turn + 1)
            with m.If(pop_turn == pop_last):
                m.d.sync += pops.eq(0)
        with m.If(flags[0].v & flags[0].first_word):
            m.d.sync += [pops.eq(1), pop_turn.eq(0), pop_last.eq(last_turn)]

        # ------------------------------------------------------------------ PEs
        draining, drain_pe, drain_word = Signal(), Signal(range(pes)), Signal(range(self._words))
        drain_shift, turning = Signal(), Signal()
        drain_sums = []
        for p in range(pes):
            turn, unit = p >> unit_bits, softmax[p % units]
            m.submodules[f"q{p}"] = q = memory.Memory(shape=32, depth=self._rows * self._words, init=[],
                                                      attrs={"ram_style": "block"})
            m.submodules[f"sums{p}"] = sums = memory.Memory(shape=LANES * sum_bits, depth=self._words, init=[])
            q_write, q_read = q.write_port(), q.read_port()
            sum_write, sum_read = sums.write_port(), sums.read_port(domain="comb")
            came_q = chunk_heads.q
            m.d.comb += [q_write.addr.eq(Cat(came_q.word, came_q.row)), q_write.data.eq(came_q.data),
                         q_write.en.eq(came_q.en & (came_q.pe == p)), q_read.addr.eq(Cat(flags[turn].w, row))]
            # Operands: in K the query's byte, 8 bits up, in V the weight; what does not count is zero, so that they add.
            q_word = Signal(32, name=f"q_word{p}", reset_less=True)
            weight = Signal(WEIGHT_BITS, name=f"weight{p}", reset_less=True)
            m.d.sync += q_word.eq(Mux(flags[turn + 1].k, q_read.data, 0))
            with m.If(flags[turn + 1].k):
                m.d.sync += weight.eq(0)
            with m.Elif(pops & (pop_turn == turn)):
                m.d.sync += weight.eq(unit.weight)
            old = Signal(LANES * sum_bits, name=f"old{p}", reset_less=True)
            clear = Mux(draining, turning | (drain_pe != p), flags[turn + 2].first_key)
            m.d.sync += old.eq(Mux(drain_shift, old >> sum_bits, Mux(clear, 0, sum_read.data)))
            m.d.comb += [sum_read.addr.eq(Mux(draining, drain_word, flags[turn + 2].w)),
                         sum_write.addr.eq(flags[turn + 3].w), sum_write.en.eq(flags[turn + 3].v)]
            products = []
            for i in range(LANES):
                byte = q_word[8 * i:8 * i + 8]
                factor = Cat(weight[:8], weight[8:] | byte, byte[7]).as_signed()
                product = stage.reg(word[turn + 2][8 * i:8 * i + 8].as_signed() * factor, f"product{p}_{i}")
                products.append(product[8:])
                part = slice(sum_bits * i, sum_bits * (i + 1))
                m.d.comb += sum_write.data[part].eq(old[part].as_signed() + product)
            # Products of K are there a cycle before their total, that a cycle before the dot.
            total = stage.reg(sum((x.as_signed() for x in products[1:]), start=products[0].as_signed()), f"k_total{p}")
            dot = Signal.like(unit.dots[0], name=f"dot{p}", reset_less=True)
            with m.If(flags[turn + 4].k):
                m.d.sync += dot.eq(Mux(flags[turn + 4].first_word, 0, dot) + total)
            m.d.comb += unit.dots[turn].eq(dot)
            drain_sums.append(old[:sum_bits])

        # ------------------------------------------------------------------ walk: how far back each PE's token lies
        walking, walk_pe = Signal(), Signal(range(pes))
        walk_back, walk_g = Signal(BACK_BITS + 1), Signal(range(MAX_GROUP))
        with m.If(walking):
            m.d.sync += [walk_pe.eq(walk_pe + 1), walk_g.eq(walk_g + 1)]
            with m.If(walk_g + 1 == shape.group):
                m.d.sync += [walk_g.eq(0), walk_back.eq(walk_back + 1)]
            with m.If(walk_pe == pes - 1):
                m.d.sync += walking.eq(0)
        v_left = left_after(a_key)
        for u, unit in enumerate(softmax):
            m.d.comb += [
                unit.back_write.en.eq(walking & (walk_pe[:unit_bits] == u if unit_bits else 1)),
                unit.back_write.turn.eq(walk_pe >> unit_bits), unit.back_write.back.eq(walk_back),
                unit.row.eq(row),
                unit.k.on.eq(k_on), unit.k.turn.eq(k_turn), unit.k.first.eq(k_first), unit.k.key.eq(k_key),
                unit.k.remaining.eq(k_left), unit.k.scale.eq(k_scale), unit.k.v_exp.eq(v_exp), unit.k.v_some.eq(v_some),
                unit.v.on.eq(asks), unit.v.turn.eq(a_turn), unit.v.first.eq(a_key == 0), unit.v.key.eq(a_key),
                unit.v.remaining.eq(v_left), unit.v.sig.eq(v_sig_read), unit.v.exp.eq(v_exp_read),
                unit.pop.eq(pops),
            ]

        # ------------------------------------------------------------------ sequence: S, then K and V of each slot
        head, pairs_left = Signal(range(widths.kv_heads + 1)), Signal.like(pairs)
        k_addr, v_addr, s_addr = (Signal(widths.word_address_bits, name=f"{name}_addr") for name in "kvs")
        # Both are wanted in V only.
        last_slot = stage.reg(pairs_left <= pes, "last_slot")
        last_head = stage.reg(head + 1 == shape.kv_heads, "last_head")
        working = Signal(range(pes + 1))
        m.d.comb += working.eq(Mux(pairs_left <= pes, pairs_left, pes))
        m.d.sync += last_turn.eq((working - 1) >> unit_bits)
        # Each phase asks for the words of the next one.  A slot's keys are known when the walk of the one before ended.
        request = read.req
        to_ask, settled = Signal(), Signal(range(4))
        next_keys = stage.reg((keys_all - Mux(last_slot, 0, walk_back))[:key_bits + 1], "next_keys")
        row_words = stage.reg(Mux(in_v, next_keys, keys) * words, "row_words")
        m.d.sync += settled.eq(Mux(walking | ~in_v, 0, Mux(settled == 3, 3, settled + 1)))
        with m.If(request.valid & request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(to_ask & ~request.valid & (~in_v | (settled == 3))):
            m.d.sync += [to_ask.eq(0), request.valid.eq(~(in_v & last_slot & last_head)), request.p.len.eq(row_words),
                         request.p.addr.eq(Mux(in_k, v_addr, k_addr))]
            with m.If(in_v & last_slot):
                m.d.sync += [request.p.addr.eq(s_addr + shape.s_stride), request.p.len.eq(keys_all)]
        slot_done = Signal()

        def enter(state):
            m.next = state
            m.d.sync += [in_s.eq(state == "S"), in_k.eq(state == "K"), in_v.eq(state == "V")]

        with m.FSM(name="attend") as attend:
            with m.State("IDLE"):
                m.d.sync += [head.eq(0), row.eq(0), k_addr.eq(args.k_base), v_addr.eq(args.v_base), s_addr.eq(args.s_base),
                             keys.eq(keys_all), keys_1.eq(keys_all - 1), pairs_left.eq(pairs), walk_back.eq(0), walk_g.eq(0)]
                with m.If(self.control.start):
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(chunk_heads.idle & self.write.idle):
                    m.d.sync += [request.valid.eq(1), request.p.addr.eq(s_addr), request.p.len.eq(keys), to_ask.eq(1),
                                 walking.eq(1)]
                    enter("S")
            with m.State("S"):
                with m.If(done):
                    m.d.sync += to_ask.eq(1)
                    enter("K")
            with m.State("K"):
                with m.If(done):
                    m.d.sync += to_ask.eq(1)
                    enter("V")
            with m.State("V"):
                with m.If(done):
                    enter("SLOT-DONE")
            with m.State("SLOT-DONE"):
                m.d.comb += slot_done.eq(1)
                m.d.sync += [row.eq(row + 1), keys.eq(next_keys), keys_1.eq(next_keys - 1), pairs_left.eq(pairs_left - pes)]
                with m.If(last_slot):
                    m.d.sync += [head.eq(head + 1), k_addr.eq(k_addr + shape.kv_stride), v_addr.eq(v_addr + shape.kv_stride),
                                 s_addr.eq(s_addr + shape.s_stride), pairs_left.eq(pairs), walk_back.eq(0), walk_g.eq(0)]
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
                with m.If(drained):
                    m.next = "IDLE"
            m.d.comb += self.busy.eq(~attend.ongoing("IDLE"))

        # ------------------------------------------------------------------ out: scale of a PE's sums
        scale_pe, scale_left, stat_read = Signal(range(pes)), Signal(range(16)), Signal()
        exponents = Array(unit.exponent for unit in softmax)
        m.d.comb += [s for unit in softmax for s in (unit.stat_read.eq(stat_read), unit.stat_turn.eq(scale_pe >> unit_bits))]
        unit_now = scale_pe[:unit_bits] if unit_bits else Const(0, 1)
        value1 = stage.reg(Array(unit.total for unit in softmax)[unit_now], "value1")
        # Zeros ahead of each byte's first one, from the top; the value is not zero and stands still.
        from_top = Cat(Const(0, -len(value1) % 8), value1)
        zeros = Signal(range(len(from_top)))
        for at in range(0, len(from_top), 8):
            byte = from_top[at:at + 8]
            some2, in_byte2 = stage.reg(byte.any(), f"some2_{at}"), stage.reg(leading_zeros(m, byte), f"in_byte2_{at}")
            with m.If(some2):
                m.d.comb += zeros.eq(Cat(in_byte2, Const(len(from_top) // 8 - 1 - at // 8, len(zeros) - 3)))
        zeros3 = stage.reg(zeros, "zeros3")
        coarse3 = stage.reg((value1 << (zeros[3:] << 3))[:len(value1)], "coarse3")
        top4 = stage.reg((coarse3 << zeros3[:3])[len(value1) - 12:len(value1)], "top4")
        rounded = Signal(12)
        m.d.comb += rounded.eq((top4 + 1) >> 1)
        sig5 = stage.reg(Mux(rounded[11], 1024, rounded[:11]), "sig5")
        exp5 = stage.reg((len(value1) - 11) - zeros3 + rounded[11], "exp5")
        m.submodules.recip = recip = memory.Memory(shape=12, depth=1024, init=list(recip127_rom()),
                                                   attrs={"ram_style": "block"})
        recip_read = recip.read_port()
        m.d.comb += recip_read.addr.eq(sig5[:10])
        inverse7, c127 = Signal(ScaleLayout), Signal(ScaleLayout)
        m.d.comb += c127.eq(ScaleLayout.const({"sig": C127.sig, "exp": C127.exp}))
        m.d.sync += [inverse7.sig.eq(recip_read.data[:11]), inverse7.exp.eq(Mux(recip_read.data[11], -15, -14))]
        product10 = scale_mul_stages(stage, inverse7, c127)
        shift6 = stage.reg(stage.reg(exponents[unit_now], "exponent1") - exp5, "shift6")
        exp = Signal(signed(13))
        m.d.comb += exp.eq(product10.exp + shift6 + (SUM_FRAC - 5))
        scale11 = Signal(ScaleLayout)
        m.d.sync += [scale11.sig.eq(product10.sig), scale11.exp.eq(Mux(exp > 127, 127, Mux(exp < -128, -128, exp)))]
        scaling = 8 + SCALE_MUL_STAGES
        with m.If(scale_left != 0):
            m.d.sync += scale_left.eq(scale_left - 1)

        # ------------------------------------------------------------------ out: sums, PE after PE
        # A word's four sums leave its PE one after another and walk along the PEs behind it to the last one, as keys do, so that
        # no PE is drawn towards the others: each adds its own, and all but the one in turn are zero.
        m.submodules.landing = landing = Landing(sum_bits, depth=self.LANDING, burst=LANES)
        issuing, sends, lane, gap = Signal(), Signal(), Signal(range(LANES)), Signal()
        settled_sums = stage.reg(draining, "settled_sums")
        m.d.comb += [sends.eq((lane != 0) | (issuing & settled_sums & landing.open & ~gap)),
                     drain_shift.eq(sends & (lane != LANES - 1))]
        sends_turn = stage.reg(drain_pe >> unit_bits, "sends_turn")
        passing, walking, walks = Const(0, sum_bits), [], Const(0, 1)
        for t in range(turns):
            for old in drain_sums[t * units:(t + 1) * units]:
                passing = passing | old
            passing = stage.reg(passing, f"passing{t}")
            walks = stage.reg(walks | (sends & (sends_turn == t)), f"walks{t}")
            walking.append(walks)
        m.d.comb += [landing.sent.eq(sends), landing.valid.eq(walks), landing.value.eq(passing)]
        last_pe, head_ends = Signal(range(pes)), Signal()
        last_word, at_last_pe = (stage.reg(v, n) for v, n in (
            (drain_word + 1 == words, "last_word"), (drain_pe == last_pe, "at_last_pe")))
        # The way is a cycle shorter from the next turn on, which therefore waits for one, and shows nothing meanwhile.
        of_turn_last = drain_pe[:unit_bits].all() if unit_bits else 1
        m.d.sync += [turning.eq(sends & (lane == LANES - 2) & last_word & of_turn_last), gap.eq(turning)]
        with m.If(sends):
            m.d.sync += lane.eq(lane + 1)
            with m.If(lane == LANES - 2):
                # What follows is read beside the word's last sum.
                m.d.sync += drain_word.eq(drain_word + 1)
                with m.If(last_word):
                    m.d.sync += [drain_word.eq(0), drain_pe.eq(drain_pe + 1), issuing.eq(~at_last_pe)]
        out_acc, out_valid, out_index = Signal(sum_bits, reset_less=True), Signal(), Signal(widths.row_bits)
        out_scale, out_token = Signal(ScaleLayout), Signal(range(max(self._tokens, 2)))
        pause = Signal(range(turns + 2))
        leave_pe, leave_word, leave_lane = Signal(range(pes)), Signal(range(self._words)), Signal(range(LANES))
        # The next one is its PE's first, and wants its scale.
        first_sum = Signal()
        # Where the pair that leaves belongs, and the KV head's first query head.
        token, first_word_of, top_word, g = (
            Signal(shape) for shape in (len(out_token), widths.row_bits - 2, widths.row_bits - 2, range(MAX_GROUP)))
        # What stands still in the cycle before a word's last sum is loaded.
        word_ends, pe_ends, g_ends = (stage.reg(v, n) for v, n in (
            (leave_word + 1 == words, "word_ends"), (leave_pe == last_pe, "pe_ends"), (g + 1 == shape.group, "g_ends")))
        scaled = stage.reg(scale_left <= 1, "scaled")
        load = landing.o.valid & (~out_valid | self.acc.ready) & (~first_sum | scaled)
        m.d.comb += [
            landing.o.ready.eq(load), self.acc.valid.eq(out_valid), self.acc.p.acc.eq(out_acc.as_signed()),
            self.acc.p.scale.eq(out_scale), self.acc.p.place.token.eq(out_token), self.acc.p.place.index.eq(out_index),
        ]
        with m.If(self.acc.ready):
            m.d.sync += out_valid.eq(0)
        with m.If(load):
            m.d.sync += [out_acc.eq(landing.o.payload), out_valid.eq(1), out_token.eq(token),
                         out_index.eq(Cat(leave_lane, first_word_of + leave_word)), leave_lane.eq(leave_lane + 1),
                         first_sum.eq(0)]
            with m.If(first_sum):
                # The next PE's scale is worked out while this one's sums leave.
                m.d.sync += [out_scale.eq(scale11), scale_pe.eq(scale_pe + 1), scale_left.eq(scaling)]
            with m.If(leave_lane == LANES - 1):
                m.d.sync += leave_word.eq(leave_word + 1)
                with m.If(word_ends):
                    m.d.sync += [leave_word.eq(0), leave_pe.eq(leave_pe + 1), first_sum.eq(1), g.eq(g + 1),
                                 first_word_of.eq(first_word_of + words)]
                    with m.If(g_ends):
                        m.d.sync += [g.eq(0), token.eq(token - 1), first_word_of.eq(top_word)]
                    with m.If(pe_ends & head_ends):
                        m.d.sync += [g.eq(0), token.eq(chunk - 1), top_word.eq(top_word + group_words),
                                     first_word_of.eq(top_word + group_words)]
        with m.FSM(name="drain"):
            with m.State("IDLE"):
                m.d.comb += drained.eq(1)
                m.d.sync += [pause.eq(turns + 1), drain_pe.eq(0), drain_word.eq(0), leave_pe.eq(0), leave_word.eq(0),
                             first_sum.eq(1), scale_pe.eq(0), scale_left.eq(scaling), last_pe.eq(working - 1),
                             head_ends.eq(last_slot), stat_read.eq(0)]
                with m.If(slot_done):
                    m.next = "PAUSE"
                with m.If(attend.ongoing("IDLE")):
                    m.d.sync += [g.eq(0), token.eq(chunk - 1), top_word.eq(0), first_word_of.eq(0)]
            with m.State("PAUSE"):
                # Until the last PE's sums are there.
                m.d.sync += pause.eq(pause - 1)
                # The softmax units' sums are there in the sixth cycle after the last word came.
                m.d.sync += stat_read.eq(pause <= turns - 2)
                with m.If(pause > turns - 3):
                    m.d.sync += scale_left.eq(scaling)
                with m.If(pause == 0):
                    m.d.sync += [draining.eq(1), issuing.eq(1)]
                    m.next = "OUT"
            with m.State("OUT"):
                # PEs show sums of their own again when the last one has passed them.
                with m.If(~issuing & (lane == 0) & ~Cat(walking).any()):
                    m.d.sync += draining.eq(0)
                with m.If(~draining & landing.empty & ~out_valid):
                    m.next = "IDLE"
        return m
