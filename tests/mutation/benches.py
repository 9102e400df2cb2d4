# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Which benches may see a mutant of a file, the cheapest first.

A bench may see a file if its testbench imports the file, itself or through other modules.  Whether a bench does see a mutant, its
Verilog tells (:mod:`tests.mutation.elaborate`).
"""

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from sim.run_tests import Job, bench_costs

__all__ = ["MOST_OTHERS", "candidates", "imports", "reached"]

#: Benches of other units that are looked at, at most, behind those of the file's own unit.
MOST_OTHERS = 12


def module_file(root: Path, folder: Path, module: str) -> Path | None:
    """The file of a module of the checkout, or of the testbench's own folder; None for a library's."""
    for base in (root, folder):
        for path in (base.joinpath(*module.split(".")).with_suffix(".py"), base.joinpath(*module.split("."), "__init__.py")):
            if path.is_file():
                return path
    return None


@cache
def imports(root: Path, file: Path) -> frozenset[Path]:
    """Files of the checkout that a file's statements of import name, wherever in the file they are."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = module_file(root, file.parent, name)
            if path is not None:
                found.add(path)
    return frozenset(found)


@cache
def reached(root: Path, file: Path) -> frozenset[str]:
    """Files below hw that a file imports, itself or through others, as paths from the checkout."""
    seen, waiting = set(), [file]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += imports(root, path)
    return frozenset(path.relative_to(root).as_posix() for path in seen if path.is_relative_to(root / "hw"))


def candidates(root: Path, jobs: Sequence[Job], file: str, unit: str, costs: Mapping[str, float] | None = None) -> list[str]:
    """Names of benches that may see a mutant of ``file``: its unit's, then :data:`MOST_OTHERS` of other units'.

    Each part has CI's benches before those of the night, those that were measured before those that were not, and the cheapest
    first.
    """
    costs = bench_costs() if costs is None else costs
    seeing = [job for job in jobs if file in reached(root, job.file)]
    seeing.sort(key=lambda job: (bool(job.bench.nightly), costs.get(job.name, 1e6), job.name))
    own = [job.name for job in seeing if job.unit == unit]
    return own + [job.name for job in seeing if job.unit != unit][:MOST_OTHERS]
