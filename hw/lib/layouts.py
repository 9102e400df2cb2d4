# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Layouts and ports whose widths follow from a core's configuration, each defined once.

The top makes one :class:`Layouts` from its configuration's :class:`~tellme.spec.widths.Widths` and passes it to each unit.  A
unit alone, in a bench or in a synthesis by itself, gets one made from the widths that are wanted there.  Layouts with the same
width in each core are in :mod:`hw.lib.types` and :mod:`hw.lib.control`.
"""

from amaranth.hdl import signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.control import AccSource, Draft, Pair, WordSink
from hw.lib.ports import ClientReadPort, ClientWritePort, MemorySpec, RequestLayout
from hw.lib.types import ScaleLayout
from tellme.spec.drafts import SETTINGS_FIELDS
from tellme.spec.packing import ROW_WORD_FIELDS
from tellme.spec.program import DESCRIPTOR_WORDS
from tellme.spec.quantise import NORM_FRAC
from tellme.spec.widths import Widths

__all__ = ["Layouts"]


class Layouts:
    """The payloads, records and ports of a core with these ``widths``.  Equal widths give equal layouts."""

    def __init__(self, widths: Widths):
        self.widths = w = widths
        word_address = w.word_address_bits
        #: Whether tiles may have row words, so that accumulators have biases: in a core whose tiles may have several planes.
        #: Such a core takes models with RMSNorm on heads of q and k, whose elements go the way of elements with a bias.
        self.row_words = w.planes > 1
        bias = {"bias": ROW_WORD_FIELDS["bias"]} if self.row_words else {}

        # ------------------------------------------------------------------ what passes between units
        #: The place of an element: its token and its index.
        self.place = data.StructLayout({"token": w.token_bits, "index": w.row_bits})
        #: One accumulator with the scale that dequantises it and, with ``row_words``, the bias that is added to the element
        #: (binary16).  Only a pass with ``bias`` looks at it: the row fetch and attention leave it as it is.
        self.acc = data.StructLayout({"acc": signed(w.acc_bits), "scale": ScaleLayout, "place": self.place, **bias})
        head = {"scale": ScaleLayout, "last": 1, "token": w.token_bits, "head": w.attention_head_bits}
        #: Whether there is the step NORM, whose codes are accumulators, and q, k and v may come in parts.
        self.vector_norms = norms = w.vector_norms
        #: A code of the float pipelines: int8; with ``vector_norms`` there are NORM_FRAC bits more, which a NORM's codes have.
        self.code = signed(8 + NORM_FRAC if norms else 8)
        #: An int8 code of an attention head with the head's scale (absmax / 127); ``last`` ends the head.  Heads of a token are
        #: numbered q heads first, then k heads, then v heads.
        self.head_codes = data.StructLayout({"code": signed(8)} | head)
        #: Four codes of an attention head, the first one lowest; ``last`` ends the head.
        self.head_words = data.StructLayout({"codes": 32} | head)
        #: One of the LM head's best logits, Q15.16, and its token.
        self.top_entry = data.StructLayout({"logit": 32, "id": w.token_id_bits})

        # ------------------------------------------------------------------ memory
        #: The core's memory, for the hub and its controller.
        self.memory = MemorySpec(data_bits=w.word_bits, addr_bits=word_address, len_bits=w.request_bits, burst=32)
        #: A request, and ports of clients of words of 32 bits; and that of the weight buffer, of 64.
        self.memory_request = RequestLayout(self.memory)
        self.read_port, self.write_port = ClientReadPort(self.memory.client(32)), ClientWritePort(self.memory.client(32))
        self.weights_port = ClientReadPort(self.memory.client(64))
        #: And of the reader of K, V and their scales.
        self.kv_port = ClientReadPort(self.memory.client(w.attention_bits))

        # ------------------------------------------------------------------ what a run and a model are
        #: The model's numbers, from the host's registers of the same names (:data:`tellme.spec.memory.MODEL_REGISTERS`).  They
        #: stand still while a program runs.
        self.model_shape = data.StructLayout({
            "dim": w.dim_bits, "heads": w.heads_bits, "kv_heads": w.kv_heads_bits, "head_dim": w.head_dim_bits,
            "group": w.group_bits, "context": w.position_count_bits, "vocab": w.token_id_bits, "embed_base": word_address,
            "block_words": w.block_words_bits, "row_words": w.row_words_bits, "rope_base": word_address, "c_att": ScaleLayout,
            "kv_base": word_address, "layer_stride": word_address, "v_offset": word_address, "kv_stride": word_address,
            "s_stride": w.row_place_count_bits, "logits_base": word_address, "head_n_eps": 32, "head_sqrt_n": ScaleLayout,
        })
        #: What a run is doing: the descriptor in work and the first position of the chunk; ``nonfinite`` and ``stopped`` stay
        #: until the next start.  With several slots also which of them run.
        self.run_state = data.StructLayout({"running": 1, "nonfinite": 1, "stopped": 1, "step": w.step_bits,
                                            "position": w.position_bits, **({"slots": w.slots} if w.slots > 1 else {})})
        #: Elements of the query heads, and of the query and key heads, of a token.
        self.sizes = data.StructLayout({"q_dim": w.col_count_bits, "qk_dim": w.row_count_bits})

        # ------------------------------------------------------------------ starts and settings of the units
        #: Whether the LM head may give picks after all tokens of a chunk.
        self.all_heads = all_heads = w.head_tokens > 1
        #: A matrix for the engine: rows, modulo 2**bits, columns, and the number of tokens that share the matrix.  The LM head's
        #: matrix has the vocabulary's rows.  With ``all_heads`` also whether results come row by row, the rows' tokens in order.
        self.engine_args = data.StructLayout({"rows": max(w.row_count_bits, w.token_id_bits), "cols": w.col_count_bits,
                                              "tokens": w.token_count_bits, **({"by_rows": 1} if all_heads else {})})
        #: A pass of the LM head: rows of the table, the codes' scale, whether all logits are written, and where.  With
        #: ``all_heads`` the unit knows the scales, and is told the number of tokens and the first one's number in the chunk.
        self.lm_head_args = data.StructLayout({
            "vocab": w.token_id_bits, **({"tokens": w.token_count_bits, "first": w.token_bits} if all_heads else
                                         {"d": ScaleLayout}), "dump": 1, "dump_base": word_address,
            **({"two_steps": 1, "drawn": 1, "low_page": 16} if w.two_steps else {})})
        #: With ``two_steps`` the pass may be in two steps, and is told whether the pick is drawn and where the rows of the lowest
        #: plane lie.  A code of the state on its way to the engine.
        self.two_steps = w.two_steps
        self.state_code = data.StructLayout({"valid": 1, "code": signed(8)})
        #: The scale of a token's codes, while ``valid``: ``token`` is its number among its pipeline's own.
        self.token_scale = data.StructLayout({"valid": 1, "token": w.token_bits, "d": ScaleLayout})
        #: The fused pipeline's quantise pass: source vector, factors, length, first token and number of tokens.  With
        #: ``vector_norms`` also whether the codes are those of a NORM, and whether X is quantised again with its last scales.
        self.quant_args = data.StructLayout({"src_a": 1, "gain": 1, "norm": 1, "n": w.col_count_bits, "first": w.token_bits,
                                             "tokens": w.token_count_bits, **({"wide": 1, "again": 1} if norms else {})})
        #: Settings of a pass: where the elements go, their factors, the number of rows that RoPE turns, the number of elements of
        #: a token, whether the statistics are those of the elements times the next norm's gains, and the norm's numbers: those of
        #: a quantise pass until its first code, then those of the heads.  With ``row_words`` also the number of q's rows, and
        #: whether the accumulators' biases are added, and q and k have norms on heads; with ``vector_norms`` what is added to the
        #: indices of the accumulators.
        self.pass_args = data.StructLayout({
            "epilogue": 2, "dest_a": 1, "use_d": 1, "relu2": 1, "act_exp": signed(8), "rope_rows": w.row_count_bits,
            "length": w.row_count_bits, "stats_gain": 1, "n_eps": 32, "sqrt_n": ScaleLayout,
            **({"bias": 1, "head_gains": 1, "q_rows": w.col_count_bits} if self.row_words else {}),
            **({"first_row": w.row_count_bits} if norms else {})})
        #: A token whose rows are fetched: its id, its position, its number in the chunk.
        self.fetch_args = data.StructLayout({"token": w.token_id_bits, "position": w.position_bits, "number": w.token_bits})
        #: Whether a pass may have several runs: tokens of several sequences, whose rows lie in different places.
        self.runs = runs = w.slots > 1
        #: A layer's caches (32-bit word addresses), the chunk's first position, and its tokens.  With ``runs`` ``chunk`` is the
        #: number of tokens of the pass, ``position`` that of the run's first token; and further the run's tokens, how many tokens
        #: of the pass come after its last one, and the place of the rows of its slot's position 0.
        self.attention_args = data.StructLayout({
            "k_base": word_address, "v_base": word_address, "s_base": word_address, "position": w.position_bits,
            "chunk": w.token_count_bits,
            **({"run_tokens": w.token_count_bits, "after": w.token_bits, "slot_place": w.row_place_bits} if runs else {})})
        #: With ``runs``: the place of a token's rows (slot * context + position), with the token's number in the pass and the
        #: number of tokens of its run from this one on (itself counted).
        self.row_place = data.StructLayout({"en": 1, "token": w.token_bits, "place": w.row_place_bits,
                                            "left": w.token_count_bits})
        #: Whether the processor drafts tokens.  The registers that say how: the table's first word, drafted tokens of a slot's
        #: pass at most, and what a drafted token costs (:mod:`tellme.spec.drafts`).
        self.drafts = w.drafts
        self.drafting = data.StructLayout({"base": word_address, **SETTINGS_FIELDS})
        #: A pick: a token and its logit in Q15.16.
        self.best = data.StructLayout({"id": w.token_id_bits, "logit": signed(32)})

        # ------------------------------------------------------------------ ports of the command processor
        #: To the row fetch: ``start`` is a pulse while ``busy`` is low.
        self.fetch_control = wiring.Signature({"start": Out(1), "args": Out(self.fetch_args), "busy": In(1)})
        #: To attention: ``begin`` and ``start`` are pulses; ``args`` do not change from ``begin`` until the last sum.  With
        #: ``runs`` ``start`` comes once a run, while ``busy`` is low, and ``row_place`` once a token of a pass, before the pass's
        #: first ``begin``; :class:`hw.attention.prefill.PrefillAttention` says when ``args`` may change.
        self.attention_control = wiring.Signature({
            "begin": Out(1), "start": Out(1), "args": Out(self.attention_args),
            **({"row_place": Out(self.row_place), "busy": In(1)} if runs else {})})
        #: To the LM head: ``start`` is a pulse while no pass is under way; ``args`` do not change from it until ``done``.  With
        #: ``all_heads`` ``best`` is that of the token ``number`` of the pass, a cycle later.
        self.lm_head_control = wiring.Signature({"start": Out(1), "args": Out(self.lm_head_args), "done": In(1),
                                                 "best": In(self.best),
                                                 **({"number": Out(w.head_token_bits)} if all_heads else {})})
        #: To the sampler: ``start`` is a pulse while ``busy`` is low; ``pick`` is the token for ``position``, drawn when ``busy``
        #: falls.
        self.draw_control = wiring.Signature({"start": Out(1), "position": Out(16), "busy": In(1), "pick": In(self.best)})
        #: To the reader of drafts: a pair at a time, while ``reading``, which is high from before the first pair of a pass until
        #: behind the last draft.
        self.draft_control = wiring.Signature({"pair": Out(stream.Signature(Pair)), "drafted": In(stream.Signature(Draft)),
                                               "reading": Out(1)})
        #: To one pipeline or to all: ``args`` do not change from a cycle before a pass's first element until ``done``.  ``clear``
        #: is a pulse before a pass, ``gain_start`` a pulse before the pass's gains.
        self.pass_control = wiring.Signature({"args": Out(self.pass_args), "clear": Out(1), "gain_start": Out(1), "done": In(1),
                                              "nonfinite": In(1), "quant": Out(stream.Signature(self.quant_args))})
        #: Each step's CRC: ``clear`` comes before the step, ``write`` after the step's last word, with the number ``step``.
        self.crc_control = wiring.Signature({"clear": Out(1), "write": Out(1), "step": Out(w.step_bits)})
        #: A step's CRC-32 to keep, with a pulse of ``write``.
        self.crc_store = wiring.Signature({"step": Out(w.step_bits), "write": Out(1), "value": Out(32)})
        #: The ways of words, codes and accumulators, and the chunk's number of tokens.  ``for_lm_head``: the engine works for the
        #: LM head, for the chunk's last token; ``for_all``, with ``all_heads``: for all tokens of the chunk.  ``from_codes``,
        #: with ``vector_norms``: codes go back to their pipelines, in the engine's place.  ``code_valid``: all pipelines that
        #: were asked have a code.  ``gain_taken`` is a strobe.
        self.route_control = wiring.Signature({
            "word_sink": Out(WordSink), "acc_source": Out(AccSource), "for_lm_head": Out(1),
            **({"for_all": Out(1)} if all_heads else {}), **({"from_codes": Out(1)} if norms else {}),
            "chunk": Out(w.token_count_bits), "code_valid": In(1), "gain_taken": In(1)})
        #: Port to the program memory; ``data`` comes a cycle after ``addr``.
        self.program_port = wiring.Signature({"addr": Out(range(DESCRIPTOR_WORDS * w.steps)), "data": In(32)})
        #: Port to the token memory, with the slots' windows one after another; ``data`` comes a cycle after ``read``.
        self.token_port = wiring.Signature({"addr": Out(w.position_bits), "read": Out(1), "data": In(w.token_id_bits),
                                            "write": Out(1), "wdata": Out(w.token_id_bits)})
