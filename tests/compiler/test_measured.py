# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Measurements of decoding: bytes as the shapes need them, factors that no memory beats, and which one counts."""

import re

import pytest

from sim.bench import BODY_ONLY, SHAPES
from tellme.compiler.image import compile_model, needed_bytes
from tellme.compiler.measured import DECODE, nearest
from tellme.models.shipped import find_model
from tellme.spec.config import PRESETS

MEASURED = sorted({m for found in DECODE.values() for m in found}, key=lambda m: (m.shape, m.needed))


@pytest.mark.parametrize("measured", MEASURED, ids=lambda m: f"{m.shape} {m.at}")
def test_needed_bytes_are_those_of_the_shape(measured):
    name = measured.shape.removesuffix("'s layers").lower()
    head = "host" if name in BODY_ONLY else "board"
    assert (head == "host") == measured.shape.endswith("'s layers")
    model = None if name in SHAPES else find_model(name)
    config = SHAPES[name] if model is None else model.config
    # What is shipped has LM heads of its own planes.
    trits = None if model is None else compile_model(model, PRESETS["ulx3s-85f"]).head_trits
    first, *rest = map(int, re.findall(r"\d+", measured.at))
    positions = range(first, (rest[0] if rest else first) + 1)
    assert measured.needed == round(sum(needed_bytes(config, p, head, head_trits=trits) for p in positions) / len(positions))
    assert 1 <= measured.factor < 2


def test_presets_are_there():
    assert DECODE.keys() <= PRESETS.keys()


def test_nearest_by_ratio():
    found = nearest("ulx3s-85f", 5e9)
    assert found is not None and (found.shape, found.at) == ("TriLM-99M's layers", "position 448")
    found = nearest("ulx3s-85f", 2e6)
    assert found is not None and (found.shape, found.at) == ("bitllama2c-3m", "position 448")
    assert nearest("ulx3s-85f-1lane", 1e6) is None
