# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LM head: int8 rows against the final codes, logits, the greedy pick and the best 64."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts
from hw.lib.scales import SCALE_MUL_STAGES, scale_mul_stages, unpack16
from hw.lib.shifts import round_shift
from hw.lib.stages import Stages
from hw.lib.types import FactorsLayout, MonitorLayout, ProductsLayout, ScaleLayout
from tellme.spec.attention import LOGIT_FRAC
from tellme.spec.packing import HEAD_BLOCK_ROWS

__all__ = ["LmHead"]

LANES = 8


class LmHead(wiring.Component):
    """logit[r] = sat32(round(sum(row[r] * code) * scale_mul(d, scale[r]) * 2**16)), Q15.16, rounded half up.

    Input: a start {dim, vocab, d, dump, dump_base}; then dim codes on ``codes`` (``code_taken`` with each); then the table's
    blocks on ``words``: a word of four stored scales, then four rows of ceil(dim / 8) words.  Rows from ``vocab`` on are read and
    ignored.

    Rate: a word, eight products, per cycle, unless logits wait for the list of the best 64.  Each logit takes two cycles there,
    and a logit that enters the list takes one more cycle for each entry that moves.  ``stall`` counts the cycles in which words
    wait.

    Output, after ``done`` (a pulse): ``best``, of equal logits the one with the lower id; and the best 64, sorted by logit and
    then by id, readable at ``top_addr`` (one cycle).  With fewer than 64 rows the other entries are left from before.  With
    ``dump`` all logits are written from dump_base on, a word each.  ``monitor`` shows each logit as two words, low one first.

    ``compact`` (for small parts): four products per cycle, a word per two cycles, which is the memory's rate.  The multipliers
    belong to another unit: ``products`` are the products of ``factors``, a cycle later.  The best 64 are in EBR.

    Maps to 8 multipliers (compact: none) for the rows and 3 for the scale; two EBR of codes, LUT RAM below 256 codes.
    """

    #: Logits that may wait for the best 64.
    QUEUE = 32

    def __init__(self, layouts: Layouts, *, top: int = 64, compact: bool = False):
        self._layouts = layouts
        self._words = -(-layouts.widths.dim // LANES)
        self._top = top
        self._compact = compact
        borrowing = {"factors": Out(FactorsLayout), "products": In(ProductsLayout)} if compact else {}
        super().__init__({
            **borrowing,
            "control": In(layouts.lm_head_control),
            "codes": In(stream.Signature(signed(8))), "words": In(stream.Signature(64)), "write": Out(layouts.write_port),
            "monitor": Out(MonitorLayout), "busy": Out(1), "code_taken": Out(1),
            "top_addr": In(range(top)), "top_data": Out(layouts.top_entry), "stall": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        stage = Stages(m)

        widths, entry_layout = self._layouts.widths, self._layouts.top_entry
        start, best = self.control.start, self.control.best
        args = Signal(start.payload.shape())
        compact = self._compact
        block = {"ram_style": "block"} if compact else {}
        m.submodules.codes = codes = memory.Memory(shape=64, depth=self._words, init=[], attrs=block)
        c_write, c_read = codes.write_port(), codes.read_port()
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=32 + widths.token_id_bits, depth=self.QUEUE)

        # ------------------------------------------------------------------ rows
        code_shift, code_at, lane = Signal(56), Signal(range(self._words + 1)), Signal(3)
        codes_left, row_words = Signal(widths.dim_bits), Signal(range(self._words + 1))
        scales = Signal(64)
        row, index, words_left = Signal(range(HEAD_BLOCK_ROWS)), Signal(range(self._words + 1)), Signal(range(self._words + 1))
        ident = Signal(widths.token_id_bits)
        eating, in_row = Signal(), Signal()
        m.d.comb += [c_write.addr.eq(code_at), c_read.addr.eq(index), self.code_taken.eq(self.codes.valid & self.codes.ready)]
        took = Signal()
        m.d.comb += took.eq(self.words.valid & self.words.ready & in_row)
        row_end = words_left == 1
        upper: Value
        if compact:
            # A word stays for two cycles, a half each.
            lanes, upper = LANES // 2, Signal()
            step = self.words.valid & eating & in_row
            m.d.sync += upper.eq(upper ^ step)
            word1 = stage.reg(self.words.payload.word_select(upper, 8 * lanes), "word1")
            first = (index == 0) & ~upper
            code1 = c_read.data.word_select(stage.reg(upper, "upper1"), 8 * lanes)
        else:
            lanes, upper, step = LANES, Const(1, 1), took
            word1 = stage.reg(self.words.payload, "word1")
            first, code1 = index == 0, c_read.data
        valid1, first1 = stage.reg(step, "valid1"), stage.reg(first, "first1")
        end1 = stage.reg(took & row_end & (ident < args.vocab), "end1")
        ident1 = stage.reg(ident, "ident1")
        # Stages are counted in registers after the word's arrival.  EBR and multipliers are slow, so there is a register between
        # them.
        word2, code2 = stage.reg(word1, "word2"), stage.reg(code1, "code2")
        if compact:
            m.d.comb += [[self.factors.a[i].eq(word2[8 * i:8 * i + 8]),
                          self.factors.b[i].eq(code2[8 * i:8 * i + 8].as_signed())] for i in range(lanes)]
            products = [self.products[i][:16].as_signed() for i in range(lanes)]
        else:
            products = [stage.reg(word2[8 * i:8 * i + 8].as_signed() * code2[8 * i:8 * i + 8].as_signed(),
                                 f"product3_{i}") for i in range(lanes)]
        quads = [stage.reg(sum(products[4 * h + 1:4 * h + 4], start=products[4 * h]), f"quad4_{h}")
                 for h in range(lanes // 4)]
        valid4, first4 = stage.delay(valid1, 3, "valid"), stage.delay(first1, 3, "first")
        dot5 = Signal(signed(widths.logit_sum_bits))
        with m.If(valid4):
            m.d.sync += dot5.eq(sum(quads, start=Mux(first4, 0, dot5)))
        # ------------------------------------------------------------------ logit
        sig, exp = unpack16(stage.reg(scales.word_select(row, 16), "scale1"))
        scale2 = Signal(ScaleLayout)
        m.d.sync += [scale2.sig.eq(sig), scale2.exp.eq(exp)]
        scale5 = scale_mul_stages(stage, args.d, scale2)
        assert SCALE_MUL_STAGES == 3, "the scale must come beside the dot"
        # Two partial products keep the multipliers small.
        low6 = stage.reg(dot5[:16] * scale5.sig, "low6")
        high6 = stage.reg(dot5[16:].as_signed() * scale5.sig, "high6")
        down6 = stage.reg(-(scale5.exp + LOGIT_FRAC), "down6")
        total7 = stage.reg((high6 << 16) + low6, "total7")
        if compact:
            logit10 = round_shift(stage, total7, stage.reg(down6, "down7"), bits=32)[:32]
        else:
            width = len(total7)
            amount, lift = Signal(range(width + 1)), Signal(6)
            # A left shift beyond 32 bits saturates whatever is not zero.
            m.d.comb += [amount.eq(Mux(down6 > width, width, (down6 - 1)[:len(amount)])),
                         lift.eq(Mux(down6 < -32, 32, -down6))]
            amount7, lift7 = stage.reg(amount, "amount7"), stage.reg(lift, "lift7")
            moved8 = stage.reg(total7 >> amount7, "moved8")
            lifted8 = stage.reg((total7 << lift7)[:width + 32].as_signed(), "lifted8")
            up8 = stage.delay(down6 <= 0, 2, "up")
            value9 = Signal(signed(width + 33))
            m.d.sync += value9.eq(Mux(up8, lifted8, (moved8 + 1) >> 1))
            top_value = (1 << 31) - 1
            logit10 = stage.reg(Mux(value9 > top_value, top_value, Mux(value9 < -top_value - 1, -top_value - 1, value9))[:32],
                               "logit10")
        end10, ident10 = stage.delay(end1, 9, "end"), stage.delay(ident1, 9, "ident")
        m.d.comb += [queue.w_data.eq(Cat(logit10, ident10)), queue.w_en.eq(end10)]

        # ------------------------------------------------------------------ best 64, CRC, dump: a logit at a time
        m.submodules.top = top = memory.Memory(shape=entry_layout, depth=self._top, init=[], attrs=block)
        t_write, t_read = top.write_port(), top.read_port(domain="sync" if compact else "comb")
        count, at = Signal(range(self._top + 1)), Signal(range(self._top + 1))
        remaining = Signal(widths.token_id_bits)
        least = Signal(signed(32))
        logit, logit_id = queue.r_data[:32], queue.r_data[32:]
        working, is_best = Signal(), Signal()
        # ``at`` is the place that is written next, ``entry`` the entry above it; the entry above ``entry`` is being read.
        entry, below = Signal(entry_layout), Signal(range(self._top))
        host = Signal(entry_layout)
        m.d.comb += [
            t_read.addr.eq(Mux(working, below, self.top_addr)), t_write.data.logit.eq(logit),
            t_write.data.id.eq(logit_id), t_write.addr.eq(at), self.top_data.eq(host),
        ]
        if compact:
            # The port's register is the entry.  While there is no search, the port follows the host's address.
            entry, read_next = t_read.data, Signal()
            m.d.comb += [t_read.en.eq(read_next | ~self.busy), host.eq(t_read.data)]
            smaller, next_entry = entry.logit.as_signed() < logit.as_signed(), []
        else:
            m.d.sync += host.eq(t_read.data)
            # Whether the entry is smaller is known with it.
            smaller = Signal()
            next_entry = [entry.eq(t_read.data), smaller.eq(t_read.data.logit.as_signed() < logit.as_signed())]
        write = self.write
        m.d.comb += [write.req.p.addr.eq(args.dump_base), write.req.p.len.eq(args.vocab),
                     write.data.payload.eq(logit)]

        with m.FSM(name="rows") as rows:
            m.d.comb += self.busy.eq(~rows.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += start.ready.eq(1)
                m.d.sync += [args.eq(start.payload), codes_left.eq(start.p.dim), code_at.eq(0), lane.eq(0),
                             row_words.eq((start.p.dim + 7) >> 3), ident.eq(0), remaining.eq(start.p.vocab),
                             code_shift.eq(0)]
                with m.If(start.valid):
                    m.next = "CODES"
            with m.State("CODES"):
                m.d.comb += self.codes.ready.eq(1)
                full = Cat(code_shift, self.codes.payload)
                # The last word of a width that is no multiple of 8 is moved down into its place.
                m.d.comb += c_write.data.eq(Mux(lane == 7, full, full >> 32))
                with m.If(self.codes.valid):
                    m.d.sync += [codes_left.eq(codes_left - 1), lane.eq(lane + 1),
                                 code_shift.eq(Cat(code_shift[8:], self.codes.payload))]
                    with m.If((lane == 7) | (codes_left == 1)):
                        m.d.comb += c_write.en.eq(1)
                        m.d.sync += code_at.eq(code_at + 1)
                    with m.If(codes_left == 1):
                        m.next = "DUMP"
                        with m.If(~args.dump):
                            m.next = "SCALES"
            with m.State("DUMP"):
                m.d.comb += write.req.valid.eq(1)
                with m.If(write.req.ready):
                    m.next = "SCALES"
            with m.State("SCALES"):
                m.d.comb += self.words.ready.eq(1)
                m.d.sync += [scales.eq(self.words.payload), row.eq(0), index.eq(0), words_left.eq(row_words)]
                with m.If(self.words.valid):
                    m.next = "ROWS"
            with m.State("ROWS"):
                # Up to twelve logits are on their way into the queue.
                m.d.comb += [in_row.eq(1), eating.eq(queue.level < self.QUEUE - 12),
                             self.words.ready.eq(eating & upper if compact else eating),
                             self.stall.eq(~eating & self.words.valid)]
                with m.If(took):
                    m.d.sync += [index.eq(index + 1), words_left.eq(words_left - 1)]
                    with m.If(row_end):
                        m.d.sync += [index.eq(0), words_left.eq(row_words), row.eq(row + 1), ident.eq(ident + 1)]
                        with m.If(row == HEAD_BLOCK_ROWS - 1):
                            m.next = "SCALES"
                            with m.If(ident + 1 >= args.vocab):
                                m.next = "FINISH"
            with m.State("FINISH"):
                with m.If((remaining == 0) & (~args.dump | write.idle)):
                    m.d.comb += self.control.done.eq(1)
                    m.next = "IDLE"

        with m.FSM(name="picks"):
            with m.State("LOW"):
                with m.If(rows.ongoing("IDLE")):
                    m.d.sync += count.eq(0)
                m.d.sync += [at.eq(Mux(count == self._top, self._top - 1, count)),
                             below.eq(Mux(count == self._top, self._top - 2, count - 1))]
                with m.If(queue.r_rdy):
                    m.d.comb += [self.monitor.valid.eq(1), self.monitor.word.eq(logit[:16])]
                    m.next = "HIGH"
                    m.d.sync += is_best.eq((count == 0) | (logit.as_signed() > best.logit))
            with m.State("HIGH"):
                m.d.comb += [self.monitor.valid.eq(1), self.monitor.word.eq(logit[16:]), working.eq(1)]
                m.d.sync += below.eq(below - 1)
                with m.If(is_best):
                    m.d.sync += [best.logit.eq(logit), best.id.eq(logit_id)]
                m.d.comb += read_next.eq(1) if compact else []
                m.d.sync += next_entry
                m.next = "INSERT"
                with m.If((count == self._top) & (logit.as_signed() <= least)):
                    m.next = "END"
                with m.If(args.dump):
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += write.data.valid.eq(1)
                with m.If(write.data.ready):
                    m.next = "INSERT"
                    with m.If((count == self._top) & (logit.as_signed() <= least)):
                        m.next = "END"
            with m.State("INSERT"):
                # Entries that are smaller move down one; equal ones have a lower id and stay.
                m.d.comb += [working.eq(1), t_write.en.eq(1)]
                with m.If((at != 0) & smaller):
                    m.d.comb += t_write.data.eq(entry)
                    m.d.sync += [at.eq(at - 1), below.eq(below - 1)]
                    m.d.comb += read_next.eq(1) if compact else []
                    m.d.sync += next_entry
                with m.Else():
                    m.next = "END"
                with m.If(at == self._top - 1):
                    # The entry that becomes the last one is the least.
                    m.d.sync += least.eq(t_write.data.logit.as_signed())
            with m.State("END"):
                m.d.comb += queue.r_en.eq(1)
                m.d.sync += remaining.eq(remaining - 1)
                with m.If(count != self._top):
                    m.d.sync += count.eq(count + 1)
                m.next = "LOW"
        return m
