# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The DDR3 controller's rules in fabric cycles, against the chip's in clocks; what it refuses."""

from dataclasses import replace

import pytest

from hw.lib.ports import MemorySpec
from hw.memory.ddr3.controller import Ddr3Controller, row_rules
from tellme.spec.ddr3 import CHIPS, POSTPONED

CHIP = CHIPS["MT41K256M16"]
SPEC = MemorySpec(data_bits=64, addr_bits=27, len_bits=20, burst=32)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("mhz", [100.0, 400 / 3, 150.0, 166.7, 200.0, 300.0])
def test_cycles_last_as_long_as_the_chip_wants(chip, mhz):
    """READ and WRITE go out a clock later in their cycle than the other commands."""
    t = CHIPS[chip]
    rules = row_rules(t, mhz=mhz)
    least = {name: t.clocks(name, mhz) for name in ("trp", "trfc", "tras", "trc", "trcd", "trrd", "tfaw", "trtp", "twr", "twtr",
                                                    "tzqcs")}
    data = t.cwl + 4
    assert 2 * rules.trp >= least["trp"] and 2 * rules.trfc >= least["trfc"] and 2 * rules.tzqcs >= least["tzqcs"]
    assert 2 * rules.tras >= least["tras"] and 2 * rules.trc >= max(least["trc"], least["trrd"])
    assert 4 * 2 * rules.trc >= least["tfaw"]
    assert 2 * rules.trcd + 1 >= least["trcd"]
    assert 2 * rules.rtp - 1 >= least["trtp"] and 2 * rules.twr - 1 >= data + least["twr"]
    assert 2 * rules.wtr >= data + least["twtr"] and 2 * rules.turn >= t.cl + 4 + 2 - t.cwl
    # No interval is longer than the chip's, and a calibration that waits for a group of refreshes comes in time.
    assert rules.refresh_every <= t.refresh_us * mhz / 2
    assert (rules.calibrate_every + rules.group + 2) * rules.refresh_every <= t.zq_ms * 1000 * mhz / 2


@pytest.mark.parametrize(("options", "text"), [
    ({"group": POSTPONED + 1}, "groups of 9"), ({"group": 0}, "groups of 0"),
    ({"timing": replace(CHIP, cwl=6)}, "write latency 6"),
    ({"timing": replace(CHIP, tfaw=400.0)}, "tfaw"), ({"timing": replace(CHIP, trrd=80.0)}, "trrd"), ({"zq_ms": 0.05}, "0.05 ms"),
    ({"timing": replace(CHIP, trcd=60.0)}, "tRCD"),
])
def test_what_the_scheduler_cannot_do_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Ddr3Controller(ports=2, spec=SPEC, mhz=400 / 3, **{"timing": CHIP, **options}).elaborate(None)


@pytest.mark.parametrize("spec", [replace(SPEC, data_bits=32), replace(SPEC, data_bits=128), replace(SPEC, burst=512)])
def test_another_memory_is_refused(spec):
    with pytest.raises(ValueError, match="words of 64 bits, bursts of at most 256"):
        Ddr3Controller(ports=2, spec=spec, timing=CHIP, mhz=400 / 3)
