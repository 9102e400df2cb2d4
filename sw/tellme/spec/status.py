# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The words of the answer to STATUS (:class:`tellme.spec.memory.StatusWord`) as fields."""

from dataclasses import dataclass
from enum import IntFlag

from tellme.spec.ddr3_training import Ddr3Training

__all__ = ["TRAINING_BITS", "StatusFlag", "Training", "training_of"]


class StatusFlag(IntFlag):
    """Bits of the word FLAGS."""

    #: A program runs.
    RUNNING = 1
    #: The SDRAM was started, and a pattern was read back.
    SDRAM_READY = 2
    #: A result was infinite or NaN; stays until the next START.
    NONFINITE = 4
    #: The last run was ended by STOP.
    STOPPED = 8


#: Field of an SDR memory's word TRAINING -> its number of bits, from bit 0 on.
TRAINING_BITS = {"beats": 5, "phase": 6, "window": 6, "failed": 1}


@dataclass(frozen=True)
class Training:
    """What an SDR memory's start-up found: the word TRAINING.

    ``beats``: read latency in beats.  ``phase``: step of the SDRAM clock's phase, counted from the first.  ``window``:
    neighbouring steps at which a pattern is read back.  ``failed``: no step did in the last sweep.
    """

    beats: int
    phase: int
    window: int
    failed: bool

    @classmethod
    def unpack(cls, word: int) -> "Training":
        """The fields of a word."""
        values, at = {}, 0
        for name, bits in TRAINING_BITS.items():
            values[name] = word >> at & (1 << bits) - 1
            at += bits
        return cls(values["beats"], values["phase"], values["window"], bool(values["failed"]))

    def pack(self) -> int:
        """The word of the fields."""
        word, at = 0, 0
        for name, bits in TRAINING_BITS.items():
            word |= int(getattr(self, name)) << at
            at += bits
        return word


def training_of(word: int, *, ddr3: bool) -> Training | Ddr3Training:
    """The word TRAINING of a core whose memory is DDR3, or SDR."""
    return Ddr3Training.unpack(word) if ddr3 else Training.unpack(word)
