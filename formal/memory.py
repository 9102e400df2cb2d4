# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Proofs of what lies between the memory's clients and the hub: turns, guards, widths."""

from typing import Any

from amaranth.hdl import Mux, Signal, Value

from formal.harness import Harness, Proof, planted
from formal.properties import Order, moves, offers, stays
from hw.lib.ports import MemorySpec
from hw.memory.guard import ReadGuard, WriteGuard
from hw.memory.share import ReadShare, WriteShare
from hw.memory.width import NarrowRead, NarrowWrite, WideRead, WideWrite

__all__ = ["PROOFS"]

#: Requests of up to three words.
SMALL = MemorySpec(data_bits=32, addr_bits=4, len_bits=2, burst=2)
#: Words under way at most, in a proof.
MOST = 5


def few(h: Harness, payload: Any) -> None:
    """Of a word of 32 bits only the lowest two say anything."""
    h.assume(Value.cast(payload)[2:] == 0)


def owed(h: Harness, request: Any, word: Value, name: str) -> Signal:
    """Words that requests have asked for and that have not passed, of which there are at most MOST."""
    count = Signal(range(MOST + 4), name=f"{name}_owed")
    h.m.d.sync += count.eq(count + Mux(moves(request), request.p.len, 0) - word)
    h.holds(count <= MOST)
    return count


def read_share() -> Harness:
    h, n = Harness(), 3
    unit = ReadShare(n, SMALL)
    inside = h.unit(unit)
    port = unit.port
    for i, client in enumerate(unit.clients):
        offers(h, client.req, f"req{i}")
        h.assume(client.req.p.len != 0)
        h.drive(client.data.ready, f"ready{i}")
    h.drive(port.req.ready, "req_ready")
    # The hub: words of requests that it took, in order, and no more of them than there is room for in the count.
    total = owed(h, port.req, moves(port.data), "total")
    h.assume((total + port.req.p.len <= MOST), moves(port.req))
    h.drive(port.data.valid, "valid")
    h.drive(port.data.payload, "payload")
    few(h, port.data.payload)
    h.assume(total != 0, port.data.valid)
    waiting, payload = h.before(port.data.valid & ~port.data.ready, "word_waits"), h.before(port.data.payload, "word")
    h.assume(port.data.valid & (port.data.payload == payload), waiting)
    # free: every word of every accepted request has passed; it may come late.
    h.drive(unit.free, "free")
    h.assume(total == 0, unit.free)
    counts = [owed(h, client.req, moves(client.data), f"client{i}") for i, client in enumerate(unit.clients)]
    # A client gets the words that it asked for, and no other's: words are on their way for one client at a time, the owner.
    h.holds(total == sum(counts))
    for i, (client, count) in enumerate(zip(unit.clients, counts, strict=True)):
        h.holds(count != 0, client.data.valid)
        h.holds(client.data.payload == port.data.payload, client.data.valid)
        h.holds(inside["owner"] == i, count != 0)
        h.cover(moves(client.data) & (count == 3))
    h.holds(inside["owner"] < n)
    # None is lost or doubled: a request passes at one client and the port together, and so does a word.
    h.holds(sum(moves(client.req) for client in unit.clients) == moves(port.req))
    h.holds(sum(moves(client.data) for client in unit.clients) == moves(port.data))
    # In turn: while it is free, the first client that asks is offered at once.
    h.holds(port.req.valid & (port.req.payload.as_value() == unit.clients[0].req.payload.as_value()),
            unit.free & unit.clients[0].req.valid)
    h.holds(port.req.valid, unit.free & Value.cast(unit.clients[2].req.valid))
    return h


def write_share() -> Harness:
    h, n = Harness(), 2
    unit = WriteShare(n, SMALL)
    inside = h.unit(unit)
    port = unit.port
    h.drive(port.req.ready, "req_ready")
    h.drive(port.data.ready, "data_ready")
    h.drive(port.idle, "idle")
    counts = []
    for i, client in enumerate(unit.clients):
        offers(h, client.req, f"req{i}")
        h.assume(client.req.p.len != 0)
        h.drive(client.data.valid, f"valid{i}")
        h.drive(client.data.payload, f"payload{i}")
        few(h, client.data.payload)
        counts.append(owed(h, client.req, moves(client.data), f"client{i}"))
        # A client offers a word only after the request that it belongs to was accepted.
        h.assume(counts[i] != 0, client.data.valid)
    total = owed(h, port.req, moves(port.data), "total")
    h.assume((total + port.req.p.len <= MOST), moves(port.req))
    h.drive(unit.free, "free")
    h.assume(total == 0, unit.free)
    for i, (client, count) in enumerate(zip(unit.clients, counts, strict=True)):
        h.holds(inside["owner"] == i, count != 0)
        h.holds(port.data.valid & (port.data.payload == client.data.payload), client.data.valid)
        h.holds(client.data.ready == port.data.ready, client.data.valid)
        h.cover(moves(client.data) & (count == 3))
    h.holds(total == sum(counts))
    h.holds(sum(moves(client.req) for client in unit.clients) == moves(port.req))
    h.holds(sum(moves(client.data) for client in unit.clients) == moves(port.data))
    return h


