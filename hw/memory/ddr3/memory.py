# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A core's DDR3 memory: the controller and the training of its reads."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.lib.ports import MemoryBus, MemorySpec
from hw.memory.ddr3.controller import Ddr3Controller
from hw.memory.ddr3.dfi import Ddr3DfiSignature
from hw.memory.ddr3.phy import PhyControlSignature
from hw.memory.ddr3.training import Ddr3Training, OverrideLayout, TrainingLayout
from tellme.spec.ddr3 import Ddr3Timing

__all__ = ["Ddr3Memory"]

#: Cycles without a burst after which no word of a read is under way: more than a PHY's latency.
QUIET = 63


class Ddr3Memory(wiring.Component):
    """Serves ``bus`` from a DDR3 chip behind ``dfi``, whose PHY has the settings ``phy``.

    The controller starts the chip, the training finds the settings; then ``ready`` is high.  ``training`` is what was found, as
    STATUS has it.  ``settings`` are the host's, which count when the training ends.  A cycle of ``retrain`` trains anew, as soon
    as the bus has been quiet for QUIET cycles; ``ready`` is low meanwhile.

    Parameters and errors: those of :class:`~hw.memory.ddr3.controller.Ddr3Controller`.
    """

    def __init__(self, *, ports: int, spec: MemorySpec, timing: Ddr3Timing, mhz: float, reset_us: float | None = None,
                 cke_us: float | None = None):
        self._controller = Ddr3Controller(ports=ports, spec=spec, timing=timing, mhz=mhz, reset_us=reset_us, cke_us=cke_us)
        super().__init__({
            "bus": In(MemoryBus(spec, ports)), "dfi": Out(Ddr3DfiSignature()), "phy": Out(PhyControlSignature()),
            "ready": Out(1), "refreshing": Out(1), "training": Out(TrainingLayout), "settings": In(OverrideLayout),
            "retrain": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.controller = controller = self._controller
        m.submodules.trainer = trainer = Ddr3Training()
        connect(m, flipped(self.bus), controller.bus)
        connect(m, controller.dfi, flipped(self.dfi))
        connect(m, trainer.phy, flipped(self.phy))
        connect(m, trainer.probes, controller.training)
        m.d.comb += [self.ready.eq(controller.ready), self.refreshing.eq(controller.refreshing),
                     self.training.eq(trainer.found), trainer.override.eq(self.settings)]
        asked, quiet = Signal(), Signal(range(QUIET + 1))
        with m.If(self.bus.wanted | self.bus.work.active):
            m.d.sync += quiet.eq(0)
        with m.Elif(quiet != QUIET):
            m.d.sync += quiet.eq(quiet + 1)
        m.d.comb += trainer.again.eq(asked & (quiet == QUIET) & controller.ready & ~self.bus.wanted)
        with m.If(self.retrain):
            m.d.sync += asked.eq(1)
        with m.Elif(trainer.again):
            m.d.sync += asked.eq(0)
        return m
