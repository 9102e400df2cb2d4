# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The conversation of docs/protocol.md: ``python -m tests.link.conversation`` prints it, and a test holds the page against it."""

from zlib import crc32

from tellme.link.framing import body, encode
from tellme.spec.memory import TOKEN_BASE, StartArgs
from tellme.spec.packets import EVENTS, SESSION, PacketType
from tests.link.plain_board import PlainBoard

__all__ = ["conversation"]


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


#: What the host sends, and what the page says of it.
STEPS = (
    ("who is there?", 0, PacketType.HELLO, b""),
    ("open session 1234", 1, PacketType.HELLO, SESSION.pack(0x1234)),
    ("is a run going on? no", 2, PacketType.STATUS, b""),
    ("write two words", 3, PacketType.WRITE, u32(0x100) + bytes.fromhex("11 00 00 22 33 44 55 66")),
    ("CRC-32 of these words", 4, PacketType.CHECKSUM, u32(0x100) + u32(8)),
    ("read the first of them", 5, PacketType.READ, u32(0x100) + (4).to_bytes(2, "little")),
    ("token 1 at position 0", 6, PacketType.WRITE, u32(TOKEN_BASE) + u32(1)),
    ("feed one token, pick two; end token 2", 7, PacketType.START, StartArgs(0, 1, 2, ends=(2,)).pack()),
    ("all events before 3 are here", 8, PacketType.EVENTS, EVENTS.pack(3, 0)),
)


def spaced(content: bytes) -> list[str]:
    """Hex, 24 bytes a line."""
    return [content[at:at + 24].hex(" ") for at in range(0, len(content), 24)]


def conversation() -> str:
    """The lines: who speaks, the bytes, and what they mean."""
    board, lines = PlainBoard(name="example", build_id=bytes(range(32))), []

    def say(who: str, content: bytes, text: str) -> None:
        lines.append(f"# {text}")
        lines.extend(f"{who if i == 0 else '':6}{part}" for i, part in enumerate(spaced(content)))

    for text, seq, kind, payload in STEPS:
        frame = encode(body(seq, kind, payload))
        say("host", frame, f"{kind.name}: {text}")
        say("board", board.link.receive(frame), "the answer")
        if kind == PacketType.START:
            for number in range(3):
                board.run_step()
                say("board", board.link.poll(), f"event {number}, unasked")
    frame = encode(body(9, PacketType.STATUS))
    say("host", frame[:2] + bytes([frame[2] ^ 1]) + frame[3:], "STATUS; a bit of the frame is flipped on its way")
    say("board", board.link.receive(frame[:2] + bytes([frame[2] ^ 1]) + frame[3:]), "NAK: CRC, seq 9 is expected")
    assert crc32(b"123456789") == 0xCBF43926
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(conversation(), end="")
