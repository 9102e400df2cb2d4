# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The layer program, one descriptor of four 32-bit words a step, and the list of the weight stream's segments.

Both are run in order for each token, or for each chunk of tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from tellme.errors import InputError
from tellme.spec.ranges import I8, U8, U16, U32, Range, check_fields
from tellme.spec.scale import ZERO, Scale
from tellme.spec.widths import MAX_WORDS, WORD_ADDRESS_BITS
from tellme.spec.words import ZEROS, pack_word, unpack_word

__all__ = ["ACT_EXP_RANGE", "ADDRESS_RANGE", "DESCRIPTOR_RANGES", "DESCRIPTOR_WORDS", "FORMAT_VERSION", "MAX_LAYERS",
           "MAX_SEGMENTS", "SEGMENT_ENTRIES", "SEGMENT_FIELDS", "SEGMENT_RANGES", "SEGMENT_WORDS", "WORD0_FIELDS", "Descriptor",
           "Epilogue", "FormatError", "Op", "QkvPart", "Segment", "check_segments", "pack_segments", "unpack_segments"]

#: Version of what a host writes before a run: descriptors, segments, tiles, registers, and the windows that take them.  A
#: board says its own in HELLO, and a host of another version refuses the board.  2: KV caches by strides, segments.  3: planes
#: and row words of a tile, biases, norms on heads (docs/decisions/0017-planes.md).
FORMAT_VERSION = 3

#: Words of a descriptor, 32 bits each.
DESCRIPTOR_WORDS = 4
#: Word 0 of a descriptor: widths of its fields, from bit 0 on.
WORD0_FIELDS = {"op": 4, "epilogue": 2, "src_a": 1, "norm": 1, "gain": 1, "gain_next": 1, "relu2": 1, "bias": 1,
                "head_gains": 1, "part": 2, ZEROS: 1, "act_exp": 8, "layer": 8}

#: Entries of the list of segments, its end included.
SEGMENT_ENTRIES = 256
#: Segments without the end.
MAX_SEGMENTS = SEGMENT_ENTRIES - 1
#: Words of an entry.
SEGMENT_WORDS = 2
#: The fields of each word of an entry, from bit 0 on.
SEGMENT_FIELDS = ({"words64": WORD_ADDRESS_BITS, ZEROS: 30 - WORD_ADDRESS_BITS, "two_steps": 1, "lm_head": 1},
                  {"address": WORD_ADDRESS_BITS, ZEROS: 32 - WORD_ADDRESS_BITS})
#: Layers that a program can number; a list of segments has room for one of each and one for the LM head.
MAX_LAYERS = MAX_SEGMENTS - 1


class FormatError(InputError):
    """A program, a list of segments or a tile that version FORMAT_VERSION of the format does not have."""


class Op(IntEnum):
    """What a step does."""

    #: End of the program.
    END = 0
    #: Embedding row and RoPE row of the token; X = row * scale.
    EMBED = 1
    #: Quantise X or A, multiply with a ternary matrix, epilogue.
    LINEAR = 2
    #: Attention of one layer over the KV cache into A.
    ATTENTION = 3
    #: Quantise X, int8 LM head, pick.
    HEAD = 4
    #: An RMSNorm behind a linear: quantise A to codes of 12 bits, which are the accumulators themselves; epilogue.
    NORM = 5


#: Steps whose words 1 to 3 say something.
_SIZED = (Op.LINEAR, Op.HEAD, Op.NORM)


class Epilogue(IntEnum):
    """What the fused pipeline does with a dequantised element (its setting ``epilogue``)."""

    #: Written as it is: to X by EMBED, to A by ATTENTION and by a LINEAR that a NORM follows.
    STORE = 0
    #: X[i] += element.
    RESIDUAL = 1
    #: A[i // 2] = f(gate) * up of the interleaved pair.
    ACT = 2
    #: RoPE on the q and k rows, int8 per head, to the attention unit.
    QKV = 3


