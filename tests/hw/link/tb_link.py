# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""HostLink against the host's own framing: answers, refusals and their order, sessions, seqs, events."""

from zlib import crc32

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge

from hw.lib.control import EventLayout
from hw.link.link import BusRequest, HostLink
from sim.cocotb_streams import StreamSource, clocked, report, report_point, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.link.framing import body, encode
from tellme.spec.memory import END_TOKENS, NO_END, StartArgs, StatusWord
from tellme.spec.packets import (
    DATA_MAX,
    EVENT_SLOTS,
    EVENTS,
    HELLO,
    MAGIC,
    NAK,
    PAST,
    PROTOCOL_VERSION,
    SESSION,
    WINDOW,
    NakReason,
    PacketType,
)
from tellme.spec.program import FORMAT_VERSION
from tests.hw.layouts import fields, pack
from tests.hw.packets_model import Host

#: Two of them at one base: what can be written, and what can be read.
WINDOWS = ((0, 0x10000, True), (0x80000000, 0x100, True), (0x90000000, 0x40, True), (0x90000000, 0x100, False),
           (0xA0000000, 0x40, False))
BENCHES = [Bench(name="windows5", build=lambda: HostLink(windows=WINDOWS, name="test-preset"))]
POINTS = (*(f"refused: {reason.name}" for reason in NakReason), "limit: a WRITE, a READ and a CHECKSUM of the longest data",
          "limit: the last byte of a window", "limit: the oldest packet that is answered again, and the one before",
          "limit: a window of packets", "limit: a ring of events that is full",
          "refused: events that are not kept, and the one behind the next",
          "limit: an answer that ends with the longest run without a zero")
BUILD_ID = 0x1234567890ABCDEF << 128 | 0xFEDCBA
#: Each word of STATUS is another one; the link fills in the last one but one.
STATUS = b"".join((0x01020304 * (i + 1)).to_bytes(4, "little") for i in range(8))
START = StartArgs(position=3, feed=2, generate=9, chunk=4, ends=(7, 0x12345678)).pack()
ACK = (PacketType.ACK, b"")


class Bus:
    """Answers the bus from a dict of words; its valid and ready are low in a share of the cycles."""

    def __init__(self, dut, stall=0.0):
        self.dut, self._clk, self.memory, self.requests, self.stall = dut, dut.clk, {}, 0, stall
        self.random = rng("bus")

    @clocked
    async def run(self):
        dut = self.dut
        dut.bus_rdata__valid.value = dut.bus_wdata__ready.value = 0
        while True:
            ready = not self.stall or self.random.random() >= self.stall
            dut.bus_req__ready.value = int(ready)
            dut.bus_idle.value = 1
            await settled()
            asked, request = ready and bool(dut.bus_req__valid.value), int(dut.bus_req__payload.value)
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
    dut.status.value = int.from_bytes(STATUS, "little")
    await reset(dut)
    bus = Bus(dut, options.get("stall", 0.0))
    cocotb.start_soon(bus.run())
    return Host(dut, **options), bus


def u32(value):
    return value.to_bytes(4, "little")


def status_bytes(following, first, words=STATUS):
    """The answer to STATUS, with the link's word: the number of the next event, and of the first one that is kept."""
    at = 4 * StatusWord.EVENTS
    return words[:at] + u32(first << 8 | following) + words[at + 4:]


async def cycles(dut, count):
    """Wait until just behind a falling edge."""
    await ClockCycles(dut.clk, count)
    await FallingEdge(dut.clk)


def nak(reason, expected):
    return PacketType.NAK, NAK.pack(reason, expected)


class Pulses:
    """Records the pulses of ``run``: the bytes of START's arguments, or "stop"."""

    def __init__(self, dut):
        self.dut, self.seen = dut, []
        cocotb.start_soon(self._watch())

    async def _watch(self):
        while True:
            await FallingEdge(self.dut.clk)
            if self.dut.run__start.value:
                self.seen.append(int(self.dut.run__args.value).to_bytes(28, "little"))
            if self.dut.run__stop.value:
                self.seen.append("stop")


class Sent:
    """Records the bytes that leave on ``tx``."""

    def __init__(self, dut):
        self._dut, self._clk, self.seen = dut, dut.clk, bytearray()
        cocotb.start_soon(self._watch())

    @clocked
    async def _watch(self):
        while True:
            await settled()
            if self._dut.tx__valid.value and self._dut.tx__ready.value:
                self.seen.append(int(self._dut.tx__payload.value))
            await FallingEdge(self._clk)


