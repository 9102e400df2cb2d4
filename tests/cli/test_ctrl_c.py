# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One Ctrl-C stops the board within a token and leaves it usable: every command that runs a board, at a serial port.

The board outlives the host here, as a real one does.
"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path

import pytest

from tellme.cli import main
from tellme.spec.memory import COUNTER_BASE, CRC_BASE
from tests.cli.fake_board import FakeBoard
from tests.models.test_chat import CHAT

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": f"{ROOT / 'sw'}:{ROOT}"}
#: Seconds that the board takes for a token, and for a packet while it is slow.
TOKEN, PACKET = 0.1, 0.02


class Port:
    """A board at a pseudo terminal, in a thread: it hears the host between tokens.  ``events``: when each was said."""

    def __init__(self):
        self.fake = FakeBoard(self.say)
        read = self.fake.client.read
        # Counters that stand still: what bench reads between its runs.
        self.fake.client.read = lambda at, size: bytes(size) if COUNTER_BASE <= at < CRC_BASE else read(at, size)
        self.board, self.host = pty.openpty()
        tty.setraw(self.host)
        self.path = os.ttyname(self.host)
        self.slow_packets = False
        self.events, self._ended = [], False
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()

    def serve(self):
        while not self._ended:
            ready, _, _ = select.select([self.board], [], [], TOKEN if self.fake.busy else 0.05)
            if ready:
                if self.slow_packets:
                    time.sleep(PACKET)
                self.fake.hear(os.read(self.board, 65536))
                # A STOP is heard between steps; EVENTS may ask for events again.
                if not self.fake.busy or self.fake._stopped:
                    self.fake.step()
            elif self.fake.busy:
                self.fake.step()
                self.events.append(time.monotonic())

    def say(self, content):
        os.write(self.board, content)

    def close(self):
        self._ended = True
        self._thread.join()
        os.close(self.board)
        os.close(self.host)


@pytest.fixture
def port():
    made = Port()
    yield made
    made.close()


@pytest.fixture
def files(tmp_path):
    CHAT.save(tmp_path / "chat.tellme")
    (tmp_path / "text.txt").write_text("Once upon a time, there was a little girl. " * 4)
    return tmp_path


#: Command -> its arguments, and whether it is in a run when it is interrupted.
COMMANDS = {
    "generate": (["--ignore-eos", "--max-tokens", "400"], True),
    "generate --interactive": (["--ignore-eos", "--max-tokens", "400"], True),
    "chat": (["--model", "{files}/chat.tellme", "--max-tokens", "400"], True),
    "perplexity": (["--text", "{files}/text.txt"], True),
    "load": (["stories-8m"], False),
    "bench": (["--positions", "0", "--prompt-tokens", "1,2,3,4,5,6,7,8,9,10,11,12"], True),
    "selftest": ([], False),
}


def until(ready, process, seconds=60.0):
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


@pytest.mark.parametrize("command", COMMANDS)
def test_one_ctrl_c(command, port, files, capsys):
    arguments, runs = COMMANDS[command]
    port.slow_packets = not runs
    process = subprocess.Popen([sys.executable, "-m", "tellme.cli", *command.split(), "--device", port.path,
                                *(a.format(files=files) for a in arguments)], env=ENV, cwd=ROOT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if command == "chat":
        process.stdin.write("Hello\n")
        process.stdin.flush()
    until(lambda: port.fake.running and port.fake.events > 2 if runs else port.fake.packets > 10, process)
    port.slow_packets = False
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    if command in ("chat", "generate --interactive"):
        # The text ends, and the command goes on with the next line.
        until(lambda: not port.fake.running, process)
        process.stdin.close()
        process.stdin = None
    out, err = process.communicate(timeout=10)
    assert process.returncode == (0 if command in ("chat", "generate --interactive") else 130), err
    assert "Traceback" not in err and out.count("interrupted") == 0
    # The token that was in work and DONE, and what a loaded computer takes to hear the signal.
    assert not port.fake.running
    late = [at for at in port.events if at > began]
    assert len(late) <= 2 + (0.5 // TOKEN), late
    # The same board goes on: the next host gets the golden model's tokens.
    generate = ["generate", "--max-tokens", "4", "--json", "--device"]
    assert main([*generate, port.path]) == 0
    got = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main([*generate, "golden"]) == 0
    wanted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert got[1:-1] == wanted[1:-1]
