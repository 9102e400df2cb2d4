# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The fused elementwise pipeline: from accumulators to vectors with their statistics, and on to int8 codes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.fused.activation import Activation
from hw.fused.arithmetic import Dequantise, FloatAdd, FloatMul, Quantise
from hw.fused.head_quantise import HeadQuantise
from hw.fused.rope import Rope
from hw.fused.scales import SCALE_INTERVAL, AbsmaxScale, InverseRms, ScaleAcc
from hw.fused.statistics import Statistics
from hw.fused.vectors import Vectors
from hw.lib.layouts import Layouts
from hw.lib.scales import SCALE_MUL_STAGES, scale_mul_stages
from hw.lib.stages import Stages
from hw.lib.streams import Landing
from hw.lib.types import MonitorLayout, ScaleLayout
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.packing import SLICE
from tellme.spec.program import Epilogue
from tellme.spec.scale import Scale, absmax_floor
from tellme.spec.widths import MIN_HEAD_DIM

__all__ = ["FusedPipeline"]

#: A scale of 1.
ONE = Scale(1024, -10)


class FusedPipeline(wiring.Component):
    """Two kinds of pass over vector memories X (the residual) and A (attention output, activation) of some tokens.

    Tokens: of ``streams`` pipelines, each has the tokens t of a chunk with the same t mod streams, at most ``tokens``; ``chunk``
    is the number that the pipeline has now.

    A pass of accumulators: each accumulator names its element and token.  element = dequantise(acc, scale), where the scale
    is multiplied by the token's d if ``use_d``.  Then ``epilogue`` decides (all settings are in ``control.args``):

    - STORE: the element is written to X, or to A if ``dest_a``;
    - RESIDUAL: X[i] = X[i] + element;
    - ACT: A[i] = f(gate) * up of pairs (``relu2``, ``act_exp``);
    - QKV: rows below ``rope_rows`` are turned by RoPE, then the int8 codes of each attention head leave on ``heads``.

    With ``layouts.row_words`` a pass may have ``bias``: element = add(dequantise(acc, scale), bias), rounded a second time.  The
    sum is made in the adder of RESIDUAL, which has no biases.  On its way to ACT or QKV an element of such a pass takes
    FloatAdd.LATENCY + 3 cycles more; STORE takes no cycle more.

    With ``layouts.row_words`` a QKV pass may have ``head_gains``, RMSNorm on each head of q and k.  Of the elements y of a head,
    round(y * gain[i]) goes to RoPE, where i is the element's number in the head, and the head's scale is multiplied by
    1 / rms(y), with the ``n_eps`` and ``sqrt_n`` of the settings.  Heads of v stay as they are.  ``q_rows`` and ``rope_rows`` say
    where k and v begin.  The pass takes the units that other passes use for the norms of vectors: the gains' memory and
    multiplier, the sum of squares, 1 / rms and its product.  It needs no multiplier and no EBR more, but the ways in and out, a
    counter, and a LUT RAM of 16 scales (docs/units.md has the cost).  On its way to the heads an element takes the way of one
    with a bias, and FloatMul.LATENCY + 3 cycles more.  That way is longer than TURNED, so that such a pass takes eleven cycles
    for ten elements.  A pass without head_gains takes no cycle more.

    With ``layouts.vector_norms`` what comes on ``acc`` may be ``codes`` of the same pipeline
    (:class:`hw.fused.code_sums.CodeSums`): a quantise pass of A with ``wide``, whose codes have NORM_FRAC more bits and leave
    token after token, beside a pass with the epilogue RESIDUAL, or QKV without head_gains.  The scales of heads wait for the
    first code, behind which the pass needs those units no more.  Both passes need the gains' memory and multiplier for each
    element that is written: the statistics go first, so that such a RESIDUAL pass takes two cycles an element.  The settings'
    ``first_row`` is added to the index of each accumulator, so that q, k and v may come in passes of their own, whose heads are
    numbered on.  The scales of X and of A are kept apart, and a quantise pass of X with ``again`` takes those of the one before.

    Elements of one token come in order.  Elements of several tokens may alternate; for QKV they alternate after whole heads, and
    each alternation brings the same heads of each token.  An element that is written to X or A also enters its token's
    statistics: the sum of squares, and the absmax of the element, or of round(element * gain[i]) if ``stats_gain``.

    ``clear`` (a pulse) precedes each pass.  ``done`` goes high when ``length`` elements of each token are written and the
    statistics are final, or when the codes are delivered; it stays high until the next ``clear``.

    A quantise pass: ``quant`` names source, gain, norm, length and tokens.  s and d are computed from the statistics of the last
    pass, and the settings' ``n_eps`` and ``sqrt_n``, which stand still until the first code.  Then the codes round(x * s) leave
    on ``codes``, slice by slice, 20 elements of each token.  ``d`` is the scale of the last of these tokens and holds until the
    next quantise pass.  With ``layouts.all_heads`` ``scale`` shows the d of each token once, ahead of the codes.  The statistics
    are no longer needed after the first code.

    Both passes: each pass but one with head_gains moves one element per cycle; any sink may stall the pass.  ``monitor`` shows
    every element written, or every code of a head, of token ``monitor_token``, for the step's CRC.  ``nonfinite`` is a strobe.
    ``settling`` marks quantise passes and the end of the other passes.

    Loads: gains come through ``gain_load`` (four per word), from element 0 after ``gain_start``; gains of q's heads are followed
    by those of k's.  RoPE rows come through ``rope_load`` (cos, sin), from element 0 after ``rope_start``, for token
    ``rope_token``.  Gains belong to the vector that the settings name, X or A; those of heads take the place of A's.  Gains and
    ``clear`` may come while the other vector is quantised, from its first code on.

    The pipeline does not access the SDRAM.  Maps to 12 multipliers and some 13 EBR at max_dim 512, max_cols 1280 for one token,
    and 3.5 EBR more for each further token.  Raises ValueError for a number of streams that is no power of two.
    """

    #: Places for labels of heads: a head's token and number, and its 1 / rms.
    LABELS = 16
    #: Places for elements on their way from ``acc`` to the heads' banks, and from memory to ``codes``.  There are more places
    #: than the way has cycles, so that an element moves in each cycle; only the way of a pass with head_gains is longer.
    TURNED, CODED = 48, 32

    def __init__(self, layouts: Layouts, *, fmt: FloatFormat = BINARY16, streams: int = 1, sigmoid_register: bool = False):
        if streams & streams - 1:
            raise ValueError(f"streams is {streams}; a power of two is wanted")
        widths = layouts.widths
        self._layouts, self._fmt, self._shift = layouts, fmt, streams.bit_length() - 1
        self._sigmoid_register = sigmoid_register
        self._tokens = tokens = -(-widths.chunk // streams)
        self._max_dim, self._max_cols, self._max_head_dim = widths.dim, widths.cols, widths.head_dim
        turn = data.StructLayout({"cos": fmt.width, "sin": fmt.width})
        super().__init__({
            "control": In(layouts.pass_control), "shape": In(layouts.model_shape), "chunk": In(range(tokens + 1)),
            "acc": In(stream.Signature(layouts.acc)), "heads": Out(stream.Signature(layouts.head_codes)),
            "codes": Out(stream.Signature(layouts.code)), "d": Out(ScaleLayout),
            **({"scale": Out(layouts.token_scale)} if layouts.all_heads else {}), "gain_load": In(stream.Signature(64)),
            "rope_load": In(stream.Signature(turn)), "rope_start": In(1), "rope_token": In(widths.token_bits),
            "monitor_token": In(widths.token_bits), "monitor": Out(MonitorLayout), "settling": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m, fmt, layouts, widths = Module(), self._fmt, self._layouts, self._layouts.widths
        biases, norms = layouts.row_words, layouts.vector_norms
        width, place_layout = fmt.width, layouts.place
        one = fmt.bias << fmt.frac_bits
        tokens, control, args = self._tokens, self.control, self.control.args
        #: A token's number among this pipeline's own.
        Own = range(max(tokens, 2))
        MulTag = data.StructLayout({"quantising": 1, "token": len(Signal(Own)), **({"turned": 1} if biases else {})})
        # An element's label on its way through the adder.
        sum_label = data.StructLayout({"place": place_layout, **({"of_k": 1} if biases else {})})

        def own(token: Value) -> Value:
            return (token >> self._shift)[:len(Signal(Own))]

        m.submodules.scale_acc = scale_acc = ScaleAcc(layouts)
        # An element's label on its way through the dequantiser.
        label_layout = data.StructLayout({"place": place_layout, **({"bias": width} if biases else {})})
        m.submodules.dequantise = dequantise = Dequantise(fmt, acc_bits=widths.acc_bits, tag=label_layout.size)
        # Nothing on the way from accumulators to heads, or from memory to codes, is ever stalled: an element enters only if a
        # place at the end is free.
        m.submodules.turned = turned = Landing(width, depth=self.TURNED)
        m.submodules.coded = coded = Landing(layouts.code, depth=self.CODED)
        m.submodules.residual = adder = FloatAdd(fmt, tag=sum_label.size)
        m.submodules.activation = activation = Activation(fmt, tag=place_layout.size,
                                                            table_register=self._sigmoid_register)
        m.submodules.rope = rope = Rope(fmt)
        m.submodules.head_quantise = head_quantise = HeadQuantise(fmt, max_head_dim=self._max_head_dim)
        m.submodules.gain_mul = gain_mul = FloatMul(fmt, tag=MulTag.size)
        m.submodules.statistics = statistics = Statistics(fmt, tokens=tokens)
        m.submodules.absmax_scale = absmax_scale = AbsmaxScale(fmt)
        m.submodules.inverse_rms = inverse_rms = InverseRms()
        m.submodules.quantise = quantise = Quantise(fmt, wide=norms)

        stage = Stages(m)

        # ------------------------------------------------------------------ memories
        m.submodules.x = x_memory = Vectors(width=width, tokens=tokens, length=self._max_dim)
        m.submodules.a = a_memory = Vectors(width=width, tokens=tokens, length=self._max_cols)
        # Gains of X lie below, gains of A above, so that the next norm's gains can be loaded while the last norm's are in use.
        gains_of_a = 1 << (self._max_dim // 4 - 1).bit_length()
        gain_depth = gains_of_a + -(-max(self._max_cols, 2 * self._max_head_dim if biases else 0) // 4)
        m.submodules.gains = gain_memory = memory.Memory(shape=4 * width, depth=gain_depth, init=[])
        gain_write, gain_read = gain_memory.write_port(), gain_memory.read_port()
        pairs = 1 << (self._max_head_dim // 2 - 1).bit_length()
        m.submodules.rope_row = rope_memory = memory.Memory(shape=self.rope_load.payload.shape(), depth=tokens * pairs, init=[])
        rope_write, rope_read = rope_memory.write_port(), rope_memory.read_port()
        m.d.comb += [
            self.gain_load.ready.eq(1), gain_write.en.eq(self.gain_load.valid),
            gain_write.data.eq(self.gain_load.payload),
            self.rope_load.ready.eq(1), rope_write.en.eq(self.rope_load.valid),
            rope_write.data.eq(self.rope_load.payload),
        ]
        to_a = Signal()
        for start, write, first in ((control.gain_start, gain_write, Mux(to_a, gains_of_a, 0)),
                                    (self.rope_start, rope_write, own(self.rope_token) * pairs)):
            with m.If(start):
                m.d.sync += write.addr.eq(first)
            with m.Elif(write.en):
                m.d.sync += write.addr.eq(write.addr + 1)

        # ------------------------------------------------------------------ scales of each token
        scales = {}
        # With norms behind linears those of A lie above those of X, which are wanted again.
        depth = 2 << len(Signal(Own)) if norms else max(tokens, 2)
        for name in ("s", "d"):
            m.submodules[f"{name}_of"] = of = memory.Memory(shape=ScaleLayout, depth=depth, init=[])
            scales[name] = of.write_port(), of.read_port(domain="comb")
        (s_write, s_read), (d_write, d_read) = scales["s"], scales["d"]

        # ------------------------------------------------------------------ acc to float
        acc, acc_valid = Signal(layouts.acc, reset_less=True), Signal()
        m.d.sync += [acc.eq(self.acc.payload), acc_valid.eq(self.acc.valid & self.acc.ready)]
        m.d.comb += [
            # Closed only while codes of heads wait.
            self.acc.ready.eq(turned.open),
            *(() if norms else (d_read.addr.eq(own(acc.place.token)),)),
            scale_acc.i.p.acc.eq(acc), scale_acc.i.p.d.eq(d_read.data), scale_acc.i.p.use_d.eq(args.use_d),
            scale_acc.i.valid.eq(acc_valid), scale_acc.o.ready.eq(1),
            dequantise.i.p.acc.eq(scale_acc.o.p.acc), dequantise.i.p.scale.eq(scale_acc.o.p.scale),
            dequantise.i.p.tag.eq(Cat(scale_acc.o.p.place, scale_acc.o.p.bias) if biases else scale_acc.o.p.place),
            dequantise.i.valid.eq(scale_acc.o.valid), dequantise.o.ready.eq(1),
        ]
        if norms:
            m.d.sync += acc.place.index.eq(self.acc.p.place.index + args.first_row)
        # The settings do not change during a pass, and from a cycle before its first element on.
        is_act, is_qkv, is_residual = Signal(), Signal(), Signal()
        m.d.sync += [is_act.eq(args.epilogue == Epilogue.ACT), is_qkv.eq(args.epilogue == Epilogue.QKV),
                     is_residual.eq(args.epilogue == Epilogue.RESIDUAL),
                     # A pass of QKV writes neither vector, and gains of heads lie where those of A do.
                     to_a.eq((args.epilogue == Epilogue.ACT) | (args.epilogue == Epilogue.QKV)
                             | ((args.epilogue == Epilogue.STORE) & args.dest_a))]
        raw, raw_valid, raw_label = dequantise.o.p.y, dequantise.o.valid, data.View(label_layout, dequantise.o.p.tag)
        raw_place = raw_label.place
        element, arrived, place = raw, raw_valid, raw_place
        # An element with a bias, or of a pass with norms on heads, arrives at RoPE or at the activation unit from the adder.
        biased, with_bias, on_heads = Signal(), Signal(), Signal()
        summed_label = data.View(sum_label, adder.o.p.tag)
        if biases:
            m.d.sync += [with_bias.eq(args.bias), on_heads.eq(args.head_gains), biased.eq(
                args.head_gains | (args.bias & ((args.epilogue == Epilogue.ACT) | (args.epilogue == Epilogue.QKV))))]
            element, arrived = Mux(biased, adder.o.p.y, raw), Mux(biased, adder.o.valid, raw_valid)
            place = Signal(place_layout)
            m.d.comb += place.eq(Mux(biased, summed_label.place.as_value(), raw_place.as_value()))

        # ------------------------------------------------------------------ residual, store or bias: X is read two ahead
        # ``entry`` and ``entry2`` hold an element while the memory word with its index is read.
        entry, entry_valid, entry_place = Signal(width, reset_less=True), Signal(), Signal(place_layout, reset_less=True)
        entry2, entry2_valid = Signal(data.StructLayout({"value": width, "label": sum_label}), reset_less=True), Signal()
        # x + -0 is x, signed zeros included.
        addend: Value = Const(fmt.sign_bit, width)
        # What RoPE or the activation unit takes.
        fresh, fresh_place = entry, entry_place
        to_add = Signal()
        addends, addends_valid = Signal(adder.i.payload.shape(), reset_less=True), Signal()
        m.d.comb += [to_add.eq(~is_act & ~is_qkv), adder.i.valid.eq(addends_valid), adder.i.payload.eq(addends)]
        if biases:
            m.d.comb += to_add.eq(biased | (~is_act & ~is_qkv))
            addend = Mux(with_bias, stage.delay(raw_label.bias, 2, "bias"), addend)
            fresh, fresh_place = Signal(width, reset_less=True), Signal(place_layout, reset_less=True)
            m.d.sync += [fresh.eq(Mux(on_heads, gain_mul.o.p.y, element)), fresh_place.eq(place),
                         entry2.label.of_k.eq(entry_place.index >= args.q_rows)]
        m.d.sync += [
            entry_valid.eq(raw_valid & to_add), entry.eq(raw), entry_place.eq(raw_place),
            entry2_valid.eq(entry_valid), entry2.value.eq(entry), entry2.label.place.eq(entry_place),
            addends_valid.eq(entry2_valid), addends.a.eq(entry2.value), addends.tag.eq(entry2.label),
            addends.b.eq(Mux(is_residual, x_memory.read_data, addend)),
        ]

        # ------------------------------------------------------------------ RoPE: cos and sin are read one ahead
        turn_valid, turn_rotate = Signal(), Signal(reset_less=True)
        in_head = Signal(range(self._max_head_dim + 1), reset_less=True)    # from a pass's clear on, as ``head_end``
        # What comes to RoPE: its validity, its number in the head, its token, and whether it is a row of q or k.
        mul_tag = data.View(MulTag, gain_mul.o.p.tag)
        turned_row = place.index < args.rope_rows
        of_rope: list[Value] = [arrived, in_head, own(place.token), turned_row]
        if biases:
            # Elements of heads with norms come from the gains' multiplier, and their numbers are counted a second time there.
            gained, gained_at = Signal(), Signal.like(in_head)
            m.d.comb += gained.eq(gain_mul.o.valid & ~mul_tag.quantising)
            with m.If(control.clear):
                m.d.sync += gained_at.eq(0)
            with m.Elif(gained):
                m.d.sync += gained_at.eq(Mux(gained_at + 1 == self.shape.head_dim, 0, gained_at + 1))
            late = (gained, gained_at, mul_tag.token, mul_tag.turned)
            of_rope = [Mux(on_heads, *pair) for pair in zip(late, of_rope, strict=True)]
        to_turn, turn_at, turn_token, turns = of_rope
        m.d.comb += [
            rope.i.valid.eq(turn_valid), rope.i.p.x.eq(fresh),
            rope.i.p.cos.eq(Mux(turn_rotate, rope_read.data.cos, one)),
            rope.i.p.sin.eq(Mux(turn_rotate, rope_read.data.sin, 0)),
            rope_read.addr.eq(Cat((turn_at >> 1)[:pairs.bit_length() - 1], turn_token if tokens > 1 else Const(0, 0))),
            turned.sent.eq(self.acc.valid & self.acc.ready & is_qkv),
            turned.valid.eq(rope.o.valid), turned.value.eq(rope.o.p.y), rope.o.ready.eq(1),
            head_quantise.i.valid.eq(turned.o.valid), head_quantise.i.payload.eq(turned.o.payload),
            turned.o.ready.eq(head_quantise.i.ready), head_quantise.head_dim.eq(self.shape.head_dim),
        ]
        m.d.sync += [turn_valid.eq(to_turn & is_qkv), turn_rotate.eq(turns)]
        # Token and number of each head go in a queue of their own: at most TURNED / 16 + 1 heads are on their way, four are in
        # their banks, and one is on its way out.
        head_label = data.StructLayout({"token": widths.token_bits, "head": widths.attention_head_bits})
        m.submodules.labels = labels = fifo.SyncFIFO(width=head_label.size, depth=self.LABELS)
        label = data.View(head_label, labels.r_data)
        m.d.comb += [
            self.heads.valid.eq(head_quantise.o.valid), head_quantise.o.ready.eq(self.heads.ready),
            self.heads.p.code.eq(head_quantise.o.p.code), self.heads.p.scale.eq(head_quantise.o.p.scale),
            self.heads.p.last.eq(head_quantise.o.p.last),
            self.heads.p.token.eq(label.token), self.heads.p.head.eq(label.head),
            labels.r_en.eq(self.heads.valid & self.heads.ready & self.heads.p.last),
        ]

        # ------------------------------------------------------------------ who takes the element
        to_act = Signal()
        m.d.sync += to_act.eq(arrived & is_act)
        m.d.comb += [
            activation.i.valid.eq(to_act), activation.i.p.x.eq(fresh),
            activation.i.p.relu2.eq(args.relu2), activation.i.p.act_exp.eq(args.act_exp),
            activation.i.p.tag.eq(Cat(fresh_place.token, fresh_place.index >> 1)),
        ]
        vectors_in, entered = Signal(range(tokens + 1)), Signal(widths.row_count_bits)     # whole tokens' elements, and more
        head_end = Signal(reset_less=True)      # in_head is a head's last element
        in_head_next = Signal.like(in_head)
        m.d.comb += in_head_next.eq(Mux(head_end, 0, in_head + 1))
        with m.If(arrived):
            m.d.sync += [in_head.eq(in_head_next), head_end.eq(in_head_next + 1 == self.shape.head_dim)]
            m.d.sync += entered.eq(entered + 1)
            with m.If(entered + 1 == args.length):
                m.d.sync += [entered.eq(0), vectors_in.eq(vectors_in + 1)]
        # A head's number is one more than the last head's.  Another token begins with the number of this round's first head.
        number, round_first, last_token = (Signal(shape) for shape in (
            widths.attention_head_bits, widths.attention_head_bits, widths.token_bits))
        this, begins, other = Signal.like(number), Signal(), place.token != last_token
        first_own = own(place.token) == 0
        m.d.comb += [
            this.eq(Mux(place.index == 0, 0, Mux(other & ~first_own, round_first, number + 1))),
            begins.eq(arrived & is_qkv & (in_head == 0)),
        ]
        m.d.sync += [labels.w_data.eq(Cat(place.token, this)), labels.w_en.eq(begins)]
        with m.If(begins):
            m.d.sync += [number.eq(this), last_token.eq(place.token)]
            with m.If(first_own & (other | (place.index == 0))):
                m.d.sync += round_first.eq(this)

        # ------------------------------------------------------------------ writing X or A, and the statistics
        # The adder and the activation unit have no back-pressure.
        put, measured, value = Signal(), Signal(), Signal(width)
        summed = adder.o.valid & ~biased if biases else adder.o.valid
        out_place = Signal(place_layout)
        m.d.comb += [
            adder.o.ready.eq(1), activation.o.ready.eq(1),
            put.eq(summed | activation.o.valid),
            value.eq(Mux(activation.o.valid, activation.o.p.y, adder.o.p.y)),
            out_place.eq(Mux(activation.o.valid, activation.o.p.tag, summed_label.place.as_value())),
            x_memory.write_en.eq(put & ~to_a), a_memory.write_en.eq(put & to_a),
            statistics.x_valid.eq(measured), statistics.x.eq(value), statistics.clear.eq(control.clear),
        ]
        # Elements of heads are measured as those of vectors are, head by head in two tokens' places in turn.  A head's sum is
        # read while the next head's is made, which takes longer.
        m.d.comb += [measured.eq(put), statistics.x_token.eq(own(out_place.token))]
        sum_place, sum_done, sum_counts = Signal(), Signal(), Signal()
        if biases:
            with m.If(arrived & head_end):
                m.d.sync += [sum_place.eq(~sum_place), sum_counts.eq(turned_row)]
            with m.If(on_heads):
                m.d.comb += [measured.eq(arrived), statistics.x_token.eq(sum_place), statistics.x_first.eq(in_head == 0)]
            # The sum is final, and a cycle later it is read.
            m.d.comb += sum_done.eq(stage.delay(arrived & head_end & on_heads, Statistics.LATENCY + 1, "sum_done"))

        for kept in (x_memory, a_memory):
            m.d.comb += [kept.write_token.eq(own(out_place.token)), kept.write_index.eq(out_place.index),
                         kept.write_data.eq(value)]

        # ------------------------------------------------------------------ gain: a pass writes, or a quantise reads
        quant = Signal(layouts.quant_args, reset_less=True)
        # Quantise pass: an element's words are being read.
        fetch_valid, fetch_index, fetch_token = Signal(), Signal(widths.col_count_bits), Signal(Own)
        feeding = Signal()
        gain_valid, gain_value, gain_lane, gain_token = Signal(), Signal(width, reset_less=True), Signal(2), Signal(Own)
        quantising = Signal()
        # Whether this cycle's reads are of the quantise pass, and whether those were that reach the factors; in a pass of codes
        # as accumulators only where no element is measured.
        reading: Value = quantising
        read: Value = quantising
        from_x: Value = quantising
        if norms:
            reading, read, from_x = feeding, stage.delay(feeding, 2, "fed"), quantising & ~quant.src_a
            m.d.comb += d_read.addr.eq(Cat(own(acc.place.token), quant.src_a))
        gain = gain_read.data.word_select(gain_lane, width)
        # A register after the slow EBR, as X and A have, and the factors.
        gain_data = stage.reg(gain, "gain_data")
        factors, factors_valid, data_valid = Signal(gain_mul.i.payload.shape(), reset_less=True), Signal(), Signal()
        # A pass of heads multiplies q and k by gains that are counted within the head, k's behind q's.  A head's elements have
        # the same place in a word of four as its rows, because it has a multiple of eight.
        has_gain, gain_index, labels_of_factors = args.stats_gain, out_place.index, [stage.reg(gain_token, "gained_token")]
        if biases:
            turned_late = stage.delay(turned_row, 2, "turned_late")
            has_gain = Mux(on_heads, turned_late, has_gain)
            gain_index = Mux(on_heads, in_head + Mux(summed_label.of_k, self.shape.head_dim, 0), gain_index)
            labels_of_factors.append(turned_late)
        m.d.sync += [
            factors.a.eq(Mux(read, Mux(quant.src_a, a_memory.read_data, x_memory.read_data),
                             stage.reg(gain_value, "gained"))),
            factors.b.eq(Mux(Mux(read, quant.gain, has_gain), gain_data, one)),
            factors.tag.eq(Cat(read, *labels_of_factors)),
            data_valid.eq(fetch_valid | gain_valid if norms else Mux(quantising, fetch_valid, gain_valid)),
            factors_valid.eq(data_valid),
        ]
        m.d.comb += [
            gain_read.addr.eq((Mux(reading, fetch_index, gain_index) >> 2)
                              + Mux(Mux(reading, quant.src_a, to_a), gains_of_a, 0)),
            gain_mul.i.payload.eq(factors), gain_mul.i.valid.eq(factors_valid),
            x_memory.read_token.eq(Mux(from_x, fetch_token, own(raw_place.token))),
            x_memory.read_index.eq(Mux(from_x, fetch_index, raw_place.index)),
            a_memory.read_token.eq(fetch_token), a_memory.read_index.eq(fetch_index),
            statistics.y_valid.eq(gain_mul.o.valid & ~mul_tag.quantising), statistics.y.eq(gain_mul.o.p.y),
            statistics.y_token.eq(mul_tag.token),
        ]
        with m.If(reading):
            m.d.sync += [gain_lane.eq(fetch_index), gain_token.eq(fetch_token)]
            m.d.sync += gain_valid.eq(0) if norms else []
        with m.Else():
            m.d.sync += [gain_lane.eq(out_place.index), gain_token.eq(own(out_place.token)), gain_value.eq(value),
                         gain_valid.eq(measured)]

        # ------------------------------------------------------------------ quantise pass
        token, tokens_left = Signal(Own), Signal.like(quant.tokens)
        m.d.comb += [
            s_read.addr.eq(Cat(mul_tag.token, quant.src_a) if norms else mul_tag.token),
            quantise.i.valid.eq(gain_mul.o.valid & mul_tag.quantising), quantise.i.p.x.eq(gain_mul.o.p.y),
            quantise.i.p.scale.eq(s_read.data),
            gain_mul.o.ready.eq(1), quantise.o.ready.eq(1),
            coded.sent.eq(feeding), coded.valid.eq(quantise.o.valid), coded.value.eq(quantise.o.p.code),
            self.codes.valid.eq(coded.o.valid), self.codes.payload.eq(coded.o.payload), coded.o.ready.eq(self.codes.ready),
            inverse_rms.sumsq.eq(statistics.sumsq), inverse_rms.n_eps.eq(args.n_eps), inverse_rms.sqrt_n.eq(args.sqrt_n),
        ]
        if norms:
            m.d.comb += quantise.i.p.wide.eq(quant.wide)
        # A quantise pass and heads that are quantised share the units for scales: never is one under way beside the other.
        of_pass, of_heads = Signal(), Signal()
        m.d.comb += [
            of_heads.eq(~of_pass),
            statistics.token.eq(Mux(of_pass, token, ~sum_place)),
            absmax_scale.absmax.eq(Mux(of_pass, statistics.absmax, head_quantise.absmax)),
            absmax_scale.floor.eq(Mux(of_heads | quant.norm, absmax_floor(True, fmt), absmax_floor(False, fmt))),
        ]

        # Scales of the tokens, one every SCALE_INTERVAL cycles.  absmax / 127 is there before 1 / rms, and one register more
        # keeps absmax / 127 until 1 / rms comes.
        assert AbsmaxScale.LATENCY <= InverseRms.LATENCY <= AbsmaxScale.LATENCY + SCALE_INTERVAL
        factor: Value = inverse_rms.y.as_value()
        factor_done: Value = inverse_rms.done
        if biases:
            # Of a head, 1 / rms is there first, and waits in a queue until the head has gone through RoPE.  The queue has as many
            # places as that of the labels.  A head of v has the factor 1, which changes no scale.
            assert Statistics.LATENCY + 2 + InverseRms.LATENCY < FloatMul.LATENCY + Rope.LATENCY + AbsmaxScale.LATENCY
            m.submodules.head_factors = head_factors = memory.Memory(shape=ScaleLayout, depth=self.LABELS, init=[])
            factor_write, factor_read = head_factors.write_port(), head_factors.read_port(domain="comb")
            absmax_done = stage.reg(absmax_scale.done & of_heads, "absmax_done")
            # The next head's sum is done later than this head's 1 / rms.
            assert InverseRms.LATENCY < MIN_HEAD_DIM
            counts = Signal()
            with m.If(sum_done):
                m.d.sync += counts.eq(sum_counts)
            m.d.comb += [factor_write.en.eq(inverse_rms.done & of_heads),
                         factor_write.data.eq(Mux(counts, inverse_rms.y.as_value(), ONE.pack()))]
            factor, factor_done = Mux(of_pass, factor, factor_read.data.as_value()), Mux(of_pass, factor_done, absmax_done)
            for port, moves in ((factor_write, factor_write.en), (factor_read, absmax_done)):
                with m.If(control.clear):
                    m.d.sync += port.addr.eq(0)
                with m.Elif(moves):
                    m.d.sync += port.addr.eq(port.addr + 1)
        normed = scale_mul_stages(stage, data.View(ScaleLayout, stage.reg(absmax_scale.d.as_value(), "absmax_d")),
                                  data.View(ScaleLayout, factor))
        normed_done = stage.delay(factor_done, SCALE_MUL_STAGES, "normed_done")
        assert 1 + SCALE_MUL_STAGES <= HeadQuantise.D_LATE
        norm = Mux(of_pass, quant.norm, on_heads)
        scale_d, scale_d_done = Signal(ScaleLayout), Signal()
        m.d.comb += [scale_d.eq(Mux(norm, normed.as_value(), absmax_scale.d.as_value())),
                     scale_d_done.eq(Mux(norm, normed_done, absmax_scale.done)),
                     head_quantise.s.eq(absmax_scale.s), head_quantise.scale_done.eq(absmax_scale.done & of_heads),
                     head_quantise.d.eq(scale_d), head_quantise.d_done.eq(scale_d_done & of_heads)]
        phase, s_token, d_token = Signal(range(SCALE_INTERVAL)), Signal(Own), Signal(Own)
        # Slice by slice: elements slice_first to slice_first + 19, or to the last, of each token.
        more, slice_first, in_slice = Signal(), Signal(widths.col_count_bits), Signal(range(SLICE))
        end = fetch_index + 1 == quant.n
        # Codes of a NORM leave token after token, as heads want it.
        ends_slice = (in_slice == SLICE - 1) | end
        may_feed: Value = coded.open
        if norms:
            ends_slice, may_feed = ((in_slice == SLICE - 1) & ~quant.wide) | end, coded.open & ~measured
        m.d.comb += feeding.eq(quantising & more & may_feed)
        m.d.sync += fetch_valid.eq(feeding)
        with m.If(feeding):
            m.d.sync += [fetch_index.eq(fetch_index + 1), in_slice.eq(in_slice + 1)]
            with m.If(ends_slice):
                m.d.sync += [in_slice.eq(0), tokens_left.eq(tokens_left - 1), fetch_token.eq(fetch_token + 1),
                             fetch_index.eq(slice_first)]
                with m.If(tokens_left == 1):
                    m.d.sync += [tokens_left.eq(quant.tokens), fetch_token.eq(quant.first), fetch_index.eq(fetch_index + 1),
                                 slice_first.eq(fetch_index + 1), more.eq(~end)]
        s_at, d_at = ((Cat(s_token, quant.src_a), Cat(d_token, quant.src_a)) if norms else (s_token, d_token))
        m.d.comb += [s_write.addr.eq(s_at), s_write.data.eq(absmax_scale.s), s_write.en.eq(absmax_scale.done & of_pass),
                     d_write.addr.eq(d_at), d_write.data.eq(scale_d), d_write.en.eq(scale_d_done & of_pass),
                     absmax_scale.start.eq(head_quantise.scale_start), inverse_rms.start.eq(sum_done)]
        with m.If(s_write.en):
            m.d.sync += s_token.eq(s_token + 1)
        with m.If(d_write.en):
            m.d.sync += [self.d.eq(d_write.data), d_token.eq(d_token + 1)]
        if layouts.all_heads:
            m.d.sync += [self.scale.valid.eq(d_write.en), self.scale.token.eq(d_token), self.scale.d.eq(d_write.data)]
        with m.FSM(name="quant_pass") as quant_pass:
            with m.State("IDLE"):
                m.d.comb += control.quant.ready.eq(1)
                m.d.sync += [quantising.eq(0), phase.eq(0), tokens_left.eq(control.quant.p.tokens)]
                m.d.sync += [mine.eq(control.quant.p.first) for mine in (token, s_token, d_token)]
                with m.If(control.quant.valid):
                    m.d.sync += [quant.eq(control.quant.payload), of_pass.eq(1)]
                    m.next = "SCALE"
                    if norms:
                        with m.If(control.quant.p.again):
                            m.d.sync += of_pass.eq(0)
                            m.next = "AGAIN"
            if norms:
                with m.State("AGAIN"):
                    m.d.sync += [quantising.eq(1), more.eq(1), in_slice.eq(0), fetch_index.eq(0), slice_first.eq(0),
                                 fetch_token.eq(quant.first)]
                    m.next = "CODES"
            with m.State("SCALE"):
                m.d.sync += phase.eq(phase + 1)
                # A token's statistics can be read a cycle after the token's number is set.
                m.d.comb += [absmax_scale.start.eq(phase == 1), inverse_rms.start.eq((phase == 1) & quant.norm)]
                with m.If(phase == SCALE_INTERVAL - 1):
                    m.d.sync += [token.eq(token + 1), tokens_left.eq(tokens_left - 1)]
                    # Each token's s is there before its first element, and the last d before the first code.
                    with m.If(tokens_left == 1):
                        m.d.sync += [quantising.eq(1), more.eq(1), in_slice.eq(0), fetch_index.eq(0), slice_first.eq(0),
                                     fetch_token.eq(quant.first), tokens_left.eq(quant.tokens)]
                        m.next = "CODES"
            with m.State("CODES"):
                if norms:
                    # The units for scales are the heads' from the first code on.
                    with m.If(self.codes.valid & self.codes.ready):
                        m.d.sync += of_pass.eq(0)
                with m.If(~more & coded.empty):
                    m.d.sync += [quantising.eq(0), of_pass.eq(0)]
                    m.next = "IDLE"

        # ------------------------------------------------------------------ end of a pass
        # Unless heads is stalled, the last element shows again within the longest unit's latency after it entered, and from
        # memory it is ``gain_mul`` and two registers on either side of it to the statistics.
        flying = Signal(6)
        quiet = Signal()
        m.d.comb += quiet.eq(Mux(is_qkv, head_quantise.empty & turned.empty, ~put))
        settle = max(activation.LATENCY, Rope.LATENCY) + 5
        all_in, ending = Signal(), Signal()
        m.d.comb += [all_in.eq(vectors_in == self.chunk), ending.eq(all_in & ~control.done)]
        with m.If(~ending | ~quiet):
            m.d.sync += flying.eq(0)
        with m.Else():
            m.d.sync += flying.eq(flying + 1)
        with m.If(ending & (flying == settle)):
            m.d.sync += control.done.eq(1)
        with m.If(control.clear):
            m.d.sync += [in_head.eq(0), head_end.eq(0), vectors_in.eq(0), entered.eq(0), control.done.eq(self.chunk == 0)]

        # ------------------------------------------------------------------ CRC and fault
        m.d.comb += self.settling.eq(~quant_pass.ongoing("IDLE") | (ending & (self.chunk != 0)))
        code_out = self.heads.valid & self.heads.ready
        m.d.sync += [
            self.monitor.valid.eq((put & (out_place.token == self.monitor_token))
                                  | (code_out & (self.heads.p.token == self.monitor_token))),
            self.monitor.word.eq(Mux(code_out, self.heads.p.code, value)),
        ]
        m.d.comb += [
            control.nonfinite.eq((dequantise.o.valid & dequantise.o.p.nonfinite)
                              | (adder.o.valid & adder.o.p.nonfinite)
                              | (activation.o.valid & activation.o.p.nonfinite)
                              | (rope.o.valid & rope.o.p.nonfinite)
                              | (gain_mul.o.valid & gain_mul.o.p.nonfinite)),
        ]
        return m
