# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scores by which SentencePiece's BPE, and llama.cpp's, merge as a list of merges does.

Two ways of merging.  By a list, two neighbours merge if their pair is in it, the pair of the lowest rank first.  By scores,
two neighbours merge if what they make is a token, the token of the highest score first.  Of equals the leftmost is first.

A token is made in any text of the same last pair as in a text that is the token alone: merges inside it do not depend on what
stands around it, as long as none crosses its ends.  So both ways do the same with every text if they make each token that
stands alone of the same last pair, or not at all, and if the scores have the order of those pairs' ranks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from tellme.models.config import ModelError

__all__ = ["merged", "merge_scores"]


def merged(text: str, order: Callable[[str, str], float | None]) -> tuple[list[str], tuple[str, str] | None]:
    """What the characters of a text merge to, and the last pair that merged.

    ``order`` gives a pair's place among all, the lowest first, or None for a pair that does not merge.
    """
    symbols, last = list(text), None
    while True:
        found = [(place, i) for i, pair in enumerate(pairwise(symbols)) if (place := order(*pair)) is not None]
        if not found:
            return symbols, last
        _, i = min(found)
        last = symbols[i], symbols[i + 1]
        symbols[i:i + 2] = ["".join(last)]


def merge_scores(tokens: Iterable[str], merges: Sequence[tuple[str, str]], boundary: str | None = None) -> dict[str, float]:
    """The score of each token, 0 or below; ModelError names a token that scores do not make as the merges do.

    ``boundary``: a character ahead of which texts are split, so that no token has it behind its first character.
    """
    known = set(tokens)
    ranks: Mapping[tuple[str, str], int] = {pair: rank for rank, pair in enumerate(merges)}
    pairs: dict[str, tuple[str, str]] = {}
    for token in known:
        symbols, last = merged(token, lambda a, b: ranks.get((a, b)))
        if last is not None and len(symbols) == 1 and not (boundary and boundary in token[1:]):
            pairs[token] = last
    scores = {token: -float(ranks[pairs[token]] + 1) if token in pairs else 0.0 for token in known}
    for token in known:
        symbols, last = merged(token, lambda a, b: -scores[a + b] if a + b in known else None)
        if (last if len(symbols) == 1 else None) != pairs.get(token):
            how = "of " + " and ".join(map(repr, pairs[token])) if token in pairs else "by no merges"
            raise ModelError(f"the tokenizer makes {token!r} {how}, and llama.cpp, with scores, otherwise: export to hf")
    return scores
