# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tokenizers in GGUF files: hard texts before and after an export, every key of the metadata, and every refusal."""

import json
import random
from dataclasses import replace
from functools import partial
from itertools import product

import gguf
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from tellme.models import ModelError
from tellme.models.exporters.exporting import export
from tellme.models.exporters.gguf_tokenizer import to_gguf
from tellme.models.tokenizers import spm
from tellme.models.tokenizers.gguf_tokenizer import BYTE_TEXTS, SPLITS, from_gguf, placeholder
from tellme.models.tokenizers.merge_scores import merge_scores
from tellme.models.tokenizers.tokenizer import Tokenizer
from tests.models.hard_texts import HARD_TEXTS, SPECIAL, byte_level, llama2, metaspace, sentencepiece_model, streamed, with_fields
from tests.models.test_checkpoints import SHIPPED
from tests.models.test_gguf import LLAMA, gguf_model, write_gguf
from tests.models.test_huggingface import converted

NAME = "the tokenizer in m.gguf"
ADDED = [AddedToken("<|im_start|>", special=True), AddedToken("[b]", special=True),
         AddedToken("plainword", special=False, normalized=False)]
PLAIN_ADDED = [AddedToken("<|special|>", special=True), AddedToken("plainword", special=False, normalized=True)]

#: Every kind of tokenizer that llama.cpp has.
KINDS = {
    "SentencePiece": sentencepiece_model,
    "SentencePiece without a space ahead": partial(sentencepiece_model, add_dummy_prefix=False),
    "SentencePiece with control pieces": partial(sentencepiece_model, control=("<c1>", "<c2>")),
    "SentencePiece with user-defined pieces": partial(sentencepiece_model, add_dummy_prefix=False,
                                                      user_defined=("<ud>", "cat", "12")),
    "SentencePiece with user-defined pieces and a space ahead": partial(sentencepiece_model, user_defined=("<ud>", "cat", "12")),
    "SentencePiece with other ids": partial(sentencepiece_model, unk_id=3, bos_id=0, eos_id=2, pad_id=1),
    "shipped": lambda: SHIPPED.tokenizer,
    "GPT-2": byte_level,
    "LLaMA 3": partial(byte_level, "llama3"),
    "GPT-2 with added tokens": partial(byte_level, added=PLAIN_ADDED),
    "LLaMA 2": llama2,
    "LLaMA 2 with added tokens": partial(llama2, added=ADDED),
    "U+2581 for spaces": partial(llama2, prepend=False, strip=False),
    "Metaspace": partial(metaspace, "never"),
    "Metaspace, words": partial(metaspace, "never", split=True),
}


def spelt_out(tokens):
    """Hard texts with these tokens, which SentencePiece takes as text, or without beginning anew after them."""
    return [t for t in HARD_TEXTS if any(token in t for token in tokens)]


def through_a_file(out, path):
    """The values of a GGUF file with a tokenizer and nothing else, as the gguf package writes and reads them."""
    writer = gguf.GGUFWriter(path, "llama")
    out.write(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items() if key.startswith("tokenizer.")}


def differences(before, after, texts=HARD_TEXTS):
    """Texts whose ids, or whose decoded or streamed texts, are not the same."""
    return [t for t in texts if (ids := before.encode(t)) != after.encode(t) or before.decode(ids) != after.decode(ids)
            or streamed(before, ids) != streamed(after, ids)]


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind, tmp_path):
    content = KINDS[kind]()
    before = Tokenizer(content)
    out = to_gguf(content, before.size + 7)
    assert len(out.tokens) == len(out.types) == before.size + 7 and len(set(out.tokens)) == len(out.tokens)
    values = through_a_file(out, tmp_path / "m.gguf")
    assert values == out.values()
    back = from_gguf(values, NAME)
    after = Tokenizer(back)
    assert differences(before, after) == []
    assert after.size == before.size
    assert [after.piece_bytes(i) for i in range(after.size)] == [before.piece_bytes(i) for i in range(before.size)]
    assert [after.text(i) for i in range(after.size)] == [before.text(i) for i in range(before.size)]
    # A second time: the same.
    assert to_gguf(back, before.size + 7) == out
    if before.kind == "tokenizer.json":
        assert back == content
        # Without the tokenizer.json in the file, as other programs write it.
        del values["tokenizer.huggingface.json"]
        after = Tokenizer(from_gguf(values, NAME))
        if after.kind == "SentencePiece":
            apart = [*SPECIAL, *(token.content for token in ADDED)] if "added" in kind else SPECIAL
            assert differences(before, after) == spelt_out(apart)
        else:
            assert differences(before, after) == []


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_packages(kind):
    content = KINDS[kind]()
    after = Tokenizer(from_gguf(to_gguf(content, Tokenizer(content).size).values(), NAME))
    if content.startswith(b"{"):
        package = tokenizers.Tokenizer.from_str(content.decode())
        want = [package.encode(t, add_special_tokens=False).ids for t in HARD_TEXTS]
    else:
        want = sentencepiece.SentencePieceProcessor(model_proto=content).encode(HARD_TEXTS)
    assert [after.encode(t) for t in HARD_TEXTS] == want


