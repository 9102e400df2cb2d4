# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The whole core at its byte streams and SDRAM bus: a small model runs from packets alone."""

import os
import struct
from dataclasses import replace
from zlib import crc32

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge
from cocotb.utils import get_sim_time

from hw.memory.ddr3.phy import LaneSettings
from hw.memory.ddr3.training import TrainingLayout
from hw.top import Core
from sim.chips.ddr3 import Ddr3Chip
from sim.chips.sdram import Chip
from sim.cocotb_streams import PERIOD_NS, report, report_point, reset, rng
from sim.testbench import Bench
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.models import ModelConfig
from tellme.spec.config import preset
from tellme.spec.memory import (
    ACCOUNT,
    COUNTER_BASE,
    COUNTERS,
    CRC_BASE,
    END_TOKENS,
    PROGRAM_BASE,
    REGISTER_BASE,
    SAMPLING_REGISTERS,
    SEGMENT_BASE,
    TOKEN_BASE,
    TOP_BASE,
    TOP_ENTRIES,
    DoneReason,
    Event,
    EventType,
    StartArgs,
    StartFlags,
    StatusWord,
    register_address,
    top_address,
)
from tellme.spec.packets import EVENT_SLOTS, EVENTS, HELLO, NakReason, PacketType
from tellme.spec.packing import HEAD_BLOCK_ROWS, head_block_words
from tellme.spec.program import FORMAT_VERSION
from tellme.spec.sampling import DrawSettings, inverse_temperature, max_gap, pack_settings
from tests.hw.layouts import unpack
from tests.hw.memory.ddr3_parts import Phy, Pins
from tests.hw.memory.parts import SdrPins
from tests.hw.memory_model import Dfi
from tests.hw.packets_model import Host
from tests.models.random_model import (
    even_model,
    model_of,
    random_model,
    with_biases,
    with_groups,
    with_head_codes,
    with_planes,
    with_several_scales,
)

TINY = replace(preset("sim-tiny"), max_dim=64, max_cols=64, max_context=32, sdram_power_up_us=2.0)
#: What the presets of the ULX3S-85F and the ECPIX-5 have.
CONTROL = {"wide_program": True, "sigmoid_register": True}
#: Preset-like configurations by bench: one lane and a small part's units, as ecp5-25f, without a sampler as there, or with one
#: and with norms behind linears; a chunk of tokens on lanes of its own.
CONFIGS = {"tiny": replace(TINY, compact=True, accounts=False, vector_norms=True),
           "no-sampler": replace(TINY, compact=True, accounts=False, sampler=False),
           "wide": replace(TINY, **CONTROL),
           "chunk": replace(TINY, max_dim=128, max_cols=164, lanes=4, chunk=4, float_lanes=2, pes=4),
           "groups": replace(TINY, max_dim=128, max_cols=164, lanes=4, chunk=4, float_lanes=2, pes=4, multipliers=True,
                             **CONTROL),
           "all": replace(TINY, max_dim=128, max_cols=164, lanes=4, chunk=4, float_lanes=2, pes=4, head_tokens=4),
           "ddr3-all": replace(preset("sim-ddr3"), head_tokens=2),
           "slots": replace(TINY, max_dim=128, max_cols=164, lanes=4, chunk=4, float_lanes=2, pes=4, head_tokens=4, slots=4,
                            **CONTROL),
           "ddr3-slots": replace(preset("sim-ddr3"), lanes=10, chunk=5, head_tokens=5, slots=4, **CONTROL),
          "norms": replace(preset("sim-norms"), max_dim=64, max_cols=92, max_context=32, compact=True, accounts=False),
          "chunk-norms": replace(TINY, max_dim=128, max_cols=164, lanes=4, chunk=4, float_lanes=2, pes=4, vector_norms=True,
                                 **CONTROL),
           "two-steps": replace(TINY, max_dim=128, max_cols=164, lanes=4, chunk=4, float_lanes=2, pes=4, two_steps=True),
           "two-steps-tiny": replace(TINY, compact=True, accounts=False, two_steps=True),
          "ddr3": preset("sim-ddr3"), "ecpix5": replace(preset("ecpix5-85f"), sdram_power_up_us=2.0)}
