# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Norms behind linears in the fused pipeline: codes that go back as accumulators, q, k and v in parts, and X quantised again."""

import cocotb
from cocotb.triggers import FallingEdge
from pipeline_harness import LAYOUTS, TOKENS, TURN, Harness, bench

from sim.cocotb_streams import report, report_shares, rng
from tellme.spec.activation import rope
from tellme.spec.formats import BINARY16 as F
from tellme.spec.program import Epilogue
from tellme.spec.quantise import NORM_FRAC, dequantise, quantise
from tellme.spec.scale import C127, Scale, from_float, recip127, scale_from_fraction, scale_mul
from tests.hw.layouts import pack, unpack

#: A pipeline alone, and the second of two pipelines with several tokens.
NO_BOARD = "no board has norms behind linears; top-tiny has them for one token"
BENCHES = [bench("dim128", [0], planes=6, norms=True, nightly=NO_BOARD),
           bench("tokens3", range(1, 6, 2), chunk=6, planes=6, norms=True, nightly=NO_BOARD)]
#: Query heads, KV heads, elements of a head, and elements of X.
SHAPES = ((4, 2, 16, 60), (1, 1, 32, 44), (3, 1, 24, 92), (2, 2, 64, 20), (5, 1, 40, 128))
WORTH = Scale(1024, -10 - NORM_FRAC)


