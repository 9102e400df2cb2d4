# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The SDRAM controller behind its hub against the checking chip model, at the DFI."""

import os
from dataclasses import replace

import cocotb
from amaranth.lib.data import StructLayout
from cocotb.triggers import FallingEdge

from hw.lib.ports import MemoryRequest
from hw.memory.hub import Client
from hw.memory.sdr.bringup import TrainingLayout
from hw.memory.sdr.controller import REFRESH_GROUP
from sim.chips.sdram import Chip
from sim.cocotb_streams import (
    PERIOD_NS,
    StreamSink,
    StreamSource,
    clocked,
    report,
    report_note,
    report_shares,
    reset,
    rng,
    settled,
)
from sim.testbench import Bench
from tellme.spec.sdram import CHIPS, SLOWEST
from tests.hw.layouts import pack, unpack
from tests.hw.memory.parts import SdramMemory
from tests.hw.memory.short_bursts import address_bits, short_bursts
from tests.hw.memory_model import Dfi

#: One client a port, none of which is reset.
CLIENTS = [Client("weights", "read", 4), Client("attention_read", "read", 1), Client("attention_write", "write", 0),
           Client("host_read", "read", 3), Client("host_write", "write", 2)]
#: A chip that is slower than any: each wait of the rules is longer than a fabric cycle.
SLOWER = replace(SLOWEST, name="slower", trp=45, tras=90, trc=135, twr=45)
TIMINGS = {"slowest": SLOWEST, **CHIPS}
BEATS = {"even": 12, "odd": 7}
BENCHES = [Bench(name=name, build=lambda n=name: SdramMemory(CLIENTS, timing=TIMINGS[n], mhz=400 / 3, power_up_us=2.0),
                 env={"CHIP": name, "BEATS": "even"},
                 nightly="" if name == "slowest" else "boards have the controller for the slowest timings of all chips")
           for name in TIMINGS]
BENCHES.append(Bench(name="odd-beats", build=lambda: SdramMemory(CLIENTS, phases=4, timing=SLOWER, power_up_us=2.0),
                     env={"CHIP": "slower", "BEATS": "odd", "MHZ": "100", "PHASES": "4"}))
BENCHES.append(Bench(name="slowest-1MiB", build=BENCHES[0].build, env={**BENCHES[0].env, "WORDS": str(1 << 18)},
                     tests=("sequential_read_rate",),
                     nightly="CI reads 64 KiB in sequence; a long read counts refreshes to two in a hundred"))
MHZ = float(os.environ.get("MHZ", 400 / 3))
TIMING = {**TIMINGS, SLOWER.name: SLOWER}[os.environ.get("CHIP", "slowest")]
PHASES = int(os.environ.get("PHASES", "1"))
READ_BEATS = BEATS[os.environ.get("BEATS", "even")]
READS = [c.name for c in CLIENTS if c.mode == "read"]
WRITES = [c.name for c in CLIENTS if c.mode == "write"]
PINS = StructLayout(Chip.PINS)
COMMAND, PRECHARGE, ACTIVE, REFRESH = (pack(PINS, cs=1, ras=1, cas=cas, we=we) for cas, we in ((1, 1), (0, 1), (0, 0), (1, 0)))


class Bus:
    """Clocks the chip twice a fabric cycle from the DFI, with the wire's delay; fails with the rule that is broken."""

    def __init__(self, dut):
        self._clk = dut.clk
        self.chip = Chip(timing=TIMING, mhz=MHZ, power_up_us=2.0)
        self.dfi = Dfi(dut, self.chip, wire_beats=READ_BEATS - 3)
        self.words = self.busy = self.refreshes = self.opened = self.closed = self.cycles = 0
        #: Cycles of the refreshes.
        self.refreshed = []

    @clocked
    async def run(self):
        while True:
            await settled()
            _, pins = self.dfi.clock()
            self.cycles += 1
            self.opened += pins & COMMAND == ACTIVE
            self.closed += pins & COMMAND == PRECHARGE
            if pins & COMMAND == REFRESH:
                self.refreshes += 1
                self.refreshed.append(self.cycles)
            await FallingEdge(self._clk)