BENCHES = [Bench(name="tiny", build=lambda: SdrPins(Core(CONFIGS["tiny"])), env={"CONFIG": "tiny"}, timeout_s=600,
                 tests=("says_who_it_is", "memory_through_packets", "a_model_runs", "norms_behind_linears")),
           Bench(name="tiny-draws", build=lambda: SdrPins(Core(CONFIGS["tiny"])), env={"CONFIG": "tiny"}, timeout_s=900,
                 tests=("a_run_draws_and_ends", "tokens_are_drawn", "four_end_tokens", "reads_and_stops_meet_a_draw"),
                 nightly="top-wide draws by all settings at once; sampling/sampler-draw has each of them"),
           Bench(name="no-sampler", build=lambda: SdrPins(Core(CONFIGS["no-sampler"])), env={"CONFIG": "no-sampler"},
                 timeout_s=600, tests=("a_model_runs", "without_a_sampler"), nightly="top-tiny's core without one unit"),
           Bench(name="wide", build=lambda: SdrPins(Core(CONFIGS["wide"])), env={"CONFIG": "wide"}, timeout_s=900,
                 tests=("a_run_draws_and_ends", "stops_at_any_step")),
           Bench(name="wide-model", build=lambda: SdrPins(Core(CONFIGS["wide"])), env={"CONFIG": "wide"}, timeout_s=900,
                 tests=("a_model_runs",), nightly="tests/board runs models on the wide core of ulx3s-85f"),
           *(Bench(name=f"chunk-{model}", build=lambda: SdrPins(Core(CONFIGS["chunk"])), env={"CONFIG": "chunk", "MODEL": model},
                   timeout_s=600, tests=("prompts_in_chunks",),
                   nightly="tests/board/test_prefill.py has these models in chunks, on a core of 16 lanes")
             for model in ("grouped", "wide-heads", "head-norms")),
           Bench(name="all", build=lambda: SdrPins(Core(CONFIGS["all"])), env={"CONFIG": "all"}, timeout_s=900,
                 tests=("picks_of_all_positions", "a_stop_among_picks"),
                 nightly="lm_head/chunk, tlmm/by_rows and core/routers have what this core has and top-chunk's has not"),
           Bench(name="all-plain", build=lambda: SdrPins(Core(CONFIGS["all"])), env={"CONFIG": "all"}, timeout_s=900,
                 tests=("prompts_in_chunks", "tokens_are_drawn", "four_end_tokens"),
                 nightly="top-all has picks of the last token too, and other cores these runs"),
           Bench(name="two-steps", build=lambda: SdrPins(Core(CONFIGS["two-steps"])), env={"CONFIG": "two-steps"}, timeout_s=900,
                 tests=("a_head_in_two_steps", "a_stop_in_step_two", "prompts_in_chunks"),
                 nightly="no board is built with it; lm_head/two_steps-steps has the unit"),
           Bench(name="two-steps-tiny", build=lambda: SdrPins(Core(CONFIGS["two-steps-tiny"])), env={"CONFIG": "two-steps-tiny"},
                 timeout_s=900, tests=("a_head_in_two_steps", "tokens_are_drawn"),
                 nightly="top-two-steps has the same unit in chunks"),
           Bench(name="ddr3-all", build=lambda: Pins(Core(CONFIGS["ddr3-all"])), env={"CONFIG": "ddr3-all"}, timeout_s=900,
                 tests=("picks_of_all_positions",), nightly="top-all has the same units with an SDR memory"),
           Bench(name="norms", build=lambda: SdrPins(Core(CONFIGS["norms"])), env={"CONFIG": "norms"}, timeout_s=900,
                 tests=("models_with_and_without_norms_behind_linears",), nightly="top-tiny has a small model"),
           Bench(name="chunk-norms", build=lambda: SdrPins(Core(CONFIGS["chunk-norms"])), timeout_s=900,
                 env={"CONFIG": "chunk-norms", "MODEL": "vector-norms"},
                 tests=("prompts_in_chunks", "models_with_and_without_norms_behind_linears"),
                 nightly="no board is built with these norms; top-tiny has them for one token"),
           Bench(name="groups", build=lambda: SdrPins(Core(CONFIGS["groups"])), timeout_s=900,
                 env={"CONFIG": "groups", "MODEL": "grouped", "CHANGE": "groups"}, tests=("prompts_in_chunks",),
                 nightly="tlmm/groups has the engine's multipliers, and nothing else of a core has to do with them"),
           Bench(name="ddr3", build=lambda: Pins(Core(CONFIGS["ddr3"])), env={"CONFIG": "ddr3"}, timeout_s=600,
                 tests=("says_who_it_is", "what_a_run_moves"),
                 nightly="tests/board/test_large_shapes.py trains the memory of ecpix5-85f, and runs models on its core"),
           *(Bench(name=f"ddr3-{model}", build=lambda: Pins(Core(CONFIGS["ddr3"])), env={"CONFIG": "ddr3", "MODEL": model},
                   timeout_s=900, tests=("prompts_in_chunks",), nightly="top-ddr3 runs a smaller model on the same core")
             for model in ("grouped", "wide-heads", "head-norms")),
           Bench(name="ecpix5", build=lambda: Pins(Core(CONFIGS["ecpix5"])), env={"CONFIG": "ecpix5"}, timeout_s=1200,
                 tests=("says_who_it_is", "what_a_run_moves", "prompts_in_chunks"),
                 nightly="top-ddr3 has the same units in less time"),
           Bench(name="ddr3-draws", build=lambda: Pins(Core(CONFIGS["ddr3"])), env={"CONFIG": "ddr3"}, timeout_s=900,
                 tests=("memory_through_packets", "tokens_are_drawn", "four_end_tokens"),
                 nightly="top-ddr3 draws a token; sampling/sampler-draw has each setting")]
POINTS = (*(f"end: {reason.name}" for reason in DoneReason), "limit: an end token in the last place",
          "limit: memory over rows and banks, and all of token memory")
CONFIG = CONFIGS[os.environ.get("CONFIG", "tiny")]
READ_BEATS = 11
BUILD_ID = int.from_bytes(bytes(range(32)), "little")


def sdr(dut):
    """Put an SDR chip on the bus, and give it."""
    chip = Chip(mhz=CONFIG.sdram_mhz, power_up_us=CONFIG.sdram_power_up_us)
    dfi = Dfi(dut, chip, wire_beats=READ_BEATS - CONFIG.sdram_cas_latency)
    cocotb.start_soon(dfi.run())
    return chip


#: Of each lane of the DDR3 memory: the settings with which its PHY sees a burst.
WINDOWS = ({(5, 2), (6, 2), (7, 2), (0, 3)}, {(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)})


