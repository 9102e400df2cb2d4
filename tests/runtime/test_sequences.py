# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Several sequences of a session side by side: by turns in a thread, and in threads, on the golden model, on a board of packets'
meanings, and behind the packets themselves."""

import random
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

import tellme
from tellme.errors import DeviceError, InputError, NonfiniteRunError
from tellme.link.errors import LinkError
from tellme.runtime.chat import Chat
from tellme.runtime.device import GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.spec.config import preset
from tellme.spec.memory import StartArgs, StartFlags
from tests.cli.fake_client import CYCLES, slotted_board
from tests.golden.test_slots import overflowing
from tests.link.golden_slots import CONFIG, device
from tests.models.random_model import even_model
from tests.serve.small import small_model

VOCAB, CONTEXT = 67, 200
MODEL = even_model(VOCAB, CONTEXT)
DRAWN = Sampling(temperature=2.0, top_k=30, seed=5)


def fake(config=CONFIG, **options):
    return slotted_board(config, **options)


KINDS = {"golden": GoldenDevice, "fake": lambda: fake()[1], "packets": lambda: device()[0]}


@pytest.fixture(params=KINDS)
def session(request):
    return tellme.Board(KINDS[request.param]()).load(MODEL)


@pytest.fixture(scope="module")
def alone():
    """What a text is alone, on the golden model."""
    on = tellme.Board(GoldenDevice()).load(MODEL)
    known = {}

    def ids(prompt, tokens, sampling=None):
        key = (tuple(prompt), tokens, sampling)
        if key not in known:
            known[key] = [token.id for token in on.generate(prompt, max_tokens=tokens, sampling=sampling)]
        return known[key]

    return ids


def prompts(count, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(VOCAB) for _ in range(rng.randint(1, 9))] for _ in range(count)]


def test_texts_in_turns_are_those_alone(session, alone):
    assert session.slots == (16 if session.device.name == "golden" else 4)
    with session.sequences(3) as sequences:
        runs = [sequence.generate(prompt, max_tokens=6 + 3 * i, sampling=DRAWN if i else None)
                for i, (sequence, prompt) in enumerate(zip(sequences, prompts(3), strict=True))]
        got = {id(run): [] for run in runs}
        turns = []
        for run, token in tellme.interleave(runs):
            got[id(run)].append(token.id)
            turns.append(runs.index(run))
        assert turns[:9] == [0, 1, 2] * 3 and Counter(turns) == {0: 6, 1: 9, 2: 12}
        for i, (run, prompt) in enumerate(zip(runs, prompts(3), strict=True)):
            assert got[id(run)] == alone(prompt, 6 + 3 * i, DRAWN if i else None) and run.stop_reason == "length"
        # The session's own slot is the last that a sequence takes.
        assert [sequence.slot for sequence in sequences] == [session.slots - 1 - i for i in range(3)]
        assert [token.id for token in session.generate(prompts(1)[0], max_tokens=6)] == alone(prompts(1)[0], 6)


def test_many_texts_join_and_leave_in_turns(session, alone):
    """Sequences that are iterated at random, one token at a time, begun anew when they end, and left now and then."""
    rng = random.Random(3)
    texts = [(prompt, rng.randint(1, 12), rng.choice((None, DRAWN))) for prompt in prompts(12, 1)]
    with session.sequences(4) as sequences:
        going = dict.fromkeys(sequences)
        ended = left = 0
        while ended < 25:
            sequence = rng.choice(sequences)
            if going[sequence] is None:
                text = rng.choice(texts)
                run = sequence.generate(text[0], max_tokens=text[1], sampling=text[2])
                going[sequence] = text, run, iter(run), []
            text, run, tokens, got = going[sequence]
            token = next(tokens, None)
            if token is not None:
                got.append(token.id)
                if rng.random() < 0.05:
                    tokens.close()
                    left += 1
                    assert got == alone(*text)[:len(got)] and run.stop_reason in ("interrupted", "length")
                    going[sequence] = None
                continue
            assert got == alone(*text)
            ended += 1
            going[sequence] = None
        assert left
    assert not session.device.board.running if isinstance(session.device, GoldenDevice) else not session.device._running


def test_threads(session, alone):
    """A thread a sequence, each with several texts; some are stopped by their threads."""
    texts = [(prompt, 8, sampling) for prompt in prompts(6, 2) for sampling in (None, DRAWN)]
    for text in texts:
        alone(*text)
    wrong = []

    def work(sequence, seed):
        rng = random.Random(seed)
        try:
            for _ in range(4):
                text = rng.choice(texts)
                got, run = [], sequence.generate(text[0], max_tokens=text[1], sampling=text[2])
                for token in run:
                    got.append(token.id)
                    if len(got) == 5 and rng.random() < 0.3:
                        break
                assert got == alone(*text)[:len(got)] and len(got) >= 5
        except BaseException as error:
            wrong.append(error)
            raise

    with session.sequences(4) as sequences:
        threads = [threading.Thread(target=work, args=(sequence, i)) for i, sequence in enumerate(sequences)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert not wrong


def test_passes_are_shared():
    client, board = fake()
    session = tellme.Board(board).load(MODEL)
    with session.sequences(4) as sequences:
        for _ in tellme.interleave([sequence.generate([3], max_tokens=10) for sequence in sequences]):
            pass
    assert client.passes[4] >= 5 and sum(client.passes.values()) <= 16


def test_a_prompt_longer_than_the_window_takes_several_starts(alone):
    """On a core with windows of 128 tokens, from 0 on and across the window's end."""
    client, board = fake()
    session = tellme.Board(board).load(MODEL)
    rng = random.Random(9)
    prompt = [rng.randrange(VOCAB) for _ in range(150)]
    assert board.token_window == 128
    with session.open() as sequence:
        assert [token.id for token in sequence.generate(prompt, max_tokens=20)] == alone(prompt, 20)
        assert [(args.position, args.feed, args.generate, args.slot) for args in client.log] == [
            (0, 128, 0, 3), (128, 22, 20, 3)]
        run = sequence.generate(prompt[:100] + prompt[:90], max_tokens=5, sampling=DRAWN)
        assert [token.id for token in run] == alone(prompt[:100] + prompt[:90], 5, DRAWN)
        assert client.log[-1].position == 100 and client.log[-1].feed == 90 and run.stats["cached_tokens"] == 100
        with pytest.raises(InputError, match="^the prompt has 201 tokens, the model's context holds 200$"):
            sequence.generate([1] * 201)


