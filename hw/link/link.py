# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board's end of the link: packets in, answers and events out (layout: :mod:`tellme.spec.packets`)."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import EventLayout, RunArgs, StatusLayout, run_control
from hw.link.crc32 import Crc32
from hw.link.events import EVENT_WORDS, EventRing, word_left
from hw.link.framing import FrameReceiver, FrameSender
from tellme.spec.packets import (
    BODY_OVERHEAD,
    DATA_MAX,
    EVENTS,
    HELLO,
    MAGIC,
    NAME_BYTES,
    PAST,
    PROTOCOL_VERSION,
    SESSION,
    SLOTS,
    NakReason,
    PacketType,
)
from tellme.spec.program import FORMAT_VERSION
from tellme.spec.widths import WINDOW_BITS, bits_for, window_bits

__all__ = ["BusRequest", "HostLink"]

#: A request of the link to the core's address space: so many words of 32 bits at a byte address.
BusRequest = data.StructLayout({"write": 1, "addr": 32, "words": 20})
#: The CRC of a body followed by the body's CRC.
RESIDUE = 0x2144DF1C
#: Bits of a range's bytes: as many as BusRequest has words.
SIZE_BITS = 22
#: seq and type, and the longest arguments, those of START.
HEAD_BYTES = 2 + RunArgs.size // 8
#: Bytes of a WRITE's body before its data: seq, type and address.
WRITE_HEAD = 6
#: Words of the answers to HELLO and STATUS.
HELLO_WORDS = HELLO.size // 4
STATUS_WORDS = StatusLayout.size // 32
#: Bytes of payload that a packet must have.  A WRITE's are counted separately; a HELLO may have SESSION.size too, and in a core
#: with several slots a STOP SLOTS.size.
PAYLOADS = {PacketType.HELLO: 0, PacketType.READ: 6, PacketType.CHECKSUM: 8, PacketType.START: RunArgs.size // 8,
            PacketType.STOP: 0, PacketType.STATUS: 0, PacketType.EVENTS: EVENTS.size}
#: Packets that are acknowledged, and not done again, if they were done.
ONCE = (PacketType.WRITE, PacketType.START, PacketType.STOP, PacketType.EVENTS)


