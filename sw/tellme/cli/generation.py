# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Generation on any device: prompt in, tokens out one by one, then what it took."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellme.cli.devices import Device
from tellme.cli.errors import UserError
from tellme.compiler.image import Head, Image, needed_bytes
from tellme.models.model import ModelConfig
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.memory import DoneReason, Event, EventType, StartArgs, StartFlags
from tellme.spec.program import Epilogue, Op

__all__ = ["Generation", "describe_step", "sample"]


def sample(top: Sequence[tuple[int, int]], temperature: float, min_p: float, rng: random.Random) -> int:
    """A token from the best (id, logit in Q15.16), best first: softmax at the temperature; 0 takes the best.

    Ahead of that, tokens less probable than ``min_p`` times the best one (at temperature 1) are left out; 0 leaves none out.
    One function for every device, so that the same logits and seed give the same token.
    """
    if temperature <= 0:
        return top[0][0]
    best = top[0][1]
    if min_p > 0:
        least = best + math.log(min_p) * 2**LOGIT_FRAC
        top = [(token, logit) for token, logit in top if logit >= least]
    weights = [math.exp((logit - best) / 2**LOGIT_FRAC / temperature) for _, logit in top]
    threshold = rng.random() * sum(weights)
    for (token, _), weight in zip(top, weights, strict=True):
        threshold -= weight
        if threshold < 0:
            return token
    return top[-1][0]


def describe_step(image: Image, number: int) -> str:
    """A descriptor in words: its number, layer and operation."""
    layer = sum(d.op == Op.ATTENTION for d in image.program[:number])
    d = image.program[number]
    if d.op == Op.EMBED:
        return f"step {number} (embedding)"
    if d.op == Op.HEAD:
        return f"step {number} (head)"
    if d.op == Op.ATTENTION:
        return f"step {number} (attention of layer {layer})"
    if d.epilogue == Epilogue.QKV:
        return f"step {number} (q, k, v of layer {layer})"
    if d.epilogue == Epilogue.ACT:
        return f"step {number} (gate and up of layer {layer - 1})"
    what = "o" if image.program[number - 1].op == Op.ATTENTION else "down"
    return f"step {number} ({what} of layer {layer - 1})"