def test_a_board_that_picks_behind_a_part_of_a_prompt_is_named(monkeypatch):
    client, board = fake()
    session = tellme.Board(board).load(MODEL)
    start = client.start
    monkeypatch.setattr(client, "start", lambda args: start(replace(args, generate=1)))
    with session.open() as sequence, pytest.raises(tellme.DeviceError, match="^port picked a token that was not asked for$"):
        list(sequence.generate([5] * 150, max_tokens=2))


def test_each_slot_has_a_cache_and_settings_of_its_own():
    client, board = fake()
    session = tellme.Board(board).load(MODEL)
    first, second = session.sequences(2)
    a = first.generate([1, 2, 3, 4], max_tokens=4, sampling=replace(DRAWN, seed=1))
    b = second.generate([1, 2, 3, 9], max_tokens=4, sampling=replace(DRAWN, seed=2))
    list(tellme.interleave([a, b]))
    assert (a.stats["cached_tokens"], b.stats["cached_tokens"]) == (0, 0)
    again = second.generate([1, 2, 3, 9, 9], max_tokens=1)
    list(again)
    assert again.stats["cached_tokens"] == 4 and first.cache.ids[:4] == (1, 2, 3, 4)
    second.close()
    # The slot's next sequence has what lies there.
    third = session.open()
    assert third.slot == second.slot and len(third.cache) >= 5
    with pytest.raises(InputError, match="^the sequence is closed: open another one$"):
        second.generate([1])
    # The registers are written with each START that draws.
    assert [bool(args.flags & StartFlags.SAMPLE) for args in client.log] == [True, True, False]


