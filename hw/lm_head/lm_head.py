# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LM head: from the engine's sums to logits, the greedy pick and the best 64."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.layouts import Layouts
from hw.lib.scales import SCALE_MUL_STAGES
from hw.lib.stages import Stages
from hw.lib.types import MonitorLayout
from hw.lm_head.logit import LOGIT_STAGES, logit_stages

__all__ = ["LmHead"]


class LmHead(wiring.Component):
    """logit[r] = sat32(round(acc[r] * scale_mul(d, scale[r]) * 2**16)), Q15.16, rounded half up.

    Input: ``start``, a pulse while ``busy`` is low; and on ``sums`` the engine's results of one token, row by row, with the scale
    of each.  The rows are ``vocab``, and one more that is ignored if ``vocab`` is odd, because the engine's rows are even.  A
    sum's place counts for nothing: the rows are counted here, so that ids may be larger than the places of a vector.  ``args`` do
    not change from the start to ``done``.

    Rate: a sum per cycle, unless logits wait for the list of the best 64; ``sums`` waits then.  Each logit takes three cycles
    there, one more with ``dump``, and a logit that enters the list takes one more, and one for each entry that moves.  Latency 9
    from a sum to its logit.

    Output, after ``done`` (a pulse): ``best``, of equal logits the one with the lower id; and the best 64, sorted by logit and
    then by id, readable at ``top_addr`` (one cycle).  With fewer than 64 rows the other entries are left from before.  With
    ``dump`` all logits are written from dump_base on, a word each.  ``monitor`` shows each logit as two words, low one first.

    Ranges: a sum has widths.logit_sum_bits, which an int8 row's sum never passes; vocab is 1 to widths.vocab.

    ``compact`` (for small parts): the best 64 are in EBR, and a smaller shifter rounds the logit.

    Maps to 3 multipliers: one for the scales' product, two for the logit.
    """

    #: Logits that may wait for the best 64: the words of a LUT RAM, and one in a register.
    QUEUE = 17
    #: Registers from a sum to its logit.
    LATENCY = LOGIT_STAGES

    def __init__(self, layouts: Layouts, *, top: int = 64, compact: bool = False):
        self._layouts = layouts
        self._top = top
        self._compact = compact
        super().__init__({
            "control": In(layouts.lm_head_control), "sums": In(stream.Signature(layouts.acc)), "write": Out(layouts.write_port),
            "monitor": Out(MonitorLayout), "busy": Out(1),
            "top_addr": In(range(top)), "top_data": Out(layouts.top_entry),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        stage = Stages(m)

        widths, entry_layout = self._layouts.widths, self._layouts.top_entry
        args, best = self.control.args, self.control.best
        compact = self._compact
        block = {"ram_style": "block"} if compact else {}
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=32, depth=self.QUEUE)

        # ------------------------------------------------------------------ logit: stages are counted in registers after the sum
        taken = Signal()
        m.d.comb += taken.eq(self.sums.valid & self.sums.ready)
        acc4 = stage.delay(self.sums.p.acc[:widths.logit_sum_bits], 1 + SCALE_MUL_STAGES, "acc")
        scale1 = Signal.like(self.sums.p.scale, reset_less=True)
        d = Signal.like(args.d, reset_less=True)
        m.d.sync += [scale1.eq(self.sums.p.scale), d.eq(args.d)]
        logit9 = logit_stages(stage, acc4, d, scale1, compact=compact)
        m.d.comb += [queue.w_data.eq(logit9), queue.w_en.eq(stage.delay(taken, self.LATENCY, "taken"))]

        # ------------------------------------------------------------------ best 64, CRC, dump: a logit at a time
        m.submodules.top = top = memory.Memory(shape=entry_layout, depth=self._top, init=[], attrs=block)
        t_write, t_read = top.write_port(), top.read_port(domain="sync" if compact else "comb")
        ident, at = Signal(widths.token_id_bits), Signal(range(self._top))
        full, behind, padded = Signal(), Signal(), Signal()
        least = Signal(signed(32))
        logit = queue.r_data
        working, is_best = Signal(), Signal()
        # ``at`` is the place that is written next, ``entry`` the entry above it; the entry above ``entry`` is being read.
        entry, below = Signal(entry_layout), Signal(range(self._top))
        host = Signal(entry_layout)
        m.d.comb += [
            full.eq(ident >= self._top), behind.eq(ident == args.vocab),
            t_read.addr.eq(Mux(working, below, self.top_addr)), t_write.data.logit.eq(logit),
            t_write.data.id.eq(ident), t_write.addr.eq(at), self.top_data.eq(host),
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

        # LATENCY + 2 sums may come that the level that ``eating`` has seen does not count.
        eating = Signal()
        m.d.sync += eating.eq(queue.level <= self.QUEUE - self.LATENCY - 2)
        with m.FSM(name="rows") as rows:
            m.d.comb += self.busy.eq(~rows.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [ident.eq(0), padded.eq(0)]
                with m.If(self.control.start):
                    m.next = "ROWS"
                    with m.If(args.dump):
                        m.next = "DUMP"
            with m.State("DUMP"):
                m.d.comb += write.req.valid.eq(1)
                with m.If(write.req.ready):
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += self.sums.ready.eq(eating)
                with m.If(behind & (padded | ~args.vocab[0]) & (~args.dump | write.idle)):
                    m.d.comb += self.control.done.eq(1)
                    m.next = "IDLE"

        with m.FSM(name="picks"):
            with m.State("LOW"):
                m.d.sync += [at.eq(Mux(full, self._top - 1, ident)), below.eq(Mux(full, self._top - 2, ident - 1))]
                with m.If(queue.r_rdy & behind):
                    m.d.comb += queue.r_en.eq(1)
                    m.d.sync += padded.eq(1)
                with m.Elif(queue.r_rdy):
                    m.d.comb += [self.monitor.valid.eq(1), self.monitor.word.eq(logit[:16])]
                    m.next = "HIGH"
                    m.d.sync += is_best.eq((ident == 0) | (logit.as_signed() > best.logit))
            with m.State("HIGH"):
                m.d.comb += [self.monitor.valid.eq(1), self.monitor.word.eq(logit[16:]), working.eq(1)]
                m.d.sync += below.eq(below - 1)
                with m.If(is_best):
                    m.d.sync += [best.logit.eq(logit), best.id.eq(ident)]
                m.d.comb += read_next.eq(1) if compact else []
                m.d.sync += next_entry
                m.next = "INSERT"
                with m.If(full & (logit.as_signed() <= least)):
                    m.next = "END"
                with m.If(args.dump):
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += write.data.valid.eq(1)
                with m.If(write.data.ready):
                    m.next = "INSERT"
                    with m.If(full & (logit.as_signed() <= least)):
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
                m.d.sync += ident.eq(ident + 1)
                m.next = "LOW"
        return m