class NormHarness(Harness):
    """Beside the harness's passes those of norms behind linears."""

    async def norm(self, epilogue, *, gain=True, next_gain=0, **settings):
        """Quantise A, and take the codes as accumulators; the elements of each token, and the cycles from the first code to the
        end.  ``next_gain``: so many gains of X are loaded from the first code on."""
        dut, n = self.dut, len(self.models[0].a)
        n_eps, sqrt_n = round(n * 1e-5 * 2**32), scale_from_fraction(n**0.5)
        codes = [model.quantise(True, gain, True, n_eps, sqrt_n, frac=NORM_FRAC) for model in self.models]
        self.most = max(self.most, *(abs(code) for mine in codes for code in mine))
        elements = [[dequantise(code, scale_mul(WORTH, model.d)) for code in mine]
                    for model, mine in zip(self.models, codes, strict=True)]
        self.settings(**self.any_settings(), n_eps=n_eps, sqrt_n=sqrt_n)
        await self.quant.send(pack(LAYOUTS.quant_args, src_a=True, gain=gain, norm=True, n=n, tokens=len(self.models), wide=True))
        for _ in range(2_000):
            if dut.waiting.value:
                break
            await FallingEdge(dut.clk)
        assert dut.waiting.value, "no code comes"
        if next_gain:
            await self.load_gains(next_gain)
        self.settings(epilogue=epilogue, use_d=True, length=n, stats_gain=next_gain > 0, **settings)
        self.seen.clear()
        await self.pulse("control__clear")
        dut.from_codes.value = 1
        cycles = 0
        while not dut.control__done.value:
            await FallingEdge(dut.clk)
            cycles += 1
            assert cycles < 20_000, "the pass has no end"
        dut.from_codes.value = 0
        await FallingEdge(dut.clk)
        self.cases += len(self.models) * n
        return elements, cycles

    async def onto_x(self, *, gain=True, next_gain=0):
        """A norm whose elements are added to X."""
        elements, cycles = await self.norm(Epilogue.RESIDUAL, gain=gain, next_gain=next_gain)
        for model, y in zip(self.models, elements, strict=True):
            model.x = [F.add(x, v) for x, v in zip(model.x, y, strict=True)]
            model.statistics(model.x, next_gain > 0)
        assert self.seen == self.models[-1].x
        return cycles

    async def turns(self, head_dim):
        """RoPE rows of each token."""
        self.shape(head_dim)
        self.tables = []
        for token in self.tokens:
            self.tables.append([tuple(F.encode(self.random.getrandbits(1), self.random.randint(0, 1024), -10) for _ in range(2))
                                for _ in range(head_dim // 2)])
            self.dut.rope_token.value = token
            await self.pulse("rope_start")
            await self.rope.send_all([pack(TURN, cos=c, sin=s) for c, s in self.tables[-1]])

    def words(self, elements, first, head_dim, *, turned):
        """What leaves on ``heads`` for the elements of each token, whose heads are numbered from ``first`` on."""
        out = []
        for token, y in enumerate(elements):
            y = list(y)
            for i in range(0, len(y) if turned else 0, 2):
                y[i:i + 2] = rope(y[i], y[i + 1], *self.tables[token][i % head_dim // 2])
            out.append([])
            for at in range(0, len(y), head_dim):
                head = y[at:at + head_dim]
                peak = from_float(max(1, *(v & 0x7FFF for v in head)))
                label = {"scale": scale_mul(peak, C127), "token": self.tokens[token], "head": first + at // head_dim}
                out[-1] += [pack(LAYOUTS.head_codes, code=quantise(v, recip127(peak)), last=i == head_dim - 1, **label)
                            for i, v in enumerate(head)]
        return out

    async def part(self, first_row, rope_rows, head_dim, *, gain=True):
        """A norm whose elements are q's, or k's, and leave as heads, all of a token together."""
        n = len(self.models[0].a)
        task = cocotb.start_soon(self.heads.recv_n(n * len(self.models)))
        elements, cycles = await self.norm(Epilogue.QKV, gain=gain, first_row=first_row, rope_rows=rope_rows)
        words = self.words(elements, first_row // head_dim, head_dim, turned=True)
        assert await task == sum(words, [])
        assert [v & 0xFF for v in self.seen] == [unpack(LAYOUTS.head_codes, w)["code"] & 0xFF for w in words[-1]]
        return cycles

    async def values(self, first_row, n, head_dim):
        """A pass of v's rows, numbered from ``first_row`` on."""
        tile = max(1, self.tile // head_dim) * head_dim
        accs = self.accs(n)
        words = self.words(self.elements(accs, {"use_d": True}), first_row // head_dim, head_dim, turned=False)
        task = cocotb.start_soon(self.heads.recv_n(n * len(self.models)))
        await self.run_pass(Epilogue.QKV, accs, use_d=True, rope_rows=first_row, first_row=first_row, tile=tile)
        assert await task == [w for at in range(0, n, tile) for mine in words for w in mine[at:at + tile]]
        self.cases += n * len(self.models)


async def layers(dut, shapes=SHAPES, **options):
    """The passes of a layer with norms behind its linears, then of one without, for each shape."""
    dut.from_codes.value = 0
    h = NormHarness(dut, **options)
    h.most = 0
    await h.bring_up()
    for heads, kv_heads, head_dim, dim in shapes:
        q, k = heads * head_dim, kv_heads * head_dim
        gains = h.random.getrandbits(1)
        await h.turns(head_dim)
        await h.store(dim)
        # q and k through norms, then v: X is quantised with the same scales each time.
        for number, (first, n) in enumerate(((0, q), (q, k))):
            await h.quantised(norm=False, again=number > 0)
            if gains:
                await h.load_gains(n, a=True)
            await h.store(n, dest_a=True, gain=gains, use_d=True, bias=h.random.getrandbits(1))
            await h.part(first, q + k, head_dim, gain=gains)
        await h.quantised(norm=False, again=True)
        await h.values(q + k, k, head_dim)
        # Attention's outputs, what o makes of them, and the norm behind it; the next norm's gains are X's.
        await h.store(q, dest_a=True)
        await h.quantised(src_a=True, norm=False)
        await h.load_gains(dim, a=True)
        await h.store(dim, dest_a=True, gain=True, use_d=True)
        cycles = await h.onto_x()
        assert options or cycles < 2 * dim * len(TOKENS) + 80, "more than two cycles an element"
        await h.quantised(norm=False)
        await h.act(92, use_d=True)
        await h.quantised(src_a=True, norm=False)
        await h.store(dim, dest_a=True, use_d=True)
        await h.onto_x(gain=False, next_gain=dim)
        # A layer without them.
        await h.quantised(gain=True)
        await h.qkv(heads, kv_heads, head_dim, use_d=True)
        await h.store(92, dest_a=True)
        await h.quantised(src_a=True)
        await h.residual(use_d=True)
        await h.quantised()
    assert not h.nonfinite and 2000 < h.most <= 2047
    if options:
        report_shares(acc_valid=h.acc.low_share, codes_ready=h.codes.low_share)
    report(cases=h.cases)


@cocotb.test()
async def all_passes(dut):
    await layers(dut)


@cocotb.test()
async def stalls_10(dut):
    await layers(dut, SHAPES[:2], idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await layers(dut, SHAPES[1:2], idle=0.9, stall=0.9)


@cocotb.test()
async def fewer_tokens_than_there_is_room_for(dut):
    random = rng("tokens")
    await layers(dut, random.sample(SHAPES, 1), tokens=1)
