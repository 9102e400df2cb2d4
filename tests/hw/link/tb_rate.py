# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Loading at the wire's rate, between pins: the host's window, a serial line, UART, HostLink and a memory.

The line is a model in Verilog, which sends bytes without a gap.  What the board sends passes a model of a USB-serial chip, which
gives each byte to the host at once, or holds bytes back until PACKET are there or LATENCY has passed since the first of them.

At eight cycles a bit, the fewest that the UART takes, the board has the least time for a byte.  The chip's time is as many bytes
long there as at 3 Mbaud.
"""

import os
from zlib import crc32

import cocotb
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import First, Timer, ValueChange
from cocotb.utils import get_sim_time

from hw.link.link import HostLink
from hw.link.uart import Uart
from hw.verilog import to_verilog
from sim.cocotb_streams import report, report_note, rng
from sim.testbench import Bench
from tellme.link.window import Exchange
from tellme.spec.memory import REGISTER_BASE
from tellme.spec.packets import DATA_MAX, PacketType

#: Bytes of the board's memory.
MEMORY = 1 << 16
#: Bytes of a packet of the USB-serial chip, and how long it waits for them, in seconds.
PACKET, LATENCY = 62, 0.016
#: Bytes that the host gives to the line at a time.
CHUNK = 64
#: Share of the line's rate that a load reaches at least.
LEAST = 0.95


class LinkAtPins(wiring.Component):
    """UART and HostLink, and a memory that answers in each window."""

    def __init__(self, *, clock_hz: int, baud: int):
        self._clock_hz, self._baud = clock_hz, baud
        super().__init__({"rx_pin": In(1, init=1), "tx_pin": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.uart = uart = Uart(clock_hz=self._clock_hz, baud=self._baud)
        m.submodules.link = link = HostLink(windows=((0, MEMORY, True), (REGISTER_BASE, 256, True)), name="rate")
        m.submodules.words = words = memory.Memory(shape=32, depth=MEMORY // 4, init=[])
        write, read = words.write_port(), words.read_port()
        wiring.connect(m, uart.rx, link.rx)
        wiring.connect(m, link.tx, uart.tx)
        left, at = Signal(20), Signal(range(MEMORY // 4))
        m.d.comb += [uart.rx_pin.eq(self.rx_pin), self.tx_pin.eq(uart.tx_pin), write.addr.eq(at), read.addr.eq(at),
                     write.data.eq(link.bus_wdata.payload), link.bus_rdata.payload.eq(read.data)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [link.bus_req.ready.eq(1), link.bus_idle.eq(1)]
                m.d.sync += [left.eq(link.bus_req.p.words), at.eq(link.bus_req.p.addr[2:])]
                with m.If(link.bus_req.valid):
                    m.next = "READ"
                    with m.If(link.bus_req.p.write):
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [link.bus_wdata.ready.eq(1), write.en.eq(link.bus_wdata.valid)]
                with m.If(link.bus_wdata.valid):
                    m.d.sync += [at.eq(at + 1), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.next = "IDLE"
            with m.State("READ"):
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += link.bus_rdata.valid.eq(1)
                with m.If(link.bus_rdata.ready):
                    m.d.sync += [at.eq(at + 1), left.eq(left - 1)]
                    m.next = "READ"
                    with m.If(left == 1):
                        m.next = "IDLE"
        return m


TB = """
`timescale 1ns / 1ps
// tx_put and rx_given change with each chunk that the host gives or gets, tx_taken when the line has begun with a chunk.
module tb_top(input [{chunk} * 8 - 1:0] tx_data, input [7:0] tx_count, input tx_put, output reg tx_taken,
              input [7:0] hold, input [31:0] hold_bits, output reg [{packet} * 8 - 1:0] rx_data, output reg [7:0] rx_count,
              output reg rx_given, output reg broken);
    reg clk = 0, rst = 1, to_board = 1;
    wire to_host;
    dut board(.clk(clk), .rst(rst), .rx_pin(to_board), .tx_pin(to_host));
    always #{half} clk = ~clk;
    initial #100 rst = 0;

    reg [{chunk} * 8 - 1:0] now_data, next_data;
    integer next_count = 0, now_count, i, bit_of;
    initial tx_taken = 0;
    always @(tx_put) begin
        next_data = tx_data;
        next_count = tx_count;
    end
    initial forever begin
        wait(next_count != 0);
        now_data = next_data;
        now_count = next_count;
        next_count = 0;
        tx_taken = ~tx_taken;
        for (i = 0; i < now_count; i = i + 1) begin
            to_board = 0;
            #{bit};
            for (bit_of = 0; bit_of < 8; bit_of = bit_of + 1) begin
                to_board = now_data[8 * i + bit_of];
                #{bit};
            end
            to_board = 1;
            #{bit};
        end
    end

    reg [{packet} * 8 - 1:0] held;
    reg [7:0] value;
    integer count = 0, n;
    real since = 0;
    task give;
        begin
            rx_data = held;
            rx_count = count;
            count = 0;
            rx_given = ~rx_given;
        end
    endtask
    initial begin
        rx_given = 0;
        broken = 0;
        forever begin
            @(negedge to_host);
            #({bit} * 1.5);
            for (n = 0; n < 8; n = n + 1) begin
                value[n] = to_host;
                #{bit};
            end
            if (!to_host) broken = 1;
            if (count == 0) since = $realtime;
            held[8 * count +: 8] = value;
            count = count + 1;
            if (count >= hold) give;
        end
    end
    always #({bit} * 10) if (count != 0 && $realtime - since >= {bit} * hold_bits) give;
endmodule
"""


def bench(name: str, *, clock_hz: int, baud: int, real_baud: int, size: int, nightly: str = "") -> Bench:
    """Loads ``size`` bytes.  ``baud`` stands for ``real_baud``: seconds are counted in bits of the latter."""

    def sources() -> dict[str, str]:
        text = TB.format(chunk=CHUNK, packet=PACKET, half=5e8 / clock_hz, bit=1e9 / baud)
        return {"dut.v": to_verilog(LinkAtPins(clock_hz=clock_hz, baud=baud), "dut"), "tb_top.sv": text}

    return Bench(name=name, sources=sources, nightly=nightly,
                 env={"BIT_NS": str(1e9 / baud), "BAUD": str(real_baud), "SIZE": str(size)})


LONG = "CI loads 16 KiB at eight cycles a bit"
BENCHES = [
    bench("8cycles-16k", clock_hz=100_000_000, baud=12_500_000, real_baud=3_000_000, size=1 << 14),
    bench("8cycles-64k", clock_hz=100_000_000, baud=12_500_000, real_baud=3_000_000, size=1 << 16, nightly=LONG),
    bench("6mbaud-64k", clock_hz=66_666_667, baud=6_000_000, real_baud=6_000_000, size=1 << 16, nightly=LONG),
]
BIT_NS, BAUD = float(os.environ.get("BIT_NS", "80")), int(os.environ.get("BAUD", "3000000"))
SIZE = int(os.environ.get("SIZE", "0"))


class Line:
    """The host's end: an Exchange whose clock runs with the line's bits."""

    def __init__(self, dut):
        self.dut, self.exchange = dut, Exchange()
        self.waiting = bytearray()
        #: Whether the line has room for a chunk.
        self.free = True
        self.frames_sent = 0

    def now(self) -> float:
        """Seconds, if the line had BAUD."""
        return float(get_sim_time("ps")) / 1000 / BIT_NS / BAUD

    def give(self):
        out = self.exchange.frames(self.now())
        self.frames_sent += out.count(0)
        self.waiting += out
        if self.free and self.waiting:
            chunk = bytes(self.waiting[:CHUNK])
            del self.waiting[:CHUNK]
            self.dut.tx_data.value = int.from_bytes(chunk, "little")
            self.dut.tx_count.value = len(chunk)
            self.dut.tx_put.value = not self.dut.tx_put.value
            self.free = False

    async def until(self, tickets):
        taken, given = ValueChange(self.dut.tx_taken), ValueChange(self.dut.rx_given)
        while not all(t.done for t in tickets):
            self.give()
            deadline = self.exchange.deadline()
            assert deadline is not None or self.waiting
            triggers = [given] if self.free else [taken, given]
            if deadline is not None:
                triggers.append(Timer(max(1, round((deadline - self.now()) * BAUD * BIT_NS * 1000)), "ps"))
            fired = await First(*triggers)
            if fired is taken:
                self.free = True
            elif fired is given:
                content = int(self.dut.rx_data.value).to_bytes(PACKET, "little")[:int(self.dut.rx_count.value)]
                self.exchange.receive(content, self.now())
        return [t.result() for t in tickets]


async def load(dut, *, hold):
    """From the first start bit of the first WRITE to the last answer."""
    dut.tx_put.value = dut.tx_put.value
    # The session is opened without the chip, to save time.
    dut.hold.value, dut.hold_bits.value = 1, round(LATENCY * BAUD)
    await Timer(1000, "ns")
    line = Line(dut)
    await line.until([line.exchange.open(hold, hold + 1)])
    dut.hold.value = hold
    content = rng("content").randbytes(SIZE)
    began, before = line.now(), line.frames_sent
    tickets = [line.exchange.submit(PacketType.WRITE, at.to_bytes(4, "little") + content[at:at + DATA_MAX])
               for at in range(0, SIZE, DATA_MAX)]
    line.exchange.fill()
    await line.until(tickets)
    seconds = line.now() - began
    share = SIZE / seconds / (BAUD / 10)
    dut.hold.value = 1
    # Each packet was sent once.
    assert line.frames_sent - before == len(tickets) + 1
    assert await line.until([line.exchange.submit(PacketType.CHECKSUM, bytes(4) + SIZE.to_bytes(4, "little"))]) == [
        crc32(content).to_bytes(4, "little")]
    assert not dut.broken.value
    report(cases=len(tickets))
    report_note(f"{SIZE} bytes in {1000 * seconds:.1f} ms at {BAUD} baud: {100 * share:.1f} % of the line's rate")
    assert share >= LEAST


@cocotb.test()
async def answers_come_at_once(dut):
    await load(dut, hold=1)


@cocotb.test()
async def answers_are_held_back(dut):
    await load(dut, hold=PACKET)