class QkvPart(IntEnum):
    """Which rows of q, k and v a step is about."""

    #: All of them, or a step of others.
    WHOLE = 0
    Q = 1
    K = 2
    V = 3


#: Range of each number of a descriptor.
DESCRIPTOR_RANGES = {"act_exp": I8, "rows": U16, "cols": U16, "n_eps": U32, "layer": U8}
#: Powers of two that a model may divide the output of its activation by.
ACT_EXP_RANGE = Range(-30, 30)
#: Word addresses of the memory's window.  The golden model, which takes a program without packing it, has no such limit.
ADDRESS_RANGE = Range(0, MAX_WORDS - 1)


#: Range of each number of a segment.
SEGMENT_RANGES = {"address": U32, "words64": Range(1, U32.most)}


@dataclass(frozen=True)
class Descriptor:
    """One step.

    Word 0: op [3:0], epilogue [5:4], src_a [6], norm [7], gain [8], gain_next [9], relu2 [10], bias [11], head_gains [12],
    part [14:13], zero [15], act_exp [23:16] signed, layer [31:24].  LINEAR, HEAD and NORM: word 1 rows [15:0], cols [31:16]
    (HEAD: cols = dim; rows is where the rows of the lowest plane lie, in pages of :data:`tellme.spec.two_steps.LOW_PAGE`
    words, or 0 where there are none; NORM: both the vector's elements); word 2 n_eps; word 3 sqrt_n packed [18:0].  Words 1 to 3
    of all others are zeros.

    gain_next: before its tiles (EMBED and ATTENTION: before anything else) the step loads the gains of the norm that follows
    from the weight stream, as many as the step's output vector has elements.  The step's statistics then take absmax of x * gain.

    gain: the step's own quantise pass multiplies by the gains that the step before loaded.

    bias: the biases of the step's row words (:class:`tellme.spec.packing.RowWord`) are added to its dequantised elements.  A step
    with the RESIDUAL epilogue has none, because its adder is busy.

    head_gains: of a LINEAR with the QKV epilogue.  Before its tiles it loads 2 * head_dim gains from the weight stream, those of
    q, then those of k.  Each head of q and k goes through an RMSNorm: its elements y become round(y * gain) ahead of RoPE, and
    its scale is multiplied by 1 / rms(y), with the registers head_n_eps and head_sqrt_n.  Such a step has no gain_next.

    NORM: a norm behind a linear (OLMo 2).  The step quantises A as a LINEAR does, with ``norm``, n_eps, sqrt_n and ``gain``, to
    codes of NORM_FRAC (:mod:`tellme.spec.quantise`) more bits.  A code is the accumulator of the element with the code's index,
    and the accumulator's scale is d * 2**-NORM_FRAC.  The epilogue is RESIDUAL, or QKV for a part of q or k.  The step has no
    weights; ``gain_next`` is allowed with RESIDUAL.  The LINEAR ahead of it has the epilogue STORE, by which its elements go to
    A.

    part: q, k and v in parts, of a model with norms on the whole q and k.  The LINEARs of q and k have the epilogue STORE, the
    NORMs behind them QKV and the same part, the LINEAR of v QKV.  Elements of k are numbered behind those of q, and elements of v
    behind those of k, so that RoPE and attention see them as those of one step.  A LINEAR of the part K or V takes the scales
    with which X was quantised last, because X is as it was then.

    layer: the number of the step's layer; 0 for a step of no layer.  By this number a LINEAR with the QKV epilogue finds the
    layer's KV cache (:data:`tellme.spec.memory.MODEL_REGISTERS`): K at kv_base + layer * layer_stride, V at K + v_offset, the
    scales at V + v_offset.  The ATTENTION that follows works on the same cache.
    """

    op: Op
    epilogue: Epilogue = Epilogue.STORE
    src_a: bool = False
    norm: bool = False
    gain: bool = False
    gain_next: bool = False
    relu2: bool = False
    bias: bool = False
    head_gains: bool = False
    part: QkvPart = QkvPart.WHOLE
    act_exp: int = 0
    rows: int = 0
    cols: int = 0
    n_eps: int = 0
    sqrt_n: Scale = ZERO
    layer: int = 0

    def __post_init__(self) -> None:
        """A number outside DESCRIPTOR_RANGES is a RangeError; biases of a step that cannot add them, gains of heads of a step
        that has none, and a NORM or a part of q, k and v that no gateware does, are a FormatError."""
        check_fields(self, DESCRIPTOR_RANGES)
        if self.bias and (self.op != Op.LINEAR or self.epilogue == Epilogue.RESIDUAL):
            raise FormatError(f"a step {self.op.name} with the epilogue {self.epilogue.name} adds no biases")
        if self.head_gains and (self.op != Op.LINEAR or self.epilogue != Epilogue.QKV or self.gain_next):
            raise FormatError(f"a step {self.op.name} with the epilogue {self.epilogue.name}"
                              f"{' and gains of a norm that follows' * self.gain_next} takes no gains of heads")
        if self.op == Op.NORM and (not self.src_a or self.relu2 or self.act_exp or self.rows != self.cols or not (
                (self.epilogue, self.part) == (Epilogue.RESIDUAL, QkvPart.WHOLE) or
                (self.epilogue == Epilogue.QKV and self.part in (QkvPart.Q, QkvPart.K) and not self.gain_next))):
            raise FormatError(f"a NORM of {self.rows} rows and {self.cols} columns with the epilogue {self.epilogue.name} of the "
                              f"part {self.part.name} is none: it adds A to X, or sends A as q or k to attention")
        if self.op != Op.NORM and self.part and (self.op != Op.LINEAR or self.head_gains or self.epilogue != (
                Epilogue.QKV if self.part == QkvPart.V else Epilogue.STORE)):
            raise FormatError(f"a step {self.op.name} with the epilogue {self.epilogue.name} has no part {self.part.name}")
        if self.again and (self.src_a or self.norm or self.gain):
            raise FormatError(f"a LINEAR of the part {self.part.name} takes the codes of X that the one before took, with no "
                              "norm and no gains")
        if self.op == Op.LINEAR and self.epilogue == Epilogue.STORE and self.src_a and self.gain and self.gain_next:
            raise FormatError("a LINEAR from A to A has gains of its own, or loads those of the norm that follows: both lie in "
                              "one place")

    @property
    def again(self) -> bool:
        """Whether the step quantises X with the scales of the quantise pass of X before."""
        return self.op == Op.LINEAR and self.part in (QkvPart.K, QkvPart.V)

    def pack(self) -> tuple[int, int, int, int]:
        """The four words."""
        word0 = pack_word(WORD0_FIELDS, {
            "op": self.op, "epilogue": self.epilogue, "src_a": self.src_a, "norm": self.norm, "gain": self.gain,
            "gain_next": self.gain_next, "relu2": self.relu2, "bias": self.bias, "head_gains": self.head_gains,
            "part": self.part, "act_exp": self.act_exp & 0xFF, "layer": self.layer})
        if self.op in _SIZED:
            return word0, self.rows | self.cols << 16, self.n_eps, self.sqrt_n.pack()
        return word0, 0, 0, 0

    @classmethod
    def unpack(cls, words: tuple[int, int, int, int]) -> "Descriptor":
        """The step of four words; bits that have to be zeros and are not are a FormatError."""
        w0, w1, w2, w3 = words
        f = unpack_word(WORD0_FIELDS, w0)
        op, exp = f["op"], f["act_exp"]
        if op not in list(Op) or f[ZEROS] or (op not in _SIZED and (w1 or w2 or w3)):
            raise FormatError(f"{w0:08x} {w1:08x} {w2:08x} {w3:08x} is no descriptor of program format {FORMAT_VERSION}")
        flags = {name: bool(f[name]) for name in ("src_a", "norm", "gain", "gain_next", "relu2", "bias", "head_gains")}
        return cls(Op(op), Epilogue(f["epilogue"]), **flags, part=QkvPart(f["part"]), act_exp=exp - 256 if exp & 0x80 else exp,
                   rows=w1 & 0xFFFF, cols=w1 >> 16, n_eps=w2, sqrt_n=Scale.unpack(w3), layer=f["layer"])


