# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The vectors of some tokens in block RAM, arranged so that no wide multiplexer is needed after the block RAMs."""

from functools import reduce
from operator import and_

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.stages import Stages
from tellme.spec.sizing import vector_parts

__all__ = ["Vectors"]


class Vectors(wiring.Component):
    """``tokens`` vectors of ``length`` elements, one written and one read in each cycle.

    ``read_data`` is element ``read_index`` of ``read_token``, two cycles later.

    A length of 1,280 is kept in two memories, 1,024 elements of each token and 256 elements of each token.  The sizes are powers
    of two (:func:`tellme.spec.sizing.vector_parts`), so that an address is made of bits of index and token.  A memory deeper than
    an EBR is then made of narrow EBR side by side, and not of many EBR with a multiplexer.
    """

    def __init__(self, *, width: int, tokens: int, length: int):
        self._width, self._tokens = width, tokens
        self._parts = vector_parts(length)
        token, index = range(max(tokens, 2)), range(length)
        super().__init__({
            "write_en": In(1), "write_token": In(token), "write_index": In(index), "write_data": In(width),
            "read_token": In(token), "read_index": In(index), "read_data": Out(width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        # An element lies beyond a part if its index has the bit of the part's size.
        bits = [size.bit_length() - 1 for size in self._parts[:-1]]
        names = ("low", "high") if len(self._parts) < 3 else ("low", "middle", "high")
        answers = []
        for number, (name, size) in enumerate(zip(names, self._parts, strict=False)):
            m.submodules[name] = part = memory.Memory(shape=self._width, depth=self._tokens * size, init=[])
            write, read = part.write_port(), part.read_port()
            for port, index, token in ((write, self.write_index, self.write_token), (read, self.read_index, self.read_token)):
                within = index[:size.bit_length() - 1]
                m.d.comb += port.addr.eq(Cat(within, token) if self._tokens > 1 else within)
            mine = [self.write_index[bit] == (i < number) for i, bit in enumerate(bits[:number + 1])]
            m.d.comb += [write.data.eq(self.write_data), write.en.eq(self.write_en & (reduce(and_, mine) if mine else 1))]
            # EBR answer late, and lie at the chip's edges, so there is a register before the multiplexer.
            answers.append(stage.reg(read.data, f"{name}_data"))
        answer = answers[-1]
        for number, bit in reversed([*enumerate(bits)]):
            answer = Mux(stage.delay(self.read_index[bit], 2, f"beyond{number}"), answer, answers[number])
        m.d.comb += self.read_data.eq(answer)
        return m
