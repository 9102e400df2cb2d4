# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The commands' options.  This package imports nothing that takes long, so that --help and a shell's completion are quick."""

from tellme.cli.options import boards, models, text

__all__ = ["COMMANDS"]

#: All commands, in the order of the help.
COMMANDS = (*text.COMMANDS, *boards.COMMANDS, *models.COMMANDS, *boards.SHELL_COMMANDS)
