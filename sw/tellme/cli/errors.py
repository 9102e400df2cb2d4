# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What goes wrong on the command line, and the exit code that says so."""

from enum import IntEnum

from tellme.errors import TellmeError

__all__ = ["ExitCode", "OutputError", "UserError"]


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    #: A check or a comparison failed.
    CHECK = 1
    #: Bad input, device or model.
    BAD = 2
    INTERRUPTED = 130


class UserError(TellmeError):
    """Bad input or device; the text says what to do."""


class OutputError(UserError):
    """Standard output that cannot be written to."""
