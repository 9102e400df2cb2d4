# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The fused pipeline: passes of accumulators and quantise passes against the scalar specification."""

from itertools import pairwise

import cocotb
from cocotb.triggers import FallingEdge
from pipeline_harness import LAYOUTS, TOKENS, Harness, bench

from hw.core.steps import RESET_CYCLES
from hw.fused.scales import SCALE_INTERVAL
from sim.cocotb_streams import report, report_point, report_shares
from tellme.spec.formats import BINARY16 as F
from tellme.spec.program import Epilogue
from tellme.spec.scale import Scale

#: Tokens of a pipeline alone, and of the second of two pipelines, up to those of a chunk of sixteen; and a pipeline of the preset
#: with the longest vectors.
BENCHES = [bench("dim128", [0], planes=6), bench("tokens3", range(1, 6, 2), chunk=6),
           bench("tokens8", range(1, 16, 2), "all_passes", "tokens_alternate", "gains_come_in_while_others_are_in_use",
                 "scales_of_tokens_follow_one_another", "statistics_are_final_at_done", chunk=16,
                 nightly="tokens3 has the same passes, and tests/board/test_prefill.py eight tokens on each of two pipelines"),
           bench("planes1", [0], "all_passes", "heads", "one_element_a_cycle", "statistics_are_final_at_done",
                 nightly="no preset has one plane; dim128 has the same passes in a pipeline that takes biases"),
           bench("ecpix5", [0], "all_passes", "longest_vectors", preset_name="ecpix5-85f",
                 nightly="tests/board/test_large_shapes.py runs the core of ecpix5-85f with vectors nearly as long"),
           bench("ecpix5-tokens4", range(4), "all_passes", "longest_vectors", preset_name="ecpix5-85f", timeout_s=900,
                 nightly="a token alone takes a quarter of the time, and tokens3 has several")]

POINTS = ("limit: X and A as long as they can be, with gains", "limit: heads as long as they can be", "refused: an infinity")


async def everything(dut, *, tile=128, **options):
    h = await Harness(dut, tile=tile, **options).bring_up()
    for n, ffn in ((16, 24), (44, 92)) if options else ((16, 24), (44, 92), (128, 384)):
        await h.load_gains(n)
        await h.store(n, gain=True)
        await h.quantised(gain=True)
        await h.residual(use_d=True)
        await h.quantised()
        await h.load_gains(ffn, a=True)
        await h.act(ffn, use_d=True, gain=True)
        await h.quantised(src_a=True, gain=True)
        await h.residual(use_d=True)
        await h.store(n, dest_a=True)
        await h.quantised(src_a=True, norm=False)
        await h.act(ffn, relu2=True, act_exp=3)
        await h.quantised(src_a=True)
    await h.qkv(2, 1, 16)
    assert not h.nonfinite
    if (n, ffn) == (LAYOUTS.widths.dim, LAYOUTS.widths.cols):
        report_point("limit: X and A as long as they can be, with gains")
    if options:
        report_shares(acc_valid=h.acc.low_share, codes_ready=h.codes.low_share)
    report(cases=h.cases)


@cocotb.test()
async def all_passes(dut):
    await everything(dut)


@cocotb.test()
async def longest_vectors(dut):
    """X and A as long as they can be, with gains, of the last tokens alone and of all; heads as long as they can be."""
    h = await Harness(dut, tile=240).bring_up()
    dim, cols = LAYOUTS.widths.dim, LAYOUTS.widths.cols
    await h.load_gains(dim)
    await h.store(dim, gain=True)
    await h.quantised(gain=True, meanwhile=cols)
    await h.act(cols, use_d=True, gain=True)
    await h.quantised(src_a=True, gain=True, meanwhile=dim)
    await h.residual(use_d=True, gain=True)
    await h.quantised(gain=True, only=len(TOKENS) - 1)
    await h.qkv(2, 1, LAYOUTS.widths.head_dim)
    assert not h.nonfinite
    report(cases=h.cases)


