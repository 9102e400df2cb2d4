# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sequences side by side on the golden board: each is what it is alone, whatever joins and leaves beside it."""

import random
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest

from tellme.compiler import compile_model
from tellme.golden import GoldenBoard
from tellme.golden.perplexity import unlimited_config
from tellme.spec.config import preset
from tellme.spec.memory import SAMPLING_REGISTERS, DoneReason, EventType, StartArgs, StartFlags
from tellme.spec.ranges import RangeError
from tellme.spec.sampling import DrawSettings, inverse_temperature, pack_settings
from tellme.spec.scale import Scale
from tests.models.random_model import even_model, random_model

LANES, SLOTS, WINDOW, CONTEXT, VOCAB = 4, 4, 8, 24, 67
IMAGE = compile_model(even_model(VOCAB, CONTEXT), unlimited_config(even_model(VOCAB, CONTEXT)))
TOKEN, DONE = EventType
NO_DRAW = dict.fromkeys(SAMPLING_REGISTERS, 0)


class Recorded(GoldenBoard):
    """A golden board that keeps the runs of each pass, and the row of logits of each pick."""

    def __init__(self, *args, **options):
        self.passes, self.rows = [], []
        super().__init__(*args, **options)

    def _compute(self, runs, wanted):
        self.passes.append([(run.slot, run.position, len(run.tokens)) for run in runs])
        return super()._compute(runs, wanted)

    def _picked(self, number, settings, position):
        self.rows.append(self.pass_logits[number].copy())
        return super()._picked(number, settings, position)


def slotted(**options):
    return Recorded(IMAGE, LANES, head_tokens=LANES, **{"slots": SLOTS, "token_window": WINDOW} | options)


def short(events):
    """Slot, kind, position, id, and the logit or the reason; the id of a DONE means nothing unless a step failed."""
    return [(e.slot, kind, e.position, e.id if kind == TOKEN or e.logit == DoneReason.NONFINITE else None, e.logit)
            for kind, e in events]


def place(board, slot, position, tokens):
    for i, token in enumerate(tokens):
        board.windows[slot][(position + i) % len(board.windows[slot])] = token


@dataclass
class Text:
    """A sequence alone: ids from its prompt to the end of the context, and the logits and the pick after each position."""

    prompt: int
    settings: DrawSettings | None
    ids: list[int]
    rows: list[np.ndarray]
    picks: list[int]

    @classmethod
    def drawn(cls, rng):
        prompt = [rng.randrange(VOCAB) for _ in range(rng.randint(1, 15))]
        settings = rng.choice((None, DrawSettings(inverse_temperature(rng.choice((0.8, 3.0))), top_k=rng.choice((5, 64)),
                                                  seed=rng.randrange(1 << 64))))
        board = Recorded(IMAGE, CONTEXT, head_tokens=CONTEXT)
        board.tokens[:len(prompt)] = prompt
        flags = StartFlags.ALL
        if settings is not None:
            board.registers |= pack_settings(settings)
            flags |= StartFlags.SAMPLE
        picks = [event.id for kind, event in board.start(StartArgs(0, len(prompt), CONTEXT, flags)) if kind == TOKEN]
        assert len(picks) == CONTEXT
        return cls(len(prompt), settings, (prompt + picks[len(prompt) - 1:])[:CONTEXT], board.rows, picks)


@dataclass
class Going:
    """A slot of the test: its text, what was fed of it, and the events that are to come."""

    text: Text | None = None
    fed: int = 0
    args: StartArgs | None = None
    left: int = 0
    #: (position, pick), and DONE's position and reason.
    tokens: list[tuple[int, int]] = field(default_factory=list)
    end: tuple[int, DoneReason] = (0, DoneReason.LENGTH)


