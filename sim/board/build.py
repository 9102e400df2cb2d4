# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Builds the simulated board's binary, which is cached below build/board by a hash of its Verilog, sources and builder."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hw.memory.ddr3.phy import READ_LATENCY
from hw.verilog import core_sha256, core_verilog
from sim.chips.ddr3 import chip_clocks
from sim.verilator import SHORT_SEARCHES, compiler_is_gcc, object_cache, verilator_command, verilator_env, verilator_version
from tellme.compiler.image_file import memory_pieces
from tellme.spec.config import CoreConfig

__all__ = ["build_board", "board_arguments", "preload_arguments"]

ROOT = Path(__file__).resolve().parent.parent.parent
CHIPS = ROOT / "sim" / "chips"
#: Beats from a READ in the controller's registers to its data there: CAS latency and the way through pads and wires.  The core
#: finds this number by itself.
READ_BEATS = 12
HERE = ROOT / "sim" / "board"
#: Of a DDR3 board's PHY: fabric cycles from ``ren`` to ``rvalid``, and from a WRITE to its first beat (1 + CWL 5 clocks).
READ_CYCLES, WRITE_CYCLES = READ_LATENCY, 3
#: Of its byte lanes: the right slip, and the first and last READCLKSEL that works.
DDR3_LANES = ((2, 1, 4), (1, 3, 6))
COMPILER_FLAGS = "-std=c++17 -march=native"
MAKE_VARIABLES = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O2 OPT_SLOW=-O0"
#: A scratch folder's file that its builder holds locked.
LOCK = "lock"


def sources(config: CoreConfig) -> tuple[Path, ...]:
    """The board's own sources."""
    kind = "ddr3" if config.ddr3 else "sdram"
    return (HERE / "harness.cpp", HERE / "pipe.h", HERE / f"{kind}_memory.h", CHIPS / f"{kind}_chip.cpp",
            CHIPS / f"{kind}_chip.h")


