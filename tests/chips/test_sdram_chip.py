# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The chip model's rules: a legal sequence passes; the same sequence a clock too early, or without the step, is refused by
name."""

from dataclasses import replace

import pytest

from sim.chips.sdram import Chip
from tellme.spec.sdram import CHIPS, SLOWEST

ALL = 1 << 10
#: Burst length 2, CAS latency 3.
MODE = 3 << 4 | 1
COMMANDS = {"ACTIVE": (1, 0, 0), "READ": (0, 1, 0), "WRITE": (0, 1, 1), "PRECHARGE": (1, 0, 1), "REFRESH": (1, 1, 0),
            "MODE": (1, 1, 1), "NOP": (0, 0, 0)}
POWER_UP_US = 2.0
MHZ = 100.0
T = {name: SLOWEST.clocks(getattr(SLOWEST, name), MHZ) for name in ("trp", "trcd", "tras", "trc", "trrd", "twr", "trfc")}


class Driver:
    """Sends commands, each so many clocks after the one before."""

    def __init__(self, **options):
        options = {"mhz": MHZ, "power_up_us": POWER_UP_US, "row_bits": 6, **options}
        self.chip = Chip(**options)

    def send(self, name, gap=1, **pins):
        """NOPs for gap - 1 clocks, then the command."""
        for _ in range(gap - 1):
            self.chip.clock()
        ras, cas, we = COMMANDS[name]
        return self.chip.clock(cs=1, ras=ras, cas=cas, we=we, **pins)

    def idle(self, clocks):
        return [(self.chip.clock(), self.chip.driven) for _ in range(clocks)]

    def power_up(self, *, pause=200, refreshes=2, all_banks=True, mode=MODE, tmrd=2):
        self.idle(pause)
        if all_banks:
            self.send("PRECHARGE", a=ALL)
        for i in range(refreshes):
            self.send("REFRESH", T["trp"] if i == 0 else T["trfc"])
        self.send("MODE", T["trfc"] if refreshes else T["trp"], a=mode)
        self.idle(tmrd - 1)
        return self

    def write(self, gap=1, *, a=0, ba=0, value=0x1234, beats=2):
        self.send("WRITE", gap, ba=ba, a=a, oe=1, dq=value)
        for i in range(1, beats):
            self.chip.clock(oe=1, dq=value + i)


def ready(**options):
    driver = Driver(**options).power_up()
    driver.idle(4)
    return driver


def opened(bank=0, row=1, **options):
    driver = ready(**options)
    driver.send("ACTIVE", ba=bank, a=row)
    return driver


# Each case: a function of the last gap in clocks, the gap that is legal, and the rule.
def trcd(gap):
    d = opened()
    d.write(gap)
    return d


def trp(gap):
    d = opened()
    d.send("PRECHARGE", T["trc"])
    d.send("ACTIVE", gap, a=2)
    return d


def tras(gap):
    d = opened()
    d.send("PRECHARGE", gap)
    return d


def trc(gap):
    # A chip whose tRC is longer than tRAS and tRP together.
    d = opened(timing=replace(SLOWEST, trc=100))
    d.send("PRECHARGE", T["tras"])
    d.send("ACTIVE", gap - T["tras"], a=2)
    return d


def trrd(gap):
    d = opened()
    d.send("ACTIVE", gap, ba=1, a=1)
    return d


def twr(gap):
    d = opened()
    d.write(T["tras"])
    d.send("PRECHARGE", gap)
    return d


def trfc(gap):
    d = ready()
    d.send("REFRESH")
    d.send("ACTIVE", gap, a=1)
    return d


def tmrd(gap):
    d = Driver().power_up(tmrd=1)
    d.send("ACTIVE", gap, a=1)
    return d


def power_up_pause(gap):
    d = Driver()
    d.idle(gap - 1)
    d.send("PRECHARGE", a=ALL)
    return d


GAPS = [(trcd, T["trcd"], "tRCD"), (trp, T["trp"], "tRP"), (tras, T["tras"], "tRAS"), (trc, 10, "tRC"),
        (trrd, T["trrd"], "tRRD"), (twr, T["twr"], "tWR"), (trfc, T["trfc"], "tRFC"), (tmrd, 2, "tMRD"),
        (power_up_pause, 201, "power-up pause")]


@pytest.mark.parametrize(("sequence", "gap", "rule"), GAPS, ids=[rule for _, _, rule in GAPS])
def test_a_clock_too_early(sequence, gap, rule):
    assert sequence(gap).chip.violation() == ""
    assert sequence(gap - 1).chip.violation().startswith(f"{rule}:")


STEPS = {
    "precharge all": (lambda: Driver().power_up(all_banks=False), "power-up order"),
    "refreshes": (lambda: Driver().power_up(refreshes=1), "power-up order"),
}


@pytest.mark.parametrize("name", STEPS)
def test_power_up_without_a_step(name):
    sequence, rule = STEPS[name]
    assert sequence().chip.violation().startswith(f"{rule}:")
    assert Driver().power_up().chip.violation() == ""


def test_command_before_the_mode_register():
    d = Driver()
    d.idle(200)
    d.send("PRECHARGE", a=ALL)
    d.send("ACTIVE", T["trp"], a=1)
    assert d.chip.violation().startswith("power-up order:")


def test_access_to_a_closed_row():
    d = ready()
    d.send("READ")
    assert d.chip.violation().startswith("closed row:")


def test_activate_on_an_open_bank():
    d = opened()
    d.send("ACTIVE", 20, a=2)
    assert d.chip.violation().startswith("activate open bank:")


def test_data_comes_after_the_cas_latency():
    d = opened()
    d.write(T["trcd"], value=0x1000)
    d.send("READ", 2)
    got = d.idle(5)
    assert [driven for _, driven in got] == [False, False, True, True, False]
    assert [v for v, driven in got if driven] == [0x1000, 0x1001]
    assert d.chip.violation() == ""


@pytest.mark.parametrize(("limit", "legal"), [(100.0, True), (99.9, False)])
def test_cas_latency_2_needs_a_slow_clock(limit, legal):
    d = Driver(timing=replace(SLOWEST, cl2_mhz=limit)).power_up(mode=2 << 4 | 1)
    assert d.chip.violation().startswith("CAS latency:") is not legal


def test_mode_with_no_cas_latency():
    assert Driver().power_up(mode=1 << 4 | 1).chip.violation().startswith("CAS latency:")


@pytest.mark.parametrize(("refreshes", "legal"), [(8192, True), (8191, False)])
def test_refresh_count(refreshes, legal):
    """8,192 refreshes in 64 ms; here the time is scaled to 1 ms."""
    d = Driver(refresh_ms=1.0)
    d.power_up()
    # 100,000 clocks hold 8,192 refreshes of 8 clocks; the power-up's two were before the window.
    for _ in range(refreshes):
        d.send("REFRESH", 8)
    d.idle(100_000)
    assert d.chip.violation().startswith("refresh:") is not legal


@pytest.mark.parametrize(("gap", "legal"), [(6, True), (5, False), (4, False)])
def test_two_drivers_on_the_bus(gap, legal):
    """A WRITE after a READ: its data must neither meet the chip's beats nor touch them."""
    d = opened()
    d.write(T["trcd"])
    d.send("READ", 2)
    d.write(gap, a=4)
    assert d.chip.violation().startswith("bus:") is not legal


