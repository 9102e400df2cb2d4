# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A model's tokenizer as GGUF's metadata.  A tokenizer from which llama.cpp would give other ids or texts is refused by name.

llama.cpp's splitting, merging and decoding are known (src/llama-vocab.cpp), and each feature that llama.cpp lacks is named here.
Two differences are accepted.  The program that calls llama.cpp decides whether special tokens in a text are parsed.  After a
user-defined token, llama.cpp's kind "llama" begins a text anew and adds a space, and SentencePiece does not.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import sentencepiece

from tellme.models.config import ModelError
from tellme.models.tokenizers import spm
from tellme.models.tokenizers.gguf_tokenizer import BYTE_TEXTS, DIGIT, GPT2, SPLITS, GgufTokenizer, Split, from_gguf, placeholder
from tellme.models.tokenizers.merge_scores import by_score, merge_scores, merged
from tellme.models.tokenizers.tokenizer import BYTE_OF_CHARACTER, Tokenizer

__all__ = ["PROBES", "to_gguf"]

#: Texts whose ids and decoded texts are compared before a tokenizer is exported.
PROBES = (
    "", " ", "  ", "a", " a", "   a", "a ", "a  ", "the cat sat on the mat", " The cat's mat", "two  spaces, three   ones",
    "\n", "\n\n", "line one\nline two\r\n\r\n\tindented\t\ttwice ", " \t \n mixed \v\f", "7 12 345 6789 1,234,567.89 3.14e-10",
    "x1y22z333w4444", "it's we'll I'D CAN'T 'twas", "Hello, World! (a) [b] {c} <d> \"e\" -- f...", "def f(x):\n    return x  # y",
    "caf\u00e9 na\u00efve cafe\u0301 \u0301 a\u0300\u0301\u0302", "\ufb01 \u2460 \u00bd \u2122 \uff21 \u212b \u0130 \u1e9e",
    "\u65e5\u672c\u8a9e\u3001\u4e2d\u6587\uff0c\ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22",
    "\u05e9\u05dc\u05d5\u05dd 123 \u0928\u092e\u0938\u094d", "\U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469",
    "\U00020000 ", "no\u00a0break \u2009 \u3000 \u200b \u2028 \x85 \x7f \x01", "\u2581 \u2581\u2581the \u2581",
    "\u0120\u010a \u0120the", "<0x41><0xE2>", "\x00 nul\x00", "\ufeff \ufffd", "-" * 40, " " * 40,
    "https://example.org/a_b?c=%20#d  e@example.org",
)


def to_gguf(content: bytes, vocab: int) -> GgufTokenizer:
    """A GGUF file's metadata of a tokenizer, with placeholders up to the model's vocabulary.

    ``content``: a SentencePiece model or tokenizer.json.  ModelError names the first feature that llama.cpp does not have.
    """
    known = Tokenizer(content)
    out = (_of_json if known.kind == "tokenizer.json" else _of_sentencepiece)(content)
    _fill(out, vocab)
    _check_probes(known, out)
    if known.kind == "tokenizer.json":
        out.json = content.decode()
    return out


def _refuse(what: str) -> ModelError:
    return ModelError(f"the tokenizer {what}: export to hf")


def _fill(out: GgufTokenizer, vocab: int) -> None:
    """Give ids without a token a text that no token has."""
    used = {t for t, kind in zip(out.tokens, out.types, strict=True) if kind != spm.UNUSED}
    for i in range(len(out.tokens), vocab):
        out.tokens.append(placeholder(i))
        out.types.append(spm.UNUSED)
        if out.model == "llama":
            out.scores.append(-1e4)
    for i, kind in enumerate(out.types):
        while kind == spm.UNUSED and out.tokens[i] in used:
            out.tokens[i] += "'"
        used.add(out.tokens[i])


def _check_probes(known: Tokenizer, out: GgufTokenizer) -> None:
    """Check that the metadata give the same ids and texts as the tokenizer."""
    try:
        made = Tokenizer(from_gguf(out.values(), "it"))
    except ModelError as error:
        raise _refuse(f"cannot be told by a GGUF file, where {str(error).removesuffix(': give a tokenizer.json')}") from error
    # A tokenizer.json and llama.cpp find special tokens in a text, and begin anew after added tokens.  SentencePiece does not.
    added = [t for t, kind in zip(out.tokens, out.types, strict=True)
             if t and kind in (spm.USER_DEFINED, spm.CONTROL, spm.UNKNOWN) and out.model == "llama"]
    for text in PROBES:
        if any(t in text for t in added):
            continue
        ids = known.encode(text)
        if made.encode(text) != ids:
            raise _refuse(f"gives {ids} for {text!r}, and its tokens and merges in a GGUF file give {made.encode(text)}")
        if made.decode(ids) != known.decode(ids):
            raise _refuse(f"decodes {ids} to {known.decode(ids)!r}, and its tokens in a GGUF file to {made.decode(ids)!r}")


