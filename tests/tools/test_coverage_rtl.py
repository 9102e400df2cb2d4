# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Coverage of the gateware: points of a planted unit, Verilator's counts, reasons that are wrong, and the record."""

import json
import re
from pathlib import Path

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

import sim.coverage
import sim.testbench
from sim.coverage import RULES, Point, covered_verilog, declared_controls
from sim.run_tests import Job
from tools import coverage_rtl
from tools.coverage_rtl import (
    Bench,
    Exclusion,
    read_bench,
    read_counts,
    read_exclusions,
    record,
    summary_lines,
    wrong_exclusions,
)

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().relative_to(ROOT).as_posix()


class Planted(wiring.Component):
    """Each kind of point once; the test below finds the lines by their marks."""

    i: In(stream.Signature(4))
    o: Out(stream.Signature(4))
    always: In(stream.Signature(1))
    choose: In(1)

    def elaborate(self, platform):
        m = Module()
        constant, (this, other), view = Signal(), (Signal(), Signal()), Signal(data.StructLayout({"bit": 1}))
        m.d.comb += [constant.eq(1), self.always.ready.eq(1), other.eq(this)]
        m.d.sync += this.eq(self.choose)
        with m.If(constant):  # the build's choice
            m.d.sync += self.o.payload.eq(Mux(self.choose, 1, 2))  # a mux
        with m.If(self.i.valid):  # written
            m.d.comb += self.i.ready.eq(self.o.ready)  # conditional
            m.d.comb += view.eq(self.i.payload[:1])  # of a view
        with m.Elif(self.choose & ~constant):  # never
            m.d.comb += self.i.ready.eq(1)  # never either
        with m.FSM(name="steps"):
            with m.State("ONE"):  # one
                m.next = "ONE"
                with m.If(self.choose):
                    m.next = "TWO"
            with m.State("TWO"):  # two
                with m.Switch(self.i.payload[:1]):
                    with m.Case(0):
                        m.next = "ONE"
                    with m.Case(1):
                        m.d.sync += self.o.valid.eq(~self.o.valid)
        return m


def line(mark):
    [number] = [n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.endswith(f"  # {mark}")]
    return number


@pytest.fixture
def planted(monkeypatch):
    """As if this file were the gateware."""
    monkeypatch.setattr(sim.coverage, "_file", lambda name: HERE if Path(name).resolve() == Path(__file__).resolve() else None)
    return covered_verilog(Planted, "dut")


def test_the_points_of_a_unit(planted):
    points = {point for of in planted.points.values() for point in of}
    kinds = ("line", "branch", "state", "edge", "stall")
    of_kind = {kind: {(p.line, p.what) for p in points if p.kind == kind} for kind in kinds}
    # A condition that the build decides is no branch, and its statement is under none.
    assert (HERE, line("a mux")) in planted.always
    assert line("the build's choice") not in {number for number, _ in of_kind["branch"]}
    assert {what.split(", ")[1] for number, what in of_kind["branch"] if number == line("a mux")} == {"true", "false"}
    assert (line("written"), "taken") in of_kind["branch"] and (line("written"), "none taken") in of_kind["branch"]
    assert {(line("conditional"), "statement"), (line("of a view"), "statement")} <= of_kind["line"]
    assert {line("never"), line("never either")}.isdisjoint(number for kind in ("line", "branch") for number, _ in of_kind[kind])
    assert {what for _, what in of_kind["state"]} == {"Planted steps: ONE", "Planted steps: TWO"}
    assert of_kind["edge"] == {(line("one"), "Planted steps: ONE to TWO"), (line("two"), "Planted steps: TWO to ONE")}
    # All cases are there, and so are all states: no arm that is not written.
    assert not any(what == "none taken" and number > line("two") for number, what in of_kind["branch"])
    # A stream that is always ready cannot stall.
    assert {what for _, what in of_kind["stall"]} == {"Planted i", "Planted o"}


def test_cover_statements_change_no_port(planted):
    """The lines of the points are those of the cover statements, and ports are the plain Verilog's."""
    from hw.verilog import to_verilog

    lines = planted.verilog.splitlines()
    assert planted.points and all("cover (" in lines[number - 1] for number in planted.points)
    plain = to_verilog(Planted(), "dut")
    before, after = (next(line.split("(")[1].strip(");") for line in text.splitlines() if line.startswith("module dut("))
                     for text in (plain, planted.verilog))
    assert sorted(before.split(", ")) == sorted(after.split(", "))
    assert "covered_" not in plain
    # A signal without a name has its variable's, but none that Verilator takes for a keyword.
    assert re.search(r"\bthis_\b", planted.verilog) and not re.search(r"\bthis\b", planted.verilog)


