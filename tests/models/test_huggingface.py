# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Hugging Face folders of each kind: the same codes and scales, the logits of a float model, and every refusal."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tellme.golden.perplexity import golden_board
from tellme.models import LINEARS, Model, ModelError
from tellme.models.container import write
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.models.model import NORMS
from tellme.spec.scale import scale_from_fraction
from tests import reference
from tests.models.folders import KINDS, PROJECTIONS, byte_fallback_json, folder, halves, kind_model, tensors_of


def converted(path, tmp_path, options=None, say=print):
    out = tmp_path / "out.tellme"
    write(open_checkpoint(path, options or Options(), say), out)
    return Model.load(out)


def assert_same(got, want, *, scales=True):
    assert got.config == want.config
    for a, b in zip(got.layers, want.layers, strict=True):
        for name in LINEARS:
            assert np.array_equal(a.weights[name], b.weights[name]), name
            assert not scales or a.blocks(name) == b.blocks(name), name
        assert a.gains.keys() == b.gains.keys() and all((a.gains[n] == b.gains[n]).all() for n in NORMS if n in a.gains)
        assert a.biases.keys() == b.biases.keys() and all((a.biases[n] == b.biases[n]).all() for n in a.biases)
    for table in ("embedding", "embedding_scales", "final_gain", "head", "head_scales"):
        x, y = getattr(got, table), getattr(want, table)
        assert (x is None and y is None) or np.array_equal(x, y), table


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_model_comes_out(kind, shards, tmp_path):
    model = kind_model(kind)
    tensors, float_model = tensors_of(kind, model)
    path = folder(tmp_path / "hf", kind, tensors, shards=shards)
    heard = []
    got = converted(path, tmp_path, say=heard.append)
    assert_same(got, model, scales=kind != "1bitllm")
    assert got.tokenizer == (path / "tokenizer.json").read_bytes()
    assert KINDS[kind][1] in heard[-1] and heard[0].startswith("weights: ")
    if kind == "1bitllm":
        for layer, float_layer in zip(got.layers, float_model.layers, strict=True):
            assert all(layer.scales[n] == scale_from_fraction(float_layer[n][1]) for n in LINEARS)
    # Read with transformers' order of RoPE's pairs, the checkpoint gives the same logits.
    ids = [int(i) for i in np.random.default_rng(1).integers(0, got.config.vocab, got.config.context)]
    expected = reference.forward(float_model, ids)
    golden = golden_board(got).feed(ids, 0, heads="all") / 65536
    assert np.abs(golden - expected).mean() < 0.03 * expected.std()


@pytest.mark.parametrize("kind", KINDS)
def test_what_config_json_leaves_out_is_what_transformers_takes(kind, tmp_path):
    tensors, _ = tensors_of(kind, kind_model(kind))
    left_out = dict.fromkeys(("hidden_act", "rms_norm_eps", "rope_theta", "tie_word_embeddings"))
    tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    config = converted(folder(tmp_path / "hf", kind, tensors, config=left_out), tmp_path).config
    llama, bitnet = KINDS[kind][1] in ("LlamaForCausalLM", "Qwen3ForCausalLM"), kind == "bitnet-2b4t"
    assert (config.act, config.eps, config.theta, config.tied) == (
        "relu2" if bitnet else "silu", 1e-6 if llama else 1e-5, 5e5 if bitnet else 1e4, False)


