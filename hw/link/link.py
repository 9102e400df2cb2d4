# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board's end of the link: packets in, answers and events out (layout: :mod:`tellme.spec.packets`)."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import EventLayout, RunArgs, RunControl, StatusLayout
from hw.link.crc32 import Crc32
from hw.link.framing import FrameReceiver, FrameSender
from tellme.spec.memory import EventType
from tellme.spec.packets import (
    BODY_OVERHEAD,
    DATA_MAX,
    MAGIC,
    NAME_BYTES,
    NO_SEQ,
    PROTOCOL_VERSION,
    NakReason,
    PacketType,
)
from tellme.spec.program import FORMAT_VERSION

__all__ = ["BusRequest", "HostLink"]

#: A request of the link to the core's address space: so many words of 32 bits at a byte address.
BusRequest = data.StructLayout({"write": 1, "addr": 32, "words": 20})
#: The CRC of a body followed by the body's CRC.
RESIDUE = 0x2144DF1C
CRC_BYTES = 4
#: Bits of an address within a window; those above name the window.
WINDOW_BITS = 28
ARG_BYTES = RunArgs.size // 8


class HostLink(wiring.Component):
    """Answers every packet, and acts only on packets whose frame, CRC, type, length and addresses are right.

    A whole packet is stored before anything is done.

    - WRITE and READ go over the bus: ``bus_req``, then as many words.
    - CHECKSUM reads a range and answers the range's CRC-32.
    - START waits for ``bus_idle``, so that earlier writes are in memory, and then gives a pulse of ``run.start`` with
      ``run.args``.  While ``running``, START is refused.
    - STOP gives a pulse of ``run.stop``.

    ``event`` is sent when no answer is under way.  ``busy`` marks a packet in work.  ``errors`` counts refused packets.

    ``windows`` lists (base, bytes, writable); the range of a packet must lie within one window.  A window begins at a multiple of
    2**WINDOW_BITS bytes and is smaller (ValueError otherwise); of two windows with the same base the later one is only for reads.
    ``name`` (up to 16 ASCII characters) and ``build_id`` are part of the answer to HELLO.
    """

    def __init__(self, *, windows: Iterable[tuple[int, int, bool]], name: str):
        self._windows = tuple(windows)
        for base, size, _ in self._windows:
            if base % (1 << WINDOW_BITS) or not 0 < size < 1 << WINDOW_BITS:
                raise ValueError(f"a window of {size} bytes at {base:#x}: one begins at a multiple of {1 << WINDOW_BITS:#x} and "
                                 "is smaller")
        self._name = name.encode("ascii").ljust(NAME_BYTES, b"\0")
        if len(self._name) > NAME_BYTES:
            raise ValueError(f"the name {name!r} is longer than {NAME_BYTES} characters")
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)), "build_id": In(256),
            "bus_req": Out(stream.Signature(BusRequest)), "bus_wdata": Out(stream.Signature(32)),
            "bus_rdata": In(stream.Signature(32)), "bus_idle": In(1),
            "run": Out(RunControl), "running": In(1), "status": In(StatusLayout),
            "event": In(stream.Signature(EventLayout)), "errors": Out(32), "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.sender = sender = FrameSender()
        m.submodules.in_crc = in_crc = Crc32()
        m.submodules.out_crc = out_crc = Crc32()
        m.submodules.sum_crc = sum_crc = Crc32()
        wiring.connect(m, wiring.flipped(self.rx), receiver.i)
        wiring.connect(m, sender.o, wiring.flipped(self.tx))
        m.d.comb += [in_crc.valid.eq(receiver.byte_valid), in_crc.data.eq(receiver.byte),
                     in_crc.clear.eq(receiver.release)]

        seq, kind, args = Signal(8), Signal(8), Signal(8 * ARG_BYTES)
        count = Signal(12)
        addr, size = args[:32], Signal(32)
        payload = Signal(12)
        short, damaged = Signal(), Signal()
        # Valid a cycle after the frame's end: the state IDLE sees the frame, the state JUDGE sees these registers.
        m.d.sync += [payload.eq(receiver.length - BODY_OVERHEAD), damaged.eq(in_crc.crc != RESIDUE),
                     short.eq(receiver.bad | (receiver.length < BODY_OVERHEAD))]
        last_seq, last_kind, last_valid = Signal(8), Signal(8), Signal()
        words_left, word, lane = Signal(20), Signal(32), Signal(3)
        reason = Signal(8)
        # Registers, computed from ``end``, which is a register too: two cycles after ``size``.
        inside, misaligned, too_long, again = Signal(), Signal(), Signal(), Signal()
        # Bytes of the window that the address names, for what is asked; one comparison serves all windows.
        limit = Signal(WINDOW_BITS)
        end = Signal(33)
        m.d.sync += [end.eq(addr + size),
                     inside.eq((end[WINDOW_BITS:] == addr[WINDOW_BITS:]) & (end[:WINDOW_BITS] <= limit)),
                     misaligned.eq((addr[:2] != 0) | (size[:2] != 0) | (size == 0) | (size[22:] != 0)),
                     too_long.eq((kind == PacketType.READ) & (size > DATA_MAX)),
                     again.eq(last_valid & (last_seq == seq) & (last_kind == kind))]
        is_write = kind == PacketType.WRITE
        for base, window_size, writable in self._windows:
            with m.If((addr[WINDOW_BITS:] == base >> WINDOW_BITS) & (Const(int(writable), 1) | ~is_write)):
                m.d.comb += limit.eq(window_size)

        # An answer has its type, then the bytes of ``content``, low one first, or words of the bus.
        answer, answer_seq, answer_bytes = Signal(8), Signal(8), Signal(7)
        sent = Signal(12)
        hello = MAGIC + b"".join(v.to_bytes(2, "little") for v in (PROTOCOL_VERSION, FORMAT_VERSION)) + self._name
        content, event_seq = Signal(8 * (len(hello) + 32)), Signal(8)
        # The byte that a state puts is chosen from many, and passes a register before the sender and its CRC.
        put, byte = Signal(), Signal(8)
        m.d.sync += [sender.put.eq(put), sender.byte.eq(byte)]
        # Ready for a word of the bus.  A register, because this ready goes on to the memory.
        wants_word = Signal()
        m.d.comb += [out_crc.valid.eq(sender.put), out_crc.data.eq(sender.byte), self.run.args.eq(args),
                     self.bus_rdata.ready.eq(wants_word),
                     self.bus_req.p.addr.eq(addr), self.bus_req.p.write.eq(is_write),
                     self.bus_req.p.words.eq(size >> 2), self.bus_wdata.payload.eq(word)]

        def nak(why: int) -> None:
            m.d.sync += [reason.eq(why), answer.eq(PacketType.NAK), answer_bytes.eq(1), self.errors.eq(self.errors + 1)]
            m.next = "ANSWER"

        def reply(kind_: Any, size_: Any = 0) -> None:
            m.d.sync += [answer.eq(kind_), answer_bytes.eq(size_)]
            m.next = "ANSWER"

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE") | receiver.frame)
            with m.State("IDLE"):
                m.d.sync += [count.eq(0), sent.eq(0), lane.eq(0), answer_seq.eq(NO_SEQ)]
                m.d.comb += [out_crc.clear.eq(1), sum_crc.clear.eq(1), receiver.addr.eq(0)]
                with m.If(receiver.frame):
                    m.next = "JUDGE"
                with m.Elif(self.event.valid):
                    m.next = "EVENT"
            with m.State("EVENT"):
                m.d.comb += self.event.ready.eq(1)
                m.d.sync += [content.eq(self.event.p.payload), answer_seq.eq(event_seq), event_seq.eq(event_seq + 1)]
                reply(Mux(self.event.p.type == EventType.TOKEN, PacketType.TOKEN, PacketType.DONE), 32)
            with m.State("JUDGE"):
                m.next = "PARSE"
                with m.If(short):
                    nak(NakReason.FRAMING)
                with m.Elif(damaged):
                    nak(NakReason.CRC)
            with m.State("PARSE"):
                # Byte count - 1 is here; seq, type, then up to 16 argument bytes.
                m.d.comb += receiver.addr.eq(count)
                m.d.sync += count.eq(count + 1)
                with m.If(count == 1):
                    m.d.sync += [seq.eq(receiver.data), answer_seq.eq(receiver.data)]
                with m.If(count == 2):
                    m.d.sync += kind.eq(receiver.data)
                for i in range(ARG_BYTES):
                    with m.If(count == i + 3):
                        m.d.sync += args[8 * i:8 * i + 8].eq(receiver.data)
                with m.If(count == ARG_BYTES + 2):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += size.eq(Mux(is_write, payload - 4, Mux(kind == PacketType.READ, args[32:48], args[32:64])))
                m.next = "RANGE"
                with m.Switch(kind):
                    for code, wanted in ((PacketType.HELLO, 0), (PacketType.READ, 6), (PacketType.CHECKSUM, 8),
                                         (PacketType.START, 16), (PacketType.STOP, 0), (PacketType.STATUS, 0)):
                        with m.Case(code):
                            with m.If(payload != wanted):
                                nak(NakReason.LENGTH)
                    with m.Case(PacketType.WRITE):
                        with m.If((payload < 8) | (payload > 4 + DATA_MAX) | (payload[:2] != 0)):
                            nak(NakReason.LENGTH)
                    with m.Default():
                        nak(NakReason.TYPE)
            with m.State("RANGE"):
                # One cycle for the sum of address and size, one to compare it.
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.next = "ACT"
            with m.State("ACT"):
                m.d.sync += [words_left.eq(size >> 2), count.eq(6), last_valid.eq(1), last_seq.eq(seq),
                             last_kind.eq(kind)]
                with m.Switch(kind):
                    with m.Case(PacketType.HELLO):
                        reply(PacketType.HELLO_ANSWER, len(hello) + 32)
                    with m.Case(PacketType.STATUS):
                        reply(PacketType.STATUS_ANSWER, 32)
                    with m.Case(PacketType.STOP):
                        m.d.comb += self.run.stop.eq(~again)
                        reply(PacketType.ACK)
                    with m.Case(PacketType.START):
                        with m.If(again):
                            reply(PacketType.ACK)
                        with m.Elif(self.running):
                            nak(NakReason.BUSY)
                            m.d.sync += last_valid.eq(0)
                        with m.Else():
                            m.next = "START"
                    with m.Default():
                        with m.If(~inside | misaligned):
                            nak(NakReason.ADDRESS)
                        with m.Elif(too_long):
                            nak(NakReason.LENGTH)
                        with m.Else():
                            m.next = "BUS"
            with m.State("START"):
                with m.If(self.bus_idle):
                    m.d.comb += self.run.start.eq(1)
                    reply(PacketType.ACK)
            with m.State("BUS"):
                m.d.comb += self.bus_req.valid.eq(1)
                with m.If(self.bus_req.ready):
                    with m.Switch(kind):
                        with m.Case(PacketType.WRITE):
                            m.next = "WRITE-BYTE"
                        with m.Case(PacketType.READ):
                            reply(PacketType.DATA)
                        with m.Default():
                            m.d.sync += wants_word.eq(1)
                            m.next = "SUM-WORD"
            with m.State("WRITE-BYTE"):
                m.d.comb += receiver.addr.eq(count)
                m.d.sync += count.eq(count + 1)
                m.next = "WRITE-TAKE"
            with m.State("WRITE-TAKE"):
                m.d.sync += [word.eq(Cat(word[8:], receiver.data)), lane.eq(lane + 1)]
                m.next = "WRITE-BYTE"
                with m.If(lane == 3):
                    m.d.sync += lane.eq(0)
                    m.next = "WRITE-WORD"
            with m.State("WRITE-WORD"):
                m.d.comb += self.bus_wdata.valid.eq(1)
                with m.If(self.bus_wdata.ready):
                    m.d.sync += words_left.eq(words_left - 1)
                    m.next = "WRITE-BYTE"
                    with m.If(words_left == 1):
                        reply(PacketType.ACK)
            with m.State("SUM-WORD"):
                m.d.sync += word.eq(self.bus_rdata.payload)
                with m.If(self.bus_rdata.valid):
                    m.d.sync += wants_word.eq(0)
                    m.next = "SUM-BYTE"
            with m.State("SUM-BYTE"):
                m.d.comb += [sum_crc.valid.eq(1), sum_crc.data.eq(word[:8])]
                m.d.sync += [word.eq(word >> 8), lane.eq(lane + 1)]
                with m.If(lane == 3):
                    m.d.sync += [lane.eq(0), words_left.eq(words_left - 1), wants_word.eq(words_left != 1)]
                    m.next = "SUM-WORD"
                    with m.If(words_left == 1):
                        reply(PacketType.SUM, CRC_BYTES)
            with m.State("ANSWER"):
                m.d.comb += [put.eq(1), byte.eq(answer_seq)]
                # An event's content is here already.
                with m.Switch(answer):
                    with m.Case(PacketType.HELLO_ANSWER):
                        m.d.sync += content.eq(Cat(Const(int.from_bytes(hello, "little"), 8 * len(hello)), self.build_id))
                    with m.Case(PacketType.STATUS_ANSWER):
                        m.d.sync += content.eq(self.status)
                    with m.Case(PacketType.SUM):
                        m.d.sync += content.eq(sum_crc.crc)
                    with m.Case(PacketType.NAK):
                        m.d.sync += content.eq(reason)
                m.next = "ANSWER-TYPE"
            with m.State("ANSWER-TYPE"):
                m.d.comb += [put.eq(1), byte.eq(answer)]
                m.next = "ANSWER-BYTES"
                with m.If(answer == PacketType.DATA):
                    m.d.sync += wants_word.eq(1)
                    m.next = "DATA-WORD"
                with m.Elif(answer_bytes == 0):
                    m.next = "LAST-BYTE"
            with m.State("ANSWER-BYTES"):
                m.d.comb += [put.eq(1), byte.eq(content[:8])]
                m.d.sync += [sent.eq(sent + 1), content.eq(content >> 8)]
                with m.If(sent + 1 == answer_bytes):
                    m.next = "LAST-BYTE"
            with m.State("DATA-WORD"):
                m.d.sync += word.eq(self.bus_rdata.payload)
                with m.If(self.bus_rdata.valid):
                    m.d.sync += wants_word.eq(0)
                    m.next = "DATA-BYTE"
            with m.State("DATA-BYTE"):
                m.d.comb += [put.eq(1), byte.eq(word[:8])]
                m.d.sync += [word.eq(word >> 8), lane.eq(lane + 1)]
                with m.If(lane == 3):
                    m.d.sync += [lane.eq(0), words_left.eq(words_left - 1), wants_word.eq(words_left != 1)]
                    m.next = "DATA-WORD"
                    with m.If(words_left == 1):
                        m.next = "LAST-BYTE"
            with m.State("LAST-BYTE"):
                # On its way into the CRC.
                m.next = "ANSWER-CRC"
            with m.State("ANSWER-CRC"):
                m.d.sync += [word.eq(out_crc.crc), lane.eq(0)]
                m.next = "CRC-BYTE"
            with m.State("CRC-BYTE"):
                m.d.comb += [put.eq(1), byte.eq(word[:8])]
                m.d.sync += [word.eq(word >> 8), lane.eq(lane + 1)]
                with m.If(lane == 3):
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += sender.send.eq(1)
                m.next = "SENDING"
            with m.State("SENDING"):
                with m.If(~sender.busy):
                    # An event leaves a packet that came meanwhile in its place.
                    m.next = "IDLE"
                    with m.If((answer != PacketType.TOKEN) & (answer != PacketType.DONE)):
                        m.next = "RELEASE"
            with m.State("RELEASE"):
                m.d.comb += receiver.release.eq(1)
                m.next = "IDLE"
        return m
