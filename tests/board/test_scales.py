# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Several scales a matrix through the RTL: each tile's header carries its own, so that the engine needs nothing new."""

import numpy as np
import pytest

from tests.board.compare import compare, open_sim
from tests.models.random_model import random_model, with_several_scales

pytestmark = pytest.mark.rtl


@pytest.fixture(scope="module")
def device():
    device = open_sim()
    yield device
    device.close()


@pytest.mark.parametrize("name", ["grouped", "wide-heads"])
def test_several_scales(device, name):
    """Row blocks of every kind, down to a scale a row: 3 prompt and 3 generated tokens, all logits and all steps."""
    model = with_several_scales(random_model(name))
    assert any(len(layer.blocks(n)) > 1 for layer in model.layers for n in layer.weights)
    prompt = [int(t) for t in np.random.default_rng(len(name)).integers(0, model.config.vocab, 3)]
    assert compare(device, model, prompt, 3).positions == 5
