# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tokenizers in GGUF files: SentencePiece ("llama") and byte-level BPE ("gpt2"), there and back."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sentencepiece

from tellme.models import spm
from tellme.models.config import ModelError
from tellme.models.tokenizer import Tokenizer

__all__ = ["GgufTokenizer", "from_gguf", "to_gguf"]

#: How "gpt2" texts are split ahead of the merges, by tokenizer.ggml.pre, and whether a word that is a token is taken whole.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")
_SPLITS = {"gpt-2": (_GPT2, False), "olmo": (_GPT2, False), "llama-bpe": (_LLAMA3, True), "llama3": (_LLAMA3, True),
           "llama-v3": (_LLAMA3, True), "falcon3": (_LLAMA3, True)}


@dataclass
class GgufTokenizer:
    """The values of tokenizer.ggml.*."""

    model: str
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    pre: str = ""
    add_space_prefix: bool = True
    remove_extra_whitespaces: bool = False


def from_gguf(get: Callable[[str, Any], Any], name: str) -> bytes:
    """A SentencePiece model or tokenizer.json of what ``get(key, default)`` gives for tokenizer.ggml keys."""
    model = get("model", None)
    tokens = get("tokens", [])
    types = get("token_type", [spm.NORMAL] * len(tokens))
    if not tokens or len(types) != len(tokens):
        raise ModelError(f"{name} has {len(tokens)} tokens with {len(types)} types")
    if model == "llama":
        scores = get("scores", [])
        if len(scores) != len(tokens):
            raise ModelError(f"{name} has {len(tokens)} tokens with {len(scores)} scores")
        pieces = [spm.Piece(str(t), float(s), int(k)) for t, s, k in zip(tokens, scores, types, strict=True)]
        # Of two pieces with the same text SentencePiece takes neither.
        seen: set[str] = set()
        for i, piece in enumerate(pieces):
            if piece.text in seen or not piece.text:
                pieces[i] = spm.Piece(f"<unused {i}>", piece.score, spm.UNUSED)
            seen.add(piece.text)
        return spm.make(pieces, spm.Spec(add_dummy_prefix=bool(get("add_space_prefix", True)),
                                         remove_extra_whitespaces=bool(get("remove_extra_whitespaces", False))))
    if model == "gpt2":
        pre = get("pre", "gpt-2")
        if pre not in _SPLITS:
            raise ModelError(f"{name} splits texts as {pre!r}; {', '.join(_SPLITS)} are known: give --tokenizer tokenizer.json")
        return _byte_level_json(tokens, types, get("merges", []), pre)
    raise ModelError(f"{name} is of the kind {model!r}; llama and gpt2 are known: give --tokenizer FILE")


def _byte_level_json(tokens: list[str], types: list[int], merges: list[str], pre: str) -> bytes:
    pattern, whole_words = _SPLITS[pre]
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": kind == spm.CONTROL}
               for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind in (spm.CONTROL, spm.USER_DEFINED)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": whole_words,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": list(merges)},
    }, ensure_ascii=False).encode()


def to_gguf(content: bytes, vocab: int) -> GgufTokenizer:
    """What a GGUF file says of a model's tokenizer, with placeholders up to the model's vocabulary."""
    known = Tokenizer(content)
    out = _of_json(content) if known.kind == "tokenizer.json" else _of_sentencepiece(content)
    for i in range(len(out.tokens), vocab):
        out.tokens.append(f"<unused {i}>")
        out.types.append(spm.UNUSED)
        if out.scores:
            out.scores.append(-1e4)
    return out


def _of_sentencepiece(content: bytes) -> GgufTokenizer:
    spec = spm.read_spec(content)
    if spec.model_type != spm.BPE:
        raise ModelError("the tokenizer is a SentencePiece model other than BPE, and llama.cpp merges as BPE does: export to hf")
    pieces = sentencepiece.SentencePieceProcessor()
    pieces.LoadFromSerializedProto(content)
    out = GgufTokenizer("llama", [], [], pre="default", add_space_prefix=spec.add_dummy_prefix,
                        remove_extra_whitespaces=spec.remove_extra_whitespaces)
    for i in range(pieces.get_piece_size()):
        out.tokens.append(pieces.id_to_piece(i))
        out.scores.append(pieces.get_score(i))
        out.types.append(spm.UNKNOWN if pieces.is_unknown(i) else spm.CONTROL if pieces.is_control(i)
                         else spm.BYTE if pieces.is_byte(i) else spm.UNUSED if pieces.is_unused(i) else spm.NORMAL)
    return out


def _of_json(content: bytes) -> GgufTokenizer:
    fields = json.loads(content)
    model = fields["model"]
    if model.get("type") != "BPE":
        raise ModelError(f"the tokenizer.json is {model.get('type')}, and llama.cpp takes BPE: export to hf")
    vocab: dict[str, int] = dict(model["vocab"])
    added = {int(t["id"]): t for t in fields.get("added_tokens", [])}
    size = max([*vocab.values(), *added]) + 1
    tokens, types = [f"<unused {i}>" for i in range(size)], [spm.UNUSED] * size
    for text, i in vocab.items():
        tokens[i], types[i] = text, spm.NORMAL
    for i, token in added.items():
        tokens[i], types[i] = token["content"], spm.CONTROL if token["special"] else spm.USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    if (fields.get("decoder") or {}).get("type") == "ByteLevel":
        return GgufTokenizer("gpt2", tokens, types, merges=merges, pre=_split_name(fields, bool(model.get("ignore_merges"))))
    if not model.get("byte_fallback"):
        raise ModelError("the tokenizer.json is neither byte-level nor falls back to bytes: export to hf")
    # llama.cpp merges the pair whose piece has the highest score: the order of the merges, turned round.
    scores = [0.0] * size
    for rank, merge in reversed(list(enumerate(merges))):
        merged = vocab.get(merge.replace(" ", ""))
        if merged is not None:
            scores[merged] = -float(rank + 1)
    unknown = vocab.get(model.get("unk_token") or "")
    if unknown is not None:
        types[unknown] = spm.UNKNOWN
    for text, i in vocab.items():
        if len(text) == 6 and text.startswith("<0x"):
            types[i] = spm.BYTE
    prefix = "prepend" in json.dumps(fields.get("normalizer") or {}).lower() or "Metaspace" in json.dumps(
        fields.get("pre_tokenizer") or {})
    return GgufTokenizer("llama", tokens, types, scores=scores, pre="default", add_space_prefix=prefix)


def _split_name(fields: dict[str, Any], whole_words: bool) -> str:
    """The name that llama.cpp has for a byte-level tokenizer's way of splitting."""
    pre = fields.get("pre_tokenizer") or {}
    parts = pre.get("pretokenizers", [pre])
    patterns = [p["pattern"].get("Regex") for p in parts if p.get("type") == "Split"]
    if not patterns and any(p.get("type") == "ByteLevel" and p.get("use_regex", True) for p in parts):
        return "gpt-2"
    for name, (pattern, whole) in _SPLITS.items():
        if patterns == [pattern] and whole == whole_words:
            return name
    raise ModelError("the tokenizer.json splits texts in a way for which llama.cpp has no name that is known here: export to hf")
