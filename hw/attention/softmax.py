# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scores and weights of attention: the score's arithmetic, and a unit that serves query PEs in turn."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.scales import SCALE_MUL_STAGES, scale_mul_stages
from hw.lib.stages import Stages
from hw.lib.types import ScaleLayout
from tellme.spec.attention import SCORE_BITS, SCORE_FRAC, SUM_FRAC

__all__ = ["BACK_BITS", "EXPONENT_BITS", "SCORE_STAGES", "WEIGHT_BITS", "SoftmaxUnit", "score_stages"]

#: Registers of :func:`score_stages`.
SCORE_STAGES = 5
#: Unsigned bits of a weight.
WEIGHT_BITS = 16
#: How many positions a token lies before the last one of its chunk.
BACK_BITS = 4
#: The largest exponent of a row: that of a stored scale less up to 511.
EXPONENT_BITS = 11


def score_stages(stage: Stages, dot: Value, ds: data.View) -> Value:
    """score(dot, ds) (spec: attention), SCORE_STAGES of ``stage`` later."""
    m = stage.m
    product1 = stage.reg(dot * ds.sig, "score_product")
    down1 = stage.reg(-(ds.exp + SCORE_FRAC), "score_down")
    # Right: one place less, then half up.  Left: what passes 18 bits saturates.
    width = len(product1)
    amount = Signal(range(width + 1))
    m.d.comb += amount.eq(Mux(down1 > width, width, (down1 - 1)[:len(amount)]))
    lift = Signal(5)
    m.d.comb += lift.eq(Mux(down1 < -SCORE_BITS, SCORE_BITS, -down1))
    product2, amount2, lift2 = (stage.reg(v, n) for v, n in ((product1, "score_product2"), (amount, "amount2"),
                                                            (lift, "lift2")))
    moved3 = stage.reg(product2 >> amount2, "moved3")
    lifted = Signal(signed(width + SCORE_BITS))
    m.d.comb += lifted.eq(product2 << lift2)
    lifted3, up3 = stage.reg(lifted, "lifted3"), stage.reg(stage.reg(down1 <= 0, "up_1"), "up_2")
    rounded4 = Signal(signed(width + SCORE_BITS))
    m.d.sync += rounded4.eq(Mux(up3, lifted3, (moved3 + 1) >> 1))
    above, sign = rounded4[SCORE_BITS - 1:], rounded4[-1]
    fits = ~above.any() | above.all()
    return stage.reg(Cat(Mux(fits, rounded4[:SCORE_BITS - 1], (~sign).replicate(SCORE_BITS - 1)), sign).as_signed(), "score5")


