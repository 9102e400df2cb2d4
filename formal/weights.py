# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A proof of the weight buffer: the list's words in order, each once, and never more than there is room for.

A plain walk along the list says which words come next.  The solver picks one word of one request, which is followed through the
memory, the blocks and the queue; ``ahead`` is how many words leave before it.
"""

from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

from formal.harness import Harness, Inside, Proof, planted
from formal.properties import moves, stays
from hw.lib.ports import ClientReadPort, MemorySpec
from hw.memory.weights import WeightBuffer

__all__ = ["PROOFS"]

ADDRESS_BITS = 7
#: Segments of the list.
SEGMENTS = 3
#: Words of the blocks, and of a request at most.
DEPTH, WORDS = 6, 2
#: States of the unit's FSMs: of the list, and of what is asked for.
IDLE, LOOK, SHOWN, JUDGE = range(4)
LEFT, NEXT, ASK = 1, 2, 3
#: Cycles without a request, where there is room for one; cycles to a word's offer; cycles from a stop to idle.
REQUEST, OFFER, STOPPED = 15, 2, 6


class SmallBuffer(WeightBuffer):
    """Six words in place of blocks of 512, requests of up to two 64-bit words in place of 64."""

    WORDS_PER_BLOCK = DEPTH
    BURST = 2 * WORDS


class Asked:
    """What is asked for now: a segment, the words of it that are left, and their address.  ``looks`` is how many entries are
    looked at before the next segment is found, at most; ``waits``: the unit waits for a neighbour."""

    looks: Value
    done: Value

    def __init__(self) -> None:
        self.segment, self.left, self.addr = (Signal(range(SEGMENTS), name="now"), Signal(3, name="left_now"),
                                              Signal(ADDRESS_BITS, name="addr_now"))
        self.waits: Value = Const(0, 1)


class Walk:
    """The list: segments that the solver chooses, of which all but the first may be of the LM head."""

    def __init__(self, h: Harness):
        m = h.m
        self.words, self.addresses = (Array(Signal(bits, name=f"{name}{i}") for i in range(SEGMENTS + 1))
                                      for name, bits in (("words", 3), ("address", ADDRESS_BITS)))
        self.head = Cat(Const(0, 1), h.constant(SEGMENTS - 1), Const(0, 1))
        for i in range(SEGMENTS):
            count = h.constant(3)
            h.assume(count != 0)
            m.d.comb += [self.words[i].eq(count), self.addresses[i].eq(h.constant(ADDRESS_BITS))]
        self._m, self._number = m, 0

    def is_head(self, number: Any) -> Value:
        """Whether an entry is of the LM head."""
        return self.head.bit_select(Value.cast(number)[:2], 1)

    def settle(self, entry: Any, plain: Any) -> tuple[Signal, Signal]:
        """The segment that comes when the list is looked at from ``entry`` on, and how many plain chunks then are left."""
        m, number = self._m, self._number
        self._number += 1
        segment, left = Signal(range(SEGMENTS + 1), name=f"segment{number}"), Signal(16, name=f"plain{number}")
        m.d.comb += [segment.eq(0), left.eq(Mux(plain == 0, 0, plain - 1))]
        for i in reversed(range(SEGMENTS)):
            with m.If((entry <= i) & ~(self.head[i] & (plain != 0))):
                m.d.comb += [segment.eq(i), left.eq(plain)]
        return segment, left

    def skips(self, entry: Any, plain: Any) -> Value:
        """Entries that are looked at in vain from ``entry`` on, the end among them."""
        skipped: Value = Const(1, 3)
        for i in reversed(range(SEGMENTS)):
            skipped = Mux(entry > i, skipped, Mux(self.head[i] & (plain != 0), skipped + 1, 0))
        return skipped


def walk_plain(h: Harness, inside: Inside, control: Any, walk: Walk, running: Value, asks: Value, words: Value) -> Asked:
    """One slot: what has to be asked for follows from the list and the number of plain chunks."""
    m = h.m
    asked = Asked()
    segment, left, addr, plain = asked.segment, asked.left, asked.addr, Signal(16, name="plain_now")
    next_segment, next_plain = walk.settle(segment + 1, plain)
    with m.If(control.start):
        m.d.sync += [segment.eq(0), plain.eq(control.plain_tokens), left.eq(walk.words[0]), addr.eq(walk.addresses[0])]
    with m.Elif(asks & (left == words)):
        m.d.sync += [segment.eq(next_segment), plain.eq(next_plain), left.eq(walk.words[next_segment]),
                     addr.eq(walk.addresses[next_segment])]
    with m.Elif(asks):
        m.d.sync += [left.eq(left - words), addr.eq(addr + (words << 1))]
    at, remaining, look = inside["entry"], inside["remaining"], inside.states("list_state")
    known = Mux(remaining == 0, segment, next_segment), Mux(remaining == 0, plain, next_plain)
    found = walk.settle(at, inside["plain"])
    h.holds((found[0] == known[0]) & (found[1] == known[1]), running)
    h.holds((left == walk.words[segment]) & (addr == walk.addresses[segment]), running & (remaining == 0))
    h.holds(left == remaining, running & (remaining != 0))
    h.holds(inside["skips"] == (walk.is_head(at) & (inside["plain"] != 0)), look("JUDGE"))
    asked.looks = walk.skips(at, inside["plain"])
    asked.done = plain == 0
    return asked


def walk_told(h: Harness, inside: Inside, control: Any, walk: Walk, running: Value, asks: Value, words: Value) -> Asked:
    """Several slots: which segments come in a pass is said of pass after pass, of the next one at the earliest while the list's
    end is still to be looked at.  The segments of the LM head, and the end, wait until it is said."""
    m = h.m
    asked = Asked()
    segment, left, addr = asked.segment, asked.left, asked.addr
    at, remaining, look, take = inside["entry"], inside["remaining"], inside.states("list_state"), inside["take"]
    with m.If(take):
        m.d.sync += [segment.eq(at), left.eq(walk.words[at[:2]]), addr.eq(walk.addresses[at[:2]])]
    with m.Elif(asks):
        m.d.sync += [left.eq(left - words), addr.eq(addr + (words << 1))]
    h.holds(left == remaining, running)
    # Passes that were told of, from the one on of which the segment is, and their flags.
    told, flags, later = Signal(range(3), name="told"), Signal(2, name="flags"), Signal(range(3), name="told_later")
    h.drive(control.begin, "begin")
    h.drive(control.lm_head, "lm_head")
    h.assume(running & (told < 2), control.begin)
    ended = running & (at == 0)
    over = take & ended
    m.d.comb += later.eq(told - over)
    with m.If(over):
        m.d.sync += flags.eq(flags[1])
    with m.If(control.begin):
        m.d.sync += flags.bit_select(later[:1], 1).eq(control.lm_head)
    m.d.sync += told.eq(Mux(control.stop, 0, later + control.begin))
    # Between the segment and the one that is taken next lie segments of the LM head, in a pass that was told to have none.
    for i in range(1, SEGMENTS):
        h.holds(walk.is_head(i) & (told != 0) & ~flags[0], running & (segment < i) & ((at > i) | ended))
    h.holds((told != 0) & flags[0], take & running & walk.is_head(at))
    # A pass ends only when it was told of.
    h.holds(told != 0, ended)
    h.holds((at > segment) | ended, running)
    said, heads, waits = inside["said"], inside["lm_heads"], inside["waits"]
    h.holds(told <= 2)
    h.holds(said + ended == told)
    h.holds(told == 0, ~running)
    h.holds(heads[0] == Mux(ended, flags[1], flags[0]), said != 0)
    h.holds(heads[1] == flags[1], said == 2)
    judges = running & look("JUDGE") & ~waits
    h.holds(inside["skips"] == (walk.is_head(at) & ~heads[0]), judges & (said != 0))
    h.holds(~inside["skips"], judges & ~walk.is_head(at))
    h.holds(said != 0, judges & (walk.is_head(at) | (at == SEGMENTS)))
    asked.looks = Mux(at == 0, 0, SEGMENTS + 1 - at)
    asked.waits = look("JUDGE") & waits
    asked.done = flags[0] & (told != 0)
    return asked


def weights(slots: int) -> Harness:
    h = Harness()
    m = h.m
    spec = MemorySpec(data_bits=64, addr_bits=ADDRESS_BITS, len_bits=4, burst=2)
    layouts: Any = SimpleNamespace(weights_port=ClientReadPort(spec), two_steps=False,
                                   widths=SimpleNamespace(word_address_bits=ADDRESS_BITS, slots=slots))
    unit = SmallBuffer(layouts, blocks=1)
    inside = h.unit(unit)
    control, request = unit.control, unit.port.req
    walk = Walk(h)
    # The list is a memory that answers a cycle later.
    asked_at = h.before(unit.segments.addr, "list")
    entry = asked_at[1:]
    shown = Signal(range(SEGMENTS + 1))
    m.d.comb += [shown.eq(Mux(entry < SEGMENTS, entry, SEGMENTS)), unit.segments.data.eq(
        Mux(asked_at[0], walk.addresses[shown], walk.words[shown] | (walk.is_head(shown) << 31)))]
    # Starts and stops as the neighbour likes; who starts has seen ``idle``, which falls in the second cycle behind a start.
    h.drive(control.start, "start")
    h.drive(control.stop, "stop")
    if slots == 1:
        h.drive(control.plain_tokens, "plain")
    running = Signal(name="runs")
    m.d.sync += running.eq((running | control.start) & ~control.stop)
    seen = h.before(control.idle, "idle")
    just = h.before(control.start, "start")
    h.assume(control.idle & seen & ~running & ~just, control.start)
    h.holds(running == inside["running"])

    # ------------------------------------------------------------------ what has to be asked for
    words, asks = (request.p.len >> 1)[:3], moves(request)
    h.drive(request.ready, "ready")
    stays(h, request, "request")
    asked = (walk_plain if slots == 1 else walk_told)(h, inside, control, walk, running, asks, words)
    segment, left, addr = asked.segment, asked.left, asked.addr
    # The list's words, in order, each once, within a segment.
    h.holds((request.p.addr == addr) & (words != 0) & (words <= WORDS) & (words <= left) & (request.p.len == words << 1),
            request.valid)
    # The unit's registers.
    look, ask = inside.states("list_state"), inside.states("ask_state")
    at, remaining, taken = inside["entry"], inside["remaining"], inside["taken"]
    h.holds(~look("IDLE") & ~ask("IDLE"), running)
    h.holds(at <= SEGMENTS)
    h.holds(segment < SEGMENTS)
    h.holds(addr == Mux(taken, walk.addresses[segment], inside["addr"]), running & (remaining != 0))
    h.holds(ask("LEFT") & (asked_at == (segment << 1 | 1)) & (remaining != 0), taken & running)
    h.holds(ask("LEFT"), taken)
    h.holds(at == 0, look("IDLE"))
    h.holds(asked_at == 0, control.idle & look("IDLE"))
    h.holds(asked_at == at << 1, look("SHOWN") | look("JUDGE"))
    h.holds(inside["ends"] == (at == SEGMENTS), look("JUDGE"))
    h.holds(~inside["ends"], control.idle & seen & look("IDLE") & ~running)
    h.holds((inside["size"] == Mux(remaining <= WORDS, remaining, WORDS)) & (inside["none_left"] == (remaining == 0))
            & (inside["last"] == (remaining <= WORDS)), ask("NEXT") | ask("ASK"))
    h.holds(request.valid == ask("ASK"))
    h.holds((words == inside["size"]) & (remaining != 0) & (left == remaining) & (inside["room"] >= words), request.valid)

    # ------------------------------------------------------------------ words: there is room, and none is lost, doubled or moved
    data = unit.port.data
    h.drive(data.valid, "valid")
    h.drive(data.payload, "word")
    h.drive(unit.out.ready, "out_ready")
    h.holds(data.ready)
    stored, arriving, queued = inside["stored"], inside["arriving"], inside["queue.queue.level"]
    owed = Signal(range(DEPTH + 1), name="owes")
    m.d.sync += owed.eq(owed + Mux(asks, words, 0) - data.valid)
    h.assume(owed != 0, data.valid)
    h.holds(owed == inside["owed"])
    h.holds(inside["room"] + stored + owed == DEPTH)
    h.holds(unit.level == stored)
    came = Signal(4, name="came")
    m.d.comb += came.eq(queued + arriving + stored)
    tracked, ahead, value = Signal(), Signal(4), Signal(64)
    place = h.free(2, "place")
    follows = h.free(1, "follow") & asks & ~tracked & running
    h.assume(place < words, follows)
    leaves = moves(unit.out)
    with m.If(tracked & leaves):
        m.d.sync += [tracked.eq(ahead != 0), ahead.eq(ahead - 1)]
    with m.If(follows):
        m.d.sync += [tracked.eq(1), ahead.eq(came + owed - leaves + place)]
    with m.If(tracked & data.valid & (ahead == came)):
        m.d.sync += value.eq(data.payload)
    with m.If(control.stop):
        m.d.sync += tracked.eq(0)
    h.holds((came != 0) & running, unit.out.valid)
    h.holds(unit.out.payload == value, unit.out.valid & tracked & (ahead == 0))
    h.holds(running & (ahead < came + owed), tracked)
    # A stop takes what is offered back.
    waits, payload = h.before(unit.out.valid & ~unit.out.ready & ~control.stop, "out_waits"), h.before(unit.out.payload, "out")
    h.holds(unit.out.valid & (unit.out.payload == payload), waits)
    # Where words lie.
    reads, writes = inside.addresses("blocks")
    h.holds((reads < DEPTH) & (writes < DEPTH))
    total, behind, end = Signal(4), Signal(4), Signal(4)
    m.d.comb += [total.eq(reads + stored), behind.eq(reads + ahead - queued - arriving), end.eq(
        Mux(behind >= DEPTH, behind - DEPTH, behind))]
    h.holds(writes == Mux(total >= DEPTH, total - DEPTH, total))
    h.holds(inside.spy("blocks", end[:3])[:64] == value, tracked & (ahead >= queued + arriving) & (ahead < came))
    h.holds(inside["i__payload"] == value, tracked & arriving & (ahead == queued))
    first = (inside["queue.queue.consume"] + ahead)[:2]
    h.holds(inside.spy("queue.queue.storage", first) == value, tracked & (ahead < queued))
    h.holds(queued + arriving <= 3)
    h.holds(inside["o__valid"] == (queued != 0))
    h.holds((queued + arriving + owed == 0) & ask("IDLE") & look("IDLE"), control.idle & ~running & ~just)

    # ------------------------------------------------------------------ bounded waits
    # Where there is room for a request, one is offered in time: what the list and the FSM take at most.
    asking = running & (inside["room"] >= WORDS) & ~request.valid & ~asked.waits
    count = h.cycles(asking, REQUEST + 1, "asking")
    search = 3 * asked.looks + Mux(look("LOOK"), 2, look("SHOWN"))
    rest = Mux((remaining == 0), search + 3, 1) + ask("LEFT")
    h.holds(count + rest <= REQUEST, asking)
    h.holds(count <= REQUEST)
    # A word that has come is offered.
    stuck = h.cycles(running & (came != 0) & ~unit.out.valid, OFFER + 1, "stuck")
    h.holds(stuck <= OFFER)
    # A stop ends in idle, when the memory has brought what was asked for.
    ending = ~running & (owed == 0) & ~request.valid & ~control.idle
    count = h.cycles(ending, STOPPED + 1, "ending")
    steps = (("JUDGE", look), ("SHOWN", look), ("LOOK", look)), (("NEXT", ask), ("LEFT", ask))
    for more in (*(sum(fsm(state) * n for n, (state, fsm) in enumerate(states, 1)) for states in steps), queued + arriving):
        h.holds(count + more < STOPPED, ending)
    h.holds(count <= STOPPED)
    h.cover(leaves & tracked & (ahead == 0) & (value != 0) & (segment == 2) & asked.done)
    h.cover(running & (stored == DEPTH))
    again = Signal(name="again")
    with m.If(running & control.stop & (owed != 0)):
        m.d.sync += again.eq(1)
    h.cover(again & unit.out.valid & tracked & (ahead == 0))
    return h


FILE = "hw/memory/weights.py"
WORDS_LEAVE = ("a request lies within a segment; there is room for all that was asked for, and no word is overwritten before it "
               "has left; a request comes within {} cycles{}, a word that came is offered within "
               f"{OFFER}; a stop ends in idle within {STOPPED} cycles, and a start is anew; valid stays, payload stable")
SIZES = ("six words of room, requests of two; three segments of one to seven words, the second and the third of the LM head or "
         "not; who starts has seen idle a cycle before; ")
PROOFS = (
    Proof("weights-plain", FILE + " WeightBuffer", "the list's words are asked for and leave in order, each once, those of "
          "the LM head left out of plain chunks; " + WORDS_LEAVE.format(REQUEST, ""), SIZES + "one slot",
          lambda: weights(1), "induction", 4, 26, (
              planted("weights-plain", FILE, "asks-without-room", "with m.Elif(room >= size):", "with m.Elif(room != 0):"),
              planted("weights-plain", FILE, "head-not-skipped", "skips.eq(counts.lm_head & left_out)", "skips.eq(0)"),
              planted("weights-plain", FILE, "word-fetched-twice", "(queue.level + arriving < 3)", "(queue.level < 4)"))),
    Proof("weights-told", FILE + " WeightBuffer", "the same, where the LM head's words come in the passes of which it is "
          "said, and wait until it is said; " + WORDS_LEAVE.format(REQUEST, " in which the unit does not wait to be told"),
          SIZES + "several slots; at most two passes are told of that are not over",
          lambda: weights(2), "induction", 4, 26, (
              planted("weights-told", FILE, "end-does-not-wait", "(counts.lm_head | (counts.words64 == 0))", "counts.lm_head"),
              planted("weights-told", FILE, "flag-of-the-pass-before", "m.d.sync += lm_heads[0].eq(lm_heads[1])",
                      "m.d.sync += lm_heads[0].eq(lm_heads[0])"))),
)
