# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scans of decode attention over the scores: first the sum of exponentials and the largest exponent, then the weights."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.scales import unpack16
from hw.lib.stages import Stages
from tellme.spec.attention import SCORE_BITS, SCORE_FRAC, SUM_FRAC
from tellme.spec.tables import exp2_rom
from tellme.spec.widths import bits_for

__all__ = ["EXPONENT_BITS", "TOTAL_BITS", "Scan"]

#: Of what a sum of exponentials, in units of 2**-SUM_FRAC, is brought to its first one in, for any context below 4,096 positions,
#: so that the number of cycles does not depend on the context; of the largest exponent.
TOTAL_BITS = SUM_FRAC + 12
#: Of the largest exponent of a row, signed.
EXPONENT_BITS = 12


class Scan(wiring.Component):
    """Softmax of a score per cycle (spec: attention), in two scans over all heads and keys of a group.

    While ``on`` is set, ``at`` names a score: head ``g``, ``key``, and in the second scan ``weights``.  In the next cycle
    ``score`` and ``v_scale`` (stored form) must belong to this score, ``top_g`` is its head, and ``top`` must be this head's
    largest score.

        first scan:   total[g] += exp2(score - top[g]);  exponent[g] = max(v exp - ((top[g] - score) >> 9)) where v is not zero
        second scan:  weight = round(exp2 * v sig >> (10 + exponent[g] - exponent of this one)), 0 beyond 18 places

    ``clear`` zeroes total and exponent.  A weight leaves on ``weight`` WEIGHT_CYCLES after its ``at``.  Total and exponent are
    final SUM_CYCLES after the last ``at`` of the first scan, and must be final before the first weight.  ``total`` and
    ``exponent`` show the values of head ``stat_g``.  Maps to one multiplier of 17x11 and the exp2 table in EBR.
    """

    #: From ``at`` to total and exponent; to the weight.
    SUM_CYCLES = 7
    WEIGHT_CYCLES = 8

    def __init__(self, *, groups: int, context: int) -> None:
        self._groups, self._total_bits = groups, bits_for(context << SUM_FRAC)
        g, key = range(groups + 1), bits_for(context - 1)
        super().__init__({
            "on": In(1), "at": In(data.StructLayout({"weights": 1, "g": g, "key": key})), "clear": In(1),
            "score": In(SCORE_BITS), "v_scale": In(16), "top_g": Out(g), "top": In(signed(SCORE_BITS)),
            "weight": Out(data.StructLayout({"on": 1, "g": g, "key": key, "value": 16})),
            "stat_g": In(g), "total": Out(self._total_bits), "exponent": Out(signed(EXPONENT_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        on_a, weights_a = stage.reg(self.on, "on_a"), stage.reg(self.at.weights, "weights_a")
        g_a, key_a = stage.reg(self.at.g, "g_a"), stage.reg(self.at.key, "key_a")
        # a: score and scales are here
        m.d.comb += self.top_g.eq(g_a)
        score_b, top_b = stage.reg(self.score, "score_b"), stage.reg(self.top, "top_b")
        v_sig, v_exp = unpack16(self.v_scale)
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
        whole_e, sig_e = stage.delay(diff_c[SCORE_FRAC:], 2, "whole"), stage.delay(sig_b, 3, "v_sig")
        te_e = stage.reg(stage.reg(stage.reg(exp_b, "v_exp_c") - diff_c[SCORE_FRAC:], "te_d"), "te_e")
        on_e, weights_e, g_e, key_e = (stage.delay(v, 4, n) for v, n in ((on_a, "on"), (weights_a, "weights"), (g_a, "g"),
                                                                       (key_a, "key")))
        # e: shifted exponential; product with V's scale
        power_f = stage.reg((power_e << (SUM_FRAC - 16)) >> Mux(whole_e > 31, 31, whole_e[:5]), "power_f")
        tm_f = stage.reg(power_e * sig_e, "tm_f")
        te_f, on_f, g_f = stage.reg(te_e, "te_f"), stage.reg(on_e & ~weights_e, "on_f"), stage.reg(g_e, "g_f")
        nonzero_f = stage.reg(sig_e != 0, "nonzero_f")
        weight_f, key_f = stage.reg(on_e & weights_e, "weight_f"), stage.reg(key_e, "key_f")
        groups = range(self._groups)
        totals = [Signal(self._total_bits, name=f"total{g}") for g in groups]
        exponents = [Signal(signed(EXPONENT_BITS), name=f"exponent{g}") for g in groups]
        seen = [Signal(name=f"seen{g}") for g in groups]
        for g in groups:
            with m.If(self.clear):
                m.d.sync += [totals[g].eq(0), exponents[g].eq(0), seen[g].eq(0)]
            with m.Elif(on_f & (g_f == g)):
                m.d.sync += totals[g].eq(totals[g] + power_f)
                with m.If(nonzero_f & (~seen[g] | (te_f > exponents[g]))):
                    m.d.sync += [exponents[g].eq(te_f), seen[g].eq(1)]
        m.d.comb += [self.total.eq(Array(totals)[self.stat_g]), self.exponent.eq(Array(exponents)[self.stat_g])]
        # f: how far the product moves down
        gap = Signal(signed(14))
        m.d.comb += gap.eq(Array(exponents)[g_f] - te_f)
        far_g = stage.reg((gap > 18) | ~nonzero_f, "far_g")
        gap_g, tm_g = stage.reg(gap[:5], "gap_g"), stage.reg(tm_f, "tm_g")
        # g: the weight
        weight_h = stage.reg(Mux(far_g, 0, ((tm_g >> 10 >> gap_g) + 1) >> 1)[:16], "weight_h")
        on_h, g_h, key_h = (stage.delay(v, 2, f"weight_{n}") for v, n in ((weight_f, "on"), (g_f, "g"), (key_f, "key")))
        m.d.comb += [self.weight.on.eq(on_h), self.weight.g.eq(g_h), self.weight.key.eq(key_h), self.weight.value.eq(weight_h)]
        return m
