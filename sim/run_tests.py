# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.run_tests``: builds every testbench with Verilator and runs its cocotb tests.

Prints a line per test, ``PASS|FAIL|SKIP unit/testbench.case cases=N cycles=N seconds=S``, and as the last line
``N passed, N failed, N skipped``.  The benches that take longest start first.

Exit codes: 0, all passed; 1, a failure, a crash, a build error, a hang, a missing results file, or a testbench without a test;
2, nothing matches, or bad arguments.
"""

import argparse
import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

from hw.verilog import source_key
from sim.coverage import RULES
from sim.nursery import Child, nursery
from sim.run_one import load_testbench
from sim.testbench import Bench
from sim.verilator import VerilatorError, space_free, verilator_version

__all__ = ["Case", "Job", "bench_costs", "build_folder", "discover", "longest_first", "main", "may_match", "run_job"]

ROOT = Path(__file__).resolve().parent.parent
PERIOD_NS = 10
BUILD_TIMEOUT_S = 1200
#: CPU seconds of each bench, build and run, measured once; the benches with the most start first.
COSTS = ROOT / "sim" / "costs.json"
_PRINT = threading.Lock()
#: Benches under way.  When this process gets a signal to end, it ends them too.
_RUNNING: set[Child] = set()


@dataclass(frozen=True)
class Job:
    """One bench of one testbench file, with the cocotb tests that are wanted.

    - ``gates`` is the preset whose build makes a netlist of the unit, on which the tests run; empty: they run on the RTL.
    - ``plant`` is a fault in the netlist, ``FAULT:SEED``.
    """

    unit: str
    file: Path
    bench: Bench
    tests: tuple[str, ...]
    gates: str = ""
    plant: str = ""
    #: Points that the file declares (``POINTS``) for :func:`sim.cocotb_streams.report_point`.
    points: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        name = f"{self.unit}/{self.file.stem.removeprefix('tb_')}-{self.bench.name}"
        return name + (f"@{self.gates}" if self.gates else "") + (f"+{self.plant}" if self.plant else "")


@dataclass
class Case:
    """The outcome of one cocotb test, or of a bench that gave none."""

    name: str
    outcome: str
    cases: int = 1
    cycles: int = 0
    seconds: float = 0.0
    message: str = ""
    #: Measured shares of cycles with a valid or ready low, by the test's names for them.
    shares: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        return (f"{self.outcome} {self.name} cases={self.cases} cycles={self.cycles} "
                f"seconds={self.seconds:.1f}")


@dataclass
class Outcome:
    """All cases of a job, and the log of a bad one."""

    job: Job
    cases: list[Case] = field(default_factory=list)
    log: Path | None = None
    #: CPU seconds of build and run, of a run that came to its end.
    cpu: float | None = None


def say(text: str) -> None:
    """One line, whole, at once."""
    with _PRINT:
        print(text, flush=True)


def begin(seed: str | None) -> str | None:
    """Say the seed of a run of benches, the given one or a new one.  None where there is no Verilator; standard error says so.

    From then on Ctrl-C and SIGTERM end the benches under way with this process.
    """
    try:
        verilator_version()
    except (VerilatorError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return None
    seed = seed or str(random.SystemRandom().getrandbits(32))
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, end_all)
    say(f"seed {seed} (repeat with --seed {seed})")
    return seed


def cocotb_tests(file: Path) -> list[str]:
    """Names of the functions that carry a cocotb test decorator, read from the source."""
    names = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef):
            marks = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
            if any(isinstance(d, ast.Attribute) and d.attr in ("test", "skipif") for d in marks):
                names.append(node.name)
    return names


def may_match(file: Path, substrings: Sequence[str]) -> bool:
    """Whether a test name of this testbench file can contain one of the substrings, judged by the text around their slash."""
    testbench = file.stem.removeprefix("tb_") + "-"

    def may(substring: str) -> bool:
        unit, slash, rest = substring.partition("/")
        return not slash or (file.parent.name.endswith(unit) and (testbench.startswith(rest) or rest.startswith(testbench)))

    return not substrings or any(map(may, substrings))


def discover(root: Path, substrings: Sequence[str] = ()) -> list[Job]:
    """Every bench below ``root`` in files <unit>/tb_<name>.py; only files that ``substrings`` may match are read."""
    jobs = []
    for file in sorted(root.glob("*/tb_*.py")):
        if not may_match(file, substrings):
            continue
        sys.path.insert(0, str(file.parent))
        try:
            module = load_testbench(file)
        finally:
            sys.path.remove(str(file.parent))
        tests = cocotb_tests(file)
        for bench in module.BENCHES:
            jobs.append(Job(file.parent.name, file, bench, tuple(t for t in tests if not bench.tests or t in bench.tests),
                            points=tuple(getattr(module, "POINTS", ()))))
    return jobs


def select(jobs: Iterable[Job], substrings: Sequence[str]) -> list[Job]:
    """Jobs and their tests whose ``unit/testbench.case`` holds one of the substrings; all where there is none."""
    substrings = substrings or [""]
    chosen = []
    for job in jobs:
        tests = tuple(t for t in job.tests if any(s in f"{job.name}.{t}" for s in substrings))
        if tests or (not job.tests and any(s in job.name for s in substrings)):
            chosen.append(replace(job, tests=tests))
    return chosen


def bench_costs() -> dict[str, float]:
    """CPU seconds by bench, from the file of them."""
    return json.loads(COSTS.read_text())


def longest_first(jobs: Sequence[Job], costs: Mapping[str, float]) -> list[Job]:
    """Jobs in the order in which they start.  A job that was never measured counts as long."""
    return sorted(jobs, key=lambda job: -costs.get(job.name, 1e6))


def time_limit(job: Job) -> float:
    """Seconds that a bench may run.  The limit is ten times as high if more random vectors are asked for than by default.  It is
    also higher while processes wait for a core, because a bench that gets a tenth of a core does not hang."""
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    # A netlist is simulated some times slower than the RTL.
    return job.bench.timeout_s * (10 if "TELLME_VECTORS" in os.environ else 1) * (5 if job.gates else 1) * crowd


def run_job(job: Job, *, folder: Path, seed: str, waves: bool, root: Path, coverage: Path | None = None) -> Outcome:
    """Build and run one bench in a process group of its own, within its time limit.  ``coverage``: the folder for its counts."""
    place = folder / job.name.replace("/", "--").replace(":", "-")
    place.mkdir(parents=True, exist_ok=True)
    log = place / "log.txt"
    (place / "results.xml").unlink(missing_ok=True)
    (place / "cpu.txt").unlink(missing_ok=True)
    command = [str(job.file), job.bench.name, str(place)]
    # cocotb runs a test that is marked to be skipped when it is asked for by name.
    if job.tests != tuple(cocotb_tests(job.file)):
        command += ["--tests", ",".join(job.tests)]
    if waves:
        command.append("--waves")
    if job.gates:
        command += ["--gates", job.gates, "--plant", job.plant]
    if coverage is not None:
        command.append("--coverage")
        shutil.rmtree(coverage / place.name, ignore_errors=True)
    path = [*packages(), str(ROOT), str(ROOT / "sw")]
    env = {**os.environ, "TELLME_SEED": seed, "PYTHONHASHSEED": "0",
           "PYTHONPATH": os.pathsep.join([*path, str(root.parent.parent)])}
    outcome = Outcome(job, log=log)
    if not job.tests:
        log.write_text("")
        outcome.cases = [Case(f"{job.name}.(no test)", "FAIL", 0, 0, 0.0, "the testbench holds no cocotb test")]
        return outcome
    began = time.monotonic()
    process = nursery(path).start(command, folder=place, env=env, log=log)
    _RUNNING.add(process)
    try:
        built: float | None = None
        while True:
            try:
                process.wait(0.2)
                break
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                if built is None and "\nBUILT\n" in "\n" + log.read_text(errors="replace"):
                    built = now
                if now - began > BUILD_TIMEOUT_S if built is None else now - built > time_limit(job):
                    raise
    except subprocess.TimeoutExpired:
        kill(process)
        outcome.cases = [Case(f"{job.name}.(hang)", "FAIL", 0, 0, time.monotonic() - began,
                              f"still running after {time_limit(job):.0f} s; stopped")]
        return outcome
    except BaseException:
        kill(process)
        raise
    finally:
        _RUNNING.discard(process)
    results = place / "results.xml"
    seconds = time.monotonic() - began
    if not results.exists():
        text = log.read_text(errors="replace")
        what = "crash" if "\nBUILT\n" in "\n" + text else "build"
        outcome.cases = [Case(f"{job.name}.({what})", "FAIL", 0, 0, seconds,
                              f"no results file; the process ended with code {process.returncode}")]
        return outcome
    outcome.cases = read_results(job, results, place / "report.jsonl")
    if (place / "cpu.txt").exists():
        outcome.cpu = float((place / "cpu.txt").read_text())
    if not outcome.cases:
        outcome.cases = [Case(f"{job.name}.(no test)", "FAIL", 0, 0, seconds, "the testbench holds no cocotb test")]
    missing = set(job.tests) - {c.name.rsplit(".", 1)[1] for c in outcome.cases}
    for name in sorted(missing if outcome.cases[0].name[-1] != ")" else ()):
        outcome.cases.append(Case(f"{job.name}.{name}", "FAIL", 0, 0, 0.0, "the test did not report a result"))
    if coverage is not None:
        keep_coverage(outcome, place, coverage / place.name, seed)
    return outcome


def keep_coverage(outcome: Outcome, place: Path, target: Path, seed: str) -> None:
    """What :mod:`tools.coverage_rtl` reads of a bench: its counts, what they are counts of, and the points that its tests told.
    A bench without a case that passed leaves nothing."""
    job = outcome.job
    if not (place / "coverage.dat").exists() or not any(case.outcome == "PASS" for case in outcome.cases):
        return
    target.mkdir(parents=True)
    for name in ("coverage.dat", "points.json"):
        if (place / name).exists():
            shutil.copy(place / name, target / name)
    report = place / "report.jsonl"
    entries = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    (target / "bench.json").write_text(json.dumps({
        "bench": job.name, "unit": job.unit, "file": job.file.stem, "seed": seed, "sources": source_key("coverage", RULES),
        "failed": [case.name for case in outcome.cases if case.outcome == "FAIL"], "declared": list(job.points),
        "told": sorted({entry["point"] for entry in entries if "point" in entry})}, indent=1) + "\n")


def packages() -> list[str]:
    """Folders of cocotb's packages by paths without spaces, if their own paths have a space: the linker gets these paths."""
    site = Path(sysconfig.get_path("purelib"))
    if " " not in str(site):
        return []
    return sorted({str(space_free(site / name).parent) for name in ("cocotb", "cocotb_tools", "pygpi")})


