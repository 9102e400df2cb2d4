# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The whole core at its byte streams and SDRAM bus: a small model runs from packets alone."""

import os
from dataclasses import replace
from zlib import crc32

import cocotb
from cocotb.triggers import FallingEdge

from hw.top import Core
from sim.chips.sdram import Chip
from sim.cocotb_streams import report, reset, rng, settled
from sim.testbench import Bench
from tellme.compiler.image import compile_model
from tellme.golden.board import GoldenBoard
from tellme.spec.config import preset
from tellme.spec.memory import CRC_BASE, PROGRAM_BASE, REGISTER_BASE, SEGMENT_BASE, TOKEN_BASE, DoneReason, Event, StartArgs
from tellme.spec.packets import HELLO, PacketType
from tellme.spec.program import FORMAT_VERSION
from tests.hw.memory_model import Dfi
from tests.hw.packets_model import Host
from tests.models.random_model import random_model

TINY = replace(preset("sim-tiny"), max_dim=64, max_cols=64, max_context=32, sdram_power_up_us=2.0)
#: Preset-like configurations by bench: one lane and a small part's units, as ecp5-25f; a chunk of tokens on lanes of its own.
CONFIGS = {"tiny": replace(TINY, compact=True, accounts=False),
           "chunk": replace(TINY, max_dim=128, max_cols=164, lanes=4, chunk=4, float_lanes=2, pes=4)}
BENCHES = [Bench(name="tiny", build=lambda: Core(CONFIGS["tiny"]), env={"CONFIG": "tiny"}, timeout_s=600,
                 tests=("says_who_it_is", "memory_through_packets", "a_model_runs")),
           *(Bench(name=f"chunk-{model}", build=lambda: Core(CONFIGS["chunk"]), env={"CONFIG": "chunk", "MODEL": model},
                   timeout_s=600, tests=("prompts_in_chunks",),
                   nightly="tests/board/test_prefill.py has these models in chunks, on a core of 16 lanes")
             for model in ("grouped", "wide-heads"))]
CONFIG = CONFIGS[os.environ.get("CONFIG", "tiny")]
READ_BEATS = 11
BUILD_ID = int.from_bytes(bytes(range(32)), "little")


async def bring_up(dut):
    """Reset, and an SDRAM chip on the bus that fails the test with the rule that is broken."""
    dut.build_id.value = BUILD_ID
    dut.rx__valid.value = dut.tx__ready.value = 0
    await reset(dut)
    chip = Chip(mhz=CONFIG.sdram_mhz, power_up_us=CONFIG.sdram_power_up_us)
    dfi = Dfi(dut, chip, wire_beats=READ_BEATS - CONFIG.sdram_cas_latency)

    async def bus():
        while True:
            await settled()
            dfi.clock()
            await FallingEdge(dut.clk)

    cocotb.start_soon(bus())
    while not dut.sdram_ready.value:
        await FallingEdge(dut.clk)
    return Host(dut)


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


async def load(host, image):
    """Write an image by packets."""
    for base, content in image.sections:
        await write(host, base, bytes(content) + bytes(-len(content) % 4))
    await write(host, PROGRAM_BASE, image.program_bytes)
    await write(host, SEGMENT_BASE, image.segment_bytes)
    await write(host, REGISTER_BASE, image.register_bytes)


async def run(host, golden, args):
    """Start, and compare each event with the golden model's, then the CRC of every step of the last token.  Returns the number of
    steps."""
    assert await host.ask(PacketType.START, args.pack()) == (PacketType.ACK, b"")
    for _, want in list(golden.start(args))[:-1]:
        _, kind, content = await host.packet(limit=200_000)
        got = Event.unpack(content)
        assert (kind, got.position, got.id, got.logit) == (PacketType.TOKEN, want.position, want.id, want.logit)
    _, kind, content = await host.packet(limit=10_000)
    assert (kind, Event.unpack(content).logit) == (PacketType.DONE, DoneReason.LENGTH)
    steps = len(golden.steps) - 1
    _, crcs = await host.ask(PacketType.READ, u32(CRC_BASE) + (4 * steps).to_bytes(2, "little"))
    assert [int.from_bytes(crcs[4 * i:4 * i + 4], "little") for i in range(steps)] == golden.crcs[:steps]
    return steps


@cocotb.test()
async def a_model_runs(dut):
    """Two prompt tokens and three picks; every step's CRC of the last one."""
    host = await bring_up(dut)
    image = compile_model(random_model("plain"), CONFIG)
    await load(host, image)
    await write(host, TOKEN_BASE, u32(17) + u32(99))
    golden = GoldenBoard(image)
    golden.tokens[:2] = 17, 99
    report(cases=await run(host, golden, StartArgs(0, 2, 3)))


@cocotb.test()
async def prompts_in_chunks(dut):
    """Prompts shorter than a chunk, as long as a chunk, one token longer, and of several chunks; then another pick."""
    host = await bring_up(dut)
    cases = 0
    name = os.environ.get("MODEL", "grouped")
    model = random_model(name)
    image = compile_model(model, CONFIG)
    await load(host, image)
    golden = GoldenBoard(image)
    random = rng(name)
    for length in (1, 3, 4, 5, 11):
        prompt = [random.randrange(model.config.vocab) for _ in range(length)]
        await write(host, TOKEN_BASE, b"".join(map(u32, prompt)))
        golden.tokens[:length] = prompt
        cases += await run(host, golden, StartArgs(0, length, 2, chunk=random.choice((0, 4, 4, 3))))
    report(cases=cases)
