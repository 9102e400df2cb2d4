# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A proof of the weight buffer: the list's words in order, each once, and never more than there is room for."""

from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Array, Mux, Signal, Value

from formal.harness import Harness, Proof, planted
from formal.properties import moves, stays
from hw.lib.ports import ClientReadPort, MemorySpec
from hw.memory.weights import WeightBuffer

__all__ = ["PROOFS"]

ADDRESS_BITS = 7


class SmallBuffer(WeightBuffer):
    """Eight words in place of blocks of 512, requests of up to two 64-bit words in place of 64."""

    WORDS_PER_BLOCK = 8
    BURST = 4


class Walker:
    """Where the stream is: a segment, a word of it, and a chunk.  ``step`` is how many words it moves on."""

    def __init__(self, h: Harness, step: Value, name: str, *, words: Any, addresses: Any, head: Value, plain: Value):
        self.segment, self.place, self.chunk = (Signal(1, name=f"{name}_segment"), Signal(3, name=f"{name}_place"),
                                                Signal(2, name=f"{name}_chunk"))
        segment, place, chunk = self.segment, self.place, self.chunk
        self.left = words[segment] - place
        self.address = (addresses[segment] + (place << 1))[:ADDRESS_BITS]
        skips = head & (chunk < plain)
        ends_chunk = segment | skips
        with h.m.If(step != 0):
            with h.m.If(self.left == step):
                h.m.d.sync += [place.eq(0), segment.eq(~ends_chunk), chunk.eq(Mux(ends_chunk & (chunk != 3), chunk + 1, chunk))]
            with h.m.Else():
                h.m.d.sync += place.eq(place + step)


def weights() -> Harness:
    h = Harness()
    m = h.m
    spec = MemorySpec(data_bits=64, addr_bits=ADDRESS_BITS, len_bits=4, burst=2)
    layouts: Any = SimpleNamespace(weights_port=ClientReadPort(spec), widths=SimpleNamespace(word_address_bits=ADDRESS_BITS))
    unit = SmallBuffer(layouts, blocks=1)
    h.unit(unit)
    # A list of two segments of one to three words, the second of the LM head or not; then its end.
    counts, places, head, plain = ([h.constant(2) for _ in range(2)], [h.constant(ADDRESS_BITS) for _ in range(2)], h.constant(1),
                                   h.constant(2))
    words, addresses = (Array(Signal(7, name=f"{name}{i}") for i in range(2)) for name in ("words", "address"))
    m.d.comb += [signal.eq(value) for signal, value in zip((*words, *addresses), (*counts, *places), strict=True)]
    for count, place in zip(counts, places, strict=True):
        h.assume((count != 0) & (place[0] == 0) & (place < 1 << ADDRESS_BITS - 1))
    h.assume(plain <= 2)
    asked_at = h.before(unit.segments.addr, "list")
    entry = asked_at[1:]
    number = Mux(entry < 2, words[entry[0]] | (Mux(entry[0], head, 0) << 31), 0)
    m.d.comb += unit.segments.data.eq(Mux(asked_at[0], addresses[entry[0]], number))
    # One start, when it is idle.
    h.drive(unit.control.start, "start")
    started = Signal()
    m.d.comb += unit.control.plain_tokens.eq(plain)
    with m.If(unit.control.start):
        m.d.sync += started.eq(1)
    h.assume(unit.control.idle & ~started, unit.control.start)
    # The memory: it takes requests, and brings their words in order, as late as the solver likes.
    request = unit.port.req
    h.drive(request.ready, "ready")
    h.drive(unit.port.data.valid, "valid")
    h.drive(unit.out.ready, "out_ready")
    named: dict[str, Any] = {"words": words, "addresses": addresses, "head": head, "plain": plain}
    length = request.p.len >> 1
    ask = Walker(h, Mux(moves(request), length, 0), "ask", **named)
    put = Walker(h, Value.cast(unit.port.data.valid), "put", **named)
    out = Walker(h, moves(unit.out), "out", **named)
    owed = Signal(5)
    m.d.sync += owed.eq(owed + Mux(moves(request), length, 0) - unit.port.data.valid)
    h.assume(owed != 0, unit.port.data.valid)
    m.d.comb += unit.port.data.payload.eq(put.address)
    # Asked for: the list's words, in order, within a segment.
    h.holds((request.p.addr == ask.address) & (length != 0) & (length <= 2) & (length <= ask.left) & (request.p.len[0] == 0),
            request.valid)
    # There is room for all that was asked for.
    h.holds(unit.level + owed <= 8)
    h.holds(unit.port.data.ready)
    stays(h, request, "request")
    # The list's words, in order, each once.
    h.holds(started & (unit.out.payload == out.address), unit.out.valid)
    stays(h, unit.out, "out")
    # A word comes within 14 cycles in which the memory is not late.
    late = (request.valid & ~request.ready) | ((owed != 0) & ~unit.port.data.valid)
    h.holds(h.cycles(started & ~unit.out.valid, 15, "waits", stands=late) <= 14)
    h.cover(moves(unit.out) & out.segment & (out.place == 1))
    h.cover(moves(unit.out) & (out.chunk == 1))
    h.cover(unit.level == 6)
    return h


FILE = "hw/memory/weights.py"
PROOFS = (
    Proof("weights", FILE + " WeightBuffer", "the list's words leave in order, each once; requests are the list's, within a "
          "segment; no more is asked for than there is room for; a word comes within 14 cycles; valid stays, payload stable",
          "eight words of room, requests of two; two segments of one to three words, the second one of the LM head or not",
          weights, "bounded", 22, 26, (
              planted("weights", FILE, "asks-without-room", "with m.Elif(room >= size):", "with m.Elif(room != 0):"),
              planted("weights", FILE, "head-not-skipped", "skips.eq(counts.lm_head & left_out)", "skips.eq(0)"),
              planted("weights", FILE, "word-fetched-twice", "(queue.level + arriving < 3)", "(queue.level < 4)"))),
)