class SoftmaxUnit(wiring.Component):
    """Softmax of the rows of ``turns`` query PEs that take turns, one score or one weight a cycle (spec: attention).

    In the K pass ``k`` brings a turn a cycle: PE ``turn``'s dot is taken from ``dots``, its scale (q scale times c_att,
    from the unit's memory by ``row`` and turn) times the key's gives the score, which goes to score memory.  With it
    run two maxima: of the scores (top), and of score + 512 * (V scale's exponent).  They give the row's exponent, so that no scan
    lies between K and V:

        exponent = max over keys of (v exp - ((top - score) >> 9)) = -((top - max over keys of (score + 512 * v exp)) >> 9)

    In the V pass ``v`` asks for a turn's weight: exponential, weight and the running sum of exponentials.  Weights
    queue up in order; the oldest is ``weight``, and ``pop`` takes it.  There is room for AHEAD keys and one more that
    is being taken.  ``total`` and ``exponent`` of turn ``stat_turn`` show while
    ``stat_read`` is set, which must not be during a V pass.

    ``remaining`` is the number of keys that follow in the slot's longest row, at most 15.  A PE whose token lies ``back``
    positions before the last token does not see keys with less than ``back`` remaining: their weights are 0, and nothing counts
    them.

    K_LATENCY cycles after ``k`` the maxima of that turn are there for ``v``; a weight can be taken V_LATENCY cycles
    after ``v``.  ``v.sig`` and ``v.exp`` come two cycles after the rest of ``v``, ``k.turn`` of a key in successive
    cycles.  The exp2 table is outside (its address is registered here, its data may be used a cycle later).

    Four multipliers; EBR: scores (turns * context entries), scales (rows * turns entries).
    """

    K_LATENCY = 2 + SCALE_MUL_STAGES + SCORE_STAGES + 1
    V_LATENCY = 9
    #: Keys whose weights may be asked for before the first of them is taken.
    AHEAD = 3

    def __init__(self, *, turns: int, dot_bits: int, context: int, rows: int) -> None:
        self._turns = turns
        self._dot_bits = dot_bits
        self._context = context
        self._rows = rows
        turn = range(turns)
        key = range(context)
        self._total_bits = SUM_FRAC + 1 + (context - 1).bit_length()
        super().__init__({
            "scale_write": In(data.StructLayout({"en": 1, "turn": turn, "row": range(rows), "scale": ScaleLayout})),
            "back_write": In(data.StructLayout({"en": 1, "turn": turn, "back": BACK_BITS})),
            "row": In(range(rows)),
            "dots": In(data.ArrayLayout(signed(dot_bits), turns)),
            "k": In(data.StructLayout({"on": 1, "turn": turn, "first": 1, "key": key, "remaining": BACK_BITS,
                                       "scale": ScaleLayout, "v_exp": signed(7), "v_some": 1})),
            "v": In(data.StructLayout({"on": 1, "turn": turn, "first": 1, "key": key, "remaining": BACK_BITS,
                                       "sig": 11, "exp": signed(7)})),
            "exp2_addr": Out(SCORE_FRAC), "exp2_data": In(17),
            "weight": Out(WEIGHT_BITS), "pop": In(1),
            "stat_read": In(1), "stat_turn": In(turn), "total": Out(self._total_bits), "exponent": Out(signed(EXPONENT_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        turns = self._turns
        k, v = self.k, self.v

        stage = Stages(m)

        # ------------------------------------------------------------------ memories
        m.submodules.scales = scales = memory.Memory(shape=ScaleLayout, depth=turns * self._rows, init=[])
        m.submodules.scores = scores = memory.Memory(shape=SCORE_BITS, depth=turns * self._context, init=[])
        m.submodules.backs = backs = memory.Memory(shape=BACK_BITS, depth=turns, init=[])
        maxima_layout = data.StructLayout({"top": signed(SCORE_BITS), "top_sum": signed(SCORE_BITS + 1), "some": 1})
        m.submodules.maxima = maxima = memory.Memory(shape=maxima_layout, depth=turns, init=[])
        stats_layout = data.StructLayout({"total": self._total_bits, "exponent": signed(EXPONENT_BITS)})
        m.submodules.stats = stats = memory.Memory(shape=stats_layout, depth=turns, init=[])
        room = 1 << ((self.AHEAD + 1) * turns - 1).bit_length()
        m.submodules.queue = queue = memory.Memory(shape=WEIGHT_BITS, depth=room, init=[])
        scale_write, scale_read = scales.write_port(), scales.read_port()
        score_write, score_read = scores.write_port(), scores.read_port()
        # The first turns of the V pass run beside the last ones of the K pass.
        back_write, k_back, v_back = backs.write_port(), backs.read_port(domain="comb"), backs.read_port(domain="comb")
        max_write, k_max, v_max = maxima.write_port(), maxima.read_port(domain="comb"), maxima.read_port(domain="comb")
        stat_write, stat_read = stats.write_port(), stats.read_port(domain="comb")
        queue_write, queue_read = queue.write_port(), queue.read_port(domain="comb")
        m.d.comb += [
            scale_write.addr.eq(Cat(self.scale_write.turn, self.scale_write.row)),
            scale_write.data.eq(self.scale_write.scale), scale_write.en.eq(self.scale_write.en),
            back_write.addr.eq(self.back_write.turn), back_write.data.eq(self.back_write.back),
            back_write.en.eq(self.back_write.en),
        ]

        # ------------------------------------------------------------------ K: scores and maxima
        m.d.comb += scale_read.addr.eq(Cat(k.turn, self.row))
        scale_a = data.View(ScaleLayout, stage.reg(Value.cast(scale_read.data), "scale_a"))
        scale_b = data.View(ScaleLayout, stage.delay(Value.cast(k.scale), 2, "scale_b"))
        ds = scale_mul_stages(stage, scale_a, scale_b)
        dot = stage.delay(self.dots[k.turn], 2 + SCALE_MUL_STAGES, "dot")
        score = score_stages(stage, dot, ds)
        delay = self.K_LATENCY - 1
        on, turn, first, key, remaining, v_exp, v_some = (stage.delay(s, delay, f"k_{n}") for s, n in (
            (k.on, "on"), (k.turn, "turn"), (k.first, "first"), (k.key, "key"), (k.remaining, "remaining"), (k.v_exp, "v_exp"),
            (k.v_some, "v_some")))
        on_a, turn_a = stage.reg(v.on, "on_a"), stage.reg(v.turn, "turn_a")
        m.d.comb += [
            score_write.addr.eq(Cat(turn, key)), score_write.data.eq(score), score_write.en.eq(on),
            k_back.addr.eq(turn), v_back.addr.eq(turn_a),
        ]
        # K_LATENCY - 1 cycles after k the score is there; then the maxima.
        seen = stage.reg(on & (remaining >= k_back.data), "seen")
        score1 = stage.reg(score, "score1")
        top_sum1 = stage.reg((score + (v_exp << SCORE_FRAC))[:SCORE_BITS + 1].as_signed(), "top_sum1")
        turn1, first1, some1 = stage.reg(turn, "turn1"), stage.reg(first, "first1"), stage.reg(v_some, "some1")
        old, largest = k_max.data, v_max.data
        m.d.comb += [
            k_max.addr.eq(turn1), v_max.addr.eq(turn_a),
            max_write.addr.eq(turn1), max_write.en.eq(seen),
            max_write.data.top.eq(Mux(first1 | (score1 > old.top), score1, old.top)),
            max_write.data.top_sum.eq(Mux(some1 & (first1 | ~old.some | (top_sum1 > old.top_sum)), top_sum1, old.top_sum)),
            max_write.data.some.eq(some1 | (old.some & ~first1)),
        ]

        # ------------------------------------------------------------------ V: exponentials and weights
        # a: score and maxima are here
        m.d.comb += score_read.addr.eq(Cat(v.turn, v.key))
        remaining_a, first_a = stage.reg(v.remaining, "remaining_a"), stage.reg(v.first, "first_a")
        score_b, some_b = stage.reg(score_read.data, "score_b"), stage.reg(largest.some, "some_b")
        top_b, top_sum_b = stage.reg(largest.top, "top_b"), stage.reg(largest.top_sum, "top_sum_b")
        seen_b = stage.reg(remaining_a >= v_back.data, "seen_b")
        # b: V's scale is here; how far below the largest score, and the largest score below the largest sum
        diff = Signal(SCORE_BITS + 1)
        m.d.comb += diff.eq(top_b - score_b.as_signed())
        diff_c, down_c, some_c = stage.reg(diff, "diff_c"), stage.reg(top_b - top_sum_b, "down_c"), stage.reg(some_b, "some_c")
        # c: the table's address; then its value, and once more as EBR are slow
        m.d.comb += self.exp2_addr.eq(diff_c[:SCORE_FRAC])
        exponent = Signal(signed(EXPONENT_BITS))
        m.d.comb += exponent.eq(Mux(some_c, -(down_c >> SCORE_FRAC), 0))
        power_e = stage.reg(self.exp2_data, "power_e")
        whole_e, exponent_f = stage.delay(diff_c[SCORE_FRAC:], 2, "whole"), stage.delay(exponent, 3, "exponent")
        te_f = stage.delay(stage.reg(v.exp, "exp_c") - diff_c[SCORE_FRAC:], 3, "te")
        sig_e, seen_e = stage.delay(v.sig, 3, "sig"), stage.delay(seen_b, 3, "seen")
        on_f, turn_f, first_f = stage.delay(on_a, 5, "on"), stage.delay(turn_a, 5, "turn"), stage.delay(first_a, 5, "first")
        # e: the exponential as far as it counts; its product with V's scale
        power_f = stage.reg(Mux(seen_e & (whole_e < 32), (power_e << (SUM_FRAC - 16)) >> whole_e[:5], 0), "power_f")
        tm_f, some_f = stage.reg(power_e * sig_e, "tm_f"), stage.reg(seen_e & (sig_e != 0), "some_f")
        # f: the sum; how far the product moves down
        m.d.comb += [
            stat_read.addr.eq(Mux(self.stat_read, self.stat_turn, turn_f)),
            self.total.eq(stat_read.data.total), self.exponent.eq(stat_read.data.exponent),
            stat_write.addr.eq(turn_f), stat_write.en.eq(on_f), stat_write.data.exponent.eq(exponent_f),
            stat_write.data.total.eq(Mux(first_f, 0, stat_read.data.total) + power_f),
        ]
        gap = Signal(signed(EXPONENT_BITS + 2))
        m.d.comb += gap.eq(exponent_f - te_f)
        far_g = stage.reg((gap > 18) | ~some_f, "far_g")
        gap_g, tm_g = stage.reg(gap[:5], "gap_g"), stage.reg(tm_f, "tm_g")
        # g: the weight, and half a one
        twice_h = stage.reg(Mux(far_g, 0, tm_g >> 10 >> gap_g), "twice_h")
        # h: rounded, into the queue
        written, read = Signal(range(room)), Signal(range(room))
        m.d.comb += [
            queue_write.addr.eq(written), queue_write.data.eq((twice_h + 1)[1:]),
            queue_write.en.eq(stage.delay(on_f, 2, "weight_on")),
            queue_read.addr.eq(read), self.weight.eq(queue_read.data),
        ]
        m.d.sync += [written.eq(written + queue_write.en), read.eq(read + self.pop)]
        return m
