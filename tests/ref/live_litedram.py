# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A second opinion on the DDR3 chip model's rules and on the controller: the timing checker of LiteDRAM's DFI model, in Migen's
simulator.  ``make test-ref`` runs this.

The checker keeps each bank's last command, and knows no CAS write latency.  So it does not see tRC, tRTP, tRFC between refreshes,
and the mode registers' and start's times; and it lets tWR and tWTR end CWL + 1 clocks earlier than the standard says.
"""

import random

import pytest
from amaranth.sim import Simulator
from litedram.phy import model
from litedram.phy.dfi import Interface
from migen import Display, Module, Signal, run_simulation

from hw.lib.ports import MemorySpec
from hw.memory.ddr3.controller import Ddr3Controller
from tellme.spec.ddr3 import CHIPS, LEAST, Ddr3Timing
from tests.chips.test_ddr3_chip import CHIP, CWL, GAPS, MHZ, WRITTEN, Driver, T, opened

#: Times that both know, as LiteDRAM's checker takes them: (least clocks, ns).
SHARED = ("trcd", "trp", "tras", "trrd", "tfaw", "twr", "twtr", "trfc", "tzqcs")
#: What the bus is in a clock: (ras, cas, we, bank, address), each 1 when asserted; None: no command.
Trace = list[tuple[int, int, int, int, int] | None]


def complaints(trace: Trace, timing: Ddr3Timing, mhz: float, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What LiteDRAM's checker says of a trace, a line each: the rule's name first.  CK has to be a whole number of ps long."""
    period = 1000 / mhz
    assert (1000 * period).is_integer()
    timings: dict = {f"t{name[1:].upper()}": (LEAST.get(name), getattr(timing, name)) for name in SHARED}
    timings |= {"tRC": (None, timing.trc), "tCCD": (timing.tccd, None), "tREFI": (None, 1000 * timing.refresh_us), "tCK": period}
    dut = Module()
    dfi = Interface(16, 3, 1, 32, nphases=1)
    dut.submodules.checker = model.DFITimingsChecker(dfi, 8, 1, timings, "1x", "DDR3")
    phase = dfi.phases[0]

    def pins():
        for command in [*trace, None, None]:
            ras, cas, we, bank, address = command or (0, 0, 0, 0, 0)
            yield phase.cs_n.eq(command is None)
            yield phase.ras_n.eq(1 - ras)
            yield phase.cas_n.eq(1 - cas)
            yield phase.we_n.eq(1 - we)
            yield phase.bank.eq(bank)
            yield phase.address.eq(address)
            yield

    capsys.readouterr()
    run_simulation(dut, pins())
    return [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(autouse=True)
def numbers_to_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """Migen's simulator displays signals only; the checker gives it plain numbers too."""
    def display(text, *args):
        return Display(text, *(Signal(32, reset=arg) if isinstance(arg, int) else arg for arg in args))

    monkeypatch.setattr(model, "Display", display)


class Recorder:
    """Keeps what a :class:`Driver` sends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.trace: Trace = []
        plain = Driver.clock

        def clock(driver: Driver, **pins: int):
            # ODT and such are levels; the checker looks at commands only.
            command = tuple(pins.get(name, 0) for name in ("ras", "cas", "we", "ba", "a"))
            self.trace.append(command if pins.get("cs") else None)  # type: ignore[arg-type]
            return plain(driver, **pins)

        monkeypatch.setattr(Driver, "clock", clock)

    def of(self, sequence, gap: int) -> Trace:
        self.trace = []
        sequence(gap)
        return self.trace


#: A case of the chip model's tests, and the only thing that LiteDRAM complains about.
RULES = {"tRCD": "ACT->WR", "tRCD of a read": "ACT->RD", "tRP": "PRE->ACT", "tRP of a refresh": "PRE->REF", "tRAS": "ACT->PRE",
         "tRRD": "tRRD", "tFAW": "tFAW", "tCCD": "WR->WR", "tCCD of reads": "RD->RD", "tRFC": "REF->ACT", "tZQCS": "ZQCS->ACT"}


@pytest.mark.parametrize("name", RULES)
def test_both_know_the_rule(name, monkeypatch, capsys):
    sequence, gap, _ = GAPS[name]
    recorder = Recorder(monkeypatch)
    assert complaints(recorder.of(sequence, gap), CHIP, MHZ, capsys) == []
    early = complaints(recorder.of(sequence, gap - 1), CHIP, MHZ, capsys)
    assert {line.partition(" ")[0] for line in early} == {RULES[name]}


def twr(total: int) -> Driver:
    d = opened()
    d.write(T["tras"])
    d.send("PRECHARGE", total)
    return d


def twtr(total: int) -> Driver:
    d = opened(check_unwritten=False)
    d.write(T["trcd"])
    d.read(total)
    return d


@pytest.mark.parametrize("sequence", [twr, twtr])
def test_times_behind_a_write(sequence, monkeypatch, capsys):
    """The chip model's legal sequence is LiteDRAM's too, CWL + 1 clocks ahead of where LiteDRAM begins to complain."""
    recorder = Recorder(monkeypatch)
    legal = WRITTEN + T[sequence.__name__]
    assert sequence(legal).rule() == "" and sequence(legal - 1).rule() != ""
    assert complaints(recorder.of(sequence, legal), CHIP, MHZ, capsys) == []
    assert complaints(recorder.of(sequence, legal - CWL - 1), CHIP, MHZ, capsys) == []
    assert complaints(recorder.of(sequence, legal - CWL - 2), CHIP, MHZ, capsys)


@pytest.mark.parametrize("name", ["MT41K64M16", "MT41K256M16"])
def test_the_controller_breaks_none_of_them(name, capsys):
    """Random bursts through the controller at 100 MHz of the fabric."""
    timing, mhz, cycles = CHIPS[name], 200.0, 5000
    spec = MemorySpec(data_bits=64, addr_bits=24, len_bits=20, burst=32)
    dut = Ddr3Controller(ports=2, spec=spec, timing=timing, mhz=mhz, reset_us=0.5, cke_us=0.5)
    trace: Trace = []
    bursts = {"read": 0, "write": 0}

    async def bench(ctx):
        rng = random.Random(name)
        ctx.set(dut.training.done, 1)
        for cycle in range(cycles):
            if not ctx.get(dut.bus.command.valid):
                begin, pair = rng.randrange(1 << 12), rng.randrange(4)
                ctx.set(dut.bus.command.p.addr, (begin << 5) + 2 * pair)
                ctx.set(dut.bus.command.p.words, 2 * rng.randrange(1, 17 - pair))
                ctx.set(dut.bus.command.p.write, rng.random() < 0.4)
                # A pause now and then, in which refreshes are done.
                ctx.set(dut.bus.command.valid, cycle % 500 > 60 and rng.random() < 0.8)
            ctx.set(dut.bus.wanted, ctx.get(dut.bus.command.valid))
            for slot in dut.dfi.slots:
                pins = [ctx.get(getattr(slot, pin)) for pin in ("ras", "cas", "we", "ba", "a")]
                trace.append(tuple(pins) if ctx.get(slot.cs) else None)
            taken = ctx.get(dut.bus.command.valid) and ctx.get(dut.bus.command.ready)
            write = ctx.get(dut.bus.command.p.write)
            ctx.set(dut.dfi.rvalid, ctx.get(dut.dfi.ren))
            await ctx.tick()
            if taken:
                bursts["write" if write else "read"] += 1
                ctx.set(dut.bus.command.valid, 0)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert min(bursts.values()) > 30 and sum(c is not None and c[:3] == (1, 1, 0) for c in trace) > 3   # refreshes
    assert complaints(trace, timing, mhz, capsys) == []
    # The checker was awake: the same trace a tenth faster breaks a rule.
    assert complaints(trace, timing, 250.0, capsys)
