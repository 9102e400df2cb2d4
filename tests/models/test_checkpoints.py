# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Importers: bitllama2.c files in both bit orders, made here of the shipped model, and training safetensors."""

import struct
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from safetensors.numpy import save_file

from tellme.golden.perplexity import nats_per_token
from tellme.models import LINEARS, Model, ModelError
from tellme.models.importers.checkpoints import BIT_ORDERS, BITLLAMA_MATRICES, PROBE, convert, open_checkpoint, open_floats
from tellme.models.importers.importing import Options
from tellme.models.int8 import stored_values
from tellme.models.shipped import find_model
from tellme.models.tokenizers.tokenizer import Tokenizer
from tests import reference
from tests.models.hard_texts import sentencepiece_model
from tests.models.random_model import random_model

SHIPPED = find_model("stories-1m")


def bits_of(codes, *, least_first):
    """Two bits a weight, 01 for 1 and 11 for -1, four a byte: written weight by weight, as the exporter does."""
    flat = codes.reshape(-1, 4)
    shifts = (0, 2, 4, 6) if least_first else (6, 4, 2, 0)
    return bytes(sum((int(w) & 3) << s for w, s in zip(row, shifts, strict=True)) for row in flat)


def bitllama(model, *, least_first):
    """A bitllama2.c file with the model's weights; its norms divide by the width, so that the scales multiply.

    As in such files, v, up and the residual stream are small: the reader makes them larger.
    """
    c = model.config
    header = struct.pack("<II7iB", 0x616B3432, 1, c.dim, c.ffn, c.layers, c.heads, c.kv_heads, c.vocab, c.context, 1)
    steps = np.where(model.embedding_scales == 0, 0.0, (1024 + model.embedding_scales % 1024.0)
                     * 2.0 ** (model.embedding_scales // 1024 - 54.0))
    small = 2.0 ** -8
    out = [header.ljust(256, b"\0"), (model.final_gain / small).astype("<f4").tobytes(),
           (model.embedding * steps[:, None] * small).astype("<f4").tobytes()]
    for name in BITLLAMA_MATRICES:
        for layer in model.layers:
            cols = layer.weights[name].shape[1]
            less = 1.0 if name in ("wq", "wk", "w1") else small
            out.append(struct.pack("<f", float(layer.scales[name].value()) * cols * less))
            out.append(bits_of(layer.weights[name], least_first=least_first))
    return b"".join(out)


@cache
def shipped_file(*, least_first=True):
    """A bitllama2.c file of the shipped model."""
    return bitllama(SHIPPED, least_first=least_first)


@pytest.fixture
def tokenizer_file(tmp_path):
    path = tmp_path / "pieces.model"
    path.write_bytes(SHIPPED.tokenizer)
    return path


@pytest.mark.parametrize("least_first", [True, False])
def test_both_bit_orders(least_first, tmp_path, tokenizer_file):
    path = tmp_path / "model.bin"
    path.write_bytes(shipped_file(least_first=least_first))
    heard = []
    model = convert(path, tokenizer_file, heard.append)
    order = "least significant first" if least_first else "most significant first"
    assert f"weights lie {order}; known by the loss on a probe text" in heard[0]
    assert "nats per token least" in heard[0] and "nats per token most" in heard[0]
    for got, expected in zip(model.layers, SHIPPED.layers, strict=True):
        assert all((got.weights[n] == expected.weights[n]).all() for n in LINEARS)
    # The loss is that of the original model, and that of the float pass over the file.
    ids = [1, *Tokenizer(SHIPPED.tokenizer).encode(PROBE)]
    nats, n = reference.nats(reference.read(path, least_first=least_first), ids)
    assert nats_per_token(model, [ids]) == pytest.approx(nats / n, rel=0.02)
    assert nats_per_token(SHIPPED, [ids]) == pytest.approx(nats / n, rel=0.02)


def noisy(content):
    """The same file with random weights after the embedding."""
    start = 256 + 4 * SHIPPED.config.dim * (1 + SHIPPED.config.vocab)
    rng = np.random.default_rng(1)
    model = find_model("stories-1m")
    for layer in model.layers:
        for name in LINEARS:
            layer.weights[name] = rng.integers(-1, 2, layer.weights[name].shape).astype(np.int8)
    return content[:start] + bitllama(model, least_first=True)[start:]


#: Where the scale of the first matrix lies in a bitllama2.c file of the shipped model.
SCALE = 256 + 4 * 192 + 4 * 2048 * 192


def refusal(path, tokenizer=None):
    with pytest.raises(ModelError) as caught:
        convert(path, tokenizer, print)
    return str(caught.value)


@pytest.mark.parametrize(("change", "message"), [
    (lambda b: b[:-1], "{path} has {less} bytes, its header asks for {size}: cut short, or not this format"),
    (lambda b: b + b"\0", "{path} has {more} bytes, its header asks for {size}: cut short, or not this format"),
    (lambda b: b[:100], "{path} has 100 bytes, less than a bitllama2.c header (256)"),
    (lambda b: b[:4] + b"\2" + b[5:], "{path} is no bitllama2.c file of version 1 (magic 0x616b3432, version 2)"),
    (lambda b: b[:36] + b"\0" + b[37:], "{path} is untied; this reader knows tied bitllama2.c files only"),
    (lambda b: b[:20] + b"\5" + b[21:], "{path}: 5 heads do not divide dim 192"),
    (lambda b: b[:20] + bytes(4) + b[24:], "{path}: 0 heads do not divide dim 192"),
    (lambda b: b[:24] + bytes(4) + b[28:], "kv_heads is 0: not a model"),
    (lambda b: b[:28] + b"\xff" * 4 + b[32:], "vocab is -1: not a model"),
    (lambda b: b"", "{path} is empty"),
    (lambda b: b"hello, this is no model", "{path} is neither a bitllama2.c file nor a safetensors file nor GGUF"),
    (lambda b: b[:-1] + b"\xaa", "{path}: layer 3 w3 holds the code 10, which is no weight"),
    (lambda b: b[:256] + b"\0\0\x80\x7f" + b[260:], "the embedding or the final norm holds an infinity or NaN"),
    (lambda b: b[:1024] + b"\xff\xff\x7f\x7f" + b[1028:], "the embedding or the final norm holds an infinity or NaN"),
    (lambda b: b[:SCALE] + b"\0\0\xc0\x7f" + b[SCALE + 4:], "wq has the scale nan; a positive finite number is wanted"),
])
def test_bitllama_refusals(change, message, tmp_path, tokenizer_file):
    path = tmp_path / "model.bin"
    content = shipped_file()
    path.write_bytes(change(content))
    assert refusal(path, tokenizer_file) == message.format(path=path, size=len(content), less=len(content) - 1,
                                                           more=len(content) + 1)


def test_no_bit_order_makes_sense(tmp_path, tokenizer_file):
    path = tmp_path / "model.bin"
    path.write_bytes(noisy(shipped_file()))
    text = refusal(path, tokenizer_file)
    heard = text[text.index("(") + 1:text.index(")")]
    assert text == (f"{path} makes no more sense in one bit order than in the other ({heard}): is it a trained model, and this "
                    "its tokenizer?")
    assert [part.split(" nats per token ")[1] for part in heard.split(", ")] == [*BIT_ORDERS]
    assert all(float(part.split()[0]) > 6 for part in heard.split(", "))


FLOAT = ("This is a float checkpoint: rounding it to -1, 0, 1 would leave noise. Take a checkpoint that was trained as ternary "
         "(BitNet b1.58, TriLM, Falcon 1.58bit), train this one to ternary first (quantisation-aware, with an RMSNorm ahead "
         "of every linear), or quantise it to several planes (Hugging Face folders and GGUF files)")


@pytest.mark.parametrize("tied", [True, False])
def test_a_float_llama2c_model_is_refused_with_the_way_out(tied, tmp_path):
    path = tmp_path / "stories.bin"
    dim, ffn, layers, heads, kv_heads, vocab, context = shape = 32, 40, 2, 4, 2, 50, 16
    floats = (1 + (not tied)) * vocab * dim + layers * (2 * dim + 3 * dim * dim + 3 * dim * ffn) + dim + context * dim // heads
    path.write_bytes(struct.pack("<7i", *shape[:5], vocab if tied else -vocab, context) + bytes(4 * floats))
    assert refusal(path) == f"{path} is a llama2.c model. {FLOAT}"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(path) == f"{path} is neither a bitllama2.c file nor a safetensors file nor GGUF"


def test_bit_order_needs_a_tokenizer(tmp_path, tokenizer_file):
    path = tmp_path / "model.bin"
    path.write_bytes(shipped_file())
    assert refusal(path) == (f"{path} does not say in which order its bits lie; the loss on a text tells, so give the "
                             "tokenizer's file")
    smaller = random_model("plain")
    smaller.embedding, smaller.final_gain = smaller.embedding[:128], np.ones(64, np.float16)
    path.write_bytes(bitllama(smaller, least_first=True))
    assert refusal(path, tokenizer_file) == f"the tokenizer has 2048 pieces, {path} a vocabulary of 128"


METADATA = {"dim": "192", "hidden": "320", "layers": "4", "heads": "6", "kv_heads": "3", "vocab": "2048",
            "act": "silu", "norm": "RMSNorm without gain before every linear, eps 1e-5; learned gain before the head",
            "rope": "interleaved pairs, theta 10000", "context": "512", "tied": "true", "license": "BSD-2-Clause"}


def training_output(model):
    tensors = {"emb": (model.embedding / 127).astype(np.float16), "norm": model.final_gain}
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            tensors[f"layers.{i}.{name}.weight"] = layer.weights[name]
            tensors[f"layers.{i}.{name}.scale"] = np.array([layer.scales[name].value()], np.float32)
    return tensors


def test_training_output(tmp_path, tokenizer_file):
    path = tmp_path / "model.safetensors"
    save_file(training_output(SHIPPED), path, metadata=METADATA)
    model = convert(path, tokenizer_file, print)
    assert model.config == SHIPPED.config and model.tokenizer == SHIPPED.tokenizer and model.license == "BSD-2-Clause"
    assert all((a.weights[n] == b.weights[n]).all() and a.scales[n] == b.scales[n]
               for a, b in zip(model.layers, SHIPPED.layers, strict=True) for n in LINEARS)


def coded(model, **changes):
    """The table of a model as codes and a scale a row, in place of floats."""
    return {"emb": model.embedding, "emb.scale": stored_values(model.embedding_scales).astype(np.float32)} | changes


def test_training_output_with_a_table_of_codes(tmp_path, tokenizer_file):
    """Codes of a few planes stay as they are: as floats, rows that end at 12 would come back as other codes."""
    path = tmp_path / "model.safetensors"
    table = np.clip(SHIPPED.embedding, -13, 12)
    save_file(training_output(SHIPPED) | coded(SHIPPED, emb=table), path, metadata=METADATA)
    model = convert(path, tokenizer_file, print)
    assert (model.embedding == table).all() and (model.embedding_scales == SHIPPED.embedding_scales).all()


NORMS = ("attn_norm", "o_norm", "ffn_norm", "down_norm")
WITH_GAINS = {"norm": "RMSNorm with gain before every linear, eps 1e-5; learned gain before the head"}


def gains(model):
    return {f"layers.{i}.{n}": np.full(model.config.norm_width(n), 1.5 + i, np.float16)
            for i in range(model.config.layers) for n in NORMS}


def test_training_output_with_gains(tmp_path, tokenizer_file):
    path = tmp_path / "model.safetensors"
    save_file(training_output(SHIPPED) | gains(SHIPPED), path, metadata=METADATA | WITH_GAINS)
    model = convert(path, tokenizer_file, print)
    assert model.config == SHIPPED.config
    assert all((layer.gains[n] == 1.5 + i).all() and len(layer.gains[n]) == model.config.norm_width(n)
               for i, layer in enumerate(model.layers) for n in NORMS)


Q = "layers.0.wq"


@pytest.mark.parametrize(("metadata", "tensors", "message"), [
    (WITH_GAINS, {}, "{}: missing tensor layers.0.attn_norm"),
    ({}, gains(SHIPPED), "{}: unknown tensor layers.0.attn_norm"),
    (WITH_GAINS, gains(SHIPPED) | {"layers.1.o_norm": np.ones(3, np.float16)},
     "layers.1.o_norm is float16 of shape (3,), expected float16 of 192"),
    (WITH_GAINS, gains(SHIPPED) | {"layers.1.o_norm": np.full(192, np.nan, np.float16)},
     "layers.1.o_norm holds an infinity or NaN"),
    (WITH_GAINS, gains(SHIPPED) | {"layers.1.o_norm": np.full(192, 1e6, np.float32)},
     "layers.1.o_norm holds an infinity or NaN"),
    ({"act": None}, {}, "{}: its metadata lacks act; this reader takes the project's own training output (a float model must be "
                        "trained to ternary first)"),
    ({"tied": "false"}, {}, "{} is untied; this reader knows tied checkpoints only"),
    ({"norm": "LayerNorm"}, {}, "{}: unknown norm convention 'LayerNorm'"),
    ({"rope": "halves"}, {}, "{}: unknown RoPE convention 'halves'"),
    ({"hidden": "x"}, {}, "{} is damaged: hidden in its metadata is 'x', which is no whole number"),
    ({"heads": "0"}, {}, "heads is 0: not a model"),
    ({"heads": "-1"}, {}, "{} is damaged: heads in its metadata is '-1', which is no whole number"),
    ({"dim": "9" * 5000}, {}, "{} is damaged: dim in its metadata is '" + "9" * 40 + "', which is no whole number"),
    ({"context": ""}, {}, "{} is damaged: context in its metadata is '', which is no whole number"),
    ({"layers": "3"}, {}, "{}: unknown tensor layers.3.w1.scale"),
    ({"layers": "5"}, {}, "{}: missing tensor layers.4.w1.scale"),
    ({}, {f"{Q}.weight": np.full((192, 192), 2, np.int8)}, f"{Q} has a code outside -1, 0, 1"),
    ({}, {f"{Q}.weight": np.zeros((192, 192), np.float32)}, f"{Q}.weight is F32, int8 is wanted"),
    ({}, {f"{Q}.weight": np.zeros((192, 191), np.int8)}, f"{Q} has shape (192, 191), the configuration says (192, 192)"),
    ({}, {f"{Q}.scale": np.array([-1.0], np.float32)}, f"{Q}.scale is -1.0; a positive finite number is wanted"),
    ({}, {f"{Q}.scale": np.array([np.nan], np.float32)}, f"{Q}.scale is nan; a positive finite number is wanted"),
    ({}, {f"{Q}.scale": np.ones(2, np.float32)}, f"{Q}.scale has 2 values for 1 rows"),
    ({}, {f"{Q}.scale": np.ones(0, np.float32)}, f"{Q}.scale has 0 values for 1 rows"),
    ({}, {f"{Q}.scale": np.ones(1, np.int32)},
     f"{{}}: {Q}.scale is I32; F32, F16, BF16, F64, F8_E4M3, F8_E5M2, I8 and U8 are read"),
    ({"vocab": "2000"}, {}, "embedding has shape (2048, 192), the configuration says (2000, 192)"),
    ({}, {"emb": SHIPPED.embedding}, "{}: emb is I8 without emb.scale; int8 codes need a scale a row, floats have none"),
    ({}, {"emb.scale": np.ones(2048, np.float32)},
     "{}: emb is F16 with emb.scale; int8 codes need a scale a row, floats have none"),
    ({}, coded(SHIPPED, **{"emb.scale": np.zeros(2048, np.float32)}), "emb.scale is 0.0; a positive finite number is wanted"),
    ({}, coded(SHIPPED, **{"emb.scale": np.ones(2047, np.float32)}), "emb.scale has 2047 values for 2048 rows"),
    ({}, coded(SHIPPED, emb=SHIPPED.embedding[:2000]), "embedding has shape (2000, 192), the configuration says (2048, 192)"),
])
def test_training_output_refusals(metadata, tensors, message, tmp_path):
    path = tmp_path / "model.safetensors"
    merged = {k: v for k, v in (METADATA | metadata).items() if v is not None}
    save_file(training_output(SHIPPED) | tensors, path, metadata=merged)
    assert refusal(path) == message.format(path)


def test_scales_of_rank_0_and_types(tmp_path):
    path = tmp_path / "model.safetensors"
    scales = {f"layers.{i}.{n}.scale": np.array(float(layer.scales[n].value())) for i, layer in enumerate(SHIPPED.layers)
              for n in LINEARS}
    save_file(training_output(SHIPPED) | scales, path, metadata=METADATA | {"context": "512 (trained at 256)"})
    model = convert(path, None, print)
    assert model.config.context == 256
    assert all(a.scales == b.scales for a, b in zip(model.layers, SHIPPED.layers, strict=True))


def test_tokenizers_are_looked_into(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(training_output(SHIPPED), path, metadata=METADATA)
    for content in (b"", b"noise"):
        bad = tmp_path / "bad.model"
        bad.write_bytes(content)
        with pytest.raises(ModelError, match="no SentencePiece model"):
            convert(path, bad, print)
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        convert(path, tmp_path / "missing.model", print)


@pytest.mark.parametrize(("options", "what", "hint"), [
    (Options(act_exp=3), "a power of two that activations are divided by", "act-exp"),
    (Options(weight_scale="divide"), "what weight_scale does", "weight-scale"),
    (Options(method="fairy2i"), "how weights are made of floats", "method")])
def test_what_can_be_said_of_folders_and_gguf_files_alone(options, what, hint, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(training_output(SHIPPED), path, metadata=METADATA)
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path, options, print)
    assert str(caught.value) == f"{what} can be said for Hugging Face folders and GGUF files, which {path} is not"
    assert caught.value.hint == hint


def test_a_file_that_is_no_float_model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(training_output(SHIPPED), path, metadata=METADATA)
    with pytest.raises(ModelError) as caught:
        open_floats(path, print)
    assert str(caught.value) == f"{path} is neither a Hugging Face folder nor a GGUF file, of which float models are read"


def test_a_shorter_context_and_a_tokenizer_of_other_tokens(tmp_path):
    path, other = tmp_path / "model.safetensors", tmp_path / "other.model"
    save_file(training_output(SHIPPED), path, metadata=METADATA)
    assert open_checkpoint(path, Options(no_tokenizer=True, context=64), print).config == replace(SHIPPED.config, context=64)
    other.write_bytes(sentencepiece_model())
    size = Tokenizer(other.read_bytes()).size
    with pytest.raises(ModelError, match=f"^{other} has {size} pieces, the model a vocabulary of 2048$"):
        convert(path, other, print)


def test_loading_a_checkpoint_as_a_model_says_convert(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(training_output(SHIPPED), path, metadata=METADATA)
    with pytest.raises(ModelError, match="not a tellme model: convert the file$"):
        Model.load(path)
