# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host selftest``."""

import argparse

from tellme.cli.boards import open_board
from tellme.cli.errors import ExitCode
from tellme.cli.output import paint, print_line, write
from tellme.cli.progress import bar
from tellme.runtime.selftest import Check
from tellme.runtime.selftest import selftest as tests

__all__ = ["selftest"]


def show(check: Check) -> None:
    """A line a test, and one of what to do."""
    mark = paint("FAILED", "red") if not check.ok else paint("warn  ", "yellow") if check.advice else paint("ok    ", "green")
    write(f" {check.name:14} {check.found}\n", mark=mark)
    if check.advice:
        write(f"       {'':14} {check.advice}\n")


def selftest(args: argparse.Namespace) -> int:
    """The command; exit code 2 if a test failed."""
    checks: list[Check] = []
    with open_board(args) as board:
        with bar("testing", "B", scaled=True) as shown:
            now = ""

            def progress(what: str, done: int, total: int) -> None:
                nonlocal now
                if what != now:
                    now = what
                    shown.reset(total)
                    shown.set_description(what, refresh=False)
                shown.update(done - shown.n)

            for check in tests(board, full=args.full, progress=progress, ddr3_settings=args.ddr3_settings):
                checks.append(check)
                if not args.json:
                    shown.clear()
                    show(check)
        device, preset, core = board.device.name, board.device.preset, board.device.core_sha256
    good = all(check.ok for check in checks)
    if args.json:
        print_line({"ok": good, "device": device, "preset": preset, "core_sha256": core,
                    "checks": [check.as_json() for check in checks]})
    return ExitCode.DONE if good else ExitCode.BAD
