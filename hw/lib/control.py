# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Records between the command processor, the units and the link, each defined once."""

from dataclasses import fields
from struct import Struct

from amaranth.lib import data

from hw.lib.types import TOKEN_BITS, ScaleLayout
from tellme.spec.memory import Event, StartArgs, StatusWord

__all__ = ["EngineArgs", "EventLayout", "EventPayload", "LmHeadArgs", "QuantArgs", "RunArgs", "StatusFlags", "StatusLayout",
           "TotalsLayout"]


def record(kind: type) -> data.StructLayout:
    """Layout of a dataclass of the specification whose ``LAYOUT`` packs its fields in their order, without a gap."""
    packed = kind.LAYOUT.format.lstrip("<")
    widths = [8 * Struct(f"<{code}").size for code in packed]
    return data.StructLayout({field.name: width for field, width in zip(fields(kind), widths, strict=True)})


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

#: A matrix for the engine: rows, columns, tokens that share it.
EngineArgs = data.StructLayout({"rows": 17, "cols": 13, "tokens": 5})
#: A pass of the LM head: width and rows of its table, the codes' scale, whether all logits are written, and where to.
LmHeadArgs = data.StructLayout({"dim": 13, "vocab": 18, "d": ScaleLayout, "dump": 1, "dump_base": 24})
#: The fused pipeline's quantise pass: its source, what it is multiplied by, its length, and which of the tokens, how many.
QuantArgs = data.StructLayout({"src_a": 1, "gain": 1, "norm": 1, "n": 13, "n_eps": 32, "sqrt_n": ScaleLayout,
                               "first": TOKEN_BITS, "tokens": 5})
