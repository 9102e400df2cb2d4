# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The host's half of the link, rule by rule."""

import pytest

from tellme.link.errors import LinkError
from tellme.link.framing import body, decode, encode, open_body
from tellme.link.window import ACK_AFTER, FILL_BYTES, Exchange
from tellme.spec.memory import EventType, StartArgs, StatusWord
from tellme.spec.packets import EVENTS, HELLO, MAGIC, NAK, PROTOCOL_VERSION, SESSION, WINDOW, NakReason, PacketType
from tellme.spec.program import FORMAT_VERSION
from tests.link.plain_board import BUILD_ID, PlainBoard, done_of, event_of

RETRY, PATIENCE = 0.25, 10.0
RUN = StartArgs(3, 2, 40)


def packets(content: bytes) -> list[tuple[int, int, bytes]]:
    """The packets of bytes that are whole frames."""
    return [open_body(decode(frame)) for frame in content.split(b"\0") if frame]


class Pair:
    """An exchange and a board whose frames a test passes on, or not."""

    def __init__(self, seq=10):
        self.exchange, self.board, self.now = Exchange(seq=seq, retry=RETRY, patience=PATIENCE), PlainBoard(), 0.0
        opened = self.exchange.open(1, 2)
        self.pump(lambda: opened.done)
        self.seq = seq

    def out(self) -> list[tuple[int, int, bytes]]:
        return packets(self.exchange.frames(self.now))

    def to_board(self, *sent) -> list[bytes]:
        """The board's answers, a frame each."""
        answers = self.board.link.receive(b"".join(encode(body(*packet)) for packet in sent))
        return [frame + b"\0" for frame in answers.split(b"\0") if frame]

    def take(self, *frames: bytes) -> None:
        self.exchange.receive(b"".join(frames), self.now)

    def events(self, count: int) -> list[bytes]:
        """The frames of the board's next events."""
        out = []
        while len(out) < count:
            self.board.run_step()
            frame = self.board.link.poll()
            assert frame
            out.append(frame)
        return out

    def pump(self, until, limit=1000) -> None:
        """Pass all on."""
        for _ in range(limit):
            content = self.exchange.frames(self.now)
            self.take(self.board.link.receive(content))
            if until():
                return
            self.board.run_step()
            while frame := self.board.link.poll():
                self.take(frame)
            self.now += 0.001
        raise AssertionError("no end")

    def submit(self, kind, payload=b""):
        return self.exchange.submit(kind, payload)

    def write(self, at, content=b"data"):
        return self.submit(PacketType.WRITE, at.to_bytes(4, "little") + content)

    def read(self, at=0, size=8):
        return self.submit(PacketType.READ, at.to_bytes(4, "little") + size.to_bytes(2, "little"))


@pytest.fixture
def pair():
    return Pair()


def test_a_session_is_opened_with_two_numbers():
    exchange = Exchange(seq=200)
    opened = exchange.open(7, 8)
    hello = HELLO.pack(MAGIC, PROTOCOL_VERSION, FORMAT_VERSION, b"p", BUILD_ID)
    seen = []
    while not opened.done:
        first = exchange.frames(0.0)
        assert seen or first.startswith(b"\0")
        (seq, kind, payload), = packets(first)
        assert kind == PacketType.HELLO and not exchange.frames(0.1)
        seen.append((seq, payload))
        exchange.receive(encode(body(seq, PacketType.HELLO_ANSWER, hello)), 0.2)
    assert seen == [(198, b""), (199, SESSION.pack(7)), (199, SESSION.pack(8))]
    exchange.submit(PacketType.STATUS)
    assert packets(exchange.frames(0.3)) == [(200, PacketType.STATUS, b"")]
    with pytest.raises(ValueError):
        Exchange().open(7, 7)


def test_a_number_that_equals_the_open_sessions_does_no_harm():
    """Seqs of before would be taken for packets that were done."""
    board = PlainBoard()
    for seq in (0, 60):
        exchange = Exchange(seq=seq)
        opened = exchange.open(1, 2) if seq else exchange.open(5, 1)
        written = exchange.submit(PacketType.WRITE, bytes(4) + seq.to_bytes(4, "little"))
        while not written.done:
            exchange.receive(board.link.receive(exchange.frames(0.0)), 0.0)
        assert opened.done and board.memory[0][0] == seq
    assert len(board.writes) == 2


