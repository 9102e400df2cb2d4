# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A whole run: plan, layers, file, and what the file is worth."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellme.errors import InputError
from tellme.golden.board import NonfiniteError
from tellme.golden.perplexity import golden_board, windows
from tellme.models.config import ModelError
from tellme.models.container import Container, write, written_elements
from tellme.models.importers.importing import Imported
from tellme.models.int8 import float_rows, int8_rows
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.quantise.forward import int8, rms_norm
from tellme.quantise.harm import harm_of_planes, kl_of_rounding
from tellme.quantise.layers import FloatModel, Streams, quantise_layer
from tellme.quantise.measure import Loss, Measure
from tellme.quantise.plan import Plan, auto_plan, fixed_planes
from tellme.quantise.result import Quantised, code_of
from tellme.quantise.rotate import Choice, Rotated
from tellme.quantise.samples import sample
from tellme.quantise.tokens import POSITIONS, cut, sequences
from tellme.quantise.work import Work
from tellme.spec.attention import LOGIT_FRAC

__all__ = ["Report", "Run", "Settings"]

Floats = NDArray[np.float32]
Found = TypeVar("Found")

#: Tokens of the calibration with which planes and the rotation are chosen.
HARM_TOKENS = 384
#: Tokens whose logits are in memory at once.
_LOGITS = 64


class Shown(Protocol):
    """A bar."""

    def update(self, count: int, /) -> object:
        """So much more is done."""


#: Makes a bar from what is done, its unit, and how much of it there is.
Bars = Callable[[str, str, int], AbstractContextManager[Shown]]


@dataclass(frozen=True)
class Settings:
    """What the user wants.

    ``planes`` of each matrix, or None for those that a budget of ``bits`` a weight or ``memory`` bytes allows; ``named``: those
    of some matrices; ``head_planes`` of the LM head at most; ``group``: columns of a group with multipliers, or 0; ``tokens`` of
    the calibration's text that are taken at most; ``rotate``: whether the residual stream is turned
    (:mod:`tellme.quantise.rotate`), or None for where this pays.  A model with the norms of OLMo 2 is not turned, and with true
    its run is an InputError.
    """

    planes: int | None = None
    named: Mapping[str, int] = field(default_factory=dict)
    head_planes: int | None = None
    bits: float | None = None
    memory: int | None = None
    group: int = 0
    tokens: int = 12288
    rotate: bool | None = None


@dataclass(frozen=True)
class Report:
    """A run's result: ``losses`` of the float model, of the float model with int8 activations, and of the file."""

    choice: Choice
    plan: Plan
    losses: Mapping[str, Loss]
    calibration_tokens: int
    seconds: float

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return self.plan.as_json() | self.choice.as_json() | {
            "calibration_tokens": self.calibration_tokens, "seconds": round(self.seconds, 1),
            "losses": {name: loss.as_json() for name, loss in self.losses.items()}}


class _Tables:
    """Embedding and LM head of a float model, and their int8 rows."""

    def __init__(self, model: FloatModel, head_planes: int | None):
        self._model = model
        self._most = code_of(model, "embedding", head_planes)
        self._head: Floats | None = None
        self._gain = model.final_norm()

    def embed(self, ids: Sequence[int]) -> tuple[Floats, Floats]:
        """Rows of the embedding for tokens: as the float model has them, and as int8 rows."""
        wanted, place = np.unique(np.array(ids), return_inverse=True)
        rows = np.empty((len(wanted), self._model.config.dim), np.float32)
        first = 0
        for part in self._model.floats("embedding"):
            inside = (wanted >= first) & (wanted < first + len(part))
            rows[inside] = part[wanted[inside] - first]
            first += len(part)
        return rows[place], float_rows(*int8_rows(rows, self._most))[place]

    def logits(self, x: Floats, *, quantised: bool = False) -> Floats:
        """Logits of residual streams by the float head."""
        if self._head is None:
            self._head = np.concatenate(list(self._model.floats("embedding" if self._model.config.tied else "head")))
        h = rms_norm(x, self._gain, self._model.config.eps)
        return (int8(h) if quantised else h) @ self._head.T


