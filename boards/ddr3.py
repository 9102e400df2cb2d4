# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Boards with a DDR3 chip of 16 bits: clocks with their start-up sequence, and the PHY."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Module, Signal, Value
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer

from boards.core import CoreInstance
from boards.top import BoardTop
from hw.memory.ddr3.clocks import Ddr3Clocks, Ddr3Pll
from hw.memory.ddr3.phy import Ddr3Phy
from tellme.spec.config import CoreConfig

__all__ = ["Ddr3BoardTop"]


class Ddr3BoardTop(BoardTop):
    """A board with a DDR3 chip, resource ``ddr3``.  The oscillator's clock, domain ``init``, starts the clocks; the fabric's
    clock is half of the edge clock, which is the chip's CK.

    ``mask_lanes`` has, for the mask pin of each byte lane, the lane whose bytes that pin masks.  ``bridge``: the chip's pins
    are on both sides of the FPGA, so that the edge clock needs an ECLKBRIDGECS.  The failure that
    :meth:`memory` returns is a lost lock of DDRDLLA.
    """

    mask_lanes: tuple[int, ...] = (0, 1)
    bridge = False

    @classmethod
    def clocks(cls, platform: Any, config: CoreConfig) -> dict[str, float]:
        return Ddr3Pll.between(cls.input_mhz(platform), config.fabric_mhz).clocks

    def memory(self, m: Module, platform: Any, core: CoreInstance) -> tuple[Value, ...]:
        m.domains.init = ClockDomain(reset_less=True)
        m.domains.sync = ClockDomain()
        m.domains.io = ClockDomain()
        m.domains.ddr = ClockDomain(reset_less=True)
        m.submodules.clock = clock = io.Buffer(io.Direction.Input, platform.request(self.clock, dir="-"))
        m.d.comb += ClockSignal("init").eq(clock.i)
        m.submodules.clocks = clocks = Ddr3Clocks(Ddr3Pll.between(self.input_mhz(platform), self.config.fabric_mhz),
                                                   bridge=self.bridge)
        m.submodules.phy = phy = Ddr3Phy(platform.request("ddr3", dir="-"), mask_lanes=self.mask_lanes)
        wiring.connect(m, core.dfi, phy.dfi)
        wiring.connect(m, core.phy, phy.control)
        lost = Signal()
        m.submodules.lost = FFSynchronizer(clocks.lost, lost)
        m.d.comb += [phy.ddrdel.eq(clocks.ddrdel), phy.start_pause.eq(clocks.pause)]
        return (lost,)
