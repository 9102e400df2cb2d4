# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Hub and controller together, for testbenches: clients on one side, a chip's pins on the other."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.lib.ports import MEMORY
from hw.memory.hub import Client, MemoryHub
from hw.memory.sdr.bringup import TrainingLayout
from hw.memory.sdr.controller import SdramController
from hw.memory.sdr.dfi import DfiSignature

__all__ = ["SdramMemory"]


class SdramMemory(wiring.Component):
    """A hub with its controller; each client's port has the client's name."""

    def __init__(self, clients: list[Client], **options):
        self.hub = MemoryHub(clients, MEMORY)
        self.sdram = SdramController(ports=self.hub.ports, **options)
        ports = {client.name: In(getattr(self.hub, client.name).signature.flip()) for client in clients}
        super().__init__({**ports, "dfi": Out(DfiSignature()), "ready": Out(1), "training": Out(TrainingLayout), "beats": In(5),
                          "nudge": In(1), "drain": In(1), "clean": Out(1)})
        self._names = list(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.hub, m.submodules.sdram = hub, sdram = self.hub, self.sdram
        for name in self._names:
            connect(m, flipped(getattr(self, name)), getattr(hub, name))
        connect(m, hub.bus, sdram.bus)
        connect(m, sdram.dfi, flipped(self.dfi))
        m.d.comb += [self.ready.eq(sdram.ready), self.training.eq(sdram.training), sdram.beats.eq(self.beats),
                     sdram.nudge.eq(self.nudge), hub.drain.eq(self.drain), self.clean.eq(hub.clean)]
        return m
