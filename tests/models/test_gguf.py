# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""GGUF files, written here with the gguf package: the same codes and scales, and every refusal."""

from dataclasses import replace

import gguf
import numpy as np
import pytest

from tellme.golden.perplexity import golden_board
from tellme.models import LINEARS, ModelConfig, ModelError
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.models.tokenizers.tokenizer import Tokenizer
from tests import reference
from tests.models.folders import byte_level_json, floats, halves
from tests.models.random_model import model_of
from tests.models.test_checkpoints import SHIPPED
from tests.models.test_huggingface import assert_same, converted, cut

NAMES = {"wq": "attn_q", "wk": "attn_k", "wv": "attn_v", "wo": "attn_output", "w1": "ffn_gate", "w3": "ffn_up",
         "w2": "ffn_down"}
NORMS = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "o_norm": "attn_sub_norm", "down_norm": "ffn_sub_norm",
         "q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "attn_post_norm": "post_attention_norm",
         "ffn_post_norm": "post_ffw_norm"}
#: Columns are multiples of a TQ block of 256.
LLAMA = ModelConfig(dim=256, ffn=512, layers=2, heads=8, kv_heads=2, head_dim=32, vocab=300, context=24, tied=False, bos=0,
                    eos=1)
BITNET = ModelConfig(dim=256, ffn=256, layers=2, heads=4, kv_heads=2, head_dim=64, vocab=300, context=24, o_norm=True,
                     down_norm=True, theta=5e5, bos=0, eos=1)
QWEN3 = ModelConfig(dim=256, ffn=256, layers=2, heads=16, kv_heads=8, head_dim=32, vocab=300, context=24, qk_norm=True, eps=1e-6,
                    theta=1e6, bos=0, eos=1)
OLMO2 = ModelConfig(dim=256, ffn=256, layers=2, heads=8, kv_heads=4, head_dim=32, vocab=300, context=24, vector_norms=True,
                    eps=1e-6, theta=5e5, tied=False, bos=0, eos=1)
#: Widths for F16 only.
NARROW = replace(LLAMA, dim=96, heads=3, kv_heads=1, ffn=100)


def gguf_model(config, name="model"):
    """A random model whose scales are binary16 numbers."""
    return model_of(config, gains=True, name=name)


def arch_of(config):
    return "bitnet" if config.o_norm else "qwen3" if config.qk_norm else "olmo2" if config.vector_norms else "llama"


def write_gguf(path, model, kind, *, change=None, fields=(), drop=(), tokenizer=True):
    """A GGUF file as llama.cpp's converter makes it.  ``change`` gets the dict name -> (array, type)."""
    c = model.config
    arch = arch_of(c)
    tensors = {"token_embd.weight": (floats(model.embedding, model.embedding_scales), None),
               "output_norm.weight": (model.final_gain.astype(np.float32), None)}
    if not c.tied:
        tensors["output.weight"] = (floats(model.head, model.head_scales), None)
    for i, layer in enumerate(model.layers):
        for norm, gain in layer.gains.items():
            if norm in ("q_norm", "k_norm"):
                gain = halves(gain, c.head_dim)
            tensors[f"blk.{i}.{NORMS[norm]}.weight"] = (gain.astype(np.float32), None)
        for name in LINEARS:
            codes = layer.weights[name]
            if arch != "llama" and name in ("wq", "wk"):
                codes = halves(codes, c.head_dim)
            values = codes * np.float32(layer.scales[name].value())
            tensors[f"blk.{i}.{NAMES[name]}.weight"] = (values, gguf.GGMLQuantizationType[kind])
    if change is not None:
        change(tensors)
    out = gguf.GGUFWriter(path, arch)
    values = {f"{arch}.context_length": c.context, f"{arch}.embedding_length": c.dim, f"{arch}.block_count": c.layers,
              f"{arch}.feed_forward_length": c.ffn, f"{arch}.attention.head_count": c.heads,
              f"{arch}.attention.head_count_kv": c.kv_heads, "tokenizer.ggml.bos_token_id": c.bos,
              "tokenizer.ggml.eos_token_id": c.eos, "tokenizer.ggml.add_bos_token": c.add_bos} | dict(fields)
    if c.heads * c.head_dim != c.dim:
        values |= {f"{arch}.attention.key_length": c.head_dim, f"{arch}.attention.value_length": c.head_dim}
    adds = {str: out.add_string, bool: out.add_bool, float: out.add_float32, list: out.add_array, int: out.add_uint32}
    for key, value in values.items():
        if key not in drop and value is not None:
            adds[type(value)](key, value)
    if arch + ".attention.layer_norm_rms_epsilon" not in drop:
        out.add_layer_norm_rms_eps(c.eps)
    out.add_rope_freq_base(c.theta)
    if tokenizer is True:
        byte_level_fields(out)
    elif tokenizer:
        tokenizer(out)
    for name, (array, quantised) in tensors.items():
        if quantised is None:
            out.add_tensor(name, array)
        else:
            out.add_tensor(name, gguf.quants.quantize(array, quantised), raw_dtype=quantised)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def byte_level_fields(out, pre="gpt-2"):
    import json

    fields = json.loads(byte_level_json())
    vocab = sorted(fields["model"]["vocab"], key=fields["model"]["vocab"].get)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(pre)
    out.add_token_list(vocab)
    out.add_token_types([3, 3] + [1] * (len(vocab) - 2))
    out.add_token_merges([" ".join(m) for m in fields["model"]["merges"]])


