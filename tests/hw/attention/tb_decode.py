# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Decode attention against the scalar specification: codes in, K and V rows and sums out."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.attention.decode import DecodeAttention
from hw.attention.scan import TOTAL_BITS
from hw.lib.types import KvScales
from sim.cocotb_streams import StreamSink, StreamSource, report, report_point, report_shares, reset, rng
from sim.testbench import Bench
from tellme.spec.attention import c_att, out_scale, score, softmax
from tellme.spec.scale import Scale, pack16, scale_mul, unpack16
from tests.hw.layouts import accumulator, layouts_of, pack, words_of
from tests.hw.memory_model import ReadModel, WriteModel


def layouts(context, head_dim, group, kv_heads):
    return layouts_of(max_context=context, max_head_dim=head_dim, max_group=group, max_kv_heads=kv_heads)


#: Boards decode with the compact unit, or with that of prefill.
NO_BOARD = "no board is built with it: compact has the same tests, and tests/board runs models on the core of ulx3s-85f-l2"


def bench(name, *tests, context=128, head_dim=64, group=4, kv_heads=16, compact=False):
    sizes = {"CONTEXT": context, "HEAD_DIM": head_dim, "GROUP": group, "KV_HEADS": kv_heads}
    return Bench(name=name, tests=tests, nightly="" if compact else NO_BOARD,
                 env={n: str(v) for n, v in sizes.items()} | ({"COMPACT": "1"} if compact else {}),
                 build=lambda: DecodeAttention(layouts(*sizes.values()), compact=compact))


POINTS = ("limit: the last position of the context", "limit: the longest heads in the largest group",
          "limit: as many KV heads and query heads as the unit holds")
ALL = ("shapes", "most_heads", "saturated_scores", "v_scale_zero", "stalls_10", "stalls_90", "memory_rate")
BENCHES = [bench("context128", *ALL), bench("context512", "late_position", context=512), bench("compact", *ALL, compact=True),
           bench("compact_group2", "late_position", "stalls_10", "groups_of_two", context=512, head_dim=32, group=2, kv_heads=8,
                 compact=True)]
CONTEXT, HEAD_DIM, GROUP, KV_HEADS = (int(os.environ.get(n, d)) for n, d in (
    ("CONTEXT", "128"), ("HEAD_DIM", "64"), ("GROUP", "4"), ("KV_HEADS", "16")))
COMPACT = bool(os.environ.get("COMPACT"))
LAYOUTS = layouts(CONTEXT, HEAD_DIM, GROUP, KV_HEADS)
K_BASE, V_BASE, S_BASE = 0x10000, 0x40000, 0x70000
#: Cycles until memory answers a request, and rests behind a burst that was written.
LATENCY, REST = 8, 3
#: Cycles until the last K word's score is stored, the last exponential counted, the last weight stored, the last V word's sum.
PAUSES = (25, 13, 13, 6)
#: Of a KV head: of its three requests, behind the scales' last word, and to the next head.  Of a head: its total, the reciprocal
#: of which is its scale.
REQUESTS, SCALE = 5, 9


