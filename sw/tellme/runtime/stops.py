# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Stop strings: a text ends where one of them begins."""

from collections.abc import Iterable

from tellme.errors import InputError

__all__ = ["StopFilter"]


class StopFilter:
    """Text goes in piece by piece and comes out up to the first stop string, which does not come out.

    What may still become a stop string is held back.  Of several stop strings the one that is complete first counts, and of
    those complete at the same character the longest: the result does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Iterable[str]):
        self._stops = tuple(dict.fromkeys(stops))
        if not all(self._stops):
            raise InputError("a stop string is empty: one character or more is wanted")
        self._held = ""
        #: The stop string that ended the text.
        self.found: str | None = None

    @property
    def holding(self) -> bool:
        """Whether text is held back that later text may release."""
        return bool(self._held)

    def push(self, text: str) -> str:
        """The text that can be shown; nothing after a stop string was found."""
        if self.found is not None:
            return ""
        whole = self._held + text
        ends = [(at + len(stop), at, stop) for stop in self._stops if (at := whole.find(stop)) >= 0]
        if ends:
            _, at, self.found = min(ends)
            self._held = ""
            return whole[:at]
        keep = max((n for stop in self._stops for n in range(1, min(len(stop), len(whole) + 1)) if whole.endswith(stop[:n])),
                   default=0)
        self._held = whole[len(whole) - keep:]
        return whole[:len(whole) - keep]

    def finish(self) -> str:
        """The text that was held back, now that no text follows."""
        held, self._held = self._held, ""
        return held
