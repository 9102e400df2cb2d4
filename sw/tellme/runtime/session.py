# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model on a board: text in, text out, and the loss on a text."""

import math
import threading
from collections import abc
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Image
from tellme.drafts.drafter import Drafter
from tellme.errors import DeviceError, InputError, TellmeError
from tellme.golden.perplexity import Windows, losses, windows
from tellme.models.source import Source
from tellme.models.tokenizers.tokenizer import TextStream, Tokenizer
from tellme.runtime.checking import Checker, MemorySums
from tellme.runtime.device import Device, GoldenDevice
from tellme.runtime.generation import Generation
from tellme.runtime.kv_cache import KvCache
from tellme.runtime.sampling import Sampling
from tellme.runtime.stops import StopFilter

__all__ = ["Loss", "NothingToPredictError", "Run", "Sequence", "Sequences", "Session", "Token", "interleave", "prompt_ids",
           "text_windows", "tokenizer_of"]


@dataclass(frozen=True)
class Token:
    """A generated token and the text that the token completes: whole characters, or nothing while a character waits for its last
    bytes, or a text may become a stop string.  ``text`` is empty if the model has no tokenizer."""

    id: int
    text: str
    #: Whether text waits for later tokens: a character without its last bytes, or the beginning of a stop string.
    pending: bool = False


