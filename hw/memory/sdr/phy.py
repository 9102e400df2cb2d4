# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SDRAM PHY: two beats a fabric cycle through DDR registers in the pads."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In

from hw.memory.sdr.dfi import DfiSignature

__all__ = ["SdramPhy"]


class SdramPhy(wiring.Component):
    """Every pin except the clock goes through a DDR register of domain ``sync``: slot 0 leaves in the first half of the cycle,
    slot 1 in the second half.  The clock pin is a DDR register of domain ``sdram``, at twice the rate: it gives low, then high.
    The controller finds the phase of domain ``sdram``, and the board moves the phase, by ``dfi.phase_step``.

    ``pins`` is the platform's SDRAM resource, requested with dir="-", or simulation ports of the same names.  Pins that
    are active low on the chip are inverted by their port.  Maps to ODDRX1F and IDDRX1F.
    """

    def __init__(self, pins: Any):
        super().__init__({"dfi": In(DfiSignature())})
        self._pins = pins

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dfi, pins = self.dfi, self._pins
        for name, member in (("cs", "cs"), ("ras", "ras"), ("cas", "cas"), ("we", "we"), ("ba", "ba"), ("a", "a"),
                             ("dqm", "dqm")):
            m.submodules[name] = buffer = io.DDRBuffer(io.Direction.Output, getattr(pins, name))
            m.d.comb += [buffer.o[slot].eq(getattr(dfi, f"{member}{slot}")) for slot in range(2)]
        m.submodules.cke = cke = io.DDRBuffer(io.Direction.Output, pins.clk_en)
        m.d.comb += [cke.o[slot].eq(dfi.cke) for slot in range(2)]
        m.submodules.dq = dq = io.DDRBuffer(io.Direction.Bidir, pins.dq)
        m.d.comb += [dq.oe.eq(dfi.wdata_oe), dq.o[0].eq(dfi.wdata[:16]), dq.o[1].eq(dfi.wdata[16:]),
                     dfi.rdata[:16].eq(dq.i[0]), dfi.rdata[16:].eq(dq.i[1])]
        m.submodules.clk = clk = io.DDRBuffer(io.Direction.Output, pins.clk, o_domain="sdram")
        m.d.comb += [clk.o[0].eq(0), clk.o[1].eq(1)]
        return m
