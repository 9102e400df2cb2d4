# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host flash``."""

import argparse

from tellme.cli.errors import ExitCode
from tellme.cli.output import say
from tellme.programming import board_called, built_bitstream, part_of, program
from tellme.runtime.simulated import checkout

__all__ = ["flash"]


def flash(args: argparse.Namespace) -> int:
    """The command."""
    board = board_called(args.board)
    part = part_of(board, args.part)
    bitstream = args.bitstream or built_bitstream(board, part, checkout())
    program(board, bitstream, keep=not args.until_power_off, say=say)
    where = "until power-off" if args.until_power_off else "whenever power comes on"
    say(f"{board.name} runs {bitstream} {where}; LEDs 0 and 1 should be on. Try:\n  tellme-host selftest")
    return ExitCode.DONE
