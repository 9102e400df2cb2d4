# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.ci``: all that CI runs, step by step; the first step that fails ends it with its name."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
BIN = Path(sys.executable).parent

#: One seed for every CI run, so that a failure there is a change's doing; other runs draw their own.
CI_SEED = "3669479847"

STEPS: dict[str, list[str]] = {
    "style (ruff)": [str(BIN / "ruff"), "check", "."],
    "types of the host side (mypy)": [PYTHON, "-m", "mypy"],
    "licences (reuse)": [str(BIN / "reuse"), "lint", "--lines"],
    "host tests (pytest)": [PYTHON, "-m", "pytest", "-q", "-m", "not rtl"],
    "golden bounds": [PYTHON, "-m", "tests.bounds", "--tokens", "2000"],
    "reduced synthesis": [PYTHON, "-m", "boards.flow.build", "--board", "ulx3s", "--reduced"],
    "RTL verification": [PYTHON, "-m", "sim.run_tests", "--seed", CI_SEED],
    "faults that must be found": [PYTHON, "-m", "tests.mutants", "--ci"],
    "end to end on the simulated board": [PYTHON, "-m", "pytest", "-q", "tests/board"],
}
FAST = ("style (ruff)", "types of the host side (mypy)", "licences (reuse)", "host tests (pytest)")
#: The smallest bench of each unit, for a run under five minutes.
FAST_RTL = ("tlmm/engine-lanes1", "weights/manager", "memory/controller-slowest", "fused/pipeline", "attention/decode-context128",
            "lm_head/", "core/", "link/link", "top/top-tiny")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.ci", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the steps that take under five minutes together")
    args = parser.parse_args()
    steps = STEPS
    if args.fast:
        chosen = [part for name in FAST_RTL for part in ("-k", name)]
        steps = {name: STEPS[name] for name in FAST}
        steps["RTL verification, a bench a unit"] = [*STEPS["RTL verification"], *chosen]
    began = time.monotonic()
    for name, command in steps.items():
        print(f"== {name}", flush=True)
        start = time.monotonic()
        code = subprocess.run(command, cwd=ROOT).returncode
        print(f"== {name}: {'ok' if code == 0 else f'FAILED (exit code {code})'}, {time.monotonic() - start:.0f} s",
              flush=True)
        if code != 0:
            return 1
    print(f"== all steps ok, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
