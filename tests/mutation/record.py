# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The record of what became of mutants, and which mutants are next: docs/reports/mutation.json.

Outcomes of a mutant:

- ``killed``: a test of a bench failed.  ``time``: a bench ran past its limit.  Both count as killed.
- ``survived``: all benches passed whose Verilog the mutant changes.  ``unreached``: the mutant changes a board's core, and the
  Verilog of no bench that was looked at.  Both are survivors.
- ``identical``: the Verilog of all benches and cores is what it was.  ``unbuilt``: the mutant does not elaborate, or Verilator
  refuses it.  Both are set aside: they are not among the tested, and the next mutant of the sample's order takes their place.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.mutation.judged import Judgement
from tests.mutation.rules import Mutant

__all__ = ["ASIDE", "KILLED", "SURVIVED", "MutationError", "Record", "judgements", "quotas", "summary", "wanted"]

KILLED, SURVIVED, ASIDE = ("killed", "time"), ("survived", "unreached"), ("identical", "unbuilt")
#: What names a mutant.
NAMED = ("file", "function", "rule", "ordinal", "before", "after")
#: Tested mutants of each file at least, where a file has as many.
LEAST = 2


class MutationError(Exception):
    """A record, a judgement or an argument that does not fit the sources; the text says what to do."""


class Record:
    """Results by mutants' keys, in a file that is written whole after each result."""

    def __init__(self, path: Path, *, seed: int, sample: int):
        """Raises MutationError for a file that is no record, or one of another seed or sample."""
        self.path, self.seed, self.sample = path, seed, sample
        self.results: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                kept = json.loads(path.read_text("utf-8"))
                mine = (kept["seed"], kept["sample"])
                self.results = kept["mutants"]
            except (ValueError, KeyError, TypeError):
                raise MutationError(f"{path} is no record of mutants; move the file away, and a run begins a new one") from None
            if mine != (seed, sample):
                raise MutationError(f"{path} is of --seed {mine[0]} --sample {mine[1]}, not of --seed {seed} --sample {sample}; "
                                    "give those, or --record another file")

    def forget(self, mutants: Iterable[Mutant]) -> int:
        """Leave out results of mutants that are no more; how many."""
        names = {mutant.key for mutant in mutants}
        gone = [key for key in self.results if key not in names]
        for key in gone:
            del self.results[key]
        return len(gone)

    def outcome(self, mutant: Mutant) -> str:
        """Empty for a mutant without a result."""
        return self.results.get(mutant.key, {}).get("outcome", "")

    def put(self, mutant: Mutant, result: Mapping[str, Any]) -> None:
        self.results[mutant.key] = {**{name: getattr(mutant, name) for name in NAMED}, **result}

    def write(self, units: Mapping[str, Mapping[str, Any]], judged: Mapping[str, Judgement]) -> None:
        """The whole file, in the place of the one before."""
        ordered = sorted(self.results.items(), key=lambda item: (item[1]["file"], item[1]["function"], item[1]["rule"], item[0]))
        mutants = {key: {**result, **({"verdict": judged[key].verdict, "reason": judged[key].reason} if key in judged else {})}
                   for key, result in ordered}
        scratch = self.path.with_name(self.path.name + ".new")
        whole = {"command": "python -m tests.mutation", "seed": self.seed, "sample": self.sample, "units": units,
                 "mutants": mutants}
        scratch.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
        scratch.replace(self.path)


def place(seed: int, mutant: Mutant) -> str:
    """What mutants of a sample are ordered by: other mutants that come or go leave the order of the rest."""
    return hashlib.sha256(f"{seed} {mutant.key}".encode()).hexdigest()


