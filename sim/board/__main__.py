# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.board --preset NAME``: the simulated board; its link's bytes are standard input and output."""

import argparse
import os
import subprocess
import sys

from sim.board.build import board_arguments, build_board
from tellme.spec.config import SIMULATED, preset


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.board", description=__doc__)
    parser.add_argument("--preset", default=SIMULATED)
    parser.add_argument("--build-only", action="store_true", help="build, print the binary's path, and end")
    args = parser.parse_args()
    try:
        config = preset(args.preset)
        binary, core_hash = build_board(config)
    except (ValueError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"simulated board: {error}", file=sys.stderr)
        return 2
    if args.build_only:
        print(binary)
        return 0
    os.execv(binary, [str(binary), *board_arguments(config, core_hash)])


if __name__ == "__main__":
    sys.exit(main())
