# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""llama.cpp now, on the tokenizers of exported GGUF files: the ids of hard texts, of random ones, and of pieces put together."""

import random
import unicodedata
from dataclasses import replace

import pytest

from tellme.models import ModelConfig
from tellme.models.export_gguf_tokenizer import PROBES, to_gguf
from tellme.models.exporting import export
from tellme.models.gguf_tokenizer import SPLITS, from_gguf
from tellme.models.tokenizer import Tokenizer
from tests.models.hard_texts import HARD_TEXTS, byte_level
from tests.models.random_model import model_of
from tests.models.test_gguf_tokenizer import KINDS
from tests.ref.with_llama_cpp import VERSIONS, token_ids

NARROW = ModelConfig(dim=32, ffn=32, layers=1, heads=1, kv_heads=1, head_dim=32, vocab=400, context=8, bos=1, eos=2)
_MARKS = [chr(c) for c in range(0xA0, 0x3000) if unicodedata.category(chr(c))[0] != "C"]
_POOLS = ["abc ", "'stmdvelrSTMD ", " \n\r\t", "0123456789\u00b2\u00bd\u0663\u2167", _MARKS, [chr(c) for c in range(32, 127)],
          "\u3000\u2028\u00a0\u200b\u0301", "\u65e5\u672c\u8a9e\u304b\u30ab\uac00", "\U0001f600\U0001f44d\U00020000"]


def texts(tokenizer, without):
    """Texts to compare, without some tokens spelt out."""
    rng = random.Random(1)
    pieces = [t for i in range(tokenizer.size) if (t := tokenizer.text(i))]
    made = ["".join(rng.choice(rng.choice(_POOLS)) for _ in range(rng.randrange(1, 30))) for _ in range(500)]
    made += ["".join(rng.choice(pieces).replace("\u2581", " ") for _ in range(rng.randrange(1, 8))) for _ in range(500)]
    return [t for t in (*HARD_TEXTS, *PROBES, *made) if not any(s in t for s in without)]


def compare(content, path, *, special):
    """The ids of tellme and llama.cpp."""
    tokenizer = Tokenizer(content)
    model = model_of(replace(NARROW, vocab=max(NARROW.vocab, tokenizer.size)), gains=False)
    model.tokenizer = content
    export(model, path, "gguf-f16", lambda: None)
    without = [] if special else ["<unk>", "<s>", "</s>", "<c1>", "<c2>"]
    if "user-defined pieces and a space ahead" in path.stem:
        # Behind these llama.cpp puts a space again.
        without += ["<ud>", "cat", "12"]
    compared = texts(tokenizer, without)
    other = token_ids(path, compared, special=special)
    assert [t for t, ids in zip(compared, other, strict=True) if ids != tokenizer.encode(t)] == []
    print(f"{path.stem}: {len(compared)} texts with the same ids; {VERSIONS}")


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind, tmp_path):
    content = KINDS[kind]()
    compare(content, tmp_path / f"{kind}.gguf", special=content.startswith(b"{"))


@pytest.mark.parametrize("kind", ["LLaMA 2", "GPT-2 with added tokens"])
def test_what_was_read_from_a_file(kind, tmp_path):
    """Without the tokenizer.json in the file."""
    values = to_gguf(KINDS[kind](), 0).values()
    del values["tokenizer.huggingface.json"]
    content = from_gguf(values, kind)
    compare(content, tmp_path / f"{kind}.gguf", special=content.startswith(b"{"))


@pytest.mark.parametrize("pre", SPLITS)
def test_names_of_splits(pre, tmp_path, monkeypatch):
    """Each name by itself, though an export has the first one of its way."""
    values = to_gguf(byte_level(size=500), 500).values() | {"tokenizer.ggml.pre": pre}
    del values["tokenizer.huggingface.json"]
    monkeypatch.setattr("tellme.models.export_gguf_tokenizer.SPLITS", {pre: SPLITS[pre]})
    compare(from_gguf(values, pre), tmp_path / f"{pre}.gguf", special=True)
