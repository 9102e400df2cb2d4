# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The random function and the draw, exactly as the specification's."""

import os

import cocotb
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge
from cocotb.utils import get_sim_time

from hw.lib.control import DrawLayout
from hw.sampling.sampler import Sampler
from hw.sampling.threefry import Threefry
from sim.cocotb_streams import PERIOD_NS, report, report_point, reset, rng
from sim.testbench import Bench
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.sampling import (
    BOARD_SHIFTS,
    MAX_GAP,
    TOP_P_ONE,
    UNIT_TEMPERATURE,
    WEIGHT_BITS,
    DrawSettings,
    candidates,
    draw,
    exponent,
    inverse_temperature,
    max_gap,
    random32,
    shift_of,
)
from tests.hw.layouts import layouts_of, pack, unpack

DRAWS = ("greedy_and_flat", "random_draws", "the_smallest_numbers", "a_draw_follows_another", "any_settings_end")
BENCHES = [Bench(name="threefry", build=lambda: Threefry(), env={"UNIT": "threefry"}, tests=("numbers",)),
           Bench(name="draw", build=lambda: WithTop(), env={"UNIT": "draw"}, tests=DRAWS)]
POINTS = ("limit: all places of the best taken", "limit: the lowest and the highest temperature",
          "limit: a weight of 31 octaves below the best, and of 32")
ONE = 1 << 16