def guard(writes: bool) -> Harness:
    h = Harness()
    unit = (WriteGuard if writes else ReadGuard)(SMALL)
    inside = h.unit(unit)
    user, port = unit.user, unit.port
    h.drive(unit.drain, "drain")
    h.drive(user.req.payload.as_value(), "request")
    h.drive(user.req.valid, "asks")
    h.assume(user.req.p.len != 0)
    h.drive(port.req.ready, "req_ready")
    count = owed(h, port.req, moves(port.data), "port")
    h.assume(count + port.req.p.len <= MOST, moves(port.req))
    if writes:
        h.drive(user.data.payload.as_value(), "word")
        h.drive(user.data.valid, "valid")
        h.drive(port.data.ready, "data_ready")
        h.drive(port.idle, "idle")
        # The user, while it is not drained, offers words of requests that were accepted.
        h.assume(count != 0, user.data.valid & ~unit.drain)
        # No word is written that nobody asked for, and what fills up is zeros.
        h.holds(count != 0, port.data.valid)
        h.holds(port.data.payload.as_value() == 0, port.data.valid & unit.drain)
    else:
        h.drive(port.data.payload, "word")
        h.drive(port.data.valid, "valid")
        h.drive(user.data.ready, "data_ready")
        h.assume(count != 0, port.data.valid)
        # Words are taken at once while they are dropped, and none reaches the user.
        h.holds(port.data.ready & ~user.data.valid, unit.drain)
    # The count of the unit, whose registers are a cycle late.
    h.holds(count == (inside["owed"] + inside["asked"] - inside["passed"])[:len(count)])
    h.holds(inside["owed"] < 16)
    h.holds(inside["none"] == (inside["owed"] == 0))
    h.holds(inside["late"] == (inside["asked"] != 0) | inside["passed"])
    # clean: no word is outstanding.
    h.holds(count == 0, unit.clean)
    # While it drains, no request passes; otherwise all passes unchanged.
    h.holds(~moves(port.req) & ~user.req.ready, unit.drain)
    for ours, theirs in ((user.req, port.req), *([(user.data, port.data)] if writes else [(port.data, user.data)])):
        h.holds((theirs.valid == ours.valid) & (ours.ready == theirs.ready)
                & (Value.cast(theirs.payload) == Value.cast(ours.payload)), ~unit.drain)
    # Drained, and served, the guard becomes clean: a word goes at least every third cycle in which the hub takes one.
    served = (port.data.ready & port.idle) if writes else port.data.valid | (count == 0)
    stuck = h.cycles(unit.drain & ~unit.clean & served, 20, "draining")
    h.holds(stuck <= 3 * MOST + 4)
    h.cover(unit.drain & (count == 3))
    drained = Signal()
    h.m.d.sync += drained.eq(unit.drain & (drained | (count == 3)))
    h.cover(drained & unit.clean)
    return h


def wide(writes: bool) -> Harness:
    """A client of 64 bits on a memory of 32."""
    h = Harness()
    unit = (WideWrite if writes else WideRead)(64, SMALL)
    inside = h.unit(unit)
    client, port = unit.client, unit.port
    offers(h, client.req, "req")
    h.drive(port.req.ready, "req_ready")
    stays(h, port.req, "req")
    h.holds((port.req.p.addr == client.req.p.addr) & (port.req.p.len == client.req.p.len), port.req.valid)
    h.holds(moves(client.req) == moves(port.req))
    number = inside["number"]
    if writes:
        h.drive(client.data.payload, "word")
        h.drive(client.data.valid, "valid")
        waiting, payload = h.before(client.data.valid & ~client.data.ready, "waits"), h.before(client.data.payload, "word")
        h.assume(client.data.valid & (client.data.payload == payload), waiting)
        h.drive(port.data.ready, "data_ready")
        h.drive(port.idle, "idle")
        stays(h, port.data, "data")
        # Halves in turn, low one first; the word is taken with its last half.
        half = Signal()
        h.m.d.sync += half.eq(half ^ moves(port.data))
        h.holds(half == number)
        h.holds(port.data.p.word == Mux(half, client.data.payload[32:], client.data.payload[:32]), port.data.valid)
        h.holds(moves(client.data) == moves(port.data) & half)
        h.cover(moves(client.data) & (client.data.payload[:32] != client.data.payload[32:]))
        h.cover(half & ~port.data.ready & port.data.valid)
    else:
        offers(h, port.data, "data")
        h.drive(client.data.ready, "data_ready")
        stays(h, client.data, "word")
        half, low = Signal(), Signal(32)
        h.m.d.sync += half.eq(half ^ moves(port.data))
        with h.m.If(moves(port.data) & ~half):
            h.m.d.sync += low.eq(port.data.payload)
        h.holds(half == number)
        h.holds(inside["held"] == low, half)
        h.holds((client.data.payload[:32] == low) & (client.data.payload[32:] == port.data.payload), client.data.valid)
        h.holds(moves(client.data) == moves(port.data) & half)
        # A word that is there is not held back.
        h.holds(client.data.valid == port.data.valid & half)
        h.holds(port.data.ready, ~half)
        h.cover(moves(client.data) & (low != port.data.payload))
    return h


