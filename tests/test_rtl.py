# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Plain pytest runs the cocotb testbenches too, one bench a test."""

import secrets
from pathlib import Path

import pytest

from sim.run_tests import build_folder, discover, run_job

HW = Path(__file__).resolve().parent / "hw"


@pytest.mark.rtl
@pytest.mark.parametrize("job", [pytest.param(job, id=job.name, marks=[pytest.mark.nightly] if job.bench.nightly else [])
                                 for job in discover(HW)])
def test_bench(job):
    outcome = run_job(job, folder=build_folder(), seed=str(secrets.randbits(32)), waves=False, root=HW)
    bad = [case for case in outcome.cases if case.outcome == "FAIL"]
    assert not bad, "\n".join(f"{case.name}: {case.message} (log: {outcome.log})" for case in bad)
