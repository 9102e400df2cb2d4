# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.coverage_host``: which branches of the host package its tests take, by file.

The tests are those of CI that simulate nothing, in one process a folder; coverage also counts in the processes that tests start.
Processes that a test kills say nothing.  A folder's counts are kept below build/coverage/host, so that a folder can be run
again alone.  Counts of a file are only taken where the file is still what it was; the record says what is left out.  The record,
docs/reports/coverage-host.json, is written when every folder has counts: of each file its branches, those that were taken, and
the lines from which one was not.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coverage import CoverageData

from sim.checkout import commit
from tools.ci import heard_by_children

__all__ = ["FOLDERS", "GOAL", "kept", "main", "record", "sources_of"]

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "reports" / "coverage-host.json"
#: Each folder's counts (FOLDER.data) and what they are of (FOLDER.json).
KEPT = ROOT / "build" / "coverage" / "host"
#: Folders of tests that run the host package.
FOLDERS = ("cli", "compiler", "docs", "drafts", "fuzz", "golden", "link", "models", "quantise", "runtime", "serve", "spec")
#: The share of branches that each file should have.
GOAL = 0.95
COVERAGE = (sys.executable, "-m", "coverage")


def sources_of(root: Path) -> dict[str, str]:
    """Modules of the host package in a checkout -> a digest of each."""
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            for path in sorted((root / "sw" / "tellme").rglob("*.py"))}


def kept(folder: Path, sources: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What is known of each folder of tests that has counts; ``left_out``: files that are not what they were in its run."""
    found = {}
    for name in FOLDERS:
        about = folder / f"{name}.json"
        if about.exists():
            known = json.loads(about.read_text())
            of = known.pop("sources")
            found[name] = known | {"left_out": [path for path, digest in sources.items() if of.get(path) != digest]}
    return found


def record(found: Mapping[str, Any], folders: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The record from coverage's own JSON, and from what is known of each folder of tests."""
    files = {}
    for name, file in sorted(found["files"].items()):
        summary = file["summary"]
        branches, taken = summary["num_branches"], summary["covered_branches"]
        files[name] = {"branches": branches, "taken": taken, "share": round(taken / branches, 4) if branches else 1.0,
                       "lines": summary["num_statements"], "run": summary["covered_lines"],
                       "from": sorted({abs(start) for start, _ in file.get("missing_branches", [])})}
    branches, taken = (sum(file[key] for file in files.values()) for key in ("branches", "taken"))
    return {"command": "python -m tools.coverage_host",
            "commits": {name: known["commit"] for name, known in folders.items()},
            "failed": [name for name, known in folders.items() if known["failed"]],
            "left_out": {name: known["left_out"] for name, known in folders.items() if known["left_out"]},
            "branches": branches, "taken": taken, "share": round(taken / branches, 4) if branches else 1.0,
            "below": [name for name, file in files.items() if file["share"] < GOAL], "files": files}


def run_folder(name: str) -> None:
    """Run a folder's tests and keep their counts."""
    sources = sources_of(ROOT)
    (KEPT / f"{name}.json").unlink(missing_ok=True)
    subprocess.run([*COVERAGE, "erase"], cwd=ROOT, check=True)
    tests = ("-m", "pytest", "-q", "-m", "not rtl and not nightly", f"tests/{name}")
    code = subprocess.run([*COVERAGE, "run", *tests], cwd=ROOT).returncode
    subprocess.run([*COVERAGE, "combine", "-q"], cwd=ROOT, check=True)
    (KEPT.parent / "data").rename(KEPT / f"{name}.data")
    if sources_of(ROOT) != sources:
        raise SystemExit(f"{name}: the host package changed while its tests ran; its counts are not kept")
    (KEPT / f"{name}.json").write_text(json.dumps({"commit": commit(), "failed": code != 0, "sources": sources}) + "\n")


def combined(folders: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Coverage's own JSON of the counts of several folders, without those of files that have changed.

    The counts are combined in a folder of their own, so that those of a run that goes on beside stay.
    """
    with tempfile.TemporaryDirectory(prefix="tellme-coverage-") as scratch:
        for name, known in folders.items():
            part = Path(scratch) / f"data.{name}"
            shutil.copy(KEPT / f"{name}.data", part)
            if known["left_out"]:
                data = CoverageData(str(part))
                data.read()
                data.purge_files(known["left_out"])
                data.close()
        whole, env = Path(scratch) / "coverage.json", os.environ | {"COVERAGE_FILE": f"{scratch}/data"}
        for command in (("combine", "-q"), ("json", "-q", "-o", str(whole))):
            subprocess.run([*COVERAGE, *command], cwd=ROOT, env=env, check=True)
        found: dict[str, Any] = json.loads(whole.read_text())
    return found


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
    for name in () if args.read else args.folders or FOLDERS:
        run_folder(name)
    folders = kept(KEPT, sources_of(ROOT))
    if not folders:
        parser.error("no folder has counts")
    found = record(combined(folders), folders)
    for name in found["below"]:
        file = found["files"][name]
        print(f"{100 * file['share']:5.1f} %  {name}: {file['taken']} of {file['branches']} branches; lines "
              f"{', '.join(map(str, file['from']))}")
    for name, files in found["left_out"].items():
        print(f"{name} was run with other sources of {', '.join(files)}")
    print(f"{100 * found['share']:.1f} % of {found['branches']} branches; {len(found['below'])} files below {100 * GOAL:g} %")
    if missing := [name for name in FOLDERS if name not in folders]:
        print(f"no counts, so that the record stays as it is: {', '.join(missing)}")
    else:
        REPORT.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
