# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Runs that are compared with the golden model, and memory that is compared with what was loaded: each flipped bit is told."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import tellme
from tellme.errors import CheckError, NonfiniteRunError
from tellme.runtime.checking import REGIONS_AT_ONCE, MemorySums
from tellme.runtime.device import BoardDevice, GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.spec.config import preset
from tellme.spec.memory import CRC_BASE, TOP_BASE, DoneReason, EventType
from tellme.spec.scale import Scale
from tests.cli.fake_client import FakeClient
from tests.models.random_model import even_model, random_model
from tests.runtime.faulty_board import Faults, FaultyClient

CONFIG = preset("sim-tiny")
MODEL = even_model()
PROMPT = [1, 5, 9]


class Client(FakeClient):
    """A golden board that tells CRCs.  ``before(board, n)`` is called once ahead of the n-th token of the client's life, and
    ``tell`` may change an event."""

    def __init__(self, config=CONFIG, before=lambda board, number: None, tell=lambda kind, event: event):
        super().__init__(config)
        self._before, self._tell = before, tell
        self.picked = self._flipped = 0

    def read(self, address, size):
        if CRC_BASE <= address < TOP_BASE:
            return np.array(self.board.crcs, "<u4").tobytes()[address - CRC_BASE:][:size]
        return super().read(address, size)

    def _events(self, args):
        run = super()._events(args)
        while True:
            if self._flipped <= self.picked:
                self._before(self.board, self.picked)
                self._flipped = self.picked + 1
            kind, event = next(run)
            self.picked += kind == EventType.TOKEN
            yield kind, self._tell(kind, event)
            if kind == EventType.DONE:
                return


def load(client, check, model=MODEL, **options):
    return tellme.Board(BoardDevice("port", client.config, client, "ab" * 32)).load(model, check=check, **options)


def of_golden(tokens, model, prompt, **options):
    run = tellme.Board(GoldenDevice()).load(model).generate(prompt, max_tokens=tokens, **options)
    return [token.id for token in run]


@cache
def of_model(tokens, prompt, options):
    return of_golden(tokens, MODEL, prompt, **dict(options))


def wanted(tokens, model=MODEL, prompt=PROMPT, **options):
    """The golden model's tokens; those of MODEL are made once."""
    if model is not MODEL:
        return of_golden(tokens, model, prompt, **options)
    return list(of_model(tokens, tuple(prompt), tuple(options.items())))


@pytest.mark.parametrize("every", [1, 3, 7, 20, 100])
@pytest.mark.parametrize("sampling", [None, Sampling(temperature=1.0, seed=3),
                                      Sampling(temperature=1.0, seed=3, repeat_penalty=1.3)],
                         ids=["greedy", "drawn", "drawn-by-host"])
