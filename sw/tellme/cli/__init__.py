# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The command ``tellme-host``."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from tellme import __version__
from tellme.cli import interrupts, output
from tellme.cli.command import Command, Parser
from tellme.cli.errors import ExitCode, OutputError, UserError
from tellme.cli.options import COMMANDS

__all__ = ["build_parser", "main"]

INTERRUPTED = "tellme-host: interrupted"
#: A shell asks for completions by this variable of the environment.
COMPLETING = "_ARGCOMPLETE"


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = Parser(prog="tellme-host", description="A ternary language model on a small FPGA.",
                    epilog="tellme-host COMMAND --help has the command's options, and examples.")
    parser.add_argument("--version", action="version", version=f"tellme-host {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Run the command that the arguments name; its module is imported here, so that --help is quick."""
    command: Command = args.entry
    return command.function()(args)


def fail(message: str, *, as_json: bool, code: int = ExitCode.BAD) -> int:
    """Say what went wrong: a line on standard error, and with --json a line of JSON on standard output if that still works."""
    if as_json:
        with suppress(OutputError):
            output.print_line({"type": "error", "message": message})
    output.say(f"tellme-host: {message}")
    return code


def dispatch(args: argparse.Namespace) -> int:
    """Run a command; an error of the input or the output becomes a message and exit code 2, and a board that computed
    otherwise than the golden model exit code 1."""
    from tellme.cli.hints import message
    from tellme.errors import CheckError, TellmeError

    try:
        if args.entry.prints:
            output.check()
        return run_command(args)
    except TellmeError as error:
        text, code = message(error), ExitCode.CHECK if isinstance(error, CheckError) else ExitCode.BAD
    except OSError as error:
        text, code = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part), ExitCode.BAD
    return fail(text, as_json=getattr(args, "json", False), code=code)


def parse_and_run(arguments: list[str]) -> int:
    """Read the command line and do what it says; returns the exit code."""
    with output.streams():
        try:
            try:
                args = build_parser().parse_args(arguments)
            except SystemExit:
                # --help and --version
                output.check()
                output.flush()
                raise
            return dispatch(args)
        except UserError as error:
            return fail(str(error), as_json="--json" in arguments)
        except KeyboardInterrupt:
            output.say(INTERRUPTED)
            return ExitCode.INTERRUPTED


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code.  A program that calls this with arguments goes on with its own signal handlers."""
    if COMPLETING in os.environ:
        import argcomplete

        # Answers on a descriptor that the shell gives, and ends the process.
        argcomplete.autocomplete(build_parser())
    try:
        interrupts.arm()
        code = parse_and_run(list(sys.argv[1:] if argv is None else argv))
        interrupts.disarm()
        return code
    except KeyboardInterrupt:
        # Before the streams are set up, or after them.  A terminal that was closed takes no line.
        if sys.stderr is not None:
            with suppress(OSError):
                print(INTERRUPTED, file=sys.stderr, flush=True)
        return ExitCode.INTERRUPTED
    finally:
        if argv is None:
            interrupts.ignore()
        else:
            interrupts.restore()
