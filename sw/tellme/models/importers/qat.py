# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Checkpoints of quantisation-aware training whose floats the model quantises each time it runs: the methods of AngelSlim and
ParetoQ, as their training programs save them.

The names are those of config.json: ``quant_method``, ``w_bits``, ``granularity`` (per_tensor, per_channel, per_group),
``group_size``, ``N``, ``M``, ``eps``.  x is a weight, a the row's ``weight_clip_val``, g the mean magnitude of a group.

| method | weight |
| --- | --- |
| seq, 2 bits | (round(2 c - 0.5) + 0.5) a / 2, c = x / a within -0.99 and 0.99: a / 4 times 1, 3 or their negatives |
| seq, 0 bits | 2 a / 3 times -1, 0 or 1: round(1.5 c) |
| lsq | a round(x / a), within -2**(bits - 1) and 2**(bits - 1) - 1; 0 bits: within -1 and 1; 1 bit: a sign(x) |
| absmean | g times -1, 0 or 1: the sign where abs x >= g / 2 |
| twn | the sign where abs x >= 0.75 g, times the mean magnitude of those |
| sherry | the signs of the N largest of each M weights, times the mean of these magnitudes |
| ultraquantv2 (Tequila) | as absmean; the row's bias gets eps times the sum of the weights that became 0 |
| ultraquantv3 (Tequila) | the same; each weight that became 0 times its ``Lambada`` |

Without ``quant_method`` a weight_clip_val says seq of 2 bits, as in HY-1.8B-2Bit, or with ``w_bits`` ParetoQ's choice of the two.
Methods of bits become tied planes with a scale a row, exactly; those of groups become planes with multipliers
(:mod:`tellme.models.importers.grouped`).  Sums are in double precision; a weight that is as far from a threshold as torch's
float32 sums are wrong may fall on its other side.

Read: StretchedElasticQuant, LsqBinaryTernaryExtension, StaticTernaryQuant and NMQuant in Sherry/models/utils_quant.py, and the
keys in Sherry/train_llama.py (branch sherry of Tencent/AngelSlim, in its fork WYYAHYT/AngelSlim); UltraQuantV2, UltraQuantV3 and
UltraQuantLinear in TernaryQuant/models/utils_quant.py, and the keys in TernaryQuant/train.py (branch tequila, in the fork
imleoo/AngelSlim); the names of HY-1.8B-2Bit's tensors in its model.safetensors.index.json, in pallasting/ArrowQuant_V2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelError
from tellme.models.importers.grouped import Part, grouped
from tellme.models.importers.levels import coded, float_parts
from tellme.models.importers.rope import refuse_key
from tellme.models.importers.tensors import Tensors
from tellme.models.importers.ternary import halves_to_pairs, positive_scales
from tellme.models.source import Linear
from tellme.spec.packing import planes_for

__all__ = ["Qat"]

Rows = NDArray[np.float64]

_BITS = ("seq", "lsq")
_GROUPS = ("absmean", "twn", "sherry", "ultraquantv2", "ultraquantv3")
_CLIP, _LAMBDA = "weight_clip_val", "Lambada"
#: What a weight_clip_val is at least, and the share of it at which SEQ cuts.
_LEAST_CLIP, _SEQ_CUT = np.float32(1e-5), np.float32(0.99)
#: Methods that are known, and why they cannot run.
_REFUSED = {
    "ultraquant": "adds the weights that became 0 times the sign of each activation, which is no bias",
    "dlt": "adds a number to all weights of a row, the zeros too"}