def test_the_same_tokens_and_all_are_compared(every, sampling):
    """However long the pieces are, and whoever draws."""
    session = load(client := Client(), every)
    run = session.generate(PROMPT, max_tokens=20, sampling=sampling)
    assert [token.id for token in run] == wanted(20, sampling=sampling)
    assert run.stats["checked_tokens"] == 20 and run.stop_reason == "length"
    if sampling is None:
        assert [start.generate for start in client.log] == [every] * (20 // every) + [20 % every] * (20 % every > 0)


def test_without_a_check_nothing_is_compared_and_a_run_is_a_start():
    session = load(client := Client(), None)
    run = session.generate(PROMPT, max_tokens=20)
    assert len(list(run)) == 20 and run.stats["checked_tokens"] is None and len(client.log) == 1


def test_what_the_caches_have_is_not_fed_again():
    """Board and golden model keep the same tokens; a text that goes on, one that turns off, and one that is the same again."""
    session = load(client := Client(), 4)
    first = [token.id for token in session.generate(PROMPT, max_tokens=9)]
    for prompt in ([*PROMPT, *first, 7], [*PROMPT, *first[:3], 8], [*PROMPT, *first[:3], 8], [2]):
        run = session.generate(prompt, max_tokens=6)
        assert [token.id for token in run] == wanted(6, prompt=prompt)
    assert [start.position for start in client.log if start.flags & 1] == [0, 11, 6, 6, 0]


@pytest.mark.parametrize("every", [1, 4, 16])
def test_a_token_that_is_wrong_on_its_way_is_told_and_not_given(every):
    number = 9
    client = Client(tell=lambda kind, event: replace(event, id=event.id ^ 1) if client.picked == number + 1 else event)
    run, given = load(client, every).generate(PROMPT, max_tokens=16), []
    right = wanted(number + 1)
    with pytest.raises(CheckError) as caught:
        for token in run:
            given.append(token.id)
    assert given == right[:number // every * every]
    assert f"port computes otherwise than the golden model: it picked token {right[-1] ^ 1} " in str(caught.value)
    assert f"behind position {number + 2}, and the golden model token {right[-1]} " in str(caught.value)


def test_an_id_that_is_no_token_is_told():
    client = Client(tell=lambda kind, event: replace(event, id=70_000) if client.picked == 3 else event)
    with pytest.raises(CheckError, match="it picked token 70000 "):
        list(load(client, 8).generate(PROMPT, max_tokens=16))


@pytest.mark.parametrize("field", ["position", "logit"])
def test_a_position_or_a_logit_that_is_wrong_is_told(field):
    client = Client(tell=lambda kind, event: event if client.picked != 5 else replace(
        event, **{field: getattr(event, field) + 1}))
    with pytest.raises(CheckError, match="it picked token"):
        list(load(client, 4).generate(PROMPT, max_tokens=16))


def flipped_key(board, number):
    """A bit of a key of the prompt flips ahead of token 6."""
    if number == 6:
        board._caches[1][0].keys[1, 2, 3] ^= 0x40


def test_a_flipped_bit_in_the_kv_cache_is_told_with_its_step():
    """At the end of the piece in which it flips, by the first step that reads it; tokens need not be wrong."""
    given = []
    with pytest.raises(CheckError, match=r"step 7 \(attention of layer 1\) is the first of the steps at position 9 that gave"):
        for token in load(Client(before=flipped_key), 8).generate(PROMPT, max_tokens=16):
            given.append(token.id)
    assert given == []


def test_a_step_whose_crc_differs_is_named():
    client = FaultyClient(preset("sim-tiny"), Faults(crc=4))
    with pytest.raises(CheckError, match=r"than the golden model: step 4 \(gate and up of layer 0\) is the first"):
        list(load(client, 5).generate(PROMPT, max_tokens=16))


def test_an_infinity_that_the_golden_model_has_not_is_told():
    def tell(kind, event):
        return replace(event, id=3, logit=DoneReason.NONFINITE) if kind == EventType.DONE else event

    with pytest.raises(CheckError, match=r"step 3 \(o of layer 0\) gave an infinity or NaN at position 5, and gives none"):
        list(load(Client(tell=tell), 4).generate(PROMPT, max_tokens=16))


def test_an_infinity_that_the_golden_model_has_too_is_the_models():
    model = random_model("plain")
    model.layers[1].scales["w2"] = Scale(2047, 20)
    with pytest.raises(NonfiniteRunError, match=r"^step 10 \(down of layer 1\) gave an infinity or NaN at position 0: the "):
        list(load(Client(), 4, model).generate(PROMPT, max_tokens=16))


def test_end_tokens_of_board_and_host():
    """The tokens up to the end are compared; those of the host stop the board, whose CRCs are of no certain token then."""
    ids = wanted(20)
    for ends in ((ids[9],), (60_000, 60_001, 60_002, 60_003, ids[9])):
        model = even_model()
        model.config = replace(model.config, eos=None)
        session = load(Client(), 4, model)
        run = session.generate(PROMPT, max_tokens=20)
        run.generation.ends = ends
        got = [token.id for token in run]
        assert got == ids[:ids.index(ids[9]) + 1] and run.stop_reason == "end_token" and run.stats["checked_tokens"] == len(got)


def test_a_full_context():
    run = load(Client(), 5).generate(PROMPT, max_tokens=100)
    assert [token.id for token in run] == wanted(100) and run.stop_reason == "context"
    assert run.stats["checked_tokens"] == MODEL.config.context - len(PROMPT) + 1


@pytest.mark.parametrize("name", ["grouped", "untied", "relu2"])
@pytest.mark.parametrize("head", ["board", "host"])
def test_the_family_and_heads_on_the_host(name, head):
    model = random_model(name)
    session = load(Client(), 3, model, head=head)
    run = session.generate([1, 2, 3, 4], max_tokens=8)
    assert [token.id for token in run] == wanted(8, model, [1, 2, 3, 4]) and run.stats["checked_tokens"] == 8


def test_a_head_on_the_host_whose_board_is_wrong():
    with pytest.raises(CheckError, match="is the first of the steps at position"):
        list(load(Client(before=flipped_key), 8, head="host").generate(PROMPT, max_tokens=16))


def test_what_does_not_go_together():
    with pytest.raises(tellme.InputError, match="^the golden model is what boards are compared with: check a board's runs$"):
        tellme.Board(GoldenDevice()).load(MODEL, check=4)
    with pytest.raises(tellme.InputError, match="^check: 0 is outside 1 to 65535$"):
        load(Client(), 0)
    with pytest.raises(tellme.InputError, match="draft no tokens: leave the table of drafts out, or the check"):
        load(Client(), 4, drafts=tellme.find_model("stories-1m").path.with_suffix(".drafts"))


def test_one_sequence_is_compared():
    assert load(Client(preset("sim-slots")), 4).slots == 1 and load(Client(preset("sim-slots")), None).slots == 4


# ---------------------------------------------------------------- the memory
class Sums:
    """A memory whose ranges that are summed are kept."""

    def __init__(self, client):
        self._client, self.asked = client, []

    def checksums(self, ranges):
        self.asked.append(list(ranges))
        return self._client.checksums(ranges)


@pytest.fixture(scope="module")
def loaded():
    client = FakeClient(preset("ulx3s-85f-l2"))
    session = tellme.Board(BoardDevice("port", client.config, client, "ab" * 32)).load(tellme.find_model("stories-1m"))
    return client, session


def test_the_memory_holds_what_was_loaded(loaded):
    client, session = loaded
    size = sum(len(part) + -len(part) % 4 for _, part in session.image.sections)
    assert session.check_weights() == size and len(MemorySums(session.image).regions) == 16


def test_each_region_is_looked_at(loaded):
    """A bit flips in each region, in its first byte or its last."""
    client, session = loaded
    for number, (address, size, _) in enumerate(MemorySums(session.image).regions):
        at = address + (number % 2) * (size - 1)
        client.memory[at] ^= 1 << number % 8
        with pytest.raises(CheckError) as caught:
            session.check_weights()
        assert str(caught.value).startswith("the board's memory does not hold what was loaded: "
                                            f"{size} bytes at {address:#x} have another checksum;")
        client.memory[at] ^= 1 << number % 8
    session.check_weights()


def test_regions_in_turn(loaded):
    """Regions of a few bytes at a time come round; a fault is found within a round."""
    client, session = loaded
    sums, board = MemorySums(session.image), Sums(client)
    sizes = [size for _, size, _ in sums.regions]
    assert sums.check(board, 100_000) == sum(sizes[:2])
    while len([entry for part in board.asked for entry in part]) < len(sizes):
        sums.check(board, 100_000)
    asked = [entry for part in board.asked for entry in part]
    assert asked[:len(sizes)] == [(address, size) for address, size, _ in sums.regions]
    assert sums.check(board, 1 << 30) == sum(sizes) and max(map(len, board.asked)) <= REGIONS_AT_ONCE


def test_the_golden_model_has_no_memory_chip():
    with pytest.raises(tellme.DeviceError, match="^golden has no memory whose checksums could be taken"):
        tellme.Board(GoldenDevice()).load(MODEL).check_weights()
