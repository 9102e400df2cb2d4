# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Turns of the softmax units in prefill: dots are taken as they appear, and weights are asked for before their V rows."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.attention.softmax import BACK_BITS, SoftmaxUnit
from hw.lib.scales import unpack16
from hw.lib.stages import Stages
from hw.lib.types import KvScales, ScaleLayout

__all__ = ["SoftmaxTurns"]


class SoftmaxTurns(wiring.Component):
    """Tells all softmax units which turn and key to serve and with what scale; holds the scales of a KV head's keys.

    K: in the cycle after ``dots`` (turn 0's dot of a row is there) ``k`` begins with turn 0 and goes on to last_turn, a turn a
    cycle; ``key`` is the key of the word that came, five cycles before ``dots``.

    V: when the last key's dots have been met and ``drained`` is high, ``v`` asks for weights: turns 0 to last_turn of key 0,
    then of key 1, up to ``keys`` - 1, never more than AHEAD keys beyond the rows that began (``v_row``).  ``asked`` is high with
    a key's first one.  ``v.sig`` and ``v.exp`` come two cycles after the rest of ``v``.  ``pop`` begins in the cycle after
    ``row_came``, with ``pop_turn`` 0, and lasts last_turn + 1 cycles.

    ``remaining`` is min(keys_all - 1 - key, 15), how many keys follow in the slot's longest row.  ``scales`` is written in phase
    s.  A word of eight values (``lanes``) has the scales of two keys, of keys 2 * word - odd and the key after it, where
    ``odd_scales`` is odd: what lies before key 0 and behind the last key is no key's.  Maps to an EBR for each 512 keys.
    """

    def __init__(self, *, lanes: int, turns: int, context: int) -> None:
        self._lanes, self._turns, self._context = lanes, turns, context
        key, turn, keys = range(context), range(turns), range(2 << (context - 1).bit_length())
        super().__init__({
            "scales": In(data.StructLayout({"en": 1, "last": 1, "word": key, "data": data.ArrayLayout(KvScales, lanes // 4)})),
            "odd_scales": In(1),
            "key": In(key), "dots": In(1), "first_key": In(1), "v_row": In(1), "row_came": In(1),
            "last_turn": In(turn), "keys": In(keys), "keys_all": In(keys), "drained": In(1),
            "k": Out(data.StructLayout({"on": 1, "turn": turn, "first": 1, "key": key, "remaining": BACK_BITS,
                                        "scale": ScaleLayout, "v_exp": signed(7), "v_some": 1})),
            "v": Out(data.StructLayout({"on": 1, "turn": turn, "first": 1, "key": key, "remaining": BACK_BITS,
                                        "sig": 11, "exp": signed(7)})),
            "asked": Out(1), "pop": Out(1), "pop_turn": Out(turn),
        })

    def remaining(self, key: Value) -> Value:
        far = self.keys_all - 1 - key
        return Mux(far >> BACK_BITS != 0, (1 << BACK_BITS) - 1, far[:BACK_BITS])

    def kv_scales(self, m: Module, stage: Stages, key: Value) -> Value:
        """The memory of scales: the word of ``key`` in the cycle after it."""
        scales = self.scales
        if self._lanes == 4:
            m.submodules.kv_scales = kv_scales = memory.Memory(shape=32, depth=self._context, init=[])
            write, read = kv_scales.write_port(), kv_scales.read_port()
            m.d.comb += [write.addr.eq(scales.word), write.data.eq(scales.data), write.en.eq(scales.en), read.addr.eq(key)]
            return read.data
        # A memory for each half of a word.  Its addresses wrap: where the first word's lower half is no key's, that place is the
        # last key's of the longest context, and the upper half beside it is not written with it.
        at = key + self.odd_scales
        halves = []
        for n in range(2):
            m.submodules[f"kv_scales{n}"] = half = memory.Memory(shape=32, init=[],
                                                                 depth=1 << ((self._context + 1) // 2 - 1).bit_length())
            write, read = half.write_port(), half.read_port()
            no_key = scales.last & (self.keys_all[0] ^ self.odd_scales) if n else 0
            m.d.comb += [write.addr.eq(scales.word), write.data.eq(scales.data[n]), write.en.eq(scales.en & ~no_key),
                         read.addr.eq(at[1:])]
            halves.append(read.data)
        return Mux(stage.reg(at[0], "upper"), halves[1], halves[0])

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        k, v, last_turn = self.k, self.v, self.last_turn
        # The key whose scales are read; they are there in the next cycle.
        s_key = Signal(range(self._context))
        s_data = self.kv_scales(m, stage, s_key)

        # ------------------------------------------------------------------ K: dots met in turn
        key3 = stage.delay(self.key, 3, "key")
        key5 = stage.delay(key3, 2, "key_dot")
        # There two cycles after its address.
        scale_word = data.View(KvScales, stage.reg(s_data, "scale_word"))
        k_sig, k_exp = unpack16(scale_word.k)
        v_sig, v_exp = unpack16(scale_word.v)
        k_last = Signal(range(self._turns))
        with m.If(k.on):
            m.d.sync += k.turn.eq(k.turn + 1)
            with m.If(k.turn == k_last):
                m.d.sync += k.on.eq(0)
        with m.If(self.dots):
            m.d.sync += [k.on.eq(1), k.turn.eq(0), k_last.eq(last_turn), k.key.eq(key5),
                         k.first.eq(self.first_key), k.remaining.eq(self.remaining(key5)), k.scale.sig.eq(k_sig),
                         k.scale.exp.eq(k_exp), k.v_exp.eq(v_exp), k.v_some.eq(v_sig != 0)]
        k_done = self.dots & (key5 + 1 == self.keys)

        # ------------------------------------------------------------------ V: weights asked for before the rows
        asking, wanted = Signal(), Signal()
        turn, key, ahead = Signal(range(self._turns)), Signal(range(self._context)), Signal(range(SoftmaxUnit.AHEAD + 1))
        # Two cycles between ``dots`` and the first ``v`` belong to the turn and to this flag.
        with m.If(stage.delay(k_done, SoftmaxUnit.K_LATENCY - 1, "k_done")):
            m.d.sync += wanted.eq(1)
        with m.If(wanted & self.drained):
            m.d.sync += [wanted.eq(0), asking.eq(1), turn.eq(0), key.eq(0)]
        asks = asking & ((turn != 0) | (ahead != SoftmaxUnit.AHEAD))
        with m.If(asks):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn == last_turn):
                m.d.sync += [turn.eq(0), key.eq(key + 1)]
                with m.If(key + 1 == self.keys):
                    m.d.sync += asking.eq(0)
        m.d.sync += ahead.eq(ahead + self.asked - self.v_row)
        m.d.comb += [
            s_key.eq(Mux(asking, key, key3)), self.asked.eq(asks & (turn == 0)),
            v.on.eq(asks), v.turn.eq(turn), v.first.eq(key == 0), v.key.eq(key), v.remaining.eq(self.remaining(key)),
            v.sig.eq(v_sig), v.exp.eq(v_exp),
        ]
        # Weights reach the PEs from the second cycle after a V row began on.
        pop_last = Signal(range(self._turns))
        with m.If(self.pop):
            m.d.sync += self.pop_turn.eq(self.pop_turn + 1)
            with m.If(self.pop_turn == pop_last):
                m.d.sync += self.pop.eq(0)
        with m.If(self.row_came):
            m.d.sync += [self.pop.eq(1), self.pop_turn.eq(0), pop_last.eq(last_turn)]
        return m