def test_slots_that_are_taken_are_refused_by_name():
    one = tellme.Board(fake(preset("sim-all"))[1]).load(MODEL)
    assert one.slots == 1
    with one.open() as sequence:
        assert sequence.slot == 0
        with pytest.raises(DeviceError, match="^port runs one sequence at a time with this model, and it is taken: close one f"):
            one.open()
        with pytest.raises(InputError, match="^a sequence has the session's own slot: close one, or generate with it$"):
            one.generate([1])
        with pytest.raises(InputError, match="a sequence has the session's own slot"):
            one.loss("a")
    assert one.open().slot == 0
    four = tellme.Board(fake()[1]).load(MODEL)
    three = four.sequences(3)
    with pytest.raises(DeviceError, match="^port runs 4 sequences at a time with this model, and all are taken: close one first"):
        four.sequences(2)
    # None was taken by the attempt.
    assert len(four.sequences()) == 1 and len(three) == 3


def test_an_image_with_fewer_caches_than_the_core_has_slots():
    """The memory has room for fewer, and a slot without a cache is refused before a byte is sent."""
    whole = tellme.Board(fake()[1]).load(MODEL).image
    config = replace(CONFIG, sdram_bytes=whole.end - 1)
    client, board = fake(config)
    session = tellme.Board(board).load(MODEL)
    assert session.slots == session.image.slots == 3 and len(session.sequences()) == 3
    before = len(client.log)
    for slot in (3, 4):
        with pytest.raises(DeviceError, match=f"^port runs 3 sequences side by side with this model, and slot {slot} is not one"):
            next(board.start(StartArgs(0, 1, 1, slot=slot)))
        with pytest.raises(DeviceError, match=f"slot {slot} is not one"):
            board.place(0, [1], slot)
    assert len(client.log) == before


def test_the_last_pass_is_read_by_one_sequence_alone(session):
    on = session.device
    first, second = session.sequences(2)
    a, b = iter(first.generate([1, 2], max_tokens=9)), iter(second.generate([3], max_tokens=9))
    next(a), next(b)
    for read in (on.top, on.logits, on.pass_logits, lambda: on.top(slot=first.slot)):
        with pytest.raises(DeviceError, match="cannot be read while other sequences run [(]slot "):
            read()
    rows = []
    with pytest.raises(DeviceError, match="^all logits cannot be asked for while other sequences run"):
        list(session.generate([5, 6], max_tokens=2, on_logits=rows.append))
    with pytest.raises(DeviceError, match="^the best 64 cannot be read while other sequences run"):
        list(session.generate([5, 6], max_tokens=2, sampling=Sampling(repeat_penalty=1.5)))
    assert not rows
    second.stop()
    list(a)
    # Nobody runs, but whose the last pass was is not said.
    for read in (on.top, on.logits, lambda: on.top(slot=first.slot)):
        with pytest.raises(DeviceError, match="may be those of another sequence, as several ran: generate while no other one do"):
            read()
    # Alone again, all of it works.
    list(second.generate([7], max_tokens=2))
    assert on.top(slot=second.slot) == on.top() and len(on.top()) == 64
    with pytest.raises(DeviceError, match="^the best 64 may be those of another sequence"):
        on.top(slot=first.slot)
    list(session.generate([5, 6], max_tokens=2, on_logits=rows.append))
    assert len(rows) == 3
    assert [t.id for t in session.generate([5, 6], max_tokens=2, sampling=Sampling(repeat_penalty=1.5))]


