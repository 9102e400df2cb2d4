# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""ULX3S (Lattice ECP5 with 32 MB SDRAM, FT231X UART)."""

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from hw.link.uart import Uart
from hw.memory.phy import SdramPhy

__all__ = ["DEVICES", "Ulx3s", "platform"]

#: Device option -> (preset, platform class).
DEVICES = {"85f": ("ulx3s-85f", ULX3S_85F_Platform)}

#: 25 MHz in; the VCO runs at 600 MHz, the SDRAM pin and its doubled clock at 100, the fabric at 50.
PLL = {"CLKI_DIV": 1, "CLKFB_DIV": 2, "CLKOP_DIV": 12, "CLKOS_DIV": 6}
CLOCKS = {"fabric": 50.0, "sdram": 100.0}


def platform(device: str):
    """The amaranth-boards platform of a device."""
    return DEVICES[device][1]()


class Ulx3s(Elaboratable):
    """The board's top: PLL, resets, the core's Verilog, UART, SDRAM PHY, LEDs.

    LEDs: 0 PLL locked, 1 SDRAM ready, 2 byte from the host, 3 program running, 4 a result was infinite or NaN.
    """

    def __init__(self, config, core_sha256: str):
        self.config = config
        self.build_id = int.from_bytes(bytes.fromhex(core_sha256), "little")

    def elaborate(self, plat):
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.sdram = ClockDomain(reset_less=True)
        locked = Signal()
        feedback = Signal()
        m.submodules.clk25 = clk25 = io.Buffer("i", plat.request("clk25", dir="-"))
        m.submodules.pll = Instance(
            "EHXPLLL", a_FREQUENCY_PIN_CLKI="25", p_CLKI_DIV=PLL["CLKI_DIV"], p_CLKFB_DIV=PLL["CLKFB_DIV"],
            p_CLKOP_DIV=PLL["CLKOP_DIV"], p_CLKOP_ENABLE="ENABLED", p_CLKOP_CPHASE=PLL["CLKOP_DIV"] - 1,
            p_CLKOP_FPHASE=0, p_CLKOS_DIV=PLL["CLKOS_DIV"], p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_CPHASE=PLL["CLKOS_DIV"] - 1, p_CLKOS_FPHASE=0, p_FEEDBK_PATH="CLKOP",
            a_FREQUENCY_PIN_CLKOP=str(CLOCKS["fabric"]), a_FREQUENCY_PIN_CLKOS=str(CLOCKS["sdram"]),
            i_CLKI=clk25.i, i_CLKFB=feedback, o_CLKOP=feedback, o_CLKOS=ClockSignal("sdram"), o_LOCK=locked,
            i_RST=Const(0), i_STDBY=Const(0), i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(0),
            i_PHASESTEP=Const(0), i_PHASELOADREG=Const(0), i_PLLWAKESYNC=Const(0), i_ENCLKOP=Const(0),
            i_ENCLKOS=Const(0))
        m.d.comb += ClockSignal("sync").eq(feedback)
        # Reset: some cycles after lock, so that block RAM and PLL have settled.
        after = Signal(8, reset_less=True)
        with m.If(~after.all() & locked):
            m.d.sync += after.eq(after + 1)
        m.d.comb += ResetSignal("sync").eq(~after.all())
        return m
