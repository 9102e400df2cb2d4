# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Draws a token from the best logits, in integers (spec: sampling)."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import DrawLayout
from hw.lib.layouts import Layouts
from hw.sampling.threefry import Threefry
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.sampling import TOP_P_BITS, TOP_P_ONE, UNIT_TEMPERATURE, WEIGHT_BITS, shift_of
from tellme.spec.tables import EXP2_FRAC_BITS, exp2_rom

__all__ = ["Sampler"]

#: Bits of the exp2 table's entries.
ROM_BITS = 17
#: The sum of all weights.
TOTAL_BITS = WEIGHT_BITS + (TOP_ENTRIES - 1).bit_length()
#: Bits of a stored half of a weight; table and halves share a block of memory.
HALF_BITS = 16

class Sampler(wiring.Component):
    """token = draw(best 64, settings, position) without the repetition penalty (spec: sampling).

    ``start`` (a pulse, not while ``busy``) takes ``position``; ``settings`` and the best 64 behind ``top_addr`` (an entry comes
    a cycle after its address) stand still while ``busy``.  ``entries`` of them are valid, 1 to 64.  ``pick``, the token and its
    logit, is there when ``busy`` falls, and stays until the next start.

    Range: settings that :func:`tellme.spec.sampling.board_draws` takes.  With any others a draw ends too, with one of the tokens.

    One serial multiplier, a bit a cycle, makes gap * inverse, each weight's shift, the share of top-p and the draw's threshold.
    Latency: shift + octaves + 9 cycles a candidate, with top-p below 1 once more at temperature 1; 4 cycles a candidate for each
    search.  A candidate of no weight ends a pass, as all candidates after it have none.  The random number takes Threefry.LATENCY
    cycles beside the weights.  Maps to no multiplier, and one EBR for the exp2 table and the weights.
    """

    def __init__(self, layouts: Layouts):
        super().__init__({
            "control": In(layouts.draw_control), "entries": In(range(TOP_ENTRIES + 1)), "settings": In(DrawLayout),
            "top_addr": Out(range(TOP_ENTRIES)), "top_data": In(layouts.top_entry),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        settings, start, busy, pick = self.settings, self.control.start, self.control.busy, self.control.pick
        m.submodules.random = random = Threefry()
        m.d.comb += [random.seed.eq(settings.seed), random.position.eq(self.control.position), random.start.eq(start & ~busy)]

        # The exp2 table, and behind it the weights' low and high halves.
        m.submodules.table = table = memory.Memory(shape=ROM_BITS, depth=(1 << EXP2_FRAC_BITS) + 2 * TOP_ENTRIES, init=exp2_rom())
        write, read = table.write_port(), table.read_port()

        # ------------------------------------------------------------------ the serial multiplier
        # sum = (sum + (factor's next bit ? value : 0)) >> 1 for ``steps`` cycles; the bit that falls out last is ``half``, and
        # ``inexact`` says that a one fell out.
        value, factor, total = Signal(TOTAL_BITS), Signal(WEIGHT_BITS), Signal(TOTAL_BITS + 1)
        steps, half, inexact = Signal(6), Signal(), Signal()
        added = Signal(TOTAL_BITS + 1)
        m.d.comb += added.eq(total + Mux(factor[0], value, 0))
        multiplied = Signal()
        m.d.comb += multiplied.eq(steps == 0)
        with m.If(~multiplied):
            m.d.sync += [Cat(half, total).eq(added), factor.eq(factor >> 1), steps.eq(steps - 1), inexact.eq(inexact | added[0])]

        def multiply(left: Value | int, right: Value | int, cycles: Value | int) -> list[Any]:
            """Statements that begin left * right >> cycles."""
            return [value.eq(left), factor.eq(right), steps.eq(cycles), total.eq(0), half.eq(0), inexact.eq(0)]

        # ------------------------------------------------------------------ candidates
        index, kept = Signal(range(TOP_ENTRIES + 1)), Signal(range(TOP_ENTRIES + 1))
        # The best candidate's logit; at the end the drawn one's.
        best, gap = Signal(32), Signal(32)
        running, bound = Signal(TOTAL_BITS), Signal(TOTAL_BITS + 1)
        # The running sum counts where it passes the bound, or reaches it.
        reaches = Signal()
        # Temperature 1, for top-p, or the settings'.
        plain, seeking = Signal(), Signal()
        unit_shift = Const(shift_of(UNIT_TEMPERATURE.exp), 6)
        shift = Signal(6)
        down = LOGIT_FRAC - EXP2_FRAC_BITS - settings.inverse.exp
        m.d.comb += [shift.eq(Mux(plain, unit_shift, down[:6])), self.top_addr.eq(index), pick.logit.eq(best)]
        weight = Signal(WEIGHT_BITS)
        x, octaves = Signal(EXP2_FRAC_BITS + 5), Signal(5)
        # The product of a gap that is far too large for a weight.
        rounded, far = Signal(TOTAL_BITS + 1), Signal()
        m.d.comb += [rounded.eq(total + half), far.eq(rounded[len(x):].any())]
        place = 1 << EXP2_FRAC_BITS
        high = Signal()
        m.d.comb += [
            read.addr.eq(Mux(seeking, place | Cat(high, index[:-1]), rounded[:EXP2_FRAC_BITS])),
            write.addr.eq(place | Cat(high, index[:-1])), write.data.eq(Mux(high, weight[HALF_BITS:], weight[:HALF_BITS])),
        ]

        with m.FSM() as fsm:
            m.d.comb += busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                with m.If(start):
                    m.d.sync += [index.eq(0), running.eq(0), plain.eq(settings.top_p != TOP_P_ONE),
                                 kept.eq(Mux(settings.top_k < self.entries, settings.top_k, self.entries))]
                    m.next = "BEST"
            with m.State("BEST"):
                m.next = "BEST-READ"
            with m.State("BEST-READ"):
                m.d.sync += best.eq(self.top_data.logit)
                m.next = "GAP"
            # Weights: a candidate from here on.
            with m.State("READ"):
                m.next = "GAP"
            with m.State("GAP"):
                # As numbers modulo 2**32: the best logit is no smaller than the others.
                m.d.sync += gap.eq(best - self.top_data.logit)
                m.next = "SCALE"
            with m.State("SCALE"):
                m.d.sync += multiply(gap, Mux(plain, UNIT_TEMPERATURE.sig, settings.inverse.sig), shift)
                m.next = "SCALING"
                with m.If(~plain & (gap > settings.max_gap)):
                    m.next = "BOUND"
            with m.State("SCALING"):
                m.d.sync += octaves.eq(rounded[EXP2_FRAC_BITS:])
                with m.If(multiplied):
                    m.next = "POWER"
                    with m.If(far):
                        m.next = "BOUND"
            with m.State("POWER"):
                m.d.sync += multiply(read.data << WEIGHT_BITS - ROM_BITS + 1, 1, octaves + 1)
                m.next = "SHIFTING"
            with m.State("SHIFTING"):
                m.d.sync += weight.eq(total)
                with m.If(multiplied):
                    m.next = "STORE-LOW"
            with m.State("STORE-LOW"):
                m.d.comb += write.en.eq(1)
                m.d.sync += running.eq(running + weight)
                m.next = "STORE-HIGH"
            with m.State("STORE-HIGH"):
                m.d.comb += [write.en.eq(1), high.eq(1)]
                m.d.sync += index.eq(index + 1)
                m.next = "READ"
                with m.If(index + 1 >= kept):
                    m.next = "BOUND"
            with m.State("BOUND"):
                with m.If(plain):
                    m.d.sync += multiply(running, settings.top_p[:TOP_P_BITS], TOP_P_BITS)
                    m.next = "BOUNDING"
                with m.Elif(random.done):
                    m.d.sync += multiply(running, random.value, WEIGHT_BITS)
                    m.next = "BOUNDING"
            with m.State("BOUNDING"):
                m.d.sync += [bound.eq(total), reaches.eq(plain & ~inexact), index.eq(0), running.eq(0)]
                with m.If(multiplied):
                    m.next = "SEEK-LOW"
            # The search: the first candidate at which the running sum passes the bound.
            with m.State("SEEK-LOW"):
                m.d.comb += seeking.eq(1)
                m.next = "SEEK-HIGH"
            with m.State("SEEK-HIGH"):
                m.d.comb += [seeking.eq(1), high.eq(1)]
                m.d.sync += weight.eq(read.data)
                m.next = "SEEK-ADD"
            with m.State("SEEK-ADD"):
                m.d.sync += running.eq(running + Cat(weight[:HALF_BITS], read.data[:HALF_BITS]))
                m.next = "SEEK"
            with m.State("SEEK"):
                m.d.sync += index.eq(index + 1)
                m.next = "SEEK-LOW"
                with m.If((running > bound) | (reaches & (running == bound))):
                    m.d.sync += index.eq(index)
                    m.next = "TOKEN"
            with m.State("TOKEN"):
                # The entry's address has stood for a cycle.
                m.d.sync += pick.id.eq(self.top_data.id)
                with m.If(plain):
                    m.d.sync += [plain.eq(0), kept.eq(index + 1), index.eq(0), running.eq(0)]
                    m.next = "READ"
                with m.Else():
                    m.d.sync += best.eq(self.top_data.logit)
                    m.next = "IDLE"
        return m
