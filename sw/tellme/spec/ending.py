# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""When a generation ends: one rule for the host, the golden model and the gateware (``hw`` computes the same)."""

from collections.abc import Collection

from tellme.spec.memory import DoneReason

__all__ = ["ending"]


def ending(token: int, picked: int, *, ends: Collection[int], limit: int, next_position: int, context: int) -> DoneReason | None:
    """Why a generation ends after a token was picked; None: the token is fed and another is picked.

    ``picked`` is the number of tokens so far, including this one; ``limit`` is the number of tokens wanted.  ``next_position`` is
    the position at which the token would be fed; ``context`` is the number of positions.  If several reasons hold, an end token
    (one of ``ends``) has priority over the length, and the length over the context.
    """
    if token in ends:
        return DoneReason.END_TOKEN
    if picked >= limit:
        return DoneReason.LENGTH
    if next_position >= context:
        return DoneReason.CONTEXT
    return None
