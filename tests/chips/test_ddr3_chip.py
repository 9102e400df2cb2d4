# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The DDR3 chip model's rules: a legal sequence passes; the same sequence a clock too early, or without the step, is refused by
name."""

import pytest

from sim.chips.ddr3 import CKE_BEFORE_NS, RESET_AGAIN_NS, TIMES, Ddr3Chip
from tellme.spec.ddr3 import CHIPS, POSTPONED, Ddr3Timing

A10 = 1 << 10
COMMANDS = {"ACTIVE": (1, 0, 0), "READ": (0, 1, 0), "WRITE": (0, 1, 1), "PRECHARGE": (1, 0, 1), "REFRESH": (1, 1, 0),
            "MODE": (1, 1, 1), "ZQ": (0, 0, 1), "NOP": (0, 0, 0)}
MHZ = 400.0
#: Times that are all longer than their least clocks, and of which none hides another: tRC and tFAW are longer than the rest of
#: their commands take.
CHIP = Ddr3Timing("test", row_bits=6, trfc=110, trcd=17.5, trp=15, tras=40, trc=70, trrd=12.5, tfaw=80, trtp=12.5, twr=15,
                  twtr=12.5, tmod=35, tzqinit=1600, tzqcs=200, refresh_us=2.0, zq_ms=0.1, mr2=0x200)
RESET_US, CKE_US = 1.0, 2.0
#: In clocks.
T = {name: CHIP.clocks(name, MHZ) for name in TIMES}
CALIBRATED = max(T["tzqinit"], T["tdllk"])
CL, CWL = 6, 5
#: From a WRITE to the clock behind its data.
WRITTEN = CWL + 4
MODES = ((2, CHIP.mr2), (3, CHIP.mr3), (1, CHIP.mr1), (0, CHIP.mr0))
INTERVAL = int(CHIP.refresh_us * MHZ)
#: From ODT to the termination.
TERMINATED = CWL - 2


class Driver:
    """Sends commands, each so many clocks after the one before.  Writes drive their data in time by themselves."""

    def __init__(self, timing=CHIP, **options):
        self.chip = Ddr3Chip(timing=timing, mhz=MHZ, **{"reset_us": RESET_US, "cke_us": CKE_US, **options})
        self.levels = {"reset": 1, "cke": 0, "odt": 0}
        self.data: dict[int, dict[str, int]] = {}
        self.now = 0

    def clock(self, **pins):
        out = self.chip.clock(**{**self.levels, **self.data.pop(self.now, {}), **pins})
        self.now += 1
        return out if self.chip.driven else None

    def idle(self, clocks):
        return [self.clock() for _ in range(clocks)]

    def send(self, name, gap=1, **pins):
        """NOPs for gap - 1 clocks, then the command."""
        self.idle(gap - 1)
        ras, cas, we = COMMANDS[name]
        return self.clock(cs=1, ras=ras, cas=cas, we=we, **pins)

    def write(self, gap=1, *, ba=0, a=0, beats=range(8), dm=(0,) * 8, drives=True):
        """A WRITE with its eight beats."""
        self.idle(gap - 1)
        beats = list(beats)
        for i in range(4) if drives else ():
            self.data[self.now + CWL + i] = {"oe": 1, "dq": beats[2 * i] | beats[2 * i + 1] << 16,
                                             "dm": dm[2 * i] | dm[2 * i + 1] << 2}
        self.send("WRITE", ba=ba, a=a)

    def read(self, gap=1, *, ba=0, a=0):
        """A READ's eight beats."""
        self.send("READ", gap, ba=ba, a=a)
        words = [w for w in self.idle(CL + 4) if w is not None]
        return [w >> 16 * k & 0xFFFF for w in words for k in range(2)]

    def rule(self):
        """The name of the first rule that was broken, or nothing."""
        return self.chip.violation().partition(":")[0]

    # ------------------------------------------------------------------ the start, step by step
    def reset(self, low=int(RESET_US * MHZ), cke_low=None, cke=int(CKE_US * MHZ)):
        """RESET# low; CKE is low for the whole of it, or for its last clocks; then up to the rise of CKE."""
        if cke_low is not None:
            self.levels["cke"] = 1
            self.idle(low - cke_low)
            self.levels["cke"] = 0
            low = cke_low
        self.idle(low)
        self.levels["reset"] = 0
        self.idle(cke)
        self.levels["cke"] = 1
        self.idle(1)
        return self

    def modes(self, modes=MODES, gap=T["txpr"], tmrd=T["tmrd"]):
        for register, value in modes:
            self.send("MODE", gap, ba=register, a=value)
            gap = tmrd
        return self

    def calibrate(self, gap=T["tmod"], a=A10, wait=CALIBRATED, odt=1):
        self.send("ZQ", gap, a=a)
        self.idle(wait - 1)
        self.levels["odt"] = odt
        return self

    def all_modes(self):
        return self.reset().modes()


