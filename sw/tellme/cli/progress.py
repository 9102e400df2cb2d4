# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Progress of work that takes long: a bar on standard error if that is a terminal, and nothing if it is not."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

__all__ = ["bar", "bytes_bar"]

#: Seconds that work may take before its bar is shown.
DELAY = 0.5


def bar(what: str, unit: str, total: int | None = None, *, scaled: bool = False, delay: float = DELAY) -> tqdm:
    """A bar, for a ``with`` block; its ``update(n)`` hears how much was done.  It is gone when the block ends.

    The bar looks at the clock at each update, because work may become slower by a factor of hundreds: a load does, of which the
    board holds the first half.
    """
    return tqdm(desc=what, unit=unit, total=total, unit_scale=scaled, file=sys.stderr, leave=False, delay=delay, disable=None,
                miniters=1)


@contextmanager
def bytes_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes with their rate and the time that is left; the block gets a function of (bytes done, bytes in all)."""
    with bar(what, "B", scaled=True) as shown:
        def progress(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield progress
