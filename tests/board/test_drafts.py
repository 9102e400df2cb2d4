# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Drafted tokens on the simulated board: passes are the golden board's, and each sequence tells what it tells without drafts."""

import os
import random
from collections import defaultdict

import numpy as np
import pytest

from hw.verilog import core_sha256, core_verilog
from tellme.compiler.image import compile_model, with_drafts
from tellme.drafts.table import DraftTable
from tellme.golden.board import GoldenBoard
from tellme.spec.config import preset
from tellme.spec.drafts import REST, SETTINGS_FIELDS
from tellme.spec.memory import DRAFT_REGISTERS, DoneReason, EventType, StartArgs, StartFlags, register_address
from tellme.spec.sampling import pack_settings
from tellme.spec.words import pack_word
from tests.board.compare import client
from tests.board.slots import join_and_leave, overflowing, running, start, words
from tests.models.random_model import even_model, random_model
from tests.slot_runs import Text, told

#: The board's build would take CI beyond its twenty minutes; the core bench core/slots-drafts-four has the same processor.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

PRESET = "sim-slots"
BOARD = preset(PRESET)
LANES, SLOTS, WINDOW = BOARD.chunk, BOARD.slots, BOARD.widths.token_window
TOKEN, DONE = EventType
#: Joins of the schedule with stops, and of each that is compared pass by pass.
JOINS = int(os.environ.get("TELLME_VECTORS", "300"))
RUNS = JOINS // 15
#: Models of several vocabularies.
MODELS = {"even-67": lambda: even_model(67, 60), "even-1000": lambda: even_model(1000, 40),
          "untied": lambda: random_model("untied"), "wide-heads": lambda: random_model("wide-heads")}


def damaged(texts, vocab, rng, *, right):
    """A table of texts of which this share of the tokens is right, and which knows nothing of some pairs."""
    other = [[token if rng.random() < right else rng.randrange(vocab) for token in text] for text in texts]
    return DraftTable.of_texts([text for text in other if len(text) > 1], vocab)


def wrong(texts, vocab):
    """A table in which each pair of the texts' tokens is followed by another one than in the texts."""
    return DraftTable.of_texts([[a, b, (c + 1) % vocab] for text in texts
                                for a, b, c in zip(text, text[1:], text[2:], strict=False)], vocab)


def load(device, model, table):
    """The image with its table, in the board's memory."""
    image = with_drafts(compile_model(model, BOARD), table, BOARD)
    device.load(image, lambda done, total: None)
    return image


def settle(board, image, most, cost):
    """Set the registers of drafts."""
    values = {"draft_base": image.draft_base, "draft_settings": pack_word(SETTINGS_FIELDS, {"most": most, "cost": cost})}
    board.write(register_address(DRAFT_REGISTERS[0]), words([values[name] for name in DRAFT_REGISTERS]))
    assert np.frombuffer(board.read(register_address(DRAFT_REGISTERS[0]), 8), "<u4").tolist() == list(values.values())
    return values


def golden_of(image, values):
    golden = GoldenBoard(image, LANES, head_tokens=LANES, slots=SLOTS, token_window=WINDOW, drafts=True)
    golden.registers |= values
    return golden


def passes_of(heard):
    """The passes in their order, {slot: events}, of each slot's events: TOKENs with the same number of cycles are of one pass,
    and a DONE is of the pass of the TOKEN before it."""
    passes = defaultdict(lambda: defaultdict(list))
    for slot, events in heard.items():
        cycles = None
        for kind, event in events:
            cycles = event.cycles if kind == TOKEN else cycles
            passes[cycles][slot].append(told(kind, event))
    return [passes[cycles] for cycles in sorted(passes)]


