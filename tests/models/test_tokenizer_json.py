# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tokenizer.json: ids and streaming text are those of the ``tokenizers`` package, or it is refused by name."""

import copy
import json

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tellme.models import ModelError
from tellme.models.importers.importing import checked_tokenizer, read_tokenizer
from tellme.models.tokenizers.tokenizer import TextStream, Tokenizer
from tellme.models.tokenizers.tokenizer_json import adds_other, frame_of
from tests.models.hard_texts import (
    ADDED,
    CORPUS,
    HARD_TEXTS,
    byte_level,
    check_streams,
    check_texts,
    llama2,
    metaspace,
    sentencepiece_model,
    streamed,
    with_fields,
)


def package(content):
    return tokenizers.Tokenizer.from_str(content.decode())


def encoding(made):
    return lambda text: made.encode(text, add_special_tokens=False).ids


def word_model(kind):
    """A tokenizer of another model than BPE, with special tokens 0 to 2 and added tokens."""
    model, trainer, options = {
        "WordPiece": (models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer, {}),
        "WordLevel": (models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer, {}),
        "Unigram": (models.Unigram(), trainers.UnigramTrainer, {"unk_token": "<unk>"})}[kind]
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.Metaspace() if kind == "Unigram" else pre_tokenizers.BertPreTokenizer()
    made.decoder = {"WordPiece": decoders.WordPiece(), "WordLevel": None, "Unigram": decoders.Metaspace()}[kind]
    made.train_from_iterator(CORPUS, trainer(vocab_size=150, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False,
                                             **options))
    made.add_tokens(ADDED)
    return made.to_str().encode()


