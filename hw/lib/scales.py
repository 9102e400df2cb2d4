# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scales, as several units use them: the stored form, and the product (spec: scale)."""

from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed
from amaranth.lib import data

from hw.lib.stages import Stages
from hw.lib.types import ScaleLayout
from tellme.spec.scale import EXP_MAX, EXP_MIN, SCALE16_BIAS, SIG_MAX

__all__ = ["SCALE_MUL_STAGES", "pack16", "scale_mul_stages", "unpack16"]

#: Registers of :func:`scale_mul_stages`.
SCALE_MUL_STAGES = 3


def unpack16(stored: Value) -> tuple[Value, Value]:
    """(sig, exp) of a stored scale."""
    zero = stored == 0
    return Mux(zero, 0, Cat(stored[:10], Const(1, 1))), Mux(zero, 0, stored[10:16] - SCALE16_BIAS)


def pack16(scale: Any) -> Value:
    """Stored form of a scale."""
    field = scale.exp + SCALE16_BIAS
    return Mux((scale.sig == 0) | (field < 0), 0, Mux(field > 63, 0xFFFF, Cat(scale.sig[:10], field[:6])))


def scale_mul_stages(stage: Stages, a: Any, b: Any) -> data.View:
    """scale_mul(a, b) as a ScaleLayout, SCALE_MUL_STAGES of ``stage`` later.  The operands should come from registers: the
    multiplier takes most of the first cycle."""
    m = stage.m
    product = stage.reg(a.sig * b.sig, "product")
    exp = stage.reg(a.exp + b.exp, "exp_sum")
    top = product[21]
    kept = Mux(top, product[11:], product[10:21])
    guard = Mux(top, product[10], product[9])
    sticky = Mux(top, product[:10].any(), product[:9].any())
    # One bit of growth: a significand of all ones may round up to the next power of two.
    rounded = stage.reg((kept + (guard & (sticky | kept[0])))[:12], "rounded")
    exp_up = stage.reg((exp + 10 + top).as_signed(), "exp_up")
    zero = stage.reg(product == 0, "zero")
    total = Signal(signed(11))
    m.d.comb += total.eq(exp_up + rounded[11])
    result = Signal(ScaleLayout)
    with m.If(zero | (total < EXP_MIN)):
        m.d.comb += [result.sig.eq(0), result.exp.eq(0)]
    with m.Elif(total > EXP_MAX):
        m.d.comb += [result.sig.eq(SIG_MAX), result.exp.eq(EXP_MAX)]
    with m.Else():
        m.d.comb += [result.sig.eq(Mux(rounded[11], 1024, rounded[:11])), result.exp.eq(total)]
    return data.View(ScaleLayout, stage.reg(result.as_value(), "scale_product"))
