# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One lane of the engine: lookups, adder tree, accumulators."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from tellme.spec.packing import SLICE_BYTES

__all__ = ["PAIR_BITS", "TRIPLE_BITS", "BuildLayout", "SelectLayout", "TableDot", "TableLane"]

#: Sums of three and of two int8 activations, -128 negated included.
TRIPLE_BITS = 10
PAIR_BITS = 10
#: What a weight byte selects: see :func:`hw.tlmm.tables.byte_rom`.
SelectLayout = data.ArrayLayout(data.StructLayout({"triple": 4, "sign": 1, "pair": 4}), SLICE_BYTES)
#: A write into all eight tables of one buffer; the pair tables take part while ``pair`` is high.
BuildLayout = data.StructLayout({
    "write": 1, "buffer": 1, "triple_at": 4, "pair_at": 4, "pair": 1,
    "triples": data.ArrayLayout(signed(TRIPLE_BITS), SLICE_BYTES),
    "pairs": data.ArrayLayout(signed(PAIR_BITS), SLICE_BYTES),
})


class TableDot(wiring.Component):
    """total[0] = sum over 20 columns of w * x, by lookups of sums of x: eight tables of two buffers each, plain adders.

    ``select`` (four bytes' selections) and ``buffer`` (which tables) may come every cycle; LATENCY cycles later the total
    is there.  |x| <= 128, so a lookup sum has 10 bits, a total 13.  Maps to eight 16-deep LUT RAMs a buffer.
    Raises ValueError for more than one token.
    """

    LATENCY = 4

    def __init__(self, *, tokens: int = 1):
        if tokens != 1:
            raise ValueError(f"tokens is {tokens}; a TableDot serves one")
        super().__init__({"build": In(BuildLayout), "select": In(SelectLayout), "buffer": In(1),
                          "total": Out(data.ArrayLayout(signed(14), 1))})

    def elaborate(self, platform):
        m = Module()
        triples, pairs, signs = [], [], []
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
        total = Signal(signed(14))
        m.d.sync += [bytes_[b].eq(triples[b] + pairs[b] + signs[b]) for b in range(SLICE_BYTES)]
        m.d.sync += [halves[h].eq(bytes_[2 * h] + bytes_[2 * h + 1]) for h in range(2)]
        m.d.sync += total.eq(halves[0] + halves[1])
        m.d.comb += self.total[0].eq(total)
        return m


class TableLane(wiring.Component):
    """acc[row] (+)= sum over 20 columns of w * x, by lookups of sums of x.

    ``step`` with ``select`` (four bytes' selections), ``buffer`` (which tables), ``row`` and ``first`` (start from zero
    instead of the accumulator) may come every cycle; LATENCY cycles later the accumulator is written.  Two steps on
    the same row must lie HAZARD cycles apart.  While no step is under way, ``read_row`` with ``read_en`` gives the
    accumulator on ``value`` one cycle later, and it stays until the next ``read_en``.

    int32 accumulators are exact to 838,000 columns.  Initiation interval 1.  Maps to a :class:`TableDot` and one EBR for
    128 accumulators.
    """

    LATENCY = 2 + TableDot.LATENCY
    HAZARD = 3

    def __init__(self, *, rows: int):
        self._rows = rows
        super().__init__({
            "build": In(BuildLayout),
            "step": In(1), "select": In(SelectLayout), "buffer": In(1), "row": In(range(rows)), "first": In(1),
            "read_row": In(range(rows)), "read_en": In(1), "value": Out(signed(32)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.dot = dot = TableDot()
        m.d.comb += [dot.build.eq(self.build), dot.select.eq(self.select), dot.buffer.eq(self.buffer)]
        # (step, row, first) beside the data: 1 at the lookups' registers, 4 at total, 5 at the sum.
        control = Cat(self.step, self.row, self.first)
        stages = [control]
        for i in range(1, self.LATENCY):
            stage = Signal(len(control), name=f"control{i}")
            m.d.sync += stage.eq(stages[-1])
            stages.append(stage)

        def at(i):
            return stages[i][0], stages[i][1:-1], stages[i][-1]

        m.submodules.accumulators = accumulators = memory.Memory(shape=signed(32), depth=self._rows, init=[])
        read, write = accumulators.read_port(), accumulators.write_port()
        reading, read_row, _ = at(3)
        _, _, first = at(4)
        writing, write_row, _ = at(5)
        summed = Signal(signed(32))
        m.d.comb += [
            read.en.eq(reading | self.read_en), read.addr.eq(Mux(reading, read_row, self.read_row)),
            self.value.eq(read.data),
            write.addr.eq(write_row), write.data.eq(summed), write.en.eq(writing),
        ]
        m.d.sync += summed.eq(Mux(first, 0, read.data) + dot.total[0])
        return m
