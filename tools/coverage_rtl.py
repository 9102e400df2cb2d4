# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.coverage_rtl``: what the benches reach of the gateware, by file of hw, with the Python lines they miss.

The benches run with cover statements (:mod:`sim.coverage` says what each kind of point is), and Verilator counts.  A point is
reached if one bench's count is not zero.

- ``lines``: lines with a statement under a condition.  Such a line counts if, at a rising edge without reset, all conditions
  around one of its statements held, in one instance of one bench.
- ``branches``: arms of If, Switch and FSM, arms that are not written, and both sides of each Mux.
- ``toggles``: control signals that went up and down.
- ``functional``: states and edges of FSMs, stalls of streams, and the points that benches declare.

A statement or an arm that is in a file but in no bench's build counts as missed.  What is missed for a reason is in
tools/coverage_rtl.json.  Shares are of all points that there are, and of what CI's benches reach: neither a reason nor a bench
that CI leaves to ``make nightly`` raises a share.  The record names what only such a bench reaches (``--nightly``).

The record is docs/reports/coverage-rtl.json.  Exit codes: 0; 1, a bench failed, or a reason is wrong; 2, bad arguments.
"""

import argparse
import ast
import hashlib
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from hw.verilog import source_key
from sim.checkout import git
from sim.coverage import RULES, Point
from sim.run_tests import Job, discover
from tools.ci import CI_SEED

__all__ = ["DATA", "EXCLUSIONS", "Bench", "Exclusion", "Found", "changed_files", "digests", "main", "read_bench", "read_counts",
           "read_exclusions", "record", "static_points", "summary_lines", "wrong_exclusions"]

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "reports" / "coverage-rtl.json"
EXCLUSIONS = ROOT / "tools" / "coverage_rtl.json"
#: Where the counts of each bench lie.
DATA = ROOT / "build" / "coverage" / "rtl"
#: The share of lines and branches that is wanted.
GOAL = 0.95
#: The kinds of points, by their name in the record.
GROUPS = {"lines": ("line",), "branches": ("branch",), "toggles": ("toggle",), "states": ("state",), "edges": ("edge",),
          "stalls": ("stall",)}
NOT_BUILT = "not built by a bench"
_ENTRY = re.compile(r"C '(.*)' (\d+)$")


@dataclass
class Bench:
    """A bench's points with their counts, and what its tests told.  ``night``: CI leaves it to ``make nightly``."""

    name: str
    unit: str
    file: str
    failed: list[str]
    declared: list[str]
    told: list[str]
    counts: Counter[Point] = field(default_factory=Counter)
    always: set[tuple[str, int]] = field(default_factory=set)
    night: bool = False


@dataclass
class Found:
    """The points of all benches, merged."""

    counts: Counter[Point] = field(default_factory=Counter)
    always: set[tuple[str, int]] = field(default_factory=set)

    def add(self, bench: Bench) -> None:
        for point, count in bench.counts.items():
            self.counts[point] += count
        self.always |= bench.always

    @property
    def files(self) -> set[str]:
        return {point.file for point in self.counts} | {file for file, _ in self.always}


@dataclass(frozen=True)
class Exclusion:
    """Points that no bench reaches, and why.  A line is named by its text, so that it is found when it moves; ``nth`` counts
    lines of the same text, from 1, and 0 is all of them.  A ``*`` in file, text or what stands for any text."""

    kind: str
    file: str
    text: str
    what: str
    reason: str
    nth: int = 1

    def lines(self, file: str) -> set[int]:
        """Of a file, the lines that the entry names."""
        found = [number for number, text in enumerate(_source(file), 1) if _like(self.text, text.strip())]
        return set(found if self.nth == 0 else found[self.nth - 1:self.nth] if self.nth > 0 else [])

    def files(self) -> list[str]:
        return [file for file in ([self.file] if "*" not in self.file else hw_files()) if _like(self.file, file)]

    def matches(self, point: Point) -> bool:
        return (point.kind == self.kind and _like(self.file, point.file) and _like(self.what, point.what)
                and point.line in self.lines(point.file))


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))))


