# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The DDR3 controller behind its hub against the checking chip model, at the DFI."""

import os

import cocotb
from cocotb.triggers import FallingEdge
from cocotb.utils import get_sim_time

from hw.lib.ports import RequestLayout
from hw.memory.hub import Client
from sim.chips.ddr3 import Ddr3Chip
from sim.cocotb_streams import PERIOD_NS, StreamSink, StreamSource, report, report_note, report_shares, reset, rng, settled
from sim.testbench import Bench
from tellme.spec.ddr3 import CHIPS
from tests.hw.layouts import pack
from tests.hw.memory.ddr3_parts import SPEC, Ddr3Memory, Phy, Reader
from tests.hw.memory.short_bursts import address_bits, short_bursts

#: One client a port, none of which is reset: three as wide as the memory, and the host's, which are half as wide.
CLIENTS = [Client("weights", "read", 4, data_bits=64), Client("attention_read", "read", 1, data_bits=64),
           Client("attention_write", "write", 0, data_bits=64), Client("host_read", "read", 3), Client("host_write", "write", 2)]
BITS = {client.name: client.data_bits for client in CLIENTS}
READS = [c.name for c in CLIENTS if c.mode == "read"]
WRITES = [c.name for c in CLIENTS if c.mode == "write"]
#: A start that a simulation can wait for, and calibrations that one sees.
START, OFTEN = {"reset_us": 2.0, "cke_us": 3.0}, 0.16


def bench(name, chip, mhz, latency, moved=1 << 16, zq_ms=0.0, **options):
    """``moved`` bytes in sequence; ``zq_ms`` in place of the chip's time, if not zero."""
    env = {"CHIP": chip, "MHZ": str(mhz), "LATENCY": str(latency), "BYTES": str(moved), "ZQ_MS": str(zq_ms)}
    return Bench(name=name, build=lambda: Ddr3Memory(CLIENTS, timing=CHIPS[chip], mhz=mhz, zq_ms=zq_ms or None, **START), env=env,
                 **options)


RATES = ("sequential_rates", "random_reads_and_port_switches", "random_writes_beside_a_reader")
BENCHES = [
    bench("4Gb", "MT41K256M16", 400 / 3, 11,
          tests=("probes_before_the_hub", "traffic_full_rate", "traffic_stalls_10", "traffic_stalls_90",
                 "words_next_to_a_write_stay", "priority_of_attention_reads", "each_bit_of_an_address_counts",
                 "short_bursts_in_two_rows", *RATES)),
    # Other times in clocks, and the longest way back.
    bench("1Gb-150MHz", "MT41K64M16", 150.0, 24, zq_ms=OFTEN, tests=("traffic_full_rate", "calibrations_go_on")),
]
for chip_name, ck in (("MT41K256M16", 400 / 3), ("MT41K64M16", 400 / 3), ("MT41K256M16", 150.0)):
    BENCHES.append(bench(f"{chip_name}-{ck:.0f}MHz-1MiB", chip_name, ck, 11, 1 << 20, tests=RATES, timeout_s=1200,
                         nightly="CI moves 64 KiB in sequence; python -m sim.ddr3_bench runs these and writes the report"))
MHZ = float(os.environ.get("MHZ", 400 / 3))
TIMING = CHIPS[os.environ.get("CHIP", "MT41K256M16")]
BYTES = int(os.environ.get("BYTES", 1 << 16))
ZQ_MS = float(os.environ.get("ZQ_MS", 0)) or None
#: Shares of the bus that a read in sequence has at least.  A short read has a group of refreshes more or less than its share.
LEAST = {"MT41K256M16": 0.96, "MT41K64M16": 0.98}[TIMING.name] - (0.02 if BYTES < 1 << 20 else 0)


def cycles_now():
    return round(get_sim_time("ns") / PERIOD_NS)


async def power_up(dut):
    """Up to the start's end: the chip takes probes."""
    for port in (*READS, *WRITES):
        getattr(dut, f"{port}__req__valid").value = 0
    for port in WRITES:
        getattr(dut, f"{port}__data__valid").value = 0
    for port in READS:
        getattr(dut, f"{port}__data__ready").value = 0
    dut.training__valid.value = dut.training__write.value = dut.training__wdata.value = dut.training__done.value = 0
    chip = Ddr3Chip(timing=TIMING, mhz=MHZ, zq_ms=ZQ_MS, **START)
    phy = Phy(dut, chip, latency=int(os.environ.get("LATENCY", 11)))
    resetting = cocotb.start_soon(reset(dut))
    for _ in range(2):
        await FallingEdge(dut.clk)
        assert dut.rst.value and dut.dfi__reset.value, "RESET# is low before the controller works"
    await resetting
    cocotb.start_soon(phy.run())
    for _ in range(20_000):
        if dut.training__started.value:
            return phy
        await FallingEdge(dut.clk)
    raise AssertionError("the chip's start did not end")


