# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a command of the command line is: its options, its examples, and the function that runs it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from tellme.cli.errors import UserError

__all__ = ["Command", "Example", "Parser"]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')} ({self.prog} --help lists the options)")


@dataclass(frozen=True)
class Example:
    """A command line without the program's name, and what it is good for."""

    arguments: str
    what: str


@dataclass(frozen=True)
class Command:
    """A command.  ``run`` is the function that runs it, MODULE:NAME; its module is imported when the command runs."""

    name: str
    summary: str
    description: str
    options: Callable[[argparse.ArgumentParser], None]
    run: str
    examples: tuple[Example, ...]
    #: Whether standard output carries the result, so that one that is closed is refused before any work is done.
    prints: bool = True

    def add(self, commands: Any) -> None:
        """Add the command to the subparsers of a parser."""
        listed = "\n".join(f"  # {e.what}\n  tellme-host {e.arguments}" for e in self.examples)
        parser = commands.add_parser(self.name, help=self.summary, description=self.description,
                                     epilog=f"examples:\n{listed}", formatter_class=_Formatter)
        self.options(parser)
        parser.set_defaults(entry=self)

    def function(self) -> Callable[[argparse.Namespace], int]:
        """The function that runs the command and returns the exit code."""
        module, name = self.run.split(":")
        found: Callable[[argparse.Namespace], int] = getattr(import_module(module), name)
        return found


class _Formatter(argparse.HelpFormatter):
    """Fills the description, and leaves the lines of the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:\n"):
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)
