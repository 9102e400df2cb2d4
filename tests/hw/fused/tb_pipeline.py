# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The fused pipeline: passes of accumulators and quantise passes against the scalar specification."""

import os
from itertools import pairwise

import cocotb
from cocotb.triggers import FallingEdge

from hw.fused.pipeline import FusedPipeline
from hw.fused.scales import SCALE_INTERVAL
from hw.lib.layouts import Layouts
from hw.lib.types import MonitorLayout
from sim.cocotb_streams import StreamSink, StreamSource, report, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.activation import activation, rope
from tellme.spec.config import preset
from tellme.spec.formats import BINARY16 as F
from tellme.spec.packing import SLICE, pack_gains
from tellme.spec.program import Epilogue
from tellme.spec.quantise import dequantise, quantise, square
from tellme.spec.scale import C127, Scale, from_float, quantise_scales, recip127, scale_from_fraction, scale_mul
from tests.hw.layouts import accumulator, fields, layouts_of, pack, payload_of, unpack


def unit(preset_name, chunk):
    """A preset's pipeline; or the only one of a core of single tokens, or one of two; with the layouts of the core."""
    if preset_name:
        config = preset(preset_name)
        return Layouts(config.widths), FusedPipeline(Layouts(config.widths), streams=config.float_lanes)
    layouts = layouts_of(chunk=chunk, max_dim=128, max_cols=384, max_head_dim=64)
    return layouts, FusedPipeline(layouts, streams=2 if chunk > 1 else 1)


def bench(name, tokens, *tests, chunk=1, preset_name="", **options):
    return Bench(name=name, build=lambda: unit(preset_name, chunk)[1], tests=tests, **options,
                 env={"TOKENS": ",".join(map(str, tokens)), "CHUNK": str(chunk), "PRESET": preset_name})


#: Tokens of a pipeline alone, and of the second of two pipelines, up to those of a chunk of sixteen; and a pipeline of the preset
#: with the longest vectors.
BENCHES = [bench("dim128", [0]), bench("tokens3", range(1, 6, 2), chunk=6, nightly="tokens8 has several tokens too"),
           bench("tokens8", range(1, 16, 2), "all_passes", "tokens_alternate", "gains_come_in_while_others_are_in_use",
                 "scales_of_tokens_follow_one_another", "statistics_are_final_at_done", chunk=16),
           bench("ecpix5", [0], "all_passes", "longest_vectors", preset_name="ecpix5-85f"),
           bench("ecpix5-tokens4", range(4), "all_passes", "longest_vectors", preset_name="ecpix5-85f", timeout_s=900,
                 nightly="a token alone takes a quarter of the time, and tokens3 has several")]
#: Numbers in the chunk of the tokens that the pipeline has.
TOKENS = [int(t) for t in os.environ.get("TOKENS", "0").split(",")]
LAYOUTS, UNIT = unit(os.environ.get("PRESET", ""), int(os.environ.get("CHUNK", "1")))
TURN = payload_of(UNIT, "rope_load")


class Model:
    """The expected content of the memories and registers."""

    def __init__(self):
        self.x, self.a = [], []
        # Of X and of A.
        self.gains = {False: [], True: []}
        self.sumsq = self.absmax = 0
        self.d = Scale(0, 0)

    def statistics(self, vector, gain, *, a=False):
        scaled = [F.mul(v, g) for v, g in zip(vector, self.gains[a], strict=False)] if gain else vector
        self.sumsq = sum(square(v) for v in vector)
        self.absmax = max(v & 0x7FFF for v in scaled)

    def elements(self, accs, scales, use_d):
        return [dequantise(a, scale_mul(s, self.d) if use_d else s) for a, s in zip(accs, scales, strict=True)]

    def quantise(self, src_a, gain, norm, n_eps, sqrt_n):
        source = self.a if src_a else self.x
        s, self.d = quantise_scales(self.absmax, norm=norm, sumsq=self.sumsq, n_eps=n_eps, sqrt_n=sqrt_n)
        values = [F.mul(v, g) for v, g in zip(source, self.gains[src_a], strict=False)] if gain else source
        return [quantise(v, s) for v in values]


