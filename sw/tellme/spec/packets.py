# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The link's packets: framing, types, reasons, layouts.

A frame is COBS(body) and a zero byte.  body = {seq u8, type u8, payload, CRC-32 (zlib) of seq, type and payload}, little-endian.

The board answers each packet of the host with the packet's seq; one packet is under way at a time.  A packet that is bad in any
way is answered with NAK and not acted on.  A START or STOP with the seq of the packet before is a retransmission: the board
acknowledges the packet and does not act twice.  TOKEN and DONE come unasked, with a seq of their own.
"""

from enum import IntEnum
from struct import Struct

__all__ = ["BODY_OVERHEAD", "DATA_MAX", "HELLO", "MAGIC", "NAME_BYTES", "NO_SEQ", "PROTOCOL_VERSION", "NakReason",
           "PacketType"]

#: The first bytes of HELLO's answer.
MAGIC = b"tlme"
#: Version of the packets themselves.  2: HELLO's answer has the format's version.
PROTOCOL_VERSION = 2
#: Bytes of data in a WRITE or READ at most; a multiple of 4.
DATA_MAX = 1024
#: seq, type, CRC.
BODY_OVERHEAD = 6
#: seq of a NAK to a packet whose own seq could not be read.
NO_SEQ = 0xFF
#: Bytes of a preset's name.
NAME_BYTES = 16
#: HELLO's answer: magic, protocol version, version of the format (tellme.spec.program.FORMAT_VERSION), preset name (zero
#: padded), SHA-256 of the core's Verilog.
HELLO = Struct(f"<4sHH{NAME_BYTES}s32s")


class PacketType(IntEnum):
    """Types from the host, and (from 0x80 on) from the board."""

    HELLO = 0x01
    #: addr u32, data: whole words.
    WRITE = 0x02
    #: addr u32, bytes u16.
    READ = 0x03
    #: addr u32, bytes u32 (whole words): CRC-32 over a range.
    CHECKSUM = 0x04
    #: memory.StartArgs
    START = 0x05
    STOP = 0x06
    STATUS = 0x07

    HELLO_ANSWER = 0x81
    ACK = 0x82
    #: reason u8
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
    #: Misaligned, or not within one window of the address space, or not writable.
    ADDRESS = 5
    #: START while a program runs.
    BUSY = 6
