# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Multipliers of decode attention: eight for each query head of a group, or four that K, V and all heads share."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.scatter import LANES
from hw.lib.stages import Stages

__all__ = ["GroupBanks", "Multipliers", "OwnMultipliers", "SharedMultipliers"]

class GroupBanks:
    """Where the query heads of a group keep their data: in a bank of each memory per head, or in one bank for all heads.

    ``shared``: the heads take turns, and the head's number is the low part of an address.  Otherwise each head has its own
    bank, and all heads work at the same time.
    """

    def __init__(self, groups: int, *, shared: bool) -> None:
        self.groups, self.shared = groups, shared
        self.numbers = range(1 if shared else groups)
        #: Heads that a bank has room for.
        self.heads = 1 << (groups - 1).bit_length() if shared else 1

    def address(self, g: Value, addr: Value) -> Value:
        """The address in the bank, of the data that head ``g`` has at ``addr``."""
        return Cat(g[:(self.groups - 1).bit_length()], addr) if self.shared else addr

    def selects(self, bank: int, g: Value) -> Value:
        """Whether head ``g`` is in ``bank``."""
        return Const(1, 1) if self.shared else g == bank

    def of(self, values: list[Value], g: Value) -> Value:
        """The value of head ``g``'s bank, from the values of all banks."""
        return values[0] if self.shared else Array(values)[g]

    def members(self, bank: int) -> range:
        """Heads in ``bank``."""
        return range(self.groups) if self.shared else range(bank, bank + 1)

    def delay(self, stage: Stages, g: Value, registers: int, name: str) -> Value:
        """The head that has the turn, a number of cycles later; None if heads take no turns."""
        return stage.delay(g, registers, name) if self.shared else g


class Multipliers(wiring.Component):
    """Products of a word's four bytes, three cycles after ``word``, a word a cycle, for each bank:

        k[bank][i] = word[i] * q[bank][i];  v[bank][i] = word[i] * weights[bank]

    ``q`` (four int8), ``weights`` (unsigned) and ``of_v`` come one cycle after ``word``, as memories answer.  ``k`` is right
    where of_v was low, ``v`` where it was high.
    """

    def __init__(self, banks: GroupBanks) -> None:
        self._banks = banks
        n = len(banks.numbers)
        super().__init__({
            "word": In(32), "q": In(data.ArrayLayout(data.ArrayLayout(signed(8), LANES), n)),
            "weights": In(data.ArrayLayout(16, n)), "of_v": In(1),
            "k": Out(data.ArrayLayout(data.ArrayLayout(signed(16), LANES), n)),
            "v": Out(data.ArrayLayout(data.ArrayLayout(signed(24), LANES), n)),
        })


class OwnMultipliers(Multipliers):
    """Eight multipliers a bank: four of K (8x8), four of V (8x17).  ``of_v`` makes no difference."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        # EBR and multipliers are slow, so there is a register between them.
        word2 = stage.delay(self.word, 2, "word")
        for g in self._banks.numbers:
            q_word, weight = stage.reg(self.q[g].as_value(), f"q_word{g}"), stage.reg(self.weights[g], f"weight{g}")
            for i in range(LANES):
                byte, q_byte = word2[8 * i:8 * i + 8].as_signed(), q_word[8 * i:8 * i + 8].as_signed()
                m.d.comb += [self.k[g][i].eq(stage.reg(byte * q_byte, f"k_product{g}_{i}")),
                             self.v[g][i].eq(stage.reg(byte * weight, f"v_product{g}_{i}"))]
        return m


class SharedMultipliers(Multipliers):
    """Four multipliers of 8x17 for the one bank; ``of_v`` says which product they make."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        word2 = stage.delay(self.word, 2, "word")
        weight = Cat(self.weights[0], Const(0, 1)).as_signed()
        for i in range(LANES):
            factor = stage.reg(Mux(self.of_v, weight, self.q[0][i]), f"factor{i}")
            product = stage.reg(word2[8 * i:8 * i + 8].as_signed() * factor.as_signed(), f"product{i}")
            m.d.comb += [self.k[0][i].eq(product), self.v[0][i].eq(product)]
        return m
