# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scores with which SentencePiece's and llama.cpp's BPE merge in the same way as a list of merges.

There are two ways of merging:

- by a list: two neighbours merge if their pair is in the list, the pair with the lowest rank first;
- by scores: two neighbours merge if the result is a token, the token with the highest score first.

Among equals the leftmost is first.

In any text a token is made from the same last pair as in a text that is the token alone: merges inside the token do not depend
on the text around the token, as long as no merge crosses the token's ends.  So in each way a token is made from one pair at
most.  Give the tokens scores in the order of the ranks of these pairs.  Then both ways give the same result for every text,
provided that scores never make a token that the list never makes.  (By induction over the tokens' lengths: all steps before the
last are the same, and only the last step can differ.)
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
