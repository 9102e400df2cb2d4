# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Query PEs of prefill attention, and the walk of words and sums along them (docs/decisions/0008-wires-of-attention.md)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.softmax import WEIGHT_BITS
from hw.attention.word_reader import word_flags
from hw.lib.stages import Stages

__all__ = ["PeColumn", "QueryPe"]

class QueryPe(wiring.Component):
    """One pair of a token and a query head.  K words give the pair's dot; V words times the pair's weights give its sums.

        dot = sum_i q[row][i] * k[i];  sums[d] = sum over keys of weight * v[d]

    ``flags`` are those of the PE's stage of the walk (the oldest last): flags[n] belongs to a word that came n cycles before that
    of flags[0], and ``word`` to flags[2].  A K row's dot is there in the cycle after flags[4].row_end.  A V word is multiplied by
    the weight that was taken last: ``take`` takes ``weight``.  Its products are added to sums[flags.w], or begin them where
    flags.first_key is set.

    A word has ``lanes`` values, 4 or 8.  ``q_write`` has four: ``q_write.word`` counts words of 32 bits.

    While ``drain.on`` is set the PE shows on ``sum`` the sum ``drain.word * lanes + lane``: two cycles after ``drain.word`` lane
    0, then, while ``drain.shift`` is set, the next lane a cycle.  It shows zeros while ``drain.clear`` is set.

    Maps to a multiplier of signed 8x17 a lane (of K's query byte, 8 bits up, or of V's weight), an EBR of q for each four lanes,
    sums in LUT RAM.
    """

    def __init__(self, *, lanes: int, words: int, rows: int, dot_bits: int, sum_bits: int) -> None:
        self._lanes, self._words, self._rows, self._sum_bits = lanes, words, rows, sum_bits
        super().__init__({
            "q_write": In(data.StructLayout({"en": 1, "row": range(rows), "word": range(words * lanes // 4), "data": 32})),
            "row": In(range(rows)), "flags": In(data.ArrayLayout(word_flags(words), 5)), "word": In(8 * lanes),
            "weight": In(WEIGHT_BITS), "take": In(1),
            "drain": In(data.StructLayout({"on": 1, "clear": 1, "shift": 1, "word": range(words)})),
            "dot": Out(signed(dot_bits)), "sum": Out(sum_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        flags, drain, bits, lanes = self.flags, self.drain, self._sum_bits, self._lanes
        m.submodules.sums = sums = memory.Memory(shape=lanes * bits, depth=self._words, init=[])
        sum_write, sum_read = sums.write_port(), sums.read_port(domain="comb")
        # A memory for each 32 bits of a word.
        parts = lanes // 4
        part_bits = (parts - 1).bit_length()
        q_data = []
        for n in range(parts):
            m.submodules[f"q{n}"] = q = memory.Memory(shape=32, depth=self._rows * self._words, init=[],
                                                      attrs={"ram_style": "block"})
            write, read = q.write_port(), q.read_port()
            mine = self.q_write.en & (self.q_write.word[:part_bits] == n) if part_bits else self.q_write.en
            m.d.comb += [write.addr.eq(Cat(self.q_write.word[part_bits:], self.q_write.row)), write.data.eq(self.q_write.data),
                         write.en.eq(mine), read.addr.eq(Cat(flags[0].w, self.row))]
            q_data.append(read.data)
        # Operands: for K the query's byte, 8 bits up; for V the weight.  The operand that is not used is zero, so that the two
        # are simply added.
        q_word, weight = Signal(8 * lanes, reset_less=True), Signal(WEIGHT_BITS, reset_less=True)
        m.d.sync += q_word.eq(Mux(flags[1].k, Cat(q_data), 0))
        with m.If(flags[1].k):
            m.d.sync += weight.eq(0)
        with m.Elif(self.take):
            m.d.sync += weight.eq(self.weight)
        old = Signal(lanes * bits, reset_less=True)
        clear = Mux(drain.on, drain.clear, flags[2].first_key)
        m.d.sync += old.eq(Mux(drain.shift, old >> bits, Mux(clear, 0, sum_read.data)))
        m.d.comb += [sum_read.addr.eq(Mux(drain.on, drain.word, flags[2].w)), sum_write.addr.eq(flags[3].w),
                     sum_write.en.eq(flags[3].v), self.sum.eq(old[:bits])]
        products = []
        for i in range(lanes):
            byte = q_word[8 * i:8 * i + 8]
            factor = Cat(weight[:8], weight[8:] | byte, byte[7]).as_signed()
            product = stage.reg(self.word[8 * i:8 * i + 8].as_signed() * factor, f"product{i}")
            products.append(product[8:])
            part = slice(bits * i, bits * (i + 1))
            m.d.comb += sum_write.data[part].eq(old[part].as_signed() + product)
        # Products of K are there a cycle before their totals, of four each, and the totals a cycle before the dot.
        totals = [stage.reg(sum((x.as_signed() for x in products[n + 1:n + 4]), start=products[n].as_signed()), f"k_total{n}")
                  for n in range(0, lanes, 4)]
        dot = Signal.like(self.dot, reset_less=True)
        with m.If(flags[4].k):
            m.d.sync += dot.eq(sum(totals, start=Mux(flags[4].first_word, 0, dot)))
        m.d.comb += self.dot.eq(dot)
        return m


class PeColumn(wiring.Component):
    """``pes`` query PEs in a column, ``exp_units`` of them a turn: PE p is in turn p // exp_units, with softmax unit p %
    exp_units.

    A word and its ``flags`` reach turn t's PEs t + 1 cycles after they came in.  ``row_came`` is a V row's first word one cycle
    after it came, ``dots`` a K row's last word five cycles after, when turn 0's dots are there in the next cycle; ``first_key``
    belongs to ``dots``.  A PE of turn t takes its weight while ``pop`` is set and pop_turn is t, from ``weights`` of its softmax
    unit.

    Sums walk too, so that no PE needs wires to all others.  While ``drain.on`` is set, each PE adds its own sum to the sum that
    comes from the turn before; the sums of all PEs except drain.pe are zero.  ``send`` marks a sum, and ``send_turn`` is the
    turn of the sum's PE (both when :class:`QueryPe` shows the sum).  The sum is on ``came`` turns - send_turn cycles later.
    ``walking`` is high while a sum is under way.
    """

    def __init__(self, *, pes: int, exp_units: int, lanes: int, words: int, rows: int, dot_bits: int, sum_bits: int) -> None:
        self._pes, self._units, self._turns = pes, exp_units, pes // exp_units
        self._sizes = {"lanes": lanes, "words": words, "rows": rows, "dot_bits": dot_bits, "sum_bits": sum_bits}
        turn = range(self._turns)
        super().__init__({
            "q_write": In(data.StructLayout({"en": 1, "pe": range(pes), "row": range(rows), "word": range(words * lanes // 4),
                                             "data": 32})),
            "row": In(range(rows)), "word": In(8 * lanes), "flags": In(word_flags(words)),
            "row_came": Out(1), "dots_came": Out(1), "first_key": Out(1),
            "weights": In(data.ArrayLayout(WEIGHT_BITS, exp_units)), "pop": In(1), "pop_turn": In(turn),
            "dots": Out(data.ArrayLayout(signed(dot_bits), pes)),
            "drain": In(data.StructLayout({"on": 1, "pe": range(pes), "clear": 1, "shift": 1, "word": range(words)})),
            "send": In(1), "send_turn": In(range(pes)),
            "came": Out(data.StructLayout({"on": 1, "sum": sum_bits})), "walking": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        units, turns, sum_bits = self._units, self._turns, self._sizes["sum_bits"]
        layout = self.flags.shape()
        # Stage s is there s + 1 cycles after the word came.
        word, flags = [stage.reg(self.word, "word0")], [data.View(layout, stage.reg(self.flags.as_value(), "flags0"))]
        for s in range(1, turns + 4):
            word.append(stage.reg(word[-1], f"word{s}"))
            flags.append(data.View(layout, stage.reg(flags[-1].as_value(), f"flags{s}")))
        m.d.comb += [self.row_came.eq(flags[0].v & flags[0].first_word), self.dots_came.eq(flags[4].k & flags[4].row_end),
                     self.first_key.eq(flags[4].first_key)]
        sums = []
        for p in range(self._pes):
            turn = p // units
            m.submodules[f"pe{p}"] = pe = QueryPe(**self._sizes)
            q, drain = self.q_write, self.drain
            m.d.comb += [
                pe.q_write.en.eq(q.en & (q.pe == p)), pe.q_write.row.eq(q.row), pe.q_write.word.eq(q.word),
                pe.q_write.data.eq(q.data), pe.row.eq(self.row), pe.word.eq(word[turn + 2]),
                *(pe.flags[n].eq(flags[turn + n]) for n in range(5)),
                pe.weight.eq(self.weights[p % units]), pe.take.eq(self.pop & (self.pop_turn == turn)),
                pe.drain.on.eq(drain.on), pe.drain.clear.eq(drain.clear | (drain.pe != p)), pe.drain.shift.eq(drain.shift),
                pe.drain.word.eq(drain.word), self.dots[p].eq(pe.dot),
            ]
            sums.append(pe.sum)
        passing: Value = Const(0, sum_bits)
        walks: Value = Const(0, 1)
        walking = []
        for t in range(turns):
            for own in sums[t * units:(t + 1) * units]:
                passing = passing | own
            passing = stage.reg(passing, f"passing{t}")
            walks = stage.reg(walks | (self.send & (self.send_turn == t)), f"walks{t}")
            walking.append(walks)
        m.d.comb += [self.came.on.eq(walks), self.came.sum.eq(passing), self.walking.eq(Cat(walking).any())]
        return m
