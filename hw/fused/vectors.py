# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The vectors of some tokens in block RAM, arranged so that no wide multiplexer is needed after the block RAMs."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.stages import Stages

__all__ = ["Vectors"]


class Vectors(wiring.Component):
    """``tokens`` vectors of ``length`` elements, one written and one read in each cycle.

    ``read_data`` is element ``read_index`` of ``read_token``, two cycles later.

    A length of 1,280 is kept in two memories, 1,024 elements of each token and 256 elements of each token.  Both sizes are powers
    of two, so that an address is made of bits of index and token.  A memory deeper than an EBR is then made of narrow EBR side by
    side, and not of many EBR with a multiplexer.  The upper part of a length is rounded up to a power of two, which costs up to a
    third of this part.
    """

    def __init__(self, *, width: int, tokens: int, length: int):
        self._width, self._tokens = width, tokens
        self._low = 1 << length.bit_length() - 1
        rest = length - self._low
        self._high = 1 << (rest - 1).bit_length() if rest else 0
        token, index = range(max(tokens, 2)), range(length)
        super().__init__({
            "write_en": In(1), "write_token": In(token), "write_index": In(index), "write_data": In(width),
            "read_token": In(token), "read_index": In(index), "read_data": Out(width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._low.bit_length() - 1
        stage = Stages(m)
        answers = []
        for name, size in (("low", self._low), ("high", self._high)):
            if not size:
                continue
            m.submodules[name] = part = memory.Memory(shape=self._width, depth=self._tokens * size, init=[])
            write, read = part.write_port(), part.read_port()
            for port, index, token in ((write, self.write_index, self.write_token), (read, self.read_index, self.read_token)):
                within = index[:size.bit_length() - 1]
                m.d.comb += port.addr.eq(Cat(within, token) if self._tokens > 1 else within)
            mine = self.write_index[bits] == (name == "high") if self._high else 1
            m.d.comb += [write.data.eq(self.write_data), write.en.eq(self.write_en & mine)]
            # EBR answer late, and lie at the chip's edges, so there is a register before the multiplexer.
            answers.append(stage.reg(read.data, f"{name}_data"))
        m.d.comb += self.read_data.eq(answers[0])
        if self._high:
            m.d.comb += self.read_data.eq(Mux(stage.delay(self.read_index[bits], 2, "upper"), answers[1], answers[0]))
        return m
