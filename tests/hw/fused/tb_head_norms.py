# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""RMSNorm on heads of q and k in the fused pipeline, beside passes without and those that use the same units otherwise."""

import cocotb
from cocotb.triggers import FallingEdge
from pipeline_harness import LAYOUTS, TOKENS, Harness, bench

from hw.fused.arithmetic import FloatAdd, FloatMul
from sim.cocotb_streams import report, report_shares, rng
from tellme.spec.formats import BINARY16 as F
from tellme.spec.program import Epilogue
from tellme.spec.scale import Scale

#: A pipeline alone, and the second of two pipelines with several tokens; and one of the preset with the longest heads.
BENCHES = [bench("dim128", [0], planes=6), bench("tokens3", range(1, 6, 2), chunk=6, planes=5),
           bench("ecpix5", range(4), "longest_heads", preset_name="ecpix5-85f")]
#: Query heads, KV heads, and elements of a head.
SHAPES = ((1, 1, 16), (4, 2, 32), (3, 1, 24), (2, 2, 64), (5, 1, 40))


async def everything(dut, shapes=SHAPES, **options):
    """Passes with norms on heads and without in turn, among the others of a layer, whose gains lie where those of heads do."""
    h = await Harness(dut, **options).bring_up()
    for shape in shapes:
        for bias in (False, True):
            await h.load_gains(44)
            await h.store(44, gain=True)
            await h.quantised(gain=True)
            await h.qkv(*shape, head_gains=True, bias=bias, use_d=True)
            await h.load_gains(92, a=True)
            await h.store(92, dest_a=True, gain=True)
            await h.quantised(src_a=True, gain=True)
            await h.residual(use_d=True)
            await h.quantised()
            await h.qkv(*shape, bias=bias)
            await h.act(92, use_d=True, gain=True, bias=bias)
            await h.quantised(src_a=True, gain=True)
    assert not h.nonfinite
    if options:
        report_shares(acc_valid=h.acc.low_share, codes_ready=h.codes.low_share)
    report(cases=h.cases)


@cocotb.test()
async def all_passes(dut):
    await everything(dut)


@cocotb.test()
async def stalls_10(dut):
    await everything(dut, SHAPES[:2], idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await everything(dut, SHAPES[:1], idle=0.9, stall=0.9)


@cocotb.test()
async def tokens_alternate(dut):
    """Tiles of several heads of several tokens in turn, and chunks of fewer tokens."""
    for tokens in range(len(TOKENS), 0, -1):
        h = await Harness(dut, tokens=tokens).bring_up()
        for shape, tile in (((4, 2, 16), 32), ((5, 1, 24), 24), ((1, 1, 64), 64), ((3, 3, 16), 128)):
            h.tile = tile
            await h.qkv(*shape, head_gains=True, bias=tile == 32)
    report(cases=h.cases)


@cocotb.test()
async def drawn_shapes(dut):
    """Heads, their lengths, tokens, tiles, sizes, biases and norms at random."""
    random, h = rng("shapes"), None
    for case in range(24):
        if case % 4 == 0:
            h = await Harness(dut, tokens=random.randint(1, len(TOKENS)), idle=random.choice((0, 0.3)),
                              stall=random.choice((0, 0.5))).bring_up()
        head_dim = random.randrange(16, LAYOUTS.widths.head_dim + 1, 8)
        h.tile = random.choice((head_dim, 2 * head_dim, 200))
        await h.qkv(random.randint(1, 5), random.randint(1, 3), head_dim, head_gains=random.random() < 0.8, use_d=False,
                    bias=bool(random.getrandbits(1)), exp=random.randint(-24, -14), zeros=random.choice((0, 0, 2)))
        assert not h.nonfinite
    report(cases=h.cases)


@cocotb.test()
async def small_and_large_heads(dut):
    """Heads of zeros, of elements whose squares are cut to zero, and of elements up to half of binary16's largest."""
    h = await Harness(dut).bring_up()
    for exp in (-40, -34, -29, -26, -14, -9):
        for zeros in (0, 1, 3, 4):
            await h.qkv(2, 2, 16, head_gains=True, exp=exp, zeros=zeros)
        await h.qkv(2, 1, 16, head_gains=True, exp=exp, peaks=True)
    assert not h.nonfinite
    report(cases=h.cases)


@cocotb.test()
async def longest_heads(dut):
    """As many elements in a head as there can be, and as many heads of q as one of k may have; gains come in while codes of X are
    read."""
    h = await Harness(dut, tile=240).bring_up()
    dim = min(LAYOUTS.widths.dim, 512)
    await h.load_gains(dim)
    await h.store(dim, gain=True)
    await h.quantised(gain=True, meanwhile=LAYOUTS.widths.head_dim)
    for shape in ((4, 1, LAYOUTS.widths.head_dim), (1, 1, LAYOUTS.widths.head_dim - 8)):
        await h.qkv(*shape, head_gains=True)
    assert not h.nonfinite
    report(cases=h.cases)


@cocotb.test()
async def what_a_norm_costs(dut):
    """The way through adder and multiplier, and then eleven cycles for ten elements; nothing without the norm."""
    h = await Harness(dut, tokens=1).bring_up()
    more = FloatAdd.LATENCY + 3 + FloatMul.LATENCY + 3
    for head_dim in (32, LAYOUTS.widths.head_dim):
        plain = await h.qkv(4, 2, head_dim)
        n = 8 * head_dim
        cycles = await h.qkv(4, 2, head_dim, head_gains=True)
        assert plain < cycles <= plain + more + n // 10, (cycles, plain, n)
        assert await h.qkv(4, 2, head_dim) == plain
    report(cases=h.cases)


@cocotb.test()
async def infinity_raises_nonfinite(dut):
    """Of an element of q or k times its gain; the same element of v has no gain."""
    for place, expected in ((3, True), (16 + 5, True), (32 + 3, False)):
        h = await Harness(dut).bring_up()
        gains = [F.encode(0, 1024, -8)] * 16 + [F.encode(0, 1024, -7)] * 16
        h.settings(epilogue=Epilogue.QKV)
        await FallingEdge(dut.clk)
        await h.pulse("control__gain_start")
        await h.gain.send_all([sum(g << 16 * i for i, g in enumerate(gains[at:at + 4])) for at in range(0, 32, 4)])
        cocotb.start_soon(h.heads.recv_n(48 * len(TOKENS)))
        values = [1] * 48
        values[place] = 30000
        await h.run_pass(Epilogue.QKV, [(values, [Scale(1024, -10)] * 48, [0] * 48) for _ in TOKENS], rope_rows=32,
                         head_gains=True, q_rows=16, n_eps=1, sqrt_n=Scale(1024, -8))
        assert h.nonfinite == expected, place
    report(cases=3)
