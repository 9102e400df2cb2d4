# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Texts that tokenizers get wrong, and small tokenizers of every kind that is read, trained in memory."""

import functools
import io
import json
import os
import random

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tellme.models.tokenizers.tokenizer import TextStream

__all__ = ["ADDED", "CORPUS", "HARD_TEXTS", "LLAMA3", "byte_level", "check_streams", "check_texts", "llama2", "metaspace",
           "random_ids", "sentencepiece_model", "streamed", "with_fields"]

#: Special tokens of the tokenizers below; texts spell them out.
SPECIAL = ["<unk>", "<s>", "</s>"]
#: Added tokens of every flag.
ADDED = [AddedToken("<|special|>", special=True), AddedToken("<|left|>", special=True, lstrip=True),
         AddedToken("<|right|>", special=True, rstrip=True), AddedToken("<|both|>", special=False, lstrip=True, rstrip=True),
         AddedToken("plainword", special=False, normalized=True), AddedToken("lonely", special=False, single_word=True),
         AddedToken("Caf\u00e9 X", special=False, normalized=True), AddedToken("<raw y>", special=False, normalized=False)]

HARD_TEXTS: list[str] = [
    "",
    " ",
    "   ",
    "a",
    "the cat sat on the mat",
    " the cat",
    "  the cat",
    "    four spaces ahead",
    "the cat ",
    "the cat   ",
    "two  spaces,   three    four",
    "\n",
    "\n\n\n",
    "\nthe cat\n",
    "line one\nline two\n\nline four",
    "line one\r\nline two\r\n",
    "\r",
    "\tindented\t\ttwice",
    "  \t \n mixed \r\n\t blank ",
    "\v\f vertical",
    "0123456789",
    "7 12 345 6789 1,234,567.89 3.14e-10",
    "x1y22z333",
    "it's we'll I'D can't 'twas ''",
    "Hello, World! (brackets) [more] {all} <tags> \"quotes\" -- dashes...",
    "a , b . c ! d ? n 't do n't 's 've",
    "CamelCase UPPER lower mIxEd",
    "caf\u00e9 na\u00efve \u2014 \u00fcber",
    "cafe\u0301 nai\u0308ve u\u0308ber",
    "a\u0300\u0301\u0302\u0303\u0304 stacked",
    "\u0301 begins with a mark",
    "\ufb01ne \u2460 \u00bd \u2122 \uff21\uff22\uff23 \u212b",
    "\u00df \u1e9e \u0130 \u0131 \u01c5",
    "\U0001f600",
    "smile \U0001f600! \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family",
    "\u2764\ufe0f \u2764 hearts",
    "\u65e5\u672c\u8a9e and \u4e2d\u6587\uff0c\u5168\u89d2\u3000\u7a7a\u767d",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 123 \u200fRTL\u200e",
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\U00020000\U0001f9ff\U000e0061 astral",
    "nul \x00 inside\x00",
    "\x00",
    "control \x01\x02\x1b[31m\x7f\x85 characters",
    "\ufeffbyte order mark",
    "replaced \ufffd mark \ufffd\ufffd",
    "\u2581",
    "\u2581the\u2581\u2581cat \u2581",
    " \u2581 \u2581",
    "no\u00a0break\u00a0 space \u2007\u202f\u2009\u200b\u2028\u2029",
    "\u00a0",
    "\u0120GPT\u010a bytes \u0120\u0120",
    "<0x41><0xE2><0xFF> <0x0A>",
    "<unk>",
    "<s>the cat</s>",
    " <s> the </s> cat <unk> ",
    "<s><s></s></s>",
    "<|special|>",
    "the <|special|> cat",
    "the<|special|>cat<|special|>",
    "the  <|left|>  cat  <|right|>  sat  <|both|>  on",
    "<|left|><|right|><|both|>",
    "plainword aplainwordb PLAINWORD plain word",
    "lonely lonelya alonely lonely. lonely",
    "cafe\u0301 x Caf\u00e9 X caf\u00e9 x CAF\u00c9 X",
    "a<raw y>b <RAW Y> <raw  y>",
    "<|bos|> <|eos|> <|im_start|>user <|endoftext|>",
    "long" * 400,
    "\u65e5" * 60,
    " " * 100 + "x",
    "-" * 70,
    "https://example.org/a_b?c=d&e=%20#f  user@example.org  C:\\path\\file.txt",
    "def f(x):\n    return x  # comment\n\n\tif y:\n\t\tpass\n",
    "lone surrogate \ud800 pair".encode("utf-8", "replace").decode(),
]

CORPUS = ["the cat sat on the mat and the dog ran to the park", "caf\u00e9 na\u00efve \u2603 snow",
          "it's 12 or 345, we'll see!  two  spaces", "line one\nline two\n\n\tindented", "Hello World, plain words"] * 20


