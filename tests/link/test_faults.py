# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""10,000 faults on the wire between the client and the plain board, in simulated time."""

import pytest

from tellme.link.client import BoardClient
from tellme.spec.packets import PacketType
from tests.link.faults import DIRECTIONS, KINDS, Faults, FaultyTransport
from tests.link.model_transport import Clock, ModelTransport
from tests.link.plain_board import MEMORY, PlainBoard, done_of, event_of
from tests.link.scenario import USES, PlainRuns, Scenario

#: One use of the board takes less, in simulated seconds: some hundred packets, each hit now and then.
BOUND = 300.0
#: Bytes of memory that are used.
SIZE = MEMORY - 2048
#: Uses of the board after the last fault.
CALM = 20


class Plain(Scenario):
    """With the plain board, which can be reset."""

    uses = (*USES, "reset")

    def __init__(self, board, *args, **options):
        super().__init__(*args, **options)
        self._board = board

    def board_reset(self) -> None:
        self._board.reset()


def use(seed: int, *, rate: float, faults: int) -> tuple[Scenario, Faults, PlainBoard]:
    """Use a board until so many faults were done, and a little longer."""
    print(f"seed {seed}")
    clock, board, wire = Clock(), PlainBoard(), Faults(seed, rate=rate, left=faults)

    def connect() -> BoardClient:
        return BoardClient(FaultyTransport(ModelTransport(board, clock), wire, clock), clock=clock)

    scenario = Plain(board, connect, PlainRuns(event_of, done_of), base=0, size=SIZE, beyond=MEMORY, seed=seed, clock=clock,
                     bound=BOUND)
    while wire.left > 0:
        scenario.step()
    for _ in range(CALM):
        scenario.step()
    print(f"{wire.total} faults, {clock.now:.0f} simulated seconds\n{wire.table()}")
    print(f"done: {dict(scenario.done)}; errors: {dict(scenario.errors)}")
    return scenario, wire, board


def check(scenario: Scenario, board: PlainBoard) -> None:
    """What holds after any number of faults."""
    scenario.whole(bytes(board.memory[0][:SIZE]))
    # Each write that was acknowledged was done once, in its order; one that was not, once or not at all.
    sent = iter(scenario.writes)
    for write in board.writes:
        for given in sent:
            if given == write:
                break
            assert given in scenario.unsure, "a write was left out"
        else:
            raise AssertionError("a write was done twice, or in another order")
    assert all(given in scenario.unsure for given in sent), "the last write was left out"
    # Runs that ended in an error of the link may not have begun.
    assert len(scenario.starts) - sum(scenario.errors.values()) <= len(board.starts) <= len(scenario.starts)
    if not scenario.errors:
        assert board.starts == scenario.starts


def test_10_000_faults():
    """No wrong byte in memory, no wrong token, no hang, and nearly all is done in spite of the faults."""
    scenario, wire, board = use(20, rate=0.12, faults=10_000)
    check(scenario, board)
    assert wire.total == 10_000
    for kind in KINDS:
        assert wire.of(kind) >= 1000
        assert all(wire.count[direction, kind] >= 350 for direction in DIRECTIONS)
    assert all(wire.types[kind] >= 20 for kind in PacketType), wire.types
    assert sum(scenario.errors.values()) <= sum(scenario.done.values()) // 100


@pytest.mark.parametrize("seed", range(4))
def test_a_wire_that_is_hardly_one(seed):
    """Every second frame is hit: what is not done ends with one clear error, and the next client goes on."""
    scenario, _, board = use(seed, rate=0.5, faults=2000)
    check(scenario, board)
    assert scenario.done["connect"] >= 1
