# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tokenizers, and text that comes out token by token as whole UTF-8 characters."""

import codecs
import os
from collections.abc import Iterable
from typing import Protocol

import sentencepiece

from tellme.models.model import ModelError
from tellme.models.tokenizers import spm

__all__ = ["BYTE_OF_CHARACTER", "Decoding", "TextStream", "Tokenizer"]

_BOM, _SPACES = b"\xef\xbb\xbf", b" \t\r\n"


class Decoding(Protocol):
    """A decoder at work: tokens go in one by one, and text that no later token changes comes out.

    The texts that came out and the text of ``finish`` are together what the tokenizer's package decodes from all tokens at once.
    """

    def push(self, token: int) -> str:
        """The text that a token settles; an id without a token settles none."""
        ...

    def finish(self) -> str:
        """The text that still waited, now that no token follows."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes of the tokens whose text waits for a later token."""
        ...


class Tokenizer:
    """A tokenizer from its bytes: a SentencePiece model, or a tokenizer.json of the ``tokenizers`` package.

    ModelError says what of it is damaged or not supported.
    """

    def __init__(self, content: bytes, name: str = "the model's tokenizer"):
        self._pieces: _Pieces
        if is_json(content):
            # Late: a SentencePiece model does without the package.
            from tellme.models.tokenizers.tokenizer_json import JsonPieces

            self._pieces = JsonPieces(content, name)
        else:
            self._pieces = SentencePieces(content, name)
        self.size = self._pieces.size
        self.kind = self._pieces.kind
        #: Whether decoded text comes only at the end, since what comes last may change what comes first.
        self.late = self._pieces.late

    def encode(self, text: str) -> list[int]:
        """Token ids, without BOS; surrogates, which are no characters, count as question marks."""
        return self._pieces.encode(text.encode("utf-8", "replace").decode("utf-8"))

    def decode(self, ids: list[int]) -> str:
        """The text of ids as the tokenizer's package decodes them, without special tokens."""
        return self._pieces.decode(ids)

    def decoding(self) -> Decoding:
        """A decoder at the start of a text."""
        return self._pieces.decoding()

    def text_bytes(self, ids: Iterable[int]) -> int:
        """UTF-8 bytes of the text of ids; if the last ids begin a character, the bytes of it that are there."""
        decoding = self.decoding()
        return sum(len(decoding.push(i).encode()) for i in ids) + decoding.waiting

    def text(self, token: int) -> str:
        """A token as the vocabulary writes it, nothing for an id that the tokenizer lacks."""
        return self._pieces.text(token) if token < self.size else ""

    def is_byte(self, token: int) -> bool:
        """Whether a token stands for one byte."""
        return token < self.size and self._pieces.is_byte(token)

    def piece_bytes(self, token: int) -> bytes:
        """What a token adds in the middle of a text; control tokens, and ids that the tokenizer lacks, add nothing."""
        return self._pieces.piece_bytes(token) if token < self.size else b""


def is_json(content: bytes) -> bool:
    """Whether bytes are a tokenizer.json: a JSON object or the beginning of one, and not a SentencePiece model."""
    start = content.removeprefix(_BOM).lstrip(_SPACES)
    # A SentencePiece model begins with a line feed, and with "{" after it where its first piece takes 123 bytes.
    return content[:1] == b"{" or start[:1] == b"{" and content.rstrip(_SPACES)[-1:] == b"}"


class _Pieces(Protocol):
    """What a kind of tokenizer does."""

    kind: str
    size: int
    late: bool

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...
    def decoding(self) -> Decoding: ...
    def text(self, token: int) -> str: ...
    def is_byte(self, token: int) -> bool: ...
    def piece_bytes(self, token: int) -> bytes: ...


class SentencePieces:
    """A SentencePiece model."""

    kind = "SentencePiece"

    def __init__(self, content: bytes, name: str):
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(content)
            self.size = int(self._pieces.get_piece_size())
            texts = [self.text(i) for i in range(self.size)]
            self.decode(list(range(self.size)))
            self.late = spm.read_spec(content).denormalization != b""
        # The package raises ValueError where a text is no UTF-8.
        except (RuntimeError, TypeError, ValueError, ModelError) as error:
            raise ModelError(f"{name} is no SentencePiece model") from error
        # The package's own answers tell what it drops at the start of a text: one space, or all of them.
        first = next((i for i, t in enumerate(texts) if t[:1] == spm.SPACE and self.plain(i)), None)
        self.drops_first = first is not None and self.decode([first]) != self.surface(first)
        space = next((i for i, t in enumerate(texts) if t == spm.SPACE and self.plain(i)), None)
        self.drops_all = space is not None and self.decode([space, space]) == ""

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._pieces.encode(text)]

    def decode(self, ids: list[int]) -> str:
        return str(self._pieces.decode([i for i in ids if i < self.size]))

    def decoding(self) -> Decoding:
        return _WholeDecoding(self) if self.late else _SentencePieceDecoding(self)

    def text(self, token: int) -> str:
        return str(self._pieces.id_to_piece(token))

    def is_byte(self, token: int) -> bool:
        return bool(self._pieces.is_byte(token))

    def plain(self, token: int) -> bool:
        """Whether a token stands for its own text."""
        return not (self._pieces.is_byte(token) or self._pieces.is_control(token) or self._pieces.is_unknown(token))

    def surface(self, token: int) -> str:
        """The text of a token that stands for no byte, spaces at the start of a text included."""
        return self.text(token).replace(spm.SPACE, " ") if self.plain(token) else self.decode([token])

    def piece_bytes(self, token: int) -> bytes:
        return bytes([int(self.text(token)[3:5], 16)]) if self.is_byte(token) else self.surface(token).encode()