class Events:
    """Offers events one after another; ``taken`` counts those that the link took."""

    def __init__(self, dut, count, salt="events"):
        random = rng(salt)
        self.events = [(random.randrange(2), random.getrandbits(256)) for _ in range(count)]
        self.taken = 0
        self._source = StreamSource(dut, "event")
        self.task = cocotb.start_soon(self._run())

    async def _run(self):
        for kind, payload in self.events:
            await self._source.send(pack(EventLayout, type=kind, payload=payload))
            self.taken += 1

    def packet(self, i, number=None):
        """Event ``i`` as the board sends it."""
        kind, payload = self.events[i]
        return (i if number is None else number) % 256, PacketType.TOKEN + kind, payload.to_bytes(32, "little")


async def quiet(host, cycles=4000):
    """No packet comes for a while."""
    try:
        raise AssertionError(f"a packet that nothing asked for: {await host.packet(limit=cycles)}")
    except AssertionError as error:
        if "no packet within" not in str(error):
            raise


@cocotb.test()
async def hello_and_status(dut):
    host, _ = await bring_up(dut)
    kind, content = await host.ask(PacketType.HELLO)
    assert kind == PacketType.HELLO_ANSWER
    # Who is there opens no session.
    assert await host.exchange(9, PacketType.STATUS) == (PacketType.NAK, NAK.pack(NakReason.SESSION, 0))
    magic, version, program_format, name, build = HELLO.unpack(content)
    assert (magic, version, program_format) == (MAGIC, PROTOCOL_VERSION, FORMAT_VERSION)
    assert name.rstrip(b"\0") == b"test-preset"
    assert int.from_bytes(build, "little") == BUILD_ID
    await host.open(seq=254)
    # The words of the moment: each bit of them changes.
    for words in (STATUS, bytes(0xFF ^ byte for byte in STATUS), STATUS):
        dut.status.value = int.from_bytes(words, "little")
        assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(0, 0, words))
    assert host.seq == 2


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
    if DATA_MAX in sizes:
        report_point("limit: a WRITE, a READ and a CHECKSUM of the longest data")
    report_shares(**host.shares)
    report(cases=3 * len(sizes))


@cocotb.test()
async def write_read_checksum(dut):
    await memory(dut)


@cocotb.test()
async def an_answer_without_a_zero(dut):
    """Its frame ends with a code of the longest run, behind which no zero stands: one such run, and three."""
    host, bus = await bring_up(dut)
    await host.open()
    sent = Sent(dut)
    random = rng("nonzero")
    for size in (254 - 6, 3 * 254 - 6):
        data = b"\0"
        while 0 in body(host.seq, PacketType.DATA, data):
            data = bytes(random.randint(1, 255) for _ in range(size))
        bus.memory = {0x200 + at: int.from_bytes(data[at:at + 4], "little") for at in range(0, size, 4)}
        content = body(host.seq, PacketType.DATA, data)
        assert len(content) % 254 == 0
        sent.seen.clear()
        assert await host.ask(PacketType.READ, u32(0x200) + size.to_bytes(2, "little")) == (PacketType.DATA, data)
        assert sent.seen == b"".join(b"\xff" + content[at:at + 254] for at in range(0, len(content), 254)) + b"\0"
    report_point("limit: an answer that ends with the longest run without a zero")


@cocotb.test()
async def stalls_10(dut):
    await memory(dut, idle=0.1, stall=0.1)


@cocotb.test()
async def stalls_90(dut):
    await memory(dut, idle=0.9, stall=0.9)


