# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How much plain rounding harms a model: what ``auto`` spends its budget by, and what tells whether a rotation pays."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tellme.quantise.forward import Maths
from tellme.quantise.layers import FloatLayers, Stage, advance, walk
from tellme.quantise.measure import Measure
from tellme.quantise.plan import UNITS
from tellme.quantise.solve import plain

__all__ = ["PLANES", "PARTS", "harm_of_planes", "kl_of_rounding"]

Floats = NDArray[np.float32]

#: Planes to which a part is rounded.
PLANES = 3
#: Runs of layers that are tried apart.
PARTS = 4
#: Tokens whose logits are in memory at once.
_LOGITS = 64


def _nothing(layers: int) -> None:
    """No progress is shown."""


def kl_of_rounding(model: FloatLayers, lengths: Sequence[int], stream: Floats, final: Callable[[Floats], Floats],
                   progress: Callable[[int], object] = _nothing, *, variants: Sequence[Sequence[Mapping[str, int]]],
                   group: int = 0) -> list[float]:
    """KL(float model, variant) in nats a token of each of the ``variants``.

    A variant has the planes of each layer's matrices, which are rounded without statistics of inputs; a matrix without planes
    stays float.  ``group``: columns of a group with multipliers, or 0.  ``stream``: the embedded tokens of sequences of
    ``lengths``; ``final``: logits of residual streams.
    """
    tokens = len(stream)
    starts = [next((number for number, layer in enumerate(variant) if layer), len(variant)) for variant in variants]
    #: The variants that are apart from the float model already, in the order of their streams behind the float model's.
    apart: list[int] = []
    x = stream
    for number in range(model.config.layers):
        new = [i for i, start in enumerate(starts) if start == number]
        x = np.concatenate([x, *[x[:tokens]] * len(new)])
        apart += new
        maths = Maths(model.config, [*lengths] * (1 + len(apart)))
        one = walk(maths, x, lambda name: model.gain(number, name), quantised=False)
        after: Stage | Floats = next(one)
        while isinstance(after, Stage):
            outputs = []
            for name in after.names:
                weights, bias = model.matrix(number, name), model.bias(number, name)
                y = after.inputs @ weights.T
                for place, i in enumerate(apart, 1):
                    if name in variants[i][number]:
                        at = slice(place * tokens, (place + 1) * tokens)
                        y[at] = after.inputs[at] @ plain(weights, variants[i][number][name], group).T
                outputs.append(y if bias is None else y + bias.astype(np.float32))
            after = advance(one, outputs)
        x = after
        progress(1)
    measures = [Measure(1) for _ in apart]
    for first in range(0, tokens, _LOGITS):
        end = min(first + _LOGITS, tokens)
        exact = final(x[first:end])
        for place, measure in enumerate(measures, 1):
            measure.add(exact, final(x[place * tokens + first:place * tokens + end]), [0] * (end - first))
    found = [0.0] * len(variants)
    for i, measure in zip(apart, measures, strict=True):
        found[i] = measure.loss().kl
    return found


def harm_of_planes(model: FloatLayers, lengths: Sequence[int], stream: Floats, final: Callable[[Floats], Floats],
                   progress: Callable[[int], object] = _nothing) -> list[dict[str, float]]:
    """For each layer and first name of UNITS: the KL in nats a token that rounding it to PLANES planes costs.

    One unit is rounded in a PARTS-th of the layers at a time, and the rest stays float; a layer's share of the KL is taken to be
    the same within a part.  ``stream`` and ``final`` as for :func:`kl_of_rounding`.
    """
    layers = model.config.layers
    parts = [range(at * layers // PARTS, (at + 1) * layers // PARTS) for at in range(PARTS)]
    tried = [(unit, part) for part in parts if part for unit in UNITS]
    variants = [[dict.fromkeys(unit, PLANES) if number in part else {} for number in range(layers)] for unit, part in tried]
    found = kl_of_rounding(model, lengths, stream, final, progress, variants=variants)
    harm: list[dict[str, float]] = [{} for _ in range(layers)]
    for (unit, part), kl in zip(tried, found, strict=True):
        for number in part:
            harm[number][unit[0]] = kl / len(part)
    return harm
