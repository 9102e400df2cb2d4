# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Scale arithmetic: products on the stream, 127 / absmax and absmax / 127, 1 / rms, against exact rationals."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb.utils import get_sim_time
from float_vectors import VECTORS, check

from hw.fused.scales import SCALE_INTERVAL, AbsmaxScale, InverseRms, ScaleAcc
from sim.cocotb_streams import report, reset, rng
from sim.testbench import Bench
from tellme.spec.formats import BINARY16 as F
from tellme.spec.scale import SUMSQ_BITS, Scale, absmax_floor, inv_rms, quantise_scales, scale_mul
from tests.hw.layouts import accumulator, layouts_of, pack, payload_of

UNITS = {"scale_acc": ScaleAcc, "absmax": AbsmaxScale, "inverse_rms": InverseRms}
TESTS = {"scale_acc": ("product_specials", "products", "product_stalls_10", "product_stalls_90"),
         "absmax": ("every_absmax", "floors", "holds_until_the_next", "absmax_one_every_interval"),
         "inverse_rms": ("ends_of_the_range", "random_sums", "sum_ties", "rms_one_every_interval")}
#: Of a core of many tokens, long vectors and a long context.
LAYOUTS = layouts_of(chunk=16, max_cols=4096, max_context=4096)
BENCHES = [Bench(name=name, build=lambda unit=unit: unit(LAYOUTS) if unit is ScaleAcc else unit(), tests=TESTS[name])
           for name, unit in UNITS.items()]
PRODUCT = payload_of(ScaleAcc(LAYOUTS), "i")


# ---------------------------------------------------------------------- products

def packed(acc, scale, token, index, d, use):
    return pack(PRODUCT, acc={"acc": acc, "scale": scale, "place": {"token": token, "index": index}}, d=d, use_d=use)


def expected(acc, scale, token, index, d, use):
    return accumulator(LAYOUTS, acc, scale_mul(scale, d) if use else scale, token, index)


def some_scale(random):
    return Scale(random.randint(1024, 2047), random.randint(-128, 127))


def product_cases(random, n):
    out = []
    for i in range(n):
        a, d = some_scale(random), some_scale(random)
        if i % 3 == 1:
            d = Scale(d.sig, max(-128, min(127, -a.exp - 10 + random.randint(-12, 12))))
        elif i % 3 == 2:
            # 3 * 512 * sig ends in exactly half a unit for odd sig below 1366, and for sig = 2 mod 4 above.
            sig = random.randrange(1025, 1366, 2) if random.getrandbits(1) else random.randrange(1366, 2047, 4)
            a = Scale(min(2047, sig + random.choice((-1, 0, 1))), random.randint(-60, 60))
            d = Scale(1536, random.randint(-60, 60))
        out.append((random.getrandbits(36) - (1 << 35), a, random.getrandbits(4), random.getrandbits(13), d, int(i % 7 != 0)))
    return out


@cocotb.test()
async def product_specials(dut):
    sizes = [Scale(0, 0)] + [Scale(s, e) for s in (1024, 1025, 1448, 1449, 2046, 2047) for e in (-128, -64, -1, 0, 58, 127)]
    await check(dut, [(1, a, 0, 0, d, 1) for a in sizes for d in sizes], packed, expected)


@cocotb.test()
async def products(dut):
    cases = product_cases(rng("vectors"), VECTORS)
    cycles, latency = await check(dut, cases, packed, expected)
    assert latency == ScaleAcc.LATENCY
    assert cycles == len(cases) + latency, "initiation interval is not 1"


@cocotb.test()
async def product_stalls_10(dut):
    await check(dut, product_cases(rng("vectors"), 1000), packed, expected, idle=0.1, stall=0.1)


@cocotb.test()
async def product_stalls_90(dut):
    await check(dut, product_cases(rng("vectors"), 200), packed, expected, idle=0.9, stall=0.9)


# ---------------------------------------------------------------------- absmax

async def start(dut, latest, **inputs):
    """A pulse of start; waits for done, which must come within ``latest`` cycles."""
    for name, value in inputs.items():
        getattr(dut, name).value = value
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    for _ in range(latest):
        if dut.done.value:
            return
        await FallingEdge(dut.clk)
    raise AssertionError(f"no result after {latest} cycles: {inputs}")


@cocotb.test()
async def every_absmax(dut):
    """All finite magnitudes of binary16."""
    dut.start.value = 0
    await reset(dut)
    for value in range(F.inf):
        await start(dut, AbsmaxScale.LATENCY, absmax=value, floor=1)
        # Without norm, d is absmax / 127 alone; its floor does not matter above it.
        s, _ = quantise_scales(value, norm=True, n_eps=1)
        assert int(dut.s.value) == s.pack(), hex(value)
        if value >= absmax_floor(False):
            assert int(dut.d.value) == quantise_scales(value, norm=False)[1].pack(), hex(value)
    report(cases=F.inf)


@cocotb.test()
async def floors(dut):
    dut.start.value = 0
    await reset(dut)
    floor = absmax_floor(False)
    for value in (0, 1, floor - 1, floor, floor + 1, F.inf - 1):
        await start(dut, AbsmaxScale.LATENCY, absmax=value, floor=floor)
        s, d = quantise_scales(value, norm=False)
        assert (int(dut.s.value), int(dut.d.value)) == (s.pack(), d.pack()), hex(value)
    report(cases=6)


