# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Attention of a chunk against specification and golden: codes in, K and V rows out, sums of every token and head."""

import os
from itertools import cycle

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from hw.attention.prefill import PrefillAttention
from hw.attention.scatter import ChunkHeads
from hw.lib.types import KvScales
from sim.cocotb_streams import StreamSink, StreamSource, report, report_note, report_point, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.golden.attention import attend
from tellme.golden.elementwise import dequantise
from tellme.golden.scales import Scales
from tellme.spec.attention import c_att, out_scale, score, softmax
from tellme.spec.scale import Scale, pack16, scale_mul, unpack16
from tests.hw.layouts import accumulators, fields, layouts_of, pack, words_of
from tests.hw.memory_model import QueuedReadModel, ReadModel, WriteModel


def layouts(tokens, context, bits, head_dim, group):
    memory = {"ddr3_chip": "MT41K64M16", "lanes": 2 * tokens, "max_kv_heads": 32} if bits == 64 else {}
    return layouts_of(chunk=tokens, max_head_dim=head_dim, max_group=group, max_context=context, **memory)


def bench(name, *tests, pes, tokens, exp_units=1, context=128, bits=32, head_dim=64, group=4, nightly=""):
    sizes = {"PES": str(pes), "TOKENS": str(tokens), "EXP_UNITS": str(exp_units), "CONTEXT": str(context), "BITS": str(bits),
             "HEAD_DIM": str(head_dim), "GROUP": str(group)}
    return Bench(name=name, env=sizes, tests=tests, nightly=nightly,
                 build=lambda: PrefillAttention(layouts(tokens, context, bits, head_dim, group), pes=pes, exp_units=exp_units))


CHUNKS = ("shapes", "every_chunk", "saturated_scores", "flat_and_peaked", "v_scale_zero", "heads_rate", "stalls_10",
          "stalls_90", "late_row_ends", "memory_rate", "near_context")
POINTS = ("limit: the last position of the context", "limit: the longest heads", "limit: the largest group",
          "limit: chunks of one token and of all")
NO_BOARD = "no board is built with these numbers; CI has those of ulx3s-85f, and five tokens on four PEs in words of 64 bits"
BENCHES = [bench("pes4-token1", *CHUNKS, pes=4, tokens=1, nightly=NO_BOARD),
           bench("pes4-tokens5", "shapes", "every_chunk", "stalls_90", "memory_rate", pes=4, tokens=5, nightly=NO_BOARD),
           bench("pes8-tokens8", "shapes", "every_chunk", "heads_rate", "stalls_10", "late_row_ends",
                 "memory_rate", pes=8, tokens=8, nightly=NO_BOARD),
           bench("pes16-tokens16", *CHUNKS, pes=16, tokens=16, exp_units=2),
           bench("pes16-tokens16-unit1", "shapes", "stalls_90", "late_row_ends", "memory_rate", pes=16, tokens=16,
                 nightly=NO_BOARD),
           bench("pes16-context1024", "late_position", context=1024, pes=16, tokens=16, exp_units=2,
                 nightly="pes16-tokens16 goes to the end of a shorter context"),
           bench("pes4-tokens5-64bit", "shapes", "late_requests", "odd_scales", "saturated_scores", "v_scale_zero", "stalls_90",
                 "late_row_ends", "memory_rate", "near_context", pes=4, tokens=5, bits=64, head_dim=128, group=8),
           bench("pes8-tokens2-64bit", "shapes", "odd_scales", "every_chunk", "late_row_ends", "heads_rate", "memory_rate", pes=8,
                 tokens=2, bits=64, head_dim=128, group=8, exp_units=2, nightly=NO_BOARD),
           bench("pes16-tokens8-64bit", *CHUNKS, "odd_scales", pes=16, tokens=8, bits=64, head_dim=128, group=8,
                 nightly=NO_BOARD),
           bench("pes4-context4096-64bit", "late_position", "near_context", context=4096, pes=4, tokens=5, bits=64, head_dim=128,
                 nightly="some thousand keys; CI has the same unit with 128 of them")]
PES, TOKENS, UNITS, CONTEXT, BITS, HEAD_DIM, GROUP = (int(os.environ.get(n, d)) for n, d in (
    ("PES", "16"), ("TOKENS", "16"), ("EXP_UNITS", "2"), ("CONTEXT", "128"), ("BITS", "32"), ("HEAD_DIM", "64"), ("GROUP", "4")))
