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
from tellme.runtime.device import BoardDevice

__all__ = ["load"]


def load(args: argparse.Namespace) -> int:
    """The command."""
    model = checked_model(args.model)
    with open_board(args) as board:
        if isinstance(board.device, BoardDevice):
            # The build of a simulated board is no part of the time.
            board.connect()
        with bytes_bar("loading") as progress:
            began = time.monotonic()
            board.load(model, head=args.head, progress=progress)
            seconds = time.monotonic() - began
        device = board.device
        sent, there = device.sent, device.skipped
        fields: dict[str, object] = {
            "model": model.name, "device": device.name, "preset": device.preset,
            "core_sha256": device.core_sha256, "sent_bytes": sent, "bytes_there_already": there, "seconds": round(seconds, 3)}
    if args.json:
        print_line(fields)
    else:
        write(f"{model.name} is on {device.name}: {sent} bytes sent, {there} were there already; {seconds:.2f} s"
              + (f", {sent / seconds / 1e3:.1f} kB/s" if not there and sent else "") + "\n")
    return ExitCode.DONE