@dataclass(frozen=True)
class Loss:
    """The loss on a text: ``nats`` is the sum of the negative log likelihoods of ``tokens`` predictions, in windows of up to the
    model's context; the predicted text has ``text_bytes`` bytes of UTF-8."""

    nats: float
    tokens: int
    text_bytes: int
    windows: int

    @property
    def nats_per_token(self) -> float:
        """Mean negative log likelihood of a prediction."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """nats / ln 2 / text_bytes."""
        return self.nats / math.log(2) / self.text_bytes


class Run:
    """One generation: iterate over its tokens, once.  Where the loop is left early, the board is stopped."""

    def __init__(self, generation: Generation, tokenizer: Tokenizer | None, stops: abc.Sequence[str] = (), resume: int = 0):
        """``resume``: how many tokens at the end of the prompt an earlier run had picked; their text was shown by that run."""
        self.generation = generation
        first = len(generation.prompt) - resume
        self._stream = None if tokenizer is None else TextStream(tokenizer, before=generation.prompt[:first])
        self._stops = StopFilter(stops)
        for token in generation.prompt[first:]:
            self._push(token)
        self._begun = False
        self._tokens: list[Token] = []

    def __iter__(self) -> Iterator[Token]:
        if self._begun:
            raise InputError("the tokens of a run are taken once: generate again for another run")
        self._begun = True
        ids = self.generation.tokens()
        try:
            for token in ids:
                added = self._add(token)
                if self._stops.found is not None:
                    self.generation.interrupt("stop_string")
                yield added
                if self._stops.found is not None:
                    return
        finally:
            ids.close()  # type: ignore[attr-defined]

    def _push(self, token: int) -> str:
        return "" if self._stream is None else self._stops.push(self._stream.push(token))

    def _add(self, token: int) -> Token:
        text = self._push(token)
        waits = self._stops.found is None and (self._stops.holding or self._stream is not None and self._stream.pending)
        self._tokens.append(Token(token, text, waits))
        return self._tokens[-1]

    def since(self, taken: int) -> list[Token]:
        """The tokens from number ``taken`` on: after a loop that was interrupted, those that the loop did not get."""
        for token in self.generation.generated[len(self._tokens):]:
            self._add(token)
        return self._tokens[taken:]

    def finish(self) -> str:
        """After the loop, once: the text that still waited for a later token, such as a character without its last byte."""
        if self._stream is None or self._stops.found is not None:
            return ""
        text = self._stops.push(self._stream.finish())
        if self._stops.found is not None:
            self.generation.stop_reason = "stop_string"
        return text + self._stops.finish()

    def interrupt(self) -> None:
        """End the generation where it is."""
        self.generation.interrupt()

    @property
    def text(self) -> str:
        """All text of the run, whose tokens it takes."""
        return "".join(token.text for token in self) + self.finish()

    @property
    def stop_reason(self) -> str:
        """Why the generation ended: ``end_token``, ``stop_string``, ``length``, ``context`` or ``interrupted``; empty while it
        goes on."""
        return self.generation.stop_reason

    @property
    def stats(self) -> dict[str, Any]:
        """What the generation took: numbers of tokens, cycles, bytes and seconds; None for what the device does not count."""
        return self.generation.stats()


@lru_cache(maxsize=1)
def _tokenizer(content: bytes, name: str) -> Tokenizer:
    """The last tokenizer is kept: a command asks for it ahead of the board, and a session again.  A large one takes a second."""
    return Tokenizer(content, name)


def tokenizer_of(model: Source) -> Tokenizer | None:
    """The tokenizer that a model holds, if it holds one."""
    return _tokenizer(model.tokenizer, f"the tokenizer of {model.name}") if model.tokenizer else None


def prompt_ids(model: Source, tokenizer: Tokenizer | None, prompt: str | abc.Sequence[int]) -> list[int]:
    """Token ids of a prompt that the model can continue.  A text gets BOS in front if the model puts BOS before a text.

    An empty text is BOS alone.  Ids are taken unchanged.
    """
    c = model.config
    if not isinstance(prompt, str):
        ids = list(prompt)
    elif not prompt:
        if c.bos is None:
            raise InputError(f"the model {model.name} has no BOS token to begin a text with: a prompt is wanted", hint="prompt")
        ids = [c.bos]
    elif tokenizer is None:
        raise InputError(f"the model {model.name} holds no tokenizer: token ids are wanted, or a model that was converted with a "
                         "tokenizer", hint="prompt-ids")
    else:
        ids = c.with_bos(tokenizer.encode(prompt))
    if not ids:
        raise InputError("the prompt has no token: one token or more is wanted", hint="prompt")
    if len(ids) > c.context:
        raise InputError(f"the prompt has {len(ids)} tokens, the model's context holds {c.context}")
    for token in ids:
        if not 0 <= token < c.vocab:
            raise InputError(f"prompt token {token} is outside the vocabulary of {c.vocab}")
    return ids


def text_windows(model: Source, tokenizer: Tokenizer | None, text: str, tokens: int | None = None) -> Windows:
    """A text as the windows that :meth:`Session.loss` predicts, at most ``tokens`` predictions."""
    if tokenizer is None:
        raise InputError(f"the model {model.name} holds no tokenizer: a model that was converted with one is wanted",
                         hint="tokenizer")
    if model.config.context < 2:
        raise InputError(f"the model {model.name} has one position: there is nothing to predict")
    found = windows(model, tokenizer, text, tokens)
    if not found.parts:
        raise NothingToPredictError("there is nothing to predict in the text")
    return found


class NothingToPredictError(InputError):
    """A text of which no token can be predicted."""


class Sequence:
    """One text at a time on a slot of a board, beside the texts of other sequences: :meth:`Session.open` makes sequences.

    A sequence knows the tokens whose K and V lie in its slot's KV cache: a prompt that begins with the same tokens feeds only the
    rest, and gives the same logits.  Use it in a ``with`` block, or close it, so that its slot is free for another one.  A
    sequence is used by one thread at a time, several sequences by several threads.
    """

    def __init__(self, session: "Session", slot: int, cache: KvCache):
        self._session: Session | None = session
        self.slot, self.cache = slot, cache
        self.model, self.tokenizer = session.model, session.tokenizer

    def generate(self, prompt: str | abc.Sequence[int] = "", *, max_tokens: int = 128,
                 sampling: Sampling | None = None, ignore_end: bool = False, prefill_chunk: int = 0,
                 stop: abc.Sequence[str] = (), resume: abc.Sequence[int] = (),
                 on_logits: Callable[[NDArray[np.int32]], object] | None = None, drafter: Drafter | None = None) -> Run:
        """Go on from a prompt, as :meth:`Session.generate` does; the sequence's run of before is stopped.

        ``on_logits``, and sampling for which the host draws (``drawn_by`` of the stats), need the passes of the board for
        themselves: while other sequences run they are refused with a DeviceError.
        """
        session = self._working()
        # A run that nobody finished.
        session.device.stop(self.slot)
        ids = [*prompt_ids(self.model, self.tokenizer, prompt), *resume]
        c = self.model.config
        if len(ids) > c.context or len(resume) >= max(max_tokens, 1):
            raise InputError(f"{len(resume)} tokens of an earlier run leave no room for another one")
        if stop and self.tokenizer is None:
            raise InputError(f"the model {self.model.name} holds no tokenizer: without one there is no text to stop at",
                             hint="tokenizer")
        generation = Generation(session.device, session.image, c, ids, max_tokens - len(resume), sampling or Sampling(),
                                () if ignore_end else c.ends, prefill_chunk, on_logits, self.cache, self.slot,
                                session.checker, drafter)
        session.say_who_draws(generation)
        return Run(generation, self.tokenizer, stop, len(resume))

    def _working(self) -> "Session":
        if self._session is None:
            raise InputError("the sequence is closed: open another one")
        return self._session

    def stop(self) -> None:
        """End the sequence's run; those of other sequences go on."""
        self._working().device.stop(self.slot)

    def close(self) -> None:
        """Stop the sequence, and leave its slot, with what the KV cache holds, to the next one."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            # A board that failed is not waited for.
            with suppress(TellmeError):
                session.device.stop(self.slot)
        finally:
            session.give_back(self.slot)

    def __enter__(self) -> "Sequence":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Sequences(list[Sequence]):
    """Sequences that are closed together, at the end of a ``with`` block."""

    def __enter__(self) -> "Sequences":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all of them."""
        for sequence in self:
            sequence.close()


