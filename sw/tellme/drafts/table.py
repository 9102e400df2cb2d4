# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tables of drafted tokens: made from texts, written to a file, and read by a host as a board reads them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tellme.errors import InputError
from tellme.models.writing import whole_file
from tellme.spec.drafts import (
    DRAFT_VOCAB,
    ENTRY_FIELDS,
    HEADER,
    INDEX_FIELDS,
    INDEX_WORDS,
    LIST_ENTRIES,
    MAGIC,
    NONE,
    VERSION,
)
from tellme.spec.words import pack_word, unpack_word

__all__ = ["DraftTable", "accepted", "drafted_tokens", "next_token", "open_table", "save_table", "tokens_a_pass"]


class DraftTable:
    """The most likely next token by the last two tokens, or by the last one where the two were never seen.

    ``words``: the table as it lies in memory (:mod:`tellme.spec.drafts`), uint32.  ``vocab``: tokens that it has index words of.
    """

    def __init__(self, words: NDArray[np.uint32], vocab: int):
        """Words that are no table of such a vocabulary are an InputError."""
        self.words, self.vocab = words, vocab
        if not DRAFT_VOCAB.least <= vocab <= DRAFT_VOCAB.most:
            raise InputError(f"the vocabulary has {vocab} tokens; a table of drafts has {DRAFT_VOCAB.least} to "
                             f"{DRAFT_VOCAB.most}")
        if len(words) < INDEX_WORDS * vocab:
            raise InputError(f"a table of drafts of {len(words)} words has no room for {vocab} tokens")
        first, at = words[0:INDEX_WORDS * vocab:INDEX_WORDS], words[1:INDEX_WORDS * vocab:INDEX_WORDS].astype(np.int64)
        following, entries = first & 0xFFFF, (first >> 16).astype(np.int64)
        listed = words[INDEX_WORDS * vocab:]
        outside = (entries > LIST_ENTRIES) | ((entries > 0) & (at < INDEX_WORDS * vocab)) | (at + entries > len(words))
        unknown = (following >= vocab) & (following != NONE)
        if outside.any() or unknown.any() or ((listed & 0xFFFF) >= vocab).any() or ((listed >> 16) >= vocab).any():
            raise InputError("the table of drafts is damaged: it names words or tokens that are not there")

    @classmethod
    def of_texts(cls, texts: Iterable[Sequence[int]], vocab: int, *, entries: int = LIST_ENTRIES) -> "DraftTable":
        """A table from texts of token ids.

        Of next tokens the most frequent one counts, and of those that are equally frequent the one with the lowest id.  Pairs
        whose next token is the one of the last token alone are left out, as a table says the same without them.  A list has the
        ``entries`` most frequent pairs at most.  Tokens outside the vocabulary are an InputError.
        """
        alone: dict[int, Counter[int]] = {}
        pairs: dict[int, dict[int, Counter[int]]] = {}
        for text in texts:
            if len(text) and not 0 <= min(text) <= max(text) < vocab:
                raise InputError(f"a text has tokens from {min(text)} to {max(text)}, and the vocabulary ends at {vocab - 1}")
            for before, last, follows in zip((None, *text), text, text[1:], strict=False):
                alone.setdefault(last, Counter())[follows] += 1
                if before is not None:
                    pairs.setdefault(last, {}).setdefault(before, Counter())[follows] += 1

        def best(counts: Counter[int]) -> int:
            return min(counts, key=lambda token: (-counts[token], token))

        index: list[int] = []
        lists: list[int] = []
        for token in range(vocab):
            following = best(alone[token]) if token in alone else NONE
            found = {before: (counts.total(), best(counts)) for before, counts in pairs.get(token, {}).items()}
            kept = sorted((before for before, (_, follows) in found.items() if follows != following),
                          key=lambda before: (-found[before][0], before))[:entries]
            index += [pack_word(INDEX_FIELDS, {"next": following, "entries": len(kept)}), INDEX_WORDS * vocab + len(lists)]
            lists += [pack_word(ENTRY_FIELDS, {"before": before, "next": found[before][1]}) for before in sorted(kept)]
        return cls(np.array(index + lists, np.uint32), vocab)

    @property
    def entries(self) -> int:
        """Pairs of tokens that have a next token of their own."""
        return len(self.words) - INDEX_WORDS * self.vocab

    @property
    def known(self) -> int:
        """Tokens that have a next token."""
        return int(np.count_nonzero((self.words[0:INDEX_WORDS * self.vocab:INDEX_WORDS] & 0xFFFF) != NONE))

    def next(self, before: int | None, last: int) -> int | None:
        """The token that the table expects behind two tokens, or behind a text's first token; None: it expects none."""
        return next_token(self.words, before, last)

    def draft(self, ids: Sequence[int], count: int) -> list[int]:
        """Up to ``count`` tokens that may follow a text; fewer where the table expects none."""
        return drafted_tokens(self.words, ids[-2] if len(ids) > 1 else None, ids[-1], count)