def test_write_that_nobody_drives():
    d = opened()
    d.send("WRITE", T["trcd"])
    assert d.chip.violation().startswith("bus:")


def test_dqm_masks_a_write_at_once():
    d = opened()
    d.write(T["trcd"], value=0x1111)
    d.send("WRITE", 2, oe=1, dq=0x2222, dqm=1)
    d.chip.clock(oe=1, dq=0x3333, dqm=3)
    d.send("READ", 2)
    assert [v for v, driven in d.idle(5) if driven] == [0x2211, 0x1112]
    assert d.chip.violation() == ""


def test_dqm_masks_a_read_two_clocks_later():
    d = opened()
    d.write(T["trcd"], value=0x1111)
    d.send("READ", 2)
    d.chip.clock(dqm=3)
    d.chip.clock()
    got = [(d.chip.clock(), d.chip.driven), (d.chip.clock(), d.chip.driven)]
    # READ at 0, mask at 1: the beat at 3 is masked, the one at 4 is not.
    assert got == [(0, False), (0x1112, True)]


@pytest.mark.parametrize("written", [True, False])
def test_read_of_a_cell_never_written(written):
    d = opened()
    if written:
        d.write(T["trcd"])
    d.send("READ", T["trcd"] + 2)
    d.idle(6)
    assert d.chip.violation().startswith("unwritten:") is not written


def test_every_preset_powers_up():
    for chip in CHIPS.values():
        d = Driver(timing=chip)
        d.power_up()
        assert d.chip.violation() == ""


@pytest.mark.parametrize(("bank", "written"), [(1, True), (0, False)])
def test_precharge_ends_a_write_burst_of_its_own_bank_alone(bank, written):
    d = opened()
    d.write(T["trcd"], a=0, value=7)
    d.write(1, a=2, value=5)
    d.send("WRITE", T["tras"], a=0, oe=1, dq=0x1111)
    d.send("PRECHARGE", ba=bank, oe=1, dq=0x2222)
    if not written:
        assert d.chip.violation().startswith("tWR")
        return
    d.send("READ", 2, a=0)
    assert [v for v, driven in d.idle(4) if driven] == [0x1111, 0x2222]
    assert not d.chip.violation()


@pytest.mark.parametrize(("gap", "beats"), [(1, 1), (2, 2)])
def test_precharge_cuts_off_a_read_of_its_bank(gap, beats):
    d = opened()
    d.write(T["trcd"])
    d.send("READ", T["tras"])
    d.send("PRECHARGE", gap)
    assert sum(driven for _, driven in d.idle(5)) == beats
    assert not d.chip.violation()


def test_cells_that_are_filled_are_read():
    """Addresses are row, bank, column, byte: the last word of a row, and the first one of the next bank."""
    driver = ready()
    end = 2 << SLOWEST.column_bits
    driver.chip.fill(end - 4, bytes([1, 2, 3, 4, 5, 6, 7, 8]))
    found = []
    for bank, column in ((0, (1 << SLOWEST.column_bits) - 2), (1, 0)):
        driver.send("ACTIVE", T["trc"], ba=bank, a=0)
        driver.send("READ", T["trcd"], ba=bank, a=column)
        found += [value for value, driven in driver.idle(8) if driven]
    assert found == [0x0201, 0x0403, 0x0605, 0x0807] and not driver.chip.violation()
    with pytest.raises(ValueError, match="the memory ends before byte"):
        driver.chip.fill((4 << 6) * end - 2, bytes(4))
