# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The SDRAM chip model (C++) from Python."""

import ctypes
import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

from tellme.spec.sdram import SLOWEST, SdramTiming

__all__ = ["Chip", "compiled"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def compiled(chip: str) -> Path:
    """The library of the chip model ``<chip>_chip.cpp``, compiled when its source is new."""
    source = HERE / f"{chip}_chip.cpp"
    key = hashlib.sha256(source.read_bytes() + (HERE / f"{chip}_chip.h").read_bytes()).hexdigest()[:20]
    target = ROOT / "build" / "chips" / f"{chip}-{key}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f"{target.name}.{os.getpid()}")
        subprocess.run(["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-o", str(scratch), str(source)], check=True)
        scratch.replace(target)
    return target


@cache
def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(str(compiled("sdram")))
    lib.sdram_new.restype = ctypes.c_void_p
    lib.sdram_new.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_double, ctypes.POINTER(ctypes.c_double), ctypes.c_int,
                              ctypes.c_double, ctypes.c_double, ctypes.c_double, ctypes.c_int]
    lib.sdram_free.argtypes = [ctypes.c_void_p]
    lib.sdram_clock.restype = ctypes.c_uint32
    lib.sdram_clock.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint16]
    lib.sdram_fill.restype = ctypes.c_int
    lib.sdram_fill.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint16]
    lib.sdram_next.restype = ctypes.c_uint32
    lib.sdram_next.argtypes = [ctypes.c_void_p]
    lib.sdram_forgive.argtypes = [ctypes.c_void_p]
    lib.sdram_violation.restype = ctypes.c_char_p
    lib.sdram_violation.argtypes = [ctypes.c_void_p]
    return lib


class Chip:
    """One chip.  Pins are 1 when asserted."""

    #: Widths of the pins of a clock, from bit 0 of :meth:`clock_pins` on; ``oe``: the other side drives the data.
    PINS = {"cke": 1, "cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": 2, "dqm": 2, "a": 13, "oe": 1}

    def __init__(self, *, timing: SdramTiming = SLOWEST, mhz: float = 100.0, row_bits: int = 13,
                 power_up_us: float | None = None, refresh_ms: float = 64.0, check_unwritten: bool = True):
        t = timing
        self._columns = t.column_bits
        ns = (ctypes.c_double * 7)(t.trp, t.trcd, t.tras, t.trc, t.trrd, t.twr, t.trfc)
        power_up = t.power_up_us if power_up_us is None else power_up_us
        self._lib = _library()
        self._chip = self._lib.sdram_new(t.column_bits, row_bits, mhz, ns, t.tmrd, t.cl2_mhz, power_up, refresh_ms,
                                         int(check_unwritten))
        self.driven = False

    def __del__(self) -> None:
        self._lib.sdram_free(self._chip)

    def clock(self, *, cs: int = 0, ras: int = 0, cas: int = 0, we: int = 0, ba: int = 0, a: int = 0, dqm: int = 0, cke: int = 1,
              oe: int = 0, dq: int = 0) -> int:
        """One SDRAM clock; the data that the chip drives in it (0 if it does not, see ``driven``)."""
        return self.clock_pins(cke | cs << 1 | ras << 2 | cas << 3 | we << 4 | ba << 5 | dqm << 7 | a << 9 | oe << 22, dq)

    def clock_pins(self, pins: int, dq: int) -> int:
        """The same with all pins in one number, PINS from bit 0 on."""
        out = self._lib.sdram_clock(self._chip, pins, dq)
        self.driven = bool(out >> 16)
        return out & 0xFFFF

    def fill(self, address: int, content: bytes) -> None:
        """Put bytes into the cells, from an even address on, as if they had been written before power came.  Addresses are the
        controller's: row, bank, column, byte.  Raises ValueError where the memory ends before the bytes do."""
        for at in range(0, len(content), 2):
            cell = (address + at) // 2
            if not self._lib.sdram_fill(self._chip, cell >> self._columns & 3, cell >> self._columns + 2,
                                        cell & (1 << self._columns) - 1, int.from_bytes(content[at:at + 2], "little")):
                raise ValueError(f"the memory ends before byte {address + at:#x}")

    def next(self) -> int | None:
        """The data that the chip drives before the next clock's edge, if any: at the pins it comes before that edge."""
        out = self._lib.sdram_next(self._chip)
        return out & 0xFFFF if out >> 16 else None

    def violation(self) -> str:
        """The first rule that was broken, or nothing."""
        return self._lib.sdram_violation(self._chip).decode()

    def forgive(self) -> None:
        """Forget a violation: a controller that searches for a clock phase breaks rules until it has found one."""
        self._lib.sdram_forgive(self._chip)
