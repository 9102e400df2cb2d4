# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""HostLink against the host's own framing: answers, refusals, retransmission, events."""

from zlib import crc32

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.control import EventLayout
from hw.link.link import BusRequest, HostLink
from sim.cocotb_streams import StreamSource, report, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.link.framing import body, encode
from tellme.spec.packets import DATA_MAX, HELLO, MAGIC, NO_SEQ, PROTOCOL_VERSION, NakReason, PacketType
from tellme.spec.program import FORMAT_VERSION
from tests.hw.layouts import fields, pack
from tests.hw.packets_model import Host

#: Two of them at one base: what can be written, and what can be read.
WINDOWS = ((0, 0x10000, True), (0x80000000, 0x100, True), (0x90000000, 0x40, True), (0x90000000, 0x100, False),
           (0xA0000000, 0x40, False))
BENCHES = [Bench(name="windows5", build=lambda: HostLink(windows=WINDOWS, name="test-preset"))]
BUILD_ID = 0x1234567890ABCDEF << 128 | 0xFEDCBA


class Bus:
    """Answers the bus from a dict of words; its valid and ready are low in a share of the cycles."""

    def __init__(self, dut, stall=0.0):
        self.dut, self.memory, self.requests, self.stall = dut, {}, 0, stall
        self.random = rng("bus")

    async def run(self):
        dut = self.dut
        dut.bus_rdata__valid.value = dut.bus_wdata__ready.value = 0
        while True:
            dut.bus_req__ready.value = 1
            dut.bus_idle.value = 1
            await settled()
            asked, request = bool(dut.bus_req__valid.value), int(dut.bus_req__payload.value)
            await FallingEdge(dut.clk)
            if not asked:
                continue
            self.requests += 1
            dut.bus_req__ready.value = dut.bus_idle.value = 0
            write, addr, words = fields(BusRequest, request, "write", "addr", "words")
            for i in range(words):
                while self.random.random() < self.stall:
                    dut.bus_wdata__ready.value = dut.bus_rdata__valid.value = 0
                    await FallingEdge(dut.clk)
                if write:
                    dut.bus_wdata__ready.value = 1
                else:
                    dut.bus_rdata__payload.value = self.memory.get(addr + 4 * i, 0)
                    dut.bus_rdata__valid.value = 1
                while True:
                    await settled()
                    done = bool((dut.bus_wdata__valid if write else dut.bus_rdata__ready).value)
                    value = int(dut.bus_wdata__payload.value)
                    await FallingEdge(dut.clk)
                    if done:
                        break
                if write:
                    self.memory[addr + 4 * i] = value
                dut.bus_wdata__ready.value = dut.bus_rdata__valid.value = 0


async def bring_up(dut, **options):
    for name in ("rx__valid", "tx__ready", "event__valid", "running", "bus_rdata__valid", "bus_wdata__ready"):
        getattr(dut, name).value = 0
    dut.build_id.value = BUILD_ID
    dut.status.value = 0x0123456789
    await reset(dut)
    bus = Bus(dut, options.get("stall", 0.0))
    cocotb.start_soon(bus.run())
    return Host(dut, **options), bus


def u32(value):
    return value.to_bytes(4, "little")


@cocotb.test()
async def hello_and_status(dut):
    host, _ = await bring_up(dut)
    kind, content = await host.ask(PacketType.HELLO)
    assert kind == PacketType.HELLO_ANSWER
    magic, version, program_format, name, build = HELLO.unpack(content)
    assert (magic, version, program_format) == (MAGIC, PROTOCOL_VERSION, FORMAT_VERSION)
    assert name.rstrip(b"\0") == b"test-preset"
    assert int.from_bytes(build, "little") == BUILD_ID
    assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, (0x0123456789).to_bytes(32, "little"))


async def memory(dut, **options):
    host, _ = await bring_up(dut, **options)
    random = rng("memory")
    sizes = (4, 64, 252, 256, DATA_MAX) if not options else (4, 80)
    for size in sizes:
        # Zeros and long runs without any exercise the frame's codes.
        data = bytes(random.choice((0, 0, random.randint(1, 255))) if size != 256 else 7 for _ in range(size))
        assert await host.ask(PacketType.WRITE, u32(0x400) + data) == (PacketType.ACK, b"")
        assert await host.ask(PacketType.READ, u32(0x400) + size.to_bytes(2, "little")) == (PacketType.DATA, data)
        assert await host.ask(PacketType.CHECKSUM, u32(0x400) + u32(size)) == (PacketType.SUM, u32(crc32(data)))
    report_shares(**host.shares)
    report(cases=3 * len(sizes))


@cocotb.test()
async def write_read_checksum(dut):
    await memory(dut)