def test_the_logits_of_a_prompts_last_token(alone):
    """A core with several slots has one row of logits for the only wanted token of a pass, wherever the token is in the pass."""
    client, board = fake()
    session = tellme.Board(board).load(MODEL)
    prompt = prompts(1, 4)[0][:1] * 7
    sampled = Sampling(temperature=1.0, repeat_penalty=1.3, seed=4)
    want = [t.id for t in tellme.Board(GoldenDevice()).load(MODEL).generate(prompt, max_tokens=5, sampling=sampled)]
    assert [t.id for t in session.generate(prompt, max_tokens=5, sampling=sampled)] == want
    board.place(0, prompt)
    for generate in (1, 3):
        list(board.start(StartArgs(0, 7, generate, StartFlags.DUMP)))
        assert len(board.pass_logits()) == 1
        assert board.top()[0][1] == board.logits().max() and np.array_equal(board.logits(), client.board.logits)


def test_stopping_one_leaves_the_others(session, alone):
    first, second, third = session.sequences(3)
    runs = [s.generate([i + 1], max_tokens=30) for i, s in enumerate((first, second, third))]
    tokens = [iter(run) for run in runs]
    got = [[next(each).id for _ in range(3)] for each in tokens]
    runs[1].interrupt()
    got[0] += [token.id for token in tokens[0]]
    third.close()
    assert got[0] == alone([1], 30) and got[1] == alone([2], 30)[:3] and runs[1].stop_reason == "interrupted"
    # The slot of a stopped one takes the next text at once.
    assert [t.id for t in second.generate([2], max_tokens=30)] == alone([2], 30)


def test_an_interruption_of_an_interleaved_loop_stops_its_sequences_alone(session, alone):
    other = session.open()
    going = iter(other.generate([9], max_tokens=20))
    got = [next(going).id]
    with pytest.raises(KeyboardInterrupt):
        with session.sequences(2) as sequences:
            runs = [s.generate([i], max_tokens=30) for i, s in enumerate(sequences)]
            for number, _ in enumerate(tellme.interleave(runs)):
                if number == 5:
                    raise KeyboardInterrupt
    got += [token.id for token in going]
    assert got == alone([9], 20)
    assert len(session.sequences()) == session.slots - 1


def test_an_interruption_while_a_token_is_waited_for(alone):
    """Ctrl-C in the middle of the link: the run that waited is stopped with the others of its loop, and the rest go on."""
    client, board = fake()
    session = tellme.Board(board).load(MODEL)
    other = session.open()
    going = iter(other.generate([9], max_tokens=20))
    got = [next(going).id]
    listen, left = client.listen, [4]

    def interrupted(slots, seconds):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return listen(slots, seconds)

    client.listen = interrupted
    sequences = session.sequences(2)
    runs = [s.generate([i], max_tokens=30) for i, s in enumerate(sequences)]
    with pytest.raises(KeyboardInterrupt):
        list(tellme.interleave(runs))
    assert board._running == {other.slot} and {run.stop_reason for run in runs} == {"interrupted"}
    assert got + [token.id for token in going] == alone([9], 20)
    assert [t.id for t in sequences[0].generate([0], max_tokens=3)] == alone([0], 3)


