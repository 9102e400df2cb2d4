# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Generation on any device: a prompt goes in, tokens come out one by one, and statistics come last."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Head, Image, needed_bytes
from tellme.drafts.drafter import MOST, Drafter
from tellme.errors import CheckError, DeviceError, InputError, NonfiniteRunError, TellmeError
from tellme.models.config import ModelConfig
from tellme.runtime.checking import Checker, Difference
from tellme.runtime.device import Device
from tellme.runtime.kv_cache import KvCache
from tellme.runtime.sampling import Sampler, Sampling
from tellme.spec.ending import ending
from tellme.spec.memory import END_TOKENS, DoneReason, Event, EventType, StartArgs, StartFlags
from tellme.spec.program import Epilogue, Op, QkvPart
from tellme.spec.sampling import board_draws
from tellme.spec.two_steps import serves

__all__ = ["Generation", "check_guesses", "describe_step", "host_draws"]

#: Tokens that the board decodes by itself where the host's drafter has no guess, or had none that was right in the pass before:
#: a START and its answer cost the link's time.
REST = 4
#: What a generation's ``stop_reason`` is called.
_STOP_REASONS = {DoneReason.LENGTH: "length", DoneReason.END_TOKEN: "end_token", DoneReason.CONTEXT: "context"}


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
    if d.part:
        what = ("norm of " if d.op == Op.NORM else "") + QkvPart(d.part).name.lower()
        return f"step {number} ({what} of layer {layer})"
    if d.op == Op.NORM:
        what = "o" if image.program[number - 2].op == Op.ATTENTION else "down"
        return f"step {number} (norm of {what} of layer {layer - 1})"
    if d.epilogue == Epilogue.QKV:
        return f"step {number} (q, k, v of layer {layer})"
    if d.epilogue == Epilogue.ACT:
        return f"step {number} (gate and up of layer {layer - 1})"
    what = "o" if image.program[number - 1].op == Op.ATTENTION else "down"
    return f"step {number} ({what} of layer {layer - 1})"


def host_draws(device: Device, sampling: Sampling) -> str | None:
    """Why the host draws the tokens of a device that picks by itself otherwise; None: the device picks."""
    if sampling.greedy or device.picks_by == "host":
        return None
    settings = sampling.settings()
    if settings.penalty is not None:
        return "the board knows no repetition penalty"
    if not device.sampler:
        return "this core has no sampler"
    if not board_draws(settings):
        return "the board's sampler takes no temperature as low as this"
    return None


def check_guesses(device: Device) -> None:
    """Refuse a device that cannot verify tokens that the host guesses; known before a model is loaded."""
    if device.head_tokens == 1:
        raise InputError(f"{device.name} picks one token a pass: drafted tokens from the host want a core with picks of all "
                         "positions, such as ulx3s-85f's (tellme-host info)")


