# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A proof of the link's packets: which packets act, once each, what the answers are, and which seq is expected next.

The receiver, the sender, the CRC and the ring of events have proofs or benches of their own.  Here they are boxes that do what
the solver likes within their contracts: any body is received, of any length, with a right CRC or a wrong one; any event may wait.
The rules are those of docs/decisions/0014-link.md.
"""

from unittest import mock

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.hdl._ast import AnySeq
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

import hw.link.link as link
from formal.harness import Harness, Proof, planted
from formal.properties import moves, stays
from hw.lib.control import EventLayout
from hw.link.framing import FrameReceiver, FrameSender
from tellme.spec.packets import BODY_OVERHEAD, DATA_MAX, PAST, SESSION, NakReason, PacketType
from tellme.spec.widths import WINDOW_BITS

__all__ = ["PROOFS"]

#: Windows of the proof, the second one only for reads.
WINDOWS = ((0, 0x1000, True), (1 << WINDOW_BITS, 0x0C00, False))
#: Bytes of a body that are the same each time they are read: seq, type, and the first arguments, such as an address or a session.
KEPT = 6
#: Bytes of a body that the link keeps: seq, type, and arguments up to those of CHECKSUM.
HEAD = 10


class Receiver(wiring.Component):
    """A frame of any length, bad or not, which stays until it is released."""

    def __init__(self, *, depth: int = 2048):
        self._depth = depth
        super().__init__(FrameReceiver(depth=depth).signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        body, asked, rises = Signal(8 * KEPT, name="body"), Signal.like(self.addr, name="asked"), Signal()
        size = Signal.like(self.length, name="any_length")
        m.d.comb += [rises.eq(AnySeq(1)), size.eq(AnySeq(len(size))), self.i.ready.eq(AnySeq(1)), self.data.eq(
            Mux(asked < KEPT, body.word_select(asked[:3], 8), AnySeq(8)))]
        m.d.sync += asked.eq(self.addr)
        with m.If(self.release):
            m.d.sync += self.frame.eq(0)
        with m.Elif(~self.frame & rises & (size <= self._depth)):
            m.d.sync += [self.frame.eq(1), self.bad.eq(AnySeq(1)), self.length.eq(size), body.eq(AnySeq(len(body)))]
        return m


class Sender(wiring.Component):
    """Busy as long as the solver likes."""

    def __init__(self, *, depth: int = 2048):
        super().__init__(FrameSender(depth=depth).signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ends = Signal()
        m.d.comb += [ends.eq(AnySeq(1)), self.o.valid.eq(AnySeq(1)), self.o.payload.eq(AnySeq(8))]
        m.d.sync += self.busy.eq(self.send | (self.busy & ~ends))
        return m


class Crc(wiring.Component):
    """Any CRC."""

    def __init__(self, width: int = 8):
        super().__init__({"clear": In(1), "valid": In(1), "data": In(width), "crc": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.crc.eq(AnySeq(32))
        return m


class Ring(wiring.Component):
    """Any events."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(EventLayout)),
                          "first": Out(8), "next": Out(8), "number": Out(8), "unsent": Out(1), "sent": In(1),
                          "word": In(4), "data": Out(32),
                          "upto": In(8), "again": In(1), "known": Out(1), "forget": In(1), "clear": In(1)})

    def elaborate(self, platform: object) -> Module:
        m, cleared = Module(), Signal(name="cleared")
        m.d.comb += cleared.eq(self.clear)
        m.d.comb += [signal.eq(AnySeq(len(signal))) for signal in (
            self.i.ready, self.first, self.next, self.number, self.unsent, self.data, self.known)]
        return m


