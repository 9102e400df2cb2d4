# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The sequence of decode attention: for one KV head after another the scales, K, two scans, V, and the sums' way out."""

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.multipliers import GroupBanks
from hw.attention.scatter import LANES
from hw.attention.score_path import row_words
from hw.attention.sum_scale import InverseScale
from hw.lib.layouts import Layouts
from hw.lib.stages import Stages
from hw.lib.types import KvScales

__all__ = ["DecodeSequence"]


class DecodeSequence(wiring.Component):
    """Goes through a token's KV heads: asks for words, numbers the words as they come, and tells each part what to do.

    After ``start`` (a pulse), when ``written`` is high, the following happens for each KV head:

    1. ``keys`` words of scales come, which ``scales`` writes;
    2. ``prepare`` comes for each head of the group;
    3. keys rows of ``words`` words of K come, which ``word`` numbers a cycle later; then a pause until the last score is there;
    4. all scores of the group are named on ``scan`` while ``scan_on`` is set, once for sums and once for weights, each with a
       pause after it;
    5. the rows of V come;
    6. for each head: ``load`` (the head's total), ``step`` until ``normal``, InverseScale.LATENCY + 1 cycles for the scale, and
       while ``draining`` is set the head_dim sums, one in each cycle in which ``taken`` is high.

    ``busy`` is high until the last sum has left.  With shared banks a word stays for as many cycles as the group has heads, one
    cycle for each head; otherwise for one cycle.  ``clear`` is set before a KV head's first score.  ``words`` = head_dim / 4,
    ``keys`` = position + 1 and ``row_offset`` = position * words must not change from two cycles before ``start``.
    """

    #: Until the last K word's score is stored; until the last exponential is counted or weight stored; the last sum.
    SCORES_PAUSE, SCAN_PAUSE, SUMS_PAUSE = 24, 12, 5

    def __init__(self, layouts: Layouts, banks: GroupBanks) -> None:
        self._banks, self._widths = banks, layouts.widths
        w, max_words = layouts.widths, layouts.widths.head_dim // LANES
        g, position = range(banks.groups + 1), w.position_bits
        self._words = max_words
        super().__init__({
            "shape": In(layouts.model_shape), "args": In(layouts.attention_args), "words": In(range(max_words + 1)),
            "keys": In(w.position_count_bits), "row_offset": In(w.word_address_bits), "start": In(1), "written": In(1),
            "busy": Out(1), "read": Out(layouts.read_port),
            "clear": Out(1), "head": Out(range(w.kv_heads)), "prepare": Out(1), "prepare_at": Out(g),
            "scales": Out(data.StructLayout({"en": 1, "key": position, "data": KvScales})),
            "q_addr": Out(range(w.kv_heads * max_words)), "key": Out(w.position_count_bits), "turn": Out(range(banks.groups)),
            "word": Out(row_words(w)),
            "scan_on": Out(1), "scan": Out(data.StructLayout({"weights": 1, "g": g, "key": position})),
            "out_g": Out(g), "load": Out(1), "step": Out(1), "normal": In(1),
            "draining": Out(1), "out_word": Out(range(max_words)), "out_lane": Out(range(LANES)), "out_index": Out(w.row_bits),
            "taken": In(1),
        })

    def _count_words(self, m: Module, phase: tuple[Signal, Signal, Signal], counters: tuple[Signal, Signal],
                     q_row: Signal) -> None:
        """Takes words while a phase lasts, and says which each is; ``counters``: words to come, the word's number in its row."""
        stage = Stages(m)
        in_s, in_k, in_v = phase
        remaining, w_index = counters
        read, key = self.read, self.key
        accepted = read.data.valid & read.data.ready
        if self._banks.shared:
            # A word stays for as many cycles as there are heads in the group.
            g_now: Value = Signal(range(self._banks.groups))
            g_end = g_now + 1 == self.shape.group
            step = read.data.valid & (in_k | in_v)
            with m.If(step):
                m.d.sync += g_now.eq(Mux(g_end, 0, g_now + 1))
            m.d.comb += [read.data.ready.eq(in_s | ((in_k | in_v) & g_end)), self.word.g_last.eq(stage.reg(g_end, "g_last"))]
        else:
            g_now, step = Const(0, 1), accepted
            m.d.comb += [read.data.ready.eq(in_s | in_k | in_v), self.word.g_last.eq(1)]
        row_end = w_index + 1 == self.words
        m.d.comb += [
            self.scales.en.eq(accepted & in_s), self.scales.key.eq(key), self.scales.data.eq(read.data.payload),
            self.q_addr.eq(q_row + w_index), self.turn.eq(g_now),
            self.word.g.eq(self._banks.delay(stage, g_now, 1, "g_now1")),
            *(self.word[name].eq(stage.reg(value, name)) for name, value in (
                ("k", step & in_k), ("v", step & in_v), ("key", key), ("w", w_index), ("first_word", w_index == 0),
                ("row_end", row_end), ("first_key", key == 0))),
        ]
        with m.If(accepted):
            m.d.sync += [remaining.eq(remaining - 1), w_index.eq(Mux(in_s | row_end, 0, w_index + 1))]
            with m.If(in_s | row_end):
                m.d.sync += key.eq(key + 1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape, args, words, read, key = self.shape, self.args, self.words, self.read, self.key
        in_s, in_k, in_v = Signal(), Signal(), Signal()
        # Words of all of a head's keys, and of a row.
        remaining = Signal(range(self._widths.context * self._words + 1))
        w_index = Signal(range(self._words))
        head_q_row = Signal.like(self.q_addr)
        self._count_words(m, (in_s, in_k, in_v), (remaining, w_index), head_q_row)
        k_addr, v_addr, s_addr = (Signal(self._widths.word_address_bits, name=f"{name}_addr") for name in "kvs")
        of_rows = Signal.like(remaining)
        m.d.sync += of_rows.eq(self.row_offset + words if self._banks.shared else self.keys * words)
        pause, ask = Signal(5), read.req.valid
        scan, out_g = self.scan, self.out_g
        with m.FSM(name="attend") as attend:
            m.d.comb += self.busy.eq(~attend.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [self.head.eq(0), self.out_index.eq(0), head_q_row.eq(0), k_addr.eq(args.k_base),
                             v_addr.eq(args.v_base), s_addr.eq(args.s_base)]
                with m.If(self.start):
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(self.written):
                    m.next = "ASK-S"
            with m.State("ASK-S"):
                m.d.comb += [ask.eq(1), read.req.p.addr.eq(s_addr), read.req.p.len.eq(self.keys), self.clear.eq(1)]
                m.d.sync += [remaining.eq(self.keys), key.eq(0), w_index.eq(0), self.prepare_at.eq(0)]
                with m.If(read.req.ready):
                    m.next = "PREPARE"
            with m.State("PREPARE"):
                m.d.comb += self.prepare.eq(1)
                m.d.sync += self.prepare_at.eq(self.prepare_at + 1)
                with m.If(self.prepare_at + 1 == self._banks.groups):
                    m.next = "S"
            with m.State("S"):
                m.d.comb += in_s.eq(remaining != 0)
                with m.If(remaining == 0):
                    m.next = "ASK-K"
            with m.State("ASK-K"):
                m.d.comb += [ask.eq(1), read.req.p.addr.eq(k_addr), read.req.p.len.eq(of_rows)]
                m.d.sync += [remaining.eq(of_rows), key.eq(0), w_index.eq(0), pause.eq(0)]
                with m.If(read.req.ready):
                    m.next = "K"
            with m.State("K"):
                m.d.comb += in_k.eq(remaining != 0)
                with m.If(remaining == 0):
                    m.d.sync += pause.eq(pause + 1)
                    with m.If(pause == self.SCORES_PAUSE):
                        m.next = "ASK-V"
            with m.State("ASK-V"):
                # V is asked for before the scans, so that the port's FIFO fills during the scans.
                m.d.comb += [ask.eq(1), read.req.p.addr.eq(v_addr), read.req.p.len.eq(of_rows)]
                m.d.sync += [remaining.eq(of_rows), key.eq(0), w_index.eq(0), pause.eq(0), scan.g.eq(0), scan.key.eq(0),
                             scan.weights.eq(0)]
                with m.If(read.req.ready):
                    m.next = "SCAN"
            with m.State("SCAN"):
                m.d.comb += self.scan_on.eq(1)
                m.d.sync += [scan.key.eq(scan.key + 1), pause.eq(0)]
                with m.If(scan.key == args.position):
                    m.d.sync += [scan.key.eq(0), scan.g.eq(scan.g + 1)]
                    with m.If(scan.g + 1 == shape.group):
                        m.d.sync += scan.g.eq(0)
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.sync += pause.eq(pause + 1)
                with m.If(pause == self.SCAN_PAUSE):
                    m.d.sync += [scan.weights.eq(1), pause.eq(0)]
                    m.next = "SCAN"
                    with m.If(scan.weights):
                        m.next = "V"
            with m.State("V"):
                m.d.comb += in_v.eq(remaining != 0)
                with m.If(remaining == 0):
                    m.d.sync += pause.eq(pause + 1)
                    with m.If(pause == self.SUMS_PAUSE):
                        m.d.sync += out_g.eq(0)
                        m.next = "TOTAL"
            with m.State("TOTAL"):
                m.d.comb += self.load.eq(1)
                m.next = "SHIFT"
            with m.State("SHIFT"):
                m.d.comb += self.step.eq(1)
                with m.If(self.normal):
                    m.d.sync += pause.eq(0)
                    m.next = "SCALE"
            with m.State("SCALE"):
                m.d.sync += [pause.eq(pause + 1), self.out_word.eq(0), self.out_lane.eq(0)]
                with m.If(pause == InverseScale.LATENCY):
                    m.next = "OUT"
            with m.State("OUT"):
                m.d.comb += self.draining.eq(1)
                with m.If(self.taken):
                    m.d.sync += [self.out_lane.eq(self.out_lane + 1), self.out_index.eq(self.out_index + 1)]
                    with m.If(self.out_lane == 3):
                        m.d.sync += self.out_word.eq(self.out_word + 1)
                        with m.If(self.out_word + 1 == words):
                            m.d.sync += out_g.eq(out_g + 1)
                            m.next = "TOTAL"
                            with m.If(out_g + 1 == shape.group):
                                m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += [self.head.eq(self.head + 1), head_q_row.eq(head_q_row + words), k_addr.eq(k_addr + shape.kv_stride),
                             v_addr.eq(v_addr + shape.kv_stride), s_addr.eq(s_addr + shape.s_stride)]
                m.next = "ASK-S"
                with m.If(self.head + 1 == shape.kv_heads):
                    m.next = "IDLE"
        return m
