# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A host for a board in plain Python: python3 plain_host.py PORT IMAGE 1,2,3 [TOKENS [END,END]]

Loads an image, feeds the token ids 1,2,3, and prints the ids of TOKENS tokens (8 if not given) that the board picks; the run
ends early at one of up to four END ids.  The file uses nothing of tellme: it is written from docs/protocol.md, to show that
this page is enough.  It keeps one packet under way.
"""

import os
import select
import struct
import sys
import termios
import time
import tty
from zlib import crc32

HELLO, WRITE, START, STOP, STATUS, EVENTS = 1, 2, 5, 6, 7, 8
HELLO_ANSWER, NAK, TOKEN, DONE = 0x81, 0x83, 0x90, 0x91
DAMAGED = (1, 2)                        # reasons of a NAK after which a packet is sent again: FRAMING, CRC
TOKENS_AT, NO_END, CLEAR = 0xC0000000, 0xFFFFFFFF, 1
EVENTS_BYTE = 24                        # of STATUS: the number of the next event
RETRY, PATIENCE = 0.25, 10.0            # seconds until a packet is sent again; until the host gives up


class Board:
    def __init__(self, port):
        self.fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd)
        settings = termios.tcgetattr(self.fd)
        settings[4] = settings[5] = termios.B3000000
        termios.tcsetattr(self.fd, termios.TCSANOW, settings)
        self.waiting, self.seq = b"", os.urandom(1)[0]
        self.events, self.next_event = [], 0

    def send(self, kind, payload):
        body = bytes([self.seq, kind]) + payload
        body += struct.pack("<I", crc32(body))
        frame = b""
        for block in body.split(b"\0"):                                 # COBS
            while len(block) >= 254:
                frame, block = frame + b"\xff" + block[:254], block[254:]
            frame += bytes([len(block) + 1]) + block
        left = b"\0" + frame + b"\0"            # the zero in front ends what the board may have of a frame before
        while left:
            left = left[os.write(self.fd, left):]

    def receive(self, until):
        """(seq, type, payload) of the next good packet, or None when the time is over.  Events are kept in their order."""
        while True:
            while b"\0" in self.waiting:
                frame, self.waiting = self.waiting.split(b"\0", 1)
                body, at = b"", 0
                while at < len(frame):
                    body += frame[at + 1:at + frame[at]] + b"\0" * (frame[at] < 255)
                    at += frame[at]
                body = body.removesuffix(b"\0")         # the last block of a frame stands for no zero
                if len(body) < 6 or struct.pack("<I", crc32(body[:-4])) != body[-4:]:
                    continue
                seq, kind, payload = body[0], body[1], body[2:-4]
                if kind in (TOKEN, DONE) and seq == self.next_event:    # others came before, or come behind a gap
                    self.events.append((kind, struct.unpack("<IIiIIIII", payload)))
                    self.next_event = (seq + 1) % 256
                return seq, kind, payload
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                return None
            self.waiting += os.read(self.fd, 65536) or sys.exit("the port went away")

    def ask(self, kind, payload=b""):
        """Send a packet until its answer comes; the answer's payload."""
        wait, begin = RETRY, time.monotonic()
        while time.monotonic() < begin + PATIENCE:
            self.send(kind, payload)
            until, wait = time.monotonic() + wait, 2 * wait
            while (packet := self.receive(until)) is not None:
                seq, answer, content = packet
                if answer == NAK and content[0] in DAMAGED:
                    break
                if answer == NAK and seq == self.seq:
                    sys.exit(f"the board refused a packet of type {kind}: reason {content[0]}")
                if seq == self.seq and answer < TOKEN and (answer == HELLO_ANSWER) == (kind == HELLO):
                    self.seq = (self.seq + 1) % 256
                    return content
        sys.exit("the board does not answer")

    def open(self):
        """Open a session, and end a run of before; format and preset of the board's core."""
        self.ask(HELLO, b"\1\0")
        magic, protocol, version, preset, _ = struct.unpack("<4sHH16s32s", self.ask(HELLO, os.urandom(1) + b"\1"))
        if (magic, protocol) != (b"tlme", 3):
            sys.exit("this is no board that speaks protocol 3")
        self.events, self.next_event = [], 0
        status = self.ask(STATUS)
        if status[0] & 1:
            self.ask(STOP)
            list(self.run())
        else:
            self.events, self.next_event = [], status[EVENTS_BYTE]
        return version, preset

    def run(self):
        """The events of the run that goes on, up to DONE."""
        wait = RETRY
        while True:
            before = self.next_event
            while self.events:
                yield self.events[0]
                if self.events.pop(0)[0] == DONE:
                    return self.ask(EVENTS, bytes([self.next_event, 0]))
            self.receive(time.monotonic() + wait)
            if self.next_event == before:               # silence, or a gap: what is missing is sent again
                wait = min(2 * wait, PATIENCE)
                self.ask(EVENTS, bytes([self.next_event, 1]))
                continue
            wait = RETRY
            if self.next_event % 8 == 0:                # the board keeps 32 events until the host says that it has them
                self.ask(EVENTS, bytes([self.next_event, 0]))

    def load(self, path, version, preset):
        with open(path, "rb") as image:
            magic, its_version, pieces, its_preset = struct.unpack("<4sHH16s", image.read(24))
            if (magic, its_version, its_preset) != (b"tlmi", version, preset):
                sys.exit("the image is not for this board")
            for _ in range(pieces):
                address, size = struct.unpack("<II", image.read(8))
                for at in range(0, size, 1024):
                    self.ask(WRITE, struct.pack("<I", address + at) + image.read(min(1024, size - at)))

    def generate(self, prompt, tokens, ends):
        for at in range(0, len(prompt), 256):
            part = prompt[at:at + 256]
            self.ask(WRITE, struct.pack(f"<I{len(part)}I", TOKENS_AT + 4 * at, *part))
        ends = (ends + [NO_END] * 4)[:4]
        self.ask(START, struct.pack("<HHHHI4I", 0, len(prompt), tokens, CLEAR, 0, *ends))
        for kind, event in self.run():
            if kind == TOKEN:
                print(event[1], flush=True)
            elif event[2] == 4:
                sys.exit(f"step {event[1]} of the program gave an infinity or NaN")


if __name__ == "__main__":
    prompt, tokens, ends = ([int(number) for number in text.split(",") if number] for text in [*sys.argv[3:], "8", ""][:3])
    board = Board(sys.argv[1])
    board.load(sys.argv[2], *board.open())
    board.generate(prompt, tokens[0], ends)
