# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Types of GGUF files whose ternary or 2-bit weights have a binary16 scale a group, and numbers that forks gave them.

| type | group | bytes | layout | weight |
| --- | --- | --- | --- | --- |
| Q2_0 (number 42) | 64 | 18 | scale, codes: four a byte, the first in the low bits | (code - 1) * scale |
| Q2_0_G128 (42 of a fork, 142) | 128 | 34 | the same | the same |
| STQ1_0 (42 or 43) | 256 | 42 | 32 bytes of slots, 8 of signs, scale | see ``_stq`` |
| Q2_0C (40) | 512 | 130 | scale, codes as in Q2_0 | (2 * code - 3) * scale |

The numbers 40 and 42 mean several of them, so that a file's tensors say by their bytes which one it is: a number stands for the
type whose size fits the room of each tensor of that number.

Read: Q2_0 in ggml-org/llama.cpp pull request 24448, ggml/src/ggml-common.h (QK2_0 64) and ``dequantize_row_q2_0``; the group of
128 and the number 142 (PQ2_0) in PrismML-Eng/llama.cpp, branch prism, the same files and ggml/include/ggml.h, and the model cards
of prism-ml/Ternary-Bonsai-1.7B-gguf, 4B and 8B; STQ1_0 (AngelSlim's Sherry) in ggml-org/llama.cpp pull request 22836,
``block_stq1_0`` and ``dequantize_row_stq1_0``; Q2_0C (AngelSlim's SEQ) in ggml-org/llama.cpp pull request 19357, ``block_q2_0c``.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["GROUP_NUMBERS", "GROUP_TYPES", "GroupType", "decode", "type_of"]


class GroupType(NamedTuple):
    """Weights and bytes of a group."""

    weights: int
    size: int

    def bytes_of(self, count: int) -> int:
        """Bytes of so many weights."""
        return count // self.weights * self.size


#: Type -> weights and bytes of its groups.
GROUP_TYPES = {"Q2_0": GroupType(64, 18), "Q2_0_G128": GroupType(128, 34), "STQ1_0": GroupType(256, 42),
               "Q2_0C": GroupType(512, 130)}
#: Number -> the types that it may be.
GROUP_NUMBERS = {40: ("Q2_0C",), 42: ("Q2_0", "Q2_0_G128", "STQ1_0"), 43: ("STQ1_0",), 142: ("Q2_0_G128",)}


def type_of(number: int, tensors: Iterable[tuple[tuple[int, ...], int, bool]], alignment: int) -> str | None:
    """The one type that fits all tensors of a number: (shape, bytes up to the next tensor, whether it is the last one) of each.

    Behind the last tensor the padding to the alignment may be missing.
    """
    def fits(kind: GroupType, shape: tuple[int, ...], room: int, last: bool) -> bool:
        if shape[-1] % kind.weights:
            return False
        size = kind.bytes_of(int(np.prod(shape, dtype=object)))
        padded = -(-size // alignment) * alignment
        return room == padded or (last and room == size)

    found = [name for name in GROUP_NUMBERS[number] if all(fits(GROUP_TYPES[name], *tensor) for tensor in tensors)]
    return found[0] if len(found) == 1 else None


def decode(kind: str, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The weights of groups: (rows, bytes) to (rows, columns)."""
    weights, size = GROUP_TYPES[kind]
    blocks = raw.reshape(len(raw), -1, size)
    if kind == "STQ1_0":
        scale, codes = blocks[..., 40:], _stq(blocks[..., :32], blocks[..., 32:40])
    else:
        scale = blocks[..., :2]
        digits = blocks[..., 2:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
        codes = digits.reshape(*blocks.shape[:2], weights).astype(np.float32)
        codes = 2 * codes - 3 if kind == "Q2_0C" else codes - 1
    scales = np.ascontiguousarray(scale).view("<f2").astype(np.float32)
    return np.asarray((codes * scales).reshape(len(raw), -1), np.float32)


def _stq(slots: NDArray[np.uint8], signs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Trits of Sherry's fours: one of a four is zero.

    A four has a slot of 4 bits (the first four of a byte in the low bits) and a sign.  Bits 3:2 of the slot say which lane is
    zero.  Of the other lanes the first is 1, the second -1 with bit 0, the third -1 with bit 1; the sign negates all.
    Lane p of four g is weight 64 * (g // 16) + 16 * p + g % 16 of the block.
    """
    slot = (slots[..., None] >> np.array([0, 4], np.uint8) & 15).reshape(*slots.shape[:-1], 64)
    sign = np.unpackbits(signs, axis=-1, bitorder="little").astype(bool)
    lane = np.arange(4)
    zero = (slot >> 2)[..., None]
    # The number of a lane among those that are not zero.
    number = lane - (lane > zero)
    minus = ((number == 1) & (slot & 1 == 1)[..., None]) | ((number == 2) & (slot & 2 == 2)[..., None])
    trits = np.where(lane == zero, 0, np.where(minus ^ sign[..., None], -1, 1)).astype(np.float32)
    return np.asarray(trits.reshape(*slots.shape[:-1], 4, 16, 4).swapaxes(-1, -2).reshape(*slots.shape[:-1], 256))
