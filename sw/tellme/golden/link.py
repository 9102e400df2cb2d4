# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board's half of the link: what the gateware's HostLink answers, byte for byte."""

from collections import deque
from collections.abc import Iterable
from typing import Protocol
from zlib import crc32

from tellme.link.framing import FrameError, body, decode, encode, open_body
from tellme.spec.memory import SLOTS_WORD, Event, EventType, StartArgs, StatusWord, start_slot
from tellme.spec.packets import (
    BODY_OVERHEAD,
    DATA_MAX,
    EVENT_SLOTS,
    EVENTS,
    HELLO,
    MAGIC,
    NAK,
    PAST,
    PROTOCOL_VERSION,
    SESSION,
    SLOTS,
    NakReason,
    PacketType,
)
from tellme.spec.program import FORMAT_VERSION
from tellme.spec.widths import window_bits

__all__ = ["BODY_MAX", "BoardLink", "Core", "Window"]

#: Bytes of a body that the board stores; a longer one is refused.
BODY_MAX = 2048
#: Bytes of a STATUS answer.
STATUS_BYTES = 32
#: A range's bytes are less than this.
SIZE_END = 1 << 22

#: Base, bytes, and whether the host may write there.
Window = tuple[int, int, bool]


class Core(Protocol):
    """What is behind the link."""

    @property
    def running(self) -> int:
        """The slots that run, a bit each; a core with one slot may say True or False.  A run goes on until the link has taken
        its DONE."""

    def read(self, address: int, size: int) -> bytes:
        """Whole words of a window."""

    def write(self, address: int, content: bytes) -> None:
        """Whole words into a window."""

    def start(self, args: bytes) -> None:
        """Begin a run; ``args`` is StartArgs as it came, with any values."""

    def stop(self, slots: int = ...) -> None:
        """End the runs of some slots, a bit each, as far as they run.  On a core with one slot ``slots`` is not given."""

    def status(self) -> bytes:
        """The answer to STATUS; the link puts its own words in their places."""


