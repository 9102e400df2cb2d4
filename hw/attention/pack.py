# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Heads of a chunk's tokens in words of four codes, so that attention keeps up with several float pipelines."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.attention.merge import HeadMerge
from hw.lib.layouts import Layouts
from hw.lib.streams import Skid

__all__ = ["HeadPacker", "WordMerge"]


class HeadPacker(wiring.Component):
    """o = the codes of ``i`` in words of four; a head leaves only after all its codes have come.

    Rate: a code per cycle in, a word per cycle out.  Once a head's first word leaves, all its words are there, however slowly its
    codes came.  There is room for two heads of the largest size, so that one head comes in while another waits.  ``empty``: no
    code is in the unit.  Head sizes are multiples of four and at least 16, so a label has four words.  Maps to LUT RAM.
    """

    def __init__(self, layouts: Layouts) -> None:
        self._codes = layouts.head_codes
        self._depth = max(2 * layouts.widths.head_dim // 4, 16)
        super().__init__({"i": In(stream.Signature(layouts.head_codes)), "o": Out(stream.Signature(layouts.head_words)),
                          "empty": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        label_layout = data.StructLayout({name: self._codes[name].shape for name in ("scale", "token", "head")})
        m.submodules.words = words = fifo.SyncFIFO(width=32 + 1, depth=self._depth)
        m.submodules.labels = labels = fifo.SyncFIFO(width=label_layout.size, depth=self._depth // 4)
        label = data.View(label_layout, labels.r_data)
        lane, earlier = Signal(2), Signal(24, reset_less=True)
        code, taken = self.i.p.code, self.i.valid & self.i.ready
        with m.If(taken):
            m.d.sync += [lane.eq(lane + 1), earlier.eq(Cat(earlier, code)[8:])]
        out = self.o.valid & self.o.ready
        m.d.comb += [
            self.i.ready.eq(words.w_rdy),
            words.w_data.eq(Cat(earlier, code, self.i.p.last)), words.w_en.eq(taken & (lane == 3)),
            labels.w_data.eq(Cat(self.i.p.scale, self.i.p.token, self.i.p.head)), labels.w_en.eq(taken & self.i.p.last),
            # A head's label comes with its last code.
            self.o.valid.eq(labels.r_rdy),
            self.o.p.codes.eq(words.r_data[:32]), self.o.p.last.eq(words.r_data[32]),
            self.o.p.scale.eq(label.scale), self.o.p.token.eq(label.token), self.o.p.head.eq(label.head),
            words.r_en.eq(out), labels.r_en.eq(out & self.o.p.last),
            self.empty.eq(~words.r_rdy & (lane == 0)),
        ]
        return m


class WordMerge(wiring.Component):
    """o = the heads of all ``i`` in words of four codes, each head's words together; inputs with heads take turns.

    Each input takes a code per cycle if words leave as fast on average; HeadPacker says what can wait.  A skid on the way out
    keeps the memories' words and the sink's ready in separate cycles.  ``empty``, a cycle late: all codes that came have left.
    """

    def __init__(self, layouts: Layouts, *, inputs: int) -> None:
        self._layouts, self._inputs = layouts, inputs
        super().__init__({"i": In(stream.Signature(layouts.head_codes)).array(inputs),
                          "o": Out(stream.Signature(layouts.head_words)), "empty": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = self._layouts.head_words
        m.submodules.merge = merge = HeadMerge(self._layouts, inputs=self._inputs, shape=words)
        m.submodules.skid = skid = Skid(words)
        empty = [~skid.o.valid]
        for n, (port, into) in enumerate(zip(self.i, merge.i, strict=True)):
            m.submodules[f"packer{n}"] = packer = HeadPacker(self._layouts)
            connect(m, flipped(port), packer.i)
            connect(m, packer.o, into)
            empty.append(packer.empty)
        connect(m, merge.o, skid.i)
        connect(m, skid.o, flipped(self.o))
        m.d.sync += self.empty.eq(Cat(empty).all())
        return m
