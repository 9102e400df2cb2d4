# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Generate at a serial port: a board's packets on a pseudo terminal, and all that can be wrong at its end."""

import json
import os

import pytest

from tellme.cli import main
from tellme.errors import DeviceError
from tellme.link import discover, serial_port, serial_usb, transport
from tellme.link.serial_rules import rules_file
from tellme.link.transport import SerialTransport
from tellme.runtime import simulated
from tests.cli.fake_board import CORE
from tests.cli.fake_port import Port


@pytest.fixture
def port(request, monkeypatch):
    # Long enough for a busy computer; a board that is silent to HELLO is given up soon.
    monkeypatch.setattr("tellme.runtime.board.TERMINAL", {"timeout": 10.0, "hello_timeout": 2.0})
    monkeypatch.setattr(discover, "ASK_TIMEOUT", 2.0)
    made = Port(**getattr(request, "param", {}))
    yield made
    made.close()


def run(capsys, device, *args):
    code = main(["generate", "--device", device, "--json", *args])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err, captured.err
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_same_tokens_as_golden(port, capsys):
    args = ("--max-tokens", "8", "--prompt", "The cat", "--temperature", "0.8")
    code, lines, err = run(capsys, port.path, *args)
    _, golden, _ = run(capsys, "golden", *args)
    assert code == 0 and lines[1:-1] == golden[1:-1]
    start = lines[0]
    assert (start["device"], start["preset"], start["core_sha256"]) == (port.path, "ulx3s-85f-l8", CORE)
    assert f"device: the board at {port.path} (ulx3s-85f-l8), as asked for" in err
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
    ({"program_format": 2}, "runs programs of format 2, this tellme-host 3"),
    ({"program_format": 4}, "runs programs of format 4, this tellme-host 3"),
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


class Info:
    """What pyserial tells of a port; the USB id is that of the ULX3S and the Icepi Zero if none is given."""

    def __init__(self, device, product, number="0403:6015"):
        self.device, self.product = device, product
        self.vid, self.pid = (int(part, 16) for part in number.split(":")) if number else (None, None)


def known(monkeypatch, *found):
    monkeypatch.setattr(serial_usb.list_ports, "comports", lambda: [Info(*f) for f in found])


def test_auto_takes_the_one_known_board(port, capsys, monkeypatch):
    known(monkeypatch, ("/dev/ttyS9", None, ""), ("/dev/ttyACM9", "A modem"), (port.path, "ULX3S FPGA 85K v3.0.8"),
          # The name of a board with the id of another thing.
          ("/dev/ttyUSB9", "ULX3S FPGA 85K v3.0.8", "1234:5678"))
    code, lines, err = run(capsys, "auto", "--max-tokens", "2")
    assert code == 0 and lines[0]["device"] == port.path and "the one that is plugged in" in err


def test_auto_asks_which_of_two(capsys, monkeypatch):
    known(monkeypatch, ("/dev/ttyUSB0", "ULX3S FPGA 85K v3.0.8"), ("/dev/ttyUSB1", "ULX3S FPGA 12K v3.0.8"))
    code, _, err = run(capsys, "auto")
    assert code == 2 and err == (
        "tellme-host: 2 boards are plugged in; say which:\n  /dev/ttyUSB0    # ULX3S FPGA 85K v3.0.8\n"
        "  /dev/ttyUSB1    # ULX3S FPGA 12K v3.0.8 (--device PORT)\n")


@pytest.mark.parametrize("product", ["FT231X USB UART", None])
def test_auto_asks_ports_that_may_be_a_boards(port, product, capsys, monkeypatch):
    """An Icepi Zero has the default name of its serial chip, which other devices have too; some systems tell no name."""
    other = Port(chatter=b"login: \0root\0\1\2\3\0")
    try:
        known(monkeypatch, ("/dev/ttyNONE7", product), (other.path, product), (port.path, product), ("/dev/ttyS9", None, ""))
        code, lines, err = run(capsys, "auto", "--max-tokens", "2")
        assert code == 0 and lines[0]["device"] == port.path and "the one that is plugged in" in err
        known(monkeypatch, (other.path, product))
        assert discover.find_board() is None
        # If there is a port with a name that only a board has, no port is asked.
        known(monkeypatch, (other.path, product), ("/dev/ttyUSB3", "ULX3S FPGA 12K v3.0.8"))
        monkeypatch.setattr(discover, "answers", None)
        assert discover.find_board() == "/dev/ttyUSB3"
    finally:
        other.close()


