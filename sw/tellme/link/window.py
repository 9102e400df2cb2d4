# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The host's half of the link as a state machine: no clock, no input, no output.

A caller asks :meth:`Exchange.frames` for bytes, sends the bytes, and gives what comes back to :meth:`Exchange.receive`.  Times
are seconds of any clock that does not go back.  The rules are in docs/decisions/0014-link.md.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from tellme.link.errors import LinkError
from tellme.link.framing import FrameReader, body, encode
from tellme.spec.memory import MODEL_REGISTERS, REGISTER_BASE, SLOTS_WORD, Event, EventType, StatusWord, start_slot
from tellme.spec.packets import (
    DATA_MAX,
    EVENTS,
    HELLO,
    MAGIC,
    NAK,
    PROTOCOL_VERSION,
    SESSION,
    WINDOW,
    NakReason,
    PacketType,
)
from tellme.spec.program import FORMAT_VERSION

__all__ = ["ACK_AFTER", "FILL_BYTES", "HELLO_PATIENCE", "PATIENCE", "RETRY", "Exchange", "Hello", "Ticket", "running_slots"]

#: Seconds without an answer after which a real board's packet is sent again; the answer comes within milliseconds.
RETRY = 0.25
#: Seconds of silence in an open session that are an error.
PATIENCE = 10.0
#: Seconds of silence to HELLO that are an error.
HELLO_PATIENCE = 3.0
#: Events that have come after which EVENTS tells the board so.
ACK_AFTER = 8
#: Bytes of a READ that only makes an answer long: a USB chip sends at once what fills a packet of 62 bytes.
FILL_BYTES = 64
#: Answers that only another session's board gives, one after another, until the host gives up.
STRANGE = 3
#: Times that the host asks for missing events, one after another, until the host gives up.
MISSED = 12

#: The type of each packet's answer.
ANSWERS = {PacketType.HELLO: PacketType.HELLO_ANSWER, PacketType.WRITE: PacketType.ACK, PacketType.READ: PacketType.DATA,
           PacketType.CHECKSUM: PacketType.SUM, PacketType.START: PacketType.ACK, PacketType.STOP: PacketType.ACK,
           PacketType.STATUS: PacketType.STATUS_ANSWER, PacketType.EVENTS: PacketType.ACK}
#: Packets that the board answers anew when they come again, and packets that change what those answers tell.
ANEW = frozenset({PacketType.READ, PacketType.CHECKSUM, PacketType.STATUS})
CHANGES = frozenset({PacketType.WRITE, PacketType.START, PacketType.STOP})
#: Refusals of a frame that was damaged on its way, or that came behind such a frame.
RESENT = frozenset({NakReason.FRAMING, NakReason.CRC, NakReason.SEQUENCE})

assert FILL_BYTES <= min(DATA_MAX, 4 * len(MODEL_REGISTERS))


def running_slots(status: Sequence[int]) -> set[int]:
    """The slots that run, by the words of STATUS; of a core with one slot its slot 0."""
    mask = status[SLOTS_WORD] or status[StatusWord.FLAGS] & 1
    return {slot for slot in range(mask.bit_length()) if mask >> slot & 1}


@dataclass(frozen=True)
class Hello:
    """What a board says of itself."""

    preset: str
    core_sha256: str


class Use(Enum):
    """Who waits for a packet's answer."""

    #: The caller, who has the ticket.
    CALLER = 0
    #: Nobody.
    NOBODY = 1
    #: The exchange, which asked for STATUS after a silence of the events.
    EVENTS = 2


