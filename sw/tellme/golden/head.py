# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head: the logits of states, the best 64 logits, and the state that a probe shows."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tellme.golden.scales import Scales, fixed, scale_mul, scales
from tellme.golden.weights import Budget, Floats, Tile, joined, unpacked
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.probe import probed_scale
from tellme.spec.scale import Scale
from tellme.spec.two_steps import read_rows

__all__ = ["Table", "TwoSteps", "best", "head_logits", "probed_state"]


#: Size of an int8 code at most.
_CODE = 128


def _dots(codes: NDArray[np.int8], table: NDArray[np.float32], most: int = _CODE) -> NDArray[np.int64]:
    """codes (n, dim) @ table.T (dim, rows), exactly; values of the table are up to ``most`` in magnitude."""
    q = codes.astype(np.float32)
    dots = np.zeros((len(codes), len(table)), np.int64)
    # The magnitudes of so many products add up to 2**24 at most, so each partial sum is exact in float32.
    cols = (1 << 24) // (_CODE * most)
    for first in range(0, codes.shape[1], cols):
        run = slice(first, first + cols)
        dots += (q[:, run] @ table[:, run].T).astype(np.int64)
    return dots


def head_logits(codes: NDArray[np.int8], d: Scales, table: NDArray[np.float32], table_scales: Scales,
                most: int = _CODE) -> NDArray[np.int32]:
    """Logits (tokens, vocab), Q15.16, of states (tokens, dim) with a scale each.

    ``table`` (vocab, dim) has integers of up to ``most`` in magnitude; logit = round_half_up(row . code * (d * row's scale)).
    """
    scale = scale_mul(Scales(d.sig[:, None], d.exp[:, None]), table_scales)
    return fixed(_dots(codes, table, most), scale, LOGIT_FRAC, 32).astype(np.int32)


class Table(Floats):
    """The table of a head, with the scale of each row.  ``rows`` gives the rows some at a time: integers of up to ``most`` in
    magnitude."""

    def __init__(self, rows: Callable[[], Iterable[NDArray[np.signedinteger]]], shape: tuple[int, int], table_scales: Scales,
                 budget: Budget, most: int = _CODE):
        super().__init__(shape, np.float32, lambda: (part.astype(np.float32) for part in rows()), budget)
        self.scales, self._most = table_scales, most

    @classmethod
    def of_tiles(cls, tiles: Sequence[Tile], shape: tuple[int, int], table_scales: Scales, budget: Budget) -> "Table":
        """The table of the engine's tiles, whose rows behind ``shape`` count for nothing.  The codes are kept: planes would be
        unpacked anew for each state."""
        parts = [_narrow(unpacked(tile, shape[1])) for tile in tiles]
        behind = sum(map(len, parts)) - shape[0]
        parts[-1] = parts[-1][:len(parts[-1]) - behind]
        return cls(lambda: parts, shape, table_scales, budget, max(tile.reach for tile in tiles))

    def product(self, codes: NDArray[np.int8]) -> NDArray[np.int64]:
        """codes (n, dim) @ table.T, exactly."""
        return joined([_dots(codes, block, self._most) for _, block in self.blocks()])

    def logits(self, codes: NDArray[np.int8], d: Scales) -> NDArray[np.int32]:
        """:func:`head_logits` of the table."""
        return joined([head_logits(codes, d, block, Scales(self.scales.sig[rows], self.scales.exp[rows]), self._most)
                       for rows, block in self.blocks()])


class TwoSteps:
    """A head in two steps (:mod:`tellme.spec.two_steps`): the table of the upper planes, and int8 rows (vocab, dim) of the lowest
    one's trits."""

    def __init__(self, upper: Table, low: NDArray[np.int8]):
        self._upper, self._low = upper, low

    def logits(self, codes: NDArray[np.int8], d: Scales, gap: int) -> tuple[list[int], NDArray[np.int32]]:
        """The rows that are read whole of a state (1, dim), in their order, and their logits (1, rows), Q15.16."""
        upper, bound = 3 * self._upper.product(codes)[0], int(np.abs(codes.astype(np.int64)).sum())
        scale = scale_mul(Scales(d.sig[:1], d.exp[:1]), self._upper.scales)
        whole = upper + self._low.astype(np.int64) @ codes[0].astype(np.int64)
        high, low, logits = (fixed(sums, scale, LOGIT_FRAC, 32) for sums in (upper + bound, upper - bound, whole))
        rows = read_rows(low.tolist(), high.tolist(), logits.tolist(), gap)
        return rows, logits[None, rows].astype(np.int32)


def _narrow(codes: NDArray[np.float32]) -> NDArray[np.signedinteger]:
    """Integers in as few bytes as hold them: those of an int8 table in one."""
    return codes.astype(np.min_scalar_type(int(min(codes.min(), -codes.max() - 1, -1))))


def best(logits: NDArray[np.int32]) -> list[tuple[int, int]]:
    """The 64 best (id, logit) of a row of logits, best first, ties to the lower id."""
    order = np.lexsort((np.arange(len(logits)), -logits.astype(np.int64)))[:TOP_ENTRIES]
    return [(int(i), int(logits[i])) for i in order]


def probed_state(logits: NDArray[np.int32], k: int) -> tuple[NDArray[np.int8], Scales]:
    """Codes (1, dim) and scale (1) of the state that gave a probe's logits (:mod:`tellme.spec.probe`).

    ValueError if the logits are not a probe's, or the state's scale is outside the probe's range.
    """
    values = logits.astype(np.int64)
    top = int(np.abs(values).max())
    if top == 0:
        return np.zeros((1, len(values)), np.int8), scales(Scale(0, 0))
    d = probed_scale(top, k)
    unit = Scales(np.array([d.sig]), np.array([d.exp + k]))
    codes = np.rint(values / np.ldexp(float(d.sig), d.exp + k + LOGIT_FRAC)).astype(np.int64)
    if not np.array_equal(fixed(codes, unit, LOGIT_FRAC, 32), values):
        raise ValueError("the logits are not those of a probe")
    return codes.astype(np.int8)[None], scales(d)
