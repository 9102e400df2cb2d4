# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Heads of several float pipelines on their way to the one attention unit."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts

__all__ = ["HeadMerge"]


class HeadMerge(wiring.Component):
    """o = the heads of all ``i``, each head's payloads together; inputs with heads take turns.

    A payload has ``shape`` (layouts.head_codes if none is named), with ``last`` at a head's end.  Rate: a payload per cycle if
    some input has a payload when a head ends; otherwise a cycle passes before the next head begins.
    """

    def __init__(self, layouts: Layouts, *, inputs: int, shape: data.StructLayout | None = None) -> None:
        self._inputs = inputs
        shape = layouts.head_codes if shape is None else shape
        super().__init__({"i": In(stream.Signature(shape)).array(inputs), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        turn = Signal(range(self._inputs))
        inside = Signal()
        for n, source in enumerate(self.i):
            with m.If(turn == n):
                m.d.comb += [self.o.payload.eq(source.payload), self.o.valid.eq(source.valid), source.ready.eq(self.o.ready)]
        valid = Array(source.valid for source in self.i)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += inside.eq(~self.o.p.last)
        # When no head is under way, the turn goes on to the next input with a head.
        free = Signal()
        m.d.comb += free.eq((~inside & ~self.o.valid) | (self.o.valid & self.o.ready & self.o.p.last))
        with m.If(free):
            for step in range(self._inputs, 0, -1):
                candidate = (turn + step) % self._inputs
                with m.If(valid[candidate]):
                    m.d.sync += turn.eq(candidate)
        return m
