# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One matrix: exact where it can be, better than rounding where it cannot."""

import numpy as np
import pytest

from tellme.models.int8 import stored_values
from tellme.quantise.solve import DAMPING, LEAST_DAMPING, Statistics, multiplier_reach, plain
from tellme.spec.packing import plane_reach

RNG = np.random.default_rng(5)


def inputs(tokens=400, cols=60):
    """Inputs whose columns go together, and differ in size."""
    mixed = RNG.normal(size=(tokens, 12)) @ RNG.normal(size=(12, cols)) + 0.3 * RNG.normal(size=(tokens, cols))
    return (mixed * np.geomspace(0.1, 3, cols)).astype(np.float32)


def error(x, weights, values):
    return float(np.square(x @ (weights - values).T).sum())


def halves(x, y=None):
    """(y or x)^T x of each second token, and of the others."""
    y = x if y is None else y
    return y[::2].T @ x[::2], y[1::2].T @ x[1::2]


X = inputs()
W = RNG.normal(size=(40, 60)).astype(np.float32)


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_integers_times_a_stored_scale_stay(planes):
    reach = plane_reach(planes)
    codes = RNG.integers(-reach, reach + 1, (40, 60))
    codes[:, 0] = reach
    weights = (codes * (RNG.integers(1024, 2048, 40) * 2.0**-14)[:, None]).astype(np.float32)
    solved = Statistics(*halves(X)).solve(weights, planes)
    assert np.array_equal(solved.codes, codes)
    assert np.array_equal(solved.values(), weights)
    assert solved.error.max() == 0


def test_more_planes_and_statistics_leave_less():
    seen = Statistics(*halves(X))
    left = []
    for planes in (1, 2, 3, 4, 5):
        solved = seen.solve(W, planes)
        assert np.abs(solved.codes).max() <= plane_reach(planes)
        left.append(error(X, W, solved.values()))
        assert left[-1] < 0.5 * error(X, W, plain(W, planes))
    # A plane more leaves a third of the step.
    assert all(after < before / 4 for before, after in zip(left, left[1:], strict=False))


def test_the_error_that_is_reported():
    solved = Statistics(*halves(X)).solve(W, 2)
    damped = X.T.astype(np.float64) @ X
    damped[np.diag_indices(60)] *= 1 + DAMPING
    damped[np.diag_indices(60)] += DAMPING * LEAST_DAMPING * np.square(X).sum(axis=0).mean()
    rest = (W - solved.values()).astype(np.float64)
    wanted = ((rest @ damped) * rest).sum(axis=1) / ((W @ damped) * W).sum(axis=1)
    assert np.allclose(solved.error, wanted, rtol=1e-3)


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_groups_have_multipliers_that_are_int8_in_each_plane(planes):
    uneven = W * np.repeat([0.1, 1, 0.3], 20).astype(np.float32)
    seen = Statistics(*halves(X))
    rows, groups = seen.solve(uneven, planes), seen.solve(uneven, planes, 20)
    assert groups.multipliers.shape == (3, 40) and groups.multipliers.min() >= 1
    assert groups.multipliers.max() * 3 ** (planes - 1) <= 127 < (multiplier_reach(planes) + 1) * 3 ** (planes - 1)
    wanted = groups.codes.astype(int) * np.repeat(groups.multipliers.T, 20, axis=1) * stored_values(groups.scales)[:, None]
    assert np.allclose(groups.values(), wanted, rtol=1e-6, atol=0)
    assert error(X, uneven, groups.values()) < 0.8 * error(X, uneven, rows.values())


def test_plain_rounding_by_groups():
    """Each group is rounded as a matrix of its own; the last one has columns left."""
    uneven = W * np.repeat([0.1, 1, 0.3], [20, 20, 20]).astype(np.float32)
    for columns in (60, 50):
        weights = uneven[:, :columns]
        found = plain(weights, 2, 20)
        for first in range(0, columns, 20):
            assert np.array_equal(found[:, first:first + 20], plain(weights[:, first:first + 20], 2))
    assert error(X, uneven, plain(uneven, 2, 20)) < 0.5 * error(X, uneven, plain(uneven, 2))


def test_a_group_that_is_no_whole_slices():
    with pytest.raises(ValueError, match="50 columns is no multiple of 20"):
        Statistics(*halves(X)).solve(W, 2, 50)


def test_a_row_of_zeros_and_columns_that_are_never_used():
    x, weights = X.copy(), W.copy()
    x[:, 7] = 0
    weights[3] = 0
    solved = Statistics(*halves(x)).solve(weights, 2)
    assert not solved.codes[3].any() and solved.scales.min() > 0
    assert np.isfinite(solved.values()).all() and np.isfinite(solved.error).all()
    still = Statistics(*np.zeros((2, 60, 60), np.float32)).solve(W, 2)
    assert np.isfinite(still.values()).all()


def test_the_target_gives_the_wanted_outputs():
    """Of inputs with an error that goes with the others: the target makes up for the error."""
    x = inputs(2000)
    wrong = x.copy()
    wrong[:, 1] += 0.5 * x[:, 2]
    wanted = x @ W.T
    target = Statistics(*halves(wrong)).target(W, *halves(wrong, wanted))
    assert np.square(wrong @ target.T - wanted).sum() < 0.5 * np.square(wrong @ W.T - wanted).sum()


@pytest.mark.parametrize("tokens", [20, 100])
def test_a_target_that_only_fits_noise_stays_near_the_weights(tokens):
    """Few tokens, and outputs with noise that the inputs do not tell: what is not seen must not become worse."""
    x, new = inputs(tokens), inputs(2000)
    noise = RNG.normal(size=(tokens, 40)).astype(np.float32) * 10
    target = Statistics(*halves(x)).target(W, *halves(x, x @ W.T + noise))
    free = np.linalg.lstsq(x, x @ W.T + noise, rcond=None)[0].T
    added = np.square(new @ (target - W).T).sum()
    assert added < 0.2 * np.square(new @ (free - W).T).sum()
    assert added < 0.5 * np.square(new @ W.T).sum()