def interleave(runs: Iterable[Run]) -> Iterator[tuple[Run, Token]]:
    """The tokens of several runs, of a sequence each, in turns: (run, token), until all have ended.

    Where the loop is left early, or is interrupted, all of these runs are stopped.
    """
    going = [(run, iter(run)) for run in runs]
    try:
        while going:
            for entry in list(going):
                run, tokens = entry
                token = next(tokens, None)
                if token is None:
                    going.remove(entry)
                else:
                    yield run, token
    except BaseException:
        for run, _ in going:
            with suppress(TellmeError):
                run.interrupt()
        raise


class Session:
    """A model that is loaded on a board.  :meth:`tellme.Board.load` makes sessions; the newest session of a board is the one that
    works.

    The session itself generates one text at a time, in the board's slot 0.  A board with several ``slots`` runs several texts
    side by side: :meth:`open` and :meth:`sequences` give a sequence for each.

    A session knows the tokens whose K and V lie in the board's KV cache: a prompt that begins with the same tokens feeds only
    the rest, and gives the same logits.
    """

    def __init__(self, device: Device, model: Source, image: Image, say: Callable[[str], None] = lambda text: None,
                 checker: Checker | None = None):
        """``say`` hears, once, why the host draws the tokens of a generation where a board could not.  ``checker``: what compares
        the board with the golden model; one sequence runs at a time then."""
        self.checker, self._sums = checker, MemorySums(image)
        self.device, self.model, self.image = device, model, image
        self._say = say
        self._said: set[str] = set()
        self.tokenizer = tokenizer_of(model)
        self._caches: dict[int, KvCache] = {0: KvCache()}
        self._taken: set[int] = set()
        self._lock = threading.Lock()
        self._own = Sequence(self, 0, self.cache)

    @property
    def cache(self) -> KvCache:
        """What lies in the KV cache of slot 0."""
        return self._caches[0]

    @property
    def slots(self) -> int:
        """Texts that the board runs side by side with this model."""
        return 1 if self.checker is not None else self.device.slots

    def check_weights(self, most: int | None = None) -> int:
        """Compare the board's memory with what was loaded, by checksums that the board computes: weights, LM head, embedding,
        RoPE rows, drafts.  The bytes that were compared.

        ``most``: so many bytes at most, 64 KiB at least, and at the next call those behind them; None: all.  A difference is a
        CheckError; the golden model, which has no memory chip, is a DeviceError.  Between runs, or beside them.
        """
        return self._sums.check(self.device, most)

    def open(self) -> Sequence:
        """A sequence in a slot that no other one has.

        The slots with the largest numbers are taken first, so that the session's own, slot 0, is taken last; meanwhile the
        session generates nothing.  Where all slots are taken a DeviceError: nothing here waits for a slot.
        """
        with self._lock:
            free = [slot for slot in range(self.slots) if slot not in self._taken]
            if not free:
                have = "one sequence" if self.slots == 1 else f"{self.slots} sequences"
                raise DeviceError(f"{self.device.name} runs {have} at a time with this model, and "
                                  f"{'it is' if self.slots == 1 else 'all are'} taken: close one first")
            slot = free[-1]
            self._taken.add(slot)
            return Sequence(self, slot, self._caches.setdefault(slot, KvCache()))

    def sequences(self, count: int | None = None) -> Sequences:
        """So many sequences, or one for each free slot.  If there are not as many free slots a DeviceError, and none is taken."""
        out = Sequences()
        try:
            for _ in range(self.slots - len(self._taken) if count is None else count):
                out.append(self.open())
        except DeviceError:
            out.close()
            raise
        return out

    def give_back(self, slot: int) -> None:
        """A sequence leaves its slot."""
        with self._lock:
            self._taken.discard(slot)

    def say_who_draws(self, generation: Generation) -> None:
        """Say once why the host draws the tokens of a generation, if it does."""
        why = generation.host_draws
        if why is not None and why not in self._said:
            self._said.add(why)
            self._say(f"the host draws the tokens: {why}")

    def _check_own(self) -> None:
        if 0 in self._taken:
            raise InputError("a sequence has the session's own slot: close one, or generate with it")

    def generate(self, prompt: str | abc.Sequence[int] = "", *, max_tokens: int = 128,
                 sampling: Sampling | None = None, ignore_end: bool = False, prefill_chunk: int = 0,
                 stop: abc.Sequence[str] = (), resume: abc.Sequence[int] = (),
                 on_logits: Callable[[NDArray[np.int32]], object] | None = None, drafter: Drafter | None = None) -> Run:
        """Go on from a prompt: a text, or token ids, to which no BOS is added.

        Up to ``max_tokens`` tokens are picked, as ``sampling`` says (None: greedily), until an end token of the model comes (not
        with ``ignore_end``) or the context is full.  ``prefill_chunk`` is how many prompt tokens share each weight: 0 as many as
        the board has lanes for, 1 one by one; the tokens are the same.  ``on_logits`` gets the logits (vocab,) of each position
        fed, in Q15.16, which takes a start a token, or of the prompt a start a chunk on a core with picks of all positions.

        ``stop``: strings at which the text ends.  A stop string is not shown, and text that may become one is held back.

        ``resume``: tokens that an earlier run of the prompt picked, perhaps on another board.  The run goes on behind these
        tokens, with the tokens and the text that the earlier run would have given; ``max_tokens`` counts them too.

        ``drafter``: what guesses tokens (:class:`tellme.drafts.drafter.OwnText`, or one of the caller's).  A board with picks of
        all positions verifies several of them a pass.  The tokens are the same; a START a pass costs the link's time.
        """
        self._check_own()
        return self._own.generate(prompt, max_tokens=max_tokens, sampling=sampling, ignore_end=ignore_end,
                                  prefill_chunk=prefill_chunk, stop=stop, resume=resume, on_logits=on_logits, drafter=drafter)

    def loss(self, text: str | Windows, *, tokens: int | None = None, progress: Callable[[int], object] | None = None) -> Loss:
        """The model's loss on a text, of which at most ``tokens`` tokens are predicted, or on windows of :func:`text_windows`.

        ``progress`` hears how many predictions were made since the last call.  On a board this takes a start a token, or a start
        a chunk on a core with picks of all positions.
        """
        self._check_own()
        cut = text_windows(self.model, self.tokenizer, text, tokens) if isinstance(text, str) else text
        found: list[float] = []

        def take(part: list[float]) -> None:
            found.extend(part)
            if progress is not None:
                progress(len(part))

        self.cache.forget()
        for ids in cut.parts:
            if isinstance(self.device, GoldenDevice):
                for part in self.device.losses(ids):
                    take(part)
                continue
            targets = iter(ids[1:])
            run = Generation(self.device, self.image, self.model.config, ids[:-1], 0,
                             on_logits=lambda row, targets=targets: take(losses(row[None], [next(targets)])))  # type: ignore[misc]
            try:
                for _ in run.tokens():
                    pass
            except KeyboardInterrupt:
                run.interrupt()
                raise
        return Loss(math.fsum(found), cut.tokens, cut.text_bytes, len(cut.parts))
