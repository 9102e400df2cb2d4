# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""SentencePiece models as bytes: made of pieces, and asked for what the package's own interface does not tell.

Protocol buffers by hand (sentencepiece_model.proto): ModelProto has pieces (1), trainer_spec (2) and normalizer_spec (3).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["BPE", "BYTE", "CONTROL", "NORMAL", "UNIGRAM", "UNKNOWN", "USER_DEFINED", "Piece", "Spec", "make", "read_spec"]

#: Types of pieces; GGUF has the same numbers.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
#: Types of models.
UNIGRAM, BPE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """A piece with its score and type."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class Spec:
    """What of trainer and normalizer changes the ids of a text."""

    model_type: int = BPE
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = False


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


def make(pieces: Sequence[Piece], spec: Spec) -> bytes:
    """A model; unknown, BOS and EOS are the first pieces of their type, or none."""
    controls = [i for i, p in enumerate(pieces) if p.type == CONTROL]
    unknown = next((i for i, p in enumerate(pieces) if p.type == UNKNOWN), 0)
    out = b""
    for piece in pieces:
        body = _content(1, piece.text.encode()) + _varint(2 << 3 | _FIXED32) + struct.pack("<f", piece.score)
        out += _content(1, body + _number(3, piece.type))
    has_bytes = any(p.type == BYTE for p in pieces)
    # Fields 40 to 43: ids of unknown, BOS, EOS and padding; -1 is a negative int32, ten bytes long.
    bos, eos = [*controls, -1, -1][:2]
    trainer = _number(3, spec.model_type) + _number(35, int(has_bytes)) + b"".join(
        _number(field, value % (1 << 64)) for field, value in ((40, unknown), (41, bos), (42, eos), (43, -1)))
    normalizer = _content(1, b"identity") + _number(3, int(spec.add_dummy_prefix)) + _number(
        4, int(spec.remove_extra_whitespaces)) + _number(5, 1)
    return out + _content(2, trainer) + _content(3, normalizer)


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message's fields."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(content):
        key = varint()
        kind = key & 7
        if kind == _VARINT:
            yield key >> 3, varint()
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
            size = varint() if size is None else size
            yield key >> 3, content[at:at + size]
            at += size


def read_spec(content: bytes) -> Spec:
    """The specification in a model that SentencePiece has read without error."""
    parts = {number: value for number, value in _fields(content) if number in (2, 3)}
    trainer = dict(_fields(bytes(parts.get(2, b""))))
    normalizer = dict(_fields(bytes(parts.get(3, b""))))
    return Spec(int(trainer.get(3, UNIGRAM)), bool(normalizer.get(3, 1)), bool(normalizer.get(4, 1)))
