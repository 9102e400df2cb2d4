# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Streaming text is what SentencePiece decodes, character by character."""

import json
import random

import pytest

from tellme.models import ModelError
from tellme.models.shipped import find_model
from tellme.models.tokenizer import TextStream, Tokenizer
from tests.models.folders import byte_fallback_json, byte_level_json

TOKENIZER = Tokenizer(find_model("stories-1m").tokenizer)
JSONS = {"byte-level": Tokenizer(byte_level_json(400)), "byte-fallback": Tokenizer(byte_fallback_json(330))}


def streamed(ids, tokenizer=TOKENIZER):
    stream = TextStream(tokenizer, at_start=True)
    return [stream.push(i) for i in ids], stream


@pytest.mark.parametrize("text", ["Once upon a time", "caf\u00e9 \u2014 na\u00efve",
                                  "\u65e5\u672c\u8a9e and \U0001f600!", "two  spaces\n\nlines"])
def test_text(text):
    ids = TOKENIZER.encode(text)
    parts, stream = streamed(ids)
    assert "".join(parts) + stream.finish() == TOKENIZER.decode(ids)


def test_a_character_comes_whole():
    ids = TOKENIZER.encode("\U0001f600")
    parts, stream = streamed(ids)
    assert parts[-1] == "\U0001f600" and not any(parts[-4:-1]) and not stream.pending


def test_any_ids():
    rng = random.Random(1)
    for _ in range(300):
        ids = [rng.randrange(TOKENIZER.size if rng.random() < 0.3 else 300) for _ in range(rng.randrange(1, 20))]
        parts, stream = streamed(ids)
        assert "".join(parts) + stream.finish() == TOKENIZER.decode(ids), ids


def test_half_a_character_at_the_end():
    ids = TOKENIZER.encode("\U0001f600")[:-1]
    parts, stream = streamed(ids)
    assert stream.pending
    assert "".join(parts) + stream.finish() == TOKENIZER.decode(ids)


@pytest.mark.parametrize("text", ["the cat sat on the mat", "caf\u00e9 \u2014 na\u00efve", "\u65e5\u672c\u8a9e and \U0001f600!",
                                  "two  spaces\n\nlines"])
@pytest.mark.parametrize("kind", JSONS)
def test_tokenizer_json(kind, text):
    tokenizer = JSONS[kind]
    ids = tokenizer.encode(text)
    parts, stream = streamed(ids, tokenizer)
    assert "".join(parts) + stream.finish() == tokenizer.decode(ids) == text
    assert tokenizer.kind == "tokenizer.json"
    # In the middle of a text the first space stays.
    middle = TextStream(tokenizer, at_start=False)
    assert "".join(middle.push(i) for i in ids) == (" " + text if kind == "byte-fallback" else text)


@pytest.mark.parametrize("kind", JSONS)
def test_any_ids_of_a_tokenizer_json(kind):
    tokenizer = JSONS[kind]
    rng = random.Random(1)
    for _ in range(300):
        # Whole words, so that a byte-fallback decoder, which gives up a whole run of bytes, has none that is no UTF-8.
        ids = [rng.randrange(tokenizer.size) for _ in range(rng.randrange(1, 20))]
        ids = [i for i in ids if not tokenizer.is_byte(i)]
        parts, stream = streamed(ids, tokenizer)
        assert "".join(parts) + stream.finish() == tokenizer.decode(ids), ids


def test_special_tokens_and_ids_without_a_token_add_nothing():
    tokenizer = JSONS["byte-level"]
    assert tokenizer.encode("<|eos|>") == [1] and tokenizer.piece_bytes(1) == b"" and tokenizer.text(1) == "<|eos|>"
    assert tokenizer.piece_bytes(tokenizer.size + 5) == b"" and not tokenizer.is_byte(tokenizer.size + 5)
    assert TOKENIZER.piece_bytes(TOKENIZER.size) == b"" and TOKENIZER.text(TOKENIZER.size) == ""


def with_decoder(decoder):
    return json.dumps(json.loads(byte_level_json()) | {"decoder": decoder}).encode()


@pytest.mark.parametrize(("content", "message"), [
    (b"{", "is no tokenizer.json"),
    (b"{}", "is no tokenizer.json"),
    (b"\xff", "is no SentencePiece model"),
    (b"", "is no SentencePiece model"),
    (with_decoder({"type": "WordPiece", "prefix": "##", "cleanup": True}), "decodes with WordPiece; ByteLevel"),
    (with_decoder(None), "decodes with nothing; ByteLevel"),
])
def test_what_is_no_tokenizer(content, message):
    with pytest.raises(ModelError, match=message):
        Tokenizer(content, "x")
