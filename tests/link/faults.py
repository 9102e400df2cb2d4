# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A wire that damages what passes, in both directions, by a seed."""

import random
from collections import Counter, deque
from contextlib import suppress

from tellme.link.framing import FrameError, decode, open_body
from tellme.link.transport import Transport
from tellme.spec.packets import PacketType

__all__ = ["KINDS", "FaultyTransport", "Faults"]

#: What happens to a frame: a bit is flipped; a byte is lost, doubled, or swapped with the next; a run of bytes is cut out; bytes
#: come that nobody sent; the frame and all behind wait; the frame is doubled, or changes places with the next frame.
KINDS = ("flipped", "lost", "doubled", "swapped", "cut", "noise", "pause", "frame doubled", "frame swapped")
DIRECTIONS = ("to the board", "from the board")
#: Seconds of a pause, at most.
PAUSE = 3.0


class Faults:
    """Draws faults: ``rate`` is the share of the frames that get one.

    Each kind comes equally often in each direction.  ``count`` has the faults done by (direction, kind).  ``left`` is the number
    of faults to come, after which there are none.
    """

    def __init__(self, seed: int, *, rate: float, left: int, pause: float = PAUSE):
        self.random = random.Random(seed)
        self.rate, self.left, self.pause = rate, left, pause
        self.count: Counter[tuple[str, str]] = Counter()
        #: Faults by the type of the packet that was hit.
        self.types: Counter[PacketType] = Counter()
        self._bags: dict[str, list[str]] = {direction: [] for direction in DIRECTIONS}

    def draw(self, direction: str) -> str | None:
        """The kind of the fault that the next frame gets, or None."""
        if self.left <= 0 or self.random.random() >= self.rate:
            return None
        bag = self._bags[direction]
        if not bag:
            bag += KINDS
            self.random.shuffle(bag)
        return bag.pop()

    def done(self, direction: str, kind: str, frame: bytes) -> None:
        """A frame was hit."""
        self.count[direction, kind] += 1
        self.left -= 1
        # An end of a frame whose beginning an earlier client took has no type.
        with suppress(FrameError):
            self.types[PacketType(open_body(decode(frame[:-1]))[1])] += 1

    @property
    def total(self) -> int:
        return sum(self.count.values())

    def of(self, kind: str) -> int:
        """Faults of a kind, both directions."""
        return sum(self.count[direction, kind] for direction in DIRECTIONS)

    def table(self) -> str:
        """The counts, a line a kind."""
        return "\n".join(f"  {kind:14} " + "  ".join(f"{self.count[direction, kind]:6} {direction}" for direction in DIRECTIONS)
                         for kind in KINDS)


class Direction:
    """One direction of a wire: takes bytes, gives bytes that are due at a time."""

    def __init__(self, faults: Faults, name: str):
        self._faults, self._name = faults, name
        self._part = b""
        self._swapped = b""
        self._blocked = 0.0
        #: (time, bytes), in the order of the times.
        self._queue: deque[tuple[float, bytes]] = deque()

    def put(self, content: bytes, now: float) -> None:
        """Bytes that are sent.  Both ends send whole frames, so a part of a frame waits here for its end."""
        *frames, self._part = (self._part + content).split(b"\0")
        for frame in frames:
            self._frame(frame + b"\0", now)

    def _frame(self, frame: bytes, now: float) -> None:
        kind = self._faults.draw(self._name) if len(frame) > 2 else None
        sent, held = frame, self._swapped
        self._swapped = b""
        if kind == "frame swapped" and not held:
            self._swapped = frame
        elif kind is not None and kind != "frame swapped":
            frame = self._damage(frame, kind, now)
        else:
            kind = None
        if kind is not None:
            self._faults.done(self._name, kind, sent)
        if not self._swapped:
            self._queue.append((max(now, self._blocked), frame + held))

    def _damage(self, frame: bytes, kind: str, now: float) -> bytes:
        draw = self._faults.random
        at = draw.randrange(len(frame))
        if kind == "flipped":
            return frame[:at] + bytes([frame[at] ^ 1 << draw.randrange(8)]) + frame[at + 1:]
        if kind == "lost":
            return frame[:at] + frame[at + 1:]
        if kind == "doubled":
            return frame[:at + 1] + frame[at:]
        if kind == "swapped":
            # Two bytes side by side that differ; the last two always do.
            places = [i for i in range(len(frame) - 1) if frame[i] != frame[i + 1]]
            at = draw.choice(places)
            return frame[:at] + frame[at + 1:at + 2] + frame[at:at + 1] + frame[at + 2:]
        if kind == "cut":
            return frame[:at] + frame[at + draw.randint(2, len(frame)):]
        if kind == "noise":
            return frame[:at] + draw.randbytes(draw.randint(1, 40)) + frame[at:]
        if kind == "pause":
            self._blocked = max(now, self._blocked) + self._faults.pause * draw.random() ** 4
            return frame
        assert kind == "frame doubled"
        return frame + frame

    def take(self, now: float) -> bytes:
        """The bytes that are due."""
        out = b""
        while self._queue and self._queue[0][0] <= now:
            out += self._queue.popleft()[1]
        return out

    @property
    def next(self) -> float | None:
        """When bytes are due."""
        return self._queue[0][0] if self._queue else None


class FaultyTransport(Transport):
    """A transport behind a wire with faults.  ``clock`` gives the seconds that the pauses are counted in."""

    def __init__(self, inner: Transport, faults: Faults, clock):
        self.name = inner.name
        self._inner, self._clock = inner, clock
        self._to, self._from = (Direction(faults, name) for name in DIRECTIONS)

    def write(self, content: bytes) -> None:
        self._to.put(content, self._clock())
        self._pass_on()

    def _pass_on(self) -> None:
        content = self._to.take(self._clock())
        if content:
            self._inner.write(content)

    def read(self, timeout: float) -> bytes:
        end = self._clock() + timeout
        while True:
            now = self._clock()
            self._pass_on()
            out = self._from.take(now)
            if out or now > end:
                return out
            due = min([end, *(time for time in (self._to.next, self._from.next) if time is not None)])
            content = self._inner.read(max(0.0, due - now))
            self._from.put(content, self._clock())
            if not content and due >= end:
                return self._from.take(self._clock())

    def close(self) -> None:
        self._inner.close()
