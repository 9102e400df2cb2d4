# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Fairy2i: real matrices that stand for complex ones whose elements are 1, -1, i or -i, in one or two stages.

A matrix A of 2n x 2m floats is four blocks A11, A12, A21, A22, and

    U = (A11 + A22) / 2 + i (A21 - A12) / 2,        W = (A11 - A22) / 2 + i (A12 + A21) / 2

A stage turns each element of U into the one of 1, -1, i, -i with the nearest phase, times the mean magnitude of the parts that
became real, or of those that became imaginary; a second stage does so with the rest.  W the same.  The real form is

    A11' = U_re + W_re    A12' = W_im - U_im    A21' = W_im + U_im    A22' = U_re - W_re

Each of U and W of a stage is one plane: a weight of it is 0, or plus or minus the number of its column half, as one of the real
and the imaginary part is 0.  So one stage (the authors' complex_phase_v1) is two planes, two (complex_phase_v2: Fairy2i-W2) are
four, whose trits are worth a number in each half of the columns (:mod:`tellme.models.importers.grouped`).  Three and four stages
would be six and eight planes, and MAX_LINEAR_PLANES is 5.  The model makes its LM head so too, which becomes int8 rows.

Read: model_module/qat_modules.py (InferenceOptimizedComplexPhase) and README.md of PKULab1806/Fairy2i-W2.  The folder that
the authors publish has the floats, under the names of LLaMA, and no key that says how they are meant, so that the user says so.
The arithmetic here is that of float32; the authors' program takes the type in which the model is loaded.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tellme.models.config import ModelError
from tellme.models.importers.grouped import Part, grouped
from tellme.models.importers.tensors import Tensors
from tellme.models.importers.ternary import halves_to_pairs
from tellme.models.source import Linear, row_chunks

__all__ = ["METHODS", "Fairy"]

#: The authors' names of the methods -> their stages.
METHODS = {"complex_phase_v1": 1, "complex_phase_v2": 2}
#: A mean magnitude is at least this.
_LEAST = 1e-6

Rows = NDArray[np.float32]


def _phases(re: Rows, im: Rows) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """The nearest of 1, -1, i, -i, as real and imaginary parts; of two that are as near, the one behind counter-clockwise, and 1
    of zero."""
    real = ((re > 0) & (-re <= im) & (im < re)).astype(np.int8) - ((re < 0) & (re < im) & (im <= -re)).astype(np.int8)
    imag = ((im > 0) & (-im < re) & (re <= im)).astype(np.int8) - ((im < 0) & (im <= re) & (re < -im)).astype(np.int8)
    return real + ((re == 0) & (im == 0)).astype(np.int8), imag


class Fairy:
    """How the floats of a checkpoint become weights, in so many stages."""

    def __init__(self, method: str):
        self.method, self.stages = method, METHODS[method]
        self._scales: dict[str, list[NDArray[np.float64]]] = {}

    def __str__(self) -> str:
        return f"{self.method}, {2 * self.stages} planes in two column halves"

    def beside(self, base: str) -> set[str]:
        """No tensor stands beside a matrix."""
        return set()

    def width(self, name: str, cols: int) -> int | None:
        """No groups of one magnitude."""
        return None

    def bias(self, tensors: Tensors, base: str, head_dim: int) -> None:
        """No bias follows from the weights."""

    def linear(self, tensors: Tensors, base: str, head_dim: int, bias: NDArray[np.float16] | None) -> Linear:
        """A matrix."""
        name = f"{base}.weight"
        rows, cols = _shape(tensors, name)

        def parts() -> Iterator[Part]:
            scales = self._found(tensors, name)
            for first, end in row_chunks(rows, cols, head_dim or 1):
                trits, worth = self._part(tensors, name, scales, first, end)
                if head_dim:
                    order = halves_to_pairs(np.arange(end - first), head_dim)
                    trits, worth = trits[:, order], worth[:, :, order]
                yield Part(trits, worth)

        return grouped(name, (rows, cols), 2 * self.stages, cols // 2, parts, bias)

    def floats(self, tensors: Tensors, name: str) -> Iterator[Rows]:
        """The rows of a matrix as the model computes with them."""
        rows, cols = _shape(tensors, name)
        scales = self._found(tensors, name)
        for first, end in row_chunks(rows, cols):
            trits, worth = self._part(tensors, name, scales, first, end)
            halves = trits.reshape(*trits.shape[:2], 2, -1)
            yield (halves * worth.transpose(0, 2, 1)[..., None]).sum(axis=0).reshape(end - first, cols).astype(np.float32)

    # Stages

    def _part(self, tensors: Tensors, name: str, scales: list[NDArray[np.float64]], first: int, end: int) -> Part:
        """Rows of the real form: planes U and W of each stage, and what they are worth in both halves of the columns."""
        half = tensors.shape(name)[0] // 2
        trits: list[list[NDArray[np.int8]]] = [[] for _ in range(2 * self.stages)]
        worth: list[list[NDArray[np.float64]]] = [[] for _ in range(2 * self.stages)]
        for begin, stop, top in ((first, min(end, half), True), (max(first, half), end, False)):
            if begin >= stop:
                continue
            at = begin if top else begin - half
            for stage, phases in enumerate(self._stages(_complex(tensors, name, at, at + stop - begin), scales)):
                for number, ((re, im), sizes) in enumerate(zip(phases, scales[stage], strict=True)):
                    # Of U: (re, -im) above (im, re); of W: (re, im) above (im, -re).
                    sides = ((re, -im) if top else (im, re)) if number == 0 else ((re, im) if top else (im, -re))
                    trits[2 * stage + number].append(np.concatenate(sides, axis=1))
                    worth[2 * stage + number].append(np.repeat((sizes if top else sizes[::-1])[:, None], stop - begin, axis=1))
        return Part(np.stack([np.concatenate(plane) for plane in trits]), np.stack([np.concatenate(w, axis=1) for w in worth]))

    def _stages(self, pairs: list[tuple[Rows, Rows]], scales: list[NDArray[np.float64]],
                ) -> Iterator[list[tuple[NDArray[np.int8], NDArray[np.int8]]]]:
        """The phases of U and of W in each stage whose scales are known."""
        rest = pairs
        for sizes in scales:
            phases = [_phases(re, im) for re, im in rest]
            yield phases
            rest = [(re - real * np.float32(size[0]), im - imag * np.float32(size[1]))
                    for (re, im), (real, imag), size in zip(rest, phases, sizes, strict=True)]

    def _found(self, tensors: Tensors, name: str) -> list[NDArray[np.float64]]:
        """The scales of each stage: (U and W, real and imaginary)."""
        if name not in self._scales:
            scales: list[NDArray[np.float64]] = []
            half, cols = tensors.shape(name)[0] // 2, tensors.shape(name)[1]
            for _ in range(self.stages):
                sums, counts = np.zeros((2, 2)), np.zeros((2, 2))
                for first, end in row_chunks(half, cols):
                    rest = _complex(tensors, name, first, end)
                    for phases, sizes in zip(self._stages(rest, scales), scales, strict=True):
                        rest = [(re - real * np.float32(size[0]), im - imag * np.float32(size[1]))
                                for (re, im), (real, imag), size in zip(rest, phases, sizes, strict=True)]
                    for number, (re, im) in enumerate(rest):
                        for side, (values, phase) in enumerate(zip((re, im), _phases(re, im), strict=True)):
                            sums[number, side] += np.abs(values[phase != 0]).sum(dtype=np.float64)
                            counts[number, side] += np.count_nonzero(phase)
                scales.append(np.maximum(sums / np.maximum(counts, 1), _LEAST))
            self._scales[name] = scales
        return self._scales[name]


def _shape(tensors: Tensors, name: str) -> tuple[int, int]:
    rows, cols = tensors.shape(name)
    if rows % 2 or cols % 2:
        raise ModelError(f"{name} has shape {(rows, cols)}; complex elements want even numbers")
    return rows, cols


def _complex(tensors: Tensors, name: str, first: int, end: int) -> list[tuple[Rows, Rows]]:
    """Some rows of U and of W."""
    rows, cols = tensors.shape(name)
    blocks = []
    for start in (first, first + rows // 2):
        part = tensors.rows(name, start, start + end - first).astype(np.float32)
        if not np.isfinite(part).all():
            raise ModelError(f"{name} holds an infinity or NaN")
        blocks += [part[:, :cols // 2], part[:, cols // 2:]]
    a11, a12, a21, a22 = blocks
    half = np.float32(0.5)
    return [(half * (a11 + a22), half * (a21 - a12)), (half * (a11 - a22), half * (a12 + a21))]
