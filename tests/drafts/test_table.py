# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Tables of drafted tokens: what they say, their bytes, their files, and what is refused."""

import random
from hashlib import sha256
from zlib import crc32

import numpy as np
import pytest

from tellme.drafts.table import DraftTable, open_table, save_table, tokens_a_pass
from tellme.errors import InputError
from tellme.spec.drafts import DRAFT_VOCAB, HEADER, INDEX_WORDS, LIST_ENTRIES, MAGIC, NONE, VERSION
from tests.golden.drafts import Table, table_of


def random_texts(seed, vocab, count=30):
    """Texts in which some tokens are frequent and some pairs say more than the last token."""
    draw = random.Random(seed)
    return [[min(int(draw.expovariate(3 / vocab)), vocab - 1) for _ in range(draw.randrange(0, 60))] for _ in range(count)]


@pytest.mark.parametrize("vocab", [5, 40, 300])
def test_drafts_are_those_of_counted_contexts(vocab):
    texts = random_texts(vocab, vocab)
    table, counted = DraftTable.of_texts(texts, vocab), Table(table_of(texts, 2).entries)
    kinds = set()
    for before in (None, *range(vocab)):
        for last in range(vocab):
            expected = counted.next([last] if before is None else [before, last])
            assert table.next(before, last) == expected
            kinds.add((expected is None, (before, last) in counted.entries[1], before is None))
    assert len(kinds) >= 3, "pairs with and without a next token of their own, and first tokens"
    for text in random_texts(vocab + 1, vocab):
        for at in range(1, len(text)):
            for count in (1, 3):
                assert table.draft(text[:at], count) == counted.draft(text[:at], count)


def test_the_words_are_the_formats():
    # 1 is followed by 2 twice and by 3 once, but behind 0 by 3.
    table = DraftTable.of_texts([[4, 1, 2], [4, 1, 2], [0, 1, 3]], 5)
    assert table.words[:10].reshape(5, 2).tolist() == [
        [1, 10], [2 | 1 << 16, 10], [NONE, 11], [NONE, 11], [1, 11]]
    assert table.words[10:].tolist() == [0 | 3 << 16]
    assert (table.known, table.entries) == (3, 1)
    assert table.draft([0, 1], 3) == [3]
    assert table.draft([4], 3) == [1, 2]
    assert table.draft([2], 3) == []


def test_a_long_list_keeps_the_most_frequent_pairs():
    # Each token before 9 has a next token of its own; token n comes n times.
    texts = [[n, 9, n] for n in range(1, 8) for _ in range(n)] + [[8, 9, 0]] * 20
    for entries in range(1, 8):
        table = DraftTable.of_texts(texts, 10, entries=entries)
        assert [n for n in range(1, 8) if table.next(n, 9) == n] == list(range(8 - entries, 8))
        assert table.next(8, 9) == 0
        assert table.entries == entries


def test_tokens_of_a_pass():
    table = DraftTable.of_texts([[0, 1, 2, 3, 4, 5, 6]], 8)
    assert tokens_a_pass(table, [[0, 1, 2, 3, 4, 5, 6]], 1) == 5 / 3
    assert tokens_a_pass(table, [[0, 1, 2, 3, 4, 5, 6]], 4) == 5
    assert tokens_a_pass(table, [[0, 1, 7, 7, 7]], 2) == 1
    assert tokens_a_pass(table, [[0, 1]], 2) == 0


def test_a_file_gives_the_table_back(tmp_path):
    table = DraftTable.of_texts(random_texts(1, 50), 50)
    path = tmp_path / "a.drafts"
    assert save_table(path, table, b"tokenizer") == path.stat().st_size
    again = open_table(path, 50, b"tokenizer")
    assert (again.words == table.words).all() and again.vocab == 50


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "a.drafts"

    def refused(vocab=50, tokenizer=b"t"):
        with pytest.raises(InputError) as caught:
            open_table(path, vocab, tokenizer)
        return str(caught.value)

    assert "No such file" in refused()
    save_table(path, DraftTable.of_texts(random_texts(1, 50), 50), b"t")
    whole = path.read_bytes()
    assert "for another model's tokens" in refused(vocab=51)
    assert "for another model's tokens" in refused(tokenizer=b"u")
    for cut in range(len(MAGIC), len(whole), 97):
        path.write_bytes(whole[:cut])
        assert "cut short" in refused()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is damaged" in refused()
    path.write_bytes(b"text")
    assert "is no table of drafts" in refused()
    path.write_bytes(whole[:4] + b"\x02\0" + whole[6:])
    assert "has version 2, and 1 is wanted" in refused()


@pytest.mark.parametrize(("words", "what"), [
    ([3, 4, NONE, 4], "tokens that are not there"),                     # next is token 3 of 2
    ([1 | 1 << 16, 4, NONE, 4], "words"),                               # a list behind the end
    ([1 | 1 << 16, 3, NONE, 4, 0], "words"),                            # a list in the index
    ([1 | (LIST_ENTRIES + 1) << 16, 4, NONE, 4, *[0] * (LIST_ENTRIES + 1)], "words"),
    ([1 | 1 << 16, 4, NONE, 4, 2], "tokens"),                           # before is token 2 of 2
    ([1 | 1 << 16, 4, NONE, 4, 2 << 16], "tokens"),                     # next in a list
])
def test_damaged_words_are_refused_though_their_sum_is_right(tmp_path, words, what):
    body = np.array(words, "<u4").tobytes()
    path = tmp_path / "a.drafts"
    path.write_bytes(HEADER.pack(MAGIC, VERSION, 0, 2, len(words), crc32(body), sha256(b"").digest()) + body)
    with pytest.raises(InputError, match=f"is damaged: it names .*{what}"):
        open_table(path, 2, b"")


def test_sizes_that_are_refused():
    with pytest.raises(InputError, match="65536 tokens; a table of drafts has 1 to 65535"):
        DraftTable(np.zeros(2 * 65536, np.uint32), DRAFT_VOCAB.most + 1)
    with pytest.raises(InputError, match="no room for 4 tokens"):
        DraftTable(np.zeros(4 * INDEX_WORDS - 1, np.uint32), 4)
    with pytest.raises(InputError, match="tokens from 1 to 4, and the vocabulary ends at 3"):
        DraftTable.of_texts([[1, 4]], 4)
