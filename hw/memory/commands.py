# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Commands of SDRAM chips, from SDR to DDR3."""

from typing import Any

__all__ = ["Command", "command"]


class Command:
    """ras, cas and we of each command, as bits 0 to 2."""

    ACTIVE = 0b001
    READ = 0b010
    WRITE = 0b110
    PRECHARGE = 0b101
    REFRESH = 0b011
    MODE = 0b111
    #: Calibration of a DDR3 chip's drivers (ZQ): the long one with address bit 10, the short one without.
    ZQ = 0b100
    #: Address bit of PRECHARGE that means all banks.
    ALL_BANKS = 1 << 10


def command(slot: Any, which: Any, *, ba: Any = 0, a: Any = 0) -> list[Any]:
    """Statements that put a command into a slot."""
    return [slot.cs.eq(1), slot.ras.eq(which & 1), slot.cas.eq(which >> 1 & 1), slot.we.eq(which >> 2), slot.ba.eq(ba),
            slot.a.eq(a)]
