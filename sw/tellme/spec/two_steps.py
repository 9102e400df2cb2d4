# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The LM head in two steps (docs/decisions/0018-tokens-a-byte.md): which rows are read whole, and in which order.

A code of a row is 3 * hi + lo, lo the trit of its lowest plane.  Step 1 gives each row's sum ``S_hi`` of the hi with the codes of
the state.  B = sum of |codes| of the state bounds the sum of the lo, and logits are monotone in the sum, so

    low[r] = logit(3 S_hi[r] - B) <= logit[r] <= high[r] = logit(3 S_hi[r] + B)

Step 2 reads the lo of rows that may still count, which gives their logits.  M is the largest of all low and all logits that are
known, and rises only.  A row whose high is below M - gap does not count: with gap 0 only rows count that may be the pick, with a
gap those whose logit may be within the gap of the pick's.

Rows come in the order of their numbers.  The row with the largest low that was not read yet is the *leader* (of equal ones the
first).  Before a row comes, while CANDIDATES rows wait, all that wait are read or dropped.  Then:

- a row whose low is above M becomes the leader, and the leader before it waits, behind all others that wait;
- another row waits if its high is M - gap or more, and is dropped otherwise.

Behind the last row all that wait are read or dropped.  That is: the leader is read.  Then batches are made, as long as rows wait:
the rows are looked at in the order in which they wait, those whose high is below M - gap are dropped, and the batch ends with
BATCH others or with the last row that waits.  The rows of a batch are read, and M rises.

So the rows that are read, and their order, depend on the sums alone, and not on the memory's timing.
"""

from collections import deque
from collections.abc import Sequence

from tellme.spec.packing import slices
from tellme.spec.sampling import TOP_P_ONE, DrawSettings, max_gap

__all__ = ["BATCH", "CANDIDATES", "LOW_PAGE", "MOST_GAP", "low_row_words", "read_rows", "serves"]

#: Rows that may wait, beside the leader.
CANDIDATES = 512
#: Rows that are read between two looks at M.
BATCH = 8
#: 32-bit words that the place of the rows of the lowest plane is a multiple of, so that 16 bits name it in any memory.
LOW_PAGE = 1 << 12
#: The largest gap of a draw with which two steps are worth while: min-p 0.01.
MOST_GAP = max_gap(0.01)


def low_row_words(dim: int) -> int:
    """32-bit words of a row of the lowest plane: a slice of 20 trits each."""
    return slices(dim)


def serves(settings: DrawSettings) -> bool:
    """Whether a draw with these settings is the same from the rows that two steps read, and worth while: min-p of 0.01 or more,
    any top-k, no top-p, which counts all candidates' weights."""
    return settings.max_gap <= MOST_GAP and settings.top_p == TOP_P_ONE


def read_rows(low: Sequence[int], high: Sequence[int], logits: Sequence[int], gap: int, *, candidates: int = CANDIDATES,
              batch: int = BATCH) -> list[int]:
    """The rows that are read, in their order.  ``logits`` counts only where a row is read.  There is a row at least."""
    most: int | None = None
    leader: int | None = None
    waiting: deque[int] = deque()
    read: list[int] = []

    def resolve() -> None:
        nonlocal most, leader
        if leader is not None:
            assert most is not None
            read.append(leader)
            most, leader = max(most, logits[leader]), None
        while waiting:
            assert most is not None
            chosen: list[int] = []
            while waiting and len(chosen) < batch:
                row = waiting.popleft()
                if high[row] >= most - gap:
                    chosen.append(row)
            read.extend(chosen)
            most = max([most, *(logits[row] for row in chosen)])

    for row in range(len(low)):
        if len(waiting) == candidates:
            resolve()
        if most is None or low[row] > most:
            if leader is not None:
                waiting.append(leader)
            leader, most = row, low[row]
        elif high[row] >= most - gap:
            waiting.append(row)
    resolve()
    return read