def kill(process: Child) -> None:
    """The whole process group: make, compiler, simulator."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def read_results(job: Job, results: Path, report: Path) -> list[Case]:
    """Cases of a JUnit results file, with the case counts that the tests reported."""
    counts: dict[str, int] = {}
    shares: dict[str, dict[str, float]] = {}
    notes: dict[str, list[str]] = {}
    if report.exists():
        for line in report.read_text().splitlines():
            entry = json.loads(line)
            if "cases" in entry:
                counts[entry["test"]] = counts.get(entry["test"], 0) + entry["cases"]
            shares.setdefault(entry["test"], {}).update(entry.get("shares", {}))
            notes.setdefault(entry["test"], []).extend([entry["note"]] if "note" in entry else [])
    cases = []
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        name = case.get("name", "?")
        problem = case.find("failure")
        if problem is None:
            problem = case.find("error")
        outcome = "FAIL" if problem is not None else "SKIP" if case.find("skipped") is not None else "PASS"
        properties = {p.get("name"): p.get("value", "") for p in case.iter("property")}
        cycles = round(float(properties.get("sim_time_duration") or 0) / PERIOD_NS)
        message = "" if problem is None else (problem.text or problem.get("message") or "")
        cases.append(Case(f"{job.name}.{name}", outcome, counts.get(name, 1), cycles, float(case.get("time", 0)),
                          message, shares.get(name, {}), notes.get(name, [])))
    return cases


def write_junit(path: Path, outcomes: list[Outcome]) -> None:
    """All cases as one JUnit file."""
    suites = ElementTree.Element("testsuites", name="sim.run_tests")
    for outcome in outcomes:
        suite = ElementTree.SubElement(suites, "testsuite", name=outcome.job.name, tests=str(len(outcome.cases)),
                                       failures=str(sum(c.outcome == "FAIL" for c in outcome.cases)))
        for case in outcome.cases:
            entry = ElementTree.SubElement(suite, "testcase", name=case.name, time=f"{case.seconds:.3f}")
            if case.outcome == "FAIL":
                ElementTree.SubElement(entry, "failure", message="failed").text = case.message
            elif case.outcome == "SKIP":
                ElementTree.SubElement(entry, "skipped")
    ElementTree.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def build_folder() -> Path:
    """Where builds are cached: in the checkout, or in the temporary folder if the checkout's path has a space
    (make and Verilator cannot take one)."""
    folder = ROOT / "build" / "tests"
    if " " in str(folder):
        folder = Path(tempfile.gettempdir()) / f"tellme-tests-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def end_all(signum: int, frame: object) -> None:
    """Signal handler: the benches under way end, and so does this process."""
    for process in list(_RUNNING):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    print("\nstopped", file=sys.stderr, flush=True)
    os._exit(128 + signum)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.run_tests", description="RTL verification with cocotb.")
    parser.add_argument("--list", action="store_true", help="list unit/testbench.case and end")
    parser.add_argument("-k", metavar="SUBSTRING", action="append", default=[],
                        help="only tests whose name holds it; given again, or it")
    parser.add_argument("--seed", help="repeat a run; default: a new one, printed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="benches at a time")
    parser.add_argument("--waves", action="store_true", help="write a VCD wave file beside each log")
    parser.add_argument("--coverage", type=Path, metavar="FOLDER",
                        help="build with cover statements (sim/coverage.py) and keep each bench's counts in a folder of FOLDER")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write all results as JUnit XML")
    parser.add_argument("--root", type=Path, default=ROOT / "tests" / "hw", help="folder of the units' testbenches")
    parser.add_argument("--nightly", action="store_true", help="also the benches that CI leaves to make nightly")
    parser.add_argument("--costs", action="store_true", help="write the CPU seconds of these benches to sim/costs.json")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs wants 1 or more")
    if args.coverage is not None and args.coverage.exists() and not args.coverage.is_dir():
        parser.error(f"--coverage: {args.coverage} is no folder")
    root = args.root.resolve()
    found = select(discover(root, args.k), args.k)
    jobs = [job for job in found if args.nightly or not job.bench.nightly]
    if not jobs:
        what = " or ".join(map(repr, args.k or [""]))
        print(f"{what} matches benches of make nightly alone; give --nightly too" if found else
              f"no test matches {what} below {root}; --list shows all", file=sys.stderr)
        return 2
    if args.list:
        for job in jobs:
            for test in job.tests:
                print(f"{job.name}.{test}")
        return 0
    seed = begin(args.seed)
    if seed is None:
        return 2
    folder = build_folder()

    def run(job: Job) -> Outcome:
        say(f"BUILD {job.name}")
        outcome = run_job(job, folder=folder, seed=seed, waves=args.waves, root=root,
                          coverage=None if args.coverage is None else args.coverage.resolve())
        for case in outcome.cases:
            more = [f"{name} low in {share:.1%} of the cycles" for name, share in case.shares.items() if share]
            say("\n  ".join([case.line(), *more, *case.notes]))
            if case.outcome == "FAIL":
                tail = [] if outcome.log is None else outcome.log.read_text(errors="replace").splitlines()[-25:]
                say("\n".join([f"  {line}" for line in case.message.splitlines()[-15:]]
                              + [f"  | {line}" for line in tail] + [f"  log: {outcome.log}; seed {seed}"]))
        return outcome

    with ThreadPoolExecutor(args.jobs) as pool:
        outcomes = list(pool.map(run, longest_first(jobs, bench_costs())))
    if args.junit:
        write_junit(args.junit, outcomes)
    if args.costs:
        costs = bench_costs() | {o.job.name: o.cpu for o in outcomes if o.cpu is not None}
        COSTS.write_text(json.dumps(costs, indent=0, sort_keys=True) + "\n")
    count = Counter(c.outcome for o in outcomes for c in o.cases)
    print(f"{count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped", flush=True)
    return 1 if count["FAIL"] or not count["PASS"] else 0


if __name__ == "__main__":
    sys.exit(main())
