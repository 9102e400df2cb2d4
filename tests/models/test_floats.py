# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Models that are read as floats: each family from a folder and from GGUF, and what is refused."""

import gguf
import numpy as np
import pytest

from tellme.models.config import LINEARS, NORMS, ModelError
from tellme.models.importers.checkpoints import open_floats
from tellme.models.importers.ternary import halves_to_pairs
from tests.models.float_folders import CONFIGS, TEMPLATE, float_folder, float_gguf, tensors_of

_HF = {"wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj", "wo": "self_attn.o_proj",
       "w1": "mlp.gate_proj", "w3": "mlp.up_proj", "w2": "mlp.down_proj"}


def _silent(_text):
    pass


def table(model, name):
    return np.concatenate(list(model.floats(name)))


@pytest.mark.parametrize("arch", CONFIGS)
def test_a_folder(arch, tmp_path):
    model, tensors = open_floats(float_folder(tmp_path / "hf", arch), _silent), tensors_of(arch)
    c = model.config
    qwen3, olmo2 = arch == "Qwen3ForCausalLM", arch == "Olmo2ForCausalLM"
    assert (c.qk_norm, c.vector_norms, c.tied, c.o_norm, c.down_norm) == (qwen3, olmo2, not (qwen3 or olmo2), False, False)
    assert (c.dim, c.ffn, c.heads, c.kv_heads, c.head_dim, c.bos, c.eos) == (64, 96, 4, 2, 32 if c.qk_norm else 16, 0, 1)
    assert model.chat_template == TEMPLATE
    for i in range(2):
        for name in LINEARS:
            base = f"model.layers.{i}.{_HF[name]}"
            turn = (lambda rows: halves_to_pairs(rows, c.head_dim)) if name in ("wq", "wk") else (lambda rows: rows)
            assert np.array_equal(model.matrix(i, name), turn(tensors[base + ".weight"]))
            bias = model.bias(i, name)
            assert (bias is None) == (base + ".bias" not in tensors)
            assert bias is None or np.array_equal(bias, turn(tensors[base + ".bias"].astype(np.float16)))
        if c.qk_norm:
            gain = tensors[f"model.layers.{i}.self_attn.q_norm.weight"]
            assert np.array_equal(model.gain(i, "q_norm"), halves_to_pairs(gain.astype(np.float16), 32))
        if olmo2:
            for norm, name in (("q_norm", "self_attn.q_norm"), ("k_norm", "self_attn.k_norm"),
                               ("attn_post_norm", "post_attention_layernorm"), ("ffn_post_norm", "post_feedforward_layernorm")):
                gain = tensors[f"model.layers.{i}.{name}.weight"].astype(np.float16)
                assert np.array_equal(model.gain(i, norm), halves_to_pairs(gain, 16) if norm in ("q_norm", "k_norm") else gain)
            assert model.gain(i, "attn_norm") is None and model.gain(i, "ffn_norm") is None
    assert np.array_equal(model.final_norm(), tensors["model.norm.weight"].astype(np.float16))
    assert np.array_equal(table(model, "embedding"), tensors["model.embed_tokens.weight"])
    if not c.tied:
        assert np.array_equal(table(model, "head"), tensors["lm_head.weight"])


