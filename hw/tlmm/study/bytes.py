# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Lookups of a whole byte: five weights, sign-folded tables of 122 entries in EBR.

A word of an EBR (36 bits) holds the same entry of three vectors: under one select all vectors of a dot look up the same
address.  So four EBR with both buffers serve up to three vectors.
"""

from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.carry import AddOf, add_table, extend, mask
from hw.tlmm.study.gray_order import folded_entry, folded_steps
from hw.tlmm.tree import Term, signed_sum, stages
from tellme.spec.packing import SLICE_BYTES, TRITS, unpack_trits

__all__ = ["ByteBuilder", "ByteDot", "ByteSelect", "byte_build_layout", "byte_rom"]

ENTRY_BITS = 11
ENTRIES = (3**TRITS + 1) // 2
#: Vectors whose entries share an EBR's word.
PACK = 3
#: What a word selects: of each byte an entry of 128, and a sign.
ByteSelect = data.ArrayLayout(data.StructLayout({"index": 7, "sign": 1}), SLICE_BYTES)


def byte_build_layout(tokens: int) -> data.StructLayout:
    """A write into the four tables of all vectors."""
    return data.StructLayout({"write": 1, "buffer": 1, "at": 7, "values": data.ArrayLayout(
        data.ArrayLayout(signed(ENTRY_BITS), SLICE_BYTES), tokens)})


def byte_rom() -> list[int]:
    """256 entries of eight bits; bytes that are no weights select entry 0, which is zero."""
    rom = []
    for byte in range(256):
        index, negative = folded_entry(unpack_trits(byte)) if byte < 3**TRITS else (0, False)
        rom.append(index | negative << 7)
    return rom


class ByteDot(wiring.Component):
    """total[t] = sum over 20 columns of w * x[t]: interface and rules of :class:`hw.tlmm.pairs.PairDot`.

    Entry 0 is never written: EBR begin as zeros.  Four EBR for every three vectors.
    """

    LATENCY: ClassVar[int] = 2 + stages(SLICE_BYTES)

    def __init__(self, *, tokens: int = 1):
        self._tokens = tokens
        super().__init__({"build": In(byte_build_layout(tokens)), "select": In(ByteSelect), "buffer": In(1),
                          "total": Out(data.ArrayLayout(signed(14), tokens))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        build = self.build
        at = [Signal(8, name=f"at{b}") for b in range(SLICE_BYTES)]
        signs = [[Signal(name=f"sign{b}_{i}") for i in range(2)] for b in range(SLICE_BYTES)]
        for b in range(SLICE_BYTES):
            m.d.sync += [at[b].eq(Cat(self.select[b].index, self.buffer)), signs[b][0].eq(self.select[b].sign),
                         signs[b][1].eq(signs[b][0])]
        values: list[list] = [[] for _ in range(self._tokens)]
        for first in range(0, self._tokens, PACK):
            pack = range(first, min(first + PACK, self._tokens))
            for b in range(SLICE_BYTES):
                m.submodules[f"table{b}_{first}"] = table = memory.Memory(
                    shape=ENTRY_BITS * len(pack), depth=256, init=[], attrs={"ram_style": "block", "no_rw_check": True})
                write, read = table.write_port(), table.read_port()
                m.d.comb += [write.addr.eq(Cat(build.at, build.buffer)), write.en.eq(build.write), read.addr.eq(at[b]),
                             write.data.eq(Cat(build.values[t][b] for t in pack))]
                for n, t in enumerate(pack):
                    value = Signal(signed(ENTRY_BITS), name=f"value{b}_{t}")
                    m.d.comb += value.eq(read.data.word_select(n, ENTRY_BITS))
                    values[t].append(Term(value, signs[b][1], -640, 639))
        for t in range(self._tokens):
            m.d.comb += self.total[t].eq(signed_sum(m, values[t], f"sum{t}"))
        return m


class ByteBuilder(wiring.Component):
    """Fills a buffer of the four tables, an entry of each a cycle; the same for all vectors.

    Ports as :class:`hw.tlmm.pairs.PairBuilder`, but that ``code`` gives four codes at a time, of the columns c, c + 5,
    c + 10 and c + 15: ``code_addr`` is 5 s + j for column j of slice s.  ``first_col`` is a multiple of 20.  Four adders of
    eleven bits a vector, one EBR for the order.
    """

    CYCLES: ClassVar[int] = ENTRIES + 5

    def __init__(self, *, cols: int, tokens: int = 1):
        self._tokens = tokens
        super().__init__({
            "start": In(1), "first_col": In(range(cols)), "cols": In(range(cols + 1)), "buffer": In(1),
            "code_addr": Out(range(-(-cols // SLICE_BYTES))),
            "code": In(data.ArrayLayout(data.ArrayLayout(signed(8), SLICE_BYTES), tokens)),
            "build": Out(byte_build_layout(tokens)), "done": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        steps = [(0, 0), *folded_steps(TRITS)]
        first, cols, buffer = Signal.like(self.first_col), Signal.like(self.cols), Signal()
        step, running, ending = Signal(range(ENTRIES + 1)), Signal(), Signal()
        m.d.comb += ending.eq(running & (step == ENTRIES - 1))
        with m.If(self.start):
            m.d.sync += [first.eq(self.first_col), cols.eq(self.cols), buffer.eq(self.buffer), running.eq(1), step.eq(0)]
        with m.Elif(running):
            m.d.sync += step.eq(step + 1)
            with m.If(ending):
                m.d.sync += running.eq(0)
        m.submodules.program = rom = memory.Memory(
            shape=data.StructLayout({"which": 3, "minus": 1}), depth=ENTRIES,
            init=[{"which": which, "minus": sign < 0} for which, sign in steps], attrs={"ram_style": "block"})
        read = rom.read_port()
        m.d.comb += read.addr.eq(step)
        # Stage 1: the ROM's word; 2: the column; 3: its codes are here; 4: they are x; 5: the sums, and their write.
        column = Signal.like(self.first_col)
        m.d.sync += [self.code_addr.eq(first[2:] + read.data.which), column.eq(first + read.data.which)]
        begins = Cat(step == 0, running & (step != 0), ending, step)
        begun = Signal(len(begins))
        m.d.sync += begun.eq(begins)
        staged: list[Value] = [Cat(begun[0], read.data.minus, begun[1:])]
        for i in range(2, 6):
            stage = Signal(len(staged[0]), name=f"stage{i}")
            m.d.sync += stage.eq(staged[-1])
            staged.append(stage)
        clear, subtract = staged[3][0], staged[3][1]
        inside = [Signal(name=f"inside{b}") for b in range(SLICE_BYTES)]
        m.d.sync += [inside[b].eq(column + TRITS * b < cols) for b in range(SLICE_BYTES)]
        signed_operand = add_table(lambda a, b: a, lambda a, b, c, d: (b & c) ^ d)
        for t in range(self._tokens):
            for b in range(SLICE_BYTES):
                x, entry = Signal(signed(8), name=f"x{t}_{b}"), Signal(signed(ENTRY_BITS), name=f"entry{t}_{b}")
                m.submodules[f"add{t}_{b}"] = add = AddOf(width=ENTRY_BITS, table=signed_operand)
                m.d.sync += x.eq(Mux(inside[b], self.code[t][b], 0))
                m.d.comb += [add.a.eq(entry), add.b.eq(extend(x, ENTRY_BITS)), add.c.eq(Const(-1, signed(ENTRY_BITS))),
                             add.d.eq(mask(subtract, ENTRY_BITS)), add.i.eq(subtract)]
                m.d.sync += entry.eq(Mux(clear, Const(0, ENTRY_BITS), add.s))
                m.d.comb += self.build.values[t][b].eq(entry)
        writes = staged[4]
        m.d.comb += [self.build.write.eq(writes[2]), self.build.at.eq(writes[4:]), self.build.buffer.eq(buffer),
                     self.done.eq(writes[3])]
        return m
