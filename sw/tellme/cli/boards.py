# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How the commands open the board that the options name."""

import argparse
from pathlib import Path
from typing import Literal

from tellme.cli.output import say
from tellme.runtime.board import Board

__all__ = ["drafts_of", "open_board"]


def drafts_of(args: argparse.Namespace) -> Path | Literal["auto"] | None:
    """The table of drafted tokens that --drafts and --no-drafts say."""
    if args.no_drafts:
        return None
    path: Path | None = args.drafts
    return "auto" if path is None else path


def open_board(args: argparse.Namespace) -> Board:
    """The board of --device, --baud and --preset; use it in a ``with`` block."""
    return Board.open(args.device, preset=args.preset, baud=args.baud, say=say)
