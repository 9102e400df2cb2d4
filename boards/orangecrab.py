# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""OrangeCrab r0.2 and r0.2.1 with an 85F (Lattice ECP5 LFE5U-85F-8, 512 MB DDR3L, 48 MHz); a UART adapter at two pins."""

from typing import Any

from amaranth.build import Attrs, DiffPairs, Pins, PinsN, Resource, Subsignal
from amaranth.hdl import Module
from amaranth.lib import io
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import UARTResource

from boards.ddr3 import Ddr3BoardTop
from boards.devices import devices

__all__ = ["DEVICES", "Top"]

#: From the board's own documentation (orangecrab-fpga/orangecrab-hardware, docs/r0.2.1.md), which the pins of orangecrab-examples
#: (verilog/orangecrab_r0.2.1.pcf) and of litex-boards (platforms/gsd_orangecrab.py) confirm.  amaranth-boards 0.0.21 has the bank
#: pins of another board, the strobes in the wrong order, and a mask pin in the other lane's group.
DDR3 = Resource(
    "ddr3", 0,
    Subsignal("rst", PinsN("L18", dir="o")),
    Subsignal("clk", DiffPairs("J18", "K18", dir="o"), Attrs(IO_TYPE="SSTL135D_I")),
    Subsignal("clk_en", Pins("D18", dir="o")),
    Subsignal("cs", PinsN("A12", dir="o")),
    Subsignal("we", PinsN("B12", dir="o")),
    Subsignal("ras", PinsN("C12", dir="o")),
    Subsignal("cas", PinsN("D13", dir="o")),
    Subsignal("a", Pins("C4 D2 D3 A3 A4 D4 C3 B2 B1 D1 A7 C2 B6 C1 A2 C7", dir="o")),
    Subsignal("ba", Pins("D6 B7 A6", dir="o")),
    Subsignal("dqs", DiffPairs("B15 G18", "A16 H17", dir="io"),
              Attrs(IO_TYPE="SSTL135D_I", TERMINATION="OFF", DIFFRESISTOR="100")),
    Subsignal("dq", Pins("C17 D15 B17 C16 A15 B13 A17 A13 F17 F16 G15 F15 J16 C18 H16 F18", dir="io"), Attrs(TERMINATION="75")),
    Subsignal("dm", Pins("D16 G16", dir="o")),
    Subsignal("odt", Pins("C13", dir="o")),
    Attrs(IO_TYPE="SSTL135_I", SLEWRATE="FAST"))
#: GPIO 0 and 1 of the header.
UART = UARTResource(0, rx="N17", tx="M18", attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))


class Platform(OrangeCrabR0_2_85FPlatform):
    """amaranth-boards' platform with the right DDR3 pins, and a UART."""

    resources = [*(r for r in OrangeCrabR0_2_85FPlatform.resources if r.name != "ddr3"), DDR3, UART]


#: Device -> (preset, platform class).
DEVICES = devices("orangecrab", {"85f": Platform})
#: Device -> nextpnr's first seed.
FIRST_SEEDS = {"85f": 4}


class Top(Ddr3BoardTop):
    """UART, the RGB LED and DDR3.

    The mask pins are crossed on the board: the pin in the FPGA's group of DQ0 to DQ7 is wired to UDM, and the other one to LDM
    (orangecrab-examples issue 40, orangecrab-hardware issue 24; LiteX has ``dm_remapping`` for this board).

    Eight pins of the DDR3's banks are wired to supply and ground.  The board's documentation wants them driven high and low.

    Green: the memory is ready; blue: a program runs; red: a failure.
    """

    clock = "clk"
    leds = (None, ("rgb_led", 0, "g"), None, ("rgb_led", 0, "b"), ("rgb_led", 0, "r"))
    mask_lanes = (1, 0)
    bridge = True

    def extras(self, m: Module, platform: Any) -> None:
        pins = platform.request("ddr3_pseudo_power", 0, dir="-")
        # The supply's pins are inverted in amaranth-boards: zero is high.
        for name in ("vcc_virtual", "gnd_virtual"):
            m.submodules[name] = driven = io.Buffer(io.Direction.Output, getattr(pins, name))
            m.d.comb += driven.o.eq(0)
