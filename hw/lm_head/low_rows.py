# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The second of an LM head's two steps: rows of the lowest plane from memory, times the codes of the state."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts
from hw.lib.stages import Stages
from tellme.spec.packing import SLICE, SLICE_BYTES, TRITS, slices, unpack_trits
from tellme.spec.two_steps import LOW_PAGE
from tellme.spec.widths import MAX_CODE, signed_bits_for

__all__ = ["LowRows", "low_sum_bits"]


def low_sum_bits(layouts: Layouts) -> int:
    """Bits of a row's sum, and of the sum of |codes|."""
    return signed_bits_for(MAX_CODE * layouts.widths.dim)


class LowRows(wiring.Component):
    """sum = sum over columns c of trit[row, c] * code[c], for each row of ``rows``, in their order.

    ``start``, a pulse, begins a state: its codes come on ``codes`` behind it, in the order of columns, those of whole slices but
    for the last one.  ``bound`` is the sum of the codes' magnitudes, a cycle late.  ``rows`` come when all codes are there.  A
    row's trits lie at low_page * LOW_PAGE + row * words, a 32-bit word for each slice
    (:func:`tellme.spec.two_steps.low_row_words`); ``words`` is the number of slices of the state's codes.  Bytes above 242 count
    as zeros.

    ``sums`` has no ready: who sends a row has room for its sum.  A word is taken in each cycle, and two sums come two cycles
    apart at least.  Latency: three cycles from a row to its request, LATENCY from its last word to its sum.

    Ranges: codes int8, columns 1 to widths.dim, row below widths.vocab; sum and bound have :func:`low_sum_bits`.

    Maps to a memory of a slice a word, four ports of a memory of 256 bytes' trits, an adder tree of 20, and a multiplier.
    """

    #: Registers from a word to its place in the sum.
    LATENCY = 5

    def __init__(self, layouts: Layouts):
        self._layouts = layouts
        widths = layouts.widths
        super().__init__({
            "start": In(1), "codes": In(layouts.state_code), "bound": Out(low_sum_bits(layouts)),
            "low_page": In(16), "rows": In(stream.Signature(widths.token_id_bits)), "read": Out(layouts.read_port),
            "sums": Out(data.StructLayout({"valid": 1, "sum": signed(low_sum_bits(layouts))})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        widths, codes = self._layouts.widths, self.codes
        most = slices(widths.dim)
        sum_bits = low_sum_bits(self._layouts)

        # ------------------------------------------------------------------ codes: a slice a word
        m.submodules.state = state = memory.Memory(shape=8 * SLICE, depth=max(most, 2), init=[])
        write, slice_read = state.write_port(granularity=8), state.read_port()
        place, at, words = Signal(range(SLICE)), Signal(range(most + 1)), Signal(range(most + 1))
        size = Signal(8)
        m.d.comb += [
            write.addr.eq(at), write.data.eq(Cat(codes.code for _ in range(SLICE))),
            write.en.eq(Mux(codes.valid, 1 << place, 0)),
            size.eq(Mux(codes.code[-1], -codes.code, codes.code)),
        ]
        with m.If(self.start):
            m.d.sync += [place.eq(0), at.eq(0), words.eq(0), self.bound.eq(0)]
        with m.Elif(codes.valid):
            m.d.sync += [place.eq(place + 1), self.bound.eq(self.bound + size), words.eq(at + 1)]
            with m.If(place == SLICE - 1):
                m.d.sync += [place.eq(0), at.eq(at + 1)]

        # ------------------------------------------------------------------ requests
        request, words_in = self.read.req, self.read.data
        product = Signal(widths.word_address_bits)
        # The operands stand still while a row is offered.
        m.d.sync += product.eq(self.rows.payload * words)
        with m.FSM(name="ask"):
            with m.State("MULTIPLY"):
                with m.If(self.rows.valid):
                    m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += [request.p.addr.eq((self.low_page << LOW_PAGE.bit_length() - 1) + product), request.p.len.eq(words),
                             request.valid.eq(1)]
                m.next = "ASK"
            with m.State("ASK"):
                with m.If(request.ready):
                    m.d.comb += self.rows.ready.eq(1)
                    m.d.sync += request.valid.eq(0)
                    m.next = "MULTIPLY"

        # ------------------------------------------------------------------ words: stages are counted in registers after the word
        # A trit as two bits: other than zero, and below zero.
        rom = [sum((int(trit != 0) | int(trit < 0) << 1) << 2 * i for i, trit in enumerate(unpack_trits(byte))) if byte < 3**TRITS
               else 0 for byte in range(256)]
        m.submodules.trits = trits = memory.Memory(shape=2 * TRITS, depth=256, init=rom, attrs={"ram_style": "block"})
        number, taken, ends, rests = Signal(range(most + 1)), Signal(), Signal(), Signal()
        m.d.comb += [words_in.ready.eq(~rests), taken.eq(words_in.valid & words_in.ready), ends.eq(number + 1 == words),
                     slice_read.addr.eq(number)]
        # A row of one word is followed by a cycle without one.
        m.d.sync += rests.eq(taken & ends & (words == 1))
        with m.If(self.start):
            m.d.sync += number.eq(0)
        with m.Elif(taken):
            m.d.sync += number.eq(Mux(ends, 0, number + 1))
        found: list[Value] = []
        for i in range(SLICE_BYTES):
            port = trits.read_port()
            m.d.comb += port.addr.eq(words_in.payload.word_select(i, 8))
            found.append(port.data)
        found2 = stage.reg(Cat(found), "trits2")
        codes2 = stage.reg(slice_read.data, "codes2")
        parts3: list[Value] = []
        for i in range(SLICE_BYTES):
            terms = []
            for j in range(TRITS * i, TRITS * (i + 1)):
                code, nonzero, negative = codes2.word_select(j, 8).as_signed(), found2[2 * j], found2[2 * j + 1]
                term = Signal(signed(9), name=f"term{j}")
                m.d.comb += term.eq(Mux(nonzero, Mux(negative, -code, code), 0))
                terms.append(term)
            parts3.append(stage.reg(sum(terms[1:], start=terms[0]), f"part3_{i}"))
        parts = [part.as_signed() if not part.shape().signed else part for part in parts3]
        slice4 = stage.reg((parts[0] + parts[1]) + (parts[2] + parts[3]), "slice4")
        valid4, ends4 = (stage.delay(value, 4, name, resets=True) for value, name in ((taken, "valid"), (taken & ends, "ends")))
        running, total = Signal(signed(sum_bits)), Signal(signed(sum_bits))
        m.d.comb += total.eq(running + slice4)
        with m.If(valid4):
            m.d.sync += running.eq(Mux(ends4, 0, total))
        with m.If(self.start):
            m.d.sync += running.eq(0)
        m.d.sync += [self.sums.sum.eq(total), self.sums.valid.eq(ends4)]
        return m