def _fingerprint(model: Imported) -> str:
    """A hash of a checkpoint: its configuration, and name, type, shape, first and last row of each tensor."""
    found = hashlib.sha256(json.dumps(model.config.as_json()).encode() + model.tokenizer)
    tensors = model.tensors
    for name in sorted(tensors.names()):
        shape = tensors.shape(name)
        found.update(f"{name} {tensors.kind(name)} {shape}".encode())
        for first in (0, shape[0] - 1):
            found.update(np.ascontiguousarray(tensors.rows(name, first, first + 1)).tobytes())
    return found.hexdigest()


def _code() -> str:
    """A hash of the package's Python files: what a run finds may depend on each of them."""
    found = hashlib.sha256()

    def add(folder: Traversable, inside: str) -> None:
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if entry.is_dir():
                add(entry, f"{inside}{entry.name}/")
            elif entry.name.endswith(".py"):
                content = entry.read_bytes()
                found.update(f"{inside}{entry.name} {len(content)}\n".encode() + content)

    add(resources.files("tellme"), "")
    return found.hexdigest()


def _kept(work: Work | None, name: str, measure: Callable[[], Any]) -> Any:
    """What is kept in a run's folder under a name, or else is measured and kept."""
    found = work.noted(name) if work is not None else None
    if found is None:
        found = measure()
        if work is not None:
            work.note(name, found)
    return found


def _joined(parts: Sequence[Sequence[int]]) -> list[int]:
    return [token for part in parts for token in part]


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    """(first, end) of some tokens at a time."""
    for first in range(0, length, _LOGITS):
        yield first, min(first + _LOGITS, length)