async def bring_up(dut):
    """Up to a memory that serves the hub."""
    phy = await power_up(dut)
    assert not dut.ready.value, "the hub is served before the training"
    dut.training__done.value = 1
    await FallingEdge(dut.clk)
    assert dut.ready.value
    return phy


async def probe(dut, words=None):
    """A probe that writes the words, or one that reads two."""
    write = words is not None
    dut.training__valid.value, dut.training__write.value = 1, int(write)
    left = list(words or ())
    while True:
        await settled()
        ready = bool(dut.training__ready.value)
        await FallingEdge(dut.clk)
        if ready:
            break
    dut.training__valid.value = 0
    got = []
    while len(got) < 2 and (left or not write):
        if write:
            dut.training__wdata.value = left[0]
        await settled()
        if write and dut.training__moves.value:
            left.pop(0)
        elif dut.training__rvalid.value:
            got.append(int(dut.training__rdata.value))
        await FallingEdge(dut.clk)
    return got


def request(addr, length):
    return pack(RequestLayout(SPEC), addr=addr, len=length)


def joined(port, words):
    """32-bit words as the port's."""
    lanes = BITS[port] // 32
    return [sum(w << 32 * k for k, w in enumerate(words[i:i + lanes])) for i in range(0, len(words), lanes)]


async def write(dut, port, addr, words, idle=0.0, shares=None):
    """Write 32-bit words from the 32-bit word ``addr`` on, and wait until they are in the memory."""
    req, data = StreamSource(dut, f"{port}__req"), StreamSource(dut, f"{port}__data", idle=idle, rng=rng(port))
    if shares is not None:
        shares.setdefault(f"{port}_valid", []).append(data)
    await req.send(request(addr, len(words)))
    await data.send_all(joined(port, words))
    while not getattr(dut, f"{port}__idle").value:
        await FallingEdge(dut.clk)


