# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.golden.head_bounds MODEL --text PATH``: an LM head in two steps, and the share of rows that the second one
reads.

Step 1 takes the upper planes of all rows.  A row's logit then lies within a bound of what these planes give.  Step 2 takes
the lower planes of the rows that can still count: those whose upper limit reaches a threshold.  What counts is a set: the
pick, the best K, the candidates that min-p leaves, or those that a draw needs.  The result is exact, because every bound
holds whatever the lower planes are.

The states are those behind tokens that the golden model writes, greedily and at temperature 0.5, after the first tokens of
the texts of a file.  For each bound and set a line says which share of the rows is read whole:

known: the mean share if the set's last logit is known ahead.  No way to do step 2 reads fewer rows.

mean, median, 90 %, 99 %: the 64 rows with the largest estimates are read first, and their logits give the threshold.  The last
two are the shares that 90 % and 99 % of the states do not pass.

bytes: those of the head, with the bound's own, relative to all planes of all rows.

"Across directions" is a bound with a better estimate: the part of the lower planes along some directions, in which the states
are large, is stored beside a row.  The directions are those of the states of other texts.  "One plane, then two" reads the
second plane of the rows that the first one leaves, and the third plane of the rows that both leave.  "Rows of 4 states": four
tokens of a pass read the rows of any of the four.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import compile_model
from tellme.golden.board import CHUNK, GoldenBoard
from tellme.golden.elementwise import F16
from tellme.golden.perplexity import golden_board, unlimited_config
from tellme.golden.scales import Scales, fixed, scale_mul
from tellme.models.shipped import checked_model
from tellme.models.source import StoredSource
from tellme.runtime.sampling import Sampling
from tellme.spec import two_steps
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.packing import ROW_WORD_BYTES, SLICE_BYTES, planes_for, slices
from tellme.spec.program import Descriptor, Op
from tellme.spec.sampling import max_gap
from tests.golden.batch import State, texts_of, write
from tests.golden.drafts import prompts_of

__all__ = ["BOUNDS", "SETS", "Head", "Reach", "estimates", "limits", "partial", "read_rows", "relative_bytes", "set_threshold"]

Rows = NDArray[np.int64]
Bound = Callable[["Head", NDArray[np.int8]], Rows]
#: Share of a float bound that its own rounding may take.
_MARGIN = 1 + 1e-9


