# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Talks to a board packet by packet.  One packet is under way at a time, and is sent again if no answer comes."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zlib import crc32

from tellme.link.errors import LinkError
from tellme.link.framing import FrameError, body, decode, encode, open_body
from tellme.link.transport import Transport
from tellme.spec.memory import Event, EventType, StartArgs
from tellme.spec.packets import DATA_MAX, HELLO, MAGIC, PROTOCOL_VERSION, NakReason, PacketType
from tellme.spec.program import FORMAT_VERSION
from tellme.spec.ranges import U32, Range

__all__ = ["BoardClient", "Hello"]

#: Seconds that a real board's answer may take.  The slowest answer, a checksum over 4 MB, takes a second.
TIMEOUT = 2.0
TRIES = 3
#: Bytes of a CHECKSUM at most.
CHECKSUM_MAX = 1 << 21


@dataclass(frozen=True)
class Hello:
    """What a board says of itself."""

    preset: str
    core_sha256: str


def check_words(address: int, size: int) -> None:
    """Refuse a range of bytes that is outside the address space (a RangeError), or does not begin at a word (a ValueError)."""
    U32.check("address", address)
    Range(0, U32.most + 1).check("address + bytes", address + size)
    if address % 4:
        raise ValueError(f"address {address:#x} is no multiple of 4")


