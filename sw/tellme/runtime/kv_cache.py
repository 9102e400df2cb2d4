# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Which tokens' K and V lie in a device's KV cache, so that a prompt that begins with the same tokens feeds only the rest."""

from collections.abc import Sequence

__all__ = ["KvCache"]


class KvCache:
    """Token ids by position, from position 0 on.

    A position counts once an event of the device said that its token was fed.  What a device wrote beyond, before it was
    stopped, does not count; it harms nothing, as attention reads no position behind the token that is fed, and a token is fed
    before its position is read.
    """

    def __init__(self) -> None:
        self._ids: list[int] = []
        #: The run that feeds now.
        self.owner: object = None

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens, by position."""
        return tuple(self._ids)

    def common(self, ids: Sequence[int]) -> int:
        """How many tokens of a prompt need not be fed: those in which prompt and cache agree from the first on, but never the
        prompt's last token, whose logits are wanted."""
        limit = min(len(self._ids), len(ids) - 1)
        return next((i for i in range(limit) if self._ids[i] != ids[i]), max(limit, 0))

    def begin(self, owner: object, ids: Sequence[int]) -> int:
        """A run takes the cache over: how many tokens of its prompt need not be fed.  The rest of the cache is forgotten."""
        self.owner = owner
        kept = self.common(ids)
        del self._ids[kept:]
        return kept

    def add(self, ids: Sequence[int]) -> None:
        """Tokens that were fed at the next positions."""
        self._ids += ids

    def forget(self) -> None:
        """Nothing is known of what lies in the cache."""
        self._ids.clear()