@pytest.mark.parametrize("arch", ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Olmo2ForCausalLM"])
def test_a_gguf_file_is_its_folder(arch, tmp_path):
    one = open_floats(float_folder(tmp_path / "hf", arch), _silent)
    other = open_floats(float_gguf(tmp_path / "m.gguf", arch), _silent)
    assert one.config == other.config
    for i in range(2):
        for name in LINEARS:
            # Gates are Q8_0: half a 127th of a block's largest weight.
            assert np.allclose(one.matrix(i, name), other.matrix(i, name), rtol=0, atol=0.005 if name == "w1" else 0)
            biases = [b for b in (one.bias(i, name), other.bias(i, name)) if b is not None]
            assert not biases or np.array_equal(*biases)
        for norm in filter(one.config.has_norm, NORMS):
            assert one.gain(i, norm) is not None and np.array_equal(one.gain(i, norm), other.gain(i, norm))
    assert np.array_equal(table(one, "embedding"), table(other, "embedding"))


@pytest.mark.parametrize("arch, keys", [
    # The keys of published files that say nothing of the shape: SmolLM2-135M-Instruct, Mistral-7B-v0.3, Qwen2.5-0.5B, Qwen3-0.6B,
    # OLMo-2-0425-1B.
    ("LlamaForCausalLM", {
        "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.041666666666666664, "is_llama_config": True,
        "mlp_bias": False, "model_type": "llama", "pad_token_id": 2, "pretraining_tp": 1, "rope_interleaved": False,
        "rope_scaling": None, "torch_dtype": "bfloat16", "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
        "transformers_version": "4.42.3", "use_cache": True}),
    ("MistralForCausalLM", {
        "attention_dropout": 0.0, "initializer_range": 0.02, "model_type": "mistral", "torch_dtype": "bfloat16",
        "transformers_version": "4.42.0.dev0", "use_cache": True}),
    ("Qwen2ForCausalLM", {
        "attention_dropout": 0.0, "initializer_range": 0.02, "max_window_layers": 24, "model_type": "qwen2",
        "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": True, "use_mrope": False}),
    ("Qwen3ForCausalLM", {
        "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "max_window_layers": 28,
        "model_type": "qwen3", "rope_scaling": None, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
        "use_cache": True, "use_sliding_window": False}),
    ("Olmo2ForCausalLM", {
        "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "model_type": "olmo2", "pad_token_id": 1,
        "rope_scaling": None, "torch_dtype": "float32", "transformers_version": "4.47.0", "use_cache": False})])
def test_keys_of_published_files(arch, keys, tmp_path):
    plain, model = (open_floats(float_folder(tmp_path / name, arch, **more), _silent).config
                    for name, more in (("plain", {}), ("keys", keys)))
    assert plain == model


@pytest.mark.parametrize("arch, config, message", [
    ("MistralForCausalLM", {"sliding_window": "absent"}, "a window of 4096"),
    ("MistralForCausalLM", {"sliding_window": 4096}, "sliding_window is 4096"),
    ("Qwen2ForCausalLM", {"use_sliding_window": True}, "sliding_window is 32768"),
    ("Qwen3ForCausalLM", {"use_sliding_window": True}, "use_sliding_window is True"),
    ("LlamaForCausalLM", {"hidden_act": "gelu"}, "hidden_act is 'gelu'; silu and relu2 are known"),
    ("LlamaForCausalLM", {"hidden_act": "relu2"}, "hidden_act is 'relu2'; of float models only those with silu"),
    ("LlamaForCausalLM", {"quantization_config": {"quant_method": "gptq"}}, "is no float model"),
    ("LlamaForCausalLM", {"architectures": ["GemmaForCausalLM"]}, "the architecture is GemmaForCausalLM; LlamaForCausalLM"),
    ("LlamaForCausalLM", {"architectures": ["BitNetForCausalLM"]}, "the architecture is BitNetForCausalLM; LlamaForCausalLM"),
    ("LlamaForCausalLM", {"architectures": ["Olmo3ForCausalLM"]}, "has a sliding window in most of its layers"),
    ("LlamaForCausalLM", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling"),
    ("LlamaForCausalLM", {"hidden_size": 80}, "has shape"),
    ("LlamaForCausalLM", {"hidden_size": "absent"}, "has no hidden_size"),
    ("LlamaForCausalLM", {"attention_multiplier": 3.0}, "attention_multiplier is 3.0"),
])
def test_folders_that_are_refused(arch, config, message, tmp_path):
    with pytest.raises(ModelError) as caught:
        open_floats(float_folder(tmp_path / "hf", arch, **config), _silent)
    assert message in str(caught.value)


def test_tensors_that_are_refused(tmp_path):
    tensors = tensors_of("LlamaForCausalLM")
    with pytest.raises(ModelError, match="has the unknown tensor model.layers.0.extra.weight"):
        more = tensors | {"model.layers.0.extra.weight": np.ones(3)}
        open_floats(float_folder(tmp_path / "a", "LlamaForCausalLM", more), _silent)
    with pytest.raises(ModelError, match="lacks the tensor model.norm.weight"):
        open_floats(float_folder(tmp_path / "b", "LlamaForCausalLM",
                                {n: t for n, t in tensors.items() if n != "model.norm.weight"}), _silent)
    tensors["model.norm.weight"] = np.full(64, np.nan, np.float32)
    with pytest.raises(ModelError, match="model.norm.weight holds an infinity, a NaN"):
        open_floats(float_folder(tmp_path / "c", "LlamaForCausalLM", tensors), _silent).final_norm()
    (tmp_path / "d").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="neither"):
        open_floats(tmp_path / "d", _silent)


@pytest.mark.parametrize("arch", ["bitnet", "bitnet-b1.58", "bitnet-25"])
def test_gguf_files_of_ternary_architectures_are_refused(arch, tmp_path):
    out = gguf.GGUFWriter(tmp_path / "m.gguf", arch)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    with pytest.raises(ModelError, match=f"the architecture is '{arch}'; llama, qwen2, qwen3, olmo2 are known"):
        open_floats(tmp_path / "m.gguf", _silent)


def test_what_a_folder_leaves_out(tmp_path):
    """Mistral's eight heads of keys and values, the widths that Qwen's windows would have, and a license."""
    shape = {"num_attention_heads": 8, "num_key_value_heads": "absent", "head_dim": 8, "license": "mit"}
    tensors = tensors_of("MistralForCausalLM")
    for name in tensors:
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            tensors[name] = np.tile(tensors[name], (2, 1))
    model = open_floats(float_folder(tmp_path / "mistral", "MistralForCausalLM", tensors, **shape), _silent)
    assert (model.config.heads, model.config.kv_heads, model.license) == (8, 8, "mit")
    unused = open_floats(float_folder(tmp_path / "qwen", "Qwen3ForCausalLM", sliding_window=4096), _silent)
    assert unused.config.heads == 4
