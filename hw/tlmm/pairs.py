# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Lookups of two weights: ten tables of five entries, sign-folded, both buffers of a table in one 16-deep LUT RAM.

A pair (w0, w1) is 0 or +- one of x0, x1, x0 + x1, x1 - x0.  The index is {w0 and w1 of opposite sign, w1 not zero, w0
not zero}, the sign that of the last weight that is not zero.  Entry 0 is never written: LUT RAM begins as zeros.
An entry has nine bits, of which eight lie in the RAM (LUT RAM comes in fours): the lowest is that of the activations that
take part, whatever their signs.
"""

from typing import ClassVar

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.carry import AddOf, add_table, extend, mask
from hw.tlmm.tree import Term, signed_sum, stages
from tellme.spec.packing import SLICE_BYTES, TRITS, unpack_trits

__all__ = ["PAIRS", "PairBuilder", "PairDot", "PairSelect", "pair_build_layout", "pair_rom"]

#: Columns of each pair: two in each byte, and the fifth trits of two bytes together.
PAIRS = (*((TRITS * b + at, TRITS * b + at + 1) for b in range(SLICE_BYTES) for at in (0, 2)),
         *((TRITS * b + 4, TRITS * b + 9) for b in range(0, SLICE_BYTES, 2)))
ENTRY_BITS = 9
#: What the builder does for a pair: the activation it adds to the entry before (which of the two, its sign), and where
#: the result belongs.
STEPS = ((0, 1, 0b001), (1, 1, 0b011), (0, -1, 0b010), (0, -1, 0b111))
PairSelect = data.ArrayLayout(data.StructLayout(
    {"first": 3, "first_sign": 1, "second": 3, "second_sign": 1, "last": 1, "last_sign": 1}), SLICE_BYTES)


def pair_build_layout(tokens: int) -> data.StructLayout:
    """Writes of :class:`PairBuilder`: ``write`` has a bit a table; ``low`` comes with the entries x0 and x1 alone, and
    ``last`` with the last write of a buffer."""
    return data.StructLayout({"write": len(PAIRS), "buffer": 1, "at": 3, "low": 1, "last": 1,
                              "values": data.ArrayLayout(signed(ENTRY_BITS), tokens)})


def pair_rom() -> list[int]:
    """256 entries of :data:`PairSelect`'s ten bits; bytes that are no weights select nothing."""
    rom = []
    for byte in range(256):
        entry = 0
        if byte < 3**TRITS:
            w = unpack_trits(byte)
            for pair in range(2):
                w0, w1 = w[2 * pair:2 * pair + 2]
                entry |= ((w0 != 0) | (w1 != 0) << 1 | (w0 * w1 < 0) << 2 | ((w1 or w0) < 0) << 3) << 4 * pair
            entry |= ((w[4] != 0) | (w[4] < 0) << 1) << 8
        rom.append(entry)
    return rom


class PairDot(wiring.Component):
    """total[t] = sum over 20 columns of w * x[t], for ``tokens`` vectors x under the same weights.

    ``select`` and ``buffer`` may come every cycle, ``total`` follows LATENCY cycles later.  A buffer is written only
    while ``buffer`` names the other one, or no select matters; between two builds ``buffer`` must have named, for a cycle
    at least, the one that was built first (its lowest bits move to where they are used then).

    |x| <= 128, so a total needs 13 bits.  Maps to ten 16 x 8 LUT RAMs a token and an adder tree of one LUT a bit.
    """

    LATENCY: ClassVar[int] = 2 + stages(len(PAIRS))

    def __init__(self, *, tokens: int = 1):
        self._tokens = tokens
        super().__init__({"build": In(pair_build_layout(tokens)), "select": In(PairSelect), "buffer": In(1),
                          "total": Out(data.ArrayLayout(signed(14), tokens))})

    def elaborate(self, platform):
        m = Module()
        build = self.build
        # ------------------------------------------------------------------ indices, shared by all tokens
        chosen = []
        for byte in self.select:
            chosen += [(byte.first, byte.first_sign), (byte.second, byte.second_sign)]
        for at in range(0, SLICE_BYTES, 2):
            one, two = self.select[at], self.select[at + 1]
            opposite = one.last & two.last & (one.last_sign ^ two.last_sign)
            chosen.append((Cat(one.last, two.last, opposite), Mux(two.last, two.last_sign, one.last_sign)))
        indices = [Signal(3, name=f"index{k}") for k in range(len(PAIRS))]
        signs = [[Signal(name=f"sign{k}_{i}") for i in range(2)] for k in range(len(PAIRS))]
        buffer = Signal()
        m.d.sync += buffer.eq(self.buffer)
        for k, (index, sign) in enumerate(chosen):
            m.d.sync += [indices[k].eq(index), signs[k][0].eq(sign), signs[k][1].eq(signs[k][0])]
        # The lowest bits of a buffer that is whole wait beside those in use.
        whole, built = Signal(), Signal()
        take = Signal()
        m.d.comb += take.eq(whole & (built == self.buffer))
        with m.If(build.write.any()):
            m.d.sync += [whole.eq(build.last), built.eq(build.buffer)]
        with m.Elif(take):
            m.d.sync += whole.eq(0)
        for t in range(self._tokens):
            coming, low = Signal(2 * len(PAIRS), name=f"coming{t}"), Signal(2 * len(PAIRS), name=f"low{t}")
            with m.If(build.low):
                m.d.sync += coming.eq(Cat(coming[1:], build.values[t][0]))
            with m.If(take):
                m.d.sync += low.eq(coming)
            terms = []
            for k in range(len(PAIRS)):
                m.submodules[f"table{k}_{t}"] = table = memory.Memory(
                    shape=unsigned(ENTRY_BITS - 1), depth=16, init=[], attrs={"ram_style": "distributed"})
                write, read = table.write_port(), table.read_port(domain="comb")
                value = Signal(signed(ENTRY_BITS), name=f"value{k}_{t}")
                m.d.comb += [write.addr.eq(Cat(build.at, build.buffer)), write.data.eq(build.values[t][1:]),
                             write.en.eq(build.write[k]), read.addr.eq(Cat(indices[k], buffer))]
                m.d.sync += value.eq(Cat((low[2 * k:2 * k + 2] & indices[k][:2]).xor(), read.data))
                terms.append(Term(value, signs[k][1], -256, 255))
            m.d.comb += self.total[t].eq(signed_sum(m, terms, f"sum{t}"))
        return m


