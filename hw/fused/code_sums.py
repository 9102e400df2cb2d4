# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The codes of a norm behind a linear on their way back into the pipeline that they come from."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts
from hw.lib.types import ScaleLayout
from tellme.spec.quantise import NORM_FRAC
from tellme.spec.scale import Scale

__all__ = ["CodeSums"]

#: What a code of NORM_FRAC more bits is worth, in d.
WORTH = Scale(1024, -10 - NORM_FRAC)


class CodeSums(wiring.Component):
    """Codes as accumulators: code i of a token is the accumulator of the token's element i, with the scale 2**-NORM_FRAC.

    For pipeline ``number`` of ``streams``: the codes of ``length`` elements of its first token (number ``number`` of the chunk),
    then those of its next token (``number + streams``), and so on.  ``clear`` is a pulse before the first one, while none waits.

    ``acc`` takes a code in the cycle in which it comes; either side may stall.  The bias is none that a pass without ``bias``
    looks at. """

    def __init__(self, layouts: Layouts, *, number: int, streams: int) -> None:
        self._layouts, self._number, self._shift = layouts, number, streams.bit_length() - 1
        super().__init__({"codes": In(stream.Signature(layouts.code)), "acc": Out(stream.Signature(layouts.acc)), "clear": In(1),
                          "length": In(layouts.widths.row_count_bits)})

    def elaborate(self, platform: object) -> Module:
        m, widths = Module(), self._layouts.widths
        index, own = Signal(widths.row_bits), Signal(widths.token_bits)
        acc = self.acc
        m.d.comb += [
            acc.valid.eq(self.codes.valid), self.codes.ready.eq(acc.ready), acc.p.acc.eq(self.codes.payload),
            acc.p.scale.eq(ScaleLayout.const({"sig": WORTH.sig, "exp": WORTH.exp})), acc.p.place.index.eq(index),
            acc.p.place.token.eq(Cat(Const(self._number, self._shift), own)),
        ]
        with m.If(self.clear):
            m.d.sync += [index.eq(0), own.eq(0)]
        with m.Elif(acc.valid & acc.ready):
            m.d.sync += index.eq(index + 1)
            with m.If(index + 1 == self.length):
                m.d.sync += [index.eq(0), own.eq(own + 1)]
        return m
