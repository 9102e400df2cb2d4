# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a .tellme file holds, what it needs of a board, and which builds it fits.

Whether a build runs the model is the compiler's own answer: compiling reads no weights but those of an LM head's table.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.cycles import PassModel, random_list
from tellme.compiler.image import (
    Body,
    CompileError,
    Head,
    Image,
    check_linears,
    check_shape,
    compile_body,
    compile_model,
    longest_context_of,
    needed_bytes,
    tiling,
)
from tellme.compiler.measured import Measurement, nearest
from tellme.compiler.pack import Tiling
from tellme.models.config import LINEARS, NORMS, ModelConfig
from tellme.models.container import Container
from tellme.models.source import Linear, StoredSource
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.config import PRESETS, CoreConfig
from tellme.spec.packing import SLICE, TRITS, slices, unpack_trits
from tellme.spec.ranges import RangeError

__all__ = ["Fit", "Inspection", "Placement", "Rate", "SideBySide", "inspect_model", "model_fits"]

#: Which of the five trits of each byte are zeros, a bit each; and how many ones so many bits have.
_ZERO_TRITS = np.array([sum((trit == 0) << j for j, trit in enumerate(unpack_trits(byte))) for byte in range(3**TRITS)], np.uint8)
#: Texts of tokens of single bytes, and of control tokens, where a vocabulary begins.
_LOW = re.compile(r"<0x[0-9A-F]{2}>|</?s>|<unk>|<pad>")
_ONES = np.array([bits.bit_count() for bits in range(1 << TRITS)])


@dataclass(frozen=True)
class Rate:
    """Tokens per second of decoding at a position: what the memory's peak rate allows, and that over the factor of the nearest
    measurement on the build, if there is one."""

    position: int
    peak: float
    measurement: Measurement | None

    @property
    def expected(self) -> float | None:
        return self.peak / self.measurement.factor if self.measurement is not None else None


@dataclass(frozen=True)
class SideBySide:
    """Tokens per second of all sequences that a build runs side by side, by the position at which each of them decodes, as the
    analytic model has them (:class:`tellme.compiler.cycles.PassModel`)."""

    sequences: int
    rates: dict[int, float]


@dataclass(frozen=True)
class Placement:
    """A model on a build, with embedding and LM head in one place.

    ``reason`` is empty if the model fits with its whole context.  Else ``reason`` names the limit, and ``context`` is the longest
    context with which the model would fit (:func:`~tellme.compiler.image.longest_context_of`); 0: no context helps.  ``slots`` is
    the number of sequences that run side by side, as many as the build has slots and the memory room for.
    """

    head: Head
    context: int
    reason: str = ""
    rates: tuple[Rate, ...] = ()
    slots: int = 1
    #: With the whole context, of a build that runs several sequences side by side.
    side_by_side: SideBySide | None = None

    def as_json(self) -> dict[str, Any]:
        return {"fits": not self.reason, "context": self.context, "slots": self.slots, "reason": self.reason,
                "tokens_per_second": {str(r.position): {
                    "memory_peak": _rounded(r.peak),
                    "expected": _rounded(r.expected) if r.expected is not None else None,
                    "measured_factor": r.measurement.factor if r.measurement is not None else None,
                    "measured_on": f"{r.measurement.shape}, {r.measurement.at}" if r.measurement is not None else None}
                    for r in self.rates},
                "side_by_side": None if self.side_by_side is None else {
                    "sequences": self.side_by_side.sequences,
                    "tokens_per_second": {str(at): _rounded(rate) for at, rate in self.side_by_side.rates.items()}}}


@dataclass(frozen=True)
class Fit:
    """Whether a build runs the model, as :func:`~tellme.compiler.image.place_model` decides; ``placements`` has both places of
    embedding and LM head."""

    preset: str
    head: Head | None = None
    reason: str = ""
    placements: dict[Head, Placement] = field(default_factory=dict)

    @property
    def tokens_per_second(self) -> dict[int, float]:
        """By position: what the memory's peak rate allows where the model fits."""
        return {rate.position: rate.peak for rate in self.placements[self.head].rates} if self.head is not None else {}


def _rounded(rate: float) -> float:
    """A rate with two decimals, or three digits if it is small."""
    return round(rate, 2) if rate >= 1 else float(f"{rate:.3g}")


