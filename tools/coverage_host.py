# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.coverage_host``: which branches of the host package its tests take, by file.

The tests are those of CI that simulate nothing, in one process a folder; coverage also counts in the processes that tests start.
Processes that a test kills say nothing.  The record is docs/reports/coverage-host.json: of each file its branches, those that
were taken, and the lines from which one was not.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.ci import heard_by_children

__all__ = ["FOLDERS", "GOAL", "main", "record"]

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "reports" / "coverage-host.json"
#: Folders of tests that run the host package.
FOLDERS = ("cli", "compiler", "docs", "drafts", "fuzz", "golden", "link", "models", "quantise", "runtime", "serve", "spec")
#: The share of branches that each file should have.
GOAL = 0.95


def record(found: dict[str, Any], commit: str, failed: Sequence[str], not_run: Sequence[str] = ()) -> dict[str, Any]:
    """The record from coverage's own JSON.  ``failed``: folders whose tests did not all pass; ``not_run``: folders that were not
    run to their end, so that files may have more branches taken than the record says."""
    files = {}
    for name, file in sorted(found["files"].items()):
        summary = file["summary"]
        branches, taken = summary["num_branches"], summary["covered_branches"]
        files[name] = {"branches": branches, "taken": taken, "share": round(taken / branches, 4) if branches else 1.0,
                       "lines": summary["num_statements"], "run": summary["covered_lines"],
                       "from": sorted({abs(start) for start, _ in file.get("missing_branches", [])})}
    branches, taken = (sum(file[key] for file in files.values()) for key in ("branches", "taken"))
    return {"command": "python -m tools.coverage_host", "commit": commit, "failed": list(failed), "not_run": list(not_run),
            "branches": branches, "taken": taken, "share": round(taken / branches, 4) if branches else 1.0,
            "below": [name for name, file in files.items() if file["share"] < GOAL], "files": files}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.coverage_host", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", help="folders of tests; default: all that run the host package")
    args = parser.parse_args(argv)
    unknown = set(args.folders).difference(FOLDERS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: folders are {', '.join(FOLDERS)}")
    heard_by_children()
    coverage = [sys.executable, "-m", "coverage"]
    (ROOT / "build" / "coverage").mkdir(parents=True, exist_ok=True)
    subprocess.run([*coverage, "erase"], cwd=ROOT, check=True)
    failed = [name for name in args.folders or FOLDERS if subprocess.run(
        [*coverage, "run", "-m", "pytest", "-q", "-m", "not rtl and not nightly", f"tests/{name}"], cwd=ROOT).returncode]
    subprocess.run([*coverage, "combine", "-q"], cwd=ROOT, check=True)
    whole = ROOT / "build" / "coverage" / "coverage.json"
    subprocess.run([*coverage, "json", "-q", "-o", str(whole)], cwd=ROOT, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    found = record(json.loads(whole.read_text()), commit, failed)
    for name in found["below"]:
        file = found["files"][name]
        print(f"{100 * file['share']:5.1f} %  {name}: {file['taken']} of {file['branches']} branches")
    print(f"{100 * found['share']:.1f} % of {found['branches']} branches; {len(found['below'])} files below {100 * GOAL:g} %")
    if not args.folders:
        REPORT.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
