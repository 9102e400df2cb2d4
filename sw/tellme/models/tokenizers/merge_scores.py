# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scores by which SentencePiece's BPE, and llama.cpp's, merge as a list of merges does.

Two ways of merging.  By a list, two neighbours merge if their pair is in it, the pair of the lowest rank first.  By scores,
two neighbours merge if what they make is a token, the token of the highest score first.  Of equals the leftmost is first.

A token is made in any text of the same last pair as in a text that is the token alone: merges inside it do not depend on what
stands around it, as long as none crosses its ends.  So each way makes a token of one pair at most.  Let the scores have the order
of the ranks of these pairs.  Then both ways do the same with every text if scores never make a token that the merges never make:
by their lengths one after another, tokens are made of the same parts step by step, and only the last step can differ.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from tellme.models.config import ModelError

__all__ = ["by_score", "merge_scores", "merged"]


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


def by_score(scores: Mapping[str, float]) -> Callable[[str, str], float | None]:
    """The order of pairs by the scores of what they make."""
    return lambda a, b: -scores[a + b] if a + b in scores else None


def merge_scores(tokens: Iterable[str], merges: Sequence[tuple[str, str]], boundary: str | None = None) -> dict[str, float]:
    """The score of each token, 0 or below; ModelError names a token that scores make and the merges do not.

    ``boundary``: a character before which texts are split, so that no token has it after its first character.
    """
    known = set(tokens)
    ranks: Mapping[tuple[str, str], int] = {pair: rank for rank, pair in enumerate(merges)}
    scores, never = {}, []
    for token in known:
        symbols, last = merged(token, lambda a, b: ranks.get((a, b)))
        made = last is not None and len(symbols) == 1 and not (boundary and boundary in token[1:])
        scores[token] = -float(ranks[last] + 1) if made and last is not None else 0.0
        if not made:
            never.append(token)
    for token in sorted(never, key=lambda t: (len(t), t)):
        symbols, last = merged(token, by_score(scores))
        if last is not None and len(symbols) == 1:
            raise ModelError(f"the tokenizer never makes {token!r} of {last[0]!r} and {last[1]!r}, and llama.cpp, which merges "
                             "by scores, does: export to hf")
    return scores
