# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a .tellme file holds, what it needs of a board, and which builds it fits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tellme.compiler.image import CompileError, Head, TooBigError, check_shape, lay_out, needed_bytes, runs
from tellme.models.config import LINEARS, NORMS, ModelConfig
from tellme.models.container import Container
from tellme.models.source import Block
from tellme.models.tokenizer import Tokenizer
from tellme.spec.config import PRESETS, BoardConfig
from tellme.spec.packing import slices, tile_rows
from tellme.spec.scale import Scale

__all__ = ["Fit", "Survey", "survey"]


@dataclass(frozen=True)
class Fit:
    """Whether a build runs the model; if so where its head is, and the tokens a second that the memory's peak rate allows, by
    position."""

    preset: str
    head: Head | None = None
    reason: str = ""
    tokens_per_second: dict[int, float] = field(default_factory=dict)


@dataclass
class Survey:
    """What was found.  Bytes are those of the file."""

    config: ModelConfig
    name: str
    license: str
    tokenizer: str
    #: What stands ahead of a prompt, and the tokens that end a text: ids, with their texts where there is a tokenizer.
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
        """What is out of the ordinary, and who computes it."""
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


def survey(model: Container, progress: Callable[[], object] | None = None) -> Survey:
    """Read a file once, a part at a time; ``progress`` is called once for each layer."""
    c = model.config
    parts = {"embedding": model.part_bytes("embedding") + model.part_bytes("embedding.scale"),
             "head": model.part_bytes("head") + model.part_bytes("head.scale"), "ternary weights": 0, "scales and biases": 0,
             "norms": model.part_bytes("final_norm"), "tokenizer": len(model.tokenizer)}
    gains, several, biases, zeros = set(), [], [], []
    stream = dict.fromkeys(PRESETS, 0)
    gain_bytes = 0
    for i in range(c.layers):
        zero = 0
        blocks: dict[str, tuple[Block, ...]] = {}
        for name in LINEARS:
            what = f"layers.{i}.{name}"
            linear = model.linear(i, name)
            zero += sum(part.size - int(np.count_nonzero(part)) for part in linear.chunks())
            blocks[name] = linear.blocks()
            parts["ternary weights"] += model.part_bytes(what)
            parts["scales and biases"] += sum(model.part_bytes(f"{what}.{n}") for n in ("scale", "scale_rows", "bias"))
            if len(blocks[name]) > 1:
                several.append(what)
            if linear.bias is not None:
                biases.append(what)
        for name in NORMS:
            gain = model.gain(i, name)
            if gain is not None:
                gains.add(name)
                parts["norms"] += gain.nbytes
                gain_bytes += 8 * -(-len(gain) // 4)
        zeros.append(zero * c.layers / c.ternary_weights)
        for board in PRESETS.values():
            stream[board.name] += _layer_bytes(c, blocks, board)
        if progress is not None:
            progress()
    final = model.final_norm()
    if final is not None:
        gains.add("final_norm")
        gain_bytes += 8 * -(-len(final) // 4)
    tokenizer, known = "none", None
    if model.tokenizer:
        known = Tokenizer(model.tokenizer, f"the tokenizer in {model.path}")
        tokenizer = f"{known.kind}, {known.size} tokens"

    def named(token: int) -> str:
        return f"{token} {known.text(token)!r}" if known is not None else str(token)

    begin = "nothing" if c.bos is None or not c.add_bos else f"BOS {named(c.bos)}"
    end = ", ".join(named(token) for token in c.ends) or "no token"
    return Survey(c, model.name, model.license, tokenizer, begin, end, {k: v for k, v in parts.items() if v}, zeros,
                  float(np.mean(zeros)), sorted(gains), several, biases,
                  [_fit(c, board, stream[board.name] + gain_bytes, biases) for board in PRESETS.values()])


def _rows(blocks: tuple[Block, ...]) -> list[Scale]:
    return [b.scale for b in blocks for _ in range(b.rows)]


def _layer_bytes(c: ModelConfig, blocks: dict[str, tuple[Block, ...]], board: BoardConfig) -> int:
    """Bytes of a layer's tiles in the weight stream of a board, headers included."""
    gate_up = [s for pair in zip(_rows(blocks["w1"]), _rows(blocks["w3"]), strict=True) for s in pair]
    # Rows, columns, unit, whether a matrix of the stream ends with them.
    matrices = [(_rows(blocks[n]), c.shape(n)[1], unit, ends) for n, unit, ends in (
        ("wq", c.head_dim, False), ("wk", c.head_dim, False), ("wv", c.head_dim, True), ("wo", 1, True), ("w2", 1, True))]
    total = 0
    for scales, cols, unit, ends in [*matrices, (gate_up, c.dim, 1, True)]:
        # An odd number of rows fits no build, and is refused by name there.
        found = list(runs(0, scales[:len(scales) // 2 * 2], unit))
        for run in found:
            tiles = tile_rows(run.end - run.first, run.unit, most=board.tile_rows,
                              taper=board.tapers and ends and run is found[-1])
            total += sum(8 + 4 * rows * slices(cols) for _, rows in tiles)
    return total


def _positions(c: ModelConfig) -> Iterator[int]:
    yield from sorted({0, min(128, c.context - 1), c.context - 1})


def _fit(c: ModelConfig, board: BoardConfig, stream: int, biases: list[str]) -> Fit:
    """As tellme.compiler.image.place_model does it: the head on the host where it does not fit the board."""
    try:
        if biases and not board.biases:
            raise CompileError(f"{biases[0]} has a bias, which no gateware adds")
        check_shape(c, board, "host")
        head: Head = "board"
        try:
            check_shape(c, board)
            lay_out(c, board, stream, head)
        except TooBigError:
            head = "host"
            lay_out(c, board, stream, head)
    except CompileError as error:
        return Fit(board.name, reason=str(error))
    rate = board.fabric_mhz * 1e6 * board.peak_bytes_per_cycle
    return Fit(board.name, head, tokens_per_second={p: rate / needed_bytes(c, p, head) for p in _positions(c)})
