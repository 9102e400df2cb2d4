# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The model of MULT18X18D against Python's products: signs, and registers with their clocks, enables and resets."""

import cocotb
from cocotb.triggers import FallingEdge, Timer

from sim.cocotb_streams import report, reset, rng
from sim.netlist import cell_sources
from sim.testbench import Bench

#: Registers (of A, of B, of the product, of P) of each instance, as numbers of clocks, enables and resets; None: no register.
KINDS = [(None, None, None, None), (0, 0, 0, 0), (0, None, None, None), (None, 1, None, None), (None, None, 2, None),
         (None, None, None, 3), (0, 1, 2, 3), (3, 2, None, 1)]
#: The last instances have asynchronous resets.
ASYNC = len(KINDS) - 2
STAGES = ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")


def sources():
    lines = []
    for n, kind in enumerate(KINDS):
        parameters = [f'.RESETMODE("{"ASYNC" if n >= ASYNC else "SYNC"}")']
        for stage, number in zip(STAGES, kind, strict=True):
            if number is not None:
                parameters += [f'.REG_{stage}_{what}("{what}{number}")' for what in ("CLK", "CE", "RST")]
        pins = [f".{pin}{bit}({pin.lower()}[{bit}])" for pin in "AB" for bit in range(18)]
        pins += [f".C{bit}(1'b0)" for bit in range(18)] + [f".P{bit}(p[{36 * n + bit}])" for bit in range(36)]
        pins += [f".CLK{i}(clk), .CE{i}(ce[{i}]), .RST{i}(clear[{i}])" for i in range(4)]
        pins += [".SIGNEDA(signs[0])", ".SIGNEDB(signs[1])", ".SOURCEA(1'b0)", ".SOURCEB(1'b0)"]
        lines.append(f"  MULT18X18D #({', '.join(parameters)}) multiplier{n}({', '.join(pins)});")
    text = (f"module tb_top(input clk, input [17:0] a, b, input [1:0] signs, input [3:0] ce, clear, "
            f"output [{36 * len(KINDS) - 1}:0] p);\n" + "\n".join(lines) + "\nendmodule\n")
    return {"mult18x18d.sv": cell_sources()["mult18x18d.sv"], "tb.sv": text}


BENCHES = [Bench(name="mult18x18d", sources=sources, nightly="the netlists that have it are simulated by night")]
EXTREMES = (0, 1, 0x1FFFF, 0x20000, 0x20001, 0x3FFFF)


class Multiplier:
    """An instance in Python: its registers hold operands with their signs, and products."""

    def __init__(self, kind, *, asynchronous):
        self.kind, self.asynchronous = kind, asynchronous
        self.held = [0, 0, 0, 0]

    def values(self, a, b):
        """What stands behind each of the four stages."""
        stages = [a, b]
        for n in range(4):
            if n == 2:
                stages.append(stages[0] * stages[1])
            elif n == 3:
                stages.append(stages[2])
            if self.kind[n] is not None:
                stages[n] = self.held[n]
        return stages

    def cycle(self, a, b, ce, clear):
        before = self.values(a, b)
        inputs = [a, b, before[0] * before[1], before[2]]
        for n, number in enumerate(self.kind):
            if number is not None:
                self.held[n] = 0 if clear >> number & 1 else inputs[n] if ce >> number & 1 else self.held[n]

    def clear(self, clear):
        """Asynchronous resets act at once."""
        for n, number in enumerate(self.kind):
            if self.asynchronous and number is not None and clear >> number & 1:
                self.held[n] = 0


async def step(dut, multipliers, a, b, signs, ce, clear):
    dut.a.value, dut.b.value, dut.signs.value, dut.ce.value, dut.clear.value = a, b, signs, ce, clear
    operands = [word - (1 << 18) if signs >> n & 1 and word >> 17 else word for n, word in enumerate((a, b))]
    for edge in (False, True):
        await (FallingEdge(dut.clk) if edge else Timer(2, "ns"))
        p = int(dut.p.value)
        for n, multiplier in enumerate(multipliers):
            multiplier.clear(clear)
            if edge:
                multiplier.cycle(*operands, ce, clear)
            want = multiplier.values(*operands)[3] % (1 << 36)
            assert p >> 36 * n & (1 << 36) - 1 == want, (multiplier.kind, edge, a, b, signs, ce, clear)


async def start(dut):
    dut.a.value = dut.b.value = dut.signs.value = dut.clear.value = dut.ce.value = 0
    await reset(dut)
    # Registers are zero, whatever a test before has left in them.
    dut.clear.value = 15
    await FallingEdge(dut.clk)
    return [Multiplier(kind, asynchronous=n >= ASYNC) for n, kind in enumerate(KINDS)]


@cocotb.test()
async def products_and_signs(dut):
    """All pairs of extremes with all signs, and words at random."""
    multipliers = await start(dut)
    random = rng("products")
    cases = [(a, b, signs) for a in EXTREMES for b in EXTREMES for signs in range(4)]
    cases += [(random.getrandbits(18), random.getrandbits(18), random.getrandbits(2)) for _ in range(1000)]
    for a, b, signs in cases:
        await step(dut, multipliers, a, b, signs, 15, 0)
    report(cases=len(cases) * len(KINDS))


@cocotb.test()
async def enables_and_resets(dut):
    multipliers = await start(dut)
    random = rng("registers")
    for _ in range(1500):
        clear = random.getrandbits(4) if random.random() < 0.1 else 0
        await step(dut, multipliers, random.getrandbits(18), random.getrandbits(18), random.getrandbits(2), random.getrandbits(4),
                   clear)
    report(cases=1500 * len(KINDS))
