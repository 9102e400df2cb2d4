# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The baselines without tables: the 20 activations lie in registers, and each is selected and negated by its weight."""

from collections.abc import Sequence
from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.tree import Term, signed_sum, stages
from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS, unpack_trits

__all__ = ["ActivationLoader", "NegateDot", "SelectDot", "SelectLayout", "SelectTreeDot", "XorDot", "select_build_layout",
           "select_rom"]

#: Of each weight whether it is not zero and whether it is -1; how many are -1.
SelectLayout = data.ArrayLayout(data.StructLayout({"nonzero": TRITS, "sign": TRITS, "count": 3}), SLICE_BYTES)


def select_build_layout(tokens: int) -> data.StructLayout:
    """Activations in order, one with each ``write``; ``last`` with the slice's last."""
    return data.StructLayout({"write": 1, "buffer": 1, "last": 1, "values": data.ArrayLayout(signed(8), tokens)})


def select_rom() -> list[int]:
    """256 entries of :data:`SelectLayout`'s 13 bits; bytes that are no weights select nothing."""
    rom = []
    for byte in range(256):
        w = unpack_trits(byte) if byte < 3**TRITS else (0,) * TRITS
        rom.append(sum((v != 0) << i | (v < 0) << TRITS + i for i, v in enumerate(w)) | sum(v < 0 for v in w) << 2 * TRITS)
    return rom


