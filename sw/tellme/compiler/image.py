# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From a model to what a board's memory, program and registers hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.models.model import LINEARS, Layer, Model, ModelConfig, pack_rows
from tellme.spec.attention import c_att
from tellme.spec.config import BoardConfig
from tellme.spec.memory import MODEL_REGISTERS
from tellme.spec.packing import (
    HEAD_BLOCK_ROWS,
    SLICE_BYTES,
    TILE_ROWS,
    TileHeader,
    head_block_words,
    head_row_words,
    tile_rows,
)
from tellme.spec.program import Descriptor, Epilogue, Op
from tellme.spec.scale import SQUARE_FRAC, Scale, scale_from_fraction

__all__ = ["CompileError", "Image", "Layout", "Matrix", "check_shape", "compile_model", "matrices", "needed_bytes", "runs"]

#: Sections start at multiples of this: an SDRAM row of the smallest chips.
ALIGN = 1024
MAX_EPS = 2**32 - 1


class CompileError(Exception):
    """A model that the board cannot run; the text names the limit and both numbers."""


class Run(NamedTuple):
    """Rows first..end-1 share a scale for the even ones and one for the odd ones; tiles never cross a run's end, and hold
    whole units of ``unit`` rows."""

    first: int
    end: int
    even: Scale
    odd: Scale
    unit: int = 1


@dataclass(frozen=True)
class Matrix:
    """Rows of one linear in the engine's order, which scales they have, and a bias for each if the linear has one."""

    codes: NDArray[np.int8]
    runs: tuple[Run, ...]
    bias: NDArray[np.float16] | None = None


@dataclass(frozen=True)
class Image:
    """What the host writes before a start.

    ``sections`` are (byte address, bytes) in SDRAM; ``program`` the descriptors, END included; ``registers`` by name.
    """

    sections: tuple[tuple[int, bytes], ...]
    program: tuple[Descriptor, ...]
    registers: dict[str, int]
    #: First byte that no section, KV cache or dump of logits uses.
    end: int
    #: Whether each tile of q, k and v rows holds whole heads, which a board needs to work on several tokens at once.
    whole_heads: bool = True
    #: Descriptor's number -> what is added to its rows.  Only the golden model does that; boards get no such image.
    biases: dict[int, NDArray[np.float16]] = field(default_factory=dict)

    @property
    def program_bytes(self) -> bytes:
        return b"".join(w.to_bytes(4, "little") for d in self.program for w in d.pack())

    @property
    def register_bytes(self) -> bytes:
        return b"".join(self.registers[name].to_bytes(4, "little") for name in MODEL_REGISTERS)


def needed_bytes(config: ModelConfig, position: int) -> float:
    """Bytes that a token at a position needs, each once: ternary weights / 5, head, embedding row, KV rows."""
    c = config
    ternary = c.layers * (c.dim * (c.q_dim + 2 * c.kv_dim) + c.dim * c.q_dim + 3 * c.dim * c.ffn)
    return ternary / 5 + c.vocab * c.dim + c.dim + 2 * c.layers * c.kv_dim * (position + 1)


def runs(first: int, scales: Sequence[Scale], unit: int = 1) -> Iterator[Run]:
    """Rows from ``first`` on with a scale each, as runs of pairs of rows with the same two scales."""
    at = first
    for (even, odd), pairs in groupby(zip(scales[0::2], scales[1::2], strict=True)):
        end = at + 2 * sum(1 for _ in pairs)
        yield Run(at, end, even, odd, unit)
        at = end


