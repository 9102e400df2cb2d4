# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""UART: 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from hw.lib.streams import Skid

__all__ = ["Uart"]


class Uart(wiring.Component):
    """Bytes between pins and streams.

    A bit lasts clock_hz / baud cycles, counted in units of 2**-8 cycles.  A rate that is no divisor of the clock therefore drifts
    by less than 0.1 % over a byte.  Bits are sampled in their middle.  A start bit that has ended before its middle is ignored; a
    byte without stop bit is dropped.  The other side's rate may be off by 2 % from 16 cycles a bit on, and by 1.5 % at 9.375
    cycles.  Received bytes wait in a FIFO of 2,048 (one EBR).  There is no flow control on the wires.

    Raises ValueError for less than eight cycles a bit.
    """

    def __init__(self, *, clock_hz: int, baud: int):
        self._bit = round(clock_hz * 256 / baud)
        if self._bit < 8 * 256:
            raise ValueError(f"{baud} baud at {clock_hz} Hz leaves {clock_hz / baud:.1f} cycles a bit; 8 are needed")
        super().__init__({"rx_pin": In(1, init=1), "tx_pin": Out(1, init=1),
                          "rx": Out(stream.Signature(8)), "tx": In(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bit = self._bit
        # ------------------------------------------------------------------ receive
        pin = Signal(init=1)
        m.submodules.sync = FFSynchronizer(self.rx_pin, pin, init=1)
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=8, depth=2048)
        # The queue's EBR answers late, so there is a register after the EBR.
        m.submodules.skid = skid = Skid(8)
        m.d.comb += [skid.i.payload.eq(queue.r_data), skid.i.valid.eq(queue.r_rdy), queue.r_en.eq(skid.i.ready),
                     self.rx.payload.eq(skid.o.payload), self.rx.valid.eq(skid.o.valid), skid.o.ready.eq(self.rx.ready)]
        phase, shift, count = Signal(range(2 * bit)), Signal(9), Signal(range(10))
        with m.FSM(name="receive"):
            with m.State("IDLE"):
                # To the middle of the start bit.
                m.d.sync += [phase.eq(bit // 2), count.eq(0)]
                with m.If(~pin):
                    m.next = "BIT"
            with m.State("BIT"):
                with m.If(phase < 256):
                    m.d.sync += [phase.eq(phase + bit - 256), count.eq(count + 1), shift.eq(Cat(shift[1:], pin))]
                    with m.If((count == 0) & pin):
                        m.next = "IDLE"
                    with m.If(count == 9):
                        m.d.comb += [queue.w_data.eq(shift[1:]), queue.w_en.eq(pin)]
                        m.next = "QUIET"
                with m.Else():
                    m.d.sync += phase.eq(phase - 256)
            with m.State("QUIET"):
                # After a byte without stop bit the line has to come up before the next start bit counts.
                with m.If(pin):
                    m.next = "IDLE"
        # ------------------------------------------------------------------ send
        out_phase, out_shift, out_count = Signal(range(2 * bit)), Signal(10, init=1), Signal(range(11))
        m.d.comb += [self.tx_pin.eq(out_shift[0]), self.tx.ready.eq(out_count == 0)]
        with m.If(out_count == 0):
            with m.If(self.tx.valid):
                m.d.sync += [out_shift.eq(Cat(Const(0, 1), self.tx.payload, Const(1, 1))), out_count.eq(10),
                             out_phase.eq(bit - 256)]
        with m.Elif(out_phase < 256):
            m.d.sync += [out_phase.eq(out_phase + bit - 256), out_shift.eq(Cat(out_shift[1:], Const(1, 1))),
                         out_count.eq(out_count - 1)]
        with m.Else():
            m.d.sync += out_phase.eq(out_phase - 256)
        return m
