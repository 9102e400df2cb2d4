# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A fixed-point shift with rounding and saturation in few LUTs."""

from amaranth.hdl import Cat, Mux, Signal, Value

from hw.lib.stages import Stages

__all__ = ["round_shift"]


def round_shift(stage: Stages, value: Value, down: Value, *, bits: int) -> Value:
    """value * 2**-down rounded half up and saturated to ``bits`` bits, signed; three registers after ``value`` and ``down``,
    which are signed too.

    One shifter to the right serves both directions.  For a shift to the left (down <= 0) it gives the bits that leave at the top;
    the result saturates unless these bits are all equal to the sign.  A second shifter of ``bits`` bits gives the lower bits.
    """
    m = stage.m
    value, down = Value.cast(value), Value.cast(down)
    width = len(value)
    amount, lift = Signal(range(max(width, bits) + 1)), Signal(range(bits + 1))
    m.d.comb += [
        lift.eq(Mux(down < -bits, bits, -down)),
        amount.eq(Mux(down > 0, Mux(down > width, width, (down - 1)[:len(amount)]), bits - lift)),
    ]
    value1, amount1, lift1, up1 = (stage.reg(v, f"shift_{n}1") for v, n in (
        (value, "value"), (amount, "amount"), (lift, "lift"), (down <= 0, "up")))
    moved2 = stage.reg(value1 >> amount1, "shift_moved2")
    low2 = stage.reg((value1[:bits] << lift1)[:bits], "shift_low2")
    up2 = stage.reg(up1, "shift_up2")
    nearest = Signal(width)
    m.d.comb += nearest.eq((moved2 + 1) >> 1)
    top = low2[-1]
    # The bits that the result has no room for, and the sign that it would have.
    over = Mux(up2, moved2 != Cat(*[top] * width).as_signed(),
               nearest[bits - 1:] != Cat(*[nearest[bits - 1]] * (width - bits + 1)))
    least = Cat(*[moved2[-1]] * bits) ^ ((1 << bits - 1) - 1)
    return stage.reg(Mux(over, least, Mux(up2, low2, nearest[:bits])), "shift_result3").as_signed()