def replay(golden, passes, starts):
    """Make the same passes on the golden board: a START counts from the pass on in which its slot is seen."""
    waiting = {slot: [s for s in starts if s[1].slot == slot] for slot in range(SLOTS)}
    for number, seen in enumerate(passes):
        new = sorted(waiting[slot][0] for slot in seen if slot not in golden.running)
        for begun, (_, args, ids, settings) in enumerate(new):
            golden.registers |= pack_settings(settings) if settings is not None else {}
            for i, token in enumerate(ids):
                golden.windows[args.slot][(args.position + i) % WINDOW] = token
            golden.begin(args)
            assert waiting[args.slot].pop(0)[0] == new[begun][0]
        made = defaultdict(list)
        for kind, event in golden.make_pass():
            made[event.slot].append(told(kind, event))
        assert made == seen, (number, made, seen)
    assert not golden.running and not any(waiting.values())


def test_core_is_the_presets(device):
    assert device.core_sha256 == core_sha256(core_verilog(PRESET)) and BOARD.drafts


@pytest.mark.parametrize("name", MODELS)
def test_each_pass_is_the_golden_boards(device, name):
    """Runs of all slots at random, greedy and drawn, with tables that are right, half right and wrong: which tokens each pass
    has, from events alone, so that a host counts passes and accepted tokens."""
    model, rng = MODELS[name](), random.Random(name)
    plain = compile_model(model, BOARD)
    vocab, context = plain.registers["vocab"], plain.registers["context"]
    texts = [Text.drawn(rng, plain, 6) for _ in range(6)]
    ids = [text.ids for text in texts]
    board = client(device)
    counted = []
    for table, most, cost in ((damaged(ids, vocab, rng, right=1.0), 3, 0), (damaged(ids, vocab, rng, right=0.7), 2, 0),
                              (wrong(ids, vocab), 15, 40), (damaged(ids, vocab, rng, right=0.9), 1, 90)):
        image = load(device, model, table)
        values = settle(board, image, most, cost)
        golden, starts, heard, free = golden_of(image, values), [], defaultdict(list), set(range(SLOTS))
        while len(starts) < RUNS or len(free) < SLOTS:
            for slot in rng.sample(sorted(free), len(free)):
                if len(starts) < RUNS and rng.random() < 0.5:
                    text = rng.choice(texts)
                    # Each pass tells something of each of its slots: all tokens of a prompt do, or its only one does.
                    flags = StartFlags.ALL if text.prompt > 1 else StartFlags(0)
                    flags |= StartFlags.SAMPLE if text.settings is not None else 0
                    flags |= StartFlags.DUMP if rng.random() < 0.1 else 0
                    end = (text.picks[rng.randint(text.prompt - 1, context - 1)],) if rng.random() < 0.2 else ()
                    args = StartArgs(0, text.prompt, rng.choice((2, 7, context)), flags, 0, slot, end)
                    start(board, BOARD, args, text.ids[:text.prompt], text.settings)
                    starts.append((len(starts), args, text.ids[:text.prompt], text.settings))
                    free.discard(slot)
            if len(free) < SLOTS:
                for kind, event in board.listen([slot for slot in range(SLOTS) if slot not in free], 60):
                    heard[event.slot].append((kind, event))
                    if kind == DONE:
                        free.add(event.slot)
        passes = passes_of(heard)
        replay(golden, passes, starts)
        counted.append(golden.drafts_told)
        print(f"{name}, most {most}, cost {cost}: {len(passes)} passes; {golden.drafts_told} (of slots, drafted, accepted)")
    # The first table may be right about every token, the second one is not.
    assert 0 < counted[0][2] and 0 < counted[1][2] < counted[1][1] and all(counted[3]), counted
    # Slots rest where nothing is accepted.
    assert 0 == counted[2][2] < counted[2][1] < counted[2][0], counted


def alone(device, image, text, generate, settings=None):
    """A run of slot 1 alone: ids that it tells, and how many tokens each pass gives."""
    board = client(device)
    flags = StartFlags.SAMPLE if settings is not None else StartFlags(0)
    start(board, BOARD, StartArgs(0, text.prompt, generate, flags, slot=1), text.ids[:text.prompt], settings)
    events = list(board.events(1))
    assert not running(board)
    return [event.id for kind, event in events if kind == TOKEN], [len(seen[1]) for seen in passes_of({1: events[:-1]})]


