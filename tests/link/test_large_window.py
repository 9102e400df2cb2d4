# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A memory of 512 MB, whose window has two names of 256 MB: the golden model's half of the link, and the host's."""

import random
import resource
from pathlib import Path
from zlib import crc32

import pytest

from tellme.link.client import BoardClient
from tellme.link.errors import LinkError
from tellme.link.framing import body, decode, encode, open_body
from tellme.spec.packets import NAK, SESSION, NakReason, PacketType
from tests.link.model_transport import Clock, ModelTransport
from tests.link.plain_board import PlainBoard

MEMORY, BORDER = 1 << 29, 1 << 28
#: Within the window: the first words, over the border, up to it, from it on, the last words.
INSIDE = [(0, 4), (0, 1024), (BORDER - 4, 8), (BORDER - 512, 1024), (BORDER - 1024, 1024), (BORDER, 4), (BORDER, 1024),
          (MEMORY - 1024, 1024), (MEMORY - 4, 4)]
#: Beyond it: a word, a range that ends a word behind, other windows' ends, and what 32 bits wrap around to.
BEYOND = [(MEMORY, 4), (MEMORY - 4, 8), (MEMORY - 1020, 1024), (MEMORY + BORDER, 4), (0x7FFF_FFFC, 4), (0x7FFF_FFFC, 8),
          (0xFFFF_FFFC, 8)]


def u32(value):
    return value.to_bytes(4, "little")


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Raw:
    """The board's answers to packets."""

    def __init__(self):
        self.board, self.seq = PlainBoard(memory=MEMORY), 0
        self.ask(PacketType.HELLO, SESSION.pack(7))

    def ask(self, kind, payload):
        frame, end = self.board.link.receive(encode(body(self.seq, kind, payload))).split(b"\0")
        seq, answer, content = open_body(decode(frame))
        assert seq == self.seq and end == b""
        if answer != PacketType.NAK:
            self.seq = (self.seq + 1) % 256
        return answer, content


def test_ranges_within_the_window():
    raw, memory = Raw(), {}
    for address, size in INSIDE:
        content = random.Random(address).randbytes(size)
        assert raw.ask(PacketType.WRITE, u32(address) + content) == (PacketType.ACK, b"")
        memory |= dict(zip(range(address, address + size), content, strict=True))
        for at, count in INSIDE:
            wanted = bytes(memory.get(i, 0) for i in range(at, at + count))
            assert raw.ask(PacketType.READ, u32(at) + count.to_bytes(2, "little")) == (PacketType.DATA, wanted)
            assert raw.ask(PacketType.CHECKSUM, u32(at) + u32(count)) == (PacketType.SUM, u32(crc32(wanted)))


@pytest.mark.parametrize(("address", "size"), BEYOND)
def test_ranges_beyond_the_window(address, size):
    raw = Raw()
    for kind, payload in ((PacketType.WRITE, bytes(size)), (PacketType.READ, size.to_bytes(2, "little")),
                          (PacketType.CHECKSUM, u32(size))):
        assert raw.ask(kind, u32(address) + payload) == (PacketType.NAK, NAK.pack(NakReason.ADDRESS, raw.seq))
    assert raw.board.writes == [] and raw.board.link.bad == 3


def test_the_host_over_the_border():
    client = BoardClient(ModelTransport(PlainBoard(memory=MEMORY), clock := Clock()), clock=clock)
    content = random.Random(1).randbytes(200_000)
    for at in (BORDER - 100_000, MEMORY - len(content)):
        client.write(at, content)
        assert client.read(at, len(content)) == content
        client.verify(at, content)
        assert client.checksum(at, len(content)) == crc32(content)
    with pytest.raises(LinkError):
        client.write(MEMORY - 4, bytes(8))


def test_a_board_of_512_mb_takes_what_is_written():
    """A page of the board's memory takes none of this process before it is written."""
    before = resident()
    raw = Raw()
    for address in range(0, MEMORY, 1 << 24):
        raw.ask(PacketType.WRITE, u32(address) + b"abcd")
    assert resident() - before < 64 << 20
