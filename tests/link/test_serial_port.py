# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Serial ports as a transport: their rate, their latency timer, and what is said of each that does not work."""

import errno
import os
import pty
import re
import runpy
import stat
import time
import tty
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial

from tellme.boards import boards
from tellme.link import serial_port, serial_rules, serial_usb, transport
from tellme.link.errors import LinkError
from tellme.link.serial_port import is_terminal, latency_advice
from tellme.link.serial_usb import board_baud, usb_id
from tellme.link.transport import BAUD_RANGE, SerialTransport
from tellme.spec.ranges import RangeError

FTDI = "0403:6015"


@pytest.fixture
def terminal():
    """(path, master) of a raw pseudo terminal."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave), master
    for descriptor in (master, slave):
        try:
            os.close(descriptor)
        except OSError:
            pass


@pytest.fixture
def plugged(monkeypatch):
    """Makes the ports that there are: (name, USB id or nothing, product string or None)."""
    def plug(*found):
        def port(device, number, product):
            vid, pid = (int(part, 16) for part in number.split(":")) if number else (None, None)
            return SimpleNamespace(device=device, vid=vid, pid=pid, product=product)
        monkeypatch.setattr(serial_usb.list_ports, "comports", lambda: [port(*each) for each in found])
    return plug


@pytest.fixture
def fast(monkeypatch):
    """A board at 12 Mbaud whose chip is another."""
    ulx3s = next(board for board in boards() if board.key == "ulx3s")
    usb = replace(ulx3s.usb[0], id="0403:601c", product="Dual RS232-HS", own=False)
    made = replace(ulx3s, key="fast", name="Fast", baud=12_000_000, usb=(usb,))
    known = (*boards(), made)
    monkeypatch.setattr(serial_usb, "boards", lambda: known)
    return made




@pytest.fixture
def pyserial(monkeypatch):
    """pyserial's Serial as a fake: ``error`` is raised, or else the arguments of the opening are kept."""
    state = SimpleNamespace(error=None, opened=[], low_latency=[], refuses=None)

    class Fake:
        def __init__(self, *args, **options):
            state.opened.append((args, options))
            if state.error is not None:
                raise state.error

        def set_low_latency_mode(self, on):
            if state.refuses is not None:
                raise state.refuses
            state.low_latency.append(on)

    monkeypatch.setattr(transport.serial, "Serial", Fake)
    return state


def refusal(port):
    """What is said of a port that does not open."""
    with pytest.raises(LinkError) as caught:
        SerialTransport(port)
    assert str(caught.value).startswith(f"cannot open {port}: ")
    return str(caught.value).removeprefix(f"cannot open {port}: "), caught.value.hint


# ---------------------------------------------------------------- rate
def test_each_board_has_a_rate_and_ids():
    for board in boards():
        BAUD_RANGE.check(board.key, board.baud)
        assert board.usb and all(re.fullmatch("[0-9a-f]{4}:[0-9a-f]{4}", usb.id) for usb in board.usb)


@pytest.mark.parametrize(("found", "baud"), [
    (("/dev/ttyX0", "0403:601c", "Dual RS232-HS"), 12_000_000),
    # Some systems tell no product string.
    (("/dev/ttyX0", "0403:601c", None), 12_000_000),
    (("/dev/ttyX0", FTDI, "ULX3S FPGA 85K v3.0.8"), 3_000_000),
    (("/dev/ttyX0", "0403:601c", "Something else"), 3_000_000),
    (("/dev/ttyX0", "1234:601c", "Dual RS232-HS"), 3_000_000),
    (("/dev/ttyX0", "", None), 3_000_000),
    (("/dev/ttyX1", "0403:601c", "Dual RS232-HS"), 3_000_000),
])
def test_rate_of_the_board_that_the_id_names(found, baud, fast, plugged, pyserial):
    plugged(found)
    assert board_baud("/dev/ttyX0") == baud == SerialTransport("/dev/ttyX0").baud
    ((port, rate), options), = pyserial.opened
    assert (port, rate, options["exclusive"]) == ("/dev/ttyX0", baud, True)


def test_boards_of_several_rates_with_one_id(fast, plugged, monkeypatch):
    known = (*boards(), fast, replace(fast, baud=1_000_000))
    monkeypatch.setattr(serial_usb, "boards", lambda: known)
    plugged(("/dev/ttyX0", "0403:601c", "Dual RS232-HS"))
    assert board_baud("/dev/ttyX0") == 3_000_000


def test_a_port_by_a_link(fast, plugged, tmp_path):
    (tmp_path / "ttyX0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyX0")
    plugged((str(tmp_path / "ttyX0"), "0403:601c", "Dual RS232-HS"))
    assert board_baud(str(tmp_path / "by-id")) == 12_000_000 and usb_id(str(tmp_path / "by-id")) == "0403:601c"