def test_pieces_keep_their_types():
    content = sentencepiece_model(add_dummy_prefix=False, user_defined=("<ud>",), control=("<c>",), unk_id=2, bos_id=1, eos_id=0,
                                  pad_id=3)
    out = to_gguf(content, 0)
    assert out.values()["tokenizer.ggml.unknown_token_id"] == 2 and out.values()["tokenizer.ggml.padding_token_id"] == 3
    assert out.types[out.tokens.index("<ud>")] == spm.USER_DEFINED and out.types[out.tokens.index("<c>")] == spm.CONTROL
    back = from_gguf(out.values() | {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 0}, NAME)
    assert spm.read_pieces(back) == spm.read_pieces(content)
    made, old = (sentencepiece.SentencePieceProcessor(model_proto=c) for c in (back, content))
    assert made.encode("a<ud>b <c>") == old.encode("a<ud>b <c>")
    for what in ("unk_id", "bos_id", "eos_id", "pad_id"):
        assert getattr(made, what)() == getattr(old, what)()


def test_ids_of_a_model_without_special_pieces():
    pieces = [*(spm.Piece(t, 0.0, spm.BYTE) for t in BYTE_TEXTS), spm.Piece("<s>", 0.0, spm.CONTROL),
              spm.Piece("a", -1.0, spm.NORMAL)]
    made = sentencepiece.SentencePieceProcessor(model_proto=spm.make(pieces, spm.Spec()))
    assert (made.unk_id(), made.bos_id(), made.eos_id(), made.pad_id()) == (-1, -1, -1, -1)
    assert made.encode("a\u00e9") == [0xE2, 0x96, 0x81, 257, 0xC3, 0xA9]
    made = sentencepiece.SentencePieceProcessor(model_proto=spm.make(pieces, spm.Spec(), bos=256))
    assert (made.unk_id(), made.bos_id(), made.eos_id(), made.pad_id()) == (-1, 256, -1, -1)