def _like(pattern: str, text: str) -> bool:
    return _pattern(pattern).fullmatch(text) is not None


def hw_files() -> list[str]:
    """All sources of hw."""
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "hw").rglob("*.py")) if path.name != "__init__.py"]


def digests() -> dict[str, str]:
    """Of each source of hw."""
    return {file: hashlib.sha256((ROOT / file).read_bytes()).hexdigest()[:16] for file in hw_files()}


def changed_files(found: Mapping[str, Any]) -> list[str]:
    """Sources of hw that are not those of a record."""
    now, then = digests(), found["sources"]
    return sorted(file for file in {*now, *then} if now.get(file) != then.get(file))


@cache
def _source(file: str) -> list[str]:
    path = ROOT / file
    return path.read_text().splitlines() if path.is_file() else []


def read_counts(text: str) -> dict[tuple[str, int], dict[str, int]]:
    """Counts of a coverage.dat of the unit's Verilog, by (type, line) and the entry's own name.  ValueError for a line that is
    none of Verilator's."""
    counts: dict[tuple[str, int], dict[str, int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or not line:
            continue
        match = _ENTRY.match(line)
        if match is None:
            raise ValueError(f"line {number} is no entry of Verilator's coverage.dat: {line!r}")
        fields = dict(part.split("\x02", 1) for part in match[1].split("\x01") if "\x02" in part)
        if not fields["f"].endswith("dut.v"):
            continue
        names = counts.setdefault((fields["t"], int(fields["l"])), {})
        names[fields["o"]] = names.get(fields["o"], 0) + int(match[2])
    return counts


def read_bench(folder: Path) -> Bench:
    """What ``sim.run_tests --coverage`` left of a bench.  ValueError if the gateware was another one, or a cover statement was
    not counted."""
    told = json.loads((folder / "bench.json").read_text())
    if told["sources"] != source_key("coverage", RULES):
        raise ValueError(f"{told['bench']} was counted with other sources of hw; run it again")
    bench = Bench(told["bench"], told["unit"], told["file"], told["failed"], told["declared"], told["told"])
    points = json.loads((folder / "points.json").read_text())
    counts = read_counts((folder / "coverage.dat").read_text())
    for line, of in points["points"].items():
        if ("user", int(line)) not in counts:
            raise ValueError(f"{bench.name}: the cover statement in line {line} was not counted")
        for kind, file, number, what in of:
            bench.counts[Point(kind, file, number, what)] += sum(counts["user", int(line)].values())
    for line, _, file, number, name in points["controls"]:
        edges = counts.get(("toggle", int(line)))
        if edges is not None:
            ways = [count for of, count in edges.items() if of.endswith((":0->1", ":1->0"))]
            if len(ways) != 2:
                raise ValueError(f"{bench.name}: line {line} of the Verilog has {len(ways)} counts of toggles, not two")
            # Both ways; the fewer of them count.
            bench.counts[Point("toggle", file, number, name)] += min(ways)
    bench.always = {(file, number) for file, number in points["always"]}
    return bench


def static_points(file: str) -> set[Point]:
    """Lines of statements and written arms of a source, whether a build has them or not."""
    found = set()
    for node in ast.walk(ast.parse("\n".join(_source(file)))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == "eq":
            found.add(Point("line", file, node.lineno, "statement"))
        elif node.func.attr in ("If", "Elif", "Else", "Case", "Default", "State") and isinstance(node.func.value, ast.Name) \
                and node.func.value.id == "m":
            found.add(Point("branch", file, node.lineno, "taken"))
    return found


def not_built(found: Found, files: Iterable[str]) -> set[Point]:
    """Points that are in the sources of files, and in no build."""
    return {point for file in files for point in static_points(file)
            if point not in found.counts and not (point.kind == "line" and (file, point.line) in found.always)}


def read_exclusions(path: Path = EXCLUSIONS) -> list[Exclusion]:
    """The data file.  ValueError for an entry without a reason, of an unknown kind, or of a line that is not there."""
    exclusions = [Exclusion(**entry) for entry in json.loads(path.read_text())]
    kinds = {kind for group in GROUPS.values() for kind in group}
    for exclusion in exclusions:
        if exclusion.kind not in kinds:
            raise ValueError(f"{exclusion.file}: {exclusion.kind!r} is no kind of point; kinds are {', '.join(sorted(kinds))}")
        if not exclusion.reason.strip():
            raise ValueError(f"{exclusion.file}: {exclusion.text!r} has no reason")
        if not any(map(exclusion.lines, exclusion.files())):
            raise ValueError(f"{exclusion.file} has no line {exclusion.text!r} ({exclusion.nth}): take the entry out of "
                             f"{path.name}")
    return exclusions


def wrong_exclusions(exclusions: Iterable[Exclusion], counts: Mapping[Point, int], *, whole: bool) -> list[str]:
    """What is wrong with the reasons: a point that a bench reaches, and after all benches ran, an entry without a point."""
    wrong = []
    for exclusion in exclusions:
        points = [point for point in counts if exclusion.matches(point)]
        wrong += [f"{p.file}:{p.line} {p.kind} {p.what}: is reached; take its entry out of {EXCLUSIONS.name}"
                  for p in points if counts[p]]
        if whole and not points:
            wrong.append(f"{exclusion.file} {exclusion.kind} {exclusion.what} at {exclusion.text!r}: no build has this point; "
                         f"take its entry out of {EXCLUSIONS.name}")
    return wrong


def _share(reached: int, total: int) -> dict[str, Any]:
    return {"reached": reached, "total": total, "share": round(reached / total, 4) if total else 1.0}


def record(benches: Sequence[Bench], exclusions: Sequence[Exclusion], commit: str, *, not_run: Sequence[str] = (),
           every_file: Sequence[str] = ()) -> dict[str, Any]:
    """The record of what the benches reached.  ``not_run``: benches of CI without counts; ``every_file``: all files of hw."""
    found, by_night = Found(), Found()
    for bench in benches:
        found.add(bench)
        if bench.night:
            by_night.add(bench)
    # Of a part of the benches, the files that they build; of all benches, all files.
    counted = found.files | (set() if not_run else set(every_file))
    absent = not_built(found, counted)
    counts: Mapping[Point, int] = {**found.counts, **dict.fromkeys(absent, 0)}
    missed = {point for point, count in counts.items() if not count}
    night = {point for point, count in by_night.counts.items() if count and count == counts[point]}
    reasons = {point: exclusion.reason for exclusion in reversed(exclusions) for point in missed if exclusion.matches(point)}
    wrong = wrong_exclusions(exclusions, counts, whole=not not_run)

    def share(points: Sequence[Point]) -> dict[str, Any]:
        """What CI reaches of them; what else the night reaches, and what has a reason."""
        told = _share(sum(point not in missed and point not in night for point in points), len(points))
        more = {"by_night": sum(point in night for point in points), "with_reason": sum(point in reasons for point in points)}
        return told | {name: count for name, count in more.items() if count}

    files = {}
    for file in sorted(counted):
        of_file = [point for point in counts if point.file == file]
        if not of_file and file not in found.files:
            continue
        entry: dict[str, Any] = {}
        for group, kinds in GROUPS.items():
            of_group = [point for point in of_file if point.kind in kinds]
            if of_group:
                entry[group] = share(of_group)
        entry["unconditional"] = sum(1 for name, _ in found.always if name == file)
        entry["missed"] = [{"line": point.line, "kind": point.kind, "what": NOT_BUILT if point in absent else point.what,
                            "text": _source(file)[point.line - 1].strip() if point.line else "",
                            **({"by_night": True} if point in night else {}),
                            **({"reason": reasons[point]} if point in reasons else {})}
                           for point in sorted(missed | night, key=lambda p: (p.line, p.kind, p.what)) if point.file == file]
        files[file] = entry

    def named(told: str, *, nights: bool) -> set[str]:
        return {f"{bench.unit}/{bench.file.removeprefix('tb_')}: {name}" for bench in benches if nights or not bench.night
                for name in getattr(bench, told)}

    declared, told = named("declared", nights=True), named("told", nights=True)
    wrong += [f"{name}: a test reaches it, and its file does not declare it in POINTS" for name in sorted(told - declared)]
    sums = {group: share([point for point in counts if point.kind in kinds]) for group, kinds in GROUPS.items()}
    of_ci = named("told", nights=False) & declared
    sums["declared"] = _share(len(of_ci), len(declared)) | ({"by_night": len(told - of_ci)} if told - of_ci else {})
    functional = [sums[group] for group in ("states", "edges", "stalls", "declared")]
    sums["functional"] = _share(sum(s["reached"] for s in functional), sum(s["total"] for s in functional)) | {
        name: sum(s.get(name, 0) for s in functional) for name in ("by_night", "with_reason")}
    return {"command": "python -m tools.coverage_rtl", "commit": commit,
            "benches": sorted(bench.name for bench in benches if not bench.night),
            "benches_of_the_night": sorted(bench.name for bench in benches if bench.night),
            "failed": sorted(name for bench in benches for name in bench.failed),
            "not_run": sorted(not_run),
            "goal": GOAL, "sums": sums, "missed_without_reason": len(missed - set(reasons)),
            "declared_not_reached": sorted(declared - told),
            "files_of_no_bench": sorted(set(every_file) - found.files), "wrong": wrong,
            "below": [file for file, entry in files.items()
                      if any(entry[g]["share"] < GOAL for g in ("lines", "branches") if g in entry)],
            "files": files, "sources": {file: digest for file, digest in digests().items() if file in every_file}}


def _cell(share: Mapping[str, Any] | None, width: int) -> str:
    return ("-" if share is None else f"{share['reached']}/{share['total']}").rjust(width)


def _functional(entry: Mapping[str, Any]) -> dict[str, int]:
    return {name: sum(entry[group][name] for group in ("states", "edges", "stalls") if group in entry)
            for name in ("reached", "total")}


def table(found: Mapping[str, Any]) -> list[str]:
    """Of each file of a record, and of all, how many points of each kind are reached: as lines of text."""
    def line(entry: Mapping[str, Any], points: Mapping[str, Any], name: str) -> str:
        return (_cell(entry.get("lines"), 11) + _cell(entry.get("branches"), 11) + _cell(entry.get("toggles"), 11)
                + _cell(points if points["total"] else None, 11) + f"  {name}")

    lines = [line(entry, _functional(entry), file) for file, entry in found["files"].items()
             if any(group in entry for group in GROUPS)]
    return [f"{'lines':>11}{'branches':>11}{'toggles':>11}{'functional':>11}  file of hw", *lines,
            line(found["sums"], found["sums"]["functional"], "all, with the points that benches declare")]


def sums_line(found: Mapping[str, Any]) -> str:
    """The sums of a record in words."""
    sums = found["sums"]
    functional = sums["functional"]
    shares = ", ".join(f"{100 * sums[group]['share']:.1f} % of {sums[group]['total']} {name}"
                       for group, name in (("lines", "lines"), ("branches", "branches"), ("toggles", "control signals")))
    return (f"{shares}; of {functional['total']} functional points {functional['reached']}, {functional['by_night']} by night "
            f"alone, and {functional['with_reason']} that no run can reach; {found['missed_without_reason']} points are missed "
            f"without a reason")


def summary_lines() -> list[str]:
    """The committed record as lines of text: its table, its sums, and whether it is of this checkout's sources of hw."""
    found = json.loads(REPORT.read_text())
    changed = changed_files(found)
    return [*table(found), sums_line(found),
            f"counted by {len(found['benches'])} benches of CI and {len(found['benches_of_the_night'])} of the night at commit "
            f"{found['commit'][:12]}; {len(found['not_run'])} of CI not run; {len(changed)} files of hw changed since",
            *(f"changed: {file}" for file in changed)]


def of_this_checkout(benches: Iterable[Bench], jobs: Iterable[Job]) -> tuple[list[Bench], list[str], list[str]]:
    """The benches that there still are, with the points that their files declare by now; CI's benches that are not here; and
    those of CI that have Verilog of their own, and so nothing to count."""
    known = {job.name: job for job in jobs}
    here = [replace(bench, night=bool(known[bench.name].bench.nightly), declared=list(known[bench.name].points))
            for bench in benches if bench.name in known]
    absent = {name for name, job in known.items() if not job.bench.nightly} - {bench.name for bench in here}
    own = {name for name, job in known.items() if job.bench.build is None}
    return here, sorted(absent - own), sorted(absent & own)


def chosen_jobs(jobs: Iterable[Job], units: Sequence[str], *, nightly: bool) -> list[Job]:
    """The benches of units, or those that are named ``unit/bench``, that have points."""
    return [job for job in jobs if job.bench.build is not None and (nightly or not job.bench.nightly)
            and (not units or job.unit in units or job.name in units)]


def run_benches(jobs: Sequence[Job]) -> int:
    """``sim.run_tests`` with CI's seed; it ends with this process, and so do its benches.  Its exit code."""
    names = [part for job in jobs for part in ("-k", f"{job.name}.")]
    process = subprocess.Popen([sys.executable, "-m", "sim.run_tests", "--jobs", "1", "--seed", CI_SEED, "--nightly",
                                "--coverage", str(DATA), *names], cwd=ROOT)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.coverage_rtl", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("units", nargs="*", metavar="UNIT[/BENCH]", help="units, or benches of one, that run; default: all")
    parser.add_argument("--nightly", action="store_true", help="also the benches that CI leaves to make nightly")
    parser.add_argument("--read", action="store_true", help="run nothing: the record of what earlier runs counted")
    args = parser.parse_args(argv)
    try:
        exclusions = read_exclusions()
    except (ValueError, TypeError) as error:
        print(error, file=sys.stderr)
        return 1
    units = {path.parent.name for path in (ROOT / "tests" / "hw").glob("*/tb_*.py")}
    if unknown := {unit.split("/")[0] for unit in args.units} - units:
        parser.error(f"{', '.join(sorted(unknown))}: units are {', '.join(sorted(units))}")
    jobs = discover(ROOT / "tests" / "hw")
    code = 0
    if not args.read:
        chosen = chosen_jobs(jobs, args.units, nightly=args.nightly)
        if unknown := set(args.units) - {job.unit for job in chosen} - {job.name for job in chosen}:
            parser.error(f"{', '.join(sorted(unknown))}: no bench with points; --nightly has those of make nightly too")
        signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
        code = run_benches(chosen)
        if code == 2:
            return 2
    try:
        left = [read_bench(path.parent) for path in sorted(DATA.glob("*/points.json"))]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    read, not_run, without = of_this_checkout(left, jobs)
    commit = git("rev-parse", "HEAD")
    found = record(read, exclusions, commit, not_run=not_run, every_file=hw_files()) | {"without_points": without}
    for text in (*table(found), *found["wrong"], *(f"{name} failed" for name in found["failed"])):
        print(text)
    print(f"{sums_line(found)}; {len(read)} benches, and {len(found['not_run'])} of CI not run")
    REPORT.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if code or found["wrong"] or found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
