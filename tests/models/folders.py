# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Hugging Face folders of every kind that is imported, made of a model, with code of its own."""

import json

import numpy as np

from tellme.models import LINEARS, ModelConfig
from tests import reference
from tests.models.random_model import model_of

__all__ = ["KINDS", "PROJECTIONS", "byte_fallback_json", "byte_level_json", "floats", "folder", "halves", "kind_model",
           "tensors_of", "write_safetensors"]

PROJECTIONS = {"wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj", "wo": "self_attn.o_proj",
               "w1": "mlp.gate_proj", "w3": "mlp.up_proj", "w2": "mlp.down_proj"}
#: Ahead of attention and feed-forward, where the model has no norms behind them.
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
#: Kind -> (shape, architecture, quantization_config, sub-norms).
KINDS = {
    "bitnet-2b4t": (ModelConfig(dim=64, ffn=100, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=300, context=24, act="relu2",
                                act_exp=8, theta=5e5, o_norm=True, down_norm=True, bos=4, eos=5, add_bos=False),
                    "BitNetForCausalLM", {"quant_method": "bitnet", "linear_class": "autobitlinear",
                                          "quantization_mode": "offline"},
                    {"o_norm": "self_attn.attn_sub_norm", "down_norm": "mlp.ffn_sub_norm"}),
    "falcon": (ModelConfig(dim=96, ffn=148, layers=2, heads=3, kv_heads=1, head_dim=32, vocab=333, context=20, tied=False,
                           theta=1000042.0, eps=1e-6, bos=0, eos=11, more_ends=(3, 7)),
               "LlamaForCausalLM", {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]}, {}),
    "1bitllm": (ModelConfig(dim=64, ffn=84, layers=2, heads=2, kv_heads=2, head_dim=32, vocab=310, context=24, o_norm=True,
                            down_norm=True),
                "BitnetForCausalLM", None, {"o_norm": "self_attn.inner_attn_ln", "down_norm": "mlp.ffn_layernorm"}),
    "trilm": (ModelConfig(dim=64, ffn=160, layers=2, heads=4, kv_heads=4, head_dim=16, vocab=320, context=16, tied=False,
                          bos=0, eos=0), "LlamaForCausalLM", None, {}),
    "qwen3": (ModelConfig(dim=72, ffn=96, layers=2, heads=4, kv_heads=2, head_dim=32, vocab=310, context=24, theta=1e6, eps=1e-6,
                          qk_norm=True, bos=4, eos=5, add_bos=False),
              "Qwen3ForCausalLM", {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]},
              {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}),
    "olmo2": (ModelConfig(dim=64, ffn=96, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=310, context=24, theta=5e5,
                          tied=False, vector_norms=True, bos=None, eos=5, add_bos=False),
              "Olmo2ForCausalLM", {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]},
              {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm", "attn_post_norm": "post_attention_layernorm",
               "ffn_post_norm": "post_feedforward_layernorm"}),
}


def kind_model(kind):
    """A random model of the shape."""
    return model_of(KINDS[kind][0], gains=True, name=kind)