def packets() -> Harness:
    h = Harness()
    m = h.m
    with (mock.patch.object(link, "HEAD_BYTES", HEAD), mock.patch.dict(link.PAYLOADS, {PacketType.START: 8}),
          mock.patch.object(link, "HELLO_WORDS", 1), mock.patch.object(link, "STATUS_WORDS", 1),
          mock.patch.object(link, "EVENT_WORDS", 1), mock.patch.object(link, "FrameReceiver", Receiver),
          mock.patch.object(link, "FrameSender", Sender),
          mock.patch.object(link, "Crc32", Crc), mock.patch.object(link, "EventRing", Ring)):
        unit = link.HostLink(windows=WINDOWS, name="", checksum_bits=32)
        inside = h.unit(unit)
    for signal, name in ((unit.bus_req.ready, "req_ready"), (unit.bus_wdata.ready, "wdata_ready"),
                         (unit.bus_rdata.valid, "rdata_valid"), (unit.bus_rdata.payload, "rdata"), (unit.bus_idle, "bus_idle"),
                         (unit.running, "running")):
        h.drive(signal, name)
    request = unit.bus_req
    # A program runs from the cycle behind its start on.
    h.assume(~unit.running, ~h.before(unit.running | unit.run.start, "running"))

    # ------------------------------------------------------------------ the packet, as it lies in the receiver
    frame, bad, length = inside["receiver.frame"], inside["receiver.bad"], inside["receiver.length"]
    body, state = inside["receiver.body"], inside.states("fsm_state")
    release = state("RELEASE")
    seq, kind, number, address = body[:8], body[8:16], body[16:32], body[16:48]
    answer, answer_seq, reason = inside["answer"], inside["answer_seq"], inside["reason"]
    sends, ring = inside["send"], {"clear": inside["ring.cleared"], "forget": inside["forget"]}
    # What the host's side of the rules remembers.
    expected, is_open, session = Signal(8), Signal(), Signal(16)
    # Whether the CRC is right, as was found when the whole body had passed.
    good = Signal(init=1)
    with m.If(state("SETTLE")):
        m.d.sync += good.eq(inside["crc.crc"] == link.RESIDUE)
    whole = ~bad & (length >= BODY_OVERHEAD)
    data_bytes = (length - (BODY_OVERHEAD + 4))[:len(length)]
    lengths: dict[int, Value] = {code: length == BODY_OVERHEAD + (8 if code == PacketType.START else size)
                                 for code, size in link.PAYLOADS.items()}
    names = kind == PacketType.HELLO
    lengths[PacketType.HELLO] = (length == BODY_OVERHEAD) | (length == BODY_OVERHEAD + SESSION.size)
    lengths[PacketType.WRITE] = (data_bytes[:2] == 0) & (length >= BODY_OVERHEAD + 8) & (length <= BODY_OVERHEAD + 4 + DATA_MAX)
    known, right = (Cat((kind == code) & fits for code, fits in table.items()).any() for table in (
        {code: Value.cast(1)[0:1] for code in lengths}, lengths))
    behind = (expected - seq)[:8]
    past, fresh = (behind >= 1) & (behind <= PAST), behind == 0
    opens = names & (length == BODY_OVERHEAD + SESSION.size) & whole & good
    changes = opens & (~is_open | (session != number))
    once = Cat(kind == code for code in (PacketType.WRITE, PacketType.START, PacketType.STOP, PacketType.EVENTS)).any()
    # The first check that a packet fails, in their order; 0: none of these.
    refused = Signal(8)
    m.d.comb += refused.eq(Mux(~whole, NakReason.FRAMING, Mux(~good, NakReason.CRC, Mux(~known, NakReason.TYPE, Mux(
        ~right, NakReason.LENGTH, Mux(names, 0, Mux(~is_open, NakReason.SESSION, Mux(~fresh & ~past, NakReason.SEQUENCE, 0))))))))
    naks = answer == PacketType.NAK

    # ------------------------------------------------------------------ what acts
    acts: dict[str, tuple[Value, Value]] = {
        "start": (unit.run.start, kind == PacketType.START), "stop": (unit.run.stop, kind == PacketType.STOP),
        "forget": (ring["forget"], kind == PacketType.EVENTS), "clear": (ring["clear"], changes),
        "write": (moves(request) & request.p.write, kind == PacketType.WRITE),
        "read": (moves(request) & ~request.p.write, (kind == PacketType.READ) | (kind == PacketType.CHECKSUM))}
    act = Signal()
    m.d.comb += act.eq(Cat(happens for happens, _ in acts.values()).any())
    acted, answered, changed = Signal(), Signal(), Signal()
    m.d.sync += [acted.eq((acted | act) & ~release), answered.eq((answered | (sends & ~answer[4])) & ~release)]
    # Only a whole packet with a right CRC, of the type, that no rule refuses; and only the expected one, but for reads.
    for name, (happens, types) in acts.items():
        h.holds(frame & types & (refused == 0) & (True if name in ("read", "clear") else fresh), happens)
    # Once for each packet.
    h.holds(sum(happens for happens, _ in acts.values()) <= 1)
    h.holds(~acted & ~answered, act)
    h.holds(~unit.running, unit.run.start)
    h.holds(unit.bus_idle, unit.run.start)
    # A request stays, and lies in one window; a write in one that may be written.
    stays(h, request, "req")
    size = Signal(22)
    m.d.comb += size.eq(request.p.words << 2)
    inside_one = Cat((request.p.addr >= base) & (request.p.addr + size <= base + window) & (writable | ~request.p.write)
                     for base, window, writable in WINDOWS).any()
    h.holds(inside_one & (request.p.words != 0) & (request.p.addr[:2] == 0) & (request.p.addr == address), request.valid)
    # As many words as were asked for.
    owed, writing = Signal(20), Signal()
    word = Mux(writing, moves(unit.bus_wdata), moves(unit.bus_rdata))
    with m.If(moves(request)):
        m.d.sync += [owed.eq(request.p.words), writing.eq(request.p.write)]
    with m.Elif(word):
        m.d.sync += owed.eq(owed - 1)
    h.holds((owed != 0) & writing, unit.bus_wdata.valid)
    h.holds((owed != 0) & ~writing, moves(unit.bus_rdata))
    h.holds(owed == 0, release)
    stays(h, unit.bus_wdata, "wdata")

    # ------------------------------------------------------------------ answers: one for each packet
    replies = Cat(state(name) for name in ("ANSWER", "BYTE", "WORD", "LAST-BYTE", "CRC", "SEND", "SENDING")).any()
    # From the decision on until the packet is gone.
    decided = (replies & ~answer[4]) | release
    h.holds(frame & ~answered, sends & ~answer[4])
    h.holds(answered, release)
    h.holds(naks & (reason == refused), decided & (refused != 0))
    h.holds(answer_seq == Mux(whole & good, seq, expected), decided)
    # A packet of before is acknowledged and not done again, or read anew.
    h.holds(~acted & (answer == PacketType.ACK), decided & (refused == 0) & ~names & past & once)
    # The expected one was done, or is refused for what it asks.
    h.holds(acted | (kind == PacketType.STATUS) | names, decided & (refused == 0) & ~naks & (fresh | ~once))
    h.holds(~acted & ((reason == NakReason.ADDRESS) | (reason == NakReason.LENGTH) | (reason == NakReason.BUSY)),
            decided & (refused == 0) & naks)

    # ------------------------------------------------------------------ the seq that is expected
    # One more for each packet that was the expected one and is not refused; behind a HELLO that opens a session, its seq + 1.
    with m.If(ring["clear"]):
        m.d.sync += [expected.eq(seq + 1), is_open.eq(1), session.eq(number), changed.eq(1)]
    with m.If(release):
        m.d.sync += [changed.eq(0), expected.eq(expected + (fresh & (refused == 0) & ~names & ~naks))]
    h.holds(inside["expected"] == expected)
    h.holds(inside["session_open"] == is_open)
    h.holds(inside["session"] == session, is_open)
    h.holds(is_open & (session == number), decided & opens & (refused == 0))

    # ------------------------------------------------------------------ for the induction
    head, count, feeding, shifting = inside["head"], inside["count"], inside["feeding"], inside["shifting"]
    parses, settles, checks, orders, does = (state(name) for name in ("PARSE", "SETTLE", "CHECK", "ORDER", "ACT"))
    starts, buses, sums = (state(name) for name in ("START", "BUS", "SUM"))
    writes = state("WRITE-BYTE") | state("WRITE-TAKE") | state("WRITE-WORD")
    early = settles | checks | orders | does | starts | buses
    works = early | sums | writes
    h.holds(release == inside["release"])
    h.holds(frame, state("JUDGE") | parses | works | decided)
    h.holds(whole, parses | works)
    # The body's bytes come into their places.
    asked, n = inside["receiver.asked"], count - 1
    h.holds((count != 0) & (asked == n[:len(asked)]) & (feeding == (count <= length)) & (shifting == (count <= HEAD)), parses)
    h.holds(count == 0, state("JUDGE"))
    h.holds(length <= 2048)
    h.holds(count <= 2048 + 2, parses)
    for i in range(KEPT):
        place = Signal(range(HEAD + 1), name=f"place{i}")
        m.d.comb += place.eq(HEAD - n + i)
        h.holds(head.word_select(place, 8) == body.word_select(i, 8), parses & shifting & (n > i))
    h.holds(head[:8 * KEPT] == body, (parses & ~shifting) | works)
    # What follows from them, a register after the other.
    is_write, is_read = kind == PacketType.WRITE, kind == PacketType.READ
    args = head[16:]
    h.holds((inside["known_type"] == known) & (inside["opens"] == (names & (length == BODY_OVERHEAD + SESSION.size)))
            & (inside["before"] == (behind - 1)[:8]) & (inside["same_session"] == (is_open & (session == number)))
            & (inside["size"] == Mux(is_write, data_bytes, Mux(is_read, args[32:48], args[32:64]))), early & ~starts & ~buses)
    h.holds((inside["right_length"] | inside["opens"]) == right, (settles | checks) & known)
    h.holds(inside["size"] == Mux(is_write, data_bytes, Mux(is_read, args[32:48], args[32:64])), buses)
    large = inside["size"]
    h.holds((inside["offset"] == args[:WINDOW_BITS] + large[:22]) & (inside["misaligned"] == (
        (args[:2] != 0) | (large[:2] != 0) | (large == 0) | (large[22:] != 0))), checks | orders | does)
    h.holds(inside["inside"] == (inside["offset"] <= inside["limit"]), orders | does)
    # What was checked on the way.
    h.holds(inside["damaged"] == ~good, checks)
    late = orders | does | starts | buses | sums | writes
    acting = does | starts | buses | sums | writes
    h.holds(good & known & right & (answer_seq == seq), late)
    h.holds(answer_seq == expected, parses | settles | checks)
    h.holds((refused == 0) & (fresh | ~once) & (inside["fresh"] == (fresh & ~names)), acting)
    h.holds(inside["fresh"] == (fresh & (refused == 0) & ~names & ~naks), decided)
    h.holds(kind == PacketType.START, starts)
    h.holds(~unit.running, starts)
    h.holds(is_write, writes)
    h.holds(kind == PacketType.CHECKSUM, sums)
    h.holds(is_write | is_read | (kind == PacketType.CHECKSUM), buses)
    # What has happened so far.
    h.holds(~acted & ~answered & ~changed & (owed == 0), state("IDLE") | state("EVENT") | state("JUDGE") | parses | early)
    h.holds(~acted & ~answered & ~changed & (owed == 0), replies & answer[4])
    h.holds(acted & ~answered & ~changed, sums | writes)
    h.holds(answered == state("SENDING"), replies & ~answer[4])
    # Words: those that are left are those that the bus owes.
    left, wants, gives = inside["words_left"], inside["wants_word"], answer == PacketType.DATA
    h.holds(left == 0, state("IDLE") | state("JUDGE") | parses | early | release)
    h.holds((left == owed) & (owed != 0) & (writing == writes), sums | writes)
    h.holds(wants == (sums | (state("WORD") & gives)))
    h.holds(left != 0, state("WORD"))
    h.holds(owed == Mux(gives, left, 0), replies)
    h.holds(~writing | (owed == 0), replies)
    h.holds(left == 0, state("LAST-BYTE") | state("CRC") | state("SEND") | state("SENDING") | (replies & inside["closing"]))
    h.holds(~inside["closing"], state("EVENT") | state("JUDGE") | parses | works | state("ANSWER") | state("WORD")
            | state("LAST-BYTE") | state("CRC"))
    h.holds(inside["summing"] == 0)
    h.cover(unit.run.start & h.before(is_open, "open"))
    h.cover(decided & (reason == NakReason.SEQUENCE) & naks)
    h.cover(decided & (answer == PacketType.ACK) & ~acted)
    h.cover(moves(unit.bus_wdata))
    return h


