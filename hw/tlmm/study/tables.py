# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Which sums a lookup table holds, in which order they are built, and what a weight byte selects.

A byte of five trits is one lookup of three (w0, w1, w2) and one of two (w3, w4).  The table of three is folded by
sign: entry k = w0 + 3 w1 + 9 w2 for k = 0..13, a negative value is the entry of -k negated, so that 14 entries fit a
16-deep LUT RAM (the paper's full table has 27).  The table of two has 9 entries at u + 4, u = w3 + 3 w4.
"""

from tellme.spec.packing import unpack_trits

__all__ = ["BUILD_CYCLES", "PAIR_STEPS", "TRIPLE_STEPS", "byte_rom"]

#: (entry, index of the activation added to the entry before, its sign); the first entry is 0 and adds nothing.
TRIPLE_STEPS = ((0, None, 0), (1, 0, 1), (4, 1, 1), (3, 0, -1), (2, 0, -1), (11, 2, 1), (12, 0, 1), (13, 0, 1),
                (10, 1, -1), (9, 0, -1), (8, 0, -1), (5, 1, -1), (6, 0, 1), (7, 0, 1))
#: The same for the nine sums of a pair.
PAIR_STEPS = ((4, None, 0), (5, 0, 1), (8, 1, 1), (7, 0, -1), (6, 0, -1), (3, 1, -1), (0, 1, -1), (1, 0, 1), (2, 0, 1))
#: Cycles of a build: those of the longer walk.
BUILD_CYCLES = len(TRIPLE_STEPS)


def byte_rom() -> list[int]:
    """256 entries of 9 bits: triple's entry [3:0], its sign [4], pair's entry [8:5].  Invalid bytes select zeros."""
    rom = []
    for byte in range(256):
        if byte >= 243:
            rom.append(4 << 5)
            continue
        w = unpack_trits(byte)
        triple, pair = w[0] + 3 * w[1] + 9 * w[2], w[3] + 3 * w[4] + 4
        rom.append(abs(triple) | (triple < 0) << 4 | pair << 5)
    return rom
