# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Drafted tokens on the simulated board, over whole stories: tokens a pass, acceptance, and speed against plain decode.

A story is the text that the board writes behind a prompt, with drafts from a table in its memory.  Each event must be the golden
board's, whose picks must be those of plain decode, or the measurement ends with a DeviceError.  The cycles are those from the
prompt's pick to the last one.

Plain decode of the same tokens is not simulated whole.  Behind a story, whose keys and values the memory still holds, the board
decodes a token without drafts at some of the story's positions, and must pick the story's tokens.  A line through the cycles of
all these tokens of all stories, over their positions, gives the cycles of the others.  The report has the largest distance of a
measured token from the line.

Without a board a story is computed: its passes are those that the golden board makes, and their cycles the analytic model's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from threading import Lock, local
from typing import Any

import numpy as np

from tellme.compiler.cycles import PassModel, Run
from tellme.compiler.image import Image
from tellme.errors import DeviceError
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.runtime.sampling import Sampling
from tellme.runtime.simulated import SimDevice
from tellme.spec.config import CoreConfig
from tellme.spec.drafts import SETTINGS_FIELDS, TOKEN_CREDIT
from tellme.spec.memory import (
    SAMPLING_REGISTERS,
    DoneReason,
    Event,
    EventType,
    StartArgs,
    StartFlags,
    register_address,
    token_address,
)
from tellme.spec.sampling import pack_settings
from tellme.spec.words import pack_word

__all__ = ["Drafter", "Story", "as_json", "measure_stories", "settings_word", "summary"]


@dataclass(frozen=True)
class Story:
    """What a story cost.

    ``tokens`` were picked behind the prompt's pick, in ``passes`` with ``drafted`` drafted tokens, of which ``accepted`` were
    accepted, in ``cycles``.  ``model``: the cycles of these passes by the analytic model.  ``first``: position of the first token
    that was fed for them.  ``plain``: (position, cycles) of tokens that plain decode fed.
    """

    number: int
    prompt: int
    tokens: int
    passes: int
    drafted: int
    accepted: int
    cycles: int
    model: int
    first: int
    plain: tuple[tuple[int, int], ...]


def settings_word(model: PassModel, most: int, position: int) -> int:
    """``draft_settings`` for so many drafted tokens, with what one costs by the analytic model at a position."""
    cost = min(round(TOKEN_CREDIT * model.draft_cost(position, most)), (1 << SETTINGS_FIELDS["cost"]) - 1)
    return pack_word(SETTINGS_FIELDS, {"most": most, "cost": max(cost, 0)})


def word(value: int) -> bytes:
    return value.to_bytes(4, "little")


class Drafter:
    """Measures stories on a board whose memory holds the image with its table (:func:`tellme.compiler.image.with_drafts`)."""

    def __init__(self, image: Image, core: CoreConfig, model: PassModel, ends: Sequence[int], settings: int, sampling: Sampling):
        assert image.draft_base is not None
        self._image, self._core, self._model, self._ends, self._sampling = image, core, model, tuple(ends), sampling
        self._registers = {"draft_base": image.draft_base, "draft_settings": settings}

    def _golden(self, *, drafts: bool) -> GoldenBoard:
        board = GoldenBoard(self._image, self._core.chunk, head_tokens=self._core.head_tokens, slots=self._core.slots,
                            token_window=self._core.widths.token_window, drafts=drafts)
        if drafts:
            board.registers |= self._registers
        return board

    def text(self, golden: GoldenBoard, tokens: int, sampling: Sampling, prompt: Sequence[int]) -> list[int]:
        """What a golden board writes behind a prompt, up to so many tokens."""
        return [event.id for kind, event in self._events(golden, self._args(prompt, tokens, sampling), sampling, prompt)[0]
                if kind == EventType.TOKEN]

    def _args(self, prompt: Sequence[int], tokens: int, sampling: Sampling) -> StartArgs:
        flags = StartFlags.CLEAR if sampling.greedy else StartFlags.CLEAR | StartFlags.SAMPLE
        return StartArgs(0, len(prompt), tokens, flags, ends=self._ends)

    def _events(self, golden: GoldenBoard, args: StartArgs, sampling: Sampling,
              prompt: Sequence[int]) -> tuple[list[tuple[EventType, Event]], list[tuple[int, int]]]:
        """A golden board's events of a run, and of each pass that decoded its position and its drafted tokens."""
        if not sampling.greedy:
            golden.registers |= pack_settings(sampling.settings())
        golden.windows[0][:len(prompt)] = prompt
        golden.begin(args)
        events: list[tuple[EventType, Event]] = []
        passes: list[tuple[int, int]] = []
        while golden.running:
            counted, drafted, _ = golden.drafts_told
            position = events[-1][1].position + 1 if events else args.position
            events += golden.make_pass()
            if golden.drafts_told[0] > counted:
                passes.append((position, golden.drafts_told[1] - drafted))
        return events, passes

    def story(self, client: BoardClient | None, number: int, prompt: Sequence[int], tokens: int, plain: int) -> Story:
        """A story behind a prompt, of up to so many tokens, and ``plain`` of its positions decoded without drafts; without a
        client it is computed."""
        sampling = Sampling(temperature=self._sampling.temperature, min_p=self._sampling.min_p, seed=number)
        args, golden = self._args(prompt, tokens, sampling), self._golden(drafts=True)
        want, passes = self._events(golden, args, sampling, prompt)
        alone = self.text(self._golden(drafts=False), tokens, sampling, prompt)
        ids = [event.id for kind, event in want if kind == EventType.TOKEN]
        if ids != alone:
            raise DeviceError(f"story {number}: the golden board picks {ids} with drafts, and {alone} without")
        whole = [*prompt, *ids]
        positions = sorted({round(at) for at in np.linspace(len(prompt) + 1, len(whole) - 2, plain)}) if plain else []
        positions = [position for position in positions if len(prompt) < position < len(whole) - 1]
        model = round(sum(self._model.cycles([Run(position, 1 + more)]) for position, more in passes))
        counted, drafted, accepted = golden.drafts_told
        if client is None:
            computed = tuple((position, round(self._model.cycles([Run(position)]))) for position in positions)
            return Story(number, len(prompt), len(ids) - 1, counted, drafted, accepted, model, model, len(prompt), computed)
        got = self._run(client, args, sampling, prompt, self._registers)
        told = [(kind, event.position, event.id if kind == EventType.TOKEN else None, event.logit) for kind, event in got]
        expected = [(kind, event.position, event.id if kind == EventType.TOKEN else None, event.logit) for kind, event in want]
        if told != expected:
            raise DeviceError(f"story {number}: the board tells {told}, and the golden board {expected}")
        cycles = [event.cycles for kind, event in got if kind == EventType.TOKEN]
        samples = tuple((position, self._plain(client, sampling, whole, position)) for position in positions)
        return Story(number, len(prompt), len(ids) - 1, counted, drafted, accepted, cycles[-1] - cycles[0], model, len(prompt),
                     samples)

    def _plain(self, client: BoardClient, sampling: Sampling, whole: Sequence[int], position: int) -> int:
        """Cycles of the token at a position, decoded without drafts behind the token before."""
        flags = StartFlags.CLEAR if sampling.greedy else StartFlags.CLEAR | StartFlags.SAMPLE
        args = StartArgs(position - 1, 1, 2, flags)
        got = [event for kind, event in self._run(client, args, sampling, whole[position - 1:position], {"draft_settings": 0})
               if kind == EventType.TOKEN]
        if [event.id for event in got] != list(whole[position:position + 2]):
            raise DeviceError(f"plain decode at position {position} picks {[event.id for event in got]}, and the story has "
                              f"{list(whole[position:position + 2])}")
        return got[1].cycles - got[0].cycles

    def _run(self, client: BoardClient, args: StartArgs, sampling: Sampling, tokens: Sequence[int],
             registers: dict[str, int]) -> list[tuple[EventType, Event]]:
        window = self._core.widths.token_window
        settings = {} if sampling.greedy else pack_settings(sampling.settings())
        for name, value in (registers | {name: settings[name] for name in SAMPLING_REGISTERS if name in settings}).items():
            client.write(register_address(name), word(value))
        for number, token in enumerate(tokens):
            client.write(token_address(args.position + number, 0, window), word(int(token)))
        client.start(args)
        events = list(client.events())
        if events[-1][1].logit not in (DoneReason.LENGTH, DoneReason.END_TOKEN, DoneReason.CONTEXT):
            raise DeviceError(f"a run at position {args.position} ended with {events[-1][1]}")
        return events


