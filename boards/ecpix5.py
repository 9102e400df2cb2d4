# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""ECPIX-5 85F (Lattice ECP5-5G LFE5UM5G-85F-8, 512 MB DDR3, FT2232H or FT4232H UART, 100 MHz)."""

from amaranth_boards.ecpix5 import ECPIX585Platform

from boards.ddr3 import Ddr3BoardTop
from boards.devices import devices

__all__ = ["DEVICES", "Top"]

#: Device -> (preset, platform class).
DEVICES = devices("ecpix5", {"85f": ECPIX585Platform})
#: Device -> nextpnr's first seed.
FIRST_SEEDS = {"85f": 6}


class Top(Ddr3BoardTop):
    """UART, four RGB LEDs and DDR3.

    The pins of amaranth-boards are those of LiteX's board file (litex-boards, platforms/ecpix5.py); amaranth-boards has one
    address pin more.  RESET# and CS# of the chip are in neither.  So nothing drives them: CS# has to be tied low on the board,
    and RESET# to be high when CKE rises.  LiteX's boards run so.

    Green: LED 0 the reset is over, 1 the memory is ready, 2 bytes from the host, 3 a program runs.  Red: LED 3, a failure.
    """

    clock = "clk100"
    leds = (("rgb_led", 0, "g"), ("rgb_led", 1, "g"), ("rgb_led", 2, "g"), ("rgb_led", 3, "g"), ("rgb_led", 3, "r"))
