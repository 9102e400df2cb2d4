# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Random use of a board through a client, held against what a board that is used so must hold and say."""

import random
from collections import Counter
from itertools import islice
from zlib import crc32

from tellme.link.client import BoardClient
from tellme.link.errors import LinkError
from tellme.spec.memory import DoneReason, Event, EventType, StartArgs
from tellme.spec.packets import DATA_MAX

__all__ = ["PlainRuns", "Scenario"]

#: Beginnings of the messages that a LinkError may have here, without the board's name.
CLEAR = ("does not answer", "answers garbage", "another program opened a session", "stopped without saying so",
         "the board was reset")

#: What a step does.
USES = ("write", "write", "write", "read", "read", "checksum", "run", "stop", "status", "hello", "refused", "abandon")


class Scenario:
    """Uses a board: loads, reads, checksums, runs, stops, STATUS, HELLO.

    ``runs``: what gives the arguments and the true events of a run: ``begin(client, random)`` -> (StartArgs, events as
    (type, Event) up to DONE).  ``compare(event, event)`` says whether two events are the same.
    ``memory`` has the bytes from ``base`` on that the board must hold.  ``beyond`` is the end of the board's memory, whose last
    2,048 bytes are not among ``memory``.
    """

    uses = USES

    def __init__(self, connect, runs, *, base: int, size: int, beyond: int, seed: int, clock, bound: float):
        self._connect, self._runs, self._clock, self._bound = connect, runs, clock, bound
        self.random = random.Random(seed)
        self.beyond = beyond
        self.base, self.memory = base, bytearray(size)
        #: Words of ``memory`` that a write without an acknowledgement may have changed: word -> new content.
        self.open: dict[int, set[bytes]] = {}
        #: Packets' writes (address, bytes) and starts as they were given to clients; writes that may have been left out.
        self.writes: list[tuple[int, bytes]] = []
        self.unsure: list[tuple[int, bytes]] = []
        self.starts: list[StartArgs] = []
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.client: BoardClient | None = None

    # ---------------------------------------------------------------- one use after another
    def step(self) -> None:
        """One use of the board; an error of the link closes the client, and the next step opens a new one."""
        name = self.random.choice(self.uses)
        begin = self._clock()
        try:
            if self.client is None:
                self.client = self._connect()
                # Now and then the first use opens the session.
                if self.random.random() < 0.5:
                    self.client.connect()
                self.done["connect"] += 1
            getattr(self, name)(self.client)
            self.done[name] += 1
        except LinkError as error:
            text = str(error)
            told = [clear for clear in CLEAR if clear in text]
            assert len(told) == 1 and "\n" not in text, text
            self.errors[told[0]] += 1
            assert self.client is not None
            self.client.close()
            self.client = None
        took = self._clock() - begin
        assert took < self._bound, f"{name} took {took:.1f} s"

    def _range(self, most: int) -> tuple[int, int]:
        size = 4 * self.random.randint(1, most // 4)
        at = 4 * self.random.randint(0, (len(self.memory) - size) // 4)
        return at, size

    def write(self, client) -> None:
        at, size = self._range(self.random.choice((64, 1024, 6000)))
        content = self.random.choice((bytes, self.random.randbytes))(size)
        words = {at + i: content[i:i + 4] for i in range(0, size, 4)}
        for place, word in words.items():
            self.open.setdefault(place, set()).add(word)
        packets = [(self.base + at + i, content[i:i + DATA_MAX]) for i in range(0, size, DATA_MAX)]
        self.writes += packets
        try:
            client.write(self.base + at, content)
        except LinkError:
            self.unsure += packets
            raise
        self.memory[at:at + size] = content
        for place in words:
            del self.open[place]

    def _same(self, at: int, found: bytes) -> None:
        wanted = bytes(self.memory[at:at + len(found)])
        if found == wanted:
            return
        for place in range(at, at + len(found), 4):
            word = found[place - at:place - at + 4]
            if word != wanted[place - at:place - at + 4]:
                assert word in self.open.get(place, ()), f"{word.hex()} at {self.base + place:#x} was never written there"

    def read(self, client) -> None:
        at, size = self._range(self.random.choice((16, 1024, 5000)))
        self._same(at, client.read(self.base + at, size))

    def checksum(self, client) -> None:
        ranges = [self._range(2000) for _ in range(self.random.randint(1, 20))]
        sums = client.checksums((self.base + at, size) for at, size in ranges)
        for (at, size), found in zip(ranges, sums, strict=True):
            if not any(place in self.open for place in range(at, at + size, 4)):
                assert found == crc32(self.memory[at:at + size])

    def _begin(self, client) -> list[tuple[EventType, Event]]:
        """Start a run; its true events."""
        args, wanted = self._runs.begin(client, self.random)
        self.starts.append(args)
        client.start(args)
        return wanted

    def run(self, client) -> None:
        wanted = self._begin(client)
        found = list(client.events())
        self._runs.compare(found, wanted)

    def stop(self, client) -> None:
        wanted = self._begin(client)
        heard = self.random.randint(0, len(wanted) - 1)
        found = list(islice(client.events(), heard))
        client.stop()
        found += client.events()
        kind, last = found[-1]
        assert kind == EventType.DONE
        if last.logit == DoneReason.STOPPED:
            self._runs.compare(found[:-1], wanted[:len(found) - 1])
        else:
            self._runs.compare(found, wanted)

    def status(self, client) -> None:
        assert client.status()[0] & 1 == 0

    def hello(self, client) -> None:
        client.hello()

    def refused(self, client) -> None:
        """A packet that no board does, in the middle of a window; the client is well afterwards."""
        at, size = self._range(3000)
        beyond = self.beyond - 4 * self.random.randint(0, 255)
        how = self.random.choice(("read", "checksum", "write"))
        packets = [(self.beyond - 2048 + i, bytes(DATA_MAX)) for i in range(0, 8192, DATA_MAX)]
        try:
            if how == "read":
                client.read(beyond, 9000)
            elif how == "checksum":
                client.checksums([(self.base + at, size), (beyond, 9000)])
            else:
                self.writes += packets
                self.unsure += packets
                client.write(packets[0][0], bytes(8192))
        except LinkError as error:
            if "refused" not in str(error):
                raise
            assert str(error).endswith("ADDRESS"), error
        else:
            raise AssertionError("the board has what is not there")

    def abandon(self, client) -> None:
        """The host goes away in the middle of a run, and comes again."""
        wanted = self._begin(client)
        heard = self.random.randint(0, len(wanted) - 1)
        self._runs.compare(list(islice(client.events(), heard)), wanted[:heard])
        client.close()
        self.client = None

    def reset(self, client) -> None:
        """The board is reset.  A client with a session learns it from its next packet."""
        told = client._connected
        self.board_reset()
        self.memory[:] = bytes(len(self.memory))
        self.open.clear()
        try:
            client.status()
        except LinkError as error:
            if "the board was reset" not in str(error):
                raise
            self.client = None
        else:
            assert not told, "a reset was not told"

    def board_reset(self) -> None:
        raise NotImplementedError

    def whole(self, found: bytes) -> None:
        """Compare the whole memory."""
        assert len(found) == len(self.memory)
        self._same(0, found)


class PlainRuns:
    """Runs of a :class:`tests.link.plain_board.PlainBoard`."""

    def __init__(self, event_of, done_of):
        self._event, self._done = event_of, done_of

    def begin(self, client, draw):
        args = StartArgs(draw.randrange(1000), draw.randint(1, 9), draw.choice((0, 1, 5, 20, 90)), chunk=draw.randrange(4),
                         ends=tuple(draw.randrange(1000) for _ in range(draw.randrange(5))))
        wanted = [(EventType.TOKEN, self._event(args, number)) for number in range(args.generate)]
        return args, [*wanted, (EventType.DONE, self._done(args, args.generate, DoneReason.LENGTH))]

    @staticmethod
    def compare(found, wanted):
        assert found == wanted
