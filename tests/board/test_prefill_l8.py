# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The preset with chunks of eight tokens and one float pipeline, on the simulated board."""

import numpy as np
import pytest

from tellme.spec.config import preset
from tests.board.test_prefill import SHAPE, check, load, prompt_of
from tests.models.random_model import model_of

#: No board is built from this core; the sixteen-lane one and the bench of four lanes are run in CI.
pytestmark = [pytest.mark.rtl, pytest.mark.nightly]

PRESET = "ulx3s-85f-l8"
LANES = preset(PRESET).chunk


@pytest.mark.parametrize("length", [1, LANES - 1, LANES, 2 * LANES + 3])
def test_a_prompt_gives_the_bits_of_decode(device, length):
    """All logits after n tokens in chunks equal the logits token by token, and the text continues from there."""
    model = model_of(SHAPE, gains=True, seed=length)
    image, golden = load(device, model, LANES)
    prompt = prompt_of(model, length)
    by_chunks = check(device, image, golden, prompt)
    assert np.array_equal(by_chunks, check(device, image, golden, prompt, chunk=1))
    check(device, image, golden, prompt, generate=3)
