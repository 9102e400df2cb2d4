# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs about the memory hub, with a controller behind it that is as late as the solver likes.

In each port the solver picks one word of one request, which is followed: from the request over the burst that names its address,
through the memory and the port's FIFO, to the client; the word of a write goes the other way.  ``ahead`` is how many words of the
port come before it.  So each word of each request is served once, in order, at its address, for its client.
"""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from formal.harness import Harness, Inside, Proof, planted
from formal.properties import moves
from hw.lib.ports import MemorySpec
from hw.memory.hub import Client, MemoryHub, ports_of

__all__ = ["PROOFS"]

BURST = 2
#: Words that a port's FIFO holds.
DEPTH = 2 * BURST
SPEC = MemorySpec(data_bits=32, addr_bits=4, len_bits=3, burst=BURST)
#: Cycles, without a break, in which a port has a burst that it does not offer, where no client of a higher priority asks.
WAIT = 4


class Fifo:
    """A port's FIFO of ``level`` words, of which ``at(k)`` is the k-th; the first one lies in its output register."""

    def __init__(self, h: Harness, inside: Inside, name: str):
        self._h, self._inside, self._name = h, inside, f"{name}_fifo"
        self.level, self.there = inside[f"{self._name}.level"], inside[f"{self._name}.r_rdy"]
        # A word goes on to the output register at once, so that there is room for DEPTH words.
        h.holds(inside[f"{self._name}.inner_level"] <= 1, ~self.there)

    def at(self, number: Value) -> Value:
        inner, total, place = DEPTH - 1, Signal(4, name="fifo_total"), Signal(2, name="fifo_place")
        self._h.m.d.comb += [total.eq(self._inside[f"{self._name}.consume"] + number - self.there),
                             place.eq(Mux(total >= inner, total - inner, total))]
        return Mux(self.there & (number == 0), self._inside[f"{self._name}.r_data"],
                   self._inside.spy(f"{self._name}.storage", place))


class Controller:
    """Takes bursts, moves their words in order, and brings the words of reads; each as late as the solver likes.

    A burst is taken when the one before moves its last word, or later.  Words of reads come in the order of their port's bursts;
    between ports any order goes.
    """

    def __init__(self, h: Harness, bus: Any, ports: int):
        m = h.m
        h.drive(bus.command.ready, "ready")
        self.command, self.offered = bus.command.p, bus.command.valid
        self.take = self.offered & bus.command.ready
        self.left, self.at = Signal(range(BURST + 1), name="work_left"), Signal(SPEC.word_bits, name="work_at")
        self.port = Signal(range(ports), name="work_port")
        self.moves = h.free(1, "goes") & (self.left != 0)
        m.d.comb += [bus.work.active.eq(self.left != 0), bus.work.moves.eq(self.moves), bus.work.port.eq(self.port),
                     bus.work.held.eq(h.free(1, "held"))]
        h.assume((self.left == 0) | ((self.left == 1) & self.moves), bus.command.ready)
        with m.If(self.moves):
            m.d.sync += [self.left.eq(self.left - 1), self.at.eq(self.at + 1)]
        with m.If(self.take):
            m.d.sync += [self.left.eq(self.command.words), self.at.eq(self.command.addr), self.port.eq(self.command.port)]
        h.drive(bus.rdata.word, "word")
        h.drive(bus.rdata.port, "brings")
        self.brings, self.word = bus.rdata.port, bus.rdata.word
        h.holds(self.left <= BURST)
        h.holds(self.port < ports)


