# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Which benches may see a mutant of a file, those first that kill most for their seconds.

A bench may see a file if its testbench imports the file, itself or through other modules.  Whether a bench does see a mutant, its
Verilog tells (:mod:`tests.mutation.worker`).
"""

import ast
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sim.run_tests import Job, discover
from tests.mutation.record import KILLED

__all__ = ["UNMEASURED", "Benches", "Experience", "imports", "reached"]

#: What a bench without a measured cost is taken for, in CPU seconds.
UNMEASURED = 60.0
#: CPU seconds of a trial on a bench beside those of the bench's tests.
FIXED = 4.0


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
def reached(root: Path, file: Path) -> Mapping[str, int]:
    """Files below hw that a file imports, itself or through others, as paths from the checkout; each with the number of imports
    on the shortest way."""
    seen: dict[Path, int] = {}
    now, distance = {file}, 0
    while now:
        seen |= dict.fromkeys(now, distance)
        now, distance = {path for nearer in now for path in imports(root, nearer)} - seen.keys(), distance + 1
    return {path.relative_to(root).as_posix(): number for path, number in seen.items() if path.is_relative_to(root / "hw")}


class Benches:
    """Benches below ``root``/tests/hw by the files that they may see.  Testbenches are loaded as they are asked for."""

    def __init__(self, root: Path, costs: Mapping[str, float], load: Callable[[Path], Sequence[Job]] | None = None):
        self._root, self._costs = root, costs
        self._load, self._lock = load or self.jobs_of, threading.Lock()
        self._loaded: dict[Path, Sequence[Job]] = {}

    @staticmethod
    def jobs_of(file: Path) -> Sequence[Job]:
        """The benches of a testbench's file."""
        prefix = f"{file.parent.name}/{file.stem.removeprefix('tb_')}-"
        return [job for job in discover(file.parent.parent, [prefix]) if job.file == file]

    def own(self, file: str, unit: str) -> list[str]:
        """Names of the unit's benches that may see a mutant of ``file``.

        CI's benches come before those of the night, those that were measured before those that were not, and the cheapest first.
        """
        return self.names([path for path in self.testbenches(file) if path.parent.name == unit])

    def others(self, file: str, unit: str) -> list[str]:
        """The same of other units' benches."""
        return self.names([path for path in self.testbenches(file) if path.parent.name != unit])

    def testbenches(self, file: str) -> list[Path]:
        return [path for path in sorted((self._root / "tests" / "hw").glob("*/tb_*.py")) if file in reached(self._root, path)]

    def distance(self, name: str, file: str) -> int:
        """The number of imports between a bench's testbench and a file that it reaches."""
        unit, _, rest = name.partition("/")
        # The names of testbenches have no hyphen.
        return reached(self._root, self._root / "tests" / "hw" / unit / f"tb_{rest.partition('-')[0]}.py")[file]

    def names(self, paths: Sequence[Path]) -> list[str]:
        """The benches of testbenches in their order."""
        with self._lock:
            for path in paths:
                if path not in self._loaded:
                    self._loaded[path] = self._load(path)
        jobs = [job for path in paths for job in self._loaded[path]]
        jobs.sort(key=lambda job: (bool(job.bench.nightly), self._costs.get(job.name, 1e6), job.name))
        return [job.name for job in jobs]


class Experience:
    """Benches that killed mutants of a file and of a function, and those that did not."""

    def __init__(self, costs: Mapping[str, float], results: Iterable[Mapping[str, Any]] = ()):
        self._costs = costs
        self._kills: Counter[tuple[str, str]] = Counter()
        self._tries: Counter[tuple[str, str]] = Counter()
        for result in results:
            self.note(result["file"], result["function"], result)

    def note(self, file: str, function: str, result: Mapping[str, Any]) -> None:
        """A trial's result, as the record has it."""
        killer = [result["bench"].partition(".")[0]] if result["outcome"] in KILLED else []
        for name in [*killer, *result.get("passed", [])]:
            for place in (file, f"{file} {function}"):
                self._tries[place, name] += 1
                self._kills[place, name] += name in killer

    def order(self, file: str, function: str, distances: Mapping[str, int]) -> list[str]:
        """Benches by their distances from the file: those first that are the likeliest to kill a mutant of the function, for what
        they cost.  A mutant of the function itself counts as three of the file, and the distance as two of either."""
        def worth(name: str) -> float:
            kills, tries = (sum(weight * counted[place, name] for place, weight in ((file, 1), (f"{file} {function}", 3)))
                            for counted in (self._kills, self._tries))
            return (kills + 2 / (1 + distances[name])) / (tries + 2) / (FIXED + self._costs.get(name, UNMEASURED))

        return sorted(distances, key=lambda name: -worth(name))