def measure_stories(open_board: Callable[[], SimDevice] | None, drafter: Drafter, prompts: Sequence[Sequence[int]],
                    numbers: Iterable[int], tokens: int, plain: int, jobs: int) -> Iterator[Story]:
    """The stories of these numbers as they are done, on ``jobs`` boards at a time; without ``open_board`` computed."""
    mine, devices, lock = local(), list[SimDevice](), Lock()

    def story(number: int) -> Story:
        if open_board is None:
            return drafter.story(None, number, prompts[number], tokens, plain)
        if not hasattr(mine, "client"):
            device = open_board()
            with lock:
                devices.append(device)
            assert isinstance(device.client, BoardClient)
            mine.client = device.client
        client: BoardClient = mine.client
        return drafter.story(client, number, prompts[number], tokens, plain)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(story, number) for number in numbers]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()
    finally:
        for device in devices:
            device.close()


def summary(stories: Sequence[dict[str, Any]], core: CoreConfig) -> dict[str, Any]:
    """The numbers of all stories together; ``stories`` as :func:`dataclasses.asdict` gives them.

    ``plain_cycles`` are those of the same tokens by plain decode, from the line through all measured ones.
    """
    names = {"tokens": "tokens", "passes": "passes", "drafted": "drafted", "accepted": "accepted", "cycles": "cycles",
             "model_cycles": "model"}
    total = {name: sum(story[key] for story in stories) for name, key in names.items()}
    rate = 1e6 * core.fabric_mhz
    out = {"stories": len(stories), **total, "tokens_a_pass": round(total["tokens"] / total["passes"], 4),
           "acceptance": round(total["accepted"] / total["drafted"], 4) if total["drafted"] else None,
           "tokens_per_second": round(total["tokens"] * rate / total["cycles"], 2)}
    samples = np.array([sample for story in stories for sample in story["plain"]], float).reshape(-1, 2)
    if len(set(samples[:, 0])) > 1:
        slope, base = np.polyfit(samples[:, 0], samples[:, 1], 1)
        plain = sum(base + slope * (story["first"] + number) for story in stories for number in range(story["tokens"]))
        out |= {"plain_tokens_measured": len(samples), "plain_cycles_at_0": round(float(base)),
                "plain_cycles_a_position": round(float(slope), 2),
                "plain_off_at_most": round(float(np.abs(samples[:, 1] / (base + slope * samples[:, 0]) - 1).max()), 5),
                "plain_cycles": round(float(plain)), "plain_tokens_per_second": round(total["tokens"] * rate / float(plain), 2),
                "x_plain": round(float(plain) / total["cycles"], 4)}
    return out


def as_json(story: Story) -> dict[str, Any]:
    """The fields for a JSON object."""
    return asdict(story) | {"plain": [list(sample) for sample in story.plain]}
