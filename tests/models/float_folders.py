# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Small float models with drawn weights, as Hugging Face folders and GGUF files."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file

from tellme.models.importers.ternary import halves_to_pairs
from tests.models.folders import byte_level_json

__all__ = ["CONFIGS", "TEMPLATE", "float_folder", "float_gguf", "tensors_of"]

_BASE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 300, "max_position_embeddings": 128, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1e4,
    "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1}
#: Architecture -> config.json, with the keys about windows that published files have.
CONFIGS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": _BASE,
    "MistralForCausalLM": _BASE | {"sliding_window": None},
    "Qwen2ForCausalLM": _BASE | {"sliding_window": 32768, "use_sliding_window": False, "max_window_layers": 28},
    "Qwen3ForCausalLM": _BASE | {"head_dim": 32, "tie_word_embeddings": False, "sliding_window": None},
    "Olmo2ForCausalLM": _BASE | {"tie_word_embeddings": False},
}
TEMPLATE = ("{% for message in messages %}{{ '<s>' + message['role'] + '\n' + message['content'] + '</s>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}")
_GGUF = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}


def tensors_of(arch: str, seed: int = 1) -> dict[str, np.ndarray]:
    """The tensors of a folder."""
    c, rng = CONFIGS[arch], np.random.default_rng(seed)
    dim, ffn = c["hidden_size"], c["intermediate_size"]
    width = c.get("head_dim", dim // c["num_attention_heads"])
    q, kv = c["num_attention_heads"] * width, c["num_key_value_heads"] * width
    out = {"model.embed_tokens.weight": rng.normal(0, 1, (300, dim)), "model.norm.weight": rng.uniform(0.8, 1.2, dim)}
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = rng.normal(0, 1, (300, dim))
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for name, shape in (("self_attn.q_proj", (q, dim)), ("self_attn.k_proj", (kv, dim)), ("self_attn.v_proj", (kv, dim)),
                            ("self_attn.o_proj", (dim, q)), ("mlp.gate_proj", (ffn, dim)), ("mlp.up_proj", (ffn, dim)),
                            ("mlp.down_proj", (dim, ffn))):
            out[f"{p}{name}.weight"] = rng.normal(0, 1.5 / np.sqrt(shape[1]), shape)
            if arch == "Qwen2ForCausalLM" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                out[f"{p}{name}.bias"] = rng.normal(0, 0.5, shape[0])
        olmo = arch == "Olmo2ForCausalLM"
        for name in ("post_feedforward_layernorm" if olmo else "input_layernorm", "post_attention_layernorm"):
            out[f"{p}{name}.weight"] = rng.uniform(0.5, 1.5, dim)
        if arch == "Qwen3ForCausalLM":
            out |= {f"{p}self_attn.{part}_norm.weight": rng.uniform(0.5, 2, width) for part in "qk"}
        if olmo:
            out |= {f"{p}self_attn.{part}_norm.weight": rng.uniform(0.5, 2, n) for part, n in (("q", q), ("k", kv))}
    return {name: t.astype(np.float32) for name, t in out.items()}


def float_folder(folder: Path, arch: str, tensors: dict[str, np.ndarray] | None = None, **config: Any) -> Path:
    """A folder; a key of ``config`` that is "absent" is left out of config.json."""
    folder.mkdir()
    fields = {"architectures": [arch]} | CONFIGS[arch] | config
    (folder / "config.json").write_text(json.dumps({key: value for key, value in fields.items() if value != "absent"}))
    (folder / "tokenizer.json").write_bytes(byte_level_json())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast",
                                                               "chat_template": TEMPLATE}))
    save_file(tensors or tensors_of(arch), folder / "model.safetensors")
    return folder


def float_gguf(path: Path, arch: str) -> Path:
    """The same model as a GGUF file: rows of llama in pairs, gates as Q8_0 and all else float32."""
    c, name = CONFIGS[arch], {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3",
                                "Olmo2ForCausalLM": "olmo2"}[arch]
    width = c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    out = gguf.GGUFWriter(path, name)
    for key, value in (("embedding_length", "hidden_size"), ("feed_forward_length", "intermediate_size"),
                       ("block_count", "num_hidden_layers"), ("context_length", "max_position_embeddings")):
        out.add_uint32(f"{name}.{key}", c[value])
    out.add_head_count(c["num_attention_heads"])
    out.add_head_count_kv(c["num_key_value_heads"])
    out.add_key_length(width)
    out.add_value_length(width)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_freq_base(1e4)
    fields = json.loads(byte_level_json())
    vocab = sorted(fields["model"]["vocab"], key=fields["model"]["vocab"].get)
    special = {token["content"] for token in fields["added_tokens"]}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(vocab)
    out.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in vocab])
    out.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in fields["model"]["merges"]])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    out.add_add_bos_token(False)
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for what, values in tensors_of(arch).items():
        base, ending = what.rsplit(".", 1)
        if base in top:
            new = top[base]
        else:
            _, _, layer, part = base.split(".", 3)
            olmo = {"post_attention_layernorm": "post_attention_norm"} if name == "olmo2" else {}
            new = f"blk.{layer}.{(_GGUF | olmo)[part]}"
            if name == "llama" and part in ("self_attn.q_proj", "self_attn.k_proj"):
                values = np.ascontiguousarray(halves_to_pairs(values, width))
        if values.ndim == 2 and base.endswith("gate_proj"):
            kind = gguf.GGMLQuantizationType.Q8_0
            out.add_tensor(f"{new}.{ending}", gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            out.add_tensor(f"{new}.{ending}", values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path
