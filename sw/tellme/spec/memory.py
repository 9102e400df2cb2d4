# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The board's address space as the host sees it, its registers, counters, start arguments and events.

All is 32-bit words, little-endian; addresses are byte addresses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Literal

from tellme.errors import InputError
from tellme.spec.ranges import I32, U16, U32, Range, check_fields
from tellme.spec.widths import DEFAULT_VOCAB, MAX_CHUNK

__all__ = ["ACCOUNT", "BOARD_REGISTERS", "cache_bases", "check_registers", "check_tokens", "counter_address", "COUNTER_BASE",
           "COUNTERS", "CRC_BASE", "DoneReason", "DRAFT_REGISTERS", "END_RANGE", "END_TOKENS", "Event", "EVENT_RANGES",
           "EventType", "HEAD_COUNTERS", "KV_PAGE", "KV_PAGE_REGISTERS", "MEMORY_CLIENTS", "MODEL_REGISTERS", "NO_END",
           "PROGRAM_BASE", "register_address", "REGISTER_BASE", "REGISTERS", "SAMPLING_REGISTERS", "SDRAM_BASE",
           "SEGMENT_BASE", "SLOTS_WORD", "start_slot", "START_RANGES", "StartArgs", "StartFlags", "StatusWord",
           "token_address", "TOKEN_BASE", "TOKEN_ID", "TOP_BASE", "TOP_BYTES", "TOP_ENTRIES", "top_address", "UPPER_HALF"]

#: SDRAM, from its first byte on.
SDRAM_BASE = 0x0000_0000
#: The layer program: descriptor n at PROGRAM_BASE + 16 n.  Write only.
PROGRAM_BASE = 0x8000_0000
#: The weight stream's segments: entry n at SEGMENT_BASE + 8 n.  Write only.
SEGMENT_BASE = 0xD000_0000
#: Registers (read and write), then counters (read only).
REGISTER_BASE = 0x9000_0000
#: Counters.  Read only.
COUNTER_BASE = 0x9000_0100
#: CRC-32 of the last run of each step, one word a descriptor.  Read only.
CRC_BASE = 0xA000_0000
#: The 64 best (logit, id) of each token of the last head, best first: logit word, then id word.  Token n of its pass has its list
#: at TOP_BASE + TOP_BYTES * n; a head of one token has the first list.  Read only.
TOP_BASE = 0xB000_0000
#: Entries of a list.
TOP_ENTRIES = 64
#: Bytes of a list.
TOP_BYTES = 8 * TOP_ENTRIES
#: Token ids, one word a position: the host writes the prompt, the board what it picks.  A core with several slots has a window
#: of these words for each slot (token_address), in which a START's tokens have to fit.
TOKEN_BASE = 0xC000_0000
#: What a word of token memory holds, where a configuration does not say otherwise.
TOKEN_ID = Range(0, DEFAULT_VOCAB)

#: Words of 32 bits that the caches' places are multiples of: a page.
KV_PAGE = 256
#: Registers that are multiples of KV_PAGE.
KV_PAGE_REGISTERS = ("kv_base", "layer_stride", "v_offset")
#: The registers that describe a loaded model, written as one block.  Addresses, strides and offsets are of 32-bit words.
MODEL_REGISTERS = (
    "dim", "heads", "kv_heads", "head_dim", "group", "context", "vocab",
    "embed_base",       # address of the embedding table's first block
    "block_words",      # 32-bit words of a block of four rows
    "row_words",        # 32-bit words of a row
    "rope_base", "c_att",
    "kv_base",          # the K cache of layer 0
    "layer_stride",     # from a layer's K cache to the next layer's
    "v_offset",         # from a layer's K cache to its V cache, and from there to the scales of both
    "kv_stride",        # words of one head's K (or V) region: slots * context * head_dim / 4
    "s_stride",         # words of one head's S region: slots * context
    "logits_base",      # where a head with the dump flag writes its logits
    "head_n_eps",       # of a norm on each head of q and k: head_dim * eps, in units of 2**-32; 0 for models without one
    "head_sqrt_n",      # and sqrt(head_dim), a scale as tellme.spec.scale packs it
)
#: The board's own registers, which follow them and which no model touches.
BOARD_REGISTERS = (
    # How the memory is read, in place of what its start found; 0: what was found.  SDR: read latency in beats, its lowest bit the
    # edge of capture.  DDR3: OVERRIDE_FIELDS of tellme.spec.ddr3_training, which count when the memory is trained again.
    "sdram_settings",
    # Each write moves the clock's phase of an SDR memory one step later, or trains a DDR3 memory again.
    "sdram_retrain",
)
#: How a START with the flag SAMPLE draws: the fields of tellme.spec.sampling.DrawSettings but the repetition penalty, as
#: pack_settings there makes them.  They come last, only a core with a sampler has them, and a run needs them to stand still.
SAMPLING_REGISTERS = (
    "sample_seed_low", "sample_seed_high",
    "sample_inverse",   # log2(e) / temperature: a scale as tellme.spec.scale packs it
    "sample_top_k",     # 1 to 64
    "sample_top_p",     # of 2**16
    "sample_max_gap",   # Q16.16
)
#: Drafted tokens (tellme.spec.drafts), of a board that drafts; such a board has the sampling registers, too.
DRAFT_REGISTERS = (
    "draft_base",       # the table's first word; it counts while draft_settings has drafted tokens
    "draft_settings",   # SETTINGS_FIELDS of tellme.spec.drafts; 0: no tokens are drafted
)
#: Name -> word index from REGISTER_BASE.
REGISTERS = {name: i for i, name in enumerate(MODEL_REGISTERS + BOARD_REGISTERS + SAMPLING_REGISTERS + DRAFT_REGISTERS)}

