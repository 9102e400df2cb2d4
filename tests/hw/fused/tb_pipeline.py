# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The fused pipeline: passes of accumulators and quantise passes against the scalar specification."""

import cocotb
from cocotb.triggers import FallingEdge, Timer

from hw.fused.pipeline import FusedPipeline
from sim.cocotb_streams import PERIOD_NS, StreamSink, StreamSource, report, report_shares, reset, rng
from sim.testbench import Bench
from tellme.spec.activation import activation, rope
from tellme.spec.formats import BINARY16 as F
from tellme.spec.program import Epilogue
from tellme.spec.quantise import dequantise, quantise, square
from tellme.spec.scale import C127, Scale, from_float, quantise_scales, recip127, scale_from_fraction, scale_mul

BENCHES = [Bench(name="dim128", build=lambda: FusedPipeline(max_dim=128, max_cols=384, max_head_dim=64))]
MASK36 = (1 << 36) - 1


class Model:
    """What the memories and registers hold."""

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
    def __init__(self, dut, *, idle=0.0, stall=0.0):
        self.dut = dut
        self.model = Model()
        self.acc = StreamSource(dut, "acc", idle=idle, rng=rng("acc"))
        self.quant = StreamSource(dut, "quant")
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
        for name in ("acc__valid", "quant__valid", "gain_load__valid", "rope_load__valid", "clear", "gain_start",
                     "rope_start", "codes__ready", "heads__ready", "use_d", "dest_a", "stats_gain", "act_exp",
                     "act_relu2", "epilogue", "rope_rows"):
            getattr(dut, name).value = 0
        dut.head_dim.value = 16
        await reset(dut)
        cocotb.start_soon(self.watch())
        return self

    async def watch(self):
        cycle = 0
        while True:
            # Just before the rising edge, when the sinks' readys are set.
            await Timer(PERIOD_NS // 2 - 1, "ns")
            value = int(self.dut.monitor.value)
            cycle += 1
            if value & 1:
                self.seen.append(value >> 1)
                self.times.append(cycle)
            self.nonfinite |= bool(self.dut.nonfinite.value)
            await FallingEdge(self.dut.clk)

    async def pulse(self, name):
        getattr(self.dut, name).value = 1
        await FallingEdge(self.dut.clk)
        getattr(self.dut, name).value = 0

    async def load_gains(self, n, *, a=False):
        """Gains of the vector that a pass with these settings writes."""
        gains = [F.encode(0, self.random.randint(512, 1535), -10) for _ in range(n)]
        self.model.gains[a] = gains
        self.dut.epilogue.value = int(Epilogue.STORE)
        self.dut.dest_a.value = int(a)
        await FallingEdge(self.dut.clk)
        await self.pulse("gain_start")
        await self.gain.send_all([sum(g << 16 * i for i, g in enumerate(gains[at:at + 4])) for at in range(0, n, 4)])

    def accs(self, n, exp=-20):
        return ([self.random.randint(-3000, 3000) for _ in range(n)],
                [Scale(self.random.randint(1024, 2047), exp) for _ in range(n)])

    async def run_pass(self, epilogue, accs, scales, *, dest_a=False, use_d=False, gain=False, relu2=False, act_exp=0):
        """One pass; the cycles from the first accumulator to done."""
        dut = self.dut
        for name, value in (("epilogue", epilogue), ("dest_a", dest_a), ("use_d", use_d), ("stats_gain", gain),
                            ("act_relu2", relu2), ("act_exp", act_exp & 0xFF)):
            getattr(dut, name).value = int(value)
        self.seen.clear()
        self.times.clear()
        await self.pulse("clear")
        payloads = [(a & MASK36) | s.pack() << 36 | (i == len(accs) - 1) << 55
                    for i, (a, s) in enumerate(zip(accs, scales, strict=True))]
        task = cocotb.start_soon(self.acc.send_all(payloads))
        cycles = 0
        while not dut.done.value:
            await FallingEdge(dut.clk)
            cycles += 1
        await task
        await FallingEdge(dut.clk)
        return cycles

    async def store(self, n, **options):
        accs, scales = self.accs(n)
        vector = self.model.elements(accs, scales, options.get("use_d", False))
        if options.get("dest_a"):
            self.model.a = vector
        else:
            self.model.x = vector
        self.model.statistics(vector, options.get("gain"), a=options.get("dest_a", False))
        cycles = await self.run_pass(Epilogue.STORE, accs, scales, **options)
        self.check(vector)
        return cycles

    async def residual(self, **options):
        accs, scales = self.accs(len(self.model.x))
        y = self.model.elements(accs, scales, options.get("use_d", False))
        self.model.x = [F.add(x, v) for x, v in zip(self.model.x, y, strict=True)]
        self.model.statistics(self.model.x, options.get("gain"))
        await self.run_pass(Epilogue.RESIDUAL, accs, scales, **options)
        self.check(self.model.x)

    async def act(self, n, **options):
        accs, scales = self.accs(2 * n)
        y = self.model.elements(accs, scales, options.get("use_d", False))
        self.model.a = [activation(g, u, relu2=options.get("relu2", False), act_exp=options.get("act_exp", 0))
                        for g, u in zip(y[0::2], y[1::2], strict=True)]
        self.model.statistics(self.model.a, options.get("gain"), a=True)
        await self.run_pass(Epilogue.ACT, accs, scales, **options)
        self.check(self.model.a)

    def check(self, vector):
        assert self.seen == vector
        self.cases += len(vector)

    async def quantised(self, *, src_a=False, gain=False, norm=True, meanwhile=0):
        """A quantise pass; the cycles from request to last code.

        ``meanwhile``: from the first code on the next pass is prepared as the command processor does, with that many
        gains for the other vector.
        """
        model, dut = self.model, self.dut
        n = len(model.a if src_a else model.x)
        n_eps, sqrt_n = (round(n * 1e-5 * 2**32), scale_from_fraction(n**0.5)) if norm else (0, Scale(0, 0))
        expected = model.quantise(src_a, gain, norm, n_eps, sqrt_n)
        await self.quant.send(src_a | gain << 1 | norm << 2 | n << 3 | n_eps << 16 | sqrt_n.pack() << 48)
        task = cocotb.start_soon(self.codes.recv_n(n))
        if meanwhile:
            while not dut.codes__valid.value:
                await FallingEdge(dut.clk)
            await self.load_gains(meanwhile, a=not src_a)
            await self.pulse("clear")
        cycles = 0
        while not task.done():
            await FallingEdge(dut.clk)
            cycles += 1
        assert task.result() == [c & 0xFF for c in expected]
        assert int(dut.d.value) == model.d.pack()
        self.cases += n
        return cycles

    async def qkv(self, heads, kv_heads, head_dim):
        dut = self.dut
        dut.head_dim.value = head_dim
        rotated = (heads + kv_heads) * head_dim
        dut.rope_rows.value = rotated
        table = [(F.encode(self.random.getrandbits(1), self.random.randint(0, 1024), -10),
                  F.encode(self.random.getrandbits(1), self.random.randint(0, 1024), -10)) for _ in range(head_dim // 2)]
        await self.pulse("rope_start")
        await self.rope.send_all([c | s << 16 for c, s in table])
        n = (heads + 2 * kv_heads) * head_dim
        accs, scales = self.accs(n)
        y = self.model.elements(accs, scales, False)
        for i in range(0, rotated, 2):
            c, s = table[i % head_dim // 2]
            y[i:i + 2] = rope(y[i], y[i + 1], c, s)
        expected = []
        for first in range(0, n, head_dim):
            head = y[first:first + head_dim]
            peak = from_float(max(1, *(v & 0x7FFF for v in head)))
            scale = scale_mul(peak, C127).pack()
            expected += [(quantise(v, recip127(peak)) & 0xFF) | scale << 8 | (i == head_dim - 1) << 27
                         for i, v in enumerate(head)]
        task = cocotb.start_soon(self.heads.recv_n(n))
        cycles = await self.run_pass(Epilogue.QKV, accs, scales)
        assert await task == expected
        assert [v & 0xFF for v in self.seen] == [e & 0xFF for e in expected]
        self.cases += n
        return cycles


async def everything(dut, **options):
    h = await Harness(dut, **options).bring_up()
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
async def stalls_10(dut):
    await everything(dut, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await everything(dut, idle=0.9, stall=0.9)


@cocotb.test()
async def gains_come_in_while_others_are_in_use(dut):
    """A quantise pass goes on undisturbed while the next pass clears the statistics and loads its own norm's gains."""
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
    h = await Harness(dut).bring_up()
    n = 128
    await h.store(n)
    assert h.times[-1] - h.times[0] == n - 1
    # 24 cycles at most for 1 / rms, and the way of an element.
    assert await h.quantised() <= n + 24 + 24
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
async def infinity_raises_nonfinite(dut):
    h = await Harness(dut).bring_up()
    await h.run_pass(Epilogue.STORE, [1, 1 << 30, 1], [Scale(2047, 0)] * 3)
    assert h.nonfinite and h.seen[1] == F.inf