VERILOG = """(* src = "hw/a.py:3" *)
module dut(clk, go);
  (* src = "hw/a.py:5" *)
  input clk;
  wire clk;
  (* src = "hw/a.py:6" *)
  input go;
  wire go;
  (* src = "lib/amaranth/stream.py:9" *)
  wire o__valid;
  (* src = "hw/a.py:7" *)
  wire tied;
  (* src = "hw/a.py:8" *)
  reg [3:0] wide;
  reg \\$1 ;
  (* src = "hw/a.py:9" *)
  wire \\covered_0_sync ;
  (* src = "hw/a.py:10" *)
  wire \\status$45.flag ;
  (* src = "hw/a.py:11" *)
  output \\port$7$0 ;
  assign tied = 1'h1;
endmodule
"""


def test_control_signals():
    """One bit, a name of its own, no constant, no clock; one of the library has the module's place."""
    found = {(c.file, c.line, c.name) for c in declared_controls(VERILOG).values()}
    assert found == {("hw/a.py", 6, "go"), ("hw/a.py", 3, "o__valid"), ("hw/a.py", 10, "status.flag")}


def entry(kind, number, name, count, file="dut.v"):
    fields = {"f": f"/a/{file}", "l": str(number), "t": kind, "page": "v", "o": name, "h": "tb_top.dut"}
    return "C '" + "".join(f"\x01{key}\x02{value}" for key, value in fields.items()) + f"' {count}\n"


def left(folder, counts, points, **more):
    """What sim.run_tests leaves of a bench."""
    folder.mkdir()
    (folder / "coverage.dat").write_text("# SystemC::Coverage-3\n" + "".join(counts))
    (folder / "points.json").write_text(json.dumps({"controls": [], "always": [], **points}))
    (folder / "bench.json").write_text(json.dumps({
        "bench": "lib/it-x", "unit": "lib", "file": "tb_it", "seed": "1", "sources": coverage_rtl.source_key("coverage", RULES),
        "failed": [], "declared": [], "told": [], **more}))
    return folder


def test_counts_of_verilator():
    text = "".join(["# SystemC::Coverage-3\n", entry("user", 7, "cover", 3), entry("user", 7, "cover", 2),
                    entry("user", 7, "x", 9, "top.sv")])
    assert read_counts(text) == {("user", 7): {"cover": 5}}
    with pytest.raises(ValueError, match="line 1 is no entry"):
        read_counts("nonsense\n")


def test_a_bench_is_mapped_to_the_sources(tmp_path):
    points = {"points": {"7": [["branch", "hw/a.py", 4, "taken"], ["line", "hw/a.py", 5, "statement"]],
                         "9": [["branch", "hw/a.py", 4, "none taken"]]},
              "controls": [[3, "go", "hw/a.py", 2, "go"], [4, "go", "hw/a.py", 2, "go"]]}
    counts = [entry("user", 7, "cover", 3), entry("user", 9, "cover", 0), entry("toggle", 3, "go:0->1", 5),
              entry("toggle", 3, "go:1->0", 0)]
    bench = read_bench(left(tmp_path / "a", counts, points))
    # A signal that only rises does not toggle.
    assert bench.counts == {Point("branch", "hw/a.py", 4, "taken"): 3, Point("line", "hw/a.py", 5, "statement"): 3,
                            Point("branch", "hw/a.py", 4, "none taken"): 0, Point("toggle", "hw/a.py", 2, "go"): 0}
    with pytest.raises(ValueError, match="the cover statement in line 9 was not counted"):
        read_bench(left(tmp_path / "b", counts[:1], points))
    with pytest.raises(ValueError, match="other sources of hw"):
        read_bench(left(tmp_path / "c", counts, points, sources="old"))


@pytest.fixture
def source(monkeypatch):
    text = ["if x:", "    m.d.comb += a.eq(b)", "with m.Else():", "    m.d.comb += a.eq(c)", "with m.Else():", "    pass"]
    monkeypatch.setattr(coverage_rtl, "_source", lambda file: text if file == "hw/a.py" else [])


def exclusions(folder, **change):
    one = {"kind": "branch", "file": "hw/a.py", "text": "with m.Else():", "what": "taken", "reason": "cannot be", **change}
    (folder / "data.json").write_text(json.dumps([one]))
    return read_exclusions(folder / "data.json")


def test_reasons(tmp_path, source):
    [first], [second], [both] = exclusions(tmp_path), exclusions(tmp_path, nth=2), exclusions(tmp_path, nth=0)
    points = [Point("branch", "hw/a.py", number, "taken") for number in (3, 4, 5)]
    assert [[e.matches(point) for point in points] for e in (first, second, both)] == [
        [True, False, False], [False, False, True], [True, False, True]]
    for other in (Point("line", "hw/a.py", 3, "taken"), Point("branch", "hw/b.py", 3, "taken"),
                  Point("branch", "hw/a.py", 3, "none taken")):
        assert not both.matches(other)
    for change, text in (({"text": "gone()"}, "has no line"), ({"nth": 3}, "has no line"), ({"file": "hw/b.py"}, "has no line"),
                         ({"reason": " "}, "has no reason"), ({"kind": "twig"}, "is no kind of point")):
        with pytest.raises(ValueError, match=text):
            exclusions(tmp_path, **change)


