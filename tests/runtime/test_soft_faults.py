# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The program that flips bits of a running board: what it draws, what it counts, and the committed record."""

import json

import pytest

from sim.board.soft_faults import Site, with_sites
from tellme.spec.config import preset
from tests import soft_faults
from tests.soft_faults import KINDS, REPORT, Fault, Trial, draw_fault, golden, interval, summary

SITES = [Site(1, "core.a", "b", 8), Site(2, "core.weights", "blocks", 64, 512), Site(3, "core.space", "program", 32, 1024)]
VERILOG = r"""
module core(rx, clk);
  input clk;
  wire clk;
  input rx;
  wire rx;
  reg \$5 ;
  reg [3:0] count = 4'h0;
  always @(posedge clk)
    count <= \$5 ;
  \core.part  part (
    .clk(clk)
  );
endmodule
module \core.part (clk);
  input clk;
  wire clk;
  reg [7:0] store [15:0];
  reg [7:0] rom [3:0];
  reg [7:0] _0_;
  always @(posedge clk) begin
    if (en)
      store[at] <= data;
  end
  always @(posedge clk) begin
    _0_ <= rom[at];
  end
endmodule
module other(a);
endmodule
"""


@pytest.fixture(scope="module")
def trial():
    found = Trial.of(preset("sim-tiny"))
    found.cycles = 1_000_000
    return found


def test_sites_of_verilog():
    """A register and a memory that is written; a ROM and a module that is not the core's stay."""
    text, sites = with_sites(VERILOG)
    assert sites == [Site(1, "core", "count", 4), Site(2, "core.part", "store", 8, 16)]
    assert "module core(soft__which, soft__word, soft__bit, rx, clk);" in text and "module other(a);" in text
    assert "count <= (\\$5 ) ^ (soft__which == 1 ? 4'd1 << soft__bit : 4'd0);" in text
    assert "  \\core.part  part (\n    .soft__which(soft__which),\n" in text
    assert "store[soft__word] <= store[soft__word] ^ (8'd1 << soft__bit);" in text and text.count("rom[") == 1
    with pytest.raises(ValueError, match="a way that is not understood"):
        with_sites(VERILOG.replace("always @(posedge clk)\n    count", "always @(posedge clk, rst)\n    count"))


def test_what_is_drawn(trial):
    """The same for the same seed; each kind in turn; within the core, the image and the cache."""
    faults = [draw_fault(trial, SITES, 3, number) for number in range(200)]
    assert faults == [draw_fault(trial, SITES, 3, number) for number in range(200)] != [
        draw_fault(trial, SITES, 4, number) for number in range(200)]
    assert [fault.kind for fault in faults] == [*KINDS] * 40
    assert all(1 <= fault.cycle <= trial.cycles for fault in faults)
    ends = [(base, base + len(part)) for base, part in trial.image.sections]
    assert all(any(a <= fault.word < b for a, b in ends) for fault in faults if fault.kind == "image")
    assert not any(any(a <= fault.word < b for a, b in ends) for fault in faults if fault.kind == "kv")
    assert {(fault.kind, fault.site) for fault in faults if fault.site} == {("register", 1), ("buffer", 2), ("memory", 3)}


def test_nothing_is_noticed_without_a_fault(trial):
    outcome = golden(trial, None)
    assert outcome.noticed == [] and outcome.wrong is None and not outcome.missing


def test_faults_are_noticed(trial):
    """The first weight of all: wrong bits in each token, and in the memory.  A value of the first position."""
    outcome = golden(trial, Fault("image", 1, 0, trial.image.sections[0][0] + 200, 1, ""))
    assert outcome.crcs and outcome.sums
    r = trial.image.registers
    value = 4 * (r["kv_base"] + r["v_offset"])
    outcome = golden(trial, Fault("kv", 999_999, 0, value, 7, ""))
    assert outcome.crcs.startswith("step 2 at position ") and not outcome.sums


def test_a_board_that_is_wrong_and_that_nobody_looks_at_is_told(trial, monkeypatch, capsys):
    """Wrong tokens without a notice are exit code 1: without the comparisons there are some."""
    monkeypatch.setattr(soft_faults.Checker, "compare", lambda *args: None)
    monkeypatch.setattr(soft_faults.MemorySums, "check", lambda *args: 0)
    monkeypatch.setattr(soft_faults, "draw_fault", lambda trial, sites, seed, number: Fault(
        "kv", 999_999, 0, 4 * (trial.image.registers["kv_base"] + trial.image.registers["v_offset"]) + number, 7, ""))
    monkeypatch.setattr(soft_faults, "KINDS", ("kv",))
    code = soft_faults.main(["--golden", "--count", "12"])
    unnoticed = int(capsys.readouterr().out.splitlines()[-1].split(" faults, ")[1].split()[0])
    assert code == 1 and unnoticed > 0


def test_a_report_goes_on(tmp_path, capsys):
    path = tmp_path / "report.json"
    assert soft_faults.main(["--golden", "--count", "4", "--report", str(path)]) == 0
    first = json.loads(path.read_text())
    assert [entry["number"] for entry in first["trials"]] == [0, 1]
    assert soft_faults.main(["--golden", "--count", "7", "--report", str(path)]) == 0
    both = json.loads(path.read_text())
    assert [entry["number"] for entry in both["trials"]] == [0, 1, 5, 6] and both["trials"][:2] == first["trials"]
    assert both["summary"]["all"]["faults"] == 4
    assert soft_faults.main(["--golden", "--count", "7", "--seed", "3", "--report", str(path)]) == 2
    assert "is of other faults" in capsys.readouterr().out


def test_wilson():
    """Of a textbook: 81 of 263 (Wilson's interval with z = 1.96 is 0.2553 to 0.3662), and the ends."""
    assert [round(bound, 4) for bound in interval(81, 263)] == [0.2553, 0.3662]
    assert interval(0, 0) == (0.0, 1.0)
    # Wilson's bounds of 0 and of 10 of 10: z^2 / (n + z^2), and one less that.
    assert interval(0, 10) == pytest.approx((0, 0.27753), abs=1e-5) and interval(10, 10) == pytest.approx((0.72247, 1), abs=1e-5)


@pytest.mark.skipif(not REPORT.exists(), reason="no record was made yet")
def test_the_record():
    """What it says in all follows from its faults, and no wrong token was unnoticed."""
    report = json.loads(REPORT.read_text())
    trials = report["trials"]
    assert report["summary"] == summary(trials)
    assert len({entry["number"] for entry in trials}) == len(trials)
    assert all(entry["noticed"] for entry in trials if entry["wrong"] is not None)