@dataclass(eq=False)
class Ticket:
    """A packet and, once ``done``, its answer or what went wrong."""

    kind: PacketType
    payload: bytes
    use: Use = Use.CALLER
    #: Both are given when the packet is first sent.
    seq: int = 0
    frame: bytes = b""
    #: To be sent by the next call of frames().
    due: bool = True
    #: Of a START: whether its slot ran when it was sent, which it does not if all is well.
    again: bool = False
    #: The answer was missed, and asked for again, since the last silence.
    missed: bool = False
    done: bool = False
    answer: bytes = field(default=b"", repr=False)
    error: LinkError | None = None

    def result(self) -> bytes:
        """The answer's payload; a LinkError if the packet was refused or the link failed; before ``done`` a ValueError."""
        if self.error is not None:
            raise self.error
        if not self.done:
            raise ValueError(f"the answer to {self.kind.name} has not come")
        return self.answer

    def fits(self, kind: int, payload: bytes) -> bool:
        """Whether a packet of the board can be the answer."""
        if kind != ANSWERS[self.kind]:
            return False
        sizes = {PacketType.CHECKSUM: 4, PacketType.STATUS: 32}
        if self.kind == PacketType.READ:
            return len(payload) == int.from_bytes(self.payload[4:6], "little")
        return self.kind == PacketType.HELLO or len(payload) == sizes.get(self.kind, 0)


