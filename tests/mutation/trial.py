# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One mutant put into a copy of the checkout: does its Verilog differ, and does a bench fail?"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.mutants import bench_command, copy_checkout, environment, failures
from tests.mutation.benches import Benches
from tests.mutation.elaborate import CORE
from tests.mutation.record import MutationError
from tests.mutation.rules import Mutant

__all__ = ["CORES", "MOST_BENCHES", "Stopped", "Trials", "limit_of"]

#: Presets of boards: a mutant of no bench's Verilog may still be in one of their cores.
CORES = tuple(f"{CORE}{name}" for name in ("ulx3s-85f", "ecp5-25f", "ecpix5-85f"))
#: Benches that a mutant is run on, at most; a survivor's record names those that passed.
MOST_BENCHES = 10
#: Names that one process elaborates, at most, so that a mutant which the first bench kills does not cost them all.
TOGETHER = 4
#: CPU seconds of a process that elaborates.
ELABORATION_S = 120
#: What a bench without a measured cost is taken for.
UNMEASURED = 60.0
#: A limit of CPU seconds for each process of a command, and at the end the seconds of all of them.  Seconds of a clock would end
#: benches that only wait for a core.
LIMITED = 'ulimit -t "$0" && "$@"; code=$?; times >&2; exit $code'


class Stopped(Exception):
    """The run is being ended."""


def limit_of(cost: float | None) -> int:
    """CPU seconds for a process of a bench: three times what build and run of the bench took together, and 15 at least."""
    return round(max(15.0, 3 * (UNMEASURED if cost is None else cost)))


def spent(errors: str) -> float:
    """CPU seconds by the last two lines of :data:`LIMITED`: those of the shell, and of its children."""
    numbers = re.findall(r"(\d+)m([\d.]+)s", "\n".join(errors.strip().splitlines()[-2:]))
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in numbers)


