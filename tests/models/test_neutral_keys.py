# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Keys that can change what a model computes: accepted with values that change nothing, refused by name with all others."""

import pytest

from tellme.models import ModelConfig, ModelError
from tellme.models.importers.neutral_keys import check_config_keys, check_gguf_keys
from tests.models.test_gguf import LLAMA, gguf_model, write_gguf
from tests.models.test_huggingface import converted

CONFIG = ModelConfig(dim=64, ffn=96, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=300, context=24)


def test_what_changes_nothing_is_taken():
    check_config_keys({
        "sliding_window": None, "use_sliding_window": False, "weight_bits": 1, "input_bits": 8,
        "layer_types": ["full_attention"] * 2,
        "final_logit_softcapping": None, "logits_scaling": 1.0, "embedding_multiplier": 1, "attention_multiplier": 0.25,
        "query_pre_attn_scalar": 16, "attention_scale": 0.25, "qk_norm": False, "clip_qkv": None, "use_parallel_residual": False,
        "norm_type": "rmsnorm", "layer_norm_eps": 1e-5, "dim_model_base": 64, "is_causal": True, "hidden_activation": "silu",
        # Of training, and of programs.
        "attention_dropout": 0.1, "pretraining_tp": 1, "use_cache": True, "torch_dtype": "float16", "initializer_range": 0.02,
        "mlp_bias": True, "attention_bias": True, "auto_map": {"AutoConfig": "x"}, "transformers_version": "5.0.0"}, CONFIG, "x")


@pytest.mark.parametrize(("key", "value"), [
    ("sliding_window", 4096), ("layer_types", ["full_attention", "sliding_attention"]), ("final_logit_softcapping", 30.0),
    ("attn_logit_softcapping", 50.0), ("router_soft_cap", 1), ("logits_scaling", 8.0), ("logit_scale", 0.0625), ("scale_emb", 12),
    ("embedding_multiplier", 12.0), ("residual_multiplier", 0.22), ("attention_multiplier", 0.015625), ("scale_depth", 1.4),
    ("dim_model_base", 256), ("lm_head_multiplier", 0.5), ("mlp_multipliers", [1.0, 0.5]), ("query_pre_attn_scalar", 256),
    ("qk_norm", True), ("use_qk_norm", True), ("clip_qkv", 8.0), ("use_parallel_residual", True), ("parallel_attn", True),
    ("norm_type", "layernorm"), ("layer_norm_eps", 1e-12), ("rms_norm_add_unit_offset", True), ("alibi", True),
    ("is_causal", False),
    ("num_local_experts", 8), ("text_config", {"hidden_size": 64}), ("hidden_activation", "gelu_pytorch_tanh"),
    ("weight_bits", 2),
    ("v_head_dim", 32), ("scale_attn_weights", False), ("use_xpos", 1), ("layer_types", "full_attention"),
])
def test_all_else_is_refused_by_name(key, value):
    with pytest.raises(ModelError) as caught:
        check_config_keys({"hidden_size": 64, key: value}, CONFIG, "config.json")
    assert str(caught.value) == f"config.json: {key} is {value!r}, which the engine does not do"


@pytest.mark.parametrize(("key", "value", "refused"), [
    ("logit_scale", 0.0, False), ("logit_scale", 1.0, False), ("logit_scale", 0.5, True), ("attention.scale", 32**-0.5, False),
    ("attention.scale", 0.5, True), ("embedding_scale", 12.0, True), ("residual_scale", 0.22, True),
    ("attention.sliding_window", 0, False), ("attention.sliding_window", 4096, True), ("attention.clamp_kqv", 8.0, True),
    ("attention.value_length", 32, False), ("attention.value_length", 64, True), ("attention.causal", False, True),
    ("attention.layer_norm_epsilon", 1e-12, True), ("attention.max_alibi_bias", 8.0, True),
    ("final_logit_softcapping", 30.0, True),
    ("use_parallel_residual", True, True), ("tensor_data_layout", "Meta AI original pth", False), ("vocab_size", 299, True),
    ("expert_used_count", 0, False), ("expert_used_count", 2, True), ("pooling_type", 1, True), ("something.new", 0, True),
])
def test_gguf_files(key, value, refused, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_model(LLAMA), "F16", fields={f"llama.{key}": value}.items())
    if not refused:
        assert converted(path, tmp_path).config == LLAMA
        return
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path)
    assert str(caught.value) == f"{path}: llama.{key} is {value!r}, which the engine does not do"
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_keys_of_other_programs_are_left_alone():
    keys = ["general.size_label", "quantize.imatrix.file", "llama.rope.freq_base", "llama.block_count"]
    check_gguf_keys("llama", keys, dict(zip(keys, "abcd", strict=True)).get, CONFIG, "x")