def test_asking_opens_no_session(port, monkeypatch):
    """The board at a port that is asked may be in use by nobody yet, and stays so."""
    known(monkeypatch, (port.path, None))
    assert discover.find_board() == port.path and port.fake.link.session is None and port.fake.packets >= 1


def test_a_slow_latency_timer_is_told(port, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(serial_port, "SYSFS", tmp_path)
    timer = tmp_path / os.path.basename(port.path) / "device" / "latency_timer"
    timer.parent.mkdir(parents=True)
    timer.write_text("16\n")
    code, lines, err = run(capsys, port.path, "--max-tokens", "2")
    assert code == 0 and lines[-1]["generated_tokens"] == 2
    assert "up to 16 ms" in err and f"\n  echo 1 | sudo tee {timer}\n" in err and str(rules_file()) in err
    timer.write_text("1\n")
    assert "latency" not in run(capsys, port.path, "--max-tokens", "2")[2]


def test_a_port_without_permission(capsys, monkeypatch):
    def denied(*_, **__):
        raise transport.serial.SerialException(13, "could not open port")
    monkeypatch.setattr(transport.serial, "Serial", denied)
    known(monkeypatch, ("/dev/ttyUSB3", "ULX3S FPGA 12K v3.0.8"))
    code, lines, err = run(capsys, "auto")
    assert code == 2 and lines[-1]["type"] == "error"
    assert err.startswith("tellme-host: cannot open /dev/ttyUSB3: no permission. Install the rules 60-tellme.rules")
    assert f"\n  sudo cp {rules_file()} /etc/udev/rules.d/\n" in err and rules_file().is_file()


def test_a_port_in_use(port, capsys):
    other = SerialTransport(port.path)
    code, _, err = run(capsys, port.path)
    assert code == 2 and err == (f"tellme-host: cannot open {port.path}: another program uses the port; end that program first "
                                 f"(fuser {port.path} tells its number)\n")
    other.close()


def test_a_device_that_is_no_serial_port(capsys, tmp_path):
    (tmp_path / "notes.txt").touch()
    code, _, err = run(capsys, str(tmp_path / "notes.txt"))
    assert code == 2 and err == (
        f"tellme-host: cannot open {tmp_path}/notes.txt: this is no serial port; without a port's name a board is looked for, or "
        "the simulated one is used (--device auto)\n")


def test_a_port_that_goes_away_in_the_middle(port, capsys, monkeypatch):
    """The cable is pulled after three tokens; those that the host has not read by then are lost."""
    step = port.fake.step

    def pulled():
        if port.fake.events == 3:
            os.close(port.board)
        step()

    monkeypatch.setattr(port.fake, "step", pulled)
    code, lines, err = run(capsys, port.path, "--max-tokens", "30")
    port.board = os.open(os.devnull, os.O_RDONLY)
    first, *tokens, last = [line["type"] for line in lines]
    assert (code, first, last) == (2, "start", "error")
    assert tokens == ["token"] * len(tokens) and len(tokens) <= 3
    assert f"tellme-host: {port.path} went away while the host was " in err and "plug the board in again" in err


@pytest.mark.parametrize("port", [{"magic": b"elmt"}], indirect=True)
def test_another_thing_that_speaks_packets(port, capsys):
    code, _, err = run(capsys, port.path)
    assert code == 2 and err == f"tellme-host: {port.path} answers, but is no tellme board\n"


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
    assert code == 2 and "no preset is called 'nexys'; there are: ecp5-25f, ecpix5-85f" in err


def test_what_does_not_fit_is_refused_before_the_board_is_built(capsys, monkeypatch):
    def no_build(*_):
        raise AssertionError("built")
    monkeypatch.setattr(simulated, "build", no_build)
    code, _, err = run(capsys, "sim", "--preset", "sim-tiny")
    assert code == 2 and "dim is 192, and the build sim-tiny can do 128" in err
