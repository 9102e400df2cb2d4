# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The model of a DDR3 memory's training: windows, middles, overrides, and what is said when there is none."""

import random

import pytest

from tellme.golden.ddr3 import LanesTrainer
from tellme.spec.ddr3_training import (
    Ddr3Training,
    LaneSettings,
    LaneTraining,
    pack_overrides,
    unpack_overrides,
)
from tellme.spec.ranges import RangeError
from tests.runtime.faulty_board import steps


def test_the_middle_of_the_widest_window():
    works = (steps(1, 0, 1) | steps(2, 3, 6) | steps(3, 4, 7), steps(0, 7, 7))
    trainer = LanesTrainer(works)
    assert trainer.sweep() == Ddr3Training((LaneTraining(5, 2, 3, 4), LaneTraining(7, 0, 7, 1))) and trainer.done


def test_a_run_ends_with_its_slip():
    """READCLKSEL 7 of a slip and 0 of the next are no neighbours."""
    assert LanesTrainer((steps(0, 6, 7) | steps(1, 0, 2), steps(0, 0, 7))).sweep().lanes == (
        LaneTraining(1, 1, 0, 3), LaneTraining(4, 0, 0, 8))


def test_overrides():
    trainer = LanesTrainer((steps(1, 2, 5), set()))
    assert trainer.sweep().failed and not trainer.done
    # One lane is overridden: the other one has no window.
    found = trainer.sweep((LaneSettings(3, 1), None))
    assert found.failed and found.overridden and not trainer.done and found.lanes[0] == LaneTraining(3, 1, 2, 4)
    # Both are: done in any case; failed says that lane 1 does not work.
    found = trainer.sweep((LaneSettings(3, 1), LaneSettings(6, 2)))
    assert trainer.done and found.failed and found.lanes == (LaneTraining(3, 1, 2, 4), LaneTraining(6, 2, 0, 0))
    trainer.works = (steps(1, 2, 5), steps(2, 5, 6))
    found = trainer.sweep((LaneSettings(6, 1), None))
    assert trainer.done and found.failed and found.lanes == (LaneTraining(6, 1, 2, 4), LaneTraining(6, 2, 5, 2))
    assert trainer.sweep() == Ddr3Training((LaneTraining(4, 1, 2, 4), LaneTraining(6, 2, 5, 2))) and trainer.done
    # A lane whose window is gone keeps the place of the last one.
    trainer.works = (steps(1, 2, 5), set())
    assert trainer.sweep().lanes[1] == LaneTraining(5, 2, 5, 0) and not trainer.done


def test_words_there_and_back():
    draws = random.Random(3)
    for _ in range(200):
        lanes = tuple(LaneTraining(draws.randrange(8), draws.randrange(4), draws.randrange(8), draws.randrange(9)) for _ in "01")
        found = Ddr3Training(lanes, draws.random() < 0.5, draws.random() < 0.5)
        assert Ddr3Training.unpack(found.pack()) == found and found.pack() < 1 << 26
        overrides = tuple(draws.choice((None, lane.settings)) for lane in lanes)
        assert unpack_overrides(pack_overrides(overrides)) == overrides
    assert pack_overrides((None, None)) == 0
    assert pack_overrides((LaneSettings(5, 2), None)) == 5 | 2 << 3 | 1 << 5
    assert pack_overrides((None, LaneSettings(0, 0))) == 1 << 11


@pytest.mark.parametrize(("readclksel", "slip"), [(8, 0), (-1, 0), (0, 4), (0, -1)])
def test_settings_that_are_none(readclksel, slip):
    with pytest.raises(RangeError):
        LaneSettings(readclksel, slip)
    with pytest.raises(RangeError):
        Ddr3Training((LaneTraining(readclksel, slip, 0, 0),) * 2).pack()
