# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Compares what a board computed with the golden model, and what its memory holds with what was loaded.

A bit that flips in a board that works may change tokens, and nothing else tells (docs/decisions/0019-soft-faults.md).
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Image
from tellme.errors import CheckError
from tellme.golden.board import CHUNK, GoldenBoard, NonfiniteError
from tellme.golden.head import best
from tellme.link.client import REGION, padded
from tellme.spec.memory import SDRAM_BASE, Event
from tellme.spec.ranges import COUNT16
from tellme.spec.sampling import DrawSettings, draw

__all__ = ["Checker", "Difference", "HostTables", "MemorySums", "Pick"]

#: Regions that are compared at a time, so that packets of runs come between.
REGIONS_AT_ONCE = 8


class Pick(NamedTuple):
    """A token that was picked behind a position, and its logit in Q15.16."""

    position: int
    token: int
    logit: int

    def __str__(self) -> str:
        return f"token {self.token} (logit {self.logit}) behind position {self.position}"


@dataclass(frozen=True)
class Difference:
    """What a board computed otherwise than the golden model.

    ``last``: the last position that was computed.  ``got`` and ``wanted``: the first pick that differs, the board's and the
    golden model's, or None.  ``step``: the first step of the layer program whose CRC differs at position ``last``, or None.
    """

    last: int
    got: Pick | None = None
    wanted: Pick | None = None
    step: int | None = None

    @property
    def wrong_token(self) -> bool:
        """Whether a token itself differs, and not its logit or a CRC alone."""
        return self.got is not None and self.wanted is not None and self.got.token != self.wanted.token

    def text(self, step: str) -> str:
        """The difference in words; ``step`` names the step."""
        parts = [] if self.got is None else [f"it picked {self.got}, and the golden model {self.wanted}"]
        if self.step is not None:
            parts.append(f"{step} is the first of the steps at position {self.last} that gave other bits")
        return "; ".join(parts)


class HostTables(Protocol):
    """Embedding and LM head that are on the host (:mod:`tellme.runtime.head_on_host`)."""

    def embedding_rows(self, ids: Sequence[int]) -> bytes:
        """The rows of tokens as the board gets them, in the order of the tokens."""

    def model_logits(self, probed: NDArray[np.int32]) -> NDArray[np.int32]:
        """The model's logits (vocab,), from the logits of the probe (dim,)."""


