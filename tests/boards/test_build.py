# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The bitstream build's refusals, its reading of nextpnr's report, and the committed report."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from boards.flow import build
from tellme.spec.config import preset

REPORTS = Path(__file__).resolve().parents[2] / "docs" / "reports"
CLOCKS = {"fabric": 66.67, "sdram": 133.33}
NEXTPNR = {"utilization": {"TRELLIS_COMB": {"used": 10, "available": 100}, "DP16KD": {"used": 3, "available": 8}},
           "fmax": {"$glbnet$clk": {"achieved": 57.123, "constraint": 66.67},
                    "$glbnet$x": {"achieved": 300.0, "constraint": 133.3}}}


@pytest.mark.parametrize(("arguments", "text"), [
    (["--board", "nonsense"], "no board is called 'nonsense'; there are: ecpix5, icepi_zero, orangecrab, ulx3s"),
    (["--device", "45f"], "ulx3s has no preset for a '45f'; there are: 85f, 12f"),
    (["--board", "icepi_zero", "--device", "85f"], "icepi_zero has no preset for a '85f'; there are: 25f"),
    (["--seeds", "0"], "SEEDS is 0; 1 or more are wanted"),
    (["--seed", "-1"], "SEED is -1; 0 or more is wanted"),
    (["--coarse"], "--coarse is for --reduced alone: a bitstream wants LUTs"),
])
def test_refusals(capsys, arguments, text):
    assert build.main(arguments) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(("changed", "problem"), [
    ({}, None),
    ({"fused.a": "$mul"}, "cells that were not mapped: $mul; cells of which there are none: none"),
    ({"lm_head.a": "$dlatch", "link.a": "$mem_v2"}, "cells that were not mapped: $dlatch, $mem_v2; cells of which"),
    ({"tlmm.a": "LUT4"}, "cells that were not mapped: none; cells of which there are none: TRELLIS_DPR16X4"),
    ({"attention.a": None}, "nothing of attention is left in the netlist"),
])
def test_a_coarse_build_names_what_is_missing(tmp_path, monkeypatch, capsys, changed, problem):
    """On a netlist as yosys may leave it, of a cell a unit."""
    kinds = {f"{instances[0]}.a" if instances else "a": "$add" for instances in build.UNITS.values()}
    kinds |= {"tlmm.a": "TRELLIS_DPR16X4", "weights.a": "DP16KD", "core.a": "MULT18X18D", **changed}
    cells = {name: {"type": kind} for name, kind in kinds.items() if kind is not None}
    (tmp_path / "core.v").write_text("")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "core_verilog", lambda name: tmp_path / "core.v")
    monkeypatch.setattr(build, "run", lambda what, command, folder, log: (folder / "core.json").write_text(
        json.dumps({"modules": {"core": {"cells": cells}}})))
    assert build.main(["--reduced", "--coarse"]) == (0 if problem is None else 2)
    said = capsys.readouterr()
    assert problem in said.err if problem else "1 DP16KD, 1 TRELLIS_DPR16X4, 1 MULT18X18D" in said.out


def test_clocks_and_resources_of_a_report():
    clocks = build.clock_table(NEXTPNR, CLOCKS)
    assert clocks == {"fabric": {"achieved_mhz": 57.12, "required_mhz": 66.67},
                      "sdram": {"achieved_mhz": 300.0, "required_mhz": 133.33}}
    # nextpnr times no path of an edge clock.
    assert build.clock_table(NEXTPNR, {"edge": 150.0}) == {"edge": {"achieved_mhz": None, "required_mhz": 150.0}}
    report = build.report_of(NEXTPNR, clocks=clocks)
    assert report["comb"] == {"used": 10, "available": 100}
    assert report["ramw"] == {"used": 0, "available": 0}


def test_cells_belong_to_the_unit_of_their_instance():
    counts = build.cells_by_unit(["tlmm.lane0.x", "\\core.fsm$12", "hub.weights_fifo.x", "counters.values", "monitor$3"])
    assert counts == {**dict.fromkeys(build.UNITS, 0), "tlmm": 1, "sdram": 1, "core": 2, "top": 1}
    assert len(build.UNITS) == 10


@pytest.mark.parametrize(("changes", "text"), [
    ({"compact": False}, "ecp5-25f needs 45, the 12f has 28 (fused 15, attention 23, lm_head 3, core 4)"),
    ({"weight_buffer_bytes": 32 * 4096}, "the 12f has 56 (weights 64, "),
    ({"lanes": 16}, "the 12f has 24288 (tlmm "),
])
def test_what_does_not_fit_is_refused_before_synthesis(monkeypatch, capsys, changes, text):
    """By name and number, and without any tool."""
    monkeypatch.setattr(build, "preset", lambda name: replace(preset(name), **changes))
    monkeypatch.setattr(build, "run", None)
    assert build.main(["--device", "12f"]) == 2
    assert text in capsys.readouterr().err


