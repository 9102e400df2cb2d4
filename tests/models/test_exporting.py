# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Exports: exported and imported again without a change, files as their formats say, and models that are refused."""

import json
from dataclasses import replace

import gguf
import numpy as np
import pytest
import tokenizers
from safetensors import safe_open

from tellme.cli import main
from tellme.golden.perplexity import golden_board
from tellme.models import LINEARS, Model, ModelConfig, ModelError, Multipliers
from tellme.models.exporters.exporting import FORMATS, export
from tellme.models.importers.importing import Options
from tellme.models.source import Block
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.spec.scale import Scale
from tests.models.folders import PROJECTIONS, byte_fallback_json, byte_level_json, halves, packed
from tests.models.random_model import model_of
from tests.models.test_checkpoints import SHIPPED
from tests.models.test_gguf import BITNET, LLAMA, NAMES
from tests.models.test_huggingface import assert_same, converted

TEXT = "Once upon a time, the cat's caf\u00e9 in the \u2603 snow"


def exported(model, tmp_path, form):
    path = tmp_path / "out"
    export(model, path, form, lambda: None)
    return path


@pytest.mark.parametrize("tokenizer", [byte_level_json, byte_fallback_json, lambda: SHIPPED.tokenizer],
                         ids=["byte-level", "byte-fallback", "SentencePiece"])
@pytest.mark.parametrize("config", [LLAMA, BITNET], ids=["llama", "bitnet"])
@pytest.mark.parametrize("form", FORMATS)
def test_there_and_back(form, config, tokenizer, tmp_path):
    pieces = tokenizer()
    model = model_of(replace(config, vocab=max(config.vocab, Tokenizer(pieces).size)), gains=True)
    model.tokenizer = pieces
    got = converted(exported(model, tmp_path, form), tmp_path)
    assert_same(got, model)
    before, after = Tokenizer(pieces), Tokenizer(got.tokenizer)
    assert after.encode(TEXT) == before.encode(TEXT)
    assert after.decode(after.encode(TEXT)) == before.decode(before.encode(TEXT))
    ids = [1, 2, 3, 4, 5]
    assert np.array_equal(golden_board(got).feed(ids, 0), golden_board(model).feed(ids, 0))


@pytest.mark.parametrize("form", ["gguf-f16", "hf"])
def test_the_shipped_model(form, tmp_path):
    got = converted(exported(SHIPPED, tmp_path, form), tmp_path)
    assert_same(got, SHIPPED)
    assert not any(layer.gains for layer in got.layers)


def test_files_as_transformers_reads_them(tmp_path):
    model = model_of(BITNET, gains=True)
    model.tokenizer = byte_level_json()
    path = exported(model, tmp_path, "hf")
    config = json.loads((path / "config.json").read_text())
    assert config["architectures"] == ["BitNetForCausalLM"] and config["quantization_config"]["linear_class"] == "autobitlinear"
    assert json.loads((path / "tokenizer_config.json").read_text())["bos_token"] == "<|bos|>"
    with safe_open(path / "model.safetensors", framework="numpy") as file:
        for i, layer in enumerate(model.layers):
            for name in LINEARS:
                codes = halves(layer.weights[name], 64) if name in ("wq", "wk") else layer.weights[name]
                where = f"model.layers.{i}.{PROJECTIONS[name]}"
                assert np.array_equal(file.get_tensor(f"{where}.weight"), packed(codes))
                assert file.get_tensor(f"{where}.weight_scale").tolist() == [float(layer.scales[name].value())]


@pytest.mark.parametrize(("form", "kind"), [("gguf-tq1", "TQ1_0"), ("gguf-tq2", "TQ2_0"), ("gguf-f16", "F16")])
def test_files_as_llama_cpp_reads_them(form, kind, tmp_path):
    model = model_of(LLAMA, gains=True)
    reader = gguf.GGUFReader(exported(model, tmp_path, form))
    tensors = {t.name: t for t in reader.tensors}
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            tensor = tensors[f"blk.{i}.{NAMES[name]}.weight"]
            assert tensor.tensor_type.name == kind
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(values, layer.weights[name] * np.float32(layer.scales[name].value()))
    assert reader.get_field("llama.rope.freq_base").contents() == 10000
    assert reader.get_field("tokenizer.ggml.model").contents() == "no_vocab"


@pytest.mark.parametrize("form", ["gguf-tq1", "gguf-f16"])
def test_several_scales_and_biases_in_gguf(form, tmp_path):
    model = model_of(LLAMA, gains=True)
    scale = model.layers[0].scales["wq"]
    model.layers[0].scales["wq"] = (Block(32, scale), Block(192, Scale(1025, -13)), Block(32, scale))
    model.layers[1].biases = {n: np.linspace(-1, 1, len(model.layers[1].weights[n])).astype(np.float16) for n in ("wk", "w2")}
    assert_same(converted(exported(model, tmp_path, form), tmp_path, Options(no_tokenizer=True)), model)