@dataclass
class Inspection:
    """The findings.  Bytes are bytes of the file."""

    config: ModelConfig
    name: str
    license: str
    tokenizer: str
    #: What stands before a prompt, and the tokens that end a text: ids, with their texts where there is a tokenizer.
    begin: str
    end: str
    bytes_by_part: dict[str, int]
    #: Share of zeros among the ternary weights of each layer, and of them all.
    zeros_by_layer: list[float]
    zeros: float
    gains: list[str]
    #: Matrices with more than one scale, and those with a bias.
    several_scales: list[str]
    biases: list[str]
    #: Number of planes -> weights of the matrices that have so many.
    planes: dict[int, int]
    #: Slices of a column group -> weights of the matrices that have such groups, and their multipliers.
    groups: dict[int, int]
    multipliers: int
    fits: list[Fit]

    @property
    def features(self) -> dict[str, str]:
        """The model's special features, and what computes them."""
        residual = [name for name in self.biases if name.endswith((".wo", ".w2")) and not self.config.vector_norms]
        return {what: who for what, there, who in (
            ("several scales a matrix", self.several_scales, "golden and boards"),
            ("several planes", max(self.planes) > 1, "golden, and builds of as many planes"),
            ("norms on heads", self.config.qk_norm, "golden, and builds of several planes"),
            ("norms of OLMo 2", self.config.vector_norms, "golden, and builds with vector_norms"),
            ("column groups", self.groups, "golden, and builds with multipliers"),
            ("bias", self.biases, "golden only" if residual else "golden, and builds of several planes")) if there}

    @property
    def bits_a_weight(self) -> float:
        """Bits that a weight takes: 8 for five trits, of which it has one in each plane, and its share of the multipliers."""
        trits = sum(planes * weights for planes, weights in self.planes.items())
        return (8 / TRITS * trits + 8 * self.multipliers) / self.config.ternary_weights

    def as_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        return {"name": self.name, "config": vars(self.config) | {"more_ends": list(self.config.more_ends)},
                "ternary_weights": self.config.ternary_weights, "planes": {str(p): n for p, n in self.planes.items()},
                "column_groups": {str(SLICE * slices): n for slices, n in self.groups.items()},
                "bits_a_weight": round(self.bits_a_weight, 4),
                "license": self.license, "tokenizer": self.tokenizer, "bytes": self.bytes_by_part,
                "zeros": round(self.zeros, 4), "zeros_by_layer": [round(z, 4) for z in self.zeros_by_layer],
                "gains": self.gains, "several_scales": self.several_scales, "biases": self.biases, "features": self.features,
                "fits": [{"preset": f.preset, "fits": not f.reason, "head": f.head,
                          "reason": f.reason,
                          "bandwidth_tokens_per_second": {str(p): _rounded(t) for p, t in f.tokens_per_second.items()},
                          "placements": {head: placement.as_json() for head, placement in f.placements.items()}}
                         for f in self.fits]}


def inspect_model(model: Container, progress: Callable[[], object] | None = None) -> Inspection:
    """Read a file once, a part at a time; ``progress`` is called once for each layer."""
    c = model.config
    parts = {"embedding": model.part_bytes("embedding") + model.part_bytes("embedding.scale"),
             "head": model.part_bytes("head") + model.part_bytes("head.scale"), "ternary weights": 0, "multipliers": 0,
             "scales and biases": 0, "norms": model.part_bytes("final_norm"), "tokenizer": len(model.tokenizer)}
    gains, several, biases, zeros = set(), [], [], []
    planes, groups, multipliers = Counter[int](), Counter[int](), 0
    for i in range(c.layers):
        zero = 0
        for name in LINEARS:
            what = f"layers.{i}.{name}"
            linear = model.linear(i, name)
            zero += _zeros(what, linear)
            planes[linear.planes] += linear.shape[0] * linear.shape[1]
            if linear.group_slices:
                groups[linear.group_slices] += linear.shape[0] * linear.shape[1]
                multipliers += linear.multiplier_count
                parts["multipliers"] += model.part_bytes(f"{what}.multipliers") + model.part_bytes(f"{what}.group_slices")
            parts["ternary weights"] += model.part_bytes(what)
            parts["scales and biases"] += sum(model.part_bytes(f"{what}.{n}") for n in ("scale", "scale_rows", "bias"))
            if len(linear.blocks()) > 1:
                several.append(what)
            if linear.bias is not None:
                biases.append(what)
        for name in NORMS:
            gain = model.gain(i, name)
            if gain is not None:
                gains.add(name)
                parts["norms"] += gain.nbytes
        zeros.append(zero * c.layers / c.ternary_weights)
        if progress is not None:
            progress()
    if model.final_norm() is not None:
        gains.add("final_norm")
    tokenizer, known = "none", None
    if model.tokenizer:
        known = Tokenizer(model.tokenizer, f"the tokenizer in {model.path}")
        tokenizer = f"{known.kind}, {known.size} tokens"

    def named(token: int) -> str:
        return f"{token} {known.text(token)!r}" if known is not None else str(token)

    begin = "nothing" if c.bos is None or not c.add_bos else f"BOS {named(c.bos)}"
    end = ", ".join(named(token) for token in c.ends) or "no token"
    # Tokens of single bytes come first, and hardly any is ever likely.
    low = 0
    while known is not None and low < c.vocab and _LOW.fullmatch(known.text(low)):
        low += 1
    return Inspection(c, model.name, model.license, tokenizer, begin, end, {k: v for k, v in parts.items() if v}, zeros,
                      float(np.mean(zeros)), sorted(gains), several, biases, dict(sorted(planes.items())),
                      dict(sorted(groups.items())), multipliers, model_fits(model, low))


