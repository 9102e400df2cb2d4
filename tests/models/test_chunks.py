# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Matrices are read some rows at a time.  A model is the same however many these are.

All other small models are read in one go, as their matrices have fewer elements than a chunk.
"""

import numpy as np
import pytest

from tellme.models import Model, source
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tests.models.folders import folder, kind_model, tensors_of
from tests.models.test_huggingface import assert_same
from tests.models.test_qat import checkpoint

GROUPS = {"w_bits": 0, "granularity": "per_group", "group_size": 32}


def both(path, monkeypatch, options=None):
    """The model in one go, and in pieces of some 20 rows, which end within halves and heads."""
    models = []
    for chunk in (source.CHUNK, 2000):
        monkeypatch.setattr(source, "CHUNK", chunk)
        opened = open_checkpoint(path, options or Options(no_tokenizer=True), lambda text: None)
        if chunk == 2000:
            assert len(list(source.row_chunks(*opened.config.shape("w1")))) > 2
        models.append(Model.read(opened))
    return models


def assert_same_integers(got, want):
    assert_same(got, want)
    for a, b in zip(got.layers, want.layers, strict=True):
        assert a.planes == b.planes and a.multipliers.keys() == b.multipliers.keys()
        for name, multipliers in a.multipliers.items():
            assert multipliers.group_slices == b.multipliers[name].group_slices
            assert np.array_equal(multipliers.values, b.multipliers[name].values)


@pytest.mark.parametrize("kind", ["bitnet-2b4t", "1bitllm", "trilm"])
def test_weights_of_files(kind, tmp_path, monkeypatch):
    tensors, _ = tensors_of(kind, kind_model(kind))
    assert_same_integers(*both(folder(tmp_path / "hf", kind, tensors), monkeypatch))


@pytest.mark.parametrize(("config", "clip", "options"), [
    ({}, True, None), (GROUPS | {"quant_method": "sherry"}, False, None),
    (GROUPS | {"quant_method": "ultraquantv2"}, False, None),
    ({"quant_method": "twn", "granularity": "per_tensor"}, False, None),
    ({}, False, Options(method="complex_phase_v2", no_tokenizer=True)),
])
def test_weights_of_floats(config, clip, options, tmp_path, monkeypatch):
    path, _, _ = checkpoint(tmp_path, config, clip=clip)
    assert_same_integers(*both(path, monkeypatch, options))
