# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Between controller and PHY: one fabric cycle is two SDRAM clocks, slot 0 and slot 1."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CommandLayout", "DfiSignature"]

#: A command's pins, 1 when asserted; all zeros: none.
CommandLayout = data.StructLayout({"cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": 2, "a": 13})


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
