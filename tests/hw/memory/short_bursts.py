# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""For the benches of the memories' controllers: bursts of a few words, of all ports at once in few rows, and all over a chip."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from sim.cocotb_streams import StreamSink, StreamSource, report, rng

__all__ = ["address_bits", "short_bursts"]

#: Words of 32 bits that are used at a place of a row, from one such place to the next, and requests of a port.
WORDS, APART, REQUESTS = 32, 64, 60


async def short_bursts(dut: Any, *, rows: Sequence[int], reads: Mapping[str, int], writes: Mapping[str, int],
                       request: Callable[[int, int], int], write: Callable[..., Awaitable[None]],
                       read: Callable[..., Awaitable[list[int]]]) -> None:
    """All ports at once with one to four words each: a row is to be closed for a burst, and until it is a burst of a higher
    priority may want it as it is.

    ``rows`` are addresses of rows, of two of each of some banks; ``reads`` and ``writes`` the ports with their bits; ``write``
    and ``read`` the bench's, of words of 32 bits.  Reads are of places that no write touches; what was written is read at the
    end.
    """
    random = rng("rows")
    memory: dict[int, int] = {}
    for first in [row + APART * place for row in rows for place in range(1 + len(writes))]:
        words = [random.getrandbits(32) for _ in range(WORDS)]
        memory.update((first + k, word) for k, word in enumerate(words))
        await write(dut, next(iter(writes)), first, words)

    def draw(bits: int, place: int) -> tuple[int, int]:
        lanes = bits // 32
        length = lanes * random.randint(1, 4)
        return random.choice(rows) + APART * place + lanes * random.randint(0, (WORDS - length) // lanes), length

    def joined(words: Sequence[int], bits: int) -> list[int]:
        lanes = bits // 32
        return [sum(word << 32 * k for k, word in enumerate(words[i:i + lanes])) for i in range(0, len(words), lanes)]

    async def reader(port: str, bits: int) -> None:
        asked = [draw(bits, 0) for _ in range(REQUESTS)]
        data = StreamSink(dut, f"{port}__data")
        cocotb.start_soon(StreamSource(dut, f"{port}__req").send_all([request(*one) for one in asked]))
        for addr, length in asked:
            want = joined([memory[addr + k] for k in range(length)], bits)
            assert await data.recv_n(len(want)) == want, (port, addr, length)

    async def writer(port: str, bits: int, place: int) -> None:
        asked, given = [draw(bits, place) for _ in range(REQUESTS)], []
        for addr, length in asked:
            words = [random.getrandbits(32) for _ in range(length)]
            memory.update((addr + k, word) for k, word in enumerate(words))
            given += joined(words, bits)
        cocotb.start_soon(StreamSource(dut, f"{port}__req").send_all([request(*one) for one in asked]))
        await StreamSource(dut, f"{port}__data").send_all(given)
        while not getattr(dut, f"{port}__idle").value:
            await FallingEdge(dut.clk)

    tasks = [cocotb.start_soon(reader(port, bits)) for port, bits in reads.items()]
    tasks += [cocotb.start_soon(writer(port, bits, n + 1)) for n, (port, bits) in enumerate(writes.items())]
    for task in tasks:
        await task
    for first in [row + APART * (n + 1) for row in rows for n in range(len(writes))]:
        assert await read(dut, next(iter(reads)), first, WORDS) == [memory[first + k] for k in range(WORDS)], first
    report(cases=REQUESTS * len(tasks))


async def address_bits(dut: Any, *, bits: int, lanes: int, write: Callable[..., Awaitable[None]],
                       read: Callable[..., Awaitable[list[int]]]) -> None:
    """Write ``lanes`` words of 32 bits at address 0, and at each address of ``bits`` bits with one bit set, of those that are
    multiples of ``lanes``; then read all."""
    random = rng("bits")
    places = {addr: [random.getrandbits(32) for _ in range(lanes)]
              for addr in (0, *(1 << bit for bit in range(lanes.bit_length() - 1, bits)))}
    for addr, words in places.items():
        await write(dut, "host_write", addr, words)
    for addr, words in places.items():
        assert await read(dut, "host_read", addr, lanes) == words, hex(addr)
    report(cases=len(places))
