# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.mutation.prove KEY [BENCH...]``: whether a mutant's Verilog is equivalent to the original's, by yosys.

Of each bench, or of those that the record has the mutant survive, the Verilog with and without the mutant is compared: registers
and memories of the same names have the same values after reset, and from the same values in these and the same inputs both give
the same outputs and the same next values (equiv_make, equiv_simple).  That is an induction over one cycle, and holds for the
bench's parameters.  A mutant that changes registers only where no run comes is not proven so.

Exit codes: 0, all are equivalent; 1, one is not proven to be; 2, bad arguments.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from boards.flow.build import TOOLS
from tests.mutants import copy_checkout
from tests.mutation.__main__ import REPORT, ROOT
from tests.mutation.record import MutationError, Record
from tests.mutation.rules import mutants_of_file, sources
from tests.mutation.trial import Worker

__all__ = ["after_reset", "main", "unproven"]

SCRIPT = """
read_verilog -sv {name}.v
hierarchy -top dut
proc
flatten
memory_map
opt_clean
rename dut {name}
design -stash {name}
"""
COMPARE = """
design -copy-from gold -as gold gold
design -copy-from gate -as gate gate
equiv_make -blacklist apart gold gate equiv
hierarchy -top equiv
equiv_struct
equiv_simple -seq 1
equiv_status
"""
#: What the last command says of a pair of wires, and of all of them.
PAIR = re.compile(r"^ *Unproven \$equiv \S+: (\S+)_gold(?: \[\d+\])? ", re.M)
STATUS = re.compile(r"^ *Of those cells (\d+) are proven and (\d+) are unproven", re.M)


def after_reset(verilog: str) -> list[str]:
    """What a Verilog says of the values of registers and memories after reset."""
    return sorted(line.strip() for line in verilog.splitlines() if re.match(r" *(reg .*=|\S+\[\d+\] *= )", line))


def unproven(gold: str, gate: str, folder: Path) -> list[str]:
    """What of ``gate`` is not proven to be as in ``gold``: names of wires; nothing if the two are equivalent.

    Signals between registers may differ.  Where one does, the two are not compared there, and the proof is made without it.
    """
    if after_reset(gold) != after_reset(gate):
        return ["values after reset"]
    for name, text in (("gold", gold), ("gate", gate)):
        (folder / f"{name}.v").write_text(text)
    (folder / "equiv.ys").write_text(SCRIPT.format(name="gold") + SCRIPT.format(name="gate") + COMPARE)
    apart: list[str] = []
    while True:
        (folder / "apart").write_text("".join(f"{name}\n" for name in apart))
        done = subprocess.run([str(Path(sys.executable).parent / TOOLS["yowasp"]["yosys"]), "equiv.ys"], cwd=folder, text=True,
                              capture_output=True)
        status = STATUS.search(done.stdout)
        if done.returncode != 0 or status is None:
            raise MutationError(f"yosys ended with {done.returncode}:\n{(done.stdout + done.stderr)[-1000:]}")
        if status[2] == "0":
            return []
        found = sorted(set(PAIR.findall(done.stdout)))
        held = registers(gold)
        if not found or any(name.split(".")[-1].lstrip("\\") in held for name in found):
            return found or ["a wire without a name"]
        apart += found


def registers(verilog: str) -> set[str]:
    """Names that may not be left out of the comparison: those of registers in any module, and of the unit's outputs."""
    whole = re.search(r"^module dut\b.*?^endmodule", verilog, re.M | re.S)
    found = re.findall(r"^ *(\S+?)(?: *\[[^]]*\])? <= ", verilog, re.M)
    found += re.findall(r"^ *output (?:signed )?(?:\[\d+:\d+\] )?(\S+?) *;", whole[0] if whole else "", re.M)
    return {name.lstrip("\\") for name in found}


def verilog(names: Iterable[str], tree: Path) -> dict[str, str]:
    """Of benches, as the copy of the checkout has the gateware."""
    worker = Worker(tree)
    try:
        answers = list(worker.ask(do="verilog", names=list(names)))
        if answers[-1]["end"]:
            raise MutationError(f"the benches do not elaborate:\n{worker.errors()}")
        return {answer["name"]: answer["text"] for answer in answers[:-1]}
    finally:
        worker.end()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.prove", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("key")
    parser.add_argument("bench", nargs="*", help="default: those that the mutant survived, by docs/reports/mutation.json")
    args = parser.parse_args(argv)
    mutants = {mutant.key: mutant for file in sources(ROOT) for mutant in mutants_of_file(ROOT, file)}
    if args.key not in mutants:
        print(f"there is no mutant {args.key!r}; python -m tests.mutation --list shows all", file=sys.stderr)
        return 2
    mutant = mutants[args.key]
    names = args.bench or Record(REPORT, seed=1, sample=1000).results.get(args.key, {}).get("passed", [])
    if not names:
        print(f"{args.key} survived no bench, by the record; name benches", file=sys.stderr)
        return 2
    bad = 0
    try:
        with tempfile.TemporaryDirectory(prefix="tellme-prove-") as scratch:
            tree = Path(scratch) / "tree"
            tree.mkdir()
            copy_checkout(tree, compiled=True)
            gold = verilog(names, tree)
            path = tree / mutant.file
            path.write_text(mutant.apply(path.read_text("utf-8")), "utf-8")
            gate = verilog(names, tree)
            for name in names:
                left = unproven(gold[name], gate[name], Path(scratch))
                print(f"{'NOT PROVEN' if left else 'EQUIVALENT'} {name}{': ' if left else ''}{', '.join(left[:8])}", flush=True)
                bad += bool(left)
    except MutationError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
