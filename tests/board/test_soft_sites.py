# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board in which bits can be flipped: it computes what any board computes, and a flip is where it is told."""

import pytest

from sim.board.soft_faults import build_faulty
from tellme.spec.config import preset
from tests.soft_faults import PRESET, Fault, Trial, simulated

pytestmark = [pytest.mark.rtl, pytest.mark.nightly]


def test_a_byte_of_the_image():
    """Without a fault nobody notices anything.  A bit of the first section flips: its region has another sum."""
    trial = Trial.of(preset(PRESET))
    command, sites = build_faulty(trial.core)
    assert {site.kind for site in sites} == {"register", "memory", "buffer"}
    clean = simulated(trial, command, None)
    assert clean.noticed == [] and clean.wrong is None and not clean.missing and trial.cycles > 0
    base, part = trial.image.sections[0]
    outcome = simulated(trial, command, Fault("image", 1, 0, base + len(part) - 1, 3, ""))
    assert f"bytes at {base:#x} have another checksum" in outcome.sums and not outcome.ended
