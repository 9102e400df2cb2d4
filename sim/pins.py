# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A board at its pins: the top level's Verilog around the ECP5's primitives, an SDRAM chip with its times, a UART.

:func:`sources` makes the files of a bench; :class:`SdramAtPins` and :class:`UartAtPins` are used inside the simulator.
"""

import random
import re
from pathlib import Path
from typing import Any

from sim.chips.sdram import Chip

__all__ = ["SdramAtPins", "UartAtPins", "sources"]

ROOT = Path(__file__).resolve().parent.parent

#: The top level's names of the chip's inputs that have other ones, and those that are active low, which the bench inverts.
OTHER_NAMES, ACTIVE_LOW = {"cke": "clk_en"}, {"cs", "ras", "cas", "we"}
#: Bits of ``seen``: the chip's pins as :meth:`Chip.clock_pins` wants them, the data, and whether an input changed too near ahead
#: of the clock's edge or behind it.
PIN_BITS, DATA_BITS = sum(Chip.PINS.values()), 16

TB = """
`timescale 1ns / 1ps
module tb_top({ports}, output [15:0] sdram_dq, input [15:0] chip_dq, input chip_drives, output [{width} + 1:0] seen);
    {wires}
    reg [15:0] fpga_drives = 0, fpga_dq = 0;
    wire [15:0] dq = (chip_drives ? chip_dq : 16'h0) | (fpga_dq & fpga_drives);
    assign sdram_dq = dq;
    top board({connections}, .sdram_0__dq__io(dq));
    // What the chip takes at its clock's edge, and whether an input changed too near to it: IS42S16160G-7 wants
    // 1.5 ns before and 0.8 ns behind.
    wire [{width} - 1:0] pins = {{fpga_dq & fpga_drives, |fpga_drives, {pins}}};
    reg [{width} - 1:0] sampled;
    reg early, late;
    assign seen = {{late, early, sampled}};
    real changed = 0, rose = 0;
    initial {{early, late}} = 0;
    always @(pins) begin
        changed = $realtime;
        if (sdram_0__clk__io && $realtime - rose < 0.8) late = 1;
    end
    always @(posedge sdram_0__clk__io) begin
        sampled = pins;
        early = $realtime - changed < 1.5;
        late = 0;
        rose = $realtime;
    end
endmodule
"""


def sources(board: Any, device: str, core_preset: str | None = None) -> dict[str, str]:
    """The board's top level as a build makes it, and a module tb_top around its pins.  The core is the device's own, or that of
    ``core_preset``."""
    from hw.verilog import core_sha256, core_verilog
    from tellme.spec.config import preset

    config = preset(core_preset or board.DEVICES[device][0])
    core = core_verilog(config.name)
    platform = board.DEVICES[device][1]()
    type(platform).required_tools = []
    plan = platform.prepare(board.Top(config, core_sha256(core)), name="top", debug_verilog=True)
    text = plan.files["top.debug.v"]
    top = text if isinstance(text, str) else text.decode()
    # The data wires end in the testbench: see BB in ecp5.sv.
    top = re.sub(r"\binout\b", "input", top)
    top = re.sub(r"\bBB (\S+) \(\s*\.B\((\w+)\[(\d+)\]\)", r"BB #(.PIN(\3)) \1 (.B(\2[\3])", top)
    body = re.search(r"^module top\((.*?)\);(.*?)^endmodule", top, re.M | re.S)
    assert body is not None
    ports, wires, connections = [], [], []
    for direction, width, name in re.findall(r"^  (input|output) (\[\d+:0\] )?(\S+__io);", body[2], re.M):
        if name == "sdram_0__dq__io":
            continue
        connections.append(f".{name}({name})")
        if name.startswith("sdram_") and "clk__" not in name:
            wires.append(f"wire {width}{name};")
        else:
            ports.append(f"{direction} {name}")
    pins = ", ".join(("~" if pin in ACTIVE_LOW else "") + f"sdram_0__{OTHER_NAMES.get(pin, pin)}__io"
                     for pin in reversed(Chip.PINS) if pin != "oe")
    width = PIN_BITS + DATA_BITS
    tb = TB.format(ports=", ".join(ports), wires="\n    ".join(wires), connections=", ".join(connections), pins=pins,
                   width=width)
    return {"core.v": core.read_text(), "top.v": top, "ecp5.sv": (ROOT / "sim/chips/ecp5.sv").read_text(), "tb_top.sv": tb}


class SdramAtPins:
    """The checking chip at its pins.  Data comes ``access_ns`` after a clock edge and stays until 2.5 ns after the next edge,
    with noise between.  A broken rule, set-up and hold times included, fails the test with the rule's name."""

    HOLD_NS = 2.5

    def __init__(self, dut: Any, chip: Chip, *, access_ns: float = 5.4):
        self.dut, self.chip, self.access = dut, chip, access_ns
        self.clocks = 0
        #: While set, broken rules are counted and do not fail the test, because the core searches for the phase.
        self.tolerant = False
        self.broken = 0
        self._random = random.Random(1)

    async def run(self) -> None:
        """Forever; start it as a task."""
        import cocotb
        from cocotb.triggers import FallingEdge, RisingEdge, Timer
        from cocotb.utils import get_sim_time

        dut = self.dut
        clock = dut.sdram_0__clk__io
        dut.chip_drives.value = 0

        async def drive(delay_ps: int, data: int) -> None:
            await Timer(delay_ps, "ps")
            dut.chip_dq.value = data
            dut.chip_drives.value = 1

        data = None
        rises, falls, seen = RisingEdge(clock), FallingEdge(clock), dut.seen
        while True:
            await rises
            edge = get_sim_time("ps")
            if data is not None:
                cocotb.start_soon(drive(round(self.HOLD_NS * 1000), self._random.getrandbits(16)))
            await falls
            sampled = int(seen.value)
            near = sampled >> PIN_BITS + DATA_BITS
            if near:
                # The value that the chip took is unknown.
                sampled ^= self._random.getrandbits(PIN_BITS - 1)
                self.fail(f"an input changed {'ahead of' if near & 1 else 'behind'} the clock's edge at {edge / 1000:.1f} ns")
            self.chip.clock_pins(sampled & (1 << PIN_BITS) - 1, sampled >> PIN_BITS & 0xFFFF)
            self.clocks += 1
            if self.chip.violation():
                self.fail(self.chip.violation())
            drove, data = data is not None, self.chip.next()
            if data is None:
                if drove:
                    dut.chip_drives.value = 0
                continue
            # The data may come after the next edge: on a slow board the way takes longer than a clock.
            since = get_sim_time("ps") - edge
            cocotb.start_soon(drive(max(1, round(self.access * 1000 - since)), data))

    def fail(self, what: str) -> None:
        self.broken += 1
        self.chip.forgive()
        assert self.tolerant, what


class UartAtPins:
    """The host's end of a UART: 8 data bits, no parity, one stop bit."""

    def __init__(self, to_board: Any, from_board: Any, *, baud: int):
        self._out, self._in = to_board, from_board
        self._bit_ps = round(1e12 / baud)
        self._out.value = 1
        self.received: list[int] = []

    async def send(self, data: bytes) -> None:
        from cocotb.triggers import Timer

        for byte in data:
            for bit in (0, *(byte >> i & 1 for i in range(8)), 1):
                self._out.value = bit
                await Timer(self._bit_ps, "ps")

    async def listen(self) -> None:
        """Forever; start it as a task."""
        from cocotb.triggers import FallingEdge, Timer

        while True:
            await FallingEdge(self._in)
            await Timer(self._bit_ps * 3 // 2, "ps")
            byte = 0
            for i in range(8):
                byte |= int(self._in.value) << i
                await Timer(self._bit_ps, "ps")
            assert self._in.value, "a byte without a stop bit"
            self.received.append(byte)
