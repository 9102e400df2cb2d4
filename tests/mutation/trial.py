# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One mutant put into a copy of the checkout: does its Verilog differ, and does a bench fail?"""

import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from tests.mutants import SEED, copy_checkout, environment
from tests.mutation.benches import UNMEASURED, Benches, Experience
from tests.mutation.record import KILLED, MutationError
from tests.mutation.rules import Mutant, statement
from tests.mutation.worker import CORE

__all__ = ["CORES", "MOST_BENCHES", "MOST_OTHERS", "Stopped", "Trials", "limit_of"]

#: Presets of boards: a mutant of no bench's Verilog may still be in one of their cores.
CORES = tuple(f"{CORE}{name}" for name in ("ecp5-25f", "ulx3s-85f", "ecpix5-85f"))
#: Benches that a mutant is run on, at most; a survivor's record names those that passed.
MOST_BENCHES = 10
#: Benches of other units that are looked at, at most, behind those of the file's own unit: of those that run the statement.
MOST_OTHERS = 12
#: Names of the first requests, and of each further one.  Of each name the digests without a mutant must be known before.
TOGETHER = (1, 2, 4)


class Stopped(Exception):
    """The run is being ended."""


def limit_of(cost: float | None) -> int:
    """CPU seconds for a bench's run: three times what build and run of the bench took together, and 15 at least."""
    return round(max(15.0, 3 * (UNMEASURED if cost is None else cost)))


