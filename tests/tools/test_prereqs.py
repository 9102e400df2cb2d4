# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What make says on a machine that lacks programs: all missing programs at once, one apt line, exit code 2."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "check_prereqs.sh"
TOOLS = ("g++", "make", "perl", "git")


@pytest.fixture
def machine(tmp_path):
    """A folder that is all of PATH, with what the script itself uses, this Python and the tools."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("awk", "df", "cat", "sh"):
        (bin_ / name).symlink_to(shutil.which(name))
    for name in TOOLS:
        script(bin_ / name, "exit 0")
    (bin_ / "python3").symlink_to(sys.executable)
    return bin_


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def check(bin_, **env):
    return subprocess.run([shutil.which("sh"), str(SCRIPT)], env={"PATH": str(bin_), **env}, cwd=bin_.parent,
                          capture_output=True, text=True)


def test_all_there(machine):
    # The interpreter that runs the tests may be inside a venv; what it was made from counts.
    (machine / "python3").unlink()
    (machine / "python3").symlink_to(os.path.realpath(sys.executable))
    result = check(machine)
    assert result.returncode == 0 and result.stdout == result.stderr == ""


@pytest.mark.parametrize("missing", [("g++",), ("perl", "git"), TOOLS])
def test_missing_tools_in_one_apt_line(machine, missing):
    for name in missing:
        (machine / name).unlink()
    result = check(machine)
    assert result.returncode == 2
    assert result.stderr.count("apt-get") == 1
    line = next(line for line in result.stderr.splitlines() if "apt-get" in line)
    assert line.split("-y")[1].split() == list(missing)


def test_no_python(machine):
    (machine / "python3").unlink()
    result = check(machine)
    assert result.returncode == 2
    assert "Python 3.11 or newer" in result.stderr and "python3-venv" in result.stderr


def test_an_old_python(machine):
    (machine / "python3").unlink()
    script(machine / "python3", '[ "$1" = -V ] && echo "Python 3.10.1"; exit 1')
    result = check(machine)
    assert result.returncode == 2
    assert "Python 3.10.1" in result.stderr and "make PYTHON=" in result.stderr
    assert "python3.11 python3.11-venv libpython3.11-dev" in result.stderr


def test_no_venv_module_and_no_libpython(machine):
    (machine / "python3").unlink()
    script(machine / "python3", 'case "$2" in *version_info*) exit 0;; esac; exit 1')
    result = check(machine)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].split("-y")[1].split() == ["python3-venv", "libpython3-dev"]


def test_a_full_disk(machine):
    (machine / "df").unlink()
    script(machine / "df", 'echo head; echo "/dev/x 100 100 2000000 50% /"')
    result = check(machine)
    assert result.returncode == 2 and "4 GB of free disk" in result.stderr and "1953 MB" in result.stderr
