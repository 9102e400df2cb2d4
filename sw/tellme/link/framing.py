# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""COBS frames and packet bodies as bytes."""

from collections.abc import Iterator
from zlib import crc32

from tellme.spec.packets import BODY_OVERHEAD, DATA_MAX

__all__ = ["FRAME_MAX", "FrameError", "FrameReader", "body", "decode", "encode", "open_body"]

#: Bytes of the longest frame, without its closing zero, that a board sends: a DATA of DATA_MAX bytes and the codes of COBS.
FRAME_MAX = BODY_OVERHEAD + DATA_MAX + (BODY_OVERHEAD + DATA_MAX) // 254 + 1


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


class FrameReader:
    """Finds packets in a stream of bytes.

    ``garbage`` counts the frames that were no packets.  A stretch of more than FRAME_MAX bytes without a zero byte is one such
    frame, and is not kept.  After any bytes, a zero byte and a good frame give the frame's packet.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = False
        self.garbage = 0

    def push(self, content: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Take bytes; (seq, type, payload) of each packet that they end.  The bytes are taken as the iterator goes on."""
        *ends, rest = content.split(b"\0")
        for end in ends:
            frame, skip = bytes(self._buffer + end), self._skip
            self._buffer.clear()
            self._skip = False
            if skip or not frame:
                continue
            try:
                if len(frame) > FRAME_MAX:
                    raise FrameError(f"a frame of {len(frame)} bytes; the longest has {FRAME_MAX}")
                packet = open_body(decode(frame))
            except FrameError:
                self.garbage += 1
            else:
                yield packet
        if not self._skip:
            self._buffer += rest
            if len(self._buffer) > FRAME_MAX:
                self.garbage += 1
                self._skip = True
                self._buffer.clear()
