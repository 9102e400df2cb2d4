# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Faults for ``make mutants`` keep up with the source: a change that moves a fault's place says so here, at once."""

import pytest

from sim.run_tests import discover, select
from tests.mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.unit}-{m.fault}")
def test_a_fault_has_its_place(mutant):
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.file} holds {mutant.old!r} {text.count(mutant.old)} times, not once"
    assert mutant.new != mutant.old


def test_a_fault_has_its_benches():
    """Those of CI's faults are CI's."""
    jobs = discover(ROOT / "tests" / "hw")
    for mutant in MUTANTS:
        benches = select(jobs, mutant.benches)
        assert benches, f"{mutant.unit} {mutant.fault}: no bench matches {mutant.benches}"
        assert not mutant.ci or all(not job.bench.nightly for job in benches), f"{mutant.unit} {mutant.fault}"
