# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the host's half makes of the wire's rate, with a USB chip that holds answers back for 16 ms; simulated time."""

import random
from zlib import crc32

import pytest

from tellme.link.client import BoardClient
from tellme.link.window import Exchange
from tellme.spec.memory import TOKEN_BASE
from tests.link.model_transport import Clock
from tests.link.plain_board import PlainBoard
from tests.link.usb import BITS, UsbTransport

BAUD = 3e6
SIZE = 1 << 16


def bench(latency):
    clock, board = Clock(), PlainBoard()
    client = BoardClient(UsbTransport(board, clock, baud=BAUD, latency=latency), clock=clock)
    client.connect()
    return client, board, clock


def share(clock, begin: float, size: int) -> float:
    """Data's rate over the UART's rate."""
    return size * BITS / BAUD / (clock.now - begin)


@pytest.mark.parametrize("latency", [0.001, 0.016])
def test_64_kib_at_95_percent_of_the_wires_rate(latency):
    """Written and acknowledged, and read."""
    client, board, clock = bench(latency)
    content = random.Random(1).randbytes(SIZE)
    begin = clock.now
    client.write(0, content)
    wrote = share(clock, begin, SIZE)
    begin = clock.now
    assert client.read(0, SIZE) == content
    read = share(clock, begin, SIZE)
    print(f"latency {1000 * latency:.0f} ms: written at {wrote:.3f}, read at {read:.3f} of the UART's rate")
    assert wrote > 0.95 and read > 0.95


def test_what_fills_the_packet_is_needed(monkeypatch):
    monkeypatch.setattr(Exchange, "fill", lambda self: None)
    client, _, clock = bench(0.016)
    begin = clock.now
    client.write(0, bytes(64))
    assert clock.now - begin > 0.016


def test_few_packets_do_not_wait_for_the_chip():
    """Tokens written, a checksum, 32 checksums: each less than the chip's 16 ms."""
    client, board, clock = bench(0.016)
    for use in (lambda: client.write(TOKEN_BASE, bytes(64)), lambda: client.checksum(0, 64),
                lambda: client.checksums((at, 64) for at in range(0, 2048, 64)), client.status):
        begin = clock.now
        use()
        assert clock.now - begin < 0.004
    assert client.checksum(0, 64) == crc32(bytes(board.memory[0][:64]))
