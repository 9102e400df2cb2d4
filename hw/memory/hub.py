# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The memory hub: clients by name on one side, a memory's controller on the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from amaranth.hdl import Array, Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.lib.ports import ClientReadPort, ClientWritePort, MemoryBus, MemorySpec, MemoryWord, WordReadPort, WordWritePort
from hw.lib.streams import Queue, Skid
from hw.memory.guard import ReadGuard, WriteGuard
from hw.memory.share import ReadShare, WriteShare
from hw.memory.width import reader, writer

__all__ = ["Client", "MemoryHub"]


@dataclass(frozen=True)
class Client:
    """A named user that reads or writes memory in words of ``data_bits``.

    Of two clients with requests, the client with the lower ``priority`` goes first.  Clients with the same ``port`` share a
    FIFO and a burst cutter: a request is served whole before a request of another client of this port.  A ``guarded`` client
    may be reset while its requests are under way (``drain`` of the hub).
    """

    name: str
    mode: Literal["read", "write"]
    priority: int
    data_bits: int = 32
    port: str = ""
    guarded: bool = False


@dataclass
class Port:
    """A FIFO and a burst cutter, for one client or several that take turns."""

    name: str
    #: By priority.
    clients: list[Client] = field(default_factory=list)

    @property
    def first(self) -> Client:
        return self.clients[0]

    @property
    def writes(self) -> bool:
        return self.first.mode == "write"


def ports_of(clients: Sequence[Client]) -> list[Port]:
    """The clients' ports in the order of their first clients.  Raises ValueError for clients that cannot be."""
    for what, values in (("name", [c.name for c in clients]), ("priority", [c.priority for c in clients])):
        for i, value in enumerate(values):
            if value in values[:i]:
                raise ValueError(f"{clients[i].name}: an earlier client of the hub has the {what} {value!r} too")
    ports: dict[str, Port] = {}
    for client in clients:
        if client.data_bits < 32 or client.data_bits & client.data_bits - 1:
            raise ValueError(f"{client.name}: data_bits is {client.data_bits}; 32, 64, 128 and so on can be")
        ports.setdefault(client.port or client.name, Port(client.port or client.name)).clients.append(client)
    for port in ports.values():
        port.clients.sort(key=lambda client: client.priority)
        for client in port.clients[1:]:
            for what in ("mode", "data_bits", "guarded"):
                mine, first = getattr(client, what), getattr(port.first, what)
                if mine != first:
                    raise ValueError(f"{client.name}: {what} is {mine!r}, that of {port.first.name} on the same port {first!r}")
    return list(ports.values())