class ActivationLoader(wiring.Component):
    """Hands on the 20 activations of a slice, one a cycle; ports as :class:`hw.tlmm.pairs.PairBuilder`.  No arithmetic."""

    CYCLES: ClassVar[int] = SLICE + 2

    def __init__(self, *, cols: int, tokens: int = 1):
        self._tokens = tokens
        super().__init__({
            "start": In(1), "first_col": In(range(cols)), "cols": In(range(cols + 1)), "buffer": In(1),
            "code_addr": Out(range(cols)), "code": In(data.ArrayLayout(signed(8), tokens)),
            "build": Out(select_build_layout(tokens)), "done": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cols, buffer, remaining = Signal.like(self.cols), Signal(), Signal(range(SLICE + 1))
        column = Signal.like(self.code_addr)
        with m.If(self.start):
            m.d.sync += [column.eq(self.first_col), cols.eq(self.cols), buffer.eq(self.buffer), remaining.eq(SLICE)]
        with m.Elif(remaining != 0):
            m.d.sync += [column.eq(column + 1), remaining.eq(remaining - 1)]
        m.d.comb += self.code_addr.eq(column)
        # The address' cycle; its code is here; it is registered.
        running, ending, inside = Signal(2), Signal(2), Signal()
        m.d.sync += [running.eq(Cat(remaining != 0, running)), ending.eq(Cat(remaining == 1, ending)), inside.eq(column < cols)]
        for t in range(self._tokens):
            x = Signal(signed(8), name=f"x{t}")
            m.d.sync += x.eq(Mux(inside, self.code[t], 0))
            m.d.comb += self.build.values[t].eq(x)
        m.d.comb += [self.build.write.eq(running[1]), self.build.last.eq(ending[1]), self.build.buffer.eq(buffer),
                     self.done.eq(ending[1])]
        return m


class SelectDot(wiring.Component):
    """total[t] = sum over 20 columns of w * x[t]: interface and rules of :class:`hw.tlmm.pairs.PairDot`.

    A whole slice waits in shadow registers until ``buffer`` names it.  Heirs give ``sums``.
    """

    LATENCY: ClassVar[int]

    def __init__(self, *, tokens: int = 1):
        self._tokens = tokens
        super().__init__({"build": In(select_build_layout(tokens)), "select": In(SelectLayout), "buffer": In(1),
                          "total": Out(data.ArrayLayout(signed(14), tokens))})

    def sums(self, m: Module, x: list[Signal], nonzero: Signal, sign: Signal, count: list[Signal], prefix: str) -> Value:
        """The sum of the activations ``x`` under registered weights, LATENCY - 1 cycles later."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        m = Module()
        build = self.build
        nonzero, sign, counts = Signal(SLICE), Signal(SLICE), [Signal(3, name=f"count{b}") for b in range(SLICE_BYTES)]
        m.d.sync += [nonzero.eq(Cat(byte.nonzero for byte in self.select)), sign.eq(Cat(byte.sign for byte in self.select))]
        m.d.sync += [count.eq(byte.count) for count, byte in zip(counts, self.select, strict=True)]
        whole, built, take = Signal(), Signal(), Signal()
        m.d.comb += take.eq(whole & (built == self.buffer))
        with m.If(build.write):
            m.d.sync += [whole.eq(build.last), built.eq(build.buffer)]
        with m.Elif(take):
            m.d.sync += whole.eq(0)
        for t in range(self._tokens):
            coming = [Signal(signed(8), name=f"coming{t}_{i}") for i in range(SLICE)]
            x = [Signal(signed(8), name=f"x{t}_{i}") for i in range(SLICE)]
            with m.If(build.write):
                m.d.sync += [old.eq(new) for old, new in zip(coming, [*coming[1:], build.values[t]], strict=True)]
            with m.If(take):
                m.d.sync += [old.eq(new) for old, new in zip(x, coming, strict=True)]
            m.d.comb += self.total[t].eq(self.sums(m, x, nonzero, sign, counts, f"sum{t}"))
        return m


def plain_sum(m: Module, values: Sequence[Value], prefix: str) -> Value:
    """A tree of adders as synthesis makes them, a register after each level."""
    level = 0
    while len(values) > 1:
        following: list[Value] = []
        for at in range(0, len(values), 2):
            total = values[at] + values[at + 1] if at + 1 < len(values) else values[at]
            node = Signal(total.shape(), name=f"{prefix}_{level}_{at // 2}")
            m.d.sync += node.eq(total)
            following.append(node)
        values, level = following, level + 1
    return values[0]


class NegateDot(SelectDot):
    """x, -x or 0 by a negation and a choice before a plain tree."""

    LATENCY = 1 + 5

    def sums(self, m: Module, x: list[Signal], nonzero: Signal, sign: Signal, count: list[Signal], prefix: str) -> Value:
        return plain_sum(m, [Mux(nonzero[i], Mux(sign[i], -v, v), 0).as_signed() for i, v in enumerate(x)], prefix)


class XorDot(SelectDot):
    """(x and nonzero) xor sign before a plain tree; the ones that this lacks are added as their number, which comes
    from the byte ROM and is the same for all tokens."""

    LATENCY = 1 + 5

    def sums(self, m: Module, x: list[Signal], nonzero: Signal, sign: Signal, count: list[Signal], prefix: str) -> Value:
        terms = [((v & Mux(nonzero[i], Const(-1, signed(8)), 0)) ^ Mux(sign[i], Const(-1, signed(8)), 0)).as_signed()
                 for i, v in enumerate(x)]
        counts = Signal(range(SLICE + 1), name=f"{prefix}_count")
        m.d.sync += counts.eq(sum(count[1:], count[0]))
        later = Signal.like(counts, name=f"{prefix}_count_later")
        m.d.sync += later.eq(counts)
        # Ten, five, then the five and the number: three, two, one.
        halves = [Signal(signed(9), name=f"{prefix}_half{i}") for i in range(SLICE // 2)]
        m.d.sync += [half.eq(terms[2 * i] + terms[2 * i + 1]) for i, half in enumerate(halves)]
        fours = [Signal(signed(10), name=f"{prefix}_four{i}") for i in range(SLICE // 4)]
        m.d.sync += [four.eq(halves[2 * i] + halves[2 * i + 1]) for i, four in enumerate(fours)]
        return plain_sum(m, [*fours, Cat(later, 0).as_signed()], f"{prefix}_rest")


class SelectTreeDot(SelectDot):
    """Nothing before the adders: activations of zero weights are held in reset (the registers' own input), signs are
    taken up by the adders (:func:`hw.tlmm.tree.signed_sum`)."""

    LATENCY = 2 + stages(SLICE)

    def sums(self, m: Module, x: list[Signal], nonzero: Signal, sign: Signal, count: list[Signal], prefix: str) -> Value:
        later = Signal(SLICE, name=f"{prefix}_signs")
        m.d.sync += later.eq(sign)
        terms = []
        for i, v in enumerate(x):
            taken = Signal(signed(8), name=f"{prefix}_taken{i}")
            m.d.sync += taken.eq(Mux(nonzero[i], v, 0))
            terms.append(Term(taken, later[i], -128, 127))
        return signed_sum(m, terms, prefix)
