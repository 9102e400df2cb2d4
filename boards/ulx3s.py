# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""ULX3S (Lattice ECP5, 32 or 64 MB SDRAM, FT231X UART)."""

from typing import Any

from amaranth.build import Attrs, Pins, Resource
from amaranth.hdl import Module
from amaranth.lib import io
from amaranth_boards.ulx3s import ULX3S_12F_Platform, ULX3S_85F_Platform

from boards.devices import devices
from boards.sdr import SdrBoardTop

__all__ = ["DEVICES", "Top"]

#: Device -> (preset, platform class); a 12F is a 25F's die.
DEVICES = devices("ulx3s", {"85f": ULX3S_85F_Platform, "12f": ULX3S_12F_Platform})
#: Device -> nextpnr's first seed.
FIRST_SEEDS = {"85f": 5, "12f": 4}

#: The ESP32's pins by board revision: v3.0.x has EN at F1 and GPIO0 at L2, v3.1.x EN at J5 and GPIO0 at F1.
ESP32 = [*(Resource("esp32_off", i, Pins(pin, dir="o"), Attrs(IO_TYPE="LVCMOS33", DRIVE="4"))
           for i, pin in enumerate(("F1", "J5"))),
         Resource("esp32_l2", 0, Pins("L2", dir="i"), Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))]


class Top(SdrBoardTop):
    """Holds the ESP32 in reset, because its stock firmware would talk on the UART and reload the FPGA.

    EN is driven low: F1 on v3.0.x, J5 on v3.1.x.  Both pins are driven on both revisions; the other pin then belongs to a chip in
    reset (F1 on v3.1.x: GPIO0) or is free (J5 on v3.0.x).  L2 (v3.0.x: GPIO0, v3.1.x: GPIO22) is an input with a pull-up, so that
    nothing is driven against the chip."""

    clock = "clk25"

    def extras(self, m: Module, platform: Any) -> None:
        platform.add_resources(ESP32)
        for i in range(2):
            m.submodules[f"esp32_off{i}"] = off = io.Buffer(io.Direction.Output, platform.request("esp32_off", i, dir="-"))
            m.d.comb += off.o.eq(0)
        m.submodules.esp32_l2 = io.Buffer(io.Direction.Input, platform.request("esp32_l2", dir="-"))
