# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SentencePiece models: ids are the package's, and streaming text is what the package decodes, character by character."""

import itertools
import time

import pytest
import sentencepiece
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tellme.models import ModelError
from tellme.models.shipped import find_model
from tellme.models.tokenizers.tokenizer import TextStream, Tokenizer
from tests.models.hard_texts import (
    HARD_TEXTS,
    byte_level,
    check_streams,
    check_texts,
    llama2,
    random_ids,
    sentencepiece_model,
    streamed,
)

SHIPPED = find_model("stories-1m").tokenizer
TOKENIZER = Tokenizer(SHIPPED)
#: Pieces that a trainer is told: words, spaces as they are and as U+2581, and what else is in the hard texts.
TOLD = {"user_defined": ("plainword", "<|both|>", " x", "  ", "\u2581\u2581"), "control": ("<|special|>",)}
MODELS = {
    f"{kind}{' bytes' * bytes_}{' dummy' * dummy}{' extra' * extra}": {
        "kind": kind, "byte_fallback": bytes_, "add_dummy_prefix": dummy, "remove_extra_whitespaces": extra, **TOLD}
    for kind, bytes_, dummy, extra in itertools.product(("bpe", "unigram"), *[(False, True)] * 3)
} | {
    "nfkc": {"normalization": "nmt_nfkc"},
    "folded": {"kind": "unigram", "normalization": "nfkc_cf", "byte_fallback": False},
    "suffix": {"treat_whitespace_as_suffix": True},
    "suffix, no dummy": {"treat_whitespace_as_suffix": True, "add_dummy_prefix": False},
    "unknown": {"byte_fallback": False, "unk_surface": "?"},
    "unknown is nothing": {"byte_fallback": False, "unk_surface": ""},
    "char": {"kind": "char"},
    "word": {"kind": "word", "byte_fallback": False},
    "over spaces": {"split_by_whitespace": False, "allow_whitespace_only_pieces": True, "remove_extra_whitespaces": True},
    "no BOS": {"bos_id": -1, "eos_id": -1},
}


def package(content):
    made = sentencepiece.SentencePieceProcessor()
    made.LoadFromSerializedProto(content)
    return made


@pytest.mark.parametrize("model", MODELS)
def test_texts(model):
    content = sentencepiece_model(**MODELS[model])
    check_texts(Tokenizer(content), package(content).encode, package(content).decode)


@pytest.mark.parametrize("model", MODELS)
def test_any_ids(model):
    content = sentencepiece_model(**MODELS[model])
    check_streams(Tokenizer(content), package(content).decode)


def test_the_shipped_tokenizer():
    check_texts(TOKENIZER, package(SHIPPED).encode, package(SHIPPED).decode)
    check_streams(TOKENIZER, package(SHIPPED).decode, 300)


def test_rules_for_decoded_texts(tmp_path):
    rules = tmp_path / "rules.tsv"
    # "a" and "ca" become "X" and "Y": a text depends on what comes after it.
    rules.write_text("61\t58\n63 61\t59\n")
    content = sentencepiece_model(denormalization_rule_tsv=str(rules))
    check_texts(Tokenizer(content), package(content).encode, package(content).decode)
    check_streams(Tokenizer(content), package(content).decode)
    tokenizer = Tokenizer(content)
    ids = tokenizer.encode("the cat")
    stream = TextStream(tokenizer)
    assert not any(map(stream.push, ids)) and stream.pending and stream.finish() == "the Yt" and not stream.pending
    assert tokenizer.text_bytes(ids) == 6


def test_a_character_comes_whole():
    ids = TOKENIZER.encode("\U0001f600")
    stream = TextStream(TOKENIZER)
    parts = [stream.push(i) for i in ids]
    assert parts[-1] == "\U0001f600" and not any(parts[-4:-1]) and not stream.pending


def test_half_a_character_at_the_end():
    ids = TOKENIZER.encode("\U0001f600")[:-1]
    stream = TextStream(TOKENIZER)
    assert [stream.push(i) for i in ids[-3:]] == ["", "", ""] and stream.pending
    assert stream.finish() == "\ufffd" * 3 and not stream.pending
    assert TOKENIZER.text_bytes(ids[-3:]) == 3


def test_the_first_space():
    for dummy in (False, True):
        tokenizer = Tokenizer(sentencepiece_model(add_dummy_prefix=dummy))
        [word] = [i for i in range(tokenizer.size) if tokenizer.text(i) == "\u2581the"]
        # BOS is no text, so that the word after it is the first; after a word it is not.
        assert streamed(tokenizer, [1, word, word]) == ("the the" if dummy else " the the")
        assert streamed(tokenizer, [word], before=[1]) == ("the" if dummy else " the")
        assert streamed(tokenizer, [word], before=[1, word]) == " the"