@cocotb.test()
async def bad_packets_are_answered_counted_and_not_acted_on(dut):
    host, bus = await bring_up(dut)
    await host.open(seq=8)
    pulses = Pulses(dut)
    good = body(9, PacketType.WRITE, u32(0) + bytes(8))
    bad = []
    for i in range(len(good)):
        flipped = bytearray(good)
        flipped[i] ^= 0x10
        bad.append((encode(bytes(flipped)), NakReason.CRC))
    bad += [(encode(good[:5]), NakReason.FRAMING), (b"\x09abc\0", NakReason.FRAMING),
            (encode(bytes(range(1, 200)) * 12), NakReason.FRAMING)]
    packets = [(0x33, b"", NakReason.TYPE), (0, b"", NakReason.TYPE), (PacketType.ACK, b"", NakReason.TYPE),
               (PacketType.HELLO, b"x", NakReason.LENGTH), (PacketType.HELLO, b"xyz", NakReason.LENGTH),
               (PacketType.STATUS, b"xy", NakReason.LENGTH), (PacketType.STOP, b"xy", NakReason.LENGTH),
               (PacketType.EVENTS, b"", NakReason.LENGTH), (PacketType.EVENTS, bytes(3), NakReason.LENGTH),
               (PacketType.WRITE, u32(0) + b"abc", NakReason.LENGTH), (PacketType.WRITE, u32(0), NakReason.LENGTH),
               (PacketType.WRITE, u32(0) + bytes(DATA_MAX + 4), NakReason.LENGTH),
               (PacketType.WRITE, u32(2) + bytes(4), NakReason.ADDRESS),
               (PacketType.WRITE, u32(0xFFFC) + bytes(8), NakReason.ADDRESS),
               (PacketType.WRITE, u32(0xA0000000) + bytes(4), NakReason.ADDRESS),
               (PacketType.WRITE, u32(0x70000000) + bytes(4), NakReason.ADDRESS),
               (PacketType.READ, u32(0) + b"\x06\0", NakReason.ADDRESS),
               (PacketType.READ, u32(0) + (DATA_MAX + 4).to_bytes(2, "little"), NakReason.LENGTH),
               # A READ that is both out of its window and too long.
               (PacketType.READ, u32(0xFFFC) + (DATA_MAX + 4).to_bytes(2, "little"), NakReason.ADDRESS),
               (PacketType.READ, u32(0xFFFFFFFC) + b"\x08\0", NakReason.ADDRESS),
               (PacketType.WRITE, u32(0x9000003C) + bytes(8), NakReason.ADDRESS),
               (PacketType.WRITE, u32(0x90000040) + bytes(4), NakReason.ADDRESS),
               (PacketType.READ, u32(0x900000FC) + b"\x08\0", NakReason.ADDRESS),
               # From one window's space into the next one's, which a range has to stay out of.
               (PacketType.READ, u32(0x9FFFFFFC) + b"\x08\0", NakReason.ADDRESS),
               (PacketType.CHECKSUM, u32(0x8FFFFFFC) + u32(8), NakReason.ADDRESS),
               (PacketType.CHECKSUM, u32(0) + u32(0x00400004), NakReason.ADDRESS),
               (PacketType.CHECKSUM, u32(0) + u32(0x80000004), NakReason.ADDRESS),
               (PacketType.CHECKSUM, u32(0) + u32(0), NakReason.ADDRESS), (PacketType.START, bytes(27), NakReason.LENGTH),
               (PacketType.START, bytes(29), NakReason.LENGTH)]
    bad += [(encode(body(9, kind, payload)), reason) for kind, payload, reason in packets]
    for n, (frame, reason) in enumerate(bad):
        await host.send_raw(frame)
        assert await host.packet() == (9, *nak(reason, 9)), (n, reason)
    assert int(dut.errors.value) == len(bad)
    assert bus.requests == 0 and not pulses.seen
    for base, size in ((0xA0000000, 0x40), (0x90000000, 0x100), (0x80000000, 0x100)):
        assert (await host.ask(PacketType.READ, u32(base) + size.to_bytes(2, "little")))[0] == PacketType.DATA
    assert await host.ask(PacketType.WRITE, u32(0x90000000) + bytes(0x40)) == ACK
    report_point("limit: the last byte of a window")
    for reason in {reason for _, reason in bad}:
        report_point(f"refused: {reason.name}")
    report(cases=len(bad))


