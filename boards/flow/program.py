# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.flow.program``: load a built bitstream into a board by USB, with openFPGALoader.

What ``make program`` runs; ``tellme-host flash`` does the same with any bitstream, and both by :mod:`tellme.programming`.
"""

import argparse
import sys
from pathlib import Path

from boards.flow.build import ROOT
from tellme.errors import TellmeError
from tellme.programming import board_called, built_bitstream, program

__all__ = ["main"]


def say(text: str) -> None:
    print(text, file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m boards.flow.program",
                                     description="Load a built bitstream into a board by USB, with openFPGALoader.")
    parser.add_argument("--board", default="ulx3s")
    parser.add_argument("--device", help="the FPGA (default: the board's first)")
    parser.add_argument("--flash", action="store_true", help="into the flash, to be there after power-up; else until then")
    args = parser.parse_args(argv)
    try:
        board = board_called(args.board)
        bitstream: Path = built_bitstream(board, args.device, ROOT)
        program(board, bitstream, keep=args.flash, say=say)
    except TellmeError as error:
        say(str(error))
        return 2
    say(f"{args.board} runs {bitstream.relative_to(ROOT)}; LEDs 0 and 1 should be on. Try:\n  "
        ".venv/bin/tellme-host generate --device auto")
    return 0


if __name__ == "__main__":
    sys.exit(main())
