# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Shape and conventions of a model, the names of its parts, and the error that says what is wrong with one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from tellme.errors import TellmeError
from tellme.spec.program import ACT_EXP_RANGE

__all__ = ["LINEARS", "NORMS", "ModelConfig", "ModelError"]

#: Matrices of a layer, with the names that LLaMA checkpoints of this family use.
LINEARS = ("wq", "wk", "wv", "wo", "w1", "w3", "w2")
#: Norms of a layer (:meth:`ModelConfig.has_norm`).  q_norm and k_norm are on each head of q and of k, and the heads of a layer
#: share their gains; or on the whole q and k (:attr:`ModelConfig.vector_norms`).  attn_post_norm and ffn_post_norm are behind the
#: output and down projections.
NORMS = ("attn_norm", "q_norm", "k_norm", "o_norm", "attn_post_norm", "ffn_norm", "down_norm", "ffn_post_norm")


class ModelError(TellmeError):
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
    #: RMSNorm before the output and down projections (sub-norms).
    o_norm: bool = False
    down_norm: bool = False
    #: RMSNorm on each head of q and of k, ahead of RoPE (Qwen3).
    qk_norm: bool = False
    #: The norms of OLMo 2: RMSNorm on the whole q and on the whole k, ahead of RoPE, and on what attention and feed-forward add
    #: to the residual stream; none ahead of a layer's matrices.
    vector_norms: bool = False
    #: Token at which texts begin; None: the model has none.
    bos: int | None = 1
    #: Token that ends a text, the one at which a board stops by itself; None: the model has none.
    eos: int | None = 2
    #: Whether BOS is put before a prompt.
    add_bos: bool = True
    #: Other tokens that end a text, such as the end of a turn or of a message.
    more_ends: tuple[int, ...] = ()

    def check(self) -> None:
        """Refuse shapes that are no model at all."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "more_ends":
                if type(value) is not tuple or any(type(token) is not int for token in value):
                    raise ModelError(f"more_ends is {value!r}, which is no list of token ids")
                continue
            if type(value) not in (get_args(f.type) or (f.type,)):
                raise ModelError(f"{f.name} is {value!r}, which is no {getattr(f.type, '__name__', f.type)}")
            if f.type is int and f.name != "act_exp" and not 0 < value < 1 << 24:
                raise ModelError(f"{f.name} is {value}: not a model")
        least, most = ACT_EXP_RANGE
        if not least <= self.act_exp <= most:
            raise ModelError(f"act_exp is {self.act_exp}; {least} to {most} make sense")
        for what, token in (("bos", self.bos), ("eos", self.eos), *(("an end token", token) for token in self.more_ends)):
            if token is not None and not 0 <= token < self.vocab:
                raise ModelError(f"{what} is {token}, outside the vocabulary of {self.vocab}")
        if self.add_bos and self.bos is None:
            raise ModelError("BOS is put ahead of a prompt, but the model has no BOS token")
        if self.more_ends and self.eos is None:
            raise ModelError("more_ends names end tokens, but eos is none: the first end token is eos")
        if not (0 < self.eps < 1 and 1 < self.theta < 1e12):
            raise ModelError(f"eps {self.eps} and theta {self.theta} are no model's")
        if self.act not in ("silu", "relu2"):
            raise ModelError(f"activation {self.act!r} is neither silu nor relu2")
        if self.heads % self.kv_heads:
            raise ModelError(f"{self.heads} heads are no multiple of {self.kv_heads} KV heads")
        if self.head_dim % 2:
            raise ModelError(f"head_dim {self.head_dim} is odd: RoPE turns pairs")
        if self.vector_norms and (self.qk_norm or self.o_norm or self.down_norm):
            raise ModelError("vector_norms stands beside qk_norm, o_norm or down_norm: no model has both")

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> "ModelConfig":
        """A configuration from the object of :meth:`as_json`; unknown and missing keys are a TypeError."""
        if not isinstance(values, dict):
            raise TypeError("an object with a configuration's values")
        ends = values.get("more_ends", [])
        return cls(**values | {"more_ends": tuple(ends) if isinstance(ends, list) else ends})

    def as_json(self) -> dict[str, Any]:
        """All values as a JSON object.  A field that is newer than version 2 of the .tellme format is written only if its value
        is not the default, so that older programs can read the files that they understand."""
        values = asdict(self) | {"more_ends": list(self.more_ends)}
        for key in ("add_bos", "more_ends", "qk_norm", "vector_norms"):
            if getattr(self, key) == getattr(ModelConfig, key):
                del values[key]
        return values

    @property
    def plain_conventions(self) -> bool:
        """Whether a program that knows only versions 1 and 2 of the .tellme format begins and ends texts correctly."""
        return self.bos is not None and self.eos is not None and self.add_bos and not self.more_ends

    @property
    def ends(self) -> tuple[int, ...]:
        """All tokens that end a text; the board stops at the first by itself."""
        return () if self.eos is None else (self.eos, *(token for token in self.more_ends if token != self.eos))

    def with_bos(self, ids: Sequence[int]) -> list[int]:
        """Ids of a text.  BOS comes first if the model puts BOS before a text and the text does not spell BOS out."""
        if not self.add_bos or (ids and ids[0] == self.bos):
            return list(ids)
        assert self.bos is not None  # check()
        return [self.bos, *ids]

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

    def has_norm(self, name: str) -> bool:
        """Whether the layers have a norm of NORMS."""
        ahead, behind, on_qk = not self.vector_norms, self.vector_norms, self.qk_norm or self.vector_norms
        return {"attn_norm": ahead, "ffn_norm": ahead, "attn_post_norm": behind, "ffn_post_norm": behind, "q_norm": on_qk,
                "k_norm": on_qk, "o_norm": self.o_norm, "down_norm": self.down_norm}[name]

    def norm_width(self, name: str) -> int:
        """Elements of a norm's gain."""
        q, k = (self.q_dim, self.kv_dim) if self.vector_norms else (self.head_dim, self.head_dim)
        return {"attn_norm": self.dim, "q_norm": q, "k_norm": k, "o_norm": self.q_dim, "attn_post_norm": self.dim,
                "ffn_norm": self.dim, "down_norm": self.ffn, "ffn_post_norm": self.dim}[name]