def test_at_most_a_window_is_under_way(pair):
    tickets = [pair.write(4 * i) for i in range(40)]
    sent = pair.out()
    assert [seq for seq, _, _ in sent] == [10 + i for i in range(WINDOW)] and pair.out() == []
    answers = pair.to_board(*sent)
    pair.take(answers[0])
    assert tickets[0].done and [seq for seq, _, _ in pair.out()] == [10 + WINDOW]
    pair.take(*answers[1:])
    assert len(pair.out()) == WINDOW - 1


def test_what_changes_waits_for_answers_that_are_made_anew(pair):
    reads, write = [pair.read(), pair.submit(PacketType.STATUS)], pair.write(0)
    sent = pair.out()
    assert [kind for _, kind, _ in sent] == [PacketType.READ, PacketType.STATUS]
    answers = pair.to_board(*sent)
    pair.take(answers[0])
    assert reads[0].done and pair.out() == []
    pair.take(answers[1])
    assert [kind for _, kind, _ in pair.out()] == [PacketType.WRITE] and not write.done
    # Reads may follow writes.
    pair.read()
    assert [kind for _, kind, _ in pair.out()] == [PacketType.READ]


def test_what_fills_a_usb_packet_keeps_nothing_waiting(pair):
    pair.write(0)
    pair.exchange.fill()
    pair.write(4)
    sent = pair.out()
    assert [kind for _, kind, _ in sent] == [PacketType.WRITE, PacketType.READ, PacketType.WRITE]
    assert len(pair.to_board(*sent)[1]) > FILL_BYTES >= 62


@pytest.mark.parametrize("reason", [NakReason.CRC, NakReason.FRAMING, NakReason.SEQUENCE])
def test_go_back_once_to_the_seq_that_a_nak_names(pair, reason):
    tickets = [pair.write(4 * i) for i in range(6)]
    sent = pair.out()
    pair.take(*pair.to_board(*sent[:2]))
    nak = encode(body(12, PacketType.NAK, NAK.pack(reason, 12)))
    pair.take(nak)
    assert pair.out() == sent[2:]
    # The NAKs of the packets behind the first.
    pair.take(nak, *(encode(body(seq, PacketType.NAK, NAK.pack(NakReason.SEQUENCE, 12))) for seq in (13, 14, 15)))
    assert pair.out() == []
    pair.take(*pair.to_board(*sent[2:]))
    assert all(ticket.done for ticket in tickets)


def test_silence_brings_the_first_packet_alone_with_a_zero_ahead_then_the_others(pair):
    tickets = [pair.write(4 * i) for i in range(5)]
    sent = pair.out()
    pair.take(*pair.to_board(sent[0]))
    now, wait = pair.now, RETRY
    for _ in range(4):
        assert pair.exchange.deadline() == pytest.approx(now + wait)
        now = pair.now = pair.exchange.deadline() - 1e-6
        assert pair.out() == []
        now = pair.now = now + 1e-6
        content = pair.exchange.frames(now)
        assert content == b"\0" + encode(body(*sent[1]))
        wait *= 2
    pair.take(*pair.to_board(sent[1]))
    assert pair.out() == sent[2:]
    pair.take(*pair.to_board(*sent[2:]))
    assert all(ticket.done for ticket in tickets) and pair.exchange.deadline() is None
    assert [at for at, _ in pair.board.writes] == [0, 4, 8, 12, 16]


def test_an_answer_says_that_all_before_was_done(pair):
    write, read, last = pair.write(0), pair.read(), pair.read(4, 12)
    sent = pair.out()
    answers = pair.to_board(*sent)
    pair.take(answers[2])
    assert write.done and last.done and not read.done
    # The answer that was missed is asked for once.
    assert pair.out() == [sent[1]] and pair.out() == []
    pair.take(*pair.to_board(sent[1]))
    assert read.result() == b"data" + bytes(4)


def test_a_refusal_fails_what_is_behind_and_leaves_the_link_well(pair):
    before, bad, behind = pair.write(0), pair.write(1 << 27), [pair.write(4 * i) for i in range(1, 30)]
    sent = pair.out()
    pair.take(*pair.to_board(*sent))
    assert before.result() == b""
    for ticket in (bad, *behind):
        with pytest.raises(LinkError, match="^the board refused a WRITE packet: ADDRESS$"):
            ticket.result()
    # Packets that change nothing take the seqs of which copies may be on their way.
    later = pair.write(40, b"late")
    fences = pair.out()
    assert {kind for _, kind, _ in fences} == {PacketType.STATUS} and [seq for seq, _, _ in fences] == [*range(11, 26), 26]
    assert pair.to_board(sent[2])[0] == encode(body(12, PacketType.NAK, NAK.pack(NakReason.SEQUENCE, 11)))
    pair.pump(lambda: later.done)
    assert pair.board.writes == [(0, b"data"), (40, b"late")]


