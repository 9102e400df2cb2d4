# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""transformers now: every shape anew, against the golden and the stored logits; and each shipped model's text and picks."""

import numpy as np
import pytest

from tellme.golden.perplexity import golden_board
from tests.ref.make_reference import FILE
from tests.ref.measures import FLIPS, LOSS, measure
from tests.ref.shapes import SHAPES, prompt, shape_model, write_folder
from tests.ref.shipped import MODELS, golden_nats, golden_text, nats
from tests.ref.with_transformers import VERSIONS, Loaded


@pytest.mark.parametrize("name", SHAPES)
def test_random_models(name, tmp_path):
    model = shape_model(name)
    loaded = Loaded(write_folder(model, SHAPES[name].linear, tmp_path / "hf"))
    assert loaded.linear == SHAPES[name].linear
    assert loaded.name == ("BitNetForCausalLM" if model.config.o_norm else "LlamaForCausalLM")
    logits = loaded.logits(prompt(name))
    found = measure(golden_board(model).feed(prompt(name), 0, heads="all") / 65536, logits)
    print(f"{name}: {loaded.name}, {loaded.linear}: golden {100 * found.mean:.2f} % apart; {VERSIONS}")
    found.check(model.config.layers)
    # Other versions and processors may round otherwise where float32 does.
    assert measure(np.load(FILE)[name], logits).mean < FLIPS


@pytest.mark.parametrize("name", MODELS)
def test_shipped_models(name, tmp_path):
    """Loss on a text, and the golden's greedy continuation position by position."""
    model = MODELS[name]
    loaded = Loaded(write_folder(model, "autobitlinear", tmp_path / "hf"))
    golden, other = golden_nats(name), nats(name, loaded.logits)
    print(f"{name}: golden {golden:.5f}, {loaded.name} {other:.5f} nats per token, {100 * abs(golden / other - 1):.3f} % apart")
    assert abs(golden / other - 1) <= LOSS
    ids, logits = golden_text(name)
    measure(logits, loaded.logits(ids)).check(model.config.layers)
