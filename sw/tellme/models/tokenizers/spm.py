# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SentencePiece models as bytes: making a model from pieces, and reading fields that the package's interface does not show.

The protocol buffers are coded by hand, with the field numbers of sentencepiece_model.proto, because the package's own module for
them needs the protobuf package.  ModelProto has pieces (1), trainer_spec (2), normalizer_spec (3) and denormalizer_spec (5).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tellme.models.config import ModelError

__all__ = ["BPE", "BYTE", "CONTROL", "NORMAL", "SPACE", "UNIGRAM", "UNKNOWN", "UNKNOWN_TEXT", "UNUSED", "USER_DEFINED", "Piece",
           "Spec", "make", "read_pieces", "read_spec"]

#: Types of pieces; GGUF has the same numbers.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
#: Types of models.
UNIGRAM, BPE = 1, 2
#: How pieces write a space.
SPACE = "\u2581"
#: The text of the unknown piece, unless the model says another.
UNKNOWN_TEXT = " \u2047 "
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """A piece with its score and type."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class Spec:
    """The fields of trainer, normalizer and denormalizer that change the ids of a text, or the text of ids."""

    model_type: int = BPE
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = False
    #: The name of the Unicode normalisation, and its compiled rules; without rules there is none, whatever its name.
    normalization: str = "identity"
    charsmap: bytes = b""
    #: Whether spaces become U+2581.
    escape_whitespaces: bool = True
    #: Whether the space of a word stands after it.
    treat_whitespace_as_suffix: bool = False
    #: Whether characters without a piece become a piece a byte.
    byte_fallback: bool = True
    #: The text of the unknown piece.
    unknown_text: str = UNKNOWN_TEXT
    #: Compiled rules by which decoded texts are changed.
    denormalization: bytes = b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _content(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def make(pieces: Sequence[Piece], spec: Spec, *, bos: int = -1, eos: int = -1, pad: int = -1) -> bytes:
    """A model whose BOS, EOS and padding are the pieces with these ids, -1 for none.

    The unknown piece is the piece of type UNKNOWN.  ``byte_fallback`` must be set exactly if ``pieces`` include a piece of type
    BYTE for each byte.
    """
    unknown = next((i for i, p in enumerate(pieces) if p.type == UNKNOWN), -1)
    out = []
    for piece in pieces:
        body = _content(1, piece.text.encode()) + _varint(2 << 3 | _FIXED32) + struct.pack("<f", piece.score)
        out.append(_content(1, body + _number(3, piece.type)))
    trainer = [_number(3, spec.model_type), _number(24, int(spec.treat_whitespace_as_suffix)),
               _number(35, int(any(p.type == BYTE for p in pieces))), _content(44, spec.unknown_text.encode())]
    # SentencePiece finds special pieces by their texts (45 to 48); the ids (40 to 43) are for other programs.  A missing one
    # is -1, a negative int32, ten bytes long; its text is one that no piece has, since the default is the text of a piece.
    for i, (at, none) in enumerate(((unknown, b"<no unk>"), (bos, b"<no s>"), (eos, b"<no /s>"), (pad, b"<no pad>"))):
        trainer += [_number(40 + i, at % (1 << 64)), _content(45 + i, pieces[at].text.encode() if at >= 0 else none)]
    normalizer = [_content(1, spec.normalization.encode()), _content(2, spec.charsmap), _number(3, int(spec.add_dummy_prefix)),
                  _number(4, int(spec.remove_extra_whitespaces)), _number(5, int(spec.escape_whitespaces))]
    out += [_content(2, b"".join(trainer)), _content(3, b"".join(normalizer))]
    if spec.denormalization:
        out.append(_content(5, _content(2, spec.denormalization)))
    return b"".join(out)


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message's fields."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = 0
        for shift in range(0, 70, 7):
            if at >= len(content):
                break
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ModelError("the SentencePiece model is damaged: a number in it has no end")

    while at < len(content):
        key = varint()
        kind = key & 7
        if kind == _VARINT:
            yield key >> 3, varint()
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            size = varint()
        if size is None:
            raise ModelError(f"the SentencePiece model is damaged: a field in it is of the kind {kind}")
        if size > len(content) - at:
            raise ModelError("the SentencePiece model is damaged: a field in it has no end")
        yield key >> 3, content[at:at + size]
        at += size


class _Message:
    """A message of protocol buffers: its last value of each field, and joined where the field is a message itself."""

    def __init__(self, content: bytes):
        self._values: dict[int, list[int | bytes]] = {}
        for number, value in _fields(content):
            self._values.setdefault(number, []).append(value)

    def number(self, field: int, default: int) -> int:
        value = self._values.get(field, [default])[-1]
        if not isinstance(value, int):
            raise ModelError(f"the SentencePiece model is damaged: its field {field} is no number")
        return value

    def every(self, field: int) -> list[bytes]:
        """All values of a field of bytes."""
        out = []
        for value in self._values.get(field, []):
            if not isinstance(value, bytes):
                raise ModelError(f"the SentencePiece model is damaged: its field {field} is a number")
            out.append(value)
        return out

    def content(self, field: int, default: bytes = b"") -> bytes:
        return [default, *self.every(field)][-1]

    def text(self, field: int, default: str) -> str:
        value = self.content(field, default.encode())
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ModelError(f"the SentencePiece model is damaged: its field {field} is no UTF-8") from error

    def message(self, field: int) -> "_Message":
        return _Message(b"".join(self.every(field)))


def read_spec(content: bytes) -> Spec:
    """The specification in a model; ModelError if its bytes are damaged."""
    model = _Message(content)
    trainer, normalizer = model.message(2), model.message(3)
    return Spec(
        model_type=trainer.number(3, UNIGRAM), add_dummy_prefix=bool(normalizer.number(3, 1)),
        remove_extra_whitespaces=bool(normalizer.number(4, 1)), normalization=normalizer.text(1, ""),
        charsmap=normalizer.content(2), escape_whitespaces=bool(normalizer.number(5, 1)),
        treat_whitespace_as_suffix=bool(trainer.number(24, 0)), byte_fallback=bool(trainer.number(35, 0)),
        unknown_text=trainer.text(44, UNKNOWN_TEXT), denormalization=model.message(5).content(2))


def read_pieces(content: bytes) -> list[Piece]:
    """The pieces of a model with their scores and types, USER_DEFINED too; ModelError if its bytes are damaged."""
    pieces = []
    for part in _Message(content).every(1):
        message = _Message(part)
        score = message.content(2, bytes(4))
        if len(score) != 4:
            raise ModelError("the SentencePiece model is damaged: a score in it is no float32")
        pieces.append(Piece(message.text(1, ""), struct.unpack("<f", score)[0], message.number(3, NORMAL)))
    return pieces