def test_a_start_while_a_run_goes_on_is_refused(pair):
    first = pair.submit(PacketType.START, RUN.pack())
    pair.take(*pair.to_board(*pair.out()))
    second = pair.submit(PacketType.START, RUN.pack())
    pair.take(*pair.to_board(*pair.out()))
    with pytest.raises(LinkError, match="^the board refused a START packet: BUSY$"):
        second.result()
    assert first.done and pair.exchange.running and len(pair.board.starts) == 1
    pair.pump(lambda: not pair.exchange.running)
    assert len(pair.exchange.events()) == RUN.generate + 1


def started(pair) -> None:
    pair.submit(PacketType.START, RUN.pack())
    pair.take(*pair.to_board(*pair.out()))
    assert pair.exchange.running


def test_events_are_told_of_after_some(pair):
    started(pair)
    pair.take(*pair.events(ACK_AFTER - 1))
    assert pair.out() == []
    pair.take(*pair.events(1))
    (_, kind, payload), = pair.out()
    assert kind == PacketType.EVENTS and EVENTS.unpack(payload) == (ACK_AFTER, 0)
    wanted = [(EventType.TOKEN, event_of(RUN, number)) for number in range(ACK_AFTER)]
    assert pair.exchange.events() == wanted and pair.exchange.events() == []


def test_a_gap_of_events_is_asked_for_once_and_no_event_comes_twice(pair):
    started(pair)
    frames = pair.events(6)
    pair.take(frames[0], frames[0])
    assert pair.out() == []
    pair.take(*frames[2:5])
    sent = pair.out()
    assert [(kind, EVENTS.unpack(payload)) for _, kind, payload in sent] == [(PacketType.EVENTS, (1, 1))]
    pair.take(frames[5])
    assert pair.out() == []
    pair.take(*pair.to_board(*sent), *(pair.board.link.poll() for _ in range(5)), frames[3])
    assert [event for _, event in pair.exchange.events()] == [event_of(RUN, number) for number in range(6)]


def test_a_ring_without_room_stops_the_run_and_no_event_is_lost(pair):
    started(pair)
    for _ in range(100):
        pair.board.run_step()
    assert pair.board.number == 32 and not pair.board.link.room
    pair.pump(lambda: not pair.exchange.running)
    assert pair.exchange.events() == [*((EventType.TOKEN, event_of(RUN, number)) for number in range(40)),
                                      (EventType.DONE, done_of(RUN, 40, 0))]


def test_a_silence_of_events_asks_for_status_and_then_for_the_events(pair):
    started(pair)
    pair.events(3)
    pair.now = pair.exchange.deadline()
    sent = pair.out()
    assert [kind for _, kind, _ in sent] == [PacketType.STATUS]
    pair.take(*pair.to_board(*sent))
    sent = pair.out()
    assert [(kind, EVENTS.unpack(payload)) for _, kind, payload in sent] == [(PacketType.EVENTS, (0, 1))]
    pair.pump(lambda: not pair.exchange.running)
    assert len(pair.exchange.events()) == RUN.generate + 1


def test_a_run_that_takes_long_is_waited_for(pair):
    started(pair)
    begin = pair.now
    while pair.now < begin + 10 * PATIENCE:
        pair.now = pair.exchange.deadline()
        sent = pair.out()
        assert len(sent) <= 1
        pair.take(*pair.to_board(*sent))
    pair.pump(lambda: not pair.exchange.running)


def test_a_run_that_ends_without_done(pair):
    started(pair)
    pair.board.running = False
    with pytest.raises(LinkError, match="^the board stopped without saying so; start again$"):
        for _ in range(5):
            pair.now = pair.exchange.deadline()
            pair.take(*pair.to_board(*pair.out()))


def test_done_before_the_ack_of_start(pair):
    """The first ACK of a START is lost, and the run is over when the second comes."""
    run = StartArgs(0, 1, 1)
    start = pair.submit(PacketType.START, run.pack())
    sent = pair.out()
    pair.to_board(*sent)
    pair.take(*pair.events(2))
    assert not pair.exchange.running and not start.done
    pair.now = pair.exchange.deadline()
    pair.take(*pair.to_board(*pair.out()))
    assert start.done and not pair.exchange.running and len(pair.board.starts) == 1 and pair.exchange.deadline() is None


def silence(pair) -> float:
    """Pass the time until the exchange ends, and say how long it took."""
    begin = pair.now
    while True:
        pair.now = pair.exchange.deadline()
        pair.out()
        assert pair.now < begin + 100


