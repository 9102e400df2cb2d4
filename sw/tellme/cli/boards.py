# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How the commands open the board that the options name."""

import argparse

from tellme.cli.output import say
from tellme.runtime.board import Board

__all__ = ["open_board"]


def open_board(args: argparse.Namespace) -> Board:
    """The board of --device, --baud and --preset; use it in a ``with`` block."""
    return Board.open(args.device, preset=args.preset, baud=args.baud, say=say)
