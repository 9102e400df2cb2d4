# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.mutation.worker``: elaborates benches and cores, and builds and runs benches, each request in a fork.

Internal to :mod:`tests.mutation`, which runs it in a copy of the checkout.  The process has imported what all requests need and
no mutant changes; a fork imports the gateware, with the mutant that is in the copy then.

A line of JSON on standard input is a request, with ``do`` and ``names``.  A name is a bench, such as lib/streams-skid, or
core:PRESET.  The answers are lines of JSON on standard output.

- ``survey``: of one name the digests (``rtlil``, ``verilog``) and, by file of hw, the lines that the elaboration ran (``lines``).
- ``trial``: each name is elaborated until the request's ``most`` benches have run, or one fails.  The request has the digests
  (``known``) and limits of CPU seconds (``limits``).  ``seen`` is ``identical`` or ``differs``.  A bench that differs is run and
  also has ``failed`` (its first failing case, or nothing), ``cpu`` and ``limit``.  A core that differs ends the trial.
- ``verilog``: of each name the Verilog (``text``).

``error`` in an answer is what ended an elaboration.  The last answer has ``end``: nothing, or what ended the fork too early.
"""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

# What the gateware, the testbenches and the runs of benches import, so that forks have these.
import amaranth.back.verilog
import amaranth.hdl
import amaranth.lib.data
import amaranth.lib.fifo
import amaranth.lib.memory
import amaranth.lib.stream
import amaranth.lib.wiring
import cocotb.clock
import cocotb.triggers
import cocotb_tools.runner
import numpy as np

from sim.run_one import build_files, simulate, wrapper
from sim.run_tests import Job, cocotb_tests, discover, read_results
from sim.verilator import compiler_version, verilator_env, verilator_version

__all__ = ["CORE", "Same", "executed", "main", "summed"]

ROOT = Path(__file__).resolve().parents[2]
#: What a preset of a board is called before its name.
CORE = "core:"
#: CPU seconds of an elaboration, and bytes of memory of a fork.
ELABORATION_S, MEMORY = 120, 8 << 30
#: A bench may wait for a core: seconds of a clock that it may take, as a multiple of its CPU seconds.
PATIENCE = 30
#: How the compiler optimises a mutant's model.  A mutant is built once and dies early: compiling costs more than it saves.
FAST = "-O0"
#: Attributes of Amaranth's output that say where in the sources something is.
PLACES = re.compile(r"^ *attribute \\src .*\n", re.M)
LIBRARIES = (amaranth, cocotb, cocotb_tools, np)


class Same(Exception):
    """What is elaborated is what it is without a mutant."""


def summed(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


@cache
def jobs(file: Path) -> Sequence[Job]:
    """The benches of a testbench's file."""
    prefix = f"{file.parent.name}/{file.stem.removeprefix('tb_')}-"
    return [job for job in discover(file.parent.parent, [prefix]) if job.file == file]


def job_of(name: str) -> Job:
    """A bench by its name."""
    unit, _, rest = name.partition("/")
    # The names of testbenches have no hyphen.
    [job] = [job for job in jobs(ROOT / "tests" / "hw" / unit / f"tb_{rest.partition('-')[0]}.py") if job.name == name]
    return job


def verilog_of(name: str, known: str) -> tuple[dict[str, str], str]:
    """(files of Verilog, the digest of what Amaranth gave) of a bench or a core.

    Raises Same for what Amaranth gave if its digest is ``known``: then the files need not be made.
    """
    from hw.verilog import to_verilog

    digest = ""
    # amaranth.back.verilog has no public name between the two steps.
    convert = amaranth.back.verilog._convert_rtlil_text

    def noted(text: str, **options: Any) -> str:
        nonlocal digest
        digest = summed(PLACES.sub("", text))
        if digest == known:
            raise Same
        return convert(text, **options)

    if name.startswith(CORE):
        from hw.top import Core
        from tellme.spec.config import preset

        def build() -> Any:
            return Core(preset(name.removeprefix(CORE)))
    else:
        bench = job_of(name).bench
        if bench.sources is not None:
            return bench.sources(), ""
        assert bench.build is not None
        build = bench.build
    amaranth.back.verilog._convert_rtlil_text = noted
    try:
        text = to_verilog(build(), "dut")
    finally:
        amaranth.back.verilog._convert_rtlil_text = convert
    return {"dut.v": text}, digest


def digest_of(files: Mapping[str, str]) -> str:
    return summed(*(part for file in sorted(files.items()) for part in file))


def executed(run: Callable[[], object], folder: Path) -> dict[str, list[int]]:
    """Lines of the files below ``folder`` that ``run`` runs, by the files' paths from the folder's parent."""
    lines: dict[str, set[int]] = defaultdict(set)
    inside: dict[str, set[int] | None] = {}

    def of(frame: FrameType) -> set[int] | None:
        file = frame.f_code.co_filename
        if file not in inside:
            path = Path(file)
            inside[file] = lines[path.relative_to(folder.parent).as_posix()] if path.is_relative_to(folder) else None
        return inside[file]

    def begun(frame: FrameType, event: str, argument: object) -> Any:
        found = of(frame)
        if found is None:
            return None

        def step(frame: FrameType, event: str, argument: object) -> Any:
            found.add(frame.f_lineno)
            return step

        return step(frame, event, argument)

    sys.settrace(begun)
    try:
        run()
    finally:
        sys.settrace(None)
    return {file: sorted(found) for file, found in lines.items()}


