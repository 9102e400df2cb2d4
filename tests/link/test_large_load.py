# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A load of 420 MB, of which the board holds all but some regions: packets, memory of the host, and where it goes on.

By night, because the sums over 420 MB take seven seconds of a CPU.  In CI ``test_client`` cuts the load of a small model short.
"""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from tellme.compiler.image import compile_model
from tellme.compiler.part import CHUNK_BYTES, Part
from tellme.link.client import REGION, BoardClient
from tellme.link.errors import LinkError
from tellme.models.shipped import find_model
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tellme.spec.packets import DATA_MAX, PacketType
from tests.link.model_transport import Clock, ModelTransport
from tests.link.plain_board import PlainBoard

#: Bytes of the image: the body of BitNet 2B-4T.
SIZE = 420_000_000
#: Bytes that the board lacks from the border of the two names of its window on, and at the end.
BORDER, HOLE, REST = 1 << 28, 3 * REGION, 2_000_000


def content(at, size):
    """The image's bytes from ``at`` on: each word is another one."""
    words = np.arange(at // 4, (at + size) // 4, dtype="<u4")
    return (words * np.uint32(2654435761)).view(np.uint8)


def pieces():
    for at in range(0, SIZE, CHUNK_BYTES):
        yield content(at, min(CHUNK_BYTES, SIZE - at))


class Cut(ModelTransport):
    """Goes away after so many bytes of the host; counts packets by their first bytes."""

    left = None

    def write(self, frames):
        if self.left is not None and self.sent > self.left:
            raise LinkError("went away")
        super().write(frames)


@pytest.fixture(scope="module")
def image():
    small = compile_model(find_model("stories-1m"), preset("ulx3s-85f"))
    return replace(small, sections=((0, Part(SIZE, pieces)),), end=SIZE)


def load(board, image, left=None):
    """Load with a new client; the device, the kinds of the packets that the board did, and what progress heard."""
    clock, kinds, heard = Clock(), [], []
    transport = Cut(board, clock)
    transport.left = left
    device = BoardDevice("port", preset("ecpix5-85f"), BoardClient(transport, clock=clock), "ab" * 32, verify=True)
    judge = board.link._act
    board.link._act = lambda seq, kind, payload: (kinds.append(kind), judge(seq, kind, payload))[1]
    try:
        device.load(image, lambda done, total: heard.append((done, total)))
    finally:
        board.link._act = judge
    return device, kinds, heard


@pytest.mark.nightly
def test_a_load_of_420_mb_goes_on_where_it_stopped(image):
    board = PlainBoard(memory=1 << 29)
    memory = np.frombuffer(board.memory[0], np.uint8)
    at = 0
    for piece in pieces():
        memory[at:at + len(piece)] = piece
        at += len(piece)
    memory[BORDER:BORDER + HOLE] = 0
    memory[SIZE - REST:] = 0
    tracemalloc.start()
    # The cable is pulled in the last part.
    with pytest.raises(LinkError, match="went away"):
        load(board, image, left=1_000_000)
    device, kinds, heard = load(board, image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(memory[BORDER:BORDER + HOLE], content(BORDER, HOLE))
    assert np.array_equal(memory[SIZE - REST:SIZE], content(SIZE - REST, REST))
    # The hole and the first part of the rest were sent before.
    assert REGION < device.sent < REST - 500_000 and device.sent + device.skipped == heard[-1][0] == heard[-1][1]
    # A CHECKSUM a region, and one more for each region that was sent.
    regions = -(-SIZE // REGION)
    sent = -(-(device.sent - 1024) // REGION)
    assert regions == 6409 and regions + sent <= kinds.count(PacketType.CHECKSUM) <= regions + sent + 1
    assert kinds.count(PacketType.WRITE) <= device.sent // DATA_MAX + 4
    # What the host holds at a time: some chunks and the packets of one.
    assert peak < 24 << 20, peak
    # All is there: nothing but the tables is sent.
    device, kinds, _ = load(board, image)
    assert device.skipped == SIZE and device.sent < 2048 and kinds.count(PacketType.CHECKSUM) == regions
