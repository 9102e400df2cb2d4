# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The routers between the units: each router's outputs for random inputs against its docstring, for two pipelines."""

import os
from dataclasses import replace
from zlib import crc32

import cocotb
from cocotb.triggers import FallingEdge, Timer

from hw.core.counters import SpentLayout
from hw.core.routers import (
    AccRouter,
    CodeRouter,
    CycleAccount,
    HeadSizes,
    PassRouter,
    RopeRouter,
    StatusWords,
    StepCrc,
    TokenShares,
    WordRouter,
)
from hw.lib.control import AccSource, StatusLayout, WordSink
from hw.lib.layouts import Layouts
from hw.lib.ports import ClientStrobes
from hw.lib.types import MonitorLayout
from sim.cocotb_streams import report, report_point, reset, rng
from sim.testbench import Bench
from tellme.spec.memory import ACCOUNT
from tests.hw.layouts import layouts_of, pack, unpack

STREAMS, TOKENS, CASES = 2, 16, 400
NO_BOARD = "no board has norms behind linears; top-tiny has them"
LAYOUTS = layouts_of(chunk=TOKENS, max_cols=4096)
#: Of a core whose LM head takes several tokens.
ALL = layouts_of(chunk=TOKENS, max_cols=4096, head_tokens=TOKENS)
#: Of a core with norms behind linears.
NORMS = Layouts(replace(LAYOUTS.widths, vector_norms=True))
#: Of a core of single tokens: sixty-four heads of up to 128 elements.
SINGLE = layouts_of(max_cols=8192, max_head_dim=128)
BENCHES = [
    Bench(name="sizes", build=lambda: HeadSizes(SINGLE), tests=("head_sizes",)),
    Bench(name="sizes_compact", build=lambda: HeadSizes(SINGLE, compact=True), tests=("head_sizes",)),
    Bench(name="shares", build=lambda: TokenShares(LAYOUTS, streams=STREAMS), tests=("shares_of_each_chunk",)),
    Bench(name="passes", build=lambda: PassRouter(LAYOUTS, streams=STREAMS, holds=True),
          tests=("settings_and_ends_of_a_pass", "a_quantise_pass_begins_at_once")),
    Bench(name="codes", build=lambda: CodeRouter(LAYOUTS, streams=STREAMS), tests=("codes_of_all_tokens_or_of_the_last_one",)),
    Bench(name="codes_all", build=lambda: CodeRouter(ALL, streams=STREAMS), tests=("codes_without_their_scales",)),
    Bench(name="codes_norms", build=lambda: CodeRouter(NORMS, streams=STREAMS), tests=("codes_that_go_back",), nightly=NO_BOARD),
    Bench(name="accs_norms", build=lambda: AccRouter(NORMS, streams=STREAMS), tests=("sums_that_are_codes",), nightly=NO_BOARD),
    Bench(name="words", build=lambda: WordRouter(streams=STREAMS), tests=("words_to_the_sink",)),
    Bench(name="accs", build=lambda: AccRouter(LAYOUTS, streams=STREAMS), tests=("sums_to_their_pipeline",)),
    Bench(name="accs_all", build=lambda: AccRouter(ALL, streams=STREAMS), env={"ALL": "1"},
          tests=("sums_of_all_tokens_to_the_lm_head", "sums_to_their_pipeline")),
    Bench(name="rope", build=lambda: RopeRouter(LAYOUTS, streams=STREAMS), tests=("rope_rows_to_their_pipeline",)),
    Bench(name="crc", build=lambda: StepCrc(LAYOUTS, streams=STREAMS), tests=("crc_of_what_was_shown",)),
    Bench(name="status", build=lambda: StatusWords(LAYOUTS), tests=("status_words",)),
    Bench(name="account", build=lambda: CycleAccount(streams=STREAMS), tests=("cycles_under_their_names",)),
]
POINTS = ("limit: the most and the longest heads", "limit: chunks of one token and of all", "limit: a row of all tokens")
PIPELINES = range(STREAMS)


