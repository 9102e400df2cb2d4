# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LM head of one token in two steps, or in one: from sums to logits, the greedy pick and the best 64 of the rows that count."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, enum, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.lib.layouts import Layouts
from hw.lib.scales import SCALE_MUL_STAGES, pack16, unpack16
from hw.lib.stages import Stages
from hw.lib.types import MonitorLayout, ScaleLayout
from hw.lm_head.best_list import BestList
from hw.lm_head.logit import LOGIT_STAGES, logit_stages
from hw.lm_head.low_rows import LowRows
from tellme.spec.memory import TOP_ENTRIES
from tellme.spec.two_steps import BATCH, CANDIDATES

__all__ = ["TwoStepLmHead"]


class Kind(enum.Enum, shape=2):
    """What a logit is: a row's own, or the largest or the least one that the row can have."""

    LOGIT = 0
    HIGH = 1
    LOW = 2


class TwoStepLmHead(wiring.Component):
    """logit[r] = sat32(round(acc[r] * scale_mul(d, scale[r]) * 2**16)), Q15.16, rounded half up.

    Input: ``start``, a pulse while ``busy`` is low; and on ``sums`` the engine's results of one token, row by row, with the scale
    of each.  The rows are ``vocab``, and one more that is ignored if ``vocab`` is odd.  A sum's place counts for nothing.
    ``args`` do not change from the start to ``done``.

    Without ``args.two_steps`` a sum is acc[r], and all rows are picked from; ``dump`` writes all logits from dump_base on, a word
    each.

    With it a sum is S_hi[r], that of the planes above the lowest one, and acc[r] = 3 S_hi[r] + S_lo[r].  The state's codes pass
    on ``codes`` behind the start and before the first sum.  The unit reads the lowest plane of rows through ``read``
    (:class:`hw.lm_head.low_rows.LowRows`, at ``low_page``): those, and in the order, that :mod:`tellme.spec.two_steps` says, for
    the gap ``gap``, with ``candidates`` rows that wait and batches of ``batch``.  Only rows that are read are picked from; the
    pick, and all rows whose logits are within the gap of the pick's, are among them.  Such a pass has no ``dump``.

    Output, after ``done`` (a pulse): ``best``, of equal logits the one with the lower id; and ``entries`` best rows, 64 at most,
    sorted by logit and then by id, readable at ``top_addr`` (one cycle).  ``monitor`` shows each row's logit as two words, low
    one first: without ``two_steps`` of all rows, with it of the rows that are read, in their order.  ``row`` and ``row_read``
    are strobes of a pass with ``two_steps``: a row came; a row is read.

    Rate: a sum in two cycles, unless logits wait for the list, rows are read, or the dump waits; ``sums`` waits then.  A row that
    waits is looked at in two cycles, and its request takes four more; the words' cycles count beside these.  A batch ends some
    20 cycles behind its last word.  A logit takes three cycles in the list, and one for each entry that moves; one that does not
    enter takes one at most.  Latency LATENCY from a sum to its logit.

    Ranges: acc and 3 S_hi have widths.logit_sum_bits; with ``two_steps`` a scale is a stored one, as row words have it; vocab is
    1 to widths.vocab, gap 0 to 2**32 - 1.

    Maps to 4 multipliers (:func:`logit_stages`, and one for a row's address), an EBR for the list, EBR for the rows that wait.
    """

    #: Logits that may wait for the list: the words of LUT RAM, and one in a register.
    LISTED = 33
    #: Logits that may wait for memory.
    DUMPS = 33
    #: Registers from a sum to its logit.
    LATENCY = LOGIT_STAGES

    def __init__(self, layouts: Layouts, *, candidates: int = CANDIDATES, batch: int = BATCH, compact: bool = False):
        self._layouts, self._candidates, self._batch, self._compact = layouts, candidates, batch, compact
        super().__init__({
            "control": In(layouts.lm_head_control), "codes": In(layouts.state_code), "gap": In(32),
            "sums": In(stream.Signature(layouts.acc)), "read": Out(layouts.read_port), "write": Out(layouts.write_port),
            "monitor": Out(MonitorLayout), "busy": Out(1), "row": Out(1), "row_read": Out(1),
            "top_addr": In(range(TOP_ENTRIES)), "top_data": Out(layouts.top_entry), "entries": Out(range(TOP_ENTRIES + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        widths, entry_layout = self._layouts.widths, self._layouts.top_entry
        args, write, best = self.control.args, self.write, self.control.best
        sum_bits, id_bits = widths.logit_sum_bits, widths.token_id_bits
        #: A row on its way to step 2, and one that waits.
        row_layout = data.StructLayout({"hi": signed(sum_bits), "scale": 16, "id": id_bits})
        waiting_layout = data.StructLayout({"row": row_layout, "high": signed(32)})
        m.submodules.low_rows = low_rows = LowRows(self._layouts)
        connect(m, low_rows.read, flipped(self.read))
        m.d.comb += [low_rows.start.eq(self.control.start), low_rows.codes.eq(self.codes), low_rows.low_page.eq(args.low_page)]

        # ------------------------------------------------------------------ sums: of rows that come, and of those that are read
        idle, eating, room = Signal(), Signal(), Signal()
        half, is_row, came = Signal(), Signal(), Signal()
        row0 = Signal(range(widths.vocab + 2))
        # The rows of a batch.
        m.submodules.chosen = chosen = memory.Memory(shape=row_layout, depth=max(self._batch, 2), init=[])
        choose, summed, shown = chosen.write_port(), chosen.read_port(domain="comb"), chosen.read_port(domain="comb")
        two = args.two_steps
        sums, low_sum = self.sums, low_rows.sums
        sig, exp = unpack16(summed.data.scale)
        base, beside = Signal(signed(sum_bits)), Signal(signed(sum_bits))
        acc0, scale0 = Signal(signed(sum_bits)), Signal(ScaleLayout)
        kind0, valid0 = Signal(Kind), Signal()
        m.d.comb += [
            is_row.eq(row0 != args.vocab), came.eq(sums.valid & ~half & eating & (room | ~two | ~is_row)),
            sums.ready.eq(half),
            base.eq(sums.p.acc[:sum_bits]), scale0.eq(sums.p.scale),
            beside.eq(Mux(half, -low_rows.bound.as_signed(), low_rows.bound.as_signed())),
            kind0.eq(Mux(two, Mux(half, Kind.LOW, Kind.HIGH), Kind.LOGIT)), valid0.eq((came | (half & two)) & is_row),
        ]
        with m.If(low_sum.valid):
            m.d.comb += [base.eq(summed.data.hi), scale0.sig.eq(sig), scale0.exp.eq(exp), beside.eq(low_sum.sum),
                         kind0.eq(Kind.LOGIT), valid0.eq(1)]
            m.d.sync += summed.addr.eq(summed.addr + 1)
        m.d.comb += acc0.eq(Mux(two, base + (base << 1) + beside, base))
        m.d.sync += half.eq(came)
        with m.If(idle):
            m.d.sync += row0.eq(0)
        with m.Elif(half):
            m.d.sync += row0.eq(row0 + 1)
        # A matrix has an even number of rows.
        all0 = Signal()
        m.d.comb += all0.eq(row0 == args.vocab + args.vocab[0])

        # ------------------------------------------------------------------ logit: stages are counted in registers after the sum
        scale1 = data.View(ScaleLayout, stage.reg(scale0.as_value(), "scale1"))
        d1 = data.View(ScaleLayout, stage.reg(args.d.as_value(), "d1"))
        acc4 = stage.delay(acc0, 1 + SCALE_MUL_STAGES, "acc")
        logit9 = logit_stages(stage, acc4, d1, scale1, compact=self._compact)
        valid9 = stage.delay(valid0, self.LATENCY, "valid", resets=True)
        kind9 = stage.delay(kind0, self.LATENCY, "kind")
        logit10 = stage.reg(logit9, "logit10").as_signed()
        is_logit9, is_low9 = Signal(), Signal()
        m.d.comb += [is_logit9.eq(valid9 & (kind9 == Kind.LOGIT)), is_low9.eq(valid9 & (kind9 == Kind.LOW))]
        is_logit10, is_low10 = stage.reg(is_logit9, "is_logit10", resets=True), stage.reg(is_low9, "is_low10", resets=True)
        high11 = stage.reg(logit10, "high11").as_signed()

        # ------------------------------------------------------------------ step 1: who leads, who waits, who is dropped
        m.submodules.coming = coming = fifo.SyncFIFO(width=sum_bits + 16, depth=16)
        m.submodules.waiting = waiting = fifo.SyncFIFOBuffered(width=waiting_layout.size, depth=self._candidates + 1)
        most, known, least = Signal(signed(32)), Signal(), Signal(signed(34))
        leads, keeps, led = Signal(), Signal(), Signal()
        leader, row10, pushed = Signal(waiting_layout), Signal(waiting_layout), Signal(waiting_layout)
        number10, popped = Signal(id_bits), Signal()
        free, coming_rows = Signal(range(self._candidates + 1), init=self._candidates), Signal(range(17))
        two_came = Signal()
        m.d.comb += [
            two_came.eq(came & two & is_row), room.eq(free != 0),
            coming.w_data.eq(Cat(sums.p.acc[:sum_bits], pack16(sums.p.scale))), coming.w_en.eq(two_came),
            coming.r_en.eq(is_low10),
            row10.row.hi.eq(coming.r_data[:sum_bits]), row10.row.scale.eq(coming.r_data[sum_bits:]), row10.row.id.eq(number10),
            row10.high.eq(high11),
            leads.eq(~known | (logit10 > most)), keeps.eq(high11 >= least),
            pushed.eq(Mux(leads, leader, row10)), waiting.w_data.eq(pushed),
            waiting.w_en.eq(is_low10 & Mux(leads, led, keeps)),
            self.row.eq(two_came),
        ]
        m.d.sync += [
            free.eq(free - two_came + popped + (is_low10 & ~waiting.w_en)), coming_rows.eq(coming_rows + two_came - is_low10),
        ]
        counts = Signal()
        with m.If(counts):
            # Two cycles behind the logit; rows come two cycles apart.
            m.d.sync += least.eq(most - self.gap)
        with m.If(is_low10):
            m.d.sync += number10.eq(number10 + 1)
            with m.If(leads):
                m.d.sync += [leader.eq(row10), led.eq(1)]
        with m.If((is_low10 & leads) | (is_logit10 & (logit10 > most))):
            m.d.sync += [most.eq(logit10), known.eq(1)]

        # ------------------------------------------------------------------ logits: shown, and on to the list and the dump
        is_logit11 = stage.reg(is_logit10, "is_logit11", resets=True)
        whole9 = Signal(id_bits)
        id9 = Signal(id_bits)
        m.d.comb += [id9.eq(Mux(two, shown.data.id, whole9)), self.monitor.valid.eq(is_logit9 | is_logit10),
                     self.monitor.word.eq(Mux(is_logit10, logit10[16:], logit9[:16]))]
        results = Signal(range(self._batch + 1))
        with m.If(is_logit9 & two):
            m.d.sync += shown.addr.eq(shown.addr + 1)
        with m.Elif(is_logit9):
            m.d.sync += whole9.eq(whole9 + 1)
        with m.If(is_logit10 & two):
            m.d.sync += results.eq(results + 1)
        id10 = stage.reg(id9, "id10")
        #: Of the list: whether it is full, and its last entry then.
        count, full, last = Signal(range(TOP_ENTRIES + 1)), Signal(), Signal(entry_layout)
        m.submodules.listed = listed = fifo.SyncFIFOBuffered(width=entry_layout.size, depth=self.LISTED)
        new11 = Signal(entry_layout)
        m.d.sync += [new11.logit.eq(logit10), new11.id.eq(id10)]
        m.d.comb += [full.eq(count == TOP_ENTRIES), listed.w_data.eq(new11),
                     # The last entry only grows: what is smaller than an earlier one does not enter.
                     listed.w_en.eq(is_logit11 & (~full | (new11.logit.as_signed() >= last.logit.as_signed())))]
        m.submodules.dumps = dumps = fifo.SyncFIFOBuffered(width=32, depth=self.DUMPS)
        m.d.comb += [dumps.w_data.eq(logit9), dumps.w_en.eq(is_logit9 & args.dump), write.data.payload.eq(dumps.r_data),
                     write.data.valid.eq(dumps.r_rdy), dumps.r_en.eq(write.data.ready),
                     write.req.p.addr.eq(args.dump_base), write.req.p.len.eq(args.vocab)]

        # ------------------------------------------------------------------ a pass
        # Logits may come that a level does not count yet.
        under_way = self.LATENCY + 5
        listing, settled, behind, lonely = Signal(), Signal(2), Signal(), Signal()
        chosen_rows, asked, judged = Signal(range(self._batch + 1)), Signal(id_bits), Signal()
        seen, none_waits = data.View(waiting_layout, waiting.r_data), Signal()
        m.d.comb += [low_rows.rows.payload.eq(asked), none_waits.eq(free == self._candidates)]
        with m.If(choose.en):
            m.d.sync += [asked.eq(choose.data.id), chosen_rows.eq(chosen_rows + 1)]
        with m.FSM(name="pass") as passes:
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                m.d.sync += [known.eq(0), led.eq(0), number10.eq(0), whole9.eq(0), settled.eq(0), behind.eq(0)]
                with m.If(self.control.start):
                    m.next = "ROWS"
                    with m.If(args.dump):
                        m.next = "DUMP"
            with m.State("DUMP"):
                m.d.comb += write.req.valid.eq(1)
                with m.If(write.req.ready):
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += eating.eq((listed.level <= self.LISTED - under_way) & (dumps.level <= self.DUMPS - under_way) & ~all0)
                with m.If(~two):
                    with m.If(all0 & (whole9 == args.vocab)):
                        m.next = "SETTLE"
                # All rows that have come are decided, so that it is the same rows that wait, whatever the memory does.
                with m.Elif((coming_rows == 0) & (all0 | ~room)):
                    m.d.sync += behind.eq(all0)
                    m.next = "LEADER"
            with m.State("LEADER"):
                m.d.comb += [choose.en.eq(led), choose.data.eq(leader.row)]
                m.d.sync += [led.eq(0), lonely.eq(1)]
                m.next = "LOOK"
                with m.If(led):
                    m.next = "ASK"
            with m.State("LOOK"):
                m.d.sync += [judged.eq(seen.high >= least), lonely.eq(0)]
                with m.If(none_waits & (chosen_rows == 0)):
                    m.next = "ROWS"
                    with m.If(behind):
                        m.next = "SETTLE"
                with m.Elif(none_waits | (chosen_rows == self._batch)):
                    m.next = "WAIT"
                with m.Elif(waiting.r_rdy):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.comb += [popped.eq(1), waiting.r_en.eq(1), choose.en.eq(judged), choose.data.eq(seen.row)]
                m.next = "LOOK"
                with m.If(judged):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += [low_rows.rows.valid.eq(1), self.row_read.eq(low_rows.rows.ready)]
                with m.If(low_rows.rows.ready):
                    m.d.sync += choose.addr.eq(choose.addr + 1)
                    # The leader's logit counts for all that wait.
                    m.next = "LOOK"
                    with m.If(lonely):
                        m.next = "WAIT"
            with m.State("WAIT"):
                # The next batch's logits have room in the list's queue, and ``least`` knows this one's.
                with m.If((results == chosen_rows) & (listed.level <= self.LISTED - under_way - self._batch)):
                    m.d.sync += settled.eq(settled + 1)
                    with m.If(settled == 3):
                        m.d.sync += [chosen_rows.eq(0), results.eq(0), choose.addr.eq(0), summed.addr.eq(0), shown.addr.eq(0)]
                        m.next = "LOOK"
            with m.State("SETTLE"):
                # The last logit is in its queues.
                with m.If(settled != 3):
                    m.d.sync += settled.eq(settled + 1)
                with m.Elif(~listing & ~listed.r_rdy & (listed.level == 0)
                            & (~args.dump | (write.idle & (dumps.level == 0)))):
                    m.d.comb += self.control.done.eq(1)
                    m.next = "IDLE"
            # A look at the rows that wait goes by the same number for a whole batch.
            m.d.comb += counts.eq(passes.ongoing("ROWS") | passes.ongoing("WAIT"))
        m.d.comb += self.busy.eq(~idle)

        # ------------------------------------------------------------------ the list: a logit at a time
        m.submodules.list = best_list = BestList(self._layouts, by_id=True)
        new = data.View(entry_layout, listed.r_data)
        m.d.comb += [
            best_list.i.valid.eq(listed.r_rdy), listed.r_en.eq(best_list.i.ready), best_list.i.p.entry.eq(new),
            best_list.held.eq(count), best_list.last.eq(last), listing.eq(best_list.busy), self.entries.eq(count),
            # While there is no pass, the list shows what the host asks for.
            best_list.shown.eq(idle), best_list.top_addr.eq(self.top_addr), self.top_data.eq(best_list.top_data),
        ]
        with m.If(best_list.entered & ~full):
            m.d.sync += count.eq(count + 1)
        with m.If(best_list.first):
            m.d.sync += [best.id.eq(new.id), best.logit.eq(new.logit)]
        with m.If(best_list.placed):
            m.d.sync += last.eq(best_list.ends)
        with m.If(idle & self.control.start):
            m.d.sync += count.eq(0)
        return m
