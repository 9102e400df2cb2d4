# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Any bytes at the host's frame parser and at its half of the link."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellme.golden.link import BoardLink
from tellme.link.errors import LinkError
from tellme.link.framing import FRAME_MAX, FrameError, FrameReader, body, decode, encode, open_body
from tellme.link.window import Exchange
from tellme.spec.memory import Event, StartArgs
from tellme.spec.packets import DATA_MAX, NakReason, PacketType
from tests.link.plain_board import PlainBoard

payloads = st.one_of(st.binary(max_size=DATA_MAX), st.sampled_from((b"", bytes(DATA_MAX), b"\1" * 254, b"\1" * 253 + b"\0")))
#: Bytes of any kind, and bytes that look like packets.
bodies = st.builds(body, st.integers(0, 255), st.integers(0, 255), payloads)
pieces = st.one_of(st.binary(max_size=80), bodies.map(encode), bodies, st.just(b"\0"))
streams = st.lists(pieces, max_size=12).map(b"".join)


def cut(content: bytes, places: list[int]) -> list[bytes]:
    """A stream in the pieces in which it may come."""
    marks = sorted(place % (len(content) + 1) for place in places)
    return [content[a:b] for a, b in zip([0, *marks], [*marks, len(content)], strict=True)]


@settings(deadline=None)
@given(st.binary(max_size=3 * 254))
def test_frames_keep_their_content(content):
    frame = encode(content)
    assert frame[-1] == 0 and 0 not in frame[:-1]
    assert decode(frame[:-1]) == content


def test_the_longest_frame_of_a_board():
    longest = max(len(encode(body(1, PacketType.DATA, fill * DATA_MAX))) for fill in (b"\0", b"\1"))
    assert longest == FRAME_MAX + 1


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_are_a_frame_or_a_frame_error(content):
    try:
        open_body(decode(content))
    except FrameError:
        pass


@settings(deadline=None)
@given(streams, st.lists(st.integers(0, 10_000), max_size=6), st.integers(0, 255), st.integers(0, 255), payloads)
def test_a_good_frame_is_found_after_any_garbage_and_a_zero(garbage, places, seq, kind, payload):
    reader = FrameReader()
    found = [packet for part in cut(garbage + b"\0" + encode(body(seq, kind, payload)), places) for packet in reader.push(part)]
    assert found[-1] == (seq, kind, payload)
    # How the bytes are cut does not matter.
    other = FrameReader()
    assert list(other.push(garbage + b"\0" + encode(body(seq, kind, payload)))) == found
    assert other.garbage == reader.garbage


def test_garbage_without_an_end_is_not_kept():
    reader = FrameReader()
    for _ in range(100):
        assert not list(reader.push(b"\7" * 1000))
    assert reader.garbage == 1 and len(reader._buffer) <= FRAME_MAX
    assert not list(reader.push(b"\0")) and reader.garbage == 1
    assert list(reader.push(encode(body(1, 2, b"3")))) == [(1, 2, b"3")]


def opened(seq: int = 0) -> tuple[Exchange, PlainBoard]:
    """An exchange with an open session."""
    exchange, board = Exchange(seq=seq), PlainBoard()
    ticket = exchange.open(1, 2)
    while not ticket.done:
        exchange.receive(board.link.receive(exchange.frames(0.0)), 0.0)
    return exchange, board


#: What a board, or no board, may answer: any packet with any seq, and any payload of the right length.
answers = st.builds(
    lambda seq, kind, payload: encode(body(seq, kind, payload)), st.integers(0, 20),
    st.sampled_from(PacketType), st.one_of(st.binary(max_size=60), st.binary(min_size=32, max_size=32),
                                           st.binary(min_size=4, max_size=4), st.just(b""),
                                           st.tuples(st.sampled_from(NakReason), st.integers(0, 20)).map(bytes)))
asked = st.lists(st.sampled_from(((PacketType.READ, bytes(4) + b"\x3c\0"), (PacketType.WRITE, bytes(8)), (PacketType.STOP, b""),
                                  (PacketType.CHECKSUM, bytes(4) + b"\4\0\0\0"), (PacketType.STATUS, b""),
                                  (PacketType.START, StartArgs(0, 1, 2).pack()))), max_size=20)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), asked, st.lists(st.one_of(answers, pieces), max_size=20), st.floats(0.01, 3))
def test_any_answer_leaves_an_exchange_well_or_ends_it_with_a_link_error(session, packets, said, wait):
    """No answer is another exception; without answers the exchange ends in time; and events are whole."""
    exchange = opened()[0] if session else Exchange()
    now = 0.0
    if not session:
        exchange.open(1, 2)
    tickets = [exchange.submit(*packet) for packet in packets]
    try:
        for part in said:
            exchange.frames(now)
            exchange.receive(part, now)
            now += wait
        for _ in range(100):
            exchange.frames(now)
            due = exchange.deadline()
            if due is None:
                break
            assert due > now
            now = due
        else:
            raise AssertionError("no end")
    except LinkError as error:
        assert exchange.failed and "\n" not in str(error)
        with pytest.raises(LinkError):
            exchange.submit(PacketType.STATUS)
        for ticket in tickets:
            if not ticket.done:
                with pytest.raises(LinkError):
                    ticket.result()
    assert all(isinstance(event, Event) for _, event in exchange.events())


@settings(deadline=None)
@given(st.lists(st.one_of(pieces, bodies.map(encode)), max_size=20))
def test_the_board_half_answers_any_bytes(parts):
    """Each frame gets one answer, and a HELLO after any bytes is answered."""
    board = PlainBoard()
    for part in parts:
        board.link.receive(part)
    board.link.receive(b"\0")
    link: BoardLink = board.link
    (seq, kind, content), = FrameReader().push(link.receive(encode(body(7, PacketType.HELLO))))
    assert (seq, kind) == (7, PacketType.HELLO_ANSWER) and content == link._hello