# ---------------------------------------------------------------------- in a fork

def survey(request: Mapping[str, Any], answer: Callable[..., None]) -> None:
    """Of one name: what is imported or kept by one elaboration is not run again by the next."""
    [name] = request["names"]
    found: list[str] = []

    def run() -> None:
        files, rtlil = verilog_of(name, "")
        found.extend((rtlil, digest_of(files)))

    lines = executed(run, ROOT / "hw")
    answer(name=name, rtlil=found[0], verilog=found[1], lines=lines)


def verilog(request: Mapping[str, Any], answer: Callable[..., None]) -> None:
    for name in request["names"]:
        files, _ = verilog_of(name, "")
        answer(name=name, text="".join(files.values()))


def trial(request: Mapping[str, Any], answer: Callable[..., None]) -> None:
    runs = 0
    for name in request["names"]:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        limit = round(spent.ru_utime + spent.ru_stime) + ELABORATION_S
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        known = request["known"][name]
        try:
            files, _ = verilog_of(name, known["rtlil"] or "none")
            differs = digest_of(files) != known["verilog"]
        except Same:
            differs = False
        except Exception as error:
            answer(name=name, error=f"{type(error).__name__}: {error}".splitlines()[0][:200])
            return
        if not differs:
            answer(name=name, seen="identical")
            continue
        if name.startswith(CORE):
            answer(name=name, seen="differs")
            return
        job, limit = job_of(name), request["limits"][name]
        failed, cpu = run_bench(job, files, limit)
        answer(name=name, seen="differs", failed=failed, cpu=round(cpu, 1), limit=limit)
        runs += 1
        if failed or runs == request["most"]:
            return


def run_bench(job: Job, files: Mapping[str, str], limit: int) -> tuple[str, float]:
    """(the first failing case or nothing, CPU seconds of the run)."""
    folder = ROOT / "build" / "tests"
    timing = ["--no-timing"]
    if job.bench.sources is None:
        files = {**files, "top.sv": wrapper(files["dut.v"])}
    else:
        timing = ["--timing"]
    try:
        build = build_files(files, timing, folder, fast=FAST)
    except (SystemExit, RuntimeError, subprocess.CalledProcessError):
        return f"{job.name}.(build)", 0.0
    place = folder / "run"
    place.mkdir()
    tests = () if job.tests == tuple(cocotb_tests(job.file)) else job.tests

    def run() -> None:
        # The runner gives the simulator this process's path.
        sys.path.insert(0, str(job.file.parent))
        simulate(job.file, job.bench, build, place, tests,
                 more={"COCOTB_MAX_FAILURES": "1", "COCOTB_REWRITE_ASSERTION_FILES": ""})

    try:
        cpu = limited(run, limit)
        results = place / "results.xml"
        if not results.exists():
            return f"{job.name}.({'limit' if cpu >= 0.95 * limit else 'crash'})", cpu
        cases = read_results(job, results, place / "report.jsonl")
        told = {case.name.rpartition(".")[2]: case.outcome for case in cases}
        failed = [case.name for case in cases if case.outcome == "FAIL"]
        return next(iter([*failed, *(f"{job.name}.{test}" for test in job.tests if test not in told)]), ""), cpu
    finally:
        shutil.rmtree(place)
        shutil.rmtree(build)


def limited(run: Callable[[], object], limit: int) -> float:
    """CPU seconds of ``run`` in a process of its own, which and whose children may each take ``limit``.  Raises TimeoutError if
    the process only waits."""
    began, pid = time.monotonic(), os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            run()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    while True:
        done, _, spent = os.wait4(pid, os.WNOHANG)
        if done:
            return spent.ru_utime + spent.ru_stime
        if time.monotonic() - began > PATIENCE * limit:
            raise TimeoutError(f"{time.monotonic() - began:.0f} s are over, and {limit} s of CPU are not: the machine is too "
                               "busy to tell; run again")
        time.sleep(0.01)


# ---------------------------------------------------------------------- the process

def main() -> int:
    os.environ.update(verilator_env())
    verilator_version()
    compiler_version()
    strangers = [name for name in sys.modules if name.startswith("hw.") and name != "hw.verilog"]
    assert not strangers, f"a mutant could not change {strangers}, which are imported"
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # Tools and gateware may print what they like.
    os.dup2(2, 1)

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")

    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                {"survey": survey, "trial": trial, "verilog": verilog}[request["do"]](request, answer)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        _, status, spent = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        end = "" if code == 0 else signal.Signals(-code).name if code < 0 else "exception"
        answer(end=end, cpu=round(spent.ru_utime + spent.ru_stime, 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
