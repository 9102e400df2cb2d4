# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.gates``: the benches of units on the netlists that yosys makes of them, cells of the ECP5 by their models.

Each netlist is of one unit by itself, with the commands and options of a preset's build (``boards.flow.build``).  The tests are
those of ``tests/hw``, word for word.  Names are ``unit/testbench-bench@preset``.  Prints a line per test like ``sim.run_tests``,
the cells of each netlist, and as the last line ``N passed, N failed, N skipped``.

``--plant FAULT:SEED`` puts a fault into the netlist, and a test must then fail.  The fault counts as a test that
passed if it is found, and as one that failed if not.

Exit codes: 0, all passed; 1, a failure; 2, nothing matches, or bad arguments.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from boards.flow.build import tool_versions
from sim.netlist import FAULTS
from sim.reports import keep
from sim.run_tests import Case, Job, Outcome, begin, build_folder, discover, run_job, say, select
from sim.verilator import verilator_version

__all__ = ["NETLISTS", "OPEN", "PLANTED", "REPORT", "Netlist", "main"]

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "reports" / "gates.json"


@dataclass(frozen=True)
class Netlist:
    """A bench, and the preset whose build maps its unit."""

    bench: str
    preset: str

    @property
    def name(self) -> str:
        return f"{self.bench}@{self.preset}"


#: What is simulated after synthesis.
NETLISTS = (Netlist("weights/manager-blocks1", "ulx3s-85f"), Netlist("tlmm/engine-lanes1", "ulx3s-85f"),
            Netlist("lm_head/lm_head-dim64", "ulx3s-85f"), Netlist("fused/pipeline-dim128", "ulx3s-85f"))
#: Faults of which a run with ``--report`` shows that tests find them: bench, fault, seed.
PLANTED: tuple[tuple[str, str, int], ...] = (
    ("weights/manager-blocks1@ulx3s-85f", "lut", 1), ("weights/manager-blocks1@ulx3s-85f", "ebr-width", 1))
#: Runs, by the names of their entries, that the record has not got yet.
OPEN: tuple[str, ...] = ()


def jobs_of(root: Path, substrings: Sequence[str]) -> list[Job]:
    """The benches of :data:`NETLISTS` whose name holds one of the substrings; all where there is none."""
    chosen = [n for n in NETLISTS if not substrings or any(s in n.name for s in substrings)]
    found = {job.name: job for job in select(discover(root, [n.bench for n in chosen]), [])} if chosen else {}
    missing = [n.bench for n in chosen if n.bench not in found]
    if missing:
        raise LookupError(f"no bench is called {', '.join(missing)} below {root}")
    return [replace(found[n.bench], gates=n.preset) for n in chosen]


def notes(outcome: Outcome) -> dict[str, Any]:
    """What the build printed: the cells by type, and the planted fault."""
    lines = [] if outcome.log is None else outcome.log.read_text(errors="replace").splitlines()
    cells = [json.loads(line.removeprefix("CELLS ")) for line in lines if line.startswith("CELLS ")]
    planted = [line.removeprefix("PLANTED ") for line in lines if line.startswith("PLANTED ")]
    return {"cells": cells[-1] if cells else {}} | ({"fault": planted[-1]} if planted else {})


def found(outcome: Outcome) -> Case:
    """A planted fault's outcome as one test: it passes if a test of the bench ran and failed, or never came to its end."""
    name = outcome.job.name
    failed = [case for case in outcome.cases if case.outcome == "FAIL"]
    built = outcome.log is not None and "\nBUILT\n" in outcome.log.read_text(errors="replace")
    if not built:
        return Case(f"{name}.(build)", "FAIL", 0, 0, 0.0, "the netlist with the fault was not built")
    if not failed:
        return Case(f"{name}.(survived)", "FAIL", 0, 0, 0.0, "no test of the bench failed")
    return Case(f"{name}.(found)", "PASS", len(failed), 0, sum(case.seconds for case in outcome.cases))


