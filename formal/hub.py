# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs about the memory hub and the weight buffer, with a model of what lies behind them."""

from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value

from formal.harness import Harness, Proof, planted
from formal.properties import moves, offers, stays
from hw.lib.ports import MemorySpec
from hw.memory.hub import Client, MemoryHub

__all__ = ["PROOFS"]

SPEC = MemorySpec(data_bits=32, addr_bits=4, len_bits=3, burst=2)
#: The word of an address is the address, so that a word in a wrong place is seen.
ADDRESS_BITS = 4


class Asked:
    """A client's requests of one to three words, of which two may be open.  ``next`` is the address whose word comes next."""

    def __init__(self, h: Harness, request: Any, word: Value, name: str):
        m = h.m
        offers(h, request, f"{name}_request")
        length, addr = request.p.len, request.p.addr
        h.assume((length != 0) & (length <= 3) & (addr + length <= 1 << ADDRESS_BITS))
        self.next, self.left = Signal(ADDRESS_BITS, name=f"{name}_next"), Signal(3, name=f"{name}_left")
        second, second_left = Signal(ADDRESS_BITS, name=f"{name}_second"), Signal(3, name=f"{name}_second_left")
        taken = moves(request)
        h.assume(second_left == 0, request.valid)
        done = (self.left == 0) | (word & (self.left == 1))
        with m.If(word):
            m.d.sync += [self.next.eq(self.next + 1), self.left.eq(self.left - 1)]
        with m.If(done):
            m.d.sync += [self.next.eq(Mux(second_left != 0, second, addr)),
                         self.left.eq(Mux(second_left != 0, second_left, Mux(taken, length, 0))), second_left.eq(0)]
        with m.Elif(taken):
            m.d.sync += [second.eq(addr), second_left.eq(length)]
        self.open = self.left != 0


def writes(h: Harness, w: Any, puts: Value, at: Value, word: Value, busy: Value, late: Value) -> None:
    """A client that writes: each word of its requests is in the burst's data at its address."""
    m = h.m
    # Words of writes go in as their client likes, behind their requests.
    h.drive(w.data.valid, "w_valid")
    written = Asked(h, w.req, moves(w.data), "w")
    h.assume(written.open, w.data.valid)
    waiting = h.before(w.data.valid & ~w.data.ready, "w_waits")
    h.assume(w.data.valid, waiting)
    m.d.comb += w.data.payload.eq(written.next)

    # Writes: what was asked for, in order, once, and nothing else.
    out_next, out_left = Signal(ADDRESS_BITS), Signal(3)
    second, second_left = Signal(ADDRESS_BITS), Signal(3)
    taken = moves(w.req)
    done = (out_left == 0) | (puts & (out_left == 1))
    with m.If(puts):
        m.d.sync += [out_next.eq(out_next + 1), out_left.eq(out_left - 1)]
    with m.If(done):
        m.d.sync += [out_next.eq(Mux(second_left != 0, second, w.req.p.addr)), second_left.eq(Mux(second_left != 0, Mux(
            taken, w.req.p.len, 0), 0)), second.eq(w.req.p.addr),
            out_left.eq(Mux(second_left != 0, second_left, Mux(taken, w.req.p.len, 0)))]
    with m.Elif(taken):
        m.d.sync += [second.eq(w.req.p.addr), second_left.eq(w.req.p.len)]
    h.assume((second_left == 0) | done, taken)
    h.holds((out_left != 0) & (at == out_next) & (word == at), puts)
    # idle: every word of every accepted request is in the memory.
    h.holds(out_left == 0, w.idle)
    h.cover(puts & (out_left == 1) & (out_next == 6))
    # Written within the bound, where no client that reads asks.
    waits_for = h.cycles((out_left != 0) & ~puts & ~written.open & ~busy, 15, "w_waits", stands=late)
    h.holds(waits_for < WAIT)