def build_board(config: CoreConfig) -> tuple[Path, str]:
    """(binary, core_sha256) of a preset; says on standard error what it does and how long it took."""
    began = time.monotonic()
    print(f"simulated board: core of preset {config.name}", file=sys.stderr, flush=True)
    verilog = core_verilog(config.name)
    core_hash = core_sha256(verilog)
    digest = hashlib.sha256(core_hash.encode() + verilator_version().encode() + Path(__file__).read_bytes())
    for path in sources(config):
        digest.update(path.read_bytes())
    folder = ROOT / "build" / "board" / f"{config.name}-{digest.hexdigest()[:20]}"
    binary = folder / "board"
    if not binary.exists():
        print("simulated board: compiling with Verilator; one to three minutes, once for each change of the core",
              file=sys.stderr, flush=True)
        compile_board(verilog, folder, config)
        print(f"simulated board: built in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return binary, core_hash


def compile_board(verilog: Path, folder: Path, config: CoreConfig, more: str = "") -> None:
    """Verilate and compile, with ``more`` flags of the compiler; the binary appears in its folder only when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    # make and Verilator cannot take spaces in a path: build in a folder of its own without any.
    with space_free_folder(folder) as scratch:
        (scratch / "core.v").write_bytes(verilog.read_bytes())
        files = sources(config)
        for path in files:
            (scratch / path.name).write_bytes(path.read_bytes())
        command = [*verilator_command(), "--cc", "--exe", "--build", "-j", "2", "--top-module", "core", "-Mdir", "obj",
                   "-Wno-fatal", "-Wno-lint", "-Wno-style", "-O3", "--x-assign", "fast", "--x-initial", "fast",
                   "--noassert", "-o", "board",
                   # No level of optimisation here: it would also apply to the code that runs once, which is half of the code.
                   "-CFLAGS", f"{compiler_flags()} -I.." + " -DBOARD_DDR3" * bool(config.ddr3) + more, "-LDFLAGS", "-pthread",
                   "-MAKEFLAGS", f"{MAKE_VARIABLES} {library_cache()}",
                   "core.v", *(path.name for path in files if path.suffix == ".cpp")]
        log = folder / "build.log"
        with log.open("w") as out, Heartbeat("simulated board: compiling"):
            done = subprocess.run(command, cwd=scratch, env=verilator_env(), stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=subprocess.STDOUT)
        if done.returncode != 0:
            tail = "\n".join(log.read_text().splitlines()[-30:])
            raise RuntimeError(f"Verilator could not build the simulated board (log: {log}):\n{tail}")
        partial = folder / f"board.{os.getpid()}"
        try:
            shutil.copy2(scratch / "obj" / "board", partial)
            partial.replace(folder / "board")
        finally:
            partial.unlink(missing_ok=True)


def compiler_flags() -> str:
    """The compiler's options for model and harness, but the level of optimisation."""
    return f"{COMPILER_FLAGS} {SHORT_SEARCHES}" if compiler_is_gcc() else COMPILER_FLAGS


def library_cache() -> str:
    """The makefile's variable by which all boards share the objects of Verilator's library; empty where make cannot take the
    path."""
    folder = ROOT / "build" / "board" / "objects"
    return "" if " " in str(folder) else f"OBJCACHE={object_cache(folder, compiler_flags(), MAKE_VARIABLES)}"


def board_arguments(config: CoreConfig, core_hash: str) -> list[str]:
    """Arguments of the binary for a configuration."""
    common = ["--build-id", core_hash]
    if config.ddr3 is None:
        return [*common, "--cas", str(config.sdram_cas_latency), "--read-beats", str(READ_BEATS),
                "--columns", str(config.sdram_column_bits), "--mhz", str(config.sdram_mhz),
                "--power-up-us", str(config.sdram_power_up_us)]
    # What the core is built with (hw.top.memory_controller).
    times, refresh, zq = chip_clocks(config.ddr3, config.sdram_mhz, reset_us=config.sdram_power_up_us,
                                     cke_us=2.5 * config.sdram_power_up_us)
    chip = ":".join(map(str, (config.ddr3.row_bits, config.ddr3.column_bits, refresh, zq, *times)))
    lanes = [text for lane, numbers in enumerate(DDR3_LANES) for text in (f"--lane{lane}", ":".join(map(str, numbers)))]
    return [*common, "--chip", chip, "--cas", str(config.ddr3.cl), "--read-cycles", str(READ_CYCLES),
            "--write-cycles", str(WRITE_CYCLES), *lanes]


def preload_arguments(config: CoreConfig, path: Path) -> list[str]:
    """Arguments of the binary that put an image into the chip's cells before power-up.

    An InputError for a file that is no image of the configuration's memory (:func:`tellme.compiler.image_file.memory_pieces`).
    """
    pieces = memory_pieces(path, config)
    return ["--preload", str(path.resolve()), *(text for piece in pieces for text in ("--piece", ":".join(map(str, piece))))]


@contextmanager
def space_free_folder(near: Path) -> Iterator[Path]:
    """A scratch folder whose path has no space: beside the result, or else in the system's temporary folder."""
    parent = None if " " in str(near) else near
    if parent is not None:
        remove_dead(parent)
    scratch = Path(tempfile.mkdtemp(prefix="build-", dir=parent))
    try:
        if " " in str(scratch):
            raise RuntimeError(f"the temporary folder {scratch.parent} has a space in its path; set TMPDIR to one without")
        with (scratch / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_dead(parent: Path) -> None:
    """Remove the scratch folders that killed builds left: folders whose lock no process holds."""
    for path in parent.glob(f"build-*/{LOCK}"):
        with suppress(OSError), path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent, ignore_errors=True)


class Heartbeat:
    """Prints a line every 20 seconds while a long command runs, so that the command does not seem to hang."""

    def __init__(self, what: str):
        self._what = what
        self._stop = threading.Event()

    def __enter__(self) -> None:
        began = time.monotonic()

        def beat() -> None:
            while not self._stop.wait(20):
                print(f"{self._what}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

        threading.Thread(target=beat, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
