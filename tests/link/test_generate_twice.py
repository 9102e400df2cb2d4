# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host twice at one board: the second time no weights are sent; and a reset and an unplugging in the middle."""

import json
import os
import select
import threading
from contextlib import suppress
from pty import openpty
from tty import setraw

import pytest

from tellme.cli import main
from tests.cli.fake_board import FakeBoard


class Port:
    """A board at a pseudo terminal.  ``after_events``: what happens once, after so many events."""

    def __init__(self):
        self.fake = FakeBoard(self.say)
        self.after_events, self.happens = None, None
        self.board, self.host = openpty()
        setraw(self.host)
        self.path = os.ttyname(self.host)
        self.bytes = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with suppress(OSError, ValueError):
            while True:
                if not self.fake.busy or select.select([self.board], [], [], 0)[0]:
                    content = os.read(self.board, 65536)
                    self.bytes += len(content)
                    self.fake.hear(content)
                self.fake.step()
                if self.after_events is not None and self.fake.events >= self.after_events:
                    self.after_events = None
                    self.happens()

    def say(self, content):
        os.write(self.board, content)

    def reset(self):
        """A reset of the board: its memory is lost."""
        self.fake.client.memory[:] = bytes(len(self.fake.client.memory))
        self.fake.client.board = None
        self.fake.running = False
        self.fake.link.reset()

    def unplug(self):
        os.close(self.board)
        self.board = -1

    def close(self):
        # Before the next port gets the same numbers: the thread would serve that port too.
        ends, self.board, self.host = (self.board, self.host), -1, -1
        for end in ends:
            with suppress(OSError, ValueError):
                os.close(end)


@pytest.fixture
def port():
    made = Port()
    yield made
    made.close()


def generate(capsys, port, tokens=8):
    code = main(["generate", "--device", port.path, "--json", "--ignore-eos", "--max-tokens", str(tokens)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    lines = [json.loads(line) for line in captured.out.splitlines()]
    return code, [line["id"] for line in lines if line["type"] == "token"], lines[-1]


def test_the_second_time_no_weights_are_sent(port, capsys):
    code, first, _ = generate(capsys, port)
    sent, port.bytes = port.bytes, 0
    assert code == 0 and sent > 600_000
    assert generate(capsys, port)[:2] == (0, first)
    print(f"bytes that the host sent: {sent}, then {port.bytes}")
    assert port.bytes < 3000


def test_a_reset_in_the_middle_of_a_run_and_then_again(port, capsys):
    code, want, _ = generate(capsys, port)
    port.after_events, port.happens = port.fake.events + 3, port.reset
    code, tokens, last = generate(capsys, port)
    assert code == 2 and tokens == want[:len(tokens)]
    assert last == {**last, "type": "error", "message": f"{port.path}: the board was reset, and its memory is empty; start again"}
    assert generate(capsys, port)[:2] == (0, want)


def test_unplugged_in_the_middle_of_a_run(port, capsys):
    port.after_events, port.happens = 3, port.unplug
    code, tokens, last = generate(capsys, port)
    assert code == 2 and len(tokens) <= 3 and last["type"] == "error"
    assert f"{port.path} went away" in last["message"]
