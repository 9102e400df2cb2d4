# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Checkpoints with random bytes changed and cut: a ModelError or a model, never a crash, and nothing left behind."""

import json
import random
import warnings

import numpy as np
import pytest

from tellme.models import ModelError
from tellme.models.checkpoints import open_checkpoint
from tellme.models.container import write
from tellme.models.importing import Options
from tests.models.folders import config_json, folder, kind_model, tensors_of
from tests.models.test_gguf import NARROW, gguf_model, write_gguf


def attempt(path, out, options=None):
    """Convert; True if that went well."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            write(open_checkpoint(path, options or Options(no_tokenizer=True), lambda text: None), out)
    except ModelError as error:
        assert str(error) and not out.exists()
        return False
    out.unlink()
    return True


def damaged(rng, whole, region):
    content = bytearray(whole)
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)):]
    else:
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(min(region, len(content)))] = rng.randrange(256)
    return bytes(content)


def test_safetensors(tmp_path):
    tensors, _ = tensors_of("bitnet-2b4t", kind_model("bitnet-2b4t"))
    path = folder(tmp_path / "hf", "bitnet-2b4t", tensors)
    file = path / "model.safetensors"
    whole, rng = file.read_bytes(), random.Random(5)
    done = []
    for _ in range(150):
        file.write_bytes(damaged(rng, whole, rng.choice([20, 4000, len(whole)])))
        done.append(attempt(path, tmp_path / "out.tellme"))
    assert any(done) and not all(done)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


def test_gguf(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_model(NARROW), "F16")
    whole, rng = path.read_bytes(), random.Random(6)
    done = []
    for _ in range(150):
        # The tokens' texts lie behind the model's numbers.
        path.write_bytes(damaged(rng, whole, rng.choice([40, 700, len(whole)])))
        done.append(attempt(path, tmp_path / "out.tellme", Options(no_tokenizer=rng.random() < 0.5)))
    assert any(done) and not all(done)
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("kind", ["bitnet-2b4t", "falcon", "trilm"])
def test_config_json(kind, tmp_path):
    tensors, _ = tensors_of(kind, kind_model(kind))
    path = folder(tmp_path / "hf", kind, tensors)
    rng = random.Random(7)
    odd = [None, -1, 0, 1, 3, 2**40, 0.5, float("nan"), "x", "", True, [], [1], {}, {"rope_type": 5}, {"quant_method": 1}]
    fields = config_json(kind) | {"rope_scaling": None, "rope_parameters": None, "weight_bits": None, "head_dim": None}
    for key in fields:
        for value in odd:
            (path / "config.json").write_text(json.dumps(fields | {key: value}))
            attempt(path, tmp_path / "out.tellme", Options(no_tokenizer=True, context=rng.choice([None, 4])))
