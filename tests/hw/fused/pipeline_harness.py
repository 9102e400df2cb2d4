# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the fused pipeline's testbenches share: a bench's unit, and passes with their expected output by the scalar
specification."""

import os
from dataclasses import replace

import cocotb
from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import FallingEdge

from hw.core.steps import FIRST_CODE
from hw.fused.code_sums import CodeSums
from hw.fused.pipeline import FusedPipeline
from hw.lib.layouts import Layouts
from hw.lib.types import MonitorLayout
from sim.cocotb_streams import StreamSink, StreamSource, clocked, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.activation import activation, rope
from tellme.spec.config import preset
from tellme.spec.formats import BINARY16 as F
from tellme.spec.packing import NO_BIAS, SLICE, pack_gains
from tellme.spec.program import Epilogue
from tellme.spec.quantise import dequantise, quantise, square
from tellme.spec.scale import C127, Scale, from_float, inv_rms, quantise_scales, recip127, scale_from_fraction, scale_mul
from tests.hw.layouts import fields, layouts_of, pack, payload_of, unpack

__all__ = ["LAYOUTS", "TOKENS", "Harness", "bench"]


class WithNorms(wiring.Component):
    """A pipeline whose codes go back as accumulators while ``from_codes`` is set.  ``waiting``: a code waits."""

    def __init__(self, layouts, *, streams):
        self._layouts, self._streams = layouts, streams
        pipeline = FusedPipeline(layouts, streams=streams)
        super().__init__({**dict(pipeline.signature.members), "from_codes": In(1), "waiting": Out(1)})

    def elaborate(self, platform):
        m, streams = Module(), self._streams
        m.submodules.pipeline = pipeline = FusedPipeline(self._layouts, streams=streams)
        # Of two pipelines the second one, whose first token is the chunk's second.
        m.submodules.sums = sums = CodeSums(self._layouts, number=streams - 1, streams=streams)
        for name, member in self.signature.members.items():
            if name not in ("from_codes", "waiting", "codes", "acc"):
                inner, outer = getattr(pipeline, name), getattr(self, name)
                if member.is_signature:
                    connect(m, flipped(outer), inner)
                elif member.flow is In:
                    m.d.comb += inner.eq(outer)
                else:
                    m.d.comb += outer.eq(inner)
        back = self.from_codes
        m.d.comb += [
            self.waiting.eq(pipeline.codes.valid), sums.clear.eq(self.control.clear), sums.length.eq(self.control.args.length),
            sums.codes.payload.eq(pipeline.codes.payload), sums.codes.valid.eq(pipeline.codes.valid & back),
            self.codes.payload.eq(pipeline.codes.payload), self.codes.valid.eq(pipeline.codes.valid & ~back),
            pipeline.codes.ready.eq(Mux(back, sums.codes.ready, self.codes.ready)),
            pipeline.acc.payload.eq(Mux(back, sums.acc.payload.as_value(), self.acc.payload.as_value())),
            pipeline.acc.valid.eq(Mux(back, sums.acc.valid, self.acc.valid)),
            sums.acc.ready.eq(pipeline.acc.ready & back), self.acc.ready.eq(pipeline.acc.ready & ~back),
        ]
        return m


def unit(preset_name, chunk, planes=1, norms=False):
    """A preset's pipeline; or the only one of a core of single tokens, or one of two; with the layouts of the core."""
    if norms:
        widths = layouts_of(chunk=chunk, max_dim=128, max_cols=384, max_head_dim=64).widths
        layouts = Layouts(replace(widths, planes=planes, vector_norms=True))
        return layouts, WithNorms(layouts, streams=2 if chunk > 1 else 1)
    if preset_name:
        config = preset(preset_name)
        return Layouts(config.widths), FusedPipeline(Layouts(config.widths), streams=config.float_lanes,
                                                             sigmoid_register=config.sigmoid_register)
    layouts = Layouts(replace(layouts_of(chunk=chunk, max_dim=128, max_cols=384, max_head_dim=64).widths, planes=planes))
    return layouts, FusedPipeline(layouts, streams=2 if chunk > 1 else 1)


def bench(name, tokens, *tests, chunk=1, preset_name="", planes=1, norms=False, **options):
    return Bench(name=name, build=lambda: unit(preset_name, chunk, planes, norms)[1], tests=tests, **options,
                 env={"TOKENS": ",".join(map(str, tokens)), "CHUNK": str(chunk), "PRESET": preset_name, "PLANES": str(planes),
                      "NORMS": "1" if norms else ""})


