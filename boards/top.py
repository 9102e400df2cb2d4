# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the top levels of ECP5 boards share: PLL and resets, the core's Verilog, SDRAM PHY, UART, LEDs."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import io, wiring

from boards.core import CoreInstance
from hw.link.uart import Uart
from hw.memory.sdr.phy import SdramPhy
from tellme.spec.config import CoreConfig

__all__ = ["BoardTop", "Pll"]


@dataclass(frozen=True)
class Pll:
    """EHXPLLL's dividers.  The fabric's clock is the feedback output; the SDRAM's clock is twice as fast, from the same VCO.

    fabric = input * feedback / reference; VCO = fabric * output, 400 to 800 MHz; output even.
    """

    input_mhz: float
    reference: int
    feedback: int
    output: int

    @classmethod
    def between(cls, input_mhz: float, config: CoreConfig) -> "Pll":
        """Dividers from a board's oscillator to a preset's clock, with the preset's number of phases of the SDRAM's clock."""
        if config.sdram_phases % 8:
            raise ValueError(f"preset {config.name} has {config.sdram_phases} phases; a PLL makes multiples of 8")
        for reference in range(1, 9):
            feedback = round(config.fabric_mhz * reference / input_mhz)
            if abs(feedback * input_mhz - config.fabric_mhz * reference) < 1e-6 * input_mhz:
                return cls(input_mhz, reference, feedback, config.sdram_phases // 4)
        raise ValueError(f"no PLL makes the {config.fabric_mhz} MHz of preset {config.name} from {input_mhz} MHz")

    def __post_init__(self) -> None:
        if self.output % 2 or not 400 <= self.fabric_mhz * self.output <= 800:
            raise ValueError(f"VCO at {self.fabric_mhz * self.output:.1f} MHz, divided by {self.output}: "
                             "400 to 800 MHz and an even divider are wanted")

    @property
    def fabric_mhz(self) -> float:
        return self.input_mhz * self.feedback / self.reference

    @property
    def clocks(self) -> dict[str, float]:
        """MHz of each clock, as a report names them."""
        return {"fabric": self.fabric_mhz, "sdram": 2 * self.fabric_mhz}

    @property
    def phases(self) -> int:
        """Steps of an eighth of a VCO period in a turn of the SDRAM's clock."""
        return 8 * self.output // 2


class BoardTop(Elaboratable):
    """A board file's top level.  A subclass has ``clock`` (the oscillator's resource), and ``extras`` for the board's other pins.
    The PLL makes the preset's clocks.  Raises ValueError for clocks that the PLL cannot make.

    LEDs: 0 PLL locked, 1 SDRAM ready, 2 bytes from the host, 3 a program runs, 4 a result was infinite or NaN, or the
    SDRAM gave no answer in any phase of its clock.
    """

    clock: str

    def __init__(self, config: CoreConfig, core_sha256: str):
        self.config = config
        self.core_sha256 = core_sha256

    def extras(self, m: Module, platform: Any) -> None:
        """Statements for pins of this board alone."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = CoreInstance(self.core_sha256)
        self.clocks(m, platform, core.dfi.phase_step)
        m.submodules.phy = phy = SdramPhy(platform.request("sdram", dir="-"))
        wiring.connect(m, core.dfi, phy.dfi)
        uart_pins = platform.request("uart", dir="-")
        m.submodules.uart = uart = Uart(clock_hz=round(self.config.fabric_mhz * 1e6), baud=self.config.uart_baud)
        m.submodules.rx_pin = rx_pin = io.FFBuffer(io.Direction.Input, uart_pins.rx)
        m.submodules.tx_pin = tx_pin = io.FFBuffer(io.Direction.Output, uart_pins.tx)
        m.d.comb += [uart.rx_pin.eq(rx_pin.i), tx_pin.o.eq(uart.tx_pin)]
        wiring.connect(m, uart.rx, core.rx)
        wiring.connect(m, core.tx, uart.tx)
        seen = Signal(22)
        with m.If(uart.rx.valid):
            m.d.sync += seen.eq(-1)
        with m.Elif(seen != 0):
            m.d.sync += seen.eq(seen - 1)
        for i, state in enumerate((~ResetSignal("sync"), core.sdram_ready, seen != 0, core.running, core.failed)):
            m.submodules[f"led{i}"] = led = io.FFBuffer(io.Direction.Output, platform.request("led", i, dir="-"))
            m.d.comb += led.o.eq(state)
        self.extras(m, platform)
        return m

    def clocks(self, m: Module, platform: Any, phase_step: Value) -> None:
        """The fabric's domain sync, and sdram at twice its rate for the chip's clock pin."""
        pll = Pll.between(platform.lookup(self.clock).clock.frequency / 1e6, self.config)
        m.domains.sync = ClockDomain()
        m.domains.sdram = ClockDomain(reset_less=True)
        locked, fabric = Signal(), Signal()
        m.submodules.clock = clock = io.Buffer(io.Direction.Input, platform.request(self.clock, dir="-"))
        m.submodules.pll = Instance(
            "EHXPLLL", a_FREQUENCY_PIN_CLKI=str(pll.input_mhz), a_FREQUENCY_PIN_CLKOP=str(pll.clocks["fabric"]),
            a_FREQUENCY_PIN_CLKOS=str(pll.clocks["sdram"]), p_CLKI_DIV=pll.reference, p_CLKFB_DIV=pll.feedback,
            p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=pll.output, p_CLKOP_CPHASE=pll.output - 1, p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED", p_CLKOS_DIV=pll.output // 2, p_CLKOS_CPHASE=pll.output // 2 - 1, p_CLKOS_FPHASE=0,
            # The phase of CLKOS (PHASESEL 0) is moved at run time, by a step later with each falling edge of PHASESTEP.
            p_DPHASE_SOURCE="ENABLED", i_PHASESTEP=phase_step,
            i_CLKI=clock.i, i_CLKFB=fabric, o_CLKOP=fabric, o_CLKOS=ClockSignal("sdram"), o_LOCK=locked,
            **{f"i_{pin}": Const(0) for pin in ("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PHASEDIR",
                                                "PHASELOADREG", "PLLWAKESYNC", "ENCLKOP", "ENCLKOS")})
        m.d.comb += ClockSignal("sync").eq(fabric)
        # Reset ends 255 cycles after lock; the counter itself has no reset, or it would never start.
        after = Signal(8, reset_less=True)
        with m.If(locked & ~after.all()):
            m.d.sync += after.eq(after + 1)
        # The reset is a register of its own, because it is routed to the whole chip.
        reset = Signal(init=1, reset_less=True)
        m.d.sync += reset.eq(~after.all())
        m.d.comb += ResetSignal("sync").eq(reset)