class Head:
    """The integers (vocab, dim) of an LM head in two parts: ``upper`` has the upper planes, ``rest`` the lower ones.

    Balanced ternary has one form of each integer, so that there is one such split for each number of upper planes.
    ``directions`` (k, dim) are orthonormal, for the bound of projections.
    """

    def __init__(self, table: NDArray[np.integer], upper_planes: int, directions: NDArray[np.float64] | None = None):
        self.planes = planes_for(int(np.abs(table).max()))
        self.upper_planes = upper_planes
        self.lower = 3 ** (self.planes - upper_planes)
        reach = (self.lower - 1) // 2
        whole = table.astype(np.int64)
        self.rest = ((whole + reach) % self.lower - reach).astype(np.float32)
        self.upper = (whole - self.rest.astype(np.int64)).astype(np.float32)
        self.reach = reach
        self.absolute = np.abs(self.rest).sum(axis=1).astype(np.float64)
        self._groups: dict[int, NDArray[np.float64]] = {}
        self._sorted = np.sort(np.abs(self.rest), axis=1)[:, ::-1]
        self.directions = directions
        if directions is not None:
            self.along = self.rest @ directions.T
            self.across = np.sqrt(np.maximum(np.square(self.rest.astype(np.float64) - self.along @ directions).sum(axis=1), 0))

    def norms(self, columns: int) -> NDArray[np.float64]:
        """Norms of the lower planes' integers in groups of columns: (vocab, groups)."""
        if columns not in self._groups:
            self._groups[columns] = np.stack([np.sqrt(np.square(self.rest[:, at:at + columns]).sum(axis=1, dtype=np.float64))
                                              for at in range(0, self.rest.shape[1], columns)], axis=1)
        return self._groups[columns]

    def ordered(self, codes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest sum of each row's lower planes with the codes in any order and with any signs."""
        return self._sorted @ np.sort(np.abs(codes))[::-1]


def partial(head: Head, codes: NDArray[np.int8]) -> Rows:
    """The sums of the upper planes."""
    return (head.upper @ codes.astype(np.float32)).astype(np.int64)


def _floor(bound: NDArray[np.float64]) -> Rows:
    """A bound of integers is one itself."""
    return np.floor(bound * _MARGIN).astype(np.int64)


def _groups(columns: int) -> Bound:
    def bound(head: Head, codes: NDArray[np.int8]) -> Rows:
        q = codes.astype(np.float64)
        norms = np.array([np.sqrt(np.square(q[at:at + columns]).sum()) for at in range(0, len(q), columns)])
        return _floor(head.norms(columns) @ norms)
    return bound


def _projections(head: Head, codes: NDArray[np.int8]) -> Rows:
    """The rest across the directions by norms.  What lies along the directions is added to the partial sum by
    :func:`estimates`."""
    assert head.directions is not None
    q = codes.astype(np.float64)
    across = np.sqrt(max(0.0, float(np.square(q - head.directions.T @ (head.directions @ q)).sum())))
    return np.ceil(head.across * across * _MARGIN).astype(np.int64) + 1


#: The bound that has an estimate of its own.
ACROSS = "norms across directions"
#: Name -> the largest magnitude of the lower planes' sum with the codes, for each row.
BOUNDS: Mapping[str, Bound] = {
    "sum of |row|, largest |code|": lambda head, codes: _floor(head.absolute * int(np.abs(codes.astype(int)).max())),
    "largest |weight|, sum of |codes|": lambda head, codes: np.full(len(head.rest), head.reach * int(
        np.abs(codes.astype(int)).sum())),
    "norms": _groups(1 << 20),
    "norms of 60 columns": _groups(60),
    "norms of 20 columns": _groups(20),
    "any order and signs": lambda head, codes: _floor(head.ordered(codes.astype(np.float64))),
    ACROSS: _projections,
}


class Reach(NamedTuple):
    """What is counted: the best ``count`` logits, of which those more than ``gap`` (Q15.16) below the best one do not count."""

    count: int
    gap: int | None = None


def _gap(nats: float) -> int:
    return int(nats * 2**LOGIT_FRAC)


SETS: Mapping[str, Reach] = {
    "pick": Reach(1), "min-p 0.1": Reach(TOP_ENTRIES, max_gap(0.1)), "min-p 0.05": Reach(TOP_ENTRIES, max_gap(0.05)),
    # 64 tokens that are not known have together 1 % of the best one's weight at most: 99 % of the draws do not need them.
    "99 % of draws, T 0.5": Reach(TOP_ENTRIES, _gap(0.5 * np.log(64 / 0.01))),
    "99 % of draws, T 1": Reach(TOP_ENTRIES, _gap(np.log(64 / 0.01))),
    "top-k 10": Reach(10), "top-k 40": Reach(40), "best 64": Reach(TOP_ENTRIES),
}


def set_threshold(logits: Rows, reach: Reach) -> int:
    """The least logit that counts, of those that are known; a row below cannot count, whatever rows are not known."""
    top = np.sort(np.partition(logits, -min(reach.count, len(logits)))[-reach.count:])
    last = int(top[0]) if len(top) == reach.count else -(1 << 31)
    return last if reach.gap is None else max(last, int(top[-1]) - reach.gap)


def estimates(head: Head, name: str, codes: NDArray[np.int8]) -> Rows:
    """The sums of the upper planes, and what a bound adds to them."""
    sums = partial(head, codes)
    if name == ACROSS:
        assert head.directions is not None
        sums = sums + np.rint(head.along @ (head.directions @ codes.astype(np.float64))).astype(np.int64)
    return sums


def limits(head: Head, name: str, codes: NDArray[np.int8], scale: Scales) -> tuple[Rows, Rows]:
    """The logit that each row has by its estimate, and the largest that it can have, Q15.16."""
    sums = estimates(head, name, codes)
    return fixed(sums, scale, LOGIT_FRAC, 32), fixed(sums + BOUNDS[name](head, codes), scale, LOGIT_FRAC, 32)


def read_rows(upper: Rows, logits: Rows, reach: Reach, first: NDArray[np.intp] | None = None) -> NDArray[np.bool_]:
    """The rows that are read whole: ``upper`` has each row's largest possible logit, ``logits`` the real ones.

    The rows ``first`` are read ahead of all others and give the threshold; None: the threshold is known.
    """
    if first is None:
        return upper >= set_threshold(logits, reach)
    read = upper >= set_threshold(logits[first], reach)
    read[first] = True
    return read


def relative_bytes(planes: int, upper: int, dim: int, share: float, stored: float) -> float:
    """Bytes of a head in two steps over those of all planes; ``stored``: bytes a row of the bound.  Rows have a row word."""
    plane = slices(dim) * SLICE_BYTES
    whole = planes * plane + ROW_WORD_BYTES
    return (upper * plane + ROW_WORD_BYTES + stored + share * (planes - upper) * plane) / whole


#: Those of the sets that a board takes in two steps, with the gap.
GAPS = {"pick": 0, "min-p 0.1": max_gap(0.1), "min-p 0.05": max_gap(0.05)}
#: Tokens of a pass with drafts: states that follow each other, whose rows are read together.
DRAFTED = 4
#: Bytes a row that a bound stores.  One number of 16 bits has room in the bias of a head's row word.
STORED = {"norms of 60 columns": 60, "norms of 20 columns": 20}


class _Watched(GoldenBoard):
    """Keeps the states that its LM head takes."""

    def _quantise(self, number: int, d: Descriptor, x: F16, gains: F16 | None) -> tuple[NDArray[np.int8], Scales]:
        made = super()._quantise(number, d, x, gains)
        if d.op == Op.HEAD:
            self.states = made[0]
        return made


def directions_of(model: StoredSource, texts: Sequence[Sequence[int]], tokens: int, count: int) -> NDArray[np.float64]:
    """The directions with the largest share of the squares of the states in texts, orthonormal: (count, dim)."""
    board = _Watched(compile_model(model, unlimited_config(model)))
    products, total = np.zeros((model.config.dim,) * 2), 0
    for text in texts:
        if total >= tokens:
            break
        # A run of the golden model computes up to CHUNK tokens.
        for at in range(0, len(text), CHUNK):
            board.feed(text[at:at + CHUNK], at, heads="all")
            products += board.states.astype(np.float64).T @ board.states.astype(np.float64)
        total += len(text)
    vectors = np.linalg.eigh(products)[1]
    return vectors[:, ::-1][:, :count].T


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.head_bounds", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="stories-8m")
    parser.add_argument("--text", type=Path, required=True, help="texts whose first tokens are the prompts")
    parser.add_argument("--stories", type=int, default=6, help="texts that are written at each temperature (default: 6)")
    parser.add_argument("--prompt-tokens", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=40, help="tokens of a text at most (default: 40)")
    parser.add_argument("--directions", default="16,64", help="numbers of directions, with commas (default: 16,64)")
    parser.add_argument("--direction-tokens", type=int, default=2000, metavar="N", help="tokens of other texts, whose "
                        "states give the directions")
    args = parser.parse_args()
    model = checked_model(args.model)
    given = texts_of(model, args.text.read_text())
    prompts = prompts_of(given, args.stories, args.prompt_tokens)
    others = [text for text in given if text[:args.prompt_tokens] not in prompts]
    head = golden_board(model)._head
    table = np.concatenate([block for _, block in head.blocks()]).astype(np.int64)
    counts = [int(n) for n in args.directions.split(",")]
    directions = directions_of(model, others, args.direction_tokens, max(counts))
    greedy, drawn = ([Sampling(temperature=t, seed=seed).settings() for seed in range(len(prompts))] for t in (0.0, 0.5))
    texts = write(model, [*prompts, *prompts], args.tokens, [*greedy, *drawn], states=True)
    for what, part in (("greedy", texts[:len(prompts)]), ("temperature 0.5", texts[len(prompts):])):
        report(what, table, head.scales, [s for text in part for s in text.states], directions, counts)
    return 0


def _line(name: str, chosen: str, known: Sequence[float], read: Sequence[float], size: float) -> None:
    print(f"{name:>34} {chosen:>20} {np.mean(known):6.3f} {np.mean(read):6.3f} {np.median(read):6.3f} "
          f"{np.quantile(read, .9):6.3f} {np.quantile(read, .99):6.3f} {size:6.3f}", flush=True)


def report(what: str, table: Rows, row_scales: Scales, states: Sequence[State], directions: NDArray[np.float64],
           counts: Sequence[int]) -> None:
    """The tables of some states."""
    vocab, dim = table.shape
    planes = planes_for(int(np.abs(table).max()))
    whole = np.stack([s.codes for s in states]).astype(float)
    squares = np.sort(np.square(whole), axis=1)[:, ::-1].cumsum(axis=1) / np.square(whole).sum(axis=1, keepdims=True)
    along = np.square(whole @ directions.T).cumsum(axis=1) / np.square(whole).sum(axis=1, keepdims=True)
    print(f"\n{what}: {len(states)} states.  Share of the codes' squares in the largest 20, 60, 120 of {dim} columns: "
          + ", ".join(f"{squares[:, n - 1].mean():.2f}" for n in (20, 60, 120))
          + f"; along {', '.join(map(str, counts))} directions: " + ", ".join(f"{along[:, n - 1].mean():.2f}" for n in counts))
    scales = [scale_mul(Scales(np.int64(s.sig), np.int64(s.exp)), row_scales) for s in states]  # type: ignore[arg-type]
    exact = table.astype(np.float64)
    logits = [fixed((exact @ s.codes.astype(np.float64)).astype(np.int64), scale, LOGIT_FRAC, 32)
              for s, scale in zip(states, scales, strict=True)]
    print(f"{'bound':>34} {'set':>20} {'known':>6} {'mean':>6} {'median':>6} {'90 %':>6} {'99 %':>6} {'bytes':>6}")
    cascade: dict[tuple[str, str], list[NDArray[np.bool_]]] = {}
    for upper_planes in range(1, planes):
        for number, head in enumerate(Head(table, upper_planes, directions[:n]) for n in counts):
            # Bounds without directions are those of the first head.
            for name in BOUNDS if number == 0 else (ACROSS,):
                by = [limits(head, name, s.codes, scale) for s, scale in zip(states, scales, strict=True)]
                stored = dim / STORED[name] if name in STORED else counts[number] if name == ACROSS else 0
                label = f"{upper_planes}: {name}" + f" ({counts[number]})" * (name == ACROSS)
                for chosen, reach in SETS.items():
                    known = [read_rows(u, full, reach).mean() for (_, u), full in zip(by, logits, strict=True)]
                    rows = [read_rows(u, full, reach, np.argpartition(e, -TOP_ENTRIES)[-TOP_ENTRIES:])
                            for (e, u), full in zip(by, logits, strict=True)]
                    read = [float(r.mean()) for r in rows]
                    _line(label, chosen, known, read, relative_bytes(planes, upper_planes, dim, float(np.mean(read)), stored))
                    if name == "largest |weight|, sum of |codes|" and upper_planes > 1:
                        together = [float(np.any(rows[at:at + DRAFTED], axis=0).mean())
                                    for at in range(0, len(rows) - DRAFTED + 1, DRAFTED)]
                        _line(f"rows of {DRAFTED} states", chosen, known, together,
                              relative_bytes(planes, upper_planes, dim, float(np.mean(together)), stored))
                    if name == "largest |weight|, sum of |codes|" and upper_planes == planes - 1 and chosen in GAPS:
                        # In the board's order (tellme.spec.two_steps), without rows that are read first.
                        lows = [fixed(estimates(head, name, s.codes) - BOUNDS[name](head, s.codes), scale, LOGIT_FRAC, 32)
                                for s, scale in zip(states, scales, strict=True)]
                        ordered = [len(two_steps.read_rows(low.tolist(), u.tolist(), full.tolist(), GAPS[chosen])) / vocab
                                   for low, (_, u), full in zip(lows, by, logits, strict=True)]
                        _line("as a board reads them", chosen, known, ordered,
                              relative_bytes(planes, upper_planes, dim, float(np.mean(ordered)), stored))
                    if name == ACROSS or name == "norms":
                        before = cascade.get((name + str(counts[number]), chosen))
                        if before is not None:
                            first = float(np.mean([r.mean() for r in before]))
                            both = [float((r & b).mean()) for r, b in zip(rows, before, strict=True)]
                            plane = slices(dim) * SLICE_BYTES
                            size = relative_bytes(planes, 1, dim, 0, stored) + (first + float(np.mean(both))) * plane / (
                                planes * plane + ROW_WORD_BYTES)
                            _line("one plane, then two: " + label[3:].replace("norms ", ""), chosen, [first], both, size)
                        cascade[name + str(counts[number]), chosen] = rows


if __name__ == "__main__":
    raise SystemExit(main())