@pytest.mark.parametrize("pre", SPLITS)
def test_names_of_splits(pre):
    """The ids of a tokenizer.json with these expressions; its export has a name of the same way."""
    split = SPLITS[pre]
    values = to_gguf(byte_level(size=500), 500).values()
    del values["tokenizer.huggingface.json"]
    content = from_gguf(values | {"tokenizer.ggml.pre": pre}, NAME)
    package = tokenizers.Tokenizer.from_str(byte_level(size=500).decode())
    package.model = models.BPE(json.loads(content)["model"]["vocab"], [tuple(m) for m in json.loads(content)["model"]["merges"]],
                               ignore_merges=split.whole_words)
    package.pre_tokenizer = pre_tokenizers.Sequence([*(pre_tokenizers.Split(Regex(p), "isolated") for p in split.patterns),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    after = Tokenizer(content)
    assert [after.encode(t) for t in HARD_TEXTS] == [package.encode(t).ids for t in HARD_TEXTS]
    assert SPLITS[to_gguf(content, 0).pre] == split


def test_digits_one_by_one():
    """The pre-tokenizer of SmolLM and others."""
    package = tokenizers.Tokenizer.from_str(byte_level().decode())
    package.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
    out = to_gguf(package.to_str().encode(), 0)
    assert out.pre == "smollm"
    out.json = None
    after = Tokenizer(from_gguf(out.values(), NAME))
    assert [after.encode(t) for t in HARD_TEXTS] == [package.encode(t).ids for t in HARD_TEXTS]


def test_dropout_is_for_training():
    content = with_fields(byte_level(), model={"dropout": 0.5})
    assert replace(to_gguf(content, 0), json=None) == replace(to_gguf(byte_level(), 0), json=None)


# What is in a file.

def llama_values(**changed):
    """The values of a small file of the kind llama; a value of None takes the key away."""
    tokens = ["<unk>", "<s>", "</s>", *BYTE_TEXTS, "\u2581", "a", "b", "ab"]
    values = {"model": "llama", "tokens": tokens, "token_type": [2, 3, 3, *[6] * 256, 1, 1, 1, 1],
              "scores": [0.0] * 262 + [-1.0], "bos_token_id": 1, "eos_token_id": 2}
    return {f"tokenizer.ggml.{k}": v for k, v in (values | changed).items() if v is not None}


def gpt2_values(**changed):
    """The values of a small file of the kind gpt2; a value of None takes the key away."""
    values = {"model": "gpt2", "pre": "gpt-2", "tokens": ["<s>", "a", "b", "ab", "\u0120"], "token_type": [3, 1, 1, 1, 1],
              "merges": ["a b"]}
    return {f"tokenizer.ggml.{k}": v for k, v in (values | changed).items() if v is not None}


@pytest.mark.parametrize(("changed", "text", "ids"), [
    ({}, " ab", [259, 259, 262]),
    ({"add_space_prefix": False}, " ab", [259, 262]),
    ({"add_space_prefix": 0}, " ab", [259, 262]),
    ({"remove_extra_whitespaces": True}, " a  b ", [259, 260, 259, 261]),
    ({"pre": "llama-bpe"}, "ab", [259, 262]),  # for byte-level tokens only
    ({"scores": [0] * 262 + [-1]}, "ab", [259, 262]),
    ({"precompiled_charsmap": [], "normalizer.lowercase": False, "add_bos_token": True, "add_eos_token": False,
      "fim_pre_token_id": 2, "token_type_count": 1}, "ab", [259, 262]),
])
def test_keys_of_the_kind_llama(changed, text, ids):
    assert Tokenizer(from_gguf(llama_values(**changed), NAME)).encode(text) == ids


def test_ids_without_a_token():
    """Placeholders after the tokens are no tokens; a token without a text adds nothing to one."""
    values = llama_values()
    for text, kind in (("", 1), ("a", 5), ("[PAD265]", 5), (placeholder(266), 5)):
        for key, value in (("tokens", text), ("token_type", kind), ("scores", 0.0)):
            values[f"tokenizer.ggml.{key}"].append(value)
    read = Tokenizer(from_gguf(values, NAME))
    assert read.size == 265 and read.encode("a") == [259, 260] and read.decode([260, 263, 261]) == "ab"
    values = gpt2_values(tokens=["<s>", "a", "b", "ab", "", "a", "[PAD6]"], token_type=[3, 1, 1, 1, 1, 5, 5])
    read = Tokenizer(from_gguf(values | {"tokenizer.chat_template": "x", "tokenizer.ggml.add_space_prefix": False}, NAME))
    assert read.size == 4 and read.encode("<s>aba") == [0, 3, 1] and read.decode([1, 5, 4, 2]) == "ab"


def test_the_unknown_token_by_its_id():
    values = llama_values(tokens=["<unk>", "<s>", "\u2581", "a"], token_type=[3, 3, 1, 1], scores=[0.0] * 4, unknown_token_id=0)
    assert Tokenizer(from_gguf(values, NAME)).encode("ab") == [2, 3, 0]


CHANGED_JSON = json.dumps({"version": "1.0", "added_tokens": [],
                           "model": {"type": "BPE", "vocab": {"<s>": 0, "x": 1}, "merges": []}})
KNOWN_SPLITS = ", ".join(SPLITS)


@pytest.mark.parametrize(("values", "message"), [
    (llama_values(model="bert"), "is of the kind 'bert'; llama and gpt2 are known"),
    (llama_values(model="t5"), "is of the kind 't5'; llama and gpt2 are known"),
    (llama_values(model="rwkv"), "is of the kind 'rwkv'; llama and gpt2 are known"),
    (llama_values(model=["llama"]), "is of the kind ['llama']; llama and gpt2 are known"),
    (llama_values(suppress_tokens=[1]),
     "has tokenizer.ggml.suppress_tokens, which is not known here and may change the ids of a text"),
    (llama_values() | {"tokenizer.rwkv.world": "x"},
     "has tokenizer.rwkv.world, which is not known here and may change the ids of a text"),
    (llama_values(precompiled_charsmap=[1, 2]),
     "normalises texts (tokenizer.ggml.precompiled_charsmap), which llama.cpp does not do with the kind llama"),
    (gpt2_values(**{"normalizer.lowercase": True}),
     "normalises texts (tokenizer.ggml.normalizer.lowercase), which llama.cpp does not do with the kind gpt2"),
    (llama_values(tokens=None), "has no tokenizer.ggml.tokens"),
    (llama_values(tokens="abc"), "has a tokenizer.ggml.tokens that is no array of strings"),
    (llama_values(tokens=[]), "has 0 tokens and 263 values of tokenizer.ggml.token_type"),
    (llama_values(tokens=[], token_type=[]), "has no tokens"),
    (llama_values(token_type=None), "has no tokenizer.ggml.token_type"),
    (llama_values(token_type=[2, 3, 3]), "has 263 tokens and 3 values of tokenizer.ggml.token_type"),
    (llama_values(token_type=[0.5] * 263), "has a tokenizer.ggml.token_type that is no array of integers"),
    (llama_values(token_type=[2, 3, 3, *[6] * 256, 1, 1, 1, 7]), "has token 262 ('ab') of type 7, which is not known"),
    (llama_values(scores=None), "has no tokenizer.ggml.scores"),
    (llama_values(scores=["x"] * 263), "has a tokenizer.ggml.scores that is no array of numbers"),
    (llama_values(scores=[0.0]), "has 263 tokens and 1 values of tokenizer.ggml.scores"),
    (llama_values(scores=[0.0] * 262 + [float("nan")]), "has token 262 ('ab') with the score nan"),
    (llama_values(tokens=["<unk>", "<s>", "</s>", *BYTE_TEXTS, "\u2581", "a", "b", "a\0b"]),
     "has token 262 ('a\\x00b') with a NUL, which SentencePiece does not take"),
    (llama_values(tokens=["<unk>", "<s>", "</s>", *BYTE_TEXTS, "\u2581", "a", "b", "a"]), "has 'a' twice, as tokens 260 and 262"),
    (llama_values(tokens=["<unk>", "<s>", "</s>", *BYTE_TEXTS, "\u2581", "a", "b", " "],
                  token_type=[2, 3, 3, *[6] * 256, 1, 1, 1, 4]),
     "has '\u2581' twice, as tokens 259 and 262"),
    (llama_values(token_type=[2, 3, 3, *[6] * 255, 1, 1, 1, 1, 1]),
     "has 255 tokens of type BYTE, which are not <0x00> to <0xFF>"),
    (llama_values(token_type=[2, 3, 3, *[1] * 260]), "has the tokens <0x00> to <0xFF>, which are not of type BYTE"),
    (llama_values(token_type=[2, 3, 2, *[6] * 256, 1, 1, 1, 2]),
     "has 3 tokens of type UNKNOWN, 0 and 2 among them, and SentencePiece has one"),
    (llama_values(tokens=["a", "b"], token_type=[1, 1], scores=[0.0, 0.0]),
     "has neither a token for what is unknown nor one for each byte"),
    (llama_values(tokens=["a", "b"], token_type=[1, 1], scores=[0.0, 0.0], unknown_token_id=1),
     "has neither a token for what is unknown nor one for each byte"),
    (llama_values(add_space_prefix="no"), "has 'no' as tokenizer.ggml.add_space_prefix, which is neither true nor false"),
    (llama_values(remove_extra_whitespaces=2),
     "has 2 as tokenizer.ggml.remove_extra_whitespaces, which is neither true nor false"),
    (gpt2_values(pre=None),
     "has no tokenizer.ggml.pre, so that nothing says how its model splits texts, numbers for one"),
    (gpt2_values(pre="default"),
     "has 'default' as tokenizer.ggml.pre, so that nothing says how its model splits texts, numbers for one"),
    (gpt2_values(pre="tekken"), f"splits texts as 'tekken' (tokenizer.ggml.pre); {KNOWN_SPLITS} are known"),
    (gpt2_values(pre=[1]), f"splits texts as [1] (tokenizer.ggml.pre); {KNOWN_SPLITS} are known"),
    (gpt2_values(add_space_prefix=True),
     "puts a space ahead of texts (tokenizer.ggml.add_space_prefix), which llama.cpp does not do with the kind gpt2"),
    (gpt2_values(remove_extra_whitespaces=True),
     "takes spaces out of texts (tokenizer.ggml.remove_extra_whitespaces), which llama.cpp does not do with the kind gpt2"),
    (gpt2_values(token_type=[3, 1, 1, 1, 6]),
     "has token 4 ('\u0120') of type BYTE, which tokenizers of the kind gpt2 do not have"),
    (gpt2_values(tokens=["<s>", "a", "b", "ab", "a"]), "has 'a' twice, as tokens 1 and 4"),
    (gpt2_values(merges=None), "has no tokenizer.ggml.merges"),
    (gpt2_values(merges=[3]), "has a tokenizer.ggml.merges that is no array of strings"),
    (gpt2_values(merges=["ab"]), "has merge 0 ('ab'), which is not of two tokens to a third"),
    (gpt2_values(merges=["a b", "b a"]), "has merge 1 ('b a'), which is not of two tokens to a third"),
    (gpt2_values() | {"tokenizer.huggingface.json": CHANGED_JSON},
     "has token 1 as 'a' in tokenizer.ggml.tokens and as 'x' in tokenizer.huggingface.json"),
])
def test_what_a_file_says_is_known_or_refused(values, message):
    with pytest.raises(ModelError) as error:
        from_gguf(values, NAME)
    assert str(error.value) == f"{NAME} {message}: give a tokenizer.json"


def test_a_tokenizer_json_that_is_none():
    with pytest.raises(ModelError) as error:
        from_gguf(gpt2_values() | {"tokenizer.huggingface.json": "{}"}, NAME)
    assert str(error.value).startswith(f"{NAME} has a tokenizer.huggingface.json that is no tokenizer.json (")
    assert str(error.value).endswith("): give a tokenizer.json")


JUNK = st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.text(max_size=3),
                 st.lists(st.floats(), max_size=5), st.lists(st.integers(-1, 8), max_size=6),
                 st.lists(st.text("ab \0\u2581\u0120", max_size=2), max_size=6))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([llama_values, gpt2_values]),
       st.dictionaries(st.sampled_from(["model", "pre", "tokens", "token_type", "scores", "merges", "add_space_prefix",
                                        "unknown_token_id", "bos_token_id", "remove_extra_whitespaces"]), JUNK, max_size=3))
