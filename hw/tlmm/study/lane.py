# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One lane's sum over a slice: lookups and adder tree."""

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.accumulator import TOTAL_BITS
from tellme.spec.packing import SLICE_BYTES

__all__ = ["PAIR_BITS", "TRIPLE_BITS", "BuildLayout", "SelectLayout", "TableDot"]

#: Of sums of three int8 activations, -128 negated included.
TRIPLE_BITS = 10
#: Of sums of two.
PAIR_BITS = 10
#: What a weight byte selects: see :func:`hw.tlmm.study.tables.byte_rom`.
SelectLayout = data.ArrayLayout(data.StructLayout({"triple": 4, "sign": 1, "pair": 4}), SLICE_BYTES)
#: A write into all eight tables of one buffer; the pair tables take part while ``pair`` is high.
BuildLayout = data.StructLayout({
    "write": 1, "buffer": 1, "triple_at": 4, "pair_at": 4, "pair": 1,
    "triples": data.ArrayLayout(signed(TRIPLE_BITS), SLICE_BYTES),
    "pairs": data.ArrayLayout(signed(PAIR_BITS), SLICE_BYTES),
})


class TableDot(wiring.Component):
    """total = sum over 20 columns of w * x, by lookups of sums of x.

    ``select`` (four bytes' selections) and ``buffer`` (which tables) may come every cycle; ``total`` is there LATENCY
    cycles later.  ``build`` writes the tables of the other buffer meanwhile.

    Ranges: |x| <= 128, so a lookup sum has 10 bits, a total 13.  Initiation interval 1.  Maps to eight 16-deep LUT RAMs a
    buffer.
    """

    LATENCY = 4

    def __init__(self) -> None:
        super().__init__({"build": In(BuildLayout), "select": In(SelectLayout), "buffer": In(1),
                          "total": Out(signed(TOTAL_BITS))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        triples: list[Value] = []
        pairs: list[Value] = []
        signs: list[Value] = []
        for b in range(SLICE_BYTES):
            entry = self.select[b]
            for kind, width, at, values, enable, index, out in (
                ("triple", TRIPLE_BITS, self.build.triple_at, self.build.triples, 1, entry.triple, triples),
                ("pair", PAIR_BITS, self.build.pair_at, self.build.pairs, self.build.pair, entry.pair, pairs),
            ):
                looked = []
                for buffer in range(2):
                    table = memory.Memory(shape=signed(width), depth=16, init=[])
                    m.submodules[f"{kind}{b}_{buffer}"] = table
                    write, read = table.write_port(), table.read_port(domain="comb")
                    m.d.comb += [write.addr.eq(at), write.data.eq(values[b]), read.addr.eq(index),
                                 write.en.eq(self.build.write & enable & (self.build.buffer == buffer))]
                    looked.append(read.data)
                value = Signal(signed(width), name=f"{kind}{b}")
                chosen = Mux(self.buffer, looked[1], looked[0])
                if kind == "triple":
                    # Negation by complement here, its 1 in the tree.
                    sign = Signal(name=f"sign{b}")
                    m.d.sync += [sign.eq(entry.sign),
                                 value.eq(chosen ^ Mux(entry.sign, Const(-1, signed(width)), 0))]
                    signs.append(sign)
                else:
                    m.d.sync += value.eq(chosen)
                out.append(value)
        bytes_ = [Signal(signed(12), name=f"byte{b}") for b in range(SLICE_BYTES)]
        halves = [Signal(signed(13), name=f"half{h}") for h in range(2)]
        m.d.sync += [bytes_[b].eq(triples[b] + pairs[b] + signs[b]) for b in range(SLICE_BYTES)]
        m.d.sync += [halves[h].eq(bytes_[2 * h] + bytes_[2 * h + 1]) for h in range(2)]
        m.d.sync += self.total.eq(halves[0] + halves[1])
        return m