class Ports:
    """Random inputs of some names; the values that were given, and the outputs."""

    def __init__(self, dut, *names):
        self.dut, self.names, self.random = dut, names, rng("ports")
        self.given: dict[str, int] = {}
        for name in names:
            getattr(dut, name).value = 0

    async def draw(self, **fixed):
        """Draw all inputs anew except the given ones, and let them settle."""
        self.given = {name: self.random.getrandbits(len(getattr(self.dut, name))) for name in self.names} | fixed
        for name, value in self.given.items():
            getattr(self.dut, name).value = value
        await Timer(1, "ns")

    def __getitem__(self, name):
        return self.given[name] if name in self.given else int(getattr(self.dut, name).value)


def of_each(*names):
    """The names of ports that each pipeline has."""
    return [name.format(i) for name in names for i in PIPELINES]


@cocotb.test()
async def head_sizes(dut):
    await reset(dut)
    random = rng("shapes")
    for n in range(CASES // 4):
        heads, kv_heads, head_dim = random.randint(1, 64), random.randint(1, 16), random.randint(16, 128)
        if n == 0:
            heads, kv_heads, head_dim = 64, 16, 128
        dut.shape.value = pack(SINGLE.model_shape, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        for _ in range(6):
            await FallingEdge(dut.clk)
        assert unpack(SINGLE.sizes, int(dut.sizes.value)) == {"q_dim": heads * head_dim, "qk_dim": (heads + kv_heads) * head_dim}
    report_point("limit: the most and the longest heads")
    report(cases=CASES // 4)


@cocotb.test()
async def shares_of_each_chunk(dut):
    await reset(dut)
    for chunk in (*range(1, TOKENS + 1), *range(TOKENS, 0, -1)):
        dut.chunk.value = chunk
        await FallingEdge(dut.clk)
        own = [len(range(i, chunk, STREAMS)) for i in PIPELINES]
        assert [int(getattr(dut, f"own__{i}").value) for i in PIPELINES] == own
        assert int(dut.has.value) == sum((n != 0) << i for i, n in enumerate(own))
        assert int(dut.last_token.value) == chunk - 1
        assert int(dut.has_last.value) == 1 << (chunk - 1) % STREAMS
    report_point("limit: chunks of one token and of all")
    report(cases=2 * TOKENS)


@cocotb.test()
async def settings_and_ends_of_a_pass(dut):
    await reset(dut)
    p = Ports(dut, "passes__args", "passes__clear", "passes__gain_start", "for_lm_head", "has", "has_last", "delivered",
              *of_each("units__{}__done", "units__{}__nonfinite"))
    for n in range(CASES):
        # All done, or all but one, more often than chance has it.
        ends = {name: 1 for name in (*of_each("units__{}__done"), "delivered")}
        await p.draw(**({} if n % 3 == 0 else ends | ({p.random.choice([*ends]): 0} if n % 3 == 1 else {})))
        for i in PIPELINES:
            for name in ("args", "clear", "gain_start"):
                assert p[f"units__{i}__{name}"] == p[f"passes__{name}"]
        assert p["passes__done"] == int(all(p[f"units__{i}__done"] for i in PIPELINES) and p["delivered"])
        assert p["passes__nonfinite"] == int(any(p[f"units__{i}__nonfinite"] for i in PIPELINES))
        assert p["wanted"] == (p["has_last"] if p["for_lm_head"] else p["has"])
    report(cases=CASES)


@cocotb.test()
async def a_quantise_pass_begins_at_once(dut):
    """The pipelines that are asked see one cycle of valid, all in the same cycle, a cycle after all of them were ready.  The
    other pipelines see none."""
    await reset(dut)
    random = rng("quant")
    ready = [getattr(dut, f"units__{i}__quant__ready") for i in PIPELINES]
    for case in range(CASES // 4):
        to_lm_head, chunk = case % 2, random.randint(1, TOKENS)
        own = [len(range(i, chunk, STREAMS)) for i in PIPELINES]
        wanted = [i == (chunk - 1) % STREAMS if to_lm_head else own[i] > 0 for i in PIPELINES]
        dut.for_lm_head.value = to_lm_head
        dut.has.value = sum((n > 0) << i for i, n in enumerate(own))
        dut.has_last.value = 1 << (chunk - 1) % STREAMS
        for i in PIPELINES:
            getattr(dut, f"own__{i}").value = own[i]
        args = {"src_a": random.getrandbits(1), "n": random.randint(1, 4000), "norm": random.getrandbits(1),
                "gain": random.getrandbits(1), "first": chunk - 1 if to_lm_head else 0, "tokens": 1 if to_lm_head else chunk}
        dut.passes__quant__payload.value = pack(LAYOUTS.quant_args, args)
        dut.passes__quant__valid.value = 1
        # None is ready; then more and more of them are, at random, and stay so until they are asked.
        for r in ready:
            r.value = 0
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        were, asked, are = False, False, [0 for _ in PIPELINES]
        for _ in range(40):
            shown = [int(getattr(dut, f"units__{i}__quant__valid").value) for i in PIPELINES]
            assert shown == ([int(w) for w in wanted] if were else [0] * STREAMS), (case, shown, were)
            if were:
                asked = True
                for i in PIPELINES:
                    got = unpack(LAYOUTS.quant_args, int(getattr(dut, f"units__{i}__quant__payload").value))
                    assert got["first"] == args["first"] // STREAMS and got["tokens"] == (1 if to_lm_head else own[i])
                    assert all(got[name] == args[name] for name in ("src_a", "n", "norm", "gain"))
                await FallingEdge(dut.clk)
                dut.passes__quant__valid.value = 0
                break
            for i, r in enumerate(ready):
                are[i] |= int(random.random() < 0.3)
                r.value = are[i]
            were = all(is_ready for is_ready, w in zip(are, wanted, strict=True) if w)
            await FallingEdge(dut.clk)
        assert asked, case
        await Timer(1, "ns")
        assert not any(int(getattr(dut, f"units__{i}__quant__valid").value) for i in PIPELINES)
        await FallingEdge(dut.clk)
    report(cases=CASES // 4)


@cocotb.test()
async def codes_of_all_tokens_or_of_the_last_one(dut):
    await reset(dut)
    p = Ports(dut, "for_lm_head", "wanted", "control__args", "control__start", "unit__done", "unit__best",
              *of_each("codes__{}__payload", "codes__{}__valid", "engine__{}__ready", "d__{}"))
    for _ in range(CASES):
        last = p.random.choice(PIPELINES)
        await p.draw(has_last=1 << last)
        for i in PIPELINES:
            if not p["for_lm_head"]:
                source = i
            else:
                # The engine's one stream of a chunk of one token.
                source = last if i == 0 else None
            assert p[f"engine__{i}__valid"] == (0 if source is None else p[f"codes__{source}__valid"])
            if source is not None:
                assert p[f"engine__{i}__payload"] == p[f"codes__{source}__payload"]
            assert p[f"codes__{i}__ready"] == p[f"engine__{0 if p['for_lm_head'] else i}__ready"]
        args, want = (unpack(LAYOUTS.lm_head_args, p[f"{port}__args"]) for port in ("unit", "control"))
        assert pack(LAYOUTS.lm_head_args["d"].shape, args["d"]) == p[f"d__{last}"]
        assert {**args, "d": None} == {**want, "d": None}
        assert p["unit__start"] == p["control__start"]
        assert (p["control__done"], p["control__best"]) == (p["unit__done"], p["unit__best"])
        valid = all(p[f"codes__{i}__valid"] for i in PIPELINES if p["wanted"] >> i & 1)
        await FallingEdge(dut.clk)
        assert int(dut.valid.value) == int(valid)
    report(cases=CASES)


@cocotb.test()
async def codes_without_their_scales(dut):
    """As above, to an LM head that knows the scales, and is asked for a token's pick by number."""
    await reset(dut)
    p = Ports(dut, "for_lm_head", "has_last", "wanted", "control__args", "control__number", "unit__best",
              *of_each("codes__{}__payload", "codes__{}__valid", "engine__{}__ready"))
    for _ in range(CASES):
        last = p.random.choice(PIPELINES)
        await p.draw(has_last=1 << last)
        for i in PIPELINES:
            source = i if not p["for_lm_head"] else last if i == 0 else None
            assert p[f"engine__{i}__valid"] == (0 if source is None else p[f"codes__{source}__valid"])
            assert source is None or p[f"engine__{i}__payload"] == p[f"codes__{source}__payload"]
        assert (p["unit__args"], p["unit__number"]) == (p["control__args"], p["control__number"])
        assert p["control__best"] == p["unit__best"]
        await FallingEdge(dut.clk)
    report(cases=CASES)


@cocotb.test()
async def codes_that_go_back(dut):
    """With ``from_codes`` each pipeline's codes go back, all bits of them, and the engine gets none; else the engine's are the
    low eight bits, and nothing goes back."""
    await reset(dut)
    p = Ports(dut, "wanted", "has_last", "control__args", "control__start", "unit__done", "unit__best",
              *of_each("codes__{}__payload", "codes__{}__valid", "engine__{}__ready", "back__{}__ready", "d__{}"))
    for n in range(CASES):
        await p.draw(from_codes=n % 2, for_lm_head=0)
        for i in PIPELINES:
            to, other = ("back", "engine") if n % 2 else ("engine", "back")
            assert p[f"{to}__{i}__valid"] == p[f"codes__{i}__valid"] and not p[f"{other}__{i}__valid"]
            assert p[f"codes__{i}__ready"] == p[f"{to}__{i}__ready"]
            payload = p[f"codes__{i}__payload"]
            assert p[f"{to}__{i}__payload"] == (payload if n % 2 else payload & 0xFF)
        await FallingEdge(dut.clk)
    report(cases=CASES)


@cocotb.test()
async def sums_that_are_codes(dut):
    """Codes take the engine's place, where the engine is named, and a stream goes to its own pipeline."""
    names = [*of_each("engine__{}", "codes__{}"), "fetch", "attention"]
    p = Ports(dut, *(f"{name}__{part}" for name in names for part in ("payload", "valid")), *of_each("out__{}__ready"),
              "lm_head__ready", "for_lm_head")
    for n in range(CASES):
        source, back = [*AccSource][n % 4], n // 4 % 2
        await p.draw(source=source.value, from_codes=back)
        for i in PIPELINES:
            if source is AccSource.ENGINE:
                taken, other = (f"codes__{i}", f"engine__{i}") if back else (f"engine__{i}", f"codes__{i}")
                assert p[f"out__{i}__valid"] == p[f"{taken}__valid"] and p[f"out__{i}__payload"] == p[f"{taken}__payload"]
                assert p[f"{taken}__ready"] == p[f"out__{i}__ready"] and not p[f"{other}__ready"]
            else:
                assert not p[f"codes__{i}__ready"]
    report(cases=CASES)


@cocotb.test()
async def words_to_the_sink(dut):
    p = Ports(dut, "words__payload", "words__valid", "engine__ready", *of_each("gains__{}__ready"))
    sinks = {WordSink.NONE: [], WordSink.GAIN: of_each("gains__{}"), WordSink.ENGINE: ["engine"]}
    for n in range(CASES):
        sink = [*sinks][n % len(sinks)]
        # All pipelines take a gain in the same cycles.
        ready = p.random.getrandbits(1)
        await p.draw(sink=sink.value, **{name: ready for name in of_each("gains__{}__ready")})
        for name in (*of_each("gains__{}"), "engine"):
            assert p[f"{name}__payload"] == p["words__payload"]
            assert p[f"{name}__valid"] == int(p["words__valid"] and name in sinks[sink]), (name, sink)
        assert p["words__ready"] == (p[f"{sinks[sink][0]}__ready"] if sinks[sink] else 0)
        assert p["gain_taken"] == int(p["words__valid"] and ready and sink is WordSink.GAIN)
    report(cases=CASES)


@cocotb.test()
async def sums_to_their_pipeline(dut):
    """Of a core whose LM head takes one token, or several of which it is asked for one."""
    if os.environ.get("ALL"):
        dut.for_all.value = dut.last_token.value = 0
        await reset(dut)
    sources = {AccSource.FETCH: "fetch", AccSource.ATTENTION: "attention"}
    p = Ports(dut, *(f"{name}__{part}" for name in (*of_each("engine__{}"), *sources.values()) for part in ("payload", "valid")),
              *of_each("out__{}__ready"), "lm_head__ready", "for_lm_head")
    for n in range(CASES):
        source = [*AccSource][n % 4]
        await p.draw(source=source.value)
        taken = dict.fromkeys((*of_each("engine__{}"), *sources.values()), 0)
        for i in PIPELINES:
            name = f"engine__{i}" if source is AccSource.ENGINE else sources.get(source)
            if name is not None and source is not AccSource.ENGINE:
                token = unpack(LAYOUTS.acc, p[f"{name}__payload"])["place"]["token"]
                name = name if token % STREAMS == i else None
            assert p[f"out__{i}__valid"] == (0 if name is None else p[f"{name}__valid"]), (source, i)
            if name is not None:
                assert p[f"out__{i}__payload"] == p[f"{name}__payload"]
                taken[name] = p[f"out__{i}__ready"]
        # The engine's first stream goes to the LM head where no source is named.
        to_lm_head = source is AccSource.NONE and p["for_lm_head"]
        assert p["lm_head__valid"] == (p["engine__0__valid"] if to_lm_head else 0)
        assert p["lm_head__payload"] == p["engine__0__payload"]
        if to_lm_head:
            taken["engine__0"] = p["lm_head__ready"]
        assert {name: p[f"{name}__ready"] for name in taken} == taken
        if os.environ.get("ALL"):
            await FallingEdge(dut.clk)
    report(cases=CASES)


@cocotb.test()
async def sums_of_all_tokens_to_the_lm_head(dut):
    """Rows of each number of tokens: the streams take turns, an odd row ends with the first stream and begins there again.  A
    stream that is not asked waits.  Of one token, and of the last one alone, the first stream's sums.  A row that a run's end
    cuts off counts for nothing in the next pass."""
    await reset(dut)
    random, sums = rng("turns"), 0
    for port in (*of_each("engine__{}__valid", "engine__{}__payload", "out__{}__ready"), "fetch__valid", "attention__valid"):
        getattr(dut, port).value = 0
    for case in range(3 * TOKENS):
        tokens, every = case % TOKENS + 1, case < 2 * TOKENS
        dut.source.value, dut.last_token.value = AccSource.NONE.value, tokens - 1
        dut.for_all.value, dut.for_lm_head.value = int(every), int(not every)
        order = [t for _ in range(6) for t in range(tokens)] if every else [0] * 6
        if every and case % 3 == 0:
            del order[-random.randint(1, tokens):]
        waiting = [[(row, t) for row in range(6) for t in range(i, tokens, STREAMS)] for i in PIPELINES]
        for turn, token in enumerate(order):
            stream, taken = token % STREAMS, False
            while not taken:
                valid = [int(bool(waiting[i]) and random.random() < 0.7) for i in PIPELINES]
                for i in PIPELINES:
                    getattr(dut, f"engine__{i}__valid").value = valid[i]
                    row, t = waiting[i][0] if waiting[i] else (0, 0)
                    getattr(dut, f"engine__{i}__payload").value = pack(ALL.acc, acc=row * TOKENS + t, place={"token": t})
                ready = random.getrandbits(1)
                dut.lm_head__ready.value = ready
                await Timer(1, "ns")
                assert int(dut.lm_head__valid.value) == valid[stream], (tokens, turn)
                assert [int(getattr(dut, f"engine__{i}__ready").value) for i in PIPELINES] == [
                    ready if i == stream else 0 for i in PIPELINES]
                taken = bool(valid[stream] and ready)
                if taken:
                    got = unpack(ALL.acc, int(dut.lm_head__payload.value))
                    assert got["acc"] == waiting[stream][0][0] * TOKENS + waiting[stream][0][1]
                    assert not every or got["place"]["token"] == token
                    waiting[stream].pop(0)
                await FallingEdge(dut.clk)
            sums += 1
        dut.for_all.value = dut.for_lm_head.value = 0
        await FallingEdge(dut.clk)
    report_point("limit: a row of all tokens")
    report(cases=sums)


@cocotb.test()
async def rope_rows_to_their_pipeline(dut):
    p = Ports(dut, "words__payload", "words__valid", "number", "start", *of_each("out__{}__ready"))
    for _ in range(CASES):
        await p.draw()
        mine = p["number"] % STREAMS
        assert p["words__ready"] == 1
        assert p["starts"] == p["start"] << mine
        for i in PIPELINES:
            assert p[f"out__{i}__payload"] == p["words__payload"]
            assert p[f"out__{i}__valid"] == int(p["words__valid"] and i == mine)
    report(cases=CASES)


@cocotb.test()
async def crc_of_what_was_shown(dut):
    """Steps of random words from the pipelines or from the LM head, with cycles without a word between them."""
    await reset(dut)
    random = rng("words")
    ports = [getattr(dut, name) for name in (*of_each("pipelines__{}"), "lm_head")]
    dut.control__write.value = 0
    for step in range(20):
        source, words = random.choice(ports), [random.getrandbits(16) for _ in range(random.randint(1, 30))]
        dut.control__clear.value = 1
        await FallingEdge(dut.clk)
        dut.control__clear.value = 0
        for word in words:
            while random.random() < 0.3:
                await FallingEdge(dut.clk)
            source.value = pack(MonitorLayout, valid=1, word=word)
            await FallingEdge(dut.clk)
            source.value = 0
        await FallingEdge(dut.clk)
        dut.control__write.value, dut.control__step.value = 1, step
        await Timer(1, "ns")
        assert (int(dut.store__write.value), int(dut.store__step.value)) == (1, step)
        assert int(dut.store__value.value) == crc32(b"".join(word.to_bytes(2, "little") for word in words))
        await FallingEdge(dut.clk)
        dut.control__write.value = 0
    report(cases=20)


@cocotb.test()
async def status_words(dut):
    await reset(dut)
    p = Ports(dut, "state", "sdram_ready", "training", "bad_packets", "cycles")
    for _ in range(CASES):
        await p.draw()
        await FallingEdge(dut.clk)
        state, status = unpack(LAYOUTS.run_state, p["state"]), unpack(StatusLayout, p["status"])
        assert status["flags"] == {"running": state["running"], "sdram_ready": p["sdram_ready"], "nonfinite": state["nonfinite"],
                                   "stopped": state["stopped"], "zeros": 0}
        assert p["running"] == state["running"]
        for name, value in (("step", state["step"]), ("position", state["position"]), ("bad_packets", p["bad_packets"]),
                            ("cycles", p["cycles"]), ("training", p["training"]), ("zeros", 0)):
            assert status[name] == value, name
    report(cases=CASES)


@cocotb.test()
async def cycles_under_their_names(dut):
    p = Ports(dut, "engine", "draining", "settling", "attention", "lm_head", "clients", "refresh")
    for n in range(CASES):
        await p.draw(**({"clients": 0, "settling": 0} if n % 4 == 0 else {}))
        clients = unpack(ClientStrobes, p["clients"])
        assert unpack(SpentLayout, p["spent"]) == {
            "engine": p["engine"] & ~p["lm_head"], "drain": p["draining"] & ~p["lm_head"], "norm": int(p["settling"] != 0),
            "attention": p["attention"], "lm_head": p["lm_head"], "host": clients["host_read"] | clients["host_write"],
            "memory": int(p["clients"] != 0),
            "refresh": p["refresh"]}
    assert [*SpentLayout.members, "idle"] == list(ACCOUNT)
    report(cases=CASES)
