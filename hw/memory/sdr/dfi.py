# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Between controller and PHY: one fabric cycle is two SDRAM clocks, slot 0 and slot 1."""

from typing import Any

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Command", "CommandLayout", "DfiSignature", "command"]

#: A command's pins, 1 when asserted; all zeros: none.
CommandLayout = data.StructLayout({"cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": 2, "a": 13})


class Command:
    """ras, cas and we of each command, as bits 0 to 2."""

    ACTIVE = 0b001
    READ = 0b010
    WRITE = 0b110
    PRECHARGE = 0b101
    REFRESH = 0b011
    MODE = 0b111
    #: Address bit of PRECHARGE that means all banks.
    ALL_BANKS = 1 << 10


def command(slot: Any, which: Any, *, ba: Any = 0, a: Any = 0) -> list[Any]:
    """Statements that put a command into a slot."""
    return [slot.cs.eq(1), slot.ras.eq(which & 1), slot.cas.eq(which >> 1 & 1), slot.we.eq(which >> 2), slot.ba.eq(ba),
            slot.a.eq(a)]


class DfiSignature(wiring.Signature):
    """The controller's view.  Command pins are 1 when asserted.

    ``wdata`` holds slot 0's beat in its low half and is driven onto the bus while ``wdata_oe`` is high, which is for the
    whole fabric cycle; ``rdata`` holds the beats that arrived in slot 0 (low half) and slot 1.  ``phase_step`` moves the
    chip's clock one step later with each falling edge.
    """

    def __init__(self) -> None:
        members = {"cke": Out(1), "wdata": Out(32), "wdata_oe": Out(1), "rdata": In(32), "phase_step": Out(1)}
        for slot in range(2):
            members |= {f"cs{slot}": Out(1), f"ras{slot}": Out(1), f"cas{slot}": Out(1), f"we{slot}": Out(1),
                        f"ba{slot}": Out(2), f"a{slot}": Out(13), f"dqm{slot}": Out(2)}
        super().__init__(members)