class Port:
    """A port of the hub: its clients' requests, the bursts that they become, and the word that is followed.

    ``level`` words are in the port's FIFO, and of a port with a front ``waiting`` in the queue between the FIFO and the clients.
    ``owed`` words are those of bursts that the controller took and has not brought or moved yet.
    """

    def __init__(self, h: Harness, inside: Inside, unit: MemoryHub, number: int, clients: Sequence[Client], c: Controller):
        self.h, self.inside, self.c, self.number = h, inside, c, number
        self.name = name = clients[0].port or clients[0].name
        self.writes = clients[0].mode == "write"
        self.users = [getattr(unit, client.name) for client in clients]
        self.fifo = Fifo(h, inside, name)
        self.drain = unit.drain if clients[0].guarded else Const(0, 1)
        self.drained = h.before(self.drain, f"{name}_drain")
        m = h.m
        for client, user in zip(clients, self.users, strict=True):
            self.offers(user.req, f"{client.name}_request")
            h.assume(user.req.p.len != 0)
        accepts = [moves(user.req) for user in self.users]
        self.accept, self.owner = Signal(name=f"{name}_accept"), Signal(range(len(self.users)), name=f"{name}_owner")
        addr, length = Signal(SPEC.addr_bits, name=f"{name}_taken_addr"), Signal(SPEC.len_bits, name=f"{name}_taken_len")
        m.d.comb += self.accept.eq(Cat(accepts).any())
        h.holds(sum(accepts) <= 1)
        for i, (user, accepted) in enumerate(zip(self.users, accepts, strict=True)):
            with m.If(accepted):
                m.d.comb += [addr.eq(user.req.p.addr), length.eq(user.req.p.len)]
                m.d.sync += self.owner.eq(i)

        # ------------------------------------------------------------------ bursts: those of the request, in order, each once
        self.ask_addr, self.ask_left = Signal(SPEC.addr_bits, name=f"{name}_ask"), Signal(SPEC.len_bits, name=f"{name}_ask_left")
        command, ask_addr, ask_left = c.command, self.ask_addr, self.ask_left
        self.offered = c.offered & (command.port == number)
        self.take = Signal(name=f"{name}_take")
        m.d.comb += self.take.eq(c.take & (command.port == number))
        # A request is accepted when the one before has become bursts.
        h.holds(ask_left == 0, self.accept)
        to_border = BURST - ask_addr[:BURST.bit_length() - 1]
        h.holds((command.addr == ask_addr) & (command.words == Mux(ask_left < to_border, ask_left, to_border))
                & (ask_left != 0) & (command.write == int(self.writes)), self.offered)
        with m.If(self.take):
            m.d.sync += [ask_addr.eq(ask_addr + command.words), ask_left.eq(ask_left - command.words)]
        with m.If(self.accept):
            m.d.sync += [ask_addr.eq(addr), ask_left.eq(length)]

        # ------------------------------------------------------------------ the unit's registers, which follow a cycle later
        granted, size = inside["granted"][number], inside["granted_size"]
        lag = Mux(granted, size, 0)
        remaining, room = inside[f"{name}_remaining"], inside[f"{name}_room"]
        wanted, spent = inside[f"{name}_size"], inside[f"{name}_spent"]
        self.room = room - lag
        h.holds(ask_left == remaining - lag)
        h.holds(ask_addr == (inside[f"{name}_addr"] + lag)[:SPEC.addr_bits])
        h.holds(spent == (remaining == 0))
        h.holds((size == wanted) & (size <= room), granted)
        able = inside[f"{name}_able"] & ~granted
        settled = able | granted | self.offered
        h.holds(~spent & (inside[f"{name}_final"] == (remaining == wanted)) & (room >= wanted), settled)
        h.holds(inside[f"{name}_size_r"] == wanted, able)

        # ------------------------------------------------------------------ the followed word
        self.tracked, self.ahead = Signal(name=f"{name}_tracked"), Signal(5, name=f"{name}_ahead")
        self.at, self.value = Signal(SPEC.addr_bits, name=f"{name}_at"), Signal(SPEC.data_bits, name=f"{name}_value")
        self.follows = h.free(1, f"{name}_follow") & self.accept & ~self.tracked
        self.place = h.free(SPEC.len_bits, f"{name}_place")
        h.assume(self.place < length, self.follows)
        self.followed_at = addr + self.place

    def offers(self, stream: Any, name: str) -> None:
        """A client's offer stays until it is taken, or the client is drained."""
        h = self.h
        h.drive(stream.payload, f"{name}_payload")
        h.drive(stream.valid, f"{name}_valid")
        waiting, payload = h.before(stream.valid & ~stream.ready, f"{name}_waiting"), h.before(stream.payload, f"{name}_before")
        h.assume(stream.valid & (Value.cast(stream.payload) == payload), waiting & ~self.drain & ~self.drained)

    def guard(self, outstanding: Value, passes: Value) -> None:
        """The guard's count, whose registers are a cycle late: words that were asked for and have not passed it."""
        h, clean = self.h, self.inside[f"{self.name}_guard.clean"]
        owed, asked, passed, none, late = (self.inside[f"{self.name}_guard.{signal}"] for signal in (
            "owed", "asked", "passed", "none", "late"))
        h.holds(outstanding == owed + asked - passed)
        h.holds(none == (owed == 0))
        h.holds(late == (asked != 0) | passed)
        # What is drained is clean when nothing is outstanding, and then is all of it gone.
        h.holds((outstanding == 0) & passes, clean)

    def follow(self, asked: Value, leaves: Value) -> None:
        """Of the words that are still to leave, ``asked`` are in bursts, and one ``leaves``."""
        h, m, ahead = self.h, self.h.m, self.ahead
        with m.If(self.tracked & leaves):
            m.d.sync += [self.tracked.eq(ahead != 0), ahead.eq(ahead - 1)]
        with m.If(self.follows):
            m.d.sync += [self.tracked.eq(1), ahead.eq(asked - leaves + self.place), self.at.eq(self.followed_at)]
        # A word that is drained is lost.
        with m.If(self.drain):
            m.d.sync += self.tracked.eq(0)
        h.holds(~self.accept, self.drain)
        # Where no burst has asked for it yet, it lies in the rest of the request.
        place = Signal(5, name=f"{self.name}_left_before")
        m.d.comb += place.eq(ahead - asked)
        not_asked = self.tracked & (ahead >= asked)
        h.holds(((self.ask_addr + place)[:SPEC.addr_bits] == self.at) & (place < self.ask_left), not_asked)
        # The burst that has it has it at its address.
        command = self.c.command
        h.holds((command.addr + place)[:SPEC.addr_bits] == self.at, self.take & not_asked & (place < command.words))

    def waits(self, ready: Value, higher: Sequence["Port"]) -> None:
        """A burst that is ``ready`` is offered in time, and what is offered stays."""
        h, c = self.h, self.c
        busy = Cat(port.ask_left != 0 for port in higher).any()
        others = Cat(port.offered for port in higher).any()
        count = h.cycles((self.ask_left != 0) & ready & ~self.offered & ~busy, WAIT + 1, f"{self.name}_waits")
        h.holds(count <= WAIT)
        # An offer that is not taken is there again, or one of a higher priority is.
        stood = h.before(self.offered & ~self.take, f"{self.name}_stood")
        payload = h.before(c.command, f"{self.name}_offer")
        h.holds((self.offered & (Value.cast(c.command) == payload)) | others, stood)


