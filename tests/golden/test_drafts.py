# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sources of drafted tokens, and what a pass gives."""

import numpy as np
import pytest

from tellme.drafts.drafter import OwnText
from tests.golden.batch import Text
from tests.golden.drafts import Both, Table, accepted, passes, prompts_of, table_of


def test_a_table_has_the_most_frequent_next_token():
    table = table_of([[1, 2, 3, 2, 4, 2, 4], [1, 9]], 1)
    # 2 and 9 follow 1 equally often: the lower id counts.
    assert table.entries == [{(1,): 2, (2,): 4, (3,): 2, (4,): 2}]
    assert table.draft([7, 3], 4) == [2, 4, 2, 4]
    assert table.draft([9], 4) == []


def test_a_longer_context_counts_and_falls_back():
    texts = [[1, 2, 3], [1, 2, 3], [5, 2, 4]]
    table = table_of(texts, 2)
    assert table.next([5, 2]) == 4
    assert table.next([8, 2]) == 3
    # What the shorter context gives is not kept again.
    assert table.entries[1] == {(5, 2): 4}
    assert table_of(texts, 2, least=2).entries[1] == {}
    assert table.next([]) is None


def test_each_prompt_comes_once():
    assert prompts_of([[1, 2, 3], [1, 2, 4], [1, 5], [1, 6]], 2, 2) == [[1, 2], [1, 5]]


def test_own_text_repeats_the_last_occurrence():
    source = OwnText(longest=3, shortest=2)
    assert source.draft([1, 2, 3, 8, 1, 2, 3, 9, 1, 2, 3], 2) == [9, 1]
    # Three tokens occur nowhere else, two do.
    assert source.draft([4, 2, 3, 8, 5, 2, 3], 9) == [8, 5, 2, 3]
    assert source.draft([1, 2, 3], 2) == []
    assert Both(source, Table([{(5,): 6, (3,): 7}])).draft([2, 3, 5, 2, 3], 4) == [5, 2, 3, 7]
    assert Both(source, Table([{(3,): 7}])).draft([1, 3], 4) == [7]


def test_accepted_ends_at_the_first_other_token():
    assert accepted([1, 2, 3], [1, 2, 4]) == 2
    assert accepted([1, 2], [1]) == 1
    assert accepted([], [1]) == accepted([2, 1], [1, 1]) == 0


class Right:
    """Drafts the text itself, with an error at each position that is a multiple of ``wrong``."""

    def __init__(self, ids, wrong):
        self.ids, self.wrong = ids, wrong

    def draft(self, ids, count):
        return [-1 if at % self.wrong == 0 else self.ids[at] for at in range(len(ids), min(len(ids) + count, len(self.ids)))]


@pytest.mark.parametrize("count", range(1, 8))
def test_passes_give_the_text(count):
    ids = list(np.random.default_rng(1).integers(0, 99, 50))
    # The pick behind the prompt is at 10, the passes begin at 11.
    assert passes(Text(ids, 10), Right(ids, 1), count) == [1] * 39
    given = passes(Text(ids, 10), Right(ids, 100), count)
    assert sum(given) == 39 and set(given[:-1]) == {count + 1} and given[-1] <= count + 1
    assert sum(passes(Text(ids, 10), Right(ids, 4), count)) == 39
