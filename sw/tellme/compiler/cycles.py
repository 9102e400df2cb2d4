# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Analytic model: cycles of a pass, and what follows from them for sequences side by side, drafted tokens and two steps.

The model walks through the steps of the layer program.  The weight buffer fills at the memory's rate while the engine rests, and
with what attention leaves of that rate.  Each unit's cycles are those of its docstring; some numbers (STEP, TOKEN, RUN, WAITING
and LOOK below) were fitted to simulated passes.  docs/reports/sequences.json and docs/reports/drafts.json have simulated passes,
and tests/compiler/test_cycles.py holds the model against them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Image
from tellme.models.config import ModelConfig
from tellme.spec.config import CoreConfig
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.packing import SLICE, slices, tile_rows
from tellme.spec.program import Descriptor, Epilogue, Op
from tellme.spec.two_steps import low_row_words

__all__ = ["PassModel", "Run", "measured_list", "random_list", "watchdog_cycles"]

#: Part of its peak that a memory reaches in sequence: of SDR, and of DDR3.
RATE, DDR3_RATE = 0.99, 0.964
#: Cycles in which the tables of a slice are built.
BUILD = 55
#: Cycles of a step beside its codes, tables, words and sums: control, ways through the pipelines, scales.  Descriptors that are
#: read at once save AHEAD of them.
STEP, AHEAD = 110, 6
#: Cycles of a token's rows beside the row's elements, and of telling a pick.
TOKEN, TOLD = 140, 22
#: Cycles of a run of attention beside its words and sums: from its start to the first word.
RUN = 45
#: Cycles of two steps beside their words: of a row that is read, and of looking at the rows that wait.
ROW, LOOK = 7, 3000
#: Attention: cycles of a slot without a word, from its last V word to its first sum, and from its last sum to the next slot's V.
SLOT, DRAIN, REFILL = 26, 23, 9
#: Cycles of a candidate of a list beside those of the entries that move, in the LM head of several tokens.
CANDIDATE = 4
#: Cycles of candidates of the lists that wait while rows go on.  The queue has room for 512 candidates, of which a list has
#: outgrown most when it takes them.
WAITING = 3000

#: The watchdog's bound over the model's longest pass.  Checksums that a host asks for meanwhile take a third of the memory's
#: time at most, and what the model leaves out of a core is far less than the rest.
WATCHDOG_FACTOR, WATCHDOG_SLACK = 4, 100_000


class Run(NamedTuple):
    """Tokens of a pass at consecutive positions of one sequence, from ``position`` on."""

    position: int
    tokens: int = 1


@cache
def random_list(rows: int, low: int = 0) -> NDArray[np.float64]:
    """Cycles that each of ``rows`` logits takes of its token's list of the best 64, in the mean, if their order is random.

    ``low``: so many of the first logits are below all others, as those of a vocabulary's byte tokens are.  Both parts are in a
    random order.  Logit i of a part is among the part's best 64 so far with probability min(1, 64 / (i + 1)).  It takes CANDIDATE
    cycles, and one for each entry that moves: half of those of its part, and all of the part below.
    """
    def part(count: int, below: int) -> NDArray[np.float64]:
        i = np.arange(count)
        own = np.minimum(i, TOP_ENTRIES - 1)
        return np.minimum(1, TOP_ENTRIES / (i + 1)) * (CANDIDATE + own / 2 + np.minimum(below, TOP_ENTRIES - 1 - own))

    return np.concatenate([part(min(low, rows), 0), part(max(rows - low, 0), low)])


def measured_list(logits: NDArray[np.int32]) -> NDArray[np.float64]:
    """The same for logits (states, rows) that a model gave."""
    cycles = np.zeros(logits.shape[1])
    for state in logits:
        best: list[int] = []
        for row, logit in enumerate(state.tolist()):
            if len(best) < TOP_ENTRIES or logit > best[0]:
                if len(best) == TOP_ENTRIES:
                    best.pop(0)
                at = bisect_left(best, logit)
                best.insert(at, logit)
                cycles[row] += CANDIDATE + at
    return cycles / len(logits)


class _Buffer:
    """The weight buffer, in words of 32 bits, and the time in cycles."""

    def __init__(self, room: float, rate: float, left: float):
        self.room, self.rate = room, rate
        #: Words held; words of the pass that the memory has not sent.
        self.held, self.left, self.time = 0.0, left, 0.0

    def rest(self, cycles: float, taken: float = 0.0) -> None:
        """The engine rests, while others take so many words of the memory."""
        self.time += cycles
        self._fill(max(0.0, self.rate * cycles - taken))

    def _fill(self, words: float) -> None:
        words = min(words, self.room - self.held, self.left)
        self.held, self.left = self.held + words, self.left - words

    def eat(self, words: float, cycles: float) -> None:
        """The engine takes words, in so many cycles if none is missing."""
        # What is not there yet comes at the memory's rate.
        needed = max(cycles, (words - self.held) / self.rate)
        sent = min(self.rate * needed, self.left, self.room - self.held + words)
        self.time += needed
        self.left -= sent
        self.held = max(0.0, self.held + sent - words)


