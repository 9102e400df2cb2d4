# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Clocks of a DDR3 interface on ECP5, and the start-up sequence of its delay lock loop."""

from dataclasses import dataclass

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer
from amaranth.lib.wiring import Out

__all__ = ["STEP_CYCLES", "Ddr3Clocks", "Ddr3Pll"]

#: Cycles of the reference clock between two steps of the start-up sequence.
STEP_CYCLES = 8


@dataclass(frozen=True)
class Ddr3Pll:
    """EHXPLLL's dividers.  The edge clock, twice the fabric's clock, is the feedback output.

    edge clock = input * feedback / reference; VCO = edge clock * output, 400 to 800 MHz.  Raises ValueError for another VCO.
    """

    input_mhz: float
    reference: int
    feedback: int
    output: int

    @classmethod
    def between(cls, input_mhz: float, fabric_mhz: float) -> "Ddr3Pll":
        """Dividers from a board's oscillator to the fabric's clock; the fastest VCO.  Raises ValueError if there are none."""
        for reference in range(1, 9):
            # The phase detector works from 3.125 MHz on.
            feedback = round(2 * fabric_mhz * reference / input_mhz)
            if input_mhz / reference >= 3.125 and abs(feedback * input_mhz - 2 * fabric_mhz * reference) < 1e-6 * input_mhz:
                output = int((800 + 1e-6) / (2 * fabric_mhz))
                return cls(input_mhz, reference, feedback, output)
        raise ValueError(f"no PLL makes an edge clock of {2 * fabric_mhz} MHz from {input_mhz} MHz")

    def __post_init__(self) -> None:
        if not 400 <= self.edge_mhz * self.output <= 800 + 1e-6:
            raise ValueError(f"VCO at {self.edge_mhz * self.output:.1f} MHz: 400 to 800 MHz are wanted")

    @property
    def edge_mhz(self) -> float:
        """Of the edge clock, and of the chip's CK."""
        return self.input_mhz * self.feedback / self.reference

    @property
    def fabric_mhz(self) -> float:
        return self.edge_mhz / 2

    @property
    def clocks(self) -> dict[str, float]:
        """MHz of each clock, as a report names them."""
        return {"reference": self.input_mhz, "fabric": self.fabric_mhz, "edge": self.edge_mhz}


class Ddr3Clocks(wiring.Component):
    """Drives the clocks and resets of the domains ``ddr``, ``sync`` and ``io``; the parent makes the domains.

    The reference clock of domain ``init`` (reset-less) feeds the PLL and runs the sequence.  The PLL's output goes through
    ECLKSYNCB to ``ddr``, the edge clock, and through CLKDIVF to ``sync``, at half the rate.  ``io`` is ``sync`` with the reset of
    the I/O registers.

    The sequence has a step each STEP_CYCLES cycles, from DDRDLLA's first lock on: 1 freeze DDRDLLA, 2 stop the edge clock, 3
    reset the divider and the I/O registers, 4 release the reset, 5 let the clock run, 6 unfreeze, 7 pause DQSBUFM, 8 update its
    delay code, 9 end the update, 10 end the pause, 11 ready.  These are the steps of LiteDRAM's PHY, which boards run.  The
    fabric, domain ``sync``, is in reset until then.  When the PLL loses its lock, all begins anew.

    ``bridge`` puts an ECLKBRIDGECS ahead of ECLKSYNCB, which takes the edge clock to both sides of the chip.  A board whose DDR3
    pins are on both sides needs one.

    ``ddrdel`` and ``pause`` are for the PHY.  ``ready``: the sequence is complete (domain ``init``).  ``lost``: DDRDLLA has lost
    its lock since (domain ``init``); its delays stay as they were.
    """

    def __init__(self, pll: Ddr3Pll, *, bridge: bool = False):
        super().__init__({"ddrdel": Out(1), "pause": Out(1), "ready": Out(1), "lost": Out(1)})
        self._pll, self._bridge = pll, bridge

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pll = self._pll
        made, pll_lock, dll_lock = Signal(), Signal(), Signal()
        locked, dll_locked = Signal(), Signal()
        m.submodules.pll = Instance(
            "EHXPLLL", a_FREQUENCY_PIN_CLKI=str(pll.input_mhz), a_FREQUENCY_PIN_CLKOP=str(pll.edge_mhz),
            p_CLKI_DIV=pll.reference, p_CLKFB_DIV=pll.feedback, p_FEEDBK_PATH="CLKOP", p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=pll.output, p_CLKOP_CPHASE=pll.output - 1, p_CLKOP_FPHASE=0,
            i_CLKI=ClockSignal("init"), i_CLKFB=made, o_CLKOP=made, o_LOCK=pll_lock,
            **{f"i_{pin}": Const(0) for pin in ("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PHASEDIR", "PHASESTEP", "PHASELOADREG",
                                                "PLLWAKESYNC", "ENCLKOP")})
        m.submodules.locked = FFSynchronizer(pll_lock, locked, o_domain="init")
        m.submodules.dll_locked = FFSynchronizer(dll_lock, dll_locked, o_domain="init")

        # ------------------------------------------------------------------ the sequence
        steps = 11
        time = Signal(range(STEP_CYCLES * steps + 1))
        freeze, stop, reset, update, ready = (Signal(name=name) for name in ("freeze", "stop", "reset", "update", "is_ready"))
        begun = Signal()
        with m.If(~locked):
            m.d.init += [time.eq(0), begun.eq(0)]
        with m.Elif(dll_locked | begun):
            m.d.init += begun.eq(1)
            with m.If(time != STEP_CYCLES * steps):
                m.d.init += time.eq(time + 1)
        for signal, first, last in ((freeze, 1, 6), (stop, 2, 5), (reset, 3, 4), (self.pause, 7, 10), (update, 8, 9)):
            m.d.init += signal.eq((time >= STEP_CYCLES * first) & (time < STEP_CYCLES * last))
        m.d.init += ready.eq(time == STEP_CYCLES * steps)
        m.d.comb += self.ready.eq(ready)
        with m.If(~ready):
            m.d.init += self.lost.eq(0)
        with m.Elif(~dll_locked):
            m.d.init += self.lost.eq(1)

        # ------------------------------------------------------------------ clocks
        dll_reset, io_reset = Signal(init=1), Signal(init=1)
        m.d.init += [dll_reset.eq(~locked), io_reset.eq(~locked | reset)]
        source = made
        if self._bridge:
            source = Signal()
            m.submodules.bridge = Instance("ECLKBRIDGECS", i_CLK0=made, i_SEL=Const(0, 1), o_ECSOUT=source)
        m.submodules.edge = Instance("ECLKSYNCB", i_ECLKI=source, i_STOP=stop, o_ECLKO=ClockSignal("ddr"))
        m.submodules.divider = Instance("CLKDIVF", p_DIV="2.0", i_CLKI=ClockSignal("ddr"), i_RST=reset, i_ALIGNWD=Const(0),
                                        o_CDIVX=ClockSignal("sync"))
        m.submodules.dll = Instance("DDRDLLA", i_CLK=ClockSignal("ddr"), i_RST=dll_reset, i_UDDCNTLN=~update, i_FREEZE=freeze,
                                    o_DDRDEL=self.ddrdel, o_LOCK=dll_lock)
        m.d.comb += ClockSignal("io").eq(ClockSignal("sync"))
        m.submodules.sync_reset = ResetSynchronizer(~ready, domain="sync")
        m.submodules.io_reset = ResetSynchronizer(io_reset, domain="io")
        return m