def test_any_values(kind, changed):
    try:
        content = from_gguf(kind(**changed), NAME)
    except ModelError:
        return
    Tokenizer(content).encode("ab \u00e9")


# What llama.cpp does not have.

def changed(content, **parts):
    """A tokenizer.json with other parts, made with the package: model by its fields."""
    made = tokenizers.Tokenizer.from_str(content.decode())
    for name, part in parts.items():
        setattr(made, name, part)
    return made.to_str().encode()


def without(content, token):
    """A tokenizer.json without a token of its vocabulary."""
    model = json.loads(content)["model"]
    vocab = {t: i for t, i in model["vocab"].items() if t != token}
    return with_fields(content, model={"vocab": vocab, "merges": [m for m in model["merges"] if token not in (*m, "".join(m))]})


def spm_with(**spec):
    """A SentencePiece model of another specification."""
    return spm.make(spm.read_pieces(sentencepiece_model()), spm.Spec(**spec), bos=1, eos=2)


ALPHABET = json.loads(byte_level())["model"]["vocab"]
LLAMA2_DECODER = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]


def with_unused():
    pieces = spm.read_pieces(sentencepiece_model())
    return spm.make([spm.Piece(p.text, p.score, spm.UNUSED if p.text == "\u2581the" else p.type) for p in pieces], spm.Spec())