def matrices(config: ModelConfig, layer: Layer) -> dict[str, Matrix]:
    """The four linears of a layer as the engine sees them: q, k, v rows in a row; gate and up rows interleaved."""
    w = layer.weights
    s = {name: [b.scale for b in layer.blocks(name) for _ in range(b.rows)] for name in LINEARS}
    if not config.down_norm:
        # No norm cancels the power of two that the activation output is divided by.
        s["w2"] = [scale._replace(exp=scale.exp + config.act_exp) for scale in s["w2"]]

    def interleaved(even: NDArray, odd: NDArray) -> NDArray:
        out = np.empty((2 * len(even), *even.shape[1:]), even.dtype)
        out[0::2], out[1::2] = even, odd
        return out

    def biases(*names: str) -> list[NDArray[np.float16]] | None:
        if not any(name in layer.biases for name in names):
            return None
        return [layer.biases.get(name, np.zeros(len(w[name]), np.float16)) for name in names]

    q, k = config.q_dim, config.q_dim + config.kv_dim
    qkv_bias, gate_up_bias = biases("wq", "wk", "wv"), biases("w1", "w3")
    gate_up = [scale for pair in zip(s["w1"], s["w3"], strict=True) for scale in pair]
    return {
        "qkv": Matrix(np.concatenate([w["wq"], w["wk"], w["wv"]]),
                      tuple(r for at, n in ((0, "wq"), (q, "wk"), (k, "wv")) for r in runs(at, s[n], config.head_dim)),
                      None if qkv_bias is None else np.concatenate(qkv_bias)),
        "o": Matrix(w["wo"], tuple(runs(0, s["wo"])), layer.biases.get("wo")),
        "gate_up": Matrix(interleaved(w["w1"], w["w3"]), tuple(runs(0, gate_up)),
                          None if gate_up_bias is None else interleaved(*gate_up_bias)),
        "down": Matrix(w["w2"], tuple(runs(0, s["w2"])), layer.biases.get("w2")),
    }


def pack_linear(matrix: Matrix, *, most: int = TILE_ROWS, taper: bool = False) -> bytes:
    """The tiles of a matrix in the order of :mod:`tellme.spec.packing`; the last run's may taper."""
    packed = pack_rows(matrix.codes)
    out = []
    for run in matrix.runs:
        for first, rows in tile_rows(run.end - run.first, run.unit, most=most, taper=taper and run is matrix.runs[-1]):
            first += run.first
            out.append(TileHeader(run.even, rows, run.odd).pack().to_bytes(8, "little"))
            # (row, slice, byte) -> (slice, row, byte)
            tile = packed[first:first + rows].reshape(rows, -1, SLICE_BYTES)
            out.append(tile.transpose(1, 0, 2).tobytes())
    return b"".join(out)