@pytest.mark.parametrize(("config", "kind"), [
    (LLAMA, "TQ1_0"), (LLAMA, "TQ2_0"), (LLAMA, "F32"), (BITNET, "TQ1_0"), (BITNET, "TQ2_0"), (BITNET, "BF16"),
    (OLMO2, "TQ1_0"), (OLMO2, "BF16"),
    (QWEN3, "TQ1_0"), (QWEN3, "F32"), (replace(QWEN3, tied=False), "BF16"),
    # A TQ block has 256 columns.
    (NARROW, "F16"), (NARROW, "F32"), (NARROW, "BF16"),
])
def test_the_same_model_comes_out(config, kind, tmp_path):
    model = gguf_model(config)
    if kind == "BF16":
        for layer in model.layers:
            layer.scales = {n: s._replace(sig=s.sig // 8 * 8) for n, s in layer.scales.items()}
    path = write_gguf(tmp_path / "m.gguf", model, kind)
    heard = []
    got = converted(path, tmp_path, say=heard.append)
    assert_same(got, model)
    assert f"GGUF, {arch_of(config)}, {kind}, 2 layers" in heard[-1]


def test_rope_of_the_architectures(tmp_path):
    """The logits of a float model that turns what llama.cpp turns: adjacent pairs in llama, halves in bitnet, qwen3 and olmo2."""
    for config in (LLAMA, BITNET, QWEN3, OLMO2):
        in_halves = config is not LLAMA
        model = gguf_model(config)
        got = converted(write_gguf(tmp_path / "m.gguf", model, "TQ2_0"), tmp_path)
        layers = [{n: (halves(layer.weights[n], config.head_dim) if in_halves and n in ("wq", "wk") else
                       layer.weights[n], float(layer.scales[n].value())) for n in LINEARS} for layer in model.layers]
        head = None if config.tied else floats(model.head, model.head_scales)
        float_model = reference.ReferenceModel(
            layers, floats(model.embedding, model.embedding_scales), model.final_gain, config.heads, config.kv_heads, head=head,
            gains=[{n: halves(gain, config.head_dim) if n in ("q_norm", "k_norm") else gain for n, gain in layer.gains.items()}
                   for layer in model.layers],
            o_norm=config.o_norm, down_norm=config.down_norm, theta=config.theta, halves=in_halves, qk_norm=config.qk_norm,
            vector_norms=config.vector_norms)
        ids = list(range(20))
        expected = reference.forward(float_model, ids)
        assert np.abs(golden_board(got).feed(ids, 0, heads="all") / 65536 - expected).mean() < 0.03 * expected.std()
        (tmp_path / "out.tellme").unlink()


def test_scales_beside_the_weights(tmp_path):
    """Older bitnet files: codes, and a tensor of their scale."""
    model = gguf_model(BITNET)

    def change(tensors):
        for i, layer in enumerate(model.layers):
            for name in LINEARS:
                at = f"blk.{i}.{NAMES[name]}"
                values, kind = tensors[f"{at}.weight"]
                tensors[f"{at}.weight"] = np.sign(values), kind
                tensors[f"{at}.scale"] = np.array([layer.scales[name].value()], np.float32), None

    assert_same(converted(write_gguf(tmp_path / "m.gguf", model, "TQ1_0", change=change), tmp_path), model)


def test_several_scales(tmp_path):
    model = gguf_model(LLAMA)
    layer = model.layers[0]
    scale = layer.scales["w1"]

    def change(tensors):
        values, kind = tensors["blk.0.ffn_gate.weight"]
        values[100:] *= 2
        tensors["blk.0.ffn_gate.weight"] = values, kind

    got = converted(write_gguf(tmp_path / "m.gguf", model, "TQ1_0", change=change), tmp_path)
    assert got.layers[0].scales["w1"] == ((100, scale), (412, scale._replace(exp=scale.exp + 1)))


def test_tokenizer_byte_level(tmp_path):
    import tokenizers

    model = gguf_model(LLAMA)
    got = Tokenizer(converted(write_gguf(tmp_path / "m.gguf", model, "F16"), tmp_path).tokenizer)
    want = tokenizers.Tokenizer.from_str(byte_level_json().decode())
    for text in ("the cat's mat", "caf\u00e9 \u2603  snow\n\n12345 x"):
        assert got.encode(text) == want.encode(text).ids
        assert got.decode(got.encode(text)) == text
    assert got.piece_bytes(0) == b"" and got.encode("<|eos|>") == [1]


def sentencepiece_fields(out):
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor()
    pieces.LoadFromSerializedProto(SHIPPED.tokenizer)
    ids = range(pieces.get_piece_size())
    out.add_tokenizer_model("llama")
    out.add_token_list([pieces.id_to_piece(i) for i in ids])
    out.add_token_scores([pieces.get_score(i) for i in ids])
    out.add_token_types([2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1
                         for i in ids])


def test_tokenizer_sentencepiece(tmp_path):
    model = gguf_model(replace(LLAMA, vocab=SHIPPED.config.vocab))
    path = write_gguf(tmp_path / "m.gguf", model, "F16", tokenizer=sentencepiece_fields)
    got, want = Tokenizer(converted(path, tmp_path).tokenizer), Tokenizer(SHIPPED.tokenizer)
    text = "Once upon a time, there was a caf\u00e9 in the \u2603 snow. \"Look!\" she said."
    assert got.encode(text) == want.encode(text) and got.decode(got.encode(text)) == text
    assert [got.piece_bytes(i) for i in range(got.size)] == [want.piece_bytes(i) for i in range(want.size)]


def put(name, value, kind=None):
    def change(tensors):
        old, old_kind = tensors.get(name, (None, None))
        tensors[name] = value(old), kind or old_kind
    return change


@pytest.mark.parametrize(("arguments", "message"), [
    ({"change": put("blk.0.attn_q.weight", lambda w: np.random.default_rng(0).normal(size=w.shape).astype(np.float32))},
     "blk.0.attn_q.weight is not ternary.*This is a float checkpoint"),
    ({"change": put("blk.1.ffn_up.weight", np.asarray, gguf.GGMLQuantizationType.Q8_0)}, "up.weight is Q8_0; ternary"),
    ({"change": put("rope_freqz.weight", lambda w: np.ones(16, np.float32))}, "unknown tensor rope_freqz.weight"),
    ({"change": lambda t: t.pop("blk.1.ffn_up.weight")}, "lacks the tensor blk.1.ffn_up.weight"),
    ({"change": lambda t: t.pop("token_embd.weight")}, "lacks the tensor token_embd.weight"),
    ({"change": put("blk.0.attn_q.scale", lambda w: np.array([np.nan], np.float32))}, "attn_q.scale is nan"),
    ({"change": put("blk.0.attn_q.weight", lambda w: w[:-2])}, r"attn_q.weight has shape \(254, 256\)"),
    ({"fields": {"llama.expert_count": 8}.items()}, "is a mixture of experts"),
    ({"fields": {"llama.rope.scaling.type": "yarn"}.items()}, "rope.scaling.type is 'yarn'"),
    ({"fields": {"llama.rope.dimension_count": 16}.items()}, "RoPE turns 16 of 32"),
    ({"fields": {"llama.block_count": "two"}.items()}, "its metadata has a value of the wrong type .*two"),
    ({"fields": {"llama.block_count": "2"}.items()}, "wrong type .llama.block_count is '2', which is no int"),
    ({"fields": {"llama.attention.head_count": 8.5}.items()}, "wrong type .llama.attention.head_count is 8.5, which is no int"),
    ({"drop": ["llama.context_length"]}, "has no llama.context_length"),
    ({"tokenizer": None}, "has no tokenizer: give a tokenizer's file, or convert without one, for token ids only$"),
    ({"tokenizer": lambda out: byte_level_fields(out, "tekken")}, "splits texts as 'tekken'"),
    ({"tokenizer": lambda out: (out.add_tokenizer_model("bert"), out.add_token_list(["a"]))}, "is of the kind 'bert'"),
    ({"tokenizer": lambda out: (out.add_tokenizer_model("llama"), out.add_token_list(["a"]))},
     "has no tokenizer.ggml.token_type: give a tokenizer.json$"),
])
def test_refusals_write_nothing(arguments, message, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_model(LLAMA), "F16", **arguments)
    with pytest.raises(ModelError, match=message):
        converted(path, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("size", [8, 100, 3000, -1, -100_000])
def test_truncated_files(size, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_model(LLAMA), "TQ1_0")
    cut(path, size)
    with pytest.raises(ModelError, match="cut short or damaged"):
        converted(path, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_a_tokenizer_that_is_given_is_taken(tmp_path):
    """A file without one; and the file's own is not looked at."""
    given = tmp_path / "tokenizer.json"
    given.write_bytes(byte_level_json())
    for tokenizer in (None, lambda out: byte_level_fields(out, "tekken")):
        path = write_gguf(tmp_path / "m.gguf", gguf_model(LLAMA), "TQ2_0", tokenizer=tokenizer)
        found = open_checkpoint(path, Options(tokenizer=given), lambda text: None)
        assert Tokenizer(found.tokenizer).encode("the cat") == Tokenizer(byte_level_json()).encode("the cat")
    given.write_bytes(b"{}")
    with pytest.raises(ModelError, match="tokenizer.json is no tokenizer.json"):
        open_checkpoint(path, Options(tokenizer=given), print)


def no_tensors(path, arch):
    out = gguf.GGUFWriter(path, arch)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def test_other_architectures(tmp_path):
    no_tensors(tmp_path / "m.gguf", "hunyuan-dense")
    with pytest.raises(ModelError, match="the architecture hunyuan-dense has the RMSNorm on heads of q and k behind RoPE, .*, "
                                         "which the engine does not do$"):
        open_checkpoint(tmp_path / "m.gguf", Options(), print)
    no_tensors(tmp_path / "m.gguf", "qwen2")
    with pytest.raises(ModelError, match="the architecture is 'qwen2'; llama, qwen3, olmo2, bitnet, bitnet-b1.58, bitnet-25 are "
                                         "known"):
        open_checkpoint(tmp_path / "m.gguf", Options(), print)
    with pytest.raises(ModelError, match="what weight_scale does can be said for Hugging Face folders"):
        open_checkpoint(tmp_path / "m.gguf", Options(weight_scale="divide"), print)
    with pytest.raises(ModelError, match="complex_phase_v2 is of Hugging Face folders with floats, which .*m.gguf is not$"):
        open_checkpoint(tmp_path / "m.gguf", Options(method="complex_phase_v2"), print)


def test_sliding_windows_of_olmo_3_are_refused(tmp_path):
    """llama.cpp's converter writes OLMo 3 as olmo2 with a window."""
    path = write_gguf(tmp_path / "m.gguf", gguf_model(OLMO2), "F32", fields=(("olmo2.attention.sliding_window", 4096),))
    with pytest.raises(ModelError, match="olmo2.attention.sliding_window is 4096, which the engine does not do$"):
        converted(path, tmp_path)