def test_a_device_that_dies_tells_each_caller():
    for threaded in (False, True):
        client, board = fake(cut_after=9, error=LinkError("the board does not answer"))
        session = tellme.Board(board).load(MODEL)
        runs = [sequence.generate([i], max_tokens=30) for i, sequence in enumerate(session.sequences(3))]
        errors = []

        def take(run, errors=errors):
            with pytest.raises(LinkError, match="^the board does not answer$") as caught:
                for _ in run:
                    pass
            errors.append(caught.value)

        if threaded:
            threads = [threading.Thread(target=take, args=(run,)) for run in runs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        else:
            with pytest.raises(LinkError, match="^the board does not answer$"):
                list(tellme.interleave(runs))
            for run in runs:
                # What lies in the caches is not known.
                assert len(run.generation.cache) == 0 or run.generation.stop_reason == "interrupted"
            continue
        assert len(errors) == 3
        assert all(len(run.generation.cache) == 0 for run in runs)


def test_cycles_beside_others():
    client, board = fake()
    session = tellme.Board(board).load(MODEL)
    first, second = session.sequences(2)
    a, b = first.generate([1, 2], max_tokens=9), second.generate([3], max_tokens=4)
    turns = iter(a)
    next(turns)
    list(b)
    list(turns)
    assert a.stats["prefill_cycles"] >= CYCLES and a.stats["board_tokens_per_second"] > 0
    # The counters are the board's: the second START did not zero them, and says no number for its prompt.
    assert client.log[0].flags & StartFlags.CLEAR and not client.log[1].flags & StartFlags.CLEAR
    assert b.stats["prefill_cycles"] is None and 0 < b.stats["decode_cycles"] < a.stats["decode_cycles"]
    assert board.zeroed == 1
    list(second.generate([3], max_tokens=1))
    assert client.log[-1].flags & StartFlags.CLEAR and board.zeroed == 2


def test_chats_side_by_side():
    model = small_model()
    session = tellme.Board(GoldenDevice()).load(model)
    with pytest.raises(InputError, match="has no chat template"):
        Chat(session.open())


@pytest.mark.parametrize("kind", KINDS)
def test_an_infinity_ends_its_sequence_alone(kind):
    model, _, bad, good = overflowing()
    on = tellme.Board(KINDS[kind]()).load(model)
    want = []
    for token in good:
        # The text of a good token may meet an infinity itself.
        with suppress(NonfiniteRunError):
            want = [t.id for t in on.generate([token], max_tokens=4)]
            break
    assert want
    first, second = on.sequences(2)
    going, got = iter(first.generate([token], max_tokens=4)), []
    got.append(next(going).id)
    with pytest.raises(NonfiniteRunError, match="down of layer 1[)] gave an infinity or NaN at position 0"):
        list(second.generate([bad[0]], max_tokens=4))
    assert got + [t.id for t in going] == want
    assert [t.id for t in second.generate([token], max_tokens=4)] == want


@pytest.mark.parametrize("sampling", [None, DRAWN, Sampling(temperature=1.0, repeat_penalty=1.3)])
def test_slot_0_alone_does_all_that_a_board_with_one_slot_does(sampling):
    """Logits of each position, what the host draws, the loss, and a head on the host."""
    model = small_model()
    golden = tellme.Board(GoldenDevice()).load(model)
    client, board = fake()
    on = tellme.Board(board).load(model)
    prompt = [3, 9, 40, 60, 0, 12, 33, 8, 9, 10, 11]
    rows = {golden: [], on: []}
    ids = {each: [t.id for t in each.generate(prompt, max_tokens=4, sampling=sampling, on_logits=rows[each].append)]
           for each in rows}
    assert ids[golden] == ids[on] and np.array_equal(rows[golden], rows[on]) and len(rows[on]) == len(prompt) + 3
    # Prompts by chunks with the flag ALL, the last one and the picks one by one.
    assert [args.feed for args in client.log] == [4, 4, 3, 1, 1, 1] and {args.slot for args in client.log} == {0}
    text = "abc. Hello, you! " * 5
    assert on.loss(text) == golden.loss(text)
    # Beside a text of another slot on the golden model, which goes on.
    with golden.open() as other:
        going = iter(other.generate(prompt, max_tokens=9))
        got = [next(going).id]
        assert golden.loss(text) == on.loss(text)
        assert [*got, *(t.id for t in going)] == [t.id for t in other.generate(prompt, max_tokens=9)]
    head = tellme.Board(fake()[1]).load(model, head="host")
    assert head.slots == 1 and [t.id for t in head.generate(prompt, max_tokens=4, sampling=sampling)] == ids[golden]
    with pytest.raises(DeviceError, match="runs one sequence at a time with this model, and slot 1 is not one of theirs"):
        next(head.device.start(StartArgs(0, 1, 1, slot=1)))
