# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs of the arithmetic on scales: the product and the stored form against plain descriptions, for all operands."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from formal.harness import Harness, Proof, planted
from hw.lib.scales import SCALE_MUL_STAGES, pack16, scale_mul_stages, unpack16
from hw.lib.stages import Stages
from hw.lib.types import ScaleLayout
from tellme.spec.scale import EXP_MAX, EXP_MIN, SCALE16_BIAS, SIG_MAX

__all__ = ["PROOFS"]


class Product(wiring.Component):
    """scale_mul_stages behind registers."""

    def __init__(self) -> None:
        super().__init__({"a": In(ScaleLayout), "b": In(ScaleLayout), "y": Out(ScaleLayout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.y.eq(scale_mul_stages(Stages(m), self.a, self.b))
        return m


class Stored(wiring.Component):
    """pack16 and unpack16, one behind the other, in both orders."""

    def __init__(self) -> None:
        super().__init__({"scale": In(ScaleLayout), "packed": Out(16), "stored": In(16), "sig": Out(11), "exp": Out(signed(9)),
                          "again": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.packed.eq(pack16(self.scale))
        sig, exp = unpack16(self.stored)
        unpacked = data.View(ScaleLayout, Signal(ScaleLayout.size))
        m.d.comb += [self.sig.eq(sig), self.exp.eq(exp), unpacked.sig.eq(sig), unpacked.exp.eq(exp),
                     self.again.eq(pack16(unpacked))]
        return m


def scale(h: Harness, view: Any, name: str) -> Any:
    """A scale: zero, or a significand of eleven bits with an exponent in its range."""
    h.drive(view.as_value(), name)
    exp = view.exp.as_signed() if not view.exp.shape().signed else view.exp
    h.assume(((view.sig >= 1024) & (exp >= EXP_MIN) & (exp <= EXP_MAX)) | (view.as_value() == 0))
    return view


def product() -> Harness:
    h = Harness()
    unit = Product()
    h.unit(unit)
    a, b = scale(h, unit.a, "a"), scale(h, unit.b, "b")
    # The exact product, rounded half to even to eleven bits.
    exact = Signal(22)
    h.m.d.comb += exact.eq(a.sig * b.sig)
    large = exact >= 1 << 21
    kept = Mux(large, exact >> 11, exact >> 10)
    rest = Mux(large, exact & 2047, (exact & 1023) << 1)
    up = (rest > 1024) | ((rest == 1024) & kept[0])
    carried = kept + up == 2048
    sig, exp = Mux(carried, 1024, kept + up), Signal(signed(12))
    h.m.d.comb += exp.eq(a.exp + b.exp + 10 + large + carried)
    zero = (exact == 0) | (exp < EXP_MIN)
    top = exp > EXP_MAX
    wanted_sig: Value = Mux(zero, 0, Mux(top, SIG_MAX, sig))
    wanted_exp: Value = Mux(zero, 0, Mux(top, EXP_MAX, exp))
    wanted = Signal(ScaleLayout)
    h.m.d.comb += [wanted.sig.eq(wanted_sig), wanted.exp.eq(wanted_exp)]
    late: Value = wanted.as_value()
    began: Value = Value.cast(1)
    for i in range(SCALE_MUL_STAGES):
        late, began = h.before(late, f"wanted{i}"), h.before(began, f"began{i}")
    h.holds(unit.y.as_value() == late, began)
    h.cover(began & (unit.y.sig == 1024) & h.before(h.before(h.before(carried & ~zero & ~top, "c0"), "c1"), "c2"))
    h.cover(began & (unit.y.sig == SIG_MAX) & (unit.y.exp == EXP_MAX))
    return h


def stored() -> Harness:
    h = Harness()
    unit = Stored()
    h.unit(unit)
    a = scale(h, unit.scale, "scale")
    h.drive(unit.stored, "stored")
    field = Signal(signed(11))
    h.m.d.comb += field.eq(a.exp + SCALE16_BIAS)
    # A scale that is too small is stored as 0, one that is too large as all ones, any other as exponent and lower ten bits.
    h.holds(unit.packed == Mux((a.sig == 0) | (field < 0), 0, Mux(field > 63, 0xFFFF, (field[:6] << 10) | a.sig[:10])))
    # What is stored is a scale, which is stored as it was.
    h.holds(unit.again == unit.stored)
    h.holds((unit.sig >= 1024) & (unit.exp == unit.stored[10:] - SCALE16_BIAS), unit.stored != 0)
    h.holds((unit.sig == 0) & (unit.exp == 0), unit.stored == 0)
    h.cover(unit.packed == 0xFFFF)
    h.cover((unit.stored == 0x1234) & (unit.again == 0x1234))
    return h


SCALES = "hw/lib/scales.py"
PROOFS = (
    Proof("scale-product", SCALES + " scale_mul_stages", "the exact product, rounded half to even to eleven bits, zero below the range, "
          "the largest above", "all operands", product, "induction", 5, 6, (
              planted("scale-product", SCALES, "half-rounded-up", "rounded = stage.reg((kept + (guard & (sticky | kept[0])))[:12]",
                      "rounded = stage.reg((kept + guard)[:12]"),
              planted("scale-product", SCALES, "carry-keeps-the-significand", "Mux(rounded[11], 1024, rounded[:11])",
                      "rounded[:11]"),
              planted("scale-product", SCALES, "sticky-bit-short", "Mux(top, product[:10].any(), product[:9].any())",
                      "product[:9].any()"))),
    Proof("scale-stored", SCALES + " pack16, unpack16", "the stored form of each scale; each stored form is read as it was written",
          "all scales, all 2^16 stored forms", stored, "induction", 1, 2, (
              planted("scale-stored", SCALES, "too-large-wraps", "Mux(field > 63, 0xFFFF,", "Mux(field > 127, 0xFFFF,"),)),
)
