# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Bytes that are made when they are asked for, so that an image of a model never has to be in memory whole."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHUNK_BYTES", "Part"]

#: Bytes that are made at a time, except at a part's end: a whole number of packets, and of 32-bit words.
CHUNK_BYTES = 1 << 21

Piece = bytes | NDArray[Any]


@dataclass(frozen=True)
class Part:
    """``size`` bytes, which ``pieces`` makes anew each time: byte strings and C-contiguous arrays of any lengths."""

    size: int
    pieces: Callable[[], Iterable[Piece]]

    @classmethod
    def of(cls, content: bytes) -> "Part":
        """A part from bytes that are there already."""
        return cls(len(content), lambda: (content,))

    @classmethod
    def join(cls, parts: "Iterable[Part]") -> "Part":
        """Parts one after another."""
        joined = tuple(parts)
        return cls(sum(map(len, joined)), lambda: (piece for part in joined for piece in part.pieces()))

    def __len__(self) -> int:
        return self.size

    def __add__(self, other: "Part") -> "Part":
        return Part.join((self, other))

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """The bytes in order, CHUNK_BYTES at a time; that they are more or fewer than ``size`` is a ValueError."""
        waiting: list[memoryview] = []
        held = total = 0
        for piece in self.pieces():
            rest = memoryview(piece) if isinstance(piece, bytes) else piece.reshape(-1).view(np.uint8).data
            total += len(rest)
            if total > self.size:
                raise ValueError(f"a part of {self.size} bytes has more of them")
            while held + len(rest) >= CHUNK_BYTES:
                cut = CHUNK_BYTES - held
                yield b"".join((*waiting, rest[:cut]))
                rest, waiting, held = rest[cut:], [], 0
            if len(rest):
                waiting.append(rest)
                held += len(rest)
        if waiting:
            yield b"".join(waiting)
        if total != self.size:
            raise ValueError(f"a part of {self.size} bytes has {total}")

    def read_into(self, memory: NDArray[np.uint8]) -> None:
        """Write the bytes to the beginning of an array of bytes."""
        at = 0
        for chunk in self.chunks():
            memory[at:at + len(chunk)] = np.frombuffer(chunk, np.uint8)
            at += len(chunk)
