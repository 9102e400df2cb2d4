# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Each bound of an LM head's lower planes holds, and a head in two steps gives what the whole head gives."""

import numpy as np
import pytest

from tellme.golden.head import best
from tellme.golden.scales import fixed, scales
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.packing import trits_of
from tellme.spec.scale import Scale
from tests.golden.head_bounds import BOUNDS, SETS, Head, Reach, estimates, limits, read_rows, relative_bytes, set_threshold


def drawn(seed, vocab=300, dim=64, most=13):
    """A table whose codes and states are large in a few columns, and rows' scales."""
    rng = np.random.default_rng(seed)
    table = np.clip(np.rint(rng.normal(size=(vocab, dim)) * 5), -most, most).astype(np.int64)
    wide = 1 + 6 * (np.arange(dim) < 4)
    codes = np.clip(np.rint(rng.normal(size=(5, dim)) * 12 * wide), -128, 127).astype(np.int8)
    vectors = np.linalg.qr(rng.normal(size=(dim, 6)) * wide[:, None])[0].T
    return table, codes, scales(*(Scale(int(s), -20) for s in rng.integers(1024, 2048, vocab))), vectors


@pytest.mark.parametrize("most", [4, 13, 40])
def test_the_split_is_that_of_the_planes(most):
    table = drawn(1, most=most)[0]
    head = Head(table, 1)
    assert head.planes == {4: 2, 13: 3, 40: 4}[most]
    top = [[trits_of(int(w), head.planes)[-1] for w in row] for row in table[:9]]
    assert np.array_equal(head.upper[:9], np.array(top) * 3 ** (head.planes - 1))
    assert np.array_equal(head.upper + head.rest, table)
    assert np.abs(head.rest).max() <= head.reach


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("upper", [1, 2])
def test_a_bound_holds(name, upper):
    for seed in range(4):
        table, states, row_scales, vectors = drawn(seed)
        head = Head(table, upper, vectors)
        for codes in (*states, np.full(64, -128, np.int8), np.zeros(64, np.int8)):
            sums, most = table @ codes.astype(np.int64), BOUNDS[name](head, codes)
            assert (np.abs(sums - estimates(head, name, codes)) <= most).all()
            logits = fixed(sums, row_scales, LOGIT_FRAC, 32)
            assert (limits(head, name, codes, row_scales)[1] >= logits).all()


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("chosen", SETS)
def test_two_steps_give_what_one_gives(name, chosen):
    table, states, row_scales, vectors = drawn(7)
    head, reach = Head(table, 2, vectors), SETS[chosen]
    for codes in states:
        logits = fixed(table @ codes.astype(np.int64), row_scales, LOGIT_FRAC, 32)
        counted = [entry for entry in best(logits.astype(np.int32))[:reach.count]
                   if reach.gap is None or int(logits.max()) - entry[1] <= reach.gap]
        estimate, upper = limits(head, name, codes, row_scales)
        for first in (None, np.argpartition(estimate, -64)[-64:]):
            read = read_rows(upper, logits, reach, first)
            # What was not read cannot count, so that any low number stands for it.
            known = np.where(read, logits, -(1 << 31)).astype(np.int32)
            assert [entry for entry in best(known)[:reach.count]
                    if reach.gap is None or int(known.max()) - entry[1] <= reach.gap] == counted


def test_thresholds():
    logits = np.array([5, 9, 1, 9, 7])
    assert [set_threshold(logits, Reach(n)) for n in (1, 2, 3, 5)] == [9, 9, 7, 1]
    # Fewer logits than count: nothing is known of the others.
    assert set_threshold(logits, Reach(6)) == -(1 << 31)
    assert set_threshold(logits, Reach(6, gap=3)) == 6


def test_relative_bytes():
    # 512 columns are 26 slices of 4 bytes: 3 * 104 + 4 bytes a row.
    assert relative_bytes(3, 3, 512, 0, 0) == relative_bytes(3, 2, 512, 1, 0) == 1
    assert relative_bytes(3, 2, 512, .5, 2) == (2 * 104 + 4 + 2 + 52) / 316
