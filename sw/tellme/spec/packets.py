# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The link's packets: framing, types, reasons, layouts.

A frame is COBS(body) and a zero byte.  body = {seq u8, type u8, payload, CRC-32 (zlib) of seq, type and payload}, little-endian.

A host opens a session with HELLO.  Each packet after that has the next seq, modulo 256, and is done exactly once: the board
expects a seq, does the packet that has this seq, and answers the packet with its seq.  A packet of an earlier seq was done:
WRITE, START, STOP and EVENTS are acknowledged, READ, CHECKSUM and STATUS answered anew.  A packet that is refused (NAK) is not
done, and the expected seq stays.  TOKEN and DONE come unasked; their seq is the event's number, which begins with 0 in each
session.

The rules are in docs/decisions/0014-link.md.
"""

from enum import IntEnum
from struct import Struct

__all__ = ["BODY_OVERHEAD", "DATA_MAX", "EVENTS", "EVENT_SLOTS", "HELLO", "MAGIC", "NAK", "NAME_BYTES", "PAST",
           "PROTOCOL_VERSION", "SESSION", "SLOTS", "WINDOW", "NakReason", "PacketType"]

#: The first bytes of HELLO's answer.
MAGIC = b"tlme"
#: Version of the packets themselves.  2: HELLO's answer has the format's version.  3: sessions, sequence numbers, events that can
#: be asked for again; a START has four end tokens.
PROTOCOL_VERSION = 3
#: Bytes of data in a WRITE or READ at most; a multiple of 4.
DATA_MAX = 1024
#: seq, type, CRC.
BODY_OVERHEAD = 6
#: Packets that a host may have under way.
WINDOW = 16
#: A seq so many before the expected one, or fewer, is of a packet that was done.
PAST = 128
#: Events that the board keeps until the host has them.
EVENT_SLOTS = 32
#: Payload of a HELLO that opens a session: the session's number.
SESSION = Struct("<H")
#: Payload of EVENTS: the number of the first event that the host does not have; 1 to have the events from there on sent again.
EVENTS = Struct("<BB")
#: Payload that a STOP may have on a core with several slots: the slots to stop, a bit each.  Without, all are stopped.
SLOTS = Struct("<H")
#: Payload of NAK: NakReason, expected seq.
NAK = Struct("<BB")
#: Bytes of a preset's name.
NAME_BYTES = 16
#: HELLO's answer: magic, protocol version, version of the format (tellme.spec.program.FORMAT_VERSION), preset name (zero
#: padded), SHA-256 of the core's Verilog.
HELLO = Struct(f"<4sHH{NAME_BYTES}s32s")


class PacketType(IntEnum):
    """Types from the host, and (from 0x80 on) from the board."""

    #: Nothing (who is there?), or SESSION.
    HELLO = 0x01
    #: addr u32, data: whole words.
    WRITE = 0x02
    #: addr u32, bytes u16.
    READ = 0x03
    #: addr u32, bytes u32 (whole words): CRC-32 over a range.
    CHECKSUM = 0x04
    #: memory.StartArgs
    START = 0x05
    #: Nothing, or SLOTS.
    STOP = 0x06
    STATUS = 0x07
    #: EVENTS
    EVENTS = 0x08

    HELLO_ANSWER = 0x81
    ACK = 0x82
    #: NAK
    NAK = 0x83
    DATA = 0x84
    #: CRC-32 u32
    SUM = 0x85
    #: 32 bytes: memory.StatusWord
    STATUS_ANSWER = 0x86
    #: memory.Event
    TOKEN = 0x90
    DONE = 0x91


class NakReason(IntEnum):
    """Why a packet was refused."""

    #: COBS code or length is wrong, or the packet is too long.
    FRAMING = 1
    CRC = 2
    TYPE = 3
    LENGTH = 4
    #: Misaligned, or not within one window of the address space, or not writable; EVENTS of an event that is not there.
    ADDRESS = 5
    #: START while a program runs, of a slot that runs on a core with several.
    BUSY = 6
    #: Neither the expected seq nor one of before: the expected seq is in the NAK.
    SEQUENCE = 7
    #: No session is open: the board was reset.
    SESSION = 8
