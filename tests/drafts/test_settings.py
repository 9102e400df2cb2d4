# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How many tokens a board drafts and what they cost, from shapes and cores."""

from dataclasses import replace

from tellme.compiler.image import compile_model
from tellme.drafts.settings import draft_settings
from tellme.golden.perplexity import unlimited_config
from tellme.models.config import ModelConfig
from tellme.models.shipped import open_model
from tellme.spec.config import preset
from tellme.spec.drafts import SETTINGS_FIELDS
from tellme.spec.words import unpack_word
from tests.models.random_model import model_of

WIDE = preset("ulx3s-85f")
MODELS = {name: open_model(name) for name in ("stories-1m", "stories-8m")}


def settings(model, core):
    return unpack_word(SETTINGS_FIELDS, draft_settings(model.config, compile_model(model, core), core))


def test_the_shipped_models():
    assert settings(MODELS["stories-8m"], WIDE) == {"most": 3, "cost": 1}
    assert settings(MODELS["stories-1m"], WIDE) == {"most": 3, "cost": 6}


def test_what_they_follow_from():
    """As many tokens as attention takes at once, where a second reading of K and V counts; and what the lanes leave."""
    shape = ModelConfig(dim=256, ffn=512, layers=6, heads=8, kv_heads=2, head_dim=32, vocab=1024, context=1024)

    def found(core=WIDE, **changes):
        return settings(model_of(replace(shape, **changes), gains=False), core)

    # A token has four query heads on a KV head.
    assert [found(replace(WIDE, pes=pes))["most"] for pes in (4, 8, 16)] == [1, 1, 3]
    # Of one token alone each drafted one reads K and V anew; with all that they take at once a drafted one costs next to nothing.
    assert found(replace(WIDE, pes=4))["cost"] > 50 and found(replace(WIDE, pes=8))["cost"] < 8
    for lanes, most in ((2, 1), (4, 3), (8, 7), (16, 7)):
        core = replace(WIDE, lanes=lanes, chunk=lanes, head_tokens=lanes, slots=2)
        assert found(core, kv_heads=8)["most"] == most
    # A longer context makes the pass longer, and what a drafted token adds does not grow.
    costs = [found(context=context)["cost"] for context in (64, 256, 1024)]
    assert costs[0] > costs[1] > costs[2] > 0
    golden = MODELS["stories-1m"]
    assert settings(golden, unlimited_config(golden)) == {"most": 3, "cost": 51}
