# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Fairy2i: complex elements computed here as complex numbers, against the planes of the real form."""

import cmath
import math

import numpy as np
import pytest

from tellme.models import ModelError
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.fairy import Fairy, _phases
from tellme.models.importers.importing import Options
from tests.models.test_groups import assert_logits, float_model, floats, worth_of
from tests.models.test_huggingface import converted
from tests.models.test_qat import checkpoint


def stage(elements):
    """Elements times the mean magnitude of their kind, by their phase alone."""
    phases = np.vectorize(cmath.phase)(elements)
    quarter = np.floor((phases + math.pi / 4) / (math.pi / 2)).astype(int) % 4
    real, imag = quarter % 2 == 0, quarter % 2 == 1
    sizes = np.where(real, np.abs(elements.real)[real].mean(), np.abs(elements.imag)[imag].mean())
    return sizes * np.array([1, 1j, -1, -1j])[quarter]


def real_form(weight, stages):
    """What the model computes with: y = U x + W conj(x), as a real matrix."""
    n, m = weight.shape[0] // 2, weight.shape[1] // 2
    a = weight.astype(np.float64)
    a11, a12, a21, a22 = a[:n, :m], a[:n, m:], a[n:, :m], a[n:, m:]
    made = []
    for rest in ((a11 + a22) / 2 + 1j * (a21 - a12) / 2, (a11 - a22) / 2 + 1j * (a12 + a21) / 2):
        total = np.zeros_like(rest)
        for _ in range(stages):
            total = total + stage(rest - total)
        made.append(total)
    u, w = made
    return np.block([[u.real + w.real, w.imag - u.imag], [u.imag + w.imag, u.real - w.real]])


def test_phases_on_the_borders():
    """Those of torch.angle: a border belongs to the phase behind it, and zero is 1."""
    re, im = np.array([[1, -1, -1, 1, 0, 2, 0, -2, 0]]), np.array([[1, 1, -1, -1, 0, 0, 2, 0, -2]])
    real, imag = _phases(re.astype(np.float32), im.astype(np.float32))
    assert (real + 1j * imag).tolist() == [[1j, -1, -1j, 1, 1, 1, 1j, -1, -1j]]


@pytest.mark.parametrize(("method", "stages"), [("complex_phase_v1", 1), ("complex_phase_v2", 2)])
def test_stages(method, stages, tmp_path):
    """One stage: two planes, split where the middle of the columns is within a slice; exact but for the multipliers.  Two stages:
    four planes, and such a slice is coded anew."""
    path, model, found = checkpoint(tmp_path, {})
    options, heard = Options(method=method), []
    source = open_checkpoint(path, options, heard.append)
    assert f"weights: floats that the model quantises as it runs: {method}, {2 * stages} planes in two column halves" in heard
    weights = {}
    for (i, name), (weight, _) in found.items():
        order = np.arange(len(weight))
        if name in ("wq", "wk"):
            # The file has halves of heads where the linear has adjacent pairs.
            order = order.reshape(-1, 8, 2).swapaxes(1, 2).ravel()
        want = np.empty(weight.shape)
        want[order] = real_form(weight[order], stages)
        weights[i, name] = want
        if i:
            continue
        linear = source.linear(i, name)
        assert linear.planes == (4 if want.shape[1] // 2 % 20 else 2 * stages)
        off = np.abs(worth_of(linear) - want)
        middle = want.shape[1] // 2 // 20
        ends_in = np.arange(want.shape[1]) // 20 == middle
        if want.shape[1] // 2 % 20 and stages == 2:
            assert off[:, ends_in].max() <= np.abs(want).max() * (1 / 80 + 4 / 128)
            off = off[:, ~ends_in]
        assert off.max() <= np.abs(want).max() * 4 / 128
        assert off.mean() < np.abs(want).mean() / 100
    expected = float_model(model, weights)
    expected.head = real_form(floats(model.head, model.head_scales), stages)
    assert_logits(converted(path, tmp_path, options), expected)


class Floats:
    """Tensors of one matrix."""

    def __init__(self, matrix):
        self._matrix = matrix

    def shape(self, name):
        return self._matrix.shape

    def rows(self, name, first, end):
        return self._matrix[first:end]


@pytest.mark.parametrize(("matrix", "message"), [
    (np.ones((4, 5), "f4"), r"^x.weight has shape \(4, 5\); complex elements want even numbers$"),
    (np.ones((5, 4), "f4"), r"^x.weight has shape \(5, 4\); complex elements want even numbers$"),
    (np.array([[1, 2], [3, np.nan]], "f4"), "^x.weight holds an infinity or NaN$"),
])
def test_matrices_that_have_no_complex_form(matrix, message):
    with pytest.raises(ModelError, match=message):
        list(Fairy("complex_phase_v1").linear(Floats(matrix), "x", 0, None).chunks())


def test_refusals(tmp_path):
    path, _, _ = checkpoint(tmp_path, {"tie_word_embeddings": True})
    with pytest.raises(ModelError, match="complex_phase_v2 is of untied models whose files have floats"):
        converted(path, tmp_path, Options(method="complex_phase_v2"))
