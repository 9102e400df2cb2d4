# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What ternarise.py learned, as a model: codes, scales, biases and gains where they belong, in a file and in a folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file
from ternary_model import codes_of_state, read_learned, ternary_model, write_folder

from tellme.models.config import LINEARS, NORMS, ModelError
from tellme.models.importers.checkpoints import convert, open_floats
from tellme.reference import read_container
from tests.models.float_folders import float_folder


def _silent(_text):
    pass


def learned(tmp_path, model, *, method="absmean", planes=1, about=None):
    """(two files as states.pack writes them, codes, scales, biases and pairs by matrix) with drawn values."""
    rng, c = np.random.default_rng(5), model.config
    reach = (3**planes - 1) // 2
    found, drawn = {"norm": rng.uniform(0.5, 2, c.dim).astype(np.float32)}, {}
    paths = []
    for i in range(c.layers):
        for name in LINEARS:
            shape, what = c.shape(name), f"layers.{i}.{name}"
            codes = rng.integers(-reach, reach + 1, shape).astype(np.int8)
            scales = rng.uniform(0.01, 0.1, shape[0]).astype(np.float32)
            bias = rng.normal(0, 1, shape[0]).astype(np.float32) if name in ("wq", "wk", "w1") else None
            pair = rng.integers(-126, 127, shape[0]).astype(np.int8)
            drawn[what] = codes, scales, bias, pair
            if planes == 1:
                state = (5 * (codes + 1) + rng.integers(0, 5, shape)).astype(np.uint8)
                found[what + ".state"] = state[:, ::2] | state[:, 1::2] << 4
            else:
                found[what + ".codes"] = codes
            found[what + ".scale"] = scales
            if bias is not None:
                found[what + ".bias"] = bias
            if method == "ttq":
                found[what + ".pair"] = pair
        # The extra norms are where OLMo 2's are not.
        of = replace(c, o_norm=not c.vector_norms, down_norm=not c.vector_norms)
        for norm in filter(of.has_norm, NORMS):
            found[f"layers.{i}.{norm}"] = rng.uniform(0.5, 2, c.norm_width(norm)).astype(np.float32)
        path = tmp_path / f"weights-{i + 1}-of-{c.layers}.safetensors"
        save_file(found, path, {"about": json.dumps(about or {"method": method, "planes": planes, "context": 48})})
        paths.append(path)
        found = {}
    return paths, drawn


@pytest.mark.parametrize("arch, method, planes", [("LlamaForCausalLM", "absmean", 1), ("Qwen2ForCausalLM", "tequila", 1),
                                                  ("Qwen3ForCausalLM", "absmean", 3), ("MistralForCausalLM", "ttq", 1),
                                                  ("Olmo2ForCausalLM", "absmean", 2)])
def test_weights_of_a_file(arch, method, planes, tmp_path):
    source = open_floats(float_folder(tmp_path / "hf", arch), _silent)
    paths, drawn = learned(tmp_path, source, method=method, planes=planes)
    model = ternary_model(source, read_learned(paths))
    model.save(tmp_path / "m.tellme")
    extra = arch != "Olmo2ForCausalLM"
    assert (model.config.context, model.config.o_norm, model.config.down_norm) == (48, extra, extra)
    stored = read_container(tmp_path / "m.tellme")
    for i in range(2):
        for name in LINEARS:
            codes, scales, bias, pair = drawn[f"layers.{i}.{name}"]
            # A board's scale has 11 bits.
            wanted = codes * scales[:, None].astype(float)
            if method == "ttq":
                wanted = scales[:, None] * (codes + np.abs(codes) * pair[:, None] / 127)
            integers, worth = stored.layers[i][name]
            assert np.allclose(integers * worth[:, None], wanted, rtol=2**-11, atol=1e-12)
            assert (bias is None) == (name not in stored.biases[i])
            assert bias is None or np.array_equal(stored.biases[i][name], bias.astype(np.float16))
    assert stored.embedding.shape == (300, 64) and (stored.head is None) == source.config.tied
    table = np.concatenate(list(source.floats("embedding")))
    assert np.allclose(stored.embedding, table, atol=np.abs(table).max() / 200)


@pytest.mark.parametrize("arch", ["LlamaForCausalLM", "Qwen2ForCausalLM"])
def test_a_folder_is_converted_to_the_same_model(arch, tmp_path):
    source = open_floats(float_folder(tmp_path / "hf", arch), _silent)
    model = ternary_model(source, read_learned(learned(tmp_path, source)[0]))
    write_folder(model, tmp_path / "out")
    again = convert(tmp_path / "out", None, _silent)
    assert again.config == model.config and again.chat_template == model.chat_template
    for one, other in zip(model.layers, again.layers, strict=True):
        for name in LINEARS:
            assert np.array_equal(one.weights[name], other.weights[name]) and one.blocks(name) == other.blocks(name)
            assert np.array_equal(one.biases.get(name), other.biases.get(name))
        assert all(np.array_equal(one.gains[norm], other.gains[norm]) for norm in one.gains | other.gains)
    assert np.array_equal(model.embedding, again.embedding) and np.array_equal(model.embedding_scales, again.embedding_scales)
    assert np.array_equal(model.final_gain, again.final_gain)


def test_what_is_refused(tmp_path):
    source = open_floats(float_folder(tmp_path / "hf", "LlamaForCausalLM"), _silent)
    paths, _ = learned(tmp_path, source)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ModelError, match="or another run's"):
        read_learned([paths[0], learned(other, source, about={"method": "absmean", "planes": 1, "context": 47})[0][1]])
    save_file({"a": np.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="is no file of ternarise.py$"):
        read_learned([tmp_path / "a.safetensors"])
    with pytest.raises(ModelError, match="state is 15"):
        codes_of_state(np.full((2, 2), 0xF0, np.uint8))
    planes, _ = learned(other, source, planes=2)
    with pytest.raises(ModelError, match="a Hugging Face folder holds no norms on q and k, planes or pairs"):
        write_folder(ternary_model(source, read_learned(planes)), tmp_path / "out")
    olmo2 = open_floats(float_folder(tmp_path / "o", "Olmo2ForCausalLM"), _silent)
    own, _ = learned(other, olmo2)
    with pytest.raises(ModelError, match="a Hugging Face folder holds no norms on q and k, planes or pairs"):
        write_folder(ternary_model(olmo2, read_learned(own)), tmp_path / "out")
    qwen3 = open_floats(float_folder(tmp_path / "q", "Qwen3ForCausalLM"), _silent)
    with pytest.raises(ModelError, match="layers.0.wq has shape .64, 64., the float model says .128, 64."):
        ternary_model(qwen3, read_learned(paths))
