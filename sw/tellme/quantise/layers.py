# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One layer: the statistics of its matrices' inputs, the matrices in the order in which they are computed, and their biases."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelConfig
from tellme.quantise.forward import Maths, int8, rms_norm
from tellme.quantise.solve import Solved, Statistics

__all__ = ["RESIDUAL", "FloatLayers", "FloatModel", "Matrix", "Stage", "Streams", "advance", "quantise_layer", "walk"]

Floats = NDArray[np.float32]

#: The matrices whose outputs are added to the residual stream, as they are or through a norm.
RESIDUAL = ("wo", "w2")
#: Runs of tokens, of which each of so many is left out of the fit of a target.
_RUNS, _HELD_OUT = 24, 4


class FloatLayers(Protocol):
    """The layers of a float model."""

    config: ModelConfig

    def matrix(self, layer: int, name: str) -> Floats:
        """A matrix (rows, columns)."""

    def bias(self, layer: int, name: str) -> NDArray[np.float16] | None:
        """The bias of a matrix, if it has one."""

    def gain(self, layer: int, name: str) -> NDArray[np.float16] | None:
        """The gain of a norm, if it has one."""


class FloatModel(FloatLayers, Protocol):
    """A float model: its layers, its tables, and what is written beside them."""

    name: str
    license: str
    tokenizer: bytes
    chat_template: str

    def final_norm(self) -> NDArray[np.float16] | None:
        """The gain of the norm ahead of the LM head, if it has one."""

    def floats(self, name: str) -> Iterator[Floats]:
        """Rows of ``embedding`` or ``head`` in chunks."""


class Matrix(NamedTuple):
    """A matrix as it is written, with its number of planes and its bias."""

    solved: Solved
    planes: int
    bias: NDArray[np.float16] | None


@dataclass
class Streams:
    """The residual streams of three models after the same layers: (tokens, dim).

    The tokens are those of the calibration's sequences, then those of the sequences that are measured.  ``exact``: the float
    model.  ``quantised``: the layers that are solved, with int8 activations.  ``rounded``: the float model with int8 activations,
    the measured tokens alone.
    """

    calibration: Sequence[int]
    measured: Sequence[int]
    exact: Floats
    quantised: Floats
    rounded: Floats


class Stage(NamedTuple):
    """Matrices that have the same ``inputs`` (tokens, columns), and the residual stream ahead of them."""

    names: tuple[str, ...]
    inputs: Floats
    residual: Floats


#: A layer that waits for the outputs of each stage, and ends with the residual stream.
Walk = Generator[Stage, list[Floats], Floats]


def walk(maths: Maths, x: Floats, gain: Callable[[str], NDArray[np.float16] | None], *, quantised: bool) -> Walk:
    """A layer between its matrices; ``quantised``: with int8 activations, q, K and V."""
    c = maths.config
    seen = int8 if quantised else _as_it_is

    def ahead(name: str, x: Floats) -> Floats:
        return x if c.vector_norms else rms_norm(x, gain(name), c.eps)

    def behind(name: str, y: Floats) -> Floats:
        return rms_norm(y, gain(name), c.eps) if c.vector_norms else y

    q, k, v = yield Stage(("wq", "wk", "wv"), seen(ahead("attn_norm", x)), x)
    heads = (maths.heads(q, gain("q_norm"), turned=True, quantised=quantised),
             maths.heads(k, gain("k_norm"), turned=True, quantised=quantised),
             maths.heads(v, None, turned=False, quantised=quantised))
    (o,) = yield Stage(("wo",), seen(maths.attention(*heads)), x)
    x = x + behind("attn_post_norm", o)
    gate, up = yield Stage(("w1", "w3"), seen(ahead("ffn_norm", x)), x)
    (down,) = yield Stage(("w2",), seen(maths.activation(gate, up)), x)
    return x + behind("ffn_post_norm", down)


def _as_it_is(x: Floats) -> Floats:
    return x


def _with_bias(y: Floats, bias: NDArray[np.floating] | None) -> Floats:
    return y if bias is None else y + bias.astype(np.float32)


