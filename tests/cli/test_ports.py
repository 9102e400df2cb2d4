# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Generate at a serial port: a board's packets on a pseudo terminal, and all that can be wrong at its end."""

import json
import os
import pty
import select
import threading
import tty

import pytest

from tellme.cli import main
from tellme.errors import DeviceError
from tellme.link import client, discover
from tellme.runtime import simulated
from tellme.spec.packets import PROTOCOL_VERSION
from tellme.spec.program import FORMAT_VERSION
from tests.cli.fake_board import CORE, FakeBoard


class Port:
    """The board's end of a pseudo terminal.

    ``preset``: what HELLO says; ``silent_after``: events after which nothing is said any more.
    """

    def __init__(self, *, name="ulx3s-85f", version=PROTOCOL_VERSION, program_format=FORMAT_VERSION, silent_after=None,
                 chatter=b""):
        self.fake = FakeBoard(self.say, name=name, version=version, program_format=program_format)
        self.silent_after = silent_after
        self.board, self.host = pty.openpty()
        tty.setraw(self.host)
        self.path = os.ttyname(self.host)
        self.chatter = chatter
        self.stopped = False
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                content = os.read(self.board, 65536)
                if self.chatter:
                    self.say(self.chatter)
                    continue
                self.fake.hear(content)
                self.fake.step()
                while self.fake.busy and not select.select([self.board], [], [], 0)[0]:
                    self.fake.step()
            except OSError:
                return

    def say(self, content):
        if self.silent_after is None or self.fake.events <= self.silent_after:
            os.write(self.board, content)

    def close(self):
        os.close(self.board)
        os.close(self.host)


@pytest.fixture
def port(request, monkeypatch):
    defaults = client.BoardClient.__init__.__kwdefaults__
    monkeypatch.setattr(client.BoardClient.__init__, "__kwdefaults__", {**defaults, "timeout": 1.0})
    made = Port(**getattr(request, "param", {}))
    yield made
    made.close()


def run(capsys, device, *args):
    code = main(["generate", "--device", device, "--json", *args])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_same_tokens_as_golden(port, capsys):
    args = ("--max-tokens", "8", "--prompt", "The cat", "--temperature", "0.8")
    code, lines, err = run(capsys, port.path, *args)
    _, golden, _ = run(capsys, "golden", *args)
    assert code == 0 and lines[1:-1] == golden[1:-1]
    start = lines[0]
    assert (start["device"], start["preset"], start["core_sha256"]) == (port.path, "ulx3s-85f", CORE)
    assert f"device: the board at {port.path} (ulx3s-85f), as asked for" in err
    assert lines[-1]["board_tokens_per_second"] > 0 and lines[-1]["sim_khz"] is None


def test_greedy(port, capsys):
    _, lines, _ = run(capsys, port.path, "--max-tokens", "8")
    _, golden, _ = run(capsys, "golden", "--max-tokens", "8")
    assert lines[1:-1] == golden[1:-1]


def test_a_port_that_does_not_exist(capsys):
    code, lines, err = run(capsys, "/dev/ttyNONE7")
    assert code == 2 and "cannot open /dev/ttyNONE7: there is no such port" in err
    assert lines[-1]["type"] == "error"


@pytest.mark.parametrize("port", [{"chatter": b"login: \0root\0\1\2\3\0"}], indirect=True)
def test_a_port_that_answers_garbage(port, capsys):
    code, lines, err = run(capsys, port.path)
    assert code == 2 and "answers garbage" in err and [line["type"] for line in lines] == ["error"]


@pytest.mark.parametrize("port", [{"silent_after": -1}], indirect=True)
def test_a_port_where_nobody_is(port, capsys):
    code, _, err = run(capsys, port.path)
    assert code == 2 and "does not answer" in err


@pytest.mark.parametrize("port", [{"silent_after": 3}], indirect=True)
def test_a_board_that_goes_silent_in_the_middle(port, capsys):
    code, lines, err = run(capsys, port.path, "--max-tokens", "30")
    assert code == 2 and "does not answer" in err
    assert [line["type"] for line in lines] == ["start", "token", "token", "token", "error"]