def ready(**options):
    return Driver(**options).all_modes().calibrate()


def opened(**options):
    d = ready(**options)
    d.send("ACTIVE", a=1)
    return d


# Each case: a function of the last gap in clocks, the gap that is legal, and the rule.
def trcd(gap):
    d = opened()
    d.write(gap)
    return d


def trcd_of_a_read(gap):
    d = opened(check_unwritten=False)
    d.read(gap)
    return d


def trp(gap):
    d = opened()
    d.send("PRECHARGE", T["trc"])
    d.send("ACTIVE", gap, a=2)
    return d


def trp_of_a_refresh(gap):
    d = opened()
    d.send("PRECHARGE", T["trc"])
    d.send("REFRESH", gap)
    return d


def tras(gap):
    d = opened()
    d.send("PRECHARGE", gap)
    return d


def trc(gap):
    d = opened()
    d.send("PRECHARGE", T["tras"])
    d.send("ACTIVE", gap - T["tras"], a=2)
    return d


def trrd(gap):
    d = opened()
    d.send("ACTIVE", gap, ba=1)
    return d


def tfaw(gap):
    """The fifth ACTIVE, in another bank; the four before as close as they may be."""
    d = opened()
    for bank in (1, 2, 3):
        d.send("ACTIVE", T["trrd"], ba=bank)
    d.send("ACTIVE", gap - 3 * T["trrd"], ba=4)
    return d


def tccd(gap):
    d = opened()
    d.write(T["trcd"])
    d.write(gap, a=8)
    d.idle(20)
    return d


def tccd_of_reads(gap):
    d = opened(check_unwritten=False)
    d.send("READ", T["trcd"])
    d.send("READ", gap)
    return d


def trtp(gap):
    d = opened(check_unwritten=False)
    d.send("READ", T["tras"])
    d.send("PRECHARGE", gap)
    return d


def twr(gap):
    d = opened()
    d.write(T["tras"])
    d.send("PRECHARGE", WRITTEN + gap)
    return d


def twtr(gap):
    """Into another bank too."""
    d = ready(check_unwritten=False)
    d.send("ACTIVE", ba=1)
    d.send("ACTIVE", T["trrd"], ba=2)
    d.write(T["trcd"], ba=1)
    d.read(WRITTEN + gap, ba=2)
    return d


def trfc(gap):
    d = ready()
    d.send("REFRESH")
    d.send("ACTIVE", gap)
    return d


def trfc_of_a_refresh(gap):
    d = ready()
    d.send("REFRESH")
    d.send("REFRESH", gap)
    return d


def tzqcs(gap):
    d = ready()
    d.send("ZQ")
    d.send("ACTIVE", gap)
    return d


def tzqinit(gap):
    d = Driver().all_modes().calibrate(wait=gap, odt=0)
    d.send("ACTIVE")
    return d


