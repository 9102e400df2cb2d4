# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.mutation``: a seeded sample of the gateware's mutants by rule; the benches must kill each.

A line a mutant, ``OUTCOME key ...``, and at the end a table by unit.  The record, docs/reports/mutation.json, is written after
each mutant; a run goes on where the last one ended.

Exit codes: 0; 1, a mutant of this run survived and is not judged (tests/mutation/judged.py); 2, bad arguments, a record that does
not fit, or a judgement of a mutant that is no more.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from sim.checkout import commit
from sim.run_tests import bench_costs, discover
from tests.mutation.benches import Benches, Experience
from tests.mutation.judged import JUDGED
from tests.mutation.record import SURVIVED, MutationError, Record, judgements, quotas, summary, wanted
from tests.mutation.rules import RULES, Mutant, mutants_of_file, sources
from tests.mutation.trial import MOST_BENCHES, Stopped, Trials

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "reports" / "mutation.json"


def source_of_run() -> dict[str, Any]:
    """Of the sources that are mutated and tested."""
    try:
        found = commit("hw", "sw/tellme", "sim", "tests/hw", untracked=True)
        return {"commit": found[:40], "changed": found.endswith("+")}
    except (OSError, subprocess.CalledProcessError):
        raise MutationError("there is no git checkout here, so that the record could not say of which sources it is; "
                            "run in a clone of the repository") from None


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The summary as text."""
    columns = ("mutants", "sample", "tested", "killed", "by_time", "equivalent", "gaps", "open", "identical", "unbuilt")
    lines = [f"{'unit':10}" + "".join(f"{name:>11}" for name in columns) + f"{'rate':>9}"]
    for unit, row in rows.items():
        rate = "" if row["rate"] is None else f"{row['rate']:.1%}"
        lines.append(f"{unit:10}" + "".join(f"{row[name]:11}" for name in columns) + f"{rate:>9}")
    return "\n".join(lines)


def shown(mutant: Mutant) -> str:
    """The mutant in its place, with the lines around it."""
    text = (ROOT / mutant.file).read_text("utf-8")
    number = text.count("\n", 0, mutant.start) + 1
    lines = {"-": text.splitlines(), "+": mutant.apply(text).splitlines()}
    count = text.count("\n", mutant.start, mutant.end) + 1
    more = count + mutant.text.count("\n") - text.count("\n", mutant.start, mutant.end)
    parts = [mutant.line(), *(f"  {line}" for line in lines["-"][max(0, number - 4):number - 1])]
    parts += [f"- {line}" for line in lines["-"][number - 1:number - 1 + count]]
    parts += [f"+ {line}" for line in lines["+"][number - 1:number - 1 + more]]
    return "\n".join([*parts, *(f"  {line}" for line in lines["-"][number - 1 + count:number + 2 + count])])


def run(mutants: Sequence[Mutant], record: Record, chosen: Sequence[Mutant], limit: int | None, units: Sequence[str],
        jobs: int, cpu: float | None = None, first: Sequence[str] = (), again: bool = False) -> list[Mutant]:
    """Run ``chosen``, or what the sample wants, ``limit`` at most; the survivors of this run.

    ``again``: the benches that a mutant of ``chosen`` passed, by the record, need not be run again.
    """
    judged, source, costs = judgements(JUDGED, mutants), source_of_run(), bench_costs()
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="tellme-mutation-") as scratch, ThreadPoolExecutor(jobs) as pool:
        trials = Trials(Path(scratch), ROOT / "build" / "mutation", Benches(ROOT, costs), costs,
                        Experience(costs, record.results.values()), jobs, cpu, first)

        def interrupted(signum: int, frame: object) -> None:
            trials.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise KeyboardInterrupt

        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, interrupted)
        left = limit
        try:
            while True:
                batch = list(chosen) if chosen else wanted(mutants, record, units)[:left]
                if not batch:
                    return survivors
                before = {m: record.results[m.key].get("passed", []) if again else [] for m in batch}
                futures = {pool.submit(trials.run, m, before[m]): m for m in batch}
                for future in as_completed(futures):
                    mutant, result = futures[future], future.result()
                    record.put(mutant, {**result, **source})
                    # A judgement of a mutant that is killed now is told at the end; the result is not lost for it.
                    record.write(summary(mutants, record, judged), judged)
                    where = [result[name] for name in ("bench", "error", "core") if name in result] or result.get("passed", [])
                    seconds = f"{result['seconds']} s, {result['cpu_s']} s of CPU"
                    print(f"{result['outcome'].upper()} {mutant.line()} [{', '.join([*where, seconds])}]", flush=True)
                    if result["outcome"] in SURVIVED:
                        survivors.append(mutant)
                if chosen or (left is not None and len(batch) >= left):
                    return survivors
                left = None if left is None else left - len(batch)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            trials.stop()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0],
                                     epilog="rules: " + "; ".join(f"{rule}: {what}" for rule, what in RULES.items()))
    parser.add_argument("-n", type=int, metavar="N", help="mutants to run at most; default: all that the sample still wants")
    parser.add_argument("--unit", action="append", default=[], metavar="UNIT", help="only of this unit; given again, or of that")
    parser.add_argument("--key", action="append", default=[], metavar="KEY", help="run this mutant, again if need be")
    parser.add_argument("--bench", action="append", default=[], metavar="NAME", help="run this bench first")
    parser.add_argument("--again", action="store_true",
                        help="run survivors that are not judged on further benches, those that they passed left out")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time; default: 1")
    parser.add_argument("--cpu", type=int, metavar="S", help="no further bench for a mutant whose benches took S seconds of CPU, "
                                                             f"of the {MOST_BENCHES} that it must survive; so more survive")
    parser.add_argument("--seed", type=int, default=1, help="of the sample's order; default: 1")
    parser.add_argument("--sample", type=int, default=1000, help="mutants to be tested over all units; default: 1000")
    parser.add_argument("--record", type=Path, default=REPORT, help="the record; default: docs/reports/mutation.json")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list the mutants of the units, and end")
    what.add_argument("--count", action="store_true", help="count the mutants by unit and by rule, and end")
    what.add_argument("--show", metavar="KEY", help="show a mutant in its place, and end")
    what.add_argument("--summary", action="store_true", help="the record's table and its survivors, and end")
    args = parser.parse_args(argv)
    for name in ("n", "jobs", "sample", "cpu"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"{'-n' if name == 'n' else '--' + name} wants 1 or more")
    mutants = [mutant for file in sources(ROOT) for mutant in mutants_of_file(ROOT, file)]
    by_key = {mutant.key: mutant for mutant in mutants}
    units = quotas(mutants, args.sample)
    try:
        for unit in args.unit:
            if unit not in units:
                raise MutationError(f"there is no unit {unit!r}; units: {', '.join(units)}")
        for name in args.bench:
            if name not in [job.name for job in discover(ROOT / "tests" / "hw", [f"{name}."])]:
                raise MutationError(f"there is no bench {name!r}; python -m sim.run_tests --list --nightly shows all")
        for key in [*args.key, *([args.show] if args.show else [])]:
            if key not in by_key:
                raise MutationError(f"there is no mutant {key!r}; --list shows all")
        chosen = [mutant for mutant in mutants if not args.unit or mutant.unit in args.unit]
        if args.list:
            print("\n".join(mutant.line() for mutant in chosen))
            return 0
        if args.count:
            for title, names in (("unit", {m: m.unit for m in chosen}), ("rule", {m: m.rule for m in chosen})):
                rows = sorted(set(names.values()))
                print("\n".join([f"{title:10} mutants", *(f"{row:10} {list(names.values()).count(row):7}" for row in rows)]))
            print(f"{'all':10} {len(chosen):7}")
            return 0
        if args.show:
            print(shown(by_key[args.show]))
            return 0
        if not args.record.parent.is_dir():
            raise MutationError(f"there is no folder {args.record.parent} for the record")
        record = Record(args.record, seed=args.seed, sample=args.sample)
        gone = record.forget(mutants)
        if gone:
            print(f"{gone} results of mutants that are no more are left out", file=sys.stderr)
        judged = judgements(JUDGED, mutants, None if args.key else record)
        survivors: list[Mutant] = []
        if not args.summary:
            keys = [by_key[key] for key in args.key]
            if args.again:
                keys = [m for m in chosen if record.outcome(m) == "survived" and m.key not in judged][:args.n]
            if keys or not args.again:
                survivors = run(mutants, record, keys, args.n, args.unit, args.jobs, args.cpu, args.bench,
                                args.again)
            # Judgements that came since the results were written are in the record too, as soon as the tool runs.
            if record.results:
                record.write(summary(mutants, record, judged), judged)
            judgements(JUDGED, mutants, record)
        print(table(summary(mutants, record, judged)))
        if args.summary:
            survivors = [m for m in mutants if record.outcome(m) in SURVIVED]
        for mutant in survivors:
            print(f"{judged[mutant.key].verdict if mutant.key in judged else 'OPEN'}: {mutant.line()}")
        return 1 if any(mutant.key not in judged for mutant in survivors) else 0
    except MutationError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Stopped):
        print("stopped; the record has the mutants that were run", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