def begin(board, rng, slot, going, texts):
    """START of a new text, or of the text that the slot has, from where it is."""
    if going.text is None or going.fed >= CONTEXT - 1 or rng.random() < 0.4:
        going.text, going.fed = rng.choice(texts), 0
    text, position = going.text, going.fed
    feed = rng.randint(1, min(WINDOW, CONTEXT - position))
    generate = rng.choice((0, 1, 2, 5, 30)) if position + feed >= text.prompt else 0
    every = rng.random() < 0.3
    flags = (StartFlags.ALL if every else 0) | (StartFlags.SAMPLE if text.settings is not None else 0)
    last = position + feed - 1
    ends = tuple({text.picks[rng.randint(last, CONTEXT - 1)]} if rng.random() < 0.3 else ())
    args = StartArgs(position, feed, generate, StartFlags(flags), rng.choice((0, 0, 1, 2, 3, 9)), slot, ends)
    going.tokens = [(p, text.picks[p]) for p in range(position, last) if every]
    going.end = last, DoneReason.LENGTH
    if generate or every:
        going.tokens.append((last, text.picks[last]))
    for picked in range(1, generate + 1):
        at = last + picked - 1
        if picked > 1:
            going.tokens.append((at, text.picks[at]))
        reason = (DoneReason.END_TOKEN if text.picks[at] in ends else DoneReason.LENGTH if picked == generate else
                  DoneReason.CONTEXT if at + 1 == CONTEXT else None)
        going.end = at, reason
        if reason is not None:
            break
    # What the registers hold counts at the START alone.
    board.registers |= NO_DRAW if text.settings is None else pack_settings(text.settings)
    place(board, slot, position, text.ids[position:position + feed])
    board.begin(args)
    board.registers |= {name: rng.getrandbits(16) for name in SAMPLING_REGISTERS}
    going.args, going.left = args, feed


def expected_pass(slots, order):
    """The runs of the next pass, by the rule of decision 18."""
    runs = [(s, slots[s].fed, 1) for s in range(SLOTS) if s in order and not slots[s].left]
    free = LANES - len(runs)
    for s in order:
        n = min(slots[s].left, slots[s].args.chunk or LANES, free)
        if n:
            runs.append((s, slots[s].fed, n))
            free -= n
    return runs


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 4))])
def test_each_sequence_is_what_it_is_alone(seed):
    """A thousand joins and leaves in all, a quarter of them in CI, at random, with prompts of several STARTs, stops, end tokens
    and draws: the runs of each pass, the order of the events, each pick and each row of logits."""
    rng = random.Random(seed)
    board, texts = slotted(), [Text.drawn(rng) for _ in range(8)]
    slots, order, joins, leaves, passes = [Going() for _ in range(SLOTS)], [], 0, 0, set()
    while leaves < 250:
        for slot in rng.sample(range(SLOTS), SLOTS):
            if slot not in order and rng.random() < 0.3 and joins < 250:
                begin(board, rng, slot, slots[slot], texts)
                order.append(slot)
                joins += 1
        board.passes.clear()
        board.rows.clear()
        runs = expected_pass(slots, order)
        passes.add(len(runs))
        events, rows = short(board.make_pass()), iter(board.rows)
        assert board.passes == ([runs] if runs else [])
        for slot, position, n in runs:
            going = slots[slot]
            going.left, going.fed = max(going.left - n, 0), position + n
            while going.tokens and going.tokens[0][0] < going.fed:
                at, token = going.tokens.pop(0)
                assert events.pop(0) == (slot, TOKEN, at, token, int(going.text.rows[at][token]))
                assert np.array_equal(next(rows), going.text.rows[at])
            if going.end[0] == going.fed - 1 and not going.left:
                assert events.pop(0) == (slot, DONE, going.end[0], None, going.end[1])
                order.remove(slot)
                leaves += 1
        assert not events and not list(rows) and board.running == tuple(sorted(order))
        if rng.random() < 0.15:
            stopped = rng.sample(range(SLOTS), rng.randint(0, SLOTS))
            want = [(s, DONE, max(slots[s].fed - 1, slots[s].args.position), None, DoneReason.STOPPED)
                    for s in sorted(stopped) if s in order]
            assert short(board.stop(stopped)) == want
            order = [s for s in order if s not in stopped]
            leaves += len(want)
    assert joins == leaves == 250 and not board.running and passes == set(range(SLOTS + 1))


