# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Biases in the fused pipeline: passes that add them to their elements, beside passes that do not."""

import cocotb
from pipeline_harness import LAYOUTS, TOKENS, Harness, bench

from hw.fused.arithmetic import FloatAdd
from sim.cocotb_streams import report, report_shares
from tellme.spec.formats import BINARY16 as F
from tellme.spec.program import Epilogue
from tellme.spec.scale import Scale

#: A pipeline alone, and the second of two pipelines with several tokens.
BENCHES = [bench("dim128", [0], planes=6, nightly="tokens3 has the same passes, of several tokens"),
           bench("tokens3", range(1, 6, 2), chunk=6, planes=5)]


async def everything(dut, *, tile=128, **options):
    """Passes with biases and without in turn, with each way of an element."""
    h = await Harness(dut, tile=tile, **options).bring_up()
    for n, ffn in ((16, 24), (44, 92)) if options else ((16, 24), (44, 92), (128, 384)):
        for bias in (True, False):
            await h.load_gains(n)
            await h.store(n, gain=True, bias=bias)
            await h.quantised(gain=True)
            await h.residual(use_d=True)
            await h.load_gains(ffn, a=True)
            await h.act(ffn, use_d=True, gain=True, bias=bias)
            await h.quantised(src_a=True, gain=True)
            await h.store(n, dest_a=True, use_d=True, bias=bias)
            await h.quantised(src_a=True, norm=False)
            await h.act(ffn, relu2=True, act_exp=3, bias=bias)
            await h.quantised(src_a=True)
            await h.qkv(2, 1, 16, bias=bias)
    assert not h.nonfinite
    if options:
        report_shares(acc_valid=h.acc.low_share, codes_ready=h.codes.low_share)
    report(cases=h.cases)


@cocotb.test()
async def all_passes(dut):
    await everything(dut)


@cocotb.test()
async def stalls_10(dut):
    await everything(dut, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await everything(dut, idle=0.9, stall=0.9)


@cocotb.test()
async def tokens_alternate(dut):
    """Tiles of several tokens in turn, and chunks of fewer tokens."""
    for tokens in range(len(TOKENS), 0, -1):
        h = await Harness(dut, tokens=tokens, tile=24).bring_up()
        for n, ffn in ((50, 130), (128, 24)):
            await h.load_gains(n)
            await h.store(n, gain=True, bias=True)
            await h.quantised(gain=True)
            await h.act(ffn, use_d=True, bias=True)
            await h.quantised(src_a=True)
        for shape in ((4, 2, 16), (5, 1, 24), (1, 1, 64)):
            await h.qkv(*shape, bias=True)
    report(cases=h.cases)


@cocotb.test()
async def statistics_are_final_at_done(dut):
    """Each kind of pass with biases, of one element or pair a token, and of more; the quantise pass begins with ``done``."""
    h = await Harness(dut).bring_up()
    for n in (1, 2, 20):
        await h.load_gains(n)
        await h.load_gains(n, a=True)
        for gain in (False, True):
            await h.store(n, gain=gain, bias=True)
            await h.quantised(gain=gain)
            await h.act(n, gain=gain, bias=True)
            await h.quantised(src_a=True, gain=gain)
    report(cases=h.cases)


@cocotb.test()
async def one_element_a_cycle(dut):
    """A bias costs no cycle between elements; on the way to A and to the heads it costs the adder's latency, and to X none."""
    h = await Harness(dut, tokens=1).bring_up()
    n = 128
    more = {True: FloatAdd.LATENCY + 3, False: 0}
    cycles = {bias: await h.store(n, bias=bias) for bias in (False, True)}
    assert cycles[True] == cycles[False]
    assert h.times[-1] - h.times[0] == n - 1
    cycles = {bias: await h.act(n, bias=bias) for bias in (False, True)}
    assert cycles[True] == cycles[False] + more[True]
    assert h.times[-1] - h.times[0] == 2 * (n - 1)
    for head_dim in (32, LAYOUTS.widths.head_dim):
        cycles = {bias: await h.qkv(4, 2, head_dim, bias=bias) for bias in (False, True)}
        assert cycles[True] == cycles[False] + more[True]
        # The first head waits for its absmax; then every cycle brings a code.
        assert h.times[-1] - h.times[0] == 8 * head_dim - 1
    report(cases=h.cases)


@cocotb.test()
async def infinity_raises_nonfinite(dut):
    """Of a sum of a finite element and a finite bias, on each way; without ``bias`` the same accumulators raise nothing."""
    largest = F.inf - 1
    for epilogue in (Epilogue.STORE, Epilogue.ACT, Epilogue.QKV):
        for bias in (False, True):
            h = await Harness(dut).bring_up()
            if epilogue == Epilogue.QKV:
                cocotb.start_soon(h.heads.recv_n(16 * len(TOKENS)))
            values = [0] * 16
            values[3] = 1 << 14
            await h.run_pass(epilogue, [(values, [Scale(1024, -9)] * 16, [0, 0, 0, largest] * 4) for _ in TOKENS], bias=bias,
                             rope_rows=16, relu2=epilogue == Epilogue.ACT)
            # Gate 2 is 0: the product with the large up is 0.
            assert h.nonfinite == bias, (epilogue, bias)
            assert epilogue != Epilogue.STORE or (h.seen[3] == F.inf) == bias
    report(cases=6)
