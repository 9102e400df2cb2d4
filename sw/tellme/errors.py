# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The errors of the package: each says what was wrong and what to do."""

__all__ = ["CheckError", "DeviceError", "InputError", "NonfiniteRunError", "TellmeError"]


class TellmeError(Exception):
    """An error that a caller can do something about.

    ``hint`` is a word for a setting that helps.  A program translates the word: the command line names its own option.
    """

    def __init__(self, message: str, *, hint: str = ""):
        super().__init__(message)
        self.hint = hint


class InputError(TellmeError):
    """An argument, a prompt or a text that cannot be used."""


class DeviceError(TellmeError):
    """A board that cannot be opened, or that misbehaved."""


class CheckError(DeviceError):
    """A board that computed otherwise than the golden model, or whose memory does not hold what was loaded."""


class NonfiniteRunError(DeviceError):
    """A run that gave an infinity or NaN: the model does that on every board, and the board is well."""