def quotas(mutants: Sequence[Mutant], sample: int) -> dict[str, int]:
    """Mutants of each unit to be tested: ``sample`` in proportion, rounded up, and no less than :data:`LEAST` a file."""
    count = Counter(mutant.unit for mutant in mutants)
    files: dict[str, Counter[str]] = {unit: Counter() for unit in count}
    for mutant in mutants:
        files[mutant.unit][mutant.file] += 1
    least = {unit: sum(min(LEAST, number) for number in own.values()) for unit, own in files.items()}
    return {unit: min(number, max(-(-sample * number // len(mutants)), least[unit])) for unit, number in sorted(count.items())}


def wanted(mutants: Sequence[Mutant], record: Record, units: Sequence[str] = ()) -> list[Mutant]:
    """Mutants without a result that the sample still wants, in the order in which they are run.

    Files that have less than :data:`LEAST` tested mutants come first.  Call again after the results: mutants that were set aside
    are replaced by the next ones.
    """
    chosen: list[Mutant] = []
    for unit, quota in quotas(mutants, record.sample).items():
        if units and unit not in units:
            continue
        own = sorted((m for m in mutants if m.unit == unit), key=lambda m: place(record.seed, m))
        tested = Counter(m.file for m in own if record.outcome(m) not in ("", *ASIDE))
        free = quota - tested.total()
        waiting = [m for m in own if not record.outcome(m)]
        first = []
        for mutant in waiting:
            if tested[mutant.file] < LEAST:
                tested[mutant.file] += 1
                first.append(mutant)
        rest = [m for m in waiting if m not in set(first)]
        # A file's first two are wanted even where the unit has its number.
        chosen += first + rest[:max(0, free - len(first))]
    return sorted(chosen, key=lambda m: place(record.seed, m))


def judgements(judged: Sequence[Judgement], mutants: Sequence[Mutant], record: Record | None = None) -> dict[str, Judgement]:
    """Judgements by mutants' keys.

    Raises MutationError for a judgement of a mutant that is no more, of one that is judged twice, or of one that the record has
    as killed or set aside, and for a word other than ``equivalent`` or ``gap`` or an empty reason.
    """
    known = {mutant.key: mutant for mutant in mutants}
    found: dict[str, Judgement] = {}
    for entry in judged:
        what = f"tests/mutation/judged.py: {entry.key} ({entry.mutant})"
        if entry.key not in known:
            raise MutationError(f"{what}: there is no such mutant any more; judge the mutant anew, or remove the entry")
        if entry.key in found:
            raise MutationError(f"{what} is judged twice; remove one entry")
        if entry.verdict not in ("equivalent", "gap") or not entry.reason.strip():
            raise MutationError(f"{what}: wants the verdict equivalent or gap, and a reason")
        outcome = record.outcome(known[entry.key]) if record is not None else ""
        if outcome and outcome not in SURVIVED:
            raise MutationError(f"{what}: the record says {outcome}, so there is nothing to judge; remove the entry")
        found[entry.key] = entry
    return found


def summary(mutants: Sequence[Mutant], record: Record, judged: Mapping[str, Judgement]) -> dict[str, dict[str, Any]]:
    """Counts by unit, and of all as ``all``.  ``rate`` is killed over tested less equivalent, or None."""
    sample = quotas(mutants, record.sample)
    rows: dict[str, dict[str, Any]] = {}
    for unit in [*sample, "all"]:
        own = [m for m in mutants if unit in (m.unit, "all")]
        count = Counter(record.outcome(m) for m in own)
        survivors = [m for m in own if record.outcome(m) in SURVIVED]
        verdicts = Counter(judged[m.key].verdict if m.key in judged else "open" for m in survivors)
        killed, tested = sum(count[k] for k in KILLED), sum(count[k] for k in (*KILLED, *SURVIVED))
        live = tested - verdicts["equivalent"]
        rows[unit] = {"mutants": len(own), "sample": sample.get(unit, sum(sample.values())), "tested": tested, "killed": killed,
                      "by_time": count["time"], "equivalent": verdicts["equivalent"], "gaps": verdicts["gap"],
                      "open": verdicts["open"], "identical": count["identical"], "unbuilt": count["unbuilt"],
                      "rate": round(killed / live, 4) if live else None}
    return rows
