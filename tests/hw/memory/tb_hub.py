# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The hub before a memory that stalls at random: words, priorities, bursts, statistics, guards; memories of several widths."""

import os

import cocotb
from cocotb.triggers import FallingEdge

from hw.lib.ports import BurstLayout, MemoryBus, MemorySpec, MemoryWord, RequestLayout
from hw.memory.hub import Client, MemoryHub
from sim.cocotb_streams import StreamSink, StreamSource, clocked, report, report_shares, reset, rng, settled
from sim.testbench import Bench
from tests.hw.layouts import pack, payload_of, unpack

SPECS = {
    "words32": MemorySpec(data_bits=32, addr_bits=16, len_bits=10, burst=32),
    "words64": MemorySpec(data_bits=64, addr_bits=16, len_bits=10, burst=16),
    "words128": MemorySpec(data_bits=128, addr_bits=16, len_bits=10, burst=4),
}
#: Those of a core, and a writer of wide words.  By number: a client's region in memory begins at its number times REGION.
CLIENTS = (
    Client("weights", "read", 8, data_bits=64),
    Client("embedding_rows", "read", 4, port="compute_read", guarded=True),
    Client("rope_rows", "read", 3, port="compute_read", guarded=True),
    Client("attention_read", "read", 5, port="compute_read", guarded=True),
    Client("attention_write", "write", 1, port="compute_write", guarded=True),
    Client("logits", "write", 0, port="compute_write", guarded=True),
    Client("host_read", "read", 7),
    Client("host_write", "write", 6),
    Client("wide_write", "write", 2, data_bits=64),
)
REGION = 1 << 12
BENCHES = [Bench(name=name, build=lambda s=spec: MemoryHub(CLIENTS, s), env={"SPEC": name},
                 nightly="no memory has words of 128 bits" if name == "words128" else "") for name, spec in SPECS.items()]
SPEC = SPECS[os.environ.get("SPEC", "words32")]
HUB = MemoryHub(CLIENTS, SPEC)
PORTS, STROBES = HUB.ports, payload_of(HUB, "moved")
WORK = MemoryBus(SPEC, PORTS).members["work"].shape
RDATA = MemoryBus(SPEC, PORTS).members["rdata"].shape
BURST, WORD = BurstLayout(SPEC, PORTS), MemoryWord(SPEC)
NONE = pack(RDATA, word=0, port=(1 << PORTS.bit_length()) - 1)
#: Cycles from a word's move to ``rdata``.
LATENCY = 6


