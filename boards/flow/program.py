# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.flow.program``: load a built bitstream into a board by USB, with openFPGALoader."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

from boards.flow.build import BOARDS, ROOT

__all__ = ["main"]

#: The PyPI package's command lies beside this Python.
LOADER = Path(sys.executable).parent / "openfpgaloader-cli"
LIBRARIES = "libusb-1.0-0 libftdi1-2"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m boards.flow.program", description=__doc__)
    parser.add_argument("--board", default="ulx3s")
    parser.add_argument("--device", help="the FPGA (default: the board's first)")
    parser.add_argument("--flash", action="store_true", help="into the flash, to be there after power-up; else until then")
    args = parser.parse_args(argv)

    def refuse(text: str) -> int:
        print(text, file=sys.stderr)
        return 2

    if args.board not in BOARDS:
        return refuse(f"no board is called {args.board!r}; there are: {', '.join(BOARDS)}")
    board = importlib.import_module(f"boards.{args.board}")
    device = args.device or next(iter(board.DEVICES))
    if device not in board.DEVICES:
        return refuse(f"{args.board} has no preset for a {device!r}; there are: {', '.join(board.DEVICES)}")
    bitstream = ROOT / "build" / f"{args.board}-{device}" / "tellme.bit"
    if not bitstream.exists():
        return refuse(f"there is no {bitstream.relative_to(ROOT)}; type:\n"
                      f"  make bitstream BOARD={args.board} DEVICE={device}")
    if not LOADER.exists():
        return refuse(f"{LOADER.name} is not there; type:\n  make venv")
    command = [str(LOADER), "--board", board.PROGRAMMER, *(["--write-flash"] if args.flash else []), str(bitstream)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    sys.stderr.write(done.stderr)
    if "error while loading shared libraries" in done.stderr:
        return refuse("openFPGALoader wants libraries of the system. On Debian or Ubuntu:\n"
                      f"  sudo apt-get install -y {LIBRARIES}")
    if done.returncode != 0:
        return refuse(f"openFPGALoader ended with {done.returncode}. Is the board plugged in at its programming port, and may "
                      "you open it? docs/bring-up.md goes through it")
    print(f"{args.board} runs {bitstream.relative_to(ROOT)}; LEDs 0 and 1 should be on. Try:\n  "
          ".venv/bin/tellme-host generate --device auto", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
