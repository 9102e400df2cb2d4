# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The analytic model: sizes, refusals by name and number, and the model against a placed and routed build."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tellme.spec.config import PRESETS, preset
from tellme.spec.sizing import SizingError, check, dsp, ebr, weight_buffer

REPORT = Path(__file__).resolve().parents[2] / "docs" / "reports" / "ulx3s-85f.json"


def test_every_preset_fits_the_85f():
    for config in PRESETS.values():
        check(config, "85f")


def test_weight_buffer_of_the_board():
    size = weight_buffer(preset("ulx3s-85f"))
    assert (size.blocks, size.words, size.ahead) == (4, 2048, 200)


@pytest.mark.parametrize("size", [0, 4095, 5000])
def test_weight_buffer_in_whole_blocks(size):
    with pytest.raises(SizingError, match=f"weight_buffer_bytes is {size}; blocks have 4096 bytes"):
        weight_buffer(replace(preset("ulx3s-85f"), weight_buffer_bytes=size))


def test_what_does_not_fit_is_named():
    with pytest.raises(SizingError, match=r"EBR: big needs \d+, the 85f has 208 \(weights 160, "):
        check(replace(preset("ulx3s-85f"), name="big", weight_buffer_bytes=80 * 4096, max_context=8192), "85f")
    with pytest.raises(SizingError, match=r"multipliers: ulx3s-85f needs \d+, the 25f has 28"):
        check(replace(preset("ulx3s-85f"), weight_buffer_bytes=4096, max_context=256, max_cols=256), "25f")


def test_unknown_device():
    with pytest.raises(SizingError, match="no device is called '99f'; there are: 12f, 25f, 45f, 85f"):
        check(preset("ulx3s-85f"), "99f")


@pytest.mark.parametrize(("what", "model"), [("ebr", ebr), ("dsp", dsp)])
def test_model_is_within_15_percent_of_the_build(what, model):
    used = json.loads(REPORT.read_text())[what]["used"]
    assert abs(sum(model(preset("ulx3s-85f")).values()) / used - 1) <= 0.15
