# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Several runs at the same time over the link: each slot's events, stops, refusals, a new session, and a wire with faults."""

from dataclasses import replace

import pytest

from tellme.link.client import BoardClient
from tellme.link.errors import LinkError
from tellme.link.framing import body, decode, encode, open_body
from tellme.link.window import running_slots
from tellme.spec.memory import SLOTS_WORD, DoneReason, EventType, StartArgs
from tellme.spec.packets import NAK, SESSION, SLOTS, NakReason, PacketType
from tests.link.faults import Faults, FaultyTransport
from tests.link.model_transport import Clock, ModelTransport
from tests.link.plain_board import MEMORY, PlainBoard, SlottedBoard, done_of, event_of
from tests.link.test_faults import BOUND, SIZE, Plain, check

RUNS = [StartArgs(10 * slot, 3, 20 + slot, slot=slot) for slot in range(4)]


def whole(args, reason=DoneReason.LENGTH, picks=None):
    """All events of a run, which ends after so many picks."""
    picks = args.generate if picks is None else picks
    return [*((EventType.TOKEN, event_of(args, number)) for number in range(picks)),
            (EventType.DONE, done_of(args, picks, reason))]


@pytest.fixture
def bench():
    clock, board = Clock(), SlottedBoard()
    return board, BoardClient(ModelTransport(board, clock), clock=clock), clock


def test_each_slot_gets_its_own_events(bench):
    """One iterator a slot, taken in turns, and one that is left alone until the others have ended."""
    board, client, _ = bench
    for args in RUNS:
        client.start(args)
    assert running_slots(client.status()) == {0, 1, 2, 3}
    taken = [client.events(slot) for slot in range(4)]
    heard = [[], [], [], []]
    for _ in range(10):
        for slot in (3, 0, 2):
            heard[slot].append(next(taken[slot]))
    for slot in (2, 3, 0, 1):
        heard[slot] += taken[slot]
    assert heard == [whole(args) for args in RUNS]
    assert board.starts == RUNS and running_slots(client.status()) == set()


def test_listening_gives_all_events_and_waits_for_those_of_some_slots(bench):
    _, client, clock = bench
    client.start(RUNS[1])
    client.start(RUNS[2])
    heard = []
    while len(heard) < 44 + 1:
        heard += client.listen({1, 2}, 0.02)
    for args in (RUNS[1], RUNS[2]):
        assert [event for event in heard if event[1].slot == args.slot] == whole(args)
    with pytest.raises(LinkError, match="^the model board has no run whose events could come; start one$"):
        client.listen({1, 2}, 1)
    # A run of a slot that nobody listens to is not waited for, and one without events not for longer than was said.
    client.start(replace(RUNS[0], generate=0))
    client._run(lambda: client._has_event({0}))
    client.start(RUNS[3])
    before = clock.now
    assert [event.slot for _, event in client.listen({3}, 0.5)][:1] == [0] and clock.now - before < 0.1


def test_a_listener_who_never_waits_keeps_the_ring_free(bench):
    board, client, _ = bench
    client.start(replace(RUNS[1], generate=100))
    heard = []
    while len(heard) < 90:
        board.run_step()
        heard += client.listen({1}, 0)
        assert len(board.link._ring) < 20
    assert heard == whole(replace(RUNS[1], generate=100))[:len(heard)]


def test_a_silence_of_a_listener_is_an_error_as_long_as_it_is(bench):
    """Listening for moments does not begin the silence anew: a board that is gone is noticed."""
    board, client, clock = bench
    client.start(RUNS[1])
    board.runs.clear()
    before = clock.now
    with pytest.raises(LinkError, match="stopped without saying so"):
        while True:
            assert clock.now - before < 5
            client.listen({1}, 0.01)


def test_one_slot_is_stopped_and_the_others_go_on(bench):
    board, client, _ = bench
    for args in RUNS:
        client.start(args)
    client.stop(2)
    stopped = list(client.events(2))
    assert stopped == whole(RUNS[2], DoneReason.STOPPED, len(stopped) - 1) and len(stopped) < 10
    assert list(client.events(3)) == whole(RUNS[3])
    client.start(RUNS[2])
    client.stop()
    for slot in (0, 1, 2):
        assert list(client.events(slot))[-1][1].logit in (DoneReason.STOPPED, DoneReason.LENGTH)
    assert not board.runs


def test_a_slot_that_is_started_again_is_stopped_first(bench):
    board, client, _ = bench
    client.start(RUNS[1])
    client.start(RUNS[3])
    again = replace(RUNS[1], generate=2)
    client.start(again)
    assert list(client.events(1)) == whole(again) and list(client.events(3)) == whole(RUNS[3])
    assert board.starts == [RUNS[1], RUNS[3], again]


def test_a_new_session_stops_all_runs(bench):
    board, client, clock = bench
    for args in RUNS[:3]:
        client.start(args)
    other = BoardClient(ModelTransport(board, clock), clock=clock)
    other.connect()
    assert not board.runs
    other.start(RUNS[0])
    assert list(other.events(0)) == whole(RUNS[0])