@cocotb.test()
async def the_first_check_that_fails_gives_the_reason(dut):
    host, bus = await bring_up(dut)
    pulses = Pulses(dut)
    dut.running.value = 1

    async def refused(seq, kind, payload, reason, expected):
        assert await host.exchange(seq, kind, payload) == nak(reason, expected), (seq, kind, reason)
        report_point(f"refused: {reason.name}")

    # Before a session: type and length are wrong first.
    await refused(7, 0x44, b"", NakReason.TYPE, 0)
    await refused(7, PacketType.STOP, b"x", NakReason.LENGTH, 0)
    await refused(7, PacketType.HELLO, b"xyz", NakReason.LENGTH, 0)
    for kind, payload in ((PacketType.WRITE, u32(2) + bytes(4)), (PacketType.READ, u32(1) + b"\1\0"), (PacketType.STOP, b""),
                          (PacketType.CHECKSUM, u32(0) + u32(0)), (PacketType.START, START), (PacketType.STATUS, b""),
                          (PacketType.EVENTS, EVENTS.pack(9, 1))):
        for seq in (0, 1, 255):
            await refused(seq, kind, payload, NakReason.SESSION, 0)
    broken = bytearray(body(7, 0x44))
    broken[2] ^= 1
    await host.send_raw(encode(bytes(broken)))
    assert await host.packet() == (0, *nak(NakReason.CRC, 0))
    # The seq comes before the address and the run.
    await host.open(seq=19)
    await refused(21, PacketType.WRITE, u32(2) + bytes(4), NakReason.SEQUENCE, 20)
    await refused(21, PacketType.READ, u32(0) + (DATA_MAX + 4).to_bytes(2, "little"), NakReason.SEQUENCE, 20)
    await refused(21, PacketType.START, START, NakReason.SEQUENCE, 20)
    await refused(21, PacketType.EVENTS, EVENTS.pack(9, 1), NakReason.SEQUENCE, 20)
    await refused(21, PacketType.WRITE, u32(2), NakReason.LENGTH, 20)
    await refused(21, 0x44, b"", NakReason.TYPE, 20)
    await refused(20, PacketType.START, START, NakReason.BUSY, 20)
    await refused(20, PacketType.START, START[1:], NakReason.LENGTH, 20)
    await refused(20, PacketType.EVENTS, EVENTS.pack(1, 0), NakReason.ADDRESS, 20)
    assert bus.requests == 0 and not pulses.seen
    # The refused seq is still the expected one.
    dut.running.value = 0
    assert await host.ask(PacketType.START, START) == ACK
    assert pulses.seen == [START]


@cocotb.test()
async def a_packet_is_done_once(dut):
    """Each kind of packet, then its duplicates: of the same seq, and with other content."""
    host, bus = await bring_up(dut)
    await host.open(seq=3)
    pulses = Pulses(dut)
    assert await host.exchange(4, PacketType.WRITE, u32(0x40) + b"abcdefgh") == ACK
    for data in (b"abcdefgh", b"ABCD"):
        assert await host.exchange(4, PacketType.WRITE, u32(0x40) + data) == ACK
    # Of a packet that was done nothing else is looked at.
    assert await host.exchange(4, PacketType.WRITE, u32(0x41) + b"ABCD") == ACK
    assert bus.requests == 1
    read = u32(0x40) + b"\x08\0"
    for _ in range(2):
        assert await host.exchange(5, PacketType.READ, read) == (PacketType.DATA, b"abcdefgh")
    total = u32(0x40) + u32(8)
    for _ in range(2):
        assert await host.exchange(6, PacketType.CHECKSUM, total) == (PacketType.SUM, u32(crc32(b"abcdefgh")))
    # Answered anew: from what the memory holds by then, and only if the range can be read.
    assert await host.exchange(7, PacketType.WRITE, u32(0x44) + b"EFGH") == ACK
    assert await host.exchange(5, PacketType.READ, read) == (PacketType.DATA, b"abcdEFGH")
    assert await host.exchange(6, PacketType.CHECKSUM, total) == (PacketType.SUM, u32(crc32(b"abcdEFGH")))
    assert await host.exchange(5, PacketType.READ, u32(0x70000000) + b"\x08\0") == nak(NakReason.ADDRESS, 8)
    for _ in range(3):
        assert await host.exchange(8, PacketType.START, START) == ACK
        dut.running.value = 1
    for _ in range(2):
        assert await host.exchange(9, PacketType.STOP) == ACK
    for _ in range(2):
        assert await host.exchange(10, PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(0, 0))
    assert pulses.seen == [START, "stop"]
    args = StartArgs.unpack(START)
    assert args.ends == (7, 0x12345678) and int.from_bytes(pulses.seen[0][-4:], "little") == NO_END and END_TOKENS == 4
    assert await host.exchange(11, PacketType.EVENTS, EVENTS.pack(0, 0)) == ACK
    # An EVENTS of before is acknowledged whatever it names.
    assert await host.exchange(11, PacketType.EVENTS, EVENTS.pack(200, 1)) == ACK
    assert await host.exchange(12, PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(0, 0))
    assert int(dut.errors.value) == 1


