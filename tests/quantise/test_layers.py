# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A layer in float32 against formulas written in another way, and with int8 activations against the golden model."""

from dataclasses import replace

import numpy as np
import pytest

from tellme import reference
from tellme.golden.perplexity import golden_board
from tellme.models.int8 import float_rows
from tellme.quantise.forward import Maths, int8, rms_norm
from tellme.quantise.layers import Stage, advance, walk
from tests.models.random_model import FAMILY, model_of

CONFIG = replace(FAMILY["head-norms"][0], eps=1e-5)


def layers_of(model, ids, *, quantised):
    """The residual stream of sequences behind all layers of a model in memory."""
    x = float_rows(model.embedding, model.embedding_scales)[np.concatenate(ids)]
    maths = Maths(model.config, [*map(len, ids)])
    for layer in model.layers:
        one = walk(maths, x, layer.gains.get, quantised=quantised)
        after = next(one)
        while isinstance(after, Stage):
            weights = [layer.weights[name] * np.float32(layer.scales[name].value()) for name in after.names]
            after = advance(one, [after.inputs @ w.T for w in weights])
        x = after
    return x


def logits_of(model, x, *, quantised):
    h = rms_norm(x, model.final_gain, model.config.eps)
    codes, scales = (model.embedding, model.embedding_scales) if model.head is None else (model.head, model.head_scales)
    return (int8(h) if quantised else h) @ float_rows(codes, scales).T


@pytest.mark.parametrize("name", ["plain", "head-norms", "vector-norms"])
def test_int8_activations_are_the_boards(name):
    model = model_of(CONFIG if name == "head-norms" else FAMILY[name][0], gains=True, name=name)
    ids = [[1, 5, 9, 33, 2, 7, 60, 11], [1, 70, 3]]
    got = logits_of(model, layers_of(model, ids, quantised=True), quantised=True)
    board = golden_board(model)
    golden = np.concatenate([board.feed(part, 0, heads="all") for part in ids]) / 65536
    # Codes that round the other way because of binary16 are what is left.
    assert np.abs(got - golden).mean() / golden.std() < 0.02


@pytest.mark.parametrize("name", ["head-norms", "vector-norms"])
def test_floats_are_the_reference(name, tmp_path):
    """The float mathematics, with the rounding of each matrix's input put in, are those of the float reference."""
    model = model_of(FAMILY[name][0], gains=True, name=name)
    model.save(tmp_path / "m.tellme")
    ids = [1, 5, 9, 33, 2, 7, 60, 11]
    float_model = reference.read_container(tmp_path / "m.tellme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "bitlinear",
                      lambda x, codes, scale: (x @ codes.T.astype(np.float32)) * np.asarray(scale, np.float32))
        expected = reference.forward(float_model, ids)
    got = logits_of(model, layers_of(model, [ids], quantised=False), quantised=False)
    assert np.abs(got - expected).max() < 1e-4 * expected.std()


def test_each_stage_has_int8_inputs_and_each_head_a_scale():
    model = model_of(CONFIG, gains=True)
    x = float_rows(model.embedding, model.embedding_scales)[[1, 5, 9]]
    layer, maths = model.layers[0], Maths(CONFIG, [3])
    one = walk(maths, x, layer.gains.get, quantised=True)
    after, stages = next(one), []
    while isinstance(after, Stage):
        stages.append(after.names)
        codes = after.inputs / (np.abs(after.inputs).max(axis=1, keepdims=True) / 127)
        assert np.abs(codes - np.rint(codes)).max() < 1e-3
        after = advance(one, [after.inputs @ layer.weights[name].T.astype(np.float32) for name in after.names])
    assert stages == [("wq", "wk", "wv"), ("wo",), ("w1", "w3"), ("w2",)]
    y = np.random.default_rng(1).normal(size=(3, CONFIG.kv_dim)).astype(np.float32)
    heads = maths.heads(y, None, turned=False, quantised=True)
    codes = heads / (np.abs(heads).max(axis=-1, keepdims=True) / 127)
    assert np.abs(codes - np.rint(codes)).max() < 1e-3
    assert np.abs(heads - y.reshape(heads.shape)).max() <= np.abs(y).max() / 254 * 1.001


def test_floats_are_attention_by_its_formula():
    rng = np.random.default_rng(2)
    lengths = [300, 5]
    maths = Maths(CONFIG, lengths)
    c = CONFIG
    y = [rng.normal(size=(305, rows)).astype(np.float32) for rows in (c.q_dim, c.kv_dim, c.kv_dim)]
    gain = rng.uniform(0.5, 2, c.head_dim).astype(np.float16)
    got = maths.attention(maths.heads(y[0], gain, turned=True, quantised=False),
                          maths.heads(y[1], gain, turned=True, quantised=False),
                          maths.heads(y[2], None, turned=False, quantised=False))
    for part in (slice(0, 300), slice(300, 305)):
        q, k = (reference.rotate(reference.rms(a[part].reshape(-1, n, c.head_dim), gain, c.eps), c.theta)
                for a, n in ((y[0], c.heads), (y[1], c.kv_heads)))
        v = y[2][part].reshape(-1, c.kv_heads, c.head_dim)
        for position in (0, len(q) // 2, len(q) - 1):
            for head in range(c.heads):
                kv = head // (c.heads // c.kv_heads)
                scores = np.exp(k[:position + 1, kv] @ q[position, head] / np.sqrt(c.head_dim))
                wanted = scores @ v[:position + 1, kv] / scores.sum()
                at = slice(head * c.head_dim, (head + 1) * c.head_dim)
                assert np.allclose(got[part][position, at], wanted, rtol=1e-3, atol=1e-4)


def test_int8_of_zeros():
    assert not int8(np.zeros((2, 5), np.float32)).any()