REFUSED = {
    "unigram": (partial(sentencepiece_model, "unigram"),
                "is a SentencePiece model other than BPE, and llama.cpp merges as BPE does"),
    "nmt_nfkc": (partial(sentencepiece_model, normalization="nmt_nfkc"), "normalises texts (nmt_nfkc), which llama.cpp does not"),
    "spaces out": (partial(sentencepiece_model, remove_extra_whitespaces=True),
                   "takes spaces out of texts (remove_extra_whitespaces), which llama.cpp does not"),
    "no escape": (lambda: spm_with(escape_whitespaces=False),
                  "leaves spaces as they are (escape_whitespaces is off), and llama.cpp writes them as U+2581"),
    "suffix": (partial(sentencepiece_model, treat_whitespace_as_suffix=True),
               "puts a space behind texts (treat_whitespace_as_suffix), and llama.cpp ahead of them"),
    "no bytes": (partial(sentencepiece_model, byte_fallback=False),
                 "has no tokens for bytes (byte_fallback), and llama.cpp stops at a character that is no token"),
    "unknown's text": (lambda: spm_with(unknown_text="?"),
                       "decodes the unknown token to '?' (unk_surface), which a GGUF file does not say"),
    "denormalizer": (lambda: spm_with(denormalization=spm.read_spec(sentencepiece_model(normalization="nmt_nfkc")).charsmap),
                     "changes decoded texts by rules (denormalizer_spec), which llama.cpp does not"),
    "user-defined spaces": (partial(sentencepiece_model, user_defined=("x\u2581y",), add_dummy_prefix=False),
                            "has the user-defined piece 'x\u2581y', and llama.cpp looks for pieces with spaces in another way"),
    "unused": (with_unused, "has the unused piece '\u2581the', and llama.cpp takes unused pieces as tokens"),
    "overlap": (partial(sentencepiece_model, user_defined=("<ab", "b>>>"), add_dummy_prefix=False),
                "finds the added tokens '<ab' and 'b>>>' by the place where they begin, and llama.cpp the longer one"),
    "WordLevel": (lambda: changed(byte_level(), model=models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>")),
                  "is WordLevel, and llama.cpp takes BPE"),
    "prefix of parts": (lambda: with_fields(byte_level(), model={"continuing_subword_prefix": "##", "merges": []}),
                        "marks parts of words (continuing_subword_prefix is '##'), which llama.cpp does not"),
    "suffix of words": (lambda: with_fields(byte_level(), model={"end_of_word_suffix": "</w>", "merges": []}),
                        "marks parts of words (end_of_word_suffix is '</w>'), which llama.cpp does not"),
    "prefix space": (partial(byte_level, add_prefix_space=True),
                     "puts a space ahead of texts (ByteLevel, add_prefix_space), which llama.cpp does not"),
    "NFC": (partial(byte_level, normalizer=normalizers.NFC()), "normalises texts (NFC), which llama.cpp does not"),
    "lstrip": (partial(byte_level, added=[AddedToken("<m>", lstrip=True)]),
               "finds the added token '<m>' with lstrip, which a GGUF file does not say"),
    "rstrip": (partial(llama2, added=[AddedToken("<m>", rstrip=True)]),
               "finds the added token '<m>' with rstrip, which a GGUF file does not say"),
    "single_word": (partial(byte_level, added=[AddedToken("<m>", single_word=True)]),
                    "finds the added token '<m>' with single_word, which a GGUF file does not say"),
    "normalized": (partial(llama2, added=[AddedToken("plainword", normalized=True)]),
                   "finds the added token 'plainword' in the normalised text (normalized), and llama.cpp in the text as it is"),
    "added overlap": (partial(byte_level, added=[AddedToken("<ab"), AddedToken("b>>>")]),
                      "finds the added tokens '<ab' and 'b>>>' by the place where they begin, and llama.cpp the longer one"),
    "a byte less": (lambda: without(byte_level(), "\u010a"),
                    "has no token for the byte 0x0a, and llama.cpp leaves it out in a way of its own"),
    "no merges": (lambda: with_fields(byte_level(), model={"merges": []}), "has no merges, and llama.cpp reads no such file"),
    "merges with spaces": (
        lambda: with_fields(byte_level(), model={"vocab": ALPHABET | {"a b": 900, "a bt": 901}, "merges": [["a b", "t"]]}),
        "merges 'a b' and 't', and a GGUF file has a space between the two of a merge"),
    "split": (lambda: changed(byte_level(), pre_tokenizer=pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex("x+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)])),
        "splits texts (Split, ByteLevel) in a way for which llama.cpp has no name that is known here"),
    "other behaviour": (lambda: changed(byte_level(), pre_tokenizer=pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLITS["gpt-2"].patterns[0]), "merged_with_next"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])),
        "splits texts (Split, ByteLevel) in a way for which llama.cpp has no name that is known here"),
    "whole words": (lambda: with_fields(byte_level(), model={"ignore_merges": True}),
                    "splits texts (ByteLevel) in a way for which llama.cpp has no name that is known here"),
    "bytes alone": (lambda: changed(byte_level(), pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False,
                                                                                         use_regex=False)),
                    "splits texts (ByteLevel) in a way for which llama.cpp has no name that is known here"),
    "Metaspace first": (partial(metaspace, "first"),
                        "puts a space ahead of texts that do not begin with one (Metaspace, first), and llama.cpp ahead of "
                        "all or none"),
    "Metaspace always": (partial(metaspace, "always"),
                         "puts a space ahead of texts that do not begin with one (Metaspace, always), and llama.cpp ahead of "
                         "all or none"),
    "no fallback": (lambda: with_fields(llama2(), model={"byte_fallback": False}),
                    "is neither byte-level nor falls back to bytes, and llama.cpp takes these"),
    "255 bytes": (lambda: without(llama2(), "<0x41>"), "has no token <0x41>, and llama.cpp stops at a byte that is no token"),
    "lowercase": (lambda: changed(llama2(), normalizer=normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])),
        "normalises texts (Lowercase), which llama.cpp does not"),
    "split spaces": (lambda: changed(llama2(), pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous")),
                     "splits texts (Split), which llama.cpp does with byte-level tokens only"),
    "spaces stay": (lambda: changed(llama2(prepend=False, strip=False), normalizer=normalizers.Sequence([])),
                    "leaves spaces as they are, and llama.cpp writes them as U+2581"),
    "strip, no prefix": (partial(llama2, prepend=False),
                         "takes the space ahead of texts away when it decodes, and puts none there (Replace, ByteFallback, "
                         "Fuse, Strip), which llama.cpp does not"),
    "prefix, no strip": (
        partial(llama2, strip=False),
        "leaves the space ahead of texts when it decodes (Replace, ByteFallback, Fuse), which llama.cpp does not"),
    "decoder": (
        lambda: changed(llama2(), decoder=decoders.Sequence([*LLAMA2_DECODER, decoders.Strip("x", 1, 0)])),
        "decodes with Replace, ByteFallback, Fuse, Strip, and llama.cpp with spaces for U+2581 and bytes for their tokens"),
    "U+2581 stays": (lambda: changed(llama2(prepend=False, strip=False), decoder=decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse()])),
        "decodes with ByteFallback, Fuse, and llama.cpp with spaces for U+2581 and bytes for their tokens"),
    "a token of no merge": (lambda: merging("b c", tokens=["abc"]),
                            "never makes 'abc' of 'a' and 'bc', and llama.cpp, which merges by scores, does"),
    "a token across words": (lambda: changed(merging("a \u2581", "a\u2581 b"), pre_tokenizer=pre_tokenizers.Metaspace(
        "\u2581", prepend_scheme="never", split=True)),
        "never makes 'a\u2581' of 'a' and '\u2581', and llama.cpp, which merges by scores, does"),
    "a text as one token": (lambda: merging("a b", tokens=["abca"], ignore_merges=True),
                            "takes a text that is 'abca' as one token (ignore_merges), and llama.cpp merges"),
    "NUL": (lambda: merging(tokens=["\0"]),
            "cannot be told by a GGUF file, where it has token 261 ('\\x00') with a NUL, which SentencePiece does not take"),
    "strip ahead of all": (lambda: changed(llama2(), decoder=decoders.Sequence(
        [LLAMA2_DECODER[0], decoders.Strip(" ", 1, 0), *LLAMA2_DECODER[1:]])),
        "decodes [290, 290] to '', and its tokens in a GGUF file to ' '"),
}