def narrow(writes: bool) -> Harness:
    """A client of 32 bits on a memory of 64: one request of any address and length is followed through the unit."""
    h = Harness()
    m = h.m
    spec = MemorySpec(data_bits=64, addr_bits=4, len_bits=3, burst=2)
    unit = (NarrowWrite if writes else NarrowRead)(32, spec)
    inside = h.unit(unit)
    client, port = unit.client, unit.port
    offers(h, client.req, "req")
    h.assume((client.req.p.len != 0) & (client.req.p.len < 6))
    h.drive(port.req.ready, "req_ready")
    stays(h, port.req, "req")
    # The words of the memory that hold the client's words, and no other.
    h.holds((port.req.p.addr == client.req.p.addr >> 1)
            & (port.req.p.addr + port.req.p.len == (client.req.p.addr + client.req.p.len + 1) >> 1), port.req.valid)
    h.holds(moves(client.req) == moves(port.req))
    # Requests in the unit's queue: begun ones in their order, each as the client's address and words.
    requests = Order(h, moves(client.req), client.req.p.addr[0] | (client.req.p.len << 1), inside["requests.o__valid"],
                     inside["requests.o__valid"] & inside["o__ready"],
                     inside["requests.o__payload"], most=4, name="requests")
    h.holds(requests.count == inside["requests.level"])
    h.holds(inside["requests.o__valid"] == (requests.count != 0))
    h.holds(inside.spy("storage", (inside["consume"] + requests.ahead)[:2]) == requests.value, requests.tracked)
    # The request in work: the 32-bit word of the memory that comes next, and how many the client still gets or gives.
    first, length = inside["requests.o__payload"][0], inside["requests.o__payload"][1:]
    done = inside["done"]
    h.holds(length != 0, inside["requests.o__valid"])
    h.holds(done < length, inside["requests.o__valid"])
    h.holds(done == 0, ~inside["requests.o__valid"])
    h.holds((requests.value >> 1) != 0, requests.tracked)
    for i in range(4):
        # Requests that wait have words too.
        waits_here = inside.spy("storage", (inside["consume"] + i)[:2])
        h.holds((waits_here[1:] != 0) & (waits_here[1:] < 6), requests.count > i)
    lane = (first + done)[0]
    last = done == length - 1
    moved = moves(client.data)
    h.holds(inside["requests.o__valid"], moved | moves(port.data))
    h.holds(inside["o__ready"] == moved & last, inside["requests.o__valid"])
    follows = Signal(range(9), name="words_done")
    m.d.sync += follows.eq(Mux(moved, Mux(last, 0, follows + 1), follows))
    h.holds(follows == done)
    if writes:
        h.drive(client.data.valid, "valid")
        h.drive(client.data.payload, "word")
        h.drive(port.data.ready, "data_ready")
        h.drive(port.idle, "idle")
        waiting, payload = h.before(client.data.valid & ~client.data.ready, "waits"), h.before(client.data.payload, "word")
        h.assume(client.data.valid & (client.data.payload == payload), waiting)
        stays(h, port.data, "data")
        # A word of the memory has the lanes that the client gave, and these words.
        low, has_low = Signal(32), Signal()
        with m.If(moved):
            m.d.sync += [low.eq(client.data.payload), has_low.eq(~lane & ~last)]
        h.holds(inside["given"] == has_low)
        h.holds(has_low == lane & (done != 0))
        h.holds(inside["word"][:32] == low, has_low)
        h.holds(port.data.p.lanes == Mux(lane, 2 | has_low, 1), port.data.valid)
        h.holds(port.data.p.word.word_select(lane, 32) == client.data.payload, port.data.valid)
        h.holds(port.data.p.word[:32] == low, port.data.valid & has_low)
        h.holds(moves(port.data) == moved & (last | lane))
        h.cover(moves(port.data) & (port.data.p.lanes == 3))
        h.cover(moves(port.data) & (port.data.p.lanes == 2))
    else:
        offers(h, port.data, "data")
        h.drive(client.data.ready, "data_ready")
        h.holds(client.data.payload == port.data.payload.word_select(lane, 32), client.data.valid)
        h.holds(client.data.valid == port.data.valid & inside["requests.o__valid"])
        # A word of the memory is taken with the last part that the client asked for of it.
        h.holds(moves(port.data) == moved & (last | lane))
        stays(h, client.data, "word")
        h.cover(moved & lane & last & (done != 0))
        h.cover(moves(port.data) & ~lane)
    return h


