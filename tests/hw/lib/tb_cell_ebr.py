# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The model of DP16KD against what Lattice documents, told anew in Python: widths, byte enables, write modes, resets, first
contents, and noise where nothing is promised."""

from dataclasses import dataclass
from random import Random

import cocotb
from cocotb.triggers import FallingEdge, Timer

from sim.cocotb_streams import report, reset, rng
from sim.netlist import cell_sources
from sim.testbench import Bench

MODES = ("NORMAL", "WRITETHROUGH", "READBEFOREWRITE")


@dataclass(frozen=True)
class Kind:
    """One instance's parameters."""

    width_a: int
    width_b: int
    mode_a: str = "NORMAL"
    mode_b: str = "NORMAL"
    reset: str = "SYNC"
    inverted: bool = False


KINDS = [Kind(36, 36), Kind(18, 18, "READBEFOREWRITE", "READBEFOREWRITE", "ASYNC"),
         Kind(9, 9, "READBEFOREWRITE", "READBEFOREWRITE"),
         *(Kind(18, 18, mode, mode, inverted=mode == "NORMAL") for mode in MODES), Kind(9, 18, "WRITETHROUGH", "NORMAL"),
         Kind(36, 18), Kind(36, 9), Kind(18, 36), Kind(1, 36), Kind(4, 4, "READBEFOREWRITE", "WRITETHROUGH"),
         Kind(2, 9, "READBEFOREWRITE", "NORMAL", "ASYNC"), Kind(1, 18, "WRITETHROUGH", "NORMAL"), Kind(4, 1)]
CONTENTS = [Random(n).getrandbits(18 * 1024) for n in range(len(KINDS))]


def initvals(contents):
    """Words of 18 bits, 20 bits apart, sixteen to a parameter."""
    words = [contents >> 18 * n & 0x3FFFF for n in range(1024)]
    return [sum(word << 20 * n for n, word in enumerate(words[16 * i:16 * i + 16])) for i in range(64)]


def sources():
    pins = [f".{pin}{n}({pin.lower()}[{n}])" for pin, bits in (("DIA", 18), ("DIB", 18), ("ADA", 14), ("ADB", 14))
            for n in range(bits)]
    pins += [f".{pin}{port}({pin.lower()}{port.lower()})" for port in "AB" for pin in ("CE", "RST")]
    lines = []
    for n, kind in enumerate(KINDS):
        clock = "!clk" if kind.inverted else "clk"
        parameters = [f".INITVAL_{i:02X}(320'h{value:x})" for i, value in enumerate(initvals(CONTENTS[n]))]
        for port, width, mode in (("A", kind.width_a, kind.mode_a), ("B", kind.width_b, kind.mode_b)):
            parameters += [f".DATA_WIDTH_{port}({width})", f'.WRITEMODE_{port}("{mode}")',
                           f'.CLK{port}MUX("{"INV" if kind.inverted else f"CLK{port}"}")']
        parameters += [f'.{name}("{kind.reset}")' for name in ("RESETMODE", "ASYNC_RESET_RELEASE")] + ['.GSR("DISABLED")']
        outs = [f".DO{port}{bit}(do{port.lower()}[{18 * n + bit}])" for port in "AB" for bit in range(18)]
        # A port of 36 bits does not write as port B, and keeps the other from it.
        web = "1'b0" if 36 in (kind.width_a, kind.width_b) else "web"
        constant = [f".CS{port}{i}(1'b0)" for port in "AB" for i in range(3)] + [".OCEA(1'b1)", ".OCEB(1'b1)"]
        lines.append(f"  DP16KD #({', '.join(parameters)}) ebr{n}({', '.join([*pins, *outs, *constant])}, .CLKA({clock}), "
                     f".CLKB({clock}), .WEA(wea), .WEB({web}));")
    top = 18 * len(KINDS) - 1
    text = (f"module tb_top(input clk, input [17:0] dia, dib, input [13:0] ada, adb, input cea, ceb, wea, web, rsta, rstb, "
            f"output [{top}:0] doa, dob);\n" + "\n".join(lines) + "\nendmodule\n")
    return {"dp16kd.sv": cell_sources()["dp16kd.sv"], "tb.sv": text}


BENCHES = [Bench(name="dp16kd", sources=sources, nightly="the netlists that have it are simulated by night")]


def places(width, at):
    """The bits of the memory that a port reaches, the lowest first, with whether the byte enables let them through.  A bit's
    place is nine times its byte's number, and its number there."""
    if width in (1, 2, 4):
        first = at & 7 & -width
        return [((at >> 3) * 9 + first + n, True) for n in range(width)]
    count = width // 9
    first = (at >> 3) // count * count
    return [((first + byte) * 9 + n, count == 1 or bool(at >> byte & 1)) for byte in range(count) for n in range(9)]