class ReadPort(Port):
    """A port that reads, of one client, or of several with a front."""

    def __init__(self, h: Harness, inside: Inside, unit: MemoryHub, number: int, clients: Sequence[Client], c: Controller,
                 higher: Sequence[Port]):
        super().__init__(h, inside, unit, number, clients, c)
        m, name, fifo = h.m, self.name, self.fifo
        for client, user in zip(clients, self.users, strict=True):
            h.drive(user.data.ready, f"{client.name}_ready")
            waits, payload = (h.before(what, f"{client.name}_{name}") for what, name in (
                (user.data.valid & ~user.data.ready & ~self.drain, "waits"), (user.data.payload, "payload")))
            h.holds(user.data.valid & (user.data.payload == payload), waits)
        # The words of the bursts come in order.
        owed, comes = Signal(range(DEPTH + 1), name=f"{name}_owed"), Signal(name=f"{name}_comes")
        m.d.comb += comes.eq(c.brings == number)
        h.assume(owed != 0, comes)
        m.d.sync += owed.eq(owed + Mux(self.take, c.command.words, 0) - comes)
        level = fifo.level
        h.holds(self.room + level + owed == DEPTH)
        # There is room for each word that comes.
        h.holds(inside[f"{name}_fifo.w_rdy"], comes)
        leaves = Signal(name=f"{name}_leaves")
        m.d.comb += leaves.eq(Cat(moves(user.data) for user in self.users).any())
        waiting: Value = Const(0, 1)
        front = f"{name}_queue.level" in inside.signals
        if front:
            queue, waiting = f"{name}_queue", inside[f"{name}_queue.level"]
            first = (inside[f"{queue}.queue.consume"] + self.ahead)[:2]
            h.holds(inside[f"{queue}.o__valid"] == (waiting != 0))
            h.holds(inside.spy(f"{queue}.queue.storage", first) == self.value, self.tracked & (self.ahead < waiting))
            self.guard(level + owed + self.ask_left, Const(1))
            # Drained words do not reach a client, and when they have come the port is clean.
            h.holds(waiting == 0, self.drained)
            clean = inside[f"{name}_guard.clean"]
            left = h.cycles(self.drain & (owed + self.ask_left == 0) & ~clean, DEPTH + 4, f"{name}_drains")
            h.holds(left + level <= DEPTH + 1, self.drain & (owed + self.ask_left == 0) & (level != 0))
            h.holds(left < DEPTH + 4)
            h.cover(self.drained & clean & h.before(~clean, f"{name}_unclean"))
        asked = waiting + level + owed
        # A word comes to a client that asked for it, and to no other.
        for i, user in enumerate(self.users):
            h.holds(waiting + level != 0, user.data.valid)
            if len(self.users) > 1:
                h.holds(self.owner == i, user.data.valid)
            h.holds(user.data.payload == self.value, user.data.valid & self.tracked & (self.ahead == 0))
        if len(self.users) > 1:
            h.holds(self.owner == inside[f"{name}_share.owner"], asked + self.ask_left != 0)
        self.follow(asked, leaves)
        with m.If(self.tracked & comes & (self.ahead == waiting + level)):
            m.d.sync += self.value.eq(c.word)
        place = (self.ahead - waiting)[:3]
        h.holds(fifo.at(place) == self.value, self.tracked & (self.ahead >= waiting) & (self.ahead < waiting + level))
        self.waits(level + owed <= DEPTH - BURST, higher)
        # A word that is here is offered to its client.
        most = 2 if front else 1
        stuck = h.cycles((waiting + level != 0) & ~self.drain & ~Cat(user.data.valid for user in self.users).any(), most + 1,
                         f"{name}_stuck")
        h.holds(stuck <= most)
        h.cover(leaves & self.tracked & (self.ahead == 0) & (self.at == 5) & (self.value != 0))
        h.cover(self.accept & (waiting + level == DEPTH))


