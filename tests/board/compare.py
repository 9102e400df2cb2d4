# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board against the golden model, position by position: every logit, every step's CRC, every byte."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tellme.compiler.image import Image, compile_model
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.models.model import Model
from tellme.runtime.simulated import SimDevice
from tellme.spec.config import CoreConfig, preset
from tellme.spec.memory import DoneReason, EventType, StartArgs, StartFlags

__all__ = ["Comparison", "compare", "needed_kv_bytes", "open_sim", "shipped"]

ROOT = Path(__file__).resolve().parents[2]


def shipped() -> Model:
    """The model that the package ships."""
    return Model.load(ROOT / "sw" / "tellme" / "data" / "stories-1m.tellme")


def open_sim(name: str = "ulx3s-85f-l2") -> SimDevice:
    """A simulated board; the board is built first if it is not built yet."""
    device = SimDevice("sim", preset(name))
    device.connect()
    return device


def client(device: SimDevice) -> BoardClient:
    """The packets that a device sends and receives."""
    assert isinstance(device._client, BoardClient)
    return device._client


def needed_kv_bytes(model: Model) -> int:
    """What a token writes: K and V rows and a word of their scales, for each layer and KV head."""
    c = model.config
    return c.layers * c.kv_heads * (2 * c.head_dim + 4)


def written_words(model: Model, core: CoreConfig) -> int:
    """Words of the memory that a token with all logits writes: whole words of K and V rows and of logits, and a word for each
    pair of scales."""
    c, size = model.config, core.word_bits // 8
    return c.layers * c.kv_heads * (2 * -(-c.head_dim // size) + 1) + -(-4 * c.vocab // size)


@dataclass
class Comparison:
    """What was compared."""

    positions: int
    logits: int
    steps: int
    tokens: list[int]


def compare(device: SimDevice, model: Model, prompt: list[int], generate: int, say=None) -> Comparison:
    """Feed a prompt and the board's picks, one token per start; every logit and every CRC must equal the golden model's.

    Raises an AssertionError that names position and step.
    """
    image: Image = compile_model(model, device.config(model))
    device.load(image, lambda done, total: None)
    golden = GoldenBoard(image)
    tokens = list(prompt)
    logits = steps = 0
    for position in range(len(prompt) + generate - 1):
        device.place(position, [tokens[position]])
        events = list(device.start(StartArgs(position, 1, 1, StartFlags.CLEAR | StartFlags.DUMP)))
        assert [kind for kind, _ in events] == [EventType.TOKEN, EventType.DONE], events
        assert events[-1][1].logit == DoneReason.LENGTH
        want = golden.feed([tokens[position]], position)[-1]
        for number, (got, expected) in enumerate(zip(device.crcs(), golden.crcs[:-1], strict=True)):
            assert got == expected, f"position {position}: step {number} ({image.program[number].op.name})"
            steps += 1
        got_logits = device.logits()
        assert np.array_equal(got_logits, want), f"position {position}: logits differ"
        assert device.top() == golden.top(), f"position {position}: best 64 differ"
        logits += len(got_logits)
        pick = events[0][1].id
        assert pick == int(want.argmax()), f"position {position}: pick"
        written = events[-1][1].write_words
        assert written == written_words(model, device.core), f"position {position}: {written} words written"
        if position + 1 >= len(prompt):
            tokens.append(pick)
        if say is not None:
            say(position, tokens[-1])
    return Comparison(len(prompt) + generate - 1, logits, steps, tokens)