def run(job: Job, folder: Path, seed: str, root: Path) -> dict[str, Any]:
    """One bench on its netlist, with a line for each test.  Returns its entry in the report, and its cases."""
    say(f"BUILD {job.name}")
    began = time.monotonic()
    outcome = run_job(job, folder=folder, seed=seed, waves=False, root=root)
    cases = [found(outcome)] if job.plant else outcome.cases
    facts = notes(outcome)
    for case in cases:
        say("\n  ".join([case.line(), *case.notes]))
        if case.outcome == "FAIL":
            tail = [] if outcome.log is None else outcome.log.read_text(errors="replace").splitlines()[-25:]
            say("\n".join([f"  {line}" for line in case.message.splitlines()[-15:]] + [f"  | {line}" for line in tail]
                          + [f"  log: {outcome.log}; seed {seed}"]))
    say("  " + ", ".join(f"{n} {kind}" for kind, n in facts["cells"].items()))
    if "fault" in facts:
        say(f"  planted: {facts['fault']}")
    if job.plant:
        facts["found_by"] = [case.name.rpartition(".")[2] for case in outcome.cases if case.outcome == "FAIL"]
        say(f"  found by: {', '.join(facts['found_by']) or 'no test'}")
    count = Counter(case.outcome for case in cases)
    return {"passed": count["PASS"], "failed": count["FAIL"], "skipped": count["SKIP"],
            "vectors": sum(case.cases for case in outcome.cases), "cycles": sum(case.cycles for case in outcome.cases),
            "cpu_s": outcome.cpu, "seconds": round(time.monotonic() - began), **facts}


def write_report(path: Path, job: Job, seed: str, entry: dict[str, Any]) -> None:
    """Put a run into the report, in the place of an earlier one of the same netlist and fault."""
    name, _, fault = job.name.partition("+")
    how = f"python -m sim.gates -k {name}{f' --plant {fault}' if fault else ''} --seed {seed}"
    keep(path, job.name, {**entry, "tools": {**tool_versions("yowasp"), "verilator": verilator_version()}}, how)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.gates", description="Benches on netlists of ECP5 cells.")
    parser.add_argument("--list", action="store_true", help="list the benches and end")
    parser.add_argument("-k", metavar="SUBSTRING", action="append", default=[],
                        help="only benches whose name holds it; given again, or it")
    parser.add_argument("--seed", help="repeat a run; default: a new one, printed")
    parser.add_argument("--plant", metavar="FAULT:SEED", default="",
                        help=f"put a fault into each netlist, which its bench must find; faults: {', '.join(FAULTS)}")
    parser.add_argument("--faults", action="store_true", help="only the faults that the report has, each of which must be found")
    parser.add_argument("--report", action="store_true",
                        help=f"also the faults, and put each run that passes into {REPORT.relative_to(ROOT)}")
    parser.add_argument("--root", type=Path, default=ROOT / "tests" / "hw", help="folder of the units' testbenches")
    args = parser.parse_args(argv)
    if args.plant and (args.faults or args.report):
        parser.error("--plant is of faults that are not in the report; give it without --faults and --report")
    if args.plant:
        fault, _, number = args.plant.partition(":")
        if fault not in FAULTS or not number.isascii() or not number.isdigit():
            parser.error(f"--plant is {args.plant!r}; it wants FAULT:SEED with a whole number and one of {', '.join(FAULTS)}")
    root = args.root.resolve()
    try:
        wanted = jobs_of(root, args.k)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    jobs = [replace(job, plant=args.plant) for job in wanted]
    planted = [replace(job, plant=f"{fault}:{seed}") for job in wanted for name, fault, seed in PLANTED if name == job.name]
    jobs = [] if args.faults else jobs
    planted = planted if args.faults or args.report else []
    if not jobs and not planted:
        what = " or ".join(map(repr, args.k or [""]))
        print(f"no {'fault' if args.faults else 'netlist'} matches {what}; --list shows all", file=sys.stderr)
        return 2
    if args.list:
        print("\n".join(job.name for job in [*jobs, *planted]))
        return 0
    seed = begin(args.seed)
    if seed is None:
        return 2
    folder = build_folder()
    count: Counter[str] = Counter()
    for job in [*jobs, *planted]:
        entry = run(job, folder, seed, root)
        count.update({key: entry[key] for key in ("passed", "failed", "skipped")})
        if args.report and entry["passed"] and not entry["failed"]:
            write_report(REPORT, job, seed, entry)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped", flush=True)
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
