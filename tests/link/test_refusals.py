# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board's half of the link refuses a packet with a reason, and does nothing of it."""

import pytest

from tellme.link.framing import FrameReader, body, encode
from tellme.spec.memory import REGISTER_BASE, SDRAM_BASE, EventType, StartArgs
from tellme.spec.packets import BODY_OVERHEAD, DATA_MAX, EVENT_SLOTS, EVENTS, NAK, SESSION, SLOTS, NakReason, PacketType
from tests.link.plain_board import MEMORY, PlainBoard, event_of

RUN = StartArgs(0, 3, 50)


def u32(value):
    return value.to_bytes(4, "little")


def ask(board, seq, kind, payload=b""):
    """The one answer to a packet: its seq, type and payload."""
    (answer,) = FrameReader().push(board.link.receive(encode(body(seq, kind, payload))))
    return answer


@pytest.fixture
def board():
    made = PlainBoard()
    ask(made, 0, PacketType.HELLO, SESSION.pack(7))
    return made


def read(address, size):
    return u32(address) + size.to_bytes(2, "little")


@pytest.mark.parametrize(("kind", "payload", "reason"), [
    (0x55, b"", NakReason.TYPE),
    (PacketType.STATUS, b"\0", NakReason.LENGTH),
    (PacketType.READ, read(SDRAM_BASE, DATA_MAX + 4), NakReason.LENGTH),
    (PacketType.WRITE, u32(SDRAM_BASE) + b"abc", NakReason.LENGTH),
    (PacketType.READ, read(SDRAM_BASE + 2, 4), NakReason.ADDRESS),
    (PacketType.READ, read(SDRAM_BASE, 6), NakReason.ADDRESS),
    (PacketType.READ, read(SDRAM_BASE, 0), NakReason.ADDRESS),
    (PacketType.READ, read(MEMORY - 4, 8), NakReason.ADDRESS),
    (PacketType.CHECKSUM, u32(SDRAM_BASE) + u32(1 << 22), NakReason.ADDRESS),
    (PacketType.WRITE, u32(MEMORY) + bytes(4), NakReason.ADDRESS),
    (PacketType.WRITE, u32(REGISTER_BASE + 4 * 200) + bytes(4), NakReason.ADDRESS),
    # The ring is empty: there is no event 1 to be had again.
    (PacketType.EVENTS, EVENTS.pack(1, 1), NakReason.ADDRESS),
])
def test_a_packet_that_cannot_be_done(board, kind, payload, reason):
    expected = board.link.expected
    assert ask(board, expected, kind, payload) == (expected, PacketType.NAK, NAK.pack(reason, expected))
    assert (board.link.expected, board.link.bad, board.writes, board.running) == (expected, 1, [], False)
    # The same seq is free for a packet that can be done.
    assert ask(board, expected, PacketType.WRITE, u32(SDRAM_BASE) + b"abcd") == (expected, PacketType.ACK, b"")
    assert board.writes == [(SDRAM_BASE, b"abcd")]


def test_a_session_and_a_seq_are_wanted():
    board = PlainBoard()
    assert ask(board, 0, PacketType.STATUS) == (0, PacketType.NAK, NAK.pack(NakReason.SESSION, 0))
    ask(board, 0, PacketType.HELLO, SESSION.pack(7))
    expected = board.link.expected
    assert ask(board, expected + 1, PacketType.STATUS) == (expected + 1, PacketType.NAK, NAK.pack(NakReason.SEQUENCE, expected))
    # A packet with a wrong CRC or too few bytes says nothing of its seq.
    broken = bytearray(body(expected, PacketType.STATUS))
    broken[-1] ^= 1
    for content, reason in ((bytes(broken), NakReason.CRC), (bytes(BODY_OVERHEAD - 1), NakReason.FRAMING)):
        (answer,) = FrameReader().push(board.link.receive(encode(content)))
        assert answer[1:] == (PacketType.NAK, NAK.pack(reason, expected))


def test_a_start_while_a_program_runs(board):
    first = board.link.expected
    assert ask(board, first, PacketType.START, RUN.pack())[1] == PacketType.ACK
    assert ask(board, first + 1, PacketType.START, RUN.pack()) == (first + 1, PacketType.NAK, NAK.pack(NakReason.BUSY, first + 1))
    assert len(board.starts) == 1


def test_a_slot_that_is_not_there():
    board = PlainBoard(slots=2)
    ask(board, 0, PacketType.HELLO, SESSION.pack(7))
    seq = board.link.expected
    wrong = StartArgs(0, 3, 50, slot=2)
    assert ask(board, seq, PacketType.START, wrong.pack()) == (seq, PacketType.NAK, NAK.pack(NakReason.ADDRESS, seq))
    assert board.starts == []
    # A core with one slot knows no slots to stop.
    alone = PlainBoard()
    ask(alone, 0, PacketType.HELLO, SESSION.pack(7))
    seq = alone.link.expected
    assert ask(alone, seq, PacketType.STOP, SLOTS.pack(1)) == (seq, PacketType.NAK, NAK.pack(NakReason.LENGTH, seq))


def test_a_ring_takes_as_many_events_as_it_has_room_for(board):
    for number in range(EVENT_SLOTS):
        assert board.link.room
        board.link.event(EventType.TOKEN, event_of(RUN, number).pack())
    assert not board.link.room
    with pytest.raises(ValueError, match="^the ring has no room$"):
        board.link.event(EventType.TOKEN, event_of(RUN, 0).pack())
    # The host has the first: its place is free.
    assert ask(board, board.link.expected, PacketType.EVENTS, EVENTS.pack(1, 0))[1] == PacketType.ACK
    with pytest.raises(ValueError, match="^an event of 3 bytes$"):
        board.link.event(EventType.TOKEN, b"abc")
    board.link.event(EventType.DONE, event_of(RUN, 0).pack())
    assert not board.link.room and board.link.next == EVENT_SLOTS + 1