@dataclass
class Generation:
    """One run.  Iterate over :meth:`tokens` to its end, or :meth:`interrupt` it; then read the results."""

    device: Device
    image: Image
    config: ModelConfig
    prompt: list[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    #: Tokens that end the text; a board stops at the first END_TOKENS by itself, and at the others when the host says so.
    ends: tuple[int, ...] = ()
    #: Prompt tokens that the board works on at once: 0 as many as it has lanes for, 1 one by one.
    prefill_chunk: int = 0
    #: Gets the logits (Q15.16) of each position fed, as they come; without, only the last position of the prompt has any.  A
    #: start feeds as many tokens of the prompt as the device gives logits of at once.
    on_logits: Callable[[NDArray[np.int32]], object] | None = None
    #: What lies in the device's KV cache: the tokens of the prompt that the cache has already are not fed again.
    cache: KvCache = field(default_factory=KvCache)
    #: The sequence of the device that runs.
    slot: int = 0
    #: Compares the picks and the step CRCs every so many tokens; a token is given when it was compared.  A difference is a
    #: CheckError, and the tokens since the last comparison are not given.
    checker: Checker | None = None
    #: Guesses tokens, which the board verifies in one pass; the text is the same.  It wants a device with ``head_tokens`` above 1
    #: that picks by itself, and is not beside ``on_logits`` or ``checker``.
    drafter: Drafter | None = None

    #: What was picked so far, and why there was no more: "length", "end_token", "context", "interrupted" or "stop_string".
    generated: list[int] = field(default_factory=list)
    stop_reason: str = ""
    wall_seconds: float = 0.0
    #: Tokens of the prompt that the cache had.
    cached: int = 0
    #: Passes behind the one that gave the first pick: fewer than picks where drafted tokens were right.
    passes: int = 0
    #: Picks that were compared with the golden model.
    checked: int = 0
    _started: bool = False
    #: What the device picked, given or not, and the events that were not compared.
    _picked: list[int] = field(default_factory=list)
    _unchecked: list[Event] = field(default_factory=list)
    _first: Event | None = None
    _last: Event | None = None
    #: Whether the drafter's last pass had a token that was right.
    _lucky: bool = True

    @property
    def host_draws(self) -> str | None:
        """Why the host draws the tokens of a device that picks by itself otherwise; None: the device picks."""
        why = host_draws(self.device, self.sampling)
        asked = self.on_logits is not None and not self.sampling.greedy and self.device.picks_by == "board"
        return why if why is not None or not asked else "the logits of each token are asked for"

    def tokens(self) -> Iterator[int]:
        """Generated tokens as they come."""
        began = time.monotonic()
        try:
            for token in self._picks():
                self.generated.append(token)
                yield token
        except GeneratorExit:
            # The caller left early.  If the board does not stop, the next call says so.
            if not self.stop_reason:
                with suppress(TellmeError):
                    self.interrupt()
            raise
        except TellmeError:
            # What a device that failed has written is not known.
            if self.cache.owner is self:
                self.cache.forget()
            raise
        finally:
            self.wall_seconds = time.monotonic() - began

    def interrupt(self, reason: str = "interrupted") -> None:
        """End the run where it is."""
        self.stop_reason = reason
        self.device.stop(self.slot)

    def _picks(self) -> Iterator[int]:
        """The generation loop.

        A board that picks by itself goes on from one start to the end of the text.  Where the host draws, or takes logits, a
        start feeds one token, or of the prompt as many as have logits at once, and the host picks before the next start.
        """
        alone = self.on_logits is None and (self.sampling.greedy or self._device_draws)
        self._check_drafter(alone)
        sampler = Sampler(self.sampling, self.prompt)
        # Logits are asked for of each position, so that each is fed.
        self.cached = position = self.cache.begin(self, self.prompt if self.on_logits is None else [])
        feed = self.prompt[position:]
        if self.on_logits is not None:
            size = self._logits_at_once
            while len(feed) > size:
                self._one(position, feed[:size])
                position, feed = position + size, feed[size:]
        if self.max_tokens == 0:
            if self.on_logits is not None:
                self._one(position, feed)
            elif alone:
                for _ in self._start(position, feed, 0):
                    raise DeviceError(f"{self.device.name} picked a token that was not asked for")
            self.stop_reason = _STOP_REASONS[DoneReason.LENGTH]
            return
        picked = 0
        reason: DoneReason | None = None
        held: list[int] = []
        while reason is None:
            asked = self.max_tokens - picked
            if self.checker is not None:
                asked = min(asked, self.checker.every)
            told = picked
            for event in self._decode(position, feed, asked) if alone else [self._one(position, feed)]:
                if reason is not None:
                    raise DeviceError(f"{self.device.name} went on after the end of its text")
                token = event.id
                if not alone and not self.sampling.greedy:
                    token = sampler.pick(self.device.top(slot=self.slot), position + len(feed))
                picked += 1
                position += len(feed)
                feed = [token]
                self._picked.append(token)
                # The picks of a pass have the same number of cycles.
                self.passes += self._last is not None and event.cycles != self._last.cycles
                self._first = self._first or event
                self._last = event
                if self.checker is None:
                    yield token
                else:
                    held.append(token)
                    self._unchecked.append(event)
                reason = ending(token, picked, ends=self.ends, limit=self.max_tokens, next_position=position,
                                context=self.config.context)
                if reason is not None:
                    self.stop_reason = _STOP_REASONS[reason]
                    if alone and token in self.ends[END_TOKENS:]:
                        # The board may compute the next token already, which will not be shown.
                        self.device.stop(self.slot)
                        self._check(crcs=False)
                        yield from held
                        return
            if alone and self.drafter is None and reason is None and picked - told < asked:
                raise DeviceError(f"{self.device.name} ended a run of {asked} tokens after {picked - told}")
            if self.checker is not None and (reason is not None or len(held) >= self.checker.every):
                self._check()
                yield from held
                held.clear()

    def _check(self, *, crcs: bool = True) -> None:
        """Compare the picks since the last comparison, and the step CRCs of the last one, with the golden model's."""
        if self.checker is None or not self._unchecked:
            return
        picks, self._unchecked = self._unchecked, []
        settings = self.sampling.settings() if self._device_draws else None
        found = self.checker.compare([*self.prompt, *self._picked[:-1]], picks, settings, self.device.crcs() if crcs else None)
        if found is not None:
            raise self._differs(found)
        self.checked += len(picks)

    def _differs(self, found: Difference) -> CheckError:
        """The error of a board that computed otherwise than the golden model."""
        step = "" if found.step is None else describe_step(self.image, found.step)
        return CheckError(f"{self.device.name} computes otherwise than the golden model: {found.text(step)}; the tokens since "
                          "the last comparison are not given. Load the model again, and run tellme-host selftest if this comes "
                          "again")

    def _check_drafter(self, alone: bool) -> None:
        """Refuse a drafter that could not be asked."""
        if self.drafter is None:
            return
        if self.image.probe is not None:
            raise InputError("drafted tokens from the host want the LM head on the board")
        check_guesses(self.device)
        if not self.image.whole_heads:
            raise InputError(f"{self.device.name} works on one token of this model at a time, so that no guesses can be verified")
        if self.checker is not None:
            raise InputError("a run that is compared with the golden model drafts no tokens: leave the drafter out, or the check")
        if not alone:
            raise InputError("drafted tokens from the host are verified by a board that picks by itself, and here "
                             f"{self.host_draws or 'the logits of each token are asked for'}")

    def _decode(self, position: int, feed: list[int], asked: int) -> Iterator[Event]:
        """Feed tokens, and give the events of up to ``asked`` picks of a board that picks by itself."""
        if self.drafter is None:
            return self._start(position, feed, asked)
        return self._drafted(self.drafter, position, feed, asked)

    def _drafted(self, drafter: Drafter, position: int, feed: list[int], asked: int) -> Iterator[Event]:
        """Feed the tokens, and behind the last pick what the drafter guesses; the events of the picks that plain decode has.

        One pass, or where nothing is guessed up to REST tokens of the board.
        """
        guess: list[int] = []
        # A prompt's pick comes alone.  No position behind the context is fed, and no pick behind the last one is asked for.
        if len(feed) == 1 and self._lucky and self._picked:
            most = min(MOST, self.device.head_tokens - 1, asked - 1, self.config.context - position - 1)
            guess = self._guess(drafter, most)
        self._lucky = True
        if guess:
            try:
                events = self._picked_once(position, [*feed, *guess], every=True)
            except NonfiniteRunError:
                # A guess may give an infinity that the text never meets: the token is fed alone.
                pass
            else:
                right = 0
                for event, guessed in zip(events, [*guess, None], strict=True):
                    # All of them are told when the pass has ended.
                    yield replace(event, cycles=events[-1].cycles)
                    if self.stop_reason or event.id != guessed:
                        break
                    right += 1
                self._lucky = right > 0
                return
        yield from self._start(position, feed, 1 if len(feed) > 1 or not self._picked else min(asked, REST))

    def _guess(self, drafter: Drafter, most: int) -> list[int]:
        """Up to ``most`` tokens of the drafter."""
        guess = list(drafter.draft([*self.prompt, *self._picked], most))[:most] if most > 0 else []
        for token in guess:
            if not 0 <= token < self.config.vocab:
                raise InputError(f"the drafter guessed token {token}, outside the vocabulary of {self.config.vocab}")
        return [int(token) for token in guess]

    def _start(self, position: int, feed: list[int], generate: int, *, every: bool = False) -> Iterator[Event]:
        """Feed tokens, and give the event of each of up to ``generate`` picks; the counters go on from the run's first start.
        ``every``: the pick after each of the tokens, which are fed in one pass.

        More tokens than a start can have take several starts, of which the last one picks.
        """
        window = self.device.token_window
        while window is not None and len(feed) > window:
            for _ in self._start(position, feed[:window], 0):
                raise DeviceError(f"{self.device.name} picked a token that was not asked for")
            position, feed = position + window, feed[window:]
        self._check_owner()
        flags = (StartFlags(0) if self._started else StartFlags.CLEAR) | (StartFlags.DUMP if self.on_logits is not None else 0)
        self._started = True
        if every:
            flags |= StartFlags.ALL
        # Where a start picks one token, the host knows the end.
        ends = self.ends[:END_TOKENS] if generate > 1 else ()
        if generate and self._device_draws:
            self.device.draw_as(self.sampling.settings(), self.slot)
            flags |= StartFlags.SAMPLE
        if self._two_steps and not every:
            flags |= StartFlags.TWO_STEPS
        self.device.place(position, feed, self.slot)
        # Guesses are one pass, however few tokens of a prompt are to be one.
        chunk = 0 if every and self.drafter is not None else self.prefill_chunk if self.image.whole_heads else 1
        for kind, event in self.device.start(StartArgs(position, len(feed), generate, StartFlags(flags), chunk, self.slot, ends)):
            if kind != EventType.DONE:
                self._fed(event.position)
                yield event
                self._check_owner()
            elif event.logit == DoneReason.NONFINITE:
                self._check_nonfinite(event)
                raise NonfiniteRunError(f"{describe_step(self.image, event.id)} gave an infinity or NaN at position "
                                  f"{event.position}: the model does not fit binary16, or is damaged")
            elif event.logit == DoneReason.STOPPED:
                raise DeviceError("the board was stopped")
            elif generate == 0:
                self._fed(event.position)

    def _check_nonfinite(self, event: Event) -> None:
        """Where runs are compared: whether the golden model gives an infinity or NaN, too."""
        if self.checker is None:
            return
        step = self.checker.nonfinite([*self.prompt, *self._picked][:event.position + 1])
        if step is None:
            where = describe_step(self.image, event.id) if event.id < len(self.image.program) else f"step {event.id}"
            raise CheckError(f"{self.device.name} computes otherwise than the golden model: {where} gave an infinity or NaN at "
                             f"position {event.position}, and gives none on the golden model. Load the model again, and run "
                             "tellme-host selftest if this comes again")

    def _check_owner(self) -> None:
        if self.cache.owner is not self:
            raise InputError("another run began on this session: generate again for the rest of this one")

    @property
    def _device_draws(self) -> bool:
        """Whether starts draw, as against taking the likeliest token or leaving the draw to the host."""
        return (not self.sampling.greedy and self.on_logits is None and self.device.sampler
                and board_draws(self.sampling.settings()))

    @property
    def _two_steps(self) -> bool:
        """Whether the LM head of starts goes in two steps: where the device can, and only picks or draws of it are wanted that
        are the same then."""
        return self.device.two_steps and self.on_logits is None and self.checker is None and (
            self.sampling.greedy or self._device_draws and serves(self.sampling.settings()))

    def _fed(self, position: int) -> None:
        """An event said that the tokens up to a position were fed."""
        known = len(self.cache)
        if position >= known:
            self.cache.add([*self.prompt, *self._picked][known:position + 1] if known < len(self.prompt)
                           else self._picked[known - len(self.prompt):position + 1 - len(self.prompt)])

    @property
    def _logits_at_once(self) -> int:
        """Tokens of a start that gives the logits of each."""
        most = self.device.head_tokens if self.image.whole_heads else 1
        return min(self.prefill_chunk or most, most, self.device.token_window or most)

    def _every(self, feed: list[int]) -> bool:
        """Whether a start that feeds these tokens gives the pick and the logits after each."""
        return self.on_logits is not None and len(feed) > 1

    def _picked_once(self, position: int, feed: list[int], *, every: bool) -> list[Event]:
        """Feed tokens in one start that picks once, or with ``every`` after each of them; the events of all picks."""
        events = list(self._start(position, feed, 1, every=every))
        wanted = len(feed) if every else 1
        if len(events) != wanted:
            raise DeviceError(f"{self.device.name} ended a run of {'one token' if wanted == 1 else f'{wanted} tokens'} with "
                              f"{len(events)}")
        return events

    def _one(self, position: int, feed: list[int]) -> Event:
        """Feed tokens and pick once; where logits are asked for, after each token.  The last pick's event."""
        events = self._picked_once(position, feed, every=self._every(feed))
        if self.on_logits is not None:
            for row in self.device.pass_logits(self.slot):
                self.on_logits(row.copy())
        return events[-1]

    # Results

    def stats(self) -> dict[str, Any]:
        """The fields of the stats line."""
        n = len(self.generated)
        decoded = max(n - 1, 0)
        mhz = self.device.fabric_mhz
        values: dict[str, Any] = dict.fromkeys((
            "prefill_cycles", "decode_cycles", "cycles_per_token", "needed_bytes", "sdram_bytes",
            "sdram_busy_fraction", "fabric_mhz", "board_tokens_per_second"))
        if decoded:
            first = len(self.prompt)
            head: Head = "board" if self.image.probe is None else "host"
            values["needed_bytes"] = round(sum(
                needed_bytes(self.config, p, head, trits=self.image.trits, multipliers=self.image.multipliers,
                             head_trits=self.image.head_trits)
                for p in range(first, first + decoded)))
        sim_khz = None
        if mhz is not None:
            values["fabric_mhz"] = mhz
        if mhz is not None and self._first is not None and self._last is not None:
            if self.device.cleared(self.slot):
                values["prefill_cycles"] = self._first.cycles
            cycles = _difference(self._first, self._last, "cycles")
            values["decode_cycles"] = cycles
            if self.device.name == "sim" and self.wall_seconds > 0:
                sim_khz = round((self._first.cycles + cycles) / self.wall_seconds / 1000, 1)
            if decoded and cycles:
                values["cycles_per_token"] = round(cycles / decoded, 1)
                values["board_tokens_per_second"] = round(mhz * 1e6 * decoded / cycles, 2)
                values["sdram_bytes"] = self.device.word_bytes * (_difference(self._first, self._last, "read_words")
                                                                  + _difference(self._first, self._last, "write_words"))
                values["sdram_busy_fraction"] = round(_difference(self._first, self._last, "sdram_busy") / cycles, 4)
        drafts: dict[str, Any] = dict.fromkeys(("passes", "accepted_tokens", "tokens_per_pass"))
        if self.device.draft_most or self.drafter is not None:
            drafts = {"passes": self.passes, "accepted_tokens": max(decoded - self.passes, 0),
                      "tokens_per_pass": round(decoded / self.passes, 3) if self.passes else None}
        return {"prompt_tokens": len(self.prompt), "cached_tokens": self.cached, "generated_tokens": n,
                "token_ids": list(self.generated),
                "stop_reason": self.stop_reason, "drawn_by": "host" if self.host_draws else self.device.picks_by,
                "checked_tokens": None if self.checker is None else self.checked,
                **values, **drafts,
                "wall_seconds": round(self.wall_seconds, 3),
                "sim_khz": sim_khz}


def _difference(first: Event, last: Event, name: str) -> int:
    """Of 32-bit counters, which wrap."""
    return int(getattr(last, name) - getattr(first, name)) % 2**32
