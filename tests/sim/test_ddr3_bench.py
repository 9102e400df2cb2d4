# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The DDR3 controller's report: which notes it takes, what it holds, and that the page has its numbers."""

import json
import re

import pytest

from sim.ddr3_bench import NAME, REPORT, measured
from sim.run_tests import ROOT, Case, Job, Outcome, discover, select
from sim.testbench import Bench


def outcome(*notes):
    return Outcome(Job("memory", REPORT, Bench(name="x"), ()), [Case("x.y", "PASS", notes=list(notes))])


def test_notes_are_names_and_numbers():
    assert measured(outcome("a_share 0.9641 of 10 bytes", "b_cycles 552 cycles")) == {"a_share": 0.9641, "b_cycles": 552.0}
    with pytest.raises(ValueError, match="no number in 'much'"):
        measured(outcome("much"))


def test_the_report_is_of_the_benches_and_meets_the_goals():
    runs = json.loads(REPORT.read_text())["runs"]
    assert list(runs) == [job.bench.name for job in select(discover(ROOT / "tests" / "hw", [NAME]), [NAME])]
    for run in runs.values():
        assert run["bytes"] == 1 << 20
        assert run["sequential_read_share"] >= {"MT41K256M16": 0.96, "MT41K64M16": 0.98}[run["chip"]]
        assert run["all_beside_writes_share"] >= 0.90


#: A row of the page's table, its numbers' name in the report, and what makes one the other.
ROWS = (
    ("read in sequence", "sequential_read_share", 100), ("written in sequence", "sequential_write_share", 100),
    ("read in sequence beside writes, both", "all_beside_writes_share", 100),
    ("read in sequence beside writes, the reader", "reader_beside_writes_share", 100),
    ("16 bytes at random, cycles", "random_read_16_cycles", 1), ("64 bytes at random, cycles", "random_read_64_cycles", 1),
    ("128 bytes at random, cycles", "random_read_128_cycles", 1),
    ("512 words, two ports in turn, cycles", "port_switches_cycles", 1),
)


def test_the_page_has_the_reports_numbers():
    page = (ROOT / "docs" / "units.md").read_text().split("## DDR3", 1)[1]
    runs = json.loads(REPORT.read_text())["runs"]
    for title, name, factor in ROWS:
        cells = page.split(f"| {title} |", 1)[1].splitlines()[0]
        numbers = [float(number) for number in re.findall(r"[\d.]+", cells)]
        assert numbers == pytest.approx([factor * run[name] for run in runs.values()], abs=0.0501), title