def _of_sentencepiece(content: bytes) -> GgufTokenizer:
    spec, pieces = spm.read_spec(content), spm.read_pieces(content)
    if spec.model_type != spm.BPE:
        raise ModelError("the tokenizer is a SentencePiece model other than BPE, and llama.cpp merges as BPE does: export to hf")
    if spec.charsmap:
        raise _refuse(f"normalises texts ({spec.normalization or 'rules of its own'}), which llama.cpp does not")
    if spec.remove_extra_whitespaces:
        raise _refuse("takes spaces out of texts (remove_extra_whitespaces), which llama.cpp does not")
    if not spec.escape_whitespaces:
        raise _refuse("leaves spaces as they are (escape_whitespaces is off), and llama.cpp writes them as U+2581")
    if spec.treat_whitespace_as_suffix:
        raise _refuse("puts a space behind texts (treat_whitespace_as_suffix), and llama.cpp ahead of them")
    if spec.denormalization:
        raise _refuse("changes decoded texts by rules (denormalizer_spec), which llama.cpp does not")
    if not spec.byte_fallback:
        raise _refuse("has no tokens for bytes (byte_fallback), and llama.cpp stops at a character that is no token")
    if spec.unknown_text != spm.UNKNOWN_TEXT:
        raise _refuse(f"decodes the unknown token to {spec.unknown_text!r} (unk_surface), which a GGUF file does not say")
    scores = {p.text: p.score for p in pieces if p.type in (spm.NORMAL, spm.UNUSED)}
    for piece in pieces:
        if piece.type == spm.USER_DEFINED and (" " in piece.text or spm.SPACE in piece.text):
            raise _refuse(f"has the user-defined piece {piece.text!r}, and llama.cpp looks for pieces with spaces in another way")
        if piece.type == spm.UNUSED and len(merged(piece.text, by_score(scores))[0]) == 1:
            raise _refuse(f"has the unused piece {piece.text!r}, and llama.cpp takes unused pieces as tokens")
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(content)
    unknown, pad = processor.unk_id(), processor.pad_id()
    _check_overlaps([p.text for p in pieces if p.type == spm.USER_DEFINED])
    return GgufTokenizer(
        "llama", [p.text for p in pieces], [p.type for p in pieces], scores=[p.score for p in pieces],
        add_space_prefix=spec.add_dummy_prefix, unknown=unknown if unknown >= 0 else None, pad=pad if pad >= 0 else None)


def _of_json(content: bytes) -> GgufTokenizer:
    import tokenizers

    pieces = tokenizers.Tokenizer.from_str(content.decode())
    model = json.loads(content)["model"]
    if not isinstance(pieces.model, tokenizers.models.BPE):
        raise _refuse(f"is {type(pieces.model).__name__}, and llama.cpp takes BPE")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if getattr(pieces.model, key):
            raise _refuse(f"marks parts of words ({key} is {getattr(pieces.model, key)!r}), which llama.cpp does not")
    vocab: dict[str, int] = pieces.get_vocab(with_added_tokens=False)
    added = pieces.get_added_tokens_decoder()
    size = max([*vocab.values(), *added]) + 1
    tokens, types = [placeholder(i) for i in range(size)], [spm.UNUSED] * size
    for text, i in vocab.items():
        tokens[i], types[i] = text, spm.NORMAL
    for i, token in added.items():
        for flag in ("lstrip", "rstrip", "single_word"):
            if getattr(token, flag):
                raise _refuse(f"finds the added token {token.content!r} with {flag}, which a GGUF file does not say")
        tokens[i], types[i] = token.content, spm.CONTROL if token.special else spm.USER_DEFINED
    _check_overlaps([token.content for token in added.values()])
    merges = [(m[0], m[1]) for m in (m.split(" ") if isinstance(m, str) else m for m in model["merges"])]
    out = GgufTokenizer("", tokens, types)
    steps = list(_steps(pieces.decoder, "decoders"))
    if [s["type"] for s in steps] == ["ByteLevel"]:
        _byte_level(out, pieces, vocab, merges)
    elif pieces.model.byte_fallback:
        _byte_fallback(out, pieces, vocab, merges, steps)
    else:
        raise _refuse("is neither byte-level nor falls back to bytes, and llama.cpp takes these")
    return out


