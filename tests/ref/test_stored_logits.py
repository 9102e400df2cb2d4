# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Golden and float pass against the logits that transformers gave for random models (make_reference), and what would be found.

The float pass is the same mathematics in the same precision.  It shows that the golden model's difference comes from its number
formats.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from tellme import reference
from tellme.golden.perplexity import golden_board
from tellme.models import Model
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tests.models.folders import halves
from tests.ref.make_reference import FILE, MOST_BYTES
from tests.ref.measures import FLIPS, limit, measure
from tests.ref.shapes import SHAPES, digest, prompt, shape_model, write_folder

STORED = np.load(FILE)
ABOUT = json.loads(str(STORED["about"]))


def golden(model, name):
    return golden_board(model).feed(prompt(name), 0, heads="all") / 65536


def test_the_file_is_whole_and_small():
    assert set(ABOUT["models"]) == set(SHAPES) and set(STORED.files) == {"about", *SHAPES} and len(SHAPES) >= 6
    assert FILE.stat().st_size <= MOST_BYTES and set(ABOUT["versions"]) == {"torch", "transformers"}


def test_shapes_cover_what_they_should():
    configs = [s.config for s in SHAPES.values()]
    assert {c.head_dim for c in configs} == {32, 64, 96, 128} and {c.act for c in configs} == {"silu", "relu2"}
    assert {c.tied for c in configs} == {c.o_norm for c in configs} == {c.heads > c.kv_heads for c in configs} == {True, False}
    assert any(c.dim % 20 and c.dim % 32 and c.ffn % 20 and c.ffn % 32 for c in configs)
    assert {(m["class"], m["linear"]) for m in ABOUT["models"].values()} == {
        (c, n) for c in ("BitNetForCausalLM", "LlamaForCausalLM") for n in ("autobitlinear", "bitlinear")}


@pytest.mark.parametrize("name", SHAPES)
def test_golden_is_near_transformers(name, tmp_path):
    """Through the folder that transformers read: converted, it is the model again, bit for bit."""
    model = shape_model(name)
    about = ABOUT["models"][name]
    assert digest(model) == about["digest"], "the model is not the one of the file: run python -m tests.ref.make_reference"
    assert SHAPES[name].linear == about["linear"]
    source = open_checkpoint(write_folder(model, SHAPES[name].linear, tmp_path / "hf"), Options(no_tokenizer=True), print)
    converted = Model.read(source)
    assert converted.config == model.config
    got = golden(converted, name)
    assert np.array_equal(got, golden(model, name))
    measure(got, STORED[name]).check(model.config.layers)


@pytest.mark.parametrize("name", SHAPES)
def test_the_float_pass_is_transformers(name, tmp_path):
    model = shape_model(name)
    model.save(tmp_path / "m.tellme")
    got = reference.forward(reference.read_container(tmp_path / "m.tellme"), prompt(name))
    assert measure(got, STORED[name]).mean < FLIPS


def pairs_not_moved(model):
    """RoPE's pairs half a head apart, as transformers has them."""
    for layer in model.layers:
        layer.weights["wk"] = halves(layer.weights["wk"], model.config.head_dim)


def scale_the_other_way(model):
    for layer in model.layers:
        layer.scales["wo"] = layer.scales["wo"]._replace(exp=-layer.scales["wo"].exp - 20)


def no_sub_norm_gain(model):
    for layer in model.layers:
        layer.gains.pop("o_norm", None)


def other_activation(model):
    model.config = replace(model.config, act="silu" if model.config.act == "relu2" else "relu2")


def other_theta(model):
    model.config = replace(model.config, theta=model.config.theta / 4)


@pytest.mark.parametrize("change", [pairs_not_moved, scale_the_other_way, no_sub_norm_gain, other_activation, other_theta])
def test_a_wrong_reading_is_found(change):
    """Each mistake that an import could make passes the limit by far."""
    model = shape_model("bitnet-silu")
    change(model)
    assert measure(golden(model, "bitnet-silu"), STORED["bitnet-silu"]).mean > 2 * limit(model.config.layers)
