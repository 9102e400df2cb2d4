# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The library names no option of the command line; the command line names the options for what an error hints at."""

import re
from pathlib import Path

import pytest

from tellme.cli import build_parser, main
from tellme.cli.hints import HINTS, message
from tellme.errors import TellmeError

PACKAGE = Path(__file__).resolve().parents[2] / "sw" / "tellme"
LIBRARY = [path for path in sorted(PACKAGE.rglob("*.py")) if "cli" not in path.relative_to(PACKAGE).parts]
#: Options of other programs that the library runs or names in messages.
OTHERS = {"--preset", "--preload", "--build-only", "--merge", "--json", "--board", "--write-flash", "--reload"}


def test_the_library_names_no_option():
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
    named = {(path.name, found) for path in LIBRARY for found in option.findall(path.read_text("utf-8"))}
    assert {found for _, found in named} <= OTHERS, named


def test_every_hint_is_translated():
    hints = {hint for path in LIBRARY for hint in re.findall(r'hint="([a-z-]+)"', path.read_text("utf-8"))}
    assert len(hints) > 5 and hints <= HINTS.keys()


def test_hints_name_options_that_there_are():
    options = {option for text in HINTS.values() for option in re.findall(r"--[a-z-]+", text)}
    parser = build_parser()
    known = set(re.findall(r"--[a-z-]+", "".join(
        command.format_help() for action in parser._subparsers._group_actions for command in action.choices.values())))
    assert options <= known


def test_an_error_with_a_hint():
    assert message(TellmeError("a context of 9: too long", hint="context")) == "a context of 9: too long (--context N)"
    assert message(TellmeError("a context of 9: too long")) == "a context of 9: too long"


def test_what_a_person_reads(capsys, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert main(["inspect", str(tmp_path / "m.gguf")]) == 2
    assert capsys.readouterr().err == (
        f"tellme-host: {tmp_path}/m.gguf is a GGUF file: convert the file (tellme-host convert SRC -o OUT.tellme)\n")
    assert main(["generate", "--device", "/dev/ttyNONE7"]) == 2
    assert capsys.readouterr().err == (
        "tellme-host: cannot open /dev/ttyNONE7: there is no such port; without a port's name a board is looked for, or the "
        "simulated one is used (--device auto)\n")


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_is_one_word_for_a_setting(hint):
    assert re.fullmatch("[a-z-]+", hint)
