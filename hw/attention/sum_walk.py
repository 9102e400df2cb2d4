# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A slot's sums on their way out of prefill attention: from PE after PE to the landing, and from there to ``acc``."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.sum_scale import SumScale
from hw.lib.layouts import Layouts
from hw.lib.stages import Stages
from hw.lib.streams import Landing
from hw.lib.types import ScaleLayout

__all__ = ["SumOut", "SumWalk"]


class SumWalk(wiring.Component):
    """Sends the sums of a slot's PEs to the landing: PE 0 (with ``runs`` ``first_pe``) to last_pe, each ``words`` words of
    ``lanes``, the first word first.

    ``start`` (a pulse, one cycle after the slot's last V word came) begins; after turns + 2 cycles, when the last word has
    reached the last PE, ``drain`` and ``send`` (with ``send_turn``, for :class:`hw.attention.pe_column.PeColumn`) take a sum a
    cycle, except for a cycle between turns.  A word's sums stay together; a word begins only while the landing
    (``landing_open``) has room.  ``hold_scale`` is high until a PE's statistics can be read, ``stat_read`` from then on.
    ``idle``: all sums have left this unit and the unit after it (``out_idle``).  ``pairs`` (1 to pes), the number of PEs in
    work, is read while idle; ``last_pe`` is pairs - 1 from then on.  So is ``first_pe``, up to last_pe.  Its first sum waits as
    many cycles as its turn is behind turn 0, and so is not earlier at the landing than one of turn 0 would be.
    """

    def __init__(self, *, pes: int, exp_units: int, lanes: int, words: int, runs: bool = False) -> None:
        self._runs = runs
        self._pes, self._units, self._turns, self._lanes, self._words = pes, exp_units, pes // exp_units, lanes, words
        super().__init__({
            "start": In(1), "idle": Out(1), "words": In(range(words + 1)), "pairs": In(range(pes + 1)),
            "last_pe": Out(range(pes)),
            "drain": Out(data.StructLayout({"on": 1, "pe": range(pes), "clear": 1, "shift": 1, "word": range(words)})),
            "send": Out(1), "send_turn": Out(range(pes)), "walking": In(1), "landing_open": In(1), "out_idle": In(1),
            "stat_read": Out(1), "hold_scale": Out(1), **({"first_pe": In(range(pes))} if runs else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        turns, lanes, drain, send = self._turns, self._lanes, self.drain, self.send
        unit_bits = (self._units - 1).bit_length()
        issuing, lane, gap, last_pe = Signal(), Signal(range(lanes)), Signal(), self.last_pe
        settled = stage.reg(drain.on, "settled")
        m.d.comb += [send.eq((lane != 0) | (issuing & settled & self.landing_open & ~gap)),
                     drain.shift.eq(send & (lane != lanes - 1)),
                     self.send_turn.eq(stage.reg(drain.pe >> unit_bits, "send_turn"))]
        last_word, at_last_pe = (stage.reg(v, n) for v, n in (
            (drain.word + 1 == self.words, "last_word"), (drain.pe == last_pe, "at_last_pe")))
        # The way is a cycle shorter from the next turn on, which therefore waits for one, and shows nothing meanwhile.
        of_turn_last = drain.pe[:unit_bits].all() if unit_bits else 1
        m.d.sync += [drain.clear.eq(send & (lane == lanes - 2) & last_word & of_turn_last), gap.eq(drain.clear)]
        with m.If(send):
            m.d.sync += lane.eq(lane + 1)
            with m.If(lane == lanes - 2):
                # What follows is read beside the word's last sum.
                m.d.sync += drain.word.eq(drain.word + 1)
                with m.If(last_word):
                    m.d.sync += [drain.word.eq(0), drain.pe.eq(drain.pe + 1), issuing.eq(~at_last_pe)]
        first_pe: Value | int = self.first_pe if self._runs else 0
        pause = Signal(range(turns + 2))
        with m.FSM(name="drain"):
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [pause.eq(turns + 1), drain.pe.eq(first_pe), drain.word.eq(0), last_pe.eq(self.pairs - 1),
                             self.stat_read.eq(0)]
                with m.If(self.start):
                    m.next = "PAUSE"
            with m.State("PAUSE"):
                # Until the last PE's sums are there.
                m.d.sync += pause.eq(pause - 1)
                # The softmax units' sums are there in the sixth cycle after the last word came.
                m.d.sync += self.stat_read.eq(pause <= turns - 2)
                with m.If(pause > turns - 3):
                    m.d.comb += self.hold_scale.eq(1)
                with m.If(pause == 0):
                    m.d.sync += [drain.on.eq(1), issuing.eq(1)]
                    m.next = "OUT"
                    if self._runs:
                        m.d.sync += [issuing.eq(0), pause.eq(drain.pe >> unit_bits)]
                        m.next = "CLEAR"
            if self._runs:
                with m.State("CLEAR"):
                    # Until nothing that earlier turns showed can meet the first sum, which sets out behind them.
                    m.d.sync += pause.eq(pause - 1)
                    with m.If(pause == 0):
                        m.d.sync += issuing.eq(1)
                        m.next = "OUT"
            with m.State("OUT"):
                # PEs show sums of their own again when the last one has passed them.
                with m.If(~issuing & (lane == 0) & ~self.walking):
                    m.d.sync += drain.on.eq(0)
                with m.If(~drain.on & self.out_idle):
                    m.next = "IDLE"
        return m


class SumOut(wiring.Component):
    """The end of the walk: gives each sum its PE's scale, its token and its index, and hands it over on ``acc``.

    In a core with several slots of sequences (``layouts.runs``) ``chunk`` is the number of the run's last token plus one, and a
    slot's first PE is ``first_pe``, else PE 0.

    Sums come in the order of :class:`SumWalk`: ``sent`` when one sets out, ``came`` when it is here; ``open`` while there is
    room for a word more.  ``scale_pe`` is the PE whose total and exponent are shown to a
    :class:`hw.attention.sum_scale.SumScale`; ``scale`` is right SumScale.LATENCY cycles after scale_pe changed or ``hold_scale``
    fell; a PE's first sum waits for it.

    ``restart`` (while the whole unit is idle) goes to token chunk - 1 and query head 0.  ``clear`` (while no sum is under way)
    goes to the slot's first PE, with ``ends_head`` (the slot is its KV head's last).  ``last_pe`` must not change while
    ``clear`` is low.

    Order: pair after pair, a token's ``group`` heads in order, then the token before; index = (query head * words + word) *
    lanes + lane.  After a KV head's last pair, the next KV head's ``group_words`` = group * words words begin.  ``idle``: no sum
    is here or on its way.  Rate: a sum per cycle.
    """

    def __init__(self, layouts: Layouts, *, pes: int, lanes: int, words: int, depth: int) -> None:
        self._widths = w = layouts.widths
        self._runs = layouts.runs
        self._pes, self._lanes, self._words, self._depth = pes, lanes, words, depth
        super().__init__({
            "chunk": In(w.token_count_bits), "group": In(w.group_bits), "words": In(range(words + 1)),
            "group_words": In(range(w.group * words + 1)),
            "restart": In(1), "clear": In(1), "last_pe": In(range(pes)), "ends_head": In(1), "hold_scale": In(1),
            "scale_pe": Out(range(pes)), "scale": In(ScaleLayout),
            "sent": In(1), "open": Out(1), "came": In(data.StructLayout({"on": 1, "sum": w.attention_sum_bits})),
            "acc": Out(stream.Signature(layouts.acc)), "idle": Out(1),
            **({"first_pe": In(range(pes))} if layouts.runs else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        words, lanes, widths, sum_bits = self.words, self._lanes, self._widths, self._widths.attention_sum_bits
        m.submodules.landing = landing = Landing(sum_bits, depth=self._depth, burst=lanes)
        m.d.comb += [landing.sent.eq(self.sent), landing.valid.eq(self.came.on), landing.value.eq(self.came.sum),
                     self.open.eq(landing.open)]
        scale_left = Signal(range(16))
        with m.If(scale_left != 0):
            m.d.sync += scale_left.eq(scale_left - 1)
        out_acc, out_valid, out_index = Signal(sum_bits, reset_less=True), Signal(), Signal(widths.row_bits)
        out_scale, out_token = Signal(ScaleLayout), Signal(widths.token_bits)
        ends_head = Signal()
        pe, word, lane = Signal(range(self._pes)), Signal(range(self._words)), Signal(range(lanes))
        # The next one is its PE's first, and wants its scale.
        first_sum = Signal()
        # Where the pair that leaves belongs, and the KV head's first query head.
        word_bits = widths.row_bits - (lanes - 1).bit_length()
        token, first_word, top_word, g = (Signal(shape) for shape in (
            widths.token_bits, word_bits, word_bits, range(max(widths.group, 2))))
        # What stands still in the cycle before a word's last sum is loaded.
        word_ends, pe_ends, g_ends = (stage.reg(v, n) for v, n in (
            (word + 1 == words, "word_ends"), (pe == self.last_pe, "pe_ends"), (g + 1 == self.group, "g_ends")))
        scaled = stage.reg(scale_left <= 1, "scaled")
        load = landing.o.valid & (~out_valid | self.acc.ready) & (~first_sum | scaled)
        m.d.comb += [
            landing.o.ready.eq(load), self.acc.valid.eq(out_valid), self.acc.p.acc.eq(out_acc.as_signed()),
            self.acc.p.scale.eq(out_scale), self.acc.p.place.token.eq(out_token), self.acc.p.place.index.eq(out_index),
            self.idle.eq(landing.empty & ~out_valid),
        ]
        with m.If(self.acc.ready):
            m.d.sync += out_valid.eq(0)
        with m.If(load):
            m.d.sync += [out_acc.eq(landing.o.payload), out_valid.eq(1), out_token.eq(token),
                         out_index.eq(Cat(lane, first_word + word)), lane.eq(lane + 1), first_sum.eq(0)]
            with m.If(first_sum):
                # The next PE's scale is worked out while this one's sums leave.
                m.d.sync += [out_scale.eq(self.scale), self.scale_pe.eq(self.scale_pe + 1), scale_left.eq(SumScale.LATENCY)]
            with m.If(lane == lanes - 1):
                m.d.sync += word.eq(word + 1)
                with m.If(word_ends):
                    m.d.sync += [word.eq(0), pe.eq(pe + 1), first_sum.eq(1), g.eq(g + 1), first_word.eq(first_word + words)]
                    with m.If(g_ends):
                        m.d.sync += [g.eq(0), token.eq(token - 1), first_word.eq(top_word)]
                    with m.If(pe_ends & ends_head):
                        m.d.sync += [g.eq(0), token.eq(self.chunk - 1), top_word.eq(top_word + self.group_words),
                                     first_word.eq(top_word + self.group_words)]
        first_pe: Value | int = self.first_pe if self._runs else 0
        with m.If(self.clear):
            m.d.sync += [pe.eq(first_pe), word.eq(0), first_sum.eq(1), self.scale_pe.eq(first_pe),
                         scale_left.eq(SumScale.LATENCY), ends_head.eq(self.ends_head)]
            with m.If(self.restart):
                m.d.sync += [g.eq(0), token.eq(self.chunk - 1), top_word.eq(0), first_word.eq(0)]
        with m.If(self.hold_scale):
            m.d.sync += scale_left.eq(SumScale.LATENCY)
        return m
