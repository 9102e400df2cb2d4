# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Boards with an SDR SDRAM: PLL and reset, and the PHY."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import io, wiring

from boards.core import CoreInstance
from boards.top import BoardTop
from hw.memory.sdr.phy import SdramPhy
from tellme.spec.config import CoreConfig

__all__ = ["Pll", "SdrBoardTop"]


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


class SdrBoardTop(BoardTop):
    """A board with an SDR SDRAM, resource ``sdram``.

    The PLL makes the preset's clocks; the core moves the phase of the SDRAM's.
    """

    @classmethod
    def clocks(cls, platform: Any, config: CoreConfig) -> dict[str, float]:
        return Pll.between(cls.input_mhz(platform), config).clocks

    def memory(self, m: Module, platform: Any, core: CoreInstance) -> tuple[Value, ...]:
        self.domains(m, platform, core.dfi.phase_step)
        m.submodules.phy = phy = SdramPhy(platform.request("sdram", dir="-"))
        wiring.connect(m, core.dfi, phy.dfi)
        return ()

    def domains(self, m: Module, platform: Any, phase_step: Value) -> None:
        """The fabric's domain sync, and sdram at twice its rate for the chip's clock pin."""
        pll = Pll.between(self.input_mhz(platform), self.config)
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
