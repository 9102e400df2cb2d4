# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Timings and mode registers of 16-bit DDR3 chips, and what the timings are in clocks of the chip (CK)."""

from dataclasses import dataclass
from math import ceil

__all__ = ["CHIPS", "POSTPONED", "Ddr3Timing"]

#: Refreshes that may be due and not done, and the number that may be done before they are due (JESD79-3F, 4.10).
POSTPONED = 8

#: Times that are clocks and not ns.
COUNTED = ("tccd", "tmrd", "tdllk")
#: Least clocks of times that the standard gives as "the larger of so many clocks and so many ns".
LEAST = {"trrd": 4, "trtp": 4, "twtr": 4, "tmod": 12, "txpr": 5, "tzqinit": 512, "tzqcs": 64}


@dataclass(frozen=True)
class Ddr3Timing:
    """One chip: times in ns, else as named.  Sources: JESD79-3F, and the makers' data sheets for sizes and tRFC.

    The defaults are the slowest of the speed grades from DDR3-1066 on, with a page of 2 KiB (16-bit chips).
    """

    name: str
    row_bits: int
    trfc: float
    trcd: float = 15.0
    trp: float = 15.0
    tras: float = 37.5
    trc: float = 52.5
    trrd: float = 10.0
    tfaw: float = 50.0
    trtp: float = 7.5
    twr: float = 15.0
    twtr: float = 7.5
    tmod: float = 15.0
    tzqinit: float = 640.0
    tzqcs: float = 80.0
    #: Clocks.
    tccd: int = 4
    tmrd: int = 4
    tdllk: int = 512
    #: CAS latency and CAS write latency, as in ``mr0`` and ``mr2``.
    cl: int = 6
    cwl: int = 5
    #: CL 6, write recovery 5, DLL reset, bursts of eight.
    mr0: int = 0x320
    #: DLL on, drive RZQ/7, termination RZQ/4.
    mr1: int = 0x006
    #: CWL 5, termination RZQ/4 while written.
    mr2: int = 0x200
    mr3: int = 0x000
    #: RESET# low with stable power; CKE low behind RESET#.
    reset_us: float = 200.0
    cke_us: float = 500.0
    refresh_us: float = 7.8
    #: A short ZQ calibration at least so often: JESD79-3F's example, 1 degree and 15 mV a second.
    zq_ms: float = 128.0
    column_bits: int = 10

    @property
    def txpr(self) -> float:
        """From CKE to the first command."""
        return self.trfc + 10

    @property
    def bytes(self) -> int:
        """What the chip holds."""
        return 2 << 3 + self.row_bits + self.column_bits

    def clocks(self, name: str, mhz: float) -> int:
        """Whole clocks that the time ``name`` lasts at least, at a CK of ``mhz``."""
        value: float = getattr(self, name)
        if name in COUNTED:
            return int(value)
        return max(LEAST.get(name, 1), ceil(value * mhz / 1000 - 1e-9))


#: Name -> chip: 128 MB, 256 MB, 512 MB and 1 GB.
CHIPS = {chip.name: chip for chip in (
    Ddr3Timing("MT41K64M16", row_bits=13, trfc=110.0),
    Ddr3Timing("MT41K128M16", row_bits=14, trfc=160.0),
    Ddr3Timing("MT41K256M16", row_bits=15, trfc=260.0),
    Ddr3Timing("MT41K512M16", row_bits=16, trfc=350.0),
)}