def quantise_layer(model: FloatLayers, number: int, streams: Streams, planes: Mapping[str, int], group: int = 0,
                   progress: Callable[[int], object] = lambda weights: None) -> dict[str, Matrix]:
    """Solve a layer's matrices with ``planes`` each, and take the streams through it.

    ``group``: columns of a group with multipliers, or 0.  ``progress`` hears the weights of each matrix that is done.
    """
    both = [*streams.calibration, *streams.measured]
    maths, small = Maths(model.config, both), Maths(model.config, streams.measured)
    tokens = sum(streams.calibration)

    def gain(name: str) -> NDArray[np.float16] | None:
        return model.gain(number, name)

    walks = (walk(maths, streams.exact, gain, quantised=False), walk(maths, streams.quantised, gain, quantised=True),
             walk(small, streams.rounded, gain, quantised=True))
    exact, quantised, rounded = (next(one) for one in walks)
    found: dict[str, Matrix] = {}
    while True:
        outputs: tuple[list[Floats], list[Floats], list[Floats]] = ([], [], [])
        # What is lost of the residual stream is made up for where outputs are added to the stream as they are, and no bias is.
        seen = _Seen(exact, quantised, tokens, residual=exact.names[0] in RESIDUAL and not model.config.vector_norms)
        for name in exact.names:
            weights, bias = model.matrix(number, name), model.bias(number, name)
            wanted = exact.inputs @ weights.T
            matrix = found[name] = seen.solve(name, weights, wanted, bias, planes[name], group)
            outputs[0].append(_with_bias(wanted, bias))
            outputs[1].append(_with_bias(quantised.inputs @ matrix.solved.values().T, matrix.bias))
            outputs[2].append(_with_bias(rounded.inputs @ weights.T, bias))
            progress(weights.size)
        after = [advance(one, part) for one, part in zip(walks, outputs, strict=True)]
        stages = [one for one in after if isinstance(one, Stage)]
        if not stages:
            streams.exact, streams.quantised, streams.rounded = (one for one in after if not isinstance(one, Stage))
            return found
        exact, quantised, rounded = stages


def advance(one: Walk, outputs: list[Floats]) -> Stage | Floats:
    """The next stage of a layer that gets the outputs of the last, or the residual stream behind the layer."""
    try:
        return one.send(outputs)
    except StopIteration as end:
        value: Floats = end.value
        return value


class _Seen:
    """The statistics of the inputs of some matrices, of the first ``tokens`` tokens."""

    def __init__(self, exact: Stage, quantised: Stage, tokens: int, *, residual: bool):
        self._tokens, self._residual = tokens, residual
        self._inputs = quantised.inputs[:tokens]
        self._mean: Floats | None = None
        if self._residual:
            # What the layers before have lost of the residual stream.
            self._lost = exact.residual[:tokens] - quantised.residual[:tokens]
        else:
            self._mean = self._inputs.mean(axis=0)
            self._inputs = self._inputs - self._mean
        #: The tokens that the target is fitted to; the others tell how far the fit may go.
        self._fitted = np.arange(tokens) * _RUNS // tokens % _HELD_OUT != 0
        self._parts = self._inputs[self._fitted], self._inputs[~self._fitted]
        self._statistics = Statistics(*(part.T @ part for part in self._parts))

    def _target(self, weights: Floats, wanted: Floats) -> Floats:
        """The matrix that gives outputs (tokens, rows) best."""
        return self._statistics.target(weights, wanted[self._fitted].T @ self._parts[0], wanted[~self._fitted].T @ self._parts[1])

    def solve(self, name: str, weights: Floats, wanted: Floats, bias: NDArray[np.float16] | None, planes: int,
              group: int) -> Matrix:
        """A matrix for the outputs ``wanted``, without the float model's ``bias``.

        The bias of a matrix whose outputs are added to the residual stream as they are stays as it is; another one makes up for
        the mean of the error.
        """
        wanted = wanted[:self._tokens]
        if self._residual:
            target = self._target(weights, wanted + self._lost)
            return Matrix(self._statistics.solve(target, planes, group), planes, bias)
        assert self._mean is not None
        mean = wanted.mean(axis=0)
        solved = self._statistics.solve(self._target(weights, wanted - mean), planes, group)
        return Matrix(solved, planes, _with_bias(mean - solved.values() @ self._mean, bias).astype(np.float16))
