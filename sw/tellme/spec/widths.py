# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Widths of the numbers that the gateware's units pass to one another, as they follow from a core's configuration.

:attr:`tellme.spec.config.CoreConfig.widths` makes a :class:`Widths`; the gateware's layouts (:mod:`hw.lib.layouts`) are made
from it, and :func:`tellme.compiler.image.check_shape` compares a model with the same numbers.  The constants are limits of
formats that do not follow from a configuration.
"""

from dataclasses import dataclass

from tellme.spec.ranges import I32, U16, U32
from tellme.spec.scale import SQUARE_FRAC, SUMSQ_BITS

__all__ = ["DEFAULT_VOCAB", "MAX_CHUNK", "MAX_CODE", "MAX_COLS", "MAX_CONTEXT", "MAX_STEPS", "MAX_VOCAB", "MAX_WEIGHT",
           "MAX_WINDOW_BYTES", "MAX_WORDS", "MIN_HEAD_DIM",
           "WINDOW_BITS", "WORD_ADDRESS_BITS", "Widths", "bits_for", "plane_reach", "signed_bits_for", "window_bits"]

#: Size of an int8 code at most: -128.
MAX_CODE = 1 << 7
#: Largest weight of an attention sum (:func:`tellme.spec.attention.softmax`).
MAX_WEIGHT = 65504
#: Largest finite binary16.
MAX_FLOAT = 65504

#: Tokens of a chunk: attention counts how far a token lies before the chunk's last one in 4 bits.
MAX_CHUNK = 16
#: Elements of an attention head: a key's words last as long as the turns of its four query heads, and heads' labels have room.
MIN_HEAD_DIM = 16
#: Elements of a vector: their squares, with an epsilon of 32 bits, add up within SUMSQ_BITS; and a matrix of three times as
#: many rows has a number of rows that a descriptor holds.
MAX_COLS = min(((1 << SUMSQ_BITS) - (1 << 32)) // (MAX_FLOAT**2 << SQUARE_FRAC), U16.most // 3) // 4 * 4
#: Positions: START's fields have 16 bits.
MAX_CONTEXT = U16.most
#: Bits of an address within a window of the address space; the upper 4 bits of an address name the window.
WINDOW_BITS = 28
#: Bytes of a window but the memory's: the link wants a window smaller than 2**28 bytes, but for one that has several names.
MAX_WINDOW_BYTES = (1 << WINDOW_BITS) - 1
#: The address of a 32-bit word in the list of segments, and in registers; and how many words it names, whatever a core's memory
#: holds.
WORD_ADDRESS_BITS = 28
#: Words of 32 bits in the memory at most.
MAX_WORDS = 1 << WORD_ADDRESS_BITS
#: Descriptors of 16 bytes in the program's window.
MAX_STEPS = MAX_WINDOW_BYTES // 16
#: Size of a vocabulary: token memory has words of 32 bits for the host, and the largest word stands for no token.
MAX_VOCAB = U32.most
#: That of a configuration that does not say: ids of 18 bits.
DEFAULT_VOCAB = (1 << 18) - 1
#: 32-bit words of one request of the host at most: the link's ranges have fewer than 2**22 bytes.
HOST_REQUEST_WORDS = (1 << 20) - 1


def bits_for(most: int) -> int:
    """Bits of a number from 0 to ``most``: floor(log2(most)) + 1, and 1 for 0, as a port of no bits is no port."""
    return max(1, most.bit_length())


def signed_bits_for(size: int) -> int:
    """Bits of a number from -``size`` to ``size`` in two's complement: floor(log2(size)) + 2."""
    return size.bit_length() + 1


def plane_reach(planes: int) -> int:
    """The largest magnitude that this number of planes holds: (3**planes - 1) / 2."""
    return (3**planes - 1) // 2


def window_bits(size: int) -> int:
    """Bits of an address within a window of ``size`` bytes: WINDOW_BITS, or more for a window that takes several names."""
    return max(WINDOW_BITS, bits_for(size - 1))