TINY = "requests of up to three words, five under way; lengths are only counted, and words of 32 bits only passed on"
PROOFS = (
    Proof("read-share", "hw/memory/share.py ReadShare", "each client gets the words that it asked for, once, and no other's; "
          "turns by "
          "order; no cycle lost", TINY + "; three clients", read_share, "induction", 3, 14, (
              planted("read-share", "hw/memory/share.py", "turn-changes-under-way", "m.d.comb += turn.eq(self.owner)",
                      "m.d.comb += turn.eq(0)"),)),
    Proof("write-share", "hw/memory/share.py WriteShare", "each word is written for the request of its client, once", TINY
          + "; two clients", write_share, "induction", 3, 14, (
              planted("write-share", "hw/memory/share.py", "words-of-the-client-before", "m.d.sync += self.owner.eq(turn)",
                      "m.d.sync += self.owner.eq(0)"),)),
    Proof("read-guard", "hw/memory/guard.py ReadGuard", "drained words are dropped, no request passes, clean means none "
          "outstanding, "
          "clean within a bound; nothing changes otherwise", TINY, lambda: guard(False), "induction", 24, 24, (
              planted("read-guard", "hw/memory/guard.py", "clean-a-cycle-early", "self.clean.eq(none & ~late),",
                      "self.clean.eq(none),"),
              planted("read-guard", "hw/memory/guard.py", "request-while-it-drains",
                      "user.req.ready.eq(port.req.ready & ~self.drain),\n            user.data.payload",
                      "user.req.ready.eq(port.req.ready),\n            user.data.payload"))),
    Proof("write-guard", "hw/memory/guard.py WriteGuard", "missing words are written as zeros, each once, no request passes, "
          "clean "
          "within a bound; nothing changes otherwise", TINY, lambda: guard(True), "induction", 24, 24, (
              planted("write-guard", "hw/memory/guard.py", "zero-too-many", "Mux(self.drain, due & ~late, user.data.valid)",
                      "Mux(self.drain, due, user.data.valid)"),)),
    Proof("wide-read", "hw/memory/width.py WideRead", "two words become one, low one first, none lost, doubled or held back",
          "64 bits from 32", lambda: wide(False), "induction", 2, 6, (
              planted("wide-read", "hw/memory/width.py", "first-half-not-taken",
                      "port.data.ready.eq(client.data.ready | ~last)]", "port.data.ready.eq(client.data.ready)]"),)),
    Proof("wide-write", "hw/memory/width.py WideWrite", "a word becomes two, low one first, taken with its last half",
          "64 bits to 32", lambda: wide(True), "induction", 2, 6, (
              planted("wide-write", "hw/memory/width.py", "taken-with-its-first-half",
                      "client.data.ready.eq(port.data.ready & (number == parts - 1))]",
                      "client.data.ready.eq(port.data.ready)]"),)),
    Proof("narrow-read", "hw/memory/width.py NarrowRead", "the client gets the parts that it asked for, in order, once; the "
          "request "
          "covers these words and no other", "32 bits from 64, requests of one to five words, four under way",
          lambda: narrow(False), "induction", 3, 12, (
              planted("narrow-read", "hw/memory/width.py", "odd-end-not-fetched", "(first + count + parts - 1) >> part_bits",
                      "(first + count) >> part_bits"),
              planted("narrow-read", "hw/memory/width.py", "word-kept-behind-the-last", "moves & (last | (place == self._parts "
                      "- 1))",
                      "moves & (place == self._parts - 1)"))),
    Proof("narrow-write", "hw/memory/width.py NarrowWrite", "no lane is written that the client did not give; each word once, in "
          "order", "32 bits to 64, requests of one to five words, four under way", lambda: narrow(True), "induction", 3, 12, (
              planted("narrow-write", "hw/memory/width.py", "lanes-of-the-word-before", "given.eq(Mux(complete, 0, present))",
                      "given.eq(present)"),)),
)