class PairBuilder(wiring.Component):
    """Fills a buffer of all ten tables, one entry a cycle; the same for ``tokens`` vectors side by side.

    ``start`` (a pulse): reads codes of the 20 columns from ``first_col`` on (``code`` a cycle after ``code_addr``, the
    same address for all tokens; columns from ``cols`` on count as zero) in the order in which the entries follow from
    one another, and writes into ``buffer`` on ``build``.  ``done`` is a pulse with the last write; CYCLES from start to
    done.  One adder of nine bits a token.
    """

    CYCLES: ClassVar[int] = (1 + len(STEPS)) * len(PAIRS) + 4

    def __init__(self, *, cols: int, tokens: int = 1):
        self._tokens = tokens
        super().__init__({
            "start": In(1), "first_col": In(range(cols)), "cols": In(range(cols + 1)), "buffer": In(1),
            "code_addr": Out(range(cols)), "code": In(data.ArrayLayout(signed(8), tokens)),
            "build": Out(pair_build_layout(tokens)), "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        pairs, steps = len(PAIRS), len(STEPS)
        first, cols, buffer = Signal.like(self.first_col), Signal.like(self.cols), Signal()
        pair, step, running = Signal(range(pairs)), Signal(range(steps + 1)), Signal()
        # Step 0 clears; then STEPS.
        column = Signal.like(self.code_addr)
        which = Array([0, *(s[0] for s in STEPS)])[step]
        offset = Mux(which, Array([p[1] for p in PAIRS])[pair], Array([p[0] for p in PAIRS])[pair])
        ending = Signal()
        m.d.comb += ending.eq(running & (step == steps) & (pair == pairs - 1))
        with m.If(self.start):
            m.d.sync += [first.eq(self.first_col), cols.eq(self.cols), buffer.eq(self.buffer), running.eq(1),
                         pair.eq(0), step.eq(0)]
        with m.Elif(running):
            m.d.sync += step.eq(step + 1)
            with m.If(step == steps):
                m.d.sync += [step.eq(0), pair.eq(pair + 1)]
            with m.If(ending):
                m.d.sync += running.eq(0)
        # Stage 1: the column; 2: its code is here, and becomes x; 3: the sum; 4: the write.
        m.d.sync += column.eq(first + offset)
        m.d.comb += self.code_addr.eq(column)
        table = Signal(pairs)
        with m.If(self.start):
            m.d.sync += table.eq(1)
        with m.Elif(running & (step == steps)):
            m.d.sync += table.eq(table << 1)
        clears = running & (step == 0)
        minus = Array([0, *(int(s[1] < 0) for s in STEPS)])[step]
        at = Array([0, *(s[2] for s in STEPS)])[step]
        low = (step == 1) | (step == 3)
        control = Cat(clears, minus, running & (step != 0), low & running, ending, at, table)
        staged = [control]
        for i in range(1, 5):
            stage = Signal(len(control), name=f"stage{i}")
            m.d.sync += stage.eq(staged[-1])
            staged.append(stage)
        inside = [Signal(name=f"inside{i}") for i in range(2)]
        m.d.sync += [inside[0].eq(column < cols), inside[1].eq(inside[0])]
        clear, subtract = staged[3][0], staged[3][1]
        # f(b, c, d) = (b and c) complemented by d: nothing where c and d are 0.
        gated = add_table(lambda a, b: a, lambda a, b, c, d: (b & c) ^ d)
        for t in range(self._tokens):
            x, entry = Signal(signed(8), name=f"x{t}"), Signal(signed(ENTRY_BITS), name=f"entry{t}")
            m.submodules[f"add{t}"] = add = AddOf(width=ENTRY_BITS, table=gated)
            m.d.sync += x.eq(self.code[t])
            m.d.comb += [add.a.eq(entry), add.b.eq(extend(x, ENTRY_BITS)), add.c.eq(mask(inside[1], ENTRY_BITS)),
                         add.d.eq(mask(subtract, ENTRY_BITS)), add.i.eq(subtract)]
            m.d.sync += entry.eq(Mux(clear, Const(0, ENTRY_BITS), add.s))
            m.d.comb += self.build.values[t].eq(entry)
        writes = staged[4]
        m.d.comb += [
            self.build.write.eq(writes[8:] & mask(writes[2], pairs)), self.build.low.eq(writes[3]),
            self.build.last.eq(writes[4]), self.build.at.eq(writes[5:8]), self.build.buffer.eq(buffer),
            self.done.eq(writes[4]),
        ]
        return m