def test_a_control_piece_between_bytes_ends_the_character():
    tokenizer = Tokenizer(sentencepiece_model())
    first, *rest = (tokenizer.encode("a\u20ac"))[-3:]
    assert tokenizer.is_byte(first) and tokenizer.text(1) == "<s>"
    assert streamed(tokenizer, [first, 1, *rest]) == "\ufffd" * 3


def test_special_texts_are_plain_text():
    tokenizer = Tokenizer(sentencepiece_model(**TOLD))
    assert not {0, 1, 2} & set(tokenizer.encode("<unk><s></s>"))
    [special] = [i for i in range(tokenizer.size) if tokenizer.text(i) == "<|special|>"]
    assert special not in tokenizer.encode("<|special|>") and tokenizer.piece_bytes(special) == b""


def test_surrogates_are_question_marks():
    for content in (SHIPPED, byte_level()):
        tokenizer = Tokenizer(content)
        assert tokenizer.encode("a\ud800b") == tokenizer.encode("a?b")


def test_ids_without_a_token_add_nothing():
    assert TOKENIZER.piece_bytes(TOKENIZER.size) == b"" and TOKENIZER.text(TOKENIZER.size) == ""
    assert not TOKENIZER.is_byte(TOKENIZER.size + 5)
    word = TOKENIZER.encode("cat")
    assert streamed(TOKENIZER, [TOKENIZER.size, *word, TOKENIZER.size + 7, *word]) == "cat cat" == TOKENIZER.decode(
        [TOKENIZER.size, *word, *word])


@pytest.mark.parametrize("text", ["the cat sat on the mat", " caf\u00e9 \u20ac5 \U0001f600!", "two  spaces\n\nlines"])
@pytest.mark.parametrize("content", [sentencepiece_model(), sentencepiece_model(add_dummy_prefix=False), byte_level(), llama2()],
                         ids=["dummy prefix", "no dummy prefix", "byte-level", "byte-fallback"])
def test_bytes_of_a_cut_text(content, text):
    tokenizer = Tokenizer(content)
    ids = tokenizer.encode(text)
    sizes = [tokenizer.text_bytes(ids[:n]) for n in range(len(ids) + 1)]
    assert sizes[-1] == len(text.encode()) and sizes == sorted(sizes)
    # A token that is a byte adds one.
    assert all(b - a == 1 for a, b, i in zip(sizes, sizes[1:], ids, strict=False) if tokenizer.is_byte(i))


def test_a_prompt_that_ends_within_a_character():
    ids = TOKENIZER.encode("a\U0001f600b")
    at = ids.index(next(i for i in ids if TOKENIZER.is_byte(i)))
    # The text of the ids before has a mark a byte, and that of all has the character, which is new.
    for n in range(at + 1, at + 4):
        assert streamed(TOKENIZER, ids[n:], before=ids[:n]) == "\U0001f600b"
    assert streamed(TOKENIZER, ids[at + 4:], before=ids[:at + 4]) == "b"
    # What is never completed was a mark before, and is none of the new text.
    assert streamed(TOKENIZER, [], before=ids[:at + 2]) == ""


@pytest.mark.parametrize("content", [SHIPPED, byte_level(), llama2()], ids=["SentencePiece", "byte-level", "byte-fallback"])
def test_a_token_takes_the_same_time_anywhere(content):
    tokenizer = Tokenizer(content)
    stream = TextStream(tokenizer)
    ids = [i for part in random_ids(tokenizer, 2500) for i in part][:12000]
    spent = []
    for at in range(0, 12000, 3000):
        begin = time.process_time()
        for i in ids[at:at + 3000]:
            stream.push(i)
        spent.append(time.process_time() - begin)
    assert spent[3] < 2 * min(spent) + 0.1


def test_a_model_whose_beginning_looks_like_json():
    content = sentencepiece_model(unk_piece="u" * 114)
    assert content[:2] == b"\n{" and Tokenizer(content).kind == "SentencePiece"
    check_texts(Tokenizer(content), package(content).encode, package(content).decode)


@pytest.mark.parametrize("content", [b"\xff", b"", b"the cat", SHIPPED[:-100], SHIPPED[:1000], b"\n" * 50])
def test_what_is_no_model(content):
    with pytest.raises(ModelError) as error:
        Tokenizer(content, "x")
    assert str(error.value) == "x is no SentencePiece model"


SMALL = sentencepiece_model(byte_fallback=False)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SMALL) - 1), st.binary(max_size=4), st.integers(0, 6), st.sampled_from(HARD_TEXTS))
def test_a_damaged_model_is_refused_or_works(at, put, cut, text):
    content = SMALL[:at] + put + SMALL[at + cut:]
    assume(content[:1] != b"{")
    try:
        tokenizer = Tokenizer(content, "x")
    except ModelError as error:
        assert str(error) == "x is no SentencePiece model"
    else:
        ids = tokenizer.encode(text)
        assert streamed(tokenizer, ids) == tokenizer.decode(ids)