class MemoryHub(wiring.Component):
    """Serves clients' requests through FIFOs, in bursts, by priority.

    Each of the ``clients`` has a port with its name and of its width.  A request is cut into bursts that end at multiples of
    ``spec.burst`` words of the memory.  The next burst is chosen a cycle earlier, by priority, and is offered on ``bus`` while
    the burst before is in work, so that no cycle is lost between bursts.  A burst is read only when the port's FIFO has room
    for the whole burst, and written only when the whole burst is in the FIFO.  So the memory's controller never waits.

    ``drain`` is for ``guarded`` clients.  While ``drain`` is high, none of their requests is taken, words that come for them are
    dropped, words that they owe are written as zeros, and their content in the hub's queues is dropped.  ``clean`` is high when
    none of their words is outstanding.

    Statistics by client name: ``moved``, a word of the memory was moved; ``busy``, the memory works for the client.  At most one
    bit of each is high.

    A FIFO holds two bursts.  Latency of a read: three cycles from a request to the burst's offer; from a word of ``bus.rdata`` to
    the client two cycles, three where the client is guarded.  Raises ValueError for two clients of one name or priority, and
    for clients of one port that differ in mode, width or guard.
    """

    def __init__(self, clients: Sequence[Client], spec: MemorySpec):
        self._spec = spec
        self._ports = ports_of(clients)
        strobes = data.StructLayout({client.name: 1 for client in clients})
        super().__init__({
            **{c.name: In((ClientReadPort if c.mode == "read" else ClientWritePort)(spec.client(c.data_bits))) for c in clients},
            "bus": Out(MemoryBus(spec, len(self._ports))), "drain": In(1), "clean": Out(1),
            "moved": Out(strobes), "busy": Out(strobes),
        })

    @property
    def ports(self) -> int:
        """Ports that the controller sees."""
        return len(self._ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec, ports, bus = self._spec, self._ports, self.bus
        n, burst, depth = len(ports), spec.burst, 2 * spec.burst
        offset_bits = burst.bit_length() - 1
        offer, work = bus.command.p, bus.work

        # ------------------------------------------------------------------ ports
        addrs, sizes, able, owners, clean = [], [], [], [], []
        # The words of a taken burst are removed from the port's request a cycle later.
        grant, granted, granted_size = Signal(n), Signal(n), Signal(range(burst + 1))
        m.d.comb += grant.eq(Mux(bus.command.valid & bus.command.ready, Const(1) << offer.port, 0))
        m.d.sync += [granted.eq(grant), granted_size.eq(offer.words)]
        for i, port in enumerate(ports):
            name, writes = port.name, port.writes
            inner = (WordWritePort if writes else WordReadPort)(spec).flip().create(path=(name,))
            width = MemoryWord(spec).size if writes else spec.data_bits
            m.submodules[f"{name}_fifo"] = queue = fifo.SyncFIFOBuffered(width=width, depth=depth)
            addr, remaining = Signal(spec.word_bits, name=f"{name}_addr"), Signal(spec.len_bits, name=f"{name}_remaining")
            size = Signal(range(burst + 1), name=f"{name}_size")
            room = Signal(range(depth + 1), name=f"{name}_room", init=0 if writes else depth)
            to_end = Const(burst) - addr[:offset_bits]
            # Registers in place of comparisons with all bits of ``remaining``: nothing is left; the next burst is the last one.
            spent, final = Signal(init=1, name=f"{name}_spent"), Signal(name=f"{name}_final")
            m.d.comb += [size.eq(Mux(remaining <= to_end, remaining, to_end)), inner.req.ready.eq(spent)]
            m.d.sync += final.eq(remaining <= to_end)
            claimed = Mux(granted[i], granted_size, 0)
            with m.If(inner.req.valid & inner.req.ready):
                m.d.sync += [addr.eq(inner.req.p.addr), remaining.eq(inner.req.p.len), spent.eq(0)]
            with m.Elif(granted[i]):
                m.d.sync += [addr.eq(addr + granted_size), remaining.eq(remaining - granted_size), spent.eq(final)]
            mine = work.port == i
            if writes:
                # room: words in the FIFO that no granted burst has claimed
                m.d.comb += [queue.w_data.eq(inner.data.payload), queue.w_en.eq(inner.data.valid),
                             inner.data.ready.eq(queue.w_rdy), queue.r_en.eq(work.moves & mine)]
                m.d.sync += room.eq(room + (queue.w_en & queue.w_rdy) - claimed)
                with m.If(mine):
                    m.d.comb += bus.wdata.as_value().eq(queue.r_data)
                m.d.sync += inner.idle.eq(spent & ~inner.req.valid & ~inner.data.valid & (queue.level == 0)
                                          & ~(work.active & mine))
            else:
                # room: free places that no granted burst will fill
                m.d.comb += [inner.data.payload.eq(queue.r_data), inner.data.valid.eq(queue.r_rdy),
                             queue.r_en.eq(inner.data.ready),
                             queue.w_data.eq(bus.rdata.word), queue.w_en.eq(bus.rdata.port == i)]
                m.d.sync += room.eq(room + (queue.r_en & queue.r_rdy) - claimed)
            # Registered, so that the choice below starts from flip-flops; not valid in the two cycles after a grant.
            size_r, able_r = Signal.like(size, name=f"{name}_size_r"), Signal(name=f"{name}_able")
            m.d.sync += [size_r.eq(size), able_r.eq(~spent & (room >= size) & ~granted[i])]
            able.append(able_r & ~granted[i])
            addrs.append(addr)
            sizes.append(size_r)
            owner, port_clean = self._front(m, port, inner)
            owners.append(owner)
            clean.append(port_clean)
        m.d.comb += self.clean.eq(Cat(clean).all())

        # ------------------------------------------------------------------ the next burst, chosen a cycle ahead, offered once
        choice, some_able = Signal(range(n)), Signal()
        for i in sorted(range(n), key=lambda i: ports[i].first.priority, reverse=True):
            with m.If(able[i]):
                m.d.comb += choice.eq(i)
        m.d.comb += [bus.command.valid.eq(some_able & (granted == 0)), bus.wanted.eq(bus.command.valid | Cat(able).any())]
        m.d.sync += [some_able.eq(Cat(able).any()), offer.port.eq(choice), offer.addr.eq(Array(addrs)[choice]),
                     offer.words.eq(Array(sizes)[choice]), offer.write.eq(Array(Const(int(p.writes), 1) for p in ports)[choice])]

        # ------------------------------------------------------------------ statistics
        for i, (port, owner) in enumerate(zip(ports, owners, strict=True)):
            mine = work.port == i
            others: Value = Const(0, 1)
            for number, client in enumerate(port.clients):
                own = owner == number if number < len(port.clients) - 1 else ~others
                others = others | own
                m.d.comb += [self.moved[client.name].eq(work.moves & mine & own),
                             self.busy[client.name].eq(work.active & ~work.held & mine & own)]
        return m

    def _drained(self, unit: Any, client: Client) -> Any:
        """The unit, which forgets what it has while its client is drained."""
        return ResetInserter(self.drain)(unit) if client.guarded else unit

    def _front(self, m: Module, port: Port, inner: Any) -> tuple[Value, Value]:
        """What lies between a port's clients and its FIFO: whose turn it is, the width, a queue and a guard.

        The number of the client whose words are under way, and whether nothing is outstanding of a client that is guarded.
        """
        spec, name, first, writes = self._spec, port.name, port.first, port.writes
        width = (writer if writes else reader)(first.data_bits, spec)
        m.submodules[f"{name}_width"] = self._drained(width, first)
        clean: Value = Const(1, 1)
        free: Value | None = None
        if first.guarded or len(port.clients) > 1:
            # Words wait, so that no client's ready reaches the FIFO.
            guard = (WriteGuard if writes else ReadGuard)(spec)
            queue = Skid(MemoryWord(spec)) if writes else Queue(spec.data_bits)
            m.submodules[f"{name}_guard"], m.submodules[f"{name}_queue"] = guard, self._drained(queue, first)
            connect(m, guard.port, inner)
            connect(m, width.port.req, guard.user.req)
            if writes:
                connect(m, width.port.data, queue.i)
                connect(m, queue.o, guard.user.data)
                m.d.comb += width.port.idle.eq(guard.user.idle)
                # Counted when they are in the memory, so that a burst has the owner of its words.
                free = inner.idle & ~queue.o.valid
            else:
                connect(m, guard.user.data, queue.i)
                connect(m, queue.o, width.port.data)
                free = guard.clean & ~queue.o.valid
            if first.guarded:
                m.d.comb += guard.drain.eq(self.drain)
                clean = guard.clean
        else:
            connect(m, width.port, inner)
        if len(port.clients) == 1:
            connect(m, flipped(getattr(self, first.name)), width.client)
            return Const(0, 1), clean
        share = (WriteShare if writes else ReadShare)(len(port.clients), spec.client(first.data_bits))
        m.submodules[f"{name}_share"] = share
        for client, user in zip(port.clients, share.clients, strict=True):
            connect(m, flipped(getattr(self, client.name)), user)
        connect(m, share.port, width.client)
        m.d.comb += share.free.eq(free)
        return share.owner, clean