@dataclass(frozen=True)
class Widths:
    """Largest numbers of a core, and the bits that hold them.

    A number that counts things from 0 on (an index) has :func:`bits_for` (things - 1) bits, a number of things
    :func:`bits_for` (things) bits, a signed sum :func:`signed_bits_for` (its size) bits.

    ======================= =============================================================================
    row_bits                number of a row: rows - 1
    row_count_bits          rows of a matrix: rows
    col_count_bits          elements of a vector: cols
    dim_bits                elements of the residual vector: dim
    token_bits              number of a token in its chunk: chunk - 1
    token_count_bits        tokens of a chunk: chunk
    head_token_bits         number of a token in a pass of the LM head: head_tokens - 1
    attention_head_bits     number of a token's attention head, query heads first, then key, then value heads:
                            heads + 2 kv_heads - 1
    heads_bits, ...         heads; kv_heads; head_dim; group
    position_bits           a position: context - 1
    position_count_bits     positions: context
    slot_bits               number of a slot: slots - 1
    row_place_bits          place of a position's rows in a head's part of the KV cache, slot after slot: slots * context - 1
    row_place_count_bits    such places: slots * context
    window_position_bits    place of a token in its slot's window of token memory: token_window - 1
    token_id_bits           a token's id, or a vocabulary's size: vocab
    word_address_bits       address of a 32-bit word of the memory: memory_words - 1
    request_bits            32-bit words of one memory request: the most of a host's range (2**20 - 1), a head's K or V
                            (context * head_dim / 4) and all logits (vocab * head_tokens)
    step_bits               number of a descriptor: steps - 1
    engine_sum_bits         signed, size 128 * cols * (3**planes - 1) / 2: a weight of so many planes times a code for each
                            column; 32 with multipliers
    attention_sum_bits      signed, size 65504 * 128 * context: a weight times a code for each position
    acc_bits                the wider of the two: an accumulator on its way to dequantisation
    exp_sum_bits            sum of exponentials of 24 fraction bits, each at most 1: 2**24 * context
    dot_bits                signed, size 128 * 128 * head_dim: a query times a key
    logit_sum_bits          signed, size 128 * max(128, (3**planes - 1) / 2) * dim: a row of the LM head times the codes
    block_words_bits        32-bit words of four rows of an int8 table of dim columns, and of their scales
    row_words_bits          32-bit words of such a row
    ======================= =============================================================================
    """

    #: Rows of the widest matrix: gate and up, or q, k and v.
    rows: int
    #: Longest input of a linear.
    cols: int
    #: Longest residual vector.
    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    #: Query heads of a KV head.
    group: int
    #: Tokens of a chunk.
    chunk: int
    #: Positions.
    context: int
    #: Largest vocabulary.
    vocab: int
    #: 32-bit words of the memory.
    memory_words: int
    #: Descriptors of a program.
    steps: int
    #: Bits of the memory's word.
    word_bits: int = 32
    #: Planes of a tile.
    planes: int = 1
    #: Whether planes have multipliers.
    multipliers: bool = False
    #: Tokens of a pass of the LM head.
    head_tokens: int = 1
    #: Sequences that run side by side.
    slots: int = 1
    #: Whether there is the step NORM, and q, k and v may come in parts.
    vector_norms: bool = False
    #: Whether the LM head may run in two steps.
    two_steps: bool = False
    #: Whether tokens are drafted from a table in memory.
    drafts: bool = False

    @property
    def row_bits(self) -> int:
        return bits_for(self.rows - 1)

    @property
    def row_count_bits(self) -> int:
        return bits_for(self.rows)

    @property
    def col_count_bits(self) -> int:
        return bits_for(self.cols)

    @property
    def dim_bits(self) -> int:
        return bits_for(self.dim)

    @property
    def token_bits(self) -> int:
        return bits_for(self.chunk - 1)

    @property
    def token_count_bits(self) -> int:
        return bits_for(self.chunk)

    @property
    def head_token_bits(self) -> int:
        return bits_for(self.head_tokens - 1)

    @property
    def attention_heads(self) -> int:
        """Query, key and value heads of a token."""
        return self.heads + 2 * self.kv_heads

    @property
    def attention_head_bits(self) -> int:
        return bits_for(self.attention_heads - 1)

    @property
    def heads_bits(self) -> int:
        return bits_for(self.heads)

    @property
    def kv_heads_bits(self) -> int:
        return bits_for(self.kv_heads)

    @property
    def head_dim_bits(self) -> int:
        return bits_for(self.head_dim)

    @property
    def group_bits(self) -> int:
        return bits_for(self.group)

    @property
    def position_bits(self) -> int:
        return bits_for(self.context - 1)

    @property
    def position_count_bits(self) -> int:
        return bits_for(self.context)

    @property
    def slot_bits(self) -> int:
        return bits_for(self.slots - 1)

    @property
    def row_place_bits(self) -> int:
        return bits_for(self.slots * self.context - 1)

    @property
    def row_place_count_bits(self) -> int:
        return bits_for(self.slots * self.context)

    @property
    def token_window(self) -> int:
        """Words of token memory that a slot has: all where there is one slot, else a power of two.  Position p lies at
        p mod token_window."""
        return self.context if self.slots == 1 else 1 << (self.context // self.slots).bit_length() - 1

    @property
    def window_position_bits(self) -> int:
        return bits_for(self.token_window - 1)

    @property
    def token_id_bits(self) -> int:
        return bits_for(self.vocab)

    @property
    def word_address_bits(self) -> int:
        return bits_for(self.memory_words - 1)

    @property
    def request_words(self) -> int:
        """32-bit words of a request at most."""
        return max(HOST_REQUEST_WORDS, self.context * self.head_dim // 4, self.vocab * self.head_tokens)

    @property
    def request_bits(self) -> int:
        return bits_for(self.request_words)

    @property
    def step_bits(self) -> int:
        return bits_for(self.steps - 1)

    @property
    def attention_bits(self) -> int:
        """Bits of the words in which attention reads K, V and their scales: the memory's where tokens come in chunks, else 32."""
        return self.word_bits if self.chunk > 1 else 32

    @property
    def engine_sum_bits(self) -> int:
        return signed_bits_for(I32.most) if self.multipliers else signed_bits_for(MAX_CODE * self.cols * plane_reach(self.planes))

    @property
    def attention_sum_bits(self) -> int:
        return signed_bits_for(MAX_WEIGHT * MAX_CODE * self.context)

    @property
    def acc_bits(self) -> int:
        return max(self.engine_sum_bits, self.attention_sum_bits)

    @property
    def exp_sum_bits(self) -> int:
        return bits_for(self.context << 24)

    @property
    def dot_bits(self) -> int:
        return signed_bits_for(MAX_CODE**2 * self.head_dim)

    @property
    def logit_sum_bits(self) -> int:
        return signed_bits_for(MAX_CODE * max(MAX_CODE, plane_reach(self.planes)) * self.dim)

    @property
    def row_words(self) -> int:
        """32-bit words of a row of an int8 table."""
        return 2 * -(-self.dim // 8)

    @property
    def row_words_bits(self) -> int:
        return bits_for(self.row_words)

    @property
    def block_words_bits(self) -> int:
        return bits_for(4 * self.row_words + 2)
