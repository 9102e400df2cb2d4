# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Counters: every strobe counts under its name, the account adds up to the cycles, clear works, and counters stop."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.core.address_map import CountersLayout
from hw.core.counters import Counters, SpentLayout
from hw.lib.control import TotalsLayout
from hw.lib.ports import ClientStrobes
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tellme.spec.memory import ACCOUNT, COUNTERS, MEMORY_CLIENTS
from tests.hw.layouts import pack, unpack

#: Counters that a build has; the others stay zero.
COUNTED = os.environ["COUNTED"].split() if "COUNTED" in os.environ else list(COUNTERS)
BENCHES = [Bench(name="all", build=Counters),
           Bench(name="few", build=lambda: Counters(accounts=False), env={"COUNTED": "cycles engine_busy"},
                 tests=("random_strobes",))]


class Model:
    """The expected values of the counters."""

    def __init__(self):
        self.values = dict.fromkeys(COUNTERS, 0)
        self.totals = dict.fromkeys(TotalsLayout.members, 0)

    def clock(self, s):
        v, t = self.values, self.totals
        v["cycles"] += 1
        v["engine_busy"] += s["engine_busy"]
        v["lm_head_stall"] += s["lm_head_stall"]
        v["refresh_busy"] += s["refresh"]
        moved, busy, spent = (unpack(layout, s[name]) for name, layout in LAYOUTS.items())
        for name, mode in MEMORY_CLIENTS.items():
            v[f"{name}_words"] += moved[name]
            v[f"{name}_busy"] += busy[name]
            t[f"{mode}_words"] += moved[name]
        t["cycles"] += 1
        t["engine_busy"] += s["engine_busy"]
        t["sdram_busy"] += int(s["busy"] != 0 or s["refresh"])
        v[f"{next((name for name in ACCOUNT[:-1] if spent[name]), ACCOUNT[-1])}_cycles"] += 1


LAYOUTS = {"moved": ClientStrobes, "busy": ClientStrobes, "spent": SpentLayout}
WIDTHS = {"engine_busy": 1, "lm_head_stall": 1, "refresh": 1, **{name: layout.size for name, layout in LAYOUTS.items()}}


async def bring_up(dut):
    for name in (*WIDTHS, "control__running", "control__clear"):
        getattr(dut, name).value = 0
    await reset(dut)
    dut.control__clear.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.control__clear.value = 0


def check(dut, model):
    got = unpack(CountersLayout, int(dut.values.value))
    assert got == {name: value if name in COUNTED else 0 for name, value in model.values.items()}
    assert unpack(TotalsLayout, int(dut.control__totals.value)) == model.totals
    assert sum(model.values[f"{name}_cycles"] for name in ACCOUNT) == got["cycles"]


async def drive(dut, model, strobes, running):
    """A cycle.  While running, the strobes of the cycle before are counted."""
    for name, value in strobes.items():
        getattr(dut, name).value = value
    dut.control__running.value = running
    last, model.last = getattr(model, "last", None), strobes
    await FallingEdge(dut.clk)
    if running and last is not None:
        model.clock(last)


@cocotb.test()
async def random_strobes(dut):
    await bring_up(dut)
    random, model = rng("strobes"), Model()
    await drive(dut, model, dict.fromkeys(WIDTHS, 0), 0)
    for _ in range(1000):
        # At most one client is busy at a time, and at most one word moves, as in the hub.
        strobes = {name: random.getrandbits(bits) for name, bits in WIDTHS.items()}
        for name in ("busy", "moved"):
            strobes[name] = random.choice((0, *(pack(ClientStrobes, {client: 1}) for client in MEMORY_CLIENTS)))
        strobes["spent"] &= random.getrandbits(WIDTHS["spent"])
        await drive(dut, model, strobes, int(random.random() < 0.8))
        check(dut, model)
    report(cases=1000)


@cocotb.test()
async def each_activity(dut):
    """One activity at a time, and each one together with all that come after it."""
    await bring_up(dut)
    model = Model()
    await drive(dut, model, dict.fromkeys(WIDTHS, 0), 0)
    sets = [*([name] for name in ACCOUNT[:-1]), *(ACCOUNT[i:-1] for i in range(len(ACCOUNT)))]
    for active in sets:
        await drive(dut, model, {**dict.fromkeys(WIDTHS, 0), "spent": pack(SpentLayout, dict.fromkeys(active, 1))}, 1)
        check(dut, model)
    report(cases=len(sets))


@cocotb.test()
async def clear_and_stand_still(dut):
    await bring_up(dut)
    model = Model()
    ones = {name: (1 << bits) - 1 for name, bits in WIDTHS.items()}
    ones |= {"busy": pack(ClientStrobes, weights=1), "moved": pack(ClientStrobes, logits=1)}
    await drive(dut, model, dict.fromkeys(WIDTHS, 0), 0)
    for running in (1, 1, 0, 0, 1):
        await drive(dut, model, ones, running)
        check(dut, model)
    dut.control__clear.value = 1
    await FallingEdge(dut.clk)
    assert int(dut.values.value) == int(dut.control__totals.value) == 0
    report(cases=6)