@dataclass(frozen=True)
class PassModel:
    """Cycles of a model's passes on a core.

    ``lists``: cycles that each row's logit takes of a token's list of the best 64 (:func:`measured_list`); None: those of logits
    in a random order (:func:`random_list`).
    """

    config: ModelConfig
    image: Image
    core: CoreConfig
    lists: NDArray[np.float64] | None = None

    # ------------------------------------------------------------------ parts
    @property
    def _step(self) -> int:
        return STEP - AHEAD * self.core.wide_program

    @property
    def rate(self) -> float:
        """Words of 32 bits that the memory sends a cycle."""
        return self.core.word_lanes * (DDR3_RATE if self.core.ddr3 else RATE)

    def _stream(self, lm_head: bool, *, two_steps: bool = False) -> int:
        """Words of 32 bits of the layers' segments, or of the LM head's whole tiles, or of its tiles without the lowest plane."""
        return sum(2 * s.words64 for s in self.image.segments if (s.lm_head, s.two_steps) == (lm_head, two_steps))

    def _planes(self) -> tuple[float, float]:
        """Planes of a matrix and of the LM head, in the mean."""
        c, image = self.config, self.image
        trits = c.ternary_weights if image.trits is None else image.trits
        head = image.head_trits or 0
        return trits / c.ternary_weights, head / (c.vocab * c.dim)

    def attention(self, runs: Sequence[Run]) -> tuple[float, float]:
        """Cycles of an ATTENTION step of the runs of a pass, and the words of 32 bits that it reads."""
        c, core = self.config, self.core
        group, lanes = c.heads // c.kv_heads, core.widths.attention_bits // 8
        pes = core.pes if core.chunk > 1 else group
        units = core.exp_units if core.chunk > 1 else pes
        row_words, rate = c.head_dim // lanes, self.rate * 4 / lanes
        after, time, words = sum(run.tokens for run in runs), 0.0, 0.0
        alone = after == 1 and lanes == 4
        for run in runs:
            after -= run.tokens
            first, last = after * group, (after + run.tokens) * group - 1
            end = run.position + run.tokens
            scales = ceil(4 * end / lanes)
            at, sums = float(RUN), 0.0
            for _ in range(c.kv_heads):
                at += scales / rate
                words += scales
                for slot in range(first // pes, last // pes + 1):
                    keys = end - max(0, slot * pes - first) // group - alone
                    working = min(last + 1 - slot * pes, pes)
                    pairs = working - max(0, first - slot * pes)
                    row = max(row_words / rate, ceil(working / units))
                    at = max(at + (keys + alone) * row + SLOT, sums + REFILL) + (keys + alone) * row
                    sums = at + DRAIN + pairs * c.head_dim
                    words += 2 * keys * row_words
            time += sums
        return time, words * lanes / 4

    def _matrix(self, buffer: _Buffer, tiles: Sequence[int], cols: int, planes: float, tokens: int, words: float,
                sums: float, stall: float = 0.0) -> None:
        """The engine works for a matrix of tiles of so many rows, in ``words`` words; a row's sums leave in ``sums`` cycles.
        ``stall``: cycles for which the engine waits besides."""
        core, width, rows_in_all = self.core, slices(cols), sum(tiles)
        rows_a_step = core.decode_rows if tokens == 1 else core.prefill_rows
        codes = SLICE * ceil(tokens / core.float_lanes)
        began, left = buffer.time, 0.0
        for number, rows in enumerate(tiles):
            steps = max(rows / rows_a_step, BUILD + 3)
            # Each slice's codes come while the first tile runs.
            first = max(steps, codes) if number == 0 else steps
            # A sum leaves when it is complete, and behind those of the tile before.
            buffer.eat(words * rows / rows_in_all, (first + (planes - 1) * steps) * width + 4)
            left = max(left, buffer.time - began - steps) + rows * sums
        buffer.rest(stall + max(0.0, left - (buffer.time - began)))

    # ------------------------------------------------------------------ a pass
    def cycles(self, runs: Sequence[Run], headed: int | None = None, *, begins: bool = False,
               rows_read: float | None = None) -> float:
        """Cycles of a pass.

        ``headed``: tokens for which the LM head works; None: all of the pass, 0: none.  ``begins``: the pass is the first one of
        its START, so that the weight buffer is empty.  ``rows_read``: the LM head goes in two steps, for one token, and reads so
        many rows whole.
        """
        c, core = self.config, self.core
        tokens = sum(run.tokens for run in runs)
        headed = tokens if headed is None else headed
        share = ceil(tokens / core.float_lanes)
        body, head_words = self._stream(False), self._stream(True, two_steps=rows_read is not None)
        linears = [d for d in self.image.program if d.op == Op.LINEAR]
        sizes = [d.rows * slices(d.cols) for d in linears]
        planes, head_planes = self._planes()
        buffer = _Buffer(core.weight_buffer_bytes / 4, self.rate, body + head_words * bool(headed))
        if core.slots == 1 and not begins:
            # Read ahead while the pass before ended.  With several slots it has to be told first whether the LM head works.
            buffer.held = min(buffer.room, buffer.left)
            buffer.left -= buffer.held
        for d in self.image.program:
            if d.op == Op.EMBED:
                buffer.rest(tokens * (c.dim + TOKEN + c.head_dim / 2 / core.word_lanes), tokens * (c.dim + 2 * c.head_dim) / 4)
                buffer.rest(self._step)
            elif d.op == Op.ATTENTION:
                cycles, words = self.attention(runs)
                buffer.rest(cycles + self._step - STEP / 2 + 8 * (len(runs) - 1), words)
            elif d.op == Op.LINEAR:
                buffer.rest(self._step + SLICE * share + BUILD)
                self._matrix(buffer, self._tiles(d), d.cols, planes, tokens, body * d.rows * slices(d.cols) / sum(sizes),
                             share)
            elif d.op == Op.HEAD and headed:
                self._head(buffer, headed, head_words, head_planes - (rows_read is not None))
                if rows_read is not None:
                    # Row by row, while nothing else wants the memory.
                    words = low_row_words(c.dim)
                    buffer.rest(LOOK + rows_read * (ROW + words / core.word_lanes), rows_read * words)
        buffer.rest(len(runs) * 9 + headed * TOLD + core.slots)
        return buffer.time

    def _tiles(self, d: Descriptor) -> list[int]:
        unit = self.config.head_dim if d.epilogue == Epilogue.QKV else 1
        return [rows for _, rows in tile_rows(d.rows, unit, most=self.core.tile_rows, least=self.core.least_rows)]

    def _head(self, buffer: _Buffer, headed: int, words: float, planes: float) -> None:
        """The LM head's step.  Where a row's candidates take longer than the row, as many wait as there is room for."""
        c, core = self.config, self.core
        rows_a_step = core.decode_rows if headed == 1 else core.prefill_rows
        buffer.rest(self._step + SLICE * ceil(headed / core.float_lanes) + BUILD)
        rows = c.vocab + c.vocab % 2
        tiles = [rows for _, rows in tile_rows(rows, 1, most=core.tile_rows, least=core.least_rows)]
        # A sum takes a cycle, of a single token two.
        sums = max(headed, 2)
        row = max(words / rows / self.rate, planes * slices(c.dim) / rows_a_step, sums)
        work = headed * (random_list(c.vocab) if self.lists is None else self.lists)
        stall = waiting = 0.0
        for cycles in work:
            waiting += cycles - row
            stall += max(0.0, waiting - WAITING)
            waiting = min(max(0.0, waiting), WAITING)
        self._matrix(buffer, tiles, c.dim, planes, headed, words, sums, stall)
        buffer.rest(waiting)

    # ------------------------------------------------------------------ what follows
    def tokens_per_second(self, cycles: float) -> float:
        """Of a token in so many cycles."""
        return 1e6 * self.core.fabric_mhz / cycles

    def aggregate(self, position: int, sequences: int) -> float:
        """Tokens a second of so many sequences that decode side by side, all at a position."""
        return sequences * self.tokens_per_second(self.cycles([Run(position)] * sequences))

    def draft_cost(self, position: int, drafted: int) -> float:
        """What a drafted token costs, in tokens of plain decode: of a pass with so many drafted tokens its cycles beyond those of
        a pass of one token, a drafted token, over the latter."""
        one = self.cycles([Run(position)])
        return (self.cycles([Run(position, 1 + drafted)]) / one - 1) / drafted

    def drafted(self, position: int, drafted: int, tokens_a_pass: float) -> float:
        """Tokens a second of one sequence whose passes have so many drafted tokens and give ``tokens_a_pass`` in the mean."""
        return tokens_a_pass * self.tokens_per_second(self.cycles([Run(position, 1 + drafted)]))


def watchdog_cycles(config: ModelConfig, image: Image, core: CoreConfig) -> int:
    """Cycles within which any pass of a model ends on a core that works: WATCHDOG_FACTOR times those of the longest pass by the
    analytic model, and WATCHDOG_SLACK.

    The longest pass has as many tokens as the core has lanes, at the end of the context, or a token of each slot there.  The LM
    head works for all of them.
    """
    model, context = PassModel(config, image, core), config.context
    tokens = min(core.chunk, context)
    passes = [[Run(context - tokens, tokens)], [Run(context - 1)] * image.slots]
    return WATCHDOG_FACTOR * ceil(max(model.cycles(runs, begins=True) for runs in passes)) + WATCHDOG_SLACK