def next_token(words: NDArray[np.uint32], before: int | None, last: int) -> int | None:
    """:meth:`DraftTable.next` of a table in memory, of whose words only those are looked at that a board reads."""
    first = unpack_word(INDEX_FIELDS, int(words[INDEX_WORDS * last]))
    at = int(words[INDEX_WORDS * last + 1])
    for word in words[at:at + first["entries"]]:
        entry = unpack_word(ENTRY_FIELDS, int(word))
        if entry["before"] == before:
            return entry["next"]
    return None if first["next"] == NONE else first["next"]


def drafted_tokens(words: NDArray[np.uint32], before: int | None, last: int, count: int) -> list[int]:
    """Up to ``count`` tokens behind two tokens, or behind a text's first one, from a table in memory."""
    drafted: list[int] = []
    while len(drafted) < count and (token := next_token(words, before, last)) is not None:
        drafted.append(token)
        before, last = last, token
    return drafted


def accepted(drafted: Sequence[int], follows: Sequence[int]) -> int:
    """Drafted tokens that count, where ``follows`` are the model's picks: up to the first that differs."""
    number = 0
    while number < min(len(drafted), len(follows)) and drafted[number] == follows[number]:
        number += 1
    return number


def tokens_a_pass(table: DraftTable, texts: Iterable[Sequence[int]], count: int) -> float:
    """Tokens that a pass with ``count`` drafted tokens gives in the mean, if a model picked exactly these texts, from each
    text's third token on; 0 without such texts."""
    passes = tokens = 0
    for text in texts:
        at = 2
        while at < len(text):
            given = min(accepted(table.draft(text[:at], count), text[at:]) + 1, len(text) - at)
            passes, tokens, at = passes + 1, tokens + given, at + given
    return tokens / passes if passes else 0.0


def save_table(path: Path, table: DraftTable, tokenizer: bytes) -> int:
    """Write a table into a file, which is there whole or not at all; the bytes of the file.

    ``tokenizer``: the bytes of the model's tokenizer, of which the ids are.  A file that cannot be written is a ModelError.
    """
    content = table.words.astype("<u4").tobytes()
    with whole_file(path) as scratch:
        scratch.write_bytes(HEADER.pack(MAGIC, VERSION, 0, table.vocab, len(table.words), crc32(content),
                                        sha256(tokenizer).digest()) + content)
    return HEADER.size + len(content)


def open_table(path: Path, vocab: int, tokenizer: bytes) -> DraftTable:
    """Read a table for a model.  A file that cannot be read, is no table, is damaged, or is for other tokens than the model's is
    an InputError that says what to do."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    again = "make it again"

    def refused(why: str) -> InputError:
        return InputError(f"{path} {why}", hint="draft")

    if content[:len(MAGIC)] != MAGIC:
        raise InputError(f"{path} is no table of drafts: give the name of one")
    if len(content) < HEADER.size:
        raise refused(f"is cut short: {again}")
    _, version, _, its_vocab, words, crc, digest = HEADER.unpack_from(content)
    if version != VERSION:
        raise refused(f"has version {version}, and {VERSION} is wanted: {again}")
    body = content[HEADER.size:]
    if len(body) != 4 * words or crc32(body) != crc:
        raise refused(f"is damaged or cut short: {again}")
    if its_vocab != vocab or digest != sha256(tokenizer).digest():
        raise refused(f"was made for another model's tokens: {again}, for this model")
    return DraftTable(np.frombuffer(body, "<u4").astype(np.uint32), vocab)