def _zeros(name: str, linear: Linear) -> int:
    """Zeros of a matrix, counted by bytes: a weight is zero where all of its trits are."""
    padding = linear.shape[0] * (slices(linear.shape[1]) * SLICE - linear.shape[1])
    return sum(int(np.bincount(_zero_trits(part, linear.planes), minlength=1 << TRITS) @ _ONES)
               for part in linear.packed(name)) - padding


def _zero_trits(part: NDArray[np.uint8], planes: int) -> NDArray[np.uint8]:
    """The bits of the weights that are zero, for each five weights of packed rows."""
    zero: NDArray[np.uint8] = np.bitwise_and.reduce(_ZERO_TRITS[part.reshape(len(part), planes, -1)], axis=1).reshape(-1)
    return zero


def model_fits(model: StoredSource, low: int = 0) -> list[Fit]:
    """What each build says to a model.  No weight is read but those of its LM head.

    ``low``: so many of the first tokens are hardly ever likely (:func:`tellme.compiler.cycles.random_list`).
    """
    bodies: dict[Tiling, Body] = {}

    def body_for(board: CoreConfig) -> Body:
        key = tiling(board)
        if key not in bodies:
            bodies[key] = compile_body(model, board)
        return bodies[key]

    return [_fit(model, board, body_for, low) for board in PRESETS.values()]


def _fit(model: StoredSource, board: CoreConfig, body_for: Callable[[CoreConfig], Body], low: int) -> Fit:
    found: dict[Head, Placement] = {}
    for head in get_args(Head):
        found[head] = _placement(model, board, head, body_for, low)
    taken = next((place for place in found.values() if not place.reason), None)
    if taken is None:
        return Fit(board.name, reason=found["host"].reason, placements=found)
    return Fit(board.name, taken.head, placements=found)


def _placement(model: StoredSource, board: CoreConfig, head: Head, body_for: Callable[[CoreConfig], Body],
               low: int) -> Placement:
    c = model.config
    try:
        check_shape(replace(c, context=min(c.context, board.widths.context)), board, head)
        check_linears(model, board)
        body = body_for(board)
    except (CompileError, RangeError) as error:
        return Placement(head, 0, str(error))
    slots, together = 1, None
    try:
        image = compile_model(model, board, head=head, body=body)
        slots = min(image.slots, board.slots)
        reason, context = "", c.context
        together = _side_by_side(c, board, image, low)
    except (CompileError, RangeError) as error:
        reason, context = str(error), longest_context_of(c, board, body, head)
    return Placement(head, context, reason, tuple(_rates(c, board, head, context, body)) if context else (), slots, together)


def _side_by_side(c: ModelConfig, board: CoreConfig, image: Image, low: int) -> SideBySide | None:
    """At the first position, and at 512 or the last one."""
    sequences = min(board.slots, image.slots)
    if sequences == 1 or image.probe is not None:
        return None
    model = PassModel(c, image, board, random_list(c.vocab, low))
    return SideBySide(sequences, {at: model.aggregate(at, sequences) for at in sorted({0, min(512, c.context - 1)})})


def _rates(c: ModelConfig, board: CoreConfig, head: Head, context: int, body: Body) -> Iterator[Rate]:
    """At the first position, at 512, and at the last."""
    head_trits = body.head.trits if head == "board" else None
    rate = board.fabric_mhz * 1e6 * board.peak_bytes_per_cycle
    for position in sorted({0, min(512, context - 1), context - 1}):
        needed = needed_bytes(c, position, head, trits=body.trits, multipliers=body.multipliers, head_trits=head_trits)
        yield Rate(position, rate / needed, nearest(board.name, needed))
