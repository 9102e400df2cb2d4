# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Counters of a run: cycles, engine, and each SDRAM port's words and busy cycles."""

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.core.address_map import CountersLayout
from hw.lib.control import CountersControl
from hw.lib.ports import PORTS, PortStrobes
from tellme.spec.memory import ACCOUNT

__all__ = ["PORTS", "Counters", "SpentLayout"]

#: What a cycle may be spent on; idle is what is left.
SpentLayout = data.StructLayout({name: 1 for name in ACCOUNT if name != "idle"})



class Counters(wiring.Component):
    """32-bit counters that wrap.  They count while ``control.running`` is high; ``control.clear`` zeroes them.

    ``moved`` and ``busy`` have one bit a port: a 32-bit word moved, the controller works for the port.  ``spent`` has one
    bit an entry of :data:`tellme.spec.memory.ACCOUNT` but idle; a cycle counts under the first that is set, so that these
    counters add up to the cycles.  ``control.totals`` are the sums that events carry; at most one port is
    busy at a time, so that busy cycles add up.  Without ``accounts`` only cycles and engine_busy of ``values`` count, the
    others stay zero.
    """

    control: In(CountersControl)
    engine_busy: In(1)
    head_stall: In(1)
    moved: In(PortStrobes)
    busy: In(PortStrobes)
    refresh: In(1)
    spent: In(SpentLayout)
    values: Out(CountersLayout)

    def __init__(self, *, accounts: bool = True):
        self._accounts = accounts
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        strobes = {"cycles": 1, "engine_busy": self.engine_busy, "head_stall": self.head_stall,
                   "refresh_busy": self.refresh}
        for port in PORTS:
            strobes[f"{port}_words"] = self.moved[port]
            strobes[f"{port}_busy"] = self.busy[port]
        before = Const(0, 1)
        for name in ACCOUNT:
            active = self.spent[name] if name != "idle" else Const(1, 1)
            strobes[f"{name}_cycles"] = active & ~before
            before = before | active
        assert strobes.keys() == CountersLayout.members.keys()
        if not self._accounts:
            strobes = {name: strobes[name] for name in ("cycles", "engine_busy")}
        totals = {"cycles": 1, "engine_busy": self.engine_busy,
                  "read_words": self.moved.weights + self.moved.kv_read + self.moved.host_read,
                  "write_words": self.moved.kv_write + self.moved.host_write,
                  "sdram_busy": self.busy.as_value().any() | self.refresh}
        for view, sources in ((self.values, strobes), (self.control.totals, totals)):
            for name, strobe in sources.items():
                step = Signal(2, name=f"step_{name}")
                counter = view[name]
                m.d.sync += step.eq(strobe)
                with m.If(self.control.clear):
                    m.d.sync += counter.eq(0)
                with m.Elif(self.control.running):
                    m.d.sync += counter.eq(counter + step)
        return m
