# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Between a client and a memory whose word has another width.

``client`` is the client's port, of ``client_bits``; ``port`` has words of the memory, ``spec.data_bits``, of which its requests'
addresses and lengths are counted too.  Both widths are 32 times a power of two; the lowest 32 bits of a word come first.  None
of these units adds a cycle to a request or to a word, and none takes a word before its request.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.ports import ClientReadPort, ClientWritePort, MemorySpec, WordReadPort, WordWritePort
from hw.lib.streams import Queue

__all__ = ["Narrow", "NarrowRead", "NarrowWrite", "WideRead", "WideWrite", "reader", "writer"]


def check(client_bits: int, spec: MemorySpec, *, narrow: bool) -> None:
    """Raise ValueError for a client that is not narrower, or is narrower, than the memory."""
    if (client_bits < spec.data_bits) != narrow:
        raise ValueError(f"a client of {client_bits} bits is {'not ' if narrow else ''}narrower than a memory of "
                         f"{spec.data_bits} bits")


class WideRead(wiring.Component):
    """A client as wide as the memory or wider reads: words of the memory are joined.

    The client's addresses are whole words of the memory.  A client's word is there in the cycle of its last part.
    """

    def __init__(self, client_bits: int, spec: MemorySpec):
        check(client_bits, spec, narrow=False)
        self._spec, self._parts = spec, client_bits // spec.data_bits
        super().__init__({"client": In(ClientReadPort(spec.client(client_bits))), "port": Out(WordReadPort(spec))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec, parts, client, port = self._spec, self._parts, self.client, self.port
        m.d.comb += [port.req.p.addr.eq(client.req.p.addr >> spec.lane_bits),
                     port.req.p.len.eq(client.req.p.len >> spec.lane_bits),
                     port.req.valid.eq(client.req.valid), client.req.ready.eq(port.req.ready)]
        if parts == 1:
            m.d.comb += [client.data.payload.eq(port.data.payload), client.data.valid.eq(port.data.valid),
                         port.data.ready.eq(client.data.ready)]
            return m
        held = Signal(spec.data_bits * (parts - 1), reset_less=True)
        number = Signal(range(parts))
        last = number == parts - 1
        m.d.comb += [client.data.payload.eq(Cat(held, port.data.payload)), client.data.valid.eq(port.data.valid & last),
                     port.data.ready.eq(client.data.ready | ~last)]
        with m.If(port.data.valid & port.data.ready):
            m.d.sync += [number.eq(number + 1), held.eq(Cat(held, port.data.payload)[spec.data_bits:])]
        return m


class WideWrite(wiring.Component):
    """A client as wide as the memory or wider writes: its words are cut into the memory's.

    The client's addresses are whole words of the memory.  A client's word is taken with its last part.
    """

    def __init__(self, client_bits: int, spec: MemorySpec):
        check(client_bits, spec, narrow=False)
        self._spec, self._parts = spec, client_bits // spec.data_bits
        super().__init__({"client": In(ClientWritePort(spec.client(client_bits))), "port": Out(WordWritePort(spec))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec, parts, client, port = self._spec, self._parts, self.client, self.port
        m.d.comb += [port.req.p.addr.eq(client.req.p.addr >> spec.lane_bits),
                     port.req.p.len.eq(client.req.p.len >> spec.lane_bits),
                     port.req.valid.eq(client.req.valid), client.req.ready.eq(port.req.ready), client.idle.eq(port.idle),
                     port.data.valid.eq(client.data.valid)]
        if spec.lanes > 1:
            m.d.comb += port.data.p.lanes.eq(-1)
        if parts == 1:
            m.d.comb += [port.data.p.word.eq(client.data.payload), client.data.ready.eq(port.data.ready)]
            return m
        number = Signal(range(parts))
        m.d.comb += [port.data.p.word.eq(client.data.payload.word_select(number, spec.data_bits)),
                     client.data.ready.eq(port.data.ready & (number == parts - 1))]
        with m.If(port.data.valid & port.data.ready):
            m.d.sync += number.eq(number + 1)
        return m


class Narrow(wiring.Component):
    """What a client that is narrower than the memory needs in both directions: a request in words of the memory, and a queue of
    requests in parts: which part of the first word it begins with, and how many parts it has."""

    #: Requests that may be under way.
    REQUESTS = 4

    def __init__(self, client_bits: int, spec: MemorySpec, client: wiring.Signature, port: wiring.Signature):
        check(client_bits, spec, narrow=True)
        self._spec, self._bits, self._parts = spec, client_bits, spec.data_bits // client_bits
        super().__init__({"client": In(client), "port": Out(port)})

    def requests(self, m: Module) -> tuple[Signal, Signal, Signal, Signal]:
        """(a request is in work, its present part's place in its word, that part is its last, ``moves``: a part is done)."""
        spec, parts = self._spec, self._parts
        client, port = self.client.req, self.port.req
        client_lane_bits = (self._bits // 32).bit_length() - 1
        part_bits = parts.bit_length() - 1
        first = client.p.addr[client_lane_bits:client_lane_bits + part_bits]
        count = client.p.len >> client_lane_bits
        layout = data.StructLayout({"first": part_bits, "count": spec.len_bits})
        m.submodules.requests = queue = Queue(layout, depth=self.REQUESTS)
        m.d.comb += [
            port.p.addr.eq(client.p.addr >> spec.lane_bits), port.p.len.eq((first + count + parts - 1) >> part_bits),
            port.valid.eq(client.valid & queue.i.ready), client.ready.eq(port.ready & queue.i.ready),
            queue.i.p.first.eq(first), queue.i.p.count.eq(count), queue.i.valid.eq(client.valid & port.ready),
        ]
        begun, done, moves, last = Signal(), Signal(spec.len_bits), Signal(), Signal()
        place = (queue.o.p.first + done)[:part_bits]
        m.d.comb += [last.eq(done == queue.o.p.count - 1), queue.o.ready.eq(moves & last), begun.eq(queue.o.valid)]
        with m.If(moves):
            m.d.sync += done.eq(Mux(last, 0, done + 1))
        return begun, place, last, moves


class NarrowRead(Narrow):
    """A client that is narrower than the memory reads: it is given the parts of the memory's words that it asked for."""

    def __init__(self, client_bits: int, spec: MemorySpec):
        super().__init__(client_bits, spec, ClientReadPort(spec.client(client_bits)), WordReadPort(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        begun, place, last, moves = self.requests(m)
        client, port = self.client.data, self.port.data
        m.d.comb += [client.payload.eq(port.payload.word_select(place, self._bits)), client.valid.eq(port.valid & begun),
                     moves.eq(client.valid & client.ready), port.ready.eq(moves & (last | (place == self._parts - 1)))]
        return m


class NarrowWrite(Narrow):
    """A client that is narrower than the memory writes: its words are gathered; lanes that it did not give stay as they are."""

    def __init__(self, client_bits: int, spec: MemorySpec):
        super().__init__(client_bits, spec, ClientWritePort(spec.client(client_bits)), WordWritePort(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        begun, place, last, moves = self.requests(m)
        client, port, parts = self.client.data, self.port.data, self._parts
        lanes = self._bits // 32
        # What a word has of parts before the present one.
        word, given = Signal(self._spec.data_bits), Signal(parts)
        whole, present = Signal.like(word), Signal.like(given)
        complete = last | (place == parts - 1)
        m.d.comb += [whole.eq(word), whole.word_select(place, self._bits).eq(client.payload),
                     present.eq(given | (Const(1) << place)[:parts]),
                     port.p.word.eq(whole), port.p.lanes.eq(Cat(bit.replicate(lanes) for bit in present)),
                     port.valid.eq(client.valid & begun & complete), client.ready.eq(begun & (port.ready | ~complete)),
                     moves.eq(client.valid & client.ready), self.client.idle.eq(self.port.idle)]
        with m.If(moves):
            m.d.sync += [word.eq(whole), given.eq(Mux(complete, 0, present))]
        return m


def reader(client_bits: int, spec: MemorySpec) -> WideRead | NarrowRead:
    """What lets a client of that width read from the memory."""
    return NarrowRead(client_bits, spec) if client_bits < spec.data_bits else WideRead(client_bits, spec)


def writer(client_bits: int, spec: MemorySpec) -> WideWrite | NarrowWrite:
    """What lets a client of that width write to the memory."""
    return NarrowWrite(client_bits, spec) if client_bits < spec.data_bits else WideWrite(client_bits, spec)