def test_a_run_alone_is_that_of_a_board_with_one_slot():
    """Each slot, with all flags: events, token memory, rows of logits as the pass numbers them."""
    draws = pack_settings(DrawSettings(inverse_temperature(3.0), top_k=20, seed=11))
    prompt = [3, 9, 40, 66, 0, 12]
    for slot in range(SLOTS):
        for flags in (StartFlags(0), StartFlags.SAMPLE, StartFlags.ALL, StartFlags.ALL | StartFlags.SAMPLE):
            for generate in (0, 1, 5):
                board, single = slotted(token_window=None), GoldenBoard(IMAGE, LANES, head_tokens=LANES)
                for one, tokens in ((board, board.windows[slot]), (single, single.tokens)):
                    one.registers |= draws
                    tokens[:len(prompt)] = prompt
                got = list(board.start(StartArgs(0, len(prompt), generate, flags, slot=slot)))
                want = list(single.start(StartArgs(0, len(prompt), generate, flags)))
                assert got == [(kind, replace(event, slot=slot)) for kind, event in want]
                assert board.windows[slot] == single.tokens and not board.running
                assert all(not any(window) for s, window in enumerate(board.windows) if s != slot)
                if generate or flags & StartFlags.ALL:
                    assert np.array_equal(board.logits, single.logits) and board.top() == single.top()
                # The last pass of a prompt of six is of two tokens, and with ALL the LM head works for both.
                rows = 2 if flags & StartFlags.ALL and generate != 5 else 1
                assert len(board.pass_logits) == rows


def test_a_start_left_early_ends_its_run():
    board = slotted()
    run = board.start(StartArgs(0, 1, 5, slot=2))
    next(run)
    assert board.running == (2,)
    with pytest.raises(ValueError, match="^slots 2 run: begin a run beside them, and make passes$"):
        next(board.start(StartArgs(0, 1, 5)))
    run.close()
    assert not board.running and board.make_pass() == [] and board.stop() == []


def test_prompts_share_the_lanes_that_decoding_slots_leave():
    board = slotted()
    for slot, feed, chunk in ((2, 1, 0), (3, 7, 0), (0, 8, 1), (1, 2, 0)):
        board.begin(StartArgs(0, feed, 3, chunk=chunk, slot=slot))
    while board.running:
        board.make_pass()
    assert board.passes == [
        # Prompts by the order of START: what one leaves the next takes.
        [(2, 0, 1), (3, 0, 3)],
        # A slot that decodes is ahead.
        [(2, 1, 1), (3, 3, 3)],
        # The last token of slot 3's prompt; slot 0 takes one at a time, and what it leaves goes on to slot 1.
        [(2, 2, 1), (3, 6, 1), (0, 0, 1), (1, 0, 1)],
        [(3, 7, 1), (0, 1, 1), (1, 1, 1)],
        [(1, 2, 1), (3, 8, 1), (0, 2, 1)],
        [(1, 3, 1), (0, 3, 1)],
        *[[(0, at, 1)] for at in range(4, 10)]]


def test_lanes_that_decode_leave_a_prompt_none():
    board = slotted(slots=4)
    for slot in (0, 2, 3):
        board.begin(StartArgs(0, 1, 4, slot=slot))
    board.make_pass()
    board.begin(StartArgs(0, 3, 0, slot=1))
    for _ in range(3):
        board.make_pass()
    assert board.passes[1:] == [[(0, at, 1), (2, at, 1), (3, at, 1), (1, at - 1, 1)] for at in (1, 2, 3)]
    assert not board.running


def test_rows_of_a_pass_are_numbered_by_its_tokens():
    """The only wanted token has logits alone.  Where a prompt's token is wanted beside others all tokens have logits, else those
    that decode, which lie first."""
    board, single = slotted(), GoldenBoard(IMAGE, LANES, head_tokens=LANES)
    board.windows[1][0] = single.tokens[0] = 7
    board.begin(StartArgs(0, 3, 0, slot=0))
    board.begin(StartArgs(0, 1, 9, slot=1))
    (_, done), (_, event) = board.make_pass()
    assert board.passes[-1] == [(0, 0, 3), (1, 0, 1)] and len(board.pass_logits) == 1 and (done.slot, event.slot) == (0, 1)
    # The token behind three others of another slot.
    (_, want), _ = single.start(StartArgs(0, 1, 1))
    assert (event.id, event.logit) == (want.id, want.logit) == board.top(0)[0]
    board.begin(StartArgs(3, 5, 1, slot=0))
    (_, event), = board.make_pass()
    assert board.passes[-1] == [(1, 1, 1), (0, 3, 3)] and len(board.pass_logits) == 1 and event.slot == 1
    _, (_, event), _ = board.make_pass()
    assert board.passes[-1] == [(1, 2, 1), (0, 6, 2)] and len(board.pass_logits) == 3 and event.slot == 0
    assert board.top(2)[0] == (event.id, event.logit)
    kept = board.pass_logits
    board.stop()
    # A pass without a wanted token leaves what was there.
    board.begin(StartArgs(0, 2, 0, slot=3))
    board.make_pass()
    assert board.pass_logits is kept


