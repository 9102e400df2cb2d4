# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tests of a board's memory through packets: data lines, address lines and size, and a march over words.

The tests write into the memory, and what it held is lost.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tellme.spec.memory import SDRAM_BASE
from tellme.spec.packets import DATA_MAX

__all__ = ["BLOCK", "ELEMENTS", "AddressLines", "Fault", "Memory", "address_lines", "data_lines", "march", "sampled_pages",
           "whole_memory"]

#: Bytes of a block of the march over the whole memory.
BLOCK = 64 * 1024
#: Faulty words after which a march ends: what is wrong is clear by then.
ENOUGH = 16
#: Pages of the quick march.
PAGES = 64
#: The march's elements: (direction, bit that is read, bit that is written), as March C- has them.
ELEMENTS: tuple[tuple[int, int | None, int | None], ...] = (
    (1, None, 0), (1, 0, 1), (1, 1, 0), (-1, 0, 1), (-1, 1, 0), (1, 0, None))


class Memory(Protocol):
    """What the tests need of a board: packets that write, read and sum its memory (:class:`tellme.link.client.BoardClient`)."""

    def write(self, address: int, content: bytes) -> None:
        """Write whole words."""

    def read(self, address: int, size: int) -> bytes:
        """Read whole words."""

    def checksum(self, address: int, size: int) -> int:
        """CRC-32 of whole words, computed by the board."""


@dataclass(frozen=True)
class Fault:
    """A word that held something else: its byte address, what was written, and what was read.

    Equal: the board's checksum differed, and a later read did not, so that the word is not the same each time.
    """

    address: int
    wrote: int
    read: int

    @property
    def bits(self) -> list[int]:
        """The numbers of the bits that differ."""
        return [bit for bit in range(32) if (self.wrote ^ self.read) >> bit & 1]

    def __str__(self) -> str:
        if self.wrote == self.read:
            return f"the word at {self.address:#x} is not read the same each time"
        return f"the word at {self.address:#x} was written as {self.wrote:#010x} and reads {self.read:#010x}"


def _word(memory: Memory, address: int) -> int:
    return int.from_bytes(memory.read(SDRAM_BASE + address, 4), "little")


def data_lines(memory: Memory, address: int = 0) -> list[Fault]:
    """A one and a zero walk over the 32 bits of words from an address on; the words that came back otherwise."""
    values = [1 << bit for bit in range(32)] + [0xFFFF_FFFF ^ 1 << bit for bit in range(32)]
    content = np.array(values, "<u4").tobytes()
    memory.write(SDRAM_BASE + address, content)
    got = np.frombuffer(memory.read(SDRAM_BASE + address, len(content)), "<u4")
    return [Fault(address + 4 * i, wrote, int(read)) for i, (wrote, read) in enumerate(zip(values, got, strict=True))
            if wrote != read]


@dataclass(frozen=True)
class AddressLines:
    """What a walk over the address lines found.

    ``size``: bytes up to the first address that is an earlier one once more.  ``dead``: bits of a byte address that choose
    nothing, ``shorted``: pairs of bits that choose the same word.
    """

    size: int
    dead: tuple[int, ...]
    shorted: tuple[tuple[int, int], ...]
    faults: tuple[Fault, ...] = ()


