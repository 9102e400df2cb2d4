# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Timings of SDR SDRAM chips, in ns, and what they are in clocks."""

from dataclasses import dataclass
from math import ceil

__all__ = ["CHIPS", "SLOWEST", "SdramTiming"]


@dataclass(frozen=True)
class SdramTiming:
    """One speed grade.  Source: the makers' data sheets."""

    name: str
    column_bits: int
    trp: float
    trcd: float
    tras: float
    trc: float
    trrd: float
    twr: float
    trfc: float
    #: Clocks, not ns.
    tmrd: int = 2
    #: Highest rate in MHz at CAS latency 2; 3 is good for the grade's whole range.
    cl2_mhz: float = 100.0
    power_up_us: float = 200.0
    #: 8,192 refreshes in 64 ms.
    refresh_us: float = 7.8125

    def clocks(self, ns: float, mhz: float) -> int:
        """Whole SDRAM clocks that last at least so long."""
        return ceil(ns * mhz / 1000 - 1e-9)


#: Name -> the chip's times, of the chips that ULX3S boards carry.
CHIPS = {chip.name: chip for chip in (
    SdramTiming("IS42S16160G-7", 9, trp=20, trcd=20, tras=42, trc=63, trrd=14, twr=20, trfc=70),
    SdramTiming("MT48LC16M16A2-6A", 9, trp=20, trcd=20, tras=44, trc=60, trrd=15, twr=15, trfc=66),
    SdramTiming("AS4C32M16SB-7", 10, trp=18, trcd=18, tras=42, trc=60, trrd=14, twr=12, trfc=60),
)}


def _slowest() -> SdramTiming:
    names = ("trp", "trcd", "tras", "trc", "trrd", "twr", "trfc", "power_up_us")
    worst = {n: max(getattr(c, n) for c in CHIPS.values()) for n in names}
    return SdramTiming("slowest", min(c.column_bits for c in CHIPS.values()), **worst)


#: The worst of each, with the fewest columns: good for every chip above.
SLOWEST = _slowest()