class BoardLink:
    """Takes the host's bytes, does what they say with a :class:`Core`, and gives the board's bytes.

    The order of what the board says: :meth:`receive` answers each whole frame at once, in the order of the frames, and sends no
    event.  :meth:`poll` sends the next event that was not sent, one a call.  A board sends an event only when no whole frame
    waits for its answer.  So all answers to the frames that have come are before an event that has not begun.  EVENTS with
    ``again`` is acknowledged first; then the events follow.

    ``windows``: as HostLink takes them.  A window begins at a multiple of 2**28.  HELLO tells ``name`` (the preset), ``build_id``
    (32 bytes), ``version`` and ``program_format``.  ``bad`` counts refusals.  A body of more than ``body_max`` bytes is refused.

    ``slots``: runs that go on at the same time, a power of two.  With several, START is refused if its slot runs, or if
    there is no such slot; STOP may name slots; and STATUS says which slots run.
    """

    def __init__(self, core: Core, windows: Iterable[Window], *, name: str, build_id: bytes, version: int = PROTOCOL_VERSION,
                 program_format: int = FORMAT_VERSION, body_max: int = BODY_MAX, slots: int = 1):
        self._core, self._windows, self._body_max, self._slots = core, tuple(windows), body_max, slots
        self._hello = HELLO.pack(MAGIC, version, program_format, name.encode("ascii"), build_id)
        self.reset()

    def reset(self) -> None:
        """After power-up: no session, no part of a frame, no event."""
        self._buffer = b""
        self.session: int | None = None
        self.expected = self.bad = 0
        self._clear()

    def _clear(self) -> None:
        """Forget all events."""
        self._ring: deque[tuple[int, bytes]] = deque()
        #: Numbers of the oldest event in the ring, of the next event to send, of the next event to come.
        self.first = self.unsent = self.next = 0

    # ---------------------------------------------------------------- events
    @property
    def room(self) -> bool:
        """Whether the ring takes an event; if it does not, the run has to wait."""
        return len(self._ring) < EVENT_SLOTS

    def event(self, kind: EventType, payload: bytes) -> None:
        """Take an event (memory.Event, 32 bytes) of the run; a ring without room is a ValueError."""
        if not self.room or len(payload) != Event.LAYOUT.size:
            raise ValueError("the ring has no room" if not self.room else f"an event of {len(payload)} bytes")
        self._ring.append((PacketType.TOKEN if kind == EventType.TOKEN else PacketType.DONE, payload))
        self.next = (self.next + 1) % 256

    def poll(self) -> bytes:
        """The frame of the next event that was not sent; empty if there is none."""
        if self.unsent == self.next:
            return b""
        kind, payload = self._ring[(self.unsent - self.first) % 256]
        number, self.unsent = self.unsent, (self.unsent + 1) % 256
        return encode(body(number, kind, payload))

    # ---------------------------------------------------------------- packets
    def receive(self, content: bytes) -> bytes:
        """Take bytes; the answers to the frames that they end."""
        *ends, self._buffer = (self._buffer + content).split(b"\0")
        return b"".join(self._frame(frame) for frame in ends if frame)

    def _frame(self, frame: bytes) -> bytes:
        try:
            content = decode(frame)
        except FrameError:
            content = b""
        if not BODY_OVERHEAD <= len(content) <= self._body_max:
            return self._refuse(self.expected, NakReason.FRAMING)
        try:
            seq, kind, payload = open_body(content)
        except FrameError:
            return self._refuse(self.expected, NakReason.CRC)
        reason = self._judge(seq, kind, payload)
        if reason is not None:
            return self._refuse(seq, reason)
        return encode(body(seq, *self._act(seq, PacketType(kind), payload)))

    def _refuse(self, seq: int, reason: NakReason) -> bytes:
        self.bad = (self.bad + 1) % 2**32
        return encode(body(seq, PacketType.NAK, NAK.pack(reason, self.expected)))

    def _past(self, seq: int) -> bool:
        """Whether a packet with this seq was done."""
        return 1 <= (self.expected - seq) % 256 <= PAST

    def _judge(self, seq: int, kind: int, payload: bytes) -> NakReason | None:
        """Why a packet is refused; the first reason counts."""
        sizes = {PacketType.HELLO: (0, SESSION.size), PacketType.READ: (6,), PacketType.CHECKSUM: (8,),
                 PacketType.STOP: (0,) if self._slots == 1 else (0, SLOTS.size),
                 PacketType.START: (StartArgs.LAYOUT.size,), PacketType.STATUS: (0,), PacketType.EVENTS: (EVENTS.size,),
                 PacketType.WRITE: range(8, 4 + DATA_MAX + 1, 4)}
        if kind not in sizes:
            return NakReason.TYPE
        if len(payload) not in sizes[PacketType(kind)]:
            return NakReason.LENGTH
        if kind == PacketType.HELLO:
            return None
        if self.session is None:
            return NakReason.SESSION
        if seq != self.expected and not self._past(seq):
            return NakReason.SEQUENCE
        past = self._past(seq)
        if kind in (PacketType.READ, PacketType.CHECKSUM) or kind == PacketType.WRITE and not past:
            address, size = self._range(kind, payload)
            if not self._inside(address, size, write=kind == PacketType.WRITE):
                return NakReason.ADDRESS
            if kind == PacketType.READ and size > DATA_MAX:
                return NakReason.LENGTH
        if kind == PacketType.EVENTS and not past and (payload[0] - self.first) % 256 > len(self._ring):
            return NakReason.ADDRESS
        if kind == PacketType.START and not past:
            slot = start_slot(payload) if self._slots > 1 else 0
            if slot >= self._slots:
                return NakReason.ADDRESS
            if int(self._core.running) >> slot & 1:
                return NakReason.BUSY
        return None

    @staticmethod
    def _range(kind: int, payload: bytes) -> tuple[int, int]:
        """Address and bytes that a packet names."""
        size = len(payload) - 4 if kind == PacketType.WRITE else int.from_bytes(payload[4:], "little")
        return int.from_bytes(payload[:4], "little"), size

    def _inside(self, address: int, size: int, *, write: bool) -> bool:
        """Whether a range is of whole words within one window."""
        if address % 4 or size % 4 or not 0 < size < SIZE_END:
            return False
        ends = [base + length for base, length, writable in self._windows
                if base >> window_bits(length) == address >> window_bits(length) and (writable or not write)]
        return bool(ends) and address + size <= ends[-1]

    def _act(self, seq: int, kind: PacketType, payload: bytes) -> tuple[PacketType, bytes]:
        """Do a packet; type and payload of the answer."""
        if kind == PacketType.HELLO:
            if payload:
                self._open(seq, *SESSION.unpack(payload))
            return PacketType.HELLO_ANSWER, self._hello
        past = self._past(seq)
        if not past:
            self.expected = (seq + 1) % 256
        if kind in (PacketType.READ, PacketType.CHECKSUM):
            content = self._core.read(*self._range(kind, payload))
            if kind == PacketType.READ:
                return PacketType.DATA, content
            return PacketType.SUM, crc32(content).to_bytes(4, "little")
        if kind == PacketType.STATUS:
            return PacketType.STATUS_ANSWER, self._status()
        if not past:
            self._change(kind, payload)
        return PacketType.ACK, b""

    def _open(self, seq: int, session: int) -> None:
        if session != self.session:
            self.session, self.expected = session, (seq + 1) % 256
            self._clear()

    def _status(self) -> bytes:
        words = [self._core.status()[i:i + 4] for i in range(0, STATUS_BYTES, 4)]
        words[StatusWord.BAD_PACKETS] = self.bad.to_bytes(4, "little")
        words[StatusWord.EVENTS] = bytes([self.next, self.first, 0, 0])
        if self._slots > 1:
            words[SLOTS_WORD] = int(self._core.running).to_bytes(4, "little")
        return b"".join(words)

    def _change(self, kind: PacketType, payload: bytes) -> None:
        """Do a packet that is done once."""
        if kind == PacketType.WRITE:
            self._core.write(int.from_bytes(payload[:4], "little"), payload[4:])
        elif kind == PacketType.START:
            self._core.start(payload)
        elif kind == PacketType.STOP and self._slots == 1:
            self._core.stop()
        elif kind == PacketType.STOP:
            self._core.stop(SLOTS.unpack(payload)[0] if payload else (1 << self._slots) - 1)
        else:
            number, again = EVENTS.unpack(payload)
            gone = (number - self.first) % 256
            sent = (self.unsent - self.first) % 256
            for _ in range(gone):
                self._ring.popleft()
            self.first = number
            if again & 1 or sent < gone:
                self.unsent = number