class Trials:
    """Copies of the checkout in ``scratch``, one for each thread that asks and one without a mutant, and digests that are kept in
    ``kept`` for as long as no source changes."""

    def __init__(self, scratch: Path, kept: Path, benches: Benches, costs: Mapping[str, float]):
        self._scratch, self._benches, self._costs = scratch, benches, costs
        self._local, self._lock = threading.local(), threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._clean = scratch / "clean"
        self._clean.mkdir()
        # A compiled file is taken where its source has the time and size that it names.  A mutant's file has a new time, and no
        # run writes compiled files.
        copy_checkout(self._clean, compiled=True)
        digest = hashlib.sha256()
        for path in sorted(self._clean.rglob("*.py")):
            if not path.is_relative_to(self._clean / "tests") or path.is_relative_to(self._clean / "tests" / "hw"):
                digest.update(path.relative_to(self._clean).as_posix().encode() + b"\0" + path.read_bytes())
        self._kept = kept / f"{digest.hexdigest()[:20]}.json"
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        self._digests: dict[str, str] = json.loads(self._kept.read_text()) if self._kept.exists() else {}

    # ------------------------------------------------------------------ processes

    def stop(self) -> None:
        """End all processes; each trial under way raises Stopped."""
        self._stopped = True
        for process in list(self._running):
            end(process)

    def process(self, command: Sequence[str], tree: Path, limit: int, text: str = "") -> tuple[int, str, str]:
        """(exit code, output, errors) of a command in a copy of the checkout."""
        if self._stopped:
            raise Stopped
        env = {**environment(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        process = subprocess.Popen(["sh", "-c", LIMITED, str(limit), *command], cwd=tree, env=env, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self._running.add(process)
        try:
            output, errors = process.communicate(text)
        finally:
            self._running.discard(process)
        if self._stopped:
            raise Stopped
        return process.returncode, output, errors

    def tree(self) -> Path:
        """This thread's copy of the checkout."""
        if not hasattr(self._local, "tree"):
            self._local.tree = self._scratch / f"tree{threading.get_ident()}"
            shutil.copytree(self._clean, self._local.tree, symlinks=True)
        return self._local.tree

    # ------------------------------------------------------------------ Verilog

    def elaborate(self, names: Sequence[str], tree: Path, known: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
        """(exit code, digests by name until one is not that of ``known``, errors)."""
        code, output, errors = self.process([sys.executable, "-m", "tests.mutation.elaborate", *names], tree, ELABORATION_S,
                                            json.dumps(known))
        found = {line["name"]: line["digest"] for line in map(json.loads, output.splitlines())}
        return code, found, errors

    def unchanged(self, names: Sequence[str]) -> dict[str, str]:
        """Digests without a mutant.  Raises MutationError if a bench does not elaborate."""
        with self._lock:
            missing = [name for name in names if name not in self._digests]
            if missing:
                code, found, errors = self.elaborate(missing, self._clean, {})
                if code != 0:
                    raise MutationError(f"{', '.join(missing)} does not elaborate without a mutant either:\n{errors[-2000:]}")
                self._digests |= found
                self._kept.write_text(json.dumps(self._digests))
            return {name: self._digests[name] for name in names}

    def seen_by(self, names: Sequence[str], tree: Path) -> tuple[str, str]:
        """``identical`` and nothing; ``differs`` and the first name whose Verilog does; ``unbuilt`` and the error's last line."""
        for first in range(0, len(names), TOGETHER):
            part = names[first:first + TOGETHER]
            known = self.unchanged(part)
            code, found, errors = self.elaborate(part, tree, known)
            for name, digest in found.items():
                if digest != known[name]:
                    return "differs", name
            if code != 0:
                # The lines of the times stand behind the error.
                lines = errors.strip().splitlines()[:-2] or [f"exit code {code}"]
                return "unbuilt", f"no end after {ELABORATION_S} s" if spent(errors) >= ELABORATION_S else lines[-1][:200]
        return "identical", ""

    # ------------------------------------------------------------------ a mutant

    def run(self, mutant: Mutant) -> dict[str, Any]:
        """What the record says of the mutant: outcome, benches that passed, the failing case, seconds."""
        began, tree = time.monotonic(), self.tree()
        path = tree / mutant.file
        source = (self._clean / mutant.file).read_text("utf-8")
        path.write_text(mutant.apply(source), "utf-8")
        try:
            result = self.judge(mutant, tree)
        finally:
            path.write_text(source, "utf-8")
            for place in (tree / "build" / "tests").iterdir():
                if not place.is_symlink():
                    shutil.rmtree(place)
        return {**result, "seconds": round(time.monotonic() - began, 1)}

    def judge(self, mutant: Mutant, tree: Path) -> dict[str, Any]:
        """The unit's own benches first; those of other units if all of these pass."""
        passed: list[str] = []
        for benches in (self._benches.own, self._benches.others):
            waiting = benches(mutant.file, mutant.unit)
            while waiting and len(passed) < MOST_BENCHES:
                seen, what = self.seen_by(waiting, tree)
                if seen == "unbuilt":
                    return {"outcome": "unbuilt", "error": what}
                if seen == "identical":
                    break
                waiting = waiting[waiting.index(what) + 1:]
                death = self.bench(what, tree)
                if death:
                    return {**death, "passed": passed}
                passed.append(what)
        if passed:
            return {"outcome": "survived", "passed": passed}
        seen, what = self.seen_by(CORES, tree)
        if seen == "unbuilt":
            return {"outcome": "unbuilt", "error": what}
        return {"outcome": "identical"} if seen == "identical" else {"outcome": "unreached", "core": what.removeprefix(CORE)}

    def bench(self, name: str, tree: Path) -> dict[str, Any]:
        """Run a bench; what its first failing case means, or nothing where all pass."""
        limit = limit_of(self._costs.get(name))
        code, output, errors = self.process(bench_command([f"{name}."]), tree, limit)
        if code not in (0, 1):
            raise MutationError(f"{name}: sim.run_tests ended with {code}:\n{errors[-2000:]}")
        failed = failures(output)
        if code == 1 and not failed:
            raise MutationError(f"{name}: sim.run_tests failed and names no case:\n{output[-1000:]}{errors[-1000:]}")
        return self.death(failed[0], limit, spent(errors)) if failed else {}

    @staticmethod
    def death(case: str, limit: int, cpu: float) -> dict[str, Any]:
        """What a failing case means.  Raises MutationError for a bench that ran into its limit of a clock's seconds and had not
        the CPU seconds to end."""
        bench, _, test = case.rpartition(".")
        if test == "(build)":
            return {"outcome": "unbuilt", "error": case}
        if test in ("(hang)", "(crash)") and cpu >= limit:
            return {"outcome": "time", "bench": bench, "limit_cpu_s": limit}
        if test == "(hang)":
            raise MutationError(f"{bench} was stopped after {cpu:.0f} s of CPU, of {limit}: the machine is too busy to tell; "
                                "run again")
        return {"outcome": "killed", "bench": case}


def end(process: subprocess.Popen[str]) -> None:
    """As asked, so that sim.run_tests ends its bench too; after ten seconds by force."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return
