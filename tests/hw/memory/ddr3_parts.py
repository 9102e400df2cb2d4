# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Hub and DDR3 controller together, and what stands in for a PHY with its chip, for testbenches."""

from collections import deque
from functools import cache

from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import FallingEdge

from hw.lib.ports import MemorySpec
from hw.memory.ddr3.controller import Ddr3Controller
from hw.memory.ddr3.dfi import Ddr3CommandLayout, Ddr3DfiSignature, TrainingSignature
from hw.memory.hub import Client, MemoryHub
from sim.chips.ddr3 import Ddr3Chip
from sim.cocotb_streams import clocked, settled
from tests.hw.layouts import unpack
from tests.hw.memory.parts import Probed

__all__ = ["SPEC", "Ddr3Memory", "Phy", "Pins", "Reader"]

#: Bursts of 256 bytes; 512 MB.
SPEC = MemorySpec(data_bits=64, addr_bits=27, len_bits=20, burst=32)
#: Pins of the DFI that the testbench looks at in each cycle.
STROBES = data.StructLayout({"reset": 1, "cke": 1, "odt": 1, "wen": 1, "ren": 1})
#: What a :class:`Phy` reads each cycle, in one piece.
PROBES = {"commands": Out(data.ArrayLayout(Ddr3CommandLayout, 2)), "strobes": Out(STROBES)}


def connect_probes(m, probed, dfi):
    """Drive the ports PROBES of ``probed`` from a DFI."""
    m.d.comb += [probed.commands.as_value().eq(Cat(*(s.as_value() for s in dfi.slots))),
                 *(probed.strobes[name].eq(getattr(dfi, name)) for name in STROBES.members)]


class Pins(Probed):
    """A component with a port ``dfi`` of a DDR3 memory, with PROBES of this port."""

    def __init__(self, inner):
        super().__init__(inner, PROBES, connect_probes)


class Ddr3Memory(wiring.Component):
    """A hub with its controller; each client's port has the client's name."""

    def __init__(self, clients: list[Client], **options):
        self.hub = MemoryHub(clients, SPEC)
        self.controller = Ddr3Controller(ports=self.hub.ports, spec=SPEC, **options)
        ports = {client.name: In(getattr(self.hub, client.name).signature.flip()) for client in clients}
        super().__init__({**ports, "dfi": Out(Ddr3DfiSignature()), "training": In(TrainingSignature()), "ready": Out(1),
                          **PROBES})
        self._names = list(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.hub, m.submodules.controller = hub, controller = self.hub, self.controller
        for name in self._names:
            connect(m, flipped(getattr(self, name)), getattr(hub, name))
        connect(m, hub.bus, controller.bus)
        connect(m, controller.dfi, flipped(self.dfi))
        connect(m, flipped(self.training), controller.training)
        m.d.comb += self.ready.eq(controller.ready)
        connect_probes(m, self, self.dfi)
        return m


@cache
def pins_of(commands):
    """For each clock of a cycle: the command's pins for the chip, and (ras, cas, we) where there is one."""
    both = []
    for slot in unpack(data.ArrayLayout(Ddr3CommandLayout, 2), commands):
        both.append((Ddr3Chip.pins(**slot), (slot["ras"], slot["cas"], slot["we"]) if slot["cs"] else None))
    return both


@cache
def strobes_of(value):
    """(levels for the chip, wen, ren)."""
    strobes = unpack(STROBES, value)
    return Ddr3Chip.pins(**{name: strobes[name] for name in ("reset", "cke", "odt")}), strobes["wen"], strobes["ren"]


class Phy:
    """A PHY with its chip at the DFI: whole words, no strobes; a word comes ``latency`` cycles after its ``ren``, 5 at least.

    A rule of the chip that is broken, or one of the cut, fails the test.  ``count`` counts commands by (ras, cas, we); ``cycles``
    counts cycles.
    """

    #: From a WRITE in slot 1 to its first beat in slot 0, cycles: (1 + CWL 5) / 2.
    WRITE_CYCLES = 3
    #: From the cycle of a READ in slot 1 to its first two beats in slot 1, clocks: 1 + CL 6.
    READ_CLOCKS = 7

    def __init__(self, dut, chip, *, latency):
        assert latency >= 5
        self._clk, self._dut, self.chip, self._latency = dut.clk, dut, chip, latency
        self.commands: dict[tuple[int, int, int], int] = {}
        self.cycles = 0

    def count(self, ras, cas, we):
        """Commands of this kind so far."""
        return self.commands.get((ras, cas, we), 0)

    @clocked
    async def run(self):
        dut, chip = self._dut, self.chip
        commands, strobes, wdata, wmask = dut.commands, dut.strobes, dut.dfi__wdata, dut.dfi__wmask
        rdata, rvalid = dut.dfi__rdata, dut.dfi__rvalid
        writes = deque([(0, 0, 0)] * self.WRITE_CYCLES)
        asked = deque([0] * (self._latency - 1))
        beats = deque([0] * (2 * self._latency))
        due, wrote, was_valid = None, 1, True
        while True:
            await settled()
            levels, wen, ren = strobes_of(int(strobes.value))
            writes.append((1, int(wdata.value), int(wmask.value)) if wen else (0, 0, 0))
            oe, word, mask = writes.popleft()
            column = None
            for n, (pins, code) in enumerate(pins_of(int(commands.value))):
                if code:
                    self.commands[code] = self.commands.get(code, 0) + 1
                    if code[:2] == (0, 1):
                        assert n == 1, "READ and WRITE are for slot 1"
                        column = "wen" if code[2] else "ren"
                if oe:
                    pins |= Ddr3Chip.pins(oe=1, dm=mask >> 4 * n & 15)
                beats.append(chip.clock_pins(levels | pins, word >> 32 * n & 0xFFFF_FFFF))
                beats.popleft()
            assert not chip.violated, chip.violation()
            assert (wen, ren) == ("wen" in (due, column), "ren" in (due, column)), "wen and ren go with commands"
            if wrote and not wen:
                assert not int(wdata.value) and not int(wmask.value), "zeros where nothing is written"
            due, wrote = column, wen
            self.cycles += 1
            asked.append(ren)
            await FallingEdge(self._clk)
            # The cycle that begins now is ``latency`` behind the oldest one of ``asked``, and so is the first of ``beats``.
            valid = asked.popleft()
            if valid:
                rdata.value = beats[self.READ_CLOCKS] | beats[self.READ_CLOCKS + 1] << 32
            if valid != was_valid:
                rvalid.value = was_valid = valid
                if not valid:
                    rdata.value = 0xDEAD_BEEF_DEAD_BEEF


class Reader:
    """Takes from a stream output without a pause, and in less time than a StreamSink."""

    def __init__(self, dut, name):
        self._clk = dut.clk
        self._payload, self._valid, self._ready = (getattr(dut, f"{name}__{part}") for part in ("payload", "valid", "ready"))

    @clocked
    async def recv_n(self, n):
        """The next n payloads."""
        got = []
        self._ready.value = 1
        while len(got) < n:
            await settled()
            if self._valid.value:
                got.append(int(self._payload.value))
            await FallingEdge(self._clk)
        self._ready.value = 0
        return got