@cocotb.test()
async def every_seq_around_the_expected_one(dut):
    """Before and behind the wrap: done, done before, or refused."""
    host, _ = await bring_up(dut)
    pulses = Pulses(dut)
    cases = 0
    for opened in (99, 251):
        await host.open(number=opened, seq=opened)
        # Across the wrap, one by one.
        for _ in range(9):
            assert await host.ask(PacketType.STOP) == ACK
        expected = (opened + 10) % 256
        assert host.seq == expected
        done = len(pulses.seen)
        for back in (1, 2, 3, 64, PAST - 2, PAST - 1, PAST, PAST + 1, PAST + 2, 192, 253, 254, 255):
            want = ACK if back <= PAST else nak(NakReason.SEQUENCE, expected)
            assert await host.exchange((expected - back) % 256, PacketType.STOP) == want, back
            cases += 1
        assert len(pulses.seen) == done
        assert await host.ask(PacketType.STOP) == ACK
        assert len(pulses.seen) == done + 1
    report_point("limit: the oldest packet that is answered again, and the one before")
    report(cases=cases)


@cocotb.test()
async def sessions(dut):
    host, bus = await bring_up(dut)
    # Number 0 is a number like any other: no session is open after power-up.
    assert (await host.exchange(200, PacketType.HELLO))[0] == PacketType.HELLO_ANSWER
    assert await host.exchange(201, PacketType.STATUS) == nak(NakReason.SESSION, 0)
    await host.open(number=0, seq=200)
    assert await host.ask(PacketType.WRITE, u32(0) + b"1234") == ACK
    assert await host.ask(PacketType.STOP) == ACK
    events = Events(dut, 5)
    assert [await host.packet() for _ in range(5)] == [events.packet(i) for i in range(5)]
    # The same number, whatever its seq, and no number: nothing changes.
    status = (PacketType.STATUS_ANSWER, status_bytes(5, 0))
    assert await host.ask(PacketType.STATUS) == status
    for seq, payload in ((200, SESSION.pack(0)), (17, SESSION.pack(0)), (17, b"")):
        assert (await host.exchange(seq, PacketType.HELLO, payload))[0] == PacketType.HELLO_ANSWER
        assert await host.ask(PacketType.STATUS) == status
    # A READ of a seq of before is answered; a future one is not.
    assert await host.exchange(201, PacketType.READ, u32(0) + b"\4\0") == (PacketType.DATA, b"1234")
    expected = host.seq
    assert await host.exchange(expected + 1, PacketType.STOP) == nak(NakReason.SEQUENCE, expected)
    # Each bit of the number counts.
    for bit in range(16):
        await host.open(number=1 << bit, seq=40 + bit)
        assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(0, 0))
    assert bus.requests == 2
    # A reset ends the session.
    dut.rst.value = 1
    await cycles(dut, 2)
    dut.rst.value = 0
    await FallingEdge(dut.clk)
    assert await host.exchange(host.seq, PacketType.STATUS) == nak(NakReason.SESSION, 0)
    await host.open(number=1 << 15)
    assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(0, 0))


@cocotb.test()
async def garbage_before_a_packet_costs_one_refusal(dut):
    host, bus = await bring_up(dut)
    await host.open()
    random = rng("garbage")
    for n in (1, 2, 7, 300, 2100, 5000):
        garbage = bytes(random.randint(1, 255) for _ in range(n))
        # The zero byte before a packet ends what came before.
        await host.send_raw(garbage + b"\0" + encode(body(host.seq, PacketType.WRITE, u32(4 * n) + u32(n))))
        got = [await host.packet(), await host.packet()]
        assert got[0][:2] == (host.seq, PacketType.NAK) and got[0][2][0] in (NakReason.FRAMING, NakReason.CRC), (n, got)
        assert got[1] == (host.seq, *ACK), (n, got)
        host.seq += 1
        assert bus.memory[4 * n] == n
    # Zero bytes alone are no packets.
    await host.send_raw(bytes(50))
    assert await host.ask(PacketType.STOP) == ACK
    # A cut packet swallows the one behind it; then all is well.
    await host.send_raw(encode(body(host.seq, PacketType.STOP))[:4] + encode(body(host.seq, PacketType.STOP)))
    assert (await host.packet())[1] == PacketType.NAK
    assert await host.ask(PacketType.STOP) == ACK