def merging(*merges, tokens=(), ignore_merges=False):
    """A tokenizer.json with spaces as U+2581, the tokens a, b and c, others, and what the merges make."""
    vocab = {"<unk>": 0, **{t: i + 1 for i, t in enumerate(BYTE_TEXTS)}}
    for text in ("\u2581", "a", "b", "c", *tokens, *(m.replace(" ", "") for m in merges)):
        vocab.setdefault(text, len(vocab))
    made = tokenizers.Tokenizer(models.BPE(vocab, [tuple(m.split()) for m in merges], byte_fallback=True, unk_token="<unk>",
                                           ignore_merges=ignore_merges))
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.decoder = decoders.Sequence(LLAMA2_DECODER)
    return made.to_str().encode()


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_does_not_have(case):
    content, message = REFUSED[case][0](), REFUSED[case][1]
    Tokenizer(content)
    with pytest.raises(ModelError) as error:
        to_gguf(content, 0)
    assert str(error.value) == f"the tokenizer {message}: export to hf"


def test_a_tokenizer_that_is_refused_leaves_no_file(tmp_path):
    model = gguf_model(replace(LLAMA, vocab=400))
    model.tokenizer = byte_level(normalizer=normalizers.NFC())
    with pytest.raises(ModelError, match="normalises texts"):
        export(model, tmp_path / "out.gguf", "gguf-f16", lambda: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["gguf-f16", "hf"])