@dataclass(frozen=True)
class Segment:
    """A part of the weight stream: ``words64`` 64-bit words that lie in memory from the 32-bit word ``address`` on.

    The stream is all segments one after another, in the order of the list, once for each chunk; ``lm_head``: only for a chunk
    that has an LM head.  ``two_steps``, of a segment of the LM head: only in a run with the flag TWO_STEPS, in which the LM
    head's other segments are left out.  An entry has two 32-bit words: words64 [27:0], zeros [29:28], two_steps [30], lm_head
    [31]; address [27:0], zeros [31:28].  The list ends with an entry whose words64 is 0.
    """

    address: int
    words64: int
    lm_head: bool = False
    two_steps: bool = False

    def __post_init__(self) -> None:
        """A number outside SEGMENT_RANGES is a RangeError."""
        check_fields(self, SEGMENT_RANGES)

    @property
    def end(self) -> int:
        """The first word after it."""
        return self.address + 2 * self.words64

    def pack(self) -> tuple[int, int]:
        """The entry; an address outside ADDRESS_RANGE, or a word outside it, is a RangeError."""
        ADDRESS_RANGE.check("address of a segment", self.address)
        ADDRESS_RANGE.check("last word of a segment", self.end - 1)
        counts, place = SEGMENT_FIELDS
        return (pack_word(counts, {"words64": self.words64, "two_steps": self.two_steps, "lm_head": self.lm_head}),
                pack_word(place, {"address": self.address}))


