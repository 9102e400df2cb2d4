# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Hub and DDR3 controller together, and what stands in for a PHY with its chip, for testbenches."""

from collections import deque
from functools import cache

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import FallingEdge

from hw.lib.ports import MemorySpec
from hw.memory.ddr3.controller import Ddr3Controller
from hw.memory.ddr3.dfi import Ddr3CommandLayout, Ddr3DfiSignature, TrainingSignature
from hw.memory.hub import Client, MemoryHub
from sim.cocotb_streams import clocked, settled
from tests.hw.layouts import unpack

__all__ = ["SPEC", "Ddr3Memory", "Phy"]

#: Bursts of 256 bytes; 512 MB.
SPEC = MemorySpec(data_bits=64, addr_bits=27, len_bits=20, burst=32)


class Ddr3Memory(wiring.Component):
    """A hub with its controller; each client's port has the client's name."""

    def __init__(self, clients: list[Client], **options):
        self.hub = MemoryHub(clients, SPEC)
        self.controller = Ddr3Controller(ports=self.hub.ports, spec=SPEC, **options)
        ports = {client.name: In(getattr(self.hub, client.name).signature.flip()) for client in clients}
        super().__init__({**ports, "dfi": Out(Ddr3DfiSignature()), "training": In(TrainingSignature()), "ready": Out(1),
                          "refreshing": Out(1)})
        self._names = list(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.hub, m.submodules.controller = hub, controller = self.hub, self.controller
        for name in self._names:
            connect(m, flipped(getattr(self, name)), getattr(hub, name))
        connect(m, hub.bus, controller.bus)
        connect(m, controller.dfi, flipped(self.dfi))
        connect(m, flipped(self.training), controller.training)
        m.d.comb += [self.ready.eq(controller.ready), self.refreshing.eq(controller.refreshing)]
        return m


@cache
def pins_of(slot):
    """A command's pins by name; none where there is no command."""
    return unpack(Ddr3CommandLayout, slot) if slot else {}


class Phy:
    """A PHY with its chip at the DFI: whole words, no strobes; a word comes ``latency`` cycles after its ``ren``, 5 at least.

    A rule of the chip that is broken, or one of the cut, fails the test.  ``commands`` counts by (ras, cas, we); ``cycles``
    counts cycles.
    """

    #: From a WRITE in slot 1 to its first beat in slot 0, cycles: (1 + CWL 5) / 2.
    WRITE_CYCLES = 3
    #: From the cycle of a READ in slot 1 to its first two beats in slot 1, clocks: 1 + CL 6.
    READ_CLOCKS = 7

    def __init__(self, dut, chip, *, latency):
        assert latency >= 5
        self._clk, self.chip = dut.clk, chip
        signal = {name: getattr(dut, f"dfi__{name}") for name in ("reset", "cke", "odt", "wdata", "wmask", "wen", "ren")}
        self._signal, self._slots = signal, [getattr(dut, f"dfi__slots__{n}") for n in range(2)]
        self._rdata, self._rvalid = dut.dfi__rdata, dut.dfi__rvalid
        self._latency = latency
        self.commands: dict[tuple[int, int, int], int] = {}
        self.cycles = 0

    def count(self, ras, cas, we):
        """Commands of this kind so far."""
        return self.commands.get((ras, cas, we), 0)

    @clocked
    async def run(self):
        signal, chip = self._signal, self.chip
        writes = deque([(0, 0, 0)] * self.WRITE_CYCLES)
        asked = deque([0] * (self._latency - 1))
        beats = deque([0] * (2 * self._latency))
        due = {"wen": False, "ren": False}
        self._rvalid.value, self._rdata.value = 0, 0
        while True:
            await settled()
            levels = {name: int(signal[name].value) for name in ("reset", "cke", "odt")}
            wen, ren = int(signal["wen"].value), int(signal["ren"].value)
            writes.append((wen, int(signal["wdata"].value), int(signal["wmask"].value)) if wen else (0, 0, 0))
            oe, word, mask = writes.popleft()
            column = None
            for n, slot in enumerate(self._slots):
                pins = pins_of(int(slot.value))
                if pins:
                    code = pins["ras"], pins["cas"], pins["we"]
                    self.commands[code] = self.commands.get(code, 0) + 1
                    if code[:2] == (0, 1):
                        assert n == 1, "READ and WRITE are for slot 1"
                        column = "wen" if code[2] else "ren"
                beats.append(chip.clock(**levels, **pins, oe=oe, dq=word >> 32 * n & 0xFFFF_FFFF, dm=mask >> 4 * n & 15))
                beats.popleft()
            violation = chip.violation()
            assert not violation, violation
            for name, value in (("wen", wen), ("ren", ren)):
                assert value == (due[name] or column == name), f"{name} is {value} at its command or behind it"
                due[name] = column == name
            self.cycles += 1
            asked.append(ren)
            await FallingEdge(self._clk)
            # The cycle that begins now is ``latency`` behind the oldest one of ``asked``, and so is the first of ``beats``.
            valid = asked.popleft()
            self._rvalid.value = valid
            first = self.READ_CLOCKS
            self._rdata.value = beats[first] | beats[first + 1] << 32 if valid else 0xDEAD_BEEF_DEAD_BEEF
