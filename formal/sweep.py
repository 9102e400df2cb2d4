# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m formal.sweep``: binary16 multiply and add, all 2**32 pairs of each, and the gate of SiLU and of ReLU squared, all
numbers with all exponents, against a plain description.

The gateware is simulated by Verilator, a pair a cycle.  The plain description (sweep.cpp) computes the exact result in a double
and rounds it once.  A slice is 256 values of a with every b: 2**24 pairs.  Of the gate, b is the number, and a the exponent and
which of both functions: two slices, without and with the register behind the table.  The command goes on where the last one
ended (build/formal/sweep), as long as neither the gateware nor the description changed.  ``--slices N`` ends after N slices
of each operation; ``--faults`` plants faults, each of which a sweep has to find.  ``--report`` writes to
docs/reports/binary16.json what was swept whole, or which faults were found.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from formal.run import ROOT, plant
from hw.verilog import to_verilog
from sim.verilator import verilator_command, verilator_env
from tellme.spec.formats import BINARY16
from tests.mutants import Mutant

__all__ = ["FAULTS", "build", "main", "source_digest"]

REPORT = ROOT / "docs" / "reports" / "binary16.json"
BUILD = ROOT / "build" / "formal" / "sweep"
SLICE = 256
#: Values of a.
OPERATIONS = {"mul": 1 << 16, "add": 1 << 16, "gate": 1 << 9, "gate-register": 1 << 9}


def fault(operation: str, name: str, file: str, old: str, new: str) -> Mutant:
    return Mutant("formal", name, file, old, new, (operation,))


FAULTS = (
    fault("mul", "half-rounded-up", "hw/lib/floats.py", "up = guard & (sticky | value[0])", "up = guard"),
    fault("mul", "infinity-times-zero", "hw/fused/arithmetic.py",
          "nan = a.nan | b.nan | (a.inf & b.zero) | (b.inf & a.zero)", "nan = a.nan | b.nan | (a.inf & b.zero)"),
    fault("add", "sticky-bit-lost", "hw/fused/arithmetic.py",
          'pipe.reg(Cat(moved[0] | (extended & mask).any(), moved[1:]), "small2")', 'pipe.reg(moved, "small2")'),
    fault("add", "zero-of-unlike-signs", "hw/fused/arithmetic.py", "sign = Mux(total == 0, flags2[4], flags2[0])",
          "sign = flags2[0]"),
    fault("gate", "cut-to-a-multiple-of-less", "hw/fused/activation.py", 'pipe.reg((shifted_sig1 << lift) >> amount1, "fixed1")',
          'pipe.reg((shifted_sig1 << lift) >> amount1 | 1, "fixed1")'),
    fault("gate", "exponent-of-the-other-function", "hw/fused/activation.py", "Mux(relu2, (x.exp << 1) + 2 * unit,",
          "Mux(relu2, (x.exp << 1) + 2 * unit + 1,"),
    fault("gate-register", "table-a-cycle-early", "hw/fused/activation.py", 'entry = pipe.delay(read.data, more, "entry")',
          "entry = read.data"),
)


def verilog(operation: str) -> str:
    """The unit's Verilog, of the gateware that Python finds."""
    from hw.fused.activation import Gate
    from hw.fused.arithmetic import FloatAdd, FloatMul

    unit = {"mul": lambda: FloatMul(BINARY16), "add": lambda: FloatAdd(BINARY16), "gate": lambda: Gate(BINARY16, tag=1),
            "gate-register": lambda: Gate(BINARY16, tag=1, table_register=True)}[operation]()
    return to_verilog(unit, "unit")


def source_digest(text: str) -> str:
    """Of a unit's Verilog and the plain description."""
    return hashlib.sha256(text.encode() + Path(__file__).with_name("sweep.cpp").read_bytes()).hexdigest()


