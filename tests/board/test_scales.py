# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Several scales per matrix through the RTL: each tile's header carries the tile's scales."""

import numpy as np
import pytest

from tellme.compiler.image import compile_model
from tellme.golden.perplexity import golden_board
from tellme.runtime.generation import Generation
from tests.board.compare import compare, open_sim
from tests.models.random_model import random_model, with_several_scales

pytestmark = pytest.mark.rtl


@pytest.mark.parametrize("name", ["grouped", "wide-heads"])
def test_several_scales(device, name):
    """Row blocks of every kind, down to a scale a row: 3 prompt and 3 generated tokens, all logits and all steps."""
    model = with_several_scales(random_model(name))
    assert any(len(layer.blocks(n)) > 1 for layer in model.layers for n in layer.weights)
    prompt = [int(t) for t in np.random.default_rng(len(name)).integers(0, model.config.vocab, 3)]
    assert compare(device, model, prompt, 3).positions == 5


def test_scales_that_change_within_a_head():
    """On a build with chunks of sixteen tokens such a model is fed token by token, with the golden model's picks."""
    model = with_several_scales(random_model("grouped"))
    wide = open_sim("ulx3s-85f")
    try:
        image = compile_model(model, wide.config(model))
        assert not image.whole_heads
        wide.load(image, lambda done, total: None)
        prompt = [int(t) for t in np.random.default_rng(4).integers(0, model.config.vocab, 18)]
        ids = list(Generation(device=wide, image=image, config=model.config, prompt=prompt, max_tokens=2).tokens())
    finally:
        wide.close()
    golden = golden_board(model)
    assert ids[0] == int(golden.feed(prompt, 0)[-1].argmax())
    assert ids[1] == int(golden.feed(ids[:1], 18)[-1].argmax())