@cocotb.test()
async def a_window_of_packets_is_answered_in_order(dut):
    """Sixteen packets back to back, and again with one damaged in their midst: those behind the damaged one are refused."""
    host, bus = await bring_up(dut)
    await host.open(seq=250)
    seqs = [(251 + i) % 256 for i in range(WINDOW)]
    frames = [encode(body(seq, PacketType.WRITE, u32(64 * i) + rng(f"w{i}").randbytes(64))) for i, seq in enumerate(seqs)]
    await host.send_raw(b"".join(frames))
    assert [await host.packet() for _ in seqs] == [(seq, *ACK) for seq in seqs]
    assert bus.requests == WINDOW
    seqs = [(seqs[-1] + 1 + i) % 256 for i in range(WINDOW)]
    packets = [bytearray(body(seq, PacketType.WRITE, u32(64 * i) + bytes(64))) for i, seq in enumerate(seqs)]
    packets[5][9] ^= 4
    await host.send_raw(b"".join(encode(bytes(p)) for p in packets))
    bad = seqs[5]
    wanted = [(seq, *ACK) for seq in seqs[:5]] + [(bad, *nak(NakReason.CRC, bad))] + \
        [(seq, *nak(NakReason.SEQUENCE, bad)) for seq in seqs[6:]]
    assert [await host.packet() for _ in seqs] == wanted
    assert bus.requests == WINDOW + 5
    # The host goes back to the seq that the NAK names.
    packets[5][9] ^= 4
    await host.send_raw(b"".join(encode(bytes(p)) for p in packets[5:]))
    assert [await host.packet() for _ in seqs[5:]] == [(seq, *ACK) for seq in seqs[5:]]
    assert bus.requests == 2 * WINDOW
    report_point("limit: a window of packets")


@cocotb.test()
async def events_come_once_each_and_between_answers(dut):
    host, _ = await bring_up(dut)
    await host.open()
    events = Events(dut, 6)
    await host.send_raw(encode(body(1, PacketType.STATUS)))
    got = [await host.packet() for _ in range(7)]
    assert [p[0] for p in got if p[1] == PacketType.STATUS_ANSWER] == [1]
    assert [p for p in got if p[1] != PacketType.STATUS_ANSWER] == [events.packet(i) for i in range(6)]
    await quiet(host)


@cocotb.test()
async def a_full_ring_stops_the_run_and_loses_nothing(dut):
    """More events than the ring has slots; then in small acknowledgements across the wrap of the numbers."""
    host, _ = await bring_up(dut)
    await host.open()
    count = 270
    events = Events(dut, count)
    for i in range(EVENT_SLOTS):
        assert await host.packet() == events.packet(i), i
    await quiet(host)
    assert events.taken == EVENT_SLOTS and not int(dut.event__ready.value)
    assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(EVENT_SLOTS, 0))
    # All are still there.
    assert await host.ask(PacketType.EVENTS, EVENTS.pack(0, 1)) == ACK
    for i in range(EVENT_SLOTS):
        assert await host.packet() == events.packet(i), i
    seen, kept, random = EVENT_SLOTS, 0, rng("acknowledge")
    while seen < count:
        kept += random.choice((1, 2, 7, seen - kept)) if seen - kept > 7 else seen - kept
        assert await host.ask(PacketType.EVENTS, EVENTS.pack(kept % 256, 0)) == ACK
        while seen < min(count, kept + EVENT_SLOTS):
            assert await host.packet() == events.packet(seen), seen
            seen += 1
    assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(count % 256, kept % 256))
    await quiet(host, 1000)
    report_point("limit: a ring of events that is full")
    report(cases=count)


@cocotb.test()
async def events_are_sent_again_from_any_that_is_kept(dut):
    host, _ = await bring_up(dut)
    await host.open()
    events = Events(dut, 20)
    got = [await host.packet() for _ in range(20)]
    assert got == [events.packet(i) for i in range(20)]
    for start in (0, 0, 3, 19, 20):
        assert await host.ask(PacketType.EVENTS, EVENTS.pack(start, 1)) == ACK
        assert [await host.packet() for _ in range(start, 20)] == [events.packet(i) for i in range(start, 20)], start
        assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(20, start))
    await quiet(host, 1000)
    # What is neither kept nor the next one to come.
    for number in (19, 21, 22, 0, 148, 255):
        for again in (0, 1):
            assert await host.ask(PacketType.EVENTS, EVENTS.pack(number, again)) == nak(NakReason.ADDRESS, host.seq), number
    await quiet(host, 1000)
    report_point("refused: events that are not kept, and the one behind the next")