class Harness:
    """Passes over ``tokens`` of TOKENS, whose elements alternate after ``tile`` of them."""

    def __init__(self, dut, *, idle=0.0, stall=0.0, tokens=None, tile=128):
        self.dut = dut
        self.tokens, self.tile = TOKENS[:tokens], tile
        self.models = [Model() for _ in self.tokens]
        self.acc = StreamSource(dut, "acc", idle=idle, rng=rng("acc"))
        self.quant = StreamSource(dut, "control__quant")
        self.gain = StreamSource(dut, "gain_load", idle=idle, rng=rng("gain"))
        self.rope = StreamSource(dut, "rope_load", idle=idle, rng=rng("rope"))
        self.codes = StreamSink(dut, "codes", stall=stall, rng=rng("codes"))
        self.heads = StreamSink(dut, "heads", stall=stall, rng=rng("heads"))
        self.random = rng("values")
        self.seen = []
        self.times = []
        self.nonfinite = False
        self.cases = 0

    async def bring_up(self):
        dut = self.dut
        for name in ("acc__valid", "control__quant__valid", "gain_load__valid", "rope_load__valid", "control__clear",
                     "control__gain_start", "rope_start", "codes__ready", "heads__ready", "rope_token"):
            getattr(dut, name).value = 0
        self.settings()
        dut.chunk.value = len(self.tokens)
        dut.monitor_token.value = self.tokens[-1]
        self.shape(16)
        await reset(dut)
        cocotb.start_soon(self.watch())
        return self

    async def watch(self):
        cycle = 0
        while True:
            # Just before the rising edge, when the sinks' readys are set.
            await settled()
            valid, word = fields(MonitorLayout, int(self.dut.monitor.value), "valid", "word")
            cycle += 1
            if valid:
                self.seen.append(word)
                self.times.append(cycle)
            self.nonfinite |= bool(self.dut.control__nonfinite.value)
            await FallingEdge(self.dut.clk)

    def shape(self, head_dim):
        """Elements of an attention head."""
        self.dut.shape.value = pack(LAYOUTS.model_shape, head_dim=head_dim)

    def settings(self, **args):
        """Settings of a pass; settings that are not named are zero."""
        self.dut.control__args.value = pack(LAYOUTS.pass_args, **args)

    async def pulse(self, name):
        getattr(self.dut, name).value = 1
        await FallingEdge(self.dut.clk)
        getattr(self.dut, name).value = 0

    async def load_gains(self, n, *, a=False):
        """Gains of the vector that a pass with these settings writes."""
        gains = [F.encode(0, self.random.randint(512, 1535), -10) for _ in range(n)]
        for model in self.models:
            model.gains[a] = gains
        self.settings(epilogue=Epilogue.STORE, dest_a=a)
        await FallingEdge(self.dut.clk)
        await self.pulse("control__gain_start")
        await self.gain.send_all(pack_gains(gains))

    def accs(self, n, exp=-20):
        """(accumulators, scales) of each token."""
        return [([self.random.randint(-3000, 3000) for _ in range(n)],
                 [Scale(self.random.randint(1024, 2047), exp) for _ in range(n)]) for _ in self.tokens]

    async def run_pass(self, epilogue, accs, *, dest_a=False, use_d=False, gain=False, relu2=False, act_exp=0, rope_rows=0,
                       tile=None):
        """One pass; the cycles from the first accumulator to done."""
        dut = self.dut
        n = len(accs[0][0])
        self.settings(epilogue=epilogue, dest_a=dest_a, use_d=use_d, stats_gain=gain, relu2=relu2, act_exp=act_exp,
                      rope_rows=rope_rows, length=n)
        self.seen.clear()
        self.times.clear()
        await self.pulse("control__clear")
        tile = tile or self.tile
        payloads = [accumulator(LAYOUTS, values[i], scales[i], token, i)
                    for first in range(0, n, tile) for token, (values, scales) in zip(self.tokens, accs, strict=True)
                    for i in range(first, min(first + tile, n))]
        task = cocotb.start_soon(self.acc.send_all(payloads))
        cycles = 0
        while not dut.control__done.value:
            await FallingEdge(dut.clk)
            cycles += 1
        await task
        await FallingEdge(dut.clk)
        return cycles

    def elements(self, accs, options):
        return [m.elements(*pair, options.get("use_d", False)) for m, pair in zip(self.models, accs, strict=True)]

    async def finish(self, epilogue, accs, vectors, *, a, **options):
        """Run the pass that gives these vectors in A or X, and take its statistics."""
        for model, vector in zip(self.models, vectors, strict=True):
            setattr(model, "a" if a else "x", vector)
            model.statistics(vector, options.get("gain"), a=a)
        cycles = await self.run_pass(epilogue, accs, **options)
        assert self.seen == vectors[-1]
        self.cases += sum(map(len, vectors))
        return cycles

    async def store(self, n, **options):
        accs = self.accs(n)
        return await self.finish(Epilogue.STORE, accs, self.elements(accs, options), a=options.get("dest_a", False), **options)

    async def residual(self, **options):
        accs = self.accs(len(self.models[0].x))
        vectors = [[F.add(x, v) for x, v in zip(model.x, y, strict=True)]
                   for model, y in zip(self.models, self.elements(accs, options), strict=True)]
        await self.finish(Epilogue.RESIDUAL, accs, vectors, a=False, **options)

    async def act(self, n, **options):
        accs = self.accs(2 * n)
        vectors = [[activation(g, u, relu2=options.get("relu2", False), act_exp=options.get("act_exp", 0))
                    for g, u in zip(y[0::2], y[1::2], strict=True)] for y in self.elements(accs, options)]
        await self.finish(Epilogue.ACT, accs, vectors, a=True, **options)

    async def quantised(self, *, src_a=False, gain=False, norm=True, meanwhile=0, only=None):
        """A quantise pass, of one own token alone if asked for; returns the cycles from request to last code.

        ``meanwhile``: from the first code on, the next pass is prepared as the command processor does, with this number of gains
        for the other vector.
        """
        dut = self.dut
        models = self.models if only is None else [self.models[only]]
        n = len(models[0].a if src_a else models[0].x)
        n_eps, sqrt_n = (round(n * 1e-5 * 2**32), scale_from_fraction(n**0.5)) if norm else (0, Scale(0, 0))
        codes = [model.quantise(src_a, gain, norm, n_eps, sqrt_n) for model in models]
        expected = [c & 0xFF for first in range(0, n, SLICE) for mine in codes for c in mine[first:first + SLICE]]
        await self.quant.send(pack(LAYOUTS.quant_args, src_a=src_a, gain=gain, norm=norm, n=n, n_eps=n_eps, sqrt_n=sqrt_n,
                                   first=only or 0, tokens=len(models)))
        task = cocotb.start_soon(self.codes.recv_n(len(expected)))
        cycles = 0
        while not dut.codes__valid.value:
            await FallingEdge(dut.clk)
            cycles += 1
        assert int(dut.d.value) == models[-1].d.pack(), "d is late"
        if meanwhile:
            await self.load_gains(meanwhile, a=not src_a)
            await self.pulse("control__clear")
        while not task.done():
            await FallingEdge(dut.clk)
            cycles += 1
        assert task.result() == expected
        assert int(dut.d.value) == models[-1].d.pack()
        self.cases += len(expected)
        return cycles

    async def qkv(self, heads, kv_heads, head_dim):
        dut = self.dut
        self.shape(head_dim)
        rotated = (heads + kv_heads) * head_dim
        n = (heads + 2 * kv_heads) * head_dim
        # Whole heads of each token in turn.
        tile = max(1, self.tile // head_dim) * head_dim
        accs = self.accs(n)
        # Code, scale and end of each element, a token.
        words = []
        for token, (model, pair) in enumerate(zip(self.models, accs, strict=True)):
            table = [(F.encode(self.random.getrandbits(1), self.random.randint(0, 1024), -10),
                      F.encode(self.random.getrandbits(1), self.random.randint(0, 1024), -10)) for _ in range(head_dim // 2)]
            dut.rope_token.value = self.tokens[token]
            await self.pulse("rope_start")
            await self.rope.send_all([pack(TURN, cos=c, sin=s) for c, s in table])
            y = model.elements(*pair, False)
            for i in range(0, rotated, 2):
                y[i:i + 2] = rope(y[i], y[i + 1], *table[i % head_dim // 2])
            words.append([])
            for first in range(0, n, head_dim):
                head = y[first:first + head_dim]
                peak = from_float(max(1, *(v & 0x7FFF for v in head)))
                label = {"scale": scale_mul(peak, C127), "token": self.tokens[token], "head": first // head_dim}
                words[-1] += [pack(LAYOUTS.head_codes, code=quantise(v, recip127(peak)), last=i == head_dim - 1, **label)
                              for i, v in enumerate(head)]
        expected = [w for first in range(0, n, tile) for mine in words for w in mine[first:first + tile]]
        task = cocotb.start_soon(self.heads.recv_n(len(expected)))
        cycles = await self.run_pass(Epilogue.QKV, accs, rope_rows=rotated, tile=tile)
        assert await task == expected
        assert [v & 0xFF for v in self.seen] == [unpack(LAYOUTS.head_codes, w)["code"] & 0xFF for w in words[-1]]
        self.cases += len(expected)
        return cycles


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
async def heads(dut):
    h = await Harness(dut).bring_up()
    for shape in ((1, 1, 16), (4, 2, 32), (2, 2, 64), (3, 1, 24)):
        await h.qkv(*shape)
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
    await h.run_pass(Epilogue.STORE, [([1, 1 << 30, 1], [Scale(2047, 0)] * 3) for _ in TOKENS])
    assert h.nonfinite and h.seen[1] == F.inf
