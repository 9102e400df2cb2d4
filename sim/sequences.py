# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sequences side by side on the simulated board: what a pass of all of them costs, and a run of texts that begin together.

A pass at a position: sequence s has its own text, whose keys and values of all positions before lie in the memory when power
comes, as the golden model computed them.  Sequence 0 decodes a token at the position before, and meanwhile the others start with
their token at the position.  So the next pass has a token of each.  Its cycles are those from sequence 0's pick before to the
last pick of the pass.  A single sequence's position 0 is counted from its START, as the pass before would be at no position.  At
position 0 sequence 0 is at position 1 in the pass.

A run: prompts of different lengths start as soon as the link brings them, and each sequence picks some tokens.

Each pick of both must be the golden model's for the sequence alone, or the measurement ends with a DeviceError.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tellme.compiler.cycles import PassModel, Run
from tellme.compiler.image import Image
from tellme.errors import DeviceError
from tellme.golden.board import GoldenBoard
from tellme.link.client import BoardClient
from tellme.spec.config import CoreConfig
from tellme.spec.memory import EventType, StartArgs, StartFlags, token_address

__all__ = ["Beside", "SequenceRun", "SideBySide"]

#: Tokens of the prompts of a run: the first sequence's, and how many more each of the next three has.
PROMPT, MORE = 2, 1
#: Cycles between the picks of a pass at most, a token and the end of its run; a pass takes many times as long.
TOLD = 256


@dataclass(frozen=True)
class Beside:
    """Cycles of a pass of a token of each of some sequences at a position; ``model``: as the analytic model has them."""

    sequences: int
    position: int
    cycles: int
    model: float

    def as_json(self, core: CoreConfig, alone: int | None) -> dict[str, object]:
        """The fields for a JSON object; ``alone``: cycles of one sequence at the position, if they were measured."""
        rate = 1e6 * core.fabric_mhz / self.cycles
        return {"sequences": self.sequences, "position": self.position, "cycles": self.cycles, "model_cycles": round(self.model),
                "tokens_per_second": round(self.sequences * rate, 2), "tokens_per_second_each": round(rate, 2),
                "x_alone": None if alone is None else round(self.sequences * alone / self.cycles, 3)}


@dataclass(frozen=True)
class SequenceRun:
    """A run of texts that begin together: ``tokens`` picks of each.  ``cycles`` from the first START to the last pick, prompts
    included.  In ``side_by_side`` cycles all of them decoded, ``passes`` passes."""

    sequences: int
    tokens: int
    prompts: tuple[int, ...]
    cycles: int
    passes: int
    side_by_side: int

    def as_json(self, core: CoreConfig) -> dict[str, object]:
        """The fields for a JSON object."""
        per_second = 1e6 * core.fabric_mhz
        decoding = self.sequences * self.passes * per_second / self.side_by_side if self.passes > 0 else None
        return {"sequences": self.sequences, "tokens_each": self.tokens, "prompt_tokens": list(self.prompts),
                "cycles": self.cycles, "tokens_per_second": round(self.sequences * self.tokens * per_second / self.cycles, 2),
                "passes_of_all": self.passes, "cycles_of_these": self.side_by_side,
                "tokens_per_second_of_these": None if decoding is None else round(decoding, 2)}


