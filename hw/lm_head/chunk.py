# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LM head of several tokens: from the engine's sums to logits, a greedy pick and the best 64 for each token."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts
from hw.lib.scales import SCALE_MUL_STAGES
from hw.lib.stages import Stages
from hw.lib.types import MonitorLayout, ScaleLayout
from hw.lm_head.best_list import BestList
from hw.lm_head.logit import LOGIT_STAGES, logit_stages
from tellme.spec.memory import TOP_ENTRIES

__all__ = ["ChunkLmHead"]


class ChunkLmHead(wiring.Component):
    """logit[r, t] = sat32(round(acc[r, t] * scale_mul(d[t], scale[r]) * 2**16)), Q15.16, rounded half up.

    Input: ``start``, a pulse while ``busy`` is low; and on ``sums`` the engine's results of ``args.tokens`` tokens, row by row,
    in each row the tokens in order, with the scale of each.  The rows are ``vocab``, and one more that is ignored if ``vocab`` is
    odd.  A sum's place counts for nothing: rows and tokens are counted here.  ``args`` do not change from the start to ``done``.
    ``scales``, one port a float pipeline: the d of the tokens' codes, before their sums; of S pipelines, number s has the chunk's
    tokens s, s + S, ...  The tokens of a pass are those from ``args.first`` on; their numbers in the pass begin with 0.

    Rate: a sum per cycle, of a single token one in two cycles.  A logit that is no larger than the least of its token's list
    takes no cycle more; another one is a candidate and waits for the list.  A candidate takes four cycles there, and one for
    each entry that moves.  A candidate that the list has outgrown meanwhile takes two cycles.  ``sums`` waits while CANDIDATES
    wait, or the dump does.  Latency LATENCY from a sum to its logit.

    Output, after ``done`` (a pulse): for each token the pick, of equal logits the one with the lower id, on ``best`` a cycle
    after ``number``; and the best 64, sorted by logit and then by id, readable at ``top_addr`` = 64 * number + entry (one cycle).
    With fewer than 64 rows the other entries are left from before.  With ``dump`` all logits are written from dump_base on, a
    word each, in one burst: that of row r and token t at dump_base + r * tokens + t.  ``monitor`` shows each logit of the last
    token as two words, low one first.

    Ranges: a sum has widths.logit_sum_bits, which an int8 row's sum never passes; vocab is 1 to widths.vocab, tokens 1 to
    widths.head_tokens, first + tokens at most widths.chunk.

    Nothing inside is stalled: what is under way has room in the queues.  Maps to 3 multipliers (:func:`logit_stages`), the EBR of
    64 entries for each token, and two EBR of candidates.  Raises ValueError for a number of streams that is no power of two.
    """

    #: Logits that may wait for the lists: the words of EBR, and one in a register.
    CANDIDATES = 513
    #: Logits that may wait for memory.
    DUMPS = 33
    #: Registers from a sum to its logit.
    LATENCY = LOGIT_STAGES

    def __init__(self, layouts: Layouts, *, streams: int = 1, compact: bool = False):
        if streams < 1 or streams & streams - 1:
            raise ValueError(f"streams is {streams}; a power of two is wanted")
        self._layouts, self._streams, self._compact = layouts, streams, compact
        super().__init__({
            "control": In(layouts.lm_head_control), "scales": In(layouts.token_scale).array(streams),
            "sums": In(stream.Signature(layouts.acc)), "write": Out(layouts.write_port),
            "monitor": Out(MonitorLayout), "busy": Out(1),
            "top_addr": In(range(TOP_ENTRIES * layouts.widths.head_tokens)), "top_data": Out(layouts.top_entry),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stage = Stages(m)
        widths, entry_layout = self._layouts.widths, self._layouts.top_entry
        args, write = self.control.args, self.write
        Number = range(widths.head_tokens)
        last_number = Signal(Number)
        m.d.sync += last_number.eq(args.tokens - 1)

        # ------------------------------------------------------------------ logit: stages are counted in registers after the sum
        idle, taken, number0 = Signal(), Signal(), Signal(Number)
        m.d.comb += taken.eq(self.sums.valid & self.sums.ready)
        with m.If(idle):
            m.d.sync += number0.eq(0)
        with m.Elif(taken):
            m.d.sync += number0.eq(Mux(number0 == last_number, 0, number0 + 1))
        # The scales of the tokens, by pipeline.
        token, shift = Signal(widths.token_bits), self._streams.bit_length() - 1
        m.d.comb += token.eq(args.first + number0)
        ds: list[Value] = []
        for i, told in enumerate(self.scales):
            m.submodules[f"d_of{i}"] = of = memory.Memory(shape=ScaleLayout, depth=max(-(-widths.chunk // self._streams), 2),
                                                          init=[])
            d_write, d_read = of.write_port(), of.read_port(domain="comb")
            m.d.comb += [d_write.en.eq(told.valid), d_write.addr.eq(told.token), d_write.data.eq(told.d),
                         d_read.addr.eq(token >> shift)]
            ds.append(d_read.data.as_value())
        d1 = data.View(ScaleLayout, stage.reg(Array(ds)[token[:shift]] if shift else ds[0], "d1"))
        scale1 = data.View(ScaleLayout, stage.reg(self.sums.p.scale.as_value(), "scale1"))
        acc4 = stage.delay(self.sums.p.acc[:widths.logit_sum_bits], 1 + SCALE_MUL_STAGES, "acc")
        logit9 = logit_stages(stage, acc4, d1, scale1, compact=self._compact)
        taken9 = stage.delay(taken, self.LATENCY, "taken")

        # ------------------------------------------------------------------ the logits are counted once more
        number9, row9, last9 = Signal(Number), Signal(range(widths.vocab + 2)), Signal()
        shown9, is_row9 = Signal(), Signal()
        m.d.comb += [last9.eq(number9 == last_number), is_row9.eq(taken9 & (row9 != args.vocab)), shown9.eq(is_row9 & last9)]
        with m.If(idle):
            m.d.sync += [number9.eq(0), row9.eq(0)]
        with m.Elif(taken9):
            m.d.sync += number9.eq(Mux(last9, 0, number9 + 1))
            with m.If(last9):
                m.d.sync += row9.eq(row9 + 1)
        # A matrix has an even number of rows.
        all9 = Signal()
        m.d.sync += all9.eq(row9 == args.vocab + args.vocab[0])

        # Each token's least entry, once its list is full.
        m.submodules.least = least = memory.Memory(shape=32, depth=max(widths.head_tokens, 2), init=[])
        least_write, least_seen, least_held = least.write_port(), *(least.read_port(domain="comb") for _ in range(2))
        full = Signal(widths.head_tokens)
        m.d.comb += least_seen.addr.eq(number9)
        logit10, least10 = stage.reg(logit9, "logit10"), stage.reg(least_seen.data, "least10")
        full10 = stage.reg(full.bit_select(number9, 1), "full10")
        is_row10, shown10 = stage.reg(is_row9, "is_row10"), stage.reg(shown9, "shown10")
        # The least only grows: what is not larger than an earlier one does not enter.
        candidate = data.StructLayout({"logit": 32, "id": widths.token_id_bits, "number": len(number9)})
        candidate10 = stage.reg(Cat(row9[:widths.token_id_bits], number9), "label10")
        m.submodules.candidates = candidates = fifo.SyncFIFOBuffered(width=candidate.size, depth=self.CANDIDATES)
        m.d.comb += [
            candidates.w_data.eq(stage.reg(Cat(logit10, candidate10), "candidate11")),
            candidates.w_en.eq(stage.reg(is_row10 & (~full10 | (logit10.as_signed() > least10.as_signed())), "is_candidate11")),
            self.monitor.valid.eq(shown9 | shown10), self.monitor.word.eq(Mux(shown10, logit10[16:], logit9[:16])),
        ]

        # ------------------------------------------------------------------ dump
        m.submodules.dumps = dumps = fifo.SyncFIFOBuffered(width=32, depth=self.DUMPS)
        length, added = Signal.like(write.req.p.len), Signal(Number)
        m.d.comb += [dumps.w_data.eq(logit9), dumps.w_en.eq(is_row9 & args.dump), write.data.payload.eq(dumps.r_data),
                     write.data.valid.eq(dumps.r_rdy), dumps.r_en.eq(write.data.ready),
                     write.req.p.addr.eq(args.dump_base), write.req.p.len.eq(length)]

        # ------------------------------------------------------------------ a pass
        # Sums may come that a level does not count yet: those on their way, and in the two cycles until ``eating`` has seen it.
        under_way = self.LATENCY + 5
        eating, single, rests = Signal(), Signal(), Signal()
        m.d.sync += [eating.eq((candidates.level <= self.CANDIDATES - under_way) & (dumps.level <= self.DUMPS - under_way)),
                     single.eq(args.tokens == 1), rests.eq(taken & single)]
        listing, waits, in_work, wait = Signal(), Signal(), Signal(), Signal(2)
        with m.FSM(name="rows"):
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                m.d.sync += [full.eq(0), length.eq(0), added.eq(0), wait.eq(0), all9.eq(0)]
                with m.If(self.control.start):
                    m.next = "ROWS"
                    with m.If(args.dump):
                        m.next = "LENGTH"
            with m.State("LENGTH"):
                # A multiplier is not worth while.
                m.d.sync += [length.eq(length + args.vocab), added.eq(added + 1)]
                with m.If(added == last_number):
                    m.next = "DUMP"
            with m.State("DUMP"):
                m.d.comb += write.req.valid.eq(1)
                with m.If(write.req.ready):
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += self.sums.ready.eq(eating & ~rests)
                with m.If(all9):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                # The last logit is in its queues.
                with m.If(wait != 3):
                    m.d.sync += wait.eq(wait + 1)
                with m.Elif(~listing & ~in_work & ~waits & ~candidates.r_rdy & (candidates.level == 0)
                            & (~args.dump | (write.idle & (dumps.level == 0)))):
                    m.d.comb += self.control.done.eq(1)
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~idle)

        # ------------------------------------------------------------------ the lists: a candidate at a time
        m.submodules.lists = lists = BestList(self._layouts, lists=widths.head_tokens)
        m.submodules.best = bests = memory.Memory(shape=entry_layout, depth=max(widths.head_tokens, 2), init=[])
        b_write, b_read = bests.write_port(), bests.read_port(domain="comb")
        # The candidate in work, and the one after it: what leaves EBR goes into a register, and the queue does not wait for a
        # comparison.
        new, after = Signal(candidate), Signal(candidate)
        m.d.comb += candidates.r_en.eq(~waits)
        with m.If(~waits):
            m.d.sync += [after.eq(candidates.r_data), waits.eq(candidates.r_rdy)]
        with m.If(~in_work | lists.i.ready):
            m.d.sync += [new.eq(after), in_work.eq(waits)]
            with m.If(waits):
                m.d.sync += waits.eq(0)
        m.d.comb += [
            lists.i.valid.eq(in_work), lists.i.p.entry.logit.eq(new.logit),
            lists.i.p.entry.id.eq(new.id), lists.i.p.number.eq(new.number),
            # All of the first rows enter.
            lists.held.eq(Mux(new.id >= TOP_ENTRIES, TOP_ENTRIES, new.id)),
            least_held.addr.eq(new.number), lists.last.logit.eq(least_held.data), listing.eq(lists.busy),
            least_write.addr.eq(new.number), least_write.data.eq(lists.ends.logit), least_write.en.eq(lists.placed),
            b_write.addr.eq(new.number), b_write.data.eq(lists.i.p.entry), b_write.en.eq(lists.first),
            b_read.addr.eq(self.control.number),
            # While there is no pass, the list shows what the host asks for.
            lists.shown.eq(idle), lists.top_addr.eq(self.top_addr), self.top_data.eq(lists.top_data),
        ]
        m.d.sync += [self.control.best.id.eq(b_read.data.id), self.control.best.logit.eq(b_read.data.logit)]
        with m.If(lists.placed):
            m.d.sync += full.bit_select(new.number, 1).eq(1)
        return m
