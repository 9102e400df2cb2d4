# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""HostLink with a memory of 512 MB, whose window has two names: ranges over the border, at the end and beyond it.

Each answer is compared with the model's (:class:`tellme.golden.link.BoardLink`), byte for byte.  The rate of CHECKSUM is
measured in cycles, with a bus that has a word in each cycle.
"""

from zlib import crc32

import cocotb
from cocotb.triggers import FallingEdge

from hw.link.link import HostLink
from sim.cocotb_streams import report, report_note, report_point, reset, rng
from sim.testbench import Bench
from tellme.golden.link import BoardLink
from tellme.link.framing import body, encode
from tellme.spec.packets import SESSION, NakReason, PacketType
from tests.hw.link.tb_link import BUILD_ID, Bus, nak, u32
from tests.hw.packets_model import Host

MEMORY, BORDER = 1 << 29, 1 << 28
WINDOWS = ((0, MEMORY, True), (0x80000000, 0x100, True), (0x90000000, 0x40, True), (0x90000000, 0x100, False))
NAME = "large"
BENCHES = [Bench(name="sums32", build=lambda: HostLink(windows=WINDOWS, name=NAME, checksum_bits=32))]
POINTS = ("limit: the last word of the largest memory", "refused: a word behind the largest memory")


class Core:
    """What is behind the model: words by address."""

    running = False

    def __init__(self):
        self.words = {}

    def read(self, address, size):
        return b"".join(u32(self.words.get(at, 0)) for at in range(address, address + size, 4))

    def write(self, address, content):
        for i in range(0, len(content), 4):
            self.words[address + i] = int.from_bytes(content[i:i + 4], "little")

    def status(self):
        return bytes(32)


async def bring_up(dut, stall=0.0):
    """The host's end, the bus, and the model with the session that is open on both."""
    for name in ("rx__valid", "tx__ready", "event__valid", "running", "bus_rdata__valid", "bus_wdata__ready"):
        getattr(dut, name).value = 0
    dut.build_id.value = BUILD_ID
    dut.status.value = 0
    await reset(dut)
    bus = Bus(dut, stall)
    cocotb.start_soon(bus.run())
    host = Host(dut)
    model = BoardLink(Core(), WINDOWS, name=NAME, build_id=BUILD_ID.to_bytes(32, "little"))
    await host.open(seq=0)
    model.receive(encode(body(0, PacketType.HELLO, SESSION.pack(1))))
    return host, bus, model


async def ask(host, model, kind, payload):
    """The board's answer, which is the model's."""
    seq = host.seq
    answer = await host.ask(kind, payload)
    assert encode(body(seq, *answer)) == model.receive(encode(body(seq, kind, payload))), (kind, payload[:8].hex())
    return answer


async def ranges(dut, stall=0.0):
    host, bus, model = await bring_up(dut, stall)
    random, cases = rng("content"), 0
    # Within the window: the first words, over the border, up to it, from it on, and the last words.
    for address, size in ((0, 4), (0, 64), (BORDER - 4, 8), (BORDER - 32, 64), (BORDER - 60, 64), (BORDER - 4, 4),
                          (BORDER, 4), (BORDER, 64), (MEMORY - 64, 64), (MEMORY - 4, 4)):
        content = random.randbytes(size)
        assert await ask(host, model, PacketType.WRITE, u32(address) + content) == (PacketType.ACK, b"")
        assert await ask(host, model, PacketType.READ, u32(address) + size.to_bytes(2, "little")) == (PacketType.DATA, content)
        assert await ask(host, model, PacketType.CHECKSUM, u32(address) + u32(size)) == (PacketType.SUM, u32(crc32(content)))
        cases += 3
    # The names are of words of their own.
    assert bus.memory[BORDER] != bus.memory[0] and MEMORY - 4 in bus.memory
    before = bus.requests
    # Beyond the window: one word, a range that ends one word behind, and what 32 bits wrap around to.
    for address, size in ((MEMORY, 4), (MEMORY - 4, 8), (MEMORY - 60, 64), (MEMORY + BORDER, 4), (0x7FFF_FFFC, 4),
                          (0x7FFF_FFFC, 8), (0xFFFF_FFFC, 8)):
        for kind, payload in ((PacketType.WRITE, bytes(size)), (PacketType.READ, size.to_bytes(2, "little")),
                              (PacketType.CHECKSUM, u32(size))):
            assert await ask(host, model, kind, u32(address) + payload) == nak(NakReason.ADDRESS, host.seq)
            cases += 1
    assert await ask(host, model, PacketType.CHECKSUM, u32(BORDER) + u32(1 << 22)) == nak(NakReason.ADDRESS, host.seq)
    assert bus.requests == before
    assert bus.memory == model._core.words
    for point in POINTS:
        report_point(point)
    report(cases=cases + 1)


@cocotb.test()
async def ranges_at_the_border_and_at_the_end(dut):
    await ranges(dut)


@cocotb.test()
async def the_same_with_a_bus_that_waits(dut):
    await ranges(dut, stall=0.5)


@cocotb.test()
async def cycles_of_a_checksum(dut):
    """From two sizes, so that the packets cancel out."""
    host, bus, _ = await bring_up(dut)
    random = rng("content")
    took = []
    for size in (1 << 10, 1 << 13):
        content = random.randbytes(size)
        for at in range(0, size, 4):
            bus.memory[BORDER - size // 2 + at] = int.from_bytes(content[at:at + 4], "little")
        cycles, going = 0, True

        async def count():
            nonlocal cycles
            while going:
                await FallingEdge(dut.clk)
                cycles += 1

        counter = cocotb.start_soon(count())
        assert await host.ask(PacketType.CHECKSUM, u32(BORDER - size // 2) + u32(size)) == (PacketType.SUM, u32(crc32(content)))
        going = False
        await counter
        took.append(cycles)
    rate = (took[1] - took[0]) / ((1 << 13) - (1 << 10))
    report(cases=2)
    report_note(f"{rate:.3f} cycles a byte")
    # The packets take as long, within some cycles of the stream's ends.
    assert abs(rate - 0.25) < 0.002
