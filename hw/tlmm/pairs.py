# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Lookups of two weights: ten tables of five entries, sign-folded, both buffers of a table in one 16-deep LUT RAM.

The sum of a pair (w0, w1) is 0, or plus or minus one of x0, x1, x0 + x1, x1 - x0.

- The index has three bits: w0 and w1 have opposite signs; w1 is not zero; w0 is not zero.
- The sign is the sign of the last weight that is not zero.
- Entry 0 is never written, because LUT RAM begins as zeros.
- An entry has nine bits, and eight of them lie in the RAM (LUT RAM comes in multiples of four bits).  The lowest bit does not
depend
  on signs: it is the exclusive or of the lowest bits of the activations that take part, and is kept apart.
"""

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.serial import Step, build_layout, serial_builder
from hw.tlmm.tree import Term, signed_sum, stages
from tellme.spec.packing import SLICE_BYTES, TRITS, unpack_trits

__all__ = ["PAIRS", "PairBuilder", "PairDot", "PairSelect", "pair_rom"]

#: Columns of each pair: two in each byte, and the fifth trits of two bytes together.
PAIRS = (*((TRITS * b + at, TRITS * b + at + 1) for b in range(SLICE_BYTES) for at in (0, 2)),
         *((TRITS * b + 4, TRITS * b + 9) for b in range(0, SLICE_BYTES, 2)))
ENTRY_BITS = 9
#: The builder's steps for a pair: which activation it adds to the entry before, with which sign, and the address of the result.
STEPS = ((0, 1, 0b001), (1, 1, 0b011), (0, -1, 0b010), (0, -1, 0b111))
#: What a word of four weight bytes selects: an entry and a sign of each byte's two pairs, and the sign of the fifth weights'
#: pair, of which a byte has a half.
PairSelect = data.ArrayLayout(data.StructLayout(
    {"first": 3, "first_sign": 1, "second": 3, "second_sign": 1, "last": 1, "last_sign": 1}), SLICE_BYTES)


BUILD = {"tables": len(PAIRS), "at_bits": 3, "value_bits": ENTRY_BITS}


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

    ``select`` and ``buffer`` may come every cycle; ``total`` follows LATENCY cycles later.  A buffer may be written only while
    ``buffer`` names the other buffer, or while no select matters.  Between two builds ``buffer`` must name the buffer that was
    built first for at least a cycle, because in this cycle the buffer's lowest bits move to where they are used.

    |x| <= 128, so a total needs 13 bits.  Maps to ten 16 x 8 LUT RAMs a token and an adder tree of one LUT a bit.
    """

    LATENCY: ClassVar[int] = 2 + stages(len(PAIRS))

    def __init__(self, *, tokens: int = 1):
        self._tokens = tokens
        super().__init__({"build": In(build_layout(**BUILD, tokens=tokens)), "select": In(PairSelect), "buffer": In(1),
                          "total": Out(data.ArrayLayout(signed(14), tokens))})

    def elaborate(self, platform: object) -> Module:
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
        indices = [Signal(3, name=f"index{k}", reset_less=True) for k in range(len(PAIRS))]
        signs = [[Signal(name=f"sign{k}_{i}", reset_less=True) for i in range(2)] for k in range(len(PAIRS))]
        buffer = Signal()
        m.d.sync += buffer.eq(self.buffer)
        for k, (index, sign) in enumerate(chosen):
            m.d.sync += [indices[k].eq(index), signs[k][0].eq(sign), signs[k][1].eq(signs[k][0])]
        # The lowest bits of a complete buffer wait beside the lowest bits in use.
        whole, built = Signal(), Signal()
        take = Signal()
        m.d.comb += take.eq(whole & (built == self.buffer))
        with m.If(build.write.any()):
            m.d.sync += [whole.eq(build.last), built.eq(build.buffer)]
        with m.Elif(take):
            m.d.sync += whole.eq(0)
        for t in range(self._tokens):
            coming, low = (Signal(2 * len(PAIRS), name=f"{name}{t}", reset_less=True) for name in ("coming", "low"))
            with m.If(build.low):
                m.d.sync += coming.eq(Cat(coming[1:], build.values[t][0]))
            with m.If(take):
                m.d.sync += low.eq(coming)
            terms = []
            for k in range(len(PAIRS)):
                m.submodules[f"table{k}_{t}"] = table = memory.Memory(
                    shape=unsigned(ENTRY_BITS - 1), depth=16, init=[], attrs={"ram_style": "distributed"})
                write, read = table.write_port(), table.read_port(domain="comb")
                value = Signal(signed(ENTRY_BITS), name=f"value{k}_{t}", reset_less=True)
                m.d.comb += [write.addr.eq(Cat(build.at, build.buffer)), write.data.eq(build.values[t][1:]),
                             write.en.eq(build.write[k]), read.addr.eq(Cat(indices[k], buffer))]
                m.d.sync += value.eq(Cat((low[2 * k:2 * k + 2] & indices[k][:2]).xor(), read.data))
                terms.append(Term(value, signs[k][1], -256, 255))
            m.d.comb += self.total[t].eq(signed_sum(m, terms, f"sum{t}"))
        return m


#: One adder per token; 50 entries and some pauses, whatever the number of tokens.
PairBuilder = serial_builder(
    [step for k, pair in enumerate(PAIRS)
     for step in (Step(0), *(Step(pair[which], minus=sign < 0, at=at, table=k, low=at in (0b001, 0b010))
                             for which, sign, at in STEPS))], **BUILD)
