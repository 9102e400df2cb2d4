# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a .tellme file holds, what it needs of a board, and which builds it fits.

Whether a build runs the model is the compiler's own answer: compiling reads no weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tellme.compiler.image import CompileError, Head, needed_bytes, place_model
from tellme.models.config import LINEARS, NORMS, ModelConfig
from tellme.models.container import Container
from tellme.models.source import Linear
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.config import PRESETS, CoreConfig
from tellme.spec.packing import SLICE, TRITS, slices, unpack_trits
from tellme.spec.ranges import RangeError

__all__ = ["Fit", "Inspection", "inspect_model"]

#: Zeros among the five weights of each byte.
_ZEROS = np.array([unpack_trits(byte).count(0) for byte in range(3**TRITS)])


@dataclass(frozen=True)
class Fit:
    """Whether a build runs the model; if so, where the LM head is, and the tokens per second that the memory's peak rate
    allows, by position."""

    preset: str
    head: Head | None = None
    reason: str = ""
    tokens_per_second: dict[int, float] = field(default_factory=dict)


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
    fits: list[Fit]

    @property
    def features(self) -> dict[str, str]:
        """The model's special features, and what computes them."""
        return {what: who for what, there, who in (
            ("several scales a matrix", self.several_scales, "golden and boards"),
            ("bias", self.biases, "golden only")) if there}

    def as_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        return {"name": self.name, "config": vars(self.config) | {"more_ends": list(self.config.more_ends)},
                "ternary_weights": self.config.ternary_weights,
                "license": self.license, "tokenizer": self.tokenizer, "bytes": self.bytes_by_part,
                "zeros": round(self.zeros, 4), "zeros_by_layer": [round(z, 4) for z in self.zeros_by_layer],
                "gains": self.gains, "several_scales": self.several_scales, "biases": self.biases, "features": self.features,
                "fits": [{"preset": f.preset, "fits": not f.reason, "head": f.head,
                          "reason": f.reason,
                          "bandwidth_tokens_per_second": {str(p): round(t, 2) for p, t in f.tokens_per_second.items()}}
                         for f in self.fits]}


def inspect_model(model: Container, progress: Callable[[], object] | None = None) -> Inspection:
    """Read a file once, a part at a time; ``progress`` is called once for each layer."""
    c = model.config
    parts = {"embedding": model.part_bytes("embedding") + model.part_bytes("embedding.scale"),
             "head": model.part_bytes("head") + model.part_bytes("head.scale"), "ternary weights": 0, "scales and biases": 0,
             "norms": model.part_bytes("final_norm"), "tokenizer": len(model.tokenizer)}
    gains, several, biases, zeros = set(), [], [], []
    for i in range(c.layers):
        zero = 0
        for name in LINEARS:
            what = f"layers.{i}.{name}"
            linear = model.linear(i, name)
            zero += _zeros(what, linear)
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
    return Inspection(c, model.name, model.license, tokenizer, begin, end, {k: v for k, v in parts.items() if v}, zeros,
                      float(np.mean(zeros)), sorted(gains), several, biases, [_fit(model, board) for board in PRESETS.values()])


def _zeros(name: str, linear: Linear) -> int:
    """Zeros of a matrix, counted by bytes."""
    padding = linear.shape[0] * (slices(linear.shape[1]) * SLICE - linear.shape[1])
    return sum(int(np.bincount(part.reshape(-1), minlength=3**TRITS) @ _ZEROS) for part in linear.packed(name)) - padding


def _positions(c: ModelConfig) -> Iterator[int]:
    yield from sorted({0, min(128, c.context - 1), c.context - 1})


def _fit(model: Container, board: CoreConfig) -> Fit:
    """Whether a build runs the model, with the head where :func:`~tellme.compiler.image.place_model` puts it."""
    try:
        image, _ = place_model(model, board)
    except (CompileError, RangeError) as error:
        return Fit(board.name, reason=str(error))
    c, rate = model.config, board.fabric_mhz * 1e6 * board.peak_bytes_per_cycle
    head: Head = "board" if image.probe is None else "host"
    return Fit(board.name, head, tokens_per_second={p: rate / needed_bytes(c, p, head) for p in _positions(c)})