class Memory:
    """An instance in Python.  None: nobody knows."""

    def __init__(self, kind, contents):
        self.kind = kind
        self.bits = [contents >> n & 1 for n in range(18 * 1024)]
        self.out = {"a": [0] * kind.width_a, "b": [0] * kind.width_b}

    def cycle(self, data, at, ce, we, rst):
        kind = self.kind
        widths, modes = {"a": kind.width_a, "b": kind.width_b}, {"a": kind.mode_a, "b": kind.mode_b}
        # A port A of 36 bits has the upper half of its data at port B's pins.
        words = {"a": data["b"] << 18 | data["a"], "b": data["b"]}
        reached = {port: places(widths[port], at[port]) for port in "ab"}
        writes = {port: {place: words[port] >> n & 1 for n, (place, through) in enumerate(reached[port]) if through}
                  if ce[port] and we[port] else {} for port in "ab"}
        for port, other in ("ab", "ba"):
            if rst[port]:
                self.out[port] = [0] * widths[port]
            elif ce[port] and not (we[port] and modes[port] == "NORMAL"):
                through = we[port] and modes[port] == "WRITETHROUGH"
                self.out[port] = [None if place in writes[other] else writes[port].get(place) if through else self.bits[place]
                                  for place, _ in reached[port]]
        for port, other in ("ab", "ba"):
            for place, bit in writes[port].items():
                self.bits[place] = None if place in writes[other] else bit

    def clear(self, rst):
        """Asynchronous resets act at once."""
        for port in "ab":
            if rst[port] and self.kind.reset == "ASYNC":
                self.out[port] = [0] * len(self.out[port])

    def pins(self):
        """The bits at DOA and DOB; a port that reads nothing has an empty list."""
        if self.kind.width_b == 36:
            return self.out["b"][:18], self.out["b"][18:]
        return self.out["a"] if self.kind.width_a != 36 else [], self.out["b"]


async def drive(dut, memories, data, at, ce, we, rst):
    """A cycle of all instances.  Asynchronous resets act before the clock does."""
    for port in "ab":
        getattr(dut, f"di{port}").value, getattr(dut, f"ad{port}").value = data[port], at[port]
        getattr(dut, f"ce{port}").value, getattr(dut, f"we{port}").value = ce[port], we[port]
        getattr(dut, f"rst{port}").value = rst[port]
    await Timer(2, "ns")
    for memory in memories:
        memory.clear(rst)
    compare(dut, memories)
    await FallingEdge(dut.clk)
    for memory in memories:
        allowed = {"a": we["a"], "b": we["b"] and 36 not in (memory.kind.width_a, memory.kind.width_b)}
        memory.cycle(data, at, ce, allowed, rst)


def compare(dut, memories):
    """Every known bit of every output; returns how many there were, and of bits that nobody knows."""
    known = unknown = 0
    doa, dob = int(dut.doa.value), int(dut.dob.value)
    for n, memory in enumerate(memories):
        for name, pins, bits in zip(("DOA", "DOB"), (doa, dob), memory.pins(), strict=True):
            for bit, value in enumerate(bits):
                if value is None:
                    unknown += 1
                else:
                    assert pins >> 18 * n + bit & 1 == value, (memory.kind, name, bit)
                    known += 1
    return known, unknown


async def start(dut):
    for name in ("cea", "ceb", "wea", "web", "rsta", "rstb", "dia", "dib", "ada", "adb"):
        getattr(dut, name).value = 0
    await reset(dut)
    # Outputs are zero, whatever a test before has read.
    dut.rsta.value = dut.rstb.value = 1
    await FallingEdge(dut.clk)
    return [Memory(kind, contents) for kind, contents in zip(KINDS, CONTENTS, strict=True)]


@cocotb.test()
async def first_contents(dut):
    """The parameters INITVAL, read by both ports."""
    memories = await start(dut)
    known, off, on = 0, {"a": 0, "b": 0}, {"a": 1, "b": 1}
    for at in range(0, 1 << 14, 37):
        await drive(dut, memories, off, {"a": at, "b": at ^ 0x155}, on, off, off)
        known += compare(dut, memories)[0]
    report(cases=known)


@cocotb.test()
async def reads_writes_and_resets(dut):
    """All at random, in few rows, so that ports meet.  Bits that nobody knows are not compared."""
    memories = await start(dut)
    random = rng("ebr")
    known = unknown = 0
    for _ in range(1200):
        at = {port: random.choice((0, 0x1FE0)) | random.getrandbits(5) for port in "ab"}
        we = {port: int(random.random() < 0.4) for port in "ab"}
        # A write during a reset is an error of the model.
        rst = {port: int(not we[port] and random.random() < 0.1) for port in "ab"}
        await drive(dut, memories, {port: random.getrandbits(18) for port in "ab"}, at,
                    {port: int(random.random() < 0.8) for port in "ab"}, we, rst)
        counts = compare(dut, memories)
        known, unknown = known + counts[0], unknown + counts[1]
    assert known > 3 * unknown > 0
    report(cases=known)


@cocotb.test()
async def noise_where_ports_meet(dut):
    """A read of what the other port writes is neither what was there nor what is written."""
    memories = await start(dut)
    random = rng("noise")
    off, on, writes = {"a": 0, "b": 0}, {"a": 1, "b": 1}, {"a": 1, "b": 0}
    for _ in range(50):
        at = random.getrandbits(9) << 5
        data = {port: random.getrandbits(18) for port in "ab"}
        await drive(dut, memories, data, {"a": at | 0xF, "b": at}, on, writes, off)
        old = memories[0].bits[at // 32 * 36:at // 32 * 36 + 36]
        data = {port: random.getrandbits(18) for port in "ab"}
        await drive(dut, memories, data, {"a": at | 0xF, "b": at}, on, writes, off)
        got = (int(dut.dob.value) & 0x3FFFF) << 18 | int(dut.doa.value) & 0x3FFFF
        assert got != data["b"] << 18 | data["a"]
        assert got != sum(bit << n for n, bit in enumerate(old))
    report(cases=50)
