# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Talks to a board: :class:`tellme.link.window.Exchange` with a transport and a clock."""

import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from zlib import crc32

from tellme.link.errors import LinkError, StuckError
from tellme.link.transport import Transport
from tellme.link.window import HELLO_PATIENCE, PATIENCE, RETRY, Exchange, Hello, Ticket, running_slots
from tellme.spec.memory import DoneReason, Event, EventType, StartArgs, StatusWord
from tellme.spec.packets import DATA_MAX, SLOTS, PacketType
from tellme.spec.ranges import U32, Range

__all__ = ["CHECKSUM_MAX", "REGION", "BoardClient", "Hello", "padded"]

#: Bytes of a CHECKSUM at most.
CHECKSUM_MAX = 1 << 21
#: Bytes that are compared with the board's memory at a time, by a checksum that the board computes.
REGION = 1 << 16


def check_words(address: int, size: int) -> None:
    """Refuse a range of bytes that is outside the address space (a RangeError), or does not begin at a word (a ValueError)."""
    U32.check("address", address)
    Range(0, U32.most + 1).check("address + bytes", address + size)
    if address % 4:
        raise ValueError(f"address {address:#x} is no multiple of 4")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def padded(content: bytes) -> bytes:
    """Bytes with zeros behind them, up to a whole word."""
    return content + bytes(-len(content) % 4)


