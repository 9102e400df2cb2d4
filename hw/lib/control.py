# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Records between the command processor, the units and the link, and the ports that bring them, each defined once.

A start that hands its arguments over is a stream.  Settings that stand still while a unit works are a record beside a pulse: the
command processor holds them anyway, and a unit that took them from a stream would hold them a second time.
"""

from dataclasses import fields
from struct import Struct

from amaranth.hdl import signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.types import INDEX_BITS, TOKEN_BITS, ScaleLayout
from tellme.spec.memory import TOP_ENTRIES, Event, StartArgs, StatusWord
from tellme.spec.program import DESCRIPTOR_WORDS
from tellme.spec.sampling import SEED_BITS, TOP_P_BITS
from tellme.spec.widths import TOKEN_ID_BITS, WORD_ADDRESS_BITS

__all__ = ["AccSource", "AttentionArgs", "AttentionControl", "BestLayout", "CountersControl", "CrcControl", "DrawLayout",
           "EngineArgs", "EventLayout", "EventPayload", "FetchArgs", "FetchControl", "LmHeadArgs", "LmHeadControl", "ModelShape",
           "PassArgs", "PassControl", "ProgramPort", "QuantArgs", "ResetControl", "RouteControl", "RunArgs", "RunControl",
           "RunState", "SizesLayout", "StatusFlags", "StatusLayout", "TokenPort", "TopLayout", "TotalsLayout", "WeightsControl",
           "WordSink"]


def record(kind: type) -> data.StructLayout:
    """Layout of a dataclass of the specification whose ``LAYOUT`` packs its fields in their order, without a gap."""
    packed = kind.LAYOUT.format.lstrip("<")
    widths = [8 * Struct(f"<{code}").size for code in packed]
    return data.StructLayout({field.name: width for field, width in zip(fields(kind), widths, strict=True)})


class WordSink(enum.Enum, shape=2):
    """Who takes the words of the weight stream."""

    NONE = 0
    GAIN = 1
    ENGINE = 2
    HEAD = 3


class AccSource(enum.Enum, shape=2):
    """Whose accumulators enter the fused pipeline."""

    NONE = 0
    FETCH = 1
    ENGINE = 2
    ATTENTION = 3


#: What START says of a run.
RunArgs = record(StartArgs)
#: Counters that an event carries.
TotalsLayout = data.StructLayout({name: 32 for name in ("cycles", "read_words", "write_words", "sdram_busy", "engine_busy")})
#: A token or the end of a run, for the host; its last words are the totals.
EventPayload = record(Event)
EventLayout = data.StructLayout({"type": 8, "payload": EventPayload})

#: The first word of the answer to STATUS.
StatusFlags = data.StructLayout({"running": 1, "sdram_ready": 1, "nonfinite": 1, "stopped": 1, "zeros": 28})
#: The answer to STATUS: words in the order of :class:`tellme.spec.memory.StatusWord`, and two of zeros.
StatusLayout = data.StructLayout({word.name.lower(): 32 if word is not StatusWord.FLAGS else StatusFlags
                                  for word in StatusWord} | {"zeros": 64})

#: The model's numbers, from the host's registers of the same names (:data:`tellme.spec.memory.MODEL_REGISTERS`).  They stand
#: still while a program runs.
ModelShape = data.StructLayout({
    "dim": INDEX_BITS, "heads": 8, "kv_heads": 8, "head_dim": 8, "group": 3, "context": 16, "vocab": TOKEN_ID_BITS,
    "embed_base": WORD_ADDRESS_BITS, "block_words": 16, "row_words": 12, "rope_base": WORD_ADDRESS_BITS, "c_att": ScaleLayout,
    "kv_stride": WORD_ADDRESS_BITS, "s_stride": 16, "weights_base": WORD_ADDRESS_BITS,
    "body_words64": WORD_ADDRESS_BITS, "head_words64": WORD_ADDRESS_BITS, "logits_base": WORD_ADDRESS_BITS,
})

#: A matrix for the engine: rows, columns, tokens that share it.
EngineArgs = data.StructLayout({"rows": 17, "cols": INDEX_BITS, "tokens": TOKEN_BITS + 1})
#: A pass of the LM head: width and rows of its table, the codes' scale, whether all logits are written, and where to.
LmHeadArgs = data.StructLayout({"dim": INDEX_BITS, "vocab": TOKEN_ID_BITS, "d": ScaleLayout, "dump": 1,
                                "dump_base": WORD_ADDRESS_BITS})
#: The fused pipeline's quantise pass: its source, what it is multiplied by, its length, and which of the tokens, how many.
QuantArgs = data.StructLayout({"src_a": 1, "gain": 1, "norm": 1, "n": INDEX_BITS, "n_eps": 32, "sqrt_n": ScaleLayout,
                               "first": TOKEN_BITS, "tokens": TOKEN_BITS + 1})
#: What the pipelines do with a pass's elements: where they go, what they are multiplied by, how many rows are turned, how many
#: elements a token has, and whether the statistics are of the elements times the next norm's gains.
PassArgs = data.StructLayout({"epilogue": 2, "dest_a": 1, "use_d": 1, "relu2": 1, "act_exp": signed(8), "rope_rows": 16,
                              "length": INDEX_BITS, "stats_gain": 1})
#: A token whose rows are fetched: its id, its position, its number in the chunk.
FetchArgs = data.StructLayout({"token": TOKEN_ID_BITS, "position": 16, "number": TOKEN_BITS})
#: A layer's caches (32-bit word addresses), the chunk's first position, and its tokens.
AttentionArgs = data.StructLayout({"k_base": WORD_ADDRESS_BITS, "v_base": WORD_ADDRESS_BITS, "s_base": WORD_ADDRESS_BITS,
                                   "position": 16, "chunk": TOKEN_BITS + 1})
#: The LM head's greedy pick, logit in Q15.16.
BestLayout = data.StructLayout({"id": TOKEN_ID_BITS, "logit": signed(32)})
#: One of the LM head's best 64.
TopLayout = data.StructLayout({"logit": 32, "id": TOKEN_ID_BITS})
#: How a token is drawn from the best 64: :class:`tellme.spec.sampling.DrawSettings` without the repetition penalty.
DrawLayout = data.StructLayout({"inverse": ScaleLayout, "top_k": range(TOP_ENTRIES + 1), "top_p": TOP_P_BITS + 1, "max_gap": 32,
                                "seed": SEED_BITS})

#: From the link: ``start`` and ``stop`` are pulses.
RunControl = wiring.Signature({"start": Out(1), "args": Out(RunArgs), "stop": Out(1)})
#: To the weight buffer: ``start`` and ``stop`` are pulses, ``plain_tokens`` pass without the LM head's table.
WeightsControl = wiring.Signature({"start": Out(1), "stop": Out(1), "plain_tokens": Out(16), "idle": In(1)})
#: To the row fetch: ``start`` is a pulse, while it is not ``busy``.
FetchControl = wiring.Signature({"start": Out(1), "args": Out(FetchArgs), "busy": In(1)})
#: To attention: ``begin`` and ``start`` are pulses; ``args`` stand still from ``begin`` until the last sum.
AttentionControl = wiring.Signature({"begin": Out(1), "start": Out(1), "args": Out(AttentionArgs)})
#: To the LM head.
LmHeadControl = wiring.Signature({"start": Out(stream.Signature(LmHeadArgs)), "done": In(1), "best": In(BestLayout)})
#: To a pipeline, or all of them: ``args`` stand still from a cycle before a pass's first element until ``done``; ``clear`` and
#: ``gain_start`` are pulses ahead of a pass and of its gains.
PassControl = wiring.Signature({"args": Out(PassArgs), "clear": Out(1), "gain_start": Out(1), "done": In(1), "nonfinite": In(1),
                                "quant": Out(stream.Signature(QuantArgs))})

#: What a run is doing: the descriptor in work and the first position of the chunk; ``nonfinite`` and ``stopped`` stay until the
#: next start.
RunState = data.StructLayout({"running": 1, "nonfinite": 1, "stopped": 1, "step": 16, "position": 16})
#: Elements of the query heads, and of the query and key heads, of a token.
SizesLayout = data.StructLayout({"q_dim": 16, "qk_dim": 16})
#: Each step's CRC: ``clear`` ahead of it, ``write`` when its last word has passed, under the number ``step``.
CrcControl = wiring.Signature({"clear": Out(1), "write": Out(1), "step": Out(16)})
#: The counters count while ``running``; ``clear`` zeroes them.
CountersControl = wiring.Signature({"running": Out(1), "clear": Out(1), "totals": In(TotalsLayout)})
#: ``compute`` resets the compute units; while ``drain`` is high their memory ports finish what was asked for, until ``clean``.
ResetControl = wiring.Signature({"compute": Out(1), "drain": Out(1), "clean": In(1)})
#: Whose words, codes and accumulators go where, and how many tokens the chunk has.  ``code_valid``: all pipelines that are asked
#: show a code; ``code_taken`` and ``gain_taken`` are strobes.
RouteControl = wiring.Signature({"word_sink": Out(WordSink), "acc_source": Out(AccSource), "codes_to_lm_head": Out(1),
                                 "chunk": Out(TOKEN_BITS + 1), "code_valid": In(1), "code_taken": In(1), "gain_taken": In(1)})


def ProgramPort(steps: int) -> wiring.Signature:
    """Port to a program memory of so many descriptors; ``data`` comes a cycle behind ``addr``."""
    return wiring.Signature({"addr": Out(range(DESCRIPTOR_WORDS * steps)), "data": In(32)})


def TokenPort(context: int) -> wiring.Signature:
    """Port to a token memory of so many positions; ``data`` comes a cycle behind ``read``."""
    return wiring.Signature({"addr": Out(range(context)), "read": Out(1), "data": In(TOKEN_ID_BITS), "write": Out(1),
                             "wdata": Out(TOKEN_ID_BITS)})
