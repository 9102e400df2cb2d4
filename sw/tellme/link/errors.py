# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What can go wrong between host and board."""

from tellme.errors import TellmeError

__all__ = ["LinkError", "StuckError"]


class LinkError(TellmeError):
    """The board is not there, does not answer, or gives a wrong answer; the text says what to do."""


class StuckError(LinkError):
    """A run made no progress, and was stopped.  The session goes on."""