class SideBySide:
    """Measures on a board whose memory holds the image and :meth:`pieces`.

    ``texts``: token ids of each sequence, more than the last position by one.  ``end``: positions that the memory holds.
    """

    def __init__(self, image: Image, core: CoreConfig, model: PassModel, texts: Sequence[Sequence[int]], end: int):
        self._image, self._core, self._model, self._texts, self._end = image, core, model, texts, end
        self._golden = self._board()
        for slot, text in enumerate(texts):
            if end:
                self._golden.feed(text[:end], 0, heads="none", slot=slot)

    def _board(self) -> GoldenBoard:
        return GoldenBoard(self._image, self._core.chunk, head_tokens=self._core.head_tokens, slots=len(self._texts),
                           token_window=self._core.widths.token_window)

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """(address in the memory, content) of the keys, values and scales of all sequences."""
        for slot in range(len(self._texts)):
            if self._end:
                yield from self._golden.cache_pieces(slot, self._end)

    def _place(self, client: BoardClient, position: int, tokens: Sequence[int], slot: int) -> None:
        window = self._core.widths.token_window
        for number, token in enumerate(tokens):
            client.write(token_address(position + number, slot, window), int(token).to_bytes(4, "little"))

    def _pick(self, token: int, position: int, slot: int) -> int:
        return int(self._golden.feed([token], position, slot=slot)[-1].argmax())

    def measure(self, client: BoardClient, sequences: int, position: int) -> Beside:
        """A pass of so many sequences, all at a position; positions have to rise from one call with as many to the next."""
        texts = self._texts[:sequences]
        alone = sequences == 1 and position == 0
        first = max(position - 1, 0)
        leads = StartArgs(first, 1, 1 if alone else 2, StartFlags.CLEAR)
        self._place(client, first, [texts[0][first]], 0)
        for slot in range(1, sequences):
            self._place(client, position, [texts[slot][position]], slot)
        client.start(leads)
        for slot in range(1, sequences):
            client.start(StartArgs(position, 1, 1, StartFlags(0), slot=slot))
        heard = {slot: [event for kind, event in client.events(slot) if kind == EventType.TOKEN] for slot in range(sequences)}
        pick = self._pick(texts[0][first], first, 0)
        want = {0: [pick] if alone else [pick, self._pick(pick, first + 1, 0)]}
        want |= {slot: [self._pick(texts[slot][position], position, slot)] for slot in range(1, sequences)}
        self._compare({slot: [event.id for event in events] for slot, events in heard.items()}, want)
        told = [events[-1].cycles for events in heard.values()]
        cycles = max(told) - (0 if alone else heard[0][0].cycles)
        if max(told) - min(told) > TOLD * sequences:
            raise DeviceError(f"{sequences} sequences at position {position} were not in one pass: a START came too late")
        runs = [Run(first if alone else first + 1), *[Run(position)] * (sequences - 1)]
        return Beside(sequences, position, cycles, self._model.cycles(runs))

    @staticmethod
    def _compare(got: dict[int, list[int]], want: dict[int, list[int]]) -> None:
        for slot, picks in want.items():
            if got[slot] != picks:
                raise DeviceError(f"sequence {slot} picked {got[slot]}, and alone the golden model picks {picks}")

    def run(self, client: BoardClient, sequences: int, tokens: int) -> SequenceRun:
        """Prompts that begin together, and so many picks of each."""
        golden, want, heard = self._board(), {}, {}
        prompts = [list(text[:PROMPT + MORE * (slot % 4)]) for slot, text in enumerate(self._texts[:sequences])]
        starts = [StartArgs(0, len(prompt), tokens, StartFlags(0) if slot else StartFlags.CLEAR, slot=slot)
                  for slot, prompt in enumerate(prompts)]
        for slot, prompt in enumerate(prompts):
            golden.windows[slot][:len(prompt)] = prompt
            want[slot] = [event.id for kind, event in golden.start(starts[slot]) if kind == EventType.TOKEN]
            self._place(client, 0, prompt, slot)
        for args in starts:
            client.start(args)
        for slot in range(sequences):
            heard[slot] = [event for kind, event in client.events(slot) if kind == EventType.TOKEN]
        self._compare({slot: [event.id for event in events] for slot, events in heard.items()}, want)
        last = max(events[-1].cycles for events in heard.values())
        # Sequence 0 is the first of each pass.  Those between two of its picks that have a pick of each other one are of all.
        times = [[event.cycles for event in heard[slot]] for slot in range(sequences)]
        since, until = max(own[0] for own in times), min(own[-1] for own in times)
        leads = [at for at in times[0] if since <= at + TOLD * sequences and at <= until]
        passes, cycles = (len(leads) - 1, leads[-1] - leads[0]) if leads else (0, 0)
        return SequenceRun(sequences, tokens, tuple(map(len, prompts)), last, passes, cycles)