@pytest.mark.parametrize("drawn", [False, True])
def test_right_tables_give_a_token_a_lane_and_wrong_ones_rest(device, drawn):
    model, rng, length = even_model(1000, 80), random.Random(5), 0
    plain = compile_model(model, BOARD)
    while length < 2 * REST:
        text = Text.drawn(rng, plain, 3)
        # As long as each pair of the text's tokens comes once, a table can be right everywhere.
        pairs = list(zip(text.ids, text.ids[1:], strict=False))
        length = next((at for at in range(len(pairs)) if pairs[at] in pairs[:at]), len(pairs)) - text.prompt
        length *= (text.settings is not None) == drawn
    picks = text.picks[text.prompt - 1:]
    right = DraftTable.of_texts([text.ids[:text.prompt + length]], 1000)
    image = load(device, model, right)
    for most in (1, LANES - 1, 15):
        settle(client(device), image, most, 255)
        ids, widths = alone(device, image, text, length, text.settings)
        assert ids == picks[:length] and set(widths[1:-1]) == {min(most + 1, LANES)}
    settle(client(device), image, 0, 0)
    assert alone(device, image, text, length, text.settings) == (picks[:length], [1] * length)
    image = load(device, model, wrong([text.ids[:text.prompt + length]], 1000))
    settle(client(device), image, 3, 1)
    assert alone(device, image, text, 2 * REST, text.settings) == (picks[:2 * REST], [1] * 2 * REST)


def test_sequences_join_leave_and_are_stopped(device):
    """At random, with stops.  Each sequence tells what it tells alone without drafts."""
    model, rng = even_model(67, 24), random.Random(1)
    plain = compile_model(model, BOARD)
    texts = [Text.drawn(rng, plain, 15) for _ in range(8)]
    board = client(device)
    image = load(device, model, damaged([text.ids for text in texts], 67, rng, right=0.9))
    settle(board, image, 3, 10)
    heard, tokens = join_and_leave(board, BOARD, texts, rng, JOINS, begin=0.3, stop=0.05)
    passes = {event.cycles for events in heard.values() for kind, event in events if kind == TOKEN}
    print(f"{JOINS} joins, {tokens} tokens, {len(passes)} passes with picks")


def test_a_drafted_infinity_ends_no_slot(device):
    """Tables that draft tokens that overflow: each sequence ends where it ends without drafts."""
    model, bad, good = overflowing(BOARD)
    plain, rng = compile_model(model, BOARD), random.Random(2)
    vocab = plain.registers["vocab"]
    table = DraftTable.of_texts([[rng.choice(good), token, rng.choice(bad)] for token in good] +
                                [[token, rng.choice(good), rng.choice(bad)] for token in good], vocab)
    board, reasons, drafted = client(device), [], 0
    image = load(device, model, table)
    values = settle(board, image, 3, 0)
    for _ in range(12):
        want = {}
        for slot in rng.sample(range(SLOTS), rng.randint(1, SLOTS)):
            prompt = [rng.choice(good)]
            alone = GoldenBoard(plain, LANES, head_tokens=LANES)
            alone.tokens[:1] = prompt
            want[slot] = [told(*event) for event in alone.start(StartArgs(0, 1, 6))]
            golden = golden_of(image, values)
            golden.windows[slot][:1] = prompt
            assert [told(*event) for event in golden.start(StartArgs(0, 1, 6, slot=slot))] == want[slot]
            drafted += golden.drafts_told[1]
            start(board, BOARD, StartArgs(0, 1, 6, slot=slot), prompt)
        for slot, events in want.items():
            assert [told(*event) for event in board.events(slot)] == events
            reasons.append(events[-1][3])
        assert not running(board)
    assert drafted and DoneReason.LENGTH in reasons
    print(f"{len(reasons)} runs: {sorted(set(reasons))}, {drafted} drafted tokens alone")
