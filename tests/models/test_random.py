# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Models of a shape alone: they are models, the same ones each time, and their weights are spread evenly."""

import numpy as np
import pytest

from tellme.models import LINEARS, Model, ModelConfig, ModelError
from tellme.models.container import Container
from tellme.models.random import random_model
from tellme.models.trits import pack_rows
from tellme.spec.packing import HEAD_CODE

#: Widths that are multiples of 20, of 5 and of neither.
CONFIG = ModelConfig(dim=60, ffn=164, layers=2, heads=3, kv_heads=1, head_dim=16, vocab=203, context=24, tied=False, o_norm=True,
                     down_norm=True)


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_of_a_shape_is_one(tied, tmp_path):
    """It passes all checks, and a container of it has the same parts: packed rows are those of its codes."""
    config = ModelConfig(**{**CONFIG.as_json(), "tied": tied, "more_ends": ()})
    model = random_model("some", config)
    model.check()
    whole = Model.read(model)
    whole.save(tmp_path / "model.tellme")
    stored = Container(tmp_path / "model.tellme")
    stored.check()
    for layer in range(config.layers):
        for name in LINEARS:
            codes, blocks = model.linear(layer, name).read()
            assert codes.shape == config.shape(name)
            packed = np.concatenate(list(model.linear(layer, name).packed(name)))
            assert np.array_equal(packed, pack_rows(codes))
            assert np.array_equal(packed, np.concatenate(list(stored.linear(layer, name).packed(name))))
            assert blocks == stored.linear(layer, name).blocks()
    for name in ("embedding",) if tied else ("embedding", "head"):
        ids = np.array([202, 0, 7])
        table = np.concatenate([part.codes for part in model.table(name)])
        assert table.shape == (203, 60) and np.array_equal(model.rows(name, ids).codes, table[ids])
        # As made from floats: a head's codes fit five planes.
        assert np.abs(table.astype(int)).max() == (HEAD_CODE if tied or name == "head" else 127)


def test_planes_row_scales_and_biases(tmp_path):
    """A model of several planes, and its container; matrices that are not named have one plane."""
    planes = {"wq": 3, "w2": 5, "w1": 2}
    model = random_model("some", CONFIG, planes=planes, row_scales=True, biases=("wk", "w3"))
    model.check()
    Model.read(model).save(tmp_path / "model.tellme")
    stored = Container(tmp_path / "model.tellme")
    for layer in range(CONFIG.layers):
        for name in LINEARS:
            linear, again = model.linear(layer, name), stored.linear(layer, name)
            assert linear.planes == again.planes == planes.get(name, 1)
            (codes, blocks), (read, same) = linear.read(), again.read()
            assert np.array_equal(codes, read) and blocks == same
            # A scale a row, of which neighbours rarely agree.
            assert sum(b.rows for b in blocks) == len(codes) and len(blocks) > 0.9 * len(codes)
            assert (linear.bias is not None) == (name in ("wk", "w3"))
            assert linear.bias is None or np.array_equal(linear.bias, again.bias)
    assert {layer.planes.get("wk", 1) for layer in Model.read(random_model("some", CONFIG, planes=4)).layers} == {4}
    with pytest.raises(ModelError, match="w2 has 6 planes; 1 to 5 can be"):
        random_model("some", CONFIG, planes={"w2": 6})


def test_each_weight_of_several_planes_is_as_likely():
    config = ModelConfig(dim=500, ffn=900, layers=1, heads=1, kv_heads=1, head_dim=16, vocab=8, context=8)
    codes, ((_, scale),) = random_model("some", config, planes=3).linear(0, "w2").read()
    counts = np.bincount(codes.reshape(-1) + 13, minlength=27)
    # Of 450,000; six standard deviations are 760.
    assert len(counts) == 27 and (abs(counts - 450_000 / 27) < 760).all()
    # A row of random signs gives values as large as with one plane.
    one = random_model("some", config).linear(0, "w2").blocks()[0].scale
    assert codes.std() * float(scale.value()) == pytest.approx((2 / 3) ** 0.5 * float(one.value()), rel=2e-3)


def test_weights_follow_from_name_and_place():
    """Equal names give equal models; layers, matrices and names differ from one another."""
    drawn = {(name, layer, linear): random_model(name, CONFIG).linear(layer, linear).read()[0].tobytes()
             for name in ("a", "b") for layer in range(2) for linear in ("w1", "w3")}
    assert len(set(drawn.values())) == 8
    assert random_model("a", CONFIG).linear(1, "w3").read()[0].tobytes() == drawn["a", 1, "w3"]


def test_each_weight_is_as_likely():
    config = ModelConfig(dim=500, ffn=900, layers=1, heads=1, kv_heads=1, head_dim=16, vocab=8, context=8)
    codes = random_model("some", config).linear(0, "w2").read()[0]
    for value in (-1, 0, 1):
        # Of 450,000; six standard deviations are 1,900.
        assert abs((codes == value).sum() - 150_000) < 1_900