#: Numbers in the chunk of the tokens that the pipeline has.
TOKENS = [int(t) for t in os.environ.get("TOKENS", "0").split(",")]
LAYOUTS, UNIT = unit(os.environ.get("PRESET", ""), int(os.environ.get("CHUNK", "1")), int(os.environ.get("PLANES", "1")),
                     bool(os.environ.get("NORMS")))
TURN = payload_of(UNIT, "rope_load")


class Model:
    """The expected content of the memories and registers."""

    def __init__(self):
        self.x, self.a = [], []
        # Of X and of A.
        self.gains = {False: [], True: []}
        self.sumsq = self.absmax = 0
        self.d = Scale(0, 0)
        # Of X and of A: the scales of the last quantise pass.
        self.kept = {}

    def statistics(self, vector, gain, *, a=False):
        scaled = [F.mul(v, g) for v, g in zip(vector, self.gains[a], strict=False)] if gain else vector
        self.sumsq = sum(square(v) for v in vector)
        self.absmax = max(v & 0x7FFF for v in scaled)

    def elements(self, accs, scales, biases, *, use_d=False, bias=False):
        elements = [dequantise(a, scale_mul(s, self.d) if use_d else s) for a, s in zip(accs, scales, strict=True)]
        return [F.add(v, b) for v, b in zip(elements, biases, strict=True)] if bias else elements

    def quantise(self, src_a, gain, norm, n_eps, sqrt_n, *, again=False, frac=0):
        source = self.a if src_a else self.x
        if not again:
            self.kept[src_a] = quantise_scales(self.absmax, norm=norm, sumsq=self.sumsq, n_eps=n_eps, sqrt_n=sqrt_n)
        s, self.d = self.kept[src_a]
        values = [F.mul(v, g) for v, g in zip(source, self.gains[src_a], strict=False)] if gain else source
        return [quantise(v, s, frac=frac) for v in values]


