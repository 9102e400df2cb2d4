# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""COBS frames and packet bodies as bytes."""

from zlib import crc32

from tellme.spec.packets import BODY_OVERHEAD

__all__ = ["FrameError", "body", "decode", "encode", "open_body"]


class FrameError(ValueError):
    """Bytes that are no frame, or a body whose CRC is wrong."""


def encode(content: bytes) -> bytes:
    """A frame: COBS, closed by a zero byte."""
    out = bytearray()
    for block in content.split(b"\0"):
        while len(block) >= 254:
            out += b"\xff" + block[:254]
            block = block[254:]
        out += bytes([len(block) + 1]) + block
    return bytes(out) + b"\0"


def decode(frame: bytes) -> bytes:
    """The content of a frame without its closing zero."""
    out = bytearray()
    at = 0
    while at < len(frame):
        code = frame[at]
        block = frame[at + 1:at + code]
        if code == 0 or len(block) != code - 1:
            raise FrameError("a COBS code runs past the end of its frame")
        out += block
        at += code
        if code != 0xFF and at < len(frame):
            out.append(0)
    return bytes(out)


def body(seq: int, kind: int, payload: bytes = b"") -> bytes:
    """A packet's body with its CRC."""
    start = bytes([seq, kind]) + payload
    return start + crc32(start).to_bytes(4, "little")


def open_body(content: bytes) -> tuple[int, int, bytes]:
    """(seq, type, payload) of a body; a FrameError if it is too short or its CRC is wrong."""
    if len(content) < BODY_OVERHEAD:
        raise FrameError(f"a packet of {len(content)} bytes; the shortest has {BODY_OVERHEAD}")
    if crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise FrameError("the CRC of a packet is wrong")
    return content[0], content[1], content[2:-4]
