# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The host's end of the link over a unit's byte streams, for testbenches."""

import cocotb
from cocotb.triggers import FallingEdge

from sim.cocotb_streams import StreamSink, StreamSource, clocked, rng
from tellme.link.framing import body, decode, encode, open_body

__all__ = ["Host"]


class Host:
    """Sends packets into ``rx`` and takes them from ``tx``."""

    def __init__(self, dut, *, idle=0.0, stall=0.0):
        self._dut, self._clk = dut, dut.clk
        self._source = StreamSource(dut, "rx", idle=idle, rng=rng("rx"))
        self._sink = StreamSink(dut, "tx", stall=stall, rng=rng("tx"))
        self._packets: list[tuple[int, int, bytes]] = []
        self.seq = 0
        cocotb.start_soon(self._listen())

    @clocked
    async def _listen(self):
        frame = bytearray()
        while True:
            byte = await self._sink.recv()
            if byte:
                frame.append(byte)
            else:
                self._packets.append(open_body(decode(bytes(frame))))
                frame.clear()

    @property
    def shares(self) -> dict[str, float]:
        """Measured shares of cycles with rx valid and tx ready low."""
        return {"rx_valid": self._source.low_share, "tx_ready": self._sink.low_share}

    async def send_raw(self, content: bytes):
        """Send raw bytes."""
        await self._source.send_all(content)

    async def packet(self, limit=20000):
        """The next packet of the board."""
        for _ in range(limit):
            if self._packets:
                return self._packets.pop(0)
            await FallingEdge(self._dut.clk)
        raise AssertionError(f"no packet within {limit} cycles")

    async def ask(self, kind, payload=b"", seq=None):
        """Send a packet and give (type, payload) of its answer, whose seq must be the same."""
        if seq is None:
            seq = self.seq = (self.seq + 1) & 0x7F
        await self.send_raw(encode(body(seq, kind, payload)))
        got, answer, content = await self.packet()
        assert got == seq, (got, seq)
        return answer, content
