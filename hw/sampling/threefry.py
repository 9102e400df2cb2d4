# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Counter-based random numbers: Threefry-2x32, a bit of rotation a cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tellme.spec.sampling import THREEFRY_PARITY, THREEFRY_ROTATIONS, THREEFRY_ROUNDS

__all__ = ["Threefry"]


class Threefry(wiring.Component):
    """value = random32(seed, position) (spec: sampling).

    ``start`` (a pulse) takes ``seed`` and ``position``; a start counts only while ``done`` is high.  ``done`` falls with the
    start, is low for LATENCY cycles, and stays high after them; ``value`` is the number while ``done`` is high.

    Rotations are made a bit a cycle, so that the unit is two registers, two adders and an exclusive or.
    """

    #: Cycles that ``done`` is low: one for each bit that is rotated, two more a round, one for each time that the key is added.
    LATENCY = 1 + THREEFRY_ROUNDS // 4 + sum(2 + THREEFRY_ROTATIONS[i % len(THREEFRY_ROTATIONS)] for i in range(THREEFRY_ROUNDS))

    def __init__(self) -> None:
        super().__init__({"start": In(1), "position": In(16), "seed": In(64), "value": Out(32), "done": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        x0, x1 = Signal(32), Signal(32)
        rounds, turns = Signal(range(THREEFRY_ROUNDS + 1)), Signal(range(max(THREEFRY_ROTATIONS) + 1))
        rotations = Array(Const(r, len(turns)) for r in THREEFRY_ROTATIONS)
        # The words of the key in turn: words[0] and words[1] come next.
        words = [Signal(32, name=f"key{i}") for i in range(3)]
        m.d.comb += self.value.eq(x0)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    low, high = self.seed[:32], self.seed[32:]
                    m.d.sync += [x0.eq(self.position), x1.eq(0), rounds.eq(0), self.done.eq(0),
                                 Cat(words).eq(Cat(low, high, low ^ high ^ THREEFRY_PARITY))]
                    m.next = "KEY"
            with m.State("KEY"):
                # The number of keys that came before is rounds / 4, as a key comes each four rounds.
                m.d.sync += [x0.eq(x0 + words[0]), x1.eq(x1 + words[1] + rounds[2:]),
                             Cat(words).eq(Cat(words[1], words[2], words[0]))]
                m.next = "ADD"
                with m.If(rounds == THREEFRY_ROUNDS):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
            with m.State("ADD"):
                m.d.sync += [x0.eq(x0 + x1), turns.eq(rotations[rounds[:3]]), rounds.eq(rounds + 1)]
                m.next = "ROTATE"
            with m.State("ROTATE"):
                m.d.sync += [x1.eq(Cat(x1[31], x1[:31])), turns.eq(turns - 1)]
                with m.If(turns == 1):
                    m.next = "MIX"
            with m.State("MIX"):
                m.d.sync += x1.eq(x1 ^ x0)
                m.next = "ADD"
                with m.If(rounds[:2] == 0):
                    m.next = "KEY"
        return m