def tdllk(gap):
    """The DLL's reset comes late, by an MR0 in a chip that is ready, so that no calibration hides its time."""
    d = ready(check_unwritten=False)
    d.levels["odt"] = 1
    d.send("MODE", 4, ba=0, a=CHIP.mr0)
    d.send("ACTIVE", T["tmod"])
    d.send("READ", gap - T["tmod"])
    return d


def tmrd(gap):
    return Driver().reset().modes(MODES[:2], tmrd=gap)


def tmod(gap):
    return Driver().all_modes().calibrate(gap)


def txpr(gap):
    return Driver().reset().modes(MODES[:1], gap=gap)


def reset_low(gap):
    return Driver().reset(low=gap)


def reset_again(gap):
    d = ready()
    d.levels.update(cke=0, odt=0, reset=1)
    return d.reset(low=gap)


def cke_before_reset(gap):
    return Driver().reset(cke_low=gap)


def cke_behind_reset(gap):
    return Driver().reset(cke=gap)


def read_to_write(gap):
    """The write's data must not meet the read's, nor their strobes each other."""
    d = opened(check_unwritten=False)
    d.send("READ", T["trcd"])
    d.write(gap)
    d.idle(20)
    return d


def odt_hold(gap):
    d = ready()
    d.idle(gap)
    d.levels["odt"] = 0
    d.idle(1)
    return d


def odt_of_a_write(gap):
    """ODT falls so many clocks behind a WRITE."""
    d = opened()
    d.write(T["trcd"])
    d.idle(gap - 1)
    d.levels["odt"] = 0
    d.idle(20)
    return d


def odt_before_the_calibration_ends(gap):
    d = Driver().all_modes().calibrate(wait=gap)
    d.idle(1)
    return d


