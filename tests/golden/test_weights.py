# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Products with packed matrices against integer products, for awkward shapes and extreme values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellme.golden import weights
from tellme.golden.head import Table
from tellme.golden.scales import unpack16
from tellme.golden.weights import Budget, TernaryMatrix
from tellme.models.trits import pack_rows
from tellme.spec.packing import SLICE_BYTES, tile_rows


def tiles_of(matrix, most):
    """A matrix as tiles of up to ``most`` rows."""
    words = pack_rows(matrix).view(f"<u{SLICE_BYTES}")
    return [np.ascontiguousarray(words[first:first + rows].T) for first, rows in tile_rows(len(matrix), most=most)]


def check(matrix, codes, most):
    expected = codes.astype(np.int64) @ matrix.T.astype(np.int64)
    for kept in (0, matrix.size * 8):
        linear = TernaryMatrix(tiles_of(matrix, most), matrix.shape[1], Budget(kept))
        assert np.array_equal(linear.product(codes), expected)
        assert (linear.kept_bytes > 0) == (kept > 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8000), st.integers(1, 5), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_products_are_the_integer_products(pairs, cols, tokens, most, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-1, 2, (2 * pairs, cols), np.int8)
    check(matrix, rng.integers(-128, 128, (tokens, cols), np.int16).astype(np.int8), 2 * most)


@pytest.mark.parametrize("cols", [1855, 1860, 4096, 6912])
@pytest.mark.parametrize("pattern", [(-128,), (127,), (-128, 127), (127, -128), (0, 0, 0, 0, -128)])
def test_the_largest_sums_are_exact(cols, pattern):
    codes = np.resize(np.array(pattern, np.int8), (1, cols))
    # Rows that make all terms as large as they get, and an odd sum at the end.
    signs = np.where(codes[0] < 0, -1, 1)
    matrix = np.stack([np.ones(cols), -np.ones(cols), signs, np.resize([1, -1, -1], cols)]).astype(np.int8)
    codes[0, -1] |= 1
    check(matrix, codes, 4)


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize("dim", [1023, 1024, 1025, 1536, 2560])
def test_products_with_a_table_are_exact(dim, kept):
    codes = np.full((2, dim), -128, np.int8)
    codes[1] = np.arange(dim) % 255 - 127
    table = np.full((7, dim), -128, np.int8)
    table[1:] = np.random.default_rng(dim).integers(-128, 128, (6, dim), np.int16)
    # An odd sum above 2**24, which float32 does not hold.
    table[0, -1] = 1
    codes[0, -1] = 1
    head = Table(lambda: (table[:4], table[4:]), table.shape, unpack16(np.ones(7, np.uint16)), Budget(kept))
    assert np.array_equal(head.product(codes), codes.astype(np.int64) @ table.T.astype(np.int64))


def test_a_sum_at_once_stays_exact():
    worst = 128 * 121 + 512 * (40 + 13 + 4 + 1)
    assert weights._EXACT_BYTES * worst <= 1 << 24 < (weights._EXACT_BYTES + 1) * worst
