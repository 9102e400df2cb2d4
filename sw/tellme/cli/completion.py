# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host completion``."""

import argparse

import argcomplete

from tellme.cli.errors import ExitCode
from tellme.cli.output import write

__all__ = ["completion"]


def completion(args: argparse.Namespace) -> int:
    """The command."""
    write(argcomplete.shellcode(["tellme-host"], shell=args.shell).rstrip("\n") + "\n")
    return ExitCode.DONE