async def start(dut):
    """Up to the bring-up's begin, with the chip on the bus."""
    dut.beats.value = dut.nudge.value = dut.drain.value = 0
    for port in (*READS, *WRITES):
        getattr(dut, f"{port}__req__valid").value = 0
    for port in WRITES:
        getattr(dut, f"{port}__data__valid").value = 0
    for port in READS:
        getattr(dut, f"{port}__data__ready").value = 0
    bus = Bus(dut)
    await reset(dut)
    cocotb.start_soon(bus.run())
    return bus


async def bring_up(dut):
    bus = await start(dut)
    await until(dut, lambda: dut.ready.value, "the memory did not become ready")
    return bus


async def until(dut, condition, message):
    for _ in range(20_000):
        if condition():
            return
        await FallingEdge(dut.clk)
    raise AssertionError(message)


def found(dut):
    return unpack(TrainingLayout, int(dut.training.value))


def request(addr, length):
    return pack(MemoryRequest, addr=addr, len=length)


async def write(dut, port, addr, words, idle=0.0, shares=None):
    req, data = StreamSource(dut, f"{port}__req"), StreamSource(dut, f"{port}__data", idle=idle, rng=rng(port))
    if shares is not None:
        shares.setdefault(f"{port}_valid", []).append(data)
    task = cocotb.start_soon(data.send_all(words))
    await req.send(request(addr, len(words)))
    await task
    while not getattr(dut, f"{port}__idle").value:
        await FallingEdge(dut.clk)


async def read(dut, port, addr, length, stall=0.0, shares=None):
    req, data = StreamSource(dut, f"{port}__req"), StreamSink(dut, f"{port}__data", stall=stall, rng=rng(port))
    if shares is not None:
        shares.setdefault(f"{port}_ready", []).append(data)
    cocotb.start_soon(req.send(request(addr, length)))
    return await data.recv_n(length)


async def traffic(dut, share, rounds):
    """All ports at once, each in its own region; then every port reads what the others wrote."""
    await bring_up(dut)
    random = rng("traffic")
    memory, shares = {}, {}
    between = []
    for _ in range(rounds):
        tasks = []
        for i, port in enumerate(WRITES):
            # Near row ends and across banks; one region a port.
            addr = (i << 20) + 256 * random.randint(0, 40) + random.randint(200, 255)
            words = [random.getrandbits(32) for _ in range(random.randint(1, 90))]
            memory.update((addr + k, w) for k, w in enumerate(words))
            tasks.append(cocotb.start_soon(write(dut, port, addr, words, share, shares)))
        for task in tasks:
            await task
        starts = [a for a in memory if a - 1 not in memory]
        reads = []
        for port in READS:
            first = random.choice(starts)
            n = 0
            while first + n in memory and n < 100:
                n += 1
            reads.append((first, n, cocotb.start_soon(read(dut, port, first, n, share, shares))))
        # Meanwhile both write into rows that are read from, at places that no read has touched.
        for i, port in enumerate(WRITES):
            addr = (i << 20) + 256 * random.randint(0, 40) + random.randint(100, 130)
            words = [random.getrandbits(32) for _ in range(random.randint(1, 60))]
            between.append((addr, words, cocotb.start_soon(write(dut, port, addr, words, share, shares))))
        for first, n, task in reads:
            assert await task == [memory[first + k] for k in range(n)]
        for addr, words, task in between[-len(WRITES):]:
            await task
            assert await read(dut, "host_read", addr, len(words)) == words
    report_shares(**{name: sum(d.low for d in drivers) / sum(d.cycles for d in drivers) for name, drivers in shares.items()})
    report(cases=rounds * len(CLIENTS))


@cocotb.test()
async def traffic_full_rate(dut):
    await traffic(dut, 0.0, 8)


@cocotb.test()
async def traffic_stalls_10(dut):
    await traffic(dut, 0.1, 6)


@cocotb.test()
async def traffic_stalls_90(dut):
    await traffic(dut, 0.9, 3)