def test_a_rate_that_is_asked_for(fast, plugged, pyserial):
    plugged(("/dev/ttyX0", "0403:601c", "Dual RS232-HS"))
    assert SerialTransport("/dev/ttyX0", 1_000_000).baud == 1_000_000
    with pytest.raises(RangeError, match="^baud: 12000001 is outside 9600 to 12000000$"):
        SerialTransport("/dev/ttyX0", 12_000_001)
    assert [args for args, _ in pyserial.opened] == [("/dev/ttyX0", 1_000_000)]


# ---------------------------------------------------------------- latency timer
@pytest.fixture
def timer(monkeypatch, tmp_path):
    """Sets the latency timer of ttyX0 in a sysfs of its own."""
    monkeypatch.setattr(serial_port, "SYSFS", tmp_path)
    (tmp_path / "ttyX0" / "device").mkdir(parents=True)
    return tmp_path / "ttyX0" / "device" / "latency_timer"


def test_low_latency_is_asked_for(pyserial):
    assert SerialTransport("/dev/ttyX0").advice == "" and pyserial.low_latency == [True]


@pytest.mark.parametrize("error", [ValueError("Failed to update ASYNC_LOW_LATENCY flag"), NotImplementedError(), OSError()])
def test_a_port_that_knows_no_low_latency(error, pyserial):
    pyserial.refuses = error
    assert SerialTransport("/dev/ttyX0").advice == ""


@pytest.mark.parametrize("content", ["1\n", "2\n", "0\n", "", "?"])
def test_a_timer_that_is_quick_or_not_there(content, timer):
    timer.write_text(content)
    assert latency_advice("/dev/ttyX0") == "" == latency_advice("/dev/ttyX9")


@pytest.mark.parametrize("ms", [3, 16, 255])
def test_a_slow_timer(ms, timer, pyserial):
    timer.write_text(f"{ms}\n")
    advice = SerialTransport("/dev/ttyX0").advice
    assert advice == (
        f"/dev/ttyX0: the serial chip keeps bytes back for up to {ms} ms (its latency timer), so tokens and answers may come "
        f"{ms} ms late. Until the board is unplugged, this mends it:\n"
        f"  echo 1 | sudo tee {timer}\n"
        "and for good, the rules 60-tellme.rules:\n"
        f"  sudo cp {serial_rules.rules_file()} /etc/udev/rules.d/\n"
        "  sudo udevadm control --reload && sudo udevadm trigger")


# ---------------------------------------------------------------- rules
def test_the_rules_are_those_of_the_boards():
    """After a change of boards.json: python -m tellme.link.serial_rules."""
    assert serial_rules.rules_file().read_text("utf-8") == serial_rules.rules()


def test_the_rules_are_written_to_the_packages_file(monkeypatch):
    written = []
    monkeypatch.setattr(Path, "write_text", lambda path, text, encoding: written.append((path, text, encoding)))
    with warnings.catch_warnings():
        # The module is there already, under its own name.
        warnings.simplefilter("ignore", RuntimeWarning)
        runpy.run_module("tellme.link.serial_rules", run_name="__main__")
    assert written == [(serial_rules.rules_file(), serial_rules.rules(), "utf-8")]


def test_the_rules_give_rights_and_a_quick_timer():
    lines = serial_rules.rules().splitlines()
    for usb in (usb for board in boards() for usb in board.usb):
        vendor, product = usb.id.split(":")
        own = [line for line in lines if f'idVendor}}=="{vendor}"' in line and f'idProduct}}=="{product}"' in line]
        assert [line.split(",")[0] for line in own] == ['SUBSYSTEM=="tty"', 'SUBSYSTEM=="usb"', 'SUBSYSTEM=="usb-serial"']
        assert own[0].endswith('TAG+="uaccess"') and own[1].endswith('TAG+="uaccess"')
        assert own[2].endswith('ATTR{latency_timer}="1"')
    # uaccess has no effect in a file behind systemd's 73-seat-late.rules.
    assert int(serial_rules.RULES[:2]) < 73 and max(map(len, lines)) < 200


# ---------------------------------------------------------------- ports that do not open
AUTO = "without a port's name a board is looked for, or the simulated one is used"


def test_no_such_port(tmp_path):
    assert refusal("/dev/ttyNONE7") == (f"there is no such port; {AUTO}", "auto")
    (tmp_path / "file").touch()
    assert refusal(str(tmp_path / "file" / "x")) == (f"there is no such port; {AUTO}", "auto")


@pytest.mark.parametrize("kind", ["file", "folder", "FIFO", "device"])
def test_no_serial_port(kind, tmp_path):
    path = tmp_path / "x"
    if kind == "file":
        path.touch()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = os.devnull
    assert refusal(str(path)) == (f"this is no serial port; {AUTO}", "auto")


