# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A pseudo terminal as a serial port: every byte, hosts that come and go, hosts that hang, and the board's end."""

import os
import random
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest

from tellme.link.errors import LinkError
from tellme.link.serial_pty import PtyPort
from tellme.link.transport import SerialTransport

#: Seconds after which a host that has gone is noticed.
NOTICED = 0.3


class Board:
    """A board's end as two pipes, and the port that serves it, in a thread."""

    def __init__(self):
        hosts, self._sink = os.pipe()
        self._source, board = os.pipe()
        #: The board's ends.
        self.input, self.output = hosts, board
        self.port = PtyPort()
        self.path = self.port.path
        self.thread = threading.Thread(target=self.port.serve, args=(self._source, self._sink), daemon=True)
        self.thread.start()

    def read(self, size):
        """Bytes that came from hosts."""
        got = b""
        while len(got) < size:
            got += os.read(self.input, size - len(got))
        return got

    def end(self):
        """The board ends."""
        if self.output is not None:
            os.close(self.output)
            self.output = None
        self.thread.join(5)
        assert not self.thread.is_alive()

    def close(self):
        self.end()
        self.port.close()
        for descriptor in (self.input, self._source, self._sink):
            os.close(descriptor)


@pytest.fixture
def board():
    made = Board()
    yield made
    made.close()


def received(port, size):
    got = b""
    while len(got) < size:
        part = port.read(5)
        assert part, f"{len(got)} bytes of {size}"
        got += part
    return got


def test_every_byte_both_ways(board):
    content = random.Random(0).randbytes(200_000) + bytes(range(256)) + b"\r\n\n\r\3\4\x11\x13\x1a\x1c\x7f\xff\0"
    with_host = SerialTransport(board.path)
    for sends, takes in ((with_host.write, board.read), (lambda content: write_all(board.output, content),
                                                         lambda size: received(with_host, size))):
        sender = threading.Thread(target=sends, args=(content,))
        sender.start()
        assert takes(len(content)) == content
        sender.join()
    with_host.close()


def write_all(descriptor, content):
    while content:
        content = content[os.write(descriptor, content):]


def test_hosts_come_and_go(board):
    for number in range(3):
        host = SerialTransport(board.path)
        said = f"host {number}".encode()
        host.write(said)
        assert board.read(len(said)) == said
        os.write(board.output, said)
        assert received(host, len(said)) == said
        # What this host does not read is not for the next one.
        os.write(board.output, b"late" * 3000)
        host.close()
        time.sleep(NOTICED)
        # Nobody has the port open: lost, as at a serial port.
        write_all(board.output, b"nobody" * 100_000)
        time.sleep(NOTICED)


def test_the_last_bytes_of_a_host_that_goes_at_once(board):
    for _ in range(20):
        host = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
        os.write(host, b"stop")
        os.close(host)
        assert board.read(4) == b"stop"


def test_a_host_that_leaves_the_terminal_cooked(board):
    host = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    settings = termios.tcgetattr(host)
    settings[0] |= termios.ICRNL
    settings[3] |= termios.ECHO | termios.ICANON
    termios.tcsetattr(host, termios.TCSANOW, settings)
    time.sleep(NOTICED)
    os.close(host)
    time.sleep(NOTICED)
    host = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    os.write(board.output, b"\r")
    assert os.read(host, 10) == b"\r"
    os.set_blocking(board.input, False)
    with pytest.raises(BlockingIOError):
        os.read(board.input, 10)
    os.close(host)


def test_a_host_that_does_not_read_and_is_killed(board):
    host = subprocess.Popen([sys.executable, "-c", "import os, sys, time; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); "
                             "print('open', flush=True); time.sleep(600)", board.path], stdout=subprocess.PIPE)
    assert host.stdout.readline() == b"open\n"
    # More than terminal, port and pipe hold: the board has to wait until the host is gone.
    sender = threading.Thread(target=write_all, args=(board.output, bytes(2_000_000)), daemon=True)
    sender.start()
    sender.join(NOTICED)
    assert sender.is_alive()
    host.send_signal(signal.SIGKILL)
    sender.join(5)
    assert not sender.is_alive()
    host.wait()
    host.stdout.close()
    time.sleep(NOTICED)
    fresh = SerialTransport(board.path)
    os.write(board.output, b"hello")
    assert received(fresh, 5) == b"hello"
    fresh.close()


def test_a_board_that_does_not_read(board):
    """A host that sends has to wait, and nothing is lost."""
    host = SerialTransport(board.path)
    content = random.Random(1).randbytes(1_000_000)
    sender = threading.Thread(target=host.write, args=(content,), daemon=True)
    sender.start()
    sender.join(NOTICED)
    assert sender.is_alive()
    assert board.read(len(content)) == content
    sender.join()
    host.close()


def test_the_boards_end_is_the_ports(board):
    host = SerialTransport(board.path)
    os.write(board.output, b"last words")
    assert received(host, 10) == b"last words"
    board.end()
    board.port.close()
    with pytest.raises(LinkError, match="went away while the host was listening"):
        host.read(1)
    host.close()
    board.port = PtyPort()


def test_a_board_whose_input_closes(board):
    os.close(board.input)
    board.thread.join(5)
    assert not board.thread.is_alive()
    board.input = os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize("hosts", [0, 1])
def test_waits_without_work(hosts, board):
    host = SerialTransport(board.path) if hosts else None
    time.sleep(NOTICED)
    began = time.process_time()
    time.sleep(1)
    assert time.process_time() - began < 0.1
    if host:
        host.close()
