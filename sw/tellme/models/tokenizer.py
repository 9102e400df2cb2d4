# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tokenizers, and text that comes out token by token as whole UTF-8 characters."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Protocol

import sentencepiece

from tellme.models.model import ModelError

__all__ = ["BYTE_OF_CHARACTER", "TextStream", "Tokenizer"]


def _a_mark_a_byte(error: UnicodeError) -> tuple[str, int]:
    """SentencePiece's way with bytes that are no UTF-8: a replacement mark for each."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("tellme.mark", _a_mark_a_byte)


class Tokenizer:
    """A tokenizer from its bytes: a SentencePiece model, or a tokenizer.json of the ``tokenizers`` package."""

    def __init__(self, content: bytes, name: str = "the model's tokenizer"):
        self._pieces: _Pieces = JsonPieces(content, name) if content[:1] == b"{" else SentencePieces(content, name)
        self.size = self._pieces.size
        #: The ``codecs`` error handler that gives what the tokenizer's own decoder gives for bytes that are no UTF-8.
        self.errors = self._pieces.errors
        #: Whether the space ahead of a text's first word is dropped.
        self.drops_first_space = self._pieces.drops_first_space
        self.kind = self._pieces.kind

    def encode(self, text: str) -> list[int]:
        """Token ids, without BOS."""
        return self._pieces.encode(text)

    def decode(self, ids: list[int]) -> str:
        """The text of ids as the tokenizer itself decodes them."""
        return self._pieces.decode(ids)

    def text(self, token: int) -> str:
        """A token as the vocabulary writes it, nothing for an id that the tokenizer lacks."""
        return self._pieces.text(token) if token < self.size else ""

    def is_byte(self, token: int) -> bool:
        """Whether a token stands for one byte."""
        return token < self.size and self._pieces.is_byte(token)

    def piece_bytes(self, token: int) -> bytes:
        """What a token adds to the text; control tokens, and ids of the model's that the tokenizer lacks, add nothing."""
        return self._pieces.piece_bytes(token) if token < self.size else b""


class _Pieces(Protocol):
    """What a kind of tokenizer does."""

    kind: str
    size: int
    errors: str
    drops_first_space: bool

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...
    def text(self, token: int) -> str: ...
    def is_byte(self, token: int) -> bool: ...
    def piece_bytes(self, token: int) -> bytes: ...


class SentencePieces:
    """A SentencePiece model."""

    kind = "SentencePiece"
    errors = "tellme.mark"
    drops_first_space = True

    def __init__(self, content: bytes, name: str):
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(content)
            self.size = int(self._pieces.get_piece_size())
        except (RuntimeError, TypeError) as error:
            raise ModelError(f"{name} is no SentencePiece model") from error
        if not content or self.size == 0:
            raise ModelError(f"{name} is no SentencePiece model")

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._pieces.encode(text)]

    def decode(self, ids: list[int]) -> str:
        return str(self._pieces.decode(ids))

    def text(self, token: int) -> str:
        return str(self._pieces.id_to_piece(token))

    def is_byte(self, token: int) -> bool:
        return bool(self._pieces.is_byte(token))

    def piece_bytes(self, token: int) -> bytes:
        if self._pieces.is_control(token):
            return b""
        piece = self._pieces.id_to_piece(token)
        if self._pieces.is_byte(token):
            return bytes([int(piece[3:5], 16)])
        if self._pieces.is_unknown(token):
            return " \u2047 ".encode()
        return str(piece).replace("\u2581", " ").encode()


class JsonPieces:
    """A tokenizer.json, byte-level or with spaces as U+2581 and a piece a byte for what is not in the vocabulary.

    Special tokens add nothing to a text.
    """

    kind = "tokenizer.json"

    def __init__(self, content: bytes, name: str):
        # Late: a SentencePiece model does without.
        import tokenizers

        try:
            self._pieces = tokenizers.Tokenizer.from_str(content.decode())
            fields = json.loads(content)
            decoders = list(_decoders(fields.get("decoder")))
            added = {int(t["id"]): (str(t["content"]), bool(t["special"])) for t in fields.get("added_tokens", [])}
        except Exception as error:  # the package raises plain Exceptions
            raise ModelError(f"{name} is no tokenizer.json ({str(error)[:200]})") from error
        kinds = [str(d.get("type")) for d in decoders]
        self._byte_level = kinds == ["ByteLevel"]
        known = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}
        if not self._byte_level and not (kinds and known.issuperset(kinds)):
            raise ModelError(f"{name} decodes with {', '.join(kinds) or 'nothing'}; ByteLevel, and {', '.join(sorted(known))}, "
                             "are known")
        self.errors = "replace" if self._byte_level else "tellme.mark"
        self.drops_first_space = any(
            d["type"] == "Strip" or (d["type"] == "Metaspace" and d.get("prepend_scheme", "always") != "never"
                                     and d.get("add_prefix_space", True)) for d in decoders)
        vocabulary = self._pieces.get_vocab(with_added_tokens=True)
        self.size = max(vocabulary.values(), default=-1) + 1
        if self.size == 0:
            raise ModelError(f"{name} has no vocabulary")
        self._special = {i for i, (_, special) in added.items() if special}

    def encode(self, text: str) -> list[int]:
        return list(self._pieces.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self._pieces.decode(ids))

    def text(self, token: int) -> str:
        return self._pieces.id_to_token(token) or ""

    def is_byte(self, token: int) -> bool:
        return not self._byte_level and _BYTE_PIECE.fullmatch(self._pieces.id_to_token(token) or "") is not None

    def piece_bytes(self, token: int) -> bytes:
        piece = self._pieces.id_to_token(token)
        if piece is None or token in self._special:
            return b""
        if self._byte_level:
            known = all(c in BYTE_OF_CHARACTER for c in piece)
            return bytes(BYTE_OF_CHARACTER[c] for c in piece) if known else str(piece).encode()
        if self.is_byte(token):
            return bytes([int(piece[3:5], 16)])
        return str(piece).replace("\u2581", " ").encode()


_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _byte_characters() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones for themselves, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + i): b for i, b in enumerate(rest)}


BYTE_OF_CHARACTER = _byte_characters()


def _decoders(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The steps of a tokenizer.json's decoder."""
    if decoder is not None and decoder.get("type") == "Sequence":
        for part in decoder["decoders"]:
            yield from _decoders(part)
    elif decoder is not None:
        yield decoder


class TextStream:
    """Joins the bytes of tokens to text: a character leaves when its last byte is there.

    ``at_start``: no text came before, so that the space that most tokenizers put ahead of a text's first word is
    dropped, as their decoders do.
    """

    def __init__(self, tokenizer: Tokenizer, *, at_start: bool):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors=tokenizer.errors)
        self._at_start = at_start and tokenizer.drops_first_space

    def push(self, token: int) -> str:
        """The text that a token completes."""
        content = self._tokenizer.piece_bytes(token)
        if self._at_start and content:
            self._at_start = False
            if not self._tokenizer.is_byte(token):
                content = content.removeprefix(b" ")
        return self._decoder.decode(content)

    @property
    def pending(self) -> bool:
        """Whether a character waits for its last bytes."""
        return self._decoder.getstate()[0] != b""

    def finish(self) -> str:
        """What is left of a character that never got its last byte: a replacement mark a byte."""
        return self._decoder.decode(b"", final=True)