@cocotb.test()
async def events_that_were_not_sent_can_be_forgotten(dut):
    """While an answer waits for the wire, events pass into the ring; an EVENTS behind it names one that was not sent yet."""
    host, _ = await bring_up(dut)
    await host.open()
    wire = host.hold()
    both = encode(body(1, PacketType.STATUS)) + encode(body(2, PacketType.EVENTS, EVENTS.pack(6, 0)))
    cocotb.start_soon(host.send_raw(both))
    # The answer is on its way by then.
    await cycles(dut, 200)
    events = Events(dut, 9)
    while events.taken < 9:
        await FallingEdge(dut.clk)
    wire.set()
    got = [await host.packet() for _ in range(6)]
    # The first event begins before the second packet is here.
    assert got == [(1, PacketType.STATUS_ANSWER, got[0][2]), events.packet(0), (2, *ACK), *(events.packet(i) for i in (6, 7, 8))]
    await quiet(host, 1000)


@cocotb.test()
async def a_new_session_drops_events_and_begins_with_number_0(dut):
    host, _ = await bring_up(dut)
    await host.open(number=1)
    first = Events(dut, EVENT_SLOTS + 3, "first")
    for i in range(EVENT_SLOTS):
        assert await host.packet() == first.packet(i)
    # The ring is full, three events wait.  The session drops what is kept, and takes what waits.
    await host.open(number=2)
    for i in range(3):
        assert await host.packet() == first.packet(EVENT_SLOTS + i, number=i)
    assert await host.ask(PacketType.EVENTS, EVENTS.pack(0, 1)) == ACK
    for i in range(3):
        assert await host.packet() == first.packet(EVENT_SLOTS + i, number=i)
    # The same session again: nothing is dropped.
    assert (await host.exchange(9, PacketType.HELLO, SESSION.pack(2)))[0] == PacketType.HELLO_ANSWER
    assert await host.ask(PacketType.STATUS) == (PacketType.STATUS_ANSWER, status_bytes(3, 0))


@cocotb.test()
async def a_session_opens_at_any_cycle_of_an_event(dut):
    """An event is taken whole, or dropped whole, when a session opens in the midst of it."""
    host, _ = await bring_up(dut)
    random = rng("cycles")
    source = StreamSource(dut, "event")
    outcomes = set()
    for n in range(30):
        payload = random.getrandbits(256)
        number = n % 2
        # A HELLO of 8 bytes acts about 45 cycles after its last byte.
        sending = cocotb.start_soon(host.send_raw(encode(body(n, PacketType.HELLO, SESSION.pack(number)))))
        await cycles(dut, 25 + n)
        await source.send(pack(EventLayout, type=0, payload=payload))
        await sending
        got = await host.packet(events=False)
        assert got[:2] == (n, PacketType.HELLO_ANSWER)
        kept = (await host.exchange(n + 1, PacketType.STATUS))[1][4 * StatusWord.EVENTS]
        assert kept in (0, 1)
        told = []
        if kept:
            assert await host.exchange(n + 2, PacketType.EVENTS, EVENTS.pack(0, 1)) == ACK
            await cycles(dut, 600)
            told = host.waiting()
            assert told[-1] == (0, PacketType.TOKEN, payload.to_bytes(32, "little")), n
        host.waiting()
        outcomes.add(kept)
    assert outcomes == {0, 1}
    report(cases=30)


@cocotb.test()
async def events_are_judged_whole_while_one_comes(dut):
    """At whichever cycle an event comes, an EVENTS that names the one before the first is refused."""
    host, _ = await bring_up(dut)
    await host.open()
    source = StreamSource(dut, "event")
    for n in range(24):
        sending = cocotb.start_soon(host.send_raw(encode(body(host.seq, PacketType.EVENTS, EVENTS.pack(255, 0)))))
        await cycles(dut, 22 + n)
        await source.send(pack(EventLayout, type=0, payload=n))
        await sending
        got = [await host.packet(), await host.packet()]
        assert sorted(got, key=lambda p: p[1]) == [(host.seq, *nak(NakReason.ADDRESS, host.seq)),
                                                   (n, PacketType.TOKEN, n.to_bytes(32, "little"))], n
    report(cases=24)
