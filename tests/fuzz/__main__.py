# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.fuzz``: guided by coverage, each target in a process of its own; the record is docs/reports/fuzz.json.

The engine is Atheris, libFuzzer for Python, which counts the branches of the project's bytecode and of Jinja's, and keeps inputs
that reach new ones.  A hang is libFuzzer's to find, memory and errors are :mod:`tests.fuzz.limits`'.  A target goes on after a
finding; its input lies in build/fuzz/TARGET/findings, and ``--input FILE`` runs it again.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from sim.checkout import commit

ROOT = Path(__file__).resolve().parents[2]
FOLDER, REPORT = ROOT / "build" / "fuzz", ROOT / "docs" / "reports" / "fuzz.json"
#: Findings of a target after which it is left alone.
MOST = 12
#: Executions of a process, behind which another one goes on.  Atheris 3.0 keeps each array that a comparison of the code that it
#: counts gives: 2,000 comparisons of 10,000 numbers kept 20 MB, and an execution of "config" keeps 0.15 MB.
RUNS = 20_000
#: Targets' names, which are not imported before Atheris looks at imports.
NAMES = ("container", "safetensors", "config", "gguf", "sentencepiece", "tokenizer-json", "template", "drafts", "image", "http",
         "link")


def child(name: str, engine: list[str]) -> None:
    """Fuzz a target in this process until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["tellme", "jinja2"], enable_loader_override=False):
        import jinja2.ext
        import jinja2.sandbox  # noqa: F401

        import tellme.models.tokenizers.tokenizer_json  # noqa: F401
        from tests.fuzz.limits import Guard
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    folder = FOLDER / name
    for i, seed in enumerate(target.seeds()):
        (folder / "corpus" / f"seed-{i}").write_bytes(seed)
    if target.words:
        words = folder / "words.txt"
        words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))
        engine = [*engine, f"-dict={words}"]
    guard = Guard(target.run, target.allowed)

    def run(data: bytes) -> None:
        guard(data)
        if (guard.accepted + guard.refused) % 100 == 0:
            tell()

    def tell() -> None:
        (folder / "counts.json").write_text(json.dumps({
            "accepted": guard.accepted, "refused": guard.refused, "slowest_seconds": round(guard.slowest, 3),
            "most_bytes": guard.most if guard.measures else None}))

    tell()
    atheris.Setup([sys.argv[0], *engine], run)
    atheris.Fuzz()


def once(name: str, path: Path) -> None:
    """Run a target on one file: what a finding is looked at with."""
    from tests.fuzz.limits import Guard
    from tests.fuzz.targets import TARGETS

    guard = Guard(TARGETS[name].run, TARGETS[name].allowed)
    guard(path.read_bytes())
    print(f"{'taken' if guard.accepted else 'refused'}, {guard.slowest:.3f} s, {guard.most} bytes of memory")


def place_of(log: str) -> str:
    """What a run of libFuzzer found, in a line: the error and where it was raised, or libFuzzer's own word."""
    own = re.findall(r"ERROR: libFuzzer: (.*)", log)
    traced = log.partition("Uncaught Python exception")[2]
    if traced:
        lines = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', traced)
        error = next((line for line in traced.splitlines()[1:]
                      if re.match(r"\w[\w.]*(Error|Exception|Finding|Interrupt)\b", line)), "an exception")
        inner = next((f"{Path(file).name}:{line}" for file, line, _ in reversed(lines) if "tellme" in file or "fuzz" in file), "")
        return f"{error[:200]} ({inner})"
    return own[0] if own else "the process ended"


def fuzz(name: str, seconds: float, seed: int) -> dict:
    """Fuzz a target for some seconds; what the record says of it."""
    folder = FOLDER / name
    for part in ("corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    end, began = time.monotonic() + seconds, time.monotonic()
    found: dict[str, str] = {}
    total = {"executions": 0, "accepted": 0, "refused": 0}
    slowest, most, edges, features, kept = 0.0, 0, 0, 0, 0
    while (left := end - time.monotonic()) > 1 and len(found) < MOST:
        engine = [str(folder / "corpus"), f"-max_total_time={int(left)}", f"-runs={RUNS}", f"-seed={seed}", "-timeout=20",
                  "-rss_limit_mb=4096", f"-artifact_prefix={folder / 'findings'}/", "-print_final_stats=1", "-max_len=200000",
                  "-len_control=0", "-report_slow_units=1000"]
        with (folder / "log.txt").open("w") as log:
            code = subprocess.run([sys.executable, "-m", "tests.fuzz", "--child", name, *engine], cwd=ROOT, stdout=log,
                                  stderr=subprocess.STDOUT).returncode
        text = (folder / "log.txt").read_text(errors="replace")
        counted = json.loads((folder / "counts.json").read_text()) if (folder / "counts.json").exists() else {}
        status = re.findall(r"#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)", text)
        executed = re.search(r"stat::number_of_executed_units: (\d+)", text)
        total["executions"] += int(executed[1]) if executed else int(status[-1][0]) if status else 0
        for key in ("accepted", "refused"):
            total[key] += counted.get(key, 0)
        slowest, most = max(slowest, counted.get("slowest_seconds", 0.0)), max(most, counted.get("most_bytes") or 0)
        if status:
            edges, features, kept = (int(part) for part in status[-1][1:])
        if code:
            what = place_of(text)
            written = re.search(r"Test unit written to (\S+)", text)
            found.setdefault(what, Path(written[1]).name if written else "")
            print(f"  {name}: {what} {found[what]}", flush=True)
            if not status:
                # Not a single execution: the target itself does not run.
                break
        # A process that goes on draws other inputs.
        seed += 1
    return {**total, "seconds": round(time.monotonic() - began, 1), "edges": edges, "features": features, "corpus": kept,
            "slowest_seconds": slowest, "most_bytes": most, "findings": found}


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-k", metavar="NAME", action="append", choices=NAMES, help=f"one of {', '.join(NAMES)}; default: all")
    parser.add_argument("--seconds", type=float, default=3600.0, help="of all targets together; default: 3600")
    parser.add_argument("--seed", type=int, default=1, help="of the engine; default: 1")
    parser.add_argument("--report", action="store_true", help=f"write {REPORT.relative_to(ROOT)}")
    parser.add_argument("--input", type=Path, metavar="FILE", help="run the target on this file alone")
    args = parser.parse_args()
    names = args.k or list(NAMES)
    if args.input is not None:
        if len(names) != 1:
            parser.error("--input wants -k NAME")
        once(names[0], args.input)
        return 0
    failed = False
    source = commit("sw", "tests/fuzz", untracked=True) if args.report else ""
    for name in names:
        found = fuzz(name, args.seconds / len(names), args.seed)
        failed |= bool(found["findings"])
        print(f"{name}: {found['executions']} executions, {found['edges']} edges, {len(found['findings'])} findings", flush=True)
        if args.report:
            note(name, {"commit": source[:40], "changed": source.endswith("+"), "seed": args.seed, **found},
                 f"atheris {metadata.version('atheris')}")
    return 1 if failed else 0


def note(name: str, found: dict, engine: str) -> None:
    """Put a target's run into the record, which has the last run of each target."""
    known = json.loads(REPORT.read_text())["targets"] if REPORT.exists() else {}
    known[name] = found
    REPORT.write_text(json.dumps({
        "command": "python -m tests.fuzz", "engine": engine, "python": sys.version.split()[0],
        "never_run": [name for name in NAMES if name not in known],
        "seconds": round(sum(target["seconds"] for target in known.values()), 1),
        "targets": {name: known[name] for name in NAMES if name in known}}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
