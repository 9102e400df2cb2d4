# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Counters of a run: cycles, engine, and each memory client's words and busy cycles."""

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.core.address_map import CountersLayout, HeadCountersLayout
from hw.lib.control import CountersControl
from hw.lib.ports import ClientStrobes
from tellme.spec.memory import ACCOUNT, HEAD_COUNTERS, MEMORY_CLIENTS

__all__ = ["Counters", "SpentLayout"]

#: The activities of a cycle, without idle, which is the rest.
SpentLayout = data.StructLayout({name: 1 for name in ACCOUNT if name != "idle"})


class Counters(wiring.Component):
    """32-bit counters that wrap.  They count while ``control.running`` is high; ``control.clear`` zeroes them.

    ``moved`` and ``busy`` have a bit for each client of the memory: a word of the memory moved; the memory works for the
    client.  At most one bit of each is high, so that words and busy cycles add up.

    ``spent`` has a bit for each entry of :data:`tellme.spec.memory.ACCOUNT` except idle.  A cycle counts under the first bit that
    is set, so that these counters add up to the cycles.  ``control.totals`` are the sums that events carry.  Without ``accounts``
    only cycles and engine_busy of ``values`` count; the others stay zero.

    ``head_values``, with ``two_steps``, count the strobes of ``head``: rows of LM heads in two steps, and those that are read.
    """

    def __init__(self, *, accounts: bool = True, two_steps: bool = False):
        self._accounts, self._two_steps = accounts, two_steps
        super().__init__({"control": In(CountersControl), "engine_busy": In(1), "lm_head_stall": In(1),
                          "moved": In(ClientStrobes), "busy": In(ClientStrobes), "refresh": In(1), "spent": In(SpentLayout),
                          "values": Out(CountersLayout),
                          **({"head": In(data.StructLayout({name: 1 for name in HEAD_COUNTERS})),
                              "head_values": Out(HeadCountersLayout)} if two_steps else {})})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        strobes = {"cycles": 1, "engine_busy": self.engine_busy, "lm_head_stall": self.lm_head_stall,
                   "refresh_busy": self.refresh}
        for client in MEMORY_CLIENTS:
            strobes[f"{client}_words"] = self.moved[client]
            strobes[f"{client}_busy"] = self.busy[client]
        before: Value = Const(0, 1)
        for name in ACCOUNT:
            active = self.spent[name] if name != "idle" else Const(1, 1)
            strobes[f"{name}_cycles"] = active & ~before
            before = before | active
        assert strobes.keys() == CountersLayout.members.keys()
        if not self._accounts:
            strobes = {name: strobes[name] for name in ("cycles", "engine_busy")}
        moves = {mode: Cat(self.moved[name] for name, own in MEMORY_CLIENTS.items() if own == mode).any()
                 for mode in ("read", "write")}
        totals = {"cycles": 1, "engine_busy": self.engine_busy,
                  "read_words": moves["read"], "write_words": moves["write"],
                  "sdram_busy": self.busy.as_value().any() | self.refresh}
        counted = [(self.values, strobes), (self.control.totals, totals)]
        if self._two_steps:
            counted.append((self.head_values, {name: self.head[name] for name in HEAD_COUNTERS}))
        for view, sources in counted:
            for name, strobe in sources.items():
                step = Signal(name=f"step_{name}")
                counter = view[name]
                m.d.sync += step.eq(strobe)
                with m.If(self.control.clear):
                    m.d.sync += counter.eq(0)
                with m.Elif(self.control.running):
                    m.d.sync += counter.eq(counter + step)
        return m
