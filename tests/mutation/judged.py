# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Survivors that a person looked at: equivalent, with the reason; or a gap of the benches, with what is missing.

An entry whose mutant is no longer in the sources, or was killed since, is an error (:func:`tests.mutation.record.judgements`).
``python -m tests.mutation --show KEY`` shows a mutant in its place.
"""

from dataclasses import dataclass

__all__ = ["JUDGED", "Judgement"]


@dataclass(frozen=True)
class Judgement:
    """``key`` names the mutant; ``mutant`` says the same to a reader; ``verdict`` is ``equivalent`` or ``gap``."""

    key: str
    mutant: str
    verdict: str
    reason: str


JUDGED: tuple[Judgement, ...] = ()