class Memory:
    """A memory behind the hub's bus: holds 32-bit words by address, and checks each burst and the statistics of each cycle."""

    def __init__(self, dut, *, stall=0.0):
        self._clk, self.dut, self._stall, self._rng = dut.clk, dut, stall, rng("memory")
        self.words = {n * REGION + i: self._rng.getrandbits(32) for n in range(len(CLIENTS)) for i in range(REGION)}
        self.burst, self.way = None, [NONE] * LATENCY
        self.open = True
        self.bursts, self.moved, self.cycles = [], dict.fromkeys((c.name for c in CLIENTS), 0), 0

    def client(self, addr):
        """Whose region a word of the memory lies in."""
        return CLIENTS[addr * SPEC.lanes // REGION]

    @clocked
    async def run(self):
        dut, random = self.dut, self._rng
        while True:
            burst = self.burst
            moves = burst is not None and random.random() >= self._stall
            held = burst is not None and not moves and random.random() < 0.5
            ready = self.open and (burst is None or (moves and burst["words"] == 1))
            dut.bus__work.value = pack(WORK, active=burst is not None, port=burst["port"] if burst else 0, moves=moves, held=held)
            dut.bus__command__ready.value = int(ready)
            dut.bus__rdata.value = self.way.pop(0)
            await settled()
            self.cycles += 1
            owner = self.client(burst["addr"]).name if burst else None
            for name, happens in (("moved", moves), ("busy", burst is not None and not held)):
                got = unpack(STROBES, int(getattr(dut, name).value))
                assert got == {c.name: int(happens and c.name == owner) for c in CLIENTS}, (name, owner, got)
            arrives = NONE
            if moves:
                self.moved[owner] += 1
                base = burst["addr"] * SPEC.lanes
                if burst["write"]:
                    wdata = unpack(WORD, int(dut.bus__wdata.value))
                    for lane in range(SPEC.lanes):
                        if wdata.get("lanes", 1) >> lane & 1:
                            self.words[base + lane] = wdata["word"] >> 32 * lane & 0xFFFFFFFF
                else:
                    word = sum(self.words[base + lane] << 32 * lane for lane in range(SPEC.lanes))
                    arrives = pack(RDATA, word=word, port=burst["port"])
                self.burst = {**burst, "addr": burst["addr"] + 1, "words": burst["words"] - 1}
                if self.burst["words"] == 0:
                    self.burst = None
            self.way.append(arrives)
            if dut.bus__command__valid.value:
                assert dut.bus__wanted.value
                if ready:
                    self.burst = unpack(BURST, int(dut.bus__command__p.value))
                    self.check(self.burst)
            await FallingEdge(self._clk)

    def check(self, burst):
        """A burst that the hub may offer."""
        first, last = burst["addr"], burst["addr"] + burst["words"] - 1
        assert 1 <= burst["words"] <= SPEC.burst and first // SPEC.burst == last // SPEC.burst, burst
        client = self.client(first)
        assert client == self.client(last) and burst["write"] == (client.mode == "write"), (burst, client)
        self.bursts.append((client.name, first, burst["words"]))

    @property
    def busy(self):
        """Guarded clients for whom a burst is in work or words are on their way."""
        guarded = {pack(RDATA, word=0, port=p) for p in self.guarded_ports()}
        names = [self.client(self.burst["addr"]).name] if self.burst else []
        return [n for n in names if named(n).guarded] + [w for w in self.way if w >> SPEC.data_bits << SPEC.data_bits in guarded]

    def guarded_ports(self):
        """Numbers of ports of guarded clients: ports are numbered in the order of their first clients."""
        names = list(dict.fromkeys(c.port or c.name for c in CLIENTS))
        return [i for i, name in enumerate(names) if any(c.guarded and c.port == name for c in CLIENTS)]


def named(name):
    return next(c for c in CLIENTS if c.name == name)


def lanes(client):
    """32-bit words of a client's word, and of what its addresses are multiples of."""
    own = client.data_bits // 32
    return own, min(own, SPEC.lanes)


def draw(client, random, most=60, burst=None):
    """(addr, len in 32-bit words) within the client's region; with ``burst``, one whole burst."""
    own, step = lanes(client)
    base = CLIENTS.index(client) * REGION
    if burst:
        span = SPEC.burst * SPEC.lanes
        return base + span * random.randrange(1, REGION // span), max(own, span // own * own)
    count = own * random.randint(1, most)
    return base + step * random.randint(0, (REGION - count) // step), count


async def bring_up(dut, **options):
    dut.drain.value = 0
    dut.bus__work.value = 0
    dut.bus__rdata.value = NONE
    await reset(dut)
    memory = Memory(dut, **options)
    cocotb.start_soon(memory.run())
    return memory


def gather(words, addr, count, own):
    """A client's words from 32-bit ones."""
    return [sum(words[addr + i + lane] << 32 * lane for lane in range(own)) for i in range(0, count, own)]


async def read(dut, memory, client, requests, stall=0.0):
    """Requests one behind the other, as fast as they are taken; all words are what the memory has."""
    random = rng(client.name)
    asked = [draw(client, random) for _ in range(requests)]
    sink = StreamSink(dut, f"{client.name}__data", stall=stall, rng=random)
    source = StreamSource(dut, f"{client.name}__req", idle=stall and 0.3, rng=rng(client.name))
    cocotb.start_soon(source.send_all([pack(RequestLayout(SPEC), addr=a, len=n) for a, n in asked]))
    for addr, count in asked:
        want = gather(memory.words, addr, count, lanes(client)[0])
        assert await sink.recv_n(len(want)) == want, (client.name, addr, count)
    return sum(count for _, count in asked), sink.low_share


async def write(dut, memory, client, requests, idle=0.0, rests=0.4):
    """Requests with their words; when the port is idle the memory has them, and nothing else has changed.  The client waits for
    that behind a share ``rests`` of the requests."""
    random = rng(client.name)
    source = StreamSource(dut, f"{client.name}__data", idle=idle, rng=random)
    asker = StreamSource(dut, f"{client.name}__req", rng=rng(client.name))
    base, own = CLIENTS.index(client) * REGION, lanes(client)[0]
    want = {a: memory.words[a] for a in range(base, base + REGION)}
    total = 0
    for number in range(requests):
        addr, count = draw(client, random)
        want.update((addr + i, random.getrandbits(32)) for i in range(count))
        await asker.send(pack(RequestLayout(SPEC), addr=addr, len=count))
        await source.send_all(gather(want, addr, count, own))
        total += count
        if number == requests - 1 or random.random() < rests:
            await until(dut, lambda: getattr(dut, f"{client.name}__idle").value)
            assert {a: memory.words[a] for a in want} == want, client.name
            # Who asks at once again keeps the port, if no client of a higher priority has it too.
            for _ in range(random.randint(0, 2)):
                await FallingEdge(dut.clk)
    return total, source.low_share


async def until(dut, condition, cycles=20_000):
    for _ in range(cycles):
        if condition():
            return
        await FallingEdge(dut.clk)
    raise AssertionError(f"not within {cycles} cycles")


async def traffic(dut, share, requests, **options):
    """All clients at once."""
    memory = await bring_up(dut, **options)
    tasks = {c.name: cocotb.start_soon((read if c.mode == "read" else write)(dut, memory, c, requests, share)) for c in CLIENTS}
    done = {name: await task for name, task in tasks.items()}
    for client in CLIENTS:
        # Narrow clients share words of the memory with what they did not ask for.
        words, moved = done[client.name][0], memory.moved[client.name] * SPEC.lanes
        assert moved == words if client.data_bits >= SPEC.data_bits else words <= moved, client.name
        assert sum(n for name, _, n in memory.bursts if name == client.name) == memory.moved[client.name]
    report_shares(**{f"{name}_{'ready' if named(name).mode == 'read' else 'valid'}": low for name, (_, low) in done.items()})
    report(cases=len(CLIENTS) * requests)


@cocotb.test()
async def traffic_full_rate(dut):
    await traffic(dut, 0.0, 20)


@cocotb.test()
async def traffic_stalls_10(dut):
    await traffic(dut, 0.1, 15, stall=0.1)


@cocotb.test()
async def traffic_stalls_90(dut):
    await traffic(dut, 0.9, 5, stall=0.5)


@cocotb.test()
async def highest_priority_first(dut):
    """One burst of each of some clients waits; the memory, when it opens, is offered them by priority, without a lost cycle."""
    memory = await bring_up(dut)
    random = rng("priority")
    by_port = {}
    for client in CLIENTS:
        by_port.setdefault(client.port or client.name, []).append(client)
    for _ in range(40):
        memory.open = False
        chosen = [random.choice(clients) for clients in by_port.values() if random.random() < 0.7]
        tasks = []
        for client in chosen:
            addr, count = draw(client, random, burst=1)
            own = lanes(client)[0]
            request = StreamSource(dut, f"{client.name}__req")
            await request.send(pack(RequestLayout(SPEC), addr=addr, len=count))
            if client.mode == "write":
                tasks.append(cocotb.start_soon(StreamSource(dut, f"{client.name}__data").send_all(range(count // own))))
            else:
                tasks.append(cocotb.start_soon(StreamSink(dut, f"{client.name}__data").recv_n(count // own)))
        for _ in range(2 * SPEC.burst * SPEC.lanes + 10):
            await FallingEdge(dut.clk)
        memory.bursts.clear()
        cycles = memory.cycles
        memory.open = True
        for task in tasks:
            await task
        await until(dut, lambda: memory.burst is None and len(memory.bursts) == len(chosen))
        want = sorted(chosen, key=lambda client: client.priority)
        assert [name for name, _, _ in memory.bursts] == [client.name for client in want]
        words = sum(n for _, _, n in memory.bursts)
        assert words <= memory.cycles - cycles <= words + LATENCY + 8 * SPEC.lanes + 8
        for client in chosen:
            if client.mode == "write":
                await until(dut, lambda c=client: getattr(dut, f"{c.name}__idle").value)
    report(cases=40)


@cocotb.test()
async def a_full_fifo_waits(dut):
    """A request of each writer for more words than its FIFO holds, while the memory takes none: the words wait, none is lost."""
    memory, random = await bring_up(dut), rng("words")
    for client in CLIENTS:
        if client.mode == "read":
            continue
        own, count = lanes(client)[0], 3 * SPEC.burst * SPEC.lanes
        base = CLIENTS.index(client) * REGION
        want = {base + i: random.getrandbits(32) for i in range(count)}
        memory.open = False
        await StreamSource(dut, f"{client.name}__req").send(pack(RequestLayout(SPEC), addr=base, len=count))
        giving = cocotb.start_soon(StreamSource(dut, f"{client.name}__data").send_all(gather(want, base, count, own)))
        for _ in range(count + 20):
            await FallingEdge(dut.clk)
        assert not giving.done() and not getattr(dut, f"{client.name}__data__ready").value, client.name
        memory.open = True
        await giving
        await until(dut, lambda client=client: getattr(dut, f"{client.name}__idle").value)
        assert {at: memory.words[at] for at in want} == want, client.name
    report(cases=sum(client.mode == "write" for client in CLIENTS))


@cocotb.test()
async def requests_of_a_shared_port_are_whole(dut):
    """Clients of one port that ask at the same time: the bursts of a request follow one another, and all words are right."""
    memory = await bring_up(dut, stall=0.2)
    for mode in ("read", "write"):
        memory.bursts.clear()
        clients = [c for c in CLIENTS if c.guarded and c.mode == mode]
        # Who does not rest may keep the port for all requests.
        tasks = [cocotb.start_soon(read(dut, memory, c, 12, 0.1) if mode == "read" else write(dut, memory, c, 12, 0.1, rests=0.8))
                 for c in clients]
        for task in tasks:
            await task
        runs = [name for i, (name, _, _) in enumerate(memory.bursts) if i == 0 or memory.bursts[i - 1][0] != name]
        assert len(runs) > len(clients), f"they have not taken turns: {runs}"
    report(cases=12 * 5)


@cocotb.test()
async def clean_until_a_request_is_taken(dut):
    """``clean`` falls in the cycle behind the one in which a request of a guarded client is taken."""
    memory = await bring_up(dut)
    for client in [c for c in CLIENTS if c.guarded]:
        addr, count = draw(client, rng(client.name))
        own = lanes(client)[0]
        payload, valid, ready = (getattr(dut, f"{client.name}__req__{part}") for part in ("payload", "valid", "ready"))
        payload.value, valid.value, taken = pack(RequestLayout(SPEC), addr=addr, len=count), 1, False
        while not taken:
            await settled()
            assert dut.clean.value, client.name
            taken = bool(ready.value)
            await FallingEdge(dut.clk)
        valid.value = 0
        await settled()
        assert not dut.clean.value, client.name
        await FallingEdge(dut.clk)
        if client.mode == "read":
            assert await StreamSink(dut, f"{client.name}__data").recv_n(count // own) == gather(memory.words, addr, count, own)
        else:
            await StreamSource(dut, f"{client.name}__data").send_all(gather(memory.words, addr, count, own))
        await until(dut, lambda: dut.clean.value)
    report(cases=sum(client.guarded for client in CLIENTS))


@cocotb.test()
async def drained_clients_begin_anew(dut):
    """Guarded clients vanish in the middle of anything; the others do not notice, and the next requests are served right."""
    memory = await bring_up(dut, stall=0.2)
    random = rng("drain")
    others = [c for c in CLIENTS if not c.guarded]
    background = [cocotb.start_soon((read if c.mode == "read" else write)(dut, memory, c, 60, 0.3)) for c in others]
    readers = [c for c in CLIENTS if c.guarded and c.mode == "read"]
    writers = [c for c in CLIENTS if c.guarded and c.mode == "write"]
    for _ in range(16):
        reader, writer = random.choice(readers), random.choice(writers)
        addr, count = draw(writer, random)
        before = dict(memory.words)
        words = [random.getrandbits(32) | 1 for _ in range(count)]
        given = random.randint(0, count - 1)
        asks = StreamSource(dut, f"{reader.name}__req")
        sink = StreamSink(dut, f"{reader.name}__data", stall=0.5, rng=random)
        await asks.send(pack(RequestLayout(SPEC), **dict(zip(("addr", "len"), draw(reader, random), strict=True))))
        await StreamSource(dut, f"{writer.name}__req").send(pack(RequestLayout(SPEC), addr=addr, len=count))
        gives = StreamSource(dut, f"{writer.name}__data", idle=0.2, rng=random)
        await gives.send_all(words[:given])
        taking = cocotb.start_soon(sink.recv_n(REGION))
        for _ in range(random.randint(0, 40)):
            await FallingEdge(dut.clk)
        taking.cancel()
        # A unit's reset comes some cycles after the drain: until then the unit asks, takes and gives.
        dut.drain.value = 1
        for client in (*readers, *writers):
            for part in ("req__valid", "data__ready" if client.mode == "read" else "data__valid"):
                getattr(dut, f"{client.name}__{part}").value = random.getrandbits(1)
        for _ in range(random.randint(0, 3)):
            await FallingEdge(dut.clk)
        for client in (*readers, *writers):
            for part in ("req__valid", "data__ready" if client.mode == "read" else "data__valid"):
                getattr(dut, f"{client.name}__{part}").value = 0
        await FallingEdge(dut.clk)
        await until(dut, lambda: dut.clean.value)
        assert not memory.busy
        memory.bursts.clear()
        for _ in range(30):
            await FallingEdge(dut.clk)
            assert dut.clean.value and not any(named(name).guarded for name, _, _ in memory.bursts)
        # The words that had reached the hub's FIFO are written; of the others zeros, or nothing where lanes can be left out.
        got = [memory.words[addr + i] for i in range(count)]
        kept = next((i for i in range(count) if got[i] != words[i]), count)
        assert given - 2 * SPEC.lanes - 2 <= kept <= given, (kept, given)
        assert got[kept:] == [0 if SPEC.lanes == 1 else before[addr + i] for i in range(kept, count)]
        dut.drain.value = 0
        await FallingEdge(dut.clk)
        assert dut.clean.value
        for client in (*readers, *writers):
            await (read if client.mode == "read" else write)(dut, memory, client, 2, 0.1)
    for task in background:
        await task
    report(cases=16)