def floats(codes, stored):
    """Values of int8 rows."""
    scale = np.where(stored == 0, 0, (1024 + stored.astype(np.int64) % 1024) * 2.0 ** (stored.astype(np.int64) // 1024 - 54))
    return (codes * scale[:, None]).astype(np.float32)


def halves(rows, head_dim):
    """Rows of adjacent pairs in the order of transformers: (0, 2, 4, ..., 1, 3, 5, ...) of each head."""
    order = [head * head_dim + i for head in range(len(rows) // head_dim)
             for i in [*range(0, head_dim, 2), *range(1, head_dim, 2)]]
    return rows[order]


def packed(codes):
    """Four rows a byte, written bit by bit."""
    quarter = len(codes) // 4
    out = np.zeros((quarter, codes.shape[1]), np.uint8)
    for row, values in enumerate(codes):
        out[row % quarter] |= (values + 1).astype(np.uint8) << 2 * (row // quarter)
    return out


def tensors_of(kind, model, *, unpacked=False):
    """(tensors, float reference) of a model in the manner of a kind."""
    c, arch, quantisation, sub_norms = KINDS[kind]
    rng = np.random.default_rng(9)
    tensors = {"model.embed_tokens.weight": floats(model.embedding, model.embedding_scales),
               "model.norm.weight": model.final_gain}
    if not c.tied:
        tensors["lm_head.weight"] = floats(model.head, model.head_scales)
    layers, gains = [], []
    for i, layer in enumerate(model.layers):
        at = f"model.layers.{i}"
        gains.append({norm: halves(gain, c.head_dim) if norm in ("q_norm", "k_norm") else gain
                      for norm, gain in layer.gains.items()})
        for norm, name in (sub_norms if c.vector_norms else NORMS | sub_norms).items():
            tensors[f"{at}.{name}.weight"] = gains[i][norm]
        weights = {}
        for name in LINEARS:
            codes, scale = layer.weights[name], float(layer.scales[name].value())
            if name in ("wq", "wk"):
                codes = halves(codes, c.head_dim)
            weight, where = None, f"{at}.{PROJECTIONS[name]}"
            if kind == "1bitllm":
                weight = (rng.normal(size=codes.shape) * scale).astype(np.float32)
                scale = float(np.abs(weight).mean(dtype=np.float64))
                codes = np.clip(np.rint(weight / scale), -1, 1).astype(np.int8)
                layer.weights[name] = codes if name not in ("wq", "wk") else unhalved(codes, c.head_dim)
            elif kind == "trilm":
                weight = (codes * np.float32(scale)).astype(np.float16)
            else:
                stored = scale if kind == "bitnet-2b4t" else 1 / scale
                tensors[f"{where}.weight_scale"] = np.array([stored], np.float32)
                weight = codes.astype(np.float16) if unpacked else packed(codes)
            tensors[f"{where}.weight"] = weight
            weights[name] = codes, scale
        layers.append(weights)
    head = None if c.tied else tensors["lm_head.weight"]
    return tensors, reference.ReferenceModel(
        layers, tensors["model.embed_tokens.weight"], model.final_gain, c.heads, c.kv_heads, head=head, gains=gains,
        o_norm=c.o_norm, down_norm=c.down_norm, relu2=c.act == "relu2", eps=c.eps, theta=c.theta, halves=True,
        qk_norm=c.qk_norm, vector_norms=c.vector_norms)


def unhalved(rows, head_dim):
    out = np.empty_like(rows)
    out[[int(i) for i in halves(np.arange(len(rows)), head_dim)]] = rows
    return out


def write_safetensors(path, tensors, *, bfloat16=()):
    """A safetensors file; names in ``bfloat16`` are cut to it."""
    header, content = {}, []
    at = 0
    for name, value in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "uint8": "U8", "int8": "I8", "int64": "I64"}[str(value.dtype)]
        raw = np.ascontiguousarray(value).tobytes()
        if name in bfloat16:
            kind, raw = "BF16", (np.ascontiguousarray(value, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        content.append(raw)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(content))


def config_json(kind):
    c, arch, quantisation, _ = KINDS[kind]
    fields = {"architectures": [arch], "hidden_size": c.dim, "intermediate_size": c.ffn, "num_hidden_layers": c.layers,
              "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "vocab_size": c.vocab,
              "max_position_embeddings": c.context, "rms_norm_eps": c.eps, "rope_theta": c.theta, "hidden_act": c.act,
              "tie_word_embeddings": c.tied, "bos_token_id": c.bos, "eos_token_id": [c.eos, *c.more_ends], "model_type": "x"}
    if quantisation is not None:
        fields["quantization_config"] = quantisation
    if c.head_dim * c.heads != c.dim:
        fields["head_dim"] = c.head_dim
    return fields


def folder(path, kind, tensors, *, config=None, shards=1, tokenizer=None, bfloat16=()):
    """Write a folder; returns it."""
    path.mkdir()
    fields = {k: v for k, v in (config_json(kind) | (config or {})).items() if v is not None}
    (path / "config.json").write_text(json.dumps(fields))
    if shards == 1:
        write_safetensors(path / "model.safetensors", tensors, bfloat16=bfloat16)
    else:
        names = list(tensors)
        places = {}
        for i in range(shards):
            part, name = names[i::shards], f"model-{i + 1:05}-of-{shards:05}.safetensors"
            write_safetensors(path / name, {n: tensors[n] for n in part}, bfloat16=bfloat16)
            places |= dict.fromkeys(part, name)
        (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (path / "tokenizer.json").write_bytes(tokenizer or byte_level_json())
    return path


TEXT = ["the cat sat on the mat and the dog ran to the park", "caf\u00e9 na\u00efve \u2603 snow"] * 20


def byte_level_json(size=300):
    """A byte-level tokenizer.json as those of LLaMA 3, GPT-2 and GPT-NeoX are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|bos|>", "<|eos|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return made.to_str().encode()


def byte_fallback_json(size=300):
    """A tokenizer.json as LLaMA 2's is: spaces as U+2581, unknown characters byte by byte."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    # Words one by one: merges must not cross spaces.
    words = ["\u2581" + w for t in TEXT for w in t.split()]
    made.normalizer, keep = normalizers.Sequence([]), made.normalizer
    made.train_from_iterator(words, trainers.BpeTrainer(vocab_size=size, special_tokens=[AddedToken(t, normalized=False)
                                                                                         for t in special],
                                                        show_progress=False))
    made.normalizer = keep
    fields = json.loads(made.to_str())
    # The bytes are plain vocabulary, not special tokens.
    fields["added_tokens"] = fields["added_tokens"][:3]
    return json.dumps(fields, ensure_ascii=False).encode()
