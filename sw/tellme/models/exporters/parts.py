# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What exporters share: which models there is an architecture for, gains, and the scale of each row."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import NORMS, ModelError
from tellme.models.source import Block, Linear, Source

__all__ = ["Progress", "gain_or_ones", "gains_of", "has_sub_norms", "row_scales", "ternary"]

#: Is called after each tensor that was written.
Progress = Callable[[], object]


def has_sub_norms(source: Source) -> bool:
    """Whether the model has both sub-norms of BitNet.

    One sub-norm alone is a ModelError, as neither program computes it.  So are norms on heads of q and k, and those of OLMo 2,
    which no exporter writes.
    """
    c = source.config
    if c.qk_norm:
        raise ModelError("the model has an RMSNorm on each head of q and k (Qwen3), and no format that is written has one: keep "
                         "the .tellme file")
    if c.vector_norms:
        raise ModelError("the model has the norms of OLMo 2, and no format that is written has these: keep the .tellme file")
    if c.o_norm != c.down_norm:
        raise ModelError("the model has a norm ahead of one of the output and down projections only, which no architecture of "
                         "transformers or llama.cpp has")
    if c.o_norm and c.q_dim != c.dim:
        raise ModelError(f"heads x head_dim is {c.q_dim} and dim {c.dim}, and BitNet's sub-norm wants them equal")
    return c.o_norm


def gain_or_ones(gain: NDArray[np.float16] | None, width: int) -> NDArray[np.float32]:
    """A gain, ones where there is none."""
    return np.ones(width, np.float32) if gain is None else gain.astype(np.float32)


def gains_of(source: Source, layer: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Gains of a layer's norms, ones where the model has none."""
    for name in NORMS:
        if source.config.has_norm(name):
            yield name, gain_or_ones(source.gain(layer, name), source.config.norm_width(name))


def row_scales(blocks: tuple[Block, ...]) -> NDArray[np.float64]:
    """The scale of each row."""
    return np.repeat([float(b.scale.value()) for b in blocks], [b.rows for b in blocks])


def ternary(source: Source, layer: int, name: str) -> Linear:
    """A matrix of a layer.  One of several planes, or with multipliers, is a ModelError: no format that is written holds its
    weights."""
    linear = source.linear(layer, name)
    if linear.planes > 1:
        raise ModelError(f"layers.{layer}.{name} has {linear.planes} planes, and what is exported holds -1, 0 and 1 alone")
    if linear.group_slices:
        raise ModelError(f"layers.{layer}.{name} has multipliers of column groups, and what is exported holds -1, 0 and 1 alone")
    return linear
