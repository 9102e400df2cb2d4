# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Models that are drawn while they are read."""

import numpy as np
import pytest

from tellme.compiler import compile_model
from tellme.golden.perplexity import unlimited_config
from tellme.models import Model
from tellme.models.config import LINEARS
from tellme.models.random import RandomModel
from tests.models.random_model import FAMILY


@pytest.mark.parametrize("name", FAMILY)
def test_image_is_that_of_the_same_model_in_memory(name):
    config = FAMILY[name][0]
    drawn = RandomModel(name, config)
    drawn.check()
    whole = Model.read(drawn)
    one, other = (compile_model(model, unlimited_config(model)) for model in (drawn, whole))
    assert [(at, bytes(part)) for at, part in one.sections] == [(at, bytes(part)) for at, part in other.sections]
    assert one.program == other.program
    for weights in (whole.layers[-1].weights[linear] for linear in LINEARS):
        assert set(np.unique(weights)) == {-1, 0, 1}


def test_rows_are_those_of_the_table_in_any_order():
    config = FAMILY["untied"][0]
    model = RandomModel("rows", config.__class__(**vars(config) | {"vocab": 2500}))
    ids = np.array([2499, 3, 1024, 3, 1023])
    for name in ("embedding", "head"):
        parts = list(model.table(name))
        codes, scales = (np.concatenate([part[i] for part in parts]) for i in range(2))
        rows = model.rows(name, ids)
        assert len(codes) == 2500 and (rows.codes == codes[ids]).all() and (rows.scales == scales[ids]).all()
    assert (model.rows("head", ids).codes != model.rows("embedding", ids).codes).any()
