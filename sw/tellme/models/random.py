# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Models of a shape alone, for measurements and tests of boards."""

import numpy as np

from tellme.models.config import LINEARS, NORMS, ModelConfig
from tellme.models.int8 import int8_rows
from tellme.models.model import Layer, Model
from tellme.models.source import Block
from tellme.spec.scale import Scale, scale_from_fraction

__all__ = ["random_model"]


def random_model(name: str, config: ModelConfig) -> Model:
    """A model of a shape; its weights are drawn, the same ones each time."""
    rng = np.random.default_rng(list(name.encode()))
    layers = []
    for _ in range(config.layers):
        weights = {n: rng.integers(-1, 2, config.shape(n), dtype=np.int8) for n in LINEARS}
        scales: dict[str, Scale | tuple[Block, ...]] = {n: scale_from_fraction(1 / config.shape(n)[1] ** 0.5) for n in LINEARS}
        norms = [n for n in NORMS if n in ("attn_norm", "ffn_norm") or getattr(config, n)]
        layers.append(Layer(weights, scales, {n: np.ones(config.norm_width(n), np.float16) for n in norms}))
    table = int8_rows(rng.normal(size=(config.vocab, config.dim)))
    codes, head_scales = (None, None) if config.tied else int8_rows(rng.normal(size=(config.vocab, config.dim)))
    return Model(config, layers, *table, np.ones(config.dim, np.float16), codes, head_scales, name=name)
