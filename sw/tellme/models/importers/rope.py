# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""RoPE of a checkpoint: each key and each tensor about RoPE must mean plain RoPE, or is refused by name.

The engine computes plain RoPE: at position p it turns pair i of the head_dim / 2 pairs of each query and key head by
p * theta^(-2 i / head_dim).  A key that changes nothing (a linear scaling by 1, a rotary share of 1) is accepted.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tellme.models.config import ModelError
from tellme.models.importers.tensors import Tensors

__all__ = ["FACTORS", "Rope", "as_decimal", "is_number", "plain_frequencies", "refuse_key", "rope_of_config", "rope_of_gguf",
           "says_rope"]


@dataclass(frozen=True)
class Rope:
    """Plain RoPE."""

    theta: float


#: Theta is below this, and above 1.
MAX_THETA = 1e12
_NO_THETA = f"and theta is a number between 1 and {MAX_THETA:g}"

#: Places of config.json that hold nothing but RoPE's keys, flat or nested by the layers' type.
_PLACES = ("rope_scaling", "rope_parameters")
#: Other names of theta: the architectures here do not read them, so they must say what rope_theta says.
_OTHER_THETAS = frozenset((
    "default_theta", "global_rope_theta", "local_rope_theta", "rope_base", "rope_freq_base", "rope_local_base_freq",
    "rope_local_theta", "rope_theta_local", "rotary_base", "rotary_emb_base", "rotary_embedding_base", "rotary_theta"))
#: Names that only within _PLACES are theta's.
_INNER_THETAS = frozenset(("base", "theta"))
#: Shares of a head's dimensions that are turned.
_SHARES = frozenset(("partial_rotary_factor", "rope_partial_factor", "rope_pct", "rope_percent", "rotary_emb_fraction",
                     "rotary_fraction", "rotary_pct", "rotary_percent", "rotary_percentage"))
#: Numbers of a head's dimensions that are turned.
_COUNTS = frozenset(("qk_rope_head_dim", "rope_dim", "rope_head_dim", "rotary_dim", "rotary_emb_dim", "rotary_ndims"))
#: Factors of frequencies, positions, or of the attention's scores.
_FACTORS = frozenset(("rope_factor", "rope_ratio", "rope_scaling_factor", "rotary_scaling_factor"))
_INNER_FACTORS = frozenset(("attention_factor", "attn_factor"))
#: Kinds of scaling.
_TYPES = ("rope_type", "type")
_PLAIN_TYPES = ("default", "none")
_ON = frozenset(("apply_rope", "apply_rotary", "rope", "rotary", "use_rope", "use_rope_embeddings", "use_rotary",
                 "use_rotary_emb", "use_rotary_embedding", "use_rotary_embeddings", "use_rotary_position_embeddings"))
_OFF = frozenset(("mrope_interleaved", "rope_interleave", "rope_interleaved", "rotary_emb_interleaved", "rotary_interleaved",
                  "rotary_value", "use_dynamic_ntk", "use_mrope", "use_nope", "use_ntk", "use_rope_scaling", "use_yarn"))
_KINDS_OF_POSITION = frozenset(("pos_embedding_type", "position_embedding_type", "position_encoding_type"))
_SAYS_ROPE = re.compile(r"(?:^|[^a-z0-9])(?:rope|rotary|yarn|ntk|nope|mrope|longrope)|rope(?:$|[^a-z0-9])")