class Checker:
    """The golden model beside one sequence of a board.

    ``every``: tokens from a comparison to the next, 1 to 65,535; a RangeError else.  ``vocab``: of the model.  ``lanes``: prompt
    tokens that the board works on at a time.  ``tables``: embedding and LM head, where they are on the host.

    The golden model computes each token that the board was fed, as K and V of all of them are needed, several at a time.
    """

    def __init__(self, image: Image, every: int, *, vocab: int, lanes: int = 1, tables: HostTables | None = None):
        self.every, self._vocab, self._lanes, self._tables = COUNT16.check("check", every), vocab, lanes, tables
        self._golden = GoldenBoard(image, lanes, sampler=False)
        #: Tokens whose K and V lie in the golden model's cache.
        self._ids: list[int] = []

    def compare(self, ids: Sequence[int], picks: Sequence[Event], settings: DrawSettings | None,
                crcs: Sequence[int] | None) -> Difference | None:
        """Compare the board's picks behind the last positions, and its step CRCs of the last one.

        ``ids``: the tokens of positions 0 to the last one that was fed.  ``picks``: the event of each of the last positions.
        ``settings``: how the board drew; None: it took the likeliest token.  ``crcs``: None if they are not those of the last
        position.
        """
        ids, picks, first = list(ids), list(picks), len(ids) - len(picks)
        strange = next((number for number, pick in enumerate(picks[:-1]) if pick.id >= self._vocab), None)
        if strange is not None:
            # No token, and so it cannot be fed.
            ids, picks, crcs = ids[:first + strange + 1], picks[:strange + 1], None
        last = len(ids) - 1
        differ: tuple[Pick, Pick] | tuple[None, None] = (None, None)
        try:
            for position, logits in self._computed(ids, first):
                event = picks[position - first]
                token = int(logits.argmax()) if settings is None else draw(best(logits), settings, position + 1)
                got, wanted = Pick(event.position, event.id, event.logit), Pick(position, token, int(logits[token]))
                if differ[0] is None and got != wanted:
                    differ = got, wanted
        except NonfiniteError as error:
            return Difference(last, differ[0], differ[1], error.step)
        step = None if crcs is None else next(
            (number for number, (a, b) in enumerate(zip(crcs, self._golden.crcs[:-1], strict=True)) if a != b), None)
        return None if differ[0] is None and step is None else Difference(last, differ[0], differ[1], step)

    def nonfinite(self, ids: Sequence[int]) -> int | None:
        """The step that gives an infinity or NaN at one of the tokens ``ids`` of positions 0 and up; None: there is none."""
        try:
            for _ in self._computed(ids, len(ids) - 1):
                pass
        except NonfiniteError as error:
            return error.step
        return None

    def _computed(self, ids: Sequence[int], first: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Feed what the golden model was not fed, and from position ``first`` on all; the logits behind each of the latter."""
        limit = min(len(self._ids), first)
        at = next((i for i in range(limit) if self._ids[i] != ids[i]), limit)
        del self._ids[at:]
        while at < len(ids):
            heads = at >= first
            end = min(at + CHUNK, len(ids) if heads else first)
            part = list(ids[at:end])
            if self._tables is not None:
                # Token memory names the rows by number.
                self._golden.write(4 * self._golden.registers["embed_base"], self._tables.embedding_rows(part))
                part = list(range(len(part)))
            logits = self._golden.feed(part, at, heads="all" if heads else "none", chunk=self._lanes)
            self._ids += ids[at:end]
            for number, row in enumerate(logits):
                yield at + number, row if self._tables is None else self._tables.model_logits(row)
            at = end


class Sums(Protocol):
    """A board whose memory is summed (:meth:`tellme.runtime.device.Device.checksums`)."""

    def checksums(self, ranges: Sequence[tuple[int, int]]) -> list[int]: ...


class MemorySums:
    """CRC-32 of the regions of an image's sections: weights, LM head, embedding, RoPE rows, drafts.

    The sums are computed when they are first wanted, which reads the model's file once more.
    """

    def __init__(self, image: Image):
        self._image = image
        self._regions: list[tuple[int, int, int]] | None = None
        self._next = 0
        #: Slots of a board ask each for itself.
        self._lock = threading.Lock()

    @property
    def regions(self) -> list[tuple[int, int, int]]:
        """(address, bytes, CRC-32) of each."""
        if self._regions is None:
            self._regions = []
            for base, part in self._image.sections:
                address = SDRAM_BASE + base
                for content in part.chunks():
                    for at in range(0, len(content), REGION):
                        words = padded(content[at:at + REGION])
                        self._regions.append((address + at, len(words), crc32(words)))
                    address += len(content)
        return self._regions

    def check(self, board: Sums, most: int | None = None) -> int:
        """Compare the board's memory with the sums; the bytes that were compared.

        ``most``: regions until these are so many bytes, and the regions behind them at the next call, all in turn; None: all.  A
        region that differs is a CheckError.
        """
        with self._lock:
            return self._check(board, most)

    def _check(self, board: Sums, most: int | None) -> int:
        regions, done, left = self.regions, 0, len(self.regions)
        at = 0 if most is None else self._next
        while left and (most is None or not done or done < most):
            some: list[tuple[int, int, int]] = []
            while left and len(some) < REGIONS_AT_ONCE and (most is None or not done or done < most):
                some.append(regions[at])
                done, left, at = done + regions[at][1], left - 1, (at + 1) % len(regions)
            found = board.checksums([(address, size) for address, size, _ in some])
            if most is not None:
                self._next = at
            for (address, size, wanted), got in zip(some, found, strict=True):
                if got != wanted:
                    raise CheckError(f"the board's memory does not hold what was loaded: {size} bytes at {address:#x} have "
                                     "another checksum; load the model again, and run tellme-host selftest if this comes again")
        return done
