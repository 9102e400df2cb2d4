# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Memory ports as their users see them: 32-bit words, little-endian, word address = byte address / 4."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["PORTS", "WORD_ADDRESS_BITS", "MemoryRequest", "PortStrobes", "ReadPort", "WritePort"]

#: The address of a 32-bit word in any core's memory.
WORD_ADDRESS_BITS = 24

#: The controller's ports.
PORTS = ("weights", "kv_read", "kv_write", "host_read", "host_write")
#: A bit a port, for statistics.
PortStrobes = data.StructLayout({name: 1 for name in PORTS})

#: ``len`` words from ``addr`` on, len >= 1.
MemoryRequest = data.StructLayout({"addr": WORD_ADDRESS_BITS, "len": 20})

#: Requests are served in order; the data of one follows that of the one before without a mark.  Data may be stalled
#: for ever: the controller asks the chip only for what its FIFO can take.
ReadPort = wiring.Signature({
    "req": Out(stream.Signature(MemoryRequest)),
    "data": In(stream.Signature(32)),
})

#: ``idle`` is high when every word of every accepted request is in the chip, so that a read sees it.
WritePort = wiring.Signature({
    "req": Out(stream.Signature(MemoryRequest)),
    "data": Out(stream.Signature(32)),
    "idle": In(1),
})
