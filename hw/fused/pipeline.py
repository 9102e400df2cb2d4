# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The fused elementwise pipeline: from accumulators to vectors with their statistics, and on to int8 codes."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.fused.activation import Activation
from hw.fused.arithmetic import Dequantise, FloatAdd, FloatMul, Quantise
from hw.fused.head_quantise import HeadCodes, HeadQuantise
from hw.fused.rope import Rope
from hw.fused.scales import SCALE_MUL_STAGES, AbsmaxScale, InverseRms, ScaleAcc, scale_mul_stages
from hw.fused.stage import Skid
from hw.fused.statistics import Statistics
from hw.types import AccLayout, MonitorLayout, QuantLayout, ScaleLayout
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.program import Epilogue
from tellme.spec.scale import absmax_floor

__all__ = ["FusedPipeline"]


class FusedPipeline(wiring.Component):
    """Two kinds of pass over one vector memory X (the residual) and one A (attention output, activation).

    A pass of accumulators: element = dequantise(acc, scale), the scale times d where ``use_d``; then by ``epilogue``

    - STORE: written to X, or to A where ``dest_a``;
    - RESIDUAL: X[i] = X[i] + element;
    - ACT: A[i] = f(gate) * up of pairs (``act_relu2``, ``act_exp``);
    - QKV: rows below ``rope_rows`` turned, then int8 codes a head on ``heads``.

    What is written to X or A enters the statistics on its way: the sum of squares, and absmax of the element, or of
    round(element * gain[i]) where ``stats_gain``.  ``clear`` (a pulse) precedes each pass; ``done`` (a pulse) follows when
    the element marked ``last`` is written and the statistics are final, or its head's last code is delivered.

    A quantise pass: ``quant`` names source, gain, norm and length; s and d are computed from the statistics of the last
    pass, then the codes round(x * s) leave on ``codes``, ``d`` holds until the next.

    Each pass moves one element a cycle; any sink may stall it.  ``monitor`` shows every element written, or head code,
    for the step's CRC; ``nonfinite`` is a strobe; ``settling`` marks quantise passes and the end of the others.  Gains
    and the RoPE row are loaded through ``gain_load`` (four a word) and ``rope_load`` (cos, sin), from element 0 after
    ``gain_start``, ``rope_start``; gains are those of the vector that the settings name, X or A, and may come in, as may
    ``clear``, while the other vector is quantised, from its first code on.

    Nothing in here touches the SDRAM.  Maps to 13 multipliers and some 14 EBR at max_dim 512, max_cols 1280.
    """

    def __init__(self, *, fmt: FloatFormat = BINARY16, max_dim: int, max_cols: int, max_head_dim: int):
        self._fmt = fmt
        self._max_dim, self._max_cols, self._max_head_dim = max_dim, max_cols, max_head_dim
        super().__init__({
            "acc": In(stream.Signature(AccLayout)), "epilogue": In(Epilogue), "dest_a": In(1), "use_d": In(1),
            "act_relu2": In(1), "act_exp": In(signed(8)), "head_dim": In(8), "rope_rows": In(16),
            "stats_gain": In(1), "clear": In(1), "done": Out(1),
            "heads": Out(stream.Signature(HeadCodes)),
            "quant": In(stream.Signature(QuantLayout)), "codes": Out(stream.Signature(signed(8))),
            "d": Out(ScaleLayout),
            "gain_load": In(stream.Signature(64)), "gain_start": In(1),
            "rope_load": In(stream.Signature(32)), "rope_start": In(1),
            "monitor": Out(MonitorLayout), "nonfinite": Out(1), "settling": Out(1),
        })

    def elaborate(self, platform):
        m, fmt = Module(), self._fmt
        width = fmt.width
        one = fmt.bias << fmt.frac_bits
        m.submodules.scale_acc = scale_acc = ScaleAcc()
        m.submodules.dequantise = dequantise = Dequantise(fmt)
        # Skids cut the chain of readys: ahead of the scales, behind dequantise and RoPE, and ahead of whoever takes codes.
        m.submodules.acc_skid = acc_skid = Skid(AccLayout)
        m.submodules.element_skid = element_skid = Skid(dequantise.o.payload.shape())
        m.submodules.turned_skid = turned_skid = Skid(width)
        m.submodules.code_skid = code_skid = Skid(signed(8))
        m.submodules.residual = adder = FloatAdd(fmt)
        m.submodules.activation = activation = Activation(fmt)
        m.submodules.rope = rope = Rope(fmt)
        m.submodules.head_quantise = head_quantise = HeadQuantise(fmt, max_head_dim=self._max_head_dim)
        m.submodules.gain_mul = gain_mul = FloatMul(fmt)
        m.submodules.statistics = statistics = Statistics(fmt)
        m.submodules.absmax_scale = absmax_scale = AbsmaxScale(fmt)
        m.submodules.inverse_rms = inverse_rms = InverseRms()
        m.submodules.quantise = quantise = Quantise(fmt)

        # ------------------------------------------------------------------ memories
        m.submodules.x = x_memory = memory.Memory(shape=width, depth=self._max_dim, init=[])
        m.submodules.a = a_memory = memory.Memory(shape=width, depth=self._max_cols, init=[])
        x_write, x_read = x_memory.write_port(), x_memory.read_port()
        a_write, a_read = a_memory.write_port(), a_memory.read_port()
        # Gains of X lie below, those of A above, so that the next norm's come in while the last one's are in use.
        gains_of_a = 1 << (self._max_dim // 4 - 1).bit_length()
        gain_depth = gains_of_a + -(-self._max_cols // 4)
        m.submodules.gains = gain_memory = memory.Memory(shape=4 * width, depth=gain_depth, init=[])
        gain_write, gain_read = gain_memory.write_port(), gain_memory.read_port()
        pairs = self._max_head_dim // 2
        m.submodules.rope_row = rope_memory = memory.Memory(shape=2 * width, depth=pairs, init=[])
        rope_write, rope_read = rope_memory.write_port(), rope_memory.read_port()
        m.d.comb += [
            self.gain_load.ready.eq(1), gain_write.en.eq(self.gain_load.valid),
            gain_write.data.eq(self.gain_load.payload),
            self.rope_load.ready.eq(1), rope_write.en.eq(self.rope_load.valid),
            rope_write.data.eq(self.rope_load.payload),
        ]
        to_a = Signal()
        for start, write, first in ((self.gain_start, gain_write, Mux(to_a, gains_of_a, 0)),
                                    (self.rope_start, rope_write, 0)):
            with m.If(start):
                m.d.sync += write.addr.eq(first)
            with m.Elif(write.en):
                m.d.sync += write.addr.eq(write.addr + 1)

        # ------------------------------------------------------------------ acc to float
        m.d.comb += [
            acc_skid.i.payload.eq(self.acc.payload), acc_skid.i.valid.eq(self.acc.valid),
            self.acc.ready.eq(acc_skid.i.ready),
            scale_acc.i.p.acc.eq(acc_skid.o.payload), scale_acc.i.p.d.eq(self.d), scale_acc.i.p.use_d.eq(self.use_d),
            scale_acc.i.valid.eq(acc_skid.o.valid), acc_skid.o.ready.eq(scale_acc.i.ready),
            element_skid.i.payload.eq(dequantise.o.payload), element_skid.i.valid.eq(dequantise.o.valid),
            dequantise.o.ready.eq(element_skid.i.ready),
            dequantise.i.p.acc.eq(scale_acc.o.p.acc), dequantise.i.p.scale.eq(scale_acc.o.p.scale),
            dequantise.i.p.tag.eq(scale_acc.o.p.last),
            dequantise.i.valid.eq(scale_acc.o.valid), scale_acc.o.ready.eq(dequantise.i.ready),
        ]
        # The settings stand still during a pass, and from a cycle before its first element on.
        is_act, is_qkv, is_residual = Signal(), Signal(), Signal()
        m.d.sync += [is_act.eq(self.epilogue == Epilogue.ACT), is_qkv.eq(self.epilogue == Epilogue.QKV),
                     is_residual.eq(self.epilogue == Epilogue.RESIDUAL),
                     to_a.eq((self.epilogue == Epilogue.ACT) | ((self.epilogue == Epilogue.STORE) & self.dest_a))]
        element = element_skid.o.p.y

        # ------------------------------------------------------------------ residual or store: X is read one ahead
        # ``entry`` holds an element while the memory word with its index is read.
        entry, entry_valid, entry_last = Signal(width), Signal(), Signal()
        index = Signal(16)          # of the element that enters
        to_add = Signal()
        m.d.comb += [
            to_add.eq(~is_act & ~is_qkv),
            adder.i.valid.eq(entry_valid), adder.i.p.a.eq(entry),
            # x + -0 is x, signed zeros included.
            adder.i.p.b.eq(Mux(is_residual, x_read.data, fmt.sign_bit)),
            adder.i.p.tag.eq(entry_last),
        ]
        entry_free = ~entry_valid | adder.i.ready
        with m.If(entry_free):
            m.d.sync += [entry_valid.eq(element_skid.o.valid & to_add), entry.eq(element),
                         entry_last.eq(element_skid.o.p.tag)]

        # ------------------------------------------------------------------ RoPE: cos and sin are read one ahead
        turn, turn_valid, turn_rotate = Signal(width), Signal(), Signal()
        in_head = Signal(8)
        m.d.comb += [
            rope.i.valid.eq(turn_valid), rope.i.p.x.eq(turn),
            rope.i.p.cos.eq(Mux(turn_rotate, rope_read.data[:width], one)),
            rope.i.p.sin.eq(Mux(turn_rotate, rope_read.data[width:], 0)),
            rope_read.addr.eq(in_head >> 1), rope_read.en.eq(~turn_valid | rope.i.ready),
            turned_skid.i.valid.eq(rope.o.valid), turned_skid.i.payload.eq(rope.o.p.y),
            rope.o.ready.eq(turned_skid.i.ready),
            head_quantise.i.valid.eq(turned_skid.o.valid), head_quantise.i.payload.eq(turned_skid.o.payload),
            turned_skid.o.ready.eq(head_quantise.i.ready), head_quantise.head_dim.eq(self.head_dim),
        ]
        with m.If(~turn_valid | rope.i.ready):
            m.d.sync += [turn_valid.eq(element_skid.o.valid & is_qkv), turn.eq(element),
                         turn_rotate.eq(index < self.rope_rows)]
        wiring.connect(m, head_quantise.o, wiring.flipped(self.heads))

        # ------------------------------------------------------------------ who takes the element
        m.d.comb += [
            activation.i.valid.eq(element_skid.o.valid & is_act), activation.i.p.x.eq(element),
            activation.i.p.relu2.eq(self.act_relu2), activation.i.p.act_exp.eq(self.act_exp),
            element_skid.o.ready.eq(Mux(is_act, activation.i.ready,
                                      Mux(is_qkv, ~turn_valid | rope.i.ready, entry_free))),
        ]
        took = element_skid.o.valid & element_skid.o.ready
        last_in = Signal()          # the element marked last has entered
        head_end = Signal()         # in_head is a head's last element
        in_head_next = Signal.like(in_head)
        m.d.comb += in_head_next.eq(Mux(head_end, 0, in_head + 1))
        with m.If(took):
            m.d.sync += [index.eq(index + 1), in_head.eq(in_head_next), head_end.eq(in_head_next + 1 == self.head_dim)]
            with m.If(element_skid.o.p.tag):
                m.d.sync += last_in.eq(1)

        # ------------------------------------------------------------------ writing X or A, and the statistics
        # Elements leave the adder or the activation unit without back-pressure.
        put, value = Signal(), Signal(width)
        out_index = Signal(13)
        m.d.comb += [
            adder.o.ready.eq(1), activation.o.ready.eq(1),
            put.eq(adder.o.valid | activation.o.valid),
            value.eq(Mux(adder.o.valid, adder.o.p.y, activation.o.p.y)),
            x_write.addr.eq(out_index), x_write.data.eq(value), x_write.en.eq(put & ~to_a),
            a_write.addr.eq(out_index), a_write.data.eq(value), a_write.en.eq(put & to_a),
            statistics.x_valid.eq(put), statistics.x.eq(value), statistics.clear.eq(self.clear),
        ]
        with m.If(put):
            m.d.sync += out_index.eq(out_index + 1)

        # ------------------------------------------------------------------ gain: a pass writes, or a quantise reads
        quant = Signal(QuantLayout)
        fetch_valid, fetch_index = Signal(), Signal(13)     # quantise pass: an element's words are being read
        feeding = Signal()
        gain_valid, gain_value, gain_lane = Signal(), Signal(width), Signal(2)
        quantising = Signal()
        gain = gain_read.data.word_select(gain_lane, width)
        # A register behind the slow EBR.
        factors, factors_valid, factors_free = Signal(gain_mul.i.payload.shape()), Signal(), Signal()
        with m.If(factors_free):
            m.d.sync += [
                factors.a.eq(Mux(quantising, Mux(quant.src_a, a_read.data, x_read.data), gain_value)),
                factors.b.eq(Mux(Mux(quantising, quant.gain, self.stats_gain), gain, one)),
                factors.tag.eq(quantising),
                factors_valid.eq(Mux(quantising, fetch_valid, gain_valid)),
            ]
        m.d.comb += [
            gain_read.addr.eq((Mux(quantising, fetch_index, out_index) >> 2)
                              + Mux(Mux(quantising, quant.src_a, to_a), gains_of_a, 0)),
            gain_mul.i.payload.eq(factors), gain_mul.i.valid.eq(factors_valid),
            factors_free.eq(~factors_valid | gain_mul.i.ready),
            x_read.addr.eq(Mux(quantising, fetch_index, index)), a_read.addr.eq(fetch_index),
            x_read.en.eq(Mux(quantising, feeding, entry_free)), a_read.en.eq(feeding),
            gain_read.en.eq(Mux(quantising, feeding, 1)),
            statistics.y_valid.eq(gain_mul.o.valid & ~gain_mul.o.p.tag), statistics.y.eq(gain_mul.o.p.y),
        ]
        with m.If(quantising):
            with m.If(feeding):
                m.d.sync += gain_lane.eq(fetch_index)
        with m.Else():
            m.d.sync += [gain_lane.eq(out_index), gain_value.eq(value), gain_valid.eq(put)]

        # ------------------------------------------------------------------ quantise pass
        s = Signal(ScaleLayout)
        sent = Signal(13)
        m.d.comb += [
            quantise.i.valid.eq(gain_mul.o.valid & gain_mul.o.p.tag), quantise.i.p.x.eq(gain_mul.o.p.y),
            quantise.i.p.scale.eq(s),
            gain_mul.o.ready.eq(~gain_mul.o.p.tag | quantise.i.ready),
            code_skid.i.valid.eq(quantise.o.valid), code_skid.i.payload.eq(quantise.o.p.code),
            quantise.o.ready.eq(code_skid.i.ready),
            self.codes.valid.eq(code_skid.o.valid), self.codes.payload.eq(code_skid.o.payload),
            code_skid.o.ready.eq(self.codes.ready),
            absmax_scale.absmax.eq(statistics.absmax),
            absmax_scale.floor.eq(Mux(quant.norm, absmax_floor(True, fmt), absmax_floor(False, fmt))),
            inverse_rms.sumsq.eq(statistics.sumsq), inverse_rms.n_eps.eq(quant.n_eps),
            inverse_rms.sqrt_n.eq(quant.sqrt_n),
        ]

        def register(value, name):
            signal = Signal(value.shape(), name=name)
            m.d.sync += signal.eq(value)
            return signal

        normed = scale_mul_stages(m, register, absmax_scale.d, inverse_rms.y)
        wait = Signal(range(SCALE_MUL_STAGES + 2))
        m.d.comb += feeding.eq(quantising & (sent != 0) & (~fetch_valid | factors_free))
        with m.If(quantising & (~fetch_valid | factors_free)):
            m.d.sync += fetch_valid.eq(feeding)
        with m.If(feeding):
            m.d.sync += [fetch_index.eq(fetch_index + 1), sent.eq(sent - 1)]
        left = Signal(13)
        with m.FSM(name="quant_pass") as quant_pass:
            with m.State("IDLE"):
                m.d.comb += self.quant.ready.eq(1)
                m.d.sync += [wait.eq(0), quantising.eq(0)]
                with m.If(self.quant.valid):
                    m.d.sync += [quant.eq(self.quant.payload), left.eq(self.quant.p.n)]
                    m.next = "SCALE"
            with m.State("SCALE"):
                m.d.comb += [absmax_scale.start.eq(1), inverse_rms.start.eq(quant.norm)]
                m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(Mux(quant.norm, inverse_rms.done, absmax_scale.done)):
                    m.next = "NORMED"
            with m.State("NORMED"):
                # The product of the two scales; absmax is done long before 1 / rms.
                m.d.sync += wait.eq(wait + 1)
                with m.If(wait == SCALE_MUL_STAGES + 1):
                    m.d.sync += [self.d.eq(Mux(quant.norm, normed.as_value(), absmax_scale.d.as_value())),
                                 s.eq(absmax_scale.s), quantising.eq(1), sent.eq(quant.n), fetch_index.eq(0)]
                    m.next = "CODES"
            with m.State("CODES"):
                with m.If(self.codes.valid & self.codes.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.d.sync += quantising.eq(0)
                        m.next = "IDLE"

        # ------------------------------------------------------------------ end of a pass
        # After the last element entered, everything in flight leaves within a bounded time unless heads is stalled.
        flying = Signal(6)
        quiet = Signal()
        m.d.comb += quiet.eq(Mux(is_qkv, head_quantise.empty & ~rope.o.valid & ~turned_skid.o.valid & ~turn_valid, ~put))
        settle = 48
        with m.If(~last_in):
            m.d.sync += flying.eq(0)
        with m.Elif(~quiet):
            m.d.sync += flying.eq(0)
        with m.Else():
            m.d.sync += flying.eq(flying + 1)
        with m.If(last_in & (flying == settle)):
            m.d.comb += self.done.eq(1)
            m.d.sync += last_in.eq(0)
        with m.If(self.clear):
            m.d.sync += [index.eq(0), in_head.eq(0), head_end.eq(0), out_index.eq(0), last_in.eq(0)]

        # ------------------------------------------------------------------ CRC and fault
        m.d.comb += self.settling.eq(~quant_pass.ongoing("IDLE") | last_in)
        code_out = self.heads.valid & self.heads.ready
        m.d.comb += [
            self.monitor.valid.eq(put | code_out), self.monitor.word.eq(Mux(code_out, self.heads.p.code, value)),
            self.nonfinite.eq((dequantise.o.valid & dequantise.o.p.nonfinite)
                              | (adder.o.valid & adder.o.p.nonfinite)
                              | (activation.o.valid & activation.o.p.nonfinite)
                              | (rope.o.valid & rope.o.p.nonfinite)
                              | (gain_mul.o.valid & gain_mul.o.p.nonfinite)),
        ]
        return m
