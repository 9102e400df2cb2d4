# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the top levels of all boards share: the core's Verilog, UART, LEDs.  A board's memory brings the clocks."""

from abc import ABC, abstractmethod
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Const, Elaboratable, Module, ResetSignal, Signal, Value
from amaranth.lib import io, wiring

from boards.core import CoreInstance
from hw.link.uart import Uart
from tellme.spec.config import CoreConfig

__all__ = ["STATES", "BoardTop"]

#: What LEDs show: the reset is over (so the PLL is locked), the memory is ready, a byte came from the host within some 60 ms,
#: a program runs, and a failure.  A failure: a result was infinite or NaN, or no setting of the memory works, or the memory's
#: clocks have failed.
STATES = ("reset_over", "memory_ready", "host_byte", "running", "failed")


class BoardTop(ABC, Elaboratable):
    """A board file's top level.  A subclass for a kind of memory has :meth:`memory` and :meth:`clocks`; a board file has
    ``clock`` (the oscillator's resource), ``leds`` and ``extras`` for the board's other pins.

    ``leds`` has an LED for each of STATES: resource, number, and the colour of an RGB LED ("" for an LED of one colour); or None
    for a state that the board does not show.  Colours without a state stay dark.
    """

    clock: str
    leds: tuple[tuple[str, int, str] | None, ...] = tuple(("led", i, "") for i in range(len(STATES)))

    def __init__(self, config: CoreConfig, core_sha256: str):
        self.config = config
        self.core_sha256 = core_sha256

    @classmethod
    @abstractmethod
    def clocks(cls, platform: Any, config: CoreConfig) -> dict[str, float]:
        """MHz of each clock, as a report names them; a ValueError for clocks that the board's PLL cannot make."""

    @abstractmethod
    def memory(self, m: Module, platform: Any, core: CoreInstance) -> tuple[Value, ...]:
        """The memory's clocks with domain ``sync``, and the PHY between the core and the chip's pins.  Returns bits that are high
        when something of the clocks has failed."""

    def extras(self, m: Module, platform: Any) -> None:
        """Statements for pins of this board alone."""

    @classmethod
    def input_mhz(cls, platform: Any) -> float:
        """Of the board's oscillator."""
        return platform.lookup(cls.clock).clock.frequency / 1e6

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = CoreInstance(self.config, self.core_sha256)
        faults = self.memory(m, platform, core)
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
        failed = reduce(or_, faults, core.failed)
        self.show(m, platform, (~ResetSignal("sync"), core.sdram_ready, seen != 0, core.running, failed))
        self.extras(m, platform)
        return m

    def show(self, m: Module, platform: Any, values: tuple[Value, ...]) -> None:
        """A value for each of STATES, on ``leds``."""
        colours: dict[tuple[str, int], dict[str, Value]] = {}
        for place, value in zip(self.leds, values, strict=True):
            if place is not None:
                resource, number, colour = place
                colours.setdefault((resource, number), {})[colour] = value
        for i, ((resource, number), shown) in enumerate(colours.items()):
            pins = platform.request(resource, number, dir="-")
            for colour in [""] if "" in shown else ["r", "g", "b"]:
                led = io.FFBuffer(io.Direction.Output, getattr(pins, colour) if colour else pins)
                m.submodules[f"led{i}{colour}"] = led
                m.d.comb += led.o.eq(shown.get(colour, Const(0)))
