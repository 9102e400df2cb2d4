# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""However the host ends, within a second no process is left of it; here with a board and a build that do nothing.

tests/board/test_lifetime.py does the same with the simulated board itself.
"""

import json
import os
import pty
import random
import select
import signal
import time

import pytest

from tellme.cli import interrupts, main
from tellme.link.errors import LinkError
from tellme.link.process import how_it_ended
from tellme.link.transport import ProcessTransport
from tests.cli.fake_board import READY
from tests.cli.hosts import ENDS, INTERRUPTED, SOON, Host, needs_proc, tries

pytestmark = needs_proc

DEVICE = "device: the simulated board (ulx3s-85f-l2), as asked for"
#: tellme-host with tests/cli/fake_board.py as the simulated board; before its arguments: how that board is.
FAKE_BOARD = """
import sys
from tellme.cli import main
from tellme.runtime import simulated
how = sys.argv.pop(1).split()
simulated.build = lambda *_: [sys.executable, "-m", "tests.cli.fake_board", *how]
sys.exit(main())
"""
#: tellme-host with a build of the simulated board whose compilers sleep; before its arguments: the scratch folder's place.
FAKE_BUILD = """
import sys
from tellme.cli import main
from tellme.runtime import simulated
BUILD = '''
import subprocess, sys
from pathlib import Path
from sim.board import __main__, build
place = Path(sys.argv.pop(1))
def build_board(config):
    with build.space_free_folder(place) as scratch:
        (scratch / "object").write_bytes(bytes(1000))
        print("fake build: compiling", file=sys.stderr, flush=True)
        subprocess.run(["sh", "-c", "sleep 600 & sleep 600 & wait"], check=True)
build.build_board = build_board
sys.exit(__main__.main())
'''
place, real = sys.argv.pop(1), simulated.sim_command
def sim_command(config, preload=None):
    command, root, env = real(config, preload)
    return [command[0], "-c", BUILD, place, *command[3:]], root, env
simulated.sim_command = sim_command
sys.exit(main())
"""
#: tellme-host with a command that hangs on its way out.
HANGS = """
import sys, time
import tellme.cli
tellme.cli.interrupts.PATIENCE = 0.5
def hang(args):
    try:
        with tellme.cli.interrupts.held():
            print("ready", flush=True)
        time.sleep(600)
    finally:
        print("on its way out", flush=True)
        time.sleep(600)