class Run:
    """A run on a float ``model``, whose output is ``target``.

    ``calibration`` and ``evaluation`` are texts with <|endoftext|> between them; without ``calibration`` the model writes its
    own.  ``say`` hears what is done; ``bars`` makes the
    bars of what takes long.  Bad settings and texts are an InputError.
    """

    def __init__(self, model: Imported, target: Path, settings: Settings, calibration: str | None, evaluation: str, *,
                 say: Callable[[str], object], bars: Bars):
        if settings.rotate and model.config.vector_norms:
            raise InputError("the residual stream of this model cannot be turned: norms with gains stand between its matrices "
                             "and the stream (OLMo 2)", hint="no-rotate")
        if not model.tokenizer:
            raise ModelError("the model has no tokenizer, and the calibration needs one", hint="tokenizer-file-only")
        #: The float model, and the same where it is turned.
        self._source: FloatModel = model
        self._model: FloatModel = model
        self._fingerprint = _fingerprint(model)
        self._target, self._settings, self._say, self._bars = target, settings, say, bars
        tokenizer = Tokenizer(model.tokenizer, model.name)
        if calibration is None:
            with bars("sampling", "token", settings.tokens) as shown:
                self._calibration = cut(sample(model, settings.tokens, shown.update), settings.tokens)
        else:
            self._calibration = cut(sequences(model.config, tokenizer, calibration), settings.tokens)
        short = copy(model)
        short.config = replace(model.config, context=min(model.config.context, POSITIONS))
        self._measured = windows(short, tokenizer, evaluation)
        if not self._measured.tokens:
            raise InputError("the text to measure on has nothing to predict")
        self._tables = _Tables(model, settings.head_planes)

    @property
    def tokens(self) -> int:
        """Tokens that are calibrated on."""
        return sum(map(len, self._calibration))

    def plan(self, work: Work | None = None) -> tuple[Choice, Plan]:
        """Whether the model is turned, and the planes of each matrix; what was measured for them is kept in ``work``."""
        s, source = self._settings, self._source
        choice = Choice(bool(s.rotate))
        if s.rotate is None and not source.config.vector_norms:
            # The planes are near those of the plan, which is made for the model that is chosen.
            rounding = partial(kl_of_rounding, variants=[self._planes(None).planes], group=s.group)
            choice = Choice.by(*_kept(work, "rotate", lambda: [
                self._tried(model, rounding)[0] for model in (source, Rotated(source))]))
        if choice.turned:
            self._model = Rotated(source)
            self._tables = _Tables(self._model, s.head_planes)
        harm = None
        if s.planes is None:
            harm = _kept(work, "harm", lambda: self._tried(self._model, harm_of_planes))
        return choice, self._planes(harm)

    def _tried(self, model: FloatModel, measure: Callable[..., Found]) -> Found:
        """What one of the functions of :mod:`tellme.quantise.harm` finds with HARM_TOKENS tokens of the calibration."""
        parts, tables = cut(self._calibration, HARM_TOKENS), _Tables(model, self._settings.head_planes)
        exact, _ = tables.embed(_joined(parts))
        with self._bars("measuring", "layer", model.config.layers) as shown:
            return measure(model, [*map(len, parts)], exact, tables.logits, shown.update)

    def _planes(self, harm: Sequence[Mapping[str, float]] | None) -> Plan:
        """The planes of each matrix."""
        s, c = self._settings, self._model.config
        head_code = code_of(self._model, "embedding" if c.tied else "head", s.head_planes)
        if s.planes is not None:
            return Plan(c, fixed_planes(c, s.planes, s.named), s.group, head_code)
        return auto_plan(c, harm, s.named, group=s.group, head_code=head_code, bits=s.bits, memory=s.memory)

    def quantise(self) -> Report:
        """The whole run: the output is written, and measured."""
        began = time.monotonic()
        work = Work(self._target, {
            "code": _code(), "model": self._fingerprint, "settings": asdict(self._settings),
            "calibration": self._calibration, "evaluation": self._measured.parts})
        if work.layers:
            self._say(f"{work.folder}: going on behind layer {work.layers} of {self._model.config.layers}")
        choice, plan = self.plan(work)
        streams = self._layers(plan, work)
        with self._bars("writing", "weight", written_elements(self._model.config)) as shown:
            write(Quantised(self._model, work, self._settings.head_planes), self._target, shown.update)
        losses = self._losses(streams)
        work.remove()
        return Report(choice, plan, losses, self.tokens, time.monotonic() - began)

    def _layers(self, plan: Plan, work: Work) -> Streams:
        """Solve what is not solved."""
        c = self._model.config
        measured = [part[:-1] for part in self._measured.parts]
        exact, quantised = self._tables.embed(_joined([*self._calibration, *measured]))
        streams = Streams([*map(len, self._calibration)], [*map(len, measured)], exact, quantised, exact[self.tokens:])
        work.restore(streams)
        with self._bars("quantising", "weight", c.ternary_weights // c.layers * (c.layers - work.layers)) as shown:
            for number in range(work.layers, c.layers):
                found = quantise_layer(self._model, number, streams, plan.planes[number], plan.group, shown.update)
                work.save(number, found, streams)
        return streams

    def _losses(self, streams: Streams) -> dict[str, Loss]:
        """Of the float model, of the float model with int8 activations, and of the file on the golden model."""
        size = self._measured.text_bytes
        exact, rounded, golden = Measure(size), Measure(size), Measure(size)
        board = golden_board(Container(self._target))
        at = 0
        with self._bars("comparing", "token", self._measured.tokens) as shown:
            for part in self._measured.parts:
                for first, end in _blocks(len(part) - 1):
                    targets = part[first + 1:end + 1]
                    whole, small = self.tokens + at + first, at + first
                    wanted = self._tables.logits(streams.exact[whole:whole + end - first])
                    exact.add(wanted, wanted, targets)
                    rounded.add(wanted, self._tables.logits(streams.rounded[small:small + end - first], quantised=True), targets)
                    try:
                        logits = board.feed(part[first:end], first, heads="all")
                    except NonfiniteError as error:
                        raise ModelError(f"{self._target} is written, and cannot run: {error}; numbers of this model pass "
                                         "binary16's range") from error
                    golden.add(wanted, logits / 2.0**LOGIT_FRAC, targets)
                    shown.update(end - first)
                at += len(part) - 1
        return {"float": exact.loss(), "int8 activations": rounded.loss(), "quantised": golden.loss()}

