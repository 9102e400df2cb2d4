# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Mutations of inputs by a seed, for the short run of CI, which has no fuzzing engine."""

import random
from collections.abc import Iterator, Sequence

__all__ = ["mutations"]


def mutations(seeds: Sequence[bytes], words: Sequence[bytes], seed: int, count: int) -> Iterator[bytes]:
    """``count`` inputs: seeds after one to four edits.  The same arguments give the same inputs."""
    rng = random.Random(seed)
    for _ in range(count):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content) + 1)
            match rng.randrange(7):
                case 0 if content:
                    content[at % len(content)] = rng.randrange(256)
                case 1 if content:
                    content[at % len(content)] ^= 1 << rng.randrange(8)
                case 2:
                    del content[at:at + rng.choice((1, 4, 16, len(content)))]
                case 3:
                    content[at:at] = content[at // 2:at // 2 + rng.randint(1, 40)]
                case 4:
                    content[at:at + rng.choice((0, 1, 4, 8))] = rng.randbytes(rng.choice((1, 4, 8)))
                case 5 if words:
                    word = rng.choice(words)
                    content[at:at + rng.choice((0, len(word)))] = word
                case _:
                    other = rng.choice(seeds)
                    from_ = rng.randrange(len(other) + 1)
                    content[at:] = other[from_:]
        yield bytes(content)