def test_a_star_stands_for_any_text(tmp_path, source, monkeypatch):
    monkeypatch.setattr(coverage_rtl, "hw_files", lambda: ["hw/a.py", "hw/b.py"])
    [every] = exclusions(tmp_path, file="hw/*.py", text="with m.E*", what="*taken", nth=0)
    assert every.matches(Point("branch", "hw/a.py", 3, "none taken")) and every.matches(Point("branch", "hw/a.py", 5, "taken"))
    assert not every.matches(Point("branch", "hw/a.py", 1, "taken")) and not every.matches(Point("branch", "a.py", 3, "taken"))
    # Brackets and dots are themselves.
    assert coverage_rtl._like("o[*].x", "o[*].x") and not coverage_rtl._like("o[*].x", "o[*]_x")


def test_a_reason_for_what_is_reached_or_is_not_there_is_wrong(tmp_path, source):
    [exclusion] = exclusions(tmp_path, nth=0)
    point, other = (Point("branch", "hw/a.py", number, "taken") for number in (3, 5))
    assert wrong_exclusions([exclusion], {point: 0, other: 0}, whole=True) == []
    assert "no build has this point" in wrong_exclusions([exclusion], {}, whole=True)[0]
    assert wrong_exclusions([exclusion], {}, whole=False) == []
    # One point of several refutes what is said of all.
    [told] = wrong_exclusions([exclusion], {point: 0, other: 1}, whole=False)
    assert "hw/a.py:5 branch taken: is reached" in told


def bench(counts, **more):
    made = Bench("lib/it-x", "lib", "tb_it", [], more.pop("declared", []), more.pop("told", []), night=more.pop("night", False))
    made.counts.update({Point(*point): count for point, count in counts.items()})
    return made


def test_the_record(source):
    taken, statement = ("branch", "hw/a.py", 3, "taken"), ("line", "hw/a.py", 4, "statement")
    benches = [bench({taken: 0, statement: 0}, declared=["full", "empty"], told=["full"]), bench({taken: 2})]
    found = record(benches, [], "c" * 40, not_run=["lib/it-y"], every_file=["hw/a.py", "hw/b.py"])
    file = found["files"]["hw/a.py"]
    assert file["branches"] == {"reached": 1, "total": 2, "share": 0.5}
    # A statement and an arm that no build has are missed as well.
    assert [(m["line"], m["kind"], m["what"]) for m in file["missed"]] == [
        (2, "line", coverage_rtl.NOT_BUILT), (4, "line", "statement"), (5, "branch", coverage_rtl.NOT_BUILT)]
    assert found["sums"]["declared"] == {"reached": 1, "total": 2, "share": 0.5}
    assert found["declared_not_reached"] == ["lib/it: empty"]
    assert (found["below"], found["files_of_no_bench"], found["missed_without_reason"]) == (["hw/a.py"], ["hw/b.py"], 3)
    reason = Exclusion("line", "hw/a.py", "m.d.comb += a.eq(c)", "statement", "cannot be")
    found = record(benches, [reason], "c" * 40, not_run=["lib/it-y"])
    # A reason raises no share.
    assert (found["missed_without_reason"], found["files"]["hw/a.py"]["lines"]["share"]) == (2, 0.0)
    assert found["files"]["hw/a.py"]["missed"][1]["reason"] == "cannot be"
    undeclared = record([bench({taken: 1}, told=["full"])], [], "c" * 40)
    assert "does not declare it" in undeclared["wrong"][0]


def test_a_bench_of_the_night_raises_no_share(source):
    taken, statement = ("branch", "hw/a.py", 3, "taken"), ("line", "hw/a.py", 4, "statement")
    benches = [bench({taken: 0, statement: 1}, declared=["full", "empty"], told=["full"]),
               bench({taken: 2, statement: 3}, declared=["full", "empty"], told=["empty"], night=True)]
    found = record(benches, [], "c" * 40, not_run=["lib/it-y"])
    assert found["files"]["hw/a.py"]["branches"] == {"reached": 0, "total": 2, "share": 0.0, "by_night": 1}
    assert [(m["line"], m.get("by_night")) for m in found["files"]["hw/a.py"]["missed"]] == [(2, None), (3, True), (5, None)]
    # By night it is not missed.
    assert found["missed_without_reason"] == 2
    assert found["sums"]["declared"] == {"reached": 1, "total": 2, "share": 0.5, "by_night": 1}
    assert (found["sums"]["functional"]["by_night"], found["declared_not_reached"]) == (1, [])


