# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Where a budget is spent, and by what."""

import numpy as np
import pytest

from tellme.errors import InputError
from tellme.models.config import LINEARS
from tellme.models.importers.checkpoints import open_floats
from tellme.quantise.harm import harm_of_planes
from tellme.quantise.plan import GOOD_START, UNITS, auto_plan
from tests.quantise.checkpoint import CONFIG, float_folder, tensors_of

EVEN = [{unit[0]: 1.0 for unit in UNITS} for _ in range(CONFIG.layers)]


def test_a_part_that_three_planes_hold_costs_nothing(tmp_path):
    tensors = tensors_of()
    rng = np.random.default_rng(4)
    for name, value in tensors.items():
        if "layers.1" in name and "down_proj" in name:
            codes = rng.integers(-13, 14, value.shape)
            codes[:, 0] = 13
            tensors[name] = (codes * 0.01).astype(np.float32)
    model = open_floats(float_folder(tmp_path / "model", tensors=tensors), lambda text: None)
    table = np.concatenate(list(model.floats("embedding")))
    harm = harm_of_planes(model, [9, 5], table[rng.integers(0, CONFIG.vocab, 14)], lambda x: x @ table.T)
    assert [sorted(layer) for layer in harm] == 2 * [sorted(unit[0] for unit in UNITS)]
    assert harm[1]["w2"] < 1e-6 * harm[0]["w2"]
    assert all(value > 0 for name, value in harm[1].items() if name != "w2")


def test_what_harms_most_gets_the_planes():
    harm = [dict(layer) for layer in EVEN]
    harm[1]["wk"] = 1e4
    plan = auto_plan(CONFIG, harm, {"w2": 2}, group=0, head_code=121, bits=2.4)
    assert plan.planes[1]["wk"] == max(layer[name] for layer in plan.planes for name in LINEARS) > plan.planes[0]["wk"]
    assert [layer["w2"] for layer in plan.planes] == [2, 2]
    assert all(layer["w1"] == layer["w3"] for layer in plan.planes)


def test_without_a_measure_planes_go_where_they_mostly_help():
    def planes(**budget):
        return [dict(layer) for layer in auto_plan(CONFIG, None, {}, group=0, head_code=121, **budget).planes]

    assert planes() == [GOOD_START] * CONFIG.layers
    assert {count for layer in planes(bits=1.9) for count in layer.values()} == {1, 2}
    assert {count for layer in planes(bits=5.2) for count in layer.values()} == {3, 4}


def test_both_budgets_are_kept():
    wide = auto_plan(CONFIG, EVEN, {}, group=20, head_code=13, bits=4.5)
    assert wide.bits_a_weight <= 4.5
    both = auto_plan(CONFIG, EVEN, {}, group=20, head_code=13, bits=4.5, memory=wide.memory - 1)
    assert both.memory < wide.memory and both.bits_a_weight <= 4.5
    assert wide.memory < auto_plan(CONFIG, EVEN, {}, group=20, head_code=40, bits=4.5).memory
    with pytest.raises(InputError, match="is too small"):
        auto_plan(CONFIG, EVEN, {"w2": 4}, group=0, head_code=13, bits=2)