def pack_head(codes: NDArray[np.int8], scales: NDArray[np.uint16]) -> bytes:
    """The int8 table in blocks of four rows."""
    vocab, dim = codes.shape
    blocks = -(-vocab // HEAD_BLOCK_ROWS)
    rows = np.zeros((blocks * HEAD_BLOCK_ROWS, 8 * head_row_words(dim)), np.int8)
    rows[:vocab, :dim] = codes
    stored = np.zeros(blocks * HEAD_BLOCK_ROWS, "<u2")
    stored[:vocab] = scales
    return np.concatenate([stored.view(np.uint8).reshape(blocks, 8),
                           rows.view(np.uint8).reshape(blocks, -1)], axis=1).tobytes()


def pack_gain(gain: NDArray[np.float16]) -> bytes:
    """Gains, padded to whole 64-bit words."""
    return np.pad(gain, (0, -len(gain) % 4)).astype("<f2").tobytes()


def rope_table(config: ModelConfig) -> bytes:
    """cos and sin of each position and pair as binary16."""
    pair = np.arange(config.head_dim // 2)
    angle = np.arange(config.context)[:, None] * config.theta ** (-2.0 * pair / config.head_dim)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype("<f2").tobytes()


def check_shape(c: ModelConfig, board: BoardConfig) -> None:
    """Limits of the build and of the format, each refused by name and number."""
    for what, value, limit in (
        ("dim", c.dim, board.max_dim), ("ffn", c.ffn, board.max_cols), ("heads x head_dim", c.q_dim, board.max_cols),
        ("head_dim", c.head_dim, board.max_head_dim), ("KV heads", c.kv_heads, board.max_kv_heads),
        ("query heads", c.heads, board.max_heads),
        ("query heads of a KV head", c.heads // c.kv_heads, board.max_group), ("context", c.context, board.max_context),
        ("vocabulary", c.vocab, 1 << 18), ("descriptors", 5 * c.layers + 3, board.program_steps),
    ):
        if value > limit:
            raise CompileError(f"{what} is {value}, and the build {board.name} can do {limit}")
    for what, value, factor in (("dim", c.dim, 4), ("ffn", c.ffn, 4), ("heads x head_dim", c.q_dim, 4),
                                ("head_dim", c.head_dim, 8)):
        if value % factor:
            raise CompileError(f"{what} is {value}, and the gateware wants a multiple of {factor}")


def check_biases(model: Model, board: BoardConfig) -> None:
    """Refuse a bias where nothing adds it."""
    if board.biases:
        return
    for i, layer in enumerate(model.layers):
        for name in layer.biases:
            raise CompileError(f"layers.{i}.{name} has a bias, which no gateware adds: use the golden model "
                               "(--device golden)")


def norm_fields(config: ModelConfig, width: int, divided_by: int = 0) -> dict[str, object]:
    """n_eps and sqrt_n of a norm over ``width`` elements that were divided by 2**``divided_by``."""
    n_eps = round(width * Fraction(config.eps) / Fraction(4) ** divided_by * 2**SQUARE_FRAC)
    if not 1 <= n_eps <= MAX_EPS:
        raise CompileError(f"eps {config.eps} times {width} is outside the norm unit's range (2**-32 to 1)")
    return {"norm": True, "n_eps": n_eps, "sqrt_n": scale_from_fraction(width**0.5)}


class Layout:
    """Places sections one behind another."""

    def __init__(self, board: BoardConfig):
        self.board = board
        self.at = 0
        self.sections: list[tuple[int, bytes]] = []
        self.parts: dict[str, int] = {}

    def reserve(self, what: str, size: int) -> int:
        base = self.at
        self.at += -(-size // ALIGN) * ALIGN
        self.parts[what] = self.parts.get(what, 0) + size
        return base

    def check(self) -> None:
        """Refuse what is too big for the board's memory, with the sizes of its parts."""
        if self.at > self.board.sdram_bytes:
            parts = ", ".join(f"{what} {size / 1e6:.3f} MB" for what, size in self.parts.items())
            raise CompileError(f"the model needs {self.at / 1e6:.3f} MB, and the memory of {self.board.name} has "
                               f"{self.board.sdram_bytes / 1e6:.3f} MB ({parts})")

    def place(self, what: str, content: bytes) -> int:
        base = self.reserve(what, len(content))
        self.sections.append((base, content))
        return base


def compile_model(model: Model, board: BoardConfig) -> Image:
    """Weight stream, tables, KV cache regions, program and registers of a model on a board."""
    check_shape(model.config, board)
    check_biases(model, board)
    c = model.config
    biases: dict[int, NDArray[np.float16]] = {}
    body: list[bytes] = []
    program: list[Descriptor] = []
    whole = True
    bases: list[tuple[int, int, int]] = []
    layout = Layout(board)

    def gain(values: NDArray[np.float16] | None) -> bool:
        """Gains of the norm behind the step whose descriptor comes next: into the stream ahead of its tiles."""
        if values is not None:
            body.append(pack_gain(values))
        return values is not None

    # The stream is laid out in program order; where the KV cache lies is known when the stream's length is.
    steps: list[tuple[int | None, Descriptor]] = []
    first = model.layers[0].gains.get("attn_norm")
    steps.append((None, Descriptor(Op.EMBED, gain_next=gain(first))))
    for i, layer in enumerate(model.layers):
        g = layer.gains
        parts = matrices(c, layer)
        tiles = {name: pack_linear(m, most=board.tile_rows, taper=board.tapers) for name, m in parts.items()}
        # Scales that change within a head cut it in two tiles.
        whole &= all(edge % c.head_dim == 0 for run in parts["qkv"].runs for edge in (run.first, run.end))
        # Five descriptors a layer behind EMBED: qkv, attention, o, gate and up, down.
        biases |= {5 * i + number: bias for number, name in ((1, "qkv"), (3, "o"), (4, "gate_up"), (5, "down"))
                   if (bias := parts[name].bias) is not None}
        after = model.layers[i + 1].gains.get("attn_norm") if i + 1 < c.layers else model.final_gain
        steps.append((None, Descriptor(Op.LINEAR, Epilogue.QKV, gain="attn_norm" in g, rows=c.q_dim + 2 * c.kv_dim,
                                       cols=c.dim, **norm_fields(c, c.dim))))  # type: ignore[arg-type]
        body.append(tiles["qkv"])
        o_gain = g.get("o_norm") if c.o_norm else None
        steps.append((i, Descriptor(Op.ATTENTION, gain_next=gain(o_gain))))
        o_norm = norm_fields(c, c.q_dim) if c.o_norm else {}
        steps.append((None, Descriptor(Op.LINEAR, Epilogue.RESIDUAL, src_a=True, gain=o_gain is not None,
                                       gain_next=gain(g.get("ffn_norm")), rows=c.dim, cols=c.q_dim,
                                       **o_norm)))  # type: ignore[arg-type]
        body.append(tiles["o"])
        down_gain = g.get("down_norm") if c.down_norm else None
        steps.append((None, Descriptor(Op.LINEAR, Epilogue.ACT, gain="ffn_norm" in g, gain_next=gain(down_gain),
                                       relu2=c.act == "relu2", act_exp=c.act_exp, rows=2 * c.ffn, cols=c.dim,
                                       **norm_fields(c, c.dim))))  # type: ignore[arg-type]
        body.append(tiles["gate_up"])
        down_norm = norm_fields(c, c.ffn, c.act_exp) if c.down_norm else {}
        steps.append((None, Descriptor(Op.LINEAR, Epilogue.RESIDUAL, src_a=True, gain=down_gain is not None,
                                       gain_next=gain(after), rows=c.dim, cols=c.ffn,
                                       **down_norm)))  # type: ignore[arg-type]
        body.append(tiles["down"])
    steps.append((None, Descriptor(Op.HEAD, gain=model.final_gain is not None, cols=c.dim,
                                   **norm_fields(c, c.dim))))  # type: ignore[arg-type]
    steps.append((None, Descriptor(Op.END)))

    stream = b"".join(body)
    table = pack_head(model.embedding, model.embedding_scales)
    head = table
    if not c.tied:
        assert model.head is not None and model.head_scales is not None  # Model.check
        head = pack_head(model.head, model.head_scales)
    weights_base = layout.place("weights and head", stream + head)
    embed_base = weights_base + len(stream)
    if not c.tied:
        embed_base = layout.place("embedding", table)
    rope_base = layout.place("RoPE table", rope_table(c))
    logits_base = layout.reserve("logits", 4 * c.vocab)
    kv = c.kv_heads * c.context * c.head_dim
    for _ in range(c.layers):
        bases.append((layout.reserve("K cache", kv) // 4, layout.reserve("V cache", kv) // 4,
                      layout.reserve("KV scales", 4 * c.kv_heads * c.context) // 4))
    layout.check()
    for layer_of, step in steps:
        if layer_of is not None:
            k, v, s = bases[layer_of]
            step = replace(step, k_base=k, v_base=v, s_base=s)
        program.append(step)
    registers = {
        "dim": c.dim, "heads": c.heads, "kv_heads": c.kv_heads, "head_dim": c.head_dim,
        "group": c.heads // c.kv_heads, "context": c.context, "vocab": c.vocab, "embed_base": embed_base // 4,
        "block_words": 2 * head_block_words(c.dim), "row_words": 2 * head_row_words(c.dim),
        "rope_base": rope_base // 4, "c_att": c_att(c.head_dim).pack(), "kv_stride": c.context * c.head_dim // 4,
        "s_stride": c.context, "weights_base": weights_base // 4, "body_words64": len(stream) // 8,
        "head_words64": len(head) // 8, "logits_base": logits_base // 4,
    }
    return Image(tuple(layout.sections), tuple(program), registers, layout.at, whole, biases)