def ddr3(dut):
    """Put a DDR3 chip behind a PHY that gives right words with any settings, and sees bursts in its windows."""
    us = CONFIG.sdram_power_up_us
    # A burst of 16 bytes has cells that nobody wrote beside a word that attention wants.
    chip = Ddr3Chip(timing=CONFIG.ddr3, mhz=CONFIG.sdram_mhz, reset_us=us, cke_us=2.5 * us, check_unwritten=False)
    cocotb.start_soon(Phy(dut, chip, latency=11).run())

    async def bursts():
        while not dut.sdram_ready.value:
            settings = [unpack(LaneSettings, int(getattr(dut, f"phy__lanes__{lane}").value)) for lane in range(2)]
            dut.phy__burst.value = sum(((s["readclksel"], s["slip"]) in window) << lane
                                       for lane, (s, window) in enumerate(zip(settings, WINDOWS, strict=True)))
            await FallingEdge(dut.clk)

    dut.phy__burst.value = 0
    cocotb.start_soon(bursts())


async def bring_up(dut):
    """Reset, and an SDRAM chip on the bus that fails the test with the rule that is broken."""
    dut.build_id.value = BUILD_ID
    dut.rx__valid.value = dut.tx__ready.value = 0
    await reset(dut)
    chip = (ddr3 if CONFIG.ddr3 else sdr)(dut)
    while not dut.sdram_ready.value:
        await FallingEdge(dut.clk)
    host = Host(dut)
    host.chip = chip
    return host


def u32(value):
    return value.to_bytes(4, "little")


async def write(host, address, content):
    for at in range(0, len(content), 1024):
        assert await host.ask(PacketType.WRITE, u32(address + at) + content[at:at + 1024]) == (PacketType.ACK, b"")


@cocotb.test()
async def says_who_it_is(dut):
    host = await bring_up(dut)
    kind, content = await host.ask(PacketType.HELLO)
    assert kind == PacketType.HELLO_ANSWER
    _, _, program_format, name, build = HELLO.unpack(content)
    assert (program_format, name.rstrip(b"\0").decode(), build) == (FORMAT_VERSION, CONFIG.name, bytes(range(32)))
    kind, status = await host.ask(PacketType.STATUS)
    assert (kind, status[0]) == (PacketType.STATUS_ANSWER, 0b10)
    if CONFIG.ddr3:
        # The middle of each lane's widest window.
        found = unpack(TrainingLayout, int.from_bytes(status[4 * StatusWord.TRAINING:][:4], "little"))
        assert found == {"readclksel0": 6, "slip0": 2, "start0": 5, "window0": 3,
                         "readclksel1": 3, "slip1": 1, "start1": 1, "window1": 5, "failed": 0, "overridden": 0}


@cocotb.test()
async def memory_through_packets(dut):
    """SDRAM across rows and banks, token memory, registers."""
    host = await bring_up(dut)
    data = rng("data").randbytes(2048)
    await write(host, 0x0FF0, data)
    assert await host.ask(PacketType.CHECKSUM, u32(0x0FF0) + u32(2048)) == (PacketType.SUM, u32(crc32(data)))
    assert await host.ask(PacketType.READ, u32(0x0FF4) + b"\x40\0") == (PacketType.DATA, data[4:0x44])
    tokens = b"".join(u32(i * 7919 & 0x3FFFF) for i in range(32))
    for base, content in ((TOKEN_BASE, tokens), (REGISTER_BASE, data[:64])):
        await write(host, base, content)
        answer = await host.ask(PacketType.READ, u32(base) + len(content).to_bytes(2, "little"))
        assert answer == (PacketType.DATA, content)
    assert len(tokens) == 4 * CONFIG.max_context or CONFIG.ddr3
    report_point("limit: memory over rows and banks, and all of token memory")


async def load(host, image):
    """Put an image's sections into the cells of an SDR chip, because packets would take half of a test's time, and write them by
    packets otherwise; write program, segments and registers."""
    for base, content in image.sections:
        whole = bytes(content) + bytes(-len(content) % 4)
        if host.chip is not None:
            host.chip.fill(base, whole)
        else:
            await write(host, base, whole)
    await write(host, PROGRAM_BASE, image.program_bytes)
    await write(host, SEGMENT_BASE, image.segment_bytes)
    await write(host, REGISTER_BASE, image.register_bytes)


async def event(host, limit=200_000):
    """(type, event) of the board's next event.  The last one of a run is acknowledged, so that the board forgets all before."""
    seq, kind, content = await host.packet(limit=limit)
    if kind == PacketType.DONE:
        assert await host.ask(PacketType.EVENTS, EVENTS.pack((seq + 1) % 256, 0)) == (PacketType.ACK, b"")
    return kind, Event.unpack(content)


async def run(host, golden, args, reason=DoneReason.LENGTH):
    """Start, and compare each event with the golden model's, then the CRC of every step of the last token.  Returns the number of
    steps."""
    *picks, (_, done) = golden.start(args)
    assert done.logit == reason
    assert await host.ask(PacketType.START, args.pack()) == (PacketType.ACK, b"")
    for _, want in picks:
        kind, got = await event(host)
        assert (kind, got.position, got.id, got.logit) == (PacketType.TOKEN, want.position, want.id, want.logit)
    kind, got = await event(host, 10_000 if picks else 200_000)
    assert (kind, got.logit) == (PacketType.DONE, reason)
    report_point(f"end: {reason.name}")
    steps = len(golden.steps) - 1
    _, crcs = await host.ask(PacketType.READ, u32(CRC_BASE) + (4 * steps).to_bytes(2, "little"))
    assert [int.from_bytes(crcs[4 * i:4 * i + 4], "little") for i in range(steps)] == golden.crcs[:steps]
    return steps