def _check_overlaps(contents: list[str]) -> None:
    """Check that llama.cpp finds the right one of two added tokens if the end of one is the beginning of the other.

    The right token is the first in the text, and the longest of the tokens that begin there.  llama.cpp takes the token with the
    most bytes, and among equals the token that its sorting happens to put first.
    """
    in_order = sorted(filter(None, contents), key=_size, reverse=True)
    orders = in_order, sorted(reversed(in_order), key=_size, reverse=True)
    first = re.compile("|".join(map(re.escape, in_order)) or "(?!)")
    begins: dict[str, list[str]] = {}
    for content in in_order:
        for n in range(1, len(content)):
            begins.setdefault(content[:n], []).append(content)
    for a in in_order:
        for n in range(1, len(a)):
            for b in begins.get(a[-n:], []):
                text = a + b[n:]
                if _size(b) >= _size(a) and any(_one_by_one(text, order) != first.findall(text) for order in orders):
                    raise _refuse(f"finds the added tokens {a!r} and {b!r} by the place where they begin, and llama.cpp the "
                                  "longer one")


def _size(text: str) -> int:
    return len(text.encode())


def _one_by_one(text: str, in_order: list[str]) -> list[str]:
    """The added tokens that are found in a text by looking for one after another."""
    parts: list[tuple[str, bool]] = [(text, False)]
    for content in in_order:
        left, parts = parts, []
        for part, found in left:
            pieces = [part] if found else part.split(content)
            parts.append((pieces[0], found))
            for piece in pieces[1:]:
                parts += [(content, True), (piece, False)]
    return [part for part, found in parts if found]


def _steps(part: Any, inner: str) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder, as the package itself writes them."""
    fields = None if part is None else json.loads(part.__getstate__())
    todo = [] if fields is None else [fields]
    while todo:
        fields = todo.pop(0)
        if fields["type"] == "Sequence":
            todo[:0] = fields[inner]
        else:
            yield fields


def _byte_level(out: GgufTokenizer, pieces: Any, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """The rest of a byte-level tokenizer."""
    normalizers = _names(_steps(pieces.normalizer, "normalizers"))
    if normalizers:
        raise _refuse(f"normalises texts ({normalizers}), which llama.cpp does not")
    # Bytes that occur in UTF-8.
    missing = [b for c, b in BYTE_OF_CHARACTER.items() if c not in vocab and b not in (0xC0, 0xC1) and b < 0xF5]
    if missing:
        raise _refuse(f"has no token for the byte 0x{min(missing):02x}, and llama.cpp leaves it out in a way of its own")
    if not merges:
        raise _refuse("has no merges, and llama.cpp reads no such file")
    for pair in merges:
        if " " in "".join(pair):
            raise _refuse(f"merges {pair[0]!r} and {pair[1]!r}, and a GGUF file has a space between the two of a merge")
    out.model, out.merges = "gpt2", [" ".join(pair) for pair in merges]
    out.pre = _split_name(list(_steps(pieces.pre_tokenizer, "pretokenizers")), bool(pieces.model.ignore_merges))


def _split_name(steps: list[dict[str, Any]], whole_words: bool) -> str:
    """The name that llama.cpp has for a byte-level tokenizer's way of splitting."""
    patterns: list[str | None] = []
    for step in steps:
        if step["type"] == "ByteLevel":
            if step["add_prefix_space"]:
                raise _refuse("puts a space ahead of texts (ByteLevel, add_prefix_space), which llama.cpp does not")
            patterns += [GPT2] if step["use_regex"] else []
        elif step["type"] == "Digits" and step["individual_digits"]:
            patterns.append(DIGIT)
        elif step["type"] == "Split" and (step["behavior"], step["invert"]) in (("Isolated", False), ("Removed", True)):
            patterns.append(step["pattern"].get("Regex"))
        else:
            patterns.append(None)
    split = Split(tuple(p or "" for p in patterns), whole_words)
    if _names(steps[-1:]) == "ByteLevel":
        for name, known in SPLITS.items():
            if known == split:
                return name
    raise _refuse(f"splits texts ({_names(steps) or 'with nothing'}) in a way for which llama.cpp has no name that is known "
                  "here")


