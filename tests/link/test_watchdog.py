# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Runs that make no progress: the board hangs in a prompt, between tokens or in a load, and stops when told to, or not."""

import random

import pytest

import tellme
from tellme.compiler.cycles import watchdog_cycles
from tellme.compiler.image import compile_model
from tellme.link.client import BoardClient
from tellme.link.errors import LinkError, StuckError
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tellme.spec.memory import EventType, StartArgs, StatusWord
from tests.link.golden_slots import GoldenSlots
from tests.link.model_transport import STEP, Clock, ModelTransport
from tests.link.plain_board import PlainBoard, SlottedBoard, event_of
from tests.models.random_model import even_model

RUN = StartArgs(0, 5, 40)
#: Cycles that a board makes in a simulated second, and those of a pass at most.
RATE, BOUND = 10_000_000, 3_000_000


class Hanging:
    """Of a board: its run hangs ahead of event ``hang`` (None: never), its cycles go on unless ``still``, and it is ``deaf`` to
    STOP.

    A prompt takes ``prompt`` steps of simulated time, in each of which another position is fed.
    """

    def __init__(self, clock, *, hang=None, still=False, deaf=False, prompt=0, **options):
        super().__init__(**options)
        self._clock, self.hang, self.still, self.deaf, self.prompt = clock, hang, still, deaf, prompt
        self.stops = self.fed = self.steps = 0

    def start(self, args):
        super().start(args)
        self.fed = self.steps = 0

    def stop(self, *slots):
        self.stops += 1
        if not self.deaf:
            super().stop(*slots)

    def status(self):
        words = [0] * 8
        words[StatusWord.FLAGS] = int(bool(self.running))
        words[StatusWord.STEP], words[StatusWord.POSITION] = 7, self.fed + self.steps
        words[StatusWord.CYCLES] = 0 if self.still else int(RATE * self._clock()) % 2**32
        return b"".join(word.to_bytes(4, "little") for word in words)

    def run_step(self):
        stopping = self.stops and not self.deaf
        if self.fed < self.prompt and not stopping:
            self.fed += 1
            return
        if self.hang is not None and self.steps >= self.hang and not stopping:
            return
        self.steps += 1
        super().run_step()


class Board(Hanging, PlainBoard):
    pass


class Slotted(Hanging, SlottedBoard):
    pass


def client_of(kind=Board, **options):
    clock = Clock()
    board = kind(clock, **options)
    client = BoardClient(ModelTransport(board, clock), clock=clock)
    client.watch(BOUND)
    return client, board, clock


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("hang", [0, *random.Random(25).sample(range(1, 40), 4), 40])
def test_a_run_that_hangs_is_stopped(hang, still):
    """Ahead of the first token, between tokens, and ahead of DONE; the board's cycles go on, or stand still."""
    client, board, clock = client_of(hang=hang, still=still)
    client.start(RUN)
    heard = []
    with pytest.raises(StuckError) as caught:
        for _, event in client.events():
            heard.append(event)
    assert heard == [event_of(RUN, n) for n in range(hang)] and board.stops == 1 and not board.running
    assert str(caught.value).startswith("the model board made no progress for ")
    assert f"in step 7 of the layer program at position {hang}: the run was stopped. Start again" in str(caught.value)
    # Within seconds of the board's silence; the cycles that are told are beyond the bound, or none.
    told = int(str(caught.value).split(" cycles,")[0].split()[-1])
    assert told == 0 if still else BOUND < told < 4 * RATE
    assert clock.now < hang * STEP + (16 if still else 6)


def test_the_board_is_usable_afterwards():
    client, board, _ = client_of(hang=3)
    client.start(RUN)
    with pytest.raises(StuckError):
        list(client.events())
    board.hang, board.stops = None, 0
    client.start(other := StartArgs(2, 1, 6))
    assert [event for kind, event in client.events() if kind == EventType.TOKEN] == [event_of(other, n) for n in range(6)]