def test_a_file_of_no_bench_counts_after_a_whole_run(source):
    other = bench({("line", "hw/c.py", 1, "statement"): 1})
    part, whole = (record([other], [], "c" * 40, not_run=not_run, every_file=["hw/a.py"]) for not_run in (["lib/it-y"], []))
    assert ("hw/a.py" in part["files"], whole["files"]["hw/a.py"]["lines"]["total"]) == (False, 2)
    assert part["files_of_no_bench"] == whole["files_of_no_bench"] == ["hw/a.py"]


def test_the_reasons_of_the_checkout_have_their_lines():
    read_exclusions()


COMMITTED = json.loads(coverage_rtl.REPORT.read_text())


def test_the_committed_record():
    """Its sums are those of its files."""
    for group in ("lines", "branches", "toggles", "states", "edges", "stalls"):
        of_files = [file[group] for file in COMMITTED["files"].values() if group in file]
        assert COMMITTED["sums"][group]["reached"] == sum(f["reached"] for f in of_files)
        assert COMMITTED["sums"][group]["total"] == sum(f["total"] for f in of_files)
    assert not COMMITTED["wrong"] and not COMMITTED["failed"]


@pytest.mark.skipif(bool(COMMITTED["not_run"]), reason=f"{len(COMMITTED['not_run'])} of CI's benches are not in the record yet")
def test_the_committed_record_keeps_the_goals():
    sums, functional = COMMITTED["sums"], COMMITTED["sums"]["functional"]
    for group in ("lines", "branches"):
        assert sums[group]["reached"] + sums[group].get("by_night", 0) >= coverage_rtl.GOAL * sums[group]["total"], group
    assert functional["reached"] + functional["by_night"] + functional["with_reason"] == functional["total"]
    assert COMMITTED["missed_without_reason"] == 0 and not COMMITTED["declared_not_reached"]


def test_what_ci_prints(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(coverage_rtl, "changed_files", lambda found: [])
        lines = summary_lines()
    assert max(map(len, lines)) < 200 and f"{COMMITTED['sums']['lines']['total']} lines" in lines[-2]
    assert lines[-1].endswith(f"; {len(COMMITTED['not_run'])} of CI not run; 0 files of hw changed since")
    [link] = [line.split() for line in lines if line.endswith(" hw/link/link.py")]
    assert link[0] == "{reached}/{total}".format(**COMMITTED["files"]["hw/link/link.py"]["lines"])
    # A source that changed, one that is new, and one that is gone are said.
    sources = dict(COMMITTED["sources"], **{"hw/top.py": "0", "hw/gone.py": "0"})
    del sources["hw/lib/streams.py"]
    old = tmp_path / "record.json"
    old.write_text(json.dumps(COMMITTED | {"sources": sources}))
    monkeypatch.setattr(coverage_rtl, "REPORT", old)
    assert summary_lines()[-3:] == ["changed: hw/gone.py", "changed: hw/lib/streams.py", "changed: hw/top.py"]


def job(name, *, nightly="", sources=None, points=()):
    unit, file = name.split("/")
    made = sim.testbench.Bench(file.split("-")[1], None if sources else lambda: None, sources, nightly=nightly)
    return Job(unit, Path(f"tb_{file.split('-')[0]}.py"), made, ("it",), points=points)


def test_benches_that_run_and_those_that_are_read():
    """Not those with Verilog of their own; and what a file declares is the checkout's, whatever it was at the run."""
    jobs = [job("lib/it-x", points=("full",)), job("lib/it-y", nightly="why"), job("lib/own-z", sources=dict), job("link/b-c")]
    names = [[j.name for j in coverage_rtl.chosen_jobs(jobs, units, nightly=nightly)] for units, nightly in (
        ([], False), ([], True), (["lib"], True), (["lib/it-y"], True), (["lib/it-y"], False))]
    assert names == [["lib/it-x", "link/b-c"], ["lib/it-x", "lib/it-y", "link/b-c"], ["lib/it-x", "lib/it-y"], ["lib/it-y"], []]
    gone, night = bench({}), bench({}, declared=["old"])
    gone.name, night.name = "lib/gone-x", "lib/it-y"
    here, not_run, without = coverage_rtl.of_this_checkout([bench({}, declared=["old"]), gone, night], jobs)
    assert [(b.name, b.night, b.declared) for b in here] == [("lib/it-x", False, ["full"]), ("lib/it-y", True, [])]
    assert (not_run, without) == (["link/b-c"], ["lib/own-z"])


def test_a_unit_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        coverage_rtl.main(["nonsense"])
    assert end.value.code == 2 and "nonsense: units are attention, core" in capsys.readouterr().err
