# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""int8 codes of attention heads: absmax over a head, then its elements quantised (TeLLMe v2 section 3.5)."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.fused.arithmetic import Quantise
from hw.lib.types import ScaleLayout
from tellme.spec.formats import BINARY16, FloatFormat

__all__ = ["HeadQuantise"]

BANKS = 4


class HeadQuantise(wiring.Component):
    """code = quantise(x, s) for each head of ``head_dim`` elements, with the s = 127 / absmax and the scale d that an
    :class:`~hw.fused.scales.AbsmaxScale` outside computes.

    ``scale_start`` is a pulse beside a head's ``absmax``, whose floor is the smallest subnormal.  The answers come head by head:
    ``s`` with ``scale_done``, for which the next ``scale_start`` waits, and ``d`` with ``d_done``.  ``d`` is absmax / 127, or
    that times a factor of the head.  It may come up to D_LATE cycles after ``s``.

    A head is written to one of four banks while the heads before it are scaled and read.  Rate: one element per cycle for heads
    of 16 or more elements.  Maps to one EBR of elements.
    """

    #: A head's first code leaves one cycle later: reading the element, two registers, the product.
    D_LATE = 2 + Quantise.LATENCY

    def __init__(self, fmt: FloatFormat = BINARY16, *, max_head_dim: int):
        self._fmt = fmt
        self._dim = 1 << (max_head_dim - 1).bit_length()
        super().__init__({"head_dim": In(range(max_head_dim + 1)), "i": In(stream.Signature(fmt.width)),
                          "scale_start": Out(1), "absmax": Out(fmt.width - 1), "scale_done": In(1), "s": In(ScaleLayout),
                          "d_done": In(1), "d": In(ScaleLayout),
                          "o": Out(stream.Signature(data.StructLayout({"code": signed(8), "scale": ScaleLayout, "last": 1}))),
                          "empty": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m, fmt, dim = Module(), self._fmt, self._dim
        m.submodules.elements = elements = memory.Memory(shape=fmt.width, depth=BANKS * dim, init=[])
        write, read = elements.write_port(), elements.read_port()
        m.submodules.quantise = quantise = Quantise(fmt, tag=1 + 2)

        # ------------------------------------------------------------------ in
        column, bank, top = Signal(range(dim)), Signal(range(BANKS)), Signal(fmt.width - 1)
        written, read_done = Signal(range(BANKS + 1)), Signal()
        head_in = Signal()
        size = self.i.payload[:-1]
        largest = Mux(size > top, size, top)
        peaks = Array(Signal(fmt.width - 1, name=f"peak{i}", reset_less=True) for i in range(BANKS))
        m.d.comb += [self.i.ready.eq(written != BANKS), write.addr.eq(Cat(column, bank)),
                     write.data.eq(self.i.payload), write.en.eq(self.i.valid & self.i.ready)]
        with m.If(write.en):
            m.d.sync += [column.eq(column + 1), top.eq(largest)]
            with m.If(column + 1 == self.head_dim):
                m.d.comb += head_in.eq(1)
                m.d.sync += [column.eq(0), top.eq(0), peaks[bank].eq(largest), bank.eq(bank + 1)]
        # Banks that are written and not read to the end; and the number of these banks that wait for their scale.
        m.d.sync += written.eq(written + head_in - read_done)

        # ------------------------------------------------------------------ scales, one head before the reader
        unscaled, scaled = Signal(range(BANKS + 1)), Signal(range(BANKS + 1))
        scale_bank, d_bank = Signal(range(BANKS)), Signal(range(BANKS))
        scales_s = Array(Signal(ScaleLayout, name=f"s{i}", reset_less=True) for i in range(BANKS))
        scales_d = Array(Signal(ScaleLayout, name=f"d{i}", reset_less=True) for i in range(BANKS))
        begun = Signal()
        m.d.comb += self.absmax.eq(peaks[scale_bank])
        with m.If(~begun & (unscaled != 0)):
            m.d.comb += self.scale_start.eq(1)
            m.d.sync += begun.eq(1)
        with m.If(self.scale_done):
            m.d.sync += [begun.eq(0), scale_bank.eq(scale_bank + 1), scales_s[scale_bank].eq(self.s)]
        with m.If(self.d_done):
            m.d.sync += [d_bank.eq(d_bank + 1), scales_d[d_bank].eq(self.d)]
        m.d.sync += [unscaled.eq(unscaled + head_in - self.scale_done), scaled.eq(scaled + self.scale_done - read_done)]

        # ------------------------------------------------------------------ out
        out_column, out_bank = Signal(range(dim)), Signal(range(BANKS))
        fetched, fetched_last, fetched_bank = Signal(), Signal(), Signal(range(BANKS))
        # A register after the slow EBR.
        element, element_valid = Signal(quantise.i.payload.shape(), reset_less=True), Signal()
        go, free, element_free = Signal(), Signal(), Signal()
        m.d.comb += [
            element_free.eq(~element_valid | quantise.i.ready), free.eq(~fetched | element_free), go.eq((scaled != 0) & free),
            read.addr.eq(Cat(out_column, out_bank)), read.en.eq(go),
            quantise.i.valid.eq(element_valid), quantise.i.payload.eq(element),
        ]
        with m.If(element_free):
            m.d.sync += [element_valid.eq(fetched), element.x.eq(read.data), element.scale.eq(scales_s[fetched_bank]),
                         element.tag.eq(Cat(fetched_last, fetched_bank))]
        with m.If(free):
            m.d.sync += [fetched.eq(go), fetched_last.eq(out_column + 1 == self.head_dim), fetched_bank.eq(out_bank)]
        with m.If(go):
            m.d.sync += out_column.eq(out_column + 1)
            with m.If(out_column + 1 == self.head_dim):
                m.d.comb += read_done.eq(1)
                m.d.sync += [out_column.eq(0), out_bank.eq(out_bank + 1)]
        # d of a head stays in its bank's register until four heads later, long after the head's last code has left.
        m.d.comb += [
            self.o.valid.eq(quantise.o.valid), self.o.p.code.eq(quantise.o.p.code),
            self.o.p.last.eq(quantise.o.p.tag[0]), self.o.p.scale.eq(scales_d[quantise.o.p.tag[1:3]]),
            quantise.o.ready.eq(self.o.ready),
            self.empty.eq(~Cat(written, fetched, element_valid, quantise.o.valid).any()),
        ]
        return m
