# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""One port of the hub for several clients, which take turns; a turn is a whole request."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.lib.ports import ClientReadPort, ClientWritePort, MemorySpec

__all__ = ["ReadShare", "Share", "WriteShare"]


class Share(wiring.Component):
    """What both directions have in common: which client has the turn.

    ``free``: every word of every accepted request has passed.  While ``free`` is high, the first client in order that asks has
    the turn, or the last client if none asks.  While ``free`` is low, the client that had the turn keeps it.  So a request is
    served whole, requests of one client follow one another without a gap, and a change of turn costs no cycle.  ``owner`` is
    the client of the words under way.
    """

    def __init__(self, clients: int, signature: wiring.Signature):
        self._count = clients
        super().__init__({"clients": In(signature).array(clients), "port": Out(signature), "free": In(1),
                          "owner": Out(range(clients))})

    def turns(self, m: Module) -> Signal:
        """The client that has the turn in this cycle; its requests pass."""
        n = self._count
        turn = Signal(range(n))
        m.d.comb += turn.eq(self.owner)
        with m.If(self.free):
            m.d.comb += turn.eq(n - 1)
            for i in reversed(range(n - 1)):
                with m.If(self.clients[i].req.valid):
                    m.d.comb += turn.eq(i)
            m.d.sync += self.owner.eq(turn)
        port = self.port
        with m.Switch(turn):
            for i, client in enumerate(self.clients):
                with m.Case(i) if i < n - 1 else m.Default():
                    m.d.comb += [port.req.payload.eq(client.req.payload), port.req.valid.eq(client.req.valid),
                                 client.req.ready.eq(port.req.ready)]
        return turn


class ReadShare(Share):
    """A read port for ``clients`` clients.  Between ``port`` and the hub's FIFO may lie a queue that ``free`` knows of."""

    def __init__(self, clients: int, spec: MemorySpec):
        super().__init__(clients, ClientReadPort(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.turns(m)
        data = self.port.data
        m.d.comb += [client.data.payload.eq(data.payload) for client in self.clients]
        with m.Switch(self.owner):
            for i, client in enumerate(self.clients):
                with m.Case(i) if i < self._count - 1 else m.Default():
                    m.d.comb += [client.data.valid.eq(data.valid), data.ready.eq(client.data.ready)]
        return m


class WriteShare(Share):
    """A write port for ``clients`` clients.  ``idle`` of all clients is the port's."""

    def __init__(self, clients: int, spec: MemorySpec):
        super().__init__(clients, ClientWritePort(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        turn, data = self.turns(m), self.port.data
        with m.Switch(turn):
            for i, client in enumerate(self.clients):
                with m.Case(i) if i < self._count - 1 else m.Default():
                    m.d.comb += [data.payload.eq(client.data.payload), data.valid.eq(client.data.valid),
                                 client.data.ready.eq(data.ready)]
        m.d.comb += [client.idle.eq(self.port.idle) for client in self.clients]
        return m