@cocotb.test()
async def a_model_runs(dut):
    """Two prompt tokens and three picks; every step's CRC of the last one.  A model, then another with norms on heads of q and k,
    whose q, k and v of a layer have biases."""
    host = await bring_up(dut)
    cases, random = 0, rng("biases")
    for name in ("plain", "head-norms"):
        model = random_model(name)
        for bias in ("wq", "wk", "wv") if name == "head-norms" else ():
            rows, _ = model.config.shape(bias)
            model.layers[1].biases[bias] = np.array([random.gauss(0, 1) for _ in range(rows)], np.float16)
        image = compile_model(model, CONFIG)
        await load(host, image)
        await write(host, TOKEN_BASE, u32(17) + u32(66))
        golden = GoldenBoard(image)
        golden.tokens[:2] = 17, 66
        cases += await run(host, golden, StartArgs(0, 2, 3))
        await counted(host)
    report(cases=cases)


async def counted(host):
    """The counters of the last run, by their addresses: its cycles are those of STATUS.  In a core with accounts each cycle has
    one account; a core without them counts the cycles and those of the engine alone."""
    counters = dict(zip(COUNTERS, await read_words(host, COUNTER_BASE, len(COUNTERS)), strict=True))
    _, status = await host.ask(PacketType.STATUS)
    assert counters["cycles"] == int.from_bytes(status[4 * StatusWord.CYCLES:][:4], "little")
    assert counters["cycles"] > counters["engine_busy"] > 0
    if CONFIG.accounts:
        assert sum(counters[f"{name}_cycles"] for name in ACCOUNT) == counters["cycles"] and counters["weights_words"] > 0
    else:
        assert {name for name, count in counters.items() if count} == {"cycles", "engine_busy"}


async def runs_like_golden(host, model, generate):
    """Two prompt tokens and some picks: every step of the last one, and all logits.  Returns the number of steps."""
    image = compile_model(model, CONFIG)
    await load(host, image)
    await write(host, TOKEN_BASE, u32(17) + u32(6))
    golden = GoldenBoard(image, CONFIG.chunk)
    golden.tokens[:2] = 17, 6
    steps = await run(host, golden, StartArgs(0, 2, generate, StartFlags.DUMP))
    assert await read_words(host, 4 * image.registers["logits_base"], model.config.vocab) == golden.logits.tolist()
    return steps


@cocotb.test()
async def norms_behind_linears(dut):
    """A small model with norms on the whole q and k and behind attention and feed-forward, whose linears have several planes,
    scales and biases."""
    host = await bring_up(dut)
    c = ModelConfig(dim=28, ffn=24, layers=2, heads=2, kv_heads=1, head_dim=16, vocab=22, context=8, vector_norms=True)
    report(cases=await runs_like_golden(host, with_biases(with_several_scales(with_planes(model_of(c, gains=True)))), 2))


@cocotb.test()
async def models_with_and_without_norms_behind_linears(dut):
    """Models in turn on one core: with such norms, with and without their gains, with those on heads, and without any."""
    host = await bring_up(dut)
    model, cases = random_model("vector-norms"), 0
    bare = model_of(replace(model.config, eps=1e-2, layers=1), gains=False, name="bare")
    for one in (model, random_model("head-norms"), bare, random_model("plain"), with_biases(with_planes(model))):
        cases += await runs_like_golden(host, one, 1)
    report(cases=cases)


@cocotb.test()
async def prompts_in_chunks(dut):
    """Prompts shorter than a chunk, as long as a chunk, one token longer, and of several chunks; then another pick."""
    host = await bring_up(dut)
    cases = 0
    name = os.environ.get("MODEL", "grouped")
    model = random_model(name)
    if os.environ.get("CHANGE") == "groups":
        model = with_groups(with_planes(with_several_scales(model)))
    image = compile_model(model, CONFIG)
    await load(host, image)
    golden = GoldenBoard(image)
    random = rng(name)
    most = CONFIG.chunk
    for length in sorted({1, most - 1, most, most + 1, 2 * most + 3}):
        prompt = [random.randrange(model.config.vocab) for _ in range(length)]
        await write(host, TOKEN_BASE, b"".join(map(u32, prompt)))
        golden.tokens[:length] = prompt
        cases += await run(host, golden, StartArgs(0, length, 2, chunk=random.choice((0, most, most, most - 1))))
    report(cases=cases)


async def read_words(host, address, words):
    """Words of the address space, signed."""
    content = b""
    while len(content) < 4 * words:
        size = min(512, 4 * words - len(content))
        kind, part = await host.ask(PacketType.READ, u32(address + len(content)) + size.to_bytes(2, "little"))
        assert kind == PacketType.DATA
        content += part
    return list(struct.unpack(f"<{words}i", content))


