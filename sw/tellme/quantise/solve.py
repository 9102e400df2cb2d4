# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One matrix: the integers and scales that are nearest to a float matrix under the statistics of its inputs.

The error of a matrix V is ``tr (V - W) H (V - W)^T`` with H = X^T X of the inputs X (tokens, columns).  GPTQ (Frantar et al.,
arXiv 2210.17323) rounds a column after the other and spreads each error over the columns that are left; coordinate descent then
changes single integers as long as the error falls.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellme.golden.scales import Scales, pack16
from tellme.models.int8 import stored_values
from tellme.spec.packing import SLICE, plane_reach
from tellme.spec.ranges import I8
from tellme.spec.scale import SCALE16_BIAS, SCALE_SIG_BITS

__all__ = ["DAMPING", "LEAST_DAMPING", "RIDGES", "Solved", "Statistics", "multiplier_reach", "plain"]

Floats = NDArray[np.float32]

#: Added to the diagonal of H for the choice of the integers: so much of each element.
DAMPING = 0.3
#: The share of the mean of the diagonal that is added, so that columns that are never used are apart from zero.
LEAST_DAMPING = 0.001
#: Added for what the target may differ from the float model: the share that does best on tokens that were left out is taken.
RIDGES = (0.1, 0.4, 1.6, 6.4, 25.6)
#: Steps that plain rounding tries, times the largest magnitude over the largest code.
_FIRST_STEPS = np.geomspace(0.2, 1.0, 14).astype(np.float32)
#: Steps that GPTQ tries, times the best of those.
_STEPS = np.array([0.8, 0.9, 1.0, 1.1, 1.22], np.float32)
#: Columns that are rounded before the others hear of their errors.
_BLOCK = 64
#: Sweeps of coordinate descent.
_SWEEPS = 3
#: The smallest scale that is stored.
_LEAST_SCALE = float(2.0 ** (SCALE_SIG_BITS - SCALE16_BIAS))


def multiplier_reach(planes: int) -> int:
    """The largest multiplier of a column group whose product with the highest plane's power of three is an int8 number."""
    return int(I8.most) // 3 ** (planes - 1)