def test_a_port_in_use(terminal):
    path, _ = terminal
    first = SerialTransport(path)
    assert refusal(path) == (f"another program uses the port; end that program first (fuser {path} tells its number)", "")
    first.close()
    SerialTransport(path).close()


@pytest.mark.parametrize("error", [
    serial.SerialException(errno.EBUSY, "could not open port"),
    serial.SerialException("could not open port 'COM3': PermissionError(13, 'Access is denied.')"),
])
def test_other_ways_to_say_in_use(error, pyserial):
    pyserial.error = error
    assert refusal("COM3")[0].startswith("another program uses the port")


def denied():
    return serial.SerialException(errno.EACCES, "could not open port /dev/ttyX0: [Errno 13] Permission denied: '/dev/ttyX0'")


def test_no_permission_for_a_boards_port(pyserial, plugged):
    pyserial.error = denied()
    plugged(("/dev/ttyX0", FTDI, "ULX3S FPGA 85K v3.0.8"))
    assert refusal("/dev/ttyX0") == (
        "no permission. Install the rules 60-tellme.rules, which let whoever sits at this computer use boards:\n"
        f"  sudo cp {serial_rules.rules_file()} /etc/udev/rules.d/\n"
        "  sudo udevadm control --reload && sudo udevadm trigger\n"
        "or join the group that owns the port, which helps over ssh too:\n"
        "  sudo usermod -aG dialout $USER    # and log in again", "")


def test_no_permission_for_another_port(pyserial, plugged, monkeypatch):
    """The rules would not help there; the group is the port's."""
    grp = pytest.importorskip("grp")
    pyserial.error = denied()
    plugged(("/dev/ttyX0", "1a86:7523", "USB Serial"))
    monkeypatch.setattr(serial_port.os, "stat", lambda path: SimpleNamespace(st_gid=77))
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name=f"group{number}"))
    assert refusal("/dev/ttyX0") == (
        "no permission. Join the group that owns the port:\n  sudo usermod -aG group77 $USER    # and log in again", "")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENXIO, errno.ENODEV])
def test_nothing_behind_a_port(number, pyserial):
    pyserial.error = serial.SerialException(number, "could not open port")
    assert refusal("/dev/ttyX0") == ("nothing is behind this port; plug the board in again", "")


def test_a_rate_that_the_port_cannot_do(pyserial):
    pyserial.error = ValueError("Failed to set custom baud rate (3000000): Invalid argument")
    assert refusal("/dev/ttyX0") == (f"the port cannot do 3000000 baud ({pyserial.error})", "")


def test_what_nobody_foresaw(pyserial):
    pyserial.error = serial.SerialException("the moon is full")
    assert refusal("/dev/ttyX0") == ("the moon is full; is it a serial port?", "")


# ---------------------------------------------------------------- bytes
@pytest.mark.parametrize("selects", [True, False])
def test_bytes_pass(selects, terminal, monkeypatch):
    monkeypatch.setattr(transport, "SELECTS", selects)
    path, board = terminal
    port = SerialTransport(path)
    every = bytes(range(256)) * 4
    port.write(every)
    assert os.read(board, 4096) == every
    began = time.monotonic()
    assert port.read(0.1) == b"" and 0.09 < time.monotonic() - began < 1
    assert port.read(0) == b""
    os.write(board, every)
    got = b""
    while len(got) < len(every):
        part = port.read(1)
        assert part
        got += part
    assert got == every
    port.close()


def test_a_port_that_goes_away(terminal):
    path, board = terminal
    port = SerialTransport(path)
    os.close(board)
    for act, what in ((lambda: port.read(1), "listening"), (lambda: port.write(b"x"), "sending")):
        with pytest.raises(LinkError, match=rf"^{path} went away while the host was {what} \(.*\); plug the board in again$"):
            act()
    port.close()


def test_a_port_that_takes_no_bytes(terminal, monkeypatch):
    monkeypatch.setattr(transport, "WRITE_TIMEOUT", 0.1)
    path, _ = terminal
    port = SerialTransport(path)
    with pytest.raises(LinkError, match=f"^{path} took no bytes for 0.1 s; plug the board in again$"):
        port.write(bytes(1 << 20))
    port.close()


def test_what_a_terminal_is(terminal, tmp_path):
    path, _ = terminal
    (tmp_path / "board").symlink_to(path)
    assert is_terminal(path) and is_terminal(str(tmp_path / "board"))
    assert not is_terminal("/dev/ttyUSB0") and not is_terminal("COM3") and not is_terminal("/dev/null")
    assert stat.S_ISCHR(os.stat(path).st_mode)
