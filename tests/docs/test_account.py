# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""docs/performance.md and README have the reports' numbers, and the tables are made of them."""

import json

import pytest

from docs import account

SEQUENCES = {"m, b": {
    "model": "m", "preset": "b", "core_sha256": "0123456789abcdef", "commit": "c0ffee", "how": "python -m sim.bench --x",
    "passes": [
        {"sequences": 2, "position": 0, "cycles": 1_000, "model_cycles": 990, "tokens_per_second": 2_000.0,
         "tokens_per_second_each": 1_000.0, "x_alone": 1.755},
        {"sequences": 1, "position": 0, "cycles": 877, "model_cycles": 880, "tokens_per_second": 1_140.25,
         "tokens_per_second_each": 1_140.25, "x_alone": None}],
    "runs": [{"sequences": 2, "tokens_each": 8, "tokens_per_second": 900.5, "passes_of_all": 3,
              "tokens_per_second_of_these": None}]}}
DRAFTS = {"m, b, temperature 0.5": {
    "model": "m", "preset": "b", "temperature": 0.5, "computed": False, "core_sha256": "0123456789abcdef",
    "commit": "c0ffee", "how": "how",
    "stories": 2, "tokens": 200, "tokens_a_pass": 1.5, "drafted": 400, "acceptance": 0.1667, "tokens_per_second": 120.0,
    "plain_tokens_per_second": 80.0, "x_plain": 1.5, "cycles": 1_000, "model_cycles": 1_010,
    "stories_measured": [{"tokens": 100, "passes": 60}, {"tokens": 100, "passes": 73}]}}


def test_tables():
    table = account.sequences_table(SEQUENCES)
    assert "| m | 0 | 1 | 877 | 1,140.2 | 1140.2 |  | +0.3% |\n| m | 0 | 2 | 1,000 | 2,000.0 | 1000.0 | 1.75 | -1.0% |" in table
    assert "| m | 2 | 8 | 900.5 |  | 3 |" in table
    assert "- m, b: core 0123456789ab, commit c0ffee, `python -m sim.bench --x`" in table
    assert "| m | 0.5 | 2 | 200 | 1.500 | 400 | 16.7% | 120.0 | 80.0 | 1.500 | +1.0% |" in account.drafts_table(DRAFTS)
    row = account.comparison(SEQUENCES, DRAFTS).splitlines()[-1]
    assert row.startswith("| tellme, `b`, m, position 0, simulated | 1.75 x |  |  |  |")
    assert row.endswith("| 1.50 tokens a pass, 1.50 x at temperature 0.5 (2 stories) |")
    assert account.comparison(SEQUENCES, {}).splitlines()[-1].endswith("|  |")


def test_a_page_is_updated_between_its_marks():
    page = "a\n<!-- python -m docs.account writes x from here -->\nold\n<!-- x to here -->\nb\n"
    once = account.updated(page, "x", "new")
    assert once == "a\n<!-- python -m docs.account writes x from here -->\n\nnew\n<!-- x to here -->\nb\n"
    assert account.updated(once, "x", "new") == once


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    for plot, reports in ((account.plot_sequences, SEQUENCES), (account.plot_drafts, DRAFTS)):
        first, second = tmp_path / "first.svg", tmp_path / "second.svg"
        plot(reports, first)
        plot(reports, second)
        assert first.read_bytes() == second.read_bytes() and b"<svg" in first.read_bytes()


@pytest.mark.parametrize(("source", "table"), [(account.SEQUENCES, account.sequences_table),
                                               (account.DRAFTS, account.drafts_table)])
def test_the_page_has_the_reports_numbers(source, table):
    assert table(json.loads(source.read_text())) in account.PAGE.read_text()


def test_readme_has_the_reports_numbers():
    assert account.comparison(*(json.loads(path.read_text()) for path in (account.SEQUENCES, account.DRAFTS))) in (
        account.README.read_text())
