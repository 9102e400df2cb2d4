# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What float units share: the fields of a float, leading zeros, and one rounding."""

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from hw.lib.stages import Stages
from tellme.spec.formats import FloatFormat

__all__ = ["ROUND_STAGES", "Unpacked", "leading_zeros", "round_float", "unpack"]


class Unpacked(NamedTuple):
    """A float as (-1)**sign * sig * 2**(exp - 1 + min_exp): sig has frac_bits + 1 bits, exp is at least 1."""

    sign: Value
    sig: Value
    exp: Value
    inf: Value
    nan: Value
    zero: Value


def unpack(bits: Value, fmt: FloatFormat) -> Unpacked:
    """Fields of a float."""
    bits = Value.cast(bits)
    frac = bits[:fmt.frac_bits]
    field = bits[fmt.frac_bits:fmt.frac_bits + fmt.exp_bits]
    normal = field != 0
    top = field == fmt.exp_max
    return Unpacked(bits[-1], Cat(frac, normal), Mux(normal, field, 1), top & (frac == 0), top & (frac != 0),
                    ~normal & (frac == 0))


def leading_zeros(m: Module, value: Value) -> Value:
    """Number of zeros above the first one, as a tree of halves; for 0 the next power of two."""
    levels = max(1, (len(value) - 1).bit_length())
    padded = Cat(Const(0, (1 << levels) - len(value)), value)
    # Of each block: its count, and whether it holds a one.
    counts: list[Value] = [Const(0, 1)] * len(padded)
    ones: list[Value] = [padded[i] for i in range(len(padded))]
    for level in range(levels):
        next_counts: list[Value] = []
        next_ones: list[Value] = []
        for low in range(0, len(counts), 2):
            one = Signal(name=f"one{level}_{low}")
            count = Signal(level + 1, name=f"zeros{level}_{low}")
            inner = [c[:level] if level else Const(0, 0) for c in counts[low:low + 2]]
            m.d.comb += [one.eq(ones[low] | ones[low + 1]),
                         count.eq(Cat(Mux(ones[low + 1], inner[1], inner[0]), ~ones[low + 1]))]
            next_counts.append(count)
            next_ones.append(one)
        counts, ones = next_counts, next_ones
    return counts[0]


#: Stages of :func:`round_float`.
ROUND_STAGES = 4


def round_float(pipe: Stages, fmt: FloatFormat, *, sign: Value, magnitude: Value, exp: Value, inf: Value,
                nan: Value) -> tuple[Value, Value]:
    """(-1)**sign * magnitude * 2**exp rounded half to even; (bits, nonfinite) ROUND_STAGES later.

    ``magnitude`` is an unsigned integer.  Its least significant bit may be a sticky bit (the OR of all bits that were cut off) if
    there are two more bits below the last kept bit.  ``exp`` is signed.  A magnitude of zero gives a zero of the given sign.
    """
    m = pipe.m
    magnitude = Value.cast(magnitude)
    kept = fmt.frac_bits + 1
    width = max(len(magnitude), kept + 2)
    # 1: how many leading zeros
    wide = Signal(width)
    m.d.comb += wide.eq(magnitude << (width - len(magnitude)))
    count = leading_zeros(m, wide)
    exp = Value.cast(exp)
    # Weight of the lowest bit of ``wide``, then relative to the subnormals' lowest bit.
    exp1 = pipe.reg(exp - (width - len(magnitude)) - fmt.min_exp, "exp1")
    wide1, count1 = pipe.reg(wide, "wide1"), pipe.reg(count, "count1")
    flags1 = pipe.reg(Cat(sign, inf, nan), "flags1")
    # 2: leading one to the top; the kept significand's lowest bit then weighs lsb, with 1 for the subnormals'
    lsb = Signal(signed(max(len(exp1), len(count1)) + 2))
    m.d.comb += lsb.eq(exp1 - count1 + (width - kept) + 1)
    top2 = pipe.reg((wide1 << count1)[:width], "top2")
    lsb2 = pipe.reg(lsb, "lsb2")
    flags2 = pipe.reg(flags1, "flags2")
    # Subnormals move down by 1 - lsb: a sum of its own, beside that of lsb.
    below = Signal(signed(len(lsb) + 1))
    moves = Signal(range(kept + 3))
    m.d.comb += [below.eq(count1 - exp1 - (width - kept)),
                 moves.eq(Mux(below[-1], 0, Mux(below > kept + 1, kept + 2, below[:len(moves)])))]
    down = pipe.reg(moves, "down")
    # 3: the bits that are shifted out remain as the sticky bit
    body = Signal(kept + 2)
    rest = top2[:width - kept - 1]
    m.d.comb += body.eq(Cat(rest.any(), top2[width - kept - 1:]))
    moved = Signal(kept + 2)
    lost = Signal()
    mask = Signal(kept + 2)
    m.d.comb += [moved.eq(body >> down), mask.eq((Const(1, kept + 3) << down) - 1), lost.eq((body & mask).any())]
    value3 = pipe.reg(Cat(moved[0] | lost, moved[1:]), "value3")
    too_big = lsb2 > fmt.exp_max - 1
    field3 = pipe.reg(Mux(lsb2 < 1, 1, Mux(too_big, fmt.exp_max, lsb2))[:fmt.exp_bits], "field3")
    flags3 = pipe.reg(Cat(flags2, too_big & top2[-1]), "flags3")
    # 4: round; a carry moves on into the exponent field
    value, sticky, guard = value3[2:], value3[0], value3[1]
    up = guard & (sticky | value[0])
    packed = Signal(fmt.width)
    m.d.comb += packed.eq(Cat(value[:fmt.frac_bits], Mux(value[-1], field3, 0)) + up)
    overflow = flags3[3] | (packed[:fmt.width - 1] >= fmt.inf)
    is_inf = flags3[1] | overflow
    bits = Mux(flags3[2], fmt.nan, Cat(Mux(is_inf, Const(fmt.inf, fmt.width - 1), packed[:fmt.width - 1]), flags3[0]))
    return pipe.reg(bits, "rounded"), pipe.reg(flags3[2] | is_inf, "nonfinite")
