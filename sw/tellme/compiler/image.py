# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From a model to what a board's memory, program and registers hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.errors import TellmeError
from tellme.models.model import LINEARS, Layer, Model, ModelConfig, pack_rows
from tellme.spec.attention import c_att
from tellme.spec.config import CoreConfig
from tellme.spec.memory import KV_PAGE, MODEL_REGISTERS, check_registers
from tellme.spec.packing import (
    HEAD_BLOCK_ROWS,
    SLICE_BYTES,
    TILE_ROWS,
    TileHeader,
    head_block_words,
    head_row_words,
    tile_rows,
)
from tellme.spec.probe import probe_power
from tellme.spec.program import MAX_LAYERS, Descriptor, Epilogue, Op, Segment, check_segments, pack_segments
from tellme.spec.scale import SCALE_RANGES, SQUARE_FRAC, Scale, pack16, scale_from_fraction
from tellme.spec.widths import MIN_HEAD_DIM

__all__ = ["Body", "CompileError", "Head", "Image", "Matrix", "TooBigError", "check_shape", "compile_body", "compile_model",
           "lay_out", "matrices", "needed_bytes", "pack_head", "place_model", "runs"]

#: Sections start at multiples of this: an SDRAM row of the smallest chips.
ALIGN = 4 * KV_PAGE
MAX_EPS = 2**32 - 1
#: Where the embedding and the head are.
Head = Literal["board", "host"]


class CompileError(TellmeError):
    """A model that the board cannot run; the text names the limit and both numbers."""


class TooBigError(CompileError):
    """What may be otherwise with the head on the host."""


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
    #: The weight stream's parts in SDRAM, in their order.
    segments: tuple[Segment, ...]
    #: First byte that no section, KV cache or dump of logits uses.
    end: int
    #: Whether each tile of q, k and v rows holds whole heads, which a board needs to work on several tokens at once.
    whole_heads: bool = True
    #: Descriptor's number -> what is added to its rows.  Only the golden model does that; boards get no such image.
    biases: dict[int, NDArray[np.float16]] = field(default_factory=dict)
    #: Where the head is the host's: the power of two of the probe in its place.
    probe: int | None = None

    @property
    def program_bytes(self) -> bytes:
        return b"".join(w.to_bytes(4, "little") for d in self.program for w in d.pack())

    @property
    def segment_bytes(self) -> bytes:
        return b"".join(w.to_bytes(4, "little") for w in pack_segments(self.segments))

    @property
    def register_bytes(self) -> bytes:
        return b"".join(self.registers[name].to_bytes(4, "little") for name in MODEL_REGISTERS)


def needed_bytes(config: ModelConfig, position: int, head: Head = "board") -> float:
    """Bytes that a token at a position needs, each once: ternary weights / 5, head unless the host's, embedding row, KV rows."""
    c = config
    ternary = c.layers * (c.dim * (c.q_dim + 2 * c.kv_dim) + c.dim * c.q_dim + 3 * c.dim * c.ffn)
    return ternary / 5 + (c.vocab * c.dim if head == "board" else 0) + c.dim + 2 * c.layers * c.kv_dim * (position + 1)


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
        what = "exponent of w2's scale times 2**act_exp"
        s["w2"] = [scale._replace(exp=SCALE_RANGES["exp"].check(what, scale.exp + config.act_exp)) for scale in s["w2"]]

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