#: For the constants of its contract.
LAYOUTS = layouts(TOKENS, CONTEXT, BITS, HEAD_DIM, GROUP)
#: int8 values of a word of K and V.
LANES = BITS // 8
UNIT = PrefillAttention(LAYOUTS, pes=PES, exp_units=UNITS)
K_BASE, V_BASE, S_BASE = 0x10000, 0x50000, 0x90000


class Case:
    """A cache, a chunk's heads, and the expected output.

    A chunk may be a run of a pass, with ``after`` tokens of the pass after it; ``first`` is its first token's number in the pass.
    """

    def __init__(self, random, *, heads, kv_heads, head_dim, position, chunk, scale=None, value_scale=None, extreme=False,
                 shuffled=False, k_base=K_BASE, v_base=V_BASE, s_base=S_BASE, kv_stride=None, s_stride=CONTEXT, first=0, after=0):
        self.heads, self.kv_heads, self.head_dim, self.position, self.chunk = heads, kv_heads, head_dim, position, chunk
        self.group = heads // kv_heads
        self.name = f"heads {heads}/{kv_heads} of {head_dim}, {chunk} tokens at {position}"
        self.random, self.shuffled = random, shuffled
        self.keys = position + chunk
        generator = np.random.default_rng(random.getrandbits(64))

        def rows(*shape):
            drawn = generator.choice(np.array([-128, 127]), shape) if extreme else generator.integers(-127, 128, shape)
            return drawn.astype(np.int8)

        def make_scale():
            return Scale(random.randint(1024, 2047), random.randint(-19, -15)) if scale is None else scale

        self.q = rows(chunk, heads, head_dim)
        self.k, self.v = rows(kv_heads, self.keys, head_dim), rows(kv_heads, self.keys, head_dim)
        self.q_scales = [[make_scale() for _ in range(heads)] for _ in range(chunk)]
        self.k_scales = [[make_scale() for _ in range(self.keys)] for _ in range(kv_heads)]
        self.v_scales = [[value_scale or make_scale() for _ in range(self.keys)] for _ in range(kv_heads)]
        self.k_base, self.v_base, self.s_base = k_base, v_base, s_base
        self.kv_stride, self.s_stride = kv_stride or CONTEXT * head_dim // 4, s_stride
        self.first, self.after = first, after
        # The rows of a pass's only token are not read back where words have 32 bits.
        self.own = int(chunk == 1 and not first and not after and BITS == 32)

    def scale_range(self, h):
        """The 32-bit words that a KV head's scales and their neighbours in the same words of the memory have."""
        begins, lanes = self.s_base + h * self.s_stride, BITS // 32
        return range(begins // lanes * lanes, -(-(begins + self.keys) // lanes) * lanes)

    def neighbours(self):
        """What lies beside a KV head's scales in their words of the memory, and is no key's."""
        scales = {self.s_base + h * self.s_stride + p for h in range(self.kv_heads) for p in range(self.keys)}
        return {at: self.random.getrandbits(32) for h in range(self.kv_heads) for at in self.scale_range(h) if at not in scales}

    def words(self, first, end):
        """Rows and scales of positions in memory."""
        words = {}
        for h in range(self.kv_heads):
            for p in range(first, end):
                for base, rows in ((self.k_base, self.k), (self.v_base, self.v)):
                    at = base + h * self.kv_stride + p * self.head_dim // 4
                    words.update((at + i, w) for i, w in enumerate(words_of(rows[h][p])))
                scales = {"k": pack16(self.k_scales[h][p]), "v": pack16(self.v_scales[h][p])}
                words[self.s_base + h * self.s_stride + p] = pack(KvScales, scales)
        return words

    def heads_in(self):
        """The heads stream, words of four codes: tiles of some heads, each for all tokens; or heads of tokens in any order."""
        total = self.heads + 2 * self.kv_heads
        tile = self.random.choice((1, 2, total))
        order = [(h, t) for at in range(0, total, tile) for t in range(self.chunk) for h in range(at, min(at + tile, total))]
        if self.shuffled:
            self.random.shuffle(order)
        self.scales_last = order[-1][0] >= self.heads
        return [word for h, t in order for word in self.head_in(h, t)]

    def head_in(self, h, t):
        """The stream's words of a token's head."""
        at, kv = self.position + t, (h - self.heads) % self.kv_heads
        if h < self.heads:
            row, scale = self.q[t][h], self.q_scales[t][h]
        elif h < self.heads + self.kv_heads:
            row, scale = self.k[kv][at], self.k_scales[kv][at]
        else:
            row, scale = self.v[kv][at], self.v_scales[kv][at]
        words = words_of(row)
        return [pack(LAYOUTS.head_words, codes=word, scale=scale, last=i == len(words) - 1, token=self.first + t, head=h)
                for i, word in enumerate(words)]

    def cycles_in(self):
        """Cycles until the last word (scales may follow) by the docstring's formula, for a memory that never waits."""
        words, unit = self.head_dim // 4, ChunkHeads
        heads = self.heads * (unit.QUERY_CYCLES + words) + 2 * self.kv_heads * (unit.KV_CYCLES + words)
        return self.chunk * heads + (self.kv_heads - self.scales_last) * (self.chunk + unit.SCALES_CYCLES)

    def expected(self):
        """(token, index) -> (sum, scale), from the scalar specification."""
        out = {}
        for t in range(self.chunk):
            keys = self.position + t + 1
            for h in range(self.heads):
                kv = h // self.group
                scale = scale_mul(self.q_scales[t][h], c_att(self.head_dim))
                dots = self.k[kv, :keys].astype(np.int64) @ self.q[t, h].astype(np.int64)
                scores = [score(int(d), scale_mul(scale, unpack16(pack16(s))))
                          for d, s in zip(dots, self.k_scales[kv], strict=False)]
                result = softmax(scores, [unpack16(pack16(s)) for s in self.v_scales[kv][:keys]])
                sums = np.array(result.weights, np.int64) @ self.v[kv, :keys].astype(np.int64)
                scale = out_scale(result.total, result.exponent)
                out.update(((t, h * self.head_dim + i), (int(s), scale)) for i, s in enumerate(sums))
        return out

    def golden(self):
        """Outputs (tokens, heads * head_dim) of the golden model."""
        q_scales = [[scale_mul(s, c_att(self.head_dim)) for s in row] for row in self.q_scales]
        stored = [np.array([[pack16(s) for s in row] for row in scales], np.uint16) for scales in (self.k_scales, self.v_scales)]
        scales = Scales(*(np.array([[s[part] for s in row] for row in q_scales], np.int64) for part in (0, 1)))
        return attend(self.q, scales, self.k, self.v, *stored, self.position).reshape(self.chunk, -1)

    def slots(self):
        """(keys, first PE, PEs with those before the first) of each slot."""
        first, end = self.after * self.group, (self.after + self.chunk) * self.group
        return [(self.keys - max(0, at - first) // self.group, max(0, first - at), min(PES, end - at))
                for at in range(first // PES * PES, end, PES)]

    def words_read(self):
        """32-bit words of scales, K and V."""
        rows = self.kv_heads * sum(keys - self.own for keys, *_ in self.slots()) * self.head_dim // 4
        return sum(len(self.scale_range(h)) for h in range(self.kv_heads)), rows, rows

    def words_read_naively(self):
        """The same if each query head of each token fetched its keys and values alone."""
        keys = self.heads * sum(self.position + t + 1 for t in range(self.chunk))
        return keys, keys * self.head_dim // 4, keys * self.head_dim // 4

    def cycles(self):
        """Cycles from the first word to the last sum by the docstring's formula, for a memory that never waits."""
        slot_cycles = UNIT.slot_cycles
        now = drained = 0
        for h in range(self.kv_heads):
            now += len(self.scale_range(h)) * 32 // BITS
            free = 0
            for keys, first, working in self.slots():
                words, row = self.head_dim // LANES, max(self.head_dim // LANES, -(-working // UNITS))
                rows = (keys - 1) * row + words
                v_begins = max(max(now, free) + rows + slot_cycles - 2, drained + UNIT.refill_cycles)
                drained = v_begins + rows + UNIT.drain_cycles + (working - first) * self.head_dim
                # The next slot's first row waits like any other.
                now, free = v_begins + rows + 2, v_begins + keys * row
        return drained


async def run(dut, cases, *, stall=0.0, pause=None, queued=True, rest=3, model=None):
    """All cases on one unit; of each, cycles from its first word to its last sum."""
    for name in ("control__begin", "control__start", "heads__valid", "read__data__valid"):
        getattr(dut, name).value = 0
    await reset(dut)
    heads = StreamSource(dut, "heads", idle=stall, rng=rng("heads"))
    sink = StreamSink(dut, "acc", stall=stall, rng=rng("acc"))
    memory: dict[int, int] = {}
    model = model or (QueuedReadModel if queued else ReadModel)
    hold = 2 if stall else 0
    reads = model(dut, "read", memory, request=LAYOUTS.memory_request, pause=pause, hold=hold)
    writes = WriteModel(dut, "write", memory, request=LAYOUTS.memory_request, stall=stall, rest=rest, hold=hold, rng=rng("write"))
    cocotb.start_soon(reads.run())
    cocotb.start_soon(writes.run())
    taken = []
    for case in cases:
        memory.clear()
        neighbours = case.neighbours()
        memory.update(case.words(0, case.position) | neighbours)
        dut.shape.value = pack(LAYOUTS.model_shape, heads=case.heads, kv_heads=case.kv_heads, head_dim=case.head_dim,
                               group=case.group, c_att=c_att(case.head_dim), kv_stride=case.kv_stride, s_stride=case.s_stride)
        dut.control__args.value = pack(LAYOUTS.attention_args, position=case.position, chunk=case.chunk, k_base=K_BASE,
                                       v_base=V_BASE, s_base=case.s_base)
        for _ in range(3):
            await FallingEdge(dut.clk)
        dut.control__begin.value = 1
        await FallingEdge(dut.clk)
        dut.control__begin.value = 0
        before, began = writes.count, heads.cycles
        await heads.send_all(case.heads_in())
        case.heads_took = heads.cycles - began
        reads.count = 0
        dut.control__start.value = 1
        await FallingEdge(dut.clk)
        dut.control__start.value = 0
        expected = case.expected()
        task = cocotb.start_soon(sink.recv_n(len(expected)))
        # Waiting for the end of the writes does not count as the unit's time.
        while not (reads.count or (dut.read__data__valid.value and dut.read__data__ready.value)):
            await FallingEdge(dut.clk)
        taken.append(0)
        own = case.words(case.position, case.keys)
        assert writes.count - before == len(own), case.name
        want = case.words(0, case.keys) | neighbours
        wrong = [hex(a) for a in {*want, *memory} if memory.get(a) != want.get(a)]
        assert not wrong, (case.name, len(wrong), wrong[:4])
        while not task.done():
            await FallingEdge(dut.clk)
            taken[-1] += 1
        came, found, values = {}, {}, np.zeros((case.chunk, case.heads * case.head_dim), np.float16)
        for acc, scale, token, index in accumulators(LAYOUTS, task.result()):
            assert index > came.get(token, -1), (case.name, "a token's elements come in order")
            came[token] = index
            found[token, index] = (acc, scale)
            values[token, index] = dequantise(np.array([acc]), tuple(np.array([x]) for x in scale))[0]
        assert found.keys() == expected.keys(), case.name
        wrong = [k for k in expected if found[k] != expected[k]]
        assert not wrong, (case.name, len(wrong), wrong[0], found[wrong[0]], expected[wrong[0]])
        assert (values == case.golden()).all(), case.name
        assert reads.count == sum(case.words_read()), (case.name, reads.count)
        for _ in range(3):
            await FallingEdge(dut.clk)
        assert not dut.busy.value, case.name
    report_shares(acc_ready=sink.low_share, heads_valid=heads.low_share)
    report(cases=sum(c.chunk * c.heads * c.head_dim for c in cases))
    return taken


@cocotb.test()
async def shapes(dut):
    random = rng("shapes")
    shapes = [(1, 1, 16), (4, 1, 16), (2, 2, 32), (8, 4, 32), (3, 3, 24), (3, 1, 32), (4, 2, 64), (8, 8, 16)]
    if GROUP == 8:
        shapes = [(1, 1, 16), (2, 2, 96), (4, 2, 128), (8, 1, 16), (3, 3, 24), (6, 1, 32), (5, 1, 40), (14, 2, 16), (32, 32, 16)]
    await run(dut, [Case(random, heads=h, kv_heads=kv, head_dim=d, position=p, chunk=c, shuffled=bool(p & 1))
                    for h, kv, d in shapes
                    for p, c in ((0, TOKENS), (1, random.randint(1, TOKENS)), (0, 1), (random.randint(1, 9), 1),
                                 (random.randint(2, 40), random.randint(1, TOKENS)))])
    assert max(d for *_, d in shapes) == HEAD_DIM and max(h // kv for h, kv, _ in shapes) == GROUP
    report_point("limit: the longest heads")
    report_point("limit: the largest group")
    report_point("limit: chunks of one token and of all")


@cocotb.test()
async def odd_scales(dut):
    """Scales that begin or end in the middle of a word of the memory; what lies beside them there counts nowhere."""
    random = rng("odd")
    await run(dut, [Case(random, heads=3 * g, kv_heads=3, head_dim=16, position=p, chunk=c, s_base=S_BASE + odd, s_stride=stride)
                    for odd, stride in ((1, CONTEXT), (0, CONTEXT + 1), (1, CONTEXT + 1), (0, CONTEXT))
                    for g, p, c in ((1, 0, 1), (1, 1, 1), (4, 4, 2), (2, 7, 2), (1, CONTEXT - 1, 1))])


@cocotb.test()
async def every_chunk(dut):
    random = rng("chunks")
    await run(dut, [Case(random, heads=6, kv_heads=2, head_dim=16, position=random.randint(0, 20), chunk=c)
                    for c in range(1, TOKENS + 1)])


@cocotb.test()
async def saturated_scores(dut):
    """Scores that saturate, up to products that move by more places than a score has bits, and down to products of which nothing
    is left."""
    random = rng("extreme")
    cases = [Case(random, heads=4, kv_heads=1, head_dim=64, position=20, chunk=TOKENS, extreme=True, scale=Scale(2047, e),
                  value_scale=Scale(2047, min(e, -8))) for e in (12, -8, -12, -14, -20, -30)]
    # The largest dots of the longest heads, whose scores do not saturate.
    largest = Case(random, heads=1, kv_heads=1, head_dim=HEAD_DIM, position=5, chunk=TOKENS)
    largest.q[:], largest.k[0, 1], largest.k[0, 4] = -128, -128, 127
    await run(dut, [*cases, largest])


@cocotb.test()
async def flat_and_peaked(dut):
    """All weights equal, then one weight much larger than the others; scales of values far apart."""
    random = rng("peaks")
    cases = [Case(random, heads=4, kv_heads=2, head_dim=32, position=30, chunk=TOKENS, scale=Scale(1400, e)) for e in (-30, -13)]
    for case in cases:
        for row in case.v_scales:
            row[:] = [Scale(random.randint(1024, 2047), random.randint(-54, 9)) for _ in row]
    await run(dut, cases)


@cocotb.test()
async def v_scale_zero(dut):
    random = rng("zero")
    case = Case(random, heads=2, kv_heads=1, head_dim=16, position=9, chunk=TOKENS)
    for at in (0, 3, 9):
        case.v_scales[0][at] = Scale(1500, -100)
    nothing = Case(random, heads=2, kv_heads=1, head_dim=16, position=4, chunk=TOKENS, value_scale=Scale(1500, -100))
    await run(dut, [case, nothing])


@cocotb.test()
async def heads_rate(dut):
    """A word per cycle, apart from the cycles that each head and each KV head's scales cost; memory takes words at once."""
    cases = [Case(rng("heads"), heads=h, kv_heads=kv, head_dim=d, position=3, chunk=TOKENS, shuffled=bool(d & 8))
             for h, kv, d in ((8, 4, 32), (4, 4, 64), (4, 1, 16), (3, 3, 24))]
    await run(dut, cases, rest=0)
    for case in cases:
        codes, bound = TOKENS * (case.heads + 2 * case.kv_heads) * case.head_dim, case.cycles_in()
        report_note(f"{case.name}: {codes} codes in {case.heads_took} cycles")
        assert case.heads_took == bound, (case.name, case.heads_took, bound)


@cocotb.test()
async def stalls_10(dut):
    random = rng("stalls")
    await run(dut, [Case(random, heads=4, kv_heads=2, head_dim=32, position=p, chunk=c, shuffled=True)
                    for p, c in ((0, TOKENS), (0, 1), (33, 1), (33, TOKENS))],
              stall=0.1, pause=lambda: int(random.random() < 0.1))


@cocotb.test()
async def stalls_90(dut):
    random = rng("stalls")
    await run(dut, [Case(random, heads=4, kv_heads=2, head_dim=16, position=5, chunk=TOKENS)], stall=0.9,
              pause=lambda: random.randint(0, 20), queued=False)


@cocotb.test()
async def late_row_ends(dut):
    """Rows shorter than the turns of a softmax unit: a row whose last word comes late, then a row without a pause."""
    random = rng("late")
    pauses = cycle([0, 0, 0, 20, 0, 0, 0, 0])
    await run(dut, [Case(random, heads=4, kv_heads=2, head_dim=d, position=p, chunk=TOKENS) for d in (16, 24) for p in (11, 12)],
              pause=lambda: next(pauses))


@cocotb.test()
async def near_context(dut):
    """The context's last positions; and equal scores there, which add up to the largest sum of exponentials."""
    random = rng("late")
    cases = [Case(random, heads=2, kv_heads=1, head_dim=16, position=CONTEXT - c, chunk=c) for c in (1, TOKENS, 1)]
    cases[-1].q[:] = 0
    await run(dut, cases)
    report_point("limit: the last position of the context")


async def watch_requests(dut, seen):
    """(cycle, address, whether it is taken) of each cycle with a request."""
    cycle = 0
    while True:
        await settled()
        if dut.read__req__valid.value:
            (addr,) = fields(LAYOUTS.memory_request, int(dut.read__req__payload.value), "addr")
            seen.append((cycle, addr, bool(dut.read__req__ready.value)))
        await FallingEdge(dut.clk)
        cycle += 1


class LateReadModel(ReadModel):
    """Takes a request so late that the phase of its words has begun, each time after another number of cycles."""

    def __init__(self, *args, **options):
        self._holds = cycle(range(12, 19))
        super().__init__(*args, **options)

    _hold = property(lambda self: next(self._holds), lambda self, value: None)


@cocotb.test()
async def late_requests(dut):
    """Memory takes V's request when V's phase has begun: the request behind it comes two cycles later, whenever that is."""
    seen = []
    watching = cocotb.start_soon(watch_requests(dut, seen))
    await run(dut, [Case(rng("requests"), heads=6, kv_heads=6, head_dim=16, position=5, chunk=TOKENS)], model=LateReadModel)
    watching.cancel()
    taken = [now for now, addr, is_taken in seen if is_taken and V_BASE <= addr < S_BASE]
    assert len(taken) == 6 * -(-TOKENS // PES)
    assert [next(later for later, *_ in seen if later > now) - now for now in taken[:-1]] == [2] * (len(taken) - 1)


@cocotb.test()
async def late_position(dut):
    random = rng("late")
    await run(dut, [Case(random, heads=4, kv_heads=1, head_dim=16, position=CONTEXT - TOKENS - 3, chunk=TOKENS)])


@cocotb.test()
async def memory_rate(dut):
    """K and V are read once per slot, a word per cycle if a row is as long as the turns; and what reading once saves."""
    cases = [Case(rng("rate"), heads=heads, kv_heads=kv_heads, head_dim=head_dim, position=position, chunk=chunk)
             for heads, kv_heads, head_dim, position, chunk in (
                 (8, 4, 32, 48, TOKENS), (8, 4, 32, 48, 1), (4, 4, 64, 64, TOKENS), (4, 1, 16, 60, TOKENS),
                 (6, 2, 32, 70, (TOKENS + 1) // 2),
                 *(((2, 2, 96, 48, 1), (4, 1, 128, 37, 1), (8, 1, 128, 31, TOKENS)) if GROUP == 8 else ()))]
    for case, cycles in zip(cases, await run(dut, cases), strict=True):
        bound, once, naively = case.cycles(), case.words_read(), case.words_read_naively()
        report_note(f"{case.name}: {cycles} cycles, {bound} by the formula; words of scales, K, V read: {once}, "
                    f"each query by itself: {naively} ({sum(naively) / sum(once):.1f} times)")
        assert cycles == bound, (case.name, cycles, bound)
