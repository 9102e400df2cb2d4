# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Icepi Zero v1.3 (Lattice ECP5 LFE5U-25F, 32 MB SDRAM, FT231X UART, 50 MHz)."""

from amaranth_boards.icepi_zero import IcepiZero1_3Platform

from boards.devices import devices
from boards.sdr import SdrBoardTop

__all__ = ["DEVICES", "Top"]

#: Device -> (preset, platform class).
DEVICES = devices("icepi_zero", {"25f": IcepiZero1_3Platform})
#: Device -> nextpnr's first seed.  The part is 87 % full.  When the part was 94 % full, the seeds 1 and 2 failed and 4 did not.
FIRST_SEEDS = {"25f": 4}


class Top(SdrBoardTop):
    """Five LEDs, UART and SDRAM as :class:`SdrBoardTop` wants them.  No other chip on the board has to be held in reset."""

    clock = "clk50"