@cocotb.test()
async def picks_of_all_positions(dut):
    """Prompts of several lengths and chunks with the flag ALL, greedy and drawn, with and without tokens to pick, and between
    them runs without the flag: each event, all steps, and of the last pass's tokens each logit and the best 64."""
    host = await bring_up(dut)
    random, most = rng("all"), CONFIG.chunk
    c = ModelConfig(dim=64, ffn=92, layers=2, heads=4, kv_heads=1, head_dim=16, vocab=71, context=24)
    image = compile_model(model_of(c, gains=True), CONFIG)
    await load(host, image)
    golden = GoldenBoard(image, most, sampler=CONFIG.sampler, head_tokens=most)
    await draw_as(host, golden, SETTINGS["hot"])
    where, cases = 4 * image.registers["logits_base"], 0
    runs = [(length, generate, flags, chunk) for length, generate, flags, chunk in (
        (most, 0, StartFlags.ALL, 0), (1, 1, StartFlags.ALL, most), (2 * most + 3, 2, StartFlags.ALL, most),
        (most + 1, 1, StartFlags(0), 0), (most + 1, 0, StartFlags.ALL, 0), (2 * most - 1, 1, StartFlags.ALL, most - 1 or 1),
        (3, 0, StartFlags(0), 0), (most, 1, StartFlags.ALL | StartFlags.SAMPLE, 0), (3, 3, StartFlags.ALL, 1),
        (most + 1, 2, StartFlags.ALL | StartFlags.SAMPLE, 0))]
    for length, generate, flags, chunk in runs:
        prompt = [random.randrange(c.vocab) for _ in range(length)]
        await write(host, TOKEN_BASE, b"".join(map(u32, [*prompt, 5])))
        golden.tokens[:length + 1] = [*prompt, 5]
        cases += await run(host, golden, StartArgs(0, length, generate, StartFlags.CLEAR | StartFlags.DUMP | flags, chunk))
        assert await read_words(host, TOKEN_BASE, length + 1) == golden.tokens[:length + 1]
        if not flags and not generate:
            continue
        logits = golden.pass_logits
        assert await read_words(host, where, logits.size) == logits.T.reshape(-1).tolist()
        for number in range(len(logits)):
            entries = [value for token, value in golden.top(number) for value in (value, token)]
            assert await read_words(host, top_address(number), len(entries)) == entries, number
    # Nothing behind the last list.
    kind, content = await host.ask(PacketType.READ, u32(top_address(most)) + b"\x04\0")
    assert (kind, content[0]) == (PacketType.NAK, NakReason.ADDRESS)
    report(cases=cases)


@cocotb.test()
async def a_stop_among_picks(dut):
    """A host that takes no events, until the board has no room for more: all events are there afterwards, in order.  Then a stop
    among the picks of a chunk, and a run behind it."""
    host = await bring_up(dut)
    vocab, context, most = 40, 32, CONFIG.chunk
    image = compile_model(even_model(vocab, context), CONFIG)
    await load(host, image)
    golden = GoldenBoard(image, most, sampler=CONFIG.sampler, head_tokens=most)
    prompt = [rng("prompt").randrange(vocab) for _ in range(context)]
    await write(host, TOKEN_BASE, b"".join(map(u32, prompt)))
    golden.tokens[:context] = prompt
    args = StartArgs(0, context, 1, StartFlags.CLEAR | StartFlags.ALL)
    *picks, _ = golden.start(args)
    assert len(picks) == context == EVENT_SLOTS
    assert await host.ask(PacketType.START, args.pack()) == (PacketType.ACK, b"")
    taken = []
    for _ in range(context):
        _, kind, content = await host.packet(limit=400_000)
        taken.append((kind, Event.unpack(content)))
    assert [(e.position, e.id, e.logit) for _, e in taken] == [(w.position, w.id, w.logit) for _, w in picks]
    assert all(kind == PacketType.TOKEN for kind, _ in taken)
    # DONE has no room yet: the run goes on until the host has acknowledged an event.
    await wait(dut, 3000)
    _, status = await host.ask(PacketType.STATUS)
    assert status[0] & 1
    assert await host.ask(PacketType.EVENTS, EVENTS.pack(1, 0)) == (PacketType.ACK, b"")
    assert (await event(host, 10_000))[0] == PacketType.DONE
    # A stop behind the first pick of a chunk, whose other picks are on their way.
    await start(host, StartArgs(0, 2 * most, 0, StartFlags.CLEAR | StartFlags.ALL))
    kind, got = await event(host)
    assert (kind, got.position) == (PacketType.TOKEN, 0)
    assert await host.ask(PacketType.STOP) == (PacketType.ACK, b"")
    events = [await event(host)]
    while events[-1][0] != PacketType.DONE:
        events.append(await event(host))
    assert events[-1][1].logit == DoneReason.STOPPED
    assert [e.position for _, e in events[:-1]] == [*range(1, len(events))] and len(events) <= most
    golden.tokens[:3] = prompt[:3]
    report(cases=context + await run(host, golden, StartArgs(0, 3, 2, StartFlags.CLEAR | StartFlags.ALL)))


TWO_STEPS = StartFlags.CLEAR | StartFlags.TWO_STEPS


async def in_two_steps(dut):
    """A model, whose head lies in the memory in both forms; the golden model, and a prompt in both token memories."""
    host = await bring_up(dut)
    model = with_head_codes(random_model("plain" if CONFIG.chunk == 1 else "grouped"), 13)
    image = compile_model(model, CONFIG)
    assert image.two_steps
    await load(host, image)
    golden = GoldenBoard(image, CONFIG.chunk)
    prompt = [rng("prompt").randrange(model.config.vocab) for _ in range(6)]
    await write(host, TOKEN_BASE, b"".join(map(u32, prompt)))
    golden.tokens[:6] = prompt
    await draw_as(host, golden, DrawSettings(inverse_temperature(2.0), top_k=9, max_gap=max_gap(0.02), seed=5))
    return host, image, golden