def _byte_fallback(out: GgufTokenizer, pieces: Any, vocab: dict[str, int], merges: list[tuple[str, str]],
                   decoder: list[dict[str, Any]]) -> None:
    """The rest of a tokenizer with spaces as U+2581 and a token a byte: SentencePiece's way, which merges by scores."""
    missing = [t for t in BYTE_TEXTS if t not in vocab]
    if missing:
        raise _refuse(f"has no token {missing[0]}, and llama.cpp stops at a byte that is no token")
    prefix, split = _spaces(list(_steps(pieces.normalizer, "normalizers")), list(_steps(pieces.pre_tokenizer, "pretokenizers")))
    for token in pieces.get_added_tokens_decoder().values():
        if token.normalized and not token.special and (prefix or " " in token.content or spm.SPACE in token.content):
            raise _refuse(f"finds the added token {token.content!r} in the normalised text (normalized), and llama.cpp in the "
                          "text as it is")
    _check_decoder(decoder, prefix)
    for text in BYTE_TEXTS:
        out.types[vocab[text]] = spm.BYTE
    if pieces.model.unk_token in vocab:
        out.unknown = vocab[pieces.model.unk_token]
        out.types[out.unknown] = spm.UNKNOWN
    scores = merge_scores((t for t, i in vocab.items() if out.types[i] == spm.NORMAL), merges, spm.SPACE if split else None)
    if pieces.model.ignore_merges:
        for text in scores:
            if len(merged(text, by_score(scores))[0]) > 1:
                raise _refuse(f"takes a text that is {text!r} as one token (ignore_merges), and llama.cpp merges")
    out.model, out.add_space_prefix = "llama", prefix
    out.scores = [scores.get(t, 0.0) if kind == spm.NORMAL else 0.0 for t, kind in zip(out.tokens, out.types, strict=True)]


def _spaces(normalizer: list[dict[str, Any]], pre: list[dict[str, Any]]) -> tuple[bool, bool]:
    """Whether a space is put before every text, and whether texts are split before spaces."""
    prefix = replaced = split = False
    for step in normalizer:
        if step["type"] == "Prepend" and step["prepend"] == spm.SPACE and not prefix:
            prefix = True
        elif step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == spm.SPACE:
            replaced = True
        else:
            raise _refuse(f"normalises texts ({step['type']}), which llama.cpp does not")
    for step in pre:
        if step["type"] != "Metaspace" or step["replacement"] != spm.SPACE or len(pre) > 1:
            raise _refuse(f"splits texts ({_names(pre)}), which llama.cpp does with byte-level tokens only")
        if step["prepend_scheme"] != "never" and not (prefix and replaced):
            raise _refuse(f"puts a space ahead of texts that do not begin with one (Metaspace, {step['prepend_scheme']}), and "
                          "llama.cpp ahead of all or none")
        replaced, split = True, bool(step["split"])
    if not replaced:
        raise _refuse("leaves spaces as they are, and llama.cpp writes them as U+2581")
    return prefix, split


def _check_decoder(steps: list[dict[str, Any]], prefix: bool) -> None:
    """Check that a decoder does what llama.cpp does: spaces for U+2581, bytes, and no space before a text that was given one."""
    strips, known = False, any(step["type"] in ("Replace", "Metaspace") for step in steps)
    for step in steps:
        if step["type"] == "Strip" and (step["content"], step["start"], step["stop"]) == (" ", 1, 0):
            strips = True
        elif step["type"] == "Metaspace" and step["replacement"] == spm.SPACE:
            strips = strips or step["prepend_scheme"] != "never"
        else:
            known = known and (step["type"] in ("ByteFallback", "Fuse") or (
                step["type"] == "Replace" and step["pattern"] == {"String": spm.SPACE} and step["content"] == " "))
    if not known:
        raise _refuse(f"decodes with {_names(steps)}, and llama.cpp with spaces for U+2581 and bytes for their tokens")
    if strips != prefix:
        what = ("takes the space ahead of texts away when it decodes, and puts none there" if strips else
                "leaves the space ahead of texts when it decodes")
        raise _refuse(f"{what} ({_names(steps)}), which llama.cpp does not")


def _names(steps: Iterable[dict[str, Any]]) -> str:
    return ", ".join(str(s["type"]) for s in steps)
