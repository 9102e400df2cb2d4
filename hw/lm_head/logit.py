# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A logit from a sum of the engine, as each kind of LM head computes it."""

from typing import Any

from amaranth.hdl import Mux, Signal, Value, signed

from hw.lib.scales import SCALE_MUL_STAGES, scale_mul_stages
from hw.lib.shifts import round_shift
from hw.lib.stages import Stages
from tellme.spec.attention import LOGIT_FRAC

__all__ = ["LOGIT_STAGES", "logit_stages"]

#: Registers from a sum to its logit.
LOGIT_STAGES = SCALE_MUL_STAGES + 6


def logit_stages(stage: Stages, acc4: Value, d: Any, scale1: Any, *, compact: bool) -> Value:
    """sat32(round(acc * scale_mul(d, scale) * 2**16)), Q15.16, rounded half up, 32 bits; a sum in each cycle.

    A stage's number counts the registers behind the sum: ``d`` and ``scale1`` are one register behind it, ``acc4`` is
    1 + SCALE_MUL_STAGES behind it, and the logit LOGIT_STAGES.  With ``compact`` a smaller shifter rounds.  ``acc4`` is signed
    and has 17 bits or more.  Maps to 3 multipliers: one for the scales' product, two for the logit.
    """
    m = stage.m
    scale4 = scale_mul_stages(stage, d, scale1)
    # Two partial products keep the multipliers small.
    low5 = stage.reg(acc4[:16] * scale4.sig, "low5")
    high5 = stage.reg(acc4[16:].as_signed() * scale4.sig, "high5")
    down5 = stage.reg(-(scale4.exp + LOGIT_FRAC), "down5")
    total6 = stage.reg((high5 << 16) + low5, "total6")
    if compact:
        logit9 = round_shift(stage, total6, stage.reg(down5, "down6"), bits=32)[:32]
    else:
        width = len(total6)
        amount, lift = Signal(range(width + 1)), Signal(6)
        # A left shift beyond 32 bits saturates whatever is not zero.
        m.d.comb += [amount.eq(Mux(down5 > width, width, (down5 - 1)[:len(amount)])),
                     lift.eq(Mux(down5 < -32, 32, -down5))]
        amount6, lift6 = stage.reg(amount, "amount6"), stage.reg(lift, "lift6")
        moved7 = stage.reg(total6 >> amount6, "moved7")
        lifted7 = stage.reg((total6 << lift6)[:width + 32].as_signed(), "lifted7")
        up7 = stage.delay(down5 <= 0, 2, "up")
        value8 = Signal(signed(width + 33))
        m.d.sync += value8.eq(Mux(up7, lifted7, (moved7 + 1) >> 1))
        top_value = (1 << 31) - 1
        logit9 = stage.reg(Mux(value8 > top_value, top_value, Mux(value8 < -top_value - 1, -top_value - 1, value8))[:32],
                           "logit9")
    return logit9
