# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Streaming text is what SentencePiece decodes, character by character."""

import random

import pytest

from tellme.cli.files import find_model
from tellme.models.tokenizer import TextStream, Tokenizer

TOKENIZER = Tokenizer(find_model("stories-1m").tokenizer)


def streamed(ids):
    stream = TextStream(TOKENIZER, at_start=True)
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
