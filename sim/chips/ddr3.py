# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The DDR3 chip model (C++) from Python."""

import ctypes
from functools import cache
from math import ceil

from sim.chips.sdram import compiled
from tellme.spec.ddr3 import CHIPS, Ddr3Timing

__all__ = ["Ddr3Chip", "chip_clocks"]

#: Times in the order of the C++ configuration.
TIMES = ("trcd", "trp", "tras", "trc", "trrd", "tfaw", "trtp", "twr", "twtr", "trfc", "tmod", "txpr", "tzqinit", "tzqcs", "tccd",
         "tmrd", "tdllk")
#: RESET# low once the power is stable for long, and CKE low before RESET# rises, ns (JESD79-3F, 3.3.1 and 3.3.2).
RESET_AGAIN_NS, CKE_BEFORE_NS = 100, 10


@cache
def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(str(compiled("ddr3")))
    lib.ddr3_new.restype = ctypes.c_void_p
    lib.ddr3_new.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_double, ctypes.c_int64,
                             ctypes.c_int, ctypes.c_int]
    lib.ddr3_fill.restype = ctypes.c_int
    lib.ddr3_fill.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint16]
    lib.ddr3_free.argtypes = [ctypes.c_void_p]
    lib.ddr3_clock.restype = ctypes.c_uint64
    lib.ddr3_clock.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32]
    lib.ddr3_ahead.restype = ctypes.c_uint64
    lib.ddr3_ahead.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.ddr3_forgive.argtypes = [ctypes.c_void_p]
    lib.ddr3_violation.restype = ctypes.c_char_p
    lib.ddr3_violation.argtypes = [ctypes.c_void_p]
    return lib


def chip_clocks(timing: Ddr3Timing, mhz: float, *, reset_us: float | None = None, cke_us: float | None = None,
                zq_ms: float | None = None) -> tuple[list[int], float, int]:
    """Clocks for the C++ configuration: its times in their order, the time between two refreshes, and between calibrations.

    ``reset_us``, ``cke_us`` and ``zq_ms`` take the place of the chip's times.
    """
    t = timing

    def ns(value: float) -> int:
        return ceil(value * mhz / 1000 - 1e-9)

    times = [t.clocks(name, mhz) for name in TIMES]
    times += [ns(1000 * (t.reset_us if reset_us is None else reset_us)), ns(RESET_AGAIN_NS), ns(CKE_BEFORE_NS),
              ns(1000 * (t.cke_us if cke_us is None else cke_us))]
    return times, t.refresh_us * mhz, int((t.zq_ms if zq_ms is None else zq_ms) * 1000 * mhz)


class Ddr3Chip:
    """One chip at a CK of ``mhz``.  Pins are 1 when asserted.

    ``reset_us``, ``cke_us`` and ``zq_ms`` take the place of the chip's times, for simulations that cannot wait so long.
    ``check_unwritten``: a read of a cell that was never written breaks a rule; with ``whole_bursts`` it does only if no cell of
    the burst was ever written.
    """

    def __init__(self, *, timing: Ddr3Timing = CHIPS["MT41K256M16"], mhz: float = 400 / 3, reset_us: float | None = None,
                 cke_us: float | None = None, zq_ms: float | None = None, check_unwritten: bool = True,
                 whole_bursts: bool = False):
        times, refresh, zq = chip_clocks(timing, mhz, reset_us=reset_us, cke_us=cke_us, zq_ms=zq_ms)
        self._lib = _library()
        self._chip = self._lib.ddr3_new(timing.row_bits, timing.column_bits, (ctypes.c_int64 * len(times))(*times), refresh, zq,
                                        int(check_unwritten), int(whole_bursts))
        #: The chip drove its data in the last clock; some rule was broken.
        self.driven = self.violated = False

    def __del__(self) -> None:
        self._lib.ddr3_free(self._chip)

    def clock(self, *, reset: int = 0, cke: int = 1, odt: int = 0, cs: int = 0, ras: int = 0, cas: int = 0, we: int = 0,
              ba: int = 0, a: int = 0, oe: int = 0, dq: int = 0, dm: int = 0) -> int:
        """One CK; the two beats that the chip drives in it, the first one in the low half (0 if it does not, see ``driven``).

        ``dq`` and ``dm`` are the two beats that the controller drives in it, if ``oe``; ``dm`` has a bit a byte.
        """
        pins = self.pins(reset=reset, cke=cke, odt=odt, cs=cs, ras=ras, cas=cas, we=we, ba=ba, a=a, oe=oe, dm=dm)
        return self.clock_pins(pins, dq)

    @staticmethod
    def pins(*, reset: int = 0, cke: int = 0, odt: int = 0, cs: int = 0, ras: int = 0, cas: int = 0, we: int = 0, ba: int = 0,
             a: int = 0, oe: int = 0, dm: int = 0) -> int:
        """Pins for :meth:`clock_pins`; the numbers of several pins may be joined by or."""
        return reset | cke << 1 | odt << 2 | cs << 3 | ras << 4 | cas << 5 | we << 6 | ba << 7 | a << 10 | oe << 26 | dm << 27

    def clock_pins(self, pins: int, dq: int) -> int:
        """As :meth:`clock`, for testbenches that cannot wait."""
        out = self._lib.ddr3_clock(self._chip, pins, dq)
        self.driven, self.violated = bool(out >> 32 & 1), bool(out >> 33)
        return out & 0xFFFF_FFFF

    def ahead(self, clocks: int = 1) -> int | None:
        """The two beats that the chip drives so many clocks after the last one, if any; the strobe's preamble is one ahead."""
        out = self._lib.ddr3_ahead(self._chip, clocks)
        return out & 0xFFFF_FFFF if out >> 32 else None

    def fill(self, bank: int, row: int, column: int, value: int) -> bool:
        """Put a value into a cell, as if it had been written before power came; False if there is no such cell."""
        return bool(self._lib.ddr3_fill(self._chip, bank, row, column, value))

    def violation(self) -> str:
        """The first rule that was broken, or nothing."""
        return self._lib.ddr3_violation(self._chip).decode()

    def forgive(self) -> None:
        """Forget a violation."""
        self._lib.ddr3_forgive(self._chip)