class Harness:
    """Passes over ``tokens`` of TOKENS, whose elements alternate after ``tile`` of them."""

    def __init__(self, dut, *, idle=0.0, stall=0.0, tokens=None, tile=128):
        self.dut, self._clk = dut, dut.clk
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

    @clocked
    async def watch(self):
        cycle, monitor, nonfinite = 0, self.dut.monitor, self.dut.control__nonfinite
        while True:
            # Just before the rising edge, when the sinks' readys are set.
            await settled()
            valid, word = fields(MonitorLayout, int(monitor.value), "valid", "word")
            cycle += 1
            if valid:
                self.seen.append(word)
                self.times.append(cycle)
            self.nonfinite |= bool(nonfinite.value)
            await FallingEdge(self._clk)

    def shape(self, head_dim):
        """Elements of an attention head."""
        self.dut.shape.value = pack(LAYOUTS.model_shape, head_dim=head_dim)

    def any_settings(self):
        """Settings of some pass, which no quantise pass may look at."""
        epilogue = self.random.choice(list(Epilogue))
        more = {"bias": self.random.getrandbits(1), "q_rows": 16,
                "head_gains": epilogue == Epilogue.QKV and self.random.getrandbits(1)} if LAYOUTS.row_words else {}
        return {"epilogue": epilogue, "dest_a": self.random.getrandbits(1), "stats_gain": self.random.getrandbits(1), **more}

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

    async def load_head_gains(self, head_dim):
        """Gains of q's and of k's heads; some are zero, small or negative."""
        gains = [self.random.choice((0, 1, F.encode(self.random.getrandbits(1), self.random.randint(512, 1535), -10)))
                 if self.random.random() < 0.1 else F.encode(0, self.random.randint(512, 1535), -10) for _ in range(2 * head_dim)]
        self.settings(epilogue=Epilogue.QKV)
        await FallingEdge(self.dut.clk)
        await self.pulse("control__gain_start")
        await self.gain.send_all(pack_gains(gains))
        return gains[:head_dim], gains[head_dim:]

    def accs(self, n, exp=-20):
        """(accumulators, scales, biases) of each token.  Biases are those of the rows, the same for each token."""
        biases = [self.bias() for _ in range(n)]
        return [([self.random.randint(-3000, 3000) for _ in range(n)],
                 [Scale(self.random.randint(1024, 2047), exp) for _ in range(n)], biases) for _ in self.tokens]

    def bias(self):
        """None, zero, subnormal, about as large as an element, or so much larger that an element is its rounding."""
        return self.random.choice((NO_BIAS, 0, self.random.getrandbits(10), F.encode(
            self.random.getrandbits(1), self.random.randint(1024, 2047), self.random.choice((-10, -9, -8, -6)))))

    async def run_pass(self, epilogue, accs, *, dest_a=False, use_d=False, gain=False, relu2=False, act_exp=0, rope_rows=0,
                       tile=None, bias=False, **norm):
        """One pass; the cycles from the first accumulator to done."""
        dut = self.dut
        n = len(accs[0][0])
        self.settings(epilogue=epilogue, dest_a=dest_a, use_d=use_d, stats_gain=gain, relu2=relu2, act_exp=act_exp,
                      rope_rows=rope_rows, length=n, **({"bias": bias} if LAYOUTS.row_words else {}), **norm)
        self.seen.clear()
        self.times.clear()
        await self.pulse("control__clear")
        tile = tile or self.tile
        payloads = [pack(LAYOUTS.acc, acc=values[i], scale=scales[i], place={"token": token, "index": i},
                         **({"bias": biases[i]} if LAYOUTS.row_words else {}))
                    for first in range(0, n, tile) for token, (values, scales, biases) in zip(self.tokens, accs, strict=True)
                    for i in range(first, min(first + tile, n))]
        task = cocotb.start_soon(self.acc.send_all(payloads))
        cycles, settling = 0, False
        while not dut.control__done.value:
            settling = dut.settling.value
            await FallingEdge(dut.clk)
            cycles += 1
        assert settling and not dut.settling.value, "the end of a pass is not marked, or its end is late"
        await task
        await FallingEdge(dut.clk)
        return cycles

    def elements(self, accs, options):
        flags = {name: options.get(name, False) for name in ("use_d", "bias")}
        return [m.elements(*of_token, **flags) for m, of_token in zip(self.models, accs, strict=True)]

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
        return await self.finish(Epilogue.ACT, accs, vectors, a=True, **options)

    async def quantised(self, *, src_a=False, gain=False, norm=True, meanwhile=0, only=None, again=False):
        """A quantise pass, of one own token alone if asked for; returns the cycles from request to last code.

        ``again``: with the scales of the last one.

        ``meanwhile``: from the first code on, the next pass is prepared as the command processor does, with this number of gains
        for the other vector.
        """
        dut = self.dut
        models = self.models if only is None else [self.models[only]]
        n = len(models[0].a if src_a else models[0].x)
        n_eps, sqrt_n = (round(n * 1e-5 * 2**32), scale_from_fraction(n**0.5)) if norm else (0, Scale(0, 0))
        codes = [model.quantise(src_a, gain, norm, n_eps, sqrt_n, again=again) for model in models]
        mask = (1 << LAYOUTS.code.width) - 1
        expected = [c & mask for first in range(0, n, SLICE) for mine in codes for c in mine[first:first + SLICE]]
        self.settings(**self.any_settings(), n_eps=n_eps, sqrt_n=sqrt_n)
        await self.quant.send(pack(LAYOUTS.quant_args, src_a=src_a, gain=gain, norm=norm, n=n, first=only or 0,
                                   tokens=len(models), **({"again": again} if again else {})))
        task = cocotb.start_soon(self.codes.recv_n(len(expected)))
        cycles = 0
        while not dut.codes__valid.value:
            assert dut.settling.value, "a quantise pass is not marked"
            await FallingEdge(dut.clk)
            cycles += 1
        assert again or cycles + 1 >= FIRST_CODE, "a code before the command processor has a layer's caches"
        assert again or int(dut.d.value) == models[-1].d.pack(), "d is late"
        self.settings(**self.any_settings(), n_eps=self.random.getrandbits(32))
        if meanwhile:
            await self.load_gains(meanwhile, a=not src_a)
            await self.pulse("control__clear")
        while not task.done():
            await FallingEdge(dut.clk)
            cycles += 1
        assert task.result() == expected
        assert again or int(dut.d.value) == models[-1].d.pack()
        self.cases += len(expected)
        return cycles

    async def quantised_twice(self):
        """Two quantise passes of X; the second one is asked for while codes of the first one leave."""
        dut, n = self.dut, len(self.models[0].x)
        n_eps, sqrt_n = round(n * 1e-5 * 2**32), scale_from_fraction(n**0.5)
        codes = [model.quantise(False, False, True, n_eps, sqrt_n) for model in self.models]
        mask = (1 << LAYOUTS.code.width) - 1
        expected = 2 * [c & mask for first in range(0, n, SLICE) for mine in codes for c in mine[first:first + SLICE]]
        self.settings(**self.any_settings(), n_eps=n_eps, sqrt_n=sqrt_n)
        task = cocotb.start_soon(self.codes.recv_n(len(expected)))
        request = pack(LAYOUTS.quant_args, norm=True, n=n, tokens=len(self.models))
        asked, waits = cocotb.start_soon(self.quant.send_all([request, request])), 0
        while not asked.done():
            await FallingEdge(dut.clk)
            waits += not dut.control__quant__ready.value
        assert waits >= len(expected) // 2, "the second request was taken while codes of the first one left"
        assert await task == expected
        self.cases += len(expected)

    async def qkv(self, heads, kv_heads, head_dim, *, head_gains=False, exp=-20, zeros=0, peaks=False, **options):
        """A QKV pass.  ``head_gains``: with norms on heads.  ``exp``: power of two of the accumulators' scales.  The first
        ``zeros`` heads have nothing but zeros.  ``peaks``: a head's last element is all but all of its sum of squares."""
        dut = self.dut
        self.shape(head_dim)
        rotated = (heads + kv_heads) * head_dim
        n = (heads + 2 * kv_heads) * head_dim
        # Whole heads of each token in turn.
        tile = max(1, self.tile // head_dim) * head_dim
        accs = self.accs(n, exp)
        for values, *_ in accs:
            if peaks:
                values[:] = [self.random.choice((-3000, 3000)) if i % head_dim == head_dim - 1 else self.random.randint(-3, 3)
                             for i in range(n)]
            values[:zeros * head_dim] = [0] * (zeros * head_dim)
        norm, gains = {}, ([], [])
        if head_gains:
            gains = await self.load_head_gains(head_dim)
            eps = self.random.choice((1e-6, 1e-5, 1e-3))
            norm = {"n_eps": round(head_dim * eps * 2**32), "sqrt_n": scale_from_fraction(head_dim**0.5)}
            options |= norm | {"head_gains": True, "q_rows": heads * head_dim}
        # Code, scale and end of each element, a token.
        words = []
        for token, y in enumerate(self.elements(accs, options)):
            table = [(F.encode(self.random.getrandbits(1), self.random.randint(0, 1024), -10),
                      F.encode(self.random.getrandbits(1), self.random.randint(0, 1024), -10)) for _ in range(head_dim // 2)]
            dut.rope_token.value = self.tokens[token]
            await self.pulse("rope_start")
            await self.rope.send_all([pack(TURN, cos=c, sin=s) for c, s in table])
            factors = {}
            for first in range(0, rotated, head_dim) if head_gains else ():
                head = y[first:first + head_dim]
                factors[first] = inv_rms(sum(map(square, head)), **norm)
                y[first:first + head_dim] = map(F.mul, head, gains[first >= heads * head_dim])
            for i in range(0, rotated, 2):
                y[i:i + 2] = rope(y[i], y[i + 1], *table[i % head_dim // 2])
            words.append([])
            for first in range(0, n, head_dim):
                head = y[first:first + head_dim]
                peak = from_float(max(1, *(v & 0x7FFF for v in head)))
                scale = scale_mul(peak, C127)
                scale = scale_mul(scale, factors[first]) if first in factors else scale
                label = {"scale": scale, "token": self.tokens[token], "head": first // head_dim}
                words[-1] += [pack(LAYOUTS.head_codes, code=quantise(v, recip127(peak)), last=i == head_dim - 1, **label)
                              for i, v in enumerate(head)]
        expected = [w for first in range(0, n, tile) for mine in words for w in mine[first:first + tile]]
        task = cocotb.start_soon(self.heads.recv_n(len(expected)))
        cycles = await self.run_pass(Epilogue.QKV, accs, rope_rows=rotated, tile=tile, **options)
        assert await task == expected
        assert [v & 0xFF for v in self.seen] == [unpack(LAYOUTS.head_codes, w)["code"] & 0xFF for w in words[-1]]
        self.cases += len(expected)
        return cycles