@dataclass(frozen=True)
class Solved:
    """A matrix of ``codes`` (rows, columns) and stored ``scales`` (rows).

    ``group``: columns of a group; ``multipliers`` (groups, rows): what each code of a group and row is multiplied by, beside the
    scale; none where ``group`` is 0.  ``error``: what is left of each row's output, as a share of its power.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.uint16]
    error: Floats
    group: int = 0
    multipliers: NDArray[np.int8] | None = None

    def values(self) -> Floats:
        """The weights that the engine has."""
        step = stored_values(self.scales).astype(np.float32)[:, None]
        if self.multipliers is not None:
            step = step * np.repeat(self.multipliers.T, self.group, axis=1)[:, :self.codes.shape[1]]
        return self.codes * step


def _unit(hessian: NDArray[np.floating]) -> NDArray[np.float64]:
    """The diagonal of a hessian, and a little of its mean, which keeps columns that are never used apart from zero."""
    diagonal = np.diag(hessian).astype(np.float64)
    return diagonal + (LEAST_DAMPING * float(diagonal.mean()) or 1.0)


class Statistics:
    """What is known of a matrix's inputs X (tokens, columns): the damped X^T X, and what follows from it.

    ``fitted`` and ``held`` are X^T X of two parts of the tokens.  The order of the columns is that in which GPTQ takes them, and
    ``upper`` the Cholesky factor of the inverse in this order.
    """

    def __init__(self, fitted: Floats, held: Floats):
        self._fitted, self._held = fitted, held
        damped = (fitted + held).astype(np.float64)
        #: The unit of the damping.
        self._unit = _unit(damped)
        damped[np.diag_indices_from(damped)] += DAMPING * self._unit
        self.hessian = damped.astype(np.float32)
        self.order = np.argsort(-np.diag(damped), kind="stable")
        inverse = np.linalg.inv(damped[np.ix_(self.order, self.order)])
        self.upper = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
        self._inverses = [np.linalg.inv(fitted + np.diag((ridge * _unit(fitted)).astype(np.float32))) for ridge in RIDGES]

    def target(self, weights: Floats, fitted: Floats, held: Floats) -> Floats:
        """The matrix that gives the wanted outputs Y best from the inputs: W + (Y^T X - W X^T X) (X^T X + r)^-1.

        ``fitted`` and ``held`` are Y^T X (rows, columns) of the two parts of the tokens.  The ridge r draws what the inputs do
        not say towards the ``weights`` W.  It is the one of RIDGES that, fitted to the one part, does best on the other; where W
        itself does best, the target is W.
        """
        rest = fitted - weights @ self._fitted
        rest_held = held - weights @ self._held
        best, gain = None, 0.0
        for ridge, inverse in zip(RIDGES, self._inverses, strict=True):
            change = rest @ inverse
            # How much less the squared error is with the change.
            less = float((change * (2 * rest_held - change @ self._held)).sum(dtype=np.float64))
            if less > gain:
                best, gain = ridge, less
        if best is None:
            return weights
        damped = self._fitted + self._held + np.diag((best * self._unit).astype(np.float32))
        found: Floats = weights + np.linalg.solve(damped, (rest + rest_held).T).T
        return found

    def solve(self, target: Floats, planes: int, group: int = 0) -> Solved:
        """The integers of ``planes`` planes that are nearest to ``target`` (rows, columns).

        ``group``: columns of a group with a multiplier a row, a multiple of SLICE; 0: none.
        """
        if group % SLICE:
            raise ValueError(f"a group of {group} columns is no multiple of {SLICE}")
        return _Problem(target, self, planes, group).solved()


def plain(weights: Floats, planes: int, group: int = 0) -> Floats:
    """The values of a matrix (rows, columns) that is rounded to integers of ``planes`` planes without statistics.

    A row has a step; with ``group`` each group of so many columns of a row has one, which is what its multiplier is for.
    """
    if group:
        rows, cols = weights.shape
        padded = np.pad(weights, ((0, 0), (0, -cols % group)))
        return plain(padded.reshape(-1, group), planes).reshape(rows, -1)[:, :cols]
    reach = plane_reach(planes)
    step = _plain_steps(weights.T, np.ones(weights.shape[1], np.float32), reach)[:, None]
    return np.clip(np.rint(weights / step), -reach, reach) * step


def _plain_steps(target: Floats, weight: Floats, reach: int) -> Floats:
    """The steps (rows) with which rounding a target (columns, rows) has the least error, weighed by column."""
    peak = np.maximum(np.abs(target).max(axis=0) / reach, _LEAST_SCALE)
    errors = []
    for times in _FIRST_STEPS:
        step = peak * times
        rest = target - np.clip(np.rint(target / step), -reach, reach) * step
        errors.append(weight @ (rest * rest))
    found: Floats = peak * _FIRST_STEPS[np.argmin(errors, axis=0)]
    return found


class _Problem:
    """A target (rows, columns) under statistics.  Inside, matrices lie with a column's rows side by side: (columns, rows)."""

    def __init__(self, target: Floats, seen: Statistics, planes: int, group: int):
        self.target = np.ascontiguousarray(target.T)
        self.hessian, self.order, self.upper = seen.hessian, seen.order, seen.upper
        self.reach = plane_reach(planes)
        self.group = group
        self.most = multiplier_reach(planes) if group else 1
        cols, self.rows = self.target.shape
        #: First and last column of each group, and the group of each column.
        self.groups = [(at, min(at + group, cols)) for at in range(0, cols, group)] if group else [(0, cols)]
        self.group_of = np.repeat(np.arange(len(self.groups)), [end - first for first, end in self.groups])

    def solved(self) -> Solved:
        """All steps, in their order."""
        first = self._first_steps()
        steps = [self._representable(first * times) for times in _STEPS]
        codes = self._gptq(np.concatenate([scale * multipliers for scale, multipliers in steps], axis=1))
        tried = np.split(codes, len(steps), axis=1)
        errors = np.stack([self._error(part, *step) for part, step in zip(tried, steps, strict=True)])
        best = errors.argmin(axis=0)
        row = np.arange(self.rows)
        codes = np.stack(tried)[best, :, row].T.copy()
        scale = np.stack([s for s, _ in steps])[best, row]
        multipliers = np.stack([m for _, m in steps])[best, :, row].T.copy()
        for _ in range(_SWEEPS):
            scale, multipliers = self._refit(codes, scale, multipliers)
            codes = self._descend(codes, scale * multipliers)
        scale, multipliers = self._refit(codes, scale, multipliers)
        power = self._error(np.zeros_like(codes), scale, multipliers)
        error = self._error(codes, scale, multipliers) / np.where(power == 0, 1, power)
        return Solved(codes.T.astype(np.int8), _packed(scale), error.astype(np.float32), self.group,
                      multipliers.astype(np.int8) if self.group else None)

    def _per_column(self, steps: Floats) -> Floats:
        """Steps of groups (groups, rows) as steps of columns."""
        return steps[self.group_of]

    def _representable(self, steps: Floats) -> tuple[Floats, Floats]:
        """The nearest scales (rows) and multipliers (groups, rows) to the steps of groups."""
        scale = _stored(steps.max(axis=0) / self.most)
        return scale, self._multipliers(steps, scale)

    def _multipliers(self, steps: Floats, scale: Floats) -> Floats:
        return np.clip(np.rint(steps / scale), 1, self.most).astype(np.float32)

    def _first_steps(self) -> Floats:
        """The steps (groups, rows) of plain rounding, weighed by the diagonal of the hessian."""
        weight = np.diag(self.hessian)
        return np.stack([_plain_steps(self.target[first:end], weight[first:end], self.reach) for first, end in self.groups])

    def _gptq(self, steps: Floats) -> Floats:
        """Codes (columns, tries x rows) for steps (groups, tries x rows)."""
        tries = steps.shape[1] // self.rows
        left = np.tile(self.target[self.order], (1, tries))
        codes = np.empty_like(left)
        for first in range(0, len(left), _BLOCK):
            end = min(first + _BLOCK, len(left))
            part, errors = left[first:end], np.empty((end - first, left.shape[1]), np.float32)
            for i, column in enumerate(self.order[first:end]):
                step = steps[self.group_of[column]]
                code = np.clip(np.rint(part[i] / step), -self.reach, self.reach)
                codes[column] = code
                errors[i] = (part[i] - code * step) / self.upper[first + i, first + i]
                part[i + 1:] -= self.upper[first + i, first + i + 1:end, None] * errors[i]
            left[end:] -= self.upper[first:end, end:].T @ errors
        return codes

    def _descend(self, codes: Floats, steps: Floats) -> Floats:
        """Codes after a sweep of coordinate descent with the steps of groups (groups, rows)."""
        codes = codes.copy()
        slope = self.hessian @ (self.target - codes * self._per_column(steps))
        for first in range(0, len(codes), _BLOCK):
            at = self.order[first:first + _BLOCK]
            inner, part = self.hessian[np.ix_(at, at)], slope[at]
            changes = np.empty_like(part)
            for i, column in enumerate(at):
                step = steps[self.group_of[column]]
                code = np.clip(np.rint(codes[column] + part[i] / (inner[i, i] * step)), -self.reach, self.reach)
                changes[i] = (code - codes[column]) * step
                codes[column] = code
                part[i + 1:] -= inner[i, i + 1:, None] * changes[i]
            slope -= self.hessian[:, at] @ changes
        return codes

    def _refit(self, codes: Floats, scale: Floats, multipliers: Floats) -> tuple[Floats, Floats]:
        """Scales and multipliers with the least error for the codes."""
        if self.group:
            slope = self.hessian @ (self.target - codes * self._per_column(scale * multipliers))
            multipliers = multipliers.copy()
            for g, (first, end) in enumerate(self.groups):
                part = codes[first:end]
                power = (part * (self.hessian[first:end, first:end] @ part)).sum(axis=0)
                gain = (part * slope[first:end]).sum(axis=0) / np.where(power > 0, power, 1)
                new = self._multipliers(scale * multipliers[g] + gain, scale)
                slope -= self.hessian[:, first:end] @ (part * (scale * (new - multipliers[g])))
                multipliers[g] = new
        whole = codes * self._per_column(multipliers)
        seen = self.hessian @ whole
        power = (whole * seen).sum(axis=0)
        fitted = (self.target * seen).sum(axis=0) / np.where(power > 0, power, 1)
        return _stored(np.where((power > 0) & (fitted > 0), fitted, scale)), multipliers

    def _error(self, codes: Floats, scale: Floats, multipliers: Floats) -> Floats:
        """The error of each row."""
        rest = self.target - codes * self._per_column(scale * multipliers)
        return (rest * (self.hessian @ rest)).sum(axis=0)


def _scales_of(values: Floats) -> Scales:
    """The nearest scales with 11 bits."""
    magnitude, exponent = np.frexp(np.maximum(values.astype(np.float64), _LEAST_SCALE))
    sig = np.rint(magnitude * (1 << SCALE_SIG_BITS)).astype(np.int64)
    carry = sig == 1 << SCALE_SIG_BITS
    return Scales(np.where(carry, sig >> 1, sig), exponent.astype(np.int64) - SCALE_SIG_BITS + carry)


def _packed(values: Floats) -> NDArray[np.uint16]:
    """The nearest stored scales; one that is too small is the smallest."""
    return pack16(_scales_of(values))


def _stored(values: Floats) -> Floats:
    """The values of the nearest stored scales."""
    return stored_values(_packed(values)).astype(np.float32)