#: What a cycle of a run can be spent on: it counts under the first of these that is active.  engine: weights are eaten;
#: drain: accumulators leave the engine with nothing eaten; norm: a vector is quantised, or its statistics settle;
#: attention; lm_head: the engine works for the LM head, which is neither engine nor drain; host: the memory works for it;
#: memory: a unit waits while the memory works; refresh; idle: the rest.
ACCOUNT = ("engine", "drain", "norm", "attention", "lm_head", "host", "memory", "refresh", "idle")

#: Who reads and writes the board's memory: name -> "read" or "write".
MEMORY_CLIENTS: dict[str, Literal["read", "write"]] = {
    "weights": "read",          # the weight stream
    "attention_read": "read",   # K, V and their scales
    "embedding_rows": "read",   # embedding rows, a word of their scales each
    "rope_rows": "read",        # cosines and sines of a position
    "attention_write": "write",
    "logits": "write",          # of a pick with the DUMP flag
    "host_read": "read",
    "host_write": "write",
}

#: Name -> word index from COUNTER_BASE.  They count from START until the last token is
#: announced, and wrap; START with CLEAR zeroes them.  ``<client>_words`` are words that the memory moved for a client,
#: ``<client>_busy`` cycles in which it worked for the client.
COUNTERS = {name: i for i, name in enumerate((
    "cycles", "engine_busy", "lm_head_stall",
    *(f"{name}_words" for name in MEMORY_CLIENTS), *(f"{name}_busy" for name in MEMORY_CLIENTS), "refresh_busy",
    *(f"{name}_cycles" for name in ACCOUNT),
))}
#: The same of a core with two_steps, behind them: rows of the LM heads' steps that were done in two steps, and how many of these
#: rows were read whole.
HEAD_COUNTERS = {name: len(COUNTERS) + i for i, name in enumerate(("head_rows", "head_rows_read"))}


def register_address(name: str) -> int:
    """Byte address of a register."""
    return REGISTER_BASE + 4 * REGISTERS[name]


def counter_address(name: str) -> int:
    """Byte address of a counter."""
    return COUNTER_BASE + 4 * COUNTERS[name]


def top_address(number: int) -> int:
    """Byte address of the list of the best 64 of a token, by its number in its pass."""
    return TOP_BASE + TOP_BYTES * number


def token_address(position: int, slot: int, window: int) -> int:
    """Byte address of a token of a slot, in a core whose slots have ``window`` words of token memory each
    (:attr:`tellme.spec.widths.Widths.token_window`)."""
    return TOKEN_BASE + 4 * (slot * window + position % window)


def check_registers(values: Mapping[str, int]) -> None:
    """Check that each register's value is a 32-bit word; the first other value is a RangeError with the register's name.

    A register of KV_PAGE_REGISTERS that is no multiple of KV_PAGE is an InputError.
    """
    for name, value in values.items():
        U32.check(f"register {name}", value)
        if name in KV_PAGE_REGISTERS and value % KV_PAGE:
            raise InputError(f"register {name}: {value} is no multiple of {KV_PAGE}, where caches begin")


