# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Between the DDR3 controller, the PHY and the training.  One fabric cycle is two clocks of the chip (CK), slot 0 and slot 1."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["COLUMN_SLOT", "ROW_SLOT", "Ddr3CommandLayout", "Ddr3DfiSignature", "TrainingSignature"]

#: The slot of READ and WRITE.  The CAS write latency is odd (5), so a WRITE in slot 1 has its first beat in slot 0: whole words.
COLUMN_SLOT = 1
#: The slot of all other commands.
ROW_SLOT = 0

#: A command's pins, 1 when asserted; all zeros: none.
Ddr3CommandLayout = data.StructLayout({"cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": 3, "a": 16})


class Ddr3DfiSignature(wiring.Signature):
    """The controller's view; the PHY has the same signature as ``In``.  All pins are 1 when asserted.

    ``slots[n]`` is the command of clock n of the cycle.  ``reset`` asserts RESET#; ``reset``, ``cke`` and ``odt`` hold for the
    whole cycle.  CK runs as long as domain ``sync`` does.

    A burst is eight beats of 16 bits, which are two words of 64 bits.  A word's lowest 16 bits are its first beat.

    ``wen`` is high in the cycle of a WRITE (in slot 1) and in the next cycle; ``wdata`` is the burst's first word and then its
    second one.  ``wmask`` has a bit for each byte of ``wdata``: 1 where the chip keeps what it has (DM).  The PHY delays words
    and masks by the CAS write latency, and drives the strobe with its preamble.  ``wdata`` and ``wmask`` are zeros while ``wen``
    is low.

    ``ren`` is high in the cycle of a READ (in slot 1) and in the next cycle.  The PHY answers each cycle of ``ren`` with a cycle
    of ``rvalid``, a constant number of cycles later (1 to 24), with the word in ``rdata``, whatever came from the chip.
    """

    def __init__(self) -> None:
        super().__init__({
            "slots": Out(Ddr3CommandLayout).array(2), "reset": Out(1, init=1), "cke": Out(1), "odt": Out(1),
            "wdata": Out(64), "wmask": Out(8), "wen": Out(1), "ren": Out(1), "rdata": In(64), "rvalid": In(1),
        })


class TrainingSignature(wiring.Signature):
    """The training's view of the controller.  The training decides what is probed; the controller sends each command.

    ``started``: the chip's start is complete (mode registers, ZQ calibration, DLL), and the controller takes probes.  It also
    refreshes the chip from then on, between probes.

    A probe moves one burst of 16 bytes, at the chip's first address.  The training holds ``valid`` and ``write`` until
    ``ready``; in that cycle the probe is taken.  A ``write`` probe takes ``wdata`` in each of two cycles of ``moves``: the first
    word, then the second one.  A read probe brings its two words in two cycles of ``rvalid`` with ``rdata``.  A probe is taken
    only when the probe before has moved its two words (write), or has sent its READ (read); so the training waits for the two
    words of a read before it changes anything of the PHY.

    ``done``: the training is complete.  The controller serves the hub while ``done`` is high, and probes while ``done`` is low.
    The training lowers ``done`` only when nobody uses the memory.
    """

    def __init__(self) -> None:
        super().__init__({
            "started": In(1), "valid": Out(1), "ready": In(1), "write": Out(1), "wdata": Out(64), "moves": In(1),
            "rdata": In(64), "rvalid": In(1), "done": Out(1),
        })
