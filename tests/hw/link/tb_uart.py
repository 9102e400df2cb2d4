# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The UART at its pins, with a peer whose rate is off by 2 %, or at less than ten cycles a bit by 1.5 %."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.link.uart import Uart
from sim.cocotb_streams import StreamSink, StreamSource, report, report_point, reset, rng
from sim.testbench import Bench

#: Clock and rate in Hz, and how far the peer's rate is off.  The last one has 9.375 cycles a bit.  A byte of a peer that sends
#: without a pause has to last 92 cycles there, which is 1.9 % less than it should.
RATES = ((50_000_000, 3_000_000, 0.02), (50_000_000, 1_000_000, 0.02), (75_000_000, 8_000_000, 0.015))
BENCHES = [Bench(name=f"{baud}", build=lambda clock=clock, baud=baud: Uart(clock_hz=clock, baud=baud),
                 env={"CYCLES": str(clock / baud), "OFF": str(off)},
                 nightly="no board has it; 3000000 and 8000000 have fewer cycles a bit" if baud == 1_000_000 else "")
           for clock, baud, off in RATES]
POINTS = ("refused: a byte without a stop bit", "refused: a start bit that is too short")
CYCLES, OFF = float(os.environ.get("CYCLES", "9.375")), float(os.environ.get("OFF", "0.015"))


async def pin_bits(dut, values, error):
    """Drive rx_pin with whole frames at a rate that is off by a share."""
    at = 0.0
    cycle = 0
    for value in values:
        for bit in (0, *(value >> i & 1 for i in range(8)), 1):
            dut.rx_pin.value = bit
            at += CYCLES * (1 + error)
            while cycle < at:
                await FallingEdge(dut.clk)
                cycle += 1
    dut.rx_pin.value = 1


async def receive(dut, error):
    dut.rx_pin.value = 1
    dut.tx__valid.value = 0
    await reset(dut)
    random = rng("bytes")
    values = [0, 255, 0x55, 0xAA, *(random.randint(0, 255) for _ in range(60))]
    sink = StreamSink(dut, "rx")
    cocotb.start_soon(pin_bits(dut, values, error))
    assert await sink.recv_n(len(values)) == values
    report(cases=len(values))


@cocotb.test()
async def receives_a_slow_peer(dut):
    await receive(dut, OFF)


@cocotb.test()
async def receives_a_fast_peer(dut):
    await receive(dut, -OFF)


@cocotb.test()
async def bytes_without_a_stop_bit_are_dropped(dut):
    dut.rx_pin.value = 1
    dut.tx__valid.value = 0
    await reset(dut)
    sink = StreamSink(dut, "rx")
    await pin_bits(dut, [0x41], 0.0)
    dut.rx_pin.value = 0
    for _ in range(round(CYCLES * 12)):
        await FallingEdge(dut.clk)
    dut.rx_pin.value = 1
    for _ in range(round(CYCLES * 12)):
        await FallingEdge(dut.clk)
    await pin_bits(dut, [0x42], 0.0)
    got = await sink.recv_n(2)
    assert (got[0], got[-1]) == (0x41, 0x42)
    report_point("refused: a byte without a stop bit")


@cocotb.test()
async def a_short_pulse_is_no_start_bit(dut):
    """The bytes behind a quarter of a start bit come as they are, and wait until they are taken."""
    dut.rx_pin.value = 1
    dut.tx__valid.value = 0
    await reset(dut)
    dut.rx_pin.value = 0
    for _ in range(round(CYCLES / 4)):
        await FallingEdge(dut.clk)
    dut.rx_pin.value = 1
    for _ in range(round(CYCLES * 12)):
        await FallingEdge(dut.clk)
    values = [0x42, 0xA5, 0, 0xFF]
    await pin_bits(dut, values, 0.0)
    assert await StreamSink(dut, "rx").recv_n(len(values)) == values
    for _ in range(round(CYCLES * 12)):
        await FallingEdge(dut.clk)
        assert not dut.rx__valid.value
    report_point("refused: a start bit that is too short")


@cocotb.test()
async def loops_back_at_full_rate(dut):
    """The UART receives what it sends, byte after byte without a gap; a byte takes ten bits, to half a percent."""
    dut.rx_pin.value = 1
    await reset(dut)
    random = rng("bytes")
    values = [random.randint(0, 255) for _ in range(100)]

    async def wire():
        while True:
            dut.rx_pin.value = int(dut.tx_pin.value)
            await FallingEdge(dut.clk)

    cocotb.start_soon(wire())
    source, sink = StreamSource(dut, "tx"), StreamSink(dut, "rx")
    cocotb.start_soon(source.send_all(values))
    assert await sink.recv_n(len(values)) == values
    assert abs(sink.cycles / (len(values) * 10 * CYCLES) - 1) < 0.02
    report(cases=len(values))