@functools.cache
def sentencepiece_model(kind="bpe", *, byte_fallback=True, add_dummy_prefix=True, remove_extra_whitespaces=False,
                        normalization="identity", size=None, user_defined=(), control=(), **options):
    """A SentencePiece model: kind is "bpe", "unigram", "char" or "word"; options are the trainer's."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=out, model_type=kind,
        vocab_size=size or 110 + 256 * byte_fallback + len(user_defined) + len(control), byte_fallback=byte_fallback,
        add_dummy_prefix=add_dummy_prefix, remove_extra_whitespaces=remove_extra_whitespaces, hard_vocab_limit=False,
        normalization_rule_name=normalization, user_defined_symbols=list(user_defined), control_symbols=list(control),
        minloglevel=2, num_threads=1, **options)
    return out.getvalue()


def with_fields(content, **fields):
    """A tokenizer.json with other values of some fields; those of ``model`` are joined."""
    made = json.loads(content)
    fields["model"] = made["model"] | fields.get("model", {})
    return json.dumps(made | fields, ensure_ascii=False).encode()


#: How LLaMA 3 splits a text before the merges.
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")


def byte_level(style="gpt2", *, size=400, add_prefix_space=False, normalizer=None, added=()):
    """A byte-level tokenizer.json that splits texts as GPT-2 or "llama3" does; special tokens are 0 to 2."""
    made = Tokenizer(models.BPE(ignore_merges=style == "llama3"))
    if normalizer is not None:
        made.normalizer = normalizer
    if style == "gpt2":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    else:
        made.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False,
                                                         initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    made.add_tokens(list(added))
    return made.to_str().encode()


def _byte_fallback(words, size):
    """A BPE model with a piece a byte after the three special tokens, trained on words; bytes are plain vocabulary."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.train_from_iterator(words, trainers.BpeTrainer(
        vocab_size=size, special_tokens=[*SPECIAL, *(f"<0x{b:02X}>" for b in range(256))], show_progress=False))
    fields = json.loads(made.to_str())
    fields["model"] |= {"byte_fallback": True, "fuse_unk": True}
    fields["added_tokens"] = fields["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(fields))


def _words():
    return ["\u2581" + word for text in CORPUS for word in text.split()]


def llama2(*, size=340, added=(), prepend=True, strip=True):
    """A tokenizer.json as LLaMA 2's is: U+2581 put ahead and for spaces by the normalizer, unknown characters as bytes."""
    made = _byte_fallback(_words(), size)
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581")] * prepend + [normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      *[decoders.Strip(" ", 1, 0)] * strip])
    made.add_tokens(list(added))
    return made.to_str().encode()


def metaspace(prepend_scheme="first", *, split=False, size=340, normalizer=None, added=(), byte_fallback=True):
    """A tokenizer.json whose pre-tokenizer and decoder are Metaspace: "always", "first" or "never" puts U+2581 ahead."""
    made = _byte_fallback(_words(), size)
    if normalizer is not None:
        made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme=prepend_scheme, split=split)
    last = decoders.Metaspace("\u2581", prepend_scheme=prepend_scheme, split=split)
    made.decoder = decoders.Sequence([decoders.ByteFallback(), last]) if byte_fallback else last
    made.add_tokens(list(added))
    return made.to_str().encode()


def streamed(tokenizer, ids, before=()):
    """The text of a stream, whole."""
    stream = TextStream(tokenizer, before)
    return "".join([stream.push(i) for i in ids]) + stream.finish()


def random_ids(tokenizer, count):
    """Lists of ids, half of them bytes if there are any."""
    rng = random.Random(1)
    some = [i for i in range(tokenizer.size) if tokenizer.is_byte(i)] or range(tokenizer.size)
    for _ in range(count):
        yield [rng.choice(some) if rng.random() < 0.5 else rng.randrange(tokenizer.size) for _ in range(rng.randrange(12))]


def check_texts(tokenizer, encode, decode, texts=HARD_TEXTS):
    """Ids and streamed texts are those of a package's ``encode`` and ``decode``."""
    for text in texts:
        ids = encode(text)
        assert tokenizer.encode(text) == ids, text
        assert streamed(tokenizer, ids) == decode(ids), text


def check_streams(tokenizer, decode, count=60):
    """Any ids stream as a package decodes them, also after any others: what is beyond the text of the ids before."""
    for ids in random_ids(tokenizer, count):
        whole = decode(ids)
        assert streamed(tokenizer, ids) == whole, ids
        for at in {1, len(ids) // 2, len(ids)}:
            before = decode(ids[:at])
            beyond = whole[len(os.path.commonprefix([before, whole])):]
            assert streamed(tokenizer, ids[at:], ids[:at]) == beyond, (at, ids)