@dataclass(frozen=True)
class Qat:
    """How the floats of a checkpoint become weights."""

    method: str
    bits: int
    granularity: str = "per_group"
    group_size: int = 128
    n: int = 3
    m: int = 4
    eps: float = 1e-5

    @classmethod
    def of_config(cls, fields: Mapping[str, Any], names: set[str], label: str) -> "Qat | None":
        """What a config.json and the names of the tensors say; None where they say nothing of such training.

        A method or a value that is not known is a ModelError with the key.
        """
        clipped = any(name.endswith(f".{_CLIP}") for name in names)
        method, bits = fields.get("quant_method"), fields.get("w_bits")
        if bits == 16 or method in ("none", "None"):
            return None
        if method is None and not clipped:
            return None
        if bits is None:
            bits = 2 if clipped else 0
        if type(bits) is not int or not 0 <= bits <= 4:
            raise refuse_key(label, "w_bits", bits, "of which 0 to 4 are known")
        if method is None:
            # ParetoQ's choice.
            method = "seq" if bits in (0, 2) else "lsq"
        if isinstance(method, str) and method in _REFUSED:
            raise refuse_key(label, "quant_method", method, f"which {_REFUSED[method]}: the engine does not do that")
        if method not in (*_BITS, *_GROUPS):
            raise refuse_key(label, "quant_method", method, f"of which {', '.join((*_BITS, *_GROUPS))} are known")
        if method in _GROUPS and bits != 0:
            raise refuse_key(label, "w_bits", bits, f"and {method} makes weights ternary, which is w_bits 0")
        if clipped != (method in _BITS):
            raise ModelError(f"{label}: quant_method is {method!r}, and the matrices have {'a' if clipped else 'no'} {_CLIP}")
        given = {key: fields[name] for key, name in (("granularity", "granularity"), ("group_size", "group_size"), ("n", "N"),
                                                     ("m", "M"), ("eps", "eps")) if fields.get(name) is not None}
        found = cls(method, bits, **given)
        if found.granularity not in ("per_tensor", "per_channel", "per_group"):
            raise refuse_key(label, "granularity", found.granularity, "of which per_tensor, per_channel and per_group are known")
        if fields.get("enable_zero_point"):
            raise refuse_key(label, "enable_zero_point", True)
        numbers = {"group_size": found.group_size, "N": found.n, "M": found.m}
        for key, value in numbers.items():
            if type(value) is not int or value < 1:
                raise refuse_key(label, key, value, "which is no number of weights")
        if found.n > found.m:
            raise refuse_key(label, "N", found.n, f"of each {found.m} weights")
        if type(found.eps) not in (int, float):
            raise refuse_key(label, "eps", found.eps, "which is no number")
        return found

    def __str__(self) -> str:
        if self.method in _BITS:
            return f"{self.method} of {self.bits} bits, by {_CLIP}"
        return f"{self.method}, {f'groups of {self.group_size}' if self.granularity == 'per_group' else self.granularity}"

    def beside(self, base: str) -> set[str]:
        """Names of tensors that stand beside a matrix."""
        return {f"{base}.{_CLIP}"} if self.method in _BITS else {f"{base}.{_LAMBDA}"} if self.method == "ultraquantv3" else set()

    # Methods of groups

    def width(self, name: str, cols: int) -> int | None:
        """Columns of a group; None: the method has a scale a row."""
        if self.method in _BITS:
            return None
        width = self.group_size if self.granularity == "per_group" else cols
        if cols % width:
            raise ModelError(f"{name} has {cols} columns, which are no whole groups of {width}")
        if self.method == "sherry" and width % self.m:
            raise ModelError(f"{name} has groups of {width} weights, which are no whole runs of M = {self.m}")
        return width

    def parts(self, tensors: Tensors, base: str, head_dim: int) -> Iterator[Part]:
        """Trits and what they are worth, of a method of groups."""
        name = f"{base}.weight"
        cols = tensors.shape(name)[1]
        width = self.width(name, cols)
        assert width is not None
        whole = self._whole(tensors, name) if self.granularity == "per_tensor" else None
        for part in float_parts(tensors, name, head_dim, np.float64):
            trits, worth = self._ternary(part.reshape(len(part), -1, width))
            if whole is not None:
                trits, worth = self._trits(part[:, None, :], whole[0]), np.full((len(part), 1), whole[1])
            yield Part(trits.reshape(1, len(part), cols).astype(np.int8), worth.T[None])

    def bias(self, tensors: Tensors, base: str, head_dim: int) -> NDArray[np.float64] | None:
        """What the weights that became 0 add to each row."""
        if self.method not in ("ultraquantv2", "ultraquantv3"):
            return None
        weights, parts = float_parts(tensors, f"{base}.weight", head_dim, np.float64), self.parts(tensors, base, head_dim)
        dead = (part * (trits[0] == 0) for part, (trits, _) in zip(weights, parts, strict=True))
        if self.method == "ultraquantv2":
            return np.concatenate([self.eps * part.sum(axis=1) for part in dead])
        name = f"{base}.{_LAMBDA}"
        if name not in tensors.names() or tensors.shape(name) != tensors.shape(f"{base}.weight"):
            raise ModelError(f"{tensors.label} lacks the tensor {name}, a factor for each weight")
        factors = float_parts(tensors, name, head_dim, np.float64)
        return np.concatenate([(part * factor).sum(axis=1) for part, factor in zip(dead, factors, strict=True)])

    def _whole(self, tensors: Tensors, name: str) -> tuple[float, float]:
        """The threshold and the scale of a matrix with one scale."""
        if self.method == "sherry":
            raise ModelError(f"{name}: sherry with granularity per_tensor is not known")
        count, total = 0, 0.0
        for part in float_parts(tensors, name, 0, np.float64):
            count, total = count + part.size, total + float(np.abs(part).sum())
        mean = total / count
        if self.method != "twn":
            return mean / 2, mean
        kept = [np.abs(part[np.abs(part) >= 0.75 * mean]) for part in float_parts(tensors, name, 0, np.float64)]
        return 0.75 * mean, float(np.concatenate(kept).mean())

    @staticmethod
    def _trits(groups: Rows, threshold: Rows | float) -> Rows:
        return np.asarray(np.sign(groups) * (np.abs(groups) >= threshold))

    def _ternary(self, groups: Rows) -> tuple[Rows, Rows]:
        """Trits of (rows, groups, width), and what they are worth in each row and group."""
        size = np.abs(groups)
        if self.method == "sherry":
            fours = size.reshape(*size.shape[:2], -1, self.m)
            order = np.argsort(-fours, axis=-1, kind="stable")
            kept = np.zeros(fours.shape, bool)
            np.put_along_axis(kept, order[..., :self.n], True, axis=-1)
            trits = np.sign(groups) * kept.reshape(groups.shape)
            return trits, np.asarray((size * np.abs(trits)).sum(-1) / (groups.shape[-1] / self.m * self.n))
        mean = size.mean(axis=-1, keepdims=True)
        trits = self._trits(groups, (0.75 if self.method == "twn" else 0.5) * mean)
        if self.method != "twn":
            return trits, mean[..., 0]
        return trits, np.asarray((size * np.abs(trits)).sum(-1) / np.maximum(np.abs(trits).sum(-1), 1))

    # Methods of bits

    def _codes(self, part: Rows, clip: Rows) -> tuple[NDArray[np.int8], Rows]:
        """Integer codes, and what 1 is worth in each row."""
        ratio = (part.astype(np.float32) / clip[:, None].astype(np.float32))
        if self.method == "seq" and self.bits != 1:
            ratio = np.clip(ratio, -_SEQ_CUT, _SEQ_CUT)
            if self.bits == 0:
                return np.rint(ratio * np.float32(1.5)).astype(np.int8), clip / 1.5
            levels = 2 ** (self.bits - 1)
            return (2 * np.rint(ratio * np.float32(levels) - np.float32(0.5)) + 1).astype(np.int8), clip / (2 * levels)
        if self.bits == 1:
            return np.sign(ratio).astype(np.int8), clip
        least, most = (-1, 1) if self.bits == 0 else (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1)
        return np.clip(np.rint(ratio), least, most).astype(np.int8), clip

    def _reach(self) -> int:
        """The largest code."""
        if self.bits < 2:
            return 1
        return 2**self.bits - 1 if self.method == "seq" else 2 ** (self.bits - 1)

    def linear(self, tensors: Tensors, base: str, head_dim: int, bias: NDArray[np.float16] | None) -> Linear:
        """A matrix; ``bias`` has what :meth:`bias` says in it."""
        name = f"{base}.weight"
        rows, cols = tensors.shape(name)
        width = self.width(name, cols)
        if width is not None:
            return grouped(name, (rows, cols), 1, width, lambda: self.parts(tensors, base, head_dim), bias)
        if f"{base}.{_CLIP}" not in tensors.names():
            raise ModelError(f"{tensors.label} lacks the tensor {base}.{_CLIP}")
        clips = positive_scales(f"{base}.{_CLIP}", tensors.whole(f"{base}.{_CLIP}"), rows)
        clips = np.maximum(clips, _LEAST_CLIP)
        if head_dim:
            clips = halves_to_pairs(clips, head_dim)

        def parts() -> Iterator[tuple[NDArray[np.int8], Rows]]:
            first = 0
            for part in float_parts(tensors, name, head_dim, np.float64):
                yield self._codes(part, clips[first:first + len(part)])
                first += len(part)

        return coded(name, (rows, cols), planes_for(self._reach()), parts, bias=bias)