@pytest.mark.parametrize("form", FORMATS)
def test_planes_are_not_exported(form, tmp_path):
    model = model_of(LLAMA, gains=True)
    model.layers[1].planes["w2"] = 2
    with pytest.raises(ModelError, match="layers.1.w2 has 2 planes, and what is exported holds -1, 0 and 1 alone"):
        exported(model, tmp_path, form)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMATS)
def test_multipliers_are_not_exported(form, tmp_path):
    model = model_of(LLAMA, gains=True)
    rows, cols = model.layers[1].weights["w2"].shape
    model.layers[1].multipliers["w2"] = Multipliers(255, np.ones((1, 1, rows), np.int8))
    assert cols <= 255 * 20
    with pytest.raises(ModelError, match="layers.1.w2 has multipliers of column groups, and what is exported holds -1, 0 and 1"):
        exported(model, tmp_path, form)
    assert not list(tmp_path.iterdir())


def with_bias(model):
    model.layers[0].biases["wv"] = np.ones(len(model.layers[0].weights["wv"]), np.float16)


def with_scales(model):
    model.layers[0].scales["wv"] = (Block(2, Scale(1025, -13)), Block(len(model.layers[0].weights["wv"]) - 2, Scale(1026, -13)))


def with_tiny_scale(model):
    model.layers[1].scales["w1"] = Scale(1025, -30)


def no_change(model):
    pass


def with_tokenizer(content):
    return lambda model: setattr(model, "tokenizer", content)


SHORT_JSON = byte_level_json(290)


@pytest.mark.parametrize(("form", "config", "change", "message"), [
    ("gguf-tq1", replace(LLAMA, ffn=320), no_change, "w2 has 320 columns, and TQ1_0 wants a multiple of 256: export to gguf-f16"),
    ("gguf-tq2", replace(LLAMA, dim=128), no_change, "wq has 128 columns, and TQ2_0 wants a multiple of 256"),
    ("gguf-f16", replace(LLAMA, act="relu2"), no_change, "the activation is relu2, and llama.cpp's llama computes SiLU"),
    ("gguf-f16", replace(BITNET, tied=False), no_change, "a head of its own, and llama.cpp's bitnet takes the embedding"),
    ("gguf-f16", replace(BITNET, down_norm=False), no_change, "a norm ahead of one of the output and down projections only"),
    ("hf", replace(LLAMA, o_norm=True), no_change, "a norm ahead of one of the output and down projections only"),
    *((form, replace(LLAMA, qk_norm=True), no_change, r"^the model has an RMSNorm on each head of q and k \(Qwen3\), and no "
       "format that is written has one: keep the .tellme file$") for form in ("hf", "gguf-f16")),
    *((form, replace(LLAMA, vector_norms=True), no_change, "^the model has the norms of OLMo 2, and no format that is written "
       "has these: keep the .tellme file$") for form in ("hf", "gguf-f16")),
    ("hf", replace(BITNET, head_dim=32), no_change, "heads x head_dim is 128 and dim 256"),
    ("hf", replace(LLAMA, ffn=510), no_change, "w1 has 510 rows, and transformers packs four a byte"),
    ("hf", LLAMA, with_bias, "layers.0.wv has a bias, which transformers' AutoBitLinear multiplies"),
    ("hf", LLAMA, with_scales, "layers.0.wv has 2 scales, and transformers takes one a matrix: export to gguf-f16"),
    ("gguf-f16", BITNET, with_bias, "layers.0.wv has a bias, which llama.cpp's bitnet does not add"),
    ("gguf-f16", replace(LLAMA, more_ends=(2, 3, 4)), no_change, "^the model ends texts at 4 tokens; a GGUF file names three, "
     "and llama.cpp knows some by their texts, but not 4: export to hf$"),
    ("hf", replace(LLAMA, bos=299, vocab=302), with_tokenizer(SHORT_JSON),
     "^BOS is 299, and the tokenizer has no such token that could be put ahead of a text$"),
    ("gguf-f16", replace(LLAMA, eos=None), with_tokenizer(byte_level_json()),
     "^the model has no end token, and llama.cpp would end texts at 11 '\\*': export to hf$"),
    ("gguf-tq1", LLAMA, with_tiny_scale, "layers.1.w1 has a scale of 9.55e-07, which TQ1_0 cannot hold exactly: export to hf"),
])
def test_refusals_write_nothing(form, config: ModelConfig, change, message, tmp_path):
    model = model_of(config, gains=True)
    change(model)
    with pytest.raises(ModelError, match=message):
        exported(model, tmp_path, form)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_stays(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="it exists; give the name of a new folder"):
        exported(SHIPPED, tmp_path, "hf")
    with pytest.raises(ModelError, match="cannot write"):
        export(SHIPPED, tmp_path / "no" / "out", "hf", lambda: None)
    with pytest.raises(ModelError, match="cannot write"):
        export(SHIPPED, tmp_path / "no" / "out", "gguf-f16", lambda: None)


