# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host load``."""

import argparse
import time

from tellme.cli.boards import drafts_of, open_board
from tellme.cli.errors import ExitCode, UserError
from tellme.cli.generate import adapted
from tellme.cli.output import print_line, say, write
from tellme.cli.progress import bytes_bar
from tellme.compiler.image_file import save_image
from tellme.models.shipped import checked_model
from tellme.models.source import StoredSource
from tellme.models.writing import check_target
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset

__all__ = ["load"]


def save(args: argparse.Namespace, model: StoredSource) -> int:
    """Write what a load sends to a board of the preset into a file."""
    if args.device != "auto":
        raise UserError("--save writes a file and opens no board: leave --device out, and name the board's core with --preset")
    try:
        core = preset(args.preset)
    except ValueError as error:
        raise UserError(str(error)) from error
    check_target(args.save)
    size = save_image(args.save, model, core, head=args.head, drafts=drafts_of(args), say=say)
    if args.json:
        print_line({"model": model.name, "file": str(args.save), "preset": core.name, "bytes": size})
    else:
        write(f"{args.save}: {model.name} for {core.name}, {size} bytes\n")
    return ExitCode.DONE


def load(args: argparse.Namespace) -> int:
    """The command."""
    model = adapted(checked_model(args.model), args)
    if args.save is not None:
        return save(args, model)
    with open_board(args) as board:
        if isinstance(board.device, BoardDevice):
            # The build of a simulated board is no part of the time.
            board.connect()
        with bytes_bar("loading") as progress:
            began = time.monotonic()
            board.load(model, head=args.head, drafts=drafts_of(args), progress=progress)
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