def table_bytes(rows: int, dim: int) -> int:
    """Bytes of an int8 table."""
    return 8 * -(-rows // HEAD_BLOCK_ROWS) * head_block_words(dim)


def check_shape(c: ModelConfig, board: CoreConfig, head: Head = "board") -> None:
    """Limits of the build, as its widths have them (:attr:`CoreConfig.widths`), each refused by name and number."""
    w = board.widths
    for what, value, limit in (
        ("dim", c.dim, w.dim), ("ffn", c.ffn, w.cols), ("heads x head_dim", c.q_dim, w.cols),
        ("head_dim", c.head_dim, w.head_dim), ("KV heads", c.kv_heads, w.kv_heads), ("query heads", c.heads, w.heads),
        ("query heads of a KV head", c.heads // c.kv_heads, w.group), ("context", c.context, w.context),
        ("descriptors", 5 * c.layers + 3, w.steps),
    ):
        if value > limit:
            raise CompileError(f"{what} is {value}, and the build {board.name} can do {limit}")
    if c.layers > MAX_LAYERS:
        raise CompileError(f"layers is {c.layers}, and a program numbers {MAX_LAYERS}")
    for what, value, factor in (("dim", c.dim, 4), ("ffn", c.ffn, 4), ("heads x head_dim", c.q_dim, 4),
                                ("head_dim", c.head_dim, 8)):
        if value % factor:
            raise CompileError(f"{what} is {value}, and the gateware wants a multiple of {factor}")
    if c.head_dim < MIN_HEAD_DIM and not board.unlimited:
        raise CompileError(f"head_dim is {c.head_dim}, and the build {board.name} can do {MIN_HEAD_DIM} or more")
    if c.vocab > w.vocab and head == "board" and not board.unlimited:
        raise TooBigError(f"vocabulary is {c.vocab}, and the build {board.name} can do {w.vocab}")


def check_biases(model: Model, board: CoreConfig) -> None:
    """Refuse a bias where nothing adds it."""
    if board.biases:
        return
    for i, layer in enumerate(model.layers):
        for name in layer.biases:
            raise CompileError(f"layers.{i}.{name} has a bias, which no gateware adds: use the golden model", hint="golden")


def norm_fields(config: ModelConfig, width: int, divided_by: int = 0) -> dict[str, object]:
    """n_eps and sqrt_n of a norm over ``width`` elements that were divided by 2**``divided_by``."""
    n_eps = round(width * Fraction(config.eps) / Fraction(4) ** divided_by * 2**SQUARE_FRAC)
    if not 1 <= n_eps <= MAX_EPS:
        raise CompileError(f"eps {config.eps} times {width} is outside the norm unit's range (2**-32 to 1)")
    return {"norm": True, "n_eps": n_eps, "sqrt_n": scale_from_fraction(width**0.5)}


@dataclass
class Layout:
    """Where what lies, in bytes; ``end`` is the first byte that is free.

    The caches of layer i are at ``kv + i * layer_stride``: K, V ``v_offset`` behind it, the scales ``v_offset`` behind V.
    """

    weights: int = 0
    embedding: int = 0
    rope: int = 0
    logits: int = 0
    kv: int = 0
    layer_stride: int = 0
    v_offset: int = 0
    end: int = 0


def lay_out(c: ModelConfig, board: CoreConfig, stream: int, head: Head) -> Layout:
    """One part behind another, for a stream of so many bytes; a TooBigError has the sizes of all parts."""
    layout, parts = Layout(), dict[str, int]()

    def reserve(what: str, size: int) -> int:
        base = layout.end
        layout.end += -(-size // ALIGN) * ALIGN
        parts[what] = parts.get(what, 0) + size
        return base

    rows, what = (c.vocab, "head") if head == "board" else (c.dim, "probe")
    layout.weights = reserve(f"weights and {what}", stream + table_bytes(rows, c.dim))
    layout.embedding = layout.weights + stream
    if head == "host":
        layout.embedding = reserve("embedding rows", table_bytes(c.context, c.dim))
    elif not c.tied:
        layout.embedding = reserve("embedding", table_bytes(c.vocab, c.dim))
    layout.rope = reserve("RoPE table", 2 * c.context * c.head_dim)
    layout.logits = reserve("logits", 4 * rows)
    kv, layout.kv = c.kv_heads * c.context * c.head_dim, layout.end
    for _ in range(c.layers):
        k, v, s = (reserve(what, size) for what, size in (("K cache", kv), ("V cache", kv),
                                                          ("KV scales", 4 * c.kv_heads * c.context)))
        assert v - k == s - v
        layout.v_offset, layout.layer_stride = v - k, layout.end - k
    if layout.end > board.sdram_bytes:
        sizes = ", ".join(f"{what} {size / 1e6:.3f} MB" for what, size in parts.items())
        raise TooBigError(f"the model needs {layout.end / 1e6:.3f} MB, and the memory of {board.name} has "
                          f"{board.sdram_bytes / 1e6:.3f} MB ({sizes})")
    return layout


@dataclass(frozen=True)
class Body:
    """A model's layers for a build: stream of tiles and gains, program, and what the golden model adds.

    ``parts`` are the bytes of the stream for each layer; gains that come ahead of the first layer's tiles count as its own.
    """

    stream: bytes
    parts: tuple[int, ...]
    steps: tuple[Descriptor, ...]
    whole_heads: bool
    biases: dict[int, NDArray[np.float16]]


def compile_body(model: Model, board: CoreConfig) -> Body:
    """The stream, in program order and in the board's tiles, and the program."""
    c = model.config
    biases: dict[int, NDArray[np.float16]] = {}
    body: list[bytes] = []
    ends: list[int] = []
    whole = True

    def gain(values: NDArray[np.float16] | None) -> bool:
        """Gains of the norm behind the step whose descriptor comes next: into the stream ahead of its tiles."""
        if values is not None:
            body.append(pack_gain(values))
        return values is not None

    steps: list[Descriptor] = []
    first = model.layers[0].gains.get("attn_norm")
    steps.append(Descriptor(Op.EMBED, gain_next=gain(first)))
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
        steps.append(Descriptor(Op.LINEAR, Epilogue.QKV, gain="attn_norm" in g, rows=c.q_dim + 2 * c.kv_dim, cols=c.dim,
                                layer=i, **norm_fields(c, c.dim)))  # type: ignore[arg-type]
        body.append(tiles["qkv"])
        o_gain = g.get("o_norm") if c.o_norm else None
        steps.append(Descriptor(Op.ATTENTION, gain_next=gain(o_gain), layer=i))
        o_norm = norm_fields(c, c.q_dim) if c.o_norm else {}
        steps.append(Descriptor(Op.LINEAR, Epilogue.RESIDUAL, src_a=True, gain=o_gain is not None,
                                gain_next=gain(g.get("ffn_norm")), rows=c.dim, cols=c.q_dim, layer=i,
                                **o_norm))  # type: ignore[arg-type]
        body.append(tiles["o"])
        down_gain = g.get("down_norm") if c.down_norm else None
        steps.append(Descriptor(Op.LINEAR, Epilogue.ACT, gain="ffn_norm" in g, gain_next=gain(down_gain),
                                relu2=c.act == "relu2", act_exp=c.act_exp, rows=2 * c.ffn, cols=c.dim, layer=i,
                                **norm_fields(c, c.dim)))  # type: ignore[arg-type]
        body.append(tiles["gate_up"])
        down_norm = norm_fields(c, c.ffn, c.act_exp) if c.down_norm else {}
        steps.append(Descriptor(Op.LINEAR, Epilogue.RESIDUAL, src_a=True, gain=down_gain is not None,
                                gain_next=gain(after), rows=c.dim, cols=c.ffn, layer=i,
                                **down_norm))  # type: ignore[arg-type]
        body.append(tiles["down"])
        ends.append(sum(map(len, body)))
    steps.append(Descriptor(Op.HEAD, gain=model.final_gain is not None, cols=c.dim,
                            **norm_fields(c, c.dim)))  # type: ignore[arg-type]
    steps.append(Descriptor(Op.END))
    sizes = tuple(end - start for start, end in zip([0, *ends], ends, strict=False))
    return Body(b"".join(body), sizes, tuple(steps), whole, biases)


def probe_table(model: Model) -> tuple[bytes, int]:
    """What stands in the head's place where the head is the host's, and its power of two (:mod:`tellme.spec.probe`)."""
    c, gain = model.config, model.final_gain
    k = probe_power(c.dim, 1 if gain is None else float(np.abs(gain).max()))
    scale = scale_from_fraction(Fraction(2) ** k)
    return pack_head(np.eye(c.dim, dtype=np.int8), np.full(c.dim, pack16(scale), np.uint16)), k


def segment_list(base: int, parts: Sequence[int], table: int) -> tuple[Segment, ...]:
    """Segments of a stream that lies from byte ``base`` on: one of so many bytes for each layer, then the LM head's table."""
    segments = []
    for size in parts:
        segments.append(Segment(base // 4, size // 8))
        base += size
    return (*segments, Segment(base // 4, table // 8, lm_head=True))


def cache_registers(at: Layout) -> dict[str, int]:
    """The registers that say where each layer's caches lie."""
    return {"kv_base": at.kv // 4, "layer_stride": at.layer_stride // 4, "v_offset": at.v_offset // 4}


def compile_model(model: Model, board: CoreConfig, *, head: Head = "board", body: Body | None = None) -> Image:
    """Weight stream, tables, KV cache regions, program and registers of a model on a board.

    With ``head`` "host" the embedding table is room for a row a position, and the head a probe.  ``body`` is the model's
    compile_body, if that is there already.
    """
    check_shape(model.config, board, head)
    check_biases(model, board)
    c = model.config
    body = body or compile_body(model, board)
    at = lay_out(c, board, len(body.stream), head)
    sections, probe = [], None
    if head == "host":
        table, probe = probe_table(model)
    else:
        table = embedding = pack_head(model.embedding, model.embedding_scales)
        if not c.tied:
            assert model.head is not None and model.head_scales is not None  # Model.check
            table = pack_head(model.head, model.head_scales)
            sections.append((at.embedding, embedding))
    sections = [(at.weights, body.stream + table), *sections, (at.rope, rope_table(c))]
    segments = segment_list(at.weights, body.parts, len(table))
    check_segments(segments)
    registers = {
        "dim": c.dim, "heads": c.heads, "kv_heads": c.kv_heads, "head_dim": c.head_dim,
        "group": c.heads // c.kv_heads, "context": c.context, "vocab": c.vocab if probe is None else c.dim,
        "embed_base": at.embedding // 4,
        "block_words": 2 * head_block_words(c.dim), "row_words": 2 * head_row_words(c.dim),
        "rope_base": at.rope // 4, "c_att": c_att(c.head_dim).pack(), "kv_stride": c.context * c.head_dim // 4,
        "s_stride": c.context, "logits_base": at.logits // 4, **cache_registers(at),
    }
    check_registers(registers)
    return Image(tuple(sections), body.steps, registers, segments, at.end, body.whole_heads, body.biases, probe)


def place_model(model: Model, board: CoreConfig, head: Head | None = None) -> tuple[Image, str]:
    """A model on a board, and why the head is where it is: on the board if it fits, unless ``head`` says where."""
    if head is not None:
        return compile_model(model, board, head=head), "it was asked for"
    check_shape(model.config, board, "host")
    check_biases(model, board)
    body = compile_body(model, board)
    try:
        return compile_model(model, board, body=body), "it fits the board"
    except TooBigError as error:
        return compile_model(model, board, head="host", body=body), str(error)
