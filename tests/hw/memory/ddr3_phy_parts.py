# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A DDR3 PHY with its clocks and training around the models of the ECP5's primitives, and a chip at the pins."""

import re
from pathlib import Path
from types import SimpleNamespace

from amaranth.back import verilog
from amaranth.hdl import ClockDomain, ClockSignal, IOPort, Module, Mux, ResetSignal, Value
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.memory.ddr3.clocks import Ddr3Clocks, Ddr3Pll
from hw.memory.ddr3.dfi import Ddr3DfiSignature
from hw.memory.ddr3.phy import Ddr3Phy
from hw.memory.ddr3.training import Ddr3Training, OverrideLayout, TrainingLayout
from hw.memory.hub import Client
from tellme.spec.ddr3 import CHIPS
from tests.hw.memory.ddr3_parts import Ddr3Memory

__all__ = ["CHIP", "CHIP_PINS", "CK_MHZ", "CLIENTS", "START", "Rig", "pins", "sources"]

MODELS = Path(__file__).resolve().parents[3] / "sim" / "chips"
#: The chip, its clock, and a start that a simulation can wait for.
CHIP, CK_MHZ, START = CHIPS["MT41K256M16"], 150.0, {"reset_us": 2.0, "cke_us": 3.0}
#: Clients of the hub: as wide as the memory to read, half as wide to write, so that words are masked.
CLIENTS = [Client("host_read", "read", 1, data_bits=64), Client("host_write", "write", 0)]
#: Name -> (width, active low).
CHIP_PINS = {"clk": (1, False), "clk_en": (1, False), "rst": (1, True), "cs": (1, True), "ras": (1, True), "cas": (1, True),
             "we": (1, True), "ba": (3, False), "a": (16, False), "dqs": (2, False), "dq": (16, False), "dm": (2, False),
             "odt": (1, False)}


def pins(*, without=()):
    """Ports for the PHY, as a platform would give them."""
    return SimpleNamespace(**{name: io.SingleEndedPort(IOPort(width, name=f"ddr3_{name}"), invert=low,
                                                       direction="io" if name in ("dq", "dqs") else "o")
                              for name, (width, low) in CHIP_PINS.items() if name not in without})


class Rig(wiring.Component):
    """Clocks, PHY, training, controller and hub, with the ports of CLIENTS; while ``manual`` is high ``dfi`` is the test's.

    What the models have to catch: ``no_pause`` holds the training's PAUSE low, ``no_code`` keeps DDRDLLA's code from the PHY.
    """

    def __init__(self, pads):
        self.memory = Ddr3Memory(CLIENTS, timing=CHIP, mhz=CK_MHZ, **START)
        super().__init__({
            **{client.name: In(getattr(self.memory, client.name).signature.flip()) for client in CLIENTS},
            "reference": In(1), "sclk": Out(1), "ready": Out(1), "lost": Out(1), "done": Out(1), "reset": Out(1),
            "dfi": In(Ddr3DfiSignature()), "found": Out(TrainingLayout), "override": In(OverrideLayout), "again": In(1),
            "no_pause": In(1), "no_code": In(1), "manual": In(1),
        })
        self.pads = pads

    def elaborate(self, platform):
        m = Module()
        m.domains.init = ClockDomain(reset_less=True)
        for name in ("ddr", "sync", "io"):
            m.domains += ClockDomain(name, reset_less=name == "ddr")
        m.submodules.clocks = clocks = Ddr3Clocks(Ddr3Pll.between(100, CK_MHZ / 2))
        m.submodules.phy = phy = Ddr3Phy(self.pads)
        m.submodules.training = training = Ddr3Training()
        m.submodules.memory = memory = self.memory
        for client in CLIENTS:
            connect(m, flipped(getattr(self, client.name)), getattr(memory, client.name))
        control = training.phy
        connect(m, training.probes, memory.training)
        m.d.comb += [*(phy.control.lanes[n].eq(control.lanes[n]) for n in range(2)), phy.control.clear.eq(control.clear),
                     phy.control.pause.eq(control.pause & ~self.no_pause), control.burst.eq(phy.control.burst)]
        m.d.comb += [
            ClockSignal("init").eq(self.reference), self.sclk.eq(ClockSignal("sync")), self.reset.eq(ResetSignal("sync")),
            self.ready.eq(clocks.ready), self.lost.eq(clocks.lost), phy.start_pause.eq(clocks.pause),
            phy.ddrdel.eq(clocks.ddrdel & ~self.no_code),
            self.found.eq(training.found), training.override.eq(self.override), training.again.eq(self.again),
            self.done.eq(training.probes.done),
        ]
        ours, theirs, inputs = phy.dfi, memory.dfi, flipped(self.dfi)
        for name in ("reset", "cke", "odt"):
            m.d.comb += getattr(ours, name).eq(getattr(theirs, name))
        for name in ("rdata", "rvalid"):
            m.d.comb += [getattr(side, name).eq(getattr(ours, name)) for side in (theirs, inputs)]
        for name in ("wdata", "wmask", "wen", "ren"):
            m.d.comb += getattr(ours, name).eq(Mux(self.manual, getattr(inputs, name), getattr(theirs, name)))
        m.d.comb += [ours.slots[n].as_value().eq(Mux(self.manual, inputs.slots[n].as_value(), theirs.slots[n].as_value()))
                     for n in range(2)]
        return m