def hub(shared: bool) -> Harness:
    """Clients that read: one alone, and two that share a port; or one that reads, and one that writes."""
    h = Harness()
    m = h.m
    clients = [Client("first", "read", 0), *(
        [Client("b", "read", 1, port="shared"), Client("c", "read", 2, port="shared")] if shared else [Client("w", "write", 3)])]
    unit = MemoryHub(clients, SPEC)
    h.unit(unit)
    bus = unit.bus

    # ------------------------------------------------------------------ clients
    asked = {}
    for client in clients:
        port = getattr(unit, client.name)
        if client.mode == "read":
            h.drive(port.data.ready, f"{client.name}_ready")
            asked[client.name] = ask = Asked(h, port.req, moves(port.data), client.name)
            # Each word that was asked for, once, in order, and none else.
            h.holds(ask.open & (port.data.payload == ask.next), port.data.valid)
            stays(h, port.data, client.name)
    # ------------------------------------------------------------------ the controller
    h.drive(bus.command.ready, "ready")
    p, work = bus.command.p, bus.work
    take = bus.command.valid & bus.command.ready
    left, at, write, port_number = Signal(2), Signal(ADDRESS_BITS), Signal(), Signal(range(4))
    goes = h.free(1, "goes")
    m.d.comb += [work.active.eq(left != 0), work.moves.eq(goes & (left != 0)), work.port.eq(port_number)]
    # A burst follows when the one before moves its last word, or later.
    h.assume((left == 0) | ((left == 1) & work.moves), bus.command.ready)
    with m.If(work.moves):
        m.d.sync += [left.eq(left - 1), at.eq(at + 1)]
    with m.If(take):
        m.d.sync += [left.eq(p.words), at.eq(p.addr), write.eq(p.write), port_number.eq(p.port)]
    # Words of reads come two cycles later.
    read = work.moves & ~write
    none = (1 << len(bus.rdata.port)) - 1
    number, word = Mux(read, port_number, none), at
    for i in range(2):
        number, word = h.before(number, f"flight{i}", init=none), h.before(word, f"flying{i}")
    m.d.comb += [bus.rdata.port.eq(number), bus.rdata.word.eq(word)]

    # ------------------------------------------------------------------ bursts
    h.holds((p.words != 0) & (p.words <= 2) & (p.addr[0] + p.words <= 2) & (p.port < 2), take)
    h.holds(p.write == (0 if shared else p.port == 1), take)
    # ------------------------------------------------------------------ bounded waits
    h.drive(unit.drain, "drain")
    h.assume(~unit.drain)
    # What the controller lets the hub wait does not count.
    late = (bus.command.valid & ~bus.command.ready & (left == 0)) | ((left != 0) & ~goes)
    if not shared:
        writes(h, unit.w, work.moves & write, at, bus.wdata.word, asked["first"].open | unit.first.req.valid, late)
    for name, others in (("first", ()), *([("b", ("first",)), ("c", ("first", "b"))] if shared else [])):
        ask, port = asked[name], getattr(unit, name)
        busy: Value = Cat(*(asked[other].open | getattr(unit, other).req.valid for other in others)).any() if others else (
            Value.cast(0)[0:1])
        # Words are not held back by the client, and no client of a higher priority asks.
        waits_for = h.cycles(ask.open & ~port.data.valid & ~busy, 15, f"{name}_waits", stands=late)
        h.holds(waits_for < WAIT)
        h.cover(moves(port.data) & (ask.left == 1) & (ask.next == 5))
    if shared:
        h.cover(asked["b"].open & asked["first"].open & take & (p.port == 0))
    return h


#: Cycles from a request, or from the word before, to a word, of a client before which no other one goes.  Those in which the
#: controller takes no command or moves no word are not counted.
WAIT = 12

HUB = "hw/memory/hub.py"
READS = ("each word asked for comes once, in order, to its client; bursts cross no border; a word comes within 12 cycles where "
         "no other client goes first")
SIZES = ("words of 32 bits, bursts of two, requests of one to three words; a controller that is late as the solver likes, "
         "whose late cycles do not count")
PROOFS = (
    Proof("hub-reads", HUB, READS,
          "three clients on two ports, two of them sharing one; a FIFO overflows beyond this depth only; " + SIZES,
          lambda: hub(True), "bounded", 18, 18, (
              planted("hub-reads", HUB, "burst-over-the-border", "Mux(remaining <= to_end, remaining, to_end)", "remaining"),
              planted("hub-reads", HUB, "last-port-not-served", "m.d.sync += [some_able.eq(Cat(able).any())",
                      "m.d.sync += [some_able.eq(Cat(able[:-1]).any())"),
              planted("hub-reads", HUB, "granted-burst-offered-again", "able.append(able_r & ~granted[i])",
                      "able.append(able_r)"))),
    Proof("hub-writes", HUB, READS + "; each word is written once, at its address, in order; idle",
          "a client that reads and one that writes; " + SIZES, lambda: hub(False), "bounded", 16, 16, (
              planted("hub-writes", HUB, "idle-with-words-in-the-queue", "& ~inner.data.valid & (queue.level == 0)",
                      "& ~inner.data.valid"),
              planted("hub-writes", HUB, "written-before-it-is-there",
                      "m.d.sync += room.eq(room + (queue.w_en & queue.w_rdy) - claimed)",
                      "m.d.sync += room.eq(room + inner.data.valid - claimed + (inner.req.valid & inner.req.ready))"))),
)
