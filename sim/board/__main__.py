# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.board --preset NAME``: the simulated board; its link's bytes are standard input and output.

When standard input ends, the simulated board ends at once, also while it is being built.
"""

import argparse
import json
import os
import sys

from sim.board.lifeline import hold, release


def run() -> int:
    """Build, and become the board's process.  Imports come late, so that the host is watched while modules are loaded."""
    import subprocess
    from pathlib import Path

    from sim.board.build import board_arguments, build_board, preload_arguments
    from tellme.errors import InputError
    from tellme.spec.config import SIMULATED, preset

    parser = argparse.ArgumentParser(prog="python -m sim.board", description=__doc__)
    parser.add_argument("--preset", default=SIMULATED)
    parser.add_argument("--preload", type=Path, metavar="FILE", help="an image that tellme-host load --save wrote, which the "
                        "memory holds when power comes")
    parser.add_argument("--build-only", action="store_true",
                        help="build, print the command that starts the board as a JSON list, and end")
    args = parser.parse_args()
    try:
        config = preset(args.preset)
        # Ahead of the build, so that a file that is none is told at once.
        preload = preload_arguments(config, args.preload) if args.preload is not None else []
        binary, core_hash = build_board(config)
    except (InputError, ValueError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"simulated board: {error}", file=sys.stderr)
        return 2
    command = [str(binary), *board_arguments(config, core_hash), *preload]
    if args.build_only:
        print(json.dumps(command), flush=True)
        return 0
    os.execv(binary, command)


def main() -> int:
    try:
        hold()
        code = run()
        release()
        return code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
