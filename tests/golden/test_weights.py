# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Products with packed matrices against integer products, for awkward shapes and extreme values; matrices of several planes are
packed by the specification."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellme.golden import weights
from tellme.golden.head import Table
from tellme.golden.scales import unpack16
from tellme.golden.weights import Budget, TernaryMatrix, Tile
from tellme.models.trits import pack_rows
from tellme.spec.packing import SLICE_BYTES, TileHeader, pack_planes, slices, tile_rows
from tellme.spec.program import FormatError
from tellme.spec.ranges import I32
from tellme.spec.scale import Scale


def tiles_of(matrix, most, planes=1):
    """A matrix as tiles of up to ``most`` rows."""
    words = pack_rows(matrix, planes).reshape(len(matrix), planes, -1).view(f"<u{SLICE_BYTES}")
    return [Tile([np.ascontiguousarray(words[first:first + rows, plane].T) for plane in reversed(range(planes))])
            for first, rows in tile_rows(len(matrix), most=most)]


def check(matrix, codes, most, planes=1):
    expected = codes.astype(np.int64) @ matrix.T.astype(np.int64)
    for kept in (0, matrix.size * 8):
        linear = TernaryMatrix(tiles_of(matrix, most, planes), matrix.shape[1], Budget(kept))
        assert np.array_equal(linear.product(codes), expected)
        assert (linear.kept_bytes > 0) == (kept > 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8000), st.integers(1, 5), st.integers(1, 30), st.integers(1, 5),
       st.integers(0, 2**32 - 1))
def test_products_are_the_integer_products(pairs, cols, tokens, most, planes, seed):
    rng = np.random.default_rng(seed)
    reach = sum(3**p for p in range(planes))
    matrix = rng.integers(-reach, reach + 1, (2 * pairs, cols), np.int8)
    check(matrix, rng.integers(-128, 128, (tokens, cols), np.int16).astype(np.int8), 2 * most, planes)


@pytest.mark.parametrize("planes", [1, 2, 5])
@pytest.mark.parametrize("cols", [1855, 1860, 4096, 6912])
@pytest.mark.parametrize("pattern", [(-128,), (127,), (-128, 127), (127, -128), (0, 0, 0, 0, -128)])
def test_the_largest_sums_are_exact(cols, pattern, planes):
    codes = np.resize(np.array(pattern, np.int8), (1, cols))
    # Rows that make all terms as large as they get, and an odd sum at the end.
    signs = np.where(codes[0] < 0, -1, 1)
    matrix = np.stack([np.ones(cols), -np.ones(cols), signs, np.resize([1, -1, -1], cols)]).astype(np.int8)
    codes[0, -1] |= 1
    matrix *= sum(3**p for p in range(planes))
    check(matrix, codes, 4, planes)


def tiles_in(words, cols):
    """Tiles from the words of the specification, read by this function alone."""
    tiles, at = [], 0
    while at < len(words):
        header = TileHeader.unpack(words[at])
        at += 1 + header.row_words * header.rows // 2
        planes, multipliers = [], []
        for _ in range(header.planes):
            plane, own = [], []
            for number in range(slices(cols)):
                if header.group_slices and number % header.group_slices == 0:
                    size = -(-header.rows // 8)
                    own.append(np.array(words[at:at + size], "<u8").view(np.int8)[:header.rows])
                    at += size
                plane.append(np.array(words[at:at + header.rows // 2], "<u8").view("<u4"))
                at += header.rows // 2
            planes.append(np.stack(plane))
            multipliers.append(own)
        tiles.append(Tile(planes, header.free, header.group_slices, np.array(multipliers) if header.group_slices else None))
    return tiles


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 90), st.integers(1, 6), st.booleans(), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_free_planes_and_multipliers_are_the_integer_sums(pairs, cols, planes, free, group, seed):
    """acc = 3 * acc + m * (T . x), or acc + m * (T . x), plane by plane in plain integers."""
    rng = np.random.default_rng(seed)
    rows = 2 * pairs
    trits = rng.integers(-1, 2, (planes, rows, cols))
    groups = -(-slices(cols) // group) if group else 1
    m = rng.integers(-128, 128, (planes, groups, rows)) if group else np.ones((planes, 1, rows), int)
    words = pack_planes(trits.tolist(), Scale(1024, 0), most=8, free=free, group_slices=group, multipliers=m.tolist())
    codes = rng.integers(-128, 128, (3, cols)).astype(np.int8)
    group_of = [column // 20 // group if group else 0 for column in range(cols)]
    expected = [[0] * rows for _ in codes]
    for t, x in enumerate(codes.tolist()):
        for r in range(rows):
            acc = 0
            for plane in reversed(range(planes)):
                acc = acc * (1 if free else 3) + sum(
                    int(m[plane, group_of[c], r]) * int(trits[plane, r, c]) * x[c] for c in range(cols))
            expected[t][r] = acc
    for kept in (0, rows * cols * 8):
        assert TernaryMatrix(tiles_in(words, cols), cols, Budget(kept)).product(codes).tolist() == expected


@pytest.mark.parametrize(("cols", "free", "planes"), [(131_072, False, 1), (10_083, False, 3), (21_846, True, 6)])
def test_sums_that_an_int32_may_not_hold_are_refused(cols, free, planes):
    """The most columns of such multipliers, and one column more: the sum of codes of -128 is what the refusal says."""
    reach = 128 * (planes if free else sum(3**p for p in range(planes)))
    for width in (cols - 1, cols):
        ones = np.ones((2, width), np.int8)
        plane = np.ascontiguousarray(pack_rows(ones).view(f"<u{SLICE_BYTES}").T)
        tile = Tile([plane] * planes, free, slices(width) // 2 + 1, np.full((planes, 2, 2), -128, np.int8))
        assert (128 * width * reach > I32.most) == (width == cols) and tile.reach == reach
        if width == cols:
            with pytest.raises(FormatError, match=f"^a sum of {cols} columns is up to {128 * cols * reach}, and the sums of the "
                                                  f"engine are up to {I32.most}$"):
                TernaryMatrix([tile], width, Budget(0))
        else:
            linear = TernaryMatrix([tile], width, Budget(0))
            assert linear.product(np.full((1, width), -128, np.int8))[0, 0] == 128 * width * reach


def test_reach_is_that_of_a_row():
    """Of each row by the largest multiplier of each plane, and not by the largest ones of different rows."""
    plane = np.zeros((2, 2), "<u4")
    m = np.array([[[-128, 0], [5, 1]], [[0, 100], [-7, 0]]], np.int8)
    assert Tile([plane] * 2, False, 1, m).reach == 3 * 128 + 7 and Tile([plane] * 2, True, 1, m).reach == 128 + 7


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
