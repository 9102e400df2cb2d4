# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How much the loss of planes harms a model, by part: what ``auto`` spends its budget by."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tellme.quantise.forward import Maths
from tellme.quantise.layers import FloatLayers, Stage, advance, walk
from tellme.quantise.measure import Measure
from tellme.quantise.plan import UNITS
from tellme.quantise.solve import plain

__all__ = ["PLANES", "PARTS", "harm_of_planes"]

Floats = NDArray[np.float32]

#: Planes to which a part is rounded.
PLANES = 3
#: Runs of layers that are tried apart.
PARTS = 4
#: Tokens whose logits are in memory at once.
_LOGITS = 64


def harm_of_planes(model: FloatLayers, lengths: Sequence[int], stream: Floats, final: Callable[[Floats], Floats],
                   progress: Callable[[int], object] = lambda layers: None) -> list[dict[str, float]]:
    """For each layer and first name of UNITS: the KL in nats a token that rounding it to PLANES planes costs.

    One unit is rounded in a PARTS-th of the layers at a time, without statistics of inputs, and the rest stays float; a layer's
    share of the KL is taken to be the same within a part.  ``stream``: the embedded tokens of sequences of ``lengths``;
    ``final``: logits of residual streams.
    """
    layers, tokens = model.config.layers, len(stream)
    parts = [range(at * layers // PARTS, (at + 1) * layers // PARTS) for at in range(PARTS)]
    #: The variants so far: which unit is rounded in which layers.  The first is the float model.
    variants: list[tuple[tuple[str, ...], range]] = [((), range(0))]
    x = stream
    for number in range(layers):
        new = [(unit, part) for part in parts if part and part[0] == number for unit in UNITS]
        x = np.concatenate([x, *[x[:tokens]] * len(new)])
        variants += new
        one = walk(Maths(model.config, [*lengths] * len(variants)), x, lambda name: model.gain(number, name), quantised=False)
        after: Stage | Floats = next(one)
        while isinstance(after, Stage):
            outputs = []
            for name in after.names:
                weights, bias = model.matrix(number, name), model.bias(number, name)
                y = after.inputs @ weights.T
                for i, (unit, part) in enumerate(variants):
                    if name in unit and number in part:
                        at = slice(i * tokens, (i + 1) * tokens)
                        y[at] = after.inputs[at] @ plain(weights, PLANES).T
                outputs.append(y if bias is None else y + bias.astype(np.float32))
            after = advance(one, outputs)
        x = after
        progress(1)
    measures = [Measure(1) for _ in variants]
    for first in range(0, tokens, _LOGITS):
        end = min(first + _LOGITS, tokens)
        exact = final(x[first:end])
        for i, measure in enumerate(measures[1:], 1):
            measure.add(exact, final(x[i * tokens + first:i * tokens + end]), [0] * (end - first))
    harm: list[dict[str, float]] = [{} for _ in range(layers)]
    for (unit, part), measure in zip(variants[1:], measures[1:], strict=True):
        for number in part:
            harm[number][unit[0]] = measure.loss().kl / len(part)
    return harm
