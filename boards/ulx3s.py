# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""ULX3S (Lattice ECP5, 32 MB SDRAM, FT231X UART): clocks, pins, LEDs."""

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io, wiring
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from boards.core import CoreInstance
from hw.link.uart import Uart
from hw.memory.phy import SdramPhy

__all__ = ["CLOCKS", "DEVICES", "Top"]

#: Device -> (preset, platform class).
DEVICES = {"85f": ("ulx3s-85f", ULX3S_85F_Platform)}
#: MHz that the PLL makes; nextpnr derives the constraints from it.
CLOCKS = {"fabric": 200 / 3, "sdram": 400 / 3}
#: 25 MHz in, VCO at 533: the fabric is the feedback output.
PLL = {"CLKI_DIV": 3, "CLKFB_DIV": 8, "CLKOP_DIV": 8, "CLKOS_DIV": 4}


class Top(Elaboratable):
    """PLL and resets, the core's Verilog, UART, SDRAM PHY.

    LEDs: 0 PLL locked, 1 SDRAM ready, 2 bytes from the host, 3 a program runs, 4 a result was infinite or NaN.
    The ESP32 is held disabled: its stock firmware would talk on the UART and reload the FPGA.
    """

    def __init__(self, config, core_sha256: str):
        self.config = config
        self.core_sha256 = core_sha256

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = CoreInstance(self.core_sha256)
        self.clocks(m, platform, core.dfi.phase_step)
        m.submodules.phy = phy = SdramPhy(platform.request("sdram", dir="-"))
        wiring.connect(m, core.dfi, phy.dfi)
        uart_pins = platform.request("uart", dir="-")
        m.submodules.uart = uart = Uart(clock_hz=round(self.config.fabric_mhz * 1e6), baud=self.config.uart_baud)
        m.submodules.rx_pin = rx_pin = io.FFBuffer("i", uart_pins.rx)
        m.submodules.tx_pin = tx_pin = io.FFBuffer("o", uart_pins.tx)
        m.d.comb += [uart.rx_pin.eq(rx_pin.i), tx_pin.o.eq(uart.tx_pin)]
        wiring.connect(m, uart.rx, core.rx)
        wiring.connect(m, core.tx, uart.tx)
        esp32 = platform.request("esp32", dir="-")
        m.submodules.esp_enable = esp_enable = io.Buffer("o", esp32.en)
        m.d.comb += esp_enable.o.eq(0)
        seen = Signal(22)
        with m.If(uart.rx.valid):
            m.d.sync += seen.eq(-1)
        with m.Elif(seen != 0):
            m.d.sync += seen.eq(seen - 1)
        for i, state in enumerate((~ResetSignal("sync"), core.sdram_ready, seen != 0, core.running, core.failed)):
            m.submodules[f"led{i}"] = led = io.FFBuffer("o", platform.request("led", i, dir="-"))
            m.d.comb += led.o.eq(state)
        return m

    def clocks(self, m, platform, phase_step):
        """The fabric's domain sync, and sdram at twice that for the chip's clock pin."""
        m.domains.sync = ClockDomain()
        m.domains.sdram = ClockDomain(reset_less=True)
        locked, fabric = Signal(), Signal()
        m.submodules.clk25 = clk25 = io.Buffer("i", platform.request("clk25", dir="-"))
        m.submodules.pll = Instance(
            "EHXPLLL", a_FREQUENCY_PIN_CLKI="25", a_FREQUENCY_PIN_CLKOP=str(CLOCKS["fabric"]),
            a_FREQUENCY_PIN_CLKOS=str(CLOCKS["sdram"]), **{f"p_{name}": value for name, value in PLL.items()},
            p_FEEDBK_PATH="CLKOP", p_CLKOP_ENABLE="ENABLED", p_CLKOP_CPHASE=PLL["CLKOP_DIV"] - 1, p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED", p_CLKOS_CPHASE=PLL["CLKOS_DIV"] - 1, p_CLKOS_FPHASE=0,
            # The phase of CLKOS (PHASESEL 0) is moved at run time: a step later with each falling edge of PHASESTEP.
            p_DPHASE_SOURCE="ENABLED", i_PHASESTEP=phase_step,
            i_CLKI=clk25.i, i_CLKFB=fabric, o_CLKOP=fabric, o_CLKOS=ClockSignal("sdram"), o_LOCK=locked,
            **{f"i_{pin}": Const(0) for pin in ("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PHASEDIR",
                                                "PHASELOADREG", "PLLWAKESYNC", "ENCLKOP", "ENCLKOS")})
        m.d.comb += ClockSignal("sync").eq(fabric)
        # Reset ends 255 cycles after lock; the counter itself has no reset, or it would never start.
        after = Signal(8, reset_less=True)
        with m.If(locked & ~after.all()):
            m.d.sync += after.eq(after + 1)
        # A register of its own, as the reset goes everywhere.
        reset = Signal(init=1, reset_less=True)
        m.d.sync += reset.eq(~after.all())
        m.d.comb += ResetSignal("sync").eq(reset)
