# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The memory seam: ports as a client of the memory sees them, and the bus between the hub and a memory's controller."""

from dataclasses import dataclass

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tellme.spec.memory import MEMORY_CLIENTS
from tellme.spec.widths import WORD_ADDRESS_BITS

__all__ = ["MEMORY", "BurstLayout", "ClientReadPort", "ClientStrobes", "ClientWritePort", "MemoryBus", "MemoryRequest",
           "MemorySpec", "MemoryWord", "RequestLayout", "WordReadPort", "WordWritePort"]


@dataclass(frozen=True)
class MemorySpec:
    """A memory, as the hub and its clients see it.

    ``data_bits``: bits of the memory's word, 32 times a power of two.  ``addr_bits``: bits of an address.  ``len_bits``: bits of
    a request's length.  ``burst``: words of the memory that are moved for a client before the others are looked at, a power of
    two.  Addresses and lengths of requests count 32-bit words, whatever ``data_bits`` is, so that the layout of a model in
    memory does not depend on the memory's kind.  Raises ValueError for what is not a power of two.
    """

    data_bits: int
    addr_bits: int
    len_bits: int
    burst: int

    def __post_init__(self) -> None:
        if self.data_bits < 32 or self.data_bits & self.data_bits - 1:
            raise ValueError(f"data_bits of a memory is {self.data_bits}; 32, 64, 128 and so on can be")
        if self.burst < 2 or self.burst & self.burst - 1:
            raise ValueError(f"burst of a memory is {self.burst}; a power of two from 2 on can be")

    @property
    def lanes(self) -> int:
        """32-bit words of a word of the memory."""
        return self.data_bits // 32

    @property
    def lane_bits(self) -> int:
        """Low bits of an address that name a 32-bit word within a word of the memory."""
        return self.lanes.bit_length() - 1

    @property
    def word_bits(self) -> int:
        """Bits of the address of a word of the memory."""
        return self.addr_bits - self.lane_bits

    def client(self, data_bits: int) -> "MemorySpec":
        """The same memory as a client of another width sees it."""
        return MemorySpec(data_bits, self.addr_bits, self.len_bits, self.burst)


#: What a memory's unit is made for where nothing else is said: words of 32 bits, and as many of them as a program names.  A
#: core's memory follows from its configuration (:class:`hw.lib.layouts.Layouts`).
MEMORY = MemorySpec(data_bits=32, addr_bits=WORD_ADDRESS_BITS, len_bits=20, burst=32)


def RequestLayout(spec: MemorySpec) -> data.StructLayout:
    """A request for ``len`` 32-bit words from the 32-bit word ``addr`` on.

    ``len`` is at least the client's word, and a whole number of such words.
    """
    return data.StructLayout({"addr": spec.addr_bits, "len": spec.len_bits})


def ClientReadPort(spec: MemorySpec) -> wiring.Signature:
    """A client's port for reading words of ``spec.data_bits``, little-endian.

    Requests are served in order; the data of one request follows the data of the request before without a mark.  A client may
    stall data for ever, because the hub asks the memory only for words that its FIFO can take.
    """
    return wiring.Signature({"req": Out(stream.Signature(RequestLayout(spec))), "data": In(stream.Signature(spec.data_bits))})


def ClientWritePort(spec: MemorySpec) -> wiring.Signature:
    """A client's port for writing words of ``spec.data_bits``, little-endian.

    A client offers a word only after the request that the word belongs to was accepted.  ``idle`` is high when every word of
    every accepted request is in the memory, so that a read sees it.
    """
    return wiring.Signature({"req": Out(stream.Signature(RequestLayout(spec))), "data": Out(stream.Signature(spec.data_bits)),
                             "idle": In(1)})


#: A request to it.
MemoryRequest = RequestLayout(MEMORY)

#: A bit a client, for statistics.
ClientStrobes = data.StructLayout({name: 1 for name in MEMORY_CLIENTS})


def MemoryWord(spec: MemorySpec) -> data.StructLayout:
    """A word to be written.  ``lanes`` has a bit for each 32-bit word of it that is written; a memory of 32 bits has none."""
    return data.StructLayout({"word": spec.data_bits} | ({"lanes": spec.lanes} if spec.lanes > 1 else {}))


def WordRequest(spec: MemorySpec) -> data.StructLayout:
    """A request for ``len`` words of the memory from the memory's word ``addr`` on."""
    return data.StructLayout({"addr": spec.word_bits, "len": spec.len_bits})


def WordReadPort(spec: MemorySpec) -> wiring.Signature:
    """Like a client's port, but counted in words of the memory."""
    return wiring.Signature({"req": Out(stream.Signature(WordRequest(spec))), "data": In(stream.Signature(spec.data_bits))})


def WordWritePort(spec: MemorySpec) -> wiring.Signature:
    """Like a client's port, but counted in words of the memory, each with a mask of the lanes to write."""
    return wiring.Signature({"req": Out(stream.Signature(WordRequest(spec))), "data": Out(stream.Signature(MemoryWord(spec))),
                             "idle": In(1)})


def BurstLayout(spec: MemorySpec, ports: int) -> data.StructLayout:
    """``words`` words of the memory from the memory's word ``addr`` on, for port number ``port``.

    ``words`` is 1 to ``spec.burst``; no burst crosses a multiple of ``spec.burst`` words.
    """
    return data.StructLayout({"write": 1, "addr": spec.word_bits, "words": range(spec.burst + 1), "port": range(ports)})


def MemoryBus(spec: MemorySpec, ports: int) -> wiring.Signature:
    """Between the hub (``Out``) and a memory's controller, for so many ports of the hub.

    ``command`` is the burst that comes next, visible while another one is in work, so that a controller can open its row.  It
    is offered while ``valid``, and taken when ``ready`` is high too.  It is no ``amaranth.lib.stream``: an offer that was not
    taken may be replaced by one of a higher priority.  ``wanted``: some port has a burst, which is offered or will be.

    ``work`` is the burst that was taken last: ``active`` until its last word has moved, ``port`` as in its command, ``moves``
    when a word of it moves in this cycle, ``held`` while the memory does something else, such as a refresh.  ``wdata`` is the
    next word of port ``work.port``; ``moves`` takes it, and a burst is offered only when all its words are there.

    ``rdata`` brings the words of reads in their order.  ``port`` is as in the command, or all ones: no word.  There is no
    ready, as the hub asks only for what it has room for.
    """
    return wiring.Signature({
        "command": Out(wiring.Signature({"p": Out(BurstLayout(spec, ports)), "valid": Out(1), "ready": In(1)})),
        "wanted": Out(1),
        "work": In(data.StructLayout({"active": 1, "port": range(ports), "moves": 1, "held": 1})),
        "wdata": Out(MemoryWord(spec)),
        "rdata": In(data.StructLayout({"word": spec.data_bits, "port": ports.bit_length()})),
    })