@cocotb.test()
async def holds_until_the_next(dut):
    """Exactly LATENCY cycles; the result stays while the inputs change."""
    dut.start.value = 0
    await reset(dut)
    random = rng("values")
    for _ in range(1000):
        value = random.randrange(absmax_floor(False), F.inf)
        dut.absmax.value, dut.floor.value, dut.start.value = value, 1, 1
        for cycle in range(AbsmaxScale.LATENCY):
            await FallingEdge(dut.clk)
            dut.start.value = 0
            dut.absmax.value = random.randrange(F.inf)
            assert bool(dut.done.value) == (cycle == AbsmaxScale.LATENCY - 1)
        s, d = quantise_scales(value, norm=False)
        for _ in range(random.randint(0, 3)):
            await FallingEdge(dut.clk)
        assert (int(dut.s.value), int(dut.d.value)) == (s.pack(), d.pack()), hex(value)
        await FallingEdge(dut.clk)
    report(cases=1000)


async def row(dut, latency, starts, outputs):
    """``starts`` one every SCALE_INTERVAL cycles; (each of ``outputs`` at done, and in the last cycle before the next)."""
    dut.start.value = 0
    await reset(dut)
    got, cycle = [], 0
    while len(got) < len(starts):
        number, phase = divmod(cycle, SCALE_INTERVAL)
        if phase == 0 and number < len(starts):
            for name, value in starts[number].items():
                getattr(dut, name).value = value
        dut.start.value = int(phase == 0 and number < len(starts))
        await FallingEdge(dut.clk)
        cycle += 1
        number, phase = divmod(cycle - latency, SCALE_INTERVAL)
        assert bool(dut.done.value) == (phase == 0 and number >= 0)
        if number >= 0 and phase == 0:
            first = [int(getattr(dut, name).value) for name in outputs]
        elif number >= 0 and phase == SCALE_INTERVAL - 1:
            got.append((*first, *(int(getattr(dut, name).value) for name in outputs)))
    return got


@cocotb.test()
async def absmax_one_every_interval(dut):
    """d of each start holds for the interval; s is there with done."""
    random = rng("values")
    values = [random.randrange(absmax_floor(False), F.inf) for _ in range(1000)]
    got = await row(dut, AbsmaxScale.LATENCY, [{"absmax": v, "floor": 1} for v in values], ("s", "d"))
    for value, (s, d, _, d_later) in zip(values, got, strict=True):
        expected_s, expected_d = (scale.pack() for scale in quantise_scales(value, norm=False))
        assert (s, d, d_later) == (expected_s, expected_d, expected_d), hex(value)
    report(cases=len(values))


# ---------------------------------------------------------------------- 1 / rms

async def inverse(dut, cases):
    dut.start.value = 0
    await reset(dut)
    slowest = 0
    for sumsq, n_eps, sqrt_n in cases:
        dut.sumsq.value, dut.n_eps.value, dut.sqrt_n.value, dut.start.value = sumsq, n_eps, sqrt_n.pack(), 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        began = get_sim_time("ns")
        await RisingEdge(dut.done)
        slowest = max(slowest, (get_sim_time("ns") - began) / 10)
        await FallingEdge(dut.clk)
        assert int(dut.y.value) == inv_rms(sumsq, n_eps, sqrt_n).pack(), (sumsq, n_eps, sqrt_n)
        await FallingEdge(dut.clk)
    assert slowest <= InverseRms.LATENCY, slowest
    report(cases=len(cases))


def some_sum(random):
    return random.getrandbits(random.randint(1, SUMSQ_BITS - 1))


def some_root(random):
    return Scale(random.randint(1024, 2047), random.randint(-12, 2))


@cocotb.test()
async def ends_of_the_range(dut):
    roots = [Scale(1024, -10), Scale(1448, -7), Scale(2047, 2)]
    sums = [0, 1, 2, 3, 2047, 2048, 4095, 4096, (1 << SUMSQ_BITS - 1) - 1, (1 << SUMSQ_BITS) - (1 << 32)]
    await inverse(dut, [(s, e, r) for s in sums for e in (1, 2, 0xFFFF_FFFF) for r in roots])


@cocotb.test()
async def random_sums(dut):
    random = rng("values")
    cases = []
    for i in range(VECTORS * 2 // 3):
        if i % 2:
            n = random.randint(16, 8191)
            cases.append((random.randrange(n << 36), round(n * 1e-5 * 2**32) or 1, some_root(random)))
        else:
            cases.append((some_sum(random), random.randint(1, (1 << 32) - 1), some_root(random)))
    await inverse(dut, cases)


@cocotb.test()
async def rms_one_every_interval(dut):
    random = rng("values")
    n_eps, root = random.randint(1, (1 << 32) - 1), some_root(random)
    sums = [some_sum(random) for _ in range(1000)]
    got = await row(dut, InverseRms.LATENCY, [{"sumsq": v, "n_eps": n_eps, "sqrt_n": root.pack()} for v in sums], ("y",))
    for total, (y, y_later) in zip(sums, got, strict=True):
        expected_y = inv_rms(total, n_eps, root).pack()
        assert (y, y_later) == (expected_y, expected_y), total
    report(cases=len(sums))


@cocotb.test()
async def sum_ties(dut):
    """Sums exactly between two 11-bit significands, and one unit beside."""
    random = rng("values")
    cases = []
    for _ in range(VECTORS // 3):
        total = (random.randint(1024, 2047) << 1 | 1) << random.randint(0, SUMSQ_BITS - 13)
        total += random.choice((-1, 0, 1))
        n_eps = random.randint(1, min(total, (1 << 32) - 1))
        cases.append((total - n_eps, n_eps, some_root(random)))
    await inverse(dut, cases)
