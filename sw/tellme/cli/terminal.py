# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the commands share that a person types to: lines from the terminal, and text that one Ctrl-C ends."""

import sys
from contextlib import suppress

from tellme.cli import interrupts
from tellme.cli.errors import OutputError, UserError
from tellme.cli.files import checked_text
from tellme.cli.output import say, write
from tellme.runtime.session import Run

__all__ = ["next_line", "shown_text"]


def next_line(mark: str) -> str | None:
    """The next line of standard input, without its line end; None at its end.  On a terminal ``mark`` asks for it."""
    if sys.stdin is None:
        raise UserError("cannot read from standard input: it is closed")
    if sys.stdin.isatty():
        with suppress(ImportError):
            # Keys that edit a line, and lines typed before.
            import readline  # noqa: F401
        try:
            return checked_text(input(mark), "the line")
        except EOFError:
            return None
    line = sys.stdin.readline()
    return checked_text(line.removesuffix("\n"), "the line") if line else None


def shown_text(run: Run) -> str:
    """Take a run's tokens and print their text as it comes; all of the text.

    Ctrl-C stops the board within a token.  The text up to there counts, and the next Ctrl-C ends the command.
    """
    pieces: list[str] = []

    def show(text: str) -> None:
        pieces.append(text)
        write(text)

    taken = 0
    try:
        for token in run:
            with interrupts.held():
                show(token.text)
                taken += 1
    except KeyboardInterrupt:
        interrupts.arm()
        run.interrupt()
        say("")
    except OutputError:
        run.interrupt()
        raise
    for token in run.since(taken):
        show(token.text)
    show(run.finish())
    write("\n")
    return "".join(pieces)