def test_unigram_tokenizers_go_to_hf_only(tmp_path):
    import io

    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([TEXT, "some more words for it"] * 20), model_writer=out,
                                             vocab_size=32, model_type="unigram", minloglevel=2)
    model = model_of(LLAMA, gains=True)
    model.tokenizer = out.getvalue()
    with pytest.raises(ModelError, match="other than BPE"):
        exported(model, tmp_path, "gguf-f16")
    assert (exported(model, tmp_path, "hf") / "tokenizer.model").read_bytes() == model.tokenizer


def test_a_model_file_is_a_source_too(tmp_path):
    from tellme.models.container import Container

    model = model_of(LLAMA, gains=True)
    model.save(tmp_path / "m.tellme")
    one, other = tmp_path / "one.gguf", tmp_path / "other.gguf"
    export(model, one, "gguf-tq2", lambda: None)
    source = Container(tmp_path / "m.tellme")
    export(source, other, "gguf-tq2", lambda: None)
    assert one.read_bytes() == other.read_bytes()
    assert Model.read(source).config == model.config


@pytest.mark.parametrize("tokenizer", [byte_level_json(), SHIPPED.tokenizer, b""], ids=["byte-level", "SentencePiece", "none"])
@pytest.mark.parametrize(("form", "conventions"), [
    *((form, conventions) for form in ("hf", "gguf-f16") for conventions in (
        {"add_bos": False}, {"bos": None, "add_bos": False}, {"more_ends": (3, 9)}, {"bos": 7, "eos": 5, "more_ends": (0, 2)})),
    ("hf", {"eos": None}), ("hf", {"more_ends": (2, 3, 4, 9)})])
def test_how_texts_begin_and_end_there_and_back(form, conventions, tokenizer, tmp_path):
    vocab = Tokenizer(tokenizer).size if tokenizer else 300
    model = model_of(replace(LLAMA, vocab=vocab, **conventions), gains=True)
    model.tokenizer = tokenizer
    path = exported(model, tmp_path, form)
    heard = []
    got = converted(path, tmp_path, Options(no_tokenizer=not tokenizer), heard.append)
    assert_same(got, model)
    assert not any("not taken" in text or "by its name" in text for text in heard)
    if form != "hf" or not tokenizer:
        return
    config, other, pieces = (json.loads((path / f"{name}.json").read_text()) for name in (
        "config", "generation_config", "tokenizer_config"))
    c = model.config
    ends = c.eos if len(c.ends) < 2 else list(c.ends)
    assert other == {"bos_token_id": c.bos, "eos_token_id": ends} and other.items() <= config.items()
    assert pieces["add_bos_token"] is c.add_bos
    if tokenizer[:1] == b"{":
        # What transformers puts before a text with this file.
        made = Tokenizer(tokenizer)
        framed = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        assert framed.encode(TEXT).ids == c.with_bos(made.encode(TEXT))
        assert framed.encode(TEXT, add_special_tokens=False).ids == made.encode(TEXT)


def test_end_tokens_by_name_are_not_gained(tmp_path, capsys):
    """llama.cpp ends the texts of the shipped model at </s> too; here they end where they did."""
    heard = []
    export(SHIPPED, tmp_path / "m.gguf", "gguf-f16", lambda: None, heard.append)
    assert heard == ["llama.cpp will end texts also at 2 '</s>', by name"]
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    assert reader.get_field("tellme.end_token_ids").contents() == [SHIPPED.config.eos]
    assert reader.get_field("tokenizer.ggml.eos_token_id").contents() == SHIPPED.config.eos
    assert reader.get_field("tokenizer.ggml.add_bos_token").contents() is True
    assert converted(tmp_path / "m.gguf", tmp_path).config == SHIPPED.config
    SHIPPED.save(tmp_path / "m.tellme")
    assert main(["export", str(tmp_path / "m.tellme"), "--format", "gguf-f16", "-o", str(tmp_path / "other.gguf")]) == 0
    assert capsys.readouterr().err.splitlines()[0] == heard[0]