class WritePort(Port):
    """A port that writes, of one client."""

    def __init__(self, h: Harness, inside: Inside, unit: MemoryHub, number: int, clients: Sequence[Client], c: Controller,
                 higher: Sequence[Port], word: Value):
        super().__init__(h, inside, unit, number, clients, c)
        m, name, fifo, level = h.m, self.name, self.fifo, self.fifo.level
        mine = c.port == number
        owed = Mux(mine, c.left, 0)
        leaves = Signal(name=f"{name}_leaves")
        m.d.comb += leaves.eq(c.moves & mine)
        # A word is given after its request only, and given it lies in the skid of a port with a front, then in the FIFO.
        total = owed + self.ask_left
        waiting: Value = Const(0, 1)
        front = f"{name}_queue.full" in inside.signals
        if front:
            offered, full, first, held = (inside[f"{name}_queue.{signal}"] for signal in ("o__valid", "full", "payload", "held"))
            waiting = offered + full
            h.holds(offered, full)
            h.holds(waiting == 0, self.drained)
            h.holds(first == self.value, self.tracked & offered & (self.ahead == level))
            h.holds(held == self.value, self.tracked & full & (self.ahead == level + 1))
            self.guard(total - level, total == 0)
            due, late = inside[f"{name}_guard.due"], inside[f"{name}_guard.late"]
            h.holds(total != level, due & ~late)
            h.cover(self.drained & inside[f"{name}_guard.clean"] & h.before(~inside[f"{name}_guard.clean"], f"{name}_unclean"))
        puts, word_in = Signal(name=f"{name}_puts"), Signal(SPEC.data_bits, name=f"{name}_put")
        for i, (client, user) in enumerate(zip(clients, self.users, strict=True)):
            self.offers(user.data, f"{client.name}_word")
            h.assume((level + waiting < total) & (self.owner == i), user.data.valid)
            with m.If(moves(user.data)):
                m.d.comb += [puts.eq(1), word_in.eq(user.data.payload)]
        if len(self.users) > 1:
            h.holds(self.owner == inside[f"{name}_share.owner"], total != 0)
        h.holds(level + waiting <= total, ~self.drain)
        h.holds(level <= total)
        h.holds(self.room + owed == level)
        self.follow(owed, leaves)
        with m.If(self.tracked & puts & (self.ahead == level + waiting)):
            m.d.sync += self.value.eq(word_in)
        h.holds(fifo.at(self.ahead[:3]) == self.value, self.tracked & (self.ahead < level))
        # The controller moves words that are there, each at its address.
        h.holds((c.at + self.ahead)[:SPEC.addr_bits] == self.at, self.tracked & (self.ahead < owed))
        h.holds(fifo.there, owed != 0)
        h.holds((c.at == self.at) & (word == self.value), leaves & self.tracked & (self.ahead == 0))
        # Registers that say that words are there are late, as the FIFO's output register is.
        h.holds(fifo.there, self.offered | inside[f"{name}_able"] | inside["granted"][number])
        # idle: each word of each accepted request is in the memory; it rises in time.
        idle, asks = self.users[0].idle, Cat(user.req.valid for user in self.users).any()
        h.holds(total == 0, idle)
        h.holds(idle, h.cycles((total == 0) & ~asks & ~self.drain, 3, f"{name}_done") >= 3)
        h.holds(Cat(user.idle == idle for user in self.users).all())
        # A word is taken when there is room, and a burst is offered when it is whole.
        h.holds(self.users[0].data.ready | front, level < DEPTH - 1)
        self.waits((level >= owed + BURST) | (level == total), higher)
        h.cover(leaves & self.tracked & (self.ahead == 0) & (self.at == 5) & (self.value != 0))
        h.cover(idle & h.before(h.before(total != 0, f"{name}_was_busy"), f"{name}_just_done"))
        h.cover(level == DEPTH)


