# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What the command processors share: the steps of a pass, the pick, the reset of the compute units."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import AccSource, Word0Layout, WordSink
from hw.lib.layouts import Layouts
from tellme.spec.memory import KV_PAGE
from tellme.spec.program import DESCRIPTOR_WORDS, WORD0_FIELDS, Epilogue, Op, QkvPart

__all__ = ["FIRST_CODE", "RESET_CYCLES", "CacheFinder", "Steps"]

LAYER_BITS = WORD0_FIELDS["layer"]
#: Cycles of a reset of the compute units: more than the longest way through registers without a reset.
RESET_CYCLES = 64
#: Cycles from the request of a quantise pass to the first code that is valid, at least.
FIRST_CODE = 18


class CacheFinder(wiring.Component):
    """The addresses of a layer's KV cache, modulo the address space:

        k_base = kv_base + layer * layer_stride,  v_base = k_base + v_offset,  s_base = v_base + v_offset

    ``start`` is a pulse beside ``layer``.  ``layer`` and the shape must not change for ``cycles`` cycles from then on.  After
    these cycles the outputs are valid, until the next start.  The registers are multiples of KV_PAGE words; their lower bits
    are ignored.

    The arithmetic is bit-serial, the lowest bit first: the product with ``layer`` has one full adder for each bit of ``layer``,
    and three sums follow.  This takes no multiplier, no carry chain and some 60 LUTs.
    """

    LOW = KV_PAGE.bit_length() - 1

    def __init__(self, layouts: Layouts):
        address = layouts.widths.word_address_bits
        self._page_bits = address - self.LOW
        #: The start's own, and one for each bit of a page's number.
        self.cycles = 1 + self._page_bits
        super().__init__({"start": In(1), "layer": In(LAYER_BITS), "shape": In(layouts.model_shape), "k_base": Out(address),
                          "v_base": Out(address), "s_base": Out(address)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._page_bits
        at, busy = Signal(range(bits)), Signal()
        with m.If(self.start):
            m.d.sync += [at.eq(0), busy.eq(1)]
        with m.Elif(busy):
            m.d.sync += [at.eq(at + 1), busy.eq(at != bits - 1)]
        base, stride, offset = (Array(self.shape[name][self.LOW:])[at] for name in ("kv_base", "layer_stride", "v_offset"))

        def add(name: str, *terms: Value) -> Value:
            """The sum's bit; its carry waits for the next one."""
            carry, both = Signal(name=f"{name}_carry"), Signal(2, name=name)
            m.d.comb += both.eq(sum(terms) + carry)
            m.d.sync += carry.eq(both[1] & ~self.start)
            return both[0]

        # The partial sum of the bits of ``layer`` from a bit on moves down a place a cycle.
        product: Value = Const(0, 1)
        for i in reversed(range(LAYER_BITS)):
            above = Signal(name=f"above{i}")
            m.d.sync += above.eq(product & ~self.start)
            product = add(f"product{i}", stride & self.layer[i], above)
        k = add("k", product, base)
        v = add("v", k, offset)
        s = add("s", v, offset)
        for name, bit in (("k", k), ("v", v), ("s", s)):
            page = Signal(bits, name=f"{name}_page")
            with m.If(busy):
                m.d.sync += page.eq(Cat(page[1:], bit))
            m.d.comb += getattr(self, f"{name}_base").eq(Cat(Const(0, self.LOW), page))
        return m


class Steps:
    """The steps of a pass, in the module ``m`` of a command processor: registers, what the units are told, and states of its FSM.

    ``cpu`` is the processor, with the ports of :class:`hw.core.processor.CommandProcessor`.  ``fetch_position`` is that of the
    token whose rows are fetched, ``pick`` the token that is told and fed next.

    A pass begins with :meth:`begin`, and with the number of its tokens in ``chunk`` from the cycle after it on.

    A step: quantise (LINEAR, HEAD), load the gains of the next norm or of the heads of q and k, then the pass itself.  Of the
    codes only the first one is waited for: gains and tiles come in while the others are quantised.  The LM head's pass is the
    engine's, for as many rows as the vocabulary has, or one more if that is odd; the sums go to the LM head's unit.

    A QKV linear finds its layer's caches by the layer's number (:class:`CacheFinder`) while it quantises; the ATTENTION that
    follows works on the same ones.

    In a core with vector_norms the step NORM quantises like a LINEAR; its codes go back to the pipelines in place of the engine's
    sums, and it takes no weights.  Of q, k and v in parts, attention begins with the first one, and the caches are looked for
    then.

    A reset of all compute units takes RESET_CYCLES cycles, from when their memory ports are drained on: registers that only pass
    on what came to them have no reset, and empty meanwhile.

    A core with wide_program reads all words of a descriptor at once.  The next descriptor's number stands at the program memory
    while a step runs, and the first one's between passes, so that the words are there when a step ends or a pass begins.

    Cost of control: 7 cycles a descriptor, or with wide_program one, beside the units' own latencies.
    """

    def __init__(self, m: Module, cpu: Any, layouts: Layouts, *, fetch_position: Signal, pick: Any):
        self._m, self._cpu, self._layouts, widths = m, cpu, layouts, layouts.widths
        step, chunk = Signal(widths.step_bits), Signal(widths.token_count_bits)
        self.step, self.chunk = step, chunk
        words = self._words = Array(Signal(32, name=f"descriptor{i}") for i in range(DESCRIPTOR_WORDS))
        w0 = self._w0 = data.View(Word0Layout, words[0])
        self._op = op = w0.op
        #: Rows of the step's matrix, or what HEAD has in their place.
        self.rows = words[1][:16]
        self.is_head = op == Op.HEAD
        self.embeds = op == Op.EMBED
        self.attends = op == Op.ATTENTION
        self._norms = layouts.vector_norms
        self._is_norm: Value = op == Op.NORM if self._norms else Const(0, 1)
        # The step's rows are in its descriptor.
        self._with_rows: Value = (op == Op.LINEAR) | self._is_norm if self._norms else op == Op.LINEAR
        self._quantises = [Op.LINEAR, Op.NORM] if self._norms else [Op.LINEAR]
        self._qkv = (op == Op.LINEAR) & (w0.epilogue == Epilogue.QKV)
        if self._norms:
            # Attention begins with all of q, k and v, or with q.
            self._qkv = (self._with_rows & (w0.epilogue == Epilogue.QKV)
                         & ((w0.part == QkvPart.WHOLE) | (w0.part == QkvPart.Q)))
        #: Number of the token whose rows are fetched, and its position.
        self.number = Signal(widths.token_bits)
        self._fetch_position = fetch_position
        self._token = Signal(widths.token_id_bits, name="token")
        self.wide = layouts.wide_program
        if self.wide:
            # The descriptor that the program memory shows.
            self._ahead = Signal(widths.step_bits, name="ahead")
            self._takes = Signal(name="takes")
        else:
            self._fetched = Signal(range(DESCRIPTOR_WORDS + 1), name="fetched")
        m.submodules.caches = self._caches = CacheFinder(layouts)
        if self.wide:
            # From DISPATCH to PASS-START: QUANT, the wait for the first code, GAIN.
            assert self._caches.cycles <= 1 + FIRST_CODE + 1 + 1, "attention is told an address that is not there yet"
        self._gains_left = Signal(widths.row_count_bits, name="gains_left")
        # Elements of the step's output vector: as many gains may follow.
        self._out_len = Signal(widths.row_count_bits, name="out_len")
        self._norms_heads = Signal(name="norms_heads")
        #: A step's result was infinite or NaN.
        self.nonfinite = Signal()
        drain_wait, resetting = Signal(range(RESET_CYCLES + 1)), Signal()
        self._wait, self.resetting = drain_wait, resetting
        self._pick = pick

    def begin(self) -> None:
        """In a state of the processor that is not its first one behind a pass or a reset: a pass begins in the next cycle."""
        if self.wide:
            self._take()
        else:
            self._m.d.sync += [self.step.eq(0), self._fetched.eq(0)]
            self._m.next = "DESCRIPTOR"

    def _take(self) -> None:
        """The descriptor that the program memory shows is the next step's."""
        self._m.d.comb += self._takes.eq(1)
        self._m.next = "DISPATCH"

    def connect(self, *, shared: Value, first: Value | int) -> None:
        """What the units are told of a step: tokens from number ``first`` on, ``shared`` of them, share the step's matrix."""
        m, cpu, words, w0, caches = self._m, self._cpu, self._words, self._w0, self._caches
        rows, cols = self.rows, words[1][16:]
        m.d.comb += [
            # A matrix has an even number of rows.
            cpu.engine.p.rows.eq(Mux(self.is_head, Cat(Const(0, 1), (cpu.shape.vocab + 1)[1:]), rows)),
            cpu.engine.p.cols.eq(cols), cpu.engine.p.tokens.eq(shared),
            caches.layer.eq(w0.layer), caches.shape.eq(cpu.shape),
            cpu.attention.args.k_base.eq(caches.k_base), cpu.attention.args.v_base.eq(caches.v_base),
            cpu.attention.args.s_base.eq(caches.s_base),
            cpu.passes.quant.p.src_a.eq(w0.src_a), cpu.passes.quant.p.gain.eq(w0.gain), cpu.passes.quant.p.norm.eq(w0.norm),
            cpu.passes.quant.p.n.eq(cols),
            cpu.passes.quant.p.tokens.eq(shared),
            cpu.passes.quant.p.first.eq(first),
            cpu.passes.args.relu2.eq(w0.relu2), cpu.passes.args.act_exp.eq(w0.act_exp),
            cpu.passes.args.stats_gain.eq(w0.gain_next),
            cpu.passes.args.rope_rows.eq(cpu.sizes.qk_dim),
            cpu.fetch.args.token.eq(self._token), cpu.fetch.args.number.eq(self.number),
        ]
        if self.wide:
            m.d.comb += cpu.program.addr.eq(self._ahead)
            with m.If(self._takes):
                m.d.sync += [*(word.eq(cpu.program.data.word_select(i, 32)) for i, word in enumerate(words)),
                             self.step.eq(self._ahead), self._ahead.eq(self._ahead + 1), self._norms_heads.eq(0)]

    def tell(self, *, tokens: Value, dump: Value, running: Value, stopped: Value, nonfinite: Value, position: Value) -> None:
        """What the units are told of a pass, and the host of its state.

        The routers know of ``tokens``.  ``dump``: the LM head writes its logits.  ``position`` is that of the first token, of the
        pass or of attention's run.
        """
        m, cpu = self._m, self._cpu
        m.d.comb += [
            cpu.tokens.wdata.eq(self._pick.id),
            cpu.lm_head.args.dump.eq(dump),
            cpu.state.running.eq(running), cpu.state.stopped.eq(stopped), cpu.state.nonfinite.eq(nonfinite),
            cpu.state.step.eq(self.step), cpu.state.position.eq(position), cpu.crc.step.eq(self.step),
            cpu.fetch.args.position.eq(self._fetch_position), cpu.routes.chunk.eq(tokens),
            cpu.attention.args.position.eq(position), cpu.attention.args.chunk.eq(self.chunk),
            cpu.lm_head.args.vocab.eq(cpu.shape.vocab), cpu.lm_head.args.dump_base.eq(cpu.shape.logits_base),
        ]

    def settings(self) -> None:
        """The pipelines' settings of a pass."""
        m, cpu, words, w0, op, out_len = self._m, self._cpu, self._words, self._w0, self._op, self._out_len
        row_words, rows = self._layouts.row_words, self.rows
        if self._norms:
            m.d.comb += [
                cpu.passes.quant.p.wide.eq(self._is_norm),
                cpu.passes.quant.p.again.eq((op == Op.LINEAR) & ((w0.part == QkvPart.K) | (w0.part == QkvPart.V))),
            ]
            with m.If(self._with_rows & (w0.epilogue == Epilogue.QKV)):
                with m.Switch(w0.part):
                    with m.Case(QkvPart.K):
                        m.d.comb += cpu.passes.args.first_row.eq(cpu.sizes.q_dim)
                    with m.Case(QkvPart.V):
                        m.d.comb += cpu.passes.args.first_row.eq(cpu.sizes.qk_dim)
            m.d.sync += cpu.routes.from_codes.eq(self._is_norm)
        with m.Switch(op):
            with m.Case(*self._quantises):
                # What a linear stores, a norm takes from A.
                m.d.comb += cpu.passes.args.dest_a.eq(1) if self._norms else []
                m.d.comb += [cpu.passes.args.epilogue.eq(w0.epilogue), cpu.passes.args.use_d.eq(1)]
                if row_words:
                    m.d.comb += [cpu.passes.args.bias.eq(w0.bias), cpu.passes.args.head_gains.eq(w0.head_gains)]
            with m.Default():
                m.d.comb += [cpu.passes.args.epilogue.eq(Epilogue.STORE), cpu.passes.args.dest_a.eq(op == Op.ATTENTION)]
        with m.Switch(op):
            with m.Case(Op.ATTENTION):
                m.d.comb += out_len.eq(cpu.sizes.q_dim)
            with m.Case(Op.EMBED):
                m.d.comb += out_len.eq(cpu.shape.dim)
            with m.Default():
                m.d.comb += out_len.eq(Mux(w0.epilogue == Epilogue.ACT, rows >> 1, rows))
                if row_words:
                    # The gains of q's heads, then those of k's.
                    with m.If(w0.epilogue == Epilogue.QKV):
                        m.d.comb += out_len.eq(cpu.shape.head_dim << 1)
        # The numbers of the norm: the step's own while it quantises, then those of the norm of heads.
        n_eps: Value = words[2]
        sqrt_n: Value = words[3][:19]
        if row_words:
            m.d.comb += cpu.passes.args.q_rows.eq(cpu.sizes.q_dim)
            n_eps = Mux(self._norms_heads, cpu.shape.head_n_eps, n_eps)
            sqrt_n = Mux(self._norms_heads, cpu.shape.head_sqrt_n.as_value(), sqrt_n)
        m.d.comb += [cpu.passes.args.n_eps.eq(n_eps), cpu.passes.args.sqrt_n.eq(sqrt_n)]
        m.d.comb += cpu.passes.args.length.eq(Mux(self._with_rows, rows, out_len))

    def states(self, *, plain: Value, done: str, token_address: Value, begun: Callable[[], None], fault: Callable[[], None],
               next_token: Callable[[], None] | None = None, stopping: Value | None = None,
               starts_attention: bool = True) -> None:
        """The states of a pass, from DESCRIPTOR on, to ``done`` at the program's end.

        A pass that is ``plain`` leaves out the LM head.  The token whose rows are fetched lies in token memory at
        ``token_address``.  The processor's own statements: ``begun`` where a step's pass begins, which says the next state too;
        ``next_token`` between the rows of two tokens, which may say another next state; ``fault`` behind a step whose result was
        infinite or NaN, which says the next state.  While ``stopping``, the state STOP comes next.  Attention starts with its
        step's pass, or with ``starts_attention`` false where ``begun`` says.
        """
        m, cpu, w0, op, words = self._m, self._cpu, self._w0, self._op, self._words
        number, gains_left, wait = self.number, self._gains_left, self._wait
        loads_gains: Value = w0.gain_next
        if self._layouts.row_words:
            loads_gains = w0.gain_next | w0.head_gains

        def dispatch() -> None:
            with m.Switch(op):
                with m.Case(Op.EMBED, Op.ATTENTION):
                    m.next = "GAIN"
                with m.Case(*self._quantises):
                    m.next = "QUANT"
                with m.Case(Op.HEAD):
                    with m.If(plain):
                        m.next = "NEXT-STEP"
                    with m.Else():
                        m.next = "QUANT"
                with m.Default():
                    if self.wide:
                        m.d.sync += self._ahead.eq(0)
                    m.next = done

        if not self.wide:
            fetched = self._fetched
            with m.State("DESCRIPTOR"):
                m.d.sync += fetched.eq(fetched + 1)
                m.d.comb += cpu.program.addr.eq(Cat(fetched[:2], self.step))
                with m.If(fetched != 0):
                    m.d.sync += words[(fetched - 1)[:2]].eq(cpu.program.data)
                # A QKV linear writes K and V, and has to know where; for all others nothing changes.
                m.d.comb += self._caches.start.eq((fetched == 2) & self._qkv)
                with m.If(fetched == DESCRIPTOR_WORDS):
                    m.next = "DISPATCH"
        # word_sink and acc_source are registers that change with the state, as the streams' handshakes begin in them.
        with m.State("DISPATCH"):
            m.d.comb += cpu.crc.clear.eq(1)
            if self.wide:
                m.d.comb += self._caches.start.eq(self._qkv)
            if stopping is None:
                dispatch()
            else:
                with m.If(stopping):
                    m.next = "STOP"
                with m.Else():
                    dispatch()
        with m.State("QUANT"):
            m.d.comb += cpu.passes.quant.valid.eq(1)
            with m.If(cpu.passes.quant.ready):
                m.next = "CODES-TO"
        with m.State("CODES-TO"):
            # With the first code the scales are final: the LM head may start with its d, and the statistics that they came
            # from may be cleared.  The engine takes codes while the pass goes on to its gains and tiles.
            is_norm, code_valid = self._is_norm, cpu.routes.code_valid
            m.d.comb += cpu.engine.valid.eq(code_valid & ~is_norm if self._norms else code_valid)
            taken = cpu.engine.valid & cpu.engine.ready
            with m.If(taken | (code_valid & is_norm) if self._norms else taken):
                m.next = "GAIN"
                with m.If(self.is_head):
                    m.d.comb += cpu.lm_head.start.eq(1)
                    m.d.sync += cpu.routes.word_sink.eq(WordSink.ENGINE)
                    m.next = "PASS"
            if stopping is not None:
                with m.If(stopping):
                    m.next = "STOP"
        with m.State("GAIN"):
            m.d.sync += [gains_left.eq(self._out_len), self._norms_heads.eq(w0.head_gains)]
            m.d.comb += cpu.passes.gain_start.eq(loads_gains)
            m.next = "PASS-START"
            with m.If(loads_gains):
                m.d.sync += cpu.routes.word_sink.eq(WordSink.GAIN)
                m.next = "GAINS"
        with m.State("GAINS"):
            with m.If(cpu.routes.gain_taken):
                m.d.sync += gains_left.eq(gains_left - 4)
                with m.If(gains_left <= 4):
                    m.d.sync += cpu.routes.word_sink.eq(WordSink.NONE)
                    m.next = "PASS-START"
            if stopping is not None:
                with m.If(stopping):
                    m.next = "STOP"
        with m.State("PASS-START"):
            m.d.comb += cpu.passes.clear.eq(1)
            if starts_attention:
                m.d.comb += cpu.attention.start.eq(self.attends)
            m.d.comb += cpu.attention.begin.eq(self._qkv)
            with m.Switch(op):
                with m.Case(Op.EMBED):
                    m.d.sync += cpu.routes.acc_source.eq(AccSource.FETCH)
                with m.Case(Op.LINEAR):
                    m.d.sync += [cpu.routes.acc_source.eq(AccSource.ENGINE), cpu.routes.word_sink.eq(WordSink.ENGINE)]
                if self._norms:
                    with m.Case(Op.NORM):
                        m.d.sync += cpu.routes.acc_source.eq(AccSource.ENGINE)
                with m.Default():
                    m.d.sync += cpu.routes.acc_source.eq(AccSource.ATTENTION)
            m.d.sync += number.eq(0)
            begun()
        with m.State("TOKEN"):
            m.d.comb += [cpu.tokens.addr.eq(token_address), cpu.tokens.read.eq(1)]
            m.next = "TOKEN-DATA"
        with m.State("TOKEN-DATA"):
            m.d.sync += self._token.eq(cpu.tokens.data)
            m.next = "FETCH"
        with m.State("FETCH"):
            m.d.comb += cpu.fetch.start.eq(1)
            m.next = "FETCHING"
        with m.State("FETCHING"):
            with m.If(~cpu.fetch.busy):
                m.d.sync += [number.eq(number + 1), self._fetch_position.eq(self._fetch_position + 1)]
                m.next = "TOKEN"
                if next_token is not None:
                    next_token()
                with m.If(number + 1 == self.chunk):
                    m.next = "PASS"
            if stopping is not None:
                with m.If(stopping):
                    m.next = "STOP"
        with m.State("PASS"):
            m.d.sync += wait.eq(0)
            with m.If(Mux(self.is_head, cpu.lm_head.done, cpu.passes.done)):
                m.d.sync += [cpu.routes.word_sink.eq(WordSink.NONE), cpu.routes.acc_source.eq(AccSource.NONE)]
                m.next = "STEP-DONE"
            if stopping is not None:
                with m.If(stopping):
                    m.next = "STOP"
        with m.State("STEP-DONE"):
            # Wait: the last words of the output stream are still on their way into the CRC.
            m.d.sync += wait.eq(wait + 1)
            with m.If(wait == 3):
                m.d.comb += cpu.crc.write.eq(1)
                if not self.wide:
                    m.next = "NEXT-STEP"
                with m.If(self.nonfinite):
                    fault()
                if self.wide:
                    with m.Else():
                        self._take()
        with m.State("NEXT-STEP"):
            if self.wide:
                self._take()
            else:
                m.d.sync += [self.step.eq(self.step + 1), fetched.eq(0), self._norms_heads.eq(0)]
                m.next = "DESCRIPTOR"

    def pick_states(self, *, address: Value, fed: Value, draws: Value | None, stopping: Value | None = None) -> None:
        """CONTEXT to PICK: draw, where tokens are drawn, and write the pick to token memory at ``address`` if it is to be fed.
        The state EVENT comes next, in which the pick is told.  A core without a sampler has no ``draws``."""
        m, cpu = self._m, self._cpu
        with m.State("CONTEXT"):
            m.next = "PICK"
            if draws is not None:
                m.d.comb += cpu.draw.start.eq(draws)
                with m.If(draws):
                    m.next = "DRAW"
        if draws is not None:
            with m.State("DRAW"):
                with m.If(~cpu.draw.busy):
                    m.next = "PICK"
                if stopping is not None:
                    with m.If(stopping):
                        m.next = "STOP"
        with m.State("PICK"):
            m.d.comb += [cpu.tokens.addr.eq(address), cpu.tokens.write.eq(fed)]
            m.next = "EVENT"

    def reset_states(self, then: Callable[[], None]) -> None:
        """RESET and DRAIN: the weight buffer stops, the compute units are reset, their bursts end; ``then`` says what follows."""
        m, cpu = self._m, self._cpu
        with m.State("RESET"):
            m.d.comb += [cpu.weights.stop.eq(1), self.resetting.eq(1)]
            m.d.sync += self._wait.eq(0)
            if self.wide:
                m.d.sync += self._ahead.eq(0)
            m.next = "DRAIN"
        with m.State("DRAIN"):
            m.d.comb += self.resetting.eq(1)
            m.d.sync += self._wait.eq(Mux(cpu.reset.clean & cpu.weights.idle, self._wait + 1, 0))
            with m.If(self._wait == RESET_CYCLES):
                then()
