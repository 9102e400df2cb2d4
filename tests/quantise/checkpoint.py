# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A small float checkpoint with random weights, whose next token depends on the last ones."""

import json

import numpy as np

from tellme.models.config import ModelConfig
from tests.models.folders import PROJECTIONS, byte_level_json, write_safetensors

__all__ = ["CONFIG", "TEXT", "float_folder", "loud_tensors", "tensors_of"]

CONFIG = ModelConfig(dim=60, ffn=100, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=300, context=64, bos=0, eos=1)
TEXT = ("the cat sat on the mat and the dog ran to the park\n<|endoftext|>\nsnow sat on the dog and the park ran to the cat\n"
        "<|endoftext|>\na mat in the snow, a dog on the mat, and a cat that ran\n<|endoftext|>\n")


def tensors_of(config=CONFIG, *, biases=(), seed=3):
    """Tensors by their names in a Hugging Face folder; ``biases``: names of the matrices that have one."""
    rng = np.random.default_rng(seed)
    c = config
    tensors = {"model.embed_tokens.weight": rng.normal(size=(c.vocab, c.dim)), "model.norm.weight": rng.uniform(0.8, 1.2, c.dim)}
    for i in range(c.layers):
        at = f"model.layers.{i}"
        for norm in ("post_feedforward_layernorm" if c.vector_norms else "input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{norm}.weight"] = rng.uniform(0.5, 1.5, c.dim)
        for norm in ("q_norm", "k_norm") if c.has_norm("q_norm") else ():
            tensors[f"{at}.self_attn.{norm}.weight"] = rng.uniform(0.5, 1.5, c.norm_width(norm))
        for name, where in PROJECTIONS.items():
            rows, cols = c.shape(name)
            tensors[f"{at}.{where}.weight"] = rng.normal(size=(rows, cols)) / np.sqrt(cols)
            if name in biases:
                tensors[f"{at}.{where}.bias"] = rng.normal(size=rows)
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def loud_tensors():
    """The same model, with a column that stands out of the matrices behind norms, whose gain makes up for it."""
    tensors = tensors_of()
    for name, value in tensors.items():
        if name.endswith("layernorm.weight"):
            value[3] /= 12
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")):
            value[:, 3] *= 12
    return tensors


def float_folder(path, architecture="LlamaForCausalLM", *, tensors=None, config=CONFIG, **keys):
    """Write a folder; ``keys`` of config.json, none where a value is None."""
    path.mkdir()
    c = config
    fields = {"architectures": [architecture], "hidden_size": c.dim, "intermediate_size": c.ffn, "num_hidden_layers": c.layers,
              "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim, "vocab_size": c.vocab,
              "max_position_embeddings": c.context, "rms_norm_eps": c.eps, "rope_theta": c.theta, "hidden_act": "silu",
              "tie_word_embeddings": True, "bos_token_id": c.bos, "eos_token_id": c.eos} | keys
    (path / "config.json").write_text(json.dumps(fields))
    (path / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<|bos|>", "eos_token": "<|eos|>"}))
    write_safetensors(path / "model.safetensors", tensors_of(config) if tensors is None else tensors)
    (path / "tokenizer.json").write_bytes(byte_level_json())
    return path
