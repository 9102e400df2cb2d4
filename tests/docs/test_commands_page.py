# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""docs/commands.md: all commands are there, all their command lines parse, and those marked console print what the page says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tellme.cli import build_parser
from tellme.cli.options import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(\$ tellme-host .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
#: (command line, what it prints) of the blocks that are compared.
CONSOLE = [tuple(block.split("\n", 1)) for kind, block in BLOCKS if kind == "console"]


def words(line):
    return shlex.split(line.removeprefix("$ tellme-host "))


def test_each_command_has_a_section_and_a_run():
    sections = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert [command.name for command in COMMANDS if command.name not in sections] == []
    run = {words(line)[0] for _, block in BLOCKS for line in block.splitlines() if line.startswith("$ tellme-host ")}
    assert {command.name for command in COMMANDS} - run == {"completion"}
    assert len(CONSOLE) >= 5


def test_each_command_line_parses():
    lines = [line for line in PAGE.splitlines() if line.startswith("$ tellme-host ")]
    assert len(lines) >= len(BLOCKS)
    for line in lines:
        build_parser().parse_args(words(line.removesuffix(" &")))


@pytest.mark.parametrize(("line", "output"), CONSOLE, ids=[line for line, _ in CONSOLE])
def test_what_is_printed(line, output, tmp_path):
    shutil.copy2(ROOT / "tests" / "data" / "stories.txt", tmp_path)
    done = subprocess.run([sys.executable, "-m", "tellme.cli", *words(line)], cwd=tmp_path, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "sw")})
    assert "Traceback" not in done.stderr
    # Where there is no result, the page has what a person is told.
    printed = done.stdout or done.stderr
    assert printed.rstrip("\n") == output.rstrip("\n")
    assert done.returncode == (2 if output.startswith("tellme-host: ") else 0)
