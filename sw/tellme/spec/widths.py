# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Widths of the numbers that the gateware's units pass to one another, in bits: what they cannot hold, no build and no model has.

:class:`tellme.spec.config.CoreConfig` and :func:`tellme.compiler.image.check_shape` compare with the same numbers.
"""

__all__ = ["ACC_BITS", "ATTENTION_HEAD_BITS", "INDEX_BITS", "MAX_CHUNK", "MAX_CONTEXT", "MAX_HEADS", "MAX_ROWS", "MAX_VOCAB",
           "MAX_WIDTH", "MAX_WORDS", "TOKEN_BITS", "TOKEN_ID_BITS", "WORD_ADDRESS_BITS"]

#: An accumulator on its way to dequantisation, signed.
ACC_BITS = 36
#: The number of a token within a chunk.
TOKEN_BITS = 4
#: The number of an element within a token's vector, and of a row within a matrix; lengths of vectors have as many bits.
INDEX_BITS = 13
#: The number of an attention head of a token: query heads first, then key heads, then value heads.
ATTENTION_HEAD_BITS = 7
#: A token's id; the size of a vocabulary has as many bits.
TOKEN_ID_BITS = 18
#: The address of a 32-bit word in the board's memory.
WORD_ADDRESS_BITS = 24

#: Tokens of a chunk at most.
MAX_CHUNK = 1 << TOKEN_BITS
#: Rows of a matrix at most.
MAX_ROWS = 1 << INDEX_BITS
#: Elements of a vector at most, as their number is a field of so many bits.
MAX_WIDTH = (1 << INDEX_BITS) - 1
#: Query, key and value heads of a layer together at most.
MAX_HEADS = 1 << ATTENTION_HEAD_BITS
#: Tokens of a vocabulary at most.
MAX_VOCAB = (1 << TOKEN_ID_BITS) - 1
#: Words of 32 bits in the memory at most.
MAX_WORDS = 1 << WORD_ADDRESS_BITS
#: The attention sum of a position is below 2**16 (weight) times 2**7 (code); so many positions fit a signed accumulator.
MAX_CONTEXT = 1 << ACC_BITS - 1 - 16 - 7
