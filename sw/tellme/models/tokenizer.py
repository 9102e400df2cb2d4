# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SentencePiece tokenizers, and text that comes out token by token as whole UTF-8 characters."""

import codecs

import sentencepiece

from tellme.models.model import ModelError

__all__ = ["TextStream", "Tokenizer"]


class Tokenizer:
    """A SentencePiece model from its bytes."""

    def __init__(self, content: bytes, name: str = "the model's tokenizer"):
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=content)
            self.size = self._pieces.get_piece_size()
        except (RuntimeError, TypeError) as error:
            raise ModelError(f"{name} is no SentencePiece model") from error
        if self.size == 0:
            raise ModelError(f"{name} is no SentencePiece model")

    def encode(self, text: str) -> list[int]:
        """Token ids, without BOS."""
        return list(self._pieces.encode(text))

    def piece_bytes(self, token: int) -> bytes:
        """What a token adds to the text; control tokens add nothing."""
        if self._pieces.is_control(token):
            return b""
        piece = self._pieces.id_to_piece(token)
        if self._pieces.is_byte(token):
            return bytes([int(piece[3:5], 16)])
        if self._pieces.is_unknown(token):
            return " \u2047 ".encode()
        return piece.replace("\u2581", " ").encode()


class TextStream:
    """Joins the bytes of tokens to text: a character leaves when its last byte is there.

    The space that SentencePiece puts ahead of a text's first word is dropped after a BOS, as its decoder does.
    """

    def __init__(self, tokenizer: Tokenizer, *, at_start: bool):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = at_start

    def push(self, token: int) -> str:
        """The text that a token completes."""
        content = self._tokenizer.piece_bytes(token)
        if self._at_start and content:
            self._at_start = False
            content = content.removeprefix(b" ")
        return self._decoder.decode(content)

    def finish(self) -> str:
        """What is left of a character that never got its last byte: a replacement mark."""
        return self._decoder.decode(b"", final=True)
