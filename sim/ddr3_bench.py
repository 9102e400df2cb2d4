# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.ddr3_bench``: how much of the bus the DDR3 controller moves, measured; writes docs/reports/ddr3.json.

It runs the benches of ``tests/hw/memory/tb_ddr3_controller.py`` that move 1 MiB, one for each chip and clock.  The chip model
checks every rule meanwhile, and every word is compared.  A share is of 8 bytes each fabric cycle, refreshes included.  It takes
some minutes.  Exit code 1: a test failed, and the report stays as it was.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from sim.run_tests import ROOT, Outcome, build_folder, discover, run_job, select

__all__ = ["NAME", "REPORT", "main", "measured"]

REPORT = ROOT / "docs" / "reports" / "ddr3.json"
#: What the names of the benches hold.
NAME = "memory/ddr3_controller-MT41"
#: A note: a name and its number, and words for readers of the tests' output.
NOTE = re.compile(r"(\w+_(?:share|cycles)) ([\d.]+) ")


def measured(outcome: Outcome) -> dict[str, float]:
    """Name -> number, of a bench's notes.  Raises ValueError for a note that is none of these."""
    values = {}
    for note in (note for case in outcome.cases for note in case.notes):
        match = NOTE.match(note)
        if match is None:
            raise ValueError(f"{outcome.job.name}: no number in {note!r}")
        values[match[1]] = float(match[2])
    return values


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.ddr3_bench", description="Shares of the bus of the DDR3 controller.")
    parser.add_argument("-o", "--output", type=Path, default=REPORT, metavar="FILE", help="where the report goes")
    parser.add_argument("--seed", default="1", help="of the random places (default: 1)")
    args = parser.parse_args(argv)
    runs = {}
    for job in select(discover(ROOT / "tests" / "hw", [NAME]), [NAME]):
        outcome = run_job(job, folder=build_folder(), seed=args.seed, waves=False, root=ROOT / "tests" / "hw")
        failed = [case for case in outcome.cases if case.outcome != "PASS"]
        for case in failed:
            print(f"{case.line()}\n{case.message}", file=sys.stderr)
        if failed:
            print(f"log: {outcome.log}", file=sys.stderr)
            return 1
        env = job.bench.env
        runs[job.bench.name] = {"chip": env["CHIP"], "fabric_mhz": round(float(env["MHZ"]) / 2, 2), "bytes": int(env["BYTES"]),
                                **measured(outcome)}
        print(job.bench.name, json.dumps(runs[job.bench.name]), flush=True)
    args.output.write_text(json.dumps({"seed": args.seed, "runs": runs}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
