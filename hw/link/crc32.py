# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""CRC-32 as zlib computes it, some bits a cycle."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["POLYNOMIAL", "Crc32"]

#: Bit-reversed 0x04C11DB7.
POLYNOMIAL = 0xEDB88320


class Crc32(wiring.Component):
    """``crc`` = zlib.crc32 of all data since ``clear``, taken ``width`` bits (whole bytes, low one first) at a time.

    One word a cycle while ``valid``; the result is there in the next cycle.  ``clear`` wins over ``valid``.
    """

    def __init__(self, width: int = 8):
        if width % 8 or width < 8:
            raise ValueError(f"a CRC takes whole bytes, not {width} bits")
        self._width = width
        super().__init__({"clear": In(1), "valid": In(1), "data": In(width), "crc": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(32, init=0xFFFFFFFF)
        value: Value = state
        for i in range(self._width):
            bit = value[0] ^ self.data[i]
            value = (value >> 1) ^ Mux(bit, POLYNOMIAL, 0)
            step = Signal(32, name=f"step{i}")
            m.d.comb += step.eq(value)
            value = step
        with m.If(self.clear):
            m.d.sync += state.eq(0xFFFFFFFF)
        with m.Elif(self.valid):
            m.d.sync += state.eq(value)
        m.d.comb += self.crc.eq(~state)
        return m
