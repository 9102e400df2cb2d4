# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The shipped models: found by name, whole, and within the builds that they are for."""

import pytest

from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.models.shipped import find_model
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.config import preset
from tellme.spec.packing import plane_reach


@pytest.mark.parametrize(("name", "presets", "start"), [
    ("stories-1m", ("ulx3s-85f", "ecp5-25f"), "Once upon"), ("stories-8m", ("ulx3s-85f", "ulx3s-85f-l2"), "Once upon"),
])
def test_shipped_models_fit_and_begin_a_story(name, presets, start):
    model = find_model(name)
    assert model.name == name and model.tokenizer is not None
    images = [compile_model(model, preset(p)) for p in presets]
    board = GoldenBoard(images[0])
    tokens = [model.config.bos]
    for position in range(5):
        tokens.append(int(board.feed(tokens[-1:], position)[-1].argmax()))
    assert Tokenizer(model.tokenizer).decode(tokens[1:]).strip().startswith(start)


@pytest.mark.parametrize("name", ["stories-1m", "stories-8m"])
def test_tables_of_shipped_models_are_three_planes(name):
    """The table, embedding and LM head in one, uses all of what three planes hold and no more; each row has its scale."""
    model = find_model(name)
    assert model.config.tied and model.head is None
    assert (model.embedding.min(), model.embedding.max()) == (-plane_reach(3), plane_reach(3))
    assert (model.embedding_scales > 0).all()