def cache_bases(registers: Mapping[str, int], layer: int) -> tuple[int, int, int]:
    """Word addresses of a layer's K cache, its V cache, and the scales of both."""
    k, v_offset = registers["kv_base"] + layer * registers["layer_stride"], registers["v_offset"]
    return k, k + v_offset, k + 2 * v_offset


def check_tokens(position: int, tokens: Sequence[int], context: int, most: int = TOKEN_ID.most) -> None:
    """Check tokens that are written into token memory from ``position`` on, of a model of ``context`` positions.

    A token above ``most``, which token memory cannot hold, or a position outside the context is a RangeError.
    """
    Range(0, context).check("position", position)
    Range(0, context).check("position + tokens", position + len(tokens))
    for token in tokens:
        Range(TOKEN_ID.least, most).check("token", int(token))


class StartFlags(IntFlag):
    """Flags of a START."""

    #: Zero the counters first.
    CLEAR = 1
    #: The head writes all logits to logits_base: the logit of row r for token n of a pass of so many tokens is the word
    #: logits_base + r * tokens + n.  The tokens of a pass are the chunk's with ALL, else one.
    DUMP = 2
    #: Tokens are drawn as the sampling registers say, not the likeliest taken.  A core without a sampler ignores the flag, so a
    #: host does not send the flag to such a core.
    SAMPLE = 4
    #: A pick, the best 64, and with DUMP the logits, after each fed token, and not after the last one alone.  A core whose
    #: configuration has head_tokens 1 ignores the flag, so a host does not send the flag to such a core.
    ALL = 8
    #: The LM head's step is done in two steps (:mod:`tellme.spec.two_steps`): the pick and what is drawn are the same, the best
    #: 64 are those of the rows that were read whole.  Only a core with two_steps knows the flag, only a model in whose image the
    #: head lies so takes it, and not with DUMP, ALL, or settings of a draw that two steps do not serve.
    TWO_STEPS = 16


#: Range of each number of a START.  A start feeds a token at least.
START_RANGES = {"position": U16, "feed": Range(1, U16.most), "generate": U16, "flags": Range(0, sum(StartFlags)), "chunk": U16,
                "slot": Range(0, MAX_CHUNK - 1)}
#: Range of an end token.
END_RANGE = U32
#: Of a field of StartArgs and Event that lies in the upper half of another one's word.
UPPER_HALF = {"upper_half": True}
#: End tokens that a START can name.
END_TOKENS = 4
#: An end token that no token is.
NO_END = 0xFFFF_FFFF


@dataclass(frozen=True)
class StartArgs:
    """Payload of START, 28 bytes.

    The board feeds the ``feed`` tokens that lie from ``position`` on in token memory, and picks a token after the last of them.
    Each pick is fed and followed by another pick, until ``generate`` tokens are picked, a pick is one of ``ends``, or the context
    is full. If the context is full, the last pick is announced but not fed.

    Fed tokens run in chunks of ``chunk``, or of as many tokens as the board has lanes for if this number is smaller or
    ``chunk`` is
    0.  The results are the same bits for every ``chunk``.

    ``slot``: the sequence, of those that a core runs side by side; 0 on a core with one slot.  Runs of other slots go on.

    With the flag ALL a token is picked after each of the ``feed`` tokens, and announced in the order of positions when its chunk
    is done, with ``generate`` = 0 too.  A pick after another token than the last one is not written to token memory, is not fed,
    does not count for ``generate``, and ends nothing.  With SAMPLE each pick is drawn, for the position behind its token.  The
    best 64 and the logits of a chunk's tokens stay until the next chunk's."""

    position: int
    feed: int
    generate: int
    flags: StartFlags = StartFlags.CLEAR
    chunk: int = 0
    slot: int = field(default=0, metadata=UPPER_HALF)
    #: Tokens of which each ends the run after it was picked, up to END_TOKENS.
    ends: tuple[int, ...] = ()

    #: ``slot`` lies in the upper half of the word of ``chunk``.
    LAYOUT = Struct(f"<HHHHI{END_TOKENS}I")

    def __post_init__(self) -> None:
        """A number outside START_RANGES or END_RANGE is a RangeError; more than END_TOKENS end tokens are a ValueError."""
        check_fields(self, START_RANGES)
        for end in self.ends:
            END_RANGE.check("end token", end)
        if len(self.ends) > END_TOKENS:
            raise ValueError(f"{len(self.ends)} end tokens; a START has room for {END_TOKENS}")

    def check_context(self, context: int) -> None:
        """Refuse to feed tokens at positions that a model of ``context`` positions does not have: a RangeError."""
        Range(0, context).check("position + feed", self.position + self.feed)

    def pack(self) -> bytes:
        """The payload."""
        return self.LAYOUT.pack(self.position, self.feed, self.generate, self.flags, self.chunk | self.slot << 16,
                                *self.ends, *[NO_END] * (END_TOKENS - len(self.ends)))

    @classmethod
    def unpack(cls, payload: bytes) -> "StartArgs":
        """What a payload says."""
        position, feed, generate, flags, chunk, *ends = cls.LAYOUT.unpack(payload)
        return cls(position, feed, generate, StartFlags(flags), chunk & U16.most, chunk >> 16,
                   tuple(end for end in ends if end != NO_END))


