# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""However the host ends, within a second no process is left of the simulated board, or of the compilers that build it.

TELLME_TRIES=100 tries each way 100 times, as make test-long does (make nightly: 3); ``-s`` prints how long the ends took.
"""

import fcntl
import json
import os
import random
import re
import shutil
import struct
import subprocess
import termios
import time

import pytest

from tellme.link.framing import body, encode
from tellme.runtime.simulated import build, sim_command
from tellme.spec.config import SIMULATED, preset
from tellme.spec.memory import SDRAM_BASE
from tellme.spec.packets import DATA_MAX, SESSION, PacketType
from tests.cli.hosts import ENDS, INTERRUPTED, ROOT, SOON, Host, needs_proc, summary, tries
from tests.models.random_model import random_model

#: tests/cli/test_lifetime.py ends a host in the same ways, with boards and compilers that do nothing.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly, needs_proc]

DEVICE = f"device: the simulated board ({SIMULATED}), as asked for"
CORE = f"simulated board: core of preset {SIMULATED}"
#: Ways in which a board ends by itself, and the bytes that are pending then.
PENDING = ("bytes to the board", "packets in work", "answers to the host", "nothing, asleep")


@pytest.fixture(scope="module")
def board():
    """The command that starts the board, built if need be."""
    return build(*sim_command(preset(SIMULATED)))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model that is loaded at once."""
    path = tmp_path_factory.mktemp("model") / "small.tellme"
    random_model("plain").save(path)
    return path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout, in which no board is built."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("hw", "sim", "sw"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def packet(number, kind, payload):
    return encode(body(number % 256, kind, payload))


def write_packets(count):
    """WRITE packets, the first of them to address 0."""
    return b"".join(packet(n, PacketType.WRITE, (SDRAM_BASE + n * DATA_MAX).to_bytes(4, "little") + bytes(DATA_MAX))
                    for n in range(count))


def waiting(pipe):
    """Bytes in a pipe that nobody has read."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


@pytest.mark.parametrize("pending", PENDING)
def test_end_of_input(pending, board):
    rng, seconds = random.Random(pending), []
    for _ in range(tries(3)):
        with subprocess.Popen(board, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
            # A session: packet 0 comes next.
            process.stdin.write(b"\0" + packet(255, PacketType.HELLO, SESSION.pack(1)))
            assert process.stdout.read(1)
            if pending == "bytes to the board":
                process.stdin.write(write_packets(rng.randrange(1, 40)))
                time.sleep(rng.uniform(0, 0.3))
            elif pending == "packets in work":
                process.stdin.write(write_packets(1)[:rng.randrange(1, DATA_MAX)])
                time.sleep(rng.uniform(0, 0.3))
            elif pending == "answers to the host":
                process.stdin.write(write_packets(1))
                read = SDRAM_BASE.to_bytes(4, "little") + DATA_MAX.to_bytes(2, "little")
                process.stdin.write(b"".join(packet(n, PacketType.READ, read) for n in range(1, 101)))
                # Write until the pipe takes no more; its pages need not be full then.
                before = 0
                while before < 40_000 or waiting(process.stdout) > before:
                    assert process.poll() is None
                    before = waiting(process.stdout)
                    time.sleep(0.5)
            else:
                time.sleep(0.5)
            began = time.monotonic()
            process.stdin.close()
            try:
                assert process.wait(SOON) == 0
            finally:
                process.kill()
            seconds.append((time.monotonic() - began,) * 2)
    summary(f"end of input, {pending}", seconds)


def test_end_of_input_before_the_board_runs(board):
    """``python -m sim.board``: while Python starts, imports modules and looks for the binary, and when the binary runs."""
    command, root, env = sim_command(preset(SIMULATED))
    rng, seconds = random.Random(0), []
    for _ in range(tries(3)):
        with subprocess.Popen(command, cwd=root, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            time.sleep(rng.uniform(0, 1))
            began = time.monotonic()
            process.stdin.close()
            try:
                assert process.wait(SOON) in (0, 130)
                assert process.stderr.read() in ("", f"{CORE}\n")
            finally:
                process.kill()
            seconds.append((time.monotonic() - began,) * 2)
    summary("end of input, starting", seconds)


@pytest.mark.parametrize("kind", ENDS)
def test_while_the_board_loads(kind, board, tmp_path):
    rng, seconds = random.Random(kind), []
    for _ in range(tries(1)):
        host = Host(tmp_path, ["generate", "--device", "sim", "--model", "stories-1m"])
        host.board(f"^{re.escape(board[0])} ")
        time.sleep(rng.uniform(0, 2))
        seconds.append(host.end(kind, rng))
        assert host.lines() == [DEVICE, CORE, *([INTERRUPTED] if kind != "SIGKILL" else [])]
    summary(f"loading, {kind}", seconds)


@pytest.mark.parametrize("kind", ENDS)
def test_while_the_board_generates(kind, board, small, tmp_path):
    rng, seconds = random.Random(kind), []
    for _ in range(tries(1)):
        host = Host(tmp_path, ["generate", "--device", "sim", "--model", str(small), "--prompt-ids", "1", "--ignore-eos",
                               "--max-tokens", "30", "--json"])
        assert json.loads(host.line())["type"] == "start"
        time.sleep(rng.uniform(0, 0.3))
        seconds.append(host.end(kind, rng))
    summary(f"generating, {kind}", seconds)


#: Parts of a build, by what runs then.
COMPILERS = ("sim.board", "verilator", "make", "cc1plus")


@pytest.mark.parametrize("kind", ENDS)
def test_while_the_board_is_built(kind, checkout, small, tmp_path):
    """Neither a scratch folder nor a half-built board is left."""
    rng, seconds = random.Random(kind), []
    for number in range(min(tries(1), 10)):
        host = Host(tmp_path, ["generate", "--device", "sim", "--preset", "sim-tiny", "--model", str(small)], root=checkout)
        host.board(COMPILERS[(number + list(ENDS).index(kind)) % len(COMPILERS)])
        time.sleep(rng.uniform(0, 1))
        seconds.append(host.end(kind, rng))
        kept = [path.name for path in checkout.glob("build/board/*/*")]
        assert kept in ([], ["build.log"]), kept
    summary(f"building, {kind}", seconds)


def test_a_build_after_one_that_was_killed_with_its_host(checkout, small, tmp_path):
    """After a kill, where nothing could clean up: the next build removes what is left and builds the board."""
    arguments = ["generate", "--device", "sim", "--preset", "sim-tiny", "--model", str(small), "--prompt-ids", "1",
                 "--max-tokens", "2"]
    host = Host(tmp_path, arguments, root=checkout)
    host.board("cc1plus")
    host.kill()
    # None where the compilers' watch was quicker than the signal.
    assert len(list(checkout.glob("build/board/*/build-*"))) <= 1
    host = Host(tmp_path, arguments, root=checkout)
    assert host.process.wait() == 0, host.errors()
    assert sorted(path.name for path in checkout.glob("build/board/*/*")) == ["board", "build.log"]
    host.gone(time.monotonic())
    assert os.access(next(checkout.glob("build/board/*/board")), os.X_OK)