@cocotb.test()
async def stalls_10(dut):
    await everything(dut, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await everything(dut, idle=0.9, stall=0.9)


@cocotb.test()
async def tokens_alternate(dut):
    """Tiles of several tokens in turn, chunks of fewer tokens, and one token's codes alone, as the LM head wants them."""
    for tokens in range(len(TOKENS), 0, -1):
        h = await Harness(dut, tokens=tokens, tile=24).bring_up()
        for n, ffn in ((50, 130), (128, 24)):
            await h.load_gains(n)
            await h.store(n, gain=True)
            await h.quantised(gain=True)
            await h.act(ffn, use_d=True)
            await h.quantised(src_a=True)
            await h.residual(use_d=True, gain=True)
            for only in range(tokens):
                await h.quantised(gain=True, only=only)
        for shape in ((4, 2, 16), (5, 1, 24)):
            await h.qkv(*shape)
    report(cases=h.cases)


@cocotb.test()
async def gains_come_in_while_others_are_in_use(dut):
    """A quantise pass continues undisturbed while the next pass clears the statistics and loads the gains of its norm."""
    h = await Harness(dut).bring_up()
    for n, ffn in ((128, 384), (60, 32), (20, 380)):
        await h.load_gains(n)
        await h.store(n, gain=True)
        await h.quantised(gain=True, meanwhile=ffn)
        await h.act(ffn, gain=True)
        await h.quantised(src_a=True, gain=True, meanwhile=n)
        await h.residual(gain=True)
        await h.quantised(gain=True)
    report(cases=h.cases)


@cocotb.test()
async def a_request_waits_for_the_codes(dut):
    h = await Harness(dut).bring_up()
    for n in (60, 7):
        await h.store(n)
        await h.quantised_twice()
    report(cases=h.cases)


@cocotb.test()
async def heads(dut):
    h = await Harness(dut).bring_up()
    for shape in ((1, 1, 16), (4, 2, 32), (2, 2, 64), (3, 1, 24)):
        await h.qkv(*shape)
        if shape[-1] == LAYOUTS.widths.head_dim:
            report_point("limit: heads as long as they can be")
    report(cases=h.cases)


@cocotb.test()
async def one_element_a_cycle(dut):
    """From accumulator to X and A without a gap, from memory to codes, and from accumulator to head codes."""
    h = await Harness(dut, tokens=1).bring_up()
    n = 128
    await h.store(n)
    assert h.times[-1] - h.times[0] == n - 1
    # The start of a scale, and the way of an element.
    assert await h.quantised() <= n + SCALE_INTERVAL + 20
    await h.residual()
    assert h.times[-1] - h.times[0] == n - 1
    await h.act(n)
    assert h.times[-1] - h.times[0] == 2 * (n - 1)
    for head_dim in (32, 64):
        await h.qkv(4, 2, head_dim)
        # The first head waits for its absmax; then every cycle brings a code.
        assert h.times[-1] - h.times[0] == 8 * head_dim - 1
    report(cases=h.cases)


@cocotb.test()
async def scales_of_tokens_follow_one_another(dut):
    """Another token costs the cycles of its elements and SCALE_INTERVAL cycles more, with a norm and without."""
    for n in (60, 1):
        for norm in (True, False):
            cycles = []
            for tokens in range(1, len(TOKENS) + 1):
                h = await Harness(dut, tokens=tokens).bring_up()
                await h.store(n)
                cycles.append(await h.quantised(norm=norm))
            assert all(b - a <= n + SCALE_INTERVAL for a, b in pairwise(cycles)), cycles


@cocotb.test()
async def statistics_are_final_at_done(dut):
    """Each kind of pass, of one element or pair a token, and of more; the quantise pass begins with ``done``."""
    h = await Harness(dut).bring_up()
    for n in (1, 2, 20):
        await h.load_gains(n)
        await h.load_gains(n, a=True)
        for gain in (False, True):
            await h.store(n, gain=gain)
            await h.quantised(gain=gain)
            await h.residual(gain=gain)
            await h.quantised(gain=gain)
            await h.act(n, gain=gain)
            await h.quantised(src_a=True, gain=gain)
    report(cases=h.cases)


@cocotb.test()
async def infinity_raises_nonfinite(dut):
    h = await Harness(dut).bring_up()
    await h.run_pass(Epilogue.STORE, [([1, 1 << 30, 1], [Scale(2047, 0)] * 3, [0] * 3) for _ in TOKENS])
    assert h.nonfinite and h.seen[1] == F.inf
    report_point("refused: an infinity")


@cocotb.test()
async def nothing_moves_behind_a_reset(dut):
    """A reset as long as the command processor's, in the midst of passes with infinities: nothing is shown or leaves behind it,
    and the passes that follow are right.  A pipeline without a token is done at once."""
    outputs = [getattr(dut, name) for name in ("control__nonfinite", "settling", "codes__valid", "heads__valid")]
    for epilogue in Epilogue:
        h = await Harness(dut).bring_up()
        running = cocotb.start_soon(h.run_pass(epilogue, [([1 << 20] * 32, [Scale(2047, 9)] * 32, [F.inf] * 32) for _ in TOKENS],
                                               rope_rows=32))
        for _ in range(16 * len(TOKENS)):
            await FallingEdge(dut.clk)
        running.cancel()
        dut.rst.value = dut.codes__ready.value = dut.heads__ready.value = 1
        for _ in range(RESET_CYCLES):
            await FallingEdge(dut.clk)
        dut.rst.value = dut.acc__valid.value = 0
        for token in (0, TOKENS[0]):
            dut.monitor_token.value = token
            for _ in range(RESET_CYCLES):
                assert not int(dut.monitor.value) & 1 and not any(port.value for port in outputs), epilogue
                await FallingEdge(dut.clk)
    h = await Harness(dut).bring_up()
    await h.store(16)
    await h.quantised()
    assert not h.nonfinite
    dut.chunk.value = 0
    await h.pulse("control__clear")
    for _ in range(RESET_CYCLES):
        assert dut.control__done.value and not dut.settling.value
        await FallingEdge(dut.clk)
    report(cases=len(Epilogue))