def test_a_board_that_does_not_stop_either():
    client, board, _ = client_of(hang=3, deaf=True)
    client.start(RUN)
    with pytest.raises(LinkError, match="^the model board made no progress in step 7 of the layer program at position 3, and "
                                        "does not stop either: power the board off and on, or load the bitstream "
                                        "again$") as caught:
        list(client.events())
    assert not isinstance(caught.value, StuckError) and board.stops == 1
    # A host that comes later does not wait for ever either.
    second = BoardClient(ModelTransport(board, board._clock), clock=board._clock)
    second.watch(BOUND)
    with pytest.raises(LinkError, match="does not stop either"):
        second.connect()


def test_a_long_prompt_is_progress():
    """Ten times the bound without an event, while positions are fed; and a board that is slow, without a hang."""
    steps = int(10 * BOUND / RATE / STEP)
    client, board, _ = client_of(prompt=steps)
    client.start(RUN)
    assert len(list(client.events())) == 41 and board.stops == 0


def test_a_hang_in_a_prompt():
    client, board, _ = client_of(prompt=20, hang=0)
    client.start(RUN)
    with pytest.raises(StuckError, match="at position 20"):
        list(client.events())
    assert board.stops == 1


def test_a_host_that_looks_late_stops_nothing():
    """The ring is full while the host is away for an hour; the run goes on when the host takes the events."""
    client, board, clock = client_of()
    client.start(RUN)
    events = client.events()
    heard = [next(events)]
    for _ in range(40):
        board.run_step()
    clock.now += 3600
    heard += list(events)
    assert len(heard) == 41 and board.stops == 0


def test_without_a_bound_nothing_is_stopped():
    client, board, clock = client_of(hang=2)
    client.watch(None)
    client.start(RUN)
    events = client.events()
    assert [next(events)[1] for _ in range(2)] == [event_of(RUN, n) for n in range(2)]
    client.listen({0}, 600.0)
    assert clock.now > 600 and board.stops == 0 and board.running


def test_slots_that_hang():
    """All are stopped, and the caller of each hears why."""
    client, board, _ = client_of(Slotted, hang=4)
    for slot in (0, 2):
        client.start(StartArgs(0, 1, 40, slot=slot))
    with pytest.raises(StuckError):
        while True:
            client.listen({0, 2}, 0.5)
    assert board.stops == 1 and not board.running


@pytest.mark.parametrize("after", [0, 100, 8_000, 40_000])
def test_a_board_that_hangs_in_a_load(after):
    """It takes no byte more: the link's patience ends the load."""
    class Deaf(ModelTransport):
        left = after

        def write(self, content):
            super().write(content[:self.left])
            self.left = max(self.left - len(content), 0)

    board, clock = GoldenSlots(), Clock()
    device = BoardDevice("port", preset("sim-slots"), BoardClient(Deaf(board, clock), clock=clock), "ab" * 32, verify=True)
    with pytest.raises(LinkError, match=r"the model board does not answer \(no answer to \w+ within \d+ s\)"):
        tellme.Board(device).load(even_model(512, 256))
    assert clock.now < 11


def test_the_bound_of_a_model():
    """Some passes' cycles; more for a longer context and for more tokens at once."""
    model = tellme.find_model("stories-1m")
    bounds = {name: watchdog_cycles(model.config, compile_model(model, preset(name)), preset(name))
              for name in ("ulx3s-85f-l2", "ulx3s-85f")}
    # 130 to 160 K cycles a token of the board of two lanes (README).
    assert 4 * 150_000 < bounds["ulx3s-85f-l2"] < 4 * 400_000 < 4 * preset("ulx3s-85f").fabric_mhz * 1e6
    assert bounds["ulx3s-85f-l2"] < bounds["ulx3s-85f"]


def test_a_load_sets_the_bound():
    board, clock = GoldenSlots(), Clock()
    client = BoardClient(ModelTransport(board, clock), clock=clock)
    model = even_model()
    session = tellme.Board(BoardDevice("port", preset("sim-slots"), client, "ab" * 32)).load(model)
    wanted = watchdog_cycles(model.config, session.image, preset("sim-slots"))
    assert client._exchange.bound == wanted
    client.connect()
    assert client._exchange.bound == wanted
