# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What tests of a simulated board with several slots share: starts, and sequences that join, leave and are stopped at random."""

import random
from collections import defaultdict

import numpy as np

from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.models.model import Model
from tellme.spec.config import CoreConfig
from tellme.spec.memory import (
    SAMPLING_REGISTERS,
    SLOTS_WORD,
    DoneReason,
    Event,
    EventType,
    StartArgs,
    register_address,
    token_address,
)
from tellme.spec.sampling import DrawSettings, pack_settings
from tellme.spec.scale import Scale
from tests.models.random_model import random_model
from tests.slot_runs import SlotRuns, Text

__all__ = ["join_and_leave", "overflowing", "running", "start", "words"]


def words(values) -> bytes:
    """Little-endian words of 32 bits."""
    return np.array(values, "<u4").tobytes()


def _set_sampling(board: BoardClient, values: dict[str, int]) -> None:
    board.write(register_address(SAMPLING_REGISTERS[0]), words([values[name] for name in SAMPLING_REGISTERS]))


def start(board: BoardClient, core: CoreConfig, args: StartArgs, tokens, settings: DrawSettings | None = None) -> None:
    """Place the tokens, set the registers of sampling, start; then change these registers, which count at the START alone."""
    for i, token in enumerate(tokens):
        board.write(token_address(args.position + i, args.slot, core.widths.token_window), words([token]))
    if settings is not None:
        _set_sampling(board, pack_settings(settings))
    board.start(args)
    _set_sampling(board, dict.fromkeys(SAMPLING_REGISTERS, 0x5A5A))


def running(board: BoardClient) -> int:
    """A bit for each slot that runs."""
    return board.status()[SLOTS_WORD]


def join_and_leave(board: BoardClient, core: CoreConfig, texts: list[Text], rng: random.Random, joins: int, *,
                   begin: float, stop: float) -> tuple[dict[int, list[tuple[EventType, Event]]], int]:
    """Run so many STARTs in all slots, drawn at random: prompts of several STARTs, greedy and drawn, all flags, all ends.

    In each turn an idle slot starts with the probability ``begin``.  With the probability ``stop`` one slot or all are stopped.
    Each event is compared with what its text tells alone.  All slots run side by side at some time, and each reason to end comes.
    Returns the events of each slot and the number of told tokens.
    """
    context = len(texts[0].ids)
    slots = [SlotRuns(slot, rng, texts, core.widths.token_window, context) for slot in range(core.slots)]
    heard: dict[int, list[tuple[EventType, Event]]] = defaultdict(list)
    joined = left = most = 0
    while left < joins:
        for slot in rng.sample(slots, core.slots):
            if not slot.running and joined < joins and rng.random() < begin:
                start(board, core, *slot.begin())
                joined += 1
        going = [slot for slot in slots if slot.running]
        most = max(most, len(going))
        if not going:
            continue
        if rng.random() < stop:
            stopped = rng.choice([None, *going])
            board.stop(None if stopped is None else stopped.slot)
            for slot in going if stopped is None else [stopped]:
                slot.stopping = True
        for kind, event in board.listen([slot.slot for slot in going], 60):
            slots[event.slot].hear(kind, event)
            heard[event.slot].append((kind, event))
            left += kind == EventType.DONE
        if rng.random() < 0.1:
            assert not running(board) & ~sum(slot.running << slot.slot for slot in slots)
    assert joined == left == joins and most == core.slots and not running(board)
    reasons = set().union(*(slot.reasons for slot in slots))
    assert reasons == {DoneReason.LENGTH, DoneReason.END_TOKEN, DoneReason.CONTEXT, DoneReason.STOPPED}
    return heard, sum(slot.tokens for slot in slots)


def overflowing(core: CoreConfig) -> tuple[Model, list[int], list[int]]:
    """A model whose last down projection overflows for some tokens and not for others; the tokens of each kind."""
    model = random_model("plain")
    for exponent in range(20):
        model.layers[1].scales["w2"] = Scale(2047, exponent)
        image = compile_model(model, core)
        found: dict[bool, list[int]] = {True: [], False: []}
        for token in range(60):
            board = GoldenBoard(image)
            board.tokens[0] = token
            *_, (_, done) = board.start(StartArgs(0, 1, 0))
            found[done.logit == DoneReason.NONFINITE].append(token)
        if all(len(tokens) > 5 for tokens in found.values()):
            return model, found[True], found[False]
    raise AssertionError("no scale tells the tokens apart")
