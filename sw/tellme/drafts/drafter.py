# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Drafted tokens from the host: whatever guesses the next tokens of a text, which a board verifies in one pass.

A drafter decides nothing about the text.  A board picks a token behind each drafted one, greedily or by a draw that depends on
seed and position alone, and what was guessed wrong is forgotten.  A pass that verifies k drafted tokens gives 1 to k + 1 tokens.
"""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["MOST", "Drafter", "OwnText"]

#: Tokens that a drafter is asked for at most, whatever the board could take.  A refused token costs its attention, and a guess
#: is right only if all before it are.
MOST = 7


class Drafter(Protocol):
    """Guesses tokens."""

    def draft(self, ids: Sequence[int], count: int) -> Sequence[int]:
        """Up to ``count`` tokens, 1 or more, that may follow the text ``ids``, prompt and picks; none where there is no guess.

        The tokens are of the model's vocabulary."""
        ...


class OwnText:
    """What followed the last earlier occurrence of the text's last tokens: of ``longest`` tokens, or fewer, down to ``shortest``.

    It is right where a text repeats itself, as code, lists and summaries do.  Stories do not: 1.09 tokens a pass
    (docs/decisions/0018).
    """

    def __init__(self, longest: int = 4, shortest: int = 2):
        if not 1 <= shortest <= longest:
            raise ValueError(f"shortest is {shortest} and longest {longest}; 1 <= shortest <= longest is wanted")
        self.lengths = range(longest, shortest - 1, -1)

    def draft(self, ids: Sequence[int], count: int) -> list[int]:
        """See :class:`Drafter`; a search of the whole text, in time that grows with the text's length."""
        ids = list(ids)
        for n in self.lengths:
            tail = ids[-n:]
            for at in range(len(ids) - n - 1, -1, -1):
                if ids[at:at + n] == tail:
                    return ids[at + n:at + n + count]
        return []
