# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Several scales per matrix, planes, biases and LM heads of six planes through the RTL: a tile's header or the words of its rows
carry scales and biases."""

import numpy as np
import pytest

from tellme.compiler.image import compile_model
from tellme.golden.perplexity import golden_board
from tellme.models.source import Block
from tellme.runtime.generation import Generation
from tellme.spec.scale import SCALE_RANGES, Scale
from tests.board.compare import compare, open_sim
from tests.models.random_model import (
    random_model,
    with_groups,
    with_head_codes,
    with_planes,
    with_row_scales,
    with_several_scales,
)

pytestmark = pytest.mark.rtl


@pytest.mark.parametrize("name", ["grouped", "wide-heads"])
def test_several_scales(device, name):
    """Row blocks of every kind, down to a scale a row: 3 prompt and 3 generated tokens, all logits and all steps."""
    model = with_several_scales(random_model(name))
    assert any(len(layer.blocks(n)) > 1 for layer in model.layers for n in layer.weights)
    prompt = [int(t) for t in np.random.default_rng(len(name)).integers(0, model.config.vocab, 3)]
    assert compare(device, model, prompt, 3).positions == 5


def with_all(model):
    """Matrices of 1 to 5 planes, a scale and (but of o and down) a bias a row, and a head of six planes."""
    model = with_head_codes(with_row_scales(with_planes(model)), 127)
    rng = np.random.default_rng(5)
    for layer in model.layers:
        layer.biases |= {n: rng.normal(size=len(layer.weights[n])).astype(np.float16) for n in ("wq", "wk", "wv", "w1", "w3")}
    return model


@pytest.mark.parametrize("name", ["grouped", "untied"])
def test_planes_row_words_and_biases(device, name):
    model = with_all(random_model(name))
    prompt = [int(t) for t in np.random.default_rng(len(name)).integers(0, model.config.vocab, 3)]
    assert compare(device, model, prompt, 3).positions == 5


def test_in_chunks_and_token_by_token():
    """On a build with chunks of sixteen tokens: rows with words of their own, all that planes bring, and column groups, in
    chunks; scales that change within a head and that no row's word holds, token by token.  The picks are the golden model's."""
    tiny = random_model("grouped")
    scale = tiny.layers[0].blocks("wk")[0].scale
    tiny.layers[0].scales["wk"] = Block(6, scale), Block(10, Scale(1500, SCALE_RANGES["exp"].least // 2))
    wide = open_sim("ulx3s-85f")
    try:
        for model, chunks in ((with_several_scales(random_model("grouped")), True), (with_all(random_model("plain")), True),
                              (with_groups(with_all(random_model("untied"))), True), (tiny, False)):
            image = compile_model(model, wide.config(model))
            assert image.whole_heads == chunks
            wide.load(image, lambda done, total: None)
            prompt = [int(t) for t in np.random.default_rng(4).integers(0, model.config.vocab, model.config.context - 3)]
            ids = list(Generation(device=wide, image=image, config=model.config, prompt=prompt, max_tokens=2).tokens())
            golden = golden_board(model)
            logits = golden.feed(prompt, 0)[-1]
            assert ids[0] == int(logits.argmax())
            assert ids[1] == int(golden.feed(ids[:1], len(prompt))[-1].argmax())
            assert wide.crcs() == golden.crcs[:-1]
    finally:
        wide.close()
