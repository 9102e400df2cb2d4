# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board's pipe, without a core: every byte in order, and the process ends as soon as the host is gone."""

import random
import subprocess
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
#: Seconds that an end may take.
SOON = 1.0


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    target = tmp_path_factory.mktemp("pipe") / "pipe_user"
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Wextra", "-I", str(HERE.parents[1] / "sim" / "board"),
                    "-o", str(target), str(HERE / "pipe_user.cpp"), "-pthread"], check=True)
    return target


def start(program, mode):
    return subprocess.Popen([program, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


@pytest.mark.parametrize("size", [1, 4096, 65536, 1_000_000])
def test_echo(program, size):
    content = random.Random(size).randbytes(size)
    process = start(program, "echo")
    reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.PIPE)
    process.stdout.close()
    at = 0
    while at < size:
        at += process.stdin.write(content[at:])
    assert reader.stdout.read(size) == content
    process.stdin.close()
    assert process.wait(SOON) == 0
    assert reader.stdout.read() == b"" and reader.wait() == 0
    reader.stdout.close()


@pytest.mark.parametrize("mode", ["idle", "sleep", "flood", "crawl"])
@pytest.mark.parametrize("pending", [0, 1, 10_000, 60_000])
def test_end_of_input(program, mode, pending):
    """With pending bytes, while asleep, and with a full output."""
    for delay in (0, 0.05, 0.2):
        with start(program, mode) as process:
            if pending:
                process.stdin.write(bytes(pending))
            time.sleep(delay)
            process.stdin.close()
            assert process.wait(SOON) == 0


@pytest.mark.parametrize("mode", ["idle", "sleep", "flood", "crawl"])
def test_host_that_reads_no_more(program, mode):
    """The other end of standard output closes alone, while bytes are pending; SIGPIPE is an end too."""
    for delay in (0, 0.05):
        with start(program, mode) as process:
            process.stdin.write(b"x")
            time.sleep(delay)
            process.stdout.close()
            assert process.wait(SOON) in (0, -13)


def test_an_input_that_is_a_file_ends_too(program, tmp_path):
    """Standard input that is a file: its bytes are read, and then the process ends."""
    (tmp_path / "bytes").write_bytes(bytes(1000))
    with (tmp_path / "bytes").open() as file:
        assert subprocess.run([program, "idle"], stdin=file, stdout=subprocess.PIPE, timeout=SOON).returncode == 0
    assert subprocess.run([program, "idle"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=SOON).returncode == 0


def test_no_end_while_the_host_holds_on(program):
    for mode in ("idle", "sleep", "flood", "crawl"):
        with start(program, mode) as process:
            process.stdin.write(bytes(100))
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.stdin.close()
            assert process.wait(SOON) == 0