class BoardClient:
    """Packets over a transport.

    ``timeout`` is the longest silence of a board that has answered once, in seconds; ``hello_timeout`` the longest silence to the
    first packet, ``timeout`` or HELLO_PATIENCE if that is less.  ``retry``: seconds until a packet without an answer is sent
    again, an eighth of ``timeout`` or RETRY if that is less; each further time takes twice as long.  ``poll``: the same of a run
    without events, until its STATUS is asked for; None: ``retry``.  ``clock`` gives seconds.

    :meth:`hello` changes nothing on the board.  All other packets need a session, which the first of them opens
    (:meth:`connect`).  An error of the link is a LinkError, and ends the session; :meth:`connect` opens the next one.
    """

    def __init__(self, transport: Transport, *, timeout: float = PATIENCE, hello_timeout: float | None = None,
                 retry: float | None = None, poll: float | None = None, clock: Callable[[], float] = time.monotonic):
        self._transport, self._clock = transport, clock
        self._timeout = timeout
        self._hello_timeout = min(timeout, HELLO_PATIENCE) if hello_timeout is None else hello_timeout
        self._retry = min(RETRY, timeout / 8) if retry is None else retry
        self._poll = poll
        self._bound: int | None = None
        self._exchange = self._new()
        self._connected = False
        #: Events of each slot that nobody took.
        self._heard: defaultdict[int, deque[tuple[EventType, Event]]] = defaultdict(deque)
        #: When the exchange last looked for bytes.
        self._looked: float | None = None

    def _new(self) -> Exchange:
        exchange = Exchange(seq=random.randrange(256), retry=self._retry, patience=self._timeout,
                            hello_patience=self._hello_timeout, poll=self._poll, name=self._transport.name)
        exchange.bound = self._bound
        return exchange

    def watch(self, cycles: int | None) -> None:
        """End runs from now on that make no progress, neither an event nor another position, within so many cycles of the board:
        the run is stopped, and a StuckError raised.  None: a run is waited for however long it takes."""
        self._bound = self._exchange.bound = cycles

    # ---------------------------------------------------------------- packets
    def _run(self, done: Callable[[], bool], seconds: float | None = None) -> None:
        """Send and receive until ``done``, or for so many seconds."""
        exchange, transport = self._exchange, self._transport
        try:
            # What came while nobody looked, before a look at the clock.
            content = transport.read(0)
            now = self._clock()
            # A caller who looks again and again for some moments sees a silence as long as it is.
            if self._looked is None or now - self._looked > self._retry / 2:
                exchange.wake(now)
            self._looked = now
            end = None if seconds is None else now + seconds
            exchange.receive(content, now)
            while not done():
                out = exchange.frames(self._clock())
                if out:
                    transport.write(out)
                deadline = exchange.deadline()
                if deadline is None:
                    raise ValueError("nothing is under way that could be waited for")
                content = transport.read(max(0.0, min(deadline, deadline if end is None else end) - self._clock()))
                self._looked = self._clock()
                exchange.receive(content, self._looked)
                if end is not None and self._looked >= end:
                    return
        except KeyboardInterrupt:
            exchange.lost()
            raise

    def _wait(self, tickets: list[Ticket], progress: Callable[[int], None] = lambda count: None) -> list[bytes]:
        """The answers of a batch of packets.  ``progress`` hears how many have come."""
        if not tickets:
            return []
        self._exchange.fill()
        first = 0

        def done() -> bool:
            nonlocal first
            before = first
            while first < len(tickets) and tickets[first].done:
                first += 1
            if first > before:
                progress(first)
            return first == len(tickets)

        self._run(done)
        return [ticket.result() for ticket in tickets]

    def _ask(self, kind: PacketType, payload: bytes = b"") -> bytes:
        """A packet's answer."""
        self._open()
        return self._wait([self._exchange.submit(kind, payload)])[0]

    def _open(self) -> None:
        if not self._connected:
            self.connect()

    # ---------------------------------------------------------------- what a board does
    def hello(self) -> Hello:
        """Ask the board who it is.  A board of another version, or anything else at the port, is a LinkError."""
        if self._exchange.failed:
            self._exchange, self._connected = self._new(), False
        ticket = self._exchange.submit(PacketType.HELLO)
        self._run(lambda: ticket.done)
        ticket.result()
        assert self._exchange.hello is not None
        return self._exchange.hello

    def connect(self) -> Hello:
        """Open a session, and stop the runs that still go on from before; their events are dropped."""
        self._exchange, self._connected = self._new(), False
        exchange = self._exchange
        self._heard.clear()
        opened = exchange.open(*random.sample(range(1 << 16), 2))
        self._run(lambda: opened.done)
        opened.result()
        self._connected = True
        words = self.status()
        # Events of before are of runs that have ended, or of no interest.
        exchange.skip(words[StatusWord.EVENTS] & 0xFF)
        going = running_slots(words) - {event.slot for kind, event in exchange.events() if kind == EventType.DONE}
        if going:
            exchange.expect_done(self._clock(), going)
            self.stop()
            self._drain(going)
        exchange.events()
        assert exchange.hello is not None
        return exchange.hello

    def write(self, address: int, content: bytes, progress: Callable[[int], None] | None = None) -> None:
        """Write bytes from an address that is a multiple of 4; the last word is padded with zeros.

        An address that no packet can hold is a RangeError.  ``progress`` hears how many bytes the board has acknowledged.
        :meth:`verify` compares what the board's memory holds afterwards.
        """
        words = padded(content)
        check_words(address, len(words))
        self._open()
        tickets = [self._exchange.submit(PacketType.WRITE, u32(address + at) + words[at:at + DATA_MAX])
                   for at in range(0, len(words), DATA_MAX)]

        def written(packets: int) -> None:
            if progress is not None:
                progress(min(packets * DATA_MAX, len(content)))

        self._wait(tickets, written)

    def read(self, address: int, size: int) -> bytes:
        """Read bytes from an address that is a multiple of 4.  An address or a size that no packet can hold is a RangeError."""
        U32.check("bytes of a READ", size)
        whole = size + -size % 4
        check_words(address, whole)
        self._open()
        tickets = [self._exchange.submit(PacketType.READ, u32(address + at) + min(DATA_MAX, whole - at).to_bytes(2, "little"))
                   for at in range(0, whole, DATA_MAX)]
        return b"".join(self._wait(tickets))[:size]

    def checksums(self, ranges: Iterable[tuple[int, int]]) -> list[int]:
        """CRC-32 of ranges (address, bytes) of whole words, computed by the board.

        More than CHECKSUM_MAX bytes are a RangeError.
        """
        ranges = list(ranges)
        for address, size in ranges:
            Range(0, CHECKSUM_MAX).check("bytes of a CHECKSUM", size)
            check_words(address, size)
        self._open()
        tickets = [self._exchange.submit(PacketType.CHECKSUM, u32(address) + u32(size)) for address, size in ranges]
        return [int.from_bytes(answer, "little") for answer in self._wait(tickets)]

    def checksum(self, address: int, size: int) -> int:
        """CRC-32 of a range of whole words, computed by the board.  More than CHECKSUM_MAX bytes are a RangeError."""
        return self.checksums([(address, size)])[0]

    def verify(self, address: int, content: bytes) -> None:
        """Compare a range with what was written, by checksums."""
        words = padded(content)
        pieces = [words[at:at + REGION] for at in range(0, len(words), REGION)]
        self.verify_sums([(address + REGION * i, len(piece), crc32(piece)) for i, piece in enumerate(pieces)])

    def verify_sums(self, regions: Iterable[tuple[int, int, int]]) -> None:
        """Compare regions (address, bytes, CRC-32) with what the board's memory holds."""
        regions = list(regions)
        sums = self.checksums((address, size) for address, size, _ in regions)
        for (address, _, wanted), found in zip(regions, sums, strict=True):
            if found != wanted:
                raise LinkError(f"the board's memory does not hold what was written at {address:#x}")

    def start(self, args: StartArgs) -> None:
        """Start a run of a slot.  A run of the slot from before whose DONE was not heard is stopped first."""
        self._open()
        running = self._exchange.running
        if args.slot in running:
            self.stop(args.slot if running - {args.slot} else None)
            self._drain({args.slot})
        self._collect()
        self._heard[args.slot].clear()
        self._exchange.stuck = ""
        self._ask(PacketType.START, args.pack())

    def stop(self, slot: int | None = None) -> None:
        """End the run of a slot of a core with several, or of all slots; a DONE of each that runs follows."""
        self._ask(PacketType.STOP, b"" if slot is None else SLOTS.pack(1 << slot))

    def status(self) -> tuple[int, ...]:
        """The eight words of memory.StatusWord and SLOTS_WORD."""
        content = self._ask(PacketType.STATUS)
        return tuple(int.from_bytes(content[i:i + 4], "little") for i in range(0, len(content), 4))

    def events(self, slot: int = 0) -> Iterator[tuple[EventType, Event]]:
        """The events of a slot's run as they come, up to DONE.  Without a run a LinkError.  Those of other slots are kept."""
        self._open()
        while True:
            self._collect()
            while self._heard[slot]:
                kind, event = self._heard[slot].popleft()
                if kind == EventType.DONE and event.logit == DoneReason.STOPPED:
                    self._check_stuck()
                yield kind, event
                if kind == EventType.DONE:
                    return
            self._check_running({slot})
            self._run(lambda: self._has_event({slot}))

    def listen(self, slots: Collection[int], seconds: float) -> list[tuple[EventType, Event]]:
        """The events of all slots that have come, in the order of each slot.  If there is none of ``slots``, up to ``seconds``
        are waited for one.  Without a run of one of these slots a LinkError."""
        self._open()
        if not self._has_event(slots):
            self._check_running(slots)
            self._run(lambda: self._has_event(slots), seconds)
        self._tell()
        if not self._exchange.running:
            self._check_stuck()
        out = [event for heard in self._heard.values() for event in heard]
        self._heard.clear()
        return out

    def _tell(self) -> None:
        """Tell the board which events have come: a caller who finds an event at each look never waits, and the ring is small."""
        try:
            told = self._exchange.frames(self._clock())
            if told:
                self._transport.write(told)
        except KeyboardInterrupt:
            self._exchange.lost()
            raise

    def _check_stuck(self) -> None:
        """Raise the error of a run that made no progress, and that was stopped by now."""
        stuck, self._exchange.stuck = self._exchange.stuck, ""
        if stuck:
            self._heard.clear()
            raise StuckError(stuck)

    def _check_running(self, slots: Collection[int]) -> None:
        if self._exchange.running.isdisjoint(slots):
            raise LinkError(f"{self._transport.name} has no run whose events could come; start one")

    def _collect(self) -> None:
        """Sort the events that have come."""
        for kind, event in self._exchange.events():
            self._heard[event.slot].append((kind, event))

    def _has_event(self, slots: Collection[int]) -> bool:
        self._collect()
        return any(self._heard[slot] for slot in slots)

    def _drain(self, slots: Collection[int]) -> None:
        """Drop events up to the DONE of each of some slots."""
        self._run(lambda: self._exchange.running.isdisjoint(slots))
        self._collect()
        for slot in slots:
            self._heard[slot].clear()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()
