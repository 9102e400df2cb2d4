# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The order of a sign-folded table's entries: each follows from the one before by one activation added or subtracted.

It is the upper half of the reflected ternary Gray code, which begins at zero and meets one of w and -w for every w.
An entry's place in it is its address.
"""

from collections.abc import Sequence
from functools import cache

__all__ = ["folded_entry", "folded_steps", "gray_order"]


@cache
def gray_order(trits: int) -> tuple[tuple[int, ...], ...]:
    """All weights of ``trits`` trits in the reflected order; w at i and -w at 3**trits - 1 - i."""
    if trits == 0:
        return ((),)
    lower = gray_order(trits - 1)
    return tuple((*w, top) for n, top in enumerate((-1, 0, 1)) for w in (lower if n % 2 == 0 else lower[::-1]))


@cache
def folded(trits: int) -> dict[tuple[int, ...], int]:
    return {w: i for i, w in enumerate(gray_order(trits)[3**trits // 2:])}


def folded_steps(trits: int) -> list[tuple[int, int]]:
    """(which activation, its sign) for entries 1 and up; entry 0 is zero."""
    order = gray_order(trits)[3**trits // 2:]
    steps = []
    for before, after in zip(order[:-1], order[1:], strict=True):
        ((at, change),) = [(i, b - a) for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert change in (-1, 1)
        steps.append((at, change))
    return steps


def folded_entry(weights: Sequence[int]) -> tuple[int, bool]:
    """(address, whether the negative of the entry is meant)."""
    entries = folded(len(weights))
    key = tuple(weights)
    if key in entries:
        return entries[key], False
    return entries[tuple(-w for w in key)], True