@pytest.mark.parametrize("kind", ["SentencePiece without a space ahead", "LLaMA 2 with added tokens", "LLaMA 3"])
def test_files_of_models(kind, form, tmp_path):
    """Out and in as a whole, of a tokenizer that came from a GGUF file."""
    model = gguf_model(replace(LLAMA, vocab=400))
    content = KINDS[kind]()
    values = to_gguf(content, 400).values()
    values.pop("tokenizer.huggingface.json", None)
    model.tokenizer = from_gguf(values, NAME)
    export(model, tmp_path / "out", form, lambda: None)
    before, after = Tokenizer(model.tokenizer), Tokenizer(converted(tmp_path / "out", tmp_path).tokenizer)
    assert differences(before, after) == []


def test_a_file_without_a_pre_tokenizer_is_not_converted(tmp_path):
    values = to_gguf(byte_level(), 400).values()
    for key in ("tokenizer.ggml.pre", "tokenizer.huggingface.json"):
        del values[key]
    path = write_gguf(tmp_path / "m.gguf", gguf_model(replace(LLAMA, vocab=400)), "F16", tokenizer=lambda out: [
        out.add_array(k, v) if isinstance(v, list) else out.add_string(k, v) for k, v in values.items()])
    with pytest.raises(ModelError) as error:
        converted(path, tmp_path)
    assert str(error.value) == (f"the tokenizer in {path} has no tokenizer.ggml.pre, so that nothing says how its model splits "
                                "texts, numbers for one: give a tokenizer.json")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_a_token_that_is_no_utf8(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_model(LLAMA), "F16", tokenizer=lambda out: [
        out.add_tokenizer_model("llama"), out.add_token_list([b"a", b"\xff"])])
    with pytest.raises(ModelError) as error:
        converted(path, tmp_path)
    assert str(error.value) == f"{path}: tokenizer.ggml.tokens holds text that is no UTF-8"


