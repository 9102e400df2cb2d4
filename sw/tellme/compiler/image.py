# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From a model to the content of a board's memory, program and registers.

Compiling reads only shapes, scales, gains and biases, and the table of an LM head on the board, whose codes say how many planes
its tiles have.  The weights are read when the bytes of a section are taken.
"""

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.head import HeadTiles, head_bytes, pack_probe_tiles
from tellme.compiler.pack import (
    Tiling,
    is_stored,
    matrices,
    pack_gain,
    pack_table,
    pack_tiles,
    rope_table,
    table_bytes,
    tiles,
)
from tellme.compiler.part import Part
from tellme.drafts.table import DraftTable
from tellme.errors import TellmeError
from tellme.models.adapted import Adapted
from tellme.models.config import LINEARS, NORMS, ModelConfig
from tellme.models.source import StoredSource, multiplier_bytes, trits
from tellme.spec.attention import c_att
from tellme.spec.config import CoreConfig
from tellme.spec.memory import (
    DRAFT_REGISTERS,
    KV_PAGE,
    MODEL_REGISTERS,
    PROGRAM_BASE,
    REGISTER_BASE,
    SEGMENT_BASE,
    check_registers,
    register_address,
)
from tellme.spec.packing import HEAD_PLANES, TRITS, head_block_words, head_row_words
from tellme.spec.probe import probe_power
from tellme.spec.program import MAX_LAYERS, Descriptor, Epilogue, Op, QkvPart, Segment, check_segments, pack_segments
from tellme.spec.ranges import I8, I32
from tellme.spec.scale import SQUARE_FRAC, Scale, scale_from_fraction
from tellme.spec.two_steps import LOW_PAGE
from tellme.spec.widths import MAX_CODE, MIN_HEAD_DIM, plane_reach

__all__ = ["Body", "CompileError", "Head", "Image", "TooBigError", "check_drafts", "check_linears", "check_shape", "compile_body",
           "compile_model", "kv_bytes", "lay_out", "longest_context", "longest_context_of", "needed_bytes", "place_model",
           "program_length", "tiling", "with_drafts"]

#: Sections start at multiples of this: an SDRAM row of the smallest chips.
ALIGN = 4 * KV_PAGE
#: A shorter context that fits is looked for in steps of so many positions.
CONTEXT_STEP = 64
MAX_EPS = 2**32 - 1
#: Where the embedding and the head are.
Head = Literal["board", "host"]


class CompileError(TellmeError):
    """A model that the board cannot run; the text names the limit and both numbers."""


class TooBigError(CompileError):
    """Does not fit now, but may fit with ``head="host"``."""


@dataclass(frozen=True)
class Image:
    """Everything that the host writes before a start.

    ``sections`` are (byte address, content) in SDRAM; ``program`` has the descriptors, END included; ``registers`` by name.
    """

    sections: tuple[tuple[int, Part], ...]
    program: tuple[Descriptor, ...]
    registers: dict[str, int]
    #: The weight stream's parts in SDRAM, in their order.
    segments: tuple[Segment, ...]
    #: First byte that no section, KV cache or dump of logits uses.
    end: int
    #: Trits of all matrices; None: a weight has one.
    trits: int | None = None
    #: Whether each tile of q, k and v rows holds whole heads, which a board needs to work on several tokens at once.
    whole_heads: bool = True
    #: Number of a residual step -> biases of its rows.  Only the golden model adds them; boards get no such image.
    residual_biases: dict[int, NDArray[np.float16]] = field(default_factory=dict)
    #: With the LM head on the host: the power of two of the probe in the LM head's place.
    probe: int | None = None
    #: Trits of the LM head's tiles; None: a code has HEAD_PLANES, or the LM head is on the host.
    head_trits: int | None = None
    #: Multipliers of all matrices.
    multipliers: int = 0
    #: Sequences whose caches have room.
    slots: int = 1
    #: Address of the table of drafted tokens, if there is one (:func:`with_drafts`), in 32-bit words.
    draft_base: int | None = None
    #: The register ``draft_settings``: SETTINGS_FIELDS of :mod:`tellme.spec.drafts`, 0 without a table; None: the core has none.
    draft_settings: int | None = None

    @property
    def two_steps(self) -> bool:
        """Whether the LM head lies in memory for two steps too."""
        return any(segment.two_steps for segment in self.segments)

    @property
    def program_bytes(self) -> bytes:
        return b"".join(w.to_bytes(4, "little") for d in self.program for w in d.pack())

    @property
    def segment_bytes(self) -> bytes:
        return b"".join(w.to_bytes(4, "little") for w in pack_segments(self.segments))

    @property
    def register_bytes(self) -> bytes:
        return b"".join(self.registers[name].to_bytes(4, "little") for name in MODEL_REGISTERS)

    @property
    def draft_registers(self) -> dict[str, int]:
        """The registers of drafted tokens by name, zeros without a table; none for a core that drafts no tokens."""
        if self.draft_settings is None:
            return {}
        return dict(zip(DRAFT_REGISTERS, (self.draft_base or 0, self.draft_settings), strict=True))

    @property
    def tables(self) -> tuple[tuple[int, bytes], ...]:
        """(address, content) of what a host writes behind the sections: layer program, segments, and registers."""
        drafts = b"".join(value.to_bytes(4, "little") for value in self.draft_registers.values())
        tables = [(PROGRAM_BASE, self.program_bytes), (SEGMENT_BASE, self.segment_bytes), (REGISTER_BASE, self.register_bytes)]
        return (*tables, *([(register_address(DRAFT_REGISTERS[0]), drafts)] if drafts else []))


def needed_bytes(config: ModelConfig, position: int, head: Head = "board", *, trits: int | None = None,
                 multipliers: int = 0, head_trits: int | None = None) -> float:
    """Bytes that a token at a position needs, each counted once: a fifth of the matrices' trits, and of the LM head's unless it
    is on the host, multipliers, the embedding row, and K and V rows with their scales.

    ``trits``: those of all matrices (:attr:`Image.trits`); without, each weight is one.  ``multipliers``: those of all matrices
    (:attr:`Image.multipliers`), a byte each.  ``head_trits``: those of the LM head (:attr:`Image.head_trits`); without, each
    code is HEAD_PLANES.
    """
    c = config
    ternary = c.ternary_weights if trits is None else trits
    if head == "board":
        ternary += HEAD_PLANES * c.vocab * c.dim if head_trits is None else head_trits
    return ternary / TRITS + multipliers + c.dim + kv_bytes(c) * (position + 1)


def kv_bytes(config: ModelConfig) -> int:
    """Bytes of a position's K and V rows in all layers, int8, with the stored scale of each."""
    return config.layers * config.kv_heads * 2 * (config.head_dim + 2)