def build(operation: str, folder: Path, root: Path = ROOT) -> tuple[Path, str]:
    """The program that sweeps the gateware below ``root``, and a hash of what it is made of."""
    folder.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'sw'}"}
    text = subprocess.run([sys.executable, "-m", "formal.sweep", "--verilog", operation], cwd=root, env=env, check=True,
                          capture_output=True, text=True).stdout
    source = Path(__file__).with_name("sweep.cpp")
    digest = source_digest(text)
    program = folder / "obj" / "Vunit"
    if not program.exists() or not (folder / "digest").exists() or (folder / "digest").read_text() != digest:
        (folder / "unit.v").write_text(text)
        done = subprocess.run([*verilator_command(), "--cc", "--exe", "--build", "-O3", "--x-assign", "fast", "--noassert",
                               "-Wno-lint", "-CFLAGS", f"-DNAN_BITS={BINARY16.nan}", "-MAKEFLAGS",
                               "OPT_FAST=-O3 OPT_SLOW=-O2 OPT_GLOBAL=-O2", "--top-module", "unit", "-Mdir", "obj", "unit.v",
                               str(source)], cwd=folder, env=verilator_env(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        (folder / "digest").write_text(digest)
    return program, digest


def run_slice(program: Path, operation: str, first: int, count: int = SLICE) -> str:
    """What the program says of the pairs of ``count`` values from ``first`` on: empty, or the pair that differs."""
    done = subprocess.run([str(program), operation.partition("-")[0], str(first), str(count)], capture_output=True, text=True)
    if done.returncode == 0 and done.stdout == f"ok {count << 16}\n":
        return ""
    return done.stdout.strip() or f"exit code {done.returncode}"


def sweep(operation: str, slices: int, jobs: int) -> tuple[int, int, str]:
    """Go on for so many slices.  How many were done now, how many are done in all, and what differs."""
    program, digest = build(operation, BUILD / operation)
    state = BUILD / f"{operation}.json"
    known = json.loads(state.read_text()) if state.exists() else {}
    done = set(known["done"]) if known.get("digest") == digest else set()
    if len(done) == OPERATIONS[operation] // SLICE:
        # A complete sweep of this gateware is not done again.
        return 0, len(done), ""
    todo = [first for first in range(0, OPERATIONS[operation], SLICE) if first not in done][:slices]
    now = 0
    with ThreadPoolExecutor(jobs) as pool:
        for first, problem in zip(todo, pool.map(lambda first: run_slice(program, operation, first), todo), strict=True):
            if problem:
                return now, len(done), problem
            done.add(first)
            now += 1
            state.write_text(json.dumps({"digest": digest, "done": sorted(done)}))
    return now, len(done), ""


def find(mutant: Mutant) -> str:
    """What the sweep says of a unit with the fault."""
    [operation] = mutant.benches
    folder = BUILD / mutant.fault
    program, _ = build(operation, folder, plant(mutant, folder / "root"))
    # Zeros, small numbers, one and its neighbours, and infinities; of the gate, SiLU and ReLU squared.
    for first in ((0, 256, 257) if operation.startswith("gate") else (0, 1, 0x3BFF, 0x3C01, 0x5555, 0x7C00, 0x8000)):
        problem = run_slice(program, operation, first, 1)
        if problem:
            return problem
    return ""


def write_report(name: str, value: object, part: str) -> None:
    """Put a result beside the others."""
    known: dict[str, Any] = {"command": "python -m formal.sweep", "swept": {}, "faults": {}}
    if REPORT.exists():
        known = json.loads(REPORT.read_text())
    known[part] = dict(sorted({**known[part], name: value}.items()))
    scratch = REPORT.with_suffix(".tmp")
    scratch.write_text(json.dumps(known, indent=1) + "\n")
    scratch.replace(REPORT)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m formal.sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slices", type=int, default=256, help="slices of 2**24 pairs of each operation; default: all 256")
    parser.add_argument("--jobs", type=int, default=1, help="slices at a time")
    parser.add_argument("--faults", action="store_true", help="plant faults, and sweep little")
    parser.add_argument("--report", action="store_true", help="write docs/reports/binary16.json")
    parser.add_argument("--verilog", choices=OPERATIONS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.verilog:
        print(verilog(args.verilog))
        return 0
    good = bad = 0
    if args.faults:
        for mutant in FAULTS:
            said = find(mutant)
            print(f"{'found   ' if said.startswith('differs') else 'SURVIVED'} {mutant.fault}: {said}", flush=True)
            good, bad = good + said.startswith("differs"), bad + (not said.startswith("differs"))
            if args.report:
                write_report(mutant.fault, said, "faults")
    else:
        for operation in OPERATIONS:
            began = time.monotonic()
            now, done, problem = sweep(operation, args.slices, args.jobs)
            seconds = time.monotonic() - began
            print(f"{'FAILED' if problem else 'ok    '} {operation}: {now} slices of 2**24 pairs in {seconds:.0f} s, "
                  f"{done} of {OPERATIONS[operation] // SLICE} in all" + (f": {problem}" if problem else ""), flush=True)
            good, bad = good + (not problem and done > 0), bad + bool(problem)
            if args.report and done == OPERATIONS[operation] // SLICE and not problem:
                state = json.loads((BUILD / f"{operation}.json").read_text())
                write_report(operation, {"pairs": done * SLICE << 16, "digest": state["digest"]}, "swept")
    print(f"{good} passed, {bad} failed")
    return 1 if bad or not good else 0


if __name__ == "__main__":
    sys.exit(main())