def test_synthesis_of_a_compact_core():
    """The steps leave nothing of synth_ecp5 out, and every techmap that they use is beside the build's files."""
    text = build.script(preset("ecp5-25f"), "top", "core.v")
    assert set(re.findall(r"-map ([\w.]+)", text)) == set(build.TECHMAPS)
    assert all((Path(build.__file__).parent / name).exists() for name in build.TECHMAPS)
    runs = re.findall(r"-run (\w*):(\w*)", text)
    assert [begin for begin, _ in runs] == ["begin", *(end for _, end in runs[:-1])] and runs[-1][1] == ""
    assert re.search(r"^dfflegalize .*-mince 4 -minsrst 4$", text, re.MULTILINE)
    assert build.placement(preset("ecp5-25f")) == ()


def test_synthesis_of_other_cores():
    """synth_ecp5 in two parts that leave nothing out; between the parts, control sets of fewer than 12 are dissolved."""
    lines = [line for line in build.script(preset("ulx3s-85f"), "top", "core.v", whole=True).splitlines() if line]
    assert lines[0] == "read_verilog core.v" and lines[-1] == "write_json top.json"
    assert [line for line in lines if line.startswith("synth_ecp5")] == [
        "synth_ecp5 -run begin:map_ffs -top top", "synth_ecp5 -top top -run map_ffs:"]
    assert re.search(r"^dfflegalize .*-mince 12 -minsrst 12$", lines[-3])
    assert build.script(preset("ulx3s-85f"), "top", "core.v").split("\n") == [
        "read_verilog core.v", "", "synth_ecp5  -top top", "", "write_json top.json", ""]
    assert build.placement(preset("ulx3s-85f")) == ("--placer-heap-timingweight", "30")


@pytest.fixture
def no_tools(monkeypatch, tmp_path):
    """A build whose tools are replaced: synthesis does nothing, place and route gives NEXTPNR."""
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "prepare", lambda *_: "0" * 64)
    monkeypatch.setattr(build, "place_and_route", lambda *_: NEXTPNR)
    monkeypatch.setattr(build, "trim", lambda _: (0, 0))

    def run(what, command, folder, log):
        if what == "bitstream":
            (folder / "tellme.bit").write_bytes(b"bits")
        return ""

    monkeypatch.setattr(build, "run", run)
    return tmp_path / "build" / "ulx3s-85f"


def test_a_missed_clock_leaves_no_bitstream(no_tools, capsys):
    no_tools.mkdir(parents=True)
    (no_tools / "tellme.bit").write_bytes(b"old")
    assert build.main([]) == 1
    assert "fabric reaches 57.12 of 66.67 MHz" in capsys.readouterr().err
    assert not (no_tools / "tellme.bit").exists()
    assert json.loads((no_tools / "report.json").read_text())["timing_met"] is False


def test_a_good_build_writes_bitstream_and_report(no_tools, monkeypatch):
    good = {**NEXTPNR, "fmax": {"a": {"achieved": 67.0, "constraint": 66.67}, "b": {"achieved": 300.0, "constraint": 133.3}}}
    monkeypatch.setattr(build, "place_and_route", lambda *_: good)
    assert build.main(["--seeds", "2"]) == 0
    report = json.loads((no_tools / "report.json").read_text())
    assert report["timing_met"] and report["bitstream_sha256"] and (no_tools / "tellme.bit").exists()
    assert [tried["seed"] for tried in report["seeds"]] == [5, 6]
    assert build.main(["--seed", "7"]) == 0
    assert json.loads((no_tools / "report.json").read_text())["seed"] == 7


def test_how_far_the_router_is(tmp_path):
    log = tmp_path / "nextpnr.log"
    log.write_text("Info:   at iteration #40: temp = 0.000000, timing cost = 899, wirelen = 162386\n")
    assert build.progress(log) == ""
    rows = [f"Info:     {n}000 |    10251      40696 |  201   798 |     {65 - n}826|       0.76      51.18|" for n in range(60)]
    log.write_text("\n".join([*rows, "Info:      60"]))
    assert build.progress(log) == ", 6,826 connections left to route"


#: Reports of boards' builds, named BOARD-DEVICE.
BUILT = [path.stem for path in sorted(REPORTS.glob("*-*f.json"))]


def test_every_device_of_every_board_has_a_report():
    assert set(BUILT) == {f"{name}-{device}" for name in build.BOARDS
                          for device in importlib.import_module(f"boards.{name}").DEVICES}


@pytest.mark.parametrize("name", BUILT)
def test_committed_report_has_every_field(name):
    report = json.loads((REPORTS / f"{name}.json").read_text())
    assert report["schema"] == 1 and report["timing_met"] and f"{report['board']}-{report['device']}" == name
    assert report["preset"] == importlib.import_module(f"boards.{report['board']}").DEVICES[report["device"]][0]
    assert set(report) >= {"board", "preset", "comb", "ff", "ramw", "ebr", "dsp", "clocks", "seed", "tools", "seconds",
                           "core_sha256", "bitstream_sha256"}
    assert not build.missed(report["clocks"])
    assert {name for name, clock in report["clocks"].items() if clock["achieved_mhz"] is None} <= {"edge"}
    for key in ("comb", "ff", "ebr", "dsp"):
        assert report[key]["used"] <= report[key]["available"]
