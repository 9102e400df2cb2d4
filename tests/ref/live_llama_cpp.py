# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""llama.cpp now, on exported GGUF files: the shapes that it computes, and each shipped model in every format that holds it.

An F16 file's activations are not quantised there, a TQ file's in blocks of 256; the golden quantises a whole vector.
"""

from dataclasses import replace

import pytest

from tellme.golden.perplexity import golden_board
from tellme.models import ModelConfig
from tellme.models.exporters.exporting import export
from tests.models.random_model import model_of
from tests.ref.measures import LOSS, measure
from tests.ref.shapes import SHAPES, prompt, shape_model
from tests.ref.shipped import MODELS, golden_nats, golden_text, nats
from tests.ref.with_llama_cpp import VERSIONS, logits

#: llama.cpp computes SiLU only, and with sub-norms a tied head only.
WITH_SILU = [name for name, shape in SHAPES.items() if shape.config.act == "silu"]
#: Widths of whole TQ blocks.
BLOCKS = ModelConfig(dim=256, ffn=512, layers=2, heads=4, kv_heads=2, head_dim=64, vocab=203, context=24)
TQ = {"llama": replace(BLOCKS, tied=False), "bitnet": replace(BLOCKS, o_norm=True, down_norm=True)}


def formats(model):
    """Formats whose blocks fit a model's widths."""
    c = model.config
    whole = not any(c.shape(name)[1] % 256 for name in model.layers[0].weights)
    return ["gguf-f16", *(["gguf-tq1", "gguf-tq2"] if whole else [])]


def compare(model, form, ids, tmp_path):
    export(model, tmp_path / "m.gguf", form, lambda: None)
    found = measure(golden_board(model).feed(ids, 0, heads="all") / 65536, logits(tmp_path / "m.gguf", ids))
    print(f"{model.name}, {form}: golden {100 * found.mean:.2f} % apart; {VERSIONS}")
    found.check(model.config.layers)


@pytest.mark.parametrize("name", WITH_SILU)
def test_random_models(name, tmp_path):
    compare(shape_model(name), "gguf-f16", prompt(name), tmp_path)


@pytest.mark.parametrize("form", ["gguf-tq1", "gguf-tq2"])
@pytest.mark.parametrize("name", TQ)
def test_ternary_formats(name, form, tmp_path):
    compare(model_of(TQ[name], gains=True, name=name), form, [i * 37 % 203 for i in range(24)], tmp_path)


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, model in MODELS.items() for form in formats(model)])
def test_shipped_models(name, form, tmp_path):
    model, path = MODELS[name], tmp_path / "m.gguf"
    export(model, path, form, lambda: None)
    golden, other = golden_nats(name), nats(name, lambda ids: logits(path, ids))
    apart = abs(golden / other - 1)
    print(f"{name}, {form}: golden {golden:.5f}, llama.cpp {other:.5f} nats per token, {100 * apart:.3f} % apart")
    assert apart <= LOSS
    ids, rows = golden_text(name)
    measure(rows, logits(path, ids)).check(model.config.layers)