def _a_mark_a_byte(error: UnicodeError) -> tuple[str, int]:
    """SentencePiece's way with bytes that are no UTF-8: a replacement mark for each."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("tellme.mark", _a_mark_a_byte)


class _SentencePieceDecoding:
    """SentencePiece's decoder: bytes of one character stand side by side, and spaces at the start are dropped.

    The first piece with text loses one space at its start.  If the model removes extra spaces, pieces before the first piece that
    are only a space are dropped too.  A byte counts as text; a control piece does not.
    """

    def __init__(self, pieces: SentencePieces):
        self._pieces = pieces
        self._utf8 = codecs.getincrementaldecoder("utf-8")("tellme.mark")
        self._at_start = pieces.drops_first

    def push(self, token: int) -> str:
        if token >= self._pieces.size:
            return ""
        if self._pieces.is_byte(token):
            self._at_start = False
            return self._utf8.decode(self._pieces.piece_bytes(token))
        text = self._pieces.surface(token)
        if self._at_start:
            if self._pieces.plain(token) and self._pieces.text(token)[:1] == spm.SPACE:
                text = text[1:]
                # One space is the one that was put ahead; of extra spaces all are dropped until there is text.
                self._at_start = not text and self._pieces.drops_all
            else:
                self._at_start = not text
        return self.finish() + text

    def finish(self) -> str:
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest

    @property
    def waiting(self) -> int:
        return len(self._utf8.getstate()[0])


class _WholeDecoding:
    """SentencePiece's decoder where a model has rules that change decoded texts (denormalizer_spec)."""

    def __init__(self, pieces: SentencePieces):
        self._pieces = pieces
        self._ids: list[int] = []

    def push(self, token: int) -> str:
        self._ids.append(token)
        return ""

    def finish(self) -> str:
        ids, self._ids = self._ids, []
        return self._pieces.decode(ids)

    @property
    def waiting(self) -> int:
        return len(self._pieces.decode(self._ids).encode())


def _byte_characters() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones for themselves, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + i): b for i, b in enumerate(rest)}


#: Character of a byte-level vocabulary -> the byte that it stands for.
BYTE_OF_CHARACTER = _byte_characters()


class TextStream:
    """The text of tokens as they come: what the tokenizer's package decodes from all of them, in whole characters.

    A text comes out as soon as no later token can change it.  The following waits:

    - the bytes of a character, until its last byte;
    - with a tokenizer.json that falls back to bytes, all bytes of a run until the run ends, because one byte that is not UTF-8
      turns the whole run into marks (bytes after such a byte come at once);
    - text that a decoder may still replace or strip;
    - all text, until the end, with a decoder that replaces a regular expression without a known bound, and with a SentencePiece
      model that has rules for decoded texts (``Tokenizer.late``).

    ``before`` are ids that came before, such as a prompt.  The stream then gives the part of the text of all ids that comes after
    the text of these ids.
    """

    def __init__(self, tokenizer: Tokenizer, before: Iterable[int] = ()):
        before = list(before)
        self._decoding = tokenizer.decoding()
        settled = "".join(map(self._decoding.push, before))
        # What is still to come of the text of the ids before.
        whole = tokenizer.decoding()
        self._owed = ("".join(map(whole.push, before)) + whole.finish())[len(settled):] if before else ""

    def push(self, token: int) -> str:
        """The text that a token settles."""
        return self._beyond(self._decoding.push(token))

    @property
    def pending(self) -> bool:
        """Whether text waits for a later token."""
        return self._decoding.waiting > 0

    def finish(self) -> str:
        """The text that still waited; a character that never got its last byte is a replacement mark, or several."""
        return self._beyond(self._decoding.finish())

    def _beyond(self, text: str) -> str:
        if not self._owed:
            return text
        common = len(os.path.commonprefix([text, self._owed]))
        self._owed = self._owed[common:] if common == len(text) else ""
        return text[common:]