def refresh_rate(gap):
    """Seventeen refreshes; sixteen may come in two intervals."""
    d = ready()
    for _ in range(16):
        d.send("REFRESH", INTERVAL // 8)
    d.send("REFRESH", gap)
    return d


GAPS = {
    "tRCD": (trcd, T["trcd"], "tRCD"), "tRCD of a read": (trcd_of_a_read, T["trcd"], "tRCD"), "tRP": (trp, T["trp"], "tRP"),
    "tRP of a refresh": (trp_of_a_refresh, T["trp"], "tRP"), "tRAS": (tras, T["tras"], "tRAS"), "tRC": (trc, T["trc"], "tRC"),
    "tRRD": (trrd, T["trrd"], "tRRD"), "tFAW": (tfaw, T["tfaw"], "tFAW"), "tCCD": (tccd, T["tccd"], "tCCD"),
    "tCCD of reads": (tccd_of_reads, T["tccd"], "tCCD"), "tRTP": (trtp, T["trtp"], "tRTP"), "tWR": (twr, T["twr"], "tWR"),
    "tWTR": (twtr, T["twtr"], "tWTR"), "tRFC": (trfc, T["trfc"], "tRFC"),
    "tRFC of a refresh": (trfc_of_a_refresh, T["trfc"], "tRFC"), "refresh rate": (refresh_rate, INTERVAL // 8, "refresh rate"),
    "tZQCS": (tzqcs, T["tzqcs"], "tZQCS"), "tZQinit": (tzqinit, T["tzqinit"], "tZQinit"), "tDLLK": (tdllk, T["tdllk"], "tDLLK"),
    "tMRD": (tmrd, T["tmrd"], "tMRD"), "tMOD": (tmod, T["tmod"], "tMOD"), "tXPR": (txpr, T["txpr"], "tXPR"),
    "reset": (reset_low, int(RESET_US * MHZ), "reset"), "reset again": (reset_again, int(RESET_AGAIN_NS * MHZ / 1000), "reset"),
    "CKE before reset ends": (cke_before_reset, int(CKE_BEFORE_NS * MHZ / 1000), "reset"),
    "CKE behind reset": (cke_behind_reset, int(CKE_US * MHZ), "CKE"),
    "two drivers": (read_to_write, CL + 4 + 2 - CWL, "bus"), "ODT hold": (odt_hold, 4, "ODT"),
    # Its last data comes in clock CWL + 3, which ODT of three clocks before terminates.
    "ODT of a write": (odt_of_a_write, CWL + 3 - TERMINATED + 1, "ODT"),
    "ODT at the start": (odt_before_the_calibration_ends, T["tzqinit"], "ODT"),
}


@pytest.mark.parametrize("name", GAPS)
def test_a_clock_too_early(name):
    sequence, gap, rule = GAPS[name]
    assert sequence(gap).chip.violation() == ""
    assert sequence(gap - 1).rule() == rule


@pytest.mark.parametrize(("ahead", "intervals"), [(0, 9), (1, 10), (7, 16), (8, 17), (9, 17)])
def test_refresh_count(ahead, intervals):
    """Eight may be postponed: the ninth falls due while none was done.  Of refreshes before their time eight count."""
    d = ready()
    start = d.now
    for _ in range(ahead):
        d.send("REFRESH", T["trfc"])
    d.idle(start + intervals * INTERVAL - d.now)
    assert d.chip.violation() == ""
    d.idle(1)
    assert d.rule() == "refresh"


@pytest.mark.parametrize(("left_out", "legal"), [(8, True), (9, False)])
def test_postponed_refreshes_add_up(left_out, legal):
    """One refresh in two is left out, until so many are."""
    d = ready()
    for i in range(40):
        if i % 2 and i < 2 * left_out:
            d.idle(INTERVAL)
        else:
            d.send("REFRESH", INTERVAL)
    d.idle(1)
    assert d.rule() == ("" if legal else "refresh")


def test_refreshes_are_made_up():
    d = ready()
    for i in range(4):
        d.idle(POSTPONED * INTERVAL - (POSTPONED * T["trfc"] if i else 0))
        for _ in range(POSTPONED):
            d.send("REFRESH", T["trfc"])
    assert d.chip.violation() == ""


@pytest.mark.parametrize(("late", "rule"), [(0, ""), (1, "ZQ")])
def test_calibrations_in_time(late, rule):
    """A short calibration is due each zq_ms, behind the long one first."""
    zq = 3000
    d = ready(zq_ms=zq / MHZ / 1000)
    start = d.now - T["tzqinit"]
    d.send("ZQ", start + zq + late - d.now + 1)
    assert d.rule() == rule
    if not late:
        d.idle(zq)
        assert d.rule() == ""
        d.idle(1)
        assert d.rule() == "ZQ"


# Each case: a start with a step left out or changed, and the rule.
STARTS = {
    "no calibration": (lambda d: d.all_modes(), "ZQ"),
    "a short calibration": (lambda d: d.all_modes().calibrate(a=0), "ZQ"),
    "no MR2": (lambda d: d.reset().modes(MODES[1:]).calibrate(), "mode registers"),
    "no MR3": (lambda d: d.reset().modes(MODES[:1] + MODES[2:]).calibrate(), "mode registers"),
    "no MR1": (lambda d: d.reset().modes(MODES[:2] + MODES[3:]).calibrate(), "mode registers"),
    "no MR0": (lambda d: d.reset().modes(MODES[:3]).calibrate(), "mode registers"),
    "another order": (lambda d: d.reset().modes((MODES[1], MODES[0], *MODES[2:])).calibrate(), "mode registers"),
    "no reset of the DLL": (lambda d: d.reset().modes((*MODES[:3], (0, CHIP.mr0 & ~0x100))).calibrate(), "mode registers"),
    "DLL off": (lambda d: d.reset().modes((*MODES[:2], (1, CHIP.mr1 | 1), MODES[3])).calibrate(), "mode"),
    "bursts of four": (lambda d: d.reset().modes((*MODES[:3], (0, CHIP.mr0 | 2))).calibrate(), "mode"),
    "interleaved bursts": (lambda d: d.reset().modes((*MODES[:3], (0, CHIP.mr0 | 8))).calibrate(), "mode"),
    "no CAS latency": (lambda d: d.reset().modes((*MODES[:3], (0, CHIP.mr0 & ~0x70))).calibrate(), "mode"),
    "an array of patterns": (lambda d: d.reset().modes((MODES[0], (3, 4), *MODES[2:])).calibrate(), "mode"),
    "ODT from the beginning": (lambda d: d.reset().modes().calibrate() if not d.levels.update(odt=1) else d, "ODT"),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_start_without_a_step(name):
    sequence, rule = STARTS[name]
    d = sequence(Driver())
    d.send("ACTIVE", T["tmod"])
    assert d.rule() == rule
    d = ready()
    d.send("ACTIVE", T["tmod"])
    assert d.chip.violation() == ""


def test_a_command_while_cke_is_low():
    d = Driver()
    d.idle(int(RESET_US * MHZ))
    d.levels["reset"] = 0
    d.send("ACTIVE", 10)
    assert d.rule() == "CKE"


def test_cke_stays():
    d = ready()
    d.levels["cke"] = 0
    d.idle(1)
    assert d.rule() == "CKE"


@pytest.mark.parametrize("command", ["READ", "WRITE"])
def test_access_to_a_closed_row(command):
    d = opened()
    d.send(command, T["tras"], ba=1)
    assert d.rule() == "closed row"


@pytest.mark.parametrize(("command", "pins"), [("ACTIVE", {"a": 2}), ("REFRESH", {}), ("ZQ", {}),
                                               ("MODE", {"ba": 0, "a": CHIP.mr0})])
def test_an_open_bank(command, pins):
    d = opened()
    d.send(command, 100, **pins)
    assert d.rule() == "open bank"


def test_auto_precharge_is_not_modelled():
    d = opened()
    d.send("READ", T["trcd"], a=A10)
    assert d.rule() == "auto-precharge"


def test_data_comes_after_the_cas_latency():
    d = opened()
    d.write(T["trcd"], a=8, beats=range(0x1000, 0x1008))
    d.idle(WRITTEN + T["twtr"])
    d.send("READ", a=8)
    assert d.chip.ahead(CL) == 0x1001_1000 and d.chip.ahead(CL - 1) is None
    got = d.idle(CL + 4)
    assert got[:CL - 1] == [None] * (CL - 1) and got[CL + 3] is None
    assert got[CL - 1:CL + 3] == [0x1001_1000, 0x1003_1002, 0x1005_1004, 0x1007_1006]
    assert d.chip.violation() == ""


@pytest.mark.parametrize(("start", "order"), [(0, [0, 1, 2, 3, 4, 5, 6, 7]), (1, [1, 2, 3, 0, 5, 6, 7, 4]),
                                              (3, [3, 0, 1, 2, 7, 4, 5, 6]), (6, [6, 7, 4, 5, 2, 3, 0, 1])])
def test_the_order_of_a_burst(start, order):
    """JESD79-3F, table 6: a read begins at its column, a write always at the burst's first."""
    d = opened()
    d.write(T["trcd"], a=start, beats=range(8))
    assert d.read(WRITTEN + T["twtr"], a=start) == order
    assert d.chip.violation() == ""


def test_banks_and_rows_are_apart():
    d = ready()
    for bank in (0, 7):
        for row in (0, 63):
            d.send("ACTIVE", T["trc"], ba=bank, a=row)
            d.write(T["trcd"], ba=bank, a=1016, beats=[bank << 8 | row] * 8)
            d.send("PRECHARGE", WRITTEN + T["twr"], a=A10)
    for bank in (0, 7):
        for row in (0, 63):
            d.send("ACTIVE", T["trc"], ba=bank, a=row)
            assert d.read(T["trcd"], ba=bank, a=1016) == [bank << 8 | row] * 8
            d.send("PRECHARGE", T["trtp"], a=A10)
    assert d.chip.violation() == ""


@pytest.mark.parametrize("drives", [True, False])
def test_a_write_that_nobody_drives(drives):
    d = opened()
    d.write(T["trcd"], drives=drives)
    d.idle(20)
    assert d.rule() == ("" if drives else "bus")


def test_dm_keeps_bytes():
    d = opened()
    d.write(T["trcd"], beats=[0x1111] * 8)
    d.write(T["tccd"], beats=[0x2222] * 8, dm=(0, 1, 2, 3, 0, 1, 2, 3))
    assert d.read(WRITTEN + T["twtr"]) == [0x2222, 0x2211, 0x1122, 0x1111] * 2
    assert d.chip.violation() == ""


@pytest.mark.parametrize(("dm", "rule"), [((0,) * 8, ""), ((0, 0, 0, 0, 0, 2, 0, 0), "unwritten"), ((3,) * 8, "unwritten")])
def test_read_of_a_cell_never_written(dm, rule):
    """A byte that DM left out is not written."""
    d = opened()
    d.write(T["trcd"], dm=dm)
    d.read(WRITTEN + T["twtr"])
    assert d.rule() == rule


@pytest.mark.parametrize(("dm", "rule"), [((3,) * 7 + (2,), ""), ((3,) * 8, "unwritten")])
def test_read_of_a_burst_never_written(dm, rule):
    """Users that need a part of a burst: one written byte is enough, and the others are not zeros and always the same."""
    seen = []
    for _ in range(2):
        d = opened(whole_bursts=True)
        d.write(T["trcd"], beats=[0x1234] * 8, dm=dm)
        seen.append(d.read(WRITTEN + T["twtr"]))
        assert d.rule() == rule
    assert seen[0] == seen[1] and len(set(seen[0])) == 8
    assert rule or seen[0][7] & 0xFF == 0x34


def test_filled_cells_outlast_the_first_reset_alone():
    d = Driver()
    assert all(d.chip.fill(5, 63, column, 100 + column) for column in range(8))
    assert not d.chip.fill(8, 0, 0, 0) and not d.chip.fill(0, 64, 0, 0) and not d.chip.fill(0, 0, 1024, 0)
    d.reset().modes().calibrate()
    d.send("ACTIVE", CALIBRATED, ba=5, a=63)
    assert d.read(T["trcd"], ba=5) == list(range(100, 108)) and d.chip.violation() == ""
    d.levels.update(reset=1, cke=0, odt=0)
    d.reset().modes().calibrate()
    d.send("ACTIVE", ba=5, a=63)
    d.read(T["trcd"], ba=5)
    assert d.rule() == "unwritten"


def test_a_reset_forgets():
    d = opened()
    d.write(T["trcd"])
    d.idle(30)
    d.levels.update(reset=1, cke=0, odt=0)
    d.reset().modes().calibrate()
    d.send("ACTIVE", a=1)
    d.read(T["trcd"])
    assert d.rule() == "unwritten"


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("mhz", [400 / 3, 150.0, 200.0])
def test_every_chip_holds_its_bytes(chip, mhz):
    """What the boards' lists say, and times of whole clocks that last at least as long as the data sheet's."""
    sizes = {"MT41K64M16": 128, "MT41K128M16": 256, "MT41K256M16": 512, "MT41K512M16": 1024}
    timing = CHIPS[chip]
    assert timing.bytes == sizes[chip] << 20
    for name in ("trcd", "trp", "tras", "trc", "trrd", "tfaw", "trtp", "twr", "twtr", "trfc", "tmod", "tzqinit", "tzqcs"):
        assert timing.clocks(name, mhz) >= getattr(timing, name) * mhz / 1000 - 1e-6
    assert timing.clocks("trrd", mhz) >= 4 and timing.clocks("tzqinit", mhz) >= 512 and timing.clocks("tmod", mhz) >= 12
