# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host load``."""

import argparse
import time

from tellme.cli.boards import open_board
from tellme.cli.errors import ExitCode
from tellme.cli.output import print_line, write
from tellme.cli.progress import bytes_bar
from tellme.models.shipped import checked_model

__all__ = ["load"]


def load(args: argparse.Namespace) -> int:
    """The command."""
    model = checked_model(args.model)
    size = 0
    with open_board(args) as board, bytes_bar("loading") as shown:
        def progress(done: int, total: int) -> None:
            nonlocal size
            size = total
            shown(done, total)

        board.device.connect()
        began = time.monotonic()
        session = board.load(model, head=args.head, progress=progress)
        seconds = time.monotonic() - began
        device = session.device
        fields = {"model": model.name, "device": device.name, "preset": device.preset, "core_sha256": device.core_sha256,
                  "bytes": size, "seconds": round(seconds, 3)}
    if args.json:
        print_line(fields)
    else:
        write(f"{model.name} is on {device.name}: {size} bytes in {seconds:.2f} s, {size / seconds / 1e3:.1f} kB/s\n")
    return ExitCode.DONE