class WithTop(wiring.Component):
    """A sampler with the best 64 in a memory that the test writes."""

    def __init__(self):
        layouts = layouts_of()
        self.sampler = Sampler(layouts)
        super().__init__({
            "start": In(1), "position": In(16), "entries": In(range(TOP_ENTRIES + 1)), "settings": In(DrawLayout),
            "busy": Out(1), "pick": Out(layouts.best),
            "write": In(1), "at": In(range(TOP_ENTRIES)), "entry": In(layouts.top_entry)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.sampler = sampler = self.sampler
        m.submodules.top = top = memory.Memory(shape=sampler.top_data.shape(), depth=TOP_ENTRIES, init=[])
        write, read = top.write_port(), top.read_port()
        m.d.comb += [
            write.en.eq(self.write), write.addr.eq(self.at), write.data.eq(self.entry),
            read.addr.eq(sampler.top_addr), sampler.top_data.eq(read.data),
            sampler.entries.eq(self.entries), sampler.settings.eq(self.settings),
            sampler.control.start.eq(self.start), sampler.control.position.eq(self.position),
            self.busy.eq(sampler.control.busy), self.pick.eq(sampler.control.pick)]
        return m


def since(began: float) -> int:
    """Cycles since a time in nanoseconds."""
    return round((get_sim_time("ns") - began) / PERIOD_NS)


@cocotb.test(skip=os.environ.get("UNIT") != "threefry")
async def numbers(dut):
    """Numbers of drawn seeds and positions; the cycles; starts while it works count not."""
    random = rng("numbers")
    dut.start.value = 0
    await reset(dut)
    assert dut.done.value == 1
    for case in range(200):
        seed = random.choice([0, (1 << 64) - 1, random.getrandbits(64)])
        position = random.choice([0, 0xFFFF, random.getrandbits(16)])
        dut.start.value, dut.seed.value, dut.position.value = 1, seed, position
        await FallingEdge(dut.clk)
        began = get_sim_time("ns")
        dut.start.value = case & 1
        dut.seed.value, dut.position.value = random.getrandbits(64), random.getrandbits(16)
        await FallingEdge(dut.clk)
        dut.start.value = 0
        while dut.done.value == 0:
            await FallingEdge(dut.clk)
        assert int(dut.value.value) == random32(seed, position), (seed, position)
        assert since(began) == Threefry.LATENCY
    report(cases=200)


def cycles(top, settings, position):
    """Cycles of a draw, from its start until ``busy`` falls."""
    best, spent, at = top[0][1], 2, 0

    def weights(kept, inverse, gaps):
        """Of a pass over the weights, and how many it made."""
        total, made = 0, 0
        for _, logit in kept:
            total += 3 if made or at else 2
            if best - logit > gaps:
                break
            x = exponent(best - logit, inverse)
            total += shift_of(inverse.exp) + 1
            if x >> 9 >= WEIGHT_BITS:
                break
            total += 1 + (x >> 9) + 2 + 2
            made += 1
        return total
    kept = top[:settings.top_k]
    if settings.top_p < TOP_P_ONE:
        spent += weights(kept, UNIT_TEMPERATURE, MAX_GAP) + 1 + 17
        kept = candidates(kept, DrawSettings(top_p=settings.top_p))
        spent += 4 * len(kept) + 1
        at = 1
    spent += weights(kept, settings.inverse, settings.max_gap)
    spent = max(spent, Threefry.LATENCY) + 1 + WEIGHT_BITS + 1
    return spent + 4 * (top.index(next(e for e in top if e[0] == draw(top, settings, position))) + 1) + 1


class Board:
    """Drives the unit."""

    def __init__(self, dut):
        self.dut, self.entry, self.best = dut, layouts_of().top_entry, layouts_of().best

    async def begin(self):
        self.dut.start.value = self.dut.write.value = 0
        await reset(self.dut)

    async def draw(self, top, settings, position):
        dut = self.dut
        for at, (token, logit) in enumerate(top):
            dut.write.value, dut.at.value = 1, at
            dut.entry.value = pack(self.entry, logit=logit & 0xFFFFFFFF, id=token)
            await FallingEdge(dut.clk)
        dut.write.value = 0
        dut.settings.value = pack(DrawLayout, inverse=settings.inverse, top_k=settings.top_k, top_p=settings.top_p,
                                  max_gap=settings.max_gap, seed=settings.seed)
        dut.position.value, dut.entries.value, dut.start.value = position, len(top), 1
        await FallingEdge(dut.clk)
        began = get_sim_time("ns")
        dut.start.value = 0
        assert dut.busy.value == 1
        await FallingEdge(dut.busy)
        await FallingEdge(dut.clk)
        spent = since(began)
        got, wanted = unpack(self.best, int(dut.pick.value)), draw(top, settings, position)
        assert (got["id"], got["logit"]) == (wanted, dict(top)[wanted]), (top, settings, position, got, wanted)
        expected = cycles(top, settings, position)
        assert spent == expected, (top, settings, position, spent, expected)


def drawn(random):
    """Candidates, settings and a position."""
    n = random.choice([1, 2, 3, 64, 64, random.randint(1, 64)])
    spread = random.choice([0, 3, ONE // 4, ONE, 8 * ONE, 1 << 28])
    logit = random.randint(-(1 << 31) + 64 * min(spread, 1 << 24), (1 << 31) - 1)
    top = []
    for token in random.sample(range(1 << 18), n):
        top.append((token, logit))
        logit = max(-(1 << 31), logit - random.randint(0, spread))
    top.sort(key=lambda e: (-e[1], e[0]))
    return top, DrawSettings(
        inverse=inverse_temperature(random.choice([0.0115, 0.3, 0.7, 1.0, 1.5, 40.0, 1e5])),
        top_k=random.choice([1, 2, 40, 64]), top_p=random.choice([0, 1, TOP_P_ONE - 1, TOP_P_ONE, random.randint(0, TOP_P_ONE)]),
        max_gap=random.choice([MAX_GAP, max_gap(0.05), max_gap(0.5), 0]), seed=random.getrandbits(64)), random.getrandbits(16)


@cocotb.test(skip=os.environ.get("UNIT") != "draw")
async def random_draws(dut):
    """Drawn candidates and settings: the token and the cycles."""
    random, board = rng("draws"), Board(dut)
    await board.begin()
    for _ in range(400):
        await board.draw(*drawn(random))
    report(cases=400)


@cocotb.test(skip=os.environ.get("UNIT") != "draw")
async def greedy_and_flat(dut):
    """Temperatures at both ends of the unit's range, and equal logits."""
    board = Board(dut)
    await board.begin()
    low, high = inverse_temperature(0.0113), inverse_temperature(1e6)
    assert shift_of(low.exp) == BOARD_SHIFTS.least
    top = [(i, -i) for i in range(64)]
    for inverse in (low, high, UNIT_TEMPERATURE):
        for position in range(8):
            await board.draw(top, DrawSettings(inverse, seed=position), position)
            await board.draw([(i, 0) for i in range(64)], DrawSettings(inverse, seed=position), position)
    assert len(top) == TOP_ENTRIES
    report_point("limit: all places of the best taken")
    report_point("limit: the lowest and the highest temperature")
    report(cases=48)


@cocotb.test(skip=os.environ.get("UNIT") != "draw")
async def the_smallest_numbers(dut):
    """Weights at the edge of none, sums at the edge of the bound."""
    board = Board(dut)
    await board.begin()
    # 31 and 32 octaves below the best.
    edges = [round(octaves * ONE * 0.6931471805599453) for octaves in (30.99, 31.0, 31.002, 31.99, 32.0, 33.0)]
    for edge in edges:
        for position in range(4):
            await board.draw([(5, 0), (4, -edge), (3, -edge - 1)], DrawSettings(UNIT_TEMPERATURE), position)
            await board.draw([(5, 0), (4, -edge)], DrawSettings(UNIT_TEMPERATURE, max_gap=edge - position % 2), position)
    for top_p in (1, 32767, 32768, 32769, 65535):
        # Two halves: the share is met exactly.
        await board.draw([(1, 7), (2, 7)], DrawSettings(UNIT_TEMPERATURE, top_p=top_p), 9)
    report_point("limit: a weight of 31 octaves below the best, and of 32")
    report(cases=53)


@cocotb.test(skip=os.environ.get("UNIT") != "draw")
async def a_draw_follows_another(dut):
    """A draw leaves nothing behind: the same draw between others."""
    random, board = rng("again"), Board(dut)
    await board.begin()
    case = drawn(random)
    for _ in range(5):
        await board.draw(*case)
        await board.draw(*drawn(random))
    report(cases=10)


@cocotb.test(skip=os.environ.get("UNIT") != "draw")
async def any_settings_end(dut):
    """Settings that no host should send, zeros among them: a draw ends with one of the candidates, and the next draw is right."""
    random, board = rng("any"), Board(dut)
    await board.begin()
    for case in range(40):
        top, settings, position = drawn(random)
        await board.draw(top, settings, position)
        bits = 0 if case == 0 else random.getrandbits(DrawLayout.size)
        values = unpack(DrawLayout, bits)
        if case % 2:
            values["top_k"] = 0
        dut.settings.value = pack(DrawLayout, values)
        dut.start.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        for _ in range(20_000):
            if not dut.busy.value:
                break
            await FallingEdge(dut.clk)
        assert dut.busy.value == 0, values
        assert unpack(board.best, int(dut.pick.value))["id"] in dict(top), values
    report(cases=40)