def char_bpe():
    """BPE with an end of word, as CharBPETokenizer of the package."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>", "<s>", "</s>"],
                                                         end_of_word_suffix="</w>", show_progress=False))
    return made.to_str().encode()


NORMALIZERS = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(),
               normalizers.Strip(), normalizers.StripAccents(), normalizers.Nmt(), normalizers.BertNormalizer(),
               normalizers.Prepend("x"), normalizers.Replace(Regex(r"\s+"), " "), normalizers.ByteLevel(),
               normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(left=False)])]
KINDS = {
    "gpt2": lambda: byte_level(),
    "gpt2 added": lambda: byte_level(added=ADDED),
    "gpt2 prefix": lambda: byte_level(add_prefix_space=True),
    "llama3": lambda: byte_level("llama3", added=ADDED),
    "llama2": lambda: llama2(),
    "llama2 added": lambda: llama2(added=ADDED),
    "llama2 no prefix": lambda: llama2(prepend=False, strip=False),
    "char bpe": char_bpe,
    "WordPiece": lambda: word_model("WordPiece"),
    "WordLevel": lambda: word_model("WordLevel"),
    "Unigram": lambda: word_model("Unigram"),
} | {
    f"metaspace {scheme}{' split' * split}{' bytes' * fall}": lambda scheme=scheme, split=split, fall=fall: metaspace(
        scheme, split=split, byte_fallback=fall, added=ADDED)
    for scheme in ("always", "first", "never") for split in (False, True) for fall in (False, True)
} | {
    f"{type(n).__name__} {kind.__name__}": lambda n=n, kind=kind: kind(normalizer=n, added=ADDED)
    for n in NORMALIZERS for kind in (byte_level, metaspace)
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts(kind):
    content = KINDS[kind]()
    check_texts(Tokenizer(content), encoding(package(content)), package(content).decode)


@pytest.mark.parametrize("kind", KINDS)
def test_any_ids(kind):
    content = KINDS[kind]()
    check_streams(Tokenizer(content), package(content).decode)


def regex(pattern, content="<>"):
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def string(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def strip(content, start, stop):
    return {"type": "Strip", "content": content, "start": start, "stop": stop}


def meta(scheme):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": True}


def sequence(*parts):
    return {"type": "Sequence", "decoders": list(parts)}


BYTES, FUSE = {"type": "ByteFallback"}, {"type": "Fuse"}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
SPACES = string("\u2581", " ")
DECODERS = [
    None, BYTES, FUSE, SPACES, meta("always"), meta("never"), strip("\u2581", 1, 0), strip("\u2581", 3, 0), sequence(),
    {"type": "BPEDecoder", "suffix": "at"}, {"type": "BPEDecoder", "suffix": "\u2581"}, BYTE_LEVEL,
    {"type": "WordPiece", "prefix": "\u2581", "cleanup": True}, {"type": "WordPiece", "prefix": "##", "cleanup": False},
    sequence(sequence(SPACES, sequence(BYTES)), FUSE), sequence(SPACES, BYTES, FUSE, strip(" ", 1, 0)),
    sequence(SPACES, BYTES, strip(" ", 1, 0)), sequence(SPACES, BYTES, FUSE, strip(" ", 2, 0), FUSE),
    sequence(BYTES, meta("first")), sequence(BYTES, FUSE, meta("always")), sequence(BYTES, FUSE, meta("never")),
    sequence(BYTES, FUSE, string("\u2581ca", "C")), sequence(BYTES, FUSE, string("aa", "b")),
    sequence(BYTES, FUSE, string("abab", "")), sequence(BYTES, FUSE, string("\u2581\u2581", " ")),
    sequence(BYTES, FUSE, string("ata", "xax"), string("x", ""), strip("\u2581", 1, 0)), sequence(BYTES, FUSE, string("", "x")),
    sequence(BYTES, meta("always"), {"type": "BPEDecoder", "suffix": "a"}), sequence(SPACES, BYTE_LEVEL, strip(" ", 1, 0)),
]
#: Those for which a bound is known: after them text comes as it does without.
BOUNDED = [r"\A (?! )", r"^ ", r"\A ", r"^ +", r"\A\s+", r"^\n", r"^[ \n]{1,2}", r"^(?: |a)b?", r"^(the|a)", r"^ {2}",
           r"\A[^a]{1,3}", r"^(?=.t)a", r"^.+", r"^\S+", r"^ x*", r"^ {2,3}", r"^[ a-t]+", r"^\. ", r"^(?:a|(?:th?|\n)e) *"]
#: Those for which none is: text comes at the end.
UNBOUNDED = [r"^\s*a", r"\Aa|t", r"a", r"\s+$", r"$", r"t(?=h)", r"(?<=t)h", r"^ {2,}", r"^( )+", r"\A *t", r"^\p{L}", r"(?m)^a.",
             r"^[a-z&&[^a]]", r"\b", r"^ ??a", r"^ ?", r"^(?i:a)", r"^(?!a)", r"^a+|b", r"^\Ra", r"^\Xa", r"^(?:a|b+)c",
             r"^[[:space:]]", r"^a{,2}", r"^\bt", r"^a(?<=a)"]
SHORT_TEXTS = [t for t in HARD_TEXTS if len(t) < 200]


@pytest.mark.parametrize("decoder", DECODERS, ids=json.dumps)
def test_decoders(decoder):
    content = with_fields(llama2(added=ADDED), decoder=decoder)
    check_texts(Tokenizer(content), encoding(package(content)), package(content).decode)
    check_streams(Tokenizer(content), package(content).decode)


@pytest.mark.parametrize("pattern", [*BOUNDED, *UNBOUNDED])
def test_regular_expressions_in_decoders(pattern):
    for decoder in (sequence(SPACES, BYTES, FUSE, regex(pattern)), sequence(regex(pattern), SPACES, BYTES),
                    sequence(SPACES, BYTE_LEVEL, regex(pattern, ""))):
        content = with_fields(llama2(added=ADDED), decoder=decoder)
        check_texts(Tokenizer(content), encoding(package(content)), package(content).decode, SHORT_TEXTS)
        check_streams(Tokenizer(content), package(content).decode, 30)


def test_the_space_ahead_of_a_text_is_dropped_by_a_regular_expression():
    decoder = sequence(SPACES, BYTES, FUSE, regex(r"\A (?! )", ""))
    content = with_fields(metaspace("always"), decoder=decoder)
    tokenizer = Tokenizer(content)
    assert streamed(tokenizer, tokenizer.encode("the cat")) == "the cat"


def test_what_a_conversion_says():
    said = []
    size = Tokenizer(byte_level()).size
    for decoder in (BYTE_LEVEL, sequence(BYTE_LEVEL, regex(r"^ ")), sequence(BYTE_LEVEL, regex(r"\s+$"))):
        content = with_fields(byte_level(), decoder=decoder)
        assert checked_tokenizer(content, "x", size + 3, said.append) == content
    checked_tokenizer(byte_level(), "x", size, said.append)
    rest = f"tokenizer: tokenizer.json, {size} tokens; 3 of the model's {size + 3} ids have no token"
    assert said == [rest, rest, f"{rest}; it decodes whole texts only: generated text comes at the end",
                    f"tokenizer: tokenizer.json, {size} tokens"]
    with pytest.raises(ModelError) as error:
        checked_tokenizer(byte_level(), "x", size - 1, print)
    assert str(error.value) == f"x has {size} tokens, the model a vocabulary of {size - 1}"


def parts(content, ids, before=()):
    """What each id settles, and the end."""
    stream = TextStream(Tokenizer(content), before)
    return [*map(stream.push, ids), stream.finish()]


def ids_of(content, *tokens):
    vocabulary = package(content).get_vocab()
    return [vocabulary[t] for t in tokens]


def test_a_token_gives_its_text_at_once():
    content = byte_level()
    the, cat = ids_of(content, "the", "\u0120cat")
    assert parts(content, [the, cat, cat]) == ["the", " cat", " cat", ""]
    content = llama2()
    the, at = ids_of(content, "\u2581the", "at")
    assert parts(content, [the, at, 1, the]) == ["the", "at", "", " the", ""]
    for pattern in (r"\A (?! )", r"^ ", r"^ +", r"\A\s+"):
        other = with_fields(content, decoder=sequence(SPACES, BYTES, FUSE, regex(pattern, "")))
        assert parts(other, [the, at, 1, the]) == ["the", "at", "", " the", ""]


def test_a_run_of_bytes_comes_whole_or_as_marks():
    content = llama2()
    e2, x82, xac, at = ids_of(content, "<0xE2>", "<0x82>", "<0xAC>", "at")
    assert parts(content, [e2, x82, xac, e2, x82, xac, at]) == [""] * 6 + ["\u20ac\u20acat", ""]
    # A special token does not end the run; that a run is no UTF-8 is known as soon as a byte cannot follow.
    assert parts(content, [e2, 1, x82, xac]) == ["", "", "", "", "\u20ac"]
    assert parts(content, [e2, x82, xac, e2, e2, x82, at, e2, x82]) == [
        "", "", "", "", "\ufffd" * 5, "\ufffd", "at", "", "", "\ufffd\ufffd"]
    stream = TextStream(Tokenizer(content))
    stream.push(e2)
    assert stream.pending
    stream.push(e2)
    assert not stream.pending
    # The euro sign is the prompt's, and a run that goes on after it is new where it differs.
    assert parts(content, [at], before=[e2, x82, xac]) == ["at", ""]
    assert parts(content, [e2, x82, xac, at], before=[e2, x82, xac]) == ["", "", "", "\u20acat", ""]
    assert parts(content, [at, at], before=[e2, x82, xac, e2]) == ["at", "at", ""]
    assert parts(content, [], before=[e2, x82, xac]) == [""]


def test_what_a_step_may_still_change_waits():
    content = llama2()
    space, the, at, a, t = ids_of(content, "\u2581", "\u2581the", "at", "a", "t")
    fused = [SPACES, BYTES, FUSE]
    assert parts(with_fields(content, decoder=sequence(*fused, string("ata", "X"))), [at, the, a, t, a, a]) == [
        "", "at the", "", "", "X", "", "a"]
    assert parts(with_fields(content, decoder=sequence(*fused, strip(" ", 0, 2))), [the, space, space, space, at, space]) == [
        " the", "", "", " ", "  at", "", ""]
    assert parts(with_fields(content, decoder={"type": "BPEDecoder", "suffix": "at"}), [at, the, at]) == [
        "", " \u2581the", "", ""]
    assert parts(with_fields(content, decoder=sequence(*fused, regex(r"\s+$"))), [the, at, space]) == ["", "", "", " theat<>"]


@pytest.mark.parametrize("pattern", BOUNDED)
def test_bounded_regular_expressions_hold_no_text_back(pattern):
    content = with_fields(llama2(), decoder=sequence(SPACES, BYTES, FUSE, regex(pattern)))
    got = parts(content, package(content).encode("the cat sat\non the mat and the dog" + "\nran to the park" * 3).ids)
    # What matches waits for its end: a whole line, or its beginning.
    assert all(got[6:12]) or pattern in ("^.+", "^[ a-t]+")
    assert sum(map(bool, got)) > 4


@pytest.mark.parametrize("pattern", UNBOUNDED)
def test_text_waits_for_other_regular_expressions(pattern):
    content = with_fields(llama2(), decoder=sequence(SPACES, BYTES, FUSE, regex(pattern)))
    got = parts(content, package(content).encode("the cat sat\non the mat").ids)
    assert got[-1] and not any(got[:-1]) and Tokenizer(content).late


@pytest.mark.parametrize(("decoder", "tokens", "text"), [
    (strip("a", 0, 2), ["a", "\u2581the", "at"], "\u2581theat"),
    (strip("a", 1, 1), ["a", "at"], "t"),
    (sequence(SPACES, BYTES, FUSE, strip(" ", 2, 2)), ["\u2581", "\u2581", "\u2581"], ""),
    (sequence(SPACES, BYTES, FUSE, strip(" ", 1, 2)), ["\u2581", "\u2581the", "\u2581", "\u2581", "\u2581"], " the "),
    (sequence(SPACES, BYTES, FUSE, strip(" ", 1, 2)), [], ""),
])
def test_strip_where_the_package_breaks_off(decoder, tokens, text):
    content = with_fields(llama2(), decoder=decoder)
    assert streamed(Tokenizer(content), ids_of(content, *tokens)) == text


def test_truncation_padding_and_dropout_are_off():
    plain = package(byte_level())
    made = package(byte_level())
    made.enable_truncation(6)
    made.enable_padding(length=100)
    made.model.dropout = 0.9
    content = made.to_str().encode()
    assert json.loads(content)["truncation"] and json.loads(content)["padding"] and json.loads(content)["model"]["dropout"]
    check_texts(Tokenizer(content), encoding(plain), plain.decode)


def test_special_tokens():
    content = byte_level(added=ADDED)
    tokenizer = Tokenizer(content)
    assert tokenizer.encode("<s>") == [1] and tokenizer.piece_bytes(1) == b"" and tokenizer.text(1) == "<s>"
    [special, *_, both, plain, lonely, cafe, raw] = range(tokenizer.size - len(ADDED), tokenizer.size)
    assert tokenizer.encode("the<|special|>") == [*ids_of(content, "the"), special]
    assert [tokenizer.piece_bytes(i) for i in (special, both, raw)] == [b"", b"<|both|>", b"<raw y>"]
    assert streamed(tokenizer, [special, both, 1, plain]) == "<|both|>plainword"
    assert tokenizer.piece_bytes(tokenizer.size + 5) == b"" and not tokenizer.is_byte(tokenizer.size + 5)
    assert streamed(tokenizer, [tokenizer.size + 5, plain]) == "plainword"


def test_a_token_is_special_by_its_text():
    # The package leaves out every token whose text is a special token's, whatever a later entry says.
    fields = json.loads(byte_level(added=[AddedToken("<x>", special=True)]))
    fields["added_tokens"].append(fields["added_tokens"][-1] | {"special": False})
    content = json.dumps(fields).encode()
    check_streams(Tokenizer(content), package(content).decode, 200)


def test_bytes_with_a_sign():
    fields = json.loads(llama2())
    fields["model"]["vocab"] |= {"<0x+A>": len(fields["model"]["vocab"]), "<0x-A>": len(fields["model"]["vocab"]) + 1,
                                 "<0x\u00e9>": len(fields["model"]["vocab"]) + 2}
    content = json.dumps(fields).encode()
    tokenizer = Tokenizer(content)
    check_streams(tokenizer, package(content).decode)
    sign, minus, other = range(tokenizer.size - 3, tokenizer.size)
    assert streamed(tokenizer, [sign, minus, other]) == "\n<0x-A><0x\u00e9>" == package(content).decode([sign, minus, other])
    assert tokenizer.is_byte(sign) and not tokenizer.is_byte(minus) and tokenizer.piece_bytes(sign) == b"\n"


def test_ids_without_a_token_and_with_a_gap():
    fields = json.loads(llama2())
    fields["model"]["vocab"]["far"] = 4000
    tokenizer = Tokenizer(json.dumps(fields).encode())
    assert tokenizer.size == 4001 and tokenizer.text(3999) == "" and tokenizer.piece_bytes(3999) == b""
    assert streamed(tokenizer, [3999, 4000, 5000]) == "far"


def test_pieces_in_the_middle():
    content = llama2()
    tokenizer = Tokenizer(content)
    the, byte, at = ids_of(content, "\u2581the", "<0xE2>", "at")
    assert [tokenizer.piece_bytes(i) for i in (the, byte, at, 1)] == [b" the", b"\xe2", b"at", b""]
    content = word_model("WordPiece")
    the, at = ids_of(content, "the", "##t")
    assert [Tokenizer(content).piece_bytes(i) for i in (the, at)] == [b" the", b"t"]
    assert [Tokenizer(content).is_byte(i) for i in (the, at)] == [False, False]


@pytest.mark.parametrize("ahead", [b"\n", b" \r\n\t"])
def test_space_ahead_of_the_json(ahead):
    tokenizer = Tokenizer(ahead + byte_level() + b"\n")
    assert tokenizer.kind == "tokenizer.json" and tokenizer.encode("the cat") == Tokenizer(byte_level()).encode("the cat")


def package_says(content):
    with pytest.raises(Exception) as error:
        package(content)
    return " ".join(str(error.value).split())[:200]


DEEP = b'{"version": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("content", [
    b"{", b"{}", b"\xef\xbb\xbf" + byte_level(), b"\n{]\n}", DEEP, byte_level()[:-200],
    with_fields(byte_level(), added_tokens={}), with_fields(byte_level(), added_tokens=[1]),
    with_fields(byte_level(), added_tokens="<s>"),
    with_fields(byte_level(), added_tokens=[{"id": "1"}]), with_fields(byte_level(), model={"type": "x"}),
    with_fields(byte_level(), model={"vocab": {"a": 1 << 32}}), with_fields(byte_level(), model={"vocab": {"a": -1}}),
    with_fields(byte_level(), model={"vocab": {"a": 0.5}}), with_fields(byte_level(), decoder={"type": "x"}),
    with_fields(byte_level(), decoder=sequence(regex("("))), with_fields(byte_level(), normalizer=[]),
])
def test_what_is_no_tokenizer(content):
    with pytest.raises(ModelError) as error:
        Tokenizer(content, "x")
    assert str(error.value) == f"x is no tokenizer.json ({package_says(content)})"


def test_what_is_no_text():
    with pytest.raises(ModelError) as error:
        Tokenizer(b"{\xff}", "x")
    assert str(error.value) == "x is no tokenizer.json ('utf-8' codec can't decode byte 0xff in position 1: invalid start byte)"


CTC = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}
WORD_PIECE = {"type": "WordPiece", "prefix": "##", "cleanup": True}


@pytest.mark.parametrize(("fields", "message"), [
    ({"decoder": CTC}, "x decodes with CTC, which is not supported: give another tokenizer file of the model"),
    ({"decoder": sequence(SPACES, sequence(CTC))},
     "x decodes with CTC, which is not supported: give another tokenizer file of the model"),
    ({"decoder": sequence(FUSE, WORD_PIECE)},
     "x decodes with WordPiece behind Fuse, which is not supported: give another tokenizer file of the model"),
    ({"decoder": sequence(BYTE_LEVEL, BYTES)},
     "x decodes with ByteFallback behind ByteLevel, which is not supported: give another tokenizer file of the model"),
    ({"decoder": sequence(FUSE, BYTE_LEVEL)},
     "x decodes with ByteLevel behind Fuse, which is not supported: give another tokenizer file of the model"),
    ({"model": {"vocab": {}, "merges": []}, "added_tokens": []}, "x has no vocabulary"),
    ({"model": {"vocab": {"a": 1, "b": 0, "c": 1}, "merges": []}, "added_tokens": []},
     "x is damaged: 2 of its tokens have the id 1"),
])
def test_what_is_refused_by_name(tmp_path, fields, message):
    content = with_fields(byte_level(), **fields)
    with pytest.raises(ModelError) as error:
        Tokenizer(content, "x")
    assert str(error.value) == message
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        read_tokenizer(path)
    assert str(error.value) == message.replace("x", str(path), 1)
    with pytest.raises(ModelError) as error:
        checked_tokenizer(content, "x", 10_000, print)
    assert str(error.value) == message


def test_a_text_that_is_not_encoded():
    content = with_fields(word_model("WordLevel"), model={"unk_token": "[none]"})
    with pytest.raises(Exception) as expected:
        package(content).encode("unheard")
    with pytest.raises(ModelError) as error:
        Tokenizer(content, "x").encode("unheard")
    assert str(error.value) == f"x does not encode the text ({expected.value})"


def test_a_text_that_is_not_decoded():
    # The package's regular expressions give up after so many tries.
    content = with_fields(byte_level(), decoder=sequence(BYTE_LEVEL, regex(r"(?:a|aa)+$b")))
    stream = TextStream(Tokenizer(content, "x"))
    for i in ids_of(content, *"a" * 40):
        stream.push(i)
    with pytest.raises(BaseException) as expected:
        decoders.Replace(Regex(r"(?:a|aa)+$b"), "").decode(["a" * 40])
    with pytest.raises(ModelError) as error:
        stream.finish()
    assert str(error.value) == f"x does not decode the text ({expected.value})"


def template(single, special=(("<s>", 1), ("</s>", 2))):
    return processors.TemplateProcessing(single, f"{single} $B", list(special))


def trimming():
    return processors.ByteLevel(trim_offsets=False)


@pytest.mark.parametrize(("made", "frame", "other", "other_without"), [
    (None, None, None, None),
    (trimming, ([], []), None, None),
    (lambda: template("<s> $A"), ([1], []), None, None),
    (lambda: template("$A"), ([], []), None, None),
    (lambda: template("$A </s>"), ([], [2]), "'</s>' behind a text", "'</s>' behind a text"),
    (lambda: template("<s> $A </s>"), ([1], [2]), "'</s>' behind a text", "'</s>' behind a text"),
    (lambda: template("</s> $A"), ([2], []), "'</s>' ahead of a text", None),
    (lambda: template("<s> <s> $A </s> <s>"), ([1, 1], [2, 1]), "'<s>' '<s>' ahead of a text and '</s>' '<s>' behind a text",
     "'<s>' '<s>' ahead of a text and '</s>' '<s>' behind a text"),
    (lambda: processors.Sequence([trimming(), template("<s> $A")]), ([1], []), None, None),
    (lambda: processors.BertProcessing(("</s>", 2), ("<s>", 1)), ([1], [2]), "'</s>' behind a text", "'</s>' behind a text"),
    (lambda: processors.RobertaProcessing(("<s>", 1), ("</s>", 2)), ([2], [1]), "'</s>' ahead of a text and '<s>' behind a text",
     "'<s>' behind a text"),
])
@pytest.mark.parametrize("kind", ["byte_level", "WordLevel"])
def test_what_a_post_processor_adds(kind, made, frame, other, other_without):
    of = package(byte_level() if kind == "byte_level" else word_model("WordLevel"))
    of.post_processor = None if made is None else made()
    of.enable_truncation(2)
    of.enable_padding(length=9)
    content = of.to_str().encode()
    assert frame_of(content) == frame
    assert adds_other(content, 1) == other and adds_other(content) == other_without


def test_a_post_processor_of_a_tokenizer_that_knows_no_text():
    of = package(word_model("WordLevel"))
    of.post_processor = template("<s> $A")
    content = with_fields(of.to_str().encode(), model={"vocab": {"<s>": 1, "cat": 0}, "unk_token": "[none]"}, added_tokens=[])
    assert frame_of(content) == ([1], []) and adds_other(content, 1) is None


def test_post_processors_that_are_refused():
    of = package(byte_level())
    of.post_processor = template("<s> $A")
    damaged = json.loads(of.to_str())
    damaged["post_processor"]["special_tokens"] = {}
    for ask in (frame_of, adds_other):
        with pytest.raises(ModelError) as error:
            ask(json.dumps(damaged).encode())
        assert str(error.value) == "the tokenizer's post-processor is damaged: it does not say the id of the token '<s>'"
    for single in ("<s>", "$A $A", "$A <s> $A"):
        of.post_processor = processors.TemplateProcessing(single, "$A $B", [("<s>", 1)])
        with pytest.raises(ModelError) as error:
            frame_of(of.to_str().encode())
        assert str(error.value) == ("the tokenizer's post-processor does not keep a text once and whole, which is not supported: "
                                    "give another tokenizer file of the model")


def test_a_sentencepiece_model_has_no_post_processor():
    assert frame_of(sentencepiece_model()) is None and adds_other(sentencepiece_model(), 1) is None


def places(value, path=()):
    """Where values are in a JSON."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def small(content):
    """A tokenizer.json with a short vocabulary, so that damage meets all of it."""
    fields = json.loads(content)
    keep = [t for t, i in fields["model"]["vocab"].items() if i < 12]
    return fields | {"model": fields["model"] | {"vocab": {t: fields["model"]["vocab"][t] for t in keep}, "merges": []},
                     "added_tokens": fields["added_tokens"][:2],
                     "post_processor": json.loads(package(byte_level()).to_str())["post_processor"] or {
                         "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                                  {"Sequence": {"id": "A", "type_id": 0}}],
                         "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}}


def test_an_interruption_is_no_damage(monkeypatch):
    """The package calls back while it loads a file; Ctrl-C there ends the program."""
    def interrupted(text):
        raise KeyboardInterrupt

    class Interrupted:
        from_str = staticmethod(interrupted)

    monkeypatch.setattr("tellme.models.tokenizers.tokenizer_json.tokenizers.Tokenizer", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        Tokenizer(b"{}", "x")


DAMAGED = [small(KINDS[k]()) for k in ("gpt2", "llama3", "llama2", "metaspace first bytes", "WordPiece", "char bpe")]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 300), st.sampled_from([1 << 32, 1 << 64, 0.5]), st.text(max_size=3),
    st.sampled_from(["\u2581", "<s>", "ByteFallback", "Strip", "never", "Removed", "##"]),
    st.sampled_from([[], {}, {"Regex": "("}, {"Regex": "a*"}, {"String": ""}, FUSE, BYTE_LEVEL, CTC, sequence()]))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_file_is_refused_or_works(data):
    fields = copy.deepcopy(data.draw(st.sampled_from(DAMAGED)))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([p for p in places(fields) if p]))
        at = fields
        for key in path[:-1]:
            at = at[key]
        if data.draw(st.integers(0, 4)):
            # A copy: a second change may be inside of it.
            at[path[-1]] = copy.deepcopy(data.draw(VALUES))
        else:
            del at[path[-1]]
    content = json.dumps(fields).encode()
    try:
        tokenizer = Tokenizer(content, "x")
        frame_of(content)
        adds_other(content)
        for text in data.draw(st.lists(st.sampled_from(HARD_TEXTS), min_size=3, max_size=3)):
            ids = tokenizer.encode(text)
            got = streamed(tokenizer, ids)
            if "stop" not in json.dumps(fields.get("decoder")):
                assert got == package(content).decode(ids)
    except ModelError:
        pass
