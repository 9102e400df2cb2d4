# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SentencePiece tokenizers, and text that comes out token by token as whole UTF-8 characters."""

import codecs

import sentencepiece

from tellme.models.model import ModelError

__all__ = ["TextStream", "Tokenizer"]


def _a_mark_a_byte(error: UnicodeError) -> tuple[str, int]:
    """SentencePiece's way with bytes that are no UTF-8: a replacement mark for each."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("tellme.mark", _a_mark_a_byte)


class Tokenizer:
    """A SentencePiece model from its bytes."""

    def __init__(self, content: bytes, name: str = "the model's tokenizer"):
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(content)
            self.size = int(self._pieces.get_piece_size())
        except (RuntimeError, TypeError) as error:
            raise ModelError(f"{name} is no SentencePiece model") from error
        if not content or self.size == 0:
            raise ModelError(f"{name} is no SentencePiece model")

    def encode(self, text: str) -> list[int]:
        """Token ids, without BOS."""
        return [int(i) for i in self._pieces.encode(text)]

    def decode(self, ids: list[int]) -> str:
        """The text of ids as SentencePiece itself decodes them."""
        return str(self._pieces.decode(ids))

    def is_byte(self, token: int) -> bool:
        """Whether a token stands for one byte."""
        return bool(self._pieces.is_byte(token))

    def piece_bytes(self, token: int) -> bytes:
        """What a token adds to the text; control tokens add nothing."""
        if self._pieces.is_control(token):
            return b""
        piece = self._pieces.id_to_piece(token)
        if self._pieces.is_byte(token):
            return bytes([int(piece[3:5], 16)])
        if self._pieces.is_unknown(token):
            return " \u2047 ".encode()
        return str(piece).replace("\u2581", " ").encode()


class TextStream:
    """Joins the bytes of tokens to text: a character leaves when its last byte is there.

    ``at_start``: no text came before, so that the space that SentencePiece puts ahead of a text's first word is
    dropped, as its decoder does.
    """

    def __init__(self, tokenizer: Tokenizer, *, at_start: bool):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="tellme.mark")
        self._at_start = at_start

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