class Raw:
    """Packets one by one."""

    def __init__(self, board):
        self.board, self.seq = board, 0
        self.ask(PacketType.HELLO, SESSION.pack(7))

    def ask(self, kind, payload=b""):
        _, answer, content = open_body(decode(self.board.link.receive(encode(body(self.seq, kind, payload)))[:-1]))
        self.seq += answer != PacketType.NAK
        return NakReason(content[0]) if answer == PacketType.NAK else content


def test_what_the_board_refuses():
    board = SlottedBoard()
    raw = Raw(board)
    assert raw.ask(PacketType.START, RUNS[1].pack()) == b""
    assert raw.ask(PacketType.START, RUNS[1].pack()) == NakReason.BUSY
    for slot in (4, 5, 15):
        assert raw.ask(PacketType.START, replace(RUNS[1], slot=slot).pack()) == NakReason.ADDRESS
    assert raw.ask(PacketType.START, RUNS[2].pack()) == b""
    words = raw.ask(PacketType.STATUS)
    assert int.from_bytes(words[4 * SLOTS_WORD:], "little") == 0b0110
    assert raw.ask(PacketType.STOP, b"\1") == NakReason.LENGTH
    assert raw.ask(PacketType.STOP, SLOTS.pack(0b1101)) == b""
    assert {slot: run[2] for slot, run in board.runs.items()} == {1: False, 2: True}
    assert raw.ask(PacketType.STOP) == b"" and all(run[2] for run in board.runs.values())
    one = Raw(PlainBoard())
    assert one.ask(PacketType.STOP, SLOTS.pack(1)) == NakReason.LENGTH
    assert one.ask(PacketType.START, RUNS[3].pack()) == b"" and one.ask(PacketType.START, RUNS[2].pack()) == NakReason.BUSY
    assert one.ask(PacketType.STATUS)[4 * SLOTS_WORD:] == bytes(4)


def test_a_start_that_is_refused_leaves_the_other_runs(bench):
    """Two STARTs under way, the first of a slot that runs without the host's knowledge."""
    board, client, _ = bench
    client.start(RUNS[0])
    board.start(RUNS[1].pack())
    exchange = client._exchange
    tickets = [exchange.submit(PacketType.START, RUNS[slot].pack()) for slot in (1, 2)]
    client._run(lambda: all(ticket.done for ticket in tickets))
    for ticket in tickets:
        with pytest.raises(LinkError, match="refused a START packet: BUSY"):
            ticket.result()
    assert exchange.running == {0}
    assert list(client.events(0)) == whole(RUNS[0])
    assert NAK.size == 2


class SlottedUse(Plain):
    """A scenario whose runs go on side by side."""

    slots = SlottedBoard.slots

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.together = 0

    def _args(self, slot):
        draw = self.random
        return StartArgs(draw.randrange(1000), draw.randint(1, 9), draw.choice((0, 1, 5, 20, 90)), chunk=draw.randrange(4),
                         slot=slot)

    def _go_on(self, client, going, until):
        """Take events until so many slots run; what each slot says is what it must say."""
        while len(going) > until:
            slots = self.random.sample(sorted(going), self.random.randint(1, len(going)))
            for kind, event in client.listen(slots, self.random.choice((0.0, 0.01, 1.0))):
                args, number = going[event.slot]
                if kind == EventType.TOKEN:
                    assert event == event_of(args, number)
                    going[event.slot][1] += 1
                    continue
                assert event in (done_of(args, number, DoneReason.LENGTH), done_of(args, number, DoneReason.STOPPED))
                assert number == args.generate or event.logit == DoneReason.STOPPED and args in self.stopped
                del going[event.slot]

    def run(self, client):
        going, self.stopped = {}, []
        for _ in range(self.random.randint(1, 8)):
            slot = self.random.choice([slot for slot in range(self.slots) if slot not in going])
            args = self._args(slot)
            self.starts.append(args)
            client.start(args)
            going[slot] = [args, 0]
            self.together = max(self.together, len(going))
            if self.random.random() < 0.3:
                self.stopped.append(args)
                client.stop(slot)
            self._go_on(client, going, self.random.randint(0, min(len(going), self.slots - 1)))
        self._go_on(client, going, 0)

    stop = run

    def abandon(self, client):
        for slot in self.random.sample(range(self.slots), 2):
            args = self._args(slot)
            self.starts.append(args)
            client.start(args)
        client.close()
        self.client = None

    def status(self, client):
        assert running_slots(client.status()) == set()


@pytest.mark.parametrize(("seed", "rate", "faults"), [(20, 0.12, 2000), (21, 0.5, 2000)])
def test_runs_side_by_side_on_a_wire_with_faults(seed, rate, faults):
    clock, board, wire = Clock(), SlottedBoard(), Faults(seed, rate=rate, left=faults)

    def connect():
        return BoardClient(FaultyTransport(ModelTransport(board, clock), wire, clock), clock=clock)

    scenario = SlottedUse(board, connect, None, base=0, size=SIZE, beyond=MEMORY, seed=seed, clock=clock, bound=3 * BOUND)
    while wire.left > 0:
        scenario.step()
    for _ in range(20):
        scenario.step()
    check(scenario, board)
    assert scenario.done["connect"] >= 1
    if rate < 0.2:
        assert scenario.together >= 3 and scenario.done["run"] + scenario.done["stop"] >= 10
        assert sum(scenario.errors.values()) <= sum(scenario.done.values()) // 50