def start_slot(payload: bytes) -> int:
    """The slot that a START's payload names."""
    return int(StartArgs.LAYOUT.unpack(payload)[4]) >> 16


class EventType(IntEnum):
    """Unsolicited packets' kinds (the packet type codes are in packets.py)."""

    TOKEN = 0
    DONE = 1


class DoneReason(IntEnum):
    """Why a run ended."""

    LENGTH = 0
    END_TOKEN = 1
    CONTEXT = 2
    STOPPED = 3
    #: A step's result was infinite or NaN: ``token`` holds the descriptor's number.
    NONFINITE = 4


#: Range of each number of an event.
EVENT_RANGES = {"position": U16, "slot": U16, "id": U32, "logit": I32, "cycles": U32, "read_words": U32, "write_words": U32,
                "sdram_busy": U32, "engine_busy": U32}


@dataclass(frozen=True)
class Event:
    """Payload of TOKEN and DONE, 32 bytes.

    ``slot`` is the run's.  TOKEN: position of a token that was fed, id and logit picked after it.  DONE: position of the last
    token fed; logit holds the DoneReason; id is the descriptor's number where the reason is NONFINITE, and means nothing
    otherwise.  Counters are those of the moment, so that each event of a chunk with ALL has those of the whole chunk: running
    cycles, memory words read and written (all clients), SDRAM busy cycles, engine busy cycles.
    """

    position: int
    id: int
    logit: int
    cycles: int
    read_words: int
    write_words: int
    sdram_busy: int
    engine_busy: int
    slot: int = field(default=0, metadata=UPPER_HALF)

    #: ``slot`` lies in the upper half of the word of ``position``.
    LAYOUT = Struct("<IIiIIIII")

    def pack(self) -> bytes:
        """The payload; a number outside EVENT_RANGES is a RangeError."""
        check_fields(self, EVENT_RANGES)
        return self.LAYOUT.pack(self.position | self.slot << 16, self.id, self.logit, self.cycles, self.read_words,
                                self.write_words, self.sdram_busy, self.engine_busy)

    @classmethod
    def unpack(cls, payload: bytes) -> "Event":
        place, *words = cls.LAYOUT.unpack(payload)
        return replace(cls(place, *words), position=place & U16.most, slot=place >> 16)


class StatusWord(IntEnum):
    """Words of the 32-byte STATUS answer."""

    #: bit 0 running, bit 1 SDRAM ready, bit 2 nonfinite (sticky until the next START), bit 3 stopped
    FLAGS = 0
    #: Descriptor that runs, or that raised nonfinite.
    STEP = 1
    POSITION = 2
    #: Packets refused since power-up.
    BAD_PACKETS = 3
    CYCLES = 4
    #: What the memory's start found.  DDR3: TRAINING_FIELDS of tellme.spec.ddr3_training.  SDR: read latency in beats [4:0],
    #: phase step [10:5], phases in a row that work [16:11], bit 17: no phase worked in the last sweep.
    TRAINING = 5
    #: Number of the next event [7:0], of the first one that the host has not acknowledged [15:8].
    EVENTS = 6


#: Word behind them: on a core with several slots, those that run, a bit each; else 0.
SLOTS_WORD = len(StatusWord)