@pytest.mark.parametrize(("port", "says"), [
    # What came before format 2 knew no number of a format.
    ({"version": 1, "program_format": 0}, "speaks protocol 1, this tellme-host 3"),
    ({"version": 9}, "speaks protocol 9, this tellme-host 3"),
    ({"program_format": 1}, "runs programs of format 1, this tellme-host 2"),
    ({"program_format": 3}, "runs programs of format 3, this tellme-host 2"),
], indirect=["port"])
def test_a_board_of_another_version(port, says, capsys):
    code, lines, err = run(capsys, port.path)
    message = (f"the core at {port.path} {says}: build its bitstream from this version of tellme and load it, or use the "
               "tellme-host that belongs to the bitstream")
    assert code == 2 and err.splitlines()[-1] == f"tellme-host: {message}"
    assert [(line["type"], line["message"]) for line in lines] == [("error", message)]
    # Nothing is written to such a board.
    assert port.fake.packets == 1


@pytest.mark.parametrize("port", [{"name": "elsewhere"}], indirect=True)
def test_a_board_of_an_unknown_preset(port, capsys):
    code, _, err = run(capsys, port.path)
    assert code == 2 and "a preset that this tellme-host does not know" in err


def known(monkeypatch, *found):
    class Info:
        def __init__(self, device, product):
            self.device, self.product = device, product
    monkeypatch.setattr(discover.list_ports, "comports", lambda: [Info(*f) for f in found])


def test_auto_takes_the_one_known_board(port, capsys, monkeypatch):
    known(monkeypatch, ("/dev/ttyS9", None), ("/dev/ttyACM9", "A modem"), (port.path, "ULX3S FPGA 85K v3.0.8"))
    code, lines, err = run(capsys, "auto", "--max-tokens", "2")
    assert code == 0 and lines[0]["device"] == port.path and "the one that is plugged in" in err


def test_auto_asks_which_of_two(capsys, monkeypatch):
    known(monkeypatch, ("/dev/ttyUSB0", "ULX3S FPGA 85K v3.0.8"), ("/dev/ttyUSB1", "ULX3S FPGA 12K v3.0.8"))
    code, _, err = run(capsys, "auto")
    assert code == 2 and err == (
        "tellme-host: 2 boards are plugged in; say which:\n  /dev/ttyUSB0    # ULX3S FPGA 85K v3.0.8\n"
        "  /dev/ttyUSB1    # ULX3S FPGA 12K v3.0.8 (--device PORT)\n")


def test_auto_asks_ports_whose_name_a_board_shares_with_other_things(port, capsys, monkeypatch):
    """An Icepi Zero has its serial chip's default name, which other devices with this chip have too."""
    other = Port(chatter=b"login: \0root\0\1\2\3\0")
    monkeypatch.setattr(discover, "ASK_TIMEOUT", 0.2)
    try:
        known(monkeypatch, ("/dev/ttyNONE7", "FT231X USB UART"), (other.path, "FT231X USB UART"), (port.path, "FT231X USB UART"))
        code, lines, err = run(capsys, "auto", "--max-tokens", "2")
        assert code == 0 and lines[0]["device"] == port.path and "the one that is plugged in" in err
        known(monkeypatch, (other.path, "FT231X USB UART"))
        assert discover.find_board() is None
        # If there is a port with a name that only a board has, no port is asked.
        known(monkeypatch, (other.path, "FT231X USB UART"), ("/dev/ttyUSB3", "ULX3S FPGA 12K v3.0.8"))
        monkeypatch.setattr(discover, "answers", None)
        assert discover.find_board() == "/dev/ttyUSB3"
    finally:
        other.close()


def test_auto_without_a_board_is_the_simulated_one_and_says_so(capsys, monkeypatch):
    known(monkeypatch, ("/dev/ttyACM9", "A modem"))

    def no_build(*_):
        raise DeviceError("no build in this test")

    monkeypatch.setattr(simulated, "build", no_build)
    code, _, err = run(capsys, "auto")
    assert code == 2 and "device: the simulated board (ulx3s-85f-l2), as no board is plugged in" in err


def test_outside_a_checkout_sim_says_what_to_type(capsys, monkeypatch):
    monkeypatch.setattr(simulated, "checkout", lambda: None)
    code, lines, err = run(capsys, "sim")
    assert code == 2 and "make demo" in err and "--device golden" in err and lines[-1]["type"] == "error"


def test_unknown_preset(capsys):
    code, _, err = run(capsys, "sim", "--preset", "nexys")
    assert code == 2 and "no preset is called 'nexys'; there are: ecp5-25f, sim-tiny, ulx3s-85f" in err


def test_what_does_not_fit_is_refused_before_the_board_is_built(capsys, monkeypatch):
    def no_build(*_):
        raise AssertionError("built")
    monkeypatch.setattr(simulated, "build", no_build)
    code, _, err = run(capsys, "sim", "--preset", "sim-tiny")
    assert code == 2 and "dim is 192, and the build sim-tiny can do 128" in err
