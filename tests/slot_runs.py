# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Sequences that join and leave a board with several slots at random, and what each has to tell: what it tells alone."""

from dataclasses import dataclass

from tellme.golden.board import GoldenBoard
from tellme.spec.memory import DoneReason, Event, EventType, StartArgs, StartFlags
from tellme.spec.sampling import DrawSettings, inverse_temperature, pack_settings

__all__ = ["SlotRuns", "Text", "told"]

TOKEN, DONE = EventType


def told(kind, event):
    """What of an event has to be right: kind, position, token (of a DONE the step, where one failed), logit or reason."""
    return kind, event.position, event.id if kind == TOKEN or event.logit == DoneReason.NONFINITE else None, event.logit


@dataclass
class Text:
    """A sequence alone on the golden board: ids from its prompt to the end of the context; pick and its logit behind each."""

    prompt: int
    settings: DrawSettings | None
    ids: list[int]
    picks: list[int]
    logits: list[int]

    @classmethod
    def drawn(cls, rng, image, longest):
        """A random prompt, up to ``longest`` tokens, greedy or drawn."""
        vocab, context = image.registers["vocab"], image.registers["context"]
        prompt = [rng.randrange(vocab) for _ in range(rng.randint(1, longest))]
        settings = rng.choice((None, DrawSettings(inverse_temperature(rng.choice((0.8, 3.0))), top_k=rng.choice((5, 64)),
                                                  seed=rng.randrange(1 << 64))))
        board = GoldenBoard(image, context, head_tokens=context)
        board.tokens[:len(prompt)] = prompt
        flags = StartFlags.ALL
        if settings is not None:
            board.registers |= pack_settings(settings)
            flags |= StartFlags.SAMPLE
        events = [event for kind, event in board.start(StartArgs(0, len(prompt), context, flags)) if kind == TOKEN]
        assert len(events) == context
        picks = [event.id for event in events]
        return cls(len(prompt), settings, (prompt + picks[len(prompt) - 1:])[:context], picks, [e.logit for e in events])


class SlotRuns:
    """The runs of a slot, one after another: ``begin`` draws a START, ``hear`` compares an event with what has to come.

    A text goes on from where the run before left it, or a new one begins.  ``window`` and ``context`` are the board's.
    """

    def __init__(self, slot, rng, texts, window, context):
        self.slot, self._rng, self._texts, self._window, self._context = slot, rng, texts, window, context
        self._text, self._fed = None, 0
        self.args = StartArgs(0, 1, 0)
        self.running = self.stopping = False
        self._expected = []
        self.tokens = 0
        self.reasons = set()

    def begin(self):
        """START's arguments, the tokens to place from its position on, and the settings of its draws."""
        rng = self._rng
        assert not self.running
        if self._text is None or self._fed >= self._context - 1 or rng.random() < 0.4:
            self._text, self._fed = rng.choice(self._texts), 0
        text, position = self._text, self._fed
        feed = rng.randint(1, min(self._window, self._context - position))
        generate = rng.choice((0, 1, 2, 5, 30)) if position + feed >= text.prompt else 0
        every = rng.random() < 0.3
        flags = StartFlags((StartFlags.ALL if every else 0) | (StartFlags.SAMPLE if text.settings is not None else 0)
                           | (StartFlags.DUMP if rng.random() < 0.1 else 0))
        last = position + feed - 1
        ends = (text.picks[rng.randint(last, self._context - 1)],) if rng.random() < 0.3 else ()
        self.args = StartArgs(position, feed, generate, flags, rng.choice((0, 0, 1, 2, 3, 9)), self.slot, ends)
        at = [*range(position, last)] if every else []
        end, reason = last, DoneReason.LENGTH
        if generate or every:
            at.append(last)
        for picked in range(1, generate + 1):
            end = last + picked - 1
            at += [end] if picked > 1 else []
            if text.picks[end] in ends:
                reason = DoneReason.END_TOKEN
                break
            if picked < generate and end + 1 == self._context:
                reason = DoneReason.CONTEXT
                break
        self._expected = [(TOKEN, p, text.picks[p], text.logits[p]) for p in at] + [(DONE, end, None, reason)]
        self.running, self.stopping = True, False
        return self.args, text.ids[position:position + feed], text.settings

    def hear(self, kind, event: Event):
        """An event of the slot."""
        assert self.running and event.slot == self.slot
        got = told(kind, event)
        if kind == DONE and event.logit == DoneReason.STOPPED:
            assert self.stopping, "nobody stopped it"
            assert self.args.position <= event.position and self._expected[0][0] == DONE or event.position <= self._expected[0][1]
            self._text = None
        else:
            assert got == self._expected.pop(0), (self.args, got)
            self.tokens += kind == TOKEN
        if kind == DONE:
            self.running, self._fed = False, event.position + 1
            self.reasons.add(DoneReason(event.logit))