class Exchange:
    """Packets under way, and the events that have come.

    ``seq``: any number from 0 to 255; the first packet of the session has this seq.  ``retry``: seconds until a packet without an
    answer is sent again; each further time takes twice as long.  ``poll``: the same of a run without events, until STATUS is
    asked for; None: ``retry``.  ``patience`` and ``hello_patience``: seconds of silence that are an error.  ``name``: the board
    in messages.

    An error of the link ends the exchange: each call from then on raises the same LinkError.  The error is one of: no answer,
    garbage only, another version of the protocol or the format, a board that was reset, another program that opened a session, a
    run that ended without DONE.  A packet that the board refuses is an error of the packet's ticket and of all tickets behind.
    """

    def __init__(self, *, seq: int = 0, retry: float = RETRY, patience: float = PATIENCE, hello_patience: float = HELLO_PATIENCE,
                 poll: float | None = None, name: str = "the board"):
        self._poll = retry if poll is None else poll
        #: Cycles without progress of a run that are an error; None: a run is waited for however long it takes.
        self.bound: int | None = None
        #: What was wrong with the run that was stopped as it made no progress; empty: nothing.
        self.stuck = ""
        #: Next event and position of the last STATUS that told progress, its cycles, and when it came.
        self._mark: tuple[tuple[int, int], int, float] | None = None
        self._name, self._retry, self._patience, self._hello_patience = name, retry, patience, hello_patience
        self._reader = FrameReader()
        self._error: LinkError | None = None
        self._queue: deque[Ticket] = deque()
        #: Packets without an answer, and those behind them, in the order of their seqs.
        self._flight: deque[Ticket] = deque()
        self._next = seq % 256
        #: Ends a frame of which the board has received a part.
        self._zero = True
        #: Only the first packet is under way, after a silence.
        self._alone = False
        #: The seq that the host last went back to.
        self._back: int | None = None
        self._strange = 0
        #: When the first packet is sent again; what the wait is; the begin of the silence; bad frames up to then.
        self._timer: float | None = None
        self._wait = retry
        self._since = 0.0
        self._garbage = 0
        #: What the board said of itself.
        self.hello: Hello | None = None
        #: Whether a session was opened.
        self._opened = False
        # Events.
        self._events: deque[tuple[EventType, Event]] = deque()
        #: Number of the next event; of the first one that the board was not told of; the gap that was asked for.
        self._event = self._told = 0
        self._gap: int | None = None
        #: An EVENTS to be sent: None, or its ``again``.
        self._tell: int | None = None
        #: Slots whose DONE is to come.
        self._running: set[int] = set()
        self._quiet: float | None = None
        self._quiet_wait = self._poll
        self._lost = 0

    # ---------------------------------------------------------------- what a caller does
    def open(self, first: int, second: int) -> Ticket:
        """Open a session.  The ticket is done when the session is open.

        A HELLO without a session asks for the versions, and changes nothing on a board of another version.  Then the session
        ``first`` is opened, and then ``second``, two different numbers from 0 to 65,535: one of them differs from the number of a
        session that is open.
        """
        if first == second:
            raise ValueError(f"a session is opened with two different numbers, not {first} twice")
        if self.hello is None:
            self.submit(PacketType.HELLO)
        self.submit(PacketType.HELLO, SESSION.pack(first))
        return self.submit(PacketType.HELLO, SESSION.pack(second))

    def submit(self, kind: PacketType, payload: bytes = b"") -> Ticket:
        """A packet to be sent as soon as the window has room, and the rule of kinds allows it."""
        return self._put(Ticket(kind, payload))

    def fill(self) -> None:
        """A READ of FILL_BYTES of registers, for whose answer nobody waits.

        A serial port's chip keeps answers back, for 16 ms often, unless they fill a USB packet.  This answer fills the packet, so
        that the answers before it come at once.
        """
        self._put(Ticket(PacketType.READ, REGISTER_BASE.to_bytes(4, "little") + FILL_BYTES.to_bytes(2, "little"), Use.NOBODY))

    def frames(self, now: float) -> bytes:
        """The bytes to send now; empty if there are none."""
        self._check()
        self._time(now)
        self._admit()
        out = [ticket.frame for ticket in self._flight if ticket.due and not ticket.done]
        for ticket in self._flight:
            ticket.due = False
        if not out:
            return b""
        if self._timer is None:
            self._wait, self._since, self._garbage = self._retry, now, self._reader.garbage
            self._timer = now + self._wait
        if self._zero:
            out.insert(0, b"\0")
            self._zero = False
        return b"".join(out)

    def receive(self, content: bytes, now: float) -> None:
        """Take bytes from the board."""
        self._check()
        for seq, kind, payload in self._reader.push(content):
            if kind in (PacketType.TOKEN, PacketType.DONE):
                self._hear(seq, EventType(kind - PacketType.TOKEN), payload, now)
            elif kind == PacketType.NAK:
                self._nak(seq, payload, now)
            else:
                self._answer(seq, kind, payload, now)

    def lost(self) -> None:
        """An interruption may have lost bytes of the last frames() or receive(): say all again that has no answer."""
        self._zero = True
        for ticket in self._flight:
            ticket.due = True
        if self._running and self._tell is None:
            self._tell = 1

    def wake(self, now: float) -> None:
        """The caller did not look for a while, and looks again: silence begins anew."""
        if self._timer is not None:
            self._wait, self._since, self._garbage = self._retry, now, self._reader.garbage
            self._timer = now + self._wait
        if self._quiet is not None:
            self._quiet = now + self._quiet_wait

    def deadline(self) -> float | None:
        """When frames() is to be called if no byte comes until then; None if there is nothing to wait for."""
        times = [time for time in (self._timer, self._quiet) if time is not None]
        if self._timer is not None:
            times.append(self._since + self._limit())
        return min(times, default=None)

    @property
    def failed(self) -> bool:
        """Whether an error of the link has ended the exchange."""
        return self._error is not None

    @property
    def running(self) -> frozenset[int]:
        """The slots whose run was started, and whose DONE has not come."""
        return frozenset(self._running)

    def events(self) -> list[tuple[EventType, Event]]:
        """The events that have come since the last call, in order."""
        out = list(self._events)
        self._events.clear()
        return out

    def expect_done(self, now: float, slots: Iterable[int] = (0,)) -> None:
        """Runs of slots go on that this exchange did not start: a silence of their events is looked after."""
        self._running.update(slots)
        self._listen(now)

    def skip(self, number: int) -> None:
        """Drop the events before the event ``number`` (modulo 256), those that have not come too."""
        behind = (self._event - number) % 256
        if behind >= 128:
            behind, self._event, self._gap = 0, number % 256, None
        while len(self._events) > behind:
            self._events.popleft()
        self._tell = self._tell or 0

    # ---------------------------------------------------------------- inside
    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, message: str) -> LinkError:
        """End the exchange with an error."""
        self._error = error = LinkError(message)
        for ticket in (*self._flight, *self._queue):
            if not ticket.done:
                ticket.error = error
        self._flight.clear()
        self._queue.clear()
        self._timer = self._quiet = None
        return error

    def _put(self, ticket: Ticket) -> Ticket:
        self._check()
        self._queue.append(ticket)
        return ticket

    def _opening(self) -> bool:
        """Whether a HELLO that opens a session is under way or waits."""
        return any(t.kind == PacketType.HELLO and t.payload for tickets in (self._flight, self._queue) for t in tickets)

    def _limit(self) -> float:
        hello = self._flight and self._flight[0].kind == PacketType.HELLO
        return self._hello_patience if hello else self._patience

    def _time(self, now: float) -> None:
        """What the clock asks for."""
        if self._timer is not None and now >= min(self._timer, self._since + self._limit()):
            if now >= self._since + self._limit():
                raise self._silent()
            if self._strange >= STRANGE:
                raise self._intruder()
            self._wait *= 2
            self._timer = now + self._wait
            self._alone, self._back, self._zero = True, None, True
            for ticket in self._flight:
                ticket.due = ticket.missed = False
            self._flight[0].due = True
        if self._quiet is not None and now >= self._quiet:
            self._quiet_wait = min(2 * self._quiet_wait, max(self._poll, self._patience / 4))
            self._quiet = now + self._quiet_wait
            if not any(t.use == Use.EVENTS for tickets in (self._flight, self._queue) for t in tickets):
                self._put(Ticket(PacketType.STATUS, b"", Use.EVENTS))

    def _silent(self) -> LinkError:
        """The error of a silence that was too long."""
        kind, limit, bad = self._flight[0].kind, self._limit(), self._reader.garbage - self._garbage
        if bad:
            return self._fail(f"{self._name} answers garbage ({bad} bad packets within {limit:.0f} s); check the cable and the "
                              "baud rate, or load the bitstream again")
        return self._fail(f"{self._name} does not answer (no answer to {kind.name} within {limit:.0f} s); is the bitstream "
                          "loaded? make program, or power the board off and on")

    def _intruder(self) -> LinkError:
        """The error of a board that follows another session."""
        return self._fail(f"{self._name}: another program opened a session with the board; end that program, and start again")

    def _admit(self) -> None:
        """Move packets from the queue into the window."""
        flight = self._flight
        while len(flight) < WINDOW and not self._alone and not any(t.kind == PacketType.HELLO for t in flight):
            if self._tell is not None and not self._opening():
                ticket = Ticket(PacketType.EVENTS, EVENTS.pack(self._event, self._tell), Use.NOBODY)
                self._told, self._tell = self._event, None
            elif not self._queue:
                return
            else:
                ticket = self._queue[0]
                if ticket.kind == PacketType.HELLO and flight:
                    return
                if ticket.kind in CHANGES and any(t.kind in ANEW and t.use == Use.CALLER and not t.done for t in flight):
                    return
                self._queue.popleft()
            if ticket.kind == PacketType.HELLO:
                # The seq before the session's first; an answer to the HELLO without a session is told from the others' answers.
                ticket.seq = (self._next - (1 if ticket.payload else 2)) % 256
            else:
                ticket.seq = self._next
                self._next = (self._next + 1) % 256
            if ticket.kind == PacketType.START:
                # From here on: DONE may come before the ACK, if the first ACK is lost.
                slot = start_slot(ticket.payload)
                ticket.again = slot in self._running
                self._running.add(slot)
            ticket.frame = encode(body(ticket.seq, ticket.kind, ticket.payload))
            flight.append(ticket)

    # ---------------------------------------------------------------- answers
    def _progress(self, now: float) -> None:
        """A packet was done."""
        while self._flight and self._flight[0].done:
            self._flight.popleft()
        if self._alone:
            self._alone = False
            for ticket in self._flight:
                ticket.due = True
        self._strange = 0
        if not self._flight or ((self._back or 0) - self._flight[0].seq) % 256 > WINDOW:
            self._back = None
        self._wait, self._since, self._garbage = self._retry, now, self._reader.garbage
        self._timer = now + self._wait if self._flight else None

    def _done_before(self, count: int, now: float) -> None:
        """The board has done the first ``count`` packets of the window: ACKs of them are not needed, other answers are."""
        for ticket in list(self._flight)[:count]:
            if ticket.done:
                continue
            if ANSWERS[ticket.kind] == PacketType.ACK:
                self._finish(ticket, b"", now)
            elif not ticket.missed:
                ticket.due = ticket.missed = True

    def _finish(self, ticket: Ticket, payload: bytes, now: float) -> None:
        ticket.done, ticket.answer = True, payload
        if ticket.kind == PacketType.START and start_slot(ticket.payload) in self._running:
            self._listen(now)

    def _answer(self, seq: int, kind: int, payload: bytes, now: float) -> None:
        for number, ticket in enumerate(self._flight):  # noqa: B007 - the number is used behind the loop
            if ticket.seq == seq and not ticket.done and ticket.fits(kind, payload):
                break
        else:
            return
        self._done_before(number, now)
        if ticket.kind == PacketType.HELLO:
            self._greet(payload)
            if ticket.payload:
                self._restart_events()
        self._finish(ticket, payload, now)
        self._progress(now)
        if ticket.use == Use.EVENTS:
            self._compare(payload, now)

    def _greet(self, content: bytes) -> None:
        """Look at HELLO's answer."""
        if len(content) != HELLO.size or not content.startswith(MAGIC):
            raise self._fail(f"{self._name} answers, but is no tellme board")
        _, version, program_format, name, build = HELLO.unpack(content)
        for does, its, own in (("speaks protocol", version, PROTOCOL_VERSION),
                               ("runs programs of format", program_format, FORMAT_VERSION)):
            if its != own:
                raise self._fail(f"the core at {self._name} {does} {its}, this tellme-host {own}: build its bitstream from this "
                                 "version of tellme and load it, or use the tellme-host that belongs to the bitstream")
        self.hello = Hello(name.rstrip(b"\0").decode("ascii", "replace"), build.hex())

    def _nak(self, seq: int, payload: bytes, now: float) -> None:
        """A packet was refused."""
        if not self._flight or not payload:
            return
        reason, first = payload[0], self._flight[0]
        if first.kind == PacketType.HELLO:
            if reason in (NakReason.FRAMING, NakReason.CRC) and self._back is None:
                self._back, first.due = first.seq, True
            return
        if len(payload) != NAK.size:
            return
        expected = payload[1]
        at = (seq - first.seq) % 256
        if reason == NakReason.SESSION:
            if at < len(self._flight):
                raise self._fail(f"{self._name}: the board was reset, and its memory is empty; start again")
            return
        done = (expected - first.seq) % 256
        if reason in RESENT:
            if done > len(self._flight):
                self._strange += self._alone and reason == NakReason.SEQUENCE and at == 0
                return
            self._done_before(done, now)
            if first.done:
                self._progress(now)
            if expected != self._back:
                self._back = expected
                for ticket in self._flight:
                    behind = (ticket.seq - expected) % 256 < WINDOW
                    ticket.due |= behind and not ticket.done and (not self._alone or ticket is self._flight[0])
            return
        if done != at or at >= len(self._flight) or self._flight[at].kind == PacketType.STATUS:
            # An answer that was doubled on its way, of a packet that was refused before.
            return
        self._refuse(at, reason, now)

    def _refuse(self, at: int, reason: int, now: float) -> None:
        """The packet ``at`` in the window was refused.  It and all packets behind are not done, and fail.

        The board expects the refused seq again.  Copies of the failed frames may still be on their way, with seqs that come next.
        So packets that change nothing, and are never refused, take these seqs.
        """
        self._done_before(at, now)
        refused = self._flight[at]
        name = NakReason(reason).name if reason in list(NakReason) else str(reason)
        error = LinkError(f"the board refused a {refused.kind.name} packet: {name}")
        behind = list(self._flight)[at:]
        for ticket in (*behind, *self._queue):
            ticket.done, ticket.error = True, error
        for _ in behind:
            self._flight.pop()
        self._queue.clear()
        if refused.kind == PacketType.EVENTS:
            raise self._intruder()
        if any(ticket.kind == PacketType.EVENTS for ticket in behind):
            self._tell = 1
        for ticket in behind:
            if ticket.kind == PacketType.START and not ticket.again:
                self._running.discard(start_slot(ticket.payload))
        self._next, self._back = refused.seq, None
        for _ in range(len(behind) + 1):
            self._queue.append(Ticket(PacketType.STATUS, b""))
        self._progress(now)

    # ---------------------------------------------------------------- events
    def _restart_events(self) -> None:
        """A session was opened."""
        self._opened = True
        self._events.clear()
        self._event = self._told = 0
        self._gap = self._tell = self._quiet = None
        self._running.clear()
        self._mark, self.stuck = None, ""

    def _listen(self, now: float) -> None:
        """Events are to come."""
        self._lost, self._quiet_wait = 0, self._poll
        self._quiet = now + self._quiet_wait

    def _hear(self, number: int, kind: EventType, payload: bytes, now: float) -> None:
        if not self._opened or self._opening() or len(payload) != Event.LAYOUT.size:
            return
        ahead = (number - self._event) % 256
        if ahead >= 128:
            return
        if ahead:
            if self._gap != self._event:
                self._gap, self._tell = self._event, 1
            return
        event = Event.unpack(payload)
        self._events.append((kind, event))
        self._event, self._gap = (self._event + 1) % 256, None
        if self._quiet is not None:
            self._listen(now)
        if kind == EventType.DONE:
            self._running.discard(event.slot)
            for ticket in self._flight:
                if ticket.kind == PacketType.START and start_slot(ticket.payload) == event.slot:
                    ticket.again = False
            if not self._running:
                self._quiet = self._mark = None
        if (self._event - self._told) % 256 >= ACK_AFTER and self._tell is None:
            self._tell = 0

    def _compare(self, status: bytes, now: float) -> None:
        """Hold the board's count of events against the events that have come."""
        if not self._running:
            return
        words = [int.from_bytes(status[i:i + 4], "little") for i in range(0, len(status), 4)]
        if words[StatusWord.EVENTS] & 0xFF != self._event:
            self._gap, self._tell = self._event, 1
            self._lost += 1
            if self._lost > MISSED:
                raise self._intruder()
        elif self._running <= running_slots(words):
            self._lost = 0
            self._watch(words, now)
        else:
            # Twice: the last event may just be on its way into the ring.
            self._lost += 1
            if self._lost > 1:
                raise self._fail(f"{self._name} stopped without saying so; start again")

    def _watch(self, words: Sequence[int], now: float) -> None:
        """Hold a STATUS of a run against the last one that told progress: an event, or another position.

        A run without progress within ``bound`` cycles of the board is stopped; so is one whose cycles stand still for
        ``patience`` seconds.  One that does not stop either ends the exchange.
        """
        told, cycles = (words[StatusWord.EVENTS] & 0xFF, words[StatusWord.POSITION]), words[StatusWord.CYCLES]
        if self.bound is None:
            return
        if self._mark is None or self._mark[0] != told:
            self._mark = told, cycles, now
            return
        spent = (cycles - self._mark[1]) % 2**32
        if spent <= self.bound and (spent or now - self._mark[2] < self._patience):
            return
        where = f"step {words[StatusWord.STEP]} of the layer program at position {words[StatusWord.POSITION]}"
        if self.stuck:
            raise self._fail(f"{self._name} made no progress in {where}, and does not stop either: power the board off and on, "
                             "or load the bitstream again")
        self.stuck = (f"{self._name} made no progress for {spent} cycles, in {where}: the run was stopped. Start again, and run "
                      "tellme-host selftest if this comes again")
        self._mark = None
        self._put(Ticket(PacketType.STOP, b"", Use.NOBODY))
