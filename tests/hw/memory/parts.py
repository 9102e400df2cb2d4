# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""For testbenches: hub and controller together, and the pins of an SDR memory chip in one piece."""

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.lib.ports import MEMORY
from hw.memory.hub import Client, MemoryHub
from hw.memory.sdr.bringup import TrainingLayout
from hw.memory.sdr.controller import SdramController
from hw.memory.sdr.dfi import DfiSignature
from sim.chips.sdram import Chip

__all__ = ["PINS", "Probed", "SdrPins", "SdramMemory", "connect_pins"]

#: What a testbench reads each cycle, in one piece: a chip's pins in both clocks.
PINS = {"pins": Out(data.ArrayLayout(data.StructLayout(Chip.PINS), 2))}


def connect_pins(m, probed, dfi):
    """Drive the port PINS of ``probed`` from a DFI."""
    for slot in range(2):
        of_both = {"cke": dfi.cke, "oe": dfi.wdata_oe}
        m.d.comb += [probed.pins[slot][name].eq(of_both.get(name, getattr(dfi, f"{name}{slot}", None))) for name in Chip.PINS]


class Probed(wiring.Component):
    """A component with a port ``dfi``, as it is, with further ``ports``, which ``connect_ports`` drives from the port ``dfi``."""

    def __init__(self, inner, ports, connect_ports):
        self.inner, self._connect_ports = inner, connect_ports
        super().__init__({**inner.signature.members, **ports})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        for name, member in self.inner.signature.members.items():
            mine, its = getattr(self, name), getattr(self.inner, name)
            if member.is_signature:
                connect(m, flipped(mine), its)
            else:
                m.d.comb += its.eq(mine) if member.flow == In else mine.eq(its)
        self._connect_ports(m, self, self.inner.dfi)
        return m


class SdrPins(Probed):
    """A component with a port ``dfi`` of an SDR memory, with PINS of this port."""

    def __init__(self, inner):
        super().__init__(inner, PINS, connect_pins)


class SdramMemory(wiring.Component):
    """A hub with its controller; each client's port has the client's name."""

    def __init__(self, clients: list[Client], **options):
        self.hub = MemoryHub(clients, MEMORY)
        self.sdram = SdramController(ports=self.hub.ports, **options)
        ports = {client.name: In(getattr(self.hub, client.name).signature.flip()) for client in clients}
        super().__init__({**ports, "dfi": Out(DfiSignature()), "ready": Out(1), "training": Out(TrainingLayout), "beats": In(5),
                          "nudge": In(1), "drain": In(1), "clean": Out(1), **PINS})
        self._names = list(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.hub, m.submodules.sdram = hub, sdram = self.hub, self.sdram
        for name in self._names:
            connect(m, flipped(getattr(self, name)), getattr(hub, name))
        connect(m, hub.bus, sdram.bus)
        connect(m, sdram.dfi, flipped(self.dfi))
        connect_pins(m, self, self.dfi)
        m.d.comb += [self.ready.eq(sdram.ready), self.training.eq(sdram.training), sdram.beats.eq(self.beats),
                     sdram.nudge.eq(self.nudge), hub.drain.eq(self.drain), self.clean.eq(hub.clean)]
        return m