@cocotb.test()
async def sequential_read_rate(dut):
    """64 KiB, or so many words: at least 98 % of a word a cycle, with all the refreshes that are due."""
    bus = await bring_up(dut)
    bus.refreshes, began = 0, bus.cycles
    n, block = int(os.environ.get("WORDS", 1 << 14)), 1 << 14
    for first in range(0, n, block):
        await write(dut, "host_write", first, range(first, first + block))
    req, data = StreamSource(dut, "weights__req"), StreamSink(dut, "weights__data")
    # A request holds 2**20 - 1 words at most.
    cocotb.start_soon(req.send(request(0, n)))
    start = dut_cycles(dut)
    for first in range(0, n, block):
        assert await data.recv_n(block) == list(range(first, first + block))
    cycles = dut_cycles(dut) - start
    report_note(f"{4 * n} bytes read in {cycles} cycles: {n / cycles:.2%} of the peak")
    assert cycles <= n / 0.98
    due = (bus.cycles - began) * 2000 / MHZ / 7812.5
    assert due - REFRESH_GROUP <= bus.refreshes <= due * 1.02 + REFRESH_GROUP, (bus.refreshes, due)
    report(cases=n)


@cocotb.test()
async def random_reads_and_port_switches(dut):
    """Measured and reported: 64-byte reads at random places, one port and two in turn."""
    await bring_up(dut)
    random = rng("places")
    places = [random.randrange(0, 1 << 23, 16) for _ in range(64)]
    for place in places:
        await write(dut, "host_write", place, [place + i for i in range(16)])

    async def one(port, mine):
        req, data = StreamSource(dut, f"{port}__req"), StreamSink(dut, f"{port}__data")
        cocotb.start_soon(req.send_all([request(p, 16) for p in mine]))
        for p in mine:
            assert await data.recv_n(16) == [p + i for i in range(16)]

    start = dut_cycles(dut)
    await one("attention_read", places)
    alone = (dut_cycles(dut) - start) / len(places)
    # Two ports, each reading on within its own row: only the switch between ports costs cycles.
    await write(dut, "host_write", 0, range(256))
    await write(dut, "host_write", 256, range(256))
    start = dut_cycles(dut)
    tasks = [cocotb.start_soon(read(dut, port, first, 256)) for port, first in (("weights", 0), ("host_read", 256))]
    for task in tasks:
        assert await task == list(range(256))
    both = dut_cycles(dut) - start
    report_note(f"a 64-byte read at a random place: {alone:.1f} cycles, 16 of them data")
    report_note(f"two ports of 1 KiB each in chunks of 128 bytes, in turn: {both} cycles for 512 words")
    assert alone < 40 and both < 560
    report(cases=len(places) + 2)


def dut_cycles(dut):
    from cocotb.utils import get_sim_time

    return round(get_sim_time("ns") / PERIOD_NS)


