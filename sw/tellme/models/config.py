# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Shape and conventions of a model, the names of its parts, and the error that says what is wrong with one."""

from dataclasses import dataclass, fields

__all__ = ["LINEARS", "NORMS", "ModelConfig", "ModelError"]

#: Matrices of a layer, with the names that LLaMA checkpoints of this family use.
LINEARS = ("wq", "wk", "wv", "wo", "w1", "w3", "w2")
NORMS = ("attn_norm", "o_norm", "ffn_norm", "down_norm")


class ModelError(Exception):
    """A model file or checkpoint that cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape and conventions of a LLaMA-like ternary model."""

    dim: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    tied: bool = True
    #: "silu" or "relu2".
    act: str = "silu"
    #: Power of two that the activation output is divided by (ReLU squared passes 65504 in some models).
    act_exp: int = 0
    eps: float = 1e-5
    theta: float = 10000.0
    #: RMSNorm ahead of the output and down projections (sub-norms).
    o_norm: bool = False
    down_norm: bool = False
    bos: int = 1
    eos: int = 2

    def check(self) -> None:
        """Refuse shapes that are no model at all."""
        for f in fields(self):
            value = getattr(self, f.name)
            if type(value) is not f.type:
                raise ModelError(f"{f.name} is {value!r}, which is no {getattr(f.type, '__name__', f.type)}")
            if f.type is int and f.name not in ("act_exp", "bos", "eos") and not 0 < value < 1 << 24:
                raise ModelError(f"{f.name} is {value}: not a model")
        if not -30 <= self.act_exp <= 30:
            raise ModelError(f"act_exp is {self.act_exp}; -30 to 30 make sense")
        for what in ("bos", "eos"):
            if not 0 <= getattr(self, what) < self.vocab:
                raise ModelError(f"{what} is {getattr(self, what)}, outside the vocabulary of {self.vocab}")
        if not (0 < self.eps < 1 and 1 < self.theta < 1e12):
            raise ModelError(f"eps {self.eps} and theta {self.theta} are no model's")
        if self.act not in ("silu", "relu2"):
            raise ModelError(f"activation {self.act!r} is neither silu nor relu2")
        if self.heads % self.kv_heads:
            raise ModelError(f"{self.heads} heads are no multiple of {self.kv_heads} KV heads")
        if self.head_dim % 2:
            raise ModelError(f"head_dim {self.head_dim} is odd: RoPE turns pairs")

    @property
    def q_dim(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        return self.kv_heads * self.head_dim

    def shape(self, name: str) -> tuple[int, int]:
        """(rows, columns) of a linear."""
        return {"wq": (self.q_dim, self.dim), "wk": (self.kv_dim, self.dim), "wv": (self.kv_dim, self.dim),
                "wo": (self.dim, self.q_dim), "w1": (self.ffn, self.dim), "w3": (self.ffn, self.dim),
                "w2": (self.dim, self.ffn)}[name]

    @property
    def ternary_weights(self) -> int:
        """Weights of all matrices."""
        return self.layers * sum(rows * cols for rows, cols in map(self.shape, LINEARS))

    def norm_width(self, name: str) -> int:
        """Elements of a norm's gain."""
        return {"attn_norm": self.dim, "o_norm": self.q_dim, "ffn_norm": self.dim, "down_norm": self.ffn}[name]