def test_heads_of_qwen3(tmp_path):
    """128 elements where config.json does not say how many; gains of ones are left out; each norm's tensor is needed."""
    c = replace(KINDS["qwen3"][0], heads=2, kv_heads=1, head_dim=128)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "qwen3", (c, *KINDS["qwen3"][1:]))
        model = kind_model("qwen3")
        model.layers[1].gains["k_norm"][:] = 1
        tensors, _ = tensors_of("qwen3", model)
        del model.layers[1].gains["k_norm"]
        # The other keys of a published config.json.
        path = folder(tmp_path / "hf", "qwen3", tensors, config={
            "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "max_window_layers": 28,
            "model_type": "qwen3", "rope_scaling": None, "sliding_window": None, "torch_dtype": "bfloat16",
            "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False})
        fields = json.loads((path / "config.json").read_text())
        del fields["head_dim"]
        (path / "config.json").write_text(json.dumps(fields))
        assert_same(converted(path, tmp_path), model)
        name = "model.layers.1.self_attn.q_norm.weight"
        with pytest.raises(ModelError, match=f"lacks the tensor {name}$"):
            converted(folder(tmp_path / "less", "qwen3", {n: t for n, t in tensors.items() if n != name}), tmp_path)
        # The same tensors in an architecture without these norms.
        with pytest.raises(ModelError, match="has the unknown tensor model.layers.0.self_attn.k_norm.weight and 3 more: this "
                                             "model computes something that the engine does not$"):
            converted(folder(tmp_path / "llama", "qwen3", tensors, config={"architectures": ["LlamaForCausalLM"]}), tmp_path)


def test_norms_of_olmo_2(tmp_path):
    """Each norm's tensor is needed, with the width of the whole vector; the other keys of a published config.json say nothing."""
    model = kind_model("olmo2")
    tensors, _ = tensors_of("olmo2", model)
    path = folder(tmp_path / "hf", "olmo2", tensors, config={
        "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "model_type": "olmo2", "pad_token_id": 1,
        "rope_scaling": None, "torch_dtype": "float32", "transformers_version": "4.47.0", "use_cache": True})
    got = converted(path, tmp_path)
    assert_same(got, model)
    assert got.config.vector_norms and not got.config.qk_norm
    for number, name in enumerate(("self_attn.k_norm", "post_attention_layernorm", "post_feedforward_layernorm")):
        name = f"model.layers.1.{name}.weight"
        with pytest.raises(ModelError, match=f"lacks the tensor {name}$"):
            converted(folder(tmp_path / f"less{number}", "olmo2", {n: t for n, t in tensors.items() if n != name}), tmp_path)
    name = "model.layers.0.self_attn.q_norm.weight"
    with pytest.raises(ModelError, match=rf"{name} has shape \(16,\), the configuration says \(64,\)$"):
        converted(folder(tmp_path / "heads", "olmo2", tensors | {name: tensors[name][:16]}), tmp_path)


def test_sliding_windows_of_olmo_3_are_refused(tmp_path):
    tensors, _ = tensors_of("olmo2", kind_model("olmo2"))
    path = folder(tmp_path / "hf", "olmo2", tensors, config={"architectures": ["Olmo3ForCausalLM"]})
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path)
    assert str(caught.value) == (f"{path / 'config.json'}: the architecture Olmo3ForCausalLM has a sliding window in most of its "
                                 "layers, which the engine does not do")


@pytest.mark.parametrize("kind", ["bitnet-2b4t", "falcon"])
def test_weights_that_are_not_packed(kind, tmp_path):
    model = kind_model(kind)
    tensors, _ = tensors_of(kind, model, unpacked=True)
    assert_same(converted(folder(tmp_path / "hf", kind, tensors), tmp_path), model)
    # The same with the scale multiplied in, and as int8.
    for name in list(tensors):
        if name.endswith("_scale"):
            factor = tensors[name] if kind == "bitnet-2b4t" else 1 / tensors[name]
            weight = name.removesuffix("_scale")
            tensors[weight] = ((tensors[weight] * factor).astype(np.float16) if "layers.0" in name
                               else tensors[weight].astype(np.int8))
    assert_same(converted(folder(tmp_path / "hf2", kind, tensors), tmp_path), model)


def test_bfloat16(tmp_path):
    model = kind_model("trilm")
    for layer in model.layers:
        for name in LINEARS:
            # bfloat16 has 8 bits.
            layer.scales[name] = layer.scales[name]._replace(sig=layer.scales[name].sig // 8 * 8)
    tensors, _ = tensors_of("trilm", model)
    got = converted(folder(tmp_path / "hf", "trilm", tensors, bfloat16=[n for n in tensors if "proj" in n]), tmp_path)
    assert_same(got, model)
    tables = [n for n in tensors if "embed" in n or "lm_head" in n]
    got = converted(folder(tmp_path / "hf2", "trilm", tensors, bfloat16=tables), tmp_path)
    assert (np.abs(got.embedding.astype(int) - model.embedding) <= 1).all()


@pytest.mark.parametrize("name", ["wq", "wv", "w1", "w2"])
def test_several_scales_are_found_in_the_values(name, tmp_path):
    model = kind_model("trilm")
    tensors, _ = tensors_of("trilm", model)
    tensor = f"model.layers.1.{PROJECTIONS[name]}.weight"
    weight = tensors[tensor].astype(np.float32)
    # Two shards, a row block each: heads stay whole.
    weight[len(weight) // 2:] *= 0.5
    tensors[tensor] = weight.astype(np.float16)
    got = converted(folder(tmp_path / "hf", "trilm", tensors), tmp_path)
    scale, rows = model.layers[1].scales[name], len(weight)
    assert got.layers[1].scales[name] == ((rows // 2, scale), (rows - rows // 2, scale._replace(exp=scale.exp - 1)))
    assert np.array_equal(got.layers[1].weights[name], model.layers[1].weights[name])


def test_biases(tmp_path):
    model = kind_model("falcon")
    tensors, float_model = tensors_of("falcon", model)
    rng = np.random.default_rng(4)
    float_model.biases = [{} for _ in model.layers]
    for i, layer in enumerate(model.layers):
        for name in ("wq", "wk", "wv", "wo", "w1", "w3", "w2"):
            bias = rng.normal(size=len(layer.weights[name])).astype(np.float16)
            tensors[f"model.layers.{i}.{PROJECTIONS[name]}.bias"] = float_model.biases[i][name] = bias
    got = converted(folder(tmp_path / "hf", "falcon", tensors), tmp_path)
    ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    expected = reference.forward(float_model, ids)
    golden = golden_board(got).feed(ids, 0, heads="all") / 65536
    assert np.abs(golden - expected).mean() < 0.03 * expected.std()
    float_model.biases[1]["wk"][:] = 0
    assert np.abs(reference.forward(float_model, ids) - expected).mean() > 1e-3 * expected.std()


def test_online_quantisation_is_of_the_float_weights(tmp_path):
    model = kind_model("1bitllm")
    tensors, _ = tensors_of("1bitllm", model)
    names = {"inner_attn_ln": "attn_sub_norm", "ffn_layernorm": "ffn_sub_norm"}
    for old, new in names.items():
        tensors = {n.replace(old, new): t for n, t in tensors.items()}
    online = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
    got = converted(folder(tmp_path / "hf", "1bitllm", tensors,
                           config={"architectures": ["BitNetForCausalLM"], "quantization_config": online}), tmp_path)
    # Its tokenizer is of another class, which puts no BOS ahead.
    model.config = replace(model.config, add_bos=False)
    assert_same(got, model, scales=False)


@pytest.mark.parametrize("meaning", ["multiply", "divide"])
def test_a_scale_of_the_wrong_meaning_is_noticed(meaning, tmp_path):
    kind = "bitnet-2b4t" if meaning == "divide" else "falcon"
    other = dict(KINDS[kind][2]) | {"linear_class": "bitlinear" if meaning == "divide" else "autobitlinear",
                                    "quantization_mode": "offline"}
    tensors, _ = tensors_of(kind, kind_model(kind))
    path = folder(tmp_path / "hf", kind, tensors, config={"quantization_config": other})
    right = {"multiply": "divide", "divide": "multiply"}[meaning]
    with pytest.raises(ModelError, match=f"said to {meaning}.*say that it has to {right}, or to {meaning} if it is so$"):
        open_checkpoint(path, Options(), print)
    assert_same(converted(path, tmp_path, Options(weight_scale=right)), kind_model(kind))


def test_near_one_the_configuration_is_believed(tmp_path):
    model = kind_model("falcon")
    for layer in model.layers:
        layer.scales = {n: scale_from_fraction(1.5) for n in LINEARS}
    heard = []
    assert_same(converted(folder(tmp_path / "hf", "falcon", tensors_of("falcon", model)[0]), tmp_path, say=heard.append), model)
    assert any("weights of about 1.5: so near 1 that only the configuration tells" in text for text in heard)


def test_context_act_exp_and_tokenizer_are_the_users(tmp_path):
    tensors, _ = tensors_of("bitnet-2b4t", kind_model("bitnet-2b4t"))
    path = folder(tmp_path / "hf", "bitnet-2b4t", tensors)
    (tmp_path / "other.json").write_bytes(byte_fallback_json(290))
    got = converted(path, tmp_path, Options(tokenizer=tmp_path / "other.json", context=8, act_exp=3))
    assert (got.config.context, got.config.act_exp) == (8, 3) and got.tokenizer == (tmp_path / "other.json").read_bytes()
    (path / "tokenizer.json").unlink()
    assert converted(path, tmp_path, Options(no_tokenizer=True)).tokenizer == b""
    with pytest.raises(ModelError, match="^a context of 25: the model has positions 1 to 24$"):
        open_checkpoint(path, Options(no_tokenizer=True, context=25), print)


def test_a_bias_beside_a_scale_that_multiplies_is_refused(tmp_path):
    tensors, _ = tensors_of("bitnet-2b4t", kind_model("bitnet-2b4t"))
    tensors["model.layers.1.mlp.up_proj.bias"] = np.ones(100, np.float32)
    with pytest.raises(ModelError, match="up_proj.bias stands beside a weight_scale that multiplies"):
        converted(folder(tmp_path / "hf", "bitnet-2b4t", tensors), tmp_path)


def test_latent_weights_that_are_ternary_already(tmp_path):
    model = kind_model("1bitllm")
    tensors, _ = tensors_of("1bitllm", model)
    for i, layer in enumerate(model.layers):
        for name, projection in PROJECTIONS.items():
            codes = halves(layer.weights[name], 32) if name in ("wq", "wk") else layer.weights[name]
            tensors[f"model.layers.{i}.{projection}.weight"] = codes * np.float32(layer.scales[name].value())
    heard = []
    assert_same(converted(folder(tmp_path / "hf", "1bitllm", tensors), tmp_path, say=heard.append), model)
    assert "model.layers.1.mlp.down_proj.weight is ternary already" in heard


def test_a_tied_head_in_the_files_must_be_the_embedding(tmp_path):
    model = kind_model("bitnet-2b4t")
    tensors, _ = tensors_of("bitnet-2b4t", model)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    assert_same(converted(folder(tmp_path / "hf", "bitnet-2b4t", tensors), tmp_path), model)
    tensors["lm_head.weight"][7, 7] += 1
    with pytest.raises(ModelError, match="lm_head.weight is not model.embed_tokens.weight, though tie"):
        converted(folder(tmp_path / "hf2", "bitnet-2b4t", tensors), tmp_path)


Q = "model.layers.0.self_attn.q_proj"


def changed(name, value):
    return lambda tensors: tensors.__setitem__(name, value(tensors.get(name)))


@pytest.mark.parametrize(("kind", "config", "change", "message"), [
    # A float LLaMA: the reason, and the way out.
    ("trilm", {}, changed(f"{Q}.weight", lambda w: np.random.default_rng(0).normal(size=w.shape).astype(np.float16)),
     f"{Q}.weight is not ternary: a row of it holds 6\\d different magnitudes. This is a float checkpoint.*train this one to"),
    ("trilm", {}, changed(f"{Q}.weight", np.zeros_like), "is all zeros"),
    ("trilm", {}, changed(f"{Q}.weight", lambda w: w * np.float16(np.nan)), f"{Q}.weight holds an infinity or NaN"),
    ("trilm", {}, changed("model.embed_tokens.weight", lambda w: w / np.float32(0)), "embed_tokens.weight holds an infinity"),
    ("trilm", {}, changed("model.norm.weight", lambda w: w.astype(np.float32) + 1e6), "norm.weight holds .* beyond binary16"),
    ("trilm", {}, changed(f"{Q}.weight_scale", lambda w: np.ones(1, np.float32)), "lies beside weights that the config"),
    ("trilm", {}, lambda t: t.pop("lm_head.weight"), "lacks the tensor lm_head.weight"),
    ("trilm", {}, lambda t: t.pop(f"{Q}.weight"), f"lacks the tensor {Q}.weight"),
    ("trilm", {}, changed("model.layers.0.extra", lambda w: np.ones(3, np.float32)), "unknown tensor model.layers.0.extra:"),
    ("trilm", {"num_hidden_layers": 1}, None, "unknown tensor model.layers.1.input_layernorm.weight and 8 more"),
    ("trilm", {"intermediate_size": 164}, None, r"gate_proj.weight has shape \(160, 64\), the configuration says \(164, 64\)"),
    ("trilm", {}, changed(f"{Q}.bias", lambda w: np.ones(3, np.float32)), f"{Q}.bias has shape"),
    ("trilm", {}, changed(f"{Q}.weight", lambda w: w.astype(np.int64)), f"{Q}.weight is I64; F32"),
    # Codes and scales.
    ("falcon", {}, changed(f"{Q}.weight", lambda w: w | 3), f"{Q}.weight holds the code 3"),
    ("falcon", {}, changed(f"{Q}.weight", lambda w: np.full((96, 96), 2, np.int8)), "holds a code outside -1, 0, 1: 2"),
    ("falcon", {}, changed(f"{Q}.weight_scale", lambda w: np.array([np.nan], np.float32)), f"{Q}.weight_scale is nan"),
    ("falcon", {}, changed(f"{Q}.weight_scale", lambda w: np.array([0], np.float32)), f"{Q}.weight_scale is 0.0"),
    ("falcon", {}, changed(f"{Q}.weight_scale", lambda w: np.ones(7, np.float32)), "has 7 values for 96 rows"),
    ("falcon", {}, lambda t: t.pop(f"{Q}.weight_scale"), f"lacks the tensor {Q}.weight_scale"),
    ("falcon", {}, changed(f"{Q}.weight", lambda w: w[:-1]), r"has shape \(23, 96\), the configuration says \(24, 96\)"),
    # Configurations.
    ("falcon", {"architectures": ["MistralForCausalLM"]}, None, "the architecture is MistralForCausalLM; LlamaForCausalLM, "),
    ("falcon", {"architectures": [["x"]]}, None, "the architecture is \\['x'\\]"),
    ("falcon", {"architectures": None}, None, "the architecture is None"),
    ("falcon", {"quantization_config": {"quant_method": "gptq"}}, None, "the quantisation is 'gptq', which is not ternary"),
    ("falcon", {"quantization_config": {"quant_method": "bitnet", "linear_class": "x"}}, None, "linear_class is 'x'"),
    ("falcon", {"quantization_config": {"quant_method": "bitnet", "use_rms_norm": True}}, None, "use_rms_norm puts a norm"),
    ("falcon", {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, None, "rope_type is 'llama3'"),
    ("falcon", {"rope_parameters": {"rope_type": "yarn"}}, None, "rope_type is 'yarn'"),
    ("falcon", {"hidden_act": "gelu"}, None, "hidden_act is 'gelu'"),
    ("falcon", {"hidden_size": "96"}, None, "hidden_size is '96', which is no int"),
    ("falcon", {"hidden_size": None}, None, "has no hidden_size"),
    ("falcon", {"eos_token_id": 999}, None, "eos_token_id is 999, outside the vocabulary of 333$"),
    ("falcon", {"vocab_size": 299}, None, "has 300 tokens, the model a vocabulary of 299"),
    ("1bitllm", {"input_bits": 4}, None, "input_bits is 4"),
])
def test_refusals_write_nothing(kind, config, change, message, tmp_path):
    tensors, _ = tensors_of(kind, kind_model(kind))
    if change is not None:
        with np.errstate(all="ignore"):
            change(tensors)
    path = folder(tmp_path / "hf", kind, tensors, config=config)
    with pytest.raises(ModelError, match=message):
        converted(path, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize(("change", "message"), [
    (lambda p: (p / "config.json").unlink(), "has no config.json: not a Hugging Face"),
    (lambda p: (p / "config.json").write_text("{"), "config.json is no JSON"),
    (lambda p: (p / "config.json").write_text("[]"), "holds no JSON object"),
    (lambda p: (p / "tokenizer.json").unlink(), "tokenizer.json nor tokenizer.model: give a tokenizer's file, or "),
    (lambda p: (p / "tokenizer.json").write_text("{}"), "tokenizer.json is no tokenizer.json"),
    (lambda p: (p / "tokenizer.json").write_text("x"), "tokenizer.json is no SentencePiece model"),
    (lambda p: (p / "model-00002-of-00003.safetensors").unlink(), "cannot read .*model-00002-of-00003.safetensors: No such"),
    (lambda p: cut(p / "model-00002-of-00003.safetensors", -1), "00002-of-00003.safetensors has .* it is cut short"),
    (lambda p: cut(p / "model-00002-of-00003.safetensors", 100), "00002-of-00003.safetensors is no safetensors file, or is cut"),
    (lambda p: cut(p / "model-00002-of-00003.safetensors", 0), "00002-of-00003.safetensors is no safetensors file, or is cut"),
    (lambda p: (p / "model.safetensors.index.json").write_text("{}"), "is no index of safetensors files"),
    (lambda p: edit_index(p, lambda m: m.__setitem__("model.norm.weight", "../x")), "is no index of safetensors files"),
    (lambda p: edit_index(p, lambda m: m.pop("model.norm.weight")), "holds model.norm.weight, which .* does not name"),
    (lambda p: edit_index(p, lambda m: m.__setitem__("more", "model-00001-of-00003.safetensors")), "lacks more, which"),
    (lambda p: (p / "model.safetensors.index.json").unlink(), "has 3 .safetensors files and no model.safetensors.index.json"),
    (lambda p: [f.rename(f.with_suffix(".bin")) for f in p.glob("model*")], ".bin files are Python pickles"),
])
def test_damaged_folders(change, message, tmp_path):
    tensors, _ = tensors_of("falcon", kind_model("falcon"))
    path = folder(tmp_path / "hf", "falcon", tensors, shards=3)
    change(path)
    with pytest.raises(ModelError, match=message):
        converted(path, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def edit_index(path, change):
    index = path / "model.safetensors.index.json"
    fields = json.loads(index.read_text())
    change(fields["weight_map"])
    index.write_text(json.dumps(fields))


def test_a_part_of_a_folder_is_told_from_a_training_run(tmp_path):
    tensors, _ = tensors_of("falcon", kind_model("falcon"))
    path = folder(tmp_path / "hf", "falcon", tensors)
    with pytest.raises(ModelError, match="is a part of a Hugging Face model: give its folder"):
        open_checkpoint(path / "model.safetensors", Options(), print)