@cache
def overflowing():
    """A model whose last down projection overflows for some tokens and not for others, its image, and tokens of each kind."""
    model = random_model("plain")
    for exponent in range(20):
        model.layers[1].scales["w2"] = Scale(2047, exponent)
        image = compile_model(model, unlimited_config(model))
        found = {True: [], False: []}
        for token in range(40):
            board = GoldenBoard(image)
            board.tokens[0] = token
            *_, (_, done) = board.start(StartArgs(0, 1, 0))
            found[done.logit == DoneReason.NONFINITE].append(token)
        if found[True] and found[False]:
            return model, image, found[True], found[False]
    raise AssertionError("no scale tells the tokens apart")


def test_an_infinity_ends_its_slot_alone():
    _, image, bad, good = overflowing()
    alone = {}
    for slot, token in ((0, good[0]), (1, bad[0]), (3, good[1])):
        board = GoldenBoard(image, LANES, head_tokens=LANES)
        board.tokens[0] = token
        alone[slot] = [(kind, replace(event, slot=slot)) for kind, event in board.start(StartArgs(0, 1, 3))]
    # The bad one ends before its first pick, the others behind one at least.
    assert [kind for kind, _ in alone[1]] == [DONE] and alone[1][0][1].logit == DoneReason.NONFINITE
    assert alone[0][0][0] == alone[3][0][0] == TOKEN
    board = Recorded(image, LANES, head_tokens=LANES, slots=SLOTS)
    got = {slot: [] for slot in alone}
    for slot, token in ((3, good[1]), (1, bad[0]), (0, good[0])):
        board.windows[slot][0] = token
        board.begin(StartArgs(0, 1, 3, slot=slot))
    first = board.make_pass()
    # The pass of three, and each slot's own; the events in the pass's order.
    assert board.passes == [[(3, 0, 1), (1, 0, 1), (0, 0, 1)], [(3, 0, 1)], [(1, 0, 1)], [(0, 0, 1)]]
    assert [event.slot for kind, event in first if kind == TOKEN or event.slot == 1] == [3, 1, 0]
    while first:
        for kind, event in first:
            got[event.slot].append((kind, event))
        first = board.make_pass()
    assert got == alone


@pytest.mark.parametrize(("args", "message"), [
    (StartArgs(0, 1, 1, slot=4), "slot: 4 is outside 0 to 3"), (StartArgs(0, 9, 1), "feed, within a slot's token window: 9 is"),
    (StartArgs(20, 5, 1), "position [+] feed: 25 is outside 0 to 24"), (StartArgs(0, 1, 1, slot=1), "^slot 1 runs already$"),
    (StartArgs(0, 1, 1, StartFlags.SAMPLE), "the board has no sampler")])
def test_what_no_slot_takes_is_refused(args, message):
    board = slotted(sampler=False)
    board.begin(StartArgs(0, 1, 3, slot=1))
    with pytest.raises(ValueError, match=message):
        board.begin(args)
    assert board.running == (1,)
    if args.slot == 4:
        with pytest.raises(RangeError, match="slots: 5 is outside 1 to 4"):
            slotted(slots=5)


def test_an_image_of_a_core_with_slots_is_the_same_model():
    """The strides of several caches are the board's alone."""
    config = preset("sim-slots")
    model = even_model(VOCAB, CONTEXT)
    image = compile_model(model, config)
    assert image.slots == 4 and image.registers["s_stride"] == 4 * CONTEXT
    board = Recorded(image, config.chunk, head_tokens=config.head_tokens, slots=image.slots,
                     token_window=config.widths.token_window)
    assert len(board.windows[3]) == 128
    one = GoldenBoard(IMAGE)
    for tokens in (board.windows[3], one.tokens):
        tokens[:3] = [5, 6, 7]
    assert short(board.start(StartArgs(0, 3, 9, slot=3))) == [(3, *event[1:]) for event in short(one.start(StartArgs(0, 3, 9)))]