FILE = "hw/link/link.py"
PROOFS = (
    Proof("packets", FILE + " HostLink",
          "a packet acts only if its frame, CRC, type, length, session and seq are right, and once; it is the expected one, "
          "or one of before that only reads; a request of the bus lies in one window, a write's in one that may be written, "
          "and moves as many words as it asked for; each packet has one answer, of its seq, with the first reason for which "
          "it is refused; a packet of before is acknowledged and not done again; the expected seq moves by one with each "
          "packet that is done, and with a new session; valid stays, payload stable",
          "the receiver, the sender, the CRC and the ring of events are boxes that do what the solver likes within their "
          f"contracts; one slot, CHECKSUM of 32 bits a cycle; two windows, one only for reads; heads of {HEAD} bytes, a START "
          "of 8, and answers of one word in place of those of HELLO, STATUS and events, so that covers are reached",
          packets, "induction", 3, 70, (
              planted("packets", FILE, "refused-and-expected-moves", "m.d.sync += [reason.eq(why), fresh.eq(0),",
                      "m.d.sync += [reason.eq(why),"),
              planted("packets", FILE, "written-behind-the-window", "inside.eq(offset <= limit),",
                      "inside.eq(offset <= limit + 4),"),
              planted("packets", FILE, "acts-without-a-session", "with m.If(~session_open):", "with m.If(0):"),
              planted("packets", FILE, "write-done-again", "with m.Case(*ONCE):", "with m.Case(PacketType.START):"))),
)