@cocotb.test()
async def stalls_10(dut):
    await memory(dut, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await memory(dut, idle=0.9, stall=0.9)


@cocotb.test()
async def bad_packets_are_answered_counted_and_not_acted_on(dut):
    host, bus = await bring_up(dut)
    good = body(9, PacketType.WRITE, u32(0) + bytes(8))
    bad = []
    for i in range(len(good)):
        flipped = bytearray(good)
        flipped[i] ^= 0x10
        bad.append((encode(bytes(flipped)), NO_SEQ, NakReason.CRC))
    bad += [(encode(good[:5]), NO_SEQ, NakReason.FRAMING), (b"\x09abc\0", NO_SEQ, NakReason.FRAMING),
            (encode(bytes(range(1, 200)) * 12), NO_SEQ, NakReason.FRAMING)]
    packets = [(0x33, b"", NakReason.TYPE), (PacketType.HELLO, b"x", NakReason.LENGTH),
               (PacketType.WRITE, u32(0) + b"abc", NakReason.LENGTH), (PacketType.WRITE, u32(0), NakReason.LENGTH),
               (PacketType.WRITE, u32(2) + bytes(4), NakReason.ADDRESS),
               (PacketType.WRITE, u32(0xFFFC) + bytes(8), NakReason.ADDRESS),
               (PacketType.WRITE, u32(0xA0000000) + bytes(4), NakReason.ADDRESS),
               (PacketType.WRITE, u32(0x70000000) + bytes(4), NakReason.ADDRESS),
               (PacketType.READ, u32(0) + b"\x06\0", NakReason.ADDRESS),
               (PacketType.READ, u32(0) + (DATA_MAX + 4).to_bytes(2, "little"), NakReason.LENGTH),
               (PacketType.READ, u32(0xFFFFFFFC) + b"\x08\0", NakReason.ADDRESS),
               (PacketType.WRITE, u32(0x9000003C) + bytes(8), NakReason.ADDRESS),
               (PacketType.WRITE, u32(0x90000040) + bytes(4), NakReason.ADDRESS),
               (PacketType.READ, u32(0x900000FC) + b"\x08\0", NakReason.ADDRESS),
               # From one window's space into the next one's, which a range has to stay out of.
               (PacketType.READ, u32(0x9FFFFFFC) + b"\x08\0", NakReason.ADDRESS),
               (PacketType.CHECKSUM, u32(0x8FFFFFFC) + u32(8), NakReason.ADDRESS),
               (PacketType.CHECKSUM, u32(0) + u32(0), NakReason.ADDRESS), (PacketType.START, bytes(15), NakReason.LENGTH)]
    bad += [(encode(body(9, kind, payload)), 9, reason) for kind, payload, reason in packets]
    pulses = [0]

    async def watch():
        while True:
            await FallingEdge(dut.clk)
            pulses[0] += int(dut.run__start.value) + int(dut.run__stop.value)

    cocotb.start_soon(watch())
    for n, (frame, seq, reason) in enumerate(bad):
        await host.send_raw(frame)
        assert await host.packet() == (seq, PacketType.NAK, bytes([reason])), (n, reason)
    assert int(dut.errors.value) == len(bad)
    assert bus.requests == 0 and pulses[0] == 0
    for base, size in ((0xA0000000, 0x40), (0x90000000, 0x100), (0x80000000, 0x100)):
        assert (await host.ask(PacketType.READ, u32(base) + size.to_bytes(2, "little")))[0] == PacketType.DATA
    assert (await host.ask(PacketType.WRITE, u32(0x90000000) + bytes(0x40)))[0] == PacketType.ACK
    report(cases=len(bad))


@cocotb.test()
async def start_and_stop_are_done_once(dut):
    host, _ = await bring_up(dut)
    args = bytes(range(16))
    seen = []

    async def watch():
        while True:
            await FallingEdge(dut.clk)
            if dut.run__start.value:
                seen.append(("start", int(dut.run__args.value)))
            if dut.run__stop.value:
                seen.append(("stop", 0))

    cocotb.start_soon(watch())
    for _ in range(3):
        assert (await host.ask(PacketType.START, args, seq=5))[0] == PacketType.ACK
    assert seen == [("start", int.from_bytes(args, "little"))]
    dut.running.value = 1
    assert await host.ask(PacketType.START, args, seq=6) == (PacketType.NAK, bytes([NakReason.BUSY]))
    for _ in range(2):
        assert (await host.ask(PacketType.STOP, seq=7))[0] == PacketType.ACK
    assert seen[1:] == [("stop", 0)]


@cocotb.test()
async def events_between_answers(dut):
    host, _ = await bring_up(dut)
    events = StreamSource(dut, "event")
    payloads = [rng(f"event{i}").getrandbits(256) for i in range(6)]
    cocotb.start_soon(events.send_all([pack(EventLayout, type=i % 2, payload=p) for i, p in enumerate(payloads)]))
    await host.send_raw(encode(body(3, PacketType.STATUS)))
    got = [await host.packet() for _ in range(7)]
    answers = [p for p in got if p[1] == PacketType.STATUS_ANSWER]
    assert [p[0] for p in answers] == [3]
    told = [p for p in got if p[1] != PacketType.STATUS_ANSWER]
    assert told == [(i, PacketType.TOKEN + i % 2, p.to_bytes(32, "little")) for i, p in enumerate(payloads)]