def test_no_answer(pair):
    pair.read()
    pair.out()
    begin = pair.now
    with pytest.raises(LinkError, match=r"^the board does not answer \(no answer to READ within 10 s\); is the bitstream"):
        silence(pair)
    assert pair.now == pytest.approx(begin + PATIENCE)
    hello = Pair.__new__(Pair)
    hello.exchange, hello.now = Exchange(name="/dev/x"), 5.0
    hello.exchange.open(1, 2)
    hello.out()
    with pytest.raises(LinkError, match=r"^/dev/x does not answer \(no answer to HELLO within 3 s\)"):
        silence(hello)
    assert hello.now == pytest.approx(8.0)


def test_garbage_only(pair):
    pair.read()
    pair.out()
    pair.take(b"\x07login: \0root\0")
    with pytest.raises(LinkError, match=r"^the board answers garbage \(2 bad packets within 10 s\); check the cable"):
        silence(pair)


def test_a_reset_in_the_middle(pair):
    tickets = [pair.write(4 * i) for i in range(20)]
    sent = pair.out()
    pair.take(*pair.to_board(*sent[:3]))
    pair.board.reset()
    with pytest.raises(LinkError, match="^the board: the board was reset, and its memory is empty; start again$") as caught:
        pair.take(*pair.to_board(sent[3]))
    for ticket in tickets[3:]:
        with pytest.raises(LinkError) as other:
            ticket.result()
        assert other.value is caught.value
    with pytest.raises(LinkError):
        pair.out()
    assert not any(pair.board.memory[0])


def test_a_reset_in_the_middle_of_a_run_is_found_by_silence(pair):
    started(pair)
    pair.take(*pair.events(2))
    pair.board.reset()
    with pytest.raises(LinkError, match="the board was reset"):
        pair.now = pair.exchange.deadline()
        pair.take(*pair.to_board(*pair.out()))


def test_another_program(pair):
    """It opened a session whose seqs are far away."""
    pair.board.link.receive(encode(body(150, PacketType.HELLO, SESSION.pack(99))))
    pair.write(0)
    with pytest.raises(LinkError, match="^the board: another program opened a session with the board; end that program"):
        for _ in range(10):
            pair.take(*pair.to_board(*pair.out()))
            pair.now = pair.exchange.deadline()
    assert not pair.board.writes


@pytest.mark.parametrize(("version", "program_format", "says"), [
    (2, FORMAT_VERSION, f"speaks protocol 2, this tellme-host {PROTOCOL_VERSION}"),
    (PROTOCOL_VERSION, FORMAT_VERSION + 1, f"runs programs of format {FORMAT_VERSION + 1}, this tellme-host {FORMAT_VERSION}"),
])
def test_another_version(version, program_format, says):
    exchange, board = Exchange(), PlainBoard(version=version, program_format=program_format)
    opened = exchange.open(1, 2)
    with pytest.raises(LinkError, match=f"^the core at the board {says}: build its bitstream"):
        exchange.receive(board.link.receive(exchange.frames(0.0)), 0.0)
    assert opened.error is not None and board.link.session is None


def test_no_tellme_board():
    exchange = Exchange()
    exchange.open(1, 2)
    (seq, _, _), = packets(exchange.frames(0.0))
    with pytest.raises(LinkError, match="^the board answers, but is no tellme board$"):
        exchange.receive(encode(body(seq, PacketType.HELLO_ANSWER, b"hello")), 0.0)


def test_an_interruption_loses_nothing(pair):
    """The bytes of a frames() that were not sent, and bytes that came in vain, are made up for without a wait."""
    started(pair)
    write, read = pair.write(0), pair.read()
    lost = pair.out()
    pair.events(2)
    pair.exchange.lost()
    sent = pair.exchange.frames(pair.now)
    assert sent.startswith(b"\0") and packets(sent)[:2] == lost
    pair.take(*pair.to_board(*packets(sent)), *(pair.board.link.poll() for _ in range(2)))
    assert write.done and read.done and len(pair.exchange.events()) == 2


def test_status_has_the_numbers_of_the_events(pair):
    started(pair)
    pair.take(*pair.events(ACK_AFTER))
    pair.to_board(*pair.out())
    status = pair.submit(PacketType.STATUS)
    pair.take(*pair.to_board(*pair.out()))
    word = status.result()[4 * StatusWord.EVENTS:][:4]
    assert word == bytes([ACK_AFTER, ACK_AFTER, 0, 0])
