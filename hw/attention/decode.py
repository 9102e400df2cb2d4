# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Decode attention: one token's query heads over the KV cache, integer (TeLLMe v2 section 3.7; spec: attention)."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.softmax import SCORE_STAGES, score_stages
from hw.lib.layouts import Layouts
from hw.lib.ports import ReadPort, WritePort
from hw.lib.scales import SCALE_MUL_STAGES, pack16, scale_mul_stages, unpack16
from hw.lib.shifts import round_shift
from hw.lib.stages import Stages
from hw.lib.types import FactorsLayout, KvScales, ProductsLayout, ScaleLayout
from tellme.spec.attention import SCORE_BITS, SCORE_FRAC, SUM_FRAC
from tellme.spec.scale import C127
from tellme.spec.tables import exp2_rom, recip127_rom

__all__ = ["DecodeAttention"]

#: int8 values of a memory word.
LANES = 4


class DecodeAttention(wiring.Component):
    """out[h] = sum_j softmax(q[h] . K[j])_j V[j] over keys 0 to ``position``, all integer but for scales.

    After ``begin`` (a pulse) ``heads`` brings the token's codes: q heads (kept here with their scales), k heads, v heads
    (written to memory as they come, with one word of both scales behind each v head).  After ``start`` (a pulse; it
    waits for ``write.idle``) each KV head is worked on in turn, for all ``group`` query heads that share it:

    1. read the scales of keys 0 to position (a word each);
    2. read K: four int8 products a cycle and head; scores Q9.9 into score memory, with their maximum;
    3. scan: sum of exponentials and the largest exponent of exponential times V scale;
    4. scan: weights, 16 bits unsigned, in place of the scores;
    5. read V: four products a cycle and head, sums of widths.attention_sum_bits;
    6. the heads' sums leave on ``acc`` with their scale.

    K and V move at the memory's rate, a 32-bit word a cycle; each is read once.  A scan takes group * (position + 1)
    cycles.  Scores never leave the chip.

    Ranges, from the widths of ``layouts``: head_dim a multiple of 8, 16 to widths.head_dim; group 1 to widths.group, at most
    head_dim / 4; KV heads up to widths.kv_heads; position up to widths.context - 1.  kv_stride and s_stride are words of a
    head's region.  Maps to 8 multipliers a query head of the group and seven others; a score EBR (1,024 keys) and a q EBR a
    query head.

    ``compact`` (for small parts): the query heads of a group take turns at four multipliers that K and V share, and at one
    memory for each purpose, so that K and V move at 1 / group of the memory's rate.  The results are the same bits.
    While ``lend`` is set the multipliers are another unit's: ``products`` are those of ``borrower``, a cycle later.
    Raises ValueError for a group that no head of 16 elements could serve.
    """

    def __init__(self, layouts: Layouts, *, compact: bool = False):
        self._widths = widths = layouts.widths
        if not 1 <= widths.group <= 4:
            raise ValueError(f"the largest group is {widths.group}; 1 to 4 query heads share a pass")
        self._words = widths.head_dim // LANES
        self._group = widths.group
        self._compact = compact
        self._context = widths.context
        lending = {"lend": In(1), "borrower": In(FactorsLayout), "products": Out(ProductsLayout)} if compact else {}
        super().__init__({
            **lending,
            "heads": In(stream.Signature(layouts.head_codes)), "write": Out(WritePort), "read": Out(ReadPort),
            "shape": In(layouts.model_shape), "control": In(layouts.attention_control), "acc": Out(stream.Signature(layouts.acc)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        groups, compact, widths = self._group, self._compact, self._widths
        kv_heads, sum_bits, address_bits = widths.kv_heads, widths.attention_sum_bits, widths.word_address_bits
        shape, args = self.shape, self.control.args
        # Compact: one bank of each memory for all heads of the group, the head's number in the low bits of an address.
        banks = range(1 if compact else groups)

        def at(head_of_group, addr):
            return Cat(head_of_group[:(groups - 1).bit_length()], addr) if compact else addr

        def picks(g, head_of_group):
            return Const(1, 1) if compact else head_of_group == g

        def chosen(values, head_of_group):
            return values[0] if compact else Array(values)[head_of_group]

        words = Signal(range(self._words + 1))  # memory words of a row
        keys = Signal(widths.position_count_bits)
        row_offset = Signal(address_bits)                 # of the position's row in a head's region
        m.d.sync += [words.eq(shape.head_dim >> 2), keys.eq(args.position + 1),
                     row_offset.eq(args.position * (shape.head_dim >> 2))]

        stage = Stages(m)

        # ------------------------------------------------------------------ memories
        q_words, q_scales, scores, sums = [], [], [], []
        heads_in_bank = 1 << (groups - 1).bit_length() if compact else 1
        for g in banks:
            m.submodules[f"q{g}"] = q = memory.Memory(
                shape=32, depth=heads_in_bank * kv_heads * self._words, init=[])
            m.submodules[f"q_scale{g}"] = qs = memory.Memory(
                shape=ScaleLayout, depth=heads_in_bank * kv_heads, init=[])
            m.submodules[f"scores{g}"] = sc = memory.Memory(
                shape=SCORE_BITS, depth=heads_in_bank * self._context, init=[])
            m.submodules[f"sums{g}"] = acc = memory.Memory(
                shape=LANES * sum_bits, depth=heads_in_bank * self._words, init=[])
            q_words.append((q.write_port(), q.read_port()))
            q_scales.append((qs.write_port(), qs.read_port(domain="comb")))
            scores.append((sc.write_port(), sc.read_port()))
            sums.append((acc.write_port(), acc.read_port(domain="comb")))
        m.submodules.k_scales = k_scales = memory.Memory(shape=16, depth=kv_heads, init=[])
        ks_write, ks_read = k_scales.write_port(), k_scales.read_port(domain="comb")
        m.submodules.kv_scales = kv_scales = memory.Memory(shape=KvScales, depth=self._context, init=[])
        s_write, s_read = kv_scales.write_port(), kv_scales.read_port()

        # ------------------------------------------------------------------ the token's heads come in
        request, out = self.write.req, self.write.data
        code, last = self.heads.p.code, self.heads.p.last
        lane, word_at = Signal(2), Signal(range(self._words + 1))
        shift = Signal(24)
        word = Cat(shift, code)
        kv, g_in = Signal(range(kv_heads)), Signal(range(groups))
        addr, s_addr = Signal(address_bits), Signal(address_bits)
        v_scale, own_scales = Signal(16), Signal(KvScales)
        m.d.comb += [own_scales.k.eq(ks_read.data), own_scales.v.eq(v_scale)]
        taking, q_phase, k_phase = Signal(), Signal(), Signal()
        q_at = Signal(range(kv_heads * self._words))
        q_row = Signal.like(q_at)
        taken = self.heads.valid & self.heads.ready
        for g in banks:
            q_write, _ = q_words[g]
            qs_write, _ = q_scales[g]
            mine = taken & q_phase & picks(g, g_in)
            m.d.comb += [q_write.addr.eq(at(g_in, (q_row + word_at)[:len(q_row)])), q_write.data.eq(word),
                         q_write.en.eq(mine & (lane == 3)),
                         qs_write.addr.eq(at(g_in, kv)), qs_write.data.eq(self.heads.p.scale), qs_write.en.eq(mine & last)]
        m.d.comb += [ks_write.addr.eq(kv), ks_write.data.eq(pack16(self.heads.p.scale)),
                     ks_write.en.eq(taken & k_phase & last), ks_read.addr.eq(kv)]
        with m.If(taken):
            m.d.sync += [lane.eq(lane + 1), shift.eq(Cat(shift[8:], code))]
            with m.If(lane == 3):
                m.d.sync += word_at.eq(Mux(last, 0, word_at + 1))
        with m.FSM(name="heads_in"):
            with m.State("IDLE"):
                m.d.sync += [lane.eq(0), word_at.eq(0), kv.eq(0), g_in.eq(0), q_row.eq(0), k_phase.eq(1)]
                with m.If(self.control.begin):
                    m.next = "Q"
            with m.State("Q"):
                m.d.comb += [self.heads.ready.eq(1), q_phase.eq(1)]
                with m.If(taken & last):
                    m.d.sync += g_in.eq(g_in + 1)
                    with m.If(g_in + 1 == shape.group):
                        m.d.sync += [g_in.eq(0), kv.eq(kv + 1), q_row.eq(q_row + words)]
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
        m.d.comb += taking.eq(taken)

        # ------------------------------------------------------------------ a KV head's three reads
        read = self.read
        head = Signal(range(kv_heads))
        k_addr, v_addr, s_read_addr = (Signal(address_bits, name=f"{name}_addr") for name in ("k", "v", "s_read"))
        head_q_row = Signal.like(q_at)
        #: Words of all of a head's keys.
        Region = range(self._context * self._words + 1)
        remaining = Signal(Region)
        row_words = Signal(Region)
        m.d.sync += row_words.eq(row_offset + words if compact else keys * words)
        w_index, key = Signal(range(self._words + 1)), Signal(widths.position_count_bits)
        in_s, in_k, in_v = Signal(), Signal(), Signal()
        accepted = read.data.valid & read.data.ready
        if compact:
            # A word stays for as many cycles as there are heads in the group.
            g_now = Signal(range(groups))
            g_end = g_now + 1 == shape.group
            step = read.data.valid & (in_k | in_v)
            with m.If(step):
                m.d.sync += g_now.eq(Mux(g_end, 0, g_now + 1))
            m.d.comb += read.data.ready.eq(in_s | ((in_k | in_v) & g_end))
        else:
            g_now, g_end, step = Const(0, 1), Const(1, 1), accepted
            m.d.comb += read.data.ready.eq(in_s | in_k | in_v)
        m.d.comb += [s_write.addr.eq(key), s_write.data.eq(read.data.payload), s_write.en.eq(accepted & in_s)]
        row_end = w_index + 1 == words
        with m.If(accepted):
            m.d.sync += [remaining.eq(remaining - 1), w_index.eq(Mux(in_s | row_end, 0, w_index + 1))]
            with m.If(in_s | row_end):
                m.d.sync += key.eq(key + 1)

        # ------------------------------------------------------------------ K: dots
        # EBR are slow to answer and multipliers to multiply: a register between them.
        word2 = stage.reg(stage.reg(read.data.payload, "word1"), "word2")
        k1, v1 = stage.reg(step & in_k, "k1"), stage.reg(step & in_v, "v1")
        end1, first_word1 = stage.reg(row_end, "end1"), stage.reg(w_index == 0, "first_word1")
        key1, w1 = stage.reg(key, "key1"), stage.reg(w_index, "w1")
        q_row_now = Signal.like(q_at)
        m.d.comb += q_row_now.eq(head_q_row + w_index)
        done1 = k1 & end1 & stage.reg(g_end, "g_end1") if compact else k1 & end1
        dot_done, dot_key = stage.delay(done1, 4, "dot_done"), stage.delay(key1, 4, "dot_key")
        fresh4, valid4 = stage.delay(first_word1, 3, "fresh"), stage.delay(k1, 3, "valid")
        dots = [Signal(signed(widths.dot_bits), name=f"dot{g}") for g in range(groups)]
        g_now1 = stage.reg(g_now, "g_now1") if compact else g_now
        g_now4 = stage.delay(g_now1, 3, "g_now") if compact else g_now
        for g in banks:
            _, q_read = q_words[g]
            m.d.comb += q_read.addr.eq(at(g_now, q_row_now))
            if compact:
                weight = Cat(scores[g][1].data[:16], Const(0, 1)).as_signed()
                factors = [stage.reg(Mux(v1, weight, q_read.data[8 * i:8 * i + 8].as_signed()), f"factor{i}")
                           for i in range(LANES)]
                for i in range(LANES):
                    m.d.sync += self.products[i].eq(
                        Mux(self.lend, self.borrower.a[i], word2[8 * i:8 * i + 8].as_signed())
                        * Mux(self.lend, self.borrower.b[i], factors[i]))
                products = [self.products[i][:16].as_signed() for i in range(LANES)]
            else:
                q_word = stage.reg(q_read.data, f"q_word{g}")
                products = [stage.reg(word2[8 * i:8 * i + 8].as_signed() * q_word[8 * i:8 * i + 8].as_signed(),
                                     f"k_product{g}_{i}") for i in range(LANES)]
            total = stage.reg(sum(products[1:], start=products[0]), f"k_total{g}")
            for h in range(groups) if compact else (g,):
                with m.If(valid4 & (g_now4 == h) if compact else valid4):
                    m.d.sync += dots[h].eq(Mux(fresh4, 0, dots[h]) + total)

        # ------------------------------------------------------------------ K: scores, one head a cycle
        held = [Signal(signed(widths.dot_bits), name=f"held{g}") for g in range(groups)]
        held_key = Signal(widths.position_bits)
        turn = Signal(range(groups + 1))
        turning = Signal()
        head_scales = [Signal(ScaleLayout, name=f"head_scale{g}") for g in range(groups)]
        with m.If(dot_done):
            m.d.sync += [h.eq(d) for h, d in zip(held, dots, strict=True)]
            m.d.sync += [held_key.eq(dot_key), turn.eq(0), turning.eq(1)]
        with m.Elif(turning):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn + 1 == shape.group):
                m.d.sync += turning.eq(0)
        # The key's scales are read while it is held: address one cycle ahead.
        scan, scan_key = Signal(), Signal(widths.position_bits)
        m.d.comb += s_read.addr.eq(Mux(scan, scan_key, Mux(dot_done, dot_key, held_key)))
        k_scale = Signal(ScaleLayout)
        k_sig, k_exp = unpack16(s_read.data.k)
        m.d.comb += [k_scale.sig.eq(k_sig), k_scale.exp.eq(k_exp)]
        chosen_scale = Signal(ScaleLayout)
        m.d.comb += chosen_scale.eq(Array([s.as_value() for s in head_scales])[turn])
        # q scale times c_att comes through the same product before K.
        prepare, prepare_at = Signal(), Signal(range(groups + 1))
        factor_a, factor_b = Signal(ScaleLayout), Signal(ScaleLayout)
        m.d.comb += [
            factor_a.eq(Mux(prepare, chosen([r.data.as_value() for _, r in q_scales], prepare_at),
                            chosen_scale.as_value())),
            factor_b.eq(Mux(prepare, shape.c_att.as_value(), k_scale.as_value())),
        ]
        scale_at = at(prepare_at, head)
        m.d.comb += [r.addr.eq(scale_at) for _, r in q_scales]
        held_a, held_b = Signal(ScaleLayout), Signal(ScaleLayout)
        m.d.sync += [held_a.eq(factor_a), held_b.eq(factor_b)]
        ds = scale_mul_stages(stage, held_a, held_b)
        scaling = 1 + SCALE_MUL_STAGES
        prepared, prepared_at = stage.delay(prepare, scaling, "prepared"), stage.delay(prepare_at, scaling, "prepared_at")
        for g in range(groups):
            with m.If(prepared & (prepared_at == g)):
                m.d.sync += head_scales[g].eq(ds)
        # Stages are counted from the one in which ds is there.
        score_dot = stage.delay(Array(held)[turn], scaling, "score_dot")
        if compact:
            product, down = stage.reg(score_dot * ds.sig, "score_product"), stage.reg(-(ds.exp + SCORE_FRAC), "score_down")
            score5 = stage.reg(round_shift(stage, product, down, bits=SCORE_BITS), "score5")
        else:
            score5 = score_stages(stage, score_dot, ds)
        on5, g5, key5 = (stage.delay(v, scaling + SCORE_STAGES, n) for v, n in ((turning, "score_on"), (turn, "score_g"),
                                                               (held_key, "score_key")))
        tops = [Signal(signed(SCORE_BITS), name=f"top{g}") for g in range(groups)]
        clear = Signal()
        for g in range(groups):
            with m.If(clear):
                m.d.sync += tops[g].eq(-(1 << SCORE_BITS - 1))
            with m.Elif(on5 & (g5 == g) & (score5 > tops[g])):
                m.d.sync += tops[g].eq(score5)

        # ------------------------------------------------------------------ scans: exponentials, then weights
        scan_g, scan_weights = Signal(range(groups + 1)), Signal()
        on_a, g_a, key_a = stage.reg(scan, "scan_a"), stage.reg(scan_g, "scan_g_a"), stage.reg(scan_key, "scan_key_a")
        weights_a = stage.reg(scan_weights, "scan_weights_a")
        # a: score and scales are here
        score_b = stage.reg(chosen([r.data for _, r in scores], g_a), "score_b")
        top_b = stage.reg(Array(tops)[g_a], "top_b")
        v_sig, v_exp = unpack16(s_read.data.v)
        sig_b, exp_b = stage.reg(v_sig, "v_sig_b"), stage.reg(v_exp, "v_exp_b")
        # b: how far below the largest score
        diff = Signal(SCORE_BITS + 1)
        m.d.comb += diff.eq(top_b - score_b.as_signed())
        diff_c = stage.reg(diff, "diff_c")
        m.submodules.exp2 = exp2 = memory.Memory(shape=17, depth=len(exp2_rom()), init=list(exp2_rom()),
                                                 attrs={"ram_style": "block"})
        exp2_read = exp2.read_port()
        # c: table address; then its value, and once more as EBR are slow
        m.d.comb += exp2_read.addr.eq(diff_c[:SCORE_FRAC])
        power_e = stage.reg(exp2_read.data, "power_e")
        whole_e = stage.delay(diff_c[SCORE_FRAC:], 2, "whole")
        sig_e = stage.delay(sig_b, 3, "v_sig")
        te_e = stage.reg(stage.reg(stage.reg(exp_b, "v_exp_c") - diff_c[SCORE_FRAC:], "te_d"), "te_e")
        on_e, weights_e, g_e, key_e = (stage.delay(v, 4, n) for v, n in ((on_a, "scan_on"), (weights_a, "scan_w"),
                                                                   (g_a, "scan_g"), (key_a, "scan_key")))
        # e: shifted exponential; product with V's scale
        power_f = stage.reg((power_e << (SUM_FRAC - 16)) >> Mux(whole_e > 31, 31, whole_e[:5]), "power_f")
        tm_f = stage.reg(power_e * sig_e, "tm_f")
        te_f, on_f, g_f = stage.reg(te_e, "te_f"), stage.reg(on_e & ~weights_e, "on_f"), stage.reg(g_e, "g_f")
        nonzero_f = stage.reg(sig_e != 0, "nonzero_f")
        weight_f, key_f = stage.reg(on_e & weights_e, "weight_f"), stage.reg(key_e, "key_f")
        totals = [Signal(widths.exp_sum_bits, name=f"total{g}") for g in range(groups)]
        exponents = [Signal(signed(12), name=f"exponent{g}") for g in range(groups)]
        seen = [Signal(name=f"seen{g}") for g in range(groups)]
        for g in range(groups):
            with m.If(clear):
                m.d.sync += [totals[g].eq(0), exponents[g].eq(0), seen[g].eq(0)]
            with m.Elif(on_f & (g_f == g)):
                m.d.sync += totals[g].eq(totals[g] + power_f)
                with m.If(nonzero_f & (~seen[g] | (te_f > exponents[g]))):
                    m.d.sync += [exponents[g].eq(te_f), seen[g].eq(1)]
        # f: how far the product moves down
        gap = Signal(signed(14))
        m.d.comb += gap.eq(Array(exponents)[g_f] - te_f)
        far_g = stage.reg((gap > 18) | ~nonzero_f, "far_g")
        gap_g, tm_g = stage.reg(gap[:5], "gap_g"), stage.reg(tm_f, "tm_g")
        # g: the weight
        weight_h = stage.reg(Mux(far_g, 0, ((tm_g >> 10 >> gap_g) + 1) >> 1)[:16], "weight_h")
        on_h, g_h, key_h = (stage.delay(value, 2, f"weight_{name}") for value, name in (
            (weight_f, "on"), (g_f, "g"), (key_f, "key")))
        for g in banks:
            sc_write, sc_read = scores[g]
            m.d.comb += [
                sc_write.addr.eq(Mux(on_h, at(g_h, key_h), at(g5, key5))), sc_write.data.eq(Mux(on_h, weight_h, score5)),
                sc_write.en.eq((on_h & picks(g, g_h)) | (on5 & picks(g, g5))),
                sc_read.addr.eq(Mux(scan, at(scan_g, scan_key), at(g_now, key))),
            ]

        # ------------------------------------------------------------------ V: weighted sums
        v3, w3, first_key3 = stage.delay(v1, 2, "v"), stage.delay(w1, 2, "w"), stage.delay(key == 0, 3, "first_key")
        drain_word = Signal(range(self._words))
        draining = Signal()
        out_g, out_index = Signal(range(groups + 1)), Signal(widths.row_bits)
        g_now3 = stage.delay(g_now1, 2, "g_now_v") if compact else g_now
        for g in banks:
            _, sc_read = scores[g]
            acc_write, acc_read = sums[g]
            m.d.comb += [acc_read.addr.eq(Mux(draining, at(out_g, drain_word), at(g_now3, w3))),
                         acc_write.addr.eq(at(g_now3, w3)), acc_write.en.eq(v3)]
            weight = Const(0, 1) if compact else stage.reg(sc_read.data[:16], f"weight{g}")
            for i in range(LANES):
                part = self.products[i][:24].as_signed() if compact else stage.reg(
                    word2[8 * i:8 * i + 8].as_signed() * weight, f"v_product{g}_{i}")
                old = acc_read.data[sum_bits * i:sum_bits * (i + 1)].as_signed()
                m.d.comb += acc_write.data[sum_bits * i:sum_bits * (i + 1)].eq(Mux(first_key3, 0, old) + part)

        # ------------------------------------------------------------------ out: scale of a head's sums
        # Not narrower for a short context: how long it takes to bring the sum's first one to the top is the same in each core.
        value = Signal(max(widths.exp_sum_bits, SUM_FRAC + 12))
        exp = Signal(signed(12))
        rounded = Signal(12)
        m.d.comb += rounded.eq((value[-12:] + 1) >> 1)
        sig = Signal(11)
        m.submodules.recip = recip = memory.Memory(shape=12, depth=1024, init=list(recip127_rom()),
                                                   attrs={"ram_style": "block"})
        recip_read = recip.read_port()
        m.d.comb += recip_read.addr.eq(sig[:10])
        inverse, c127 = Signal(ScaleLayout), Signal(ScaleLayout)
        scale = Signal(ScaleLayout)
        m.d.comb += c127.eq(ScaleLayout.const({"sig": C127.sig, "exp": C127.exp}))
        inverse_exp = Signal(signed(12))
        m.d.sync += [inverse.sig.eq(recip_read.data[:11]), inverse.exp.eq(Mux(recip_read.data[11], -15, -14))]
        product = scale_mul_stages(stage, inverse, c127)
        shift_exp = stage.reg(Array(exponents)[out_g] - exp, "shift_exp")
        m.d.comb += inverse_exp.eq(product.exp + shift_exp + (SUM_FRAC - 5))
        m.d.sync += [scale.sig.eq(product.sig),
                     scale.exp.eq(Mux(inverse_exp > 127, 127, Mux(inverse_exp < -128, -128, inverse_exp)))]
        out_lane = Signal(2)
        drained = chosen([r.data for _, r in sums], out_g)
        m.d.comb += [
            self.acc.p.acc.eq(drained.word_select(out_lane, sum_bits).as_signed()),
            self.acc.p.scale.eq(scale),
            self.acc.p.place.index.eq(out_index),
        ]

        # ------------------------------------------------------------------ sequence
        pause = Signal(5)
        ask = Signal()
        m.d.comb += read.req.valid.eq(ask)
        with m.FSM(name="attend") as attend:
            m.d.comb += self.busy.eq(~attend.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [head.eq(0), out_index.eq(0), head_q_row.eq(0), k_addr.eq(args.k_base), v_addr.eq(args.v_base),
                             s_read_addr.eq(args.s_base)]
                with m.If(self.control.start):
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(self.write.idle):
                    m.next = "ASK-S"
            with m.State("ASK-S"):
                m.d.comb += [ask.eq(1), read.req.p.addr.eq(s_read_addr), read.req.p.len.eq(keys), clear.eq(1)]
                m.d.sync += [remaining.eq(keys), key.eq(0), w_index.eq(0), prepare_at.eq(0)]
                with m.If(read.req.ready):
                    m.next = "PREPARE"
            with m.State("PREPARE"):
                m.d.comb += prepare.eq(1)
                m.d.sync += prepare_at.eq(prepare_at + 1)
                with m.If(prepare_at + 1 == groups):
                    m.next = "S"
            with m.State("S"):
                m.d.comb += in_s.eq(remaining != 0)
                with m.If(remaining == 0):
                    m.next = "ASK-K"
            with m.State("ASK-K"):
                m.d.comb += [ask.eq(1), read.req.p.addr.eq(k_addr), read.req.p.len.eq(row_words)]
                m.d.sync += [remaining.eq(row_words), key.eq(0), w_index.eq(0), pause.eq(0)]
                with m.If(read.req.ready):
                    m.next = "K"
            with m.State("K"):
                m.d.comb += in_k.eq(remaining != 0)
                with m.If(remaining == 0):
                    m.d.sync += pause.eq(pause + 1)
                    with m.If(pause == 24):
                        m.next = "ASK-V"
            with m.State("ASK-V"):
                # Asked for ahead of the scans: the port's FIFO fills meanwhile.
                m.d.comb += [ask.eq(1), read.req.p.addr.eq(v_addr), read.req.p.len.eq(row_words)]
                m.d.sync += [remaining.eq(row_words), key.eq(0), w_index.eq(0), pause.eq(0), scan_g.eq(0), scan_key.eq(0),
                             scan_weights.eq(0)]
                with m.If(read.req.ready):
                    m.next = "SCAN"
            with m.State("SCAN"):
                m.d.comb += scan.eq(1)
                m.d.sync += [scan_key.eq(scan_key + 1), pause.eq(0)]
                with m.If(scan_key == args.position):
                    m.d.sync += [scan_key.eq(0), scan_g.eq(scan_g + 1)]
                    with m.If(scan_g + 1 == shape.group):
                        m.d.sync += scan_g.eq(0)
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.sync += pause.eq(pause + 1)
                with m.If(pause == 12):
                    m.d.sync += [scan_weights.eq(1), pause.eq(0)]
                    m.next = "SCAN"
                    with m.If(scan_weights):
                        m.next = "V"
            with m.State("V"):
                m.d.comb += in_v.eq(remaining != 0)
                with m.If(remaining == 0):
                    m.d.sync += pause.eq(pause + 1)
                    with m.If(pause == 5):
                        m.d.sync += out_g.eq(0)
                        m.next = "TOTAL"
            with m.State("TOTAL"):
                m.d.sync += [value.eq(Array(totals)[out_g]), exp.eq(len(value) - 11)]
                m.next = "SHIFT"
            with m.State("SHIFT"):
                for amount_ in (4, 1):
                    with (m.If if amount_ == 4 else m.Elif)(value[-amount_:] == 0):
                        m.d.sync += [value.eq(value << amount_), exp.eq(exp - amount_)]
                with m.Else():
                    m.d.sync += [sig.eq(Mux(rounded[11], 1024, rounded)), exp.eq(exp + rounded[11]), pause.eq(0)]
                    m.next = "SCALE"
            with m.State("SCALE"):
                m.d.sync += [pause.eq(pause + 1), drain_word.eq(0), out_lane.eq(0)]
                # The table, its register, the product, the result.
                with m.If(pause == 3 + SCALE_MUL_STAGES):
                    m.next = "OUT"
            with m.State("OUT"):
                m.d.comb += [draining.eq(1), self.acc.valid.eq(1)]
                with m.If(self.acc.ready):
                    m.d.sync += [out_lane.eq(out_lane + 1), out_index.eq(out_index + 1)]
                    with m.If(out_lane == 3):
                        m.d.sync += drain_word.eq(drain_word + 1)
                        with m.If(drain_word + 1 == words):
                            m.d.sync += out_g.eq(out_g + 1)
                            m.next = "TOTAL"
                            with m.If(out_g + 1 == shape.group):
                                m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += [head.eq(head + 1), head_q_row.eq(head_q_row + words), k_addr.eq(k_addr + shape.kv_stride),
                             v_addr.eq(v_addr + shape.kv_stride), s_read_addr.eq(s_read_addr + shape.s_stride)]
                m.next = "ASK-S"
                with m.If(head + 1 == shape.kv_heads):
                    m.next = "IDLE"
        return m
