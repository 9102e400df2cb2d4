# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.coverage_host``: which branches of the host package its tests take, by file.

The tests are those of CI that simulate nothing, in one process a folder; coverage also counts in the processes that tests start.
Processes that a test kills say nothing.  The counts of each folder are kept below build/coverage/host, with a digest of the host
package, so that a folder can be run again alone.  Counts of other sources are never used.  The record,
docs/reports/coverage-host.json, is written when every folder has counts of the present sources: of each file its branches, those
that were taken, and the lines from which one was not.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.ci import heard_by_children

__all__ = ["FOLDERS", "GOAL", "kept", "main", "record", "sources_digest"]

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "reports" / "coverage-host.json"
#: Each folder's counts (FOLDER.data) and what they are of (FOLDER.json).
KEPT = ROOT / "build" / "coverage" / "host"
#: Folders of tests that run the host package.
FOLDERS = ("cli", "compiler", "docs", "drafts", "fuzz", "golden", "link", "models", "quantise", "runtime", "serve", "spec")
#: The share of branches that each file should have.
GOAL = 0.95
COVERAGE = (sys.executable, "-m", "coverage")


def sources_digest(package: Path) -> str:
    """A digest of a package's modules, by which counts belong to lines."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def kept(folder: Path, sources: str) -> dict[str, dict[str, Any]]:
    """What is known of each folder of tests whose counts are of these sources."""
    found = {}
    for name in FOLDERS:
        about = folder / f"{name}.json"
        if about.exists() and (known := json.loads(about.read_text()))["sources"] == sources:
            found[name] = known
    return found


def record(found: Mapping[str, Any], folders: Mapping[str, Mapping[str, Any]], sources: str) -> dict[str, Any]:
    """The record from coverage's own JSON.  ``folders``: of each folder of tests the commit, and whether a test of it failed."""
    files = {}
    for name, file in sorted(found["files"].items()):
        summary = file["summary"]
        branches, taken = summary["num_branches"], summary["covered_branches"]
        files[name] = {"branches": branches, "taken": taken, "share": round(taken / branches, 4) if branches else 1.0,
                       "lines": summary["num_statements"], "run": summary["covered_lines"],
                       "from": sorted({abs(start) for start, _ in file.get("missing_branches", [])})}
    branches, taken = (sum(file[key] for file in files.values()) for key in ("branches", "taken"))
    return {"command": "python -m tools.coverage_host", "sources": sources,
            "commits": {name: known["commit"] for name, known in folders.items()},
            "failed": [name for name, known in folders.items() if known["failed"]],
            "branches": branches, "taken": taken, "share": round(taken / branches, 4) if branches else 1.0,
            "below": [name for name, file in files.items() if file["share"] < GOAL], "files": files}


def run_folder(name: str, sources: str) -> None:
    """Run a folder's tests and keep their counts."""
    (KEPT / f"{name}.json").unlink(missing_ok=True)
    subprocess.run([*COVERAGE, "erase"], cwd=ROOT, check=True)
    tests = ("-m", "pytest", "-q", "-m", "not rtl and not nightly", f"tests/{name}")
    code = subprocess.run([*COVERAGE, "run", *tests], cwd=ROOT).returncode
    subprocess.run([*COVERAGE, "combine", "-q"], cwd=ROOT, check=True)
    (KEPT.parent / "data").rename(KEPT / f"{name}.data")
    if sources_digest(ROOT / "sw" / "tellme") != sources:
        raise SystemExit(f"{name}: the host package changed while its tests ran; its counts are not kept")
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.strip()
    (KEPT / f"{name}.json").write_text(json.dumps({"sources": sources, "commit": commit, "failed": code != 0}) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.coverage_host", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", help="folders of tests to run; default: all that run the host package")
    parser.add_argument("--read", action="store_true", help="run nothing: count what earlier runs kept")
    args = parser.parse_args(argv)
    unknown = set(args.folders).difference(FOLDERS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: folders are {', '.join(FOLDERS)}")
    if args.read and args.folders:
        parser.error("--read runs no folders")
    heard_by_children()
    KEPT.mkdir(parents=True, exist_ok=True)
    sources = sources_digest(ROOT / "sw" / "tellme")
    for name in () if args.read else args.folders or FOLDERS:
        run_folder(name, sources)
    folders = kept(KEPT, sources)
    if not folders:
        parser.error("no folder has counts of the present sources")
    parts = [str(KEPT / f"{name}.data") for name in folders]
    subprocess.run([*COVERAGE, "combine", "-q", "--keep", *parts], cwd=ROOT, check=True)
    whole = KEPT.parent / "coverage.json"
    subprocess.run([*COVERAGE, "json", "-q", "-o", str(whole)], cwd=ROOT, check=True)
    found = record(json.loads(whole.read_text()), folders, sources)
    for name in found["below"]:
        file = found["files"][name]
        print(f"{100 * file['share']:5.1f} %  {name}: {file['taken']} of {file['branches']} branches; lines "
              f"{', '.join(map(str, file['from']))}")
    print(f"{100 * found['share']:.1f} % of {found['branches']} branches; {len(found['below'])} files below {100 * GOAL:g} %")
    if missing := [name for name in FOLDERS if name not in folders]:
        print(f"no counts of the present sources, so that the record stays as it is: {', '.join(missing)}")
    else:
        REPORT.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