tellme.cli.run_command = hang
sys.exit(tellme.cli.main())
"""


def loading(folder, how="slow"):
    """A host whose board takes the model."""
    host = Host(folder, [how, "generate", "--device", "sim"], program=("-c", FAKE_BOARD))
    host.until(lambda: READY in host.errors())
    return host


def generating(folder):
    """A host whose board generates."""
    host = Host(folder, ["slow", "generate", "--device", "sim", "--json", "--ignore-eos", "--max-tokens", "400"],
                program=("-c", FAKE_BOARD))
    for kind in ("start", "token"):
        assert json.loads(host.line())["type"] == kind
    return host


@pytest.mark.parametrize("kind", ENDS)
def test_while_the_board_loads(kind, tmp_path):
    rng = random.Random(kind)
    for _ in range(tries(1)):
        host = loading(tmp_path)
        time.sleep(rng.uniform(0, 0.5))
        host.end(kind, rng)
        assert host.lines() == [DEVICE, READY, *([INTERRUPTED] if kind != "SIGKILL" else [])]


@pytest.mark.parametrize("kind", ENDS)
def test_while_the_board_generates(kind, tmp_path):
    rng = random.Random(kind)
    for _ in range(tries(1)):
        host = generating(tmp_path)
        time.sleep(rng.uniform(0, 0.3))
        host.end(kind, rng)


def test_text_so_far_is_kept(tmp_path):
    """One Ctrl-C while the board generates: the run is stopped, and its tokens and numbers are printed."""
    host = generating(tmp_path)
    host.send(signal.SIGINT)
    lines = [json.loads(line) for line in iter(host.line, b"")]
    assert host.process.wait(SOON) == 130 and lines[-1]["stop_reason"] == "interrupted"
    assert [line["id"] for line in lines[:-1]] == lines[-1]["token_ids"][1:]
    host.gone(time.monotonic())


@pytest.mark.parametrize("kind", ["ctrl-c", "ctrl-c twice", "SIGTERM"])
def test_a_board_that_does_not_end_is_killed(kind, tmp_path):
    host = loading(tmp_path, "stubborn")
    host.end(kind, random.Random(1), 2 * SOON)
    assert host.lines() == [DEVICE, READY, INTERRUPTED]


@pytest.mark.parametrize("kind", ENDS)
def test_while_the_board_is_built(kind, tmp_path):
    """Its compilers end too, and their scratch folder is gone."""
    rng = random.Random(kind)
    place = tmp_path / "place"
    place.mkdir()
    for _ in range(tries(1)):
        host = Host(tmp_path, [str(place), "generate", "--device", "sim"], program=("-c", FAKE_BUILD))
        host.until(lambda host=host: "fake build: compiling" in host.errors())
        assert len(list(place.iterdir())) == 1
        time.sleep(rng.uniform(0, 0.1))
        host.end(kind, rng)
        assert host.lines() == [DEVICE, "fake build: compiling", *([INTERRUPTED] if kind != "SIGKILL" else [])]
        assert list(place.iterdir()) == []


@pytest.mark.parametrize(("number", "message"), [
    (signal.SIGKILL, "the build of the simulated board was ended by SIGKILL; if nobody ended it, the memory may have run out: "
                     "close other programs, and start again"),
    (signal.SIGTERM, "the simulated board could not be built; the messages above say why"),
])
def test_a_build_that_is_ended(number, message, tmp_path):
    host = Host(tmp_path, [str(tmp_path), "generate", "--device", "sim"], program=("-c", FAKE_BUILD))
    host.until(lambda: "fake build: compiling" in host.errors())
    os.kill(host.board("--build-only"), number)
    host.gone(time.monotonic())
    assert host.process.returncode == 2
    assert host.lines() == [DEVICE, "fake build: compiling", f"tellme-host: {message}"]


def test_a_board_that_ends_by_itself(tmp_path):
    host = Host(tmp_path, ["exit 3", "generate", "--device", "sim"], program=("-c", FAKE_BOARD))
    host.until(lambda: "last words" in host.errors())
    host.gone(time.monotonic())
    assert host.process.returncode == 2
    assert host.lines() == [
        DEVICE, READY, "fake board: last words", "tellme-host: the simulated board ended unexpectedly (exit code 3): its last "
        "words are above; start again, and report it if it ends again"]


def test_a_board_of_another_format(tmp_path):
    host = Host(tmp_path, ["format 1", "generate", "--device", "sim"], program=("-c", FAKE_BOARD))
    host.process.wait(SOON * 10)
    assert host.process.returncode == 2
    assert host.lines() == [
        DEVICE, READY, "tellme-host: the core at the simulated board runs programs of format 1, this tellme-host 3: build its "
        "bitstream from this version of tellme and load it, or use the tellme-host that belongs to the bitstream"]


@pytest.mark.parametrize("stage", [loading, generating])
@pytest.mark.parametrize(("number", "message"), [
    (signal.SIGKILL, "the simulated board was ended by SIGKILL; if nobody ended it, the memory may have run out: close other "
                     "programs, and start again"),
    (signal.SIGSEGV, "the simulated board ended unexpectedly (SIGSEGV): its last words are above; start again, and report it if "
                     "it ends again"),
])
def test_a_board_that_is_ended(stage, number, message, tmp_path):
    host = stage(tmp_path)
    os.kill(host.board("fake_board"), number)
    host.gone(time.monotonic())
    assert host.process.returncode == 2
    assert host.lines() == [DEVICE, READY, f"tellme-host: {message}"]


def test_a_board_that_does_not_start(tmp_path):
    with pytest.raises(LinkError) as caught:
        ProcessTransport([str(tmp_path / "board")])
    assert str(caught.value) == ("the simulated board did not start: [Errno 2] No such file or directory: "
                                 f"{str(tmp_path / 'board')!r}")


def test_closing_twice_and_what_has_ended():
    transport = ProcessTransport(["true"])
    with pytest.raises(LinkError, match=r"^the simulated board ended unexpectedly \(exit code 0\): "):
        transport.read(5)
    for _ in range(2):
        transport.close()


def test_a_board_that_closes_its_output_alone():
    transport = ProcessTransport(["sh", "-c", "exec >&-; sleep 600"])
    began = time.monotonic()
    with pytest.raises(LinkError, match=r"^the simulated board ended unexpectedly \(it closed its output\): "):
        transport.read(5)
    assert time.monotonic() - began < SOON
    transport.close()


def test_ends_in_words():
    assert [how_it_ended(code) for code in (0, 3, -9, -40)] == ["exit code 0", "exit code 3", "SIGKILL", "signal 40"]


def test_a_terminal_that_closes(tmp_path):
    """The host is the leader of its session in the terminal: it gets SIGHUP and cannot print any more."""
    master, terminal = pty.openpty()
    program = f"import os, sys\nos.login_tty({terminal})\nos.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])"
    host = Host(tmp_path, [FAKE_BOARD, "slow", "generate", "--device", "sim"], program=("-c", program), inherited=(terminal,))
    os.close(terminal)
    heard = b""
    while READY.encode() not in heard:
        assert select.select([master], [], [], 60)[0]
        heard += os.read(master, 4096)
    assert host.board("fake_board")
    began = time.monotonic()
    os.close(master)
    host.gone(began)
    assert host.process.returncode == 130 and host.errors() == ""


def test_signals_that_are_ignored_stay_so(tmp_path):
    """Ignored signals, as with nohup."""
    program = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + FAKE_BOARD
    host = Host(tmp_path, ["slow", "generate", "--device", "sim"], program=("-c", program))
    host.until(lambda: READY in host.errors())
    host.send(signal.SIGHUP)
    time.sleep(0.3)
    assert host.process.poll() is None
    host.end("ctrl-c", random.Random(1))


def test_a_way_out_that_hangs(tmp_path):
    """A second signal does not cut the way out short; a signal after some time does."""
    host = Host(tmp_path, ["inspect"], program=("-c", HANGS))
    assert host.line() == b"ready\n"
    host.send(signal.SIGINT)
    assert host.line() == b"on its way out\n"
    host.send(signal.SIGINT)
    time.sleep(0.7)
    assert host.process.poll() is None
    host.end("ctrl-c", random.Random(1))
    assert host.lines() == []


def test_a_caller_keeps_its_signal_handlers(capsys):
    before = [signal.getsignal(number) for number in interrupts.SIGNALS]
    assert main(["inspect", "stories-1m", "--json"]) == 0
    assert main(["nothing"]) == 2
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before
