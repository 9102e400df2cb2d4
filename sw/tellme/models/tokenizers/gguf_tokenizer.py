# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tokenizers in GGUF files: SentencePiece ("llama") and byte-level BPE ("gpt2"), as metadata and as a tokenizer of ours.

The metadata are ``tokenizer.ggml.*``, and ``tokenizer.huggingface.json``: GGUF's key for a whole tokenizer.json.  llama.cpp
reads the former only.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tellme.models.config import ModelError
from tellme.models.tokenizers import spm

__all__ = ["BYTE_TEXTS", "GPT2", "LLAMA3", "SPLITS", "GgufTokenizer", "Split", "from_gguf", "placeholder"]

#: How "gpt2" texts are split before the merges: regular expressions one after another, each on the parts from the one before.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
#: How texts of LLaMA 3 are split before the merges.
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
DIGIT = r"\p{N}"
_DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", DIGIT)
_DEEPSEEK3 = (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
              r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")


@dataclass(frozen=True)
class Split:
    """A way of splitting: its regular expressions, and whether a word that is a token is taken whole, without merges."""

    patterns: tuple[str, ...]
    whole_words: bool = False


_GPT2, _DIGITS, _LLAMA3, _QWEN2 = Split((GPT2,)), Split((DIGIT, GPT2)), Split((LLAMA3,)), Split((QWEN2,))
_LLAMA3_WHOLE = Split((LLAMA3,), whole_words=True)
#: tokenizer.ggml.pre -> the way of splitting, for names whose way in llama.cpp is one of these expressions to the letter.
#: Exports take the first name of a way.
SPLITS = {
    "gpt-2": _GPT2, "olmo": _GPT2, "mpt": _GPT2, "phi-2": _GPT2, "jais": _GPT2, "trillion": _GPT2, "gigachat": _GPT2,
    "mellum": _GPT2,
    "smollm": _DIGITS, "starcoder": _DIGITS, "refact": _DIGITS, "command-r": _DIGITS, "codeshell": _DIGITS, "exaone": _DIGITS,
    "minerva-7b": _DIGITS,
    "llama-bpe": _LLAMA3_WHOLE, "llama3": _LLAMA3_WHOLE, "llama-v3": _LLAMA3_WHOLE, "falcon3": _LLAMA3_WHOLE,
    "falcon-h1": _LLAMA3_WHOLE, "pixtral": _LLAMA3_WHOLE, "midm-2.0": _LLAMA3_WHOLE, "lfm2": _LLAMA3_WHOLE,
    "dbrx": _LLAMA3, "smaug-bpe": _LLAMA3, "chatglm-bpe": _LLAMA3, "glm4": _LLAMA3,
    "qwen2": _QWEN2, "deepseek-r1-qwen": _QWEN2, "megrez": _QWEN2, "stablelm2": _QWEN2,
    "deepseek-coder": Split(_DEEPSEEK_CODER), "deepseek-v3": Split(_DEEPSEEK3),
}
#: What the 256 pieces of bytes are called.
BYTE_TEXTS = tuple(f"<0x{b:02X}>" for b in range(256))
_ELEMENTS: dict[type | tuple[type, ...], str] = {str: "strings", int: "integers", (int, float): "numbers"}
_JSON_KEY = "tokenizer.huggingface.json"


def _refuse(name: str, what: str) -> ModelError:
    return ModelError(f"{name} {what}: give a tokenizer.json")


def placeholder(i: int) -> str:
    """The text that an export gives to an id that has no token."""
    return f"<unused {i}>"


@dataclass
class GgufTokenizer:
    """A tokenizer as GGUF's metadata have it."""

    model: str
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    pre: str = "default"
    add_space_prefix: bool = True
    #: The unknown token and the one of padding, where there are any.
    unknown: int | None = None
    pad: int | None = None
    #: The tokenizer.json that all of this was made of.
    json: str | None = None

    def values(self) -> dict[str, Any]:
        """Keys of a GGUF file and their values."""
        out: dict[str, Any] = {"model": self.model, "pre": self.pre, "tokens": self.tokens, "token_type": self.types}
        if self.model == "llama":
            # llama.cpp takes away no spaces from these, and says so with the second key.
            out |= {"scores": self.scores, "add_space_prefix": self.add_space_prefix, "remove_extra_whitespaces": False}
        else:
            out["merges"] = self.merges
        if self.unknown is not None:
            out["unknown_token_id"] = self.unknown
        if self.pad is not None:
            out["padding_token_id"] = self.pad
        named = {f"tokenizer.ggml.{key}": value for key, value in out.items()}
        return named if self.json is None else named | {_JSON_KEY: self.json}

    def write(self, out: Any) -> None:
        """Add the values to a ``gguf.GGUFWriter``."""
        for key, value in self.values().items():
            if isinstance(value, list):
                out.add_array(key, value)
            elif isinstance(value, bool):
                out.add_bool(key, value)
            elif isinstance(value, int):
                out.add_uint32(key, value)
            else:
                out.add_string(key, value)


class _Values:
    """The metadata of a tokenizer, whose types are checked."""

    def __init__(self, values: Mapping[str, Any], name: str):
        self._values = values
        self.name = name
        for key in values:
            if not _is_known(key):
                raise _refuse(name, f"has {key}, which is not known here and may change the ids of a text")

    def __getitem__(self, key: str) -> Any:
        return self._values.get(f"tokenizer.ggml.{key}")

    def array(self, key: str, kind: type | tuple[type, ...], length: int | None = None) -> list[Any]:
        """An array, which has to be there, with elements of a kind, as many as there are tokens."""
        value = self[key]
        if value is None:
            raise _refuse(self.name, f"has no tokenizer.ggml.{key}")
        if not isinstance(value, list) or not all(isinstance(v, kind) for v in value):
            raise _refuse(self.name, f"has a tokenizer.ggml.{key} that is no array of {_ELEMENTS[kind]}")
        if length is not None and len(value) != length:
            raise _refuse(self.name, f"has {length} tokens and {len(value)} values of tokenizer.ggml.{key}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self[key]
        if value is None:
            return default
        if not isinstance(value, int) or value not in (0, 1):
            raise _refuse(self.name, f"has {value!r:.60} as tokenizer.ggml.{key}, which is neither true nor false")
        return bool(value)

    def id(self, key: str, size: int) -> int:
        """The id of a special token, -1 if there is none below ``size``."""
        value = self[key]
        return value if isinstance(value, int) and 0 <= value < size else -1


def _is_known(key: str) -> bool:
    """Whether the meaning of a key for ids and texts is known; the key may also have no meaning for them."""
    if not key.startswith("tokenizer.ggml."):
        return key == _JSON_KEY or key.startswith("tokenizer.chat_template")
    short = key.removeprefix("tokenizer.ggml.")
    # Ids of special tokens, and what is put before and after a prompt, change no id of the text itself.
    return short.endswith(("_token_id", "_token_ids")) or short in (
        "model", "pre", "tokens", "token_type", "scores", "merges", "add_space_prefix", "remove_extra_whitespaces",
        "precompiled_charsmap", "normalizer.lowercase", "normalizer.strip_accents", "add_bos_token", "add_eos_token",
        "add_sep_token", "token_type_count")


def from_gguf(values: Mapping[str, Any], name: str) -> bytes:
    """A SentencePiece model or tokenizer.json from a GGUF file's ``tokenizer.*`` values; ModelError names an unknown value."""
    read = _Values(values, name)
    model = read["model"]
    if model not in ("llama", "gpt2"):
        raise _refuse(name, f"is of the kind {model!r:.60}; llama and gpt2 are known")
    for key in ("precompiled_charsmap", "normalizer.lowercase", "normalizer.strip_accents"):
        if read[key]:
            raise _refuse(name, f"normalises texts (tokenizer.ggml.{key}), which llama.cpp does not do with the kind {model}")
    tokens = read.array("tokens", str)
    types = read.array("token_type", int, len(tokens))
    for i, kind in enumerate(types):
        if kind not in (spm.NORMAL, spm.UNKNOWN, spm.CONTROL, spm.USER_DEFINED, spm.UNUSED, spm.BYTE):
            raise _refuse(name, f"has token {i} ({tokens[i]!r}) of type {kind}, which is not known")
    # Placeholders for ids of the model that the tokenizer lacks.
    size = len(tokens)
    while size and types[size - 1] == spm.UNUSED and tokens[size - 1] in (placeholder(size - 1), f"[PAD{size - 1}]"):
        size -= 1
    if size == 0:
        raise _refuse(name, "has no tokens")
    whole = values.get(_JSON_KEY)
    if whole is not None:
        return _checked_json(whole, tokens[:size], types, name)
    return (_sentencepiece if model == "llama" else _byte_level_json)(read, tokens[:size], types[:size])


def _checked_json(content: Any, tokens: list[str], types: list[int], name: str) -> bytes:
    """The tokenizer.json in a file, whose tokens are those that the file lists."""
    import tokenizers

    try:
        pieces = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the package raises plain Exceptions
        raise _refuse(name, f"has a {_JSON_KEY} that is no tokenizer.json ({str(error)[:200]})") from error
    size = max(pieces.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    for i in range(max(size, len(tokens))):
        listed = tokens[i] if i < len(tokens) and types[i] != spm.UNUSED else None
        if listed != pieces.id_to_token(i):
            raise _refuse(name, f"has token {i} as {listed!r} in tokenizer.ggml.tokens and as {pieces.id_to_token(i)!r} in "
                                f"{_JSON_KEY}")
    return str(content).encode()


def _refuse_twins(tokens: list[str], types: list[int], name: str) -> None:
    first: dict[str, int] = {}
    for i, (text, kind) in enumerate(zip(tokens, types, strict=True)):
        if text and kind != spm.UNUSED and first.setdefault(text, i) != i:
            raise _refuse(name, f"has {text!r} twice, as tokens {first[text]} and {i}")


def _sentencepiece(read: _Values, tokens: list[str], types: list[int]) -> bytes:
    name, pieces = read.name, []
    scores = read.array("scores", (int, float), len(read["tokens"]))[:len(tokens)]
    for i, (text, score, kind) in enumerate(zip(tokens, scores, types, strict=True)):
        if not math.isfinite(score):
            raise _refuse(name, f"has token {i} ({text!r}) with the score {score}")
        if "\0" in text:
            raise _refuse(name, f"has token {i} ({text!r}) with a NUL, which SentencePiece does not take")
        # User-defined tokens are compared with the text as it is, pieces with the text whose spaces are U+2581.
        text = text.replace(" ", spm.SPACE) if kind == spm.USER_DEFINED else text
        # A token without a text adds nothing to one, as a control token.
        pieces.append(spm.Piece(text, float(score), kind) if text else spm.Piece(f"<empty {i}>", 0.0, spm.CONTROL))
    _refuse_twins([p.text for p in pieces], types, name)
    _distinct(pieces)
    _check_bytes(tokens, types, name)
    unknown = [i for i, p in enumerate(pieces) if p.type == spm.UNKNOWN]
    if len(unknown) > 1:
        raise _refuse(name, f"has {len(unknown)} tokens of type UNKNOWN, {unknown[0]} and {unknown[1]} among them, and "
                            "SentencePiece has one")
    if not unknown and spm.BYTE not in types:
        i = read.id("unknown_token_id", len(pieces))
        if i < 0 or pieces[i].type not in (spm.CONTROL, spm.UNUSED):
            raise _refuse(name, "has neither a token for what is unknown nor one for each byte")
        pieces[i] = spm.Piece(pieces[i].text, pieces[i].score, spm.UNKNOWN)
    spec = spm.Spec(add_dummy_prefix=read.flag("add_space_prefix", True),
                    remove_extra_whitespaces=read.flag("remove_extra_whitespaces", False))
    return spm.make(pieces, spec, bos=read.id("bos_token_id", len(pieces)), eos=read.id("eos_token_id", len(pieces)),
                    pad=read.id("padding_token_id", len(pieces)))


def _distinct(pieces: list[spm.Piece]) -> None:
    """Give each unused piece a text that no other has."""
    used = {p.text for p in pieces if p.type != spm.UNUSED}
    for i, piece in enumerate(pieces):
        if piece.type == spm.UNUSED:
            text = piece.text
            while text in used:
                text = f"<unused {i}: {text}>"
            pieces[i] = spm.Piece(text, piece.score, spm.UNUSED)
            used.add(text)


def _check_bytes(tokens: list[str], types: list[int], name: str) -> None:
    """There is a token for each byte, or for none."""
    bytes_ = {t for t, kind in zip(tokens, types, strict=True) if kind == spm.BYTE}
    if bytes_ and bytes_ != set(BYTE_TEXTS):
        raise _refuse(name, f"has {len(bytes_)} tokens of type BYTE, which are not <0x00> to <0xFF>")
    if not bytes_ and set(tokens).issuperset(BYTE_TEXTS):
        raise _refuse(name, "has the tokens <0x00> to <0xFF>, which are not of type BYTE")


def _byte_level_json(read: _Values, tokens: list[str], types: list[int]) -> bytes:
    name, pre = read.name, read["pre"]
    if pre in (None, "", "default"):
        raise _refuse(name, f"has {'no' if not pre else repr(pre) + ' as'} tokenizer.ggml.pre, so that nothing says how its "
                            "model splits texts, numbers for one")
    split = SPLITS.get(pre) if isinstance(pre, str) else None
    if split is None:
        raise _refuse(name, f"splits texts as {pre!r:.60} (tokenizer.ggml.pre); {', '.join(SPLITS)} are known")
    _refuse_twins(tokens, types, name)
    if read.flag("add_space_prefix", False):
        raise _refuse(name, "puts a space ahead of texts (tokenizer.ggml.add_space_prefix), which llama.cpp does not do with the "
                            "kind gpt2")
    if read.flag("remove_extra_whitespaces", False):
        raise _refuse(name, "takes spaces out of texts (tokenizer.ggml.remove_extra_whitespaces), which llama.cpp does not do "
                            "with the kind gpt2")
    if spm.BYTE in types:
        i = types.index(spm.BYTE)
        raise _refuse(name, f"has token {i} ({tokens[i]!r}) of type BYTE, which tokenizers of the kind gpt2 do not have")
    # An unused token, or one without a text, adds nothing to one, as an id that the vocabulary lacks.
    vocab = {t: i for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if t and kind != spm.UNUSED}
    merges = []
    for rank, merge in enumerate(read.array("merges", str)):
        at = merge.find(" ", 1)
        pair = [merge[:at], merge[at + 1:]]
        if at < 0 or any(part not in vocab for part in (*pair, "".join(pair))):
            raise _refuse(name, f"has merge {rank} ({merge!r}), which is not of two tokens to a third")
        merges.append(pair)
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": types[i] != spm.USER_DEFINED} for t, i in vocab.items() if types[i] != spm.NORMAL]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            *({"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in split.patterns),
            byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": split.whole_words,
                  "vocab": vocab, "merges": merges},
    }, ensure_ascii=False).encode()