@dataclass
class Generation:
    """One run.  Iterate over :meth:`tokens` to its end, or :meth:`interrupt` it; then read the results."""

    device: Device
    image: Image
    config: ModelConfig
    prompt: list[int]
    max_tokens: int
    temperature: float = 0.0
    min_p: float = 0.0
    seed: int = 0
    #: Tokens that end the text; a board stops at the first by itself, and at the others when the host says so.
    ends: tuple[int, ...] = ()
    #: Prompt tokens that the board works on at once: 0 as many as it has lanes for, 1 one by one.
    prefill_chunk: int = 0
    #: Collect the logits of every position fed.
    want_logits: bool = False
    #: Gets each position's as they come; they are collected in ``rows`` if there is none.
    on_logits: Callable[[NDArray[np.int32]], object] | None = None

    generated: list[int] = field(default_factory=list)
    rows: list[NDArray[np.int32]] = field(default_factory=list)
    stop_reason: str = ""
    wall_seconds: float = 0.0
    _first: Event | None = None
    _last: Event | None = None

    def __post_init__(self) -> None:
        c = self.config
        if not self.prompt:
            raise UserError("the prompt has no token: give --prompt TEXT, or one id or more with --prompt-ids")
        if len(self.prompt) > c.context:
            raise UserError(f"the prompt has {len(self.prompt)} tokens, the model's context holds {c.context}")
        for token in self.prompt:
            if not 0 <= token < c.vocab:
                raise UserError(f"prompt token {token} is outside the vocabulary of {c.vocab}")

    @property
    def _chunk(self) -> int:
        return self.prefill_chunk if self.image.whole_heads else 1

    def tokens(self) -> Iterator[int]:
        """Generated tokens as they come."""
        began = time.monotonic()
        picks = self._picks()
        try:
            for token in picks:
                self.generated.append(token)
                yield token
        finally:
            self.wall_seconds = time.monotonic() - began

    def interrupt(self) -> None:
        """End the run where it is."""
        self.stop_reason = "interrupted"
        self.device.stop()

    def _picks(self) -> Iterator[int]:
        if self.temperature <= 0 and not self.want_logits:
            return self._on_its_own()
        return self._step_by_step()

    def _on_its_own(self) -> Iterator[int]:
        """The board picks and goes on."""
        self.device.place(0, self.prompt)
        eos = self.ends[0] if self.ends else StartArgs.NO_EOS
        reason = DoneReason.LENGTH
        args = StartArgs(0, len(self.prompt), self.max_tokens, StartFlags.CLEAR, eos, self._chunk)
        for kind, event in self.device.start(args):
            if kind == EventType.DONE:
                reason = self._check(event)
            else:
                self._count(event)
                yield event.id
                if event.id in self.ends[1:]:
                    # The board is on its way to the next token, which nobody will see.
                    self.device.stop()
                    reason = DoneReason.END_TOKEN
                    break
        self.stop_reason = {DoneReason.LENGTH: "length", DoneReason.END_TOKEN: "end_token",
                            DoneReason.CONTEXT: "context"}[reason]

    def _step_by_step(self) -> Iterator[int]:
        """The host picks, or reads logits after each token: a start a token."""
        rng = random.Random(self.seed)
        feed = self.prompt
        position = 0
        if self.want_logits:
            for position, token in enumerate(self.prompt[:-1]):
                self._feed_one(position, [token])
            feed, position = self.prompt[-1:], len(self.prompt) - 1
        if self.max_tokens == 0:
            if self.want_logits:
                self._feed_one(position, feed)
            self.stop_reason = "length"
            return
        while True:
            event = self._feed_one(position, feed)
            self._count(event)
            token = sample(self.device.top(), self.temperature, self.min_p, rng) if self.temperature > 0 else event.id
            yield token
            position += len(feed)
            if token in self.ends:
                self.stop_reason = "end_token"
                return
            if len(self.generated) >= self.max_tokens:
                self.stop_reason = "length"
                return
            if position >= self.config.context:
                self.stop_reason = "context"
                return
            feed = [token]

    def _feed_one(self, position: int, feed: list[int]) -> Event:
        """Feed tokens and pick once; the counters go on from the run's first start."""
        self.device.place(position, feed)
        flags = (StartFlags(0) if position else StartFlags.CLEAR) | (StartFlags.DUMP if self.want_logits else 0)
        pick: Event | None = None
        for kind, event in self.device.start(StartArgs(position, len(feed), 1, StartFlags(flags), chunk=self._chunk)):
            if kind == EventType.DONE:
                self._check(event)
            else:
                pick = event
        if pick is None:
            raise UserError("the board ended a run without a token")
        if self.want_logits:
            (self.on_logits or self.rows.append)(self.device.logits().copy())
        return pick

    def _check(self, done: Event) -> DoneReason:
        reason = DoneReason(done.logit)
        if reason == DoneReason.NONFINITE:
            raise UserError(f"{describe_step(self.image, done.id)} gave an infinity or NaN at position "
                            f"{done.position}: the model does not fit binary16, or is damaged")
        if reason == DoneReason.STOPPED:
            raise UserError("the board was stopped")
        return reason

    def _count(self, event: Event) -> None:
        self._first = self._first or event
        self._last = event

    # Results

    def stats(self) -> dict[str, object]:
        """The fields of the stats line."""
        n = len(self.generated)
        decoded = max(n - 1, 0)
        mhz = self.device.fabric_mhz
        values: dict[str, object] = dict.fromkeys((
            "prefill_cycles", "decode_cycles", "cycles_per_token", "needed_bytes", "sdram_bytes",
            "sdram_busy_fraction", "fabric_mhz", "board_tokens_per_second"))
        if decoded:
            first = len(self.prompt)
            head: Head = "board" if self.image.probe is None else "host"
            values["needed_bytes"] = round(sum(needed_bytes(self.config, p, head) for p in range(first, first + decoded)))
        sim_khz = None
        if mhz is not None:
            values["fabric_mhz"] = mhz
        if mhz is not None and self._first is not None and self._last is not None:
            values["prefill_cycles"] = self._first.cycles
            cycles = _difference(self._first, self._last, "cycles")
            values["decode_cycles"] = cycles
            if self.device.name == "sim" and self.wall_seconds > 0:
                sim_khz = round((self._first.cycles + cycles) / self.wall_seconds / 1000, 1)
            if decoded and cycles:
                values["cycles_per_token"] = round(cycles / decoded, 1)
                values["board_tokens_per_second"] = round(mhz * 1e6 * decoded / cycles, 2)
                values["sdram_bytes"] = 4 * (_difference(self._first, self._last, "read_words")
                                             + _difference(self._first, self._last, "write_words"))
                values["sdram_busy_fraction"] = round(_difference(self._first, self._last, "sdram_busy") / cycles, 4)
        return {"prompt_tokens": len(self.prompt), "generated_tokens": n, "token_ids": list(self.generated),
                "stop_reason": self.stop_reason, **values, "wall_seconds": round(self.wall_seconds, 3),
                "sim_khz": sim_khz}


def _difference(first: Event, last: Event, name: str) -> int:
    """Of 32-bit counters, which wrap."""
    return int(getattr(last, name) - getattr(first, name)) % 2**32