#: GGUF's tensors of factors by which RoPE's frequencies are divided, one a pair.
FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_INV_FREQ = re.compile(r"(?:model\.)?(?:layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


def says_rope(key: str) -> bool:
    """Whether a key's name says that it is about RoPE."""
    return _SAYS_ROPE.search(key.lower()) is not None


def is_number(value: Any, *wanted: float) -> bool:
    """Whether a value is a number, and with ``wanted`` one of these; true and false are none."""
    return type(value) in (int, float) and (not wanted or value in wanted)


def as_decimal(value: Any) -> Any:
    """A value of a GGUF file; a float32 becomes the shortest decimal number: 1e-05, not 9.999999747378752e-06."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value))) if type(value) is float and float(np.float32(value)) == value else value


def refuse_key(label: str, name: str, value: Any, why: str = "which the engine does not do") -> ModelError:
    """The error about a key with a value that is not understood or not computed."""
    shown = repr(value)
    return ModelError(f"{label}: {name} is {shown if len(shown) <= 80 else shown[:77] + '...'}, {why}")


@dataclass
class _ConfigRope:
    """What has been found in a config.json."""

    label: str
    head_dim: int
    #: (name, theta) as the architectures read them, and under names that they do not read.
    thetas: list[tuple[str, float]] = field(default_factory=list)
    others: list[tuple[str, float]] = field(default_factory=list)

    def key(self, name: str, value: Any, *, inner: bool) -> None:
        """One key; ``inner``: of a place that holds nothing but RoPE."""
        key = name.rpartition(".")[2]
        if value is None:
            return
        if key == "rope_theta" or key in _OTHER_THETAS or (inner and key in _INNER_THETAS):
            into = self.thetas if key == "rope_theta" else self.others
            # A theta for each type of layers.
            values = value if isinstance(value, dict) else {"": value}
            into += [(f"{name}.{kind}" if kind else name, self.theta(name, one)) for kind, one in values.items()
                     if one is not None]
            return
        if key in _SHARES or key in _FACTORS or (inner and key in _INNER_FACTORS):
            plain = is_number(value, 1)
        elif key in _COUNTS:
            plain = is_number(value, self.head_dim)
        elif key in _ON or key in _OFF:
            plain = value is (key in _ON)
        elif key in _KINDS_OF_POSITION:
            plain = value in ("rope", "rotary")
        elif key in ("rope_type", "rope_scaling_type"):
            plain = value in _PLAIN_TYPES
        elif key == "no_rope_layers":
            # 1: the layer has RoPE.
            plain = isinstance(value, list) and all(is_number(one, 1) for one in value)
        elif inner and key == "original_max_position_embeddings":
            # The context before scaling; there is no scaling.
            plain = type(value) is int and value > 0
        else:
            plain = not inner and not says_rope(key)
        if not plain:
            raise refuse_key(self.label, name, value)

    def theta(self, name: str, value: Any) -> float:
        """A number that theta can be."""
        if not is_number(value) or not 1 < value < MAX_THETA:
            raise refuse_key(self.label, name, value, _NO_THETA)
        return float(value)

    def place(self, name: str, value: Any, *, nested: bool = False) -> None:
        """One of _PLACES, or what it holds for a type of layers."""
        if value is None:
            return
        if not isinstance(value, dict):
            raise refuse_key(self.label, name, value)
        kinds = [(f"{name}.{key}", value[key]) for key in _TYPES if value.get(key) is not None]
        factor = value.get("factor")
        for where, kind in kinds:
            if kind == "linear" and not is_number(factor, 1):
                raise refuse_key(self.label, where, kind, f"with {'no factor' if factor is None else f'the factor {factor!r}'}, "
                                 "which the engine does not do")
            if kind not in (*_PLAIN_TYPES, "linear"):
                raise refuse_key(self.label, where, kind)
        if factor is not None and not is_number(factor, 1):
            raise refuse_key(self.label, f"{name}.factor", factor,
                             "which the engine does not do" if kinds else "with no type of scaling, which the engine does not do")
        for key, one in value.items():
            if key == "factor" or key in _TYPES:
                continue
            if isinstance(one, dict) and key != "rope_theta" and not nested:
                self.place(f"{name}.{key}", one, nested=True)
            else:
                self.key(f"{name}.{key}", one, inner=True)


def rope_of_config(fields: Mapping[str, Any], label: str, *, head_dim: int, default_theta: float) -> Rope:
    """RoPE of the object of a config.json, which ``label`` names in errors; ``default_theta`` where no key gives theta.

    A ModelError names the first key whose value is not plain, or which says another theta than another key.
    """
    found = _ConfigRope(label, head_dim)
    for key, value in fields.items():
        if key in _PLACES:
            found.place(key, value)
        else:
            found.key(key, value, inner=False)
    first, theta = found.thetas[0] if found.thetas else ("the default rope_theta", default_theta)
    for name, other in found.thetas + found.others:
        if other != theta:
            raise ModelError(f"{label}: {name} is {other}, and {first} is {theta}: the engine turns by one theta")
    return Rope(theta)


def rope_of_gguf(arch: str, keys: Iterable[str], get: Callable[[str], Any], label: str, *, head_dim: int) -> Rope:
    """RoPE of the metadata ``<arch>.rope.*`` of a GGUF file, with the defaults of llama.cpp.

    A ModelError names the first key whose value is not plain.
    """
    head = f"{arch}.rope."
    values = {key.removeprefix(head): as_decimal(get(key)) for key in keys if key.startswith(head)}
    kind = values.get("scaling.type", "linear")
    theta = 10000.0
    for key, value in values.items():
        if key in ("dimension_count", "dimension_count_swa"):
            if not is_number(value, head_dim):
                raise ModelError(f"{label}: RoPE turns {value} of {head_dim} dimensions, the engine turns all")
            continue
        if key in ("freq_base", "freq_base_swa"):
            if not is_number(value) or not 1 < value < MAX_THETA:
                raise refuse_key(label, head + key, value, _NO_THETA)
            if value != values.get("freq_base", theta):
                raise ModelError(f"{label}: {head}{key} is {value}, and {head}freq_base is {values.get('freq_base', theta)}: the "
                                 "engine turns by one theta")
            continue
        if key == "scaling.type":
            plain = value in ("none", "linear")
        elif key in ("scaling.factor", "scale_linear"):
            # 0 stands for no scaling.
            plain = is_number(value, 0, 1)
            if not plain and kind == "linear":
                raise refuse_key(label, head + key, value, "a linear scaling, which the engine does not do")
        elif key in ("scaling.attn_factor", "scaling.yarn_attn_factor"):
            plain = is_number(value, 1)
        elif key == "scaling.alpha":
            plain = is_number(value, 0, 1)
        elif key == "scaling.yarn_log_multiplier":
            plain = is_number(value, 0)
        elif key == "scaling.yarn_ext_factor":
            # Below 0 the type of the scaling decides.
            plain = is_number(value) and value <= 0
        elif key in ("scaling.yarn_beta_fast", "scaling.yarn_beta_slow", "scaling.original_context_length"):
            # Of no effect without a scaling.
            plain = is_number(value)
        elif key == "scaling.finetuned":
            plain = type(value) is bool
        elif key == "dimension_sections":
            plain = isinstance(value, list) and all(is_number(one, 0) for one in value)
        else:
            plain = False
        if not plain:
            raise refuse_key(label, head + key, value)
    return Rope(float(values.get("freq_base", theta)))


def plain_frequencies(tensors: Tensors, rope: Rope, head_dim: int) -> set[str]:
    """Names of the tensors that describe RoPE and describe plain RoPE.  A ModelError names a tensor that describes another RoPE.

    GGUF: factors, all 1.  Hugging Face: the frequencies themselves, theta^(-2 i / head_dim), as rounded as bfloat16.
    """
    plain = set()
    for name in sorted(tensors.names()):
        if name in FACTORS:
            wanted = np.ones(head_dim // 2)
        elif _INV_FREQ.fullmatch(name):
            wanted = rope.theta ** (-np.arange(0, head_dim, 2) / head_dim)
        else:
            continue
        found = np.asarray(tensors.whole(name), np.float64).reshape(-1)
        # 2**-24 is half the smallest binary16.
        if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=2**-8, atol=2**-24):
            raise ModelError(f"{tensors.label}: {name} holds other frequencies of RoPE than those of theta {rope.theta}, which "
                             "the engine does not do")
        plain.add(name)
    return plain