async def read(dut, port, addr, length, stall=0.0, shares=None):
    """Read 32-bit words."""
    req, data = StreamSource(dut, f"{port}__req"), StreamSink(dut, f"{port}__data", stall=stall, rng=rng(port))
    if shares is not None:
        shares.setdefault(f"{port}_ready", []).append(data)
    cocotb.start_soon(req.send(request(addr, length)))
    lanes = BITS[port] // 32
    return [w >> 32 * k & 0xFFFF_FFFF for w in await data.recv_n(length // lanes) for k in range(lanes)]


@cocotb.test()
async def probes_before_the_hub(dut):
    """What the training asks for, over several intervals of refresh; then the hub's words at the same place."""
    phy = await power_up(dut)
    random = rng("probes")
    first = phy.cycles
    for _ in range(25):
        words = [random.getrandbits(64) for _ in range(2)]
        assert await probe(dut, words) == []
        assert await probe(dut) == words
        assert await probe(dut) == words
        for _ in range(random.randint(1, 150)):
            await FallingEdge(dut.clk)
    assert phy.count(1, 1, 0) >= (phy.cycles - first) // (TIMING.refresh_us * MHZ / 2) - 1 > 3, "refreshes go on between probes"
    assert not dut.ready.value
    dut.training__done.value = 1
    await FallingEdge(dut.clk)
    assert await read(dut, "weights", 0, 4) == [w >> 32 * k & 0xFFFF_FFFF for w in words for k in range(2)]
    report(cases=75)


async def traffic(dut, share, rounds):
    """All ports at once, each in its own region; then every port reads what the others wrote, among it words next to others."""
    await bring_up(dut)
    random = rng("traffic")
    memory, shares = {}, {}
    between = []

    def place(i, low, high, length):
        """32-bit word address and length for write port number i, in whole words of the port."""
        lanes = BITS[WRITES[i]] // 32
        addr = (i << 24) + 512 * random.randint(0, 60) + random.randint(low, high)
        return addr // lanes * lanes, -(-length // lanes) * lanes

    for _ in range(rounds):
        tasks = []
        for i, port in enumerate(WRITES):
            # Near the ends of rows and across banks.
            addr, length = place(i, 420, 511, random.randint(1, 88))
            words = [random.getrandbits(32) for _ in range(length)]
            memory.update((addr + k, w) for k, w in enumerate(words))
            tasks.append(cocotb.start_soon(write(dut, port, addr, words, share, shares)))
        for task in tasks:
            await task
        # A read brings whole bursts of the chip, all of whose cells have to be written.
        starts = [a for a in memory if not a % 4 and all(a + k in memory for k in range(4))]
        reads = []
        for port in READS:
            first = random.choice(starts)
            n = 0
            while n < 200 and all(first + n + k in memory for k in range(4)):
                n += 4
            odd = random.choice((0, 2)) if BITS[port] == 64 else random.randrange(4)
            length = n - odd - (random.choice((0, 2)) if BITS[port] == 64 and n - odd > 2 else 0)
            reads.append((first + odd, length, cocotb.start_soon(read(dut, port, first + odd, length, share, shares))))
        # Meanwhile both write into rows that are read from, at places that no read has touched.
        for i, port in enumerate(WRITES):
            addr, length = place(i, 100, 200, random.randint(1, 100))
            words = [random.getrandbits(32) for _ in range(length)]
            between.append((addr, words, cocotb.start_soon(write(dut, port, addr, words, share, shares))))
        for first, n, task in reads:
            assert await task == [memory[first + k] for k in range(n)]
        for addr, words, task in between[-len(WRITES):]:
            await task
            whole = range(-addr % 4, (len(words) - (-addr % 4)) // 4 * 4 + (-addr % 4))
            if len(whole):
                assert await read(dut, "host_read", addr + whole.start, len(whole)) == words[whole.start:whole.stop]
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
    await traffic(dut, 0.9, 2)


@cocotb.test()
async def words_next_to_a_write_stay(dut):
    """A write of each length and at each place within bursts of the chip: its neighbours keep what they had."""
    await bring_up(dut)
    memory = list(range(0x1000, 0x1000 + 64))
    await write(dut, "attention_write", 0, memory)
    value = 0
    for port in WRITES:
        lanes = BITS[port] // 32
        for first in range(8, 16, lanes):
            for length in range(lanes, 9, lanes):
                words = list(range(value, value + length))
                value += length
                memory[first:first + length] = words
                await write(dut, port, first, words)
                assert await read(dut, "weights", 0, 32) == memory[:32]
    report(cases=value)


async def idle(dut, cycles):
    for _ in range(cycles):
        await FallingEdge(dut.clk)


@cocotb.test()
async def sequential_rates(dut):
    """A write and a read in sequence: exact, at the share of the bus that the chip's refresh leaves, with all refreshes."""
    phy = await bring_up(dut)
    n = BYTES // 8
    words = [(i * 0x9E37_79B9_7F4A_7C15 + 1) & (1 << 64) - 1 for i in range(n)]
    rates = {}
    for name in ("write", "read"):
        refreshes, began = phy.count(1, 1, 0), phy.cycles
        port = "weights" if name == "read" else "attention_write"
        req = StreamSource(dut, f"{port}__req")
        # A request holds 2**20 - 1 words of 32 bits at most.
        start = cycles_now()
        cocotb.start_soon(req.send(request(0, 2 * n)))
        if name == "read":
            assert await Reader(dut, f"{port}__data").recv_n(n) == words
        else:
            await idle(dut, 2)
            await StreamSource(dut, f"{port}__data").send_all(words)
            while not getattr(dut, f"{port}__idle").value:
                await FallingEdge(dut.clk)
        cycles = cycles_now() - start
        rates[name] = n / cycles
        report_note(f"sequential_{name}_share {n / cycles:.4f} of {BYTES} bytes in {cycles} cycles")
        due = (phy.cycles - began) * 2 / MHZ / TIMING.refresh_us
        done = phy.count(1, 1, 0) - refreshes
        assert due - 9 <= done <= due * 1.01 + 9, (done, due)
    assert min(rates.values()) >= LEAST, rates
    report(cases=2 * n)


@cocotb.test()
async def random_reads_and_port_switches(dut):
    """Measured and reported: reads at random places, one port; two ports in turn."""
    await bring_up(dut)
    random = rng("places")
    for size in (16, 64, 128):
        words = size // 4
        places = [random.randrange(0, 1 << 26, words) for _ in range(64)]
        for place in places:
            await write(dut, "attention_write", place, [(place + i) & 0xFFFF_FFFF for i in range(words)])
        req, data = StreamSource(dut, "attention_read__req"), StreamSink(dut, "attention_read__data")
        start = cycles_now()
        cocotb.start_soon(req.send_all([request(p, words) for p in places]))
        for p in places:
            got = await data.recv_n(words // 2)
            assert got == joined("attention_read", [p + i for i in range(words)])
        cycles = (cycles_now() - start) / len(places)
        report_note(f"random_read_{size}_cycles {cycles:.1f} cycles, {size // 8} of them data")
        assert cycles < 16 + size // 8
    # Two ports, each reading on within its own row: only the switch between ports costs cycles.
    values = list(range(1024))
    await write(dut, "attention_write", 0, values)
    start = cycles_now()
    tasks = [cocotb.start_soon(read(dut, port, first, 512)) for port, first in (("weights", 0), ("attention_read", 512))]
    assert [await task for task in tasks] == [values[:512], values[512:]]
    both = cycles_now() - start
    report_note(f"port_switches_cycles {both} cycles for two ports of 2 KiB each in bursts of 256 bytes, in turn: 512 words")
    assert both < 560
    report(cases=3 * 64 + 2)


@cocotb.test()
async def random_writes_beside_a_reader(dut):
    """128 bytes are written at a random place every 128 cycles while another port reads in sequence."""
    phy = await bring_up(dut)
    random = rng("places")
    n = min(BYTES, 1 << 18) // 8
    # Writes go behind what is read; both are checked.
    values = [(i * 0x9E37_79B9 + 7) & 0xFFFF_FFFF_FFFF_FFFF for i in range(n)]
    await write(dut, "attention_write", 0, [v >> 32 * k & 0xFFFF_FFFF for v in values for k in range(2)])
    written = {}
    stop = []

    async def writer():
        req, data = StreamSource(dut, "attention_write__req"), StreamSource(dut, "attention_write__data")
        while not stop:
            place = random.randrange(1 << 20, 1 << 26, 32)
            words = [random.getrandbits(32) for _ in range(32)]
            written[place] = words
            await req.send(request(place, 32))
            await data.send_all(joined("attention_write", words))
            for _ in range(128 - 17):
                await FallingEdge(dut.clk)

    task = cocotb.start_soon(writer())
    reads, began = Reader(dut, "weights__data"), phy.cycles
    cocotb.start_soon(StreamSource(dut, "weights__req").send(request(0, 2 * n)))
    assert await reads.recv_n(n) == values
    cycles, count = phy.cycles - began, len(written)
    stop.append(True)
    await task
    while not dut.attention_write__idle.value:
        await FallingEdge(dut.clk)
    share = (n + 16 * count) / cycles
    report_note(f"reader_beside_writes_share {n / cycles:.4f} of the bus for the reader")
    report_note(f"all_beside_writes_share {share:.4f} of the bus with {count} writes of 128 bytes in {cycles} cycles")
    for place, words in list(written.items())[:64]:
        assert await read(dut, "host_read", place, 32) == words
    assert share >= (0.90 if BYTES >= 1 << 20 else 0.88), share
    report(cases=n + count)


@cocotb.test()
async def calibrations_go_on(dut):
    """A short calibration comes in the chip's time under load and when nothing is wanted (the chip checks), and not much more
    often."""
    phy = await bring_up(dut)
    words = list(range(4096))
    await write(dut, "attention_write", 0, words)
    first, calibrations = phy.cycles, phy.count(0, 0, 1)
    assert calibrations == 1, "none but the start's, before one is due"
    for _ in range(5):
        assert await read(dut, "weights", 0, 4096) == words
    await idle(dut, 11_000)
    done, due = phy.count(0, 0, 1) - calibrations, (phy.cycles - first) * 2 / MHZ / (1000 * ZQ_MS)
    assert due - 1 <= done <= 2 * due + 1, (done, due)
    report(cases=done)


@cocotb.test()
async def priority_of_attention_reads(dut):
    """A short read of attention's is served while a long weight read goes on."""
    await bring_up(dut)
    words = list(range(4096))
    await write(dut, "attention_write", 0, words)
    weights = cocotb.start_soon(read(dut, "weights", 0, 4096))
    for _ in range(100):
        await FallingEdge(dut.clk)
    start = cycles_now()
    assert await read(dut, "attention_read", 1024, 16) == words[1024:1040]
    # A group of eight refreshes may be in the way.
    group = 8 * TIMING.clocks("trfc", MHZ) // 2 + 20
    assert cycles_now() - start < 100 + group
    assert await weights == words


@cocotb.test()
async def each_bit_of_an_address_counts(dut):
    """Bursts at addresses that differ in one bit, of all that the chip has, are bursts of their own."""
    await bring_up(dut)
    # A column has 16 bits, an address is of words of 32 bits.
    await address_bits(dut, bits=TIMING.row_bits + 3 + TIMING.column_bits - 1, lanes=4, write=write, read=read)


@cocotb.test()
async def short_bursts_in_two_rows(dut):
    await bring_up(dut)
    # Rows have 512 words of 32 bits, and eight banks have a row of a number each.
    await short_bursts(dut, rows=[(row * 8 + bank) * 512 for row in range(2) for bank in range(2)],
                       reads={port: BITS[port] for port in READS}, writes={port: BITS[port] for port in WRITES},
                       request=request, write=write, read=read)