@cocotb.test()
async def a_head_in_two_steps(dut):
    """Greedy and drawn picks, behind prompts of some lengths, with runs of whole tiles between them: each event, all steps, the
    rows that were counted, the list, and the logits of the runs between."""
    host, image, golden = await in_two_steps(dut)
    vocab, cases = image.registers["vocab"], 0
    for length, generate, flags in ((1, 3, TWO_STEPS), (5, 2, TWO_STEPS | StartFlags.SAMPLE),
                                    (2, 1, StartFlags.CLEAR | StartFlags.DUMP), (6, 2, TWO_STEPS | StartFlags.SAMPLE),
                                    (3, 2, StartFlags.CLEAR | StartFlags.SAMPLE), (4, 0, TWO_STEPS), (4, 3, TWO_STEPS)):
        cases += await run(host, golden, StartArgs(0, length, generate, flags))
        assert await read_words(host, COUNTER_BASE + 4 * len(COUNTERS), 2) == [*golden.head_counters.values()]
        if generate:
            entries = [value for token, value in golden.top() for value in (value, token)]
            assert await read_words(host, TOP_BASE, len(entries)) == entries
        if flags & StartFlags.DUMP:
            assert await read_words(host, 4 * image.registers["logits_base"], vocab) == golden.logits.tolist()
        dut._log.info(f"{golden.head_counters}")
    # Nothing behind the last counter.
    kind, content = await host.ask(PacketType.READ, u32(COUNTER_BASE + 4 * len(COUNTERS) + 8) + b"\x04\0")
    assert (kind, content[0]) == (PacketType.NAK, NakReason.ADDRESS)
    report(cases=cases)


@cocotb.test()
async def a_stop_in_step_two(dut):
    """Stops at some places of step 2, and of step 1, which leave nothing behind.  A STOP takes some 250 cycles to come in."""
    host, _, golden = await in_two_steps(dut)
    pick = await first_pick(host, StartArgs(0, 1, 1, TWO_STEPS))
    where = COUNTER_BASE + 4 * len(COUNTERS)
    _, all_read = await read_words(host, where, 2)
    # The pick lies in the golden model's token memory too.
    assert len(tokens_of(golden, StartArgs(0, 1, 1, TWO_STEPS))) == 1 and golden.head_counters["head_rows_read"] == all_read
    found = []
    for before in (450, 520, 611, 800, 1500):
        await start(host, StartArgs(0, 1, 1, TWO_STEPS))
        await wait(dut, pick - before)
        assert await host.ask(PacketType.STOP) == (PacketType.ACK, b"")
        kind, got = await event(host, 10_000)
        assert (kind, got.logit) == (PacketType.DONE, DoneReason.STOPPED), before
        found.append((await read_words(host, where, 2))[1])
    dut._log.info(f"rows that were read: {found} of {all_read}")
    assert any(0 < read < all_read for read in found), (found, all_read)
    await run(host, golden, StartArgs(0, 2, 2, TWO_STEPS))
    await run(host, golden, StartArgs(0, 2, 2))
    report(cases=7)


