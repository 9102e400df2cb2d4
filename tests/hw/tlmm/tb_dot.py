# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Every kind of dot with its builder against plain integer sums."""

import os

import cocotb
from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge

from hw.tlmm.study.kinds import BEST_TABLE, KINDS
from hw.tlmm.tree import stages
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS
from tests.hw.layouts import pack, unpack

COLS = 100


class DotBench(wiring.Component):
    """A dot and its builder; the build of the next buffer runs while steps use the other one."""

    def __init__(self, kind: str, tokens: int):
        self.kind, self.tokens = KINDS[kind], tokens
        self.rom_bits = max(max(self.kind.rom()).bit_length(), 1)
        super().__init__({
            "start": In(1), "first_col": In(7), "cols": In(7), "build_buffer": In(1), "done": Out(1),
            "code_addr": Out(7), "code": In(8 * len(self.kind.columns(0)) * tokens),
            "select": In(self.kind.units * self.rom_bits), "buffer": In(1),
            "total": Out(data.ArrayLayout(signed(14), tokens)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.dot = dot = self.kind.dot(tokens=self.tokens)
        m.submodules.builder = builder = self.kind.builder(cols=COLS + SLICE, tokens=self.tokens)
        raw = Signal(dot.select.shape())
        for b in range(self.kind.units):
            m.d.comb += raw[b].eq(self.select.word_select(b, self.rom_bits))
        m.d.comb += [
            builder.start.eq(self.start), builder.first_col.eq(self.first_col), builder.cols.eq(self.cols),
            builder.buffer.eq(self.build_buffer), self.code_addr.eq(builder.code_addr), Value.cast(builder.code).eq(self.code),
            self.done.eq(builder.done), dot.build.eq(builder.build), dot.select.eq(raw), dot.buffer.eq(self.buffer),
            self.total.eq(dot.total),
        ]
        return m


BENCHES = [Bench(name=f"{kind}-x{tokens}", build=lambda kind=kind, tokens=tokens: DotBench(kind, tokens),
                 env={"KIND": kind, "TOKENS": str(tokens)},
                 nightly="a lane that was only compared (hw/tlmm/study): no core has it" if kind != BEST_TABLE else
                         "x3 has the same tests, of three tokens" if tokens == 1 else "")
           for kind in KINDS for tokens in ((1, 3) if KINDS[kind].shared else (1,))]
KIND, TOKENS = KINDS[os.environ.get("KIND", "g2")], int(os.environ.get("TOKENS", "1"))
#: (units, trits of a unit) of the kinds that do not take bytes of five trits.
UNITS = {"g3": (7, 3), "g3-full": (7, 3)}
ROM = KIND.rom()
ROM_BITS = max(max(ROM).bit_length(), 1)


def selection(values):
    return pack(data.ArrayLayout(ROM_BITS, len(values)), [ROM[byte] for byte in values])


def weights(values):
    """The 20 weights that one code per unit stands for; a code that stands for no weights gives zeros."""
    return [code // 3**i % 3 - 1 if code < 3**KIND.trits else 0 for code in values for i in range(KIND.trits)][:SLICE]


def totals(value):
    return unpack(data.ArrayLayout(signed(14), TOKENS), value)


class Driver:
    """Codes as a memory that answers a cycle late, builds, and steps whose totals are checked LATENCY cycles later."""

    def __init__(self, dut, random):
        self.dut, self.random = dut, random
        self.codes = [[0] * 128 for _ in range(TOKENS)]
        self.expected: list[list[int] | None] = [None] * (KIND.dot.LATENCY - 1)
        self.cases = 0

    async def cycle(self, step=None):
        """A clock with the totals ``step`` expected of its select, or none."""
        dut = self.dut
        self.expected.append(step)
        addr = int(dut.code_addr.value)
        await FallingEdge(dut.clk)
        columns = KIND.columns(addr)
        codes = [x[c] if c < len(x) else 0 for x in self.codes for c in columns]
        dut.code.value = pack(data.ArrayLayout(signed(8), len(codes)), codes)
        dut.start.value = 0
        due = self.expected.pop(0)
        if due is not None:
            got = totals(int(dut.total.value))
            assert got == due, (got, due)
            self.cases += 1

    async def build(self, first_col, cols, buffer, steps=()):
        """Start a build and take ``steps`` (bytes, totals) or idle cycles meanwhile; its length is checked."""
        dut = self.dut
        dut.start.value, dut.first_col.value, dut.cols.value, dut.build_buffer.value = 1, first_col, cols, buffer
        steps = iter(steps)
        for _ in range(KIND.builder.CYCLES):
            await self.step(next(steps, None))
            dut.start.value = 0
        assert dut.done.value, "the build takes longer than it says"
        for left in steps:
            await self.step(left)
        await self.cycle()

    async def step(self, step):
        if step is None:
            self.dut.select.value = self.random.getrandbits(KIND.units * ROM_BITS)
            await self.cycle()
        else:
            self.dut.select.value = selection(step[0])
            await self.cycle(step[1])

    def slice(self, first_col, cols):
        return [[x[c] if c < cols else 0 for c in range(first_col, first_col + SLICE)] for x in self.codes]


def step_of(values, x):
    w = weights(values)
    return values, [sum(a * b for a, b in zip(w, column, strict=True)) for column in x]


async def slices_in_turn(dut, pick, idle):
    """Slice after slice: the next buffer is built during the steps that use the buffer before, without a pause between slices."""
    assert (KIND.units, KIND.trits) == UNITS.get(os.environ["KIND"], (SLICE_BYTES, TRITS)), "weights are packed otherwise"
    await reset(dut)
    dut.start.value = 0
    random = rng("dot")
    driver = Driver(dut, random)
    for x in driver.codes:
        x[:] = [pick(random) for _ in x]
    places = [(random.randrange(0, COLS, SLICE), random.randint(1, 100)) for _ in range(10)]
    places[3], places[5] = (80, 81), (20, 40)
    dut.buffer.value = 0
    await driver.build(*places[0], 0)
    for n, place in enumerate(places):
        buffer = n % 2
        dut.buffer.value = buffer
        x = driver.slice(*place)
        # Every code in every unit.
        orders = [random.sample(range(len(ROM)), len(ROM)) for _ in range(KIND.units)]
        steps = [step_of([order[i % len(ROM)] for order in orders], x) for i in range(256)]
        steps += [step_of([code] * KIND.units, x) for code in (0, 3**KIND.trits // 2, 3**KIND.trits - 1)]
        if idle:
            steps = [s for step in steps for s in (None, step)[random.random() > idle:]]
        following = places[(n + 1) % len(places)]
        await driver.build(*following, 1 - buffer, steps)
    report(cases=driver.cases)


@cocotb.test()
async def registers_of_a_sum(dut):
    """As many as a tree of adders has levels; one more, for the +1 that is left over, where every adder of the tree has two
    operands: for 2**n terms."""
    for terms in range(2, 41):
        levels = (terms - 1).bit_length()
        assert stages(terms) == levels + (terms == 1 << levels), terms


@cocotb.test()
async def random_codes(dut):
    await slices_in_turn(dut, lambda random: random.randint(-128, 127), 0)


@cocotb.test()
async def extreme_codes(dut):
    await slices_in_turn(dut, lambda random: random.choice((-128, 127)), 0)


@cocotb.test()
async def lowest_codes(dut):
    """All codes -128: the sums that are largest after negation."""
    await slices_in_turn(dut, lambda random: -128, 0)


@cocotb.test()
async def idle_steps(dut):
    await slices_in_turn(dut, lambda random: random.randint(-128, 127), 0.4)