class BoardClient:
    """Packets over a transport.  ``timeout`` is the longest wait for an answer, in seconds."""

    def __init__(self, transport: Transport, *, timeout: float = TIMEOUT):
        self._transport = transport
        self._timeout = timeout
        self._seq = 0
        self._buffer = bytearray()
        self._events: deque[tuple[EventType, Event]] = deque()
        self._garbage = 0
        # A zero byte ends any frame that the board has received in part.
        transport.write(b"\0")

    # ---------------------------------------------------------------- packets
    def _packet(self, deadline: float) -> tuple[int, int, bytes] | None:
        """The next good packet, or None at the deadline."""
        while True:
            end = self._buffer.find(0)
            if end >= 0:
                frame = bytes(self._buffer[:end])
                del self._buffer[:end + 1]
                if not frame:
                    continue
                try:
                    return open_body(decode(frame))
                except FrameError:
                    self._garbage += 1
                    continue
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._buffer += self._transport.read(left)
            if len(self._buffer) > 1 << 20:
                raise LinkError(f"{self._transport.name} sends bytes that are no packets; is it a tellme board, "
                                "with its bitstream loaded?")

    def _event(self, kind: int, payload: bytes) -> bool:
        """Keep an event for later; False for any other packet."""
        if kind not in (PacketType.TOKEN, PacketType.DONE) or len(payload) != Event.LAYOUT.size:
            return False
        self._events.append((EventType(kind - PacketType.TOKEN), Event.unpack(payload)))
        return True

    def _ask(self, kind: PacketType, payload: bytes, wanted: PacketType) -> bytes:
        """Send a packet and return the payload of its answer.  Silence or a garbled packet: send again, TRIES times in all."""
        self._seq = (self._seq + 1) % 0xFF
        frame = encode(body(self._seq, kind, payload))
        for _ in range(TRIES):
            self._transport.write(frame)
            deadline = time.monotonic() + self._timeout
            while (packet := self._packet(deadline)) is not None:
                seq, answer, content = packet
                if self._event(answer, content):
                    continue
                if answer == PacketType.NAK:
                    why = content[0] if content else 0
                    if why in (NakReason.CRC, NakReason.FRAMING):
                        break
                    if seq != self._seq:
                        continue
                    name = NakReason(why).name if why in list(NakReason) else str(why)
                    raise LinkError(f"the board refused a {kind.name} packet: {name}")
                if seq == self._seq and answer == wanted:
                    return content
        if self._garbage:
            raise LinkError(f"{self._transport.name} answers garbage ({self._garbage} bad packets); check the cable and "
                            "the baud rate, or load the bitstream again")
        raise LinkError(f"{self._transport.name} does not answer (no answer to {kind.name} within {self._timeout:.0f} s, "
                        f"{TRIES} tries); is the bitstream loaded? make program, or power the board off and on")

    # ---------------------------------------------------------------- what a board does
    def hello(self) -> Hello:
        """Ask the board for its name, the protocol's version and the core's hash."""
        content = self._ask(PacketType.HELLO, b"", PacketType.HELLO_ANSWER)
        if len(content) != HELLO.size:
            raise LinkError(f"{self._transport.name} answers, but is no tellme board")
        magic, version, program_format, name, build = HELLO.unpack(content)
        if magic != MAGIC:
            raise LinkError(f"{self._transport.name} answers, but is no tellme board")
        if version != PROTOCOL_VERSION:
            raise self._other("speaks protocol", version, PROTOCOL_VERSION)
        if program_format != FORMAT_VERSION:
            raise self._other("runs programs of format", program_format, FORMAT_VERSION)
        return Hello(name.rstrip(b"\0").decode("ascii", "replace"), build.hex())

    def _other(self, does: str, its: int, own: int) -> LinkError:
        """A core of another version."""
        return LinkError(f"the core at {self._transport.name} {does} {its}, this tellme-host {own}: build its bitstream from "
                         "this version of tellme and load it, or use the tellme-host that belongs to the bitstream")

    def write(self, address: int, content: bytes, progress: Callable[[int], None] | None = None) -> None:
        """Write bytes from an address that is a multiple of 4; the last word is padded with zeros.

        An address that no packet can hold is a RangeError.  :meth:`verify` compares what the board's memory holds afterwards.
        """
        padded = content + bytes(-len(content) % 4)
        check_words(address, len(padded))
        for at in range(0, len(padded), DATA_MAX):
            piece = padded[at:at + DATA_MAX]
            self._ask(PacketType.WRITE, (address + at).to_bytes(4, "little") + piece, PacketType.ACK)
            if progress is not None:
                progress(min(at + len(piece), len(content)))

    def read(self, address: int, size: int) -> bytes:
        """Read bytes from an address that is a multiple of 4.  An address or a size that no packet can hold is a RangeError."""
        U32.check("bytes of a READ", size)
        out = bytearray()
        whole = size + -size % 4
        check_words(address, whole)
        for at in range(0, whole, DATA_MAX):
            n = min(DATA_MAX, whole - at)
            content = self._ask(PacketType.READ, (address + at).to_bytes(4, "little") + n.to_bytes(2, "little"),
                                PacketType.DATA)
            if len(content) != n:
                raise LinkError(f"the board answered {len(content)} bytes to a READ of {n}")
            out += content
        return bytes(out[:size])

    def checksum(self, address: int, size: int) -> int:
        """CRC-32 of a range of whole words, computed by the board.  More than CHECKSUM_MAX bytes are a RangeError."""
        Range(0, CHECKSUM_MAX).check("bytes of a CHECKSUM", size)
        check_words(address, size)
        content = self._ask(PacketType.CHECKSUM, address.to_bytes(4, "little") + size.to_bytes(4, "little"),
                            PacketType.SUM)
        return int.from_bytes(content, "little")

    def verify(self, address: int, content: bytes) -> None:
        """Compare a range with what was written, by checksum."""
        padded = content + bytes(-len(content) % 4)
        for at in range(0, len(padded), CHECKSUM_MAX):
            piece = padded[at:at + CHECKSUM_MAX]
            if self.checksum(address + at, len(piece)) != crc32(piece):
                raise LinkError(f"the board's memory does not hold what was written at {address + at:#x}")

    def start(self, args: StartArgs) -> None:
        """Start a run."""
        self._events.clear()
        self._ask(PacketType.START, args.pack(), PacketType.ACK)

    def stop(self) -> None:
        """End the run; the event DONE follows."""
        self._ask(PacketType.STOP, b"", PacketType.ACK)

    def status(self) -> tuple[int, ...]:
        """The eight words of memory.StatusWord."""
        content = self._ask(PacketType.STATUS, b"", PacketType.STATUS_ANSWER)
        return tuple(int.from_bytes(content[i:i + 4], "little") for i in range(0, len(content), 4))

    def events(self) -> Iterator[tuple[EventType, Event]]:
        """Events as they come.  A LinkError after a silence: a step of a run takes well less than the timeout."""
        while True:
            while self._events:
                yield self._events.popleft()
            packet = self._packet(time.monotonic() + self._timeout)
            if packet is None:
                # Silence: is anybody there?
                running = self.status()[0] & 1
                if not running and not self._events:
                    raise LinkError(f"{self._transport.name} stopped without saying so")
                continue
            self._event(packet[1], packet[2])

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()
