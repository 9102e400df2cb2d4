# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""HeadQuantise: codes and scale of each head against the specification; banks that fill while others wait."""

import cocotb
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from float_vectors import VECTORS, drive, specials

from hw.fused.head_quantise import HeadQuantise
from hw.fused.scales import AbsmaxScale
from hw.lib.stages import Stages
from sim.cocotb_streams import report, rng
from sim.testbench import Bench
from tellme.spec.formats import BINARY16 as F
from tellme.spec.quantise import quantise
from tellme.spec.scale import C127, Scale, from_float, recip127, scale_mul
from tests.hw.layouts import pack, payload_of

CODE = payload_of(HeadQuantise(max_head_dim=64), "o")


class WithScales(wiring.Component):
    """HeadQuantise and an AbsmaxScale, whose d comes ``late`` cycles behind s."""

    def __init__(self, late):
        self.late = late
        super().__init__({"head_dim": In(range(65)), "i": In(stream.Signature(F.width)), "o": Out(stream.Signature(CODE)),
                          "empty": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.heads = heads = HeadQuantise(max_head_dim=64)
        m.submodules.scales = scales = AbsmaxScale()
        wiring.connect(m, wiring.flipped(self.i), heads.i)
        wiring.connect(m, heads.o, wiring.flipped(self.o))
        stage = Stages(m)
        m.d.comb += [
            heads.head_dim.eq(self.head_dim), self.empty.eq(heads.empty), scales.start.eq(heads.scale_start),
            scales.absmax.eq(heads.absmax), scales.floor.eq(1), heads.scale_done.eq(scales.done), heads.s.eq(scales.s),
            heads.d_done.eq(stage.delay(scales.done, self.late, "done")),
            heads.d.eq(stage.delay(scales.d.as_value(), self.late, "d")),
        ]
        return m


BENCHES = [Bench(name="dim64", build=lambda: WithScales(0)),
           Bench(name="late-d", build=lambda: WithScales(HeadQuantise.D_LATE), tests=("one_a_cycle", "stalls_10"))]


def expected(head):
    """Payloads of a head's codes."""
    peak = from_float(max(1, *(v & 0x7FFF for v in head)))
    scale = scale_mul(peak, C127)
    return [pack(CODE, code=quantise(v, recip127(peak)), scale=scale, last=i == len(head) - 1) for i, v in enumerate(head)]


def tie(random, peak):
    """A value whose product with 127 / peak is halfway between two codes as nearly as binary16 holds it, or one beside."""
    s = recip127(from_float(peak))
    target = Scale(2 * random.randint(0, 126) + 1, -1).value() / s.value()
    value = F.encode(0, round(target * 2**40), -40)
    return min(peak, max(0, value + random.choice((-1, 0, 1)))) | random.getrandbits(1) << 15


def some_head(random, dim):
    """A third any finite bits, a third within 12 exponents of the peak, a third ties and their neighbours."""
    peak = random.randrange(1, F.inf)
    out = [peak]
    for i in range(1, dim):
        if i % 3 == 0:
            value = random.randrange(F.inf)
        elif i % 3 == 1:
            value = max(0, peak - random.randrange(12 << 10))
        else:
            value = tie(random, peak)
        out.append(value | random.getrandbits(1) << 15)
    random.shuffle(out)
    return out


async def run(dut, heads, **options):
    dut.head_dim.value = len(heads[0])
    got, cycles, first = await drive(dut, [v for head in heads for v in head], **options)
    assert got == [word for head in heads for word in expected(head)]
    return len(got), cycles, first


@cocotb.test()
async def special_values(dut):
    values = [v for v in specials(F) if F.is_finite(v)]
    heads = [[v, w, 0, 0x8000, v ^ 0x8000, 1, 0x8001, w] for v in values for w in values]
    cases, *_ = await run(dut, heads)
    report(cases=cases)


@cocotb.test()
async def one_a_cycle(dut):
    """Heads of 16 elements and more leave a code a cycle once the first head's scale is known."""
    random, cases = rng("values"), 0
    for dim in (16, 24, 32, 64):
        n, cycles, first = await run(dut, [some_head(random, dim) for _ in range(VECTORS // 4 // dim + 1)])
        assert cycles == n + first, (dim, cycles, n, first)
        assert first <= dim + 14, (dim, first)
        cases += n
    report(cases=cases)


@cocotb.test()
async def zeros(dut):
    """A head of zeros has the smallest subnormal's scale and codes of zero."""
    cases, *_ = await run(dut, [[0] * 16, [0x8000] * 16, some_head(rng("values"), 16)])
    report(cases=cases)


@cocotb.test()
async def stalls_10(dut):
    cases, *_ = await run(dut, [some_head(rng("values"), 32) for _ in range(40)], idle=0.1, stall=0.1)
    report(cases=cases)


@cocotb.test()
async def stalls_90(dut):
    cases, *_ = await run(dut, [some_head(rng("values"), 16) for _ in range(12)], idle=0.9, stall=0.9)
    report(cases=cases)
