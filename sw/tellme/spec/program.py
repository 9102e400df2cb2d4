# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The layer program: one descriptor of four 32-bit words a step, run in order for each token."""

from dataclasses import dataclass
from enum import IntEnum

from tellme.spec.ranges import I8, U16, U32, Range, check_fields
from tellme.spec.scale import ZERO, Scale
from tellme.spec.widths import MAX_WORDS

__all__ = ["ACT_EXP_RANGE", "ADDRESS_RANGE", "DESCRIPTOR_RANGES", "DESCRIPTOR_WORDS", "Descriptor", "Epilogue", "Op"]

DESCRIPTOR_WORDS = 4


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


class Epilogue(IntEnum):
    """What becomes of a dequantised element; the fused pipeline's ``epilogue`` input."""

    #: Written to X or A as it is.
    STORE = 0
    #: X[i] += element.
    RESIDUAL = 1
    #: A[i // 2] = f(gate) * up of the interleaved pair.
    ACT = 2
    #: RoPE on the q and k rows, int8 per head, to the attention unit.
    QKV = 3


#: Range of each number of a descriptor.
DESCRIPTOR_RANGES = {"act_exp": I8, "rows": U16, "cols": U16, "n_eps": U32, "k_base": U32, "v_base": U32, "s_base": U32}
#: Powers of two that a model may divide the output of its activation by.
ACT_EXP_RANGE = Range(-30, 30)
#: Word addresses of the memory's window.  The golden model, which takes a program without packing it, has no such limit.
ADDRESS_RANGE = Range(0, MAX_WORDS - 1)


@dataclass(frozen=True)
class Descriptor:
    """One step.

    Word 0: op [3:0], epilogue [5:4], src_a [6], norm [7], gain [8], gain_next [9], relu2 [10], zeros [15:11],
    act_exp [23:16] signed.  LINEAR and HEAD: word 1 rows [15:0], cols [31:16] (HEAD: rows 0, cols = dim); word 2
    n_eps; word 3 sqrt_n packed [18:0].  ATTENTION: words 1, 2, 3 the layer's K, V and S base (32-bit word addresses).

    gain_next: ahead of its tiles (EMBED, ATTENTION: of anything) the step loads the gains of the norm that follows
    from the weight stream, as many as its output vector has elements; its statistics take absmax of x * gain.
    gain: its own quantise multiplies by the gains that the step before loaded.

    A LINEAR with the QKV epilogue is followed by its layer's ATTENTION, whose bases say where its K and V rows go.
    """

    op: Op
    epilogue: Epilogue = Epilogue.STORE
    src_a: bool = False
    norm: bool = False
    gain: bool = False
    gain_next: bool = False
    relu2: bool = False
    act_exp: int = 0
    rows: int = 0
    cols: int = 0
    n_eps: int = 0
    sqrt_n: Scale = ZERO
    k_base: int = 0
    v_base: int = 0
    s_base: int = 0

    def __post_init__(self) -> None:
        """A number outside DESCRIPTOR_RANGES is a RangeError."""
        check_fields(self, DESCRIPTOR_RANGES)

    def pack(self) -> tuple[int, int, int, int]:
        """The four words; an address outside ADDRESS_RANGE is a RangeError."""
        check_fields(self, dict.fromkeys(("k_base", "v_base", "s_base"), ADDRESS_RANGE))
        word0 = (self.op | self.epilogue << 4 | self.src_a << 6 | self.norm << 7 | self.gain << 8
                 | self.gain_next << 9 | self.relu2 << 10 | (self.act_exp & 0xFF) << 16)
        if self.op == Op.ATTENTION:
            return word0, self.k_base, self.v_base, self.s_base
        return word0, self.rows | self.cols << 16, self.n_eps, self.sqrt_n.pack()

    @classmethod
    def unpack(cls, words: tuple[int, int, int, int]) -> "Descriptor":
        w0, w1, w2, w3 = words
        exp = w0 >> 16 & 0xFF
        common = {"op": Op(w0 & 15), "epilogue": Epilogue(w0 >> 4 & 3), "src_a": bool(w0 >> 6 & 1),
                  "norm": bool(w0 >> 7 & 1), "gain": bool(w0 >> 8 & 1), "gain_next": bool(w0 >> 9 & 1),
                  "relu2": bool(w0 >> 10 & 1), "act_exp": exp - 256 if exp & 0x80 else exp}
        if common["op"] == Op.ATTENTION:
            return cls(**common, k_base=w1, v_base=w2, s_base=w3)  # type: ignore[arg-type]
        return cls(**common, rows=w1 & 0xFFFF, cols=w1 >> 16, n_eps=w2,  # type: ignore[arg-type]
                   sqrt_n=Scale.unpack(w3))
