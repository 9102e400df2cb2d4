# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Records between the command processor, the units and the link, and the ports that bring them, each defined once.

A start whose arguments the unit stores is a stream.  Settings that do not change while a unit works are a record beside a pulse:
the command processor holds such settings anyway, and a unit that took them from a stream would hold them a second time.  Records
whose widths follow from a core's configuration are in :mod:`hw.lib.layouts`.
"""

from dataclasses import fields
from re import findall
from struct import Struct
from typing import Any

from amaranth.hdl import signed
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.types import ScaleLayout
from tellme.spec.memory import TOP_ENTRIES, UPPER_HALF, Event, StartArgs, StatusWord
from tellme.spec.program import SEGMENT_ENTRIES, SEGMENT_FIELDS, SEGMENT_WORDS, WORD0_FIELDS
from tellme.spec.sampling import SEED_BITS, TOP_P_BITS

__all__ = ["AccSource", "CountersControl", "Draft", "DrawLayout", "EventLayout", "EventPayload", "Pair", "ResetControl",
           "RunArgs", "RunControl", "SegmentLayouts", "SegmentPort", "StatusFlags", "StatusLayout", "TotalsLayout",
           "WeightsControl", "Word0Layout", "WordSink", "run_control", "weights_control"]


def record(kind: type[Any]) -> data.StructLayout:
    """Layout of a dataclass of the specification whose ``LAYOUT`` packs its fields in their order, without a gap; but for a field
    that lies in the upper half of another one's word (:data:`tellme.spec.memory.UPPER_HALF`), and is not named.

    A code with a count, such as 4I, is a field that is an array of so many numbers.
    """
    packed = findall(r"(\d*)([A-Za-z])", kind.LAYOUT.format)
    shapes: list[int | data.ArrayLayout] = [data.ArrayLayout(bits, int(count)) if count else bits for count, bits in
                                            ((count, 8 * Struct(f"<{code}").size) for count, code in packed)]
    named = [field.name for field in fields(kind) if UPPER_HALF.items() - field.metadata.items()]
    return data.StructLayout(dict(zip(named, shapes, strict=True)))


class WordSink(enum.Enum, shape=2):
    """The unit that takes the words of the weight stream."""

    NONE = 0
    GAIN = 1
    ENGINE = 2


class AccSource(enum.Enum, shape=2):
    """The unit whose accumulators enter the fused pipeline."""

    NONE = 0
    FETCH = 1
    ENGINE = 2
    ATTENTION = 3


#: The arguments of START; ``ends`` is an array of END_TOKENS words.
RunArgs = record(StartArgs)
#: Counters that an event carries.
TotalsLayout = data.StructLayout({name: 32 for name in ("cycles", "read_words", "write_words", "sdram_busy", "engine_busy")})
#: A token, or the end of a run, for the host.  The last words are the totals.
EventPayload = record(Event)
#: An event as the link sends it: its type (:class:`tellme.spec.memory.EventType`) and its content.
EventLayout = data.StructLayout({"type": 8, "payload": EventPayload})

#: The first word of the answer to STATUS.
StatusFlags = data.StructLayout({"running": 1, "sdram_ready": 1, "nonfinite": 1, "stopped": 1, "zeros": 28})
#: The answer to STATUS: words in the order of :class:`tellme.spec.memory.StatusWord`, and zeros up to 32 bytes.
StatusLayout = data.StructLayout({word.name.lower(): 32 if word is not StatusWord.FLAGS else StatusFlags
                                  for word in StatusWord} | {"zeros": 256 - 32 * len(StatusWord)})

#: The first word of a descriptor.
Word0Layout = data.StructLayout({name: signed(bits) if name == "act_exp" else bits for name, bits in WORD0_FIELDS.items()})
#: The words of an entry of the list of segments.
SegmentLayouts = tuple(data.StructLayout(fields) for fields in SEGMENT_FIELDS)
#: How a token is drawn from the best 64: :class:`tellme.spec.sampling.DrawSettings` without the repetition penalty.
DrawLayout = data.StructLayout({"inverse": ScaleLayout, "top_k": range(TOP_ENTRIES + 1), "top_p": TOP_P_BITS + 1, "max_gap": 32,
                                "seed": SEED_BITS})
#: Two tokens of which a third is drafted: ``last``, and ``before`` if ``known``.  Ids have the draft table's 16 bits.
Pair = data.StructLayout({"before": 16, "known": 1, "last": 16})
#: The token that follows them, if the table has one (``found``).
Draft = data.StructLayout({"next": 16, "found": 1})

#: From the link: ``start`` and ``stop`` are pulses.
RunControl = wiring.Signature({"start": Out(1), "args": Out(RunArgs), "stop": Out(1)})
#: To the weight buffer: ``start`` and ``stop`` are pulses, ``plain_tokens`` chunks pass without the LM head's segments.
WeightsControl = wiring.Signature({"start": Out(1), "stop": Out(1), "plain_tokens": Out(16), "idle": In(1)})


def run_control(slots: int) -> wiring.Signature:
    """From the link.  In a core with several slots ``start`` is for the slot in the upper half of the word ``chunk``, and
    ``stop`` for those of ``slots``, a bit each."""
    if slots == 1:
        return RunControl
    return wiring.Signature({"start": Out(1), "args": Out(RunArgs), "stop": Out(1), "slots": Out(slots)})


def weights_control(slots: int) -> wiring.Signature:
    """To the weight buffer.  In a core with several slots ``begin``, a pulse at the beginning of each pass, says with ``lm_head``
    whether the LM head's segments come in the pass."""
    if slots == 1:
        return WeightsControl
    return wiring.Signature({"start": Out(1), "stop": Out(1), "begin": Out(1), "lm_head": Out(1), "idle": In(1)})


#: The counters count while ``running``; ``clear`` zeroes them.
CountersControl = wiring.Signature({"running": Out(1), "clear": Out(1), "totals": In(TotalsLayout)})
#: ``compute`` resets the compute units.  While ``drain`` is high, their memory ports finish accepted requests; then ``clean``
#: rises.
ResetControl = wiring.Signature({"compute": Out(1), "drain": Out(1), "clean": In(1)})
#: Port to the list of segments; ``data`` comes a cycle after ``addr``.
SegmentPort = wiring.Signature({"addr": Out(range(SEGMENT_WORDS * SEGMENT_ENTRIES)), "data": In(32)})
