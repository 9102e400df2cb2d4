# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""docs/protocol.md against the sources: its bytes and its numbers."""

import re
from pathlib import Path
from textwrap import dedent

from tellme.link.framing import body, encode
from tellme.link.window import ACK_AFTER, FILL_BYTES, RETRY
from tellme.spec.memory import (
    DRAFT_REGISTERS,
    REGISTERS,
    SAMPLING_REGISTERS,
    SLOTS_WORD,
    DoneReason,
    Event,
    StartArgs,
    start_slot,
)
from tellme.spec.packets import (
    BODY_OVERHEAD,
    DATA_MAX,
    EVENT_SLOTS,
    PAST,
    PROTOCOL_VERSION,
    SLOTS,
    WINDOW,
    NakReason,
    PacketType,
)
from tellme.spec.program import FORMAT_VERSION
from tests.link.conversation import conversation

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()


def test_the_conversation():
    block, = re.findall(r"\n((?:    .*\n)*    # HELLO: who is there\?\n(?:    .*\n)*)", PAGE)
    assert dedent(block) == conversation()


def test_the_example_of_a_frame():
    content = bytes.fromhex("00010000 1100002233445566")
    start = body(3, PacketType.WRITE, content)
    example = PAGE[PAGE.index("An example:"):PAGE.index("A receiver")]
    for part in (start[:2], content[:4], content[4:], start[-4:], encode(start)):
        assert part.hex(" ") in example
    assert f"{int.from_bytes(start[-4:], 'little'):08x}" in example


def test_numbers():
    """Each number of the page that is a constant of the sources."""
    text = " ".join(PAGE.split())
    for part in (f"describes protocol {PROTOCOL_VERSION}.", f"version of the protocol u16 ({PROTOCOL_VERSION})",
                 f"version of the format u16 ({FORMAT_VERSION})", f"up to {WINDOW} packets under way",
                 f"keeps the last {EVENT_SLOTS}", f"1 to {PAST} before",
                 f"has {BODY_OVERHEAD + 4 + DATA_MAX:,} bytes", f"4 to {DATA_MAX:,} bytes",
                 f"**START** has {StartArgs.LAYOUT.size} bytes", f"**TOKEN and DONE** have {Event.LAYOUT.size} bytes",
                 f"within {RETRY} s", f"a READ of {FILL_BYTES} bytes", "after each eight"):
        assert part in text, part
    assert ACK_AFTER == 8
    for kind in PacketType:
        assert re.search(rf"\b{kind.name} {kind:02x}\b", text), kind
    for reason in NakReason:
        assert re.search(rf"\b{reason:d} {reason.name}\b", text), reason
    for reason in DoneReason:
        assert f"\n| {reason:d} | " in PAGE
    start = StartArgs(1, 1, 0, chunk=0x0102, slot=7).pack()
    assert "| 8 | chunk u16: " in text and start[8:10] == b"\x02\x01"
    assert "| 10 | slot u16: " in text and start[10:12] == b"\x07\x00" and start_slot(start) == 7
    assert "32 bytes: position u16, slot u16, and then" in text
    assert Event(0x0304, *[0] * 7, slot=5).pack()[:4] == b"\x04\x03\x05\x00"
    assert f"| {SLOTS_WORD} | on a core with several slots a bit for each slot that runs" in text and SLOTS.size == 2
    for name in SAMPLING_REGISTERS + DRAFT_REGISTERS:
        assert f"| {REGISTERS[name]} | `{name}` |" in PAGE