def program_length(c: ModelConfig) -> int:
    """Descriptors of a model's program: EMBED, those of the layers, HEAD and END."""
    return (11 if c.vector_norms else 5) * c.layers + 3


def check_shape(c: ModelConfig, board: CoreConfig, head: Head = "board") -> None:
    """Check a model against the build's widths (:attr:`CoreConfig.widths`); a limit that it passes is refused by name and
    number."""
    w = board.widths
    for what, value, limit in (
        ("dim", c.dim, w.dim), ("ffn", c.ffn, w.cols), ("heads x head_dim", c.q_dim, w.cols),
        ("head_dim", c.head_dim, w.head_dim), ("KV heads", c.kv_heads, w.kv_heads), ("query heads", c.heads, w.heads),
        ("query heads of a KV head", c.heads // c.kv_heads, w.group), ("context", c.context, w.context),
        ("descriptors", program_length(c), w.steps),
    ):
        if value > limit:
            raise CompileError(f"{what} is {value}, and the build {board.name} can do {limit}",
                               hint="shorter-context" if what == "context" else "")
    if c.qk_norm and not board.row_words:
        raise CompileError(f"the model has an RMSNorm on each head of q and k, and the build {board.name} does none: use the "
                           "golden model", hint="golden")
    if c.vector_norms and not board.vector_norms:
        raise CompileError("the model has the norms of OLMo 2, on the whole of q and of k and behind attention and feed-forward, "
                           f"and the build {board.name} does none: use the golden model", hint="golden")
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


#: Linears of a step whose adder is busy with the residual, where no norm is behind them.
_RESIDUAL = ("wo", "w2")


def _with_biases(c: ModelConfig) -> tuple[tuple[str, ...], ...]:
    """The linears of each step that takes biases."""
    return (("wq",), ("wk",), ("wv",), ("wo",), ("w1", "w3"), ("w2",)) if c.vector_norms else (("wq", "wk", "wv"), ("w1", "w3"))


def check_linears(model: StoredSource, board: CoreConfig) -> None:
    """Refuse by name planes, multipliers, biases and sums that the build does not have."""
    for i in range(model.config.layers):
        linears = {name: model.linear(i, name) for name in LINEARS}
        for name, linear in linears.items():
            what, cols = f"layers.{i}.{name}", linear.shape[1]
            if linear.planes > board.planes:
                raise CompileError(f"{what} has {linear.planes} planes, and the build {board.name} can do {board.planes}",
                                   hint="golden")
            if linear.group_slices and not board.multipliers:
                raise CompileError(f"{what} has multipliers of column groups, and the build {board.name} takes none",
                                   hint="golden")
            size = MAX_CODE * cols * (-I8.least * linear.planes if linear.group_slices else plane_reach(linear.planes))
            if size > I32.most:
                raise CompileError(f"{what}: a sum of {cols} columns and {linear.planes} planes is up to {size}, and the sums of "
                                   f"the engine are up to {I32.most}")
            if linear.bias is None:
                continue
            if name in _RESIDUAL and not model.config.vector_norms and not board.residual_biases:
                raise CompileError(f"{what} has a bias, which no gateware adds: use the golden model", hint="golden")
            if not board.row_words:
                raise CompileError(f"{what} has a bias, and the build {board.name} adds none: use the golden model",
                                   hint="golden")
        for names in _with_biases(model.config):
            # A row's word with the bias has the row's scale, too.
            for name in names if any(linears[name].bias is not None for name in names) else ():
                for block in linears[name].blocks():
                    if not is_stored(block.scale):
                        raise CompileError(f"layers.{i}.{name} has the scale {float(block.scale.value()):.4g}, which the 16 bits "
                                           "beside a bias do not hold")


def norm_numbers(config: ModelConfig, width: int, divided_by: int = 0) -> tuple[int, Scale]:
    """n_eps and sqrt_n of a norm over ``width`` elements that were divided by 2**``divided_by``."""
    n_eps = round(width * Fraction(config.eps) / Fraction(4) ** divided_by * 2**SQUARE_FRAC)
    if not 1 <= n_eps <= MAX_EPS:
        raise CompileError(f"eps {config.eps} times {width} is outside the norm unit's range (2**-32 to 1)")
    return n_eps, scale_from_fraction(width**0.5)


def norm_fields(config: ModelConfig, width: int, divided_by: int = 0) -> dict[str, object]:
    """The same as fields of the step that quantises the vector."""
    n_eps, sqrt_n = norm_numbers(config, width, divided_by)
    return {"norm": True, "n_eps": n_eps, "sqrt_n": sqrt_n}


@dataclass
class Layout:
    """Byte addresses of everything in memory; ``end`` is the first free byte.

    The caches of layer i: K at ``kv + i * layer_stride``, V at K + ``v_offset``, the scales at V + ``v_offset``.  In each head's
    part of them the rows of ``slots`` sequences follow one another, as many for each as the context has positions.
    """

    weights: int = 0
    embedding: int = 0
    rope: int = 0
    logits: int = 0
    kv: int = 0
    layer_stride: int = 0
    v_offset: int = 0
    end: int = 0
    slots: int = 1


def lay_out(c: ModelConfig, board: CoreConfig, stream: int, table: int, head: Head, what: str = "the model") -> Layout:
    """Lays out one part after another, for ``stream`` bytes of all layers and ``table`` bytes of the LM head or of the probe.

    There are as many slots as the board has, or as the memory has room for, one at least.  With the LM head on the host there is
    one.
    A TooBigError has the sizes of all parts, and the longest context that would fit, if there is one.
    """
    if head == "board":
        for slots in range(board.slots, 1, -1):
            layout, _ = _parts(c, board, stream, table, head, slots)
            if layout.end <= board.sdram_bytes:
                return layout
    layout, parts = _parts(c, board, stream, table, head)
    if layout.end > board.sdram_bytes:
        sizes = ", ".join(f"{what} {size / 1e6:.3f} MB" for what, size in parts.items())
        shorter = longest_context(c, board, stream, table, head)
        raise TooBigError(f"{what} needs {layout.end / 1e6:.3f} MB, and the memory of {board.name} has "
                          f"{board.sdram_bytes / 1e6:.3f} MB ({sizes})"
                          + (f"; a context of {shorter} would fit" if shorter else ""), hint="shorter-context" if shorter else "")
    return layout


def longest_context(c: ModelConfig, board: CoreConfig, stream: int, table: int, head: Head) -> int:
    """The longest context below the model's that the build's memory and score memory hold, in steps of CONTEXT_STEP positions;
    0: there is none."""
    steps = range(CONTEXT_STEP, min(c.context, board.widths.context + 1), CONTEXT_STEP)
    return CONTEXT_STEP * bisect_right(
        steps, False,
        key=lambda context: _parts(replace(c, context=context), board, stream, table, head)[0].end > board.sdram_bytes)


def _parts(c: ModelConfig, board: CoreConfig, stream: int, table: int, head: Head,
           slots: int = 1) -> tuple[Layout, dict[str, int]]:
    """The layout, and the size of each part, whatever memory there is."""
    layout, parts = Layout(slots=slots), dict[str, int]()

    def reserve(what: str, size: int) -> int:
        base = layout.end
        layout.end += -(-size // ALIGN) * ALIGN
        parts[what] = parts.get(what, 0) + size
        return base

    logits, what = (c.vocab, "head") if head == "board" else (c.dim, "probe")
    layout.weights = reserve(f"weights and {what}", stream + table)
    if head == "host":
        layout.embedding = reserve("embedding rows", table_bytes(c.context, c.dim))
    else:
        layout.embedding = reserve("embedding", table_bytes(c.vocab, c.dim))
    layout.rope = reserve("RoPE table", 2 * c.context * c.head_dim)
    layout.logits = reserve("logits", 4 * logits * board.head_tokens)
    rows = c.kv_heads * slots * c.context
    layout.kv = layout.end
    for _ in range(c.layers):
        k, v, s = (reserve(what, size) for what, size in (("K cache", rows * c.head_dim),
                                                          ("V cache", rows * c.head_dim), ("KV scales", 4 * rows)))
        assert v - k == s - v
        layout.v_offset, layout.layer_stride = v - k, layout.end - k
    return layout, parts


@dataclass(frozen=True)
class Body:
    """A model's layers for a build: the stream of tiles and gains, the program, the LM head's tiles, which are read when they are
    wanted, and the biases that the golden model adds."""

    stream: Part
    steps: tuple[Descriptor, ...]
    head: HeadTiles
    trits: int
    multipliers: int
    whole_heads: bool
    residual_biases: dict[int, NDArray[np.float16]]


def tiling(board: CoreConfig) -> Tiling:
    """All that a model's body depends on of a build."""
    return Tiling(board.tile_rows, board.least_rows, board.row_words, board.built_rows)


def compile_body(model: StoredSource, board: CoreConfig) -> Body:
    """The stream, in program order and in the board's tiles, and the program."""
    c = model.config
    residual_biases: dict[int, NDArray[np.float16]] = {}
    body: list[Part] = []
    gains = [{name: values for name in NORMS if (values := model.gain(i, name)) is not None} for i in range(c.layers)]
    final = model.final_norm()
    whole = True

    def head_gains(g: dict[str, NDArray[np.float16]]) -> bool:
        """The same of the gains of q's heads and of k's, ones where the model has none."""
        if c.qk_norm:
            ones = np.ones(c.head_dim, np.float16)
            both = [g.get(name, ones) for name in ("q_norm", "k_norm")]
            body.append(Part.of(pack_gain(np.concatenate(both))))
        return c.qk_norm

    def gain(values: NDArray[np.float16] | None) -> bool:
        """Put the gains of the norm after the next descriptor's step into the stream, before the step's tiles."""
        if values is not None:
            body.append(Part.of(pack_gain(values)))
        return values is not None

    steps: list[Descriptor] = []

    def normed_linear(name: str, cols: int, norm_gain: NDArray[np.float16] | None, *, part: QkvPart = QkvPart.WHOLE,
                      next_gain: NDArray[np.float16] | None = None) -> None:
        """A linear that writes A, and the norm behind it."""
        rows = parts[name].rows_in_all
        src_a = part == QkvPart.WHOLE
        steps.append(Descriptor(Op.LINEAR, Epilogue.STORE, src_a=src_a, gain_next=gain(norm_gain),
                                bias=parts[name].bias is not None, part=part, rows=rows, cols=cols, layer=i))
        body.append(packed[name])
        steps.append(Descriptor(Op.NORM, Epilogue.RESIDUAL if src_a else Epilogue.QKV, src_a=True, gain=norm_gain is not None,
                                gain_next=gain(next_gain), part=part, rows=rows, cols=rows, layer=i,
                                **norm_fields(c, rows)))  # type: ignore[arg-type]

    first = gains[0].get("attn_norm")
    steps.append(Descriptor(Op.EMBED, gain_next=gain(first)))
    for i, g in enumerate(gains):
        parts = matrices(model, i)
        made = {name: tiles(matrix, tiling(board)) for name, matrix in parts.items()}
        packed = {name: pack_tiles(matrix, made[name]) for name, matrix in parts.items()}
        # Without row words a head whose scales change is cut into two tiles.
        to_attention = made["v" if c.vector_norms else "qkv"]
        whole &= all(edge % c.head_dim == 0 for edge in accumulate(tile.header.rows for tile in to_attention))
        after = gains[i + 1].get("attn_norm") if i + 1 < c.layers else final
        if c.vector_norms:
            normed_linear("q", c.dim, g.get("q_norm"), part=QkvPart.Q)
            normed_linear("k", c.dim, g.get("k_norm"), part=QkvPart.K)
            steps.append(Descriptor(Op.LINEAR, Epilogue.QKV, bias=parts["v"].bias is not None, part=QkvPart.V, rows=c.kv_dim,
                                    cols=c.dim, layer=i))
            body.append(packed["v"])
            steps.append(Descriptor(Op.ATTENTION, layer=i))
            normed_linear("o", c.q_dim, g.get("attn_post_norm"))
            steps.append(Descriptor(Op.LINEAR, Epilogue.ACT, bias=parts["gate_up"].bias is not None, relu2=c.act == "relu2",
                                    act_exp=c.act_exp, rows=2 * c.ffn, cols=c.dim, layer=i))
            body.append(packed["gate_up"])
            normed_linear("down", c.ffn, g.get("ffn_post_norm"), next_gain=after)
            continue
        # EMBED, then five descriptors per layer: qkv, attention, o, gate and up, down.
        residual_biases |= {5 * i + number: bias for number, name in zip((3, 5), _RESIDUAL, strict=True)
                            if (bias := model.linear(i, name).bias) is not None}
        steps.append(Descriptor(Op.LINEAR, Epilogue.QKV, gain="attn_norm" in g, bias=parts["qkv"].bias is not None,
                                head_gains=head_gains(g), rows=c.q_dim + 2 * c.kv_dim, cols=c.dim, layer=i,
                                **norm_fields(c, c.dim)))  # type: ignore[arg-type]
        body.append(packed["qkv"])
        o_gain = g.get("o_norm") if c.o_norm else None
        steps.append(Descriptor(Op.ATTENTION, gain_next=gain(o_gain), layer=i))
        o_norm = norm_fields(c, c.q_dim) if c.o_norm else {}
        steps.append(Descriptor(Op.LINEAR, Epilogue.RESIDUAL, src_a=True, gain=o_gain is not None,
                                gain_next=gain(g.get("ffn_norm")), rows=c.dim, cols=c.q_dim, layer=i,
                                **o_norm))  # type: ignore[arg-type]
        body.append(packed["o"])
        down_gain = g.get("down_norm") if c.down_norm else None
        steps.append(Descriptor(Op.LINEAR, Epilogue.ACT, gain="ffn_norm" in g, gain_next=gain(down_gain),
                                bias=parts["gate_up"].bias is not None, relu2=c.act == "relu2", act_exp=c.act_exp,
                                rows=2 * c.ffn, cols=c.dim, layer=i,
                                **norm_fields(c, c.dim)))  # type: ignore[arg-type]
        body.append(packed["gate_up"])
        down_norm = norm_fields(c, c.ffn, c.act_exp) if c.down_norm else {}
        steps.append(Descriptor(Op.LINEAR, Epilogue.RESIDUAL, src_a=True, gain=down_gain is not None,
                                gain_next=gain(after), rows=c.dim, cols=c.ffn, layer=i,
                                **down_norm))  # type: ignore[arg-type]
        body.append(packed["down"])
    steps.append(Descriptor(Op.HEAD, gain=final is not None, cols=c.dim,
                            **norm_fields(c, c.dim)))  # type: ignore[arg-type]
    steps.append(Descriptor(Op.END))
    name = "embedding" if c.tied else "head"
    tiled = HeadTiles(lambda: model.table(name), c.vocab, c.dim, tiling(board).most)
    return Body(Part.join(body), tuple(steps), tiled, trits(model), multiplier_bytes(model), whole, residual_biases)


def probe_of(model: StoredSource, board: CoreConfig) -> tuple[Part, int]:
    """The probe, which takes the LM head's place if the LM head is on the host, and its power of two
    (:mod:`tellme.spec.probe`)."""
    c, gain = model.config, model.final_norm()
    k = probe_power(c.dim, 1 if gain is None else float(np.abs(gain).max()))
    return pack_probe_tiles(c.dim, scale_from_fraction(Fraction(2) ** k), most=board.tile_rows), k


def lm_head(c: ModelConfig, board: CoreConfig, body: Body) -> Part:
    """The LM head's tiles for a build.

    Refuses planes that the build does not have; and, before the table is read for its planes, one that would not fit with one.
    """
    if not board.row_words:
        raise TooBigError(f"the LM head has a scale for each row, and the build {board.name} takes none: it can do 1 plane")
    lay_out(c, board, len(body.stream), body.head.least, "board", "the model with an LM head of one plane")
    if body.head.planes > board.planes:
        raise TooBigError(f"the LM head has {body.head.planes} planes, and the build {board.name} can do {board.planes}")
    return body.head.part()


def longest_context_of(c: ModelConfig, board: CoreConfig, body: Body, head: Head) -> int:
    """:func:`longest_context` of a model; its table is read only if it matters."""
    stream = len(body.stream)
    if head == "host":
        return longest_context(c, board, stream, head_bytes(c.dim, c.dim, 1, board.tile_rows), head)
    if not board.row_words or not longest_context(c, board, stream, body.head.least, head) or body.head.planes > board.planes:
        return 0
    return longest_context(c, board, stream, len(body.head.part()), head)


def segment_list(base: int, layers: int, table: int) -> tuple[Segment, Segment]:
    """Segments of a stream from byte ``base`` on: ``layers`` bytes of all layers, then ``table`` bytes of the LM head's table.

    The layers lie in one piece, and a segment for each of them would cost cycles: the weight buffer's requests begin at the start
    of a segment, and requests that begin within a burst of the memory take a burst more each.
    """
    return Segment(base // 4, layers // 8), Segment((base + layers) // 4, table // 8, lm_head=True)


def with_two_steps(c: ModelConfig, board: CoreConfig, body: Body, table: Part) -> tuple[Part, int, int] | None:
    """The LM head's tiles, and behind them what two steps read: the upper planes' tiles, and the rows of the lowest plane at a
    multiple of LOW_PAGE words.  Beside it the bytes of the upper planes' tiles, and the rows' first byte.

    None for a build without two steps, and where the memory has no room for both forms of the head.
    """
    if not board.two_steps:
        return None
    upper, low = body.head.upper_part(), body.head.low_rows()
    behind = len(body.stream) + len(table) + len(upper)
    first = -(-behind // (4 * LOW_PAGE)) * 4 * LOW_PAGE
    both = Part.join((table, upper, Part.of(bytes(first - behind)), low))
    try:
        at = lay_out(c, board, len(body.stream), len(both), "board")
    except TooBigError:
        return None
    return both, len(upper), at.weights + first


def cache_registers(at: Layout) -> dict[str, int]:
    """The registers that say where each layer's caches lie."""
    return {"kv_base": at.kv // 4, "layer_stride": at.layer_stride // 4, "v_offset": at.v_offset // 4}


def head_registers(c: ModelConfig) -> dict[str, int]:
    """The registers of the norm on each head of q and k, zeros without one."""
    if not c.qk_norm:
        return {"head_n_eps": 0, "head_sqrt_n": 0}
    n_eps, sqrt_n = norm_numbers(c, c.head_dim)
    return {"head_n_eps": n_eps, "head_sqrt_n": sqrt_n.pack()}


def compile_model(model: StoredSource, board: CoreConfig, *, head: Head = "board", body: Body | None = None) -> Image:
    """Weight stream, tables, KV cache regions, program and registers of a model on a board.

    With ``head`` "host" the embedding table has room for one row per position, and the LM head is a probe.  ``body`` is the
    result of compile_body for the model, if it is there already.
    """
    check_shape(model.config, board, head)
    check_linears(model, board)
    c = model.config
    body = body or compile_body(model, board)
    table, probe = probe_of(model, board) if head == "host" else (lm_head(c, board, body), None)
    whole, steps = len(table), body.steps
    both = with_two_steps(c, board, body, table) if head == "board" else None
    if both is not None:
        table, upper, low = both
        steps = tuple(replace(step, rows=low // (4 * LOW_PAGE)) if step.op == Op.HEAD else step for step in steps)
    at = lay_out(c, board, len(body.stream), len(table), head)
    sections = [(at.weights, body.stream + table), (at.rope, rope_table(c))]
    if head == "board":
        sections.insert(1, (at.embedding, pack_table(model, "embedding")))
    segments: tuple[Segment, ...] = segment_list(at.weights, len(body.stream), whole)
    if both is not None:
        segments = (*segments, Segment(segments[-1].end, upper // 8, lm_head=True, two_steps=True))
    check_segments(segments)
    registers = {
        "dim": c.dim, "heads": c.heads, "kv_heads": c.kv_heads, "head_dim": c.head_dim,
        "group": c.heads // c.kv_heads, "context": c.context, "vocab": c.vocab if probe is None else c.dim,
        "embed_base": at.embedding // 4,
        "block_words": 2 * head_block_words(c.dim), "row_words": 2 * head_row_words(c.dim),
        "rope_base": at.rope // 4, "c_att": c_att(c.head_dim).pack(), "kv_stride": at.slots * c.context * c.head_dim // 4,
        "s_stride": at.slots * c.context, "logits_base": at.logits // 4, **cache_registers(at), **head_registers(c),
    }
    check_registers(registers)
    return Image(tuple(sections), steps, registers, segments, at.end, body.trits, body.whole_heads,
                 body.residual_biases, probe, body.head.trits if head == "board" else None, body.multipliers,
                 at.slots, draft_settings=0 if board.drafts else None)


def with_stream_behind(image: Image, model: Adapted, board: CoreConfig) -> Image:
    """The image of an adapted model's base with the adapted weight stream behind all that the base has in memory.

    What the base has there stays as it is, its own weight stream too, which the list of segments leaves out.
    """
    check_linears(model, board)
    body = compile_body(model, board)
    at = -(-image.end // ALIGN) * ALIGN
    end = at + len(body.stream)
    if end > board.sdram_bytes:
        raise CompileError(f"the model and its adapted weights need {end / 1e6:.3f} MB, and the memory of {board.name} has "
                           f"{board.sdram_bytes / 1e6:.3f} MB; the adapted weights alone are {len(body.stream) / 1e6:.3f} MB")
    segments = (Segment(at // 4, len(body.stream) // 8), *(segment for segment in image.segments if segment.lm_head))
    check_segments(segments)
    # The LM head is the base's, and lies where the base's program says.
    steps = (*(step for step in body.steps if step.op not in (Op.HEAD, Op.END)), *image.program[-2:])
    return replace(image, sections=(*image.sections, (at, body.stream)), program=steps, segments=segments, end=end,
                   trits=body.trits, whole_heads=body.whole_heads, residual_biases=body.residual_biases,
                   multipliers=body.multipliers)


def place_model(model: StoredSource, board: CoreConfig, head: Head | None = None) -> tuple[Image, str]:
    """A model on a board, and the reason for the LM head's place: the board if the LM head fits, unless ``head`` says where."""
    if isinstance(model, Adapted):
        image, why = place_model(model.base, board, head)
        return with_stream_behind(image, model, board), why
    if head is not None:
        return compile_model(model, board, head=head), "it was asked for"
    check_shape(model.config, board, "host")
    check_linears(model, board)
    body = compile_body(model, board)
    try:
        return compile_model(model, board, body=body), "it fits the board"
    except TooBigError as error:
        return compile_model(model, board, head="host", body=body), str(error)


def check_drafts(image: Image, board: CoreConfig) -> None:
    """Refuse a table of drafted tokens on a board that drafts none, and beside an LM head on the host: a CompileError."""
    if not board.drafts:
        raise CompileError(f"the core {board.name} drafts no tokens: leave the table of drafts out")
    if image.probe is not None:
        raise CompileError("no tokens are drafted where the LM head is on the host: leave the table of drafts out")


def with_drafts(image: Image, table: DraftTable, board: CoreConfig, settings: int = 0) -> Image:
    """An image with a table of drafted tokens behind everything else.

    ``settings``: the register ``draft_settings``; with 0 the board drafts nothing.  What :func:`check_drafts` refuses, and a
    table of another vocabulary, are a CompileError, and a memory without room for the table is a TooBigError.
    """
    vocab, base = image.registers["vocab"], -(-image.end // ALIGN) * ALIGN
    size = 4 * len(table.words)
    check_drafts(image, board)
    if table.vocab != vocab:
        raise CompileError(f"the table of drafts knows {table.vocab} tokens, and the LM head on the board gives {vocab}")
    if not board.unlimited and base + size > board.sdram_bytes:
        raise TooBigError(f"the table of drafts needs {size / 1e6:.3f} MB, and the memory of {board.name} has "
                          f"{max(board.sdram_bytes - base, 0) / 1e6:.3f} MB left: make one with shorter lists")
    return replace(image, sections=(*image.sections, (base, Part.of(table.words.astype("<u4").tobytes()))), end=base + size,
                   draft_base=base // 4, draft_settings=settings)