def check_segments(segments: Sequence[Segment]) -> None:
    """Refuse a list that the gateware does not run: none, or more than MAX_SEGMENTS (a RangeError); a first one, or one behind
    one of the LM head, that is not as the others, or one in two steps that is not the LM head's (a FormatError)."""
    Range(1, MAX_SEGMENTS).check("segments of the weight stream", len(segments))
    if segments[0].lm_head:
        raise FormatError("the first segment of the weight stream is for the LM head: each chunk reads the first one, so it has "
                          "to hold weights of a layer")
    for number, segment in enumerate(segments):
        if segment.two_steps and not segment.lm_head:
            raise FormatError(f"segment {number} of the weight stream is for an LM head in two steps, and not for the LM head")
    for number, (before, segment) in enumerate(pairwise(segments), 1):
        if before.lm_head and not segment.lm_head:
            raise FormatError(f"segment {number} of the weight stream lies behind one of the LM head, whose segments come last")


def pack_segments(segments: Sequence[Segment]) -> list[int]:
    """Words of the list, its end included; what check_segments or Segment.pack refuses is refused."""
    check_segments(segments)
    return [word for segment in segments for word in segment.pack()] + [0] * SEGMENT_WORDS


def unpack_segments(words: Iterable[int]) -> tuple[Segment, ...]:
    """The segments of a list, up to its end.  A list without an end, or bits that have to be zeros and are not, are a
    FormatError; a list that check_segments refuses is refused."""
    segments: list[Segment] = []
    rest = iter(words)
    for word in rest:
        counts = unpack_word(SEGMENT_FIELDS[0], word)
        place = unpack_word(SEGMENT_FIELDS[1], next(rest, 1 << 31))
        if counts[ZEROS] or place[ZEROS]:
            raise FormatError(f"entry {len(segments)} of the list of segments is none of program format {FORMAT_VERSION}")
        if counts["words64"] == 0:
            check_segments(segments)
            return tuple(segments)
        segments.append(Segment(place["address"], counts["words64"], bool(counts["lm_head"]), bool(counts["two_steps"])))
    raise FormatError(f"the list of segments has no end within its {len(segments)} entries")