def hub(clients: Sequence[Client]) -> Harness:
    h = Harness()
    unit = MemoryHub(clients, SPEC)
    inside = h.unit(unit)
    bus = unit.bus
    # A drain lasts until all is clean.
    h.drive(unit.drain, "drain")
    h.assume(unit.drain, h.before(unit.drain & ~unit.clean, "drains"))
    ports = ports_of(clients)
    c = Controller(h, bus, len(ports))
    h.holds(c.command.port < len(ports), c.offered)
    done: list[Port] = []
    for port in sorted(ports, key=lambda port: port.first.priority):
        number, higher = ports.index(port), list(done)
        done.append(WritePort(h, inside, unit, number, port.clients, c, higher, bus.wdata.as_value()) if port.writes
                    else ReadPort(h, inside, unit, number, port.clients, c, higher))
    # No word is brought to a port that there is not, or to one that writes.
    h.assume((c.brings == (1 << len(c.brings)) - 1)
             | Cat(c.brings == ports.index(port) for port in ports if not port.writes).any())
    granted = inside["granted"]
    h.holds((granted & (granted - 1)[:len(granted)]) == 0)
    # Each word that moves, and each cycle of work, counts for one client.
    for layout, what in ((unit.moved, c.moves), (unit.busy, bus.work.active & ~bus.work.held)):
        h.holds(sum(layout[client.name] for client in clients) == what)
    h.cover(c.moves & (c.left == 1) & c.take & (c.command.port != c.port))
    return h


HUB = "hw/memory/hub.py"
WORDS = ("each word of each request is served once, in order, at its address; bursts are those of the request and cross no "
         "border; there is room for each word that is read, and each word of a burst that is written is there; a burst is "
         f"offered within {WAIT} cycles where no client goes first, and stays; a word that came is offered within ")
SIZES = ("words of 32 bits, bursts of two, requests of one to seven words, any addresses of 4 bits; a controller that is late as "
         "the solver likes")
DRAINS = ("while it is drained a port takes no request, and no word of it reaches a client; it is clean only when none is "
          f"outstanding, and within {DEPTH + 4} cycles when all words that are read have come")
PROOFS = (
    Proof("hub-ports", HUB, WORDS + "1 cycle; idle, which comes within 3 cycles; each word and cycle counts for one client",
          "two ports that read and one that writes; " + SIZES,
          lambda: hub([Client("first", "read", 0), Client("w", "write", 2), Client("last", "read", 3)]), "induction", 6, 14, (
              planted("hub-ports", HUB, "burst-over-the-border", "Mux(remaining <= to_end, remaining, to_end)", "remaining"),
              planted("hub-ports", HUB, "last-port-not-served", "m.d.sync += [some_able.eq(Cat(able).any())",
                      "m.d.sync += [some_able.eq(Cat(able[:-1]).any())"),
              planted("hub-ports", HUB, "granted-burst-offered-again", "able.append(able_r & ~granted[i])",
                      "able.append(able_r)"),
              planted("hub-ports", HUB, "idle-before-a-request-is-served", "inner.idle.eq(spent & ~inner.req.valid",
                      "inner.idle.eq(~inner.req.valid"),
              planted("hub-ports", HUB, "written-before-it-is-there",
                      "m.d.sync += room.eq(room + (queue.w_en & queue.w_rdy) - claimed)",
                      "m.d.sync += room.eq(room + inner.data.valid - claimed + (inner.req.valid & inner.req.ready))"))),
    Proof("hub-fronts", HUB, WORDS + "2 cycles; no word goes to another client of its port; " + DRAINS,
          "two ports of two clients each that take turns, one that reads and one that writes, all of them guarded; " + SIZES,
          lambda: hub([*(Client(name, "write", i, port="writes", guarded=True) for i, name in enumerate("ab")),
                       *(Client(name, "read", i, port="reads", guarded=True) for i, name in enumerate("cd", 2))]),
          "induction", 6, 14, (
              planted("hub-fronts", HUB, "turn-changes-over-words-that-wait", "free = guard.clean & ~queue.o.valid",
                      "free = guard.clean"),
              planted("hub-fronts", HUB, "queue-keeps-drained-words", "return ResetInserter(self.drain)(unit) if client.guarded "
                      "else unit", "return unit"))),
)