@cocotb.test()
async def what_a_run_moves(dut):
    """A chunk, a partial chunk, a drawn token and another one: all steps, the last one's logits, and the words of the memory that
    K, V, their scales and the logits took."""
    host = await bring_up(dut)
    c = ModelConfig(dim=64, ffn=92, layers=2, heads=4, kv_heads=1, head_dim=16, vocab=67, context=16, o_norm=True)
    model = model_of(c, gains=True)
    image = compile_model(model, CONFIG)
    await load(host, image)
    if CONFIG.ddr3:
        # A CHECKSUM takes a word of 32 bits a cycle, beside the packet, its answer and the memory's refreshes.
        base, content = max(image.sections, key=lambda section: len(section[1]))
        size = len(content) // 4 * 4
        began = get_sim_time("ns")
        assert await host.ask(PacketType.CHECKSUM, u32(base) + u32(size)) == (PacketType.SUM, u32(crc32(content[:size])))
        cycles = (get_sim_time("ns") - began) / PERIOD_NS
        assert cycles < size // 4 * 1.1 + 300, (cycles, size)
    golden = GoldenBoard(image, sampler=CONFIG.sampler)
    random = rng("prompt")
    # A chunk and a token more.
    prompt = [random.randrange(c.vocab) for _ in range(CONFIG.chunk + 1)]
    await write(host, TOKEN_BASE, b"".join(map(u32, prompt)))
    golden.tokens[:len(prompt)] = prompt
    await draw_as(host, golden, SETTINGS["hot"])
    args = StartArgs(0, len(prompt), 2, DRAWN | StartFlags.DUMP, chunk=CONFIG.chunk)
    steps = await run(host, golden, args)
    where, logits = 4 * image.registers["logits_base"], b""
    while len(logits) < 4 * c.vocab:
        size = min(512, 4 * c.vocab - len(logits))
        kind, part = await host.ask(PacketType.READ, u32(where + len(logits)) + size.to_bytes(2, "little"))
        assert kind == PacketType.DATA
        logits += part
    assert list(struct.unpack(f"<{c.vocab}i", logits)) == golden.logits.tolist()
    kind, values = await host.ask(PacketType.READ, u32(COUNTER_BASE) + (4 * len(COUNTERS)).to_bytes(2, "little"))
    count = dict(zip(COUNTERS, struct.unpack(f"<{len(COUNTERS)}I", values), strict=True))
    # A token's K and V rows of whole words, and the scales of a chunk's tokens, 32 bits each, one behind another.
    lanes = CONFIG.word_bits // 32
    most = CONFIG.chunk
    chunks = [range(0, most), range(most, most + 1), range(most + 1, most + 2)]
    words = sum(len(tokens) * 2 * (c.head_dim // 4 // lanes) + tokens[-1] // lanes - tokens[0] // lanes + 1 for tokens in chunks)
    assert count["attention_write_words"] == c.layers * c.kv_heads * words
    assert count["logits_words"] == 2 * -(-c.vocab // lanes)
    assert count["host_read_words"] == count["host_write_words"] == 0
    report(cases=steps)


DRAWN = StartFlags.CLEAR | StartFlags.SAMPLE
#: Settings by name: a temperature alone, each setting beside it, and all.
SETTINGS = {
    "plain": DrawSettings(inverse_temperature(1.0), seed=1),
    "cold": DrawSettings(inverse_temperature(0.0113), seed=2),
    "hot": DrawSettings(inverse_temperature(40.0), seed=(1 << 64) - 3),
    "top-k": DrawSettings(inverse_temperature(5.0), top_k=9, seed=4),
    "top-p": DrawSettings(inverse_temperature(5.0), top_p=20_000, seed=5),
    "min-p": DrawSettings(inverse_temperature(5.0), max_gap=max_gap(0.6), seed=1 << 33),
    "all": DrawSettings(inverse_temperature(3.0), top_k=40, top_p=60_000, max_gap=max_gap(0.3), seed=7),
}


async def loaded(host, vocab, context=32):
    """A model of so many tokens and positions, and two tokens of a prompt; the golden model."""
    image = compile_model(even_model(vocab, context), CONFIG)
    await load(host, image)
    await write(host, TOKEN_BASE, u32(17) + u32(vocab - 1))
    golden = GoldenBoard(image, sampler=CONFIG.sampler)
    golden.tokens[:2] = 17, vocab - 1
    return golden


async def prepared(dut):
    """A core with a model; (host, golden model, its vocabulary)."""
    host = await bring_up(dut)
    return host, await loaded(host, 128), 128


async def draw_as(host, golden, settings):
    values = pack_settings(settings)
    golden.registers |= values
    await write(host, register_address(SAMPLING_REGISTERS[0]), b"".join(u32(values[name]) for name in SAMPLING_REGISTERS))


def tokens_of(golden, args):
    """The ids of a run's picks."""
    return [told.id for kind, told in golden.start(args) if kind == EventType.TOKEN]


@cocotb.test()
async def a_run_draws_and_ends(dut):
    """A drawn run with all settings, up to an end token in the last place."""
    host, golden, vocab = await prepared(dut)
    await draw_as(host, golden, SETTINGS["all"])
    free = tokens_of(golden, StartArgs(0, 2, 4, DRAWN))
    assert free[2] not in free[:2]
    ends = (vocab + 1,) * (END_TOKENS - 1)
    report(cases=await run(host, golden, StartArgs(0, 2, 4, DRAWN, 0, ends=(*ends, free[2])), DoneReason.END_TOKEN))
    report_point("limit: an end token in the last place")
    await counted(host)


@cocotb.test()
async def tokens_are_drawn(dut):
    """Tokens and logits of each setting, and the steps of the last token, which was fed a drawn one; then a greedy run."""
    host, golden, _ = await prepared(dut)
    greedy = tokens_of(golden, StartArgs(0, 2, 3))
    others = 0
    for settings in SETTINGS.values():
        await draw_as(host, golden, settings)
        args = StartArgs(0, 2, 3, DRAWN)
        await run(host, golden, args)
        # Drawn tokens are where they were fed from.
        kind, stored = await host.ask(PacketType.READ, u32(TOKEN_BASE + 8) + b"\x0c\0")
        assert (kind, stored) == (PacketType.DATA, b"".join(u32(token) for token in golden.tokens[2:5]))
        others += tokens_of(golden, args) != greedy
    assert others == len(SETTINGS) - 1, "settings but the cold ones draw what a greedy run takes"
    # A run without the flag takes the likeliest, whatever the registers say.
    await run(host, golden, StartArgs(0, 2, 3))
    # A vocabulary of fewer tokens than the best's entries, the last of which are those of the model before; and a full context.
    golden = await loaded(host, 40, context=8)
    await draw_as(host, golden, SETTINGS["hot"])
    await run(host, golden, StartArgs(0, 2, 3, DRAWN))
    await run(host, golden, StartArgs(0, 2, 20, DRAWN), DoneReason.CONTEXT)
    report(cases=len(SETTINGS) + 3)


@cocotb.test()
async def four_end_tokens(dut):
    """Each of the end tokens ends a run, greedy and drawn; numbers above all tokens, with the bits of a token, do not."""
    host, golden, vocab = await prepared(dut)
    await draw_as(host, golden, SETTINGS["hot"])
    cases = 0
    for flags in (StartFlags.CLEAR, DRAWN):
        free = tokens_of(golden, StartArgs(0, 2, 4, flags))
        # The first pick that is not one of before.
        at = next(i for i in range(1, 4) if free[i] not in free[:i])
        for place in range(END_TOKENS):
            ends = [vocab + 1, free[0] | 1 << 31, free[0] | 1 << CONFIG.widths.token_id_bits, vocab + 2]
            ends[place] = free[at]
            await run(host, golden, StartArgs(0, 2, 4, flags, ends=tuple(ends)), DoneReason.END_TOKEN)
            cases += 1
        # A token that the run does not pick ends nothing.
        await run(host, golden, StartArgs(0, 2, 4, flags, 0, ends=(next(t for t in range(vocab) if t not in free),)))
    report(cases=cases + 2)


def cycles_since(began):
    """Cycles since a time in nanoseconds."""
    return round((get_sim_time("ns") - began) / PERIOD_NS)


async def wait(dut, cycles):
    for _ in range(cycles):
        await FallingEdge(dut.clk)


async def start(host, args):
    assert await host.ask(PacketType.START, args.pack()) == (PacketType.ACK, b"")
    return get_sim_time("ns")


async def first_pick(host, args):
    """Cycles from the answer to START until the packet of the run's only pick."""
    began = await start(host, args)
    kind, _ = await event(host)
    cycles = cycles_since(began)
    assert (kind, (await event(host, 10_000))[0]) == (PacketType.TOKEN, PacketType.DONE)
    return cycles


@cocotb.test()
async def reads_and_stops_meet_a_draw(dut):
    """A host's read of the best 64 is right before a draw, with its first cycle, and in it, and so is the draw.  A
    stop ends a run in a draw, and the run after it draws what it should."""
    host, golden, vocab = await prepared(dut)
    await draw_as(host, golden, SETTINGS["hot"])
    args = StartArgs(0, 2, 1, DRAWN)
    (_, want), _ = golden.start(args)
    pick = await first_pick(host, args)
    draw_cycles = pick - await first_pick(host, StartArgs(0, 2, 1))
    assert draw_cycles > 1000, "a draw that is too short to be met"
    entry = min(TOP_ENTRIES, vocab) - 1
    token, logit = golden.top()[entry]

    async def read():
        """The last entry: whether it is right, and the cycles of the read."""
        began = get_sim_time("ns")
        answer = await host.ask(PacketType.READ, u32(TOP_BASE + 8 * entry) + b"\x08\0")
        return answer == (PacketType.DATA, u32(logit & 0xFFFFFFFF) + u32(token)), cycles_since(began)

    right, alone = await read()
    assert right
    # Reads one after another, from before the draw on: one meets the draw, with its first cycle or later, and waits for its end.
    # The best 64 are there some 14 cycles before the draw; a read of two words takes eight, so what waits is right.
    for before in (200, 203, 206, 211, 217, 228):
        began = await start(host, args)
        await wait(dut, pick - draw_cycles - before)
        cycles = 0
        while cycles < alone + draw_cycles // 2:
            right, cycles = await read()
            assert cycles_since(began) < pick + 1000, "no read met the draw"
        assert right, before
        kind, got = await event(host, 1000)
        assert (kind, got.id, got.logit) == (PacketType.TOKEN, want.id, want.logit)
        assert (await event(host, 10_000))[0] == PacketType.DONE and (await read())[0]

    await start(host, args)
    await wait(dut, pick - draw_cycles // 2)
    assert await host.ask(PacketType.STOP) == (PacketType.ACK, b"")
    kind, got = await event(host, draw_cycles // 4)
    assert (kind, got.logit) == (PacketType.DONE, DoneReason.STOPPED)
    await run(host, golden, StartArgs(0, 2, 3, DRAWN))
    dut._log.info(f"a draw from {entry + 1} candidates takes {draw_cycles} cycles")
    report(cases=8)


@cocotb.test()
async def stops_at_any_step(dut):
    """Stops at random places of a run leave nothing behind: the next run begins with the program's first step."""
    host, golden, _ = await prepared(dut)
    pick = await first_pick(host, StartArgs(0, 2, 1))
    random, cases = rng("stops"), 0
    for _ in range(6):
        await start(host, StartArgs(0, 2, 20))
        await wait(dut, random.randrange(2 * pick))
        assert await host.ask(PacketType.STOP) == (PacketType.ACK, b"")
        kind = PacketType.TOKEN
        while kind == PacketType.TOKEN:
            kind, got = await event(host, 10_000)
        assert (kind, got.logit) == (PacketType.DONE, DoneReason.STOPPED)
        report_point("end: STOPPED")
        cases += await run(host, golden, StartArgs(0, 1, 1))
    # A context of two tokens ends a run that asks for more.
    golden.registers["context"] = 2
    await write(host, register_address("context"), u32(2))
    cases += await run(host, golden, StartArgs(0, 1, 5), DoneReason.CONTEXT)
    # With the largest stored scale the row of token 17 overflows: the run ends with its first step, and tells that one.
    r = golden.registers
    where = 4 * r["embed_base"] + 8 * head_block_words(r["dim"]) * (17 // HEAD_BLOCK_ROWS)
    _, words = await host.ask(PacketType.READ, u32(where) + b"\x08\0")
    scales = [*struct.unpack("<4H", words)]
    scales[17 % HEAD_BLOCK_ROWS] = 0xFFFF
    await write(host, where, struct.pack("<4H", *scales))
    golden.write(where, struct.pack("<4H", *scales))
    (kind, want), = golden.start(StartArgs(0, 1, 1))
    assert (kind, want.logit, want.id) == (EventType.DONE, DoneReason.NONFINITE, 0)
    assert not dut.failed.value
    await start(host, StartArgs(0, 1, 1))
    kind, got = await event(host)
    assert (kind, got.position, got.id, got.logit) == (PacketType.DONE, want.position, want.id, want.logit)
    assert dut.failed.value, "the LED tells"
    report_point("end: NONFINITE")
    report(cases=cases)


@cocotb.test()
async def without_a_sampler(dut):
    """The sampling registers are not there, the flag counts for nothing, and four end tokens end a run."""
    host, golden, vocab = await prepared(dut)
    where = register_address(SAMPLING_REGISTERS[0])
    kind, content = await host.ask(PacketType.WRITE, u32(where) + u32(1))
    assert (kind, content[0]) == (PacketType.NAK, NakReason.ADDRESS)
    assert await host.ask(PacketType.READ, u32(where) + b"\x04\0") == (PacketType.DATA, u32(0))
    want = tokens_of(golden, StartArgs(0, 2, 3))
    assert await host.ask(PacketType.START, StartArgs(0, 2, 3, DRAWN).pack()) == (PacketType.ACK, b"")
    for token in want:
        kind, got = await event(host)
        assert (kind, got.id) == (PacketType.TOKEN, token)
    assert (await event(host, 10_000))[0] == PacketType.DONE
    for place in range(END_TOKENS):
        ends = [vocab + 1] * place + [want[1]]
        await run(host, golden, StartArgs(0, 2, 3, StartFlags.CLEAR, ends=tuple(ends)), DoneReason.END_TOKEN)
    report(cases=6)