class Case:
    """A cache, a token's heads, and the expected output."""

    def __init__(self, random, *, heads, kv_heads, head_dim, position, scale=None, value_scale=None, extreme=False):
        self.random = random
        self.heads, self.kv_heads, self.head_dim, self.position = heads, kv_heads, head_dim, position
        self.group = heads // kv_heads
        draw = (lambda: random.choice((-128, 127))) if extreme else (lambda: random.randint(-127, 127))

        def make_scale():
            return Scale(random.randint(1024, 2047), random.randint(-19, -15)) if scale is None else scale

        self.q = [[draw() for _ in range(head_dim)] for _ in range(heads)]
        self.q_scales = [make_scale() for _ in range(heads)]
        rows = range(position + 1)
        self.k = [[[draw() for _ in range(head_dim)] for _ in rows] for _ in range(kv_heads)]
        self.v = [[[draw() for _ in range(head_dim)] for _ in rows] for _ in range(kv_heads)]
        self.k_scales = [[make_scale() for _ in rows] for _ in range(kv_heads)]
        self.v_scales = [[value_scale or make_scale() for _ in rows] for _ in range(kv_heads)]
        self.kv_stride, self.s_stride = CONTEXT * head_dim // 4, CONTEXT

    def memory(self):
        """The cache but for the token's own rows."""
        words = {}
        for h in range(self.kv_heads):
            for p in range(self.position):
                for base, rows in ((K_BASE, self.k), (V_BASE, self.v)):
                    at = base + h * self.kv_stride + p * self.head_dim // 4
                    words.update((at + i, w) for i, w in enumerate(words_of(rows[h][p])))
                words[S_BASE + h * self.s_stride + p] = self.scale_word(h, p)
        return words

    def scale_word(self, h, p):
        return pack(KvScales, k=pack16(self.k_scales[h][p]), v=pack16(self.v_scales[h][p]))

    def own_rows(self):
        words = {}
        p = self.position
        for h in range(self.kv_heads):
            for base, rows in ((K_BASE, self.k), (V_BASE, self.v)):
                at = base + h * self.kv_stride + p * self.head_dim // 4
                words.update((at + i, w) for i, w in enumerate(words_of(rows[h][p])))
            words[S_BASE + h * self.s_stride + p] = self.scale_word(h, p)
        return words

    def codes(self):
        """The heads stream: q, k, v.  The heads are numbered by their order: what they say of their numbers is anything."""
        out, bits = [], {name: LAYOUTS.head_codes[name].width for name in ("token", "head")}
        p = self.position
        heads = [*zip(self.q, self.q_scales, strict=True), *((r[p], s[p]) for r, s in zip(self.k, self.k_scales, strict=True)),
                 *((r[p], s[p]) for r, s in zip(self.v, self.v_scales, strict=True))]
        for row, scale in heads:
            numbers = {name: self.random.getrandbits(width) for name, width in bits.items()}
            for i, code in enumerate(row):
                out.append(pack(LAYOUTS.head_codes, code=code, scale=scale, last=i == len(row) - 1, **numbers))
        return out

    def expected(self):
        out = []
        self.totals = []
        for h in range(self.heads):
            kv = h // self.group
            q_scale = scale_mul(self.q_scales[h], c_att(self.head_dim))
            scores = []
            for row, scale in zip(self.k[kv], self.k_scales[kv], strict=True):
                dot = sum(a * b for a, b in zip(self.q[h], row, strict=True))
                scores.append(score(dot, scale_mul(q_scale, unpack16(pack16(scale)))))
            result = softmax(scores, [unpack16(pack16(s)) for s in self.v_scales[kv]])
            scale = out_scale(result.total, result.exponent)
            for d in range(self.head_dim):
                acc = sum(w * row[d] for w, row in zip(result.weights, self.v[kv], strict=True))
                out.append(accumulator(LAYOUTS, acc, scale, 0, h * self.head_dim + d))
            self.totals.append(result.total)
        return out

    def cycles_in(self):
        """Cycles until the last code, for a memory that takes words at once and rests behind each burst: a code a cycle, one more
        for the request of a K or V head, two more for a word of scales, of which the last one follows."""
        rows, scales = 2 * self.kv_heads, self.kv_heads - 1
        return (self.heads + rows) * self.head_dim + rows + 2 * scales + REST * (rows + scales - 1)

    def cycles(self):
        """Cycles from the start to the last sum, for a memory that answers a request LATENCY cycles later and then never waits.
        The first request is two cycles behind the end of the writes."""
        # Words, the pauses behind them, two scans; V's words come while the scans go on.
        keys, words = self.position + 1, self.head_dim // 4
        row_words = 2 * keys * words * (self.group if COMPACT else 1)
        head = keys + row_words + 2 * self.group * keys + sum(PAUSES) + 2 * LATENCY + REQUESTS
        # A head's total is shifted by four places or by one in a step; then come its scale and its sums.
        zeros = [max(LAYOUTS.widths.exp_sum_bits, TOTAL_BITS) - total.bit_length() for total in self.totals]
        sums = sum(zero // 4 + zero % 4 + SCALE + self.head_dim for zero in zeros)
        return REST + 2 + self.kv_heads * head + sums


async def run(dut, cases, *, stall=0.0, pause=None):
    """All cases on one unit; (cycles busy of the last, read words of the last)."""
    for name in ("control__begin", "control__start", "heads__valid", "read__data__valid"):
        getattr(dut, name).value = 0
    await reset(dut)
    heads = StreamSource(dut, "heads", idle=stall, rng=rng("heads"))
    sink = StreamSink(dut, "acc", stall=stall, rng=rng("acc"))
    memory: dict[int, int] = {}
    hold = 2 if stall else 0
    reads = ReadModel(dut, "read", memory, request=LAYOUTS.memory_request, latency=LATENCY, pause=pause, hold=hold)
    writes = WriteModel(dut, "write", memory, request=LAYOUTS.memory_request, stall=stall, rest=REST, hold=hold,
                        rng=rng("write"))
    cocotb.start_soon(reads.run())
    cocotb.start_soon(writes.run())
    busy = 0
    for case in cases:
        memory.clear()
        memory.update(case.memory())
        dut.shape.value = pack(LAYOUTS.model_shape, heads=case.heads, kv_heads=case.kv_heads, head_dim=case.head_dim,
                               group=case.group, c_att=c_att(case.head_dim), kv_stride=case.kv_stride, s_stride=case.s_stride)
        # A token is alone, whatever the size of its chunk is.
        dut.control__args.value = pack(LAYOUTS.attention_args, position=case.position, k_base=K_BASE, v_base=V_BASE,
                                       s_base=S_BASE, chunk=case.random.getrandbits(1))
        for _ in range(3):
            await FallingEdge(dut.clk)
        dut.control__begin.value = 1
        await FallingEdge(dut.clk)
        dut.control__begin.value = 0
        before, began = writes.count, heads.cycles
        await heads.send_all(case.codes())
        if not stall:
            assert heads.cycles - began == case.cycles_in(), (case.heads, case.kv_heads, case.head_dim, heads.cycles - began)
        for _ in range(3):
            await FallingEdge(dut.clk)
        reads.count = 0
        dut.control__start.value = 1
        await FallingEdge(dut.clk)
        dut.control__start.value = 0
        expected = case.expected()
        task = cocotb.start_soon(sink.recv_n(len(expected)))
        busy = 0
        while not task.done():
            await FallingEdge(dut.clk)
            busy += 1
        assert task.result() == expected, (case.heads, case.kv_heads, case.head_dim, case.position)
        if not stall and not pause:
            assert busy == case.cycles(), (case.heads, case.kv_heads, case.head_dim, case.position, busy, case.cycles())
        own = case.own_rows()
        assert writes.count - before == len(own)
        assert {a: memory[a] for a in own} == own
        for _ in range(3):
            await FallingEdge(dut.clk)
        assert not dut.busy.value
    report_shares(acc_ready=sink.low_share, heads_valid=heads.low_share)
    report(cases=sum(c.heads * c.head_dim for c in cases))
    return busy, reads.count


@cocotb.test()
async def shapes(dut):
    random = rng("shapes")
    shapes = [(1, 1, 16), (4, 1, 16), (2, 2, 32), (8, 4, 32), (3, 3, 24), (4, 2, 64)]
    await run(dut, [Case(random, heads=h, kv_heads=kv, head_dim=d, position=p) for h, kv, d in shapes
                    for p in (0, 1, 15, 16, 17)])
    if HEAD_DIM == 64:
        await run(dut, [Case(random, heads=GROUP, kv_heads=1, head_dim=HEAD_DIM, position=7)])
        report_point("limit: the longest heads in the largest group")


@cocotb.test()
async def most_heads(dut):
    """All query heads and KV heads that the unit holds."""
    assert LAYOUTS.widths.heads == KV_HEADS * GROUP
    await run(dut, [Case(rng("most"), heads=KV_HEADS * GROUP, kv_heads=KV_HEADS, head_dim=16, position=p) for p in (0, 2)])
    report_point("limit: as many KV heads and query heads as the unit holds")


@cocotb.test()
async def saturated_scores(dut):
    """Scores that saturate, up to products that move by more places than a score has bits, and down to products of which nothing
    is left."""
    random = rng("extreme")
    cases = [Case(random, heads=4, kv_heads=1, head_dim=64, position=20, extreme=True, scale=Scale(2047, e),
                  value_scale=Scale(2047, min(e, -8))) for e in (12, -8, -12, -14, -20, -30)]
    # The largest dots of the longest heads, whose scores do not saturate.
    largest = Case(random, heads=4, kv_heads=1, head_dim=64, position=5)
    largest.q = [[-128] * 64 for _ in largest.q]
    largest.k[0][1], largest.k[0][4] = [-128] * 64, [127] * 64
    await run(dut, [*cases, largest])


@cocotb.test()
async def v_scale_zero(dut):
    random = rng("zero")
    case = Case(random, heads=2, kv_heads=1, head_dim=16, position=9)
    case.v_scales[0][3] = case.v_scales[0][9] = Scale(1500, -100)
    nothing = Case(random, heads=2, kv_heads=1, head_dim=16, position=4, value_scale=Scale(1500, -100))
    await run(dut, [case, nothing])


@cocotb.test()
async def stalls_10(dut):
    random = rng("stalls")
    await run(dut, [Case(random, heads=4, kv_heads=2, head_dim=32, position=p) for p in (0, 33)], stall=0.1,
              pause=lambda: int(random.random() < 0.1))


@cocotb.test()
async def stalls_90(dut):
    random = rng("stalls")
    await run(dut, [Case(random, heads=4, kv_heads=2, head_dim=16, position=5)], stall=0.9,
              pause=lambda: random.randint(0, 20))


@cocotb.test()
async def groups_of_two(dut):
    """One and two heads a group, one to three KV heads."""
    random = rng("two")
    await run(dut, [Case(random, heads=h, kv_heads=kv, head_dim=d, position=p)
                    for h, kv, d in ((1, 1, 16), (2, 1, 24), (4, 2, 32), (6, 3, 16)) for p in (0, 5, 19)])


@cocotb.test()
async def late_position(dut):
    random = rng("late")
    await run(dut, [Case(random, heads=2, kv_heads=1, head_dim=16, position=p) for p in (63, 511)])
    assert CONTEXT == 512
    report_point("limit: the last position of the context")


@cocotb.test()
async def memory_rate(dut):
    """K and V are read once for all heads of a group, a word per cycle (compact: a head of the group per cycle).  Two scans and
    the sums' way out come on top."""
    n, group, head_dim = 128, 4, 64
    case = Case(rng("rate"), heads=group, kv_heads=1, head_dim=head_dim, position=n - 1)
    cycles, words = await run(dut, [case])
    assert words == n * (2 * head_dim // 4 + 1)
    scans = 2 * group * n
    assert cycles <= words * (group if COMPACT else 1) + scans + group * (head_dim + 30) + 120
