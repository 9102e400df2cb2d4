# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a DDR3 chip's timings are in clocks: never shorter than the time, nor than the standard's least clocks."""

from fractions import Fraction

import pytest

from tellme.spec.ddr3 import CHIPS, COUNTED, LEAST

TIMES = ("trfc", "trcd", "trp", "tras", "trc", "trrd", "tfaw", "trtp", "twr", "twtr", "tmod", "txpr", "tzqinit", "tzqcs")


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
@pytest.mark.parametrize("mhz", [125.0, 144.0, 150.0, 333.0])
def test_clocks_last_as_long_as_the_time(chip, mhz):
    for name in TIMES:
        clocks, time = chip.clocks(name, mhz), Fraction(getattr(chip, name))
        needed = time * Fraction(mhz) / 1000
        # One clock less would be too short, but for the least clocks of the standard.
        assert clocks >= LEAST.get(name, 1) and needed <= clocks
        assert clocks == LEAST.get(name, 1) or clocks < needed + 1
    for name in COUNTED:
        assert chip.clocks(name, mhz) == getattr(chip, name)