@cocotb.test()
async def refresh_goes_on_under_load(dut):
    """Refreshes come at the chip's rate while ports read without a pause, each in a row of its own; and behind a group of
    refreshes each of these rows is opened again, and no other one."""
    bus = await bring_up(dut)
    # The next request waits while one is in work.
    asks, gives = StreamSource(dut, "attention_write__req"), StreamSource(dut, "attention_write__data")
    rows = {port: (4 * row + bank) * 256 for port, row, bank in zip(READS, (0, 1, 2), (0, 1, 3), strict=True)}
    cocotb.start_soon(asks.send_all([request(addr, 256) for addr in rows.values()]))
    await gives.send_all(range(256 * len(rows)))
    while not dut.attention_write__idle.value:
        await FallingEdge(dut.clk)
    bus.refreshes, bus.opened, first = 0, 0, bus.cycles

    async def reader(n, port):
        data = StreamSink(dut, f"{port}__data")
        cocotb.start_soon(StreamSource(dut, f"{port}__req").send_all([request(rows[port], 256)] * 24))
        for _ in range(24):
            assert await data.recv_n(256) == list(range(256 * n, 256 * (n + 1)))

    for task in [cocotb.start_soon(reader(n, port)) for n, port in enumerate(rows)]:
        await task
    begun = [b for a, b in zip([first, *bus.refreshed], bus.refreshed, strict=False) if b - a > 100 and b > first]
    assert bus.opened <= len(rows) * (1 + len(begun)), (bus.opened, begun)
    wanted = (bus.cycles - first) * 2000 / MHZ / 7812.5
    assert wanted > 2 * REFRESH_GROUP
    assert bus.refreshes >= wanted // REFRESH_GROUP * REFRESH_GROUP, "each group that is due is done"
    gaps = {b - a for a, b in zip(bus.refreshed, bus.refreshed[1:], strict=False)}
    # Between two groups many cycles lie.
    assert {gap for gap in gaps if gap < 100} == {-(-TIMING.clocks(TIMING.trfc, MHZ) // 2)}, "a group takes what the chip wants"


@cocotb.test()
async def a_burst_that_begins_in_a_refresh(dut):
    """It waits for the refresh's end, and then its row is opened, and no other one."""
    bus = await bring_up(dut)
    rows = [0, (4 + 1) * 256]
    for addr in rows:
        await write(dut, "host_write", addr, range(addr, addr + 16))
    for n in range(6):
        # Nobody wants anything, so that a refresh that is due begins at once.  It closes all rows.
        opened, closed = bus.opened, bus.closed
        while bus.closed == closed:
            await FallingEdge(dut.clk)
        addr = rows[n % 2]
        assert await read(dut, "host_read", addr, 16) == list(range(addr, addr + 16))
        assert bus.opened == opened + 1, n
    report(cases=6)


@cocotb.test()
async def the_latency_that_a_host_sets(dut):
    """Counts in place of the one that was found: with the right one words are read as they are, with a later one they are not."""
    await bring_up(dut)
    words = [rng("words").getrandbits(32) for _ in range(64)]
    await write(dut, "host_write", 0, words)
    own = found(dut)["beats"]
    for beats, right in ((own, True), (own + 2, False), (0, True)):
        dut.beats.value = beats
        await FallingEdge(dut.clk)
        assert (await read(dut, "host_read", 0, 64) == words) == right, beats


@cocotb.test()
async def what_the_bring_up_tells(dut):
    """A chip that does not answer is told, and tried again until it answers; a host moves the phase of its clock a step."""
    bus = await start(dut)
    bus.dfi.cut = True
    await until(dut, lambda: found(dut)["failed"], "a chip that does not answer was not told")
    assert not dut.ready.value
    bus.dfi.cut = False
    await until(dut, lambda: dut.ready.value, "a chip that answers again was not found")
    first = found(dut)
    assert (first["failed"], first["window"]) == (0, PHASES)
    dut.nudge.value = 1
    await FallingEdge(dut.clk)
    dut.nudge.value = 0
    for _ in range(40):
        await FallingEdge(dut.clk)
    assert found(dut) == first | {"phase": (first["phase"] + 1) % PHASES}
    words = [rng("words").getrandbits(32) for _ in range(64)]
    await write(dut, "host_write", 0, words)
    assert await read(dut, "host_read", 0, 64) == words


@cocotb.test()
async def priority_of_attention_reads(dut):
    """A short read of attention's is served while a long weight read goes on."""
    await bring_up(dut)
    await write(dut, "host_write", 0, list(range(2048)))
    weights = cocotb.start_soon(read(dut, "weights", 0, 2048))
    for _ in range(100):
        await FallingEdge(dut.clk)
    start = dut_cycles(dut)
    assert await read(dut, "attention_read", 1024, 16) == list(range(1024, 1040))
    assert dut_cycles(dut) - start < 100
    assert await weights == list(range(2048))


@cocotb.test()
async def each_bit_of_an_address_counts(dut):
    """Words at addresses that differ in one bit, of all that the chip has, are words of their own."""
    await bring_up(dut)
    await address_bits(dut, bits=13 + 2 + TIMING.column_bits - 1, lanes=1, write=write, read=read)


@cocotb.test()
async def short_bursts_in_two_rows(dut):
    await bring_up(dut)
    # Rows have 256 words, and four banks have a row of a number each.
    await short_bursts(dut, rows=[(row * 4 + bank) * 256 for row in range(2) for bank in range(2)],
                       reads=dict.fromkeys(READS, 32), writes=dict.fromkeys(WRITES, 32), request=request, write=write, read=read)
