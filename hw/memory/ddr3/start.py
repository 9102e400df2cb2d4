# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""From power-up to a DDR3 chip that takes commands."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.memory.commands import Command, command
from hw.memory.ddr3.dfi import Ddr3CommandLayout
from tellme.spec.ddr3 import Ddr3Timing

__all__ = ["Ddr3Start"]

#: Address bit 10 of ZQ: the long calibration.
LONG = 1 << 10


class Ddr3Start(wiring.Component):
    """Holds RESET# and CKE, sets the mode registers 2, 3, 1 and 0, and calibrates, by the times of ``timing`` at ``mhz`` (CK).

    ``slot`` is the command of slot 0, zeros where there is none.  ``done`` rises when the last wait is over (tZQinit, tDLLK), and
    ``odt`` with it.  ``reset_us`` and ``cke_us`` take the place of the chip's times, for simulations.
    """

    def __init__(self, *, timing: Ddr3Timing, mhz: float, reset_us: float | None = None, cke_us: float | None = None):
        self._timing, self._mhz = timing, mhz
        self._reset_us = timing.reset_us if reset_us is None else reset_us
        self._cke_us = timing.cke_us if cke_us is None else cke_us
        super().__init__({"slot": Out(Ddr3CommandLayout), "reset": Out(1, init=1), "cke": Out(1), "odt": Out(1), "done": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        t = self._timing

        def cycles(name: str) -> int:
            return -(-t.clocks(name, self._mhz) // 2)

        def microseconds(us: float) -> int:
            return int(us * self._mhz / 2) + 1

        # A step: its mode register (or the calibration), and the cycles to the next step.
        tmrd, tmod = cycles("tmrd"), cycles("tmod")
        calibrated = max(cycles("tzqinit"), cycles("tdllk"))
        steps = [(2, t.mr2, tmrd), (3, t.mr3, tmrd), (1, t.mr1, tmrd), (0, t.mr0, tmod), (0, LONG, calibrated)]
        reset, cke = microseconds(self._reset_us), microseconds(self._cke_us)
        step, wait = Signal(range(len(steps) + 1)), Signal(range(max(reset, cke, calibrated) + 1), init=reset)
        last = step == len(steps) - 1
        m.d.sync += wait.eq(wait - 1)
        with m.FSM():
            with m.State("RESET"), m.If(wait == 0):
                m.d.sync += [self.reset.eq(0), wait.eq(cke)]
                m.next = "CKE"
            with m.State("CKE"), m.If(wait == 0):
                m.d.sync += [self.cke.eq(1), wait.eq(cycles("txpr"))]
                m.next = "STEP"
            with m.State("STEP"), m.If(wait == 0):
                m.d.comb += command(self.slot, Mux(last, Command.ZQ, Command.MODE),
                                    ba=Array(bank for bank, _, _ in steps)[step], a=Array(a for _, a, _ in steps)[step])
                m.d.sync += [wait.eq(Array(pause - 1 for _, _, pause in steps)[step]), step.eq(step + 1)]
                with m.If(last):
                    m.next = "LAST"
            with m.State("LAST"), m.If(wait == 0):
                m.d.sync += [self.done.eq(1), self.odt.eq(1)]
                m.next = "DONE"
            with m.State("DONE"):
                pass
        return m