class HostLink(wiring.Component):
    """Answers every packet, and acts only on packets whose frame, CRC, type, length, session, seq and addresses are right.

    A whole packet is stored before anything is done.  docs/decisions/0014-link.md has the rules of sessions, seqs and events.

    - WRITE and READ go over the bus: ``bus_req``, then as many words.
    - CHECKSUM reads a range and answers the range's CRC-32.
    - START waits for ``bus_idle``, so that earlier writes are in memory, and then gives a pulse of ``run.start`` with
      ``run.args``.  While ``running``, START is refused.
    - STOP gives a pulse of ``run.stop``.
    - With several ``slots``, a power of two, START is refused while the slot that it names runs, or if there is no such slot.
      ``run.slots`` are those that a STOP names, or all.  ``running`` has a bit for each slot.
    - ``status`` is the answer to STATUS; the link itself fills in the word ``events``.

    An ``event`` goes into a ring as soon as the ring has room (:class:`hw.link.events.EventRing`), and is sent from there when no
    answer is under way.  ``busy`` marks a packet in work.  ``errors`` counts refused packets.

    ``windows`` lists (base, bytes, writable); the range of a packet must lie within one window.  A window begins at a multiple of
    2**WINDOW_BITS bytes, and of a power of two that is not smaller than the window (ValueError otherwise); of two windows with
    the same base the later one is only for reads.
    ``name`` (up to 16 ASCII characters) and ``build_id`` are part of the answer to HELLO.

    ``checksum_bits``: bits of a range that CHECKSUM takes in a cycle.  With 8 the CRC of the packets serves ranges too, and a
    word of 32 bits takes 5 cycles.  With 32 the range has a CRC of its own, and the link takes a word in each cycle in which the
    bus has one.  The answers are the same.
    """

    def __init__(self, *, windows: Iterable[tuple[int, int, bool]], name: str, checksum_bits: int = 8, slots: int = 1):
        if checksum_bits not in (8, 32):
            raise ValueError(f"checksum_bits is {checksum_bits}; 8 and 32 can be")
        self._wide_sums, self._slots = checksum_bits == 32, slots
        self._windows = tuple(windows)
        for base, size, _ in self._windows:
            if size <= 0 or base % (1 << window_bits(size)):
                raise ValueError(f"a window of {size} bytes at {base:#x}: one begins at a multiple of a power of two that is not "
                                 f"smaller, and of {1 << WINDOW_BITS:#x}")
        self._name = name.encode("ascii").ljust(NAME_BYTES, b"\0")
        if len(self._name) > NAME_BYTES:
            raise ValueError(f"the name {name!r} is longer than {NAME_BYTES} characters")
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)), "build_id": In(256),
            "bus_req": Out(stream.Signature(BusRequest)), "bus_wdata": Out(stream.Signature(32)),
            "bus_rdata": In(stream.Signature(32)), "bus_idle": In(1),
            "run": Out(run_control(slots)), "running": In(slots), "status": In(StatusLayout),
            "event": In(stream.Signature(EventLayout)), "errors": Out(32), "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.sender = sender = FrameSender()
        # One CRC for all: of a packet, of an answer, and of a range that is taken byte by byte.
        m.submodules.crc = crc = Crc32()
        m.submodules.ring = ring = EventRing()
        wiring.connect(m, wiring.flipped(self.rx), receiver.i)
        wiring.connect(m, sender.o, wiring.flipped(self.tx))
        wiring.connect(m, wiring.flipped(self.event), ring.i)

        # ------------------------------------------------------------------ a packet
        # The first bytes enter at the top and move down into their places.
        head = Signal(8 * HEAD_BYTES)
        seq, kind, args = head[:8], head[8:16], head[16:]
        addr = args[:32]
        # Byte count - 1 of the packet is here.
        count, feeding, shifting = Signal.like(receiver.length), Signal(), Signal()
        is_hello, is_write, is_read = (kind == k for k in (PacketType.HELLO, PacketType.WRITE, PacketType.READ))
        # Registers all, in the order in which they follow from ``head``.
        size, damaged, known_type, right_length = Signal(32), Signal(), Signal(), Signal()
        session, session_open, same_session, opens = Signal(16), Signal(), Signal(), Signal()
        expected, before = Signal(8), Signal(8)
        # Bits in which an address and the end of its window are compared: a small window's are those behind its name's too.
        offset_bits = max(window_bits(window_size) for _, window_size, _ in self._windows)
        offset, inside, misaligned, too_long = Signal(offset_bits + 1), Signal(), Signal(), Signal()
        m.d.comb += [receiver.addr.eq(count), self.run.args.eq(args),
                     ring.upto.eq(args[:8]), ring.again.eq(args[8])]
        wanted = Signal.like(receiver.length)
        with m.Switch(kind):
            for code, payload in PAYLOADS.items():
                with m.Case(code):
                    m.d.comb += wanted.eq(BODY_OVERHEAD + payload)
            with m.Default():
                m.d.comb += wanted.eq(0)
        has_data = (receiver.length >= WRITE_HEAD + 8) & (receiver.length <= WRITE_HEAD + 4 + DATA_MAX) & \
            (receiver.length[:2] == (WRITE_HEAD + 4) % 4)
        m.d.sync += [
            damaged.eq(crc.crc != RESIDUE),
            known_type.eq(is_write | (wanted != 0)),
            opens.eq(is_hello & (receiver.length == BODY_OVERHEAD + SESSION.size)),
            right_length.eq(Mux(is_write, has_data, receiver.length == wanted)),
            same_session.eq(session_open & (session == args[:16])),
            # Packets of before give 0 to PAST - 1, the expected one -1.
            before.eq(expected - seq - 1),
            size.eq(Mux(is_write, (receiver.length - (WRITE_HEAD + 4))[:len(receiver.length)],
                        Mux(is_read, args[32:48], args[32:64]))),
        ]
        # Bytes of the window that the address names, for what is asked; one comparison serves all windows.
        ends = [base % (1 << offset_bits) + window_size for base, window_size, _ in self._windows]
        limit = Signal(max(WINDOW_BITS, bits_for(max(ends))))
        for (base, window_size, writable), end in zip(self._windows, ends, strict=True):
            bits = window_bits(window_size)
            with m.If((addr[bits:] == base >> bits) & (Const(int(writable), 1) | ~is_write)):
                m.d.comb += limit.eq(end)
        m.d.sync += [offset.eq(addr[:offset_bits] + size[:SIZE_BITS]), inside.eq(offset <= limit),
                     misaligned.eq((addr[:2] != 0) | (size[:2] != 0) | (size == 0) | (size[SIZE_BITS:] != 0)),
                     too_long.eq(is_read & (size > DATA_MAX))]
        runs: Value = self.running
        if self._slots > 1:
            # The slot of a START, and whether a STOP names slots.
            slot, stops_some, no_slot = args[80:96], Signal(), Signal()
            runs = self.running.bit_select(slot[:(self._slots - 1).bit_length()], 1)
            m.d.sync += [stops_some.eq((kind == PacketType.STOP) & (receiver.length == BODY_OVERHEAD + SLOTS.size)),
                         no_slot.eq(slot >= self._slots)]
            m.d.comb += self.run.slots.eq(Mux(stops_some, args, ~0))
        # The packet in work is the expected one, and was not refused.
        fresh = Signal()

        # ------------------------------------------------------------------ an answer
        # Its bytes leave ``word``, low one first.  The first word has seq and type, and two bytes for NAK; then come words_left
        # words of content, then the CRC.
        answer, answer_seq, reason = Signal(8), Signal(8), Signal(8)
        words_left, word, lane, closing = Signal(20), Signal(32), Signal(2), Signal()
        summing, total = Signal(), Signal(32)
        range_sum: Value = total
        if self._wide_sums:
            m.submodules.range_crc = range_crc = Crc32(32)
            m.d.sync += [range_crc.valid.eq(0), range_crc.data.eq(self.bus_rdata.payload)]
            range_sum = range_crc.crc
        hello = MAGIC + b"".join(v.to_bytes(2, "little") for v in (PROTOCOL_VERSION, FORMAT_VERSION)) + self._name
        greeting = Cat(Const(int.from_bytes(hello, "little"), 8 * len(hello)), self.build_id)
        status = Signal(StatusLayout)
        m.d.comb += [status.eq(self.status), status.events.eq(Cat(ring.next, ring.first)), ring.word.eq(words_left)]
        # The bits of ``answer`` in which the answers with content differ; bit 4 marks events.
        content = Mux(answer[4], ring.data,
                      Mux(~answer[2], word_left(greeting, words_left),
                          Mux(answer[1], word_left(status.as_value(), words_left),
                              Mux(answer[0], range_sum, self.bus_rdata.payload))))
        # Bytes pass a register before the sender and the CRC.
        feed, put, parsing = Signal(), Signal(), Signal()
        m.d.sync += [crc.valid.eq(feed), crc.data.eq(Mux(parsing, receiver.data, word[:8])), sender.put.eq(put)]
        # Ready for a word of the bus.  A register, because this ready goes on to the memory.
        wants_word = Signal()
        m.d.comb += [sender.byte.eq(crc.data), self.bus_rdata.ready.eq(wants_word),
                     self.bus_req.p.addr.eq(addr), self.bus_req.p.write.eq(is_write),
                     self.bus_req.p.words.eq(size >> 2), self.bus_wdata.payload.eq(word)]

        def nak(why: int) -> None:
            m.d.sync += [reason.eq(why), fresh.eq(0), answer.eq(PacketType.NAK), self.errors.eq(self.errors + 1)]
            m.next = "ANSWER"

        def reply(kind_: int, words: int = 0) -> None:
            m.d.sync += [answer.eq(kind_), words_left.eq(words)]
            m.next = "ANSWER"

        # words_left is 0 in IDLE: after each answer, and after each WRITE.
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE") | receiver.frame)
            with m.State("IDLE"):
                m.d.sync += [count.eq(0), closing.eq(0)]
                m.d.comb += crc.clear.eq(1)
                with m.If(receiver.frame):
                    m.next = "JUDGE"
                with m.Elif(ring.unsent):
                    m.next = "EVENT"
            with m.State("EVENT"):
                m.d.sync += [answer.eq(PacketType.TOKEN | ring.data[0]), answer_seq.eq(ring.number), words_left.eq(EVENT_WORDS)]
                m.next = "ANSWER"
            with m.State("JUDGE"):
                m.d.sync += [count.eq(count + 1), feeding.eq(1), shifting.eq(1), answer_seq.eq(expected)]
                m.next = "PARSE"
                with m.If(receiver.bad | (receiver.length < BODY_OVERHEAD)):
                    nak(NakReason.FRAMING)
            with m.State("PARSE"):
                m.d.comb += [parsing.eq(1), feed.eq(feeding)]
                m.d.sync += count.eq(count + 1)
                with m.If(count == receiver.length):
                    m.d.sync += feeding.eq(0)
                with m.If(shifting):
                    m.d.sync += head.eq(Cat(head[8:], receiver.data))
                with m.If(count == HEAD_BYTES):
                    m.d.sync += shifting.eq(0)
                with m.If(~feeding & ~shifting):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "ORDER"
                with m.If(damaged):
                    nak(NakReason.CRC)
                with m.Else():
                    m.d.sync += answer_seq.eq(seq)
                    with m.If(~known_type):
                        nak(NakReason.TYPE)
                    with m.Elif(~right_length & ~opens & ~stops_some if self._slots > 1 else ~right_length & ~opens):
                        nak(NakReason.LENGTH)
            with m.State("ORDER"):
                m.d.sync += fresh.eq(~is_hello & (before == 0xFF))
                m.next = "ACT"
                with m.If(~is_hello):
                    with m.If(~session_open):
                        nak(NakReason.SESSION)
                    with m.Elif(before < PAST):
                        with m.Switch(kind):
                            with m.Case(*ONCE):
                                reply(PacketType.ACK)
                    with m.Elif(before != 0xFF):
                        nak(NakReason.SEQUENCE)
            with m.State("ACT"):
                m.d.sync += count.eq(WRITE_HEAD)
                with m.Switch(kind):
                    with m.Case(PacketType.HELLO):
                        reply(PacketType.HELLO_ANSWER, HELLO_WORDS)
                        with m.If(opens & ~same_session):
                            m.d.comb += ring.clear.eq(1)
                            m.d.sync += [session.eq(args[:16]), session_open.eq(1), expected.eq(seq + 1)]
                    with m.Case(PacketType.STATUS):
                        reply(PacketType.STATUS_ANSWER, STATUS_WORDS)
                    with m.Case(PacketType.STOP):
                        m.d.comb += self.run.stop.eq(1)
                        reply(PacketType.ACK)
                    with m.Case(PacketType.EVENTS):
                        with m.If(ring.known):
                            m.d.comb += ring.forget.eq(1)
                            reply(PacketType.ACK)
                        with m.Else():
                            nak(NakReason.ADDRESS)
                    with m.Case(PacketType.START):
                        m.next = "START"
                        with m.If(runs):
                            nak(NakReason.BUSY)
                        if self._slots > 1:
                            with m.If(no_slot):
                                nak(NakReason.ADDRESS)
                    with m.Default():
                        m.next = "BUS"
                        with m.If(~inside | misaligned):
                            nak(NakReason.ADDRESS)
                        with m.Elif(too_long):
                            nak(NakReason.LENGTH)
            with m.State("START"):
                with m.If(self.bus_idle):
                    m.d.comb += self.run.start.eq(1)
                    reply(PacketType.ACK)
            with m.State("BUS"):
                m.d.comb += [self.bus_req.valid.eq(1), crc.clear.eq(1)]
                if self._wide_sums:
                    m.d.comb += range_crc.clear.eq(1)
                with m.If(self.bus_req.ready):
                    m.d.sync += words_left.eq(size >> 2)
                    with m.Switch(kind):
                        with m.Case(PacketType.WRITE):
                            m.next = "WRITE-BYTE"
                        with m.Case(PacketType.READ):
                            m.d.sync += answer.eq(PacketType.DATA)
                            m.next = "ANSWER"
                        with m.Default():
                            if self._wide_sums:
                                m.d.sync += wants_word.eq(1)
                                m.next = "SUM"
                            else:
                                m.d.sync += [answer.eq(PacketType.DATA), summing.eq(1), wants_word.eq(1)]
                                m.next = "WORD"
            if self._wide_sums:
                with m.State("SUM"):
                    # Cycles pass from the last word to the answer's content, so that the CRC has taken this word by then.
                    with m.If(self.bus_rdata.valid):
                        m.d.sync += [range_crc.valid.eq(1), words_left.eq(words_left - 1)]
                        with m.If(words_left == 1):
                            m.d.sync += wants_word.eq(0)
                            reply(PacketType.SUM, 1)
            with m.State("WRITE-BYTE"):
                m.d.sync += count.eq(count + 1)
                m.next = "WRITE-TAKE"
            with m.State("WRITE-TAKE"):
                m.d.sync += [word.eq(Cat(word[8:], receiver.data)), lane.eq(lane + 1)]
                m.next = "WRITE-BYTE"
                with m.If(lane == 3):
                    m.next = "WRITE-WORD"
            with m.State("WRITE-WORD"):
                m.d.comb += self.bus_wdata.valid.eq(1)
                with m.If(self.bus_wdata.ready):
                    m.d.sync += words_left.eq(words_left - 1)
                    m.next = "WRITE-BYTE"
                    with m.If(words_left == 1):
                        reply(PacketType.ACK)
            with m.State("ANSWER"):
                m.d.comb += crc.clear.eq(1)
                m.d.sync += [word.eq(Cat(answer_seq, answer, reason, expected)), lane.eq(Mux(answer == PacketType.NAK, 0, 2))]
                m.next = "BYTE"
            with m.State("BYTE"):
                m.d.comb += [feed.eq(1), put.eq(~summing)]
                m.d.sync += [word.eq(Cat(word[8:], receiver.data)), lane.eq(lane + 1)]
                with m.If(lane == 3):
                    m.next = "LAST-BYTE"
                    with m.If(closing):
                        m.next = "SEND"
                    with m.Elif(words_left != 0):
                        m.d.sync += wants_word.eq(answer == PacketType.DATA)
                        m.next = "WORD"
            with m.State("WORD"):
                m.d.sync += word.eq(content)
                with m.If((answer != PacketType.DATA) | self.bus_rdata.valid):
                    m.d.sync += [words_left.eq(words_left - 1), wants_word.eq(0)]
                    m.next = "BYTE"
            with m.State("LAST-BYTE"):
                # On its way into the CRC.
                m.next = "CRC"
            with m.State("CRC"):
                m.d.sync += [word.eq(crc.crc), total.eq(crc.crc), closing.eq(~summing)]
                m.next = "BYTE"
                with m.If(summing):
                    m.d.sync += summing.eq(0)
                    reply(PacketType.SUM, 1)
            with m.State("SEND"):
                m.d.comb += sender.send.eq(1)
                m.next = "SENDING"
            with m.State("SENDING"):
                with m.If(~sender.busy):
                    # An event leaves a packet that came meanwhile in its place.
                    m.next = "RELEASE"
                    with m.If(answer[4]):
                        m.d.comb += ring.sent.eq(1)
                        m.next = "IDLE"
            with m.State("RELEASE"):
                m.d.comb += receiver.release.eq(1)
                m.d.sync += expected.eq(expected + fresh)
                m.next = "IDLE"
        return m