def address_lines(memory: Memory, size: int) -> AddressLines:
    """Walk over the address lines of a memory that should have ``size`` bytes.

    Word 0 and each word at a power of two get marks of their own.  A mark in word 0 that was written to the power of two k says
    that bit k of addresses chooses nothing.
    """
    bits = [bit for bit in range(2, 32) if 1 << bit < size]
    marks = {bit: (0x0101_0101 * bit) ^ 0xA5C3_960F for bit in bits}
    zero = 0x5A3C_69F0
    dead: list[int] = []
    for bit in bits:
        memory.write(SDRAM_BASE, zero.to_bytes(4, "little"))
        memory.write(SDRAM_BASE + (1 << bit), marks[bit].to_bytes(4, "little"))
        if _word(memory, 0) == marks[bit]:
            dead.append(bit)
    alive = [bit for bit in bits if bit not in dead]
    for bit in alive:
        memory.write(SDRAM_BASE + (1 << bit), marks[bit].to_bytes(4, "little"))
    shorted, faults = [], []
    by_mark = {marks[bit]: bit for bit in alive}
    for bit in alive:
        got = _word(memory, 1 << bit)
        if got in by_mark and by_mark[got] != bit:
            shorted.append((bit, by_mark[got]))
        elif got != marks[bit]:
            faults.append(Fault(1 << bit, marks[bit], got))
    # Dead bits at the top, without a gap, are a smaller memory.
    found = size
    for bit in reversed(bits):
        if bit not in dead:
            break
        found = 1 << bit
    return AddressLines(found, tuple(bit for bit in dead if 1 << bit < found), tuple(shorted), tuple(faults))


def sampled_pages(size: int, pages: int = PAGES) -> list[tuple[int, int]]:
    """(address, bytes) of pages of DATA_MAX bytes over a memory: the first, the last, and one in each part between."""
    count = size // DATA_MAX
    if count <= pages:
        return [(DATA_MAX * page, DATA_MAX) for page in range(count)]
    rng = np.random.default_rng(0)
    edges = np.linspace(1, count - 1, pages - 1).astype(int)
    inner = [int(rng.integers(first, end)) for first, end in zip(edges[:-1], edges[1:], strict=True)]
    return [(DATA_MAX * page, DATA_MAX) for page in (0, *inner, count - 1)]


def whole_memory(size: int, block: int = BLOCK) -> list[tuple[int, int]]:
    """(address, bytes) of blocks that are all of a memory."""
    return [(at, min(block, size - at)) for at in range(0, size, block)]


def _content(address: int, size: int, one: int) -> NDArray[np.uint32]:
    """The words of a block: a background that follows from each word's address, for a one its complement."""
    index = np.arange(address // 4, (address + size) // 4, dtype=np.uint32)
    words = index * np.uint32(2654435761) ^ index >> np.uint32(15)
    return words ^ np.uint32(0xFFFF_FFFF) if one else words


def _compare(memory: Memory, address: int, wanted: NDArray[np.uint32]) -> Iterator[Fault]:
    """The words of a block that hold something else.  The board's checksum says whether any does."""
    content = wanted.astype("<u4").tobytes()
    if memory.checksum(SDRAM_BASE + address, len(content)) == crc32(content):
        return
    found = False
    for at in range(0, len(content), DATA_MAX):
        part = wanted[at // 4:(at + DATA_MAX) // 4]
        got = np.frombuffer(memory.read(SDRAM_BASE + address + at, 4 * len(part)), "<u4")
        for i in np.flatnonzero(part != got):
            found = True
            yield Fault(address + at + 4 * int(i), int(part[i]), int(got[i]))
    if not found:
        yield Fault(address, int(wanted[0]), int(wanted[0]))


def march(memory: Memory, blocks: Sequence[tuple[int, int]], progress: Callable[[int, int], object] | None = None
          ) -> list[Fault]:
    """A march over blocks (address, bytes) in ascending order: March C-, a block at a time.

    Each element goes over all blocks up or down, compares a block with what the element before wrote, and writes the complement.
    A zero is a background that differs from word to word, so that words that are one word are found within a block too.  Within
    a block the words go up.  The list has the faulty words, and ends after some.  ``progress`` hears (bytes done, bytes in all).
    """
    total, done = len(ELEMENTS) * sum(size for _, size in blocks), 0
    faults: list[Fault] = []
    for direction, read, write in ELEMENTS:
        for address, size in blocks[::direction]:
            if read is not None:
                for fault in _compare(memory, address, _content(address, size, read)):
                    faults.append(fault)
                    if len(faults) == ENOUGH:
                        return faults
            if write is not None:
                memory.write(SDRAM_BASE + address, _content(address, size, write).astype("<u4").tobytes())
            done += size
            if progress is not None:
                progress(done, total)
    return faults
