# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The host's end of the link over a unit's byte streams, for testbenches."""

import cocotb
from cocotb.triggers import Event, FallingEdge, First, Timer
from cocotb.utils import get_sim_steps, get_sim_time

from sim.cocotb_streams import PERIOD_NS, StreamSink, StreamSource, clocked, rng
from tellme.link.framing import body, decode, encode, open_body
from tellme.spec.packets import SESSION, PacketType

__all__ = ["Host"]


EVENTS = (PacketType.TOKEN, PacketType.DONE)


class Host:
    """Sends packets into ``rx`` and takes them from ``tx``, one at a time, each from a cycle behind its first byte's offer on.

    ``seq`` is the next packet's.  A session is opened with the first packet that needs one.
    """

    def __init__(self, dut, *, idle=0.0, stall=0.0):
        self._dut, self._clk = dut, dut.clk
        self._source = StreamSource(dut, "rx", idle=idle, rng=rng("rx"))
        self._sink = StreamSink(dut, "tx", stall=stall, rng=rng("tx"))
        self._packets: list[tuple[int, int, bytes]] = []
        self._opened = False
        self._free, self._came = Event(), Event()
        self._free.set()
        self.seq = 0
        cocotb.start_soon(self._listen())

    @clocked
    async def _offered(self):
        """A packet's first byte has been offered for a cycle."""
        while not self._dut.tx__valid.value:
            await FallingEdge(self._clk)
        await FallingEdge(self._clk)

    async def _listen(self):
        frame = bytearray()
        while True:
            if not self._free.is_set():
                await self._free.wait()
                await FallingEdge(self._clk)
            if not frame:
                await self._offered()
            byte = await self._sink.recv()
            if byte:
                frame.append(byte)
            else:
                self._packets.append(open_body(decode(bytes(frame))))
                self._came.set()
                frame.clear()

    @property
    def shares(self) -> dict[str, float]:
        """Measured shares of cycles with rx valid and tx ready low."""
        return {"rx_valid": self._source.low_share, "tx_ready": self._sink.low_share}

    async def send_raw(self, content: bytes):
        """Send raw bytes."""
        await self._source.send_all(content)

    async def packet(self, limit=20000, *, events=True):
        """(seq, type, payload) of the board's next packet; without ``events`` of the next answer, and events stay for later."""
        deadline = get_sim_time() + get_sim_steps(limit * PERIOD_NS, "ns")
        while True:
            for i, (_, kind, _) in enumerate(self._packets):
                if events or kind not in EVENTS:
                    return self._packets.pop(i)
            left = deadline - get_sim_time()
            if left <= 0:
                # The caller goes on behind the falling edge, as with a packet.
                await FallingEdge(self._clk)
                raise AssertionError(f"no packet within {limit} cycles")
            self._came.clear()
            await First(self._came.wait(), Timer(left))

    def hold(self):
        """Take nothing from ``tx`` until the given event is set."""
        self._free = Event()
        return self._free

    def waiting(self):
        """Packets that came and were not asked for yet; they are taken."""
        taken, self._packets = self._packets, []
        return taken

    async def open(self, number=1, seq=0):
        """Open a session."""
        self._opened = True
        assert (await self.exchange(seq, PacketType.HELLO, SESSION.pack(number)))[0] == PacketType.HELLO_ANSWER
        self.seq = (seq + 1) % 256

    async def exchange(self, seq, kind, payload=b""):
        """Send a packet with any seq and give (type, payload) of its answer, whose seq must be the same."""
        await self.send_raw(encode(body(seq, kind, payload)))
        got, answer, content = await self.packet(events=False)
        assert got == seq, (got, seq)
        return answer, content

    async def ask(self, kind, payload=b""):
        """Send the next packet of the session and give (type, payload) of its answer."""
        if kind != PacketType.HELLO and not self._opened:
            await self.open()
        answer, content = await self.exchange(self.seq, kind, payload)
        if kind != PacketType.HELLO and answer != PacketType.NAK:
            self.seq = (self.seq + 1) % 256
        return answer, content
