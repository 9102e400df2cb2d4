# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sequences side by side on the simulated board: each tells what it tells alone, whatever joins, leaves and fails beside it.

One of the two cores has an SDR memory and four tokens on four lanes.  The other one has a DDR3 memory, whose words have 64 bits,
and five tokens on ten lanes, as ecpix5-85f has.
"""

import os
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from hw.verilog import core_sha256, core_verilog
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.spec.memory import (
    CRC_BASE,
    SDRAM_BASE,
    DoneReason,
    EventType,
    StartArgs,
    StartFlags,
    top_address,
)
from tellme.spec.sampling import DrawSettings, inverse_temperature, pack_settings
from tests.board.compare import client
from tests.board.slots import join_and_leave, overflowing, running, start
from tests.models.random_model import BOARD_FAMILY, even_model, random_model
from tests.slot_runs import Text, told

#: The build of the board would take CI beyond its twenty minutes; the core bench top/slots has the same units.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

#: By core: joins of the random schedule.
JOINS = {"sim-slots": 1000, "sim-ddr3-slots": 300}
CORES = tuple(JOINS)
TOKEN, DONE = EventType


def load(device, core, model):
    image = compile_model(model, core)
    assert image.slots == core.slots
    device.load(image, lambda done, total: None)
    return image


def test_core_is_the_presets(device, core):
    assert device.core_sha256 == core_sha256(core_verilog(core.name))


def test_sequences_join_and_leave(device, core):
    """At random, with stops: each tells what it tells alone."""
    image, board, rng = load(device, core, even_model(67, 24)), client(device), random.Random(1)
    texts = [Text.drawn(rng, image, 15) for _ in range(8)]
    joins, began = int(os.environ.get("TELLME_VECTORS", JOINS[core.name])), time.process_time()
    _, tokens = join_and_leave(board, core, texts, rng, joins, begin=0.5, stop=0.1)
    print(f"{joins} joins, {tokens} tokens: {time.process_time() - began:.0f} s of the host's CPU")


@pytest.mark.parametrize("name", BOARD_FAMILY)
def test_random_models(device, core, name):
    """Each slot alone, then all side by side: events; and alone each logit, list, and step of the last pass."""
    model = random_model(name)
    image, board = load(device, core, model), client(device)
    c, rng = model.config, random.Random(name)
    runs = []
    for slot in range(core.slots):
        prompt = [rng.randrange(c.vocab) for _ in range(rng.randint(1, c.context - 6))]
        golden = GoldenBoard(image, core.chunk, head_tokens=core.chunk, slots=core.slots)
        golden.windows[slot][:len(prompt)] = prompt
        for flags in (StartFlags.ALL, StartFlags(0)):
            args = StartArgs(0, len(prompt), 4, StartFlags.CLEAR | StartFlags.DUMP | flags, slot=slot)
            want = list(golden.start(args))
            start(board, core, args, prompt)
            assert [told(*event) for event in board.events(slot)] == [told(*event) for event in want]
            logits = golden.pass_logits
            read = board.read(SDRAM_BASE + 4 * image.registers["logits_base"], 4 * logits.size)
            assert np.frombuffer(read, "<i4").tolist() == logits.T.reshape(-1).tolist()
            for number in range(len(logits)):
                entries = np.frombuffer(board.read(top_address(number), 8 * len(golden.top(number))), "<i4").reshape(-1, 2)
                assert [(int(token), int(logit)) for logit, token in entries] == golden.top(number)
            crcs = np.frombuffer(board.read(CRC_BASE, 4 * len(image.program)), "<u4")
            assert [int(c) for c in crcs[:-1]] == golden.crcs[:-1]
        runs.append((args, prompt, [told(*event) for event in want]))
    for args, prompt, _ in runs:
        start(board, core, args, prompt)
    for args, _, want in runs:
        assert [told(*event) for event in board.events(args.slot)] == want


def test_a_window_of_token_memory_wraps(device, core):
    """Sequences of more tokens than a slot's window has words, side by side."""
    window = core.widths.token_window
    context = window + 40
    image, board = load(device, core, even_model(67, context)), client(device)
    want = {}
    for slot in range(core.slots):
        prompt = [(7 * slot + 3 * i) % 67 for i in range(window - 5 * slot)]
        golden = GoldenBoard(image, core.chunk, head_tokens=core.chunk)
        golden.tokens[:len(prompt)] = prompt
        args = StartArgs(0, len(prompt), context, slot=slot)
        want[slot] = [told(*event) for event in golden.start(replace(args, slot=0))]
        start(board, core, args, prompt)
    for slot, events in want.items():
        assert [told(*event) for event in board.events(slot)] == events
        assert events[-1] == (DONE, context - 1, None, DoneReason.CONTEXT)


def test_an_infinity_ends_its_slot_alone(device, core):
    """Prompts whose first token overflows beside healthy ones, and sequences that overflow at a token that they picked."""
    model, bad, good = overflowing(core)
    image, board, rng = load(device, core, model), client(device), random.Random(2)
    alone = {}
    reasons = []
    for _ in range(40):
        want = {}
        for slot in rng.sample(range(core.slots), rng.randint(1, core.slots)):
            prompt = (rng.choice(bad if rng.random() < 0.4 else good), *rng.sample(good, rng.randint(0, 5)))
            args = StartArgs(0, len(prompt), rng.choice((0, 1, 5)), slot=slot)
            if (prompt, args.generate) not in alone:
                golden = GoldenBoard(image, core.chunk, head_tokens=core.chunk)
                golden.tokens[:len(prompt)] = prompt
                alone[prompt, args.generate] = [told(*event) for event in golden.start(replace(args, slot=0))]
            want[slot] = alone[prompt, args.generate]
            if want[slot][0][:2] == (DONE, 0) and want[slot][0][3] == DoneReason.NONFINITE and prompt[0] not in bad:
                # Which of the prompt's tokens overflows decides in which pass the slot ends.
                del want[slot]
                continue
            start(board, core, args, prompt)
        for slot, events in want.items():
            assert [told(*event) for event in board.events(slot)] == events
            reasons.append(events[-1][3])
        assert not running(board)
    assert len(reasons) > 60 and min(reasons.count(reason) for reason in (DoneReason.NONFINITE, DoneReason.LENGTH)) > 15


def test_draws_are_those_of_the_slots_own_start(device, core):
    """Four slots with settings of their own."""
    image, board = load(device, core, even_model(67, 24)), client(device)
    want = {}
    for slot in range(core.slots):
        settings = DrawSettings(inverse_temperature(1.0 + slot), top_k=5 + 9 * slot, top_p=40_000 + 6000 * slot, seed=77 << slot)
        golden = GoldenBoard(image, core.chunk, head_tokens=core.chunk)
        golden.registers |= pack_settings(settings)
        golden.tokens[:2] = [5, 9]
        args = StartArgs(0, 2, 12, StartFlags.SAMPLE, slot=slot)
        want[slot] = [told(*event) for event in golden.start(replace(args, slot=0))]
        start(board, core, args, [5, 9], settings)
    assert len({tuple(events) for events in want.values()}) == core.slots
    for slot, events in want.items():
        assert [told(*event) for event in board.events(slot)] == events