TB = """
`timescale 1ns / 1ps
module tb_top({ports},
    input [31:0] flight0, flight1, input [1:0] position0, position1, unlock, output [31:0] broken, output reg [511:0] last,
    output [4:0] steps, output locked, output reg tick,
    output reg [27:0] pins, output reg [31:0] beats, output reg [3:0] masks, output reg wrote
);
    reg [17:0] fpga_dq = 0, fpga_drives = 0;
    wire [15:0] q;
    wire [1:0] qs, drives;
    // A wire has the FPGA's level while it drives, else the chip's.
    wire [17:0] levels = (fpga_dq & fpga_drives) | ({{qs, q}} & ~fpga_drives);
    {wires}
    // For each clock, shortly ahead of the next one: the pins at its rising edge, and the beats that the strobes took in it.
    initial {{tick, pins, beats, masks, wrote}} = 0;
    always @(posedge ddr3_clk) begin
        pins = {{ddr3_rst, ddr3_clk_en, ddr3_odt, ddr3_cs, ddr3_ras, ddr3_cas, ddr3_we, ddr3_ba, ddr3_a}};
        #(0.9 * chip.period);
        {{beats, masks, wrote}} = {{chip.pair, chip.pair_masks, chip.pair_new}};
        chip.pair_new = 0;
        tick = ~tick;
    end
    // While a bit of unlock is high, a lock is lost: 0, the PLL's; 1, DDRDLLA's, which locks again while its clock runs.
    always @(unlock[0]) if ($realtime > 0) dut.clocks.pll.LOCK = !unlock[0];
    always @(unlock[1]) if ($realtime > 0) begin
        dut.clocks.dll.LOCK <= !unlock[1];
        if (unlock[1]) dut.clocks.dll.count = 0;
    end
    assign steps = {{dut.clocks.freeze, dut.clocks.stop, dut.clocks.reset, dut.clocks.pause, dut.clocks.update}};
    assign locked = dut.clocks.dll.LOCK;
    assign broken = ecp5_ddr3::broken;
    always @(ecp5_ddr3::broken) begin
        last = 0;
        for (int i = 0; i < ecp5_ddr3::last.len(); i++) last = last << 8 | ecp5_ddr3::last[i];
    end
    always @* begin
        ecp5_ddr3::position[0] = position0;
        ecp5_ddr3::position[1] = position1;
    end
    // 100 MHz, from the first moment on.
    reg reference = 0;
    always #5 reference = ~reference;
    dut dut({connections}, .reference(reference), .ddr3_dq(levels[15:0]), .ddr3_dqs(levels[17:16]));
    ddr3_pins chip(
        .ck(ddr3_clk), .rst_n(ddr3_rst), .cke(ddr3_clk_en), .cs_n(ddr3_cs), .ras_n(ddr3_ras), .cas_n(ddr3_cas), .we_n(ddr3_we),
        .ba(ddr3_ba), .a(ddr3_a), .dm(ddr3_dm), .dq(fpga_dq[15:0] & fpga_drives[15:0]), .dqs(fpga_dq[17:16] & fpga_drives[17:16]),
        .driven(fpga_drives), .flight0(flight0), .flight1(flight1), .q(q), .qs(qs), .drives(drives));
endmodule
"""


def sources(rig=None):
    """The rig's Verilog with what the testbench puts into its primitives, and a module tb_top around it."""
    rig = rig or Rig(pins())
    ports = [port for port in vars(rig.pads).values()]
    text = verilog.convert(rig, name="dut", ports=[*signals(rig), *(port.io for port in ports)], strip_internal_attrs=True)
    text = re.sub(r'^ *\(\* src = "[^"]*" \*\)\n', "", text, flags=re.M)
    # Data and strobes end in the testbench: see BB in ecp5.sv.
    text = re.sub(r"\binout\b", "input", text)

    def pad(match):
        bit = int(match[3]) + (16 if match[2].endswith("dqs") else 0)
        return f"BB #(.PIN({bit})) {match[1]} (.B({match[2]}[{match[3]}])"

    text, pads = re.subn(r"\bBB (\S+) \(\s*\.B\((\w+)\[(\d+)\]\)", pad, text)
    text, inputs = re.subn(r"\bIDDRX2DQA (dq_in_(\d)_\d) \(", r"IDDRX2DQA #(.LANE(\2)) \1 (", text)
    assert (pads, inputs) == (18, 16), (pads, inputs)
    body = re.search(r"^module dut\((.*?)\);(.*?)^endmodule", text, re.M | re.S)
    outer, wires, connections = [], [], []
    for direction, width, name in re.findall(r"^  (input|output) (\[\d+:0\] )?(\\?\S+)\s*;", body[2], re.M):
        if name in ("ddr3_dq", "ddr3_dqs", "reference"):
            continue
        connections.append(f".{name}({name})")
        if name.startswith("ddr3_"):
            wires.append(f"wire {width}{name};")
        else:
            outer.append(f"{direction} {width}{name}")
    top = TB.format(ports=", ".join(outer), wires="\n    ".join(wires), connections=", ".join(connections))
    return {"ecp5_ddr3.sv": (MODELS / "ecp5_ddr3.sv").read_text(), "ecp5.sv": (MODELS / "ecp5.sv").read_text(),
            "ddr3_pins.sv": (MODELS / "ddr3_pins.sv").read_text(), "dut.v": text, "tb_top.sv": top}


def signals(component):
    """The signals of a component's ports."""
    return [Value.cast(value) for _, _, value in component.signature.flatten(component)]