# Merges as scores.

#: Every text of a and b up to nine characters.
AB_TEXTS = ["".join(t) for n in range(1, 10) for t in product("ab", repeat=n)]


def test_scores_merge_as_merges_do():
    """Random merges: the ids of every text, or a refusal where other ids would come out."""
    rng, refused = random.Random(5), 0
    for _ in range(60):
        tokens, merges = ["a", "b"], []
        for _ in range(rng.randrange(1, 9)):
            pair = rng.choice(tokens), rng.choice(tokens)
            if len("".join(pair)) < 8 and pair not in merges:
                merges.append(pair)
                tokens += ["".join(pair)] if "".join(pair) not in tokens else []
        if rng.random() < 0.3:
            rng.shuffle(merges)
        package = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
        want = [e.ids for e in package.encode_batch(AB_TEXTS)]
        try:
            scores, equal = merge_scores(tokens, merges), True
        except ModelError:
            scores, equal = {a + b: -float(i) for i, (a, b) in reversed(list(enumerate(merges)))}, False
            refused += 1
        pieces = [*(spm.Piece(t, scores.get(t, 0.0), spm.NORMAL) for t in tokens),
                  *(spm.Piece(t, 0.0, spm.BYTE) for t in BYTE_TEXTS)]
        made = sentencepiece.SentencePieceProcessor(model_proto=spm.make(pieces, spm.Spec(add_dummy_prefix=False)))
        assert (made.encode(AB_TEXTS) == want) == equal, merges
    assert 5 < refused < 40


# SentencePiece models as bytes.

def test_pieces_and_specification_are_what_the_package_reads():
    content = sentencepiece_model(user_defined=("<ud>",), normalization="nmt_nfkc", remove_extra_whitespaces=True)
    package = sentencepiece.SentencePieceProcessor(model_proto=content)
    pieces, spec = spm.read_pieces(content), spm.read_spec(content)
    assert [p.text for p in pieces] == [package.id_to_piece(i) for i in range(package.get_piece_size())]
    assert [p.score for p in pieces] == [package.get_score(i) for i in range(package.get_piece_size())]
    assert [p.type == spm.BYTE for p in pieces] == [package.is_byte(i) for i in range(package.get_piece_size())]
    assert (spec.normalization, spec.remove_extra_whitespaces, spec.add_dummy_prefix) == ("nmt_nfkc", True, True)
    again = sentencepiece.SentencePieceProcessor(model_proto=spm.make(pieces, spec, bos=1, eos=2))
    assert again.encode(HARD_TEXTS) == package.encode(HARD_TEXTS)
    assert spm.read_spec(spm.make(pieces, spec)) == spec and spm.read_pieces(spm.make(pieces, spec)) == pieces


DAMAGED = {
    b"\x80": "a number in it has no end",
    b"\x08" + b"\xff" * 11: "a number in it has no end",
    b"\x0a\x05ab": "a field in it has no end",
    b"\x0d\x00": "a field in it has no end",
    b"\x0b": "a field in it is of the kind 3",
    b"\x0f": "a field in it is of the kind 7",
    b"\x08\x01\x10\x01": "its field 2 is a number",
    b"\x12\x02\x1a\x00": "its field 3 is no number",
    b"\x1a\x03\x0a\x01\xff": "its field 1 is no UTF-8",
}


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_model(content):
    with pytest.raises(ModelError) as error:
        spm.read_spec(content)
    assert str(error.value) == f"the SentencePiece model is damaged: {DAMAGED[content]}"


def test_a_damaged_piece():
    for content, what in ((b"\x08\x01", "its field 1 is a number"), (b"\x0a\x03\x12\x01a", "a score in it is no float32"),
                          (b"\x0a\x03\x0a\x01\xff", "its field 1 is no UTF-8"),
                          (b"\x0a\x02\x1a\x00", "its field 3 is no number")):
        with pytest.raises(ModelError) as error:
            spm.read_pieces(content)
        assert str(error.value) == f"the SentencePiece model is damaged: {what}"


SMALL = spm.make([spm.Piece("<unk>", 0.0, spm.UNKNOWN), spm.Piece("a", -1.0, spm.NORMAL)], spm.Spec())


@settings(max_examples=250, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.tuples(st.integers(0, len(SMALL)), st.integers(0, 9), st.binary(max_size=6)).map(
    lambda at: SMALL[:at[0]] + at[2] + SMALL[at[0] + at[1]:])))
def test_any_bytes(content):
    for read in (spm.read_spec, spm.read_pieces):
        try:
            read(content)
        except ModelError:
            pass