class Worker:
    """A process of :mod:`tests.mutation.worker` in a copy of the checkout."""

    def __init__(self, tree: Path):
        self._log = tree / "build" / "worker.txt"
        env = {**environment(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "TELLME_SEED": SEED,
               "OPENBLAS_NUM_THREADS": "1"}
        with self._log.open("w") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "tests.mutation.worker"], cwd=tree, env=env, text=True,
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True)

    def ask(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Answers, the last of which has ``end``.  Raises MutationError if the process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        while line := self._process.stdout.readline():
            answer = json.loads(line)
            yield answer
            if "end" in answer:
                return
        raise MutationError(f"a process of tests.mutation.worker has ended:\n{self.errors()}")

    def errors(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def end(self) -> None:
        """With all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Trials:
    """Workers in copies of the checkout in ``scratch``: one for each trial at a time, and one without a mutant.

    Benches of ``first`` are asked first.  Where ``cpu`` is given and benches took so many seconds of CPU, no further one begins.

    Digests and lines of benches without a mutant are kept in ``kept`` for as long as the sources that they are of do not change.
    """

    def __init__(self, scratch: Path, kept: Path, benches: Benches, costs: Mapping[str, float], experience: Experience,
                 jobs: int, cpu: float | None = None, first: Sequence[str] = ()):
        self._scratch, self._kept, self._benches, self._costs, self._experience = scratch, kept, benches, costs, experience
        self._lock, self._cpu, self._first = threading.Lock(), cpu, first
        self._stopped = False
        self._clean = scratch / "clean"
        self._clean.mkdir(parents=True)
        # A compiled file is taken where its source has the time and size that it names.  A mutant's file has a new time, and no
        # run writes compiled files.
        copy_checkout(self._clean, compiled=True)
        kept.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, dict[str, Any]] = {}
        self._free: queue.SimpleQueue[tuple[Path, Worker]] = queue.SimpleQueue()
        self._workers = []
        for number in range(jobs):
            tree = scratch / f"tree{number}"
            shutil.copytree(self._clean, tree, symlinks=True)
            self._workers.append(Worker(tree))
            self._free.put((tree, self._workers[-1]))
        self._surveyor = Worker(self._clean)

    def stop(self) -> None:
        """End all processes; each trial under way raises Stopped."""
        self._stopped = True
        for worker in [*self._workers, self._surveyor]:
            worker.end()

    # ------------------------------------------------------------------ without a mutant

    def sources_of(self, name: str) -> str:
        """A digest of what a bench's or a core's Verilog may depend on."""
        tests = self._clean / "tests" / "hw"
        digest = hashlib.sha256(name.encode())
        for path in sorted(self._clean.rglob("*.py")):
            beside = path.is_relative_to(tests) and path.parent in (tests, tests / name.partition("/")[0])
            if beside or any(path.is_relative_to(self._clean / part) for part in ("hw", "sim", "sw")):
                digest.update(b"\0" + path.relative_to(self._clean).as_posix().encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:20]

    def _file(self, name: str) -> Path:
        return self._kept / f"{name.replace('/', '--').replace(':', '-')}.json"

    def unchanged(self, name: str) -> dict[str, Any]:
        """Digests and lines without a mutant.  Raises MutationError if a bench does not elaborate."""
        with self._lock:
            if name not in self._known:
                path = self._file(name)
                sources = self.sources_of(name)
                found = json.loads(path.read_text()) if path.exists() else {}
                if found.get("sources") != sources:
                    answers = list(self._surveyor.ask(do="survey", names=[name]))
                    if self._stopped:
                        raise Stopped
                    if answers[-1]["end"]:
                        raise MutationError(f"{name} does not elaborate without a mutant either:\n{self._surveyor.errors()}")
                    found = {**answers[0], "sources": sources}
                    path.write_text(json.dumps(found))
                found["lines"] = {file: set(lines) for file, lines in found["lines"].items()}
                self._known[name] = found
            return self._known[name]

    def sound(self, name: str) -> None:
        """A bench that killed a mutant has to pass without one, by the same seed.  Raises MutationError if it does not."""
        known = self.unchanged(name)
        with self._lock:
            if known.get("sound"):
                return
            answers = list(self._surveyor.ask(do="trial", names=[name], most=1, known={name: {"rtlil": "", "verilog": ""}},
                                              limits={name: limit_of(self._costs.get(name))}))
            if self._stopped:
                raise Stopped
            if answers[-1]["end"] or answers[0].get("failed") != "":
                raise MutationError(f"{answers[0].get('failed') or name} does not pass without a mutant either; mend the bench, "
                                    "and run the mutants again that it killed, with --key")
            known["sound"] = True
            lines = {file: sorted(found) for file, found in known["lines"].items()}
            self._file(name).write_text(json.dumps({**known, "lines": lines}))

    def runs(self, name: str, mutant: Mutant, lines: range) -> bool:
        """Whether a bench's elaboration runs the mutant's statement.  If not, the bench's Verilog is the same."""
        return not self.unchanged(name)["lines"].get(mutant.file, set()).isdisjoint(lines)

    # ------------------------------------------------------------------ a mutant

    def run(self, mutant: Mutant, before: Sequence[str] = ()) -> dict[str, Any]:
        """What the record says of the mutant: outcome, benches that passed, the failing case, seconds, seconds of CPU.

        ``before``: benches that passed in an earlier trial, and count as such.
        """
        began = time.monotonic()
        tree, worker = self._free.get()
        path = tree / mutant.file
        source = (self._clean / mutant.file).read_text("utf-8")
        path.write_text(mutant.apply(source), "utf-8")
        try:
            result, cpu = self.judge(mutant, worker, statement(source, mutant.start), before)
            if result["outcome"] in KILLED:
                self.sound(result["bench"].partition(".")[0])
        except MutationError:
            if self._stopped:
                raise Stopped from None
            raise
        finally:
            path.write_text(source, "utf-8")
            self._free.put((tree, worker))
        self._experience.note(mutant.file, mutant.function, result)
        return {**result, "seconds": round(time.monotonic() - began, 1), "cpu_s": round(cpu, 1)}

    def judge(self, mutant: Mutant, worker: Worker, lines: range, before: Sequence[str]) -> tuple[dict[str, Any], float]:
        """(what became of the mutant, CPU seconds).  The unit's own benches come first, and those of other units if all of these
        pass."""
        passed, asked = list(before), set(before)
        total, sizes = 0.0, list(TOGETHER) if self._cpu is None else [1]
        for place in (self._benches.own, self._benches.others, None):
            if place is not None:
                distances = {name: self._benches.distance(name, mutant.file) for name in place(mutant.file, mutant.unit)}
                names = [*self._first, *self._experience.order(mutant.file, mutant.function, distances)]
            else:
                names = [] if passed else list(CORES)
            waiting = (name for name in names if name not in asked and self.runs(name, mutant, lines))
            if place == self._benches.others:
                waiting = islice(waiting, MOST_OTHERS)
            while len(passed) < MOST_BENCHES and not (passed and self._cpu is not None and total >= self._cpu):
                part = list(islice(waiting, sizes.pop(0) if len(sizes) > 1 else sizes[0]))
                if not part:
                    break
                asked |= set(part)
                outcome, more, cpu = self.ask(worker, part, MOST_BENCHES - len(passed))
                passed += more
                total += cpu
                if outcome:
                    return ({**outcome, "passed": passed} if outcome["outcome"] in ("killed", "time") else outcome), total
        return ({"outcome": "survived", "passed": passed} if passed else {"outcome": "identical"}), total

    def ask(self, worker: Worker, names: Sequence[str], most: int) -> tuple[dict[str, Any], list[str], float]:
        """(what became of the mutant if that is told, benches that passed, CPU seconds)."""
        passed: list[str] = []
        outcome: dict[str, Any] = {}
        for answer in worker.ask(do="trial", names=names, most=most,
                                 known={name: {key: self.unchanged(name)[key] for key in ("rtlil", "verilog")} for name in names},
                                 limits={name: limit_of(self._costs.get(name)) for name in names}):
            if "end" in answer:
                if self._stopped:
                    raise Stopped
                if answer["end"] == "SIGXCPU":
                    outcome = {"outcome": "unbuilt", "error": "an elaboration without end"}
                elif answer["end"]:
                    raise MutationError(f"the trial of {', '.join(names)} ended with {answer['end']}:\n{worker.errors()}")
                return outcome, passed, answer["cpu"]
            outcome = self.meaning(answer)
            if not outcome and answer["seen"] == "differs":
                passed.append(answer["name"])
        raise AssertionError("the last answer has an end")

    @staticmethod
    def meaning(answer: Mapping[str, Any]) -> dict[str, Any]:
        """What an answer tells of the mutant; nothing where the next name is to be asked."""
        if "error" in answer:
            return {"outcome": "unbuilt", "error": answer["error"]}
        if answer["seen"] == "identical":
            return {}
        if answer["name"].startswith(CORE):
            return {"outcome": "unreached", "core": answer["name"].removeprefix(CORE)}
        test = answer["failed"].rpartition(".")[2]
        if test == "(build)":
            return {"outcome": "unbuilt", "error": answer["failed"]}
        if test == "(limit)":
            return {"outcome": "time", "bench": answer["name"], "limit_cpu_s": answer["limit"]}
        return {"outcome": "killed", "bench": answer["failed"]} if answer["failed"] else {}
