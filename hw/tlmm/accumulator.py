# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The accumulators of one lane, and the lane's finished sums."""

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.tlmm.carry import AddOf, add_table, extend, mask
from tellme.spec.packing import SLICE
from tellme.spec.ranges import I8
from tellme.spec.widths import signed_bits_for

__all__ = ["PRODUCT_BITS", "TOTAL_BITS", "Accumulator"]

#: A slice of a row: 20 products of a trit and an int8 code.
TOTAL_BITS = 14
#: A slice's sum times a multiplier.
PRODUCT_BITS = signed_bits_for(SLICE * I8.least**2)


class Accumulator(wiring.Component):
    """acc[row] (+)= total, a row per cycle; after a tile's last slice the sum goes to the finished sums instead.

    With ``planes`` the sum that is written to an accumulator is multiplied by three if ``triple`` is set: Horner's rule between
    the planes of a tile (docs/decisions/0017-planes.md).

    A step takes three cycles:

    1. ``read_row``;
    2. ``total``, with ``first`` to start from zero;
    3. the sum is written: to accumulator ``write_row`` with ``write`` (and with ``triple``, if there is such a port), or to
       finished sum ``finish_at`` with ``finish``.

    Two steps on one row must be HAZARD cycles apart.  Finished sums are read at ``out_at`` with ``out_en``: ``value`` comes a
    cycle later and stays until the next ``out_en``.  Reading finished sums disturbs no step.

    Ranges: totals of ``total_bits`` bits and sums of ``bits`` bits, signed, three times the sum included.  Initiation interval 1.
    Maps to one EBR for ``rows`` accumulators and one EBR for ``finished`` sums, up to 512 each, and bits + 2 LUTs, twice as many
    with ``planes``.  Nothing is read in the cycle in which it is written, so that the memories need no bypass; the adder makes
    the zero.
    """

    HAZARD = 3

    def __init__(self, *, bits: int, rows: int, finished: int, planes: bool = False, total_bits: int = TOTAL_BITS):
        self._bits, self._rows, self._finished, self._planes = bits, rows, finished, planes
        super().__init__({
            "read_row": In(range(rows)),
            "total": In(signed(total_bits)), "first": In(1),
            "write": In(1), "write_row": In(range(rows)), "finish": In(1), "finish_at": In(range(finished)),
            "out_en": In(1), "out_at": In(range(finished)), "value": Out(signed(bits)),
            **({"triple": In(1)} if planes else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m, bits = Module(), self._bits
        m.submodules.sums = sums = memory.Memory(shape=signed(bits), depth=self._rows, init=[], attrs={"no_rw_check": True})
        m.submodules.finished = finished = memory.Memory(shape=signed(bits), depth=self._finished, init=[],
                                                         attrs={"no_rw_check": True})
        read, write = sums.read_port(), sums.write_port()
        out, finish = finished.read_port(), finished.write_port()
        total = Signal(signed(bits), reset_less=True)
        # total + (sum so far AND NOT first)
        m.submodules.add = add = AddOf(width=bits, table=add_table(lambda a, b: a, lambda a, b, c, d: c & d))
        m.d.comb += [add.a.eq(extend(self.total, bits)), add.c.eq(read.data), add.d.eq(mask(~self.first, bits))]
        m.d.sync += total.eq(add.s)
        written: Value = total
        if self._planes:
            # sum + (2 sum AND triple)
            m.submodules.times = times = AddOf(width=bits, table=add_table(lambda a, b: a, lambda a, b, c, d: c & d))
            m.d.comb += [times.a.eq(total), times.c.eq(Cat(Const(0, 1), total)), times.d.eq(mask(self.triple, bits))]
            written = times.s
        m.d.comb += [
            read.addr.eq(self.read_row),
            write.en.eq(self.write), write.addr.eq(self.write_row), write.data.eq(written),
            finish.en.eq(self.finish), finish.addr.eq(self.finish_at), finish.data.eq(total),
            out.en.eq(self.out_en), out.addr.eq(self.out_at), self.value.eq(out.data),
        ]
        return m
